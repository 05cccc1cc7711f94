//! Bodies: what the strict reader accepts must mean the same to every lenient one.

#![no_main]

#[path = "../../lenient.rs"]
mod lenient;

use lenient::What;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use mcp_authz::json::Json;
use mcp_authz::mcp::{self, Accept, AppliesTo, Message, MirroredHeaders, RequestId};
use serde_json::Value;
use sonic_rs::{JsonContainerTrait as _, JsonValueTrait as _, PointerNode, pointer};

/// All that can be accepted.
const MOST: Accept = Accept { max_depth: 512, batches: true, ..Accept::USUAL };
/// The same, if prompts and resources are judged.
const ALL: Accept =
    Accept { governed: AppliesTo { prompts: true, resources: true, methods: false }, ..MOST };
/// The settings that apply unless a policy sets others.
const USUAL: Accept = Accept { max_depth: 64, batches: false, ..Accept::USUAL };
/// The deepest nesting that `serde_json` reads.
const SERDE_DEPTH: usize = 127;
/// A name that headers can repeat.
const NAME: &str = "good";

/// Names of members that some readers may match with a key that they need.
const KEYS: [&str; 22] = [
    "name",
    "NAME",
    "Name",
    r"n\u0061me",
    r"name\u0000",
    "method",
    "METHOD",
    r"method\u0000",
    "params",
    "PARAMS",
    "param\u{17f}",
    "arguments",
    "uri",
    "URI",
    "ref",
    "type",
    "notifications",
    "resourceSubscriptions",
    "_meta",
    "id",
    "jsonrpc",
    "x",
];
const VALUES: [&str; 12] = [
    r#""bad""#,
    r#""good""#,
    r#""tools/call""#,
    r#""tools/call\u0000""#,
    r#"{"name":"bad"}"#,
    r#"{"method":"tools/call","params":{"name":"bad"}}"#,
    r#""resources/read""#,
    r#""ref/resource""#,
    r#"{"type":"ref/prompt","name":"bad"}"#,
    r#"{"resourceSubscriptions":["a:b"]}"#,
    "{}",
    "1",
];

fuzz_target!(|body: &[u8]| {
    if let Some(id) = RequestId::read(body) {
        assert_eq!(lenient::id_disagreement(body, &id), None);
    }

    let no_headers = MirroredHeaders::default();
    let most = mcp::read(body, &no_headers, MOST);
    if let Ok(message) = &most {
        let disagreement = lenient::disagreement(body, message, What::Tools);
        assert_eq!(disagreement, None);
        serde_agrees(body, message);
        simd_agrees(body, message);
        arguments_agree(body, message);
    }

    if let Ok(message) = mcp::read(body, &no_headers, ALL) {
        let disagreement = lenient::disagreement(body, &message, What::All);
        assert_eq!(disagreement, None);
    }

    // Settings and headers only ever refuse more.
    let ours = most.as_ref().ok().map(lenient::ours);
    let mut mirrored = MirroredHeaders::default();
    mirrored.add("mcp-name", NAME.as_bytes());
    for (headers, accept) in [(&no_headers, USUAL), (&mirrored, MOST)] {
        if let Ok(message) = mcp::read(body, headers, accept) {
            assert_eq!(Some(lenient::ours(&message)), ours);
        }
    }
    if let Ok(Message::Calls(calls)) = mcp::read(body, &mirrored, USUAL) {
        let call = &calls[0];
        assert_eq!(call.name, NAME, "what is in front has read another name in the header");
    }
});

// Bytes that are changed at random are seldom JSON with a member more.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let [choice, place, key, value] = seed.to_le_bytes().map(usize::from);
    let starts = data.iter().take(size).enumerate().filter(|(_, byte)| **byte == b'{');
    let starts: Vec<usize> = starts.map(|(index, _)| index + 1).collect();
    if choice % 4 != 0 || starts.is_empty() {
        return fuzzer_mutate(data, size, max_size);
    }
    let at = starts[place % starts.len()];
    let (key, value) = (KEYS[key % KEYS.len()], VALUES[value % VALUES.len()]);
    let comma = if data[at..size].starts_with(b"}") { "" } else { "," };
    let member = format!("\"{key}\":{value}{comma}");
    if size + member.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data.copy_within(at..size, at + member.len());
    data[at..at + member.len()].copy_from_slice(member.as_bytes());
    size + member.len()
});

