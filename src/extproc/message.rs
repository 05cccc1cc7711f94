//! The messages between Envoy and mcp-authz, without their encoding.

use std::fmt;

use prost::bytes::Bytes;

use crate::claims::VerifiedClaims;
use crate::gate::{Refusal, ResponseHead};
use crate::head::Head;

/// The mode in which Envoy sends bodies (`processing_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyMode {
    None,
    Streamed,
    Buffered,
    BufferedPartial,
    FullDuplexStreamed,
    /// A mode that this version does not know.
    Other(i32),
}

/// Writes the mode as Envoy's configuration spells it.
impl fmt::Display for BodyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("NONE"),
            Self::Streamed => f.write_str("STREAMED"),
            Self::Buffered => f.write_str("BUFFERED"),
            Self::BufferedPartial => f.write_str("BUFFERED_PARTIAL"),
            Self::FullDuplexStreamed => f.write_str("FULL_DUPLEX_STREAMED"),
            Self::Other(number) => write!(f, "{number}, which this version does not know"),
        }
    }
}

/// The processing modes that Envoy sends in the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessingModes {
    pub(super) request_body: BodyMode,
    pub(super) response_body: BodyMode,
}

/// A message from Envoy.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) event: Event,
    /// The modes, which come with the first message; old versions of Envoy omit them.
    pub(super) setup: Option<ProcessingModes>,
    /// The claims that `jwt_authn` verified.
    pub(super) verified: VerifiedClaims,
}

#[derive(Debug)]
pub(super) enum Event {
    RequestHeaders {
        head: Head,
        end_of_stream: bool,
    },
    RequestBody(Chunk),
    RequestTrailers,
    Response(ResponsePart),
    /// An event that this version does not know.
    Unknown,
}

/// A part of the server's response.
#[derive(Debug)]
pub(super) enum ResponsePart {
    /// The headers, if the response is filtered.
    Headers(Option<ResponseHead>),
    Body(Chunk),
    Trailers,
}

/// A chunk of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    pub(super) end_of_stream: bool,
}

/// The encodings in which the server may respond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AcceptEncoding {
    /// The encodings that the client accepts.
    Accepted,
    /// No encoding, because mcp-authz reads the response.
    Identity,
}

/// A message to Envoy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    RequestHeaders(AcceptEncoding),
    RequestBody(AcceptEncoding),
    StreamRequestBody(Chunk),
    RequestTrailers,
    ResponseHeaders,
    /// The headers of a response whose body is filtered, with its new `Cache-Control`.
    FilteredResponseHeaders {
        cache_control: String,
    },
    ResponseBody,
    ReplaceResponseBody(Bytes),
    StreamResponseBody(Chunk),
    ResponseTrailers,
    Refuse(Refusal),
}

/// A message that a correct Envoy cannot send in this state. The violation fails the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolError(pub(super) &'static str);

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
