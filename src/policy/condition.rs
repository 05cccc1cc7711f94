//! CEL conditions: compiled and checked when a policy is loaded, evaluated over
//! the borrowed arguments of a call.
//!
//! This module and its children are the only ones that name the `cel` crate.
//! Three of its habits are worked around, each for its cost or its risk:
//!
//! - A function or variable that does not exist is found out by evaluating. The
//!   tree is walked at load instead ([`check`]), and what is unknown is refused.
//! - `matches` compiles its pattern at each call. Patterns must be literals
//!   here; they are compiled at load, with a size limit, and handed to our own
//!   `matches` as a value.
//! - Variables are converted to owned values, and lists and maps compare only
//!   with lists and maps of the crate's own. Ours are views of the JSON text
//!   ([`view`]), and `==`, `!=` and `in` are redirected to comparisons that
//!   know both.

mod check;
mod comparison;
mod conversions;
mod functions;
mod list;
mod literals;
mod meter;
mod metering;
mod notes;
mod overloads;
mod part;
mod pattern;
mod possible;
mod reads;
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

pub use self::meter::Budget;
use self::notes::{Doubt, Notes};
use self::part::{Params, Part, Place, RequestView, Variable};
pub use self::pattern::Pattern;
pub use self::possible::Possible;
pub use self::reads::Reads;
use self::view::Writer;
use super::{Dialect, Facts};
use crate::json::LazyObject;
use crate::mcp::{Arguments, Call, Feature, Problem};

/// The longest expression that is accepted, in bytes.
pub const MAX_EXPRESSION_BYTES: usize = 4096;

/// Shared by all conditions: building it costs as much as ten evaluations.
static ENV: LazyLock<Result<Arc<Env>, DeclarationError>> =
    LazyLock::new(|| overloads::environment().map(Arc::new));

/// A condition over a call and its request (`when` and `cel`).
///
/// Invariant: every name in it exists, every pattern in it is compiled, and it
/// is small enough to be evaluated without exhausting the stack.
pub struct Condition {
    source: String,
    env: Arc<Env>,
    expr: IdedExpr,
    /// What it costs beside what it pays for while it is evaluated.
    steps: u64,
    patterns: Vec<Pattern>,
    places: Vec<Place>,
    dialect: Dialect,
    reads: Reads,
    suspicions: Vec<Suspicion>,
}

/// What is wrong with an expression, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionError {
    /// Byte offset in the expression.
    pub offset: usize,
    /// What is wrong and what to do about it.
    pub message: String,
}

/// A part of an expression that can be evaluated, and is probably not meant so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// The kind of mistake.
    pub kind: SuspicionKind,
    /// The place, and the text for its author.
    pub error: ConditionError,
}

/// A kind of mistake that an expression shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuspicionKind {
    /// A header that is read by a name with capitals.
    HeaderCapitals,
    /// A tool, prompt or backend that is compared as it was sent: in a Deny rule, another
    /// spelling evades it.
    NameAsSent,
    /// It is compared with a name by `!=`.
    NameExcluded,
}

/// What a condition says about a call.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is true.
    True,
    /// It is false.
    False,
    /// It has no value, or one that is not a boolean.
    Failed(Failure),
}

/// Why a condition has no boolean value. Its text may repeat arguments: it is
/// for whoever holds them already, never for a log.
#[derive(Debug, Clone)]
pub enum Failure {
    /// What the conditions of a request may cost is spent.
    Spent,
    /// It reads the resource, and a template stands for many.
    Template,
    /// It reads what a server may take for something else.
    Unreadable(Doubt),
    /// The evaluation failed.
    Execution(Box<ExecutionError>),
    /// The value is of this type instead.
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
    /// Compiles and checks an expression; reports all that is wrong with it.
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

    /// As written in the policy.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What it can depend on.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Whether it reads what may be missing, or may be read in several ways.
    pub fn can_fail(&self) -> bool {
        self.reads != Reads::default()
    }

    /// What is probably not meant so, though it can be evaluated.
    pub fn suspicions(&self) -> &[Suspicion] {
        &self.suspicions
    }

