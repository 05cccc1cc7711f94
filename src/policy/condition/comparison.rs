//! Comparisons: which the crate may do itself, and how we do the others.

use cel::ExecutionError;
use cel::common::ast::{CallExpr, Expr, operators};
use cel::common::types::{CelOptional, Kind};
use cel::common::value::Val;

use super::meter::{self, Budget, ELEMENT};
use super::overloads;

/// The function of ours that does a comparison instead of the crate, if one does.
///
/// The crate compares its lists and maps with no others. Where an operand could
/// be a view, `==` goes to a function of ours; where one is a scalar literal it need
/// not, and stays as fast as it was. `<` and its like copy both operands into the
/// error if their types differ, which a list of a caller's multiplies; those
/// functions look at the types first. Within a comprehension even a literal may be
/// looked for in a list that was never paid for.
pub(super) fn function(call: &CallExpr, is_repeated: bool) -> Option<&'static str> {
    let [left, right] = call.args.as_slice() else { return None };
    let scalars = is_scalar(&left.expr) || is_scalar(&right.expr);
    Some(match call.func_name.as_str() {
        operators::EQUALS if !scalars => overloads::EQUALS,
        operators::NOT_EQUALS if !scalars => overloads::DIFFERS,
        operators::LESS => overloads::LESS,
        operators::LESS_EQUALS => overloads::LESS_EQUALS,
        operators::GREATER => overloads::GREATER,
        operators::GREATER_EQUALS => overloads::GREATER_EQUALS,
        operators::IN
            if (is_repeated || !is_scalar(&left.expr)) && !is_list_of_scalars(&right.expr) =>
        {
            overloads::CONTAINS
        }
        _ => return None,
    })
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

fn is_list_of_scalars(expr: &Expr) -> bool {
    matches!(expr, Expr::List(list) if list.elements.iter().all(|element| is_scalar(&element.expr)))
}

/// Equality of lists and maps of any kind, views and the crate's own. Once the
/// budget is spent, nothing is equal.
pub(super) fn equal(a: &dyn Val, b: &dyn Val, budget: &Budget) -> bool {
    if budget.spend(ELEMENT + meter::text(a).min(meter::text(b))).is_err() {
        return false;
    }
    match (a.get_type().kind(), b.get_type().kind()) {
        (Kind::List, Kind::List) => {
            let (Some(left), Some(right)) = (a.as_iterable(), b.as_iterable()) else {
                return false;
            };
            let (mut left, mut right) = (left.iter(), right.iter());
            loop {
                match (left.next(), right.next()) {
                    (None, None) => return true,
                    (Some(a), Some(b)) if equal(a, b, budget) => {}
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
                if budget.spend(ELEMENT + meter::text(key)).is_err() {
                    return false;
                }
                same &= left.get(key).is_ok();
            }
            let mut keys = keys.iter();
            while let Some(key) = keys.next() {
                if budget.spend(ELEMENT + meter::text(key)).is_err() {
                    return false;
                }
                same &= match (left.get(key), right.get(key)) {
                    (Ok(a), Ok(b)) => equal(a.as_ref(), b.as_ref(), budget),
                    _ => false,
                };
            }
            same
        }
        (Kind::Opaque, Kind::Opaque) => {
            match (a.downcast_ref::<CelOptional>(), b.downcast_ref::<CelOptional>()) {
                (Some(a), Some(b)) => match (a.inner(), b.inner()) {
                    (Some(a), Some(b)) => equal(a, b, budget),
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
pub(super) fn contains(
    container: &dyn Val,
    value: &dyn Val,
    budget: &Budget,
) -> Result<bool, ExecutionError> {
    if container.get_type().kind() == Kind::List
        && let Some(items) = container.as_iterable()
    {
        let mut items = items.iter();
        while let Some(item) = items.next() {
            if equal(item, value, budget) {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    budget.spend(meter::text(value))?;
    match container.as_container() {
        Some(container) => container.contains(value),
        None => Err(ExecutionError::no_such_overload(
            "@in",
            vec![value.get_type().name().to_owned(), container.get_type().name().to_owned()],
        )),
    }
}
