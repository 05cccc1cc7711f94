//! A test of every order of messages, including orders that Envoy cannot send.

use super::tests::{body, call, challenging, gate, headers};
use super::*;
use crate::claims::VerifiedClaims;
use crate::extproc::message::ProcessingModes;

/// Tests every sequence of up to four messages in every mode. Each sequence has an outcome. None
/// forwards a byte of a denied call, or any byte before the decision.
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
    // The refusals of this policy wait for the body, to repeat the id of the request.
    let login = challenging(300);
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

/// Runs a conversation. Returns true if the request was forwarded.
fn follow(gate: &Gate, mode: Option<BodyMode>, events: Vec<Event>) -> bool {
    let description = format!("{mode:?} {events:?}");
    let bad = call("bad");
    let mut session = Session::new(true);
    let mut setup =
        mode.map(|mode| ProcessingModes { request_body: mode, response_body: BodyMode::None });
    let (mut refused, mut ended, mut came, mut gone) = (false, false, Vec::new(), Vec::new());
    let (mut went_on, mut has_body, mut is_response) = (false, false, None);
    for event in events {
        let part = match &event {
            Event::RequestBody(chunk) => chunk.bytes.to_vec(),
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
        let message = Message { event, setup: setup.take(), verified: VerifiedClaims::None };
        let outcome = session.on(gate, message, &mut answers);
        for answer in answers {
            assert!(!refused, "an answer after the refusal: {description}");
            match answer {
                Reply::Refuse(_) => refused = true,
                // Envoy itself holds the headers back as long as it waits for the answer to the
                // body.
                Reply::RequestHeaders(_) if mode != Some(BodyMode::FullDuplexStreamed) => {
                    went_on |= !has_body;
                }
                Reply::RequestHeaders(_) => {
                    assert!(ended, "the head too early: {description}");
                    went_on = true;
                }
                Reply::RequestBody(_) => {
                    assert!(ended, "the body too early: {description}");
                    went_on = true;
                    gone.extend(part.iter().copied());
                }
                Reply::StreamRequestBody(chunk) => {
                    assert!(ended, "a part of the body too early: {description}");
                    went_on = true;
                    gone.extend(chunk.bytes);
                }
                Reply::RequestTrailers => {
                    assert!(ended, "trailers too early: {description}");
                    // These trailers may belong to a request that a filter in front of mcp-authz
                    // has answered.
                    went_on |= is_response == Some(false);
                }
                Reply::ResponseHeaders
                | Reply::FilteredResponseHeaders { .. }
                | Reply::ResponseBody
                | Reply::ReplaceResponseBody(_)
                | Reply::StreamResponseBody(_)
                | Reply::ResponseTrailers => {}
            }
        }
        if outcome.is_err() {
            // The stream fails, and Envoy responds with a 500.
            break;
        }
    }
    assert!(!gone.windows(bad.len()).any(|window| window == bad), "a denied call: {description}");
    assert!(came.starts_with(&gone), "other bytes than came: {description}");
    assert!(!refused || gone.is_empty(), "a part of what is refused: {description}");
    went_on
}
