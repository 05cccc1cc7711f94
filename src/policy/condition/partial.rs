//! Partial evaluation of conditions for calls with unknown parameters.
//!
//! Only expressions that read parameters are unknown. This module combines the possible results of
//! the operands of `&&`, `
//!
//! `, `!` and `?:`. Each other expression is evaluated once; if evaluation reads unknown data, any
//! result is possible.

use std::sync::Arc;

use cel::common::ast::{Expr, IdedExpr, operators};
use cel::{Context, Value};

use super::attribute::{AttributePath, PLACE_PREFIX, Variable};
use super::check::PATTERN_PREFIX;
use super::inputs::RequestField;
use super::instrument::{BUDGET, NULL};
use super::{Activation, Condition, Failure, Outcome, Parameters, boolean, numbered};
use crate::policy::EvalContext;

/// The possible results of a condition. At least one field is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutcomeSet {
    /// True if the condition may be true.
    pub truth: bool,
    /// True if the condition may be false.
    pub falsity: bool,
    /// True if the condition may fail to be evaluated to a boolean.
    pub failure: bool,
    /// True if the condition may exceed the cost limit.
    pub spent: bool,
}

impl OutcomeSet {
    const NONE: Self = Self { truth: false, falsity: false, failure: false, spent: false };
    /// Any result: nothing is known about the condition.
    pub const ANY: Self = Self { truth: true, falsity: true, failure: true, ..Self::NONE };
    /// The condition is true.
    pub const TRUE: Self = Self { truth: true, ..Self::NONE };
    /// The condition is false.
    pub const FALSE: Self = Self { falsity: true, ..Self::NONE };
    /// The condition cannot be evaluated to a boolean.
    pub const FAILURE: Self = Self { failure: true, ..Self::NONE };
    /// The condition exceeds the cost limit.
    const SPENT: Self = Self { spent: true, ..Self::NONE };

    /// Returns the result with this boolean value.
    pub const fn of(value: bool) -> Self {
        if value { Self::TRUE } else { Self::FALSE }
    }

    fn not(self) -> Self {
        Self { truth: self.falsity, falsity: self.truth, ..self }
    }

    /// Combines two results. A false operand makes the conjunction false, even if the other fails
    /// (CEL, "Logical Operators").
    pub(in crate::policy) fn and(self, other: Self) -> Self {
        let not_false = |one: Self| one.truth || one.failure || one.spent;
        Self {
            truth: self.truth && other.truth,
            falsity: self.falsity || other.falsity,
            failure: (self.failure && (other.truth || other.failure))
                || (other.failure && self.truth),
            spent: (self.spent && not_false(other)) || (other.spent && not_false(self)),
        }
    }

    pub(in crate::policy) fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    /// Returns the results that at least one of both may have.
    pub(in crate::policy) fn union(self, other: Self) -> Self {
        Self {
            truth: self.truth || other.truth,
            falsity: self.falsity || other.falsity,
            failure: self.failure || other.failure,
            spent: self.spent || other.spent,
        }
    }
}

impl From<&Outcome> for OutcomeSet {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::True => Self::TRUE,
            Outcome::False => Self::FALSE,
            Outcome::Failed(Failure::Spent) => Self::SPENT,
            Outcome::Failed(_) => Self::FAILURE,
        }
    }
}

impl Condition {
    /// Returns the possible results for a call of the facts' target, for any parameters.
    pub fn possible(&self, facts: &EvalContext<'_>) -> OutcomeSet {
        let scope = Activation::new(self, facts, Parameters::Unknown);
        if facts.budget.spend_steps(self.steps).is_err() {
            return OutcomeSet::SPENT;
        }
        let mut context = Context::with_env(Arc::clone(&self.env));
        context.set_variable_resolver(&scope);
        let possible = possible(&self.expr, &context, &scope, self.unwraps());
        if facts.budget.is_spent() { OutcomeSet::SPENT } else { possible }
    }
}

