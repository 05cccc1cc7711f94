//! The Envoy configurations: by the real Envoy, and with calls through it.
//!
//! For Envoy Gateway and Istio, the tests build what those make of the
//! resources here. That was read from their sources (Envoy Gateway 1.9, Istio
//! 1.31), not seen in a cluster.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::objects::{container, pods};
use super::{at, list, read, text};
use crate::client::{Answer, Client};
use crate::envoy;
use crate::stack::{ENVOY_CONFIG, Stack};
use crate::support::{Http, Mode, call, change, issuer, send, start, token};
use crate::tools::yaml;

const HTTP_FILTERS: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const ROUTES: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes";
/// Where a container finds its bootstrap.
const BOOTSTRAP: &str = "/etc/envoy/envoy.yaml";
const ADDRESS: &str = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";

fn at_mut<'v>(value: &'v mut Value, pointer: &str) -> &'v mut Value {
    value.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}"))
}

/// The element of a list with this name.
fn named_mut<'v>(list: &'v mut Value, name: &str) -> &'v mut Value {
    let mut found = list.as_array_mut().unwrap().iter_mut().filter(|one| one["name"] == name);
    found.next().unwrap_or_else(|| panic!("no {name}"))
}

fn named<'v>(values: &'v Value, name: &str) -> &'v Value {
    list(values).find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

fn sidecar() -> Value {
    yaml::document(&read("sidecar/envoy.yaml"))
}

fn cluster_of_shared() -> Value {
    yaml::document(&read("shared/envoy-cluster.yaml"))
}

/// The filter that the EnvoyFilter inserts.
fn filter_of_istio() -> Value {
    let filter = yaml::document(&read("istio/envoy-filter.yaml"));
    at(&filter, "/spec/configPatches/0/patch/value").clone()
}

/// Asks the real Envoy whether it would run with a configuration.
pub fn assert_envoy_takes(config: &Value) {
    assert_envoy_takes_with(config, &json!(["--config-path", BOOTSTRAP]));
}