fn serde_agrees(body: &[u8], message: &Message<'_>) {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => assert_eq!(lenient::tools_of(&value), lenient::ours(message), "serde_json"),
        Err(error) => {
            let shallow = Accept { max_depth: SERDE_DEPTH, ..MOST };
            let ours = mcp::read(body, &MirroredHeaders::default(), shallow);
            assert!(ours.is_err(), "we accept what serde_json refuses: {error}");
        }
    }
}

/// A reader that compares many bytes at once, and one that looks only for what it
/// is asked for and skips the rest unread.
fn simd_agrees(body: &[u8], message: &Message<'_>) {
    if let Ok(value) = sonic_rs::from_slice::<sonic_rs::Value>(body) {
        let one = [value.clone()];
        let messages = value.as_array().map_or(one.as_slice(), |batch| batch.as_slice());
        let tool = |message: &sonic_rs::Value| {
            let text = |path: &[PointerNode]| {
                message.pointer(path).as_str().unwrap_or_default().to_owned()
            };
            let is_call = lenient::is_call(&text(&pointer!["method"]));
            is_call.then(|| text(&pointer!["params", "name"]))
        };
        let tools: Vec<String> = messages.iter().filter_map(tool).collect();
        assert_eq!(tools, lenient::ours(message), "sonic-rs");
    }
    let lazily = |path: &[PointerNode]| {
        let found = sonic_rs::get(body, path).ok()?;
        found.as_str().map(str::to_owned)
    };
    if matches!(message, Message::Batch(_)) {
        return;
    }
    let method = lazily(&pointer!["method"]).unwrap_or_default();
    let name = || lazily(&pointer!["params", "name"]).unwrap_or_default();
    let tools: Vec<String> = lenient::is_call(&method).then(name).into_iter().collect();
    assert_eq!(tools, lenient::ours(message), "sonic-rs, lazily");
}

fn arguments_agree(body: &[u8], message: &Message<'_>) {
    let Message::Calls(calls) = message else { return };
    let given = &calls[0].parameters;
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    let params = &value["params"];
    for (ours, theirs) in [
        (&given.arguments, &params["arguments"]),
        (&given.meta, &params["_meta"]),
        (&given.params, params),
    ] {
        // What it refuses no condition sees.
        let mut allowance = usize::MAX;
        let Ok(ours) = ours.get(&mut allowance) else { continue };
        let ours = ours.unwrap();
        // There is none where there is no object.
        assert_eq!(ours.len(), theirs.as_object().map_or(0, serde_json::Map::len));
        for (key, ours) in ours.iter() {
            let (ours, theirs) = (ours.tree(&mut allowance).unwrap(), &theirs[key]);
            assert!(same(ours, theirs), "{ours:?} is not {theirs}");
        }
    }
}

fn same(ours: &Json<'_>, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(ours), Value::Bool(theirs)) => ours == theirs,
        (Json::Int(ours), Value::Number(theirs)) => {
            theirs.as_i64().map_or(*ours == 0 && theirs.as_f64() == Some(0.0), |it| it == *ours)
        }
        // serde_json rounds in the last digit, unless it is asked not to.
        (Json::Double(ours) | Json::Inexact(ours), Value::Number(theirs)) => {
            theirs.as_f64().is_some_and(|theirs| {
                (ours - theirs).abs() <= ours.abs() * 4.0 * f64::EPSILON + f64::MIN_POSITIVE
            })
        }
        (Json::String(ours), Value::String(theirs)) => ours == theirs,
        (Json::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| same(ours, theirs))
        }
        (Json::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .all(|(key, ours)| theirs.get(key).is_some_and(|theirs| same(ours, theirs)))
        }
        _ => false,
    }
}
