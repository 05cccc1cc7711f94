//! Authorization policies and their decisions.
//!
//! A [`Policy`] is an ordered list of rules. The first rule that matches a call decides the call;
//! if no rule matches, the policy's default action decides. This module reads no file, no clock and
//! no network, and names no protocol.
//!
//! Loading a policy establishes these invariants, and all other code relies on them:
//!
//! - Conditions are compiled and checked ([`Condition`]).
//! - Scopes are interned ([`ScopeTable`]). Except in an `MCPRoute`, scopes are scope-tokens of
//!   [RFC 6749, section 3.3].
//! - A rule that names targets or scopes names at least one.
//!
//! [RFC 6749, section 3.3]: https://www.rfc-editor.org/rfc/rfc6749#section-3.3

mod backends;
mod claim;
pub mod condition;
mod decide;
mod facts;
mod fold;
mod glob;
mod grants;
mod index;
mod labels;
mod matching;
mod per_kind;
mod scope;
mod search;
mod selection;
mod target;
mod trace;
mod visibility;

use std::sync::Arc;

use self::index::{Candidates, Index};
use crate::claims::Claims;
use crate::mcp::{AppliesTo, ListKind, TargetKind};
pub use backends::{Exposed, NameSelector, Names, RouteBackends, SharedName};
pub use claim::{ClaimType, ClaimValue, RequiredClaim};
pub use condition::{
    Budget, Condition, ConditionError, Inputs, OutcomeSet, Pattern, SuspicionKind,
};
pub use decide::{Decision, Evaluation, Permit, Reason};
pub use facts::{EvalContext, Unknown, UnresolvedTarget};
pub use glob::{Glob, Overlap};
pub use grants::Grants;
pub use labels::{Label, Labels};
pub use matching::{HostPattern, PathPrefix, RequestMatcher};
pub use scope::{HierarchyMistake, MOST_DERIVED, ScopeSet, ScopeTable, is_scope_token};
pub use selection::{AmbiguousPath, Selector, Unselectable, select};
pub use target::{Backend, BackendSource, CallTarget, Comparison, Target};
pub use trace::{ConditionTrace, RuleTrace, TargetTrace};
pub use visibility::Visibility;

/// The language of a policy's document, which determines how rules and conditions compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// A policy file of mcp-authz. A rule cannot be evaluated where a server could read the request
    /// differently than the rule does.
    #[default]
    Native,
    /// An `MCPRoute`, which compares as Agent Router does.
    McpRoute,
}

/// The effect of a rule, or of the default action, on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The call may continue.
    Allow,
    /// The call is denied.
    Deny,
}

/// The treatment of a request that carries no verified token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unauthenticated {
    /// The policy evaluates the request like any other, with no scope granted.
    Forbid,
    /// The client receives a 401 response that names the place to log in.
    Challenge,
}

/// The tokens that the policy accepts as verified. Any other token counts as no token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AcceptedTokens {
    /// The accepted values of `iss`. If the list is empty, any issuer is accepted.
    pub issuers: Vec<String>,
    /// The accepted values of `aud`; one audience of the token must be among them. If the list is
    /// empty, any audience is accepted.
    pub audiences: Vec<String>,
}

impl AcceptedTokens {
    /// Checks that the policy accepts a token with these claims. Both claims are compared literally
    /// ([RFC 7519, sections 4.1.1 and 4.1.3]).
    ///
    /// [RFC 7519, sections 4.1.1 and 4.1.3]: https://www.rfc-editor.org/rfc/rfc7519#section-4.1.1
    ///
    /// # Errors
    /// The name of the claim that is missing or has no accepted value.
    pub fn check(&self, claims: &Claims) -> Result<(), &'static str> {
        let Self { issuers, audiences } = self;
        let is_issuer = |issuer: &str| issuers.iter().any(|accepted| accepted == issuer);
        let is_audience = |audience: &str| audiences.iter().any(|accepted| accepted == audience);
        if !issuers.is_empty() && !claims.text("iss").is_some_and(is_issuer) {
            return Err("iss");
        }
        if !audiences.is_empty() && !claims.audiences().any(is_audience) {
            return Err("aud");
        }
        Ok(())
    }
}

/// The use that the gate makes of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// A denied call does not continue.
    Enforce,
    /// The decision is logged, and every call continues.
    Shadow,
}

/// The treatment of a batch of messages (MCP 2025-03-26).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batches {
    /// Every batch is rejected.
    Reject,
    /// A batch continues if every call in the batch is allowed.
    Authorize,
}

/// The entries of a list that a caller sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListVisibility {
    /// All entries that the server returns.
    Unfiltered,
    /// The entries for which the policy allows a call with at least some arguments.
    Permitted,
    /// The permitted entries, and those for which more scopes would allow a call. The list names
    /// these scopes.
    Reachable,
}

