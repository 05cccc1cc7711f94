//! The clear form of a host and of a path: the one form that all readers read alike.
//!
//! A proxy, mcp-authz and a server each read the host and the path of a request. One of them may
//! decode, shorten or fold more than the others. Then the policy of one server would evaluate a
//! request for another.

use std::borrow::Cow;
use std::fmt;

/// The reason why readers could read a host or a path differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ambiguity {
    /// The host or path came several times.
    Repeated,
    /// The bytes of the host or path are not UTF-8.
    NotUtf8,
    /// The host is neither a name nor an IP address with an optional port.
    NotAHost,
    /// The path does not begin with `/`.
    NoPath,
    /// The path holds a character that must be percent-encoded.
    Character,
    /// The path holds a `%` without two hexadecimal digits.
    BrokenEscape,
    /// The path percent-encodes a character that can stand for itself.
    NeedlessEscape,
    /// The path percent-encodes a slash, `\`, `%`, `;`, `?`, `#`, a control character, or bytes
    /// that are not UTF-8.
    HiddenDelimiter,
    /// The path holds `//`.
    EmptySegment,
    /// The path holds the segment `.` or `..`.
    DotSegment,
    /// The path holds a `;`.
    Semicolon,
    /// The path holds a `\`.
    Backslash,
}

/// Writes the problem and its fix, to follow "the host" or "the path".
impl fmt::Display for Ambiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repeated => "came several times: send it once",
            Self::NotUtf8 => "is not UTF-8: send ASCII characters only",
            Self::NotAHost => {
                "is not a name or an IP address with an optional port: send one such as \
                 mcp.example.com or mcp.example.com:8443"
            }
            Self::NoPath => "does not begin with a slash: send one such as /mcp",
            Self::Character => {
                "holds a character that a URI does not allow there: percent-encode it"
            }
            Self::BrokenEscape => {
                "holds a percent sign without two hexadecimal digits after it: leave it out"
            }
            Self::NeedlessEscape => {
                "percent-encodes a character that can stand for itself: send that character"
            }
            Self::HiddenDelimiter => {
                "percent-encodes a delimiter, a control character or bytes that are not UTF-8: \
                 leave them out"
            }
            Self::EmptySegment => "holds an empty segment: send one slash instead of two",
            Self::DotSegment => "holds a segment of dots: send the path without it",
            Self::Semicolon => "holds a semicolon: leave it out, with what follows in its segment",
            Self::Backslash => "holds a backslash: send a slash instead",
        })
    }
}

/// Returns a host in lower case, without port and without one dot at its end.
///
/// # Errors
/// If the text is not a name or an IP address with an optional port.
pub fn clear_host(text: &str) -> Result<Cow<'_, str>, Ambiguity> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(Ambiguity::NotAHost)?;
            check_port(port)?;
            let Ok(address) = address.parse::<core::net::Ipv6Addr>() else {
                return Err(Ambiguity::NotAHost);
            };
            return Ok(Cow::Owned(format!("[{address}]")));
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    check_port(port)?;
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // URLs read `127.1` and `0x7f.0.0.1` as an IPv4 address.
    let is_number = |label: &str| {
        let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
        label.bytes().all(|byte| byte.is_ascii_digit())
            || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let is_ipv4 = || name.parse::<core::net::Ipv4Addr>().is_ok();
    if !name.split('.').all(is_label)
        || (name.rsplit('.').next().is_some_and(is_number) && !is_ipv4())
    {
        return Err(Ambiguity::NotAHost);
    }
    Ok(match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    })
}

/// Checks that a text is empty, or `:` with a port.
fn check_port(text: &str) -> Result<(), Ambiguity> {
    let Some(port) = text.strip_prefix(':') else {
        return if text.is_empty() { Ok(()) } else { Err(Ambiguity::NotAHost) };
    };
    let is_port = (1..=5).contains(&port.len())
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok();
    if is_port { Ok(()) } else { Err(Ambiguity::NotAHost) }
}

/// Returns a path without its query, with the digits of its percent-escapes in upper case.
///
/// # Errors
/// If servers could read the path as different paths.
pub fn clear_path(text: &str) -> Result<Cow<'_, str>, Ambiguity> {
    let path = text.split('?').next().unwrap_or_default();
    let segments = path.strip_prefix('/').ok_or(Ambiguity::NoPath)?;
    let mut bytes = path.bytes();
    let (mut has_lower_case, mut has_high) = (false, false);
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let (Some(high), Some(low)) = (bytes.next(), bytes.next()) else {
                    return Err(Ambiguity::BrokenEscape);
                };
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (Some(first), Some(second)) = (digit(high), digit(low)) else {
                    return Err(Ambiguity::BrokenEscape);
                };
                let Ok(encoded) = u8::try_from(first * 16 + second) else {
                    return Err(Ambiguity::BrokenEscape);
                };
                check_escape(encoded)?;
                has_lower_case |= high.is_ascii_lowercase() || low.is_ascii_lowercase();
                has_high |= !encoded.is_ascii();
            }
            b'/' => {}
            b';' => return Err(Ambiguity::Semicolon),
            b'\\' => return Err(Ambiguity::Backslash),
            byte if stands_for_itself(byte) => {}
            _ => return Err(Ambiguity::Character),
        }
    }
    // A slash at the end makes no empty segment.
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    for segment in segments.split('/') {
        match segment {
            "" if !segments.is_empty() || path == "//" => return Err(Ambiguity::EmptySegment),
            "." | ".." => return Err(Ambiguity::DotSegment),
            _ => {}
        }
    }
    if has_high {
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8();
        if decoded.map_or(true, |path| path.contains(char::is_control)) {
            return Err(Ambiguity::HiddenDelimiter);
        }
    }
    Ok(if has_lower_case { Cow::Owned(upper_case_escapes(path)) } else { Cow::Borrowed(path) })
}

/// Returns true for a `pchar` ([RFC 3986, section 3.3]) except `;`, after which some servers read
/// parameters.
///
/// [RFC 3986, section 3.3]: https://www.rfc-editor.org/rfc/rfc3986#section-3.3
fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

/// Checks that no reader reads an encoded byte as another character.
fn check_escape(encoded: u8) -> Result<(), Ambiguity> {
    match encoded {
        b'/' | b'\\' | b'%' | b';' | b'?' | b'#' => Err(Ambiguity::HiddenDelimiter),
        byte if byte.is_ascii_control() => Err(Ambiguity::HiddenDelimiter),
        byte if stands_for_itself(byte) => Err(Ambiguity::NeedlessEscape),
        _ => Ok(()),
    }
}

/// Writes `%c3` as `%C3`, since all readers read both alike.
fn upper_case_escapes(path: &str) -> String {
    let mut parts = path.split('%');
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        written.extend(["%", &digits.to_ascii_uppercase(), rest]);
    }
    written
}
