//! The responses that the service may give, derived from the messages sent. Nothing here knows how
//! the service decides.

use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyResponse, CommonResponse, HttpBody, HttpHeaders, ProcessingRequest, ProcessingResponse,
    StreamedBodyResponse, body_mutation::Mutation,
};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

use super::{MAX_BODY_BYTES, Setting};

pub const JWT_AUTHN: &str = "envoy.filters.http.jwt_authn";

/// A stream as one sees it who stands by.
#[derive(Debug)]
pub struct Oracle {
    setting: Setting,
    first: Option<First>,
    head: Option<HttpHeaders>,
    /// The body as far as it was sent, and whether that is all.
    body: Vec<u8>,
    is_whole: bool,
    has_trailers: bool,
    response_parts: usize,
    /// True if the last message was in observability mode, which expects no response.
    is_observed: bool,
    given_back: Vec<u8>,
    went_on: bool,
    is_refused: bool,
}

/// The facts that the first message of a stream gives.
#[derive(Debug)]
struct First {
    /// The mode in which Envoy sends bodies. `None` is a mode in which calls could continue before
    /// the service decides.
    mode: Option<BodySendMode>,
    has_scope: bool,
    is_response: bool,
}

impl Oracle {
    pub fn new(setting: Setting) -> Self {
        Self {
            setting,
            first: None,
            head: None,
            body: Vec::new(),
            is_whole: false,
            has_trailers: false,
            response_parts: 0,
            is_observed: false,
            given_back: Vec::new(),
            went_on: false,
            is_refused: false,
        }
    }

    pub fn went_on(&self) -> bool {
        self.went_on
    }

    /// Takes note of a message. None is one that cannot be read: the last one before it
    /// says whether Envoy waits for an answer.
    pub fn sent(&mut self, message: Option<ProcessingRequest>) {
        let Some(message) = message else { return };
        self.is_observed = message.observability_mode;
        if self.is_observed {
            return;
        }
        let first = self.first.get_or_insert_with(|| First::of(&message));
        match message.request {
            Some(Request::RequestHeaders(head)) => {
                self.is_whole |= head.end_of_stream;
                self.head.get_or_insert(head);
            }
            Some(Request::RequestBody(HttpBody { body, end_of_stream, .. })) => {
                self.body.extend(body);
                self.is_whole |= end_of_stream || first.mode == Some(BodySendMode::Buffered);
            }
            Some(Request::RequestTrailers(_)) => {
                // After the end of the stream they end no body: Envoy never sends them there.
                self.has_trailers |= !self.is_whole;
                self.is_whole = true;
            }
            Some(_) => self.response_parts += 1,
            None => {}
        }
    }

    pub fn answered(&mut self, answers: Vec<ProcessingResponse>) {
        for answer in answers {
            assert!(!self.is_refused, "an answer after a refusal: {answer:?}");
            self.answer(answer);
        }
    }

    fn answer(&mut self, answer: ProcessingResponse) {
        let ProcessingResponse { response, dynamic_metadata, .. } = &answer;
        let plain = ProcessingResponse {
            response: response.clone(),
            dynamic_metadata: dynamic_metadata.clone(),
            ..ProcessingResponse::default()
        };
        assert_eq!(plain, answer, "more than an answer and metadata");
        let mode = self.first.as_ref().expect("nothing was asked").mode;
        let is_duplex = mode == Some(BodySendMode::FullDuplexStreamed);
        match answer.response.expect("an answer is not empty") {
            Response::ImmediateResponse(_) => {
                assert!(!self.went_on, "a refusal of what went on");
                self.is_refused = true;
            }
            Response::RequestHeaders(answer) => {
                assert_eq!(answer.response, Some(CommonResponse::default()));
                let ends = self.head.as_ref().is_some_and(|head| head.end_of_stream);
                // Held back by Envoy itself, until it has the answer to the body.
                if is_duplex || ends || self.setting == Setting::Shadow {
                    self.goes_on();
                }
            }
            Response::RequestBody(answer) => {
                if is_duplex {
                    self.given_back.extend(streamed(answer));
                    assert_eq!(self.given_back, self.body, "the body was changed");
                } else {
                    assert_eq!(answer.response, Some(CommonResponse::default()));
                }
                self.goes_on();
            }
            Response::RequestTrailers(answer) => {
                assert_eq!(answer.header_mutation, None);
                // Of a request that something in front of us has answered.
                if self.first.as_ref().is_some_and(|first| !first.is_response) {
                    self.goes_on();
                }
            }
            Response::ResponseHeaders(_)
            | Response::ResponseBody(_)
            | Response::ResponseTrailers(_) => {
                assert!(self.response_parts > 0, "an answer to a response that did not come");
                self.response_parts -= 1;
            }
            other => panic!("an answer of an unknown kind: {other:?}"),
        }
    }

