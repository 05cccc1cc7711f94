//! The search over the rules of a policy.
//!
//! A decision, a challenge and a list entry are results of one partial evaluation. For each rule,
//! the search finds whether the rule may apply, must apply, or cannot apply to a call.
//!
//! If all facts of a call are known, the first rule that applies decides. If some facts are
//! unknown, a rule that only may apply leaves later rules relevant.

use std::collections::HashSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::condition::{Outcome, OutcomeSet};
use super::index::Candidates;
use super::{
    Action, Condition, ConditionErrors, EvalContext, Grants, Overlap, Policy, RequiredScopes, Rule,
    Target,
};
use crate::mcp::{Call, Problem};

/// The rules that may match a call. The search evaluates each rule only as far as necessary.
pub(super) struct Search<'p, 'e, 'c> {
    policy: &'p Policy,
    /// The call. `None` if the parameters of calls are not known.
    call: Option<&'e Call<'c>>,
    facts: &'e EvalContext<'e>,
    grants: &'e Grants,
    /// The indices of rules that the search has not yet examined.
    rest: Candidates<'p>,
    candidates: Vec<Candidate<'p>>,
    cache: ConditionCache,
    /// True if the search for step-up scopes ended early, because its budget is spent.
    is_cut_short: bool,
}

/// A rule whose targets and claims may match the call.
#[derive(Debug)]
pub(super) struct Candidate<'p> {
    pub(super) index: usize,
    rule: &'p Rule,
    claims: OutcomeSet,
    /// The outcome of the rule's conditions without extra scopes, after their evaluation.
    conditions: Option<OutcomeSet>,
    /// The outcome of each evaluated condition.
    pub(super) outcomes: Vec<(ConditionRef, Outcome)>,
}

impl Candidate<'_> {
    /// Returns true if a part of the rule could not be evaluated.
    pub(super) fn has_failed(&self) -> bool {
        let failed = |(_, outcome): &(ConditionRef, Outcome)| matches!(outcome, Outcome::Failed(_));
        self.claims.failure
            || self.conditions.is_some_and(|conditions| conditions.failure)
            || self.outcomes.iter().any(failed)
    }
}

/// A reference to one of the conditions of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConditionRef {
    /// The rule's own condition.
    Cel,
    /// The condition of the target with this index.
    When(usize),
}

/// The effects of a rule on the calls that remain undecided. At least one field is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Effects {
    /// True if the rule allows some calls.
    allows: bool,
    /// True if the rule denies some calls.
    denies: bool,
    /// True if the rule does not apply to some calls.
    passes: bool,
}

impl Effects {
    /// Returns true if the rule denies every call.
    fn only_denies(self) -> bool {
        self.denies && !self.allows && !self.passes
    }
}

/// Scopes to evaluate rules with, as if the caller had been granted these.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExtraScopes<'p> {
    scopes: &'p RequiredScopes,
    /// The index of the rule that must allow by itself, because that rule names the scopes. `None`
    /// if any rule may allow.
    granting_rule: Option<usize>,
}

/// The result of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// True if the call is allowed or, where facts are unknown, if some call is.
    pub(super) allowed: bool,
    /// The index of the rule that decides. `None` if the default action decides.
    pub(super) rule: Option<usize>,
    /// True if the deciding rule denies because a part of the rule cannot be evaluated.
    pub(super) failed: bool,
}

/// A cache that lets several rules share one evaluation of a condition.
#[derive(Debug, Default)]
struct ConditionCache(FxHashMap<*const Condition, Outcome>);

impl ConditionCache {
    fn evaluate(
        &mut self,
        condition: &Arc<Condition>,
        call: &Call<'_>,
        facts: &EvalContext<'_>,
    ) -> Result<Outcome, Problem> {
        // The search may evaluate a condition that reads scopes again, with extra scopes.
        if Arc::strong_count(condition) == 1 || condition.reads().scopes {
            return condition.evaluate(call, facts);
        }
        let key = Arc::as_ptr(condition);
        if let Some(outcome) = self.0.get(&key) {
            return Ok(outcome.clone());
        }
        let outcome = condition.evaluate(call, facts)?;
        self.0.insert(key, outcome.clone());
        Ok(outcome)
    }
}

