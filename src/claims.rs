//! What a caller's token says about them.
//!
//! Two sources give claims: the payload that Envoy's `jwt_authn` verified and
//! put into dynamic metadata, where no client can write, and, only if an
//! operator chose it, the bearer token of the request itself, decoded without a
//! look at its signature.

use serde_json::{Map, Value};

use crate::json::{Json, Object};

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Claims {
    scopes: Vec<String>,
    all: Object<'static>,
}

impl Claims {
    /// The names of the claims that hold scopes: the standard one
    /// ([RFC 8693, section 4.2]), and the one of several authorization servers.
    ///
    /// [RFC 8693, section 4.2]: https://www.rfc-editor.org/rfc/rfc8693#section-4.2
    pub const SCOPE_CLAIMS: [&str; 2] = ["scope", "scp"];

    /// Collects the scopes of all [`Claims::SCOPE_CLAIMS`]: a text with spaces
    /// between them, or a list of one scope an element. Anything else grants
    /// nothing.
    pub fn new(all: Object<'static>) -> Self {
        let mut scopes = Vec::new();
        for claim in Self::SCOPE_CLAIMS.into_iter().filter_map(|name| all.get(name)) {
            match claim {
                Json::String(text) => {
                    scopes.extend(text.split_ascii_whitespace().map(str::to_owned));
                }
                Json::Array(items) => {
                    scopes.extend(items.iter().filter_map(text).map(str::to_owned));
                }
                _ => {}
            }
        }
        Self { scopes, all }
    }

    /// The claims of a JSON object.
    pub fn from_json(claims: &Map<String, Value>) -> Self {
        Self::new(object(claims))
    }

    /// The claim at a dotted path: `org.departments` is the member
    /// `departments` of the claim `org`. A name that holds dots itself, such as
    /// a URL, is found whole first.
    pub fn find(&self, path: &str) -> Option<&Json<'static>> {
        find(&self.all, path)
    }

    /// The claim at a dotted path, each part of which is a name: as in the reference.
    pub fn find_by_path(&self, path: &str) -> Option<&Json<'static>> {
        let (first, rest) = match path.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        let found = self.all.get(first)?;
        rest.into_iter().flat_map(|rest| rest.split('.')).try_fold(found, |found, name| match found
        {
            Json::Object(object) => object.get(name),
            _ => None,
        })
    }

    /// The claim of just this name, unless it holds scopes.
    pub fn other_than_scopes(&self, name: &str) -> Option<&Json<'static>> {
        if Self::SCOPE_CLAIMS.contains(&name) { None } else { self.all.get(name) }
    }

    /// The claim of just this name, if it is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all.get(name).and_then(text)
    }

    /// The names of the claims that do not hold scopes.
    pub fn names_other_than_scopes(&self) -> impl Iterator<Item = &str> {
        let names = self.all.iter().map(|(name, _)| name);
        names.filter(|name| !Self::SCOPE_CLAIMS.contains(name))
    }

    /// The claims of a JSON Web Token, **without** verifying it.
    pub fn from_unverified_token(token: &str) -> Result<Self, jsonwebtoken::errors::Error> {
        // The decoder takes what is around the last two dots, whatever comes
        // before: a verified token, and then a forged payload.
        if !is_compact(token) {
            return Err(jsonwebtoken::errors::ErrorKind::InvalidToken.into());
        }
        let claims: Map<String, Value> = jsonwebtoken::dangerous::insecure_decode_claims(token)?;
        Ok(Self::from_json(&claims))
    }

    /// The claims of the token in all the `Authorization` headers of a request,
    /// **without** verifying it; `None` if there is not one for sure.
    ///
    /// What verified a token in front of us must have taken the same one. So this
    /// is only the one token that Envoy's `jwt_authn` finds too: in a single
    /// header, behind `Bearer ` in just these letters, with nothing around it.
    pub fn from_unverified_headers<'h>(
        authorization: impl IntoIterator<Item = &'h [u8]>,
    ) -> Option<Self> {
        let mut headers = authorization.into_iter();
        let (header, None) = (headers.next()?, headers.next()) else { return None };
        let token = std::str::from_utf8(header.strip_prefix(b"Bearer ")?).ok()?;
        Self::from_unverified_token(token).ok()
    }

    /// The same claims, without a scope.
    pub fn without_scopes(&self) -> Self {
        Self { scopes: Vec::new(), all: self.all.clone() }
    }

    /// The scopes that the token grants.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(String::as_str)
    }
}

