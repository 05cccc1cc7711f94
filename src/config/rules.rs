//! The rules of a policy.

use super::decode::{Item, Problems};
use super::problem::Place;
use super::{ACTIONS, scopes};
use crate::policy::{Condition, RequiredScopes, Rule, ScopeTable, Target, ToolPattern, When};

pub(super) fn rules(
    item: &Item<'_>,
    table: &mut ScopeTable,
    problems: &mut Problems,
) -> Option<Vec<Rule>> {
    // Every rule is read before the first that failed ends it all.
    let rules: Vec<Option<Rule>> =
        item.items(problems)?.iter().map(|item| rule(item, table, problems)).collect();
    rules.into_iter().collect()
}

fn rule(item: &Item<'_>, table: &mut ScopeTable, problems: &mut Problems) -> Option<Rule> {
    let fields = item.fields(&["name", "action", "source", "target"], problems)?;
    let name = fields.get("name").and_then(|item| item.string(problems));
    let action = fields.required("action", problems).and_then(|item| item.word(&ACTIONS, problems));
    let required = match fields.get("source") {
        Some(source) => source_scopes(&source, problems),
        None => Vec::new(),
    };
    let targets = match fields.get("target") {
        Some(target) => Some(targets(&target, problems)?),
        None => None,
    };
    Some(Rule { name, action: action?, scopes: RequiredScopes::new(required, table), targets })
}

fn source_scopes(item: &Item<'_>, problems: &mut Problems) -> Vec<String> {
    let jwt = item
        .fields(&["jwt"], problems)
        .and_then(|source| source.required("jwt", problems))
        .and_then(|jwt| jwt.fields(&["scopes"], problems))
        .and_then(|jwt| jwt.required("scopes", problems));
    jwt.map(|item| scopes(&item, problems)).unwrap_or_default()
}

fn targets(item: &Item<'_>, problems: &mut Problems) -> Option<Vec<Target>> {
    let fields = item.fields(&["tools"], problems)?;
    let items = fields.required("tools", problems)?.items(problems)?;
    let targets: Vec<Option<Target>> = items.iter().map(|item| target(item, problems)).collect();
    targets.into_iter().collect()
}

fn target(item: &Item<'_>, problems: &mut Problems) -> Option<Target> {
    let fields = item.fields(&["backend", "tool", "toolName", "when"], problems)?;
    let backend = fields.get("backend").map(|item| item.string(problems));
    let tool = match (fields.get("tool"), fields.get("toolName")) {
        (Some(tool), None) | (None, Some(tool)) => tool.string(problems),
        (Some(_), Some(second)) => {
            second.problem(problems, "`toolName` is another word for `tool`: give one of them");
            None
        }
        (None, None) => {
            problems.add(
                fields.place(),
                &item.path,
                "the key `tool` is missing (`*` means every tool)",
            );
            None
        }
    };
    let when = fields.get("when").map(|item| when(&item, problems));
    Some(Target {
        backend: backend.unwrap_or_default(),
        tool: ToolPattern::new(tool?),
        // A condition that is not valid must not become none.
        when: match when {
            Some(when) => Some(when?),
            None => None,
        },
    })
}

fn when(item: &Item<'_>, problems: &mut Problems) -> Option<When> {
    let scalar = item.text(problems)?;
    let source = scalar.text.clone();
    match Condition::compile(&source) {
        Ok(condition) => Some(When { source, condition }),
        Err(errors) => {
            for error in errors {
                let before = source.get(..error.offset).unwrap_or(&source);
                let (place, prefix) = match scalar.text_starts {
                    Some(Place { line, column }) => {
                        (Place { line, column: column + before.chars().count() }, String::new())
                    }
                    None => (item.place(), position(before)),
                };
                problems.add(place, &item.path, format!("{prefix}{}", error.message));
            }
            None
        }
    }
}

/// A place within a text that does not stand in the file as it is.
fn position(before: &str) -> String {
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column} of the condition: ")
}
