//! Requests without a message, and posted responses, through Envoy in both body modes.

use serde_json::json;

use crate::support::{Http, MODES, Reply, call, send, start, token};

const POLICY: &str = r#"
policies:
- name: sessions
  enforce: [tools, methods]
  resourceMetadataURL: https://mcp.example.com/.well-known/oauth-protected-resource/mcp
  rules:
  - {action: Allow, target: {methods: [{method: initialize}, {method: 'notifications/*'}, {method: GET}]}}
  - action: Allow
    source: {jwt: {scopes: [admin]}}
    target: {methods: [{method: DELETE}, {method: ping}]}
"#;
const RESPONSE: &str = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;

#[tokio::test]
async fn request_without_a_message_is_evaluated() {
    let policy = POLICY;
    for mode in MODES {
        let stack = start(policy, &mode.config_for(policy)).await;
        let http = Http::new(&stack);
        let request = async |method: &str, scope: &str, body: Option<&str>| {
            let before = stack.server.requests();
            let request = http.request(method).bearer_auth(token(scope));
            let reply: Reply = match body {
                Some(body) => send(request.body(body.to_owned())).await,
                None => send(request).await,
            };
            (stack.server.requests() > before, reply)
        };
        for (method, scope, body, passes) in [
            ("GET", "", None, true),
            ("OPTIONS", "", None, true),
            ("DELETE", "admin", None, true),
            ("DELETE", "", None, false),
            ("HEAD", "", None, false),
            ("PUT", "admin", None, false),
            ("POST", "admin", None, false),
            // A server ends a session whatever the body of a DELETE is.
            ("DELETE", "", Some(RESPONSE), false),
            ("DELETE", "admin", Some(PING), true),
            ("GET", "", Some(PING), false),
            ("POST", "", Some(RESPONSE), true),
            ("POST", "admin", Some(PING), true),
        ] {
            let case = format!("{mode:?} {method} {scope:?} {body:?}");
            let (passed, reply) = request(method, scope, body).await;
            assert_eq!(passed, passes, "{case}: {reply:?}");
            if !passed {
                assert_eq!(reply.status, 403, "{case}");
            }
        }
        let (_, reply) = request("DELETE", "", None).await;
        assert!(reply.plain().1.contains("method \"DELETE\""), "{mode:?} {reply:?}");
        let challenge = reply.challenge().unwrap();
        assert!(challenge.contains("scope=\"admin\""), "{mode:?} {challenge}");
        let (_, reply) = request("DELETE", "", Some(PING)).await;
        assert_eq!(reply.refusal(), (403, 403, "insufficient_scope".to_owned()), "{mode:?}");
        assert_eq!(reply.json()["id"], 7, "{mode:?}");
        let (passed, reply) = request("delete", "admin", None).await;
        assert!(!passed, "{mode:?}");
        assert_eq!(reply.status, 400, "{mode:?} {reply:?}");
        // The metrics have the words of the policy alone.
        let url = format!("http://{}/metrics", stack.sidecar.admin);
        let page = reqwest::get(url).await.unwrap().text().await.unwrap();
        assert!(page.contains("method=\"DELETE\""), "{page}");
        assert!(!page.contains("PUT"), "{page}");
    }
}

#[tokio::test]
async fn response_is_evaluated_only_where_named() {
    let named = format!(
        "{POLICY}  - {{action: Allow, source: {{jwt: {{scopes: [answer]}}}}, target: {{methods: [{{method: response}}]}}}}\n"
    );
    for mode in MODES {
        for (policy, scope, passes) in
            [(POLICY, "", true), (&named, "", false), (&named, "answer", true)]
        {
            let stack = start(policy, &mode.config_for(policy)).await;
            let reply = send(Http::new(&stack).post(Some(&token(scope)), RESPONSE)).await;
            assert_eq!(stack.server.requests() > 0, passes, "{mode:?} {scope:?}: {reply:?}");
            if !passes {
                // Its id is that of a request of the server.
                assert_eq!(reply.plain().0, 403, "{mode:?}");
            }
        }
    }
}

#[tokio::test]
async fn methods_that_are_not_covered_continue() {
    const POLICY: &str = "policies: [{name: p, rules: [{action: Deny}]}]";
    for mode in MODES {
        let stack = start(POLICY, &mode.config_for(POLICY)).await;
        let http = Http::new(&stack);
        for method in ["GET", "DELETE", "OPTIONS"] {
            let before = stack.server.requests();
            send(http.request(method).bearer_auth(token(""))).await;
            assert_eq!(stack.server.requests(), before + 1, "{mode:?} {method}");
        }
        let reply = send(http.post(Some(&token("")), call("sum", &json!({})))).await;
        assert_eq!(reply.refusal().0, 403, "{mode:?}");
    }
}
