//! Which policy a request gets, behind an Envoy that passes paths and hosts on as they came: a
//! request is evaluated by the policy of the server that reads it, or is refused.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stack::{ENVOY_CONFIG, Stack};
use crate::support::{MODES, Mode, call, change, start, token};

/// Settings of the examples, with which Envoy reads a host and path as servers do.
const NORMALIZATION: &str = "
          normalize_path: true
          merge_slashes: true
          path_with_escaped_slashes_action: REJECT_REQUEST
          common_http_protocol_options: {headers_with_underscores_action: REJECT_REQUEST}
          strip_trailing_host_dot: true";

const ROUTES: &str =
    "              - match: {prefix: /}\n                route: {cluster: mcp_server";
const DOMAINS: &str = "domains: [\"*\"]";

/// The stricter policy comes first, and nothing of `public` is stricter.
const BY_PATH: &str = "
policies:
- {name: admin, match: {pathPrefixes: [/mcp/admin]}, rules: [{action: Deny}]}
- {name: public, rules: [{action: Allow}]}
";
const BY_HOST: &str = "
policies:
- {name: internal, match: {hosts: [internal.example.com]}, rules: [{action: Deny}]}
- {name: public, rules: [{action: Allow}]}
";
const BY_ROUTE: &str = "
policies:
- {name: internal, match: {routes: [internal]}, rules: [{action: Deny}]}
- {name: public, rules: [{action: Allow}]}
";
const MCP_ROUTE: &str = "
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: route}
spec:
  hostnames: [mcp.example.com]
  path: /mcp
  backendRefs: [{name: b}]
  securityPolicy: {authorization: {rules: [{action: Deny}]}}
---
policies: [{name: public, rules: [{action: Allow}]}]
";

/// The server, without what its policy is for.
const PASSES: Option<(u16, &str)> = None;
const DENIED: Option<(u16, &str)> = Some((403, "deny_rule"));
const AMBIGUOUS_PATH: Option<(u16, &str)> = Some((400, "ambiguous_path"));
const AMBIGUOUS_HOST: Option<(u16, &str)> = Some((400, "ambiguous_host"));
const MISCONFIGURED: Option<(u16, &str)> = Some((500, "misconfigured"));

/// An Envoy that changes nothing of a path, with the filter for a policy.
fn as_it_comes(mode: Mode, policy: &str) -> String {
    change(&mode.config_for(policy), &[(NORMALIZATION, "")])
}

/// Sends a call to a path as it is written here: clients of HTTP would normalize it.
async fn post(stack: &Stack, host: &str, path: &str, headers: &str) -> (u16, String) {
    let body = call("countdown", &json!({"from": 1}));
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\
         Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
        token(""),
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", stack.envoy.port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{host}{path}: {reply}")), reply)
}

/// Sends a call, and checks what becomes of it. `expected` is a refusal's status and reason.
async fn check(stack: &Stack, (host, path): (&str, &str), expected: Option<(u16, &str)>) {
    let (requests, denials) = (stack.server.requests(), stack.sidecar.decisions().len());
    let (status, reply) = post(stack, host, path, "").await;
    let passed = stack.server.requests() > requests;
    assert_eq!(passed, expected.is_none(), "{host}{path}: {reply}");
    if let Some((expected, reason)) = expected {
        assert_eq!(status, expected, "{host}{path}: {reply}");
        let decisions = stack.sidecar.decided(denials + 1).await;
        let last = decisions.last().unwrap_or_else(|| panic!("{host}{path}: {reply}"));
        assert_eq!(last["reason"], reason, "{host}{path}: {reply}");
    }
}

