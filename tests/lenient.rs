//! Lenient readers of JSON, and the calls that they find in a body.
//!
//! The server behind mcp-authz reads the body again with a reader that nobody here knows. A body
//! that mcp-authz forwards must therefore name the same tool to all readers. The differential tests
//! and the fuzzer look for a [`disagreement`].

use std::iter::Peekable;
use std::str::Chars;

use mcp_authz::mcp::{Message, RequestId, TOOLS_CALL};

/// Deeper than anything that the strict reader may be set to accept.
const MAX_DEPTH: usize = 600;

/// A JSON value that keeps every member, in the order in which they stand.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// A number or a word.
    Word(String),
    String(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn as_str(&self) -> &str {
        match self {
            Self::String(text) => text,
            Self::Word(_) | Self::Array(_) | Self::Object(_) => "",
        }
    }
}

/// All values in a text, for readers that take the first, the last or each. It
/// cannot fail: what is no JSON is skipped or guessed.
pub fn values(body: &[u8]) -> Vec<Tree> {
    let text = String::from_utf8_lossy(body);
    let mut parser = Parser { rest: text.chars().peekable(), depth: 0 };
    let mut values = Vec::new();
    loop {
        parser.space();
        match parser.rest.peek() {
            Some(']' | '}' | ',' | ':') => _ = parser.rest.next(),
            Some(_) => values.push(parser.value()),
            None => return values,
        }
    }
}

/// Takes everything that some reader takes: byte order marks, comments, single
/// quotes, bare keys, commas too many or too few, control characters, unknown
/// escapes, lone surrogates, texts that end too early.
struct Parser<'t> {
    rest: Peekable<Chars<'t>>,
    depth: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        loop {
            let mut ahead = self.rest.clone();
            match (ahead.next(), ahead.next()) {
                (Some('/'), Some('*')) => {
                    self.rest = ahead;
                    let mut before = ' ';
                    while let Some(c) = self.rest.next_if(|&c| before != '*' || c != '/') {
                        before = c;
                    }
                }
                (Some('/'), Some('/')) | (Some('#'), _) => {
                    while self.rest.next_if(|&c| c != '\n').is_some() {}
                    continue;
                }
                (Some(c), _) if c.is_whitespace() || c.is_control() || c == '\u{feff}' => {}
                _ => return,
            }
            self.rest.next();
        }
    }

    fn value(&mut self) -> Tree {
        match self.rest.peek() {
            Some('{' | '[') if self.depth == MAX_DEPTH => {
                self.rest.by_ref().for_each(drop);
                Tree::Word(String::new())
            }
            Some('{') => Tree::Object(self.items(|parser| {
                let key = match parser.value() {
                    Tree::String(key) | Tree::Word(key) => key,
                    Tree::Array(_) | Tree::Object(_) => String::new(),
                };
                parser.space();
                if parser.rest.next_if_eq(&':').is_some() {
                    parser.space();
                }
                (key, parser.value())
            })),
            Some('[') => Tree::Array(self.items(Self::value)),
            Some(&quote @ ('"' | '\'')) => Tree::String(self.string(quote)),
            _ => Tree::Word(self.word()),
        }
    }

    fn items<T>(&mut self, item: impl Fn(&mut Self) -> T) -> Vec<T> {
        self.rest.next();
        self.depth += 1;
        let mut items = Vec::new();
        loop {
            self.space();
            match self.rest.peek() {
                Some(',' | ':') => _ = self.rest.next(),
                Some('}' | ']') | None => break,
                Some(_) => items.push(item(self)),
            }
        }
        self.rest.next();
        self.depth -= 1;
        items
    }

    fn word(&mut self) -> String {
        let ends = |c: char| c.is_whitespace() || "{}[]\",:'".contains(c);
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|&c| !ends(c)) {
            word.push(c);
        }
        word
    }

    fn string(&mut self, quote: char) -> String {
        self.rest.next();
        let mut units = Vec::new();
        while let Some(c) = self.rest.next_if(|&c| c != quote) {
            let escape = if c == '\\' { self.rest.next() } else { None };
            let c = match escape {
                None => c,
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('u') => {
                    let digits: String = self.rest.clone().take(4).collect();
                    match u16::from_str_radix(&digits, 16) {
                        Ok(unit) => {
                            self.rest.by_ref().take(4).for_each(drop);
                            units.push(unit);
                            continue;
                        }
                        Err(_) => 'u',
                    }
                }
                Some(other) => other,
            };
            units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
        self.rest.next();
        String::from_utf16_lossy(&units)
    }
}

