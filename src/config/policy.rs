//! A policy and what surrounds its rules.

use std::collections::HashSet;

use super::conditions::Conditions;
use super::decode::{Fields, Item, one_of};
use super::problem::Problems;
use super::rules::{self, RULE, RuleSpots};
use super::scopes::{Stars, scope_hierarchy, scopes};
use super::shape::{Holds, Shape, field};
use super::{ACTION_WORDS, ACTIONS};
use crate::mcp::{Feature, Governed};
use crate::policy::{
    Action, BackendFrom, Batches, ConditionErrors, Dialect, Enforcement, HostPattern, Lists,
    Matching, PathPrefix, Policy, ScopeTable, Shown, Tasks, Unauthenticated,
};

/// The prefix that MCP gateways put between backend and tool.
pub(super) const DEFAULT_SEPARATOR: &str = "__";

const CONDITION_ERRORS: [(&str, ConditionErrors); 2] =
    [("Deny", ConditionErrors::Deny), ("NoMatch", ConditionErrors::NoMatch)];
const ENFORCEMENTS: [(&str, Enforcement); 2] =
    [("Enforce", Enforcement::Enforce), ("Shadow", Enforcement::Shadow)];
const BATCHES: [(&str, Batches); 2] =
    [("Reject", Batches::Reject), ("Authorize", Batches::Authorize)];
const SHOWN: [(&str, Shown); 3] = [
    ("Unfiltered", Shown::Unfiltered),
    ("Permitted", Shown::Permitted),
    ("Reachable", Shown::Reachable),
];
const SHOWN_WORDS: Holds = Holds::Word(&[SHOWN[0].0, SHOWN[1].0, SHOWN[2].0]);
const TASKS: [(&str, Tasks); 2] = [("Continue", Tasks::Continue), ("Deny", Tasks::Deny)];
/// What is judged.
const ENFORCE: [&str; 4] = ["tools", "prompts", "resources", "methods"];
const UNAUTHENTICATED: [(&str, Unauthenticated); 2] =
    [("Forbid", Unauthenticated::Forbid), ("Challenge", Unauthenticated::Challenge)];

/// A policy.
pub(super) static POLICY: Shape = Shape::new(
    "Judges the requests that it matches.",
    &[
        field("name", Holds::Text, "For logs and metrics; no two policies have the same.")
            .required(),
        field(
            "match",
            Holds::Mapping(&MATCH),
            "The requests that it is for: all that is given must match. Left out: every request.",
        ),
        field(
            "backend",
            Holds::Mapping(&BACKEND),
            "How a call tells its backend. Default: `toolNamePrefix: __`.",
        ),
        field(
            "resourceMetadataURL",
            Holds::Text,
            "Where clients find the protected resource metadata (RFC 9728); named in challenges.",
        ),
        field(
            "scopesSupported",
            Holds::Scopes { may_be_empty: false },
            "The scopes that a 401 suggests.",
        ),
        field(
            "scopeHierarchy",
            Holds::ScopesByScope,
            "Broader scopes with the narrower ones that they imply, transitively. `*` in a broader scope stands for any characters, and repeats them in its narrower ones: `tenant-*:admin: [\"tenant-*:read\"]`.",
        ),
        field(
            "unauthenticated",
            Holds::Word(&[UNAUTHENTICATED[0].0, UNAUTHENTICATED[1].0]),
            "What becomes of a request without a verified token. Forbid: it is judged like any other, without scopes and claims. Challenge: 401, for which resourceMetadataURL is required.",
        ),
        field(
            "enforcement",
            Holds::Word(&[ENFORCEMENTS[0].0, ENFORCEMENTS[1].0]),
            "Shadow: decide and log, but let everything go on.",
        ),
        field(
            "conditionErrors",
            Holds::Word(&[CONDITION_ERRORS[0].0, CONDITION_ERRORS[1].0]),
            "What a Deny rule does whose condition cannot be evaluated. Deny: it denies. NoMatch: later rules decide.",
        ),
        field(
            "batches",
            Holds::Word(&[BATCHES[0].0, BATCHES[1].0]),
            "What becomes of a batch of messages (MCP 2025-03-26). Authorize: it goes on if each of its calls may.",
        ),
        field(
            "enforce",
            Holds::Words(&ENFORCE),
            "What is judged. Tools always are; prompts and resources (with completions and subscriptions for them) if they are named here; methods: whatever is not judged as one of the others, `initialize` and all else. What is not judged goes on. Default: [tools].",
        ),
        field(
            "toolsList",
            SHOWN_WORDS,
            "What a caller sees in the answer to tools/list. Permitted: what a call with some arguments is allowed of. Reachable: that, too, which it would be of with more scopes, which are named in its _meta as mcp-authz/requiredScopes.",
        ),
        field(
            "promptsList",
            SHOWN_WORDS,
            "The same for prompts/list; for policies that enforce prompts.",
        ),
        field(
            "resourcesList",
            SHOWN_WORDS,
            "The same for resources/list and resources/templates/list; for policies that enforce resources.",
        ),
        field(
            "tasks",
            Holds::Word(&[TASKS[0].0, TASKS[1].0]),
            "What becomes of tasks/get, tasks/result and the other methods of tasks, which tell what a tool has said without naming it. Continue: the server must know whose task it is. Deny: 403.",
        ),
        field(
            "defaultAction",
            Holds::Word(&[ACTION_WORDS[1], ACTION_WORDS[0]]),
            "What becomes of a call that no rule matches.",
        ),
        field(
            "rules",
            Holds::Mappings(&RULE),
            "Tried in order; the first that matches a call decides it.",
        )
        .required(),
    ],
);

