//! What is done with an expression when it is loaded: parse it, refuse what
//! could only fail later, and rewrite what is better done once.

use std::sync::Arc;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators,
};
use cel::{Env, ParseErrors};

use super::functions::{self, Pattern};
use super::{Condition, ConditionError};

pub(super) const ARGS: &str = "args";
pub(super) const META: &str = "meta";
/// Names of compiled patterns start so; no name in an expression can.
pub(super) const PATTERN_PREFIX: &str = "@pattern";

/// The deepest expression that is accepted: far more than people write, far
/// less than what exhausts the stack of a thread when it is evaluated.
const MAX_DEPTH: usize = 128;

/// Enough for the deepest tree that the longest expression can be.
const PARSER_STACK_BYTES: usize = 64 << 20;
/// Up to here the stack of the calling thread is enough.
const PARSED_IN_PLACE_BYTES: usize = 256;

pub(super) fn compile(env: &Arc<Env>, source: &str) -> Result<Condition, Vec<ConditionError>> {
    if source.len() <= PARSED_IN_PLACE_BYTES {
        return parse_and_check(env, source);
    }
    // Parsing, checking and dropping recurse as deep as the tree goes.
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(PARSER_STACK_BYTES)
            .spawn_scoped(scope, || parse_and_check(env, source))
            .map_err(|error| error.to_string())
            .and_then(|thread| thread.join().map_err(|_panic| "the parser failed".to_owned()))
            .unwrap_or_else(|message| Err(vec![ConditionError { offset: 0, message }]))
    })
}

fn parse_and_check(env: &Arc<Env>, source: &str) -> Result<Condition, Vec<ConditionError>> {
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
        let message = "the condition can be neither true nor false".to_owned();
        return Err(vec![ConditionError { offset: 0, message }]);
    }
    let mut check = Check {
        env,
        positions: &positions,
        variables: Vec::new(),
        depth: 0,
        errors: Vec::new(),
        patterns: Vec::new(),
        reads_args: false,
        reads_meta: false,
    };
    check.expr(&mut expr);
    let Check { errors, patterns, reads_args, reads_meta, .. } = check;
    if errors.is_empty() {
        Ok(Condition { env: Arc::clone(env), expr, patterns, reads_args, reads_meta })
    } else {
        Err(errors)
    }
}

/// Whether the value of an expression is of another type, whatever it reads.
fn is_never_boolean(expr: &Expr) -> bool {
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

/// Where a comment begins that runs to the end: without it, the expression is
/// the same.
fn trailing_comment(env: &Env, source: &str, expr: &IdedExpr) -> Option<usize> {
    source.match_indices("//").map(|(at, _)| at).find(|at| {
        let before = source.get(..*at).unwrap_or_default();
        env.parser().parse(before).is_ok_and(|before| before == *expr)
    })
}

fn syntax_errors(source: &str, errors: ParseErrors) -> Vec<ConditionError> {
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

/// The parser's message without the list of all tokens that it would take.
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
    match unexpected.map(|rest| rest.split(" expecting ").next().unwrap_or(rest)) {
        Some(input) => format!("unexpected `{}`", input.trim_matches(['\'', ' '])),
        None => message.to_owned(),
    }
}

struct Check<'c> {
    env: &'c Env,
    positions: &'c SourceInfo,
    /// The variables of the comprehensions around the current expression.
    variables: Vec<String>,
    depth: usize,
    errors: Vec<ConditionError>,
    patterns: Vec<Pattern>,
    reads_args: bool,
    reads_meta: bool,
}

