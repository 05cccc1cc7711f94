use prost::bytes::Bytes;

use super::*;
use crate::claims::VerifiedClaims;
use crate::config;
use crate::extproc::message::ProcessingModes;
use crate::head::Head;

pub(super) const POLICY: &str = "
limits: {maxBodyBytes: 300}
policies:
- name: p
  backend: {name: b}
  rules:
  - action: Allow
    target: {tools: [{tool: good}]}
  - action: Allow
    source: {jwt: {scopes: [more]}}
";

pub(super) fn gate() -> Gate {
    config::parse(POLICY).unwrap()
}

/// Returns the gate of a policy that challenges a request without a token.
pub(super) fn challenging(max_body_bytes: usize) -> Gate {
    let limit = format!("maxBodyBytes: {max_body_bytes}");
    let policy = POLICY.replace("maxBodyBytes: 300", &limit);
    let challenge = "unauthenticated: Challenge\n  resourceMetadataURL: https://example.com/x";
    config::parse(&format!("{policy}  {challenge}\n")).unwrap()
}

fn shadow() -> Gate {
    config::parse(&format!("{POLICY}  enforcement: Shadow\n  unauthenticated: Forbid\n")).unwrap()
}

pub(super) fn call(tool: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#)
        .into_bytes()
}

pub(super) fn headers(end_of_stream: bool) -> Event {
    Event::RequestHeaders {
        head: Head { method: "POST".into(), has_body: !end_of_stream, ..Head::default() }
            .with_usual_headers(),
        end_of_stream,
    }
}

pub(super) fn body(bytes: &[u8], end_of_stream: bool) -> Event {
    Event::RequestBody(Chunk { bytes: Bytes::copy_from_slice(bytes), end_of_stream })
}

fn converse(request_body: Option<BodyMode>, events: Vec<Event>) -> (Vec<String>, bool) {
    converse_with(&gate(), request_body, events)
}

/// Runs a conversation. Returns one word per answer, and the decision.
fn converse_with(
    gate: &Gate,
    request_body: Option<BodyMode>,
    events: Vec<Event>,
) -> (Vec<String>, bool) {
    converse_in(gate, (request_body, BodyMode::None), events)
}

fn converse_in(
    gate: &Gate,
    (request_body, response_body): (Option<BodyMode>, BodyMode),
    events: Vec<Event>,
) -> (Vec<String>, bool) {
    let mut session = Session::new(true);
    let mut words = Vec::new();
    let mut setup =
        request_body.map(|request_body| ProcessingModes { request_body, response_body });
    for event in events {
        let mut answers = Vec::new();
        // Envoy sends its modes with the first message only.
        let message = Message { event, setup: setup.take(), verified: VerifiedClaims::None };
        let result = session.on(gate, message, &mut answers);
        words.extend(answers.into_iter().map(word));
        if let Err(violation) = result {
            words.push(format!("violation: {violation}"));
            break;
        }
    }
    (words, session.is_decided())
}

pub(super) fn word(answer: Reply) -> String {
    match answer {
        Reply::Refuse(refusal) => format!("{} {}", refusal.status, refusal.reason),
        Reply::StreamRequestBody(chunk) => {
            format!("StreamRequestBody {} {}", chunk.bytes.len(), chunk.end_of_stream)
        }
        Reply::RequestHeaders(AcceptEncoding::Accepted) => "RequestHeaders".to_owned(),
        Reply::RequestBody(AcceptEncoding::Accepted) => "RequestBody".to_owned(),
        Reply::ReplaceResponseBody(bytes) => String::from_utf8(bytes.into()).unwrap(),
        Reply::FilteredResponseHeaders { cache_control } => {
            assert_eq!(cache_control, "private");
            "FilteredResponseHeaders".to_owned()
        }
        other => format!("{other:?}"),
    }
}

fn check(mode: BodyMode, events: Vec<Event>, expected: &[&str]) {
    let description = format!("{mode:?} {events:?}");
    let (words, decided) = converse(Some(mode), events);
    assert_eq!(words, expected, "{description}");
    assert!(decided, "{description}");
}

