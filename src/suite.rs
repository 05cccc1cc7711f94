//! Tests of policies. A file of tests has cases, each with a caller, a call and the expected
//! decision.

mod coverage;
mod difference;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

pub use coverage::{Coverage, Gap};
pub use difference::Difference;

use crate::claims::Claims;
use crate::config::decode::{Item, MappingRef, one_of};
use crate::config::problem::Diagnostics;
use crate::config::shape::{MappingSchema, ValueSchema, field};
use crate::config::{Diagnostic, LoadError, Position, files, yaml};
use crate::gate::{AdmittedRequest, ClaimsFrom, EarlyDecision, Gate, RequestDecision};
use crate::head::{Head, Header};

const ALLOW: &str = "Allow";
const DENY: &str = "Deny";

/// The keys of a file of tests.
static FILE: MappingSchema = MappingSchema::new(
    "Tests of an mcp-authz policy: run them with `mcp-authz test FILE`.",
    &[
        field("policy", ValueSchema::Text, "The policy file or directory, relative to this file.")
            .required(),
        field("tests", ValueSchema::Mappings(&CASE), "The cases.").required(),
    ],
);

static CASE: MappingSchema = MappingSchema {
    one_of: &["call", "body"],
    ..MappingSchema::new(
        "A request and what is expected of it.",
        &[
            field("name", ValueSchema::Text, "What the case shows.").required(),
            field(
                "caller",
                ValueSchema::Mapping(&CALLER),
                "Who calls; left out: a request without a token.",
            ),
            field("call", ValueSchema::Mapping(&CALL), "The call."),
            field(
                "body",
                ValueSchema::AnyText,
                "The body as it comes, instead of `call`; empty: none.",
            ),
            field("headers", ValueSchema::TextsByName, "Headers of the request."),
            field("method", ValueSchema::Text, "The HTTP method. Default: POST."),
            field(
                "host",
                ValueSchema::AnyText,
                "The host of the request; left out: not sent by Envoy.",
            ),
            field("path", ValueSchema::AnyText, "The path of the request. Default: /mcp."),
            field(
                "route",
                ValueSchema::AnyText,
                "Envoy's name of the route, empty for one without a name; left out: not sent by Envoy.",
            ),
            field("attributes", ValueSchema::TextsByName, "Attributes that Envoy sends."),
            field(
                "policyName",
                ValueSchema::Text,
                "The policy that Envoy names in its gRPC metadata.",
            ),
            field(
                "expect",
                ValueSchema::Mapping(&EXPECT),
                "What is expected; what is left out is not looked at.",
            )
            .required(),
        ],
    )
};

static CALLER: MappingSchema = MappingSchema {
    any_of: &["scopes", "claims", "token"],
    ..MappingSchema::new(
        "Who calls.",
        &[
            field(
                "scopes",
                ValueSchema::Scopes { may_be_empty: true },
                "The scopes that the token grants.",
            ),
            field("claims", ValueSchema::Object, "The claims of the token."),
            field(
                "token",
                ValueSchema::Text,
                "The token itself, instead of both; its signature is not checked.",
            ),
        ],
    )
};

static CALL: MappingSchema = MappingSchema {
    one_of: &["tool", "prompt", "resource", "method"],
    ..MappingSchema::new(
        "A call.",
        &[
            field(
                "tool",
                ValueSchema::Text,
                "The tool that is called, as the client says it, with the backend's prefix.",
            ),
            field("prompt", ValueSchema::Text, "The prompt that is got."),
            field("resource", ValueSchema::Text, "The URI of the resource that is read."),
            field("method", ValueSchema::Text, "The method, of any other call."),
            field("arguments", ValueSchema::Object, "The arguments of a tool or prompt."),
            field("params", ValueSchema::Object, "The parameters of another method."),
            field("meta", ValueSchema::Object, "Its `_meta`."),
        ],
    )
};

