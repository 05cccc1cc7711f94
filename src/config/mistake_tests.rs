//! One run reports each mistake at its place, and reports nothing else.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use super::*;

/// A policy file with every key. Its rules would cover each other if a rule lost one of its parts.
const NATIVE: &str = r#"
jwt: {from: metadata, metadata: {namespace: n, key: k}}
limits: {maxBodyBytes: 10, maxBodyParts: 9, maxHeaderBytes: 8, maxJsonDepth: 7, conditionCost: 6}
mcpRouteDefaults:
  backend: {toolNamePrefix: __}
  resourceMetadataURL: https://a/b
  scopesSupported: [a, b]
  scopeHierarchy: {repo: [read, write]}
  unauthenticated: Challenge
  enforcement: Shadow
  conditionErrors: NoMatch
  batches: Authorize
  enforce: [tools, prompts]
  toolsList: Reachable
  promptsList: Permitted
  resourcesList: Unfiltered
  tasks: Deny
policies:
- name: first
  match: {hosts: [a.example.com, '*.b.example.com'], pathPrefixes: [/a, /b], routes: [r]}
  backend: {toolNamePrefix: __}
  resourceMetadataURL: https://a/b
  scopesSupported: [a, b]
  scopeHierarchy: {repo: [read, write], 'org:admin': [repo]}
  unauthenticated: Challenge
  enforcement: Shadow
  conditionErrors: NoMatch
  batches: Authorize
  enforce: [tools, prompts, resources, methods]
  toolsList: Permitted
  promptsList: Reachable
  resourcesList: Permitted
  tasks: Deny
  defaultAction: Deny
  rules:
  - name: readers
    action: Allow
    source: {jwt: {scopes: ['repo:read', other], claims: [{name: c, valueType: String, values: [v, w]}]}}
    target:
      tools: [{backend: github, tool: get_file, when: args.x == 1}, {tool: list}, {tool: 'get_*'}]
      prompts: [{prompt: p}]
      resources: [{uri: 'file:///a'}]
      methods: [{method: initialize}, {method: 'vendor/*'}]
    cel: request.headers["x-a"] == "b"
  - {name: deny, action: Deny, target: {tools: [{tool: get_file}]}, cel: args.y == 2}
  - {name: claims, source: {jwt: {claims: [{name: d, valueType: StringArray, values: [v]}]}}, target: {prompts: [{prompt: q}]}}
  - {action: Allow, source: {jwt: {scopes: ['repo:reads', third]}}, cel: args.z == 3}
  - {action: Allow, source: {jwt: {scopes: ['repo:read', third]}}, target: {tools: [{tool: list}, {tool: other}]}}
  - {action: Deny, target: {resources: [{uri: 'https://a.example/*', backend: x}]}, cel: args.z == 3}
- name: second
  match: {hosts: [a.example.com], pathPrefixes: [/a]}
  backend: {header: x-backend}
  rules: [{action: Deny, target: {tools: [{tool: get_file}]}}]
- name: third
  match: {onlyByName: true}
  backend: {attribute: xds.cluster_name}
- {name: fourth, backend: {name: github}, rules: [{name: open}, {action: Deny}]}
"#;

const MCP_ROUTE: &str = r#"
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: r, namespace: default}
spec:
  path: /tools
  hostnames: [mcp.example.com]
  prefixMode: Never
  backendRefs:
  - {name: github, toolSelector: {include: [search, list], excludeRegex: [x, 'y+']}}
  - {name: jira, prefixMode: Always, toolSelector: {includeRegex: ['^a']}, promptSelector: {exclude: [p]}}
  securityPolicy:
    oauth: {issuer: 'https://idp.example.com', audiences: [mcp], protectedResourceMetadata: {resource: 'https://mcp.example.com/tools', scopesSupported: [read, write]}}
    authorization:
      defaultAction: Deny
      rules:
      - source: {jwt: {scopes: [read], claims: [{name: a, valueType: StringArray, values: [it]}, {name: t, values: [a]}]}}
        target: {tools: [{backend: github, tool: search}, {backend: other, tool: search}]}
        cel: request.headers['x-a'] == 'b'
      - {action: Deny, target: {tools: [{backend: github, tool: drop}]}}
      - {action: Allow, target: {tools: [{backend: github, tool: search}, {backend: jira, tool: x, when: args.x == 1}]}}
