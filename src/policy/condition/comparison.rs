//! Comparisons: which the crate may do itself, and how we do the others.

use std::any::Any;

use cel::ExecutionError;
use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};
use cel::common::traits::{Iterable, Zeroer};
use cel::common::types::{CelDouble, CelMap, CelNull, CelOptional, Kind, Type};
use cel::common::value::{StaticVal, Val};

use super::meter::{self, Budget, ELEMENT};
use super::notes::Unreadable;
use super::overloads;
use crate::policy::Dialect;

/// How values of two types compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typing {
    /// They are an evaluation error: a server may read one of them as the other.
    Strict,
    /// They are not equal, as in CEL.
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

/// Returns the function of ours that does a comparison instead of the crate, if one does.
///
/// The crate compares its lists and maps with no others, and values of two types are not
/// equal to it. Where types are strict, each `==`, `!=` and `in` goes to a function of ours.
/// Elsewhere it does where an operand could be a view; where one is a scalar literal it need
/// not, and stays as fast as it was. `<` and its like copy both operands into the error if
/// their types differ, which a list of a caller's multiplies; those functions look at the
/// types first. Within a comprehension even a literal may be looked for in a list that was
/// never paid for.
pub(super) fn function(call: &CallExpr, typing: Typing, is_repeated: bool) -> Option<&'static str> {
    let [left, right] = call.args.as_slice() else { return None };
    let scalars = is_scalar(&left.expr) || is_scalar(&right.expr);
    Some(match (call.func_name.as_str(), typing) {
        (operators::EQUALS, Typing::Strict) => overloads::STRICT_EQUALS,
        (operators::NOT_EQUALS, Typing::Strict) => overloads::STRICT_DIFFERS,
        (operators::IN, Typing::Strict) => overloads::STRICT_CONTAINS,
        (operators::EQUALS, Typing::Lenient) if !scalars => overloads::EQUALS,
        (operators::NOT_EQUALS, Typing::Lenient) if !scalars => overloads::DIFFERS,
        (operators::IN, Typing::Lenient)
            if (is_repeated || !is_scalar(&left.expr) || is_null(&left.expr))
                && !is_list_of_scalars(&right.expr) =>
        {
            overloads::CONTAINS
        }
        (operators::LESS, _) => overloads::LESS,
        (operators::LESS_EQUALS, _) => overloads::LESS_EQUALS,
        (operators::GREATER, _) => overloads::GREATER,
        (operators::GREATER_EQUALS, _) => overloads::GREATER_EQUALS,
        _ => return None,
    })
}

/// The `null` that a policy writes where types are strict, which may be compared with values
/// of any type. One that a client writes may not: servers read it as a default.
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

/// Whether `args.?x` is compared with a literal, which is always false.
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

/// Compares values of any kind, views and the crate's own. What differs for certain makes
/// the whole differ, whatever the types of the rest.
///
/// # Errors
/// If the budget is spent; and where types are strict, if nothing differs for certain and
/// two values are of different types, or one is unreadable.
pub(super) fn equal(
    a: &dyn Val,
    b: &dyn Val,
    typing: Typing,
    budget: &Budget,
) -> Result<bool, ExecutionError> {
    budget.spend(ELEMENT)?;
    equal_operands(a, b, typing, budget)
}

/// Compares the operands of an operator, which is paid for already.
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
            // A short text takes no longer than a number.
            budget.spend(meter::text(a).min(meter::text(b)).saturating_sub(ELEMENT))?;
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

/// Looks up every key of either map in the other, so that a view meets the keys that differ
/// from it in letters' case only.
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
        budget.spend(ELEMENT + meter::text(key))?;
        differs |= left.get(key).is_err();
    }
    let mut keys = keys.iter();
    while let Some(key) = keys.next() {
        budget.spend(ELEMENT + meter::text(key))?;
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

/// Whether values of these kinds can be equal, or one less than the other. Asked
/// first because the crate copies both values into the error if they cannot.
pub(super) fn comparable(a: Kind, b: Kind) -> bool {
    let is_number = |kind| matches!(kind, Kind::Int | Kind::UInt | Kind::Double);
    a == b || (is_number(a) && is_number(b))
}

/// Whether a list, or a map's keys, hold a value equal to `value`.
///
/// # Errors
/// If it is neither, if the budget is spent; and where types are strict, if none is equal and
/// one that is not null has another type than the value.
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
    budget.spend(meter::text(value))?;
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
        // A key that is found in a view by its name is not looked for again.
        (Typing::Strict, Some(keys))
            if !is_found && (value.get_type().kind() != Kind::String || !is_view(container)) =>
        {
            any_equal(keys, value, typing, budget)
        }
        _ => Ok(is_found),
    }
}

/// Returns true if some map of the crate has keys of this type.
fn may_be_key(value: &dyn Val) -> bool {
    let kind = value.get_type().kind();
    matches!(kind, Kind::Boolean | Kind::Int | Kind::UInt | Kind::Double | Kind::String)
}

/// Whether a map has keys of no type but string.
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
    if budget.is_spent() { Err(meter::spent()) } else { found }
}

/// Checks that a key without a member can have none for any reader.
///
/// # Errors
/// If the key has another type than the keys of the list or map, or is a fraction where a list
/// has numbers; and if the budget is spent.
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

/// Passes on a value unless readers may take it for different ones.
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

/// Passes on a value whose members are looked for, unless a server could read members where
/// there are none: `x` in `x.?y`, `x[?y]`, and in `x.y` where `x` is an optional value.
///
/// # Errors
/// If the value, or what the optional holds, is neither an object nor, for an index, a list.
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
