//! The functions that a condition may call.

use std::ops::RangeInclusive;

use cel::common::ast::CallExpr;

use super::syntax::qualified_name;

pub(super) const MATCHES: &str = "matches";

/// A function with its number of arguments and its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: &'static str,
    least: usize,
    most: usize,
    pub(super) price: Price,
}

/// The cost of a function, besides one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Price {
    /// No further cost: the function does not read the content of its arguments.
    Step,
    /// The length of the string arguments. The function builds no longer string.
    Texts,
    /// At most the length of the shortest argument.
    Prefix,
    /// The content of all arguments.
    Content,
    /// The size of the arguments, because the function copies them.
    Copies,
    /// The length of a string, multiplied by a weight that grows with the pattern's size.
    Pattern,
    /// A cost that depends on all arguments together.
    Product,
}

impl Function {
    /// Returns the permitted numbers of arguments.
    pub(super) fn arguments(self) -> RangeInclusive<usize> {
        self.least..=self.most
    }

    /// Checks the number of arguments.
    ///
    /// # Errors
    /// A message that names the expected number.
    pub(super) fn takes(self, arguments: usize) -> Result<(), String> {
        let Self { name, least, most, price: _ } = self;
        if (least..=most).contains(&arguments) {
            return Ok(());
        }
        let expected = if least == most { least.to_string() } else { format!("{least} or {most}") };
        let noun = if most == 1 { "argument" } else { "arguments" };
        Err(format!("`{name}` takes {expected} {noun}, not {arguments}"))
    }
}

const fn function(name: &'static str, least: usize, most: usize, price: Price) -> Function {
    Function { name, least, most, price }
}

/// The functions with calls of the form `f(x)`. A name with a dot is qualified.
pub(super) const GLOBAL: &[Function] = &[
    function("bool", 1, 1, Price::Texts),
    function("bytes", 1, 1, Price::Texts),
    function("double", 1, 1, Price::Texts),
    function("duration", 1, 1, Price::Texts),
    function("dyn", 1, 1, Price::Step),
    function("int", 1, 1, Price::Texts),
    function("matches", 2, 2, Price::Pattern),
    function("optional.none", 0, 0, Price::Step),
    function("optional.of", 1, 1, Price::Copies),
    function("optional.ofNonZeroValue", 1, 1, Price::Copies),
    function("size", 1, 1, Price::Texts),
    function("string", 1, 1, Price::Texts),
    function("strings.quote", 1, 1, Price::Texts),
    function("timestamp", 1, 1, Price::Texts),
    function("type", 1, 1, Price::Step),
    function("uint", 1, 1, Price::Texts),
];

/// The functions with calls of the form `x.f(y)`. The number of arguments does not include `x`.
pub(super) const MEMBER: &[Function] = &[
    function("charAt", 1, 1, Price::Texts),
    function("contains", 1, 1, Price::Texts),
    function("endsWith", 1, 1, Price::Prefix),
    function("format", 1, 1, Price::Content),
    function("getDate", 0, 1, Price::Texts),
    function("getDayOfMonth", 0, 1, Price::Texts),
    function("getDayOfWeek", 0, 1, Price::Texts),
    function("getDayOfYear", 0, 1, Price::Texts),
    function("getFullYear", 0, 1, Price::Texts),
    function("getHours", 0, 1, Price::Texts),
    function("getMilliseconds", 0, 1, Price::Texts),
    function("getMinutes", 0, 1, Price::Texts),
    function("getMonth", 0, 1, Price::Texts),
    function("getSeconds", 0, 1, Price::Texts),
    function("hasValue", 0, 0, Price::Step),
    function("indexOf", 1, 2, Price::Product),
    function("join", 0, 1, Price::Product),
    function("lastIndexOf", 1, 2, Price::Product),
    function("lowerAscii", 0, 0, Price::Texts),
    function("matches", 1, 1, Price::Pattern),
    function("or", 1, 1, Price::Copies),
    function("orValue", 1, 1, Price::Copies),
    function("replace", 2, 3, Price::Product),
    function("reverse", 0, 0, Price::Texts),
    function("size", 0, 0, Price::Texts),
    function("split", 1, 2, Price::Product),
    function("startsWith", 1, 1, Price::Prefix),
    function("substring", 1, 2, Price::Texts),
    function("trim", 0, 0, Price::Texts),
    function("upperAscii", 0, 0, Price::Texts),
    function("value", 0, 0, Price::Copies),
];

pub(super) fn find(functions: &[Function], name: &str) -> Option<Function> {
    functions.iter().copied().find(|function| function.name == name)
}

/// Returns the called function, if there is one, and true if the target of the call is an operand.
pub(super) fn called(call: &CallExpr) -> Option<(Function, bool)> {
    let Some(target) = &call.target else {
        return find(GLOBAL, &call.func_name).map(|function| (function, false));
    };
    let qualifier = qualified_name(&target.expr);
    let qualified = qualifier.map(|qualifier| format!("{qualifier}.{}", call.func_name));
    match qualified.and_then(|name| find(GLOBAL, &name)) {
        Some(function) => Some((function, false)),
        None => find(MEMBER, &call.func_name).map(|function| (function, true)),
    }
}

/// The names of macros. The parser expands macros, so a remaining call of one has the wrong number
/// of arguments.
pub(super) const MACROS: &[&str] =
    &["all", "exists", "exists_one", "existsOne", "filter", "has", "map"];

/// Returns the error message for an unknown function, with a suggestion if a name is similar.
pub(super) fn unknown(name: &str, is_member: bool) -> String {
    let (here, elsewhere, instead) = if is_member {
        (MEMBER, GLOBAL, format!("{name}(x)"))
    } else {
        (GLOBAL, MEMBER, format!("x.{name}(…)"))
    };
    let known = here.iter().map(|function| function.name).chain(MACROS.iter().copied());
    let hint = match crate::words::nearest(name, known) {
        _ if find(elsewhere, name).is_some() => format!("; call it as `{instead}`"),
        Some(word) => format!("; did you mean `{word}`?"),
        None => String::new(),
    };
    format!("unknown function `{name}`{hint}")
}
