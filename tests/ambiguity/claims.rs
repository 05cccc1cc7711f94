//! Claims that are withheld, doubled or of another type, and backends that are unknown.

use serde_json::json;

use super::{Allowed, Case, Denied, Rejected, check, check_with, tool};

const SUSPENDED: &str = r"
policies:
- name: p
  rules:
  - {action: Deny, source: {jwt: {claims: [{name: status, valueType: String, values: [suspended]}]}}}
  - {action: Allow}
";

/// `jwt_authn` writes the token's header beside its payload.
pub(super) const TWO_PAYLOADS: (&str, &str) = (
    "payload_in_metadata: jwt_payload",
    "payload_in_metadata: jwt_payload\n                  header_in_metadata: jwt_header",
);

#[tokio::test]
async fn second_payload_is_a_misconfiguration() {
    let call = |status: &str| tool("read").claims(json!({"status": status}));
    check_with(
        SUSPENDED,
        &[TWO_PAYLOADS],
        &[
            ("the caller that the rule denies", call("suspended"), Rejected(&[500])),
            ("another caller", call("active"), Rejected(&[500])),
            ("a caller without the claim", tool("read"), Rejected(&[500])),
        ],
    )
    .await;
}

#[tokio::test]
async fn named_payload_beside_another_decides() {
    let policy = format!("jwt: {{from: metadata, metadata: {{key: jwt_payload}}}}\n{SUSPENDED}");
    let call = |status: &str| tool("read").claims(json!({"status": status}));
    check_with(
        &policy,
        &[TWO_PAYLOADS],
        &[
            ("the caller that the rule denies", call("suspended"), Denied),
            ("another caller", call("active"), Allowed),
        ],
    )
    .await;
}

const STRINGS: &str = r#"
policies:
- name: lenient
  match: {pathPrefixes: [/lenient]}
  conditionErrors: NoMatch
  rules:
  - {action: Deny, source: {jwt: {claims: [{name: suspended, valueType: String, values: ["true"]}]}}}
  - {action: Allow}
- name: strict
  rules:
  - action: Deny
    source: {jwt: {claims: [{name: suspended, valueType: String, values: ["true"]}]}}
    target: {tools: [{tool: one}]}
  - action: Deny
    source: {jwt: {claims: [{name: groups, valueType: StringArray, values: [banned]}]}}
    target: {tools: [{tool: list}]}
  - action: Deny
    source: {jwt: {claims: [{name: account.status, valueType: String, values: [suspended]}]}}
    target: {tools: [{tool: deep}]}
  - {action: Allow, target: {tools: [{tool: one}, {tool: list}, {tool: deep}]}}
  - action: Allow
    source: {jwt: {claims: [{name: tier, valueType: String, values: [gold]}]}}
    target: {tools: [{tool: gold}]}
"#;

