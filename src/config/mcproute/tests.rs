use std::sync::Arc;

use serde_json::{Value, json};

use super::oauth::metadata_url;
use super::*;
use crate::claims::Claims;
use crate::config::parse;
use crate::config::tests::{MINIMAL, doubts, problems};
use crate::head::Head;
use crate::policy::{AcceptedTokens, select};

mod defaults;
mod selectors;

pub(super) const ROUTE: &str = "\
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

/// Returns the document with some parts replaced.
fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(ROUTE.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1)
    })
}

/// Returns the part of a string from some words up to others.
fn part(text: &str, from: &str, to: &str) -> String {
    let (_, rest) = text.split_once(from).unwrap();
    let (part, _) = rest.split_once(to).unwrap();
    format!("{from}{part}")
}

/// Returns the only policy of a document.
fn policy(text: &str) -> Arc<Policy> {
    let gate = parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    Arc::clone(&gate.policies[0])
}

/// Returns the status of a call of a tool or a prompt, and the challenge of a refusal.
fn called(text: &str, claims: Option<Value>, (method, name): (&str, &str)) -> (u16, String) {
    let gate = parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let head = Head {
        method: "POST".into(),
        host: "mcp.example.com".into(),
        path: "/tools".into(),
        has_body: true,
        ..Head::default()
    };
    let claims = claims.map(|claims| Claims::from_json(claims.as_object().unwrap()));
    let admitted = match gate.admit(head.with_usual_headers(), claims) {
        Ok(admitted) => admitted,
        Err(turned_away) => {
            let refusal = turned_away.judgement.refusal().unwrap();
            return (refusal.status, refusal.www_authenticate.clone().unwrap_or_default());
        }
    };
    let params = json!({"name": name, "arguments": {}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let judgement = gate.authorize(&admitted, body.as_bytes());
    judgement.refusal().map_or((200, String::new()), |refusal| {
        (refusal.status, refusal.www_authenticate.clone().unwrap_or_default())
    })
}

const ISSUER: &str = "https://idp.example.com";

#[test]
fn route_is_read_as_written() {
    let gate = parse(ROUTE).unwrap();
    let policy = &gate.policies[0];
    assert_eq!(policy.name, "default/r");
    assert_eq!(policy.backend.separator(), Some("__"));
    assert_eq!(policy.condition_errors, ConditionErrors::DenyAny);
    assert_eq!(policy.default_action, Action::Deny);
    assert_eq!(policy.scopes_supported, ["read", "write"]);
    assert_eq!(policy.unauthenticated, Unauthenticated::Challenge);
    assert_eq!(policy.accepted_tokens.issuers, [ISSUER]);
    assert!(policy.accepted_tokens.audiences.is_empty());
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
}

#[test]
fn unsupported_part_is_an_error() {
    for (old, new, expected) in [
        ("v1beta1", "v1", "`aigateway.envoyproxy.io/v1` is not known here"),
        ("  path: /tools", "  backendSelector: {rules: []}", "sessions are not restricted"),
        ("  path: /tools", "  path: /a/../b", "write a plain path"),
        ("  path: /tools", "  path: /a%2Fb", "write a plain path"),
        ("  path: /tools", "  path: tools", "write `/tools`"),
        ("  path: /tools", "  path: ''", "write `/`"),
        ("  path: /tools", "  paths: /a", "unknown key `paths`"),
        ("  path: /tools", "  prefixMode: never", "expected `Always` or `Never`"),
        ("  path: /tools", "  prefixMode: Never", "list them in `toolSelector.include`"),
        ("name: jira", "name: github", "`github` is the name of another backend, too"),
        ("port: 80", "toolSelector: {}", "expected `include`, `includeRegex`"),
        (
            "port: 80",
            "toolSelector: {include: [a], includeRegex: [b]}",
            "`include` and `includeRegex` exclude each other",
        ),
        (
            "port: 80",
            "promptSelector: {exclude: [], excludeRegex: [b]}",
            "`exclude` and `excludeRegex` exclude each other",
        ),
        ("port: 80", "toolSelector: {includeRegex: ['(?=a)']}", "`(?=a)` cannot be used"),
        ("port: 80", "toolSelector: {only: [a]}", "unknown key `only`"),
        ("port: 80", "prefixMode: Never, toolSelector: {include: []}", "`toolSelector.include`"),
        ("port: 80", "prefixMode: Never, toolSelector: {includeRegex: [a]}", "toolSelector.inc"),
        ("      issuer:", "      tokens: x\n      issuer:", "unknown key `tokens`"),
        ("      issuer: https://idp.example.com\n", "", "the key `issuer` is missing"),
        ("https://mcp.example.com/tools/", "mcp.example.com/tools", "is not a URI"),
        ("https://mcp.example.com/tools/", "no-url:at all", "is not a URI"),
        ("backend: github, tool: search", "tool: search", "the key `backend` is missing"),
        ("backend: github, tool: search", "backend: github", "the key `tool` is missing"),
        ("scopes: [read]", "scopes: ['']", "expected a text"),
        ("{name: tenant, values: [a]}", "{name: tenant, values: []}", "the list is empty"),
        ("name: tenant", "name: scope", "`scope` holds scopes: require them with `scopes`"),
        ("tools: [{backend: github, tool: drop}]", "tools: []", "the list is empty"),
        ("action: Deny", "name: x", "unknown key `name`"),
        ("metadata: {name: r, namespace: default}", "metadata: {}", "the key `name` is missing"),
        ("request.headers['x-a'] == 'b'", "request.header", "did you mean `headers`?"),
        ("values: [a]", "valueType: Text, values: [a]", "expected `String` or `StringArray`"),
        ("kind: MCPRoute", "kind: MCPRoutes", "expected `kind: MCPRoute`"),
    ] {
        let found = problems(&changed(&[(old, new)]));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{new}: {found:?}");
    }
    let without =
        changed(&[("  hostnames: [mcp.example.com]\n", ""), ("resource:", "resourceName:")]);
    let found = problems(&without);
    assert!(found[0].contains("without `hostnames` it cannot be derived"), "{found:?}");
}

#[test]
fn remedy_for_headers_denies_other_requests() {
    let found = doubts(&changed(&[("  path: /tools", "  headers: [{name: a, value: b}]")]));
    assert!(found.iter().any(|doubt| doubt.contains("parentRefs, headers, ")), "{found:?}");
    let doubt = found.iter().find(|doubt| doubt.starts_with("no-effect")).unwrap();
    let rule = doubt.split('`').find(|part| part.starts_with("{action: Deny")).unwrap();
    let rule = rule.replace("NAME", "x-tenant");
    let (open, _) = ROUTE.split_once("      - source:").unwrap();
    for (value, status) in [("a", 403), ("", 200)] {
        let rule = rule.replace("VALUE", value);
        let text = format!("{open}      - {rule}\n      - action: Allow\n");
        let claims = Some(json!({"iss": ISSUER}));
        assert_eq!(called(&text, claims, ("tools/call", "github__a")).0, status, "{rule}");
    }
}

#[test]
fn part_for_envoy_is_left_to_it() {
    let notices = |changes: &[(&str, &str)]| {
        let text = changed(changes);
        parse(&text).unwrap();
        let left = |doubt: &String| doubt.starts_with("left-to-others");
        doubts(&text).into_iter().filter(left).collect::<Vec<_>>()
    };
    for (label, old, new, expected) in [
        (
            "plain",
            "",
            "",
            "parentRefs, backendRefs[].port, backendRefs[].path, the protected resource metadata document",
        ),
        ("API key", "port: 80", "securityPolicy: {apiKey: {}}", "backendRefs[].securityPolicy"),
        ("headers", "port: 80", "forwardHeaders: [{name: a}]", "backendRefs[].forwardHeaders"),
        (
            "traffic",
            "  path: /tools",
            "  path: /tools\n  backendTrafficPolicy: {mergeType: StrategicMerge}",
            "backendTrafficPolicy",
        ),
        (
            "server metadata",
            "      issuer:",
            "      authorizationServerMetadataUrl: https://x\n      issuer:",
            "oauth.authorizationServerMetadataUrl",
        ),
    ] {
        let found = notices(&[(old, new)]);
        assert_eq!(found.len(), 1, "{label}: {found:?}");
        assert!(found[0].contains(expected), "{label}: {found:?}");
    }
    // The notice names each key once, for any number of backends.
    let twice = [("port: 80", "securityPolicy: {}"), ("path: /mcp}", "securityPolicy: {}}")];
    assert_eq!(notices(&twice)[0].matches("securityPolicy").count(), 1);
}

#[test]
fn missing_audiences_are_a_warning() {
    let warns = |audiences: &str| {
        let with = format!("      {audiences}\n      issuer:");
        let found = doubts(&changed(&[("      issuer:", &with)]));
        found.iter().any(|doubt| doubt.starts_with("any-audience:"))
    };
    assert!(warns("") && warns("audiences: []") && warns("audiences: null"));
    assert!(!warns("audiences: [mcp]"));
}

#[test]
fn part_without_effect_loads_with_warning() {
    let claims = ", claims: [{name: org.departments, valueType: StringArray, values: [it]}, {name: tenant, values: [a]}]";
    let claims = claims.trim_start_matches(", ");
    for (label, old, new, code) in [
        (
            "null target",
            "target: {tools: [{backend: github, tool: search}]}",
            "target:",
            "no-effect",
        ),
        ("null path", "path: /tools", "path:", "no-effect"),
        ("null oauth part", "scopesSupported: [read, write]", "scopesSupported: ~", "no-effect"),
        ("no hosts", "[mcp.example.com]", "[]", "no-effect"),
        ("empty scopes", "scopes: [read]", "scopes: []", "no-effect"),
        ("null scopes", "scopes: [read]", "scopes: null", "no-effect"),
        ("empty claims", claims, "claims: []", "no-effect"),
        ("repeated scope", "scopes: [read]", "scopes: [read, read]", "no-effect"),
        ("scopes of two words", "scopes: [read]", "scopes: [read write]", "unusual-scope"),
        ("scope with a quote", "scopes: [read]", "scopes: ['re\"ad']", "unusual-scope"),
        ("scope with a backslash", "scopes: [read]", "scopes: ['re\\ad']", "unusual-scope"),
        ("scope not in ASCII", "scopes: [read]", "scopes: [lésen]", "unusual-scope"),
        ("refresh token", "[read, write]", "[read, offline_access]", "unusual-scope"),
        ("supported words", "[read, write]", "['a b']", "unusual-scope"),
        ("supported twice", "[read, write]", "[a, a]", "no-effect"),
        ("claim of scopes", "name: tenant", "name: scp", "no-effect"),
        ("blank condition", "cel: request.headers['x-a'] == 'b'", "cel: \" \\n\"", "no-effect"),
        ("empty condition", "cel: request.headers['x-a'] == 'b'", "cel: ''", "no-effect"),
        ("star", "tool: search", "tool: 'se*'", "no-effect"),
        ("empty tool", "tool: search", "tool: ''", "no-effect"),
        ("control character", "tool: search", "tool: \"a\\tb\"", "no-effect"),
        (
            "empty backend",
            "backend: github, tool: search",
            "backend: '', tool: a",
            "unknown-backend",
        ),
        ("separator in a backend", "name: jira", "name: ji__ra", "no-effect"),
        ("empty selector", "port: 80", "toolSelector: {include: []}", "no-effect"),
        ("star in a selector", "port: 80", "toolSelector: {exclude: ['a*']}", "no-effect"),
        ("hidden tool", "port: 80", "toolSelector: {exclude: [drop]}", "no-effect"),
        ("null selector", "port: 80", "toolSelector: null", "no-effect"),
        ("no web resource", "https://mcp.example.com/tools/", "urn:x:y", "no-resource-metadata"),
        ("key", "    oauth:", "    apiKeyAuth: {}\n    oauth:", "other-credentials"),
        ("service", "    oauth:", "    extAuth: {}\n    oauth:", "other-credentials"),
    ] {
        let text = changed(&[(old, new)]);
        parse(&text).unwrap_or_else(|error| panic!("{label}: {error}"));
        let found = doubts(&text);
        let is_expected = |doubt: &&String| doubt.starts_with(&format!("{code}:"));
        assert_eq!(found.iter().filter(is_expected).count(), 1, "{label}: {found:#?}");
    }
    for (label, old, new) in [
        ("plain", "", ""),
        ("empty claim value", "values: [a]", "values: ['']"),
        ("blanks in a tool", "tool: search", "tool: 'a b'"),
        ("prefix in a tool", "tool: search", "tool: x__a"),
        ("other URI scheme", "https://mcp.example.com/tools/", "HTTP://mcp.example.com/tools"),
        ("encoded path", "path: /tools", "path: /a%20b"),
        ("no supported scopes", "[read, write]", "[]"),
        ("audiences", "      issuer:", "      audiences: [mcp]\n      issuer:"),
    ] {
        let text = changed(&[(old, new)]);
        parse(&text).unwrap_or_else(|error| panic!("{label}: {error}"));
        let notices = ["left-to-others", "filtered-lists", "any-audience"];
        let found: Vec<_> = doubts(&text)
            .into_iter()
            .filter(|doubt| !notices.iter().any(|notice| doubt.starts_with(notice)))
            .collect();
        assert!(found.is_empty(), "{label}: {found:#?}");
    }
}

#[test]
fn rule_over_tokens_without_oauth_is_doubted() {
    let oauth = part(ROUTE, "    oauth:", "    authorization:");
    let text = ROUTE.replace(&oauth, "");
    let found = doubts(&text);
    assert!(found.iter().any(|doubt| doubt.starts_with("no-oauth:")), "{found:?}");
    let policy = policy(&text);
    assert_eq!(policy.unauthenticated, Unauthenticated::Forbid);
    assert_eq!(policy.accepted_tokens, AcceptedTokens::default());
    let source = part(&text, "      - source:", "        target:");
    let open = text.replace(&source, "      - action: Allow\n");
    assert!(!doubts(&open).iter().any(|doubt| doubt.starts_with("no-oauth:")), "{open}");
}

#[test]
fn omitted_resource_is_derived_from_the_host() {
    for (label, hosts, url) in [
        (
            "one",
            "[Mcp.example.com]",
            Some("https://mcp.example.com/.well-known/oauth-protected-resource/tools"),
        ),
        ("wildcard", "['*.example.com']", None),
        ("several", "[a.example.com, b.example.com]", None),
        ("misread path", "[mcp.example.com]", None),
    ] {
        let text = changed(&[("[mcp.example.com]", hosts), ("resource:", "resourceName:")]);
        let text = match label {
            "misread path" => text.replacen("/tools", "/scope=a", 1),
            _ => text,
        };
        assert_eq!(policy(&text).resource_metadata_url.as_deref(), url, "{label}");
        let is_doubted =
            doubts(&text).iter().any(|doubt| doubt.starts_with("no-resource-metadata:"));
        assert_eq!(is_doubted, url.is_none(), "{label}");
    }
}

#[test]
fn only_accepted_tokens_count() {
    let text = changed(&[("      issuer:", "      audiences: [mcp, other]\n      issuer:")]);
    let metadata =
        "resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/tools\"";
    for (label, claims, status) in [
        ("none", None, 401),
        ("no audience", Some(json!({"iss": ISSUER})), 401),
        ("another audience", Some(json!({"iss": ISSUER, "aud": ["x"]})), 401),
        ("another issuer", Some(json!({"iss": "https://x", "aud": "mcp"})), 401),
        ("accepted", Some(json!({"iss": ISSUER, "aud": ["x", "other"]})), 403),
    ] {
        let (found, challenge) = called(&text, claims, ("tools/call", "github__drop"));
        assert_eq!(found, status, "{label}");
        assert_eq!(challenge.contains(metadata), status == 401, "{label}: {challenge}");
    }
}

/// No header contains a scope that is no scope-token. A quote in the scope would end the header
/// value.
#[test]
fn unusual_scope_is_never_in_a_challenge() {
    let claims = json!({"iss": ISSUER, "tenant": "a", "org": {"departments": ["it"]}});
    let cel = ("        cel: request.headers['x-a'] == 'b'\n", "");
    for (scopes, expected) in [
        ("[read]", Some("scope=\"read\"")),
        ("[read write]", None),
        ("['re\"ad', read]", None),
        ("['re\\ad']", None),
        ("[lésen]", None),
    ] {
        let text = changed(&[("[read]", scopes), cel]);
        let (status, challenge) =
            called(&text, Some(claims.clone()), ("tools/call", "github__search"));
        assert_eq!(status, 403, "{scopes}");
        match expected {
            Some(expected) => assert!(challenge.contains(expected), "{challenge}"),
            None => assert_eq!(challenge, "", "{scopes}"),
        }
    }
    // A list of scopes can contain such a scope, and the rule compares it unchanged.
    let text = changed(&[("[read]", "[read write]"), cel]);
    let mut granted = claims;
    granted["scp"] = json!(["read write"]);
    assert_eq!(called(&text, Some(granted), ("tools/call", "github__search")).0, 200);
    let text = changed(&[("[read, write]", "[read, 'a\"b', offline_access, write, read]")]);
    assert_eq!(policy(&text).scopes_supported, ["read", "write"]);
}

#[test]
fn name_in_a_target_stands_for_itself() {
    let claims = || Some(json!({"iss": ISSUER, "scope": "read"}));
    let source = part(ROUTE, "      - source:", "        target:");
    let cel = "        cel: request.headers['x-a'] == 'b'\n";
    for (tool, call, status) in [
        ("'*'", "github__a", 403),
        ("'*'", "github__*", 200),
        ("'se*'", "github__search", 403),
        ("' a'", "github__ a", 200),
        ("' a'", "github__a", 403),
        ("A", "github__a", 403),
        ("x__a", "github__x__a", 200),
    ] {
        let text = changed(&[(&source, "      - action: Allow\n"), (cel, "")]);
        let text = text.replacen("tool: search", &format!("tool: {tool}"), 1);
        assert_eq!(called(&text, claims(), ("tools/call", call)).0, status, "{tool} {call}");
    }
}

#[test]
fn claim_of_scopes_never_matches() {
    let claims =
        json!({"iss": ISSUER, "scope": "read", "scp": ["read"], "org": {"departments": "it"}});
    let cel = ("        cel: request.headers['x-a'] == 'b'\n", "");
    for (claim, status) in [
        ("{name: tenant, values: [a]}", 403),
        ("{name: scp, valueType: StringArray, values: [read]}", 403),
        ("{name: org.departments, valueType: StringArray, values: [it]}", 200),
    ] {
        let text = changed(&[("{name: tenant, values: [a]}", claim), cel]);
        let found = called(&text, Some(claims.clone()), ("tools/call", "github__search"));
        assert_eq!(found.0, status, "{claim}");
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
        ("HTTPS://A.b/mcp", "https://A.b/.well-known/oauth-protected-resource/mcp"),
        ("https://a.b?x=y", "https://a.b/.well-known/oauth-protected-resource?x=y"),
    ] {
        assert_eq!(metadata_url(resource).as_deref(), Some(url));
    }
    assert_eq!(metadata_url("https://a.b#c"), None);
    assert_eq!(metadata_url("urn:x"), None);
}

/// The loader does not skip any document that may be meant as a policy.
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

#[test]
fn shared_host_is_an_error() {
    let route = |name: &str, hosts: &str| {
        changed(&[("name: r,", &format!("name: {name},")), ("[mcp.example.com]", hosts)])
    };
    for (first, second, expected) in [
        ("['*.example.com']", "[api.example.com, other.com]", Some("`api.example.com`")),
        ("['*.example.com']", "['*.a.example.com', other.com]", Some("`*.a.example.com`")),
        ("[a.com, b.com]", "[b.com, c.com]", Some("`b.com`")),
        ("[api.example.com, other.com]", "['*.example.com']", None),
        ("[a.com]", "[b.com]", None),
    ] {
        let both = |path: &str| {
            let second = route("second", second).replace("path: /tools", path);
            problems(&format!("{}---\n{second}", route("first", first)))
        };
        let found = both("path: /tools");
        match expected {
            Some(host) => {
                assert!(found[0].contains(&format!("decides about {host}")), "{found:?}");
            }
            None => assert!(found.is_empty(), "{found:?}"),
        }
        assert!(both("path: /other").is_empty(), "{first} {second}");
    }
}

#[test]
fn prefixed_name_in_selector_is_a_warning() {
    let found = doubts(&changed(&[("port: 80", "toolSelector: {exclude: [github__drop]}")]));
    assert!(found.iter().any(|doubt| doubt.contains("so write `drop`")), "{found:?}");
}

#[test]
fn settings_of_another_kind_are_an_error() {
    for key in ["mcpRouteDefaults: {}", "jwt: {}", "limits: {}"] {
        let found = problems(&format!("apiVersion: v1\nkind: Config\n{key}\n---\n{ROUTE}"));
        assert!(found[0].contains("which is it?"), "{key}: {found:?}");
    }
    let found = problems(&changed(&[("aigateway.envoyproxy.io", "AIgateway.envoyproxy.io")]));
    assert!(found[0].contains("expected the group"), "{found:?}");
}

/// The reference implementation takes the most specific host. Here the first document that matches
/// decides, so the documents must be in that order.
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