static MATCH: Shape = Shape {
    any_of: &["hosts", "pathPrefixes", "routes", "onlyByName"],
    ..Shape::new(
        "The requests that a policy is for.",
        &[
            field(
                "hosts",
                Holds::Texts,
                "Host names without port; `*.` in front means all names below.",
            ),
            field("pathPrefixes", Holds::Texts, "Paths with all that is below them."),
            field(
                "routes",
                Holds::Texts,
                "Envoy's names of routes; needs `request_attributes: [xds.route_name]`.",
            ),
            field(
                "onlyByName",
                Holds::Switch,
                "No request, unless Envoy names this policy in the gRPC metadata `x-mcp-authz-policy`.",
            ),
        ],
    )
};

static BACKEND: Shape = Shape {
    one_of: &["toolNamePrefix", "name", "header", "attribute"],
    ..Shape::new(
        "How a call tells its backend: in one of these ways.",
        &[
            field(
                "toolNamePrefix",
                Holds::Text,
                "The name of the tool or prompt up to this separator; a resource's URI up to `+`, and of `ui://` what follows, up to `/`.",
            ),
            field("name", Holds::Text, "Everything is of this backend."),
            field("header", Holds::Text, "The value of this request header."),
            field(
                "attribute",
                Holds::Text,
                "The value of this attribute of Envoy, such as `xds.cluster_name`; needs `request_attributes`.",
            ),
        ],
    )
};

