//! `mcp-authz envoy-config`: filters that Envoy takes, and that send what the
//! policy needs. Most other tests run with the filters that it prints.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::envoy;
use crate::support::{Http, MODES, Mode, call, send, start, token};

/// Names the cluster of mcp-authz in a filter.
const CLUSTER: &str = "envoy_grpc: {cluster_name: mcp_authz}";

/// Reads headers, a route and an attribute.
const POLICY: &str = r#"
policies:
- name: by-route
  match: {routes: [nowhere]}
  rules: [{action: Deny}]
- name: by-cluster
  backend: {attribute: xds.cluster_name}
  rules:
  - action: Allow
    target: {tools: [{backend: mcp_server, tool: countdown}]}
    cel: request.headers["x-tenant"] == "a" && !("x-other" in request.headers)
  - action: Allow
    target: {tools: [{backend: mcp_server, tool: countdown}]}
    cel: '"b" in request.headers_all["x-tenant"]'
"#;

#[test]
fn envoy_accepts_every_filter_that_is_printed() {
    let binary = envoy::find(|text| eprintln!("{text}")).unwrap();
    let mut policies: Vec<String> = fs::read_dir("tests/corpus")
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path().join("policy.yaml")).unwrap())
        .collect();
    let odd = r#"jwt: {metadata: {namespace: "odd: 'name'"}}"#;
    policies.push(format!("{odd}{POLICY}"));
    policies.push(format!("jwt: {{from: authorizationHeader}}{POLICY}"));
    policies
        .push(POLICY.replace(r#"request.headers["x-tenant"] == "a""#, "size(request.headers) > 0"));
    let dir = tempfile::tempdir().unwrap();
    for policy in policies {
        for mode in MODES {
            let config = mode
                .config_for(&policy)
                .replace("@JWKS@", r#"{"keys":[]}"#)
                .replace("@SOCKET@", "/nowhere")
                .replace("@MCP_PORT@", "1");
            // Envoy looks into the keys.
            let config =
                config.replace("local_jwks: {inline_string: '{\"keys\":[]}'}", &remote_jwks());
            let path = dir.path().join("envoy.yaml");
            fs::write(&path, &config).unwrap();
            let output = Command::new(&binary)
                .args(["--mode", "validate", "--log-level", "error", "--config-path"])
                .arg(&path)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{config}\n{said}");
        }
    }
}

fn remote_jwks() -> String {
    "remote_jwks: {http_uri: {uri: 'http://x/', cluster: mcp_server, timeout: 1s}}".to_owned()
}

#[tokio::test]
async fn the_filter_sends_the_headers_and_attributes_that_the_policy_reads() {
    for mode in MODES {
        let filter = mode.filter(POLICY);
        for line in
            ["- {exact: x-tenant}", "request_attributes: [xds.cluster_name, xds.route_name]"]
        {
            assert!(filter.contains(line), "{line}\n{filter}");
        }
        assert!(!filter.contains("authorization"), "{filter}");
        let stack = start(POLICY, &mode.config_for(POLICY)).await;
        let http = Http::new(&stack);
        for (tenants, passes) in [
            (["a"].as_slice(), true),
            (&["b"], true),
            (&["c", "b"], true),
            (&["c"], false),
            (&[], false),
        ] {
            let before = stack.server.requests();
            let mut request = http.post(Some(&token("")), call("countdown", &json!({"from": 1})));
            for tenant in tenants {
                request = request.header("X-Tenant", *tenant);
            }
            let reply = send(request).await;
            assert_eq!(stack.server.requests() > before, passes, "{mode:?} {tenants:?} {reply:?}");
        }
        // What the filter of another policy does not send cannot be judged.
        let stack = start(POLICY, &mode.config()).await;
        let request = Http::new(&stack).post(Some(&token("")), call("countdown", &json!({})));
        let reply = send(request.header("x-tenant", "a")).await;
        // Without the attribute no policy is selected, before the body is read.
        assert_eq!(reply.plain().0, 500, "{mode:?}");
        assert!(stack.sidecar.logs("Envoy did not send the attribute `xds.route_name`").await);
        assert_eq!(stack.server.requests(), 0);
    }
}

/// A filter that sends no headers of messages is reported, and no caller is blamed.
#[tokio::test]
async fn withheld_headers_are_misconfiguration() {
    const POLICY: &str = "policies: [{name: p, rules: [{action: Allow}]}]";
    for mode in MODES {
        let mut config = mode.config_for(POLICY);
        for header in ["accept", "content-type", "mcp-method", "mcp-name", "mcp-protocol-version"] {
            let line = format!("{{exact: {header}}}");
            config = crate::support::change(&config, &[(&line, "{exact: x-other}")]);
        }
        let stack = start(POLICY, &config).await;
        let request = Http::new(&stack).post(Some(&token("")), call("countdown", &json!({})));
        let reply = send(request).await;
        assert_eq!(reply.refusal(), (500, -32603, "no_headers".to_owned()), "{mode:?}");
        assert_eq!(stack.server.requests(), 0);
        assert!(stack.sidecar.logs("prints the forward_rules that are needed").await);
    }
}

/// The first line names the version, so that one sees a filter that is too old.
#[test]
fn printed_filter_names_its_version() {
    let filter = Mode::Buffered.filter(POLICY);
    let first = filter.lines().next().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!("# Printed by mcp-authz {version} for the policies with the SHA-256 ");
    let digest = first.strip_prefix(&expected).unwrap_or_else(|| panic!("{first}"));
    assert!(digest.len() == 65 && digest.ends_with('.'), "{first}");
}

/// A condition over headers that cannot be told beforehand is sent all of them.
#[test]
fn a_policy_that_may_read_any_header_gets_them_all() {
    let any =
        POLICY.replace(r#"request.headers["x-tenant"] == "a""#, "request.headers.all(n, n != '')");
    assert!(!Mode::Buffered.filter(&any).contains("forward_rules"));
    let header = POLICY.replace("{attribute: xds.cluster_name}", "{header: X-Backend}");
    assert!(Mode::Buffered.filter(&header).contains("- {exact: x-backend}"));
    let own = format!("jwt: {{from: authorizationHeader}}{POLICY}");
    let filter = Mode::Buffered.filter(&own);
    assert!(
        filter.contains("- {exact: authorization}") && !filter.contains("forwarding_namespaces")
    );
}

/// Envoy names the policy for each route in gRPC metadata.
#[tokio::test]
async fn envoy_may_name_the_policy() {
    const POLICIES: &str = "
policies:
- {name: closed, rules: [{action: Deny}]}
- {name: open, match: {onlyByName: true}, rules: [{action: Allow}]}
";
    for (named, reason) in
        [("open", None), ("closed", Some("deny_rule")), ("nobody", Some("no_policy"))]
    {
        let metadata = format!(
            "{CLUSTER}\n                initial_metadata: [{{key: x-mcp-authz-policy, value: {named}}}]"
        );
        let config =
            crate::support::change(&Mode::Buffered.config_for(POLICIES), &[(CLUSTER, &metadata)]);
        let stack = start(POLICIES, &config).await;
        let request = Http::new(&stack).post(Some(&token("")), call("countdown", &json!({})));
        let reply = send(request).await;
        assert_eq!(stack.server.requests() == 1, reason.is_none(), "{named}: {reply:?}");
        if let Some(reason) = reason {
            match reason {
                // Answered at the headers.
                "no_policy" => assert_eq!(reply.plain().0, 403),
                _ => assert_eq!(reply.refusal(), (403, 403, reason.to_owned())),
            }
        }
        let unknown = "it names the policy `nobody` in its gRPC metadata, but there is none";
        if named == "nobody" {
            assert!(stack.sidecar.logs(unknown).await);
        } else {
            assert!(!stack.sidecar.log().contains(unknown));
        }
    }
}

/// In Shadow the log says what would be refused, and everything goes on.
#[tokio::test]
async fn shadow_refuses_nothing_and_tells_all() {
    const SHADOW: &str = "
policies:
- name: shadow
  enforcement: Shadow
  batches: Reject
  rules: [{name: nothing, action: Deny}]
";
    for mode in MODES {
        let stack = start(SHADOW, &mode.config_for(SHADOW)).await;
        let http = Http::new(&stack);
        let large = call("countdown", &json!({"from": 1, "rest": "x".repeat(3_000_000)}));
        for (count, (body, reason)) in [
            (call("countdown", &json!({"from": 1})), "deny_rule"),
            ("{".to_owned(), "not_json"),
            (large, "deny_rule"),
        ]
        .into_iter()
        .enumerate()
        {
            send(http.post(Some(&token("")), body)).await;
            assert_eq!(stack.server.requests(), count + 1, "{mode:?} {reason}");
            let decisions = stack.sidecar.decided(count + 1).await;
            let last = decisions.last().unwrap_or_else(|| panic!("{mode:?} {reason}"));
            assert_eq!(last["reason"], reason, "{mode:?} {decisions:?}");
            assert_eq!(last["shadow"], true, "{mode:?} {last}");
        }
    }
}
