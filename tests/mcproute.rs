//! The kinds of `MCPRoute` documents, decided through Envoy.

use std::fs;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Response;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::lists::serve;
use crate::stack::Stack;
use crate::support::{
    Http, MODES, Mode, Reply, TOKEN_OPTIONAL, TOKEN_REQUIRED, call, change, issuer, mcp_authz,
    send, start_before,
};

/// Envoy's filter that checks API keys and forwards the names of their owners.
const API_KEYS: &str = r#"          - name: envoy.filters.http.api_key_auth
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth
              credentials:
              - {key: key-of-a-reader, client: reader}
              - {key: key-of-an-administrator, client: administration}
              key_sources: [{header: x-api-key}]
              forwarding: {header: x-client-id, hide_credentials: true}
"#;

type Server = JoinHandle<std::io::Result<()>>;

fn document(name: &str) -> String {
    fs::read_to_string(format!("examples/mcproute/{name}.yaml")).unwrap()
}

/// A gateway that lists tools and prompts of two servers, and accepts every call.
async fn gateway() -> (Server, u16) {
    const TOOLS: [&str; 8] = [
        "github__get_file",
        "github__get_secret",
        "github__search",
        "github__delete_file",
        "weather__forecast",
        "forecast",
        "history",
        "other__get_file",
    ];
    const PROMPTS: [&str; 3] = ["github__review", "github__other", "weather__advice"];

    let answer = async |body: Bytes| {
        let request: Value = serde_json::from_slice(&body).unwrap();
        let named = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect();
        let result = match request["method"].as_str() {
            Some("tools/list") => json!({"tools": Value::Array(named(&TOOLS))}),
            Some("prompts/list") => json!({"prompts": Value::Array(named(&PROMPTS))}),
            _ => json!({"content": []}),
        };
        let message = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
        let response = Response::builder().header("content-type", "application/json");
        response.body(Body::from(message.to_string())).unwrap()
    };
    serve(Router::new().fallback(answer)).await
}

async fn begin(name: &str, mode: Mode, changes: &[(&str, &str)]) -> Stack<Server> {
    let policy = document(name);
    let config = change(&mode.config_for(&policy), changes);
    start_before(gateway().await, mcp_authz(), &policy, &config).await
}

