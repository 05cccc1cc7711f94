//! JSON as CEL values, without a copy.
//!
//! Scalars become the crate's own values, which borrow strings. Arrays and
//! objects become views that convert only what an expression touches.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use cel::ExecutionError;
use cel::common::traits::{Adder, Container, Indexer, Iterable, Iterator, Sizer, Zeroer};
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelNull, CelOptional, CelString, CelUInt, Kind, LIST_TYPE,
    MAP_TYPE, Type,
};
use cel::common::value::{CowVal, Val};

use crate::json::{Found, Json, Object};

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

/// A JSON value as a CEL value.
pub(super) fn to_val<'a>(json: &'a Json<'a>, ambiguity: &'a Ambiguity) -> Box<dyn Val + 'a> {
    match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(value) => Box::new(CelBool::from(*value)),
        Json::Int(value) => Box::new(CelInt::from(*value)),
        Json::Double(value) => Box::new(CelDouble::from(*value)),
        Json::String(value) => Box::new(CelString::from(value.as_ref())),
        Json::Array(items) => Box::new(ListView { items, ambiguity, values: OnceLock::new() }),
        Json::Object(object) => Box::new(MapView { object, ambiguity, keys: OnceLock::new() }),
    }
}

/// Equality of lists and maps of any kind, views and the crate's own.
pub(super) fn equal(a: &dyn Val, b: &dyn Val) -> bool {
    match (a.get_type().kind(), b.get_type().kind()) {
        (Kind::List, Kind::List) => {
            let (Some(left), Some(right)) = (a.as_iterable(), b.as_iterable()) else {
                return false;
            };
            let (mut left, mut right) = (left.iter(), right.iter());
            loop {
                match (left.next(), right.next()) {
                    (None, None) => return true,
                    (Some(a), Some(b)) if equal(a, b) => {}
                    _ => return false,
                }
            }
        }
        (Kind::Map, Kind::Map) => {
            let (Some(keys), Some(other_keys), Some(left), Some(right)) =
                (a.as_iterable(), b.as_iterable(), a.as_indexer(), b.as_indexer())
            else {
                return false;
            };
            // Every key of either map is looked up in the other, so that a view
            // meets the keys that differ from it in letters' case only.
            let mut same = true;
            let mut other_keys = other_keys.iter();
            while let Some(key) = other_keys.next() {
                same &= left.get(key).is_ok();
            }
            let mut keys = keys.iter();
            while let Some(key) = keys.next() {
                same &= match (left.get(key), right.get(key)) {
                    (Ok(a), Ok(b)) => equal(a.as_ref(), b.as_ref()),
                    _ => false,
                };
            }
            same
        }
        (Kind::Opaque, Kind::Opaque) => {
            match (a.downcast_ref::<CelOptional>(), b.downcast_ref::<CelOptional>()) {
                (Some(a), Some(b)) => match (a.inner(), b.inner()) {
                    (Some(a), Some(b)) => equal(a, b),
                    (a, b) => a.is_none() && b.is_none(),
                },
                _ => a.equals(b),
            }
        }
        (left, right) if comparable(left, right) => a.equals(b),
        _ => false,
    }
}

/// Whether values of these kinds can be equal, or one less than the other. Asked
/// first because the crate copies both values into the error if they cannot.
pub(super) fn comparable(a: Kind, b: Kind) -> bool {
    let is_number = |kind| matches!(kind, Kind::Int | Kind::UInt | Kind::Double);
    a == b || (is_number(a) && is_number(b))
}

/// Whether a list, or a map's keys, hold a value equal to `value`.
pub(super) fn contains(container: &dyn Val, value: &dyn Val) -> Result<bool, ExecutionError> {
    if container.get_type().kind() == Kind::List
        && let Some(items) = container.as_iterable()
    {
        let mut items = items.iter();
        while let Some(item) = items.next() {
            if equal(item, value) {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    match container.as_container() {
        Some(container) => container.contains(value),
        None => Err(ExecutionError::no_such_overload(
            "@in",
            vec![value.get_type().name().to_owned(), container.get_type().name().to_owned()],
        )),
    }
}

fn length(len: usize) -> CelInt {
    CelInt::from(i64::try_from(len).unwrap_or(i64::MAX))
}

/// Hands out the values of a slice, for comprehensions.
struct SliceIterator<'b, 'a>(std::slice::Iter<'b, Box<dyn Val + 'a>>);

impl<'b, 'v, 'a: 'v> Iterator<'b, 'v> for SliceIterator<'b, 'a> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|value| value.as_ref() as _)
    }
}

