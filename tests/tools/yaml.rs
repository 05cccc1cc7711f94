//! YAML as a JSON value, for tests that look into it.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// The documents of a text.
pub fn documents(text: &str) -> Vec<Value> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new() };
    let mut documents = Vec::new();
    loop {
        match reader.next() {
            Event::StreamEnd => return documents,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            event => documents.push(reader.value(event)),
        }
    }
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
            Event::Scalar(text, ScalarStyle::Plain, anchor, _tag) => (anchor, plain(&text)),
            Event::Scalar(text, _quoted, anchor, _tag) => (anchor, Value::from(text.as_ref())),
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

/// YAML's core schema, as far as JSON has the same.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" | "false" => Value::from(text == "true"),
        _ => text
            .parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<f64>().map(Value::from))
            .unwrap_or_else(|_| Value::from(text)),
    }
}
