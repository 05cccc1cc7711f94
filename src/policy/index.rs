//! Which rules can be for a call.

use rustc_hash::FxHashMap;

use super::by_feature::ByFeature;
use super::{Rule, Subject};
use crate::mcp::Feature;

/// The rules of a list by what they name, so that a call is compared only with those that
/// can be for it, however many there are.
#[derive(Debug, Default)]
pub(super) struct Index {
    tables: ByFeature<Table>,
    /// All rules.
    all: Numbers,
}

/// The rules that can be for tools, or for other things of one kind.
#[derive(Debug, Default)]
struct Table {
    /// The rules that name them in full, by each of them.
    by_name: FxHashMap<String, Numbers>,
    /// Those that can be for any: without targets, or with a pattern among them.
    of_any: Numbers,
}

/// The numbers of some rules, in order.
#[derive(Debug, Default)]
struct Numbers {
    list: Vec<usize>,
    /// Whether a condition of theirs reads arguments.
    read_arguments: bool,
}

impl Numbers {
    fn push(&mut self, number: usize, rule: &Rule) {
        if self.list.last() != Some(&number) {
            self.list.push(number);
        }
        self.read_arguments |= rule.conditions().any(|condition| condition.reads().args);
    }

    /// Those from `first` on.
    fn from(&self, first: usize) -> &[usize] {
        let before = self.list.partition_point(|number| *number < first);
        self.list.get(before..).unwrap_or_default()
    }
}

impl Table {
    fn add(&mut self, number: usize, rule: &Rule, feature: Feature) {
        let Some(targets) = &rule.targets else { return self.of_any.push(number, rule) };
        let targets = || targets.iter().filter(|target| target.feature == feature);
        if targets().any(|target| !target.name.is_exact()) {
            return self.of_any.push(number, rule);
        }
        for target in targets() {
            let name = target.name.as_str().to_owned();
            self.by_name.entry(name).or_default().push(number, rule);
        }
    }
}

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            for feature in Feature::OF_TARGETS {
                index.tables.get_mut(feature).add(number, rule, feature);
            }
            index.all.push(number, rule);
        }
        index
    }

    /// The numbers of the rules from `first` on that can be for what is asked for, in
    /// order.
    pub(super) fn candidates(
        &self,
        subject: &Subject<'_>,
        first: usize,
    ) -> impl Iterator<Item = usize> {
        let table = self.tables.get(subject.feature);
        let (named, any) = match subject.feature {
            // Any name may be one that it stands for.
            Feature::ResourceTemplate => (None, &self.all),
            _ => (table.by_name.get(subject.name), &table.of_any),
        };
        let named = named.map(|named| named.from(first)).unwrap_or_default();
        let any = any.from(first);
        let mut named = named.iter().copied().peekable();
        let mut any = any.iter().copied().peekable();
        std::iter::from_fn(move || match (named.peek(), any.peek()) {
            (Some(one), Some(other)) if one > other => any.next(),
            (Some(_), _) => named.next(),
            (None, _) => any.next(),
        })
    }

    /// Whether a condition of a rule that can be for a tool reads arguments.
    pub(super) fn reads_arguments(&self, tool: &str) -> bool {
        let tools = self.tables.get(Feature::Tool);
        let named = tools.by_name.get(tool);
        tools.of_any.read_arguments || named.is_some_and(|named| named.read_arguments)
    }
}

#[cfg(test)]
mod tests {
    use crate::config;
    use crate::mcp::Feature;
    use crate::policy::{Extent, Subject, Target};

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
            let subject = |backend| Subject { backend, feature: Feature::Tool, name: tool };
            for first in 0..=7 {
                let found: Vec<usize> = rules.candidates(&subject(None), first).collect();
                let from_first = expected.iter().copied().filter(|number| *number >= first);
                assert_eq!(found, from_first.collect::<Vec<_>>(), "{tool} from {first}");
            }
            let is_for = |number: &usize| {
                let selects = |backend| {
                    let is_meant = |t: &Target| t.extent(&subject(backend)) != Extent::Nothing;
                    let targets = rules[*number].targets.as_ref();
                    targets.is_none_or(|targets| targets.iter().any(is_meant))
                };
                selects(None) || selects(Some("x")) || selects(Some("y"))
            };
            assert!((0..7).filter(is_for).all(|number| expected.contains(&number)), "{tool}");
        }
    }
}
