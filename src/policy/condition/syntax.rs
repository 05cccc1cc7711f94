//! Checks of an expression that need only its syntax.

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};
use cel::{Env, ParseErrors};

use super::ConditionError;

/// Returns true if the value of an expression is never a boolean, whatever data the expression
/// reads.
pub(super) fn is_never_boolean(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(literal) => !matches!(literal, LiteralValue::Boolean(_)),
        Expr::List(_) | Expr::Map(_) => true,
        Expr::Call(call) => [
            operators::ADD,
            operators::SUBSTRACT,
            operators::MULTIPLY,
            operators::DIVIDE,
            operators::MODULO,
            operators::NEGATE,
        ]
        .contains(&call.func_name.as_str()),
        _ => false,
    }
}

/// Returns the byte offset of a comment that extends to the end of the expression. Without this
/// comment, the expression has an identical syntax tree.
pub(super) fn trailing_comment(env: &Env, source: &str, expr: &IdedExpr) -> Option<usize> {
    source.match_indices("//").map(|(at, _)| at).find(|at| {
        let before = source.get(..*at).unwrap_or_default();
        env.parser().parse(before).is_ok_and(|before| before == *expr)
    })
}

/// Returns an expression such as `a.b.c` as a string. Returns `None` for any other expression.
pub(super) fn qualified_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => {
            Some(format!("{}.{}", qualified_name(&select.operand.expr)?, select.field))
        }
        _ => None,
    }
}

pub(super) fn syntax_errors(source: &str, errors: ParseErrors) -> Vec<ConditionError> {
    let at = |(line, column): (isize, isize)| {
        let before: usize = source
            .split_inclusive('\n')
            .take(usize::try_from(line - 1).unwrap_or(0))
            .map(str::len)
            .sum();
        let text = source.get(before..).unwrap_or_default();
        let characters = usize::try_from(column - 1).unwrap_or(0);
        let within = text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
        before + within
    };
    let mut errors: Vec<ConditionError> = errors
        .errors
        .into_iter()
        .map(|error| ConditionError { offset: at(error.pos), message: plainly(&error.msg) })
        .collect();
    errors.dedup();
    errors
}

/// Shortens a message of the parser. The full message lists all tokens that the parser expects.
fn plainly(message: &str) -> String {
    let message = message.trim_start_matches("Syntax error: ");
    if message.contains("'<EOF>'") {
        return "the condition ends too early: something is missing here".to_owned();
    }
    let unexpected = [
        "mismatched input ",
        "extraneous input ",
        "token recognition error at: ",
        "no viable alternative at input ",
    ]
    .into_iter()
    .find_map(|kind| message.strip_prefix(kind));
    // Replace messages about the parser's internals, which do not help the author.
    if ["Incomplete", "OtherError", "ParseError", "No `"].iter().any(|own| message.contains(own)) {
        return "this is not an expression in CEL".to_owned();
    }
    match unexpected.map(|rest| rest.split(" expecting ").next().unwrap_or(rest)) {
        Some(input) => format!("unexpected `{}`", input.trim_matches(['\'', ' '])),
        None => message.to_owned(),
    }
}
