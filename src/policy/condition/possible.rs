//! What a condition may say of calls whose parameters are not known.
//!
//! Only what reads parameters is unknown. Operators of truth are decided here, from what
//! their operands may be; each of these is evaluated once, and if that asks for what is
//! not known, it may be anything.

use std::sync::Arc;

use cel::common::ast::{Expr, IdedExpr, operators};
use cel::common::types::CelBool;
use cel::{Context, Value};

use super::{Condition, Parameters, Scope};
use crate::policy::Facts;

/// What a condition may say: at least one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Possible {
    /// It may be true.
    pub truth: bool,
    /// It may be false.
    pub falsity: bool,
    /// It may have no boolean value, or cost too much.
    pub failure: bool,
}

impl Possible {
    /// Nothing is known.
    pub const ANY: Self = Self { truth: true, falsity: true, failure: true };
    /// It is true.
    pub const TRUE: Self = Self { truth: true, falsity: false, failure: false };
    /// It is false.
    pub const FALSE: Self = Self { truth: false, falsity: true, failure: false };
    const FAILURE: Self = Self { truth: false, falsity: false, failure: true };

    fn not(self) -> Self {
        Self { truth: self.falsity, falsity: self.truth, ..self }
    }

    /// What is false makes it false, even beside a failure (CEL, "Logical Operators").
    pub(in crate::policy) fn and(self, other: Self) -> Self {
        let not_false = |one: Self| one.truth || one.failure;
        Self {
            truth: self.truth && other.truth,
            falsity: self.falsity || other.falsity,
            failure: (self.failure && not_false(other)) || (other.failure && not_false(self)),
        }
    }

    pub(in crate::policy) fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    /// What either may be.
    fn union(self, other: Self) -> Self {
        Self {
            truth: self.truth || other.truth,
            falsity: self.falsity || other.falsity,
            failure: self.failure || other.failure,
        }
    }
}

impl Condition {
    /// What it may say of a call of the tool, depending on its parameters.
    pub fn possible(&self, facts: &Facts<'_>) -> Possible {
        let scope = Scope::new(self, facts, Parameters::Unknown);
        if facts.budget.spend_steps(self.steps).is_err() {
            return Possible::FAILURE;
        }
        let mut context = Context::with_env(Arc::clone(&self.env));
        context.set_variable_resolver(&scope);
        let possible = possible(&self.expr, &context, &scope);
        if facts.budget.is_spent() { Possible::FAILURE } else { possible }
    }
}

fn possible(ided: &IdedExpr, context: &Context<'_, '_>, scope: &Scope<'_>) -> Possible {
    let of = |ided| possible(ided, context, scope);
    if let Expr::Call(call) = &ided.expr {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND, [left, right]) => return of(left).and(of(right)),
            (operators::LOGICAL_OR, [left, right]) => return of(left).or(of(right)),
            (operators::LOGICAL_NOT, [operand]) => return of(operand).not(),
            (operators::CONDITIONAL, [condition, yes, no]) => {
                let condition = of(condition);
                let yes = if condition.truth { of(yes) } else { Possible::default() };
                let no = if condition.falsity { of(no) } else { Possible::default() };
                let failed = Possible { failure: condition.failure, ..Possible::default() };
                return yes.union(no).union(failed);
            }
            _ => {}
        }
    }
    scope.unknown.take();
    let value = Value::resolve_val(ided, context);
    if scope.unknown.take() {
        return Possible::ANY;
    }
    match value.as_ref().ok().and_then(|value| value.downcast_ref::<CelBool>()) {
        Some(value) if *value.inner() => Possible::TRUE,
        Some(_) => Possible::FALSE,
        None => Possible::FAILURE,
    }
}
