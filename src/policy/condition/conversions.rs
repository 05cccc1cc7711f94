//! Conversions of Go, where the `cel` crate reads or writes other strings.

/// Returns true for a string that Go reads as an RFC 3339 timestamp: with `T` and `Z` in upper
/// case, and without a leap second.
pub(super) fn is_timestamp(text: &str) -> bool {
    let Some((date_and_time, rest)) = text.split_at_checked("2006-01-02T15:04:05".len()) else {
        return false;
    };
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    let has_empty_fraction = rest.len() == zone.len() + 1;
    let is_zone = zone == "Z" || zone.strip_prefix(['+', '-']).is_some_and(|at| fits(at, "00:00"));
    fits(date_and_time, "0000-00-00T00:00:00")
        && !date_and_time.ends_with(":60")
        && !has_empty_fraction
        && is_zone
}

/// Returns true if a string has digits where the shape has `0`, and matches the shape elsewhere.
fn fits(text: &str, shape: &str) -> bool {
    let fits = |(byte, shape): (u8, u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte == shape,
    };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

/// Parses a duration as Go does. Returns the duration in hours and nanoseconds, which the `cel`
/// crate reads exactly. Returns `None` if Go cannot read the duration.
pub(super) fn exact_duration(text: &str) -> Option<String> {
    const HOUR: u64 = 3_600_000_000_000;

    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { "-" } else { "" };
    let mut rest = unsigned;
    let mut nanoseconds = 0_u64;
    while rest != "0" || unsigned != "0" {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => HOUR / 60,
            "h" => HOUR,
            _ => return None,
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
        let sum = whole.checked_mul(unit)?.checked_add(part_of(unit, fraction))?;
        nanoseconds = nanoseconds.checked_add(sum)?;
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    let most = if sign.is_empty() { i64::MAX.unsigned_abs() } else { i64::MIN.unsigned_abs() };
    let (hours, rest) = (nanoseconds / HOUR, nanoseconds % HOUR);
    (nanoseconds <= most).then(|| format!("{sign}{hours}h{rest}ns"))
}

/// Splits a string after its leading digits.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Returns the nanoseconds of a decimal fraction of a unit, as Go calculates them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "as Go does it; the fraction is less than the unit"
)]
fn part_of(unit: u64, fraction: &str) -> u64 {
    let (mut value, mut scale) = (0_u64, 1.0_f64);
    for digit in fraction.bytes().map(|digit| u64::from(digit - b'0')) {
        // Go drops the digits that exceed its integer range.
        let longer = value.checked_mul(10).and_then(|value| value.checked_add(digit));
        let Some(longer) = longer.filter(|value| *value <= i64::MAX.unsigned_abs()) else { break };
        value = longer;
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

/// Returns true for a string that Go reads as a double, except for forms that the `cel` crate does
/// not know. A finite number that overflows is not a double.
pub(super) fn is_double(text: &str) -> bool {
    match text.parse::<f64>() {
        Ok(value) if value.is_nan() => text.eq_ignore_ascii_case("nan"),
        Ok(value) => value.is_finite() || text.contains(['n', 'N']),
        Err(_) => false,
    }
}

/// Returns a double as Go writes it: with the fewest digits, in the shorter of two forms (`%g`).
pub(super) fn text_of_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_those_of_go() {
        for (text, expected) in [
            ("2026-01-02T03:04:05Z", true),
            ("2026-01-02T03:04:05.123456789Z", true),
            ("2026-01-02T03:04:05.1-07:00", true),
            ("2026-01-02T03:04:05+02:00", true),
            ("2026-01-02t03:04:05Z", false),
            ("2026-01-02T03:04:05z", false),
            ("2026-01-02 03:04:05Z", false),
            ("2026-01-02T03:04:60Z", false),
            ("2026-01-02T03:04:05.Z", false),
            ("2026-01-02T03:04:05", false),
            ("2026-01-02T03:04:05\u{2212}02:00", false),
            ("2026-01-02T03:04:05+02", false),
            ("2026-01-02T03:04:05Z ", false),
            ("202\u{e9}-01-02T03:04:05Z", false),
            ("", false),
        ] {
            assert_eq!(is_timestamp(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, expected) in [
            ("1h", Some("1h0ns")),
            ("1h30m", Some("1h1800000000000ns")),
            ("-1.5h", Some("-1h1800000000000ns")),
            ("+5s", Some("0h5000000000ns")),
            ("1.001s", Some("0h1001000000ns")),
            (".5ms", Some("0h500000ns")),
            ("1.ns", Some("0h1ns")),
            ("1µs", Some("0h1000ns")),
            ("0", Some("0h0ns")),
            ("-0", Some("-0h0ns")),
            ("9223372036854775807ns", Some("2562047h2836854775807ns")),
            ("-9223372036854775808ns", Some("-2562047h2836854775808ns")),
            ("0.99999999999999999999s", Some("0h1000000000ns")),
            ("9223372036854775808ns", None),
            ("2562048h", None),
            ("99999999999999999999h", None),
            ("1h0", None),
            ("00", None),
            ("30m 9999h", None),
            ("1hxyz", None),
            ("1h-30m", None),
            ("1e3s", None),
            ("1.2.3s", None),
            (".s", None),
            ("s", None),
            ("1", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(exact_duration(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn doubles_are_those_of_go() {
        for text in ["1", "-1.5e3", "inf", "-Infinity", "NaN", "1e-400"] {
            assert!(is_double(text), "{text}");
        }
        for text in ["1e999", "-1e400", "-nan", "+nan", "", " 1", "x"] {
            assert!(!is_double(text), "{text}");
        }
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (100_000.0, "100000"),
            (123_456.75, "123456.75"),
            (1_000_000.0, "1e+06"),
            (-1_234_567.0, "-1.234567e+06"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (1e21, "1e+21"),
            (1e-300, "1e-300"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(text_of_double(value), expected);
        }
    }
}
