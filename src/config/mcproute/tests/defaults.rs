//! Settings for all documents that are loaded together.

use super::*;
use crate::mcp::AppliesTo;
use crate::policy::{Batches, Enforcement, ListVisibilities, ListVisibility, Tasks};

fn with_defaults(settings: &str) -> String {
    format!("{ROUTE}---\nmcpRouteDefaults:\n{settings}")
}

const ALL: &str = "  backend: {toolNamePrefix: '.'}
  resourceMetadataURL: https://a/b
  scopesSupported: [d]
  scopeHierarchy: {admin: [read]}
  unauthenticated: Challenge
  enforcement: Shadow
  conditionErrors: NoMatch
  batches: Authorize
  enforce: [tools, prompts]
  toolsList: Reachable
  promptsList: Permitted
  tasks: Deny
";

#[test]
fn default_applies_where_a_route_says_nothing() {
    let reversed = format!("mcpRouteDefaults:\n{ALL}---\n{ROUTE}");
    for text in [with_defaults(ALL), reversed] {
        let policy = policy(&text);
        assert_eq!(policy.backend.separator(), Some("."));
        assert_eq!(policy.enforcement, Enforcement::Shadow);
        assert_eq!(policy.condition_errors, ConditionErrors::NoMatch);
        assert_eq!(policy.batches, Batches::Authorize);
        assert_eq!(policy.governed, AppliesTo { prompts: true, ..AppliesTo::default() });
        let resources = ListVisibility::Unfiltered;
        let lists = ListVisibilities {
            tools: ListVisibility::Reachable,
            prompts: ListVisibility::Permitted,
            resources,
        };
        assert_eq!(policy.lists, lists);
        assert_eq!(policy.tasks, Tasks::Deny);
        assert!(policy.scopes.implies("admin", "read"));
        // The settings that the route gives itself.
        assert_eq!(policy.scopes_supported, ["read", "write"]);
        assert_ne!(policy.resource_metadata_url.as_deref(), Some("https://a/b"));
    }
    let bare = ROUTE.replace("        scopesSupported: [read, write]\n", "");
    let bare = bare.replace("https://mcp.example.com/tools/", "urn:x:y");
    let policy = policy(&format!("{bare}---\nmcpRouteDefaults:\n{ALL}"));
    assert_eq!(policy.scopes_supported, ["d"]);
    assert_eq!(policy.resource_metadata_url.as_deref(), Some("https://a/b"));
}

#[test]
fn default_backend_is_that_of_bare_names() {
    let claims = || Some(json!({"iss": ISSUER}));
    let open = ROUTE.replace("      - action: Deny", "      - action: Allow");
    for (backend, name, status) in [
        ("{name: github}", "drop", 200),
        ("{name: github}", "github__drop", 200),
        ("{name: jira}", "drop", 403),
        ("{name: other}", "drop", 400),
        ("{toolNamePrefix: '.'}", "github.drop", 200),
        ("{toolNamePrefix: '.'}", "github__drop", 400),
    ] {
        let text = format!("{open}---\nmcpRouteDefaults: {{backend: {backend}}}\n");
        let found = called(&text, claims(), ("tools/call", name)).0;
        assert_eq!(found, status, "{backend} {name}");
        let is_doubted = doubts(&text).iter().any(|doubt| doubt.starts_with("unknown-backend:"));
        assert_eq!(is_doubted, backend.contains("other"), "{backend}");
    }
}

#[test]
fn mistake_in_defaults_is_an_error() {
    for (settings, expected) in [
        ("  name: x\n", "unknown key `name`"),
        ("  match: {hosts: [a]}\n", "unknown key `match`"),
        ("  rules: []\n", "unknown key `rules`"),
        ("  defaultAction: Allow\n", "unknown key `defaultAction`"),
        ("  enforcement: shadow\n", "mcpRouteDefaults.enforcement: expected `Enforce`"),
        ("  unauthenticated: Challenge\n", "a 401 challenge needs `resourceMetadataURL`"),
        ("  promptsList: Permitted\n", "name `prompts` in its `enforce`, too"),
        ("  tasks: Deny\nmcpRouteDefault: {}\n", "did you mean `mcpRouteDefaults`?"),
        (
            "  tasks: Deny\n---\nmcpRouteDefaults: {tasks: Deny}\n",
            "`mcpRouteDefaults` is given already",
        ),
    ] {
        let found = problems(&with_defaults(settings));
        assert_eq!(found.len(), 1, "{settings}: {found:?}");
        assert!(found[0].contains(expected), "{settings}: {found:?}");
    }
}

#[test]
fn file_without_policies_holds_other_settings() {
    for settings in ["jwt: {from: metadata}", "limits: {maxBodyBytes: 9}", "mcpRouteDefaults: {}"] {
        assert_eq!(parse(&format!("{settings}\n---\n{ROUTE}")).unwrap().policies.len(), 1);
        let alone = problems(&format!("{settings}\n"));
        assert_eq!(alone, ["1:1: there is neither a policy nor an MCPRoute here"], "{settings}");
    }
    assert_eq!(problems(&format!("{{}}\n---\n{ROUTE}")), ["1:1: the key `policies` is missing"]);
    let unused = doubts(&format!("mcpRouteDefaults: {{tasks: Deny}}\n{MINIMAL}\n"));
    assert!(unused.iter().any(|doubt| doubt.starts_with("no-effect:1:")), "{unused:?}");
}

#[test]
fn default_url_stands_in_where_needed() {
    let settings = "mcpRouteDefaults: {resourceMetadataURL: 'https://a/b'}";
    let derived = ("resource:", "resourceName:");
    let no_host = ("  hostnames: [mcp.example.com]\n", "");
    for (label, changes, url) in [
        ("no web URL", vec![("https://mcp.example.com/tools/", "urn:x:y")], "https://a/b"),
        ("several hosts", vec![derived, ("[mcp.example.com]", "['*.example.com']")], "https://a/b"),
        ("any host", vec![derived, no_host], "https://a/b"),
        (
            "one host",
            vec![derived],
            "https://mcp.example.com/.well-known/oauth-protected-resource/tools",
        ),
    ] {
        let text = format!("{}---\n{settings}\n", changed(&changes));
        assert_eq!(policy(&text).resource_metadata_url.as_deref(), Some(url), "{label}");
        let found = doubts(&text);
        assert!(!found.iter().any(|doubt| doubt.starts_with("no-resource")), "{label}: {found:?}");
    }
}

#[test]
fn default_applies_to_all_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("a.yaml", ROUTE);
    write("b.yaml", "mcpRouteDefaults: {tasks: Deny}\n");
    let other = ROUTE.replace("name: r,", "name: s,").replace("/tools\n", "/others\n");
    write("c.yaml", &other);
    let gate = crate::config::load(dir.path()).unwrap();
    let tasks: Vec<_> = gate.policies.iter().map(|policy| policy.tasks).collect();
    assert_eq!(tasks, [Tasks::Deny, Tasks::Deny]);
    write("d.yaml", "mcpRouteDefaults: {tasks: Deny}\n");
    let error = crate::config::load(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("d.yaml:1:19: mcpRouteDefaults: `mcpRouteDefaults` is given"),
        "{error}"
    );
    assert!(error.contains("b.yaml") && error.lines().count() == 1, "{error}");
}
