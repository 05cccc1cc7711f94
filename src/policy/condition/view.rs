//! JSON and requests as CEL values, without a copy.
//!
//! Scalars become the crate's own values, which borrow strings. Arrays and
//! objects become views that convert only what an expression touches.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Iterable, Iterator, Sizer, Zeroer};
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelNull, CelString, Kind, MAP_TYPE, Type,
};
use cel::common::value::{CowVal, Val};
use percent_encoding::percent_decode_str;

use super::Numbers;
use super::comparison::equal;
use super::list::ListView;
use super::meter::Budget;
use super::reads::Node;
use crate::claims::Claims;
use crate::json::{Found, Json, Object};
use crate::mcp::TOOLS_CALL;
use crate::policy::Facts;

/// Remembers that an expression asked for a key of which readers disagree what
/// it means (see [`Found::CaseVariant`]). CEL can absorb an error; this cannot
/// be absorbed.
#[derive(Debug, Default)]
pub(super) struct Ambiguity(AtomicBool);

impl Ambiguity {
    fn meet(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn was_met(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Who wrote a JSON value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer<'a> {
    /// A client, whose keys may be ambiguous; or (`None`) whoever is trusted.
    pub(super) ambiguity: Option<&'a Ambiguity>,
    /// What integers are.
    pub(super) numbers: Numbers,
    /// Who pays for what is done with it.
    pub(super) budget: &'a Budget,
}

impl Writer<'_> {
    /// Who looks at all keys of a client's object sees two where some servers see one.
    fn meet_variants_in(self, object: &Object<'_>) {
        if let Some(ambiguity) = self.ambiguity
            && object.has_case_variants()
        {
            ambiguity.meet();
        }
    }
}

/// A JSON value as a CEL value.
pub(super) fn to_val<'a>(json: &'a Json<'a>, writer: Writer<'a>) -> Box<dyn Val + 'a> {
    match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(value) => Box::new(CelBool::from(*value)),
        Json::Int(value) => match writer.numbers {
            Numbers::IntAndDouble => Box::new(CelInt::from(*value)),
            Numbers::Double => Box::new(CelDouble::from(double(*value))),
        },
        Json::Double(value) => Box::new(CelDouble::from(*value)),
        Json::String(value) => Box::new(CelString::from(value.as_ref())),
        Json::Array(items) => Box::new(ListView::new(items, writer)),
        Json::Object(object) => Box::new(MapView::new(Members::Json { object, writer })),
    }
}

#[expect(clippy::cast_precision_loss, reason = "as a reader that has no integers does it")]
fn double(value: i64) -> f64 {
    value as f64
}

pub(super) fn length(len: usize) -> CelInt {
    CelInt::from(i64::try_from(len).unwrap_or(i64::MAX))
}

/// Hands out the values of a slice, for comprehensions.
pub(super) struct SliceIterator<'b, 'a>(pub(super) std::slice::Iter<'b, Box<dyn Val + 'a>>);

impl<'b, 'v, 'a: 'v> Iterator<'b, 'v> for SliceIterator<'b, 'a> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|value| value.as_ref() as _)
    }
}

/// The variable `request`, or a part of it.
pub(super) fn request<'a>(view: RequestView<'a>, node: Node) -> Box<dyn Val + 'a> {
    let facts = view.facts;
    match node {
        Node::Request
        | Node::Auth
        | Node::Jwt
        | Node::Mcp
        | Node::Headers
        | Node::HeadersAll
        | Node::Claims => Box::new(MapView::new(Members::Request { view, node })),
        Node::Method => text(&facts.head.method),
        Node::Host => text(&facts.head.host),
        Node::Path => path(&facts.head.path),
        Node::McpMethod => text(TOOLS_CALL),
        Node::Backend => text(facts.subject.backend.unwrap_or_default()),
        Node::Tool => text(facts.subject.tool),
        // As the reference has them.
        Node::Scopes if view.client.budget.spend_elements(facts.scopes().count()) => {
            list(std::iter::empty())
        }
        Node::Scopes => list(facts.scopes().collect::<BTreeSet<_>>().into_iter().map(text)),
        Node::Params => match view.params {
            Json::Object(object) => {
                let writer = view.client;
                Box::new(MapView::new(Members::Params { object, writer }))
            }
            other => to_val(other, view.client),
        },
    }
}

/// What the variable `request` is made of.
#[derive(Clone, Copy)]
pub(super) struct RequestView<'a> {
    pub(super) facts: &'a Facts<'a>,
    /// The parameters of the call, empty if the condition does not read them.
    pub(super) params: &'a Json<'a>,
    /// Their author.
    pub(super) client: Writer<'a>,
}

fn text(text: &str) -> Box<dyn Val + '_> {
    Box::new(CelString::from(text))
}

fn list<'a>(items: impl std::iter::Iterator<Item = Box<dyn Val + 'a>>) -> Box<dyn Val + 'a> {
    Box::new(CelList::from(items.collect::<Vec<_>>()))
}

