//! The reasons why a body is rejected.

use std::borrow::Cow;
use std::fmt;

use super::{RequestId, TargetKind};
use crate::json::{Fault, JsonError};

/// A body that rules cannot decide about, with the id of the request if one was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The problem of the body.
    pub problem: Problem,
    /// The request's id, if it is known.
    pub id: Option<RequestId>,
}

/// The problem of a body. Its text repeats no value of the body, and no key except a short one that
/// the caller has to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A body that is not UTF-8, with the offset of the first invalid byte.
    NotUtf8(usize),
    /// A body that is not strict JSON.
    NotJson(JsonError),
    /// A key of the message that equals this one except for letter case.
    CaseVariantKey(&'static str),
    /// A key of the parameters or arguments that readers may confuse with another key.
    CaseVariantArgument(CaseVariant),
    /// An array of messages, where batches are not accepted.
    Batch,
    /// A JSON value that is not a JSON-RPC 2.0 message, with the reason.
    NotJsonRpc(&'static str),
    /// A call with an unusable parameter: the parameter and the reason.
    NoUsableCall(&'static str, &'static str),
    /// The name of a header that disagrees with the body.
    HeaderMismatch(&'static str),
    /// The name of a missing header that the request's version of MCP requires.
    MissingHeader(&'static str),
    /// A method that the request's version of MCP has removed.
    RemovedMethod,
    /// A call without a clear backend. The header that names the backend came several times or is
    /// not text, or a template leaves the backend open.
    UnclearBackend,
    /// A name that belongs to no backend of the route, with the expected form of names.
    UnknownBackend(String),
}

/// A key that equals another name except for letter case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseVariant {
    key: String,
    name: String,
}

impl CaseVariant {
    /// Creates a variant from a key and the name that a condition or another key has.
    pub fn new(key: &str, name: &str) -> Self {
        Self { key: shown(key), name: shown(name) }
    }
}

/// Returns a key as a message shows it. A long key becomes "…", since callers choose the length.
fn shown(key: &str) -> String {
    const MAX_BYTES: usize = 64;
    if key.len() > MAX_BYTES { "…".to_owned() } else { key.escape_debug().to_string() }
}

impl fmt::Display for CaseVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, name } = self;
        write!(f, "argument `{key}`: wrong letter case, `{name}` is expected")
    }
}

impl Problem {
    /// Returns the problem of a name that belongs to no backend of a route.
    pub fn unknown_backend(feature: TargetKind, separator: &str) -> Self {
        Self::UnknownBackend(match feature {
            TargetKind::Tool => format!("BACKEND{separator}TOOL"),
            TargetKind::Prompt => format!("BACKEND{separator}PROMPT"),
            TargetKind::Resource | TargetKind::ResourceTemplate | TargetKind::Method => {
                "BACKEND+URI".to_owned()
            }
        })
    }

    /// Returns the JSON-RPC error code: from [JSON-RPC 2.0, section 5.1], or -32020 from the MCP
    /// specification 2026-07-28, streamable HTTP.
    ///
    /// [JSON-RPC 2.0, section 5.1]: https://www.jsonrpc.org/specification#error_object
    pub fn code(&self) -> i32 {
        match self {
            Self::NotUtf8(_)
            | Self::NotJson(_)
            | Self::CaseVariantKey(_)
            | Self::CaseVariantArgument(_) => -32700,
            Self::Batch | Self::NotJsonRpc(_) | Self::UnclearBackend => -32600,
            Self::NoUsableCall(..) | Self::UnknownBackend(_) => -32602,
            Self::HeaderMismatch(_) | Self::MissingHeader(_) => -32020,
            Self::RemovedMethod => -32601,
        }
    }

    /// Returns the HTTP status: 404 for an unknown method (MCP 2026-07-28, streamable HTTP,
    /// "Protocol Version Header"), 400 for all else.
    pub fn status(&self) -> u16 {
        if *self == Self::RemovedMethod { 404 } else { 400 }
    }

    /// Returns the reason in one word, for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotUtf8(_) => "not_utf8",
            Self::NotJson(JsonError { fault: Fault::TooDeep, .. }) => "json_too_deep",
            Self::NotJson(JsonError { fault: Fault::DuplicateKey, .. }) => "duplicate_key",
            Self::NotJson(JsonError { fault: Fault::TooMany, .. }) => "json_too_many_keys",
            Self::NotJson(_) => "not_json",
            Self::CaseVariantKey(_) | Self::CaseVariantArgument(_) => "case_variant_key",
            Self::Batch => "batch",
            Self::NotJsonRpc(_) => "not_json_rpc",
            Self::NoUsableCall(..) => "no_usable_call",
            // The specification has one error for both.
            Self::HeaderMismatch(_) | Self::MissingHeader(_) => "header_mismatch",
            Self::RemovedMethod => "removed_method",
            Self::UnclearBackend => "unclear_backend",
            Self::UnknownBackend(_) => "unknown_backend",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Cow<'_, str> = match self {
            Self::NotUtf8(at) => format!("the body is not UTF-8 at byte {at}").into(),
            Self::NotJson(error) => format!("the body is not acceptable JSON: {error}").into(),
            Self::CaseVariantKey(key) => {
                format!("a key differs from `{key}` only in upper and lower case").into()
            }
            Self::CaseVariantArgument(variant) => variant.to_string().into(),
            Self::Batch => "batches are not accepted: send one message a request".into(),
            Self::NotJsonRpc(what) => format!("the body is not a JSON-RPC 2.0 message: {what}").into(),
            Self::NoUsableCall(parameter, fault) => {
                format!("the call cannot be judged: `{parameter}` {fault}").into()
            }
            Self::HeaderMismatch(header) => {
                format!("the header `{header}` and the body disagree").into()
            }
            Self::MissingHeader(header) => {
                format!("the header `{header}` is missing: MCP requires it since 2026-07-28").into()
            }
            Self::RemovedMethod => {
                "method not found: MCP has it no more since 2026-07-28".into()
            }
            Self::UnclearBackend => "it is unclear which backend it is for: the header that names it does not come just once, or a URI template leaves it open".into(),
            Self::UnknownBackend(form) => format!(
                "the call names no backend of this route: write `{form}`, as the lists do"
            ).into(),
        };
        f.write_str(&text)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for Malformed {}
