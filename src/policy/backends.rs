//! The backends of an `MCPRoute`, and the names that the route exposes of each backend.
//!
//! Agent Router presents many servers as one: clients see the tool `search` of the backend `github`
//! as `github__search`. Agent Router sends a name without a known backend to no server, so the
//! policy refuses such a name before evaluating any rule.

use rustc_hash::{FxHashMap, FxHashSet};

use super::condition::Pattern;
use super::target::split;
use super::{Backend, BackendSource, CallTarget, Dialect, UnresolvedTarget};
use crate::head::Head;
use crate::mcp::TargetKind;

/// The backends of an `MCPRoute`.
#[derive(Debug, Default)]
pub struct RouteBackends {
    separator: String,
    /// The source of the backend for a name without a prefix. `None`: such a name is refused.
    fallback: Option<Box<BackendSource>>,
    backends: FxHashMap<String, Exposed>,
    /// The backends of tools whose names need no prefix, by the tool's name.
    bare_tools: FxHashMap<String, String>,
    /// The backends of prompts whose names need no prefix, by the prompt's name.
    bare_prompts: FxHashMap<String, String>,
}

/// The tools and prompts of a backend that a route exposes.
#[derive(Debug, Default)]
pub struct Exposed {
    /// True if names that a selector includes need no prefix (`prefixMode: Never`).
    pub bare_names: bool,
    /// The selector of tools. `None` exposes all.
    pub tools: Option<NameSelector>,
    /// The selector of prompts. `None` exposes all.
    pub prompts: Option<NameSelector>,
}

/// A selector of names. An excluded name is never selected.
#[derive(Debug, Default)]
pub struct NameSelector {
    /// The selected names. `None` selects all.
    pub include: Option<Names>,
    /// The excluded names, even if `include` selects them.
    pub exclude: Option<Names>,
}

/// A list of names.
#[derive(Debug)]
pub enum Names {
    /// These names.
    Exact(FxHashSet<String>),
    /// Names in which one of these patterns matches anywhere.
    Patterns(Vec<Pattern>),
}

/// A name without a prefix that tools, or prompts, of two backends share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedName {
    /// The shared name.
    pub name: String,
    /// The first backend with the name.
    pub first: String,
    /// The second backend with the name.
    pub second: String,
}

impl Names {
    fn contain(&self, name: &str) -> bool {
        match self {
            Self::Exact(names) => names.contains(name),
            Self::Patterns(patterns) => patterns.iter().any(|pattern| pattern.is_match(name)),
        }
    }
}

impl NameSelector {
    /// Returns true if the selector exposes a name.
    pub fn selects(&self, name: &str) -> bool {
        let is_excluded = self.exclude.as_ref().is_some_and(|names| names.contain(name));
        !is_excluded && self.include.as_ref().is_none_or(|names| names.contain(name))
    }

    /// Returns the names that `include` lists and the selector exposes.
    fn listed(&self) -> impl Iterator<Item = &String> {
        let names = match &self.include {
            Some(Names::Exact(names)) => Some(names),
            Some(Names::Patterns(_)) | None => None,
        };
        names.into_iter().flatten().filter(|name| self.selects(name))
    }
}

impl Exposed {
    fn selector(&self, feature: TargetKind) -> Option<&NameSelector> {
        match feature {
            TargetKind::Tool => self.tools.as_ref(),
            TargetKind::Prompt => self.prompts.as_ref(),
            TargetKind::Resource | TargetKind::ResourceTemplate | TargetKind::Method => None,
        }
    }

    /// Returns all names that the selectors list, included or excluded.
    pub fn listed_names(&self) -> impl Iterator<Item = &str> {
        let selectors = [&self.tools, &self.prompts].into_iter().flatten();
        let lists = selectors.flat_map(|selector| [&selector.include, &selector.exclude]);
        let exact = lists.flatten().filter_map(|names| match names {
            Names::Exact(names) => Some(names),
            Names::Patterns(_) => None,
        });
        exact.flatten().map(String::as_str)
    }
}

impl RouteBackends {
    /// Collects the backends of a route. `fallback` is the source of the backend for names without
    /// a prefix.
    ///
    /// # Errors
    /// All names without a prefix that two backends share.
    pub fn new(
        separator: String,
        fallback: Option<BackendSource>,
        backends: Vec<(String, Exposed)>,
    ) -> Result<Self, Vec<SharedName>> {
        let mut shared = Vec::new();
        let mut bare = |feature| {
            let mut names: FxHashMap<String, String> = FxHashMap::default();
            for (backend, exposed) in backends.iter().filter(|(_, exposed)| exposed.bare_names) {
                let selector = exposed.selector(feature).into_iter();
                for name in selector.flat_map(NameSelector::listed) {
                    let first = names.entry(name.clone()).or_insert_with(|| backend.clone());
                    if first != backend {
                        let (first, second) = (first.clone(), backend.clone());
                        shared.push(SharedName { name: name.clone(), first, second });
                    }
                }
            }
            names
        };
        let (bare_tools, bare_prompts) = (bare(TargetKind::Tool), bare(TargetKind::Prompt));
        if !shared.is_empty() {
            return Err(shared);
        }
        let (fallback, backends) = (fallback.map(Box::new), backends.into_iter().collect());
        Ok(Self { separator, fallback, backends, bare_tools, bare_prompts })
    }

