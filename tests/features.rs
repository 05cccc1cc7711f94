//! Prompts, resources and other methods through Envoy, in every version of the protocol.

use std::collections::BTreeSet;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Response;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::stack::Stack;
use crate::support::{Http, MODES, Mode, Reply, mcp_authz, send, start_before, token};

const POLICY: &str = r#"
policies:
- name: p
  enforce: [tools, prompts, resources]
  toolsList: Permitted
  promptsList: Permitted
  resourcesList: Reachable
  tasks: Deny
  rules:
  - {action: Deny, target: {resources: [{uri: 'file:///secret/*'}]}}
  - action: Allow
    target:
      tools: [{tool: open}]
      prompts: [{backend: b, prompt: open, when: 'args.n == "1"'}]
      resources: [{backend: b, uri: 'file:///open/*'}]
  - action: Allow
    source: {jwt: {scopes: [files]}}
    target:
      prompts: [{prompt: '*'}]
      resources: [{uri: 'file:///*'}]
"#;

const TOOLS: [&str; 2] = ["b__open", "b__closed"];
const PROMPTS: [&str; 3] = ["b__open", "c__open", "b__files"];
const RESOURCES: [&str; 5] = [
    "b+file:///open/a",
    "c+file:///open/a",
    "b+file:///files/a",
    "b+file:///secret/a",
    "b+db:///a",
];
/// Templates, each with all that can be read of it.
const TEMPLATES: [(&str, &[&str]); 4] = [
    ("b+file:///open/{name}", &["b+file:///open/a", "b+file:///open/b"]),
    ("b+file:///{+path}", &["b+file:///open/a", "b+file:///secret/a", "b+file:///files/a"]),
    ("b+file:///secret/{name}", &["b+file:///secret/a"]),
    ("c+file:///files/{name}", &["c+file:///files/a"]),
];

