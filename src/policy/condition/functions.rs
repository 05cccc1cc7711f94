//! The functions that a condition may call.

use std::any::Any;
use std::cmp::Ordering;

use cel::common::functions::Function as Overload;
use cel::common::types::{CelBool, CelString, DYN_TYPE, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError, extensions};
use regex::{Regex, RegexBuilder};

use super::{comparison, pattern};

/// Called instead of `==` where an operand may be a list or a map.
pub(super) const EQUALS: &str = "@equals";
/// Called instead of `!=` where an operand may be a list or a map.
pub(super) const DIFFERS: &str = "@differs";
/// Called instead of the four comparisons where no operand is a literal.
pub(super) const LESS: &str = "@less";
pub(super) const LESS_EQUALS: &str = "@less_equals";
pub(super) const GREATER: &str = "@greater";
pub(super) const GREATER_EQUALS: &str = "@greater_equals";
/// Called instead of `in` where a list or a map may be looked for.
pub(super) const CONTAINS: &str = "@contains";
pub(super) const MATCHES: &str = "matches";

/// A function with the number of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: &'static str,
    least: usize,
    most: usize,
}

impl Function {
    /// Whether it can be called with so many arguments; otherwise what it takes.
    pub(super) fn takes(self, arguments: usize) -> Result<(), String> {
        let Self { name, least, most } = self;
        if (least..=most).contains(&arguments) {
            return Ok(());
        }
        let expected = if least == most { least.to_string() } else { format!("{least} or {most}") };
        let noun = if most == 1 { "argument" } else { "arguments" };
        Err(format!("`{name}` takes {expected} {noun}, not {arguments}"))
    }
}

const fn function(name: &'static str, least: usize, most: usize) -> Function {
    Function { name, least, most }
}

/// Functions called as `f(x)`; a name with a dot is qualified.
pub(super) const GLOBAL: &[Function] = &[
    function("bool", 1, 1),
    function("bytes", 1, 1),
    function("double", 1, 1),
    function("duration", 1, 1),
    function("dyn", 1, 1),
    function("int", 1, 1),
    function("matches", 2, 2),
    function("optional.none", 0, 0),
    function("optional.of", 1, 1),
    function("optional.ofNonZeroValue", 1, 1),
    function("size", 1, 1),
    function("string", 1, 1),
    function("strings.quote", 1, 1),
    function("timestamp", 1, 1),
    function("type", 1, 1),
    function("uint", 1, 1),
];

/// Functions called as `x.f(y)`; `x` is not counted.
pub(super) const MEMBER: &[Function] = &[
    function("charAt", 1, 1),
    function("contains", 1, 1),
    function("endsWith", 1, 1),
    function("format", 1, 1),
    function("getDate", 0, 1),
    function("getDayOfMonth", 0, 1),
    function("getDayOfWeek", 0, 1),
    function("getDayOfYear", 0, 1),
    function("getFullYear", 0, 1),
    function("getHours", 0, 1),
    function("getMilliseconds", 0, 1),
    function("getMinutes", 0, 1),
    function("getMonth", 0, 1),
    function("getSeconds", 0, 1),
    function("hasValue", 0, 0),
    function("indexOf", 1, 2),
    function("join", 0, 1),
    function("lastIndexOf", 1, 2),
    function("lowerAscii", 0, 0),
    function("matches", 1, 1),
    function("or", 1, 1),
    function("orValue", 1, 1),
    function("replace", 2, 3),
    function("reverse", 0, 0),
    function("size", 0, 0),
    function("split", 1, 2),
    function("startsWith", 1, 1),
    function("substring", 1, 2),
    function("trim", 0, 0),
    function("upperAscii", 0, 0),
    function("value", 0, 0),
];

pub(super) fn find(functions: &[Function], name: &str) -> Option<Function> {
    functions.iter().copied().find(|function| function.name == name)
}

/// Macros: the parser expands them, so a call of one that is still there has the
/// wrong number of arguments.
pub(super) const MACROS: &[&str] =
    &["all", "exists", "exists_one", "existsOne", "filter", "has", "map"];

/// How large a compiled pattern may get, in bytes.
const PATTERN_SIZE_LIMIT: usize = 1 << 20;

