//! The output of `validate` for good and bad files.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cli::{run, text};

const GOOD: &str = "policies: [{name: NAME, match: {hosts: [NAME]}, rules: [{action: Deny}]}]\n";

/// The warnings that `validate` prints for `doubts.yaml`.
const WARNINGS: [&str; 23] = [
    "shadowed-rule",
    "ignored-condition-errors",
    "repeated-target",
    "similar-scopes",
    "header-capitals",
    "glob-overlap",
    "selected-by-address",
    "nothing-allowed",
    "judged-otherwise",
    "evaded-deny-rule",
    "confusable-names",
    "name-in-condition",
    "backend-in-uri",
    "no-rules",
    "open-rule",
    "no-authorization",
    "unknown-backend",
    "no-effect",
    "unusual-scope",
    "no-oauth",
    "any-audience",
    "other-credentials",
    "no-resource-metadata",
];

fn good(name: &str) -> String {
    GOOD.replace("NAME", name)
}

/// Validates a fixture, asserts that the output equals the file beside it, and returns the output.
fn shown_as(fixture: &str) -> String {
    let output = run(&["validate", &format!("tests/validate/{fixture}.yaml")], "");
    let shown = text(&output.stdout).to_owned() + text(&output.stderr);
    let expected = fs::read_to_string(format!("tests/validate/{fixture}.txt")).unwrap();
    assert_eq!(shown, expected, "if this is better, it is the new {fixture}.txt:\n{shown}");
    shown
}

#[test]
fn every_mistake_is_shown_in_one_run_at_its_place() {
    let shown = shown_as("mistakes");
    assert!(shown.matches("error: ").count() >= 10);
}

#[test]
fn every_doubt_is_shown_with_its_reason() {
    let shown = shown_as("doubts");
    for code in WARNINGS.into_iter().chain(["skipped-document", "filtered-lists"]) {
        assert!(shown.contains(&format!("[{code}]")), "{code}");
    }
}

#[test]
fn warnings_fail_only_if_they_are_denied_and_not_allowed() {
    let code = |more: &[&str]| {
        let all = [["validate", "tests/validate/doubts.yaml"].as_slice(), more].concat();
        run(&all, "").status.code()
    };
    assert_eq!(code(&[]), Some(0));
    assert_eq!(code(&["--deny-warnings"]), Some(1));
    let allowed: Vec<&str> = WARNINGS.iter().flat_map(|code| ["--allow", code]).collect();
    assert_eq!(code(&[&["--deny-warnings"], allowed.as_slice()].concat()), Some(0));
    assert_eq!(code(&[&["--deny-warnings"], &allowed[2..]].concat()), Some(1));
    assert_eq!(code(&["--allow", "nonsense"]), Some(2));
}

#[test]
fn findings_for_programs() {
    let output =
        run(&["validate", "--output", "json", "tests/validate/doubts.yaml", "no-such-file"], "");
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["good"], json!(["tests/validate/doubts.yaml"]));
    let findings = json["findings"].as_array().unwrap();
    assert_eq!(
        findings[3],
        json!({
            "severity": "warning",
            "code": "header-capitals",
            "file": "tests/validate/doubts.yaml",
            "line": 16,
            "column": 25,
            "keys": "policies[0].rules[1].cel",
            "message": "there is never a header `X-Tenant`, because names are in lower case here: \
                write `x-tenant`",
        })
    );
    let last = findings.last().unwrap();
    assert_eq!((&last["severity"], &last["code"]), (&json!("error"), &Value::Null));
    assert_eq!((&last["file"], &last["line"]), (&json!("no-such-file"), &Value::Null));
}

