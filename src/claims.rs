//! What a caller's token says about them.
//!
//! Two sources give claims: the payload that Envoy's `jwt_authn` verified and
//! put into dynamic metadata, where no client can write, and, only if an
//! operator chose it, the bearer token of the request itself, decoded without a
//! look at its signature.

use serde_json::{Map, Value};

/// The claims that decisions read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    scopes: Vec<String>,
}

/// A claim's value as far as scopes can be in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeClaim {
    /// Scopes with spaces between them ([RFC 8693, section 4.2]).
    ///
    /// [RFC 8693, section 4.2]: https://www.rfc-editor.org/rfc/rfc8693#section-4.2
    Text(String),
    /// One scope an element, as some authorization servers write it.
    List(Vec<String>),
}

impl Claims {
    /// The names of the claims that hold scopes: the standard one, and the one
    /// of several authorization servers.
    pub const SCOPE_CLAIMS: [&str; 2] = ["scope", "scp"];

    /// Collects the scopes of all [`Claims::SCOPE_CLAIMS`].
    pub fn new(claims: impl IntoIterator<Item = ScopeClaim>) -> Self {
        let mut scopes = Vec::new();
        for claim in claims {
            match claim {
                ScopeClaim::Text(text) => {
                    scopes.extend(
                        text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned),
                    );
                }
                ScopeClaim::List(list) => scopes.extend(list),
            }
        }
        Self { scopes }
    }

    /// The claims of a JSON object. What is not a string or a list of strings
    /// grants nothing.
    pub fn from_json(claims: &Map<String, Value>) -> Self {
        let scope_claim = |name| match claims.get(name)? {
            Value::String(text) => Some(ScopeClaim::Text(text.clone())),
            Value::Array(items) => Some(ScopeClaim::List(
                items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            )),
            _ => None,
        };
        Self::new(Self::SCOPE_CLAIMS.into_iter().filter_map(scope_claim))
    }

    /// The claims of a bearer token, **without** verifying it.
    pub fn from_unverified_token(token: &str) -> Result<Self, jsonwebtoken::errors::Error> {
        let claims: Map<String, Value> = jsonwebtoken::dangerous::insecure_decode_claims(token)?;
        Ok(Self::from_json(&claims))
    }

    /// The scopes that the token grants.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(String::as_str)
    }
}

/// The token of an `Authorization` header with the Bearer scheme, whose name is
/// the same in any letters' case ([RFC 9110, section 11.1]).
///
/// [RFC 9110, section 11.1]: https://www.rfc-editor.org/rfc/rfc9110#section-11.1
pub fn bearer_token(authorization: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(authorization).ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
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
    fn a_bearer_token_is_found_and_decoded_but_not_verified() {
        assert_eq!(bearer_token(b"Bearer abc"), Some("abc"));
        assert_eq!(bearer_token(b"bEARER abc"), Some("abc"));
        assert_eq!(bearer_token(b"Basic abc"), None);
        assert_eq!(bearer_token(b"Bearer"), None);
        // {"alg":"none"} . {"scope":"a"} . signature of nothing
        let token = "eyJhbGciOiJub25lIn0.eyJzY29wZSI6ImEifQ.AAAA";
        let claims = Claims::from_unverified_token(token).unwrap();
        assert_eq!(claims.scopes().collect::<Vec<_>>(), ["a"]);
        assert!(Claims::from_unverified_token("not.a.token").is_err());
        assert!(Claims::from_unverified_token("").is_err());
    }
}
