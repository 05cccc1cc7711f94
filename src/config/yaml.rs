//! YAML as a tree that remembers where everything stands.
//!
//! `serde` stops at the first mistake and forgets places. An operator who fixes
//! a policy wants all mistakes at once, so the tree is walked by hand.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::{Place, Problems};

/// More nodes than any policy needs: a bound for aliases that multiply.
const MAX_NODES: usize = 1_000_000;
/// Longer texts count as several.
const BYTES_A_NODE: usize = 64;
/// Deeper than any policy is.
const MAX_DEPTH: usize = 64;

/// A value and where it starts.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) name: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) kind: ScalarKind,
    /// Where the text's characters stand, if they stand in one line as they are.
    pub(crate) text_starts: Option<Place>,
}

/// What YAML's core schema takes a scalar for.
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

    /// For messages: what is there.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Scalar(Scalar { kind: ScalarKind::Null, .. }) => "nothing".to_owned(),
            Value::Scalar(Scalar { text, .. }) => format!("`{text}`"),
        }
    }
}

/// Reads the documents of a file, without those that are empty. `None` if it
/// cannot be read to its end.
pub(crate) fn parse(text: &str, problems: &mut Problems) -> Option<Vec<Node>> {
    let mut loader = Loader {
        lines: text.lines().collect(),
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        depth: 0,
        cursor: Cursor::default(),
        problems,
    };
    match loader.stream() {
        Ok(documents) => Some(documents),
        Err(Broken { place, message }) => {
            problems.add(place, "", message);
            None
        }
    }
}

/// Why and where a file cannot be read on.
struct Broken {
    place: Place,
    message: String,
}

struct Loader<'t, 'p> {
    lines: Vec<&'t str>,
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    depth: usize,
    cursor: Cursor,
    /// What is wrong, but not so that it cannot be read further.
    problems: &'p mut Problems,
}

/// How far a line was read: scalars come in their order, and a line can hold a
/// whole file.
#[derive(Default)]
struct Cursor {
    line: usize,
    column: usize,
    byte: usize,
}

fn problem(place: Place, message: impl Into<String>) -> Broken {
    Broken { place, message: message.into() }
}

fn place_of(span: &Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

impl<'t> Loader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Place), Broken> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place_of(&span))),
            Some(Err(error)) => {
                let marker = error.marker();
                let place = Place { line: marker.line(), column: marker.col() + 1 };
                Err(problem(place, format!("not YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, Place { line: 1, column: 1 })),
        }
    }

    fn stream(&mut self) -> Result<Vec<Node>, Broken> {
        let mut documents = Vec::new();
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(documents),
                // Anchors are a document's own.
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

    fn node(&mut self, event: Event<'t>, place: Place) -> Result<Node, Broken> {
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
                let kind = match tag {
                    Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
                        ScalarKind::String
                    }
                    Some(_) => return Err(problem(place, "tags are not supported here")),
                    None => kind(&text, style),
                };
                self.nodes += text.len() / BYTES_A_NODE;
                let text_starts = self.text_starts(&text, style, place);
                (anchor, Value::Scalar(Scalar { text: text.into_owned(), kind, text_starts }))
            }
            Event::SequenceStart(anchor, None) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, place) => items.push(self.node(event, place)?),
                    }
                }
                (anchor, Value::Sequence(items))
            }
            Event::MappingStart(anchor, None) => (anchor, Value::Mapping(self.mapping()?)),
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id) else {
                    return Err(problem(place, "an alias of a value that is not complete"));
                };
                let (nodes, depth) = extent(&node.value);
                self.nodes += nodes;
                if self.nodes > MAX_NODES || self.depth + depth > MAX_DEPTH {
                    return Err(problem(place, "this alias makes the file too large or too deep"));
                }
                (0, node.value.clone())
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                return Err(problem(place, "tags are not supported here"));
            }
            _ => return Err(problem(place, "unexpected end")),
        };
        self.depth -= 1;
        let node = Node { place, value };
        if anchor > 0 {
            // It is kept a second time.
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
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(problem(place, "a key must be a word")),
            };
            if let Some(line) = lines.insert(name.clone(), place.line) {
                let message = format!("the key `{name}` stands here again, after line {line}");
                self.problems.add(place, "", message);
            }
            let (event, value_place) = self.next()?;
            let value = self.node(event, value_place)?;
            members.push((Key { place, name }, value));
        }
    }

    /// Where the characters of a scalar's text stand, so that a column within
    /// the text is a column in the file. Only if it stands in one line without
    /// escapes.
    fn text_starts(&mut self, text: &str, style: ScalarStyle, place: Place) -> Option<Place> {
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
        line.get(byte..)?.starts_with(text).then_some(Place { line: place.line, column })
    }
}

/// How many values there are within one, and how deep.
fn extent(value: &Value) -> (usize, usize) {
    let within = |items: &mut dyn Iterator<Item = &Node>| {
        items
            .map(|item| extent(&item.value))
            .fold((1, 0), |(nodes, deepest), (more, depth)| (nodes + more, deepest.max(depth + 1)))
    };
    match value {
        Value::Scalar(Scalar { text, .. }) => (1 + text.len() / BYTES_A_NODE, 0),
        Value::Sequence(items) => within(&mut items.iter()),
        Value::Mapping(members) => within(&mut members.iter().map(|(_, item)| item)),
    }
}

/// YAML 1.2, section 10.3.2 (core schema).
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
