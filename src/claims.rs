//! The claims of a caller's token.
//!
//! Claims have two sources. The first is the payload that Envoy's `jwt_authn` verified and put into
//! dynamic metadata, where no client can write. The second, only if an operator chose it, is the
//! bearer token of the request, decoded without verifying its signature.

use serde_json::{Map, Value};

use crate::json::{Json, Object};

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Claims {
    scopes: Vec<String>,
    /// Other readings of the scopes, if readers disagree.
    unclear: Option<Box<UnclearScopes>>,
    all: Object<'static>,
}

/// The claims of a request's token, as Envoy's `jwt_authn` passes them on.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum VerifiedClaims {
    /// No claims: the request has no valid token.
    #[default]
    None,
    /// The claims of the token that `jwt_authn` verified.
    Token(Claims),
    /// Several payloads under these names. Any of them may hold the claims.
    Several(Vec<String>),
}

impl From<Option<Claims>> for VerifiedClaims {
    fn from(claims: Option<Claims>) -> Self {
        claims.map_or(Self::None, Self::Token)
    }
}

/// Scopes that readers split differently, or cannot read.
#[derive(Debug, Clone, PartialEq, Default)]
struct UnclearScopes {
    /// The parts between white space or control characters of any kind.
    possible: Vec<String>,
    /// The scopes that the reference reads: strings are split at any white space of Unicode.
    reference: Vec<String>,
    /// True if a claim that should hold scopes has another type.
    is_unreadable: bool,
}

impl Claims {
    /// The names of the claims that hold scopes: the standard one
    /// ([RFC 8693, section 4.2]), and the one of several authorization servers.
    ///
    /// [RFC 8693, section 4.2]: https://www.rfc-editor.org/rfc/rfc8693#section-4.2
    pub const SCOPE_CLAIMS: [&str; 2] = ["scope", "scp"];

    /// Collects the scopes of all [`Claims::SCOPE_CLAIMS`]. A claim is a string of scopes with
    /// spaces between them ([RFC 6749, section 3.3]), or a list with one scope per element. A claim
    /// of another type grants nothing.
    ///
    /// [RFC 6749, section 3.3]: https://www.rfc-editor.org/rfc/rfc6749#section-3.3
    pub fn new(all: Object<'static>) -> Self {
        let mut scopes = Vec::new();
        let mut is_clear = true;
        let claims = || Self::SCOPE_CLAIMS.into_iter().filter_map(|name| all.get(name));
        for claim in claims() {
            match claim {
                Json::String(text) => {
                    is_clear &= is_plain(text) || !text.contains(is_other_separator);
                    let named = text.split(' ').filter(|scope| !scope.is_empty());
                    scopes.extend(named.map(str::to_owned));
                }
                Json::Array(items) => {
                    let is_one = |text: &str| !text.contains(' ') && is_plain(text);
                    is_clear &= items.iter().all(|item| text(item).is_some_and(is_one));
                    scopes.extend(items.iter().filter_map(text).map(str::to_owned));
                }
                Json::Null => {}
                _ => is_clear = false,
            }
        }
        let unclear = (!is_clear).then(|| Box::new(UnclearScopes::of(claims())));
        Self { scopes, unclear, all }
    }

    /// Returns the claims of a JSON object.
    pub fn from_json(claims: &Map<String, Value>) -> Self {
        Self::new(object(claims))
    }

