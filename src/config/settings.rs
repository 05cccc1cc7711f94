//! The settings of a policy. `mcpRouteDefaults` can give them for `MCPRoute` documents, too.

use std::collections::HashSet;

use super::decode::{Item, MappingRef, one_of};
use super::found::Mistakes;
use super::problem::Diagnostics;
use super::scopes::{Stars, scope_hierarchy, scopes};
use super::shape::{Field, MappingSchema, ValueSchema, field};
use crate::mcp::{AppliesTo, TargetKind};
use crate::policy::{
    BackendSource, Batches, ConditionErrors, Enforcement, ListVisibilities, ListVisibility,
    ScopeTable, Tasks, Unauthenticated,
};

/// The separator that MCP gateways put between backend and tool.
pub(super) const DEFAULT_SEPARATOR: &str = "__";

const CONDITION_ERRORS: [(&str, ConditionErrors); 3] = [
    ("Deny", ConditionErrors::Deny),
    ("NoMatch", ConditionErrors::NoMatch),
    ("DenyAny", ConditionErrors::DenyAny),
];
const ENFORCEMENTS: [(&str, Enforcement); 2] =
    [("Enforce", Enforcement::Enforce), ("Shadow", Enforcement::Shadow)];
const BATCHES: [(&str, Batches); 2] =
    [("Reject", Batches::Reject), ("Authorize", Batches::Authorize)];
const SHOWN: [(&str, ListVisibility); 3] = [
    ("Unfiltered", ListVisibility::Unfiltered),
    ("Permitted", ListVisibility::Permitted),
    ("Reachable", ListVisibility::Reachable),
];
const SHOWN_WORDS: ValueSchema = ValueSchema::Word(&[SHOWN[0].0, SHOWN[1].0, SHOWN[2].0]);
const TASKS: [(&str, Tasks); 2] = [("Continue", Tasks::Continue), ("Deny", Tasks::Deny)];
/// The values of `enforce`: the kinds of calls that a policy evaluates.
const ENFORCE: [&str; 4] = ["tools", "prompts", "resources", "methods"];
const UNAUTHENTICATED: [(&str, Unauthenticated); 2] =
    [("Forbid", Unauthenticated::Forbid), ("Challenge", Unauthenticated::Challenge)];

const ABOUT_TOOLS_LIST: &str = "What a caller sees in the answer to tools/list. Permitted: what a call with some arguments is allowed of. Reachable: that, too, which it would be of with more scopes, which are named in its _meta as mcp-authz/requiredScopes.";

pub(super) const BACKEND_FROM: Field = field(
    "backend",
    ValueSchema::Mapping(&BACKEND),
    "How a call tells its backend. Default: `toolNamePrefix: __`.",
);
pub(super) const RESOURCE_METADATA_URL: Field = field(
    "resourceMetadataURL",
    ValueSchema::Text,
    "Where clients find the protected resource metadata (RFC 9728); named in challenges.",
);
pub(super) const SCOPES_SUPPORTED: Field = field(
    "scopesSupported",
    ValueSchema::Scopes { may_be_empty: false },
    "The scopes that a 401 suggests.",
);
pub(super) const SCOPE_HIERARCHY: Field = field(
    "scopeHierarchy",
    ValueSchema::ScopesByScope,
    "Broader scopes with the narrower ones that they imply, transitively. `*` in a broader scope stands for any characters, and repeats them in its narrower ones: `tenant-*:admin: [\"tenant-*:read\"]`.",
);
pub(super) const WITHOUT_TOKEN: Field = field(
    "unauthenticated",
    ValueSchema::Word(&[UNAUTHENTICATED[0].0, UNAUTHENTICATED[1].0]),
    "What becomes of a request without a verified token. Forbid: it is judged like any other, without scopes and claims. Challenge: 401, for which resourceMetadataURL is required.",
);
pub(super) const ENFORCEMENT: Field = field(
    "enforcement",
    ValueSchema::Word(&[ENFORCEMENTS[0].0, ENFORCEMENTS[1].0]),
    "Shadow: decide and log, but let everything go on.",
);
pub(super) const ON_CONDITION_ERRORS: Field = field(
    "conditionErrors",
    ValueSchema::Word(&[CONDITION_ERRORS[0].0, CONDITION_ERRORS[1].0]),
    "The effect of a condition that cannot be evaluated, in a rule whose source and target match. Deny: a Deny rule denies, and an Allow rule does not match. NoMatch: neither matches, and later rules decide.",
);
pub(super) const ON_BATCHES: Field = field(
    "batches",
    ValueSchema::Word(&[BATCHES[0].0, BATCHES[1].0]),
    "What becomes of a batch of messages (MCP 2025-03-26). Authorize: it goes on if each of its calls may.",
);
pub(super) const ENFORCED: Field = field(
    "enforce",
    ValueSchema::Words(&ENFORCE),
    "What is judged. Tools always are; prompts and resources (with completions and subscriptions for them) if they are named here; methods: whatever is not judged as one of the others, `initialize` and all else. What is not judged goes on. Default: [tools].",
);
pub(super) const TOOLS_LIST: Field = field("toolsList", SHOWN_WORDS, ABOUT_TOOLS_LIST);
pub(super) const PROMPTS_LIST: Field = field(
    "promptsList",
    SHOWN_WORDS,
    "The same for prompts/list; for policies that enforce prompts.",
);
pub(super) const RESOURCES_LIST: Field = field(
    "resourcesList",
    SHOWN_WORDS,
    "The same for resources/list and resources/templates/list; for policies that enforce resources.",
);
pub(super) const ON_TASKS: Field = field(
    "tasks",
    ValueSchema::Word(&[TASKS[0].0, TASKS[1].0]),
    "What becomes of tasks/get, tasks/result and the other methods of tasks, which tell what a tool has said without naming it. Continue: the server must know whose task it is. Deny: 403.",
);

