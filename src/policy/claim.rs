//! Claims, other than scopes, that a rule requires of a caller.

use std::fmt;

use super::{Dialect, Glob, OutcomeSet};
use crate::claims::{Claims, text};
use crate::json::Json;

/// A claim that a caller must have with one of several values.
#[derive(Debug, Clone, PartialEq)]
pub struct RequiredClaim {
    /// The path of the claim, with dots between its segments.
    pub name: String,
    /// The language of the policy, which determines how the path and the values are read.
    pub dialect: Dialect,
    /// The required type of the claim.
    pub value_type: ClaimType,
    /// The accepted values. The claim must have at least one of these.
    pub values: Vec<ClaimValue>,
}

/// The type of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimType {
    /// A single value, which must be one of the accepted values.
    String,
    /// A list of values, one of which must be accepted; or a single value.
    StringArray,
}

/// An accepted value of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimValue {
    /// This string.
    String(String),
    /// Any string that matches this pattern.
    Pattern(Glob),
    /// This boolean.
    Bool(bool),
    /// This number, an integer or not.
    Number(f64),
}

impl ClaimValue {
    /// Creates a numeric value. Returns `None` if readers of JSON round the number differently.
    pub fn number(value: f64) -> Option<Self> {
        matches!(Json::double(value), Json::Double(_)).then_some(Self::Number(value))
    }

    /// Returns true if `self` accepts every value that `other` accepts.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pattern(ours), Self::Pattern(theirs)) => ours.covers(theirs),
            (Self::Pattern(ours), Self::String(theirs)) => ours.matches(theirs),
            (ours, theirs) => ours == theirs,
        }
    }

    /// Returns true if the value is accepted. Returns `None` if the value has another type, or is a
    /// number that is not exact.
    fn accepts(&self, value: &Json<'_>) -> Option<bool> {
        match (self, value) {
            (Self::String(ours), Json::String(theirs)) => Some(ours == theirs),
            (Self::Pattern(ours), Json::String(theirs)) => Some(ours.matches(theirs)),
            (Self::Bool(ours), Json::Bool(theirs)) => Some(ours == theirs),
            (Self::Number(ours), Json::Double(theirs)) => Some(ours == theirs),
            #[expect(clippy::cast_precision_loss, reason = "within ±(2^53 − 1) there is none")]
            (Self::Number(ours), Json::Int(theirs)) => Some(*ours == *theirs as f64),
            _ => None,
        }
    }
}

impl fmt::Display for ClaimValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => f.write_str(text),
            Self::Pattern(glob) => f.write_str(glob.as_str()),
            Self::Bool(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
        }
    }
}

impl RequiredClaim {
    /// Evaluates whether the caller has the claim with an accepted value. Without a token, the
    /// result is false.
    ///
    /// A claim of another type is an evaluation error in a native policy, and does not match in an
    /// `MCPRoute`.
    pub fn holds(&self, claims: Option<&Claims>) -> OutcomeSet {
        let Some(claims) = claims else { return OutcomeSet::FALSE };
        match self.dialect {
            Dialect::McpRoute if Self::is_of_scopes(&self.name) => OutcomeSet::FALSE,
            Dialect::McpRoute => match claims.find_by_path(&self.name) {
                Some(claim) => OutcomeSet::of(self.is_there(claim)),
                None => OutcomeSet::FALSE,
            },
            Dialect::Native => {
                let mut held = None;
                claims.each_reading(&self.name, &mut |claim| {
                    let holds = claim.map_or(OutcomeSet::FAILURE, |claim| self.compare(claim));
                    // If the readings of an ambiguous path differ in their results, the claim
                    // cannot be evaluated.
                    let differs = held.is_some_and(|other| other != holds);
                    held = Some(if differs { OutcomeSet::FAILURE } else { holds });
                });
                held.unwrap_or(OutcomeSet::FALSE)
            }
        }
    }

    /// Returns true if a path leads into a claim that holds scopes. An `MCPRoute` cannot require
    /// such a claim.
    pub fn is_of_scopes(path: &str) -> bool {
        let first = path.split('.').next().unwrap_or_default();
        Claims::SCOPE_CLAIMS.contains(&first)
    }

