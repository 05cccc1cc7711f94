//! Deny rules against NFKC_Casefold as Python's Unicode tables have it.

use std::process::Command;

use mcp_authz::config;
use mcp_authz::head::Head;
use serde_json::{Value, json};

/// Prints each character that NFKC_Casefold changes, with the result (The Unicode Standard,
/// section 3.13, D142: fold, normalize, fold, normalize, without what is ignorable).
const PYTHON: &str = r#"
import json, sys, unicodedata as u

def ignorable(c):
    ranges = [(0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5),
              (0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F),
              (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0),
              (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)]
    return any(low <= ord(c) <= high for low, high in ranges)

def fold(text):
    text = u.normalize("NFD", text)
    for _ in range(2):
        text = u.normalize("NFKC", text.casefold())
        text = "".join(c for c in text if not ignorable(c))
    return text

pairs = []
for code in range(0x80, 0x110000):
    c = chr(code)
    if 0xD800 <= code < 0xE000 or u.category(c) in ("Cc", "Cn", "Co"):
        continue
    folded = fold("x" + c + "y")
    if folded != "x" + c + "y" and not any(u.category(c) == "Cc" for c in folded):
        pairs.append(["x" + c + "y", folded])
json.dump(pairs, sys.stdout)
"#;

fn pairs() -> Vec<(String, String)> {
    let output = Command::new("python3")
        .args(["-c", PYTHON])
        .output()
        .unwrap_or_else(|error| panic!("python3 is needed for its Unicode tables: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn deny_rule_meets_every_folded_spelling() {
    let pairs = pairs();
    assert!(pairs.len() > 5_000, "too few characters are folded: {}", pairs.len());
    let deny = |(_, folded): &(String, String)| json!({"action": "Deny", "target": {"tools": [{"tool": folded}]}});
    let rules: Vec<Value> = pairs.iter().map(deny).collect();
    let policy =
        json!({"name": "p", "defaultAction": "Allow", "backend": {"name": "b"}, "rules": rules});
    let gate = config::parse(&json!({"policies": [policy]}).to_string()).unwrap();
    let is_allowed = |tool: &str| {
        let admitted = gate
            .admit(Head { has_body: true, ..Head::default() }.with_usual_headers(), None)
            .unwrap();
        let params = json!({"name": tool});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        gate.authorize(&admitted, body.to_string().as_bytes()).answer.is_ok()
    };
    assert!(is_allowed("xy_other"));
    let evading: Vec<&String> = pairs
        .iter()
        .map(|(spelling, _)| spelling)
        .filter(|spelling| is_allowed(spelling))
        .collect();
    assert!(evading.is_empty(), "{} spellings evade: {evading:?}", evading.len());
}
