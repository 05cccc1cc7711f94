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
        field("action", Holds::Word(&ACTION_WORDS), "What becomes of a call that it matches."),
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
    pub(super) mistakes: RuleMistakes,
}

/// The parts of a rule that have a mistake. What stands for them in the rule is no part of the
/// file, so a warning about it would be false.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RuleMistakes {
    pub(super) action: bool,
    pub(super) source: bool,
    /// True if there are more targets, or others, than those that could be read.
    pub(super) targets: bool,
    pub(super) cel: bool,
}

impl RuleMistakes {
    const ALL: Self = Self { action: true, source: true, targets: true, cel: true };

    /// Returns true if any part has a mistake.
    pub(super) fn any(self) -> bool {
        self != Self::default()
    }
}

/// Reads rules over what is governed, whose backends are told by `backend_from`. Both are `None`
/// if there is a mistake in them. Returns `None` if there is no list of rules.
pub(super) fn rules(
    item: &Item<'_>,
    dialect: Dialect,
    (backend_from, governed): (Option<&BackendFrom>, Option<Governed>),
    (table, conditions): (&mut ScopeTable, &mut Conditions),
    problems: &mut Problems,
) -> Option<(Rules, Vec<RuleSpots>)> {
    let items = item.items_or_none(problems)?;
    let mut reading = Reading { dialect, backend_from, governed, table, conditions, problems };
    let (mut rules, spots): (Vec<Rule>, Vec<_>) =
        items.iter().map(|item| reading.rule(item)).unzip();
    rules.iter_mut().for_each(|rule| rule.scopes.add_implied(reading.table));
    Some((Rules::new(rules, dialect), spots))
}

/// Warns of a list of rules, or of a policy without such a list, that leaves everything to the
/// default action.
pub(super) fn no_rules(item: &Item<'_>, default_action: Action, problems: &mut Problems) {
    let effect = match default_action {
        Action::Allow => "allowed",
        Action::Deny => "denied",
    };
    let message = format!("there are no rules, so `defaultAction` decides: every call is {effect}");
    item.lint(Lint::NoRules, problems, message);
}

/// What all rules of a policy share while they are read.
struct Reading<'r> {
    dialect: Dialect,
    backend_from: Option<&'r BackendFrom>,
    governed: Option<Governed>,
    table: &'r mut ScopeTable,
    conditions: &'r mut Conditions,
    problems: &'r mut Problems,
}

