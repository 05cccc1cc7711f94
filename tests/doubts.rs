//! Requests in which one part is repeated, re-encoded, mistyped, imprecise, unreadable or
//! withheld, each with the requests that servers could take it for.

use serde_json::{Value, json};

use crate::choices::Choices;
use crate::model::condition::{Condition, Term};
use crate::model::generate::{
    ARGUMENTS, BACKEND_HEADER, BACKENDS, CLAIMS, HEADER, HOSTS, PATHS, ROUTES, TOKEN_SCOPES,
    argument_values, claim_values, claims,
};
use crate::model::{BackendFrom, Part, Policy, Request};

/// A request with one doubtful part.
#[derive(Debug)]
pub struct Doubt {
    pub kind: &'static str,
    pub request: Request,
    /// The same request with each value that the part could have.
    pub readings: Vec<Request>,
    /// A condition tests the presence or the type of the part, or reads a name as it was sent.
    pub is_exempt: bool,
}

impl Doubt {
    fn new(kind: &'static str, request: Request, readings: Vec<Request>) -> Self {
        Self { kind, request, readings, is_exempt: false }
    }

    fn exempt_if(self, is_exempt: bool) -> Self {
        Self { is_exempt, ..self }
    }
}

type MakeDoubt = fn(&mut Choices<'_>, &[Policy], &Request) -> Doubt;

/// Makes one part of a request doubtful, one that a policy for it may read.
pub fn doubt(choices: &mut Choices<'_>, policies: &[Policy], request: &Request) -> Doubt {
    let named = policies.iter().find(|policy| request.policy == Some(policy.name));
    let policies = named.map_or(policies, std::slice::from_ref);
    let rules = || policies.iter().flat_map(|policy| &policy.rules);
    let arguments = !read_arguments(policies).is_empty();
    let claims = !read_claims(policies).is_empty();
    let scopes = rules().any(|rule| !rule.scopes.is_empty())
        || any_condition(policies, |condition| matches!(condition, Condition::Scope(_)));
    let header = any_condition(policies, |condition| {
        matches!(condition, Condition::HasHeader(_))
            || condition.terms().contains(&Term::Header(HEADER))
    });
    let by_header = |policy: &Policy| policy.backend == BackendFrom::Header(BACKEND_HEADER);
    let by_cluster = |policy: &Policy| matches!(policy.backend, BackendFrom::Attribute(_));
    let host = policies.iter().any(|policy| !policy.hosts.is_empty());
    let path = policies.iter().any(|policy| !policy.path_prefixes.is_empty());
    let lists =
        read_arguments(policies).contains(&"l") || read_claims(policies).contains(&"groups");
    let kinds: [(bool, MakeDoubt); 18] = [
        (true, name),
        (lists, mistyped_element),
        (arguments, mistyped_argument),
        (arguments, mistyped_argument),
        (any_term(policies, |term| term == Term::Argument("n")), imprecise_argument),
        (arguments, repeated_argument),
        (claims, mistyped_claim),
        (claims, mistyped_claim),
        (scopes, unclear_scopes),
        (header, header_doubt),
        (policies.iter().any(by_header), backend_header),
        (policies.iter().any(by_header), backend_header),
        (policies.iter().any(by_header), backend_header),
        (policies.iter().any(by_cluster), backend_attribute),
        (host || any_term(policies, |term| term == Term::Host), host_doubt),
        (path || any_term(policies, |term| term == Term::Path), path_doubt),
        (policies.iter().any(|policy| !policy.routes.is_empty()), withheld_route),
        (choices.percent(20), second_payload),
    ];
    let kinds: Vec<MakeDoubt> =
        kinds.into_iter().filter(|(matters, _)| *matters).map(|(_, make)| make).collect();
    choices.pick(&kinds)(choices, policies, request)
}

/// Returns the arguments that conditions read.
fn read_arguments(policies: &[Policy]) -> Vec<&'static str> {
    let is_read = |name: &&str| {
        any_condition(policies, |condition| match condition {
            Condition::HasArgument(read) => read == name,
            _ => condition.terms().into_iter().any(|term| match term {
                Term::Argument(read) | Term::Parameter(read) => read == *name,
                Term::Member | Term::OptionalMember => *name == "o",
                _ => false,
            }),
        })
    };
    ARGUMENTS.into_iter().filter(is_read).collect()
}