    /// Visits the claims at a dotted path: `org.departments` is the member `departments` of the
    /// claim `org`. A claim whose complete name is the path, such as a URL, comes first. Otherwise,
    /// dots may be read in several ways. `None` stands for a claim on the path that has no members.
    pub fn each_reading<'c>(
        &'c self,
        path: &str,
        visit: &mut impl FnMut(Option<&'c Json<'static>>),
    ) {
        each_reading(&self.all, path, visit);
    }

    /// Returns the claim at a dotted path, each part of which is a name. As in the reference,
    /// claims that hold scopes are not found.
    pub fn find_by_path(&self, path: &str) -> Option<&Json<'static>> {
        let (first, rest) = match path.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        let found = self.other_than_scopes(first)?;
        rest.into_iter().flat_map(|rest| rest.split('.')).try_fold(found, |found, name| match found
        {
            Json::Object(object) => object.get(name),
            _ => None,
        })
    }

    /// Returns the claim with exactly this name, unless it holds scopes.
    pub fn other_than_scopes(&self, name: &str) -> Option<&Json<'static>> {
        if Self::SCOPE_CLAIMS.contains(&name) { None } else { self.all.get(name) }
    }

    /// Returns the claim with exactly this name, if it is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all.get(name).and_then(text)
    }

    /// Returns the audiences of the token: one string, or a list ([RFC 7519, section 4.1.3]).
    ///
    /// [RFC 7519, section 4.1.3]: https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        let several = match self.all.get("aud") {
            Some(Json::Array(items)) => items.as_slice(),
            _ => &[],
        };
        self.text("aud").into_iter().chain(several.iter().filter_map(text))
    }

    /// Returns the names of the claims that do not hold scopes.
    pub fn names_other_than_scopes(&self) -> impl Iterator<Item = &str> {
        let names = self.all.iter().map(|(name, _)| name);
        names.filter(|name| !Self::SCOPE_CLAIMS.contains(name))
    }

    /// Returns the claims of a JSON Web Token, **without** verifying the token.
    pub fn from_unverified_token(token: &str) -> Result<Self, jsonwebtoken::errors::Error> {
        // The decoder reads the parts around the last two dots and ignores any text before them.
        // That text could be a verified token, in front of a forged payload.
        if !is_compact(token) {
            return Err(jsonwebtoken::errors::ErrorKind::InvalidToken.into());
        }
        let claims: Map<String, Value> = jsonwebtoken::dangerous::insecure_decode_claims(token)?;
        Ok(Self::from_json(&claims))
    }

    /// Returns the claims of the only token in the `Authorization` headers of a request,
    /// **without** verifying the token. Returns `None` if the token is missing or ambiguous.
    ///
    /// A component in front that verified a token must have read this token. So this function
    /// accepts only the token that Envoy's `jwt_authn` finds, too. That token is in a single
    /// header, after `Bearer ` in exactly this spelling, with nothing around it.
    pub fn from_unverified_headers<'h>(
        authorization: impl IntoIterator<Item = &'h [u8]>,
    ) -> Option<Self> {
        let mut headers = authorization.into_iter();
        let (header, None) = (headers.next()?, headers.next()) else { return None };
        let token = std::str::from_utf8(header.strip_prefix(b"Bearer ")?).ok()?;
        Self::from_unverified_token(token).ok()
    }

    /// Returns the claims without any scope.
    pub fn without_scopes(&self) -> Self {
        Self { scopes: Vec::new(), unclear: None, all: self.all.clone() }
    }

    /// Returns the scopes that the token grants.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(String::as_str)
    }

    /// Returns the scopes that the token grants as the reference reads them. The reference splits
    /// strings at any white space of Unicode and ignores empty elements of a list.
    pub fn scopes_of_reference(&self) -> impl Iterator<Item = &str> {
        let scopes = self.unclear.as_ref().map_or(&self.scopes, |unclear| &unclear.reference);
        scopes.iter().map(String::as_str).filter(|scope| !scope.is_empty())
    }

    /// Returns true if readers disagree about the scopes.
    pub fn scopes_are_unclear(&self) -> bool {
        self.unclear.is_some()
    }

    /// Returns every text that some reader may read as a scope, if readers disagree.
    pub fn possible_scopes(&self) -> impl Iterator<Item = &str> {
        self.unclear.iter().flat_map(|unclear| &unclear.possible).map(String::as_str)
    }

    /// Returns true if a claim that should hold scopes has another type.
    pub fn scopes_are_unreadable(&self) -> bool {
        self.unclear.as_ref().is_some_and(|unclear| unclear.is_unreadable)
    }
}

