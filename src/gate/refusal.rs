//! The response to a caller whose request is refused.

use std::borrow::Cow;

use serde_json::json;

use super::NoToken;
use crate::challenge;
use crate::mcp::{Call, ListKind, Malformed, RequestId, TargetKind};
use crate::policy::{Policy, Reason, Selector, Unselectable};

/// An HTTP response in place of the forwarded request. Its body is a JSON-RPC error, because MCP
/// clients show only that to their users. The body is plain text if the id of the request is not
/// known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The reason in one word, for programs.
    pub reason: &'static str,
    /// The party that caused the refusal.
    pub blame: RefusalCause,
    /// The name of the policy that decided, for logs.
    pub policy: Option<String>,
    /// The value of `WWW-Authenticate`, if there is a challenge.
    pub www_authenticate: Option<String>,
    /// The scopes of the challenge.
    pub required_scopes: Vec<String>,
    /// The code of the JSON-RPC error.
    pub code: i32,
    /// The text for people.
    pub message: String,
    /// The id of the request, if it is known.
    pub id: Option<RequestId>,
    /// The change that an operator has to make; for the log only.
    pub hint: Option<String>,
}

/// The party that caused a refusal, which selects where and how the refusal is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCause {
    /// The policy denies the request.
    Policy,
    /// The request cannot be evaluated.
    Request,
    /// The configuration of Envoy or mcp-authz prevents an evaluation.
    Operator,
}

/// The body of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The `Content-Type`.
    pub media_type: &'static str,
    /// The body itself.
    pub body: String,
}

/// JSON-RPC: "the JSON sent is not a valid Request object".
const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: "internal JSON-RPC error".
const INTERNAL_ERROR: i32 = -32603;

impl Refusal {
    fn new(
        status: u16,
        blame: RefusalCause,
        reason: &'static str,
        (code, message): (i32, impl Into<String>),
    ) -> Self {
        Self {
            status,
            reason,
            blame,
            policy: None,
            www_authenticate: None,
            required_scopes: Vec::new(),
            code,
            message: message.into(),
            id: None,
            hint: None,
        }
    }

    /// Returns the refusal of a request that cannot be evaluated because of its content.
    fn of_request(status: u16, reason: &'static str, message: &str) -> Self {
        Self::new(status, RefusalCause::Request, reason, (INVALID_REQUEST, message))
    }

    /// Returns the refusal of a request that cannot be evaluated because of the configuration.
    fn of_operator(status: u16, reason: &'static str, message: &str) -> Self {
        Self::new(status, RefusalCause::Operator, reason, (INTERNAL_ERROR, message))
    }

    /// Returns the refusal as the response to the request with this id.
    #[must_use]
    pub fn answering(self, id: Option<RequestId>) -> Self {
        Self { id, ..self }
    }

