//! The command line, as its users meet it.

use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::{call, mcp_authz, token};

const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart/policy.yaml");

pub fn run(arguments: &[&str], input: &str) -> Output {
    let mut process = mcp_authz()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    process.wait_with_output().unwrap()
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn check(more: &[&str], input: &str) -> (Option<i32>, Value) {
    let arguments =
        [["check", "--policy", POLICY, "--request", "-", "--output", "json"].as_slice(), more]
            .concat();
    let output = run(&arguments, input);
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
    (output.status.code(), json)
}

#[test]
fn check_tells_programs_what_was_decided() {
    let hello = call("echo", &json!({"text": "Hello, world!"}));
    let (code, json) = check(&["--claims", r#"{"scope":"sum"}"#], &hello);
    assert_eq!(code, Some(1));
    let rules = json["rules"].clone();
    assert_eq!(
        json,
        json!({
            "decision": "Deny",
            "httpStatus": 403,
            "reason": "insufficient_scope",
            "policy": "quickstart",
            "method": "tools/call",
            "backend": "mcp-backend-authorization",
            "tool": "echo",
            "prompt": null,
            "resource": null,
            "rule": null,
            "requiredScopes": ["echo"],
            "wwwAuthenticate": "Bearer error=\"insufficient_scope\", scope=\"echo\", \
                resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/mcp\", \
                error_description=\"this call requires the scope echo\"",
            "shadow": false,
            "filtersResponse": false,
            "rules": rules,
        })
    );
    assert_eq!(
        rules[0],
        json!({
            "rule": "greetings",
            "action": "Allow",
            "decided": false,
            "claims": [],
            "cel": null,
            "scopes": {"required": ["echo"], "missing": ["echo"]},
            "targets": [{
                "backend": "mcp-backend-authorization",
                "error": null,
                "tool": "echo",
                "selected": true,
                "when": {"condition": "args.text.matches(\"^Hello, .*!$\")", "outcome": true},
            }],
        })
    );
    assert_eq!(rules.as_array().unwrap().len(), 4);

    let (code, json) = check(&["--token", &token("echo")], &hello);
    assert_eq!(
        (code, &json["decision"], &json["rule"]),
        (Some(0), &json!("Allow"), &json!("greetings"))
    );
    assert_eq!((&json["httpStatus"], &json["wwwAuthenticate"]), (&json!(200), &Value::Null));
    assert_eq!(json["rules"].as_array().unwrap().len(), 1, "only rules that were looked at");

    let (code, json) = check(&[], r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    assert_eq!((code, &json["reason"]), (Some(0), &json!("not_governed")));

    let (code, json) = check(&[], "{}{}");
    assert_eq!(
        (code, &json["httpStatus"], &json["reason"]),
        (Some(2), &json!(400), &json!("not_json"))
    );

    let (code, json) = check(&["--header", "Mcp-Name: sum"], &hello);
    assert_eq!((code, &json["reason"]), (Some(2), &json!("header_mismatch")));
}

#[test]
fn check_tells_people_what_matched_and_what_did_not() {
    let input = call("echo", &json!({}));
    let arguments =
        ["check", "--policy", POLICY, "--request", "-", "--claims", r#"{"scope":"echo"}"#];
    let output = run(&arguments, &input);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout);
    for line in [
        "Deny: insufficient_scope, by the default action of policy `quickstart`",
        "call: tool echo of backend mcp-backend-authorization",
        "answer: HTTP 403",
        "  ✗ greetings (Allow)",
        "      ✓ tool echo of backend mcp-backend-authorization",
        "        ✗ when args.text.matches(\"^Hello, .*!$\"): there is no `text`",
        "      ✓ scope echo: granted",
        "      ✗ tool sum of backend mcp-backend-authorization",
        "      ✓ every call",
        "      ✗ scope all-access: not granted",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\nis not in\n{shown}");
    }
}

#[test]
fn check_says_what_is_wrong_with_its_own_arguments() {
    for (arguments, message) in [
        (["--claims", "{"].as_slice(), "--claims: not a JSON object"),
        (&["--claims", "[]"], "--claims: not a JSON object"),
        (&["--token", "x.y"], "--token: not a JSON Web Token"),
        (&["--header", "nonsense"], "--header: `nonsense` is not `NAME: VALUE`"),
        (&["--token", "x", "--claims", "{}"], "cannot be used with"),
        (&["--polcy", "x"], "a similar argument exists"),
    ] {
        let all = [["check", "--policy", POLICY, "--request", "-"].as_slice(), arguments].concat();
        let output = run(&all, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(message), "{arguments:?}: {}", text(&output.stderr));
    }
    let selected = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let policies = "policies: [{name: p, match: {hosts: [a], pathPrefixes: [/mcp], routes: [r]}, rules: [{action: Allow}]}]";
    std::fs::write(selected.path(), policies).unwrap();
    let policy = selected.path().to_str().unwrap();
    for (arguments, code, message) in [
        (["--route", "r"].as_slice(), 2, "--host: policies are selected by host (match.hosts)"),
        (&["--host", "a"], 2, "--route: policies are selected by route (match.routes)"),
        (
            &["--host", "a", "--route", "r", "--path", ""],
            2,
            "--path: policies are selected by path",
        ),
        (&["--host", "a:x", "--route", "r"], 2, "ambiguous_host"),
        (&["--host", "a", "--route", "r", "--path", "//mcp"], 2, "ambiguous_path"),
        (&["--host", "a", "--route", ""], 1, "no_policy"),
        (&["--host", "a", "--route", "r"], 0, "allow_rule"),
    ] {
        let all = [["check", "--policy", policy, "--request", "-"].as_slice(), arguments].concat();
        let output = run(&all, &call("x", &json!({})));
        let said = text(&output.stdout).to_owned() + text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(message), "{arguments:?}: {said}");
    }
    let output = run(&["check", "--policy", "no-such-file", "--request", "-"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("no-such-file: "), "{}", text(&output.stderr));
}

#[test]
fn serve_does_not_start_with_a_mistake() {
    let output = run(&["serve", "--policy", "tests/validate/mistakes.yaml"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("mistakes.yaml:1:1: unknown key `polices`"));

    let output = run(&["serve", "--policy", POLICY, "--listen", "9001"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("neither `unix:PATH` nor `HOST:PORT`"));

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let output = run(&["serve", "--policy", POLICY, "--listen", &taken], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("cannot listen on {taken}")));
}

#[test]
fn check_says_that_a_list_is_filtered() {
    let arguments = ["check", "--policy", "examples/mcproute/plain.yaml", "--path", "/mcp"];
    let check = |more: &[&str], method: &str| {
        let arguments = [arguments.as_slice(), &["--request", "-"], more].concat();
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string();
        text(&run(&arguments, &body).stdout).to_owned()
    };
    for (method, is_filtered) in [("tools/list", true), ("prompts/list", false)] {
        assert_eq!(check(&[], method).contains("response: filtered"), is_filtered, "{method}");
        let json: Value = serde_json::from_str(&check(&["--output", "json"], method)).unwrap();
        assert_eq!(json["filtersResponse"], is_filtered, "{method}");
    }
}

#[test]
fn permissions_that_would_protect_nothing_are_mistakes() {
    let tcp = ["serve", "--policy", POLICY, "--listen", "127.0.0.1:0"];
    for (more, told) in [
        (
            ["--listen-mode", "660"].as_slice(),
            "--listen-mode is for Unix sockets, and --listen is 127.0.0.1:0: \
             give --listen unix:PATH, or leave --listen-mode out",
        ),
        (&["--listen-group", "101"], "leave --listen-group out"),
        (&["--admin-mode", "660"], "and --admin is not given: give --admin unix:PATH"),
        (&["--admin-group", "101", "--admin", "127.0.0.1:0"], "--admin is 127.0.0.1:0"),
    ] {
        let output = run(&[&tcp, more].concat(), "");
        assert_eq!(output.status.code(), Some(1), "{more:?}");
        let complaint = text(&output.stderr);
        assert!(complaint.contains(told), "{complaint}");
    }
}

#[test]
fn help_teaches() {
    for (arguments, taught) in [
        (["--help"].as_slice(), "validate"),
        (&["serve", "--help"], "unix:PATH or HOST:PORT"),
        (&["check", "--help"], "Exits with 0 if the request may go on"),
        (&["validate", "--help"], "mcp-authz validate --deny-warnings policy.yaml"),
    ] {
        let output = run(arguments, "");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(text(&output.stdout).contains(taught), "{arguments:?}");
    }
}

#[test]
fn the_schemas_in_examples_are_those_that_are_printed() {
    for (arguments, file) in
        [(["schema"].as_slice(), "policy.schema.json"), (&["schema", "tests"], "tests.schema.json")]
    {
        let output = run(arguments, "");
        let committed = std::fs::read_to_string(format!("examples/schema/{file}")).unwrap();
        assert!(
            text(&output.stdout) == committed,
            "write it anew: mcp-authz {} > examples/schema/{file}",
            arguments.join(" ")
        );
    }
}
