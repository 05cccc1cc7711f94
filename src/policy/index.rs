//! An index of the rules that can match a call.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use super::fold::fold;
use super::per_kind::PerKind;
use super::target::folds;
use super::{CallTarget, Dialect, Rule, Target};
use crate::mcp::TargetKind;

/// The rules by the names of their targets. The search compares a call only with the rules that can
/// match, however many rules there are.
#[derive(Debug, Default)]
pub(super) struct Index {
    tables: PerKind<Table>,
    /// The indices of all rules.
    all: Numbers,
}

/// The rules that can match one kind of target.
#[derive(Debug, Default)]
struct Table {
    /// The rules by each exact name among their targets.
    by_name: FxHashMap<String, Numbers>,
    /// The rules that can match any name: without targets, or with a pattern among them.
    of_any: Numbers,
}

/// Indices of rules, in order.
#[derive(Debug, Default)]
struct Numbers(Vec<usize>);

impl Numbers {
    fn push(&mut self, number: usize) {
        if self.0.last() != Some(&number) {
            self.0.push(number);
        }
    }
}

impl Table {
    fn add(&mut self, number: usize, rule: &Rule, feature: TargetKind, dialect: Dialect) {
        let Some(targets) = &rule.targets else { return self.of_any.push(number) };
        let targets = || targets.iter().filter(|target| target.feature == feature);
        if targets().any(|target| !target.name.is_exact()) {
            return self.of_any.push(number);
        }
        for target in targets() {
            let name = indexed_name(target, dialect).into_owned();
            self.by_name.entry(name).or_default().push(number);
        }
    }
}

/// Returns the name by which the index finds a target. The name is folded where rules may compare
/// folded names.
fn indexed_name(target: &Target, dialect: Dialect) -> Cow<'_, str> {
    match dialect {
        Dialect::Native if folds(target.feature) => fold(target.name.as_str()),
        Dialect::Native | Dialect::McpRoute => target.name.as_str().into(),
    }
}

/// The indices of the rules that can match a target, in order.
#[derive(Debug, Clone)]
pub(super) struct Candidates<'i> {
    named: &'i [usize],
    any: &'i [usize],
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let from = match (self.named.first(), self.any.first()) {
            (Some(one), Some(other)) if one > other => &mut self.any,
            (Some(_), _) => &mut self.named,
            (None, _) => &mut self.any,
        };
        let (first, rest) = from.split_first()?;
        *from = rest;
        Some(*first)
    }
}

impl Index {
    pub(super) fn new(rules: &[Rule], dialect: Dialect) -> Self {
        let mut index = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            for feature in TargetKind::OF_TARGETS {
                index.tables.get_mut(feature).add(number, rule, feature, dialect);
            }
            index.all.push(number);
        }
        index
    }

    /// Returns the indices of the rules that can match the target of a call.
    pub(super) fn candidates(&self, subject: &CallTarget<'_>) -> Candidates<'_> {
        let table = self.tables.get(subject.feature);
        let (named, any) = match subject.folded_name() {
            Some(name) => (table.by_name.get(name), &table.of_any),
            None => (None, &self.all),
        };
        let named = named.map(|named| named.0.as_slice()).unwrap_or_default();
        Candidates { named, any: &any.0 }
    }
}

#[cfg(test)]
mod tests {
    use crate::config;
    use crate::mcp::TargetKind;
    use crate::policy::{Backend, CallTarget, Overlap, Target};

    #[test]
    fn no_rule_that_is_for_a_tool_is_left_out_or_out_of_order() {
        let rule = |tools: &str| format!("{{action: Allow, target: {{tools: [{tools}]}}}}");
        let rules = [
            rule("{tool: a}"),
            rule("{backend: x, tool: a}, {backend: y, tool: a}"),
            "{action: Allow, source: {jwt: {scopes: [s]}}}".to_owned(),
            rule("{tool: b}, {tool: a}"),
            rule("{tool: a*}"),
            rule("{tool: c}, {tool: '*b'}"),
            rule("{tool: b}"),
        ];
        let text = format!("policies: [{{name: p, rules: [{}]}}]", rules.join(", "));
        let gate = config::parse(&text).unwrap();
        let rules = &gate.policies[0].rules;
        for (tool, expected) in [
            ("a", [0, 1, 2, 3, 4, 5].as_slice()),
            ("b", &[2, 3, 4, 5, 6]),
            ("c", &[2, 4, 5]),
            ("", &[2, 4, 5]),
        ] {
            let subject = |backend| CallTarget::plain(backend, TargetKind::Tool, tool);
            let found: Vec<usize> = rules.candidates(&subject(Backend::None)).collect();
            assert_eq!(found, expected, "{tool}");
            let is_for = |number: &usize| {
                let selects = |backend| {
                    let is_meant = |t: &Target| t.extent(&subject(backend)).0 != Overlap::Nothing;
                    let targets = rules[*number].targets.as_ref();
                    targets.is_none_or(|targets| targets.iter().any(is_meant))
                };
                selects(Backend::None)
                    || selects(Backend::Named("x"))
                    || selects(Backend::Named("y"))
            };
            assert!((0..7).filter(is_for).all(|number| expected.contains(&number)), "{tool}");
        }
    }
}
