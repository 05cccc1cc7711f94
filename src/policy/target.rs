//! Which tool of which backend a call means, and which ones a rule means.

use std::sync::Arc;

use super::{Condition, NoSubject};
use crate::head::Head;

/// Where a call's backend is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendFrom {
    /// The tool's name up to this separator: `github__create_issue`.
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
    /// The tool, without the backend's prefix.
    pub tool: &'c str,
}

impl BackendFrom {
    /// Which tool of which backend a call is for. A name with nothing before or
    /// after its first separator is a tool of no backend, and so is every tool
    /// without the header that would tell.
    ///
    /// # Errors
    /// If the header or the attribute leaves it open: what routes the call could
    /// take it for another backend's.
    pub fn subject<'c>(
        &'c self,
        name: &'c str,
        head: &'c Head,
    ) -> Result<Subject<'c>, NoSubject<'c>> {
        let (prefix, tool) = self.split(name);
        Ok(match self {
            Self::Name(backend) => Subject { backend: Some(backend), tool },
            Self::ToolNamePrefix(_) => Subject { backend: prefix, tool },
            Self::Header(header) => {
                let mut values = head.values(header);
                let backend = match (values.next(), values.next()) {
                    (None, _) => None,
                    (Some(value), None) => Some(
                        std::str::from_utf8(value).map_err(|_not_text| NoSubject::UnclearHeader)?,
                    ),
                    (Some(_), Some(_)) => return Err(NoSubject::UnclearHeader),
                };
                Subject { backend, tool }
            }
            Self::Attribute(attribute) => {
                let backend = head.attribute(attribute).ok_or(NoSubject::NoAttribute(attribute))?;
                Subject { backend: Some(backend), tool }
            }
        })
    }

    /// A tool's name, after the backend in front of it, if that is where backends are.
    pub(super) fn split<'n>(&self, name: &'n str) -> (Option<&'n str>, &'n str) {
        let parts = match self {
            Self::ToolNamePrefix(separator) => name.split_once(separator),
            Self::Name(_) | Self::Header(_) | Self::Attribute(_) => None,
        };
        match parts {
            Some((backend, tool)) if !backend.is_empty() && !tool.is_empty() => {
                (Some(backend), tool)
            }
            _ => (None, name),
        }
    }
}

/// A tool that a rule is about.
#[derive(Debug)]
pub struct Target {
    /// `None` means any.
    pub backend: Option<String>,
    /// The tool, or a pattern of names.
    pub tool: ToolPattern,
    /// Must be true of the arguments.
    pub when: Option<Arc<Condition>>,
}

impl Target {
    /// Whether backend and tool are the target's; the condition is not asked.
    pub fn selects(&self, subject: &Subject<'_>) -> bool {
        self.selects_backend(subject) && self.tool.matches(subject.tool)
    }

    /// Whether the backend is the target's.
    pub fn selects_backend(&self, subject: &Subject<'_>) -> bool {
        self.backend.as_deref().is_none_or(|backend| subject.backend == Some(backend))
    }
}

/// A tool's name in a rule, in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolPattern {
    text: String,
}

