//! How a caller stands to a tool, a prompt or resources, before the arguments are known:
//! what lists are filtered by.
//!
//! A rule may take a call, must take it, or cannot. As in a decision, the first that
//! takes it decides; here each that only may leaves it open what comes after.

use super::condition::Possible;
use super::decide::{Truth, could_help, is_for, meeting};
use super::{Action, Extent, Facts, Policy, RequiredScopes, Rule, ScopeSet, Target};

/// How a caller stands to what a list names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing<'p> {
    /// With some arguments a call is allowed.
    Permitted,
    /// With some arguments it is once these scopes are granted, and with none before.
    Reachable(&'p [String]),
    /// It is with none, whatever scopes are granted.
    Closed,
}

/// What a rule does with the calls of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Takes {
    /// It takes some.
    some: bool,
    /// It takes all.
    all: bool,
}

/// Scopes that could be granted.
#[derive(Debug, Clone, Copy)]
struct More<'p> {
    scopes: &'p ScopeSet,
    /// The number of the rule that they are of, if that must take the calls.
    by: Option<usize>,
}

impl Policy {
    /// How a caller who is granted these scopes stands to what the facts are about.
    pub fn standing(&self, facts: &Facts<'_>, granted: &ScopeSet) -> Standing<'_> {
        if self.may_allow(facts, granted, None) {
            return Standing::Permitted;
        }
        // In the order of a challenge: first the scopes of rules that take such calls, then
        // those of others.
        let numbered = |number| self.rules.get(number).map(|rule| (number, rule));
        let for_it = self.rules.candidates(&facts.subject, 0).filter_map(numbered);
        let mut for_it: Vec<(Option<usize>, &RequiredScopes)> = for_it
            .filter(|(_, rule)| could_help(rule, facts) && is_for(rule, facts))
            .map(|(number, rule)| (Some(number), &rule.scopes))
            .collect();
        for_it.sort_by_key(|(_, scopes)| scopes.names.len());
        let helps = |&(by, scopes): &(Option<usize>, &RequiredScopes)| {
            let with_more = Facts { more_scopes: &scopes.names, ..*facts };
            self.may_allow(&with_more, granted, Some(More { scopes: &scopes.granted, by }))
        };
        let others = || self.other_scopes(facts).into_iter().map(|scopes| (None, scopes));
        let helped = for_it.into_iter().find(helps).or_else(|| others().find(helps));
        helped.map_or(Standing::Closed, |(_, scopes)| Standing::Reachable(&scopes.names))
    }

    /// Whether a call is allowed with some arguments, once more is granted.
    fn may_allow(&self, facts: &Facts<'_>, granted: &ScopeSet, more: Option<More<'_>>) -> bool {
        let nothing = ScopeSet::default();
        let (more, by) = more.map_or((&nothing, None), |more| (more.scopes, more.by));
        let mut allowed = false;
        for number in self.rules.candidates(&facts.subject, 0) {
            let Some(rule) = self.rules.get(number) else { continue };
            if facts.budget.spend_a_look(facts.subject.name) {
                return false;
            }
            if !rule.scopes.are_in(granted, more) || !is_for(rule, facts) {
                continue;
            }
            let takes = self.may_take(rule.action, possible(rule, facts));
            allowed |= rule.action == Action::Allow && takes.some;
            match by {
                // It must take calls itself.
                Some(by) if by == number => return takes.some,
                None if allowed => return true,
                _ => {}
            }
            // As in a challenge: what denies already still does.
            let denies = rule.action == Action::Deny && takes.all;
            if denies && (!allowed || rule.scopes.are_in(granted, &nothing)) {
                return false;
            }
        }
        self.default_action == Action::Allow
    }

    fn may_take(&self, action: Action, possible: Possible) -> Takes {
        let Possible { truth, falsity, failure } = possible;
        let outcomes = [(truth, Truth::True), (falsity, Truth::False), (failure, Truth::Failed)];
        let takes = |(_, truth)| self.takes(action, truth);
        let mut outcomes = outcomes.into_iter().filter(|(is_possible, _)| *is_possible);
        Takes { some: outcomes.clone().any(takes), all: outcomes.all(takes) }
    }
}

/// What the conditions of a rule may say of a call that it names: its own, and those of
/// its targets, of which one must be true.
fn possible(rule: &Rule, facts: &Facts<'_>) -> Possible {
    let own = rule.cel.as_ref().map_or(Possible::TRUE, |condition| condition.possible(facts));
    if own == Possible::FALSE || rule.targets.is_none() {
        return own;
    }
    let possible = |(_, target, extent): (usize, &Target, Extent)| {
        let when = target.when.as_ref().map_or(Possible::TRUE, |when| when.possible(facts));
        if extent == Extent::All { when } else { when.union(Possible::FALSE) }
    };
    let targets = meeting(rule, &facts.subject).map(possible);
    own.and(targets.fold(Possible::FALSE, Possible::or))
}
