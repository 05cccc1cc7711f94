//! The decoder, which walks the tree of a file and collects every mistake.

use super::problem::{Diagnostics, Lint, Position};
use super::shape::{Field, MappingSchema};
use super::yaml::{Key, Node, Scalar, ScalarKind, Value};
use crate::words::{almost, nearest};

use serde_json::{Map, Value as Json};

/// A value with the path of keys that leads to it.
#[derive(Debug, Clone)]
pub(crate) struct Item<'n> {
    node: &'n Node,
    pub(crate) path: String,
}

/// The members of a mapping.
#[derive(Debug)]
pub(crate) struct MappingRef<'n> {
    place: Position,
    path: String,
    /// The members, each under its key. A misspelled key is replaced by the key that its author
    /// means.
    members: Vec<(&'n str, &'n Key, &'n Node)>,
    /// True if the mapping has a key that is not a scalar. Such a key may stand for any key.
    has_unclear_key: bool,
}

impl<'n> Item<'n> {
    pub(crate) fn root(node: &'n Node) -> Self {
        Self { node, path: String::new() }
    }

    pub(crate) fn node(&self) -> &'n Node {
        self.node
    }

    pub(crate) fn lint(&self, lint: Lint, problems: &mut Diagnostics, message: impl Into<String>) {
        problems.lint(lint, self.node.place, &self.path, message);
    }

    /// Returns the value of a key, if this item is a mapping that has the key.
    pub(crate) fn peek(&self, key: &str) -> Option<Item<'n>> {
        let Value::Mapping(members) = &self.node.value else { return None };
        let (_, node) = members.iter().find(|(found, _)| found.as_str() == key)?;
        Some(Item { node, path: join(&self.path, key) })
    }

    pub(crate) fn place(&self) -> Position {
        self.node.place
    }

    pub(crate) fn problem(&self, problems: &mut Diagnostics, message: impl Into<String>) {
        problems.add(self.node.place, &self.path, message);
    }

    fn expected(&self, problems: &mut Diagnostics, what: &str) {
        match self.node.value {
            Value::Mistake => problems.known_mistake(),
            _ => {
                self.problem(problems, format!("expected {what}, found {}", self.node.describe()));
            }
        }
    }

    /// Reads a mapping of a shape, and reports keys that the shape does not have. Reads the value
    /// of a misspelled key as if the key were right, so that one mistake does not hide others.
    pub(crate) fn fields(
        &self,
        shape: &MappingSchema,
        problems: &mut Diagnostics,
    ) -> Option<MappingRef<'n>> {
        let known: Vec<&'static str> = shape.fields.iter().map(|Field { key, .. }| *key).collect();
        let known = known.as_slice();
        let Value::Mapping(members) = &self.node.value else {
            self.expected(problems, &format!("a mapping with {}", one_of(known)));
            return None;
        };
        let mut fields = MappingRef {
            place: self.node.place,
            path: self.path.clone(),
            members: Vec::new(),
            has_unclear_key: false,
        };
        let mut unknown = Vec::new();
        for (key, node) in members {
            match &key.name {
                None => {
                    fields.has_unclear_key = true;
                    problems.known_mistake();
                }
                Some(_) if key.is_repeated => problems.known_mistake(),
                Some(name) if known.contains(&name.as_str()) => {
                    fields.members.push((name, key, node));
                }
                Some(name) => unknown.push((name, key, node)),
            }
        }
        for (name, key, node) in unknown {
            let hint = suggestion(name, known);
            let message = format!("unknown key `{name}`, expected {}{hint}", one_of(known));
            problems.add(key.place, &self.path, message);
            let is_free = |meant: &&str| !fields.members.iter().any(|(taken, ..)| taken == meant);
            if let Some(meant) = almost(name, known.iter().copied()).filter(is_free) {
                fields.members.push((meant, key, node));
            }
        }
        Some(fields)
    }

    /// Reads a mapping whose keys the author chooses.
    pub(crate) fn entries(&self, problems: &mut Diagnostics) -> Option<Vec<(&'n Key, Item<'n>)>> {
        let Value::Mapping(members) = &self.node.value else {
            self.expected(problems, "a mapping");
            return None;
        };
        let mut entries = Vec::new();
        for (key, node) in members {
            if key.name.is_none() || key.is_repeated {
                problems.known_mistake();
                continue;
            }
            entries.push((key, Item { node, path: join(&self.path, key.as_str()) }));
        }
        Some(entries)
    }

    /// Reads a list with at least one item.
    pub(crate) fn items(&self, problems: &mut Diagnostics) -> Option<Vec<Item<'n>>> {
        match &self.node.value {
            Value::Sequence(nodes) if nodes.is_empty() => {
                self.problem(
                    problems,
                    "the list is empty: name at least one, or leave the key out",
                );
                None
            }
            Value::Sequence(nodes) => Some(
                nodes
                    .iter()
                    .enumerate()
                    .map(|(index, node)| Item { node, path: format!("{}[{index}]", self.path) })
                    .collect(),
            ),
            _ => {
                self.expected(problems, "a list");
                None
            }
        }
    }

    /// Reads a list that may be empty.
    pub(crate) fn items_or_none(&self, problems: &mut Diagnostics) -> Option<Vec<Item<'n>>> {
        match &self.node.value {
            Value::Sequence(nodes) if nodes.is_empty() => Some(Vec::new()),
            _ => self.items(problems),
        }
    }

    fn scalar(&self) -> Option<&'n Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::Sequence(_) | Value::Mapping(_) | Value::Mistake => None,
        }
    }

    /// Reads a string that is not empty.
    pub(crate) fn text(&self, problems: &mut Diagnostics) -> Option<&'n Scalar> {
        match self.scalar() {
            Some(scalar) if scalar.kind == ScalarKind::String && !scalar.text.is_empty() => {
                return Some(scalar);
            }
            Some(Scalar { text, kind: ScalarKind::Boolean | ScalarKind::Number, .. }) => {
                self.expected(
                    problems,
                    &format!("a text (write \"{text}\" with quotes if it is one)"),
                );
            }
            _ => self.expected(problems, "a text"),
        }
        None
    }

    pub(crate) fn string(&self, problems: &mut Diagnostics) -> Option<String> {
        self.text(problems).map(|scalar| scalar.text.clone())
    }

    /// Reads a list of at least one string. Leaves out the items that have a mistake.
    pub(crate) fn strings(&self, problems: &mut Diagnostics) -> Option<Vec<Item<'n>>> {
        let mut items = self.items(problems)?;
        items.retain(|item| item.text(problems).is_some());
        Some(items)
    }

    /// Returns the string of an item that [`Item::text`] has accepted.
    pub(crate) fn as_text(&self) -> &'n str {
        self.scalar().map_or("", |scalar| scalar.text.as_str())
    }

    /// Returns true if the value is a string that is empty or consists of white space.
    pub(crate) fn is_blank(&self) -> bool {
        self.scalar().is_some_and(|scalar| {
            scalar.kind == ScalarKind::String && scalar.text.trim().is_empty()
        })
    }

    pub(crate) fn is_empty_list(&self) -> bool {
        matches!(&self.node.value, Value::Sequence(items) if items.is_empty())
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Sequence(_))
    }

    /// Reads a list of strings, which may be empty.
    pub(crate) fn texts(&self, problems: &mut Diagnostics) -> Option<Vec<String>> {
        match &self.node.value {
            Value::Sequence(nodes) if nodes.is_empty() => Some(Vec::new()),
            _ => {
                let items = self.strings(problems)?;
                Some(items.iter().map(|item| item.as_text().to_owned()).collect())
            }
        }
    }

    /// Reads a string that may be empty, and returns a list of it alone.
    pub(crate) fn any_text(&self, problems: &mut Diagnostics) -> Option<Vec<String>> {
        self.any_string(problems).map(|text| vec![text])
    }

    /// Reads a string that may be empty.
    pub(crate) fn any_string(&self, problems: &mut Diagnostics) -> Option<String> {
        match self.scalar() {
            Some(Scalar { text, kind: ScalarKind::String, .. }) => Some(text.clone()),
            _ => self.string(problems),
        }
    }

    /// Reads a list that may be empty, of strings that may be empty. Returns each string with its
    /// item. Leaves out the items that have a mistake.
    pub(crate) fn any_strings(&self, problems: &mut Diagnostics) -> Option<Vec<(String, Self)>> {
        let items = self.items_or_none(problems)?.into_iter();
        Some(items.filter_map(|item| Some((item.any_string(problems)?, item))).collect())
    }

    /// Reads a mapping of an object of Kubernetes. A key with the value `null` counts as omitted.
    pub(crate) fn fields_or_null(
        &self,
        shape: &MappingSchema,
        problems: &mut Diagnostics,
    ) -> Option<MappingRef<'n>> {
        let mut fields = self.fields(shape, problems)?;
        let path = &fields.path;
        fields.members.retain(|(key, written, node)| {
            let is_null =
                matches!(&node.value, Value::Scalar(Scalar { kind: ScalarKind::Null, .. }));
            if is_null {
                let message = format!(
                    "`{key}` has no value, so it counts as left out: give it one, or remove the key"
                );
                problems.lint(Lint::NoEffect, node.place, &join(path, written.as_str()), message);
            }
            !is_null
        });
        Some(fields)
    }

    /// Reads a string that is not empty, a boolean or a number. Returns it as JSON.
    pub(crate) fn scalar_value(&self, problems: &mut Diagnostics) -> Option<Json> {
        match json(self.node) {
            Json::String(text) if text.is_empty() => {}
            value @ (Json::String(_) | Json::Bool(_) | Json::Number(_)) => return Some(value),
            Json::Null | Json::Array(_) | Json::Object(_) => {}
        }
        self.expected(problems, "a string, a boolean or a number");
        None
    }

    /// Reads a mapping and returns it as a JSON object.
    pub(crate) fn object(&self, problems: &mut Diagnostics) -> Option<Map<String, Json>> {
        match json(self.node) {
            Json::Object(object) => Some(object),
            _ => {
                self.expected(problems, "a mapping");
                None
            }
        }
    }

    /// Reads an integer in a range.
    pub(crate) fn number(
        &self,
        range: std::ops::RangeInclusive<usize>,
        problems: &mut Diagnostics,
    ) -> Option<usize> {
        let number = self.scalar().filter(|scalar| scalar.kind == ScalarKind::Number);
        let is_decimal = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_digit())
                && (text == "0" || !text.starts_with('0'))
        };
        let number = number
            .filter(|scalar| is_decimal(&scalar.text))
            .and_then(|scalar| scalar.text.parse().ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = range.into_inner();
            self.expected(problems, &format!("a whole number from {least} to {most}"));
        }
        number
    }

    /// Reads one of some words.
    pub(crate) fn word<T: Copy>(
        &self,
        words: &[(&str, T)],
        problems: &mut Diagnostics,
    ) -> Option<T> {
        if matches!(self.node.value, Value::Mistake) {
            problems.known_mistake();
            return None;
        }
        let text = self.scalar().map(|scalar| scalar.text.as_str()).unwrap_or_default();
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let hint = suggestion(text, &known);
            let message =
                format!("expected {}, found {}{hint}", one_of(&known), self.node.describe());
            self.problem(problems, message);
        }
        found
    }
}

