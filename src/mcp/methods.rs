//! The methods of MCP that a client can send, in all versions of the specification.

use super::call::Feature;
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
pub(super) enum Asks {
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
    List(Listing),
    /// No target that a parameter names.
    Nothing,
}

/// A list that a server returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
    /// The list of resources.
    Resources,
    /// The list of URI templates of resources.
    ResourceTemplates,
}

impl Listing {
    /// All lists.
    pub const ALL: [Self; 4] =
        [Self::Tools, Self::Prompts, Self::Resources, Self::ResourceTemplates];

    /// Returns the list that a method requests.
    pub fn of_method(method: &str) -> Option<Self> {
        match asks(method) {
            Some(Asks::List(listing)) => Some(listing),
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
    pub fn feature(self) -> Feature {
        match self {
            Self::Tools => Feature::Tool,
            Self::Prompts => Feature::Prompt,
            Self::Resources => Feature::Resource,
            Self::ResourceTemplates => Feature::ResourceTemplate,
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
pub struct Governed {
    /// True if rules decide about prompts.
    pub prompts: bool,
    /// True if rules decide about resources.
    pub resources: bool,
    /// True if rules decide about every method that is not decided as a tool, prompt or resource.
    pub methods: bool,
}

impl Governed {
    /// Returns true if rules decide about this feature.
    pub fn includes(self, feature: Feature) -> bool {
        match feature {
            Feature::Tool => true,
            Feature::Prompt => self.prompts,
            Feature::Resource | Feature::ResourceTemplate => self.resources,
            Feature::Method => self.methods,
        }
    }
}

const KNOWN: [(&str, Asks); 25] = [
    ("prompts/get", Asks::Prompt),
    (RESOURCES_READ, Asks::Resource),
    ("resources/subscribe", Asks::Resource),
    ("resources/unsubscribe", Asks::Resource),
    ("completion/complete", Asks::Completion),
    ("subscriptions/listen", Asks::Notifications),
    ("tasks/get", Asks::Task),
    ("tasks/result", Asks::Task),
    ("tasks/update", Asks::Task),
    ("tasks/cancel", Asks::Task),
    ("tasks/list", Asks::Task),
    (Listing::Tools.method(), Asks::List(Listing::Tools)),
    (Listing::Prompts.method(), Asks::List(Listing::Prompts)),
    (Listing::Resources.method(), Asks::List(Listing::Resources)),
    (Listing::ResourceTemplates.method(), Asks::List(Listing::ResourceTemplates)),
    ("initialize", Asks::Nothing),
    ("ping", Asks::Nothing),
    ("server/discover", Asks::Nothing),
    ("logging/setLevel", Asks::Nothing),
    ("notifications/initialized", Asks::Nothing),
    ("notifications/cancelled", Asks::Nothing),
    ("notifications/progress", Asks::Nothing),
    ("notifications/roots/list_changed", Asks::Nothing),
    ("notifications/tasks/status", Asks::Nothing),
    (TOOLS_CALL, Asks::Tool),
];

impl Governed {
    /// Returns true if rules decide about a removed method with this target.
    pub(super) fn covers(self, asks: Option<Asks>) -> bool {
        self.methods || (self.resources && asks == Some(Asks::Resource))
    }

    /// Returns the kind of target as which rules decide about a method; `None` if the target is the
    /// method itself.
    pub fn judges_as(self, method: &str) -> Option<Feature> {
        match asks(method)? {
            Asks::Tool => Some(Feature::Tool),
            Asks::Prompt if self.prompts => Some(Feature::Prompt),
            Asks::Resource if self.resources => Some(Feature::Resource),
            Asks::Completion if self.prompts && self.resources => Some(Feature::Prompt),
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
pub(super) fn asks(method: &str) -> Option<Asks> {
    if method == TOOLS_CALL {
        return Some(Asks::Tool);
    }
    let known = KNOWN.iter().find(|(known, _)| *known == method).map(|(_, asks)| *asks);
    known.or_else(|| method.starts_with(TASKS).then_some(Asks::Task))
}

/// Returns true for a method that MCP 2026-07-28 removed.
pub(super) fn is_removed(method: &str) -> bool {
    REMOVED.contains(&method)
}

/// Returns true for a method whose requests need the header `Mcp-Name` (MCP 2026-07-28,
/// streamable HTTP, "Standard Request Headers").
pub(super) fn needs_name(method: &str, asks: Option<Asks>) -> bool {
    match asks {
        Some(Asks::Tool | Asks::Prompt) => true,
        Some(Asks::Resource) => method == RESOURCES_READ,
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
