//! Patterns of `matches`, in the syntax of RE2, which the `regex` crate reads differently in part.
//!
//! A pattern must match exactly what RE2 matches, as in other CEL implementations. Otherwise a Deny
//! rule could miss a call, or an Allow rule could match too much. Where the `regex` crate reads a
//! pattern differently than RE2, this module rewrites the pattern, or rejects it if rewriting is
//! impossible.

use std::any::Any;
use std::convert::Infallible;

use cel::common::types::Type;
use cel::common::value::{StaticVal, Val};
use regex::{Regex, RegexBuilder};
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    self, AssertionKind, Ast, ClassPerl, ClassPerlKind, ClassSetBinaryOp, ClassSetItem,
    ClassUnicodeKind, Group, GroupKind, Span, Visitor,
};
use regex_syntax::hir::{Class, Hir, HirKind};

/// The number of automaton states that adds 1 to the cost of each byte of text.
const STATES_OF_A_STEP: u64 = 16;
/// The factor by which a counted repetition multiplies its cost.
const COUNTED: u64 = 4;
/// The maximum size of a compiled pattern, in bytes.
const PATTERN_SIZE_LIMIT: usize = 1 << 20;

static PATTERN_TYPE: Type = Type::new_unspecified_type("pattern");

/// A regular expression in RE2's syntax.
#[derive(Debug)]
pub struct Pattern {
    regex: Regex,
    /// The cost of each byte of text, in bytes of the budget.
    weight: u64,
}

impl Pattern {
    /// Compiles a pattern with the meaning that RE2, and so CEL, gives the pattern.
    ///
    /// # Errors
    /// The reason that the pattern is not valid in RE2, or that the pattern is too large.
    pub fn compile(source: &str) -> Result<Self, String> {
        let source = as_re2(source)?;
        let compiled = RegexBuilder::new(&source).size_limit(PATTERN_SIZE_LIMIT).build();
        let regex = compiled.map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => {
                format!("the pattern needs more than {limit} bytes when compiled")
            }
            other => format!("the pattern is not a regular expression: {}", one_line(&other)),
        })?;
        let states = regex_syntax::parse(&source).map_or(u64::MAX, |hir| states(&hir));
        Ok(Self { regex, weight: 1 + states / STATES_OF_A_STEP })
    }

    /// Returns the cost of searching a text for the pattern, in bytes of the budget.
    pub(super) fn cost(&self, text: &str) -> u64 {
        self.weight.saturating_mul(text.len() as u64)
    }

    /// Returns true if the pattern matches anywhere in a text.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

/// Estimates the number of states of the pattern's automaton. A malicious text can keep all states
/// in use at each byte.
fn states(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len() as u64,
        // A range of characters takes up to four byte ranges in UTF-8, in sequence.
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().map(|range| if range.end().is_ascii() { 1 } else { 4 }).sum()
        }
        HirKind::Class(Class::Bytes(_)) => 1,
        HirKind::Repetition(repetition) => {
            let times = u64::from(repetition.max.unwrap_or(repetition.min).max(1));
            let states = times.saturating_mul(1 + states(&repetition.sub));
            // The set of active states depends on the text. Counted repetitions have more such sets
            // than the automaton can cache.
            if times > 1 { states.saturating_mul(COUNTED) } else { states }
        }
        HirKind::Capture(capture) => 2 + states(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(states).fold(1, u64::saturating_add)
        }
    }
}

/// Returns the last line of an error, which names the cause. The `regex` crate draws its errors
/// over several lines.
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
        Box::new(Self { regex: self.regex.clone(), weight: self.weight })
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

/// Rewrites a pattern to have its RE2 meaning, in which `\d`, `\w`, `\s` and `\b` are ASCII.
///
/// # Errors
/// A message for a pattern that RE2 reads differently and that cannot be rewritten.
fn as_re2(source: &str) -> Result<String, String> {
    let parsed = Parser::new().parse(source);
    let parsed = parsed
        .map_err(|error| format!("the pattern is not a regular expression: {}", error.kind()))?;
    let found = ast::visit(&parsed, Differences { source, ..Differences::default() });
    let Differences { replacements, sets, others, source: _ } = found.unwrap_or_default();
    if let Some(span) = sets.first() {
        let text = source.get(span.start.offset..span.end.offset).unwrap_or_default();
        return Err(format!(
            "`{text}`: within [ ] the characters [ && -- ~~ are plain in RE2 and would be operators \
             here: escape them, as in `\\[` and `\\&&`"
        ));
    }
    if let Some((span, instead)) = others.first() {
        let text = source.get(span.start.offset..span.end.offset).unwrap_or_default();
        return Err(format!("`{text}` means something else in RE2: {instead}"));
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
struct Differences<'p> {
    source: &'p str,
    /// The replacements, in the order of their positions.
    replacements: Vec<(Span, String)>,
    /// The set operators and nested classes within classes.
    sets: Vec<Span>,
    /// The other parts that RE2 reads differently, each with its fix.
    others: Vec<(Span, &'static str)>,
}

impl Differences<'_> {
    fn text(&self, span: Span) -> &str {
        self.source.get(span.start.offset..span.end.offset).unwrap_or_default()
    }
}

/// Returns true if RE2 reads the bounds of a repetition as literal characters, because the bounds
/// contain blanks or leading zeros.
fn is_literal_in_re2(bounds: &str) -> bool {
    let is_padded = |bound: &str| bound.len() > 1 && bound.starts_with('0');
    let inner = bounds.trim_start_matches('{').split('}').next().unwrap_or_default();
    bounds.starts_with('{')
        && (inner.contains(char::is_whitespace) || inner.split(',').any(is_padded))
}

/// Returns true for the class of other characters (`C`), which contains unassigned characters only
/// in the `regex` crate.
fn is_other(kind: &ClassUnicodeKind) -> bool {
    match kind {
        ClassUnicodeKind::OneLetter(name) => name.eq_ignore_ascii_case(&'c'),
        ClassUnicodeKind::Named(name) => name.eq_ignore_ascii_case("c"),
        ClassUnicodeKind::NamedValue { .. } => false,
    }
}

const WITHOUT_OTHER: &str = "name the classes that it should hold, as in `\\p{Cc}`";

/// Returns the members of a class in RE2, in the syntax within brackets.
fn members(kind: &ClassPerlKind) -> &'static str {
    match kind {
        ClassPerlKind::Digit => "0-9",
        ClassPerlKind::Space => r"\t\n\x0c\r ",
        ClassPerlKind::Word => "0-9A-Za-z_",
    }
}