    /// Returns the body: a JSON-RPC error with the request's id, or text if there is no id. Text is
    /// safer than `"id": null`, which makes some clients wait forever and ends the sessions of
    /// others.
    pub fn content(&self) -> Content {
        let Some(id) = &self.id else {
            let media_type = "text/plain; charset=utf-8";
            return Content { media_type, body: self.message.clone() };
        };
        let data = match self.required_scopes.as_slice() {
            [] => json!({ "reason": self.reason }),
            scopes => json!({ "reason": self.reason, "requiredScopes": scopes }),
        };
        let error = json!({ "code": self.code, "message": self.message, "data": data });
        // The id is repeated as the caller wrote it: a number keeps its digits.
        let body = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.as_json());
        Content { media_type: "application/json", body }
    }

    /// Returns the refusal with the name of the policy that decided.
    pub fn by(self, policy: &Policy) -> Self {
        Self { policy: Some(policy.name.clone()), ..self }
    }

    /// Returns the refusal of a request that no policy matches, or for which Envoy names an unknown
    /// policy.
    pub(super) fn no_policy(named: Option<&str>) -> Self {
        let message = "access denied: no policy covers this address";
        let refusal = Self::new(403, RefusalCause::Policy, "no_policy", (403, message));
        match named {
            None => refusal,
            Some(name) => Self {
                blame: RefusalCause::Operator,
                hint: Some(format!(
                    "Envoy is misconfigured: it names the policy `{name}` in its gRPC metadata, but there is none of \
                     that name"
                )),
                ..refusal
            },
        }
    }

    /// Returns the refusal of a request for which no policy can be selected.
    pub(super) fn unselectable(why: Unselectable) -> Self {
        let not_sent = |what: &str, by: &str, remedy: &str| {
            Self::misconfigured(&format!(
                "Envoy did not send {what}, by which policies are selected ({by}): {remedy}"
            ))
        };
        let header = |name: &str, by: &str| {
            let remedy = "add it to the ext_proc filter's forward_rules.allowed_headers, and take \
                          it out of disallowed_headers";
            not_sent(&format!("the pseudo-header `{name}`"), by, remedy)
        };
        match why {
            Unselectable::NotSent(Selector::Host) => header(":authority", "match.hosts"),
            Unselectable::NotSent(Selector::Path) => header(":path", "match.pathPrefixes"),
            Unselectable::NotSent(Selector::Route) => not_sent(
                "the attribute `xds.route_name`",
                "match.routes",
                "add `request_attributes: [xds.route_name]` to the ext_proc filter; or the request \
                 matches no route of Envoy's, whose answer would have been 404",
            ),
            Unselectable::AmbiguousHost(why) => {
                Self::of_request(400, "ambiguous_host", &format!("the host of this request {why}"))
            }
            Unselectable::AmbiguousPath(why) => {
                Self::of_request(400, "ambiguous_path", &format!("the path of this request {why}"))
            }
        }
    }

    /// Returns the refusal of a request for which `jwt_authn` left several payloads.
    pub(super) fn several_payloads(namespace: &str, names: &[String]) -> Self {
        let names = names.join("`, `");
        Self::misconfigured(&format!(
            "jwt_authn left several payloads in its metadata namespace `{namespace}`, so that it is \
             not known which one holds the claims (`{names}`): name the provider's \
             payload_in_metadata in `jwt.metadata.key`"
        ))
    }

    /// Returns the refusal of a request with several `Authorization` headers.
    pub(super) fn repeated_authorization() -> Self {
        Self::of_request(
            400,
            "repeated_authorization",
            "the header `Authorization` came several times: send it once",
        )
    }

    /// Returns the refusal of a call that the policy denies.
    pub(super) fn denied(
        policy: &Policy,
        call: &Call<'_>,
        reason: Reason,
        scopes: Option<&[String]>,
    ) -> Self {
        let (name, feature) = (&call.name, call.feature.as_str());
        let (verb, doing) = match call.feature {
            TargetKind::Tool | TargetKind::Method => ("call", "calling"),
            TargetKind::Prompt | TargetKind::Resource | TargetKind::ResourceTemplate => {
                ("use", "using")
            }
        };
        let message = match scopes {
            Some([scope]) => format!(
                "insufficient scope: {doing} the {feature} \"{name}\" this way requires the scope {scope}"
            ),
            Some(scopes) => format!(
                "insufficient scope: {doing} the {feature} \"{name}\" this way requires the scopes {}",
                scopes.join(", ")
            ),
            None => format!(
                "access denied: you may not {verb} the {feature} \"{name}\" this way, and no \
                 further scope would change that"
            ),
        };
        let mut refusal = Self::new(403, RefusalCause::Policy, reason.as_str(), (403, message));
        if let Some(scopes) = scopes.filter(|scopes| !scopes.is_empty()) {
            refusal.www_authenticate = Some(challenge::insufficient_scope(policy, scopes));
            refusal.required_scopes = scopes.to_vec();
        }
        refusal.answering(call.request_id())
    }

    /// Returns the refusal of a request without an accepted token.
    pub(super) fn unauthenticated(policy: &Policy, missing: NoToken) -> Self {
        let (reason, message): (_, Cow<'_, str>) = match missing {
            NoToken::Missing => {
                ("no_token", "authentication required: log in and send an access token".into())
            }
            NoToken::NotVerified => (
                "invalid_token",
                "authentication failed: the access token is not valid; log in again".into(),
            ),
            NoToken::NotAccepted(claim) => (
                "invalid_token",
                format!(
                    "authentication failed: the claim `{claim}` of the access token is not one that \
                     this server accepts; log in to this server"
                )
                .into(),
            ),
        };
        let token_came = missing != NoToken::Missing;
        let mut refusal = Self::new(401, RefusalCause::Policy, reason, (401, message));
        refusal.www_authenticate = Some(challenge::unauthenticated(policy, token_came));
        refusal
    }

    /// Returns the refusal of a malformed body.
    pub(super) fn malformed(Malformed { problem, id }: Malformed) -> Self {
        let error = (problem.code(), problem.to_string());
        Self::new(problem.status(), RefusalCause::Request, problem.reason(), error).answering(id)
    }

    /// Returns the refusal of an HTTP method that some servers read as another, because they ignore
    /// case.
    pub(super) fn unclear_http_method() -> Self {
        Self::of_request(
            400,
            "unclear_http_method",
            "the HTTP method has to be written in capital letters",
        )
    }

    /// Returns the refusal of a compressed body.
    pub(super) fn compressed() -> Self {
        Self::of_request(
            415,
            "compressed_body",
            "compressed bodies are not accepted: send it without Content-Encoding",
        )
    }

    /// Returns the refusal of a body whose `Content-Type` names a charset other than UTF-8.
    pub(super) fn unsupported_charset() -> Self {
        Self::of_request(
            415,
            "unsupported_charset",
            "only UTF-8 is accepted: send it without another charset in Content-Type",
        )
    }

    /// Returns the refusal of a body above the limit.
    pub(super) fn too_large(max_body_bytes: usize) -> Self {
        Self::of_request(
            413,
            "body_too_large",
            &format!("the body is larger than {max_body_bytes} bytes"),
        )
    }

    /// Returns the refusal of headers above the limit ([RFC 6585, section 5]).
    ///
    /// [RFC 6585, section 5]: https://www.rfc-editor.org/rfc/rfc6585#section-5
    pub(super) fn headers_too_large(max_header_bytes: usize) -> Self {
        Self::of_request(
            431,
            "headers_too_large",
            &format!("the headers are larger than {max_header_bytes} bytes"),
        )
    }

    /// Returns the refusal of a body that comes in more chunks than the limit.
    pub(super) fn too_many_parts(max_body_parts: usize) -> Self {
        Self::of_request(
            413,
            "too_many_parts",
            &format!("the body comes in more than {max_body_parts} parts: send larger ones"),
        )
    }

    /// Returns the refusal of a body that does not come in time ([RFC 9110, section 15.5.9]).
    ///
    /// [RFC 9110, section 15.5.9]: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.9
    pub(super) fn timed_out() -> Self {
        Self::of_request(408, "timed_out", "the body did not come whole in time: send it again")
    }

    /// Returns the refusal of a request for which there is no room ([RFC 9110, section 15.6.4]).
    ///
    /// [RFC 9110, section 15.6.4]: https://www.rfc-editor.org/rfc/rfc9110#section-15.6.4
    pub fn overloaded() -> Self {
        Self::of_operator(
            503,
            "overloaded",
            "too many requests are being judged at once: try again later",
        )
    }

    /// Returns the refusal of a body when Envoy sent only its beginning.
    pub(super) fn cut_off() -> Self {
        Self::of_request(
            413,
            "body_cut_off",
            "the body did not come whole: it is larger than the proxy's buffer, or has trailers",
        )
    }

    /// Returns the refusal of a body that ends with trailers, in `FULL_DUPLEX_STREAMED`. If Envoy
    /// retried the request, the server would get the body twice (envoyproxy/envoy#45470).
    pub(super) fn request_trailers() -> Self {
        Self::of_request(
            400,
            "request_trailers",
            "trailers after the body are not accepted: send the request without them",
        )
    }

    /// Returns the refusal of a request for a protocol other than HTTP, by `CONNECT` or `Upgrade`
    /// ([RFC 9110, section 15.6.2]). Calls in that protocol could not be read.
    ///
    /// [RFC 9110, section 15.6.2]: https://www.rfc-editor.org/rfc/rfc9110#section-15.6.2
    pub(super) fn upgrade() -> Self {
        Self::of_request(
            501,
            "upgrade",
            "CONNECT and upgrades to another protocol are not accepted: send requests by HTTP POST",
        )
    }

    /// Returns the refusal in place of a server's list that cannot be filtered ([RFC 9110, section
    /// 15.6.3]).
    ///
    /// [RFC 9110, section 15.6.3]: https://www.rfc-editor.org/rfc/rfc9110#section-15.6.3
    pub(super) fn unreadable_list(what: &str, why: &str) -> Self {
        let message = "the server's list could not be read, so you cannot see it";
        let hint = format!("{what} cannot be filtered: {why}");
        Self { hint: Some(hint), ..Self::of_operator(502, "unreadable_list", message) }
    }

    /// Returns the refusal of a batch that requests a list which must be filtered.
    pub(super) fn list_in_batch(listing: ListKind) -> Self {
        let message = format!("{} is not accepted in a batch: send it alone", listing.method());
        Self::of_request(400, "list_in_batch", &message)
    }

    /// Returns the refusal of a request about a task, where the policy does not accept such
    /// requests.
    pub(super) fn of_task(id: Option<RequestId>) -> Self {
        let message = "access denied: what tasks have done cannot be asked for here; call the tool \
                       without a task";
        Self::new(403, RefusalCause::Policy, "tasks_denied", (403, message)).answering(id)
    }

    /// Returns the refusal of a request that an Envoy misconfiguration could let through without an
    /// evaluation.
    pub fn misconfigured(hint: &str) -> Self {
        let message = "the proxy in front of this server is misconfigured; its operator finds the \
                       remedy in the log of mcp-authz";
        let hint = format!("Envoy is misconfigured: {hint}");
        Self { hint: Some(hint), ..Self::of_operator(500, "misconfigured", message) }
    }

    /// Returns the refusal of a request when Envoy does not send the `:method`, which rules decide
    /// about.
    pub(super) fn no_http_method() -> Self {
        Self::misconfigured(
            "Envoy did not send the `:method` of a request, and a policy decides about methods: \
             `mcp-authz envoy-config` prints the forward_rules that are needed",
        )
    }

    /// Returns the refusal of a message when Envoy sends none of its headers, not even those that
    /// the version of MCP requires. The refusal has its own reason, because a client can cause it,
    /// too.
    pub(super) fn no_headers() -> Self {
        let refusal = Self::misconfigured(
            "Envoy sent a message with none of the headers `content-type`, `accept` and `mcp-*`, though \
             every client sends some: `mcp-authz envoy-config` prints the forward_rules that are needed",
        );
        Self { reason: "no_headers", ..refusal }
    }

    /// Returns the refusal that is recorded when Envoy only reports requests
    /// (`observability_mode`).
    pub(super) fn observed() -> Self {
        Self::of_operator(500, "observability_mode", "nothing is judged")
    }

    /// Returns the refusal of a call when Envoy does not send the attribute that names the backend.
    pub(super) fn no_attribute(name: &str) -> Self {
        Self::misconfigured(&format!(
            "Envoy did not send the attribute `{name}`, which names the backend of a call: add it \
             to the ext_proc filter's request_attributes"
        ))
    }
}
