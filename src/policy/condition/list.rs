//! JSON arrays as CEL lists.

use std::fmt;
use std::sync::OnceLock;

use cel::ExecutionError;
use cel::common::traits::{Adder, Container, Indexer, Iterable, Iterator, Sizer, Zeroer};
use cel::common::types::{CelDouble, CelInt, CelList, CelUInt, Kind, LIST_TYPE, Type};
use cel::common::value::{CowVal, Val};

use super::comparison::{Typing, contains, equal};
use super::view::{SliceIterator, Writer, length, to_val};
use crate::json::Json;

/// A JSON array as a CEL list.
pub(super) struct ListView<'a> {
    items: &'a [Json<'a>],
    writer: Writer<'a>,
    /// The items as CEL values, created at the first iteration.
    values: OnceLock<Vec<Box<dyn Val + 'a>>>,
}

impl<'a> ListView<'a> {
    pub(super) fn new(items: &'a [Json<'a>], writer: Writer<'a>) -> Self {
        Self { items, writer, values: OnceLock::new() }
    }

    /// Returns all items as CEL values. The conversion takes memory and time, so the budget pays
    /// first. Returns no items if the budget is spent.
    fn values(&self) -> &[Box<dyn Val + 'a>] {
        if self.values.get().is_none() && self.writer.budget.spend_elements(self.items.len()) {
            return &[];
        }
        self.values
            .get_or_init(|| self.items.iter().map(|item| to_val(item, self.writer)).collect())
    }
}

// A derived `Debug` could write arguments to a log.
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
        // The `cel` crate calls this function only where types are lenient.
        equal(self, other, Typing::Lenient, self.writer.budget).unwrap_or(false)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(ListView::new(self.items, self.writer))
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
        sum.extend(self.items.iter().map(|item| to_val(item, self.writer) as Box<dyn Val + 'v>));
        let mut other = other.iter();
        while let Some(item) = other.next() {
            sum.push(item.clone_as_boxed());
        }
        Ok(CowVal::owned(CelList::from(sum)))
    }
}

impl Container for ListView<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        contains(self, value, Typing::Lenient, self.writer.budget)
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
            Some(item) => Ok(CowVal::Owned(to_val(item, self.writer))),
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

/// Returns the index of an item, if the double is a valid index.
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
