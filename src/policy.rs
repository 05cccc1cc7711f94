//! Policies and what they decide.
//!
//! A [`Policy`] is an ordered list of rules. The first rule that matches a call
//! decides it; if none does, the policy's default action does. Nothing here
//! reads a file, a clock or the network, and nothing names a protocol.
//!
//! Invariants, made when a policy is loaded and relied on everywhere else:
//! conditions are compiled and checked ([`Condition`]), scopes are scope-tokens
//! of [RFC 6749, section 3.3] and interned ([`ScopeTable`]), a rule that names
//! targets or scopes names at least one.
//!
//! [RFC 6749, section 3.3]: https://www.rfc-editor.org/rfc/rfc6749#section-3.3

mod backends;
mod by_feature;
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
mod scope;
mod search;
mod selection;
mod standing;
mod target;
mod trace;

use std::sync::Arc;

use self::index::{Candidates, Index};
use crate::claims::Claims;
use crate::mcp::{Feature, Governed, Listing};
pub use backends::{Exposed, NameSelector, Names, RouteBackends, SharedName};
pub use claim::{ClaimType, ClaimValue, RequiredClaim};
pub use condition::{Budget, Condition, ConditionError, Pattern, Possible, Reads, SuspicionKind};
pub use decide::{Decision, Evaluation, Permit, Reason};
pub use facts::{Facts, NoSubject, Unknown};
pub use glob::{Extent, Glob};
pub use grants::Grants;
pub use labels::{Label, Labels};
pub use matching::{HostPattern, Matching, PathPrefix};
pub use scope::{HierarchyMistake, MOST_DERIVED, ScopeSet, ScopeTable, is_scope_token};
pub use selection::{AmbiguousPath, Selector, Unselectable, select};
pub use standing::Standing;
pub use target::{Backend, BackendFrom, Comparison, Subject, Target};
pub use trace::{ConditionTrace, RuleTrace, TargetTrace};

/// The language of a policy's document, which says how rules and conditions compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// A policy file of mcp-authz. Where a server could read a request in another way than a
    /// rule does, the rule cannot be evaluated.
    #[default]
    Native,
    /// An `MCPRoute`, which compares as Agent Router does.
    McpRoute,
}

/// What a rule, or the end of the list, does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The call may go on.
    Allow,
    /// The call is refused.
    Deny,
}

/// What becomes of a request that carries no verified token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unauthenticated {
    /// It is judged like any other, with no scope granted.
    Forbid,
    /// It gets a 401 that tells the client where to log in.
    Challenge,
}

/// The tokens that count as verified. Another one counts as none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AcceptedTokens {
    /// `iss` must be one of these; empty: it is not checked.
    pub issuers: Vec<String>,
    /// `aud` must be or hold one of these; empty: it is not checked.
    pub audiences: Vec<String>,
}

impl AcceptedTokens {
    /// Checks that a token with these claims counts. Both claims are compared as they are written
    /// ([RFC 7519, sections 4.1.1 and 4.1.3]).
    ///
    /// [RFC 7519, sections 4.1.1 and 4.1.3]: https://www.rfc-editor.org/rfc/rfc7519#section-4.1.1
    ///
    /// # Errors
    /// The name of the claim that has another value, or none.
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

/// What is done with a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// What it refuses does not go on.
    Enforce,
    /// It is logged; everything goes on.
    Shadow,
}

/// What becomes of a batch of messages (MCP 2025-03-26).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batches {
    /// It is refused.
    Reject,
    /// It may go on if every call in it may.
    Authorize,
}

/// What a caller sees in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// All that the server has.
    Unfiltered,
    /// What a call with some arguments is allowed of.
    Permitted,
    /// That too which it would be of with more scopes; it tells which.
    Reachable,
}

/// What a caller sees in each list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lists {
    /// Of tools.
    pub tools: Shown,
    /// Of prompts.
    pub prompts: Shown,
    /// Of resources, and of their templates.
    pub resources: Shown,
}

impl Lists {
    /// All that the server has.
    pub const UNFILTERED: Self =
        Self { tools: Shown::Unfiltered, prompts: Shown::Unfiltered, resources: Shown::Unfiltered };

    /// What is seen in the list of these.
    pub fn of(self, feature: Feature) -> Shown {
        match feature {
            Feature::Tool => self.tools,
            Feature::Prompt => self.prompts,
            Feature::Resource | Feature::ResourceTemplate => self.resources,
            Feature::Method => Shown::Unfiltered,
        }
    }
}

/// What becomes of a request that asks what a task has done (MCP 2025-11-25, and the
/// extension of tasks since): the answer holds what a tool said, and names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tasks {
    /// It goes on, unless methods are judged and no rule allows it.
    Continue,
    /// It is refused.
    Deny,
}

/// The effect of a rule that applies but for a condition that cannot be evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionErrors {
    /// A Deny rule denies, and an Allow rule does not match.
    Deny,
    /// The rule does not match, so that rules after it can still allow the call.
    NoMatch,
    /// The rule denies, an Allow rule too.
    DenyAny,
}

/// One rule: what is left out matches every call.
#[derive(Debug)]
pub struct Rule {
    /// For logs and for `check`; never told to a caller.
    pub name: Option<String>,
    /// What it does with a call that it matches.
    pub action: Action,
    /// All of these must be granted.
    pub scopes: RequiredScopes,
    /// All of these must hold.
    pub claims: Vec<RequiredClaim>,
    /// One of these must match; `None` matches every call.
    pub targets: Option<Vec<Target>>,
    /// Must be true of the request.
    pub cel: Option<Arc<Condition>>,
}

