//! A second, naive implementation of the language, written from its documentation: which policy
//! is for a request, which rule decides a call, and which scopes would help. It shares nothing
//! with mcp-authz, which must decide all random policies and requests alike.
//!
//! `MODEL_CASES` sets the number of random requests.

#[path = "model/claims.rs"]
pub mod claims;
#[path = "model/condition.rs"]
pub mod condition;
#[path = "model/document.rs"]
pub mod document;
#[path = "model/engine.rs"]
pub mod engine;
#[path = "model/generate.rs"]
pub mod generate;
#[path = "model/names.rs"]
pub mod names;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use self::claims::{RequiredClaim, scopes, with_implied};
use self::condition::{Condition, EvalContext, Outcome, and, or};
use self::names::{clear_host, clear_path, folded, matches};
use crate::choices::Choices;
use crate::doubts;

/// A policy.
#[derive(Debug, Clone)]
pub struct Policy {
    pub name: &'static str,
    pub hosts: Vec<&'static str>,
    pub path_prefixes: Vec<&'static str>,
    pub routes: Vec<&'static str>,
    pub only_by_name: bool,
    pub backend: BackendSource,
    pub covers_prompts: bool,
    /// `unauthenticated: Challenge`
    pub needs_token: bool,
    /// `conditionErrors: Deny`
    pub errors_deny: bool,
    pub allows_by_default: bool,
    pub hierarchy: Vec<(&'static str, Vec<&'static str>)>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendSource {
    Prefix(&'static str),
    Name(&'static str),
    Header(&'static str),
    Attribute(&'static str),
}

#[derive(Debug, Clone)]
pub struct Rule {
    pub allows: bool,
    pub scopes: Vec<&'static str>,
    pub claims: Vec<RequiredClaim>,
    /// `None`: any.
    pub targets: Option<Vec<Target>>,
    pub condition: Option<Condition>,
}

#[derive(Debug, Clone)]
pub struct Target {
    pub is_prompt: bool,
    pub backend: Option<&'static str>,
    /// A pattern.
    pub name: &'static str,
    pub when: Option<Condition>,
}

/// A request to call a tool or to get a prompt.
#[derive(Debug, Clone)]
pub struct Request {
    /// The policy that Envoy names.
    pub policy: Option<&'static str>,
    pub route: Option<&'static str>,
    pub host: Part,
    pub path: Part,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    /// The attribute `xds.cluster_name`.
    pub cluster: Option<&'static str>,
    /// `None`: no token.
    pub claims: Option<Map<String, Value>>,
    /// A second payload lies beside the claims.
    pub has_second_payload: bool,
    pub is_prompt: bool,
    pub name: String,
    /// Names and JSON texts.
    pub arguments: Vec<(&'static str, String)>,
}

/// A pseudo-header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    NotSent,
    Sent(String),
    Twice(&'static str, &'static str),
    NotUtf8,
}

impl Part {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Sent(text) => Some(text),
            _ => None,
        }
    }
}

impl Request {
    pub fn arguments(&self) -> Map<String, Value> {
        // A double keeps 17 digits at most; what has more stands for one beyond them.
        let parse = |text: &str| match text.parse::<f64>() {
            Ok(_) if text.len() > 18 => json!(f64::MAX),
            _ => serde_json::from_str(text).expect("JSON"),
        };
        self.arguments.iter().map(|(name, text)| ((*name).to_owned(), parse(text))).collect()
    }

    pub fn header(&self, name: &str) -> Vec<&[u8]> {
        let same = self.headers.iter().filter(|(header, _)| *header == name);
        same.map(|(_, value)| value.as_slice()).collect()
    }
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// Allowed by the rule of this number, or by default.
    Allowed(Option<usize>),
    /// Denied by the rule of this number, or by default.
    Denied(Option<usize>),
    /// The policy does not cover the request.
    NotCovered,
    NoPolicy,
    /// 401.
    NoToken,
    /// 400.
    Ambiguous,
    /// 500.
    Misconfigured,
}

impl Answer {
    pub fn is_lenient(self) -> bool {
        matches!(self, Self::Allowed(_) | Self::NotCovered)
    }
}

/// Selects the policy of a request.
fn select<'p>(policies: &'p [Policy], request: &Request) -> Result<&'p Policy, Answer> {
    if let Some(name) = request.policy {
        return policies.iter().find(|policy| policy.name == name).ok_or(Answer::NoPolicy);
    }
    let by_host = policies.iter().any(|policy| !policy.hosts.is_empty());
    let by_path = policies.iter().any(|policy| !policy.path_prefixes.is_empty());
    let by_route = policies.iter().any(|policy| !policy.routes.is_empty());
    let is_withheld = |is_needed, part: &Part| is_needed && *part == Part::NotSent;
    if is_withheld(by_host, &request.host)
        || is_withheld(by_path, &request.path)
        || (by_route && request.route.is_none())
    {
        return Err(Answer::Misconfigured);
    }
    let host = request.host.text().and_then(clear_host);
    let path = request.path.text().and_then(clear_path);
    if (by_host && host.is_none()) || (by_path && path.is_none()) {
        return Err(Answer::Ambiguous);
    }
    let (host, path) = (host.unwrap_or_default(), path.unwrap_or_default());
    let mut first = Err(Answer::NoPolicy);
    for policy in policies {
        let is_host = |pattern: &&str| match pattern.strip_prefix('*') {
            Some(end) => host.len() > end.len() && host.ends_with(end),
            None => host == *pattern,
        };
        let is_below = |prefix: &str, path: &str| {
            let prefix = prefix.trim_end_matches('/');
            path == prefix || path.starts_with(&format!("{prefix}/"))
        };
        let is_route = |route: &&str| request.route == Some(route);
        if policy.only_by_name
            || (!policy.hosts.is_empty() && !policy.hosts.iter().any(is_host))
            || (!policy.routes.is_empty() && !policy.routes.iter().any(is_route))
        {
            continue;
        }
        let prefixes = &policy.path_prefixes;
        let lower = path.to_lowercase();
        if prefixes.is_empty() || prefixes.iter().any(|prefix| is_below(prefix, &path)) {
            first = first.or(Ok(policy));
        } else if prefixes.iter().any(|prefix| is_below(prefix, &lower)) {
            return Err(Answer::Ambiguous);
        }
    }
    first
}

/// Answers a request of a caller who is granted more scopes than the token says.
pub fn answer(policies: &[Policy], request: &Request, extra_scopes: &[&str]) -> Answer {
    let policy = match select(policies, request) {
        Ok(policy) => policy,
        Err(answer) => return answer,
    };
    if request.has_second_payload {
        return Answer::Misconfigured;
    }
    if policy.needs_token && request.claims.is_none() {
        return Answer::NoToken;
    }
    if request.is_prompt && !policy.covers_prompts {
        return Answer::NotCovered;
    }
    let call = match Call::of(policy, request) {
        Ok(call) => call,
        Err(answer) => return answer,
    };
    for (number, rule) in policy.rules.iter().enumerate() {
        let outcome = rule.outcome(policy, &call, request, extra_scopes);
        let applies = match outcome {
            Some(outcome) => outcome,
            None => !rule.allows && policy.errors_deny,
        };
        if applies {
            let number = Some(number);
            return if rule.allows { Answer::Allowed(number) } else { Answer::Denied(number) };
        }
    }
    if policy.allows_by_default { Answer::Allowed(None) } else { Answer::Denied(None) }
}

/// The backend and the name of a call.
struct Call {
    /// `None`: unknown. Empty: none.
    backend: Option<String>,
    name: String,
    /// The same as lenient servers read them.
    folded: Vec<(Option<String>, String)>,
}

impl Call {
    fn of(policy: &Policy, request: &Request) -> Result<Self, Answer> {
        let name = request.name.as_str();
        let known = |backend: Option<&str>| Self {
            backend: backend.map(str::to_owned),
            name: name.to_owned(),
            folded: vec![(backend.map(folded), folded(name))],
        };
        Ok(match policy.backend {
            BackendSource::Prefix(separator) => {
                let split = |name: &str| match name.split_once(separator) {
                    Some((backend, rest)) if !backend.is_empty() && !rest.is_empty() => {
                        (backend.to_owned(), rest.to_owned())
                    }
                    _ => (String::new(), name.to_owned()),
                };
                let (backend, name) = split(name);
                let parts =
                    |(backend, name): (String, String)| (Some(folded(&backend)), folded(&name));
                let parts_of = [split(&request.name), split(&folded(&request.name))];
                let folded = parts_of.into_iter().map(parts).collect();
                Self { backend: Some(backend), name, folded }
            }
            BackendSource::Name(backend) => known(Some(backend)),
            BackendSource::Attribute(_) => {
                known(Some(request.cluster.ok_or(Answer::Misconfigured)?))
            }
            BackendSource::Header(header) => match request.header(header).as_slice() {
                [] => known(None),
                [value] => {
                    known(Some(std::str::from_utf8(value).map_err(|_bytes| Answer::Ambiguous)?))
                }
                _ => return Err(Answer::Ambiguous),
            },
        })
    }
}

impl Rule {
    /// Evaluates the rule. `None`: it cannot be evaluated.
    fn outcome(&self, policy: &Policy, call: &Call, request: &Request, more: &[&str]) -> Outcome {
        let tool = if request.is_prompt { "" } else { &call.name };
        let backend = call.backend.as_deref();
        let facts = EvalContext { request, extra_scopes: more, tool, backend };
        let condition = |condition: &Option<Condition>| match condition {
            Some(condition) => condition.outcome(&facts),
            None => Some(true),
        };
        let targets = match &self.targets {
            None => Some(true),
            Some(targets) => targets
                .iter()
                .filter(|target| target.is_prompt == request.is_prompt)
                .map(|target| and(target.is_for(call, self.allows), condition(&target.when)))
                .fold(Some(false), or),
        };
        let none = Map::new();
        let claims = request.claims.as_ref().unwrap_or(&none);
        let required = self.claims.iter().map(|claim| claim.outcome(claims));
        let required = required.fold(Some(true), and);
        let source = and(self.scopes_outcome(policy, claims, more), required);
        and(source, and(targets, condition(&self.condition)))
    }

