//! The strict reader of what an MCP client sends: bytes of an HTTP body become
//! a tool call, a message that is not governed, or a [`Malformed`].
//!
//! The body is read once more by the MCP server, with whatever JSON decoder it
//! happens to use. A message is therefore accepted only if every decoder takes
//! the same tool from it, and the same arguments as far as a condition reads
//! them:
//!
//! | refused | because some decoder |
//! |---|---|
//! | a key twice, however it is escaped | takes the first, or the last |
//! | `Method`, `NAME`, `paramſ` | matches keys without regard to case (Go) |
//! | invalid UTF-8, a byte order mark | replaces it, skips it, or stops |
//! | several values, a batch | reads the first, or all |
//! | a tool name with a control character, a key with NUL | cuts a string at NUL |
//! | a method that is not visible ASCII | trims it, or cuts it |
//! | deep nesting, numbers beyond a double | fails, or rounds |
//!
//! Arguments are only checked to be well-formed here; [`Arguments`] reads them
//! when a condition asks for them, and refuses duplicate keys then.

mod headers;
mod malformed;
mod message;

pub use headers::MirroredHeaders;
pub use malformed::{Malformed, Problem};
pub use message::{Accept, Arguments, Message, NotGoverned, TOOLS_CALL, ToolCall, read};
