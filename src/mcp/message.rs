//! The reader that turns the bytes of a body into a message.

mod calls;

use std::borrow::Cow;

use super::RequestId;
use super::call::Call;
use super::headers::{Declared, Mirror, MirroredHeaders};
use super::malformed::{Malformed, Problem};
use super::methods::{self, AppliesTo, MethodKind};
use crate::json::{Fault, JsonError, Kind, Reader, find_folded, has_duplicate};

/// The longest id, in bytes. A longer id is rejected. Only an id that makes a [`RequestId`] is
/// repeated.
const MAX_ID_BYTES: usize = 1024;
/// The most messages and the most calls of a batch. Clients send fewer; each call costs an
/// evaluation.
const MAX_BATCH: usize = 100;
/// The most bytes of all names in a batch. Patterns are compared with each name.
const MAX_BATCH_NAMES: usize = 32 << 10;
/// The most keys in a message, in its parameters or in their `_meta`. MCP uses far fewer. The
/// reader compares all keys of an object with each other.
const MAX_KEYS: usize = 1024;
const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// One JSON-RPC 2.0 message.
#[derive(Debug)]
pub enum Message<'a> {
    /// A message with targets that rules decide about, with an id or (as a notification) without
    /// one. A subscription to resources makes several calls, and the rules must allow all of them.
    Calls(Vec<Call<'a>>),
    /// A request about a task, where tasks are not accepted.
    Task {
        /// The method.
        method: Cow<'a, str>,
        /// The request's id as JSON text.
        id: Option<&'a str>,
    },
    /// Any other message: another method, or a response.
    NotGoverned {
        /// The proof that rules decide about nothing in the message.
        proof: NotGoverned,
        /// The method; a response has none.
        method: Option<Cow<'a, str>>,
        /// The request's id as JSON text.
        id: Option<&'a str>,
    },
    /// Several messages, if batches are accepted.
    Batch(Vec<Message<'a>>),
}

/// The bodies that a policy accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// The deepest nesting of arrays and objects, in levels.
    pub max_depth: usize,
    /// True if a body may be a batch: an array of messages (MCP 2025-03-26).
    pub batches: bool,
    /// True if a request about a task may pass.
    pub tasks: bool,
    /// The features, beside tools, that rules decide about.
    pub governed: AppliesTo,
}

impl Accept {
    /// The values for a policy that sets none of these fields.
    pub const USUAL: Self = Self {
        max_depth: 64,
        batches: false,
        tasks: true,
        governed: AppliesTo { prompts: false, resources: false, methods: false },
    };
}

/// Proof that a message was read to its end and that rules decide about nothing in it. Only
/// [`read`] makes this proof.
#[derive(Debug)]
pub struct NotGoverned {
    _made_by_read: (),
}

/// Reads a body and compares it with the headers that mirror it.
pub fn read<'a>(
    body: &'a [u8],
    headers: &MirroredHeaders<'_>,
    accept: Accept,
) -> Result<Message<'a>, Malformed> {
    let read = one_or_several(body, headers, accept);
    read.map_err(|problem| Malformed { problem, id: RequestId::read(body) })
}

fn one_or_several<'a>(
    body: &'a [u8],
    headers: &MirroredHeaders<'_>,
    accept: Accept,
) -> Result<Message<'a>, Problem> {
    let text = std::str::from_utf8(body).map_err(|error| Problem::NotUtf8(error.valid_up_to()))?;
    let mut reader = Reader::new(text, accept.max_depth);
    if reader.peek().map_err(Problem::NotJson)? != Kind::Array {
        let reader = Reader::new(text, accept.max_depth);
        return message(reader, headers, accept);
    }
    let (mut messages, mut count) = (Vec::new(), 0);
    let items = reader.array(|reader| {
        let Member { text, offset, .. } = member(reader)?;
        count += 1;
        if count <= MAX_BATCH {
            messages.push((offset, offset + text.len()));
        }
        Ok(())
    });
    items.and_then(|()| reader.end()).map_err(Problem::NotJson)?;
    let invalid = |what| Err(Problem::NotJsonRpc(what));
    match count {
        _ if !accept.batches => Err(Problem::Batch),
        0 => invalid("the batch is empty"),
        1..=MAX_BATCH => {
            let each = messages.into_iter().map(|(start, end)| {
                let reader = Reader::within(text, start, end, accept.max_depth);
                message(reader, headers, accept)
            });
            let messages = each.collect::<Result<Vec<_>, _>>()?;
            let calls = messages.iter().flat_map(|message| match message {
                Message::Calls(calls) => calls.as_slice(),
                Message::Task { .. } | Message::NotGoverned { .. } | Message::Batch(_) => &[],
            });
            if calls.clone().count() > MAX_BATCH {
                return invalid("the batch holds more than 100 calls");
            }
            if calls.map(|call| call.name.len()).sum::<usize>() > MAX_BATCH_NAMES {
                return invalid("the names in the batch are longer than 32 KiB together");
            }
            Ok(Message::Batch(messages))
        }
        _ => invalid("the batch holds more than 100 messages"),
    }
}

