//! Arguments as a client may write them: deep, wide, with keys twice and in every
//! case of letters.

use arbitrary::{Arbitrary, Result, Unstructured};

const DEEPEST: usize = 4;
const KEYS: [&str; 14] =
    ["a", "A", "b", "list", "LIST", "liſt", "s", "S", "ſ", "k", "K", "x", r"\u0061", "a.b"];
const VALUES: [&str; 16] = [
    "0",
    "1",
    "-1",
    "-0",
    "1.0",
    "1.5e3",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "1e308",
    "true",
    "null",
    r#""""#,
    r#""a""#,
    r#""ſtraße\u0000""#,
    r#""2026-01-01T00:00:00Z""#,
];

/// The texts of two objects.
#[derive(Debug)]
pub struct Arguments {
    pub args: String,
    pub meta: String,
}

impl<'a> Arbitrary<'a> for Arguments {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self { args: text(u)?, meta: text(u)? })
    }
}

fn text(u: &mut Unstructured<'_>) -> Result<String> {
    let mut text = String::new();
    object(u, DEEPEST, &mut text)?;
    Ok(text)
}

fn object(u: &mut Unstructured<'_>, depth: usize, text: &mut String) -> Result<()> {
    text.push('{');
    for number in 0..u.int_in_range(0..=4)? {
        if number > 0 {
            text.push(',');
        }
        text.push_str(&format!(r#""{}":"#, u.choose(&KEYS)?));
        value(u, depth, text)?;
    }
    text.push('}');
    Ok(())
}

fn value(u: &mut Unstructured<'_>, depth: usize, text: &mut String) -> Result<()> {
    let within = depth.saturating_sub(1);
    match if depth == 0 { 0 } else { u.int_in_range(0..=9u8)? } {
        0..=2 => text.push_str(u.choose(&VALUES)?),
        3 => text.push_str(&u.arbitrary::<i64>()?.to_string()),
        4 => text.push_str(&serde_json::Value::from(<&str>::arbitrary(u)?).to_string()),
        5..=6 => object(u, within, text)?,
        7 => {
            text.push('[');
            for number in 0..u.int_in_range(0..=3)? {
                if number > 0 {
                    text.push(',');
                }
                value(u, within, text)?;
            }
            text.push(']');
        }
        8 => {
            let mut item = String::new();
            value(u, 0, &mut item)?;
            let items = vec![item; u.int_in_range(0..=100)?];
            text.push_str(&format!("[{}]", items.join(",")));
        }
        _ => {
            let depth = u.int_in_range(0..=200)?;
            text.push_str(&r#"{"a":["#.repeat(depth));
            value(u, 0, text)?;
            text.push_str(&"]}".repeat(depth));
        }
    }
    Ok(())
}
