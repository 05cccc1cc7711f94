//! `mcp-authz envoy-config`

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use super::{complain, output};
use crate::config;
use crate::gate::{ClaimsFrom, Gate, Origin};
use crate::head::Head;
use crate::policy::{BackendFrom, Unauthenticated};

/// Print the filter of Envoy that asks about the requests of a policy
///
/// It sends mcp-authz only the headers and attributes that the policy and MCP
/// need, so print it again when a policy reads another header. Put it into
/// http_filters after jwt_authn and before the router.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mcp-authz envoy-config --policy policy.yaml --mode duplex")]
pub(super) struct Args {
    /// The policy file (YAML or JSON), or a directory of them
    #[arg(long, env = "MCP_AUTHZ_POLICY", value_name = "PATH")]
    policy: PathBuf,

    /// How Envoy sends bodies
    #[arg(long, value_name = "MODE", default_value = "buffered")]
    mode: Mode,

    /// Envoy's name of the cluster where mcp-authz listens
    #[arg(long, value_name = "NAME", default_value = "mcp_authz")]
    cluster: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Envoy collects the body, up to its buffer limit
    Buffered,
    /// mcp-authz holds head and body: cheaper for Envoy, no limit but maxBodyBytes
    Duplex,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let gate = match config::load(&args.policy) {
        Ok(gate) => gate,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    match output(&filter(&gate, args.mode, &args.cluster)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    }
}

/// What every request is judged by: its line, the token if it is unverified, and
/// what says how the body is to be read.
const ALWAYS: [&str; 9] = [
    ":authority",
    ":method",
    ":path",
    "content-encoding",
    "content-length",
    "content-type",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
];

/// The filter, as an item of `http_filters`.
fn filter(gate: &Gate, mode: Mode, cluster: &str) -> String {
    let mut lines = Vec::new();
    if gate.policies.iter().all(|policy| policy.matching.only_by_name) {
        lines.push(
            "# No policy matches by itself: name one for each route, in grpc_service,".to_owned(),
        );
        lines.push("# as initial_metadata: [{key: x-mcp-authz-policy, value: NAME}]".to_owned());
    }
    lines.extend([
        "- name: envoy.filters.http.ext_proc".to_owned(),
        "  typed_config:".to_owned(),
        "    \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor".to_owned(),
        "    grpc_service:".to_owned(),
        format!("      envoy_grpc: {{cluster_name: {}}}", quoted(cluster)),
        "      timeout: 10s".to_owned(),
        "    failure_mode_allow: false".to_owned(),
    ]);
    // There is no such timeout where bodies are streamed in both directions.
    if mode == Mode::Buffered || gate.filters_lists() {
        lines.push("    message_timeout: 1s".to_owned());
    }
    lines.push("    processing_mode:".to_owned());
    lines.push("      request_header_mode: SEND".to_owned());
    match mode {
        Mode::Buffered => lines.push("      request_body_mode: BUFFERED".to_owned()),
        Mode::Duplex => {
            lines.push("      request_body_mode: FULL_DUPLEX_STREAMED".to_owned());
            lines.push("      request_trailer_mode: SEND".to_owned());
        }
    }
    // mcp-authz ends its stream when a request has been released, unless the response is a list
    // that it filters: so Envoy sends it no other response.
    let response = match gate.filters_lists() {
        true => [
            "      # To filter lists.",
            "      response_header_mode: SEND",
            "      response_body_mode: STREAMED",
        ]
        .as_slice(),
        false => &["      response_header_mode: SKIP"],
    };
    lines.extend(response.iter().map(|line| (*line).to_owned()));
    lines.push("    metadata_options:".to_owned());
    if let ClaimsFrom::Metadata { namespace, .. } = &gate.claims_from {
        lines.push(format!("      forwarding_namespaces: {{untyped: [{}]}}", quoted(namespace)));
    }
    // For access logs: %DYNAMIC_METADATA(mcp_authz:reason)%
    lines.push("      receiving_namespaces: {untyped: [mcp_authz]}".to_owned());
    let attributes = attributes(gate);
    if !attributes.is_empty() {
        let names: Vec<String> = attributes.iter().map(|name| quoted(name)).collect();
        lines.push(format!("    request_attributes: [{}]", names.join(", ")));
    }
    if let Some(headers) = headers(gate) {
        lines.push("    forward_rules:".to_owned());
        lines.push("      allowed_headers:".to_owned());
        lines.push("        patterns:".to_owned());
        lines.extend(headers.iter().map(|name| format!("        - {{exact: {}}}", quoted(name))));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A text in YAML: as it is if it is a plain word, otherwise as in JSON.
fn quoted(text: &str) -> String {
    // YAML 1.1 takes these for booleans, or nothing.
    const NO_TEXTS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_text = !NO_TEXTS.contains(&text.to_ascii_lowercase().as_str());
    let starts = text.starts_with(|first: char| first.is_ascii_alphabetic());
    if is_text && starts && text.bytes().all(is_word) {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

/// The attributes that policies read.
fn attributes(gate: &Gate) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for policy in &gate.policies {
        if !policy.matching.routes.is_empty() {
            names.insert(Head::ROUTE_NAME);
        }
        if let BackendFrom::Attribute(name) = &policy.backend {
            names.insert(name.as_str());
        }
    }
    names
}

/// The headers that policies read; `None` if a condition may read any.
fn headers(gate: &Gate) -> Option<BTreeSet<&str>> {
    let mut names = BTreeSet::from(ALWAYS);
    names.extend(Origin::HEADERS);
    if gate.filters_lists() {
        names.extend([":status", "cache-control", "last-event-id"]);
    }
    if gate.claims_from == ClaimsFrom::AuthorizationHeader {
        names.insert("authorization");
    }
    for policy in &gate.policies {
        let reads = policy.rules.reads();
        if reads.all_headers {
            return None;
        }
        names.extend(reads.headers.iter().map(String::as_str));
        if let BackendFrom::Header(name) = &policy.backend {
            names.insert(name);
        }
        // A 401 says whether a token came.
        if policy.unauthenticated == Unauthenticated::Challenge {
            names.insert("authorization");
        }
    }
    Some(names)
}