#[tokio::test]
async fn ambiguous_path_reaches_no_server() {
    const HOST: &str = "mcp.example.com";
    for mode in MODES {
        let stack = start(BY_PATH, &as_it_comes(mode, BY_PATH)).await;
        for (path, expected) in [
            ("/mcp", PASSES),
            ("/mcp/x?y=/../admin;%2F", PASSES),
            ("/mcp/administrators", PASSES),
            ("/mcp/admin", DENIED),
            ("/mcp/admin/x?y", DENIED),
            ("http://mcp.example.com/mcp/admin", DENIED),
            ("/mcp/%61dmin", AMBIGUOUS_PATH),
            ("/mcp/%41dmin", AMBIGUOUS_PATH),
            ("//mcp/admin", AMBIGUOUS_PATH),
            ("/mcp//admin", AMBIGUOUS_PATH),
            ("/mcp/x/../admin", AMBIGUOUS_PATH),
            ("/mcp/./admin", AMBIGUOUS_PATH),
            ("/mcp/x/%2e%2e/admin", AMBIGUOUS_PATH),
            ("/mcp/x/..;/admin", AMBIGUOUS_PATH),
            ("/mcp;x/admin", AMBIGUOUS_PATH),
            ("/mcp%2Fadmin", AMBIGUOUS_PATH),
            ("/mcp%5cadmin", AMBIGUOUS_PATH),
            ("/mcp\\admin", AMBIGUOUS_PATH),
            ("/mcp/%2561dmin", AMBIGUOUS_PATH),
            ("/mcp/admin%3Fx", AMBIGUOUS_PATH),
            ("/mcp%c0%afadmin", AMBIGUOUS_PATH),
            ("/MCP/admin", AMBIGUOUS_PATH),
            ("/mcp/Admin/x", AMBIGUOUS_PATH),
            ("/mcp/admin.", AMBIGUOUS_PATH),
        ] {
            check(&stack, (HOST, path), expected).await;
        }
    }
}

#[tokio::test]
async fn ambiguous_host_reaches_no_server() {
    for mode in MODES {
        let stack = start(BY_HOST, &as_it_comes(mode, BY_HOST)).await;
        for (host, expected) in [
            ("mcp.example.com", PASSES),
            ("127.0.0.1:80", PASSES),
            ("internal.example.com", DENIED),
            ("INTERNAL.example.com", DENIED),
            ("internal.example.com:443", DENIED),
            ("internal.example.com.", DENIED),
            ("internal.example.com:abc", AMBIGUOUS_HOST),
            ("internal.example.com:", AMBIGUOUS_HOST),
            ("internal.example.com:99999", AMBIGUOUS_HOST),
            ("x@internal.example.com", AMBIGUOUS_HOST),
            ("internal.example.com,x", AMBIGUOUS_HOST),
            ("internal%2eexample.com", AMBIGUOUS_HOST),
            ("internal.example.com..", AMBIGUOUS_HOST),
            ("mcp.example.com\r\nHost: internal.example.com", AMBIGUOUS_HOST),
            ("", AMBIGUOUS_HOST),
        ] {
            check(&stack, (host, "/mcp"), expected).await;
        }
        // Paths select nothing here.
        check(&stack, ("mcp.example.com", "//mcp/%61/../x"), PASSES).await;
    }
}

#[tokio::test]
async fn almost_mcproute_path_reaches_no_server() {
    for mode in MODES {
        let stack = start(MCP_ROUTE, &as_it_comes(mode, MCP_ROUTE)).await;
        for (path, expected) in [
            // The name of the tool has no backend in front.
            ("/mcp", Some((400, "unknown_backend"))),
            ("/mcp?x", Some((400, "unknown_backend"))),
            ("/mcp/x", PASSES),
            ("/mcp/", AMBIGUOUS_PATH),
            ("/MCP", AMBIGUOUS_PATH),
            ("/%6Dcp", AMBIGUOUS_PATH),
            ("//mcp", AMBIGUOUS_PATH),
        ] {
            check(&stack, ("mcp.example.com", path), expected).await;
        }
        check(&stack, ("mcp.example.com:x", "/mcp"), AMBIGUOUS_HOST).await;
    }
}

/// With the settings of the examples, Envoy answers some of them, and nobody reads a path in
/// another way than it.
#[tokio::test]
async fn normalizing_envoy_agrees_with_policies() {
    const HOST: &str = "mcp.example.com";
    assert!(ENVOY_CONFIG.contains(NORMALIZATION));
    for mode in MODES {
        let stack = start(BY_PATH, &mode.config_for(BY_PATH)).await;
        for (path, expected) in [
            ("/mcp", PASSES),
            ("/mcp/admin", DENIED),
            ("//mcp/admin", DENIED),
            ("/mcp/x/../admin", DENIED),
            ("/mcp\\admin", DENIED),
            ("/mcp/%61dmin", DENIED),
            ("/mcp;x/admin", AMBIGUOUS_PATH),
            ("/MCP/admin", AMBIGUOUS_PATH),
        ] {
            check(&stack, (HOST, path), expected).await;
        }
        let requests = stack.server.requests();
        for path in ["/mcp%2Fadmin", "/mcp%5cadmin"] {
            assert_eq!(post(&stack, HOST, path, "").await.0, 400, "{path}");
        }
        assert_eq!(post(&stack, HOST, "/mcp", "x_tenant: a\r\n").await.0, 400);
        assert_eq!(stack.server.requests(), requests);
    }
}