// These settings have other defaults in an `MCPRoute`.
const ROUTE_BACKEND_FROM: Field = field(
    "backend",
    ValueSchema::Mapping(&BACKEND),
    "toolNamePrefix: another separator than `__`. The others tell the backend of names without a prefix, which are refused otherwise.",
);
const ROUTE_CONDITION_ERRORS: Field = field(
    "conditionErrors",
    ValueSchema::Word(&[CONDITION_ERRORS[2].0, CONDITION_ERRORS[0].0, CONDITION_ERRORS[1].0]),
    "The effect of a condition that cannot be evaluated, in a rule whose source and target match. DenyAny: the rule denies, an Allow rule too. Deny: a Deny rule denies, and an Allow rule does not match. NoMatch: neither matches, and later rules decide.",
);
const ROUTE_TOOLS_LIST: Field =
    field("toolsList", ValueSchema::Word(&[SHOWN[1].0, SHOWN[0].0, SHOWN[2].0]), ABOUT_TOOLS_LIST);

/// The settings of `MCPRoute` documents.
pub(super) static MCP_ROUTE_DEFAULTS: MappingSchema = MappingSchema::new(
    "Settings of a policy for the MCPRoute documents of all files; what such a document says itself wins.",
    &[
        ROUTE_BACKEND_FROM,
        RESOURCE_METADATA_URL,
        SCOPES_SUPPORTED,
        SCOPE_HIERARCHY,
        WITHOUT_TOKEN,
        ENFORCEMENT,
        ROUTE_CONDITION_ERRORS,
        ON_BATCHES,
        ENFORCED,
        ROUTE_TOOLS_LIST,
        PROMPTS_LIST,
        RESOURCES_LIST,
        ON_TASKS,
    ],
);

static BACKEND: MappingSchema = MappingSchema {
    one_of: &["toolNamePrefix", "name", "header", "attribute"],
    ..MappingSchema::new(
        "How a call tells its backend: in one of these ways.",
        &[
            field(
                "toolNamePrefix",
                ValueSchema::Text,
                "The name of the tool or prompt up to this separator; a resource's URI up to `+`, and of `ui://` what follows, up to `/`.",
            ),
            field("name", ValueSchema::Text, "Everything is of this backend."),
            field("header", ValueSchema::Text, "The value of this request header."),
            field(
                "attribute",
                ValueSchema::Text,
                "The value of this attribute of Envoy, such as `xds.cluster_name`; needs `request_attributes`.",
            ),
        ],
    )
};

/// The error for a part of a document that has a mistake.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mistaken;

/// A setting: `Ok(None)` if it is omitted, and an error if it has a mistake.
pub(super) type Setting<T> = Result<Option<T>, Mistaken>;

/// The settings that a document gives.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) backend: Setting<BackendSource>,
    pub(super) resource_metadata_url: Option<String>,
    pub(super) scopes_supported: Option<Vec<String>>,
    /// The scope hierarchy. The table is empty if the hierarchy has a mistake.
    pub(super) hierarchy: ScopeTable,
    has_bad_hierarchy: bool,
    pub(super) unauthenticated: Setting<Unauthenticated>,
    pub(super) enforcement: Setting<Enforcement>,
    pub(super) condition_errors: Setting<ConditionErrors>,
    pub(super) batches: Setting<Batches>,
    pub(super) governed: Setting<AppliesTo>,
    tools: Setting<ListVisibility>,
    prompts: Setting<ListVisibility>,
    resources: Setting<ListVisibility>,
    pub(super) tasks: Setting<Tasks>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            backend: Ok(None),
            resource_metadata_url: None,
            scopes_supported: None,
            hierarchy: ScopeTable::default(),
            has_bad_hierarchy: false,
            unauthenticated: Ok(None),
            enforcement: Ok(None),
            condition_errors: Ok(None),
            batches: Ok(None),
            governed: Ok(None),
            tools: Ok(None),
            prompts: Ok(None),
            resources: Ok(None),
            tasks: Ok(None),
        }
    }
}

