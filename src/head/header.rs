//! The headers that mcp-authz reads by their own names.

/// Declares the headers once, so that no header is read that is missing from [`Header::ALL`].
macro_rules! headers {
    ($($(#[$doc:meta])* $header:ident = $name:literal,)*) => {
        /// A header that mcp-authz reads, whatever a policy names.
        ///
        /// `mcp-authz envoy-config` lets Envoy send these headers, so code can read no other header
        /// of [`Head`](super::Head) by its own name.
        /// [`MirroredHeaders::NAMES`](crate::mcp::MirroredHeaders::NAMES) are the headers that MCP
        /// adds; a policy can name more.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Header {
            $($(#[$doc])* $header,)*
        }

        impl Header {
            /// All headers.
            pub const ALL: &[Self] = &[$(Self::$header,)*];

            /// Returns the name in lower case, as Envoy sends it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$header => $name,)*
                }
            }
        }
    };
}

headers! {
    /// The media types that a client reads: the response to a list request may be JSON or events.
    Accept = "accept",
    /// A token, needed if Envoy verifies none or if a 401 depends on whether a token came.
    Authorization = "authorization",
    /// The response header that sets who may store a list that was filtered for one caller.
    CacheControl = "cache-control",
    /// The compression of a body, which makes the body unreadable.
    ContentEncoding = "content-encoding",
    /// The size of a body in bytes, before the body comes.
    ContentLength = "content-length",
    /// The media type and the charset of a body.
    ContentType = "content-type",
    /// A second host, since Envoy sends the first one as `:authority`.
    Host = "host",
    /// The event after which a stream of events is resumed.
    LastEventId = "last-event-id",
    /// The trace that a request is a part of, for records.
    Traceparent = "traceparent",
    /// The name of another protocol, in which no message can be read.
    Upgrade = "upgrade",
    /// The id of a request, for records.
    RequestId = "x-request-id",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_envoy_sends_them() {
        for header in Header::ALL {
            let name = header.name();
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
        }
    }
}
