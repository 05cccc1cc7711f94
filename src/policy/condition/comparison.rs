//! Comparisons: those that the `cel` crate evaluates, and our own functions for the others.

use std::any::Any;

use cel::ExecutionError;
use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};
use cel::common::traits::{Iterable, Zeroer};
use cel::common::types::{CelDouble, CelMap, CelNull, CelOptional, Kind, Type};
use cel::common::value::{StaticVal, Val};

use super::budget::{self, Budget, ELEMENT};
use super::intrinsics;
use super::notes::Unreadable;
use crate::policy::Dialect;

/// The result of comparing values of two types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typing {
    /// An evaluation error, because a server may read one value as the other type.
    Strict,
    /// Not equal, as in CEL.
    Lenient,
}

impl Dialect {
    pub(super) fn typing(self) -> Typing {
        match self {
            Self::Native => Typing::Strict,
            Self::McpRoute => Typing::Lenient,
        }
    }
}

/// Returns our own function that replaces a comparison of the `cel` crate, if one does.
///
/// - The crate compares its lists and maps only with its own types, and values of two types are
///   never equal. So where types are strict, our functions replace each `==`, `!=` and `in`.
/// - Where types are lenient, our functions replace these if an operand could be a view. A
///   comparison with a scalar literal stays with the crate, which is faster.
/// - For `<`, `<=`, `>` and `>=`, the crate copies both operands into an error if their types
///   differ. A caller's list multiplies this cost, so our functions check the types first.
/// - Within a comprehension, even the search for a literal needs our function, because nothing else
///   charges for the list.
pub(super) fn function(call: &CallExpr, typing: Typing, is_repeated: bool) -> Option<&'static str> {
    let [left, right] = call.args.as_slice() else { return None };
    let scalars = is_scalar(&left.expr) || is_scalar(&right.expr);
    Some(match (call.func_name.as_str(), typing) {
        (operators::EQUALS, Typing::Strict) => intrinsics::STRICT_EQUALS,
        (operators::NOT_EQUALS, Typing::Strict) => intrinsics::STRICT_DIFFERS,
        (operators::IN, Typing::Strict) => intrinsics::STRICT_CONTAINS,
        (operators::EQUALS, Typing::Lenient) if !scalars => intrinsics::EQUALS,
        (operators::NOT_EQUALS, Typing::Lenient) if !scalars => intrinsics::DIFFERS,
        (operators::IN, Typing::Lenient)
            if (is_repeated || !is_scalar(&left.expr) || is_null(&left.expr))
                && !is_list_of_scalars(&right.expr) =>
        {
            intrinsics::CONTAINS
        }
        (operators::LESS, _) => intrinsics::LESS,
        (operators::LESS_EQUALS, _) => intrinsics::LESS_EQUALS,
        (operators::GREATER, _) => intrinsics::GREATER,
        (operators::GREATER_EQUALS, _) => intrinsics::GREATER_EQUALS,
        _ => return None,
    })
}

/// The `null` that a policy writes, where types are strict. The policy's `null` compares with
/// values of any type. A client's `null` does not, because servers read such a `null` as a default.
#[derive(Debug, Clone, Copy)]
pub(super) struct WrittenNull;

impl Val for WrittenNull {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        CelNull::cel_type()
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.get_type().kind() == Kind::NullType
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(*self)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for WrittenNull {}

impl Zeroer for WrittenNull {
    fn is_zero_value(&self) -> bool {
        true
    }
}

/// Returns true if an expression such as `args.?x` is compared with a literal, which is always
/// false.
pub(super) fn with_optional(call: &CallExpr) -> bool {
    let compares = [operators::EQUALS, operators::NOT_EQUALS, operators::IN];
    match call.args.as_slice() {
        [left, right] if compares.contains(&call.func_name.as_str()) => {
            let literal = |expr| is_scalar(expr) || is_list_of_scalars(expr);
            (is_optional(&left.expr) && literal(&right.expr))
                || (literal(&left.expr) && is_optional(&right.expr))
        }
        _ => false,
    }
}

fn is_optional(expr: &Expr) -> bool {
    match expr {
        Expr::Call(call) => match call.func_name.as_str() {
            operators::OPT_SELECT | operators::OPT_INDEX => true,
            operators::INDEX => call.args.first().is_some_and(|operand| is_optional(&operand.expr)),
            _ => false,
        },
        Expr::Select(select) => !select.test && is_optional(&select.operand.expr),
        _ => false,
    }
}

fn is_scalar(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(_))
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(LiteralValue::Null))
}

fn is_list_of_scalars(expr: &Expr) -> bool {
    matches!(expr, Expr::List(list) if list.elements.iter().all(|element| is_scalar(&element.expr)))
}