/// The entries that a caller sees, for each kind of list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListVisibilities {
    /// The list of tools.
    pub tools: ListVisibility,
    /// The list of prompts.
    pub prompts: ListVisibility,
    /// The lists of resources and of resource templates.
    pub resources: ListVisibility,
}

impl ListVisibilities {
    /// All entries of every list, unfiltered.
    pub const UNFILTERED: Self = Self {
        tools: ListVisibility::Unfiltered,
        prompts: ListVisibility::Unfiltered,
        resources: ListVisibility::Unfiltered,
    };

    /// Returns the entries that a caller sees in the list of this kind of target.
    pub fn of(self, feature: TargetKind) -> ListVisibility {
        match feature {
            TargetKind::Tool => self.tools,
            TargetKind::Prompt => self.prompts,
            TargetKind::Resource | TargetKind::ResourceTemplate => self.resources,
            TargetKind::Method => ListVisibility::Unfiltered,
        }
    }
}

/// The treatment of a request for the state or result of a task (MCP 2025-11-25, and the later
/// tasks extension). The response contains a tool's output, but the request names no tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tasks {
    /// The request continues, unless the policy governs methods and no rule allows the method.
    Continue,
    /// The request is denied.
    Deny,
}

/// The effect of a rule that would apply, except that one of its conditions cannot be evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionErrors {
    /// A Deny rule denies, and an Allow rule does not match.
    Deny,
    /// The rule does not match, so that later rules can still allow the call.
    NoMatch,
    /// The rule denies the call, even if the rule is an Allow rule.
    DenyAny,
}

/// One rule. Omitted fields match every call.
#[derive(Debug)]
pub struct Rule {
    /// The name, for logs and for `check`. A caller never sees this name.
    pub name: Option<String>,
    /// The effect on a call that the rule matches.
    pub action: Action,
    /// The required scopes. All of these must be granted.
    pub scopes: RequiredScopes,
    /// The required claims. The caller must have all of these.
    pub claims: Vec<RequiredClaim>,
    /// The targets, one of which must match. `None` matches every call.
    pub targets: Option<Vec<Target>>,
    /// The rule's own condition, which must be true of the request.
    pub cel: Option<Arc<Condition>>,
}

impl Rule {
    /// Returns the label of the rule for people: its name, or its place in the list.
    pub fn label(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("rules[{index}]"))
    }

    /// Returns the conditions of the rule, those of its targets first.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        let targets = self.targets.iter().flatten();
        targets.filter_map(|target| target.when.as_deref()).chain(self.cel.as_deref())
    }
}

/// The scopes that a rule requires.
#[derive(Debug, Default)]
pub struct RequiredScopes {
    /// The names, as the rule writes them.
    names: Vec<String>,
    /// The numbers of the scopes in the policy's table, sorted. Most rules require one or two.
    numbers: Vec<usize>,
    /// The required scopes and all scopes that these imply.
    granted: ScopeSet,
    /// True if every name is a scope-token. Only scope-tokens can stand in a challenge.
    are_tokens: bool,
}

impl RequiredScopes {
    /// Interns the scopes of a rule.
    pub fn new(names: Vec<String>, table: &mut ScopeTable) -> Self {
        let mut numbers: Vec<usize> = names.iter().map(|name| table.intern(name)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let granted = table.granted(names.iter().map(String::as_str));
        let are_tokens = names.iter().all(|name| is_scope_token(name));
        Self { names, numbers, granted, are_tokens }
    }

    /// Adds scopes that the required scopes imply and that only later rules name. The table finds a
    /// scope that a star implies only after that scope is interned.
    pub fn add_implied(&mut self, table: &ScopeTable) {
        self.granted = table.granted(self.names.iter().map(String::as_str));
    }

    /// Returns true if each required scope is in at least one of two sets.
    fn are_in(&self, granted: &ScopeSet, more: &ScopeSet) -> bool {
        self.numbers.iter().all(|&number| granted.contains(number) || more.contains(number))
    }

    /// Returns true if a grant of the scopes of another rule includes the scopes of this rule.
    pub fn is_granted_by(&self, other: &Self) -> bool {
        self.are_in(&other.granted, &ScopeSet::default())
    }

    /// Returns the numbers of the required scopes in the policy's table.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.numbers.iter().copied()
    }

    /// Returns the numbers of the required scopes and of all scopes that these imply.
    pub fn granted_numbers(&self) -> impl Iterator<Item = usize> {
        self.granted.numbers()
    }

    /// Returns the names, as the rule writes them.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// The rules of a policy, in the order of their evaluation.
#[derive(Debug, Default)]
pub struct Rules {
    list: Vec<Rule>,
    index: Index,
    /// The union of all data that the rules' conditions read.
    reads: Inputs,
    labels: Labels,
}

impl Rules {
    /// Indexes the rules of a policy.
    pub fn new(list: Vec<Rule>, dialect: Dialect) -> Self {
        let mut reads = Inputs::default();
        list.iter().flat_map(Rule::conditions).for_each(|cel| reads.extend(cel.reads()));
        reads.claims |= list.iter().any(|rule| !rule.claims.is_empty());
        let (labels, index) = (Labels::new(&list), Index::new(&list, dialect));
        Self { list, index, reads, labels }
    }

