//! The id of a request, which an error repeats.
//!
//! A client matches an error with its request by the id. An error with `"id": null` is worse than
//! none: some clients wait forever, others end their session. A refusal therefore repeats the id
//! only if every reader finds the same id in the body. This works even if a part of the body is
//! rejected. Otherwise the refusal is plain text.

use std::borrow::Cow;

use crate::json::{JsonError, Kind, Reader, find_folded};

/// The members that decide whether a message is a request, and which request it is.
const NAMES: [&str; 4] = ["id", "method", "result", "error"];
/// The deepest nesting that is parsed, in levels. Deeper members are only searched for another id.
const MAX_DEPTH: usize = 64;

/// The id of a request as JSON text, exactly as the client wrote it: a string or a number of
/// at most 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    const MAX_BYTES: usize = 256;

    /// Returns the id of an accepted message; `None` if it is too long to be repeated.
    pub(crate) fn of(id: &str) -> Option<Self> {
        (id.len() <= Self::MAX_BYTES).then(|| Self(id.to_owned()))
    }

    /// Returns the id as JSON text.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// Reads the id of the request in a rejected body, or in the first part of one. Returns `None`
    /// unless all readers find one object with a `method` and one valid `id` in the body. A batch,
    /// a response, and a second `id` in any spelling give `None`.
    pub fn read(body: &[u8]) -> Option<Self> {
        let text = match std::str::from_utf8(body) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) if has_overlong_utf8(body) => return None,
            Err(_) => String::from_utf8_lossy(body),
        };
        let mut members = Members::default();
        let mut reader = Reader::new(&text, MAX_DEPTH);
        if reader.peek().ok()? != Kind::Object {
            return None;
        }
        let walked = reader.any_object(|reader, key| members.add(reader, &key));
        match walked {
            // With several values, readers use the first, the last or each.
            Ok(()) => reader.end().ok()?,
            Err(error) => {
                let rest = text.get(string_start(&text, error.offset)..)?;
                let is_cut_off = error.offset == text.len();
                if (is_cut_off && is_name(rest)) || (!is_cut_off && may_hold_name(rest)) {
                    return None;
                }
            }
        }
        let id = members.into_id(&text)?;
        // Readers replace or drop bytes that are not UTF-8.
        let is_replaced = matches!(text, Cow::Owned(_)) && id.contains(char::REPLACEMENT_CHARACTER);
        if is_replaced { None } else { Self::of(&id) }
    }
}

/// The members of a message that were read.
#[derive(Debug, Default)]
struct Members {
    /// The start and end of the value of `id`, in bytes, if it is a string or a number.
    id: Option<(usize, usize)>,
    /// The end of the value of `method`, in bytes, if it is a string.
    method: Option<usize>,
    /// True if a name came twice or in another spelling, or if a value has another type.
    is_doubtful: bool,
}

impl Members {
    fn add(&mut self, reader: &mut Reader<'_>, key: &str) -> Result<(), JsonError> {
        let name = meant(key);
        let kind = reader.peek();
        let start = reader.offset();
        // A key counts even if its value cannot be read.
        match (name, &kind) {
            (None, _) => {}
            (Some("id"), Ok(Kind::String | Kind::Number)) if key == "id" && self.id.is_none() => {}
            (Some("method"), Ok(Kind::String)) if key == "method" && self.method.is_none() => {}
            (Some(_), _) => self.is_doubtful = true,
        }
        kind?;
        match name {
            Some("method") if !self.is_doubtful => {
                // Some readers cut a string at NUL, or treat an empty one as missing.
                let method = reader.string()?;
                self.is_doubtful = !method.starts_with(|c: char| c.is_ascii_graphic());
                self.method = Some(reader.offset());
            }
            Some("id") => {
                reader.raw()?;
                self.id = Some((start, reader.offset()));
            }
            _ => {
                reader.raw()?;
            }
        }
        Ok(())
    }

    /// Returns the id if nothing about it is in doubt.
    fn into_id(self, text: &str) -> Option<String> {
        let (Some((start, end)), Some(method_end), false) =
            (self.id, self.method, self.is_doubtful)
        else {
            return None;
        };
        // A body may be cut off in the middle of a number.
        let is_complete = |end: usize| {
            let rest = text.get(end..).map(str::trim_ascii_start);
            rest.is_some_and(|rest| rest.starts_with([',', '}']))
        };
        (is_complete(end) && is_complete(method_end))
            .then(|| text.get(start..end))?
            .map(str::to_owned)
    }
}

/// Returns the known name that some reader reads a key as. Readers ignore letter case, cut at NUL,
/// or drop bytes that are not UTF-8.
fn meant(key: &str) -> Option<&'static str> {
    let key = key.split('\0').next().unwrap_or_default();
    let key = match key.contains(char::REPLACEMENT_CHARACTER) {
        true => key.replace(char::REPLACEMENT_CHARACTER, "").into(),
        false => Cow::Borrowed(key),
    };
    find_folded(NAMES.into_iter(), &key)
}

