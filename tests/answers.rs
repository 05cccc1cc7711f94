//! Each row of the answers table, through Envoy, in both body modes.

use serde_json::json;

use crate::client::{Answer, Client};
use crate::stack::Stack;
use crate::support::{
    BUFFERED, Http, MODES, Reply, TOKEN_OPTIONAL, TOKEN_REQUIRED, call, change, send, start, token,
};

const POLICY: &str = r#"
limits: {maxBodyBytes: 2000, maxJsonDepth: 8}
policies:
- name: answers
  resourceMetadataURL: https://mcp.example.com/.well-known/oauth-protected-resource/mcp
  rules:
  - {action: Deny, target: {tools: [{tool: sum}]}}
  - {action: Allow, target: {tools: [{tool: countdown}]}}
  - action: Allow
    target: {tools: [{tool: echo, when: args.text == "hi"}]}
  - action: Allow
    source: {jwt: {scopes: [a, b]}}
    target: {tools: [{tool: echo}]}
"#;

async fn post(stack: &Stack, body: impl Into<reqwest::Body>, headers: &[(&str, &str)]) -> Reply {
    let mut request = Http::new(stack).post(Some(&token("")), body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request).await
}

#[tokio::test]
async fn denials_have_a_challenge_only_if_scopes_would_help() {
    for mode in MODES {
        let stack = start(POLICY, &mode.config()).await;
        let reply = post(&stack, call("echo", &json!({"text": "ho"})), &[]).await;
        assert_eq!(reply.refusal(), (403, 403, "insufficient_scope".to_owned()), "{mode:?}");
        assert_eq!(
            reply.challenge(),
            Some(
                "Bearer error=\"insufficient_scope\", scope=\"a b\", \
                 resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/mcp\", \
                 error_description=\"this call requires the scopes a b\""
            )
        );
        assert_eq!(reply.json()["error"]["data"]["requiredScopes"], json!(["a", "b"]));

        for (tool, reason) in [("sum", "deny_rule"), ("unknown", "deny_default")] {
            let reply = post(&stack, call(tool, &json!({"text": "ho"})), &[]).await;
            assert_eq!(reply.refusal(), (403, 403, reason.to_owned()), "{mode:?}");
            assert_eq!(reply.challenge(), None, "{mode:?} {tool}");
            assert_eq!(reply.json()["id"], 7);
        }
        assert_eq!(stack.server.requests(), 0, "{mode:?}");

        // A client shows the message of such a denial to its user.
        let client = Client::connect(&stack.url(), &token("")).await.unwrap();
        let shown = client.shown("sum", &json!({"a": 1, "b": 1})).await;
        assert!(shown.contains("access denied: you may not call the tool"), "{shown}");
        // And it goes on working.
        let answer = client.call("countdown", &json!({"from": 1})).await.unwrap();
        assert_eq!(answer, Answer::Text("1 0".to_owned()));
    }
}

