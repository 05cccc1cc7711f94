//! Decisions about calls, and the proof that a call may continue.

use std::fmt;

use super::search::{Candidate, Ended, Search};
use super::{CallTarget, EvalContext, Grants, Policy};
use crate::mcp::{Call, Problem};

/// Proof that a call was decided and may continue. Only a [`Decision`] gives a permit, and only
/// [`Policy::evaluate`] makes decisions.
#[derive(Debug)]
pub struct Permit {
    _given_by_decision: (),
}

/// The decision about a call, with its reason.
#[derive(Debug)]
pub struct Decision<'p> {
    verdict: Verdict<'p>,
    reason: Reason,
    rule: Option<usize>,
}

/// The effect of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict<'p> {
    Allow,
    Deny { remedy: Option<&'p [String]> },
}

impl<'p> Decision<'p> {
    /// Returns the permit to continue, if the call is allowed.
    ///
    /// # Errors
    /// If the call is denied: the scopes that would allow the call. `None` if no scopes are known
    /// to allow the call.
    pub fn permit(&self) -> Result<Permit, Option<&'p [String]>> {
        match self.verdict {
            Verdict::Allow => Ok(Permit { _given_by_decision: () }),
            Verdict::Deny { remedy } => Err(remedy),
        }
    }

    /// Returns the reason for the decision.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the index of the rule that decided, from 0. Returns `None` if no rule decided.
    pub fn rule(&self) -> Option<usize> {
        self.rule
    }
}

/// The reason for an allow or a denial.
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
    /// The deciding rule denied because a part of the rule could not be evaluated.
    ConditionError,
    /// The conditions, or the search for step-up scopes, exceeded the limit on evaluation cost.
    ConditionCost,
    /// No rule matched, and the default action is Deny.
    DenyDefault,
    /// A selector of an `MCPRoute` exposes the target, and rules do not decide about this kind of
    /// target.
    Selected,
    /// A selector of an `MCPRoute` hides the target.
    NotSelected,
}

impl Reason {
    /// Returns the reason as an identifier for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowRule => "allow_rule",
            Self::AllowDefault => "allow_default",
            Self::InsufficientScope => "insufficient_scope",
            Self::DenyRule => "deny_rule",
            Self::ConditionError => "condition_error",
            Self::ConditionCost => "condition_cost",
            Self::DenyDefault => "deny_default",
            Self::Selected => "selected",
            Self::NotSelected => "not_selected",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A decision, with the results that led to the decision.
#[derive(Debug)]
pub struct Evaluation<'p> {
    /// The decision.
    pub decision: Decision<'p>,
    pub(super) policy: &'p Policy,
    pub(super) grants: Grants,
    pub(super) candidates: Vec<Candidate<'p>>,
}

impl<'p> Evaluation<'p> {
    /// Returns the scopes that the deciding rule requires.
    pub fn required_scopes(&self) -> &'p [String] {
        let rule = self.decision.rule.and_then(|index| self.policy.rules.get(index));
        rule.map(|rule| rule.scopes.names()).unwrap_or_default()
    }
}

impl Policy {
    /// Decides a call.
    ///
    /// # Errors
    /// If a condition reads ambiguous arguments. The call is then undecided and must not continue.
    pub fn evaluate(
        &self,
        call: &Call<'_>,
        facts: &EvalContext<'_>,
    ) -> Result<Evaluation<'_>, Problem> {
        let grants = Grants::with(self, facts.claims, facts.extra_scopes);
        if let Some(decision) = self.selected(facts.subject) {
            return Ok(Evaluation { decision, policy: self, grants, candidates: Vec::new() });
        }
        let mut search = Search::new(self, Some(call), facts, &grants);
        let Ended { allowed, rule, failed } = search.run(None)?;
        let is_default = rule.is_none();
        let decision = if allowed {
            let reason = if is_default { Reason::AllowDefault } else { Reason::AllowRule };
            Decision { verdict: Verdict::Allow, reason, rule }
        } else {
            let remedy = search.step_up_scopes()?;
            let is_proven = !facts.budget.is_spent() && !search.is_cut_short();
            let reason = match remedy {
                Some(_) => Reason::InsufficientScope,
                None if !is_proven => Reason::ConditionCost,
                None if is_default => Reason::DenyDefault,
                None if failed => Reason::ConditionError,
                None => Reason::DenyRule,
            };
            Decision { verdict: Verdict::Deny { remedy }, reason, rule }
        };
        let candidates = search.into_candidates();
        Ok(Evaluation { decision, policy: self, grants, candidates })
    }

    /// Returns the decision, if selectors of an `MCPRoute` alone decide about the target. Returns
    /// `None` if the rules decide.
    fn selected(&self, subject: &CallTarget<'_>) -> Option<Decision<'_>> {
        let (verdict, reason) = match self.exposes(subject) {
            false => (Verdict::Deny { remedy: None }, Reason::NotSelected),
            true if self.governed.includes(subject.feature) => return None,
            true => (Verdict::Allow, Reason::Selected),
        };
        Some(Decision { verdict, reason, rule: None })
    }
}
