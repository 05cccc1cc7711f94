//! The end of a JSON value in a body that comes in chunks.

/// A scanner that finds the end of an object or array. The scanner does not check the value: a
/// reader does that when the value is complete.
#[derive(Debug, Default)]
pub(super) struct ValueEnd {
    /// The number of objects and arrays that are open.
    depth: usize,
    is_in_string: bool,
    /// True after a backslash in a string.
    is_escaped: bool,
}

impl ValueEnd {
    /// Reads the next chunk of the body. Returns true if the value ends in this chunk.
    pub(super) fn is_in(&mut self, part: &[u8]) -> bool {
        for byte in part {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_string => self.is_escaped = true,
                b'"' => self.is_in_string = !self.is_in_string,
                _ if self.is_in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_is_found_in_any_parts() {
        for value in [r#"{}"#, r#" [{"a":"}]\"\\"},[]] "#, r#"{"a":{"b":["\\\"}"]}}"#] {
            let length = value.trim_end().len();
            for at in 0..=value.len() {
                let (first, rest) = value.as_bytes().split_at(at);
                let mut end = ValueEnd::default();
                assert_eq!(end.is_in(first), at >= length, "{value} at {at}");
                if at < length {
                    assert!(end.is_in(rest), "{value} at {at}");
                }
            }
        }
        let mut end = ValueEnd::default();
        assert!(!end.is_in(b"7 \"}\" "));
        assert!(end.is_in(b"]"), "a reader refuses it");
    }
}
