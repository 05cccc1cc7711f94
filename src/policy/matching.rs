//! The requests to which a policy applies.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;

use crate::head::{clear_host, clear_path};

/// The requests to which a policy applies. Each non-empty list must have an element that matches
/// the request. If all lists are empty, every request matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestMatcher {
    /// The host names.
    pub hosts: Vec<HostPattern>,
    /// The paths. A path also matches everything below it, unless the path is exact.
    pub path_prefixes: Vec<PathPrefix>,
    /// The names of routes, as Envoy sends them.
    pub routes: Vec<String>,
    /// True if the policy applies only to requests for which Envoy names this policy.
    pub only_by_name: bool,
}

/// The result of comparing a path with the prefixes of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathMatch {
    /// Every server reads the path as one of the prefixes, or as a path below one.
    Matches,
    /// Only some servers read the path so: those that ignore letter case, a trailing slash, or dots
    /// and spaces at the end of a segment.
    Almost,
    /// No server reads the path so.
    No,
}

impl RequestMatcher {
    /// Returns true if a host in clear form matches, or if the policy names no hosts. `None` means
    /// that no policy of the gate names hosts.
    pub(super) fn matches_host(&self, host: Option<&str>) -> bool {
        let matches = |pattern: &HostPattern| host.is_some_and(|host| pattern.matches(host));
        self.hosts.is_empty() || self.hosts.iter().any(matches)
    }

    /// Returns true if Envoy's route name matches, or if the policy names no routes. `None` means
    /// that no policy of the gate names routes.
    pub(super) fn matches_route(&self, route: Option<&str>) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|name| route == Some(name))
    }

    /// Compares a path with the path prefixes. `None` means that no policy of the gate names path
    /// prefixes.
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

    /// Finds a path prefix that no request can match, because the other policy almost matches each
    /// of its paths.
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

    /// Returns true if every request that `other` matches also matches `self`.
    pub fn covers(&self, other: &Self) -> bool {
        self.covers_but_for_paths(other)
            && all(&self.path_prefixes, &other.path_prefixes, PathPrefix::covers)
    }

    /// Returns a host pattern of `other` that `self` covers, if both have identical paths. Gateways
    /// route such a host to the more specific of two routes, whatever their order.
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

/// Returns true if an element of `ours` covers each element of `theirs`. An empty list covers
/// everything.
fn all<T>(ours: &[T], theirs: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    let covered = |theirs| ours.iter().any(|ours| covers(ours, theirs));
    ours.is_empty() || (!theirs.is_empty() && theirs.iter().all(covered))
}

/// A host name; or, with a leading `*.`, all names below a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// The name in lower case without `*`, such as `.example.com` for `*.example.com`.
    name: String,
    below: bool,
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*" } else { "" }, self.name)
    }
}

impl HostPattern {
    /// Parses `name` or `*.name`. Returns `None` for any other form.
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
            // A plain name has no leading dot, so a name that ends with ours is longer than ours.
            (true, _) => other.name.ends_with(&self.name),
            (false, true) => false,
            (false, false) => self.name == other.name,
        }
    }

    /// Returns true if a host in clear form matches the pattern.
    fn matches(&self, host: &str) -> bool {
        if self.below {
            host.len() > self.name.len() && host.ends_with(&self.name)
        } else {
            host == self.name
        }
    }
}

/// A path and everything below it. `/mcp` matches `/mcp` and `/mcp/x`, but not `/mcpx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPrefix {
    /// The path, without a trailing slash unless the path is exact.
    path: String,
    /// The path as lenient servers read it.
    folded: String,
    /// True if paths below this one do not match.
    exact: bool,
}

impl PathPrefix {
    /// Parses a path prefix. Returns `None` if the string is not a plain path.
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

    /// Returns an exact path, in which stars and escapes stand for themselves. Returns `None` if
    /// the path is not in clear form.
    pub fn exactly(text: &str) -> Option<Self> {
        let is_clear = clear_path(text).is_ok_and(|clear| clear == text);
        is_clear.then(|| Self { path: text.to_owned(), folded: folded(text), exact: true })
    }

    /// Returns true if a path in clear form matches the prefix.
    fn matches(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&self.path);
        rest.is_some_and(|rest| rest.is_empty() || (!self.exact && rest.starts_with('/')))
    }

    /// Returns true if a folded path matches the folded prefix.
    fn almost_matches(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&self.folded);
        rest.is_some_and(|rest| rest.is_empty() || (!self.exact && rest.starts_with('/')))
    }
}

/// Returns true for a path in clear form without `%` and `*`, which readers could take for escapes
/// and wildcards.
fn is_plain(text: &str) -> bool {
    clear_path(text).is_ok_and(|clear| clear == text) && !text.contains(['%', '*'])
}

/// The path of a request in two readings: in clear form, and folded as lenient servers read it.
#[derive(Debug)]
pub(super) struct RequestPath<'h> {
    clear: Cow<'h, str>,
    folded: Cow<'h, str>,
}

impl<'h> RequestPath<'h> {
    /// Creates both readings from a path in clear form.
    pub(super) fn new(clear: Cow<'h, str>) -> Self {
        Self { folded: folded(&clear).into(), clear }
    }
}

/// Returns a path as the most lenient server reads it. The result is decoded, in lower case,
/// without a trailing slash, and without dots and spaces at the end of a segment (Windows).
fn folded(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut folded = String::with_capacity(path.len());
    let segments = decoded.split('/').map(|segment| segment.trim_end_matches(['.', ' ']));
    // Lenient servers merge slashes, and so drop a segment that trimming leaves empty.
    for segment in segments.filter(|segment| !segment.is_empty()) {
        folded.push('/');
        // Some letters, such as `ſ`, have a lower case only by way of their upper case.
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

    /// Returns the result of comparing a path with a prefix: `=` matches, `~` almost, `!` not at
    /// all.
    fn meets(prefix: &Option<PathPrefix>, path: &str) -> char {
        let path_prefixes = vec![prefix.clone().unwrap()];
        let matching = RequestMatcher { path_prefixes, ..RequestMatcher::default() };
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
        let hosts = |hosts: &[&str]| RequestMatcher {
            hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            ..RequestMatcher::default()
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
        let paths = |prefix: Option<PathPrefix>| RequestMatcher {
            path_prefixes: vec![prefix.unwrap()],
            ..RequestMatcher::default()
        };
        let (prefix, exact) = (PathPrefix::parse("/a"), PathPrefix::exactly("/a"));
        assert!(paths(prefix.clone()).covers(&paths(exact.clone())));
        assert!(!paths(exact.clone()).covers(&paths(prefix.clone())));
        assert!(!paths(exact).covers(&hosts(&[])));
        assert!(!paths(prefix).covers(&paths(PathPrefix::parse("/ab"))));
    }
}
