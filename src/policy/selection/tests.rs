use super::*;
use crate::config;
use crate::gate::Gate;
use crate::head::PseudoHeader;

/// Policies by host. `internal` and `admin` are stricter than `public`, which follows them.
const BY_HOST: &str = "policies:
- {name: internal, match: {hosts: [internal.example.com]}, rules: [{action: Deny}]}
- {name: public, rules: [{action: Allow}]}";
const BY_PATH: &str = "policies:
- {name: admin, match: {pathPrefixes: [/mcp/admin]}, rules: [{action: Deny}]}
- {name: public, match: {pathPrefixes: [/]}, rules: [{action: Allow}]}";
const BY_ROUTE: &str = "policies:
- {name: internal, match: {routes: [internal]}, rules: [{action: Deny}]}
- {name: public, rules: [{action: Allow}]}";
const MCP_ROUTE: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: route}
spec: {path: /mcp, backendRefs: [{name: b}]}
---
policies: [{name: public, rules: [{action: Allow}]}]";

fn gate(text: &str) -> Gate {
    config::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn head(host: &str, path: &str) -> Head {
    Head { host: host.into(), path: path.into(), ..Head::default() }
}

/// Returns the name of the selected policy, or `none`.
fn selected(policies: &str, head: &Head) -> Result<String, Unselectable> {
    let gate = gate(policies);
    let policy = select(&gate.policies, head)?;
    Ok(policy.map_or("none", |policy| policy.name.as_str()).to_owned())
}

#[test]
fn ambiguous_host_selects_no_policy() {
    for (host, expected) in [
        ("internal.example.com", Some("internal")),
        ("INTERNAL.example.com.:443", Some("internal")),
        ("mcp.example.com", Some("public")),
        ("internal.example.com:abc", None),
        ("internal.example.com:", None),
        ("x@internal.example.com", None),
        ("internal.example.com,mcp.example.com", None),
        ("internal.example.com..", None),
        ("", None),
    ] {
        let found = selected(BY_HOST, &head(host, "//"));
        match expected {
            Some(expected) => assert_eq!(found.as_deref(), Ok(expected), "{host}"),
            None => {
                let expected = Err(Unselectable::AmbiguousHost(Ambiguity::NotAHost));
                assert_eq!(found, expected, "{host}");
            }
        }
        assert_eq!(selected(BY_PATH, &head(host, "/")).as_deref(), Ok("public"), "{host}");
    }
}

#[test]
fn ambiguous_path_selects_no_policy() {
    for (path, expected) in [
        ("/mcp/admin", Some("admin")),
        ("/mcp/admin/x?y", Some("admin")),
        ("/mcp", Some("public")),
        ("/mcp/administrators", Some("public")),
        ("/mcp/%61dmin", None),
        ("//mcp/admin", None),
        ("/mcp//admin", None),
        ("/mcp/x/../admin", None),
        ("/mcp;x/admin", None),
        ("/mcp%2Fadmin", None),
        ("/mcp\\admin", None),
        ("/MCP/admin", None),
        ("/mcp/Admin/x", None),
        ("/mcp/admin.", None),
        ("", None),
    ] {
        let found = selected(BY_PATH, &head(":", path));
        match expected {
            Some(expected) => assert_eq!(found.as_deref(), Ok(expected), "{path}"),
            None => {
                assert!(matches!(found, Err(Unselectable::AmbiguousPath(_))), "{path}: {found:?}");
            }
        }
        assert_eq!(selected(BY_HOST, &head("a", path)).as_deref(), Ok("public"), "{path}");
    }
}

#[test]
fn almost_exact_path_selects_no_policy() {
    let almost = Err(Unselectable::AmbiguousPath(AmbiguousPath::Almost));
    for path in ["/mcp/", "/MCP", "/Mcp/"] {
        assert_eq!(selected(MCP_ROUTE, &head("", path)), almost, "{path}");
    }
    assert_eq!(selected(MCP_ROUTE, &head("", "/mcp")).as_deref(), Ok("route"));
    assert_eq!(selected(MCP_ROUTE, &head("", "/mcp/x")).as_deref(), Ok("public"));
}

/// An almost matching path counts, wherever its policy stands, if the other selectors match.
#[test]
fn almost_matching_policy_counts_anywhere() {
    let policies = "policies:
- {name: public, match: {hosts: [a], pathPrefixes: [/]}, rules: [{action: Allow}]}
- {name: later, match: {pathPrefixes: [/Admin]}, rules: [{action: Deny}]}
- {name: other, match: {hosts: [b], pathPrefixes: [/X]}, rules: [{action: Deny}]}";
    let almost = Err(Unselectable::AmbiguousPath(AmbiguousPath::Almost));
    assert_eq!(selected(policies, &head("a", "/admin")), almost);
    assert_eq!(selected(policies, &head("a", "/x")).as_deref(), Ok("public"));
    assert_eq!(selected(policies, &head("b", "/x")), almost);
    // The author of a policy may list two spellings of one path.
    let both = "policies: [{name: p, match: {pathPrefixes: [/a, /A]}, rules: [{action: Deny}]}]";
    assert_eq!(selected(both, &head("", "/A/x")).as_deref(), Ok("p"));
}

#[test]
fn withheld_part_selects_no_policy() {
    let not_sent = |selector| Err(Unselectable::NotSent(selector));
    let nothing = Head::default();
    assert_eq!(selected(BY_HOST, &nothing), not_sent(Selector::Host));
    assert_eq!(selected(BY_PATH, &nothing), not_sent(Selector::Path));
    assert_eq!(selected(MCP_ROUTE, &nothing), not_sent(Selector::Path));
    assert_eq!(selected(BY_ROUTE, &nothing), not_sent(Selector::Route));
    let on_route = |name| nothing.clone().on_route(Some(name));
    assert_eq!(selected(BY_ROUTE, &on_route("internal")).as_deref(), Ok("internal"));
    assert_eq!(selected(BY_ROUTE, &on_route("other")).as_deref(), Ok("public"));
    assert_eq!(selected(BY_ROUTE, &on_route("")).as_deref(), Ok("public"));
    // The operator's error comes first, even if the client made an error, too.
    let both =
        "policies: [{name: p, match: {hosts: [a], pathPrefixes: [/]}, rules: [{action: Deny}]}]";
    let ambiguous = Err(Unselectable::AmbiguousHost(Ambiguity::NotAHost));
    assert_eq!(selected(both, &head(":", "/")), ambiguous);
    let host_alone = Head { host: ":".into(), ..Head::default() };
    assert_eq!(selected(both, &host_alone), not_sent(Selector::Path));
}

#[test]
fn repeated_pseudo_header_selects_no_policy() {
    let mut host = PseudoHeader::NotSent;
    host.add(b"mcp.example.com");
    host.add(b"internal.example.com");
    let head = Head { host, ..Head::default() };
    let repeated = Err(Unselectable::AmbiguousHost(Ambiguity::Repeated));
    assert_eq!(selected(BY_HOST, &head), repeated);
}

#[test]
fn all_of_match_must_fit() {
    let policies = "policies:
- {name: p, match: {hosts: [a.b], pathPrefixes: [/mcp], routes: [one, two]}, rules: [{action: Deny}]}
- {name: named, match: {onlyByName: true}, rules: [{action: Deny}]}";
    let found = |host: &str, path: &str, route| {
        selected(policies, &head(host, path).on_route(Some(route))).unwrap()
    };
    assert_eq!(found("a.b", "/mcp", "two"), "p");
    assert_eq!(found("b.a", "/mcp", "two"), "none");
    assert_eq!(found("a.b", "/", "two"), "none");
    assert_eq!(found("a.b", "/mcp", "three"), "none");
}

/// Transformations that lenient servers apply to a path, in the most common order.
const READERS: [fn(&str) -> String; 9] = [
    |path| path.split(['?', '#']).next().unwrap().to_owned(),
    |path| percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned(),
    |path| path.replace('\\', "/"),
    |path| {
        path.split('/').map(|part| part.split(';').next().unwrap()).collect::<Vec<_>>().join("/")
    },
    |path| {
        path.split('/').map(|part| part.trim_end_matches([' ', '.'])).collect::<Vec<_>>().join("/")
    },
    |path| {
        let mut parts = Vec::new();
        for part in path.split('/') {
            match part {
                "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        parts.join("/")
    },
    |path| {
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        format!("/{}", parts.join("/"))
    },
    str::to_lowercase,
    |path| path.to_uppercase().to_lowercase(),
];

/// If a path selects a policy, no lenient reading of the path selects another policy.
#[test]
fn lenient_reader_finds_no_other_policy() {
    const PARTS: [&str; 24] = [
        "/",
        "/",
        "/",
        "mcp",
        "admin",
        "public",
        "MCP",
        "Admin",
        "k",
        "%61dmin",
        "%2F",
        "%5c",
        "\\",
        ".",
        "..",
        ";x",
        "%3b",
        "%20",
        "%E2%84%AA",
        "%C5%BF",
        "?x",
        "%3f",
        "%25",
        "%32e",
    ];
    let gate = gate(
        "policies:
- {name: admin, match: {pathPrefixes: [/mcp/admin]}, rules: [{action: Deny}]}
- {name: k, match: {pathPrefixes: [/mcp/k, /s]}, rules: [{action: Deny}]}
- {name: exact, match: {pathPrefixes: [/public/Admin]}, rules: [{action: Deny}]}
- {name: public, match: {pathPrefixes: [/]}, rules: [{action: Allow}]}",
    );
    let found = |path: &str| {
        let head = head("", path);
        select(&gate.policies, &head).map(|policy| policy.map(|policy| policy.name.clone()))
    };
    let (mut state, mut selected) = (7_u64, 0);
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..200_000 {
        let count = 1 + random(6);
        let path: String = (0..count).map(|_| PARTS[random(PARTS.len())]).collect();
        let path = format!("/{path}");
        let Ok(policy) = found(&path) else { continue };
        selected += 1;
        // Some servers apply a few of these transformations, and some apply them repeatedly.
        let mut read = path.clone();
        for _ in 0..12 {
            read = READERS[random(READERS.len())](&read);
            if let Ok(other) = found(&read) {
                assert_eq!(other, policy, "{path} is read as {read}");
            }
        }
    }
    assert!(selected > 10_000, "{selected}");
}
