//! Findings as people and programs read them.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use crate::config::{Diagnostic, Severity};

/// Formats findings for people, each with its line of the file.
pub(super) fn text(findings: &[Diagnostic], renderer: &Renderer) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&renderer.render(&[group(finding)]));
        text.push_str("\n\n");
    }
    text
}

fn group(finding: &Diagnostic) -> Group<'_> {
    let Diagnostic { severity, lint, file, place, keys, message, line } = finding;
    let level = match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Notice => Level::NOTE,
    };
    let mut title = level.primary_title(message.as_str());
    if let Some(lint) = lint {
        title = title.id(lint.as_str());
    }
    let path = file.to_string_lossy();
    let Some(place) = place else {
        return title.element(Origin::path(path));
    };
    let Some(line) = line else {
        let origin = Origin::path(path).line(place.line).char_column(place.column);
        return title.element(origin);
    };
    let starts = line.char_indices().map(|(at, _)| at).chain([line.len()]);
    let mut from = starts.skip(place.column - 1);
    let start = from.next().unwrap_or(line.len());
    let end = from.next().unwrap_or(line.len());
    let annotation = AnnotationKind::Primary.span(start..end).label(keys.as_str());
    title.element(Snippet::source(line).line_start(place.line).path(path).annotation(annotation))
}

/// Formats a finding for programs.
pub(super) fn json(finding: &Diagnostic) -> Value {
    let Diagnostic { severity, lint, file, place, keys, message, line: _ } = finding;
    json!({
        "severity": severity.as_str(),
        "code": lint.map(|lint| lint.as_str()),
        "file": file.to_string_lossy(),
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
        "keys": keys,
        "message": message,
    })
}

/// Counts findings: "2 errors, 1 warning". Returns an empty string if there are none.
pub(super) fn summary(findings: &[Diagnostic]) -> String {
    let count = |severity: Severity| {
        let count = findings.iter().filter(|finding| finding.severity == severity).count();
        let plural = if count == 1 { "" } else { "s" };
        (count > 0).then(|| format!("{count} {}{plural}", severity.as_str()))
    };
    let counts = [Severity::Error, Severity::Warning, Severity::Notice].into_iter().map(count);
    counts.flatten().collect::<Vec<_>>().join(", ")
}
