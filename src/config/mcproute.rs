//! `MCPRoute` documents of Agent Router, v1alpha1 and v1beta1. The two versions differ only in the
//! `when` of early v1alpha1.
//!
//! Envoy does some parts of a document, such as routing and verifying tokens. The loader leaves
//! these parts to Envoy and reports a notice. A part that neither Envoy nor mcp-authz would do is
//! an error.

mod address;
mod backends;
mod defaults;
mod left;
mod oauth;
mod selectors;

pub(super) use defaults::{RouteDefaults, route_defaults};

use self::address::Address;
use self::backends::Backends;
use self::left::Left;
use self::oauth::Oauth;
use super::conditions::Conditions;
use super::decode::{Item, MappingRef};
use super::found::{Found, Mistakes};
use super::problem::{Diagnostics, Lint};
use super::rules::{self, RuleLocations};
use super::settings::{Settings, given};
use super::shape::{Field, MappingSchema, ValueSchema, field};
use super::yaml::Value;
use super::{ACTION_WORDS, ACTIONS, Location};
use crate::policy::{
    Action, BackendSource, Batches, ConditionErrors, Dialect, Enforcement, ListVisibilities,
    ListVisibility, Policy, Rules, ScopeTable, Tasks, Unauthenticated,
};
use crate::words;

const GROUP: &str = "aigateway.envoyproxy.io";
const VERSIONS: [&str; 2] = ["v1alpha1", "v1beta1"];
const KIND: &str = "MCPRoute";

// The descriptions are empty: errors need only the keys, and the CRD has its own descriptions.
const fn key(key: &'static str) -> Field {
    field(key, ValueSchema::Object, "")
}

const fn shape(fields: &'static [Field]) -> MappingSchema {
    MappingSchema::new("", fields)
}

static OBJECT: MappingSchema =
    shape(&[key("apiVersion"), key("kind"), key("metadata"), key("spec"), key("status")]);
static SPEC: MappingSchema = shape(&[
    key("parentRefs"),
    key("path"),
    key("headers"),
    key("hostnames"),
    key("backendRefs"),
    key("backendSelector"),
    key("backendTrafficPolicy"),
    key("prefixMode"),
    key("securityPolicy"),
]);
static SECURITY_POLICY: MappingSchema =
    shape(&[key("oauth"), key("apiKeyAuth"), key("extAuth"), key("authorization")]);
static AUTHORIZATION: MappingSchema = shape(&[key("defaultAction"), key("rules")]);
pub(super) static RULE: MappingSchema = shape(&[
    field("action", ValueSchema::Word(&ACTION_WORDS), ""),
    key("source"),
    key("target"),
    key("cel"),
]);
pub(super) static TARGET: MappingSchema = shape(&[key("tools")]);

/// Reads an object of Kubernetes: an `MCPRoute`, or a list of objects. Skips objects of other
/// kinds.
pub(super) fn read(
    item: &Item<'_>,
    (defaults, conditions): (&RouteDefaults, &mut Conditions),
    problems: &mut Diagnostics,
    add: &mut dyn FnMut(Found, Location),
) {
    let text = |key| item.peek(key).map(|item| item.as_text().to_owned()).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    const KEYS_OF_FILES: [&str; 4] = ["policies", "mcpRouteDefaults", "jwt", "limits"];
    if let Some(key) = KEYS_OF_FILES.into_iter().find(|key| item.peek(key).is_some()) {
        let message = format!(
            "a policy file has neither `apiVersion` nor `kind`, and an object of Kubernetes no \
             `{key}`: which is it?"
        );
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
                read(item, (defaults, conditions), problems, add);
            }
        }
        return;
    }
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let is_almost = kind != KIND && words::almost(&kind, [KIND]).is_some();
    let is_ours = group.eq_ignore_ascii_case(GROUP);
    if is_ours && group != GROUP {
        item.problem(problems, format!("expected the group `{GROUP}`, found `{group}`"));
        return;
    }
    if kind.is_empty() || (is_ours && is_almost) {
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
    let (found, any) = problems.checked(|problems| route(item, defaults, conditions, problems));
    if let Some(found) = found {
        add(found.with_mistakes(any), item.into());
    }
}

/// Reports a key that mcp-authz does not support.
fn refuse(fields: &MappingRef<'_>, key: &str, instead: &str, problems: &mut Diagnostics) {
    if let Some(item) = fields.get(key) {
        item.problem(problems, format!("`{key}` is not supported here: {instead}"));
    }
}

