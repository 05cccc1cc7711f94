//! The proof that a request may continue, with the obligation for its response.

use super::{AdmittedRequest, Gate, ListFilter};
use crate::mcp::{ListKind, NotGoverned, RequestId};
use crate::policy::Permit;

/// Proof that a request may continue. The obligation for the response is a part of the proof, so no
/// integration can lose it.
#[derive(Debug)]
#[must_use = "the response may have to be filtered"]
pub struct Clearance {
    #[expect(dead_code, reason = "a proof, to be had and not looked at")]
    proof: Proof,
    obligation: Option<Obligation>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "proofs, to be had and not looked at")]
pub(super) enum Proof {
    /// The permits of all calls; empty if a batch holds no call that rules decide about.
    Calls(Vec<Permit>),
    NotGoverned(NotGoverned),
    NoMessage,
    /// A policy in Shadow, which is not enforced.
    Shadow,
}

/// A duty that comes with a permission (XACML 3.0, section 7.18).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obligation {
    /// The duty to filter the list in the response.
    FilterList {
        /// The requested list.
        listing: ListKind,
        /// The request's id, if an error can repeat it.
        id: Option<RequestId>,
    },
    /// The duty to filter every list in the response to a request with `Last-Event-ID`. The server
    /// sends again what the client missed (MCP 2025-11-25, "Resumability and Redelivery").
    FilterReplay,
}

impl Clearance {
    pub(super) fn new(proof: Proof) -> Self {
        Self { proof, obligation: None }
    }

    /// Returns the proof with an obligation, which replaces an earlier one.
    pub(super) fn obliged(self, obligation: Option<Obligation>) -> Self {
        Self { obligation: obligation.or(self.obligation), ..self }
    }

    /// Returns the obligation, if there is one.
    pub fn obligation(&self) -> Option<&Obligation> {
        self.obligation.as_ref()
    }

    /// Returns the filter for the response; `None` if there is no obligation.
    pub fn into_list_filter(
        self,
        gate: &Gate,
        admitted: AdmittedRequest,
    ) -> Option<Box<ListFilter>> {
        let obligation = self.obligation?;
        Some(Box::new(ListFilter::new(admitted, gate.limits, obligation)))
    }
}
