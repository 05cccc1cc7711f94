use crate::config::tests::doubts;

/// Each case has the place and the code of its warnings, perhaps none.
#[test]
fn what_is_probably_not_meant_is_said_with_its_place_and_reason() {
    let s = "source: {jwt: {scopes: [a]}}";
    let t = |tool: &str| format!("target: {{tools: [{{tool: {tool}}}]}}");
    let w = |tool: &str, when: &str| format!("target: {{tools: [{{tool: {tool}, when: {when}}}]}}");
    let cases: Vec<(Vec<String>, &[&str])> = vec![
        // Rules that never decide.
        (vec!["action: Allow".into(), "action: Deny".into()], &["shadowed-rule:5:"]),
        (vec!["action: Deny".into(), format!("action: Allow, {s}")], &["shadowed-rule:5:"]),
        (vec![format!("action: Allow, {s}"), "action: Deny".into()], &[]),
        (vec![format!("action: Deny, {}", t("'a*'")), format!("action: Allow, {}", t("ab"))], &["shadowed-rule:5:"]),
        (vec![format!("action: Deny, {}", t("ab")), format!("action: Allow, {}", t("ab"))], &["shadowed-rule:5:"]),
        (vec![format!("action: Allow, {}", t("ab")), "action: Deny".into()], &[]),
        (vec![format!("action: Allow, {}", w("a", "args.x")), format!("action: Allow, {}", w("a", "args.x"))], &["shadowed-rule:5:"]),
        (vec![format!("action: Allow, {}", w("a", "args.x")), format!("action: Allow, {}", w("a", "args.y"))], &[]),
        // The Deny rule decides if the condition cannot be evaluated.
        (vec![format!("action: Allow, {}", w("a", "args.x")), format!("action: Deny, {}", w("a", "args.x"))], &[]),
        (vec![format!("action: Deny, {}", w("a", "args.x")), format!("action: Allow, {}", w("a", "args.x"))], &["shadowed-rule:5:"]),
        (vec!["action: Allow, cel: args.x".into(), "action: Allow, cel: args.y".into()], &[]),
        (vec![
            "action: Allow, source: {jwt: {claims: [{name: c, valueType: String, values: [a, b]}]}}".into(),
            "action: Allow, source: {jwt: {claims: [{name: c, valueType: String, values: [a]}]}}".into(),
        ], &["shadowed-rule:5:"]),
        (vec![
            "action: Allow, source: {jwt: {claims: [{name: c, valueType: String, values: [a]}]}}".into(),
            "action: Deny, source: {jwt: {claims: [{name: c, valueType: String, values: [a, b]}]}}".into(),
        ], &[]),
        // Targets that a rule names twice.
        (vec!["action: Allow, target: {tools: [{tool: a, when: args.x}, {tool: a, when: args.y}]}".into()], &["repeated-target:4:"]),
        (vec!["action: Allow, target: {tools: [{tool: a, when: args.x}, {tool: a}]}".into()], &["repeated-target:4:"]),
        (vec!["action: Allow, target: {tools: [{tool: a}, {tool: a, backend: b}]}".into()], &[]),
        // Scopes that may be misspelled.
        (vec![format!("action: Allow, {}, source: {{jwt: {{scopes: ['repo:read']}}}}", t("a")), "action: Allow, source: {jwt: {scopes: [repo.read]}}".into()], &["similar-scopes:5:"]),
        (vec![format!("action: Allow, {}, source: {{jwt: {{scopes: ['repo:read']}}}}", t("a")), "action: Allow, source: {jwt: {scopes: ['repo:raed']}}".into()], &["similar-scopes:5:"]),
        (vec![format!("action: Allow, {}, source: {{jwt: {{scopes: ['tool:1']}}}}", t("a")), "action: Allow, source: {jwt: {scopes: ['tool:2']}}".into()], &[]),
        (vec!["action: Allow, source: {jwt: {scopes: ['repo:read', 'repo:reads']}}".into()], &[]),
        // Headers with capitals.
        (
            vec!["action: Allow, cel: \"request.headers['X-A'] == 'b'\"".into()],
            &["header-capitals:4:"],
        ),
        // Patterns that match a name of another rule.
        (vec![format!("action: Allow, {s}, {}", t("ab")), format!("action: Allow, {}", t("'a*'"))], &["glob-overlap:5:"]),
        (vec![format!("action: Deny, {s}, {}", t("ab")), format!("action: Deny, {}", t("'a*'"))], &[]),
        (vec![format!("action: Allow, {s}, {}", t("ab")), format!("action: Allow, {}", t("'*'"))], &[]),
        (vec![format!("action: Allow, {s}, {}", t("ab")), format!("action: Allow, {}", t("'b*'"))], &[]),
    ];
    for (rules, expected) in cases {
        let rules: String = rules.iter().map(|rule| format!("  - {{{rule}}}\n")).collect();
        let found = doubts(&format!("policies:\n- name: p\n  rules:\n{rules}"));
        let starts: Vec<bool> =
            found.iter().zip(expected).map(|(doubt, start)| doubt.starts_with(start)).collect();
        assert!(
            found.len() == expected.len() && starts.iter().all(|same| *same),
            "{rules}{found:#?}\nexpected {expected:?}"
        );
    }
    let ignored = "policies:\n- name: p\n  conditionErrors: NoMatch\n  rules:\n  - {action: Deny, cel: args.x}\n  - {action: Deny, cel: request.mcp.method == 'x'}\n  - {action: Deny, cel: request.host == 'x'}\n";
    let found = doubts(ignored);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("ignored-condition-errors:5:"), "{found:?}");
    assert!(found[1].starts_with("ignored-condition-errors:7:"), "{found:?}");
    let connected = "policies:\n- name: p\n  scopeHierarchy: {'repo:reads': ['repo:read']}\n  rules:\n  - {action: Allow, source: {jwt: {scopes: ['repo:read']}}, cel: args.x}\n  - {action: Allow, source: {jwt: {scopes: ['repo:reads']}}}\n";
    assert!(doubts(connected).is_empty(), "{:?}", doubts(connected));
}

