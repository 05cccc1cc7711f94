use super::*;
use crate::mcp::{Message, MirroredHeaders, read};

fn evaluate(source: &str, arguments: &str) -> Result<Outcome, Problem> {
    let condition =
        Condition::compile(source).unwrap_or_else(|errors| panic!("{source}: {errors:?}"));
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call",
            "params":{{"name":"t","arguments":{arguments},"_meta":{{"progressToken":7}}}}}}"#
    );
    match read(body.as_bytes(), &MirroredHeaders::default(), 64) {
        Ok(Message::ToolCall(call)) => condition.evaluate(&call),
        other => panic!("{arguments}: {other:?}"),
    }
}

fn outcome(source: &str, arguments: &str) -> &'static str {
    match evaluate(source, arguments) {
        Ok(Outcome::True) => "true",
        Ok(Outcome::False) => "false",
        Ok(Outcome::Failed(_)) => "failed",
        Err(_) => "ambiguous",
    }
}

fn refusal(source: &str) -> (usize, String) {
    match Condition::compile(source) {
        Ok(_) => panic!("compiled: {source}"),
        Err(errors) => (errors[0].offset, errors[0].message.clone()),
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
        (r#"args["payload"]["value"] == 123"#, r#"{"payload":{"value":"123"}}"#, "false"),
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

/// Lists and maps of the call, of the expression, and of a comprehension must
/// compare alike, on either side and at any depth.
#[test]
fn lists_and_maps_compare_wherever_they_come_from() {
    let arguments = r#"{"list":[1,2,3],"same":[1,2,3],"nested":[["a","b"],{"k":[1]}],
        "map":{"a":1,"b":[2]},"empty":[],"s":"a","pair":["a","b"]}"#;
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
        ("['a'] in args.nested", "false"),
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
        ("args.list in args.map", "failed"),
        ("args.map[args.list] == 1", "failed"),
        ("1 in args.map", "false"),
        ("args.list[2.0] == 3", "true"),
        ("args.list[0.5] == 3", "failed"),
        ("args.list[0] < args.list[1] && args.s <= args.s", "true"),
        ("args.list[0] > args.list[1] || args.list[0] >= args.list[1]", "false"),
        ("args.list[0] < args.s", "failed"),
        ("args.list[0] == args.s", "false"),
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
    // A string may hold what looks like a comment, and a comment may be followed.
    assert_eq!(outcome("args.path == 'http://x'", r#"{"path":"http://x"}"#), "true");
    assert_eq!(outcome("// greeting\nargs.path == 'x'", r#"{"path":"x"}"#), "true");
    // What a condition does not read may be in any case of letters.
    assert_eq!(outcome("args.path == '/tmp'", r#"{"path":"/tmp","A":1,"a":2}"#), "true");
    // A condition that reads no arguments does not care.
    assert_eq!(outcome("true", r#"{"a":1,"a":2}"#), "true");
}

#[test]
fn what_could_only_fail_later_is_refused_at_load() {
    for (source, offset, message) in [
        ("args.x ==", 9, "ends too early"),
        ("args.x == = 1", 10, "unexpected `=`"),
        ("arg.x == 1", 0, "unknown name `arg`; did you mean `args`?"),
        ("args.x == 1 && foo", 15, "unknown name `foo`"),
        ("args.l.all(x, y == 1)", 14, "unknown name `y`"),
        ("args.x.startWith('a')", 16, "did you mean `startsWith`?"),
        ("contain(args.x)", 7, "unknown function `contain`"),
        ("startsWith(args.x, 'a')", 10, "call it as `x.startsWith(…)`"),
        ("args.x.int() == 1", 10, "call it as `int(x)`"),
        ("args.x.matches(args.y)", 14, "must be a string literal"),
        ("args.x.matches('(')", 14, "not a regular expression"),
        ("args.x.matches('\\\\d{1,50000}')", 14, "when compiled"),
        ("args.l.all(x)", 10, "wrong number of arguments"),
        ("args.?x == 'a'", 8, "an optional value never equals"),
        ("'a' in args.?x.y", 4, "an optional value never equals"),
        ("args[?'x'] in ['a']", 11, "an optional value never equals"),
        ("'args.x'", 0, "neither true nor false"),
        ("args.x + 1", 0, "neither true nor false"),
        ("[args.x]", 0, "neither true nor false"),
        ("args.x.contains()", 15, "`contains` takes 1 argument, not 0"),
        ("args.x.startsWith('a', 'b')", 17, "`startsWith` takes 1 argument, not 2"),
        ("size(args.x, 2) == 1", 4, "`size` takes 1 argument, not 2"),
        ("args.x.replace('a') == 'b'", 14, "`replace` takes 2 or 3 arguments, not 1"),
        ("optional.of() == args.?x", 11, "`optional.of` takes 1 argument, not 0"),
        ("args.a == 1 // and && args.b == 2", 12, "has no effect"),
        ("Foo{a: 1} == 1", 3, "messages such as `Foo`"),
        ("request.host == 'x'", 0, "unknown name `request`"),
    ] {
        let (at, text) = refusal(source);
        assert!(text.contains(message), "{source}: {text}");
        assert_eq!(at, offset, "{source}: {text}");
    }
    assert!(refusal(&format!("'{}' == ''", "x".repeat(5000))).1.contains("4096"));
}

#[test]
fn no_expression_exhausts_the_stack() {
    let fill = |unit: &str, tail: &str| {
        let count = (MAX_EXPRESSION_BYTES - tail.len()) / unit.len();
        format!("{}{tail}", unit.repeat(count))
    };
    for source in [
        fill("1+", "1 == 1"),
        fill("(", "1"),
        format!("{}1{} == 1", "(".repeat(2000), ")".repeat(2000)),
        fill("!", "true"),
        fill("-", "1 == 1"),
        fill("[", "1"),
        fill("{1:", "1"),
        fill("true?", "1"),
        fill("true?true:", "false"),
        format!("args{} == 1", ".a".repeat(2000)),
        format!("args{} == 1", "[0]".repeat(1300)),
        format!("args{} == 1", ".all(x, x".repeat(400)),
    ] {
        // Refused or evaluated, but on a thread with a small stack.
        if Condition::compile(&source).is_ok() {
            outcome(&source, "{}");
        }
    }
    let (_, message) = refusal(&fill("1+", "1 == 1"));
    assert!(message.contains("more than 128 deep"), "{message}");
    assert!(Condition::compile(&format!("{}false", "args.x == 1 || ".repeat(200))).is_ok());
    assert!(Condition::compile(&format!("{}0 > 1", "args.x + ".repeat(100))).is_ok());
}

#[test]
fn every_function_that_is_listed_exists() {
    let globals = functions::GLOBAL.iter().map(|function| (function, true));
    let members = functions::MEMBER.iter().map(|function| (function, false));
    for (function, is_global) in globals.chain(members) {
        let name = function.name;
        if name == functions::MATCHES {
            continue;
        }
        let count = (0..4).find(|count| function.takes(*count).is_ok()).unwrap();
        let arguments = vec!["null"; count].join(", ");
        let source = if is_global {
            format!("{name}({arguments}) == 1")
        } else {
            format!("null.{name}({arguments})")
        };
        match evaluate(&source, "{}") {
            Ok(Outcome::Failed(Failure::Execution(error))) => {
                let undeclared = matches!(*error, ExecutionError::UndeclaredReference(_));
                assert!(!undeclared, "{name}: {error}");
            }
            Ok(_) => {}
            Err(problem) => panic!("{name}: {problem}"),
        }
    }
}
