use proptest::prelude::*;

use super::*;

const DEPTH: usize = 8;

fn fault(text: &str) -> Fault {
    read(text, DEPTH).expect_err(text).fault
}

/// Returns true if skipping accepts the text.
fn skips(text: &str) -> bool {
    let mut reader = Reader::new(text, DEPTH);
    reader.raw().is_ok() && reader.end().is_ok()
}

#[test]
fn what_is_not_json_is_refused_whether_read_or_skipped() {
    for text in [
        "",
        " ",
        "nul",
        "truefalse",
        "[1,]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":1,}",
        "{'a':1}",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x10",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "-1e400",
        "[1e999]",
        "\"\u{1}\"",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800x\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\\ud800\"",
        "\"open",
        "[",
        "{",
        "{\"a\":[",
        "1 2",
        "{} {}",
        "{}x",
        "\u{feff}{}",
        "// c\n{}",
        "[\u{a0}1]",
        "{\"\\ud800\":1}",
    ] {
        assert!(read(text, DEPTH).is_err(), "read {text:?}");
        assert!(!skips(text), "skipped {text:?}");
    }
}

#[test]
fn depth_is_bounded_for_arrays_and_objects() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(DEPTH), DEPTH).is_ok());
    assert_eq!(fault(&nested(DEPTH + 1)), Fault::TooDeep);
    assert!(!skips(&nested(DEPTH + 1)));
    let objects = format!("{}1{}", "{\"a\":".repeat(DEPTH + 1), "}".repeat(DEPTH + 1));
    assert_eq!(fault(&objects), Fault::TooDeep);
    let many_siblings = format!("[{}]", vec!["[[]]"; 1000].join(","));
    assert!(read(&many_siblings, DEPTH).is_ok());
}

