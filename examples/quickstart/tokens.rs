//! An identity provider in a few lines: one RSA key, its JWKS, signed tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPrivateKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Map, Value, json};

pub const ISSUER: &str = "https://idp.example.com";
pub const AUDIENCE: &str = "mcp";
const KEY_ID: &str = "quickstart";
const LIFETIME: Duration = Duration::from_secs(3600);

pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Signs tokens with a key that nobody else has.
pub struct Issuer {
    key: EncodingKey,
    pem: String,
    jwks: String,
}

impl Issuer {
    /// Makes a new key.
    pub fn new() -> Result<Self, Error> {
        Self::with_key(&rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048)?)
    }

    /// Takes a key that [`Self::pem`] gave.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        Self::with_key(&rsa::RsaPrivateKey::from_pkcs1_pem(pem)?)
    }

    fn with_key(private: &rsa::RsaPrivateKey) -> Result<Self, Error> {
        let number = |n: &rsa::BigUint| URL_SAFE_NO_PAD.encode(n.to_bytes_be());
        let jwks = json!({ "keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID,
            "n": number(private.n()), "e": number(private.e()),
        }]});
        let pem = private.to_pkcs1_pem(LineEnding::LF)?.to_string();
        let key = EncodingKey::from_rsa_pem(pem.as_bytes())?;
        Ok(Self { key, pem, jwks: jwks.to_string() })
    }

    /// The private key.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The public key, as Envoy reads it.
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// A token for a caller with these scopes.
    pub fn token(&self, subject: &str, scope: &str) -> Result<String, Error> {
        let claims = [("sub", json!(subject)), ("scope", json!(scope))];
        self.sign(claims.map(|(name, value)| (name.to_owned(), value)))
    }

    /// A token with these claims and those that every token has.
    pub fn sign(&self, claims: impl IntoIterator<Item = (String, Value)>) -> Result<String, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let usual = [
            ("iss", json!(ISSUER)),
            ("aud", json!(AUDIENCE)),
            ("iat", json!(now.as_secs())),
            ("exp", json!((now + LIFETIME).as_secs())),
        ];
        let usual = usual.map(|(name, value)| (name.to_owned(), value));
        let claims: Map<String, Value> = usual.into_iter().chain(claims).collect();
        let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::RS256) };
        Ok(encode(&header, &claims, &self.key)?)
    }
}
