//! CEL conditions. Loading a policy compiles and checks conditions; evaluation reads the borrowed
//! arguments of a call.
//!
//! Only this module and its children name the `cel` crate. The module works around three properties
//! of the crate, for their cost or risk:
//!
//! - The crate reports an unknown function or variable only during evaluation. Loading walks the
//!   tree instead ([`check`]), and rejects unknown names.
//! - The crate's `matches` compiles its pattern at each call. Here, patterns must be literals.
//!   Loading compiles them with a size limit, and our own `matches` receives the compiled pattern.
//! - The crate converts variables to owned values, and compares lists and maps only with its own
//!   types. Our lists and maps are views of the JSON text ([`view`]), and our own functions for
//!   `==`, `!=` and `in` compare both.

mod attribute;
mod budget;
mod check;
mod comparison;
mod conversions;
mod functions;
mod inputs;
mod instrument;
mod intrinsics;
mod list;
mod literals;
mod notes;
mod partial;
mod pattern;
mod reference;
mod syntax;
mod view;

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::common::types::{CelBool, CelOptional};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, DeclarationError, Env, ExecutionError, Value};

use self::attribute::{AttributePath, AttributeValue, Params, RequestView, Variable};
pub use self::budget::Budget;
pub use self::inputs::Inputs;
use self::notes::{Doubt, Notes};
pub use self::partial::OutcomeSet;
pub use self::pattern::Pattern;
use self::view::Writer;
use super::{Dialect, EvalContext};
use crate::json::LazyObject;
use crate::mcp::{Arguments, Call, Problem, TargetKind};

/// The maximum length of an expression, in bytes.
pub const MAX_EXPRESSION_BYTES: usize = 4096;

/// The environment that all conditions share. Building an environment costs as much as ten
/// evaluations.
static ENV: LazyLock<Result<Arc<Env>, DeclarationError>> =
    LazyLock::new(|| intrinsics::environment().map(Arc::new));

/// A condition over a call and its request (`when` and `cel`).
///
/// Invariant: every name in the expression exists and every pattern is compiled. The expression is
/// small enough for evaluation not to exhaust the stack.
pub struct Condition {
    source: String,
    env: Arc<Env>,
    expr: IdedExpr,
    /// The fixed cost in steps, which evaluation charges in advance.
    steps: u64,
    patterns: Vec<Pattern>,
    places: Vec<AttributePath>,
    dialect: Dialect,
    reads: Inputs,
    suspicions: Vec<Suspicion>,
}

/// An error in an expression, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionError {
    /// The byte offset in the expression.
    pub offset: usize,
    /// The description of the error, with its fix.
    pub message: String,
}

/// A part of an expression that can be evaluated, but that its author probably did not intend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// The kind of suspected mistake.
    pub kind: SuspicionKind,
    /// The position, and the message for the author.
    pub error: ConditionError,
}

/// A kind of suspected mistake in an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuspicionKind {
    /// A header name contains upper case letters, so that no header matches.
    HeaderCapitals,
    /// The expression compares a tool, prompt or backend as the client sent the name. In a Deny
    /// rule, a different spelling evades the comparison.
    NameAsSent,
    /// The expression compares such a name by `!=`.
    NameExcluded,
}

/// The outcome of evaluating a condition for a call.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The condition is true.
    True,
    /// The condition is false.
    False,
    /// The condition cannot be evaluated, or its value is not a boolean.
    Failed(Failure),
}

/// The reason that a condition has no boolean value.
///
/// The text may repeat arguments. Show the text only to people who have the arguments already, and
/// never log the text.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The conditions of the request exceed the cost limit.
    Spent,
    /// The condition reads the resource, but the call names a template, which stands for many.
    Template,
    /// The condition reads a value that a server may read differently.
    Unreadable(Doubt),
    /// The evaluation failed.
    Execution(Box<ExecutionError>),
    /// The value has this type instead.
    NotBoolean(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spent => f.write_str(
                "the conditions of this request take more steps than limits.conditionCost",
            ),
            Self::Template => f.write_str("`request.mcp.resource` is not known of a template"),
            Self::Unreadable(doubt) => doubt.fmt(f),
            Self::Execution(error) => match error.as_ref() {
                ExecutionError::NoSuchKey(key) => write!(f, "there is no `{key}`"),
                other => other.fmt(f),
            },
            Self::NotBoolean(kind) => write!(f, "its value is not a boolean but of type {kind}"),
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("expr", &self.expr).finish_non_exhaustive()
    }
}

