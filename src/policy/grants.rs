//! The scopes of a caller, as the rules of a policy see them.

use super::condition::Possible;
use super::{Action, Dialect, Policy, RequiredScopes, Rule, ScopeSet};
use crate::claims::Claims;

/// The scopes that a caller is granted, with all that they imply.
#[derive(Debug, Default)]
pub struct Grants {
    granted: ScopeSet,
    /// Those that a reader of the token may see beside them, which count in Deny rules.
    possible: Option<ScopeSet>,
    /// Whether scopes stand in a claim of a type that is not read, so that any may be there.
    is_unreadable: bool,
}

impl Grants {
    /// The scopes that a token grants, as far as a policy names them.
    pub fn of(policy: &Policy, claims: Option<&Claims>) -> Self {
        let Some(claims) = claims else { return Self::default() };
        let table = &policy.scopes;
        match policy.dialect {
            Dialect::McpRoute => {
                Self { granted: table.granted(claims.scopes_of_reference()), ..Self::default() }
            }
            Dialect::Native => Self {
                granted: table.granted(claims.scopes()),
                possible: claims
                    .scopes_are_unclear()
                    .then(|| table.granted(claims.scopes().chain(claims.possible_scopes()))),
                is_unreadable: claims.scopes_are_unreadable(),
            },
        }
    }

    /// Exactly these scopes, with all that they imply.
    pub fn exactly(scopes: &RequiredScopes) -> Self {
        Self { granted: scopes.granted.clone(), ..Self::default() }
    }

    /// Whether a scope of the policy is granted for certain.
    pub(super) fn contains(&self, policy: &Policy, scope: &str) -> bool {
        policy.scopes.is_in(scope, &self.granted)
    }

    /// Whether the scopes that a rule requires are granted, perhaps with extra ones.
    pub(super) fn satisfy(&self, rule: &Rule, extra: Option<&RequiredScopes>) -> Possible {
        let nothing = ScopeSet::default();
        let extra = extra.map_or(&nothing, |extra| &extra.granted);
        let granted = match (rule.action, &self.possible) {
            (Action::Deny, Some(possible)) => possible,
            _ => &self.granted,
        };
        if rule.scopes.are_in(granted, extra) {
            Possible::TRUE
        } else if rule.action == Action::Deny && self.is_unreadable {
            Possible::FAILURE
        } else {
            Possible::FALSE
        }
    }
}
