//! Values that conditions read: arguments, metadata and claims of another type or
//! beyond what a double can hold.

use serde_json::json;

use super::{Allowed, Case, Denied, Rejected, Request, check, message, tool};

const ARGUMENTS: &str = r#"
policies:
- name: p
  rules:
  - action: Deny
    target:
      tools:
      - {tool: equal, when: 'args.force == true'}
      - {tool: unequal, when: 'args.env != "test"'}
      - {tool: in, when: 'args.level in [9, 10]'}
      - {tool: in_argument, when: '5 in args.ids'}
      - {tool: key_in_argument, when: '"force" in args.o'}
      - {tool: optional, when: 'args.?o.?force.orValue(false)'}
      - {tool: optional_key, when: 'args[?"o"][?"force"].orValue(false)'}
      - {tool: optional_index, when: 'args.?list[?0].orValue("") == "drop"'}
      - {tool: optional_equal, when: 'args.?force.orValue(false) == true'}
      - {tool: nested, when: 'args.o == {"mode": {"force": true}}'}
      - {tool: list, when: 'args.list == [1, 2]'}
      - {tool: is_null, when: 'args.owner == null'}
      - {tool: exists, when: 'args.ids.exists(id, id == 5)'}
      - {tool: filter, when: 'args.ids.filter(id, id == 5).size() > 0'}
      - {tool: either, when: 'args.force == true || args.all == true'}
      - {tool: pair, when: 'args.a == args.b'}
      - {tool: in_pair, when: 'args.a in args.b'}
      - {tool: in_objects, when: 'args.o in [{"force": true}]'}
      - {tool: wrapped, when: '[args.force] == [true]'}
      - {tool: wrapped_in_object, when: '{"force": args.force} == {"force": true}'}
      - {tool: wrapped_in_optional, when: 'args.?force == optional.of(true)'}
      - {tool: object_of_id, when: 'args.o == {"id": 5}'}
      - {tool: meta, when: 'meta.force == true'}
      - {tool: params, when: 'request.mcp.params.arguments.force == true'}
      - {tool: id, when: 'args.id == 9007199254740991'}
      - {tool: amount, when: 'args.amount > 1000'}
  - {action: Deny, target: {tools: [{tool: claim}]}, cel: 'request.auth.jwt.claims.suspended == true'}
  - {action: Deny, target: {tools: [{tool: account}]}, cel: 'request.auth.jwt.claims.account == 5'}
  - {action: Deny, target: {tools: [{tool: team}]}, cel: 'request.auth.jwt.claims.team == args.team'}
  - action: Allow
    target:
      tools:
      - {tool: may_unequal, when: 'args.force != true'}
      - {tool: may_negated, when: '!(args.force == true)'}
      - {tool: may_not_in, when: '!(args.env in ["production"])'}
      - {tool: may_all, when: 'args.tags.all(tag, tag != "secret")'}
      - {tool: may_nested, when: 'args.o != {"force": true}'}
      - {tool: may_optional, when: '!args.?o.?force.hasValue()'}
  - {action: Deny, target: {tools: [{tool: "may_*"}]}}
  - {action: Allow}
"#;

fn call(name: &str, arguments: &str) -> Request {
    tool(name).arguments(arguments)
}

