//! JSON and requests as CEL values, without a copy.
//!
//! Scalars become values of the `cel` crate, which borrow strings. Arrays and objects become views,
//! which convert only the members that an expression reads.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::OnceLock;

use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Iterable, Iterator, Sizer, Zeroer};
use cel::common::types::{CelBool, CelDouble, CelInt, CelNull, CelString, Kind, MAP_TYPE, Type};
use cel::common::value::{CowVal, Val};

use super::attribute::{AttributeValue, RequestView, text};
use super::budget::Budget;
use super::comparison::{Typing, equal};
use super::inputs::RequestField;
use super::list::ListView;
use super::notes::{Doubt, Notes};
use crate::claims::Claims;
use crate::json::{Found, Json, Lazy, LazyObject, Object};
use crate::policy::Dialect;

/// The author of a JSON value, and the settings for reading the value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer<'a> {
    /// True if a client wrote the value, false if an identity provider did. Readers may disagree
    /// about the keys of a client (see [`Found::CaseVariant`]).
    pub(super) is_client: bool,
    /// The language of the policy, which determines how numbers are read.
    pub(super) dialect: Dialect,
    pub(super) notes: &'a Notes,
    /// The budget that pays for reading the value.
    pub(super) budget: &'a Budget,
}

impl Writer<'_> {
    /// Notes two keys of a client's object that some servers read as one.
    fn meet(self, variants: Option<(&str, &str)>) {
        if let Some((key, name)) = variants {
            self.notes.note_ambiguity(key, name);
        }
    }

    /// Returns the value under a key of a client's object, if there is one. Also returns `None` if
    /// the budget cannot pay for the look-up, which makes the condition fail.
    fn found<'v, V>(self, key: &str, find: impl FnOnce() -> Found<'v, V>) -> Option<&'v V> {
        self.budget.spend_folding(key).ok()?;
        match find() {
            Found::Member(value) => Some(value),
            Found::Nothing => None,
            Found::CaseVariant(variant) => {
                self.notes.note_ambiguity(variant, key);
                None
            }
        }
    }
}

/// Converts a JSON value to a CEL value.
pub(super) fn to_val<'a>(json: &'a Json<'a>, writer: Writer<'a>) -> Box<dyn Val + 'a> {
    match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(value) => Box::new(CelBool::from(*value)),
        Json::Int(value) => match writer.dialect {
            Dialect::Native => Box::new(CelInt::from(*value)),
            Dialect::McpRoute => Box::new(CelDouble::from(double(*value))),
        },
        Json::Double(value) => Box::new(CelDouble::from(*value)),
        Json::Inexact(value) => match writer.dialect {
            Dialect::Native => writer.notes.unreadable(Doubt::Number),
            Dialect::McpRoute => Box::new(CelDouble::from(*value)),
        },
        Json::String(value) => Box::new(CelString::from(value.as_ref())),
        Json::Array(items) => Box::new(ListView::new(items, writer)),
        Json::Object(object) => MapView::boxed(Members::Json { object, writer }),
    }
}

#[expect(clippy::cast_precision_loss, reason = "as a reader that has no integers does it")]
fn double(value: i64) -> f64 {
    value as f64
}

pub(super) fn length(len: usize) -> CelInt {
    CelInt::from(i64::try_from(len).unwrap_or(i64::MAX))
}

/// An iterator over the values of a slice, for comprehensions.
pub(super) struct SliceIterator<'b, 'a>(pub(super) std::slice::Iter<'b, Box<dyn Val + 'a>>);

impl<'b, 'v, 'a: 'v> Iterator<'b, 'v> for SliceIterator<'b, 'a> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|value| value.as_ref() as _)
    }
}

/// The members that conditions see in an object among the parameters of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Present {
    /// Every member.
    All,
    /// Every member that is not null, because some clients write null for a missing member.
    NotNull,
    /// The members that Agent Router keeps of a tool call. These are the non-empty members of
    /// `CallToolParams` in the Go SDK for MCP.
    OfToolCall,
}

impl Present {
    fn includes(self, key: &str, value: &Lazy<'_>) -> bool {
        match (self, key) {
            (Self::All, _) => true,
            (Self::NotNull, _) | (Self::OfToolCall, "name" | "arguments") => !value.is_null(),
            (Self::OfToolCall, "_meta" | "inputResponses" | "requestState") => !value.is_empty(),
            (Self::OfToolCall, _) => false,
        }
    }

