//! Tests of filtered responses to list requests.

use super::tests::{POLICY, body, headers, word};
use super::*;
use crate::claims::VerifiedClaims;
use crate::config;
use crate::extproc::message::ProcessingModes;
use crate::gate::ResponseHead;
use crate::head::Head;

fn list_request() -> Event {
    body(br#"{"jsonrpc":"2.0","id":"7","method":"tools/list"}"#, true)
}

fn response(status: u16, content_type: &str) -> Event {
    let content_type = content_type.to_owned();
    let head = ResponseHead {
        status,
        content_type,
        is_compressed: status == 299,
        ..ResponseHead::default()
    };
    Event::Response(ResponsePart::Headers(Some(head)))
}

fn response_body(bytes: &str, end_of_stream: bool) -> Event {
    let bytes = bytes.as_bytes().to_vec().into();
    Event::Response(ResponsePart::Body(Chunk { bytes, end_of_stream }))
}

/// Returns the session's answers when the server responds to a list request, in BUFFERED mode.
fn listed(tools_list: &str, response: Vec<Event>) -> Vec<String> {
    listed_in(BodyMode::Streamed, tools_list, response)
}

fn listed_in(response_body: BodyMode, tools_list: &str, response: Vec<Event>) -> Vec<String> {
    let gate = config::parse(&format!("{POLICY}  toolsList: {tools_list}\n")).unwrap();
    let mut events = vec![headers(false), list_request()];
    events.extend(response);
    let mut session = Session::new(true);
    let mut setup = Some(ProcessingModes { request_body: BodyMode::Buffered, response_body });
    let mut words = Vec::new();
    for event in events {
        let mut answers = Vec::new();
        let message = Message { event, setup: setup.take(), verified: VerifiedClaims::None };
        session.on(&gate, message, &mut answers).unwrap();
        words.extend(answers.into_iter().map(word));
    }
    assert_eq!(words.drain(..1).collect::<Vec<_>>(), ["RequestHeaders"]);
    words
}

const TOOLS: &str =
    r#"{"jsonrpc":"2.0","id":"7","result":{"tools":[{"name":"good"},{"name":"bad"}]}}"#;
const GOOD: &str =
    r#"{"jsonrpc":"2.0","id":"7","result":{"cacheScope":"private","tools":[{"name":"good"}]}}"#;
const BOTH: &str = r#"{"jsonrpc":"2.0","id":"7","result":{"cacheScope":"private","tools":[{"name":"good"},{"_meta":{"mcp-authz/requiredScopes":["more"]},"name":"bad"}]}}"#;

#[test]
fn the_answer_to_a_list_is_filtered() {
    let json = || response(200, "application/json; charset=utf-8");
    let asked = "RequestBody(Identity)";
    let fetched = [asked, "FilteredResponseHeaders"];
    for (tools_list, filtered) in [("Permitted", GOOD), ("Reachable", BOTH)] {
        let words = listed(tools_list, vec![json(), response_body(TOOLS, true)]);
        assert_eq!(words, [fetched.as_slice(), &[filtered]].concat());
        let (first, rest) = TOOLS.split_at(30);
        let parts = vec![json(), response_body(first, false), response_body(rest, true)];
        assert_eq!(listed(tools_list, parts), [fetched.as_slice(), &["", filtered]].concat());
        let event = |data: &str| format!("id: 1\ndata: {data}\n\n");
        let events = response_body(&event(TOOLS), false);
        let end = response_body("", true);
        let words = listed(tools_list, vec![response(201, "text/event-stream"), events, end]);
        assert_eq!(words, [fetched.as_slice(), &[&event(filtered), ""]].concat());
    }
    // Without a filter, the stream ends before the response.
    let words = listed("Unfiltered", vec![json(), response_body(TOOLS, true)]);
    assert_eq!(words, ["RequestBody"]);
    let no_list = response(404, "application/json");
    assert_eq!(listed("Permitted", vec![no_list]), [asked, "ResponseHeaders"]);
    // With status 202, the client needs no body.
    for content_type in ["", "text/plain"] {
        let parts = vec![response(202, content_type), response_body(TOOLS, true)];
        assert_eq!(listed("Permitted", parts), [fetched.as_slice(), &[""]].concat());
    }
}

#[test]
fn a_list_that_cannot_be_read_does_not_go_on() {
    let refused = "502 unreadable_list";
    for head in [
        response(200, "text/plain"),
        response(299, "application/json"),
        response(200, ""),
        response(0, "application/json"),
        response(200, "several"),
        response(200, "text/event-stream; charset=utf-7"),
    ] {
        let words = listed("Permitted", vec![head, response_body(TOOLS, true)]);
        assert_eq!(words, ["RequestBody(Identity)", refused]);
    }
    let error = |word: &str| word.contains(r#""id":"7","error":{"code":-32603,"#);
    let json = || response(200, "application/json");
    for unreadable in ["[7]", "{", "\u{feff}{}", &format!("{TOOLS}{TOOLS}"), &" ".repeat(301)] {
        let words = listed("Permitted", vec![json(), response_body(unreadable, true)]);
        assert!(error(&words[2]), "{unreadable}: {words:?}");
    }
    let events = || response(200, "text/event-stream");
    let parts = vec![
        events(),
        response_body("data: {}\n\ndata: {x\n\ndata: {}\n\n", false),
        response_body(&format!("data: {TOOLS}\n\n"), true),
    ];
    let words = listed("Permitted", parts);
    assert!(words[2].starts_with("data: {}\n\ndata: {\"jsonrpc") && error(&words[2]), "{words:?}");
    assert!(words[2].ends_with("}\n\n") && words[3].is_empty(), "{words:?}");
    // The number of buffered bytes is bounded.
    let long = "x".repeat(301);
    let parts = vec![json(), response_body(&long, false), response_body(&long, true)];
    let words = listed("Permitted", parts);
    assert!(error(&words[2]) && words[3].is_empty(), "{words:?}");
}

#[test]
fn list_before_trailers_is_complete() {
    let json = || response(200, "application/json");
    let events = || response(200, "text/event-stream");
    let trailers = || Event::Response(ResponsePart::Trailers);
    let begun = ["RequestBody(Identity)", "FilteredResponseHeaders"];
    let (first, rest) = TOOLS.split_at(30);
    // No chunk is marked as the last one, so the value itself shows where it ends.
    let parts = vec![json(), response_body(first, false), response_body(rest, false), trailers()];
    let words = listed("Permitted", parts);
    assert_eq!(words, [begun.as_slice(), &["", GOOD, "ResponseTrailers"]].concat());
    // Only white space may follow the value.
    let after = |more: &str| {
        vec![json(), response_body(TOOLS, false), response_body(more, false), trailers()]
    };
    let words = listed("Permitted", after(" \n"));
    assert_eq!(words, [begun.as_slice(), &[GOOD, "", "ResponseTrailers"]].concat());
    let words = listed("Permitted", after(TOOLS));
    assert_eq!(words, [begun.as_slice(), &[GOOD, "", "ResponseTrailers"]].concat());
    // In duplex mode, an incomplete value can be sent before the trailers.
    let streamed = |bytes: &str| {
        let chunk = Chunk { bytes: bytes.to_owned().into(), end_of_stream: false };
        format!("{:?}", Reply::StreamResponseBody(chunk))
    };
    let (data, good) = (format!("data: {TOOLS}\n"), format!("data: {GOOD}\n"));
    let parts = vec![events(), response_body(&data, false), trailers()];
    let words = listed_in(BodyMode::FullDuplexStreamed, "Permitted", parts);
    let expected = [&streamed(""), &streamed(&good), "ResponseTrailers"];
    assert_eq!(words, [begun.as_slice(), &expected].concat());
    // In other modes, an incomplete value is not sent.
    let parts = vec![events(), response_body(&data, false), trailers()];
    let words = listed("Permitted", parts);
    assert_eq!(words, [begun.as_slice(), &["", "ResponseTrailers"]].concat());
}

#[test]
fn list_that_envoy_does_not_send_is_refused() {
    for mode in [BodyMode::None, BodyMode::Buffered, BodyMode::BufferedPartial, BodyMode::Other(9)]
    {
        assert_eq!(listed_in(mode, "Permitted", Vec::new()), ["500 misconfigured"], "{mode:?}");
        assert_eq!(listed_in(mode, "Unfiltered", Vec::new()), ["RequestBody"], "{mode:?}");
    }
    // Without the headers, the form of a body is not known.
    let words = listed("Permitted", vec![response_body(TOOLS, true)]);
    assert_eq!(words, ["RequestBody(Identity)", "500 misconfigured"]);
}

#[test]
fn resumed_stream_is_filtered_by_its_form() {
    let gate = config::parse(&format!("{POLICY}  toolsList: Permitted\n")).unwrap();
    let resume = || Head {
        method: "GET".into(),
        headers: vec![("last-event-id".to_owned(), b"7".to_vec())],
        ..Head::default()
    };
    let answered = |gate: &Gate, head: Head, response: Vec<Event>| {
        let mut session = Session::new(true);
        let (request_body, response_body) = (BodyMode::Buffered, BodyMode::Streamed);
        let mut setup = Some(ProcessingModes { request_body, response_body });
        let mut answers = Vec::new();
        let begin = Event::RequestHeaders { head, end_of_stream: true };
        for event in std::iter::once(begin).chain(response) {
            let message = Message { event, setup: setup.take(), verified: VerifiedClaims::None };
            session.on(gate, message, &mut answers).unwrap();
        }
        answers.into_iter().map(word).collect::<Vec<_>>()
    };
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
    let data = format!("data: {TOOLS}\n\ndata: {result}\n\n");
    let filtered = format!("data: {GOOD}\n\ndata: {result}\n\n");
    let events = || response(200, "text/event-stream");
    let stream = || vec![events(), response_body(&data, false)];
    let words = answered(&gate, resume(), stream());
    let begun = ["RequestHeaders(Identity)", "FilteredResponseHeaders"];
    assert_eq!(words, [begun.as_slice(), &[&filtered]].concat());
    // A GET without `Last-Event-ID` needs no filter.
    let get = Head { headers: Vec::new(), ..resume() };
    assert_eq!(answered(&gate, get, stream()), ["RequestHeaders"]);
    let unfiltered = config::parse(POLICY).unwrap();
    assert_eq!(answered(&unfiltered, resume(), stream()), ["RequestHeaders"]);
    // An event that cannot be read is withheld, and the rest is sent.
    let odd = "id: 8\ndata: {\n\nevent: ping\ndata: now\n\n: \u{2028}\n\n";
    let body = response_body(&format!("{odd}{data}"), false);
    let words = answered(&gate, resume(), vec![events(), body]);
    let rest = format!("id: 8\n\nevent: ping\ndata: now\n\n\n{filtered}");
    assert_eq!(words, [begun.as_slice(), &[&rest]].concat());
}

#[test]
fn second_end_of_stream_changes_nothing() {
    let gate = config::parse(&format!("{POLICY}  toolsList: Permitted\n")).unwrap();
    let mut session = Session::new(true);
    let (request_body, response_body) = (BodyMode::FullDuplexStreamed, BodyMode::Streamed);
    let mut setup = Some(ProcessingModes { request_body, response_body });
    let mut send = |event| {
        let mut answers = Vec::new();
        let message = Message { event, setup: setup.take(), verified: VerifiedClaims::None };
        let result = session.on(&gate, message, &mut answers);
        result.map(|_record| answers.len())
    };
    assert_eq!(send(headers(false)), Ok(0));
    assert_eq!(send(list_request()), Ok(2));
    assert_eq!(send(body(b"", true)), Ok(0));
    assert_eq!(send(response(200, "application/json")), Ok(1));
    assert!(send(body(b"x", true)).is_err());
}

#[test]
fn a_list_that_there_is_no_room_for_is_let_go() {
    let gate = config::parse(&format!("{POLICY}  toolsList: Permitted\n")).unwrap();
    for (content_type, part, before) in [
        ("application/json", "{", "{\"jsonrpc"),
        ("text/event-stream", "data: {", "data: {\"jsonrpc"),
    ] {
        let mut session = Session::new(true);
        let mut setup = Some(ProcessingModes {
            request_body: BodyMode::Buffered,
            response_body: BodyMode::Streamed,
        });
        let mut answers = Vec::new();
        for event in [
            headers(false),
            list_request(),
            response(200, content_type),
            response_body(part, false),
        ] {
            let message = Message { event, setup: setup.take(), verified: VerifiedClaims::None };
            session.on(&gate, message, &mut answers).unwrap();
        }
        assert_eq!(session.held_bytes(), part.len());
        assert!(session.give_up(&gate, BodyFailure::Overloaded, &mut answers).is_none());
        assert_eq!(session.held_bytes(), 0);
        answers.clear();
        let event = response_body(TOOLS, true);
        let message = Message { event, setup: None, verified: VerifiedClaims::None };
        let record = session.on(&gate, message, &mut answers).unwrap();
        assert_eq!(record.unwrap().reason, "unreadable_list");
        let told = word(answers.remove(0));
        assert!(told.starts_with(before) && !told.contains("bad"), "{told}");
    }
}

/// Returns the answers of a session to these events, in these modes.
fn exchanged(lists: &str, modes: (BodyMode, BodyMode), events: Vec<Event>) -> Vec<String> {
    let gate = config::parse(&format!("{POLICY}{lists}")).unwrap();
    let mut session = Session::new(true);
    let (request_body, response_body) = modes;
    let mut setup = Some(ProcessingModes { request_body, response_body });
    let mut words = Vec::new();
    for event in events {
        let mut answers = Vec::new();
        let message = Message { event, setup: setup.take(), verified: VerifiedClaims::None };
        if let Err(violation) = session.on(&gate, message, &mut answers) {
            words.push(format!("{violation:?}"));
        }
        words.extend(answers.into_iter().map(word));
    }
    words
}

fn resuming(method: &str) -> Event {
    let headers = [("last-event-id", "7"), ("content-type", "application/json")];
    let header = |(name, value): (&str, &str)| (name.to_owned(), value.into());
    let headers = headers.map(header).to_vec();
    let head =
        Head { method: method.into(), headers, has_body: method == "POST", ..Head::default() };
    Event::RequestHeaders { end_of_stream: !head.has_body, head }
}

#[test]
fn resuming_list_request_is_filtered_by_form() {
    let list = body(br#"{"jsonrpc":"2.0","id":"8","method":"prompts/list"}"#, true);
    let lists = "  toolsList: Permitted\n  promptsList: Permitted\n  enforce: [tools, prompts]\n";
    let events = vec![
        resuming("POST"),
        list,
        response(200, "text/event-stream"),
        response_body(&format!("data: {TOOLS}\n\n"), false),
    ];
    let words = exchanged(lists, (BodyMode::Buffered, BodyMode::Streamed), events);
    assert_eq!(words.last(), Some(&format!("data: {GOOD}\n\n")));
}

#[test]
fn harmless_events_of_resumed_stream_continue() {
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
    for harmless in [format!("data: [{result}]\n\n"), "event: ping\ndata: now\n\n".to_owned()] {
        let events = vec![
            resuming("GET"),
            response(200, "text/event-stream"),
            response_body(&harmless, false),
            response_body(&format!("data: {result}\n\n"), false),
        ];
        let modes = (BodyMode::Buffered, BodyMode::Streamed);
        let words = exchanged("  toolsList: Permitted\n", modes, events);
        assert_eq!(words.last(), Some(&format!("data: {result}\n\n")), "{harmless}");
    }
}

#[test]
fn request_trailers_after_release_are_answered() {
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"good"}}"#;
    let events = vec![headers(false), body(call, false), Event::RequestTrailers];
    let modes = (BodyMode::Buffered, BodyMode::FullDuplexStreamed);
    let words = exchanged("  toolsList: Permitted\n", modes, events);
    assert_eq!(words, ["RequestHeaders", "RequestBody", "RequestTrailers"]);
}
