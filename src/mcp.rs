//! The strict reader of MCP messages. The bytes of an HTTP body become calls, a message that is not
//! governed, or a [`Malformed`] error.
//!
//! The MCP server reads the body again, with a JSON decoder that this crate does not know. The
//! reader therefore accepts a message only if every decoder finds the same tool in it. Every
//! decoder must also find the same arguments, as far as a condition reads them:
//!
//! | rejected | because some decoder |
//! |---|---|
//! | a key twice, however it is escaped | takes the last (Python's `json`, JavaScript, `serde_json`'s maps, Envoy's `mcp` filter) or the first (some C and simd readers) |
//! | `Method`, `NAME`, `paramſ` | matches keys without regard to case (Go's `encoding/json`; .NET and Jackson if configured so) |
//! | a key with NUL | cuts a key at NUL (readers in C) |
//! | invalid or overlong UTF-8, wherever it stands | replaces it, or reads the character that it encodes |
//! | a byte order mark, UTF-16, UTF-32 | skips the mark, or detects the encoding ([RFC 4627, section 3]) |
//! | several values, anything after the value | reads the first (streaming readers), the last, or all |
//! | `1e400`, `NaN`, `01`, `+1` | reads infinity, or a number ([RFC 8259, section 6]) |
//! | lone surrogates in escapes | replaces or keeps them ([RFC 8259, section 8.2]) |
//! | comments, single quotes, trailing commas | accepts them (JSON5) |
//! | more than 1024 keys in a message, `params` or `_meta` | needs much time (as would this reader) |
//! | deep nesting, before, within or after the members that matter | exhausts its stack, or stops there |
//! | a batch, unless the policy accepts batches | calls each (MCP 2025-03-26), or takes the first |
//! | a message that is a request and a response | reads it as either |
//! | a method that is not visible ASCII, or is almost one of MCP's | trims it, cuts it, or ignores case |
//! | an id that is neither a string nor a number | responds with another id |
//! | a header of 2026-07-28 that is missing, or that differs from the body | believes the header |
//! | a method that 2026-07-28 removed, in a request of this version | still has it |
//! | a name or URI that is not a string, is empty or long, or has control characters | converts it to a string, or cuts it |
//! | a URI that readers of URLs would write otherwise, or with slashes that are encoded | reads another one |
//! | a completion for a prompt and a resource at once | reads it as either |
//!
//! A message without a method is a response and passes. A method that is not governed passes too. A
//! notification that calls a tool is a call. The policy says which features beside tools are
//! governed ([`AppliesTo`]).
//!
//! [RFC 4627, section 3]: https://www.rfc-editor.org/rfc/rfc4627#section-3
//! [RFC 8259, section 6]: https://www.rfc-editor.org/rfc/rfc8259#section-6
//! [RFC 8259, section 8.2]: https://www.rfc-editor.org/rfc/rfc8259#section-8.2
//!
//! This reader only checks that arguments are well-formed. [`Arguments`] reads them when a
//! condition needs them, and then rejects duplicate keys.

mod call;
mod events;
mod headers;
mod list;
mod malformed;
mod message;
mod methods;
mod request_id;
mod uri;

pub use call::{Arguments, Call, Parameters, TargetKind, name_fault};
pub use events::{Data, SseRewriter};
pub use headers::MirroredHeaders;
pub use list::{ListEntry, REQUIRED_SCOPES, filter};
pub use malformed::{CaseVariant, Malformed, Problem};
pub use message::{Accept, Message, NotGoverned, read};
pub use methods::{AppliesTo, ListKind, TOOLS_CALL, is_almost_known, known_methods};
pub use request_id::RequestId;
pub use uri::is_ambiguous;
