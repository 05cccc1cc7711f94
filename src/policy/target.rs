//! The targets of calls and rules, and the backends that they name.

use std::sync::Arc;

use super::fold::{fold, is_folded};
use super::{Action, Condition, Dialect, Glob, Overlap, RouteBackends, UnresolvedTarget};
use crate::head::Head;
use crate::mcp::TargetKind;

/// The source of a call's backend.
#[derive(Debug)]
pub enum BackendSource {
    /// The part of the name before this separator, as in `github__create_issue`. For a resource,
    /// the part of the URI before `+`, as in `github+https://…`.
    ToolNamePrefix(String),
    /// A fixed backend.
    Name(String),
    /// The value of the header with this name, in lower case.
    Header(String),
    /// The value of the Envoy attribute with this name.
    Attribute(String),
    /// The part of the name before the separator, if this part is a backend of an `MCPRoute`.
    Route(RouteBackends),
}

/// The backend of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend<'c> {
    /// The backend with this name.
    Named(&'c str),
    /// No backend: the name of the target has no prefix.
    None,
    /// An unknown backend, because the header that names the backend is missing.
    Unknown,
}

impl<'c> Backend<'c> {
    /// Returns the name of the backend, if the name is known.
    pub fn name(self) -> Option<&'c str> {
        match self {
            Self::Named(name) => Some(name),
            Self::None | Self::Unknown => None,
        }
    }
}

/// The target of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallTarget<'c> {
    /// The backend.
    pub backend: Backend<'c>,
    /// The kind of target.
    pub feature: TargetKind,
    /// The name or URI, without the backend's prefix.
    pub name: &'c str,
    /// The target as lenient servers read it. Empty if all servers read the target as written.
    readings: Vec<Reading>,
    /// True if the name is a pattern that stands for many names.
    is_pattern: bool,
}

/// A target as a lenient server reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reading {
    backend: Option<String>,
    name: String,
}

impl<'c> CallTarget<'c> {
    /// Creates a target that every server reads as written. A resource template is a pattern.
    pub fn plain(backend: Backend<'c>, feature: TargetKind, name: &'c str) -> Self {
        let is_pattern = feature == TargetKind::ResourceTemplate;
        Self { backend, feature, name, readings: Vec::new(), is_pattern }
    }

    /// Creates a target for all names that match a pattern.
    pub fn pattern(backend: Backend<'c>, feature: TargetKind, pattern: &'c str) -> Self {
        Self { is_pattern: true, ..Self::plain(backend, feature, pattern) }
    }

    /// Creates a target for all names that a rule's target matches.
    pub fn of_target(target: &'c Target) -> Self {
        let backend = target.backend.as_deref().map_or(Backend::Unknown, Backend::Named);
        let readings = target.folded.iter().map(|(backend, name)| Reading {
            backend: backend.clone(),
            name: name.as_str().to_owned(),
        });
        let readings = readings.collect();
        Self { readings, ..Self::pattern(backend, target.feature, target.name.as_str()) }
    }

    /// Returns true if the name is a pattern that stands for many names.
    pub fn is_pattern(&self) -> bool {
        self.is_pattern
    }

    /// Returns the folded name. Returns `None` if the target can have several names.
    pub(super) fn folded_name(&self) -> Option<&str> {
        match self.readings.as_slice() {
            _ if self.is_pattern => None,
            [] => Some(self.name),
            [first, others @ ..] => {
                others.iter().all(|other| other.name == first.name).then_some(&first.name)
            }
        }
    }
}