/// Reads a document. Returns `None` if the document is no mapping. Reads every part, even if others
/// have mistakes. The strictest value replaces a part with a mistake.
fn route(
    item: &Item<'_>,
    RouteDefaults { settings, mistakes: defaults, .. }: &RouteDefaults,
    conditions: &mut Conditions,
    problems: &mut Diagnostics,
) -> Option<Found> {
    let fields = item.fields(&OBJECT, problems)?;
    let name = name(&fields, problems);
    let spec_item = fields.required("spec", problems);
    let (spec, is_unclear) = problems.checked(|problems| {
        spec_item.as_ref().and_then(|item| item.fields_or_null(&SPEC, problems))
    });
    let mut table = settings.hierarchy.clone();
    let mut parts =
        Parts { conditions, problems, settings, table: &mut table, left: Left::default() };
    let Spec { address, backends, security } = match (&spec_item, &spec) {
        (Some(item), Some(spec)) => parts.read(item, spec),
        _ => Spec::default(),
    };
    let Security { oauth, default_action, rules } = security;
    let mistakes = Mistakes {
        name: name.is_none(),
        matching: address.matching.is_none(),
        default_action: default_action.is_none(),
        rules: rules.is_none(),
        any: defaults.any
            || name.is_none()
            || address.matching.is_none()
            || default_action.is_none()
            || rules.is_none(),
        ..*defaults
    };
    let (rules, spots) = rules.unwrap_or_default();
    let unauthenticated = match &oauth {
        Some(_) => Unauthenticated::Challenge,
        None => given(settings.unauthenticated).unwrap_or(Unauthenticated::Forbid),
    };
    let Oauth { accepted_tokens, metadata_url, scopes_supported } = oauth.unwrap_or_default();
    let policy = Policy {
        name: name.unwrap_or_default(),
        dialect: Dialect::McpRoute,
        matching: address.matching.unwrap_or_default(),
        backend: BackendSource::Route(backends.route),
        resource_metadata_url: metadata_url.or_else(|| settings.resource_metadata_url.clone()),
        scopes_supported: scopes_supported
            .or_else(|| settings.scopes_supported.clone())
            .unwrap_or_default(),
        accepted_tokens,
        unauthenticated,
        enforcement: given(settings.enforcement).unwrap_or(Enforcement::Enforce),
        batches: given(settings.batches).unwrap_or(Batches::Reject),
        governed: given(settings.governed).unwrap_or_default(),
        lists: settings.lists(ListVisibilities {
            tools: ListVisibility::Permitted,
            ..ListVisibilities::UNFILTERED
        }),
        tasks: given(settings.tasks).unwrap_or(Tasks::Continue),
        condition_errors: given(settings.condition_errors).unwrap_or(ConditionErrors::DenyAny),
        default_action: default_action.unwrap_or(Action::Deny),
        rules,
        scopes: table,
    };
    // An unknown key may be a misspelling of any key.
    let mistakes =
        if is_unclear { Mistakes { name: mistakes.name, ..Mistakes::ALL } } else { mistakes };
    Some(Found { policy, rules: spots, mistakes })
}

/// The state that the parts of a `spec` share while the loader reads them.
struct Parts<'r> {
    conditions: &'r mut Conditions,
    problems: &'r mut Diagnostics,
    /// The settings of `mcpRouteDefaults`.
    settings: &'r Settings,
    table: &'r mut ScopeTable,
    left: Left,
}

/// The contents of a `spec`.
#[derive(Default)]
struct Spec {
    address: Address,
    backends: Backends,
    security: Security,
}

/// The security policy of a route. Each part is `None` if it is missing or has a mistake.
#[derive(Default)]
struct Security {
    oauth: Option<Oauth>,
    default_action: Option<Action>,
    rules: Option<(Rules, Vec<RuleLocations>)>,
}

