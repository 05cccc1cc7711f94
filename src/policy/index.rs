//! Which rules can be for a tool.

use rustc_hash::FxHashMap;

use super::Rule;

/// The rules of a list by the tools that they name, so that a call is compared only with
/// those that can be for it, however many there are.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The rules that name tools in full, by each of them.
    by_tool: FxHashMap<String, Numbers>,
    /// Those that can be for any tool: without targets, or with a pattern among them.
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

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            match &rule.targets {
                Some(targets) if targets.iter().all(|target| target.tool.is_exact()) => {
                    for target in targets {
                        let tool = target.tool.as_str().to_owned();
                        index.by_tool.entry(tool).or_default().push(number, rule);
                    }
                }
                _ => index.of_any.push(number, rule),
            }
        }
        index
    }

    /// The numbers of the rules from `first` on that can be for a tool, in order.
    pub(super) fn candidates(&self, tool: &str, first: usize) -> impl Iterator<Item = usize> {
        let named = self.by_tool.get(tool).map(|named| named.from(first)).unwrap_or_default();
        let mut named = named.iter().copied().peekable();
        let mut any = self.of_any.from(first).iter().copied().peekable();
        std::iter::from_fn(move || match (named.peek(), any.peek()) {
            (Some(one), Some(other)) if one > other => any.next(),
            (Some(_), _) => named.next(),
            (None, _) => any.next(),
        })
    }

    /// Whether a condition of a rule that can be for a tool reads arguments.
    pub(super) fn reads_arguments(&self, tool: &str) -> bool {
        let named = self.by_tool.get(tool);
        self.of_any.read_arguments || named.is_some_and(|named| named.read_arguments)
    }
}

#[cfg(test)]
mod tests {
    use crate::config;
    use crate::policy::Subject;

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
            for first in 0..=7 {
                let found: Vec<usize> = rules.candidates(tool, first).collect();
                let from_first = expected.iter().copied().filter(|number| *number >= first);
                assert_eq!(found, from_first.collect::<Vec<_>>(), "{tool} from {first}");
            }
            let is_for = |number: &usize| {
                let selects = |backend| {
                    let subject = Subject { backend, tool };
                    let targets = rules[*number].targets.as_ref();
                    targets.is_none_or(|targets| targets.iter().any(|t| t.selects(&subject)))
                };
                selects(None) || selects(Some("x")) || selects(Some("y"))
            };
            assert!((0..7).filter(is_for).all(|number| expected.contains(&number)), "{tool}");
        }
    }
}
