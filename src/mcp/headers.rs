//! The headers in which MCP 2026-07-28 repeats parts of the body.
//!
//! `Mcp-Method`, `Mcp-Name` and `MCP-Protocol-Version` let intermediaries route
//! without reading the body. They never decide here; but whoever reads the body
//! must refuse a request whose headers say something else, since what is in
//! front may have believed them (streamable HTTP, "Server Validation").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::malformed::Problem;

const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";
const PROTOCOL_VERSION: &str = "mcp-protocol-version";

/// The mirrored headers of one request.
#[derive(Debug, Clone, Default)]
pub struct MirroredHeaders<'a> {
    method: Mirrored<'a>,
    name: Mirrored<'a>,
    protocol_version: Mirrored<'a>,
}

/// One header that should come once, or not at all.
#[derive(Debug, Clone, Copy, Default)]
enum Mirrored<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    Repeated,
}

/// What of a body the headers repeat. `None`: the body does not say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mirror<'m> {
    pub(super) method: Option<&'m str>,
    /// `params.name`, `params.uri` or `params.taskId` of the methods that name a target.
    pub(super) name: Option<&'m str>,
    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`
    pub(super) protocol_version: Option<&'m str>,
}

impl<'a> MirroredHeaders<'a> {
    /// Takes note of a header, whose name is in lower case.
    pub fn add(&mut self, name: &str, value: &'a [u8]) {
        let header = match name {
            METHOD => &mut self.method,
            NAME => &mut self.name,
            PROTOCOL_VERSION => &mut self.protocol_version,
            _ => return,
        };
        *header = match header {
            Mirrored::Absent => Mirrored::Once(value),
            Mirrored::Once(_) | Mirrored::Repeated => Mirrored::Repeated,
        };
    }

    /// Compares what came with the body.
    pub(super) fn check(&self, body: &Mirror<'_>) -> Result<(), Problem> {
        self.method.check("Mcp-Method", |value| body.method == Some(value))?;
        self.name.check("Mcp-Name", |value| match body.name {
            Some(name) => decoded(value).is_some_and(|value| value == name.as_bytes()),
            None => true,
        })?;
        // Up to 2025-11-25 the header alone carries the version.
        self.protocol_version.check("MCP-Protocol-Version", |value| {
            body.protocol_version.is_none_or(|version| version == value)
        })
    }
}

impl Mirrored<'_> {
    fn check(self, header: &'static str, agrees: impl Fn(&str) -> bool) -> Result<(), Problem> {
        let agreed = match self {
            Self::Absent => true,
            Self::Once(value) => std::str::from_utf8(value).is_ok_and(agrees),
            Self::Repeated => false,
        };
        if agreed { Ok(()) } else { Err(Problem::HeaderMismatch(header)) }
    }
}

/// The value that a header stands for: itself, or what is between the
/// case-sensitive markers of "Value Encoding".
fn decoded(value: &str) -> Option<Vec<u8>> {
    match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => STANDARD.decode(encoded).ok(),
        None => Some(value.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees(headers: &[(&str, &str)], body: &Mirror<'_>) -> bool {
        let mut mirrored = MirroredHeaders::default();
        for (name, value) in headers {
            mirrored.add(name, value.as_bytes());
        }
        mirrored.check(body).is_ok()
    }

    #[test]
    fn headers_agree_only_with_what_the_body_says() {
        let body = Mirror {
            method: Some("tools/call"),
            name: Some("ächo"),
            protocol_version: Some("2026-07-28"),
        };
        assert!(agrees(&[], &body));
        assert!(agrees(&[(METHOD, "tools/call"), (PROTOCOL_VERSION, "2026-07-28")], &body));
        assert!(agrees(&[(NAME, "ächo")], &body));
        assert!(agrees(&[(NAME, "=?base64?w6RjaG8=?=")], &body));
        assert!(!agrees(&[(NAME, "=?BASE64?w6RjaG8=?=")], &body), "markers are lower case");
        assert!(!agrees(&[(NAME, "=?base64?w6RjaG8?=")], &body), "padding is missing");
        assert!(!agrees(&[(NAME, "=?base64?not base64?=")], &body));
        assert!(!agrees(&[(NAME, "echo")], &body));
        assert!(!agrees(&[(METHOD, "Tools/call")], &body));
        assert!(!agrees(&[(METHOD, "tools/call"), (METHOD, "tools/call")], &body), "repeated");
        assert!(!agrees(&[(PROTOCOL_VERSION, "2025-11-25")], &body));
    }

    #[test]
    fn a_body_that_does_not_say_is_not_contradicted() {
        let response = Mirror::default();
        assert!(agrees(&[(PROTOCOL_VERSION, "2025-06-18"), (NAME, "anything")], &response));
        assert!(!agrees(&[(METHOD, "tools/call")], &response), "a response has no method");
    }
}
