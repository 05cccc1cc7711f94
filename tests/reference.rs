//! The cases of the reference (envoyproxy/ai-gateway), in its own format, decided
//! alike by the library (see corpus.rs), by `check`, and through Envoy.

use std::fs;

use serde_json::{Value, json};

use crate::cli::{run, text};
use crate::support::{Http, MODES, TOKEN_OPTIONAL, TOKEN_REQUIRED, change, issuer, send, start};

const GENERATIONS: [&str; 2] = ["reference-when", "reference-cel"];

fn cases(folder: &str) -> Vec<Value> {
    let cases = fs::read_to_string(format!("tests/corpus/{folder}/cases.json")).unwrap();
    serde_json::from_str(&cases).unwrap()
}

fn body(case: &Value) -> String {
    let params = json!({"name": case["call"]["tool"], "arguments": case["call"]["arguments"]});
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string()
}

fn headers(case: &Value) -> impl Iterator<Item = (&str, &str)> {
    let headers = case["headers"].as_object().into_iter().flatten();
    headers.map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
}

#[test]
fn check_decides_as_the_library_does() {
    for folder in GENERATIONS {
        for case in cases(folder) {
            let policy = format!("tests/corpus/{folder}/policy.yaml");
            let path = case["path"].as_str().unwrap();
            let mut arguments: Vec<String> = [
                "check",
                "--policy",
                &policy,
                "--request",
                "-",
                "--output",
                "json",
                "--path",
                path,
            ]
            .map(str::to_owned)
            .into();
            if case["claims"].is_object() {
                arguments.extend(["--claims".to_owned(), case["claims"].to_string()]);
            }
            if let Some(host) = case["host"].as_str() {
                arguments.extend(["--host".to_owned(), host.to_owned()]);
            }
            for (name, value) in headers(&case) {
                arguments
                    .extend(["--header".to_owned(), format!("{}: {value}", name.to_uppercase())]);
            }
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let output = run(&arguments, &body(&case));
            let found: Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| panic!("{case}: {error}: {}", text(&output.stderr)));
            let scopes = match &found["requiredScopes"] {
                Value::Array(scopes) if scopes.is_empty() => &Value::Null,
                scopes => scopes,
            };
            let found = json!([found["decision"], found["reason"], found["rule"], scopes]);
            assert_eq!(found, case["expect"], "{folder}: {case}");
        }
    }
}

/// Header names in capitals on the wire, tokens that are signed, missing or
/// opaque.
#[tokio::test]
async fn envoy_lets_through_what_the_library_allows_and_nothing_else() {
    for folder in GENERATIONS {
        let policy = fs::read_to_string(format!("tests/corpus/{folder}/policy.yaml")).unwrap();
        for mode in MODES {
            let config = change(&mode.config_for(&policy), &[(TOKEN_REQUIRED, TOKEN_OPTIONAL)]);
            let stack = start(&policy, &config).await;
            let http = Http::new(&stack);
            for case in cases(folder) {
                let tokens = match case["claims"].as_object() {
                    Some(claims) => vec![Some(issuer().sign(claims.clone()).unwrap())],
                    None => vec![None, Some("opaque-token".to_owned())],
                };
                for token in tokens {
                    let before = stack.server.requests();
                    let mut request = http.post(token.as_deref(), body(&case));
                    for (name, value) in headers(&case) {
                        request = request.header(name.to_uppercase(), value);
                    }
                    if let Some(host) = case["host"].as_str() {
                        request = request.header("host", host);
                    }
                    let mut request = request.build().unwrap();
                    request.url_mut().set_path(case["path"].as_str().unwrap());
                    let reply =
                        send(reqwest::RequestBuilder::from_parts(reqwest::Client::new(), request))
                            .await;
                    let passed = stack.server.requests() > before;
                    let expect = &case["expect"];
                    assert_eq!(passed, expect[0] == "Allow", "{folder} {mode:?} {case}: {reply:?}");
                    if passed {
                        continue;
                    }
                    assert_eq!(reply.refusal().2, expect[1].as_str().unwrap(), "{case}: {reply:?}");
                    let scopes = expect[3].as_array().map(|scopes| {
                        let scopes: Vec<&str> =
                            scopes.iter().map(|scope| scope.as_str().unwrap()).collect();
                        let scopes = scopes.join(" ");
                        format!("Bearer error=\"insufficient_scope\", scope=\"{scopes}\", ")
                    });
                    match (reply.challenge(), scopes) {
                        (Some(challenge), Some(start)) => {
                            assert!(challenge.starts_with(&start), "{case}: {challenge}");
                        }
                        (None, None) => {}
                        other => panic!("{folder} {mode:?} {case}: {other:?}"),
                    }
                }
            }
        }
    }
}
