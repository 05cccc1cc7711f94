//! The end-to-end scenario of envoyproxy/ai-gateway's own authorization tests,
//! with a real Envoy, signed tokens, and a real MCP client and server.

use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::stack::{POLICY, Stack};
use crate::support::{BUFFERED, Http, MODES, call, change, issuer, mcp_authz, send, start, token};

const METADATA_URL: &str = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";

fn challenge(scope: &str) -> String {
    format!(
        "Bearer error=\"insufficient_scope\", scope=\"{scope}\", resource_metadata=\"{METADATA_URL}\", \
         error_description=\"this call requires the scope {scope}\""
    )
}

async fn connect(stack: &Stack, scope: &str) -> Client {
    Client::connect(&stack.url(), &token(scope)).await.unwrap()
}

fn text(text: &str) -> Answer {
    Answer::Text(text.to_owned())
}

#[tokio::test]
async fn each_caller_may_call_what_the_rules_say() {
    for mode in MODES {
        let stack = start(POLICY, &mode.config()).await;
        let hello = json!({"text": "Hello, world!"});

        let ben = connect(&stack, "sum").await;
        assert_eq!(
            ben.call("sum", &json!({"a": 41, "b": 1})).await.unwrap(),
            text("42"),
            "{mode:?}"
        );
        assert_eq!(ben.call("echo", &hello).await.unwrap(), Answer::Challenged(challenge("echo")));
        assert_eq!(ben.call("countdown", &json!({"from": 3})).await.unwrap(), text("3 2 1 0"));
        let mut tools = ben.tools().await.unwrap();
        tools.sort();
        assert_eq!(tools, ["countdown", "echo", "sum"]);
        ben.close().await.unwrap();

        let ana = connect(&stack, "other echo").await;
        assert_eq!(ana.call("echo", &hello).await.unwrap(), text("Hello, world!"), "{mode:?}");
        let lower = json!({"text": "hello, world!"});
        let all = Answer::Challenged(challenge("all-access"));
        assert_eq!(ana.call("echo", &lower).await.unwrap(), all);
        ana.close().await.unwrap();

        let nobody = connect(&stack, "").await;
        assert_eq!(nobody.call("countdown", &json!({"from": 0})).await.unwrap(), text("0"));
        let sum = json!({"a": 1, "b": 1});
        let required = Answer::Challenged(challenge("sum"));
        assert_eq!(nobody.call("sum", &sum).await.unwrap(), required, "{mode:?}");

        let cleo = connect(&stack, "all-access").await;
        assert_eq!(cleo.call("echo", &lower).await.unwrap(), text("hello, world!"), "{mode:?}");
        assert_eq!(cleo.call("sum", &sum).await.unwrap(), text("2"));
        assert_eq!(cleo.call("countdown", &json!({"from": 1})).await.unwrap(), text("1 0"));
        assert_eq!(stack.server.runs(), 7, "{mode:?}");
    }
}

#[tokio::test]
async fn a_denial_names_the_scopes_and_nothing_of_it_reaches_the_server() {
    for mode in MODES {
        let stack = start(POLICY, &mode.config()).await;
        let http = Http::new(&stack);
        let body = call("echo", &json!({"text": "Hello, world!"}));
        for token in [token("sum"), token("sum other")] {
            let reply = send(http.post(Some(&token), body.clone())).await;
            assert_eq!(reply.challenge(), Some(challenge("echo").as_str()), "{mode:?}");
            assert_eq!(reply.refusal(), (403, 403, "insufficient_scope".to_owned()));
            let body = reply.json();
            assert_eq!(body["id"], 7);
            assert_eq!(body["error"]["data"]["requiredScopes"], json!(["echo"]));
            assert_eq!(
                body["error"]["message"],
                "insufficient scope: calling the tool \"echo\" this way requires the scope echo"
            );
        }
        assert_eq!(stack.server.requests(), 0, "{mode:?}");
    }
}