/// Envoy otherwise compares a virtual host's domains with the host as the client wrote it.
#[tokio::test]
async fn normalizing_envoy_agrees_about_hosts() {
    const POLICY: &str = "
policies:
- {name: internal, match: {hosts: [internal.example.com]}, rules: [{action: Allow}]}
- {name: public, rules: [{action: Deny}]}
";
    const OTHERS: &str = "            virtual_hosts:
            - name: others
              domains: ['*']
              routes:
              - match: {prefix: /}
                direct_response: {status: 421}
";
    for mode in MODES {
        let config = change(
            &mode.config_for(POLICY),
            &[
                (DOMAINS, "domains: [internal.example.com]"),
                ("            virtual_hosts:\n", OTHERS),
            ],
        );
        let stack = start(POLICY, &config).await;
        for (host, expected) in [
            ("internal.example.com", PASSES),
            ("internal.example.com.", PASSES),
            ("internal.example.com:81", PASSES),
            ("internal.example.com.:81", PASSES),
            ("INTERNAL.example.com.", PASSES),
            ("mcp.example.com", DENIED),
        ] {
            check(&stack, (host, "/mcp"), expected).await;
        }
    }
}

#[tokio::test]
async fn withheld_pseudo_header_is_misconfiguration() {
    for (policy, name) in [(BY_HOST, ":authority"), (BY_PATH, ":path"), (MCP_ROUTE, ":path")] {
        for mode in MODES {
            let allowed = format!("                  - {{exact: \"{name}\"}}\n");
            let disallowed = format!(
                "forward_rules:\n                disallowed_headers: {{patterns: [{{exact: \"{name}\"}}]}}"
            );
            for (old, new) in [(allowed.as_str(), ""), ("forward_rules:", &disallowed)] {
                let stack = start(policy, &change(&mode.config_for(policy), &[(old, new)])).await;
                let clear = ("mcp.example.com", "/mcp");
                check(&stack, clear, MISCONFIGURED).await;
                let remedy = format!(
                    "Envoy did not send the pseudo-header `{name}`, by which policies are selected"
                );
                assert!(stack.sidecar.logs(&remedy).await, "{}", stack.sidecar.log());
                assert!(stack.sidecar.log().contains("forward_rules.allowed_headers"));
            }
        }
    }
}

#[tokio::test]
async fn withheld_route_is_misconfiguration() {
    const ATTRIBUTES: &str = "              request_attributes: [xds.route_name]\n";
    let route = |name: &str, path: &str| {
        let name = if name.is_empty() { "" } else { &format!("name: {name}\n                ") };
        format!(
            "              - match: {{prefix: {path}}}\n                {name}route: {{cluster: mcp_server, timeout: 0s}}\n"
        )
    };
    let routes = format!("{}{}{ROUTES}", route("internal", "/internal"), route("other", "/other"));
    for mode in MODES {
        let config = change(
            &mode.config_for(BY_ROUTE),
            &[(ROUTES, &routes), (DOMAINS, "domains: [mcp.example.com]")],
        );
        let stack = start(BY_ROUTE, &config).await;
        check(&stack, ("mcp.example.com", "/internal"), DENIED).await;
        check(&stack, ("mcp.example.com", "/other"), PASSES).await;
        // A route without a name.
        check(&stack, ("mcp.example.com", "/"), PASSES).await;
        // No route at all: Envoy sends as little as if it were not configured to.
        check(&stack, ("example.org", "/"), MISCONFIGURED).await;
        assert!(stack.sidecar.logs("matches no route").await, "{}", stack.sidecar.log());

        let stack = start(BY_ROUTE, &change(&config, &[(ATTRIBUTES, "")])).await;
        for path in ["/internal", "/other", "/"] {
            check(&stack, ("mcp.example.com", path), MISCONFIGURED).await;
        }
        let remedy = "add `request_attributes: [xds.route_name]` to the ext_proc filter";
        assert!(stack.sidecar.logs(remedy).await, "{}", stack.sidecar.log());
    }
}