fn message<'a>(
    reader: Reader<'a>,
    headers: &MirroredHeaders<'_>,
    accept: Accept,
) -> Result<Message<'a>, Problem> {
    let envelope = envelope(reader)?;
    let id = envelope.id.and_then(|(kind, text)| {
        (matches!(kind, Kind::String | Kind::Number) && text.len() <= MAX_ID_BYTES).then_some(text)
    });
    envelope.message(id, headers, accept)
}

/// The members of a message that have a meaning.
#[derive(Debug, Default)]
struct Envelope<'a> {
    jsonrpc: Option<Text<'a>>,
    id: Option<(Kind, &'a str)>,
    method: Option<Text<'a>>,
    params: Option<Params<'a>>,
    result: bool,
    error: bool,
    keys: Keys<'a>,
}

/// The members of `params` that have a meaning.
#[derive(Debug, Default)]
struct Params<'a> {
    /// The text of `params` and its offset in the body in bytes, if `params` is an object.
    object: Option<(&'a str, usize)>,
    /// True if `params` is neither an object nor null.
    is_something_else: bool,
    name: Option<Text<'a>>,
    uri: Option<Text<'a>>,
    task_id: Option<Text<'a>>,
    arguments: Option<Member<'a>>,
    meta: Option<Member<'a>>,
    /// `params.ref`: the target of a completion.
    reference: Option<Member<'a>>,
    /// `params.notifications`: the targets of a subscription.
    notifications: Option<Member<'a>>,
    protocol_version: Option<Text<'a>>,
    keys: Keys<'a>,
}

/// The value of a member, and its offset in the body in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) offset: usize,
}

/// A value that should be a string.
#[derive(Debug)]
enum Text<'a> {
    String(Cow<'a, str>),
    NotAString,
}

impl Text<'_> {
    fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::NotAString => None,
        }
    }
}

/// The keys of an object, collected to check that all readers agree about them.
#[derive(Debug, Default)]
pub(super) struct Keys<'a> {
    seen: Vec<Cow<'a, str>>,
    variant_of: Option<&'static str>,
}

impl<'a> Keys<'a> {
    /// Records a key. Returns the known key that equals it.
    ///
    /// # Errors
    /// If there are too many keys.
    pub(super) fn add(
        &mut self,
        reader: &Reader<'_>,
        key: Cow<'a, str>,
        known: &[&'static str],
    ) -> Result<Option<&'static str>, JsonError> {
        if self.seen.len() == MAX_KEYS {
            return Err(JsonError { fault: Fault::TooMany, offset: reader.offset() });
        }
        let mut known = known.iter().copied();
        let exact = known.clone().find(|name| *name == key);
        if exact.is_none() && self.variant_of.is_none() {
            self.variant_of = find_folded(&mut known, &key);
        }
        self.seen.push(key);
        Ok(exact)
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        match self.variant_of {
            Some(key) => Err(Problem::CaseVariantKey(key)),
            None => Ok(()),
        }
    }

    pub(super) fn refuse_duplicates(&self, offset: usize) -> Result<(), JsonError> {
        if has_duplicate(self.seen.iter().map(Cow::as_ref)) {
            return Err(JsonError { fault: Fault::DuplicateKey, offset });
        }
        Ok(())
    }
}