impl ToolPattern {
    /// A name or a pattern, as written.
    pub fn new(text: String) -> Self {
        Self { text }
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names one tool.
    pub fn is_exact(&self) -> bool {
        !self.text.contains('*')
    }

    /// What all tools that are meant begin with.
    pub fn literal_start(&self) -> &str {
        self.text.split('*').next().unwrap_or_default()
    }

    /// Whether every tool that the other means is meant.
    pub fn covers(&self, other: &Self) -> bool {
        // A star of the other's can only be taken by one of ours: no part
        // between ours holds one.
        self.matches(&other.text)
    }

    /// Whether a tool is meant.
    pub fn matches(&self, tool: &str) -> bool {
        let mut parts = self.text.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(last) = parts.next_back() else {
            return first == tool;
        };
        // Each part between two stars is taken where it comes first: what is
        // left is then the longest, so nothing is missed.
        let Some(rest) = tool.strip_prefix(first) else {
            return false;
        };
        let mut rest = rest;
        for part in parts {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, tool, expected) in [
            ("echo", "echo", true),
            ("echo", "Echo", false),
            ("echo", "echo2", false),
            ("*", "anything", true),
            ("get_*", "get_", true),
            ("get_*", "get_x", true),
            ("get_*", "forget_x", false),
            ("*_read", "a_read", true),
            ("*_read", "a_read_b", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("ab*ba", "aba", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(
                ToolPattern::new(pattern.to_owned()).matches(tool),
                expected,
                "{pattern} {tool}"
            );
        }
    }

    #[test]
    fn all_tools_of_a_pattern_begin_alike() {
        for (pattern, start) in [("echo", "echo"), ("get_*x*", "get_"), ("*_read", "")] {
            assert_eq!(ToolPattern::new(pattern.to_owned()).literal_start(), start);
        }
    }

    #[test]
    fn a_pattern_covers_another_if_it_means_all_its_tools() {
        let covers = |a: &str, b: &str| {
            ToolPattern::new(a.to_owned()).covers(&ToolPattern::new(b.to_owned()))
        };
        for (a, b) in [("*", "*"), ("*", "a"), ("a*", "a*"), ("a*", "ab*c"), ("a*c", "a*b*c")] {
            assert!(covers(a, b), "{a} {b}");
        }
        for (a, b) in [("a", "*"), ("a*", "*"), ("ab*", "a*"), ("a*c", "a*"), ("a*b*c", "a*c")] {
            assert!(!covers(a, b), "{a} {b}");
        }
    }

    #[test]
    fn a_prefix_names_the_backend_only_if_both_parts_are_there() {
        for (name, backend, tool) in [
            ("github__create_issue", Some("github"), "create_issue"),
            ("a__b__c", Some("a"), "b__c"),
            ("plain", None, "plain"),
            ("__init__", None, "__init__"),
            ("github__", None, "github__"),
        ] {
            let head = Head::default();
            let prefixed = BackendFrom::ToolNamePrefix("__".to_owned());
            assert_eq!(prefixed.subject(name, &head), Ok(Subject { backend, tool }));
            let named = BackendFrom::Name("only".to_owned());
            let subject = Subject { backend: Some("only"), tool: name };
            assert_eq!(named.subject(name, &head), Ok(subject));
        }
    }

    #[test]
    fn a_header_or_an_attribute_names_the_backend_if_it_is_clear() {
        let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        let from_header = BackendFrom::Header("x-backend".to_owned());
        let from_attribute = BackendFrom::Attribute("xds.cluster_name".to_owned());
        let tool = "a__b";
        let none = Head { headers: vec![header("backend", b"x")], ..Head::default() };
        assert_eq!(from_header.subject(tool, &none), Ok(Subject { backend: None, tool }));
        assert_eq!(
            from_attribute.subject(tool, &none),
            Err(NoSubject::NoAttribute("xds.cluster_name"))
        );
        let one = Head {
            headers: vec![header("x-backend", b"x")],
            attributes: vec![("xds.cluster_name".to_owned(), "y".to_owned())],
            ..Head::default()
        };
        let backend = |backend| Ok(Subject { backend: Some(backend), tool });
        assert_eq!(from_header.subject(tool, &one), backend("x"));
        assert_eq!(from_attribute.subject(tool, &one), backend("y"));
        for values in [[b"x".as_slice(), b"y".as_slice()].as_slice(), &[b"x", b"x"], &[b"\xff"]] {
            let headers = values.iter().map(|value| header("x-backend", value)).collect();
            let head = Head { headers, ..Head::default() };
            assert_eq!(from_header.subject(tool, &head), Err(NoSubject::UnclearHeader));
        }
    }
}
