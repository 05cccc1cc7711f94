//! Policy files: from YAML text to a [`Gate`].
//!
//! The loader reads a file once, as a tree in which each value has its place. It returns a
//! [`Gate`], or a list of all mistakes. A gate never has a policy that is not valid.

mod conditions;
pub(crate) mod decode;
pub(crate) mod files;
mod found;
mod limits;
mod lints;
mod matching;
mod mcproute;
mod policy;
pub(crate) mod problem;
mod rules;
mod scopes;
mod settings;
pub(crate) mod shape;
pub(crate) mod source;
mod targets;
pub(crate) mod yaml;

use std::path::Path;
use std::sync::Arc;

pub use files::{Files, State};
pub use problem::{Diagnostic, Lint, LoadError, Position, Severity};

use self::conditions::Conditions;
use self::decode::Item;
use self::found::{Found, Mistakes};
pub(crate) use self::limits::LARGEST_BODY;
use self::limits::{DEFAULT_LIMITS, LIMITS};
use self::mcproute::RouteDefaults;
use self::policy::POLICY;
use self::problem::Diagnostics;
use self::rules::RuleLocations;
use self::settings::MCP_ROUTE_DEFAULTS;
use self::shape::{MappingSchema, ValueSchema, field};
use self::source::Source;
use crate::gate::{ClaimsFrom, Gate, Limits};
use crate::policy::{Action, Dialect, Policy};

/// The metadata namespace in which Envoy's `jwt_authn` filter puts the payloads that it verified.
const JWT_AUTHN: &str = "envoy.filters.http.jwt_authn";
const ACTIONS: [(&str, Action); 2] = [("Allow", Action::Allow), ("Deny", Action::Deny)];
const ACTION_WORDS: [&str; 2] = [ACTIONS[0].0, ACTIONS[1].0];
const FROM: [&str; 2] = ["metadata", "authorizationHeader"];

/// A policy file.
static FILE: MappingSchema = MappingSchema::new(
    "A policy file of mcp-authz: who may make which MCP tool calls.",
    &[
        field("jwt", ValueSchema::Mapping(&JWT), "Where claims are taken from."),
        field("limits", ValueSchema::Mapping(&LIMITS), "What a request may cost."),
        field(
            "mcpRouteDefaults",
            ValueSchema::Mapping(&MCP_ROUTE_DEFAULTS),
            "Settings of the MCPRoute documents in all files that are loaded together.",
        ),
        field(
            "policies",
            ValueSchema::Mappings(&POLICY),
            "The first that matches a request judges it; if none does, it is refused.",
        ),
    ],
)
.any_of(&["jwt", "limits", "mcpRouteDefaults", "policies"]);

static JWT: MappingSchema = MappingSchema::new(
    "Where claims are taken from.",
    &[
        field(
            "from",
            ValueSchema::Word(&FROM),
            "metadata: what Envoy's jwt_authn verified. authorizationHeader: the bearer token of the request, without a look at its signature.",
        ),
        field(
            "metadata",
            ValueSchema::Mapping(&METADATA),
            "Where jwt_authn puts what it verified.",
        ),
    ],
);

static METADATA: MappingSchema = MappingSchema::new(
    "A place in Envoy's dynamic metadata.",
    &[
        field(
            "namespace",
            ValueSchema::Text,
            "The metadata namespace. Default: envoy.filters.http.jwt_authn.",
        ),
        field(
            "key",
            ValueSchema::Text,
            "The provider's payload_in_metadata. Default: the only payload that is there.",
        ),
    ],
);

/// Returns the JSON Schema of a policy file.
pub fn schema() -> serde_json::Value {
    FILE.document("policy.schema.json", "mcp-authz policy file")
}

/// Loads a policy file, or all policy files of a directory.
///
/// # Errors
/// All mistakes in them.
pub fn load(path: &Path) -> Result<Gate, LoadError> {
    load_files(Files::read(path))
}

/// Loads policy files whose contents [`Files::read`] has read before.
///
/// # Errors
/// All mistakes in them.
pub fn load_files(files: Files) -> Result<Gate, LoadError> {
    let (gate, findings) = gate(files.into_parts(), LintMode::Errors);
    gate.ok_or_else(|| only_errors(findings))
}

