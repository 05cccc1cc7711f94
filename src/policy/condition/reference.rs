//! Functions that give conditions of an `MCPRoute` the results of cel-go.
//!
//! Agent Router evaluates conditions with cel-go. Loading rewrites an expression to call these
//! functions where the `cel` crate differs from cel-go.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, operators,
};
use cel::common::functions::Function as Overload;
use cel::common::types::{CelDouble, CelOptional, CelString, Kind};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::comparison::Typing;
use super::conversions;
use super::intrinsics::{Answer, Arguments, any, handed_on, item, wrong_arguments};

/// Receives the operand of `has`: a scalar has no members. A list is an error.
pub(super) const PRESENCE: &str = "@presence";
/// Receives the operand of `.`, if the operand may be an optional value.
pub(super) const OPTIONAL_FIELDS: &str = "@optional_fields";
/// Receives an element of a list or a map with `?`, which must be an optional value.
pub(super) const OPTIONAL_ENTRY: &str = "@optional_entry";
/// Replaces `x[?key]` and `x.?key`.
pub(super) const OPTIONAL_ITEM: &str = "@reference_optional_item";
/// Replaces `x[key]`, if `x` may be an optional value.
pub(super) const ITEM: &str = "@reference_item";

/// The conversions with a rewritten argument: the name of the conversion, and the name and
/// implementation of the function around its argument.
const CONVERSIONS: [(&str, &str, Overload); 5] = [
    ("timestamp", "@to_timestamp", |arguments| {
        texts(arguments, |text| conversions::is_timestamp(text).then(|| text.to_owned()))
    }),
    ("duration", "@to_duration", |arguments| texts(arguments, conversions::exact_duration)),
    ("double", "@to_double", |arguments| {
        texts(arguments, |text| conversions::is_double(text).then(|| text.to_owned()))
    }),
    ("uint", "@to_uint", |arguments| {
        texts(arguments, |text| (!text.starts_with('+')).then(|| text.to_owned()))
    }),
    ("string", "@to_string", doubles),
];

/// Returns the name of the function for the argument of a conversion. Returns `None` if the
/// function is no such conversion.
pub(super) fn conversion(function: &str) -> Option<&'static str> {
    let found = CONVERSIONS.iter().find(|(name, ..)| *name == function);
    found.map(|(_, instead, _)| *instead)
}

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    let functions: [(&str, usize, Overload); 5] = [
        (PRESENCE, 1, |arguments| members(arguments, true)),
        (OPTIONAL_FIELDS, 1, |arguments| members(arguments, false)),
        (OPTIONAL_ENTRY, 1, |arguments| handed_on(arguments, |value, _| optional(value))),
        (OPTIONAL_ITEM, 2, |arguments| item(arguments, true, Typing::Lenient)),
        (ITEM, 2, |arguments| item(arguments, false, Typing::Lenient)),
    ];
    let conversions = CONVERSIONS.iter().map(|(_, name, function)| (*name, 1, *function));
    for (name, beside_the_budget, function) in functions.into_iter().chain(conversions) {
        env.add_overload(name, name, any(1 + beside_the_budget), function)?;
    }
    Ok(())
}

/// Returns true for a call of `or` or `orValue`, because rewriting doubles the depth of such a
/// call.
pub(super) fn is_lazy(call: &CallExpr) -> bool {
    call.target.is_some() && matches!(call.func_name.as_str(), "or" | "orValue")
}

