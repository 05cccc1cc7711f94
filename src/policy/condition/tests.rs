use super::*;
use crate::claims::Claims;
use crate::head::Head;
use crate::mcp::{Accept, Message, MirroredHeaders, TargetKind, read};
use crate::policy::{Backend, CallTarget};

pub(super) fn evaluate(source: &str, arguments: &str) -> Result<Outcome, Problem> {
    evaluate_with(&Budget::of(10_000), source, arguments)
}

pub(super) fn evaluate_with(
    budget: &Budget,
    source: &str,
    arguments: &str,
) -> Result<Outcome, Problem> {
    evaluate_in(Dialect::Native, &[budget], source, arguments)
}

/// Evaluates a condition for one call, once with each budget. Returns the last outcome.
pub(super) fn evaluate_in(
    dialect: Dialect,
    budgets: &[&Budget],
    source: &str,
    arguments: &str,
) -> Result<Outcome, Problem> {
    let condition =
        Condition::compile(source, dialect).unwrap_or_else(|errors| panic!("{source}: {errors:?}"));
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call",
            "params":{{"name":"b__t","arguments":{arguments},"_meta":{{"progressToken":7}},"gone":null,
            "extra":1,"requestState":"","inputResponses":{{ }}}}}}"#
    );
    let claims = r#"{"scope":"x y","scp":["z"],"org":{"departments":["ops"],"Departments":["it"]},
        "level":3,"https://e.com/role":"admin"}"#;
    let claims = Claims::from_json(&serde_json::from_str(claims).unwrap());
    let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
    let head = Head {
        method: "POST".into(),
        host: "Mcp.example.com:8443".into(),
        path: "/m%63p/x?q=%2f".into(),
        headers: vec![
            header("x-a", b"1"),
            header("x-a", b"2"),
            header("x-b", b"\xff"),
            header("x-d", b"1"),
        ],
        ..Head::default()
    };
    let subject = CallTarget::plain(Backend::Named("b"), TargetKind::Tool, "t");
    let evaluate = |call: &Call<'_>, budget: &&Budget| {
        let facts = EvalContext::new(dialect, &head, Some(&claims), &subject, budget);
        condition.evaluate(call, &EvalContext { extra_scopes: &["w".to_owned()], ..facts })
    };
    match read(
        body.as_bytes(),
        &MirroredHeaders::default(),
        Accept { max_depth: 64, batches: false, ..Accept::USUAL },
    ) {
        Ok(Message::Calls(calls)) => {
            budgets.iter().fold(None, |_, budget| Some(evaluate(&calls[0], budget))).unwrap()
        }
        other => panic!("{arguments}: {other:?}"),
    }
}

pub(super) fn outcome(source: &str, arguments: &str) -> &'static str {
    outcome_in(Dialect::Native, source, arguments)
}

pub(super) fn outcome_in(dialect: Dialect, source: &str, arguments: &str) -> &'static str {
    match evaluate_in(dialect, &[&Budget::of(10_000)], source, arguments) {
        Ok(Outcome::True) => "true",
        Ok(Outcome::False) => "false",
        Ok(Outcome::Failed(_)) => "failed",
        Err(_) => "ambiguous",
    }
}

