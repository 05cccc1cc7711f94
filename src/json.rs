//! A strict reader of JSON text ([RFC 8259]).
//!
//! What is read here is later read again by a server that may be lenient, so
//! this reader accepts only what all readers understand alike: valid UTF-8, no
//! byte order mark, no key twice in an object that is built, no lone
//! surrogates, no number that overflows to infinity, a bounded depth.
//!
//! Values borrow from the text wherever no escape has to be decoded.
//!
//! [RFC 8259]: https://www.rfc-editor.org/rfc/rfc8259

mod reader;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

pub(crate) use reader::{Kind, Reader};

/// A JSON value that borrows from the text it was read from.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction or exponent, within ±(2^53 − 1).
    Int(i64),
    /// Any other number that every reader takes for the same one; always finite.
    Double(f64),
    /// A number that readers round differently ([RFC 8259, section 6]), as a double: one
    /// beyond ±(2^53 − 1), or with more digits than a double keeps.
    ///
    /// [RFC 8259, section 6]: https://www.rfc-editor.org/rfc/rfc8259#section-6
    Inexact(f64),
    /// A string.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object; its keys are unique.
    Object(Object<'a>),
}

impl Json<'_> {
    /// The largest integer below which doubles hold every integer: 2^53 − 1.
    pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

    /// Returns the value of an integer.
    #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 it is marked as inexact")]
    pub fn integer(value: i64) -> Self {
        if value.unsigned_abs() <= Self::MAX_SAFE_INTEGER.unsigned_abs() {
            Self::Int(value)
        } else {
            Self::Inexact(value as f64)
        }
    }

    /// Returns the value of a finite double, whose digits are no longer known.
    #[expect(clippy::cast_precision_loss, reason = "2^53 − 1 is a double")]
    pub fn double(value: f64) -> Self {
        if value.abs() <= Self::MAX_SAFE_INTEGER as f64 {
            Self::Double(value)
        } else {
            Self::Inexact(value)
        }
    }
}

/// The members of an object. Invariant: no two keys are equal, and above
/// [`Object::SORTED_ABOVE`] members they are sorted by [`fold_cmp`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

/// What [`Object::find`] found under a name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found<'j, 'a> {
    /// No key is equal to the name, nor to it in other letters' case.
    Nothing,
    /// The one key that is equal to the name.
    Member(&'j Json<'a>),
    /// This key differs from the name only in letters' case: readers disagree
    /// about which member the name means.
    CaseVariant(&'j str),
}

impl<'a> Object<'a> {
    /// Up to this size a scan is faster than keeping order.
    const SORTED_ABOVE: usize = 8;

    pub(crate) fn new(mut members: Vec<(Cow<'a, str>, Json<'a>)>) -> Result<Self, Fault> {
        let duplicate = if members.len() > Self::SORTED_ABOVE {
            if members.iter().all(|(key, _)| key.is_ascii()) {
                members.sort_by(|(a, _), (b, _)| fold_cmp(a, b).then_with(|| a.cmp(b)));
            } else {
                // Folding is slow: once a key, not once a comparison.
                members.sort_by_cached_key(|(key, _)| {
                    (fold_letters(key).collect::<String>(), key.clone().into_owned())
                });
            }
            members.windows(2).any(|pair| match pair {
                [(a, _), (b, _)] => a == b,
                _ => false,
            })
        } else {
            has_duplicate(members.iter().map(|(key, _)| key.as_ref()))
        };
        if duplicate {
            return Err(Fault::DuplicateKey);
        }
        Ok(Self(members))
    }

    /// An object of members whose names differ.
    pub fn from_map(members: impl IntoIterator<Item = (String, Json<'a>)>) -> Self {
        let members = members.into_iter().map(|(key, value)| (Cow::Owned(key), value)).collect();
        Self::new(members).unwrap_or_default()
    }

    /// The member called just `name`, for objects that no client has written.
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The member called `name`. Any key that is equal to it but for letters'
    /// case makes the result [`Found::CaseVariant`], present or not.
    pub fn find<'j>(&'j self, name: &str) -> Found<'j, 'a> {
        let candidates = if self.0.len() > Self::SORTED_ABOVE {
            let start = self.0.partition_point(|(key, _)| fold_cmp(key, name).is_lt());
            self.0.get(start..).unwrap_or_default()
        } else {
            self.0.as_slice()
        };
        let sorted = self.0.len() > Self::SORTED_ABOVE;
        let mut found = Found::Nothing;
        for (key, value) in candidates {
            if key == name {
                found = Found::Member(value);
            } else if fold_eq(key, name) {
                return Found::CaseVariant(key);
            } else if sorted {
                break;
            }
        }
        found
    }

    /// Finds two keys that are equal but for letters' case.
    pub fn case_variants(&self) -> Option<(&str, &str)> {
        let keys = || self.0.iter().map(|(key, _)| key.as_ref());
        if self.0.len() > Self::SORTED_ABOVE {
            return keys().zip(keys().skip(1)).find(|(a, b)| fold_eq(a, b));
        }
        let variant = |(at, a)| Some((a, keys().skip(at + 1).find(|b| fold_eq(a, b))?));
        keys().enumerate().find_map(variant)
    }

    /// The members, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether one of the keys occurs twice.
pub(crate) fn has_duplicate<'k>(keys: impl Iterator<Item = &'k str> + Clone) -> bool {
    const PAIRWISE_UP_TO: usize = 16;
    if keys.clone().nth(PAIRWISE_UP_TO).is_none() {
        let mut rest = keys;
        while let Some(key) = rest.next() {
            if rest.clone().any(|other| other == key) {
                return true;
            }
        }
        return false;
    }
    let mut sorted: Vec<&str> = keys.collect();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| match pair {
        [a, b] => a == b,
        _ => false,
    })
}

/// Whether two keys are the same to a reader that ignores letters' case, such
/// as Go's `encoding/json`: `ſ` (U+017F) and `K` (U+212A) count as `s` and `k`,
/// `ı` and `İ` as `i`, `ẞ` and `ß` as `ss`.
pub fn fold_eq(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(b);
    }
    fold_cmp(a, b).is_eq()
}

/// The order that [`fold_eq`] belongs to.
fn fold_cmp(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() {
        return a
            .bytes()
            .map(|byte| byte.to_ascii_lowercase())
            .cmp(b.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    fold_letters(a).cmp(fold_letters(b))
}

/// Replaces letters by one of those that differ from them only in case. Each of the three
/// steps unites letters that the others leave apart. The dot is what `İ` has in lower case,
/// but not to Java, which goes character by character.
pub(crate) fn fold_letters(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .filter(|&c| c != '\u{307}')
}

/// Why a text is not JSON, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    /// What is wrong.
    pub fault: Fault,
    /// Byte offset in the text.
    pub offset: usize,
}

/// What is wrong with a text that is not strict JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not the grammar of RFC 8259; says what stands there or is missing.
    Syntax(&'static str),
    /// Arrays and objects are nested deeper than the limit.
    TooDeep,
    /// An object holds the same key twice.
    DuplicateKey,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault {
            Fault::Syntax(what) => what,
            Fault::TooDeep => "nested too deep",
            Fault::DuplicateKey => "an object holds a key twice",
        };
        write!(f, "{what} at byte {}", self.offset)
    }
}

impl std::error::Error for JsonError {}

/// Reads a whole text into a tree in which no object holds a key twice.
pub fn read(text: &str, max_depth: usize) -> Result<Json<'_>, JsonError> {
    let mut reader = Reader::new(text, max_depth);
    let value = reader.value()?;
    reader.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests;
