//! What is judged: a call, and what it is made with.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;

use super::malformed::Problem;
use super::message::Member;
use super::{RequestId, uri};
use crate::json::{Fault, JsonError, Kind, LazyObject};

/// The longest name that is judged, in bytes. Twice what the specification recommends at
/// most (2025-11-25, "Tool Names"): gateways put a backend's name in front. Names are
/// logged and repeated.
pub(super) const LONGEST_NAME: usize = 256;
/// The longest URI, in bytes.
const LONGEST_URI: usize = 2048;

/// What a call asks a server for (MCP, "Server Features").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// A tool.
    Tool,
    /// A prompt.
    Prompt,
    /// A resource, named by its URI.
    Resource,
    /// All the resources that a URI template can name ([RFC 6570]): its URI has a star in
    /// place of each expression.
    ///
    /// [RFC 6570]: https://www.rfc-editor.org/rfc/rfc6570
    ResourceTemplate,
    /// Something else, named by the method that asks for it.
    Method,
}

impl Feature {
    /// What rules can name.
    pub const OF_TARGETS: [Self; 4] = [Self::Tool, Self::Prompt, Self::Resource, Self::Method];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource | Self::ResourceTemplate => "resource",
            Self::Method => "method",
        }
    }
}

/// A name or URI in the form in which it can be judged and logged.
///
/// # Errors
/// Why it cannot.
pub(super) fn judged(feature: Feature, name: Cow<'_, str>) -> Result<Cow<'_, str>, &'static str> {
    let (is_uri, is_template) = match feature {
        Feature::Tool | Feature::Prompt | Feature::Method => (false, false),
        Feature::Resource => (true, false),
        Feature::ResourceTemplate => (true, true),
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

/// Returns the reason why every call of a name is refused, if it is.
pub fn name_fault(feature: Feature, name: &str) -> Option<&'static str> {
    judged(feature, Cow::Borrowed(name)).err()
}

/// A call of something that is judged.
#[derive(Debug)]
pub struct Call<'a> {
    /// The request's id as JSON text.
    pub id: Option<&'a str>,
    /// The method.
    pub method: Cow<'a, str>,
    /// What it asks for.
    pub feature: Feature,
    /// The name or URI of that: not empty, no control characters.
    pub name: Cow<'a, str>,
    /// What it is made with.
    pub parameters: Rc<Parameters<'a>>,
}

impl<'a> Call<'a> {
    /// Returns a call without a message and without parameters, such as an HTTP request that
    /// has no body.
    ///
    /// # Errors
    /// If the method cannot be logged and compared.
    pub fn without_message(method: &str) -> Result<Self, Problem> {
        let name = judged(Feature::Method, Cow::Owned(method.to_owned()))
            .map_err(|fault| Problem::NoUsableCall("method", fault))?;
        Ok(Self::without_parameters(name))
    }

    /// The name by which rules decide about a response that a client posts.
    pub const RESPONSE: &'static str = "response";

    /// Returns the call that a posted response counts as. Its id is that of a request of the
    /// server, so nothing answers to it.
    pub fn of_response() -> Self {
        Self::without_parameters(Self::RESPONSE.into())
    }

    fn without_parameters(method: Cow<'a, str>) -> Self {
        let nothing = || Arguments::new(None, 0);
        let parameters = Parameters { arguments: nothing(), meta: nothing(), params: nothing() };
        Self {
            id: None,
            method: method.clone(),
            feature: Feature::Method,
            name: method,
            parameters: Rc::new(parameters),
        }
    }

    /// Returns the id to answer to, unless there is none or it is too long.
    pub fn request_id(&self) -> Option<RequestId> {
        self.id.and_then(RequestId::of)
    }
}

/// What a call is made with.
#[derive(Debug)]
pub struct Parameters<'a> {
    /// `params.arguments` of tools and prompts.
    pub arguments: Arguments<'a>,
    /// `params._meta`
    pub meta: Arguments<'a>,
    /// `params`, all of it.
    pub params: Arguments<'a>,
}

/// An object among the parameters, read when it is first asked for.
#[derive(Debug)]
pub struct Arguments<'a> {
    /// The object's text and its offset in the body; `None` if there is none.
    text: Option<(&'a str, usize)>,
    max_depth: usize,
    object: OnceCell<Result<LazyObject<'a>, JsonError>>,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(text: Option<(&'a str, usize)>, max_depth: usize) -> Self {
        Self { text, max_depth, object: OnceCell::new() }
    }

    /// Of a member of `params`. Some clients write null where there is nothing.
    pub(super) fn of(member: Option<Member<'a>>, max_depth: usize) -> Option<Self> {
        match member {
            None | Some(Member { kind: Kind::Null, .. }) => Some(Self::new(None, max_depth)),
            Some(Member { kind: Kind::Object, text, offset }) => {
                Some(Self::new(Some((text, offset)), max_depth))
            }
            Some(_) => None,
        }
    }

    /// Returns true if the object was asked for and read.
    pub fn is_read(&self) -> bool {
        self.object.get().is_some()
    }

    /// Returns the object, `{}` if there is none; `None` if it holds more keys than the
    /// allowance, from which they are taken.
    ///
    /// # Errors
    /// If a key occurs twice in it or in an object within.
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
