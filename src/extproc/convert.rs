//! Conversions between Envoy's messages and the session's.

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use prost::Message as _;
use prost::bytes::Bytes;

use super::message::{
    AcceptEncoding, BodyMode, Chunk, Event, Message, ProcessingModes, ProtocolError, Reply,
    ResponsePart,
};
use super::wire::{
    Answered, Asked, BodyMutation, CommonResponse, CommonResponseHolder, Empty, HeaderMap,
    HeaderMutation, HeaderValue, HeaderValueOption, HttpBody, HttpHeaders, HttpStatus,
    ImmediateResponse, Member, Members, ProcessingRequest, ProcessingResponse,
    ProtocolConfiguration, begin, length, put, structure, text, utf8,
};
use crate::claims::{Claims, VerifiedClaims};
use crate::gate::{CallerInfo, ClaimsFrom, Content, Gate, Refusal, ResponseHead};
use crate::head::Head;
use crate::json::{Json, Key, Object};
use crate::proto;
use crate::proto::v1::Decision;
use crate::record::{Field, fields};

/// The values about a stream in Envoy's gRPC metadata.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// The name of the policy that decides.
    pub(super) policy: Option<String>,
    /// The `traceparent` of Envoy's span.
    pub(super) traceparent: Option<String>,
}

/// The data that a session needs from a message at this point of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// The claims, which come with every message.
    Claims,
    /// The headers of a response.
    ResponseHead,
    /// Neither claims nor response headers.
    Little,
}

/// Converts Envoy's message to the session's.
pub(super) fn message(
    request: ProcessingRequest,
    gate: &Gate,
    named: &Named,
    reads: Reads,
) -> Result<Message, ProtocolError> {
    let ProcessingRequest {
        request,
        metadata_context,
        attributes,
        observability_mode: _,
        protocol_config,
    } = request;
    let verified = match metadata_context {
        Some(metadata) if reads == Reads::Claims => verified_claims(&metadata, gate)?,
        Some(_) | None => VerifiedClaims::None,
    };
    let event = match request {
        Some(Asked::ResponseHeaders(headers)) => {
            let head = (reads == Reads::ResponseHead).then(|| response_head(&headers));
            Event::Response(ResponsePart::Headers(head.transpose()?))
        }
        Some(request) => event(request, &attributes, named)?,
        None => Event::Unknown,
    };
    Ok(Message { event, setup: protocol_config.map(setup), verified })
}

/// The filter's name, under which Envoy sends the `request_attributes`.
const EXT_PROC: &str = "envoy.filters.http.ext_proc";

fn event(request: Asked, attributes: &[Member], named: &Named) -> Result<Event, ProtocolError> {
    Ok(match request {
        Asked::RequestHeaders(HttpHeaders { headers, end_of_stream }) => {
            let mut head = head(headers.unwrap_or_default());
            head.has_body = !end_of_stream;
            head.attributes = texts(attributes)?;
            head.policy.clone_from(&named.policy);
            head.traceparent.clone_from(&named.traceparent);
            Event::RequestHeaders { head, end_of_stream }
        }
        Asked::RequestBody(body) => Event::RequestBody(chunk(body)),
        Asked::RequestTrailers(Empty {}) => Event::RequestTrailers,
        Asked::ResponseHeaders(_) => Event::Response(ResponsePart::Headers(None)),
        Asked::ResponseBody(body) => Event::Response(ResponsePart::Body(chunk(body))),
        Asked::ResponseTrailers(Empty {}) => Event::Response(ResponsePart::Trailers),
    })
}

/// Returns the attributes that are strings.
fn texts(attributes: &[Member]) -> Result<Vec<(String, String)>, ProtocolError> {
    let mut texts = Vec::new();
    if let Some(ours) = attributes.iter().rfind(|member| member.key == EXT_PROC) {
        for (name, value) in Members::of(&ours.value)?.iter() {
            let name = utf8(name)?;
            texts.extend(text(value)?.map(|text| (name.to_owned(), text.to_owned())));
        }
    }
    Ok(texts)
}

/// Decodes bytes as UTF-8. Bytes that are not UTF-8 become U+FFFD, so they equal no name in a
/// policy.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn chunk(HttpBody { body, end_of_stream }: HttpBody) -> Chunk {
    Chunk { bytes: body, end_of_stream }
}

