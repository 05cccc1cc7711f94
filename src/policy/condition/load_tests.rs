//! Tests of the checks at load.

use super::tests::{evaluate, outcome};
use super::*;

fn refusal(source: &str) -> (usize, String) {
    match Condition::compile(source, Dialect::Native) {
        Ok(_) => panic!("compiled: {source}"),
        Err(errors) => (errors[0].offset, errors[0].message.clone()),
    }
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
        ("args.x.matches('[;&&|`]')", 14, "are plain in RE2"),
        ("args.x.matches('\\\\p{Nope}')", 14, "Unicode property not found"),
        ("true &&& false", 7, "unexpected `&`"),
        ("args.x.matches('\\\\d{1,50000}')", 14, "when compiled"),
        ("args.l.all(x)", 10, "wrong number of arguments"),
        ("args.?x == 'a'", 8, "an optional value never equals"),
        ("'a' in args.?x.y", 4, "an optional value never equals"),
        ("args[?'x'] in ['a']", 11, "an optional value never equals"),
        ("args.?x['y'] == 1", 13, "an optional value never equals"),
        ("type(args.x) == has(google.protobuf).Timestamp", 20, "unknown name `google`"),
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
        ("requests.host == 'x'", 0, "did you mean `request`?"),
        ("request.hosts == 'x'", 7, "there is no `hosts` here; did you mean `host`?"),
        ("request['hosts'] == 'x'", 7, "did you mean `host`?"),
        ("has(request.hosts)", 3, "did you mean `host`?"),
        ("request.zzz == 'x'", 7, "only method, host, path, headers, headers_all, auth, mcp"),
        ("request.auth.claims.x == 1", 12, "there is no `claims` here, only jwt"),
        ("request.auth.jwt.claims.scope == 'x'", 23, "are `request.auth.jwt.scopes`"),
        ("'x' in request.auth.jwt.claims.scp", 30, "are `request.auth.jwt.scopes`"),
        ("request.host.name == 'x'", 12, "there is no `name` in a text"),
        ("request.mcp.tools.exists(t, t == 'x')", 11, "did you mean `tool`?"),
        ("request.host", 7, "neither true nor false"),
        ("request", 0, "neither true nor false"),
        ("request.?host == 'x'", 14, "an optional value never equals"),
    ] {
        let (at, text) = refusal(source);
        assert!(text.contains(message), "{source}: {text}");
        assert_eq!(at, offset, "{source}: {text}");
    }
    assert!(refusal(&format!("'{}' == ''", "x".repeat(5000))).1.contains("4096"));
}

#[test]
fn what_a_condition_reads_is_known_at_load() {
    let reads = |source: &str| Condition::compile(source, Dialect::Native).unwrap().reads().clone();
    let nothing = Inputs::default();
    assert_eq!(reads("request.mcp.method == request.mcp.tool"), nothing);
    let request_line = Inputs { request_line: true, ..nothing.clone() };
    assert_eq!(reads("request.host == request.path + request.mcp.tool"), request_line);
    assert_eq!(reads("request.method == 'GET'"), request_line);
    let backend = Inputs { backend: true, ..nothing.clone() };
    assert_eq!(reads("request.mcp.backend == ''"), backend);
    assert_eq!(reads("args.x == 1"), Inputs { args: true, ..nothing.clone() });
    assert_eq!(reads("meta.x == 1"), Inputs { meta: true, ..nothing.clone() });
    assert_eq!(reads("request.mcp.params.x == 1"), Inputs { params: true, ..nothing.clone() });
    let claims = Inputs { claims: true, ..nothing.clone() };
    assert_eq!(reads("request.auth.jwt.claims.x == 1"), claims);
    assert_eq!(
        reads("request['auth'].?jwt.claims[args.x].orValue(1) == 1"),
        Inputs { args: true, ..claims }
    );
    let scopes = Inputs { scopes: true, ..nothing.clone() };
    assert_eq!(reads("'x' in request.auth.jwt.scopes"), scopes);
    assert_eq!(reads("request.auth.jwt.scopes[0] == 'x'"), scopes);
    let headers = ["x-a".to_owned(), "x-b".to_owned()].into();
    assert_eq!(
        reads("request.headers['X-A'] == '' || request.headers_all[?'x-b'].hasValue()"),
        Inputs { headers, ..Inputs::default() }
    );
    let headers = ["x-a".to_owned()].into();
    assert_eq!(reads("'x-a' in request.headers"), Inputs { headers, ..Inputs::default() });
    assert_eq!(reads("'x' in request.auth.jwt.claims"), Inputs { claims: true, ..nothing.clone() });
    let all = Inputs { all_headers: true, ..nothing.clone() };
    assert_eq!(reads("request.headers.exists(h, h == 'x')"), all);
    assert_eq!(reads("request.headers[args.x] == ''"), Inputs { args: true, ..all.clone() });
    let resource = Inputs { resource: true, ..nothing.clone() };
    assert_eq!(reads("request.mcp.resource == ''"), resource);
    assert_eq!(reads("request['mcp'].?resource.orValue('') == ''"), resource);
    assert_eq!(reads("[request.mcp] == []"), Inputs { params: true, backend: true, ..resource });
    assert_eq!(
        reads("[request].exists(r, r.host == '')"),
        Inputs {
            claims: true,
            scopes: true,
            params: true,
            resource: true,
            request_line: true,
            backend: true,
            ..all
        }
    );
    // A variable of a comprehension may have this name.
    assert_eq!(reads("[1].exists(request, request == 1)"), nothing);
}

