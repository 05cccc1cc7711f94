//! The same decision by other engines, as fast as they can be asked: Rego in regorus'
//! virtual machine with its rules indexed as data, and Cedar with the one policy that
//! matters chosen by the caller.
//!
//! `cargo bench --manifest-path benches/peers/Cargo.toml`
//!
//! Each reads the same 274 bytes of JSON-RPC, gets the same 513 bytes of claims, and
//! looks for a scope and a pattern. mcp-authz reads strictly and could say which scopes
//! are missing; the others do neither.

#![allow(dead_code, unreachable_pub, reason = "the benchmarks share modules")]

#[path = "../authorize.rs"]
mod authorize;
#[path = "../inputs.rs"]
mod inputs;

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request};
use divan::{Bencher, black_box};
use inputs::{SCOPE, When};
use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::vm::RegoVM;
use regorus::{Engine, Rc};
use serde_json::{Map, Value, json};

fn main() {
    divan::main();
}

const RULES: [usize; 3] = [10, 1_000, 10_000];

#[divan::bench(args = RULES)]
fn mcp_authz(bencher: Bencher<'_, '_>, rules: usize) {
    let gate = authorize::gate(&inputs::policy(rules, When::Title));
    let (head, payload, body) = (authorize::head(), authorize::payload(), inputs::call(rules));
    assert!(authorize::decide(&gate, head.clone(), &payload, &body));
    bencher
        .with_inputs(|| head.clone())
        .bench_values(|head| authorize::decide(&gate, head, black_box(&payload), black_box(&body)));
}

const REGO: &str = r#"
package mcp

default allow := false

allow if {
    input.call.method == "tools/call"
    rule := data.rules[input.call.params.name]
    rule.scope in split(input.claims.scope, " ")
    regex.match(rule.pattern, input.call.params.arguments.title)
}
"#;

#[divan::bench(args = RULES)]
fn regorus_indexed(bencher: Bencher<'_, '_>, rules: usize) {
    let rule = |number| {
        let scope = if number + 1 == rules { SCOPE.to_owned() } else { format!("scope:{number}") };
        (inputs::tool(number), json!({"scope": scope, "pattern": "^Hello, .*!$"}))
    };
    let data = json!({"rules": Value::Object((0..rules).map(rule).collect())});
    let data = regorus::Value::from_json_str(&data.to_string()).unwrap();
    let mut engine = Engine::new();
    engine.add_policy("mcp.rego".to_owned(), REGO.to_owned()).unwrap();
    engine.add_data(data.clone()).unwrap();
    let entry = Rc::from("data.mcp.allow");
    let compiled = engine.compile_with_entrypoint(&entry).unwrap();
    let program = Compiler::compile_from_policy(&compiled, &["data.mcp.allow"]).unwrap();
    let mut vm = RegoVM::new_with_policy(compiled);
    vm.load_program(program);
    vm.set_data(data).unwrap();
    let (claims, body) = (inputs::claims(), inputs::call(rules));
    let mut decide = |claims: Map<String, Value>| {
        let call = regorus::Value::from_json_str(std::str::from_utf8(&body).unwrap()).unwrap();
        let mut input = regorus::Value::new_object();
        let members = input.as_object_mut().unwrap();
        members.insert("call".into(), call);
        members.insert("claims".into(), Value::Object(claims).into());
        vm.set_input(input);
        vm.execute_entry_point_by_name("data.mcp.allow").unwrap() == regorus::Value::Bool(true)
    };
    assert!(decide(claims.clone()));
    bencher.with_inputs(|| claims.clone()).bench_local_values(decide);
}

#[divan::bench(args = RULES)]
fn cedar_sliced(bencher: Bencher<'_, '_>, rules: usize) {
    let policy = |number: usize| {
        let tool = inputs::tool(number);
        let scope = if number + 1 == rules { SCOPE.to_owned() } else { format!("scope:{number}") };
        let text = format!(
            r#"permit(principal, action == Action::"call", resource == Tool::"{tool}")
            when {{ context.scopes.contains("{scope}") && context.arguments.title like "Hello, *!" }};"#
        );
        (tool, text.parse::<PolicySet>().unwrap())
    };
    let policies: HashMap<String, PolicySet> = (0..rules).map(policy).collect();
    let (authorizer, entities) = (Authorizer::new(), Entities::empty());
    let (principal, action): (EntityUid, EntityUid) =
        (r#"User::"ana""#.parse().unwrap(), r#"Action::"call""#.parse().unwrap());
    let (claims, body) = (Arc::new(inputs::claims()), inputs::call(rules));
    let decide = |claims: &Map<String, Value>| {
        let mut call: Value = serde_json::from_slice(black_box(&body)).unwrap();
        let tool = call["params"]["name"].as_str().unwrap().to_owned();
        let scopes: Vec<&str> = claims["scope"].as_str().unwrap().split(' ').collect();
        // Cedar has no null and no fractions; there are none in these arguments.
        let arguments = call["params"]["arguments"].take();
        let context = json!({"scopes": scopes, "arguments": arguments});
        let context = Context::from_json_value(context, None).unwrap();
        let resource = format!(r#"Tool::"{tool}""#).parse().unwrap();
        let request =
            Request::new(principal.clone(), action.clone(), resource, context, None).unwrap();
        authorizer.is_authorized(&request, &policies[&tool], &entities).decision()
            == Decision::Allow
    };
    assert!(decide(&claims));
    bencher.bench_local(|| decide(&claims));
}
