//! Random policies and requests. Names are written in one way only, and each argument and claim
//! has one type in all conditions and rules.

use serde_json::{Map, Value, json};

use super::claims::RequiredClaim;
use super::condition::{Condition, Term};
use super::names::matches;
use super::{BackendSource, Part, Policy, Request, Rule, Target};
use crate::choices::Choices;

pub const HOSTS: [&str; 4] =
    ["internal.example.com", "mcp.example.com", "a.internal.example.com", "other.net"];
const HOST_PATTERNS: [&str; 4] =
    ["internal.example.com", "*.internal.example.com", "mcp.example.com", "*.example.com"];
pub const PATHS: [&str; 7] =
    ["/mcp", "/mcp/admin", "/mcp/admin/x?a=//b", "/mcp/tools", "/public", "/", "/mcp/my%20tools"];
const PATH_PREFIXES: [&str; 5] = ["/mcp", "/mcp/admin", "/public/", "/", "/mcpx"];
pub const ROUTES: [&str; 3] = ["internal", "public", ""];
pub const BACKENDS: [&str; 2] = ["github", "jira"];
const TOOLS: [&str; 4] = ["delete_file", "read_file", "drop_disk", "list_tasks"];
const TOOL_PATTERNS: [&str; 8] =
    ["delete_file", "read_file", "drop_disk", "delete_*", "*_file", "d*_*sk", "*", "read_*file"];
const PROMPTS: [&str; 2] = ["plan", "secret_plan"];
const PROMPT_PATTERNS: [&str; 4] = ["plan", "secret_plan", "secret_*", "*"];
const RULE_SCOPES: [&str; 6] =
    ["a", "b", "guest", "tenant-x:read", "tenant-y:read", "tenant-x:admin"];
pub const TOKEN_SCOPES: [&str; 8] =
    ["a", "b", "c", "guest", "tenant-x:admin", "tenant-y:admin", "org-x:owner", "tenant-x:read"];
/// Broader and narrower scopes.
const HIERARCHY: [(&str, &[&str]); 5] = [
    ("a", &["b"]),
    ("c", &["a", "guest"]),
    ("tenant-*:admin", &["tenant-*:read", "b"]),
    ("org-*:owner", &["tenant-*:admin"]),
    ("tenant-x:read", &["guest"]),
];
/// Arguments: a number, a boolean, a string, a list of strings, an object.
pub const ARGUMENTS: [&str; 5] = ["n", "f", "s", "l", "o"];
pub const CLAIMS: [&str; 5] = ["level", "suspended", "status", "groups", "org"];
pub const HEADER: &str = "x-env";
pub const BACKEND_HEADER: &str = "x-backend";

fn texts(values: &[Value]) -> Vec<String> {
    values.iter().map(Value::to_string).collect()
}

/// Returns the values that an argument can have, as JSON.
pub fn argument_values(name: &str) -> Vec<String> {
    texts(&match name {
        "n" => vec![json!(1), json!(5), json!(9), json!(2.5), json!(9_007_199_254_740_991_i64)],
        "f" => vec![json!(true), json!(false)],
        "s" => vec![json!("test"), json!("production"), json!("prod"), json!("")],
        "l" => vec![json!([]), json!(["drop"]), json!(["read", "drop"]), json!(["read"])],
        _ => vec![json!({"m": true}), json!({"m": false}), json!({})],
    })
}

/// Returns the values that a claim can have.
pub fn claim_values(name: &str) -> Vec<Value> {
    match name {
        "level" => vec![json!(1), json!(5), json!(2.5)],
        "suspended" => vec![json!(true), json!(false)],
        "status" => vec![json!("active"), json!("suspended"), json!("test"), json!("production")],
        "groups" => vec![json!(["staff"]), json!(["staff", "banned"]), json!([]), json!("temp-7")],
        _ => vec![json!({"team": "red"}), json!({"team": "blue"}), json!({})],
    }
}

/// Returns policies. The last one often is for every request.
pub fn policies(choices: &mut Choices<'_>) -> Vec<Policy> {
    let names = ["first", "second", "third"];
    let count = 1 + choices.below(3);
    let each = names.into_iter().take(count).enumerate();
    let each = each.map(|(number, name)| policy(choices, name, number + 1 < count));
    each.collect()
}

