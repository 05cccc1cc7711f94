//! Lists of tools from a server that speaks HTTP/2, with and without trailers.

use serde_json::{Value, json};

use crate::envoy;
use crate::http2::{self, Http2Server, Whole};
use crate::stack::Stack;
use crate::support::{Http, MODES, Mode, Reply, issuer, mcp_authz, send, token};

const POLICY: &str = "policies:\n- name: p\n  toolsList: Permitted\n  rules:\n  - {action: Allow, target: {tools: [{tool: 'open_*'}]}}\n";
const LIST: &str = r#"{"jsonrpc":"2.0","id":"seven","method":"tools/list"}"#;
const TOOLS: usize = 200;
/// Small enough that the names of tools are split between frames.
const FRAME_BYTES: usize = 1021;

#[derive(Debug, Clone, Copy)]
enum Form {
    Json,
    Events,
    /// JSON that breaks off in the name of a tool.
    Broken,
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
        let (content_type, body) = match self {
            Self::Json => ("application/json", message),
            Self::Broken => {
                let (broken, _) = message.rsplit_once("closed_199").unwrap();
                ("application/json", broken.to_owned())
            }
            Self::Events => ("text/event-stream", format!(": hello\n\ndata: {message}\n\n")),
        };
        Whole { content_type, body, frame_bytes: FRAME_BYTES, has_trailers }
    }

    fn message(self, body: &str) -> Value {
        let message = match self {
            Self::Json | Self::Broken => body,
            Self::Events => body.strip_prefix(": hello\n\ndata: ").unwrap(),
        };
        serde_json::from_str(message).unwrap()
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
    for mode in MODES {
        for form in [Form::Json, Form::Events] {
            for has_trailers in [false, true] {
                let what = format!("Envoy {version}, {mode:?}, {form:?}, trailers: {has_trailers}");
                let stack = begin(version, mode, form.response(has_trailers)).await;
                let reply = list(&stack).await;
                assert_eq!(reply.status, 200, "{what}: {reply:?}");
                assert!(!reply.body.is_empty(), "{what}: the list is empty: {reply:?}");
                let message = form.message(&reply.body);
                assert_eq!(message["id"], "seven", "{what}");
                assert_eq!(message["result"]["nextCursor"], "more", "{what}");
                let tools = message["result"]["tools"].as_array().unwrap();
                let names: Vec<_> = tools.iter().map(|tool| &tool["name"]).collect();
                assert_eq!(names, open.iter().collect::<Vec<_>>(), "{what}");
            }
        }
    }
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
    for mode in MODES {
        for has_trailers in [false, true] {
            let stack = begin(envoy::NEWEST, mode, Form::Broken.response(has_trailers)).await;
            let reply = list(&stack).await;
            let what = format!("{mode:?}, trailers: {has_trailers}: {reply:?}");
            assert!(!reply.body.contains("closed_"), "{what}");
            assert!(reply.body.contains("unreadable_list"), "{what}");
            assert_eq!(reply.json()["id"], "seven", "{what}");
        }
    }
}
