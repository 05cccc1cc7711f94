//! The requests that an `MCPRoute` matches.

use crate::config::decode::{Item, MappingRef};
use crate::config::problem::{Diagnostics, Lint};
use crate::policy::{HostPattern, PathPrefix, RequestMatcher};

const DEFAULT_PATH: &str = "/mcp";

/// The hosts and the path of a route.
#[derive(Default)]
pub(super) struct Address {
    /// The hosts and the path, or `None` if one of them has a mistake.
    pub(super) matching: Option<RequestMatcher>,
    pub(super) url: RouteUrl,
}

/// The URL at which clients reach a route.
#[derive(Default)]
pub(super) enum RouteUrl {
    /// The only URL of the route.
    One(String),
    /// Several URLs: the route has several host names, or a pattern of them.
    Several,
    /// Any URL: the route matches all hosts.
    AnyHost,
    /// An unknown URL: the host or the path of the route has a mistake.
    #[default]
    Unclear,
}

impl Address {
    pub(super) fn read(spec: &MappingRef<'_>, problems: &mut Diagnostics) -> Self {
        let (address, has_mistake) = problems.checked(|problems| {
            let hosts = spec.get("hostnames").map(|item| hosts(&item, problems));
            let hosts = hosts.unwrap_or_default();
            let path = path(spec.get("path").as_ref(), problems);
            Some((hosts, path?))
        });
        let Some((hosts, (path_text, path))) = address.filter(|_| !has_mistake) else {
            return Self::default();
        };
        let url = match hosts.as_slice() {
            [] => RouteUrl::AnyHost,
            [(text, _)] if !text.starts_with('*') => {
                RouteUrl::One(format!("https://{}{path_text}", text.to_ascii_lowercase()))
            }
            _ => RouteUrl::Several,
        };
        let matching = RequestMatcher {
            hosts: hosts.into_iter().map(|(_, host)| host).collect(),
            path_prefixes: vec![path],
            ..RequestMatcher::default()
        };
        Self { matching: Some(matching), url }
    }
}

/// Reads host names. Leaves out those that have a mistake.
fn hosts(item: &Item<'_>, problems: &mut Diagnostics) -> Vec<(String, HostPattern)> {
    if item.is_empty_list() {
        let message = "an empty list counts as left out: the route is for every host";
        item.lint(Lint::NoEffect, problems, message);
        return Vec::new();
    }
    let mut hosts = Vec::new();
    for item in &item.strings(problems).unwrap_or_default() {
        let text = item.as_text();
        match HostPattern::parse(text) {
            Some(host) => hosts.push((text.to_owned(), host)),
            None => item.problem(
                problems,
                format!("`{text}` is not a host name: write it without scheme, port and path"),
            ),
        }
    }
    hosts
}

/// Reads the path of a route. The route matches this path only, and no path below it.
fn path(item: Option<&Item<'_>>, problems: &mut Diagnostics) -> Option<(String, PathPrefix)> {
    let text = match item {
        Some(item) => item.any_string(problems)?,
        None => DEFAULT_PATH.to_owned(),
    };
    let path = PathPrefix::exactly(&text);
    if let (None, Some(item)) = (&path, item) {
        let message = match text.starts_with('/') {
            true => format!(
                "servers read the path `{text}` in different ways, and requests for it are \
                 refused: write a plain path, such as `/mcp`"
            ),
            false => format!("the path `{text}` has no slash in front: write `/{text}`"),
        };
        item.problem(problems, message);
    }
    Some((text, path?))
}