impl Activation<'_, '_> {
    /// Returns true if the first operand that evaluation reaches and that can fail is unknown.
    /// Evaluating the expression would then reveal no more.
    fn begins_unknown(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Ident(name) => self.is_unknown(name),
            Expr::Select(select) => self.begins_unknown(&select.operand.expr),
            Expr::Call(call) if is_strict(&call.func_name) => {
                let operands = call.args.iter().chain(call.target.as_deref());
                let mut can_fail = operands.filter(|operand| !self.is_there(&operand.expr));
                can_fail.next().is_some_and(|operand| self.begins_unknown(&operand.expr))
            }
            Expr::Comprehension(comprehension) => {
                let starts_empty = match &comprehension.accu_init.expr {
                    Expr::List(list) => list.elements.is_empty(),
                    expr => self.is_there(expr),
                };
                starts_empty && self.begins_unknown(&comprehension.iter_range.expr)
            }
            _ => false,
        }
    }

    fn is_unknown(&self, name: &str) -> bool {
        let place = numbered(PLACE_PREFIX, name, self.places).map(AttributePath::variable);
        match place.or_else(|| Variable::named(name)) {
            Some(Variable::Args | Variable::Meta | Variable::Request(RequestField::Params)) => true,
            Some(Variable::Request(_)) | None => false,
        }
    }

    /// Returns true if an operand has its value without evaluation.
    fn is_there(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Literal(_) => true,
            Expr::Ident(name) => name == BUDGET || name == NULL || name.starts_with(PATTERN_PREFIX),
            _ => false,
        }
    }
}

/// Returns true if a function evaluates its operands in order and fails if one operand fails.
fn is_strict(function: &str) -> bool {
    ![
        operators::LOGICAL_AND,
        operators::LOGICAL_OR,
        operators::CONDITIONAL,
        operators::NOT_STRICTLY_FALSE,
    ]
    .contains(&function)
}

