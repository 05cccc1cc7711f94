//! Rewrites an expression to charge the budget for each operation before the operation runs.
//!
//! Loading calculates the fixed cost of an expression, which [`Condition`](super::Condition) keeps.
//! The rest depends on the arguments:
//!
//! - A comprehension charges for all its elements before the first iteration, each with the steps
//!   of its body ([`EACH`]).
//! - A function that reads or builds strings charges for their length ([`Price`]).
//! - A copy of a value that the expression created, and that is not a view of the request, charges
//!   for its size ([`COPY`]).

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};

use super::attribute::{AttributePath, PLACE_PREFIX, Variable};
use super::comparison::{self, Typing};
use super::functions::{self, Function, Price};
use super::intrinsics::{
    ADD, CALL, CONTENT, COPY, COPY_FIELDS, COPY_ITEMS, EACH, FIELDS, ITEM, MATCHES, OPTIONAL_ITEM,
    READABLE, SCALAR, TEXT,
};
use super::reference;
use crate::policy::Dialect;

/// The name of the [`Budget`](super::Budget) in rewritten expressions. No policy can write this
/// name.
pub(super) const BUDGET: &str = "@budget";

/// The name of the policy's own `null` in rewritten expressions. No policy can write this name.
pub(super) const NULL: &str = "@null";

/// Operators that choose among values. These count as steps only within a comprehension.
const FREE: [&str; 5] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::NOT_STRICTLY_FALSE,
];
/// Operators that access a member of their first operand.
const MEMBERS: [&str; 3] = [operators::INDEX, operators::OPT_INDEX, operators::OPT_SELECT];
/// Functions that accept every type, and so would accept an unreadable value.
const OF_ANY_TYPE: [&str; 2] = ["type", "optional.ofNonZeroValue"];
/// Operators for which the `cel` crate may copy the operands into an error.
const ARITHMETIC: [&str; 4] =
    [operators::SUBSTRACT, operators::MULTIPLY, operators::DIVIDE, operators::MODULO];

/// Rewrites an expression to charge the budget. Returns the fixed number of steps, and the places
/// that the expression reads.
pub(super) fn meter(expr: &mut IdedExpr, dialect: Dialect) -> (u64, Vec<AttributePath>) {
    let typing = dialect.typing();
    let mut metering = Metering { typing, variables: Vec::new(), places: Vec::new() };
    (metering.expr(expr), metering.places)
}

/// A form of access to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberKind {
    /// `x.name`
    Field,
    /// `x["name"]` and `x.?name`
    NamedItem,
    /// `x[key]`
    Item,
}

struct Metering {
    typing: Typing,
    /// The variables of the surrounding comprehensions.
    variables: Vec<String>,
    places: Vec<AttributePath>,
}

impl Metering {
    /// Returns true within a comprehension, which repeats the expression for each element.
    fn is_repeated(&self) -> bool {
        !self.variables.is_empty()
    }

    fn expr(&mut self, ided: &mut IdedExpr) -> u64 {
        match &mut ided.expr {
            Expr::Literal(LiteralValue::Null) if self.typing == Typing::Strict => {
                ided.expr = Expr::Ident(NULL.to_owned());
                0
            }
            Expr::Literal(_) | Expr::Ident(_) | Expr::Struct(_) | Expr::Unspecified => 0,
            Expr::Select(select) => {
                let steps = self.expr(&mut select.operand);
                self.members(&mut select.operand, select.test, MemberKind::Field);
                self.members_of_reference(select);
                if let Some(place) = self.place(select) {
                    ided.expr = place;
                }
                steps + u64::from(self.is_repeated())
            }
            Expr::List(list) => {
                let steps = list.elements.iter_mut().map(|element| self.copied(element)).sum();
                let optional = &list.optional_indices;
                let elements = list.elements.iter_mut().enumerate();
                elements
                    .filter(|(index, _)| optional.contains(index))
                    .for_each(|(_, element)| self.optional_entry(element));
                steps
            }
            Expr::Map(map) => {
                let entries = map.entries.iter_mut();
                entries
                    .map(|entry| match &mut entry.expr {
                        EntryExpr::StructField(field) => self.copied(&mut field.value),
                        EntryExpr::MapEntry(entry) => {
                            let steps = self.copied(&mut entry.key) + self.copied(&mut entry.value);
                            if entry.optional {
                                self.optional_entry(&mut entry.value);
                            }
                            steps
                        }
                    })
                    .sum()
            }
            Expr::Comprehension(comprehension) => {
                let mut outside = self.expr(&mut comprehension.iter_range);
                outside += self.copied(&mut comprehension.accu_init);
                let around = self.variables.len();
                self.variables
                    .extend([&comprehension.accu_var, &comprehension.iter_var].map(Clone::clone));
                self.variables.extend(comprehension.iter_var2.clone());
                // The loop condition only reads the accumulator, so its steps are free.
                self.expr(&mut comprehension.loop_cond);
                let body = self.expr(&mut comprehension.loop_step);
                // `optMap` is a comprehension over an empty list, and `result` is its body.
                outside += self.expr(&mut comprehension.result);
                self.variables.truncate(around);
                let each = Expr::Literal(LiteralValue::UInt((1 + body).into()));
                pays(EACH, &mut comprehension.iter_range, [each]);
                outside + 1
            }
            Expr::Call(call) => {
                let steps = self.call(call);
                if self.typing == Typing::Lenient
                    && let Some(lazily) = reference::lazily(call)
                {
                    ided.expr = lazily;
                }
                steps
            }
        }
    }

