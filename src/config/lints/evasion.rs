//! Deny rules that a caller evades.

use std::cell::Cell;

use super::super::Spot;
use super::super::problem::{Lint, Problems};
use super::super::rules::RuleSpots;
use super::folded_target;
use crate::head::Head;
use crate::mcp::Feature;
use crate::policy::{
    Action, Backend, Budget, Comparison, Condition, ConditionErrors, Dialect, Extent, Facts,
    Policy, Rule, Subject, Target, Unauthenticated, Unknown, is_scope_token,
};

/// The most rules of a policy that are looked at for all its Deny rules together: a policy of
/// thousands of rules is not searched to its end.
const MAX_LOOKS: usize = 2_000_000;

/// Finds Deny rules over scopes or claims that a caller evades by leaving out the token, or by
/// a token with fewer scopes, while the policy still allows a call that the rule names.
pub(super) fn evaded_deny_rules(policy: &Policy, spots: &[RuleSpots], problems: &mut Problems) {
    let mut search = None;
    for ((index, rule), spots) in policy.rules.iter().enumerate().zip(spots) {
        let requires_token = requires_scopes(rule)
            || !rule.claims.is_empty()
            || rule.conditions().any(|condition| condition.reads().claims);
        if rule.action != Action::Deny || !requires_token {
            continue;
        }
        let search = search.get_or_insert_with(|| Search::new(policy));
        let subjects = search.subjects(index);
        let evasion = subjects.iter().find_map(|subject| search.evasion((index, rule), subject));
        let Some(evasion) = evasion else { continue };
        let Spot { place, keys } = &spots.rule;
        problems.lint(Lint::EvadedDenyRule, *place, keys, evasion.message(&rule.label(index)));
    }
}

fn requires_scopes(rule: &Rule) -> bool {
    !rule.scopes.names().is_empty() || rule.conditions().any(|condition| condition.reads().scopes)
}

/// A way around a Deny rule.
enum Evasion {
    NoToken,
    /// A token with just these scopes, perhaps none.
    FewerScopes(Vec<String>),
}