/// Returns the class with its own brackets.
fn bracketed(class: &ClassPerl) -> String {
    format!("[{}{}]", if class.negated { "^" } else { "" }, members(&class.kind))
}

impl Visitor for Differences<'_> {
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
            // Make groups non-capturing: no one reads captures, and finding them takes time.
            Ast::Group(group)
                if matches!(
                    group.kind,
                    GroupKind::CaptureIndex(_) | GroupKind::CaptureName { .. }
                ) =>
            {
                let Group { span, ast, .. } = group.as_ref();
                self.replacements.push((Span::new(span.start, ast.span().start), "(?:".to_owned()));
            }
            Ast::Assertion(assertion) => {
                let instead = match assertion.kind {
                    AssertionKind::WordBoundary => r"(?-u:\b)",
                    AssertionKind::NotWordBoundary => r"(?-u:\B)",
                    AssertionKind::WordBoundaryStartAngle => "<",
                    AssertionKind::WordBoundaryEndAngle => ">",
                    AssertionKind::WordBoundaryStart
                    | AssertionKind::WordBoundaryEnd
                    | AssertionKind::WordBoundaryStartHalf
                    | AssertionKind::WordBoundaryEndHalf => {
                        self.others.push((assertion.span, "write `\\b`"));
                        return Ok(());
                    }
                    AssertionKind::StartLine
                    | AssertionKind::EndLine
                    | AssertionKind::StartText
                    | AssertionKind::EndText => return Ok(()),
                };
                self.replacements.push((assertion.span, instead.to_owned()));
            }
            Ast::Repetition(repetition) if is_literal_in_re2(self.text(repetition.op.span)) => {
                let instead = "write the counts without blanks and leading zeros";
                self.others.push((repetition.op.span, instead));
            }
            Ast::ClassBracketed(class)
                if ["[--", "[^--"].iter().any(|start| self.text(class.span).starts_with(start)) =>
            {
                self.others.push((class.span, "escape the dashes, as in `\\-`"));
            }
            Ast::ClassUnicode(class) if is_other(&class.kind) => {
                self.others.push((class.span, WITHOUT_OTHER));
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
            ClassSetItem::Unicode(class) if is_other(&class.kind) => {
                self.others.push((class.span, WITHOUT_OTHER));
            }
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

    use super::{as_re2, states};

    #[test]
    fn states_are_counted_as_an_automaton_has_them() {
        for (pattern, expected) in [
            ("abc", 3),
            ("[a-c]", 1),
            ("[à-é]", 4),
            ("a[0-9]", 3),
            ("a|[0-9]b", 1 + 1 + 3),
            ("a*", 2),
            ("a+[0-9]", 1 + 2 + 1),
            ("^a", 1 + 1 + 1),
            ("(a)", 2 + 1),
            // States of a counted repetition stay in use.
            ("a{2}", 2 * 2 * 4),
            ("a{1,500}", 500 * 2 * 4),
            ("(?:a{2}){3}", 3 * (1 + 16) * 4),
        ] {
            assert_eq!(states(&regex_syntax::parse(pattern).unwrap()), expected, "{pattern}");
        }
        assert_eq!(as_re2("(a)(?P<n>b)(?:c)(?i:d)").unwrap(), "(?:a)(?:b)(?:c)(?i:d)");
    }

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
            (r"\<\?php", "<?php", true),
            (r"^\<[a-z]+\>$", "<abc>", true),
            (r"^\<[a-z]+\>$", "abc", false),
        ] {
            let rewritten = as_re2(pattern).unwrap();
            let matches = Regex::new(&rewritten).unwrap().is_match(text);
            assert_eq!(matches, expected, "{pattern} ({rewritten}) {text:?}");
        }
    }

    #[test]
    fn part_unlike_re2_is_refused() {
        for pattern in [
            r"\b{start}",
            r"x\b{end-half}",
            "[--9]",
            "[^--9]",
            "[--/]",
            "a{ 2}",
            "a{2 }",
            "a{2, 3}",
            "a{02}",
            "a{1,03}",
            r"^\PC*$",
            r"\pC",
            r"[^\pC]",
            r"\p{C}",
        ] {
            let error = as_re2(pattern).unwrap_err();
            assert!(error.contains("in RE2"), "{pattern}: {error}");
        }
        for pattern in ["a{2}", "a{0,10}", "a{2,}?", "[-a]", "[a-]", r"[\--9]", r"\p{Cc}", r"\pL"] {
            assert!(as_re2(pattern).is_ok(), "{pattern}");
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
