use super::*;
use crate::config::parse;
use crate::config::tests::{MINIMAL, doubts, problems};
use crate::head::Head;
use crate::policy::select;

const ROUTE: &str = "\
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: r, namespace: default}
spec:
  parentRefs: [{name: gateway}]
  hostnames: [mcp.example.com]
  path: /tools
  backendRefs: [{name: github, port: 80}, {name: jira, path: /mcp}]
  securityPolicy:
    oauth:
      issuer: https://idp.example.com
      protectedResourceMetadata:
        resource: https://mcp.example.com/tools/
        scopesSupported: [read, write]
    authorization:
      rules:
      - source:
          jwt:
            scopes: [read]
            claims: [{name: org.departments, valueType: StringArray, values: [it]}, {name: tenant, values: [a]}]
        target: {tools: [{backend: github, tool: search}]}
        cel: request.headers['x-a'] == 'b'
      - action: Deny
        target: {tools: [{backend: github, tool: drop}]}
";

#[test]
fn an_mcproute_is_read_as_it_is() {
    let gate = parse(ROUTE).unwrap();
    let policy = &gate.policies[0];
    assert_eq!(policy.name, "default/r");
    assert_eq!(policy.backend.separator(), Some("__"));
    assert_eq!(policy.condition_errors, ConditionErrors::DenyAny);
    assert_eq!(policy.default_action, Action::Deny);
    assert_eq!(policy.scopes_supported, ["read", "write"]);
    assert_eq!(
        policy.resource_metadata_url.as_deref(),
        Some("https://mcp.example.com/.well-known/oauth-protected-resource/tools")
    );
    assert_eq!(policy.rules.len(), 2);
    assert_eq!(policy.rules[0].action, Action::Allow);
    assert_eq!(policy.rules[0].claims.len(), 2);
    let is_for = |host: &str, path: &str| {
        let head = Head { host: host.into(), path: path.into(), ..Head::default() };
        select(&gate.policies, &head).unwrap().is_some()
    };
    assert!(is_for("mcp.example.com", "/tools"));
    assert!(!is_for("mcp.example.com", "/tools/x") && !is_for("example.com", "/tools"));
    let notices = doubts(ROUTE);
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices[1].contains("parentRefs, backendRefs, oauth.issuer"), "{notices:?}");
}

#[test]
fn what_an_mcproute_says_and_nobody_would_do_is_an_error() {
    let with = |old: &str, new: &str| {
        assert!(ROUTE.contains(old), "{old}");
        problems(&ROUTE.replacen(old, new, 1))
    };
    for (old, new, expected) in [
        ("v1beta1", "v1", "`aigateway.envoyproxy.io/v1` is not known here"),
        ("  path: /tools", "  headers: [{name: a, value: b}]", "`headers` is not supported here"),
        ("  path: /tools", "  backendSelector: {rules: []}", "`backendSelector` is not supported"),
        ("  path: /tools", "  path: /a/../b", "not a plain path"),
        ("  path: /tools", "  paths: /a", "unknown key `paths`"),
        ("port: 80", "toolSelector: {include: [a]}", "`toolSelector` is not supported"),
        ("port: 80", "securityPolicy: {apiKey: {}}", "`securityPolicy` is not supported"),
        ("port: 80", "forwardHeaders: [{name: a}]", "`forwardHeaders` is not supported"),
        ("    oauth:", "    apiKeyAuth: {}\n    oauth:", "`apiKeyAuth` is not supported"),
        ("    oauth:", "    extAuth: {}\n    oauth:", "`extAuth` is not supported"),
        ("      issuer:", "      tokens: x\n      issuer:", "unknown key `tokens`"),
        ("https://mcp.example.com/tools/", "urn:x", "not the URL of an MCP server"),
        ("tool: search", "tool: 'se*'", "names its tools in full"),
        ("backend: github, tool: search", "tool: search", "the key `backend` is missing"),
        ("action: Deny", "name: x", "unknown key `name`"),
        ("metadata: {name: r, namespace: default}", "metadata: {}", "the key `name` is missing"),
        ("request.headers['x-a'] == 'b'", "request.header", "did you mean `headers`?"),
        ("values: [a]", "valueType: Text, values: [a]", "expected `String` or `StringArray`"),
    ] {
        let found = with(old, new);
        assert!(found.iter().any(|problem| problem.contains(expected)), "{new}: {found:?}");
    }
}

