//! The words of a policy that stand for what callers ask for, in metrics.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{BackendFrom, Rule, Subject, ToolPattern};

/// The backends and tools that a policy names. What callers write is never a
/// word of them, so that no caller can make up more than there are.
#[derive(Debug, Default)]
pub struct Labels {
    tools: FxHashSet<Arc<str>>,
    patterns: Vec<(ToolPattern, Arc<str>)>,
    backends: FxHashSet<Arc<str>>,
}

impl Labels {
    /// What stands for everything that a policy does not name.
    pub const OTHER: &str = "_other";

    /// Trying patterns takes time; a policy with more has other worries.
    const MOST_PATTERNS: usize = 64;

    /// The words of the targets of rules.
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut labels = Self::default();
        for target in rules.iter().filter_map(|rule| rule.targets.as_ref()).flatten() {
            labels.backends.extend(target.backend.as_deref().map(Arc::from));
            let word: Arc<str> = target.tool.as_str().into();
            if target.tool.is_exact() {
                labels.tools.insert(word);
            } else if labels.patterns.len() < Self::MOST_PATTERNS
                && !labels.patterns.iter().any(|(_, known)| *known == word)
            {
                labels.patterns.push((target.tool.clone(), word));
            }
        }
        labels
    }

    /// The words for what a call is about, backend and tool: as the policy writes
    /// them, the first pattern for a tool that only patterns mean, and nothing
    /// for no backend.
    pub fn of(&self, from: &BackendFrom, subject: &Subject<'_>) -> (Arc<str>, Arc<str>) {
        let other = || Self::OTHER.into();
        let backend = match (subject.backend, from) {
            (None, _) => "".into(),
            (Some(_), BackendFrom::Name(name)) => name.as_str().into(),
            (Some(backend), _) => self.backends.get(backend).cloned().unwrap_or_else(other),
        };
        let means = |(pattern, _): &&(ToolPattern, Arc<str>)| pattern.matches(subject.tool);
        let by_pattern = || self.patterns.iter().find(means).map(|(_, word)| Arc::clone(word));
        let tool = self.tools.get(subject.tool).cloned().or_else(by_pattern);
        (backend, tool.unwrap_or_else(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn no_caller_can_make_up_a_word() {
        let gate = config::parse(
            "policies: [{name: p, backend: {toolNamePrefix: '__'}, rules: [{action: Allow, target: {tools: [{backend: github, tool: read}, {tool: 'get_*'}, {tool: 'get_x*'}]}}]}]",
        )
        .unwrap();
        let policy = &gate.policies[0];
        let words = |backend, tool| {
            let (backend, tool) =
                policy.rules.labels().of(&policy.backend, &Subject { backend, tool });
            format!("{backend} {tool}")
        };
        assert_eq!(words(Some("github"), "read"), "github read");
        assert_eq!(words(Some("gitlab"), "read"), "_other read");
        assert_eq!(words(None, "get_x1"), " get_*");
        assert_eq!(words(Some("github"), "get_*"), "github get_*");
        assert_eq!(words(Some("github"), "Read"), "github _other");
    }
}
