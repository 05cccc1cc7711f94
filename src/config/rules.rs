//! The rules of a policy.

mod source;

use std::sync::Arc;

use self::source::SOURCE;
use super::conditions::Conditions;
use super::decode::{Item, MappingRef, one_of};
use super::problem::{Diagnostics, Lint, Position};
use super::shape::{MappingSchema, ValueSchema, field};
use super::targets::{TARGET, TARGETS, backend_mistake, name_mistake, route_name_doubt, uri_doubt};
use super::yaml::Scalar;
use super::{ACTION_WORDS, ACTIONS, Location};
use crate::mcp::{AppliesTo, TargetKind};
use crate::policy::{
    Action, BackendSource, Comparison, Condition, ConditionError, Dialect, Glob, RequiredScopes,
    Rule, Rules, ScopeTable, SuspicionKind, Target,
};

/// The keys of a rule.
pub(super) static RULE: MappingSchema = MappingSchema::new(
    "Matches a call if all that is given matches; what is left out matches every call.",
    &[
        field("name", ValueSchema::Text, "For logs; never told to a caller."),
        field(
            "action",
            ValueSchema::Word(&ACTION_WORDS),
            "What becomes of a call that it matches.",
        ),
        field("source", ValueSchema::Mapping(&SOURCE), "Who calls."),
        field("target", ValueSchema::Mapping(&TARGET), "What is called."),
        field("cel", ValueSchema::Condition, "Must be true of `request`, `args` and `meta` (CEL)."),
    ],
);

/// The places of the parts of a rule.
#[derive(Debug)]
pub(super) struct RuleLocations {
    pub(super) rule: Location,
    pub(super) targets: Vec<Location>,
    /// The places of the scopes, in the order in which the rule names them.
    pub(super) scopes: Vec<Location>,
    pub(super) mistakes: RuleMistakes,
}

/// The parts of a rule that have a mistake: true if the part has one. The rule holds a substitute
/// for such a part, so a warning about that part would be false.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RuleMistakes {
    pub(super) action: bool,
    pub(super) source: bool,
    /// True if the file has other targets than those that could be read.
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

/// Reads a list of rules. `backend_from` says how a call names its backend, and `governed` says
/// what the policy evaluates. Each of the two is `None` if it has a mistake or does not apply.
/// Returns `None` if there is no list.
pub(super) fn rules(
    item: &Item<'_>,
    dialect: Dialect,
    (backend_from, governed): (Option<&BackendSource>, Option<AppliesTo>),
    (table, conditions): (&mut ScopeTable, &mut Conditions),
    problems: &mut Diagnostics,
) -> Option<(Rules, Vec<RuleLocations>)> {
    let items = item.items_or_none(problems)?;
    let mut reading = Reading { dialect, backend_from, governed, table, conditions, problems };
    let (mut rules, spots): (Vec<Rule>, Vec<_>) =
        items.iter().map(|item| reading.rule(item)).unzip();
    rules.iter_mut().for_each(|rule| rule.scopes.add_implied(reading.table));
    Some((Rules::new(rules, dialect), spots))
}

/// Warns that the default action decides every call. The caller calls this function for an empty or
/// missing list of rules.
pub(super) fn no_rules(item: &Item<'_>, default_action: Action, problems: &mut Diagnostics) {
    let effect = match default_action {
        Action::Allow => "allowed",
        Action::Deny => "denied",
    };
    let message = format!("there are no rules, so `defaultAction` decides: every call is {effect}");
    item.lint(Lint::NoRules, problems, message);
}

/// The state that all rules of a policy share while the loader reads them.
struct Reading<'r> {
    dialect: Dialect,
    backend_from: Option<&'r BackendSource>,
    governed: Option<AppliesTo>,
    table: &'r mut ScopeTable,
    conditions: &'r mut Conditions,
    problems: &'r mut Diagnostics,
}