#[test]
fn a_key_twice_is_refused_at_any_depth_and_however_it_is_escaped() {
    assert_eq!(fault(r#"{"a":1,"a":1}"#), Fault::DuplicateKey);
    assert_eq!(fault(r#"[{"x":{"na\u006de":1,"name":2}}]"#), Fault::DuplicateKey);
    for count in [5, 30] {
        let members: Vec<String> = (0..count).map(|n| format!("\"k{n}\":{n}")).collect();
        assert!(read(&format!("{{{}}}", members.join(",")), DEPTH).is_ok());
        let twice = format!("{{{},\"k3\":0}}", members.join(","));
        assert_eq!(fault(&twice), Fault::DuplicateKey, "{count} members");
    }
}

#[test]
fn a_name_is_found_only_where_every_reader_finds_it() {
    for (letter, filler) in [("k", 0), ("k", 20), ("é", 4), ("é", 20)] {
        let filler: String = (0..filler).map(|n| format!(",\"{letter}{n}\":0")).collect();
        let find = |member: &str, name: &str| {
            let text = format!("{{{member}{filler}}}");
            let Ok(Json::Object(object)) = read(&text, DEPTH) else { panic!("{text}") };
            match object.find(name) {
                Found::Member(Json::Int(int)) => format!("{int}"),
                other => format!("{other:?}"),
            }
        };
        let find_kind = |member: &str, name: &str| {
            find(member, name).split('(').next().unwrap_or_default().to_owned()
        };
        assert_eq!(find(r#""text":1"#, "text"), "1");
        assert_eq!(find(r#""other":1"#, "text"), "Nothing");
        assert_eq!(find(r#""Text":1"#, "text"), r#"CaseVariant("Text")"#);
        assert_eq!(find(r#""text":1,"TEXT":2"#, "text"), r#"CaseVariant("TEXT")"#);
        assert_eq!(find(r#""TEXT":2,"text":1"#, "text"), r#"CaseVariant("TEXT")"#);
        // Go's decoder folds the long s and the Kelvin sign too.
        assert_eq!(find_kind("\"pa\u{17f}s\":1", "pass"), "CaseVariant");
        assert_eq!(find_kind("\"\u{212a}ey\":1", "key"), "CaseVariant");
        assert_eq!(find_kind("\"STRA\u{1e9e}E\":1", "straße"), "CaseVariant");
        assert_eq!(find("\"straße\":1", "straße"), "1");
        // Java folds each character alone, other languages the complete text.
        assert_eq!(find_kind("\"\u{130}d\":1", "id"), "CaseVariant");
        assert_eq!(find_kind("\"i\u{307}d\":1", "\u{130}d"), "CaseVariant");
    }
}

#[test]
fn object_folds_each_key_once() {
    for count in [3_usize, 30] {
        let key = |n: usize| format!("{}{n}", "É".repeat(n));
        let members: Vec<String> = (0..count).map(|n| format!("{:?}:{n}", key(n))).collect();
        let text = format!("{{{}}}", members.join(","));
        let Ok(Json::Object(object)) = read(&text, DEPTH) else { panic!("{text}") };
        for (found, _) in &object.0 {
            match found {
                Key::Plain(text) => assert!(text.is_ascii(), "{text}"),
                Key::Folded(both) => assert_eq!(both.1, both.0.replace('É', "é")),
            }
        }
        for n in 0..count {
            assert!(matches!(object.find(&key(n)), Found::Member(Json::Int(_))));
            let lower = key(n).replace('É', "é");
            let is_ascii = lower.is_ascii();
            assert_eq!(matches!(object.find(&lower), Found::CaseVariant(_)), !is_ascii, "{lower}");
        }
        assert_eq!(object.find("é"), Found::Nothing);
        assert_eq!(object.case_variants(), None);
    }
    assert_eq!(size_of::<Key<'_>>(), size_of::<Cow<'_, str>>());
}

#[test]
fn a_key_with_nul_is_refused_where_keys_are_read() {
    assert_eq!(fault(r#"{"x\u0000y":1}"#), Fault::Syntax("a key holds NUL"));
    assert!(read(r#"["x\u0000y"]"#, DEPTH).is_ok());
}

#[test]
fn numbers_keep_their_kind() {
    use Json::{Double, Inexact, Int};

    for (text, expected) in [
        ("-0", Int(0)),
        ("1.0", Double(1.0)),
        ("1e2", Double(100.0)),
        ("9007199254740991", Int(9_007_199_254_740_991)),
        ("-9007199254740991", Int(-9_007_199_254_740_991)),
        ("9007199254740992", Inexact(9_007_199_254_740_992.0)),
        ("9223372036854775807", Inexact(9_223_372_036_854_775_807.0)),
        ("9223372036854775808", Inexact(9_223_372_036_854_775_808.0)),
        ("9007199254740993.0", Inexact(9_007_199_254_740_992.0)),
        ("1e300", Inexact(1e300)),
        // These numbers look as languages print doubles.
        ("0.1", Double(0.1)),
        ("0.30000000000000004", Double(0.1 + 0.2)),
        ("-1.7976931348623158E-10", Double(-1.797_693_134_862_315_8e-10)),
        ("5e-324", Double(5e-324)),
        ("0.1000000000000000000000", Double(0.1)),
        ("0e5", Double(0.0)),
        // These decimals differ from the doubles that they are rounded to.
        ("10.0000000000000000001", Inexact(10.0)),
        ("9.9999999999999999999", Inexact(10.0)),
        ("1e-400", Inexact(0.0)),
        ("3e-324", Inexact(5e-324)),
        ("1e-99999999999999999999", Inexact(0.0)),
    ] {
        assert_eq!(read(text, DEPTH).unwrap(), expected, "{text}");
    }
    let digits = "9".repeat(300);
    assert!(matches!(read(&digits, DEPTH), Ok(Inexact(value)) if value > 1e299));
    assert_eq!(fault(&"9".repeat(400)), Fault::Syntax("number out of range"));
}

#[test]
fn strings_are_decoded() {
    let json = |text| read(text, DEPTH).unwrap();
    assert_eq!(json(r#""\u0041\n\ud83d\ude00é\/""#), Json::String("A\n😀é/".into()));
    assert!(matches!(json(r#""plain""#), Json::String(Cow::Borrowed("plain"))));
}

/// Generates arbitrary JSON as serde_json writes it.
fn arbitrary_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..12).prop_map(Into::into),
            prop::collection::vec((any::<String>(), inner), 0..12)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

fn same(ours: &Json<'_>, theirs: &serde_json::Value) -> bool {
    match (ours, theirs) {
        (Json::Null, serde_json::Value::Null) => true,
        (Json::Bool(a), serde_json::Value::Bool(b)) => a == b,
        (Json::Int(a), serde_json::Value::Number(b)) => Some(*a) == b.as_i64(),
        // serde_json rounds the last digit differently by default. In a subnormal number, that
        // digit has more weight.
        (Json::Double(a) | Json::Inexact(a), serde_json::Value::Number(b)) => {
            b.as_f64().is_some_and(|b| (a - b).abs() <= (b.abs() * 1e-15).max(1e-315))
        }
        (Json::String(a), serde_json::Value::String(b)) => a == b,
        (Json::Array(a), serde_json::Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), serde_json::Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| same(value, &b[key]))
        }
        _ => false,
    }
}

proptest! {
    // A failing case becomes a separate test above.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reads_what_a_lenient_reader_reads(value in arbitrary_json(), pretty: bool) {
        let text = if pretty {
            serde_json::to_string_pretty(&value)
        } else {
            serde_json::to_string(&value)
        }.unwrap();
        let ours = read(&text, DEPTH).unwrap();
        prop_assert!(same(&ours, &serde_json::from_str(&text).unwrap()), "{text}");
        prop_assert!(skips(&text));
    }

    #[test]
    fn accepts_nothing_that_a_lenient_reader_refuses(text in r#"[\[\]{}",:0-9eE.+\-truefalsn\\ u]{0,24}"#) {
        let lenient = serde_json::from_str::<serde_json::Value>(&text);
        if let Ok(ours) = read(&text, DEPTH) {
            prop_assert!(same(&ours, &lenient.unwrap()), "{text}");
            prop_assert!(skips(&text));
        }
    }
}

#[test]
fn what_is_not_plain_is_found_wherever_it_is() {
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    for fill in [b'a', b'!', b' ', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
        for length in 0..20 {
            assert_eq!(reader::not_plain(&vec![fill; length]), None, "{fill} {length}");
            for (at, byte) in (0..length).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut text = vec![fill; length];
                text[at] = byte;
                assert_eq!(reader::not_plain(&text), text.iter().position(is_special), "{text:?}");
                // The bytes after the first match do not matter.
                text[length - 1] = 0;
                assert_eq!(reader::not_plain(&text), text.iter().position(is_special), "{text:?}");
            }
        }
    }
}

#[test]
fn characters_that_fold_to_ascii_are_listed() {
    for c in '\u{80}'..=char::MAX {
        let folded = fold_letters(c.encode_utf8(&mut [0; 4])).all(|c| c.is_ascii());
        assert_eq!(folds_to_ascii(c), folded, "{c:?}");
    }
}

#[test]
fn lazy_member_with_nothing_is_empty() {
    let text = r#"{"a":null,"b":"","c":{},"d":[ ],"e":{ "x":1},"f":[[]],"g":" ","h":0,"i":false,"j":[{}]}"#;
    let object = LazyObject::read(text, 64, &mut 100).unwrap();
    for is_built in [false, true] {
        let empty: String = object
            .iter()
            .filter(|(_, member)| {
                assert!(!is_built || member.tree(&mut 100).is_some());
                member.is_empty()
            })
            .map(|(key, _)| key)
            .collect();
        assert_eq!(empty, "abcd", "{is_built}");
    }
}