/// Sends a call, perhaps with claims and a header. Returns the status and the reason.
async fn outcome(
    stack: &Stack<Server>,
    caller: (Option<Value>, Option<(&str, &str)>),
    body: String,
) -> (u16, String, Reply) {
    let (claims, header) = caller;
    let token = claims.map(|claims| issuer().sign(claims.as_object().unwrap().clone()).unwrap());
    let mut request = Http::new(stack).post(token.as_deref(), body);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let reply = send(request).await;
    let reason = match reply.status {
        200 => String::new(),
        _ => reply.json()["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned(),
    };
    (reply.status, reason, reply)
}

/// Returns the names in a list.
async fn listed(
    stack: &Stack<Server>,
    caller: (Option<Value>, Option<(&str, &str)>),
    list: &str,
) -> Vec<String> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": format!("{list}/list")}).to_string();
    let (status, _, reply) = outcome(stack, caller, body).await;
    assert_eq!(status, 200, "{reply:?}");
    let message = reply.json();
    let names = message["result"][list].as_array().unwrap().iter();
    names.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

fn prompt(name: &str) -> String {
    let params = json!({"name": name});
    json!({"jsonrpc": "2.0", "id": 7, "method": "prompts/get", "params": params}).to_string()
}

#[tokio::test]
async fn plain_document_admits_its_backends() {
    for mode in MODES {
        let stack = begin("plain", mode, &[(TOKEN_REQUIRED, TOKEN_OPTIONAL)]).await;
        for (tool, status, reason) in [
            ("github__delete_file", 200, ""),
            ("weather__forecast", 200, ""),
            ("delete_file", 400, "unknown_backend"),
            ("other__delete_file", 400, "unknown_backend"),
        ] {
            let found = outcome(&stack, (None, None), call(tool, &json!({}))).await;
            assert_eq!((found.0, found.1.as_str()), (status, reason), "{mode:?} {tool}");
            if status == 400 {
                let error = &found.2.json()["error"];
                assert_eq!(error["code"], -32602, "{tool}");
                assert!(error["message"].as_str().unwrap().contains("BACKEND__TOOL"), "{error}");
            }
        }
        let tools = listed(&stack, (None, None), "tools").await;
        assert_eq!(tools.len(), 5, "{mode:?} {tools:?}");
        assert!(!tools.contains(&"other__get_file".to_owned()), "{tools:?}");
    }
}

#[tokio::test]
async fn oauth_document_challenges_and_filters() {
    for mode in MODES {
        let stack = begin("oauth", mode, &[(TOKEN_REQUIRED, TOKEN_OPTIONAL)]).await;
        let reader = || json!({"scope": "repo:read"});
        let engineer =
            |scope: &str| json!({"scope": scope, "org": {"departments": ["engineering"]}});
        let file = |path: &str| call("github__get_file", &json!({"path": path}));
        let delete = || call("github__delete_file", &json!({}));
        for (label, claims, body, status, reason, scopes) in [
            ("no token", None, file("docs/a"), 401, "no_token", None),
            ("public tool", None, call("weather__forecast", &json!({})), 401, "no_token", None),
            ("read", Some(reader()), file("docs/a"), 200, "", None),
            ("other path", Some(reader()), file("keys/a"), 403, "deny_default", None),
            (
                "missing argument",
                Some(reader()),
                call("github__get_file", &json!({})),
                403,
                "condition_error",
                None,
            ),
            (
                "missing scope",
                Some(json!({"scope": ""})),
                file("docs/a"),
                403,
                "insufficient_scope",
                Some("repo:read"),
            ),
            (
                "step up",
                Some(engineer("repo:read")),
                delete(),
                403,
                "insufficient_scope",
                Some("repo:write"),
            ),
            ("engineer", Some(engineer("repo:write")), delete(), 200, "", None),
            ("another department", Some(reader()), delete(), 403, "deny_default", None),
        ] {
            let (found, why, reply) = outcome(&stack, (claims, None), body).await;
            assert_eq!((found, why.as_str()), (status, reason), "{mode:?} {label}: {reply:?}");
            let scope = scopes.map(|scopes| format!("scope=\"{scopes}\""));
            let challenge = reply.challenge();
            assert_eq!(challenge.is_some(), status == 401 || scopes.is_some(), "{label}");
            if let Some(challenge) = challenge {
                assert!(scope.is_none_or(|scope| challenge.contains(&scope)), "{challenge}");
                let metadata = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
                assert!(challenge.contains(metadata), "{challenge}");
            }
        }
        // What conditions read of arguments is not known in a list.
        for (claims, expected) in [
            (json!({}), ["weather__forecast"].as_slice()),
            (reader(), &["github__get_file", "github__search", "weather__forecast"]),
            (engineer("repo:write"), &["github__delete_file", "weather__forecast"]),
        ] {
            let tools = listed(&stack, (Some(claims), None), "tools").await;
            assert_eq!(tools, expected, "{mode:?}");
        }
    }
}

#[tokio::test]
async fn token_of_another_audience_is_rejected() {
    let other = "      audiences: [other]\n";
    let policy = document("oauth").replace("      audiences: [mcp]\n", other);
    assert!(policy.contains(other));
    for mode in MODES {
        let config = change(&mode.config_for(&policy), &[(TOKEN_REQUIRED, TOKEN_OPTIONAL)]);
        let stack = start_before(gateway().await, mcp_authz(), &policy, &config).await;
        let body = call("weather__forecast", &json!({}));
        let (status, reason, reply) = outcome(&stack, (Some(json!({})), None), body).await;
        assert_eq!((status, reason.as_str()), (401, "invalid_token"), "{mode:?} {reply:?}");
        assert!(reply.challenge().unwrap().contains("error=\"invalid_token\""), "{reply:?}");
    }
}

#[tokio::test]
async fn api_key_document_reads_the_client() {
    const BEFORE: &str = "          - name: envoy.filters.http.ext_proc\n";
    for mode in MODES {
        let with_keys = format!("{API_KEYS}{BEFORE}");
        let changes = [(TOKEN_REQUIRED, TOKEN_OPTIONAL), (BEFORE, with_keys.as_str())];
        let stack = begin("api-keys", mode, &changes).await;
        for (key, tool, status, reason) in [
            ("key-of-a-reader", "github__get_file", 200, ""),
            ("key-of-a-reader", "github__delete_file", 403, "deny_default"),
            ("key-of-an-administrator", "github__delete_file", 200, ""),
            ("key-of-an-administrator", "github__search", 403, "deny_default"),
        ] {
            let caller = (None, Some(("x-api-key", key)));
            let found = outcome(&stack, caller, call(tool, &json!({}))).await;
            assert_eq!((found.0, found.1.as_str()), (status, reason), "{mode:?} {key} {tool}");
        }
        let forged = (None, Some(("x-client-id", "administration")));
        let body = call("github__delete_file", &json!({}));
        assert_eq!(send_without_json(&stack, forged, body).await, 401, "{mode:?}");
        let caller = (None, Some(("x-api-key", "key-of-a-reader")));
        assert_eq!(listed(&stack, caller, "tools").await, ["github__get_file"], "{mode:?}");
    }
}

/// Sends a call that Envoy itself answers. Returns the status.
async fn send_without_json(
    stack: &Stack<Server>,
    (_, header): (Option<Value>, Option<(&str, &str)>),
    body: String,
) -> u16 {
    let (name, value) = header.unwrap();
    send(Http::new(stack).post(None, body).header(name, value)).await.status
}

#[tokio::test]
async fn selectors_hide_tools_and_prompts() {
    for mode in MODES {
        let stack = begin("selectors", mode, &[(TOKEN_REQUIRED, TOKEN_OPTIONAL)]).await;
        for (label, body, status, reason) in [
            ("included by pattern", call("github__get_file", &json!({})), 200, ""),
            ("excluded", call("github__get_secret", &json!({})), 403, "not_selected"),
            ("not included", call("github__delete_file", &json!({})), 403, "not_selected"),
            ("bare name", call("forecast", &json!({})), 200, ""),
            ("prefixed name", call("weather__forecast", &json!({})), 200, ""),
            ("bare name of the other", call("search", &json!({})), 400, "unknown_backend"),
            ("rule", call("history", &json!({"years": 11})), 403, "deny_rule"),
            ("rule, prefixed", call("weather__history", &json!({"years": 11})), 403, "deny_rule"),
            ("rule is false", call("history", &json!({"years": 2})), 200, ""),
            ("rule fails", call("history", &json!({})), 403, "condition_error"),
            ("selected prompt", prompt("github__review"), 200, ""),
            ("hidden prompt", prompt("github__other"), 403, "not_selected"),
            ("no selector of prompts", prompt("weather__advice"), 200, ""),
            ("bare prompt", prompt("review"), 400, "unknown_backend"),
        ] {
            let found = outcome(&stack, (None, None), body).await;
            assert_eq!((found.0, found.1.as_str()), (status, reason), "{mode:?} {label}");
        }
        let tools =
            ["github__get_file", "github__search", "weather__forecast", "forecast", "history"];
        assert_eq!(listed(&stack, (None, None), "tools").await, tools, "{mode:?}");
        let prompts = ["github__review", "weather__advice"];
        assert_eq!(listed(&stack, (None, None), "prompts").await, prompts, "{mode:?}");
    }
}
