//! A policy and the settings beside its rules.

use super::conditions::Conditions;
use super::decode::Item;
use super::found::{Found, Mistakes};
use super::matching::{MATCH, matching};
use super::problem::Diagnostics;
use super::rules::{self, RULE};
use super::settings::{self, DEFAULT_SEPARATOR, Settings, given};
use super::shape::{MappingSchema, ValueSchema, field};
use super::{ACTION_WORDS, ACTIONS};
use crate::policy::{
    AcceptedTokens, Action, BackendSource, Batches, ConditionErrors, Dialect, Enforcement,
    ListVisibilities, Policy, Rules, Tasks, Unauthenticated,
};

/// The keys of a policy.
pub(super) static POLICY: MappingSchema = MappingSchema::new(
    "Judges the requests that it matches.",
    &[
        field("name", ValueSchema::Text, "For logs and metrics; no two policies have the same.")
            .required(),
        field(
            "match",
            ValueSchema::Mapping(&MATCH),
            "The requests that it is for: all that is given must match. Left out: every request.",
        ),
        settings::BACKEND_FROM,
        settings::RESOURCE_METADATA_URL,
        settings::SCOPES_SUPPORTED,
        settings::SCOPE_HIERARCHY,
        settings::WITHOUT_TOKEN,
        settings::ENFORCEMENT,
        settings::ON_CONDITION_ERRORS,
        settings::ON_BATCHES,
        settings::ENFORCED,
        settings::TOOLS_LIST,
        settings::PROMPTS_LIST,
        settings::RESOURCES_LIST,
        settings::ON_TASKS,
        field(
            "defaultAction",
            ValueSchema::Word(&[ACTION_WORDS[1], ACTION_WORDS[0]]),
            "What becomes of a call that no rule matches.",
        ),
        field(
            "rules",
            ValueSchema::MappingsOrNone(&RULE),
            "Tried in order; the first that matches a call decides it. Without any, defaultAction decides.",
        ),
    ],
);

/// Reads a policy. Returns `None` if the policy is no mapping. Reads every part, even if others
/// have mistakes.
pub(super) fn policy(
    item: &Item<'_>,
    conditions: &mut Conditions,
    problems: &mut Diagnostics,
) -> Option<Found> {
    let (found, any) = problems.checked(|problems| parts(item, conditions, problems));
    found.map(|found| found.with_mistakes(any))
}

/// Reads the parts of a policy. The strictest value, or the default, replaces a part with a
/// mistake.
fn parts(
    item: &Item<'_>,
    conditions: &mut Conditions,
    problems: &mut Diagnostics,
) -> Option<Found> {
    let (fields, is_unclear) = problems.checked(|problems| item.fields(&POLICY, problems));
    let fields = fields?;
    let name = fields.required("name", problems).and_then(|item| item.string(problems));
    let (matching, is_bad_matching) =
        problems.checked(|problems| fields.get("match").and_then(|item| matching(&item, problems)));
    let settings = Settings::read(&fields, problems);
    if let (Ok(Some(ConditionErrors::DenyAny)), Some(item)) =
        (settings.condition_errors, fields.get("conditionErrors"))
    {
        let message = "`DenyAny` is for MCPRoute documents, whose rules all compare names as they \
                       are written: write `Deny`, or set it in `mcpRouteDefaults`";
        item.problem(problems, message);
    }
    let default_action = match fields.get("defaultAction") {
        Some(item) => item.word(&ACTIONS, problems),
        None => Some(Action::Deny),
    };
    let mistakes = settings.mistakes();
    let governed = settings.governed.map(Option::unwrap_or_default).ok();
    let lists = settings.lists(ListVisibilities::UNFILTERED);
    let backend = settings.backend.map(|backend| {
        backend.unwrap_or_else(|| BackendSource::ToolNamePrefix(DEFAULT_SEPARATOR.to_owned()))
    });
    let backend = backend.ok();
    let mut table = settings.hierarchy;
    let about = (backend.as_ref(), governed);
    let rules = match fields.get("rules") {
        Some(item) => {
            rules::rules(&item, Dialect::Native, about, (&mut table, conditions), problems)
        }
        None => Some((Rules::default(), Vec::new())),
    };
    if let (Some((rules, _)), Some(default_action)) = (&rules, default_action)
        && rules.is_empty()
        && !is_unclear
    {
        rules::no_rules(fields.get("rules").as_ref().unwrap_or(item), default_action, problems);
    }
    let mistakes = Mistakes {
        name: name.is_none(),
        matching: is_bad_matching,
        default_action: default_action.is_none(),
        rules: rules.is_none(),
        any: mistakes.any || name.is_none() || default_action.is_none() || rules.is_none(),
        ..mistakes
    };
    let (rules, spots) = rules.unwrap_or_default();
    let policy = Policy {
        name: name.unwrap_or_default(),
        dialect: Dialect::Native,
        matching: matching.unwrap_or_default(),
        backend: backend.unwrap_or_else(|| BackendSource::Name(String::new())),
        resource_metadata_url: settings.resource_metadata_url,
        scopes_supported: settings.scopes_supported.unwrap_or_default(),
        accepted_tokens: AcceptedTokens::default(),
        unauthenticated: given(settings.unauthenticated).unwrap_or(Unauthenticated::Forbid),
        enforcement: given(settings.enforcement).unwrap_or(Enforcement::Enforce),
        batches: given(settings.batches).unwrap_or(Batches::Reject),
        governed: governed.unwrap_or_default(),
        lists,
        tasks: given(settings.tasks).unwrap_or(Tasks::Continue),
        condition_errors: given(settings.condition_errors).unwrap_or(ConditionErrors::Deny),
        default_action: default_action.unwrap_or(Action::Deny),
        rules,
        scopes: table,
    };
    // An unknown key may be a misspelling of any key.
    let mistakes = if is_unclear { Mistakes::ALL } else { mistakes };
    Some(Found { policy, rules: spots, mistakes })
}
