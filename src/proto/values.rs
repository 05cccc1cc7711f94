//! Conversions between JSON and protobuf's values.

use super::{Kind, ListValue, Struct, Value};
use crate::json::{Json, Object};

/// Converts a protobuf value to JSON.
pub fn json(Value { kind }: Value) -> Json<'static> {
    match kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(value),
        Some(Kind::NumberValue(value)) => number(value),
        Some(Kind::StringValue(text)) => Json::String(text.into()),
        Some(Kind::ListValue(list)) => Json::Array(list.values.into_iter().map(json).collect()),
        Some(Kind::StructValue(value)) => Json::Object(object(value)),
    }
}

/// Converts a struct to a JSON object.
pub fn object(Struct { fields }: Struct) -> Object<'static> {
    Object::from_map(fields.into_iter().map(|(name, value)| (name, json(value))))
}

/// Converts a number. Protobuf has only doubles; a double without a fraction becomes an integer
/// again.
#[expect(clippy::cast_possible_truncation, reason = "`Json::double` checks the range")]
fn number(value: f64) -> Json<'static> {
    match Json::double(value) {
        Json::Double(whole) if whole.fract() == 0.0 => Json::integer(whole as i64),
        other => other,
    }
}

/// Converts a JSON value to a protobuf value. Numbers become doubles.
pub fn value(value: serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.into_iter().map(self::value).collect() })
        }
        serde_json::Value::Object(members) => {
            let fields = members.into_iter().map(|(name, member)| (name, self::value(member)));
            Kind::StructValue(Struct { fields: fields.collect() })
        }
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_become_integers_again() {
        assert_eq!(number(42.0), Json::Int(42));
        assert_eq!(number(-0.0), Json::Int(0));
        assert_eq!(number(1.5), Json::Double(1.5));
        assert_eq!(number(1e300), Json::Inexact(1e300));
        assert_eq!(number(9_007_199_254_740_991.0), Json::Int(9_007_199_254_740_991));
        assert_eq!(number(9_007_199_254_740_992.0), Json::Inexact(9_007_199_254_740_992.0));
    }

    #[test]
    fn json_survives_protobuf() {
        let text = r#"{"a":[1,2.5,"x",null,true],"b":{"c":"d"}}"#;
        let there = value(serde_json::from_str(text).unwrap());
        let Json::Object(back) = json(there) else { panic!("an object") };
        let Some(Json::Array(items)) = back.get("a") else { panic!("a list") };
        assert_eq!(items.get(..2), Some(&[Json::Int(1), Json::Double(2.5)][..]));
        assert!(matches!(back.get("b"), Some(Json::Object(_))));
    }
}