/// Loads policy files like [`load`], and also returns warnings and notices.
pub fn inspect(path: &Path) -> (Option<Gate>, Vec<Diagnostic>) {
    gate(Files::read(path).into_parts(), LintMode::Everything)
}

/// Parses the text of a policy file, YAML or JSON.
///
/// # Errors
/// All mistakes in it.
pub fn parse(text: &str) -> Result<Gate, LoadError> {
    let source = Source { file: Path::new("policy").into(), text: text.to_owned() };
    let sources = vec![Ok(source)];
    let digest = files::digest(&sources);
    let (gate, findings) = gate((sources, digest), LintMode::Errors);
    gate.ok_or_else(|| only_errors(findings))
}

fn only_errors(mut findings: Vec<Diagnostic>) -> LoadError {
    findings.retain(|finding| finding.severity == Severity::Error);
    LoadError(findings)
}

/// The kinds of findings that a load looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LintMode {
    Errors,
    Everything,
}

/// The contents of all files that were read so far.
#[derive(Debug, Default)]
struct GateBuilder {
    /// In these three, the inner `Option` is `None` if the setting has a mistake.
    claims_from: Option<(Option<ClaimsFrom>, Arc<Path>)>,
    limits: Option<(Option<Limits>, Arc<Path>)>,
    route_defaults: Option<(Option<RouteDefaults>, Arc<Path>)>,
    policies: Vec<LocatedPolicy>,
}

/// A policy with its place in a file.
#[derive(Debug)]
struct LocatedPolicy {
    policy: Arc<Policy>,
    /// The index of the file in the list of files.
    file: usize,
    spot: Location,
    rules: Vec<RuleLocations>,
    mistakes: Mistakes,
}

/// A place in a file, with the path of keys that leads there.
#[derive(Debug, Clone)]
struct Location {
    place: Position,
    keys: String,
}

impl From<&Item<'_>> for Location {
    fn from(item: &Item<'_>) -> Self {
        Self { place: item.place(), keys: item.path.clone() }
    }
}

fn gate(
    (sources, digest): (Vec<Result<Source, Diagnostics>>, String),
    thoroughness: LintMode,
) -> (Option<Gate>, Vec<Diagnostic>) {
    let mut draft = GateBuilder::default();
    let mut files: Vec<(Diagnostics, String)> = Vec::new();
    let mut parsed = Vec::new();
    for (file, source) in sources.into_iter().enumerate() {
        let Source { file: path, text } = match source {
            Ok(source) => source,
            Err(problems) => {
                files.push((problems, String::new()));
                continue;
            }
        };
        let mut problems = Diagnostics::new(Arc::clone(&path));
        let documents = yaml::parse(&text, &mut problems);
        if documents.is_complete && documents.nodes.is_empty() {
            problems.add(Position::START, "", "the file is empty");
        }
        // `mcpRouteDefaults` applies to the documents of all files, in any order.
        for document in &documents.nodes {
            draft.find_route_defaults(&Item::root(document), (file, &path), &mut problems);
        }
        parsed.push((file, path, documents.nodes));
        files.push((problems, text));
    }
    for (file, path, documents) in &parsed {
        let Some((problems, _)) = files.get_mut(*file) else { continue };
        for document in documents {
            draft.document(&Item::root(document), (*file, path), problems);
        }
    }
    let has_errors = files.iter().any(|(problems, _)| problems.has_errors());
    if draft.policies.is_empty()
        && !has_errors
        && let Some((problems, _)) = files.first_mut()
    {
        problems.add(Position::START, "", "there is neither a policy nor an MCPRoute here");
    }
    draft.find_unused_defaults(&mut files);
    draft.find_unreachable(&mut files);
    if thoroughness == LintMode::Everything {
        lints::selected_by_address(&draft.policies, &mut files);
        for placed in &draft.policies {
            if let Some((problems, _)) = files.get_mut(placed.file) {
                lints::lint(placed, problems);
            }
        }
    }
    let findings: Vec<Diagnostic> =
        files.into_iter().flat_map(|(problems, text)| problems.into_sorted(&text)).collect();
    let is_good = findings.iter().all(|finding| finding.severity != Severity::Error);
    (if is_good { draft.into_gate(digest) } else { None }, findings)
}

