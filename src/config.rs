//! Policy files: from YAML text to a [`Gate`].
//!
//! A file is read once, as a tree that knows where everything stands, and
//! becomes a [`Gate`] or a list of all its mistakes. There is no step in which
//! a policy exists but is not valid.

mod decode;
mod problem;
mod rules;
mod yaml;

use std::path::Path;
use std::sync::Arc;

pub use problem::{LoadError, Place, Problem};

use self::decode::{Fields, Item, Problems, one_of};
use crate::gate::{ClaimsFrom, Gate, Limits};
use crate::policy::{
    Action, BackendFrom, Batches, ConditionErrors, Enforcement, HostPattern, Matching, PathPrefix,
    Policy, ScopeTable, Unauthenticated, is_scope_token,
};

/// Where Envoy's `jwt_authn` filter puts what it verified.
const JWT_AUTHN: &str = "envoy.filters.http.jwt_authn";
const DEFAULT_LIMITS: Limits = Limits { max_body_bytes: 4 << 20, max_json_depth: 64 };
/// Bodies are held in memory, each request's at once.
const LARGEST_BODY: usize = 1 << 30;
/// Reading recurses as deep as a body is nested.
const DEEPEST_JSON: usize = 512;
/// The prefix that MCP gateways put between backend and tool.
const DEFAULT_SEPARATOR: &str = "__";

const CONDITION_ERRORS: [(&str, ConditionErrors); 2] =
    [("Deny", ConditionErrors::Deny), ("NoMatch", ConditionErrors::NoMatch)];
const ENFORCEMENTS: [(&str, Enforcement); 2] =
    [("Enforce", Enforcement::Enforce), ("Shadow", Enforcement::Shadow)];
const BATCHES: [(&str, Batches); 2] =
    [("Reject", Batches::Reject), ("Authorize", Batches::Authorize)];
const ACTIONS: [(&str, Action); 2] = [("Allow", Action::Allow), ("Deny", Action::Deny)];

/// Loads a policy file.
pub fn load(path: &Path) -> Result<Gate, LoadError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| LoadError::Unreadable { path: path.to_owned(), error })?;
    parse(&text).map_err(|problems| LoadError::Invalid { path: path.to_owned(), problems })
}

/// Reads the text of a policy file, YAML or JSON. The problems are all there
/// are, in the order of the file.
pub fn parse(text: &str) -> Result<Gate, Vec<Problem>> {
    let (root, found) = yaml::parse(text).map_err(|problem| vec![problem])?;
    let mut problems = Problems::from(found);
    let gate = gate(&Item::root(&root), &mut problems);
    let problems = problems.into_sorted();
    match gate {
        Some(gate) if problems.is_empty() => Ok(gate),
        _ => Err(problems),
    }
}

fn gate(root: &Item<'_>, problems: &mut Problems) -> Option<Gate> {
    let fields = root.fields(&["jwt", "limits", "policies"], problems)?;
    let claims_from = match fields.get("jwt") {
        Some(item) => claims_from(&item, problems),
        None => Some(metadata(None, None)),
    };
    let limits = match fields.get("limits") {
        Some(item) => limits(&item, problems),
        None => Some(DEFAULT_LIMITS),
    };
    let items = fields.required("policies", problems)?.items(problems)?;
    let mut policies: Vec<Arc<Policy>> = Vec::new();
    for item in &items {
        let Some(policy) = policy(item, problems) else { continue };
        if let Some(first) = policies.iter().find(|first| first.name == policy.name) {
            item.problem(problems, format!("another policy is called `{}` too", first.name));
        }
        let taken = policies
            .iter()
            .find(|first| first.matching.is_everything() || first.matching == policy.matching);
        if let Some(first) = taken {
            let message =
                format!("this policy never applies: `{}` takes all of its requests", first.name);
            item.problem(problems, message);
        }
        policies.push(Arc::new(policy));
    }
    Some(Gate { claims_from: claims_from?, limits: limits?, policies })
}

fn metadata(namespace: Option<String>, key: Option<String>) -> ClaimsFrom {
    ClaimsFrom::Metadata { namespace: namespace.unwrap_or_else(|| JWT_AUTHN.to_owned()), key }
}

fn claims_from(item: &Item<'_>, problems: &mut Problems) -> Option<ClaimsFrom> {
    let fields = item.fields(&["from", "metadata"], problems)?;
    let from_metadata = match fields.get("from") {
        Some(from) => from.word(&[("metadata", true), ("authorizationHeader", false)], problems),
        None => Some(true),
    };
    let metadata_item = fields.get("metadata");
    if let (Some(item), Some(false)) = (&metadata_item, from_metadata) {
        let message = "`metadata` has no meaning with `from: authorizationHeader`";
        item.problem(problems, message);
    }
    let place = metadata_item.and_then(|item| item.fields(&["namespace", "key"], problems));
    let mut text = |key| place.as_ref()?.get(key)?.string(problems);
    let (namespace, key) = (text("namespace"), text("key"));
    match from_metadata? {
        true => Some(metadata(namespace, key)),
        false => Some(ClaimsFrom::AuthorizationHeader),
    }
}

