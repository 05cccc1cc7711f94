//! The decision.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::condition::{Failure, Outcome};
use super::{
    Action, Condition, ConditionErrors, Extent, Facts, Policy, RequiredScopes, Rule, ScopeSet,
    Subject, Target,
};
use crate::mcp::{Call, Problem};

/// Proof that a call was decided and may go on. Only a [`Decision`] gives one,
/// and only [`Policy::evaluate`] makes decisions.
#[derive(Debug)]
pub struct Permit {
    _given_by_decision: (),
}

/// What was decided, and why.
#[derive(Debug)]
pub struct Decision<'p> {
    verdict: Verdict<'p>,
    reason: Reason,
    rule: Option<usize>,
}

/// Whether a call may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict<'p> {
    Allow,
    Deny { remedy: Option<&'p [String]> },
}

impl<'p> Decision<'p> {
    /// The permit to go on; or, if the call is denied, the scopes with which it
    /// would be allowed. `Err(None)`: no scope can change it.
    pub fn permit(&self) -> Result<Permit, Option<&'p [String]>> {
        match self.verdict {
            Verdict::Allow => Ok(Permit { _given_by_decision: () }),
            Verdict::Deny { remedy } => Err(remedy),
        }
    }

    /// In one word.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The number of the rule that decided, from 0; `None` if it was the
    /// default action.
    pub fn rule(&self) -> Option<usize> {
        self.rule
    }
}

/// Why a call was allowed or denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// An Allow rule matched.
    AllowRule,
    /// No rule matched, and the default action is Allow.
    AllowDefault,
    /// More scopes would turn this denial into an allow.
    InsufficientScope,
    /// A Deny rule matched.
    DenyRule,
    /// The condition of a Deny rule could not be evaluated.
    ConditionError,
    /// The conditions would have taken more steps than they may.
    ConditionCost,
    /// No rule matched, and the default action is Deny.
    DenyDefault,
}

impl Reason {
    /// The word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowRule => "allow_rule",
            Self::AllowDefault => "allow_default",
            Self::InsufficientScope => "insufficient_scope",
            Self::DenyRule => "deny_rule",
            Self::ConditionError => "condition_error",
            Self::ConditionCost => "condition_cost",
            Self::DenyDefault => "deny_default",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A decision with what was found on the way to it.
#[derive(Debug)]
pub struct Evaluation<'p> {
    /// What was decided.
    pub decision: Decision<'p>,
    pub(super) policy: &'p Policy,
    pub(super) granted: ScopeSet,
    pub(super) looks: Vec<Look<'p>>,
}

impl<'p> Evaluation<'p> {
    /// The scopes that the rule requires that decided.
    pub fn required_scopes(&self) -> &'p [String] {
        let rule = self.decision.rule.and_then(|index| self.policy.rules.get(index));
        rule.map(|rule| rule.scopes.names()).unwrap_or_default()
    }
}

/// What is known of a rule whose backend, target and claims match the call.
#[derive(Debug)]
pub(super) struct Look<'p> {
    pub(super) index: usize,
    rule: &'p Rule,
    /// Whether the rule's scopes are granted.
    granted: bool,
    /// What the rule's conditions say, once they were asked.
    truth: Option<Truth>,
    /// What each condition said that was asked.
    pub(super) outcomes: Vec<(Asked, Outcome)>,
}

/// One of the conditions of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The rule's own.
    Cel,
    /// That of the target with this number.
    When(usize),
}

/// What the conditions of a rule say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    True,
    False,
    Failed,
    /// What conditions may cost is spent.
    Spent,
}

impl From<&Outcome> for Truth {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::True => Self::True,
            Outcome::False => Self::False,
            Outcome::Failed(Failure::Spent) => Self::Spent,
            Outcome::Failed(_) => Self::Failed,
        }
    }
}

/// What conditions said that stand in several rules: they are evaluated once.
#[derive(Debug, Default)]
struct Said(FxHashMap<*const Condition, Outcome>);

