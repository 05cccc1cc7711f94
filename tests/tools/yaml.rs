//! YAML as a JSON value, for tests that look into it.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Number, Value};

/// The documents of a text that hold something.
pub fn documents(text: &str) -> Vec<Value> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new() };
    let mut documents = Vec::new();
    loop {
        match reader.next() {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            event => documents.push(reader.value(event)),
        }
    }
    documents.retain(|document| !document.is_null());
    documents
}

/// The only document of a text.
pub fn document(text: &str) -> Value {
    let documents: [Value; 1] = documents(text).try_into().expect("one document");
    let [document] = documents;
    document
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Value>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Event<'t> {
        let (event, _place) = self.parser.next_event().expect("an event").expect("YAML");
        event
    }

    fn value(&mut self, event: Event<'t>) -> Value {
        let (anchor, value) = match event {
            Event::Alias(anchor) => return self.anchors[&anchor].clone(),
            Event::Scalar(text, style, anchor, _tag) => (anchor, scalar(&text, style)),
            Event::SequenceStart(anchor, _tag) => {
                let mut items = Vec::new();
                loop {
                    match self.next() {
                        Event::SequenceEnd => break (anchor, Value::Array(items)),
                        item => items.push(self.value(item)),
                    }
                }
            }
            Event::MappingStart(anchor, _tag) => {
                let mut entries = Map::new();
                loop {
                    let Event::Scalar(key, ..) = self.next() else {
                        break (anchor, Value::Object(entries));
                    };
                    let event = self.next();
                    let value = self.value(event);
                    let before = entries.insert(key.to_string(), value);
                    assert_eq!(before, None, "the key {key} comes twice");
                }
            }
            event => panic!("{event:?}"),
        };
        self.anchors.insert(anchor, value.clone());
        value
    }
}

/// YAML 1.1, which Kubernetes reads, takes more words for booleans.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return text.into();
    }
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => true.into(),
        "false" => false.into(),
        "yes" | "no" | "on" | "off" => panic!("`{text}` is a boolean for some: quote it"),
        _ => match text.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => match text.parse::<f64>().ok().and_then(Number::from_f64) {
                Some(number) if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                    number.into()
                }
                _ => text.into(),
            },
        },
    }
}