/// Returns the claims that rules and conditions read.
fn read_claims(policies: &[Policy]) -> Vec<&'static str> {
    let claims = || policies.iter().flat_map(|policy| &policy.rules).flat_map(|rule| &rule.claims);
    let is_read = |name: &&str| {
        claims().any(|claim| claim.name.split('.').next() == Some(name))
            || any_term(policies, |term| matches!(term, Term::Claim(read) if read == *name))
    };
    CLAIMS.into_iter().filter(is_read).collect()
}

/// Returns a changed copy of a request.
fn with(request: &Request, change: impl FnOnce(&mut Request)) -> Request {
    let mut request = request.clone();
    change(&mut request);
    request
}

/// Whether any condition holds a comparison or test of this kind.
fn any_condition(policies: &[Policy], test: impl Fn(&Condition) -> bool) -> bool {
    let rules = || policies.iter().flat_map(|policy| &policy.rules);
    let targets = rules().flat_map(|rule| rule.targets.iter().flatten());
    let conditions = targets.filter_map(|target| target.when.as_ref());
    let conditions = conditions.chain(rules().filter_map(|rule| rule.condition.as_ref()));
    conditions.flat_map(Condition::leaves).any(test)
}

fn any_term(policies: &[Policy], test: impl Fn(Term) -> bool) -> bool {
    any_condition(policies, |condition| condition.terms().into_iter().any(&test))
}

fn set_argument(request: &Request, name: &'static str, value: Option<&str>) -> Request {
    with(request, |request| {
        request.arguments.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        request.arguments.extend(value.map(|value| (name, value.to_owned())));
    })
}

fn all_arguments(request: &Request, name: &'static str) -> Vec<Request> {
    let values = argument_values(name);
    values.iter().map(|value| set_argument(request, name, Some(value))).collect()
}

fn mistyped_argument(choices: &mut Choices<'_>, policies: &[Policy], request: &Request) -> Doubt {
    let name = choices.pick(&read_arguments(policies));
    // No object stands for a list, since `in` looks for a key in it, and no null for an element,
    // since `in` passes over it.
    let value = choices.pick(match name {
        "n" => &["\"5\"", "true", "null", "[5]", "{\"n\":5}", "\"\""][..],
        "f" => &["\"true\"", "\"false\"", "1", "null", "[true]", "{\"f\":true}"],
        "s" => &["1", "true", "null", "[\"production\"]", "{\"s\":\"production\"}"],
        "l" => &["\"drop\"", "\"[\\\"drop\\\"]\"", "null", "5", "[[\"drop\"]]", "[7,true]"],
        _ => &[
            "\"{\\\"m\\\":true}\"",
            "[{\"m\":true}]",
            "null",
            "true",
            "{\"m\":\"true\"}",
            "{\"m\":null}",
            "{\"m\":1}",
        ],
    });
    let tests_presence = any_condition(
        policies,
        |condition| matches!(condition, Condition::HasArgument(tested) if *tested == name),
    );
    let tests_null = any_condition(policies, |condition| {
        let is_null = matches!(condition, Condition::Equal(_, literal) if literal.is_null());
        is_null && condition.terms().contains(&Term::Argument(name))
    });
    let mut readings = all_arguments(request, name);
    if !tests_presence {
        readings.push(set_argument(request, name, None));
    }
    Doubt::new("mistyped argument", set_argument(request, name, Some(value)), readings)
        .exempt_if(tests_null && (value == "null" || !tests_presence))
}

