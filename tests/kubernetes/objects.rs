//! Finding one's way in Kubernetes objects, and rules that hold between them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{at, list, text};

pub fn kind<'v>(objects: &'v [Value], kind: &str) -> Vec<&'v Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

pub fn one<'v>(objects: &'v [Value], kind: &str, name: &str) -> &'v Value {
    let mut found = objects.iter().filter(|object| {
        object["kind"] == kind && object.pointer("/metadata/name") == Some(&name.into())
    });
    match (found.next(), found.next()) {
        (Some(object), None) => object,
        _ => panic!("not exactly one {kind} {name}"),
    }
}

/// The Pods that come of some objects, as templates with metadata and spec.
pub fn pods(objects: &[Value]) -> Vec<&Value> {
    let templates = objects.iter().filter_map(|object| object.pointer("/spec/template"));
    let pods: Vec<&Value> = templates.chain(kind(objects, "Pod")).collect();
    assert!(pods.iter().all(|pod| pod.pointer("/spec/containers").is_some()), "{pods:#?}");
    pods
}

/// Init containers (sidecars among them) and containers.
pub fn containers(pod: &Value) -> Vec<&Value> {
    list(&pod["spec"]["initContainers"]).chain(list(&pod["spec"]["containers"])).collect()
}

pub fn container<'v>(pod: &'v Value, name: &str) -> &'v Value {
    let found = containers(pod).into_iter().find(|container| container["name"] == name);
    found.unwrap_or_else(|| panic!("no container {name} in {pod:#}"))
}

/// The value of a flag `--NAME=VALUE`.
pub fn flag<'v>(container: &'v Value, name: &str) -> Option<&'v str> {
    let prefix = format!("--{name}=");
    list(&container["args"]).filter_map(Value::as_str).find_map(|arg| arg.strip_prefix(&prefix))
}

/// The port of an address `HOST:PORT`.
pub fn port(address: &str) -> i64 {
    let (host, port) = address.rsplit_once(':').unwrap();
    assert_eq!(host, "0.0.0.0", "{address}");
    port.parse().unwrap()
}

/// The ports that a container says it has: by name and by number.
fn ports(container: &Value) -> Vec<(&str, i64)> {
    list(&container["ports"])
        .map(|port| (text(port, "/name"), at(port, "/containerPort").as_i64().unwrap()))
        .collect()
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().unwrap_or_else(|| panic!("{selector:#}"));
    !selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value)
}

/// Whatever names something of the same objects names something that is there.
pub fn assert_they_fit_together(objects: &[Value]) {
    let pods = pods(objects);
    for deployment in kind(objects, "Deployment") {
        let labels = at(deployment, "/spec/template/metadata/labels");
        assert!(selects(at(deployment, "/spec/selector/matchLabels"), labels), "{deployment:#}");
    }
    let selected = |selector: &Value| -> Vec<&Value> {
        let pods: Vec<&Value> = pods
            .iter()
            .copied()
            .filter(|pod| selects(selector, &pod["metadata"]["labels"]))
            .collect();
        assert!(!pods.is_empty(), "nobody is {selector}");
        pods
    };
    for service in kind(objects, "Service") {
        for pod in selected(at(service, "/spec/selector")) {
            for wanted in list(at(service, "/spec/ports")) {
                let target = text(wanted, "/targetPort");
                let mut all = containers(pod).into_iter().flat_map(ports);
                assert!(all.any(|(name, _)| name == target), "{target}: {service:#}");
            }
        }
    }
    for disruption in kind(objects, "PodDisruptionBudget") {
        selected(at(disruption, "/spec/selector/matchLabels"));
    }
    for policy in kind(objects, "NetworkPolicy") {
        for pod in selected(at(policy, "/spec/podSelector/matchLabels")) {
            let there: BTreeSet<i64> =
                containers(pod).into_iter().flat_map(ports).map(|(_, number)| number).collect();
            let mut opened = BTreeSet::new();
            for rule in list(at(policy, "/spec/ingress")) {
                for port in list(at(rule, "/ports")) {
                    opened.insert(at(port, "/port").as_i64().unwrap());
                }
                // No list, or an empty one, is everybody: fine for what callers call, and for
                // nothing else.
                let everybody = list(&rule["from"]).next().is_none();
                assert!(!everybody || rule["ports"] == serde_json::json!([{"port": 8080}]));
            }
            assert!(opened.is_subset(&there), "{opened:?} {there:?}");
        }
    }
    for scaler in kind(objects, "HorizontalPodAutoscaler") {
        let target = at(scaler, "/spec/scaleTargetRef");
        let deployment = one(objects, text(target, "/kind"), text(target, "/name"));
        assert!(deployment.pointer("/spec/replicas").is_none(), "applying it would undo scaling");
        assert!(at(scaler, "/spec/minReplicas").as_i64() >= Some(2));
    }
    for pod in pods {
        for volume in list(&pod["spec"]["volumes"]) {
            let Some(name) = volume.pointer("/configMap/name").and_then(Value::as_str) else {
                continue;
            };
            // A ConfigMap that the user has, as in the chart's values.
            if name != "my-policies" {
                let data = at(one(objects, "ConfigMap", name), "/data");
                assert!(data.as_object().is_some_and(|data| !data.is_empty()));
            }
        }
    }
}