    /// Wraps the operand of a member access. The wrapper charges for a copy of the operand, if the
    /// access copies.
    ///
    /// Where types are strict, the wrapper rejects an operand without members. Without this check,
    /// an optional access (`is_optional`) or an optional operand would yield no member and no
    /// error.
    fn members(&self, operand: &mut IdedExpr, is_optional: bool, kind: MemberKind) {
        let may_be_copied = self.may_be_copied(&operand.expr);
        let is_variable = self.is_variable(&operand.expr);
        let is_strict = self.typing == Typing::Strict && !is_variable;
        let is_paid = may_be_copied && (kind != MemberKind::Field || self.is_repeated());
        let function = match (is_strict && (is_optional || may_be_copied), is_paid, kind) {
            (false, false, _) => return,
            (false, true, _) => COPY,
            (true, _, MemberKind::Item) => COPY_ITEMS,
            (true, true, MemberKind::Field | MemberKind::NamedItem) => COPY_FIELDS,
            (true, false, MemberKind::Field | MemberKind::NamedItem) => FIELDS,
        };
        pays(function, operand, []);
    }

    /// Returns true for a variable of the condition that no comprehension hides.
    fn is_variable(&self, expr: &Expr) -> bool {
        matches!(expr, Expr::Ident(name) if Variable::named(name).is_some() && !self.variables.contains(name))
    }

    /// Wraps the operand of a member access to evaluate as in Agent Router, where types are
    /// lenient.
    fn members_of_reference(&self, select: &mut SelectExpr) {
        if self.typing == Typing::Strict {
            return;
        }
        let operand = &mut select.operand;
        let is_variable = self.is_variable(&operand.expr);
        if select.test && !is_variable {
            wrap(reference::PRESENCE, operand);
        } else if !select.test && self.may_be_copied(&operand.expr) {
            wrap(reference::OPTIONAL_FIELDS, operand);
        }
    }

    /// Rejects a plain value in an optional entry, where types are lenient.
    fn optional_entry(&self, entry: &mut IdedExpr) {
        if self.typing == Typing::Lenient {
            wrap(reference::OPTIONAL_ENTRY, entry);
        }
    }

    /// Returns the place that a member of a variable, or of a place, selects.
    fn place(&mut self, select: &mut SelectExpr) -> Option<Expr> {
        let Expr::Ident(name) = &mut select.operand.expr else { return None };
        if select.test || self.variables.contains(name) {
            return None;
        }
        if let Some(variable) = Variable::named(name) {
            *name = format!("{PLACE_PREFIX}{}", self.places.len());
            self.places.push(AttributePath::new(variable));
        }
        // The place is the last one, because only one chain of names grows at a time.
        let place = self.places.last_mut().filter(|_| name.starts_with(PLACE_PREFIX))?;
        place.push(std::mem::take(&mut select.field));
        Some(Expr::Ident(std::mem::take(name)))
    }

    /// Rewrites an expression that a list, a map or an optional value copies.
    fn copied(&mut self, ided: &mut IdedExpr) -> u64 {
        let steps = self.expr(ided);
        // `map` and `filter` start with an empty list, which costs nothing.
        if !matches!(&ided.expr, Expr::List(list) if list.elements.is_empty()) {
            pays(COPY, ided, []);
        }
        steps
    }

    fn call(&mut self, call: &mut CallExpr) -> u64 {
        let inside: u64 = call.target.iter_mut().map(|target| self.expr(target)).sum::<u64>()
            + call.args.iter_mut().map(|argument| self.expr(argument)).sum::<u64>();
        let name = call.func_name.as_str();
        if FREE.contains(&name) {
            // Operators that a macro adds are part of the cost of the element.
            let is_written = !call.args.iter().any(|argument| self.is_accumulator(argument));
            return inside + u64::from(self.is_repeated() && is_written);
        }
        match functions::called(call) {
            Some((function, takes_target)) => {
                if self.typing == Typing::Strict && OF_ANY_TYPE.contains(&function.name) {
                    call.args.iter_mut().for_each(|argument| pays(READABLE, argument, []));
                }
                Self::function(call, function, takes_target);
                if self.typing == Typing::Lenient
                    && let (Some(conversion), [argument]) =
                        (reference::conversion(function.name), call.args.as_mut_slice())
                {
                    wrap(conversion, argument);
                }
            }
            None => self.operator(call),
        }
        inside + 1
    }

