//! Checks of an expression at load: parses the expression, rejects errors that evaluation would
//! find too late, and rewrites the expression for evaluation.

use std::sync::Arc;

use cel::Env;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators,
};

use super::functions;
use super::inputs::{Inputs, RequestField};
use super::pattern::Pattern;
use super::syntax::{is_never_boolean, qualified_name, syntax_errors, trailing_comment};
use super::{
    Condition, ConditionError, Suspicion, SuspicionKind, comparison, instrument, literals,
    reference,
};
use crate::claims::Claims;
use crate::policy::Dialect;

pub(super) const ARGS: &str = "args";
pub(super) const META: &str = "meta";
pub(super) const REQUEST: &str = "request";
/// The prefix of the names of compiled patterns. No name in an expression can begin so.
pub(super) const PATTERN_PREFIX: &str = "@pattern";

/// The maximum depth of an expression. People write far less, and evaluation at this depth does not
/// exhaust the stack of a thread.
const MAX_DEPTH: usize = 128;

/// The stack size of the parser's thread, in bytes. The size suffices for the deepest tree of the
/// longest expression.
const PARSER_STACK_BYTES: usize = 64 << 20;
/// The maximum length of an expression, in bytes, for which the stack of the calling thread
/// suffices.
const PARSED_IN_PLACE_BYTES: usize = 256;

const OPTIONAL_AND_PLAIN: &str = "an optional value never equals a plain one: write \
                                  `args.?x.orValue(…)`, or `args.x` without `?`";
const NEVER_BOOLEAN: &str = "the condition can be neither true nor false";

pub(super) fn compile(
    env: &Arc<Env>,
    source: &str,
    dialect: Dialect,
) -> Result<Condition, Vec<ConditionError>> {
    if source.len() <= PARSED_IN_PLACE_BYTES {
        return parse_and_check(env, source, dialect);
    }
    // Parsing, checking and dropping recurse to the depth of the tree.
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(PARSER_STACK_BYTES)
            .spawn_scoped(scope, || parse_and_check(env, source, dialect))
            .map_err(|error| error.to_string())
            .and_then(|thread| thread.join().map_err(|_panic| "the parser failed".to_owned()))
            .unwrap_or_else(|message| Err(vec![ConditionError { offset: 0, message }]))
    })
}

fn parse_and_check(
    env: &Arc<Env>,
    source: &str,
    dialect: Dialect,
) -> Result<Condition, Vec<ConditionError>> {
    let (mut expr, positions) = env
        .parser()
        .parse_with_source_info(source)
        .map_err(|errors| syntax_errors(source, errors))?;
    if let Some(offset) = trailing_comment(env, source, &expr) {
        let message = "what follows `//` is a comment and has no effect, even if the file has it in \
                       lines below: YAML joins them; use YAML's own comments (#)";
        return Err(vec![ConditionError { offset, message: message.to_owned() }]);
    }
    if is_never_boolean(&expr.expr) {
        return Err(vec![ConditionError { offset: 0, message: NEVER_BOOLEAN.to_owned() }]);
    }
    let mut check = Check {
        env,
        dialect,
        positions: &positions,
        variables: Vec::new(),
        depth: 0,
        errors: Vec::new(),
        suspicions: Vec::new(),
        patterns: Vec::new(),
        reads: Inputs::default(),
    };
    if check.part(&mut expr).is_some() && check.errors.is_empty() {
        check.error(expr.id, NEVER_BOOLEAN.to_owned());
    }
    let Check { errors, suspicions, patterns, reads, .. } = check;
    if errors.is_empty() {
        let (steps, places) = instrument::meter(&mut expr, dialect);
        let (source, env, steps) = (source.to_owned(), Arc::clone(env), 1 + steps);
        Ok(Condition { source, env, expr, steps, patterns, places, dialect, reads, suspicions })
    } else {
        Err(errors)
    }
}

