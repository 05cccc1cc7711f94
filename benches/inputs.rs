//! The inputs that all benchmarks use: one call, one token, and policies of any size.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// The scope that the caller has.
pub const SCOPE: &str = "issues:write";
/// The backend of all rules.
pub const BACKEND: &str = "github";

/// The call: 274 bytes of JSON-RPC. It is for the last of `rules` rules.
pub fn call(rules: usize) -> Vec<u8> {
    let tool = tool(rules - 1);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"owner":"example","repo":"gateway","title":"Hello, this is an issue!","labels":["bug","help wanted"],"assignees":["ana","ben"],"confidential":false,"weight":3,"note":"{}"}}}}}}"#,
        "n".repeat(9),
    );
    body.into_bytes()
}

/// A call whose arguments are so long that the whole body has about `bytes` bytes.
pub fn long_call(rules: usize, bytes: usize) -> Vec<u8> {
    let tool = tool(rules - 1);
    let item = r#"{"path":"src/main.rs","mode":"100644","size":1234,"text":"fn main() { println!(\"hello\"); }"}"#;
    let count = bytes / (item.len() + 1);
    let files = vec![item; count].join(",");
    format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"title":"Hello, this is an issue!","files":[{files}]}}}}}}"#
    )
    .into_bytes()
}

/// The claims of the caller's token: 513 bytes of JSON.
pub fn claims() -> Map<String, Value> {
    let claims = json!({
        "iss": "https://idp.example.com",
        "aud": "mcp",
        "sub": "8a4f2c1e-5b7d-4c39-9e21-0d6f3b8a7c55",
        "iat": 1_800_000_000,
        "exp": 4_000_000_000_u64,
        "jti": "f2b7c9d4-1e3a-4b5c-8d6e-7f8091a2b3c4",
        "azp": "agent-workbench",
        "client_id": "agent-workbench",
        "scope": format!("openid profile {SCOPE} repo:read"),
        "email": "ana@example.com",
        "email_verified": true,
        "locale": "en-GB",
        "acr": "lvl2",
        "name": "Ana Example",
        "org": {"id": 4711, "name": "example", "departments": ["engineering", "operations"]},
        "groups": ["developers", "on-call", "reviewers", "release-managers"],
    });
    let Value::Object(claims) = claims else { return Map::new() };
    claims
}

/// The same claims and as many more.
pub fn more_claims(more: usize) -> Map<String, Value> {
    let mut claims = claims();
    claims.extend((0..more).map(|number| (format!("claim_{number}"), json!("some value"))));
    claims
}

/// The name of the tool of a rule.
pub fn tool(rule: usize) -> String {
    format!("create_issue_{rule}")
}

/// The way in which the rules of a policy read arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Not at all.
    Never,
    /// A regular expression over one of them.
    Title,
    /// A look at each element of a list.
    EachFile,
}

/// The policy whose rules look at the title, which filters lists.
pub fn policy_listing(rules: usize, tools_list: &str) -> String {
    let list = format!("  toolsList: {tools_list}\n  rules:\n");
    policy(rules, When::Title).replacen("  rules:\n", &list, 1)
}

/// The answer to a list of so many tools.
pub fn list(tools: usize) -> Vec<u8> {
    let tool = |number| {
        let schema = json!({"type": "object", "properties": {"title": {"type": "string"}}});
        json!({"name": tool(number), "description": "Creates an issue", "inputSchema": schema})
    };
    let tools: Vec<Value> = (0..tools).map(tool).collect();
    let message = json!({"jsonrpc": "2.0", "id": 7, "result": {"tools": tools}});
    message.to_string().into_bytes()
}

/// A policy of so many rules for any tool, none of which is for the caller, and one that
/// allows the call.
pub fn policy_for_any(rules: usize) -> String {
    let (head, rule) = policy(1, When::Title).split_once("  - ").map_or_else(
        || (String::new(), String::new()),
        |(head, rule)| (head.to_owned(), rule.to_owned()),
    );
    let others: String = (0..rules)
        .map(|rule| {
            format!("  - {{action: Allow, source: {{jwt: {{scopes: [\"scope:{rule}\"]}}}}}}\n")
        })
        .collect();
    format!("{head}{others}  - {rule}")
}

/// A policy of so many Allow rules, each for a tool of its own; the call is for the last.
pub fn policy(rules: usize, when: When) -> String {
    policy_for(rules, when, SCOPE)
}

/// The same, with another scope for the rule of the call.
pub fn policy_for(rules: usize, when: When, scope: &str) -> String {
    let when = match when {
        When::Never => "",
        When::Title => r#", when: 'args.title.matches("^Hello, .*!$")'"#,
        When::EachFile => r#", when: 'args.files.all(file, file.size < 5000)'"#,
    };
    let mut text = format!(
        "limits: {{conditionCost: 10000000}}\npolicies:\n- name: bench\n  backend: {{name: {BACKEND}}}\n  rules:\n"
    );
    for rule in 0..rules {
        let tool = tool(rule);
        let scope = if rule + 1 == rules { scope.to_owned() } else { format!("scope:{rule}") };
        // Writing to a `String` cannot fail.
        let _written = writeln!(
            text,
            "  - {{name: r{rule}, action: Allow, source: {{jwt: {{scopes: [\"{scope}\"]}}}}, \
             target: {{tools: [{{backend: {BACKEND}, tool: {tool}{when}}}]}}}}"
        );
    }
    text
}