    /// Returns the separator between a backend's name and that of its tool.
    pub fn separator(&self) -> &str {
        &self.separator
    }

    /// Returns the source of the backend for names without a prefix.
    pub fn fallback(&self) -> Option<&BackendSource> {
        self.fallback.as_deref()
    }

    /// Returns true if some backend has a selector for this kind of target.
    pub(super) fn select(&self, feature: TargetKind) -> bool {
        self.backends.values().any(|exposed| exposed.selector(feature).is_some())
    }

    /// Returns true unless a selector of the backend hides the name.
    pub fn expose(&self, backend: &str, (feature, name): (TargetKind, &str)) -> bool {
        let exposed = self.backends.get(backend);
        let selector = exposed.and_then(|exposed| exposed.selector(feature));
        selector.is_none_or(|selector| selector.selects(name))
    }

    /// Returns the target of a call. The name may need no prefix, have the prefix of one of the
    /// route's backends, or get its backend from the fallback.
    ///
    /// # Errors
    /// If the name belongs to no backend of the route, or if its backend is ambiguous.
    pub(super) fn subject<'c>(
        &'c self,
        (feature, whole): (TargetKind, &'c str),
        head: &'c Head,
    ) -> Result<CallTarget<'c>, UnresolvedTarget<'c>> {
        let bare = match feature {
            TargetKind::Tool => self.bare_tools.get(whole),
            TargetKind::Prompt => self.bare_prompts.get(whole),
            TargetKind::Resource | TargetKind::ResourceTemplate | TargetKind::Method => None,
        };
        let (prefix, name) = match bare {
            Some(backend) => (Some(backend.as_str()), whole),
            None => split(&self.separator, feature, whole),
        };
        let routed = match &self.fallback {
            Some(fallback) => fallback.subject(Dialect::McpRoute, (feature, whole), head)?,
            None => CallTarget::plain(Backend::None, feature, whole),
        };
        let Some(prefix) = prefix else { return self.known(routed) };
        // A header or an attribute may route the call to another backend than the prefix names.
        let is_routed = matches!(
            self.fallback.as_deref(),
            Some(BackendSource::Header(_) | BackendSource::Attribute(_))
        );
        match routed.backend {
            Backend::Named(backend) if is_routed && backend != prefix => {
                Err(UnresolvedTarget::Unclear)
            }
            _ => self.known(CallTarget::plain(Backend::Named(prefix), feature, name)),
        }
    }

