//! Names that are read alike.

use std::collections::HashMap;

use super::super::problem::{Lint, Problems};
use super::super::rules::RuleSpots;
use crate::mcp::Feature;
use crate::policy::{Dialect, Policy};

/// Finds names of targets that are written differently and that Deny rules take for the same.
pub(super) fn confusable_names(policy: &Policy, spots: &[RuleSpots], problems: &mut Problems) {
    if policy.dialect != Dialect::Native {
        return;
    }
    let mut seen: HashMap<(Option<Feature>, String), &str> = HashMap::new();
    for (rule, spots) in policy.rules.iter().zip(spots) {
        for (target, spot) in rule.targets.iter().flatten().zip(&spots.targets) {
            let name = target.name.as_str();
            let names_folded = target.feature != Feature::Resource;
            let target_name = names_folded
                .then(|| ((Some(target.feature), target.name.folded().as_str().to_owned()), name));
            let backend = target.backend.as_deref().map(|backend| {
                let folded = crate::policy::Glob::new(backend.to_owned()).folded();
                ((None, folded.as_str().to_owned()), backend)
            });
            for (key, name) in target_name.into_iter().chain(backend) {
                let first = *seen.entry(key).or_insert(name);
                if first != name {
                    let message = format!(
                        "`{name}` and `{first}` are the same to servers that ignore case, width \
                         or invisible characters, and to Deny rules: a Deny rule for one of them \
                         denies both"
                    );
                    problems.lint(Lint::ConfusableNames, spot.place, &spot.keys, message);
                }
            }
        }
    }
}
