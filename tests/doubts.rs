//! Requests in which one part is repeated, re-encoded, mistyped, imprecise, unreadable or
//! withheld, each with the requests that servers could take it for.

#[path = "doubts/addresses.rs"]
mod addresses;
#[path = "doubts/names.rs"]
mod names;
#[path = "doubts/values.rs"]
mod values;

use crate::choices::Choices;
use crate::model::condition::{Condition, Term};
use crate::model::generate::{ARGUMENTS, BACKEND_HEADER, CLAIMS, HEADER};
use crate::model::{BackendSource, Policy, Request};

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
    let by_header = |policy: &Policy| policy.backend == BackendSource::Header(BACKEND_HEADER);
    let by_cluster = |policy: &Policy| matches!(policy.backend, BackendSource::Attribute(_));
    let host = policies.iter().any(|policy| !policy.hosts.is_empty());
    let path = policies.iter().any(|policy| !policy.path_prefixes.is_empty());
    let lists =
        read_arguments(policies).contains(&"l") || read_claims(policies).contains(&"groups");
    let kinds: [(bool, MakeDoubt); 18] = [
        (true, names::name),
        (lists, values::mistyped_element),
        (arguments, values::mistyped_argument),
        (arguments, values::mistyped_argument),
        (any_term(policies, |term| term == Term::Argument("n")), values::imprecise_argument),
        (arguments, values::repeated_argument),
        (claims, values::mistyped_claim),
        (claims, values::mistyped_claim),
        (scopes, values::unclear_scopes),
        (header, values::header_doubt),
        (policies.iter().any(by_header), names::backend_header),
        (policies.iter().any(by_header), names::backend_header),
        (policies.iter().any(by_header), names::backend_header),
        (policies.iter().any(by_cluster), names::backend_attribute),
        (host || any_term(policies, |term| term == Term::Host), addresses::host_doubt),
        (path || any_term(policies, |term| term == Term::Path), addresses::path_doubt),
        (policies.iter().any(|policy| !policy.routes.is_empty()), addresses::withheld_route),
        (choices.percent(20), values::second_payload),
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

/// Returns true if any condition holds such a comparison or test.
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

fn set_header(request: &Request, name: &'static str, values: &[&[u8]]) -> Request {
    with(request, |request| {
        request.headers.retain(|(found, _)| *found != name);
        request.headers.extend(values.iter().map(|value| (name, value.to_vec())));
    })
}

const NOT_UTF8: &[u8] = b"github\xff";