"#;

const SUITE: &str = r#"
policy: policy.yaml
tests:
- name: a tool
  caller: {scopes: [a, b], claims: {sub: s}}
  call: {tool: github__get, arguments: {x: 1}, meta: {m: 1}}
  headers: {x-a: b, x-c: [d, e]}
  method: POST
  host: a.example.com
  path: /mcp
  route: r
  attributes: {xds.cluster_name: c}
  policyName: p
  expect: {decision: Deny, scopes: [c], rule: r, reason: insufficient_scope, status: 403}
- {name: a method, call: {method: vendor/x, params: {y: 1}}, expect: {decision: Allow}}
- {name: a prompt, call: {prompt: p, arguments: {y: 1}}, expect: {decision: Allow, rule: r}}
- {name: a body, body: '[]', caller: {claims: {a: 1}}, expect: {decision: Deny}}
"#;

/// Returns values of the right type that are wrong at these keys.
fn wrong_values(keys: &str) -> Vec<&'static str> {
    let (parent, last) = keys.rsplit_once('.').unwrap_or(("", keys));
    let key = last.split('[').next().unwrap_or_default();
    let is_item = last.contains('[');
    match key {
        "decision" => vec!["\"Alow\""],
        "status" => vec!["99"],
        _ if keys.starts_with("tests") => Vec::new(),
        "action" | "defaultAction" => vec!["\"Alow\"", "\"deny\""],
        "from" | "enforcement" | "tasks" | "toolsList" | "valueType" => vec!["\"no such word\""],
        "hosts" | "hostnames" if is_item => vec!["\"a b\"", "\"a:80\""],
        "pathPrefixes" if is_item => vec!["\"no-slash\"", "\"/a/../b\""],
        "path" => vec!["\"no-slash\""],
        "resourceMetadataURL" | "resource" => vec!["\"no url\""],
        "header" => vec!["\"no header\""],
        "enforce" if is_item => vec!["\"no such word\""],
        "scopes" | "scopesSupported" if is_item && !keys.starts_with("spec.") => {
            vec!["\"two words\"", "\"offline_access\""]
        }
        "cel" | "when" => {
            vec!["\"args.x ==\"", "\"no_such_name\"", "\"args.x.no_such_function()\""]
        }
        "prefixMode" => vec!["\"never\""],
        "excludeRegex" | "includeRegex" if is_item => vec!["\"(\"", "\"(?=a)\""],
        "tool" if !parent.is_empty() && !keys.starts_with("spec.") => vec!["\" space\""],
        "uri" => vec!["\"file:///{a}\""],
        "method" => vec!["\"two words\""],
        "maxJsonDepth" | "conditionCost" => vec!["0", "\"ten\""],
        _ => Vec::new(),
    }
}

/// A kind of mistake to make at a place of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    /// Another value replaces the value.
    Value(&'static str),
    /// The value has a tag.
    Tag,
    /// The key is misspelled.
    Key,
    /// The key and its value are there twice.
    Repeated,
    /// The mapping has an unknown key.
    Unknown,
    /// The mapping has a key that is not a scalar.
    NotAWord,
}

/// Returns true for parts that the test must not change: nobody reads them, or any value is valid.
fn is_free(keys: &str) -> bool {
    let objects = ["scopeHierarchy.", ".claims.", ".arguments.", ".params.", ".meta.", ".headers."];
    ["apiVersion", "kind", "metadata"].contains(&keys)
        || objects.iter().any(|object| keys.contains(object))
        || keys.contains("attributes.")
}

