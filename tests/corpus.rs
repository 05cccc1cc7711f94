//! Decisions, each with its verdict, reason, rule and challenge.
//!
//! A folder of tests/corpus holds a `policy.yaml` and `cases.json`, a list of
//!
//! ```json
//! {"case": "what it shows",
//!  "claims": {"scope": "a"},                        null or left out: no token
//!  "call": {"tool": "echo", "arguments": {}},       or "body": "the raw body", or
//!  "message": {"method": "ping", "params": {}},     completed by jsonrpc and id
//!  "headers": {"mcp-name": "echo"},                 may be left out, as may
//!  "httpMethod": "GET",                             these; default: POST, "": not sent
//!  "host": "a.b", "path": "/mcp", "route": "r",     left out: Envoy did not send it
//!  "attributes": {"xds.cluster_name": "a"},         what Envoy sends
//!  "policy": "name",                                what its metadata names
//!  "expect": ["Allow", "allow_rule", "rules[0]", null]}
//! ```
//!
//! where `expect` is decision (Allow, Deny, or Shadow: denied but it goes on),
//! reason, rule and scopes of the challenge.

use std::fs;
use std::path::{Path, PathBuf};

use mcp_authz::claims::Claims;
use mcp_authz::config;
use mcp_authz::gate::{Gate, RequestDecision};
use mcp_authz::head::Head;
use serde_json::{Value, json};

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn body(case: &Value) -> String {
    match (&case["body"], &case["message"]) {
        (Value::String(body), _) => body.clone(),
        (_, Value::Object(message)) => {
            let mut message = message.clone();
            message.insert("jsonrpc".to_owned(), "2.0".into());
            message.entry("id").or_insert(1.into());
            json!(message).to_string()
        }
        _ => {
            let call = &case["call"];
            let params = json!({"name": call["tool"], "arguments": call["arguments"]});
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string()
        }
    }
}

fn decide(gate: &Gate, case: &Value) -> Value {
    let claims = case["claims"].as_object().map(Claims::from_json);
    let headers = case["headers"].as_object().into_iter().flatten();
    let attributes = case["attributes"].as_object().into_iter().flatten();
    let text = |key: &str| case[key].as_str().map(str::to_owned);
    let body = body(case);
    let head = Head {
        method: text("httpMethod").map_or("POST".into(), |method| {
            Some(method).filter(|method| !method.is_empty()).into()
        }),
        host: text("host").into(),
        path: text("path").into(),
        has_body: !body.is_empty(),
        headers: headers
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().into()))
            .collect(),
        attributes: attributes
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().into()))
            .collect(),
        policy: text("policy"),
        traceparent: None,
    }
    .with_usual_headers()
    .on_route(case["route"].as_str());
    let admitted = match gate.admit(head, claims) {
        Ok(admitted) => admitted,
        Err(turned_away) => return verdict(case, &turned_away.judgement, None),
    };
    let judgement = gate.authorize(&admitted, body.as_bytes());
    let Some(judged) = judgement.deciding_call() else { return verdict(case, &judgement, None) };
    let evaluation = &judged.evaluation;
    let rule = evaluation.rule_label();
    let subject = admitted.subject(&judged.call).unwrap();
    let facts = admitted.facts(&subject);
    let explained = evaluation.explain(&facts);
    let decided = explained.iter().find(|rule| rule.decided).map(|rule| rule.label.clone());
    assert_eq!(decided, rule, "{case}");
    if judgement.calls.len() == 1 && judgement.shadowed.is_none() {
        let permit = evaluation.decision.permit();
        assert_eq!(permit.is_ok(), judgement.answer.is_ok(), "{case}");
    }
    verdict(case, &judgement, rule.as_deref())
}

/// A judgement in the four words of a case.
fn verdict(case: &Value, judgement: &RequestDecision<'_, '_>, rule: Option<&str>) -> Value {
    let Some(refusal) = judgement.refusal() else {
        let evaluation = judgement.deciding_call().map(|judged| &judged.evaluation);
        let reason = evaluation.map_or("not_governed", |found| found.decision.reason().as_str());
        return json!(["Allow", reason, rule, null]);
    };
    let scopes = Some(&refusal.required_scopes).filter(|scopes| !scopes.is_empty());
    let is_challenged = refusal.status == 403 && refusal.www_authenticate.is_some();
    assert_eq!(scopes.is_some(), is_challenged, "{case}");
    let verdict = if judgement.shadowed.is_some() { "Shadow" } else { "Deny" };
    json!([verdict, refusal.reason, rule, scopes])
}

#[test]
fn every_case_is_decided_as_it_says() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for folder in folders() {
        let gate =
            config::load(&folder.join("policy.yaml")).unwrap_or_else(|error| panic!("{error}"));
        let cases = fs::read_to_string(folder.join("cases.json")).unwrap();
        let cases: Vec<Value> = serde_json::from_str(&cases)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for case in cases {
            count += 1;
            let decided = decide(&gate, &case);
            if decided != case["expect"] {
                let name = folder.file_name().unwrap().to_string_lossy();
                wrong.push(format!(
                    "{name}: {}\n  expected {}\n  decided  {decided}",
                    case["case"], case["expect"]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 60, "the corpus lost cases: {count}");
}