impl Settings {
    /// Reads the settings among the keys of a document.
    pub(super) fn read(fields: &MappingRef<'_>, problems: &mut Diagnostics) -> Self {
        let governed = setting(fields.get("enforce").map(|item| enforced(&item, problems)));
        let known = governed.map(Option::unwrap_or_default).ok();
        let mut shown = |key, feature| {
            setting(fields.get(key).map(|item| shown(&item, key, (feature, known), problems)))
        };
        let tools = shown("toolsList", TargetKind::Tool);
        let prompts = shown("promptsList", TargetKind::Prompt);
        let resources = shown("resourcesList", TargetKind::Resource);
        let (hierarchy, has_bad_hierarchy) = problems.checked(|problems| {
            let item = fields.get("scopeHierarchy");
            item.map(|item| scope_hierarchy(&item, problems)).unwrap_or_default()
        });
        Self {
            backend: setting(fields.get("backend").map(|item| backend(&item, problems))),
            resource_metadata_url: fields
                .get("resourceMetadataURL")
                .and_then(|item| metadata_url(&item, problems)),
            scopes_supported: fields
                .get("scopesSupported")
                .map(|item| scopes(&item, Stars::Refused, problems).0),
            hierarchy,
            has_bad_hierarchy,
            unauthenticated: setting(unauthenticated(fields, problems)),
            enforcement: word(fields, "enforcement", &ENFORCEMENTS, problems),
            condition_errors: word(fields, "conditionErrors", &CONDITION_ERRORS, problems),
            batches: word(fields, "batches", &BATCHES, problems),
            governed,
            tools,
            prompts,
            resources,
            tasks: word(fields, "tasks", &TASKS, problems),
        }
    }

    /// Returns the settings of list filters. `defaults` replaces the settings that are omitted or
    /// have a mistake.
    pub(super) fn lists(&self, defaults: ListVisibilities) -> ListVisibilities {
        ListVisibilities {
            tools: given(self.tools).unwrap_or(defaults.tools),
            prompts: given(self.prompts).unwrap_or(defaults.prompts),
            resources: given(self.resources).unwrap_or(defaults.resources),
        }
    }

    /// Returns the settings that have a mistake.
    pub(super) fn mistakes(&self) -> Mistakes {
        let lists = [self.tools, self.prompts, self.resources].iter().any(Result::is_err);
        let others = [
            self.backend.is_err(),
            self.unauthenticated.is_err(),
            self.enforcement.is_err(),
            self.batches.is_err(),
            self.tasks.is_err(),
        ];
        let mistakes = Mistakes {
            governed: self.governed.is_err(),
            lists,
            scopes: self.has_bad_hierarchy,
            condition_errors: self.condition_errors.is_err(),
            ..Mistakes::default()
        };
        let any = mistakes != Mistakes::default() || others.contains(&true);
        Mistakes { any, ..mistakes }
    }
}

/// Returns the value of a setting. Returns `None` if the setting is omitted or has a mistake.
pub(super) fn given<T: Copy>(setting: Setting<T>) -> Option<T> {
    setting.ok().flatten()
}

/// Converts the result of reading a key. The outer `None` means that the key is omitted, the inner
/// `None` that it has a mistake.
fn setting<T>(read: Option<Option<T>>) -> Setting<T> {
    match read {
        Some(Some(value)) => Ok(Some(value)),
        Some(None) => Err(Mistaken),
        None => Ok(None),
    }
}

fn word<T: Copy>(
    fields: &MappingRef<'_>,
    key: &str,
    words: &[(&str, T)],
    problems: &mut Diagnostics,
) -> Setting<T> {
    setting(fields.get(key).map(|item| item.word(words, problems)))
}

/// Reads `enforce`. Returns `None` if it has an unknown word, or is not a list with items.
fn enforced(item: &Item<'_>, problems: &mut Diagnostics) -> Option<AppliesTo> {
    let items = item.items(problems)?;
    let mut named = HashSet::new();
    let mut is_known = true;
    for item in &items {
        match item.word(&ENFORCE.map(|word| (word, word)), problems) {
            Some(word) if !named.insert(word) => {
                item.problem(problems, format!("`{word}` stands here twice"));
            }
            Some(_) => {}
            None => is_known = false,
        }
    }
    // An unknown word may be a misspelling of `tools`.
    if !named.contains("tools") && is_known {
        item.problem(problems, "tools are judged in every policy: name them here, too");
    }
    let [prompts, resources, methods] =
        ["prompts", "resources", "methods"].map(|word| named.contains(word));
    is_known.then_some(AppliesTo { prompts, resources, methods })
}

