//! Envoy's messages to ours and back: the only file that names protobuf types.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{
    HeaderMap, HeaderValue, HeaderValueOption, Metadata, header_value_option::HeaderAppendAction,
};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
pub(super) use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyMutation, BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, HttpBody,
    HttpHeaders, HttpTrailers, ImmediateResponse, ProtocolConfiguration, StreamedBodyResponse,
    TrailersResponse, body_mutation::Mutation,
};
pub(super) use envoy_types::pb::envoy::service::ext_proc::v3::{
    ProcessingRequest, ProcessingResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;

use super::message::{Answer, BodyMode, Chunk, Event, Message, ResponsePart, Setup};
use crate::claims::Claims;
use crate::gate::{ClaimsFrom, Gate, Origin, Refusal};
use crate::head::Head;
use crate::proto::v1::Decision;
use crate::proto::{self, Kind, ListValue, Struct, Value};
use crate::record::{Field, fields};

/// What Envoy says of a stream in its gRPC metadata.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// The policy that judges.
    pub(super) policy: Option<String>,
    /// The `traceparent` of Envoy's span.
    pub(super) traceparent: Option<String>,
}

/// Envoy's message as one of ours.
pub(super) fn message(request: ProcessingRequest, gate: &Gate, named: &Named) -> Message {
    let ProcessingRequest {
        metadata_context,
        mut attributes,
        observability_mode: _,
        protocol_config,
        flow_control_init: _,
        client_window_update: _,
        request,
    } = request;
    Message {
        event: request.map_or(Event::Unknown, |request| event(request, &mut attributes, named)),
        setup: protocol_config.map(setup),
        verified: metadata_context.and_then(|metadata| verified(metadata, gate)),
    }
}

/// The filter's name, under which Envoy sends the `request_attributes`.
const EXT_PROC: &str = "envoy.filters.http.ext_proc";

fn event(request: Request, attributes: &mut HashMap<String, Struct>, named: &Named) -> Event {
    match request {
        Request::RequestHeaders(HttpHeaders { headers, attributes: _, end_of_stream }) => {
            let mut head = head(headers.unwrap_or_default());
            head.attributes = texts(attributes);
            head.policy.clone_from(&named.policy);
            head.traceparent.clone_from(&named.traceparent);
            Event::RequestHeaders { head, end_of_stream }
        }
        Request::RequestBody(body) => Event::RequestBody(chunk(body)),
        Request::RequestTrailers(HttpTrailers { trailers: _ }) => Event::RequestTrailers,
        Request::ResponseHeaders(HttpHeaders { headers: _, attributes: _, end_of_stream: _ }) => {
            Event::Response(ResponsePart::Headers)
        }
        Request::ResponseBody(body) => Event::Response(ResponsePart::Body(chunk(body))),
        Request::ResponseTrailers(HttpTrailers { trailers: _ }) => {
            Event::Response(ResponsePart::Trailers)
        }
    }
}

/// The attributes that are texts.
fn texts(attributes: &mut HashMap<String, Struct>) -> Vec<(String, String)> {
    let attributes = attributes.remove(EXT_PROC).map(|Struct { fields }| fields);
    let text = |(name, Value { kind })| match kind {
        Some(Kind::StringValue(text)) => Some((name, text)),
        _ => None,
    };
    attributes.into_iter().flatten().filter_map(text).collect()
}

fn chunk(body: HttpBody) -> Chunk {
    let HttpBody {
        body,
        end_of_stream,
        end_of_stream_without_message: _,
        grpc_message_compressed: _,
        drain_complete: _,
    } = body;
    Chunk { bytes: body, end_of_stream }
}

fn head(HeaderMap { headers }: HeaderMap) -> Head {
    let mut head = Head::default();
    for HeaderValue { key, value, raw_value } in headers {
        // Envoy fills one of the two.
        let value = if raw_value.is_empty() { value.into_bytes() } else { raw_value };
        let pseudo = match key.as_str() {
            ":method" => &mut head.method,
            ":authority" => &mut head.host,
            ":path" => &mut head.path,
            _ => {
                head.headers.push((key, value));
                continue;
            }
        };
        *pseudo = String::from_utf8_lossy(&value).into_owned();
    }
    head
}

