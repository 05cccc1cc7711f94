//! The methods of MCP that a client can send, in all versions of the specification.

use super::call::TargetKind;
use crate::json::fold_eq;

/// The method that calls a tool.
pub const TOOLS_CALL: &str = "tools/call";
/// The prefix of the methods of tasks.
const TASKS: &str = "tasks/";
/// The prefix of the methods of notifications.
pub(super) const NOTIFICATIONS: &str = "notifications/";
/// The methods of requests that MCP 2026-07-28 removed ("Key Changes", 2, 4 and 5).
const REMOVED: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];
const RESOURCES_READ: &str = "resources/read";

/// The target of a method, and the parameter that names the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MethodKind {
    /// The tool `params.name`.
    Tool,
    /// The prompt `params.name`.
    Prompt,
    /// The resource `params.uri`.
    Resource,
    /// A completion for the prompt or the resources of `params.ref`.
    Completion,
    /// Notifications about the resources `params.notifications.resourceSubscriptions` and the tasks
    /// `params.notifications.taskIds`.
    Notifications,
    /// The state or result of the task `params.taskId`, or the list of all tasks.
    Task,
    /// A list of the tools, prompts, resources or templates that the server has.
    List(ListKind),
    /// No target that a parameter names.
    Nothing,
}

/// A list that a server returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
    /// The list of resources.
    Resources,
    /// The list of URI templates of resources.
    ResourceTemplates,
}

impl ListKind {
    /// All lists.
    pub const ALL: [Self; 4] =
        [Self::Tools, Self::Prompts, Self::Resources, Self::ResourceTemplates];

    /// Returns the list that a method requests.
    pub fn of_method(method: &str) -> Option<Self> {
        match asks(method) {
            Some(MethodKind::List(listing)) => Some(listing),
            _ => None,
        }
    }

    /// Returns the method that requests the list.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::ResourceTemplates => "resources/templates/list",
        }
    }

    /// Returns the feature of the list's entries.
    pub fn feature(self) -> TargetKind {
        match self {
            Self::Tools => TargetKind::Tool,
            Self::Prompts => TargetKind::Prompt,
            Self::Resources => TargetKind::Resource,
            Self::ResourceTemplates => TargetKind::ResourceTemplate,
        }
    }

    /// Returns the member of `result` that holds the list, and the member of an entry that names
    /// the entry.
    pub(super) fn keys(self) -> (&'static str, &'static str) {
        match self {
            Self::Tools => ("tools", "name"),
            Self::Prompts => ("prompts", "name"),
            Self::Resources => ("resources", "uri"),
            Self::ResourceTemplates => ("resourceTemplates", "uriTemplate"),
        }
    }
}

/// The features, beside tools, that rules decide about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppliesTo {
    /// True if rules decide about prompts.
    pub prompts: bool,
    /// True if rules decide about resources.
    pub resources: bool,
    /// True if rules decide about every method that is not decided as a tool, prompt or resource.
    pub methods: bool,
}

impl AppliesTo {
    /// Returns true if rules decide about this feature.
    pub fn includes(self, feature: TargetKind) -> bool {
        match feature {
            TargetKind::Tool => true,
            TargetKind::Prompt => self.prompts,
            TargetKind::Resource | TargetKind::ResourceTemplate => self.resources,
            TargetKind::Method => self.methods,
        }
    }
}

const KNOWN: [(&str, MethodKind); 25] = [
    ("prompts/get", MethodKind::Prompt),
    (RESOURCES_READ, MethodKind::Resource),
    ("resources/subscribe", MethodKind::Resource),
    ("resources/unsubscribe", MethodKind::Resource),
    ("completion/complete", MethodKind::Completion),
    ("subscriptions/listen", MethodKind::Notifications),
    ("tasks/get", MethodKind::Task),
    ("tasks/result", MethodKind::Task),
    ("tasks/update", MethodKind::Task),
    ("tasks/cancel", MethodKind::Task),
    ("tasks/list", MethodKind::Task),
    (ListKind::Tools.method(), MethodKind::List(ListKind::Tools)),
    (ListKind::Prompts.method(), MethodKind::List(ListKind::Prompts)),
    (ListKind::Resources.method(), MethodKind::List(ListKind::Resources)),
    (ListKind::ResourceTemplates.method(), MethodKind::List(ListKind::ResourceTemplates)),
    ("initialize", MethodKind::Nothing),
    ("ping", MethodKind::Nothing),
    ("server/discover", MethodKind::Nothing),
    ("logging/setLevel", MethodKind::Nothing),
    ("notifications/initialized", MethodKind::Nothing),
    ("notifications/cancelled", MethodKind::Nothing),
    ("notifications/progress", MethodKind::Nothing),
    ("notifications/roots/list_changed", MethodKind::Nothing),
    ("notifications/tasks/status", MethodKind::Nothing),
    (TOOLS_CALL, MethodKind::Tool),
];

impl AppliesTo {
    /// Returns true if rules decide about a removed method with this target.
    pub(super) fn covers(self, asks: Option<MethodKind>) -> bool {
        self.methods || (self.resources && asks == Some(MethodKind::Resource))
    }

    /// Returns the kind of target as which rules decide about a method; `None` if the target is the
    /// method itself.
    pub fn judges_as(self, method: &str) -> Option<TargetKind> {
        match asks(method)? {
            MethodKind::Tool => Some(TargetKind::Tool),
            MethodKind::Prompt if self.prompts => Some(TargetKind::Prompt),
            MethodKind::Resource if self.resources => Some(TargetKind::Resource),
            MethodKind::Completion if self.prompts && self.resources => Some(TargetKind::Prompt),
            _ => None,
        }
    }
}

/// Returns the known methods of MCP.
pub fn known_methods() -> impl Iterator<Item = &'static str> {
    KNOWN.into_iter().map(|(method, _)| method)
}

/// Returns the target of a method; `None` if MCP has no such method. An unknown method with the
/// prefix of tasks counts as a method of tasks.
pub(super) fn asks(method: &str) -> Option<MethodKind> {
    if method == TOOLS_CALL {
        return Some(MethodKind::Tool);
    }
    let known = KNOWN.iter().find(|(known, _)| *known == method).map(|(_, asks)| *asks);
    known.or_else(|| method.starts_with(TASKS).then_some(MethodKind::Task))
}

/// Returns true for a method that MCP 2026-07-28 removed.
pub(super) fn is_removed(method: &str) -> bool {
    REMOVED.contains(&method)
}

/// Returns true for a method whose requests need the header `Mcp-Name` (MCP 2026-07-28,
/// streamable HTTP, "Standard Request Headers").
pub(super) fn needs_name(method: &str, asks: Option<MethodKind>) -> bool {
    match asks {
        Some(MethodKind::Tool | MethodKind::Prompt) => true,
        Some(MethodKind::Resource) => method == RESOURCES_READ,
        _ => false,
    }
}

/// Returns true for an unknown method that equals a known one except for letter case.
pub fn is_almost_known(method: &str) -> bool {
    if asks(method).is_some() {
        return false;
    }
    let is_task = || method.get(..TASKS.len()).is_some_and(|start| fold_eq(start, TASKS));
    KNOWN.iter().any(|(known, _)| fold_eq(known, method)) || is_task()
}
