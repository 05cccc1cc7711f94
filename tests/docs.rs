//! What README and examples say is true.

use std::fs;
use std::path::Path;

use mcp_authz::config;

use crate::support::mcp_authz;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The fenced blocks of the README in a language.
fn blocks(language: &str) -> Vec<String> {
    let readme = read("README.md");
    let open = format!("```{language}\n");
    readme.split(&open).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_policy_of_the_readme_is_valid() {
    let policies: Vec<String> =
        blocks("yaml").into_iter().filter(|block| block.contains("policies:")).collect();
    assert_eq!(policies.len(), 2);
    for policy in policies {
        config::parse(&policy).unwrap_or_else(|problems| panic!("{policy}\n{problems:?}"));
    }
}

/// The filters that the README tells to paste are those that the tests run.
#[test]
fn the_filters_of_the_readme_are_those_of_the_quickstart() {
    let filters = blocks("yaml").into_iter().find(|block| block.contains("ext_proc")).unwrap();
    let indented: String = filters.lines().map(|line| format!("          {line}\n")).collect();
    assert!(read("examples/quickstart/envoy.yaml").contains(&indented), "{filters}");
}

#[test]
fn the_readme_names_the_commands_that_ci_runs() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    for command in ["cargo test --locked", "cargo run --release --example quickstart"] {
        assert!(readme.contains(&format!("```console\n{command}\n```")), "{command}");
    }
    assert!(ci.contains("\nstep cargo test --locked\n"));
    assert!(ci.contains("--release --example quickstart"));
}

/// The corpus decides by the very policy that the quickstart runs.
#[test]
fn the_scenario_of_the_corpus_is_the_quickstart() {
    assert_eq!(read("tests/corpus/scenario/policy.yaml"), read("examples/quickstart/policy.yaml"));
}

/// What the README shows of `check` is what it prints.
#[test]
fn the_readme_shows_what_check_prints() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, call) = (dir.path().join("policy.yaml"), dir.path().join("call.json"));
    let example = blocks("yaml").into_iter().find(|block| block.contains("greetings")).unwrap();
    fs::write(&policy, example).unwrap();
    fs::write(&call, &blocks("json")[0]).unwrap();
    let shown = blocks("console").into_iter().find(|block| block.starts_with("$ ")).unwrap();
    let (_command, printed) = shown.split_once('\n').unwrap();
    let output = mcp_authz()
        .args(["check", "--claims", r#"{"scope": "echo"}"#, "--policy"])
        .arg(&policy)
        .arg("--request")
        .arg(&call)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), printed);
}
