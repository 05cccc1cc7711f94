//! A policy and what surrounds its rules.

use std::collections::HashSet;

use super::conditions::Conditions;
use super::decode::{Fields, Item, one_of};
use super::found::{Found, Mistakes};
use super::matching::{MATCH, matching};
use super::problem::Problems;
use super::rules::{self, RULE};
use super::scopes::{Stars, scope_hierarchy, scopes};
use super::shape::{Holds, Shape, field};
use super::{ACTION_WORDS, ACTIONS};
use crate::mcp::{Feature, Governed};
use crate::policy::{
    AcceptedTokens, Action, BackendFrom, Batches, ConditionErrors, Dialect, Enforcement, Lists,
    Policy, Rules, Shown, Tasks, Unauthenticated,
};

/// The prefix that MCP gateways put between backend and tool.
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
            Holds::Word(&[CONDITION_ERRORS[0].0, CONDITION_ERRORS[1].0, CONDITION_ERRORS[2].0]),
            "The effect of a condition that cannot be evaluated, in a rule whose source and target match. Deny: a Deny rule denies, and an Allow rule does not match. DenyAny: both deny. NoMatch: neither matches, and later rules decide.",
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
            Holds::MappingsOrNone(&RULE),
            "Tried in order; the first that matches a call decides it. Without any, defaultAction decides.",
        ),
    ],
);

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

/// Reads a policy. `None` if it is no mapping. Every part is read, whatever is wrong with others.
pub(super) fn policy(
    item: &Item<'_>,
    conditions: &mut Conditions,
    problems: &mut Problems,
) -> Option<Found> {
    let (found, any) = problems.checked(|problems| parts(item, conditions, problems));
    found.map(|found| found.with_mistakes(any))
}

/// Reads the parts of a policy. The strictest value, or the default, stands for what has a
/// mistake.
fn parts(item: &Item<'_>, conditions: &mut Conditions, problems: &mut Problems) -> Option<Found> {
    let (fields, is_unclear) = problems.checked(|problems| item.fields(&POLICY, problems));
    let fields = fields?;
    let name = fields.required("name", problems).and_then(|item| item.string(problems));
    let (matching, is_bad_matching) =
        problems.checked(|problems| fields.get("match").and_then(|item| matching(&item, problems)));
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
        Some(item) => enforced(&item, problems),
        None => Some(Governed::default()),
    };
    let mut shown = |key, feature| shown(&fields, key, (feature, governed), problems);
    let tools = shown("toolsList", Feature::Tool);
    let prompts = shown("promptsList", Feature::Prompt);
    let resources = shown("resourcesList", Feature::Resource);
    let (mut table, is_bad_hierarchy) = problems.checked(|problems| {
        let item = fields.get("scopeHierarchy");
        item.map(|item| scope_hierarchy(&item, problems)).unwrap_or_default()
    });
    let about = (backend.as_ref(), governed);
    let rules = match fields.get("rules") {
        Some(item) => {
            rules::rules(&item, Dialect::Native, about, (&mut table, conditions), problems)
        }
        None => Some((Rules::default(), Vec::new())),
    };
    if let (Some((rules, _)), Some(default_action)) = (&rules, default_action)
        && rules.is_empty()
        && !is_unclear
    {
        rules::no_rules(fields.get("rules").as_ref().unwrap_or(item), default_action, problems);
    }
    let mistakes = Mistakes {
        name: name.is_none(),
        matching: is_bad_matching,
        governed: governed.is_none(),
        lists: [tools, prompts, resources].iter().any(Option::is_none),
        scopes: is_bad_hierarchy,
        condition_errors: condition_errors.is_none(),
        default_action: default_action.is_none(),
        rules: rules.is_none(),
        any: [
            name.is_none(),
            backend.is_none(),
            unauthenticated.is_none(),
            default_action.is_none(),
            condition_errors.is_none(),
            enforcement.is_none(),
            batches.is_none(),
            tasks.is_none(),
            governed.is_none(),
            tools.is_none(),
            prompts.is_none(),
            resources.is_none(),
            rules.is_none(),
        ]
        .contains(&true),
    };
    let (rules, spots) = rules.unwrap_or_default();
    let policy = Policy {
        name: name.unwrap_or_default(),
        dialect: Dialect::Native,
        matching: matching.unwrap_or_default(),
        backend: backend.unwrap_or_else(|| BackendFrom::Name(String::new())),
        resource_metadata_url,
        scopes_supported,
        accepted_tokens: AcceptedTokens::default(),
        unauthenticated: unauthenticated.unwrap_or(Unauthenticated::Forbid),
        enforcement: enforcement.unwrap_or(Enforcement::Enforce),
        batches: batches.unwrap_or(Batches::Reject),
        governed: governed.unwrap_or_default(),
        lists: Lists {
            tools: tools.unwrap_or(Shown::Unfiltered),
            prompts: prompts.unwrap_or(Shown::Unfiltered),
            resources: resources.unwrap_or(Shown::Unfiltered),
        },
        tasks: tasks.unwrap_or(Tasks::Deny),
        condition_errors: condition_errors.unwrap_or(ConditionErrors::Deny),
        default_action: default_action.unwrap_or(Action::Deny),
        rules,
        scopes: table,
    };
    // A key that is not known may have been meant as any.
    let mistakes = if is_unclear { Mistakes::ALL } else { mistakes };
    Some(Found { policy, rules: spots, mistakes })
}

/// What is judged beside tools. `None` if it has a mistake.
fn enforced(item: &Item<'_>, problems: &mut Problems) -> Option<Governed> {
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
    // A word that is not known may have been meant so.
    if !named.contains("tools") && is_known {
        item.problem(problems, "tools are judged in every policy: name them here, too");
    }
    let [prompts, resources, methods] =
        ["prompts", "resources", "methods"].map(|word| named.contains(word));
    is_known.then_some(Governed { prompts, resources, methods })
}

/// What is seen in a list.
fn shown(
    fields: &Fields<'_>,
    key: &str,
    (feature, governed): (Feature, Option<Governed>),
    problems: &mut Problems,
) -> Option<Shown> {
    let Some(item) = fields.get(key) else { return Some(Shown::Unfiltered) };
    let shown = item.word(&SHOWN, problems)?;
    let is_judged = governed.is_none_or(|governed| governed.includes(feature));
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

/// Returns `None` if there is a mistake.
fn backend(item: &Item<'_>, problems: &mut Problems) -> Option<BackendFrom> {
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
            "toolNamePrefix" => BackendFrom::ToolNamePrefix(text),
            "header" => BackendFrom::Header(header_name(item, &text, problems)?),
            "attribute" => BackendFrom::Attribute(text),
            _ => BackendFrom::Name(text),
        })
    };
    let mut ways: Vec<_> = given.iter().map(read).collect();
    if ways.len() == 1 { ways.pop().flatten() } else { None }
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
