//! Rules that never decide.

use std::collections::HashMap;

use super::super::problem::{Diagnostics, Lint};
use super::super::rules::RuleLocations;
use super::{folded_target, is_folded};
use crate::mcp::TargetKind;
use crate::policy::{Action, ClaimValue, Condition, Dialect, Policy, RequiredClaim, Rule, Target};

/// Warns of rules that can never decide. The result has a bool for each rule: true if the rule can
/// never decide.
pub(super) fn shadowed_rules(
    policy: &Policy,
    spots: &[RuleLocations],
    problems: &mut Diagnostics,
) -> Vec<bool> {
    let mut shadowed = vec![false; policy.rules.len()];
    let mut earlier = Index::default();
    for (index, (rule, spots)) in policy.rules.iter().zip(spots).enumerate() {
        if spots.mistakes.any() {
            continue;
        }
        let covering = earlier.candidates(rule).into_iter().find(|&candidate| {
            policy.rules.get(candidate).is_some_and(|earlier| covers(policy, earlier, rule))
        });
        if let Some(first) = covering.and_then(|first| Some((first, policy.rules.get(first)?))) {
            let (index_of_first, first) = first;
            let message = format!(
                "this rule never decides: `{}` takes all that it would match, and comes before it",
                first.label(index_of_first)
            );
            problems.lint(Lint::ShadowedRule, spots.rule.place, &spots.rule.keys, message);
            if let Some(shadowed) = shadowed.get_mut(index) {
                *shadowed = true;
            }
        }
        earlier.add(index, rule);
    }
    shadowed
}

/// Returns true if the earlier rule matches each call that the later rule would match. This must
/// hold for every reading of the call.
fn covers(policy: &Policy, earlier: &Rule, later: &Rule) -> bool {
    let effects = (earlier.action, later.action);
    same_or_none(earlier.cel.as_deref(), later.cel.as_deref())
        && earlier.scopes.is_granted_by(&later.scopes)
        && earlier
            .claims
            .iter()
            .all(|claim| later.claims.iter().any(|other| implies(other, claim, effects)))
        && match (&earlier.targets, &later.targets) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(earlier_targets), Some(later_targets)) => later_targets
                .iter()
                .all(|target| earlier_targets.iter().any(|other| covers_target(other, target))),
        }
        && (effects != (Action::Allow, Action::Deny) || is_free_of_doubt(policy, earlier))
}

/// Returns true if an Allow rule also matches ambiguous calls. Ambiguity keeps an Allow rule from
/// matching and makes a Deny rule match. So a later Deny rule with equal requirements can decide.
fn is_free_of_doubt(policy: &Policy, rule: &Rule) -> bool {
    let is_for_all = |target: &Target| target.name.as_str() == "*" && target.backend.is_none();
    // A Deny rule can match a resource template that stands for more than an Allow rule names.
    let is_clear = |target: &Target| match policy.dialect {
        Dialect::McpRoute => target.feature != TargetKind::Resource || is_for_all(target),
        Dialect::Native => is_for_all(target),
    };
    let compares_as_sent = policy.dialect == Dialect::McpRoute;
    rule.conditions().next().is_none()
        && (compares_as_sent || (rule.scopes.names().is_empty() && rule.claims.is_empty()))
        && rule.targets.iter().flatten().all(is_clear)
}

/// Returns true if the first claim, of a later rule, implies the second claim, of an earlier rule.
fn implies(first: &RequiredClaim, second: &RequiredClaim, effects: (Action, Action)) -> bool {
    // A claim whose type no value has is an evaluation error, on which a Deny rule decides.
    let fails_alike = || {
        let kind = |value: &ClaimValue| match value {
            ClaimValue::String(_) | ClaimValue::Pattern(_) => 0,
            ClaimValue::Bool(_) => 1,
            ClaimValue::Number(_) => 2,
        };
        let is_of_type = |value: &ClaimValue, other: &ClaimValue| kind(value) == kind(other);
        second.values.iter().all(|value| first.values.iter().any(|other| is_of_type(value, other)))
    };
    first.name == second.name
        && first.value_type == second.value_type
        && first.values.iter().all(|value| second.values.iter().any(|other| other.covers(value)))
        && (effects != (Action::Deny, Action::Deny) || fails_alike())
}

/// Returns true if the earlier target matches each call that the later target would match. A Deny
/// rule matches many spellings of each name and each backend.
fn covers_target(earlier: &Target, later: &Target) -> bool {
    let covers = match (is_folded(earlier), is_folded(later)) {
        (true, true) => covers_folded(earlier, later),
        (true, false) => covers_folded(earlier, &folded_target(later)),
        (false, true) => earlier.backend.is_none() && earlier.name.as_str() == "*",
        (false, false) => {
            (earlier.backend.is_none() || earlier.backend == later.backend)
                && earlier.name.covers(&later.name)
        }
    };
    covers
        && earlier.feature == later.feature
        && same_or_none(earlier.when.as_deref(), later.when.as_deref())
}

fn covers_folded(earlier: &Target, later: &Target) -> bool {
    let (backend, theirs) = (earlier.folded_backend(), later.folded_backend());
    let names = earlier.folded_name().zip(later.folded_name());
    (backend.is_none() || backend == theirs)
        && names.is_some_and(|(name, theirs)| name.covers(theirs))
}

fn same_or_none(earlier: Option<&Condition>, later: Option<&Condition>) -> bool {
    earlier.is_none_or(|earlier| later.is_some_and(|later| earlier.source() == later.source()))
}

/// The earlier rules, by what a later rule must share with a rule that covers it. These keys are
/// the target, if the earlier rule names one, and a scope, if it requires one. The index saves
/// comparing each rule with all others.
#[derive(Default)]
pub(super) struct Index {
    /// The rules that name exact targets, by folded name. Names that a Deny rule treats as equal
    /// share an entry.
    exact: HashMap<(TargetKind, String), Vec<usize>>,
    /// The rules that name targets by pattern, or no target, by the first of their scopes.
    patterns: HashMap<Option<usize>, Vec<usize>>,
}

impl Index {
    fn add(&mut self, index: usize, rule: &Rule) {
        let mut is_pattern = rule.targets.is_none();
        for target in rule.targets.iter().flatten() {
            if target.name.is_exact() {
                self.exact.entry(Self::key(target)).or_default().push(index);
            } else {
                is_pattern = true;
            }
        }
        if is_pattern {
            self.patterns.entry(rule.scopes.numbers().next()).or_default().push(index);
        }
    }

    /// Returns the kind and the folded name of a target.
    pub(super) fn key(target: &Target) -> (TargetKind, String) {
        (target.feature, target.name.folded().as_str().to_owned())
    }

    /// Returns the rules that could cover a later rule, in order.
    fn candidates(&self, later: &Rule) -> Vec<usize> {
        let target = later.targets.as_deref().and_then(<[Target]>::first);
        let exact = target.and_then(|target| self.exact.get(&Self::key(target)));
        let scopes = later.scopes.granted_numbers().map(Some).chain([None]);
        let patterns = scopes.filter_map(|scope| self.patterns.get(&scope));
        let mut rules: Vec<usize> = exact.into_iter().chain(patterns).flatten().copied().collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}