/// The same with the flags of a container.
pub fn assert_envoy_takes_with(config: &Value, args: &Value) {
    let binary = envoy::find(|text| eprintln!("{text}")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("envoy.yaml");
    let mut config = config.clone();
    // Envoy opens this file, and not every system has it there.
    let idp = list(at(&config, "/static_resources/clusters")).position(|one| one["name"] == "idp");
    if let Some(idp) = idp {
        let pointer = format!(
            "/static_resources/clusters/{idp}/transport_socket/typed_config/common_tls_context/validation_context/trusted_ca"
        );
        let inline = include_str!("certificate.pem");
        *at_mut(&mut config, &pointer) = json!({"inline_string": inline});
    }
    fs::write(&file, config.to_string()).unwrap();
    let args = list(args).map(|arg| arg.as_str().unwrap());
    let output = Command::new(&binary)
        .args(args.map(|arg| arg.replace(BOOTSTRAP, file.to_str().unwrap())))
        .args(["--mode", "validate", "--log-level", "error"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{config:#}\n{said}");
}

#[test]
fn envoy_takes_every_configuration() {
    let objects = yaml::documents(&read("sidecar/deployment.yaml"));
    assert_envoy_takes_with(&sidecar(), &container(pods(&objects)[0], "envoy")["args"]);
    let mut shared = sidecar();
    *named_mut(at_mut(&mut shared, "/static_resources/clusters"), "mcp_authz") =
        cluster_of_shared();
    assert_envoy_takes(&shared);
    assert_envoy_takes(&istio());
    assert_envoy_takes(&envoy_gateway());
    // What the EnvoyFilter merges into Istio's listeners.
    let filter = yaml::document(&read("istio/envoy-filter.yaml"));
    let merged = at(&filter, "/spec/configPatches/1/patch/value/typed_config");
    let mut with_more = istio();
    let manager = at_mut(&mut with_more, MANAGER).as_object_mut().unwrap();
    manager.extend(merged.as_object().unwrap().clone());
    assert_envoy_takes(&with_more);
}

/// Envoy, mcp-authz and the server read the same host, path and headers; and no request waits
/// for ever.
#[test]
fn every_envoy_normalizes_and_bounds_requests() {
    let quickstart = yaml::document(&change(ENVOY_CONFIG, &[("@MCP_PORT@", "1")]));
    let compose = fs::read_to_string("deploy/compose/envoy.yaml").unwrap();
    let filter = yaml::document(&read("istio/envoy-filter.yaml"));
    for (name, manager) in [
        ("quickstart", at(&quickstart, MANAGER).clone()),
        ("compose", at(&yaml::document(&compose), MANAGER).clone()),
        ("sidecar", at(&sidecar(), MANAGER).clone()),
        ("istio", at(&filter, "/spec/configPatches/1/patch/value/typed_config").clone()),
    ] {
        for (key, expected) in [
            ("normalize_path", json!(true)),
            ("merge_slashes", json!(true)),
            ("path_with_escaped_slashes_action", json!("REJECT_REQUEST")),
            (
                "common_http_protocol_options",
                json!({"headers_with_underscores_action": "REJECT_REQUEST"}),
            ),
            ("strip_trailing_host_dot", json!(true)),
            // Longer than mcp-authz itself waits.
            ("request_timeout", json!("75s")),
            ("request_headers_timeout", json!("10s")),
        ] {
            assert_eq!(manager[key], expected, "{name} {key}");
        }
        // Istio makes the routes itself.
        let ignores_port = &manager["route_config"]["ignore_port_in_host_matching"];
        assert!(name == "istio" || *ignores_port == true, "{name}");
    }
    // Envoy Gateway normalizes paths by itself.
    let policy = yaml::document(&read("envoy-gateway/client-traffic-policy.yaml"));
    assert_eq!(text(&policy, "/spec/path/escapedSlashesAction"), "RejectRequest");
    assert_eq!(text(&policy, "/spec/headers/withUnderscoresAction"), "RejectRequest");
}

/// All three say the same of a request.
#[test]
fn access_logs_show_what_was_decided() {
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let formats = [
        at(&sidecar(), &format!("{manager}/access_log/0/typed_config/log_format/json_format"))
            .clone(),
        at(
            &yaml::document(&read("istio/envoy-filter.yaml")),
            "/spec/configPatches/1/patch/value/typed_config/access_log/0/typed_config/log_format/json_format",
        )
        .clone(),
        at(
            &yaml::documents(&read("envoy-gateway/gateway.yaml"))[2],
            "/spec/telemetry/accessLog/settings/0/format/json",
        )
        .clone(),
    ];
    for format in &formats {
        assert_eq!(
            format.to_string().to_lowercase(),
            formats[0].to_string().to_lowercase(),
            "header names may be written either way, and nothing else differs"
        );
    }
    for key in ["verdict", "reason", "policy", "policySha256", "rule", "tool", "subject"] {
        assert_eq!(formats[0][key], format!("%DYNAMIC_METADATA(mcp_authz:{key})%"));
    }
}

/// Everything that `envoy-config` prints is in a filter, which may hold more.
fn assert_holds(filter: &Value, printed: &Value, name: &str) {
    match (filter, printed) {
        (Value::Object(filter), Value::Object(printed)) => {
            for (key, printed) in printed {
                let found = filter.get(key).unwrap_or_else(|| panic!("{name} has no {key}"));
                assert_holds(found, printed, name);
            }
        }
        (Value::Array(filter), Value::Array(printed)) => {
            for printed in printed {
                assert!(filter.contains(printed), "{name}: {printed}");
            }
        }
        _ => assert_eq!(filter, printed, "{name}"),
    }
}

#[test]
fn the_filters_are_those_that_envoy_config_prints() {
    let sidecar = at(&sidecar(), &format!("{HTTP_FILTERS}/1")).clone();
    let mut istio = filter_of_istio();
    let cluster = at_mut(&mut istio, "/typed_config/grpc_service/envoy_grpc/cluster_name");
    assert_eq!(cluster, "outbound|9001||mcp-authz.mcp-authz.svc.cluster.local");
    *cluster = "mcp_authz".into();
    for (name, filter, policy) in
        [("sidecar", sidecar, "sidecar/policy.yaml"), ("istio", istio, "shared/policy.yaml")]
    {
        let printed = yaml::document(&Mode::Buffered.filter(&read(policy)));
        assert_holds(&filter, &printed[0], name);
        let typed = &filter["typed_config"];
        assert_eq!(typed["failure_mode_allow"], false);
        assert_eq!(typed["metadata_options"]["receiving_namespaces"]["untyped"][0], "mcp_authz");
        for header in ["traceparent", "x-request-id"] {
            let patterns = at(typed, "/forward_rules/allowed_headers/patterns");
            assert!(list(patterns).any(|pattern| pattern["exact"] == header), "{header}");
        }
    }
}

/// Envoy buffers as much as the policy allows.
#[test]
fn bodies_may_be_as_large_for_envoy_as_for_the_policy() {
    let limit =
        |name: &str| at(&yaml::document(&read(name)), "/limits/maxBodyBytes").as_i64().unwrap();
    let buffer = "/static_resources/listeners/0/per_connection_buffer_limit_bytes";
    assert_eq!(at(&sidecar(), buffer).as_i64(), Some(limit("sidecar/policy.yaml")));
    // Envoy's default, which Istio leaves as it is.
    assert_eq!(limit("shared/policy.yaml"), 1024 * 1024);
}

/// Builds the Envoy configuration that Istio makes of the RequestAuthentication and the
/// EnvoyFilter.
fn istio() -> Value {
    let mut config = sidecar();
    let rule = yaml::document(&read("istio/request-authentication.yaml"));
    let rule = at(&rule, "/spec/jwtRules/0");
    let mut provider = provider(rule, "payload", &["permission", "scope"]);
    provider["forward"] = json!(false);
    config = with_jwt(config, &json!({"origins-0": provider}), "origins-0");
    let ext_proc = filter_of_istio();
    let cluster = text(&ext_proc, "/typed_config/grpc_service/envoy_grpc/cluster_name").to_owned();
    *at_mut(&mut config, &format!("{HTTP_FILTERS}/1")) = ext_proc;
    let authz = named_mut(at_mut(&mut config, "/static_resources/clusters"), "mcp_authz");
    authz["name"] = cluster.into();
    let rule = yaml::document(&read("istio/destination-rule.yaml"));
    assert_eq!(at(&rule, "/spec/host"), "mcp-authz.mcp-authz.svc.cluster.local");
    let (http, outliers) = (
        at(&rule, "/spec/trafficPolicy/connectionPool/http"),
        at(&rule, "/spec/trafficPolicy/outlierDetection"),
    );
    limit(authz, (&http["http2MaxRequests"], &http["http1MaxPendingRequests"]));
    assert_eq!(outliers["consecutive5xxErrors"], 0);
    eject(authz, outliers);
    // The metadata document is the server's there.
    at_mut(&mut config, ROUTES)[0] = json!({
        "match": {"prefix": "/.well-known/"}, "route": {"cluster": "mcp_server"}});
    config
}

/// Builds the Envoy configuration that Envoy Gateway makes of the SecurityPolicy and the
/// EnvoyExtensionPolicy.
fn envoy_gateway() -> Value {
    let mut config = sidecar();
    let security = yaml::document(&read("envoy-gateway/security-policy.yaml"));
    let jwt = at(&security, "/spec/jwt");
    assert_eq!(at(jwt, "/optional"), true);
    let given = at(jwt, "/providers/0");
    let name = text(given, "/name");
    let mut provider = provider(given, name, &["scope", "scp"]);
    provider["forward"] = json!(true);
    config = with_jwt(config, &json!({name: provider}), name);
    let policy = yaml::document(&read("envoy-gateway/extension-policy.yaml"));
    let asked = at(&policy, "/spec/extProc/0");
    let mode = text(asked, "/processingMode/request/body");
    assert_eq!(mode, "FullDuplexStreamed");
    assert_eq!(at(asked, "/backendRefs/0/port"), 9001);
    let filter = json!({
        "name": "envoy.filters.http.ext_proc/envoyextensionpolicy/mcp/mcp-authz/extproc/0",
        "disabled": true,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": "mcp_authz"}, "timeout": "10s"},
            "failure_mode_allow": at(asked, "/failOpen"),
            "message_timeout": at(asked, "/messageTimeout"),
            "processing_mode": {
                "request_header_mode": "SEND", "response_header_mode": "SKIP",
                "request_body_mode": "FULL_DUPLEX_STREAMED", "request_trailer_mode": "SEND",
                "response_body_mode": "NONE", "response_trailer_mode": "SKIP",
            },
            "metadata_options": {
                "forwarding_namespaces": {"untyped": at(asked, "/metadata/accessibleNamespaces")},
                "receiving_namespaces": {"untyped": at(asked, "/metadata/writableNamespaces")},
            },
        },
    });
    let enabled = json!({"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
        "config": {}});
    let overrides = json!({text(&filter, "/name"): enabled});
    at_mut(&mut config, ROUTES)[0] = json!({
        "match": {"prefix": "/.well-known/"}, "route": {"cluster": "mcp_server"}});
    for route in at_mut(&mut config, ROUTES).as_array_mut().unwrap() {
        route["typed_per_filter_config"] = overrides.clone();
    }
    *at_mut(&mut config, &format!("{HTTP_FILTERS}/1")) = filter;
    let authz = named_mut(at_mut(&mut config, "/static_resources/clusters"), "mcp_authz");
    let breaker = at(asked, "/backendSettings/circuitBreaker");
    limit(authz, (&breaker["maxParallelRequests"], &breaker["maxPendingRequests"]));
    let outliers = at(asked, "/backendSettings/healthCheck/passive");
    assert_eq!(outliers["consecutive5XxErrors"], 0);
    eject(authz, outliers);
    let clients = yaml::document(&read("envoy-gateway/client-traffic-policy.yaml"));
    at_mut(&mut config, MANAGER)["request_timeout"] =
        at(&clients, "/spec/timeout/http/requestReceivedTimeout").clone();
    // Its listeners' buffer, unless a ClientTrafficPolicy says something else.
    *at_mut(&mut config, "/static_resources/listeners/0/per_connection_buffer_limit_bytes") =
        json!(32768);
    config
}

/// Sets what both write for their limits on requests.
fn limit(cluster: &mut Value, (requests, pending): (&Value, &Value)) {
    let expected = cluster_of_shared()["circuit_breakers"].clone();
    let thresholds = json!([{"max_requests": requests, "max_pending_requests": pending}]);
    cluster["circuit_breakers"] = json!({"thresholds": thresholds});
    assert_eq!(cluster["circuit_breakers"], expected);
}

/// Sets what both write for their outlier detection, whose keys are the same in both.
fn eject(cluster: &mut Value, outliers: &Value) {
    let mut expected = cluster_of_shared()["outlier_detection"].clone();
    let found = json!({
        "split_external_local_origin_errors": outliers["splitExternalLocalOriginErrors"],
        "consecutive_local_origin_failure": outliers["consecutiveLocalOriginFailures"],
        "enforcing_consecutive_5xx": 0,
        "interval": outliers["interval"],
        "base_ejection_time": outliers["baseEjectionTime"],
        "max_ejection_percent": outliers["maxEjectionPercent"],
    });
    // Neither can say these. Istio sets the first to 0; the second is for five Pods and more.
    for key in ["enforcing_success_rate", "enforcing_local_origin_success_rate"] {
        expected.as_object_mut().unwrap().remove(key).unwrap();
    }
    assert_eq!(found, expected);
    cluster["outlier_detection"] = found;
}

fn provider(given: &Value, key: &str, normalized: &[&str]) -> Value {
    json!({
        "issuer": given["issuer"], "audiences": given["audiences"], "payload_in_metadata": key,
        "normalize_payload_in_metadata": {"space_delimited_claims": normalized},
        "remote_jwks": {"http_uri": {"uri": "https://idp.example.com/", "cluster": "idp", "timeout": "5s"}},
    })
}

/// A `jwt_authn` as both write it: who has no token goes on.
fn with_jwt(mut config: Value, providers: &Value, name: &str) -> Value {
    let filter = at_mut(&mut config, &format!("{HTTP_FILTERS}/0/typed_config"));
    filter["providers"] = providers.clone();
    filter["rules"] = json!([{"match": {"prefix": "/"}, "requires": {"requires_any":
        {"requirements": [{"provider_name": name}, {"allow_missing": {}}]}}}]);
    config
}

/// With the tests' identity provider, whose keys need not be fetched.
pub fn with_test_keys(mut config: Value) -> Value {
    let providers = at_mut(&mut config, &format!("{HTTP_FILTERS}/0/typed_config/providers"));
    for provider in providers.as_object_mut().unwrap().values_mut() {
        provider.as_object_mut().unwrap().remove("remote_jwks").unwrap();
        provider["local_jwks"] = json!({"inline_string": issuer().jwks()});
    }
    let clusters = at_mut(&mut config, "/static_resources/clusters").as_array_mut().unwrap();
    clusters.retain(|cluster| cluster["name"] != "idp");
    config
}

/// The same with the addresses of a test.
async fn run(mut config: Value, policy: &str) -> Stack {
    config["admin"] =
        json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}});
    for listener in at_mut(&mut config, "/static_resources/listeners").as_array_mut().unwrap() {
        listener["address"]["socket_address"] = json!({"address": "127.0.0.1", "port_value": 0});
    }
    let mut config = with_test_keys(config);
    let clusters = at_mut(&mut config, "/static_resources/clusters").as_array_mut().unwrap();
    for cluster in clusters {
        let name = text(cluster, "/name").to_owned();
        let address = at_mut(cluster, ADDRESS);
        if name.contains("authz") {
            *address = json!({"pipe": {"path": "@SOCKET@"}});
        } else if name == "mcp_server" {
            address["socket_address"]["port_value"] = "@MCP_PORT@".into();
        }
    }
    // JSON is YAML, so it may have a comment; the keys are in it already.
    start(policy, &format!("{config}\n# @JWKS@")).await
}

