//! The functions that rewritten expressions call. Each function receives the [`Budget`] first, and
//! charges the budget before any other work.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, Expr, IdedExpr};
use cel::common::functions::Function as Overload;
use cel::common::types::{
    CelBool, CelInt, CelList, CelOptional, CelString, CelUInt, DYN_TYPE, Kind, Type,
};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, DeclarationError, Env, ExecutionError, Value, extensions};

use super::budget::{self, Budget, ELEMENT};
use super::comparison::Typing;
use super::functions::{MEMBER, Price};
use super::pattern::Pattern;
use super::{ENV, comparison, reference};

/// Replaces `==`, if an operand may be a list or a map.
pub(super) const EQUALS: &str = "@equals";
/// Replaces `!=`, if an operand may be a list or a map.
pub(super) const DIFFERS: &str = "@differs";
/// Replaces `==`; the next two replace `!=` and `in`. All three are for strict types.
pub(super) const STRICT_EQUALS: &str = "@strict_equals";
pub(super) const STRICT_DIFFERS: &str = "@strict_differs";
pub(super) const STRICT_CONTAINS: &str = "@strict_contains";
/// Rejects an operand of `.` that has no members, where types are strict.
pub(super) const FIELDS: &str = "@fields";
/// Rejects an operand of `.`, or in the next function of `[]`, that has no members. Charges for a
/// copy of the operand.
pub(super) const COPY_FIELDS: &str = "@copy_fields";
pub(super) const COPY_ITEMS: &str = "@copy_items";
/// Replaces `<`; the next three replace `<=`, `>` and `>=`.
pub(super) const LESS: &str = "@less";
pub(super) const LESS_EQUALS: &str = "@less_equals";
pub(super) const GREATER: &str = "@greater";
pub(super) const GREATER_EQUALS: &str = "@greater_equals";
/// Replaces `x[?key]` and `x.?key`, where types are strict. The next function replaces `x[key]`, if
/// `x` may be an optional value. The `cel` crate would read every error of the key as an absent
/// member.
pub(super) const OPTIONAL_ITEM: &str = "@optional_item";
pub(super) const ITEM: &str = "@item";
/// Rejects an unreadable value, where types are strict.
pub(super) const READABLE: &str = "@readable";
/// Replaces `in`, if the value or an element may be a list or a map.
pub(super) const CONTAINS: &str = "@contains";
/// Replaces `matches`, and receives a compiled pattern.
pub(super) const MATCHES: &str = "@matches";
/// Replaces `+`.
pub(super) const ADD: &str = "@add";
/// Charges for a comprehension over a list or a map. The last argument is the number of steps for
/// each element.
pub(super) const EACH: &str = "@each";
/// Charges for reading a string.
pub(super) const TEXT: &str = "@text";
/// Charges for reading a value and everything in the value.
pub(super) const CONTENT: &str = "@content";
/// Charges for a copy of a value.
pub(super) const COPY: &str = "@copy";
/// Rejects an operand that arithmetic does not support. The `cel` crate would copy such an operand
/// into its error.
pub(super) const SCALAR: &str = "@scalar";
/// Charges for a function of the `cel` crate with a cost that depends on all arguments, and then
/// calls this function by its name.
pub(super) const CALL: &str = "@call";

/// Creates the CEL standard library with the strings extension and our own functions.
pub(super) fn environment() -> Result<Env, DeclarationError> {
    let mut env = Env::stdlib();
    env.add_extension(extensions::strings)?;
    declare(&mut env)?;
    reference::declare(&mut env)?;
    Ok(env)
}

fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    use Typing::{Lenient, Strict};

    let functions: [(&str, usize, Overload); 23] = [
        (EQUALS, 2, |arguments| paid(EQUALS, &arguments, |pair| pair.equal(Lenient))),
        (STRICT_EQUALS, 2, |arguments| paid(EQUALS, &arguments, |pair| pair.equal(Strict))),
        (DIFFERS, 2, |arguments| paid(DIFFERS, &arguments, |pair| pair.differ(Lenient))),
        (STRICT_DIFFERS, 2, |arguments| paid(DIFFERS, &arguments, |pair| pair.differ(Strict))),
        (CONTAINS, 2, |arguments| paid(CONTAINS, &arguments, |pair| pair.contains(Lenient))),
        (STRICT_CONTAINS, 2, |arguments| paid(CONTAINS, &arguments, |pair| pair.contains(Strict))),
        (LESS, 2, |arguments| paid(LESS, &arguments, |pair| compare(pair, Ordering::is_lt))),
        (LESS_EQUALS, 2, |arguments| {
            paid(LESS_EQUALS, &arguments, |pair| compare(pair, Ordering::is_le))
        }),
        (GREATER, 2, |arguments| paid(GREATER, &arguments, |pair| compare(pair, Ordering::is_gt))),
        (GREATER_EQUALS, 2, |arguments| {
            paid(GREATER_EQUALS, &arguments, |pair| compare(pair, Ordering::is_ge))
        }),
        (MATCHES, 2, |arguments| paid(MATCHES, &arguments, matches)),
        (ADD, 2, add),
        (EACH, 2, each),
        (TEXT, 1, |arguments| {
            handed_on(arguments, |value, budget| budget.spend(budget::text(value)))
        }),
        (CONTENT, 1, |arguments| handed_on(arguments, budget::content)),
        (COPY, 1, |arguments| handed_on(arguments, budget::copy)),
        (SCALAR, 1, |arguments| handed_on(arguments, scalar)),
        (OPTIONAL_ITEM, 2, |arguments| item(arguments, true, Strict)),
        (ITEM, 2, |arguments| item(arguments, false, Strict)),
        (READABLE, 1, |arguments| handed_on(arguments, |value, _| comparison::readable(value))),
        (FIELDS, 1, |arguments| {
            handed_on(arguments, |value, _| comparison::with_members(value, false))
        }),
        (COPY_FIELDS, 1, |arguments| {
            handed_on(arguments, |value, budget| {
                comparison::with_members(value, false).and_then(|()| budget::copy(value, budget))
            })
        }),
        (COPY_ITEMS, 1, |arguments| {
            handed_on(arguments, |value, budget| {
                comparison::with_members(value, true).and_then(|()| budget::copy(value, budget))
            })
        }),
    ];
    for (name, beside_the_budget, function) in functions {
        env.add_overload(name, name, any(1 + beside_the_budget), function)?;
    }
    for operands in 1..=MOST_OPERANDS {
        let id = format!("{CALL}{operands}");
        env.add_overload(CALL, &id, any(2 + operands), call)?;
    }
    Ok(())
}

/// Returns the types of this number of arguments, each of any type.
pub(super) fn any(arguments: usize) -> Vec<Type> {
    (0..arguments).map(|_| DYN_TYPE).collect()
}

pub(super) type Arguments<'b, 'v> = Vec<CowVal<'b, 'v>>;
pub(super) type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// The operands of a function of two values, and the budget.
struct Pair<'a> {
    left: &'a dyn Val,
    right: &'a dyn Val,
    budget: &'a Budget,
}

impl Pair<'_> {
    fn equal(&self, typing: Typing) -> Result<Option<bool>, ExecutionError> {
        comparison::equal_operands(self.left, self.right, typing, self.budget).map(Some)
    }

    fn differ(&self, typing: Typing) -> Result<Option<bool>, ExecutionError> {
        let equal = comparison::equal_operands(self.left, self.right, typing, self.budget)?;
        Ok(Some(!equal))
    }

    /// Returns true if the right value contains the left value.
    fn contains(&self, typing: Typing) -> Result<Option<bool>, ExecutionError> {
        comparison::contains(self.right, self.left, typing, self.budget).map(Some)
    }
}

