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

use super::reads::Node;
use super::view::{MapView, Mark, Members, Writer, to_val};
use super::{Scope, check};
use crate::head::{Head, PseudoHeader};
use crate::json::Json;
use crate::mcp::{Feature, TOOLS_CALL};
use crate::policy::Facts;

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
    pub(super) fn find<'s>(&self, scope: &'s Scope<'_>) -> Result<Part<'s>, &str> {
        let find = |part: Part<'s>, name| part.members().and_then(|members| members.find(name));
        let variable = scope.part(self.variable).ok_or("")?;
        self.names.iter().try_fold(variable, |part, name| find(part, name).ok_or(name.as_str()))
    }
}

/// A variable, or a part of one.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    Json(&'a Json<'a>, Writer<'a>),
    Request(RequestView<'a>, Node),
    Header(&'a [u8]),
    /// All values of the header of this name.
    HeaderList(&'a Head, &'a str),
}

/// What the variable `request` is made of.
#[derive(Clone, Copy)]
pub(super) struct RequestView<'a> {
    pub(super) facts: &'a Facts<'a>,
    pub(super) params: Params<'a>,
    /// Their author.
    pub(super) client: Writer<'a>,
}

/// The method of a call, and its parameters.
#[derive(Clone, Copy)]
pub(super) enum Params<'a> {
    /// Parameters are empty if the condition does not read them.
    Known { method: &'a str, params: &'a Json<'a> },
    /// Not known: this is set if they are asked for.
    Unknown(&'a Mark),
}

impl<'a> Part<'a> {
    /// Its members, if it is a map.
    fn members(self) -> Option<Members<'a>> {
        match self {
            Self::Json(Json::Object(object), writer) => Some(Members::Json { object, writer }),
            Self::Request(view, Node::Params) => match view.params {
                Params::Known { params: Json::Object(object), .. } => {
                    Some(Members::Params { object, writer: view.client })
                }
                Params::Known { .. } => None,
                Params::Unknown(mark) => {
                    mark.set();
                    None
                }
            },
            Self::Request(view, node) => node.is_map().then_some(Members::Request { view, node }),
            Self::Json(..) | Self::Header(_) | Self::HeaderList(..) => None,
        }
    }

    pub(super) fn val(self) -> Box<dyn Val + 'a> {
        if let Some(members) = self.members() {
            return MapView::boxed(members);
        }
        match self {
            Self::Json(json, writer) => to_val(json, writer),
            Self::Request(view, node) => view.text_or_list(node),
            Self::Header(value) => header(value),
            Self::HeaderList(head, name) => list(head.values(name).map(header)),
        }
    }
}

impl<'a> RequestView<'a> {
    /// Of a call that is not made yet, the one that all have in common.
    fn method(self) -> &'a str {
        match (self.params, self.facts.subject.feature) {
            (Params::Known { method, .. }, _) => method,
            (Params::Unknown(_), Feature::Tool) => TOOLS_CALL,
            // They can be completed, read, or subscribed to.
            (Params::Unknown(mark), _) => {
                mark.set();
                ""
            }
        }
    }

    /// The name of what is asked for, if it is of this kind.
    fn name(self, feature: Feature) -> Box<dyn Val + 'a> {
        let subject = &self.facts.subject;
        // Which resource a template will name is not known.
        if let (Feature::ResourceTemplate, Params::Unknown(mark)) = (subject.feature, self.params)
            && feature == Feature::Resource
        {
            mark.set();
        }
        text(if subject.feature == feature { subject.name } else { "" })
    }

    /// A part that is no map.
    fn text_or_list(self, node: Node) -> Box<dyn Val + 'a> {
        let facts = self.facts;
        match node {
            Node::Method => as_sent(&facts.head.method),
            Node::Host => as_sent(&facts.head.host),
            Node::Path => path(facts.head.path.as_sent().unwrap_or_default()),
            Node::McpMethod => text(self.method()),
            Node::Backend => text(facts.subject.backend.unwrap_or_default()),
            Node::Tool => self.name(Feature::Tool),
            Node::Prompt => self.name(Feature::Prompt),
            Node::Resource => self.name(Feature::Resource),
            // As the reference has them.
            Node::Scopes if !self.client.budget.spend_elements(facts.scopes().count()) => {
                list(facts.scopes().collect::<BTreeSet<_>>().into_iter().map(text))
            }
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

fn lossy(value: Cow<'_, str>) -> Box<dyn Val + '_> {
    match value {
        Cow::Borrowed(value) => text(value),
        Cow::Owned(value) => Box::new(CelString::from(value)),
    }
}

/// A pseudo-header as Envoy sent it; empty if it did not.
fn as_sent(header: &PseudoHeader) -> Box<dyn Val + '_> {
    text(header.as_sent().unwrap_or_default())
}

/// A header's value. What is not UTF-8 in it equals nothing that is written.
fn header(value: &[u8]) -> Box<dyn Val + '_> {
    lossy(String::from_utf8_lossy(value))
}

/// The path without its query, decoded once, as the reference has it.
fn path(path: &str) -> Box<dyn Val + '_> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    lossy(percent_decode_str(path).decode_utf8_lossy())
}
