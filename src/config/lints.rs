//! Lints: they warn of policies that can be loaded but probably do not do what their author wants.

mod evasion;
mod names;
mod selection;
mod shadows;

pub(super) use selection::selected_by_address;

use std::collections::{BTreeMap, HashMap};

use self::shadows::{Index, shadowed_rules};
use super::problem::{Diagnostics, Lint};
use super::rules::{RuleLocations, RuleMistakes};
use super::{LocatedPolicy, Location};
use crate::mcp::{TargetKind, known_methods};
use crate::policy::{Action, Comparison, Condition, ConditionErrors, Policy, Target};

/// Checks a policy for warnings. Skips each warning that needs a part with a mistake, because that
/// warning could be false.
pub(super) fn lint(placed: &LocatedPolicy, problems: &mut Diagnostics) {
    let LocatedPolicy { policy, spot: at, rules: spots, mistakes, .. } = placed;
    let none_has = |has: &dyn Fn(&RuleMistakes) -> bool| {
        !mistakes.rules && !spots.iter().any(|spots| has(&spots.mistakes))
    };
    if !mistakes.default_action
        && !mistakes.governed
        && !policy.rules.is_empty()
        && none_has(&|rule| rule.action || rule.targets)
    {
        nothing_allowed(policy, at, problems);
    }
    if !mistakes.governed {
        judged_otherwise(policy, spots, problems);
    }
    if !mistakes.lists && policy.filters_lists() {
        let message = "the policy filters responses to lists, so Envoy has to send them to \
                       mcp-authz; otherwise requests for lists get 500: use the filter that \
                       `mcp-authz envoy-config` prints";
        problems.lint(Lint::FilteredLists, at.place, &at.keys, message);
    }
    let shadowed = if mistakes.scopes || mistakes.condition_errors {
        Vec::new()
    } else {
        shadowed_rules(policy, spots, problems)
    };
    if !mistakes.condition_errors {
        ignored_condition_errors(policy, spots, problems);
    }
    repeated_targets(policy, spots, problems);
    if !mistakes.scopes && none_has(&|rule| rule.source) {
        similar_scopes(policy, spots, problems);
    }
    names::confusable_names(policy, spots, problems);
    if !mistakes.any && none_has(&|rule| rule.any()) {
        glob_overlaps(policy, spots, &shadowed, problems);
        evasion::evaded_deny_rules(policy, spots, problems);
    }
}

/// Returns a target with the folded names that Deny rules compare.
fn folded_target(target: &Target) -> Target {
    let Target { feature, backend, name, when, .. } = target;
    let named = (*feature, backend.clone(), name.clone());
    Target::new(named, when.clone(), Comparison::Folded)
}

/// Returns true if a target compares folded names, as the targets of Deny rules do.
fn is_folded(target: &Target) -> bool {
    target.folded_name().is_some()
}

/// Warns of patterns of methods that seem to match a method which the policy evaluates as another
/// feature.
fn judged_otherwise(policy: &Policy, spots: &[RuleLocations], problems: &mut Diagnostics) {
    for (rule, spots) in policy.rules.iter().zip(spots) {
        if spots.mistakes.targets {
            continue;
        }
        for (target, spot) in rule.targets.iter().flatten().zip(&spots.targets) {
            // `*` alone means all other methods.
            if target.feature != TargetKind::Method || target.name.as_str() == "*" {
                continue;
            }
            let mut methods = known_methods().filter(|method| target.name.matches(method));
            let Some((method, feature)) = methods.find_map(|method| {
                let feature = policy.governed.judges_as(method)?;
                let is_named = |target: &Target| target.feature == feature;
                let names_it = rule.targets.iter().flatten().any(is_named);
                (!names_it).then_some((method, feature))
            }) else {
                continue;
            };
            let (pattern, noun) = (target.name.as_str(), feature.as_str());
            let message = format!(
                "the pattern `{pattern}` does not take in `{method}`, which is judged as a {noun}: \
                 name that in `{noun}s`, too"
            );
            problems.lint(Lint::JudgedOtherwise, spot.place, &spot.keys, message);
        }
    }
}

/// Warns of kinds of calls that the policy evaluates but that no rule could allow.
fn nothing_allowed(policy: &Policy, at: &Location, problems: &mut Diagnostics) {
    let mut lint = |message: &str| problems.lint(Lint::NothingAllowed, at.place, &at.keys, message);
    let is_allowed = |feature: TargetKind| {
        let is_meant = |target: &Target| target.feature == feature;
        let mut allow = policy.rules.iter().filter(|rule| rule.action == Action::Allow);
        policy.default_action == Action::Allow
            || allow.any(|rule| rule.targets.as_ref().is_none_or(|list| list.iter().any(is_meant)))
    };
    for (feature, key) in [(TargetKind::Prompt, "prompts"), (TargetKind::Resource, "resources")] {
        if policy.governed.includes(feature) && !is_allowed(feature) {
            lint(&format!(
                "{key} are judged, but no rule could allow one: name some in a rule, or leave \
                 `{key}` out of `enforce`"
            ));
        }
    }
    if !policy.governed.methods {
        return;
    }
    let initializes = may_be_allowed(policy, "initialize");
    if !initializes && !may_be_allowed(policy, "server/discover") {
        lint(
            "methods are judged, but no rule could allow `initialize` or `server/discover`, so \
             that no client can begin: name them in a rule",
        );
    }
    // A client that begins with `server/discover` does not send `notifications/initialized`.
    if initializes && !may_be_allowed(policy, "notifications/initialized") {
        lint(
            "`initialize` may be allowed, but no rule could allow `notifications/initialized`, \
             which clients send next, so that no client can begin: name it in a rule",
        );
    }
}