/// Returns the start of the string in or after which reading stopped, in bytes. A key without a
/// colon was read, but never added to the members.
fn string_start(text: &str, stopped_at: usize) -> usize {
    let before = text.get(..stopped_at).unwrap_or_default().trim_ascii_end();
    let before = before.strip_suffix('"').unwrap_or(before);
    before.rfind('"').unwrap_or_default()
}

/// Returns true if some reader may read a string, perhaps cut off, as a known name.
fn is_name(string: &str) -> bool {
    /// The most bytes of any spelling of a name, without marks that readers drop.
    const LONGEST: usize = 64;

    let mut chars = string.trim_ascii_end().trim_matches('"').chars();
    let mut key = String::new();
    while let Some(c) = chars.next() {
        let c = if c == '\\' { unescaped(&mut chars) } else { Some(c) };
        // Text after NUL belongs to no name, and no name contains a mark.
        match c {
            Some('\0') => break,
            Some('\u{307}' | char::REPLACEMENT_CHARACTER) | None => {}
            Some(_) if key.len() > LONGEST => return false,
            Some(c) => key.push(c),
        }
    }
    meant(&key).is_some()
}

/// Returns true if some reader may find a known name as a key in a text that is not JSON.
fn may_hold_name(text: &str) -> bool {
    // An ASCII byte that is no letter, digit or backslash is in no name and no escape.
    let is_between = |byte: &u8| byte.is_ascii() && !byte.is_ascii_alphanumeric() && *byte != b'\\';
    let mut word = String::new();
    text.as_bytes().split(is_between).any(|run| {
        let is_plain = run.iter().all(u8::is_ascii_alphanumeric);
        let mut plain = run.split(u8::is_ascii_digit);
        match (is_plain, std::str::from_utf8(run)) {
            (false, Ok(run)) => holds_name(run, &mut word),
            _ => plain
                .any(|word| NAMES.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()))),
        }
    })
}

/// Returns true if some reader may find a known name in a text without spaces. `word` is a buffer
/// for one word of the text.
fn holds_name(text: &str, word: &mut String) -> bool {
    /// The most bytes of any spelling of a name.
    const LONGEST: usize = 32;

    word.clear();
    let mut ends_name = |c: Option<char>| match c {
        Some(char::REPLACEMENT_CHARACTER) => false,
        // U+0307 belongs to a spelling of `i`.
        Some(c) if c.is_alphabetic() || c == '\u{307}' => {
            if word.len() < LONGEST {
                word.push(c);
            }
            false
        }
        _ => {
            let found = meant(word).is_some();
            word.clear();
            found
        }
    };
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = if c == '\\' { unescaped(&mut chars) } else { Some(c) };
        if ends_name(c) {
            return true;
        }
    }
    ends_name(None)
}

/// Returns the character that lenient readers read after a backslash; `None` if it is not a letter.
fn unescaped(chars: &mut std::str::Chars<'_>) -> Option<char> {
    const DIGITS: usize = 4;

    match chars.next()? {
        'b' | 'f' | 'n' | 'r' | 't' => None,
        'u' => {
            let digits = chars.as_str().get(..DIGITS);
            match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
                Some(code) => {
                    chars.nth(DIGITS - 1);
                    char::from_u32(code)
                }
                None => Some('u'),
            }
        }
        other => Some(other),
    }
}

