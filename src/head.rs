//! The head of an HTTP request, as Envoy tells it.

/// The head of an HTTP request.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The method, such as `POST`.
    pub method: String,
    /// The `:authority` or `Host`.
    pub host: String,
    /// The path with its query.
    pub path: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Envoy's attributes (`request_attributes`) that are texts, by name. No
    /// client can write them.
    pub attributes: Vec<(String, String)>,
    /// The policy that Envoy names for the request, if it names one.
    pub policy: Option<String>,
    /// The `traceparent` of Envoy's own span, if it has one.
    pub traceparent: Option<String>,
}

impl Head {
    /// Envoy's attribute that names the route.
    pub const ROUTE_NAME: &str = "xds.route_name";

    /// How long all its names and values are, in bytes.
    pub fn size(&self) -> usize {
        let Self { method, host, path, headers, .. } = self;
        let headers = headers.iter().map(|(name, value)| name.len() + value.len());
        method.len() + host.len() + path.len() + headers.sum::<usize>()
    }

    /// The values of a header, whose name is in lower case.
    pub fn values<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
        self.headers
            .iter()
            .filter(move |(header, _)| header == name)
            .map(|(_, value)| value.as_slice())
    }

    /// The values of all `Authorization` headers.
    pub fn authorization(&self) -> impl Iterator<Item = &[u8]> {
        self.values("authorization")
    }

    /// An attribute of Envoy.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Envoy's name of the route, if it was sent.
    pub fn route(&self) -> Option<&str> {
        self.attribute(Self::ROUTE_NAME)
    }

    /// The same, on a route of this name.
    #[must_use]
    pub fn on_route(mut self, route: Option<&str>) -> Self {
        self.attributes.extend(route.map(|name| (Self::ROUTE_NAME.to_owned(), name.to_owned())));
        self
    }
}
