//! Literals that a native policy must not contain, because no value from a client equals them.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

use crate::json::Json;

/// Returns an error message if the literal is a number that readers round differently.
pub(super) fn inexact(literal: &LiteralValue) -> Option<String> {
    let largest = Json::MAX_SAFE_INTEGER;
    let number = match literal {
        LiteralValue::Int(int) => Json::integer(*int.inner()),
        LiteralValue::UInt(int) => match i64::try_from(*int.inner()) {
            Ok(int) => Json::integer(int),
            Err(_) => Json::Inexact(f64::MAX),
        },
        LiteralValue::Double(double) => Json::double(*double.inner()),
        _ => return None,
    };
    matches!(number, Json::Inexact(_)).then(|| {
        format!(
            "a number beyond ±{largest} equals none that a client sends, because readers of JSON \
             round such numbers differently"
        )
    })
}

/// Returns an error message if the call is an `in` over a list with literals of two types. If a
/// value equals no literal, its type differs from some of them, which is an evaluation error.
pub(super) fn of_two_types(call: &CallExpr) -> Option<String> {
    let [_, IdedExpr { expr: Expr::List(list), .. }] = call.args.as_slice() else { return None };
    if call.func_name != operators::IN {
        return None;
    }
    let mut types = list.elements.iter().filter_map(|element| type_of(&element.expr));
    let first = types.next()?;
    let other = types.find(|other| *other != first)?;
    Some(format!(
        "the list holds literals of two types, {first} and {other}, so that a value of either type \
         may be an evaluation error: choose the list by type, as in \
         `type(args.x) == string ? args.x in [\"a\"] : args.x in [1]`"
    ))
}

/// Returns the type of a literal other than `null`.
fn type_of(expr: &Expr) -> Option<&'static str> {
    Some(match expr {
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(_) => "boolean",
            LiteralValue::Bytes(_) => "bytes",
            LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => "number",
            LiteralValue::String(_) => "string",
            LiteralValue::Null => return None,
        },
        Expr::List(_) => "list",
        Expr::Map(_) => "map",
        _ => return None,
    })
}
