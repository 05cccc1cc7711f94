//! Notes about one evaluation that its result does not show: CEL can absorb an error.

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use cel::common::types::Type;
use cel::common::value::{StaticVal, Val};

use crate::mcp::CaseVariant;

/// What an expression met while it was evaluated.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The first key of the client that readers of JSON may take for another one.
    pub(super) ambiguity: OnceLock<CaseVariant>,
    /// Why the first value could not be read.
    pub(super) unreadable: OnceLock<Doubt>,
    /// Whether something was read that is not known.
    pub(super) unknown: Flag,
}

impl Notes {
    /// Notes a key of the client, and the name that readers may take it for.
    pub(super) fn note_ambiguity(&self, key: &str, name: &str) {
        self.ambiguity.get_or_init(|| CaseVariant::new(key, name));
    }

    /// Notes why a value cannot be read, and returns a value in its place that fails whatever
    /// reads it.
    pub(super) fn unreadable<'v>(&self, doubt: Doubt) -> Box<dyn Val + 'v> {
        self.unreadable.get_or_init(|| doubt);
        Box::new(Unreadable)
    }
}

/// Why a value may mean one thing to the policy and another to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// A number that readers round differently.
    Number,
    /// A header that came several times.
    RepeatedHeader,
    /// A header that is not UTF-8.
    Encoding,
    /// A host that has no clear form.
    Host,
    /// A path that has no clear form.
    Path,
    /// An HTTP method that is not in upper case.
    Method,
    /// A part of the request that Envoy did not send.
    NotSent,
    /// Scopes that readers split differently.
    Scopes,
    /// A backend that no header names.
    Backend,
    /// A parameter of a tool call that the reference of MCPRoute documents rewrites or rejects.
    Parameter,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => {
                "it reads a number beyond ±(2^53 − 1), or one with more digits than a double keeps"
            }
            Self::RepeatedHeader => {
                "it reads a header that came several times: `request.headers_all` has all values"
            }
            Self::Encoding => "it reads a header that is not UTF-8",
            Self::Host => "`request.host` could be taken for another host",
            Self::Path => "`request.path` could be taken for another path",
            Self::Method => "`request.method` is not in upper case",
            Self::NotSent => "it reads a part of the request that Envoy did not send",
            Self::Scopes => "the token's scopes could be split in several ways",
            Self::Backend => "no header names the backend",
            Self::Parameter => {
                "it reads `params.inputResponses`, or a `params.requestState` that is no string"
            }
        })
    }
}

/// A flag that is raised during an evaluation.
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether the flag was set, and clears it.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

static UNREADABLE_TYPE: Type = Type::new_unspecified_type("unreadable");

/// A value that readers may take for different ones. It has no operator, so whatever reads it
/// is an error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unreadable;

impl Val for Unreadable {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &UNREADABLE_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(*self)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Unreadable {}