impl Check<'_> {
    fn error(&mut self, id: u64, message: String) {
        let offset = self.positions.offset_for(id).map_or(0, |(start, _)| start as usize);
        self.errors.push(ConditionError { offset, message });
    }

    fn expr(&mut self, ided: &mut IdedExpr) {
        if self.depth == MAX_DEPTH {
            self.error(
                ided.id,
                format!("the condition is nested or chained more than {MAX_DEPTH} deep; split it"),
            );
            // One message says it.
            self.depth += 1;
            return;
        }
        if self.depth > MAX_DEPTH {
            return;
        }
        self.depth += 1;
        let id = ided.id;
        match &mut ided.expr {
            Expr::Literal(_) | Expr::Unspecified => {}
            Expr::Ident(name) => {
                let name = name.clone();
                self.identifier(id, &name);
            }
            Expr::Select(_) => self.select(ided),
            Expr::List(list) => list.elements.iter_mut().for_each(|element| self.expr(element)),
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    self.entry(&mut entry.expr);
                }
            }
            Expr::Struct(structure) => {
                let name = structure.type_name.clone();
                self.error(id, format!("messages such as `{name}` cannot be made here"));
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Call(_) => self.call(ided),
        }
        // Stays where it is once the limit was met, so that checking ends there.
        if self.depth <= MAX_DEPTH {
            self.depth -= 1;
        }
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

    fn identifier(&mut self, id: u64, name: &str) {
        match name {
            _ if self.variables.iter().any(|variable| variable == name) => {}
            ARGS => self.reads_args = true,
            META => self.reads_meta = true,
            _ if self.env.types().find_type(name).is_some() => {}
            _ => {
                let known =
                    [ARGS, META].into_iter().chain(self.variables.iter().map(String::as_str));
                let hint = crate::words::nearest(name, known)
                    .map(|word| format!("; did you mean `{word}`?"))
                    .unwrap_or_default();
                self.error(
                    id,
                    format!("unknown name `{name}`{hint} (a condition sees `{ARGS}` and `{META}`)"),
                );
            }
        }
    }

    fn select(&mut self, ided: &mut IdedExpr) {
        // Types have qualified names: `google.protobuf.Timestamp`.
        if let Some(name) = qualified_name(&ided.expr)
            && self.env.types().find_type(&name).is_some()
        {
            return;
        }
        if let Expr::Select(select) = &mut ided.expr {
            self.expr(&mut select.operand);
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

    fn call(&mut self, ided: &mut IdedExpr) {
        let id = ided.id;
        let Expr::Call(call) = &mut ided.expr else {
            return;
        };
        if functions::MACROS.contains(&call.func_name.as_str()) {
            // Its variable is not one, so the arguments would only mislead.
            let name = call.func_name.clone();
            self.error(
                id,
                format!("`{name}` is called with the wrong number of arguments or on nothing"),
            );
            return;
        }
        let qualifier = call.target.as_ref().and_then(|target| qualified_name(&target.expr));
        let qualified = qualifier.map(|qualifier| format!("{qualifier}.{}", call.func_name));
        let qualified = qualified.and_then(|name| functions::find(functions::GLOBAL, &name));
        if let Some(target) = &mut call.target
            && qualified.is_none()
        {
            self.expr(target);
        }
        call.args.iter_mut().for_each(|argument| self.expr(argument));
        if is_operator(&call.func_name) {
            if compares_optional(call) {
                let message = "an optional value never equals a plain one: write \
                               `args.?x.orValue(…)`, or `args.x` without `?`";
                self.error(id, message.to_owned());
            }
            redirect_comparison(call);
            return;
        }
        let known = if call.target.is_some() { functions::MEMBER } else { functions::GLOBAL };
        let checked = match qualified.or_else(|| functions::find(known, &call.func_name)) {
            Some(function) => function.takes(call.args.len()).and_then(|()| {
                if function.name == functions::MATCHES {
                    self.compile_pattern(call)
                } else {
                    Ok(())
                }
            }),
            None => Err(unknown_function(&call.func_name, call.target.is_some())),
        };
        if let Err(message) = checked {
            self.error(id, message);
        }
    }

    /// Replaces the pattern of `matches` by the name of a compiled one.
    fn compile_pattern(&mut self, call: &mut CallExpr) -> Result<(), String> {
        let Some(pattern) = call.args.last_mut() else { return Ok(()) };
        let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
            return Err("the pattern of `matches` must be a string literal, so that it can be \
                        compiled and checked now"
                .to_owned());
        };
        let compiled = Pattern::compile(text.inner()).map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => {
                format!("the pattern needs more than {limit} bytes when compiled")
            }
            other => format!("the pattern is not a regular expression: {}", one_line(&other)),
        })?;
        pattern.expr = Expr::Ident(format!("{PATTERN_PREFIX}{}", self.patterns.len()));
        self.patterns.push(compiled);
        Ok(())
    }
}