fn head(HeaderMap { headers }: HeaderMap) -> Head {
    let mut head = Head { headers: Vec::with_capacity(headers.len()), ..Head::default() };
    for HeaderValue { key, value, raw_value } in headers {
        // Envoy fills only one of the two.
        let value = if raw_value.is_empty() { value } else { raw_value };
        let pseudo = match &*key {
            b":method" => &mut head.method,
            b":authority" => &mut head.host,
            b":path" => &mut head.path,
            _ => {
                head.headers.push((lossy(&key), value.into()));
                continue;
            }
        };
        pseudo.add(&value);
    }
    head
}

/// Reads the headers of a response.
///
/// # Errors
/// If the headers cannot be decoded.
fn response_head(headers: &[u8]) -> Result<ResponseHead, ProtocolError> {
    let headers = HttpHeaders::decode(headers)
        .map_err(|_error| ProtocolError("the headers of a response cannot be decoded"))?;
    let mut head = ResponseHead { end_of_stream: headers.end_of_stream, ..ResponseHead::default() };
    for HeaderValue { key, value, raw_value } in headers.headers.unwrap_or_default().headers {
        let value = lossy(if raw_value.is_empty() { &value } else { &raw_value });
        match &*key {
            b":status" => head.status = value.parse().unwrap_or_default(),
            b"content-type" => {
                // Several content types count as an unknown type.
                let several = !head.content_type.is_empty();
                head.content_type =
                    if several { "several".to_owned() } else { value.to_ascii_lowercase() };
            }
            b"cache-control" => {
                let comma = if head.cache_control.is_empty() { "" } else { ", " };
                head.cache_control.extend([comma, &value]);
            }
            b"content-encoding" => {
                head.is_compressed |= !value.trim().eq_ignore_ascii_case("identity");
            }
            _ => {}
        }
    }
    Ok(head)
}

fn setup(config: ProtocolConfiguration) -> ProcessingModes {
    let ProtocolConfiguration { request_body_mode, response_body_mode } = config;
    ProcessingModes {
        request_body: body_mode(request_body_mode),
        response_body: body_mode(response_body_mode),
    }
}

fn body_mode(mode: i32) -> BodyMode {
    match BodySendMode::try_from(mode) {
        Ok(BodySendMode::None) => BodyMode::None,
        Ok(BodySendMode::Streamed) => BodyMode::Streamed,
        Ok(BodySendMode::Buffered) => BodyMode::Buffered,
        Ok(BodySendMode::BufferedPartial) => BodyMode::BufferedPartial,
        Ok(BodySendMode::FullDuplexStreamed) => BodyMode::FullDuplexStreamed,
        Ok(_) | Err(_) => BodyMode::Other(mode),
    }
}

/// The names of the claims that every decision uses or reports.
const ALWAYS_READ: [&str; 5] = {
    let ([scope, scp], [sub, client_id, azp]) = (Claims::SCOPE_CLAIMS, CallerInfo::CLAIMS);
    [scope, scp, sub, client_id, azp]
};

/// Reads the claims that `jwt_authn` put into dynamic metadata, where no client can write.
/// `metadata` is an encoded `envoy.config.core.v3.Metadata`, as Envoy sends it.
///
/// # Errors
/// If the claims cannot be decoded: without them, a Deny rule that requires a claim would not
/// match.
pub fn verified_claims(metadata: &[u8], gate: &Gate) -> Result<VerifiedClaims, ProtocolError> {
    let ClaimsFrom::Metadata { namespace, key } = &gate.claims_from else {
        return Ok(VerifiedClaims::None);
    };
    let Some(fields) = Members::of(metadata)?.get(namespace) else {
        return Ok(VerifiedClaims::None);
    };
    let fields = Members::of(fields)?;
    let payload = match key {
        Some(key) => fields.get(key).map_or(Ok(None), payload)?,
        None => {
            let mut payloads = payloads(&fields)?;
            if payloads.len() > 1 {
                let mut names: Vec<String> = payloads.iter().map(|(name, _)| lossy(name)).collect();
                names.sort_unstable();
                return Ok(VerifiedClaims::Several(names));
            }
            payloads.pop().map(|(_, payload)| payload)
        }
    };
    let Some(payload) = payload else { return Ok(VerifiedClaims::None) };
    let reads_all = gate.reads_claims();
    let most = if reads_all { payload.len() } else { ALWAYS_READ.len() };
    let mut claims = Vec::with_capacity(most);
    for (name, value) in payload.iter() {
        // A claim that no rule reads need not be decoded.
        let name = match ALWAYS_READ.iter().find(|known| known.as_bytes() == name) {
            Some(known) => (*known).into(),
            None if reads_all => utf8(name)?.to_owned().into(),
            None => continue,
        };
        claims.push((Key::Plain(name), claim(value)?));
    }
    let claims = Object::new(claims).map_err(|_twice| ProtocolError("a claim comes twice"))?;
    Ok(VerifiedClaims::Token(Claims::new(claims)))
}