/// Returns the codes of all warnings of a policy.
fn codes(head: &str, rules: &[&str]) -> Vec<String> {
    let rules: String = rules.iter().map(|rule| format!("  - {{{rule}}}\n")).collect();
    let found = doubts(&format!("policies:\n- name: p\n{head}  rules:\n{rules}"));
    found.iter().map(|doubt| doubt.split(':').next().unwrap().to_owned()).collect()
}

#[test]
fn shadowed_rule_never_decides_in_doubt() {
    let claim = |action: &str, values: &str| {
        let claim = format!("{{name: c, valueType: String, values: [{values}]}}");
        format!("action: {action}, source: {{jwt: {{claims: [{claim}]}}}}")
    };
    let scope = |action: &str| format!("action: {action}, source: {{jwt: {{scopes: [a]}}}}");
    let tool =
        |action: &str, target: &str| format!("action: {action}, target: {{tools: [{target}]}}");
    let cel = |action: &str| format!("action: {action}, cel: request.host == 'a'");
    let header = "  backend: {header: x-b}\n";
    let no_match = "  conditionErrors: NoMatch\n";
    let all_of_b = tool("Allow", "{backend: b, tool: '*'}");
    for (label, head, earlier, later, expected) in [
        ("claim of another type", "", claim("Allow", "a"), claim("Deny", "a"), false),
        ("claim, both deny", "", claim("Deny", "a, b"), claim("Deny", "a"), true),
        ("claim of two types", "", claim("Deny", "a, 7"), claim("Deny", "a"), false),
        ("claim of two types, allowed", "", claim("Deny", "a, 7"), claim("Allow", "a"), true),
        ("claim, no doubt to allow", "", claim("Deny", "a"), claim("Allow", "a"), true),
        ("unclear scope", "", scope("Allow"), scope("Deny"), false),
        ("scope, both deny", "", scope("Deny"), scope("Deny"), true),
        ("backend", "", all_of_b.clone(), tool("Deny", "{backend: b, tool: t}"), false),
        ("missing header", header, all_of_b.clone(), tool("Deny", "{backend: b, tool: t}"), false),
        ("backend, both allow", "", all_of_b, tool("Allow", "{backend: b, tool: t}"), true),
        ("spelling", "", tool("Allow", "{tool: t}"), tool("Deny", "{tool: t}"), false),
        ("all tools", "", tool("Allow", "{tool: '*'}"), tool("Deny", "{tool: t}"), true),
        ("everything", "", "action: Allow".to_owned(), claim("Deny", "a"), true),
        ("condition that costs too much", no_match, cel("Allow"), cel("Deny"), false),
        ("condition, both deny", "", cel("Deny"), cel("Deny"), true),
    ] {
        let found = codes(head, &[&earlier, &later, "action: Allow"]);
        let shadowed = found.iter().any(|code| code == "shadowed-rule");
        assert_eq!(shadowed, expected, "{label}: {found:?}");
    }
}