#[tokio::test]
async fn claim_of_another_type_is_denied() {
    let one = |value| tool("one").claims(json!({"suspended": value}));
    let list = |value| tool("list").claims(json!({"groups": value}));
    let deep = |value| tool("deep").claims(json!({"account": {"status": value}}));
    let gold = |value| tool("gold").claims(json!({"tier": value}));
    let cases: &[Case] = &[
        ("the string", one(json!("true")), Denied),
        ("another string", one(json!("false")), Allowed),
        ("no claim", tool("one"), Allowed),
        ("true for \"true\"", one(json!(true)), Denied),
        ("false for \"true\"", one(json!(false)), Denied),
        ("a number for a string", one(json!(1)), Denied),
        ("null for a string", one(json!(null)), Denied),
        ("a list for a string", one(json!(["true"])), Denied),
        ("a list of others for a string", one(json!(["false"])), Denied),
        ("an object for a string", one(json!({"value": "true"})), Denied),
        ("with conditionErrors: NoMatch", one(json!(true)).path("/lenient"), Allowed),
        ("NoMatch and the string", one(json!("true")).path("/lenient"), Denied),
        ("a list with the string", list(json!(["staff", "banned"])), Denied),
        ("a list without it", list(json!(["staff"])), Allowed),
        ("an empty list", list(json!([])), Allowed),
        ("the string for a list", list(json!("banned")), Denied),
        ("another string for a list", list(json!("staff")), Allowed),
        ("an object for a list", list(json!({"banned": true})), Denied),
        ("true for a list", list(json!(true)), Denied),
        ("a list with a number", list(json!(["staff", 7])), Denied),
        ("a list in the list", list(json!([["banned"]])), Denied),
        ("a nested string", deep(json!("suspended")), Denied),
        ("another nested string", deep(json!("active")), Allowed),
        ("a nested boolean", deep(json!(true)), Denied),
        ("a nested list", deep(json!(["suspended"])), Denied),
        ("a string around it", tool("deep").claims(json!({"account": "suspended"})), Denied),
        (
            "a list around it",
            tool("deep").claims(json!({"account": [{"status": "suspended"}]})),
            Denied,
        ),
        ("an object without it", tool("deep").claims(json!({"account": {}})), Allowed),
        ("an Allow rule and the string", gold(json!("gold")), Allowed),
        ("an Allow rule and a list", gold(json!(["gold"])), Denied),
        ("an Allow rule and a boolean", gold(json!(true)), Denied),
    ];
    check(STRINGS, cases).await;
}

const TYPED: &str = r"
policies:
- name: p
  rules:
  - action: Deny
    source: {jwt: {claims: [{name: suspended, valueType: String, values: [true]}]}}
    target: {tools: [{tool: boolean}]}
  - action: Deny
    source: {jwt: {claims: [{name: level, valueType: String, values: [1, 2.5]}]}}
    target: {tools: [{tool: number}]}
  - action: Deny
    source: {jwt: {claims: [{name: ids, valueType: StringArray, values: [7]}]}}
    target: {tools: [{tool: list}]}
  - action: Deny
    source: {jwt: {claims: [{name: state, valueType: String, values: [true, 'yes']}]}}
    target: {tools: [{tool: mixed}]}
  - action: Allow
    target: {tools: [{tool: boolean}, {tool: number}, {tool: list}, {tool: mixed}]}
  - action: Allow
    source: {jwt: {claims: [{name: vip, valueType: String, values: [true]}]}}
    target: {tools: [{tool: vip}]}
";

#[tokio::test]
async fn claim_values_keep_their_type() {
    let call = |name, claim: &str, value| tool(name).claims(json!({claim: value}));
    let boolean = |value| call("boolean", "suspended", value);
    let number = |value| call("number", "level", value);
    let list = |value| call("list", "ids", value);
    let mixed = |value| call("mixed", "state", value);
    let vip = |value| call("vip", "vip", value);
    check(
        TYPED,
        &[
            ("true", boolean(json!(true)), Denied),
            ("false", boolean(json!(false)), Allowed),
            ("no claim", tool("boolean"), Allowed),
            ("\"true\" for true", boolean(json!("true")), Denied),
            ("\"false\" for true", boolean(json!("false")), Denied),
            ("1 for true", boolean(json!(1)), Denied),
            ("[true] for true", boolean(json!([true])), Denied),
            ("the integer", number(json!(1)), Denied),
            ("the integer as a double", number(json!(1.0)), Denied),
            ("the double", number(json!(2.5)), Denied),
            ("another number", number(json!(3)), Allowed),
            ("\"1\" for 1", number(json!("1")), Denied),
            ("true for 1", number(json!(true)), Denied),
            ("a list with the number", list(json!([5, 7])), Denied),
            ("a list without it", list(json!([5])), Allowed),
            ("the number for a list", list(json!(7)), Denied),
            ("a list with \"7\"", list(json!(["7"])), Denied),
            ("the first of two types", mixed(json!(true)), Denied),
            ("the second of two types", mixed(json!("yes")), Denied),
            ("another of the second type", mixed(json!("no")), Allowed),
            ("a third type", mixed(json!(1)), Denied),
            ("an Allow rule and true", vip(json!(true)), Allowed),
            ("an Allow rule and false", vip(json!(false)), Denied),
            ("an Allow rule and \"true\"", vip(json!("true")), Denied),
            ("an Allow rule and 1", vip(json!(1)), Denied),
        ],
    )
    .await;
}

