//! Variables, and what is found in them by names.
//!
//! The crate takes `args.owner.name` for a name that may have dots: at each evaluation
//! it builds that text and looks for a variable and a type called so. There is none, so
//! when an expression is loaded, each such chain of names becomes a [`Place`].

use std::borrow::Cow;
use std::collections::BTreeSet;

use cel::common::types::{CelList, CelString};
use cel::common::value::Val;
use percent_encoding::percent_decode_str;

use super::notes::Doubt;
use super::reads::Node;
use super::view::{MapView, Members, Present, Writer, to_val};
use super::{Scope, check};
use crate::claims::Claims;
use crate::head::{Head, Unclear};
use crate::json::{Json, LazyObject};
use crate::mcp::{Feature, TOOLS_CALL};
use crate::policy::{Backend, Dialect, Facts};

/// Names of places start so; no name in an expression can.
pub(super) const PLACE_PREFIX: &str = "@place";

/// A chain of names, from a variable on.
#[derive(Debug)]
pub(super) struct Place {
    variable: Variable,
    names: Vec<String>,
}

/// The variables that an expression sees.
#[derive(Debug, Clone, Copy)]
pub(super) enum Variable {
    Args,
    Meta,
    /// `request`, or a part of it that is always there.
    Request(Node),
}

impl Variable {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            check::ARGS => Some(Self::Args),
            check::META => Some(Self::Meta),
            check::REQUEST => Some(Self::Request(Node::Request)),
            _ => None,
        }
    }
}

impl Variable {
    /// Returns the name of a part that may be missing.
    fn name(self) -> &'static str {
        match self {
            Self::Request(Node::Prompt) => "prompt",
            Self::Request(Node::Resource) => "resource",
            _ => "",
        }
    }
}

impl Place {
    /// The variable itself.
    pub(super) fn new(variable: Variable) -> Self {
        Self { variable, names: Vec::new() }
    }

    pub(super) fn variable(&self) -> Variable {
        self.variable
    }

    /// Goes on to a member.
    pub(super) fn push(&mut self, name: String) {
        match self.variable {
            Variable::Request(node)
                if self.names.is_empty()
                    && let Some(member) = node.member(&name) =>
            {
                self.variable = Variable::Request(member);
            }
            _ => self.names.push(name),
        }
    }

    /// What is there, or the first of its names that is not.
    pub(super) fn find<'s, 'b>(&self, scope: &'s Scope<'_, 'b>) -> Result<Part<'s, 'b>, &str> {
        let find = |part: Part<'s, 'b>, name| part.members().and_then(|members| members.find(name));
        let variable = scope.part(self.variable).ok_or(self.variable.name())?;
        self.names.iter().try_fold(variable, |part, name| find(part, name).ok_or(name.as_str()))
    }
}

/// A variable, or a part of one.
#[derive(Clone, Copy)]
pub(super) enum Part<'a, 'b> {
    Json(&'a Json<'a>, Writer<'a>),
    /// The arguments of a call, or its `_meta`.
    Object(&'a LazyObject<'b>, Writer<'a>),
    Request(RequestView<'a, 'b>, Node),
    /// The header of this name.
    Header(RequestView<'a, 'b>, &'a str),
    /// All values of the header of this name.
    HeaderList(RequestView<'a, 'b>, &'a str),
}

/// What the variable `request` is made of.
#[derive(Clone, Copy)]
pub(super) struct RequestView<'a, 'b> {
    pub(super) facts: &'a Facts<'a>,
    pub(super) params: Params<'a, 'b>,
    /// Their author.
    pub(super) client: Writer<'a>,
}

/// The method of a call, and its parameters.
#[derive(Clone, Copy)]
pub(super) enum Params<'a, 'b> {
    /// Parameters are empty if the condition does not read them.
    Known {
        method: &'a str,
        params: &'a LazyObject<'b>,
    },
    Unknown,
}

impl<'a, 'b> Part<'a, 'b> {
    /// Its members, if it is a map.
    fn members(self) -> Option<Members<'a, 'b>> {
        match self {
            Self::Json(Json::Object(object), writer) => Some(Members::Json { object, writer }),
            Self::Object(object, writer) => {
                Some(Members::Parameters { object, writer, present: Present::All })
            }
            Self::Request(view, Node::Params) => match view.params {
                Params::Known { params, .. } => Some(Members::Parameters {
                    object: params,
                    writer: view.client,
                    present: view.present(),
                }),
                Params::Unknown => view.unknown(),
            },
            Self::Request(view, node) => node.is_map().then_some(Members::Request { view, node }),
            Self::Json(..) | Self::Header(..) | Self::HeaderList(..) => None,
        }
    }

    pub(super) fn val(self) -> Box<dyn Val + 'a> {
        if let Some(members) = self.members() {
            return MapView::boxed(members);
        }
        match self {
            Self::Json(json, writer) => to_val(json, writer),
            Self::Object(object, writer) => {
                MapView::boxed(Members::Parameters { object, writer, present: Present::All })
            }
            Self::Request(view, node) => view.text_or_list(node),
            Self::Header(view, name) => view.header(name),
            Self::HeaderList(view, name) => {
                list(view.facts.head.values(name).map(|value| view.header_value(value)))
            }
        }
    }
}

impl<'a> RequestView<'a, '_> {
    /// Notes that something unknown was read.
    fn unknown<T>(self) -> Option<T> {
        self.client.notes.unknown.set();
        None
    }

    /// The head of the request, if it is known.
    pub(super) fn known_head(self) -> Option<&'a Head> {
        if self.facts.unknown.head { self.unknown() } else { Some(self.facts.head) }
    }

    /// The claims of the token, if there is one and they are known.
    pub(super) fn known_claims(self) -> Option<&'a Claims> {
        if self.facts.unknown.claims { self.unknown() } else { self.facts.claims }
    }