fn lossy(value: Cow<'_, str>) -> Box<dyn Val + '_> {
    match value {
        Cow::Borrowed(value) => text(value),
        Cow::Owned(value) => Box::new(CelString::from(value)),
    }
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

/// Where a map's members are.
#[derive(Clone, Copy)]
enum Members<'a> {
    Json {
        object: &'a Object<'a>,
        writer: Writer<'a>,
    },
    /// The parameters of a call: what is null of them is not there.
    Params {
        object: &'a Object<'a>,
        writer: Writer<'a>,
    },
    Request {
        view: RequestView<'a>,
        node: Node,
    },
}

impl<'a> Members<'a> {
    fn find(self, key: &str) -> Option<Box<dyn Val + 'a>> {
        match self {
            Self::Json { object, writer } => {
                let value = match writer.ambiguity {
                    None => object.get(key),
                    Some(ambiguity) => match object.find(key) {
                        Found::Member(value) => Some(value),
                        Found::Nothing => None,
                        Found::CaseVariant => {
                            ambiguity.meet();
                            None
                        }
                    },
                };
                value.map(|value| to_val(value, writer))
            }
            Self::Params { object, writer } => {
                let value = Self::Json { object, writer }.find(key)?;
                (value.get_type().kind() != Kind::NullType).then_some(value)
            }
            Self::Request { view, node } => {
                let head = view.facts.head;
                let values = head.headers.iter().filter(|(name, _)| name == key);
                let mut values = values.map(|(_, value)| header(value)).peekable();
                match node {
                    Node::Headers => values.next(),
                    Node::HeadersAll => values.peek().is_some().then(|| list(values)),
                    Node::Claims => {
                        let claim = view.facts.claims?.other_than_scopes(key)?;
                        Some(to_val(claim, Writer { ambiguity: None, ..view.client }))
                    }
                    record => record.member(key).map(|member| request(view, member)),
                }
            }
        }
    }

    fn keys(self) -> Vec<&'a str> {
        match self {
            Self::Json { object, writer } => {
                writer.meet_variants_in(object);
                object.iter().map(|(key, _)| key).collect()
            }
            Self::Params { object, writer } => {
                writer.meet_variants_in(object);
                let members = object.iter().filter(|(_, value)| **value != Json::Null);
                members.map(|(key, _)| key).collect()
            }
            Self::Request { view, node: Node::Headers | Node::HeadersAll } => {
                let names = view.facts.head.headers.iter().map(|(name, _)| name.as_str());
                names.collect::<BTreeSet<_>>().into_iter().collect()
            }
            Self::Request { view, node: Node::Claims } => {
                view.facts.claims.into_iter().flat_map(Claims::names_other_than_scopes).collect()
            }
            Self::Request { node, .. } => node.members().iter().map(|(name, _)| *name).collect(),
        }
    }

    fn budget(self) -> &'a Budget {
        match self {
            Self::Json { writer, .. } | Self::Params { writer, .. } => writer.budget,
            Self::Request { view, .. } => view.client.budget,
        }
    }

    /// No more members than this are there.
    fn most(self) -> usize {
        match self {
            Self::Json { object, .. } | Self::Params { object, .. } => object.len(),
            Self::Request { view, node: Node::Headers | Node::HeadersAll } => {
                view.facts.head.headers.len()
            }
            Self::Request { .. } => self.keys().len(),
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Json { object, .. } => object.len(),
            Self::Params { object, .. } => {
                object.iter().filter(|(_, value)| **value != Json::Null).count()
            }
            Self::Request { .. } => self.keys().len(),
        }
    }
}

/// An object as a CEL map.
struct MapView<'a> {
    members: Members<'a>,
    /// The keys as values, made for the first iteration.
    keys: OnceLock<Vec<Box<dyn Val + 'a>>>,
}

impl<'a> MapView<'a> {
    fn new(members: Members<'a>) -> Self {
        Self { members, keys: OnceLock::new() }
    }

    /// The keys, which are paid for first; there are none if that fails.
    fn keys(&self) -> &[Box<dyn Val + 'a>] {
        if self.keys.get().is_none() && self.members.budget().spend_elements(self.members.most()) {
            return &[];
        }
        self.keys.get_or_init(|| self.members.keys().into_iter().map(text).collect())
    }
}

impl fmt::Debug for MapView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a map of {}", self.members.len())
    }
}

impl<'a> Val for MapView<'a> {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        static TYPE: Type = MAP_TYPE;
        &TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        equal(self, other, self.members.budget())
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(MapView::new(self.members))
    }
}

const LONGEST_NAME_IN_AN_ERROR: usize = 256;

/// JSON has no keys but strings. Another key that CEL has is not there; what is
/// no key at all is an error, as it is with the crate's own maps.
fn not_a_string_key(key: &dyn Val) -> Result<(), ExecutionError> {
    match key.get_type().kind() {
        Kind::Boolean | Kind::Int | Kind::UInt | Kind::Double => Ok(()),
        _ => Err(ExecutionError::UnexpectedType {
            got: key.get_type().name().to_owned(),
            want: "map key".to_owned(),
        }),
    }
}

impl Container for MapView<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        match key.downcast_ref::<CelString>() {
            Some(key) => Ok(self.members.find(key.inner()).is_some()),
            None => not_a_string_key(key).map(|()| false),
        }
    }
}

impl Indexer for MapView<'_> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let Some(name) = key.downcast_ref::<CelString>().map(CelString::inner) else {
            not_a_string_key(key)?;
            return Err(ExecutionError::NoSuchKey(String::new().into()));
        };
        match self.members.find(name) {
            Some(value) => Ok(CowVal::Owned(value)),
            // The name may be an argument, as long as one.
            None if name.len() > LONGEST_NAME_IN_AN_ERROR => {
                Err(ExecutionError::NoSuchKey("…".to_owned().into()))
            }
            None => Err(ExecutionError::NoSuchKey(name.to_owned().into())),
        }
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

impl Iterable for MapView<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(SliceIterator(self.keys().iter()))
    }
}

impl Sizer for MapView<'_> {
    fn size(&self) -> CelInt {
        length(self.members.len())
    }
}

impl Zeroer for MapView<'_> {
    fn is_zero_value(&self) -> bool {
        self.members.len() == 0
    }
}
