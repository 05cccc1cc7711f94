//! The rules of a policy.

use std::sync::Arc;

use super::conditions::Conditions;
use super::decode::{Item, one_of};
use super::problem::{Lint, Place, Problems};
use super::scopes::{Stars, scopes};
use super::shape::{Holds, Shape, field};
use super::targets::{TARGET, TARGETS, backend_mistake, name_mistake, uri_doubt};
use super::yaml::Scalar;
use super::{ACTION_WORDS, ACTIONS, Spot};
use crate::claims::Claims;
use crate::mcp::{Feature, Governed};
use crate::policy::{
    Action, BackendFrom, ClaimType, ClaimValue, Comparison, Condition, ConditionError, Dialect,
    Glob, RequiredClaim, RequiredScopes, Rule, Rules, ScopeTable, SuspicionKind, Target,
};
use serde_json::Value as Json;

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
        field("valueType", Holds::Word(&[CLAIM_TYPES[0].0, CLAIM_TYPES[1].0]), "String: a single value, one of `values`. StringArray: a list with one of them, or a single one.").required(),
        field("values", Holds::Scalars, "One of these: strings, in which `*` stands for any characters, booleans or numbers, compared with their type.").required(),
    ],
);

/// Where the parts of a rule stand.
#[derive(Debug)]
pub(super) struct RuleSpots {
    pub(super) rule: Spot,
    pub(super) targets: Vec<Spot>,
    /// Its scopes, as they are named.
    pub(super) scopes: Vec<Spot>,
}

/// Reads rules over what is governed, whose backends are told by `backend_from`, which is
/// `None` if that was a mistake.
pub(super) fn rules(
    item: &Item<'_>,
    dialect: Dialect,
    (backend_from, governed): (Option<&BackendFrom>, Governed),
    (table, conditions): (&mut ScopeTable, &mut Conditions),
    problems: &mut Problems,
) -> Option<(Rules, Vec<RuleSpots>)> {
    // Every rule is read before the first that failed ends it all.
    let items = item.items(problems)?;
    let mut reading = Reading { dialect, backend_from, governed, table, conditions, problems };
    let rules: Vec<_> = items.iter().map(|item| reading.rule(item)).collect();
    let (rules, spots): (Vec<_>, Vec<_>) =
        rules.into_iter().collect::<Option<Vec<_>>>()?.into_iter().unzip();
    Some((Rules::new(rules, dialect), spots))
}

