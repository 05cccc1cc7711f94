//! What conditions may cost.
//!
//! Callers choose how long their arguments are, and a comprehension within another
//! multiplies that. So a request has a [`Budget`] of steps, and the expression is
//! rewritten when it is loaded ([`super::metering`]) so that it pays for each of
//! its parts before that is evaluated.

use std::any::Any;
use std::sync::atomic::{AtomicI64, Ordering};

use cel::ExecutionError;
use cel::common::traits::Sizer;
use cel::common::types::{CelBytes, CelList, CelMap, CelOptional, CelString, Kind, Type};
use cel::common::value::{StaticVal, Val};

/// What one step buys, in bytes of text that are read or written.
pub(super) const STEP: u64 = 1024;
/// What an element of a list or a map costs beside what is in it, in bytes.
pub(super) const ELEMENT: u64 = 64;

/// What a value or a key costs that is put into a tree or compared with others, in bytes. Never
/// less than the room that it takes.
const NODE: i64 = 128;

/// How many rules may be tried with other scopes for each step that conditions may take.
const TRIES: i64 = 64;

/// What folding a byte of a text that is not ASCII costs, in bytes of text that are read.
const FOLDING: u64 = 16;

static BUDGET_TYPE: Type = Type::new_unspecified_type("budget");

/// What the conditions of one request may still cost, all together.
///
/// A step is the evaluation of a function or comparison, again for each element of
/// a comprehension around it; the element itself; 1024 bytes of text that a
/// function reads or builds; or 8 values and keys of arguments that are read. What is spent stays spent: once it is too much, every
/// condition of the request fails.
#[derive(Debug)]
pub struct Budget {
    /// In bytes, negative once more was asked for than there was.
    left: AtomicI64,
    /// How often a rule may still be tried with other scopes. Kept apart, so that a caller who
    /// has spent the rest is still told the scopes of rules without conditions.
    tries: AtomicI64,
}

impl Budget {
    /// So many steps.
    pub fn of(steps: usize) -> Self {
        let steps = i64::try_from(steps).unwrap_or(i64::MAX);
        let times = |each: i64| AtomicI64::new(steps.saturating_mul(each));
        Self { left: times(STEP as i64), tries: times(TRIES) }
    }

    /// Whether more was asked for than there was.
    pub fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) < 0
    }

    /// What is left, in bytes.
    #[cfg(test)]
    pub(super) fn left(&self) -> i64 {
        self.left.load(Ordering::Relaxed)
    }

    /// How many steps of so many were taken, begun ones too.
    #[cfg(test)]
    pub(super) fn taken(&self, of: u64) -> u64 {
        let left = u64::try_from(self.left.load(Ordering::Relaxed)).unwrap_or(0);
        (of * STEP - left).div_ceil(STEP)
    }

    /// Pays for what is about to be done.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), ExecutionError> {
        // One thread evaluates the conditions of a request.
        let left = self.left.load(Ordering::Relaxed);
        if left >= 0 {
            let left = left.saturating_sub_unsigned(bytes);
            self.left.store(left, Ordering::Relaxed);
        }
        if self.is_spent() { Err(spent()) } else { Ok(()) }
    }

    /// Reads what takes values and keys from an allowance, and pays for them. No more room is
    /// made than was paid for, because the allowance is all that the budget can pay.
    pub(super) fn pay_for_nodes<T>(&self, read: impl FnOnce(&mut usize) -> T) -> T {
        let left = self.left.load(Ordering::Relaxed);
        let most = usize::try_from(left / NODE).unwrap_or(0);
        let mut allowance = most;
        let read = read(&mut allowance);
        let nodes = i64::try_from(most - allowance).unwrap_or(i64::MAX);
        self.left.store(left.saturating_sub(nodes.saturating_mul(NODE)), Ordering::Relaxed);
        read
    }

    /// Spends all that is left, and more.
    pub(in crate::policy) fn exhaust(&self) {
        self.left.store(-1, Ordering::Relaxed);
    }

    /// Pays for so many elements of a list or a map. Answers whether there is too little
    /// left.
    pub(super) fn spend_elements(&self, elements: usize) -> bool {
        self.spend(ELEMENT.saturating_mul(elements as u64)).is_err()
    }

    /// Pays for a look at a rule, which compares its patterns with a name. Answers whether
    /// there is too little left.
    pub(in crate::policy) fn spend_a_look(&self, name: &str) -> bool {
        let long = (name.len() as u64).saturating_sub(ELEMENT);
        self.spend(ELEMENT.saturating_add(long.saturating_mul(8))).is_err()
    }

    /// Pays for trying a rule with other scopes than those of the caller. Answers whether there is
    /// too little left.
    pub(in crate::policy) fn spend_a_try(&self) -> bool {
        let left = self.tries.load(Ordering::Relaxed).saturating_sub(1);
        self.tries.store(left, Ordering::Relaxed);
        left < 0
    }

    /// Pays for folding a key that is looked up, which reading it does not cover.
    pub(super) fn spend_folding(&self, key: &str) -> Result<(), ExecutionError> {
        let bytes = if key.is_ascii() { 0 } else { key.len() as u64 };
        self.spend(bytes.saturating_mul(FOLDING))
    }

    /// Pays for steps.
    pub(super) fn spend_steps(&self, steps: u64) -> Result<(), ExecutionError> {
        self.spend(steps.saturating_mul(STEP))
    }
}

pub(super) fn spent() -> ExecutionError {
    ExecutionError::function_error("limits", "conditionCost is spent")
}

/// So that a function can be handed the budget that it is paid from.
impl Val for Budget {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &BUDGET_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        // Nothing clones it; and if something did, it would not get it twice.
        Box::new(Self::of(0))
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Budget {}

/// How many elements there are.
pub(super) fn elements(value: &dyn Sizer) -> u64 {
    u64::try_from(*value.size().inner()).unwrap_or(0)
}

/// The length of a text, in bytes.
pub(super) fn text(value: &dyn Val) -> u64 {
    let length = match value.get_type().kind() {
        Kind::String => value.downcast_ref::<CelString>().map(|text| text.inner().len()),
        Kind::Bytes => value.downcast_ref::<CelBytes>().map(|bytes| bytes.inner().len()),
        _ => None,
    };
    length.unwrap_or(0) as u64
}

/// Pays for copying a value: views and texts of the request are not copied.
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

/// Pays for reading a value with all that is in it.
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
