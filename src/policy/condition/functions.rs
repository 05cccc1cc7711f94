//! The functions that a condition may call.

use std::ops::RangeInclusive;

use cel::common::ast::CallExpr;

use super::syntax::qualified_name;

pub(super) const MATCHES: &str = "matches";

/// A function with the number of its arguments and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: &'static str,
    least: usize,
    most: usize,
    pub(super) price: Price,
}

/// What a function costs beside a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Price {
    /// Nothing: it looks at its arguments from outside.
    Step,
    /// It reads its arguments that are texts, and builds nothing longer.
    Texts,
    /// It reads no more of them than there is in the shortest.
    Prefix,
    /// It reads all that is in its arguments.
    Content,
    /// It copies its arguments.
    Copies,
    /// It reads a text, the more slowly the larger its pattern is.
    Pattern,
    /// It depends on all its arguments together.
    Product,
}

impl Function {
    /// How many arguments it can be called with.
    pub(super) fn arguments(self) -> RangeInclusive<usize> {
        self.least..=self.most
    }

    /// Whether it can be called with so many arguments; otherwise what it takes.
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

/// Functions called as `f(x)`; a name with a dot is qualified.
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

/// Functions called as `x.f(y)`; `x` is not counted.
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

/// The function that is called, if there is one, and whether it takes the target
/// of the call.
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

/// Macros: the parser expands them, so a call of one that is still there has the
/// wrong number of arguments.
pub(super) const MACROS: &[&str] =
    &["all", "exists", "exists_one", "existsOne", "filter", "has", "map"];

/// Returns the message for a name that no function has, with the one that may be meant.
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