#[test]
fn the_cases_of_the_reference_hold() {
    for (source, arguments, expected) in [
        (r#"args.text.matches("^Hello, .*!$")"#, r#"{"text":"Hello, world!"}"#, "true"),
        (r#"args.text.matches("^Hello, .*!$")"#, r#"{"text":"hello, world!"}"#, "false"),
        ("int(args.count) >= 40", r#"{"count":42}"#, "true"),
        ("int(args.count) >= 40", r#"{"count":"42"}"#, "true"),
        ("int(args.count) >= 40", r#"{"count":39}"#, "false"),
        ("int(args.count) >= 40", r#"{"count":[]}"#, "failed"),
        (r#"args["payload"]["value"] == 123"#, r#"{"payload":{"value":123}}"#, "true"),
        (r#"args["payload"]["value"] == 123"#, r#"{"payload":{"value":123.0}}"#, "true"),
        (r#"args["payload"]["value"] == 123"#, r#"{"payload":{"value":"123"}}"#, "failed"),
        (r#"args["payload"]["value"] == 123"#, r#"{"payload":{}}"#, "failed"),
        ("args.missing == 1", "{}", "failed"),
        ("args.text", r#"{"text":"not a boolean"}"#, "failed"),
        ("args.flag", r#"{"flag":true}"#, "true"),
    ] {
        assert_eq!(outcome(source, arguments), expected, "{source} over {arguments}");
    }
}

#[test]
fn errors_are_absorbed_only_where_cel_absorbs_them() {
    for (source, expected) in [
        ("args.nope == 1 || true", "true"),
        ("args.nope == 1 && false", "false"),
        ("args.nope == 1 || false", "failed"),
        ("has(args.nope)", "false"),
        ("has(args.nope.deeper)", "failed"),
        ("!has(args.nope)", "true"),
        ("args.?nope.orValue(7) == 7", "true"),
        ("args[?\"nope\"].hasValue()", "false"),
        ("args.n + 1 == 3", "true"),
        ("args.n + 1u == 3u", "failed"),
        ("args.n / 0 == 1", "failed"),
    ] {
        assert_eq!(outcome(source, r#"{"n":2}"#), expected, "{source}");
    }
}

/// Lists and maps of the call, of the expression and of a comprehension must compare alike, on
/// either side and at any depth.
#[test]
fn lists_and_maps_compare_wherever_they_come_from() {
    let arguments = r#"{"list":[1,2,3],"same":[1,2,3],"nested":[["a","b"],{"k":[1]}],
        "map":{"a":1,"b":[2]},"empty":[],"none":{},"s":"a","pair":["a","b"],"lists":[["b"],[]]}"#;
    for (source, expected) in [
        ("args.list == [1, 2, 3]", "true"),
        ("[1, 2, 3] == args.list", "true"),
        ("[1, 2, 4] == args.list", "false"),
        ("args.list != [1, 2]", "true"),
        ("[1, 2, 3] != args.list", "false"),
        ("args.list == args.same", "true"),
        ("args.empty == []", "true"),
        ("[args.list] == [[1, 2, 3]]", "true"),
        ("[[1, 2, 3]] == [args.list]", "true"),
        ("args.list.map(x, x * 2) == [2, 4, 6]", "true"),
        ("args.nested == [['a', 'b'], {'k': [1]}]", "true"),
        ("args.map == {'a': 1, 'b': [2]}", "true"),
        ("{'b': [2], 'a': 1} == args.map", "true"),
        ("args.map == {'a': 1}", "false"),
        ("args.pair in [['x'], ['a', 'b']]", "true"),
        ("['a', 'b'] in args.nested", "true"),
        ("['a'] in args.nested", "failed"),
        ("['a'] in args.lists", "false"),
        ("args.s in ['a', 'b']", "true"),
        ("args.s in args.map", "true"),
        ("'b' in args.map", "true"),
        ("'c' in args.map", "false"),
        ("2 in args.list", "true"),
        ("2.0 in args.list", "true"),
        ("args.list[2] == 3", "true"),
        ("args.list[3] == 3", "failed"),
        ("args.list[-1] == 3", "failed"),
        ("args.list + [4] == [1, 2, 3, 4]", "true"),
        ("[0] + args.list == [0, 1, 2, 3]", "true"),
        ("(args.list + args.same).size() == 6", "true"),
        ("size(args.list) == 3 && size(args.map) == 2 && args.s.size() == 1", "true"),
        ("args.list.all(x, x > 0) && args.list.exists(x, x == 2)", "true"),
        ("args.list.exists_one(x, x == 2)", "true"),
        ("args.map.all(k, k in ['a', 'b'])", "true"),
        ("args.list.filter(x, x > 1) == [2, 3]", "true"),
        ("args.pair.join('-') == 'a-b'", "true"),
        ("type(args.list) == list && type(args.map) == map && type(args.s) == string", "true"),
        ("args == {'a': 1}", "false"),
        ("args.map == {'a': 1, 'b': [2], 'c': 3}", "false"),
        ("optional.of([1, 2, 3]) == args.?list", "true"),
        ("args.?list == optional.of([1, 2, 3])", "true"),
        ("args.?nope == optional.none()", "true"),
        ("args.?nope == args.?nil", "true"),
        ("args.?nope == args.?list || args.?list == args.?nope", "false"),
        // A server may read a value as a value of another type.
        ("args.list == 1 || 'a' == args.map", "failed"),
        ("args.list != 1 && 'a' != args.map", "failed"),
        ("9 in args.list", "false"),
        ("optional.ofNonZeroValue(args.list).hasValue()", "true"),
        ("optional.ofNonZeroValue(args.map).hasValue()", "true"),
        ("optional.ofNonZeroValue(args.empty).hasValue()", "false"),
        ("optional.ofNonZeroValue(args.none).hasValue()", "false"),
        ("args.list in args.map", "failed"),
        ("args.map[args.list] == 1", "failed"),
        ("1 in args.map", "failed"),
        ("args.list[2.0] == 3", "true"),
        ("args.list[0.5] == 3", "failed"),
        ("args.list[0] < args.list[1] && args.s <= args.s", "true"),
        ("args.list[0] > args.list[1] || args.list[0] >= args.list[1]", "false"),
        ("args.list[0] < args.s", "failed"),
        ("args.list[0] == args.s", "failed"),
        ("meta.progressToken == 7", "true"),
    ] {
        assert_eq!(outcome(source, arguments), expected, "{source}");
    }
}

#[test]
fn what_readers_disagree_about_is_no_outcome_even_where_cel_absorbs_errors() {
    for source in [
        "args.path == '/tmp'",
        "args.path == '/tmp' || true",
        "!has(args.path)",
        "args.?path.orValue('/tmp') == '/tmp'",
        "!('path' in args)",
    ] {
        for arguments in [
            r#"{"Path":"/etc"}"#,
            r#"{"path":"/tmp","PATH":"/etc"}"#,
            r#"{"path":"/tmp","path":"/etc"}"#,
            r#"{"path":"/tmp","p\u0061th":"/etc"}"#,
        ] {
            assert_eq!(outcome(source, arguments), "ambiguous", "{source} over {arguments}");
        }
    }
    for source in [
        "args.filter == {'all': true}",
        "{'all': true} == args.filter",
        "args.filter != {'all': true}",
        "[args.filter] == [{'all': true}]",
        "{'all': true} in [args.filter]",
        "args.filter in [{'all': true}]",
    ] {
        for arguments in [r#"{"filter":{"All":true}}"#, r#"{"filter":{"all":true,"ALL":1}}"#] {
            assert_eq!(outcome(source, arguments), "ambiguous", "{source} over {arguments}");
        }
    }
    // An expression that iterates over all keys sees two keys where a server may see one.
    for source in ["args.all(key, key != 'force')", "args.exists(key, key == 'x') || true"] {
        for arguments in
            [r#"{"a":1,"A":2}"#, r#"{"1":1,"2":1,"3":1,"4":1,"5":1,"6":1,"7":1,"8":1,"b":1,"B":1}"#]
        {
            assert_eq!(outcome(source, arguments), "ambiguous", "{source} over {arguments}");
        }
        assert_eq!(outcome(source, r#"{"a":1,"b":{"c":1,"C":1}}"#), "true", "{source}");
    }
    // A string may contain `//`, and an expression may continue after a comment.
    assert_eq!(outcome("args.path == 'http://x'", r#"{"path":"http://x"}"#), "true");
    assert_eq!(outcome("// greeting\nargs.path == 'x'", r#"{"path":"x"}"#), "true");
    // Keys that a condition does not read may occur in several letter cases.
    assert_eq!(outcome("args.path == '/tmp'", r#"{"path":"/tmp","A":1,"a":2}"#), "true");
    // This comparison fails for each call, but is not always false.
    assert_eq!(outcome("args.?path < 1 || true", "{}"), "true");
    // Duplicate arguments do not affect a condition that reads no arguments.
    assert_eq!(outcome("true", r#"{"a":1,"a":2}"#), "true");
}

#[test]
fn a_request_is_seen_as_documented() {
    for (source, expected) in [
        ("request.method == 'POST'", "true"),
        ("request.host == 'mcp.example.com'", "true"),
        ("request.path == '/mcp/x'", "failed"),
        ("request.headers['x-a'] == '1'", "failed"),
        ("request.headers['x-d'] == '1'", "true"),
        ("request.headers_all['x-a'] == ['1', '2']", "true"),
        ("'2' in request.headers_all['x-a']", "true"),
        ("request.headers_all.exists(name, name == 'x-b')", "true"),
        ("size(request.headers) == 3 && 'x-a' in request.headers", "true"),
        ("request.headers['x-b'] == '\u{fffd}'", "failed"),
        ("request.headers['x-c'] == '1'", "failed"),
        ("request.headers['x-c'] != '1' || true", "true"),
        ("has(request.headers.authorization)", "false"),
        ("request.headers[?'x-c'].orValue('none') == 'none'", "true"),
        ("request.headers[args.name] == '1'", "failed"),
        ("request.auth.jwt.scopes == ['w', 'x', 'y', 'z']", "true"),
        ("'x' in request.auth.jwt.scopes && !('q' in request.auth.jwt.scopes)", "true"),
        ("request.auth.jwt.scopes.exists(s, s.startsWith('z'))", "true"),
        ("request.auth.jwt.claims.level >= 3", "true"),
        ("request.auth.jwt.claims.org.departments.exists(d, d == 'ops')", "true"),
        ("request.auth.jwt.claims['https://e.com/role'] == 'admin'", "true"),
        ("request.auth.jwt.claims.all(name, !(name in ['scope', 'scp']))", "true"),
        ("size(request.auth.jwt.claims) == 3", "true"),
        ("request.auth.jwt.claims[args.claim] == 'x y'", "failed"),
        ("has(request.auth.jwt.claims.nope)", "false"),
        ("request.mcp.method == 'tools/call' && request.mcp.backend == 'b'", "true"),
        ("request.mcp.tool in ['t', 'u']", "true"),
        ("request.mcp.prompt == '' && request.mcp.resource == ''", "true"),
        ("request.mcp.params.name == 'b__t'", "true"),
        ("request.mcp.params.arguments.claim == args.claim", "true"),
        ("request.mcp.params._meta.progressToken == 7", "true"),
        ("request.mcp == request.mcp && request.auth == request.auth", "true"),
        ("request == request", "failed"),
        ("has(request.auth) && has(request.mcp.params)", "true"),
        // A null member counts as missing, as in Agent Router.
        ("has(request.mcp.params.gone) || size(request.mcp.params) != 6", "false"),
        ("request.mcp.params.all(k, k != 'gone')", "true"),
        ("request.mcp.params.exists(k, k == 'name')", "true"),
        ("request.all(name, name != 'q') && size(request.mcp) == 6", "true"),
        ("[request].exists(r, r.host == request.host)", "true"),
        ("[request].exists(r, r.hosts == request.host)", "failed"),
        ("request.mcp.params.Name == 'b__t'", "ambiguous"),
        ("request.mcp.params.arguments.CLAIM == 'x' || true", "ambiguous"),
    ] {
        assert_eq!(outcome(source, r#"{"claim":"scope","name":"x-a"}"#), expected, "{source}");
    }
}

#[test]
fn chains_of_names_are_looked_up_from_the_variable_that_they_begin_with() {
    let arguments = r#"{"a":{"b":{"c":1}},"l":[{"a":{"b":2}}],"b.c":3}"#;
    for source in [
        "args.a.b.c == 1 && args.a.b == {'c': 1} && args.a['b'].c == 1",
        "args.l.all(args, args.a.b == 2) && args.l.all(x, args.a.b.c == 1 && x.a.b == 2)",
        "args.l.map(request, request.a.b) == [2]",
        "has(args.a.b.c) && !has(args.a.b.d) && args.?a.b.d.orValue(7) == 7",
        "request.mcp.params.arguments.a.b.c == 1 && request.mcp.params._meta.progressToken == 7",
        "!has(request.mcp.params.gone) && request.auth.jwt.claims.org.departments == ['ops']",
        "request.headers_all.x.size() == 0 || request.headers['x-d'] == '1'",
        "meta.progressToken == 7 && request.auth.jwt.claims.level == 3",
    ] {
        assert_eq!(outcome(source, arguments), "true", "{source}");
    }
    assert_eq!(outcome("args.a.B.c == 1", arguments), "ambiguous");
    assert_eq!(outcome("args.A.b.c == 1 || true", arguments), "ambiguous");
    assert_eq!(outcome("request.mcp.params.gone == null", arguments), "failed");
}

/// Messages name the failure and its types, but do not repeat arguments.
#[test]
fn failures_say_why() {
    let arguments = r#"{"t":"a text","l":[1]}"#;
    let why = |budget, source: &str| match evaluate_with(&Budget::of(budget), source, arguments) {
        Ok(Outcome::Failed(failure)) => failure.to_string(),
        other => panic!("{source}: {other:?}"),
    };
    // Operands could be long, so messages must not contain them.
    for operator in ["<", "<=", ">", ">="] {
        let why = why(100, &format!("args.t {operator} args.l"));
        assert!(why.contains("string") && why.contains("list"), "{why}");
        assert!(!why.contains("a text"), "{why}");
    }
    for operator in ["-", "*", "/", "%"] {
        let why = why(100, &format!("args.t {operator} 1 == 1"));
        assert!(why.contains("string") && !why.contains("a text"), "{why}");
    }
    assert_eq!(why(100, "args.x == 1"), "there is no `x`");
    assert_eq!(why(100, "args.x.y.z == 1"), "there is no `x`");
    assert_eq!(why(100, "args.t.y.z == 1"), "there is no `y`");
    assert_eq!(why(100, "!request.auth.jwt.claims.org.none"), "there is no `none`");
    assert_eq!(why(100, "args.x == 1 && args.t != ''"), "there is no `x`");
    assert_eq!(why(100, "has(args.x.y)"), "there is no `x`");
    assert_eq!(why(100, "args.?x"), "its value is not a boolean but of type optional_type");
    let long = |length| why(1000, &format!("args['{}'] == 1", "x".repeat(length)));
    assert_eq!(long(256), format!("there is no `{}`", "x".repeat(256)));
    assert_eq!(long(257), "there is no `…`", "it may be an argument");
    assert!(why(0, "args.x == 1").contains("limits.conditionCost"));
    let condition = Condition::compile("args.secret == 'x'", Dialect::Native).unwrap();
    assert!(format!("{condition:?}").starts_with("Condition"));
}

/// A server may read a client's value as a value of another type.
#[test]
fn values_of_two_types_do_not_compare() {
    let arguments = r#"{"t":"true","n":"9","i":9,"z":null,"b":true,"big":9007199254740993,
        "huge":1e300,"long":10.0000000000000000001,"o":"{\"force\":true}","l":["9"],"m":["9",9],
        "e":[],"nested":{"a":["1"]},"zs":[null],"bigs":[9007199254740993],"p":{"q":{}}}"#;
    let mut wrong = Vec::new();
    for (source, native, route) in [
        ("args.t == true", "failed", "false"),
        ("true == args.t", "failed", "false"),
        ("args.t != true", "failed", "true"),
        ("args.b == true", "true", "true"),
        ("args.i == 9.0", "true", "true"),
        ("args.i == 9u", "true", "true"),
        ("args.n in [9, 10]", "failed", "false"),
        ("args.i in [9, 10]", "true", "true"),
        ("args.i in [10, 11]", "false", "false"),
        ("args.n in []", "false", "false"),
        ("9 in args.l", "failed", "false"),
        ("9 in args.m", "true", "true"),
        ("8 in args.m", "failed", "false"),
        ("8 in args.e", "false", "false"),
        ("'x' in args.zs", "false", "false"),
        ("9 in args.nested", "failed", "false"),
        ("'a' in args.nested", "true", "true"),
        // The policy may write null, but the client may not.
        ("args.z == null", "true", "true"),
        ("args.t == null", "false", "false"),
        ("args.t != null", "true", "true"),
        ("null in args.zs", "true", "true"),
        ("null in args.m", "false", "false"),
        ("args.nested == {'a': null}", "false", "false"),
        ("args.z == true", "failed", "false"),
        ("args.z in [true]", "failed", "false"),
        ("{'a': [1]} == args.nested", "failed", "false"),
        ("{'a': [1, 2]} == args.nested", "false", "false"),
        ("{'b': [1]} == args.nested", "false", "false"),
        ("[args.t] == [true]", "failed", "false"),
        ("optional.of(true) == args.?t", "failed", "false"),
        ("args.l.exists(x, x == 9)", "failed", "false"),
        ("args.m.exists(x, x == 9)", "true", "true"),
        ("args.b ? args.t == true : false", "failed", "false"),
        // These are numbers that readers round differently.
        ("args.big == 1 || true", "true", "true"),
        ("args.big > 1", "failed", "true"),
        ("args.big == args.big", "failed", "true"),
        ("args.huge > 1.0", "failed", "true"),
        ("args.long <= 10", "failed", "true"),
        ("args.bigs.exists(x, x > 1)", "failed", "true"),
        ("args.bigs == [1]", "failed", "false"),
        ("args.bigs == [1, 2]", "false", "false"),
        ("has(args.big) && size(args.bigs) == 1", "true", "true"),
        ("string(args.big) == 'x'", "failed", "false"),
        ("'%d'.format([args.big]) == 'x'", "failed", "false"),
        ("'%s'.format([args.big]) == 'x'", "failed", "false"),
        ("args.?big.orValue(1) > 1", "failed", "true"),
        ("args.big == null", "failed", "false"),
        ("null == args.big", "failed", "false"),
        ("args.big in [1]", "failed", "false"),
        ("args.big in args", "failed", "false"),
        ("-args.big < 0", "failed", "true"),
        ("args.big + 1 > 1", "failed", "failed"),
        ("args.l[args.big] == '9'", "failed", "failed"),
        ("args.p[args.big] == 1", "failed", "failed"),
        ("{args.big: 1}.size() == 1", "failed", "failed"),
        // This reads an optional member of a value that a server may read as an object.
        ("args.?o.?force.orValue(false)", "failed", "false"),
        ("args.?o.force.orValue(false)", "failed", "false"),
        ("args.o.?force.orValue(false)", "failed", "false"),
        ("args[?'o'][?'force'].orValue(false)", "failed", "false"),
        ("args.?l.?force.orValue(false)", "failed", "failed"),
        ("args.?l[?0].orValue('x') == '9'", "true", "true"),
        ("args.?t[?0].hasValue()", "failed", "false"),
        ("args.?z.?x.hasValue()", "failed", "false"),
        ("args.?p.?q.?r.hasValue()", "false", "false"),
        ("args.?none.?x.hasValue()", "false", "false"),
        ("[args.?o].exists(o, o.force.orValue(false))", "failed", "false"),
        ("(args.b ? args.?o : args.?p).force.orValue(false)", "failed", "false"),
        ("args.?none.or(args.?o).force.orValue(false)", "failed", "false"),
        ("has(args.o.force)", "failed", "false"),
        ("has(args.l.force)", "failed", "failed"),
        ("has(args.?l.force)", "failed", "failed"),
    ] {
        let found = (outcome(source, arguments), outcome_in(Dialect::McpRoute, source, arguments));
        if found != (native, route) {
            wrong.push(format!("{source}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn literals_that_equal_nothing_are_refused() {
    for (source, expected) in [
        ("args.n == 9007199254740993", Some("a number beyond")),
        ("args.n < -9007199254740992", Some("a number beyond")),
        ("args.n == 9007199254740993u", Some("a number beyond")),
        ("args.n < 1e300", Some("a number beyond")),
        ("args.n == 9007199254740991", None),
        ("args.n in [9, \"9\"]", Some("two types, number and string")),
        ("\"a\" in [\"a\", 1]", Some("two types")),
        ("args.n in [9, 1.5, 2u, null]", None),
        ("args.n == [9, \"9\"]", None),
        ("\"%s %d\".format([\"a\", 1]) == args.n", None),
    ] {
        let errors = Condition::compile(source, Dialect::Native).map(|_| ());
        match (errors, expected) {
            (Ok(()), None) => {}
            (Err(errors), Some(part)) => {
                assert!(
                    errors.iter().any(|error| error.message.contains(part)),
                    "{source}: {errors:?}"
                );
            }
            (errors, _) => panic!("{source}: {errors:?}"),
        }
        assert!(Condition::compile(source, Dialect::McpRoute).is_ok(), "{source}");
    }
}

#[test]
fn type_of_unreadable_value_is_error() {
    let arguments = r#"{"big":9007199254740993,"n":7,"x":"b","one":1,"t":true}"#;
    let in_list = |of: &str| format!("type({of}) == string ? {of} in ['a'] : {of} in [1]");
    for (source, native, route) in [
        ("type(args.big) == int && args.big > 100", "failed", "false"),
        ("type(args.big) == double", "failed", "true"),
        ("type(args.n) == int && args.n > 100", "false", "false"),
        ("type(args.?big.value()) == double", "failed", "true"),
        ("type([args.big]) == list", "true", "true"),
        ("[args.big].map(x, type(x)).exists(x, x == int)", "failed", "false"),
        ("[args.big].exists(x, type(x) == int)", "failed", "false"),
        (
            "type(request.headers['x-a']) == string && request.headers['x-a'] == '2'",
            "failed",
            "false",
        ),
        ("type(request.headers['x-b']) == string", "failed", "true"),
        ("type(request.headers['x-d']) == string", "true", "true"),
        ("optional.ofNonZeroValue(args.big).hasValue()", "failed", "true"),
        ("optional.ofNonZeroValue(args.n).hasValue()", "true", "true"),
        ("type(null) == null_type", "true", "true"),
        (&in_list("args.x"), "false", "false"),
        (&in_list("args.one"), "true", "true"),
        (&in_list("args.t"), "failed", "false"),
    ] {
        assert_eq!(outcome(source, arguments), native, "{source}");
        assert_eq!(outcome_in(Dialect::McpRoute, source, arguments), route, "{source}");
    }
}

#[test]
fn optional_index_of_another_type_is_error() {
    let arguments = r#"{"big":9007199254740993,"l":["secret"],"zero":"0","i":0,"whole":0.0,"half":0.5,
        "far":9,"z":null,"t":true,"as":["a"],"a":"a","five":"5","n":5,"o":{"0":"x"},"e":{}}"#;
    for (source, native, route) in [
        ("{'a': 1}[?args.big].hasValue()", "failed", "false"),
        ("{'a': 1}[?args.a].hasValue()", "true", "true"),
        ("{'a': 1}[?args.zero].hasValue()", "false", "false"),
        ("{'true': true}[?args.t].orValue(false)", "failed", "false"),
        ("{'a': true}[?args.as].orValue(false)", "failed", "failed"),
        ("{'a': true}[?args.z].orValue(false)", "failed", "failed"),
        ("{5: true}[?args.five].orValue(false)", "failed", "false"),
        ("{5: true}[?args.n].orValue(false)", "true", "true"),
        ("{5: true}[?args.i].orValue(false)", "false", "false"),
        ("{5: true, 'a': true}[?args.zero].orValue(false)", "failed", "false"),
        ("{5: true, 'a': true}[?args.a].orValue(false)", "true", "true"),
        ("args.l[?args.i].orValue('') == 'secret'", "true", "true"),
        ("args.l[?args.whole].orValue('') == 'secret'", "true", "true"),
        ("args.l[?args.far].orValue('') == 'secret'", "false", "false"),
        ("args.l[?args.zero].orValue('') == 'secret'", "failed", "failed"),
        ("args.l[?args.z].orValue('') == 'secret'", "failed", "failed"),
        ("args.l[?args.half].orValue('') == 'secret'", "failed", "failed"),
        ("args.l[?args.big].orValue('') == 'secret'", "failed", "false"),
        ("args.l[?'0'].orValue('') == 'secret'", "failed", "failed"),
        ("[args.l[0]][?args.half].orValue('') == 'secret'", "failed", "failed"),
        ("[args.l[0]][?args.far].orValue('') == 'secret'", "false", "false"),
        ("args.o[?args.i].hasValue()", "failed", "false"),
        ("args.o[?args.zero].hasValue()", "true", "true"),
        ("args.o[?args.a].hasValue()", "false", "false"),
        ("args.e[?args.i].hasValue()", "failed", "false"),
        ("args[?args.i].hasValue()", "failed", "false"),
        ("args.?o[?0].hasValue()", "failed", "false"),
        // An index of an optional value yields an optional value.
        ("args.?o[0].hasValue()", "failed", "false"),
        ("args.?l[args.zero].hasValue()", "failed", "failed"),
        ("args.?l[args.i].orValue('') == 'secret'", "true", "true"),
        ("args.?l[args.far].hasValue()", "false", "false"),
        ("args.?none[args.i].hasValue()", "false", "false"),
        ("[args.?l].exists(l, l[args.half].hasValue())", "failed", "failed"),
        ("[args.l].exists(l, l[args.i] == 'secret')", "true", "true"),
        ("[args.l].exists(l, l[args.far] == 'secret')", "failed", "failed"),
        ("{args.t: true}[?'a'].hasValue()", "failed", "false"),
        ("request.headers[?args.i].hasValue()", "failed", "false"),
    ] {
        assert_eq!(outcome(source, arguments), native, "{source}");
        assert_eq!(outcome_in(Dialect::McpRoute, source, arguments), route, "{source}");
    }
}
