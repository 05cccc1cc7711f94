//! Properties of templates: a template stands for every URI that can be made of it.

use mcp_authz::claims::Claims;
use mcp_authz::config;
use mcp_authz::gate::{AdmittedRequest, Gate, ResponseHead};
use mcp_authz::head::Head;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The strings that replace an expression: enough to match, or fail to match, each piece of a
/// pattern.
const EXPANSIONS: [&str; 11] =
    ["", "a", "b", "ab", "ba", "aab", "abb", "bab", "aba", "b+", "b+x:a"];

#[derive(Debug, Clone)]
struct Rule {
    allow: bool,
    /// A scope that is not granted.
    needs_more: bool,
    backend: Option<&'static str>,
    uri: String,
}

/// Texts over a small alphabet with stars in between, after one of these.
fn pattern(starts: &'static [&'static str], star: &'static str) -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec!["", "a", "b", "ab"]);
    let pieces = prop::collection::vec(piece, 1..4);
    (prop::sample::select(starts), pieces)
        .prop_map(move |(start, pieces)| format!("{start}{}", pieces.join(star)))
}

fn rule() -> impl Strategy<Value = Rule> {
    let backend = prop::option::weighted(0.3, prop::sample::select(vec!["a", "b"]));
    (any::<bool>(), prop::bool::weighted(0.3), backend, pattern(&["x:", "x:", "*"], "*"))
        .prop_map(|(allow, needs_more, backend, uri)| Rule { allow, needs_more, backend, uri })
}

fn gate(rules: &[Rule], default_allow: bool) -> Gate {
    let rule = |Rule { allow, needs_more, backend, uri }: &Rule| {
        let mut rule = json!({
            "action": if *allow { "Allow" } else { "Deny" },
            "target": {"resources": [{"uri": uri}]},
        });
        if let Some(backend) = backend {
            rule["target"]["resources"][0]["backend"] = json!(backend);
        }
        if *needs_more {
            rule["source"] = json!({"jwt": {"scopes": ["more"]}});
        }
        rule
    };
    let policy = json!({"policies": [{
        "name": "p",
        // Backends are in front of URIs: `b+x:a`.
        "backend": {"toolNamePrefix": "__"},
        "enforce": ["tools", "resources"],
        "resourcesList": "Reachable",
        "defaultAction": if default_allow { "Allow" } else { "Deny" },
        "rules": rules.iter().map(rule).collect::<Vec<_>>(),
    }]});
    config::parse(&policy.to_string()).unwrap()
}

fn admitted(gate: &Gate) -> AdmittedRequest {
    let claims = Claims::from_json(json!({"scope": "some"}).as_object().unwrap());
    gate.admit(Head { has_body: true, ..Head::default() }.with_usual_headers(), Some(claims))
        .unwrap()
}

/// Evaluates a request. Returns the scopes that would help if the gate refuses the request.
fn ask(gate: &Gate, method: &str, params: &Value) -> Result<(), Vec<String>> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let admitted = admitted(gate);
    let answer = gate.authorize(&admitted, body.to_string().as_bytes()).answer;
    answer.map(|_| ()).map_err(|refusal| refusal.required_scopes)
}

/// The template as a list shows it to the caller.
fn listed(gate: &Gate, template: &str) -> Option<Value> {
    let admitted = admitted(gate);
    let method = "resources/templates/list";
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string();
    let clearance = gate.authorize(&admitted, body.as_bytes()).answer.unwrap();
    let mut filter = clearance.into_list_filter(gate, admitted).unwrap();
    let content_type = "application/json".to_owned();
    filter.on_headers(&ResponseHead { status: 200, content_type, ..ResponseHead::default() });
    let result = json!({"resourceTemplates": [{"uriTemplate": template, "name": "n"}]});
    let message = json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string();
    let part = filter.on_body(message.as_bytes(), true);
    assert!(part.error.is_none());
    let answer: Value = serde_json::from_slice(&part.bytes).unwrap();
    answer["result"]["resourceTemplates"].get(0).cloned()
}

/// The URIs that can be made of a template.
fn expanded(template: &str) -> Vec<String> {
    let Some((before, after)) = template.split_once("{v}") else {
        return vec![template.to_owned()];
    };
    let rest = expanded(after);
    let each = EXPANSIONS
        .iter()
        .flat_map(|value| rest.iter().map(move |rest| format!("{before}{value}{rest}")));
    each.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_template_is_open_as_far_as_its_resources_are(
        rules in prop::collection::vec(rule(), 1..5),
        template in pattern(&["x:", "b+x:", "b{v}x:", "{v}"], "{v}"),
        default_allow in prop::bool::weighted(0.2),
    ) {
        let gate = gate(&rules, default_allow);
        let read = |uri: &String| ask(&gate, "resources/read", &json!({"uri": uri}));
        let answers: Vec<_> = expanded(&template).iter().map(read).collect();

        // A completion tells of all of them, so all must be allowed.
        let reference = json!({"ref": {"type": "ref/resource", "uri": template}});
        let completion = ask(&gate, "completion/complete", &reference);
        if completion.is_ok() {
            prop_assert!(answers.iter().all(Result::is_ok), "{template}: {answers:?}");
        }
        // What could be of any backend is closed.
        let literal = template.split('{').next().unwrap();
        if literal.len() < template.len() && !literal.contains([':', '+']) {
            prop_assert_eq!(completion, Err(vec![]));
            prop_assert_eq!(listed(&gate, &template), None);
            return Ok(());
        }
        // Of whatever can be read the template is to be seen.
        let scopes = |template: &Value| template["_meta"]["mcp-authz/requiredScopes"].clone();
        match listed(&gate, &template) {
            None => {
                let helps = |answer: &Result<(), Vec<String>>| match answer {
                    Ok(()) => true,
                    Err(scopes) => !scopes.is_empty(),
                };
                prop_assert!(!answers.iter().any(helps), "{template}: {answers:?}");
            }
            Some(entry) if scopes(&entry) != Value::Null => {
                prop_assert_eq!(scopes(&entry), json!(["more"]));
                prop_assert!(!answers.iter().any(Result::is_ok), "{template}: {answers:?}");
            }
            Some(_) => {}
        }
    }

    #[test]
    fn a_resource_is_listed_if_it_can_be_read(
        rules in prop::collection::vec(rule(), 1..5),
        uri in pattern(&["x:", "b+x:"], ""),
        default_allow in prop::bool::weighted(0.2),
    ) {
        let gate = gate(&rules, default_allow);
        let answer = ask(&gate, "resources/read", &json!({"uri": uri}));
        // A template without expressions is a resource.
        let expected = match &answer {
            Ok(()) => Some(json!({"uriTemplate": uri, "name": "n"})),
            Err(scopes) if scopes.is_empty() => None,
            Err(scopes) => {
                let meta = json!({"mcp-authz/requiredScopes": scopes});
                Some(json!({"uriTemplate": uri, "name": "n", "_meta": meta}))
            }
        };
        prop_assert_eq!(listed(&gate, &uri), expected);
    }
}