/// Collects all mistakes that a document can have.
fn possible(keys: &str, value: &Value, found: &mut Vec<(String, Mistake)>) {
    let mut add = |mistake| found.push((keys.to_owned(), mistake));
    if !keys.is_empty() && !is_free(keys) {
        let of_other_type: &[&str] = match value {
            Value::Array(_) => &["\"text\"", "null", "{}"],
            Value::Object(_) => &["\"text\"", "null", "[]"],
            _ => &["[]", "null", "{}"],
        };
        // `expect.rule` may be null, which means that no rule decides. An `MCPRoute` treats null as
        // omitted.
        let may_be_null =
            keys.ends_with("expect.rule") || (keys.starts_with("spec.") && !keys.ends_with(']'));
        let is_mistake = |value: &&&str| **value != "null" || !may_be_null;
        let of_other_type = of_other_type.iter().filter(is_mistake);
        of_other_type.for_each(|value| add(Mistake::Value(value)));
        wrong_values(keys).into_iter().for_each(|value| add(Mistake::Value(value)));
        add(Mistake::Tag);
        // The metadata of a Kubernetes object have many other keys.
        if !keys.ends_with(']') && !keys.starts_with("metadata.") {
            add(Mistake::Key);
            add(Mistake::Repeated);
        }
    }
    let is_object = is_free(&format!("{keys}.")) || keys.ends_with("metadata");
    if value.is_object() && !is_object {
        add(Mistake::Unknown);
        add(Mistake::NotAWord);
    }
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                possible(&format!("{keys}[{index}]"), item, found);
            }
        }
        Value::Object(members) => {
            for (key, value) in members {
                let keys = if keys.is_empty() { key.clone() } else { format!("{keys}.{key}") };
                possible(&keys, value, found);
            }
        }
        _ => {}
    }
}

/// A document with mistakes. Each key and each value is on a line of its own.
#[derive(Default)]
struct Written {
    text: String,
    line: usize,
    /// The lines that have mistakes.
    wrong: BTreeSet<usize>,
}

impl Written {
    fn line(&mut self, text: &str, is_wrong: bool) {
        self.line += 1;
        self.text.push_str(text);
        self.text.push('\n');
        if is_wrong {
            self.wrong.insert(self.line);
        }
    }

    fn value(&mut self, keys: &str, value: &Value, mistakes: &BTreeMap<String, Mistake>) {
        let mistake = mistakes.get(keys);
        let tag = if mistake == Some(&Mistake::Tag) { "!tag " } else { "" };
        if let Some(Mistake::Value(wrong)) = mistake {
            return self.line(wrong, true);
        }
        match value {
            Value::Array(items) => {
                self.line(&format!("{tag}["), !tag.is_empty());
                for (index, item) in items.iter().enumerate() {
                    self.value(&format!("{keys}[{index}]"), item, mistakes);
                    self.line(",", false);
                }
                self.line("]", false);
            }
            Value::Object(members) => {
                self.line(&format!("{tag}{{"), !tag.is_empty());
                match mistake {
                    Some(Mistake::Unknown) => self.line("\"zzzzzzzz\": 1,", true),
                    Some(Mistake::NotAWord) => self.line("[1]: 1,", true),
                    _ => {}
                }
                for (key, value) in members {
                    let keys = if keys.is_empty() { key.clone() } else { format!("{keys}.{key}") };
                    let own = mistakes.get(&keys);
                    let written = if own == Some(&Mistake::Key) { "x" } else { "" };
                    self.line(&format!("\"{key}{written}\":"), own == Some(&Mistake::Key));
                    self.value(&keys, value, mistakes);
                    self.line(",", false);
                    if own == Some(&Mistake::Repeated) {
                        self.line(&format!("\"{key}\":"), true);
                        self.value(&keys, value, &BTreeMap::new());
                        self.line(",", false);
                    }
                }
                self.line("}", false);
            }
            scalar => self.line(&format!("{tag}{scalar}"), !tag.is_empty()),
        }
    }
}

/// Reads a document: a policy file, an `MCPRoute` or a file of tests.
fn findings(text: &str) -> Vec<Diagnostic> {
    if text.contains("\"tests") {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.test.yaml");
        std::fs::write(&file, text).unwrap();
        let loaded = crate::suite::load(&file);
        return loaded.err().map(|LoadError(findings)| findings).unwrap_or_default();
    }
    let source = Source { file: Path::new("policy").into(), text: text.to_owned() };
    gate((vec![Ok(source)], String::new()), LintMode::Everything).1
}

