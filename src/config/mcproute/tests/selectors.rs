//! Selectors and prefixes of backends.

use super::*;

/// Returns a route whose rules allow every tool.
fn route(prefix_mode: &str, backends: &str) -> String {
    format!(
        "apiVersion: aigateway.envoyproxy.io/v1beta1\nkind: MCPRoute\nmetadata: {{name: r}}\n\
         spec:\n  path: /tools\n  prefixMode: {prefix_mode}\n  backendRefs: {backends}\n  \
         securityPolicy: {{authorization: {{rules: [{{action: Allow}}]}}}}\n"
    )
}

fn status(text: &str, method: &str, name: &str) -> u16 {
    called(text, None, (method, name)).0
}

#[test]
fn selector_exposes_what_it_includes() {
    for (selector, name, expected) in [
        ("{include: [a]}", "a", 200),
        ("{include: [a]}", "b", 403),
        ("{include: []}", "b", 200),
        ("{include: [a], exclude: [a]}", "a", 403),
        ("{includeRegex: ['^get_', 'list']}", "get_x", 200),
        ("{includeRegex: ['^get_', 'list']}", "all_list", 200),
        ("{includeRegex: ['^get_', 'list']}", "x_get_", 403),
        ("{includeRegex: ['^get_'], exclude: [get_key]}", "get_key", 403),
        ("{excludeRegex: ['key']}", "get_key", 403),
        ("{excludeRegex: ['key']}", "get", 200),
        ("{exclude: []}", "a", 200),
    ] {
        let text =
            route("Always", &format!("[{{name: b1, toolSelector: {selector}}}, {{name: b2}}]"));
        assert_eq!(
            status(&text, "tools/call", &format!("b1__{name}")),
            expected,
            "{selector} {name}"
        );
        assert_eq!(status(&text, "tools/call", "b2__other"), 200, "{selector}");
        // `toolSelector` does not apply to prompts.
        assert_eq!(status(&text, "prompts/get", &format!("b1__{name}")), 200, "{selector}");
        let text = route("Always", &format!("[{{name: b1, promptSelector: {selector}}}]"));
        assert_eq!(
            status(&text, "prompts/get", &format!("b1__{name}")),
            expected,
            "{selector} {name}"
        );
        assert_eq!(status(&text, "tools/call", &format!("b1__{name}")), 200, "{selector} {name}");
    }
}

#[test]
fn prefix_mode_of_backend_wins() {
    let include = "toolSelector: {include: [a, c], exclude: [c]}";
    for (route_mode, backend_mode, name, expected) in [
        ("Never", "", "a", 200),
        ("Never", "", "b1__a", 200),
        ("Never", "", "b", 400),
        ("Never", "", "c", 400),
        ("Never", ", prefixMode: Always", "a", 400),
        ("Never", ", prefixMode: Always", "b1__a", 200),
        ("Always", ", prefixMode: Never", "a", 200),
        ("Always", "", "a", 400),
    ] {
        let text = route(route_mode, &format!("[{{name: b1, {include}{backend_mode}}}]"));
        let found = status(&text, "tools/call", name);
        assert_eq!(found, expected, "{route_mode}{backend_mode} {name}");
    }
    // Prompts keep the prefix, unless a selector lists them.
    let prompts = |selector: &str| route("Never", &format!("[{{name: b1, {include}{selector}}}]"));
    let method = "prompts/get";
    let listed = prompts(", promptSelector: {include: [a]}");
    let found = [(&listed, "a"), (&listed, "b1__a"), (&listed, "b1__b"), (&prompts(""), "b1__b")];
    assert_eq!(found.map(|(text, name)| status(text, method, name)), [200, 200, 403, 200]);
}

#[test]
fn shared_bare_name_is_an_error() {
    let backend =
        |name: &str, tools: &str| format!("{{name: {name}, toolSelector: {{include: {tools}}}}}");
    let both = |second: &str| format!("[{}, {}]", backend("b1", "[a, b]"), second);
    let found = problems(&route("Never", &both(&backend("b2", "[b]"))));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`b` needs no prefix in `b1` and in `b2`"), "{found:?}");
    assert!(found[0].contains("spec.backendRefs[1]:"), "{found:?}");
    let other = "{name: b2, prefixMode: Always, toolSelector: {include: [b]}}";
    assert!(problems(&route("Never", &both(other))).is_empty());
}
