//! Rules that Pods must keep, whoever rendered them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::objects::{container, containers, flag, kind, pods, port};
use super::{at, list, read, text};
use crate::tools::yaml;

const SOCKET: &str = "/run/mcp-authz/mcp-authz.sock";

/// The restricted Pod Security Standard, and what goes beyond it.
pub fn assert_restricted(pod: &Value) {
    let spec = &pod["spec"];
    for key in ["hostNetwork", "hostPID", "hostIPC", "hostUsers"] {
        assert!(spec[key].is_null(), "{key}");
    }
    assert_eq!(spec["automountServiceAccountToken"], false);
    for volume in list(&spec["volumes"]) {
        let kinds: Vec<&String> =
            volume.as_object().unwrap().keys().filter(|key| *key != "name").collect();
        assert!(kinds == ["configMap"] || kinds == ["emptyDir"], "{volume}");
    }
    let (of_pod, none) = (&spec["securityContext"], json!(null));
    for container in containers(pod) {
        let name = text(container, "/name");
        let own = &container["securityContext"];
        let setting = |key: &str| match (&own[key], &of_pod[key]) {
            (Value::Null, Value::Null) => &none,
            (Value::Null, of_pod) => of_pod,
            (own, _) => own,
        };
        assert_eq!(setting("runAsNonRoot"), true, "{name}");
        assert!(setting("runAsUser").as_i64() > Some(0), "{name}");
        assert_eq!(setting("seccompProfile")["type"], "RuntimeDefault", "{name}");
        assert_eq!(own["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(own["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(own["capabilities"], json!({"drop": ["ALL"]}), "{name}");
        for key in ["privileged", "procMount", "seLinuxOptions", "windowsOptions"] {
            assert!(own[key].is_null(), "{name}: {key}");
        }
        assert!(list(&container["ports"]).all(|port| port["hostPort"].is_null()), "{name}");
        let resources = &container["resources"];
        assert!(resources["limits"]["memory"].is_string(), "{name}");
        assert!(resources["requests"]["cpu"].is_string(), "{name}");
        assert!(resources["limits"]["cpu"].is_null(), "{name} would be throttled");
    }
}

fn seconds(container: &Value, name: &str) -> i64 {
    flag(container, name).map_or(0, |seconds| seconds.parse().unwrap())
}

/// Asserts that a Pod starts, reaches and ends mcp-authz as it should.
pub fn assert_served(pod: &Value) {
    let sidecar = container(pod, "mcp-authz");
    assert_eq!(at(sidecar, "/args/0"), "serve");
    let admin = port(flag(sidecar, "admin").unwrap());
    assert_eq!(admin, 9002);
    let named = |name: &str| {
        let mut ports = list(&sidecar["ports"]).filter(|port| port["name"] == name);
        ports.next().unwrap_or_else(|| panic!("{name}: {sidecar:#}"))["containerPort"].clone()
    };
    assert_eq!(named("admin"), admin);
    assert!(sidecar["startupProbe"]["failureThreshold"].as_i64() >= Some(30));
    let annotations = &pod["metadata"]["annotations"];
    if !annotations["prometheus.io/scrape"].is_null() {
        assert_eq!(annotations["prometheus.io/port"], admin.to_string());
        assert_eq!(annotations["prometheus.io/path"], "/metrics");
    }
    // The policy is a directory that follows its ConfigMap.
    let mount = mount(sidecar, flag(sidecar, "policy").unwrap());
    assert_eq!((&mount["readOnly"], &mount["subPath"]), (&json!(true), &json!(null)));
    assert!(at(volume(pod, mount), "/configMap/name").is_string());
    let drain = seconds(sidecar, "drain-delay") + seconds(sidecar, "drain-timeout");
    let grace = at(pod, "/spec/terminationGracePeriodSeconds").as_i64().unwrap();
    let listen = flag(sidecar, "listen").unwrap();
    // The port or socket that Envoy uses, and not one that others can keep busy.
    let health = match listen.strip_prefix("unix:") {
        None => ("/grpc", json!({"port": port(listen)})),
        Some(_) => ("/exec/command", json!(["/mcp-authz", "health", format!("--server={listen}")])),
    };
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert_eq!(at(&sidecar[probe], health.0), &health.1, "{probe}");
    }
    match listen.strip_prefix("unix:") {
        None => {
            assert_eq!(named("ext-proc"), port(listen));
            assert!(seconds(sidecar, "drain-delay") > 0, "Envoys must have time to hear of it");
            assert!(drain <= grace, "{drain} {grace}");
        }
        Some(socket) => {
            assert_eq!(socket, SOCKET);
            assert_served_to_envoy(pod, sidecar, grace);
        }
    }
}

/// A native sidecar: up before Envoy, and gone after it.
fn assert_served_to_envoy(pod: &Value, sidecar: &Value, grace: i64) {
    let socket_dir = SOCKET.rsplit_once('/').unwrap().0;
    assert!(list(&pod["spec"]["initContainers"]).any(|container| container == sidecar));
    assert_eq!(sidecar["restartPolicy"], "Always");
    let own = mount(sidecar, socket_dir);
    assert_eq!(volume(pod, own)["emptyDir"]["medium"], "Memory");
    let envoy = container(pod, "envoy");
    let theirs = mount(envoy, socket_dir);
    assert_eq!((&theirs["name"], &theirs["readOnly"]), (&own["name"], &json!(true)));
    // Nobody else has the socket.
    let mounted = |container: &&Value| {
        list(&container["volumeMounts"]).any(|mount| mount["name"] == own["name"])
    };
    assert_eq!(containers(pod).iter().copied().filter(|c| mounted(c)).count(), 2);
    let sleeps = containers(pod).into_iter().filter_map(|container| {
        container.pointer("/lifecycle/preStop/sleep/seconds").and_then(Value::as_i64)
    });
    // The default of drain-timeout is 5.
    let sleeps = sleeps.max().unwrap_or(0);
    assert!(sleeps + 5 < grace, "{sleeps} {grace}");
}

fn mount<'v>(container: &'v Value, dir: &str) -> &'v Value {
    let mut mounts = list(&container["volumeMounts"]).filter(|mount| mount["mountPath"] == dir);
    mounts.next().unwrap_or_else(|| panic!("{dir} is not mounted: {container:#}"))
}