/// Compares values of any kind, both views and values of the `cel` crate. A certain difference
/// makes the values differ, whatever the types of other elements.
///
/// # Errors
/// If the budget is spent. Where types are strict, also if nothing certainly differs and two values
/// have different types or one is unreadable.
pub(super) fn equal(
    a: &dyn Val,
    b: &dyn Val,
    typing: Typing,
    budget: &Budget,
) -> Result<bool, ExecutionError> {
    budget.spend(ELEMENT)?;
    equal_operands(a, b, typing, budget)
}

/// Compares the operands of an operator, which the budget already paid for.
pub(super) fn equal_operands(
    a: &dyn Val,
    b: &dyn Val,
    typing: Typing,
    budget: &Budget,
) -> Result<bool, ExecutionError> {
    match (a.get_type().kind(), b.get_type().kind()) {
        (Kind::List, Kind::List) => {
            let (Some(left), Some(right)) = (a.as_iterable(), b.as_iterable()) else {
                return Ok(false);
            };
            let (mut left, mut right) = (left.iter(), right.iter());
            let mut same = Ok(true);
            loop {
                match (left.next(), right.next()) {
                    (None, None) => return same,
                    (Some(a), Some(b)) => match equal(a, b, typing, budget) {
                        Ok(true) => {}
                        Ok(false) => return Ok(false),
                        Err(error) => same = Err(error),
                    },
                    _ => return Ok(false),
                }
            }
        }
        (Kind::Map, Kind::Map) => equal_maps(a, b, typing, budget),
        (Kind::Opaque, Kind::Opaque) => {
            match (a.downcast_ref::<CelOptional>(), b.downcast_ref::<CelOptional>()) {
                (Some(a), Some(b)) => match (a.inner(), b.inner()) {
                    (Some(a), Some(b)) => equal(a, b, typing, budget),
                    (a, b) => Ok(a.is_none() && b.is_none()),
                },
                _ => Ok(a.equals(b)),
            }
        }
        (Kind::NullType, Kind::NullType) => Ok(true),
        (left, right) if comparable(left, right) && !is_unreadable(a) => {
            // Comparing a short string takes no longer than comparing a number.
            budget.spend(budget::text(a).min(budget::text(b)).saturating_sub(ELEMENT))?;
            Ok(a.equals(b))
        }
        _ => match typing {
            Typing::Lenient => Ok(false),
            Typing::Strict if is_written_null(a) || is_written_null(b) => {
                if is_unreadable(a) || is_unreadable(b) {
                    Err(types_differ(a, b))
                } else {
                    Ok(false)
                }
            }
            Typing::Strict => Err(types_differ(a, b)),
        },
    }
}

/// Compares two maps. Looks up every key of each map in the other, so that a view notices keys that
/// differ only in letter case.
fn equal_maps(
    a: &dyn Val,
    b: &dyn Val,
    typing: Typing,
    budget: &Budget,
) -> Result<bool, ExecutionError> {
    let (Some(keys), Some(other_keys), Some(left), Some(right)) =
        (a.as_iterable(), b.as_iterable(), a.as_indexer(), b.as_indexer())
    else {
        return Ok(false);
    };
    let mut same = Ok(true);
    let mut differs = false;
    let mut other_keys = other_keys.iter();
    while let Some(key) = other_keys.next() {
        budget.spend(ELEMENT + budget::text(key))?;
        differs |= left.get(key).is_err();
    }
    let mut keys = keys.iter();
    while let Some(key) = keys.next() {
        budget.spend(ELEMENT + budget::text(key))?;
        match (left.get(key), right.get(key)) {
            (Ok(a), Ok(b)) => match equal(a.as_ref(), b.as_ref(), typing, budget) {
                Ok(equal) => differs |= !equal,
                Err(error) => same = Err(error),
            },
            _ => differs = true,
        }
    }
    if differs { Ok(false) } else { same }
}

fn is_written_null(value: &dyn Val) -> bool {
    value.get_type().kind() == Kind::NullType && value.downcast_ref::<WrittenNull>().is_some()
}

fn is_unreadable(value: &dyn Val) -> bool {
    value.get_type().kind() == Unreadable::cel_type().kind()
        && value.downcast_ref::<Unreadable>().is_some()
}

fn types_differ(a: &dyn Val, b: &dyn Val) -> ExecutionError {
    let types = [a, b].map(|value| value.get_type().name().to_owned());
    ExecutionError::no_such_overload("_==_", types.to_vec())
}

/// Returns true if values of these kinds can be equal or ordered. Callers check this first, because
/// the `cel` crate copies both values into its error.
pub(super) fn comparable(a: Kind, b: Kind) -> bool {
    let is_number = |kind| matches!(kind, Kind::Int | Kind::UInt | Kind::Double);
    a == b || (is_number(a) && is_number(b))
}

