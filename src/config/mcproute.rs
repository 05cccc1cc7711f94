//! `MCPRoute` documents of Envoy AI Gateway, read as they are: v1alpha1 and
//! v1beta1, which differ in nothing but the `when` of early v1alpha1.
//!
//! What such a document says that others have to do (routing, verifying tokens)
//! is left to them, with a notice. What it says that nobody would do any more is
//! an error.

use super::conditions::Conditions;
use super::decode::{Fields, Item};
use super::found::{Found, Mistakes};
use super::policy::{DEFAULT_SEPARATOR, is_metadata_url};
use super::problem::{Lint, Problems};
use super::rules::{self, RuleSpots};
use super::scopes::{Stars, scopes};
use super::shape::{Field, Holds, Shape, field};
use super::yaml::Value;
use super::{ACTION_WORDS, ACTIONS, Spot};
use crate::mcp::Governed;
use crate::policy::{
    AcceptedTokens, Action, BackendFrom, Batches, ConditionErrors, Dialect, Enforcement, Exposed,
    HostPattern, Lists, Matching, PathPrefix, Policy, RouteBackends, Rules, ScopeTable, Shown,
    Tasks, Unauthenticated,
};

const GROUP: &str = "aigateway.envoyproxy.io";
const VERSIONS: [&str; 2] = ["v1alpha1", "v1beta1"];
const KIND: &str = "MCPRoute";
const DEFAULT_PATH: &str = "/mcp";
/// RFC 9728, section 3.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

// The descriptions are for errors only; the CRD has its own.
const fn key(key: &'static str) -> Field {
    field(key, Holds::Object, "")
}

const fn shape(fields: &'static [Field]) -> Shape {
    Shape::new("", fields)
}

static OBJECT: Shape =
    shape(&[key("apiVersion"), key("kind"), key("metadata"), key("spec"), key("status")]);
static SPEC: Shape = shape(&[
    key("parentRefs"),
    key("path"),
    key("headers"),
    key("hostnames"),
    key("backendRefs"),
    key("backendSelector"),
    key("securityPolicy"),
]);
static BACKEND_REF: Shape = shape(&[
    key("group"),
    key("kind"),
    key("name"),
    key("namespace"),
    key("port"),
    key("path"),
    key("toolSelector"),
    key("securityPolicy"),
    key("forwardHeaders"),
]);
static SECURITY_POLICY: Shape =
    shape(&[key("oauth"), key("apiKeyAuth"), key("extAuth"), key("authorization")]);
static OAUTH: Shape = shape(&[
    key("issuer"),
    key("audiences"),
    key("jwks"),
    key("protectedResourceMetadata"),
    key("claimToHeaders"),
]);
static RESOURCE_METADATA: Shape = shape(&[
    key("resource"),
    key("resourceName"),
    key("scopesSupported"),
    key("resourceSigningAlgValuesSupported"),
    key("resourceDocumentation"),
    key("resourcePolicyUri"),
]);
static AUTHORIZATION: Shape = shape(&[key("defaultAction"), key("rules")]);
pub(super) static RULE: Shape = shape(&[
    field("action", Holds::Word(&ACTION_WORDS), ""),
    key("source"),
    key("target"),
    key("cel"),
]);
pub(super) static TARGET: Shape = shape(&[key("tools")]);

/// Reads an object of Kubernetes: an `MCPRoute`, or a list with some in it.
/// Others are skipped.
pub(super) fn read(
    item: &Item<'_>,
    conditions: &mut Conditions,
    problems: &mut Problems,
    add: &mut dyn FnMut(Found, Spot),
) {
    let text = |key| item.peek(key).map(|item| item.as_text().to_owned()).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if item.peek("policies").is_some() {
        let message = "a policy file has neither `apiVersion` nor `kind`, and an object of \
                       Kubernetes no `policies`: which is it?";
        item.problem(problems, message);
        return;
    }
    if kind.ends_with("List") {
        let Some(items) = item.peek("items") else {
            item.problem(problems, format!("the key `items` is missing in this `{kind}`"));
            return;
        };
        let is_empty = matches!(&items.node().value, Value::Sequence(items) if items.is_empty());
        if !is_empty {
            for item in &items.items(problems).unwrap_or_default() {
                read(item, conditions, problems, add);
            }
        }
        return;
    }
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    if kind.is_empty() || (group == GROUP && kind.eq_ignore_ascii_case(KIND) && kind != KIND) {
        item.problem(problems, format!("expected `kind: {KIND}`, found `{kind}`"));
        return;
    }
    if group != GROUP || kind != KIND {
        let message = format!("skipped: `{kind}` is neither a policy nor an {KIND}");
        item.lint(Lint::SkippedDocument, problems, message);
        return;
    }
    if !VERSIONS.contains(&version) {
        let message = format!(
            "`{GROUP}/{version}` is not known here, only {} and {}",
            VERSIONS[0], VERSIONS[1]
        );
        item.problem(problems, message);
        return;
    }
    let (found, any) = problems.checked(|problems| route(item, conditions, problems));
    if let Some(found) = found {
        add(found.with_mistakes(any), item.into());
    }
}