fn find<'c>(object: &'c Object<'static>, path: &str) -> Option<&'c Json<'static>> {
    let within = |(dot, _)| match object.get(path.get(..dot)?)? {
        Json::Object(inner) => find(inner, path.get(dot + 1..)?),
        _ => None,
    };
    object.get(path).or_else(|| path.match_indices('.').find_map(within))
}

/// The text of a value that is one.
pub(crate) fn text<'j>(value: &'j Json<'_>) -> Option<&'j str> {
    match value {
        Json::String(text) => Some(text),
        _ => None,
    }
}

fn object(members: &Map<String, Value>) -> Object<'static> {
    Object::from_map(members.iter().map(|(key, value)| (key.clone(), json(value))))
}

fn json(value: &Value) -> Json<'static> {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Json::Int(int),
            (None, Some(double)) => Json::Double(double),
            (None, None) => Json::Null,
        },
        Value::String(text) => Json::String(text.clone().into()),
        Value::Array(items) => Json::Array(items.iter().map(json).collect()),
        Value::Object(members) => Json::Object(object(members)),
    }
}

/// Whether a text is three parts of base64url with dots between ([RFC 7515,
/// section 7.1]).
///
/// [RFC 7515, section 7.1]: https://www.rfc-editor.org/rfc/rfc7515#section-7.1
fn is_compact(token: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    token.split('.').count() == 3 && token.split('.').all(|part| part.bytes().all(is_base64url))
}

/// Whether an `Authorization` header tries the Bearer scheme, whose name is the
/// same in any letters' case ([RFC 9110, section 11.1]). Says nothing of the
/// token.
///
/// [RFC 9110, section 11.1]: https://www.rfc-editor.org/rfc/rfc9110#section-11.1
pub fn is_bearer(authorization: &[u8]) -> bool {
    let scheme = authorization.split(|&byte| byte == b' ').next().unwrap_or_default();
    scheme.len() < authorization.len() && scheme.eq_ignore_ascii_case(b"bearer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(json: &str) -> Vec<String> {
        let claims = Claims::from_json(&serde_json::from_str(json).unwrap());
        claims.scopes().map(str::to_owned).collect()
    }

    #[test]
    fn scopes_come_from_either_claim_as_text_or_list() {
        assert_eq!(scopes(r#"{"scope":"a  b"}"#), ["a", "b"]);
        assert_eq!(scopes(r#"{"scope":["a","b c"]}"#), ["a", "b c"]);
        assert_eq!(scopes(r#"{"scp":"a","scope":"b"}"#), ["b", "a"]);
        assert_eq!(scopes(r#"{"scp":["a",7]}"#), ["a"]);
        assert!(scopes(r#"{"scope":7,"scp":{"a":1},"Scope":"x"}"#).is_empty());
    }

    #[test]
    fn claims_are_found_by_path_and_by_names_with_dots() {
        let json = r#"{"org":{"departments":["a"],"x.y":{"z":"deep"}},"https://e.com/r":"b","a":{"b":"1"},"a.b":"2"}"#;
        let claims = Claims::from_json(&serde_json::from_str(json).unwrap());
        let found = |path| claims.find(path).and_then(text);
        assert!(matches!(claims.find("org.departments"), Some(Json::Array(_))));
        assert_eq!(found("org.x.y.z"), Some("deep"));
        assert_eq!(found("https://e.com/r"), Some("b"));
        assert_eq!(found("a.b"), Some("2"), "the whole name first");
        for nothing in ["", ".", "org.", "org.nope", "org.departments.a", "Org.departments"] {
            assert_eq!(claims.find(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_bearer_token_is_found_and_decoded_but_not_verified() {
        assert!(is_bearer(b"Bearer abc"));
        assert!(is_bearer(b"bEARER abc"));
        assert!(!is_bearer(b"Basic abc"));
        assert!(!is_bearer(b"Bearer"));
        // {"alg":"none"} . {"scope":"a"} . signature of nothing
        let token = "eyJhbGciOiJub25lIn0.eyJzY29wZSI6ImEifQ.AAAA";
        let claims = Claims::from_unverified_token(token).unwrap();
        assert_eq!(claims.scopes().collect::<Vec<_>>(), ["a"]);
        assert!(is_compact("a-b.c_d.Z9") && !is_compact("a.b+c.d") && !is_compact("a.b/c.d"));
        for no_token in [
            "not.a.token".to_owned(),
            String::new(),
            format!("x.{token}"),
            format!("{token} {token}"),
            format!("{token}, Bearer {token}"),
            format!(" {token}"),
            format!("{token}="),
        ] {
            assert!(Claims::from_unverified_token(&no_token).is_err(), "{no_token}");
        }
    }
}
