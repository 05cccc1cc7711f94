//! The rules of a policy.

use std::sync::Arc;

use super::conditions::Conditions;
use super::decode::Item;
use super::policy::scopes;
use super::problem::{Lint, Place, Problems};
use super::shape::{Holds, Shape, field};
use super::yaml::Scalar;
use super::{ACTION_WORDS, ACTIONS, Spot};
use crate::claims::Claims;
use crate::policy::{
    Action, BackendFrom, ClaimType, Condition, ConditionError, RequiredClaim, RequiredScopes, Rule,
    Rules, ScopeTable, Target, ToolPattern,
};

const CLAIM_TYPES: [(&str, ClaimType); 2] =
    [("String", ClaimType::String), ("StringArray", ClaimType::StringArray)];

/// A rule.
pub(super) static RULE: Shape = Shape::new(
    "Matches a call if all that is given matches; what is left out matches every call.",
    &[
        field("name", Holds::Text, "For logs; never told to a caller."),
        field("action", Holds::Word(&ACTION_WORDS), "What becomes of a call that it matches.")
            .required(),
        field("source", Holds::Mapping(&SOURCE), "Who calls."),
        field("target", Holds::Mapping(&TARGET), "What is called."),
        field("cel", Holds::Condition, "Must be true of `request`, `args` and `meta` (CEL)."),
    ],
);

static SOURCE: Shape = Shape::new(
    "Who calls.",
    &[field("jwt", Holds::Mapping(&JWT), "What the caller's token says.").required()],
);

static JWT: Shape = Shape {
    any_of: &["scopes", "claims"],
    ..Shape::new(
        "What the caller's token says.",
        &[
            field(
                "scopes",
                Holds::Scopes { may_be_empty: false },
                "All of these are granted, by the claims `scope` and `scp` (RFC 6749, section 3.3).",
            ),
            field("claims", Holds::Mappings(&CLAIM), "All of these hold."),
        ],
    )
};

static CLAIM: Shape = Shape::new(
    "A claim of the caller's token.",
    &[
        field("name", Holds::Text, "The claim; a dotted path leads into objects.").required(),
        field("valueType", Holds::Word(&[CLAIM_TYPES[0].0, CLAIM_TYPES[1].0]), "String: a text, equal to one of `values`. StringArray: a list of which any element is, or a single text.").required(),
        field("values", Holds::Texts, "One of these.").required(),
    ],
);

static TARGET: Shape = Shape::new(
    "What is called.",
    &[field("tools", Holds::Mappings(&TOOL), "Any of these.").required()],
);

static TOOL: Shape = Shape {
    one_of: &["tool", "toolName"],
    ..Shape::new(
        "A tool that is called.",
        &[
            field("backend", Holds::Text, "Its backend; left out: any."),
            field(
                "tool",
                Holds::Text,
                "Its name without the backend's prefix; `*` stands for any characters.",
            ),
            field("toolName", Holds::Text, "Another word for `tool`."),
            field("when", Holds::Condition, "Must be true of `args`, `meta` and `request` (CEL)."),
        ],
    )
};

/// Where the parts of a rule stand.
#[derive(Debug)]
pub(super) struct RuleSpots {
    pub(super) rule: Spot,
    pub(super) targets: Vec<Spot>,
    /// Its scopes, as they are named.
    pub(super) scopes: Vec<Spot>,
}

/// What an `MCPRoute` says differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A policy file of mcp-authz.
    Own,
    /// A document of Kubernetes.
    McpRoute,
}

/// Reads rules whose backends are told by `backend_from`, which is `None` if that
/// was a mistake.
pub(super) fn rules(
    item: &Item<'_>,
    dialect: Dialect,
    backend_from: Option<&BackendFrom>,
    (table, conditions): (&mut ScopeTable, &mut Conditions),
    problems: &mut Problems,
) -> Option<(Rules, Vec<RuleSpots>)> {
    // Every rule is read before the first that failed ends it all.
    let items = item.items(problems)?;
    let mut reading = Reading { dialect, backend_from, table, conditions, problems };
    let rules: Vec<_> = items.iter().map(|item| reading.rule(item)).collect();
    let (rules, spots): (Vec<_>, Vec<_>) =
        rules.into_iter().collect::<Option<Vec<_>>>()?.into_iter().unzip();
    Some((Rules::new(rules), spots))
}

/// What all rules of a policy share while they are read.
struct Reading<'r> {
    dialect: Dialect,
    backend_from: Option<&'r BackendFrom>,
    table: &'r mut ScopeTable,
    conditions: &'r mut Conditions,
    problems: &'r mut Problems,
}