    /// Returns the target if its backend belongs to the route. A method needs no backend.
    fn known<'c>(
        &'c self,
        subject: CallTarget<'c>,
    ) -> Result<CallTarget<'c>, UnresolvedTarget<'c>> {
        let is_known = subject.backend.name().is_some_and(|name| self.backends.contains_key(name));
        match is_known || subject.feature == TargetKind::Method {
            true => Ok(subject),
            false => Err(UnresolvedTarget::UnknownBackend { separator: &self.separator }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(names: &[&str]) -> Option<Names> {
        Some(Names::Exact(names.iter().map(|&name| name.to_owned()).collect()))
    }

    fn matching(pattern: &str) -> Option<Names> {
        Some(Names::Patterns(vec![Pattern::compile(pattern).unwrap()]))
    }

    fn bare(include: &[&str], exclude: &[&str]) -> Exposed {
        let exclude = if exclude.is_empty() { None } else { exact(exclude) };
        let tools = Some(NameSelector { include: exact(include), exclude });
        Exposed { bare_names: true, tools, prompts: None }
    }

    fn route(backends: Vec<(&str, Exposed)>) -> Result<RouteBackends, Vec<SharedName>> {
        let backends = backends.into_iter().map(|(name, exposed)| (name.to_owned(), exposed));
        RouteBackends::new("__".to_owned(), None, backends.collect())
    }

    /// Returns the backend and the name of a call, or the form that the error expects.
    fn read(route: &RouteBackends, feature: TargetKind, name: &str) -> String {
        match route.subject((feature, name), &Head::default()) {
            Ok(subject) => {
                format!("{}/{}", subject.backend.name().unwrap_or("-"), subject.name)
            }
            Err(UnresolvedTarget::UnknownBackend { separator }) => {
                format!("BACKEND{separator}TOOL")
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn unknown_backend_is_refused() {
        let route = route(vec![("b1", Exposed::default()), ("b2", Exposed::default())]).unwrap();
        for (name, expected) in [
            ("b1__del", "b1/del"),
            ("b2__del__x", "b2/del__x"),
            ("b1___del", "b1/_del"),
            ("del", "BACKEND__TOOL"),
            ("zz__del", "BACKEND__TOOL"),
            ("B1__del", "BACKEND__TOOL"),
            ("__del", "BACKEND__TOOL"),
            ("b1__", "BACKEND__TOOL"),
            ("b1_del", "BACKEND__TOOL"),
            ("x__b1__del", "BACKEND__TOOL"),
        ] {
            for feature in [TargetKind::Tool, TargetKind::Prompt] {
                assert_eq!(read(&route, feature, name), expected, "{feature:?} {name}");
            }
        }
        assert_eq!(read(&route, TargetKind::Resource, "b1+file:///a"), "b1/file:///a");
        assert_eq!(read(&route, TargetKind::Resource, "zz+file:///a"), "BACKEND__TOOL");
        assert_eq!(read(&route, TargetKind::Resource, "file:///a"), "BACKEND__TOOL");
        assert_eq!(read(&route, TargetKind::Method, "ping"), "-/ping");
    }

    #[test]
    fn bare_name_is_found_first() {
        let backends = vec![
            ("b1", bare(&["a", "b", "b2__c"], &["b"])),
            ("b2", Exposed { bare_names: false, ..bare(&["x"], &[]) }),
        ];
        let route = route(backends).unwrap();
        for (name, expected) in [
            ("a", "b1/a"),
            ("b1__a", "b1/a"),
            ("b2__c", "b1/b2__c"),
            ("b2__x", "b2/x"),
            // The selector excludes this name, so the name is not a bare name of the backend.
            ("b", "BACKEND__TOOL"),
            ("b1__b", "b1/b"),
            // The backend's names need a prefix.
            ("x", "BACKEND__TOOL"),
        ] {
            assert_eq!(read(&route, TargetKind::Tool, name), expected, "{name}");
        }
        assert_eq!(read(&route, TargetKind::Prompt, "a"), "BACKEND__TOOL");
    }

    #[test]
    fn contradicting_header_is_refused() {
        let fallback = Some(BackendSource::Header("x-backend".to_owned()));
        let backends =
            vec![("b1".to_owned(), bare(&["a"], &[])), ("b2".to_owned(), bare(&["c"], &[]))];
        let route = RouteBackends::new("__".to_owned(), fallback, backends).unwrap();
        let read = |name: &'static str, backend: Option<&str>| {
            let header = |value: &str| ("x-backend".to_owned(), value.as_bytes().to_vec());
            let head =
                Head { headers: backend.map(header).into_iter().collect(), ..Head::default() };
            let subject = route.subject((TargetKind::Tool, name), &head);
            subject.map(|subject| subject.backend.name().unwrap_or("-").to_owned()).ok()
        };
        for (name, header, expected) in [
            ("b1__x", None, Some("b1")),
            ("b1__x", Some("b1"), Some("b1")),
            ("b1__x", Some("b2"), None),
            ("a", Some("b1"), Some("b1")),
            ("a", Some("b2"), None),
            ("x", Some("b2"), Some("b2")),
            ("x", Some("zz"), None),
            ("x", None, None),
        ] {
            assert_eq!(read(name, header).as_deref(), expected, "{name} {header:?}");
        }
    }

    #[test]
    fn shared_bare_name_is_refused() {
        let shared = route(vec![("b1", bare(&["a", "b"], &[])), ("b2", bare(&["b", "c"], &[]))]);
        let expected = SharedName { name: "b".into(), first: "b1".into(), second: "b2".into() };
        assert_eq!(shared.unwrap_err(), [expected]);
        assert!(route(vec![("b1", bare(&["a"], &[])), ("b2", bare(&["a"], &["a"]))]).is_ok());
        assert!(route(vec![("b1", bare(&["a", "a"], &[]))]).is_ok());
    }

    #[test]
    fn excluded_name_is_never_selected() {
        let selects = |include, exclude, name| NameSelector { include, exclude }.selects(name);
        assert!(selects(None, None, "a"));
        assert!(selects(exact(&["a"]), None, "a") && !selects(exact(&["a"]), None, "b"));
        assert!(!selects(exact(&["a"]), exact(&["a"]), "a"));
        assert!(!selects(None, matching("^del"), "delete") && selects(None, matching("^del"), "a"));
        assert!(selects(matching("ist"), None, "list_x") && !selects(matching("ist"), None, "x"));
        assert!(!selects(matching("."), matching("secret"), "get_secret"));
    }

    #[test]
    fn fallback_names_the_backend_of_bare_names() {
        let backends = || vec![("b1".to_owned(), Exposed::default())];
        let with = |name: &str| {
            let fallback = Some(BackendSource::Name(name.to_owned()));
            RouteBackends::new("__".to_owned(), fallback, backends()).unwrap()
        };
        assert_eq!(read(&with("b1"), TargetKind::Tool, "del"), "b1/del");
        assert_eq!(read(&with("b1"), TargetKind::Tool, "b1__del"), "b1/del");
        assert_eq!(read(&with("b1"), TargetKind::Tool, "zz__del"), "BACKEND__TOOL");
        assert_eq!(read(&with("zz"), TargetKind::Tool, "del"), "BACKEND__TOOL");
    }
}
