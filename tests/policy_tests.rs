//! `mcp-authz test`: tests of policies.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::cli::{run, text};

const POLICY: &str = r#"
policies:
- name: p
  match: {hosts: ["*.example.com"]}
  rules:
  - {name: closed, action: Deny, cel: 'request.headers["x-tenant"] == "b"'}
  - name: open
    action: Allow
    source: {jwt: {scopes: [a], claims: [{name: org.unit, valueType: String, values: [it]}]}}
    target: {tools: [{backend: b, tool: "get_*", when: args.n > 1 && meta.m == "x"}]}
  - {name: never, action: Deny, target: {tools: [{tool: drop}]}}
- name: named
  match: {onlyByName: true}
  backend: {attribute: xds.cluster_name}
  rules:
  - {action: Allow, target: {tools: [{backend: c, tool: t}]}}
"#;

const TESTS: &str = r#"
policy: policy.yaml
tests:
- name: all that can be given
  caller: {scopes: [a], claims: {org: {unit: it}, n: 1.5, list: [true, null]}}
  call: {tool: b__get_x, arguments: {n: 2}, meta: {m: x}}
  headers: {X-Tenant: a, x-empty: "", x-other: [a, b]}
  host: mcp.example.com
  expect: {decision: Allow, rule: open, reason: allow_rule, scopes: [], status: 200}
- name: a scope is missing
  caller: {claims: {org: {unit: it}, scp: [z]}}
  call: {tool: b__get_x, arguments: {n: 2}, meta: {m: x}}
  headers: {x-tenant: a}
  host: mcp.example.com
  expect: {decision: Deny, rule: null, scopes: [a]}
- name: by a token
  caller: {token: eyJhbGciOiJub25lIn0.eyJzY29wZSI6ImEifQ.AAAA}
  call: {tool: b__get_x, arguments: {n: 1}}
  headers: {x-tenant: b}
  host: mcp.example.com
  expect: {decision: Deny, rule: closed}
- name: by name, route and attribute
  call: {tool: t}
  policyName: named
  route: r
  attributes: {xds.cluster_name: c}
  expect: {decision: Allow, rule: "rules[0]"}
- name: nothing covers this host
  host: example.org
  body: "{"
  expect: {decision: Deny, reason: no_policy, status: 403}
"#;

/// Runs tests of a policy in a folder of their own.
fn run_tests(policy: &str, tests: &str, more: &[&str]) -> (Output, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("policy.yaml"), policy).unwrap();
    let file = dir.path().join("policy.test.yaml");
    fs::write(&file, tests).unwrap();
    let all = [["test", file.to_str().unwrap()].as_slice(), more].concat();
    (run(&all, ""), dir)
}

fn shown(output: &Output, dir: &Path) -> String {
    let prefix = format!("{}/", dir.display());
    (text(&output.stdout).to_owned() + text(&output.stderr)).replace(&prefix, "")
}