impl GateBuilder {
    /// Reads the settings for `MCPRoute` documents, if a document holds them.
    fn find_route_defaults(
        &mut self,
        item: &Item<'_>,
        (file, path): (usize, &Arc<Path>),
        problems: &mut Diagnostics,
    ) {
        if is_kubernetes(item) {
            return;
        }
        // `GateBuilder::document` reports the mistakes of this document later.
        let fields = item.fields(&FILE, &mut Diagnostics::new(Arc::clone(path)));
        if let Some(item) = fields.and_then(|fields| fields.get("mcpRouteDefaults")) {
            let found = Some(mcproute::route_defaults(&item, file, problems));
            given_once(&mut self.route_defaults, found, path, &item, problems);
        }
    }

    /// Reads a document: a policy file, or an object of Kubernetes.
    fn document(&mut self, item: &Item<'_>, file: (usize, &Arc<Path>), problems: &mut Diagnostics) {
        let is_kubernetes = is_kubernetes(item);
        let dialect = if is_kubernetes { Dialect::McpRoute } else { Dialect::Native };
        let mut conditions = Conditions::of(item.node(), dialect);
        if is_kubernetes {
            let (number, _) = file;
            let none = RouteDefaults::default();
            let defaults = match &self.route_defaults {
                Some((Some(defaults), _)) => defaults,
                _ => &none,
            };
            let mut routes = Vec::new();
            let context = (defaults, &mut conditions);
            mcproute::read(item, context, problems, &mut |found, spot| routes.push((found, spot)));
            for (found, spot) in routes {
                self.place(found, number, spot);
            }
        } else {
            self.policy_file(item, file, &mut conditions, problems);
        }
    }

    fn policy_file(
        &mut self,
        item: &Item<'_>,
        (file, path): (usize, &Arc<Path>),
        conditions: &mut Conditions,
        problems: &mut Diagnostics,
    ) {
        let Some(fields) = item.fields(&FILE, problems) else { return };
        if let Some(jwt) = fields.get("jwt") {
            let found = claims_from(&jwt, problems);
            given_once(&mut self.claims_from, found, path, &jwt, problems);
        }
        if let Some(limits_item) = fields.get("limits") {
            let found = limits::limits(&limits_item, problems);
            given_once(&mut self.limits, found, path, &limits_item, problems);
        }
        let Some(list) = fields.get("policies") else {
            let others = ["jwt", "limits", "mcpRouteDefaults"];
            if others.iter().all(|key| fields.get(key).is_none()) {
                fields.required("policies", problems);
            }
            return;
        };
        for item in &list.items(problems).unwrap_or_default() {
            if let Some(found) = policy::policy(item, conditions, problems) {
                self.place(found, file, item.into());
            }
        }
    }

    fn place(&mut self, Found { policy, rules, mistakes }: Found, file: usize, spot: Location) {
        self.policies.push(LocatedPolicy { policy: Arc::new(policy), file, spot, rules, mistakes });
    }

    /// Warns of `mcpRouteDefaults` if no file has an `MCPRoute`.
    fn find_unused_defaults(&self, files: &mut [(Diagnostics, String)]) {
        let has_errors = files.iter().any(|(problems, _)| problems.has_errors());
        let is_route = |placed: &LocatedPolicy| placed.policy.dialect == Dialect::McpRoute;
        if has_errors || self.policies.iter().any(is_route) {
            return;
        }
        if let Some((Some(RouteDefaults { spot: Some((file, spot)), .. }), _)) =
            &self.route_defaults
            && let Some((problems, _)) = files.get_mut(*file)
        {
            let message = "there is no MCPRoute that these settings could apply to";
            problems.lint(Lint::NoEffect, spot.place, &spot.keys, message);
        }
    }

