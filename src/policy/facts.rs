//! The facts about a request that a decision depends on, besides the parameters of its call.

use super::{Budget, CallTarget, Dialect};
use crate::claims::Claims;
use crate::head::Head;

/// The facts that a decision can depend on, besides the parameters of the call.
#[derive(Debug, Clone, Copy)]
pub struct EvalContext<'f> {
    /// The language of the policy, which determines how scopes are split.
    pub dialect: Dialect,
    /// The host, path, method and headers of the request.
    pub head: &'f Head,
    /// The claims of the request's token, if the request has one.
    pub claims: Option<&'f Claims>,
    /// The target of the call.
    pub subject: &'f CallTarget<'f>,
    /// Extra scopes, besides those of the token, to find out whether more scopes would allow the
    /// call.
    pub extra_scopes: &'f [String],
    /// The budget that the evaluation of conditions spends.
    pub budget: &'f Budget,
    /// The facts that are unknown.
    pub unknown: Unknown,
}

/// The facts of a request that are unknown, and so may have any value. If there is no call, the
/// parameters of the call are unknown, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unknown {
    /// True if host, path, method and headers are unknown.
    pub head: bool,
    /// True if claims other than scopes are unknown.
    pub claims: bool,
    /// True if the token may have more scopes than those in the facts.
    pub scopes: bool,
    /// True if the name of the target is unknown. The given name then stands for similar names.
    pub name: bool,
}

impl Unknown {
    /// The value for a request with no unknown facts.
    pub const NOTHING: Self = Self { head: false, claims: false, scopes: false, name: false };
}

/// The reason that a call's target, or its backend, cannot be determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnresolvedTarget<'p> {
    /// The header that names the backend is repeated or has an ambiguous value, or a URI template
    /// leaves the backend open.
    Unclear,
    /// Envoy did not send this attribute.
    NoAttribute(&'p str),
    /// The name belongs to no backend of the `MCPRoute`. A name must consist of the backend, this
    /// separator and the backend's own name for the target.
    UnknownBackend {
        /// The separator between the two names.
        separator: &'p str,
    },
}

impl<'f> EvalContext<'f> {
    /// Creates the facts of a request, without unknown facts.
    pub fn new(
        dialect: Dialect,
        head: &'f Head,
        claims: Option<&'f Claims>,
        subject: &'f CallTarget<'f>,
        budget: &'f Budget,
    ) -> Self {
        let unknown = Unknown::NOTHING;
        Self { dialect, head, claims, subject, extra_scopes: &[], budget, unknown }
    }

    /// Returns all scopes, as the token and the extra scopes write them.
    pub fn scopes(&self) -> impl Iterator<Item = &'f str> {
        let is_native = self.dialect == Dialect::Native;
        let native = self.claims.filter(|_| is_native).into_iter().flat_map(Claims::scopes);
        let reference = self.claims.filter(|_| !is_native).into_iter();
        let granted = native.chain(reference.flat_map(Claims::scopes_of_reference));
        granted.chain(self.extra_scopes.iter().map(String::as_str))
    }
}