impl Condition {
    /// Compiles and checks an expression.
    ///
    /// # Errors
    /// All errors in the expression.
    pub fn compile(source: &str, dialect: Dialect) -> Result<Self, Vec<ConditionError>> {
        if source.len() > MAX_EXPRESSION_BYTES {
            return Err(vec![ConditionError {
                offset: 0,
                message: format!(
                    "the condition is {} bytes long, at most {MAX_EXPRESSION_BYTES} are accepted; \
                     split it into several targets or rules",
                    source.len()
                ),
            }]);
        }
        match ENV.as_ref() {
            Ok(env) => check::compile(env, source, dialect),
            Err(error) => Err(vec![ConditionError { offset: 0, message: error.to_string() }]),
        }
    }

    /// Returns the expression as the policy writes it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the data that the condition can depend on.
    pub fn reads(&self) -> &Inputs {
        &self.reads
    }

    /// Returns true if the condition reads data of the request. Such data may be missing or
    /// ambiguous, so that evaluation may fail.
    pub fn can_fail(&self) -> bool {
        self.reads != Inputs::default()
    }

    /// Returns the parts of the expression that the author probably did not intend.
    pub fn suspicions(&self) -> &[Suspicion] {
        &self.suspicions
    }

    /// Evaluates the condition for a call.
    ///
    /// # Errors
    /// If the condition reads an ambiguous key, which occurs twice or in several letter cases.
    pub fn evaluate(&self, call: &Call<'_>, facts: &EvalContext<'_>) -> Result<Outcome, Problem> {
        if self.reads.resource && facts.subject.feature == TargetKind::ResourceTemplate {
            return Ok(Outcome::Failed(Failure::Template));
        }
        if facts.budget.is_spent() {
            return Ok(Outcome::Failed(Failure::Spent));
        }
        let (reads, given, nothing) = (&self.reads, &call.parameters, LazyObject::default());
        let read = |is_read, object| if is_read { read(object, facts) } else { Ok(Some(&nothing)) };
        let (Some(args), Some(meta), Some(params)) = (
            read(reads.args, &given.arguments)?,
            read(reads.meta, &given.meta)?,
            read(reads.params, &given.params)?,
        ) else {
            return Ok(Outcome::Failed(Failure::Spent));
        };
        let parameters = Parameters::Known { method: &call.method, args, meta, params };
        let scope = Activation::new(self, facts, parameters);
        let budget = facts.budget;
        let outcome = match budget.spend_steps(self.steps) {
            Ok(()) => self.outcome(&scope),
            Err(_) => Outcome::Failed(Failure::Spent),
        };
        // Check for ambiguity last, because `
        //
        // ` and `has` can hide the error that an ambiguous key raises.
        if let Some(variant) = scope.notes.ambiguity.into_inner() {
            return Err(Problem::CaseVariantArgument(variant));
        }
        if budget.is_spent() {
            return Ok(Outcome::Failed(Failure::Spent));
        }
        if let Some(doubt) = scope.notes.unreadable.get()
            && self.dialect == Dialect::McpRoute
        {
            return Ok(Outcome::Failed(Failure::Unreadable(*doubt)));
        }
        Ok(outcome)
    }

    /// Returns true if an optional boolean counts as a boolean, as in Agent Router.
    fn unwraps(&self) -> bool {
        self.dialect == Dialect::McpRoute
    }

    fn outcome(&self, scope: &Activation<'_, '_>) -> Outcome {
        let mut context = Context::with_env(Arc::clone(&self.env));
        context.set_variable_resolver(scope);
        match Value::resolve_val(&self.expr, &context) {
            Ok(value) => match boolean(value.as_ref(), self.unwraps()) {
                Some(true) => Outcome::True,
                Some(false) => Outcome::False,
                None => Outcome::Failed(Failure::NotBoolean(value.get_type().name().to_owned())),
            },
            Err(error) => Outcome::Failed(match scope.notes.unreadable.get() {
                Some(doubt) => Failure::Unreadable(*doubt),
                None => {
                    let error = scope.nothing_there(&error).unwrap_or(error);
                    Failure::Execution(Box::new(error))
                }
            }),
        }
    }
}

