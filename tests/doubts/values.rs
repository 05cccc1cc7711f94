//! Arguments, claims, scopes and headers: repeated, mistyped, imprecise or unreadable.

use serde_json::{Value, json};

use super::{Doubt, NOT_UTF8, any_condition, read_arguments, read_claims, set_header, with};
use crate::choices::Choices;
use crate::model::condition::{Condition, Term};
use crate::model::generate::{HEADER, TOKEN_SCOPES, argument_values, claim_values, claims};
use crate::model::{Policy, Request};

fn set_argument(request: &Request, name: &'static str, value: Option<&str>) -> Request {
    with(request, |request| {
        request.arguments.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        request.arguments.extend(value.map(|value| (name, value.to_owned())));
    })
}

fn all_arguments(request: &Request, name: &'static str) -> Vec<Request> {
    let values = argument_values(name);
    values.iter().map(|value| set_argument(request, name, Some(value))).collect()
}

pub fn mistyped_argument(
    choices: &mut Choices<'_>,
    policies: &[Policy],
    request: &Request,
) -> Doubt {
    let name = choices.pick(&read_arguments(policies));
    // No object stands for a list, since `in` looks for a key in it, and no null for an element,
    // since `in` passes over it.
    let value = choices.pick(match name {
        "n" => &["\"5\"", "true", "null", "[5]", "{\"n\":5}", "\"\""][..],
        "f" => &["\"true\"", "\"false\"", "1", "null", "[true]", "{\"f\":true}"],
        "s" => &["1", "true", "null", "[\"production\"]", "{\"s\":\"production\"}"],
        "l" => &["\"drop\"", "\"[\\\"drop\\\"]\"", "null", "5", "[[\"drop\"]]", "[7,true]"],
        _ => &[
            "\"{\\\"m\\\":true}\"",
            "[{\"m\":true}]",
            "null",
            "true",
            "{\"m\":\"true\"}",
            "{\"m\":null}",
            "{\"m\":1}",
        ],
    });
    let tests_presence = any_condition(
        policies,
        |condition| matches!(condition, Condition::HasArgument(tested) if *tested == name),
    );
    let tests_null = any_condition(policies, |condition| {
        let is_null = matches!(condition, Condition::Equal(_, literal) if literal.is_null());
        is_null && condition.terms().contains(&Term::Argument(name))
    });
    let mut readings = all_arguments(request, name);
    if !tests_presence && !tests_null {
        readings.push(set_argument(request, name, None));
    }
    Doubt::new("mistyped argument", set_argument(request, name, Some(value)), readings)
        .exempt_if(tests_null && value == "null")
}

/// Gives a list an element of another type.
pub fn mistyped_element(
    choices: &mut Choices<'_>,
    policies: &[Policy],
    request: &Request,
) -> Doubt {
    const KIND: &str = "mistyped element";
    let element = choices.pick(&["7", "true", "[\"drop\",\"banned\"]", "{\"drop\":true}"]);
    if read_arguments(policies).contains(&"l") && choices.percent(50) {
        let set = |list: &str| set_argument(request, "l", Some(list));
        let readings = ["[\"read\"]", "[\"read\",\"drop\"]", "[\"read\",\"x\"]"].map(set).into();
        return Doubt::new(KIND, set(&format!("[\"read\",{element}]")), readings);
    }
    let set = |list: &str| {
        let list = serde_json::from_str(list).expect("JSON");
        set_claim(request, "groups", Some(list))
    };
    let texts = ["[\"staff\"]", "[\"staff\",\"banned\"]", "[\"temp-1\",\"staff\"]"];
    Doubt::new(KIND, set(&format!("[{element},\"staff\"]")), texts.map(set).into())
}

pub fn imprecise_argument(choices: &mut Choices<'_>, _: &[Policy], request: &Request) -> Doubt {
    const IMPRECISE: [&str; 8] = [
        "5.0000000000000000001",
        "9007199254740992",
        "9007199254740993",
        "-9007199254740993",
        "18446744073709551617",
        "1e300",
        "9007199254740992.0",
        "123456789012345678901234567890",
    ];
    const FIVE: [&str; 5] = ["5.0", "5e0", "50e-1", "0.5E+1", "5.000"];
    if choices.percent(70) {
        let request_with = set_argument(request, "n", Some(choices.pick(&IMPRECISE)));
        return Doubt::new("imprecise argument", request_with, all_arguments(request, "n"));
    }
    let request_with = set_argument(request, "n", Some(choices.pick(&FIVE)));
    Doubt::new("spelled number", request_with, vec![set_argument(request, "n", Some("5"))])
}

pub fn repeated_argument(
    choices: &mut Choices<'_>,
    policies: &[Policy],
    request: &Request,
) -> Doubt {
    let name = choices.pick(&read_arguments(policies));
    let values = argument_values(name);
    let [one, other] = [(); 2].map(|()| values[choices.below(values.len())].as_str());
    let mut readings = vec![set_argument(request, name, Some(other))];
    let (second_name, kind) = match name {
        _ if choices.percent(50) => (name, "repeated argument"),
        "n" => ("N", "argument in capitals"),
        "f" => ("F", "argument in capitals"),
        "s" => ("S", "argument in capitals"),
        "l" => ("L", "argument in capitals"),
        _ => ("O", "argument in capitals"),
    };
    let first = choices.percent(50).then_some(one);
    readings.push(set_argument(request, name, first));
    let mut request = set_argument(request, name, first);
    request.arguments.push((second_name, other.to_owned()));
    if first.is_none() && second_name == name {
        readings.pop();
    }
    Doubt::new(kind, request, readings)
}