    fn operator(&self, call: &mut CallExpr) {
        if let Some(function) = comparison::function(call, self.typing, self.is_repeated()) {
            return take(call, function, []);
        }
        let name = call.func_name.as_str();
        match call.args.as_mut_slice() {
            // The accumulator of a macro is not copied.
            [accumulator, _] if self.is_accumulator(accumulator) => {}
            [_, _] if name == operators::ADD => take(call, ADD, []),
            [left, right] if ARITHMETIC.contains(&name) => {
                pays(SCALAR, left, []);
                pays(SCALAR, right, []);
            }
            [operand, key] if MEMBERS.contains(&name) => {
                let is_name = matches!(key.expr, Expr::Literal(LiteralValue::String(_)));
                let kind = if is_name { MemberKind::NamedItem } else { MemberKind::Item };
                let is_optional = name != operators::INDEX;
                let may_be_copied = self.may_be_copied(&operand.expr);
                self.members(operand, is_optional, kind);
                pays(TEXT, key, []);
                let hides_errors = match self.typing {
                    Typing::Strict => may_be_copied || (is_optional && !is_name),
                    Typing::Lenient => may_be_copied || is_optional,
                };
                let (optional_item, item) = match self.typing {
                    Typing::Strict => (OPTIONAL_ITEM, ITEM),
                    Typing::Lenient => (reference::OPTIONAL_ITEM, reference::ITEM),
                };
                if hides_errors {
                    take(call, if is_optional { optional_item } else { item }, []);
                }
            }
            _ => {}
        }
    }

    /// Returns true if the expression is an internal variable of a macro. No policy can write its
    /// name.
    fn is_accumulator(&self, ided: &IdedExpr) -> bool {
        matches!(&ided.expr, Expr::Ident(name) if name.starts_with('@') && self.variables.contains(name))
    }

    /// Returns true if accessing a member may copy the operand. This is so for an optional value or
    /// a value that the expression created. Variables of the request are views, and types have no
    /// members.
    fn may_be_copied(&self, operand: &Expr) -> bool {
        match operand {
            Expr::Ident(name) => self.variables.contains(name),
            Expr::Select(select) => self.may_be_copied(&select.operand.expr),
            Expr::Call(_) | Expr::List(_) | Expr::Map(_) | Expr::Comprehension(_) => true,
            Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => false,
        }
    }

    fn function(call: &mut CallExpr, function: Function, takes_target: bool) {
        let how = match function.price {
            Price::Step => return,
            Price::Texts => TEXT,
            Price::Prefix if call.args.iter().all(is_literal) => return,
            Price::Prefix => TEXT,
            Price::Content => CONTENT,
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

/// Wraps a value in a call of a function that charges the budget. `more` holds further arguments.
/// Literals cost nothing, and so stay as they are.
fn pays<const N: usize>(function: &str, ided: &mut IdedExpr, more: [Expr; N]) {
    if !is_literal(ided) {
        called_with(function, ided, more);
    }
}

/// Wraps a value, even a literal, in a call of a function that receives the budget.
fn wrap(function: &str, ided: &mut IdedExpr) {
    called_with(function, ided, []);
}

fn called_with<const N: usize>(function: &str, ided: &mut IdedExpr, more: [Expr; N]) {
    let id = ided.id;
    let here = |expr| IdedExpr { id, expr };
    let value = here(std::mem::take(&mut ided.expr));
    let budget = here(Expr::Ident(BUDGET.to_owned()));
    let args = [budget, value].into_iter().chain(more.map(here)).collect();
    ided.expr = Expr::Call(CallExpr { func_name: function.to_owned(), target: None, args });
}

/// Redirects a call to another function. Its arguments are the budget, `added`, and the target and
/// arguments of the call.
fn take<const N: usize>(call: &mut CallExpr, function: &str, added: [Expr; N]) {
    let new = |expr| IdedExpr { id: 0, expr };
    let budget = new(Expr::Ident(BUDGET.to_owned()));
    let target = call.target.take().map(|target| *target);
    let args = std::mem::take(&mut call.args);
    call.args = [budget].into_iter().chain(added.map(new)).chain(target).chain(args).collect();
    call.func_name = function.to_owned();
}
