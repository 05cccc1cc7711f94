//! Which requests a policy is for.

use crate::head::Head;

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

impl Matching {
    /// Whether the policy is for a request.
    pub fn matches(&self, head: &Head) -> bool {
        let Self { hosts, path_prefixes, routes, only_by_name } = self;
        !only_by_name
            && (hosts.is_empty()
                || hosts.iter().any(|host| host.matches(head.host.as_sent().unwrap_or_default())))
            && (path_prefixes.is_empty()
                || path_prefixes
                    .iter()
                    .any(|prefix| prefix.matches(head.path.as_sent().unwrap_or_default())))
            && (routes.is_empty() || routes.iter().any(|name| head.route() == Some(name)))
    }

    /// Whether every request that the other is for is one that this is for.
    pub fn covers(&self, other: &Self) -> bool {
        fn all<T>(ours: &[T], theirs: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
            let covered = |theirs| ours.iter().any(|ours| covers(ours, theirs));
            ours.is_empty() || (!theirs.is_empty() && theirs.iter().all(covered))
        }
        !self.only_by_name
            && !other.only_by_name
            && all(&self.hosts, &other.hosts, HostPattern::covers)
            && all(&self.path_prefixes, &other.path_prefixes, PathPrefix::covers)
            && all(&self.routes, &other.routes, String::eq)
    }
}

/// A host name, or with `*.` in front all names below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// In lower case, without `*`: `.example.com` if it was `*.example.com`.
    name: String,
    below: bool,
}

impl HostPattern {
    /// `None` if it is neither `name` nor `*.name`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, below) = match text.strip_prefix('*') {
            Some(suffix) => (suffix, true),
            None => (text, false),
        };
        let bare = if below { name.strip_prefix('.')? } else { name };
        let is_label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        bare.split('.').all(is_label).then(|| Self { name: name.to_ascii_lowercase(), below })
    }

    fn covers(&self, other: &Self) -> bool {
        match (self.below, other.below) {
            // A name has no dot in front, so that it has more than the end.
            (true, _) => other.name.ends_with(&self.name),
            (false, true) => false,
            (false, false) => self.name == other.name,
        }
    }

    fn matches(&self, host: &str) -> bool {
        let without_port = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let host = without_port.strip_suffix('.').unwrap_or(without_port).to_ascii_lowercase();
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
    /// Whether it is for nothing below.
    exact: bool,
}

impl PathPrefix {
    /// `None` if it is not a plain path.
    pub fn parse(text: &str) -> Option<Self> {
        let path = text.strip_suffix('/').unwrap_or(text);
        is_prefix(text).then(|| Self { path: path.to_owned(), exact: false })
    }

    fn covers(&self, other: &Self) -> bool {
        if self.exact {
            return other.exact && self.path == other.path;
        }
        let rest = other.path.strip_prefix(&self.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The path alone. `None` if it is not a plain path.
    pub fn exactly(text: &str) -> Option<Self> {
        is_prefix(text).then(|| Self { path: text.to_owned(), exact: true })
    }

    fn matches(&self, path: &str) -> bool {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let Some(rest) = path.strip_prefix(&self.path) else { return false };
        if self.exact {
            return rest.is_empty();
        }
        (rest.is_empty() || rest.starts_with('/')) && is_plain(path)
    }
}

fn is_prefix(text: &str) -> bool {
    text.starts_with('/') && is_plain(text) && !text.contains(['?', '#', '*', '%'])
}

/// Whether all readers take a path for the same one. A path that a server may
/// still shorten or decode into another is below no prefix.
fn is_plain(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let encoded = ["%2e", "%2f", "%5c", "%25"].iter().any(|code| lower.contains(code));
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let dots = inner.split('/').any(|segment| {
        let segment = segment.split(';').next().unwrap_or_default();
        segment == "." || segment == ".."
    });
    !encoded && !dots && !path.contains("//") && !path.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_match_without_port_and_letters_case() {
        let matches = |pattern: &str, host| HostPattern::parse(pattern).unwrap().matches(host);
        for host in ["mcp.example.com", "MCP.example.com:8443", "mcp.example.com."] {
            assert!(matches("Mcp.Example.com", host), "{host}");
        }
        for host in ["x.mcp.example.com", "mcp.example.com.evil", "", "mcp.example.com:x"] {
            assert!(!matches("mcp.example.com", host), "{host}");
        }
        assert!(matches("*.example.com", "a.b.example.com:1"));
        for host in ["example.com", ".example.com", "xexample.com", "a.example.com.evil"] {
            assert!(!matches("*.example.com", host), "{host}");
        }
        for bad in ["", "*", "*.", "a..b", "*example.com", "a.*.b", "a:1", "a/b", "a b", "ä"] {
            assert_eq!(HostPattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_path_is_below_a_prefix_only_if_every_server_says_so() {
        let matches = |prefix: &str, path| PathPrefix::parse(prefix).unwrap().matches(path);
        for prefix in ["/mcp", "/mcp/"] {
            for path in ["/mcp", "/mcp/", "/mcp/x", "/mcp?x=/../", "/mcp/x.y", "/mcp/..x"] {
                assert!(matches(prefix, path), "{prefix} {path}");
            }
            for path in [
                "/mcpx",
                "/",
                "",
                "/MCP",
                "/a/mcp",
                "/mcp/../admin",
                "/mcp/..",
                "/mcp/./x",
                "/mcp//x",
                "/mcp/%2e%2e/admin",
                "/mcp/%2Fx",
                "/mcp\\..\\admin",
                "/mcp/%252e",
                "/mcp/..;/admin",
            ] {
                assert!(!matches(prefix, path), "{prefix} {path}");
            }
        }
        assert!(matches("/", "/anything"));
        let exact = PathPrefix::exactly("/mcp").unwrap();
        assert!(exact.matches("/mcp") && exact.matches("/mcp?x"));
        for path in ["/mcp/", "/mcp/x", "/mcpx", "/", "/MCP"] {
            assert!(!exact.matches(path), "{path}");
        }
        for bad in ["", "mcp", "/a?b", "/a#b", "/a/*", "/a/../b", "/a//b", "/%61"] {
            assert_eq!(PathPrefix::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn all_that_is_given_must_match() {
        let matching = Matching {
            hosts: vec![HostPattern::parse("a.b").unwrap()],
            path_prefixes: vec![PathPrefix::parse("/mcp").unwrap()],
            routes: vec!["one".to_owned(), "two".to_owned()],
            only_by_name: false,
        };
        let head = |host: &str, path: &str, route| {
            let (host, path) = (host.into(), path.into());
            Head { host, path, ..Head::default() }.on_route(route)
        };
        assert!(matching.matches(&head("a.b", "/mcp", Some("two"))));
        assert!(!matching.matches(&head("b.a", "/mcp", Some("two"))));
        assert!(!matching.matches(&head("a.b", "/", Some("two"))));
        assert!(!matching.matches(&head("a.b", "/mcp", Some("three"))));
        assert!(!matching.matches(&head("a.b", "/mcp", None)));
        assert!(Matching::default().matches(&Head::default()));
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
        let by_name = Matching { only_by_name: true, ..Matching::default() };
        assert!(!by_name.matches(&Head::default()));
    }
}