/// Reads a setting that says how a list is filtered. Returns `None` if its value is unknown.
fn shown(
    item: &Item<'_>,
    key: &str,
    (feature, governed): (TargetKind, Option<AppliesTo>),
    problems: &mut Diagnostics,
) -> Option<ListVisibility> {
    let shown = item.word(&SHOWN, problems)?;
    let is_judged = governed.is_none_or(|governed| governed.includes(feature));
    if !is_judged && shown != ListVisibility::Unfiltered {
        let judged = key.trim_end_matches("List");
        let message = format!(
            "a list is filtered by what is allowed, but this policy does not judge {judged}: name \
             `{judged}` in its `enforce`, too"
        );
        item.problem(problems, message);
    }
    Some(shown)
}

/// Reads `backend`. Returns `None` if it has a mistake.
fn backend(item: &Item<'_>, problems: &mut Diagnostics) -> Option<BackendSource> {
    let fields = item.fields(&BACKEND, problems)?;
    let keys = BACKEND.one_of;
    let given: Vec<_> = keys.iter().filter_map(|key| Some((*key, fields.get(key)?))).collect();
    if given.is_empty() && !fields.has_unclear_key() {
        item.problem(problems, format!("expected {}", one_of(keys)));
    }
    if let Some(((first, _), others)) = given.split_first() {
        for (_, item) in others {
            let message = format!("a backend is told in one way, and `{first}` is one already");
            item.problem(problems, message);
        }
    }
    let read = |(key, item): &(&str, Item<'_>)| {
        let text = item.string(problems)?;
        if *key != "toolNamePrefix" && text.contains('*') {
            let message =
                format!("`*` is no pattern in `{key}`, and `{text}` has one: write the whole name");
            item.problem(problems, message);
            return None;
        }
        Some(match *key {
            "toolNamePrefix" => BackendSource::ToolNamePrefix(text),
            "header" => BackendSource::Header(header_name(item, &text, problems)?),
            "attribute" => BackendSource::Attribute(text),
            _ => BackendSource::Name(text),
        })
    };
    let mut ways: Vec<_> = given.iter().map(read).collect();
    if ways.len() == 1 { ways.pop().flatten() } else { None }
}

/// Returns a header name in lower case ([RFC 9110, section 5.1]).
///
/// [RFC 9110, section 5.1]: https://www.rfc-editor.org/rfc/rfc9110#section-5.1
fn header_name(item: &Item<'_>, name: &str, problems: &mut Diagnostics) -> Option<String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.bytes().all(is_name) {
        return Some(name.to_ascii_lowercase());
    }
    item.problem(problems, format!("`{name}` is not a header name, such as `x-mcp-backend`"));
    None
}

/// Reads `unauthenticated`. The outer `None` means that the key is omitted, the inner `None` that
/// its value is unknown.
fn unauthenticated(
    fields: &MappingRef<'_>,
    problems: &mut Diagnostics,
) -> Option<Option<Unauthenticated>> {
    let item = fields.get("unauthenticated")?;
    let value = item.word(&UNAUTHENTICATED, problems);
    if value == Some(Unauthenticated::Challenge) && fields.get("resourceMetadataURL").is_none() {
        let message = "a 401 challenge needs `resourceMetadataURL`, so that a client can find out \
                       where to log in";
        item.problem(problems, message);
    }
    Some(value)
}

/// Reads a URL that a header can hold in a quoted string without escapes.
pub(super) fn metadata_url(item: &Item<'_>, problems: &mut Diagnostics) -> Option<String> {
    let url = item.string(problems)?;
    if is_metadata_url(&url) {
        return Some(url);
    }
    let message = format!(
        "`{url}` is not the URL of a protected resource metadata document, such as \
         `https://mcp.example.com/.well-known/oauth-protected-resource/mcp` (RFC 9728)"
    );
    item.problem(problems, message);
    None
}

/// Returns true if a URL can be part of a challenge.
pub(super) fn is_metadata_url(url: &str) -> bool {
    let has_host = ["https://", "http://"].iter().any(|scheme| {
        url.strip_prefix(scheme).is_some_and(|rest| !rest.starts_with('/') && !rest.is_empty())
    });
    let quotable = url.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    // Some clients read the first `scope=` of the header, even if it is within the URL.
    let misread = ["scope=", "error="].iter().any(|key| url.contains(key));
    has_host && quotable && !misread
}
