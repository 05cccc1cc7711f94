//! The command `mcp-authz envoy-config`.

mod cluster;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use super::{complain, output};
use crate::address::Address;
use crate::config;
use crate::gate::{ClaimsFrom, Gate};

/// Print Envoy's filter for the requests of a policy, or the cluster of mcp-authz
///
/// The filter sends mcp-authz only the headers and attributes that the policy and
/// MCP need. Put it into http_filters after jwt_authn and before the router. Print it
/// again for another policy or another version of mcp-authz; its first line names
/// both.
///
/// The cluster (--part cluster) goes into clusters. For a name of DNS it balances over
/// all addresses and leaves out those that fail.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
mcp-authz envoy-config --policy policy.yaml --mode duplex\n  \
mcp-authz envoy-config --policy policy.yaml --part cluster --address unix:/run/mcp-authz/mcp-authz.sock")]
pub(super) struct Args {
    /// The policy file (YAML or JSON), or a directory of them
    #[arg(long, env = "MCP_AUTHZ_POLICY", value_name = "PATH")]
    policy: PathBuf,

    /// The mode in which Envoy sends bodies
    #[arg(long, value_name = "MODE", default_value = "buffered")]
    mode: Mode,

    /// The part of Envoy's configuration
    #[arg(long, value_name = "PART", default_value = "filter")]
    part: Part,

    /// The address of mcp-authz for --part cluster, as `serve --listen` has it: unix:PATH or
    /// HOST:PORT
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    address: Address,

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// An item of http_filters
    Filter,
    /// An item of clusters
    Cluster,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let gate = match config::load(&args.policy) {
        Ok(gate) => gate,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let part = match args.part {
        Part::Filter => filter(&gate, args.mode, &args.cluster),
        Part::Cluster => cluster::cluster(&args.cluster, &args.address),
    };
    let printed_by = format!(
        "# Printed by mcp-authz {} for the policies with the SHA-256 {}.",
        env!("CARGO_PKG_VERSION"),
        gate.digest
    );
    match output(&format!("{printed_by}\n{}\n", part.join("\n"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    }
}

/// Returns the filter as an item of `http_filters`.
fn filter(gate: &Gate, mode: Mode, cluster: &str) -> Vec<String> {
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
        "    failure_mode_allow: false".to_owned(),
    ]);
    // Envoy does not apply this timeout to bodies that it streams in both directions.
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
    // mcp-authz ends its stream after it has released a request, unless it filters the response, a
    // list. So Envoy sends mcp-authz no other response.
    let response = match gate.filters_lists() {
        true => [
            "      # The policy filters lists: without these two lines, requests for them get 500.",
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
    // Access logs can use `%DYNAMIC_METADATA(mcp_authz:reason)%`.
    lines.push("      receiving_namespaces: {untyped: [mcp_authz]}".to_owned());
    let attributes = gate.attributes();
    if !attributes.is_empty() {
        let names: Vec<String> = attributes.iter().map(|name| quoted(name)).collect();
        lines.push(format!("    request_attributes: [{}]", names.join(", ")));
    }
    if let Some(headers) = gate.headers() {
        lines.push("    forward_rules:".to_owned());
        lines.push("      allowed_headers:".to_owned());
        lines.push("        patterns:".to_owned());
        lines.extend(headers.iter().map(|name| format!("        - {{exact: {}}}", quoted(name))));
    }
    lines
}

/// Returns a string in YAML: unquoted if it is a plain word, otherwise as JSON.
fn quoted(text: &str) -> String {
    // YAML 1.1 reads these words as booleans or null.
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
