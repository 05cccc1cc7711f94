//! Which URIs all servers take for the same resource.

/// Whether some server could take a URI for another one than it is as it is written:
/// because it follows `.` and `..` or decodes what need not be encoded ([RFC 3986, section
/// 6.2.2]), because it decodes slashes or takes backslashes for them, or decodes twice.
///
/// [RFC 3986, section 6.2.2]: https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2
pub(super) fn is_ambiguous(uri: &str) -> bool {
    let has_dots = uri.split(['/', '?', '#', ':', ';']).any(|part| part == "." || part == "..");
    has_dots || uri.contains('\\') || uri.split('%').skip(1).any(|rest| !is_needed(rest))
}

/// Whether what follows a `%` must be encoded: a delimiter other than slashes, or what is
/// not ASCII.
fn is_needed(rest: &str) -> bool {
    let Some(byte) = encoded(rest) else { return false };
    let is_escape = byte == b'%' && rest.get(2..).and_then(encoded).is_some();
    let is_plain = byte.is_ascii_alphanumeric() || b"-._~/\\".contains(&byte);
    !is_escape && !is_plain && !byte.is_ascii_control()
}

/// The byte that two digits stand for.
fn encoded(digits: &str) -> Option<u8> {
    let digits = digits.get(..2).filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_could_shorten_or_decode_is_ambiguous() {
        for uri in [
            "file:///a/../b",
            "file:///..",
            "file:///./a",
            "file:..",
            "file:///a/..;x/b",
            "file:///a/..?q",
            "file:///a/..#f",
            "file:///%2e%2e/b",
            "file:///%2E/b",
            "file:///.%2e/b",
            "file:///%73ecret",
            "file:///%5fx",
            "file:///a%2fb",
            "file:///a%2Fb",
            "file:///a\\b",
            "file:///a%5Cb",
            "file:///a%252e%252e",
            "file:///a%",
            "file:///a%2",
            "file:///a%zz",
            "file:///a%00",
            "file:///a%0A",
            "file:///{a}/../b",
        ] {
            assert!(is_ambiguous(uri), "{uri}");
        }
        for uri in [
            "file:///a/b.txt",
            "file:///a/...",
            "file:///a/..b/c..",
            "file:///a%20b%3Ac%C3%A4",
            "file:///100%25.txt",
            "file:///a%252",
            "https://user@host:80/a;b?c=d&e=/..x#f",
            "fetch://https://example.com/",
            "note://Ä/ö",
            "urn:isbn:0451450523",
            "file:///{+path}{?query}",
            "",
        ] {
            assert!(!is_ambiguous(uri), "{uri}");
        }
    }
}