impl Said {
    fn ask(
        &mut self,
        condition: &Arc<Condition>,
        call: &Call<'_>,
        facts: &Facts<'_>,
    ) -> Result<Outcome, Problem> {
        // Who reads scopes may be asked again, with more of them.
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

impl<'p> Look<'p> {
    /// `None` if backend, target or claims are not the rule's.
    fn at(policy: &'p Policy, index: usize, facts: &Facts<'_>, granted: &ScopeSet) -> Option<Self> {
        let rule = policy.rules.get(index).filter(|rule| is_for(rule, facts))?;
        let granted = rule.scopes.are_in(granted, &ScopeSet::default());
        Some(Self { index, rule, granted, truth: None, outcomes: Vec::new() })
    }

    /// Asks the conditions, once.
    fn ask(
        &mut self,
        call: &Call<'_>,
        facts: &Facts<'_>,
        said: &mut Said,
    ) -> Result<Truth, Problem> {
        if let Some(truth) = self.truth {
            return Ok(truth);
        }
        let mut outcomes = Vec::new();
        let truth = truth(self.rule, call, facts, said, &mut outcomes)?;
        self.outcomes = outcomes;
        self.truth = Some(truth);
        Ok(truth)
    }

    /// What the conditions would say if there were more scopes.
    fn ask_if(
        &mut self,
        call: &Call<'_>,
        facts: &Facts<'_>,
        said: &mut Said,
    ) -> Result<Truth, Problem> {
        if self.rule.conditions().any(|condition| condition.reads().scopes) {
            truth(self.rule, call, facts, said, &mut Vec::new())
        } else {
            self.ask(call, facts, said)
        }
    }
}

/// What the conditions of a rule say of a call that it names: the rule's own, and
/// those of the targets that name the call, of which one must be true. A target
/// without a condition is true.
fn truth(
    rule: &Rule,
    call: &Call<'_>,
    facts: &Facts<'_>,
    said: &mut Said,
    outcomes: &mut Vec<(Asked, Outcome)>,
) -> Result<Truth, Problem> {
    let mut ask = |asked, condition: &Arc<Condition>| {
        let outcome = said.ask(condition, call, facts)?;
        let truth = Truth::from(&outcome);
        outcomes.push((asked, outcome));
        Ok(truth)
    };
    let own = match &rule.cel {
        Some(condition) => ask(Asked::Cel, condition)?,
        None => Truth::True,
    };
    if own == Truth::False || rule.targets.is_none() {
        return Ok(own);
    }
    let mut targets = Truth::False;
    for (number, target) in selecting(rule, &facts.subject) {
        let said = match &target.when {
            Some(condition) => ask(Asked::When(number), condition)?,
            None => Truth::True,
        };
        if said == Truth::True {
            return Ok(own);
        }
        if matches!(said, Truth::Failed | Truth::Spent) {
            targets = said;
        }
    }
    Ok(targets)
}

/// Whether backend, target and claims are a rule's, or could be.
pub(super) fn is_for(rule: &Rule, facts: &Facts<'_>) -> bool {
    (rule.targets.is_none() || meeting(rule, &facts.subject).next().is_some())
        && rule.claims.iter().all(|claim| claim.holds(facts.claims))
}

/// Whether the scopes of a rule could allow what is not allowed. What is granted by way of
/// a broader scope is new, too: a condition sees only the scopes that the token itself
/// names.
pub(super) fn could_help(rule: &Rule, facts: &Facts<'_>) -> bool {
    let is_new = |scope: &String| !facts.scopes().any(|named| named == scope);
    rule.action == Action::Allow && rule.scopes.names.iter().any(is_new)
}

/// The targets of a rule that mean what is asked for, or a part of it.
pub(super) fn meeting<'r>(
    rule: &'r Rule,
    subject: &Subject<'_>,
) -> impl Iterator<Item = (usize, &'r Target, Extent)> {
    let subject = *subject;
    let targets = rule.targets.iter().flatten().enumerate();
    targets
        .map(move |(number, target)| (number, target, target.extent(&subject)))
        .filter(|(_, _, extent)| *extent != Extent::Nothing)
}

/// Whether a rule takes what is asked for by a target that means so much of it: to allow, it
/// must mean all, and to deny, any part.
pub(super) fn is_enough(rule: &Rule, extent: Extent) -> bool {
    match rule.action {
        Action::Allow => extent == Extent::All,
        Action::Deny => extent != Extent::Nothing,
    }
}

/// The targets of a rule by which it takes what is asked for.
pub(super) fn selecting<'r>(
    rule: &'r Rule,
    subject: &Subject<'_>,
) -> impl Iterator<Item = (usize, &'r Target)> {
    meeting(rule, subject)
        .filter(|(_, _, extent)| is_enough(rule, *extent))
        .map(|(number, target, _)| (number, target))
}

