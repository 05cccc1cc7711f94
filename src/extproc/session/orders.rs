//! Every order of messages, whether Envoy can send it or not.

use super::tests::{CHALLENGE, POLICY, body, call, gate, headers};
use super::*;
use crate::config;

/// Every sequence of up to four messages, in every mode: each has an outcome, and none
/// lets a byte of a call go on that is denied, or anything before it is decided.
#[test]
fn no_order_of_messages_lets_an_unjudged_call_go_on() {
    let alphabet: [fn() -> Event; 11] = [
        || headers(false),
        || headers(true),
        || body(&call("good"), true),
        || body(&call("good"), false),
        || body(&call("bad"), true),
        || body(&call("bad"), false),
        || body(b"", true),
        || body(b"", false),
        || Event::RequestTrailers,
        || Event::Response(ResponsePart::Headers(None)),
        || Event::Unknown,
    ];
    let modes = [
        None,
        Some(BodyMode::None),
        Some(BodyMode::Streamed),
        Some(BodyMode::Buffered),
        Some(BodyMode::BufferedPartial),
        Some(BodyMode::FullDuplexStreamed),
        Some(BodyMode::Other(9)),
    ];
    let gate = gate();
    // Its refusals wait for the body, to repeat the id of the request.
    let login = config::parse(&format!("{POLICY}{CHALLENGE}")).unwrap();
    let mut sequences = 0;
    for mode in modes {
        for number in 0..alphabet.len().pow(4) {
            let digits = (0..4).map(|place| number / alphabet.len().pow(place) % alphabet.len());
            let events = || digits.clone().map(|digit| alphabet[digit]()).collect();
            follow(&gate, mode, events());
            let gone = follow(&login, mode, events());
            assert!(!gone, "a request without a token: {mode:?} {:?}", events());
            sequences += 1;
        }
    }
    assert_eq!(sequences, 7 * 14_641);
}

/// Follows a conversation. Answers whether the request went on.
fn follow(gate: &Gate, mode: Option<BodyMode>, events: Vec<Event>) -> bool {
    let description = format!("{mode:?} {events:?}");
    let bad = call("bad");
    let mut session = Session::new(false);
    let mut setup = mode.map(|mode| Setup { request_body: mode, response_body: BodyMode::None });
    let (mut refused, mut ended, mut came, mut gone) = (false, false, Vec::new(), Vec::new());
    let (mut went_on, mut has_body, mut is_response) = (false, false, None);
    for event in events {
        let part = match &event {
            Event::RequestBody(chunk) => chunk.bytes.clone(),
            _ => Vec::new(),
        };
        ended |= match &event {
            Event::RequestHeaders { end_of_stream, .. } => *end_of_stream,
            Event::RequestBody(chunk) => chunk.end_of_stream || mode == Some(BodyMode::Buffered),
            Event::RequestTrailers => true,
            Event::Response(_) | Event::Unknown => false,
        };
        has_body |= matches!(&event, Event::RequestHeaders { end_of_stream: false, .. });
        is_response.get_or_insert(matches!(&event, Event::Response(_)));
        came.extend(part.iter().copied());
        let mut answers = Vec::new();
        let message = Message { event, setup: setup.take(), verified: None };
        let outcome = session.on(gate, message, &mut answers);
        for answer in answers {
            assert!(!refused, "an answer after the refusal: {description}");
            match answer {
                Answer::Refuse(_) => refused = true,
                // Envoy holds the head itself as long as it waits for the body's answer.
                Answer::RequestHeaders(_) if mode != Some(BodyMode::FullDuplexStreamed) => {
                    went_on |= !has_body;
                }
                Answer::RequestHeaders(_) => {
                    assert!(ended, "the head too early: {description}");
                    went_on = true;
                }
                Answer::RequestBody(_) => {
                    assert!(ended, "the body too early: {description}");
                    went_on = true;
                    gone.extend(part.iter().copied());
                }
                Answer::StreamRequestBody(chunk) => {
                    assert!(ended, "a part of the body too early: {description}");
                    went_on = true;
                    gone.extend(chunk.bytes);
                }
                Answer::RequestTrailers => {
                    assert!(ended, "trailers too early: {description}");
                    // Of a request that something in front of us has answered.
                    went_on |= is_response == Some(false);
                }
                Answer::ResponseHeaders
                | Answer::FetchResponseBody
                | Answer::ResponseBody
                | Answer::ReplaceResponseBody(_)
                | Answer::StreamResponseBody(_)
                | Answer::ResponseTrailers => {}
            }
        }
        if outcome.is_err() {
            // The stream fails, and Envoy answers with a 500.
            break;
        }
    }
    assert!(!gone.windows(bad.len()).any(|window| window == bad), "a denied call: {description}");
    assert!(came.starts_with(&gone), "other bytes than came: {description}");
    assert!(!refused || gone.is_empty(), "a part of what is refused: {description}");
    went_on
}

/// In every cut of a body without a length into chunks, a refusal that waits holds no more
/// than 64 KiB, and releases nothing.
#[test]
fn waiting_refusal_holds_a_small_body() {
    let policy = POLICY.replace("maxBodyBytes: 300", "maxBodyBytes: 4000000");
    let login = config::parse(&format!("{policy}{CHALLENGE}")).unwrap();
    let mut rest = call("good");
    rest.extend(std::iter::repeat_n(b' ', 200_000));
    for size in [1000, 10_000, 65_536, 65_537, 200_000] {
        let mut session = Session::new(false);
        let response_body = BodyMode::None;
        let mut setup = Some(Setup { request_body: BodyMode::FullDuplexStreamed, response_body });
        let mut answers = Vec::new();
        let parts = rest.chunks(size).map(|part| body(part, false));
        for event in std::iter::once(headers(false)).chain(parts) {
            let message = Message { event, setup: setup.take(), verified: None };
            session.on(&login, message, &mut answers).unwrap();
            assert!(session.held_bytes() <= 64 << 10, "{size}");
        }
        let [Answer::Refuse(refusal)] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!((refusal.status, refusal.reason), (401, "no_token"));
        assert_eq!(refusal.id.as_ref().map(crate::mcp::RequestId::as_json), Some("1"));
    }
}
