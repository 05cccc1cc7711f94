//! The scopes of a caller, as the rules of a policy see them.

use super::condition::Possible;
use super::{Action, Dialect, Policy, RequiredScopes, Rule, ScopeSet, is_scope_token};
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
        Self::with(policy, claims, &[])
    }

    /// The same with more scopes.
    pub(super) fn with(policy: &Policy, claims: Option<&Claims>, more: &[String]) -> Self {
        let (table, more) = (&policy.scopes, more.iter().map(String::as_str));
        let Some(claims) = claims else {
            return Self { granted: table.granted(more), ..Self::default() };
        };
        // A star of the hierarchy stands for no white space that a reader splits at.
        let is_granted = |scope: &&str| !claims.scopes_are_unclear() || is_scope_token(scope);
        match policy.dialect {
            Dialect::McpRoute => Self {
                granted: table.granted(claims.scopes_of_reference().chain(more)),
                ..Self::default()
            },
            Dialect::Native => Self {
                granted: table.granted(claims.scopes().filter(is_granted).chain(more.clone())),
                possible: claims.scopes_are_unclear().then(|| {
                    let possible = claims.scopes().chain(claims.possible_scopes());
                    table.granted(possible.chain(more))
                }),
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
