//! The functions that a condition may call.

use std::any::Any;
use std::cmp::Ordering;

use cel::common::functions::Function;
use cel::common::types::{CelBool, CelString, DYN_TYPE, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError, extensions};
use regex::{Regex, RegexBuilder};

use super::view;

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

/// Functions called as `f(x)`; a name with a dot is qualified.
pub(super) const GLOBAL: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "matches",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "size",
    "string",
    "strings.quote",
    "timestamp",
    "type",
    "uint",
];

/// Functions called as `x.f(y)`.
pub(super) const MEMBER: &[&str] = &[
    "charAt",
    "contains",
    "endsWith",
    "format",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "hasValue",
    "indexOf",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "matches",
    "or",
    "orValue",
    "replace",
    "reverse",
    "size",
    "split",
    "startsWith",
    "substring",
    "trim",
    "upperAscii",
    "value",
];

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
    pub(super) fn compile(source: &str) -> Result<Self, regex::Error> {
        RegexBuilder::new(source).size_limit(PATTERN_SIZE_LIMIT).build().map(Self)
    }
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
    let comparisons: [(&str, Function); 4] = [
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
        [a, b] => Ok(boolean(view::equal(a.as_ref(), b.as_ref()))),
        _ => wrong_arguments("_==_", &arguments),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of an overload")]
fn differs<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    match arguments.as_slice() {
        [a, b] => Ok(boolean(!view::equal(a.as_ref(), b.as_ref()))),
        _ => wrong_arguments("_!=_", &arguments),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of an overload")]
fn contains<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    match arguments.as_slice() {
        [value, container] => view::contains(container.as_ref(), value.as_ref()).map(boolean),
        _ => wrong_arguments("@in", &arguments),
    }
}

/// A comparison that looks at the types first.
fn compare<'b, 'v>(arguments: &Arguments<'b, 'v>, holds: fn(Ordering) -> bool) -> Answer<'b, 'v> {
    if let [a, b] = arguments.as_slice()
        && view::comparable(a.get_type().kind(), b.get_type().kind())
        && let Some(comparer) = a.as_comparer()
    {
        return comparer.compare(b.as_ref()).map(|ordering| boolean(holds(ordering)));
    }
    wrong_arguments("_<_", arguments)
}
