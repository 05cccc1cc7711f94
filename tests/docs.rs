//! The statements of the README and the examples are true.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mcp_authz::config;

use crate::support::mcp_authz;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The fenced blocks of a page in a language.
pub fn blocks_of(page: &str, language: &str) -> Vec<String> {
    let page = read(page);
    let open = format!("```{language}\n");
    page.split(&open).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

pub fn blocks(language: &str) -> Vec<String> {
    blocks_of("README.md", language)
}

/// Each construct has a policy and tests of it, and they pass, cover it, and
/// raise no warning.
#[test]
fn the_language_page_is_true() {
    const PAGE: &str = "examples/policies/README.md";

    let blocks = blocks_of(PAGE, "yaml");
    let page = read(PAGE);
    let sections = page.matches("\n## ").count() + page.matches("\n### ").count();
    // Two sections have no policy of their own.
    assert_eq!(blocks.len(), 2 * (sections - 2));
    for pair in blocks.chunks(2) {
        let [policy, tests] = pair else { panic!("{pair:?}") };
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("policy.yaml"), policy).unwrap();
        fs::write(dir.path().join("policy.test.yaml"), tests).unwrap();
        let run = |arguments: &[&str], file: &str| {
            let output = mcp_authz().args(arguments).arg(dir.path().join(file)).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap()
                + &String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{policy}\n{said}");
        };
        run(&["test", "--min-coverage", "100"], "policy.test.yaml");
        run(&["validate", "--deny-warnings"], "policy.yaml");
    }
}

/// Each document of the page about MCPRoutes loads, alone and with the settings beside it.
#[test]
fn mcproute_examples_load() {
    const FOLDER: &str = "examples/mcproute";

    let page = read("examples/mcproute/README.md");
    let settings = blocks_of("examples/mcproute/README.md", "yaml");
    let (mut documents, mut tests) = (0, 0);
    for entry in fs::read_dir(root().join(FOLDER)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".test.yaml") {
            tests += 1;
            let output = mcp_authz().args(["test", "--min-coverage", "100"]).arg(&path).output();
            let output = output.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            continue;
        }
        documents += 1;
        assert!(page.contains(&format!("[{name}]({name})")), "{name}");
        let dir = tempfile::tempdir().unwrap();
        fs::copy(&path, dir.path().join(name)).unwrap();
        config::load(dir.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (number, settings) in settings.iter().enumerate() {
            let file = dir.path().join("settings.yaml");
            fs::write(&file, settings).unwrap();
            let gate = config::load(dir.path());
            gate.unwrap_or_else(|error| panic!("{name} with block {number}: {error}"));
        }
    }
    assert_eq!((documents, tests, settings.len()), (4, 2, 1));
}

/// The table of warnings names all that there are.
#[test]
fn every_warning_is_explained() {
    let page = read("examples/policies/README.md");
    for lint in config::Lint::ALL {
        assert!(page.contains(&format!("`{}`", lint.as_str())), "{}", lint.as_str());
    }
}

#[test]
fn every_policy_of_the_readme_is_valid() {
    let policies: Vec<String> = blocks("yaml")
        .into_iter()
        .filter(|block| block.contains("policies:") && !block.contains("runs-on:"))
        .collect();
    assert_eq!(policies.len(), 2);
    for policy in policies {
        config::parse(&policy).unwrap_or_else(|error| panic!("{policy}\n{error}"));
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

/// The tests of the README are of its policy, pass, and print what it shows.
#[test]
fn the_readme_s_tests_pass() {
    let dir = tempfile::tempdir().unwrap();
    let example = blocks("yaml").into_iter().find(|block| block.contains("greetings")).unwrap();
    let tests = blocks("yaml").into_iter().find(|block| block.contains("tests:")).unwrap();
    fs::write(dir.path().join("policy.yaml"), example).unwrap();
    fs::write(dir.path().join("policy.test.yaml"), tests).unwrap();
    let output = mcp_authz()
        .args(["test", "policy.test.yaml", "--min-coverage", "100"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let shown = blocks("console").into_iter().find(|block| block.contains("authz test")).unwrap();
    let (_command, printed) = shown.split_once('\n').unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), printed);
    assert_eq!(output.status.code(), Some(0));
}

/// `check` prints the output that the README shows.
#[test]
fn the_readme_shows_what_check_prints() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, call) = (dir.path().join("policy.yaml"), dir.path().join("call.json"));
    let example = blocks("yaml").into_iter().find(|block| block.contains("greetings")).unwrap();
    fs::write(&policy, example).unwrap();
    fs::write(&call, &blocks("json")[0]).unwrap();
    let shown =
        blocks("console").into_iter().find(|block| block.starts_with("$ mcp-authz check")).unwrap();
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

/// Each attack that is known names tests that there are.
#[test]
fn every_attack_has_its_tests() {
    let page = read(".github/SECURITY.md");
    let (_, table) = page.split_once("## Attacks").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let (tests, mut attacks) = (tests_of("src", ""), 0);
    let tests: BTreeSet<String> = tests.into_iter().chain(tests_of("tests", "")).collect();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [_attack, _what_happens, named] = cells.as_slice() else { continue };
        let named: Vec<&str> = named.split(", ").map(|name| name.trim_matches('`')).collect();
        for name in &named {
            let is_file = root().join(name).is_file();
            assert!(is_file || tests.contains(*name), "there is no `{name}`: {row}");
        }
        attacks += 1;
    }
    assert!(attacks > 40, "{attacks} attacks");
}

/// The tests in the files below a directory, as they are called.
fn tests_of(directory: &str, module: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(directory)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{directory}/{name}");
        let below = |name: &str| format!("{module}{name}::");
        if entry.path().is_dir() {
            found.extend(tests_of(&path, &below(&name)));
            continue;
        }
        let Some(name) = name.strip_suffix(".rs") else { continue };
        let (mut prefix, mut is_test) = (below(name), false);
        for line in fs::read_to_string(entry.path()).unwrap().lines() {
            if line.starts_with("mod tests {") {
                prefix += "tests::";
            }
            let line = line.trim_start();
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let function = line.trim_start_matches("async ").strip_prefix("fn ");
            if let Some(function) = function.filter(|_| is_test) {
                found.push(prefix.clone() + function.split('(').next().unwrap());
                is_test = false;
            }
        }
    }
    found
}
