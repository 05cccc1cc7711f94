//! The JSON Schemas accept the files that the loader accepts and reject the others.

use std::fs;
use std::path::PathBuf;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};

use crate::config::decode::json;
use crate::config::problem::Diagnostics;
use crate::config::{parse, schema, yaml};
use crate::suite;

fn compiled(schema: Value) -> (Schemas, SchemaIndex) {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("file:///schema.json", schema).unwrap();
    let index = compiler.compile("file:///schema.json", &mut schemas).unwrap();
    (schemas, index)
}

fn documents(text: &str) -> Vec<Value> {
    let mut problems = Diagnostics::new(PathBuf::from("x").into());
    let documents = yaml::parse(text, &mut problems);
    assert!(documents.is_complete);
    documents.nodes.iter().map(json).collect()
}

fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn every_policy_that_is_loaded_is_accepted() {
    let (schemas, index) = compiled(schema());
    let mut count = 0;
    for folder in fs::read_dir(root("tests/corpus")).unwrap() {
        let path = folder.unwrap().path().join("policy.yaml");
        for document in documents(&fs::read_to_string(&path).unwrap()) {
            if document["kind"].is_string() {
                continue;
            }
            count += 1;
            let valid = schemas.validate(&document, index);
            assert!(valid.is_ok(), "{}: {}", path.display(), valid.unwrap_err());
        }
    }
    assert!(count >= 10, "{count}");
}

/// The loader and the schema both reject a valid policy after each of these changes.
#[test]
fn what_is_not_loaded_is_refused() {
    const GOOD: &str = r#"
jwt: {from: metadata, metadata: {namespace: n, key: k}}
limits: {maxBodyBytes: 10, maxJsonDepth: 9}
policies:
- name: p
  match: {hosts: [a], pathPrefixes: [/a], routes: [r]}
  backend: {header: x-b}
  resourceMetadataURL: https://a/b
  scopesSupported: [a]
  scopeHierarchy: {a: [b]}
  unauthenticated: Challenge
  enforcement: Shadow
  conditionErrors: NoMatch
  batches: Authorize
  defaultAction: Allow
  rules:
  - name: r
    action: Allow
    source: {jwt: {scopes: [a], claims: [{name: c, valueType: String, values: [v]}]}}
    target: {tools: [{backend: b, tool: t, when: args.x}]}
    cel: args.y
"#;
    let (schemas, index) = compiled(schema());
    let good = documents(GOOD).remove(0);
    assert!(parse(&good.to_string()).is_ok());
    assert!(schemas.validate(&good, index).is_ok());
    for (pointer, wrong) in [
        ("", json!([])),
        ("/jwt", json!({"from": "Metadata"})),
        ("/jwt/metadata", json!({"namespaces": "n"})),
        ("/limits/maxBodyBytes", json!(0)),
        ("/limits/maxBodyBytes", json!("10")),
        ("/limits/maxJsonDepth", json!(1000)),
        ("/policies", json!([])),
        ("/policies", json!({})),
        ("/policies/0/name", json!(null)),
        ("/policies/0/name", json!("")),
        ("/policies/0/match", json!({})),
        ("/policies/0/match/hosts", json!([])),
        ("/policies/0/match/hosts", json!("a")),
        ("/policies/0/match", json!({"onlyByName": false})),
        ("/policies/0/backend", json!({})),
        ("/policies/0/backend", json!({"name": "a", "header": "b"})),
        ("/policies/0/scopesSupported", json!(["a b"])),
        ("/policies/0/scopesSupported", json!(["a", "a"])),
        ("/policies/0/scopeHierarchy", json!({"a b": ["c"]})),
        ("/policies/0/scopeHierarchy", json!({"a": []})),
        ("/policies/0/unauthenticated", json!("challenge")),
        ("/policies/0/enforcement", json!("Off")),
        ("/policies/0/conditionErrors", json!(true)),
        ("/policies/0/batches", json!("Allow")),
        ("/policies/0/defaultAction", json!(null)),
        ("/policies/0/rules", json!(null)),
        ("/policies/0/rules", json!({})),
        ("/policies/0/rules/0", json!(null)),
        ("/policies/0/rules/0/action", json!("allow")),
        ("/policies/0/rules/0/source", json!({})),
        ("/policies/0/rules/0/source/jwt", json!({})),
        ("/policies/0/rules/0/source/jwt/scopes", json!([])),
        ("/policies/0/rules/0/source/jwt/claims", json!([{}])),
        ("/policies/0/rules/0/source/jwt/claims/0/valueType", json!("Text")),
        ("/policies/0/rules/0/source/jwt/claims/0/values", json!([null])),
        ("/policies/0/rules/0/target", json!({})),
        ("/policies/0/rules/0/target/tools", json!([{"backend": "b"}])),
        ("/policies/0/rules/0/target/tools/0", json!({"tool": "a", "toolName": "a"})),
        ("/policies/0/rules/0/target/tools/0/when", json!("")),
        ("/policies/0/rules/0/cel", json!(true)),
        ("/policies/0/rules/0/cel", json!("x".repeat(5000))),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = wrong.clone();
        assert!(parse(&changed.to_string()).is_err(), "loaded: {pointer} {wrong}");
        assert!(schemas.validate(&changed, index).is_err(), "accepted: {pointer} {wrong}");
    }
}

#[test]
fn tests_are_accepted_as_they_are_loaded() {
    let (schemas, index) = compiled(suite::schema());
    let path = root("examples/quickstart/policy.test.yaml");
    let good = documents(&fs::read_to_string(&path).unwrap()).remove(0);
    assert!(schemas.validate(&good, index).is_ok());
    for (pointer, wrong) in [
        ("/policy", json!(null)),
        ("/tests", json!([])),
        ("/tests/0/expect", json!({})),
        ("/tests/0/expect/decision", json!("allow")),
        ("/tests/0/caller", json!({})),
        ("/tests/0/call", json!({"arguments": {}})),
        ("/tests/0", json!({"name": "x", "expect": {"decision": "Allow"}})),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = wrong.clone();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.json");
        fs::write(&file, changed.to_string()).unwrap();
        assert!(suite::load(&file).is_err(), "loaded: {pointer} {wrong}");
        assert!(schemas.validate(&changed, index).is_err(), "accepted: {pointer} {wrong}");
    }
}