impl Parts<'_> {
    fn read(&mut self, item: &Item<'_>, spec: &MappingRef<'_>) -> Spec {
        let problems = &mut *self.problems;
        self.left.note(
            spec,
            &[("parentRefs", "parentRefs"), ("backendTrafficPolicy", "backendTrafficPolicy")],
        );
        if let Some(item) = spec.get("headers").filter(|item| !item.is_empty_list()) {
            self.left.add("headers");
            let message = "Envoy routes by these headers, and this document decides about requests \
                           with other headers, too, if Envoy routes them at all: to deny their \
                           calls, add a first rule for each header, such as `{action: Deny, cel: \
                           'request.headers[?\"NAME\"].orValue(\"\") != \"VALUE\"'}`";
            item.lint(Lint::NoEffect, problems, message);
        }
        let instead = "sessions are not restricted to some backends: remove it, and say in \
                       `authorization` who may call the tools of which backend, as in `cel: \
                       request.mcp.backend == \"NAME\"`";
        refuse(spec, "backendSelector", instead, problems);
        let address = Address::read(spec, problems);
        let (backends, is_bad_backend) = problems.checked(|problems| {
            let default = self.settings.backend.as_ref().ok().and_then(Option::as_ref);
            Backends::read(spec, default, &mut self.left, problems)
        });
        let security = self.security(item, spec, &address);
        if let Some((rules, spots)) = &security.rules
            && !is_bad_backend
        {
            backends.find_unreachable(rules, spots, self.problems);
        }
        self.left.notice(item, self.problems);
        Spec { address, backends, security }
    }

    fn security(
        &mut self,
        spec_item: &Item<'_>,
        spec: &MappingRef<'_>,
        address: &Address,
    ) -> Security {
        let problems = &mut *self.problems;
        let item = spec.get("securityPolicy");
        let (fields, is_unclear) = problems.checked(|problems| {
            item.as_ref().and_then(|item| item.fields_or_null(&SECURITY_POLICY, problems))
        });
        let part = |key| fields.as_ref().and_then(|fields| fields.get(key));
        for (key, item) in ["apiKeyAuth", "extAuth"].map(|key| (key, part(key))) {
            let Some(item) = item else { continue };
            let message = format!(
                "`{key}` is left to Envoy, and rules see only what a token says: a caller without \
                 one has no scopes and no claims"
            );
            item.lint(Lint::OtherCredentials, problems, message);
        }
        let oauth_item = part("oauth");
        let default_url = self.settings.resource_metadata_url.as_deref();
        let oauth = oauth_item
            .as_ref()
            .map(|item| Oauth::read(item, (address, default_url), &mut self.left, problems));
        let Some(item) = part("authorization") else {
            if is_unclear {
                return Security { oauth, ..Security::default() };
            }
            let message = "without `securityPolicy.authorization` every call is allowed";
            spec_item.lint(Lint::NoAuthorization, problems, message);
            let rules = Some((Rules::default(), Vec::new()));
            return Security { oauth, default_action: Some(Action::Allow), rules };
        };
        let security = Security { oauth, ..self.authorization(&item) };
        if let Some((rules, spots)) = &security.rules
            && oauth_item.is_none()
            && !is_unclear
        {
            requires_no_token(rules, spots, self.problems);
        }
        security
    }

    fn authorization(&mut self, item: &Item<'_>) -> Security {
        let problems = &mut *self.problems;
        let (fields, is_unclear) =
            problems.checked(|problems| item.fields_or_null(&AUTHORIZATION, problems));
        let Some(fields) = fields else { return Security::default() };
        let default_action = match fields.get("defaultAction") {
            Some(item) => item.word(&ACTIONS, problems),
            None => Some(Action::Deny),
        };
        let rules = match fields.get("rules") {
            Some(item) => {
                let state = (&mut *self.table, &mut *self.conditions);
                rules::rules(&item, Dialect::McpRoute, (None, None), state, problems)
            }
            None => Some((Rules::default(), Vec::new())),
        };
        if let (Some((rules, _)), Some(default_action)) = (&rules, default_action)
            && rules.is_empty()
            && !is_unclear
        {
            rules::no_rules(fields.get("rules").as_ref().unwrap_or(item), default_action, problems);
        }
        // An unknown key may be a misspelling of either key.
        let rules = rules.filter(|_| !is_unclear || fields.get("rules").is_some());
        let default_action = default_action.filter(|_| !is_unclear);
        Security { oauth: None, default_action, rules }
    }
}

/// Warns of the first rule that requires scopes or claims. The caller calls this function for a
/// document without `oauth`.
fn requires_no_token(rules: &Rules, spots: &[RuleLocations], problems: &mut Diagnostics) {
    let mut requiring = rules.iter().zip(spots);
    let requires =
        |rule: &crate::policy::Rule| !rule.scopes.names().is_empty() || !rule.claims.is_empty();
    if let Some((_, spots)) = requiring.find(|(rule, _)| requires(rule)) {
        let message = "this rule requires scopes or claims, but without `securityPolicy.oauth` \
                       (which the CRD demands then) nothing says which tokens count: any that \
                       Envoy verifies does; add `oauth` with `issuer` and `audiences`";
        problems.lint(Lint::NoOauth, spots.rule.place, &spots.rule.keys, message);
    }
}

/// Returns the name of a document: `NAMESPACE/NAME`, or `NAME` alone.
fn name(fields: &MappingRef<'_>, problems: &mut Diagnostics) -> Option<String> {
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

#[cfg(test)]
mod tests;