/// A client that cannot get more scopes itself shows its user which scope is missing.
#[tokio::test]
async fn a_client_shows_a_sentence_that_says_so() {
    let stack = start(POLICY, &MODES[0].config()).await;
    let ben = connect(&stack, "sum").await;
    let shown = ben.shown("echo", &json!({"text": "Hello, world!"})).await;
    assert!(shown.contains("this call requires the scope echo"), "{shown}");
}

#[tokio::test]
async fn bodies_of_several_megabytes_are_judged_too() {
    for mode in MODES {
        let stack = start(POLICY, &mode.config()).await;
        let ana = connect(&stack, "echo").await;
        let greeting = |last: &str| format!("Hello, {}{last}", "x".repeat(3 << 20));
        let long = greeting("!");
        let answer = ana.call("echo", &json!({"text": long})).await.unwrap();
        assert_eq!(answer, Answer::Text(long), "{mode:?}");
        let requests = stack.server.requests();
        let denied = ana.call("echo", &json!({"text": greeting("?")})).await.unwrap();
        assert_eq!(denied, Answer::Challenged(challenge("all-access")), "{mode:?}");
        assert_eq!(stack.server.requests(), requests, "{mode:?}");
    }
}

#[tokio::test]
async fn what_calls_no_tool_goes_through() {
    for mode in MODES {
        let stack = start(POLICY, &mode.config()).await;
        let http = Http::new(&stack);
        let token = token("");
        // The client sent initialize, a notification, a GET and a DELETE.
        let client = Client::connect(&stack.url(), &token).await.unwrap();
        client.tools().await.unwrap();
        client.close().await.unwrap();
        let requests = stack.server.requests();
        assert!(requests >= 4, "{mode:?}: {requests}");

        for (count, method) in ["GET", "DELETE", "OPTIONS", "POST"].into_iter().enumerate() {
            let reply = send(http.request(method).bearer_auth(&token)).await;
            assert!(![401, 403, 500].contains(&reply.status), "{mode:?} {method}: {reply:?}");
            assert_eq!(stack.server.requests(), requests + count + 1, "{mode:?} {method}");
        }
    }
}

