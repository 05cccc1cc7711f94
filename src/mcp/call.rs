//! Calls that rules decide about, with their parameters.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;

use super::malformed::Problem;
use super::message::Member;
use super::{RequestId, uri};
use crate::json::{Fault, JsonError, Kind, LazyObject};

/// The longest name that rules decide about, in bytes. This is twice the recommended length (MCP
/// 2025-11-25, "Tool Names"), because gateways put a backend's name in front. Names are logged and
/// repeated.
pub(super) const LONGEST_NAME: usize = 256;
/// The longest URI, in bytes.
const LONGEST_URI: usize = 2048;

/// The kind of target that a call names (MCP, "Server Features").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetKind {
    /// A tool.
    Tool,
    /// A prompt.
    Prompt,
    /// A resource, named by its URI.
    Resource,
    /// All resources that a URI template can name ([RFC 6570]). The name of the call is the
    /// template with a star in place of each expression.
    ///
    /// [RFC 6570]: https://www.rfc-editor.org/rfc/rfc6570
    ResourceTemplate,
    /// Any other target, named by its method.
    Method,
}

impl TargetKind {
    /// The features that a rule can name as targets.
    pub const OF_TARGETS: [Self; 4] = [Self::Tool, Self::Prompt, Self::Resource, Self::Method];

    /// Returns the feature's name in rules and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource | Self::ResourceTemplate => "resource",
            Self::Method => "method",
        }
    }
}

/// Returns a name or URI in the form that rules decide about and logs hold.
///
/// # Errors
/// The reason why the name or URI is rejected.
pub(super) fn judged(
    feature: TargetKind,
    name: Cow<'_, str>,
) -> Result<Cow<'_, str>, &'static str> {
    let (is_uri, is_template) = match feature {
        TargetKind::Tool | TargetKind::Prompt | TargetKind::Method => (false, false),
        TargetKind::Resource => (true, false),
        TargetKind::ResourceTemplate => (true, true),
    };
    if name.is_empty() {
        return Err("is empty");
    }
    if is_uri && name.len() > LONGEST_URI {
        return Err("is longer than 2048 bytes");
    }
    if !is_uri && name.len() > LONGEST_NAME {
        return Err("is longer than 256 bytes");
    }
    if name.contains(char::is_control) {
        return Err("holds a control character");
    }
    let name = if is_template { uri::with_stars(&name).into() } else { name };
    if is_uri && uri::is_ambiguous(&name, is_template && name.contains('*')) {
        return Err("can be taken for another URI: write it as WHATWG URL does, without \
                    encoded slashes, and a file's without host and query");
    }
    Ok(name)
}

/// Returns the reason why every call of a name is rejected, if there is one.
pub fn name_fault(feature: TargetKind, name: &str) -> Option<&'static str> {
    judged(feature, Cow::Borrowed(name)).err()
}

/// A call that rules decide about.
#[derive(Debug)]
pub struct Call<'a> {
    /// The request's id as JSON text.
    pub id: Option<&'a str>,
    /// The method.
    pub method: Cow<'a, str>,
    /// The kind of the call's target.
    pub feature: TargetKind,
    /// The name or URI of the target: not empty, without control characters.
    pub name: Cow<'a, str>,
    /// The parameters of the call.
    pub parameters: Rc<Parameters<'a>>,
}

impl<'a> Call<'a> {
    /// Returns a call without a message and without parameters, such as an HTTP request that
    /// has no body.
    ///
    /// # Errors
    /// If the method cannot be logged and compared.
    pub fn without_message(method: &str) -> Result<Self, Problem> {
        let name = judged(TargetKind::Method, Cow::Owned(method.to_owned()))
            .map_err(|fault| Problem::NoUsableCall("method", fault))?;
        Ok(Self::without_parameters(name))
    }

    /// The name that rules use for a response that a client posts.
    pub const RESPONSE: &'static str = "response";

    /// Returns the call that stands for a posted response. The response's id belongs to a request
    /// of the server, so no error repeats it.
    pub fn of_response() -> Self {
        Self::without_parameters(Self::RESPONSE.into())
    }

    fn without_parameters(method: Cow<'a, str>) -> Self {
        let nothing = || Arguments::new(None, 0);
        let parameters = Parameters { arguments: nothing(), meta: nothing(), params: nothing() };
        Self {
            id: None,
            method: method.clone(),
            feature: TargetKind::Method,
            name: method,
            parameters: Rc::new(parameters),
        }
    }

    /// Returns the id of the request; `None` if there is none or it is too long to repeat.
    pub fn request_id(&self) -> Option<RequestId> {
        self.id.and_then(RequestId::of)
    }
}

/// The parameters of a call.
#[derive(Debug)]
pub struct Parameters<'a> {
    /// `params.arguments` of tools and prompts.
    pub arguments: Arguments<'a>,
    /// `params._meta`
    pub meta: Arguments<'a>,
    /// The complete `params`.
    pub params: Arguments<'a>,
}

/// An object among the parameters, which is read when a condition first needs it.
#[derive(Debug)]
pub struct Arguments<'a> {
    /// The object's text and its offset in the body in bytes; `None` if there is no object.
    text: Option<(&'a str, usize)>,
    max_depth: usize,
    object: OnceCell<Result<LazyObject<'a>, JsonError>>,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(text: Option<(&'a str, usize)>, max_depth: usize) -> Self {
        Self { text, max_depth, object: OnceCell::new() }
    }

    /// Returns the object of a member of `params`; `None` if the member is not an object. Some
    /// clients write null for an absent value.
    pub(super) fn of(member: Option<Member<'a>>, max_depth: usize) -> Option<Self> {
        match member {
            None | Some(Member { kind: Kind::Null, .. }) => Some(Self::new(None, max_depth)),
            Some(Member { kind: Kind::Object, text, offset }) => {
                Some(Self::new(Some((text, offset)), max_depth))
            }
            Some(_) => None,
        }
    }

    /// Returns true if a condition needed the object and it was read.
    pub fn is_read(&self) -> bool {
        self.object.get().is_some()
    }

    /// Returns the object, or `{}` if there is none. Takes the number of keys from the allowance,
    /// and returns `None` if the object holds more keys than that.
    ///
    /// # Errors
    /// If a key occurs twice in the object or in a nested one.
    pub fn get(&self, allowance: &mut usize) -> Result<Option<&LazyObject<'a>>, Problem> {
        if self.object.get().is_none() {
            let read = match self.text {
                None => Ok(LazyObject::default()),
                Some((text, offset)) => LazyObject::read(text, self.max_depth, allowance)
                    .map_err(|error| JsonError { offset: error.offset + offset, ..error }),
            };
            if let Err(JsonError { fault: Fault::TooMany, .. }) = read {
                return Ok(None);
            }
            return self.object.get_or_init(|| read).as_ref().map(Some).map_err(not_json);
        }
        self.object.get().map(Result::as_ref).transpose().map_err(not_json)
    }
}

fn not_json(&error: &JsonError) -> Problem {
    Problem::NotJson(error)
}
