//! Selection of the policy that applies to a request.
//!
//! If the policy is uncertain, the selection fails: another policy could be laxer than the one that
//! the author intended.

use std::fmt;
use std::sync::Arc;

use super::Policy;
use super::matching::{PathMatch, RequestPath};
use crate::head::{Ambiguity, Head, Unclear};

/// A part of the request that selects a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// The host (`match.hosts`).
    Host,
    /// The path (`match.pathPrefixes`, the path of an `MCPRoute`).
    Path,
    /// The name of the route that Envoy sends (`match.routes`).
    Route,
}

/// The reason that no policy can be selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unselectable {
    /// Envoy did not send this part of the request.
    NotSent(Selector),
    /// Readers could read different hosts.
    AmbiguousHost(Ambiguity),
    /// Servers could read different paths.
    AmbiguousPath(AmbiguousPath),
}

/// The reason that servers could read different paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmbiguousPath {
    /// The path has no clear form.
    Form(Ambiguity),
    /// The path matches no policy as written, but lenient servers read a path that does.
    Almost,
}

/// Describes the error and its fix, as the rest of a sentence after "the path".
impl fmt::Display for AmbiguousPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(ambiguity) => ambiguity.fmt(f),
            Self::Almost => f.write_str(
                "differs from a known one only in letters' case or in how a segment ends: send it \
                 exactly as in the server's URL",
            ),
        }
    }
}

/// Returns the first policy that matches a request, if there is one.
///
/// # Errors
/// If policies select by a part of the request that Envoy did not send or that is ambiguous.
pub fn select<'p>(
    policies: &'p [Arc<Policy>],
    head: &Head,
) -> Result<Option<&'p Arc<Policy>>, Unselectable> {
    let (mut by_host, mut by_path, mut by_route) = (false, false, false);
    for policy in policies {
        by_host |= !policy.matching.hosts.is_empty();
        by_path |= !policy.matching.path_prefixes.is_empty();
        by_route |= !policy.matching.routes.is_empty();
    }
    let host = by_host.then(|| head.clear_host());
    let path = by_path.then(|| head.clear_path());
    let route = by_route.then(|| head.route());
    // Only the operator can fix a part that Envoy does not send, so report it before a client's
    // errors.
    for (is_missing, selector) in [
        (host == Some(Err(Unclear::NotSent)), Selector::Host),
        (path == Some(Err(Unclear::NotSent)), Selector::Path),
        (route == Some(None), Selector::Route),
    ] {
        if is_missing {
            return Err(Unselectable::NotSent(selector));
        }
    }
    let host = host.transpose().map_err(|unclear| match unclear {
        Unclear::NotSent => Unselectable::NotSent(Selector::Host),
        Unclear::Ambiguous(why) => Unselectable::AmbiguousHost(why),
    })?;
    let path = path.transpose().map_err(|unclear| match unclear {
        Unclear::NotSent => Unselectable::NotSent(Selector::Path),
        Unclear::Ambiguous(why) => Unselectable::AmbiguousPath(AmbiguousPath::Form(why)),
    })?;
    let (path, route) = (path.map(RequestPath::new), route.flatten());
    let mut selected = None;
    for policy in policies {
        let matching = &policy.matching;
        if matching.only_by_name
            || !matching.matches_host(host.as_deref())
            || !matching.matches_route(route)
        {
            continue;
        }
        match matching.matches_path(path.as_ref()) {
            PathMatch::Matches => selected = selected.or(Some(policy)),
            // This policy may come before or after the selected one, and either may be stricter.
            PathMatch::Almost => {
                return Err(Unselectable::AmbiguousPath(AmbiguousPath::Almost));
            }
            PathMatch::No => {}
        }
    }
    Ok(selected)
}

#[cfg(test)]
mod tests;
