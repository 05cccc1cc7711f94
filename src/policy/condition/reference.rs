//! The functions that a condition of an MCPRoute document is rewritten to call where the crate
//! differs from cel-go, with which the reference evaluates conditions.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, operators,
};
use cel::common::functions::Function as Overload;
use cel::common::types::{CelDouble, CelOptional, CelString, Kind};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::comparison::Typing;
use super::conversions;
use super::overloads::{Answer, Arguments, any, handed_on, item, wrong_arguments};

/// Called with the operand of `has`: a scalar has no members, and a list is an error.
pub(super) const PRESENCE: &str = "@presence";
/// Called with the operand of `.` that may be an optional value.
pub(super) const OPTIONAL_FIELDS: &str = "@optional_fields";
/// Called with an element of a list or a map behind `?`, which must be an optional value.
pub(super) const OPTIONAL_ENTRY: &str = "@optional_entry";
/// Called instead of `x[?key]` and `x.?key`.
pub(super) const OPTIONAL_ITEM: &str = "@reference_optional_item";
/// Called instead of `x[key]` where `x` may be an optional value.
pub(super) const ITEM: &str = "@reference_item";

/// The conversions whose argument is rewritten: the function, and what is called with its
/// argument.
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

/// Returns what is called with the argument of a conversion, if the function is one.
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

/// Returns true for a call of `or` or `orValue`, which becomes twice as deep.
pub(super) fn is_lazy(call: &CallExpr) -> bool {
    call.target.is_some() && matches!(call.func_name.as_str(), "or" | "orValue")
}

/// Returns `x.orValue(y)` or `x.or(y)` as an expression that evaluates `y` only if `x` has no
/// value; `None` for other calls. It is a comprehension over nothing, which binds `x` to a
/// name, as the macro `optMap` is.
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

/// Hands on a value whose member is looked for. A scalar counts as an absent optional value
/// where its member may be absent: in `has` (`is_test`) and in an optional value.
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

/// Checks that a key without a member is one that a list or a map may have.
///
/// # Errors
/// If it is none.
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

/// Hands on the argument of a conversion; a string, as it is read by the crate.
///
/// # Errors
/// If the reference cannot convert it.
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

/// Hands on the argument of `string`; a double, as the reference writes it.
fn doubles<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let value = handed_on(arguments, |_, _| Ok(()))?;
    match value.downcast_ref::<CelDouble>() {
        Some(double) => {
            Ok(CowVal::owned(CelString::from(conversions::text_of_double(*double.inner()))))
        }
        None => Ok(value),
    }
}