#[test]
fn deny_rules_shadow_and_overlap_other_spellings() {
    let tool =
        |action: &str, target: &str| format!("action: {action}, target: {{tools: [{target}]}}");
    let some = |target: &str| format!("{}, cel: request.host == 'a'", tool("Deny", target));
    let uri = |action: &str, uri: &str| {
        format!("action: {action}, target: {{resources: [{{uri: 'file:///{uri}'}}]}}")
    };
    let (allow, deny) = (|target: &str| tool("Allow", target), |target: &str| tool("Deny", target));
    let (shadowed, overlaps) = (Some("shadowed-rule"), Some("glob-overlap"));
    for (label, earlier, later, expected) in [
        ("capital", deny("{tool: Delete}"), allow("{tool: delete}"), shadowed),
        ("capital allowed", deny("{tool: delete}"), allow("{tool: Delete}"), shadowed),
        ("capital, both deny", deny("{tool: Delete}"), deny("{tool: delete}"), shadowed),
        ("capital, both allow", allow("{tool: Delete}"), allow("{tool: delete}"), None),
        (
            "backend",
            deny("{backend: GitHub, tool: x}"),
            allow("{backend: github, tool: x}"),
            shadowed,
        ),
        ("other backend", deny("{backend: a, tool: x}"), allow("{backend: b, tool: x}"), None),
        ("resource", uri("Deny", "A"), uri("Allow", "A"), shadowed),
        ("resource's capital", uri("Deny", "a"), uri("Allow", "A"), None),
        ("pattern", some("{tool: 'Delete_*'}"), allow("{tool: delete_x}"), overlaps),
        ("name", some("{tool: Delete_x}"), allow("{tool: 'delete_*'}"), overlaps),
        ("pattern, both allow", allow("{tool: 'Delete_*'}"), allow("{tool: delete_x}"), None),
        (
            "pattern of a backend",
            some("{backend: B, tool: 'x*'}"),
            allow("{backend: b, tool: xy}"),
            overlaps,
        ),
        (
            "pattern of another backend",
            some("{backend: a, tool: 'x*'}"),
            allow("{backend: b, tool: xy}"),
            None,
        ),
        (
            "resources",
            format!("{}, cel: request.host == 'a'", uri("Deny", "A*")),
            uri("Allow", "ab"),
            None,
        ),
    ] {
        let found = codes("  enforce: [tools, resources]\n", &[&earlier, &later]);
        let mut about =
            found.iter().filter(|code| ["shadowed-rule", "glob-overlap"].contains(&code.as_str()));
        assert_eq!(about.next().map(String::as_str), expected, "{label}: {found:?}");
    }
}

