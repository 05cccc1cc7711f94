//! Which requests a policy is for.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;

use crate::head::{clear_host, clear_path};

/// The requests that a policy is for: all that are given must match, and of
/// each list any. Nothing given is for every request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matching {
    /// Host names.
    pub hosts: Vec<HostPattern>,
    /// Paths with all that is below them.
    pub path_prefixes: Vec<PathPrefix>,
    /// Envoy's names of routes.
    pub routes: Vec<String>,
    /// None, unless Envoy names the policy itself.
    pub only_by_name: bool,
}

/// How a path meets the prefixes of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathMatch {
    /// Every server reads it as one of them, or as below one.
    Matches,
    /// Some servers do: those that ignore letters' case, a slash at the end, or dots and spaces
    /// at the end of a segment.
    Almost,
    /// No server does.
    No,
}

impl Matching {
    /// Compares hosts with a host in clear form. `None`: no policy of the gate names hosts.
    pub(super) fn matches_host(&self, host: Option<&str>) -> bool {
        let matches = |pattern: &HostPattern| host.is_some_and(|host| pattern.matches(host));
        self.hosts.is_empty() || self.hosts.iter().any(matches)
    }

    /// Compares names of routes with Envoy's. `None`: no policy of the gate names routes.
    pub(super) fn matches_route(&self, route: Option<&str>) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|name| route == Some(name))
    }

    /// Compares path prefixes with a path. `None`: no policy of the gate names any.
    pub(super) fn matches_path(&self, path: Option<&RequestPath<'_>>) -> PathMatch {
        if self.path_prefixes.is_empty() {
            return PathMatch::Matches;
        }
        let Some(path) = path else { return PathMatch::No };
        if self.path_prefixes.iter().any(|prefix| prefix.matches(&path.clear)) {
            PathMatch::Matches
        } else if self.path_prefixes.iter().any(|prefix| prefix.almost_matches(&path.folded)) {
            PathMatch::Almost
        } else {
            PathMatch::No
        }
    }

    /// Finds a path prefix that no request can match, because each of its paths is almost one of
    /// another policy.
    pub fn ambiguous_beside(&self, other: &Self) -> Option<&str> {
        if !other.covers_but_for_paths(self) {
            return None;
        }
        let is_ambiguous = |prefix: &&PathPrefix| {
            let (clear, folded) = (prefix.path.as_str().into(), prefix.folded.as_str().into());
            other.matches_path(Some(&RequestPath { clear, folded })) == PathMatch::Almost
        };
        self.path_prefixes.iter().find(is_ambiguous).map(|prefix| prefix.path.as_str())
    }

    /// Whether every request that the other is for is one that this is for.
    pub fn covers(&self, other: &Self) -> bool {
        self.covers_but_for_paths(other)
            && all(&self.path_prefixes, &other.path_prefixes, PathPrefix::covers)
    }

    /// Returns a host of the other, for the same path, that this is for, too. Gateways give such a
    /// host to the more specific of two routes, whatever their order.
    pub fn takes_host_of<'o>(&self, other: &'o Self) -> Option<&'o HostPattern> {
        let is_ours = |theirs: &&HostPattern| {
            self.hosts.is_empty() || self.hosts.iter().any(|ours| ours.covers(theirs))
        };
        other.hosts.iter().find(is_ours).filter(|_| self.path_prefixes == other.path_prefixes)
    }

    fn covers_but_for_paths(&self, other: &Self) -> bool {
        !self.only_by_name
            && !other.only_by_name
            && all(&self.hosts, &other.hosts, HostPattern::covers)
            && all(&self.routes, &other.routes, String::eq)
    }
}

/// Returns true if each of theirs is covered by one of ours. No element stands for everything.
fn all<T>(ours: &[T], theirs: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    let covered = |theirs| ours.iter().any(|ours| covers(ours, theirs));
    ours.is_empty() || (!theirs.is_empty() && theirs.iter().all(covered))
}

/// A host name, or with `*.` in front all names below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// In lower case, without `*`: `.example.com` if it was `*.example.com`.
    name: String,
    below: bool,
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*" } else { "" }, self.name)
    }
}

