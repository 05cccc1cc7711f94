//! Lists of tools from a server that speaks HTTP/2, with and without trailers.
//!
//! mcp-authz can put nothing between a body and its trailers. A list that is incomplete when
//! the trailers come is withheld, and the response ends without an error message.

use serde_json::{Value, json};

use crate::envoy;
use crate::http2::{self, Http2Server, Whole};
use crate::stack::Stack;
use crate::support::{Http, MODES, Mode, Reply, issuer, mcp_authz, send, token};

const POLICY: &str = "policies:\n- name: p\n  toolsList: Permitted\n  rules:\n  - {action: Allow, target: {tools: [{tool: 'open_*'}]}}\n";
const LIST: &str = r#"{"jsonrpc":"2.0","id":"seven","method":"tools/list"}"#;
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const TOOLS: usize = 200;
/// Small enough that the names of tools are split between frames.
const FRAME_BYTES: usize = 1021;

#[derive(Debug, Clone, Copy)]
enum Form {
    Json,
    Events,
    /// Events whose last one has no blank line after it, which some clients accept.
    OpenEvents,
    /// JSON that breaks off in the name of a tool.
    BrokenJson,
    /// An event that does.
    BrokenEvents,
}

fn tool(number: usize) -> String {
    format!("{}_{number}", ["open", "closed"][number % 2])
}

impl Form {
    fn response(self, has_trailers: bool) -> Whole {
        let tools: Vec<_> = (0..TOOLS)
            .map(|number| json!({"name": tool(number), "inputSchema": {"type": "object"}}))
            .collect();
        let result = json!({"tools": tools, "nextCursor": "more"});
        let message = json!({"jsonrpc": "2.0", "id": "seven", "result": result}).to_string();
        let broken = message.rsplit_once("99").unwrap().0.to_owned();
        let (content_type, body) = match self {
            Self::Json => (JSON, message),
            Self::BrokenJson => (JSON, broken),
            Self::Events => (EVENTS, format!(": hello\n\ndata: {message}\n\n")),
            Self::OpenEvents => (EVENTS, format!(": hello\n\ndata: {message}")),
            Self::BrokenEvents => (EVENTS, format!(": hello\n\ndata: {broken}")),
        };
        Whole { content_type, body, frame_bytes: FRAME_BYTES, has_trailers }
    }

    /// Returns true if the list is complete before the stream ends.
    fn is_complete(self) -> bool {
        matches!(self, Self::Json | Self::Events)
    }

    /// Returns the names of the tools in a list, or none if the rest of the list is not as
    /// the server sent it.
    fn names(self, body: &str) -> Option<Vec<String>> {
        let message = match self {
            Self::Json | Self::BrokenJson => body,
            Self::Events | Self::OpenEvents | Self::BrokenEvents => {
                body.strip_prefix(": hello\n\ndata: ")?
            }
        };
        let message: Value = serde_json::from_str(message).ok()?;
        let is_whole = message["id"] == "seven" && message["result"]["nextCursor"] == "more";
        let tools = message["result"]["tools"].as_array().filter(|_| is_whole)?;
        tools.iter().map(|tool| Some(tool["name"].as_str()?.to_owned())).collect()
    }
}

async fn begin(version: &str, mode: Mode, response: Whole) -> Stack<Http2Server> {
    let binary = envoy::fetch(version, |text| eprintln!("{text}")).unwrap();
    let config = http2::speak_http2(&mode.config_for(POLICY));
    let server = Http2Server::sending(response).await;
    let port = server.port;
    let server = (server, port);
    Stack::start_before(server, &binary, issuer(), mcp_authz(), POLICY, &config).await.unwrap()
}

async fn list(stack: &Stack<Http2Server>) -> Reply {
    send(Http::new(stack).post(Some(&token("")), LIST)).await
}

/// Gets lists of every form, and checks that each holds all tools that the caller may use,
/// and no other.
async fn get_lists(version: &str) {
    let open: Vec<String> = (0..TOOLS).step_by(2).map(tool).collect();
    let mut failures = Vec::new();
    for mode in MODES {
        for form in [Form::Json, Form::Events, Form::OpenEvents] {
            // What only the end of the stream completes does not pass: see the module.
            let ends = if form.is_complete() { [false, true].as_slice() } else { &[false] };
            for &has_trailers in ends {
                let stack = begin(version, mode, form.response(has_trailers)).await;
                let reply = list(&stack).await;
                let names = form.names(&reply.body);
                if reply.status != 200 || names.as_ref() != Some(&open) {
                    let what = format!("{mode:?}, {form:?}, trailers: {has_trailers}");
                    failures.push(format!("{what}: {}, {} bytes", reply.status, reply.body.len()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "Envoy {version}: {failures:#?}");
}

#[tokio::test]
async fn http2_lists_arrive_complete() {
    get_lists(envoy::NEWEST).await;
}

#[tokio::test]
#[ignore = "fetches a second Envoy"]
async fn http2_lists_arrive_complete_1_36() {
    get_lists(envoy::OLDEST).await;
}

#[tokio::test]
async fn broken_http2_list_is_refused() {
    let mut failures = Vec::new();
    for mode in MODES {
        for form in [Form::BrokenJson, Form::BrokenEvents] {
            for has_trailers in [false, true] {
                let stack = begin(envoy::NEWEST, mode, form.response(has_trailers)).await;
                let Reply { status, body, .. } = list(&stack).await;
                let is_refused = body.contains("unreadable_list") && body.contains("\"seven\"");
                if (!is_refused && !has_trailers) || body.contains("_1") {
                    let what = format!("{mode:?}, {form:?}, trailers: {has_trailers}");
                    failures.push(format!("{what}: {status}, {body}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