fn claim(value: &[u8]) -> Result<Json<'static>, ProtocolError> {
    match text(value)? {
        // Most claims are strings.
        Some(text) => Ok(Json::String(text.to_owned().into())),
        None => proto::Value::decode(value)
            .map(proto::json)
            .map_err(|_error| ProtocolError("a claim cannot be decoded")),
    }
}

/// Returns the payloads that `jwt_authn` left in the metadata, with their names.
fn payloads<'m>(fields: &Members<'m>) -> Result<Vec<(&'m [u8], Members<'m>)>, ProtocolError> {
    let payloads = fields.iter().filter_map(|(name, value)| match payload(value) {
        Ok(payload) => payload.map(|payload| Ok((name, payload))),
        Err(violation) => Some(Err(violation)),
    });
    payloads.collect()
}

/// Returns the payload, unless it describes a failure. With `failed_status_in_metadata`,
/// `jwt_authn` writes the status of a token that is **not** valid in place of a payload. Such a
/// status has exactly the members `code` and `message`.
fn payload(value: &[u8]) -> Result<Option<Members<'_>>, ProtocolError> {
    let Some(payload) = structure(value)? else { return Ok(None) };
    let payload = Members::of(payload)?;
    let is_failure =
        payload.len() == 2 && payload.get("code").is_some() && payload.get("message").is_some();
    Ok((!is_failure).then_some(payload))
}

/// The namespace of the decision in Envoy's dynamic metadata.
const METADATA_NAMESPACE: &str = "mcp_authz";

/// Encodes a decision as Envoy's dynamic metadata: a `Struct` that holds the decision's `Struct` in
/// the namespace of mcp-authz.
pub(super) fn metadata(decision: &Decision) -> Bytes {
    let mut members = Vec::with_capacity(512);
    for (name, field) in fields(decision) {
        let name = name.as_bytes();
        match field {
            Field::Text(text) => put_member(&mut members, name, STRING, text.as_bytes()),
            Field::Written(text) => put_member(&mut members, name, STRING, text.as_bytes()),
            Field::Texts(texts) => {
                let mut list = Vec::new();
                for text in texts {
                    begin(&mut list, FIELD, length(text.len()));
                    put(&mut list, STRING, text.as_bytes());
                }
                put_member(&mut members, name, LIST, &list);
            }
            Field::Number(number) => {
                let number = f64::from(number).to_le_bytes();
                put_member_value(&mut members, name, 1 + number.len(), |members| {
                    members.push(NUMBER << 3 | FIXED64);
                    members.extend_from_slice(&number);
                });
            }
            Field::Bool(value) => put_member_value(&mut members, name, 2, |members| {
                members.extend_from_slice(&[BOOL << 3, value.into()]);
            }),
        }
    }
    let namespace = METADATA_NAMESPACE.as_bytes();
    let mut metadata = Vec::with_capacity(members.len() + namespace.len() + 32);
    put_member(&mut metadata, namespace, STRUCT, &members);
    metadata.into()
}

/// The tags of `Struct.fields`, and of the value in a member of a map.
const FIELD: u8 = 1;
const VALUE: u8 = 2;
/// The tags of the kinds of `google.protobuf.Value`.
const NUMBER: u8 = 2;
const STRING: u8 = 3;
const BOOL: u8 = 4;
const STRUCT: u8 = 5;
const LIST: u8 = 6;
/// A type of protobuf's wire format: eight bytes.
const FIXED64: u8 = 1;

