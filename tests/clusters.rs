//! The cluster that `envoy-config --part cluster` prints, and what bounds an Envoy that waits
//! for mcp-authz.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::stack::{ENVOY_CONFIG, POLICY, Stack};
use crate::support::{
    Http, Mode, begin, call, change, issuer, mcp_authz, measures, send, start_with, token,
};
use crate::tools::yaml;

/// Returns the cluster that `envoy-config` prints for an address.
pub fn printed(address: &str) -> Value {
    let mut file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    file.write_all(POLICY.as_bytes()).unwrap();
    let mut command = mcp_authz();
    command.args(["envoy-config", "--part", "cluster", "--address", address, "--policy"]);
    let output = command.arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let first = printed.lines().next().unwrap();
    let version = concat!("# Printed by mcp-authz ", env!("CARGO_PKG_VERSION"), " for ");
    assert!(first.starts_with(version), "{first}");
    yaml::document(&printed)[0].clone()
}

fn cluster_of<'v>(config: &'v Value, name: &str) -> &'v Value {
    let clusters = config["static_resources"]["clusters"].as_array().unwrap();
    clusters.iter().find(|cluster| cluster["name"] == name).unwrap()
}

/// The clusters that come with mcp-authz are those that it prints.
#[test]
fn shipped_clusters_are_the_printed_ones() {
    let socket = "unix:/run/mcp-authz/mcp-authz.sock";
    for file in ["deploy/compose/envoy.yaml", "deploy/kubernetes/sidecar/envoy.yaml"] {
        let config = yaml::document(&fs::read_to_string(file).unwrap());
        assert_eq!(cluster_of(&config, "mcp_authz"), &printed(socket), "{file}");
    }
    let quickstart = yaml::document(&change(ENVOY_CONFIG, &[("@MCP_PORT@", "1")]));
    assert_eq!(cluster_of(&quickstart, "mcp_authz"), &printed("unix:@SOCKET@"));
    let shared = fs::read_to_string("deploy/kubernetes/shared/envoy-cluster.yaml").unwrap();
    let mut expected = printed("mcp-authz-headless.mcp-authz.svc.cluster.local:9001");
    // It has one line more.
    expected["ignore_health_on_host_removal"] = json!(true);
    assert_eq!(yaml::document(&shared), expected);
}

/// A single process is not ejected: that would only make its outage longer.
#[test]
fn only_names_of_dns_are_replicas() {
    for (address, is_name) in [
        ("unix:/s", false),
        ("127.0.0.1:9001", false),
        ("[::1]:9001", false),
        ("mcp-authz.example.com:9001", true),
        ("localhost:9001", true),
    ] {
        let cluster = printed(address);
        assert_eq!(cluster["type"] == "STRICT_DNS", is_name, "{address}");
        assert_eq!(cluster["outlier_detection"].is_object(), is_name, "{address}");
        assert_eq!(cluster["health_checks"].is_array(), is_name, "{address}");
    }
    let pointer = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    let expected = json!({"address": "::1", "port_value": 9001});
    assert_eq!(printed("[::1]:9001").pointer(pointer), Some(&expected));
}

/// The limit on requests is above that of mcp-authz, whose 503 says why.
#[test]
fn limit_is_above_max_streams() {
    let limits = &printed("unix:/s")["circuit_breakers"]["thresholds"][0];
    let help = mcp_authz().args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, of_streams) = help.split_once("--max-streams").unwrap();
    let (_, default) = of_streams.split_once("[default: ").unwrap();
    let streams: u64 = default.split_once(']').unwrap().0.parse().unwrap();
    for limit in ["max_requests", "max_pending_requests"] {
        assert!(limits[limit].as_u64().unwrap() > streams, "{limit}");
    }
}

