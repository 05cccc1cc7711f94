//! Patterns of `matches`: RE2's syntax, of which the `regex` crate has its own view.
//!
//! A Deny rule must not miss, and an Allow rule not match, what RE2 (and with it
//! every other CEL) takes a pattern for. Where the two read the same characters
//! differently, they are rewritten, or refused if that cannot be done.

use std::convert::Infallible;

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    self, AssertionKind, Ast, ClassPerl, ClassPerlKind, ClassSetBinaryOp, ClassSetItem, Span,
    Visitor,
};

/// The pattern with RE2's meaning: `\d`, `\w`, `\s` and `\b` are ASCII there.
pub(super) fn as_re2(source: &str) -> Result<String, String> {
    let parsed = Parser::new().parse(source);
    let parsed = parsed
        .map_err(|error| format!("the pattern is not a regular expression: {}", error.kind()))?;
    let found = ast::visit(&parsed, Differences::default());
    let Differences { replacements, sets } = found.unwrap_or_default();
    if let Some(span) = sets.first() {
        let text = source.get(span.start.offset..span.end.offset).unwrap_or_default();
        return Err(format!(
            "`{text}`: within [ ] the characters [ && -- ~~ are plain in RE2 and would be operators \
             here: escape them, as in `\\[` and `\\&&`"
        ));
    }
    let mut rewritten = String::with_capacity(source.len());
    let mut copied = 0;
    for (span, instead) in &replacements {
        rewritten.push_str(source.get(copied..span.start.offset).unwrap_or_default());
        rewritten.push_str(instead);
        copied = span.end.offset;
    }
    rewritten.push_str(source.get(copied..).unwrap_or_default());
    Ok(rewritten)
}

#[derive(Default)]
struct Differences {
    /// In the order of the pattern.
    replacements: Vec<(Span, String)>,
    /// Operators and classes in classes.
    sets: Vec<Span>,
}

/// What RE2 has in a class, as it is written within brackets.
fn members(kind: &ClassPerlKind) -> &'static str {
    match kind {
        ClassPerlKind::Digit => "0-9",
        ClassPerlKind::Space => r"\t\n\x0c\r ",
        ClassPerlKind::Word => "0-9A-Za-z_",
    }
}

/// The class in brackets of its own.
fn bracketed(class: &ClassPerl) -> String {
    format!("[{}{}]", if class.negated { "^" } else { "" }, members(&class.kind))
}

impl Visitor for Differences {
    type Output = Self;
    type Err = Infallible;

    fn finish(self) -> Result<Self, Infallible> {
        Ok(self)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Infallible> {
        match ast {
            Ast::ClassPerl(class) => {
                self.replacements.push((class.span, bracketed(class)));
            }
            Ast::Assertion(assertion) => {
                let instead = match assertion.kind {
                    AssertionKind::WordBoundary => r"(?-u:\b)",
                    AssertionKind::NotWordBoundary => r"(?-u:\B)",
                    _ => return Ok(()),
                };
                self.replacements.push((assertion.span, instead.to_owned()));
            }
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Infallible> {
        match item {
            ClassSetItem::Perl(class) => {
                let instead =
                    if class.negated { bracketed(class) } else { members(&class.kind).to_owned() };
                self.replacements.push((class.span, instead));
            }
            ClassSetItem::Bracketed(class) => self.sets.push(class.span),
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, op: &ClassSetBinaryOp) -> Result<(), Infallible> {
        self.sets.push(op.span);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::as_re2;

    #[test]
    fn classes_are_ascii_as_in_re2() {
        for (pattern, text, expected) in [
            (r"^\d+$", "19", true),
            (r"^\d+$", "١٢", false),
            (r"^\D$", "١", true),
            (r"^\w+$", "admin_1", true),
            (r"^\w+$", "админ", false),
            (r"^\W$", "я", true),
            (r"^\s$", " ", true),
            (r"^\s$", "\u{a0}", false),
            (r"^\s$", "\u{b}", false),
            (r"^[\d.]+$", "1.2", true),
            (r"^[\d.]+$", "١.٢", false),
            (r"^[^\w-]$", "я", true),
            (r"^[\W]$", "a", false),
            (r"\bsecret\b", "я secret", true),
            (r"\bsecret\b", "яsecret", true),
            (r"\bsecret\b", "xsecret", false),
            ("^.$", "я", true),
            ("^[а-я]+$", "админ", true),
            (r"^\pL+$", "админ", true),
            ("^[[:alpha:]]+$", "ab", true),
            (r"^[;\&&|]$", "&", true),
        ] {
            let rewritten = as_re2(pattern).unwrap();
            let matches = Regex::new(&rewritten).unwrap().is_match(text);
            assert_eq!(matches, expected, "{pattern} ({rewritten}) {text:?}");
        }
    }

    #[test]
    fn what_would_be_an_operator_here_is_refused() {
        for pattern in ["[;&&|]", "[a--b]", "[a~~b]", "[a[b]]", "[^&&]"] {
            let error = as_re2(pattern).unwrap_err();
            assert!(error.contains("are plain in RE2"), "{pattern}: {error}");
        }
        assert!(as_re2("[a-]").is_ok() && as_re2("a&&b--c").is_ok() && as_re2(r"[\[&]").is_ok());
    }
}