#[tokio::test]
async fn the_first_policy_that_matches_judges_and_without_one_nothing_passes() {
    const POLICIES: &str = r#"
policies:
- {name: by-route, match: {routes: [special]}, rules: [{action: Allow}]}
- {name: by-host, match: {hosts: ["*.example.com"], pathPrefixes: [/mcp]}, rules: [{action: Allow}]}
- {name: by-path, match: {pathPrefixes: [/mcp/a]}, rules: [{action: Deny}]}
"#;
    let route = "- match: {prefix: /}\n                route: {cluster";
    let named = "- match: {prefix: /special}\n                name: special\n                route: {cluster: mcp_server}\n              - match: {prefix: /}\n                route: {cluster";
    for mode in MODES {
        let config = change(&mode.config_for(POLICIES), &[(route, named)]);
        let stack = start(POLICIES, &config).await;
        let base = format!("http://127.0.0.1:{}", stack.envoy.port);
        let client = reqwest::Client::new();
        for (path, host, method, expected) in [
            ("/special", "x", "POST", None),
            ("/mcp", "a.example.com:1", "POST", None),
            ("/mcp", "a.example.com", "GET", None),
            ("/mcp/a", "x", "POST", Some("deny_rule")),
            ("/mcp/a", "x", "GET", None),
            ("/mcp", "x", "POST", Some("no_policy")),
            ("/mcp", "x", "GET", Some("no_policy")),
            ("/mcpx", "a.example.com", "POST", Some("no_policy")),
            ("/mcp/../x", "a.example.com", "POST", Some("no_policy")),
        ] {
            let requests = stack.server.requests();
            let mut request = client
                .request(method.parse().unwrap(), format!("{base}{path}"))
                .header("host", host)
                .bearer_auth(token(""));
            if method == "POST" {
                request = request.body(call("countdown", &json!({"from": 1})));
            }
            let reply = send(request).await;
            let passed = stack.server.requests() > requests;
            assert_eq!(passed, expected.is_none(), "{mode:?} {method} {host}{path}: {reply:?}");
            if let Some(reason) = expected {
                match reason {
                    // Answered at the headers.
                    "no_policy" => assert_eq!(reply.plain().0, 403),
                    _ => assert_eq!(reply.refusal(), (403, 403, reason.to_owned())),
                }
                assert_eq!(reply.challenge(), None);
            }
        }
    }
}

