use super::*;

#[test]
fn hosts_have_one_clear_form() {
    for (label, host, expected) in [
        ("as it is", "mcp.example.com", Some("mcp.example.com")),
        ("letters' case", "MCP.Example.COM", Some("mcp.example.com")),
        ("port", "mcp.example.com:8443", Some("mcp.example.com")),
        ("largest port", "a:65535", Some("a")),
        ("dot at the end", "mcp.example.com.", Some("mcp.example.com")),
        ("dot and port", "Mcp.example.com.:443", Some("mcp.example.com")),
        ("underscore", "my_mcp", Some("my_mcp")),
        ("punycode", "XN--e1afmkfd.example", Some("xn--e1afmkfd.example")),
        ("IPv4", "127.0.0.1:80", Some("127.0.0.1")),
        ("IPv6", "[::1]", Some("[::1]")),
        ("IPv6 with port", "[::1]:8443", Some("[::1]")),
        ("IPv6 in full", "[0:0:0:0:0:0:0:1]", Some("[::1]")),
        ("IPv6 in capitals", "[FE80::A]", Some("[fe80::a]")),
        ("empty", "", None),
        ("port alone", ":80", None),
        ("dot alone", ".", None),
        ("two dots at the end", "mcp.example.com..", None),
        ("empty label", "mcp..com", None),
        ("dot in front", ".example.com", None),
        ("no port", "mcp.example.com:", None),
        ("letters as port", "internal.example.com:abc", None),
        ("signed port", "a:+80", None),
        ("negative port", "a:-1", None),
        ("port with a space", "a: 80", None),
        ("port too large", "a:65536", None),
        ("port too long", "a:000080", None),
        ("two ports", "a:80:80", None),
        ("port, then dot", "a:80.", None),
        ("userinfo", "user@mcp.example.com", None),
        ("userinfo with password", "user:80@mcp.example.com", None),
        ("two hosts", "a.example.com,b.example.com", None),
        ("two hosts with a space", "a.example.com, b.example.com", None),
        ("space in front", " mcp.example.com", None),
        ("tab at the end", "mcp.example.com\t", None),
        ("escape", "mcp%2eexample.com", None),
        ("slash", "mcp.example.com/x", None),
        ("backslash", "mcp.example.com\\x", None),
        ("query", "mcp.example.com?x", None),
        ("fragment", "mcp.example.com#x", None),
        ("scheme", "http://mcp.example.com", None),
        ("star", "*.example.com", None),
        ("NUL", "mcp.example.com\0", None),
        ("fullwidth dot", "mcp\u{ff0e}example.com", None),
        ("umlaut", "müller.example", None),
        ("Kelvin sign", "\u{212a}.example", None),
        ("zero-width space", "mcp\u{200b}.example.com", None),
        ("short IPv4", "127.1", None),
        ("IPv4 as one number", "2130706433", None),
        ("hexadecimal IPv4", "0x7f.0.0.1", None),
        ("hexadecimal IPv4 at its end", "127.0.0.0x1", None),
        ("IPv4 with leading zero", "127.0.0.01", None),
        ("IPv4 too large", "127.0.0.256", None),
        ("IPv6 without brackets", "::1", None),
        ("IPv6 with zone", "[fe80::1%25eth0]", None),
        ("IPv6 not closed", "[::1", None),
        ("IPv6 and text", "[::1]x", None),
        ("IPv6 with letters as port", "[::1]:x", None),
        ("IPv6 that is none", "[mcp]", None),
    ] {
        let head = Head { host: host.into(), ..Head::default() };
        let expected = expected.ok_or(Unclear::Ambiguous(Ambiguity::NotAHost));
        assert_eq!(head.clear_host().as_deref(), expected.as_deref(), "{label}: {host}");
    }
}