    /// Compares a claim as Agent Router does.
    fn is_there(&self, claim: &Json<'_>) -> bool {
        let wanted =
            |value: &Json<'_>| self.values.iter().any(|wanted| wanted.accepts(value) == Some(true));
        match (claim, self.value_type) {
            (Json::Array(items), ClaimType::StringArray) => {
                items.iter().any(|item| text(item).is_some() && wanted(item))
            }
            (Json::String(_), _) => wanted(claim),
            _ => false,
        }
    }

    /// Compares a claim, and reports a claim of another type as a failure.
    fn compare(&self, claim: &Json<'_>) -> OutcomeSet {
        match (claim, self.value_type) {
            (Json::Array(items), ClaimType::StringArray) => {
                let items = items.iter().filter(|item| **item != Json::Null);
                items.map(|item| self.compare_value(item)).fold(OutcomeSet::FALSE, OutcomeSet::or)
            }
            (claim, _) => self.compare_value(claim),
        }
    }

    fn compare_value(&self, value: &Json<'_>) -> OutcomeSet {
        let mut compared = self.values.iter().filter_map(|wanted| wanted.accepts(value)).peekable();
        if compared.peek().is_none() {
            return OutcomeSet::FAILURE;
        }
        OutcomeSet::of(compared.any(|is_equal| is_equal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_claim_is_an_error() {
        let required = |value_type, values: &[ClaimValue]| RequiredClaim {
            name: "c".to_owned(),
            dialect: Dialect::Native,
            value_type,
            values: values.to_vec(),
        };
        let text = |text: &str| ClaimValue::String(text.to_owned());
        let one = required(ClaimType::String, &[text("yes"), ClaimValue::Bool(true)]);
        let list = required(ClaimType::StringArray, &[text("a"), text("b")]);
        let number = required(ClaimType::String, &[ClaimValue::Number(2.0)]);
        let pattern = ClaimValue::Pattern(Glob::new("*@example.com".to_owned()));
        let pattern = required(ClaimType::String, &[pattern]);
        for (required, claim, expected) in [
            (&one, r#""yes""#, OutcomeSet::TRUE),
            (&one, "true", OutcomeSet::TRUE),
            (&one, "false", OutcomeSet::FALSE),
            (&one, r#""no""#, OutcomeSet::FALSE),
            (&one, "1", OutcomeSet::FAILURE),
            (&one, "null", OutcomeSet::FAILURE),
            (&one, r#"["yes"]"#, OutcomeSet::FAILURE),
            (&one, "{}", OutcomeSet::FAILURE),
            (&list, r#"["x","b"]"#, OutcomeSet::TRUE),
            (&list, r#""a""#, OutcomeSet::TRUE),
            (&list, r#"["x",null]"#, OutcomeSet::FALSE),
            (&list, "[]", OutcomeSet::FALSE),
            (&list, r#"["x",1]"#, OutcomeSet::FAILURE),
            (&list, r#"[1,"a"]"#, OutcomeSet::TRUE),
            (&list, "7", OutcomeSet::FAILURE),
            (&number, "2", OutcomeSet::TRUE),
            (&number, "2.0", OutcomeSet::TRUE),
            (&number, "3", OutcomeSet::FALSE),
            (&number, r#""2""#, OutcomeSet::FAILURE),
            (&number, "9007199254740993", OutcomeSet::FAILURE),
            (&pattern, r#""ana@example.com""#, OutcomeSet::TRUE),
            (&pattern, r#""ana@example.org""#, OutcomeSet::FALSE),
        ] {
            let claims = serde_json::from_str(&format!("{{\"c\":{claim}}}")).unwrap();
            let claims = Claims::from_json(&claims);
            assert_eq!(required.holds(Some(&claims)), expected, "{required:?} {claim}");
        }
        assert_eq!(one.holds(None), OutcomeSet::FALSE);
        assert_eq!(one.holds(Some(&Claims::default())), OutcomeSet::FALSE);
    }
}