#[tokio::test]
async fn bodies_that_are_not_one_message_are_refused() {
    let deep = format!("{}1{}", "[".repeat(9), "]".repeat(9));
    let with = |text: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"countdown"{text}}}}}"#
        )
    };
    // The code and reason where the id is known, or the beginning of the text.
    let known = |code: i64, reason: &'static str| Ok((400, code, reason.to_owned()));
    let text = Err;
    let not_json = text("the body is not acceptable JSON: ");
    let not_json_rpc = text("the body is not a JSON-RPC 2.0 message: ");
    type Expected = Result<(u16, i64, String), &'static str>;
    let rows: Vec<(Vec<u8>, Expected)> = vec![
        (b"\xff".to_vec(), text("the body is not UTF-8 at byte 0")),
        (b"hello".to_vec(), not_json.clone()),
        (b" ".to_vec(), not_json.clone()),
        ("\u{feff}{}".into(), not_json.clone()),
        (b"{} {}".to_vec(), not_json.clone()),
        (deep.into(), text("the body is not acceptable JSON: nested too deep")),
        (with(r#","x":[[[[[[[[1]]]]]]]]"#).into(), known(-32700, "json_too_deep")),
        (with(r#","x":nul"#).into(), known(-32700, "not_json")),
        (with(r#","x":nul,"id":8"#).into(), not_json.clone()),
        (
            [with("").trim_end_matches('}').as_bytes(), b",\"x\":\"\xff\"}}"].concat(),
            known(-32700, "not_utf8"),
        ),
        (with(r#","name":"echo""#).into(), known(-32700, "duplicate_key")),
        (with(r#","n\u0061me":"echo""#).into(), known(-32700, "duplicate_key")),
        (
            with(r#"},"id":8,"x":{"#).into(),
            text("the body is not acceptable JSON: an object holds a key twice"),
        ),
        (
            with(r#"},"i\u0064":8,"x":{"#).into(),
            text("the body is not acceptable JSON: an object holds a key twice"),
        ),
        (with(r#","Name":"echo""#).into(), known(-32700, "case_variant_key")),
        (
            with(r#"},"ID":{"a":1"#).into(),
            text("a key differs from `id` only in upper and lower case"),
        ),
        (
            with(r#"},"METHOD":{"a":1"#).into(),
            text("a key differs from `method` only in upper and lower case"),
        ),
        (b"[]".to_vec(), text("batches are not accepted")),
        (format!("[{}]", with("")).into(), text("batches are not accepted")),
        (b"\"hello\"".to_vec(), not_json_rpc.clone()),
        (b"{}".to_vec(), not_json_rpc.clone()),
        (with("").replace("7", "null").into(), not_json_rpc.clone()),
        (with("").replace("\"id\":7,", "").replace("2.0", "1.0").into(), not_json_rpc),
        (with("").replace("2.0", "1.0").into(), known(-32600, "not_json_rpc")),
        (with("").replace("tools/call", "Tools/Call").into(), known(-32600, "not_json_rpc")),
        (with("").replace("countdown", "").into(), known(-32602, "no_usable_call")),
        (with("").replace("\"countdown\"", "1").into(), known(-32602, "no_usable_call")),
        (with(r#","arguments":[]"#).into(), known(-32602, "no_usable_call")),
        (
            call("echo", &json!({})).replace("{}", r#"{"text":"hi","text":"ho"}"#).into(),
            known(-32700, "duplicate_key"),
        ),
        (
            call("echo", &json!({"text": "hi", "TEXT": "ho"})).into(),
            known(-32700, "case_variant_key"),
        ),
    ];
    for mode in MODES {
        let stack = start(POLICY, &mode.config()).await;
        for (body, expected) in &rows {
            let reply = post(&stack, body.clone(), &[]).await;
            let shown = String::from_utf8_lossy(body);
            match expected {
                Ok(refusal) => {
                    assert_eq!(reply.refusal(), *refusal, "{mode:?} {shown}");
                    assert_eq!(reply.json()["id"], 7, "{shown}");
                }
                Err(start) => {
                    let (status, text) = reply.plain();
                    assert_eq!(status, 400, "{mode:?} {shown}");
                    assert!(text.starts_with(start), "{mode:?} {shown}: {text}");
                }
            }
            assert_eq!(reply.challenge(), None);
        }
        assert_eq!(stack.server.requests(), 0, "{mode:?}");
    }
}

#[tokio::test]
async fn mirrored_headers_must_agree_with_the_body() {
    for mode in MODES {
        let stack = start(POLICY, &mode.config()).await;
        let body = call("countdown", &json!({"from": 1}));
        for headers in [
            [("mcp-method", "tools/list")].as_slice(),
            &[("mcp-name", "echo")],
            &[("mcp-name", "=?base64?ZWNobw==?=")],
            &[("mcp-name", "=?base64?%%%?=")],
            &[("mcp-name", "countdown"), ("mcp-name", "echo")],
            &[("mcp-method", "tools/call"), ("mcp-method", "tools/call")],
        ] {
            let reply = post(&stack, body.clone(), headers).await;
            let expected = (400, -32020, "header_mismatch".to_owned());
            assert_eq!(reply.refusal(), expected, "{mode:?} {headers:?}");
            assert_eq!(reply.json()["id"], 7);
        }
        let versioned = body.replace(
            r#""name":"#,
            r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"},"name":"#,
        );
        let reply = post(&stack, versioned, &[("mcp-protocol-version", "2025-11-25")]).await;
        assert_eq!(reply.refusal(), (400, -32020, "header_mismatch".to_owned()), "{mode:?}");
        assert_eq!(stack.server.requests(), 0, "{mode:?}");

        let agreeing = [("mcp-method", "tools/call"), ("mcp-name", "=?base64?Y291bnRkb3du?=")];
        post(&stack, body, &agreeing).await;
        assert_eq!(stack.server.requests(), 1, "{mode:?}");
    }
}

#[tokio::test]
async fn compressed_and_large_bodies_are_refused() {
    for mode in MODES {
        let stack = start(POLICY, &mode.config()).await;
        let body = call("countdown", &json!({"from": 1}));
        for encoding in ["gzip", "identity, br", "GZIP"] {
            let reply = post(&stack, body.clone(), &[("content-encoding", encoding)]).await;
            let text = "compressed bodies are not accepted: send it without Content-Encoding";
            assert_eq!(reply.plain(), (415, text), "{mode:?} {encoding}");
        }
        for content_type in [
            "application/json; charset=utf-7",
            "application/json;Charset=\"UTF-16\"",
            "application/json; charset = shift_jis",
            "application/json; charset=utf-8; charset=utf-7",
            "application/json; charset",
            "text/plain, application/json; charset=gbk",
        ] {
            let request = Http::new(&stack).request("POST").bearer_auth(token(""));
            let reply = send(request.header("content-type", content_type).body(body.clone())).await;
            assert_eq!(reply.plain().0, 415, "{mode:?} {content_type}");
        }
        let large = call("countdown", &json!({"from": 1, "rest": "x".repeat(2000)}));
        let reply = post(&stack, large.clone(), &[]).await;
        assert_eq!(reply.plain(), (413, "the body is larger than 2000 bytes"), "{mode:?}");
        // Without a content-length it is only known when it comes.
        let chunks =
            large.into_bytes().chunks(500).map(|chunk| Ok(chunk.to_vec())).collect::<Vec<_>>();
        let chunked = reqwest::Body::wrap_stream(tokio_stream::iter(
            chunks.into_iter().map(|chunk: Result<Vec<u8>, std::io::Error>| chunk),
        ));
        let reply = post(&stack, chunked, &[]).await;
        assert_eq!(reply.refusal(), (413, -32600, "body_too_large".to_owned()), "{mode:?}");
        assert_eq!(reply.json()["id"], 7);
        assert_eq!(stack.server.requests(), 0, "{mode:?}");

        post(&stack, body.clone(), &[("content-encoding", "identity")]).await;
        assert_eq!(stack.server.requests(), 1, "{mode:?}");
        let request = Http::new(&stack).request("POST").bearer_auth(token(""));
        let utf8 = request.header("content-type", "application/json; charset=\"UTF-8\"");
        send(utf8.body(body)).await;
        assert_eq!(stack.server.requests(), 2, "{mode:?}");
    }
}

#[tokio::test]
async fn a_body_that_envoy_cuts_off_is_refused() {
    let config = change(
        &MODES[0].config(),
        &[
            (BUFFERED, "request_body_mode: BUFFERED_PARTIAL"),
            (
                "per_connection_buffer_limit_bytes: 4194304",
                "per_connection_buffer_limit_bytes: 1024",
            ),
        ],
    );
    let policy = POLICY.replace("maxBodyBytes: 2000", "maxBodyBytes: 200000");
    let stack = start(&policy, &config).await;
    let large = call("countdown", &json!({"from": 1, "rest": "x".repeat(100_000)}));
    let reply = post(&stack, large, &[]).await;
    assert_eq!(reply.refusal(), (413, -32600, "body_cut_off".to_owned()));
    assert_eq!(stack.server.requests(), 0);
    // What came whole is judged.
    post(&stack, call("countdown", &json!({"from": 1})), &[]).await;
    assert_eq!(stack.server.requests(), 1);
    let reply = post(&stack, call("sum", &json!({"a": 1, "b": 1})), &[]).await;
    assert_eq!(reply.refusal(), (403, 403, "deny_rule".to_owned()));
}

#[tokio::test]
async fn without_a_verified_token_a_challenge_says_where_to_log_in() {
    const URL: &str = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";

    let policy = POLICY.replace(
        "- name: answers",
        "- name: answers\n  unauthenticated: Challenge\n  scopesSupported: [a, c]",
    );
    for mode in MODES {
        let config = change(&mode.config_for(&policy), &[(TOKEN_REQUIRED, TOKEN_OPTIONAL)]);
        let stack = start(&policy, &config).await;
        let http = Http::new(&stack);
        let none = format!("Bearer resource_metadata=\"{URL}\", scope=\"a c\"");
        let invalid =
            format!("Bearer error=\"invalid_token\", resource_metadata=\"{URL}\", scope=\"a c\"");
        let forged = "eyJhbGciOiJub25lIn0.eyJzY29wZSI6ImEgYiJ9.";
        let mut tampered = token("a b");
        tampered.replace_range(tampered.len() - 8.., "AAAAAAAA");

        let initialize = r#"{"jsonrpc":"2.0","id":7,"method":"initialize"}"#.to_owned();
        for body in [
            call("countdown", &json!({"from": 1})),
            call("echo", &json!({"text": "x"})),
            initialize,
        ] {
            let reply = send(http.post(None, body.clone())).await;
            assert_eq!(reply.refusal(), (401, 401, "no_token".to_owned()), "{mode:?}");
            assert_eq!(reply.challenge(), Some(none.as_str()), "{mode:?}");
            for token in [forged, &tampered] {
                let reply = send(http.post(Some(token), body.clone())).await;
                assert_eq!(reply.refusal(), (401, 401, "invalid_token".to_owned()), "{mode:?}");
                assert_eq!(reply.challenge(), Some(invalid.as_str()), "{mode:?}");
            }
        }
        let reply = send(http.request("GET")).await;
        assert_eq!(reply.plain().0, 401, "{mode:?}");
        assert_eq!(reply.challenge(), Some(none.as_str()), "{mode:?}");
        assert_eq!(stack.server.requests(), 0, "{mode:?}");

        // A CORS preflight never carries a token.
        let preflight = http.request("OPTIONS").header("access-control-request-method", "POST");
        send(preflight).await;
        assert_eq!(stack.server.requests(), 1, "{mode:?}");
        // With a body it is none.
        let call = http.request("OPTIONS").body(call("countdown", &json!({"from": 1})));
        assert_eq!(send(call).await.plain().0, 401, "{mode:?}");
        assert_eq!(stack.server.requests(), 1, "{mode:?}");

        let client = Client::connect(&stack.url(), &token("a b")).await.unwrap();
        assert_eq!(client.tools().await.unwrap().len(), 3);
    }
}

#[tokio::test]
async fn without_a_verified_token_nothing_is_granted() {
    for mode in MODES {
        let config = change(&mode.config(), &[(TOKEN_REQUIRED, TOKEN_OPTIONAL)]);
        let stack = start(POLICY, &config).await;
        let http = Http::new(&stack);
        let forged = "eyJhbGciOiJub25lIn0.eyJzY29wZSI6ImEgYiJ9.";
        for token in [None, Some(forged)] {
            let reply = send(http.post(token, call("echo", &json!({"text": "x"})))).await;
            assert_eq!(reply.refusal(), (403, 403, "insufficient_scope".to_owned()), "{mode:?}");
        }
        assert_eq!(stack.server.requests(), 0, "{mode:?}");
    }
}

/// An upgraded connection has no end, so that an answer that waits for one would never come.
#[tokio::test]
async fn upgrades_are_refused_at_once() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    for mode in MODES {
        let config = change(
            &mode.config(),
            &[
                (
                    "stat_prefix: mcp",
                    "stat_prefix: mcp\n          upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: CONNECT}]",
                ),
                (
                    "- match: {prefix: /}\n                route:",
                    "- match: {connect_matcher: {}}\n                route: {cluster: mcp_server}\n              \
                     - match: {prefix: /}\n                route:",
                ),
            ],
        );
        let stack = start(POLICY, &config).await;
        let token = token("echo");
        for (label, request) in [
            ("upgrade", "GET /mcp HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket"),
            (
                "upgrade of a POST",
                "POST /mcp HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: WebSocket",
            ),
            ("CONNECT", "CONNECT localhost:80 HTTP/1.1"),
        ] {
            let requests = stack.server.requests();
            let request = format!(
                "{request}\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nAccept: */*\r\n\r\n"
            );
            let address = ("127.0.0.1", stack.envoy.port);
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut reply = [0; 12];
            stream.read_exact(&mut reply).await.unwrap();
            assert_eq!(&reply, b"HTTP/1.1 501", "{mode:?} {label}");
            assert_eq!(stack.server.requests(), requests, "{mode:?} {label}");
        }
    }
}
