//! The strict reader of what an MCP client sends: bytes of an HTTP body become
//! calls, a message that is not governed, or a [`Malformed`].
//!
//! The body is read once more by the MCP server, with whatever JSON decoder it
//! happens to use. A message is therefore accepted only if every decoder takes
//! the same tool from it, and the same arguments as far as a condition reads
//! them:
//!
//! | refused | because some decoder |
//! |---|---|
//! | a key twice, however it is escaped | takes the last (Python's `json`, JavaScript, `serde_json`'s maps, Envoy's `mcp` filter) or the first (some C and simd readers) |
//! | `Method`, `NAME`, `paramſ` | matches keys without regard to case (Go's `encoding/json`; .NET and Jackson if set so) |
//! | a key with NUL | cuts a key at NUL (readers in C) |
//! | invalid or overlong UTF-8, wherever it stands | replaces it, or reads it as what it abbreviates |
//! | a byte order mark, UTF-16, UTF-32 | skips the mark, or detects the encoding ([RFC 4627, section 3]) |
//! | several values, anything after the value | reads the first (streaming readers), the last, or all |
//! | `1e400`, `NaN`, `01`, `+1` | reads infinity, or a number ([RFC 8259, section 6]) |
//! | lone surrogates in escapes | replaces or keeps them ([RFC 8259, section 8.2]) |
//! | comments, single quotes, trailing commas | accepts them (JSON5) |
//! | more than 1024 keys in a message, `params` or `_meta` | takes long (so would this one) |
//! | deep nesting, before, within or after what matters | exhausts its stack, or stops there |
//! | a batch, unless the policy accepts them | calls each (MCP 2025-03-26), or takes the first |
//! | a message that is a request and a response | takes it for either |
//! | a method that is not visible ASCII, or is almost one of MCP's | trims it, cuts it, or ignores case |
//! | an id that is no string and no number | answers to another |
//! | a header of 2026-07-28 that is missing, or says something else | believes the header |
//! | a method that 2026-07-28 removed, in a request of this version | still has it |
//! | a name or URI that is no text, empty, long, or has control characters | makes a text of it, or cuts it |
//! | a URI that readers of URLs would write otherwise, or with slashes that are encoded | reads another one |
//! | a completion for a prompt and a resource at once | takes it for either |
//!
//! What has no method is a response and passes, and so does a method that is not
//! governed; a notification that calls a tool is a call. What is governed beside tools is
//! up to the policy ([`Governed`]).
//!
//! [RFC 4627, section 3]: https://www.rfc-editor.org/rfc/rfc4627#section-3
//! [RFC 8259, section 6]: https://www.rfc-editor.org/rfc/rfc8259#section-6
//! [RFC 8259, section 8.2]: https://www.rfc-editor.org/rfc/rfc8259#section-8.2
//!
//! Arguments are only checked to be well-formed here; [`Arguments`] reads them
//! when a condition asks for them, and refuses duplicate keys then.

mod call;
mod events;
mod headers;
mod list;
mod malformed;
mod message;
mod methods;
mod request_id;
mod uri;

pub use call::{Arguments, Call, Feature, Parameters, name_fault};
pub use events::{Data, Events};
pub use headers::MirroredHeaders;
pub use list::{Entry, REQUIRED_SCOPES, filter};
pub use malformed::{CaseVariant, Malformed, Problem};
pub use message::{Accept, Message, NotGoverned, read};
pub use methods::{Governed, Listing, TOOLS_CALL, is_almost_known, known_methods};
pub use request_id::RequestId;
pub use uri::is_ambiguous;