fn policy(choices: &mut Choices<'_>, name: &'static str, is_selected: bool) -> Policy {
    let mut policy = Policy {
        name,
        hosts: Vec::new(),
        path_prefixes: Vec::new(),
        routes: Vec::new(),
        only_by_name: false,
        backend: match choices.below(8) {
            0..4 => BackendSource::Prefix("__"),
            4 => BackendSource::Prefix("-"),
            5 => BackendSource::Name(choices.pick(&BACKENDS)),
            6 => BackendSource::Header(BACKEND_HEADER),
            _ => BackendSource::Attribute("xds.cluster_name"),
        },
        covers_prompts: choices.percent(60),
        needs_token: choices.percent(20),
        errors_deny: choices.percent(75),
        allows_by_default: choices.percent(25),
        hierarchy: Vec::new(),
        rules: Vec::new(),
    };
    if choices.percent(60) {
        let chosen = choices.some(50, &HIERARCHY);
        policy.hierarchy = chosen.into_iter().map(|(scope, all)| (scope, all.to_vec())).collect();
    }
    let is_selected = is_selected || choices.percent(12);
    if is_selected && choices.percent(10) {
        policy.only_by_name = true;
    } else if is_selected {
        for _ in 0..1 + choices.below(2) {
            match choices.below(3) {
                0 => policy.hosts = choices.some(50, &HOST_PATTERNS),
                1 => policy.path_prefixes = choices.some(50, &PATH_PREFIXES),
                _ => policy.routes = choices.some(60, &ROUTES[..2]),
            }
        }
    }
    policy.rules = choices.list(1, 5, |choices| rule(choices, &policy));
    if choices.percent(30) {
        let (scopes, claims) = (Vec::new(), Vec::new());
        policy.rules.push(Rule { allows: true, scopes, claims, targets: None, condition: None });
    }
    policy
}

fn rule(choices: &mut Choices<'_>, policy: &Policy) -> Rule {
    let allows = choices.percent(55);
    let scopes = if choices.percent(50) { choices.some(25, &RULE_SCOPES) } else { Vec::new() };
    let claims = if choices.percent(25) { choices.list(1, 2, claim) } else { Vec::new() };
    let mut claims: Vec<RequiredClaim> = claims;
    claims.dedup_by_key(|claim| claim.name);
    let targets =
        choices.percent(80).then(|| choices.list(1, 3, |choices| target(choices, policy)));
    let condition = choices.percent(30).then(|| condition(choices, 2));
    Rule { allows, scopes, claims, targets, condition }
}

fn claim(choices: &mut Choices<'_>) -> RequiredClaim {
    let (name, values): (_, &[Value]) = match choices.below(6) {
        0 => ("suspended", &[json!(true), json!(false)]),
        1 => ("level", &[json!(1), json!(2.5)]),
        2 => ("status", &[json!("suspended"), json!("act*"), json!("test")]),
        3 => ("groups", &[json!("banned"), json!("temp-*"), json!("staff")]),
        4 => ("org.team", &[json!("red"), json!("b*e")]),
        _ => ("kind", &[json!("robot"), json!(7)]),
    };
    let first = choices.below(values.len());
    let mut chosen = vec![values[first].clone()];
    if choices.percent(20) && first > 0 {
        chosen.push(values[0].clone());
    }
    RequiredClaim { name, is_list: name == "groups", values: chosen }
}

fn target(choices: &mut Choices<'_>, policy: &Policy) -> Target {
    let is_prompt = policy.covers_prompts && choices.percent(25);
    let patterns = if is_prompt { &PROMPT_PATTERNS[..] } else { &TOOL_PATTERNS };
    let backend = match policy.backend {
        BackendSource::Name(name) => name,
        _ => choices.pick(&BACKENDS),
    };
    Target {
        is_prompt,
        backend: choices.percent(50).then_some(backend),
        name: choices.pick(patterns),
        when: choices.percent(45).then(|| condition(choices, 2)),
    }
}