#[test]
fn other_kinds_are_skipped_and_lists_are_read() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n";
    let both = format!("{service}---\n{ROUTE}---\n{service}");
    assert_eq!(parse(&both).unwrap().policies.len(), 1);
    let skipped = doubts(&both);
    assert_eq!(skipped.iter().filter(|doubt| doubt.starts_with("skipped-document")).count(), 2);
    assert!(skipped[0].contains("`Service` is neither a policy nor an MCPRoute"), "{skipped:?}");
    assert_eq!(problems(service), ["1:1: there is neither a policy nor an MCPRoute here"]);
    let indented: String = ROUTE.lines().map(|line| format!("  {line}\n")).collect();
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {}", indented.trim_start());
    assert_eq!(parse(&list).unwrap().policies.len(), 1);
    let with_own = format!("{ROUTE}---\n{MINIMAL}\n");
    assert_eq!(parse(&with_own).unwrap().policies.len(), 2);
    let open = ROUTE.split("    authorization:").next().unwrap();
    assert!(doubts(open).iter().any(|doubt| doubt.starts_with("no-authorization:")), "{open}");
    assert_eq!(parse(open).unwrap().policies[0].default_action, Action::Allow);
    let typo = ROUTE.replace("{backend: github, tool: drop}", "{backend: githb, tool: drop}");
    let found = doubts(&typo);
    assert!(
        found.iter().any(|doubt| doubt.starts_with("unknown-backend:24:")
            && doubt.contains("did you mean `github`?")),
        "{found:?}"
    );
}

#[test]
fn the_metadata_url_is_the_reference_s() {
    for (resource, url) in [
        ("https://a.b/mcp", "https://a.b/.well-known/oauth-protected-resource/mcp"),
        ("https://a.b:8080/mcp/", "https://a.b:8080/.well-known/oauth-protected-resource/mcp"),
        ("http://a.b", "http://a.b/.well-known/oauth-protected-resource"),
        ("https://a.b/", "https://a.b/.well-known/oauth-protected-resource"),
        ("https://a.b/x/y", "https://a.b/.well-known/oauth-protected-resource/x/y"),
        ("https://a.b?x=y", "https://a.b/.well-known/oauth-protected-resource?x=y"),
    ] {
        assert_eq!(metadata_url(resource).as_deref(), Some(url));
    }
    assert_eq!(metadata_url("https://a.b#c"), None);
    assert_eq!(metadata_url("urn:x"), None);
}

/// Nothing that looks like a policy is passed over.
#[test]
fn what_may_be_meant_as_a_policy_is_never_skipped() {
    for (document, expected) in [
        (
            "apiVersion: aigateway.envoyproxy.io/v1beta1\nkind: McpRoute\n",
            "expected `kind: MCPRoute`",
        ),
        ("apiVersion: x\nkind: Policy\npolicies: []\n", "which is it?"),
        ("apiVersion: v1\nkind: List\npolicies: []\n", "which is it?"),
        ("apiVersion: v1\nkind: List\n", "the key `items` is missing"),
        ("apiVersion: v1\nkind: List\nitems: [{spec: {}}]\n", "expected `kind: MCPRoute`"),
    ] {
        let found = problems(&format!("{document}---\n{MINIMAL}\n"));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{document}{found:?}");
    }
}

/// The reference takes the most specific host; here the first document that
/// matches counts, so the order must be the same.
#[test]
fn a_route_that_another_leaves_nothing_of_is_an_error() {
    let route = |name: &str, hosts: &str| {
        ROUTE
            .replace("name: r,", &format!("name: {name},"))
            .replace("  hostnames: [mcp.example.com]\n", hosts)
    };
    let wide = ["", "  hostnames: ['*.example.com']\n"].map(|hosts| route("wide", hosts));
    let narrow = route("narrow", "  hostnames: [mcp.example.com]\n");
    for wide in wide {
        let found = problems(&format!("{wide}---\n{narrow}"));
        assert!(
            found.iter().any(|problem| problem.contains("never applies: `default/wide`")),
            "{found:?}"
        );
        assert!(problems(&format!("{narrow}---\n{wide}")).is_empty());
    }
}
