//! Variables, and the values that chains of names select in them.
//!
//! The `cel` crate reads `args.owner.name` as a name that may contain dots. At each evaluation, the
//! crate builds this string and looks for a variable and a type with this name. Neither exists, so
//! loading replaces each such chain of names by a [`AttributePath`].

use std::borrow::Cow;
use std::collections::BTreeSet;

use cel::common::types::{CelList, CelString};
use cel::common::value::Val;
use percent_encoding::percent_decode_str;

use super::inputs::RequestField;
use super::notes::Doubt;
use super::view::{MapView, Members, Present, Writer, to_val};
use super::{Activation, check};
use crate::claims::Claims;
use crate::head::{Head, Unclear};
use crate::json::{Json, LazyObject};
use crate::mcp::{TOOLS_CALL, TargetKind};
use crate::policy::{Backend, Dialect, EvalContext};

/// The prefix of the names of places. No name in an expression can begin so.
pub(super) const PLACE_PREFIX: &str = "@place";

/// A chain of names that starts at a variable.
#[derive(Debug)]
pub(super) struct AttributePath {
    variable: Variable,
    names: Vec<String>,
}

/// The variables of an expression.
#[derive(Debug, Clone, Copy)]
pub(super) enum Variable {
    Args,
    Meta,
    /// `request`, or a part of `request`.
    Request(RequestField),
}

impl Variable {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            check::ARGS => Some(Self::Args),
            check::META => Some(Self::Meta),
            check::REQUEST => Some(Self::Request(RequestField::Request)),
            _ => None,
        }
    }
}

impl Variable {
    /// Returns the name of a part that may be missing.
    fn name(self) -> &'static str {
        match self {
            Self::Request(RequestField::Prompt) => "prompt",
            Self::Request(RequestField::Resource) => "resource",
            _ => "",
        }
    }
}

impl AttributePath {
    /// Creates the place of the variable itself.
    pub(super) fn new(variable: Variable) -> Self {
        Self { variable, names: Vec::new() }
    }

    pub(super) fn variable(&self) -> Variable {
        self.variable
    }

    /// Extends the place to a member.
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

    /// Returns the value at this place.
    ///
    /// # Errors
    /// The first name that is missing.
    pub(super) fn find<'s, 'b>(
        &self,
        scope: &'s Activation<'_, 'b>,
    ) -> Result<AttributeValue<'s, 'b>, &str> {
        let find = |part: AttributeValue<'s, 'b>, name| {
            part.members().and_then(|members| members.find(name))
        };
        let variable = scope.part(self.variable).ok_or(self.variable.name())?;
        self.names.iter().try_fold(variable, |part, name| find(part, name).ok_or(name.as_str()))
    }
}