#[test]
fn a_buffered_call_is_judged_with_its_body() {
    let mode = BodyMode::Buffered;
    let good = call("good");
    check(mode, vec![headers(false), body(&good, true)], &["RequestHeaders", "RequestBody"]);
    // With trailers to come, even the complete body does not end the request. Envoy forwards the
    // trailers itself.
    check(
        mode,
        vec![headers(false), body(&good, false), Event::RequestTrailers],
        &["RequestHeaders", "RequestBody"],
    );
    check(
        mode,
        vec![headers(false), body(&call("bad"), true)],
        &["RequestHeaders", "403 insufficient_scope"],
    );
    check(mode, vec![headers(true)], &["RequestHeaders"]);
    check(
        mode,
        vec![headers(false), Event::RequestTrailers],
        &["RequestHeaders", "RequestTrailers"],
    );
}

#[test]
fn a_partial_body_is_judged_only_if_it_is_whole() {
    let mode = BodyMode::BufferedPartial;
    let good = call("good");
    check(mode, vec![headers(false), body(&good, true)], &["RequestHeaders", "RequestBody"]);
    check(mode, vec![headers(false), body(&good, false)], &["RequestHeaders", "413 body_cut_off"]);
}

#[test]
fn a_streamed_call_is_held_until_it_is_decided() {
    let mode = BodyMode::FullDuplexStreamed;
    let good = call("good");
    let (first, second) = good.split_at(30);
    let length = good.len();
    check(
        mode,
        vec![headers(false), body(first, false), body(second, false), body(b"", true)],
        &["RequestHeaders", &format!("StreamRequestBody {length} true")],
    );
    check(
        mode,
        vec![headers(false), body(&good, false), Event::RequestTrailers],
        &["400 request_trailers"],
    );
    check(mode, vec![headers(false), body(&call("bad"), true)], &["403 insufficient_scope"]);
    check(mode, vec![headers(true)], &["RequestHeaders"]);
    check(mode, vec![headers(false), Event::RequestTrailers], &["400 request_trailers"]);
    check(
        mode,
        vec![headers(false), body(b"", true)],
        &["RequestHeaders", "StreamRequestBody 0 true"],
    );

    let (words, decided) = converse(Some(mode), vec![headers(false), body(&good, false)]);
    assert_eq!((words, decided), (Vec::new(), false), "nothing is let go before the end");
}

#[test]
fn a_body_above_the_limit_is_refused_as_soon_as_it_is_known() {
    let part = [b' '; 200];
    check(
        BodyMode::FullDuplexStreamed,
        vec![headers(false), body(&part, false), body(&part, false), body(&part, false)],
        &["413 body_too_large"],
    );
    check(
        BodyMode::Buffered,
        vec![headers(false), body(&[b' '; 301], true)],
        &["RequestHeaders", "413 body_too_large"],
    );
}

#[test]
fn every_other_set_up_is_refused() {
    for mode in [BodyMode::None, BodyMode::Streamed, BodyMode::Other(5)] {
        for event in [
            headers(true),
            headers(false),
            body(b"", true),
            Event::Response(ResponsePart::Headers(None)),
        ] {
            check(mode, vec![event], &["500 misconfigured"]);
        }
    }
    for mode in [BodyMode::Buffered, BodyMode::BufferedPartial, BodyMode::FullDuplexStreamed] {
        check(mode, vec![body(&call("good"), true)], &["500 misconfigured"]);
        check(mode, vec![Event::RequestTrailers], &["500 misconfigured"]);
    }
    let (words, _) = converse(None, vec![headers(true)]);
    assert_eq!(words, ["500 misconfigured"], "an Envoy that does not tell its modes");
}

