//! Messages that attackers write by hand, for servers that read less strictly.

use super::*;

const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}"#;

fn reason(body: &[u8]) -> &'static str {
    let accept = Accept { max_depth: 16, batches: false, ..Accept::USUAL };
    match read(body, &MirroredHeaders::default(), accept) {
        Ok(Message::Task { .. }) => "a task",
        Ok(Message::Calls(_)) => "a call",
        Ok(Message::NotGoverned { .. }) => "not governed",
        Ok(Message::Batch(_)) => "a batch",
        Err(malformed) => malformed.problem.reason(),
    }
}

/// Returns messages with the value at each place where the reader ignores its type.
fn places(value: &[u8]) -> Vec<Vec<u8>> {
    [
        (r#"{"first":"#, r#","jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}"#),
        (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","between":"#, r#","params":{"name":"echo"}}"#),
        (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"first":"#, r#","name":"echo"}}"#),
        (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"a":"#, "}}}"),
        (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","_meta":{"a":"#, "}}}"),
        (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"},"last":"#, "}"),
        (r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"x":[{"y":"#, "}]}}"),
        (r#"{"jsonrpc":"2.0","id":7,"result":{"x":"#, "}}"),
    ]
    .into_iter()
    .map(|(before, after)| [before.as_bytes(), value, after.as_bytes()].concat())
    .collect()
}

#[test]
fn what_is_not_json_is_refused_wherever_it_stands() {
    // A well-formed value at such a place is no error.
    for body in places(br#"{"any":["thing",-1.5e3,true,null,"\ud83d\ude00"]}"#) {
        assert!(["a call", "not governed"].contains(&reason(&body)));
    }
    let values: [&[u8]; 39] = [
        b"1e400",
        b"-1e400",
        b"1e99999999999999999999",
        b"01",
        b"-",
        b"+1",
        b".5",
        b"1.",
        b"1e",
        b"0x1",
        b"NaN",
        b"Infinity",
        b"undefined",
        b"True",
        b"nul",
        b"nullx",
        b"'a'",
        b"\"a",
        b"a\"",
        b"\"\\x41\"",
        b"\"\\u12\"",
        b"\"\\u+123\"",
        b"\"a\nb\"",
        b"\"a\0b\"",
        b"\"\t\"",
        br#""\ud800""#,
        br#""\udc00""#,
        br#""\ud800x""#,
        br#""\ud800\ud800""#,
        br#""\udc00\ud800""#,
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"{\"a\":1,}",
        b"{a:1}",
        b"{\"a\"}",
        b"{1:1}",
        b"/**/1",
        b"1//x",
    ];
    for value in values {
        for body in places(value) {
            let shown = String::from_utf8_lossy(&body);
            assert_eq!(reason(&body), "not_json", "{shown}");
        }
    }
}

#[test]
fn what_is_not_utf_8_is_refused_wherever_it_stands() {
    for bytes in [
        // Overlong forms of `/`, NUL and `"`.
        b"\xc0\xaf".as_slice(),
        b"\xc0\x80",
        b"\xc0\xa2",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        // Surrogates, and code points beyond Unicode.
        b"\xed\xa0\x80",
        b"\xed\xa0\xbd\xed\xb8\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        // Parts of characters, and Latin-1.
        b"\x80",
        b"\xc3",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xe4",
        b"\xff",
    ] {
        let string = [b"\"", bytes, b"\""].concat();
        let key = [b"{\"", bytes, b"\":1}"].concat();
        for body in places(&string).into_iter().chain(places(&key)) {
            assert_eq!(reason(&body), "not_utf8", "{}", String::from_utf8_lossy(&body));
        }
        assert_eq!(reason(&[CALL.as_bytes(), bytes].concat()), "not_utf8");
        assert_eq!(reason(&[bytes, CALL.as_bytes()].concat()), "not_utf8");
    }
}

#[test]
fn other_encodings_are_refused() {
    let utf_16: Vec<u16> = CALL.encode_utf16().collect();
    let wide = |bytes: fn(u16) -> [u8; 2]| utf_16.iter().flat_map(|unit| bytes(*unit)).collect();
    let wider = |bytes: fn(u32) -> [u8; 4]| {
        CALL.chars().flat_map(|character| bytes(u32::from(character))).collect()
    };
    let encodings: [(&[u8], Vec<u8>); 4] = [
        (b"\xff\xfe", wide(u16::to_le_bytes)),
        (b"\xfe\xff", wide(u16::to_be_bytes)),
        (b"\xff\xfe\0\0", wider(u32::to_le_bytes)),
        (b"\0\0\xfe\xff", wider(u32::to_be_bytes)),
    ];
    for (mark, body) in encodings {
        assert_eq!(reason(&body), "not_json");
        assert_eq!(reason(&[mark, &body].concat()), "not_utf8");
    }
    assert_eq!(reason(&[b"\xef\xbb\xbf", CALL.as_bytes()].concat()), "not_json");
}

#[test]
fn there_is_one_value_and_nothing_else() {
    for rest in
        ["{}", " {}", ",", "]", "}", "null", "\0", "\u{feff}", "x", "\u{a0}", "\u{2028}", "\u{c}"]
    {
        assert_eq!(reason(format!("{CALL}{rest}").as_bytes()), "not_json", "{rest:?}");
        assert_eq!(reason(format!("{rest}{CALL}").as_bytes()), "not_json", "{rest:?}");
    }
    let lines = format!("{CALL}\n{CALL}");
    assert_eq!(reason(lines.as_bytes()), "not_json");
    for space in [" ", "\t", "\n", "\r", "\r\n \t"] {
        let spaced = CALL
            .replace(':', &format!("{space}:{space}"))
            .replace(',', &format!("{space},{space}"));
        assert_eq!(reason(format!("{space}{spaced}{space}").as_bytes()), "a call");
    }
    for cut in 0..CALL.len() {
        assert_eq!(reason(&CALL.as_bytes()[..cut]), "not_json", "{cut}");
    }
}

#[test]
fn deep_nesting_is_refused_wherever_it_stands() {
    let nested = |depth: usize| {
        let arrays = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let objects = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        [arrays, objects]
    };
    for value in nested(16) {
        for body in places(value.as_bytes()) {
            assert_eq!(reason(&body), "json_too_deep");
        }
    }
    for value in nested(12) {
        for body in places(value.as_bytes()) {
            assert_ne!(reason(&body), "json_too_deep");
        }
    }
    // This nesting is deeper than any stack.
    let bottomless = "[".repeat(1 << 20);
    assert_eq!(reason(bottomless.as_bytes()), "json_too_deep");
    for body in places(bottomless.as_bytes()) {
        assert_eq!(reason(&body), "json_too_deep");
    }
}

#[test]
fn ids_of_every_type() {
    for (id, expected) in [
        ("7", "a call"),
        ("-7", "a call"),
        ("1.5", "a call"),
        ("1e3", "a call"),
        ("18446744073709551616", "a call"),
        (r#""x""#, "a call"),
        (r#""""#, "a call"),
        (r#""\u0041\n""#, "a call"),
        ("null", "not_json_rpc"),
        ("true", "not_json_rpc"),
        ("[]", "not_json_rpc"),
        ("[7]", "not_json_rpc"),
        ("{}", "not_json_rpc"),
        (r#"{"id":7}"#, "not_json_rpc"),
    ] {
        let body = CALL.replace(r#""id":7"#, &format!(r#""id":{id}"#));
        assert_eq!(reason(body.as_bytes()), expected, "{body}");
    }
    let longest = CALL.replace(r#""id":7"#, &format!(r#""id":"{}""#, "x".repeat(1022)));
    assert_eq!(reason(longest.as_bytes()), "a call");
    let longer = CALL.replace(r#""id":7"#, &format!(r#""id":"{}""#, "x".repeat(1023)));
    assert_eq!(reason(longer.as_bytes()), "not_json_rpc");
}

/// Tests every spelling of a key that some server reads as another key.
#[test]
fn keys_that_servers_read_alike_are_refused() {
    for key in ["jsonrpc", "id", "method", "params", "result", "error"] {
        let escaped: String = key.bytes().map(|byte| format!("\\u{byte:04X}")).collect();
        let (first, rest) = key.split_at(1);
        let capital = format!("{}{rest}", first.to_uppercase());
        let body = |other: &str| format!(r#"{{"{other}":1,{}"#, CALL.trim_start_matches('{'));
        let is_there = CALL.contains(&format!("\"{key}\""));
        let twice = if is_there { "duplicate_key" } else { "not_json_rpc" };
        assert_eq!(reason(body(key).as_bytes()), twice, "{key}");
        assert_eq!(reason(body(&escaped).as_bytes()), twice, "{escaped}");
        assert_eq!(reason(body(&capital).as_bytes()), "case_variant_key", "{capital}");
        assert_eq!(reason(body(&key.to_uppercase()).as_bytes()), "case_variant_key", "{key}");
        assert_eq!(reason(body(&format!("{key}\\u0000")).as_bytes()), "not_json", "{key}");
    }
    for key in ["name", "uri", "arguments", "_meta"] {
        let with = |other: &str| CALL.replace(r#""name""#, &format!(r#""{other}":"x","name""#));
        assert_eq!(reason(with(&key.to_uppercase()).as_bytes()), "case_variant_key", "{key}");
        assert_eq!(reason(with(&format!("{key}\\u0000")).as_bytes()), "not_json", "{key}");
    }
    assert_eq!(reason(CALL.replace("params", "param\u{17f}").as_bytes()), "case_variant_key");
    for name in ["7", "null", "true", r#"["echo"]"#, r#"{"name":"echo"}"#] {
        let body = CALL.replace(r#""echo""#, name);
        assert_eq!(reason(body.as_bytes()), "no_usable_call", "{body}");
    }
}

#[test]
fn too_many_keys_are_refused() {
    let with = |keys: usize| (0..keys).map(|n| format!(",\"{n:x}\":0")).collect::<String>();
    for (before, after, own) in [
        (r#"{"jsonrpc":"2.0","id":7,"method":"x""#, "}", 3),
        (r#"{"jsonrpc":"2.0","id":7,"method":"x","params":{"name":"t""#, "}}", 1),
        (r#"{"jsonrpc":"2.0","id":7,"method":"x","params":{"_meta":{"x":"t""#, "}}}", 1),
    ] {
        let body = |keys: usize| format!("{before}{}{after}", with(keys - own));
        assert!(
            read(body(MAX_KEYS).as_bytes(), &MirroredHeaders::default(), Accept::USUAL).is_ok()
        );
        let more = body(MAX_KEYS + 1);
        assert_eq!(reason(more.as_bytes()), "json_too_many_keys");
        let refused =
            read(more.as_bytes(), &MirroredHeaders::default(), Accept::USUAL).unwrap_err();
        assert_eq!(refused.problem.code(), -32700);
        assert_eq!(refused.id.unwrap().as_json(), "7");
    }
    // The keys of arguments are not compared yet.
    let arguments = format!(r#""echo","arguments":{{"a":0{}}}"#, with(MAX_KEYS));
    assert_eq!(reason(CALL.replace(r#""echo""#, &arguments).as_bytes()), "a call");
}

#[test]
fn key_with_many_marks_is_variant() {
    let marks = "\u{307}".repeat(1 << 20);
    for (key, expected) in [
        (format!("param{marks}s"), "case_variant_key"),
        (format!("{marks}NAM\u{307}E"), "not governed"),
        (format!("{marks}paramsparams"), "not governed"),
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"x","{key}":0}}"#);
        assert_eq!(reason(body.as_bytes()), expected);
    }
}