impl HostPattern {
    /// `None` if it is neither `name` nor `*.name`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, below) = match text.strip_prefix('*') {
            Some(suffix) => (suffix, true),
            None => (text, false),
        };
        let bare = if below { name.strip_prefix('.')? } else { name };
        let name = name.to_ascii_lowercase();
        let is_clear = clear_host(bare).is_ok_and(|clear| clear.eq_ignore_ascii_case(bare));
        (is_clear && !bare.starts_with('[')).then_some(Self { name, below })
    }

    fn covers(&self, other: &Self) -> bool {
        match (self.below, other.below) {
            // A name has no dot in front, so that it has more than the end.
            (true, _) => other.name.ends_with(&self.name),
            (false, true) => false,
            (false, false) => self.name == other.name,
        }
    }

    /// Compares it with a host in clear form.
    fn matches(&self, host: &str) -> bool {
        if self.below {
            host.len() > self.name.len() && host.ends_with(&self.name)
        } else {
            host == self.name
        }
    }
}

/// A path and all that is below it: `/mcp` is for `/mcp` and `/mcp/x`, not for
/// `/mcpx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPrefix {
    /// Without a slash at its end, if it is for what is below.
    path: String,
    /// The path as lenient servers read it.
    folded: String,
    /// Whether it is for nothing below.
    exact: bool,
}

impl PathPrefix {
    /// `None` if it is not a plain path.
    pub fn parse(text: &str) -> Option<Self> {
        let path = text.strip_suffix('/').unwrap_or(text);
        is_plain(text).then(|| Self { path: path.to_owned(), folded: folded(path), exact: false })
    }

    fn covers(&self, other: &Self) -> bool {
        if self.exact {
            return other.exact && self.path == other.path;
        }
        let rest = other.path.strip_prefix(&self.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Returns the path alone, in which stars and escapes stand for themselves. `None` if it is not
    /// in clear form.
    pub fn exactly(text: &str) -> Option<Self> {
        let is_clear = clear_path(text).is_ok_and(|clear| clear == text);
        is_clear.then(|| Self { path: text.to_owned(), folded: folded(text), exact: true })
    }

    /// Compares it with a path in clear form.
    fn matches(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&self.path);
        rest.is_some_and(|rest| rest.is_empty() || (!self.exact && rest.starts_with('/')))
    }

    /// Compares it with a folded path.
    fn almost_matches(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&self.folded);
        rest.is_some_and(|rest| rest.is_empty() || (!self.exact && rest.starts_with('/')))
    }
}

/// Returns true for a path in clear form without `%` and `*`, which could be taken for more.
fn is_plain(text: &str) -> bool {
    clear_path(text).is_ok_and(|clear| clear == text) && !text.contains(['%', '*'])
}

/// The path of a request, as all servers read it, and as lenient ones do.
#[derive(Debug)]
pub(super) struct RequestPath<'h> {
    clear: Cow<'h, str>,
    folded: Cow<'h, str>,
}

impl<'h> RequestPath<'h> {
    /// Takes a path in clear form.
    pub(super) fn new(clear: Cow<'h, str>) -> Self {
        Self { folded: folded(&clear).into(), clear }
    }
}