/// The regex crate draws its errors over several lines; the last one says what.
fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn unknown_function(name: &str, is_member: bool) -> String {
    let (here, elsewhere, instead) = if is_member {
        (functions::MEMBER, functions::GLOBAL, format!("{name}(x)"))
    } else {
        (functions::GLOBAL, functions::MEMBER, format!("x.{name}(…)"))
    };
    let known = here.iter().map(|function| function.name).chain(functions::MACROS.iter().copied());
    let hint = match crate::words::nearest(name, known) {
        _ if functions::find(elsewhere, name).is_some() => format!("; call it as `{instead}`"),
        Some(word) => format!("; did you mean `{word}`?"),
        None => String::new(),
    };
    format!("unknown function `{name}`{hint}")
}

/// `a.b.c` as a text, if it is that.
fn qualified_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => {
            Some(format!("{}.{}", qualified_name(&select.operand.expr)?, select.field))
        }
        _ => None,
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

/// The crate compares its lists and maps with no others. Where an operand could
/// be a view, the comparison goes to a function of ours; where one is a scalar
/// literal it need not, and stays as fast as it was. `<` and its like copy both
/// operands into the error if their types differ, which a list of a caller's
/// multiplies; those functions look at the types first.
fn redirect_comparison(call: &mut CallExpr) {
    let [left, right] = call.args.as_slice() else {
        return;
    };
    let scalars = is_scalar(&left.expr) || is_scalar(&right.expr);
    let function = match call.func_name.as_str() {
        operators::EQUALS if !scalars => functions::EQUALS,
        operators::NOT_EQUALS if !scalars => functions::DIFFERS,
        operators::LESS if !scalars => functions::LESS,
        operators::LESS_EQUALS if !scalars => functions::LESS_EQUALS,
        operators::GREATER if !scalars => functions::GREATER,
        operators::GREATER_EQUALS if !scalars => functions::GREATER_EQUALS,
        operators::IN if !is_scalar(&left.expr) && !is_list_of_scalars(&right.expr) => {
            functions::CONTAINS
        }
        _ => return,
    };
    call.func_name = function.to_owned();
}

/// Whether `args.?x` is compared with a literal, which is always false.
fn compares_optional(call: &CallExpr) -> bool {
    let compares = [operators::EQUALS, operators::NOT_EQUALS, operators::IN];
    match call.args.as_slice() {
        [left, right] if compares.contains(&call.func_name.as_str()) => {
            let literal = |expr| is_scalar(expr) || is_list_of_scalars(expr);
            (is_optional(&left.expr) && literal(&right.expr))
                || (literal(&left.expr) && is_optional(&right.expr))
        }
        _ => false,
    }
}

fn is_optional(expr: &Expr) -> bool {
    match expr {
        Expr::Call(call) => match call.func_name.as_str() {
            operators::OPT_SELECT | operators::OPT_INDEX => true,
            operators::INDEX => call.args.first().is_some_and(|operand| is_optional(&operand.expr)),
            _ => false,
        },
        Expr::Select(select) => !select.test && is_optional(&select.operand.expr),
        _ => false,
    }
}

fn is_scalar(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(_))
}

fn is_list_of_scalars(expr: &Expr) -> bool {
    matches!(expr, Expr::List(list) if list.elements.iter().all(|element| is_scalar(&element.expr)))
}