/// Returns true unless no caller can call a method. No caller can if no rule allows the method, or
/// if an earlier Deny rule for all callers matches it.
fn may_be_allowed(policy: &Policy, method: &str) -> bool {
    let is_meant =
        |target: &&Target| target.feature == TargetKind::Method && target.name.matches(method);
    for rule in policy.rules.iter() {
        let targets = rule.targets.as_ref();
        let meant: Option<Vec<_>> = targets.map(|list| list.iter().filter(is_meant).collect());
        let is_certain = |target: &&Target| target.backend.is_none() && target.when.is_none();
        match rule.action {
            Action::Allow if meant.as_ref().is_none_or(|meant| !meant.is_empty()) => return true,
            Action::Deny
                if meant.as_ref().is_none_or(|meant| meant.iter().any(is_certain))
                    && rule.scopes.names().is_empty()
                    && rule.claims.is_empty()
                    && rule.cel.is_none() =>
            {
                return false;
            }
            Action::Allow | Action::Deny => {}
        }
    }
    policy.default_action == Action::Allow
}

/// Warns of Deny rules that a caller can evade by omitting an argument.
fn ignored_condition_errors(policy: &Policy, spots: &[RuleLocations], problems: &mut Diagnostics) {
    if policy.condition_errors != ConditionErrors::NoMatch {
        return;
    }
    for (rule, spots) in policy.rules.iter().zip(spots) {
        if rule.action == Action::Deny
            && !spots.mistakes.any()
            && rule.conditions().any(Condition::can_fail)
        {
            let message = "a call on which the condition of this Deny rule cannot be evaluated, \
                           say because it leaves an argument out, is not denied by it \
                           (conditionErrors: NoMatch)";
            let spot = &spots.rule;
            problems.lint(Lint::IgnoredConditionErrors, spot.place, &spot.keys, message);
        }
    }
}

/// Warns of targets that a rule names twice: the rule matches if either of their conditions is
/// true.
fn repeated_targets(policy: &Policy, spots: &[RuleLocations], problems: &mut Diagnostics) {
    for (rule, spots) in policy.rules.iter().zip(spots) {
        let mut seen: HashMap<(Option<&str>, TargetKind, &str), Option<&str>> = HashMap::new();
        for (target, spot) in rule.targets.iter().flatten().zip(&spots.targets) {
            let when = target.when.as_deref().map(Condition::source);
            let (name, feature) = (target.name.as_str(), target.feature);
            let key = (target.backend.as_deref(), feature, name);
            let Some(first) = seen.insert(key, when) else { continue };
            let noun = feature.as_str();
            let message = match (first, when) {
                (None, None) => format!("the {noun} `{name}` stands here already"),
                (first, when) if first == when => {
                    format!("the {noun} `{name}` stands here already, with the same condition")
                }
                (Some(_), Some(_)) => format!(
                    "the {noun} `{name}` stands here already, with another condition, and either is \
                     enough: join them with && if both must hold, with || to say so"
                ),
                _ => format!(
                    "the {noun} `{name}` stands here with a condition and without one, so the \
                     condition changes nothing"
                ),
            };
            problems.lint(Lint::RepeatedTarget, spot.place, &spot.keys, message);
        }
    }
}

/// Warns of pairs of scopes that may be one scope, misspelled.
fn similar_scopes(policy: &Policy, spots: &[RuleLocations], problems: &mut Diagnostics) {
    // The first rule that names each scope, and the scope's position in that rule.
    let mut scopes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        for (number, scope) in rule.scopes.names().iter().enumerate() {
            scopes.entry(scope).or_insert((index, number));
        }
    }
    let mut alike: HashMap<String, Vec<&str>> = HashMap::new();
    for scope in scopes.keys() {
        for shape in shapes(scope) {
            alike.entry(shape).or_default().push(scope);
        }
    }
    for (scope, (rule, number)) in &scopes {
        let near = shapes(scope).into_iter().filter_map(|shape| alike.get(&shape)).flatten();
        let mut near: Vec<&str> =
            near.copied().filter(|other| is_misspelled(policy, scope, other)).collect();
        near.sort_unstable();
        // Warn once, at the later of the two scopes.
        let Some(other) = near
            .into_iter()
            .find(|other| scopes.get(other).is_some_and(|at| at < &(*rule, *number)))
        else {
            continue;
        };
        let Some(spot) = spots.get(*rule).and_then(|spots| spots.scopes.get(*number)) else {
            continue;
        };
        let message = format!(
            "the scope `{scope}` is spelled almost like `{other}`, and no rule and no hierarchy \
             connects the two: is it the same?"
        );
        problems.lint(Lint::SimilarScopes, spot.place, &spot.keys, message);
    }
}

