//! Claims and scopes.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::condition::{Outcome, equal, is_imprecise, or};
use super::names::matches;

/// A claim that a rule requires.
#[derive(Debug, Clone)]
pub struct RequiredClaim {
    /// With a dot between an object and its member.
    pub name: &'static str,
    pub is_list: bool,
    pub values: Vec<Value>,
}

impl RequiredClaim {
    /// Compares a token's claims. `None`: the claim has another type than the rule expects.
    pub fn outcome(&self, claims: &Map<String, Value>) -> Outcome {
        let claim = match self.name.split_once('.') {
            None => claims.get(self.name),
            Some((object, member)) => match claims.get(object) {
                None => None,
                Some(object) => object.as_object()?.get(member),
            },
        };
        match claim {
            None => Some(false),
            Some(Value::Array(elements)) if self.is_list => {
                let elements = elements.iter().filter(|element| !element.is_null());
                elements.map(|element| self.is_value(element)).fold(Some(false), or)
            }
            Some(claim) => self.is_value(claim),
        }
    }

    fn is_value(&self, claim: &Value) -> Outcome {
        if is_imprecise(claim) || claim.is_null() {
            return None;
        }
        let outcomes = self.values.iter().filter_map(|value| match (value, claim) {
            (Value::String(pattern), Value::String(claim)) => Some(matches(pattern, claim)),
            _ => equal(value, claim),
        });
        outcomes.reduce(|one, other| one || other)
    }
}

/// The scopes of a token.
#[derive(Debug)]
pub struct Scopes {
    /// Between spaces, or elements of a list. Only those without white space are granted.
    pub named: Vec<String>,
    /// Those that servers may read which split at other white space, or split elements of lists.
    pub possible: Vec<String>,
    /// All servers read the same scopes.
    pub is_clear: bool,
    /// The scopes, or some of them, are of another type.
    pub is_unreadable: bool,
}

pub fn scopes(claims: &Map<String, Value>) -> Scopes {
    let mut scopes =
        Scopes { named: Vec::new(), possible: Vec::new(), is_clear: true, is_unreadable: false };
    let owned = |part: &str| part.to_owned();
    for claim in ["scope", "scp"].iter().filter_map(|name| claims.get(*name)) {
        match claim {
            Value::Null => {}
            Value::String(text) => {
                let parts = text.split(' ').filter(|part| !part.is_empty());
                scopes.named.extend(parts.map(owned));
                scopes.possible.extend(text.split_whitespace().map(owned));
                scopes.is_clear &= !text.contains(|c: char| c != ' ' && c.is_whitespace());
            }
            Value::Array(elements) => {
                for element in elements {
                    let Some(text) = element.as_str() else {
                        scopes.is_unreadable = true;
                        continue;
                    };
                    scopes.named.push(text.to_owned());
                    scopes.possible.extend(text.split_whitespace().map(owned));
                    scopes.is_clear &= !text.contains(char::is_whitespace);
                }
            }
            _ => scopes.is_unreadable = true,
        }
    }
    scopes.is_clear &= !scopes.is_unreadable;
    scopes
}

/// Returns scopes with all that they imply, directly or not.
pub fn with_implied<'s>(
    scopes: impl Iterator<Item = &'s str>,
    hierarchy: &[(&str, Vec<&str>)],
) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = scopes.map(str::to_owned).collect();
    loop {
        let mut more = Vec::new();
        for scope in &all {
            for (broader, narrower) in hierarchy {
                let star = match broader.split_once('*') {
                    None if scope == broader => "",
                    None => continue,
                    Some((start, end)) => {
                        let rest = scope.strip_prefix(start);
                        let Some(star) = rest.and_then(|rest| rest.strip_suffix(end)) else {
                            continue;
                        };
                        star
                    }
                };
                more.extend(narrower.iter().map(|name| name.replace('*', star)));
            }
        }
        let before = all.len();
        all.extend(more);
        if all.len() == before {
            return all;
        }
    }
}
