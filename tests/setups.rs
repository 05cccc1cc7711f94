//! An Envoy that is set up wrongly opens nothing, and a sidecar that dies does
//! not either.

use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpHeaders, ProcessingRequest, ProtocolConfiguration,
};
use serde_json::json;

use crate::client::{Answer, Client};
use crate::stack::{POLICY, Sidecar, Stack};
use crate::support::{
    BUFFERED, Http, MODES, Mode, Reply, SEND_HEADERS, call, change, mcp_authz, send, start, token,
};

const FORWARDING: &str = "forwarding_namespaces: {untyped: [envoy.filters.http.jwt_authn]}";

/// A call that nobody without `echo` may make.
async fn forbidden_call(stack: &Stack, scope: &str) -> Reply {
    let body = call("echo", &json!({"text": "Hello, world!"}));
    send(Http::new(stack).post(Some(&token(scope)), body)).await
}

#[tokio::test]
async fn body_modes_in_which_a_call_would_go_on_unjudged_are_refused() {
    for (body_mode, remedy) in [
        ("request_body_mode: NONE", "request_body_mode is NONE"),
        ("request_body_mode: STREAMED", "request_body_mode is STREAMED"),
    ] {
        let config = change(&Mode::Buffered.config(), &[(BUFFERED, body_mode)]);
        let stack = start(POLICY, &config).await;
        for scope in ["", "all-access"] {
            let reply = forbidden_call(&stack, scope).await;
            assert_eq!(reply.plain().0, 500, "{body_mode}");
        }
        let reply = send(Http::new(&stack).request("GET").bearer_auth(token(""))).await;
        assert_eq!(reply.plain().0, 500, "{body_mode}");
        assert_eq!(stack.server.requests(), 0, "{body_mode}");
        let log = || stack.sidecar.log();
        assert!(stack.sidecar.logs(remedy).await, "{}", log());
        assert!(log().contains("set it to BUFFERED"), "{}", log());
    }
}

#[tokio::test]
async fn headers_that_are_not_sent_are_refused() {
    let skip = (SEND_HEADERS, "request_header_mode: SKIP");
    let responses = ("response_header_mode: SKIP", "response_header_mode: SEND");
    for changes in [
        vec![skip],
        vec![skip, responses],
        vec![skip, (BUFFERED, "request_body_mode: NONE"), responses],
        vec![skip, (BUFFERED, "request_body_mode: STREAMED")],
        vec![skip, (BUFFERED, "request_body_mode: BUFFERED_PARTIAL")],
        vec![
            skip,
            (
                BUFFERED,
                "request_body_mode: FULL_DUPLEX_STREAMED\n                request_trailer_mode: SEND",
            ),
        ],
    ] {
        let stack = start(POLICY, &change(&Mode::Buffered.config(), &changes)).await;
        let reply = forbidden_call(&stack, "").await;
        assert_eq!(reply.status, 500, "{changes:?}: {reply:?}");
        assert!(stack.sidecar.logs("misconfigured").await, "{changes:?}: {}", stack.sidecar.log());
        assert_eq!(stack.server.runs(), 0, "{changes:?}");
    }
}

#[tokio::test]
async fn claims_that_are_not_forwarded_grant_nothing() {
    for mode in MODES {
        for changes in [
            [(FORWARDING, "forwarding_namespaces: {untyped: [other]}")],
            [("payload_in_metadata: jwt_payload", "forward: true")],
        ] {
            let stack = start(POLICY, &change(&mode.config(), &changes)).await;
            let reply = forbidden_call(&stack, "echo all-access").await;
            assert_eq!(reply.refusal(), (403, 403, "insufficient_scope".to_owned()), "{changes:?}");
            assert_eq!(stack.server.requests(), 0, "{mode:?}");
        }
    }
}

/// `jwt_authn` can write about a token that failed where it writes payloads.
#[tokio::test]
async fn the_report_of_a_failed_token_is_not_a_payload() {
    let policy =
        POLICY.replace("- name: quickstart", "- name: quickstart\n  unauthenticated: Challenge");
    let config = change(
        &Mode::Buffered.config_for(&policy),
        &[
            (
                "payload_in_metadata: jwt_payload",
                "payload_in_metadata: jwt_payload\n                  failed_status_in_metadata: failed",
            ),
            (
                "requires: {provider_name: idp}",
                "requires: {requires_any: {requirements: [{provider_name: idp}, {allow_missing_or_failed: {}}]}}",
            ),
        ],
    );
    let stack = start(&policy, &config).await;
    let forged = "eyJhbGciOiJub25lIn0.eyJzY29wZSI6ImVjaG8ifQ.";
    let body = call("countdown", &json!({"from": 1}));
    let reply = send(Http::new(&stack).post(Some(forged), body)).await;
    assert_eq!(reply.refusal(), (401, 401, "invalid_token".to_owned()));
    let client = Client::connect(&stack.url(), &token("")).await.unwrap();
    let answer = client.call("countdown", &json!({"from": 1})).await.unwrap();
    assert_eq!(answer, Answer::Text("1 0".to_owned()));
}

