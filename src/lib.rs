//! **mcp-authz** is an external processor (`ext_proc`) of Envoy that decides
//! which MCP tool calls a caller may make.
//!
//! # The path of a request
//!
//! 1. Envoy's `jwt_authn` filter verifies the access token and puts its payload
//!    into dynamic metadata.
//! 2. Envoy's `ext_proc` filter opens a stream, sends the head of the request,
//!    then its body ([`extproc`]). Envoy holds the request until it is answered.
//! 3. The gate looks at the head: which policy is for it, is there a token, is the body of a kind that
//!    can be read ([`gate::Gate::admit`])?
//! 4. The body is read strictly, as one JSON-RPC 2.0 message, or a batch of them where a policy accepts
//!    batches ([`mcp`]).
//! 5. A `tools/call` becomes backend, tool and arguments, and so does what else is
//!    judged; the rules are tried in order, the first that matches decides
//!    ([`policy::Policy::evaluate`]).
//! 6. A call that may go on does so unchanged. A denial is answered here, with a
//!    challenge if more scopes would help ([`challenge`]).
//! 7. The response to a list is filtered, if the policy says so ([`gate::ListFilter`]).
//!
//! # Whom it trusts
//!
//! | | |
//! |---|---|
//! | the policy file | its author may say anything, but not by mistake: unknown keys, names and functions are errors ([`config`]) |
//! | Envoy | messages are taken for what they say; its set-up is checked with each stream |
//! | claims in `jwt_authn`'s metadata | verified; only Envoy can write there |
//! | the `Authorization` header | only if the policy says `jwt.from: authorizationHeader`; then unverified |
//! | Envoy's attributes and gRPC metadata | they name routes, backends and policies; no client can write them |
//! | everything else that a client sends | nothing of it grants anything, unless a rule asks for it; what readers could disagree about is refused |
//!
//! # Which failure gets which answer
//!
//! Deny is the empty state: a request goes on only with a [`gate::Clearance`].
//!
//! | failure | answer |
//! |---|---|
//! | no policy matches the request | 403, no `WWW-Authenticate` |
//! | its host or path is ambiguous, and policies are selected by it | 400, JSON-RPC -32600 |
//! | the policy denies | 403, with `WWW-Authenticate` exactly if more scopes would turn this call into an allow |
//! | no verified token, and the policy says `unauthenticated: Challenge` | 401 with `WWW-Authenticate` |
//! | the body is not UTF-8, not strict JSON, ambiguous or too deep | 400, JSON-RPC -32700 |
//! | it is not one JSON-RPC 2.0 message, a batch where they are rejected, or the header that names the backend is repeated | 400, -32600 |
//! | a call without a usable name, URI or arguments | 400, -32602 |
//! | `Mcp-Method`, `Mcp-Name` or `MCP-Protocol-Version` disagree with the body | 400, -32020 |
//! | the body is compressed, or said to be in another charset than UTF-8 | 415, -32600 |
//! | the body is too large, or Envoy cut it off | 413, -32600 |
//! | Envoy is set up so that calls could go on unjudged, or does not send by what policies are selected | 500, -32603, and an error in the log with the remedy |
//! | Envoy breaks the protocol, the stream breaks, a bug | the gRPC stream fails; Envoy answers 500 |
//! | the sidecar is gone | Envoy answers 500 (`failure_mode_allow: false`) |
//! | a condition fails | no match in an Allow rule; a Deny rule denies, unless the policy says otherwise |
//! | the policy says `enforcement: Shadow` | it goes on; what would have been answered is logged |
//! | the policy file has mistakes | `serve` does not start; if it runs already, the last good policy stays in force |
//!
//! # Layers
//!
//! Arrows point down: [`cli`] → [`suite`], [`config`], [`server`] → [`extproc`] → [`gate`] →
//! [`policy`], [`mcp`], [`claims`], [`challenge`]. What is below the gate is a
//! function of its inputs: it reads no file, clock, socket or environment. A
//! test holds all of this in place.

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