#[test]
fn responses_are_answered_in_every_state() {
    let chunk = || Chunk { bytes: Bytes::from_static(b"x"), end_of_stream: true };
    let echo = format!("{:?}", Reply::StreamResponseBody(chunk()));
    let response = || {
        let parts =
            [ResponsePart::Headers(None), ResponsePart::Body(chunk()), ResponsePart::Trailers];
        parts.map(Event::Response)
    };
    let answered = ["ResponseHeaders", &echo, "ResponseTrailers"];
    let duplex = (Some(BodyMode::FullDuplexStreamed), BodyMode::FullDuplexStreamed);
    let (before, after) = (body(&call("good")[..9], false), body(&call("good")[9..], true));
    let length = call("good").len();
    let released = ["RequestHeaders", &format!("StreamRequestBody {length} true")];
    for (events, expected) in [
        // A filter in front of mcp-authz answered the request.
        (Vec::from(response()), answered.to_vec()),
        // The response to a request that is still held back releases nothing.
        (
            [vec![headers(false), before], response().into(), vec![after]]
                .into_iter()
                .flatten()
                .collect(),
            [answered.as_slice(), &released].concat(),
        ),
        // Envoy would lose the response if the stream ended.
        (
            std::iter::once(headers(true)).chain(response()).collect(),
            ["RequestHeaders"].into_iter().chain(answered).collect(),
        ),
    ] {
        let description = format!("{events:?}");
        assert_eq!(converse_in(&gate(), duplex, events).0, expected, "{description}");
    }
    // In other modes, the session reads no message after the release.
    let events = std::iter::once(headers(true)).chain(response()).collect();
    check(BodyMode::Buffered, events, &["RequestHeaders"]);
    // A filter in front of mcp-authz refused the request.
    check(
        BodyMode::Buffered,
        vec![Event::Response(ResponsePart::Headers(None))],
        &["ResponseHeaders"],
    );
    // A filter refused the request while the body was on its way.
    let (words, decided) = converse(
        Some(BodyMode::Buffered),
        vec![headers(false), Event::Response(ResponsePart::Headers(None))],
    );
    assert_eq!(
        (words.as_slice(), decided),
        (["RequestHeaders", "ResponseHeaders"].map(String::from).as_slice(), false)
    );
}

#[test]
fn released_request_ends_the_stream() {
    let (good, bad) = (call("good"), call("bad"));
    for mode in [BodyMode::Buffered, BodyMode::FullDuplexStreamed] {
        for (events, is_over) in [
            (vec![headers(true)], true),
            (vec![headers(false)], false),
            (vec![headers(false), body(&good, true)], true),
            (vec![headers(false), body(&bad, true)], true),
            (vec![Event::Response(ResponsePart::Headers(None))], false),
        ] {
            let description = format!("{mode:?} {events:?}");
            let mut session = Session::new(true);
            let modes = ProcessingModes { request_body: mode, response_body: BodyMode::Streamed };
            let mut setup = Some(modes);
            for event in events {
                let message =
                    Message { event, setup: setup.take(), verified: VerifiedClaims::None };
                session.on(&gate(), message, &mut Vec::new()).unwrap();
            }
            assert_eq!(session.is_over(), is_over, "{description}");
        }
    }
}

#[test]
fn large_bodies_go_back_in_parts() {
    let gate = config::parse(&POLICY.replace("maxBodyBytes: 300", "maxBodyBytes: 300000")).unwrap();
    for (spaces, expected) in [
        (65_536 - 71, vec!["65536 true"]),
        (65_537 - 71, vec!["65536 false", "1 true"]),
        (200_000 - 71, vec!["65536 false", "65536 false", "65536 false", "3392 true"]),
    ] {
        let mut bytes = call("good");
        bytes.extend(std::iter::repeat_n(b' ', spaces));
        let events = vec![headers(false), body(&bytes, true)];
        let (words, _) = converse_with(&gate, Some(BodyMode::FullDuplexStreamed), events);
        let parts = expected.into_iter().map(|part| format!("StreamRequestBody {part}"));
        let expected: Vec<_> = std::iter::once("RequestHeaders".to_owned()).chain(parts).collect();
        assert_eq!(words, expected);
    }
}

#[test]
fn nothing_lets_a_request_go_after_a_refusal() {
    let good = call("good");
    for mode in [BodyMode::Buffered, BodyMode::FullDuplexStreamed] {
        let (words, _) = converse(
            Some(mode),
            vec![
                headers(false),
                body(&call("bad"), true),
                body(&good, true),
                headers(true),
                Event::RequestTrailers,
                Event::Unknown,
            ],
        );
        assert_eq!(words.last().map(String::as_str), Some("403 insufficient_scope"), "{mode:?}");
    }
}

