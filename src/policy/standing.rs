//! What a caller can make of a tool, a prompt or resources, before the arguments are known:
//! lists are filtered by it.

use super::search::Search;
use super::{Facts, Grants, Policy};

/// What a caller can make of a target that a list names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing<'p> {
    /// With some arguments a call is allowed.
    Permitted,
    /// With some arguments it is once these scopes are granted, and with none before.
    Reachable(&'p [String]),
    /// It is with none, whatever scopes are granted.
    Closed,
}

impl Policy {
    /// Returns what a caller with these scopes can make of the target of the facts.
    pub fn standing(&self, facts: &Facts<'_>, grants: &Grants) -> Standing<'_> {
        if !self.exposes(facts.subject) {
            return Standing::Closed;
        }
        let mut search = Search::new(self, None, facts, grants);
        if search.run(None).is_ok_and(|ended| ended.allowed) {
            return Standing::Permitted;
        }
        // Without parameters no key of a client's is read, so there is no error.
        match search.step_up_scopes() {
            Ok(Some(scopes)) => Standing::Reachable(scopes),
            Ok(None) | Err(_) => Standing::Closed,
        }
    }

    /// Whether a Deny rule does not apply to some call that the facts leave open, and a rule
    /// after it, or the default action, allows that call.
    pub fn may_evade(&self, denying: usize, facts: &Facts<'_>, grants: &Grants) -> bool {
        Search::new(self, None, facts, grants).passes(denying).unwrap_or_default()
    }
}