    /// Returns the rules that can match the target of a call, in order.
    fn candidates(&self, subject: &CallTarget<'_>) -> Candidates<'_> {
        self.index.candidates(subject)
    }

    /// Returns the data that a decision can depend on, besides the call's target and the required
    /// scopes.
    pub fn reads(&self) -> &Inputs {
        &self.reads
    }

    /// Returns the labels that metrics use for backends and targets.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }
}

impl std::ops::Deref for Rules {
    type Target = [Rule];

    fn deref(&self) -> &[Rule] {
        &self.list
    }
}

/// An ordered list of rules, with the settings for their evaluation.
#[derive(Debug)]
pub struct Policy {
    /// The name, for logs and for `check`.
    pub name: String,
    /// The language of the document, which determines how rules and conditions compare.
    pub dialect: Dialect,
    /// The requests to which the policy applies.
    pub matching: RequestMatcher,
    /// The source of a call's backend.
    pub backend: BackendSource,
    /// The URL of the protected resource metadata (RFC 9728).
    pub resource_metadata_url: Option<String>,
    /// The scopes that a 401 response suggests.
    pub scopes_supported: Vec<String>,
    /// The tokens that the policy accepts as verified.
    pub accepted_tokens: AcceptedTokens,
    /// The treatment of a request without a verified token.
    pub unauthenticated: Unauthenticated,
    /// The use that the gate makes of decisions.
    pub enforcement: Enforcement,
    /// The treatment of a batch of messages.
    pub batches: Batches,
    /// The kinds of targets that the rules decide about, besides tools.
    pub governed: AppliesTo,
    /// The entries that a caller sees in lists.
    pub lists: ListVisibilities,
    /// The treatment of a request for the state or result of a task.
    pub tasks: Tasks,
    /// The effect of a rule that would apply, except that a condition cannot be evaluated.
    pub condition_errors: ConditionErrors,
    /// The effect on a call that no rule matches.
    pub default_action: Action,
    /// The rules, in the order of their evaluation.
    pub rules: Rules,
    /// All scopes that the rules name.
    pub scopes: ScopeTable,
}

impl Policy {
    /// Returns the kinds of targets that rules, or the selectors of an `MCPRoute`, decide about.
    pub fn decides(&self) -> AppliesTo {
        let prompts = self.governed.prompts || self.selects(TargetKind::Prompt);
        AppliesTo { prompts, ..self.governed }
    }

    /// Returns true if the policy filters lists of this kind of target.
    pub fn filters(&self, feature: TargetKind) -> bool {
        self.lists.of(feature) != ListVisibility::Unfiltered || self.selects(feature)
    }

    /// Returns true if the policy filters some list.
    pub fn filters_lists(&self) -> bool {
        ListKind::ALL.into_iter().any(|listing| self.filters(listing.feature()))
    }

    /// Returns true if selectors of an `MCPRoute` hide targets of a kind.
    fn selects(&self, feature: TargetKind) -> bool {
        matches!(&self.backend, BackendSource::Route(route) if route.select(feature))
    }

    /// Returns true unless a selector of an `MCPRoute` hides a target.
    pub fn exposes(&self, subject: &CallTarget<'_>) -> bool {
        match (&self.backend, subject.backend) {
            (BackendSource::Route(route), Backend::Named(backend)) if !subject.is_pattern() => {
                route.expose(backend, (subject.feature, subject.name))
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_scopes_know_what_implies_them() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let hierarchy = [("repo".to_owned(), names(&["read", "write"]))];
        let mut table = ScopeTable::with_hierarchy(&hierarchy).unwrap();
        let mut scopes = |of: &[&str]| RequiredScopes::new(names(of), &mut table);
        let (repo, read, both) = (scopes(&["repo"]), scopes(&["read"]), scopes(&["read", "write"]));
        assert!(
            read.is_granted_by(&repo) && both.is_granted_by(&repo) && read.is_granted_by(&both)
        );
        assert!(!repo.is_granted_by(&both) && !both.is_granted_by(&read));
        // Only both sets together contain the scopes.
        assert!(
            both.are_in(&read.granted, &repo.granted) && !repo.are_in(&read.granted, &both.granted)
        );
        let write = scopes(&["write", "write"]);
        assert!(
            both.are_in(&read.granted, &write.granted)
                && !both.are_in(&write.granted, &write.granted)
        );
        let numbers = |scopes: &RequiredScopes| scopes.numbers().collect::<Vec<_>>();
        let granted = |scopes: &RequiredScopes| scopes.granted_numbers().collect::<Vec<_>>();
        assert_eq!((numbers(&repo), granted(&repo)), (vec![0], vec![0, 1, 2]));
        assert_eq!((numbers(&both), granted(&both)), (vec![1, 2], vec![1, 2]));
    }
}