#[test]
fn evaded_deny_rules_are_doubted() {
    let claim = "source: {jwt: {claims: [{name: status, valueType: String, values: [x]}]}}";
    let guest = "source: {jwt: {scopes: [guest]}}";
    let read = "source: {jwt: {scopes: [read]}}";
    let tool = |tool: &str| format!("target: {{tools: [{{tool: '{tool}'}}]}}");
    let capital = "target: {tools: [{backend: GitHub, tool: Delete}]}";
    let challenge = "unauthenticated: Challenge\n  resourceMetadataURL: https://a/b";
    let deny = |parts: &str| format!("action: Deny, {parts}");
    let allow = |parts: &str| format!("action: Allow, {parts}");
    for (label, rules, head, way) in [
        ("no token", vec![deny(claim), "action: Allow".into()], "", Some("presenting no token")),
        ("no token, by the default", vec![deny(claim)], "defaultAction: Allow", Some("no token")),
        ("a token is required", vec![deny(claim), allow(read)], "", None),
        (
            "a token is required of all",
            vec![deny(claim), "action: Allow".into()],
            "unauthenticated: Challenge\n  resourceMetadataURL: https://a/b",
            None,
        ),
        ("another scope", vec![deny(guest), allow(read)], "", Some("only the scopes `read`")),
        (
            "a scope that implies it",
            vec![deny(guest), allow(read)],
            "scopeHierarchy: {read: [guest]}",
            None,
        ),
        (
            "no scopes",
            vec![deny(guest), "action: Allow".into()],
            "unauthenticated: Challenge\n  resourceMetadataURL: https://a/b",
            Some("a token with no scopes"),
        ),
        (
            "another tool",
            vec![deny(&format!("{guest}, {}", tool("write_*"))), allow(&tool("read_*"))],
            "",
            None,
        ),
        (
            "some of the tools",
            vec![deny(&format!("{guest}, {}", tool("write_*"))), allow(&tool("*_file"))],
            "",
            Some("no token"),
        ),
        (
            "another rule denies",
            vec![deny(claim), deny(&tool("*")), "action: Allow".into()],
            "",
            None,
        ),
        (
            "allowed before, with a token",
            vec![allow(read), deny(&format!("{guest}, {}", tool("delete")))],
            challenge,
            None,
        ),
        (
            "allowed before, to all",
            vec!["action: Allow".into(), deny(guest), allow(read)],
            "",
            None,
        ),
        (
            "some allowed before",
            vec![allow(&tool("a")), deny(guest), "action: Allow".into()],
            "",
            Some("no token"),
        ),
        (
            "denied to all in capitals",
            vec![deny(&format!("{guest}, {capital}")), deny(capital), "action: Allow".into()],
            "",
            None,
        ),
        (
            "allowed in another spelling",
            vec![deny(&format!("{guest}, {capital}")), allow(&tool("delete"))],
            "",
            Some("no token"),
        ),
        (
            "condition over scopes",
            vec![deny(r#"cel: '"guest" in request.auth.jwt.scopes'"#), "action: Allow".into()],
            "",
            Some("no token"),
        ),
        (
            "condition over scopes, a token is required",
            vec![deny(r#"cel: '"guest" in request.auth.jwt.scopes'"#), "action: Allow".into()],
            challenge,
            Some("a token with no scopes"),
        ),
        (
            "condition over a claim",
            vec![deny("cel: has(request.auth.jwt.claims.suspended)"), "action: Allow".into()],
            "",
            Some("no token"),
        ),
        (
            "condition that fails without a token",
            vec![deny("cel: request.auth.jwt.claims.status == 'x'"), "action: Allow".into()],
            "",
            None,
        ),
        (
            "condition that a token avoids",
            vec![deny(r#"cel: '!("a" in request.auth.jwt.scopes)'"#), "action: Allow".into()],
            "",
            None,
        ),
        (
            "condition over an argument, too",
            vec![
                deny(r#"cel: 'args.x == 1 && "guest" in request.auth.jwt.scopes'"#),
                "action: Allow".into(),
            ],
            "",
            Some("no token"),
        ),
        (
            "condition that an argument may meet",
            vec![
                deny(r#"cel: 'args.x == 1 && !("a" in request.auth.jwt.scopes)'"#),
                "action: Allow".into(),
            ],
            "",
            None,
        ),
        (
            "allowed by a condition over the denied scope",
            vec![deny(guest), allow(r#"cel: '"guest" in request.auth.jwt.scopes'"#)],
            challenge,
            None,
        ),
    ] {
        let rules: String = rules.iter().map(|rule| format!("  - {{{rule}}}\n")).collect();
        let head = if head.is_empty() { String::new() } else { format!("  {head}\n") };
        let found = doubts(&format!("policies:\n- name: p\n{head}  rules:\n{rules}"));
        let mut found = found.iter().filter(|doubt| doubt.starts_with("evaded-deny-rule"));
        match (found.next(), way) {
            (None, None) => {}
            (Some(doubt), Some(way)) => assert!(doubt.contains(way), "{label}: {doubt}"),
            (found, _) => panic!("{label}: {found:?}"),
        }
    }
}

#[test]
fn names_that_deny_rules_unite_are_doubted() {
    let found = |rules: &[&str]| {
        let rules: String = rules.iter().map(|rule| format!("  - {{{rule}}}\n")).collect();
        doubts(&format!("policies:\n- name: p\n  rules:\n{rules}"))
    };
    let codes = |rules: &[&str]| -> Vec<String> {
        let code = |doubt: &String| doubt.split(": ").next().unwrap().to_owned();
        found(rules).iter().map(code).collect()
    };
    let upper = "action: Allow, target: {tools: [{tool: Read}]}";
    let lower = "action: Deny, target: {tools: [{tool: read}]}";
    assert_eq!(codes(&[upper, lower]), ["confusable-names:5:37"]);
    assert!(codes(&[lower, "action: Allow, target: {tools: [{tool: write}]}"]).is_empty());
    let targets = |targets: &str| format!("action: Allow, target: {{tools: [{targets}]}}");
    for (label, rule, expected) in [
        ("other backends", "{backend: a, tool: x}, {backend: b, tool: X}", 0),
        ("one backend", "{backend: a, tool: x}, {backend: a, tool: X}", 1),
        ("any backend", "{backend: a, tool: x}, {tool: X}", 1),
        ("any backend first", "{tool: x}, {backend: a, tool: X}", 1),
        ("spelled backend", "{backend: a, tool: x}, {backend: A, tool: y}", 1),
        ("spelled twice", "{backend: a, tool: x}, {backend: A, tool: X}", 2),
        ("once each", "{backend: a, tool: x}, {backend: b, tool: x}", 0),
    ] {
        assert_eq!(codes(&[&targets(rule)]).len(), expected, "{label}");
    }
    let compares = |action: &str, cel: &str| format!("action: {action}, cel: '{cel}'");
    for cel in [
        r#"request.mcp.tool == "x""#,
        r#"request.mcp.backend in ["x"]"#,
        r#"request.mcp.tool.startsWith("x")"#,
        r#"request.mcp.?tool.orValue("") == "x""#,
        r#"request.mcp.tool + "" == "x""#,
        r#"request.mcp.tool < "x""#,
        r#"{"x": true}[?request.mcp.tool].orValue(false)"#,
        r#"[request.mcp.tool].exists(name, name == "x")"#,
        r#"(args.x ? request.mcp.tool : "") == "x""#,
        r#"request.mcp == {"tool": "x"}"#,
    ] {
        assert_eq!(codes(&[&compares("Deny", cel)]).len(), 1, "{cel}");
        assert!(codes(&[&compares("Allow", cel)]).is_empty(), "{cel}");
    }
    for action in ["Allow", "Deny"] {
        let excludes = compares(action, r#"request.mcp.tool != "x""#);
        assert_eq!(codes(&[&excludes]).len(), 1, "{action}");
        for cel in ["size(request.mcp.tool) > 9", "has(request.mcp.tool)"] {
            assert!(codes(&[&compares(action, cel)]).is_empty(), "{action} {cel}");
        }
    }
}

#[test]
fn handshake_that_nobody_may_finish_is_doubted() {
    let found = |rules: &[&str]| {
        let rules: String = rules.iter().map(|rule| format!("  - {{{rule}}}\n")).collect();
        doubts(&format!("policies:\n- name: p\n  enforce: [methods]\n  rules:\n{rules}"))
    };
    let allow = |methods: &str| format!("action: Allow, target: {{methods: [{methods}]}}");
    let initialize = allow("{method: initialize}");
    let both = allow("{method: initialize}, {method: 'notifications/*'}");
    let discover = allow("{method: server/discover}");
    let scoped = "action: Allow, source: {jwt: {scopes: [a]}}, target: {methods: [{method: '*'}]}";
    let deny = "action: Deny, target: {methods: [{method: notifications/initialized}]}";
    let sometimes = "action: Deny, cel: request.host == 'a', target: {methods: [{method: '*'}]}";
    for (rules, expected) in [
        ([both.as_str()].as_slice(), None),
        (&[&discover], None),
        (&[scoped], None),
        (&["action: Allow"], None),
        (&[sometimes, &both], None),
        (&[&both, deny], None),
        (&[&initialize], Some("notifications/initialized")),
        (&[deny, &both], Some("notifications/initialized")),
        (&[&allow("{method: ping}")], Some("server/discover")),
        (&["action: Deny, target: {methods: [{method: '*'}]}", &discover], Some("server/discover")),
    ] {
        let found: Vec<String> = found(rules)
            .into_iter()
            .filter(|doubt| doubt.starts_with("nothing-allowed:"))
            .collect();
        match (expected, found.as_slice()) {
            (None, []) => {}
            (Some(method), [doubt]) => assert!(
                doubt.contains(&format!("allow `{method}`"))
                    || doubt.contains(&format!("or `{method}`")),
                "{doubt}"
            ),
            _ => panic!("{rules:?}: {found:?}"),
        }
    }
    let open = "policies:\n- name: p\n  enforce: [methods]\n  defaultAction: Allow\n  rules:\n  - {action: Deny}\n";
    assert!(doubts(open).iter().any(|doubt| doubt.contains("no client can begin")), "{open}");
}

#[test]
fn literal_star_is_a_mistake() {
    for (label, parts, place) in [
        (
            "claim",
            "rules: [{source: {jwt: {claims: [{name: 'groups.*', valueType: String, values: [a]}]}}, action: Allow}]",
            "rules[0].source.jwt.claims[0].name",
        ),
        ("route", "match: {routes: ['a*']}, rules: [{action: Allow}]", "match.routes[0]"),
        ("backend", "backend: {name: 'a*'}, rules: [{action: Allow}]", "backend.name"),
        ("header", "backend: {header: 'x-*'}, rules: [{action: Allow}]", "backend.header"),
        (
            "attribute",
            "backend: {attribute: 'xds.*'}, rules: [{action: Allow}]",
            "backend.attribute",
        ),
    ] {
        let found = doubts(&format!("policies:\n- {{name: p, {parts}}}\n"));
        let expected = |found: &&String| {
            found.starts_with("error")
                && found.contains(place)
                && found.contains("`*` is no pattern")
        };
        assert_eq!(found.iter().filter(expected).count(), 1, "{label}: {found:#?}");
    }
}