#[test]
fn several_conditions_read_what_each_of_them_reads() {
    let reads = |source: &str| Condition::compile(source, Dialect::Native).unwrap().reads().clone();
    for source in [
        "args.x == 1",
        "meta.x == 1",
        "request.mcp.params.x == 1",
        "request.auth.jwt.claims.x == 1",
        "'x' in request.auth.jwt.scopes",
        "request.headers['x'] == ''",
        "request.headers.exists(h, h == 'x')",
        "request.host == ''",
        "request.mcp.backend == ''",
    ] {
        let (one, nothing) = (reads(source), Inputs::default());
        for (mut all, more) in [(one.clone(), &nothing), (nothing.clone(), &one)] {
            all.extend(more);
            assert_eq!(all, one, "{source}");
        }
    }
}

#[test]
fn what_reads_something_that_may_not_be_there_can_fail() {
    let can_fail = |source: &str| Condition::compile(source, Dialect::Native).unwrap().can_fail();
    for source in [
        "args.x == 1",
        "meta.x == 1",
        "request.mcp.params.x == 1",
        "request.auth.jwt.claims.x == 1",
        "request.headers['x'] == ''",
        "request.headers.exists(h, h == 'x')",
        // A template stands for many resources.
        "request.mcp.resource == ''",
        // Readers may disagree about these values.
        "'x' in request.auth.jwt.scopes",
        "request.host == 'x'",
        "request.mcp.backend == 'x'",
    ] {
        assert!(can_fail(source), "{source}");
    }
    assert!(!can_fail("request.mcp.method == 'x' && request.mcp.tool != request.mcp.prompt"));
}

#[test]
fn a_header_name_with_capitals_is_doubted() {
    let condition =
        Condition::compile("request.headers['X-Tenant'] == 'a'", Dialect::Native).unwrap();
    let doubts = condition.suspicions();
    assert_eq!(doubts.len(), 1);
    assert!(doubts[0].error.message.contains("write `x-tenant`"), "{doubts:?}");
    assert!(
        Condition::compile("request.headers['x'] == 'A'", Dialect::Native)
            .unwrap()
            .suspicions()
            .is_empty()
    );
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
        // Either rejecting or evaluating is fine, but a small stack must suffice.
        if Condition::compile(&source, Dialect::Native).is_ok() {
            outcome(&source, "{}");
        }
    }
    let (_, message) = refusal(&fill("1+", "1 == 1"));
    assert!(message.contains("more than 128 deep"), "{message}");
    // A wide list is not deep, and one error suffices.
    let wide = format!("args.x in [{}]", vec!["args.y"; 500].join(","));
    for wide in [format!("!({wide})"), wide] {
        assert!(Condition::compile(&wide, Dialect::Native).is_ok());
    }
    let deep = format!("args{}", ".a".repeat(200));
    let twice = format!("{deep} == {deep}");
    let errors = Condition::compile(&twice, Dialect::Native).map(|_| ()).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        Condition::compile(&format!("{}false", "args.x == 1 || ".repeat(200)), Dialect::Native)
            .is_ok()
    );
    assert!(
        Condition::compile(&format!("{}0 > 1", "args.x + ".repeat(100)), Dialect::Native).is_ok()
    );
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
