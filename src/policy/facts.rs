//! What is known of a request beside the parameters of its call.

use super::{BackendFrom, Budget, Subject};
use crate::claims::Claims;
use crate::head::Head;
use crate::mcp::Feature;

/// What a decision can depend on beside the parameters of the call.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// The head of the request.
    pub head: &'f Head,
    /// The claims of its token, if it has one.
    pub claims: Option<&'f Claims>,
    /// What of which backend is called.
    pub subject: Subject<'f>,
    /// Scopes beside those of the token, to find out whether they would help.
    pub more_scopes: &'f [String],
    /// What its conditions may still cost.
    pub budget: &'f Budget,
}

/// Why it cannot be known which backend a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSubject<'p> {
    /// The header that names it came several times, or is no text; or a URI template leaves
    /// it open.
    Unclear,
    /// Envoy did not send this attribute.
    NoAttribute(&'p str),
}

impl<'f> Facts<'f> {
    /// The facts of what is asked for, by its whole name, for a policy that takes backends
    /// from `backend`.
    pub fn new(
        backend: &'f BackendFrom,
        head: &'f Head,
        claims: Option<&'f Claims>,
        asked: (Feature, &'f str),
        budget: &'f Budget,
    ) -> Result<Self, NoSubject<'f>> {
        let subject = backend.subject(asked, head)?;
        Ok(Self { head, claims, subject, more_scopes: &[], budget })
    }

    /// All scopes, as they are written.
    pub fn scopes(&self) -> impl Iterator<Item = &'f str> {
        let granted = self.claims.into_iter().flat_map(Claims::scopes);
        granted.chain(self.more_scopes.iter().map(String::as_str))
    }
}