/// Appends a member of a `Struct`.
fn put_member(buffer: &mut Vec<u8>, name: &[u8], kind: u8, value: &[u8]) {
    put_member_value(buffer, name, length(value.len()), |buffer| put(buffer, kind, value));
}

/// Appends a member of a `Struct`. `value` is the length of its value in bytes, and `put_value`
/// appends the value.
fn put_member_value(
    buffer: &mut Vec<u8>,
    name: &[u8],
    value: usize,
    put_value: impl FnOnce(&mut Vec<u8>),
) {
    begin(buffer, FIELD, length(name.len()) + length(value));
    put(buffer, FIELD, name);
    begin(buffer, VALUE, value);
    put_value(buffer);
}

/// Converts an answer to a message for Envoy, with the metadata about the decision.
pub(super) fn response(answer: Reply, metadata: Option<Bytes>) -> ProcessingResponse {
    let response = match answer {
        Reply::RequestHeaders(encodings) => Answered::RequestHeaders(accepting(encodings)),
        Reply::RequestBody(encodings) => Answered::RequestBody(accepting(encodings)),
        Reply::StreamRequestBody(chunk) => Answered::RequestBody(streamed(chunk)),
        Reply::RequestTrailers => Answered::RequestTrailers(Empty {}),
        Reply::ResponseHeaders => Answered::ResponseHeaders(without([])),
        Reply::FilteredResponseHeaders { cache_control } => {
            Answered::ResponseHeaders(filtered(cache_control))
        }
        Reply::ResponseBody => Answered::ResponseBody(without([])),
        Reply::ReplaceResponseBody(body) => {
            let body = BodyMutation { body: Some(body), streamed_response: None };
            Answered::ResponseBody(mutated(body))
        }
        Reply::StreamResponseBody(chunk) => Answered::ResponseBody(streamed(chunk)),
        Reply::ResponseTrailers => Answered::ResponseTrailers(Empty {}),
        Reply::Refuse(refusal) => Answered::ImmediateResponse(immediate(refusal)),
    };
    ProcessingResponse { response: Some(response), dynamic_metadata: metadata }
}

fn accepting(encodings: AcceptEncoding) -> CommonResponseHolder {
    match encodings {
        AcceptEncoding::Accepted => without([]),
        AcceptEncoding::Identity => without(["accept-encoding"]),
    }
}

/// The headers that a filtered list makes wrong: its length and digests ([RFC 9530]), and
/// directives for shared caches ([RFC 9213]).
///
/// [RFC 9213]: https://www.rfc-editor.org/rfc/rfc9213
/// [RFC 9530]: https://www.rfc-editor.org/rfc/rfc9530
const NOT_OF_FILTERED_LISTS: [&str; 10] = [
    "content-length",
    "content-digest",
    "repr-digest",
    "digest",
    "content-md5",
    "etag",
    "cdn-cache-control",
    "cloudflare-cdn-cache-control",
    "surrogate-control",
    "x-accel-expires",
];

/// Continues the response with the headers of a filtered list.
fn filtered(cache_control: String) -> CommonResponseHolder {
    let mut response = without(NOT_OF_FILTERED_LISTS);
    if let Some(CommonResponse { header_mutation: Some(mutation), .. }) = &mut response.response {
        mutation.set_headers.push(header("cache-control", cache_control));
    }
    response
}

/// Continues the request or response without some headers.
fn without<const N: usize>(headers: [&str; N]) -> CommonResponseHolder {
    let remove_headers = headers.map(str::to_owned).to_vec();
    let mutation = HeaderMutation { set_headers: Vec::new(), remove_headers };
    let header_mutation = (N > 0).then_some(mutation);
    CommonResponseHolder { response: Some(CommonResponse { header_mutation, body_mutation: None }) }
}

fn streamed(Chunk { bytes, end_of_stream }: Chunk) -> CommonResponseHolder {
    let streamed_response = Some(HttpBody { body: bytes, end_of_stream });
    mutated(BodyMutation { body: None, streamed_response })
}

fn mutated(body: BodyMutation) -> CommonResponseHolder {
    let response = CommonResponse { header_mutation: None, body_mutation: Some(body) };
    CommonResponseHolder { response: Some(response) }
}

