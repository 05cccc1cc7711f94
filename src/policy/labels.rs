//! Metric labels that stand for the targets of calls.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::per_kind::PerKind;
use super::{BackendSource, CallTarget, Glob, Rule};
use crate::mcp::TargetKind;

/// The labels of a policy: the backends and targets that its rules name. Strings from callers never
/// become labels, so the policy bounds the number of labels.
#[derive(Debug, Default)]
pub struct Labels {
    targets: PerKind<Words>,
    backends: FxHashSet<Arc<str>>,
}

/// The labels for one kind of target.
#[derive(Debug, Default)]
struct Words {
    exact: FxHashSet<Arc<str>>,
    patterns: Vec<(Glob, Arc<str>)>,
}

/// The label of a call in metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The backend. Empty if the call has none.
    pub backend: Arc<str>,
    /// The kind of target.
    pub kind: &'static str,
    /// The name of the target as the policy writes it. Empty if the policy evaluates no target.
    pub name: Arc<str>,
}

impl Default for Label {
    fn default() -> Self {
        Self { backend: "".into(), kind: TargetKind::Tool.as_str(), name: "".into() }
    }
}

impl Labels {
    /// The label for everything that the policy does not name.
    pub const OTHER: &str = "_other";

    /// The most patterns that serve as labels for one kind of target. The limit bounds the time to
    /// find a label.
    const MOST_PATTERNS: usize = 64;

    /// Collects the labels from the targets of rules.
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

    /// Returns the label of a call's target, in the words of the policy. A name that no rule names
    /// exactly gets the first pattern that matches. A call without a backend gets an empty backend.
    pub fn of(&self, from: &BackendSource, subject: &CallTarget<'_>) -> Label {
        let other = || Self::OTHER.into();
        let backend = match (subject.backend.name(), from) {
            (None, _) => "".into(),
            (Some(_), BackendSource::Name(name)) => name.as_str().into(),
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
            let subject = CallTarget::plain(backend, TargetKind::Tool, tool);
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
