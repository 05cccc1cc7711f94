//! The cost of conditions.
//!
//! Callers choose the length of their arguments, and nested comprehensions multiply this length. So
//! each request has a [`Budget`] of steps. Loading rewrites each expression ([`super::instrument`])
//! so that evaluation charges the budget for each part before evaluating that part.

use std::any::Any;
use std::sync::atomic::{AtomicI64, Ordering};

use cel::ExecutionError;
use cel::common::traits::Sizer;
use cel::common::types::{CelBytes, CelList, CelMap, CelOptional, CelString, Kind, Type};
use cel::common::value::{StaticVal, Val};

/// The number of bytes of strings that a function reads or writes for one step.
pub(super) const STEP: u64 = 1024;
/// The cost of an element of a list or a map, in bytes, without the content of the element.
pub(super) const ELEMENT: u64 = 64;

/// The cost of building or comparing a value or a key, in bytes. Never less than its memory.
const NODE: i64 = 128;

/// The number of rules that the search may try with other scopes, for each step of the limit.
const TRIES: i64 = 64;

/// The cost of folding one byte of a string that is not ASCII, in bytes that a function reads.
const FOLDING: u64 = 16;

static BUDGET_TYPE: Type = Type::new_unspecified_type("budget");

/// The remaining cost that all conditions of one request together may have.
///
/// A step pays for one of these:
///
/// - the evaluation of a function or comparison, for each element of a surrounding comprehension;
/// - the element itself;
/// - 1024 bytes of strings that a function reads or builds;
/// - 8 values and keys of arguments that the evaluation reads.
///
/// Spending is final. When exceeded, every condition of the request fails.
#[derive(Debug)]
pub struct Budget {
    /// The remaining budget in bytes. Negative once a charge exceeded the budget.
    left: AtomicI64,
    /// The number of remaining attempts to try a rule with other scopes. This count is separate, so
    /// that a caller who spent the budget still learns the scopes of rules without conditions.
    tries: AtomicI64,
}

impl Budget {
    /// Creates a budget of this number of steps.
    pub fn of(steps: usize) -> Self {
        let steps = i64::try_from(steps).unwrap_or(i64::MAX);
        let times = |each: i64| AtomicI64::new(steps.saturating_mul(each));
        Self { left: times(STEP as i64), tries: times(TRIES) }
    }

    /// Returns true if a charge exceeded the budget.
    pub fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) < 0
    }

    /// Returns the remaining budget, in bytes.
    #[cfg(test)]
    pub(super) fn left(&self) -> i64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Returns the number of steps spent of a budget of `of` steps, rounded up.
    #[cfg(test)]
    pub(super) fn taken(&self, of: u64) -> u64 {
        let left = u64::try_from(self.left.load(Ordering::Relaxed)).unwrap_or(0);
        (of * STEP - left).div_ceil(STEP)
    }

    /// Charges the budget, in bytes, before the operation.
    ///
    /// # Errors
    /// If the budget is spent.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), ExecutionError> {
        // Relaxed ordering suffices, because one thread evaluates all conditions of a request.
        let left = self.left.load(Ordering::Relaxed);
        if left >= 0 {
            let left = left.saturating_sub_unsigned(bytes);
            self.left.store(left, Ordering::Relaxed);
        }
        if self.is_spent() { Err(spent()) } else { Ok(()) }
    }

    /// Calls `read` with the number of nodes that the budget can pay, and charges the nodes that
    /// `read` takes. The allowance keeps `read` from building more nodes than the budget pays for.
    pub(super) fn pay_for_nodes<T>(&self, read: impl FnOnce(&mut usize) -> T) -> T {
        let left = self.left.load(Ordering::Relaxed);
        let most = usize::try_from(left / NODE).unwrap_or(0);
        let mut allowance = most;
        let read = read(&mut allowance);
        let nodes = i64::try_from(most - allowance).unwrap_or(i64::MAX);
        self.left.store(left.saturating_sub(nodes.saturating_mul(NODE)), Ordering::Relaxed);
        read
    }

    /// Spends the remaining budget, and more.
    pub(in crate::policy) fn exhaust(&self) {
        self.left.store(-1, Ordering::Relaxed);
    }

    /// Charges for elements of a list or a map. Returns true if the budget is spent.
    pub(super) fn spend_elements(&self, elements: usize) -> bool {
        self.spend(ELEMENT.saturating_mul(elements as u64)).is_err()
    }

    /// Charges for examining a rule, which compares its patterns with a name. Returns true if the
    /// budget is spent.
    pub(in crate::policy) fn spend_a_look(&self, name: &str) -> bool {
        let long = (name.len() as u64).saturating_sub(ELEMENT);
        self.spend(ELEMENT.saturating_add(long.saturating_mul(8))).is_err()
    }

    /// Charges for trying a rule with scopes that the caller does not have. Returns true if no
    /// attempts remain.
    pub(in crate::policy) fn spend_a_try(&self) -> bool {
        let left = self.tries.load(Ordering::Relaxed).saturating_sub(1);
        self.tries.store(left, Ordering::Relaxed);
        left < 0
    }

    /// Charges for folding a key before its look-up. Charges for reading do not cover this cost.
    pub(super) fn spend_folding(&self, key: &str) -> Result<(), ExecutionError> {
        let bytes = if key.is_ascii() { 0 } else { key.len() as u64 };
        self.spend(bytes.saturating_mul(FOLDING))
    }

    /// Charges for a number of steps.
    pub(super) fn spend_steps(&self, steps: u64) -> Result<(), ExecutionError> {
        self.spend(steps.saturating_mul(STEP))
    }
}