/// The way in which a reader compares keys with the name of the member that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// As it is written.
    Exact,
    /// In any case of ASCII letters.
    Ascii,
    /// As Go's `encoding/json`: `ſ` is `s`, and the Kelvin sign is `k`.
    Go,
    /// As Java's `equalsIgnoreCase`: each character in upper case, then in lower.
    Java,
}

/// Which of several it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    First,
    Last,
    /// Each is decoded into the same structure, so that what one leaves out stays.
    Merged,
}

/// The features that mcp-authz governs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Tools,
    /// Tools, prompts and resources.
    All,
}

/// A reader's habits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habits {
    pub keys: Keys,
    pub pick: Pick,
    /// True if a string ends at NUL.
    pub cuts_at_nul: bool,
}

impl Habits {
    pub fn all() -> impl Iterator<Item = Self> {
        let keys = [Keys::Exact, Keys::Ascii, Keys::Go, Keys::Java];
        let picks = [Pick::First, Pick::Last, Pick::Merged];
        keys.into_iter().flat_map(move |keys| {
            picks.into_iter().flat_map(move |pick| {
                [false, true].map(|cuts_at_nul| Self { keys, pick, cuts_at_nul })
            })
        })
    }

    /// Returns the targets that the messages of a body name, in their order.
    pub fn asked(self, values: &[Tree], what: What) -> Vec<String> {
        let messages = values.iter().flat_map(|value| match value {
            Tree::Array(batch) => batch.as_slice(),
            one => std::slice::from_ref(one),
        });
        messages.flat_map(|message| self.asked_by(message, what)).collect()
    }

    fn asked_by(self, message: &Tree, what: What) -> Vec<String> {
        let message = [message];
        let method = self.text(&self.members(&message, "method"));
        let params = self.members(&message, "params");
        let text = |objects: &[&Tree], key| vec![self.text(&self.members(objects, key)).to_owned()];
        if is_call(method) {
            return text(&params, "name");
        }
        if what == What::Tools {
            return Vec::new();
        }
        match trimmed(method).to_ascii_lowercase().as_str() {
            "prompts/get" => text(&params, "name"),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
                text(&params, "uri")
            }
            "completion/complete" => {
                let reference = self.members(&params, "ref");
                match self.text(&self.members(&reference, "type")) {
                    "ref/prompt" => text(&reference, "name"),
                    _ => text(&reference, "uri").iter().map(|uri| with_stars(uri)).collect(),
                }
            }
            "subscriptions/listen" => {
                let notifications = self.members(&params, "notifications");
                let lists = self.members(&notifications, "resourceSubscriptions");
                let uris = lists.last().map_or(&[][..], |list| match list {
                    Tree::Array(uris) => uris,
                    Tree::Word(_) | Tree::String(_) | Tree::Object(_) => &[],
                });
                uris.iter().map(|uri| self.cut(uri.as_str()).to_owned()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns true if the body has ids, and each of them belongs to a request and equals `id`.
    fn takes_id(self, values: &[Tree], id: &Tree) -> bool {
        let messages = values.iter().flat_map(|value| match value {
            Tree::Array(batch) => batch.as_slice(),
            one => std::slice::from_ref(one),
        });
        let mut found = messages.filter_map(|message| {
            let message = [message];
            let is_request = !self.text(&self.members(&message, "method")).is_empty()
                && self.members(&message, "result").is_empty()
                && self.members(&message, "error").is_empty();
            let theirs = *self.members(&message, "id").last()?;
            Some(is_request && theirs == id)
        });
        found.next() == Some(true) && found.all(|same| same)
    }

    /// Returns the values that a reader finds under a name. Only a reader that merges finds
    /// several.
    fn members<'t>(self, objects: &[&'t Tree], name: &str) -> Vec<&'t Tree> {
        let members = objects.iter().flat_map(|object| match object {
            Tree::Object(members) => members.as_slice(),
            _ => &[],
        });
        let mut found: Vec<_> =
            members.filter(|(key, _)| self.is(key, name)).map(|(_, value)| value).collect();
        match self.pick {
            Pick::First => found.truncate(1),
            Pick::Last => _ = found.drain(..found.len().saturating_sub(1)),
            Pick::Merged => {}
        }
        found
    }