fn setup(config: ProtocolConfiguration) -> Setup {
    let ProtocolConfiguration {
        request_body_mode,
        response_body_mode,
        send_body_without_waiting_for_header_response: _,
    } = config;
    Setup {
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

/// The claims that `jwt_authn` put into dynamic metadata, where no client can
/// write.
fn verified(metadata: Metadata, gate: &Gate) -> Option<Claims> {
    let Metadata { mut filter_metadata, typed_filter_metadata: _ } = metadata;
    let ClaimsFrom::Metadata { namespace, key } = &gate.claims_from else {
        return None;
    };
    let Struct { mut fields } = filter_metadata.remove(namespace)?;
    let payload = match key {
        Some(key) => fields.remove(key).and_then(payload)?,
        None => only_payload(fields)?,
    };
    // What no rule reads need not be converted.
    let is_read = |name: &str| {
        gate.reads_claims()
            || Claims::SCOPE_CLAIMS.contains(&name)
            || Origin::CLAIMS.contains(&name)
    };
    let fields = payload.fields.into_iter().filter(|(name, _)| is_read(name)).collect();
    Some(Claims::new(proto::object(Struct { fields })))
}

/// The one payload among what `jwt_authn` left. Two are none: it cannot be
/// known which one is meant.
fn only_payload(fields: HashMap<String, Value>) -> Option<Struct> {
    let mut payloads = fields.into_values().filter_map(payload);
    payloads.next().filter(|_| payloads.next().is_none())
}

/// With `failed_status_in_metadata`, `jwt_authn` writes about a token that is
/// **not** valid where it writes payloads: exactly `code` and `message`.
fn payload(Value { kind }: Value) -> Option<Struct> {
    let Some(Kind::StructValue(payload)) = kind else { return None };
    let Struct { fields } = &payload;
    let is_failure =
        fields.len() == 2 && fields.contains_key("code") && fields.contains_key("message");
    (!is_failure).then_some(payload)
}

/// The namespace of the decision among Envoy's dynamic metadata.
const METADATA_NAMESPACE: &str = "mcp_authz";

/// A decision as Envoy's dynamic metadata.
pub(super) fn metadata(decision: &Decision) -> Struct {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let value = |field| match field {
        Field::Text(value) => text(value),
        Field::Written(value) => text(&value),
        Field::Texts(values) => {
            let values = values.iter().map(|value| text(value)).collect();
            Value { kind: Some(Kind::ListValue(ListValue { values })) }
        }
        Field::Number(number) => Value { kind: Some(Kind::NumberValue(number.into())) },
        Field::Bool(value) => Value { kind: Some(Kind::BoolValue(value)) },
    };
    let fields = fields(decision).into_iter();
    Struct { fields: fields.map(|(name, field)| (name.to_owned(), value(field))).collect() }
}

/// Our answer as a message to Envoy, with what it shall know of the decision.
pub(super) fn response(answer: Answer, metadata: Option<Struct>) -> ProcessingResponse {
    let headers = || HeadersResponse { response: Some(CommonResponse::default()) };
    let body = || BodyResponse { response: Some(CommonResponse::default()) };
    let trailers = || TrailersResponse { header_mutation: None };
    let response = match answer {
        Answer::RequestHeaders => Response::RequestHeaders(headers()),
        Answer::RequestBody => Response::RequestBody(body()),
        Answer::StreamRequestBody(chunk) => Response::RequestBody(streamed(chunk)),
        Answer::RequestTrailers => Response::RequestTrailers(trailers()),
        Answer::ResponseHeaders => Response::ResponseHeaders(headers()),
        Answer::ResponseBody => Response::ResponseBody(body()),
        Answer::StreamResponseBody(chunk) => Response::ResponseBody(streamed(chunk)),
        Answer::ResponseTrailers => Response::ResponseTrailers(trailers()),
        Answer::Refuse(refusal) => Response::ImmediateResponse(immediate(refusal)),
    };
    let namespaces = metadata.map(|decision| Struct {
        fields: [(
            METADATA_NAMESPACE.to_owned(),
            Value { kind: Some(Kind::StructValue(decision)) },
        )]
        .into(),
    });
    ProcessingResponse {
        response: Some(response),
        dynamic_metadata: namespaces,
        ..ProcessingResponse::default()
    }
}

fn streamed(Chunk { bytes, end_of_stream }: Chunk) -> BodyResponse {
    let streamed =
        StreamedBodyResponse { body: bytes, end_of_stream, ..StreamedBodyResponse::default() };
    let mutation = BodyMutation { mutation: Some(Mutation::StreamedResponse(streamed)) };
    BodyResponse {
        response: Some(CommonResponse {
            body_mutation: Some(mutation),
            ..CommonResponse::default()
        }),
    }
}

fn immediate(refusal: Refusal) -> ImmediateResponse {
    let Refusal {
        status,
        reason,
        blame: _,
        policy: _,
        www_authenticate,
        required_scopes: _,
        body,
        hint: _,
    } = refusal;
    let mut set_headers = vec![header("content-type", "application/json".to_owned())];
    set_headers.extend(www_authenticate.map(|value| header("www-authenticate", value)));
    ImmediateResponse {
        status: Some(HttpStatus { code: i32::from(status) }),
        headers: Some(HeaderMutation { set_headers, remove_headers: Vec::new() }),
        body: body.into_bytes(),
        grpc_status: None,
        details: format!("mcp_authz_{reason}"),
    }
}

fn header(key: &str, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: key.to_owned(),
            raw_value: value.into_bytes(),
            ..HeaderValue::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

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
        let filter_metadata =
            [("envoy.filters.http.jwt_authn".to_owned(), namespace)].into_iter().collect();
        let metadata = Metadata { filter_metadata, ..Metadata::default() };
        let claims = verified(metadata, &gate)?;
        Some(claims.scopes().map(str::to_owned).collect())
    }

    #[test]
    fn claims_come_from_the_one_payload_or_the_one_that_is_named() {
        const NAMED: &str = "jwt: {metadata: {key: b}}";
        let (a, b) = (object(&[("scope", text("a"))]), object(&[("scope", text("b"))]));
        let failed = object(&[("code", text("2")), ("message", text("Jwt is expired"))]);
        let granted = |scope: &str| Some(vec![scope.to_owned()]);

        assert_eq!(scopes("", &[("x", a.clone())]), granted("a"));
        assert_eq!(scopes("", &[("x", a.clone()), ("y", b.clone())]), None, "which one is meant?");
        assert_eq!(scopes("", &[("x", a.clone()), ("failed", failed.clone())]), granted("a"));
        assert_eq!(scopes("", &[("failed", failed.clone())]), None);
        assert_eq!(scopes("", &[("x", text("a"))]), None);
        assert_eq!(scopes("", &[]), None);
        assert_eq!(scopes(NAMED, &[("a", a.clone()), ("b", b)]), granted("b"));
        assert_eq!(scopes(NAMED, &[("a", a)]), None);
        assert_eq!(scopes(NAMED, &[("b", failed)]), None);
        assert_eq!(scopes("jwt: {metadata: {namespace: other}}", &[("a", text("a"))]), None);
    }
}