/// A server that has all of that, and answers to whatever reaches it.
async fn server() -> (JoinHandle<std::io::Result<()>>, u16) {
    let answer = async |body: Bytes| {
        let request: Value = serde_json::from_slice(&body).unwrap();
        let named = |names: &[&str], key: &str| {
            names.iter().map(|name| json!({"name": "n", key: name})).collect::<Vec<_>>()
        };
        let templates = TEMPLATES.map(|(template, _)| template);
        let result = match request["method"].as_str().unwrap() {
            "tools/list" => json!({"tools": named(&TOOLS, "name")}),
            "prompts/list" => json!({"prompts": named(&PROMPTS, "name")}),
            "resources/list" => json!({"resources": named(&RESOURCES, "uri")}),
            "resources/templates/list" => {
                json!({"resourceTemplates": named(&templates, "uriTemplate")})
            }
            _ => json!({}),
        };
        let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
        let response = Response::builder().header("content-type", "application/json");
        response.body(Body::from(answer.to_string())).unwrap()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().fallback(answer);
    (tokio::spawn(async move { axum::serve(listener, router).await }), port)
}

type Server = Stack<JoinHandle<std::io::Result<()>>>;

async fn begin(mode: Mode) -> Server {
    start_before(server().await, mcp_authz(), POLICY, &mode.config_for(POLICY)).await
}

async fn ask(stack: &Server, scope: &str, method: &str, params: &Value) -> Reply {
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    send(Http::new(stack).post(Some(&token(scope)), body.to_string())).await
}

/// Returns the names in a list, each with the scopes that the list announces for it.
async fn listed(stack: &Server, scope: &str, what: &str) -> Vec<(String, Value)> {
    let (method, member, key) = match what {
        "templates" => ("resources/templates/list", "resourceTemplates", "uriTemplate"),
        "resources" => ("resources/list", what, "uri"),
        "prompts" => ("prompts/list", what, "name"),
        _ => ("tools/list", what, "name"),
    };
    let reply = ask(stack, scope, method, &json!({})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer = reply.json();
    let entries = answer["result"][member].as_array().unwrap().iter();
    let entry = |entry: &Value| {
        let scopes = entry["_meta"]["mcp-authz/requiredScopes"].clone();
        (entry[key].as_str().unwrap().to_owned(), scopes)
    };
    entries.map(entry).collect()
}

/// The names of a list that need no further scope.
async fn usable(stack: &Server, scope: &str, what: &str) -> BTreeSet<String> {
    let listed = listed(stack, scope, what).await.into_iter();
    listed.filter(|(_, scopes)| scopes.is_null()).map(|(name, _)| name).collect()
}

async fn is_allowed(stack: &Server, scope: &str, method: &str, params: Value) -> bool {
    let reply = ask(stack, scope, method, &params).await;
    assert!([200, 403].contains(&reply.status), "{reply:?}");
    reply.status == 200
}

#[tokio::test]
async fn each_list_shows_what_can_be_asked_for() {
    for mode in MODES {
        let stack = begin(mode).await;
        for scope in ["", "files"] {
            let mut open = BTreeSet::new();
            for tool in TOOLS {
                if is_allowed(&stack, scope, "tools/call", json!({"name": tool})).await {
                    open.insert(tool.to_owned());
                }
            }
            assert_eq!(usable(&stack, scope, "tools").await, open, "{mode:?} {scope}");

            let mut open = BTreeSet::new();
            for prompt in PROMPTS {
                for n in ["0", "1"] {
                    let params = json!({"name": prompt, "arguments": {"n": n}});
                    if is_allowed(&stack, scope, "prompts/get", params).await {
                        open.insert(prompt.to_owned());
                    }
                }
            }
            assert_eq!(usable(&stack, scope, "prompts").await, open, "{mode:?} {scope}");

            let mut open = BTreeSet::new();
            for uri in RESOURCES {
                if is_allowed(&stack, scope, "resources/read", json!({"uri": uri})).await {
                    open.insert(uri.to_owned());
                }
            }
            assert_eq!(usable(&stack, scope, "resources").await, open, "{mode:?} {scope}");
            assert!(!open.is_empty() && open.len() < RESOURCES.len());

            let mut open = BTreeSet::new();
            for (template, uris) in TEMPLATES {
                for uri in uris {
                    if is_allowed(&stack, scope, "resources/read", json!({"uri": uri})).await {
                        open.insert(template.to_owned());
                    }
                }
            }
            assert_eq!(usable(&stack, scope, "templates").await, open, "{mode:?} {scope}");
            assert!(!open.contains("b+file:///secret/{name}"));
        }
    }
}

#[tokio::test]
async fn what_a_list_announces_opens_a_resource() {
    for mode in MODES {
        let stack = begin(mode).await;
        let uri = "b+file:///files/a";
        let listed = listed(&stack, "", "resources").await;
        let announced = listed.iter().find(|(listed, _)| listed == uri).map(|(_, scopes)| scopes);
        assert_eq!(announced, Some(&json!(["files"])), "{mode:?}");
        let reply = ask(&stack, "", "resources/read", &json!({"uri": uri})).await;
        assert!(reply.challenge().unwrap().contains("scope=\"files\""), "{reply:?}");
        assert!(is_allowed(&stack, "files", "resources/read", json!({"uri": uri})).await);
        // Who names several is told what all of them need, and may listen then.
        let uris = json!(["b+file:///open/a", uri]);
        let listen = json!({"notifications": {"resourceSubscriptions": uris}});
        let reply = ask(&stack, "", "subscriptions/listen", &listen).await;
        assert!(reply.challenge().unwrap().contains("scope=\"files\""), "{reply:?}");
        assert!(is_allowed(&stack, "files", "subscriptions/listen", listen).await);
    }
}

/// The body of a request, and the headers that a client of its version sends.
fn message(
    version: &str,
    method: &str,
    mut params: Value,
) -> (Vec<(&'static str, String)>, String) {
    let mut headers = Vec::new();
    if version == "2026-07-28" {
        let name = match method {
            "resources/read" => &params["uri"],
            "tasks/get" => &params["taskId"],
            _ => &params["name"],
        };
        headers.extend(name.as_str().map(|name| ("mcp-name", name.to_owned())));
        headers.push(("mcp-method", method.to_owned()));
        params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": version});
    }
    // In 2025-03-26 there was no such header yet.
    if version != "2025-03-26" {
        headers.push(("mcp-protocol-version", version.to_owned()));
    }
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    (headers, body.to_string())
}

#[tokio::test]
async fn every_version_of_the_protocol_is_judged_alike() {
    const OLD: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];
    const ALL: [&str; 4] = ["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];

    let open = json!({"uri": "b+file:///open/a"});
    let secret = json!({"uri": "b+file:///secret/a"});
    let listen = |uri: &str| json!({"notifications": {"resourceSubscriptions": [uri]}});
    let reference = |kind: &str, key: &str, name: &str| json!({"ref": {"type": kind, key: name}, "argument": {"name": "n", "value": ""}});
    let prompt = |n: &str| json!({"name": "b__open", "arguments": {"n": n}});
    for mode in MODES {
        let stack = begin(mode).await;
        for (versions, method, params, status) in [
            (ALL.as_slice(), "tools/call", json!({"name": "b__open"}), 200),
            (&ALL, "tools/call", json!({"name": "b__closed"}), 403),
            (&ALL, "prompts/get", prompt("1"), 200),
            (&ALL, "prompts/get", prompt("2"), 403),
            (&ALL, "resources/read", open.clone(), 200),
            (&ALL, "resources/read", secret.clone(), 403),
            (&OLD, "resources/subscribe", open.clone(), 200),
            (&OLD, "resources/subscribe", secret.clone(), 403),
            (&OLD, "resources/unsubscribe", secret.clone(), 403),
            (&ALL[3..], "subscriptions/listen", listen("b+file:///open/a"), 200),
            (&ALL[3..], "subscriptions/listen", listen("b+file:///secret/a"), 403),
            (&ALL, "completion/complete", reference("ref/prompt", "name", "b__files"), 403),
            (
                &ALL,
                "completion/complete",
                reference("ref/resource", "uri", "b+file:///open/{name}"),
                200,
            ),
            (
                &ALL,
                "completion/complete",
                reference("ref/resource", "uri", "b+file:///{+path}"),
                403,
            ),
            (&ALL[2..], "tasks/get", json!({"taskId": "1"}), 403),
            (&ALL, "logging/setLevel", json!({"level": "info"}), 200),
            // This version has it no more, whatever its parameters are.
            (&ALL[3..], "resources/subscribe", open.clone(), 404),
            (&ALL[3..], "resources/subscribe", json!({}), 404),
            (&ALL[3..], "resources/unsubscribe", secret.clone(), 404),
        ] {
            for version in versions {
                let case = format!("{mode:?} {version} {method} {params}");
                let (headers, body) = message(version, method, params.clone());
                let mut request = Http::new(&stack).post(Some(&token("")), body);
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                let reply = send(request).await;
                assert_eq!(reply.status, status, "{case}: {reply:?}");
                if status == 404 {
                    assert_eq!(reply.refusal(), (404, -32601, "removed_method".to_owned()));
                }
                if status != 200 {
                    assert_eq!(reply.json()["id"], 7, "{case}");
                }
            }
        }
        // What is in front may have believed the headers.
        let (_, body) = message("2026-07-28", "resources/read", open.clone());
        let request = Http::new(&stack).post(Some(&token("")), body);
        let reply = send(request.header("mcp-name", "b+file:///open/b")).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!(-32020)));
    }
}

#[tokio::test]
async fn version_2026_07_28_needs_headers() {
    let open = json!({"uri": "b+file:///open/a"});
    for mode in MODES {
        let stack = begin(mode).await;
        for (method, params) in [
            ("tools/call", json!({"name": "b__open"})),
            ("prompts/get", json!({"name": "b__open", "arguments": {"n": "1"}})),
            ("resources/read", open.clone()),
            ("server/discover", json!({})),
        ] {
            let (headers, body) = message("2026-07-28", method, params);
            for missing in ["", "mcp-method", "mcp-name", "mcp-protocol-version"] {
                let mut request = Http::new(&stack).post(Some(&token("")), body.clone());
                let is_missing = headers.iter().any(|(name, _)| *name == missing);
                for (name, value) in headers.iter().filter(|(name, _)| *name != missing) {
                    request = request.header(*name, value);
                }
                // They are nothing that could be compared here.
                let reply = send(request.header("mcp-param-n", "another")).await;
                let case = format!("{mode:?} {method} without {missing:?}: {reply:?}");
                if !is_missing {
                    assert_eq!(reply.status, 200, "{case}");
                    continue;
                }
                assert_eq!(reply.refusal(), (400, -32020, "header_mismatch".to_owned()), "{case}");
                assert_eq!(reply.json()["id"], 7, "{case}");
                let message = reply.json()["error"]["message"].as_str().unwrap().to_lowercase();
                assert!(message.contains(missing), "{case}");
            }
        }
    }
}
