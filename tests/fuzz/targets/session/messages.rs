//! Messages that Envoy, or a peer that claims to be Envoy, may send.

use std::iter;

use arbitrary::{Arbitrary, Result, Unstructured};
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, Metadata};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpBody, HttpHeaders, HttpTrailers, ProcessingRequest, ProtocolConfiguration,
};
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};
use prost::Message as _;

use super::{MAX_MESSAGE_BYTES, Setting, wire};
use crate::oracle::JWT_AUTHN;

const MOST_PAYLOADS: usize = 3;

/// A stream.
#[derive(Debug, Arbitrary)]
pub struct Input {
    pub setting: Setting,
    modes: Modes,
    #[arbitrary(with = rarely)]
    without_modes: bool,
    #[arbitrary(with = a_first)]
    first: Part,
    #[arbitrary(with = seldom)]
    claims: Option<Vec<Claim>>,
    rest: Vec<Sent>,
}

#[derive(Debug, Arbitrary)]
struct Sent {
    part: Part,
    #[arbitrary(with = rarely)]
    observed: bool,
    /// Where it does not belong.
    #[arbitrary(with = seldom)]
    other_modes: Option<Modes>,
    #[arbitrary(with = seldom)]
    claims: Option<Vec<Claim>>,
}

#[derive(Debug, Arbitrary)]
enum Part {
    RequestHeaders {
        #[arbitrary(with = seldom)]
        headers: Option<Vec<Header>>,
        end: bool,
    },
    RequestBody {
        bytes: Bytes,
        end: bool,
    },
    /// A body in parts: cut where these say.
    Chunks {
        bytes: Bytes,
        cuts: Vec<u8>,
        end: bool,
    },
    RequestTrailers,
    ResponseHeaders {
        end: bool,
    },
    ResponseBody {
        bytes: Bytes,
        end: bool,
    },
    ResponseTrailers,
    Nothing,
    /// A message that perhaps is none.
    Framed(Vec<u8>),
    /// Bytes that may be no frame.
    Unframed(Vec<u8>),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Modes {
    #[arbitrary(with = a_mode)]
    request: Mode,
    response: Mode,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Mode {
    Buffered,
    FullDuplexStreamed,
    BufferedPartial,
    None,
    Streamed,
    Grpc,
    Unknown,
}

#[derive(Debug, Arbitrary)]
enum Header {
    Name(#[arbitrary(with = a_tool)] &'static str),
    Compressed,
    Identity,
    Charset,
    Length(u16),
    Other(String, Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Bytes {
    Call(#[arbitrary(with = a_tool)] &'static str),
    Batch(#[arbitrary(with = a_tool)] &'static str, #[arbitrary(with = a_tool)] &'static str),
    Initialize,
    Empty,
    Spaces(u16),
    Raw(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Claim {
    Scope(#[arbitrary(with = a_scope)] &'static str),
    Scopes(Vec<bool>),
    Failure,
    Text(String),
    Large(u16),
}

/// Not if there is no more input, or it is zero.
fn rarely(u: &mut Unstructured<'_>) -> Result<bool> {
    Ok(u.arbitrary::<u8>()? % 16 == 15)
}

fn seldom<'a, T: Arbitrary<'a>>(u: &mut Unstructured<'a>) -> Result<Option<T>> {
    if u.arbitrary::<u8>()? % 4 == 3 { T::arbitrary(u).map(Some) } else { Ok(None) }
}

/// Generates the first part of a stream: usually the headers of a request with a body.
fn a_first(u: &mut Unstructured<'_>) -> Result<Part> {
    if rarely(u)? {
        return Part::arbitrary(u);
    }
    Ok(Part::RequestHeaders { headers: seldom(u)?, end: rarely(u)? })
}

/// One of the first three in most streams: the others are refused at once.
fn a_mode(u: &mut Unstructured<'_>) -> Result<Mode> {
    if rarely(u)? {
        return Mode::arbitrary(u);
    }
    u.choose(&[Mode::Buffered, Mode::FullDuplexStreamed, Mode::BufferedPartial]).copied()
}

fn a_tool(u: &mut Unstructured<'_>) -> Result<&'static str> {
    u.choose(&["good", "bad", "scoped"]).copied()
}

fn a_scope(u: &mut Unstructured<'_>) -> Result<&'static str> {
    u.choose(&["a", "b", "b a", "A", ""]).copied()
}

impl Input {
    /// The bytes of the stream.
    pub fn wire(self) -> Vec<u8> {
        let mut first_modes = Some(self.modes).filter(|_| !self.without_modes);
        let mut bytes = Vec::new();
        let first = Sent::usual(self.first, self.claims);
        for Sent { part, observed, other_modes, claims } in iter::once(first).chain(self.rest) {
            let requests = match part {
                Part::Framed(message) => {
                    bytes.extend(wire::framed(&message));
                    continue;
                }
                Part::Unframed(message) => {
                    bytes.extend(message);
                    continue;
                }
                Part::Chunks { bytes, cuts, end } => chunks(bytes.bytes(), &cuts, end),
                part => vec![part.request()],
            };
            let mut metadata_context = claims.map(metadata);
            for request in requests {
                let modes = first_modes.take().or(other_modes);
                let message = ProcessingRequest {
                    metadata_context: metadata_context.take(),
                    observability_mode: observed,
                    protocol_config: modes.map(Modes::config),
                    request,
                    ..ProcessingRequest::default()
                };
                bytes.extend(wire::framed(&message.encode_to_vec()));
            }
        }
        bytes
    }
}

/// Streams as a real Envoy sends them, in each of the modes.
pub fn ordinary(tool: &'static str) -> Vec<Vec<u8>> {
    let modes = [Mode::Buffered, Mode::BufferedPartial, Mode::FullDuplexStreamed];
    let stream = |mode| {
        let body = match mode {
            Mode::FullDuplexStreamed => {
                Part::Chunks { bytes: Bytes::Call(tool), cuts: vec![10, 20], end: true }
            }
            _ => Part::RequestBody { bytes: Bytes::Call(tool), end: true },
        };
        let input = Input {
            setting: Setting::Plain,
            modes: Modes { request: mode, response: Mode::None },
            without_modes: false,
            first: Part::RequestHeaders { headers: None, end: false },
            claims: None,
            rest: vec![Sent::usual(body, None)],
        };
        input.wire()
    };
    modes.map(stream).into()
}

impl Sent {
    fn usual(part: Part, claims: Option<Vec<Claim>>) -> Self {
        Self { part, observed: false, other_modes: None, claims }
    }
}

impl Part {
    fn request(self) -> Option<Request> {
        let headers = |headers, end_of_stream| HttpHeaders {
            headers: Some(HeaderMap { headers }),
            end_of_stream,
            ..HttpHeaders::default()
        };
        let trailers = || HttpTrailers { trailers: None };
        Some(match self {
            Self::RequestHeaders { headers: list, end } => {
                // Every client sends this one with a message.
                let usual = || vec![Header::Other("accept".to_owned(), b"*/*".to_vec())];
                let list = list.unwrap_or_else(usual).into_iter().map(Header::value).collect();
                Request::RequestHeaders(headers(list, end))
            }
            Self::RequestBody { bytes, end } => Request::RequestBody(body(bytes.bytes(), end)),
            Self::RequestTrailers => Request::RequestTrailers(trailers()),
            Self::ResponseHeaders { end } => Request::ResponseHeaders(headers(Vec::new(), end)),
            Self::ResponseBody { bytes, end } => Request::ResponseBody(body(bytes.bytes(), end)),
            Self::ResponseTrailers => Request::ResponseTrailers(trailers()),
            Self::Nothing | Self::Chunks { .. } | Self::Framed(_) | Self::Unframed(_) => {
                return None;
            }
        })
    }
}

fn body(body: Vec<u8>, end_of_stream: bool) -> HttpBody {
    HttpBody { body, end_of_stream, ..HttpBody::default() }
}

fn chunks(mut bytes: Vec<u8>, cuts: &[u8], end: bool) -> Vec<Option<Request>> {
    let mut chunks = Vec::new();
    for &cut in cuts {
        let rest = bytes.split_off(bytes.len().min(cut.into()));
        chunks.push(Some(Request::RequestBody(body(std::mem::replace(&mut bytes, rest), false))));
    }
    chunks.push(Some(Request::RequestBody(body(bytes, end))));
    chunks
}

impl Modes {
    fn config(self) -> ProtocolConfiguration {
        ProtocolConfiguration {
            request_body_mode: self.request.number(),
            response_body_mode: self.response.number(),
            ..ProtocolConfiguration::default()
        }
    }
}

impl Mode {
    fn number(self) -> i32 {
        let known = match self {
            Self::Buffered => BodySendMode::Buffered,
            Self::FullDuplexStreamed => BodySendMode::FullDuplexStreamed,
            Self::BufferedPartial => BodySendMode::BufferedPartial,
            Self::None => BodySendMode::None,
            Self::Streamed => BodySendMode::Streamed,
            Self::Grpc => BodySendMode::Grpc,
            Self::Unknown => return 99,
        };
        known.into()
    }
}

impl Header {
    fn value(self) -> HeaderValue {
        let (key, raw_value) = match self {
            Self::Name(tool) => ("mcp-name".to_owned(), tool.into()),
            Self::Compressed => ("content-encoding".to_owned(), b"gzip".to_vec()),
            Self::Identity => ("content-encoding".to_owned(), b"identity".to_vec()),
            Self::Charset => ("content-type".to_owned(), b"text/json; charset=utf-7".to_vec()),
            Self::Length(length) => ("content-length".to_owned(), length.to_string().into()),
            Self::Other(key, value) => (key, value),
        };
        HeaderValue { key, raw_value, ..HeaderValue::default() }
    }
}

impl Bytes {
    fn bytes(self) -> Vec<u8> {
        let call = |tool| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#
            )
        };
        match self {
            Self::Call(tool) => call(tool).into(),
            Self::Batch(first, second) => format!("[{},{}]", call(first), call(second)).into(),
            Self::Initialize => br#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#.to_vec(),
            Self::Empty => Vec::new(),
            Self::Spaces(count) => vec![b' '; (count % 1024).into()],
            Self::Raw(bytes) => bytes,
        }
    }
}

/// Each claim is in a payload of its own.
fn metadata(claims: Vec<Claim>) -> Metadata {
    let payloads = claims.into_iter().take(MOST_PAYLOADS).enumerate().map(|(number, claim)| {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let payload = match claim {
            Claim::Scope(scope) => vec![("scope", text(scope))],
            Claim::Scopes(scopes) => {
                let values = scopes.iter().map(|&good| text(if good { "a" } else { "b a" }));
                let list = ListValue { values: values.collect() };
                vec![("scp", Value { kind: Some(Kind::ListValue(list)) })]
            }
            Claim::Failure => vec![("code", text("2")), ("message", text("expired"))],
            Claim::Text(other) => vec![("sub", text(&other))],
            // Seldom more than a message may hold: it takes long to copy.
            Claim::Large(size) => {
                let bytes =
                    if size > 0xff00 { MAX_MESSAGE_BYTES } else { usize::from(size) % 1024 };
                vec![("large", text(&"x".repeat(bytes)))]
            }
        };
        let fields = payload.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        (number.to_string(), Value { kind: Some(Kind::StructValue(Struct { fields })) })
    });
    let namespace = (JWT_AUTHN.to_owned(), Struct { fields: payloads.collect() });
    Metadata { filter_metadata: [namespace].into(), ..Metadata::default() }
}
