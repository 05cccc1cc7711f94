//! The tools and prompts of a backend that an `MCPRoute` exposes.

use super::{key, shape};
use crate::config::decode::{Item, MappingRef, one_of};
use crate::config::problem::{Diagnostics, Lint};
use crate::config::shape::MappingSchema;
use crate::config::targets::route_name_doubt;
use crate::policy::{NameSelector, Names, Pattern};

const KEYS: [&str; 4] = ["include", "includeRegex", "exclude", "excludeRegex"];
static SELECTOR: MappingSchema = shape(&[key(KEYS[0]), key(KEYS[1]), key(KEYS[2]), key(KEYS[3])]);

/// Reads a selector of tools or prompts.
pub(super) fn selector(item: &Item<'_>, problems: &mut Diagnostics) -> Option<NameSelector> {
    let fields = item.fields_or_null(&SELECTOR, problems)?;
    if KEYS.iter().all(|key| fields.get(key).is_none()) && !fields.has_unclear_key() {
        item.problem(problems, format!("expected {}", one_of(&KEYS)));
    }
    let include = names(&fields, ("include", "includeRegex"), problems);
    let exclude = names(&fields, ("exclude", "excludeRegex"), problems);
    Some(NameSelector { include, exclude })
}

/// Reads a list of names or of patterns. Returns `None` if both lists are empty or missing.
fn names(
    fields: &MappingRef<'_>,
    (key, pattern_key): (&str, &str),
    problems: &mut Diagnostics,
) -> Option<Names> {
    let (list, patterns) = (fields.get(key), fields.get(pattern_key));
    if let (Some(_), Some(item)) = (&list, &patterns) {
        let message = format!("`{key}` and `{pattern_key}` exclude each other: give one of them");
        item.problem(problems, message);
    }
    for item in [&list, &patterns].into_iter().flatten().filter(|item| item.is_empty_list()) {
        let message = "an empty list counts as left out: name one, or remove the key";
        item.lint(Lint::NoEffect, problems, message);
    }
    let names = list.and_then(|item| item.any_strings(problems)).unwrap_or_default();
    for (name, item) in &names {
        if let Some(doubt) = route_name_doubt(name, &format!("use `{pattern_key}` for a pattern")) {
            item.lint(Lint::NoEffect, problems, doubt);
        }
    }
    let mut compiled = Vec::new();
    for (source, item) in patterns.and_then(|item| item.any_strings(problems)).unwrap_or_default() {
        match Pattern::compile(&source) {
            Ok(pattern) => compiled.push(pattern),
            Err(why) => {
                let message = format!("`{source}` cannot be used: {why}");
                item.problem(problems, message);
            }
        }
    }
    match (names.is_empty(), compiled.is_empty()) {
        (false, _) => Some(Names::Exact(names.into_iter().map(|(name, _)| name).collect())),
        (true, false) => Some(Names::Patterns(compiled)),
        (true, true) => None,
    }
}
