//! Bodies made to be read in several ways: what is let through means the same to
//! every reader. `tests/fuzz/targets/body.rs` looks for the same with any bytes.

use std::cell::{Cell, RefCell};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mcp_authz::json::fold_eq;
use mcp_authz::mcp::{self, Accept, AppliesTo, MirroredHeaders, RequestId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::lenient::{self, What};

const CASES: u32 = 1500;

/// Answers each body, a line of base64, by the tools that it calls: as Python reads
/// it, and as Python reads it if the first of several keys counts. Null: it refuses.
const PYTHON: &str = r#"
import base64, json, sys

def first(pairs):
    found = {}
    for key, value in pairs:
        found.setdefault(key, value)
    return found

def text(value):
    value = value if isinstance(value, str) else ""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

def tools(body, hook):
    try:
        value = json.loads(body, object_pairs_hook=hook)
    except (ValueError, RecursionError):
        return None
    messages = [m for m in (value if isinstance(value, list) else [value]) if isinstance(m, dict)]
    calls = [m for m in messages if text(m.get("method")).strip().lower() == "tools/call"]
    params = [m.get("params") for m in calls]
    return [text(p.get("name")) if isinstance(p, dict) else "" for p in params]

for line in sys.stdin:
    body = base64.b64decode(line)
    print(json.dumps([tools(body, dict), tools(body, first)]), flush=True)
"#;

struct Python {
    process: Child,
    bodies: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Python {
    fn start() -> Self {
        let mut process = Command::new("python3")
            .args(["-c", PYTHON])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("python3 is needed to compare with its json: {error}"));
        let bodies = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, bodies, answers }
    }

    fn read(&mut self, body: &[u8]) -> [Option<Vec<String>>; 2] {
        writeln!(self.bodies, "{}", STANDARD.encode(body)).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("python3 has failed: {error}"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It has ended by itself if it failed.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Mostly the first of them.
fn mostly<T: std::fmt::Debug + Clone + 'static>(
    usual: impl Strategy<Value = T> + 'static,
    unusual: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = T> {
    prop_oneof![15 => usual, 1 => unusual]
}

/// A string of JSON, with some of its characters written as escapes.
fn quoted(text: String) -> impl Strategy<Value = String> {
    mostly(Just(0u32), any::<u32>()).prop_map(move |escaped| {
        let character = |(index, c): (usize, char)| {
            if (escaped >> (index % 32)) & 1 == 1 || c.is_control() || c == '"' || c == '\\' {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04X}")).collect()
            } else {
                c.to_string()
            }
        };
        format!("\"{}\"", text.chars().enumerate().map(character).collect::<String>())
    })
}

/// A key, or one that somebody could take for it.
fn key(name: &'static str) -> impl Strategy<Value = String> {
    let replaced = |from: &'static str, to: &'static str| name.replace(from, to);
    let variants = [
        name.to_uppercase(),
        replaced("m", "M"),
        replaced("s", "ſ"),
        replaced("i", "İ"),
        replaced("i", "ı"),
        replaced("a", "а"),
        format!("{name}\0"),
        format!("{name}\0x"),
        format!(" {name}"),
        format!("{name}\u{200b}"),
        String::new(),
    ];
    mostly(Just(name.to_owned()), select(variants.to_vec())).prop_flat_map(quoted)
}

/// Generates a value for the tool's name or the method: mostly a usual one, otherwise an odd one.
fn word(usual: &'static [&'static str]) -> impl Strategy<Value = String> {
    const ODD: &[&str] = &[
        r#""bad\u0000""#,
        r#""good\u0000bad""#,
        r#""\ud83d\ude00""#,
        r#""\ud800""#,
        r#""\udc00\ud800x""#,
        "\"a\u{1}\"",
        r#""a\x62""#,
        r#""""#,
        "'bad'",
        "null",
        "7",
        "NaN",
        r#"["bad"]"#,
        r#"{"name":"bad"}"#,
    ];
    let usual = select(usual).prop_map(str::to_owned).prop_flat_map(quoted);
    mostly(usual, select(ODD).prop_map(str::to_owned))
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        60 => Just(""),
        8 => select(&[" ", "\t", "\r\n", "  "][..]),
        1 => select(&["\u{feff}", "\u{b}", "\u{a0}", "/**/", "//\n", "\0", ","][..]),
    ]
}