/// Reads a policy.
pub(super) fn policy(
    item: &Item<'_>,
    conditions: &mut Conditions,
    problems: &mut Problems,
) -> Option<(Policy, Vec<RuleSpots>)> {
    let fields = item.fields(&POLICY, problems)?;
    let name = fields.required("name", problems).and_then(|item| item.string(problems));
    let matching = match fields.get("match") {
        Some(item) => matching(&item, problems),
        None => Some(Matching::default()),
    };
    let backend = match fields.get("backend") {
        Some(item) => backend(&item, problems),
        None => Some(BackendFrom::ToolNamePrefix(DEFAULT_SEPARATOR.to_owned())),
    };
    let resource_metadata_url =
        fields.get("resourceMetadataURL").and_then(|item| metadata_url(&item, problems));
    let scopes_supported = fields
        .get("scopesSupported")
        .map(|item| scopes(&item, Stars::Refused, problems).0)
        .unwrap_or_default();
    let unauthenticated = unauthenticated(&fields, problems);
    let default_action = match fields.get("defaultAction") {
        Some(item) => item.word(&ACTIONS, problems),
        None => Some(Action::Deny),
    };
    let condition_errors = match fields.get("conditionErrors") {
        Some(item) => item.word(&CONDITION_ERRORS, problems),
        None => Some(ConditionErrors::Deny),
    };
    let enforcement = match fields.get("enforcement") {
        Some(item) => item.word(&ENFORCEMENTS, problems),
        None => Some(Enforcement::Enforce),
    };
    let batches = match fields.get("batches") {
        Some(item) => item.word(&BATCHES, problems),
        None => Some(Batches::Reject),
    };
    let tasks = match fields.get("tasks") {
        Some(item) => item.word(&TASKS, problems),
        None => Some(Tasks::Continue),
    };
    let governed = match fields.get("enforce") {
        Some(item) => enforced(&item, problems)?,
        None => Governed::default(),
    };
    let mut shown = |key, feature| shown(&fields, key, governed.includes(feature), problems);
    let tools_list = shown("toolsList", Feature::Tool);
    let prompts_list = shown("promptsList", Feature::Prompt);
    let resources_list = shown("resourcesList", Feature::Resource);
    let mut table = match fields.get("scopeHierarchy") {
        Some(item) => scope_hierarchy(&item, problems),
        None => ScopeTable::default(),
    };
    let rules = fields.required("rules", problems).and_then(|item| {
        let about = (backend.as_ref(), governed);
        rules::rules(&item, Dialect::Native, about, (&mut table, conditions), problems)
    });
    let (rules, spots) = rules?;
    let policy = Policy {
        name: name?,
        dialect: Dialect::Native,
        matching: matching?,
        backend: backend?,
        resource_metadata_url,
        scopes_supported,
        unauthenticated: unauthenticated?,
        enforcement: enforcement?,
        batches: batches?,
        governed,
        lists: Lists { tools: tools_list?, prompts: prompts_list?, resources: resources_list? },
        tasks: tasks?,
        condition_errors: condition_errors?,
        default_action: default_action?,
        rules,
        scopes: table,
    };
    Some((policy, spots))
}

/// What is judged beside tools.
fn enforced(item: &Item<'_>, problems: &mut Problems) -> Option<Governed> {
    let mut named = HashSet::new();
    for item in &item.items(problems)? {
        let word = item.word(&ENFORCE.map(|word| (word, word)), problems)?;
        if !named.insert(word) {
            item.problem(problems, format!("`{word}` stands here twice"));
        }
    }
    if !named.contains("tools") {
        item.problem(problems, "tools are judged in every policy: name them here, too");
    }
    let [prompts, resources, methods] =
        ["prompts", "resources", "methods"].map(|word| named.contains(word));
    Some(Governed { prompts, resources, methods })
}

/// What is seen in a list.
fn shown(
    fields: &Fields<'_>,
    key: &str,
    is_judged: bool,
    problems: &mut Problems,
) -> Option<Shown> {
    let Some(item) = fields.get(key) else { return Some(Shown::Unfiltered) };
    let shown = item.word(&SHOWN, problems)?;
    if !is_judged && shown != Shown::Unfiltered {
        let judged = key.trim_end_matches("List");
        let message = format!(
            "a list is filtered by what is allowed, but this policy does not judge {judged}: name \
             `{judged}` in its `enforce`, too"
        );
        item.problem(problems, message);
    }
    Some(shown)
}