/// A JSON array as a CEL list.
struct ListView<'a> {
    items: &'a [Json<'a>],
    ambiguity: &'a Ambiguity,
    /// The items as values, made for the first iteration.
    values: OnceLock<Vec<Box<dyn Val + 'a>>>,
}

impl<'a> ListView<'a> {
    fn values(&self) -> &[Box<dyn Val + 'a>] {
        self.values
            .get_or_init(|| self.items.iter().map(|item| to_val(item, self.ambiguity)).collect())
    }
}

// Arguments must not reach a log by way of a derived `Debug`.
impl fmt::Debug for ListView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", self.items.len())
    }
}

impl<'a> Val for ListView<'a> {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        static TYPE: Type = LIST_TYPE;
        &TYPE
    }

    fn as_adder<'b, 'v>(&'b self) -> Option<&'b (dyn Adder + 'v)>
    where
        Self: 'v,
    {
        Some(self)
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
        other.get_type().kind() == Kind::List && equal(self, other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(ListView { items: self.items, ambiguity: self.ambiguity, values: OnceLock::new() })
    }
}

impl Adder for ListView<'_> {
    fn add<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let Some(other) = rhs.as_iterable().filter(|_| rhs.get_type().kind() == Kind::List) else {
            return Err(ExecutionError::no_such_overload(
                "_+_",
                vec![self.get_type().name().to_owned(), rhs.get_type().name().to_owned()],
            ));
        };
        let mut sum: Vec<Box<dyn Val + 'v>> = Vec::with_capacity(self.items.len());
        sum.extend(self.items.iter().map(|item| to_val(item, self.ambiguity) as Box<dyn Val + 'v>));
        let mut other = other.iter();
        while let Some(item) = other.next() {
            sum.push(item.clone_as_boxed());
        }
        Ok(CowVal::owned(CelList::from(sum)))
    }
}

impl Container for ListView<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        contains(self, value)
    }
}

impl Indexer for ListView<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let position = if let Some(index) = index.downcast_ref::<CelInt>() {
            usize::try_from(*index.inner()).ok()
        } else if let Some(index) = index.downcast_ref::<CelUInt>() {
            usize::try_from(*index.inner()).ok()
        } else if let Some(index) = index.downcast_ref::<CelDouble>() {
            whole(*index.inner())
        } else {
            return Err(ExecutionError::no_such_overload(
                "_[_]",
                vec![self.get_type().name().to_owned(), index.get_type().name().to_owned()],
            ));
        };
        match position.and_then(|position| self.items.get(position)) {
            Some(item) => Ok(CowVal::Owned(to_val(item, self.ambiguity))),
            None => Err(ExecutionError::IndexOutOfBounds(cel::Value::Null)),
        }
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

/// A double that is the number of an item.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked, and `as` saturates"
)]
fn whole(index: f64) -> Option<usize> {
    let in_range = (0.0..=f64::from(u32::MAX)).contains(&index) && index.fract() == 0.0;
    in_range.then_some(index as usize)
}

impl Iterable for ListView<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(SliceIterator(self.values().iter()))
    }
}

impl Sizer for ListView<'_> {
    fn size(&self) -> CelInt {
        length(self.items.len())
    }
}

impl Zeroer for ListView<'_> {
    fn is_zero_value(&self) -> bool {
        self.items.is_empty()
    }
}

/// A JSON object as a CEL map.
struct MapView<'a> {
    object: &'a Object<'a>,
    ambiguity: &'a Ambiguity,
    /// The keys as values, made for the first iteration.
    keys: OnceLock<Vec<Box<dyn Val + 'a>>>,
}

impl<'a> MapView<'a> {
    fn keys(&self) -> &[Box<dyn Val + 'a>] {
        self.keys.get_or_init(|| {
            self.object
                .iter()
                .map(|(key, _)| Box::new(CelString::from(key)) as Box<dyn Val + 'a>)
                .collect()
        })
    }

    fn find(&self, key: &str) -> Option<&'a Json<'a>> {
        match self.object.find(key) {
            Found::Member(value) => Some(value),
            Found::Nothing => None,
            Found::CaseVariant => {
                self.ambiguity.meet();
                None
            }
        }
    }
}

impl fmt::Debug for MapView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a map of {}", self.object.len())
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
        other.get_type().kind() == Kind::Map && equal(self, other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(MapView { object: self.object, ambiguity: self.ambiguity, keys: OnceLock::new() })
    }
}

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
            Some(key) => Ok(self.find(key.inner()).is_some()),
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
        match self.find(name) {
            Some(value) => Ok(CowVal::Owned(to_val(value, self.ambiguity))),
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
        length(self.object.len())
    }
}

impl Zeroer for MapView<'_> {
    fn is_zero_value(&self) -> bool {
        self.object.is_empty()
    }
}