const PATTERNS: &str = r#"
policies:
- name: p
  rules:
  - action: Deny
    source: {jwt: {claims: [{name: email, valueType: String, values: ["*@contractors.example.com"]}]}}
    target: {tools: [{tool: one}]}
  - action: Deny
    source: {jwt: {claims: [{name: groups, valueType: StringArray, values: ["temp-*"]}]}}
    target: {tools: [{tool: list}]}
  - {action: Allow, target: {tools: [{tool: one}, {tool: list}]}}
  - action: Allow
    source: {jwt: {claims: [{name: email, valueType: String, values: ["*@example.com"]}]}}
    target: {tools: [{tool: staff}]}
"#;

#[tokio::test]
async fn star_in_claim_values_matches() {
    let call = |name, claim: &str, value| tool(name).claims(json!({claim: value}));
    let email = |value| call("one", "email", value);
    let groups = |value| call("list", "groups", value);
    let staff = |value| call("staff", "email", value);
    check(
        PATTERNS,
        &[
            ("a contractor", email(json!("eve@contractors.example.com")), Denied),
            ("the pattern itself", email(json!("*@contractors.example.com")), Denied),
            ("nothing for the star", email(json!("@contractors.example.com")), Denied),
            ("an employee", email(json!("ann@example.com")), Allowed),
            ("more behind", email(json!("ann@contractors.example.com.org")), Allowed),
            ("a list of a contractor", email(json!(["eve@contractors.example.com"])), Denied),
            ("a group", groups(json!(["staff", "temp-9"])), Denied),
            ("a single group", groups(json!("temp-9")), Denied),
            ("other groups", groups(json!(["staff", "temporary"])), Allowed),
            ("an Allow rule", staff(json!("ann@example.com")), Allowed),
            ("an Allow rule and another domain", staff(json!("ann@example.org")), Denied),
            ("an Allow rule and more behind", staff(json!("ann@example.com.org")), Denied),
        ],
    )
    .await;
}

const BACKENDS: &str = r"
policies:
- name: lenient
  match: {pathPrefixes: [/lenient]}
  backend: {header: x-backend}
  conditionErrors: NoMatch
  rules:
  - {action: Deny, target: {tools: [{backend: github, tool: delete_file}]}}
  - {action: Allow}
- name: strict
  backend: {header: x-backend}
  rules:
  - {action: Deny, target: {tools: [{backend: github, tool: delete_file}]}}
  - {action: Allow, target: {tools: [{backend: jira, tool: close}]}}
  - {action: Allow, target: {tools: [{tool: delete_file}, {tool: read_file}]}}
";

#[tokio::test]
async fn unknown_backend_is_denied() {
    let delete = |backend: &str| tool("delete_file").header("x-backend", backend);
    let twice = delete("jira").header("x-backend", "github");
    check(
        BACKENDS,
        &[
            ("the backend", delete("github"), Denied),
            ("another backend", delete("jira"), Allowed),
            ("no backend", tool("delete_file"), Denied),
            ("no backend and another tool", tool("read_file"), Allowed),
            ("no backend and an Allow rule", tool("close"), Denied),
            ("an Allow rule and its backend", tool("close").header("x-backend", "jira"), Allowed),
            ("no backend with NoMatch", tool("delete_file").path("/lenient"), Allowed),
            ("NoMatch and the backend", delete("github").path("/lenient"), Denied),
            ("two backends", twice.clone(), Rejected(&[400])),
            ("two backends with NoMatch", twice.path("/lenient"), Rejected(&[400])),
            (
                "the same backend twice",
                delete("jira").header("x-backend", "jira"),
                Rejected(&[400]),
            ),
            ("an empty backend", delete(""), Rejected(&[400, 403])),
        ],
    )
    .await;
}
