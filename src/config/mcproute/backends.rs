//! The backends of an `MCPRoute`.

use std::collections::HashMap;

use super::left::Left;
use super::selectors::selector;
use super::{key, shape};
use crate::config::decode::{Item, MappingRef};
use crate::config::problem::{Diagnostics, Lint};
use crate::config::rules::RuleLocations;
use crate::config::settings::DEFAULT_SEPARATOR;
use crate::config::shape::MappingSchema;
use crate::config::targets::backend_mistake;
use crate::mcp::TargetKind;
use crate::policy::{BackendSource, Exposed, Names, RouteBackends, Rules, SharedName};

static BACKEND_REF: MappingSchema = shape(&[
    key("group"),
    key("kind"),
    key("name"),
    key("namespace"),
    key("port"),
    key("path"),
    key("prefixMode"),
    key("toolSelector"),
    key("promptSelector"),
    key("securityPolicy"),
    key("forwardHeaders"),
    key("headers"),
    key("backendTrafficPolicy"),
]);

/// The values of `prefixMode`. The bool is true if names need no prefix.
const PREFIX_MODES: [(&str, bool); 2] = [("Always", false), ("Never", true)];

/// The backends of a route.
#[derive(Default)]
pub(super) struct Backends {
    names: Vec<String>,
    pub(super) route: RouteBackends,
}

/// Returns the parts of `mcpRouteDefaults.backend`: the separator, and the way to find the backend
/// of a name without a prefix.
fn of_defaults(from: Option<&BackendSource>) -> (String, Option<BackendSource>) {
    let fallback = match from {
        Some(BackendSource::ToolNamePrefix(separator)) => return (separator.clone(), None),
        Some(BackendSource::Name(name)) => Some(BackendSource::Name(name.clone())),
        Some(BackendSource::Header(name)) => Some(BackendSource::Header(name.clone())),
        Some(BackendSource::Attribute(name)) => Some(BackendSource::Attribute(name.clone())),
        Some(BackendSource::Route(_)) | None => None,
    };
    (DEFAULT_SEPARATOR.to_owned(), fallback)
}

impl Backends {
    pub(super) fn read(
        spec: &MappingRef<'_>,
        default: Option<&BackendSource>,
        left: &mut Left,
        problems: &mut Diagnostics,
    ) -> Self {
        let (separator, fallback) = of_defaults(default);
        let mode = spec.get("prefixMode").and_then(|item| item.word(&PREFIX_MODES, problems));
        let list = spec.required("backendRefs", problems);
        let items = list.as_ref().and_then(|item| item.items(problems)).unwrap_or_default();
        let mut by_name: HashMap<String, &Item<'_>> = HashMap::new();
        let mut backends = Vec::new();
        let mut names = Vec::new();
        for item in &items {
            let Some(fields) = item.fields_or_null(&BACKEND_REF, problems) else { continue };
            let exposed = exposed(item, &fields, mode, problems);
            note_left(&fields, left);
            let name_item = fields.required("name", problems);
            let name = name_item.as_ref().and_then(|item| item.string(problems));
            let (Some(name_item), Some(name)) = (name_item, name) else { continue };
            if by_name.insert(name.clone(), item).is_some() {
                let message = format!(
                    "`{name}` is the name of another backend, too: give each a name of its own"
                );
                name_item.problem(problems, message);
                continue;
            }
            let from = BackendSource::ToolNamePrefix(separator.clone());
            if let Some(mistake) = backend_mistake((TargetKind::Tool, None), &name, &from) {
                name_item.lint(Lint::NoEffect, problems, mistake);
            }
            let prefix = format!("{name}{separator}");
            let mut listed: Vec<&str> = exposed.listed_names().collect();
            listed.sort_unstable();
            for bare in listed.iter().filter_map(|listed| listed.strip_prefix(&prefix)) {
                let message = format!(
                    "`{prefix}{bare}` in a selector is a tool of that whole name: a selector \
                     compares names without the prefix, so write `{bare}`"
                );
                item.lint(Lint::NoEffect, problems, message);
            }
            names.push(name.clone());
            backends.push((name, exposed));
        }
        if let (Some(BackendSource::Name(name)), Some(list)) = (&fallback, &list)
            && !names.contains(name)
        {
            let message = format!(
                "`backend.name` of `mcpRouteDefaults` is `{name}`, which is none of the \
                 backendRefs, so every call that names no backend is refused"
            );
            list.lint(Lint::UnknownBackend, problems, message);
        }
        match RouteBackends::new(separator, fallback, backends) {
            Ok(route) => Self { names, route },
            Err(shared) => {
                for SharedName { name, first, second } in shared {
                    let message = format!(
                        "`{name}` needs no prefix in `{first}` and in `{second}`, so a call for \
                         it could mean either: exclude it in one, or write `prefixMode: Always` \
                         there"
                    );
                    if let Some(item) = by_name.get(&second) {
                        item.problem(problems, message);
                    }
                }
                Self { names, route: RouteBackends::default() }
            }
        }
    }

