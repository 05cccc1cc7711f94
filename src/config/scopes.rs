//! Scopes, where a file names some.

use std::collections::HashSet;

use super::Spot;
use super::decode::Item;
use super::problem::Problems;
use crate::policy::{ScopeTable, is_scope_token};

/// Scopes go into headers.
const LONGEST_SCOPE_BYTES: usize = 256;

/// Broader scopes with the narrower ones that they imply.
pub(super) fn scope_hierarchy(item: &Item<'_>, problems: &mut Problems) -> ScopeTable {
    /// What each implies is a set of all: far more than anyone has.
    const MOST_SCOPES: usize = 10_000;

    let entries = item.entries(problems).unwrap_or_default();
    let mut pairs = Vec::new();
    let mut count = 0;
    for (key, narrower) in &entries {
        if !is_scope_token(&key.name) {
            problems.add(key.place, &item.path, not_a_scope(&key.name));
        }
        let (narrower, _) = scopes(narrower, problems);
        count += 1 + narrower.len();
        pairs.push((key.name.clone(), narrower));
    }
    if count > MOST_SCOPES {
        item.problem(problems, format!("more than {MOST_SCOPES} scopes"));
        return ScopeTable::default();
    }
    ScopeTable::with_hierarchy(&pairs).unwrap_or_else(|cycle| {
        let way = cycle.scopes.join("` implies `");
        item.problem(problems, format!("a scope implies itself: `{way}`"));
        ScopeTable::default()
    })
}

fn not_a_scope(text: &str) -> String {
    format!(
        "`{text}` is not a scope: one word of printable ASCII without quotes and backslashes \
         (RFC 6749, section 3.3)"
    )
}

/// A list of scope-tokens, with where each stands.
pub(super) fn scopes(item: &Item<'_>, problems: &mut Problems) -> (Vec<String>, Vec<Spot>) {
    let items = item.strings(problems).unwrap_or_default();
    let mut seen = HashSet::new();
    for item in &items {
        let text = item.as_text();
        if !is_scope_token(text) {
            item.problem(problems, not_a_scope(text));
        }
        if text.len() > LONGEST_SCOPE_BYTES {
            let message = format!("a scope is at most {LONGEST_SCOPE_BYTES} bytes long");
            item.problem(problems, message);
        }
        if text == "offline_access" {
            let message = "`offline_access` asks for a refresh token and permits nothing; it is \
                           never part of a challenge";
            item.problem(problems, message);
        }
        if !seen.insert(text) {
            item.problem(problems, format!("the scope `{text}` stands here twice"));
        }
    }
    items.iter().map(|item| (item.as_text().to_owned(), Spot::from(item))).unzip()
}