    /// Reports policies that no request can reach.
    fn find_unreachable(&self, files: &mut [(Diagnostics, String)]) {
        for (index, LocatedPolicy { policy, file, spot, mistakes, .. }) in
            self.policies.iter().enumerate()
        {
            let Some((problems, _)) = files.get_mut(*file) else { continue };
            let earlier = |is_known: fn(&Mistakes) -> bool| {
                let earlier = self.policies.iter().take(index);
                let known = earlier.filter(move |placed| is_known(&placed.mistakes));
                known.filter(move |_| is_known(mistakes)).map(|placed| &placed.policy)
            };
            let is_namesake = |first: &&Arc<Policy>| first.name == policy.name;
            if let Some(first) = earlier(|mistakes| !mistakes.name).find(is_namesake) {
                let message = format!("another policy is called `{}` too", first.name);
                problems.add(spot.place, &spot.keys, message);
            }
            let takes_all = |first: &&Arc<Policy>| first.matching.covers(&policy.matching);
            if let Some(first) = earlier(|mistakes| !mistakes.matching).find(takes_all) {
                let message = format!(
                    "this policy never applies: `{}` comes before it and takes all of its \
                     requests (the first that matches judges)",
                    first.name
                );
                problems.add(spot.place, &spot.keys, message);
            } else if let Some((first, host)) = earlier(|mistakes| !mistakes.matching)
                .filter(|first| {
                    [first.dialect, policy.dialect].iter().all(|one| *one == Dialect::McpRoute)
                })
                .find_map(|first| Some((first, first.matching.takes_host_of(&policy.matching)?)))
            {
                let message = format!(
                    "`{}` comes before this document and decides about `{host}`, which Envoy routes \
                     by this one if its host name is narrower: put this one first, or name each \
                     host in one document only",
                    first.name
                );
                problems.add(spot.place, &spot.keys, message);
            }
            let ambiguous = self.policies.iter().find_map(|placed| {
                let path = policy.matching.ambiguous_beside(&placed.policy.matching)?;
                Some((path, &placed.policy.name))
            });
            if let Some((path, other)) = ambiguous {
                let message = format!(
                    "no request can match the path `{path}`: some servers take it for a path of \
                     `{other}`, from which it differs only in letters' case or in how a segment \
                     ends, so the answer is always 400"
                );
                problems.add(spot.place, &spot.keys, message);
            }
        }
    }

    /// Returns the gate, or `None` if any part has a mistake.
    fn into_gate(self, digest: String) -> Option<Gate> {
        let policy = |placed: LocatedPolicy| (!placed.mistakes.any).then_some(placed.policy);
        Some(Gate {
            digest: digest.into(),
            claims_from: match self.claims_from {
                Some((found, _)) => found?,
                None => metadata(None, None),
            },
            limits: match self.limits {
                Some((found, _)) => found?,
                None => DEFAULT_LIMITS,
            },
            policies: self.policies.into_iter().map(policy).collect::<Option<_>>()?,
        })
    }
}

/// Returns true for an object of Kubernetes, such as an `MCPRoute`.
fn is_kubernetes(item: &Item<'_>) -> bool {
    item.peek("kind").is_some() && item.peek("apiVersion").is_some()
}

/// Stores a setting that only one document may give. Reports each further one as a mistake.
fn given_once<T>(
    place: &mut Option<(Option<T>, Arc<Path>)>,
    found: Option<T>,
    path: &Arc<Path>,
    item: &Item<'_>,
    problems: &mut Diagnostics,
) {
    if let Some((_, first)) = place {
        let message = format!("`{}` is given already, in {}", item.path, first.display());
        item.problem(problems, message);
    } else {
        *place = Some((found, Arc::clone(path)));
    }
}

fn metadata(namespace: Option<String>, key: Option<String>) -> ClaimsFrom {
    ClaimsFrom::Metadata { namespace: namespace.unwrap_or_else(|| JWT_AUTHN.to_owned()), key }
}

fn claims_from(item: &Item<'_>, problems: &mut Diagnostics) -> Option<ClaimsFrom> {
    let fields = item.fields(&JWT, problems)?;
    let from_metadata = match fields.get("from") {
        Some(from) => from.word(&[(FROM[0], true), (FROM[1], false)], problems),
        None => Some(true),
    };
    let metadata_item = fields.get("metadata");
    if let (Some(item), Some(false)) = (&metadata_item, from_metadata) {
        let message = "`metadata` has no meaning with `from: authorizationHeader`";
        item.problem(problems, message);
    }
    let place = metadata_item.and_then(|item| item.fields(&METADATA, problems));
    let mut text = |key| place.as_ref()?.get(key)?.string(problems);
    let (namespace, key) = (text("namespace"), text("key"));
    match from_metadata? {
        true => Some(metadata(namespace, key)),
        false => Some(ClaimsFrom::AuthorizationHeader),
    }
}

#[cfg(test)]
mod mistake_tests;
#[cfg(test)]
mod tests;
