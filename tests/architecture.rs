//! Who may name what: the pure core stays pure, arrows point down.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules at the top, each with those that it may name.
const ARROWS: [(&str, &[&str]); 18] = [
    ("json", &[]),
    ("words", &[]),
    ("address", &[]),
    ("proto", &["json"]),
    ("head", &[]),
    ("claims", &["json"]),
    ("mcp", &["json"]),
    ("policy", &["claims", "head", "json", "mcp", "words"]),
    ("challenge", &["policy"]),
    ("gate", &["challenge", "claims", "head", "mcp", "policy"]),
    ("config", &["claims", "gate", "head", "mcp", "policy", "words"]),
    ("record", &["gate", "mcp", "policy", "proto"]),
    ("telemetry", &["gate", "proto", "record"]),
    ("extproc", &["claims", "gate", "head", "json", "proto", "record", "telemetry"]),
    (
        "admin",
        &["address", "claims", "gate", "head", "mcp", "policy", "proto", "record", "telemetry"],
    ),
    ("server", &["address", "admin", "config", "extproc", "gate", "telemetry"]),
    ("suite", &["claims", "config", "gate", "head", "policy"]),
    (
        "cli",
        &[
            "address",
            "admin",
            "config",
            "extproc",
            "gate",
            "head",
            "policy",
            "proto",
            "record",
            "server",
            "suite",
            "telemetry",
        ],
    ),
];

/// What decides is a function of its inputs.
const PURE: [&str; 7] = ["json", "words", "head", "claims", "mcp", "policy", "challenge"];
const IMPURE: [&str; 14] = [
    "tonic",
    "prost",
    "tokio",
    "tracing",
    "envoy_types",
    "std::fs",
    "std::io",
    "std::env",
    "std::net",
    "std::time",
    "std::process",
    "SystemTime",
    "Instant",
    "println",
];

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
    found.iter().map(|path| (name(path), code(&fs::read_to_string(path).unwrap()))).collect()
}

/// A source without its comments, and without the unit tests at its end.
fn code(source: &str) -> String {
    let end = source.find("#[cfg(test)]").unwrap_or(source.len());
    let lines = source[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// What follows each `crate::`, up to the end of the path or of the group.
fn references(code: &str) -> impl Iterator<Item = &str> {
    code.split("crate::").skip(1).map(|rest| {
        let is_group = rest.starts_with('{');
        let end =
            rest.find(|c: char| if is_group { c == ';' } else { !c.is_alphanumeric() && c != '_' });
        &rest[..end.unwrap_or(rest.len())]
    })
}

fn module(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs")
}

/// Whether a text holds a word, with no part of a name around it.
fn names(text: &str, word: &str) -> bool {
    let is_name =
        |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    text.match_indices(word).any(|(at, _)| {
        let before = at.checked_sub(1).map(|at| text.as_bytes()[at]);
        !is_name(before) && !is_name(text.as_bytes().get(at + word.len()).copied())
    })
}

#[test]
fn arrows_point_down() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module(&file)) else {
            assert!(
                ["main", "lib"].contains(&module(&file)),
                "{file} is in no module of the table"
            );
            continue;
        };
        for (other, _) in ARROWS {
            let named = references(&code).any(|reference| names(reference, other));
            if named && other != module(&file) && !allowed.contains(&other) && !is_test(&file) {
                wrong.push(format!("{file} names {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_decides_is_pure() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (file, code) in sources() {
        if !PURE.contains(&module(&file)) || is_test(&file) {
            continue;
        }
        seen += 1;
        let found = IMPURE.iter().filter(|word| names(&code, word));
        wrong.extend(found.map(|word| format!("{file} names {word}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 12, "the modules have moved: {seen}");
}

#[test]
fn one_file_names_protobuf_and_one_module_names_cel() {
    for (file, code) in sources().into_iter().filter(|(file, _)| !is_test(file)) {
        assert!(
            !names(&code, "envoy_types")
                || file == "extproc/convert.rs"
                || module(&file) == "proto",
            "{file} names protobuf types"
        );
        let cel =
            ["use cel::", " cel::", "(cel::", "<cel::"].iter().any(|path| code.contains(path));
        assert!(!cel || file.starts_with("policy/condition"), "{file} names cel");
        let serde = names(&code, "Deserialize");
        assert!(!serde, "{file} deserializes: serde is for wire types only");
    }
}

#[test]
fn files_stay_small() {
    for (file, code) in sources() {
        let lines = code.lines().count();
        let is_made = file == "proto/mcp_authz.v1.rs";
        assert!(is_made || lines <= 450, "{file} has {lines} lines of code");
    }
}
