//! The reader itself: one pass over the text, with a look-ahead of one byte.

mod number;

use std::borrow::Cow;

use super::{Fault, Json, JsonError, Object, has_duplicate};

/// The type of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// A reader of one JSON text, from its start to its end.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    max_depth: usize,
    /// The number of values and keys that may still be put into trees or compared.
    allowance: usize,
}

/// The number of bytes of a non-ASCII key that cost as much of the allowance as a value: folding is
/// slow.
const FOLDED_AS_ONE: usize = 8;

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, max_depth: usize) -> Self {
        Self { text, at: 0, depth: 0, max_depth, allowance: usize::MAX }
    }

    /// Creates a reader that builds and compares at most `allowance` values and keys.
    pub(super) fn with_allowance(text: &'a str, max_depth: usize, allowance: usize) -> Self {
        Self { allowance, ..Self::new(text, max_depth) }
    }

    /// Creates a reader of the part of a text between two character boundaries.
    pub(crate) fn within(text: &'a str, start: usize, end: usize, max_depth: usize) -> Self {
        let text = text.get(..end).unwrap_or_default();
        Self { at: start, ..Self::new(text, max_depth) }
    }

    /// Returns the number of bytes that have been read.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// Returns the deepest nesting that this reader accepts, in levels.
    pub(crate) fn max_depth(&self) -> usize {
        self.max_depth
    }

    /// Returns the number of values and keys that may still be put into trees or compared.
    pub(super) fn allowance(&self) -> usize {
        self.allowance
    }

    /// Subtracts a number of values and keys from the allowance.
    pub(super) fn take(&mut self, count: usize) -> Result<(), JsonError> {
        match self.allowance.checked_sub(count) {
            Some(left) => {
                self.allowance = left;
                Ok(())
            }
            None => {
                self.allowance = 0;
                self.fail(Fault::TooMany)
            }
        }
    }

    /// Subtracts the cost of a key that is put into a tree from the allowance.
    pub(super) fn take_key(&mut self, key: &str) -> Result<(), JsonError> {
        let folding = if key.is_ascii() { 0 } else { key.len() / FOLDED_AS_ONE };
        self.take(1 + folding)
    }

    fn fail<T>(&self, fault: Fault) -> Result<T, JsonError> {
        Err(JsonError { fault, offset: self.at })
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

    /// Returns the text from `start` to the current offset. Both ends are next to ASCII, so they
    /// are character boundaries.
    pub(crate) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
    }

    /// Skips white space and returns the type of the next value, by its first byte.
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

    /// Checks that only white space follows.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        match self.byte() {
            None => Ok(()),
            Some(_) => self.syntax("more than one value"),
        }
    }

    /// Reads the next value into a tree.
    pub(crate) fn value(&mut self) -> Result<Json<'a>, JsonError> {
        self.take(1)?;
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
                    reader.take_key(&key)?;
                    let value = reader.value()?;
                    members.push((key.into(), value));
                    Ok(())
                })?;
                Object::new(members).map(Json::Object).or_else(|fault| self.fail(fault))
            }
        }
    }

    /// Checks that the next value is well-formed, and that no object in it holds a duplicate key.
    /// `keys` is a buffer for the keys of the objects that are still open.
    pub(super) fn check(&mut self, keys: &mut Vec<Cow<'a, str>>) -> Result<(), JsonError> {
        match self.peek()? {
            Kind::Array => self.array(|reader| reader.check(keys)),
            Kind::Object => {
                let first = keys.len();
                self.object(|reader, key| {
                    reader.take(1)?;
                    keys.push(key);
                    reader.check(keys)
                })?;
                let own = keys.get(first..).unwrap_or_default();
                let is_duplicate = has_duplicate(own.iter().map(Cow::as_ref));
                keys.truncate(first);
                if is_duplicate { self.fail(Fault::DuplicateKey) } else { Ok(()) }
            }
            kind => self.skip(kind),
        }
    }

    /// Checks that the next value is well-formed and returns its text. Duplicate keys are accepted.
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
            Kind::Number => self.number_text().map(drop),
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

    /// Returns true if another member or item follows the one just read.
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

    pub(crate) fn array(
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

    /// Reads an object and calls `member` after each key; `member` must read the value. A key that
    /// holds NUL is rejected, because some decoders cut the key there.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.members(Self::string, |reader, key| {
            if key.contains('\0') {
                return reader.syntax("a key holds NUL");
            }
            member(reader, key)
        })
    }

    /// Reads an object like [`Reader::object`], but accepts keys that hold NUL.
    pub(crate) fn any_object(
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

    /// Moves to the next byte of a string that does not stand for itself: a quote, a backslash or a
    /// control character.
    fn plain(&mut self) -> Result<u8, JsonError> {
        let rest = self.rest();
        self.at += not_plain(rest).unwrap_or(rest.len());
        match self.byte() {
            Some(byte @ (b'"' | b'\\')) => Ok(byte),
            Some(_) => self.syntax("control character in a string"),
            None => self.syntax("unexpected end"),
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

    /// Reads a string, after [`Reader::peek`] has found one.
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

    /// Reads `\` and the rest of the escape.
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
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }
}

/// Returns the offset of the first quote, backslash or control character. Most strings are longer
/// than eight bytes, so eight bytes are checked at once.
pub(super) fn not_plain(text: &[u8]) -> Option<usize> {
    let (words, tail) = text.as_chunks::<{ size_of::<u64>() }>();
    for (number, word) in words.iter().enumerate() {
        let found = not_plain_in(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(number * size_of::<u64>() + found.trailing_zeros() as usize / 8);
        }
    }
    let in_tail = tail.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ');
    in_tail.map(|at| text.len() - tail.len() + at)
}

/// Sets the highest bit of each byte that is not plain. Only the first such byte is reliable: the
/// bits of later bytes may be wrong.
fn not_plain_in(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = ONES << 7;
    // A subtraction borrows only from bytes that are less, and from bytes after the first of these.
    let less = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word;
    let equal = |byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
    (less(word, b' ') | equal(b'"') | equal(b'\\')) & HIGHEST
}
