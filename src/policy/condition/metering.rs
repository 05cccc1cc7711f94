//! Rewrites an expression so that it pays for what it does, before it does it.
//!
//! What an expression costs without a look at the arguments is known when it is
//! loaded ([`Condition::steps`](super::Condition::steps)). The rest depends on them:
//!
//! - A comprehension pays for all its elements before the first is looked at, each
//!   with the steps of its body ([`EACH`]).
//! - A function that reads or builds texts pays for their length ([`Price`]).
//! - Within a comprehension, values that are copied are paid for.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::comparison;
use super::functions::{self, Function, Price};
use super::overloads::{ADD, CALL, CONTENT, COPY, EACH, MATCHES, SCALAR, TEXT};

/// The name of the [`Budget`](super::Budget); none in an expression can be so.
pub(super) const BUDGET: &str = "@budget";
/// Operators that choose among values.
const FREE: [&str; 5] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::NOT_STRICTLY_FALSE,
];
const OPTIONAL_MEMBERS: [&str; 2] = [operators::OPT_INDEX, operators::OPT_SELECT];
const ARITHMETIC: [&str; 4] =
    [operators::SUBSTRACT, operators::MULTIPLY, operators::DIVIDE, operators::MODULO];

/// Makes an expression pay. Answers how many steps it takes beside what it pays for
/// on its way.
pub(super) fn meter(expr: &mut IdedExpr) -> u64 {
    Metering { loops: 0 }.expr(expr)
}

struct Metering {
    /// How many comprehensions there are around.
    loops: usize,
}

impl Metering {
    fn expr(&mut self, ided: &mut IdedExpr) -> u64 {
        match &mut ided.expr {
            Expr::Literal(_) | Expr::Ident(_) | Expr::Struct(_) | Expr::Unspecified => 0,
            Expr::Select(select) => self.expr(&mut select.operand),
            Expr::List(list) => list.elements.iter_mut().map(|element| self.copied(element)).sum(),
            Expr::Map(map) => {
                let entries = map.entries.iter_mut();
                entries
                    .map(|entry| match &mut entry.expr {
                        EntryExpr::StructField(field) => self.copied(&mut field.value),
                        EntryExpr::MapEntry(entry) => {
                            self.copied(&mut entry.key) + self.copied(&mut entry.value)
                        }
                    })
                    .sum()
            }
            Expr::Comprehension(comprehension) => {
                let mut outside = self.expr(&mut comprehension.iter_range);
                outside += self.expr(&mut comprehension.accu_init);
                self.loops += 1;
                let mut body = self.expr(&mut comprehension.loop_cond);
                body += self.expr(&mut comprehension.loop_step);
                self.loops -= 1;
                outside += self.expr(&mut comprehension.result);
                let each = Expr::Literal(LiteralValue::UInt((1 + body).into()));
                pays(EACH, &mut comprehension.iter_range, [each]);
                outside + 1
            }
            Expr::Call(call) => self.call(call),
        }
    }

    /// Something that is copied into a list, a map or an optional value.
    fn copied(&mut self, ided: &mut IdedExpr) -> u64 {
        let steps = self.expr(ided);
        if self.loops > 0 {
            pays(COPY, ided, []);
        }
        steps
    }

    fn call(&mut self, call: &mut CallExpr) -> u64 {
        let inside: u64 = call.target.iter_mut().map(|target| self.expr(target)).sum::<u64>()
            + call.args.iter_mut().map(|argument| self.expr(argument)).sum::<u64>();
        let name = call.func_name.as_str();
        if FREE.contains(&name) {
            return inside;
        }
        match functions::called(call) {
            Some((function, takes_target)) => self.function(call, function, takes_target),
            None => self.operator(call),
        }
        inside + 1
    }

    fn operator(&mut self, call: &mut CallExpr) {
        let is_repeated = self.loops > 0;
        if let Some(function) = comparison::function(call, is_repeated) {
            return take(call, function, []);
        }
        let name = call.func_name.as_str();
        match call.args.as_mut_slice() {
            // The accumulator of a macro, which is not copied.
            [IdedExpr { expr: Expr::Ident(name), .. }, _] if name.starts_with('@') => {}
            [_, _] if name == operators::ADD => take(call, ADD, []),
            [left, right] if ARITHMETIC.contains(&name) => {
                for operand in [left, right] {
                    if !is_literal(operand) {
                        wrap(SCALAR, operand, None, []);
                    }
                }
            }
            [_, key] if is_repeated && name == operators::INDEX => pays(TEXT, key, []),
            [operand, _] if is_repeated && OPTIONAL_MEMBERS.contains(&name) => {
                pays(COPY, operand, []);
            }
            _ => {}
        }
    }

    fn function(&self, call: &mut CallExpr, function: Function, takes_target: bool) {
        let how = match function.price {
            Price::Step => return,
            Price::Texts => TEXT,
            Price::Prefix if call.args.iter().all(is_literal) => return,
            Price::Prefix => TEXT,
            Price::Content => CONTENT,
            Price::Copies if self.loops == 0 => return,
            Price::Copies => COPY,
            Price::Pattern => return take(call, MATCHES, []),
            Price::Product => {
                let name = Expr::Literal(LiteralValue::String(function.name.into()));
                return take(call, CALL, [name]);
            }
        };
        let target = call.target.as_deref_mut().filter(|_| takes_target);
        target.into_iter().chain(&mut call.args).for_each(|operand| pays(how, operand, []));
    }
}

fn is_literal(ided: &IdedExpr) -> bool {
    matches!(ided.expr, Expr::Literal(_))
}

/// Makes a value, unless it is a literal, one that is paid for.
fn pays<const N: usize>(function: &str, ided: &mut IdedExpr, more: [Expr; N]) {
    if !is_literal(ided) {
        wrap(function, ided, Some(BUDGET), more);
    }
}

/// Calls a function of the budget, if it is given, a value and what else it takes.
fn wrap<const N: usize>(
    function: &str,
    ided: &mut IdedExpr,
    budget: Option<&str>,
    more: [Expr; N],
) {
    let id = ided.id;
    let here = |expr| IdedExpr { id, expr };
    let value = here(std::mem::take(&mut ided.expr));
    let budget = budget.map(|name| here(Expr::Ident(name.to_owned())));
    let args = budget.into_iter().chain([value]).chain(more.map(here)).collect();
    ided.expr = Expr::Call(CallExpr { func_name: function.to_owned(), target: None, args });
}

/// Turns a call into one of another function, which takes the budget, then what is
/// added, then what the call takes.
fn take<const N: usize>(call: &mut CallExpr, function: &str, added: [Expr; N]) {
    let new = |expr| IdedExpr { id: 0, expr };
    let budget = new(Expr::Ident(BUDGET.to_owned()));
    let target = call.target.take().map(|target| *target);
    let args = std::mem::take(&mut call.args);
    call.args = [budget].into_iter().chain(added.map(new)).chain(target).chain(args).collect();
    call.func_name = function.to_owned();
}
