//! Bodies of hostile callers: each as large as is accepted, and made to cost what it can.

use std::fmt::Write as _;

/// The size of a body in bytes, within a kibibyte: `limits.maxBodyBytes` unless a file says
/// otherwise.
pub const BYTES: usize = 4 << 20;

/// Rules for the tool that the bodies call. Each has a scope that the caller has not, no
/// condition, or one that reads nothing, one argument, or all of it.
pub const POLICIES: [(&str, &str); 5] = [
    ("unread", "{action: Allow}"),
    (
        "not theirs",
        r#"{action: Allow, source: {jwt: {claims: [{name: sub, valueType: String, values: [other]}]}}, cel: "args == {}"}"#,
    ),
    ("one read", r#"{action: Allow, cel: "args.title == 'x'"}"#),
    ("list read", r#"{action: Allow, cel: "args.list.all(item, item == 1)"}"#),
    ("all read", r#"{action: Allow, cel: "args == {'x': 1}"}"#),
];

/// The policy file with one of these rules.
pub fn policy(rule: &str) -> String {
    format!(
        "policies:\n- name: bench\n  batches: Authorize\n  enforce: [tools, resources]\n  \
         rules:\n  - {rule}\n"
    )
}

/// A small call of the same tool.
pub fn small() -> Vec<u8> {
    call(r#"{"title":"x","list":[1,2,3]}"#)
}

/// The names of all bodies.
pub const NAMES: [&str; 33] = [
    "empty lists",
    "empty objects",
    "deep lists",
    "lists of one",
    "objects of one",
    "digits",
    "exponents",
    "large exponents",
    "many digits",
    "one number",
    "empty strings",
    "escapes",
    "members",
    "arguments",
    "repeated keys",
    "small objects",
    "objects of 16",
    "case variants",
    "keys of other scripts",
    "long keys alike",
    "long keys of other scripts",
    "params",
    "message",
    "_meta",
    "key of marks",
    "batch of objects",
    "batch of calls",
    "subscriptions",
    "broken, then words",
    "broken, then escapes",
    "broken, then letters",
    "broken, then keys",
    "never ends",
];

/// The body with a name.
pub fn body(name: &str) -> Vec<u8> {
    let list = |item: &str| call(&filled(r#"{"list":["#, |_| item.to_owned(), "]}"));
    let object = |key: fn(usize) -> String| {
        call(&filled(r#"{"list":{"#, |n| format!("\"{}\":0", key(n)), "}}"))
    };
    let message = |before: &str, after: &str| {
        let before = format!(r#"{{"jsonrpc":"2.0","id":7,{before}"#);
        filled(&before, |n| format!("\"{n:x}\":0"), after).into_bytes()
    };
    let broken = |rest: &str| {
        let start = r#"{"jsonrpc":"2.0","id":7,"method":"x","params":nul"#;
        format!("{start}{}", rest.repeat((BYTES - 256) / rest.len())).into_bytes()
    };
    match name {
        "empty lists" => list("[]"),
        "empty objects" => list("{}"),
        "deep lists" => list(&format!("{}{}", "[".repeat(56), "]".repeat(56))),
        "lists of one" => list("[1]"),
        "objects of one" => list(r#"{"":0}"#),
        "digits" => list("0"),
        "exponents" => list("1e5"),
        "large exponents" => list("1e308"),
        "many digits" => list("12345678901234567.1"),
        "one number" => list(&"1".repeat(BYTES - 512).replacen('1', "0.1", 1)),
        "empty strings" => list(r#""""#),
        "escapes" => list(&format!("\"{}\"", r"\u0041".repeat(BYTES / 6 - 100))),
        "members" => object(|n| format!("{n:x}")),
        "arguments" => call(&filled("{", |n| format!("\"{n:x}\":0"), "}")),
        "repeated keys" => object(|_| "a".to_owned()),
        "small objects" => list(r#"{"a":0,"b":0,"c":0,"d":0}"#),
        "objects of 16" => {
            let members: Vec<String> = (0..16).map(|n| format!("\"{n:x}\":0")).collect();
            list(&format!("{{{}}}", members.join(",")))
        }
        "case variants" => object(variant),
        "keys of other scripts" => object(|n| format!("é{n:x}")),
        "long keys alike" => {
            let long = "k".repeat(2 << 10);
            call(&filled(r#"{"list":{"#, |n| format!("\"{long}{n}\":0"), "}}"))
        }
        "long keys of other scripts" => object(|n| format!("{}{n:x}", "é".repeat(500))),
        "params" => message(r#""method":"tools/call","params":{"name":"t","#, "}}"),
        "message" => message(r#""method":"tools/call","#, "}"),
        "_meta" => message(r#""method":"tools/call","params":{"name":"t","_meta":{"#, "}}}"),
        "key of marks" => {
            let marks = "\u{307}".repeat(BYTES / 2 - 512);
            format!(r#"{{"jsonrpc":"2.0","id":7,"method":"x","{marks}":0}}"#).into_bytes()
        }
        "batch of objects" => filled("[", |_| "{}".to_owned(), "]").into_bytes(),
        "batch of calls" => {
            let keys: String = (0..1000).map(|n| format!(",\"{n}\":0")).collect();
            let long = "x".repeat(30 << 10);
            let one = format!(
                r#"{{"jsonrpc":"2.0","method":"tools/call","params":{{"name":"t","arguments":{{"list":["{long}"]}}{keys}}}}}"#
            );
            format!("[{}]", vec![one; 98].join(",")).into_bytes()
        }
        "subscriptions" => filled(
                r#"{"jsonrpc":"2.0","id":7,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["#,
                |_| r#""""#.to_owned(),
                "]}}}",
            )
            .into_bytes(),
        "broken, then words" => broken("d,"),
        "broken, then escapes" => broken(r"\u0064,"),
        "broken, then letters" => broken("é"),
        "broken, then keys" => broken("\"ix\","),
        "never ends" => {
            let mut body = list("[]");
            body.pop();
            body
        }
        other => panic!("no body is named {other}"),
    }
}

fn call(arguments: &str) -> Vec<u8> {
    let before =
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":"#;
    format!("{before}{arguments}}}}}").into_bytes()
}

/// A text that is filled with items between commas.
fn filled(before: &str, item: impl Fn(usize) -> String, after: &str) -> String {
    let mut text = before.to_owned();
    for number in 0.. {
        let item = item(number);
        if text.len() + item.len() + after.len() > BYTES - 256 && number > 0 {
            break;
        }
        let comma = if number == 0 { "" } else { "," };
        // Writing to a `String` cannot fail.
        let _written = write!(text, "{comma}{item}");
    }
    text + after
}

/// One of the spellings of a word that differ in letters' case.
fn variant(number: usize) -> String {
    let letter = |(at, c): (usize, char)| {
        if (number >> at) & 1 == 1 { c.to_ascii_uppercase() } else { c }
    };
    "abcdefghijklmnopqrstu".chars().enumerate().map(letter).collect()
}