/// The other source of claims: the request's own token, without verification.
#[tokio::test]
async fn the_authorization_header_counts_only_if_the_policy_says_so() {
    let policy = format!("jwt: {{from: authorizationHeader}}\n{POLICY}");
    let config = change(
        &Mode::Buffered.config_for(&policy),
        &[("payload_in_metadata: jwt_payload", "forward: true")],
    );
    let stack = start(&policy, &config).await;
    let client = Client::connect(&stack.url(), &token("echo")).await.unwrap();
    let hello = json!({"text": "Hello, world!"});
    let answer = client.call("echo", &hello).await.unwrap();
    assert_eq!(answer, Answer::Text("Hello, world!".to_owned()));
    assert_eq!(forbidden_call(&stack, "sum").await.status, 403);
    assert!(stack.sidecar.logs("without a look at their signature").await);
    // Two tokens: which one the server would take cannot be known.
    let request = Http::new(&stack)
        .post(Some(&token("echo")), call("echo", &hello))
        .header("authorization", format!("Bearer {}", token("sum")));
    let reply = send(request).await;
    assert!([401, 403].contains(&reply.status), "{reply:?}");
}

/// Envoy verifies the token that it finds; the claims must be of that very one.
#[tokio::test]
async fn a_forged_token_beside_the_verified_one_grants_nothing() {
    let policy = format!("jwt: {{from: authorizationHeader}}\n{POLICY}");
    let config = change(
        &Mode::Buffered.config_for(&policy),
        &[("payload_in_metadata: jwt_payload", "forward: true")],
    );
    let stack = start(&policy, &config).await;
    let verified = token("sum");
    // {"alg":"none"} and {"scope":"echo all-access"}
    let payload = "eyJzY29wZSI6ImVjaG8gYWxsLWFjY2VzcyJ9";
    let forged = format!("eyJhbGciOiJub25lIn0.{payload}.AAAA");
    let url = stack.url();
    let by_query = format!("{url}?access_token={verified}");
    for (url, headers) in [
        (&url, vec![format!("Bearer {verified}, Bearer {forged}")]),
        (&url, vec![format!("Bearer {verified} x.{payload}.x")]),
        (&url, vec![format!("Bearer {verified},x.{payload}.x")]),
        (&url, vec![format!("Basic Bearer {verified}"), format!("bearer {forged}")]),
        (&url, vec![format!("Bearer {verified}"), format!("bearer {forged}")]),
        (&url, vec![format!("bearer {forged}"), format!("Bearer {verified}")]),
        (&by_query, vec![format!("bearer {forged}")]),
        (&by_query, vec![format!("BEARER {forged}")]),
        (&by_query, vec![format!("Bearer  {forged}")]),
        (&by_query, vec![format!("Bearer {forged}")]),
    ] {
        let mut request = reqwest::Client::new()
            .post(url)
            .header("content-type", "application/json")
            .body(call("echo", &json!({"text": "anything"})));
        for header in &headers {
            request = request.header("authorization", header);
        }
        let reply = send(request).await;
        assert!([401, 403].contains(&reply.status), "{headers:?}: {reply:?}");
        assert_eq!(stack.server.requests(), 0, "{headers:?}: {reply:?}");
        assert_eq!(stack.server.requests(), 0, "{headers:?}: {reply:?}");
    }
}

#[tokio::test]
async fn a_sidecar_that_is_gone_opens_nothing() {
    for mode in MODES {
        let mut stack = start(POLICY, &mode.config()).await;
        stack.sidecar.kill();
        for scope in ["", "all-access"] {
            let reply = forbidden_call(&stack, scope).await;
            assert_eq!(reply.status, 500, "{mode:?}: {reply:?}");
        }
        assert_eq!(stack.server.requests(), 0, "{mode:?}");
    }
}