fn matching(item: &Item<'_>, problems: &mut Problems) -> Option<Matching> {
    let fields = item.fields(&MATCH, problems)?;
    let texts = |key, problems: &mut Problems| match fields.get(key) {
        Some(item) => item.strings(problems).unwrap_or_default(),
        None => Vec::new(),
    };
    let (hosts, prefixes) = (texts("hosts", problems), texts("pathPrefixes", problems));
    let routes = texts("routes", problems);
    let only_by_name = fields.get("onlyByName");
    let host = "a host name without port, such as `mcp.example.com` or `*.example.com`";
    let matching = Matching {
        hosts: parsed(&hosts, HostPattern::parse, host, problems),
        path_prefixes: parsed(
            &prefixes,
            PathPrefix::parse,
            "a plain path, such as `/mcp`",
            problems,
        ),
        routes: routes.iter().map(|item| item.as_text().to_owned()).collect(),
        only_by_name: only_by_name.is_some(),
    };
    if let Some(item) = &only_by_name {
        let alone = Matching { only_by_name: true, ..Matching::default() };
        if item.word(&[("true", ())], problems).is_some() && matching != alone {
            let message = "a policy that only Envoy's metadata names matches nothing by itself: \
                           give `onlyByName` alone";
            item.problem(problems, message);
        }
    }
    if matching == Matching::default() {
        item.problem(problems, "expected `hosts`, `pathPrefixes` or `routes`; leave `match` out to match every request");
    }
    Some(matching)
}

/// What texts are parsed to; those that are not `what` are problems.
fn parsed<T>(
    items: &[Item<'_>],
    parse: impl Fn(&str) -> Option<T>,
    what: &str,
    problems: &mut Problems,
) -> Vec<T> {
    let parsed = items.iter().filter_map(|item| {
        let value = parse(item.as_text());
        if value.is_none() {
            item.problem(problems, format!("`{}` is not {what}", item.as_text()));
        }
        value
    });
    parsed.collect()
}

fn backend(item: &Item<'_>, problems: &mut Problems) -> Option<BackendFrom> {
    let fields = item.fields(&BACKEND, problems)?;
    let keys = BACKEND.one_of;
    let given: Vec<_> = keys.iter().filter_map(|key| Some((*key, fields.get(key)?))).collect();
    match given.as_slice() {
        [] => {
            item.problem(problems, format!("expected {}", one_of(keys)));
            None
        }
        [(key, value)] => {
            let text = value.string(problems)?;
            Some(match *key {
                "toolNamePrefix" => BackendFrom::ToolNamePrefix(text),
                "header" => BackendFrom::Header(header_name(value, &text, problems)?),
                "attribute" => BackendFrom::Attribute(text),
                _ => BackendFrom::Name(text),
            })
        }
        [(first, _), (_, second), ..] => {
            let message = format!("a backend is told in one way, and `{first}` is one already");
            second.problem(problems, message);
            None
        }
    }
}

/// A header's name in lower case ([RFC 9110, section 5.1]).
///
/// [RFC 9110, section 5.1]: https://www.rfc-editor.org/rfc/rfc9110#section-5.1
fn header_name(item: &Item<'_>, name: &str, problems: &mut Problems) -> Option<String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.bytes().all(is_name) {
        return Some(name.to_ascii_lowercase());
    }
    item.problem(problems, format!("`{name}` is not a header name, such as `x-mcp-backend`"));
    None
}

fn unauthenticated(fields: &Fields<'_>, problems: &mut Problems) -> Option<Unauthenticated> {
    let Some(item) = fields.get("unauthenticated") else {
        return Some(Unauthenticated::Forbid);
    };
    let value = item.word(&UNAUTHENTICATED, problems)?;
    if value == Unauthenticated::Challenge && fields.get("resourceMetadataURL").is_none() {
        let message = "a 401 challenge needs `resourceMetadataURL`, so that a client can find out \
                       where to log in";
        item.problem(problems, message);
    }
    Some(value)
}

/// A URL that goes into a quoted string of a header as it is.
pub(super) fn metadata_url(item: &Item<'_>, problems: &mut Problems) -> Option<String> {
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

/// Whether a URL can stand in a challenge.
pub(super) fn is_metadata_url(url: &str) -> bool {
    let has_host = ["https://", "http://"].iter().any(|scheme| {
        url.strip_prefix(scheme).is_some_and(|rest| !rest.starts_with('/') && !rest.is_empty())
    });
    let quotable = url.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    // Some clients take the first `scope=` of the header, wherever it is.
    let misread = ["scope=", "error="].iter().any(|key| url.contains(key));
    has_host && quotable && !misread
}
