//! YAML as a tree in which each value has its place.
//!
//! `serde` stops at the first mistake and does not keep places. An operator who fixes a policy
//! needs all mistakes at once, so the loader walks the tree itself.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::{Diagnostics, Position};

/// The most nodes of a file, more than any policy needs. The limit bounds aliases that multiply.
const MAX_NODES: usize = 1_000_000;
/// The bytes of a scalar that count as one node. A longer scalar counts as several nodes.
const BYTES_A_NODE: usize = 64;
/// The most levels of nested values, more than any policy has.
const MAX_DEPTH: usize = 64;

/// A value and the place where it starts.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) place: Position,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
    /// A value with unsupported syntax, which has a finding already. It may stand for any value.
    Mistake,
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) place: Position,
    /// The key, or `None` if it is not a scalar. Such a key has a finding already.
    pub(crate) name: Option<String>,
    /// True if the mapping has an equal key before this one. Such a key has a finding already.
    pub(crate) is_repeated: bool,
}

impl Key {
    /// Returns the key as it is written, or an empty string if the key is not a scalar.
    pub(crate) fn as_str(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) kind: ScalarKind,
    /// The place of the first character, if the file has the scalar on one line without escapes.
    pub(crate) text_starts: Option<Position>,
}

/// The type that YAML's core schema gives a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScalarKind {
    Null,
    Boolean,
    Number,
    String,
}

impl Node {
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(Scalar { kind: ScalarKind::Null, .. }))
    }

    /// Describes the value for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Scalar(Scalar { kind: ScalarKind::Null, .. }) => "nothing".to_owned(),
            Value::Scalar(Scalar { text, .. }) => format!("`{text}`"),
            Value::Mistake => "a mistake".to_owned(),
        }
    }
}

/// Reads the documents of a file, and skips empty documents. If the file cannot be read to its end,
/// returns the documents before the error.
pub(crate) fn parse(text: &str, problems: &mut Diagnostics) -> Documents {
    let text = &*as_yaml(text);
    let mut loader = Loader {
        lines: text.lines().collect(),
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        depth: 0,
        cursor: Cursor::default(),
        problems,
    };
    let mut nodes = Vec::new();
    let is_complete = match loader.stream(&mut nodes) {
        Ok(()) => true,
        Err(Broken { place, message }) => {
            problems.add(place, "", message);
            false
        }
    };
    Documents { nodes, is_complete }
}

/// Returns valid JSON with each surrogate pair (`\ud83d\ude42`) as the single escape that YAML
/// requires. Returns any other text unchanged.
fn as_yaml(text: &str) -> Cow<'_, str> {
    let starts_as_json = text.trim_start().starts_with(['{', '[']);
    let is_json = || serde_json::from_str::<serde_json::Value>(text).is_ok();
    if !starts_as_json || !text.contains("\\u") || !is_json() {
        return text.into();
    }
    let (mut yaml, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        yaml.push_str(before);
        let unit = |at: usize| {
            let digits = escape.get(at..at + 6)?.strip_prefix("\\u")?;
            u32::from_str_radix(digits, 16).ok()
        };
        let (written, length) = match (unit(0), unit(6)) {
            (Some(high @ 0xd800..0xdc00), Some(low @ 0xdc00..0xe000)) => {
                let character = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                (format!("\\U{character:08x}").into(), 12)
            }
            // A JSON escape has a backslash and at least one more character.
            _ => (Cow::Borrowed(escape.get(..2).unwrap_or(escape)), 2),
        };
        yaml.push_str(&written);
        rest = escape.get(length..).unwrap_or_default();
    }
    (yaml + rest).into()
}

/// The documents of a file.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(crate) nodes: Vec<Node>,
    /// False if the file cannot be read to its end.
    pub(crate) is_complete: bool,
}

/// The error that stops the parser, with its place.
struct Broken {
    place: Position,
    message: String,
}

struct Loader<'t, 'p> {
    lines: Vec<&'t str>,
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    depth: usize,
    cursor: Cursor,
    /// The findings that do not stop the parser.
    problems: &'p mut Diagnostics,
}

/// The position up to which a line was read. Scalars come in order, and one line can have the
/// contents of a large file, so each search starts here.
#[derive(Default)]
struct Cursor {
    line: usize,
    column: usize,
    byte: usize,
}

fn problem(place: Position, message: impl Into<String>) -> Broken {
    Broken { place, message: message.into() }
}

