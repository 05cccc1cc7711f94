//! The limits of a policy file.

use super::decode::Item;
use super::problem::Diagnostics;
use super::shape::{MappingSchema, ValueSchema, field};
use crate::gate::Limits;

pub(super) const DEFAULT_LIMITS: Limits = Limits {
    max_body_bytes: 4 << 20,
    max_body_parts: 16_384,
    max_header_bytes: 64 << 10,
    max_json_depth: 64,
    condition_cost: 10_000,
};
/// The most bytes of a body. The gate buffers bodies in memory, for many requests at once.
pub(crate) const LARGEST_BODY: usize = 1 << 30;
/// The most levels of nested JSON. The reader recurses once for each level.
const DEEPEST_JSON: usize = 512;
/// The most bytes of headers: 8 MiB, more than Envoy accepts.
const LARGEST_HEAD: usize = 8 << 20;
/// The most steps of all conditions for a request. This many steps take several seconds.
const LARGEST_CONDITION_COST: usize = 10_000_000;

pub(super) static LIMITS: MappingSchema = MappingSchema::new(
    "What a request may cost.",
    &[
        field(
            "maxBodyBytes",
            ValueSchema::Number {
                least: 1,
                most: LARGEST_BODY,
                default: DEFAULT_LIMITS.max_body_bytes,
            },
            "Larger bodies are refused with 413.",
        ),
        field(
            "maxBodyParts",
            ValueSchema::Number {
                least: 1,
                most: LARGEST_BODY,
                default: DEFAULT_LIMITS.max_body_parts,
            },
            "Bodies that Envoy sends in more parts (FULL_DUPLEX_STREAMED) are refused with 413.",
        ),
        field(
            "maxHeaderBytes",
            ValueSchema::Number {
                least: 1,
                most: LARGEST_HEAD,
                default: DEFAULT_LIMITS.max_header_bytes,
            },
            "Requests of whose head Envoy sends more bytes are refused with 431.",
        ),
        field(
            "maxJsonDepth",
            ValueSchema::Number {
                least: 4,
                most: DEEPEST_JSON,
                default: DEFAULT_LIMITS.max_json_depth,
            },
            "Bodies nested deeper are refused with 400.",
        ),
        field(
            "conditionCost",
            ValueSchema::Number {
                least: 1,
                most: LARGEST_CONDITION_COST,
                default: DEFAULT_LIMITS.condition_cost,
            },
            "How many steps all conditions may take for a request. Once they are spent, conditions \
             fail: Allow rules do not match, and Deny rules deny.",
        ),
    ],
);

/// Reads limits. Omitted limits have their defaults.
pub(super) fn limits(item: &Item<'_>, problems: &mut Diagnostics) -> Option<Limits> {
    let fields = item.fields(&LIMITS, problems)?;
    let mut number = |key, range, default| match fields.get(key) {
        Some(item) => item.number(range, problems),
        None => Some(default),
    };
    let max_body_bytes = number("maxBodyBytes", 1..=LARGEST_BODY, DEFAULT_LIMITS.max_body_bytes);
    let max_body_parts = number("maxBodyParts", 1..=LARGEST_BODY, DEFAULT_LIMITS.max_body_parts);
    let max_header_bytes =
        number("maxHeaderBytes", 1..=LARGEST_HEAD, DEFAULT_LIMITS.max_header_bytes);
    let max_json_depth = number("maxJsonDepth", 4..=DEEPEST_JSON, DEFAULT_LIMITS.max_json_depth);
    let condition_cost =
        number("conditionCost", 1..=LARGEST_CONDITION_COST, DEFAULT_LIMITS.condition_cost);
    Some(Limits {
        max_body_bytes: max_body_bytes?,
        max_body_parts: max_body_parts?,
        max_header_bytes: max_header_bytes?,
        max_json_depth: max_json_depth?,
        condition_cost: condition_cost?,
    })
}