/// Returns keys for comparing scopes: two scopes that differ in one letter share a key.
fn shapes(scope: &str) -> Vec<String> {
    let folded = folded(scope);
    let without = |(at, letter): (usize, char)| {
        let (before, after) = folded.split_at(at);
        format!("{before}{}", after.get(letter.len_utf8()..).unwrap_or_default())
    };
    let mut shapes: Vec<String> = folded.char_indices().map(without).collect();
    shapes.push(folded.clone());
    shapes.sort_unstable();
    shapes.dedup();
    shapes
}

/// Returns a scope in lower case, with one separator for all separators.
fn folded(scope: &str) -> String {
    scope.to_ascii_lowercase().replace(['-', '_', '.', '/'], ":")
}

fn is_misspelled(policy: &Policy, scope: &str, other: &str) -> bool {
    /// The least bytes of two scopes that may be one scope although they differ in a letter.
    /// Shorter scopes often differ in one letter on purpose.
    const SHORT: usize = 6;

    if scope == other {
        return false;
    }
    let (a, b) = (folded(scope), folded(other));
    let numberless = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "");
    let near = || {
        a == b
            || (a.len().min(b.len()) >= SHORT
                && numberless(&a) != numberless(&b)
                && strsim::damerau_levenshtein(&a, &b) == 1)
    };
    let named_together = || {
        policy.rules.iter().any(|rule| {
            let names = |scope: &str| rule.scopes.names().iter().any(|name| name == scope);
            names(scope) && names(other)
        })
    };
    let implied = || policy.scopes.implies(scope, other) || policy.scopes.implies(other, scope);
    near() && !implied() && !named_together()
}

/// Warns of patterns that match a target which another rule names. One of the two rules may allow
/// what the other denies.
fn glob_overlaps(
    policy: &Policy,
    spots: &[RuleLocations],
    shadowed: &[bool],
    problems: &mut Diagnostics,
) {
    // The keys are folded names, because Deny rules compare folded names.
    let mut exact: BTreeMap<(TargetKind, String), Vec<(usize, &Target)>> = BTreeMap::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        for target in rule.targets.iter().flatten().filter(|target| target.name.is_exact()) {
            exact.entry(Index::key(target)).or_default().push((index, target));
        }
    }
    for (index, (rule, spots)) in policy.rules.iter().zip(spots).enumerate() {
        for (target, spot) in rule.targets.iter().flatten().zip(&spots.targets) {
            // The author of `*` alone means every name.
            if target.name.is_exact() || target.name.as_str() == "*" {
                continue;
            }
            let (feature, pattern) = (target.feature, target.name.folded());
            let start = pattern.literal_start();
            let named = exact
                .range((feature, start.to_owned())..)
                .take_while(|((of, name), _)| *of == feature && name.starts_with(start))
                .filter(|((_, name), _)| pattern.matches(name))
                .flat_map(|(_, named)| named);
            let overlap = named.filter(|(other, named)| {
                let harmless = policy.rules.get(*other).is_none_or(|other| {
                    rule.action == Action::Deny && other.action == Action::Deny
                });
                let is_shadowed = |index: usize| shadowed.get(index).copied().unwrap_or_default();
                *other != index
                    && !harmless
                    && takes_in(target, named)
                    && !is_shadowed(index)
                    && !is_shadowed(*other)
            });
            let mut overlap: Vec<_> =
                overlap.map(|(other, named)| (*other, named.name.as_str())).collect();
            overlap.dedup();
            let Some(&(other, name)) = overlap.first() else { continue };
            let label = policy.rules.get(other).map(|rule| rule.label(other)).unwrap_or_default();
            let more = match overlap.len() {
                1 => String::new(),
                count => format!(" (and in {} more places)", count - 1),
            };
            let order = if other < index {
                "which is tried first: what it does not match comes here"
            } else {
                "which is tried later: it decides only what this rule does not match"
            };
            let (pattern, noun) = (target.name.as_str(), feature.as_str());
            let message = format!(
                "the pattern `{pattern}` also takes in the {noun} `{name}` of `{label}`{more}, {order}"
            );
            problems.lint(Lint::GlobOverlap, spot.place, &spot.keys, message);
        }
    }
}

/// Returns true if one call can match both the pattern and the name.
fn takes_in(pattern: &Target, named: &Target) -> bool {
    let same_backend = |ours: Option<&str>, theirs: Option<&str>| {
        ours.zip(theirs).is_none_or(|(ours, theirs)| ours == theirs)
    };
    if !is_folded(pattern) && !is_folded(named) {
        return same_backend(pattern.backend.as_deref(), named.backend.as_deref())
            && pattern.name.matches(named.name.as_str());
    }
    let (pattern, named) = (folded_target(pattern), folded_target(named));
    let names = pattern.folded_name().zip(named.folded_name());
    same_backend(pattern.folded_backend(), named.folded_backend())
        && names.is_some_and(|(pattern, name)| pattern.matches(name.as_str()))
}

#[cfg(test)]
mod tests;
