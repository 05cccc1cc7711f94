//! Notes about one evaluation. CEL can absorb an error, so the result alone does not show them.

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use cel::common::types::Type;
use cel::common::value::{StaticVal, Val};

use crate::mcp::CaseVariant;

/// The findings of one evaluation.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The first of the client's keys that readers of JSON may take for another key.
    pub(super) ambiguity: OnceLock<CaseVariant>,
    /// The doubt about the first unreadable value.
    pub(super) unreadable: OnceLock<Doubt>,
    /// True if the evaluation read unknown data.
    pub(super) unknown: Flag,
}

impl Notes {
    /// Notes one of the client's keys, and the name that readers may take the key for.
    pub(super) fn note_ambiguity(&self, key: &str, name: &str) {
        self.ambiguity.get_or_init(|| CaseVariant::new(key, name));
    }

    /// Notes the doubt about a value. Returns a replacement value that every operator rejects.
    pub(super) fn unreadable<'v>(&self, doubt: Doubt) -> Box<dyn Val + 'v> {
        self.unreadable.get_or_init(|| doubt);
        Box::new(Unreadable)
    }
}

/// The reason that a policy and a server may read a value differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// A number that readers round differently.
    Number,
    /// A repeated header.
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
    /// A parameter of a tool call that Agent Router rewrites or rejects.
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

/// A flag that an evaluation sets.
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns true if the flag was set, and clears the flag.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

static UNREADABLE_TYPE: Type = Type::new_unspecified_type("unreadable");

/// A value that readers may read differently. The type has no operators, so every operator fails.
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
