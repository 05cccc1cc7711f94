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

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// A JSON value that borrows from the text it was read from.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction or exponent that fits into 64 bits.
    Int(i64),
    /// Any other number; always finite.
    Double(f64),
    /// A string.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object; its keys are unique.
    Object(Object<'a>),
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
    /// A key differs from the name only in letters' case: readers disagree
    /// about which member the name means.
    CaseVariant,
}

impl<'a> Object<'a> {
    /// Up to this size a scan is faster than keeping order.
    const SORTED_ABOVE: usize = 8;

    fn new(mut members: Vec<(Cow<'a, str>, Json<'a>)>) -> Result<Self, Fault> {
        let duplicate = if members.len() > Self::SORTED_ABOVE {
            members.sort_by(|(a, _), (b, _)| fold_cmp(a, b).then_with(|| a.cmp(b)));
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

    /// The member called `name`. Any key that is equal to it but for letters'
    /// case makes the answer [`Found::CaseVariant`], present or not.
    pub fn find<'j>(&'j self, name: &str) -> Found<'j, 'a> {
        let candidates = if self.0.len() > Self::SORTED_ABOVE {
            let start = self
                .0
                .partition_point(|(key, _)| fold_cmp(key, name).is_lt());
            self.0.get(start..).unwrap_or_default()
        } else {
            self.0.as_slice()
        };
        let sorted = self.0.len() > Self::SORTED_ABOVE;
        let mut found = Found::Nothing;
        for (key, value) in candidates {
            if key == name {
                found = Found::Member(value);
            } else if fold_cmp(key, name).is_eq() {
                return Found::CaseVariant;
            } else if sorted {
                break;
            }
        }
        found
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
/// as Go's `encoding/json`. Compares the lower case of the upper case, so that
/// `ſ` (U+017F) and `K` (U+212A) count as `s` and `k`, and `ı` as `i`.
pub fn fold_eq(a: &str, b: &str) -> bool {
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
    fn folded(text: &str) -> impl Iterator<Item = char> {
        text.chars()
            .flat_map(char::to_uppercase)
            .flat_map(char::to_lowercase)
    }
    folded(a).cmp(folded(b))
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

/// What kind of value was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// Reads one JSON text, from its start to its end.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    max_depth: usize,
}

/// Reads a whole text into a tree in which no object holds a key twice.
pub fn read(text: &str, max_depth: usize) -> Result<Json<'_>, JsonError> {
    let mut reader = Reader::new(text, max_depth);
    let value = reader.value()?;
    reader.end()?;
    Ok(value)
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, max_depth: usize) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
            max_depth,
        }
    }

    /// How far the text has been read, in bytes.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// The deepest nesting that this reader accepts.
    pub(crate) fn max_depth(&self) -> usize {
        self.max_depth
    }

    fn fail<T>(&self, fault: Fault) -> Result<T, JsonError> {
        Err(JsonError {
            fault,
            offset: self.at,
        })
    }

    fn syntax<T>(&self, what: &'static str) -> Result<T, JsonError> {
        self.fail(Fault::Syntax(what))
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The text from `start` up to here. Both ends are next to ASCII, so they
    /// are character boundaries.
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
    }

    /// The first byte of the next value, its kind.
    pub(crate) fn peek(&mut self) -> Result<Kind, JsonError> {
        self.space();
        match self.byte() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(_) => self.syntax("unexpected character"),
            None => self.syntax("unexpected end"),
        }
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        match self.byte() {
            None => Ok(()),
            Some(_) => self.syntax("more than one value"),
        }
    }

    /// Reads the next value into a tree.
    pub(crate) fn value(&mut self) -> Result<Json<'a>, JsonError> {
        match self.peek()? {
            Kind::Null => self.word("null").map(|()| Json::Null),
            Kind::Bool => self.boolean().map(Json::Bool),
            Kind::Number => self.number(),
            Kind::String => self.string().map(Json::String),
            Kind::Array => {
                let mut items = Vec::new();
                self.array(|reader| {
                    items.push(reader.value()?);
                    Ok(())
                })?;
                Ok(Json::Array(items))
            }
            Kind::Object => {
                let mut members = Vec::new();
                self.object(|reader, key| {
                    let value = reader.value()?;
                    members.push((key, value));
                    Ok(())
                })?;
                Object::new(members)
                    .map(Json::Object)
                    .or_else(|fault| self.fail(fault))
            }
        }
    }

    /// Checks that the next value is well-formed and returns its text. Keys
    /// are not compared with each other.
    pub(crate) fn raw(&mut self) -> Result<(Kind, &'a str), JsonError> {
        let kind = self.peek()?;
        let start = self.at;
        self.skip(kind)?;
        Ok((kind, self.since(start)))
    }

    fn skip(&mut self, kind: Kind) -> Result<(), JsonError> {
        match kind {
            Kind::Null => self.word("null"),
            Kind::Bool => self.boolean().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::String => self.skip_string(),
            Kind::Array => self.array(|reader| {
                let kind = reader.peek()?;
                reader.skip(kind)
            }),
            Kind::Object => self.members(Self::skip_string, |reader, ()| {
                let kind = reader.peek()?;
                reader.skip(kind)
            }),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), JsonError> {
        if self.rest().starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            self.syntax("unknown word")
        }
    }

    fn boolean(&mut self) -> Result<bool, JsonError> {
        if self.byte() == Some(b't') {
            self.word("true").map(|()| true)
        } else {
            self.word("false").map(|()| false)
        }
    }

    fn enter(&mut self) -> Result<(), JsonError> {
        if self.depth >= self.max_depth {
            return self.fail(Fault::TooDeep);
        }
        self.depth += 1;
        self.at += 1;
        self.space();
        Ok(())
    }

    /// After a member or item: whether another follows.
    fn more(&mut self, close: u8) -> Result<bool, JsonError> {
        self.space();
        match self.byte() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            Some(_) => self.syntax("missing comma"),
            None => self.syntax("unexpected end"),
        }
    }

    fn array(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.enter()?;
        if self.byte() == Some(b']') {
            self.at += 1;
            self.depth -= 1;
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.more(b']')? {
                return Ok(());
            }
        }
    }

    /// Calls `member` after each key; it must read the member's value.
    pub(crate) fn object(
        &mut self,
        member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.members(Self::string, member)
    }

    fn members<K>(
        &mut self,
        key: impl Fn(&mut Self) -> Result<K, JsonError>,
        mut member: impl FnMut(&mut Self, K) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.enter()?;
        if self.byte() == Some(b'}') {
            self.at += 1;
            self.depth -= 1;
            return Ok(());
        }
        loop {
            self.space();
            if self.byte() != Some(b'"') {
                return self.syntax("missing key");
            }
            let name = key(self)?;
            self.space();
            if self.byte() != Some(b':') {
                return self.syntax("missing colon");
            }
            self.at += 1;
            member(self, name)?;
            if !self.more(b'}')? {
                return Ok(());
            }
        }
    }

    /// Moves to the next byte of a string that is not itself: a quote, a
    /// backslash or a control character.
    fn plain(&mut self) -> Result<u8, JsonError> {
        let rest = self.rest();
        match rest
            .iter()
            .position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20)
        {
            Some(length) => {
                self.at += length;
                match self.byte() {
                    Some(byte @ (b'"' | b'\\')) => Ok(byte),
                    _ => self.syntax("control character in a string"),
                }
            }
            None => {
                self.at += rest.len();
                self.syntax("unexpected end")
            }
        }
    }

    fn skip_string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        while self.plain()? == b'\\' {
            self.escape()?;
        }
        self.at += 1;
        Ok(())
    }

    /// Reads a string; [`Reader::peek`] has seen one.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let start = self.at;
        if self.plain()? == b'"' {
            let text = self.since(start);
            self.at += 1;
            return Ok(Cow::Borrowed(text));
        }
        let mut decoded = self.since(start).to_owned();
        loop {
            decoded.push(self.escape()?);
            let run = self.at;
            let stop = self.plain()?;
            decoded.push_str(self.since(run));
            if stop == b'"' {
                self.at += 1;
                return Ok(Cow::Owned(decoded));
            }
        }
    }

    /// Reads `\` and what follows.
    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let decoded = match self.byte() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return self.syntax("unknown escape"),
        };
        self.at += 1;
        Ok(decoded)
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let unit = self.hex()?;
        let code = match unit {
            0xd800..=0xdbff => {
                if !self.rest().starts_with(br"\u") {
                    return self.syntax("lone surrogate");
                }
                self.at += 1;
                let low = self.hex()?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return self.syntax("lone surrogate");
                }
                0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
            }
            _ => unit,
        };
        match char::from_u32(code) {
            Some(decoded) => Ok(decoded),
            None => self.syntax("lone surrogate"),
        }
    }

    /// Reads `u` and four hexadecimal digits.
    fn hex(&mut self) -> Result<u32, JsonError> {
        let digits = self.rest().get(1..5).unwrap_or_default();
        let mut unit = 0;
        for &digit in digits {
            match char::from(digit).to_digit(16) {
                Some(value) => unit = unit * 16 + value,
                None => return self.syntax("unknown escape"),
            }
        }
        if digits.len() < 4 {
            return self.syntax("unknown escape");
        }
        self.at += 5;
        Ok(unit)
    }

    fn digits(&mut self) -> usize {
        let count = self
            .rest()
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        self.at += count;
        count
    }

    fn number(&mut self) -> Result<Json<'a>, JsonError> {
        let start = self.at;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        let leading = self.byte();
        let whole = self.digits();
        if whole == 0 || (leading == Some(b'0') && whole > 1) {
            return self.syntax("malformed number");
        }
        let mut integer = true;
        if self.byte() == Some(b'.') {
            integer = false;
            self.at += 1;
            if self.digits() == 0 {
                return self.syntax("malformed number");
            }
        }
        if let Some(b'e' | b'E') = self.byte() {
            integer = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.syntax("malformed number");
            }
        }
        let text = self.since(start);
        if integer && let Ok(int) = text.parse() {
            return Ok(Json::Int(int));
        }
        match text.parse::<f64>() {
            Ok(double) if double.is_finite() => Ok(Json::Double(double)),
            _ => self.syntax("number out of range"),
        }
    }
}

#[cfg(test)]
mod tests;