    fn text<'t>(self, found: &[&'t Tree]) -> &'t str {
        let text = found.last().map_or("", |value| value.as_str());
        self.cut(text)
    }

    fn cut(self, text: &str) -> &str {
        if self.cuts_at_nul { text.split('\0').next().unwrap_or_default() } else { text }
    }

    fn is(self, key: &str, name: &str) -> bool {
        let key = self.cut(key);
        match self.keys {
            Keys::Exact => key == name,
            Keys::Ascii => key.eq_ignore_ascii_case(name),
            Keys::Go => key.chars().map(go).eq(name.chars().map(go)),
            Keys::Java => key.chars().map(java).eq(name.chars().map(java)),
        }
    }
}

/// Go folds more than this, but nothing else into ASCII.
pub fn go(c: char) -> char {
    match c {
        'ſ' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    }
}

/// Folds the case of a character as Java does, one character at a time. If the upper case would be
/// several characters, the character stays itself.
pub fn java(c: char) -> char {
    let mut upper = c.to_uppercase();
    let upper = upper.next().filter(|_| upper.next().is_none()).unwrap_or(c);
    upper.to_lowercase().next().unwrap_or(upper)
}

/// Returns true if some server would accept a method as a call of a tool.
pub fn is_call(method: &str) -> bool {
    trimmed(method).eq_ignore_ascii_case(TOOLS_CALL)
}

/// A URI template as it is judged: with a star for each expression.
fn with_stars(template: &str) -> String {
    let mut rest = template;
    let mut stars = String::new();
    while let Some((before, after)) = rest.split_once('{') {
        stars = stars + before + "*";
        let (expression, next) = after.split_once('}').unwrap_or((after, ""));
        // What begins within an expression that has no end is one more.
        stars.extend(expression.matches('{').map(|_| '*'));
        rest = next;
    }
    stars + rest
}

fn trimmed(method: &str) -> &str {
    method.trim_matches(|c: char| c.is_whitespace() || c.is_control())
}

/// Returns the names that messages call, as mcp-authz reads them.
pub fn ours(message: &Message<'_>) -> Vec<String> {
    match message {
        Message::Calls(calls) => calls.iter().map(|call| call.name.clone().into_owned()).collect(),
        Message::Task { .. } | Message::NotGoverned { .. } => Vec::new(),
        Message::Batch(messages) => messages.iter().flat_map(ours).collect(),
    }
}

/// The first lenient reader that takes an accepted body for other calls than we do.
pub fn disagreement(body: &[u8], message: &Message<'_>, what: What) -> Option<String> {
    let (ours, values) = (ours(message), values(body));
    let reader = |habits: Habits| (habits, habits.asked(&values, what));
    let (habits, theirs) = Habits::all().map(reader).find(|(_, theirs)| *theirs != ours)?;
    Some(format!("we see calls of {ours:?}, a reader with {habits:?} of {theirs:?}"))
}

/// The first lenient reader that takes another id from a body than the one that is answered to.
pub fn id_disagreement(body: &[u8], id: &RequestId) -> Option<String> {
    let (ours, theirs) = (values(id.as_json().as_bytes()), values(body));
    let [ours] = ours.as_slice() else { return Some(format!("{id:?} is not one value")) };
    let habits = Habits::all().find(|habits| !habits.takes_id(&theirs, ours))?;
    Some(format!("we answer to {id:?}, a reader with {habits:?} has another id"))
}

/// The same of a reader that has made a [`serde_json::Value`] of it.
pub fn tools_of(value: &serde_json::Value) -> Vec<String> {
    let messages = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let calls = messages.iter().filter(|message| message["method"].as_str().is_some_and(is_call));
    calls.map(|call| call["params"]["name"].as_str().unwrap_or_default().to_owned()).collect()
}