#[test]
fn a_directory_is_all_its_policy_files_in_the_order_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let output = run(&["validate", path], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("no policy file (*.yaml, *.yml, *.json)"));

    write("b.yaml", &good("b"));
    write("a.yml", &format!("limits: {{maxJsonDepth: 9}}\n{}", good("a")));
    write("c.json", r#"{"policies": [{"name": "c", "rules": [{"action": "Deny"}]}]}"#);
    // None of these is one.
    write("README.md", "# policies");
    write("a.test.yaml", "tests: []");
    write(".hidden.yaml", "?");
    fs::create_dir(dir.path().join("..data.yaml")).unwrap();
    let output = run(&["validate", path], "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let expected = "policy `a` with 1 rule, policy `b` with 1 rule, policy `c` with 1 rule";
    assert!(text(&output.stdout).contains(expected), "{}", text(&output.stdout));

    // Mistakes of all files, and between files, each at its own.
    write("b.yaml", &format!("limits: {{maxJsonDepth: 9}}\n{}", good("a")));
    write("d.yaml", &good("d").replace("Deny", "Dny"));
    let output = run(&["validate", path], "");
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout);
    for expected in [
        "`limits` is given already, in ",
        "b.yaml:1:9",
        "another policy is called `a` too",
        "b.yaml:2:12",
        "found `Dny`",
        "d.yaml:1:",
    ] {
        assert!(shown.contains(expected), "{expected}:\n{shown}");
    }
}

/// A wrong file by accident, or one that is made to keep us busy.
#[test]
fn what_is_no_policy_file_gets_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let output = run(&["validate", path.to_str().unwrap()], "");
        assert_eq!(output.status.code(), Some(1), "{name}");
        text(&output.stdout).to_owned()
    };
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..12 {
        let items = vec![format!("*a{}", n - 1); 10].join(",");
        bomb.push_str(&format!("a{n}: &a{n} [{items}]\n"));
    }
    let binary = fs::read(env!("CARGO_BIN_EXE_mcp-authz")).unwrap();
    let large = [b"# ".as_slice(), &vec![b'x'; 10 << 20]].concat();
    for (name, bytes, expected) in [
        ("empty", b"".as_slice(), "the file is empty"),
        ("malformed", b"policies:\n- name: [", "not YAML: "),
        ("bomb", bomb.as_bytes(), "this alias makes the file too large or too deep"),
        ("nested", "[".repeat(100_000).as_bytes(), "not YAML: recursion limit exceeded"),
        ("large", &large, "the file is larger than 8 MiB"),
        ("binary", &binary[..1 << 20], "the file is not text in UTF-8"),
        ("latin-1", b"policies:\n- name: caf\xe9\n", "the file is not text in UTF-8"),
        (
            "text",
            b"hello",
            "expected a mapping with `jwt`, `limits`, `mcpRouteDefaults` or `policies`",
        ),
        (
            "list",
            b"- a",
            "expected a mapping with `jwt`, `limits`, `mcpRouteDefaults` or `policies`, found a list",
        ),
    ] {
        let shown = error(name, bytes);
        assert!(shown.contains(expected), "{name}: {shown}");
        assert_eq!(shown.matches("error: ").count(), 1, "{name}: {shown}");
    }
    assert!(error("latin-1", b"policies:\n- name: caf\xe9\n").contains("latin-1:2:12"));
    assert!(Path::new("tests/validate").is_dir(), "tests run where Cargo.toml is");
}

/// As `validate <(COMMAND)` gives it, here with nobody who writes: if this fails, it hangs.
#[test]
fn pipe_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.yaml");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let path = path.to_str().unwrap();
    for arguments in [
        ["validate", path].as_slice(),
        &["validate", dir.path().to_str().unwrap()],
        &["test", path],
        &["check", "--policy", path, "--request", "-"],
        &["check", "--policy", "examples/quickstart/policy.yaml", "--request", path],
        &["envoy-config", "--policy", path],
        &["serve", "--policy", path, "--listen", "127.0.0.1:0"],
    ] {
        let output = run(arguments, "");
        assert_ne!(output.status.code(), Some(0), "{arguments:?}");
        let shown = text(&output.stdout).to_owned() + text(&output.stderr);
        let expected = "this is a pipe: write its content to a file first (`COMMAND > FILE`";
        assert!(shown.contains(expected), "{arguments:?}: {shown}");
    }
}
