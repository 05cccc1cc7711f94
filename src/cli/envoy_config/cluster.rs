//! Envoy's cluster for mcp-authz.

use std::net::{IpAddr, SocketAddr};

use super::quoted;
use crate::address::Address;
use crate::cli::serve::MAX_STREAMS;

/// The most requests that wait for a decision in Envoy at once. This is twice the limit of
/// mcp-authz, so that its 503, which gives the reason, comes before Envoy's 500.
const MAX_REQUESTS: usize = 2 * MAX_STREAMS;

/// Returns the cluster as an item of `clusters`.
pub(super) fn cluster(name: &str, address: &Address) -> Vec<String> {
    let name = quoted(name);
    let mut lines = vec![format!("- name: {name}"), "  connect_timeout: 1s".to_owned()];
    let replicas = match address {
        Address::Unix(_) => false,
        Address::Tcp(address) => address.parse::<SocketAddr>().is_err(),
    };
    if replicas {
        lines.extend(REPLICAS.map(str::to_owned));
    }
    lines.push("  load_assignment:".to_owned());
    lines.push(format!("    cluster_name: {name}"));
    lines.push(format!(
        "    endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{{}}}}}}}]}}]",
        endpoint(address)
    ));
    lines.extend([
        "  # Each request that waits for its decision is one gRPC stream. This many are twice the".to_owned(),
        format!("  # --max-streams of mcp-authz ({MAX_STREAMS}), which answers 503 before Envoy answers 500."),
        "  circuit_breakers:".to_owned(),
        format!(
            "    thresholds: [{{max_requests: {MAX_REQUESTS}, max_pending_requests: {MAX_REQUESTS}}}]"
        ),
        "  typed_extension_protocol_options:".to_owned(),
        "    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:".to_owned(),
        "      \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
        "      common_http_protocol_options: {idle_timeout: 300s}".to_owned(),
    ]);
    lines.extend(if replicas { REPLICAS_HTTP2 } else { HTTP2 }.map(str::to_owned));
    lines
}

fn endpoint(address: &Address) -> String {
    match address {
        Address::Unix(path) => format!("pipe: {{path: {}}}", quoted(&path.to_string_lossy())),
        Address::Tcp(address) => {
            let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let host = if bare.parse::<IpAddr>().is_ok() { bare } else { host };
            format!("socket_address: {{address: {}, port_value: {port}}}", quoted(host))
        }
    }
}

/// Settings for a DNS name, which stands for several Pods. A single process has none of them:
/// ejecting the only host would prolong an outage.
const REPLICAS: [&str; 26] = [
    "  # All addresses of the name, looked up again every five seconds.",
    "  type: STRICT_DNS",
    "  dns_refresh_rate: 5s",
    "  # Streams are balanced, not connections.",
    "  lb_policy: LEAST_REQUEST",
    "  # A Pod that drains or hangs gets no new calls, whatever DNS still says.",
    "  health_checks:",
    "  - grpc_health_check: {}",
    "    timeout: 1s",
    "    interval: 2s",
    "    no_traffic_interval: 2s",
    "    unhealthy_threshold: 2",
    "    healthy_threshold: 1",
    "  # A Pod that cannot be reached gets no new calls from the first failure on. Only failures of",
    "  # connections eject: what mcp-authz answers, a caller can bring about.",
    "  outlier_detection:",
    "    split_external_local_origin_errors: true",
    "    consecutive_local_origin_failure: 1",
    "    enforcing_consecutive_5xx: 0",
    "    enforcing_success_rate: 0",
    "    enforcing_local_origin_success_rate: 0",
    "    interval: 1s",
    "    base_ejection_time: 3s",
    "    max_ejection_percent: 100",
    "  # With no healthy Pod, calls fail at once instead of waiting for sick ones.",
    "  common_lb_config: {healthy_panic_threshold: {value: 0}}",
];

const HTTP2: [&str; 4] = [
    "      explicit_http_config:",
    "        http2_protocol_options:",
    "          # Ends the requests that wait for an mcp-authz that hangs.",
    "          connection_keepalive: {interval: 30s, timeout: 30s}",
];

const REPLICAS_HTTP2: [&str; 4] = [
    "      explicit_http_config:",
    "        http2_protocol_options:",
    "          # Finds a Pod that went away without a word; another one answers at once.",
    "          connection_keepalive: {interval: 30s, timeout: 5s}",
];