/// Returns a path as the most lenient server reads it: decoded, without regard to letters' case,
/// without a slash at its end, and without dots and spaces at the end of a segment (Windows).
fn folded(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut folded = String::with_capacity(path.len());
    let segments = decoded.split('/').map(|segment| segment.trim_end_matches(['.', ' ']));
    // A segment of which nothing is left is an empty one, and slashes are merged.
    for segment in segments.filter(|segment| !segment.is_empty()) {
        folded.push('/');
        // Some letters have a lower case by way of their upper case only: `ſ`.
        folded.extend(segment.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase));
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_pattern_matches_clear_host() {
        let matches = |pattern: &str, host| HostPattern::parse(pattern).unwrap().matches(host);
        assert!(matches("Mcp.Example.com", "mcp.example.com"));
        for host in ["x.mcp.example.com", "mcp.example.com.evil", ""] {
            assert!(!matches("mcp.example.com", host), "{host}");
        }
        assert!(matches("*.example.com", "a.b.example.com"));
        for host in ["example.com", ".example.com", "xexample.com", "a.example.com.evil"] {
            assert!(!matches("*.example.com", host), "{host}");
        }
        for bad in [
            "",
            "*",
            "*.",
            "a..b",
            "*example.com",
            "a.*.b",
            "a:1",
            "a/b",
            "a b",
            "ä",
            "a.",
            "127.1",
            "*.1",
            "[::1]",
            "*.[::1]",
            "a,b",
            "a@b",
        ] {
            assert_eq!(HostPattern::parse(bad), None, "{bad}");
        }
    }

    /// How a prefix meets a path: `=` matches, `~` almost, `!` not at all.
    fn meets(prefix: &Option<PathPrefix>, path: &str) -> char {
        let path_prefixes = vec![prefix.clone().unwrap()];
        let matching = Matching { path_prefixes, ..Matching::default() };
        match matching.matches_path(Some(&RequestPath::new(clear_path(path).unwrap()))) {
            PathMatch::Matches => '=',
            PathMatch::Almost => '~',
            PathMatch::No => '!',
        }
    }

    #[test]
    fn path_prefix_matches_clear_path() {
        for (prefix, path, expected) in [
            ("/mcp", "/mcp", '='),
            ("/mcp", "/mcp/", '='),
            ("/mcp", "/mcp/x", '='),
            ("/mcp", "/mcp/X", '='),
            ("/mcp", "/mcp/x.y/..z", '='),
            ("/mcp/", "/mcp", '='),
            ("/mcp/", "/mcp/x", '='),
            ("/", "/anything", '='),
            ("/", "/", '='),
            ("/mcp", "/mcpx", '!'),
            ("/mcp", "/", '!'),
            ("/mcp", "/a/mcp", '!'),
            ("/mcp/admin", "/mcp", '!'),
            ("/mcp", "/MCP", '~'),
            ("/mcp", "/Mcp/x", '~'),
            ("/MCP", "/mcp", '~'),
            ("/mcp/admin", "/mcp/Admin/x", '~'),
            ("/mcp", "/mcp.", '~'),
            ("/mcp", "/mcp%20/x", '~'),
            ("/mcp", "/mcp.%20.", '~'),
            ("/kms", "/%E2%84%AAm%C5%BF", '~'),
        ] {
            assert_eq!(meets(&PathPrefix::parse(prefix), path), expected, "{prefix} {path}");
        }
        for bad in ["", "mcp", "/a?b", "/a#b", "/a/*", "/a/../b", "/a//b", "/%61", "/ä", "/a b"] {
            assert_eq!(PathPrefix::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn exact_path_matches_itself_only() {
        for (exact, path, expected) in [
            ("/mcp", "/mcp", '='),
            ("/mcp/", "/mcp/", '='),
            ("/", "/", '='),
            ("/mcp", "/mcp/", '~'),
            ("/mcp/", "/mcp", '~'),
            ("/mcp", "/MCP", '~'),
            ("/mcp", "/Mcp/", '~'),
            ("/mcp", "/mcp/x", '!'),
            ("/mcp", "/mcpx", '!'),
            ("/mcp", "/", '!'),
        ] {
            assert_eq!(meets(&PathPrefix::exactly(exact), path), expected, "{exact} {path}");
        }
    }

    #[test]
    fn matching_covers_what_is_narrower() {
        let hosts = |hosts: &[&str]| Matching {
            hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            ..Matching::default()
        };
        for (wide, narrow) in [
            (hosts(&[]), hosts(&["a.b"])),
            (hosts(&["*.b"]), hosts(&["a.b"])),
            (hosts(&["*.b"]), hosts(&["*.a.b"])),
            (hosts(&["a.b", "c.d"]), hosts(&["c.d"])),
        ] {
            assert!(wide.covers(&narrow) && !narrow.covers(&wide), "{wide:?} {narrow:?}");
        }
        for other in ["b", "ab", "a.bb"] {
            assert!(!hosts(&["*.b"]).covers(&hosts(&[other])), "{other}");
        }
        let paths = |prefix: Option<PathPrefix>| Matching {
            path_prefixes: vec![prefix.unwrap()],
            ..Matching::default()
        };
        let (prefix, exact) = (PathPrefix::parse("/a"), PathPrefix::exactly("/a"));
        assert!(paths(prefix.clone()).covers(&paths(exact.clone())));
        assert!(!paths(exact.clone()).covers(&paths(prefix.clone())));
        assert!(!paths(exact).covers(&hosts(&[])));
        assert!(!paths(prefix).covers(&paths(PathPrefix::parse("/ab"))));
    }
}