    /// Returns true if a part of `request` is there: in the reference, a call of a tool has
    /// neither prompt nor resource.
    pub(super) fn has(self, node: Node) -> bool {
        let is_of_tool = self.facts.subject.feature == Feature::Tool;
        let is_other_name = matches!(node, Node::Prompt | Node::Resource);
        !(is_other_name && is_of_tool && self.client.dialect == Dialect::McpRoute)
    }

    /// Returns true if a header is shown: in the reference, headers of the connection and the
    /// host are none.
    pub(super) fn shows_header(self, name: &str) -> bool {
        const HIDDEN: [&str; 3] = ["host", "transfer-encoding", "trailer"];
        self.client.dialect == Dialect::Native || !HIDDEN.contains(&name)
    }

    /// The parameters that are there.
    fn present(self) -> Present {
        match (self.client.dialect, self.facts.subject.feature) {
            (Dialect::McpRoute, Feature::Tool) => Present::OfToolCall,
            _ => Present::NotNull,
        }
    }

    /// Of a call that is not made yet, the one that all have in common.
    fn method(self) -> &'a str {
        match (self.params, self.facts.subject.feature) {
            (Params::Known { method, .. }, _) => method,
            (Params::Unknown, Feature::Tool) => TOOLS_CALL,
            // They can be completed, read, or subscribed to.
            (Params::Unknown, _) => self.unknown().unwrap_or_default(),
        }
    }

    /// The name of the target, if it is of this kind.
    fn name(self, feature: Feature) -> Box<dyn Val + 'a> {
        let subject = &self.facts.subject;
        // Which resource a template will name is not known, nor which name of a pattern.
        let is_template = subject.feature == Feature::ResourceTemplate;
        if (is_template && matches!(self.params, Params::Unknown) && feature == Feature::Resource)
            || (self.facts.unknown.name && subject.feature == feature)
        {
            self.client.notes.unknown.set();
        }
        text(if subject.feature == feature { subject.name } else { "" })
    }

    /// A value in place of one that readers may take for different ones.
    fn unreadable(self, doubt: Doubt) -> Box<dyn Val + 'a> {
        self.client.notes.unreadable(doubt)
    }

    /// The value of a header: the first one in MCPRoute documents, otherwise the only one.
    fn header(self, name: &str) -> Box<dyn Val + 'a> {
        let head = self.facts.head;
        let mut values = head.headers.iter().filter(|(other, _)| other == name);
        let first = values.next().map(|(_, value)| value.as_slice()).unwrap_or_default();
        match self.client.dialect {
            Dialect::Native if values.next().is_some() => self.unreadable(Doubt::RepeatedHeader),
            _ => self.header_value(first),
        }
    }

    fn header_value(self, value: &'a [u8]) -> Box<dyn Val + 'a> {
        match (std::str::from_utf8(value), self.client.dialect) {
            (Ok(value), _) => text(value),
            (Err(_), Dialect::Native) => self.unreadable(Doubt::Encoding),
            (Err(_), Dialect::McpRoute) => any_text(String::from_utf8_lossy(value)),
        }
    }

    /// The path in its clear form; in MCPRoute documents, decoded once, as in the reference.
    fn path(self, head: &'a Head) -> Box<dyn Val + 'a> {
        match (self.client.dialect, head.clear_path()) {
            (Dialect::McpRoute, _) => path(head.path.as_sent().unwrap_or_default()),
            (Dialect::Native, Ok(path)) => any_text(path),
            (Dialect::Native, Err(unclear)) => self.unclear(unclear, Doubt::Path),
        }
    }

    /// The host in its clear form; in MCPRoute documents, as it came.
    fn host(self, head: &'a Head) -> Box<dyn Val + 'a> {
        match (self.client.dialect, head.clear_host()) {
            (Dialect::McpRoute, _) => text(head.host.as_sent().unwrap_or_default()),
            (Dialect::Native, Ok(host)) => any_text(host),
            (Dialect::Native, Err(unclear)) => self.unclear(unclear, Doubt::Host),
        }
    }

    fn http_method(self, head: &'a Head) -> Box<dyn Val + 'a> {
        match (self.client.dialect, head.method.value()) {
            (Dialect::McpRoute, _) => text(head.method.as_sent().unwrap_or_default()),
            (Dialect::Native, Ok(method)) if !method.contains(|c: char| c.is_ascii_lowercase()) => {
                text(method)
            }
            (Dialect::Native, Ok(_)) => self.unreadable(Doubt::Method),
            (Dialect::Native, Err(unclear)) => self.unclear(unclear, Doubt::Method),
        }
    }

    fn unclear(self, unclear: Unclear, doubt: Doubt) -> Box<dyn Val + 'a> {
        self.unreadable(if unclear == Unclear::NotSent { Doubt::NotSent } else { doubt })
    }

    /// The name of the backend, empty if there is none.
    fn backend(self) -> Box<dyn Val + 'a> {
        match (self.facts.subject.backend, self.client.dialect) {
            (Backend::Named(name), _) => text(name),
            (Backend::Unknown, Dialect::Native) => self.unreadable(Doubt::Backend),
            (Backend::Unknown, Dialect::McpRoute) | (Backend::None, _) => text(""),
        }
    }

    /// The scopes that the token names, as the reference has them: sorted, each once.
    fn scopes(self) -> Box<dyn Val + 'a> {
        let Facts { claims, unknown, .. } = self.facts;
        if unknown.scopes {
            self.client.notes.unknown.set();
        }
        let is_native = self.client.dialect == Dialect::Native;
        if is_native && claims.is_some_and(|claims| claims.scopes_are_unclear()) {
            return self.unreadable(Doubt::Scopes);
        }
        let scopes = || self.facts.scopes();
        if self.client.budget.spend_elements(scopes().count()) {
            return list(std::iter::empty());
        }
        list(scopes().collect::<BTreeSet<_>>().into_iter().map(text))
    }

    /// A part that is no map.
    fn text_or_list(self, node: Node) -> Box<dyn Val + 'a> {
        let of_head = |value: fn(Self, &'a Head) -> Box<dyn Val + 'a>| match self.known_head() {
            Some(head) => value(self, head),
            None => text(""),
        };
        match node {
            Node::Method => of_head(Self::http_method),
            Node::Host => of_head(Self::host),
            Node::Path => of_head(Self::path),
            Node::McpMethod => text(self.method()),
            Node::Backend => self.backend(),
            Node::Tool => self.name(Feature::Tool),
            Node::Prompt => self.name(Feature::Prompt),
            Node::Resource => self.name(Feature::Resource),
            Node::Scopes => self.scopes(),
            _ => list(std::iter::empty()),
        }
    }
}

pub(super) fn text(text: &str) -> Box<dyn Val + '_> {
    Box::new(CelString::from(text))
}

fn list<'a>(items: impl Iterator<Item = Box<dyn Val + 'a>>) -> Box<dyn Val + 'a> {
    Box::new(CelList::from(items.collect::<Vec<_>>()))
}

fn any_text(value: Cow<'_, str>) -> Box<dyn Val + '_> {
    match value {
        Cow::Borrowed(value) => text(value),
        Cow::Owned(value) => Box::new(CelString::from(value)),
    }
}

/// The path without its query, decoded once, as the reference has it.
fn path(path: &str) -> Box<dyn Val + '_> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    any_text(percent_decode_str(path).decode_utf8_lossy())
}
