//! Expressions of CEL: mostly such as compile, some of any text.

use arbitrary::{Arbitrary, Result, Unstructured};

/// Deep enough for every construct within every other.
const DEEPEST: usize = 5;

const ROOTS: [&str; 16] = [
    "args",
    "args.a",
    "args.b.a",
    "args.list",
    "args['s']",
    "args[?'k']",
    "args.?a",
    "meta.a",
    "request.auth.jwt.claims",
    "request.auth.jwt.claims.groups",
    "request.auth.jwt.scopes",
    "request.headers['x-a']",
    "request.headers",
    "request.mcp.params",
    "request.mcp.tool",
    "x",
];
const LITERALS: [&str; 16] = [
    "1",
    "-1",
    "0",
    "2u",
    "1.5",
    "-0.0",
    "9223372036854775807",
    "-9223372036854775808",
    "'a'",
    "'ſ'",
    "''",
    "b'a'",
    "true",
    "null",
    "[]",
    "{}",
];
const OPERATORS: [&str; 14] =
    ["==", "!=", "<", "<=", ">", ">=", "&&", "||", "+", "-", "*", "/", "%", "in"];
const MACROS: [&str; 6] = ["all", "exists", "exists_one", "existsOne", "filter", "map"];
const FUNCTIONS: [&str; 16] = [
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "size",
    "string",
    "timestamp",
    "type",
    "uint",
    "strings.quote",
    "optional.of",
    "optional.ofNonZeroValue",
    "!",
    "-",
];
const METHODS: [&str; 24] = [
    "contains",
    "endsWith",
    "startsWith",
    "indexOf",
    "lastIndexOf",
    "charAt",
    "split",
    "join",
    "replace",
    "substring",
    "lowerAscii",
    "upperAscii",
    "trim",
    "reverse",
    "size",
    "format",
    "or",
    "orValue",
    "hasValue",
    "value",
    "getHours",
    "getFullYear",
    "getMilliseconds",
    "getDayOfWeek",
];
const PATTERNS: [&str; 6] = ["^a*$", "(a|b)+", "[^x]{1,9}", r"\\w+\\s?", "(?i)K", r"\\p{Greek}"];

/// The text of an expression.
#[derive(Debug)]
pub struct Expression(pub String);

impl<'a> Arbitrary<'a> for Expression {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        if u.arbitrary::<u8>()? % 4 == 3 {
            return Ok(Self(<&str>::arbitrary(u)?.to_owned()));
        }
        let mut text = String::new();
        write(u, DEEPEST, &mut text)?;
        Ok(Self(text))
    }
}

fn write(u: &mut Unstructured<'_>, depth: usize, text: &mut String) -> Result<()> {
    let within = depth.saturating_sub(1);
    match if depth == 0 { u.int_in_range(0..=1)? } else { u.int_in_range(0..=10u8)? } {
        0 => text.push_str(u.choose(&ROOTS)?),
        1 => text.push_str(u.choose(&LITERALS)?),
        2..=4 => {
            text.push('(');
            write(u, within, text)?;
            text.push_str(&format!(" {} ", u.choose(&OPERATORS)?));
            write(u, within, text)?;
            text.push(')');
        }
        5 => {
            write(u, within, text)?;
            text.push_str(&format!(".{}(x, ", u.choose(&MACROS)?));
            write(u, within, text)?;
            text.push(')');
        }
        6 => {
            text.push_str(&format!("{}(", u.choose(&FUNCTIONS)?));
            write(u, within, text)?;
            text.push(')');
        }
        7 => {
            write(u, within, text)?;
            text.push_str(&format!(".{}(", u.choose(&METHODS)?));
            list(u, within, text, |_| Ok(""))?;
            text.push(')');
        }
        8 => {
            write(u, within, text)?;
            text.push_str(&format!(".matches('{}')", u.choose(&PATTERNS)?));
        }
        9 => {
            let (open, close) = if u.arbitrary()? { ('[', ']') } else { ('{', '}') };
            text.push(open);
            list(u, within, text, |u| {
                Ok(if open == '{' { u.choose(&["'a': ", "1: ", "true: "])? } else { "" })
            })?;
            text.push(close);
        }
        _ => match u.int_in_range(0..=2u8)? {
            0 => {
                write(u, within, text)?;
                text.push_str(" ? ");
                write(u, within, text)?;
                text.push_str(" : ");
                write(u, within, text)?;
            }
            1 => {
                write(u, within, text)?;
                text.push('[');
                write(u, within, text)?;
                text.push(']');
            }
            _ => text.push_str(&format!("has({}.a)", u.choose(&ROOTS)?)),
        },
    }
    Ok(())
}

/// Up to two of them, each after what `before` says.
fn list<'s>(
    u: &mut Unstructured<'_>,
    depth: usize,
    text: &mut String,
    before: impl Fn(&mut Unstructured<'_>) -> Result<&'s str>,
) -> Result<()> {
    for number in 0..u.int_in_range(0..=2)? {
        if number > 0 {
            text.push_str(", ");
        }
        text.push_str(before(u)?);
        write(u, depth, text)?;
    }
    Ok(())
}