fn envelope(mut reader: Reader<'_>) -> Result<Envelope<'_>, Problem> {
    const KEYS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

    if reader.peek().map_err(Problem::NotJson)? != Kind::Object {
        reader.raw().and_then(|_| reader.end()).map_err(Problem::NotJson)?;
        return Err(Problem::NotJsonRpc("it is not an object"));
    }
    let mut envelope = Envelope::default();
    reader
        .object(|reader, key| {
            match envelope.keys.add(reader, key, &KEYS)? {
                Some("jsonrpc") => envelope.jsonrpc = Some(string(reader)?),
                Some("id") => envelope.id = Some(reader.raw()?),
                Some("method") => envelope.method = Some(string(reader)?),
                Some("params") => envelope.params = Some(params(reader)?),
                known => {
                    envelope.result |= known == Some("result");
                    envelope.error |= known == Some("error");
                    reader.raw()?;
                }
            }
            Ok(())
        })
        .and_then(|()| reader.end())
        .and_then(|()| envelope.keys.refuse_duplicates(reader.offset()))
        .map_err(Problem::NotJson)?;
    Ok(envelope)
}

fn params<'a>(reader: &mut Reader<'a>) -> Result<Params<'a>, JsonError> {
    const KEYS: [&str; 7] = ["name", "uri", "taskId", "arguments", "_meta", "ref", "notifications"];

    let mut params = Params::default();
    let kind = reader.peek()?;
    if kind != Kind::Object {
        reader.raw()?;
        params.is_something_else = kind != Kind::Null;
        return Ok(params);
    }
    let start = reader.offset();
    reader.object(|reader, key| {
        match params.keys.add(reader, key, &KEYS)? {
            Some("name") => params.name = Some(string(reader)?),
            Some("uri") => params.uri = Some(string(reader)?),
            Some("taskId") => params.task_id = Some(string(reader)?),
            Some("ref") => params.reference = Some(member(reader)?),
            Some("notifications") => params.notifications = Some(member(reader)?),
            Some("arguments") => params.arguments = Some(member(reader)?),
            Some("_meta") => {
                let meta = member(reader)?;
                if meta.kind == Kind::Object {
                    let (version, variant_of) = protocol_version(&meta, reader.max_depth())?;
                    params.protocol_version = version;
                    params.keys.variant_of = params.keys.variant_of.or(variant_of);
                }
                params.meta = Some(meta);
            }
            _ => {
                reader.raw()?;
            }
        }
        Ok(())
    })?;
    params.keys.refuse_duplicates(reader.offset())?;
    params.object = Some((reader.since(start), start));
    Ok(params)
}

/// Reads the protocol version that `_meta` declares since 2026-07-28. Also returns the known name
/// that some key in `_meta` equals except for letter case.
fn protocol_version<'a>(
    meta: &Member<'a>,
    max_depth: usize,
) -> Result<(Option<Text<'a>>, Option<&'static str>), JsonError> {
    let mut version = None;
    let read = |reader: &mut Reader<'a>, _known| {
        version = Some(string(reader)?);
        Ok(())
    };
    let keys = members((meta.text, meta.offset), &[PROTOCOL_VERSION], max_depth, read)?;
    Ok((version, keys.variant_of))
}

/// Reads an object, given by its text and offset, and passes each known member to `each`. Returns
/// all keys; duplicate keys are an error.
pub(super) fn members<'a>(
    (text, offset): (&'a str, usize),
    known: &[&'static str],
    max_depth: usize,
    mut each: impl FnMut(&mut Reader<'a>, &'static str) -> Result<(), JsonError>,
) -> Result<Keys<'a>, JsonError> {
    let mut keys = Keys::default();
    let mut reader = Reader::new(text, max_depth);
    let read = reader.object(|reader, key| match keys.add(reader, key, known)? {
        Some(known) => each(reader, known),
        None => reader.raw().map(drop),
    });
    read.and_then(|()| keys.refuse_duplicates(reader.offset()))
        .map_err(|error| JsonError { offset: error.offset + offset, ..error })?;
    Ok(keys)
}

