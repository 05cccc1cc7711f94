//! A strict reader of JSON text ([RFC 8259]).
//!
//! A server reads the text again later, and may be lenient. So this reader accepts only text that
//! all readers read alike. The text must be valid UTF-8 without a byte order mark, with a bounded
//! depth. An object that is built must not hold a duplicate key. Lone surrogates and numbers that
//! overflow to infinity are rejected.
//!
//! Values borrow from the text wherever no escape has to be decoded.
//!
//! [RFC 8259]: https://www.rfc-editor.org/rfc/rfc8259

mod lazy;
mod reader;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

pub use lazy::{Lazy, LazyObject};
pub(crate) use reader::{Kind, Reader};

/// A JSON value, which borrows from the text that it was read from.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction or exponent, within ±(2^53 − 1).
    Int(i64),
    /// Any other number that every reader reads as the same value; always finite.
    Double(f64),
    /// A number that readers round differently ([RFC 8259, section 6]), as a double: one beyond
    /// ±(2^53 − 1), or with more digits than a double keeps.
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
    /// The largest integer up to which doubles represent every integer: 2^53 − 1.
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

    /// Returns the value of a finite double whose original digits are no longer known.
    #[expect(clippy::cast_precision_loss, reason = "2^53 − 1 is a double")]
    pub fn double(value: f64) -> Self {
        if value.abs() <= Self::MAX_SAFE_INTEGER as f64 {
            Self::Double(value)
        } else {
            Self::Inexact(value)
        }
    }
}

/// The members of an object. Invariants: no two keys are equal, and each key that is not ASCII is
/// folded. Above [`Object::SORTED_ABOVE`] members, the members are sorted by [`compare_folded`].
#[derive(Debug, Clone, PartialEq)]
pub struct Object<'a, V = Json<'a>>(Vec<(Key<'a>, V)>);

impl<V> Default for Object<'_, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// The key of a member. Folding is slow, so [`Object`] folds each key that is not ASCII once, and
/// not at each look-up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key<'a> {
    /// A key that is ASCII, or that is not part of an object yet.
    Plain(Cow<'a, str>),
    /// A key that is not ASCII, with the result of [`fold_letters`].
    Folded(Box<(Cow<'a, str>, String)>),
}

impl<'a> From<Cow<'a, str>> for Key<'a> {
    fn from(key: Cow<'a, str>) -> Self {
        Self::Plain(key)
    }
}

impl Key<'_> {
    fn fold(&mut self) {
        if let Self::Plain(key) = self
            && !key.is_ascii()
        {
            let folded = fold_letters(key).collect();
            *self = Self::Folded(Box::new((std::mem::take(key), folded)));
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Plain(key) => key,
            Self::Folded(both) => &both.0,
        }
    }

    /// Returns the key with its letters folded; ASCII letters keep their case.
    fn folded(&self) -> &str {
        match self {
            Self::Plain(key) => key,
            Self::Folded(both) => &both.1,
        }
    }
}

/// The result of [`Object::find`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found<'j, V> {
    /// No key equals the name, even if letter case is ignored.
    Nothing,
    /// The only key that equals the name.
    Member(&'j V),
    /// A key that equals the name except for letter case: readers disagree about which member the
    /// name refers to.
    CaseVariant(&'j str),
}

impl<'a, V> Object<'a, V> {
    /// The most members that stay unsorted, because a scan of so few is faster.
    const SORTED_ABOVE: usize = 8;

    pub(crate) fn new(members: Vec<(Key<'a>, V)>) -> Result<Self, Fault> {
        let object = Self::of_different(members);
        let keys = object.0.iter().map(|(key, _)| key.as_str());
        let duplicate = if object.0.len() > Self::SORTED_ABOVE {
            keys.clone().zip(keys.skip(1)).any(|(a, b)| a == b)
        } else {
            has_duplicate(keys)
        };
        if duplicate { Err(Fault::DuplicateKey) } else { Ok(object) }
    }

    /// Creates an object of members with different names.
    fn of_different(mut members: Vec<(Key<'a>, V)>) -> Self {
        members.iter_mut().for_each(|(key, _)| key.fold());
        if members.len() > Self::SORTED_ABOVE {
            members.sort_unstable_by(|(a, _), (b, _)| {
                compare_folded(a.folded(), b.folded()).then_with(|| a.as_str().cmp(b.as_str()))
            });
        }
        Self(members)
    }

    /// Creates an object of a map's members, whose names differ.
    pub fn from_map(members: impl IntoIterator<Item = (String, V)>) -> Self {
        let members = members.into_iter();
        Self::of_different(members.map(|(key, value)| (Key::Plain(key.into()), value)).collect())
    }

    /// Returns the member with exactly this name, in an object that no client has written.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.0.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
    }

    /// Finds the member with this name. A key that equals the name except for letter case makes the
    /// result [`Found::CaseVariant`], even if the exact name is present, too.
    pub fn find<'j>(&'j self, name: &str) -> Found<'j, V> {
        let folded: Cow<'_, str> =
            if name.is_ascii() { name.into() } else { fold_letters(name).collect() };
        let sorted = self.0.len() > Self::SORTED_ABOVE;
        let candidates = if sorted {
            let is_less = |key: &Key<'_>| compare_folded(key.folded(), &folded).is_lt();
            let start = self.0.partition_point(|(key, _)| is_less(key));
            self.0.get(start..).unwrap_or_default()
        } else {
            self.0.as_slice()
        };
        let mut found = Found::Nothing;
        for (key, value) in candidates {
            if key.as_str() == name {
                found = Found::Member(value);
            } else if key.folded().eq_ignore_ascii_case(&folded) {
                return Found::CaseVariant(key.as_str());
            } else if sorted {
                break;
            }
        }
        found
    }

    /// Finds two keys that are equal except for letter case.
    pub fn case_variants(&self) -> Option<(&str, &str)> {
        let keys = || self.0.iter().map(|(key, _)| key);
        let is_variant = |a: &Key<'_>, b: &Key<'_>| a.folded().eq_ignore_ascii_case(b.folded());
        let (a, b) = if self.0.len() > Self::SORTED_ABOVE {
            keys().zip(keys().skip(1)).find(|(a, b)| is_variant(a, b))?
        } else {
            let variant = |(at, a)| Some((a, keys().skip(at + 1).find(|b| is_variant(a, b))?));
            keys().enumerate().find_map(variant)?
        };
        Some((a.as_str(), b.as_str()))
    }

    /// Returns the members, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Returns the number of members.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns true if a key occurs twice.
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
    // Long keys with the same beginning would make a sort slow.
    let mut seen = HashSet::new();
    !keys.into_iter().all(|key| seen.insert(key))
}

/// Returns true if a reader that ignores letter case, such as Go's `encoding/json`, reads two keys
/// as equal. `ſ` (U+017F) and `K` (U+212A) count as `s` and `k`, `ı` and `İ` as `i`, `ẞ` and `ß` as
/// `ss`.
pub fn fold_eq(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(b);
    }
    // This check rejects nearly all texts of other scripts quickly.
    let may_be_ascii = |text: &str| text.chars().all(|c| c.is_ascii() || folds_to_ascii(c));
    let may_be_equal = match (a.is_ascii(), b.is_ascii()) {
        (true, _) => may_be_ascii(b),
        (_, true) => may_be_ascii(a),
        (false, false) => true,
    };
    may_be_equal && fold_letters(a).eq(fold_letters(b))
}

/// Finds the name that [`fold_eq`] treats as equal to a key. All names are ASCII. The key is folded
/// once, and only as far as it can be a name, because callers choose its length.
pub(crate) fn find_folded<'n>(
    mut names: impl Iterator<Item = &'n str>,
    key: &str,
) -> Option<&'n str> {
    /// The most bytes of a name.
    const LONGEST: usize = 64;

    if key.is_ascii() {
        return names.find(|name| name.eq_ignore_ascii_case(key));
    }
    let mut folded = String::new();
    for c in fold_letters(key) {
        if !c.is_ascii() || folded.len() == LONGEST {
            return None;
        }
        folded.push(c);
    }
    names.find(|name| name.eq_ignore_ascii_case(&folded))
}