    /// Evaluates the condition for a call. It is an error if what it reads is
    /// ambiguous: a key that occurs twice, or in several cases of letters.
    pub fn evaluate(&self, call: &Call<'_>, facts: &Facts<'_>) -> Result<Outcome, Problem> {
        if self.reads.resource && facts.subject.feature == Feature::ResourceTemplate {
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
        let scope = Scope::new(self, facts, parameters);
        let budget = facts.budget;
        let outcome = match budget.spend_steps(self.steps) {
            Ok(()) => self.outcome(&scope),
            Err(_) => Outcome::Failed(Failure::Spent),
        };
        // Looked at last: `||` and `has` can hide the error that it raised.
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

    /// Returns true if an optional boolean counts as the boolean, as in the reference.
    fn unwraps(&self) -> bool {
        self.dialect == Dialect::McpRoute
    }

    fn outcome(&self, scope: &Scope<'_, '_>) -> Outcome {
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

/// Returns the boolean that a value is, or, if `unwraps`, that it optionally holds.
fn boolean(value: &dyn Val, unwraps: bool) -> Option<bool> {
    let held = value.downcast_ref::<CelOptional>().and_then(CelOptional::inner);
    let value = held.filter(|_| unwraps).unwrap_or(value);
    value.downcast_ref::<CelBool>().map(|value| *value.inner())
}

/// Reads an object among the parameters of a call, and pays for that; `None` if there is too
/// little left.
fn read<'r, 'b>(
    object: &'r Arguments<'b>,
    facts: &Facts<'_>,
) -> Result<Option<&'r LazyObject<'b>>, Problem> {
    let read = facts.budget.pay_for_nodes(|allowance| object.get(allowance))?;
    if read.is_none() {
        facts.budget.exhaust();
    }
    Ok(read)
}

/// The variables of one evaluation. What a client has written lives as long as `'b`.
struct Scope<'a, 'b> {
    facts: &'a Facts<'a>,
    parameters: Parameters<'a, 'b>,
    patterns: &'a [Pattern],
    places: &'a [Place],
    dialect: Dialect,
    notes: Notes,
}

/// What a call is made with.
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

impl<'a, 'b> Scope<'a, 'b> {
    fn new(condition: &'a Condition, facts: &'a Facts<'a>, parameters: Parameters<'a, 'b>) -> Self {
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

impl<'b> Scope<'_, 'b> {
    /// `None` if it is not known, or not there.
    fn part(&self, variable: Variable) -> Option<Part<'_, 'b>> {
        let client = self.client();
        let params = match (variable, self.parameters) {
            (Variable::Args, Parameters::Known { args, .. }) => {
                return Some(Part::Object(args, client));
            }
            (Variable::Meta, Parameters::Known { meta, .. }) => {
                return Some(Part::Object(meta, client));
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
        view.has(node).then_some(Part::Request(view, node))
    }

    /// The error that there is nothing at a place.
    fn nothing_there(&self, error: &ExecutionError) -> Option<ExecutionError> {
        let ExecutionError::UndeclaredReference(name) = error else { return None };
        let place = numbered(part::PLACE_PREFIX, name, self.places)?;
        place.find(self).err().map(view::no_such_key)
    }

    /// The author of the arguments.
    fn client(&self) -> Writer<'_> {
        let (dialect, notes, budget) = (self.dialect, &self.notes, self.facts.budget);
        Writer { is_client: true, dialect, notes, budget }
    }
}

impl VariableResolver for Scope<'_, '_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(place) = numbered(part::PLACE_PREFIX, variable, self.places) {
            return Some(CowVal::Owned(place.find(self).ok()?.val()));
        }
        if let Some(pattern) = numbered(check::PATTERN_PREFIX, variable, self.patterns) {
            return Some(CowVal::Borrowed(pattern as _));
        }
        match Variable::named(variable) {
            Some(variable) => Some(CowVal::Owned(self.part(variable)?.val())),
            None if variable == metering::BUDGET => Some(CowVal::Borrowed(self.facts.budget as _)),
            None if variable == metering::NULL => Some(CowVal::Borrowed(&comparison::WrittenNull)),
            None => None,
        }
    }
}

/// Of several things, the one whose name is `prefix` and its number.
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
