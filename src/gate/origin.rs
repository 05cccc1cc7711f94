//! The caller and the ids of a request, for records.

use crate::claims::Claims;
use crate::head::{Head, Header};

/// The caller of a request, and the ids by which other systems know the request. For records only:
/// no decision depends on these values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallerInfo {
    /// The claim `sub`.
    pub subject: Option<String>,
    /// The claim `client_id` ([RFC 9068, section 2.2]), or else `azp` (OpenID
    /// Connect).
    ///
    /// [RFC 9068, section 2.2]: https://www.rfc-editor.org/rfc/rfc9068#section-2.2
    pub client_id: Option<String>,
    /// The header `x-request-id`.
    pub request_id: Option<String>,
    /// The trace that the request is a part of.
    pub trace: Option<TraceContext>,
}

impl CallerInfo {
    /// The names of the claims that an origin holds.
    pub const CLAIMS: [&str; 3] = ["sub", "client_id", "azp"];

    /// Returns the origin of a request with these headers and claims.
    pub(super) fn of(head: &Head, claims: Option<&Claims>) -> Self {
        let claim = |name| claims?.text(name).map(shortened);
        let mut ids = head.values_of(Header::RequestId);
        let trace = head.traceparent.as_deref().map(str::as_bytes);
        Self {
            subject: claim("sub"),
            client_id: claim("client_id").or_else(|| claim("azp")),
            request_id: ids.next().map(|id| shortened(&String::from_utf8_lossy(id))),
            trace: trace
                .or_else(|| head.values_of(Header::Traceparent).next())
                .and_then(TraceContext::parse),
        }
    }
}

/// Returns the first 256 characters of a text that a caller wrote, which limits the size of
/// records.
pub fn shortened(text: &str) -> String {
    const LONGEST: usize = 256;
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let end = text.char_indices().nth(LONGEST).map_or(text.len(), |(end, _)| end);
    text.get(..end).unwrap_or_default().to_owned()
}

/// A place in a trace ([W3C Trace Context, section 3.2]).
///
/// [W3C Trace Context, section 3.2]: https://www.w3.org/TR/trace-context/#traceparent-header
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The id of the trace.
    pub trace_id: u128,
    /// The id of the span that sent the request.
    pub span_id: u64,
    /// True if the system that began the trace records it.
    pub sampled: bool,
}

impl TraceContext {
    /// Parses the value of a `traceparent`: `00-<trace>-<span>-<flags>` in lower-case hexadecimal.
    /// Neither id may be only zeros. Later versions may add fields at the end.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let mut parts = header.split(|&byte| byte == b'-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            let part = std::str::from_utf8(part).ok()?;
            if !part.bytes().all(|byte| is_digit(&byte)) {
                return None;
            }
            u128::from_str_radix(part, 16).ok()
        };
        let (version, trace_id, span_id, flags) =
            (number(2)?, number(32)?, number(16)?, number(2)?);
        let is_valid = trace_id != 0
            && span_id != 0
            && version != 0xff
            && (version != 0 || parts.next().is_none());
        let span_id = u64::try_from(span_id).ok()?;
        is_valid.then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_specification_says() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = TraceContext {
            trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            span_id: 0x00f0_67aa_0ba9_02b7,
            sampled: true,
        };
        assert_eq!(TraceContext::parse(good.as_bytes()), Some(trace));
        let later = format!("{}-what-ever", good.replacen("00", "cc", 1));
        assert_eq!(TraceContext::parse(later.as_bytes()), Some(trace));
        let unsampled = good.replace("-01", "-02");
        let parsed = TraceContext::parse(unsampled.as_bytes());
        assert_eq!(parsed, Some(TraceContext { sampled: false, ..trace }));
        for bad in [
            "",
            "00",
            &good.to_uppercase(),
            good.trim_end_matches('1'),
            &format!("{good}-x"),
            &good.replacen("00", "ff", 1),
            &good.replace("00f067aa0ba902b7", "0000000000000000"),
            &good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &good.replace("00f067aa", "+0f067aa"),
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_envoy_names_goes_before_the_client_s_header_and_values_are_short() {
        let claims = Claims::from_json(
            serde_json::json!({"sub": "é".repeat(1000), "azp": "agent", "client_id": 7})
                .as_object()
                .unwrap(),
        );
        let client = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let envoy = client.replace("00f067aa0ba902b7", "00f067aa0ba902b8");
        let mut head =
            Head { headers: vec![("traceparent".to_owned(), client.into())], ..Head::default() };
        let origin = CallerInfo::of(&head, Some(&claims));
        assert_eq!(origin.subject, Some("é".repeat(256)));
        assert_eq!(origin.client_id.as_deref(), Some("agent"));
        assert_eq!(origin.trace.unwrap().span_id, 0x00f0_67aa_0ba9_02b7);
        head.traceparent = Some(envoy);
        assert_eq!(CallerInfo::of(&head, None).trace.unwrap().span_id, 0x00f0_67aa_0ba9_02b8);
    }
}