/// Returns the warnings among findings, each with its code and keys.
fn warnings(findings: &[Diagnostic]) -> BTreeSet<(&'static str, String)> {
    let warning = |finding: &Diagnostic| Some((finding.lint?.as_str(), finding.keys.clone()));
    findings.iter().filter_map(warning).collect()
}

/// Makes those mistakes that are not within another, and compares the findings with them.
fn check<'m>(
    document: &Value,
    picked: impl IntoIterator<Item = &'m (String, Mistake)>,
) -> Result<(), TestCaseError> {
    let mut mistakes: BTreeMap<String, Mistake> = BTreeMap::new();
    for (keys, mistake) in picked {
        let within = |outer: &str, inner: &str| {
            let rest = inner.strip_prefix(outer);
            rest.is_some_and(|rest| {
                rest.is_empty() || outer.is_empty() || rest.starts_with(['.', '['])
            })
        };
        let adds = |mistake: &Mistake| matches!(mistake, Mistake::Unknown | Mistake::NotAWord);
        let clashes = |(other, made): (&String, &Mistake)| {
            other == keys
                || (within(other, keys) && !adds(made))
                || (within(keys, other) && !adds(mistake))
        };
        if !mistakes.iter().any(clashes) {
            mistakes.insert(keys.clone(), *mistake);
        }
    }
    let mut written = Written::default();
    written.value("", document, &mistakes);
    let found = findings(&written.text);
    let errors = found.iter().filter(|finding| finding.severity == Severity::Error);
    let lines: Vec<usize> = errors.map(|error| error.place.map_or(0, |place| place.line)).collect();
    let expected: Vec<usize> = written.wrong.iter().copied().collect();
    prop_assert_eq!(lines, expected, "{:?}\n{:#?}", &mistakes, &found);

    let mut good = Written::default();
    good.value("", document, &BTreeMap::new());
    let before = warnings(&findings(&good.text));
    let misspelled = mistakes.iter().filter(|(_, mistake)| **mistake == Mistake::Key);
    let renamed: Vec<String> = misspelled.map(|(keys, _)| format!("{keys}x")).collect();
    for (code, keys) in warnings(&found) {
        let mut as_meant = keys.clone();
        for misspelled in &renamed {
            if let Some(rest) = keys.strip_prefix(misspelled) {
                as_meant = format!("{}{rest}", misspelled.trim_end_matches('x'));
            }
        }
        let is_known = before.contains(&(code, as_meant));
        prop_assert!(is_known, "{code} {keys}: {:?}\n{:#?}", &mistakes, &found);
    }
    Ok(())
}

fn check_some(text: &str, picks: &[Index]) -> Result<(), TestCaseError> {
    let document = document(text);
    let mut all = Vec::new();
    possible("", &document, &mut all);
    check(&document, picks.iter().map(|pick| pick.get(&all)))
}

fn document(text: &str) -> Value {
    let mut problems = Diagnostics::new(Path::new("policy").into());
    let documents = yaml::parse(text, &mut problems);
    decode::json(&documents.nodes[0])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn native_mistakes_are_reported_exactly(picks in vec(any::<Index>(), 1..9)) {
        check_some(NATIVE, &picks)?;
    }

    #[test]
    fn suite_mistakes_are_reported_exactly(picks in vec(any::<Index>(), 1..6)) {
        check_some(SUITE, &picks)?;
    }

    #[test]
    fn route_mistakes_are_reported_exactly(picks in vec(any::<Index>(), 1..6)) {
        check_some(MCP_ROUTE, &picks)?;
    }
}

/// Tests each mistake alone, so that every run covers all of them.
#[test]
fn every_single_mistake_is_reported() {
    for text in [NATIVE, MCP_ROUTE, SUITE] {
        let document = document(text);
        let mut all = Vec::new();
        possible("", &document, &mut all);
        assert!(all.len() > 200, "{}", all.len());
        check(&document, []).unwrap();
        for mistake in &all {
            check(&document, [mistake]).unwrap();
        }
    }
}
