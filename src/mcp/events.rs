//! A stream of server-sent events ([HTML, section 9.2]) in which the data of some events is
//! rewritten.
//!
//! The stream comes in chunks that can end anywhere; the output is the same wherever they end.
//! Everything that is not rewritten is forwarded unchanged: comments, ids, `retry`, line ends.
//!
//! Clients split streams in their own ways: at a CR alone or not, at U+2028 as Python does, or each
//! line of data for itself. So the data of an event is forwarded as one line in which no client
//! finds another. Lines of unknown fields are removed. A stream that could be split in two ways is
//! rejected.
//!
//! [HTML, section 9.2]: https://html.spec.whatwg.org/multipage/server-sent-events.html

/// The part of a stream that is not yet a complete event.
#[derive(Debug, Default)]
pub struct SseRewriter {
    /// The bytes from the start of the incomplete event.
    buffer: Vec<u8>,
    /// The offset of the last line in the buffer, in bytes.
    line: usize,
    /// The offset up to which the last line was searched for its end, in bytes.
    searched: usize,
    /// True if some bytes of the stream were already processed.
    is_begun: bool,
}

/// The decision about the data of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// The data stays as it is.
    Keep,
    /// Other data replaces the data.
    Replace(String),
    /// The event is forwarded without data, so that clients see only its id.
    Withhold,
}

impl SseRewriter {
    /// Returns the number of bytes that wait for the rest of their event.
    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Adds a chunk of the stream, perhaps the last one, and appends the output to `goes_on`.
    /// Passes the data of each event to `rewrite`.
    ///
    /// # Errors
    /// The error of `rewrite`, or `ambiguous` if clients could split the stream differently. The
    /// event with the error and all later events are not forwarded.
    pub fn push<E: Copy>(
        &mut self,
        part: &[u8],
        is_last: bool,
        goes_on: &mut Vec<u8>,
        ambiguous: E,
        mut rewrite: impl FnMut(&str) -> Result<Data, E>,
    ) -> Result<(), E> {
        self.buffer.extend_from_slice(part);
        let mut begin = 0;
        while let Some((end, next)) = self.end_of_line(is_last) {
            let is_blank = end == self.line;
            (self.line, self.searched) = (next, next);
            if is_blank {
                self.event(begin, next, goes_on, ambiguous, &mut rewrite)?;
                begin = next;
            }
        }
        if is_last {
            // Some clients accept an event that no blank line ends.
            let end = self.buffer.len();
            self.event(begin, end, goes_on, ambiguous, &mut rewrite)?;
            begin = end;
        }
        self.buffer.drain(..begin);
        self.line = self.line.saturating_sub(begin);
        self.searched = self.searched.saturating_sub(begin);
        Ok(())
    }

    /// Returns the end of the line and the start of the next, if both are known. A CR at the end of
    /// a chunk waits, since an LF may belong to it.
    fn end_of_line(&mut self, is_last: bool) -> Option<(usize, usize)> {
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + at;
        match (self.buffer.get(end), self.buffer.get(end + 1)) {
            (Some(b'\r'), Some(b'\n')) => Some((end, end + 2)),
            (Some(b'\r'), None) if !is_last => {
                self.searched = end;
                None
            }
            _ => Some((end, end + 1)),
        }
    }

    fn event<E: Copy>(
        &mut self,
        begin: usize,
        end: usize,
        goes_on: &mut Vec<u8>,
        ambiguous: E,
        rewrite: &mut impl FnMut(&str) -> Result<Data, E>,
    ) -> Result<(), E> {
        let event = self.buffer.get(begin..end).unwrap_or_default();
        let event = std::str::from_utf8(event).map_err(|_not_text| ambiguous)?;
        // A byte order mark may come first in a stream.
        let lines = if self.is_begun { event } else { event.trim_start_matches('\u{feff}') };
        self.is_begun |= !event.is_empty();
        let mut data = Vec::new();
        for line in split(lines) {
            match Field::of(line.text) {
                _ if line.end == "\r" => return Err(ambiguous),
                Field::Data(value) => data.push(value),
                Field::Known | Field::Unknown => {}
            }
        }
        let mut data = match data.is_empty() {
            true => None,
            false => {
                let data = data.join("\n");
                match rewrite(&data)? {
                    Data::Keep => Some(data),
                    Data::Replace(data) => Some(data),
                    Data::Withhold => None,
                }
            }
        };
        for line in split(lines) {
            match Field::of(line.text) {
                Field::Data(_) => {
                    if let Some(data) = data.take() {
                        write_data(&data, line, goes_on);
                    }
                }
                // Some client would find data in the rest of this line.
                Field::Known if line.text.contains(splits_lines) => {}
                Field::Known => {
                    goes_on.extend_from_slice(line.text.as_bytes());
                    goes_on.extend_from_slice(line.end.as_bytes());
                }
                Field::Unknown => {}
            }
        }
        Ok(())
    }
}

