//! How a caller stands to a tool, before its arguments are known: what lists are
//! filtered by.
//!
//! A rule may take a call, must take it, or cannot. As in a decision, the first that
//! takes it decides; here each that only may leaves it open what comes after.

use std::collections::HashSet;

use super::condition::Possible;
use super::{Action, ConditionErrors, Facts, Policy, Rule, ScopeSet, Target};

/// How a caller stands to a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing<'p> {
    /// With some arguments a call is allowed.
    Permitted,
    /// With some arguments it is once these scopes are granted, and with none before.
    Reachable(&'p [String]),
    /// It is with none, whatever scopes are granted.
    Closed,
}

/// What a rule does with the calls of a tool.
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
    /// How a caller who is granted these scopes stands to the tool of the facts.
    pub fn standing(&self, facts: &Facts<'_>, granted: &ScopeSet) -> Standing<'_> {
        if self.may_allow(facts, granted, None) {
            return Standing::Permitted;
        }
        let is_new = |scope: &String| !facts.scopes().any(|named| named == scope);
        let could_help =
            |rule: &Rule| rule.action == Action::Allow && rule.scopes.names.iter().any(is_new);
        // In the order of a challenge: first the scopes of rules that take such calls, and
        // those of others only if a condition could ask for them.
        let numbered = |number| self.rules.get(number).map(|rule| (Some(number), rule));
        let for_tool = self.rules.candidates(facts.subject.tool, 0).filter_map(numbered);
        let mut for_tool: Vec<(Option<usize>, &Rule)> =
            for_tool.filter(|(_, rule)| could_help(rule) && is_for(rule, facts)).collect();
        for_tool.sort_by_key(|(_, rule)| rule.scopes.names.len());
        let helps = |&(by, rule): &(Option<usize>, &Rule)| {
            let with_more = Facts { more_scopes: &rule.scopes.names, ..*facts };
            self.may_allow(&with_more, granted, Some(More { scopes: &rule.scopes.granted, by }))
        };
        let helped = for_tool.into_iter().find(helps).or_else(|| {
            let others = self.rules.iter().filter(|_| self.rules.reads().scopes);
            let mut seen = HashSet::new();
            let mut others: Vec<(Option<usize>, &Rule)> = others
                .filter(|rule| could_help(rule) && seen.insert(rule.scopes.names.as_slice()))
                .map(|rule| (None, rule))
                .collect();
            others.sort_by_key(|(_, rule)| rule.scopes.names.len());
            others.into_iter().find(helps)
        });
        helped.map_or(Standing::Closed, |(_, rule)| Standing::Reachable(&rule.scopes.names))
    }

    /// Whether a call is allowed with some arguments, once more is granted.
    fn may_allow(&self, facts: &Facts<'_>, granted: &ScopeSet, more: Option<More<'_>>) -> bool {
        let nothing = ScopeSet::default();
        let (more, by) = more.map_or((&nothing, None), |more| (more.scopes, more.by));
        let mut allowed = false;
        for number in self.rules.candidates(facts.subject.tool, 0) {
            let Some(rule) = self.rules.get(number) else { continue };
            if facts.budget.spend_a_look() {
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
        let failure_takes =
            action == Action::Deny && self.condition_errors == ConditionErrors::Deny;
        Takes {
            some: truth || (failure && failure_takes),
            all: !falsity && (!failure || failure_takes),
        }
    }
}

/// Whether targets and claims are a rule's.
fn is_for(rule: &Rule, facts: &Facts<'_>) -> bool {
    let selects = |targets: &Vec<Target>| targets.iter().any(|one| one.selects(&facts.subject));
    rule.targets.as_ref().is_none_or(selects)
        && rule.claims.iter().all(|claim| claim.holds(facts.claims))
}

/// What the conditions of a rule may say of a call that it names: its own, and those of
/// its targets, of which one must be true.
fn possible(rule: &Rule, facts: &Facts<'_>) -> Possible {
    let own = rule.cel.as_ref().map_or(Possible::TRUE, |condition| condition.possible(facts));
    let Some(targets) = &rule.targets else { return own };
    if own == Possible::FALSE {
        return own;
    }
    let selecting = targets.iter().filter(|target| target.selects(&facts.subject));
    let targets = selecting.fold(Possible::FALSE, |before, target| {
        let this = target.when.as_ref().map_or(Possible::TRUE, |when| when.possible(facts));
        before.or(this)
    });
    own.and(targets)
}
