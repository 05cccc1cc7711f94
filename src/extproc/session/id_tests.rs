//! Tests of refusals with the id of the request, and of refusals that wait for the id.

use super::tests::{POLICY, body, call, challenging, headers, word};
use super::*;
use crate::claims::VerifiedClaims;
use crate::config;
use crate::extproc::message::ProcessingModes;
use crate::head::Head;
use crate::mcp::RequestId;

/// Returns a refusal in one word, with the id that it repeats.
fn answered(gate: &Gate, mode: BodyMode, head: Head, rest: Vec<Event>) -> Vec<String> {
    let mut session = Session::new(true);
    let mut answers = Vec::new();
    let mut setup = Some(ProcessingModes { request_body: mode, response_body: BodyMode::None });
    let event = Event::RequestHeaders { end_of_stream: !head.has_body, head };
    for event in std::iter::once(event).chain(rest) {
        let message = Message { event, setup: setup.take(), verified: VerifiedClaims::None };
        session.on(gate, message, &mut answers).unwrap();
    }
    let words = answers.into_iter().map(|answer| match &answer {
        Reply::Refuse(refusal) => {
            let id = refusal.id.as_ref().map_or("no id", |id| id.as_json()).to_owned();
            format!("{} of {id}", word(answer))
        }
        _ => word(answer),
    });
    words.collect()
}

#[test]
fn challenge_waits_for_small_body() {
    let gate = challenging(4_000_000);
    let head = |headers: &[(&str, &str)]| {
        let header = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
        let headers = headers.iter().map(header).collect();
        Head { method: "POST".into(), has_body: true, headers, ..Head::default() }
    };
    let good = call("good");
    let whole = || vec![body(&good, true)];
    let parts = || vec![body(&good[..60], false), body(&good[60..], true)];
    let no_id = ["401 no_token of no id"].as_slice();
    let both = [BodyMode::Buffered, BodyMode::FullDuplexStreamed];
    for (modes, headers, rest, expected) in [
        (&both[..1], head(&[]), whole(), ["RequestHeaders", "401 no_token of 1"].as_slice()),
        (&both[1..], head(&[]), whole(), &["401 no_token of 1"]),
        (&both[1..], head(&[]), parts(), &["401 no_token of 1"]),
        // Whatever the fault of the body, the refusal is a 401.
        (&both[1..], head(&[]), vec![body(b"{", true)], no_id),
        (&both[1..], head(&[]), vec![body(b"", true)], no_id),
        (&both[1..], head(&[]), vec![Event::RequestTrailers], no_id),
        (&both[..1], head(&[]), vec![Event::RequestTrailers], &["RequestHeaders", no_id[0]]),
        (&both[1..], head(&[("content-length", "65536")]), vec![], &[]),
        // The body cannot be read, or is too large to wait for.
        (&both, head(&[("content-length", "65537")]), vec![], no_id),
        (&both, head(&[("content-length", "4000001")]), vec![], no_id),
        (&both, head(&[("content-encoding", "gzip")]), vec![], no_id),
        (&both, head(&[("content-type", "a/b; charset=utf-7")]), vec![], no_id),
        (&both, Head { has_body: false, ..head(&[]) }, vec![], no_id),
        // Without a body this request is a preflight.
        (
            &both,
            Head { has_body: false, method: "OPTIONS".into(), ..head(&[]) },
            vec![],
            &["RequestHeaders"],
        ),
        (&both, Head { has_body: false, method: "options".into(), ..head(&[]) }, vec![], no_id),
        // Only a POST carries a message.
        (&both, Head { method: "OPTIONS".into(), ..head(&[]) }, vec![], no_id),
        (&both, Head { method: "GET".into(), ..head(&[]) }, vec![], no_id),
    ] {
        for mode in modes {
            let description = format!("{mode:?} {headers:?} {rest:?}");
            let rest = rest.iter().map(copied).collect();
            let words = answered(&gate, *mode, headers.clone(), rest);
            assert_eq!(words, expected, "{description}");
        }
    }
}