/// A list with an element of another type.
fn mistyped_element(choices: &mut Choices<'_>, policies: &[Policy], request: &Request) -> Doubt {
    const KIND: &str = "mistyped element";
    let element = choices.pick(&["7", "true", "[\"drop\",\"banned\"]", "{\"drop\":true}"]);
    if read_arguments(policies).contains(&"l") && choices.percent(50) {
        let set = |list: &str| set_argument(request, "l", Some(list));
        let readings = ["[\"read\"]", "[\"read\",\"drop\"]", "[\"read\",\"x\"]"].map(set).into();
        return Doubt::new(KIND, set(&format!("[\"read\",{element}]")), readings);
    }
    let set = |list: &str| {
        let list = serde_json::from_str(list).expect("JSON");
        set_claim(request, "groups", Some(list))
    };
    let texts = ["[\"staff\"]", "[\"staff\",\"banned\"]", "[\"temp-1\",\"staff\"]"];
    Doubt::new(KIND, set(&format!("[{element},\"staff\"]")), texts.map(set).into())
}

fn imprecise_argument(choices: &mut Choices<'_>, _: &[Policy], request: &Request) -> Doubt {
    const IMPRECISE: [&str; 8] = [
        "5.0000000000000000001",
        "9007199254740992",
        "9007199254740993",
        "-9007199254740993",
        "18446744073709551617",
        "1e300",
        "9007199254740992.0",
        "123456789012345678901234567890",
    ];
    const FIVE: [&str; 5] = ["5.0", "5e0", "50e-1", "0.5E+1", "5.000"];
    if choices.percent(70) {
        let request_with = set_argument(request, "n", Some(choices.pick(&IMPRECISE)));
        return Doubt::new("imprecise argument", request_with, all_arguments(request, "n"));
    }
    let request_with = set_argument(request, "n", Some(choices.pick(&FIVE)));
    Doubt::new("spelled number", request_with, vec![set_argument(request, "n", Some("5"))])
}

fn repeated_argument(choices: &mut Choices<'_>, policies: &[Policy], request: &Request) -> Doubt {
    let name = choices.pick(&read_arguments(policies));
    let values = argument_values(name);
    let [one, other] = [(); 2].map(|()| values[choices.below(values.len())].as_str());
    let mut readings = vec![set_argument(request, name, Some(other))];
    let (second_name, kind) = match name {
        _ if choices.percent(50) => (name, "repeated argument"),
        "n" => ("N", "argument in capitals"),
        "f" => ("F", "argument in capitals"),
        "s" => ("S", "argument in capitals"),
        "l" => ("L", "argument in capitals"),
        _ => ("O", "argument in capitals"),
    };
    let first = choices.percent(50).then_some(one);
    readings.push(set_argument(request, name, first));
    let mut request = set_argument(request, name, first);
    request.arguments.push((second_name, other.to_owned()));
    if first.is_none() && second_name == name {
        readings.pop();
    }
    Doubt::new(kind, request, readings)
}

fn set_claim(request: &Request, name: &str, value: Option<Value>) -> Request {
    with(request, |request| {
        let claims = request.claims.get_or_insert_default();
        match value {
            Some(value) => claims.insert(name.to_owned(), value),
            None => claims.remove(name),
        };
    })
}

fn mistyped_claim(choices: &mut Choices<'_>, policies: &[Policy], request: &Request) -> Doubt {
    let name = choices.pick(&read_claims(policies));
    let values = match name {
        "level" => json!(["1", true, null, [1], {"level": 1}, 9_007_199_254_740_993_i64, 1e300]),
        "suspended" => json!(["true", "false", 1, null, [true], {"suspended": true}]),
        "status" => json!([true, 1, null, ["suspended"], {"status": "suspended"}]),
        "groups" => json!([true, null, {"banned": true}, [["banned"]], [7, true], 7]),
        _ => json!(["red", ["red"], null, {"team": true}, {"team": null}, {"team": ["red"]}, 7]),
    };
    let values = values.as_array().expect("a list");
    let value = values[choices.below(values.len())].clone();
    let values = claim_values(name).into_iter().map(Some).chain([None]);
    let readings = values.map(|value| set_claim(request, name, value)).collect();
    let looks_for_key = value.is_object()
        && any_condition(
            policies,
            |condition| matches!(condition, Condition::Contains(Term::Claim(claim), _) if *claim == name),
        );
    Doubt::new("mistyped claim", set_claim(request, name, Some(value)), readings)
        .exempt_if(looks_for_key)
}

