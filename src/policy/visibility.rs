//! Visibility of list entries: the calls that a caller can make of a target, before the arguments
//! are known.

use super::search::Search;
use super::{EvalContext, Grants, Policy};

/// The calls that a caller can make of a target in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility<'p> {
    /// Some arguments may allow a call.
    Permitted,
    /// Some arguments may allow a call once these scopes are granted, but none allow it before.
    Reachable(&'p [String]),
    /// No arguments allow a call, and no scopes are known to change this.
    Closed,
}

impl Policy {
    /// Returns the visibility of the facts' target to a caller with these scopes.
    pub fn visibility(&self, facts: &EvalContext<'_>, grants: &Grants) -> Visibility<'_> {
        if !self.exposes(facts.subject) {
            return Visibility::Closed;
        }
        let mut search = Search::new(self, None, facts, grants);
        if search.run(None).is_ok_and(|ended| ended.allowed) {
            return Visibility::Permitted;
        }
        // Without parameters, no condition reads a client's keys, so there is no error.
        match search.step_up_scopes() {
            Ok(Some(scopes)) => Visibility::Reachable(scopes),
            Ok(None) | Err(_) => Visibility::Closed,
        }
    }

    /// Returns true if some call that the facts leave open passes a Deny rule, and a later rule or
    /// the default action allows that call.
    pub fn may_evade(&self, denying: usize, facts: &EvalContext<'_>, grants: &Grants) -> bool {
        Search::new(self, None, facts, grants).passes(denying).unwrap_or_default()
    }
}
