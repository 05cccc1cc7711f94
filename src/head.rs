//! The headers of an HTTP request, as Envoy sends them.

mod clear;
mod header;

pub use clear::{Ambiguity, clear_host, clear_path};
pub use header::Header;

use std::borrow::Cow;

/// The headers and pseudo-headers of an HTTP request, with Envoy's attributes.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The method, such as `POST`.
    pub method: PseudoHeader,
    /// The `:authority` or `Host`.
    pub host: PseudoHeader,
    /// The path with its query.
    pub path: PseudoHeader,
    /// The headers in their order in the request, with names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// True if a body follows the headers, perhaps an empty one.
    pub has_body: bool,
    /// The string values among Envoy's attributes (`request_attributes`), by name. No client can
    /// write them.
    pub attributes: Vec<(String, String)>,
    /// The policy that Envoy names for the request, if it names one.
    pub policy: Option<String>,
    /// The `traceparent` of Envoy's own span, if it has one.
    pub traceparent: Option<String>,
}

/// A pseudo-header of a request (`:method`, `:authority`, `:path`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PseudoHeader {
    /// Envoy did not send the pseudo-header, because of its `forward_rules`.
    #[default]
    NotSent,
    /// Envoy sent one value, which may be empty.
    Sent(String),
    /// Envoy sent several values, or bytes that are not UTF-8. `last` is the last value,
    /// with U+FFFD for what is not UTF-8.
    Ambiguous {
        /// The reason.
        why: Ambiguity,
        /// The last value.
        last: String,
    },
}

/// The reason why a part of a request has no clear form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unclear {
    /// Envoy did not send this part, so its value is unknown.
    NotSent,
    /// Readers of HTTP could read this part as different values.
    Ambiguous(Ambiguity),
}

impl PseudoHeader {
    /// Adds a value that Envoy sent. A second value makes the pseudo-header ambiguous.
    pub fn add(&mut self, value: &[u8]) {
        *self = match (std::str::from_utf8(value), &self) {
            (Ok(value), Self::NotSent) => Self::Sent(value.to_owned()),
            (Ok(last), _) => Self::Ambiguous { why: Ambiguity::Repeated, last: last.to_owned() },
            (Err(_), _) => Self::Ambiguous {
                why: Ambiguity::NotUtf8,
                last: String::from_utf8_lossy(value).into_owned(),
            },
        };
    }

    /// Returns the one value that Envoy sent.
    ///
    /// # Errors
    /// If Envoy sent none, several, or one that is not UTF-8.
    pub fn value(&self) -> Result<&str, Unclear> {
        match self {
            Self::NotSent => Err(Unclear::NotSent),
            Self::Sent(value) => Ok(value),
            Self::Ambiguous { why, .. } => Err(Unclear::Ambiguous(*why)),
        }
    }

    /// Returns the last value that Envoy sent, even if it is ambiguous; `None` if Envoy sent none.
    pub fn as_sent(&self) -> Option<&str> {
        match self {
            Self::NotSent => None,
            Self::Sent(value) | Self::Ambiguous { last: value, .. } => Some(value),
        }
    }

    /// Returns true if Envoy sent exactly this value.
    pub fn is(&self, value: &str) -> bool {
        matches!(self, Self::Sent(sent) if sent == value)
    }
}

impl From<&str> for PseudoHeader {
    fn from(value: &str) -> Self {
        Self::Sent(value.to_owned())
    }
}

impl From<String> for PseudoHeader {
    fn from(value: String) -> Self {
        Self::Sent(value)
    }
}

/// Treats `None` as a pseudo-header that Envoy did not send.
impl From<Option<String>> for PseudoHeader {
    fn from(value: Option<String>) -> Self {
        value.map_or(Self::NotSent, Self::Sent)
    }
}

impl Head {
    /// Envoy's attribute that names the route.
    pub const ROUTE_NAME: &str = "xds.route_name";
    /// The pseudo-headers of a request.
    pub const PSEUDO_HEADERS: [&str; 3] = [":authority", ":method", ":path"];

    /// Returns the total length of all names and values, in bytes.
    pub fn size(&self) -> usize {
        let Self { method, host, path, headers, .. } = self;
        let pseudo = [method, host, path].into_iter().filter_map(PseudoHeader::as_sent);
        let headers = headers.iter().map(|(name, value)| name.len() + value.len());
        pseudo.map(str::len).chain(headers).sum()
    }

    /// Returns the host in lower case, without port and without a dot at its end.
    ///
    /// # Errors
    /// If Envoy did not send the host, or if readers could read different hosts from the value.
    pub fn clear_host(&self) -> Result<Cow<'_, str>, Unclear> {
        let host = self.host.value()?;
        // Envoy writes `Host` as `:authority`. Some servers would read a second `Host`.
        if self.values_of(Header::Host).any(|other| other != host.as_bytes()) {
            return Err(Unclear::Ambiguous(Ambiguity::Repeated));
        }
        clear_host(host).map_err(Unclear::Ambiguous)
    }

    /// Returns the path without its query, normalized by [RFC 3986, section 6.2.2].
    ///
    /// # Errors
    /// If Envoy did not send the path, or if servers could read different paths from the value.
    ///
    /// [RFC 3986, section 6.2.2]: https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2
    pub fn clear_path(&self) -> Result<Cow<'_, str>, Unclear> {
        match self.path.value() {
            // A CONNECT request has no path, so Envoy's `forward_rules` withhold none.
            Err(Unclear::NotSent) if self.method.is("CONNECT") => {
                Err(Unclear::Ambiguous(Ambiguity::NoPath))
            }
            path => clear_path(path?).map_err(Unclear::Ambiguous),
        }
    }

    /// Returns the values of a header.
    pub fn values_of(&self, header: Header) -> impl Iterator<Item = &[u8]> {
        self.values(header.name())
    }

    /// Returns the values of a header that a policy names, in lower case.
    pub fn values<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
        self.headers
            .iter()
            .filter(move |(header, _)| header == name)
            .map(|(_, value)| value.as_slice())
    }

    /// Returns the values of all `Authorization` headers.
    pub fn authorization(&self) -> impl Iterator<Item = &[u8]> {
        self.values_of(Header::Authorization)
    }

    /// Returns an attribute of Envoy. An attribute that came twice counts as missing.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let mut found = self.attributes.iter().filter(|(found, _)| found == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }

    /// Returns Envoy's name of the route, if Envoy sent it.
    pub fn route(&self) -> Option<&str> {
        self.attribute(Self::ROUTE_NAME)
    }

    /// Adds the headers that every MCP client sends with a message, unless they are present.
    #[must_use]
    pub fn with_usual_headers(mut self) -> Self {
        for (header, value) in [
            (Header::ContentType, "application/json"),
            (Header::Accept, "application/json, text/event-stream"),
        ] {
            if self.has_body && self.values_of(header).next().is_none() {
                self.headers.push((header.name().to_owned(), value.into()));
            }
        }
        self
    }

    /// Returns the request with this route name.
    #[must_use]
    pub fn on_route(mut self, route: Option<&str>) -> Self {
        self.attributes.extend(route.map(|name| (Self::ROUTE_NAME.to_owned(), name.to_owned())));
        self
    }
}

#[cfg(test)]
mod tests;
