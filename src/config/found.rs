//! Policies as they are in files, perhaps with mistakes.

use super::rules::RuleLocations;
use crate::policy::Policy;

/// A policy of a file that may have mistakes. A gate gets only the policies of files without
/// mistakes.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) policy: Policy,
    pub(super) rules: Vec<RuleLocations>,
    pub(super) mistakes: Mistakes,
}

/// The parts of a policy, except its rules, that have a mistake: true if the part has one. The
/// policy holds a substitute for such a part, so a warning about that part would be false.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mistakes {
    pub(super) name: bool,
    pub(super) matching: bool,
    pub(super) governed: bool,
    pub(super) lists: bool,
    pub(super) scopes: bool,
    pub(super) condition_errors: bool,
    pub(super) default_action: bool,
    /// True if there is no list of rules.
    pub(super) rules: bool,
    /// True if any part has a mistake, also a part without a field here.
    pub(super) any: bool,
}

impl Mistakes {
    pub(super) const ALL: Self = Self {
        name: true,
        matching: true,
        governed: true,
        lists: true,
        scopes: true,
        condition_errors: true,
        default_action: true,
        rules: true,
        any: true,
    };
}

impl Found {
    /// Notes mistakes in the parts that have no field in [`Mistakes`].
    pub(super) fn with_mistakes(mut self, any: bool) -> Self {
        self.mistakes.any |= any || self.rules.iter().any(|rule| rule.mistakes.any());
        self
    }
}