fn unclear_scopes(choices: &mut Choices<'_>, _: &[Policy], request: &Request) -> Doubt {
    const SPACES: [&str; 6] = ["\t", "\n", "\r\n", "\u{a0}", "\u{2003}", "\u{3000}"];
    let [one, two, three] = [(); 3].map(|()| choices.pick(&TOKEN_SCOPES));
    let space = choices.pick(&SPACES);
    let texts = |texts: &[String]| texts.iter().cloned().map(Value::from).collect::<Vec<_>>();
    let split =
        [format!("{one} {two} {three}"), format!("{one} {three}"), format!("{two} {three}")];
    let split = texts(&[&split[..], &[three.to_owned()]].concat());
    let around = texts(&[format!("{three} {one}"), three.to_owned()]);
    let any = TOKEN_SCOPES.map(str::to_owned);
    let any = texts(&[&any[..], &[String::new(), format!("{one} {two}")]].concat());
    let lists = vec![json!([one, two, three]), json!([three])];
    let in_star = texts(&[format!("tenant-{one} {two}:admin {three}"), three.to_owned()]);
    let (kind, scope, readings) = match choices.below(10) {
        0 | 1 => ("scopes at white space", json!(format!("{one}{space}{two} {three}")), split),
        2 => ("scopes at white space", json!(format!("{three} {space}{one}")), around),
        8 => {
            let scope = json!(format!("tenant-{one}{space}{two}:admin {three}"));
            ("scopes at white space", scope, in_star)
        }
        9 => {
            let scope = json!([format!("tenant-{one} {two}:admin"), three]);
            ("scopes in an element", scope, in_star)
        }
        3 => ("scopes in an element", json!([format!("{one} {two}"), three]), lists),
        4 => ("scopes in an element", json!([format!("{one}{space}{two}"), three]), lists),
        5 => ("mistyped scopes", json!([[one], three]), lists),
        6 => ("mistyped scopes", json!({one: true}), any),
        _ => ("mistyped scopes", choices.pick(&[7, 0]).into(), any),
    };
    let readings = readings.into_iter().map(|scope| set_claim(request, "scope", Some(scope)));
    let readings = readings.collect();
    Doubt::new(kind, set_claim(request, "scope", Some(scope)), readings)
}

fn set_header(request: &Request, name: &'static str, values: &[&[u8]]) -> Request {
    with(request, |request| {
        request.headers.retain(|(found, _)| *found != name);
        request.headers.extend(values.iter().map(|value| (name, value.to_vec())));
    })
}

const NOT_UTF8: &[u8] = b"github\xff";

fn header_doubt(choices: &mut Choices<'_>, _: &[Policy], request: &Request) -> Doubt {
    let [one, other] = [(); 2].map(|()| choices.pick(&["test", "production"]).as_bytes());
    let single = |value: &[u8]| set_header(request, HEADER, &[value]);
    if choices.percent(30) {
        let readings = [&b"test"[..], b"production", b"github"].map(single).into();
        return Doubt::new("unreadable header", single(NOT_UTF8), readings);
    }
    let joined = [one, b", ", other].concat();
    let readings = vec![single(one), single(other), single(&joined)];
    Doubt::new("repeated header", set_header(request, HEADER, &[one, other]), readings)
}

