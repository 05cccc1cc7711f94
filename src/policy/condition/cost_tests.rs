//! Tests of the cost of conditions.

use super::tests::{evaluate_in, evaluate_with};
use super::*;

/// Returns the number of steps that a condition takes after an earlier evaluation read the
/// arguments.
fn steps(source: &str, arguments: &str) -> u64 {
    let (first, budget) = (Budget::of(1_000_000), Budget::of(1_000_000));
    let outcome = evaluate_in(Dialect::Native, &[&first, &budget], source, arguments);
    assert!(!matches!(outcome, Ok(Outcome::Failed(Failure::Spent))), "{source}");
    budget.taken(1_000_000)
}

#[test]
fn each_operation_is_a_step_and_each_element_takes_them_again() {
    for (source, arguments, expected) in [
        ("true", "{}", 1),
        ("args.a == 1", r#"{"a":1}"#, 2),
        ("args.a == 1 && !(args.a == 2) ? true : false", r#"{"a":1}"#, 3),
        ("args.a + 1 > 1", r#"{"a":1}"#, 3),
        ("-args.a * 2 < 0", r#"{"a":1}"#, 4),
        ("size(args.l) == 3", r#"{"l":[1,2,3]}"#, 3),
        ("has(args.a.b)", r#"{"a":{"b":1}}"#, 1),
        // Each element and comparison is a step; so are the comprehension and the condition.
        ("args.l.exists(x, x == 0)", r#"{"l":[1,2,3]}"#, 2 + 3 * 2),
        ("args.l.all(x, x == 1)", r#"{"l":[1,2,3]}"#, 2 + 3 * 2),
        ("args.l.exists_one(x, x == 1)", r#"{"l":[1,2,3]}"#, 3 + 3 * 3),
        ("args.l.filter(x, x > 1).size() == 2", r#"{"l":[1,2,3]}"#, 4 + 3 * 3),
        ("args.l.map(x, x * 2).size() == 3", r#"{"l":[1,2,3]}"#, 4 + 3 * 3),
        // In the inner comprehension, `args.l` is a step, too, because each outer element repeats
        // this access.
        ("args.l.all(x, args.l.exists(y, x == y))", r#"{"l":[1,2,3]}"#, 3 + 3 * (3 + 3 * 2)),
        ("args.l.all(x, x == 1 || !(x == 2))", r#"{"l":[1,2,3]}"#, 2 + 3 * 5),
        ("args.m.all(k, k != '')", r#"{"m":{"a":1,"b":2}}"#, 2 + 2 * 2),
    ] {
        let steps = steps(source, arguments);
        // Comparing and copying elements adds at most one step.
        assert!((expected..=expected + 1).contains(&steps), "{source}: {steps}, not {expected}");
    }
}

#[test]
fn texts_are_paid_for_by_length() {
    let text = "a".repeat(100 * 1024);
    let arguments = format!(r#"{{"t":"{text}","l":["{text}","{text}"],"n":7}}"#);
    for (source, least, most) in [
        ("args.t.contains('b')", 102, 103),
        ("args.t.size() == 102400", 103, 104),
        ("args.t.matches('^a*$')", 102, 103),
        ("args.t.matches('^Hello, .*!$')", 202, 203),
        ("args.t.startsWith('b')", 2, 2),
        ("args.t.startsWith(args.t)", 202, 203),
        ("args.t == args.t", 102, 103),
        ("args.t == 'b'", 2, 2),
        ("args.t in args.l", 102, 104),
        ("args.l == args.l", 202, 204),
        ("args.t + args.t == ''", 203, 205),
        ("args.t < args.t", 102, 103),
        ("args.t <= args.t", 102, 103),
        ("args.t > args.t", 102, 103),
        ("args.t >= args.t", 102, 103),
        ("args.t.lowerAscii() == ''", 103, 104),
        ("'%s'.format([args.t]) == ''", 103, 105),
        ("args.l.join('-') == ''", 203, 205),
        // The search compares four bytes at each position.
        ("args.t.indexOf('bbbb') == 0", 500, 505),
        // The string has 100 steps of bytes, and four bytes replace each byte.
        ("args.t.replace('a', 'bbbb') == ''", 500, 505),
        ("args.t.replace('b', 'cccc') == ''", 100, 105),
        // An element of a list costs 64 bytes.
        ("args.t.split('a').size() == 0", 6500, 6510),
        ("args.t.split('b').size() == 0", 100, 105),
        ("int(args.t) == 0", 102, 104),
        ("args.n == 7", 2, 2),
    ] {
        let steps = steps(source, &arguments);
        assert!((least..=most).contains(&steps), "{source}: {steps}");
    }
}

/// These costs must be exact to the step, which is 1024 bytes.
#[test]
fn what_is_read_or_built_is_paid_for_as_often() {
    let (k, long) = ("k".repeat(20 << 10), "x".repeat(100 << 10));
    let empty = vec!["\"\""; 160].join(",");
    let keys = (0..160).map(|n| format!("\"k{n}\":1")).collect::<Vec<_>>().join(",");
    let arguments = format!(
        r#"{{"w":{{{keys}}},"e":"","es":[{empty}],"k":"{k}","l":["{k}"],"m":{{"{k}":1}},"n":{{"{k}":1}},
            "o":{{"{k}":{{"{k}":"{k}"}}}},"x":"{long}"}}"#
    );
    for (source, expected) in [
        // The comparison looks up each key of both maps in the other map.
        ("args.m == args.n", 3 + 2 * 20),
        ("args.o == args.o", 3 + 4 * 20 + 20),
        ("args.l == args.l", 3 + 20),
        ("args.e.replace('', args.k) == ''", 3 + 2 * 20),
        ("args.k.split('').size() == 0", 1305),
        ("args.es.all(e, e.split('b').size() == 1)", 3 + 160 * 4 + 2 * 10),
        // The evaluation converts keys and scopes to values, and scopes again at each access.
        ("args.w.all(k, true)", 3 + 160 + 10),
        ("args.es.all(e, request.auth.jwt.scopes.size() == 4)", 3 + 160 * 6 + 10 + 40),
        // The look-up reads the key, and copies values that the expression created.
        ("args.m[args.k] == 1", 3 + 20),
        ("[args.x + args.x][0].size() == 0", 6 + 800),
        // The function reads the string, copies it, and copies it again within its list.
        ("[args.x + args.x].size() == 0", 5 + 400),
        ("[[args.x + args.x]].size() == 0", 5 + 600),
        ("[{args.x + args.x: args.x + args.x}].size() == 0", 6 + 1200),
        ("[optional.of(args.x + args.x)].size() == 0", 6 + 600),
        ("[bytes(args.x)].size() == 0", 5 + 200),
        ("[args.x].size() == 0", 4),
        ("['%s'.format([args.o])].size() == 0", 5 + 120),
    ] {
        assert_eq!(steps(source, &arguments), expected, "{source}");
    }
}

#[test]
fn a_pattern_with_many_states_reads_more_slowly() {
    let arguments = format!(r#"{{"t":"{}"}}"#, "a".repeat(10 * 1024));
    let simple = steps("args.t.matches('^Hello, .*!$')", &arguments);
    let counted = steps("args.t.matches('^.{1,500}!$')", &arguments);
    let grouped = steps("args.t.matches('^((((H))))ello, (?P<rest>(.)*)!$')", &arguments);
    assert!(simple <= 32, "{simple}");
    assert_eq!(grouped, simple, "what a group matched is never asked for");
    assert!(counted >= 10 * simple, "{counted}");
}

/// An evaluation that would take minutes or gigabytes must not begin.
#[test]
fn nothing_multiplies_without_being_paid_for() {
    let numbers = (0..5000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let text = "k".repeat(1 << 20);
    let arguments =
        format!(r#"{{"l":[{numbers}],"t":"{text}","half":"{}x","k":"k"}}"#, "k".repeat(1 << 19));
    for source in [
        "args.l.all(a, args.l.all(b, args.l.all(c, args.l.exists(d, d == a))))",
        "[args.l.map(y, y)].exists(m, m.exists(a, m.exists(b, m.exists(c, c == -1))))",
        "args.l.map(a, args.l).map(b, b.map(c, args.l)).size() == 0",
        "args.l.exists(x, x in args.l.map(y, y))",
        "args.l.exists(x, [args.l, args.l] == [args.l, [x]])",
        "args.l.all(x, args.l + args.l == [x])",
        "args.l.all(x, args.t + args.t == '')",
        "args.t.indexOf(args.half) == 0",
        "args.t.lastIndexOf(args.half) == 0",
        "args.t.replace(args.k, args.t).size() == 0",
        "args.l.map(x, args.t).join(args.t).size() == 0",
        "args.t.split('').size() == 0",
        "args.l.all(x, args.t.matches('b$'))",
        "args.l.exists(x, args[args.t] == x)",
        "args.l.exists(x, {'a': x}[args.t] == x)",
        "[['x','x']].exists(a,[[a,a]].exists(b,[[b,b]].exists(c,[[c,c]].exists(d,[[d,d]].exists(e,\
         [[e,e]].exists(f,[[f,f]].exists(g,[[g,g]].exists(h,[[h,h]].exists(i,[[i,i]].exists(j,\
         [[j,j]].exists(k,[[k,k]].exists(l,[[l,l]].exists(m,[[m,m]].exists(n,[[n,n]].exists(o,\
         [[o,o]].exists(p,[[p,p]].exists(q,[[q,q]].exists(r,false))))))))))))))))))",
    ] {
        let outcome = evaluate_with(&Budget::of(10_000), source, &arguments);
        assert!(matches!(outcome, Ok(Outcome::Failed(Failure::Spent))), "{source}: {outcome:?}");
    }
    let big = vec!["1"; 400_000].join(",");
    let keys = (0..50_000).map(|n| format!("\"k{n}\":1")).collect::<Vec<_>>().join(",");
    let maps = vec!["{}"; 5000].join(",");
    let halves = format!("{}a", "ab".repeat(1 << 19));
    let arguments = format!(
        r#"{{"l":[{numbers}],"big":[{big}],"m":{{{keys}}},"maps":[{maps}],"t":"{text}","tt":{{"{text}k":1}},"ab":"{halves}"}}"#
    );
    for source in [
        // The evaluation would convert lists and maps to values, only to find that they differ.
        "args.l.all(x, x in args.big)",
        "args.l.all(x, args.big != [])",
        "[2] in args.l.map(x, args.big)",
        "args.m in args.maps",
        "args.l.all(x, args.m != {'a': 1})",
        // `optMap` copies its value.
        "optional.of('x').optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a])\
         .optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a])\
         .optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a])\
         .optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a]).optMap(a,[a,a]).hasValue()",
        // Accessing members of optional or newly created values copies them, too.
        "[optional.of([args.t.split('k', 5000)])].exists(o, args.l.all(x, o[0].hasValue()))",
        "[args.t.split('k', 5000)].exists(h, args.l.all(x, h[1.5] == x))",
        "[args.t.split('k', 5000)].exists(h, args.l.all(x, h[0].optMap(v, v).hasValue()))",
        // The key differs little from an existing key.
        "args.l.all(x, !(args.t in args.tt))",
        // Calculating the cost takes long, too.
        "args.l.all(x, '%s'.format([args.big]) == '')",
        // All states of the automaton are active.
        "args.ab.matches('a[ab]{50}[^ab]')",
    ] {
        let outcome = evaluate_with(&Budget::of(10_000), source, &arguments);
        assert!(matches!(outcome, Ok(Outcome::Failed(Failure::Spent))), "{source}: {outcome:?}");
    }
    // An operand of a wrong type must not be copied into each error.
    let arguments = format!(r#"{{"l":[{numbers}],"deep":[[{numbers}]]}}"#);
    let of_text = format!(r#"{{"l":[{numbers}],"deep":"{text}"}}"#);
    for operator in ["- 1 ==", "* 1 ==", "/ 1 ==", "% 1 ==", "+ 1 ==", "<", "<=", ">", ">="] {
        let source = format!("args.l.all(x, args.deep {operator} 0)");
        let outcome = evaluate_with(&Budget::of(30_000), &source, &arguments);
        assert!(
            matches!(outcome, Ok(Outcome::Failed(Failure::Execution(_)))),
            "{source}: {outcome:?}"
        );
        let outcome = evaluate_with(&Budget::of(30_000), &source, &of_text);
        assert!(matches!(outcome, Ok(Outcome::Failed(_))), "{source}: {outcome:?}");
    }
}

#[test]
fn what_is_spent_stays_spent_and_is_no_value_that_could_be_absorbed() {
    let list = r#"{"l":[1,2,3,4,5,6,7,8,9,10]}"#;
    let budget = Budget::of(10);
    let outcome = evaluate_with(&budget, "args.l.exists(x, x == 1) || true", list);
    assert!(matches!(outcome, Ok(Outcome::Failed(Failure::Spent))), "{outcome:?}");
    let outcome = evaluate_with(&budget, "true", list);
    assert!(matches!(outcome, Ok(Outcome::Failed(Failure::Spent))), "{outcome:?}");
    let shared = Budget::of(10);
    for _ in 0..5 {
        assert!(matches!(evaluate_with(&shared, "1 == 1", list), Ok(Outcome::True)));
    }
    assert!(!shared.is_spent());
    assert!(matches!(evaluate_with(&shared, "true", list), Ok(Outcome::Failed(Failure::Spent))));
}

/// Charging the budget must not change the result of a condition.
#[test]
fn functions_that_are_paid_for_say_what_they_said() {
    for (source, expected) in [
        ("'a-b-c'.split('-') == ['a', 'b', 'c']", "true"),
        ("'a-b-c'.split('-', 2) == ['a', 'b-c']", "true"),
        ("'abc'.split('') == ['a', 'b', 'c']", "true"),
        ("args.t.replace('l', 'LL') == 'heLLLLo'", "true"),
        ("args.t.replace('l', 'L', 1) == 'heLlo'", "true"),
        ("args.t.indexOf('l') == 2 && args.t.indexOf('l', 3) == 3", "true"),
        ("args.t.lastIndexOf('l') == 3 && args.t.lastIndexOf('x') == -1", "true"),
        ("args.t.indexOf('l', 30) == 0", "failed"),
        ("['a', args.t].join('/') == 'a/hello' && ['a', 'b'].join() == 'ab'", "true"),
        ("[1].join('/') == ''", "failed"),
        ("args.n.replace('a', 'b') == ''", "failed"),
        ("args.n.split('a') == []", "failed"),
        ("[1] + [2] == [1, 2] && 1 + 2 == 3 && 'a' + 'b' == 'ab' && 1.5 + 1.0 == 2.5", "true"),
        ("args.l + [4] == [1, 2, 3, 4] && [0] + args.l == [0, 1, 2, 3]", "true"),
        ("args.l + 1 == [1]", "failed"),
        ("args.t + 1 == ''", "failed"),
        (
            "timestamp('2026-01-01T00:00:00Z') + duration('1h') > timestamp('2026-01-01T00:30:00Z')",
            "true",
        ),
        ("args.l.filter(x, x > 1).map(x, x * 2) == [4, 6]", "true"),
        ("args.l.exists(x, x in [2]) && args.l.exists(x, 'k' in {'k': x})", "true"),
        (
            "args.l.all(x, [x, x][0] == x && {'a': x}['a'] == x && {'a': x}[?'a'].orValue(0) == x)",
            "true",
        ),
        ("'%s %d'.format([args.t, args.n]) == 'hello 7'", "true"),
        ("args.t.matches('^h.*o$') && matches(args.t, 'l{2}') && !args.t.matches('x')", "true"),
        ("args.n.matches('7')", "failed"),
        ("optional.of(args.n).value() == 7 && args.?x.or(optional.of(1)).value() == 1", "true"),
        (
            "[timestamp('2026-01-01T00:00:00Z')].all(t, type(t) == google.protobuf.Timestamp)",
            "true",
        ),
        ("[{'a': {'b': 1}}].all(args, args.a.b == 1) && args.n == 7", "true"),
        ("strings.quote(args.t) == '\"hello\"'", "true"),
    ] {
        let arguments = r#"{"t":"hello","n":7,"l":[1,2,3]}"#;
        let said = match evaluate_with(&Budget::of(10_000), source, arguments) {
            Ok(Outcome::True) => "true",
            Ok(Outcome::False) => "false",
            Ok(Outcome::Failed(Failure::Spent)) => "spent",
            Ok(Outcome::Failed(_)) => "failed",
            Err(_) => "ambiguous",
        };
        assert_eq!(said, expected, "{source}");
    }
}

#[test]
fn folding_looked_up_key_is_paid_for() {
    let key = "é".repeat(512);
    for (key, expected) in [("e".repeat(1024), 4), (key.clone(), 4 + 16)] {
        let arguments = format!(r#"{{"m":{{"{key}":1}},"k":"{key}"}}"#);
        assert_eq!(steps("args.m[args.k] == 1", &arguments), expected);
    }
    let members: Vec<String> = (0..900).map(|n| format!(r#""{key}{n}":1"#)).collect();
    let object = format!("{{{}}}", members.join(","));
    let arguments = format!(r#"{{"a":{object},"b":{object}}}"#);
    for source in ["args.a == args.b", "args.a.all(k, args.a[k] == 1)"] {
        let outcome = evaluate_with(&Budget::of(10_000), source, &arguments);
        assert!(matches!(outcome, Ok(Outcome::Failed(Failure::Spent))), "{source}");
    }
}

#[test]
fn read_values_are_paid_for_once() {
    for (source, arguments, expected) in [
        ("'x' == 'x'", r#"{"a":1}"#, 0),
        // A key and its value are two nodes.
        ("args.a == 1", r#"{"a":1}"#, 2),
        ("args.a == 1", r#"{"a":1,"b":2}"#, 4),
        ("has(args.c)", r#"{"a":1,"b":2}"#, 4),
        // Reading builds no lists that the condition does not use, but compares keys at every
        // level.
        ("args.a == 1", r#"{"a":1,"b":[1,[2],{}]}"#, 4),
        ("args.a == 1", r#"{"a":1,"b":[{"c":{"d":1}}]}"#, 4 + 2),
        ("args.a == 1 || args.b == [1]", r#"{"a":1,"b":[1,2,3]}"#, 4),
        ("args.a == 1 && args.b.size() == 3", r#"{"a":1,"b":[1,2,3]}"#, 4 + 4),
        ("args.b.c == 1", r#"{"b":{"c":1,"d":[]}}"#, 2 + 2 + 5),
        ("args == {'b': [1]}", r#"{"b":[1]}"#, 2 + 2),
        // Folding a key or comparing digits adds to the cost.
        ("args.a == 1", "{\"a\":1,\"éééé\":2}", 4 + 1),
        ("args.a == 1", r#"{"a":1,"b":1234567890123456}"#, 4 + 1),
    ] {
        let (first, second) = (Budget::of(1000), Budget::of(1000));
        assert!(evaluate_in(Dialect::Native, &[&first, &second], source, arguments).is_ok());
        let values = (second.left() - first.left()) / 128;
        assert_eq!(values, expected, "{source} {arguments}");
    }
}

#[test]
fn values_above_the_budget_are_not_read() {
    let list = |item: &str| vec![item; 100_000].join(",");
    let members: Vec<String> = (0..100_000).map(|n| format!("\"{n}\":0")).collect();
    for (arguments, unread) in [
        (format!(r#"{{"a":1,"b":[{}]}}"#, list("[]")), Some("args.a == 1")),
        (format!(r#"{{"a":1,"b":[{}]}}"#, list("0.25")), Some("'b' in args")),
        (format!(r#"{{"a":1,"b":{{{}}}}}"#, members.join(",")), None),
        (format!(r#"{{"a":1,"b":1,{}}}"#, members.join(",")), None),
    ] {
        if let Some(unread) = unread {
            let outcome = evaluate_with(&Budget::of(10_000), unread, &arguments);
            assert!(!matches!(outcome, Ok(Outcome::Failed(_))), "{unread}: {outcome:?}");
        }
        for source in ["args.b == 7 || true", "!has(args.b.x)", "args == {}", "'b' in args"] {
            let is_read = unread.is_none() || source != "'b' in args";
            let outcome = evaluate_with(&Budget::of(10_000), source, &arguments);
            let is_spent = matches!(outcome, Ok(Outcome::Failed(Failure::Spent)));
            assert_eq!(is_spent, is_read, "{source}: {outcome:?}");
        }
    }
}

#[test]
fn duplicate_in_unread_member_is_refused() {
    for arguments in [
        r#"{"a":1,"b":{"c":1,"c":2}}"#,
        r#"{"b":[[{"c":1,"\u0063":2}]],"a":1}"#,
        r#"{"a":1,"b":{"c\u0000":1}}"#,
        r#"{"a":1,"b":1,"b":2}"#,
    ] {
        let outcome = evaluate_with(&Budget::of(10_000), "args.a == 1", arguments);
        assert!(matches!(outcome, Err(Problem::NotJson(_))), "{arguments}: {outcome:?}");
    }
    let many: String = (0..20).map(|n| format!("\"{n}\":0,")).collect();
    let arguments = format!(r#"{{"a":1,"b":{{{many}"7":1}}}}"#);
    assert!(evaluate_with(&Budget::of(10_000), "args.a == 1", &arguments).is_err());
    let arguments = format!(r#"{{"a":1,"b":{{{many}"70":1}}}}"#);
    assert!(evaluate_with(&Budget::of(10_000), "args.a == 1", &arguments).is_ok());
}