impl Evasion {
    fn message(&self, rule: &str) -> String {
        match self {
            Self::NoToken => format!(
                "a caller evades `{rule}` by presenting no token, and the policy still allows a \
                 call that it names: set `unauthenticated: Challenge`, or let the rules that allow \
                 it require a scope or a claim"
            ),
            Self::FewerScopes(scopes) => {
                let scopes = match scopes.as_slice() {
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

/// The calls that a rule applies to, of those that a subject stands for.
#[derive(Clone, Copy)]
struct Range {
    /// It applies to some.
    may: bool,
    /// It applies to all.
    must: bool,
}

impl Range {
    const NOTHING: Self = Self { may: false, must: false };
    const SOME: Self = Self { may: true, must: false };
    const ALL: Self = Self { may: true, must: true };

    fn and(self, other: Self) -> Self {
        Self { may: self.may && other.may, must: self.must && other.must }
    }

    fn or(self, other: Self) -> Self {
        Self { may: self.may || other.may, must: self.must || other.must }
    }
}

/// A caller whose token, if there is one, has just these scopes, and any claims.
#[derive(Clone, Copy)]
struct Caller<'c> {
    has_token: bool,
    scopes: &'c [String],
}

/// The search for a rule that allows what a Deny rule names. Names and backends compare folded,
/// since that is how Deny rules name them.
struct Search<'p> {
    policy: &'p Policy,
    /// The targets of each rule.
    targets: Vec<Option<Vec<Target>>>,
    head: Head,
    budget: Budget,
    looks: Cell<usize>,
}

impl<'p> Search<'p> {
    fn new(policy: &'p Policy) -> Self {
        let folded = |target: &Target| match policy.dialect {
            Dialect::Native => folded_target(target),
            Dialect::McpRoute => {
                let named = (target.feature, target.backend.clone(), target.name.clone());
                Target::new(named, target.when.clone(), Comparison::Exact)
            }
        };
        let targets = policy
            .rules
            .iter()
            .map(|rule| rule.targets.as_ref().map(|targets| targets.iter().map(folded).collect()));
        Self {
            policy,
            targets: targets.collect(),
            head: Head::default(),
            budget: Budget::of(MAX_LOOKS / 16),
            looks: Cell::new(0),
        }
    }

    /// Returns the targets that a rule names, each standing for all that match it.
    fn subjects(&self, index: usize) -> Vec<Subject<'_>> {
        let Some(Some(targets)) = self.targets.get(index) else {
            let kinds = Feature::OF_TARGETS.into_iter();
            let covered = kinds.filter(|feature| self.policy.governed.includes(*feature));
            return covered.map(|kind| Subject::pattern(Backend::Unknown, kind, "*")).collect();
        };
        targets.iter().map(subject).collect()
    }

    fn evasion(&self, denying: (usize, &Rule), subject: &Subject<'_>) -> Option<Evasion> {
        let (index, rule) = denying;
        let nobody = Caller { has_token: false, scopes: &[] };
        if self.policy.unauthenticated != Unauthenticated::Challenge
            && self.is_evaded_by(index, subject, nobody)
        {
            return Some(Evasion::NoToken);
        }
        let scopeless = Caller { has_token: true, scopes: &[] };
        if !requires_scopes(rule) {
            return None;
        }
        if self.is_evaded_by(index, subject, scopeless) {
            return Some(Evasion::FewerScopes(Vec::new()));
        }
        // A rule that applies without scopes does not require any.
        if self.range(index, rule, subject, scopeless).may {
            return None;
        }
        let later = self.policy.rules.iter().enumerate().skip(index + 1);
        let allowing = later.filter(|(_, rule)| rule.action == Action::Allow);
        let offered = allowing
            .filter(|(later, rule)| self.target_range(*later, rule, subject, None).may)
            .flat_map(|(_, rule)| offered_scopes(rule));
        let evades = |scopes: &Vec<String>| {
            self.is_evaded_by(index, subject, Caller { has_token: true, scopes })
        };
        offered.take_while(|_| !self.is_spent()).find(evades).map(Evasion::FewerScopes)
    }

    /// Whether a Deny rule does not apply to this caller, and a rule after it, or the default
    /// action, allows a call that it names. What rules before it allow is allowed to all callers
    /// who have these scopes, whether the Deny rule would apply to them or not.
    fn is_evaded_by(&self, denying: usize, subject: &Subject<'_>, caller: Caller<'_>) -> bool {
        for (index, rule) in self.policy.rules.iter().enumerate() {
            self.looks.set(self.looks.get() + 1);
            if self.is_spent() {
                return false;
            }
            let is_later = index > denying;
            let range = self.range(index, rule, subject, caller);
            match rule.action {
                Action::Deny if index == denying && range.may => return false,
                Action::Deny if range.must => return false,
                Action::Allow if is_later && range.may => return true,
                Action::Allow if !is_later && range.must => return false,
                Action::Allow | Action::Deny => {}
            }
        }
        self.policy.default_action == Action::Allow
    }

    fn is_spent(&self) -> bool {
        self.looks.get() >= MAX_LOOKS || self.budget.is_spent()
    }

    fn range(&self, index: usize, rule: &Rule, subject: &Subject<'_>, caller: Caller<'_>) -> Range {
        let (required, table) = (rule.scopes.names(), &self.policy.scopes);
        if !required.is_empty() {
            let granted = table.granted(caller.scopes.iter().map(String::as_str));
            if !required.iter().all(|scope| table.is_in(scope, &granted)) {
                return Range::NOTHING;
            }
        }
        let claims = match (rule.claims.is_empty(), caller.has_token) {
            (true, _) => Range::ALL,
            (false, true) => Range::SOME,
            (false, false) => return Range::NOTHING,
        };
        let targets = self.target_range(index, rule, subject, Some(caller));
        let own = match &rule.cel {
            Some(condition) if targets.may => {
                self.condition_range(rule.action, condition, subject, caller)
            }
            _ => Range::ALL,
        };
        claims.and(targets).and(own)
    }

    /// Returns the range of the targets of a rule; without a caller, that of their names alone.
    fn target_range(
        &self,
        index: usize,
        rule: &Rule,
        subject: &Subject<'_>,
        caller: Option<Caller<'_>>,
    ) -> Range {
        let Some(Some(targets)) = self.targets.get(index) else { return Range::ALL };
        let range = |target: &Target| {
            let is_for_all = target.name.as_str() == "*" && target.backend.is_none();
            let named = match target.extent(subject) {
                (Extent::Nothing, _) => return Range::NOTHING,
                // An Allow rule matches one spelling of a name.
                (Extent::All, true) if rule.action == Action::Deny || is_for_all => Range::ALL,
                (Extent::All | Extent::Some, _) => Range::SOME,
            };
            match (&target.when, caller) {
                (Some(condition), Some(caller)) => {
                    named.and(self.condition_range(rule.action, condition, subject, caller))
                }
                _ => named,
            }
        };
        targets.iter().map(range).fold(Range::NOTHING, Range::or)
    }

    fn condition_range(
        &self,
        action: Action,
        condition: &Condition,
        subject: &Subject<'_>,
        caller: Caller<'_>,
    ) -> Range {
        // The subject has one spelling of the backend, or none.
        if condition.reads().backend {
            return Range::SOME;
        }
        let unknown = Unknown { head: true, name: true, claims: caller.has_token, scopes: false };
        let facts = Facts::new(self.policy.dialect, &self.head, None, subject, &self.budget);
        let possible = condition.possible(&Facts { unknown, more_scopes: caller.scopes, ..facts });
        let is_deny = action == Action::Deny;
        let fails = is_deny && self.policy.condition_errors == ConditionErrors::Deny;
        Range {
            may: possible.truth || (possible.failure && fails) || (possible.spent && is_deny),
            must: !possible.falsity && (!possible.failure || fails) && (!possible.spent || is_deny),
        }
    }
}

/// Returns the calls of a target as a Deny rule compares them.
fn subject(target: &Target) -> Subject<'_> {
    let backend = target.folded_backend().or(target.backend.as_deref());
    let name = target.folded_name().unwrap_or(&target.name).as_str();
    let backend = backend.map_or(Backend::Unknown, Backend::Named);
    Subject::pattern(backend, target.feature, name)
}

/// Returns sets of scopes with which a rule may allow: those that it requires, perhaps with one
/// that its conditions may look for, which is any text in them.
fn offered_scopes(rule: &Rule) -> impl Iterator<Item = Vec<String>> {
    let required = rule.scopes.names();
    let conditions = rule.conditions().filter(|condition| condition.reads().scopes);
    let texts = conditions.flat_map(|condition| condition.source().split(['"', '\'']));
    let named = texts.filter(|text| is_scope_token(text));
    let with = move |scope: &str| [required, &[scope.to_owned()]].concat();
    std::iter::once(required.to_vec()).chain(named.map(with))
}