#[test]
fn paths_have_one_clear_form() {
    use Ambiguity::{
        Backslash, BrokenEscape, Character, DotSegment, EmptySegment, HiddenDelimiter,
        NeedlessEscape, NoPath, Semicolon,
    };
    for (label, path, expected) in [
        ("root", "/", Ok("/")),
        ("as it is", "/mcp/admin", Ok("/mcp/admin")),
        ("slash at the end", "/mcp/", Ok("/mcp/")),
        ("letters' case is kept", "/MCP", Ok("/MCP")),
        ("query", "/mcp?x=/../;%2F", Ok("/mcp")),
        ("empty query", "/mcp?", Ok("/mcp")),
        ("dots in a name", "/mcp/x.y/..z/...", Ok("/mcp/x.y/..z/...")),
        ("all that stands for itself", "/-._~!$&'()*+,=:@", Ok("/-._~!$&'()*+,=:@")),
        ("space", "/a%20b", Ok("/a%20b")),
        ("letters outside ASCII", "/m%C3%BCller", Ok("/m%C3%BCller")),
        ("digits in lower case", "/m%c3%bCller%5b", Ok("/m%C3%BCller%5B")),
        ("empty", "", Err(NoPath)),
        ("query alone", "?x", Err(NoPath)),
        ("no slash", "mcp", Err(NoPath)),
        ("star", "*", Err(NoPath)),
        ("absolute", "http://a/mcp", Err(NoPath)),
        ("encoded letter", "/mcp/%61dmin", Err(NeedlessEscape)),
        ("encoded capital", "/%4Dcp", Err(NeedlessEscape)),
        ("encoded tilde", "/%7Ex", Err(NeedlessEscape)),
        ("encoded at sign", "/%40x", Err(NeedlessEscape)),
        ("encoded dot segment", "/mcp/%2e%2e/admin", Err(NeedlessEscape)),
        ("half encoded dot segment", "/mcp/.%2E/admin", Err(NeedlessEscape)),
        ("two slashes", "/mcp//admin", Err(EmptySegment)),
        ("two slashes in front", "//mcp/admin", Err(EmptySegment)),
        ("two slashes at the end", "/mcp//", Err(EmptySegment)),
        ("two slashes alone", "//", Err(EmptySegment)),
        ("dot segment", "/mcp/x/../admin", Err(DotSegment)),
        ("dot segment at the end", "/mcp/..", Err(DotSegment)),
        ("dot segment before a slash", "/mcp/../", Err(DotSegment)),
        ("one dot", "/mcp/./x", Err(DotSegment)),
        ("dots alone", "/..", Err(DotSegment)),
        ("parameter", "/mcp;x/admin", Err(Semicolon)),
        ("parameter of dots", "/mcp/..;/admin", Err(Semicolon)),
        ("encoded parameter", "/mcp%3Bx", Err(HiddenDelimiter)),
        ("encoded slash", "/mcp%2fadmin", Err(HiddenDelimiter)),
        ("encoded backslash", "/mcp%5Cadmin", Err(HiddenDelimiter)),
        ("encoded percent sign", "/mcp/%252e", Err(HiddenDelimiter)),
        ("encoded query", "/mcp%3Fx", Err(HiddenDelimiter)),
        ("encoded fragment", "/mcp%23x", Err(HiddenDelimiter)),
        ("encoded NUL", "/mcp%00", Err(HiddenDelimiter)),
        ("encoded line feed", "/mcp%0a", Err(HiddenDelimiter)),
        ("encoded DEL", "/mcp%7F", Err(HiddenDelimiter)),
        ("encoded C1 control", "/mcp%C2%85", Err(HiddenDelimiter)),
        ("overlong slash", "/mcp%C0%AFadmin", Err(HiddenDelimiter)),
        ("Latin-1", "/m%FCller", Err(HiddenDelimiter)),
        ("surrogate", "/%ED%A0%80", Err(HiddenDelimiter)),
        ("backslash", "/mcp\\admin", Err(Backslash)),
        ("fragment", "/mcp#x", Err(Character)),
        ("space as it is", "/mcp x", Err(Character)),
        ("tab", "/mcp\t", Err(Character)),
        ("NUL", "/mcp\0", Err(Character)),
        ("quote", "/\"", Err(Character)),
        ("bracket", "/[x]", Err(Character)),
        ("letters outside ASCII as they are", "/müller", Err(Character)),
        ("percent sign alone", "/mcp%", Err(BrokenEscape)),
        ("one digit", "/mcp%4", Err(BrokenEscape)),
        ("no digits", "/mcp%zz", Err(BrokenEscape)),
        ("signed digits", "/mcp%+1", Err(BrokenEscape)),
        ("sixteen bits", "/mcp%u0061", Err(BrokenEscape)),
        ("cut by the query", "/mcp%?41", Err(BrokenEscape)),
    ] {
        let head = Head { path: path.into(), ..Head::default() };
        let expected = expected.map_err(Unclear::Ambiguous);
        assert_eq!(head.clear_path().as_deref(), expected.as_ref().copied(), "{label}: {path}");
    }
}

#[test]
fn second_value_is_never_clear() {
    let with = |values: &[&[u8]]| {
        let mut host = PseudoHeader::default();
        values.iter().for_each(|value| host.add(value));
        Head { host, ..Head::default() }
    };
    let clear = |values: &[&[u8]]| with(values).clear_host().map(Cow::into_owned);
    let ambiguous = |why| Err(Unclear::Ambiguous(why));
    assert_eq!(clear(&[]), Err(Unclear::NotSent));
    assert_eq!(clear(&[b"a"]), Ok("a".to_owned()));
    assert_eq!(clear(&[b""]), ambiguous(Ambiguity::NotAHost));
    assert_eq!(clear(&[b"a", b"a"]), ambiguous(Ambiguity::Repeated));
    assert_eq!(clear(&[b"\xff"]), ambiguous(Ambiguity::NotUtf8));
    assert_eq!(clear(&[b"a", b"\xff"]), ambiguous(Ambiguity::NotUtf8));
    assert_eq!(clear(&[b"\xff", b"a"]), ambiguous(Ambiguity::Repeated));
    assert_eq!(with(&[b"a", b"b"]).host.as_sent(), Some("b"));

    let second = |value: &[u8]| Head {
        host: "a".into(),
        headers: vec![("host".to_owned(), value.to_vec())],
        ..Head::default()
    };
    assert_eq!(second(b"a").clear_host().as_deref(), Ok("a"));
    assert_eq!(second(b"b").clear_host(), Err(Unclear::Ambiguous(Ambiguity::Repeated)));
}

#[test]
fn repeated_attribute_is_unknown() {
    let head = Head::default().on_route(Some("a"));
    assert_eq!(head.route(), Some("a"));
    assert_eq!(head.on_route(Some("a")).route(), None);
}

#[test]
fn connect_withholds_no_path() {
    let head = |method: &str| Head { method: method.into(), ..Head::default() };
    assert_eq!(head("POST").clear_path(), Err(Unclear::NotSent));
    assert_eq!(head("CONNECT").clear_path(), Err(Unclear::Ambiguous(Ambiguity::NoPath)));
}