/// What a part of a rule is, where it stands, and whether it was valid: what is
/// not must not become nothing.
type Part<T> = Option<Option<T>>;

fn valid<T>(part: Part<T>) -> Option<Option<T>> {
    match part {
        Some(value) => value.map(Some),
        None => Some(None),
    }
}

impl Reading<'_> {
    fn rule(&mut self, item: &Item<'_>) -> Option<(Rule, RuleSpots)> {
        let fields = item.fields(self.dialect.rule(), self.problems)?;
        let name = fields.get("name").and_then(|item| item.string(self.problems));
        let action = match (fields.get("action"), self.dialect) {
            (None, Dialect::McpRoute) => Some(Action::Allow),
            _ => fields
                .required("action", self.problems)
                .and_then(|item| item.word(&ACTIONS, self.problems)),
        };
        let source = fields.get("source").map(|item| self.source(&item)).unwrap_or_default();
        let targets = fields.get("target").map(|item| self.targets(&item));
        let cel = fields.get("cel").map(|item| self.condition(&item));
        let (targets, target_spots) = match valid(targets)? {
            Some((targets, spots)) => (Some(targets), spots),
            None => (None, Vec::new()),
        };
        let spots = RuleSpots { rule: item.into(), targets: target_spots, scopes: source.spots };
        let rule = Rule {
            name,
            action: action?,
            scopes: RequiredScopes::new(source.scopes, self.table),
            claims: source.claims,
            targets,
            cel: valid(cel)?,
        };
        Some((rule, spots))
    }

    /// The scopes and claims that a caller must have.
    fn source(&mut self, item: &Item<'_>) -> Source {
        let problems = &mut *self.problems;
        let jwt =
            item.fields(&SOURCE, problems).and_then(|source| source.required("jwt", problems));
        let Some(jwt) = jwt else { return Source::default() };
        let Some(fields) = jwt.fields(&JWT, problems) else { return Source::default() };
        let (scope_item, claim_item) = (fields.get("scopes"), fields.get("claims"));
        if scope_item.is_none() && claim_item.is_none() {
            jwt.problem(problems, "expected `scopes`, `claims` or both");
        }
        let (scopes, spots) = scope_item.map(|item| scopes(&item, problems)).unwrap_or_default();
        let claims = claim_item.map(|item| self.claims(&item)).unwrap_or_default();
        Source { scopes, spots, claims }
    }

    fn claims(&mut self, item: &Item<'_>) -> Vec<RequiredClaim> {
        let items = item.items(self.problems).unwrap_or_default();
        items.iter().filter_map(|item| self.claim(item)).collect()
    }

    fn claim(&mut self, item: &Item<'_>) -> Option<RequiredClaim> {
        let problems = &mut *self.problems;
        let fields = item.fields(&CLAIM, problems)?;
        let name_item = fields.required("name", problems);
        let name = name_item.as_ref().and_then(|item| item.string(problems));
        if let (Some(item), Some(name)) = (&name_item, &name)
            && Claims::SCOPE_CLAIMS.contains(&name.as_str())
        {
            item.problem(problems, format!("`{name}` holds scopes: require them with `scopes`"));
        }
        let value_type = match (fields.get("valueType"), self.dialect) {
            (None, Dialect::McpRoute) => Some(ClaimType::String),
            _ => fields
                .required("valueType", problems)
                .and_then(|item| item.word(&CLAIM_TYPES, problems)),
        };
        let values = fields.required("values", problems).and_then(|item| item.strings(problems));
        let values = values
            .map(|items| items.iter().map(|item| item.as_text().to_owned()).collect::<Vec<_>>());
        let by_path_only = self.dialect == Dialect::McpRoute;
        Some(RequiredClaim { name: name?, by_path_only, value_type: value_type?, values: values? })
    }

    fn targets(&mut self, item: &Item<'_>) -> Option<(Vec<Target>, Vec<Spot>)> {
        let fields = item.fields(&TARGET, self.problems)?;
        let items = fields.required("tools", self.problems)?.items(self.problems)?;
        let targets: Vec<Option<Target>> = items.iter().map(|item| self.target(item)).collect();
        Some((targets.into_iter().collect::<Option<_>>()?, items.iter().map(Spot::from).collect()))
    }

    fn target(&mut self, item: &Item<'_>) -> Option<Target> {
        let fields = item.fields(&TOOL, self.problems)?;
        let when = fields.get("when").map(|item| self.condition(&item));
        let problems = &mut *self.problems;
        let tool_item = match (fields.get("tool"), fields.get("toolName")) {
            (Some(tool), None) | (None, Some(tool)) => Some(tool),
            (Some(_), Some(second)) => {
                second.problem(problems, "`toolName` is another word for `tool`: give one of them");
                None
            }
            (None, None) => {
                let message = "the key `tool` is missing (`*` means every tool)";
                problems.add(fields.place(), &item.path, message);
                None
            }
        };
        let backend_item = fields.get("backend");
        let tool = tool_item.as_ref().and_then(|item| item.string(problems));
        if self.dialect == Dialect::McpRoute {
            fields.required("backend", problems);
        }
        let backend = backend_item.as_ref().map(|item| item.string(problems));

        if let (Some(item), Some(tool)) = (&tool_item, &tool) {
            let prefixed = backend_item.is_none().then_some(self.backend_from).flatten();
            if let Some(mistake) = tool_mistake(tool, prefixed, self.dialect) {
                item.problem(problems, mistake);
            }
        }
        if let (Some(item), Some(Some(backend)), Some(from)) =
            (&backend_item, &backend, self.backend_from)
            && let Some(mistake) = backend_mistake(backend, from)
        {
            item.problem(problems, mistake);
        }
        Some(Target { backend: valid(backend)?, tool: ToolPattern::new(tool?), when: valid(when)? })
    }

    fn condition(&mut self, item: &Item<'_>) -> Option<Arc<Condition>> {
        let scalar = item.text(self.problems)?;
        match self.conditions.get(&scalar.text) {
            Ok(condition) => {
                for doubt in condition.doubts() {
                    let (place, message) = blamed(item, scalar, doubt);
                    self.problems.lint(Lint::HeaderCapitals, place, &item.path, message);
                }
                Some(condition)
            }
            Err(errors) => {
                for error in &errors {
                    let (place, message) = blamed(item, scalar, error);
                    self.problems.add(place, &item.path, message);
                }
                None
            }
        }
    }
}