/// Names of backends with spellings that servers take for the same.
const SPELLINGS: [(&str, &[&str]); 2] = [
    ("github", &["GitHub", "GITHUB", "  github\t", "ｇｉｔｈｕｂ", "git\u{ad}hub"]),
    ("jira", &["Jira", "JIRA", " jira", "ｊira", "ji\u{200b}ra"]),
];

/// `request.mcp.backend` is as it was sent.
fn reads_backend(policies: &[Policy]) -> bool {
    any_term(policies, |term| term == Term::Backend)
}

fn backend_header(choices: &mut Choices<'_>, policies: &[Policy], request: &Request) -> Doubt {
    let set = |values: &[&[u8]]| set_header(request, BACKEND_HEADER, values);
    let any = BACKENDS.map(|backend| set(&[backend.as_bytes()])).into();
    match choices.below(6) {
        0 => Doubt::new("repeated backend", set(&[b"github", b"jira"]), any),
        1 => Doubt::new("unreadable backend", set(&[NOT_UTF8]), any),
        2 | 3 => Doubt::new("unknown backend", set(&[]), any),
        _ => {
            let (backend, spellings) = choices.pick(&SPELLINGS);
            let doubtful = set(&[choices.pick(spellings).as_bytes()]);
            Doubt::new("spelled backend", doubtful, vec![set(&[backend.as_bytes()])])
                .exempt_if(reads_backend(policies))
        }
    }
}

fn backend_attribute(choices: &mut Choices<'_>, policies: &[Policy], request: &Request) -> Doubt {
    let set = |cluster| with(request, |request| request.cluster = cluster);
    if choices.percent(40) {
        let any = BACKENDS.map(|backend| set(Some(backend))).into();
        return Doubt::new("withheld backend", set(None), any);
    }
    let (backend, spellings) = choices.pick(&SPELLINGS);
    let spelled = set(Some(choices.pick(spellings)));
    Doubt::new("spelled backend", spelled, vec![set(Some(backend))])
        .exempt_if(reads_backend(policies))
}

fn set_host(request: &Request, host: Part) -> Request {
    with(request, |request| request.host = host)
}

fn host_doubt(choices: &mut Choices<'_>, _: &[Policy], request: &Request) -> Doubt {
    const UNCLEAR: [&str; 7] = [
        "internal.example.com:abc",
        "internal.example.com:443:443",
        "user@internal.example.com",
        "mcp..example.com",
        "%69nternal.example.com",
        "mcp.example.com,internal.example.com",
        "",
    ];
    let set = |host| set_host(request, host);
    let host = choices.pick(&HOSTS);
    let any = HOSTS.map(|host| set(Part::Sent(host.to_owned()))).into();
    let spelled = match choices.below(9) {
        8 => return Doubt::new("withheld host", set(Part::NotSent), any),
        0 => return Doubt::new("repeated host", set(Part::Twice("mcp.example.com", host)), any),
        1 => return Doubt::new("unreadable host", set(Part::NotUtf8), any),
        2 => {
            let unclear = Part::Sent(choices.pick(&UNCLEAR).to_owned());
            return Doubt::new("unreadable host", set(unclear), any);
        }
        3 => host.to_uppercase(),
        4 => format!("{host}:8443"),
        5 => format!("{host}."),
        6 => format!("{}.:443", host.to_uppercase()),
        _ => host.replace("example", "Example"),
    };
    Doubt::new("spelled host", set(Part::Sent(spelled)), vec![set(Part::Sent(host.to_owned()))])
}