/// Returns true if [`fold_letters`] turns a character beyond ASCII into only ASCII, or into
/// nothing.
fn folds_to_ascii(c: char) -> bool {
    matches!(c, 'ß' | 'ı' | 'İ' | 'ſ' | 'ẞ' | '\u{212a}' | '\u{307}' | '\u{fb00}'..='\u{fb06}')
}

/// Compares two texts, each of which is ASCII or folded. Texts that [`fold_eq`] treats as equal
/// compare as equal.
fn compare_folded(a: &str, b: &str) -> Ordering {
    // Callers may write long keys with the same beginning, so eight bytes are compared at once.
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (a_words, b_words) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let same = a_words
        .iter()
        .zip(b_words)
        .take_while(|(a, b)| a == b || a.iter().zip(*b).all(|(a, b)| a.eq_ignore_ascii_case(b)));
    let same = same.count() * 8;
    let [a, b] = [a, b].map(|of| of.get(same..).unwrap_or_default().iter());
    a.map(u8::to_ascii_lowercase).cmp(b.map(u8::to_ascii_lowercase))
}

/// Replaces each letter by one representative of the letters that differ from it only in case. Each
/// of the three steps unites letters that the other steps leave apart. The dot is a part of `İ` in
/// lower case, except in Java, which converts each character alone.
pub(crate) fn fold_letters(text: &str) -> impl Iterator<Item = char> {
    const DOT: char = '\u{307}';

    text.chars()
        .filter(|&c| c != DOT)
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .filter(|&c| c != DOT)
}

/// The reason why a text is not JSON, with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    /// The problem of the text.
    pub fault: Fault,
    /// The offset in the text, in bytes.
    pub offset: usize,
}

/// The problem of a text that is not strict JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A violation of the grammar of RFC 8259, with the unexpected or missing part.
    Syntax(&'static str),
    /// Arrays and objects nested deeper than the limit.
    TooDeep,
    /// An object with a duplicate key.
    DuplicateKey,
    /// An object with more keys, or a value with more inner values, than the reader accepts.
    TooMany,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault {
            Fault::Syntax(what) => what,
            Fault::TooDeep => "nested too deep",
            Fault::DuplicateKey => "an object holds a key twice",
            Fault::TooMany => "an object holds too many keys",
        };
        write!(f, "{what} at byte {}", self.offset)
    }
}

impl std::error::Error for JsonError {}

/// Reads a complete text into a tree in which no object holds a duplicate key.
pub fn read(text: &str, max_depth: usize) -> Result<Json<'_>, JsonError> {
    let mut reader = Reader::new(text, max_depth);
    let value = reader.value()?;
    reader.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests;