static EXPECT: MappingSchema = MappingSchema::new(
    "What is expected.",
    &[
        field(
            "decision",
            ValueSchema::Word(&[ALLOW, DENY]),
            "What the policy decides. In Shadow the request goes on all the same.",
        )
        .required(),
        field(
            "scopes",
            ValueSchema::Scopes { may_be_empty: true },
            "The scopes that the challenge names, in their order; none: there is no challenge.",
        ),
        field(
            "rule",
            ValueSchema::TextOrNull,
            "The rule that decides, by its name or as `rules[0]`; null: none does.",
        ),
        field("reason", ValueSchema::Text, "The reason in one word, such as insufficient_scope."),
        field(
            "status",
            ValueSchema::Number { least: 200, most: 599, default: 200 },
            "The HTTP status of the answer that the policy decides; 200 if it allows.",
        ),
    ],
);

/// Returns the JSON Schema of a file of tests.
pub fn schema() -> Value {
    FILE.document("tests.schema.json", "mcp-authz policy tests")
}

/// The contents of a file of tests.
#[derive(Debug)]
pub struct Suite {
    /// The policy file or directory.
    pub policy: PathBuf,
    /// The cases in the order of the file.
    pub cases: Vec<Case>,
}

/// A request and the decision that the case expects.
#[derive(Debug)]
pub struct Case {
    /// The name of the case, which says what the case shows.
    pub name: String,
    /// The place of the case in the file.
    pub place: Position,
    head: Head,
    caller: Option<Caller>,
    body: Vec<u8>,
    expected: Expected,
}

#[derive(Debug)]
enum Caller {
    Claims(Map<String, Value>),
    Token(String),
}

#[derive(Debug)]
struct Expected {
    decision: &'static str,
    scopes: Option<Vec<String>>,
    rule: Option<Option<String>>,
    reason: Option<String>,
    status: Option<usize>,
}

/// Loads a file of tests.
///
/// # Errors
/// All mistakes in the file.
pub fn load(path: &Path) -> Result<Suite, LoadError> {
    let source = files::read_one(path).map_err(|problems| LoadError(problems.into_sorted("")))?;
    let mut problems = Diagnostics::new(source.file);
    let documents = yaml::parse(&source.text, &mut problems);
    let suite =
        documents.nodes.first().and_then(|first| suite(&Item::root(first), path, &mut problems));
    if let [_, second, ..] = documents.nodes.as_slice() {
        problems.add(second.place, "", "a second document: one is all that is read");
    } else if documents.is_complete && documents.nodes.is_empty() {
        problems.add(Position::START, "", "the file is empty");
    }
    let findings: Vec<Diagnostic> = problems.into_sorted(&source.text);
    suite.filter(|_| findings.is_empty()).ok_or(LoadError(findings))
}

fn suite(root: &Item<'_>, path: &Path, problems: &mut Diagnostics) -> Option<Suite> {
    let fields = root.fields(&FILE, problems)?;
    let policy = fields.required("policy", problems).and_then(|item| item.string(problems));
    let items = fields.required("tests", problems).and_then(|item| item.items(problems));
    let items = items.unwrap_or_default();
    let cases: Vec<Option<Case>> = items.iter().map(|item| case(item, problems)).collect();
    let policy = path.parent().unwrap_or(Path::new("")).join(policy?);
    Some(Suite { policy, cases: cases.into_iter().collect::<Option<_>>()? })
}