#[test]
fn challenge_in_shadow_holds_nothing() {
    let gate = challenging(4_000_000);
    let text = format!(
        "{POLICY}  unauthenticated: Challenge\n  resourceMetadataURL: https://example.com/x\n  \
         enforcement: Shadow\n"
    );
    let shadow = config::parse(&text).unwrap();
    let head = || Head { method: "POST".into(), has_body: true, ..Head::default() };
    let part = || vec![body(&call("good")[..60], false)];
    let duplex = BodyMode::FullDuplexStreamed;
    assert_eq!(answered(&gate, duplex, head(), part()), Vec::<String>::new());
    let words = answered(&shadow, duplex, head(), part());
    assert_eq!(words, ["RequestHeaders", "StreamRequestBody 60 false"]);
    let partial = BodyMode::BufferedPartial;
    // Envoy forwards the body itself.
    assert_eq!(answered(&shadow, partial, head(), part()), ["RequestHeaders"]);
    let words = answered(&gate, partial, head(), part());
    assert_eq!(words, ["RequestHeaders", "401 no_token of 1"]);
}

/// Returns a copy of an event.
fn copied(event: &Event) -> Event {
    match event {
        Event::RequestBody(chunk) => body(&chunk.bytes, chunk.end_of_stream),
        Event::RequestTrailers => Event::RequestTrailers,
        other => panic!("{other:?}"),
    }
}

#[test]
fn partial_body_refusal_repeats_id() {
    let limits = "limits: {maxBodyBytes: 300, maxBodyParts: 2}";
    let gate = config::parse(&POLICY.replace("limits: {maxBodyBytes: 300}", limits)).unwrap();
    let head = || Head { method: "POST".into(), has_body: true, ..Head::default() };
    let mut large = call("good");
    large.pop();
    large.extend(std::iter::repeat_n(b' ', 300));
    let parts: Vec<&[u8]> = large.chunks(150).collect();
    let duplex = BodyMode::FullDuplexStreamed;
    let rest = || parts.iter().map(|part| body(part, false)).collect();
    assert_eq!(answered(&gate, duplex, head(), rest()), ["413 body_too_large of 1"]);
    let short: Vec<Event> = call("good").chunks(30).map(|part| body(part, false)).collect();
    // The third chunk is one too many. The refusal still repeats the id.
    assert_eq!(answered(&gate, duplex, head(), short), ["413 too_many_parts of 1"]);
    let cut = vec![body(&call("good")[..40], false)];
    let words = answered(&gate, BodyMode::BufferedPartial, head(), cut);
    assert_eq!(words, ["RequestHeaders", "413 body_cut_off of no id"]);
    let large = vec![body(&large, true)];
    let words = answered(&gate, BodyMode::Buffered, head(), large);
    assert_eq!(words, ["RequestHeaders", "413 body_too_large of 1"]);
}

/// Tests every split of a body without a length into chunks. A waiting refusal buffers at most 64
/// KiB and releases nothing.
#[test]
fn waiting_refusal_holds_a_small_body() {
    let login = challenging(4_000_000);
    let mut rest = call("good");
    rest.extend(std::iter::repeat_n(b' ', 200_000));
    for size in [1000, 10_000, 65_536, 65_537, 200_000] {
        let mut session = Session::new(true);
        let response_body = BodyMode::None;
        let mut setup =
            Some(ProcessingModes { request_body: BodyMode::FullDuplexStreamed, response_body });
        let mut answers = Vec::new();
        let parts = rest.chunks(size).map(|part| body(part, false));
        for event in std::iter::once(headers(false)).chain(parts) {
            let message = Message { event, setup: setup.take(), verified: VerifiedClaims::None };
            session.on(&login, message, &mut answers).unwrap();
            assert!(session.held_bytes() <= 64 << 10, "{size}");
        }
        let [Reply::Refuse(refusal)] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!((refusal.status, refusal.reason), (401, "no_token"));
        assert_eq!(refusal.id.as_ref().map(RequestId::as_json), Some("1"));
    }
}