fn set_claim(request: &Request, name: &str, value: Option<Value>) -> Request {
    with(request, |request| {
        let claims = request.claims.get_or_insert_default();
        match value {
            Some(value) => claims.insert(name.to_owned(), value),
            None => claims.remove(name),
        };
    })
}

pub fn mistyped_claim(choices: &mut Choices<'_>, policies: &[Policy], request: &Request) -> Doubt {
    let name = choices.pick(&read_claims(policies));
    let values = match name {
        "level" => json!(["1", true, null, [1], {"level": 1}, 9_007_199_254_740_993_i64, 1e300]),
        "suspended" => json!(["true", "false", 1, null, [true], {"suspended": true}]),
        "status" => json!([true, 1, null, ["suspended"], {"status": "suspended"}]),
        "groups" => json!([true, null, {"banned": true}, [["banned"]], [7, true], 7]),
        _ => json!(["red", ["red"], null, {"team": true}, {"team": null}, {"team": ["red"]}, 7]),
    };
    let values = values.as_array().expect("a list");
    let value = values[choices.below(values.len())].clone();
    let values = claim_values(name).into_iter().map(Some).chain([None]);
    let readings = values.map(|value| set_claim(request, name, value)).collect();
    let looks_for_key = value.is_object()
        && any_condition(
            policies,
            |condition| matches!(condition, Condition::Contains(Term::Claim(claim), _) if *claim == name),
        );
    Doubt::new("mistyped claim", set_claim(request, name, Some(value)), readings)
        .exempt_if(looks_for_key)
}

pub fn unclear_scopes(choices: &mut Choices<'_>, _: &[Policy], request: &Request) -> Doubt {
    const SPACES: [&str; 6] = ["\t", "\n", "\r\n", "\u{a0}", "\u{2003}", "\u{3000}"];
    let [one, two, three] = [(); 3].map(|()| choices.pick(&TOKEN_SCOPES));
    let space = choices.pick(&SPACES);
    let texts = |texts: &[String]| texts.iter().cloned().map(Value::from).collect::<Vec<_>>();
    let split =
        [format!("{one} {two} {three}"), format!("{one} {three}"), format!("{two} {three}")];
    let split = texts(&[&split[..], &[three.to_owned()]].concat());
    let around = texts(&[format!("{three} {one}"), three.to_owned()]);
    let any = TOKEN_SCOPES.map(str::to_owned);
    let any = texts(&[&any[..], &[String::new(), format!("{one} {two}")]].concat());
    let lists = vec![json!([one, two, three]), json!([three])];
    let in_star = texts(&[format!("tenant-{one} {two}:admin {three}"), three.to_owned()]);
    let (kind, scope, readings) = match choices.below(10) {
        0 | 1 => ("scopes at white space", json!(format!("{one}{space}{two} {three}")), split),
        2 => ("scopes at white space", json!(format!("{three} {space}{one}")), around),
        8 => {
            let scope = json!(format!("tenant-{one}{space}{two}:admin {three}"));
            ("scopes at white space", scope, in_star)
        }
        9 => {
            let scope = json!([format!("tenant-{one} {two}:admin"), three]);
            ("scopes in an element", scope, in_star)
        }
        3 => ("scopes in an element", json!([format!("{one} {two}"), three]), lists),
        4 => ("scopes in an element", json!([format!("{one}{space}{two}"), three]), lists),
        5 => ("mistyped scopes", json!([[one], three]), lists),
        6 => ("mistyped scopes", json!({one: true}), any),
        _ => ("mistyped scopes", choices.pick(&[7, 0]).into(), any),
    };
    let readings = readings.into_iter().map(|scope| set_claim(request, "scope", Some(scope)));
    let readings = readings.collect();
    Doubt::new(kind, set_claim(request, "scope", Some(scope)), readings)
}

pub fn header_doubt(choices: &mut Choices<'_>, _: &[Policy], request: &Request) -> Doubt {
    let [one, other] = [(); 2].map(|()| choices.pick(&["test", "production"]).as_bytes());
    let single = |value: &[u8]| set_header(request, HEADER, &[value]);
    if choices.percent(30) {
        let readings = [&b"test"[..], b"production", b"github"].map(single).into();
        return Doubt::new("unreadable header", single(NOT_UTF8), readings);
    }
    let joined = [one, b", ", other].concat();
    let readings = vec![single(one), single(other), single(&joined)];
    Doubt::new("repeated header", set_header(request, HEADER, &[one, other]), readings)
}

/// Adds a payload beside that of the token: either may be meant.
pub fn second_payload(choices: &mut Choices<'_>, _: &[Policy], request: &Request) -> Doubt {
    let set = |claims| {
        with(request, |request| {
            request.has_second_payload = false;
            request.claims = claims;
        })
    };
    let readings = vec![set(request.claims.clone()), set(None), set(Some(claims(choices)))];
    let doubtful = with(request, |request| request.has_second_payload = true);
    Doubt::new("second payload", doubtful, readings)
}