struct Check<'c> {
    env: &'c Env,
    dialect: Dialect,
    positions: &'c SourceInfo,
    /// The variables of the comprehensions around the current expression.
    variables: Vec<String>,
    depth: usize,
    errors: Vec<ConditionError>,
    suspicions: Vec<Suspicion>,
    patterns: Vec<Pattern>,
    reads: Inputs,
}

impl Check<'_> {
    fn at(&self, id: u64, message: String) -> ConditionError {
        let offset = self.positions.offset_for(id).map_or(0, |(start, _)| start as usize);
        ConditionError { offset, message }
    }

    fn error(&mut self, id: u64, message: String) {
        let error = self.at(id, message);
        self.errors.push(error);
    }

    /// Checks an expression whose complete value is used.
    fn expr(&mut self, ided: &mut IdedExpr) {
        if let Some(node) = self.part(ided) {
            self.whole(node, ided.id, SuspicionKind::NameAsSent);
        }
    }

    /// Records that the expression uses the complete value of a part of `request`.
    fn whole(&mut self, node: RequestField, id: u64, kind: SuspicionKind) {
        self.reads.whole(node);
        if let RequestField::Tool
        | RequestField::Prompt
        | RequestField::Backend
        | RequestField::Mcp = node
        {
            let message = "this name is as it was sent, and a server may take another spelling for \
                           it: name it in `target`, where Deny rules compare without regard to \
                           case, width and invisible characters";
            self.suspect(kind, id, message.to_owned());
        }
    }

    /// Checks an expression. If the expression is a part of `request`, returns this part; the
    /// caller then records which of its members are read.
    fn part(&mut self, ided: &mut IdedExpr) -> Option<RequestField> {
        if self.depth >= MAX_DEPTH {
            // One error for the depth suffices.
            if self.depth == MAX_DEPTH {
                self.depth += 1;
                self.error(
                    ided.id,
                    format!(
                        "the condition is nested or chained more than {MAX_DEPTH} deep; split it"
                    ),
                );
            }
            return None;
        }
        self.depth += 1;
        let id = ided.id;
        let part = match &mut ided.expr {
            Expr::Literal(literal) => {
                let mistake = literals::inexact(literal).filter(|_| self.is_native());
                mistake.into_iter().for_each(|message| self.error(id, message));
                None
            }
            Expr::Unspecified => None,
            Expr::Ident(name) => {
                let name = name.clone();
                self.identifier(id, &name)
            }
            Expr::Select(_) => self.select(ided),
            Expr::List(list) => {
                list.elements.iter_mut().for_each(|element| self.expr(element));
                None
            }
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    self.entry(&mut entry.expr);
                }
                None
            }
            Expr::Struct(structure) => {
                let name = structure.type_name.clone();
                self.error(id, format!("messages such as `{name}` cannot be made here"));
                None
            }
            Expr::Comprehension(comprehension) => {
                self.comprehension(comprehension);
                None
            }
            Expr::Call(_) => self.call(ided),
        };
        // After an error for the depth, `depth` stays above the limit, so that checking ends.
        if self.depth <= MAX_DEPTH {
            self.depth -= 1;
        }
        part
    }

    fn suspect(&mut self, kind: SuspicionKind, id: u64, message: String) {
        let error = self.at(id, message);
        self.suspicions.push(Suspicion { kind, error });
    }

    /// Checks an operand, or an argument of a function.
    fn argument(&mut self, function: &str, argument: &mut IdedExpr) {
        let Some(node) = self.part(argument) else { return };
        match function {
            // A length does not reveal a name.
            "size" => self.reads.whole(node),
            operators::NOT_EQUALS => self.whole(node, argument.id, SuspicionKind::NameExcluded),
            _ => self.whole(node, argument.id, SuspicionKind::NameAsSent),
        }
    }

    fn is_native(&self) -> bool {
        self.dialect == Dialect::Native
    }

    /// Checks the access to a member of a part of `request`, and returns the member.
    fn member(&mut self, id: u64, node: RequestField, name: &str) -> Option<RequestField> {
        let known = node.members();
        match node {
            RequestField::Headers | RequestField::HeadersAll => {
                let lower = name.to_ascii_lowercase();
                if lower != name {
                    let message = format!(
                        "there is never a header `{name}`, because names are in lower case here: \
                         write `{lower}`"
                    );
                    self.suspect(SuspicionKind::HeaderCapitals, id, message);
                }
                self.reads.headers.insert(lower);
            }
            RequestField::Claims if Claims::SCOPE_CLAIMS.contains(&name) => {
                self.error(
                    id,
                    format!(
                        "the claim `{name}` is not here: its scopes are `request.auth.jwt.scopes`"
                    ),
                );
            }
            RequestField::Claims | RequestField::Params | RequestField::Scopes => {
                self.reads.whole(node);
            }
            _ if known.is_empty() => {
                self.error(id, format!("there is no `{name}` in a text"));
            }
            _ => {
                let member = node.member(name);
                if member.is_none() {
                    let known = known.iter().map(|(name, _)| *name);
                    let hint = match crate::words::nearest(name, known.clone()) {
                        Some(word) => format!("; did you mean `{word}`?"),
                        None => format!(", only {}", known.collect::<Vec<_>>().join(", ")),
                    };
                    self.error(id, format!("there is no `{name}` here{hint}"));
                }
                return member;
            }
        }
        None
    }

    fn entry(&mut self, entry: &mut EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => self.expr(&mut field.value),
            EntryExpr::MapEntry(entry) => {
                self.expr(&mut entry.key);
                self.expr(&mut entry.value);
            }
        }
    }

    fn identifier(&mut self, id: u64, name: &str) -> Option<RequestField> {
        match name {
            _ if self.variables.iter().any(|variable| variable == name) => {}
            REQUEST => return Some(RequestField::Request),
            ARGS => self.reads.args = true,
            META => self.reads.meta = true,
            _ if self.env.types().find_type(name).is_some() => {}
            _ => {
                let variables = self.variables.iter().map(String::as_str);
                let known = [ARGS, META, REQUEST].into_iter().chain(variables);
                let hint = crate::words::nearest(name, known)
                    .map(|word| format!("; did you mean `{word}`?"))
                    .unwrap_or_default();
                self.error(
                    id,
                    format!(
                        "unknown name `{name}`{hint} (a condition sees `{ARGS}`, `{META}` and \
                         `{REQUEST}`)"
                    ),
                );
            }
        }
        None
    }

    fn select(&mut self, ided: &mut IdedExpr) -> Option<RequestField> {
        // Types have qualified names, such as `google.protobuf.Timestamp`.
        if let Some(name) = qualified_name(&ided.expr)
            && self.env.types().find_type(&name).is_some()
        {
            return None;
        }
        let Expr::Select(select) = &mut ided.expr else { return None };
        let node = self.part(&mut select.operand)?;
        let member = self.member(ided.id, node, &select.field);
        // The result of `has` is a boolean, not the member.
        member.filter(|_| !select.test)
    }

    /// Checks `x[y]`, `x[?y]` and `x.?y`. Returns a member of `request` if `y` is a string literal.
    fn index(&mut self, id: u64, call: &mut CallExpr) -> Option<RequestField> {
        let [operand, key] = call.args.as_mut_slice() else { return None };
        let part = self.part(operand);
        match (part, &key.expr) {
            (Some(node), Expr::Literal(LiteralValue::String(name))) => {
                let name = name.inner().to_owned();
                self.member(id, node, &name)
            }
            (part, _) => {
                part.into_iter().for_each(|node| self.reads.whole(node));
                self.expr(key);
                None
            }
        }
    }

    fn comprehension(&mut self, comprehension: &mut ComprehensionExpr) {
        let ComprehensionExpr {
            iter_range,
            iter_var,
            iter_var2,
            accu_var,
            accu_init,
            loop_cond,
            loop_step,
            result,
        } = comprehension;
        self.expr(iter_range);
        self.expr(accu_init);
        let outside = self.variables.len();
        self.variables.push(accu_var.clone());
        self.variables.push(iter_var.clone());
        self.variables.extend(iter_var2.clone());
        self.expr(loop_cond);
        self.expr(loop_step);
        self.expr(result);
        self.variables.truncate(outside);
    }

    fn call(&mut self, ided: &mut IdedExpr) -> Option<RequestField> {
        let id = ided.id;
        let Expr::Call(call) = &mut ided.expr else { return None };
        if [operators::INDEX, operators::OPT_INDEX, operators::OPT_SELECT]
            .contains(&call.func_name.as_str())
        {
            return self.index(id, call);
        }
        let mistake = literals::of_two_types(call).filter(|_| self.is_native());
        mistake.into_iter().for_each(|message| self.error(id, message));
        if call.func_name == operators::IN
            && let [IdedExpr { expr: Expr::Literal(LiteralValue::String(key)), .. }, map] =
                call.args.as_mut_slice()
        {
            let key = key.inner().to_owned();
            match self.part(map) {
                // The expression looks for this header only.
                Some(node @ (RequestField::Headers | RequestField::HeadersAll)) => {
                    self.member(id, node, &key);
                }
                part => part.into_iter().for_each(|node| self.reads.whole(node)),
            }
            if comparison::with_optional(call) {
                self.error(id, OPTIONAL_AND_PLAIN.to_owned());
            }
            return None;
        }
        if functions::MACROS.contains(&call.func_name.as_str()) {
            // The macro declares no variable here, so errors in the arguments would mislead.
            let name = call.func_name.clone();
            self.error(
                id,
                format!("`{name}` is called with the wrong number of arguments or on nothing"),
            );
            return None;
        }
        let function = functions::called(call);
        let deeper = !self.is_native() && reference::is_lazy(call) && self.depth < MAX_DEPTH;
        self.depth += usize::from(deeper);
        if let Some(target) = &mut call.target
            && function.is_none_or(|(_, takes_target)| takes_target)
        {
            self.argument(&call.func_name, target);
        }
        call.args.iter_mut().for_each(|argument| self.argument(&call.func_name, argument));
        self.depth -= usize::from(deeper);
        if is_operator(&call.func_name) {
            if comparison::with_optional(call) {
                self.error(id, OPTIONAL_AND_PLAIN.to_owned());
            }
            return None;
        }
        let checked = match function {
            Some((function, _)) => function.takes(call.args.len()).and_then(|()| {
                if function.name == functions::MATCHES {
                    self.compile_pattern(call)
                } else {
                    Ok(())
                }
            }),
            None => Err(functions::unknown(&call.func_name, call.target.is_some())),
        };
        if let Err(message) = checked {
            self.error(id, message);
        }
        None
    }

    /// Replaces the pattern of `matches` by the name of a compiled pattern.
    ///
    /// # Errors
    /// A message if the pattern is not a literal or cannot be compiled.
    fn compile_pattern(&mut self, call: &mut CallExpr) -> Result<(), String> {
        let Some(pattern) = call.args.last_mut() else { return Ok(()) };
        let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
            return Err("the pattern of `matches` must be a string literal, so that it can be \
                        compiled and checked now"
                .to_owned());
        };
        let compiled = Pattern::compile(text.inner())?;
        pattern.expr = Expr::Ident(format!("{PATTERN_PREFIX}{}", self.patterns.len()));
        self.patterns.push(compiled);
        Ok(())
    }
}

fn is_operator(name: &str) -> bool {
    [
        operators::CONDITIONAL,
        operators::LOGICAL_AND,
        operators::LOGICAL_OR,
        operators::LOGICAL_NOT,
        operators::SUBSTRACT,
        operators::ADD,
        operators::MULTIPLY,
        operators::DIVIDE,
        operators::MODULO,
        operators::EQUALS,
        operators::NOT_EQUALS,
        operators::GREATER_EQUALS,
        operators::LESS_EQUALS,
        operators::GREATER,
        operators::LESS,
        operators::NEGATE,
        operators::INDEX,
        operators::OPT_INDEX,
        operators::OPT_SELECT,
        operators::NOT_STRICTLY_FALSE,
        operators::IN,
    ]
    .contains(&name)
}