/// Names what is left to others.
#[derive(Default)]
struct Left(Vec<&'static str>);

impl Left {
    fn note(&mut self, fields: &Fields<'_>, keys: &[(&str, &'static str)]) {
        self.0.extend(keys.iter().filter(|(key, _)| fields.get(key).is_some()).map(|(_, as_)| as_));
    }
}

/// What is said but would not be done.
fn refuse(fields: &Fields<'_>, key: &str, instead: &str, problems: &mut Problems) {
    if let Some(item) = fields.get(key) {
        item.problem(problems, format!("`{key}` is not supported here: {instead}"));
    }
}

/// Reads a document. `None` if it is no mapping. Every part is read, whatever is wrong with others;
/// the strictest value stands for what has a mistake.
fn route(item: &Item<'_>, conditions: &mut Conditions, problems: &mut Problems) -> Option<Found> {
    let fields = item.fields(&OBJECT, problems)?;
    let name = name(&fields, problems);
    let spec_item = fields.required("spec", problems);
    let (spec, is_unclear) = problems
        .checked(|problems| spec_item.as_ref().and_then(|item| item.fields(&SPEC, problems)));
    let mut parts = Parts { conditions, problems, left: Left::default() };
    let Spec { matching, backends, authorized, metadata } = match (&spec_item, &spec) {
        (Some(item), Some(spec)) => parts.read(item, spec),
        _ => Spec::default(),
    };
    let Authorized { default_action, rules, table } = authorized;
    let mistakes = Mistakes {
        name: name.is_none(),
        matching: matching.is_none(),
        governed: false,
        lists: false,
        scopes: false,
        condition_errors: false,
        default_action: default_action.is_none(),
        rules: rules.is_none(),
        any: name.is_none() || matching.is_none() || default_action.is_none() || rules.is_none(),
    };
    let (rules, spots) = rules.unwrap_or_default();
    let policy = Policy {
        name: name.unwrap_or_default(),
        dialect: Dialect::McpRoute,
        matching: matching.unwrap_or_default(),
        backend: BackendFrom::Route(backends),
        resource_metadata_url: metadata.url,
        scopes_supported: metadata.scopes,
        accepted_tokens: AcceptedTokens::default(),
        unauthenticated: Unauthenticated::Forbid,
        enforcement: Enforcement::Enforce,
        batches: Batches::Reject,
        governed: Governed::default(),
        lists: Lists { tools: Shown::Permitted, ..Lists::UNFILTERED },
        tasks: Tasks::Continue,
        condition_errors: ConditionErrors::DenyAny,
        default_action: default_action.unwrap_or(Action::Deny),
        rules,
        scopes: table,
    };
    // A key that is not known may have been meant as any.
    let mistakes =
        if is_unclear { Mistakes { name: mistakes.name, ..Mistakes::ALL } } else { mistakes };
    Some(Found { policy, rules: spots, mistakes })
}

/// What the parts of a `spec` share while they are read.
struct Parts<'r> {
    conditions: &'r mut Conditions,
    problems: &'r mut Problems,
    left: Left,
}

/// What a `spec` says.
#[derive(Default)]
struct Spec {
    matching: Option<Matching>,
    backends: RouteBackends,
    authorized: Authorized,
    metadata: ResourceMetadata,
}

/// Who may call what; each `None` if it has a mistake.
#[derive(Default)]
struct Authorized {
    default_action: Option<Action>,
    rules: Option<(Rules, Vec<RuleSpots>)>,
    table: ScopeTable,
}