#[test]
fn cases_that_pass_and_what_they_do_not_cover() {
    let (output, dir) = run_tests(POLICY, TESTS, &[]);
    assert_eq!(
        shown(&output, dir.path()),
        "policy.test.yaml: 5 passed, 0 failed\n\
         coverage of policy.yaml: 75.0 % (6 of 8)\n  \
         open of policy `p` was never false: args.n > 1 && meta.m == \"x\"\n  \
         never of policy `p` was never decided\n"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn coverage_can_be_demanded() {
    for (enough, code) in [("75", 0), ("76", 1), ("100", 1), ("0", 0)] {
        let (output, _dir) = run_tests(POLICY, TESTS, &["--min-coverage", enough]);
        assert_eq!(output.status.code(), Some(code), "{enough}");
    }
    let (output, dir) = run_tests(POLICY, TESTS, &["--min-coverage", "76"]);
    let shown = shown(&output, dir.path());
    assert!(
        shown.contains("coverage of policy.yaml is 75.0 %, and --min-coverage is 76 %"),
        "{shown}"
    );
    assert_eq!(run_tests(POLICY, TESTS, &["--min-coverage", "101"]).0.status.code(), Some(2));
}

#[test]
fn a_case_that_fails_shows_the_difference_and_the_rules() {
    let wrong = TESTS.replace(
        "{decision: Deny, rule: null, scopes: [a]}",
        "{decision: Allow, rule: open, reason: allow_rule, scopes: [b], status: 200}",
    );
    let (output, dir) = run_tests(POLICY, &wrong, &[]);
    assert_eq!(output.status.code(), Some(1));
    let shown = shown(&output, dir.path());
    let failure = "\
FAILED a scope is missing (policy.test.yaml:10:3)
  decision: expected Allow, found Deny
  rule: expected `open`, found no rule
  reason: expected allow_rule, found insufficient_scope
  scopes: expected `b`, found `a`
  status: expected 200, found 403
  | Deny: insufficient_scope, by the default action of policy `p`
";
    assert!(shown.starts_with(failure), "{shown}");
    assert!(shown.contains("  |       ✗ scope a: not granted\n"), "{shown}");
    assert!(shown.contains("policy.test.yaml: 4 passed, 1 failed\n"), "{shown}");
}

#[test]
fn missing_host_is_named() {
    let without = TESTS.replacen("  host: mcp.example.com\n", "", 1);
    let (output, dir) = run_tests(POLICY, &without, &[]);
    assert_eq!(output.status.code(), Some(1));
    let shown = shown(&output, dir.path());
    let failure = "  host: expected one, because policies are selected by it (`match.hosts`), \
                   found none\n  decision: expected Allow, found Deny\n";
    assert!(shown.contains(failure), "{shown}");
}

#[test]
fn what_came_of_it_for_programs() {
    let wrong = TESTS.replace("rule: closed}", "rule: <o'pen>}");
    let (output, _dir) = run_tests(POLICY, &wrong, &["--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = json["files"][0]["cases"].as_array().unwrap();
    let passed: Vec<bool> = cases.iter().map(|case| case["passed"].as_bool().unwrap()).collect();
    assert_eq!(passed, [true, true, false, true, true]);
    assert_eq!(
        cases[2]["differences"],
        json!([{"what": "rule", "expected": "`<o'pen>`", "found": "`closed`"}])
    );
    assert_eq!(
        (&json["coverage"][0]["reached"], &json["coverage"][0]["of"]),
        (&json!(6), &json!(8))
    );
    assert_eq!(json["coverage"][0]["gaps"][1]["never"], "decided");

    let (output, dir) = run_tests(POLICY, &wrong, &["--output", "junit"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = shown(&output, dir.path());
    for line in [
        r#"<?xml version="1.0" encoding="UTF-8"?>"#,
        r#"<testsuite name="policy.test.yaml" tests="5" failures="1">"#,
        r#"<testcase classname="policy.test.yaml" name="a scope is missing"/>"#,
        r#"<failure message="rule: expected `&lt;o&apos;pen&gt;`, found `closed`">"#,
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
}

/// A slip in a case is not taken for the denial that it expects.
#[test]
fn what_cannot_be_judged_is_no_denial_unless_that_is_expected() {
    let case = |request: &str, expect: &str| {
        let tests = format!(
            "policy: policy.yaml\ntests:\n- name: x\n  {request}\n  expect: {{decision: Deny, {expect}}}\n"
        );
        run_tests(
            "policies: [{name: p, match: {hosts: [a]}, rules: [{name: none, action: Deny}]}]",
            &tests,
            &[],
        )
        .0
        .status
        .code()
    };
    assert_eq!(case("host: a\n  body: '{'", "scopes: []"), Some(1));
    assert_eq!(case("host: a\n  body: '{'", "reason: not_json"), Some(0));
    assert_eq!(case("host: b\n  call: {tool: x}", "scopes: []"), Some(1));
    assert_eq!(case("host: b\n  call: {tool: x}", "status: 403"), Some(0));
    assert_eq!(case("host: a\n  call: {tool: x}", "scopes: []"), Some(0));
    // A rule may be called so.
    assert_eq!(case("host: a\n  call: {tool: x}", "rule: null"), Some(1));
    assert_eq!(case("host: a\n  call: {tool: x}", "rule: none"), Some(0));
    assert_eq!(case("host: a\n  call: {tool: x}", "scopes: [no, challenge]"), Some(1));
    assert_eq!(case("host: 'a:x'\n  call: {tool: x}", "scopes: []"), Some(1));
    assert_eq!(case("host: 'a:x'\n  call: {tool: x}", "reason: ambiguous_host"), Some(0));
    assert_eq!(case("call: {tool: x}", "scopes: []"), Some(1));
    assert_eq!(case("call: {tool: x}", "reason: misconfigured, status: 500"), Some(0));
}

#[test]
fn every_mistake_in_a_test_file_has_its_place() {
    for (old, new, expected) in [
        ("policy: policy.yaml", "", "the key `policy` is missing"),
        ("policy: policy.yaml", "policy: nowhere.yaml", "No such file"),
        ("- name: by a token", "- nam: by a token", "did you mean `name`?"),
        ("caller: {scopes: [a], ", "caller: {token: x, ", "a token has its own scopes and claims"),
        ("eyJhbGciOiJub25lIn0.", "x", "not a JSON Web Token"),
        ("  call: {tool: t}", "  body: x\n  call: {tool: t}", "give one of them"),
        ("  call: {tool: t}\n", "", "expected `call` or `body`"),
        ("{tool: t}", "{tols: t}", "unknown key `tols`"),
        ("expect: {decision: Allow, rule: \"rules[0]\"}", "", "the key `expect` is missing"),
        ("reason: no_policy, status: 403", "status: 99", "a whole number from 200 to 599"),
        ("decision: Deny, rule: closed", "decision: No", "expected `Allow` or `Deny`"),
        ("headers: {x-tenant: a}", "headers: {x-tenant: 1}", "expected a text"),
        ("policy: policy.yaml", "policy: policy.yaml\n---", "a second document"),
    ] {
        assert!(TESTS.contains(old), "{old}");
        let (output, dir) = run_tests(POLICY, &TESTS.replace(old, new), &[]);
        let shown = shown(&output, dir.path());
        assert_eq!(output.status.code(), Some(1), "{new}: {shown}");
        assert!(shown.contains(expected), "{new}: {shown}");
    }
    let (output, _dir) = run_tests("policies: []", TESTS, &[]);
    assert!(text(&output.stderr).contains("the list is empty"), "{output:?}");
}

/// Where claims are taken from the request's own token, it is made for the case.
#[test]
fn callers_have_a_token_where_the_policy_reads_it() {
    let policy = format!("jwt: {{from: authorizationHeader}}\n{POLICY}");
    let (output, dir) = run_tests(&policy, TESTS, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output, dir.path()));
}

#[test]
fn the_quickstart_is_tested_and_covered() {
    let output =
        run(&["test", "examples/quickstart/policy.test.yaml", "--min-coverage", "100"], "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}
