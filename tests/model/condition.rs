//! Conditions, as CEL and as what they mean.

use serde_json::{Map, Value, json};

use super::Request;
use super::claims::scopes;
use super::names::{clear_host, clear_path};

/// The outcome of a condition or a rule. `None`: it cannot be evaluated.
pub type Outcome = Option<bool>;

pub fn and(one: Outcome, other: Outcome) -> Outcome {
    if one == Some(false) || other == Some(false) { Some(false) } else { one.and(other) }
}

pub fn or(one: Outcome, other: Outcome) -> Outcome {
    if one == Some(true) || other == Some(true) { Some(true) } else { one.and(other) }
}

/// A condition.
#[derive(Debug, Clone)]
pub enum Condition {
    Equal(Term, Value),
    Unequal(Term, Value),
    Same(Term, Term),
    Less(Term, f64),
    StartsWith(Term, &'static str),
    /// The term is one of these.
    In(Term, Value),
    /// The term is a list with this element.
    Contains(Term, Value),
    HasArgument(&'static str),
    HasHeader(&'static str),
    Scope(&'static str),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

/// A value that a condition reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    Argument(&'static str),
    /// The argument by way of the parameters.
    Parameter(&'static str),
    /// `args.o.m`
    Member,
    /// `args.?o.?m.orValue(false)`
    OptionalMember,
    Claim(&'static str),
    Header(&'static str),
    Host,
    Path,
    /// The name of the tool, without its backend. It is empty if a prompt is called.
    Tool,
    Backend,
}

impl Term {
    pub fn cel(self) -> String {
        match self {
            Self::Argument(name) => format!("args.{name}"),
            Self::Parameter(name) => format!("request.mcp.params.arguments.{name}"),
            Self::Member => "args.o.m".to_owned(),
            Self::OptionalMember => "args.?o.?m.orValue(false)".to_owned(),
            Self::Claim(name) => format!("request.auth.jwt.claims.{name}"),
            Self::Header(name) => format!("request.headers[\"{name}\"]"),
            Self::Host => "request.host".to_owned(),
            Self::Path => "request.path".to_owned(),
            Self::Tool => "request.mcp.tool".to_owned(),
            Self::Backend => "request.mcp.backend".to_owned(),
        }
    }

    fn value(self, facts: &EvalContext<'_>) -> Option<Value> {
        let request = facts.request;
        let value = match self {
            Self::Argument(name) | Self::Parameter(name) => request.arguments().get(name).cloned(),
            Self::Member => request.arguments().get("o")?.as_object()?.get("m").cloned(),
            Self::OptionalMember => match request.arguments().get("o") {
                None => Some(json!(false)),
                Some(Value::Object(o)) => Some(o.get("m").cloned().unwrap_or(json!(false))),
                Some(_) => None,
            },
            Self::Claim(name) => request.claims.as_ref()?.get(name).cloned(),
            Self::Header(name) => {
                let values = request.header(name);
                let [value] = values.as_slice() else { return None };
                Some(json!(std::str::from_utf8(value).ok()?))
            }
            Self::Host => clear_host(request.host.text()?).map(Value::from),
            Self::Path => clear_path(request.path.text()?).map(Value::from),
            Self::Tool => Some(json!(facts.tool)),
            Self::Backend => facts.backend.map(Value::from),
        };
        value.filter(|value| !is_imprecise(value))
    }
}

/// The request and all else that conditions read.
#[derive(Debug, Clone, Copy)]
pub struct EvalContext<'f> {
    pub request: &'f Request,
    /// Scopes that are granted beside those of the token.
    pub extra_scopes: &'f [&'f str],
    pub tool: &'f str,
    /// `None`: unknown.
    pub backend: Option<&'f str>,
}

/// Returns true for a number that readers of JSON round differently.
pub fn is_imprecise(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number.abs() > 9_007_199_254_740_991.0)
}

/// Compares two values. `None`: they have different types.
pub fn equal(one: &Value, other: &Value) -> Outcome {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => Some(one.as_f64() == other.as_f64()),
        (Value::String(one), Value::String(other)) => Some(one == other),
        (Value::Bool(one), Value::Bool(other)) => Some(one == other),
        (Value::Null, Value::Null) => Some(true),
        (Value::Array(one), Value::Array(other)) => match one.len() == other.len() {
            true => {
                one.iter().zip(other).map(|(one, other)| equal(one, other)).fold(Some(true), and)
            }
            false => Some(false),
        },
        (Value::Object(one), Value::Object(other)) => match one.keys().eq(other.keys()) {
            true => one.iter().map(|(key, one)| equal(one, &other[key])).fold(Some(true), and),
            false => Some(false),
        },
        _ => None,
    }
}

fn equal_to_literal(value: &Value, literal: &Value) -> Outcome {
    if literal.is_null() { Some(value.is_null()) } else { equal(value, literal) }
}

/// Looks for a value in a list. Elements that are null are none of its type.
pub fn any_equal<'v>(elements: impl Iterator<Item = &'v Value>, value: &Value) -> Outcome {
    let outcomes = elements
        .filter(|element| !element.is_null())
        .map(|element| if is_imprecise(element) { None } else { equal(element, value) });
    outcomes.fold(Some(false), or)
}

impl Condition {
    pub fn cel(&self) -> String {
        match self {
            Self::Equal(term, literal) => format!("{} == {literal}", term.cel()),
            Self::Unequal(term, literal) => format!("{} != {literal}", term.cel()),
            Self::Same(one, other) => format!("{} == {}", one.cel(), other.cel()),
            Self::Less(term, number) => format!("{} < {number:?}", term.cel()),
            Self::StartsWith(term, start) => format!("{}.startsWith(\"{start}\")", term.cel()),
            Self::In(term, literals) => format!("{} in {literals}", term.cel()),
            Self::Contains(term, literal) => format!("{literal} in {}", term.cel()),
            Self::HasArgument(name) => format!("has(args.{name})"),
            Self::HasHeader(name) => format!("\"{name}\" in request.headers"),
            Self::Scope(scope) => format!("\"{scope}\" in request.auth.jwt.scopes"),
            Self::Not(condition) => format!("!({})", condition.cel()),
            Self::And(one, other) => format!("({}) && ({})", one.cel(), other.cel()),
            Self::Or(one, other) => format!("({}) || ({})", one.cel(), other.cel()),
        }
    }

    pub fn outcome(&self, facts: &EvalContext<'_>) -> Outcome {
        match self {
            Self::Equal(term, literal) => equal_to_literal(&term.value(facts)?, literal),
            Self::Unequal(term, literal) => {
                equal_to_literal(&term.value(facts)?, literal).map(|equal| !equal)
            }
            Self::Same(one, other) => equal(&one.value(facts)?, &other.value(facts)?),
            Self::Less(term, number) => term.value(facts)?.as_f64().map(|value| value < *number),
            Self::StartsWith(term, start) => {
                term.value(facts)?.as_str().map(|value| value.starts_with(start))
            }
            Self::In(term, literals) => any_equal(literals.as_array()?.iter(), &term.value(facts)?),
            Self::Contains(term, literal) => match term.value(facts)? {
                Value::Array(elements) => any_equal(elements.iter(), literal),
                Value::Object(members) => Some(members.contains_key(literal.as_str()?)),
                _ => None,
            },
            Self::HasArgument(name) => Some(facts.request.arguments().contains_key(*name)),
            Self::HasHeader(name) => Some(!facts.request.header(name).is_empty()),
            Self::Scope(scope) => {
                let scopes = scopes(facts.request.claims.as_ref().unwrap_or(&Map::new()));
                let named = scopes.named.iter().any(|named| named == scope);
                scopes.is_clear.then(|| named || facts.extra_scopes.contains(scope))
            }
            Self::Not(condition) => condition.outcome(facts).map(|outcome| !outcome),
            Self::And(one, other) => and(one.outcome(facts), other.outcome(facts)),
            Self::Or(one, other) => or(one.outcome(facts), other.outcome(facts)),
        }
    }

    /// Returns the comparisons and tests that the condition is made of.
    pub fn leaves(&self) -> Vec<&Self> {
        match self {
            Self::Not(condition) => condition.leaves(),
            Self::And(one, other) | Self::Or(one, other) => [one.leaves(), other.leaves()].concat(),
            leaf => vec![leaf],
        }
    }

    /// Returns the values that a comparison reads.
    pub fn terms(&self) -> Vec<Term> {
        match self {
            Self::Equal(term, _)
            | Self::Unequal(term, _)
            | Self::Less(term, _)
            | Self::StartsWith(term, _)
            | Self::In(term, _)
            | Self::Contains(term, _) => vec![*term],
            Self::Same(one, other) => vec![*one, *other],
            _ => Vec::new(),
        }
    }
}