fn limits(item: &Item<'_>, problems: &mut Problems) -> Option<Limits> {
    let fields = item.fields(&["maxBodyBytes", "maxJsonDepth"], problems)?;
    let mut number = |key, range, default| match fields.get(key) {
        Some(item) => item.number(range, problems),
        None => Some(default),
    };
    let max_body_bytes = number("maxBodyBytes", 1..=LARGEST_BODY, DEFAULT_LIMITS.max_body_bytes);
    let max_json_depth = number("maxJsonDepth", 4..=DEEPEST_JSON, DEFAULT_LIMITS.max_json_depth);
    Some(Limits { max_body_bytes: max_body_bytes?, max_json_depth: max_json_depth? })
}

fn policy(item: &Item<'_>, problems: &mut Problems) -> Option<Policy> {
    let fields = item.fields(
        &[
            "name",
            "match",
            "backend",
            "resourceMetadataURL",
            "scopesSupported",
            "scopeHierarchy",
            "unauthenticated",
            "enforcement",
            "conditionErrors",
            "batches",
            "defaultAction",
            "rules",
        ],
        problems,
    )?;
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
    let scopes_supported =
        fields.get("scopesSupported").map(|item| scopes(&item, problems)).unwrap_or_default();
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
    let mut table = match fields.get("scopeHierarchy") {
        Some(item) => scope_hierarchy(&item, problems),
        None => ScopeTable::default(),
    };
    let rules = fields
        .required("rules", problems)
        .and_then(|item| rules::rules(&item, backend.as_ref(), &mut table, problems));
    Some(Policy {
        name: name?,
        matching: matching?,
        backend: backend?,
        resource_metadata_url,
        scopes_supported,
        unauthenticated: unauthenticated?,
        enforcement: enforcement?,
        batches: batches?,
        condition_errors: condition_errors?,
        default_action: default_action?,
        rules: rules?,
        scopes: table,
    })
}

fn matching(item: &Item<'_>, problems: &mut Problems) -> Option<Matching> {
    let fields = item.fields(&["hosts", "pathPrefixes", "routes", "onlyByName"], problems)?;
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
    if matching.is_everything() {
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
    const KEYS: [&str; 4] = ["toolNamePrefix", "name", "header", "attribute"];

    let fields = item.fields(&KEYS, problems)?;
    let given: Vec<_> = KEYS.into_iter().filter_map(|key| Some((key, fields.get(key)?))).collect();
    match given.as_slice() {
        [] => {
            item.problem(problems, format!("expected {}", one_of(&KEYS)));
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
    let words = [("Forbid", Unauthenticated::Forbid), ("Challenge", Unauthenticated::Challenge)];
    let value = item.word(&words, problems)?;
    if value == Unauthenticated::Challenge && fields.get("resourceMetadataURL").is_none() {
        let message = "a 401 challenge needs `resourceMetadataURL`, so that a client can find out \
                       where to log in";
        item.problem(problems, message);
    }
    Some(value)
}

/// A URL that goes into a quoted string of a header as it is.
fn metadata_url(item: &Item<'_>, problems: &mut Problems) -> Option<String> {
    let url = item.string(problems)?;
    let has_host = ["https://", "http://"].iter().any(|scheme| {
        url.strip_prefix(scheme).is_some_and(|rest| !rest.starts_with('/') && !rest.is_empty())
    });
    let quotable = url.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    // Some clients take the first `scope=` of the header, wherever it is.
    let misread = ["scope=", "error="].iter().any(|key| url.contains(key));
    if has_host && quotable && !misread {
        return Some(url);
    }
    let message = format!(
        "`{url}` is not the URL of a protected resource metadata document, such as \
         `https://mcp.example.com/.well-known/oauth-protected-resource/mcp` (RFC 9728)"
    );
    item.problem(problems, message);
    None
}

/// Broader scopes with the narrower ones that they imply.
fn scope_hierarchy(item: &Item<'_>, problems: &mut Problems) -> ScopeTable {
    let entries = item.entries(problems).unwrap_or_default();
    let mut pairs = Vec::new();
    for (key, narrower) in &entries {
        if !is_scope_token(&key.name) {
            problems.add(key.place, &item.path, not_a_scope(&key.name));
        }
        pairs.push((key.name.clone(), scopes(narrower, problems)));
    }
    ScopeTable::with_hierarchy(&pairs).unwrap_or_else(|cycle| {
        let way = cycle.scopes.join("` implies `");
        item.problem(problems, format!("a scope implies itself: `{way}`"));
        ScopeTable::default()
    })
}

fn not_a_scope(text: &str) -> String {
    format!(
        "`{text}` is not a scope: one word of printable ASCII without quotes and backslashes \
         (RFC 6749, section 3.3)"
    )
}

/// A list of scope-tokens.
fn scopes(item: &Item<'_>, problems: &mut Problems) -> Vec<String> {
    let items = item.strings(problems).unwrap_or_default();
    for (index, item) in items.iter().enumerate() {
        let text = item.as_text();
        if !is_scope_token(text) {
            item.problem(problems, not_a_scope(text));
        }
        if text == "offline_access" {
            let message = "`offline_access` asks for a refresh token and permits nothing; it is \
                           never part of a challenge";
            item.problem(problems, message);
        }
        if items.iter().take(index).any(|other| other.as_text() == text) {
            item.problem(problems, format!("the scope `{text}` stands here twice"));
        }
    }
    items.iter().map(|item| item.as_text().to_owned()).collect()
}

#[cfg(test)]
mod tests;