fn immediate(refusal: Refusal) -> ImmediateResponse {
    let Content { media_type, body } = refusal.content();
    let Refusal {
        status,
        reason,
        blame: _,
        policy: _,
        www_authenticate,
        required_scopes: _,
        code: _,
        message: _,
        id: _,
        hint: _,
    } = refusal;
    let mut set_headers = vec![header("content-type", media_type.to_owned())];
    set_headers.extend(www_authenticate.map(|value| header("www-authenticate", value)));
    ImmediateResponse {
        status: Some(HttpStatus { code: i32::from(status) }),
        headers: Some(HeaderMutation { set_headers, remove_headers: Vec::new() }),
        body,
        details: format!("mcp_authz_{reason}"),
    }
}

fn header(key: &'static str, value: String) -> HeaderValueOption {
    let (key, raw_value) = (Bytes::from_static(key.as_bytes()), value.into());
    HeaderValueOption {
        header: Some(HeaderValue { key, value: Bytes::new(), raw_value }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::head::PseudoHeader;
    use crate::proto::{Kind, Struct, Value};
    use envoy_types::pb::envoy::config::core::v3::Metadata;

    fn text(text: &str) -> Value {
        Value { kind: Some(Kind::StringValue(text.to_owned())) }
    }

    fn object(members: &[(&str, Value)]) -> Value {
        let fields = members.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        Value { kind: Some(Kind::StructValue(Struct { fields: fields.collect() })) }
    }

    fn scopes(jwt: &str, payloads: &[(&str, Value)]) -> Option<Vec<String>> {
        let file = format!("{jwt}\npolicies: [{{name: p, rules: [{{action: Deny}}]}}]");
        let gate = config::parse(&file).unwrap();
        let fields = payloads.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        let namespace = Struct { fields: fields.collect() };
        let filter_metadata = [("envoy.filters.http.jwt_authn".to_owned(), namespace)].into();
        let metadata = Metadata { filter_metadata, ..Metadata::default() };
        match verified_claims(&metadata.encode_to_vec(), &gate).unwrap() {
            VerifiedClaims::None => None,
            VerifiedClaims::Token(claims) => Some(claims.scopes().map(str::to_owned).collect()),
            VerifiedClaims::Several(names) => Some(vec![format!("one of {}", names.join(", "))]),
        }
    }

    #[test]
    fn claims_come_from_the_one_payload_or_the_one_that_is_named() {
        const NAMED: &str = "jwt: {metadata: {key: b}}";
        let (a, b) = (object(&[("scope", text("a"))]), object(&[("scope", text("b"))]));
        let failed = object(&[("code", text("2")), ("message", text("Jwt is expired"))]);
        let granted = |scope: &str| Some(vec![scope.to_owned()]);

        assert_eq!(scopes("", &[("x", a.clone())]), granted("a"));
        assert_eq!(scopes("", &[("x", a.clone()), ("y", b.clone())]), granted("one of x, y"));
        assert_eq!(scopes("", &[("x", a.clone()), ("failed", failed.clone())]), granted("a"));
        assert_eq!(scopes("", &[("failed", failed.clone())]), None);
        assert_eq!(scopes("", &[("x", text("a"))]), None);
        assert_eq!(scopes("", &[]), None);
        assert_eq!(scopes(NAMED, &[("a", a.clone()), ("b", b)]), granted("b"));
        assert_eq!(scopes(NAMED, &[("a", a)]), None);
        assert_eq!(scopes(NAMED, &[("b", failed)]), None);
        assert_eq!(scopes("jwt: {metadata: {namespace: other}}", &[("a", text("a"))]), None);
    }

    #[test]
    fn pseudo_headers_are_kept_as_sent() {
        let sent = |headers: &[(&'static [u8], &'static [u8])]| {
            let header = |&(key, raw_value): &(&'static [u8], &'static [u8])| HeaderValue {
                key: Bytes::from_static(key),
                value: Bytes::new(),
                raw_value: Bytes::from_static(raw_value),
            };
            head(HeaderMap { headers: headers.iter().map(header).collect() })
        };
        let nothing = sent(&[(b"path", b"/"), (b"host", b"a")]);
        for pseudo in [&nothing.method, &nothing.host, &nothing.path] {
            assert_eq!(*pseudo, PseudoHeader::NotSent);
        }
        let one = sent(&[(b":method", b"GET"), (b":path", b""), (b":authority", b"a")]);
        assert_eq!(one.method, "GET".into());
        assert_eq!(one.path, "".into());
        assert_eq!(one.host, "a".into());
        // Over HTTP/2, Envoy 1.40 forwards a path that is not UTF-8.
        for odd in [sent(&[(b":path", b"/a"), (b":path", b"/a")]), sent(&[(b":path", b"/\xff")])] {
            assert!(matches!(odd.path, PseudoHeader::Ambiguous { .. }), "{odd:?}");
        }
    }

    /// Tests that ambiguous response headers never let a list through unfiltered.
    #[test]
    fn the_head_of_a_response_is_what_all_its_headers_say() {
        let head = |headers: &[(&'static str, &'static str)], end_of_stream| {
            let header = |&(key, value): &(&'static str, &'static str)| HeaderValue {
                key: Bytes::from_static(key.as_bytes()),
                value: Bytes::new(),
                raw_value: Bytes::from_static(value.as_bytes()),
            };
            let headers = Some(HeaderMap { headers: headers.iter().map(header).collect() });
            response_head(&HttpHeaders { headers, end_of_stream }.encode_to_vec()).unwrap()
        };
        let json = ("content-type", "Application/JSON");
        let found = head(&[(":status", "200"), json, ("content-encoding", "Identity")], false);
        let content_type = "application/json".to_owned();
        let expected = ResponseHead {
            status: 200,
            content_type,
            is_compressed: false,
            end_of_stream: false,
            ..ResponseHead::default()
        };
        assert_eq!(found, expected);
        assert_eq!(head(&[json], true).status, 0);
        assert!(head(&[json], true).end_of_stream);
        for unclear in ["", "x", "-200", "200 OK"] {
            assert_eq!(head(&[(":status", unclear)], false).status, 0, "{unclear}");
        }
        let several = head(&[("content-type", "text/event-stream;x"), json], false);
        assert!(!several.content_type.contains('/'), "{several:?}");
        let encodings = [("content-encoding", "identity"), ("content-encoding", "gzip")];
        assert!(head(&encodings, false).is_compressed);
        assert!(response_head(b"\x0a\x05a").is_err());
    }

    /// Tests that an undecodable claim fails the stream. Otherwise a caller with such a claim would
    /// bypass a Deny rule.
    #[test]
    fn claims_that_cannot_be_decoded_are_not_taken_for_none() {
        let file =
            "policies: [{name: p, rules: [{action: Deny, cel: 'request.auth.jwt.claims.x == 1'}]}]";
        let gate = config::parse(file).unwrap();
        let field = |tag: u8, value: &[u8]| {
            let mut field = Vec::new();
            put(&mut field, tag, value);
            field
        };
        let member =
            |name: &[u8], value: &[u8]| field(1, &[field(1, name), field(2, value)].concat());
        let metadata = |claims: &[u8]| {
            let payload = member(b"payload", &field(5, claims));
            member(b"envoy.filters.http.jwt_authn", &payload)
        };
        let claims = |claims: &[u8]| verified_claims(&metadata(claims), &gate);
        let good = member(b"x", &field(3, b"1"));
        assert!(matches!(claims(&good), Ok(VerifiedClaims::Token(_))));
        let deep = (0..200).fold(field(3, b"1"), |value, _| field(6, &field(1, &value)));
        for bad in [
            member(b"x", &field(3, b"\xff")),
            member(b"\xff", &field(3, b"1")),
            member(b"x", &deep),
            member(b"x", b"\x1a\x05a"),
            b"\x0a\x05a".to_vec(),
            [good.clone(), good].concat(),
        ] {
            assert!(claims(&bad).is_err(), "{bad:?}");
        }
        assert!(verified_claims(b"\x0a\x05a", &gate).is_err());
        assert!(matches!(verified_claims(b"", &gate), Ok(VerifiedClaims::None)));
        let key = EXT_PROC.into();
        let attributes = [Member { key, value: member(b"x", &field(3, b"\xff")).into() }];
        assert!(texts(&attributes).is_err());
    }
}