fn volume<'v>(pod: &'v Value, mount: &Value) -> &'v Value {
    let mut volumes =
        list(&pod["spec"]["volumes"]).filter(|volume| volume["name"] == mount["name"]);
    volumes.next().unwrap_or_else(|| panic!("no volume for {mount}: {pod:#}"))
}

/// The ports of Envoy's listeners are the container's, and none is missing.
pub fn assert_envoy_s_ports(pod: &Value, envoy_config: &Value) {
    let declared: BTreeSet<i64> = list(&container(pod, "envoy")["ports"])
        .map(|port| at(port, "/containerPort").as_i64().unwrap())
        .collect();
    let listening: BTreeSet<i64> = list(at(envoy_config, "/static_resources/listeners"))
        .map(|one| at(one, "/address/socket_address/port_value").as_i64().unwrap())
        .collect();
    assert_eq!(declared, listening);
    let clusters = at(envoy_config, "/static_resources/clusters");
    assert!(clusters.to_string().contains(&format!(r#"{{"path":"{SOCKET}"}}"#)), "{clusters:#}");
    // The MCP server is told to listen where Envoy looks for it, and nowhere else.
    let server = container(pod, "mcp-server");
    let told = |name: &str| {
        let mut set = list(&server["env"]).filter(|set| set["name"] == name);
        set.next().unwrap()["value"].as_str().unwrap().to_owned()
    };
    let cluster = list(clusters).find(|cluster| cluster["name"] == "mcp_server").unwrap();
    let address = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    let address = at(cluster, address);
    assert_eq!(address["address"], told("HOST"));
    assert_eq!(address["port_value"].to_string(), told("PORT"));
    assert_eq!(told("HOST"), "127.0.0.1");
}

#[test]
fn the_pods_of_the_manifests_keep_the_rules() {
    for name in ["sidecar", "shared"] {
        let objects = yaml::documents(&read(&format!("{name}/deployment.yaml")));
        let pods = pods(&objects);
        assert_eq!(pods.len(), 1);
        for pod in pods {
            assert_restricted(pod);
            assert_served(pod);
        }
        let namespace = yaml::documents(&read(&format!("{name}/namespace.yaml")));
        let labels = at(kind(&namespace, "Namespace")[0], "/metadata/labels");
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    }
    let sidecar = yaml::documents(&read("sidecar/deployment.yaml"));
    assert_envoy_s_ports(pods(&sidecar)[0], &yaml::document(&read("sidecar/envoy.yaml")));
}