    /// Returns true if Agent Router does not keep a member as the client wrote it. Agent Router
    /// rejects a state that is not a string, and keeps only known parts of responses.
    fn is_rewritten(self, key: &str, value: &Lazy<'_>) -> bool {
        match (self, key) {
            (Self::OfToolCall, "inputResponses") => true,
            (Self::OfToolCall, "requestState") => !value.is_string(),
            _ => false,
        }
    }
}

/// The source of a map's members.
#[derive(Clone, Copy)]
pub(super) enum Members<'a, 'b> {
    Json {
        object: &'a Object<'a>,
        writer: Writer<'a>,
    },
    /// An object among the parameters of a call. The view reads only as much as a condition uses.
    Parameters {
        object: &'a LazyObject<'b>,
        writer: Writer<'a>,
        present: Present,
    },
    Request {
        view: RequestView<'a, 'b>,
        node: RequestField,
    },
}

impl<'a, 'b> Members<'a, 'b> {
    pub(super) fn find(self, key: &str) -> Option<AttributeValue<'a, 'b>> {
        match self {
            Self::Json { object, writer } => {
                let value = match writer.is_client {
                    true => writer.found(key, || object.find(key)),
                    false => object.get(key),
                };
                value.map(|value| AttributeValue::Json(value, writer))
            }
            Self::Parameters { object, writer, present } => {
                let value = writer.found(key, || object.find(key))?;
                if !present.includes(key, value) {
                    return None;
                }
                if present.is_rewritten(key, value) {
                    writer.notes.unreadable.get_or_init(|| Doubt::Parameter);
                }
                let tree = writer.budget.pay_for_nodes(|allowance| value.tree(allowance));
                if tree.is_none() {
                    writer.budget.exhaust();
                }
                tree.map(|tree| AttributeValue::Json(tree, writer))
            }
            Self::Request { view, node } => {
                let header = || {
                    let head = view.known_head().filter(|_| view.shows_header(key))?;
                    head.headers.iter().find(|(name, _)| name == key)
                };
                match node {
                    RequestField::Headers => {
                        header().map(|(name, _)| AttributeValue::Header(view, name))
                    }
                    RequestField::HeadersAll => {
                        header().map(|(name, _)| AttributeValue::HeaderList(view, name))
                    }
                    RequestField::Claims => {
                        let claim = view.known_claims()?.other_than_scopes(key)?;
                        Some(AttributeValue::Json(
                            claim,
                            Writer { is_client: false, ..view.client },
                        ))
                    }
                    record => {
                        let member = record.member(key).filter(|member| view.has(*member));
                        member.map(|member| AttributeValue::Request(view, member))
                    }
                }
            }
        }
    }

    /// Returns true if the map has a member with this key. The value of a parameter need not be
    /// read.
    fn contains(self, key: &str) -> bool {
        match self {
            Self::Parameters { object, writer, present } => {
                let value = writer.found(key, || object.find(key));
                value.is_some_and(|value| present.includes(key, value))
            }
            _ => self.find(key).is_some(),
        }
    }

    fn keys(self) -> Vec<&'a str> {
        match self {
            Self::Json { object, writer } => {
                writer.meet(if writer.is_client { object.case_variants() } else { None });
                object.iter().map(|(key, _)| key).collect()
            }
            Self::Parameters { object, writer, present } => {
                writer.meet(object.case_variants());
                let members = object.iter().filter(|(key, value)| present.includes(key, value));
                members.map(|(key, _)| key).collect()
            }
            Self::Request { view, node: RequestField::Headers | RequestField::HeadersAll } => {
                let headers = view.known_head().into_iter().flat_map(|head| &head.headers);
                let names = headers.map(|(name, _)| name.as_str());
                let names = names.filter(|name| view.shows_header(name));
                names.collect::<BTreeSet<_>>().into_iter().collect()
            }
            Self::Request { view, node: RequestField::Claims } => {
                view.known_claims().into_iter().flat_map(Claims::names_other_than_scopes).collect()
            }
            Self::Request { view, node } => {
                let members = node.members().iter().filter(|(_, member)| view.has(*member));
                members.map(|(name, _)| *name).collect()
            }
        }
    }

    fn writer(self) -> Writer<'a> {
        match self {
            Self::Json { writer, .. } | Self::Parameters { writer, .. } => writer,
            Self::Request { view, .. } => view.client,
        }
    }

    fn budget(self) -> &'a Budget {
        self.writer().budget
    }

    /// Returns an upper bound on the number of members.
    fn most(self) -> usize {
        match self {
            Self::Json { object, .. } => object.len(),
            Self::Parameters { object, .. } => object.len(),
            Self::Request { view, node: RequestField::Headers | RequestField::HeadersAll } => {
                view.facts.head.headers.len()
            }
            Self::Request { .. } => self.keys().len(),
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Json { object, .. } => object.len(),
            Self::Parameters { object, present: Present::All, .. } => object.len(),
            Self::Parameters { object, present, .. } => {
                object.iter().filter(|(key, value)| present.includes(key, value)).count()
            }
            Self::Request { .. } => self.keys().len(),
        }
    }
}

