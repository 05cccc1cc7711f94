//! **mcp-authz** is an external processor (`ext_proc`) of Envoy that decides which MCP tool calls a
//! caller may make.
//!
//! # The path of a request
//!
//! 1. Envoy's `jwt_authn` filter verifies the access token and puts its payload into dynamic
//!    metadata.
//! 2. Envoy's `ext_proc` filter opens a stream, and sends the headers of the request and then its
//!    body ([`extproc`]). Envoy holds the request until mcp-authz answers.
//! 3. The gate evaluates the headers ([`gate::Gate::admit`]). It selects the policy, looks for a
//!    token, and rejects bodies of a kind that it cannot read.
//! 4. The gate parses the body strictly as one JSON-RPC 2.0 message, or as a batch where a policy
//!    accepts batches ([`mcp`]).
//! 5. The gate turns each call that the policy evaluates, such as a `tools/call`, into backend,
//!    name and arguments. It tries the rules in order, and the first that matches decides
//!    ([`policy::Policy::evaluate`]).
//! 6. Envoy forwards an allowed call unchanged. mcp-authz itself answers a denied call, with a
//!    challenge if more scopes would help ([`challenge`]).
//! 7. The gate filters the response to a list, if the policy says so ([`gate::ListFilter`]).
//!
//! # Trust
//!
//! | input | trust |
//! |---|---|
//! | the policy file | trusted, but checked for mistakes: unknown keys, names and functions are errors ([`config`]) |
//! | Envoy's messages | trusted; mcp-authz checks Envoy's configuration with each stream |
//! | claims in `jwt_authn`'s metadata | verified; only Envoy can write there |
//! | the `Authorization` header | read only if the policy says `jwt.from: authorizationHeader`; then unverified |
//! | Envoy's attributes and gRPC metadata | trusted; they name routes, backends and policies, and no client can write them |
//! | everything else that a client sends | untrusted; it grants nothing unless a rule reads it, and mcp-authz rejects what readers could interpret in different ways |
//!
//! # Responses to failures
//!
//! Deny is the default: Envoy forwards a request only with a [`gate::Clearance`].
//!
//! | failure | response |
//! |---|---|
//! | no policy matches the request | 403, no `WWW-Authenticate` |
//! | policies are selected by host or path, and that of the request is ambiguous | 400, JSON-RPC -32600 |
//! | the policy denies the call | 403, with `WWW-Authenticate` exactly if more scopes would allow this call |
//! | the request has no verified token, and the policy says `unauthenticated: Challenge` | 401 with `WWW-Authenticate` |
//! | the body is not UTF-8, not strict JSON, ambiguous or nested too deep | 400, JSON-RPC -32700 |
//! | the body is not one JSON-RPC 2.0 message, or is a batch that the policy rejects, or the header that names the backend is repeated | 400, -32600 |
//! | a call has no usable name, URI or arguments | 400, -32602 |
//! | `Mcp-Method`, `Mcp-Name` or `MCP-Protocol-Version` disagrees with the body | 400, -32020 |
//! | the body is compressed, or declares a charset other than UTF-8 | 415, -32600 |
//! | the body is too large, or Envoy truncated it | 413, -32600 |
//! | Envoy's configuration would let calls pass without a decision, or does not send the input that selects policies | 500, -32603, and an error in the log with the fix |
//! | Envoy breaks the protocol, the stream breaks, or mcp-authz has a bug | the gRPC stream fails; Envoy answers 500 |
//! | mcp-authz does not run | Envoy answers 500 (`failure_mode_allow: false`) |
//! | a condition cannot be evaluated | an Allow rule does not match; a Deny rule denies, unless the policy says otherwise |
//! | the policy says `enforcement: Shadow` | Envoy forwards the request; the log has the response that mcp-authz would have sent |
//! | the policy file has mistakes | `serve` does not start; a running server keeps the last valid policy in force |
//!
//! # Layers
//!
//! Arrows point from a module to those that it uses: [`cli`] → [`suite`], [`config`], [`server`] →
//! [`extproc`] → [`gate`] → [`policy`], [`mcp`], [`claims`], [`challenge`]. The modules below the
//! gate are functions of their inputs: they read no file, clock, socket or environment. A test
//! checks all of this.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "printing panics if nobody reads")]

pub mod address;
pub mod admin;
pub mod challenge;
pub mod claims;
pub mod cli;
pub mod config;
pub mod extproc;
pub mod gate;
pub mod head;
pub mod json;
pub mod mcp;
pub mod policy;
pub mod proto;
pub mod record;
pub mod server;
pub mod suite;
pub mod telemetry;
mod words;
