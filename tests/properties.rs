//! What must hold of every policy, token and call.

use mcp_authz::claims::Claims;
use mcp_authz::config;
use mcp_authz::gate::Gate;
use mcp_authz::head::Head;
use proptest::prelude::*;
use serde_json::json;

const SCOPES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Which scope implies which, if there is a hierarchy.
const IMPLIES: [(usize, &[usize]); 2] = [(0, &[1]), (2, &[0, 3])];
/// Conditions with what they say of a call with `{"n": 1}`.
const CONDITIONS: [(&str, Option<bool>); 4] = [
    ("args.n == 1", Some(true)),
    ("args.n == 2", Some(false)),
    ("args.missing == 1", None),
    ("args.missing == 1 || args.n == 1", Some(true)),
];

#[derive(Debug, Clone)]
struct Rule {
    allow: bool,
    scopes: Vec<usize>,
    /// Tool (0 is the one that is called) and condition.
    targets: Option<Vec<(usize, Option<usize>)>>,
}

fn rule() -> impl Strategy<Value = Rule> {
    let scopes = prop::sample::subsequence((0..SCOPES.len()).collect::<Vec<_>>(), 0..=3);
    let target = (0..2usize, prop::option::of(0..CONDITIONS.len()));
    let targets = prop::option::weighted(0.8, prop::collection::vec(target, 1..4));
    (any::<bool>(), scopes, targets).prop_map(|(allow, scopes, targets)| Rule {
        allow,
        scopes,
        targets,
    })
}

/// What surrounds the rules.
#[derive(Debug, Clone, Copy)]
struct Around {
    default_allow: bool,
    hierarchy: bool,
    errors_deny: bool,
}

fn around() -> impl Strategy<Value = Around> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(default_allow, hierarchy, errors_deny)| Around { default_allow, hierarchy, errors_deny },
    )
}

fn gate(rules: &[Rule], around: Around) -> Gate {
    let action = |allow| if allow { "Allow" } else { "Deny" };
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| {
            let mut json = json!({"action": action(rule.allow)});
            if !rule.scopes.is_empty() {
                let scopes: Vec<_> = rule.scopes.iter().map(|&scope| SCOPES[scope]).collect();
                json["source"] = json!({"jwt": {"scopes": scopes}});
            }
            if let Some(targets) = &rule.targets {
                let targets: Vec<_> = targets
                    .iter()
                    .map(|&(tool, condition)| match condition {
                        Some(condition) => {
                            json!({"tool": format!("t{tool}"), "when": CONDITIONS[condition].0})
                        }
                        None => json!({"tool": format!("t{tool}")}),
                    })
                    .collect();
                json["target"] = json!({"tools": targets});
            }
            json
        })
        .collect();
    let mut policy = json!({
        "name": "p",
        "rules": rules,
        "defaultAction": action(around.default_allow),
        "conditionErrors": if around.errors_deny { "Deny" } else { "NoMatch" },
    });
    if around.hierarchy {
        let names = |scopes: &[usize]| scopes.iter().map(|&n| SCOPES[n]).collect::<Vec<_>>();
        for (broader, narrower) in IMPLIES {
            policy["scopeHierarchy"][SCOPES[broader]] = json!(names(narrower));
        }
    }
    config::parse(&json!({"policies": [policy]}).to_string()).unwrap()
}

/// `Ok` if the call is allowed, otherwise the scopes of the challenge.
fn ask(gate: &Gate, granted: &[usize]) -> Result<(), Option<Vec<String>>> {
    let scopes: Vec<_> = granted.iter().map(|&scope| SCOPES[scope]).collect();
    let claims = Claims::from_json(json!({"scope": scopes}).as_object().unwrap());
    let admitted = gate.admit(Head::default(), Some(claims)).unwrap();
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t0","arguments":{"n":1}}}"#;
    match gate.judge(&admitted, body).answer {
        Ok(_) => Ok(()),
        Err(refusal) => Err(refusal.www_authenticate.map(|_| refusal.required_scopes)),
    }
}

/// The rules' meaning, in the words of the documentation: what a rule makes of
/// the call, apart from its scopes.
fn takes(rule: &Rule, around: Around) -> bool {
    let Some(targets) = &rule.targets else {
        return true;
    };
    let said: Vec<Option<bool>> = targets
        .iter()
        .filter(|(tool, _)| *tool == 0)
        .map(|(_, condition)| condition.map_or(Some(true), |condition| CONDITIONS[condition].1))
        .collect();
    let matches = said.contains(&Some(true));
    matches || (!rule.allow && around.errors_deny && said.contains(&None))
}

/// Scopes with all that they imply.
fn closed(scopes: &[usize], around: Around) -> Vec<usize> {
    let mut closed = scopes.to_vec();
    if !around.hierarchy {
        return closed;
    }
    loop {
        let before = closed.len();
        for (broader, narrower) in IMPLIES {
            if closed.contains(&broader) {
                closed.extend(
                    narrower.iter().filter(|scope| !closed.contains(scope)).collect::<Vec<_>>(),
                );
            }
        }
        if closed.len() == before {
            return closed;
        }
    }
}

/// The rule that decides, if one does.
fn decider(rules: &[Rule], around: Around, granted: &[usize]) -> Option<usize> {
    let granted = closed(granted, around);
    rules.iter().position(|rule| {
        rule.scopes.iter().all(|scope| granted.contains(scope)) && takes(rule, around)
    })
}

fn allowed(rules: &[Rule], around: Around, granted: &[usize]) -> bool {
    decider(rules, around, granted).map_or(around.default_allow, |index| rules[index].allow)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_challenge_is_there_exactly_if_scopes_help_and_names_those_that_do(
        rules in prop::collection::vec(rule(), 1..8),
        around in around(),
        granted in prop::sample::subsequence((0..SCOPES.len()).collect::<Vec<_>>(), 0..=3),
    ) {
        let gate = gate(&rules, around);
        let answer = ask(&gate, &granted);
        prop_assert_eq!(answer.is_ok(), allowed(&rules, around, &granted));
        let Err(challenge) = answer else { return Ok(()) };

        // Every set of scopes of an Allow rule that flips the denial.
        let with = |scopes: &[usize]| [granted.as_slice(), scopes].concat();
        let flips: Vec<&Rule> = rules
            .iter()
            .filter(|rule| rule.allow && allowed(&rules, around, &with(&rule.scopes)))
            .collect();
        prop_assert_eq!(challenge.is_some(), !flips.is_empty(), "there is a challenge iff scopes help");
        let Some(challenge) = challenge else { return Ok(()) };

        let named: Vec<usize> = challenge
            .iter()
            .map(|name| SCOPES.iter().position(|scope| scope == name).unwrap())
            .collect();
        prop_assert!(allowed(&rules, around, &with(&named)), "granting them flips it");
        prop_assert_eq!(ask(&gate, &with(&named)), Ok(()));
        // It is all that one rule asks for which would then allow the call: a
        // client may get a token with just these. None such asks for less.
        let end = decider(&rules, around, &granted).unwrap_or(rules.len());
        let flipping = |rule: &&Rule| {
            rule.allow && takes(rule, around) && allowed(&rules, around, &with(&rule.scopes))
        };
        let smallest = rules[..end].iter().filter(flipping).min_by_key(|rule| rule.scopes.len());
        prop_assert_eq!(Some(&named), smallest.map(|rule| &rule.scopes));
    }
}