impl UnclearScopes {
    fn of<'c>(claims: impl Iterator<Item = &'c Json<'static>>) -> Self {
        let mut unclear = Self::default();
        for claim in claims {
            match claim {
                Json::String(text) => {
                    unclear.add(text);
                    unclear.reference.extend(text.split_whitespace().map(str::to_owned));
                }
                Json::Array(items) => {
                    unclear.is_unreadable |= items.iter().any(|item| text(item).is_none());
                    items.iter().filter_map(text).for_each(|text| unclear.add(text));
                    unclear.reference.extend(items.iter().filter_map(text).map(str::to_owned));
                }
                Json::Null => {}
                _ => unclear.is_unreadable = true,
            }
        }
        unclear
    }

    fn add(&mut self, text: &str) {
        let parts = text.split(is_separator).filter(|part| !part.is_empty());
        self.possible.extend(parts.map(str::to_owned));
    }
}

/// Returns true if some reader splits scopes at a character.
fn is_separator(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// Returns true if a string is printable ASCII, in which only spaces separate scopes. Most strings
/// are.
fn is_plain(text: &str) -> bool {
    // Unlike `all`, a fold without an early end lets the compiler process many bytes at once.
    text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'))
}

fn is_other_separator(c: char) -> bool {
    c != ' ' && is_separator(c)
}

fn each_reading<'c>(
    object: &'c Object<'static>,
    path: &str,
    visit: &mut impl FnMut(Option<&'c Json<'static>>),
) {
    if let Some(claim) = object.get(path) {
        return visit(Some(claim));
    }
    for (dot, _) in path.match_indices('.') {
        let (first, rest) = (path.get(..dot), path.get(dot + 1..));
        match (first.and_then(|first| object.get(first)), rest) {
            (Some(Json::Object(inner)), Some(rest)) => each_reading(inner, rest, visit),
            (Some(_), _) => visit(None),
            (None, _) => {}
        }
    }
}

/// Returns the text of a string value.
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
            (Some(int), _) => Json::integer(int),
            (None, Some(double)) => Json::double(double),
            (None, None) => Json::Null,
        },
        Value::String(text) => Json::String(text.clone().into()),
        Value::Array(items) => Json::Array(items.iter().map(json).collect()),
        Value::Object(members) => Json::Object(object(members)),
    }
}

/// Returns true if a text is three parts of base64url with dots between ([RFC 7515, section 7.1]).
///
/// [RFC 7515, section 7.1]: https://www.rfc-editor.org/rfc/rfc7515#section-7.1
fn is_compact(token: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    token.split('.').count() == 3 && token.split('.').all(|part| part.bytes().all(is_base64url))
}