#[test]
fn messages_out_of_order_fail_the_stream() {
    for mode in [BodyMode::Buffered, BodyMode::FullDuplexStreamed] {
        for events in [
            vec![headers(false), headers(true)],
            vec![headers(false), Event::Unknown],
            vec![Event::Unknown],
        ] {
            let description = format!("{mode:?} {events:?}");
            let (words, _) = converse(Some(mode), events);
            let last = words.last().cloned().unwrap_or_default();
            assert!(last.starts_with("violation"), "{description}: {words:?}");
        }
    }
}

#[test]
fn in_shadow_everything_goes_on_as_it_came() {
    let gate = shadow();
    let bad = call("bad");
    let large = [b' '; 200];
    let compressed = |end_of_stream| {
        let headers = vec![("content-encoding".to_owned(), b"gzip".to_vec())];
        Event::RequestHeaders { head: Head { headers, ..Head::default() }, end_of_stream }
    };
    let length = bad.len();
    let buffered = ["RequestHeaders", "RequestBody"];
    let streamed = ["RequestHeaders", &format!("StreamRequestBody {length} true")];
    for (mode, events, expected) in [
        (BodyMode::Buffered, vec![headers(false), body(&bad, true)], buffered.as_slice()),
        (BodyMode::FullDuplexStreamed, vec![headers(false), body(&bad, true)], &streamed),
        (BodyMode::Buffered, vec![headers(false), body(b"{", true)], &buffered),
        // Envoy forwards the body itself.
        (BodyMode::Buffered, vec![compressed(false), body(&bad, true)], &buffered[..1]),
        (BodyMode::Buffered, vec![compressed(true)], &["RequestHeaders"]),
        (BodyMode::BufferedPartial, vec![headers(false), body(&bad, false)], &buffered),
        (BodyMode::FullDuplexStreamed, vec![compressed(false), body(&bad, true)], &streamed),
        (
            BodyMode::FullDuplexStreamed,
            vec![
                headers(false),
                body(&large, false),
                body(&large, false),
                body(&large, false),
                Event::Response(ResponsePart::Headers(None)),
                Event::RequestTrailers,
            ],
            &[
                "RequestHeaders",
                "StreamRequestBody 400 false",
                "StreamRequestBody 200 false",
                "ResponseHeaders",
                "RequestTrailers",
            ],
        ),
    ] {
        let description = format!("{mode:?} {events:?}");
        let (words, decided) = converse_with(&gate, Some(mode), events);
        assert_eq!(words, expected, "{description}");
        assert!(decided, "{description}");
    }
    // A misconfiguration is refused in Shadow, too.
    let (words, _) = converse_with(&gate, Some(BodyMode::Streamed), vec![headers(false)]);
    assert_eq!(words, ["500 misconfigured"]);
    // In Shadow, trailers are forwarded, too.
    let trailers = vec![headers(false), body(&bad, false), Event::RequestTrailers];
    let (words, _) = converse_with(&gate, Some(BodyMode::FullDuplexStreamed), trailers);
    let part = format!("StreamRequestBody {length} false");
    assert_eq!(words, ["RequestHeaders", &part, "RequestTrailers"]);
}

/// Gives up a request after some messages. Returns the answers to this and to later messages.
fn give_up(gate: &Gate, mode: BodyMode, before: Vec<Event>, after: Vec<Event>) -> Vec<String> {
    let mut session = Session::new(true);
    let mut answers = Vec::new();
    let mut setup = Some(ProcessingModes { request_body: mode, response_body: BodyMode::None });
    let mut send = |session: &mut Session, event, answers: &mut Vec<Reply>| {
        let message = Message { event, setup: setup.take(), verified: VerifiedClaims::None };
        session.on(gate, message, answers).unwrap();
    };
    for event in before {
        send(&mut session, event, &mut answers);
    }
    let record = session.give_up(gate, BodyFailure::TimedOut, &mut answers);
    let mut words: Vec<_> = answers.drain(..).map(word).collect();
    if let Some(record) = record {
        words.push(format!("{:?} {}", record.verdict, record.reason));
    }
    for event in after {
        send(&mut session, event, &mut answers);
    }
    words.extend(answers.into_iter().map(word));
    words
}