fn path_doubt(choices: &mut Choices<'_>, policies: &[Policy], request: &Request) -> Doubt {
    let set = |path: &str| with(request, |request| request.path = Part::Sent(path.to_owned()));
    let part = |part| with(request, |request| request.path = part);
    let any = PATHS.map(set).into();
    let path = choices.pick(&PATHS);
    let spelled = match choices.below(20) {
        18.. => return Doubt::new("withheld path", part(Part::NotSent), any),
        0 => return Doubt::new("repeated path", part(Part::Twice("/mcp", path)), any),
        1 => return Doubt::new("unreadable path", part(Part::NotUtf8), any),
        2 => {
            let unclear = choices.pick(&["mcp", "", "/mcp/%zz", "/mcp/%6", "*"]);
            return Doubt::new("unreadable path", set(unclear), any);
        }
        3 => format!("/{path}"),
        4 => format!("/x/..{path}"),
        5 => format!("/.{path}"),
        6 => path.replace("admin", "%61dmin"),
        7 => path.replace("/admin", "%2fadmin"),
        8 => path.replace("/admin", "\\admin"),
        9 => path.replace("/admin", "//admin"),
        10 => path.replace("/mcp", "/mcp;v=1"),
        11 => path.replace("mcp", "%6Dcp"),
        12 => path.replace("/admin", "/x/%2e%2e/admin"),
        _ => {
            let capitals = path.replace("mcp", "MCP").replace("admin", "Admin");
            // Conditions compare paths with regard to letters' case.
            return Doubt::new("path in capitals", set(&capitals), vec![set(path)])
                .exempt_if(any_term(policies, |term| term == Term::Path));
        }
    };
    Doubt::new("spelled path", set(&spelled), vec![set(path)])
}

fn withheld_route(_: &mut Choices<'_>, _: &[Policy], request: &Request) -> Doubt {
    let set = |route| with(request, |request| request.route = route);
    let any = ROUTES.map(|name| set(Some(name))).into();
    Doubt::new("withheld route", set(None), any)
}

/// A payload beside that of the token: either may be meant.
fn second_payload(choices: &mut Choices<'_>, _: &[Policy], request: &Request) -> Doubt {
    let set = |claims| {
        with(request, |request| {
            request.has_second_payload = false;
            request.claims = claims;
        })
    };
    let readings = vec![set(request.claims.clone()), set(None), set(Some(claims(choices)))];
    let doubtful = with(request, |request| request.has_second_payload = true);
    Doubt::new("second payload", doubtful, readings)
}

fn name(choices: &mut Choices<'_>, policies: &[Policy], request: &Request) -> Doubt {
    let name = request.name.as_str();
    let inside = 1 + choices.below(name.chars().count().max(2) - 1);
    let insert = |c: char| {
        let (start, end) = name.split_at(name.char_indices().nth(inside).map_or(0, |(at, _)| at));
        format!("{start}{c}{end}")
    };
    let wide = |c: char| match c {
        '!'..='~' => char::from_u32(u32::from(c) + 0xfee0).expect("a character"),
        c => c,
    };
    let by_low_lines = policies.iter().all(|policy| policy.backend == BackendFrom::Prefix("__"));
    let spelled = match choices.below(14) {
        0 => name.to_uppercase(),
        1 => name.replace('e', "E"),
        2 => name.replace("github", "GitHub"),
        3 => name.chars().map(wide).collect(),
        4 => name.replace('_', "\u{ff3f}"),
        5 => name.replacen('_', "\u{ff3f}", 1),
        6 => insert(choices.pick(&['\u{200b}', '\u{ad}', '\u{2060}', '\u{fe0f}'])),
        7 => name.replace("fi", "ﬁ"),
        8 => name.replace('s', "ſ"),
        9 => name.replace('k', "\u{212a}"),
        10 => format!(" {name}"),
        11 => format!("{name}\u{a0}"),
        12 => format!("\u{3000}{name} "),
        _ if by_low_lines => name.replacen("__", " __ ", 1),
        _ => name.to_uppercase(),
    };
    // `request.mcp.tool` and `request.mcp.backend` are as they were sent.
    let reads_name = any_term(policies, |term| [Term::Tool, Term::Backend].contains(&term));
    let spelled = with(request, |request| request.name = spelled);
    Doubt::new("spelled name", spelled, vec![request.clone()]).exempt_if(reads_name)
}