/// Returns true if an `Authorization` header uses the Bearer scheme, whose name ignores letter case
/// ([RFC 9110, section 11.1]). The token is not checked.
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
    fn unclear_scopes_are_not_granted() {
        let claims = |json: &str| Claims::from_json(&serde_json::from_str(json).unwrap());
        for (json, granted, possible, is_unreadable) in [
            (r#"{"scope":"a\tb c"}"#, &["a\tb", "c"][..], &["a", "b", "c"][..], false),
            (r#"{"scope":"a\u00a0b"}"#, &["a\u{a0}b"], &["a", "b"], false),
            (r#"{"scope":"a\u001fb"}"#, &["a\u{1f}b"], &["a", "b"], false),
            (r#"{"scope":["a b"]}"#, &["a b"], &["a", "b"], false),
            (r#"{"scope":["a",7]}"#, &["a"], &["a"], true),
            (r#"{"scope":{"a":true},"scp":"b"}"#, &["b"], &["b"], true),
            (r#"{"scope":7}"#, &[], &[], true),
        ] {
            let claims = claims(json);
            assert!(claims.scopes_are_unclear(), "{json}");
            assert_eq!(claims.scopes().collect::<Vec<_>>(), granted, "{json}");
            assert_eq!(claims.possible_scopes().collect::<Vec<_>>(), possible, "{json}");
            assert_eq!(claims.scopes_are_unreadable(), is_unreadable, "{json}");
        }
        for clear in [r#"{"scope":" a  b "}"#, r#"{"scope":null,"scp":["a"]}"#, "{}"] {
            assert!(!claims(clear).scopes_are_unclear(), "{clear}");
        }
    }

    #[test]
    fn reference_splits_scopes_at_any_blank() {
        for (json, expected) in [
            (
                r#"{"scope":"a\tb\u000bc\u00a0d\u0085e\u3000f"}"#,
                &["a", "b", "c", "d", "e", "f"][..],
            ),
            // Control characters that separate records, and zero-width spaces, are no white space.
            (r#"{"scope":"a\u001fb\u200bc"}"#, &["a\u{1f}b\u{200b}c"]),
            (r#"{"scope":["","a b","\u00a0",""],"scp":""}"#, &["a b", "\u{a0}"]),
            (r#"{"scope":["a",""]}"#, &["a"]),
            (r#"{"scp":["a",7,null]}"#, &["a"]),
        ] {
            let claims = Claims::from_json(&serde_json::from_str(json).unwrap());
            assert_eq!(claims.scopes_of_reference().collect::<Vec<_>>(), expected, "{json}");
        }
    }

    #[test]
    fn reference_finds_no_claim_among_scopes() {
        let json = r#"{"a":{"b":"1","scope":"2"},"a.b":"3","scp":{"b":"4"},"scope":"5"}"#;
        let claims = Claims::from_json(&serde_json::from_str(json).unwrap());
        let found = |path| claims.find_by_path(path).and_then(text);
        assert_eq!((found("a.b"), found("a.scope")), (Some("1"), Some("2")));
        assert_eq!((found("scp.b"), found("scope"), found("a.b.c")), (None, None, None));
    }

    fn readings<'c>(claims: &'c Claims, path: &str) -> Vec<Option<&'c Json<'static>>> {
        let mut readings = Vec::new();
        claims.each_reading(path, &mut |claim| readings.push(claim));
        readings
    }

    #[test]
    fn claims_are_found_by_path_and_by_names_with_dots() {
        let json = r#"{"org":{"departments":["a"],"x.y":{"z":"deep"}},"https://e.com/r":"b","a":{"b":"1"},"a.b":"2"}"#;
        let claims = Claims::from_json(&serde_json::from_str(json).unwrap());
        let found = |path| match readings(&claims, path).as_slice() {
            [Some(claim)] => text(claim),
            _ => None,
        };
        assert!(matches!(readings(&claims, "org.departments").as_slice(), [Some(Json::Array(_))]));
        assert_eq!(found("org.x.y.z"), Some("deep"));
        assert_eq!(found("https://e.com/r"), Some("b"));
        assert_eq!(found("a.b"), Some("2"), "the whole name first");
        for nothing in ["", ".", "org.", "org.nope", "Org.departments"] {
            assert!(readings(&claims, nothing).is_empty(), "{nothing}");
        }
        assert_eq!(readings(&claims, "org.departments.a"), [None], "a list has no members");
        let json = r#"{"a":{"b.c":"1","b":{"c":"2"}},"a.b":{"c":"3"},"a.b.c.d":{},"a.b.c":4}"#;
        let several = Claims::from_json(&serde_json::from_str(json).unwrap());
        assert_eq!(readings(&several, "a.b.c"), [Some(&Json::Int(4))], "the whole name first");
        assert!(readings(&several, "a.b.c.e").iter().all(Option::is_none));
        let json = r#"{"a":{"b":{"c":"2"}},"a.b":{"c":"3"}}"#;
        let several = Claims::from_json(&serde_json::from_str(json).unwrap());
        assert_eq!(readings(&several, "a.b.c").len(), 2);
        let json = r#"{"a.b":{"c":"x"},"a":"s"}"#;
        let several = Claims::from_json(&serde_json::from_str(json).unwrap());
        assert_eq!(
            readings(&several, "a.b.c"),
            [None, Some(&Json::String("x".into()))],
            "a string has no members, whatever else the path means"
        );
    }

    #[test]
    fn a_bearer_token_is_found_and_decoded_but_not_verified() {
        assert!(is_bearer(b"Bearer abc"));
        assert!(is_bearer(b"bEARER abc"));
        assert!(!is_bearer(b"Basic abc"));
        assert!(!is_bearer(b"Bearer"));
        // {"alg":"none"} . {"scope":"a"} . an invalid signature
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
