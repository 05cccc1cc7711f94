//! Lists of tools through Envoy: each caller sees what they may use, and nothing else.

use std::collections::BTreeSet;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;

use crate::client::{Answer, Client};
use crate::observe::metrics;
use crate::stack::{POLICY as POLICY_OF_QUICKSTART, Stack};
use crate::support::{
    Http, MODES, Mode, call, change, mcp_authz, send, start, start_before, token,
};

const TOOLS: usize = 200;

/// Of the tools, a third is for everybody, one for `write`, and one for nobody; of each,
/// some have conditions over arguments or the caller.
const POLICY: &str = r#"
policies:
- name: p
  backend: {name: b}
  toolsList: @LIST@
  rules:
  - action: Deny
    target: {tools: [{tool: 'closed_*'}]}
  - action: Deny
    cel: 'args.n == 13'
  - action: Allow
    target:
      tools:
      - {tool: 'open_*0', when: 'args.n > 100'}
      - {tool: 'open_*1', when: 'request.auth.jwt.claims.sub == "nobody"'}
      - {tool: 'open_*2', when: 'request.auth.jwt.claims.sub == "somebody" && args.n > 0'}
      - {tool: 'open_*3'}
  - action: Allow
    source: {jwt: {scopes: [write]}}
    target: {tools: [{tool: 'write_*', when: 'args.n < 5'}]}
  - action: Allow
    source: {jwt: {scopes: [admin]}}
    target: {tools: [{tool: 'write_*'}, {tool: 'open_*4'}]}
"#;

fn tool(number: usize) -> String {
    let kind = ["open", "write", "closed"][number % 3];
    format!("{kind}_{number}")
}

/// The form in which a server responds to a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    /// Chunks of so many bytes.
    JsonInChunks(usize),
    Events(&'static str),
    EventsInChunks(usize),
}

/// A server of many tools, which tells what it was asked.
async fn server(form: Form) -> (JoinHandle<std::io::Result<()>>, u16) {
    let answer = move |headers: HeaderMap, body: Bytes| async move {
        let request: Value = serde_json::from_slice(&body).unwrap();
        let (id, method) = (&request["id"], &request["method"]);
        if method != "tools/list" {
            let text = json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}).to_string();
            return whole("application/json", text);
        }
        assert!(!headers.contains_key("accept-encoding"), "{headers:?}");
        let tools: Vec<_> = (0..TOOLS)
            .map(|number| json!({"name": tool(number), "inputSchema": {"type": "object"}}))
            .collect();
        let result = json!({"tools": tools, "nextCursor": "more"});
        let message = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
        let events = |end: &str| {
            let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress"});
            let lines = [
                ": hello",
                "retry: 7",
                "",
                &format!("data: {progress}"),
                "",
                "id: a-1",
                "event: message",
                &format!("data: {message}"),
                "",
                "",
            ];
            lines.join(end)
        };
        match form {
            Form::Json => whole("application/json; charset=utf-8", message),
            Form::JsonInChunks(size) => chunked("Application/JSON", &message, size),
            Form::Events(end) => whole("text/event-stream", events(end)),
            Form::EventsInChunks(size) => chunked("text/event-stream", &events("\r\n"), size),
        }
    };
    serve(Router::new().fallback(answer)).await
}

/// Serves a router on a free port, which is returned.
pub async fn serve(router: Router) -> (JoinHandle<std::io::Result<()>>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (tokio::spawn(async move { axum::serve(listener, router).await }), port)
}

fn whole(content_type: &str, body: String) -> Response<Body> {
    Response::builder().header("content-type", content_type).body(body.into()).unwrap()
}

fn chunked(content_type: &str, body: &str, size: usize) -> Response<Body> {
    let chunks: Vec<_> = body.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
    let stream = tokio_stream::iter(chunks).then(async |chunk| {
        tokio::task::yield_now().await;
        Ok::<_, std::io::Error>(chunk)
    });
    let body = Body::from_stream(stream);
    Response::builder().header("content-type", content_type).body(body).unwrap()
}

async fn begin(list: &str, mode: Mode, form: Form) -> Stack<JoinHandle<std::io::Result<()>>> {
    let policy = POLICY.replace("@LIST@", list);
    start_before(server(form).await, mcp_authz(), &policy, &mode.config_for(&policy)).await
}

const LIST: &str = r#"{"jsonrpc":"2.0","id":"seven","method":"tools/list"}"#;