impl BackendSource {
    /// Returns the target of a call. A name with nothing before or after its first separator has no
    /// backend. If the header that names the backend is missing, the backend is unknown.
    ///
    /// # Errors
    /// If the header, the attribute or a template leaves the backend open. A router could then send
    /// the call to another backend.
    pub fn subject<'c>(
        &'c self,
        dialect: Dialect,
        (feature, whole): (TargetKind, &'c str),
        head: &'c Head,
    ) -> Result<CallTarget<'c>, UnresolvedTarget<'c>> {
        let is_template = feature == TargetKind::ResourceTemplate;
        if is_template && self.separator().is_some() && leaves_backend_open(whole) {
            return Err(UnresolvedTarget::Unclear);
        }
        let (prefix, name) = self.split(feature, whole);
        let backend = match self {
            Self::Name(backend) => Backend::Named(backend.as_str()),
            Self::ToolNamePrefix(_) => prefix.map_or(Backend::None, Backend::Named),
            Self::Header(header) => {
                let mut values = head.values(header);
                match (values.next(), values.next()) {
                    (None, _) => Backend::Unknown,
                    (Some(value), None) => {
                        Backend::Named(named_by_header(value).ok_or(UnresolvedTarget::Unclear)?)
                    }
                    (Some(_), Some(_)) => return Err(UnresolvedTarget::Unclear),
                }
            }
            Self::Attribute(attribute) => Backend::Named(
                head.attribute(attribute).ok_or(UnresolvedTarget::NoAttribute(attribute))?,
            ),
            Self::Route(route) => return route.subject((feature, whole), head),
        };
        Ok(self.read(dialect, (feature, whole), (backend, name)))
    }

    /// Returns a target with its readings. Lenient servers fold the backend and the name
    /// separately. Lenient gateways fold the combined name before the split, and may so find a
    /// separator where the original name has none.
    fn read<'c>(
        &self,
        dialect: Dialect,
        (feature, whole): (TargetKind, &str),
        (backend, name): (Backend<'c>, &'c str),
    ) -> CallTarget<'c> {
        let mut subject = CallTarget::plain(backend, feature, name);
        let folds_name = folds(feature);
        let separator = match (self, feature) {
            (Self::ToolNamePrefix(separator), TargetKind::Tool | TargetKind::Prompt) => {
                Some(separator.as_str())
            }
            _ => None,
        };
        let is_plain = (!folds_name || is_folded(whole))
            && backend.name().is_none_or(is_folded)
            && separator.is_none_or(is_folded);
        if dialect == Dialect::McpRoute || is_plain {
            return subject;
        }
        let parts = Reading {
            backend: backend.name().map(|backend| fold(backend).into_owned()),
            name: if folds_name { fold(name).into_owned() } else { name.to_owned() },
        };
        if let Some(separator) = separator {
            let whole = fold(whole);
            let (backend, name) = split_name(&whole, &fold(separator));
            let reading = Reading {
                backend: backend.map(|backend| backend.trim().to_owned()),
                name: name.trim().to_owned(),
            };
            subject.readings.extend((reading != parts).then_some(reading));
        }
        subject.readings.push(parts);
        subject
    }

    /// Splits a name or URI into its backend and the rest. The backend is `None` if names have no
    /// prefix.
    pub fn split<'n>(&self, feature: TargetKind, name: &'n str) -> (Option<&'n str>, &'n str) {
        self.separator().map_or((None, name), |separator| split(separator, feature, name))
    }

    /// Returns the separator between the backend's name and the tool's, if names have a prefix.
    pub fn separator(&self) -> Option<&str> {
        match self {
            Self::ToolNamePrefix(separator) => Some(separator),
            Self::Route(route) => Some(route.separator()),
            Self::Name(_) | Self::Header(_) | Self::Attribute(_) => None,
        }
    }

    /// Returns the source of the backend for names without a prefix.
    pub fn of_bare_names(&self) -> Option<&Self> {
        match self {
            Self::Route(route) => route.fallback(),
            _ => Some(self),
        }
    }
}

/// Splits a name or URI into its backend, if there is one, and the rest.
pub(super) fn split<'n>(
    separator: &str,
    feature: TargetKind,
    name: &'n str,
) -> (Option<&'n str>, &'n str) {
    match feature {
        TargetKind::Tool | TargetKind::Prompt => split_name(name, separator),
        TargetKind::Resource | TargetKind::ResourceTemplate => both_parts(split_uri(name), name),
        TargetKind::Method => (None, name),
    }
}

/// Returns the backend that a header names. Returns `None` if readers may find no backend in the
/// value, or several. A comma is equivalent to a second header line ([RFC 9110, section 5.3]).
///
/// [RFC 9110, section 5.3]: https://www.rfc-editor.org/rfc/rfc9110#section-5.3
fn named_by_header(value: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(value).ok()?;
    (!name.trim().is_empty() && !name.contains(',')).then_some(name)
}