/// A JSON object, or a part of the request, as a CEL map.
pub(super) struct MapView<'a, 'b> {
    members: Members<'a, 'b>,
    /// The keys as CEL values, created at the first iteration.
    keys: OnceLock<Vec<Box<dyn Val + 'a>>>,
}

impl<'a, 'b: 'a> MapView<'a, 'b> {
    fn new(members: Members<'a, 'b>) -> Self {
        Self { members, keys: OnceLock::new() }
    }

    pub(super) fn boxed(members: Members<'a, 'b>) -> Box<dyn Val + 'a> {
        Box::new(Self::new(members))
    }

    /// Returns the keys, after the budget pays for them. Returns no keys if the budget is spent.
    fn keys(&self) -> &[Box<dyn Val + 'a>] {
        if self.keys.get().is_none() && self.members.budget().spend_elements(self.members.most()) {
            return &[];
        }
        self.keys.get_or_init(|| self.members.keys().into_iter().map(text).collect())
    }
}

impl fmt::Debug for MapView<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a map of {}", self.members.len())
    }
}

impl Val for MapView<'_, '_> {
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
        // The `cel` crate calls this function only where types are lenient.
        equal(self, other, Typing::Lenient, self.members.budget()).unwrap_or(false)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(MapView::new(self.members))
    }
}

/// Returns the error for a missing member. The name may be a long argument, so a long name is
/// omitted.
pub(super) fn no_such_key(name: &str) -> ExecutionError {
    const LONGEST_NAME: usize = 256;
    let name = if name.len() > LONGEST_NAME { "…" } else { name };
    ExecutionError::NoSuchKey(name.to_owned().into())
}

/// Checks a key that is not a string, which no JSON object contains.
///
/// # Errors
/// If no CEL map can have such a key, as with the maps of the `cel` crate.
fn not_a_string_key(key: &dyn Val) -> Result<(), ExecutionError> {
    match key.get_type().kind() {
        Kind::Boolean | Kind::Int | Kind::UInt | Kind::Double => Ok(()),
        _ => Err(ExecutionError::UnexpectedType {
            got: key.get_type().name().to_owned(),
            want: "map key".to_owned(),
        }),
    }
}

impl Container for MapView<'_, '_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        match key.downcast_ref::<CelString>() {
            Some(key) => Ok(self.members.contains(key.inner())),
            // In Agent Router, a value of any type may be the left operand of `in`.
            None if self.members.writer().dialect == Dialect::McpRoute => Ok(false),
            None => not_a_string_key(key).map(|()| false),
        }
    }
}

impl Indexer for MapView<'_, '_> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let Some(name) = key.downcast_ref::<CelString>().map(CelString::inner) else {
            not_a_string_key(key)?;
            return Err(no_such_key(""));
        };
        match self.members.find(name) {
            Some(part) => Ok(CowVal::Owned(part.val())),
            None => Err(no_such_key(name)),
        }
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

impl Iterable for MapView<'_, '_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(SliceIterator(self.keys().iter()))
    }
}

impl Sizer for MapView<'_, '_> {
    fn size(&self) -> CelInt {
        length(self.members.len())
    }
}

impl Zeroer for MapView<'_, '_> {
    fn is_zero_value(&self) -> bool {
        self.members.len() == 0
    }
}
