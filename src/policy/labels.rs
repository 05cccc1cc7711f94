//! The words of a policy that stand for what callers ask for, in metrics.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::by_feature::ByFeature;
use super::{BackendFrom, Glob, Rule, Subject};
use crate::mcp::Feature;

/// The backends and targets that a policy names. What callers write is never a
/// word of them, so that no caller can make up more than there are.
#[derive(Debug, Default)]
pub struct Labels {
    targets: ByFeature<Words>,
    backends: FxHashSet<Arc<str>>,
}

/// The words for tools, or for other things of one kind.
#[derive(Debug, Default)]
struct Words {
    exact: FxHashSet<Arc<str>>,
    patterns: Vec<(Glob, Arc<str>)>,
}

/// What stands for a call in metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The backend; empty if there is none.
    pub backend: Arc<str>,
    /// The word for what kind of thing is asked for.
    pub kind: &'static str,
    /// Its name as the policy writes it; empty if nothing is judged.
    pub name: Arc<str>,
}

impl Default for Label {
    fn default() -> Self {
        Self { backend: "".into(), kind: Feature::Tool.as_str(), name: "".into() }
    }
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
            let word: Arc<str> = target.name.as_str().into();
            let words = labels.targets.get_mut(target.feature);
            if target.name.is_exact() {
                words.exact.insert(word);
            } else if words.patterns.len() < Self::MOST_PATTERNS
                && !words.patterns.iter().any(|(_, known)| *known == word)
            {
                words.patterns.push((target.name.clone(), word));
            }
        }
        labels
    }

    /// The words for what a call is about: as the policy writes them, the first pattern for
    /// what only patterns mean, and nothing for no backend.
    pub fn of(&self, from: &BackendFrom, subject: &Subject<'_>) -> Label {
        let other = || Self::OTHER.into();
        let backend = match (subject.backend.name(), from) {
            (None, _) => "".into(),
            (Some(_), BackendFrom::Name(name)) => name.as_str().into(),
            (Some(backend), _) => self.backends.get(backend).cloned().unwrap_or_else(other),
        };
        let words = self.targets.get(subject.feature);
        let means = |(pattern, _): &&(Glob, Arc<str>)| pattern.matches(subject.name);
        let by_pattern = || words.patterns.iter().find(means).map(|(_, word)| Arc::clone(word));
        let name = words.exact.get(subject.name).cloned().or_else(by_pattern);
        let kind = subject.feature.as_str();
        Label { backend, kind, name: name.unwrap_or_else(other) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::policy::Backend;

    #[test]
    fn no_caller_can_make_up_a_word() {
        let gate = config::parse(
            "policies: [{name: p, backend: {toolNamePrefix: '__'}, rules: [{action: Allow, target: {tools: [{backend: github, tool: read}, {tool: 'get_*'}, {tool: 'get_x*'}]}}]}]",
        )
        .unwrap();
        let policy = &gate.policies[0];
        let words = |backend: Option<&str>, tool| {
            let backend = backend.map_or(Backend::None, Backend::Named);
            let subject = Subject::plain(backend, Feature::Tool, tool);
            let label = policy.rules.labels().of(&policy.backend, &subject);
            format!("{} {}", label.backend, label.name)
        };
        assert_eq!(words(Some("github"), "read"), "github read");
        assert_eq!(words(Some("gitlab"), "read"), "_other read");
        assert_eq!(words(None, "get_x1"), " get_*");
        assert_eq!(words(Some("github"), "get_*"), "github get_*");
        assert_eq!(words(Some("github"), "Read"), "github _other");
    }
}