#[test]
fn what_does_not_come_whole_is_given_up() {
    let part = || body(&call("good")[..20], false);
    let rest = || body(&call("good")[20..], true);
    let gate = gate();
    for (mode, before, expected) in [
        (BodyMode::Buffered, vec![headers(false)], vec!["RequestHeaders", "408 timed_out"]),
        (BodyMode::BufferedPartial, vec![headers(false)], vec!["RequestHeaders", "408 timed_out"]),
        (BodyMode::FullDuplexStreamed, vec![headers(false)], vec!["408 timed_out"]),
        (BodyMode::FullDuplexStreamed, vec![headers(false), part()], vec!["408 timed_out"]),
    ] {
        let words = give_up(&gate, mode, before, vec![rest()]);
        let expected: Vec<_> = expected.into_iter().chain(["Deny timed_out"]).collect();
        assert_eq!(words, expected, "{mode:?}");
    }
    // A decision that was already made stays.
    for mode in [BodyMode::Buffered, BodyMode::FullDuplexStreamed] {
        for decided in [body(&call("good"), true), body(&call("bad"), true)] {
            let words = give_up(&gate, mode, vec![headers(false), decided], Vec::new());
            assert!(!words.iter().any(|word| word.contains("timed_out")), "{words:?}");
        }
    }
    let mut session = Session::new(true);
    assert!(session.give_up(&gate, BodyFailure::TimedOut, &mut Vec::new()).is_none());
    assert!(!session.is_begun() && !session.is_decided());
}

#[test]
fn in_shadow_it_goes_on_as_it_comes() {
    let part = || body(&call("bad")[..20], false);
    let rest = || body(&call("bad")[20..], true);
    let length = call("bad").len() - 20;
    let words = give_up(
        &shadow(),
        BodyMode::FullDuplexStreamed,
        vec![headers(false), part()],
        vec![rest()],
    );
    assert_eq!(
        words,
        [
            "RequestHeaders",
            "StreamRequestBody 20 false",
            "ShadowDeny timed_out",
            &format!("StreamRequestBody {length} true"),
        ]
    );
    let words =
        give_up(&shadow(), BodyMode::FullDuplexStreamed, vec![headers(false)], vec![rest()]);
    let rest_of_it = format!("StreamRequestBody {length} true");
    assert_eq!(words, ["RequestHeaders", "ShadowDeny timed_out", &rest_of_it]);
    // Envoy waits for the body itself, and for no answer.
    let words = give_up(
        &shadow(),
        BodyMode::Buffered,
        vec![headers(false)],
        vec![body(&call("bad"), true)],
    );
    assert_eq!(words, ["RequestHeaders", "RequestBody"]);
}

#[test]
fn one_too_many_is_answered_at_its_head() {
    for mode in [BodyMode::Buffered, BodyMode::FullDuplexStreamed] {
        for (gate, expected) in [(gate(), "503 overloaded"), (shadow(), "RequestHeaders")] {
            let mut session = Session::new(false);
            let setup = Some(ProcessingModes { request_body: mode, response_body: BodyMode::None });
            let mut answers = Vec::new();
            let message = Message { event: headers(false), setup, verified: VerifiedClaims::None };
            session.on(&gate, message, &mut answers).unwrap();
            assert_eq!(answers.into_iter().map(word).collect::<Vec<_>>(), [expected], "{mode:?}");
            assert!(session.is_decided() && session.held_bytes() == 0);
        }
    }
}

#[test]
fn a_body_in_too_many_parts_is_refused() {
    let limits = "limits: {maxBodyBytes: 300, maxBodyParts: 3}";
    let gate = config::parse(&POLICY.replace("limits: {maxBodyBytes: 300}", limits)).unwrap();
    let parts = |count: usize| {
        let whole = call("good");
        let (first, last) = whole.split_at(count - 1);
        let parts = first.iter().map(|byte| body(&[*byte], false));
        [headers(false)].into_iter().chain(parts).chain([body(last, true)]).collect::<Vec<_>>()
    };
    let mode = Some(BodyMode::FullDuplexStreamed);
    let (words, _) = converse_with(&gate, mode, parts(3));
    assert_eq!(words.first().map(String::as_str), Some("RequestHeaders"), "{words:?}");
    let (words, _) = converse_with(&gate, mode, parts(4));
    assert_eq!(words, ["413 too_many_parts"]);
}