impl Reading<'_> {
    /// Reads a rule. For parts with a mistake, the result has the action Deny or no requirement.
    fn rule(&mut self, item: &Item<'_>) -> (Rule, RuleLocations) {
        let dialect = self.dialect;
        let (fields, is_unclear) =
            self.checked(|reading| reading.fields(item, rule_shape(dialect)));
        let part = |key| fields.as_ref().and_then(|fields| fields.get(key));
        let name = part("name").and_then(|item| item.string(self.problems));
        let action = match part("action") {
            Some(item) => item.word(&ACTIONS, self.problems),
            None => Some(Action::Allow),
        };
        let (source, targets, cel) = (part("source"), part("target"), part("cel"));
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
        let spots = RuleLocations {
            rule: item.into(),
            targets: target_spots.unwrap_or_default(),
            scopes: source.spots,
            // An unknown key may be a misspelling of any key.
            mistakes: if is_unclear { RuleMistakes::ALL } else { mistakes },
        };
        let is_for_all = source.scopes.is_empty() && source.claims.is_empty();
        let is_open = part("action").is_none() && is_for_all && targets.is_none() && cel.is_none();
        if is_open && !spots.mistakes.any() {
            let message = "this rule allows every call: write `action: Allow` to say so, or \
                           `source`, `target` or `cel` to allow less";
            item.lint(Lint::OpenRule, self.problems, message);
        }
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

    /// Reads a mapping by the rules of the dialect. In an `MCPRoute`, `null` counts as omitted.
    fn fields<'n>(&mut self, item: &Item<'n>, shape: &MappingSchema) -> Option<MappingRef<'n>> {
        match self.dialect {
            Dialect::Native => item.fields(shape, self.problems),
            Dialect::McpRoute => item.fields_or_null(shape, self.problems),
        }
    }

    /// Reads a string by the rules of the dialect. In an `MCPRoute`, the string may be empty.
    fn string(&mut self, item: &Item<'_>) -> Option<String> {
        match self.dialect {
            Dialect::Native => item.string(self.problems),
            Dialect::McpRoute => item.any_string(self.problems),
        }
    }

    /// Reads a part with `read`. The bool is true if that part has a mistake.
    fn checked<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let before = self.problems.mistakes();
        let part = read(self);
        (part, self.problems.mistakes() > before)
    }

    /// Reads targets. Leaves out those that have a mistake.
    fn targets(&mut self, item: &Item<'_>, comparison: Comparison) -> (Vec<Target>, Vec<Location>) {
        let (mut targets, mut spots) = (Vec::new(), Vec::new());
        let Some(fields) = self.fields(item, target_shape(self.dialect)) else {
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
                    spots.push(Location::from(item));
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

    /// Reads a target. The count of mistakes shows the caller whether the target has one.
    fn target(
        &mut self,
        item: &Item<'_>,
        (feature, name_key, shape): (TargetKind, &str, &'static MappingSchema),
        comparison: Comparison,
    ) -> Option<Target> {
        let fields = self.fields(item, shape)?;
        let when = fields.get("when").and_then(|item| self.condition(&item, comparison));
        let problems = &mut *self.problems;
        let other = if feature == TargetKind::Tool { fields.get("toolName") } else { None };
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
        let name = name_item.as_ref().and_then(|item| self.string(item));
        let backend = backend_item.as_ref().and_then(|item| self.string(item));
        if self.dialect == Dialect::McpRoute {
            let target = self.route_target(&fields, feature, (backend, name?))?;
            return Some(Target::new(target, when, comparison));
        }
        let problems = &mut *self.problems;
        if let (Some(item), Some(name)) = (&name_item, &name) {
            let prefixed = backend_item.is_none().then_some(self.backend_from).flatten();
            let about = (prefixed, self.governed);
            if let Some(mistake) = name_mistake(feature, name, about) {
                item.problem(problems, mistake);
            } else if feature == TargetKind::Resource
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

    /// Returns a target of an `MCPRoute`, whose rules compare names exactly as they are.
    fn route_target(
        &mut self,
        fields: &MappingRef<'_>,
        feature: TargetKind,
        (backend, name): (Option<String>, String),
    ) -> Option<(TargetKind, Option<String>, Glob)> {
        fields.required("backend", self.problems);
        let instead = "leave `target` out to mean every tool";
        if let (Some(item), Some(doubt)) =
            (fields.get(feature.as_str()), route_name_doubt(&name, instead))
        {
            item.lint(Lint::NoEffect, self.problems, doubt);
        }
        Some((feature, Some(backend?), Glob::exactly(name)))
    }

    fn condition(&mut self, item: &Item<'_>, comparison: Comparison) -> Option<Arc<Condition>> {
        if self.dialect == Dialect::McpRoute && item.is_blank() {
            let message = "a blank condition is none: write one, or remove the key";
            item.lint(Lint::NoEffect, self.problems, message);
            return None;
        }
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

fn rule_shape(dialect: Dialect) -> &'static MappingSchema {
    match dialect {
        Dialect::Native => &RULE,
        Dialect::McpRoute => &super::mcproute::RULE,
    }
}

fn target_shape(dialect: Dialect) -> &'static MappingSchema {
    match dialect {
        Dialect::Native => &TARGET,
        Dialect::McpRoute => &super::mcproute::TARGET,
    }
}

/// Returns the place and the message of an error in an expression.
fn blamed(item: &Item<'_>, scalar: &Scalar, error: &ConditionError) -> (Position, String) {
    let before = scalar.text.get(..error.offset).unwrap_or(&scalar.text);
    match scalar.text_starts {
        Some(Position { line, column }) => {
            (Position { line, column: column + before.chars().count() }, error.message.clone())
        }
        None => (item.place(), format!("{}{}", position(before), error.message)),
    }
}

/// Returns a position within a condition as words. The file spells such a condition in several
/// lines or with escapes, so its characters have no direct place in the file.
fn position(before: &str) -> String {
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column} of the condition: ")
}
