//! Comparisons of the reduced messages with the complete ones.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::ext_proc::v3 as whole;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::google::protobuf as google;
use prost::bytes::Bytes;

use super::super::convert::{metadata, response};
use super::super::message::{AcceptEncoding, Chunk, Reply};
use super::*;
use crate::gate::Refusal;
use crate::proto;
use crate::proto::v1::Decision;
use crate::record::{Field, fields};

fn decoded(request: &whole::ProcessingRequest) -> ProcessingRequest {
    ProcessingRequest::decode(request.encode_to_vec().as_slice()).unwrap()
}

fn whole_struct(json: serde_json::Value) -> google::Struct {
    match proto::value(json).kind {
        Some(google::value::Kind::StructValue(value)) => value,
        other => panic!("{other:?}"),
    }
}

/// Returns the members as a map of complete structs.
fn structs<'m>(
    members: impl Iterator<Item = (&'m [u8], &'m [u8])>,
) -> HashMap<String, google::Struct> {
    let member =
        |(name, value)| (utf8(name).unwrap().to_owned(), google::Struct::decode(value).unwrap());
    members.map(member).collect()
}

#[test]
fn nothing_that_is_read_is_lost() {
    let one = whole_struct(serde_json::json!({"a": [1, null, true], "b": {"c": "d"}}));
    let two = whole_struct(serde_json::json!({"x": "y"}));
    let maps: HashMap<_, _> = [("f".to_owned(), one), ("g".to_owned(), two)].into();
    let header = |key: &str, value: &str, raw: &[u8]| core::HeaderValue {
        key: key.to_owned(),
        value: value.to_owned(),
        raw_value: raw.to_vec(),
    };
    let headers =
        vec![header(":path", "", b"/mcp"), header("a", "b", b""), header("a", "", b"\xff")];
    let request = whole::ProcessingRequest {
        request: Some(Request::RequestHeaders(whole::HttpHeaders {
            headers: Some(core::HeaderMap { headers: headers.clone() }),
            attributes: maps.clone(),
            end_of_stream: true,
        })),
        metadata_context: Some(core::Metadata {
            filter_metadata: maps.clone(),
            ..core::Metadata::default()
        }),
        attributes: maps.clone(),
        observability_mode: true,
        protocol_config: Some(whole::ProtocolConfiguration {
            request_body_mode: 5,
            response_body_mode: 2,
            send_body_without_waiting_for_header_response: true,
        }),
        ..whole::ProcessingRequest::default()
    };
    let ours = decoded(&request);
    assert!(ours.observability_mode);
    let setup = ProtocolConfiguration { request_body_mode: 5, response_body_mode: 2 };
    assert_eq!(ours.protocol_config, Some(setup));
    let attributes = ours.attributes.iter().map(|member| (&*member.key, &*member.value));
    assert_eq!(structs(attributes), maps);
    let metadata = ours.metadata_context.unwrap();
    assert_eq!(structs(Members::of(&metadata).unwrap().iter()), maps);
    let Some(Asked::RequestHeaders(HttpHeaders { headers: Some(map), end_of_stream: true })) =
        ours.request
    else {
        panic!("{:?}", ours.request)
    };
    let same = |(ours, theirs): (&HeaderValue, &core::HeaderValue)| {
        ours.key == theirs.key && ours.value == theirs.value && ours.raw_value == theirs.raw_value
    };
    assert_eq!(map.headers.len(), headers.len());
    assert!(map.headers.iter().zip(&headers).all(same));
}

#[test]
fn each_part_is_known() {
    let body = || whole::HttpBody { body: b"x".to_vec(), end_of_stream: true, ..<_>::default() };
    let ours = || HttpBody { body: Bytes::from_static(b"x"), end_of_stream: true };
    let trailers = || whole::HttpTrailers {
        trailers: Some(core::HeaderMap { headers: vec![core::HeaderValue::default()] }),
    };
    for (theirs, expected) in [
        (
            Request::ResponseHeaders(whole::HttpHeaders::default()),
            Asked::ResponseHeaders(Bytes::new()),
        ),
        (Request::RequestBody(body()), Asked::RequestBody(ours())),
        (Request::ResponseBody(body()), Asked::ResponseBody(ours())),
        (Request::RequestTrailers(trailers()), Asked::RequestTrailers(Empty {})),
        (Request::ResponseTrailers(trailers()), Asked::ResponseTrailers(Empty {})),
    ] {
        let request = whole::ProcessingRequest { request: Some(theirs), ..<_>::default() };
        assert_eq!(decoded(&request).request, Some(expected));
    }
    assert_eq!(decoded(&whole::ProcessingRequest::default()), ProcessingRequest::default());
}