#[tokio::test]
async fn the_log_tells_of_a_denial_and_holds_no_secret() {
    let stack = start(POLICY, &Mode::Buffered.config()).await;
    let secret = "a-very-private-argument";
    let token = token("sum");
    let body = call("echo", &json!({"text": secret}));
    let reply = send(Http::new(&stack).post(Some(&token), body)).await;
    assert_eq!(reply.status, 403);
    let decisions = stack.sidecar.decided(1).await;
    let [decision] = decisions.as_slice() else { panic!("{decisions:?}") };
    assert_eq!(decision["policy"], "quickstart");
    assert_eq!(decision["reason"], "insufficient_scope");
    assert_eq!(decision["tool"], "echo");
    assert_eq!(decision["requiredScopes"], json!(["all-access"]));
    let log = format!("{}{decision}", stack.sidecar.log());
    assert!(!log.contains(secret) && !log.contains(&token), "{log}");
}

/// Signals end it after a while at most, with a clean exit and no socket left.
#[tokio::test]
async fn sigterm_ends_the_sidecar() {
    let dir = tempfile::tempdir().unwrap();
    let mut sidecar = Sidecar::start(mcp_authz(), POLICY, dir.path()).await.unwrap();
    let socket = sidecar.socket().to_owned();
    let status = sidecar.terminate().await.unwrap();
    assert!(status.success(), "{status}");
    assert!(!socket.exists());
}

/// The other kind of address, and the whole way through it.
#[tokio::test]
async fn it_serves_over_tcp_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start_on("127.0.0.1:0", mcp_authz(), POLICY, dir.path()).await.unwrap();
    let port = sidecar.address.rsplit(':').next().unwrap();
    let address = format!("{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}");
    for mode in MODES {
        let config = change(&mode.config(), &[("{pipe: {path: '@SOCKET@'}}", &address)]);
        // The stack starts a sidecar of its own, which nobody asks.
        let stack = start(POLICY, &format!("{config}# @SOCKET@\n")).await;
        let client = Client::connect(&stack.url(), &token("echo")).await.unwrap();
        let answer = client.call("echo", &json!({"text": "Hello, x!"})).await.unwrap();
        assert_eq!(answer, Answer::Text("Hello, x!".to_owned()), "{mode:?}");
        assert_eq!(forbidden_call(&stack, "sum").await.status, 403, "{mode:?}");
    }
}

/// Observability mode, which the operator configured, enforces nothing, and the log reports this
/// loudly.
#[tokio::test]
async fn observability_mode_is_reported_as_what_it_is() {
    let config = change(
        &Mode::Buffered.config(),
        &[(
            "failure_mode_allow: false",
            "failure_mode_allow: false\n              observability_mode: true",
        )],
    );
    let stack = start(POLICY, &config).await;
    let reply = forbidden_call(&stack, "").await;
    assert_ne!(reply.status, 403, "{reply:?}");
    let reported = stack.sidecar.logs("nothing is judged or enforced").await;
    let log = stack.sidecar.log();
    assert!(reported, "{log}");
    assert!(!log.contains("misconfigured"), "{log}");
    let decisions = stack.sidecar.decided(1).await;
    let decision = decisions.first().unwrap_or_else(|| panic!("{log}"));
    assert_eq!(decision["reason"], "observability_mode", "{decision}");
    assert_eq!(decision["shadow"], true, "{decision}");
    let (_, metrics) = crate::observe::page(&stack.sidecar, "/metrics").await;
    assert!(metrics.contains("stream_failures_total{reason=\"aborted\"} 0"), "{metrics}");
}

/// No Envoy does this: it says that it only watches, and then waits for an answer
/// all the same. To end such a stream without a word would let the request go on.
#[tokio::test]
async fn a_stream_that_is_no_longer_observed_must_be_decided() {
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start_on("127.0.0.1:0", mcp_authz(), POLICY, dir.path()).await.unwrap();
    let address = format!("http://{}", sidecar.address);
    let observed = |observability_mode| ProcessingRequest {
        observability_mode,
        protocol_config: Some(ProtocolConfiguration {
            request_body_mode: BodySendMode::Buffered.into(),
            ..ProtocolConfiguration::default()
        }),
        request: Some(Request::RequestHeaders(HttpHeaders::default())),
        ..ProcessingRequest::default()
    };
    for (messages, ends_well) in [
        (vec![observed(true)], true),
        (vec![observed(true), observed(false)], false),
        (vec![observed(false)], false),
    ] {
        let count = messages.len();
        let mut client = ExternalProcessorClient::connect(address.clone()).await.unwrap();
        let stream = client.process(tokio_stream::iter(messages)).await.unwrap();
        let mut stream = stream.into_inner();
        let end = loop {
            match stream.message().await {
                Ok(Some(_answer)) => {}
                end => break end,
            }
        };
        assert_eq!(end.is_ok(), ends_well, "{count} messages: {end:?}");
    }
}