fn condition(choices: &mut Choices<'_>, depth: usize) -> Condition {
    if depth > 0 && choices.percent(40) {
        let one = Box::new(condition(choices, depth - 1));
        return match choices.below(5) {
            0 => Condition::Not(one),
            1 | 2 => Condition::And(one, Box::new(condition(choices, depth - 1))),
            _ => Condition::Or(one, Box::new(condition(choices, depth - 1))),
        };
    }
    match choices.below(10) {
        0..5 => argument_condition(choices),
        5 => claim_condition(choices),
        6 => Condition::Scope(choices.pick(&["a", "b", "guest"])),
        7 => header_condition(choices),
        8 => address_condition(choices),
        _ => name_condition(choices),
    }
}

fn argument_condition(choices: &mut Choices<'_>) -> Condition {
    const NUMBERS: [f64; 4] = [1.0, 5.0, 9.0, 2.5];
    const STRINGS: [&str; 3] = ["test", "production", "prod"];
    let term = |choices: &mut Choices<'_>, name| match choices.percent(15) {
        true => Term::Parameter(name),
        false => Term::Argument(name),
    };
    let literal = |number: f64| match number.fract() == 0.0 {
        true => json!(number.to_string().parse::<i64>().expect("whole")),
        false => json!(number),
    };
    match choices.below(14) {
        0 => Condition::Equal(term(choices, "n"), literal(choices.pick(&NUMBERS))),
        1 => Condition::Less(term(choices, "n"), choices.pick(&NUMBERS)),
        2 => Condition::In(term(choices, "n"), json!([9, 5])),
        3 => Condition::Equal(term(choices, "f"), json!(choices.percent(70))),
        4 => Condition::Unequal(term(choices, "f"), json!(choices.percent(70))),
        5 => Condition::Equal(term(choices, "s"), json!(choices.pick(&STRINGS))),
        6 => Condition::Unequal(term(choices, "s"), json!(choices.pick(&STRINGS))),
        7 => Condition::StartsWith(term(choices, "s"), "prod"),
        8 => Condition::In(term(choices, "s"), json!(["production", "test"])),
        9 => Condition::Contains(term(choices, "l"), json!("drop")),
        10 => Condition::Equal(Term::Member, json!(true)),
        11 => Condition::Equal(Term::OptionalMember, json!(choices.percent(80))),
        12 => Condition::HasArgument(choices.pick(&ARGUMENTS)),
        _ => Condition::Equal(Term::Argument(choices.pick(&ARGUMENTS)), Value::Null),
    }
}

fn claim_condition(choices: &mut Choices<'_>) -> Condition {
    match choices.below(6) {
        0 => Condition::Equal(Term::Claim("suspended"), json!(choices.percent(70))),
        1 => Condition::Less(Term::Claim("level"), 2.0),
        2 => Condition::Equal(Term::Claim("status"), json!("suspended")),
        3 => Condition::Contains(Term::Claim("groups"), json!("banned")),
        4 => Condition::Same(Term::Argument("s"), Term::Claim("status")),
        _ => Condition::Same(Term::Argument("n"), Term::Claim("level")),
    }
}

fn header_condition(choices: &mut Choices<'_>) -> Condition {
    let header = Term::Header(HEADER);
    match choices.below(4) {
        0 => Condition::HasHeader(HEADER),
        1 => Condition::Same(header, Term::Claim("status")),
        2 => Condition::Unequal(header, json!("production")),
        _ => Condition::Equal(header, json!("production")),
    }
}

fn address_condition(choices: &mut Choices<'_>) -> Condition {
    match choices.below(4) {
        0 => Condition::Equal(Term::Host, json!(choices.pick(&HOSTS))),
        1 => Condition::Unequal(Term::Host, json!(choices.pick(&HOSTS))),
        2 => Condition::StartsWith(Term::Path, "/mcp/admin"),
        _ => Condition::Equal(Term::Path, json!("/mcp/my%20tools")),
    }
}

fn name_condition(choices: &mut Choices<'_>) -> Condition {
    match choices.percent(50) {
        true => Condition::Equal(Term::Backend, json!(choices.pick(&BACKENDS))),
        false => Condition::Equal(Term::Tool, json!(choices.pick(&TOOLS))),
    }
}