fn answered(answer: Reply, metadata: Option<Bytes>) -> whole::ProcessingResponse {
    let ours = response(answer, metadata).encode_to_vec();
    whole::ProcessingResponse::decode(ours.as_slice()).unwrap()
}

#[test]
fn answers_are_what_envoy_takes_them_for() {
    let headers = || whole::HeadersResponse { response: Some(whole::CommonResponse::default()) };
    let body = || whole::BodyResponse { response: Some(whole::CommonResponse::default()) };
    let trailers = whole::TrailersResponse::default;
    let chunk = || Chunk { bytes: Bytes::from_static(b"part"), end_of_stream: true };
    let streamed = || {
        let part = whole::StreamedBodyResponse {
            body: b"part".to_vec(),
            end_of_stream: true,
            ..<_>::default()
        };
        let mutation = Some(whole::body_mutation::Mutation::StreamedResponse(part));
        let body_mutation = Some(whole::BodyMutation { mutation });
        let response = Some(whole::CommonResponse { body_mutation, ..<_>::default() });
        whole::BodyResponse { response }
    };
    for (answer, expected) in [
        (Reply::RequestHeaders(AcceptEncoding::Accepted), Response::RequestHeaders(headers())),
        (Reply::RequestBody(AcceptEncoding::Accepted), Response::RequestBody(body())),
        (Reply::StreamRequestBody(chunk()), Response::RequestBody(streamed())),
        (Reply::RequestTrailers, Response::RequestTrailers(trailers())),
        (Reply::ResponseHeaders, Response::ResponseHeaders(headers())),
        (Reply::ResponseBody, Response::ResponseBody(body())),
        (Reply::StreamResponseBody(chunk()), Response::ResponseBody(streamed())),
        (Reply::ResponseTrailers, Response::ResponseTrailers(trailers())),
    ] {
        let expected = whole::ProcessingResponse { response: Some(expected), ..<_>::default() };
        assert_eq!(answered(answer, None), expected);
    }
    let without = |header: &str| {
        let remove_headers = vec![header.to_owned()];
        let header_mutation = Some(whole::HeaderMutation { remove_headers, ..<_>::default() });
        Some(whole::CommonResponse { header_mutation, ..<_>::default() })
    };
    let response = without("accept-encoding");
    assert_eq!(
        answered(Reply::RequestHeaders(AcceptEncoding::Identity), None).response,
        Some(Response::RequestHeaders(whole::HeadersResponse { response: response.clone() }))
    );
    assert_eq!(
        answered(Reply::RequestBody(AcceptEncoding::Identity), None).response,
        Some(Response::RequestBody(whole::BodyResponse { response }))
    );
    let cache_control = "private".to_owned();
    let fetched = answered(Reply::FilteredResponseHeaders { cache_control }, None);
    let Some(Response::ResponseHeaders(whole::HeadersResponse { response: Some(response) })) =
        fetched.response
    else {
        panic!("{fetched:?}")
    };
    let mutation = response.header_mutation.unwrap();
    assert!(mutation.remove_headers.contains(&"content-length".to_owned()), "{mutation:?}");
    let set = mutation.set_headers.iter().filter_map(|option| option.header.as_ref());
    let set: Vec<_> = set.map(|header| (header.key.as_str(), &*header.raw_value)).collect();
    assert_eq!(set, [("cache-control", b"private".as_slice())]);
    for part in [b"part".as_slice(), b""] {
        let mutation = Some(whole::body_mutation::Mutation::Body(part.to_vec()));
        let body_mutation = Some(whole::BodyMutation { mutation });
        let response = Some(whole::CommonResponse { body_mutation, ..<_>::default() });
        assert_eq!(
            answered(Reply::ReplaceResponseBody(Bytes::copy_from_slice(part)), None).response,
            Some(Response::ResponseBody(whole::BodyResponse { response }))
        );
    }
    let refusal = Refusal::misconfigured("why");
    let (status, text) = (refusal.status, refusal.content().body);
    let Some(Response::ImmediateResponse(immediate)) =
        answered(Reply::Refuse(refusal), None).response
    else {
        panic!("no immediate response")
    };
    assert_eq!(immediate.status.unwrap().code, i32::from(status));
    assert_eq!(
        (immediate.body, immediate.details),
        (text.into_bytes(), "mcp_authz_misconfigured".to_owned())
    );
    let [header] = immediate.headers.unwrap().set_headers.try_into().unwrap();
    let overwrite = core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd;
    assert_eq!(header.append_action(), overwrite);
    let header = header.header.unwrap();
    assert_eq!(
        (header.key.as_str(), header.raw_value),
        ("content-type", b"text/plain; charset=utf-8".to_vec())
    );
}