/// Calls a function of two values with the budget. The function returns `None` if it does not
/// support the types of the values, which is an evaluation error.
fn paid<'b, 'v>(
    name: &str,
    arguments: &Arguments<'b, 'v>,
    function: impl for<'a> Fn(&Pair<'a>) -> Result<Option<bool>, ExecutionError>,
) -> Answer<'b, 'v> {
    if let [budget, left, right] = arguments.as_slice()
        && let Some(budget) = budget.downcast_ref::<Budget>()
    {
        let (left, right) = (left.as_ref(), right.as_ref());
        if let Some(value) = function(&Pair { left, right, budget })? {
            return Ok(CowVal::owned(CelBool::from(value)));
        }
    }
    wrong_arguments(name, arguments)
}

pub(super) fn wrong_arguments<T>(
    name: &str,
    arguments: &[CowVal<'_, '_>],
) -> Result<T, ExecutionError> {
    let values = arguments.iter().filter(|value| value.get_type() != Budget::cel_type());
    let types = values.map(|value| value.get_type().name().to_owned()).collect();
    Err(ExecutionError::no_such_overload(name.trim_start_matches('@'), types))
}

/// Compares two values, if their types are comparable.
fn compare(pair: &Pair<'_>, holds: fn(Ordering) -> bool) -> Result<Option<bool>, ExecutionError> {
    let Pair { left, right, budget } = pair;
    if !comparison::comparable(left.get_type().kind(), right.get_type().kind()) {
        return Ok(None);
    }
    let Some(comparer) = left.as_comparer() else { return Ok(None) };
    budget.spend(budget::text(*left).min(budget::text(*right)))?;
    comparer.compare(*right).map(|ordering| Some(holds(ordering)))
}

fn matches(pair: &Pair<'_>) -> Result<Option<bool>, ExecutionError> {
    let (text, pattern) = (pair.left.downcast_ref::<CelString>(), pair.right.downcast_ref());
    let (Some(text), Some(pattern)) = (text, pattern) else { return Ok(None) };
    let pattern: &Pattern = pattern;
    pair.budget.spend(pattern.cost(text.inner()))?;
    Ok(Some(pattern.is_match(text.inner())))
}

/// Adds two values. Adding strings or lists copies them.
#[expect(clippy::needless_pass_by_value, reason = "the signature of an overload")]
fn add<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let [budget, left, right] = arguments.as_slice() else {
        return wrong_arguments(ADD, &arguments);
    };
    let (left, right) = (left.as_ref(), right.as_ref());
    let (Some(budget), Some(adder)) = (budget.downcast_ref::<Budget>(), left.as_adder()) else {
        return wrong_arguments(ADD, &arguments);
    };
    // The `cel` crate would copy operands that it cannot add into the error.
    let (kind, other) = (left.get_type().kind(), right.get_type().kind());
    let is_time = |kind| matches!(kind, Kind::Timestamp | Kind::Duration);
    let can_be_added = comparison::comparable(kind, other) || (is_time(kind) && is_time(other));
    if !can_be_added {
        return wrong_arguments(ADD, &arguments);
    }
    for value in [left, right] {
        if is_list_or_map(value) {
            let elements = value.as_sizer().map_or(0, budget::elements);
            budget.spend(elements.saturating_mul(ELEMENT))?;
        }
        budget.spend(budget::text(value))?;
        budget::copy(value, budget)?;
    }
    adder.add(right).map(|sum| CowVal::Owned(sum.into_owned()))
}

/// Charges for a comprehension over a value, and returns the value.
fn each<'b, 'v>(mut arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let Some(steps) = arguments.pop() else { return wrong_arguments(EACH, &arguments) };
    let steps = steps.downcast_ref::<CelUInt>().map_or(1, |steps| *steps.inner());
    handed_on(arguments, |range, budget| {
        if is_list_or_map(range) {
            let elements = range.as_sizer().map_or(0, budget::elements);
            budget.spend_steps(elements.saturating_mul(steps))?;
        }
        budget::copy(range, budget)
    })
}

fn is_list_or_map(value: &dyn Val) -> bool {
    matches!(value.get_type().kind(), Kind::List | Kind::Map)
}