    /// Warns of targets that no call of the route can match. Such a target names another backend,
    /// or a tool that a selector hides.
    pub(super) fn find_unreachable(
        &self,
        rules: &Rules,
        spots: &[RuleLocations],
        problems: &mut Diagnostics,
    ) {
        let targets = rules
            .iter()
            .zip(spots)
            .flat_map(|(rule, spots)| rule.targets.iter().flatten().zip(&spots.targets));
        for (target, spot) in targets {
            let Some(backend) = &target.backend else { continue };
            let tool = target.name.as_str();
            if !self.names.contains(backend) {
                let known = self.names.iter().map(String::as_str);
                let hint = crate::words::nearest(backend, known)
                    .map(|known| format!("; did you mean `{known}`?"))
                    .unwrap_or_default();
                let message =
                    format!("`{backend}` is none of the backendRefs, so no call matches{hint}");
                problems.lint(Lint::UnknownBackend, spot.place, &spot.keys, message);
            } else if !self.route.expose(backend, (TargetKind::Tool, tool)) {
                let message = format!(
                    "the `toolSelector` of `{backend}` hides `{tool}`, so no call matches: remove \
                     this target, or expose the tool"
                );
                problems.lint(Lint::NoEffect, spot.place, &spot.keys, message);
            }
        }
    }
}

fn note_left(fields: &MappingRef<'_>, left: &mut Left) {
    left.note(
        fields,
        &[
            ("port", "backendRefs[].port"),
            ("path", "backendRefs[].path"),
            ("securityPolicy", "backendRefs[].securityPolicy"),
            ("forwardHeaders", "backendRefs[].forwardHeaders"),
            ("headers", "backendRefs[].headers"),
            ("backendTrafficPolicy", "backendRefs[].backendTrafficPolicy"),
        ],
    );
}

/// Reads the part of `backendRefs` that says which tools and prompts of a backend the route
/// exposes.
fn exposed(
    item: &Item<'_>,
    fields: &MappingRef<'_>,
    route_mode: Option<bool>,
    problems: &mut Diagnostics,
) -> Exposed {
    let mode_item = fields.get("prefixMode");
    let mode = match &mode_item {
        Some(item) => item.word(&PREFIX_MODES, problems),
        None => route_mode,
    };
    let selector_item = fields.get("toolSelector");
    let (tools, is_bad_selector) = problems
        .checked(|problems| selector_item.as_ref().and_then(|item| selector(item, problems)));
    let prompts = fields.get("promptSelector").and_then(|item| selector(&item, problems));
    let bare_names = mode.unwrap_or_default();
    let include = tools.as_ref().and_then(|tools| tools.include.as_ref());
    if bare_names && !is_bad_selector && !matches!(include, Some(Names::Exact(_))) {
        let message = "`prefixMode: Never` needs the names of the tools without a prefix: list \
                       them in `toolSelector.include`, or write `prefixMode: Always` for this \
                       backend";
        mode_item.or(selector_item).as_ref().unwrap_or(item).problem(problems, message);
    }
    Exposed { bare_names, tools, prompts }
}