static PATTERN_TYPE: Type = Type::new_unspecified_type("pattern");

/// A regular expression as a CEL value.
#[derive(Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern as RE2, which CEL has, would read it.
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        let source = pattern::as_re2(source)?;
        let compiled = RegexBuilder::new(&source).size_limit(PATTERN_SIZE_LIMIT).build();
        compiled.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => {
                format!("the pattern needs more than {limit} bytes when compiled")
            }
            other => format!("the pattern is not a regular expression: {}", one_line(&other)),
        })
    }
}

/// The regex crate draws its errors over several lines; the last one says what.
fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &PATTERN_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(Self(self.0.clone()))
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

/// The CEL standard library with the strings extension and our own functions.
pub(super) fn environment() -> Result<Env, DeclarationError> {
    let mut env = Env::stdlib();
    env.add_extension(extensions::strings)?;
    declare(&mut env)?;
    Ok(env)
}

fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_member_overload(
        MATCHES,
        "string.matches(pattern)",
        STRING_TYPE,
        vec![Pattern::cel_type().to_owned()],
        matches,
    )?;
    env.add_overload(
        MATCHES,
        "matches(string,pattern)",
        vec![STRING_TYPE, Pattern::cel_type().to_owned()],
        matches,
    )?;
    env.add_overload(EQUALS, "equals(dyn,dyn)", vec![DYN_TYPE, DYN_TYPE], equals)?;
    env.add_overload(DIFFERS, "differs(dyn,dyn)", vec![DYN_TYPE, DYN_TYPE], differs)?;
    env.add_overload(CONTAINS, "contains(dyn,dyn)", vec![DYN_TYPE, DYN_TYPE], contains)?;
    let comparisons: [(&str, Overload); 4] = [
        (LESS, |arguments| compare(&arguments, Ordering::is_lt)),
        (LESS_EQUALS, |arguments| compare(&arguments, Ordering::is_le)),
        (GREATER, |arguments| compare(&arguments, Ordering::is_gt)),
        (GREATER_EQUALS, |arguments| compare(&arguments, Ordering::is_ge)),
    ];
    for (name, function) in comparisons {
        env.add_overload(name, name, vec![DYN_TYPE, DYN_TYPE], function)?;
    }
    Ok(())
}

type Arguments<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

fn boolean<'b, 'v>(value: bool) -> CowVal<'b, 'v> {
    CowVal::owned(CelBool::from(value))
}

fn wrong_arguments<T>(function: &str, arguments: &Arguments<'_, '_>) -> Result<T, ExecutionError> {
    let types = arguments.iter().map(|value| value.get_type().name().to_owned()).collect();
    Err(ExecutionError::no_such_overload(function, types))
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of an overload")]
fn matches<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    if let [text, pattern] = arguments.as_slice()
        && let Some(text) = text.downcast_ref::<CelString>()
        && let Some(Pattern(regex)) = pattern.downcast_ref::<Pattern>()
    {
        return Ok(boolean(regex.is_match(text.inner())));
    }
    wrong_arguments(MATCHES, &arguments)
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of an overload")]
fn equals<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    match arguments.as_slice() {
        [a, b] => Ok(boolean(comparison::equal(a.as_ref(), b.as_ref()))),
        _ => wrong_arguments("_==_", &arguments),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of an overload")]
fn differs<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    match arguments.as_slice() {
        [a, b] => Ok(boolean(!comparison::equal(a.as_ref(), b.as_ref()))),
        _ => wrong_arguments("_!=_", &arguments),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of an overload")]
fn contains<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    match arguments.as_slice() {
        [value, container] => comparison::contains(container.as_ref(), value.as_ref()).map(boolean),
        _ => wrong_arguments("@in", &arguments),
    }
}

/// A comparison that looks at the types first.
fn compare<'b, 'v>(arguments: &Arguments<'b, 'v>, holds: fn(Ordering) -> bool) -> Answer<'b, 'v> {
    if let [a, b] = arguments.as_slice()
        && comparison::comparable(a.get_type().kind(), b.get_type().kind())
        && let Some(comparer) = a.as_comparer()
    {
        return comparer.compare(b.as_ref()).map(|ordering| boolean(holds(ordering)));
    }
    wrong_arguments("_<_", arguments)
}