fn place_of(span: &Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

impl<'t> Loader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Position), Broken> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place_of(&span))),
            Some(Err(error)) => {
                let marker = error.marker();
                let place = Position { line: marker.line(), column: marker.col() + 1 };
                Err(problem(place, format!("not YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, Position { line: 1, column: 1 })),
        }
    }

    fn stream(&mut self, documents: &mut Vec<Node>) -> Result<(), Broken> {
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(()),
                // An anchor is valid within its document only.
                Event::DocumentStart(_) => self.anchors.clear(),
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                event => {
                    let document = self.node(event, place)?;
                    if !document.is_null() {
                        documents.push(document);
                    }
                }
            }
        }
    }

    fn node(&mut self, event: Event<'t>, place: Position) -> Result<Node, Broken> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(problem(place, format!("more than {MAX_NODES} values")));
        }
        if self.depth >= MAX_DEPTH {
            return Err(problem(place, format!("nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.nodes += text.len() / BYTES_A_NODE;
                let kind = match tag {
                    Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
                        Some(ScalarKind::String)
                    }
                    Some(_) => None,
                    None => Some(kind(&text, style)),
                };
                let value = match kind {
                    Some(kind) => {
                        let text_starts = self.text_starts(&text, style, place);
                        Value::Scalar(Scalar { text: text.into_owned(), kind, text_starts })
                    }
                    None => self.mistake(place, "tags are not supported here"),
                };
                (anchor, value)
            }
            Event::SequenceStart(anchor, tag) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, place) => items.push(self.node(event, place)?),
                    }
                }
                (anchor, self.untagged(place, tag.is_some(), Value::Sequence(items)))
            }
            Event::MappingStart(anchor, tag) => {
                let members = Value::Mapping(self.mapping()?);
                (anchor, self.untagged(place, tag.is_some(), members))
            }
            Event::Alias(id) => {
                let value = match self.anchors.get(&id) {
                    Some(node) => {
                        let (nodes, depth) = extent(&node.value);
                        self.nodes += nodes;
                        if self.nodes > MAX_NODES || self.depth + depth > MAX_DEPTH {
                            let message = "this alias makes the file too large or too deep";
                            return Err(problem(place, message));
                        }
                        node.value.clone()
                    }
                    None => self.mistake(place, "an alias of a value that is not complete"),
                };
                (0, value)
            }
            _ => return Err(problem(place, "unexpected end")),
        };
        self.depth -= 1;
        let node = Node { place, value };
        if anchor > 0 {
            // The anchor keeps a copy of the value.
            self.nodes += extent(&node.value).0;
            if self.nodes > MAX_NODES {
                return Err(problem(place, format!("more than {MAX_NODES} values")));
            }
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn mapping(&mut self) -> Result<Vec<(Key, Node)>, Broken> {
        let mut members: Vec<(Key, Node)> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, place) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(members),
                Event::Scalar(text, ..) => Some(text.into_owned()),
                event => {
                    self.node(event, place)?;
                    self.problems.add(place, "", "a key must be a word");
                    None
                }
            };
            let first = name.as_ref().and_then(|name| lines.insert(name.clone(), place.line));
            if let (Some(line), Some(name)) = (first, &name) {
                let message = format!("the key `{name}` stands here again, after line {line}");
                self.problems.add(place, "", message);
            }
            let (event, value_place) = self.next()?;
            let value = self.node(event, value_place)?;
            members.push((Key { place, name, is_repeated: first.is_some() }, value));
        }
    }

    fn mistake(&mut self, place: Position, message: &str) -> Value {
        self.problems.add(place, "", message);
        Value::Mistake
    }

    fn untagged(&mut self, place: Position, has_tag: bool, value: Value) -> Value {
        if has_tag { self.mistake(place, "tags are not supported here") } else { value }
    }

    /// Returns the place of the first character of a scalar, so that a column within the scalar
    /// gives a column in the file. Returns `None` if the scalar has several lines or escapes.
    fn text_starts(&mut self, text: &str, style: ScalarStyle, place: Position) -> Option<Position> {
        let quote = match style {
            ScalarStyle::Plain => 0,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => 1,
            ScalarStyle::Literal | ScalarStyle::Folded => return None,
        };
        let column = place.column + quote;
        let line = self.lines.get(place.line.checked_sub(1)?)?;
        let known = &self.cursor;
        let (from, at) = if known.line == place.line && known.column <= column {
            (known.column, known.byte)
        } else {
            (1, 0)
        };
        let rest = line.get(at..)?;
        let byte = at + rest.char_indices().nth(column - from)?.0;
        self.cursor = Cursor { line: place.line, column, byte };
        line.get(byte..)?.starts_with(text).then_some(Position { line: place.line, column })
    }
}

/// Returns the number of nodes in a value, itself included, and the levels of nesting within it.
fn extent(value: &Value) -> (usize, usize) {
    let within = |items: &mut dyn Iterator<Item = &Node>| {
        items
            .map(|item| extent(&item.value))
            .fold((1, 0), |(nodes, deepest), (more, depth)| (nodes + more, deepest.max(depth + 1)))
    };
    match value {
        Value::Mistake => (1, 0),
        Value::Scalar(Scalar { text, .. }) => (1 + text.len() / BYTES_A_NODE, 0),
        Value::Sequence(items) => within(&mut items.iter()),
        Value::Mapping(members) => within(&mut members.iter().map(|(_, item)| item)),
    }
}

/// Returns the type of a scalar by the core schema (YAML 1.2, section 10.3.2).
fn kind(text: &str, style: ScalarStyle) -> ScalarKind {
    if style != ScalarStyle::Plain {
        return ScalarKind::String;
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => ScalarKind::Boolean,
        text if text.parse::<f64>().is_ok()
            && !text.ends_with(|c: char| c.is_ascii_alphabetic()) =>
        {
            ScalarKind::Number
        }
        _ => ScalarKind::String,
    }
}