fn case(item: &Item<'_>, problems: &mut Diagnostics) -> Option<Case> {
    let fields = item.fields(&CASE, problems)?;
    let name = fields.required("name", problems).and_then(|item| item.string(problems));
    let caller = fields.get("caller").map(|item| caller(&item, problems));
    let body = match (fields.get("call"), fields.get("body")) {
        (Some(call), None) => call_body(&call, problems),
        (None, Some(body)) => body.any_text(problems).and_then(|mut texts| texts.pop()),
        (Some(call), Some(second)) => {
            second.problem(problems, "`body` stands for a whole `call`: give one of them");
            call_body(&call, problems).and(second.any_text(problems)?.pop())
        }
        (None, None) => {
            if !fields.has_unclear_key() {
                item.problem(problems, "expected `call` or `body`");
            }
            None
        }
    };
    let expected = fields.required("expect", problems).and_then(|item| expected(&item, problems));
    let headers = pairs(&fields, "headers", problems);
    let attributes = pairs(&fields, "attributes", problems);
    let mut text = |key| fields.get(key).and_then(|item| item.string(problems));
    let (method, policy) = (text("method"), text("policyName"));
    let mut text = |key| fields.get(key).and_then(|item| item.any_text(problems)?.pop());
    let head = Head {
        method: method.unwrap_or_else(|| "POST".to_owned()).into(),
        host: text("host").into(),
        path: text("path").unwrap_or_else(|| "/mcp".to_owned()).into(),
        has_body: body.as_ref().is_some_and(|body| !body.is_empty()),
        headers: headers
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.into_bytes()))
            .collect(),
        attributes,
        policy,
        traceparent: None,
    };
    let head = head.with_usual_headers().on_route(text("route").as_deref());
    let caller = match caller {
        Some(caller) => Some(caller?),
        None => None,
    };
    let (place, body) = (item.place(), body?.into_bytes());
    Some(Case { name: name?, place, head, caller, body, expected: expected? })
}

fn caller(item: &Item<'_>, problems: &mut Diagnostics) -> Option<Caller> {
    let fields = item.fields(&CALLER, problems)?;
    let (scope_item, claim_item) = (fields.get("scopes"), fields.get("claims"));
    let token_item = fields.get("token");
    let scopes = scope_item.as_ref().map(|item| item.texts(problems));
    let claims = claim_item.as_ref().map(|item| item.object(problems));
    let token = token_item.as_ref().map(|item| item.string(problems));
    if let (Some(item), Some(token)) = (&token_item, token) {
        if scopes.is_some() || claims.is_some() {
            item.problem(problems, "a token has its own scopes and claims: give it alone");
        }
        let token = token?;
        if let Err(error) = Claims::from_unverified_token(&token) {
            item.problem(problems, format!("not a JSON Web Token: {error}"));
        }
        return Some(Caller::Token(token));
    }
    if scopes.is_none() && claims.is_none() && !fields.has_unclear_key() {
        item.problem(problems, "expected `scopes`, `claims` or `token`");
    }
    let mut all = claims.unwrap_or_else(|| Some(Map::new()))?;
    if let (Some(item), Some(scopes)) = (&scope_item, scopes)
        && all.insert("scope".to_owned(), json!(scopes?.join(" "))).is_some()
    {
        item.problem(problems, "the claims have a `scope` already: give one of them");
    }
    Some(Caller::Claims(all))
}

/// Returns the body of a request that makes a call.
fn call_body(item: &Item<'_>, problems: &mut Diagnostics) -> Option<String> {
    const CALLS: [(&str, &str, &str, Option<&str>); 4] = [
        ("tool", "tools/call", "name", Some("arguments")),
        ("prompt", "prompts/get", "name", Some("arguments")),
        ("resource", "resources/read", "uri", None),
        ("method", "", "", Some("params")),
    ];

    let fields = item.fields(&CALL, problems)?;
    let mut given = CALLS.into_iter().filter_map(|call| Some((call, fields.get(call.0)?)));
    let object = |key, problems: &mut Diagnostics| match fields.get(key) {
        Some(item) => item.object(problems).map(Some),
        None => Some(None),
    };
    let [arguments, params, meta] =
        ["arguments", "params", "meta"].map(|key| object(key, problems));
    let Some(((key, method, name_key, object_key), name)) = given.next() else {
        if !fields.has_unclear_key() {
            item.problem(problems, format!("expected {}", one_of(CALL.one_of)));
        }
        return None;
    };
    for ((second, ..), item) in given {
        item.problem(
            problems,
            format!("a call is of one thing, and `{key}` is one already, beside `{second}`"),
        );
    }
    for unfit in ["arguments", "params"] {
        if let Some(item) = fields.get(unfit)
            && object_key != Some(unfit)
        {
            item.problem(problems, format!("`{unfit}` has no meaning with `{key}`"));
        }
    }
    let name = name.string(problems)?;
    let meta = meta?;
    let arguments = match object_key {
        Some("arguments") => arguments?,
        Some(_) => params?,
        None => None,
    };
    let (method, mut params) = match method {
        "" => (name, arguments.unwrap_or_default()),
        method => {
            let mut params = Map::from_iter([(name_key.to_owned(), json!(name))]);
            if let (Some(arguments), Some(key)) = (arguments, object_key) {
                params.insert(key.to_owned(), Value::Object(arguments));
            }
            (method.to_owned(), params)
        }
    };
    if let Some(meta) = meta {
        params.insert("_meta".to_owned(), Value::Object(meta));
    }
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    Some(call.to_string())
}

