//! Policy files: whatever their text, they become a gate or a list of mistakes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_authz::claims::Claims;
use mcp_authz::config;
use mcp_authz::gate::Gate;
use mcp_authz::head::Head;
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
    let tools = targets.flat_map(|target| {
        let tool = target.tool.as_str().replace('*', "x");
        let backend = target.backend.as_deref().unwrap_or("b");
        [format!("{backend}__{tool}"), tool]
    });
    let tools: Vec<String> = tools.take(8).chain(["other".to_owned()]).collect();
    let claims = json!({"scope": "a b", "sub": "s", "tenant": "t", "groups": ["g"]});
    let claims = claims.as_object().map(Claims::from_json);
    for tool in tools {
        let arguments = json!({"n": 1, "s": "text", "list": [1, {"a": "b"}], "none": null});
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                          "params": {"name": tool, "arguments": arguments}});
        for (claims, body) in [
            (None, call.to_string()),
            (claims.clone(), call.to_string()),
            (claims.clone(), json!([call, call]).to_string()),
        ] {
            let head = Head { policy: Some(policy.name.clone()), ..Head::default() };
            let Ok(admitted) = gate.admit(head, claims) else { continue };
            let judgement = gate.judge(&admitted, body.as_bytes());
            assert!(may_allow || judgement.answer.is_err(), "nothing here allows a call");
        }
    }
}