#[tokio::test]
async fn argument_of_another_type_is_denied() {
    let meta = |value| message("tools/call", &json!({"name": "meta", "_meta": {"force": value}}));
    let cases: &[Case] = &[
        ("==: true", call("equal", r#"{"force": true}"#), Denied),
        ("==: false", call("equal", r#"{"force": false}"#), Allowed),
        ("==: \"true\"", call("equal", r#"{"force": "true"}"#), Denied),
        ("==: \"false\"", call("equal", r#"{"force": "false"}"#), Denied),
        ("==: 1", call("equal", r#"{"force": 1}"#), Denied),
        ("==: null", call("equal", r#"{"force": null}"#), Denied),
        ("==: [true]", call("equal", r#"{"force": [true]}"#), Denied),
        ("==: an object", call("equal", r#"{"force": {"force": true}}"#), Denied),
        ("==: absent", call("equal", "{}"), Denied),
        ("!=: the string", call("unequal", r#"{"env": "test"}"#), Allowed),
        ("!=: another", call("unequal", r#"{"env": "production"}"#), Denied),
        ("!=: a list", call("unequal", r#"{"env": ["test"]}"#), Denied),
        ("in: 9", call("in", r#"{"level": 9}"#), Denied),
        ("in: 9.0", call("in", r#"{"level": 9.0}"#), Denied),
        ("in: 8", call("in", r#"{"level": 8}"#), Allowed),
        ("in: \"9\"", call("in", r#"{"level": "9"}"#), Denied),
        ("in: [9]", call("in", r#"{"level": [9]}"#), Denied),
        ("in: null", call("in", r#"{"level": null}"#), Denied),
        ("in: true", call("in", r#"{"level": true}"#), Denied),
        ("in an argument: 5", call("in_argument", r#"{"ids": [4, 5]}"#), Denied),
        ("in an argument: others", call("in_argument", r#"{"ids": [4, 6]}"#), Allowed),
        ("in an argument: \"5\"", call("in_argument", r#"{"ids": [4, "5"]}"#), Denied),
        ("in an argument: [5]", call("in_argument", r#"{"ids": [4, [5]]}"#), Denied),
        ("in an argument: null aside", call("in_argument", r#"{"ids": [4, null]}"#), Allowed),
        ("in an argument: a number", call("in_argument", r#"{"ids": 5}"#), Denied),
        ("in an argument: a string", call("in_argument", r#"{"ids": "5"}"#), Denied),
        ("in keys: an object", call("key_in_argument", r#"{"o": {"force": 1}}"#), Denied),
        ("in keys: another", call("key_in_argument", r#"{"o": {"a": 1}}"#), Allowed),
        ("in keys: JSON text", call("key_in_argument", r#"{"o": "{\"force\": 1}"}"#), Denied),
        ("in keys: null", call("key_in_argument", r#"{"o": null}"#), Denied),
        (".?: true", call("optional", r#"{"o": {"force": true}}"#), Denied),
        (".?: false", call("optional", r#"{"o": {"force": false}}"#), Allowed),
        (".?: no member", call("optional", r#"{"o": {}}"#), Allowed),
        (".?: absent", call("optional", "{}"), Allowed),
        (".?: JSON text", call("optional", r#"{"o": "{\"force\":true}"}"#), Denied),
        (".?: \"true\"", call("optional", r#"{"o": {"force": "true"}}"#), Denied),
        (".?: a list", call("optional", r#"{"o": [{"force": true}]}"#), Denied),
        (".?: null", call("optional", r#"{"o": null}"#), Denied),
        (".?: a number", call("optional", r#"{"o": 1}"#), Denied),
        ("[?k]: true", call("optional_key", r#"{"o": {"force": true}}"#), Denied),
        ("[?k]: no member", call("optional_key", r#"{"o": {}}"#), Allowed),
        ("[?k]: JSON text", call("optional_key", r#"{"o": "{\"force\":true}"}"#), Denied),
        ("[?k]: a list", call("optional_key", r#"{"o": [{"force": true}]}"#), Denied),
        ("[?k]: null", call("optional_key", r#"{"o": null}"#), Denied),
        ("[?0]: the string", call("optional_index", r#"{"list": ["drop"]}"#), Denied),
        ("[?0]: another", call("optional_index", r#"{"list": ["read"]}"#), Allowed),
        ("[?0]: an empty list", call("optional_index", r#"{"list": []}"#), Allowed),
        ("[?0]: a string", call("optional_index", r#"{"list": "drop"}"#), Denied),
        ("[?0]: JSON text", call("optional_index", r#"{"list": "[\"drop\"]"}"#), Denied),
        ("orValue: \"true\"", call("optional_equal", r#"{"force": "true"}"#), Denied),
        ("orValue: null", call("optional_equal", r#"{"force": null}"#), Denied),
        ("orValue: absent", call("optional_equal", "{}"), Allowed),
        ("nested: true", call("nested", r#"{"o": {"mode": {"force": true}}}"#), Denied),
        ("nested: false", call("nested", r#"{"o": {"mode": {"force": false}}}"#), Allowed),
        ("nested: \"true\"", call("nested", r#"{"o": {"mode": {"force": "true"}}}"#), Denied),
        ("nested: null", call("nested", r#"{"o": {"mode": {"force": null}}}"#), Denied),
        ("nested: JSON text", call("nested", r#"{"o": {"mode": "{\"force\": true}"}}"#), Denied),
        ("list: equal", call("list", r#"{"list": [1, 2.0]}"#), Denied),
        ("list: others", call("list", r#"{"list": [1, 3]}"#), Allowed),
        ("list: \"1\"", call("list", r#"{"list": ["1", 2]}"#), Denied),
        ("list: \"2\"", call("list", r#"{"list": [1, "2"]}"#), Denied),
        ("list: text", call("list", r#"{"list": "1, 2"}"#), Denied),
        ("== null: null", call("is_null", r#"{"owner": null}"#), Denied),
        ("== null: a string", call("is_null", r#"{"owner": "ann"}"#), Allowed),
        ("exists: 5", call("exists", r#"{"ids": [4, 5]}"#), Denied),
        ("exists: others", call("exists", r#"{"ids": [4, 6]}"#), Allowed),
        ("exists: \"5\"", call("exists", r#"{"ids": [4, "5"]}"#), Denied),
        ("filter: 5", call("filter", r#"{"ids": [4, 5]}"#), Denied),
        ("filter: others", call("filter", r#"{"ids": [4, 6]}"#), Allowed),
        ("filter: \"5\"", call("filter", r#"{"ids": [4, "5"]}"#), Denied),
        ("two arguments: equal", call("pair", r#"{"a": 1, "b": 1.0}"#), Denied),
        ("two arguments: unequal", call("pair", r#"{"a": 1, "b": 2}"#), Allowed),
        ("two arguments: two types", call("pair", r#"{"a": 1, "b": "1"}"#), Denied),
        ("two arguments: null", call("pair", r#"{"a": 1, "b": null}"#), Denied),
        ("in another: found", call("in_pair", r#"{"a": "x", "b": ["x"]}"#), Denied),
        ("in another: not found", call("in_pair", r#"{"a": "x", "b": ["y"]}"#), Allowed),
        ("in another: two types", call("in_pair", r#"{"a": 1, "b": ["1"]}"#), Denied),
        ("in another: a list", call("in_pair", r#"{"a": ["x"], "b": ["x"]}"#), Denied),
        ("in objects: equal", call("in_objects", r#"{"o": {"force": true}}"#), Denied),
        ("in objects: unequal", call("in_objects", r#"{"o": {"force": false}}"#), Allowed),
        ("in objects: \"true\"", call("in_objects", r#"{"o": {"force": "true"}}"#), Denied),
        ("in objects: JSON text", call("in_objects", r#"{"o": "{\"force\":true}"}"#), Denied),
        ("in a list literal: false", call("wrapped", r#"{"force": false}"#), Allowed),
        ("in a list literal: \"true\"", call("wrapped", r#"{"force": "true"}"#), Denied),
        ("in a map literal: false", call("wrapped_in_object", r#"{"force": false}"#), Allowed),
        ("in a map literal: \"true\"", call("wrapped_in_object", r#"{"force": "true"}"#), Denied),
        ("in an optional: true", call("wrapped_in_optional", r#"{"force": true}"#), Denied),
        ("in an optional: false", call("wrapped_in_optional", r#"{"force": false}"#), Allowed),
        ("in an optional: \"true\"", call("wrapped_in_optional", r#"{"force": "true"}"#), Denied),
        ("||: the first", call("either", r#"{"force": true, "all": false}"#), Denied),
        ("||: neither", call("either", r#"{"force": false, "all": false}"#), Allowed),
        ("||: \"true\"", call("either", r#"{"force": "true", "all": false}"#), Denied),
        ("meta: true", meta(json!(true)), Denied),
        ("meta: false", meta(json!(false)), Allowed),
        ("meta: \"true\"", meta(json!("true")), Denied),
        ("params: true", call("params", r#"{"force": true}"#), Denied),
        ("params: false", call("params", r#"{"force": false}"#), Allowed),
        ("params: \"true\"", call("params", r#"{"force": "true"}"#), Denied),
    ];
    check(ARGUMENTS, cases).await;
}

#[tokio::test]
async fn other_type_satisfies_no_exclusion() {
    check(
        ARGUMENTS,
        &[
            ("!=: false", call("may_unequal", r#"{"force": false}"#), Allowed),
            ("!=: true", call("may_unequal", r#"{"force": true}"#), Denied),
            ("!=: \"true\"", call("may_unequal", r#"{"force": "true"}"#), Denied),
            ("!=: 1", call("may_unequal", r#"{"force": 1}"#), Denied),
            ("!=: null", call("may_unequal", r#"{"force": null}"#), Denied),
            ("!: false", call("may_negated", r#"{"force": false}"#), Allowed),
            ("!: \"true\"", call("may_negated", r#"{"force": "true"}"#), Denied),
            ("not in: another", call("may_not_in", r#"{"env": "test"}"#), Allowed),
            ("not in: a list", call("may_not_in", r#"{"env": ["production"]}"#), Denied),
            ("all: others", call("may_all", r#"{"tags": ["a", "b"]}"#), Allowed),
            ("all: a list in the list", call("may_all", r#"{"tags": ["a", ["secret"]]}"#), Denied),
            ("nested: false", call("may_nested", r#"{"o": {"force": false}}"#), Allowed),
            ("nested: \"true\"", call("may_nested", r#"{"o": {"force": "true"}}"#), Denied),
            ("hasValue: no member", call("may_optional", r#"{"o": {}}"#), Allowed),
            ("hasValue: JSON text", call("may_optional", r#"{"o": "{\"force\":true}"}"#), Denied),
        ],
    )
    .await;
}

#[tokio::test]
async fn number_beyond_doubles_is_denied() {
    let id = |number: &str| call("id", &format!("{{\"id\": {number}}}"));
    let o = |id: u64| json!({"o": {"id": id}}).to_string();
    let amount = |number: &str| call("amount", &format!("{{\"amount\": {number}}}"));
    check(
        ARGUMENTS,
        &[
            ("2^53-1", id("9007199254740991"), Denied),
            ("2^53-1 as a double", id("9007199254740991.0"), Denied),
            ("2^53-2", id("9007199254740990"), Allowed),
            ("2^53", id("9007199254740992"), Denied),
            ("2^53+1", id("9007199254740993"), Denied),
            ("-2^53-1", id("-9007199254740993"), Denied),
            ("2^64+1", id("18446744073709551617"), Denied),
            ("with an exponent", id("9.007199254740993e15"), Denied),
            ("10^30", id("1000000000000000000000000000000"), Denied),
            ("2^53+1 in an object", call("object_of_id", &o(9_007_199_254_740_993)), Denied),
            ("another number in an object", call("object_of_id", &o(6)), Allowed),
            ("2^53+1 in a list", call("in_argument", r#"{"ids": [9007199254740993]}"#), Denied),
            ("2^53+1 for one of two", call("in", r#"{"level": 9007199254740993}"#), Denied),
            ("more than the limit", amount("1001"), Denied),
            ("the limit", amount("1000"), Allowed),
            ("less than -2^53", amount("-1e300"), Denied),
            ("not a double", amount("-1e400"), Rejected(&[400, 403])),
            ("the number as a string", amount("\"1001\""), Denied),
        ],
    )
    .await;
}

#[tokio::test]
async fn claim_in_condition_keeps_type() {
    let claim = |value| tool("claim").claims(json!({"suspended": value}));
    let account = |value| tool("account").claims(json!({"account": value}));
    let team = |team, arguments: &str| call("team", arguments).claims(json!({"team": team}));
    check(
        ARGUMENTS,
        &[
            ("true", claim(json!(true)), Denied),
            ("false", claim(json!(false)), Allowed),
            ("\"true\"", claim(json!("true")), Denied),
            ("1", claim(json!(1)), Denied),
            ("null", claim(json!(null)), Denied),
            ("no claim", tool("claim"), Denied),
            ("the number", account(json!(5)), Denied),
            ("another number", account(json!(6)), Allowed),
            ("\"5\"", account(json!("5")), Denied),
            ("2^53+1", account(json!(9_007_199_254_740_993_u64)), Denied),
            ("equal to an argument", team(json!("a"), r#"{"team": "a"}"#), Denied),
            ("unlike an argument", team(json!("a"), r#"{"team": "b"}"#), Allowed),
            ("another type than an argument", team(json!(1), r#"{"team": "1"}"#), Denied),
        ],
    )
    .await;
}
