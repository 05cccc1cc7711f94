//! What of which backend a call asks for, and what a rule means.

use std::sync::Arc;

use super::{Condition, Extent, Glob, NoSubject};
use crate::head::Head;
use crate::mcp::Feature;

/// Where a call's backend is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendFrom {
    /// The name up to this separator: `github__create_issue`. A resource's URI up to `+`:
    /// `github+https://…`.
    ToolNamePrefix(String),
    /// Always this one.
    Name(String),
    /// The value of this header, whose name is in lower case.
    Header(String),
    /// The value of this attribute of Envoy.
    Attribute(String),
}

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'c> {
    /// The backend, if the name tells one.
    pub backend: Option<&'c str>,
    /// What is asked for.
    pub feature: Feature,
    /// Its name or URI, without the backend's prefix.
    pub name: &'c str,
}

impl BackendFrom {
    /// What of which backend a call is for. A name with nothing before or after its first
    /// separator is of no backend, and so is everything without the header that would tell.
    ///
    /// # Errors
    /// If the header, the attribute or a template leaves it open: what routes the call could
    /// take it for another backend's.
    pub fn subject<'c>(
        &'c self,
        (feature, name): (Feature, &'c str),
        head: &'c Head,
    ) -> Result<Subject<'c>, NoSubject<'c>> {
        let is_template = feature == Feature::ResourceTemplate;
        if is_template && matches!(self, Self::ToolNamePrefix(_)) && leaves_backend_open(name) {
            return Err(NoSubject::Unclear);
        }
        let (prefix, name) = self.split(feature, name);
        let backend = match self {
            Self::Name(backend) => Some(backend.as_str()),
            Self::ToolNamePrefix(_) => prefix,
            Self::Header(header) => {
                let mut values = head.values(header);
                match (values.next(), values.next()) {
                    (None, _) => None,
                    (Some(value), None) => {
                        Some(std::str::from_utf8(value).map_err(|_not_text| NoSubject::Unclear)?)
                    }
                    (Some(_), Some(_)) => return Err(NoSubject::Unclear),
                }
            }
            Self::Attribute(attribute) => {
                Some(head.attribute(attribute).ok_or(NoSubject::NoAttribute(attribute))?)
            }
        };
        Ok(Subject { backend, feature, name })
    }

    /// A name or URI, after the backend in front of it, if that is where backends are.
    pub fn split<'n>(&self, feature: Feature, name: &'n str) -> (Option<&'n str>, &'n str) {
        let Self::ToolNamePrefix(separator) = self else { return (None, name) };
        let parts = match feature {
            Feature::Tool | Feature::Prompt => name.split_once(separator),
            Feature::Resource | Feature::ResourceTemplate => split_uri(name),
            Feature::Method => None,
        };
        match parts {
            Some((backend, rest)) if !backend.is_empty() && !rest.is_empty() => {
                (Some(backend), rest)
            }
            _ => (None, name),
        }
    }
}

/// A URI after the backend that gateways put in front of its scheme. A `ui` stays in front,
/// since hosts of MCP Apps look for it: there the backend is what comes after.
fn split_uri(uri: &str) -> Option<(&str, &str)> {
    if let Some(rest) = uri.strip_prefix("ui://") {
        return rest.split_once('/').map(|(backend, _)| (backend, uri));
    }
    uri.split_once('+').filter(|(backend, _)| !backend.contains(':'))
}

/// Whether what stands for a template's stars may tell the backend.
fn leaves_backend_open(template: &str) -> bool {
    let Some((start, _)) = template.split_once('*') else { return false };
    match start.strip_prefix("ui://") {
        Some(rest) => !rest.contains('/'),
        None => "ui://".starts_with(start) || !start.contains([':', '+']),
    }
}

/// Something that a rule is about.
#[derive(Debug)]
pub struct Target {
    /// What it is; for templates, it is resources.
    pub feature: Feature,
    /// `None` means any.
    pub backend: Option<String>,
    /// Its name or URI, or a pattern of those.
    pub name: Glob,
    /// Must be true of the call.
    pub when: Option<Arc<Condition>>,
}

impl Target {
    /// How much of what is asked for the target means; the condition is not asked.
    pub fn extent(&self, subject: &Subject<'_>) -> Extent {
        let is_backend = |backend| subject.backend == Some(backend);
        if !self.backend.as_deref().is_none_or(is_backend) {
            return Extent::Nothing;
        }
        match (self.feature, subject.feature) {
            (Feature::Resource, Feature::ResourceTemplate) => self.name.extent(subject.name),
            (ours, theirs) if ours == theirs && self.name.matches(subject.name) => Extent::All,
            _ => Extent::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool<'n>(backend: Option<&'n str>, name: &'n str) -> Subject<'n> {
        Subject { backend, feature: Feature::Tool, name }
    }

    #[test]
    fn a_uri_has_its_backend_before_the_scheme_or_after_ui() {
        let prefixed = BackendFrom::ToolNamePrefix("__".to_owned());
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
            for feature in [Feature::Resource, Feature::ResourceTemplate] {
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
            let asked = (Feature::ResourceTemplate, template);
            assert_eq!(prefixed.subject(asked, &head).is_err(), is_open, "{template}");
            let named = BackendFrom::Name("only".to_owned());
            assert!(named.subject(asked, &head).is_ok());
        }
        assert_eq!(prefixed.split(Feature::Prompt, "b__p"), (Some("b"), "p"));
        assert_eq!(prefixed.split(Feature::Method, "b__p"), (None, "b__p"));
        let named = BackendFrom::Name("only".to_owned());
        assert_eq!(named.split(Feature::Resource, "a+b:c"), (None, "a+b:c"));
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
            let prefixed = BackendFrom::ToolNamePrefix("__".to_owned());
            let asked = (Feature::Tool, name);
            assert_eq!(prefixed.subject(asked, &head), Ok(tool(backend, rest)));
            let named = BackendFrom::Name("only".to_owned());
            assert_eq!(named.subject(asked, &head), Ok(tool(Some("only"), name)));
        }
    }

    #[test]
    fn a_header_or_an_attribute_names_the_backend_if_it_is_clear() {
        let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        let from_header = BackendFrom::Header("x-backend".to_owned());
        let from_attribute = BackendFrom::Attribute("xds.cluster_name".to_owned());
        let asked = (Feature::Tool, "a__b");
        let none = Head { headers: vec![header("backend", b"x")], ..Head::default() };
        assert_eq!(from_header.subject(asked, &none), Ok(tool(None, "a__b")));
        assert_eq!(
            from_attribute.subject(asked, &none),
            Err(NoSubject::NoAttribute("xds.cluster_name"))
        );
        let one = Head {
            headers: vec![header("x-backend", b"x")],
            attributes: vec![("xds.cluster_name".to_owned(), "y".to_owned())],
            ..Head::default()
        };
        let backend = |backend| Ok(tool(Some(backend), "a__b"));
        assert_eq!(from_header.subject(asked, &one), backend("x"));
        assert_eq!(from_attribute.subject(asked, &one), backend("y"));
        for values in [[b"x".as_slice(), b"y".as_slice()].as_slice(), &[b"x", b"x"], &[b"\xff"]] {
            let headers = values.iter().map(|value| header("x-backend", value)).collect();
            let head = Head { headers, ..Head::default() };
            assert_eq!(from_header.subject(asked, &head), Err(NoSubject::Unclear));
        }
    }
}