/// What all rules of a policy share while they are read.
struct Reading<'r> {
    dialect: Dialect,
    backend_from: Option<&'r BackendFrom>,
    governed: Governed,
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
        let fields = item.fields(rule_shape(self.dialect), self.problems)?;
        let name = fields.get("name").and_then(|item| item.string(self.problems));
        let action = match (fields.get("action"), self.dialect) {
            (None, Dialect::McpRoute) => Some(Action::Allow),
            _ => fields
                .required("action", self.problems)
                .and_then(|item| item.word(&ACTIONS, self.problems)),
        };
        let source = fields.get("source").map(|item| self.source(&item)).unwrap_or_default();
        let comparison = Comparison::of(self.dialect, action.unwrap_or(Action::Allow));
        let targets = fields.get("target").map(|item| self.targets(&item, comparison));
        let cel = fields.get("cel").map(|item| self.condition(&item, comparison));
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
        let stars = match self.dialect {
            Dialect::Native => Stars::Refused,
            Dialect::McpRoute => Stars::Literal,
        };
        if scope_item.is_none() && claim_item.is_none() {
            jwt.problem(problems, "expected `scopes`, `claims` or both");
        }
        let (scopes, spots) =
            scope_item.map(|item| scopes(&item, stars, problems)).unwrap_or_default();
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
        let values = fields.required("values", problems).and_then(|item| match self.dialect {
            Dialect::Native => {
                let items = item.items(problems)?;
                let values = items.iter().map(|item| claim_value(item, problems));
                // Every value is read before the first mistake ends it all.
                values.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>()
            }
            Dialect::McpRoute => {
                let items = item.strings(problems)?;
                let text = |item: &Item<'_>| ClaimValue::String(item.as_text().to_owned());
                Some(items.iter().map(text).collect())
            }
        });
        let dialect = self.dialect;
        Some(RequiredClaim { name: name?, dialect, value_type: value_type?, values: values? })
    }

    fn targets(
        &mut self,
        item: &Item<'_>,
        comparison: Comparison,
    ) -> Option<(Vec<Target>, Vec<Spot>)> {
        let fields = item.fields(target_shape(self.dialect), self.problems)?;
        let (mut targets, mut spots) = (Vec::new(), Vec::new());
        for (feature, key, name_key, shape) in TARGETS {
            let Some(list) = fields.get(key) else { continue };
            if !self.governed.includes(feature) {
                let message =
                    format!("this policy does not judge {key}: name `{key}` in its `enforce`, too");
                list.problem(self.problems, message);
            }
            for item in &list.items(self.problems)? {
                targets.push(self.target(item, (feature, name_key, shape), comparison));
                spots.push(Spot::from(item));
            }
        }
        if targets.is_empty() {
            let keys = if self.dialect == Dialect::Native {
                one_of(TARGET.any_of)
            } else {
                "`tools`".into()
            };
            item.problem(self.problems, format!("expected {keys}"));
        }
        Some((targets.into_iter().collect::<Option<_>>()?, spots))
    }

    fn target(
        &mut self,
        item: &Item<'_>,
        (feature, name_key, shape): (Feature, &str, &'static Shape),
        comparison: Comparison,
    ) -> Option<Target> {
        let fields = item.fields(shape, self.problems)?;
        let when = fields.get("when").map(|item| self.condition(&item, comparison));
        let problems = &mut *self.problems;
        let other = if feature == Feature::Tool { fields.get("toolName") } else { None };
        let name_item = match (fields.get(name_key), other) {
            (Some(name), None) | (None, Some(name)) => Some(name),
            (Some(_), Some(second)) => {
                second.problem(problems, "`toolName` is another word for `tool`: give one of them");
                None
            }
            (None, None) => {
                let message = format!(
                    "the key `{name_key}` is missing (`*` means every {})",
                    feature.as_str()
                );
                problems.add(fields.place(), &item.path, message);
                None
            }
        };
        let backend_item = fields.get("backend");
        let name = name_item.as_ref().and_then(|item| item.string(problems));
        if self.dialect == Dialect::McpRoute {
            fields.required("backend", problems);
        }
        let backend = backend_item.as_ref().map(|item| item.string(problems));

        if let (Some(item), Some(name)) = (&name_item, &name) {
            let prefixed = backend_item.is_none().then_some(self.backend_from).flatten();
            let about = (prefixed, self.governed);
            if let Some(mistake) = name_mistake(feature, name, about, self.dialect) {
                item.problem(problems, mistake);
            } else if feature == Feature::Resource
                && let Some(doubt) = uri_doubt(name, prefixed)
            {
                item.lint(Lint::BackendInUri, problems, doubt);
            }
        }
        if let (Some(item), Some(Some(backend)), Some(from)) =
            (&backend_item, &backend, self.backend_from)
            && let Some(mistake) = backend_mistake((feature, name.as_deref()), backend, from)
        {
            item.problem(problems, mistake);
        }
        let name = Glob::new(name?);
        Some(Target::new((feature, valid(backend)?, name), valid(when)?, comparison))
    }

    fn condition(&mut self, item: &Item<'_>, comparison: Comparison) -> Option<Arc<Condition>> {
        let scalar = item.text(self.problems)?;
        match self.conditions.get(&scalar.text) {
            Ok(condition) => {
                for suspicion in condition.suspicions() {
                    let lint = match suspicion.kind {
                        SuspicionKind::HeaderCapitals => Lint::HeaderCapitals,
                        SuspicionKind::NameAsSent if comparison == Comparison::Folded => {
                            Lint::NameInCondition
                        }
                        SuspicionKind::NameAsSent => continue,
                    };
                    let (place, message) = blamed(item, scalar, &suspicion.error);
                    self.problems.lint(lint, place, &item.path, message);
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

/// Reads a value of a claim: a string, perhaps with stars, a boolean or a number.
fn claim_value(item: &Item<'_>, problems: &mut Problems) -> Option<ClaimValue> {
    match item.scalar_value(problems)? {
        Json::String(text) if text.contains('*') => Some(ClaimValue::Pattern(Glob::new(text))),
        Json::String(text) => Some(ClaimValue::String(text)),
        Json::Bool(value) => Some(ClaimValue::Bool(value)),
        Json::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if let crate::json::Json::Double(number) = crate::json::Json::double(number) {
                return Some(ClaimValue::Number(number));
            }
            let message =
                "a number beyond ±(2^53 − 1) equals no claim: readers round it differently";
            item.problem(problems, message);
            None
        }
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// Who calls.
#[derive(Default)]
struct Source {
    scopes: Vec<String>,
    spots: Vec<Spot>,
    claims: Vec<RequiredClaim>,
}

fn rule_shape(dialect: Dialect) -> &'static Shape {
    match dialect {
        Dialect::Native => &RULE,
        Dialect::McpRoute => &super::mcproute::RULE,
    }
}

fn target_shape(dialect: Dialect) -> &'static Shape {
    match dialect {
        Dialect::Native => &TARGET,
        Dialect::McpRoute => &super::mcproute::TARGET,
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
