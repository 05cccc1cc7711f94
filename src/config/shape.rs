//! The keys and values that mappings of a file may have. The decoder and the JSON Schema both come
//! from these declarations, so they cannot disagree.

use serde_json::{Map, Value, json};

/// The keys of a mapping.
#[derive(Debug)]
pub(crate) struct MappingSchema {
    pub(crate) about: &'static str,
    pub(crate) fields: &'static [Field],
    /// The alternative keys: a mapping must have exactly one of them.
    pub(crate) one_of: &'static [&'static str],
    /// The alternative keys: a mapping must have at least one of them.
    pub(crate) any_of: &'static [&'static str],
}

/// A key of a mapping and its value.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) key: &'static str,
    pub(crate) about: &'static str,
    pub(crate) holds: ValueSchema,
    pub(crate) required: bool,
}

/// The type of a value.
#[derive(Debug)]
pub(crate) enum ValueSchema {
    /// A string that is not empty.
    Text,
    /// A string that may be empty.
    AnyText,
    /// A condition in CEL.
    Condition,
    /// One of these words. The first is the default.
    Word(&'static [&'static str]),
    /// A list of these words without duplicates. The default is a list of the first word.
    Words(&'static [&'static str]),
    /// An integer.
    Number { least: usize, most: usize, default: usize },
    /// The word `true`, which enables something.
    Switch,
    /// A list of strings.
    Texts,
    /// A list of strings, booleans or numbers.
    Scalars,
    /// A list of scope-tokens without duplicates. `may_be_empty` is true if the list may be empty.
    Scopes { may_be_empty: bool },
    /// A mapping from a scope-token to a list of scope-tokens.
    ScopesByScope,
    /// A mapping.
    Mapping(&'static MappingSchema),
    /// A list of mappings.
    Mappings(&'static MappingSchema),
    /// A list of mappings, which may be empty.
    MappingsOrNone(&'static MappingSchema),
    /// A mapping from a name to a string or a list of strings.
    TextsByName,
    /// A string or null.
    TextOrNull,
    /// Any object.
    Object,
}

pub(crate) const fn field(key: &'static str, holds: ValueSchema, about: &'static str) -> Field {
    Field { key, about, holds, required: false }
}

impl Field {
    pub(crate) const fn required(self) -> Self {
        Self { required: true, ..self }
    }
}

impl MappingSchema {
    pub(crate) const fn new(about: &'static str, fields: &'static [Field]) -> Self {
        Self { about, fields, one_of: &[], any_of: &[] }
    }

    /// Requires at least one of these keys.
    pub(crate) const fn any_of(self, any_of: &'static [&'static str]) -> Self {
        Self { any_of, ..self }
    }

    /// Returns the JSON Schema of a file of this shape.
    pub(crate) fn document(&self, id: &str, title: &str) -> Value {
        let mut schema = self.schema();
        if let Value::Object(members) = &mut schema {
            members.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
            members.insert("$id".into(), id.into());
            members.insert("title".into(), title.into());
        }
        schema
    }

    fn schema(&self) -> Value {
        let Self { about, fields, one_of, any_of } = self;
        let properties: Map<String, Value> = fields
            .iter()
            .map(|field| {
                let mut schema = field.holds.schema();
                if let Value::Object(members) = &mut schema {
                    members.insert("description".into(), field.about.into());
                }
                (field.key.to_owned(), schema)
            })
            .collect();
        let required: Vec<&str> =
            fields.iter().filter(|field| field.required).map(|field| field.key).collect();
        let mut schema = json!({
            "type": "object",
            "description": about,
            "properties": properties,
            "additionalProperties": false,
        });
        let each = |keys: &[&str]| keys.iter().map(|key| json!({"required": [key]})).collect();
        if let Value::Object(members) = &mut schema {
            if !required.is_empty() {
                members.insert("required".into(), required.into());
            }
            if !one_of.is_empty() {
                members.insert("oneOf".into(), Value::Array(each(one_of)));
            }
            if !any_of.is_empty() {
                members.insert("anyOf".into(), Value::Array(each(any_of)));
            }
        }
        schema
    }
}

impl ValueSchema {
    fn schema(&self) -> Value {
        // RFC 6749, section 3.3.
        let scope = json!({"type": "string", "pattern": r"^[!#-\[\]-~]+$"});
        let scopes = json!({"type": "array", "items": scope, "minItems": 1, "uniqueItems": true});
        let text = json!({"type": "string", "minLength": 1});
        match self {
            Self::Text => text,
            Self::AnyText => json!({"type": "string"}),
            Self::Condition => json!({
                "type": "string",
                "minLength": 1,
                "maxLength": crate::policy::condition::MAX_EXPRESSION_BYTES,
            }),
            Self::Word(words) => json!({"enum": words, "default": words.first()}),
            Self::Words(words) => json!({
                "type": "array",
                "items": {"enum": words},
                "minItems": 1,
                "uniqueItems": true,
                "default": words.first().into_iter().collect::<Vec<_>>(),
            }),
            Self::Number { least, most, default } => json!({
                "type": "integer", "minimum": least, "maximum": most, "default": default,
            }),
            Self::Switch => json!({"const": true}),
            Self::Texts => json!({"type": "array", "items": text, "minItems": 1}),
            Self::Scalars => json!({
                "type": "array",
                "items": {"anyOf": [text, {"type": ["boolean", "number"]}]},
                "minItems": 1,
            }),
            Self::Scopes { may_be_empty: false } => scopes,
            Self::Scopes { may_be_empty: true } => {
                json!({"type": "array", "items": scope, "uniqueItems": true})
            }
            Self::ScopesByScope => json!({
                "type": "object",
                "propertyNames": scope,
                "additionalProperties": scopes,
            }),
            Self::Mapping(shape) => shape.schema(),
            Self::Mappings(shape) => {
                json!({"type": "array", "items": shape.schema(), "minItems": 1})
            }
            Self::MappingsOrNone(shape) => json!({"type": "array", "items": shape.schema()}),
            Self::TextsByName => json!({
                "type": "object",
                "additionalProperties": {
                    "anyOf": [
                        {"type": "string"},
                        {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    ],
                },
            }),
            Self::TextOrNull => json!({"type": ["string", "null"]}),
            Self::Object => json!({"type": "object"}),
        }
    }
}

#[cfg(test)]
mod tests;