#[test]
fn metadata_are_a_struct_in_our_namespace() {
    let text = || "x".repeat(200);
    let decision = Decision {
        verdict: text(),
        shadow: true,
        http_status: 403,
        tool: "ä".to_owned(),
        required_scopes: vec![text(), "b".to_owned()],
        time: Some(proto::Timestamp { seconds: 1, nanos: 2 }),
        ..Decision::default()
    };
    let value = |field| match field {
        Field::Text(text) => text.into(),
        Field::Written(text) => text.into(),
        Field::Texts(texts) => texts.into(),
        Field::Number(number) => number.into(),
        Field::Bool(value) => serde_json::Value::Bool(value),
    };
    let members = fields(&decision).map(|(name, field)| (name.to_owned(), value(field)));
    let members: serde_json::Map<_, _> = members.collect();
    assert_eq!(members.len(), 6);
    let expected = whole_struct(serde_json::json!({"mcp_authz": members}));
    let response =
        answered(Reply::RequestBody(AcceptEncoding::Accepted), Some(metadata(&decision)));
    assert_eq!(response.dynamic_metadata, Some(expected));
}

#[test]
fn values_are_known_by_their_only_field() {
    let value = |json| proto::value(json).encode_to_vec();
    assert_eq!(text(&value(serde_json::json!("a"))), Ok(Some("a")));
    assert_eq!(text(&value(serde_json::json!(""))), Ok(Some("")));
    for other in [serde_json::json!(null), 7.into(), true.into(), [1].as_slice().into()] {
        assert_eq!(text(&value(other.clone())), Ok(None));
        assert_eq!(structure(&value(other)), Ok(None));
    }
    assert_eq!(structure(&value(serde_json::json!({}))), Ok(Some([].as_slice())));
    let two = [value(serde_json::json!("a")), value(serde_json::json!("b"))].concat();
    assert_eq!(text(&two), Ok(None), "the decoder says which counts");
    assert!(text(b"\x1a\x01\xff").is_err(), "not UTF-8");
}

/// Tests every prefix of a message: both decoders read the same members from it, or both reject it.
#[test]
fn members_are_those_of_the_whole_decoder() {
    let json =
        serde_json::json!({"a": "x", "b": [1, {"c": null}], "long": "y".repeat(300), "": {}});
    let bytes = structure(&proto::value(json).encode_to_vec()).unwrap().unwrap().to_vec();
    for end in 0..=bytes.len() {
        let cut = &bytes[..end];
        let (ours, theirs) = (Members::of(cut), google::Struct::decode(cut));
        assert_eq!(ours.is_err(), theirs.is_err(), "{end}");
        let (Ok(ours), Ok(theirs)) = (ours, theirs) else { continue };
        assert_eq!(ours.len(), theirs.fields.len());
        for (name, value) in ours.iter() {
            let name = utf8(name).unwrap();
            assert_eq!(google::Value::decode(value).as_ref(), Ok(&theirs.fields[name]));
            assert_eq!(ours.get(name), Some(value));
        }
    }
    // Fields that a Struct does not have are skipped; groups are not part of proto3.
    let more = [b"\x10\x07\x19\0\0\0\0\0\0\0\0\x25\0\0\0\0\x32\x01x".as_slice(), &bytes].concat();
    assert_eq!(Members::of(&more).unwrap().len(), 4);
    assert!(Members::of(b"\x0b\x0c").is_err());
    let twice = b"\x0a\x06\x0a\x01k\x12\x01a\x0a\x06\x0a\x01k\x12\x01b";
    assert_eq!(Members::of(twice).unwrap().get("k"), Some(b"b".as_slice()));
}