/// Returns true if a body holds overlong UTF-8, which some readers decode to the shorter character.
fn has_overlong_utf8(body: &[u8]) -> bool {
    let is_overlong = |pair: &[u8]| {
        let [lead, next] = pair else { return false };
        match lead {
            0xc0 | 0xc1 => true,
            0xe0 => matches!(next, 0x80..=0x9f),
            0xf0 => matches!(next, 0x80..=0x8f),
            0xf8..=0xfd => matches!(next, 0x80..=0xbf),
            _ => false,
        }
    };
    body.windows(2).any(is_overlong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(body: impl AsRef<[u8]>) -> Option<String> {
        RequestId::read(body.as_ref()).map(|id| id.as_json().to_owned())
    }

    #[test]
    fn id_is_repeated_as_it_was_written() {
        for written in [
            "7",
            "-7",
            "1.0",
            "1e0",
            "-0",
            "18446744073709551616",
            r#""""#,
            r#""a b""#,
            r#""\u0069d""#,
            r#""\ud83d\ude00""#,
        ] {
            let body = format!(r#" {{"method":"x","id" : {written} ,"params":{{}}}} "#);
            assert_eq!(id(&body).as_deref(), Some(written), "{body}");
        }
        let long = |length| format!(r#"{{"id":"{}","method":"x"}}"#, "x".repeat(length));
        assert!(id(long(254)).is_some() && id(long(255)).is_none());
    }

    #[test]
    fn later_fault_keeps_the_id() {
        let start = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a""#;
        for rest in [
            "",
            ",",
            "}",
            r#","name":"b"}}"#,
            r#","NAME":"b"}}"#,
            r#","arguments":{"id":1,"id":2,"ID":3,"\u0069d":4,"id\u0000":5}}}"#,
            r#","arguments":{"id":1,"video":"\ud800"}}}"#,
            r#","arguments":{"x":1e999}}}"#,
            r#","arguments":{"x":01}}}"#,
            r#","arguments":{"x":nul}}}"#,
            r#","x\u0000":1}}"#,
            r#"},"x\u0000":1}"#,
            r#"},"x":1,"x":2}"#,
            r#"},}"#,
            r#","video": 'wide'}}"#,
            r#","arguments":"#,
            r#","arguments":{"text":"cut of"#,
            r#","arguments":{"text":"cut of\"#,
            r#","arguments":{"text":"an id, a method, a result: an error"#,
        ] {
            assert_eq!(id(format!("{start}{rest}")).as_deref(), Some("7"), "{rest}");
        }
        let deep = format!("{start},\"x\":{}", "[".repeat(100_000));
        assert_eq!(id(deep).as_deref(), Some("7"));
        let not_utf8 = [start.as_bytes(), b",\"x\":\"\xff\"}}"].concat();
        assert_eq!(id(not_utf8).as_deref(), Some("7"));
    }

    #[test]
    fn doubtful_id_is_none() {
        for body in [
            // These bodies are no requests.
            "",
            " ",
            "7",
            r#"[{"id":7,"method":"x"}]"#,
            r#"{"id":7}"#,
            r#"{"method":"x"}"#,
            r#"{"id":7,"result":{}}"#,
            r#"{"id":7,"method":"x","result":{}}"#,
            r#"{"id":7,"method":"x","ERROR":{}}"#,
            r#"{"id":7,"params":{"method":"x"}}"#,
            // These bodies have no valid id.
            r#"{"id":null,"method":"x"}"#,
            r#"{"id":true,"method":"x"}"#,
            r#"{"id":[7],"method":"x"}"#,
            r#"{"id":{},"method":"x"}"#,
            r#"{"id":01,"method":"x"}"#,
            r#"{"id":1e999,"method":"x"}"#,
            r#"{"id":"\ud800","method":"x"}"#,
            r#"{"id":7,"method":null}"#,
            r#"{"id":7,"method":""}"#,
            r#"{"id":7,"method":"\u0000x"}"#,
            // These bodies have several ids or methods.
            r#"{"id":7,"id":7,"method":"x"}"#,
            r#"{"id":7,"ID":8,"method":"x"}"#,
            r#"{"id":7,"\u0069d":8,"method":"x"}"#,
            "{\"id\":7,\"\u{131}d\":8,\"method\":\"x\"}",
            "{\"id\":7,\"\u{130}d\":8,\"method\":\"x\"}",
            r#"{"id":7,"id\u0000":8,"method":"x"}"#,
            r#"{"id":7,"method":"x","id\u0000":"#,
            r#"{"Id":7,"method":"x"}"#,
            r#"{"id":7,"method":"x","method":"y"}"#,
            r#"{"id":7,"method":"x","Method":"y"}"#,
            r#"{"id":7,"method":"x"} {"id":8,"method":"y"}"#,
            r#"{"id":7,"method":"x"}x"#,
            "\u{feff}{\"id\":7,\"method\":\"x\"}",
            // After the place where reading stops, another id may follow.
            r#"{"id":7,"method":"x","a":nul,"id":8}"#,
            r#"{"id":7,"method":"x","a":nul,id:8}"#,
            r#"{"id":7,"method":"x","a":nul,'id':8}"#,
            r#"{"id":7,"method":"x","a":nul,"i\u0064":8}"#,
            r#"{"id":7,"method":"x","a":nul,"\id":8}"#,
            r#"{"id":7,"method":"x","a":nul,"ID\u0000x":8}"#,
            r#"{"id":7,"method":"x",id:8}"#,
            r#"{"id":7,"method":"x","i\d":8}"#,
            r#"{"id":7,"method":"x" "id":8}"#,
            r#"{"id":7,"method":"x","id"8}"#,
            r#"{"id":7,"method":"x","id" x:8}"#,
            r#"{"id":7,"method":"x","i\u0064" :8,,}"#,
            r#"{"id":7,"method":"x","a":nul,"result":8}"#,
            // These bodies are cut off.
            r#"{"method":"x","id":7"#,
            r#"{"method":"x","id":7 "#,
            r#"{"method":"x","id":"7"#,
            r#"{"id":7,"method":"x"#,
            r#"{"id":7,"method":"x","error"#,
            r#"{"id":7,"method":"x","i\u0064"#,
            r#"{"id":7,"method":"x","result" "#,
            r#"{"id":7,"method":"x","params":{"id"#,
            r#"{"id":7 8,"method":"x"}"#,
        ] {
            assert_eq!(id(body), None, "{body}");
        }
        for body in [
            b"{\"id\":7,\"method\":\"x\",\"i\xffd\":8}".as_slice(),
            b"{\"id\":\"\xff\",\"method\":\"x\"}",
            b"{\"id\":7,\"method\":\"x\",\"\xc1\xa9d\":8}",
            b"{\"id\":7,\"method\":\"x\",\"\xe0\x81\xa9d\":8}",
        ] {
            assert_eq!(id(body), None, "{}", String::from_utf8_lossy(body));
        }
    }
}