impl Reading<'_> {
    /// Reads a rule. Deny and nothing else stand for what has a mistake.
    fn rule(&mut self, item: &Item<'_>) -> (Rule, RuleSpots) {
        let dialect = self.dialect;
        let (fields, is_unclear) =
            self.problems.checked(|problems| item.fields(rule_shape(dialect), problems));
        let part = |key| fields.as_ref().and_then(|fields| fields.get(key));
        let name = part("name").and_then(|item| item.string(self.problems));
        let action = match part("action") {
            Some(item) => item.word(&ACTIONS, self.problems),
            None => Some(Action::Allow),
        };
        let (source, targets, cel) = (part("source"), part("target"), part("cel"));
        if !is_unclear
            && ["action", "source", "target", "cel"].iter().all(|key| part(key).is_none())
        {
            let message = "this rule allows every call: write `action: Allow` to say so, or \
                           `source`, `target` or `cel` to allow less";
            item.lint(Lint::OpenRule, self.problems, message);
        }
        let comparison = Comparison::of(dialect, action.unwrap_or(Action::Deny));
        let (source, is_bad_source) =
            self.checked(|reading| source.map(|item| reading.source(&item)));
        let source = source.unwrap_or_default();
        let (targets, is_bad_target) =
            self.checked(|reading| targets.map(|item| reading.targets(&item, comparison)));
        let (targets, target_spots) = targets.unzip();
        let (cel, is_bad_cel) =
            self.checked(|reading| cel.and_then(|item| reading.condition(&item, comparison)));
        let mistakes = RuleMistakes {
            action: action.is_none(),
            source: is_bad_source,
            targets: is_bad_target,
            cel: is_bad_cel,
        };
        let spots = RuleSpots {
            rule: item.into(),
            targets: target_spots.unwrap_or_default(),
            scopes: source.spots,
            // A key that is not known may have been meant as any.
            mistakes: if is_unclear { RuleMistakes::ALL } else { mistakes },
        };
        let rule = Rule {
            name,
            action: action.unwrap_or(Action::Deny),
            scopes: RequiredScopes::new(source.scopes, self.table),
            claims: source.claims,
            targets,
            cel,
        };
        (rule, spots)
    }

    /// Reads a part. Also returns true if it has a mistake.
    fn checked<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let before = self.problems.mistakes();
        let part = read(self);
        (part, self.problems.mistakes() > before)
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
        if scope_item.is_none() && claim_item.is_none() && !fields.has_unclear_key() {
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
        if let (Some(item), Some(name), Dialect::Native) = (&name_item, &name, self.dialect)
            && name.contains('*')
        {
            let message = format!(
                "`*` is no pattern in the name of a claim, and `{name}` has one: write the claim's \
                 whole path, and patterns in `values`"
            );
            item.problem(problems, message);
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
                Some(items.iter().filter_map(|item| claim_value(item, problems)).collect())
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

    /// Reads targets, without those that have a mistake.
    fn targets(&mut self, item: &Item<'_>, comparison: Comparison) -> (Vec<Target>, Vec<Spot>) {
        let (mut targets, mut spots) = (Vec::new(), Vec::new());
        let Some(fields) = item.fields(target_shape(self.dialect), self.problems) else {
            return (targets, spots);
        };
        let mut is_empty = true;
        for (feature, key, name_key, shape) in TARGETS {
            let Some(list) = fields.get(key) else { continue };
            is_empty = false;
            if self.governed.is_some_and(|governed| !governed.includes(feature)) {
                let message =
                    format!("this policy does not judge {key}: name `{key}` in its `enforce`, too");
                list.problem(self.problems, message);
            }
            for item in &list.items(self.problems).unwrap_or_default() {
                let (target, has_mistake) = self.checked(|reading| {
                    reading.target(item, (feature, name_key, shape), comparison)
                });
                if let Some(target) = target.filter(|_| !has_mistake) {
                    targets.push(target);
                    spots.push(Spot::from(item));
                }
            }
        }
        if is_empty {
            let keys = if self.dialect == Dialect::Native {
                one_of(TARGET.any_of)
            } else {
                "`tools`".into()
            };
            item.problem(self.problems, format!("expected {keys}"));
        }
        (targets, spots)
    }

    /// Reads a target. Whether it has a mistake is counted.
    fn target(
        &mut self,
        item: &Item<'_>,
        (feature, name_key, shape): (Feature, &str, &'static Shape),
        comparison: Comparison,
    ) -> Option<Target> {
        let fields = item.fields(shape, self.problems)?;
        let when = fields.get("when").and_then(|item| self.condition(&item, comparison));
        let problems = &mut *self.problems;
        let other = if feature == Feature::Tool { fields.get("toolName") } else { None };
        let name_item = match (fields.get(name_key), other) {
            (Some(name), None) | (None, Some(name)) => Some(name),
            (Some(name), Some(second)) => {
                second.problem(problems, "`toolName` is another word for `tool`: give one of them");
                Some(name)
            }
            (None, None) => {
                if !fields.has_unclear_key() {
                    let message = format!(
                        "the key `{name_key}` is missing (`*` means every {})",
                        feature.as_str()
                    );
                    problems.add(fields.place(), &item.path, message);
                }
                None
            }
        };
        let backend_item = fields.get("backend");
        let name = name_item.as_ref().and_then(|item| item.string(problems));
        if self.dialect == Dialect::McpRoute {
            fields.required("backend", problems);
        }
        let backend = backend_item.as_ref().and_then(|item| item.string(problems));

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
        if let (Some(item), Some(backend), Some(from)) =
            (&backend_item, &backend, self.backend_from)
            && let Some(mistake) = backend_mistake((feature, name.as_deref()), backend, from)
        {
            item.problem(problems, mistake);
        }
        Some(Target::new((feature, backend, Glob::new(name?)), when, comparison))
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
                        SuspicionKind::NameExcluded if self.dialect == Dialect::Native => {
                            Lint::NameInCondition
                        }
                        SuspicionKind::NameAsSent | SuspicionKind::NameExcluded => continue,
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
            let value = ClaimValue::number(number.as_f64().unwrap_or(f64::NAN));
            if value.is_none() {
                let message = "a number beyond ±(2^53 − 1) equals no claim: readers round it \
                               differently";
                item.problem(problems, message);
            }
            value
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