/// Returns true for a character at which some client would split a line.
fn splits_lines(character: char) -> bool {
    matches!(
        character,
        '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// Writes data as one line. Between JSON tokens a line end becomes a space; within JSON strings,
/// escapes replace the characters that split lines.
fn write_data(data: &str, line: Line<'_>, to: &mut Vec<u8>) {
    if Field::of(line.text) == Field::Data(data) && !data.contains(splits_lines) {
        to.extend_from_slice(line.text.as_bytes());
    } else {
        to.extend_from_slice(b"data: ");
        for character in data.chars() {
            match character {
                '\n' => to.push(b' '),
                _ if splits_lines(character) => {
                    to.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
                }
                _ => to.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
    to.extend_from_slice(if line.end.is_empty() { b"\n" } else { line.end.as_bytes() });
}

/// A line, and the characters that end it.
#[derive(Debug, Clone, Copy)]
struct Line<'e> {
    text: &'e str,
    end: &'e str,
}

fn split(mut event: &str) -> impl Iterator<Item = Line<'_>> {
    std::iter::from_fn(move || {
        if event.is_empty() {
            return None;
        }
        let length = event.find(['\n', '\r']).unwrap_or(event.len());
        let (text, rest) = event.split_at_checked(length)?;
        let end = if rest.starts_with("\r\n") { 2 } else { usize::from(!rest.is_empty()) };
        let (end, rest) = rest.split_at_checked(end)?;
        event = rest;
        Some(Line { text, end })
    })
}

/// The kind of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field<'e> {
    /// Data, without the space after the colon.
    Data(&'e str),
    /// A blank line, a comment, or another field that clients know.
    Known,
    /// An unknown field, which is removed because some clients could read it as data.
    Unknown,
}

impl<'e> Field<'e> {
    fn of(line: &'e str) -> Self {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        match name {
            "data" => Self::Data(value.strip_prefix(' ').unwrap_or(value)),
            "" | "id" | "event" | "retry" => Self::Known,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes each `a` of data a `b`, withholds data with a `w`, and refuses data with an `x`.
    fn upper(text: &str) -> Result<Data, ()> {
        match text {
            _ if text.contains('x') => Err(()),
            _ if text.contains('w') => Ok(Data::Withhold),
            _ if text.contains('a') => Ok(Data::Replace(text.replace('a', "b"))),
            _ => Ok(Data::Keep),
        }
    }

    fn rewritten(parts: &[&[u8]]) -> (String, bool) {
        let (mut events, mut goes_on) = (SseRewriter::default(), Vec::new());
        let mut is_broken = false;
        for (number, part) in parts.iter().enumerate() {
            if events.push(part, number + 1 == parts.len(), &mut goes_on, (), upper).is_err() {
                is_broken = true;
                break;
            }
        }
        (String::from_utf8(goes_on).unwrap(), is_broken)
    }

    #[test]
    fn data_is_rewritten_and_all_else_stays_wherever_parts_end() {
        for (stream, expected) in [
            ("data: a\n\n", "data: b\n\n"),
            ("data:a\r\n\r\ndata:c\r\n\r\n", "data: b\r\n\r\ndata:c\r\n\r\n"),
            (
                ": a comment\nid: a\nevent: message\nretry: 7\ndata: a\ndata: c\n\n",
                ": a comment\nid: a\nevent: message\nretry: 7\ndata: b c\n\n",
            ),
            ("data: c\n: a\ndata: a\nid: 1\n\n", "data: c b\n: a\nid: 1\n\n"),
            ("\u{feff}data: a\n\n", "data: b\n\n"),
            ("data\n\ndata:\n\ndata:  c\n\n", "data\n\ndata:\n\ndata:  c\n\n"),
            // Some clients would read each line as a separate message.
            ("data: c\ndata: d\n\n", "data: c d\n\n"),
            // Lines that some client could read as data, because of Unicode or white space.
            ("database: a\ndata : c\nDATA: c\nï»¿data: c\n data: c\n\n", "\n"),
            ("data: c\u{2028}d\u{85}\n\n", "data: c\\u2028d\\u0085\n\n"),
            ("\n\n\ndata: a\n\n\n", "\n\n\ndata: b\n\n\n"),
            ("id: 7\ndata: w\ndata: a\n\ndata: c\n\n", "id: 7\n\ndata: c\n\n"),
            // Some client would split these lines, and read the rest as data.
            (": \u{2028}\nid: \u{c}\nevent: \u{1e}\nretry: \u{85}\ndata: c\n\n", "data: c\n\n"),
            ("data: a", "data: b\n"),
            ("data: a\r\n", "data: b\r\n"),
            ("data: a\n\r\n", "data: b\n\r\n"),
            ("", ""),
        ] {
            let whole = stream.as_bytes();
            assert_eq!(rewritten(&[whole]), (expected.to_owned(), false), "{stream:?}");
            for at in 0..=whole.len() {
                let parts = whole.split_at(at);
                assert_eq!(rewritten(&[parts.0, parts.1]).0, expected, "{stream:?} at {at}");
            }
            let bytes: Vec<&[u8]> = whole.chunks(1).chain([b"".as_slice()]).collect();
            assert_eq!(rewritten(&bytes).0, expected, "{stream:?} byte by byte");
        }
    }

    #[test]
    fn what_is_whole_goes_on_at_once_and_nothing_goes_on_after_an_error() {
        let (mut events, mut goes_on) = (SseRewriter::default(), Vec::new());
        events.push(b"data: c\n\ndata: c", false, &mut goes_on, (), upper).unwrap();
        assert_eq!((goes_on.as_slice(), events.held_bytes()), (b"data: c\n\n".as_slice(), 7));
        for broken in ["data: x", "data: c\rdata: d"] {
            let stream = format!("data: c\n\n{broken}\n\ndata: c\n\n");
            assert_eq!(
                rewritten(&[stream.as_bytes()]),
                ("data: c\n\n".to_owned(), true),
                "{broken:?}"
            );
        }
        assert!(rewritten(&[b"data: \xff\n\n"]).1);
    }
}
