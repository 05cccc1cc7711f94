//! The wire format of Envoy's `envoy.service.ext_proc.v3`, reduced to the fields that mcp-authz
//! reads and writes.
//!
//! Protobuf skips fields that a message type does not have, and strings, submessages and bytes look
//! alike on the wire. So fields that are never read are not decoded, and fields that may be read
//! later stay encoded. Bytes are slices of the message's buffer rather than copies. Tests compare
//! these types with the complete messages of `envoy-types`.

use prost::bytes::Bytes;
use prost::{Message, Oneof};

use super::message::ProtocolError;

/// Undecodable data must not count as absent: a Deny rule could depend on a value in it.
const NOT_PROTOBUF: ProtocolError = ProtocolError("metadata or attributes cannot be decoded");

/// The name of the service.
pub(super) const SERVICE: &str = "envoy.service.ext_proc.v3.ExternalProcessor";
/// The path of the service's only method.
pub(super) const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/// A message from Envoy about a part of a request or response.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProcessingRequest {
    #[prost(oneof = "Asked", tags = "2, 3, 4, 5, 6, 7")]
    pub(super) request: Option<Asked>,
    /// A `Metadata`, whose first field is a map of a `Struct` for each filter.
    #[prost(bytes = "bytes", optional, tag = "8")]
    pub(super) metadata_context: Option<Bytes>,
    /// A `Struct` for each filter.
    #[prost(message, repeated, tag = "9")]
    pub(super) attributes: Vec<Member>,
    #[prost(bool, tag = "10")]
    pub(super) observability_mode: bool,
    #[prost(message, optional, tag = "11")]
    pub(super) protocol_config: Option<ProtocolConfiguration>,
}

/// The part of a request or a response that Envoy sends.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Asked {
    #[prost(message, tag = "2")]
    RequestHeaders(HttpHeaders),
    /// `HttpHeaders`, left encoded because they are seldom read.
    #[prost(bytes = "bytes", tag = "3")]
    ResponseHeaders(Bytes),
    #[prost(message, tag = "4")]
    RequestBody(HttpBody),
    #[prost(message, tag = "5")]
    ResponseBody(HttpBody),
    #[prost(message, tag = "6")]
    RequestTrailers(Empty),
    #[prost(message, tag = "7")]
    ResponseTrailers(Empty),
}

/// A message without any field that is read.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpHeaders {
    #[prost(message, optional, tag = "1")]
    pub(super) headers: Option<HeaderMap>,
    #[prost(bool, tag = "3")]
    pub(super) end_of_stream: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderMap {
    #[prost(message, repeated, tag = "1")]
    pub(super) headers: Vec<HeaderValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) raw_value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpBody {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) body: Bytes,
    #[prost(bool, tag = "2")]
    pub(super) end_of_stream: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct ProtocolConfiguration {
    #[prost(int32, tag = "1")]
    pub(super) request_body_mode: i32,
    #[prost(int32, tag = "2")]
    pub(super) response_body_mode: i32,
}

/// A member of a map, whose value is a message that is not decoded yet.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Member {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

/// The members of a map that is the first field of a message, such as `google.protobuf.Struct`.
/// Their names and values are not decoded yet.
#[derive(Debug, Default)]
pub(super) struct Members<'m>(Vec<(&'m [u8], &'m [u8])>);

impl<'m> Members<'m> {
    /// The initial room for members. Tokens have about a dozen claims.
    const MOST_HAVE_LESS: usize = 24;

    /// Splits a message into the members of its map.
    ///
    /// # Errors
    /// If the bytes are not such a message.
    pub(super) fn of(message: &'m [u8]) -> Result<Self, ProtocolError> {
        let mut members = Vec::with_capacity(Self::MOST_HAVE_LESS);
        for field in Fields(message) {
            let (tag, member) = field?;
            if tag == 1 {
                let (mut name, mut value) = (Default::default(), Default::default());
                for field in Fields(member) {
                    match field? {
                        (1, bytes) => name = bytes,
                        (2, bytes) => value = bytes,
                        _ => {}
                    }
                }
                members.push((name, value));
            }
        }
        Ok(Self(members))
    }

    /// Returns the value of a member. As in protobuf, the last one with this name counts.
    pub(super) fn get(&self, name: &str) -> Option<&'m [u8]> {
        self.0.iter().rfind(|(found, _)| *found == name.as_bytes()).map(|(_, value)| *value)
    }

    /// Returns all members.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'m [u8], &'m [u8])> {
        self.0.iter().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Returns the string, if a `google.protobuf.Value` is one.
pub(super) fn text(value: &[u8]) -> Result<Option<&str>, ProtocolError> {
    only_field(value, 3)?.map(utf8).transpose()
}

/// Returns the `Struct`, if a `google.protobuf.Value` is one.
pub(super) fn structure(value: &[u8]) -> Result<Option<&[u8]>, ProtocolError> {
    only_field(value, 5)
}

pub(super) fn utf8(text: &[u8]) -> Result<&str, ProtocolError> {
    std::str::from_utf8(text).map_err(|_not_utf8| NOT_PROTOBUF)
}