/// Who calls.
#[derive(Default)]
struct Source {
    scopes: Vec<String>,
    spots: Vec<Spot>,
    claims: Vec<RequiredClaim>,
}

impl Dialect {
    fn rule(self) -> &'static Shape {
        match self {
            Self::Own => &RULE,
            Self::McpRoute => &super::mcproute::RULE,
        }
    }
}

/// Why a tool's name can match no call, if it cannot. `prefixed` tells backends
/// if the target names none.
fn tool_mistake(tool: &str, prefixed: Option<&BackendFrom>, dialect: Dialect) -> Option<String> {
    if dialect == Dialect::McpRoute && tool.contains('*') {
        return Some(format!(
            "`{tool}`: an MCPRoute names its tools in full; leave `target` out to mean all of them"
        ));
    }
    if tool.trim() != tool || tool.contains(char::is_control) {
        return Some(format!(
            "`{}` never matches: it has spaces around it or control characters",
            tool.escape_debug()
        ));
    }
    let Some(BackendFrom::ToolNamePrefix(separator)) = prefixed else { return None };
    let (backend, rest) = tool.split_once(separator)?;
    let names_both = !backend.is_empty() && !backend.contains('*') && !rest.is_empty();
    names_both.then(|| {
        format!(
            "`{tool}` has a backend's name in front, and the tool's name is what follows it: write \
             `backend: {backend}, tool: {rest}`"
        )
    })
}

/// Why a backend can match no call, if it cannot.
fn backend_mistake(backend: &str, from: &BackendFrom) -> Option<String> {
    if backend.contains('*') {
        return Some(format!(
            "`{backend}`: a backend is named in full; leave `backend` out to mean all of them"
        ));
    }
    match from {
        BackendFrom::Name(only) if only != backend => Some(format!(
            "`{backend}` never matches: the policy says that every tool is of the backend `{only}`"
        )),
        BackendFrom::ToolNamePrefix(separator) if backend.contains(separator.as_str()) => {
            Some(format!(
                "`{backend}` never matches: a backend's name ends before the first `{separator}`"
            ))
        }
        _ => None,
    }
}

/// Where in the file something is wrong with an expression, and what.
fn blamed(item: &Item<'_>, scalar: &Scalar, error: &ConditionError) -> (Place, String) {
    let before = scalar.text.get(..error.offset).unwrap_or(&scalar.text);
    match scalar.text_starts {
        Some(Place { line, column }) => {
            (Place { line, column: column + before.chars().count() }, error.message.clone())
        }
        None => (item.place(), format!("{}{}", position(before), error.message)),
    }
}

/// A place within a text that does not stand in the file as it is.
fn position(before: &str) -> String {
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column} of the condition: ")
}