/// Returns the possible results of an expression. If `unwraps` is true, an optional boolean counts
/// as a boolean. Operands of `&&`, `
///
/// ` and `!` never unwrap.
fn possible(
    ided: &IdedExpr,
    context: &Context<'_, '_>,
    scope: &Activation<'_, '_>,
    unwraps: bool,
) -> OutcomeSet {
    let of = |ided| possible(ided, context, scope, false);
    let result = |ided| possible(ided, context, scope, unwraps);
    if let Expr::Call(call) = &ided.expr {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND, [left, right]) => return of(left).and(of(right)),
            (operators::LOGICAL_OR, [left, right]) => return of(left).or(of(right)),
            (operators::LOGICAL_NOT, [operand]) => return of(operand).not(),
            (operators::CONDITIONAL, [condition, yes, no]) => {
                let condition = of(condition);
                let yes = if condition.truth { result(yes) } else { OutcomeSet::default() };
                let no = if condition.falsity { result(no) } else { OutcomeSet::default() };
                let failed = OutcomeSet { truth: false, falsity: false, ..condition };
                return yes.union(no).union(failed);
            }
            _ => {}
        }
    }
    if scope.begins_unknown(&ided.expr) {
        return OutcomeSet::ANY;
    }
    scope.notes.unknown.take();
    let value = Value::resolve_val(ided, context);
    if scope.notes.unknown.take() {
        return OutcomeSet::ANY;
    }
    let boolean = value.as_ref().ok().and_then(|value| boolean(value.as_ref(), unwraps));
    boolean.map_or(OutcomeSet::FAILURE, OutcomeSet::of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::Claims;
    use crate::head::Head;
    use crate::mcp::TargetKind;
    use crate::policy::{Backend, Budget, CallTarget, Dialect};

    fn possible(source: &str, steps: usize) -> OutcomeSet {
        let condition = Condition::compile(source, Dialect::Native)
            .unwrap_or_else(|errors| panic!("{source}: {errors:?}"));
        let claims = Claims::from_json(
            &serde_json::from_str(r#"{"scope":"x y","level":3,"teams":["a","b"]}"#).unwrap(),
        );
        let (head, budget) = (Head::default(), Budget::of(steps));
        let subject = CallTarget::plain(Backend::Named("b"), TargetKind::Tool, "t");
        condition.possible(&EvalContext::new(
            Dialect::Native,
            &head,
            Some(&claims),
            &subject,
            &budget,
        ))
    }

    #[test]
    fn what_reads_parameters_is_open_and_nothing_else_is() {
        const FALSE_OR_FAILS: OutcomeSet = OutcomeSet { truth: false, ..OutcomeSet::ANY };
        const TRUE_OR_FAILS: OutcomeSet = OutcomeSet { falsity: false, ..OutcomeSet::ANY };

        for (source, expected) in [
            ("args.x == 1", OutcomeSet::ANY),
            ("1 == args.x", OutcomeSet::ANY),
            ("args.x", OutcomeSet::ANY),
            ("has(args.x)", OutcomeSet::ANY),
            ("meta.x == 1", OutcomeSet::ANY),
            ("args.t.matches('^a') && true", OutcomeSet::ANY),
            ("args.t.startsWith('a')", OutcomeSet::ANY),
            ("args.l.all(x, x == 1)", OutcomeSet::ANY),
            ("size(args) == 0", OutcomeSet::ANY),
            ("args == {}", OutcomeSet::ANY),
            ("'x' in args", OutcomeSet::ANY),
            ("args['x'] == 1", OutcomeSet::ANY),
            ("args.?x.orValue(1) == 1", OutcomeSet::ANY),
            ("request.mcp.params.arguments.x == 1", OutcomeSet::ANY),
            ("request.mcp['params'] == {}", OutcomeSet::ANY),
            ("request.mcp.tool == 't'", OutcomeSet::TRUE),
            ("request.mcp.method == 'tools/call' && request.mcp.backend == 'b'", OutcomeSet::TRUE),
            ("has(request.mcp.params)", OutcomeSet::ANY),
            ("request.auth.jwt.claims.level == 3", OutcomeSet::TRUE),
            ("request.auth.jwt.claims.level == 4", OutcomeSet::FALSE),
            ("request.auth.jwt.claims.missing == 4", OutcomeSet::FAILURE),
            ("'x' in request.auth.jwt.scopes", OutcomeSet::TRUE),
            ("request.auth.jwt.claims.level == 4 && args.x == 1", OutcomeSet::FALSE),
            ("args.x == 1 && request.auth.jwt.claims.level == 4", OutcomeSet::FALSE),
            ("request.auth.jwt.claims.level == 3 && args.x == 1", OutcomeSet::ANY),
            ("request.auth.jwt.claims.level == 3 || args.x == 1", OutcomeSet::TRUE),
            ("!(request.auth.jwt.claims.level == 3 || args.x == 1)", OutcomeSet::FALSE),
            ("request.auth.jwt.claims.missing == 1 && args.x == 1", FALSE_OR_FAILS),
            ("request.auth.jwt.claims.missing == 1 || args.x == 1", TRUE_OR_FAILS),
            ("request.auth.jwt.claims.level == 3 ? args.x : true", OutcomeSet::ANY),
            ("request.auth.jwt.claims.level == 4 ? args.x : true", OutcomeSet::TRUE),
            ("args.x ? true : request.auth.jwt.claims.missing", TRUE_OR_FAILS),
            ("request.auth.jwt.claims.teams.exists(t, t == 'a' || t == args.t)", OutcomeSet::TRUE),
            ("request.auth.jwt.claims.teams.all(t, t == args.t)", OutcomeSet::ANY),
            ("request.auth.jwt.claims.missing == args.x", OutcomeSet::FAILURE),
            ("args.x == request.auth.jwt.claims.missing", OutcomeSet::ANY),
            ("request.auth.jwt.claims.level", OutcomeSet::FAILURE),
        ] {
            assert_eq!(possible(source, 1000), expected, "{source}");
        }
        assert_eq!(possible("request.mcp.tool == 't'", 0), OutcomeSet::SPENT);
    }
}