#[tokio::test]
async fn claims_are_read_from_what_envoy_verified() {
    const CLAIMS: &str = "
policies:
- name: claims
  rules:
  - action: Allow
    source:
      jwt:
        scopes: [sum]
        claims: [{name: org.departments, valueType: StringArray, values: [engineering]}]
";
    for mode in MODES {
        let stack = start(CLAIMS, &mode.config()).await;
        for (departments, status) in [
            (json!(["sales", "engineering"]), 200),
            (json!("engineering"), 200),
            (json!(["sales"]), 403),
            (json!(null), 403),
        ] {
            let claims = json!({"scp": ["sum"], "org": {"departments": departments}, "n": 1.5});
            let token = issuer().sign(claims.as_object().unwrap().clone()).unwrap();
            let connected = Client::connect(&stack.url(), &token).await.unwrap();
            let answer = connected.call("sum", &json!({"a": 1, "b": 1})).await.unwrap();
            assert_eq!(answer == text("2"), status == 200, "{mode:?} {claims}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn check_says_offline_what_envoy_answers() {
    let stack = start(POLICY, &MODES[0].config()).await;
    let http = Http::new(&stack);
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart/policy.yaml");
    let calls = [
        call("echo", &json!({"text": "Hello, world!"})),
        call("echo", &json!({"text": "hello, world!"})),
        call("echo", &json!({})),
        call("sum", &json!({"a": 1, "b": 1})),
        call("countdown", &json!({"from": 1})),
        call("", &json!({})),
        "[]".to_owned(),
    ];
    for scope in ["", "echo", "sum", "echo sum", "all-access"] {
        let token = token(scope);
        for body in &calls {
            let requests = stack.server.requests();
            let reply = send(http.post(Some(&token), body.clone())).await;
            let passed = stack.server.requests() > requests;

            let file = stack.dir().join("request.json");
            std::fs::write(&file, body).unwrap();
            let output = mcp_authz()
                .args(["check", "--policy", policy, "--output", "json", "--token", &token])
                .arg("--request")
                .arg(&file)
                .output()
                .unwrap();
            let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(checked["decision"] == "Allow", passed, "{scope}: {body}");
            assert_eq!(checked["wwwAuthenticate"].as_str(), reply.challenge(), "{scope}: {body}");
            if !passed {
                assert_eq!(checked["httpStatus"], reply.status, "{scope}: {body}");
                // A batch has no id to answer to.
                let is_batch = body == "[]";
                let reason = if is_batch { "batch".to_owned() } else { reply.refusal().2 };
                assert_eq!(checked["reason"], reason, "{scope}: {body}");
            }
        }
    }
}

/// In BUFFERED, the body is whole before its trailers are released. In duplex, a retry of the
/// route would send the body twice (envoyproxy/envoy#45470).
#[tokio::test]
async fn trailers_are_accepted_in_buffered_alone() {
    let with_trailers = (
        "stat_prefix: mcp",
        "stat_prefix: mcp\n          http_protocol_options: {enable_trailers: true}",
    );
    let buffered = MODES[0].config();
    let send_trailers =
        (BUFFERED, "request_body_mode: BUFFERED\n                request_trailer_mode: SEND");
    let allowed = || call("echo", &json!({"text": "Hello, world!"}));
    for (label, config, expected) in [
        ("buffered", buffered.clone(), [200, 403, 202]),
        ("buffered with trailers", change(&buffered, &[send_trailers]), [200, 403, 202]),
        ("duplex", MODES[1].config(), [400; 3]),
    ] {
        let stack = start(POLICY, &change(&config, &[with_trailers])).await;
        let calls = [("echo", allowed()), ("sum", allowed()), ("sum", String::new())];
        for ((scope, body), expected) in calls.into_iter().zip(expected) {
            let requests = stack.server.requests();
            let status = post_with_trailers(&stack, &token(scope), &body).await;
            let passes = stack.server.requests() > requests;
            assert_eq!(passes, !matches!(expected, 400 | 403), "{label} {scope} {body}: {status}");
            // The server has its own answer to such a request.
            if !passes {
                assert_eq!(status, expected, "{label} {scope} {body}");
            }
        }
    }
}

/// Sends a chunked body with a trailer, and returns the status.
async fn post_with_trailers(stack: &Stack, token: &str, body: &str) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let chunk =
        if body.is_empty() { String::new() } else { format!("{:x}\r\n{body}\r\n", body.len()) };
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n\
         {chunk}0\r\nx-end: 1\r\n\r\n"
    );
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", stack.envoy.port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply.split(' ').nth(1).unwrap_or_else(|| panic!("{reply}")).parse().unwrap()
}

#[tokio::test]
async fn without_a_valid_token_envoy_itself_answers_401() {
    for (mode, response_headers) in [(MODES[0], "SKIP"), (MODES[0], "SEND"), (MODES[1], "SEND")] {
        let config = change(
            &mode.config(),
            &[("response_header_mode: SKIP", &format!("response_header_mode: {response_headers}"))],
        );
        let stack = start(POLICY, &config).await;
        let http = Http::new(&stack);
        let forged = "eyJhbGciOiJub25lIn0.eyJzY29wZSI6ImFsbC1hY2Nlc3MifQ.";
        for token in [None, Some(forged)] {
            let reply = send(http.post(token, call("countdown", &json!({"from": 1})))).await;
            assert_eq!(reply.status, 401, "{mode:?}: {reply:?}");
        }
        assert_eq!(stack.server.requests(), 0);
        // With response headers sent, an allowed call works all the same.
        let cleo = connect(&stack, "all-access").await;
        assert_eq!(cleo.call("echo", &json!({"text": "x"})).await.unwrap(), text("x"));
    }
}
