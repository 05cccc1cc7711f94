//! A stream of server-sent events ([HTML, section 9.2]), some of whose data is rewritten.
//!
//! The stream comes in parts that can end anywhere; what goes on is the same wherever
//! they do. All that is not rewritten goes on as it came: comments, ids, `retry`, ends
//! of lines.
//!
//! [HTML, section 9.2]: https://html.spec.whatwg.org/multipage/server-sent-events.html

/// The events that have not come whole.
#[derive(Debug, Default)]
pub struct Events {
    /// From the start of an event on.
    buffer: Vec<u8>,
    /// Where its last line begins.
    line: usize,
    /// Up to where that line has no end.
    searched: usize,
    /// Whether an event has gone on.
    is_begun: bool,
}

/// The data of an event that is rewritten.
pub type Rewritten<E> = Result<Option<String>, E>;

impl Events {
    /// How many bytes wait for the rest of their event.
    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Takes a part of the stream, perhaps the last one, and appends what goes on. The
    /// data of each event is handed to `rewrite`; `None`: it stays as it is.
    ///
    /// # Errors
    /// What `rewrite` says. The event, and all that would come after, does not go on.
    pub fn push<E>(
        &mut self,
        part: &[u8],
        is_last: bool,
        goes_on: &mut Vec<u8>,
        mut rewrite: impl FnMut(&[u8]) -> Rewritten<E>,
    ) -> Result<(), E> {
        self.buffer.extend_from_slice(part);
        let mut begin = 0;
        while let Some((end, next)) = self.end_of_line(is_last) {
            let is_blank = end == self.line;
            (self.line, self.searched) = (next, next);
            if is_blank {
                self.event(begin, next, goes_on, &mut rewrite)?;
                begin = next;
            }
        }
        if is_last {
            // Some clients take what is not ended by a blank line for an event, too.
            let end = self.buffer.len();
            self.event(begin, end, goes_on, &mut rewrite)?;
            begin = end;
        }
        self.buffer.drain(..begin);
        self.line = self.line.saturating_sub(begin);
        self.searched = self.searched.saturating_sub(begin);
        Ok(())
    }

    /// Where the line ends and the next begins, if that has come: a CR may be followed by
    /// the LF that belongs to it.
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

    fn event<E>(
        &mut self,
        begin: usize,
        end: usize,
        goes_on: &mut Vec<u8>,
        rewrite: &mut impl FnMut(&[u8]) -> Rewritten<E>,
    ) -> Result<(), E> {
        let event = self.buffer.get(begin..end).unwrap_or_default();
        // A byte order mark may come first in a stream.
        let has_mark = !self.is_begun && event.starts_with(b"\xef\xbb\xbf");
        let (mark, lines) =
            event.split_at_checked(if has_mark { 3 } else { 0 }).unwrap_or_default();
        self.is_begun |= !event.is_empty();
        let data: Vec<&[u8]> = split(lines).filter_map(|line| data_in(line.text)).collect();
        let new = if data.is_empty() { None } else { rewrite(&data.join(&b'\n'))? };
        let Some(new) = new else {
            goes_on.extend_from_slice(event);
            return Ok(());
        };
        goes_on.extend_from_slice(mark);
        let mut new = Some(new);
        for line in split(lines) {
            if data_in(line.text).is_none() {
                goes_on.extend_from_slice(line.text);
                goes_on.extend_from_slice(line.end);
            } else if let Some(new) = new.take() {
                write_data(&new, line.end, goes_on);
            }
        }
        Ok(())
    }
}

/// Writes data as lines of an event.
fn write_data(data: &str, end: &[u8], to: &mut Vec<u8>) {
    let end = if end.is_empty() { b"\n" } else { end };
    for line in data.split('\n') {
        to.extend_from_slice(b"data: ");
        to.extend_from_slice(line.as_bytes());
        to.extend_from_slice(end);
    }
}

/// A line, and what ends it.
#[derive(Debug, Clone, Copy)]
struct Line<'e> {
    text: &'e [u8],
    end: &'e [u8],
}

fn split(mut event: &[u8]) -> impl Iterator<Item = Line<'_>> {
    std::iter::from_fn(move || {
        if event.is_empty() {
            return None;
        }
        let length = event.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (text, rest) = event.split_at_checked(length.unwrap_or(event.len()))?;
        let end = match rest {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        let (end, rest) = rest.split_at_checked(end)?;
        event = rest;
        Some(Line { text, end })
    })
}

/// The value of a line of data. A space after the colon does not belong to it.
fn data_in(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [] => Some(b""),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes each `a` of data a `b`, and refuses data with an `x`.
    fn upper(data: &[u8]) -> Rewritten<()> {
        let text = String::from_utf8(data.to_vec()).unwrap();
        if text.contains('x') {
            return Err(());
        }
        Ok(text.contains('a').then(|| text.replace('a', "b")))
    }

    fn rewritten(parts: &[&[u8]]) -> (String, bool) {
        let (mut events, mut goes_on) = (Events::default(), Vec::new());
        let mut is_broken = false;
        for (number, part) in parts.iter().enumerate() {
            if events.push(part, number + 1 == parts.len(), &mut goes_on, upper).is_err() {
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
            ("data:a\r\n\r\ndata: c\r\n\r\n", "data: b\r\n\r\ndata: c\r\n\r\n"),
            ("data: a\r\rdata: a\r\r", "data: b\r\rdata: b\r\r"),
            (
                ": a comment\nid: a\nevent: message\nretry: 7\ndata: a\ndata: c\n\n",
                ": a comment\nid: a\nevent: message\nretry: 7\ndata: b\ndata: c\n\n",
            ),
            ("data: c\n: a\ndata: a\nid: 1\n\n", "data: c\ndata: b\n: a\nid: 1\n\n"),
            ("\u{feff}data: a\n\n", "\u{feff}data: b\n\n"),
            ("data\ndata:\ndata:  c\n\n", "data\ndata:\ndata:  c\n\n"),
            ("database: a\n\n", "database: a\n\n"),
            ("\n\n\ndata: a\n\n\n", "\n\n\ndata: b\n\n\n"),
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
        let (mut events, mut goes_on) = (Events::default(), Vec::new());
        events.push(b"data: c\n\ndata: c", false, &mut goes_on, upper).unwrap();
        assert_eq!((goes_on.as_slice(), events.held_bytes()), (b"data: c\n\n".as_slice(), 7));
        let stream = b"data: c\n\ndata: x\n\ndata: c\n\n";
        assert_eq!(rewritten(&[stream]), ("data: c\n\n".to_owned(), true));
    }
}
