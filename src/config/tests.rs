use super::*;
use crate::policy::{BackendSource, Reason, Unauthenticated};

pub(super) fn problems(text: &str) -> Vec<String> {
    let shown = |finding: &Diagnostic| finding.to_string().replacen("policy:", "", 1);
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(LoadError(findings)) => findings.iter().map(shown).collect(),
    }
}

pub(super) const MINIMAL: &str = "policies: [{name: p, rules: [{action: Allow}]}]";

#[test]
fn what_is_left_out_has_the_documented_default() {
    let gate = parse(MINIMAL).unwrap();
    assert_eq!(gate.claims_from, metadata(None, None));
    assert_eq!(
        gate.limits,
        Limits {
            max_body_bytes: 4 << 20,
            max_body_parts: 16_384,
            max_header_bytes: 65_536,
            max_json_depth: 64,
            condition_cost: 10_000,
        }
    );
    assert!(
        matches!(&gate.policies[0].backend, BackendSource::ToolNamePrefix(text) if text == "__")
    );
    assert_eq!(gate.policies[0].unauthenticated, Unauthenticated::Forbid);
    assert_eq!(gate.policies[0].default_action, Action::Deny);
    assert_eq!(Reason::DenyDefault.to_string(), "deny_default");
}

#[test]
fn json_is_read_too() {
    assert!(parse(r#"{"policies":[{"name":"p","rules":[{"action":"Deny"}]}]}"#).is_ok());
}

/// A mistake must not make a rule match more calls. Each of these mistakes would, if the key
/// counted as omitted.
#[test]
fn an_empty_or_misplaced_key_is_not_a_key_left_out() {
    for rule in [
        "source:",
        "source: ~",
        "source: {}",
        "source: {jwt: }",
        "source: {jwt: {}}",
        "source: {jwt: {scopes: }}",
        "source: {jwt: {scopes: []}}",
        "source: {jwt: {scopes: a}}",
        "source: {jwt: {scopes: [~]}}",
        "source: {jwt: {claims: }}",
        "source: {jwt: {claims: []}}",
        "source: {jwt: {claims: [{}]}}",
        "source: {jwt: {claims: [{name: a, values: [b]}]}}",
        "source: {jwt: {claims: [{name: a, valueType: String}]}}",
        "source: {jwt: {claims: [{name: a, valueType: String, values: []}]}}",
        "source: {jwt: {claims: [{name: a, valueType: string, values: [b]}]}}",
        "source: {jwt: {claims: [{name: scope, valueType: String, values: [b]}]}}",
        "source: {jwt: {scopes: [a], claims: [{name: a, valueType: String, values: [~]}]}}",
        "source: {scopes: [a]}",
        "target:",
        "target: {}",
        "target: {tools: }",
        "target: {tools: []}",
        "target: {tools: {tool: a}}",
        "target: {tools: [{}]}",
        "target: {tools: [{tool: }]}",
        "target: {tools: [{backend: a}]}",
        "target: {tools: [{tool: a, backend: }]}",
        "target: {tools: [{tool: a, when: }]}",
        "target: {tools: [{tool: a, when: \"\"}]}",
        "target: {tools: [{tool: a, when: true}]}",
        "target: {tools: [{tool: a, toolName: a}]}",
        "Target: {tools: [{tool: a}]}",
        "cel:",
        "cel: true",
        "cel: ''",
        "cel: [args.x == 1]",
        "when: args.x == 1",
        "scopes: [a]",
        "action: Deny",
    ] {
        let text = format!("policies:\n- name: p\n  rules:\n  - action: Allow\n    {rule}\n");
        assert!(!problems(&text).is_empty(), "{rule}");
    }
}

/// A Deny rule that matches no call looks as if it denied something.
#[test]
fn a_target_that_can_match_no_call_is_a_mistake() {
    let prefix = "{toolNamePrefix: '__'}";
    let name = "{name: github}";
    for (backend, target, good) in [
        (prefix, "backend: '*', tool: drop", false),
        (prefix, "backend: 'git*', tool: drop", false),
        (prefix, "backend: git__hub, tool: drop", false),
        (prefix, "tool: github__drop", false),
        (prefix, "tool: 'github__*'", false),
        (prefix, "tool: __drop", true),
        (prefix, "backend: github, tool: a__b", true),
        (name, "backend: gitlab, tool: drop", false),
        (name, "backend: github, tool: drop", true),
        (name, "tool: github__drop", true),
        (name, "tool: 'drop '", false),
        (name, "tool: \"drop\\0\"", false),
    ] {
        let text = format!(
            "policies:\n- name: p\n  backend: {backend}\n  rules:\n  - {{action: Deny, target: {{tools: [{{{target}}}]}}}}\n"
        );
        assert_eq!(problems(&text).is_empty(), good, "{backend} {target}: {:?}", problems(&text));
    }
}

#[test]
fn a_scope_cannot_imply_itself() {
    let policy = |hierarchy: &str| {
        problems(&format!(
            "policies:\n- name: p\n  scopeHierarchy: {hierarchy}\n  rules: [{{action: Deny}}]\n"
        ))
    };
    assert!(policy("{a: [b, c], b: [c]}").is_empty());
    let found = policy("{a: [b], b: [c], c: [a]}");
    assert!(found[0].contains("`a` implies `b` implies `c` implies `a`"), "{found:?}");
    for wrong in [
        "",
        "[a]",
        "{a: b}",
        "{a: []}",
        "{a: ['x y']}",
        "{'x y': [a]}",
        "{a: [b, b]}",
        "{a: [b], a: [c]}",
    ] {
        assert!(!policy(wrong).is_empty(), "{wrong}");
    }
}

#[test]
fn a_number_is_plain() {
    for number in ["+5", "'10'", "010", "1e3", "0x10", "-1", "1.0", "ten", ""] {
        let text = format!("limits: {{maxBodyBytes: {number}}}\n{MINIMAL}");
        assert!(!problems(&text).is_empty(), "{number}");
    }
    assert!(problems(&format!("limits: {{maxBodyBytes: 1000}}\n{MINIMAL}")).is_empty());
}

#[test]
fn a_comment_that_swallows_what_follows_is_a_mistake() {
    let rule = "policies:\n- name: p\n  rules:\n  - action: Allow\n    target:\n      tools:\n      - tool: t\n        when: ";
    let lines = "args.a == 1 // the account\n          && args.b == 2\n";
    for style in [">-\n          ", ">\n          ", ""] {
        assert!(!problems(&format!("{rule}{style}{lines}")).is_empty(), "{style:?}");
    }
    assert!(problems(&format!("{rule}|\n          {lines}")).is_empty());
}

#[test]
fn a_key_twice_is_a_mistake_wherever_it_stands() {
    let text = "policies:\n- name: p\n  rules:\n  - action: Deny\n    action: Allow\n";
    assert_eq!(problems(text), ["5:5: the key `action` stands here again, after line 4"]);
}

#[test]
fn yaml_that_is_none_has_a_place() {
    assert_eq!(problems(""), ["1:1: the file is empty"]);
    assert!(problems("policies: [").first().is_some_and(|problem| problem.contains("not YAML")));
    assert!(
        problems("policies: !!set {a}").first().is_some_and(|problem| problem.contains("tags"))
    );
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let found = problems(&deep);
    assert!(found.first().is_some_and(|problem| problem.contains("deep")), "{found:?}");
}

#[test]
fn aliases_cannot_multiply_without_bound() {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..10 {
        let items = vec![format!("*a{}", n - 1); 10].join(",");
        text.push_str(&format!("a{n}: &a{n} [{items}]\n"));
    }
    assert!(problems(&text).iter().any(|problem| problem.contains("too large or too deep")));
    let reused = "policies:\n- name: p\n  rules:\n  - {action: Allow, source: &s {jwt: {scopes: [a]}}}\n  - {action: Deny, source: *s}\n";
    assert!(problems(reused).is_empty());
}

/// A few values can be long strings, and an anchor keeps a copy of its value.
#[test]
fn aliases_and_anchors_cannot_multiply_text() {
    let text = "x".repeat(100_000);
    let all = |name: &str| vec![format!("*{name}"); 100].join(",");
    let long = format!("a: &a {text}\nb: &b [{}]\nc: [{}]\n", all("a"), all("b"));
    assert!(problems(&long).iter().any(|problem| problem.contains("too large or too deep")));
    let open: String = (0..55).map(|n| format!("&a{n} [")).collect();
    let nested = format!("a: {open}{}{}", "x,".repeat(50_000), "]".repeat(55));
    assert!(problems(&nested).iter().any(|problem| problem.contains("more than 1000000 values")));
    let scope = format!(
        "policies: [{{name: p, rules: [{{action: Allow, source: {{jwt: {{scopes: [{text}]}}}}}}]}}]"
    );
    assert!(problems(&scope).iter().any(|problem| problem.contains("at most 256 bytes")));
}

/// The parser of conditions has a stack of its own, so an expression cannot exhaust the caller's.
#[test]
fn nested_conditions_are_parsed_on_a_stack_of_their_own() {
    for cel in ["(".repeat(90) + "true" + &")".repeat(90), "[".repeat(90), "size(".repeat(40)] {
        let text = format!("policies: [{{name: p, rules: [{{action: Allow, cel: '{cel}'}}]}}]");
        problems(&text);
    }
}

/// Each alias has few levels of its own, but many with the value that it refers to.
#[test]
fn aliases_cannot_nest_without_bound() {
    let mut text = format!("a0: &a0 {}x{}\n", "[".repeat(50), "]".repeat(50));
    for n in 1..200 {
        let (open, close) = ("[".repeat(50), "]".repeat(50));
        text.push_str(&format!("a{n}: &a{n} {open}*a{}{close}\n", n - 1));
    }
    assert!(problems(&text).iter().any(|problem| problem.contains("too large or too deep")));
}

#[test]
fn one_mistake_does_not_hide_another() {
    let text = "\
jwt: {from: header, metadata: {namespaces: x}}
polices: []
policies:
- name: p
  name: q
  rules:
  - action: allow
";
    let found = problems(text);
    let expected = [
        "1:13: jwt.from",
        "1:32: jwt.metadata: unknown key `namespaces`",
        "2:1: unknown key `polices`",
        "5:3: the key `name` stands here again",
        "7:13: policies[0].rules[0].action",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (problem, start) in found.iter().zip(expected) {
        assert!(problem.starts_with(start), "{problem}\nis not\n{start}");
    }
}

#[test]
fn a_condition_is_blamed_at_its_column() {
    let rule = |when: &str| {
        format!(
            "policies:\n- name: p\n  rules:\n  - action: Allow\n    target: {{tools: [{{tool: t, when: {when}}}]}}\n"
        )
    };
    for (when, expected) in [
        ("args.x ==", "5:47: "),
        ("'arg.x == 1'", "5:39: "),
        ("\"äö == foo\"", "5:39: "),
        ("\"'äö' == foo\"", "5:47: "),
    ] {
        let found = problems(&rule(when));
        assert!(
            found.first().is_some_and(|problem| problem.starts_with(expected)),
            "{when}: {found:?}"
        );
    }
}

#[test]
fn a_challenge_needs_somewhere_to_log_in() {
    let found =
        problems("policies: [{name: p, unauthenticated: Challenge, rules: [{action: Deny}]}]");
    assert!(
        found.first().is_some_and(|problem| problem.contains("resourceMetadataURL")),
        "{found:?}"
    );
}

#[test]
fn a_url_that_would_break_the_header_is_refused() {
    for url in [
        "x",
        "https://",
        "https:///x",
        "ftp://a",
        "https://a\\b",
        "https://a b",
        "https://a?scope=b",
        "'https://a\"b'",
    ] {
        let text = format!(
            "policies: [{{name: p, resourceMetadataURL: {url}, rules: [{{action: Deny}}]}}]"
        );
        assert!(!problems(&text).is_empty(), "{url}");
    }
}

#[test]
fn a_policy_that_never_applies_is_a_mistake() {
    let file = |first: &str, second: &str| {
        problems(&format!(
            "policies:\n- {{name: a, {first}rules: [{{action: Deny}}]}}\n- {{name: b, {second}rules: [{{action: Deny}}]}}\n"
        ))
    };
    let (x, y) = ("match: {hosts: [x]}, ", "match: {hosts: [y]}, ");
    assert!(file(x, y).is_empty() && file(x, "").is_empty());
    let below = "match: {hosts: ['*.x', y]}, ";
    for found in [file("", ""), file("", y), file(x, x), file(below, y)] {
        assert!(found[0].starts_with("3:3: policies[1]: this policy never applies"), "{found:?}");
    }
    for wrong in [
        "match: , ",
        "match: {}, ",
        "match: {hosts: []}, ",
        "match: {hosts: x}, ",
        "match: {host: [x]}, ",
        "match: {hosts: ['x:80']}, ",
        "match: {hosts: ['*']}, ",
        "match: {pathPrefixes: [mcp]}, ",
        "match: {pathPrefixes: [/a/../b]}, ",
        "match: {routes: [7]}, ",
        "match: {hosts: [x], pathPrefixes: }, ",
    ] {
        assert!(!file(wrong, "").is_empty(), "{wrong}");
    }
    let same_name = "policies:\n- {name: a, match: {hosts: [x]}, rules: [{action: Deny}]}\n- {name: a, rules: [{action: Deny}]}\n";
    assert!(problems(same_name)[0].contains("another policy is called `a`"));
}

/// Returns the findings that `validate` reports, without the file name.
pub(super) fn doubts(text: &str) -> Vec<String> {
    let source = Source { file: Path::new("x").into(), text: text.to_owned() };
    let (_, findings) = gate((vec![Ok(source)], String::new()), LintMode::Everything);
    let code = |finding: &Diagnostic| finding.lint.map_or("error", Lint::as_str);
    findings
        .iter()
        .map(|finding| format!("{}{}", code(finding), finding.to_string().replacen("x", "", 1)))
        .collect()
}

#[test]
fn several_documents_make_one_policy_list() {
    let text = "\
---
jwt: {metadata: {key: k}}
policies: [{name: a, match: {hosts: [a]}, rules: [{action: Deny}]}]
---
# nothing
---
limits: {maxJsonDepth: 9}
policies: [{name: b, rules: &r [{action: Deny}]}]
";
    let gate = parse(text).unwrap();
    let names: Vec<&str> = gate.policies.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(gate.limits.max_json_depth, 9);
    assert_eq!(gate.claims_from, metadata(None, Some("k".to_owned())));
    let twice = "limits: {maxJsonDepth: 9}\npolicies: [{name: N, match: {hosts: [N]}, rules: [{action: Deny}]}]\n---\n";
    let text = format!("{}{}", twice.replace('N', "a"), twice.replace('N', "b"));
    assert_eq!(problems(&text), ["4:9: limits: `limits` is given already, in policy"]);
    let anchor = format!("{text}---\npolicies: *r\n");
    assert!(problems(&anchor).iter().any(|problem| problem.contains("not YAML")), "anchors end");
}

#[test]
fn mistake_hides_no_other_in_its_file() {
    for (text, expected) in [
        // The loader reports mistakes before the place where the file is no YAML.
        ("policies: [{name: p, tasks: x}]\n---\npolicies: [", vec!["1:29: ", "4:1: not YAML"]),
        // A second `limits` is a mistake, even if the first has one.
        (
            "limits: {maxJsonDepth: 1}\npolicies: [{name: p}]\n---\nlimits: {maxJsonDepth: 9}\npolicies: [{name: q}]",
            vec![
                "1:24: ",
                "4:9: limits: `limits` is given already",
                "5:12: policies[0]: this policy never applies",
            ],
        ),
        (
            "policies: [{name: p, scopeHierarchy: {a: [b], b: [a], c: [d], d: [c]}}]",
            vec![
                "1:38: policies[0].scopeHierarchy: a scope implies itself: `a`",
                "1:38: policies[0].scopeHierarchy: a scope implies itself: `c`",
            ],
        ),
        // The loader reads each of the three ways to name a backend.
        (
            "policies: [{name: p, backend: {name: 1, header: 'x y', attribute: ''}}]",
            vec!["1:38: ", "1:49: ", "1:49: ", "1:67: ", "1:67: "],
        ),
        // A `match` with an invalid host does not match every request.
        ("policies: [{name: p, match: {hosts: [a b]}}, {name: q}]", vec!["1:38: "]),
        (
            "policies: [{name: p, match: {hosts: [a b], onlyByName: true}}]",
            vec!["1:38: ", "1:56: "],
        ),
    ] {
        let found = problems(text);
        let starts = |(found, expected): (&String, &&str)| found.starts_with(expected);
        assert_eq!(found.len(), expected.len(), "{text}: {found:#?}");
        assert!(found.iter().zip(&expected).all(starts), "{text}: {found:#?}");
    }
}

#[test]
fn rules_and_actions_may_be_absent() {
    for (policy, actions, codes) in [
        ("{name: p}", [].as_slice(), ["no-rules:1:12"].as_slice()),
        ("{name: p, rules: []}", &[], &["no-rules:1:29"]),
        ("{name: p, rules: [{cel: 'true'}]}", &[Action::Allow], &[]),
        ("{name: p, rules: [{name: r}]}", &[Action::Allow], &["open-rule:1:30"]),
        ("{name: p, rules: [{action: Allow}]}", &[Action::Allow], &[]),
    ] {
        let text = format!("policies: [{policy}]");
        let gate = parse(&text).unwrap();
        let found: Vec<Action> = gate.policies[0].rules.iter().map(|rule| rule.action).collect();
        assert_eq!(found, actions, "{policy}");
        let doubts = doubts(&text);
        assert_eq!(doubts.len(), codes.len(), "{policy}: {doubts:?}");
        let starts = |(doubt, code): (&String, &&str)| doubt.starts_with(code);
        assert!(doubts.iter().zip(codes).all(starts), "{policy}: {doubts:?}");
    }
    for emptied in ["{name: p, rules: }", "{name: p, rules: [{action: }]}", "{name: p, rules: ~}"] {
        assert_eq!(problems(&format!("policies: [{emptied}]")).len(), 1, "{emptied}");
    }
}

#[test]
fn surrogate_pair_of_json_is_one_character() {
    let name = |text: &str| Ok::<_, LoadError>(parse(text)?.policies[0].name.clone());
    let json = r#"{"policies":[{"name":"a\ud83d\ude42b\\ud83d\\ude42\u00e9","rules":[]}]}"#;
    assert_eq!(name(json).unwrap(), "a🙂b\\ud83d\\ude42é");
    // Half a surrogate pair is no character, and the other texts are no JSON.
    for text in [
        r#"{"policies":[{"name":"\ud83d","rules":[]}]}"#,
        r#"{"policies":[{"name":"\ude42\ud83d","rules":[]}]}"#,
    ] {
        assert!(name(text).unwrap_err().to_string().contains("not YAML"), "{text}");
    }
    assert_eq!(name(r#"policies: [{name: '\ud83d\ude42'}]"#).unwrap(), r"\ud83d\ude42");
}
