//! The step from a message to the calls in it.

use std::borrow::Cow;
use std::rc::Rc;

use super::{Accept, Member, Message, NotGoverned, Params, Text, member, members, string};
use crate::json::{JsonError, Kind, Reader};
use crate::mcp::Problem;
use crate::mcp::call::{self, Arguments, Call, Parameters, TargetKind};
use crate::mcp::methods::MethodKind;

/// The most resources in a subscription. Each costs an evaluation.
const MOST_SUBSCRIPTIONS: usize = 100;
/// The most bytes of all URIs in a subscription. Patterns are compared with each URI.
const MOST_SUBSCRIBED_BYTES: usize = 16 << 10;

/// The target of a call: its feature and its name.
type Asked<'a> = (TargetKind, Cow<'a, str>);

/// Finds the calls in a message by its parameters.
pub(super) fn message<'a>(
    mut params: Params<'a>,
    (method, id): (Cow<'a, str>, Option<&'a str>),
    asks: Option<MethodKind>,
    accept: Accept,
) -> Result<Message<'a>, Problem> {
    let governed = accept.governed;
    let asked = match asks {
        Some(MethodKind::Tool) => one(TargetKind::Tool, &mut params.name, "params.name")?,
        Some(MethodKind::Prompt) if governed.prompts => {
            one(TargetKind::Prompt, &mut params.name, "params.name")?
        }
        Some(MethodKind::Resource) if governed.resources => {
            one(TargetKind::Resource, &mut params.uri, "params.uri")?
        }
        Some(MethodKind::Completion) if governed.prompts || governed.resources => {
            let (feature, mut name, key) = completed(params.reference.as_ref(), accept.max_depth)?;
            match governed.includes(feature) {
                true => one(feature, &mut name, key)?,
                false => other(&method, accept)?,
            }
        }
        Some(MethodKind::Notifications) if governed.resources || !accept.tasks => {
            let Subscription { resources, of_tasks } =
                heard(params.notifications.as_ref(), accept.max_depth)?;
            if of_tasks && !accept.tasks {
                return Ok(Message::Task { method, id });
            }
            let mut asked = other(&method, accept)?;
            if governed.resources {
                asked.extend(subscribed(resources)?);
            }
            asked
        }
        Some(MethodKind::Task) if !accept.tasks => return Ok(Message::Task { method, id }),
        _ => other(&method, accept)?,
    };
    if asked.is_empty() {
        let proof = NotGoverned { _made_by_read: () };
        return Ok(Message::NotGoverned { proof, method: Some(method), id });
    }
    let parameters = Rc::new(parameters(&params, asks, accept.max_depth)?);
    let call = |(feature, name)| {
        let (method, parameters) = (method.clone(), Rc::clone(&parameters));
        Call { id, method, feature, name, parameters }
    };
    Ok(Message::Calls(asked.into_iter().map(call).collect()))
}

/// Returns the method itself as a target, if rules decide about methods.
fn other<'a>(method: &Cow<'a, str>, accept: Accept) -> Result<Vec<Asked<'a>>, Problem> {
    if !accept.governed.methods {
        return Ok(Vec::new());
    }
    let name = usable(Some(Text::String(method.clone())), TargetKind::Method, "method")?;
    Ok(vec![(TargetKind::Method, name)])
}

fn one<'a>(
    feature: TargetKind,
    name: &mut Option<Text<'a>>,
    key: &'static str,
) -> Result<Vec<Asked<'a>>, Problem> {
    Ok(vec![(feature, usable(name.take(), feature, key)?)])
}

/// Checks that rules can decide about a name and that logs can hold it.
fn usable<'a>(
    name: Option<Text<'a>>,
    feature: TargetKind,
    key: &'static str,
) -> Result<Cow<'a, str>, Problem> {
    let name = match name {
        Some(Text::String(name)) => call::judged(feature, name),
        Some(Text::NotAString) | None => Err("is not a string"),
    };
    name.map_err(|fault| Problem::NoUsableCall(key, fault))
}

fn parameters<'a>(
    params: &Params<'a>,
    asks: Option<MethodKind>,
    max_depth: usize,
) -> Result<Parameters<'a>, Problem> {
    let unusable = |key| Problem::NoUsableCall(key, "is not an object");
    if params.is_something_else {
        return Err(unusable("params"));
    }
    let arguments = match asks {
        Some(MethodKind::Tool | MethodKind::Prompt) => Arguments::of(params.arguments, max_depth),
        _ => Some(Arguments::new(None, max_depth)),
    };
    Ok(Parameters {
        arguments: arguments.ok_or(unusable("params.arguments"))?,
        meta: Arguments::of(params.meta, max_depth).ok_or(unusable("params._meta"))?,
        params: Arguments::new(params.object, max_depth),
    })
}