    fn goes_on(&mut self) {
        self.went_on = true;
        let first = self.first.as_ref().expect("nothing was asked");
        assert!(first.mode.is_some(), "in this mode nothing can be judged");
        let head = self.head.as_ref().expect("a request without a head went on");
        if self.setting == Setting::Shadow {
            return;
        }
        let is_duplex = first.mode == Some(BodySendMode::FullDuplexStreamed);
        assert!(!is_duplex || !self.has_trailers, "a retry would send the body twice");
        assert!(self.is_whole, "only a part of the body was judged");
        assert!(self.body.len() <= MAX_BODY_BYTES, "the body is too large");
        assert!(
            values(head, "content-encoding")
                .all(|value| value.trim_ascii().eq_ignore_ascii_case(b"identity")),
            "what is compressed was not read"
        );
        let name = values(head, "mcp-name").next();
        assert!(self.may_go_on(first.has_scope, name), "{}", String::from_utf8_lossy(&self.body));
    }

    /// Returns true if the body calls no tool, or one that the policy allows.
    fn may_go_on(&self, has_scope: bool, header: Option<&[u8]>) -> bool {
        if self.body.is_empty() {
            return true;
        }
        let may = |message: &serde_json::Value| match message["method"].as_str() {
            Some("tools/call") => {
                let name = message["params"]["name"].as_str();
                let is_allowed = name == Some("good") || (has_scope && name == Some("scoped"));
                let agrees = |header: &[u8]| {
                    header.starts_with(b"=?base64?") || name.map(str::as_bytes) == Some(header)
                };
                is_allowed && header.is_none_or(agrees)
            }
            _ => message.is_object(),
        };
        match serde_json::from_slice::<serde_json::Value>(&self.body) {
            Ok(serde_json::Value::Array(messages)) => {
                self.setting == Setting::Batches && messages.iter().all(may)
            }
            Ok(message) => may(&message),
            Err(_) => false,
        }
    }

    /// Envoy goes on without us if a stream ends well.
    pub fn ended(&self, status: String) {
        let is_response =
            self.first.as_ref().is_some_and(|first| first.is_response && first.mode.is_some());
        let may_end = self.went_on || self.is_refused || self.is_observed || is_response;
        assert!(status != "0" || may_end, "the stream ended well before a decision");
    }
}

impl First {
    fn of(message: &ProcessingRequest) -> Self {
        let mode = message.protocol_config.as_ref().map(|config| config.request_body_mode());
        let can_be_judged = [
            BodySendMode::Buffered,
            BodySendMode::BufferedPartial,
            BodySendMode::FullDuplexStreamed,
        ];
        let metadata = message.metadata_context.as_ref();
        let payloads = metadata.and_then(|metadata| metadata.filter_metadata.get(JWT_AUTHN));
        Self {
            mode: mode.filter(|mode| can_be_judged.contains(mode)),
            has_scope: payloads.is_some_and(has_scope),
            is_response: matches!(
                message.request,
                Some(
                    Request::ResponseHeaders(_)
                        | Request::ResponseBody(_)
                        | Request::ResponseTrailers(_)
                )
            ),
        }
    }
}

/// Returns true if there is exactly one payload, and the payload grants the scope `a`.
fn has_scope(Struct { fields }: &Struct) -> bool {
    let is_payload = |value: &&Value| {
        matches!(&value.kind, Some(Kind::StructValue(payload))
        if !(payload.fields.len() == 2 && payload.fields.contains_key("code") && payload.fields.contains_key("message")))
    };
    let payloads: Vec<&Value> = fields.values().filter(is_payload).collect();
    let [Value { kind: Some(Kind::StructValue(payload)) }] = payloads.as_slice() else {
        return false;
    };
    ["scope", "scp"].into_iter().filter_map(|name| payload.fields.get(name)?.kind.as_ref()).any(
        |scopes| match scopes {
            Kind::StringValue(text) => text.split_ascii_whitespace().any(|scope| scope == "a"),
            Kind::ListValue(list) => list
                .values
                .iter()
                .any(|value| value.kind == Some(Kind::StringValue("a".to_owned()))),
            _ => false,
        },
    )
}

fn values<'h>(head: &'h HttpHeaders, name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    let headers = head.headers.iter().flat_map(|map| &map.headers);
    headers.filter(move |header| header.key == name).map(|header| {
        if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value }
    })
}

/// The bytes of a part of the body that goes on as it came.
fn streamed(answer: BodyResponse) -> Vec<u8> {
    let common = answer.response.expect("a response");
    let mutation = common.body_mutation.clone().and_then(|mutation| mutation.mutation);
    assert_eq!(CommonResponse { body_mutation: None, ..common }, CommonResponse::default());
    match mutation {
        Some(Mutation::StreamedResponse(StreamedBodyResponse { body, .. })) => body,
        other => panic!("in duplex mode a body must be given back: {other:?}"),
    }
}