impl Parts<'_> {
    fn read(&mut self, item: &Item<'_>, spec: &Fields<'_>) -> Spec {
        let problems = &mut *self.problems;
        self.left.note(spec, &[("parentRefs", "parentRefs"), ("backendRefs", "backendRefs")]);
        refuse(spec, "headers", "policies are picked by host, path or route name", problems);
        refuse(spec, "backendSelector", "say in `authorization` who may call what", problems);
        let (matching, is_bad_matching) = problems.checked(|problems| matching(spec, problems));
        let matching = matching.filter(|_| !is_bad_matching);
        let (backends, is_bad_backend) = problems
            .checked(|problems| spec.get("backendRefs").map(|item| backends(&item, problems)));
        let (authorized, metadata) = self.security(item, spec);
        if let (Some(backends), Some((rules, spots))) = (&backends, &authorized.rules)
            && !is_bad_backend
        {
            unknown_backends(rules, spots, backends, self.problems);
        }
        if !self.left.0.is_empty() {
            let left = self.left.0.join(", ");
            let message = format!("left to the configuration of Envoy: {left}");
            item.lint(Lint::LeftToOthers, self.problems, message);
        }
        let backends = backends.unwrap_or_default().into_iter();
        let backends = backends.map(|name| (name, Exposed::default())).collect();
        let backends = RouteBackends::new(DEFAULT_SEPARATOR.to_owned(), None, backends);
        Spec { matching, backends: backends.unwrap_or_default(), authorized, metadata }
    }

    fn security(
        &mut self,
        spec_item: &Item<'_>,
        spec: &Fields<'_>,
    ) -> (Authorized, ResourceMetadata) {
        let problems = &mut *self.problems;
        let item = spec.get("securityPolicy");
        let (fields, is_unclear) = problems.checked(|problems| {
            item.as_ref().and_then(|item| item.fields(&SECURITY_POLICY, problems))
        });
        let mut metadata = ResourceMetadata::default();
        if let Some(fields) = &fields {
            for key in ["apiKeyAuth", "extAuth"] {
                let instead = "put that filter of Envoy's in front and leave it out here";
                refuse(fields, key, instead, problems);
            }
            if let Some(oauth) = fields.get("oauth") {
                metadata = resource_metadata(&oauth, &mut self.left, problems);
            }
        }
        let authorized = match fields.and_then(|fields| fields.get("authorization")) {
            Some(item) => authorized(&item, self.conditions, problems),
            None if is_unclear => Authorized::default(),
            None => {
                let message = "without `securityPolicy.authorization` every call is allowed";
                spec_item.lint(Lint::NoAuthorization, problems, message);
                Authorized {
                    default_action: Some(Action::Allow),
                    rules: Some((Rules::default(), Vec::new())),
                    table: ScopeTable::default(),
                }
            }
        };
        (authorized, metadata)
    }
}

/// `NAMESPACE/NAME`, or `NAME` alone.
fn name(fields: &Fields<'_>, problems: &mut Problems) -> Option<String> {
    let metadata = fields.required("metadata", problems)?;
    let Some(name) = metadata.peek("name") else {
        metadata.problem(problems, "the key `name` is missing");
        return None;
    };
    let name = name.string(problems);
    match metadata.peek("namespace") {
        Some(namespace) => {
            let namespace = namespace.string(problems);
            Some(format!("{}/{}", namespace?, name?))
        }
        None => name,
    }
}

fn matching(spec: &Fields<'_>, problems: &mut Problems) -> Option<Matching> {
    let hosts = spec.get("hostnames").and_then(|item| item.strings(problems)).unwrap_or_default();
    let mut matching = Matching::default();
    for item in &hosts {
        match HostPattern::parse(item.as_text()) {
            Some(host) => matching.hosts.push(host),
            None => item.problem(problems, format!("`{}` is not a host name", item.as_text())),
        }
    }
    let path = match spec.get("path") {
        Some(item) => {
            let text = item.string(problems)?;
            let path = PathPrefix::exactly(&text);
            if path.is_none() {
                item.problem(problems, format!("`{text}` is not a plain path, such as `/mcp`"));
            }
            path?
        }
        None => PathPrefix::exactly(DEFAULT_PATH)?,
    };
    matching.path_prefixes.push(path);
    Some(matching)
}

/// The names of the backends.
fn backends(item: &Item<'_>, problems: &mut Problems) -> Vec<String> {
    let mut names = Vec::new();
    for item in &item.items(problems).unwrap_or_default() {
        let Some(fields) = item.fields(&BACKEND_REF, problems) else { continue };
        let name = fields.required("name", problems).and_then(|item| item.string(problems));
        names.extend(name);
        let selected = "name the tools that may be called in `authorization`";
        refuse(&fields, "toolSelector", selected, problems);
        for key in ["securityPolicy", "forwardHeaders"] {
            let instead = "what a backend is sent is for Envoy's route to say; leave it out here";
            refuse(&fields, key, instead, problems);
        }
    }
    names
}