/// Asserts the responses to refused calls under the policy of the examples, wherever Envoy stands.
/// Run this before any client connects, because clients open streams when they like.
async fn assert_it_refuses(stack: &Stack) {
    let http = Http::new(stack);
    let bye = send(http.post(Some(&token("echo")), call("echo", &json!({"text": "Bye"})))).await;
    assert_eq!((bye.refusal().0, bye.challenge()), (403, None));
    let sum = call("sum", &json!({"a": 1, "b": 2}));
    let reply = send(http.post(Some(&token("echo")), sum.clone())).await;
    assert_eq!(reply.status, 403);
    assert!(reply.challenge().unwrap().contains(r#"scope="sum""#), "{reply:?}");
    let reply = send(http.post(None, sum.clone())).await;
    assert_eq!(reply.status, 401);
    let metadata = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
    assert!(reply.challenge().unwrap().contains(metadata), "{reply:?}");
    let reply = send(http.post(Some("eyJhbGciOiJub25lIn0.e30."), sum)).await;
    assert_eq!(reply.status, 401, "{reply:?}");
    assert_eq!(stack.server.requests(), 0);
}

async fn assert_it_allows(stack: &Stack) {
    let client = Client::connect(&stack.url(), &token("echo")).await.unwrap();
    let hello = client.call("echo", &json!({"text": "Hello, world!"})).await.unwrap();
    assert_eq!(hello, Answer::Text("Hello, world!".to_owned()));
    assert_eq!(stack.server.runs(), 1);
}

async fn metadata_document(stack: &Stack) -> (u16, String) {
    let url = format!(
        "{}/.well-known/oauth-protected-resource/mcp",
        stack.url().trim_end_matches("/mcp")
    );
    let reply = send(reqwest::Client::new().get(url)).await;
    (reply.status, reply.body)
}

fn long_greeting(bytes: usize) -> String {
    call("echo", &json!({"text": format!("Hello{}", "!".repeat(bytes))}))
}

#[tokio::test]
async fn calls_go_through_the_sidecar_s_envoy() {
    let stack = run(sidecar(), &read("sidecar/policy.yaml")).await;
    assert_it_refuses(&stack).await;
    let (status, body) = metadata_document(&stack).await;
    assert_eq!(status, 200, "{body}");
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(document["resource"], "https://mcp.example.com/mcp");
    let reply = send(Http::new(&stack).post(Some(&token("echo")), long_greeting(1 << 20))).await;
    assert_eq!(reply.status, 413);
    // Nothing but /mcp is the server's.
    let other = stack.url().replace("/mcp", "/mcpx");
    let reply = send(reqwest::Client::new().get(other).bearer_auth(token("echo"))).await;
    assert!([403, 404].contains(&reply.status), "{reply:?}");
    assert_eq!(stack.server.requests(), 0);
    assert_it_allows(&stack).await;
}

#[tokio::test]
async fn calls_go_through_what_istio_makes_of_it() {
    let stack = run(istio(), &read("shared/policy.yaml")).await;
    assert_it_refuses(&stack).await;
    // The metadata document is asked for without a token, and the server's.
    metadata_document(&stack).await;
    assert_eq!(stack.server.requests(), 1);
    assert_it_allows(&stack).await;
}

#[tokio::test]
async fn calls_go_through_what_envoy_gateway_makes_of_it() {
    let stack = run(envoy_gateway(), &read("shared/policy.yaml")).await;
    assert_it_refuses(&stack).await;
    metadata_document(&stack).await;
    assert_eq!(stack.server.requests(), 1);
    // Many times its buffer, and judged.
    let http = Http::new(&stack);
    send(http.post(Some(&token("echo")), long_greeting(300_000))).await;
    assert_eq!(stack.server.requests(), 2);
    let reply = send(http.post(Some(&token("")), long_greeting(300_000))).await;
    assert_eq!(reply.refusal().0, 403);
    let reply = send(http.post(Some(&token("echo")), long_greeting(1 << 20))).await;
    assert_eq!(reply.plain().0, 413);
    assert_eq!(stack.server.requests(), 2);
    assert_it_allows(&stack).await;
}