/// The tools of a list, with the scopes that they need.
async fn listed<S>(stack: &Stack<S>, scope: &str) -> Vec<(String, Vec<String>)> {
    let request = Http::new(stack).post(Some(&token(scope)), LIST);
    let reply = send(request.header("accept-encoding", "gzip, br")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let message =
        match reply.body.lines().filter_map(|line| line.strip_prefix("data: ")).next_back() {
            Some(data) => serde_json::from_str(data).unwrap(),
            None => reply.json(),
        };
    assert_eq!(message["id"], "seven");
    assert_eq!(message["result"]["nextCursor"], "more");
    if reply.body.contains("data: ") {
        for kept in [": hello", "retry: 7", "notifications/progress", "id: a-1", "event: message"] {
            assert!(reply.body.contains(kept), "{kept}: {reply:?}");
        }
    }
    let tools = message["result"]["tools"].as_array().unwrap();
    let tool = |tool: &Value| {
        let scopes = tool["_meta"]["mcp-authz/requiredScopes"].as_array().into_iter().flatten();
        let scopes = scopes.map(|scope| scope.as_str().unwrap().to_owned());
        (tool["name"].as_str().unwrap().to_owned(), scopes.collect())
    };
    tools.iter().map(tool).collect()
}

/// Calls a tool with many arguments. Returns true if one of the calls was allowed, with the first
/// challenge.
async fn tried<S>(stack: &Stack<S>, scope: &str, tool: &str) -> (bool, Option<String>) {
    let (mut is_allowed, mut challenge) = (false, None);
    for n in [0, 1, 3, 13, 101] {
        let request = Http::new(stack).post(Some(&token(scope)), call(tool, &json!({"n": n})));
        let reply = send(request).await;
        is_allowed |= reply.status == 200;
        challenge = challenge.or(reply.challenge().map(str::to_owned));
    }
    (is_allowed, challenge)
}

#[tokio::test]
async fn what_is_listed_is_what_can_be_called() {
    for mode in MODES {
        let stack = begin("Permitted", mode, Form::Json).await;
        for scope in ["", "write", "admin"] {
            let listed = listed(&stack, scope).await;
            let names: BTreeSet<String> = listed.into_iter().map(|(name, _)| name).collect();
            let mut callable = BTreeSet::new();
            for tool in (0..TOOLS).map(tool) {
                if tried(&stack, scope, &tool).await.0 {
                    callable.insert(tool);
                }
            }
            assert_eq!(names, callable, "{mode:?} {scope}");
            assert!(!callable.is_empty() && callable.len() < TOOLS);
        }
    }
}

#[tokio::test]
async fn a_list_is_filtered_however_it_comes() {
    for mode in MODES {
        let mut all = BTreeSet::new();
        for form in [
            Form::Json,
            Form::JsonInChunks(1000),
            Form::Events("\n"),
            Form::Events("\r\n"),
            Form::EventsInChunks(777),
        ] {
            let stack = begin("Reachable", mode, form).await;
            let listed = listed(&stack, "write").await;
            assert!(listed.len() > 70, "{mode:?} {form:?}");
            all.insert(listed);
        }
        assert_eq!(all.len(), 1, "{mode:?}");
    }
}

#[tokio::test]
async fn a_list_announces_the_scopes_that_open_a_tool() {
    for mode in MODES {
        let stack = begin("Reachable", mode, Form::Json).await;
        let listed = listed(&stack, "").await;
        let needs =
            |tool: &str| listed.iter().find(|(name, _)| name == tool).map(|(_, needs)| needs);
        assert_eq!(needs("open_3"), Some(&vec![]), "{mode:?}");
        assert_eq!(needs("open_24"), Some(&vec!["admin".to_owned()]));
        assert_eq!((needs("closed_2"), needs("open_21")), (None, None));
        // The client steps up by what the list said.
        let scope = needs("write_1").unwrap().join(" ");
        assert_eq!(scope, "write");
        let (is_allowed, challenge) = tried(&stack, "", "write_1").await;
        assert!(!is_allowed && challenge.unwrap().contains(&format!("scope=\"{scope}\"")));
        assert!(tried(&stack, &scope, "write_1").await.0);
    }
}

/// The Rust SDK, as client and as server, which answers in events.
#[tokio::test]
async fn the_rust_sdk_sees_what_it_can_call() {
    let policy = POLICY_OF_QUICKSTART
        .replace("- name: quickstart\n", "- name: quickstart\n  toolsList: Permitted\n");
    for mode in MODES {
        let stack = start(&policy, &mode.config_for(&policy)).await;
        for (scope, expected) in [
            ("", ["countdown"].as_slice()),
            ("echo", &["countdown", "echo"]),
            ("sum", &["countdown", "sum"]),
            ("all-access", &["countdown", "echo", "sum"]),
        ] {
            let client = Client::connect(&stack.url(), &token(scope)).await.unwrap();
            let mut tools = client.tools().await.unwrap();
            tools.sort();
            assert_eq!(tools, expected, "{mode:?} {scope}");
            for (tool, arguments) in [
                ("countdown", json!({"from": 0})),
                ("echo", json!({"text": "Hello, you!"})),
                ("sum", json!({"a": 1, "b": 2})),
            ] {
                let is_text =
                    matches!(client.call(tool, &arguments).await.unwrap(), Answer::Text(_));
                assert_eq!(is_text, expected.contains(&tool), "{mode:?} {scope} {tool}");
            }
            client.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn envoy_without_lists_passes_none() {
    let policy = POLICY.replace("@LIST@", "Permitted");
    for mode in MODES {
        let config = mode.config_for(&policy);
        for wrong in ["NONE", "BUFFERED", "BUFFERED_PARTIAL"] {
            let wrong = format!("response_body_mode: {wrong}");
            let config = change(&config, &[("response_body_mode: STREAMED", &wrong)]);
            let server = server(Form::Json).await;
            let stack = start_before(server, mcp_authz(), &policy, &config).await;
            let reply = send(Http::new(&stack).post(Some(&token("")), LIST)).await;
            assert_eq!(reply.refusal(), (500, -32603, "misconfigured".to_owned()), "{wrong}");
            assert!(stack.sidecar.logs("set it to STREAMED").await, "{wrong}");
        }
        // Its headers have gone past when this is known.
        let config =
            change(&config, &[("response_header_mode: SEND", "response_header_mode: SKIP")]);
        let server = server(Form::Json).await;
        let stack = start_before(server, mcp_authz(), &policy, &config).await;
        let response = Http::new(&stack).post(Some(&token("")), LIST).send().await;
        let body = match response {
            Ok(response) => response.text().await.unwrap_or_default(),
            Err(_broken) => String::new(),
        };
        assert!(!body.contains("open_"), "{mode:?}: {body}");
        assert!(stack.sidecar.logs("response_header_mode is SKIP").await, "{mode:?}");
    }
}

/// A server that answers a list with what a request header says of caches.
async fn cached_server() -> (JoinHandle<std::io::Result<()>>, u16) {
    let answer = async |headers: HeaderMap| {
        let form = headers["x-form"].to_str().unwrap().to_owned();
        let message = r#"{"jsonrpc":"2.0","id":"seven","result":{"ttlMs":9,"cacheScope":"public","tools":[{"name":"open_3"},{"name":"closed_2"}]}}"#;
        let response = Response::builder()
            .header("cache-control", "public, max-age=60, s-maxage=600")
            .header("cdn-cache-control", "max-age=600")
            .header("etag", "\"all\"");
        let (content_type, body) = match form.as_str() {
            "json" => ("application/json", message.to_owned()),
            _ => ("text/event-stream", format!("id: 7\ndata: {message}\n\n")),
        };
        response.header("content-type", content_type).body(Body::from(body)).unwrap()
    };
    serve(Router::new().fallback(answer)).await
}

#[tokio::test]
async fn filtered_list_is_private_to_caches() {
    let policy = POLICY.replace("@LIST@", "Permitted");
    for mode in MODES {
        let config = mode.config_for(&policy);
        let stack = start_before(cached_server().await, mcp_authz(), &policy, &config).await;
        let http = Http::new(&stack);
        let page = LIST.replace("tools/list\"", "tools/list\",\"params\":{\"cursor\":\"more\"}");
        let resume = || http.request("GET").bearer_auth(token("")).header("last-event-id", "6");
        for (label, request) in [
            ("json", http.post(Some(&token("")), LIST).header("x-form", "json")),
            ("json page", http.post(Some(&token("")), page).header("x-form", "json")),
            ("events", http.post(Some(&token("")), LIST).header("x-form", "events")),
            ("resumed", resume().header("x-form", "events")),
            ("resumed as json", resume().header("x-form", "json")),
        ] {
            let reply = send(request).await;
            let expected =
                r#""result":{"ttlMs":9,"cacheScope":"private","tools":[{"name":"open_3"}]}}"#;
            assert!(reply.status == 200 && reply.body.contains(expected), "{label}: {reply:?}");
            let header = |name: &str| reply.headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!(header("cache-control"), Some("private, max-age=60"), "{mode:?} {label}");
            assert_eq!((header("cdn-cache-control"), header("etag")), (None, None), "{label}");
        }
    }
}

/// A stream that a client resumes stays open, so that each can take a place.
#[tokio::test]
async fn resumed_streams_leave_room_for_calls() {
    let server = Router::new().fallback(async |headers: HeaderMap| {
        if !headers.contains_key("last-event-id") {
            return whole("application/json", "{}".to_owned());
        }
        // It never ends.
        let first = tokio_stream::once(Ok::<_, std::io::Error>("data: {}\n\n"));
        let body = Body::from_stream(first.chain(tokio_stream::pending()));
        Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    });
    let server = serve(server).await;
    let policy = POLICY.replace("@LIST@", "Permitted");
    let mut sidecar = mcp_authz();
    sidecar.env("MCP_AUTHZ_MAX_STREAMS", "8");
    let config = Mode::Buffered.config_for(&policy);
    let stack = start_before(server, sidecar, &policy, &config).await;
    let http = Http::new(&stack);
    let resume = || http.request("GET").bearer_auth(token("")).header("last-event-id", "6");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut response = resume().send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.chunk().await.unwrap().unwrap(), "data: {}\n\n");
        open.push(response);
    }
    let reply = send(resume()).await;
    assert_eq!((reply.status, reply.body.contains("too many")), (503, true), "{reply:?}");
    // Neither a new stream nor a call waits for these.
    for _ in 0..20 {
        let request = http.post(Some(&token("")), call("open_3", &json!({"n": 1})));
        assert_eq!(send(request).await.status, 200);
        assert_eq!(send(http.request("GET").bearer_auth(token(""))).await.status, 200);
    }
    drop(open);
    loop {
        let response = resume().send().await.unwrap();
        if response.status() == 200 {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn list_answered_elsewhere_is_counted() {
    let server = Router::new()
        .fallback(async || Response::builder().status(202).body(Body::empty()).unwrap());
    let server = serve(server).await;
    let policy = POLICY.replace("@LIST@", "Permitted");
    let config = Mode::Buffered.config_for(&policy);
    let stack = start_before(server, mcp_authz(), &policy, &config).await;
    let reply = send(Http::new(&stack).post(Some(&token("")), LIST)).await;
    assert_eq!(reply.status, 202);
    assert!(stack.sidecar.logs("on another stream, unfiltered").await);
    let metrics = metrics(&stack.sidecar).await;
    assert_eq!(metrics["mcp_authz_lists_total{outcome=\"elsewhere\"}"], 1.0);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_not_passed_on() {
    let server = Router::new().fallback(async |headers: HeaderMap| {
        let kind = headers["x-kind"].to_str().unwrap().to_owned();
        let tools = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"closed_2"}]}}"#;
        let (content_type, encoding, body) = match kind.as_str() {
            "compressed" => ("application/json", "gzip", tools),
            "text" => ("text/plain", "identity", tools),
            "broken" => {
                ("application/json", "identity", r#"{"result":{"tools":[{"name":"closed_2"}"#)
            }
            _ => (
                "text/event-stream",
                "identity",
                "data: {\"result\":{\"Tools\":[{\"name\":\"closed_2\"}]}}\n\n",
            ),
        };
        let response = Response::builder().header("content-type", content_type);
        response.header("content-encoding", encoding).body(Body::from(body)).unwrap()
    });
    let server = serve(server).await;
    let policy = POLICY.replace("@LIST@", "Permitted");
    let config = Mode::Buffered.config_for(&policy);
    let stack = start_before(server, mcp_authz(), &policy, &config).await;
    for (kind, status) in [("compressed", 502), ("text", 502), ("broken", 200), ("events", 200)] {
        let request = Http::new(&stack).post(Some(&token("")), LIST).header("x-kind", kind);
        let reply = send(request).await;
        assert_eq!(reply.status, status, "{kind}: {reply:?}");
        assert!(!reply.body.contains("closed_2"), "{kind}: {reply:?}");
        assert!(
            reply.body.contains("unreadable_list") && reply.body.contains("\"seven\""),
            "{reply:?}"
        );
    }
    assert!(stack.sidecar.logs("the answer to tools/list cannot be filtered").await);
}