#[derive(Default)]
struct ResourceMetadata {
    url: Option<String>,
    scopes: Vec<String>,
}

fn resource_metadata(
    oauth: &Item<'_>,
    left: &mut Left,
    problems: &mut Problems,
) -> ResourceMetadata {
    let Some(fields) = oauth.fields(&OAUTH, problems) else { return ResourceMetadata::default() };
    left.note(
        &fields,
        &[
            ("issuer", "oauth.issuer"),
            ("audiences", "oauth.audiences"),
            ("jwks", "oauth.jwks"),
            ("claimToHeaders", "oauth.claimToHeaders"),
        ],
    );
    let Some(fields) = fields
        .required("protectedResourceMetadata", problems)
        .and_then(|item| item.fields(&RESOURCE_METADATA, problems))
    else {
        return ResourceMetadata::default();
    };
    left.0.push("the protected resource metadata document");
    let resource = fields.required("resource", problems);
    let url = resource.and_then(|item| {
        let resource = item.string(problems)?;
        let url = metadata_url(&resource).filter(|url| is_metadata_url(url));
        if url.is_none() {
            let message = format!(
                "`{resource}` is not the URL of an MCP server, such as \
                 `https://mcp.example.com/mcp` (RFC 9728, section 1.2)"
            );
            item.problem(problems, message);
        }
        url
    });
    let scopes = fields
        .get("scopesSupported")
        .map(|item| scopes(&item, Stars::Literal, problems).0)
        .unwrap_or_default();
    ResourceMetadata { url, scopes }
}

/// Where the metadata of a protected resource are found ([RFC 9728, section
/// 3.1]): the well-known part comes between host and path.
///
/// [RFC 9728, section 3.1]: https://www.rfc-editor.org/rfc/rfc9728#section-3.1
fn metadata_url(resource: &str) -> Option<String> {
    let resource = resource.strip_suffix('/').unwrap_or(resource);
    let scheme = ["https://", "http://"].into_iter().find(|scheme| resource.starts_with(scheme))?;
    let rest = resource.strip_prefix(scheme)?;
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (!rest.contains('#')).then(|| format!("{scheme}{host}{WELL_KNOWN}{path}"))
}

fn authorized(item: &Item<'_>, conditions: &mut Conditions, problems: &mut Problems) -> Authorized {
    let (fields, is_unclear) = problems.checked(|problems| item.fields(&AUTHORIZATION, problems));
    let Some(fields) = fields else { return Authorized::default() };
    let default_action = match fields.get("defaultAction") {
        Some(item) => item.word(&ACTIONS, problems),
        None => Some(Action::Deny),
    };
    let backend = BackendFrom::ToolNamePrefix(DEFAULT_SEPARATOR.to_owned());
    let about = (Some(&backend), Some(Governed::default()));
    let mut table = ScopeTable::default();
    let rules = match fields.get("rules") {
        Some(item) => {
            rules::rules(&item, Dialect::McpRoute, about, (&mut table, conditions), problems)
        }
        None => Some((Rules::default(), Vec::new())),
    };
    if let (Some((rules, _)), Some(default_action)) = (&rules, default_action)
        && rules.is_empty()
        && !is_unclear
    {
        rules::no_rules(fields.get("rules").as_ref().unwrap_or(item), default_action, problems);
    }
    // A key that is not known may have been meant as either.
    let rules = rules.filter(|_| !is_unclear || fields.get("rules").is_some());
    Authorized { default_action: default_action.filter(|_| !is_unclear), rules, table }
}

/// Rules over backends to which no call can be routed.
fn unknown_backends(
    rules: &Rules,
    spots: &[RuleSpots],
    backends: &[String],
    problems: &mut Problems,
) {
    for (rule, spots) in rules.iter().zip(spots) {
        for (target, spot) in rule.targets.iter().flatten().zip(&spots.targets) {
            let Some(backend) = &target.backend else { continue };
            if backends.contains(backend) {
                continue;
            }
            let hint = crate::words::nearest(backend, backends.iter().map(String::as_str))
                .map(|known| format!("; did you mean `{known}`?"))
                .unwrap_or_default();
            let message = format!("`{backend}` is none of the backendRefs{hint}");
            problems.lint(Lint::UnknownBackend, spot.place, &spot.keys, message);
        }
    }
}

#[cfg(test)]
mod tests;
