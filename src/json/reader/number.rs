//! Numbers, with the check that all readers read a number as the same value.

use super::Reader;
use crate::json::{Json, JsonError};

/// The number of bytes of a number that cost one more unit of the allowance.
const COMPARED_AS_ONE: usize = 16;

impl<'a> Reader<'a> {
    /// Reads a number.
    pub(super) fn number(&mut self) -> Result<Json<'a>, JsonError> {
        let (text, is_integer) = self.number_text()?;
        // Comparing digits takes longer than building a value.
        self.take(text.len() / COMPARED_AS_ONE)?;
        if is_integer && let Ok(int) = text.parse() {
            return Ok(Json::integer(int));
        }
        // The number's text was checked, so no double overflows.
        let double = text.parse().unwrap_or(f64::MAX);
        Ok(if !is_integer && is_exact(text, double) {
            Json::double(double)
        } else {
            Json::Inexact(double)
        })
    }

    /// Reads a number's text. The bool is true if the number has neither fraction nor exponent.
    /// Rejects a number that overflows to infinity.
    pub(super) fn number_text(&mut self) -> Result<(&'a str, bool), JsonError> {
        /// The most digits of a text that cannot overflow.
        const MAX_DIGITS: usize = 300;

        let start = self.at;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        let leading = self.byte();
        let whole = self.digits();
        if whole == 0 || (leading == Some(b'0') && whole > 1) {
            return self.syntax("malformed number");
        }
        // Nearly all numbers are shorter than this.
        if whole <= MAX_DIGITS && !matches!(self.byte(), Some(b'.' | b'e' | b'E')) {
            return Ok((self.since(start), true));
        }
        let (mut is_integer, mut exponent) = (true, Ok(0));
        if self.byte() == Some(b'.') {
            is_integer = false;
            self.at += 1;
            if self.digits() == 0 {
                return self.syntax("malformed number");
            }
        }
        if let Some(b'e' | b'E') = self.byte() {
            is_integer = false;
            self.at += 1;
            let start = self.at;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.syntax("malformed number");
            }
            exponent = self.since(start).parse::<i32>();
        }
        let text = self.since(start);
        // The number is less than ten to the power of its integer digits plus its exponent. Parsing
        // would be slow.
        let is_small = i32::try_from(whole).is_ok_and(|whole| {
            exponent.is_ok_and(|exponent| exponent <= f64::MAX_10_EXP.saturating_sub(whole))
        });
        if is_small || text.parse::<f64>().is_ok_and(f64::is_finite) {
            Ok((text, is_integer))
        } else {
            self.syntax("number out of range")
        }
    }
}

/// Returns true if a double keeps every digit of a number's text, so readers with decimal numbers
/// read the same value.
fn is_exact(text: &str, double: f64) -> bool {
    /// The number of decimal digits that every double keeps (`DBL_DIG`).
    const KEPT_DIGITS: usize = 15;

    // A text of so few bytes has at most so many digits. Subnormal doubles keep fewer.
    if text.len() <= KEPT_DIGITS && double.is_normal() {
        return true;
    }
    let kept = format!("{double:e}");
    let (is_negative, power, digits) = decimal(text);
    let (is_kept_negative, kept_power, kept_digits) = decimal(&kept);
    (is_negative, power) == (is_kept_negative, kept_power) && digits.eq(kept_digits)
}

/// Splits a number's text into three parts. The first is true if the number is negative. The second
/// is the power of ten of the last nonzero digit. The third are the digits from the first to the
/// last nonzero one.
fn decimal(text: &str) -> (bool, i64, impl Iterator<Item = u8>) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let is_negative = mantissa.starts_with('-');
    let kept = mantissa.trim_end_matches(['0', '.']);
    let digits = kept.bytes().filter(u8::is_ascii_digit).skip_while(|&digit| digit == b'0');
    if digits.clone().next().is_none() {
        return (is_negative, 0, digits);
    }
    let places = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    let point = mantissa.find('.').unwrap_or(mantissa.len());
    let is_fraction = kept.len() > point;
    let power = places(point) - places(kept.len()) + i64::from(is_fraction);
    // An exponent with more digits than an `i64` holds is beyond every double.
    let exponent: i64 = exponent.parse().unwrap_or(i64::MAX);
    (is_negative, exponent.saturating_add(power), digits)
}
