//! Names that readers and servers may confuse.

use std::collections::HashMap;

use super::super::problem::{Diagnostics, Lint};
use super::super::rules::RuleLocations;
use super::folded_target;
use crate::mcp::TargetKind;
use crate::policy::{Dialect, Glob, Policy, Target};

/// Warns of names of targets that differ in spelling but are equal to Deny rules.
pub(super) fn confusable_names(
    policy: &Policy,
    spots: &[RuleLocations],
    problems: &mut Diagnostics,
) {
    if policy.dialect != Dialect::Native {
        return;
    }
    let (mut names, mut backends) = (Names::default(), HashMap::new());
    for (rule, spots) in policy.rules.iter().zip(spots) {
        for (target, spot) in rule.targets.iter().flatten().zip(&spots.targets) {
            let folded = folded_target(target);
            let name = target.name.as_str();
            let other_name = names.add(target, &folded).map(|first| (name, first));
            let backend = target.backend.as_deref().zip(folded.folded_backend());
            let other_backend = backend.and_then(|(backend, folded)| {
                let first = *backends.entry(folded.to_owned()).or_insert(backend);
                (first != backend).then_some((backend, first))
            });
            for (name, first) in other_name.into_iter().chain(other_backend) {
                let message = format!(
                    "`{name}` and `{first}` are the same to servers that ignore case, width or \
                     invisible characters, and to Deny rules: a Deny rule for one of them denies \
                     both"
                );
                problems.lint(Lint::ConfusableNames, spot.place, &spot.keys, message);
            }
        }
    }
}

/// The names of targets, each in its first spelling.
#[derive(Default)]
struct Names<'p> {
    /// The names by folded name and folded backend. The backend is `None` if the target names none.
    of_backend: HashMap<(TargetKind, String, Option<String>), &'p str>,
    /// The names by folded name alone, for any backend.
    of_any: HashMap<(TargetKind, String), &'p str>,
}

impl<'p> Names<'p> {
    /// Adds the name of a target. Returns another spelling of the name if their backends can be
    /// equal.
    fn add(&mut self, target: &'p Target, folded: &Target) -> Option<&'p str> {
        let (name, feature) = (target.name.as_str(), target.feature);
        if feature == TargetKind::Resource {
            return None;
        }
        let folded_name = folded.folded_name().map_or(name, Glob::as_str).to_owned();
        let backend = folded.folded_backend().map(str::to_owned);
        let first = *self.of_any.entry((feature, folded_name.clone())).or_insert(name);
        let key = |backend| (feature, folded_name.clone(), backend);
        let first_here = *self.of_backend.entry(key(backend.clone())).or_insert(name);
        let others = match backend {
            Some(_) => [Some(first_here), self.of_backend.get(&key(None)).copied()],
            None => [Some(first_here), Some(first)],
        };
        others.into_iter().flatten().find(|first| *first != name)
    }
}
