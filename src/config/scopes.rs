//! The scopes that a file names.

use std::collections::HashSet;

use super::Location;
use super::decode::Item;
use super::problem::{Diagnostics, Lint};
use crate::policy::{HierarchyMistake, MOST_DERIVED, ScopeTable, is_scope_token};

/// The most bytes of a scope. Responses name scopes in headers.
const LONGEST_SCOPE_BYTES: usize = 256;

/// Reads the broader scopes with the narrower scopes that they imply.
pub(super) fn scope_hierarchy(item: &Item<'_>, problems: &mut Diagnostics) -> ScopeTable {
    /// The most scopes of a hierarchy. Each scope implies a set of all scopes, so the number must
    /// be bounded.
    const MOST_SCOPES: usize = 10_000;
    /// The most circles that one run reports.
    const MOST_CIRCLES: usize = 20;

    let entries = item.entries(problems).unwrap_or_default();
    let mut pairs = Vec::new();
    let mut count = 0;
    for (key, narrower) in &entries {
        if !is_scope_token(key.as_str()) {
            problems.add(key.place, &item.path, not_a_scope(key.as_str()));
        }
        let is_starred = key.as_str().contains('*');
        if let Some(mistake) = star_mistake(key.as_str(), Stars::Repeated { is_starred }) {
            problems.add(key.place, &item.path, mistake);
        }
        let (narrower, _) = scopes(narrower, Stars::Repeated { is_starred }, problems);
        count += 1 + narrower.len();
        pairs.push((key.as_str().to_owned(), narrower));
    }
    if count > MOST_SCOPES {
        item.problem(problems, format!("more than {MOST_SCOPES} scopes"));
        return ScopeTable::default();
    }
    // Each round removes the last step of one circle, so that the next round finds another circle.
    for _ in 0..MOST_CIRCLES {
        match ScopeTable::with_hierarchy(&pairs) {
            Ok(table) => return table,
            Err(HierarchyMistake::Circle { scopes }) => {
                let way = scopes.join("` implies `");
                let by_star = match way.contains('*') {
                    true => ", or could, by what `*` stands for",
                    false => "",
                };
                item.problem(problems, format!("a scope implies itself{by_star}: `{way}`"));
                if !remove_last_step(&scopes, &mut pairs) {
                    break;
                }
            }
            Err(HierarchyMistake::TooMany { scope }) => {
                let message = format!(
                    "`{scope}` can imply more than {MOST_DERIVED} scopes, by way of scopes with \
                     `*` that imply others with `*`: name narrower scopes in full"
                );
                item.problem(problems, message);
                break;
            }
        }
    }
    ScopeTable::default()
}

/// Removes the step that closes a circle. If a scope with a star matches that step, removes all
/// steps of the scope. Returns false if there is no such step.
fn remove_last_step(scopes: &[String], pairs: &mut [(String, Vec<String>)]) -> bool {
    let [.., from, to] = scopes else { return false };
    let mut is_removed = false;
    for (_, narrower) in pairs.iter_mut().filter(|(broader, _)| broader == from) {
        let before = narrower.len();
        match narrower.contains(to) {
            true => narrower.retain(|scope| scope != to),
            false => narrower.clear(),
        }
        is_removed |= narrower.len() < before;
    }
    is_removed
}

fn not_a_scope(text: &str) -> String {
    format!(
        "`{text}` is not a scope: one word of printable ASCII without quotes and backslashes \
         (RFC 6749, section 3.3)"
    )
}

/// The meaning of `*` in a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stars {
    /// A mistake: a rule names each scope in full.
    Refused,
    /// The characters that the star of the broader scope matches. `is_starred` is true if the
    /// broader scope has a star.
    Repeated { is_starred: bool },
}

/// Returns the mistake in the stars of a scope, if there is one.
fn star_mistake(scope: &str, stars: Stars) -> Option<String> {
    let count = scope.matches('*').count();
    match stars {
        _ if count == 0 => None,
        Stars::Refused => Some(format!(
            "`{scope}`: scopes are named in full here; to grant many by one, name one scope here \
             and let `scopeHierarchy` say which others imply it, as in `\"{scope}\": [SCOPE]`"
        )),
        Stars::Repeated { .. } if count > 1 => {
            Some(format!("`{scope}` has more than one `*`: write one"))
        }
        Stars::Repeated { is_starred: true } => None,
        Stars::Repeated { is_starred: false } => Some(format!(
            "`{scope}`: `*` repeats what it stands for in the broader scope, which has none"
        )),
    }
}