pub(super) fn spent() -> ExecutionError {
    ExecutionError::function_error("limits", "conditionCost is spent")
}

/// A CEL value, so that the rewritten expression can pass the budget to functions.
impl Val for Budget {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &BUDGET_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        // The crate does not clone the budget. A clone would be empty, so that nothing can spend
        // twice.
        Box::new(Self::of(0))
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Budget {}

/// Returns the number of elements.
pub(super) fn elements(value: &dyn Sizer) -> u64 {
    u64::try_from(*value.size().inner()).unwrap_or(0)
}

/// Returns the length of a string or bytes value, in bytes. Returns 0 for other types.
pub(super) fn text(value: &dyn Val) -> u64 {
    let length = match value.get_type().kind() {
        Kind::String => value.downcast_ref::<CelString>().map(|text| text.inner().len()),
        Kind::Bytes => value.downcast_ref::<CelBytes>().map(|bytes| bytes.inner().len()),
        _ => None,
    };
    length.unwrap_or(0) as u64
}

/// Charges for copying a value. Views and borrowed strings of the request are not copied.
pub(super) fn copy(value: &dyn Val, budget: &Budget) -> Result<(), ExecutionError> {
    budget.spend(ELEMENT)?;
    match value.get_type().kind() {
        Kind::String => match value.downcast_ref::<CelString>() {
            Some(text) if text.as_borrowed().is_none() => budget.spend(text.inner().len() as u64),
            _ => Ok(()),
        },
        Kind::Bytes => budget.spend(text(value)),
        Kind::List => {
            let list = value.downcast_ref::<CelList>();
            let mut items = list.into_iter().flat_map(|list| list.inner());
            items.try_for_each(|item| copy(item.as_ref(), budget))
        }
        Kind::Map => {
            let map = value.downcast_ref::<CelMap>();
            let mut entries = map.into_iter().flat_map(|map| map.inner());
            entries.try_for_each(|(key, value)| {
                copy(key.inner(), budget).and_then(|()| copy(value.as_ref(), budget))
            })
        }
        Kind::Opaque => {
            let inner = value.downcast_ref::<CelOptional>().and_then(CelOptional::inner);
            inner.map_or(Ok(()), |inner| copy(inner, budget))
        }
        _ => Ok(()),
    }
}

/// Charges for reading a value and everything in the value.
pub(super) fn content(value: &dyn Val, budget: &Budget) -> Result<(), ExecutionError> {
    budget.spend(ELEMENT + text(value))?;
    let Some(items) = value.as_iterable() else { return Ok(()) };
    let members = value.as_indexer().filter(|_| value.get_type().kind() == Kind::Map);
    let mut items = items.iter();
    while let Some(item) = items.next() {
        content(item, budget)?;
        if let Some(Ok(member)) = members.map(|map| map.get(item)) {
            content(member.as_ref(), budget)?;
        }
    }
    Ok(())
}
