//! The callers that a rule matches.

use super::Reading;
use crate::claims::Claims;
use crate::config::Location;
use crate::config::decode::Item;
use crate::config::problem::{Diagnostics, Lint};
use crate::config::scopes::{Stars, route_scopes, scopes};
use crate::config::shape::{MappingSchema, ValueSchema, field};
use crate::policy::{ClaimType, ClaimValue, Dialect, Glob, RequiredClaim};
use serde_json::Value as Json;

const CLAIM_TYPES: [(&str, ClaimType); 2] =
    [("String", ClaimType::String), ("StringArray", ClaimType::StringArray)];

pub(super) static SOURCE: MappingSchema = MappingSchema::new(
    "Who calls.",
    &[field("jwt", ValueSchema::Mapping(&JWT), "What the caller's token says.").required()],
);

static JWT: MappingSchema = MappingSchema {
    any_of: &["scopes", "claims"],
    ..MappingSchema::new(
        "What the caller's token says.",
        &[
            field(
                "scopes",
                ValueSchema::Scopes { may_be_empty: false },
                "All of these are granted, by the claims `scope` and `scp` (RFC 6749, section 3.3).",
            ),
            field("claims", ValueSchema::Mappings(&CLAIM), "All of these hold."),
        ],
    )
};

static CLAIM: MappingSchema = MappingSchema::new(
    "A claim of the caller's token.",
    &[
        field("name", ValueSchema::Text, "The claim; a dotted path leads into objects.").required(),
        field("valueType", ValueSchema::Word(&[CLAIM_TYPES[0].0, CLAIM_TYPES[1].0]), "String: a single value, one of `values`. StringArray: a list with one of them, or a single one.").required(),
        field("values", ValueSchema::Scalars, "One of these: strings, in which `*` stands for any characters, booleans or numbers, compared with their type.").required(),
    ],
);

/// The scopes and claims that a rule requires of a caller.
#[derive(Default)]
pub(super) struct Source {
    pub(super) scopes: Vec<String>,
    pub(super) spots: Vec<Location>,
    pub(super) claims: Vec<RequiredClaim>,
}

impl Reading<'_> {
    /// Reads the scopes and claims that a caller must have.
    pub(super) fn source(&mut self, item: &Item<'_>) -> Source {
        let source = self.fields(item, &SOURCE);
        let jwt = source.and_then(|source| source.required("jwt", self.problems));
        let Some(jwt) = jwt else { return Source::default() };
        let Some(fields) = self.fields(&jwt, &JWT) else { return Source::default() };
        let (mut scope_item, mut claim_item) = (fields.get("scopes"), fields.get("claims"));
        let problems = &mut *self.problems;
        if self.dialect == Dialect::McpRoute {
            // An empty list counts as omitted if the other list has items.
            let has_other =
                |item: &Option<Item<'_>>| item.as_ref().is_some_and(|item| !item.is_empty_list());
            let (has_scopes, has_claims) = (has_other(&scope_item), has_other(&claim_item));
            for (list, has_other) in [(&mut scope_item, has_claims), (&mut claim_item, has_scopes)]
            {
                if let Some(item) = list.take_if(|item| has_other && item.is_empty_list()) {
                    let message = "an empty list requires nothing: name one, or remove the key";
                    item.lint(Lint::NoEffect, problems, message);
                }
            }
        }
        if scope_item.is_none() && claim_item.is_none() && !fields.has_unclear_key() {
            jwt.problem(problems, "expected `scopes`, `claims` or both");
        }
        let (scopes, spots) = match (&scope_item, self.dialect) {
            (None, _) => Default::default(),
            (Some(item), Dialect::Native) => scopes(item, Stars::Refused, problems),
            (Some(item), Dialect::McpRoute) => route_scopes(item, problems),
        };
        let claims = claim_item.map(|item| self.claims(&item)).unwrap_or_default();
        Source { scopes, spots, claims }
    }

    fn claims(&mut self, item: &Item<'_>) -> Vec<RequiredClaim> {
        let items = item.items(self.problems).unwrap_or_default();
        items.iter().filter_map(|item| self.claim(item)).collect()
    }

    fn claim(&mut self, item: &Item<'_>) -> Option<RequiredClaim> {
        let fields = self.fields(item, &CLAIM)?;
        let problems = &mut *self.problems;
        let name_item = fields.required("name", problems);
        let name = name_item.as_ref().and_then(|item| item.string(problems));
        let value_type = match (fields.get("valueType"), self.dialect) {
            (None, Dialect::McpRoute) => Some(ClaimType::String),
            _ => fields
                .required("valueType", problems)
                .and_then(|item| item.word(&CLAIM_TYPES, problems)),
        };
        let values = fields.required("values", problems).and_then(|item| match self.dialect {
            Dialect::Native => {
                let items = item.items(problems)?;
                Some(items.iter().filter_map(|item| claim_value(item, problems)).collect())
            }
            // An empty list is a mistake in an `MCPRoute`, too, but an empty value is not.
            Dialect::McpRoute => {
                item.items(problems)?;
                let values = item.any_strings(problems)?.into_iter();
                Some(values.map(|(text, _)| ClaimValue::String(text)).collect())
            }
        });
        if let (Some(item), Some(name)) = (&name_item, &name) {
            check_name(item, name, self.dialect, problems);
        }
        let dialect = self.dialect;
        Some(RequiredClaim { name: name?, dialect, value_type: value_type?, values: values? })
    }
}

/// Reports a name that a required claim cannot have, and warns of one that no token has.
fn check_name(item: &Item<'_>, name: &str, dialect: Dialect, problems: &mut Diagnostics) {
    match dialect {
        Dialect::McpRoute if name != "scope" && RequiredClaim::is_of_scopes(name) => {
            let message = format!(
                "`{name}` holds scopes, which are no claims here, so no token has it and the rule \
                 never matches: require them with `scopes`"
            );
            item.lint(Lint::NoEffect, problems, message);
        }
        _ if Claims::SCOPE_CLAIMS.contains(&name) => {
            item.problem(problems, format!("`{name}` holds scopes: require them with `scopes`"));
        }
        Dialect::Native if name.contains('*') => {
            let message = format!(
                "`*` is no pattern in the name of a claim, and `{name}` has one: write the claim's \
                 whole path, and patterns in `values`"
            );
            item.problem(problems, message);
        }
        Dialect::Native | Dialect::McpRoute => {}
    }
}

/// Reads a value of a claim: a string, perhaps with stars, a boolean or a number.
fn claim_value(item: &Item<'_>, problems: &mut Diagnostics) -> Option<ClaimValue> {
    match item.scalar_value(problems)? {
        Json::String(text) if text.contains('*') => Some(ClaimValue::Pattern(Glob::new(text))),
        Json::String(text) => Some(ClaimValue::String(text)),
        Json::Bool(value) => Some(ClaimValue::Bool(value)),
        Json::Number(number) => {
            let value = ClaimValue::number(number.as_f64().unwrap_or(f64::NAN));
            if value.is_none() {
                let message = "a number beyond ±(2^53 − 1) equals no claim: readers round it \
                               differently";
                item.problem(problems, message);
            }
            value
        }
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}