impl<'n> MappingRef<'n> {
    /// Returns the value of a key. A key with nothing after its colon has a null value, which no
    /// setting expects. So an indentation mistake that empties a key does not make the key count as
    /// omitted.
    pub(crate) fn get(&self, key: &str) -> Option<Item<'n>> {
        let (_, written, node) = self.members.iter().find(|(found, ..)| *found == key)?;
        Some(Item { node, path: join(&self.path, written.as_str()) })
    }

    /// Returns the value of a required key.
    pub(crate) fn required(&self, key: &str, problems: &mut Diagnostics) -> Option<Item<'n>> {
        let item = self.get(key);
        if item.is_none() && !self.has_unclear_key {
            problems.add(self.place, &self.path, format!("the key `{key}` is missing"));
        }
        item
    }

    /// Returns true if the mapping has a key that is not a scalar. Such a key may stand for any
    /// missing key.
    pub(crate) fn has_unclear_key(&self) -> bool {
        self.has_unclear_key
    }

    pub(crate) fn place(&self) -> Position {
        self.place
    }
}

/// Converts a value to JSON by YAML's core schema.
pub(super) fn json(node: &Node) -> Json {
    match &node.value {
        Value::Sequence(items) => items.iter().map(json).collect(),
        Value::Mapping(members) => {
            members.iter().map(|(key, node)| (key.as_str().to_owned(), json(node))).collect()
        }
        Value::Mistake => Json::Null,
        Value::Scalar(Scalar { text, kind, .. }) => match kind {
            ScalarKind::Null => Json::Null,
            ScalarKind::Boolean => Json::Bool(text.eq_ignore_ascii_case("true")),
            ScalarKind::Number => text
                .parse::<i64>()
                .map(Json::from)
                .or_else(|_| text.parse::<f64>().map(Json::from))
                .unwrap_or_else(|_| Json::from(text.as_str())),
            ScalarKind::String => Json::from(text.as_str()),
        },
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn suggestion(word: &str, known: &[&str]) -> String {
    nearest(word, known.iter().copied())
        .map(|word| format!("; did you mean `{word}`?"))
        .unwrap_or_default()
}

/// Formats words as "`a`", "`a` or `b`", or "`a`, `b` or `c`".
pub(crate) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}
