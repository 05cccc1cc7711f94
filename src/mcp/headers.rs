//! The headers in which MCP 2026-07-28 repeats parts of the body.
//!
//! `Mcp-Method`, `Mcp-Name` and `MCP-Protocol-Version` let intermediaries route without reading the
//! body. No rule decides by these headers. A component that reads the body must reject a request
//! whose headers disagree with the body (streamable HTTP, "Server Validation"). An intermediary may
//! have believed these headers. Requests of this version and later ones must have the headers
//! ("Standard Request Headers").
//!
//! `Mcp-Param-*` repeats arguments that a tool's schema marks. An intermediary that does not know
//! the schema must forward and ignore these headers ("Server Behavior for Custom Headers"). This
//! module therefore does not read them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::malformed::Problem;

const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";
const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// The first version whose requests must have the headers.
const FIRST_MODERN: &str = "2026-07-28";

/// The mirrored headers of one request.
#[derive(Debug, Clone, Default)]
pub struct MirroredHeaders<'a> {
    method: Mirrored<'a>,
    name: Mirrored<'a>,
    protocol_version: Mirrored<'a>,
}

/// A header that should come once at most.
#[derive(Debug, Clone, Copy, Default)]
enum Mirrored<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    Repeated,
}

/// The parts of a body that the headers repeat. `None`: the body lacks this part.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mirror<'m> {
    pub(super) method: Option<&'m str>,
    /// `params.name`, `params.uri` or `params.taskId` of the methods that name a target.
    pub(super) name: Option<&'m str>,
    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`
    pub(super) protocol_version: Declared<'m>,
    /// True unless the body is a notification or a response.
    pub(super) is_request: bool,
    /// True if a request with this method must have `Mcp-Name`.
    pub(super) needs_name: bool,
}

/// The protocol version that a body declares.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Declared<'m> {
    #[default]
    Absent,
    Version(&'m str),
    NotAString,
}

impl<'a> MirroredHeaders<'a> {
    /// The names of the headers.
    pub const NAMES: [&'static str; 3] = [METHOD, NAME, PROTOCOL_VERSION];

    /// Records a header. `name` is in lower case.
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

    /// Compares the headers with the body.
    pub(super) fn check(&self, body: &Mirror<'_>) -> Result<(), Problem> {
        self.method.check("Mcp-Method", |value| body.method == Some(value))?;
        self.name.check("Mcp-Name", |value| match body.name {
            Some(name) => decoded(value).is_some_and(|value| value == name.as_bytes()),
            None => true,
        })?;
        // Up to 2025-11-25 the header alone carries the version. The server has to reject a later
        // request whose body lacks the version.
        self.protocol_version.check("MCP-Protocol-Version", |value| {
            match body.protocol_version {
                Declared::Absent => true,
                Declared::Version(version) => version == value,
                Declared::NotAString => false,
            }
        })?;
        if !body.is_request || !self.are_modern(body) {
            return Ok(());
        }
        self.method.require("Mcp-Method")?;
        if body.needs_name {
            self.name.require("Mcp-Name")?;
            if body.name.is_none() {
                return Err(Problem::HeaderMismatch("Mcp-Name"));
            }
        }
        self.protocol_version.require("MCP-Protocol-Version")
    }

    /// Returns true if the header or the body may declare version 2026-07-28 or a later one.
    pub(super) fn are_modern(&self, body: &Mirror<'_>) -> bool {
        let by_header = match self.protocol_version {
            Mirrored::Absent => false,
            Mirrored::Once(value) => is_modern(value),
            Mirrored::Repeated => true,
        };
        by_header
            || match body.protocol_version {
                Declared::Absent => false,
                Declared::Version(version) => is_modern(version.as_bytes()),
                Declared::NotAString => true,
            }
    }
}

/// Returns true unless a version is the date of an earlier version. Readers may read another
/// spelling as any version.
fn is_modern(version: &[u8]) -> bool {
    let is_like_date = |(at, byte): (usize, &u8)| match at {
        4 | 7 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    let is_date =
        version.len() == FIRST_MODERN.len() && version.iter().enumerate().all(is_like_date);
    !is_date || version >= FIRST_MODERN.as_bytes()
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

    fn require(self, header: &'static str) -> Result<(), Problem> {
        match self {
            Self::Absent => Err(Problem::MissingHeader(header)),
            Self::Once(_) | Self::Repeated => Ok(()),
        }
    }
}

/// Returns the value that a header encodes: the value itself, or the decoded text between the
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

    const CALL: Mirror<'_> = Mirror {
        method: Some("tools/call"),
        name: Some("ächo"),
        protocol_version: Declared::Absent,
        is_request: true,
        needs_name: true,
    };

    fn checked(headers: &[(&str, &str)], body: &Mirror<'_>) -> Result<(), Problem> {
        let mut mirrored = MirroredHeaders::default();
        for (name, value) in headers {
            mirrored.add(name, value.as_bytes());
        }
        mirrored.check(body)
    }

    fn agrees(headers: &[(&str, &str)], body: &Mirror<'_>) -> bool {
        checked(headers, body).is_ok()
    }

    #[test]
    fn headers_agree_only_with_what_the_body_says() {
        let body = CALL;
        assert!(agrees(&[], &body));
        assert!(agrees(&[(METHOD, "tools/call"), (PROTOCOL_VERSION, "2025-11-25")], &body));
        assert!(agrees(&[(NAME, "ächo")], &body));
        assert!(agrees(&[(NAME, "=?base64?w6RjaG8=?=")], &body));
        assert!(!agrees(&[(NAME, "=?BASE64?w6RjaG8=?=")], &body), "markers are lower case");
        assert!(!agrees(&[(NAME, "=?base64?w6RjaG8?=")], &body), "padding is missing");
        assert!(!agrees(&[(NAME, "=?base64?not base64?=")], &body));
        assert!(!agrees(&[(NAME, "echo")], &body));
        assert!(!agrees(&[(METHOD, "Tools/call")], &body));
        assert!(!agrees(&[(METHOD, "tools/call"), (METHOD, "tools/call")], &body), "repeated");
        for declared in [Declared::Version("2025-06-18"), Declared::NotAString] {
            let body = Mirror { protocol_version: declared, ..CALL };
            assert!(!agrees(&[(PROTOCOL_VERSION, "2025-11-25")], &body), "{declared:?}");
        }
    }

    #[test]
    fn a_body_that_does_not_say_is_not_contradicted() {
        let response = Mirror::default();
        assert!(agrees(&[(PROTOCOL_VERSION, "2025-06-18"), (NAME, "anything")], &response));
        assert!(agrees(&[(PROTOCOL_VERSION, "2026-07-28")], &response));
        assert!(!agrees(&[(METHOD, "tools/call")], &response), "a response has no method");
    }

    #[test]
    fn modern_request_needs_its_headers() {
        let (version, method, name) =
            ((PROTOCOL_VERSION, "2026-07-28"), (METHOD, "tools/call"), (NAME, "ächo"));
        let declared = Mirror { protocol_version: Declared::Version("2026-07-28"), ..CALL };
        for body in [&CALL, &declared] {
            assert_eq!(checked(&[version, method, name], body), Ok(()));
            let missing = |header| Err(Problem::MissingHeader(header));
            assert_eq!(checked(&[version, name], body), missing("Mcp-Method"));
            assert_eq!(checked(&[version, method], body), missing("Mcp-Name"));
            assert_eq!(checked(&[version], body), missing("Mcp-Method"));
            // An intermediary would believe nothing else.
            let nameless = Mirror { name: None, ..*body };
            let mismatch = Err(Problem::HeaderMismatch("Mcp-Name"));
            assert_eq!(checked(&[version, method, name], &nameless), mismatch);
            let other = Mirror { needs_name: false, name: None, ..*body };
            assert_eq!(checked(&[version, method], &other), Ok(()));
            let notification = Mirror { is_request: false, ..*body };
            assert_eq!(checked(&[version], &notification), Ok(()));
        }
        assert_eq!(checked(&[], &declared), Err(Problem::MissingHeader("Mcp-Method")));
        let version = Err(Problem::MissingHeader("MCP-Protocol-Version"));
        assert_eq!(checked(&[method, name], &declared), version);
    }

    #[test]
    fn only_earlier_dates_are_earlier_versions() {
        for earlier in ["2024-11-05", "2025-03-26", "2025-11-25", "2026-07-27", "1900-01-01"] {
            assert!(!is_modern(earlier.as_bytes()), "{earlier}");
        }
        for other in [
            "2026-07-28",
            "2026-07-29",
            "2027-01-01",
            "9999-99-99",
            "",
            "2026-7-28",
            "2025-11-25 ",
            " 2025-11-25",
            "2025-11-25,2026-07-28",
            "2025_11_25",
            "20251125",
            "DRAFT-2025-v2",
            "٢٠٢٥-11-25",
        ] {
            assert!(is_modern(other.as_bytes()), "{other}");
        }
        let not_a_string = Mirror { protocol_version: Declared::NotAString, ..CALL };
        assert_eq!(checked(&[], &not_a_string), Err(Problem::MissingHeader("Mcp-Method")));
    }
}
