//! The part of a policy that selects requests: `match`.

use super::decode::Item;
use super::problem::Diagnostics;
use super::shape::{MappingSchema, ValueSchema, field};
use crate::policy::{HostPattern, PathPrefix, RequestMatcher};

pub(super) static MATCH: MappingSchema = MappingSchema {
    any_of: &["hosts", "pathPrefixes", "routes", "onlyByName"],
    ..MappingSchema::new(
        "The requests that a policy is for.",
        &[
            field(
                "hosts",
                ValueSchema::Texts,
                "Host names without port; `*.` in front means all names below.",
            ),
            field("pathPrefixes", ValueSchema::Texts, "Paths with all that is below them."),
            field(
                "routes",
                ValueSchema::Texts,
                "Envoy's names of routes; needs `request_attributes: [xds.route_name]`.",
            ),
            field(
                "onlyByName",
                ValueSchema::Switch,
                "No request, unless Envoy names this policy in the gRPC metadata `x-mcp-authz-policy`.",
            ),
        ],
    )
};

/// Reads `match`. The result leaves out the parts that have a mistake.
pub(super) fn matching(item: &Item<'_>, problems: &mut Diagnostics) -> Option<RequestMatcher> {
    let fields = item.fields(&MATCH, problems)?;
    let texts = |key, problems: &mut Diagnostics| match fields.get(key) {
        Some(item) => item.strings(problems).unwrap_or_default(),
        None => Vec::new(),
    };
    let (hosts, prefixes) = (texts("hosts", problems), texts("pathPrefixes", problems));
    let routes = texts("routes", problems);
    for item in routes.iter().filter(|item| item.as_text().contains('*')) {
        let message = format!(
            "`{}` is one route's name, in which `*` is no pattern: list each route by its whole \
             name, or select by `hosts` or `pathPrefixes`",
            item.as_text()
        );
        item.problem(problems, message);
    }
    let only_by_name = fields.get("onlyByName");
    let host = "a host name without port, such as `mcp.example.com` or `*.example.com`";
    let matching = RequestMatcher {
        hosts: parsed(&hosts, HostPattern::parse, host, problems),
        path_prefixes: parsed(
            &prefixes,
            PathPrefix::parse,
            "a plain path, such as `/mcp`",
            problems,
        ),
        routes: routes.iter().map(|item| item.as_text().to_owned()).collect(),
        only_by_name: only_by_name.is_some(),
    };
    let mut others = MATCH.any_of.iter().filter(|key| **key != "onlyByName");
    let has_others = others.any(|key| fields.get(key).is_some());
    if let Some(item) = &only_by_name
        && item.word(&[("true", ())], problems).is_some()
        && has_others
    {
        let message = "a policy that only Envoy's metadata names matches nothing by itself: \
                       give `onlyByName` alone";
        item.problem(problems, message);
    }
    if !has_others && only_by_name.is_none() && !fields.has_unclear_key() {
        item.problem(problems, "expected `hosts`, `pathPrefixes` or `routes`; leave `match` out to match every request");
    }
    Some(matching)
}

/// Parses the strings of a list. Reports each string that `parse` rejects as not being `what`.
fn parsed<T>(
    items: &[Item<'_>],
    parse: impl Fn(&str) -> Option<T>,
    what: &str,
    problems: &mut Diagnostics,
) -> Vec<T> {
    let parsed = items.iter().filter_map(|item| {
        let value = parse(item.as_text());
        if value.is_none() {
            item.problem(problems, format!("`{}` is not {what}", item.as_text()));
        }
        value
    });
    parsed.collect()
}
