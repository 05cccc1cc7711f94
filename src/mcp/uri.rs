//! The form of resource URIs that is accepted: readers of URLs would not write such a URI in any
//! other way.

use core::net::{Ipv4Addr, Ipv6Addr};

use percent_encoding::percent_decode_str;

/// The schemes whose syntax readers know, with the default port.
const SPECIAL: [(&str, &str); 6] =
    [("http", "80"), ("https", "443"), ("ws", "80"), ("wss", "443"), ("ftp", "21"), ("file", "")];

/// Replaces each expression of a URI template with a star ([RFC 6570, section 2.2]).
///
/// [RFC 6570, section 2.2]: https://www.rfc-editor.org/rfc/rfc6570#section-2.2
pub(super) fn with_stars(template: &str) -> String {
    let mut pieces = template.split('{');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        text.push('*');
        text.push_str(piece.split_once('}').map_or("", |(_, literal)| literal));
    }
    text
}

/// Returns true if some server could read a URI as another one. `has_stars` says that the URI
/// stands for a template. Servers resolve `.` and `..`, decode letters and slashes ([RFC 3986,
/// section 6.2.2]), and encode characters that need it.
///
/// [RFC 3986, section 6.2.2]: https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2
pub fn is_ambiguous(uri: &str, has_stars: bool) -> bool {
    // Gateways remove the backend from the URI of an app.
    let app = uri.strip_prefix("ui://").and_then(|rest| rest.split_once('/'));
    let without_backend = app.map(|(_, rest)| format!("ui://{rest}"));
    let is_clear = |uri: &str| is_plain(uri) && (has_stars || is_normal(uri));
    !is_clear(uri) || without_backend.is_some_and(|uri| !is_clear(&uri))
}

/// Returns true if readers drop, decode and encode nothing in a URI.
fn is_plain(uri: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
    let is_dots = |part: &str| part == "." || part == "..";
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    // Readers replace bytes that are not UTF-8.
    let is_text = || percent_decode_str(uri).decode_utf8().is_ok();
    uri.bytes().all(is_allowed)
        && !path.split(['/', ':', ';']).any(is_dots)
        && uri.split('%').skip(1).all(is_needed)
        && is_text()
}

/// Returns true if the byte after a `%` must be encoded. Such a byte is not ASCII, or is a
/// delimiter other than slashes and the braces of templates.
fn is_needed(rest: &str) -> bool {
    let Some(byte) = encoded(rest) else { return false };
    let is_escape = byte == b'%' && rest.get(2..).is_some_and(begins_encoded);
    let is_plain = byte.is_ascii_alphanumeric() || b"-._~/\\{}".contains(&byte);
    !is_escape && !is_plain && !byte.is_ascii_control()
}

/// Returns the byte that two hexadecimal digits stand for.
fn encoded(rest: &str) -> Option<u8> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
    let digits = rest.get(..2).filter(|digits| digits.bytes().all(is_digit))?;
    u8::from_str_radix(digits, 16).ok()
}

