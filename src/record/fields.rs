//! The text forms of a decision: protobuf's mapping to JSON, and a line for people.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat};
use serde_json::Value;

use super::{ALLOW, Verdict};
use crate::proto::v1::Decision;
use crate::proto::{Duration, Timestamp};

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field<'d> {
    /// A string.
    Text(&'d str),
    /// A time or a duration, in protobuf's JSON form.
    Written(String),
    /// Several strings.
    Texts(&'d [String]),
    /// A number.
    Number(u32),
    /// A boolean.
    Bool(bool),
}

/// Returns the fields of a decision that are not empty, with their names in JSON, in the order of
/// `proto/`.
pub fn fields(decision: &Decision) -> impl Iterator<Item = (&'static str, Field<'_>)> {
    let Decision {
        time,
        verdict,
        shadow,
        reason,
        http_status,
        policy,
        policy_sha256,
        rule,
        method,
        backend,
        tool,
        calls,
        required_scopes,
        subject,
        client_id,
        condition_errors,
        request_id,
        trace_id,
        span_id,
        duration,
        prompt,
        resource,
    } = decision;
    let number = |name, number| (number != 0).then_some((name, Field::Number(number)));
    let fields = [
        time.as_ref().map(|time| ("time", Field::Written(rfc3339(time)))),
        text("verdict", verdict),
        shadow.then_some(("shadow", Field::Bool(true))),
        text("reason", reason),
        number("httpStatus", *http_status),
        text("policy", policy),
        text("policySha256", policy_sha256),
        text("rule", rule),
        text("method", method),
        text("backend", backend),
        text("tool", tool),
        number("calls", *calls),
        texts("requiredScopes", required_scopes),
        text("subject", subject),
        text("clientId", client_id),
        texts("conditionErrors", condition_errors),
        text("requestId", request_id),
        text("traceId", trace_id),
        text("spanId", span_id),
        duration.as_ref().map(|duration| ("duration", Field::Written(seconds(duration)))),
        text("prompt", prompt),
        text("resource", resource),
    ];
    fields.into_iter().flatten()
}

fn text<'d>(name: &'static str, text: &'d str) -> Option<(&'static str, Field<'d>)> {
    (!text.is_empty()).then_some((name, Field::Text(text)))
}

fn texts<'d>(name: &'static str, texts: &'d [String]) -> Option<(&'static str, Field<'d>)> {
    (!texts.is_empty()).then_some((name, Field::Texts(texts)))
}

/// Returns a decision as one line of JSON, without the line end.
pub fn json(decision: &Decision) -> String {
    let mut line = "{".to_owned();
    for (name, field) in fields(decision) {
        let value = match field {
            Field::Text(text) => text.into(),
            Field::Written(text) => text.into(),
            Field::Texts(texts) => texts.into(),
            Field::Number(number) => number.into(),
            Field::Bool(value) => Value::Bool(value),
        };
        let comma = if line.len() > 1 { "," } else { "" };
        // Writing to a `String` cannot fail.
        let _written = write!(line, "{comma}\"{name}\":{value}");
    }
    line.push('}');
    line
}

/// Returns a decision as a line for people, without the line end. Escapes keep a caller's text from
/// controlling a terminal.
pub fn line(decision: &Decision) -> String {
    let Decision { time, verdict, reason, policy, rule, method, backend, .. } = decision;
    let mut line = String::new();
    let mut add = |label: &str, text: &str| {
        if !text.is_empty() {
            let space = if line.is_empty() { "" } else { "  " };
            // Quotes text that a reader could mistake for another field.
            let text = match text.trim_end().contains(' ') {
                true => format!("{text:?}"),
                false => text.escape_debug().to_string(),
            };
            let _written = write!(line, "{space}{label}{text}");
        }
    };
    add("", &time.as_ref().map(rfc3339).unwrap_or_default());
    add(
        "",
        match Verdict::of(decision) {
            Verdict::Allow => "ALLOW ",
            Verdict::Deny => "DENY  ",
            Verdict::ShadowDeny => "SHADOW",
        },
    );
    let Decision { tool, prompt, resource, .. } = decision;
    let target = [("", tool), ("prompt ", prompt), ("resource ", resource)];
    let target = target.into_iter().find(|(_, name)| !name.is_empty());
    let what = match (backend.as_str(), target) {
        (_, None) => method.clone(),
        ("", Some((kind, name))) => format!("{kind}{name}"),
        (backend, Some((kind, name))) => format!("{kind}{backend}/{name}"),
    };
    add("", if what.is_empty() { "-" } else { &what });
    add("", reason);
    if verdict != ALLOW {
        add("HTTP ", &decision.http_status.to_string());
    }
    add("needs ", &decision.required_scopes.join(" "));
    add("subject ", &decision.subject);
    add("client ", &decision.client_id);
    add("policy ", policy);
    add("rule ", rule);
    add("failed conditions ", &decision.condition_errors.join(" "));
    add("request ", &decision.request_id);
    add("trace ", &decision.trace_id);
    line
}

/// Formats a time in UTC, with microseconds ([RFC 3339]).
///
/// [RFC 3339]: https://www.rfc-editor.org/rfc/rfc3339
fn rfc3339(Timestamp { seconds, nanos }: &Timestamp) -> String {
    let time = DateTime::from_timestamp(*seconds, u32::try_from(*nanos).unwrap_or_default());
    time.unwrap_or_default().to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Formats a duration in seconds, with nine digits after the point, as the mapping to JSON allows.
fn seconds(Duration { seconds, nanos }: &Duration) -> String {
    format!("{seconds}.{nanos:09}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_a_line_of_json_and_one_for_people() {
        let decision = Decision {
            time: Some(Timestamp { seconds: 1_700_000_000, nanos: 1_500_000 }),
            verdict: "Deny".to_owned(),
            reason: "insufficient_scope".to_owned(),
            http_status: 403,
            policy: "github".to_owned(),
            method: "tools/call".to_owned(),
            backend: "github".to_owned(),
            tool: "bad\u{1b}[2J\"tool".to_owned(),
            required_scopes: vec!["a".to_owned(), "b".to_owned()],
            subject: "ana".to_owned(),
            duration: Some(Duration { seconds: 0, nanos: 12_345 }),
            ..Decision::default()
        };
        let written = json(&decision);
        let parsed: Value = serde_json::from_str(&written).unwrap();
        let expected = serde_json::json!({
            "time": "2023-11-14T22:13:20.001500Z",
            "verdict": "Deny",
            "reason": "insufficient_scope",
            "httpStatus": 403,
            "policy": "github",
            "method": "tools/call",
            "backend": "github",
            "tool": "bad\u{1b}[2J\"tool",
            "requiredScopes": ["a", "b"],
            "subject": "ana",
            "duration": "0.000012345s",
        });
        assert_eq!(parsed, expected);
        assert!(!written.contains('\n') && written.starts_with(r#"{"time":"#), "{written}");
        assert_eq!(
            line(&decision),
            "2023-11-14T22:13:20.001500Z  DENY    github/bad\\u{1b}[2J\\\"tool  insufficient_scope  \
             HTTP 403  needs \"a b\"  subject ana  policy github"
        );
        assert_eq!(json(&Decision::default()), "{}");
        let forged = Decision { tool: "x  allow_rule  subject b".to_owned(), ..decision };
        assert!(
            line(&forged).contains("  \"github/x  allow_rule  subject b\"  insufficient_scope")
        );
    }
}
