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

impl Policy {
    /// How the caller stands to the tool of the facts.
    pub fn standing(&self, facts: &Facts<'_>) -> Standing<'_> {
        let granted = self.scopes.granted(facts.scopes());
        if self.may_allow(facts, &granted, None) {
            return Standing::Permitted;
        }
        let named: Vec<&str> = facts.scopes().collect();
        let is_new = |scope: &String| !named.contains(&scope.as_str());
        let could_help =
            |rule: &&Rule| rule.action == Action::Allow && rule.scopes.names.iter().any(is_new);
        let with = |rule: &Rule| {
            let with_more = Facts { more_scopes: &rule.scopes.names, ..*facts };
            self.may_allow(&with_more, &granted, Some(&rule.scopes.granted))
        };
        // In the order of a challenge: first the scopes of rules that take such calls, and
        // those of others only if a condition could ask for them.
        let for_tool = self.rules.candidates(facts.subject.tool, 0);
        let mut for_tool: Vec<&Rule> = for_tool
            .filter_map(|number| self.rules.get(number))
            .filter(|rule| could_help(rule) && is_for(rule, facts))
            .collect();
        for_tool.sort_by_key(|rule| rule.scopes.names.len());
        let takes = |rule: &&Rule| {
            let with_more = Facts { more_scopes: &rule.scopes.names, ..*facts };
            self.may_take(Action::Allow, possible(rule, &with_more)).some && with(rule)
        };
        let helps = for_tool.into_iter().find(takes).or_else(|| {
            let others = self.rules.iter().filter(|_| self.rules.reads().scopes);
            let mut seen = HashSet::new();
            let mut others: Vec<&Rule> = others
                .filter(|rule| could_help(rule) && seen.insert(rule.scopes.names.as_slice()))
                .collect();
            others.sort_by_key(|rule| rule.scopes.names.len());
            others.into_iter().find(|rule| with(rule))
        });
        helps.map_or(Standing::Closed, |rule| Standing::Reachable(&rule.scopes.names))
    }

    /// Whether a call is allowed with some arguments, once more is granted.
    fn may_allow(&self, facts: &Facts<'_>, granted: &ScopeSet, more: Option<&ScopeSet>) -> bool {
        let nothing = ScopeSet::default();
        for number in self.rules.candidates(facts.subject.tool, 0) {
            let Some(rule) = self.rules.get(number) else { continue };
            let is_granted = rule.scopes.are_in(granted, more.unwrap_or(&nothing));
            if !is_granted || !is_for(rule, facts) {
                continue;
            }
            let takes = self.may_take(rule.action, possible(rule, facts));
            match rule.action {
                Action::Allow if takes.some => return true,
                Action::Deny if takes.all => return false,
                Action::Allow | Action::Deny => {}
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