/// Returns a request with clear parts only. Half of the requests are aimed at a rule: they have its
/// target, scopes and claims.
pub fn request(choices: &mut Choices<'_>, policies: &[Policy]) -> Request {
    let names: Vec<&'static str> = policies.iter().map(|policy| policy.name).collect();
    let mut headers = Vec::new();
    if choices.percent(80) {
        headers.push((HEADER, choices.pick(&["test", "production"]).as_bytes().to_vec()));
    }
    if choices.percent(80) {
        headers.push((BACKEND_HEADER, choices.pick(&BACKENDS).as_bytes().to_vec()));
    }
    let mut arguments = Vec::new();
    for name in choices.some(85, &ARGUMENTS) {
        let values = argument_values(name);
        arguments.push((name, values[choices.below(values.len())].clone()));
    }
    let mut request = Request {
        policy: match choices.below(50) {
            49 => Some("nobody"),
            40.. => Some(choices.pick(&names)),
            _ => None,
        },
        route: choices.percent(95).then(|| choices.pick(&ROUTES)),
        host: Part::Sent(choices.pick(&HOSTS).to_owned()),
        path: Part::Sent(choices.pick(&PATHS).to_owned()),
        headers,
        cluster: choices.percent(95).then(|| choices.pick(&BACKENDS)),
        claims: choices.percent(85).then(|| claims(choices)),
        has_second_payload: false,
        is_prompt: choices.percent(15),
        name: String::new(),
        arguments,
    };
    let mut backend = choices.pick(&["github", "jira", ""]);
    let mut pattern = "*";
    let (mut separator, is_aimed) = (choices.pick(&["__", "__", "-"]), choices.percent(50));
    if is_aimed {
        let policy = &policies[choices.below(policies.len())];
        if choices.percent(60) {
            request.policy = Some(policy.name);
        }
        let rule = &policy.rules[choices.below(policy.rules.len())];
        aim(rule, &mut request, choices.percent(60));
        if let Some(targets) = &rule.targets {
            let target = &targets[choices.below(targets.len())];
            (request.is_prompt, pattern) = (target.is_prompt, target.name);
            backend = target.backend.unwrap_or(backend);
        }
        match policy.backend {
            BackendSource::Prefix(prefix) => separator = prefix,
            BackendSource::Name(_) => backend = "",
            BackendSource::Header(_) | BackendSource::Attribute(_) => {
                let name = if backend == "jira" { "jira" } else { "github" };
                request.cluster = request.cluster.and(Some(name));
                for (header, value) in &mut request.headers {
                    if *header == BACKEND_HEADER {
                        *value = name.as_bytes().to_vec();
                    }
                }
                backend = "";
            }
        }
    }
    let names = if request.is_prompt { &PROMPTS[..] } else { &TOOLS };
    let meant: Vec<&str> = names.iter().copied().filter(|name| matches(pattern, name)).collect();
    let name = choices.pick(&meant);
    request.name =
        if backend.is_empty() { name.into() } else { format!("{backend}{separator}{name}") };
    request
}

/// Gives the token of a request the claims that a rule requires, and perhaps the scopes.
fn aim(rule: &Rule, request: &mut Request, has_scopes: bool) {
    let Some(claims) = &mut request.claims else { return };
    if has_scopes && !rule.scopes.is_empty() {
        claims.insert("scope".to_owned(), json!(rule.scopes.join(" ")));
    }
    for claim in &rule.claims {
        // A star stands for a star, too.
        let value = claim.values[0].clone();
        match claim.name.split_once('.') {
            Some((object, member)) => claims.insert(object.to_owned(), json!({member: value})),
            None if claim.is_list => claims.insert(claim.name.to_owned(), json!([value])),
            None => claims.insert(claim.name.to_owned(), value),
        };
    }
}

/// Returns a token's claims.
pub fn claims(choices: &mut Choices<'_>) -> Map<String, Value> {
    let mut claims = Map::new();
    for name in choices.some(60, &CLAIMS) {
        let values = claim_values(name);
        claims.insert(name.to_owned(), values[choices.below(values.len())].clone());
    }
    let scopes = choices.some(30, &TOKEN_SCOPES);
    match choices.below(4) {
        0 => {}
        1 => drop(claims.insert("scp".to_owned(), json!(scopes))),
        _ => drop(claims.insert("scope".to_owned(), json!(scopes.join(" ")))),
    }
    claims
}
