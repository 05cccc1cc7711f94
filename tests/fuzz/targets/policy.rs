//! Policy files: whatever their text, they become a gate or a list of mistakes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_authz::claims::Claims;
use mcp_authz::config;
use mcp_authz::gate::Gate;
use mcp_authz::head::Head;
use mcp_authz::mcp::TargetKind;
use mcp_authz::policy::{Action, Enforcement, Policy};
use serde_json::json;

fuzz_target!(|text: &str| {
    match config::parse(text) {
        Ok(gate) => gate.policies.iter().for_each(|policy| ask(&gate, policy)),
        // The messages quote the file: they are cut out of any text.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

/// Calls what the policy is about, and something else.
fn ask(gate: &Gate, policy: &Policy) {
    let may_allow = policy.default_action == Action::Allow
        || policy.enforcement == Enforcement::Shadow
        || policy.rules.iter().any(|rule| rule.action == Action::Allow);
    let targets = policy.rules.iter().filter_map(|rule| rule.targets.as_ref()).flatten();
    let asked = targets.flat_map(|target| {
        let (backend, name) = (target.backend.as_deref().unwrap_or("b"), target.name.as_str());
        let name = name.replace('*', "x");
        let separator = if target.feature == TargetKind::Resource { "+" } else { "__" };
        [(target.feature, format!("{backend}{separator}{name}")), (target.feature, name)]
    });
    let other = (TargetKind::Tool, "other".to_owned());
    let asked: Vec<(TargetKind, String)> = asked.take(8).chain([other]).collect();
    let claims = json!({"scope": "a b", "sub": "s", "tenant": "t", "groups": ["g"]});
    let claims = claims.as_object().map(Claims::from_json);
    for (feature, name) in asked {
        let arguments = json!({"n": 1, "s": "text", "list": [1, {"a": "b"}], "none": null});
        let (method, params) = match feature {
            TargetKind::Tool => ("tools/call", json!({"name": name, "arguments": arguments})),
            TargetKind::Prompt => ("prompts/get", json!({"name": name, "arguments": arguments})),
            TargetKind::Resource => ("resources/read", json!({"uri": name})),
            TargetKind::ResourceTemplate => {
                let reference = json!({"type": "ref/resource", "uri": format!("{name}{{x}}")});
                ("completion/complete", json!({"ref": reference}))
            }
            TargetKind::Method => (name.as_str(), arguments),
        };
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        for (claims, body) in [
            (None, call.to_string()),
            (claims.clone(), call.to_string()),
            (claims.clone(), json!([call, call]).to_string()),
        ] {
            let head =
                Head { policy: Some(policy.name.clone()), has_body: true, ..Head::default() }
                    .with_usual_headers();
            let Ok(admitted) = gate.admit(head, claims) else { continue };
            let judgement = gate.authorize(&admitted, body.as_bytes());
            assert!(may_allow || judgement.answer.is_err(), "nothing here allows a call");
        }
    }
}
