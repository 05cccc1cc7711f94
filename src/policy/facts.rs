//! What is known of a request beside the parameters of its call.

use super::{Budget, Dialect, Subject};
use crate::claims::Claims;
use crate::head::Head;

/// What a decision can depend on beside the parameters of the call.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// The language of the policy, which says how scopes are split.
    pub dialect: Dialect,
    /// The head of the request.
    pub head: &'f Head,
    /// The claims of its token, if it has one.
    pub claims: Option<&'f Claims>,
    /// The target of the call.
    pub subject: &'f Subject<'f>,
    /// Scopes beside those of the token, to find out whether they would help.
    pub more_scopes: &'f [String],
    /// What its conditions may still cost.
    pub budget: &'f Budget,
    /// What of these is not known.
    pub unknown: Unknown,
}

/// What of a request is not known, so that it may be anything. The parameters of a call are
/// not known either where there is no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unknown {
    /// Host, path, method and headers.
    pub head: bool,
    /// Claims other than scopes.
    pub claims: bool,
    /// Scopes beside those that are given.
    pub scopes: bool,
    /// The name of the target: the one that is given stands for others like it.
    pub name: bool,
}

impl Unknown {
    /// Everything is known.
    pub const NOTHING: Self = Self { head: false, claims: false, scopes: false, name: false };
}

/// Why it cannot be known which backend a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSubject<'p> {
    /// The header that names it came several times, or is no text; or a URI template leaves
    /// it open.
    Unclear,
    /// Envoy did not send this attribute.
    NoAttribute(&'p str),
    /// The name belongs to no backend of the `MCPRoute`: `BACKEND`, this separator and the
    /// backend's own name are expected.
    UnknownBackend {
        /// Between the two.
        separator: &'p str,
    },
}

impl<'f> Facts<'f> {
    /// The facts of a request, of which everything is known.
    pub fn new(
        dialect: Dialect,
        head: &'f Head,
        claims: Option<&'f Claims>,
        subject: &'f Subject<'f>,
        budget: &'f Budget,
    ) -> Self {
        let unknown = Unknown::NOTHING;
        Self { dialect, head, claims, subject, more_scopes: &[], budget, unknown }
    }

    /// All scopes, as they are written.
    pub fn scopes(&self) -> impl Iterator<Item = &'f str> {
        let is_native = self.dialect == Dialect::Native;
        let native = self.claims.filter(|_| is_native).into_iter().flat_map(Claims::scopes);
        let reference = self.claims.filter(|_| !is_native).into_iter();
        let granted = native.chain(reference.flat_map(Claims::scopes_of_reference));
        granted.chain(self.more_scopes.iter().map(String::as_str))
    }
}