/// Splits a name at the first separator.
fn split_name<'n>(name: &'n str, separator: &str) -> (Option<&'n str>, &'n str) {
    both_parts(name.split_once(separator), name)
}

/// Returns the backend and the rest, if neither is empty. Otherwise returns the name without a
/// backend.
fn both_parts<'n>(parts: Option<(&'n str, &'n str)>, name: &'n str) -> (Option<&'n str>, &'n str) {
    match parts {
        Some((backend, rest)) if !backend.is_empty() && !rest.is_empty() => (Some(backend), rest),
        _ => (None, name),
    }
}

/// Returns true if servers may ignore case, width and invisible characters in names of this kind.
/// URIs are never folded: the gate accepts only one form of a URI.
pub(super) fn folds(feature: TargetKind) -> bool {
    match feature {
        TargetKind::Tool | TargetKind::Prompt | TargetKind::Method => true,
        TargetKind::Resource | TargetKind::ResourceTemplate => false,
    }
}

/// Splits a URI into its backend and the rest. Gateways put the backend before the scheme.
///
/// Hosts of MCP Apps look for the scheme `ui`, so `ui://` stays first and the backend follows.
fn split_uri(uri: &str) -> Option<(&str, &str)> {
    if let Some(rest) = uri.strip_prefix("ui://") {
        return rest.split_once('/').map(|(backend, _)| (backend, uri));
    }
    uri.split_once('+').filter(|(backend, _)| !backend.contains(':'))
}

/// Returns true if the backend depends on the values of a template's stars.
fn leaves_backend_open(template: &str) -> bool {
    let Some((start, _)) = template.split_once('*') else { return false };
    match start.strip_prefix("ui://") {
        Some(rest) => !rest.contains('/'),
        None => "ui://".starts_with(start) || !start.contains([':', '+']),
    }
}

/// A target that a rule names.
#[derive(Debug)]
pub struct Target {
    /// The kind of target. A template has the kind of resources.
    pub feature: TargetKind,
    /// The backend; `None` matches any.
    pub backend: Option<String>,
    /// The name or URI, or a pattern of names or URIs.
    pub name: Glob,
    /// The target's condition, which must be true of the call.
    pub when: Option<Arc<Condition>>,
    /// The folded backend and name, if the target compares with folded readings.
    folded: Option<(Option<String>, Glob)>,
}

/// The form in which a rule's target compares with a call's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Both as written.
    Exact,
    /// Both as the most lenient server reads them.
    Folded,
}

impl Comparison {
    /// Returns the comparison for targets of a rule. A different spelling must not evade a Deny
    /// rule.
    pub fn of(dialect: Dialect, action: Action) -> Self {
        match (dialect, action) {
            (Dialect::Native, Action::Deny) => Self::Folded,
            (Dialect::Native, Action::Allow) | (Dialect::McpRoute, _) => Self::Exact,
        }
    }
}

impl Target {
    /// Creates a target, with folded names if the comparison needs these.
    pub fn new(
        (feature, backend, name): (TargetKind, Option<String>, Glob),
        when: Option<Arc<Condition>>,
        comparison: Comparison,
    ) -> Self {
        let folded = (comparison == Comparison::Folded).then(|| {
            let backend = backend.as_deref().map(|backend| fold(backend).into_owned());
            (backend, if folds(feature) { name.folded() } else { name.clone() })
        });
        Self { feature, backend, name, when, folded }
    }

    /// Returns the folded name, if the target compares with folded readings.
    pub fn folded_name(&self) -> Option<&Glob> {
        self.folded.as_ref().map(|(_, name)| name)
    }

    /// Returns the folded backend, if the target compares with folded readings and names a backend.
    pub fn folded_backend(&self) -> Option<&str> {
        self.folded.as_ref().and_then(|(backend, _)| backend.as_deref())
    }

