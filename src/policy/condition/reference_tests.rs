//! Tests of conditions in an `MCPRoute`, which must evaluate as in cel-go and Agent Router, next to
//! native conditions.

use super::tests::{outcome, outcome_in};
use super::*;

const ARGUMENTS: &str = r#"{"s":"text","n":1.5,"b":true,"z":null,"o":{"k":1},"l":["a"],
    "big":1000000,"time":"2026-01-02t03:04:05Z","span":"30m 9999h","wide":"1e999","plus":"+5"}"#;

/// Checks the outcomes of conditions over [`ARGUMENTS`], in native policies and in an `MCPRoute`.
fn check(cases: &[(&str, &str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(source, native, route)| {
            let found =
                (outcome(source, ARGUMENTS), outcome_in(Dialect::McpRoute, source, ARGUMENTS));
            (found != (*native, *route)).then(|| format!("{source}: {found:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn presence_in_scalar_is_false() {
    check(&[
        ("has(args.s.x)", "failed", "false"),
        ("has(args.n.x)", "failed", "false"),
        ("has(args.b.x)", "failed", "false"),
        ("has(args.z.x)", "failed", "false"),
        ("has(args.o.x)", "false", "false"),
        ("has(args.o.k)", "true", "true"),
        ("has(args.l.x)", "failed", "failed"),
        ("has(args.none.x)", "failed", "failed"),
        ("has(args.o.k.x)", "failed", "false"),
        ("has(args.s)", "true", "true"),
        ("has(args['s'].x)", "failed", "false"),
        ("args.l.exists(e, has(e.x))", "failed", "false"),
        ("has(args.?s.x)", "failed", "false"),
        ("has(args.?o.k)", "true", "true"),
        ("has(args.?l.x)", "failed", "failed"),
        ("has({'a': 1}.a)", "true", "true"),
        ("has(timestamp('2026-01-02T03:04:05Z').x)", "failed", "false"),
    ]);
}

#[test]
fn optional_member_of_list_fails() {
    check(&[
        ("args.s.?x.hasValue()", "failed", "false"),
        ("args.l.?x.hasValue()", "failed", "failed"),
        ("args.?l.x.hasValue()", "failed", "failed"),
        ("args.?s.x.hasValue()", "failed", "false"),
        ("args.?o.k.hasValue()", "true", "true"),
        ("args.?o['k'].hasValue()", "true", "true"),
        ("args.?l['k'].hasValue()", "failed", "failed"),
        ("args.o[?args.z].hasValue()", "failed", "failed"),
        ("args.o[?args.b].hasValue()", "failed", "false"),
        ("args.l[?args.n].hasValue()", "failed", "failed"),
        ("size([?args.s]) == 1", "true", "failed"),
        ("size([?1]) == 1", "true", "failed"),
        ("size([?args.?s, ?args.?none]) == 1", "true", "true"),
        ("size({?'a': args.s}) == 1", "true", "failed"),
        ("size({?'a': args.?s, ?'b': args.?none}) == 1", "true", "true"),
    ]);
}

#[test]
fn any_value_is_looked_for_among_keys() {
    check(&[
        ("null in args.o", "failed", "false"),
        ("args.z in args.o", "failed", "false"),
        ("args.l in args.o", "failed", "false"),
        ("args.o in args.o", "failed", "false"),
        ("args.?s in args.o", "failed", "false"),
        ("args.z in {1u: 1}", "failed", "false"),
        ("null in {'a': 1}", "failed", "false"),
        ("[null].exists(x, x in args.o)", "failed", "false"),
        ("args.s in args.s", "failed", "failed"),
        ("'k' in args.o", "true", "true"),
    ]);
}

#[test]
fn texts_convert_as_in_go() {
    check(&[
        ("timestamp(args.time) > timestamp('2020-01-01T00:00:00Z')", "true", "failed"),
        (
            "timestamp('2026-01-02T03:04:05Z') == timestamp('2026-01-02T03:04:05.0Z')",
            "true",
            "true",
        ),
        ("duration(args.span) <= duration('1h')", "true", "failed"),
        ("duration('1hx') == duration('1h')", "true", "failed"),
        ("duration('90m') == duration('1h30m')", "true", "true"),
        ("double(args.wide) > 1.0", "true", "failed"),
        ("double('1.5') == 1.5", "true", "true"),
        ("uint(args.plus) == 5u", "true", "failed"),
        ("uint('5') == 5u", "true", "true"),
        ("string(args.big) == '1e+06'", "false", "true"),
        ("string(args.n) == '1.5'", "true", "true"),
        ("string(args.s) == 'text'", "true", "true"),
        ("string(7) == '7'", "true", "true"),
    ]);
}

#[test]
fn tool_call_has_neither_prompt_nor_resource() {
    check(&[
        ("has(request.mcp.prompt)", "true", "false"),
        ("request.mcp.prompt == ''", "true", "failed"),
        ("request.mcp['resource'] == ''", "true", "failed"),
        ("'resource' in request.mcp", "true", "false"),
        ("size(request.mcp) == 4", "false", "true"),
        ("request.mcp.exists(k, k == 'prompt')", "true", "false"),
        ("request.mcp.?resource.orValue('none') == 'none'", "false", "true"),
    ]);
}

#[test]
fn unknown_and_empty_parameters_are_absent() {
    check(&[
        ("has(request.mcp.params.extra)", "true", "false"),
        ("'extra' in request.mcp.params", "true", "false"),
        ("request.mcp.params.extra == 1", "true", "failed"),
        ("has(request.mcp.params.requestState)", "true", "false"),
        ("has(request.mcp.params.inputResponses)", "true", "false"),
        ("has(request.mcp.params.gone)", "false", "false"),
        ("has(request.mcp.params._meta)", "true", "true"),
        ("request.mcp.params.exists(k, k == 'extra')", "true", "false"),
        ("request.mcp.params.all(k, k in ['name', 'arguments', '_meta'])", "false", "true"),
        ("size(request.mcp.params) == 3", "false", "true"),
        ("request.mcp.params.name == 'b__t'", "true", "true"),
    ]);
}

#[test]
fn default_of_optional_is_evaluated_lazily() {
    check(&[
        ("args.?s.orValue(args.none) == 'text'", "failed", "true"),
        ("args.?none.orValue(args.s) == 'text'", "true", "true"),
        ("args.?none.orValue(args.none) == 'text'", "failed", "failed"),
        (
            "args.?none.orValue(args.?missing.orValue(args.?s.orValue(1 / 0))) == 'text'",
            "failed",
            "true",
        ),
        ("args.?s.or(args.none).value() == 'text'", "failed", "true"),
        ("args.?none.or(args.?s).orValue('x') == 'text'", "true", "true"),
        ("args.?none.or(args.?missing).hasValue()", "false", "false"),
        ("args.s.orValue('x') == 'text'", "failed", "failed"),
        ("args.l.exists(e, args.?none.orValue(e) == 'a')", "true", "true"),
        ("optional.of(args.n).orValue(args.none) == 1.5", "failed", "true"),
    ]);
}

#[test]
fn optional_boolean_is_a_result() {
    check(&[
        ("args.?b", "failed", "true"),
        ("args.?none", "failed", "failed"),
        ("args.?s", "failed", "failed"),
        ("args.b ? args.?b : optional.of(false)", "failed", "true"),
        ("optional.of(false)", "failed", "false"),
        ("args.?b && true", "failed", "failed"),
        ("!args.?b", "failed", "failed"),
    ]);
}

#[test]
fn nested_defaults_count_twice() {
    let nested = |times| {
        let (open, closed) = ("args.?none.orValue(".repeat(times), ")".repeat(times));
        Condition::compile(&format!("{open}true{closed}"), Dialect::McpRoute).map(|_| ())
    };
    let chained = |times| {
        let source = format!("args.?none{}.hasValue()", ".or(args.?none)".repeat(times));
        Condition::compile(&source, Dialect::McpRoute).map(|_| ())
    };
    assert!(nested(60).is_ok() && chained(60).is_ok());
    for refused in [nested(64), chained(64)] {
        let errors = refused.unwrap_err();
        assert!(errors[0].message.contains("more than 128 deep"), "{errors:?}");
    }
}