fn string<'a>(reader: &mut Reader<'a>) -> Result<Text<'a>, JsonError> {
    if reader.peek()? == Kind::String {
        reader.string().map(Text::String)
    } else {
        reader.raw().map(|_| Text::NotAString)
    }
}

pub(super) fn member<'a>(reader: &mut Reader<'a>) -> Result<Member<'a>, JsonError> {
    reader.peek()?;
    let offset = reader.offset();
    reader.raw().map(|(kind, text)| Member { kind, text, offset })
}

impl<'a> Envelope<'a> {
    /// Decides what kind of message this is. All known members have been read by now, so the order
    /// of keys does not matter.
    fn message(
        mut self,
        id: Option<&'a str>,
        headers: &MirroredHeaders<'_>,
        accept: Accept,
    ) -> Result<Message<'a>, Problem> {
        self.keys.check()?;
        if let Some(params) = &self.params {
            params.keys.check()?;
        }
        if self.jsonrpc.as_ref().and_then(Text::as_str) != Some("2.0") {
            return Err(Problem::NotJsonRpc("`jsonrpc` is not \"2.0\""));
        }
        let method = match self.method.take() {
            Some(Text::String(method)) => method,
            Some(Text::NotAString) => {
                return Err(Problem::NotJsonRpc("`method` is not a string"));
            }
            None => return self.response(headers),
        };
        if self.result || self.error {
            return Err(Problem::NotJsonRpc("it is a request and a response at once"));
        }
        if self.id.is_some() && id.is_none() {
            return Err(Problem::NotJsonRpc("`id` is neither a string nor a number, or too long"));
        }
        if !method.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Problem::NotJsonRpc("`method` holds more than visible ASCII"));
        }
        let asks = methods::asks(&method);
        let mirror = self.mirror(&method, asks);
        headers.check(&mirror)?;
        if methods::is_almost_known(&method) {
            return Err(Problem::NotJsonRpc(
                "`method` differs from one of MCP's only in upper and lower case",
            ));
        }
        if headers.are_modern(&mirror)
            && methods::is_removed(&method)
            && accept.governed.covers(asks)
        {
            return Err(Problem::RemovedMethod);
        }
        calls::message(self.params.unwrap_or_default(), (method, id), asks, accept)
    }

    /// Checks a client's response to a request of the server (sampling, elicitation).
    fn response(&self, headers: &MirroredHeaders<'_>) -> Result<Message<'a>, Problem> {
        if self.id.is_none() || self.result == self.error {
            return Err(Problem::NotJsonRpc("it has neither a method nor one result"));
        }
        headers.check(&Mirror::default())?;
        let proof = NotGoverned { _made_by_read: () };
        Ok(Message::NotGoverned { proof, method: None, id: None })
    }

    /// Returns the values that the mirrored headers must agree with.
    fn mirror<'m>(&'m self, method: &'m str, asks: Option<MethodKind>) -> Mirror<'m> {
        let params = self.params.as_ref();
        let name = params.and_then(|params| match asks? {
            MethodKind::Tool | MethodKind::Prompt => params.name.as_ref(),
            MethodKind::Resource => params.uri.as_ref(),
            MethodKind::Task => params.task_id.as_ref(),
            MethodKind::Completion
            | MethodKind::Notifications
            | MethodKind::List(_)
            | MethodKind::Nothing => None,
        });
        let protocol_version = params.and_then(|params| params.protocol_version.as_ref());
        // The specification defines no headers of notifications ("Sending Messages"). Some servers
        // may read a message with a request's method as a request, even without an id.
        let is_notification =
            self.id.is_none() && (method.starts_with(methods::NOTIFICATIONS) || asks.is_none());
        Mirror {
            method: Some(method),
            name: name.and_then(Text::as_str),
            protocol_version: match protocol_version {
                None => Declared::Absent,
                Some(Text::String(version)) => Declared::Version(version),
                Some(Text::NotAString) => Declared::NotAString,
            },
            is_request: !is_notification,
            needs_name: methods::needs_name(method, asks),
        }
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