/// Reads a mapping of names to one or several values. Returns a pair for each value.
fn pairs(fields: &MappingRef<'_>, key: &str, problems: &mut Diagnostics) -> Vec<(String, String)> {
    let Some(item) = fields.get(key) else { return Vec::new() };
    let mut pairs = Vec::new();
    for (key, item) in item.entries(problems).unwrap_or_default() {
        let values = if item.is_list() { item.texts(problems) } else { item.any_text(problems) };
        pairs.extend(values.into_iter().flatten().map(|value| (key.as_str().to_owned(), value)));
    }
    pairs
}

fn expected(item: &Item<'_>, problems: &mut Diagnostics) -> Option<Expected> {
    let fields = item.fields(&EXPECT, problems)?;
    let decision = fields
        .required("decision", problems)
        .and_then(|item| item.word(&[(ALLOW, ALLOW), (DENY, DENY)], problems));
    let scopes = fields.get("scopes").map(|item| item.texts(problems));
    let rule = fields.get("rule").map(|item| {
        if item.node().is_null() { Some(None) } else { item.string(problems).map(Some) }
    });
    let reason = fields.get("reason").and_then(|item| item.string(problems));
    let status = fields.get("status").and_then(|item| item.number(200..=599, problems));
    Some(Expected {
        decision: decision?,
        scopes: scopes.flatten(),
        rule: rule.flatten(),
        reason,
        status,
    })
}

impl Case {
    /// Decides this request with a gate, and passes the decision to `look`. The first argument of
    /// `look` is an error if the gate refused the request by its headers alone.
    pub fn ask<T>(
        &self,
        gate: &Gate,
        look: impl FnOnce(Result<&AdmittedRequest, &EarlyDecision>, &RequestDecision<'_, '_>) -> T,
    ) -> T {
        let mut head = self.head.clone();
        let verified = match (&gate.claims_from, &self.caller) {
            (_, None) => None,
            (ClaimsFrom::Metadata { .. }, Some(Caller::Claims(claims))) => {
                Some(Claims::from_json(claims))
            }
            // The loader has decoded this token without an error.
            (ClaimsFrom::Metadata { .. }, Some(Caller::Token(token))) => {
                Claims::from_unverified_token(token).ok()
            }
            (ClaimsFrom::AuthorizationHeader, Some(caller)) => {
                let bearer = format!("Bearer {}", caller.token());
                head.headers.push((Header::Authorization.name().to_owned(), bearer.into_bytes()));
                None
            }
        };
        match gate.admit(head, verified) {
            Ok(admitted) => look(Ok(&admitted), &gate.authorize(&admitted, &self.body)),
            Err(turned_away) => look(Err(&turned_away), &turned_away.judgement),
        }
    }
}

impl Caller {
    /// Returns a token with the claims of this caller. The token has no valid signature.
    fn token(&self) -> String {
        match self {
            Self::Token(token) => token.clone(),
            Self::Claims(claims) => {
                let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
                let (header, claims) = (part(json!({"alg": "none"})), part(json!(claims)));
                format!("{header}.{claims}.AAAA")
            }
        }
    }
}
