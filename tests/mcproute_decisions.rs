//! Decisions of MCPRoute documents beside those of the reference, Agent Router 1.2: no
//! request that it denies is allowed.
//!
//! A line of a JSONL file is
//!
//! ```json
//! {"case": "the subject",                        may be left out
//!  "document": {"kind": "MCPRoute"},
//!  "requests": [
//!    {"method": "POST", "path": "/mcp", "host": "a.b",
//!     "headers": [["x-a", "1"], ["x-a", "2"]],   in order, repeated ones apart
//!     "claims": "{\"scope\":\"a\"}",             the verified payload; null: no token
//!     "body": "{\"jsonrpc\":\"2.0\"}",
//!     "v1.2": {"allow": false, "status": 403, "scopes": ["b"]}}]}
//! ```
//!
//! `tests/mcproute_decisions.jsonl` is decided exactly as its verdicts say. A file, or a folder
//! with `decisions*.jsonl`, in `MCPROUTE_DECISIONS` may hold requests that are decided more
//! strictly; a table of these shows with `--nocapture`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use mcp_authz::claims::Claims;
use mcp_authz::config;
use mcp_authz::gate::{AdmittedRequest, Gate, RequestDecision};
use mcp_authz::head::{Head, Header};
use serde_json::Value;

const OWN: &str = "tests/mcproute_decisions.jsonl";
const MORE: &str = "MCPROUTE_DECISIONS";

/// The answer of mcp-authz to a request.
struct Answer {
    /// 200: the request continues.
    status: u16,
    scopes: Vec<String>,
    /// The reason, with what each condition said.
    why: String,
}

impl Answer {
    fn is_allow(&self) -> bool {
        self.status == 200
    }
}

/// Differences of one kind.
#[derive(Default)]
struct Group {
    count: usize,
    example: String,
}

#[derive(Default)]
struct Table {
    equal: usize,
    looser: BTreeMap<String, Group>,
    stricter: BTreeMap<String, Group>,
}

impl Table {
    fn add(&mut self, place: &str, expected: &Value, answer: &Answer) {
        let groups = match (expected["allow"].as_bool().unwrap(), answer.is_allow()) {
            (true, false) => &mut self.stricter,
            (false, true) => &mut self.looser,
            _ => {
                self.equal += 1;
                return;
            }
        };
        let group = groups.entry(kind(&answer.why)).or_default();
        group.count += 1;
        if group.example.is_empty() {
            group.example = format!("{place}: {}", answer.why);
        }
    }

    fn text(&self) -> String {
        let count = |groups: &BTreeMap<String, Group>| -> usize {
            groups.values().map(|group| group.count).sum()
        };
        let mut text = format!(
            "equal {}, looser {}, stricter {}\n",
            self.equal,
            count(&self.looser),
            count(&self.stricter)
        );
        for (side, groups) in [("looser", &self.looser), ("stricter", &self.stricter)] {
            for (kind, Group { count, example }) in groups {
                writeln!(text, "{side:>8} {count:>5}  {kind}\n                {example}").unwrap();
            }
        }
        text
    }
}

/// The reason of an answer without the conditions, whose texts differ in each document.
fn kind(why: &str) -> String {
    let (reason, conditions) = why.split_once('\n').unwrap_or((why, ""));
    let errors = conditions.lines().filter_map(|line| line.split_once(" => error: "));
    let error = errors.map(|(_, error)| error.chars().take(60).collect::<String>()).next_back();
    error.map_or_else(|| reason.to_owned(), |error| format!("{reason}: {error}"))
}

/// The lines of a file, or of each `decisions*.jsonl` of a folder.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| {
        panic!("{}: {error}; {MORE} names a file or folder", path.display())
    });
    let is_decisions = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("decisions") && name.ends_with(".jsonl")
    };
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(is_decisions).collect();
    files.sort();
    assert!(!files.is_empty(), "{}: no decisions*.jsonl is there", path.display());
    files
}

fn lines(path: &Path) -> Vec<(String, Value)> {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let line = |(number, line): (usize, &str)| {
        let place = format!("{}:{}", path.display(), number + 1);
        let value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{place}: {error}"));
        (place, value)
    };
    text.lines().enumerate().map(line).collect()
}