/// A variable, or a part of a variable.
#[derive(Clone, Copy)]
pub(super) enum AttributeValue<'a, 'b> {
    Json(&'a Json<'a>, Writer<'a>),
    /// The arguments of a call, or the call's `_meta`.
    Object(&'a LazyObject<'b>, Writer<'a>),
    Request(RequestView<'a, 'b>, RequestField),
    /// The header with this name.
    Header(RequestView<'a, 'b>, &'a str),
    /// All values of the header with this name.
    HeaderList(RequestView<'a, 'b>, &'a str),
}

/// The data behind the variable `request`.
#[derive(Clone, Copy)]
pub(super) struct RequestView<'a, 'b> {
    pub(super) facts: &'a EvalContext<'a>,
    pub(super) params: Params<'a, 'b>,
    /// The author of the parameters.
    pub(super) client: Writer<'a>,
}

/// The method and the parameters of a call.
#[derive(Clone, Copy)]
pub(super) enum Params<'a, 'b> {
    /// The known method and parameters. The parameters are empty if the condition does not read
    /// them.
    Known {
        method: &'a str,
        params: &'a LazyObject<'b>,
    },
    Unknown,
}

impl<'a, 'b> AttributeValue<'a, 'b> {
    /// Returns the members of the part, if the part is a map.
    fn members(self) -> Option<Members<'a, 'b>> {
        match self {
            Self::Json(Json::Object(object), writer) => Some(Members::Json { object, writer }),
            Self::Object(object, writer) => {
                Some(Members::Parameters { object, writer, present: Present::All })
            }
            Self::Request(view, RequestField::Params) => match view.params {
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
    /// Notes that the evaluation read unknown data.
    fn unknown<T>(self) -> Option<T> {
        self.client.notes.unknown.set();
        None
    }

    /// Returns the host, path, method and headers of the request, if they are known.
    pub(super) fn known_head(self) -> Option<&'a Head> {
        if self.facts.unknown.head { self.unknown() } else { Some(self.facts.head) }
    }

    /// Returns the claims of the token, if there is a token and its claims are known.
    pub(super) fn known_claims(self) -> Option<&'a Claims> {
        if self.facts.unknown.claims { self.unknown() } else { self.facts.claims }
    }

    /// Returns true if a part of `request` exists. In Agent Router, a tool call has neither prompt
    /// nor resource.
    pub(super) fn has(self, node: RequestField) -> bool {
        let is_of_tool = self.facts.subject.feature == TargetKind::Tool;
        let is_other_name = matches!(node, RequestField::Prompt | RequestField::Resource);
        !(is_other_name && is_of_tool && self.client.dialect == Dialect::McpRoute)
    }

    /// Returns true if conditions see a header. Agent Router hides the host and some headers of the
    /// connection.
    pub(super) fn shows_header(self, name: &str) -> bool {
        const HIDDEN: [&str; 3] = ["host", "transfer-encoding", "trailer"];
        self.client.dialect == Dialect::Native || !HIDDEN.contains(&name)
    }

    /// Returns the kinds of parameters that conditions see.
    fn present(self) -> Present {
        match (self.client.dialect, self.facts.subject.feature) {
            (Dialect::McpRoute, TargetKind::Tool) => Present::OfToolCall,
            _ => Present::NotNull,
        }
    }

    /// Returns the method. If the call is unknown, returns the only method that its target can
    /// have.
    fn method(self) -> &'a str {
        match (self.params, self.facts.subject.feature) {
            (Params::Known { method, .. }, _) => method,
            (Params::Unknown, TargetKind::Tool) => TOOLS_CALL,
            // Several methods exist for these targets, such as to complete, read or subscribe.
            (Params::Unknown, _) => self.unknown().unwrap_or_default(),
        }
    }

    /// Returns the name of the target, if the target has this kind, and an empty string otherwise.
    fn name(self, feature: TargetKind) -> Box<dyn Val + 'a> {
        let subject = &self.facts.subject;
        // The resource of a template and the name behind a pattern are unknown.
        let is_template = subject.feature == TargetKind::ResourceTemplate;
        if (is_template
            && matches!(self.params, Params::Unknown)
            && feature == TargetKind::Resource)
            || (self.facts.unknown.name && subject.feature == feature)
        {
            self.client.notes.unknown.set();
        }
        text(if subject.feature == feature { subject.name } else { "" })
    }

    /// Returns a replacement for a value that readers may read differently.
    fn unreadable(self, doubt: Doubt) -> Box<dyn Val + 'a> {
        self.client.notes.unreadable(doubt)
    }

    /// Returns the value of a header. In an `MCPRoute`, the first value counts; otherwise there
    /// must be only one.
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

    /// Returns the path in clear form. In an `MCPRoute`, returns the path decoded once, as in Agent
    /// Router.
    fn path(self, head: &'a Head) -> Box<dyn Val + 'a> {
        match (self.client.dialect, head.clear_path()) {
            (Dialect::McpRoute, _) => path(head.path.as_sent().unwrap_or_default()),
            (Dialect::Native, Ok(path)) => any_text(path),
            (Dialect::Native, Err(unclear)) => self.unclear(unclear, Doubt::Path),
        }
    }

    /// Returns the host in clear form. In an `MCPRoute`, returns the host as the client sent it.
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

    /// Returns the name of the backend, or an empty string if there is none.
    fn backend(self) -> Box<dyn Val + 'a> {
        match (self.facts.subject.backend, self.client.dialect) {
            (Backend::Named(name), _) => text(name),
            (Backend::Unknown, Dialect::Native) => self.unreadable(Doubt::Backend),
            (Backend::Unknown, Dialect::McpRoute) | (Backend::None, _) => text(""),
        }
    }

    /// Returns the scopes that the token names, sorted and without duplicates, as in Agent Router.
    fn scopes(self) -> Box<dyn Val + 'a> {
        let EvalContext { claims, unknown, .. } = self.facts;
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

    /// Returns the value of a part that is not a map.
    fn text_or_list(self, node: RequestField) -> Box<dyn Val + 'a> {
        let of_head = |value: fn(Self, &'a Head) -> Box<dyn Val + 'a>| match self.known_head() {
            Some(head) => value(self, head),
            None => text(""),
        };
        match node {
            RequestField::Method => of_head(Self::http_method),
            RequestField::Host => of_head(Self::host),
            RequestField::Path => of_head(Self::path),
            RequestField::McpMethod => text(self.method()),
            RequestField::Backend => self.backend(),
            RequestField::Tool => self.name(TargetKind::Tool),
            RequestField::Prompt => self.name(TargetKind::Prompt),
            RequestField::Resource => self.name(TargetKind::Resource),
            RequestField::Scopes => self.scopes(),
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

/// Returns the path without its query, decoded once, as in Agent Router.
fn path(path: &str) -> Box<dyn Val + '_> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    any_text(percent_decode_str(path).decode_utf8_lossy())
}