impl Policy {
    /// Decides a call. It is an error if what a condition reads of the
    /// arguments is ambiguous: then nothing is decided, and the call must not
    /// go on.
    pub fn evaluate(&self, call: &Call<'_>, facts: &Facts<'_>) -> Result<Evaluation<'_>, Problem> {
        let granted = self.scopes.granted(facts.scopes());
        let (mut looks, mut said) = (Vec::new(), Said::default());
        let mut decided = None;
        for index in self.rules.candidates(&facts.subject, 0) {
            let Some(mut look) = Look::at(self, index, facts, &granted) else { continue };
            // Conditions cost more than scopes: ask them only if they matter.
            let truth = if look.granted { look.ask(call, facts, &mut said)? } else { Truth::False };
            let action = look.rule.action;
            looks.push(look);
            if self.takes(action, truth) {
                decided = Some((index, action, truth));
                break;
            }
        }
        let (rule, action, reason) = match decided {
            Some((index, Action::Allow, _)) => (Some(index), Action::Allow, Reason::AllowRule),
            Some((index, Action::Deny, Truth::Failed | Truth::Spent)) => {
                (Some(index), Action::Deny, Reason::ConditionError)
            }
            Some((index, Action::Deny, _)) => (Some(index), Action::Deny, Reason::DenyRule),
            None if self.default_action == Action::Allow => {
                (None, Action::Allow, Reason::AllowDefault)
            }
            None => (None, Action::Deny, Reason::DenyDefault),
        };
        let decision = match action {
            Action::Allow => Decision { verdict: Verdict::Allow, reason, rule },
            Action::Deny => {
                let was_spent = facts.budget.is_spent();
                let remedy = self.challenge(&mut looks, &mut said, &granted, call, facts)?;
                let reason = match remedy {
                    Some(_) => Reason::InsufficientScope,
                    None if was_spent => Reason::ConditionCost,
                    None => reason,
                };
                Decision { verdict: Verdict::Deny { remedy }, reason, rule }
            }
        };
        Ok(Evaluation { decision, policy: self, granted, looks })
    }

    /// Whether a rule takes a call of which its conditions say this.
    pub(super) fn takes(&self, action: Action, truth: Truth) -> bool {
        match truth {
            Truth::True => true,
            Truth::False => false,
            // It must not open what a Deny rule would close, unless the policy
            // says so.
            Truth::Failed => {
                action == Action::Deny && self.condition_errors == ConditionErrors::Deny
            }
            // A caller could spend it all before the rule that would deny.
            Truth::Spent => action == Action::Deny,
        }
    }

    /// The scopes that would turn a denial into an allow. The candidates are the
    /// Allow rules that take the call but for their scopes; those of them whose
    /// scopes, once granted, make an Allow rule the first to take the call,
    /// compete: the fewest scopes win, the first among equals.
    ///
    /// All of the rule's scopes, those that are granted already too: a client
    /// that gets a token with just these can make the call.
    fn challenge<'p>(
        &'p self,
        looks: &mut Vec<Look<'p>>,
        said: &mut Said,
        granted: &ScopeSet,
        call: &Call<'_>,
        facts: &Facts<'_>,
    ) -> Result<Option<&'p [String]>, Problem> {
        // Granting scopes makes more rules match, never fewer, so the rule that
        // denied still would, and only those before it matter. Unless a condition
        // reads scopes.
        if self.rules.reads().scopes {
            let next = looks.last().map_or(0, |look| look.index + 1);
            let rest = self.rules.candidates(&facts.subject, next);
            looks.extend(rest.filter_map(|index| Look::at(self, index, facts, granted)));
        }
        let is_candidate = |look: &&Look<'p>| could_help(look.rule, facts);
        let mut candidates: Vec<(usize, &'p RequiredScopes)> =
            looks.iter().filter(is_candidate).map(|look| (look.index, &look.rule.scopes)).collect();
        candidates.sort_by_key(|(_, scopes)| scopes.names.len());
        for (index, scopes) in candidates {
            // Most are not for this call: that is found out by one look each.
            let with_more = Facts { more_scopes: &scopes.names, ..*facts };
            let at = looks.partition_point(|look| look.index < index);
            let takes = match looks.get_mut(at) {
                Some(look) => self.takes(Action::Allow, look.ask_if(call, &with_more, said)?),
                None => false,
            };
            if takes
                && self.would_allow(looks, said, granted, (scopes, Some(index)), call, facts)?
            {
                return Ok(Some(&scopes.names));
            }
        }
        for scopes in self.other_scopes(facts) {
            if self.would_allow(looks, said, granted, (scopes, None), call, facts)? {
                return Ok(Some(&scopes.names));
            }
        }
        Ok(None)
    }

    /// The scopes of all rules that may be what a condition asks for, the fewest first.
    pub(super) fn other_scopes(&self, facts: &Facts<'_>) -> Vec<&RequiredScopes> {
        if !self.rules.reads().scopes {
            return Vec::new();
        }
        let mut seen = HashSet::new();
        let rules = self.rules.iter().filter(|rule| could_help(rule, facts));
        let mut others: Vec<&RequiredScopes> = rules
            .map(|rule| &rule.scopes)
            .filter(|scopes| seen.insert(scopes.names.as_slice()))
            .collect();
        others.sort_by_key(|scopes| scopes.names.len());
        others
    }

    /// Whether the call is allowed once scopes are granted. If they are those of the
    /// rule `by`, this rule must take the call too, and stand before whatever
    /// denied the call and still would.
    fn would_allow(
        &self,
        looks: &mut [Look<'_>],
        said: &mut Said,
        granted: &ScopeSet,
        (more, by): (&RequiredScopes, Option<usize>),
        call: &Call<'_>,
        facts: &Facts<'_>,
    ) -> Result<bool, Problem> {
        let with_more = Facts { more_scopes: &more.names, ..*facts };
        let mut allowed = false;
        for look in looks {
            let is_asked_for = by == Some(look.index);
            let takes = look.rule.scopes.are_in(granted, &more.granted)
                && self.takes(look.rule.action, look.ask_if(call, &with_more, said)?);
            if takes && look.rule.action == Action::Deny {
                let denied = look.granted && self.takes(Action::Deny, look.ask(call, facts, said)?);
                if denied || !allowed {
                    return Ok(false);
                }
            }
            allowed |= takes;
            if is_asked_for || (allowed && by.is_none()) {
                return Ok(takes);
            }
        }
        Ok(by.is_none() && self.default_action == Action::Allow)
    }
}