/// The keep-alive of the cluster ends a request that waits: this mode has no message timeout.
#[tokio::test]
async fn hanging_processor_fails_waiting_calls() {
    const KEEPALIVE: &str = "connection_keepalive: {interval: 30s, timeout: 30s}";
    let fast = "connection_keepalive: {interval: 1s, timeout: 1s}";
    let config = change(&Mode::FullDuplexStreamed.config(), &[(KEEPALIVE, fast)]);
    let stack = start_with(&[], POLICY, &config).await;
    let allowed = || call("countdown", &json!({"from": 1}));
    send(Http::new(&stack).post(Some(&token("")), allowed())).await;
    assert_eq!(stack.server.requests(), 1);
    stack.sidecar.signal("STOP").unwrap();
    let reply = send(Http::new(&stack).post(Some(&token("")), allowed())).await;
    assert_eq!((reply.status, stack.server.requests()), (500, 1), "{reply:?}");
    stack.sidecar.signal("CONT").unwrap();
    send(Http::new(&stack).post(Some(&token("")), allowed())).await;
    assert_eq!(stack.server.requests(), 2);
}

/// A body that does not come whole ends, even if mcp-authz hangs.
#[tokio::test]
async fn request_timeout_ends_slow_bodies() {
    let short = ("request_timeout: 75s", "request_timeout: 1s");
    let config = change(&Mode::FullDuplexStreamed.config(), &[short]);
    let stack = start_with(&[], POLICY, &config).await;
    stack.sidecar.signal("STOP").unwrap();
    let (reply, rest) = begin(&stack, "", b"{\"jsonrpc\":").await;
    assert_eq!(reply.await.unwrap().status, 408);
    assert_eq!(stack.server.requests(), 0);
    drop(rest);
}

async fn stat(stack: &Stack, name: &str) -> String {
    let admin = fs::read_to_string(stack.dir().join("envoy-admin")).unwrap();
    let page = reqwest::get(format!("http://{admin}/stats?filter={name}")).await.unwrap();
    page.text().await.unwrap()
}

/// The quickstart's configuration, whose cluster ejects as that of replicas does.
fn ejecting(mode: Mode) -> String {
    let mut config = yaml::document(&change(
        &mode.config(),
        &[("@JWKS@", &issuer().jwks().replace('\'', "''")), ("@MCP_PORT@", "'@MCP_PORT@'")],
    ));
    let replicas = printed("localhost:9001");
    for cluster in config["static_resources"]["clusters"].as_array_mut().unwrap() {
        if cluster["name"] == "mcp_authz" {
            for key in ["outlier_detection", "common_lb_config", "lb_policy"] {
                cluster[key] = replicas[key].clone();
            }
        }
    }
    // JSON is YAML, so it may have a comment; the keys are in it already.
    format!("{config}\n# @JWKS@").replace("\"@MCP_PORT@\"", "@MCP_PORT@")
}

/// Whatever callers do, they eject nothing. What is killed is ejected.
#[tokio::test(flavor = "multi_thread")]
async fn only_lost_connections_eject_a_replica() {
    const EJECTIONS: &str = "cluster.mcp_authz.outlier_detection.ejections_enforced_total";
    let variables = [("MCP_AUTHZ_BODY_TIMEOUT", "1")];
    for mode in [Mode::Buffered, Mode::FullDuplexStreamed] {
        let mut stack = start_with(&variables, POLICY, &ejecting(mode)).await;
        let http = Http::new(&stack);
        for round in 0..7 {
            for body in [
                call("countdown", &json!({"from": 1})),
                call("echo", &json!({"text": "no"})),
                "{".to_owned(),
                call("echo", &json!({"text": "x".repeat(5 << 20)})),
            ] {
                send(http.post(Some(&token("")), body)).await;
            }
            if round == 0 {
                // One does not send the rest, and one hangs up.
                let (late, rest) = begin(&stack, "", b"{\"jsonrpc\":").await;
                assert_eq!(late.await.unwrap().plain().0, 408);
                drop(rest);
                let (hangs_up, rest) = begin(&stack, "", b"{\"jsonrpc\":").await;
                measures(&stack, "mcp_authz_streams 1").await;
                hangs_up.abort();
                drop(rest);
                measures(&stack, "mcp_authz_streams 0").await;
            }
        }
        assert_eq!(stat(&stack, EJECTIONS).await, format!("{EJECTIONS}: 0\n"), "{mode:?}");
        stack.sidecar.kill();
        while stat(&stack, EJECTIONS).await == format!("{EJECTIONS}: 0\n") {
            let reply = send(http.post(Some(&token("")), call("countdown", &json!({})))).await;
            assert!(reply.status >= 500, "{mode:?} {reply:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
