//! The contents of `deploy/kubernetes`.
//!
//! These tests check the files as they are: their policies, their Envoy configurations (with a real
//! Envoy, including calls) and the rules that their Pods must keep. The module `rendered` checks
//! the output of kustomize and Helm, and needs those tools. `podman` runs the sidecar's Pod. No
//! test has a cluster: for Envoy Gateway and Istio, `envoys` checks the Envoy configuration that
//! their resources produce.

mod envoys;
mod objects;
mod podman;
mod pods;
mod rendered;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::mcp_authz;
use crate::tools::yaml;

/// A file or directory of deploy/kubernetes.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap().path();
        match entry.is_dir() {
            true => found.extend(files(&entry)),
            false => found.push(entry),
        }
    }
    found.sort();
    found
}

/// Follows keys and, where they are numbers, places in lists.
fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    at(value, pointer).as_str().unwrap_or_else(|| panic!("{pointer} is no text in {value:#}"))
}

/// A policy is one that users could use: no mistakes, and no warnings either but that of
/// `shared`, where two paths need different answers.
fn assert_valid_policy(policy: &str) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("policy.yaml"), policy).unwrap();
    let output = mcp_authz()
        .args(["validate", "--deny-warnings", "--allow", "selected-by-address"])
        .arg(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{policy}\n{said}");
}

/// The policies of a chart's values.
fn policies_of_values(values: &Value) -> Vec<&str> {
    let files = values.pointer("/policy/files").and_then(Value::as_object);
    files.into_iter().flatten().map(|(_name, text)| text.as_str().unwrap()).collect()
}

#[test]
fn every_policy_is_valid() {
    for name in ["sidecar/policy.yaml", "shared/policy.yaml"] {
        assert_valid_policy(&read(name));
    }
    let mut policies = 0;
    for file in files(&path("helm/mcp-authz/ci")) {
        let values = yaml::document(&fs::read_to_string(file).unwrap());
        for policy in policies_of_values(&values) {
            assert_valid_policy(policy);
            policies += 1;
        }
    }
    assert_eq!(policies, 3);
}

/// Each file is used by a kustomization or the chart, or is named by its tests.
#[test]
fn no_file_is_left_out() {
    let elsewhere = ["README.md", "shared/envoy-cluster.yaml"];
    for file in files(&path("")) {
        let name = file.strip_prefix(path("")).unwrap().to_str().unwrap().to_owned();
        if name.starts_with("helm/mcp-authz/") || elsewhere.contains(&name.as_str()) {
            continue;
        }
        let (dir, file) = name.split_once('/').unwrap();
        yaml::documents(&read(&name));
        let kustomization = read(&format!("{dir}/kustomization.yaml"));
        assert!(file == "kustomization.yaml" || kustomization.contains(file), "{name}");
    }
}

/// The commands and files that the page names are there.
#[test]
fn the_page_names_what_exists() {
    let page = read("README.md");
    let mut links = 0;
    for (_, rest) in
        page.match_indices("](").map(|(place, found)| page.split_at(place + found.len()))
    {
        let (link, _) = rest.split_once(')').unwrap();
        let (file, _) = link.split_once('#').unwrap_or((link, ""));
        if !file.is_empty() && !file.contains("://") {
            assert!(path(file).exists(), "{link}");
            links += 1;
        }
    }
    assert!(links > 5, "{links}");
    for line in page.lines().filter(|line| line.starts_with("kubectl apply -k ")) {
        let dir = line.trim_start_matches("kubectl apply -k deploy/kubernetes/");
        assert!(path(dir).join("kustomization.yaml").is_file(), "{line}");
    }
}
