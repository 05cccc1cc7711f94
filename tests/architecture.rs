//! The modules that each module may name: the pure core stays pure, arrows point down.

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

/// The modules that decide. Each is a function of its inputs.
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

/// A source file without comments and unit tests.
struct Source {
    /// Below `src`.
    file: String,
    code: String,
    /// Modules in files of their own that only tests have.
    test_modules: Vec<String>,
}

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

/// All source files but those of unit tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    let read = |path: &PathBuf| {
        let file = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let (code, test_modules) = code(&fs::read_to_string(path).unwrap());
        Source { file, code, test_modules }
    };
    let mut sources: Vec<Source> = found.iter().map(read).collect();
    let tests: Vec<String> = sources.iter().flat_map(test_files).collect();
    sources.retain(|source| !tests.iter().any(|test| is_of(&source.file, test)));
    sources.into_iter().map(|source| (source.file, source.code)).collect()
}

/// The files of modules that only tests have, without `.rs`.
fn test_files(source: &Source) -> Vec<String> {
    let stem = source.file.trim_end_matches(".rs");
    let is_root = ["lib", "main"].contains(&stem);
    let path = |name: &String| if is_root { name.clone() } else { format!("{stem}/{name}") };
    source.test_modules.iter().map(path).collect()
}

/// Returns true for the file of a module, and those of the modules in it.
fn is_of(file: &str, module: &str) -> bool {
    file.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// A source without its comments, and without what stands under `#[cfg(test)]`. Also returns the
/// modules in files of their own that stand there.
fn code(source: &str) -> (String, Vec<String>) {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let tokens: Vec<&str> = tokens(source).collect();
    let (mut code, mut modules, mut at) = (String::new(), Vec::new(), 0);
    while at < tokens.len() {
        let is_test =
            tokens[at..].iter().filter(|token| !is_blank(token)).take(TEST.len()).eq(&TEST);
        if is_test && tokens[at] == "#" {
            let end = at + item(&tokens[at..]);
            let words = tokens[at..end].iter().copied().filter(|token| !is_blank(token));
            let words: Vec<&str> = words.skip(TEST.len()).collect();
            if let [.., "mod", name, ";"] = words.as_slice() {
                modules.push((*name).to_owned());
            }
            at = end;
        } else {
            // A line that holds a comment only is none of code.
            code.push_str(if is_comment(tokens[at]) { "\0" } else { tokens[at] });
            at += 1;
        }
    }
    let lines: Vec<String> = code
        .lines()
        .filter(|line| line.trim() != "\0")
        .map(|line| line.replace('\0', ""))
        .collect();
    (lines.join("\n"), modules)
}

/// Returns the number of tokens of an item, with the attributes in front of it. An item reaches up
/// to its block or semicolon, or to the comma or the bracket after a field, an arm or an argument.
fn item(tokens: &[&str]) -> usize {
    const WITH_BLOCKS: [&str; 8] =
        ["mod", "fn", "impl", "struct", "enum", "trait", "union", "unsafe"];
    let (mut depth, mut has_block, mut is_begun) = (0, false, false);
    let mut in_attribute = false;
    for (at, token) in tokens.iter().enumerate() {
        if is_blank(token) {
            continue;
        }
        match *token {
            "#" if depth == 0 && !is_begun => in_attribute = true,
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth == 0 => return at,
            ")" | "]" | "}" => {
                depth -= 1;
                if depth == 0 && in_attribute {
                    in_attribute = false;
                } else if depth == 0 && has_block && *token == "}" {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            "," if depth == 0 && !has_block => return at + 1,
            word if depth == 0 && !in_attribute => {
                is_begun = true;
                has_block |= WITH_BLOCKS.contains(&word);
            }
            _ => {}
        }
    }
    tokens.len()
}

fn is_blank(token: &str) -> bool {
    token.starts_with(char::is_whitespace) || is_comment(token)
}

fn is_comment(token: &str) -> bool {
    token.starts_with("//") || token.starts_with("/*")
}

/// The tokens of a source, blanks and comments too. Operators are single characters.
fn tokens(source: &str) -> impl Iterator<Item = &str> {
    let mut rest = source;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let (token, after) = rest.split_at(token(rest, first));
        rest = after;
        Some(token)
    })
}

/// Returns the length, in bytes, of the token at the start of a text.
fn token(text: &str, first: char) -> usize {
    let up_to = |found: Option<usize>, more: usize| found.map_or(text.len(), |at| at + more);
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let raw = text.trim_start_matches(['b', 'c']).strip_prefix('r');
    if text.starts_with("//") {
        return up_to(text.find('\n'), 0);
    }
    if text.starts_with("/*") {
        return block_comment(text);
    }
    if let Some(hashes) = raw.map(|raw| raw.len() - raw.trim_start_matches('#').len())
        && raw.is_some_and(|raw| raw[hashes..].starts_with('"'))
    {
        let open = text.find('"').unwrap() + 1;
        let end = format!("\"{}", "#".repeat(hashes));
        return up_to(text[open..].find(&end), open + end.len());
    }
    for prefix in ["\"", "b\"", "c\""] {
        if text.starts_with(prefix) {
            return quoted(text, prefix.len(), '"');
        }
    }
    if first == '\'' || text.starts_with("b'") {
        let open = text.find('\'').unwrap() + 1;
        let mut inner = text[open..].chars();
        let (one, two) = (inner.next(), inner.next());
        if one == Some('\\') || two == Some('\'') {
            return quoted(text, open, '\'');
        }
        // A lifetime.
        return up_to(text[open..].find(|c| !is_name(c)), open);
    }
    if first.is_whitespace() {
        return up_to(text.find(|c: char| !c.is_whitespace()), 0);
    }
    if is_name(first) {
        return up_to(text.find(|c| !is_name(c)), 0);
    }
    first.len_utf8()
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let step = match &text[at..] {
            rest if rest.starts_with("/*") => {
                depth += 1;
                2
            }
            rest if rest.starts_with("*/") => {
                depth -= 1;
                2
            }
            rest => rest.chars().next().unwrap().len_utf8(),
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(text: &str, open: usize, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text[open..].char_indices() {
        if c == quote && !is_escaped {
            return open + at + 1;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    text.len()
}

#[test]
fn only_tests_are_left_out() {
    let source = r##"
/// crate::a
fn a() { b('"', '\'', b'{', "#[cfg(test)] { \" }", r#"{"}"#); /* { /* } */ */ }
#[cfg(test)]
fn c<'a, B>(x: &'a B) -> [u8; 2] { if x { ";" } }
fn d() {}
#[cfg(test)]
#[derive(Debug)]
use e::{f, g};
struct H {
    #[cfg(test)]
    i: (u8, u8),
    j: u8, // crate::k
}
const L: M = M { #[cfg(test)] n: 1 };
#[cfg(test)]
pub(crate) mod o;
fn p() {
    #[cfg(test)]
    let q = R { s: 1 };
    t()
}
#[cfg(test)]
mod tests { fn u() { "}" } }
fn v() {}"##;
    let (code, modules) = code(source);
    assert_eq!(modules, ["o"]);
    let names: String = "acdefghijklmnopqrstuv"
        .chars()
        .filter(|name| tokens(&code).any(|token| token.eq_ignore_ascii_case(&name.to_string())))
        .collect();
    assert_eq!(names, "adhjlmptv", "{code}");
    assert!(!code.contains("crate"), "{code}");
}

/// Returns the text after each `crate::`, up to the end of the path or of the group.
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

/// Returns true if a text contains a word that is not part of a longer name.
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
            if named && other != module(&file) && !allowed.contains(&other) {
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
        if !PURE.contains(&module(&file)) {
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
    for (file, code) in sources() {
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

/// `envoy-config` lets Envoy send the headers of `Header`, so no other one is read by name.
#[test]
fn headers_are_read_by_declared_names() {
    let mut reads = 0;
    for (file, code) in sources() {
        assert!(!code.contains(".values(\""), "{file} names a header that Envoy may not send");
        reads += code.matches(".values_of(Header::").count();
    }
    assert!(reads >= 7, "the reads have moved: {reads}");
}

#[test]
fn files_stay_small() {
    for (file, code) in sources() {
        let lines = code.lines().count();
        let is_made = file == "proto/mcp_authz.v1.rs";
        assert!(is_made || lines <= 450, "{file} has {lines} lines of code");
    }
}

/// A doc comment begins with a verb or a noun: "Returns", "The rules of a policy".
#[test]
fn doc_comment_begins_with_verb_or_noun() {
    const OTHERS: [&str; 7] = ["What", "Whether", "How", "Who", "Whom", "Whose", "That"];

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    ["src", "tests", "benches", "examples"]
        .iter()
        .for_each(|dir| walk(&root.join(dir), &mut files));
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let mut comments = 0;
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let mut before = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
            if let (Some(comment), None) = (comment, before) {
                comments += 1;
                let word = comment.split_whitespace().next().unwrap_or_default();
                if OTHERS.contains(&word) {
                    found.push(format!("{}:{}: {line}", file.display(), number + 1));
                }
            }
            before = comment;
        }
    }
    assert!(comments > 2000, "{comments} doc comments");
    assert!(found.is_empty(), "{} doc comments:\n{}", found.len(), found.join("\n"));
}