/// Returns the field with this tag, if the message has only this field.
fn only_field(message: &[u8], tag: usize) -> Result<Option<&[u8]>, ProtocolError> {
    let mut fields = Fields(message);
    let (first, second) = (fields.next().transpose()?, fields.next().transpose()?);
    Ok(first.filter(|(found, _)| *found == tag && second.is_none()).map(|(_, bytes)| bytes))
}

/// The type of strings, bytes and messages in protobuf's wire format.
const LENGTH_DELIMITED: u8 = 2;

/// The strings, bytes and messages among the fields of a message, with their tags. If the bytes are
/// not protobuf, the last item is an error.
struct Fields<'m>(&'m [u8]);

impl<'m> Iterator for Fields<'m> {
    type Item = Result<(usize, &'m [u8]), ProtocolError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        // Most fields have a small tag, and are short.
        if let [key @ 0..0x80, length @ 0..0x80, rest @ ..] = self.0
            && key & 7 == LENGTH_DELIMITED
            && let Some((value, rest)) = rest.split_at_checked(usize::from(*length))
        {
            self.0 = rest;
            return Some(Ok((usize::from(key >> 3), value)));
        }
        self.any()
    }
}

impl<'m> Fields<'m> {
    fn any(&mut self) -> Option<Result<(usize, &'m [u8]), ProtocolError>> {
        while !self.0.is_empty() {
            match self.field() {
                Some((tag, Some(value))) => return Some(Ok((tag, value))),
                Some((_, None)) => {}
                None => {
                    self.0 = &[];
                    return Some(Err(NOT_PROTOBUF));
                }
            }
        }
        None
    }

    /// Returns the next field. A number has no value here.
    fn field(&mut self) -> Option<(usize, Option<&'m [u8]>)> {
        let key = self.varint()?;
        let length = match key & 7 {
            0 => {
                self.varint()?;
                return Some((key >> 3, None));
            }
            1 => size_of::<u64>(),
            2 => self.varint()?,
            5 => size_of::<u32>(),
            _ => return None,
        };
        let (value, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some((key >> 3, (key & 7 == 2).then_some(value)))
    }

    fn varint(&mut self) -> Option<usize> {
        prost::decode_length_delimiter(&mut self.0).ok()
    }
}

/// A message to Envoy.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProcessingResponse {
    #[prost(oneof = "Answered", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(super) response: Option<Answered>,
    /// A `Struct`.
    #[prost(bytes = "bytes", optional, tag = "8")]
    pub(super) dynamic_metadata: Option<Bytes>,
}

/// The part of a request or a response that an answer belongs to.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Answered {
    #[prost(message, tag = "1")]
    RequestHeaders(CommonResponseHolder),
    #[prost(message, tag = "2")]
    ResponseHeaders(CommonResponseHolder),
    #[prost(message, tag = "3")]
    RequestBody(CommonResponseHolder),
    #[prost(message, tag = "4")]
    ResponseBody(CommonResponseHolder),
    #[prost(message, tag = "5")]
    RequestTrailers(Empty),
    #[prost(message, tag = "6")]
    ResponseTrailers(Empty),
    #[prost(message, tag = "7")]
    ImmediateResponse(ImmediateResponse),
}

/// `HeadersResponse` and `BodyResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CommonResponseHolder {
    #[prost(message, optional, tag = "1")]
    pub(super) response: Option<CommonResponse>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CommonResponse {
    #[prost(message, optional, tag = "2")]
    pub(super) header_mutation: Option<HeaderMutation>,
    #[prost(message, optional, tag = "3")]
    pub(super) body_mutation: Option<BodyMutation>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BodyMutation {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) body: Option<Bytes>,
    #[prost(message, optional, tag = "3")]
    pub(super) streamed_response: Option<HttpBody>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ImmediateResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<HttpStatus>,
    #[prost(message, optional, tag = "2")]
    pub(super) headers: Option<HeaderMutation>,
    #[prost(string, tag = "3")]
    pub(super) body: String,
    #[prost(string, tag = "5")]
    pub(super) details: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct HttpStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderMutation {
    #[prost(message, repeated, tag = "1")]
    pub(super) set_headers: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "2")]
    pub(super) remove_headers: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderValueOption {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<HeaderValue>,
    #[prost(int32, tag = "3")]
    pub(super) append_action: i32,
}

/// Appends a field with this tag that holds a string, bytes or a message.
pub(super) fn put(buffer: &mut Vec<u8>, tag: u8, value: &[u8]) {
    begin(buffer, tag, value.len());
    buffer.extend_from_slice(value);
}

/// Returns the length of a field with a value of this length, in bytes.
pub(super) fn length(value: usize) -> usize {
    1 + prost::length_delimiter_len(value) + value
}

/// Appends the beginning of a field, before `length` bytes of its value.
pub(super) fn begin(buffer: &mut Vec<u8>, tag: u8, length: usize) {
    let key = tag << 3 | LENGTH_DELIMITED;
    match u8::try_from(length) {
        // Most values are short.
        Ok(length @ 0..0x80) => buffer.extend_from_slice(&[key, length]),
        _ => {
            buffer.push(key);
            // Writing to a vector cannot fail.
            let _written = prost::encode_length_delimiter(length, buffer);
        }
    }
}

#[cfg(test)]
mod tests;
