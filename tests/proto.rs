//! The code generated from `proto/` is up to date, and decision records follow its messages.

use std::fs;
use std::path::{Path, PathBuf};

use mcp_authz::proto::v1::Decision;
use mcp_authz::proto::{Duration, Timestamp};
use mcp_authz::record::fields;

const PROTO: &str = "mcp_authz/v1/decision.proto";
const MADE: &str = "mcp_authz.v1.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// `UPDATE_PROTO=1 cargo test proto` writes it.
#[test]
fn the_code_of_the_messages_is_what_proto_says() {
    let dir = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .out_dir(dir.path())
        // Struct and its like are the same ones as in Envoy's messages.
        .compile_well_known_types(true)
        .extern_path(".google.protobuf", "::envoy_types::pb::google::protobuf")
        .compile_fds(protox::compile([PROTO], [root().join("proto")]).unwrap())
        .unwrap();
    let made = fs::read_to_string(dir.path().join(MADE)).unwrap();
    let kept = root().join("src/proto").join(MADE);
    if std::env::var_os("UPDATE_PROTO").is_some() {
        fs::write(&kept, &made).unwrap();
    }
    let hint = "run `UPDATE_PROTO=1 cargo test proto` and commit src/proto";
    assert!(fs::read_to_string(kept).unwrap() == made, "src/proto is not up to date: {hint}");
}

/// The log, Envoy's metadata and the gRPC message use the names of one definition.
#[test]
fn the_fields_of_a_decision_have_the_names_of_the_message() {
    let text = || "x".to_owned();
    let full = Decision {
        time: Some(Timestamp::default()),
        verdict: text(),
        shadow: true,
        reason: text(),
        http_status: 1,
        policy: text(),
        policy_sha256: text(),
        rule: text(),
        method: text(),
        backend: text(),
        tool: text(),
        calls: 1,
        required_scopes: vec![text()],
        subject: text(),
        client_id: text(),
        condition_errors: vec![text()],
        request_id: text(),
        trace_id: text(),
        span_id: text(),
        duration: Some(Duration::default()),
        prompt: text(),
        resource: text(),
    };
    let descriptors = protox::compile([PROTO], [root().join("proto")]).unwrap();
    let messages = descriptors.file.iter().flat_map(|file| &file.message_type);
    let decision = messages.clone().find(|message| message.name() == "Decision").unwrap();
    let expected: Vec<&str> = decision.field.iter().map(|field| field.json_name()).collect();
    let found: Vec<&str> = fields(&full).map(|(name, _)| name).collect();
    assert_eq!(found, expected);
    assert_eq!(fields(&Decision::default()).count(), 0);
}