/// Charges for a value by `pay`, and returns the value.
pub(super) fn handed_on<'b, 'v>(
    mut arguments: Arguments<'b, 'v>,
    pay: impl Fn(&dyn Val, &Budget) -> Result<(), ExecutionError>,
) -> Answer<'b, 'v> {
    let (Some(value), Some(budget)) = (arguments.pop(), arguments.pop()) else {
        return wrong_arguments("budget", &arguments);
    };
    let Some(budget) = budget.downcast_ref::<Budget>() else {
        return wrong_arguments("budget", &[value]);
    };
    // Calculating the cost takes time, too, so stop first if the budget is spent.
    budget.spend(0)?;
    pay(value.as_ref(), budget)?;
    Ok(value)
}

/// Returns a member of a list or a map. If `is_optional` is true, returns an optional value.
pub(super) fn item<'b, 'v>(
    mut arguments: Arguments<'b, 'v>,
    is_optional: bool,
    typing: Typing,
) -> Answer<'b, 'v> {
    let (Some(key), Some(operand), Some(budget)) =
        (arguments.pop(), arguments.pop(), arguments.pop())
    else {
        return wrong_arguments(ITEM, &arguments);
    };
    let Some(budget) = budget.downcast_ref::<Budget>() else {
        return wrong_arguments(ITEM, &[operand, key]);
    };
    let how = (is_optional, typing);
    match operand {
        CowVal::Borrowed(operand) => item_of(operand, key.as_ref(), how, budget),
        CowVal::Owned(operand) => item_of(operand.as_ref(), key.as_ref(), how, budget)
            .map(|item| CowVal::Owned(item.into_owned())),
    }
}

fn item_of<'b, 'v>(
    operand: &'b (dyn Val + 'v),
    key: &dyn Val,
    (is_optional, typing): (bool, Typing),
    budget: &Budget,
) -> Answer<'b, 'v> {
    let (held, is_optional) = match operand.downcast_ref::<CelOptional>().map(CelOptional::inner) {
        Some(None) => return Ok(CowVal::owned(CelOptional::none())),
        Some(Some(held)) => (held, true),
        None => (operand, is_optional),
    };
    let Some(members) = held.as_indexer() else {
        if is_optional && typing == Typing::Lenient {
            return Ok(CowVal::owned(CelOptional::none()));
        }
        let types = [held, key].map(|value| value.get_type().name().to_owned());
        return Err(ExecutionError::no_such_overload("_[_]", types.to_vec()));
    };
    match members.get(key) {
        Ok(item) if is_optional => Ok(CowVal::owned(CelOptional::of(item.into_owned()))),
        Err(ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_)) if is_optional => {
            match typing {
                Typing::Strict => comparison::absent(held, key, budget)?,
                Typing::Lenient => reference::absent(held, key)?,
            }
            Ok(CowVal::owned(CelOptional::none()))
        }
        item => item,
    }
}

/// Checks that arithmetic supports a value. The `cel` crate copies all other values into an error.
fn scalar(value: &dyn Val, _costs_nothing: &Budget) -> Result<(), ExecutionError> {
    let calculable =
        [Kind::Int, Kind::UInt, Kind::Double, Kind::Timestamp, Kind::Duration, Kind::Boolean];
    if calculable.contains(&value.get_type().kind()) {
        return Ok(());
    }
    let kind = value.get_type().name().to_owned();
    Err(ExecutionError::no_such_overload("arithmetic", vec![kind]))
}

/// The maximum number of operands of a function with [`Price::Product`].
const MOST_OPERANDS: usize = 4;
const OPERANDS: [&str; MOST_OPERANDS] = ["@0", "@1", "@2", "@3"];

/// The calls of functions with [`Price::Product`], by name and number of operands.
static CALLS: LazyLock<HashMap<(&str, usize), IdedExpr>> = LazyLock::new(|| {
    let functions = MEMBER.iter().filter(|function| function.price == Price::Product);
    let arities = functions
        .flat_map(|function| function.arguments().map(move |arguments| (function.name, arguments)));
    arities.map(|(name, arguments)| ((name, 1 + arguments), member_call(name, arguments))).collect()
});