type Member = (String, String);

fn member(
    name: &'static str,
    value: impl Strategy<Value = String> + 'static,
) -> BoxedStrategy<Member> {
    (key(name), value).boxed()
}

/// An object of these members in any order; some are missing, or there twice.
fn object(members: Vec<BoxedStrategy<Member>>) -> BoxedStrategy<String> {
    let repeated: Vec<_> = members.into_iter().map(repeated).collect();
    repeated
        .prop_map(|members| members.into_iter().flatten().collect::<Vec<_>>())
        .prop_shuffle()
        .prop_flat_map(|members| (Just(members), vec(space(), 4)))
        .prop_map(|(members, spaces)| {
            let text = |(key, value): &Member| {
                format!("{}{key}{}:{}{value}", spaces[0], spaces[1], spaces[2])
            };
            let members: Vec<String> = members.iter().map(text).collect();
            format!("{{{}{}}}", members.join(","), spaces[3])
        })
        .boxed()
}

fn repeated(member: BoxedStrategy<Member>) -> BoxedStrategy<Vec<Member>> {
    let times = mostly(Just(1usize), select(&[0usize, 2][..]));
    times.prop_flat_map(move |times| vec(member.clone(), times)).boxed()
}

fn params(deeper: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let arguments = mostly(
        deeper,
        select(&["{}", "null", "[]", r#"{"a":1,"a":2}"#][..]).prop_map(str::to_owned),
    );
    object(vec![member("name", word(&["good", "bad", "äö"])), member("arguments", arguments)])
}

fn id() -> impl Strategy<Value = String> {
    const IDS: &[&str] = &["1", "2", "1.0", "-7e0", r#""a""#, r#""1""#];
    let odd = select(&["null", "true", "[]", "1e400", "01", "1x"][..]);
    mostly(select(IDS), odd).prop_map(str::to_owned)
}

fn message() -> BoxedStrategy<String> {
    const METHODS: &[&str] =
        &["tools/call", "tools/call", "tools/call", "initialize", "Tools/Call"];
    let plain = Just("{}".to_owned()).boxed();
    let of = |params: BoxedStrategy<String>, look_alike: BoxedStrategy<String>| {
        object(vec![
            member("jsonrpc", mostly(Just(r#""2.0""#.to_owned()), word(&["2", "1.0"]))),
            member("id", id()),
            member("method", word(METHODS)),
            member("params", params),
            mostly(member("x", look_alike), member("result", Just("1".to_owned()))).boxed(),
        ])
    };
    let within = of(params(plain.clone()), plain.clone());
    let deep = (0usize..80).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth)).boxed();
    of(params(within.clone()), prop_oneof![within, plain, deep].boxed())
}

const DAMAGE: &[&[u8]] = &[b"\xff", b"\xc0\xa2", b"\xed\xa0\x80", b"\0", b"\"", b"", b"}"];

/// A body, perhaps damaged.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let messages = mostly(
        message().boxed(),
        vec(message(), 0..4).prop_map(|batch| format!("[{}]", batch.join(","))).boxed(),
    );
    let around = (space(), space(), mostly(Just(String::new()).boxed(), message()));
    let whole = (messages, around)
        .prop_map(|(message, (before, after, second))| format!("{before}{message}{after}{second}"));
    #[derive(Debug, Clone)]
    enum Damage {
        None,
        Replace(prop::sample::Index, Vec<u8>),
        CutOff(prop::sample::Index),
        Utf16,
    }
    let bytes = select(DAMAGE);
    let damage = mostly(
        Just(Damage::None),
        prop_oneof![
            (any::<prop::sample::Index>(), bytes)
                .prop_map(|(at, by)| Damage::Replace(at, by.to_vec())),
            any::<prop::sample::Index>().prop_map(Damage::CutOff),
            Just(Damage::Utf16),
        ],
    );
    (whole, damage).prop_map(|(text, damage)| {
        let mut body = text.into_bytes();
        match damage {
            Damage::None => {}
            Damage::Replace(at, by) => {
                let at = at.index(body.len());
                body.splice(at..=at, by);
            }
            Damage::CutOff(at) => body.truncate(at.index(body.len())),
            Damage::Utf16 => {
                let text = String::from_utf8_lossy(&body).into_owned();
                body = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            }
        }
        body
    })
}

#[test]
fn what_is_let_through_is_the_same_call_to_every_reader() {
    let python = RefCell::new(Python::start());
    let (accepted, calls) = (Cell::new(0u32), Cell::new(0u32));
    let config =
        ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&(body(), any::<bool>()), |(body, batches)| {
        let headers = MirroredHeaders::default();
        let Ok(message) =
            mcp::read(&body, &headers, Accept { max_depth: 64, batches, ..Accept::USUAL })
        else {
            return Ok(());
        };
        accepted.set(accepted.get() + 1);
        let ours = lenient::ours(&message);
        calls.set(calls.get() + u32::from(!ours.is_empty()));
        prop_assert_eq!(lenient::disagreement(&body, &message, What::Tools), None);
        let strict: Value = serde_json::from_slice(&body).expect("what we accept is JSON");
        prop_assert_eq!(&lenient::tools_of(&strict), &ours, "serde_json");
        for theirs in python.borrow_mut().read(&body) {
            let theirs = theirs.expect("what we accept Python accepts");
            prop_assert_eq!(&theirs, &ours, "Python");
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(
        accepted.get() > CASES / 20 && calls.get() > CASES / 50,
        "too few bodies are accepted to say anything: {} of {CASES}, {} of them calls",
        accepted.get(),
        calls.get()
    );
}

/// An error that answers to an id must answer to the one that the client sent, however the
/// body is damaged.
#[test]
fn readers_agree_on_answered_id() {
    const CASES: u32 = 4000;
    let damage = vec((any::<prop::sample::Index>(), select(DAMAGE)), 0..3);
    let damaged = (body(), damage).prop_map(|(mut body, damage)| {
        for (at, by) in damage {
            let at = at.index(body.len() + 1);
            body.splice(at..at, by.iter().copied());
        }
        body
    });
    let (known, rejected) = (Cell::new(0u32), Cell::new(0u32));
    let config =
        ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&damaged, |body| {
        let Some(id) = RequestId::read(&body) else { return Ok(()) };
        known.set(known.get() + 1);
        let disagreement = lenient::id_disagreement(&body, &id);
        prop_assert_eq!(disagreement, None, "{}", String::from_utf8_lossy(&body));
        if let Err(malformed) = mcp::read(&body, &MirroredHeaders::default(), Accept::USUAL) {
            rejected.set(rejected.get() + 1);
            prop_assert_eq!(malformed.id, Some(id));
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(
        known.get() > CASES / 8 && rejected.get() > CASES / 16,
        "too few ids are known to say anything: {} of {CASES}, {} in rejected bodies",
        known.get(),
        rejected.get()
    );
}

/// A message that asks for a prompt or resources, by any of their methods.
fn feature() -> BoxedStrategy<String> {
    const URI: &[&str] = &["a:good", "a:bad", "a:äö"];
    const METHODS: [&str; 6] = [
        "prompts/get",
        "resources/read",
        "resources/subscribe",
        "completion/complete",
        "subscriptions/listen",
        "Resources/Read",
    ];
    const PROMPT: &[&str] = &["ref/prompt", "ref/prompt", "ref/tool"];
    const RESOURCE: &[&str] = &["ref/resource", "ref/resource", "ref/tool"];
    let name = || member("name", word(&["good", "bad", "äö"]));
    let uri = || member("uri", word(URI));
    let reference = prop_oneof![
        object(vec![member("type", word(PROMPT)), name()]),
        object(vec![member("type", word(RESOURCE)), uri()]),
        object(vec![member("type", word(RESOURCE)), uri(), name()]),
    ];
    let uris = vec(word(URI), 0..3).prop_map(|uris| format!("[{}]", uris.join(",")));
    let uris = mostly(uris.boxed(), select(&["null", "{}", "1"][..]).prop_map(str::to_owned));
    let notifications = object(vec![member("resourceSubscriptions", uris)]);
    let params = object(vec![
        name(),
        uri(),
        member("ref", reference),
        member("notifications", notifications),
    ]);
    let method = select(METHODS.as_slice()).prop_map(|method| format!("\"{method}\""));
    object(vec![
        member("jsonrpc", Just(r#""2.0""#.to_owned())),
        member("id", Just("1".to_owned())),
        member("method", method),
        member("params", params),
    ])
}

#[test]
fn a_prompt_or_resource_that_is_let_through_is_the_same_to_every_reader() {
    let governed = AppliesTo { prompts: true, resources: true, methods: false };
    let accept = Accept { governed, ..Accept::USUAL };
    let calls = Cell::new(0u32);
    let config =
        ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&feature(), |body| {
        let Ok(message) = mcp::read(body.as_bytes(), &MirroredHeaders::default(), accept) else {
            return Ok(());
        };
        calls.set(calls.get() + u32::from(!lenient::ours(&message).is_empty()));
        prop_assert_eq!(lenient::disagreement(body.as_bytes(), &message, What::All), None);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(calls.get() > CASES / 50, "too few: {} of {CASES}", calls.get());
}

/// Whatever one of them unites, we do.
#[test]
fn no_reader_that_ignores_case_takes_more_keys_for_the_same() {
    for c in char::MIN..=char::MAX {
        for same in [lenient::java(c), lenient::go(c)].into_iter().filter(|&same| same != c) {
            let (c, same) = (format!("a{c}"), format!("A{same}"));
            assert!(fold_eq(&c, &same), "{} {}", c.escape_unicode(), same.escape_unicode());
        }
    }
}

/// The lenient readers themselves: each sees what it is there to see.
#[test]
fn lenient_readers_are_lenient() {
    let seen = |body: &str| {
        let values = lenient::values(body.as_bytes());
        let all = lenient::Habits::all().flat_map(|habits| habits.asked(&values, What::Tools));
        let mut all: Vec<String> = all.collect();
        all.sort();
        all.dedup();
        all
    };
    let call = |params: &str| format!(r#"{{"method":"tools/call",{params}}}"#);
    for (params, expected) in [
        (r#""params":{"name":"a","name":"b"}"#, &["a", "b"][..]),
        (r#""params":{"name":"a","NAME":"b"}"#, &["a", "b"]),
        (r#""params":{"name":"a"},"paramſ":{"name":"b"}"#, &["a", "b"]),
        (r#""params":{"name":"a"},"p\u0061rams":{}"#, &["", "a"]),
        (r#""params":{"name":"a\u0000b"}"#, &["a", "a\0b"]),
        (r#""params":{"name":"a","name\u0000x":"b"}"#, &["a", "b"]),
        (r#"/* "params":{}, */ 'params':{name:'a',}"#, &["a"]),
        (r#""params":{"name":"a\ud800"}"#, &["a\u{fffd}"]),
    ] {
        assert_eq!(seen(&call(params)), expected, "{params}");
    }
    let one = call(r#""params":{"name":"a"}"#);
    assert_eq!(seen(&format!("\u{feff}{one}")), ["a"]);
    assert_eq!(seen(&format!("{{}}{one}")), ["a"]);
    assert_eq!(seen(&format!("[{one},1]")), ["a"]);
    assert_eq!(seen(&one[..one.len() - 2]), ["a"], "cut off");
    assert_eq!(seen(&one.replace("tools/", "TOOLS/")), ["a"]);
    assert_eq!(seen(&one.replace("method", "x")), [""; 0]);
}