/// Loads a document, or says why it cannot be loaded.
///
/// `oauth` is left out: in the reference, Envoy compares issuer and audience before its engine
/// decides, and the claims of these requests name neither.
fn gate(document: &Value) -> Result<Gate, String> {
    let mut document = document.clone();
    let security = document.pointer_mut("/spec/securityPolicy").and_then(Value::as_object_mut);
    security.into_iter().for_each(|security| drop(security.remove("oauth")));
    config::parse(&document.to_string()).map_err(|error| {
        let findings = error.to_string();
        let message = findings.lines().next().unwrap_or_default();
        format!("not loaded: {}", message.splitn(3, ": ").last().unwrap_or_default())
    })
}

fn head(request: &Value) -> Head {
    let text = |key: &str| request[key].as_str().unwrap().to_owned();
    let headers = request["headers"].as_array().unwrap().iter().map(|pair| {
        let part = |index: usize| pair[index].as_str().unwrap();
        (part(0).to_ascii_lowercase(), part(1).as_bytes().to_vec())
    });
    let mut head = Head {
        method: text("method").into(),
        host: text("host").into(),
        path: text("path").into(),
        headers: headers.collect(),
        has_body: true,
        ..Head::default()
    };
    // Without the headers of every client, a 500 says that Envoy sends none.
    if head.values_of(Header::ContentType).next().is_none() {
        head.headers.push((Header::Accept.name().to_owned(), b"application/json".to_vec()));
    }
    head
}

fn answer(gate: &Gate, request: &Value) -> Answer {
    let payload = request["claims"].as_str();
    let claims = payload.map(|payload| Claims::from_json(&serde_json::from_str(payload).unwrap()));
    match gate.admit(head(request), claims) {
        Ok(admitted) => {
            let body = request["body"].as_str().unwrap();
            given(&gate.authorize(&admitted, body.as_bytes()), Some(&admitted))
        }
        Err(turned_away) => given(&turned_away.judgement, None),
    }
}

fn given(judgement: &RequestDecision<'_, '_>, admitted: Option<&AdmittedRequest>) -> Answer {
    let refusal = judgement.refusal();
    let mut why = match (refusal, judgement.deciding_call()) {
        (Some(refusal), _) => refusal.reason.to_owned(),
        (None, Some(judged)) => judged.evaluation.decision.reason().to_string(),
        (None, None) => "not governed".to_owned(),
    };
    if let (Some(judged), Some(admitted)) = (judgement.deciding_call(), admitted) {
        let subject = admitted.subject(&judged.call).unwrap();
        for rule in judged.evaluation.explain(&admitted.facts(&subject)) {
            let Some(cel) = rule.cel else { continue };
            let said = match cel.outcome {
                None => "not evaluated".to_owned(),
                Some(Ok(value)) => value.to_string(),
                Some(Err(error)) => format!("error: {error}"),
            };
            write!(why, "\n{}: {} => {said}", rule.label, cel.source).unwrap();
        }
    }
    let scopes = refusal.map(|refusal| refusal.required_scopes.clone()).unwrap_or_default();
    Answer { status: refusal.map_or(200, |refusal| refusal.status), scopes, why }
}

#[test]
fn own_requests_match_agent_router() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (place, line) in lines(Path::new(OWN)) {
        let gate = gate(&line["document"]).unwrap_or_else(|error| panic!("{place}: {error}"));
        for request in line["requests"].as_array().unwrap() {
            count += 1;
            let answer = answer(&gate, request);
            let expected = &request["v1.2"];
            let scopes: Vec<&str> = expected["scopes"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|scope| scope.as_str().unwrap())
                .collect();
            assert_eq!(expected["allow"], expected["status"] == 200, "{place}");
            // A malformed call is a 400 there, and denied here where a condition reads it.
            if expected["allow"] != answer.is_allow() || scopes != answer.scopes {
                wrong.push(format!(
                    "{place}: {}\n  {request}\n  decided {} {:?} {}",
                    line["case"], answer.status, answer.scopes, answer.why
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} requests:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 60, "the file lost requests: {count}");
}

#[test]
fn no_request_is_decided_more_leniently() {
    let path = std::env::var_os(MORE).unwrap_or_else(|| OWN.into());
    let mut table = Table::default();
    for (place, line) in files(Path::new(&path)).iter().flat_map(|path| lines(path)) {
        let gate = gate(&line["document"]);
        for (number, request) in line["requests"].as_array().unwrap().iter().enumerate() {
            let answer = match &gate {
                Ok(gate) => answer(gate, request),
                Err(why) => Answer { status: 403, scopes: Vec::new(), why: why.clone() },
            };
            table.add(&format!("{place}, request {number}"), &request["v1.2"], &answer);
        }
    }
    let text = table.text();
    println!("{text}");
    assert!(table.equal > 0, "{text}");
    assert!(table.looser.is_empty(), "{text}");
}
