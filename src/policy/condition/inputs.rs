//! The variable `request`: its members, and the members that a condition reads.

use std::collections::BTreeSet;

/// A position in the variable `request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestField {
    Request,
    Method,
    Host,
    Path,
    Headers,
    HeadersAll,
    Auth,
    Jwt,
    Claims,
    Scopes,
    Mcp,
    McpMethod,
    Backend,
    Tool,
    Prompt,
    Resource,
    Params,
}

impl RequestField {
    /// Returns the fixed members with their names. The request determines the members of other
    /// nodes.
    pub(super) fn members(self) -> &'static [(&'static str, Self)] {
        match self {
            Self::Request => &[
                ("method", Self::Method),
                ("host", Self::Host),
                ("path", Self::Path),
                ("headers", Self::Headers),
                ("headers_all", Self::HeadersAll),
                ("auth", Self::Auth),
                ("mcp", Self::Mcp),
            ],
            Self::Auth => &[("jwt", Self::Jwt)],
            Self::Jwt => &[("claims", Self::Claims), ("scopes", Self::Scopes)],
            Self::Mcp => &[
                ("method", Self::McpMethod),
                ("backend", Self::Backend),
                ("tool", Self::Tool),
                ("prompt", Self::Prompt),
                ("resource", Self::Resource),
                ("params", Self::Params),
            ],
            Self::Method
            | Self::Host
            | Self::Path
            | Self::Headers
            | Self::HeadersAll
            | Self::Claims
            | Self::Scopes
            | Self::McpMethod
            | Self::Backend
            | Self::Tool
            | Self::Prompt
            | Self::Resource
            | Self::Params => &[],
        }
    }

    /// Returns true if the node is a map, with fixed members or members that the request
    /// determines.
    pub(super) fn is_map(self) -> bool {
        match self {
            Self::Request
            | Self::Auth
            | Self::Jwt
            | Self::Mcp
            | Self::Headers
            | Self::HeadersAll
            | Self::Claims
            | Self::Params => true,
            Self::Method
            | Self::Host
            | Self::Path
            | Self::Scopes
            | Self::McpMethod
            | Self::Backend
            | Self::Tool
            | Self::Prompt
            | Self::Resource => false,
        }
    }

    pub(super) fn member(self, name: &str) -> Option<Self> {
        self.members().iter().find(|(known, _)| *known == name).map(|(_, node)| *node)
    }
}

/// The data of a request that a condition can depend on. The set may be too large, but never too
/// small.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// True if the condition reads the arguments of the call.
    pub args: bool,
    /// True if the condition reads the `_meta` of the call.
    pub meta: bool,
    /// True if the condition reads parameters of the call.
    pub params: bool,
    /// True if the condition reads the resource that the call names.
    pub resource: bool,
    /// True if the condition reads claims other than scopes.
    pub claims: bool,
    /// True if the condition reads the scopes of the token.
    pub scopes: bool,
    /// True if the condition reads the method, host or path of the request.
    pub request_line: bool,
    /// True if the condition reads the backend of the call.
    pub backend: bool,
    /// The names of the headers that the condition reads, in lower case.
    pub headers: BTreeSet<String>,
    /// True if the condition reads headers with names that are unknown when the policy is loaded.
    pub all_headers: bool,
}

impl Inputs {
    /// Adds the data that another condition reads.
    pub fn extend(&mut self, other: &Self) {
        let Self {
            args,
            meta,
            params,
            resource,
            claims,
            scopes,
            request_line,
            backend,
            headers,
            all_headers,
        } = other;
        self.args |= args;
        self.meta |= meta;
        self.params |= params;
        self.resource |= resource;
        self.claims |= claims;
        self.scopes |= scopes;
        self.request_line |= request_line;
        self.backend |= backend;
        self.headers.extend(headers.iter().cloned());
        self.all_headers |= all_headers;
    }

    /// Adds a node and everything below the node.
    pub(super) fn whole(&mut self, node: RequestField) {
        match node {
            RequestField::Headers | RequestField::HeadersAll => self.all_headers = true,
            RequestField::Claims => self.claims = true,
            RequestField::Scopes => self.scopes = true,
            RequestField::Params => self.params = true,
            RequestField::Resource => self.resource = true,
            RequestField::Request | RequestField::Auth | RequestField::Jwt | RequestField::Mcp => {
                node.members().iter().for_each(|(_, member)| self.whole(*member));
            }
            RequestField::Method | RequestField::Host | RequestField::Path => {
                self.request_line = true;
            }
            RequestField::Backend => self.backend = true,
            RequestField::McpMethod | RequestField::Tool | RequestField::Prompt => {}
        }
    }
}