    fn scopes_outcome(
        &self,
        policy: &Policy,
        claims: &Map<String, Value>,
        more: &[&str],
    ) -> Outcome {
        let scopes = scopes(claims);
        let all = scopes.named.iter().chain(&scopes.possible).map(String::as_str);
        let is_granted = |scope: &&str| {
            let is_named = scopes.named.iter().any(|named| named == scope);
            !self.allows || (is_named && !scope.contains(char::is_whitespace))
        };
        let all = all.filter(is_granted);
        let all = with_implied(all.chain(more.iter().copied()), &policy.hierarchy);
        match self.scopes.iter().all(|scope| all.contains(*scope)) {
            false if scopes.is_unreadable && !self.allows => None,
            outcome => Some(outcome),
        }
    }
}

impl Target {
    fn is_for(&self, call: &Call, exactly: bool) -> Outcome {
        let is_same = |ours: Option<&str>, theirs: &Option<String>| match ours {
            Some(ours) => theirs.as_ref().map(|theirs| theirs == ours),
            None => Some(true),
        };
        let is_named = Some(matches(self.name, &call.name));
        let outcome = and(is_same(self.backend, &call.backend), is_named);
        if exactly {
            return outcome;
        }
        let ours = self.backend.map(folded);
        let of_folded = call.folded.iter().map(|(backend, name)| {
            and(is_same(ours.as_deref(), backend), Some(matches(&folded(self.name), name)))
        });
        of_folded.fold(outcome, or)
    }
}

/// Numbers of requests by their answer.
pub type Tally = BTreeMap<&'static str, u64>;

/// Compares the answers to random requests under random policies with those of mcp-authz. Returns
/// the number of requests.
pub fn check(bytes: &[u8], tally: &mut Tally) -> Result<u64, String> {
    let mut choices = Choices::new(bytes);
    let mut policies = generate::policies(&mut choices);
    let gate = engine::gate(&mut policies)?;
    let mut checked = 0;
    for _ in 0..1 + choices.below(24) {
        let mut request = generate::request(&mut choices, &policies);
        for _ in 0..choices.below(4) {
            request = doubts::doubt(&mut choices, &policies, &request).request;
        }
        if !request.has_distinct_arguments() {
            continue;
        }
        checked += 1;
        let given = engine::answer(&gate, &request);
        let expected = answer(&policies, &request, &[]);
        let fail = |what: &str| {
            let policies = document::text(&policies);
            Err(format!(
                "{what}\nexpected {expected:?}, decided {given:?}\n{policies}\n{request:#?}"
            ))
        };
        if given.answer != expected {
            return fail("another answer");
        }
        *tally.entry(expected.label()).or_default() += 1;
        let Answer::Denied(_) = expected else { continue };
        let flips =
            |scopes: &[&str]| matches!(answer(&policies, &request, scopes), Answer::Allowed(_));
        let named: Vec<&str> = given.scopes.iter().map(String::as_str).collect();
        let policy = select(&policies, &request).expect("a policy denied it");
        if !named.is_empty() {
            *tally.entry("challenged").or_default() += 1;
            if !flips(&named) {
                return fail("a challenge that does not help");
            }
        } else if policy.rules.iter().any(|rule| rule.allows && flips(&rule.scopes)) {
            return fail("no challenge, though scopes would help");
        }
    }
    Ok(checked)
}

impl Request {
    fn has_distinct_arguments(&self) -> bool {
        let names = self.arguments.iter().map(|(name, _)| name.to_lowercase());
        names.collect::<std::collections::BTreeSet<_>>().len() == self.arguments.len()
            && self.arguments.iter().all(|(name, _)| *name == name.to_lowercase())
    }
}

impl Answer {
    fn label(self) -> &'static str {
        match self {
            Self::Allowed(Some(_)) => "allowed by a rule",
            Self::Allowed(None) => "allowed by default",
            Self::Denied(Some(_)) => "denied by a rule",
            Self::Denied(None) => "denied by default",
            Self::NotCovered => "not covered",
            Self::NoPolicy => "no policy",
            Self::NoToken => "no token",
            Self::Ambiguous => "ambiguous",
            Self::Misconfigured => "misconfigured",
        }
    }
}

#[test]
fn engine_decides_as_model_does() {
    let cases = crate::choices::setting("MODEL_CASES").unwrap_or(15_000);
    let mut tally = Tally::new();
    crate::choices::check_many(cases, |bytes| check(bytes, &mut tally));
    println!("{tally:?}");
    for (label, least) in [
        ("allowed by a rule", 20),
        ("allowed by default", 4),
        ("denied by a rule", 15),
        ("denied by default", 15),
        ("challenged", 3),
        ("not covered", 1),
        ("no policy", 1),
        ("no token", 1),
        ("ambiguous", 1),
        ("misconfigured", 5),
    ] {
        let share = tally.get(label).copied().unwrap_or_default() * 100 / cases;
        assert!(share >= least, "{label}: {share} %");
    }
}