fn member_call(name: &str, arguments: usize) -> IdedExpr {
    let here = |expr| IdedExpr { id: 0, expr };
    let mut operands = OPERANDS.iter().map(|name| here(Expr::Ident((*name).to_owned())));
    let target = operands.next().map(Box::new);
    let args = operands.take(arguments).collect();
    here(Expr::Call(CallExpr { func_name: name.to_owned(), target, args }))
}

/// The operands of one call.
struct Operands<'a, 'b, 'v>(&'a [CowVal<'b, 'v>]);

impl VariableResolver for Operands<'_, '_, '_> {
    fn resolve<'c>(&'c self, variable: &str) -> Option<CowVal<'c, 'c>> {
        let index = OPERANDS.iter().position(|name| *name == variable)?;
        self.0.get(index).map(|value| CowVal::Borrowed(value.as_ref()))
    }
}

/// Calls a function of the `cel` crate. Only an expression can call such a function.
#[expect(clippy::needless_pass_by_value, reason = "the signature of an overload")]
fn call<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let [budget, name, operands @ ..] = arguments.as_slice() else {
        return wrong_arguments(CALL, &arguments);
    };
    let (budget, name) = (budget.downcast_ref::<Budget>(), name.downcast_ref::<CelString>());
    let (Some(budget), Some(name), Ok(env)) = (budget, name, ENV.as_ref()) else {
        return wrong_arguments(CALL, &arguments);
    };
    let name = name.inner();
    let Some(expr) = CALLS.get(&(name, operands.len())) else {
        return wrong_arguments(name, operands);
    };
    pay_for_product(budget, name, operands)?;
    let operands = Operands(operands);
    let mut context = Context::with_env(Arc::clone(env));
    context.set_variable_resolver(&operands);
    let value = Value::resolve_val(expr, &context)?;
    match own(value.as_ref()) {
        Some(value) => Ok(CowVal::Owned(value)),
        None => wrong_arguments(name, &[value]),
    }
}

/// Charges for the operands that a function reads. Then charges for the result or for repeated
/// reading, which only reading the operands can determine.
fn pay_for_product(
    budget: &Budget,
    name: &str,
    operands: &[CowVal<'_, '_>],
) -> Result<(), ExecutionError> {
    let text = |index: usize| {
        let value = operands.get(index).and_then(|value| value.downcast_ref::<CelString>());
        value.map(CelString::inner).unwrap_or_default()
    };
    budget.spend(0)?;
    for operand in operands {
        budget.spend(budget::text(operand.as_ref()))?;
    }
    let occurrences = || match text(1) {
        "" => 1 + text(0).chars().count(),
        part => text(0).matches(part).count(),
    };
    let more = match name {
        "replace" => occurrences().saturating_mul(text(2).len()),
        "split" => (1 + occurrences()).saturating_mul(ELEMENT as usize),
        "join" => {
            let elements = operands.first().and_then(|list| list.as_sizer());
            operands.first().map_or(Ok(()), |list| budget::content(list.as_ref(), budget))?;
            elements.map_or(0, |list| budget::elements(list) as usize).saturating_mul(text(1).len())
        }
        // The search compares at each character, from the start.
        _ => text(0).len().saturating_mul(text(1).len().max(size_of::<char>())),
    };
    budget.spend(more as u64)
}

/// Returns an owned copy of the result of a function with [`Price::Product`].
fn own<'v>(value: &dyn Val) -> Option<Box<dyn Val + 'v>> {
    Some(match value.get_type().kind() {
        Kind::String => {
            Box::new(CelString::from(value.downcast_ref::<CelString>()?.inner().to_owned()))
        }
        Kind::Int => Box::new(CelInt::from(*value.downcast_ref::<CelInt>()?.inner())),
        Kind::List => {
            let items = value.downcast_ref::<CelList>()?.inner().iter();
            let items: Vec<_> = items.map(|item| own(item.as_ref())).collect::<Option<_>>()?;
            Box::new(CelList::from(items))
        }
        _ => return None,
    })
}
