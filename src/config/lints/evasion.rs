//! Deny rules that a caller can evade.

use super::super::Location;
use super::super::problem::{Diagnostics, Lint};
use super::super::rules::RuleLocations;
use crate::head::Head;
use crate::mcp::TargetKind;
use crate::policy::{
    Action, Backend, Budget, CallTarget, EvalContext, Grants, Overlap, Policy, Rule, Target,
    Unauthenticated, Unknown,
};

/// The most rules of a policy that all searches together evaluate. The lint does not complete its
/// search of a policy of thousands of rules.
const MAX_LOOKS: usize = 2_000_000;

/// Warns of Deny rules over scopes or claims that a caller evades with no token, or with a token of
/// fewer scopes. The caller evades the rule if the policy still allows a call that it names.
pub(super) fn evaded_deny_rules(
    policy: &Policy,
    spots: &[RuleLocations],
    problems: &mut Diagnostics,
) {
    let budget = Budget::of(MAX_LOOKS / 16);
    for ((index, rule), spots) in policy.rules.iter().enumerate().zip(spots) {
        let requires_token = requires_scopes(rule)
            || !rule.claims.is_empty()
            || rule.conditions().any(|condition| condition.reads().claims);
        if rule.action != Action::Deny || !requires_token {
            continue;
        }
        let subjects = subjects(policy, rule);
        let evasion =
            subjects.iter().find_map(|subject| evasion(policy, (index, rule), subject, &budget));
        let Some(evasion) = evasion else { continue };
        let Location { place, keys } = &spots.rule;
        problems.lint(Lint::EvadedDenyRule, *place, keys, evasion.message(&rule.label(index)));
    }
}

fn requires_scopes(rule: &Rule) -> bool {
    !rule.scopes.names().is_empty() || rule.conditions().any(|condition| condition.reads().scopes)
}

/// A way to evade a Deny rule.
enum Evasion<'p> {
    NoToken,
    /// The caller presents a token with exactly these scopes, perhaps none.
    FewerScopes(&'p [String]),
}

impl Evasion<'_> {
    fn message(&self, rule: &str) -> String {
        match self {
            Self::NoToken => format!(
                "a caller evades `{rule}` by presenting no token, and the policy still allows a \
                 call that it names: set `unauthenticated: Challenge`, or let the rules that allow \
                 it require a scope or a claim"
            ),
            Self::FewerScopes(scopes) => {
                let scopes = match scopes {
                    [] => "no scopes".to_owned(),
                    scopes => format!("only the scopes `{}`", scopes.join(" ")),
                };
                format!(
                    "a caller evades `{rule}` by requesting a token with {scopes}, and the policy \
                     still allows a call that it names: deny by a claim, which a client cannot \
                     leave out, or let the rules that allow it require a scope that such callers \
                     are never granted"
                )
            }
        }
    }
}

/// Returns the targets that a rule names. Each stands for all calls that match it.
fn subjects<'p>(policy: &Policy, rule: &'p Rule) -> Vec<CallTarget<'p>> {
    match &rule.targets {
        None => {
            let kinds = TargetKind::OF_TARGETS.into_iter();
            let covered = kinds.filter(|feature| policy.governed.includes(*feature));
            covered.map(|feature| CallTarget::pattern(Backend::Unknown, feature, "*")).collect()
        }
        Some(targets) => targets.iter().flat_map(spellings).collect(),
    }
}

/// Returns a target as the file spells it and, if the target has one, in its folded form.
fn spellings(target: &Target) -> impl Iterator<Item = CallTarget<'_>> {
    let folded = target.folded_name().map(|name| {
        let backend = target.folded_backend().map_or(Backend::Unknown, Backend::Named);
        CallTarget::pattern(backend, target.feature, name.as_str())
    });
    [Some(CallTarget::of_target(target)), folded].into_iter().flatten()
}

fn evasion<'p>(
    policy: &'p Policy,
    (index, denying): (usize, &Rule),
    subject: &CallTarget<'_>,
    budget: &Budget,
) -> Option<Evasion<'p>> {
    let head = Head::default();
    let facts = |unknown| EvalContext {
        unknown,
        ..EvalContext::new(policy.dialect, &head, None, subject, budget)
    };
    let no_token = Unknown { head: true, name: true, ..Unknown::NOTHING };
    if policy.unauthenticated != Unauthenticated::Challenge
        && policy.may_evade(index, &facts(no_token), &Grants::default())
    {
        return Some(Evasion::NoToken);
    }
    if !requires_scopes(denying) {
        return None;
    }
    let token = facts(Unknown { claims: true, ..no_token });
    if policy.may_evade(index, &token, &Grants::default()) {
        return Some(Evasion::FewerScopes(&[]));
    }
    // A condition, which may require further scopes, reads the scopes here.
    if denying.scopes.names().is_empty() {
        return None;
    }
    let later = policy.rules.iter().skip(index + 1);
    let allowing = later.filter(|rule| {
        rule.action == Action::Allow && !rule.scopes.names().is_empty() && names_some(rule, subject)
    });
    let mut evading = allowing.filter(|rule| {
        let names = rule.scopes.names();
        let token = EvalContext { extra_scopes: names, ..token };
        !budget.is_spent() && policy.may_evade(index, &token, &Grants::exactly(&rule.scopes))
    });
    evading.next().map(|rule| Evasion::FewerScopes(rule.scopes.names()))
}

/// Returns true if a rule can match some of the calls that a target stands for.
fn names_some(rule: &Rule, subject: &CallTarget<'_>) -> bool {
    let overlaps = |target: &Target| target.extent(subject).0 != Overlap::Nothing;
    rule.targets.as_ref().is_none_or(|targets| targets.iter().any(overlaps))
}