fn scope_mistakes(scope: &str, stars: Stars) -> Vec<String> {
    let too_long = || format!("a scope is at most {LONGEST_SCOPE_BYTES} bytes long");
    let refresh = || {
        "`offline_access` asks for a refresh token and permits nothing; it is never part of a \
         challenge"
            .to_owned()
    };
    let mistakes = [
        (!is_scope_token(scope)).then(|| not_a_scope(scope)),
        star_mistake(scope, stars),
        (scope.len() > LONGEST_SCOPE_BYTES).then(too_long),
        (scope == "offline_access").then(refresh),
    ];
    mistakes.into_iter().flatten().collect()
}

/// Reads the scopes that a rule of an `MCPRoute` requires. Accepts any strings and removes
/// duplicates.
pub(super) fn route_scopes(
    item: &Item<'_>,
    problems: &mut Diagnostics,
) -> (Vec<String>, Vec<Location>) {
    let items = item.strings(problems).unwrap_or_default();
    let mut seen = HashSet::new();
    let mut scopes = Vec::new();
    for item in &items {
        let scope = item.as_text();
        if !seen.insert(scope) {
            let message = format!("the scope `{scope}` stands here already: remove it");
            item.lint(Lint::NoEffect, problems, message);
            continue;
        }
        if scope.len() > LONGEST_SCOPE_BYTES {
            let message = format!("a scope is at most {LONGEST_SCOPE_BYTES} bytes long");
            item.problem(problems, message);
        }
        if !is_scope_token(scope) {
            let message =
                format!("{}, so no challenge names it{}", not_a_scope(scope), split_hint(scope));
            item.lint(Lint::UnusualScope, problems, message);
        }
        scopes.push((scope.to_owned(), Location::from(item)));
    }
    scopes.into_iter().unzip()
}

/// Reads the scopes that an `MCPRoute` supports. Leaves out those that no challenge can name.
pub(super) fn supported_scopes(item: &Item<'_>, problems: &mut Diagnostics) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut scopes = Vec::new();
    for (scope, item) in item.any_strings(problems).unwrap_or_default() {
        let doubt = match scope.as_str() {
            "offline_access" => Some(
                "`offline_access` asks for a refresh token and permits nothing (MCP \
                 authorization)"
                    .to_owned(),
            ),
            scope if scope.len() > LONGEST_SCOPE_BYTES => {
                Some(format!("a scope of more than {LONGEST_SCOPE_BYTES} bytes is too long"))
            }
            scope => (!is_scope_token(scope)).then(|| not_a_scope(scope)),
        };
        match doubt {
            Some(doubt) => {
                let hint = split_hint(&scope);
                let message = format!("{doubt}, so no challenge names it{hint}");
                item.lint(Lint::UnusualScope, problems, message);
            }
            None if seen.insert(scope.clone()) => scopes.push(scope),
            None => {
                let message = format!("the scope `{scope}` stands here already: remove it");
                item.lint(Lint::NoEffect, problems, message);
            }
        }
    }
    scopes
}

fn split_hint(scope: &str) -> &'static str {
    match scope.trim().contains(' ') {
        true => "; write each scope as an item of the list",
        false => "",
    }
}

/// Reads a list of scope-tokens with the place of each.
pub(super) fn scopes(
    item: &Item<'_>,
    stars: Stars,
    problems: &mut Diagnostics,
) -> (Vec<String>, Vec<Location>) {
    let items = item.strings(problems).unwrap_or_default();
    let mut seen = HashSet::new();
    for item in &items {
        let text = item.as_text();
        let mistakes = scope_mistakes(text, stars);
        // A repeated scope with a mistake gets one message for each place, because each needs a
        // fix.
        if mistakes.is_empty() && !seen.insert(text) {
            item.problem(problems, format!("the scope `{text}` stands here twice"));
        }
        mistakes.into_iter().for_each(|mistake| item.problem(problems, mistake));
    }
    items.iter().map(|item| (item.as_text().to_owned(), Location::from(item))).unzip()
}