fn begins_encoded(rest: &str) -> bool {
    rest.get(..2).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns true if readers of URLs ([WHATWG URL]) have no other way to write a URI. A backend's
/// name may stand in front of the scheme.
///
/// [WHATWG URL]: https://url.spec.whatwg.org/#concept-url-serializer
fn is_normal(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else { return true };
    let own_scheme = scheme.rsplit('+').next().unwrap_or_default();
    let special = SPECIAL.into_iter().find(|(known, _)| *known == own_scheme);
    if has_capitals(scheme) {
        return false;
    }
    let Some(rest) = rest.strip_prefix("//") else { return special.is_none() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    if own_scheme == "file" {
        // Readers that look for a file drop a host, a query and a fragment.
        return authority.is_empty()
            && path.starts_with('/')
            && path.len() == rest.len()
            && !path.contains("//");
    }
    let after_host = if place.starts_with('[') { place.find(']').unwrap_or_default() } else { 0 };
    let colon = place.get(after_host..).and_then(|place| place.find(':'));
    let (host, port) = match colon {
        Some(at) => {
            (place.get(..after_host + at).unwrap_or_default(), place.get(after_host + at + 1..))
        }
        None => (place, None),
    };
    user.is_none_or(is_user)
        && is_address(host)
        && match special {
            // A text that is not a number is no port: readers of URLs reject it.
            None => port.is_none_or(|port| is_port(port) || has_other_than_digits(port)),
            Some((_, default)) => {
                path.starts_with('/')
                    && !host.is_empty()
                    && !has_capitals(host)
                    && !host.contains('%')
                    && is_no_number(host)
                    && !query(rest).contains('\'')
                    && port.is_none_or(|port| is_port(port) && port != default)
            }
        }
}

fn has_capitals(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn has_other_than_digits(text: &str) -> bool {
    text.bytes().any(|byte| !byte.is_ascii_digit())
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|number| number.to_string() == text)
}

fn query(rest: &str) -> &str {
    let before_fragment = rest.split('#').next().unwrap_or_default();
    before_fragment.split_once('?').map_or("", |(_, query)| query)
}

/// Returns true if a user, perhaps with a password, has the form that readers would write.
fn is_user(user: &str) -> bool {
    let (name, password) = user.split_once(':').unwrap_or((user, "-"));
    let is_plain = |text: &str| !text.is_empty() && !text.contains([':', ';', '=', '[', ']', '@']);
    is_plain(name) && is_plain(password)
}

/// Returns true if a host has no brackets, or is an IPv6 address in the form that readers write.
/// Readers differ about IPv6 addresses that contain an IPv4 address, so these are false.
fn is_address(host: &str) -> bool {
    if !host.contains(['[', ']', '@']) {
        return true;
    }
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = address.and_then(|text| Some((text, text.parse::<Ipv6Addr>().ok()?)));
    address.is_some_and(|(text, parsed)| parsed.to_string() == text && !text.contains('.'))
}

/// Returns true unless a host is an IPv4 address in a form that readers would write differently.
fn is_no_number(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = match last.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last.is_empty() && !has_other_than_digits(last),
    };
    !is_number || host.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_servers_could_take_for_another_uri_is_ambiguous() {
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
            "file:///%5Fx",
            "file:///a%2fb",
            "file:///a%2Fb",
            "file:///a\\b",
            "file:///a%5Cb",
            "file:///a%252e%252e",
            "file:///a%c3%a4",
            "file:///a%",
            "file:///a%2",
            "file:///a%zz",
            "file:///a%00",
            "file:///a%0A",
            "file:///ä",
            "file:///a b",
            " file:///a",
            "file:///a|b",
            "file:///{a}",
            "FILE:///a",
            "UI://a/b",
            "b+FILE:///a",
            "file:/a",
            "b+file:/a",
            "file:a",
            "file:////a",
            "file://localhost/a",
            "file://C:/a",
            "https:example.com/",
            "https://example.com",
            "https://example.com?q",
            "https://Example.com/",
            "https://example.com:443/",
            "https://example.com:/",
            "https://example.com:080/",
            "https://ex%C3%A4mple.com/",
            "http://127.1/",
            "http://0x7f.0.0.1/",
            "http://1.2.3.4./",
            "http://[::0]/",
            "http://a/?'",
            "db://@h/a",
            "db://u:@h/a",
            "db://h:/a",
            "db://h:01/a",
            "fetch://https://example.com/",
            "file://h/c:/a",
            "file://host/a",
            "file:///a?b",
            "file:///a#b",
            "file:///%7B+path%7D",
            "file:///%C0%AE%C0%AE/a",
            "file:///%FF",
            "http://[::ffff:1.2.3.4]/",
            "ui://app/@secret/v",
            "ui://app/secret:/v",
            "ui://app/h:01/v",
        ] {
            assert!(is_ambiguous(uri, false), "{uri}");
        }
        for uri in [
            "file:///a/b.txt",
            "file:///a/...",
            "file:///a/..b/c..",
            "file:///a%20b%3Ac%C3%A4",
            "file:///100%25.txt",
            "file:///a%252",
            "b+file:///a",
            "https://host:8080/a;b?c=d&e=/..x#f",
            "http://127.0.0.1/",
            "http://[::1]:8080/",
            "note://Internal/Ideas",
            "https://u@example.com/",
            "https://example.com/o'brien",
            "file:///home/u/Bob's.md",
            "http://3fabc2de9a10:8080/",
            "http://host.3d/",
            "at://did:plc:abc/x",
            "docker://nginx:latest",
            "time://zone/2026-11-27T12:00:00Z",
            "fs://read?path=../x",
            "https://h/a?p=a/../x",
            "users://a%40b.com",
            "postgres://user:secret@host/db",
            "urn:isbn:0451450523",
            "ui://app/view",
            "plain",
            "",
        ] {
            assert!(!is_ambiguous(uri, false), "{uri}");
        }
    }

    #[test]
    fn a_template_is_ambiguous_in_what_it_says() {
        for (template, stars, expected) in [
            ("file:///{+path}{?query}", "file:///**", false),
            ("file:///{a}/../b", "file:///*/../b", true),
            ("file:///{a}%2Fb", "file:///*%2Fb", true),
            ("{+uri}", "*", false),
            ("https://{host}/a", "https://*/a", false),
            ("file:///{unclosed", "file:///*", false),
            ("file:///a}", "file:///a}", true),
            ("https://example.com", "https://example.com", true),
        ] {
            assert_eq!(with_stars(template), stars);
            assert_eq!(is_ambiguous(stars, stars.contains('*')), expected, "{template}");
        }
    }

    /// Generates URIs from pieces that readers of URLs treat in their own ways.
    fn uri() -> impl Strategy<Value = String> {
        let schemes =
            ["file", "http", "https", "ws", "ftp", "db", "File", "b+file", "ui", "x.y", "ui"];
        let pieces = [
            "/",
            "//",
            ":",
            "@",
            "?",
            "#",
            "a",
            "B",
            ".",
            "..",
            "%2E",
            "%41",
            "%C3%A4",
            "%25",
            "41",
            "80",
            "443",
            "0",
            "0x1",
            "127",
            "[",
            "]",
            "::1",
            "localhost",
            "c:",
            "'",
            "*",
            "+",
            ";",
            "=",
            "&",
            "~",
            "u",
            "é",
            " ",
            "|",
            "\\",
            "{",
            "xn--",
            "_",
            "1.2.3.4",
            "::ffff:1.2.3.4",
            "d",
        ];
        let middle = prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..7);
        let start = prop::sample::select(vec![":", "://", ":///", "://h/", "://h"]);
        (prop::sample::select(schemes.to_vec()), start, middle)
            .prop_map(|(scheme, start, middle)| format!("{scheme}{start}{}", middle.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// `url` parses as browsers do; pydantic in Python uses it.
        #[test]
        fn what_is_accepted_is_how_readers_of_urls_write_it(uri in uri()) {
            if !is_ambiguous(&uri, false) {
                let own = uri.split_once('+').filter(|(backend, _)| !backend.contains(':'));
                let own = own.map_or(uri.as_str(), |(_, own)| own);
                let app = uri.strip_prefix("ui://").and_then(|rest| rest.split_once('/'));
                let app = app.map(|(_, rest)| format!("ui://{rest}"));
                for uri in [uri.as_str(), own].into_iter().chain(app.as_deref()) {
                    if let Ok(parsed) = url::Url::parse(uri) {
                        prop_assert_eq!(parsed.as_str(), uri);
                    }
                }
            }
        }
    }
}