    /// Returns the part of a call's target that this target matches, and true if this result is
    /// certain.
    ///
    /// The result is uncertain if this target names a backend and the call's backend is unknown.
    /// The condition is not evaluated. A folded target matches if any reading of the call's target
    /// matches.
    pub fn extent(&self, subject: &CallTarget<'_>) -> (Overlap, bool) {
        let as_sent = (subject.backend, subject.name);
        let (ours, folded) = match &self.folded {
            Some((backend, name)) if subject.readings.is_empty() => {
                ((backend.as_deref(), name), None)
            }
            folded => ((self.backend.as_deref(), &self.name), folded.as_ref()),
        };
        let extent = self.compare(ours, as_sent, subject);
        let Some((backend, name)) = folded else { return extent };
        let of_readings = subject.readings.iter().map(|reading| {
            let theirs = match (subject.backend, &reading.backend) {
                (Backend::Unknown, _) => Backend::Unknown,
                (_, Some(backend)) => Backend::Named(backend),
                (_, None) => Backend::None,
            };
            self.compare((backend.as_deref(), name), (theirs, &reading.name), subject)
        });
        of_readings.fold(extent, Ord::max)
    }

    fn compare(
        &self,
        (backend, pattern): (Option<&str>, &Glob),
        (theirs, name): (Backend<'_>, &str),
        subject: &CallTarget<'_>,
    ) -> (Overlap, bool) {
        let is_known = match (backend, theirs) {
            (Some(ours), Backend::Named(theirs)) if ours == theirs => true,
            (Some(_), Backend::Named(_) | Backend::None) => return (Overlap::Nothing, true),
            (Some(_), Backend::Unknown) => false,
            (None, _) => true,
        };
        let is_of_kind = match (self.feature, subject.feature) {
            (TargetKind::Resource, TargetKind::ResourceTemplate) => true,
            (ours, theirs) => ours == theirs,
        };
        let extent = match is_of_kind {
            true if subject.is_pattern => pattern.extent(&Glob::new(name.to_owned())),
            true if pattern.matches(name) => Overlap::All,
            _ => Overlap::Nothing,
        };
        (extent, is_known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool<'n>(backend: Backend<'n>, name: &'n str) -> CallTarget<'n> {
        CallTarget::plain(backend, TargetKind::Tool, name)
    }

    #[test]
    fn a_uri_has_its_backend_before_the_scheme_or_after_ui() {
        let prefixed = BackendSource::ToolNamePrefix("__".to_owned());
        for (uri, backend, rest) in [
            ("files+file:///a+b", Some("files"), "file:///a+b"),
            ("git+https+x://a", Some("git"), "https+x://a"),
            ("ui://app/view/1", Some("app"), "ui://app/view/1"),
            ("ui://app", None, "ui://app"),
            ("ui:///view", None, "ui:///view"),
            ("file:///a+b", None, "file:///a+b"),
            ("+file:///a", None, "+file:///a"),
            ("files+", None, "files+"),
            ("files__a", None, "files__a"),
        ] {
            for feature in [TargetKind::Resource, TargetKind::ResourceTemplate] {
                assert_eq!(prefixed.split(feature, uri), (backend, rest), "{uri}");
            }
        }
        let head = Head::default();
        for (template, is_open) in [
            ("*", true),
            ("f*", true),
            ("ui:*", true),
            ("ui://*", true),
            ("ui://a*/x", true),
            ("secret*", true),
            ("ui://a/*", false),
            ("file:///*", false),
            ("a+*", false),
            ("a+file:///*+b", false),
            ("file", false),
        ] {
            let asked = (TargetKind::ResourceTemplate, template);
            assert_eq!(
                prefixed.subject(Dialect::Native, asked, &head).is_err(),
                is_open,
                "{template}"
            );
            let named = BackendSource::Name("only".to_owned());
            assert!(named.subject(Dialect::Native, asked, &head).is_ok());
        }
        assert_eq!(prefixed.split(TargetKind::Prompt, "b__p"), (Some("b"), "p"));
        assert_eq!(prefixed.split(TargetKind::Method, "b__p"), (None, "b__p"));
        let named = BackendSource::Name("only".to_owned());
        assert_eq!(named.split(TargetKind::Resource, "a+b:c"), (None, "a+b:c"));
    }

    #[test]
    fn a_prefix_names_the_backend_only_if_both_parts_are_there() {
        for (name, backend, rest) in [
            ("github__create_issue", Some("github"), "create_issue"),
            ("a__b__c", Some("a"), "b__c"),
            ("plain", None, "plain"),
            ("__init__", None, "__init__"),
            ("github__", None, "github__"),
        ] {
            let head = Head::default();
            let prefixed = BackendSource::ToolNamePrefix("__".to_owned());
            let asked = (TargetKind::Tool, name);
            assert_eq!(
                prefixed.subject(Dialect::Native, asked, &head),
                Ok(tool(backend.map_or(Backend::None, Backend::Named), rest))
            );
            let named = BackendSource::Name("only".to_owned());
            assert_eq!(
                named.subject(Dialect::Native, asked, &head),
                Ok(tool(Backend::Named("only"), name))
            );
        }
    }

    #[test]
    fn a_header_or_an_attribute_names_the_backend_if_it_is_clear() {
        let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        let from_header = BackendSource::Header("x-backend".to_owned());
        let from_attribute = BackendSource::Attribute("xds.cluster_name".to_owned());
        let asked = (TargetKind::Tool, "a__b");
        let none = Head { headers: vec![header("backend", b"x")], ..Head::default() };
        assert_eq!(
            from_header.subject(Dialect::Native, asked, &none),
            Ok(tool(Backend::Unknown, "a__b"))
        );
        assert_eq!(
            from_attribute.subject(Dialect::Native, asked, &none),
            Err(UnresolvedTarget::NoAttribute("xds.cluster_name"))
        );
        let one = Head {
            headers: vec![header("x-backend", b"x")],
            attributes: vec![("xds.cluster_name".to_owned(), "y".to_owned())],
            ..Head::default()
        };
        let backend = |backend| Ok(tool(Backend::Named(backend), "a__b"));
        assert_eq!(from_header.subject(Dialect::Native, asked, &one), backend("x"));
        assert_eq!(from_attribute.subject(Dialect::Native, asked, &one), backend("y"));
        for values in [
            [b"x".as_slice(), b"y".as_slice()].as_slice(),
            &[b"x", b"x"],
            &[b"\xff"],
            &[b""],
            &[b"x, y"],
        ] {
            let headers = values.iter().map(|value| header("x-backend", value)).collect();
            let head = Head { headers, ..Head::default() };
            assert_eq!(
                from_header.subject(Dialect::Native, asked, &head),
                Err(UnresolvedTarget::Unclear)
            );
        }
    }

    #[test]
    fn deny_target_matches_in_any_reading() {
        let head = Head::default();
        for (label, backend, pattern, called, expected) in [
            ("space for a backend", None, "delete", " __delete", true),
            ("ideographic space for a backend", None, "delete", "\u{3000}__DELETE", true),
            ("zero width for a backend", None, "delete", "\u{200b}__delete", true),
            (
                "an earlier separator once folded",
                None,
                "delete",
                "a\u{ff3f}\u{ff3f}b__delete",
                true,
            ),
            ("a separator only once folded", Some("a"), "delete", "A\u{ff3f}_delete", true),
            ("a mark that folding joins", None, "delete*", "delete\u{301}", true),
            ("a sign that folds to a space first", None, "\u{b4}x", "b__\u{b4}x", true),
            ("the same as a pattern", None, "\u{b4}x*", "\u{b4}xy", true),
            ("a separator that folds to nothing", Some("a"), "delete", "a delete", true),
            ("a separator in other capitals", Some("a"), "delete", "a_OF_delete", true),
            ("another name", None, "delete", " __create", false),
            ("another backend", Some("a"), "delete", "\u{200b}__delete", false),
        ] {
            let backend = backend.map(str::to_owned);
            let target = (TargetKind::Tool, backend, Glob::new(pattern.to_owned()));
            let target = Target::new(target, None, Comparison::Folded);
            let separators =
                ["__", "_Of_", " "].map(|text| BackendSource::ToolNamePrefix(text.into()));
            let matches = separators.iter().any(|from| {
                let asked = (TargetKind::Tool, called);
                let subject = from.subject(Dialect::Native, asked, &head).unwrap();
                target.extent(&subject).0 == Overlap::All
            });
            assert_eq!(matches, expected, "{label}");
        }
    }
}