impl<'p, 'e, 'c> Search<'p, 'e, 'c> {
    /// Begins a search for one call, or for all calls of the facts' target if `call` is `None`.
    pub(super) fn new(
        policy: &'p Policy,
        call: Option<&'e Call<'c>>,
        facts: &'e EvalContext<'e>,
        grants: &'e Grants,
    ) -> Self {
        let rest = policy.rules.candidates(facts.subject);
        let (candidates, cache) = (Vec::new(), ConditionCache::default());
        Self { policy, call, facts, grants, rest, candidates, cache, is_cut_short: false }
    }

    /// Returns true if the search ended early, so that untried scopes may allow a denied call.
    pub(super) fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    pub(super) fn into_candidates(self) -> Vec<Candidate<'p>> {
        self.candidates
    }

    /// Evaluates the rules in order, up to the rule that decides.
    ///
    /// With extra scopes, a rule that denies without these scopes still decides, whatever earlier
    /// rules allow. The rule that names the extra scopes must then allow by itself.
    pub(super) fn run(&mut self, extra: Option<ExtraScopes<'p>>) -> Result<Ended, Problem> {
        let (scopes, granting_rule) =
            extra.map_or((None, None), |extra| (Some(extra.scopes), extra.granting_rule));
        let mut allowed = false;
        let mut at = 0;
        while self.look_at(at) {
            let Some(&Candidate { index, rule, .. }) = self.candidates.get(at) else { break };
            if extra.is_some() && self.is_over_after_another_try() {
                return Ok(Ended { allowed: false, rule: None, failed: false });
            }
            let outcome = self.outcome(at, scopes)?;
            let effects = self.effects(rule.action, outcome);
            let ended = |allowed| Ended { allowed, rule: Some(index), failed: !outcome.truth };
            allowed |= effects.allows;
            if granting_rule == Some(index) || (effects.allows && granting_rule.is_none()) {
                return Ok(ended(effects.allows));
            }
            if effects.only_denies() {
                let is_final = !allowed || {
                    let before = self.outcome(at, None)?;
                    self.effects(rule.action, before).only_denies()
                };
                if is_final {
                    return Ok(ended(false));
                }
            }
            at += 1;
        }
        // Rules that the search did not examine, for lack of budget, could deny.
        let is_open = self.call.is_none() && self.facts.budget.is_spent();
        let allowed =
            granting_rule.is_none() && !is_open && self.policy.default_action == Action::Allow;
        Ok(Ended { allowed, rule: None, failed: false })
    }

    /// Returns true if some undecided call passes a Deny rule and a later rule allows that call. A
    /// call that an earlier rule allows does not count.
    pub(super) fn passes(&mut self, denying: usize) -> Result<bool, Problem> {
        let mut at = 0;
        while self.look_at(at) {
            let Some(&Candidate { index, rule, .. }) = self.candidates.get(at) else { break };
            let outcome = self.outcome(at, None)?;
            let Effects { allows, denies, passes } = self.effects(rule.action, outcome);
            if !allows && (!passes || (index == denying && denies)) {
                return Ok(false);
            }
            if allows && index > denying {
                return Ok(true);
            }
            if allows && !passes && !denies && index < denying {
                return Ok(false);
            }
            at += 1;
        }
        Ok(!self.facts.budget.is_spent() && self.policy.default_action == Action::Allow)
    }

    /// Returns the scopes that would turn a denial into an allow. The candidates are Allow rules
    /// that lack only their scopes. The smallest sufficient set wins, and the first among equals.
    /// If no candidate suffices, the search tries the scopes of other rules, which a condition may
    /// read.
    ///
    /// The result includes required scopes that are already granted. So a token with just these
    /// scopes allows the call, unless a condition reads other scopes of the old token.
    pub(super) fn step_up_scopes(&mut self) -> Result<Option<&'p [String]>, Problem> {
        // More scopes never make a rule stop applying, so the rule that denied still denies. Only
        // earlier rules matter, unless a condition reads scopes or the call is unknown.
        if self.policy.rules.reads().scopes || self.call.is_none() {
            while self.look_at(self.candidates.len()) {}
        }
        let granted: HashSet<&str> = self.facts.scopes().collect();
        let offering = self.candidates.iter().enumerate();
        let offering =
            offering.filter(|(_, candidate)| offers_new_scopes(candidate.rule, &granted));
        let mut offers: Vec<(usize, &'p RequiredScopes)> =
            offering.map(|(at, candidate)| (at, &candidate.rule.scopes)).collect();
        offers.sort_by_key(|(_, scopes)| scopes.names().len());
        for (at, scopes) in offers {
            if self.is_over_after_another_try() {
                return Ok(None);
            }
            // Most rules do not apply, and one evaluation per rule shows this.
            let outcome = self.outcome(at, Some(scopes))?;
            let granting_rule = self.candidates.get(at).map(|candidate| candidate.index);
            if self.effects(Action::Allow, outcome).allows
                && self.run(Some(ExtraScopes { scopes, granting_rule }))?.allowed
            {
                return Ok(Some(scopes.names()));
            }
        }
        for scopes in self.fallback_scopes(&granted) {
            if self.run(Some(ExtraScopes { scopes, granting_rule: None }))?.allowed {
                return Ok(Some(scopes.names()));
            }
            if self.is_cut_short {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Charges the budget for one attempt with extra scopes. Returns true if the budget is spent;
    /// the search then ends without scopes.
    fn is_over_after_another_try(&mut self) -> bool {
        if self.is_cut_short || self.facts.budget.spend_a_try() {
            self.is_cut_short = true;
            // A list must not hide an entry that untried scopes may allow, so report the budget as
            // spent.
            if self.call.is_none() {
                self.facts.budget.exhaust();
            }
        }
        self.is_cut_short
    }

    /// Returns the scopes of all rules that a condition may read, the smallest sets first.
    fn fallback_scopes(&self, granted: &HashSet<&str>) -> Vec<&'p RequiredScopes> {
        if !self.policy.rules.reads().scopes {
            return Vec::new();
        }
        let mut seen = HashSet::new();
        let rules = self.policy.rules.iter().filter(|rule| offers_new_scopes(rule, granted));
        let mut others: Vec<&RequiredScopes> =
            rules.map(|rule| &rule.scopes).filter(|scopes| seen.insert(scopes.names())).collect();
        others.sort_by_key(|scopes| scopes.names().len());
        others
    }

    /// Returns true if a candidate with this position exists. Examines further rules as necessary.
    fn look_at(&mut self, at: usize) -> bool {
        while self.candidates.len() <= at {
            let Some(index) = self.rest.next() else { return false };
            if self.call.is_none() && self.facts.budget.spend_a_look(self.facts.subject.name) {
                return false;
            }
            let Some(rule) = self.policy.rules.get(index) else { continue };
            if rule.targets.is_some() && overlapping_targets(rule, self.facts).next().is_none() {
                continue;
            }
            let claims = self.claims(rule);
            if claims != OutcomeSet::FALSE {
                let (conditions, outcomes) = (None, Vec::new());
                self.candidates.push(Candidate { index, rule, claims, conditions, outcomes });
            }
        }
        true
    }

    fn claims(&self, rule: &Rule) -> OutcomeSet {
        if self.facts.unknown.claims && !rule.claims.is_empty() {
            return OutcomeSet::ANY;
        }
        let holds = rule.claims.iter().map(|claim| claim.holds(self.facts.claims));
        holds.fold(OutcomeSet::TRUE, OutcomeSet::and)
    }

    /// Returns the outcome of a candidate, optionally with extra scopes. Checks scopes first,
    /// because evaluating conditions costs more.
    fn outcome(
        &mut self,
        at: usize,
        extra: Option<&RequiredScopes>,
    ) -> Result<OutcomeSet, Problem> {
        let Some(candidate) = self.candidates.get(at) else { return Ok(OutcomeSet::FALSE) };
        let (rule, claims) = (candidate.rule, candidate.claims);
        let scopes = self.grants.satisfy(rule, extra);
        let scopes = match self.facts.unknown.scopes && scopes == OutcomeSet::FALSE {
            true => OutcomeSet::TRUE.union(OutcomeSet::FALSE),
            false => scopes,
        };
        if scopes == OutcomeSet::FALSE {
            return Ok(scopes);
        }
        let reads_scopes = || rule.conditions().any(|condition| condition.reads().scopes);
        let conditions = match (candidate.conditions, extra) {
            (_, Some(extra)) if reads_scopes() => {
                let facts = EvalContext { extra_scopes: extra.names(), ..*self.facts };
                self.conditions(rule, &facts, &mut Vec::new())?
            }
            (Some(conditions), _) => conditions,
            (None, _) => {
                let mut outcomes = Vec::new();
                let conditions = self.conditions(rule, self.facts, &mut outcomes)?;
                if let Some(candidate) = self.candidates.get_mut(at) {
                    candidate.conditions = Some(conditions);
                    candidate.outcomes = outcomes;
                }
                conditions
            }
        };
        Ok(scopes.and(claims).and(conditions))
    }

    /// Returns the combined outcome of the rule's own condition and its targets' conditions. At
    /// least one matching target must be true. A target without a condition is true.
    fn conditions(
        &mut self,
        rule: &Rule,
        facts: &EvalContext<'_>,
        outcomes: &mut Vec<(ConditionRef, Outcome)>,
    ) -> Result<OutcomeSet, Problem> {
        let own = match &rule.cel {
            Some(condition) => self.condition(ConditionRef::Cel, condition, facts, outcomes)?,
            None => OutcomeSet::TRUE,
        };
        if own == OutcomeSet::FALSE || rule.targets.is_none() {
            return Ok(own);
        }
        let mut targets = OutcomeSet::FALSE;
        for (number, target, extent, is_known) in overlapping_targets(rule, facts) {
            // A call for all resources of a template is allowed or denied as one call.
            if self.call.is_some() && !suffices(rule, extent) {
                continue;
            }
            let when = match &target.when {
                Some(condition) => {
                    self.condition(ConditionRef::When(number), condition, facts, outcomes)?
                }
                None => OutcomeSet::TRUE,
            };
            let when = if is_known { when } else { when.and(OutcomeSet::FAILURE) };
            let is_part = self.call.is_none() && extent != Overlap::All;
            targets = targets.or(if is_part { when.union(OutcomeSet::FALSE) } else { when });
            if targets == OutcomeSet::TRUE {
                break;
            }
        }
        Ok(own.and(targets))
    }

    fn condition(
        &mut self,
        reference: ConditionRef,
        condition: &Arc<Condition>,
        facts: &EvalContext<'_>,
        outcomes: &mut Vec<(ConditionRef, Outcome)>,
    ) -> Result<OutcomeSet, Problem> {
        let Some(call) = self.call else { return Ok(condition.possible(facts)) };
        let outcome = self.cache.evaluate(condition, call, facts)?;
        let possible = OutcomeSet::from(&outcome);
        outcomes.push((reference, outcome));
        Ok(possible)
    }

    /// Returns the effects of a rule with this action and this outcome.
    fn effects(&self, action: Action, outcome: OutcomeSet) -> Effects {
        let OutcomeSet { truth, falsity, failure, spent } = outcome;
        let errors = self.policy.condition_errors;
        let (is_allow, is_deny) = (action == Action::Allow, action == Action::Deny);
        // A condition that cannot be evaluated must not let a call evade a Deny rule, unless the
        // policy says so.
        let error_denies = match errors {
            ConditionErrors::NoMatch => false,
            ConditionErrors::Deny => is_deny,
            ConditionErrors::DenyAny => true,
        };
        // A caller could spend the budget on purpose before a Deny rule is evaluated.
        let spent_denies = is_deny || errors == ConditionErrors::DenyAny;
        Effects {
            allows: truth && is_allow,
            denies: (truth && is_deny) || (failure && error_denies) || (spent && spent_denies),
            passes: falsity || (failure && !error_denies) || (spent && !spent_denies),
        }
    }
}

/// Returns true if the rule's scopes could allow a call that the token's own scopes do not.
///
/// A scope that only a broader scope implies counts as new, because conditions see only the token's
/// own scopes. Challenges can name only scope-tokens; rules of an `MCPRoute` may require others.
fn offers_new_scopes(rule: &Rule, granted: &HashSet<&str>) -> bool {
    rule.action == Action::Allow
        && rule.scopes.are_tokens
        && rule.scopes.names().iter().any(|scope| !granted.contains(scope.as_str()))
}

/// Returns the targets of a rule that overlap the call's target. Each item holds the target's
/// index, the target, the extent of its match, and true if the backend is known.
fn overlapping_targets<'r>(
    rule: &'r Rule,
    facts: &EvalContext<'_>,
) -> impl Iterator<Item = (usize, &'r Target, Overlap, bool)> {
    let subject = facts.subject;
    let is_open = facts.unknown.name;
    rule.targets.iter().flatten().enumerate().filter_map(move |(number, target)| {
        let (extent, is_known) = target.extent(subject);
        // If the name is unknown, the backend is unknown, too.
        let extent =
            if !is_known && is_open && extent == Overlap::All { Overlap::Some } else { extent };
        (extent != Overlap::Nothing).then_some((number, target, extent, is_known || is_open))
    })
}

/// Returns true if a match of this extent makes the rule apply. An Allow rule must match everything
/// that is called; for a Deny rule, any part suffices.
pub(super) fn suffices(rule: &Rule, extent: Overlap) -> bool {
    match rule.action {
        Action::Allow => extent == Overlap::All,
        Action::Deny => extent != Overlap::Nothing,
    }
}