impl Rule {
    /// What people call the rule: its name, or its place in the list.
    pub fn label(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("rules[{index}]"))
    }

    /// Its conditions, those of its targets first.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        let targets = self.targets.iter().flatten();
        targets.filter_map(|target| target.when.as_deref()).chain(self.cel.as_deref())
    }
}

/// The scopes that a rule requires.
#[derive(Debug, Default)]
pub struct RequiredScopes {
    /// As written.
    names: Vec<String>,
    /// Their numbers in the policy's table, sorted. Most rules require one or two.
    numbers: Vec<usize>,
    /// What a token has that is granted these: with all that they imply.
    granted: ScopeSet,
    /// True if each is a scope-token, as a challenge can name it.
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

    /// Adds the scopes that these imply and that only later rules name: a table finds an implied
    /// scope by a star only once it is interned.
    pub fn add_implied(&mut self, table: &ScopeTable) {
        self.granted = table.granted(self.names.iter().map(String::as_str));
    }

    /// Whether each is in one of two sets.
    fn are_in(&self, granted: &ScopeSet, more: &ScopeSet) -> bool {
        self.numbers.iter().all(|&number| granted.contains(number) || more.contains(number))
    }

    /// Whether who is granted the scopes of another rule is granted these.
    pub fn is_granted_by(&self, other: &Self) -> bool {
        self.are_in(&other.granted, &ScopeSet::default())
    }

    /// Their numbers in the policy's table.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.numbers.iter().copied()
    }

    /// The same, with all that they imply.
    pub fn granted_numbers(&self) -> impl Iterator<Item = usize> {
        self.granted.numbers()
    }

    /// As written in the rule.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// Rules in the order in which they are tried.
#[derive(Debug, Default)]
pub struct Rules {
    list: Vec<Rule>,
    index: Index,
    /// What all conditions read.
    reads: Reads,
    labels: Labels,
}

impl Rules {
    /// The rules of a policy.
    pub fn new(list: Vec<Rule>, dialect: Dialect) -> Self {
        let mut reads = Reads::default();
        list.iter().flat_map(Rule::conditions).for_each(|cel| reads.extend(cel.reads()));
        reads.claims |= list.iter().any(|rule| !rule.claims.is_empty());
        let (labels, index) = (Labels::new(&list), Index::new(&list, dialect));
        Self { list, index, reads, labels }
    }

    /// Returns the rules that can be for the target of a call, in order.
    fn candidates(&self, subject: &Subject<'_>) -> Candidates<'_> {
        self.index.candidates(subject)
    }

    /// What a decision can depend on beside the call's target and the scopes that
    /// rules require.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// The words of the rules for what callers ask for, in metrics.
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

/// An ordered list of rules and what surrounds it.
#[derive(Debug)]
pub struct Policy {
    /// For logs and for `check`.
    pub name: String,
    /// How rules and conditions compare.
    pub dialect: Dialect,
    /// The requests that it is for.
    pub matching: Matching,
    /// How a call tells its backend.
    pub backend: BackendFrom,
    /// Where clients find the protected resource metadata (RFC 9728).
    pub resource_metadata_url: Option<String>,
    /// The scopes that a 401 suggests.
    pub scopes_supported: Vec<String>,
    /// The tokens that count.
    pub accepted_tokens: AcceptedTokens,
    /// What becomes of a request without a verified token.
    pub unauthenticated: Unauthenticated,
    /// What is done with decisions.
    pub enforcement: Enforcement,
    /// What becomes of a batch of messages.
    pub batches: Batches,
    /// What is judged beside tools.
    pub governed: Governed,
    /// What a caller sees in lists.
    pub lists: Lists,
    /// What becomes of a request for what a task has done.
    pub tasks: Tasks,
    /// The effect of a rule that applies but for a condition that cannot be evaluated.
    pub condition_errors: ConditionErrors,
    /// What becomes of a call that no rule matches.
    pub default_action: Action,
    /// In the order in which they are tried.
    pub rules: Rules,
    /// Every scope that a rule names.
    pub scopes: ScopeTable,
}

impl Policy {
    /// Returns what is decided: by rules, and by the selectors of an `MCPRoute`.
    pub fn decides(&self) -> Governed {
        let prompts = self.governed.prompts || self.selects(Feature::Prompt);
        Governed { prompts, ..self.governed }
    }

    /// Returns true if a list of these names is filtered.
    pub fn filters(&self, feature: Feature) -> bool {
        self.lists.of(feature) != Shown::Unfiltered || self.selects(feature)
    }

    /// Returns true if some list is filtered.
    pub fn filters_lists(&self) -> bool {
        Listing::ALL.into_iter().any(|listing| self.filters(listing.feature()))
    }

    /// Returns true if selectors of an `MCPRoute` hide targets of a kind.
    fn selects(&self, feature: Feature) -> bool {
        matches!(&self.backend, BackendFrom::Route(route) if route.select(feature))
    }

    /// Returns true unless a selector of an `MCPRoute` hides a target.
    pub fn exposes(&self, subject: &Subject<'_>) -> bool {
        match (&self.backend, subject.backend) {
            (BackendFrom::Route(route), Backend::Named(backend)) if !subject.is_pattern() => {
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
        // By two sets together.
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
