//! The rules of a policy.

use super::decode::{Item, Problems};
use super::problem::Place;
use super::{ACTIONS, scopes};
use crate::claims::Claims;
use crate::policy::{
    BackendFrom, ClaimType, Condition, RequiredClaim, RequiredScopes, Rule, Rules, ScopeTable,
    Target, ToolPattern,
};

/// Reads the rules of a policy whose backends are told by `backend_from`, which
/// is `None` if that was a mistake.
pub(super) fn rules(
    item: &Item<'_>,
    backend_from: Option<&BackendFrom>,
    table: &mut ScopeTable,
    problems: &mut Problems,
) -> Option<Rules> {
    // Every rule is read before the first that failed ends it all.
    let items = item.items(problems)?;
    let rules: Vec<Option<Rule>> =
        items.iter().map(|item| rule(item, backend_from, table, problems)).collect();
    rules.into_iter().collect::<Option<Vec<_>>>().map(Rules::new)
}

fn rule(
    item: &Item<'_>,
    backend_from: Option<&BackendFrom>,
    table: &mut ScopeTable,
    problems: &mut Problems,
) -> Option<Rule> {
    let fields = item.fields(&["name", "action", "source", "target", "cel"], problems)?;
    let name = fields.get("name").and_then(|item| item.string(problems));
    let action = fields.required("action", problems).and_then(|item| item.word(&ACTIONS, problems));
    let (scopes, claims) = match fields.get("source") {
        Some(source) => source_of(&source, problems),
        None => (Vec::new(), Vec::new()),
    };
    let targets = fields.get("target").map(|target| targets(&target, backend_from, problems));
    let cel = fields.get("cel").map(|item| condition(&item, problems));
    Some(Rule {
        name,
        action: action?,
        scopes: RequiredScopes::new(scopes, table),
        claims,
        // What is not valid must not become nothing.
        targets: match targets {
            Some(targets) => Some(targets?),
            None => None,
        },
        cel: match cel {
            Some(cel) => Some(cel?),
            None => None,
        },
    })
}

/// The scopes and claims that a caller must have.
fn source_of(item: &Item<'_>, problems: &mut Problems) -> (Vec<String>, Vec<RequiredClaim>) {
    let jwt = item.fields(&["jwt"], problems).and_then(|source| source.required("jwt", problems));
    let Some(jwt) = jwt else { return (Vec::new(), Vec::new()) };
    let Some(fields) = jwt.fields(&["scopes", "claims"], problems) else {
        return (Vec::new(), Vec::new());
    };
    let scope_list = fields.get("scopes").map(|item| scopes(&item, problems));
    let claim_list = fields.get("claims").map(|item| claims(&item, problems));
    if scope_list.is_none() && claim_list.is_none() {
        jwt.problem(problems, "expected `scopes`, `claims` or both");
    }
    (scope_list.unwrap_or_default(), claim_list.unwrap_or_default())
}

fn claims(item: &Item<'_>, problems: &mut Problems) -> Vec<RequiredClaim> {
    let items = item.items(problems).unwrap_or_default();
    items.iter().filter_map(|item| claim(item, problems)).collect()
}

fn claim(item: &Item<'_>, problems: &mut Problems) -> Option<RequiredClaim> {
    const TYPES: [(&str, ClaimType); 2] =
        [("String", ClaimType::String), ("StringArray", ClaimType::StringArray)];

    let fields = item.fields(&["name", "valueType", "values"], problems)?;
    let name_item = fields.required("name", problems);
    let name = name_item.as_ref().and_then(|item| item.string(problems));
    if let (Some(item), Some(name)) = (&name_item, &name)
        && Claims::SCOPE_CLAIMS.contains(&name.as_str())
    {
        item.problem(problems, format!("`{name}` holds scopes: require them with `scopes`"));
    }
    let value_type =
        fields.required("valueType", problems).and_then(|item| item.word(&TYPES, problems));
    let values = fields
        .required("values", problems)
        .and_then(|item| item.strings(problems))
        .map(|items| items.iter().map(|item| item.as_text().to_owned()).collect::<Vec<String>>());
    Some(RequiredClaim { name: name?, value_type: value_type?, values: values? })
}

