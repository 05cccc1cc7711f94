//! What a rule asks of a caller's claims besides scopes.

use crate::claims::{Claims, text};
use crate::json::Json;

/// A claim that a caller must have with one of some values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredClaim {
    /// The claim, as a dotted path.
    pub name: String,
    /// Whether a claim whose own name has dots is not meant.
    pub by_path_only: bool,
    /// What the claim holds.
    pub value_type: ClaimType,
    /// One of these must be there.
    pub values: Vec<String>,
}

/// What a claim holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimType {
    /// A text, which must be equal to one of the values.
    String,
    /// A list of texts, of which any must be; or a single text.
    StringArray,
}

impl RequiredClaim {
    /// Whether a caller has the claim with one of the values. A claim of another
    /// type is not it, and without a token there is none.
    pub fn holds(&self, claims: Option<&Claims>) -> bool {
        let wanted = |text: &str| self.values.iter().any(|value| value == text);
        let claim = claims.and_then(|claims| {
            if self.by_path_only {
                claims.find_by_path(&self.name)
            } else {
                claims.find(&self.name)
            }
        });
        match (claim, self.value_type) {
            (Some(Json::String(text)), _) => wanted(text),
            (Some(Json::Array(items)), ClaimType::StringArray) => {
                items.iter().filter_map(text).any(wanted)
            }
            _ => false,
        }
    }
}