/// Rewrites `x.orValue(y)` or `x.or(y)` to evaluate `y` only if `x` has no value. Returns `None`
/// for other calls.
///
/// The result is a comprehension over an empty list, which binds `x` to a name. The macro `optMap`
/// has the same form.
pub(super) fn lazily(call: &mut CallExpr) -> Option<Expr> {
    const BOUND: &str = "@bound";

    let new = |expr| IdedExpr { id: 0, expr };
    let bound = || new(Expr::Ident(BOUND.to_owned()));
    let of_bound = |function: &str| {
        let target = Some(Box::new(bound()));
        new(Expr::Call(CallExpr { func_name: function.to_owned(), target, args: Vec::new() }))
    };
    if !is_lazy(call) {
        return None;
    }
    let value = if call.func_name == "or" { bound() } else { of_bound("value") };
    let (target, other) = (call.target.take()?, call.args.pop()?);
    let choice = CallExpr {
        func_name: operators::CONDITIONAL.to_owned(),
        target: None,
        args: vec![of_bound("hasValue"), value, other],
    };
    Some(Expr::Comprehension(Box::new(ComprehensionExpr {
        iter_range: new(Expr::List(ListExpr::new(Vec::new()))),
        iter_var: "@unused".to_owned(),
        iter_var2: None,
        accu_var: BOUND.to_owned(),
        accu_init: *target,
        loop_cond: new(Expr::Literal(LiteralValue::Boolean(false.into()))),
        loop_step: bound(),
        result: new(Expr::Call(choice)),
    })))
}

/// Returns the operand of a member access. A scalar becomes an absent optional value where its
/// member may be absent: in `has` (`is_test`), and in an optional value.
fn members<'b, 'v>(arguments: Arguments<'b, 'v>, is_test: bool) -> Answer<'b, 'v> {
    let value = handed_on(arguments, |_, _| Ok(()))?;
    let (kind, is_optional) = match value.downcast_ref::<CelOptional>().map(CelOptional::inner) {
        Some(None) => return Ok(value),
        Some(Some(held)) => (held.get_type().kind(), true),
        None => (value.get_type().kind(), false),
    };
    match kind {
        Kind::Map => Ok(value),
        Kind::List if is_optional => {
            Err(ExecutionError::no_such_overload("_._", vec!["list".to_owned()]))
        }
        Kind::List => Ok(value),
        _ if is_test || is_optional => Ok(CowVal::owned(CelOptional::none())),
        _ => Ok(value),
    }
}

fn optional(value: &dyn Val) -> Result<(), ExecutionError> {
    if value.downcast_ref::<CelOptional>().is_some() {
        return Ok(());
    }
    let kind = value.get_type().name().to_owned();
    Err(ExecutionError::no_such_overload("?", vec![kind]))
}

/// Checks that a missing key has a type that keys of the list or map may have.
///
/// # Errors
/// If the key has another type.
pub(super) fn absent(held: &dyn Val, key: &dyn Val) -> Result<(), ExecutionError> {
    let is_whole = || key.downcast_ref::<CelDouble>().is_some_and(|key| key.inner().fract() == 0.0);
    let is_key = match (held.get_type().kind(), key.get_type().kind()) {
        (Kind::List, Kind::Double) => is_whole(),
        (Kind::List, Kind::Int | Kind::UInt)
        | (Kind::Map, Kind::Boolean | Kind::Int | Kind::UInt | Kind::Double | Kind::String) => true,
        _ => false,
    };
    if is_key {
        return Ok(());
    }
    let types = [held, key].map(|value| value.get_type().name().to_owned());
    Err(ExecutionError::no_such_overload("_[?_]", types.to_vec()))
}

/// Returns the argument of a conversion. A string is converted to a form that the `cel` crate
/// reads.
///
/// # Errors
/// If Agent Router cannot convert the string.
fn texts<'b, 'v>(
    arguments: Arguments<'b, 'v>,
    read: impl Fn(&str) -> Option<String>,
) -> Answer<'b, 'v> {
    let value = handed_on(arguments, |_, _| Ok(()))?;
    let Some(text) = value.downcast_ref::<CelString>().map(CelString::inner) else {
        return Ok(value);
    };
    match read(text) {
        Some(read) => Ok(CowVal::owned(CelString::from(read))),
        None => wrong_arguments("conversion", &[value]),
    }
}

/// Returns the argument of `string`. A double becomes a string in the form that Agent Router
/// writes.
fn doubles<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let value = handed_on(arguments, |_, _| Ok(()))?;
    match value.downcast_ref::<CelDouble>() {
        Some(double) => {
            Ok(CowVal::owned(CelString::from(conversions::text_of_double(*double.inner()))))
        }
        None => Ok(value),
    }
}