fn targets(
    item: &Item<'_>,
    backend_from: Option<&BackendFrom>,
    problems: &mut Problems,
) -> Option<Vec<Target>> {
    let fields = item.fields(&["tools"], problems)?;
    let items = fields.required("tools", problems)?.items(problems)?;
    let targets: Vec<Option<Target>> =
        items.iter().map(|item| target(item, backend_from, problems)).collect();
    targets.into_iter().collect()
}

fn target(
    item: &Item<'_>,
    backend_from: Option<&BackendFrom>,
    problems: &mut Problems,
) -> Option<Target> {
    let fields = item.fields(&["backend", "tool", "toolName", "when"], problems)?;
    let tool_item = match (fields.get("tool"), fields.get("toolName")) {
        (Some(tool), None) | (None, Some(tool)) => Some(tool),
        (Some(_), Some(second)) => {
            second.problem(problems, "`toolName` is another word for `tool`: give one of them");
            None
        }
        (None, None) => {
            let message = "the key `tool` is missing (`*` means every tool)";
            problems.add(fields.place(), &item.path, message);
            None
        }
    };
    let backend_item = fields.get("backend");
    let tool = tool_item.as_ref().and_then(|item| item.string(problems));
    let backend = backend_item.as_ref().map(|item| item.string(problems));
    let when = fields.get("when").map(|item| condition(&item, problems));

    if let (Some(item), Some(tool)) = (&tool_item, &tool) {
        let prefixed = backend_item.is_none().then_some(backend_from).flatten();
        if let Some(mistake) = tool_mistake(tool, prefixed) {
            item.problem(problems, mistake);
        }
    }
    if let (Some(item), Some(Some(backend)), Some(from)) = (&backend_item, &backend, backend_from)
        && let Some(mistake) = backend_mistake(backend, from)
    {
        item.problem(problems, mistake);
    }
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

/// Why a tool's name can match no call, if it cannot. `prefixed` tells backends
/// if the target names none.
fn tool_mistake(tool: &str, prefixed: Option<&BackendFrom>) -> Option<String> {
    if tool.trim() != tool || tool.contains(char::is_control) {
        return Some(format!(
            "`{}` never matches: it has spaces around it or control characters",
            tool.escape_debug()
        ));
    }
    let Some(BackendFrom::ToolNamePrefix(separator)) = prefixed else { return None };
    let (backend, rest) = tool.split_once(separator)?;
    let names_both = !backend.is_empty() && !backend.contains('*') && !rest.is_empty();
    names_both.then(|| {
        format!(
            "`{tool}` has a backend's name in front, and the tool's name is what follows it: write \
             `backend: {backend}, tool: {rest}`"
        )
    })
}

/// Why a backend can match no call, if it cannot.
fn backend_mistake(backend: &str, from: &BackendFrom) -> Option<String> {
    if backend.contains('*') {
        return Some(format!(
            "`{backend}`: a backend is named in full; leave `backend` out to mean all of them"
        ));
    }
    match from {
        BackendFrom::Name(only) if only != backend => Some(format!(
            "`{backend}` never matches: the policy says that every tool is of the backend `{only}`"
        )),
        BackendFrom::ToolNamePrefix(separator) if backend.contains(separator.as_str()) => {
            Some(format!(
                "`{backend}` never matches: a backend's name ends before the first `{separator}`"
            ))
        }
        _ => None,
    }
}

fn condition(item: &Item<'_>, problems: &mut Problems) -> Option<Condition> {
    let scalar = item.text(problems)?;
    let source = scalar.text.as_str();
    match Condition::compile(source) {
        Ok(condition) => Some(condition),
        Err(errors) => {
            for error in errors {
                let before = source.get(..error.offset).unwrap_or(source);
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
