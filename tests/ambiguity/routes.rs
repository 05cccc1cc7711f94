//! `MCPRoute` documents, which compare as the reference does.

use serde_json::json;

use super::{Allowed, Denied, Rejected, check, check_with, tool};

const ROUTE: &str = r#"
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: mcp, namespace: default}
spec:
  parentRefs: [{name: gateway}]
  path: /mcp
  backendRefs: [{name: github, port: 8080}]
  securityPolicy:
    oauth:
      issuer: https://idp.example.com
      protectedResourceMetadata: {resource: https://mcp.example.com/mcp, scopesSupported: [mcp]}
    authorization:
      defaultAction: Allow
      rules:
      - {action: Deny, target: {tools: [{backend: github, tool: delete_file}]}}
      - action: Deny
        target: {tools: [{backend: github, tool: argument}]}
        cel: request.mcp.params.arguments.force == true
      - action: Deny
        target: {tools: [{backend: github, tool: header}]}
        cel: request.headers["x-env"] == "production"
      - action: Deny
        source: {jwt: {claims: [{name: suspended, valueType: String, values: ["true"]}]}}
        target: {tools: [{backend: github, tool: claim}]}
      - action: Deny
        source: {jwt: {scopes: [guest]}}
        target: {tools: [{backend: github, tool: scope}]}
"#;

#[tokio::test]
async fn route_document_compares_as_before() {
    let argument = |json: &str| tool("github__argument").arguments(json);
    let claim = |value| tool("github__claim").claims(json!({"suspended": value}));
    let header = |first: &str, second: &str| {
        tool("github__header").header("x-env", first).header("x-env", second)
    };
    check(
        ROUTE,
        &[
            ("the name", tool("github__delete_file"), Denied),
            ("the name in capitals", tool("github__DELETE_FILE"), Allowed),
            ("the argument", argument(r#"{"force": true}"#), Denied),
            ("the argument as a string", argument(r#"{"force": "true"}"#), Allowed),
            ("the header first", header("production", "test"), Denied),
            ("the header last", header("test", "production"), Allowed),
            ("the claim", claim(json!("true")), Denied),
            ("the claim as a boolean", claim(json!(true)), Allowed),
            ("the scope", tool("github__scope").scope("read guest"), Denied),
            ("the scope behind a tab", tool("github__scope").scope("read\tguest"), Denied),
            ("another scope", tool("github__scope").scope("read"), Allowed),
        ],
    )
    .await;
}

#[tokio::test]
async fn route_document_refuses_two_payloads() {
    let claim = |value| tool("github__claim").claims(json!({"suspended": value}));
    check_with(
        ROUTE,
        &[super::claims::TWO_PAYLOADS],
        &[
            ("the caller that the rule denies", claim("true"), Rejected(&[500])),
            ("another caller", claim("false"), Rejected(&[500])),
        ],
    )
    .await;
}
