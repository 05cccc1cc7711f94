//! The scopes of a caller, as the rules of a policy see them.

use super::condition::OutcomeSet;
use super::{Action, Dialect, Policy, RequiredScopes, Rule, ScopeSet, is_scope_token};
use crate::claims::Claims;

/// The scopes that a caller is granted, with all scopes that these imply.
#[derive(Debug, Default)]
pub struct Grants {
    granted: ScopeSet,
    /// The scopes if some reader of the token finds more of them. Deny rules use this set.
    possible: Option<ScopeSet>,
    /// True if a scope claim has an unsupported type, so that the token may grant any scope.
    is_unreadable: bool,
}

impl Grants {
    /// Returns the scopes that a token grants, as far as the policy names them.
    pub fn of(policy: &Policy, claims: Option<&Claims>) -> Self {
        Self::with(policy, claims, &[])
    }

    /// Returns the scopes that a token and more scopes grant.
    pub(super) fn with(policy: &Policy, claims: Option<&Claims>, more: &[String]) -> Self {
        let (table, more) = (&policy.scopes, more.iter().map(String::as_str));
        let Some(claims) = claims else {
            return Self { granted: table.granted(more), ..Self::default() };
        };
        // Readers that split at white space must agree, so a star of the hierarchy matches none.
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

    /// Returns exactly these scopes, with all scopes that they imply.
    pub fn exactly(scopes: &RequiredScopes) -> Self {
        Self { granted: scopes.granted.clone(), ..Self::default() }
    }

    /// Returns true if a scope of the policy is certainly granted.
    pub(super) fn contains(&self, policy: &Policy, scope: &str) -> bool {
        policy.scopes.is_in(scope, &self.granted)
    }

    /// Evaluates whether the scopes that a rule requires are granted, optionally with extra scopes.
    pub(super) fn satisfy(&self, rule: &Rule, extra: Option<&RequiredScopes>) -> OutcomeSet {
        let nothing = ScopeSet::default();
        let extra = extra.map_or(&nothing, |extra| &extra.granted);
        let granted = match (rule.action, &self.possible) {
            (Action::Deny, Some(possible)) => possible,
            _ => &self.granted,
        };
        if rule.scopes.are_in(granted, extra) {
            OutcomeSet::TRUE
        } else if rule.action == Action::Deny && self.is_unreadable {
            OutcomeSet::FAILURE
        } else {
            OutcomeSet::FALSE
        }
    }
}