/// Returns the boolean value. If `unwraps` is true, also returns the boolean in an optional value.
fn boolean(value: &dyn Val, unwraps: bool) -> Option<bool> {
    let held = value.downcast_ref::<CelOptional>().and_then(CelOptional::inner);
    let value = held.filter(|_| unwraps).unwrap_or(value);
    value.downcast_ref::<CelBool>().map(|value| *value.inner())
}

/// Reads an object among the parameters of a call, and charges the budget. Returns `None` if the
/// budget is spent.
fn read<'r, 'b>(
    object: &'r Arguments<'b>,
    facts: &EvalContext<'_>,
) -> Result<Option<&'r LazyObject<'b>>, Problem> {
    let read = facts.budget.pay_for_nodes(|allowance| object.get(allowance))?;
    if read.is_none() {
        facts.budget.exhaust();
    }
    Ok(read)
}

/// The variables of one evaluation. The client's data lives as long as `'b`.
struct Activation<'a, 'b> {
    facts: &'a EvalContext<'a>,
    parameters: Parameters<'a, 'b>,
    patterns: &'a [Pattern],
    places: &'a [AttributePath],
    dialect: Dialect,
    notes: Notes,
}

/// The parameters of a call, if they are known.
#[derive(Clone, Copy)]
enum Parameters<'a, 'b> {
    Known {
        method: &'a str,
        args: &'a LazyObject<'b>,
        meta: &'a LazyObject<'b>,
        params: &'a LazyObject<'b>,
    },
    Unknown,
}

impl<'a, 'b> Activation<'a, 'b> {
    fn new(
        condition: &'a Condition,
        facts: &'a EvalContext<'a>,
        parameters: Parameters<'a, 'b>,
    ) -> Self {
        Self {
            facts,
            parameters,
            patterns: &condition.patterns,
            places: &condition.places,
            dialect: condition.dialect,
            notes: Notes::default(),
        }
    }
}

impl<'b> Activation<'_, 'b> {
    /// Returns the value of a variable. Returns `None` if the value is unknown or missing.
    fn part(&self, variable: Variable) -> Option<AttributeValue<'_, 'b>> {
        let client = self.client();
        let params = match (variable, self.parameters) {
            (Variable::Args, Parameters::Known { args, .. }) => {
                return Some(AttributeValue::Object(args, client));
            }
            (Variable::Meta, Parameters::Known { meta, .. }) => {
                return Some(AttributeValue::Object(meta, client));
            }
            (Variable::Args | Variable::Meta, Parameters::Unknown) => {
                self.notes.unknown.set();
                return None;
            }
            (Variable::Request(_), Parameters::Known { method, params, .. }) => {
                Params::Known { method, params }
            }
            (Variable::Request(_), Parameters::Unknown) => Params::Unknown,
        };
        let view = RequestView { facts: self.facts, params, client };
        let Variable::Request(node) = variable else { return None };
        view.has(node).then_some(AttributeValue::Request(view, node))
    }

    /// Returns the error for a missing name in a place, if `error` stands for a place.
    fn nothing_there(&self, error: &ExecutionError) -> Option<ExecutionError> {
        let ExecutionError::UndeclaredReference(name) = error else { return None };
        let place = numbered(attribute::PLACE_PREFIX, name, self.places)?;
        place.find(self).err().map(view::no_such_key)
    }

    /// Returns the writer of the arguments, which is the client.
    fn client(&self) -> Writer<'_> {
        let (dialect, notes, budget) = (self.dialect, &self.notes, self.facts.budget);
        Writer { is_client: true, dialect, notes, budget }
    }
}

impl VariableResolver for Activation<'_, '_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(place) = numbered(attribute::PLACE_PREFIX, variable, self.places) {
            return Some(CowVal::Owned(place.find(self).ok()?.val()));
        }
        if let Some(pattern) = numbered(check::PATTERN_PREFIX, variable, self.patterns) {
            return Some(CowVal::Borrowed(pattern as _));
        }
        match Variable::named(variable) {
            Some(variable) => Some(CowVal::Owned(self.part(variable)?.val())),
            None if variable == instrument::BUDGET => {
                Some(CowVal::Borrowed(self.facts.budget as _))
            }
            None if variable == instrument::NULL => {
                Some(CowVal::Borrowed(&comparison::WrittenNull))
            }
            None => None,
        }
    }
}

/// Returns the element whose name consists of `prefix` and the element's index.
fn numbered<'a, T>(prefix: &str, name: &str, things: &'a [T]) -> Option<&'a T> {
    things.get(name.strip_prefix(prefix)?.parse::<usize>().ok()?)
}

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;
