//! The parts of a request that Envoy has to send.

use std::collections::BTreeSet;

use super::{ClaimsFrom, Gate, messages};
use crate::head::{Head, Header};
use crate::mcp::MirroredHeaders;
use crate::policy::{BackendSource, Unauthenticated};

/// The headers that an MCP client sends with every message. If a message comes with none of them,
/// Envoy sends no headers.
const WITH_EVERY_MESSAGE: [Header; 2] = [Header::ContentType, Header::Accept];

impl Gate {
    /// Returns the names of the headers that decisions read. Returns `None` if a condition may read
    /// any header.
    pub fn headers(&self) -> Option<BTreeSet<&str>> {
        let mut names = BTreeSet::from(Head::PSEUDO_HEADERS);
        names.extend(MirroredHeaders::NAMES);
        for &header in Header::ALL {
            if header != Header::Authorization || self.reads_token() {
                names.insert(header.name());
            }
        }
        if self.filters_lists() {
            names.insert(":status");
        }
        for policy in &self.policies {
            let reads = policy.rules.reads();
            if reads.all_headers {
                return None;
            }
            names.extend(reads.headers.iter().map(String::as_str));
            if let Some(BackendSource::Header(name)) = policy.backend.of_bare_names() {
                names.insert(name);
            }
        }
        Some(names)
    }

    /// Returns true if the header `Authorization` is read.
    fn reads_token(&self) -> bool {
        // A 401 differs by whether a token came.
        let challenges = |unauthenticated| unauthenticated == Unauthenticated::Challenge;
        self.claims_from == ClaimsFrom::AuthorizationHeader
            || self.policies.iter().any(|policy| challenges(policy.unauthenticated))
    }

    /// Returns the names of the attributes that decisions read.
    pub fn attributes(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        for policy in &self.policies {
            if !policy.matching.routes.is_empty() {
                names.insert(Head::ROUTE_NAME);
            }
            if let Some(BackendSource::Attribute(name)) = policy.backend.of_bare_names() {
                names.insert(name.as_str());
            }
        }
        names
    }
}

/// Returns true if Envoy sends no headers of messages, so a missing header proves nothing. Every
/// client sends at least one of the headers that this function searches for.
pub(super) fn lacks_headers(head: &Head) -> bool {
    let is_post = head.method.as_sent().is_none_or(|method| method == messages::POST);
    let names = WITH_EVERY_MESSAGE.map(Header::name);
    let mut names = names.into_iter().chain(MirroredHeaders::NAMES);
    is_post && !names.any(|name| head.values(name).next().is_some())
}
