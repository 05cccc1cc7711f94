//! What Envoy and we say to each other, without their encoding.

use std::fmt;

use prost::bytes::Bytes;

use crate::claims::VerifiedClaims;
use crate::gate::{Refusal, ResponseHead};
use crate::head::Head;

/// How Envoy is set to send bodies (`processing_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyMode {
    None,
    Streamed,
    Buffered,
    BufferedPartial,
    FullDuplexStreamed,
    /// One that this version does not know.
    Other(i32),
}

/// As Envoy's configuration spells it.
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

/// What Envoy tells about itself in the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) request_body: BodyMode,
    pub(super) response_body: BodyMode,
}

/// A message of Envoy.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) event: Event,
    /// Comes with the first message; old Envoys leave it out.
    pub(super) setup: Option<Setup>,
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
    /// None of those that this version knows.
    Unknown,
}

/// A part of the server's response.
#[derive(Debug)]
pub(super) enum ResponsePart {
    /// With the head, if a list is awaited.
    Headers(Option<ResponseHead>),
    Body(Chunk),
    Trailers,
}

/// A part of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    pub(super) end_of_stream: bool,
}

/// In which encodings the server may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encodings {
    /// As the client says.
    Accepted,
    /// In none, because the answer is read here.
    Identity,
}

/// A message to Envoy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    RequestHeaders(Encodings),
    RequestBody(Encodings),
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

/// A message that cannot come from a correct Envoy in this state. It fails the
/// stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation(pub(super) &'static str);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