/// Reads an object and passes each known member to `each`. Rejects a key that equals a known one
/// except for letter case.
fn object<'a>(
    member: &Member<'a>,
    known: &[&'static str],
    max_depth: usize,
    each: impl FnMut(&mut Reader<'a>, &'static str) -> Result<(), JsonError>,
) -> Result<(), Problem> {
    let keys = members((member.text, member.offset), known, max_depth, each);
    keys.map_err(Problem::NotJson)?.check()
}

/// The feature that a completion is for, its name if there is one, and the key of that name.
type Completed<'a> = (TargetKind, Option<Text<'a>>, &'static str);

/// Reads the target of a completion from `params.ref`.
fn completed<'a>(
    reference: Option<&Member<'a>>,
    max_depth: usize,
) -> Result<Completed<'a>, Problem> {
    const KEYS: [&str; 3] = ["type", "name", "uri"];

    let Some(reference) = reference.filter(|reference| reference.kind == Kind::Object) else {
        return Err(Problem::NoUsableCall("params.ref", "is not an object"));
    };
    let (mut kind, mut name, mut uri) = (None, None, None);
    object(reference, &KEYS, max_depth, |reader, key| {
        // Some clients write null for an absent value.
        let is_null = reader.peek()? == Kind::Null;
        let text = Some(string(reader)?).filter(|_| !is_null);
        match key {
            "type" => kind = text,
            "name" => name = text,
            _ => uri = text,
        }
        Ok(())
    })?;
    if name.is_some() && uri.is_some() {
        return Err(Problem::NoUsableCall("params.ref", "has both a name and a URI"));
    }
    match kind.as_ref().and_then(Text::as_str) {
        Some("ref/prompt") => Ok((TargetKind::Prompt, name, "params.ref.name")),
        Some("ref/resource") => {
            let text = uri.as_ref().and_then(Text::as_str);
            let is_template = text.is_some_and(|uri| uri.contains('{'));
            let feature =
                if is_template { TargetKind::ResourceTemplate } else { TargetKind::Resource };
            Ok((feature, uri, "params.ref.uri"))
        }
        _ => {
            Err(Problem::NoUsableCall("params.ref.type", "is neither ref/prompt nor ref/resource"))
        }
    }
}

/// The notifications that a client subscribes to.
struct Subscription<'a> {
    /// The values that should be URIs; `None` if the member is not a list.
    resources: Option<Vec<Text<'a>>>,
    of_tasks: bool,
}

/// Reads the targets of a subscription from `params.notifications`.
fn heard<'a>(
    notifications: Option<&Member<'a>>,
    max_depth: usize,
) -> Result<Subscription<'a>, Problem> {
    const KEYS: [&str; 2] = ["resourceSubscriptions", "taskIds"];

    let mut heard = Subscription { resources: Some(Vec::new()), of_tasks: false };
    let notifications = match notifications {
        None | Some(Member { kind: Kind::Null, .. }) => return Ok(heard),
        Some(notifications) if notifications.kind == Kind::Object => notifications,
        Some(_) => return Err(Problem::NoUsableCall("params.notifications", "is not an object")),
    };
    object(notifications, &KEYS, max_depth, |reader, key| {
        if key == "taskIds" {
            let Member { kind, text, .. } = member(reader)?;
            let is_empty = text.trim_start_matches('[').trim_start() == "]";
            heard.of_tasks = kind != Kind::Null && !is_empty;
            return Ok(());
        }
        match (reader.peek()?, &mut heard.resources) {
            (Kind::Array, Some(uris)) => reader.array(|reader| {
                let uri = string(reader)?;
                // One URI above the limit is enough to see that there are too many.
                if uris.len() <= MOST_SUBSCRIPTIONS {
                    uris.push(uri);
                }
                Ok(())
            }),
            (kind, resources) => {
                if kind != Kind::Null {
                    *resources = None;
                }
                reader.raw().map(drop)
            }
        }
    })?;
    Ok(heard)
}

/// Returns the resources that a client subscribes to as targets.
fn subscribed(uris: Option<Vec<Text<'_>>>) -> Result<Vec<Asked<'_>>, Problem> {
    const KEY: &str = "params.notifications.resourceSubscriptions";

    let uris = uris.ok_or(Problem::NoUsableCall(KEY, "is not a list"))?;
    if uris.len() > MOST_SUBSCRIPTIONS {
        return Err(Problem::NoUsableCall(KEY, "holds more than 100 URIs"));
    }
    let asked = |uri| Ok((TargetKind::Resource, usable(Some(uri), TargetKind::Resource, KEY)?));
    let asked = uris.into_iter().map(asked).collect::<Result<Vec<_>, _>>()?;
    if asked.iter().map(|(_, uri)| uri.len()).sum::<usize>() > MOST_SUBSCRIBED_BYTES {
        return Err(Problem::NoUsableCall(KEY, "holds more than 16 KiB"));
    }
    Ok(asked)
}
