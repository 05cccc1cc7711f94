//! YAML as JSON values: as much of it as files for Kubernetes and Envoy use.

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Number, Value};

/// The documents of a text that hold something.
pub fn documents(text: &str) -> Vec<Value> {
    let mut reader = Reader(Parser::new_from_str(text));
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
    let mut documents = documents(text);
    assert_eq!(documents.len(), 1, "{text}");
    documents.remove(0)
}

struct Reader<'t>(Parser<'t, StrInput<'t>>);

impl<'t> Reader<'t> {
    fn next(&mut self) -> Event<'t> {
        self.0.next_event().unwrap_or_else(|| panic!("the text ends early")).unwrap().0
    }

    fn value(&mut self, event: Event<'_>) -> Value {
        match event {
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::SequenceStart(..) => {
                let mut values = Vec::new();
                loop {
                    match self.next() {
                        Event::SequenceEnd => return Value::Array(values),
                        event => values.push(self.value(event)),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut mapping = Map::new();
                loop {
                    let key = match self.next() {
                        Event::MappingEnd => return Value::Object(mapping),
                        Event::Scalar(text, ..) => text.into_owned(),
                        event => panic!("a key that is no text: {event:?}"),
                    };
                    let event = self.next();
                    let value = self.value(event);
                    assert!(mapping.insert(key.clone(), value).is_none(), "`{key}` is there twice");
                }
            }
            event => panic!("not expected here: {event:?}"),
        }
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