/// Returns true if a list, or the keys of a map, contain a value equal to `value`.
///
/// # Errors
/// If the container is neither a list nor a map, or if the budget is spent. Where types are strict,
/// also if no element is equal and an element other than null has another type than the value.
pub(super) fn contains(
    container: &dyn Val,
    value: &dyn Val,
    typing: Typing,
    budget: &Budget,
) -> Result<bool, ExecutionError> {
    if container.get_type().kind() == Kind::List
        && let Some(items) = container.as_iterable()
    {
        return any_equal(items, value, typing, budget);
    }
    budget.spend(budget::text(value))?;
    let Some(found) = container.as_container() else {
        return Err(ExecutionError::no_such_overload(
            "@in",
            vec![value.get_type().name().to_owned(), container.get_type().name().to_owned()],
        ));
    };
    if typing == Typing::Lenient && container.get_type().kind() == Kind::Map && !may_be_key(value) {
        return Ok(false);
    }
    let is_found = found.contains(value)?;
    match (typing, container.as_iterable()) {
        // A view already found or rejected a string key by its name.
        (Typing::Strict, Some(keys))
            if !is_found && (value.get_type().kind() != Kind::String || !is_view(container)) =>
        {
            any_equal(keys, value, typing, budget)
        }
        _ => Ok(is_found),
    }
}

/// Returns true if maps of the `cel` crate can have keys of this type.
fn may_be_key(value: &dyn Val) -> bool {
    let kind = value.get_type().kind();
    matches!(kind, Kind::Boolean | Kind::Int | Kind::UInt | Kind::Double | Kind::String)
}

/// Returns true if a map is a view, which has only string keys.
fn is_view(container: &dyn Val) -> bool {
    container.get_type().kind() == Kind::Map && container.downcast_ref::<CelMap>().is_none()
}

fn any_equal(
    items: &dyn Iterable,
    value: &dyn Val,
    typing: Typing,
    budget: &Budget,
) -> Result<bool, ExecutionError> {
    let mut items = items.iter();
    let mut found = Ok(false);
    while let Some(item) = items.next() {
        match equal(item, value, typing, budget) {
            Ok(false) => {}
            Ok(true) => return Ok(true),
            Err(_) if item.get_type().kind() == Kind::NullType && !is_unreadable(value) => {}
            Err(error) => found = Err(error),
        }
    }
    if budget.is_spent() { Err(budget::spent()) } else { found }
}

/// Checks that a missing key is missing for every reader.
///
/// # Errors
/// If the key's type differs from the type of the keys, or if the budget is spent. For a list, also
/// if the key is a fraction.
pub(super) fn absent(
    container: &dyn Val,
    key: &dyn Val,
    budget: &Budget,
) -> Result<(), ExecutionError> {
    let kind = key.get_type().kind();
    let is_whole = || key.downcast_ref::<CelDouble>().is_some_and(|key| key.inner().fract() == 0.0);
    match container.get_type().kind() {
        Kind::List if matches!(kind, Kind::Int | Kind::UInt) || is_whole() => Ok(()),
        Kind::Map if is_view(container) && kind == Kind::String => Ok(()),
        Kind::Map if !is_view(container) => {
            contains(container, key, Typing::Strict, budget).map(|_is_absent| ())
        }
        _ => {
            let types = [container, key].map(|value| value.get_type().name().to_owned());
            Err(ExecutionError::no_such_overload("_[?_]", types.to_vec()))
        }
    }
}

/// Checks that all readers read a value alike.
///
/// # Errors
/// If the value is unreadable.
pub(super) fn readable(value: &dyn Val) -> Result<(), ExecutionError> {
    if is_unreadable(value) {
        let kind = value.get_type().name().to_owned();
        return Err(ExecutionError::no_such_overload("type", vec![kind]));
    }
    Ok(())
}

/// Checks that an operand has members, so that no server reads members where the policy sees none.
/// The operand is `x` in `x.?y` and `x[?y]`, and in `x.y` if `x` is an optional value.
///
/// # Errors
/// If the value, or the content of an optional value, is neither an object nor, for an index, a
/// list.
pub(super) fn with_members(value: &dyn Val, is_index: bool) -> Result<(), ExecutionError> {
    let held = match value.downcast_ref::<CelOptional>().map(CelOptional::inner) {
        Some(None) => return Ok(()),
        Some(Some(held)) => held,
        None => value,
    };
    match held.get_type().kind() {
        Kind::Map => Ok(()),
        Kind::List if is_index => Ok(()),
        _ => Err(ExecutionError::no_such_overload(
            if is_index { "_[?_]" } else { "_?._" },
            vec![held.get_type().name().to_owned()],
        )),
    }
}
