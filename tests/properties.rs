//! Properties of every policy, token and call.

use mcp_authz::claims::Claims;
use mcp_authz::config;
use mcp_authz::gate::Gate;
use mcp_authz::head::Head;
use mcp_authz::mcp::TargetKind;
use mcp_authz::policy::{Backend, Budget, CallTarget, EvalContext, Grants, Visibility};
use proptest::prelude::*;
use serde_json::json;

const SCOPES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Which scope implies which, if there is a hierarchy.
const IMPLIES: [(usize, &[usize]); 2] = [(0, &[1]), (2, &[0, 3])];
/// A condition with what it says of a call with `{"n": 1}` by a caller who is
/// granted these scopes.
type Condition = (&'static str, fn(&[usize]) -> Option<bool>);
const CONDITIONS: [Condition; 10] = [
    ("args.n == 1", |_| Some(true)),
    ("args.n == 2", |_| Some(false)),
    ("args.missing == 1", |_| None),
    ("args.missing == 1 || args.n == 1", |_| Some(true)),
    ("request.auth.jwt.claims.tenant == 't'", |_| Some(true)),
    ("request.auth.jwt.claims.tenant == 'u'", |_| Some(false)),
    ("'a' in request.auth.jwt.scopes", |granted| Some(granted.contains(&0))),
    ("!('b' in request.auth.jwt.scopes)", |granted| Some(!granted.contains(&1))),
    ("'c' in request.auth.jwt.scopes && args.missing == 1", |granted| {
        if granted.contains(&2) { None } else { Some(false) }
    }),
    ("request.headers['x-missing'] == 'd' || 'd' in request.auth.jwt.scopes", |granted| {
        granted.contains(&3).then_some(true)
    }),
];
/// Those before do not read scopes.
const FIRST_OVER_SCOPES: usize = 6;

#[derive(Debug, Clone)]
struct Rule {
    allow: bool,
    scopes: Vec<usize>,
    /// Tool (0 is the one that is called) and condition.
    targets: Option<Vec<(usize, Option<usize>)>>,
    cel: Option<usize>,
    /// A claim that holds, or one that does not.
    claim: Option<bool>,
}

/// Rules with the first so many conditions.
fn rule(conditions: usize) -> impl Strategy<Value = Rule> {
    let scopes = prop::sample::subsequence((0..SCOPES.len()).collect::<Vec<_>>(), 0..=3);
    let condition = move |weight| prop::option::weighted(weight, 0..conditions);
    let target = (0..2usize, condition(0.5));
    let targets = prop::option::weighted(0.8, prop::collection::vec(target, 1..4));
    let claim = prop::option::weighted(0.2, any::<bool>());
    (any::<bool>(), scopes, targets, condition(0.3), claim).prop_map(
        |(allow, scopes, targets, cel, claim)| Rule { allow, scopes, targets, cel, claim },
    )
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    prop_oneof![
        prop::collection::vec(rule(FIRST_OVER_SCOPES), 1..8),
        prop::collection::vec(rule(CONDITIONS.len()), 1..8),
    ]
}

/// The settings around the rules of a policy.
#[derive(Debug, Clone, Copy)]
struct Around {
    default_allow: bool,
    hierarchy: bool,
    condition_errors: &'static str,
}

fn around() -> impl Strategy<Value = Around> {
    let condition_errors = prop::sample::select(vec!["Deny", "NoMatch", "DenyAny"]);
    (any::<bool>(), any::<bool>(), condition_errors).prop_map(
        |(default_allow, hierarchy, condition_errors)| Around {
            default_allow,
            hierarchy,
            condition_errors,
        },
    )
}

fn gate(rules: &[Rule], around: Around) -> Gate {
    let condition = |number: usize| CONDITIONS[number].0.to_owned();
    config::parse(&policy(rules, around, condition)).unwrap()
}

/// The backend of all tools.
const BACKEND: &str = "b";

/// A file of rules whose conditions have these texts: an MCPRoute, where each rule denies if its
/// condition cannot be evaluated, or else a policy.
fn policy(rules: &[Rule], around: Around, condition: impl Fn(usize) -> String) -> String {
    let action = |allow| if allow { "Allow" } else { "Deny" };
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| {
            let mut json = json!({"action": action(rule.allow)});
            if !rule.scopes.is_empty() {
                let scopes: Vec<_> = rule.scopes.iter().map(|&scope| SCOPES[scope]).collect();
                json["source"]["jwt"]["scopes"] = json!(scopes);
            }
            if let Some(holds) = rule.claim {
                let value = if holds { "t" } else { "u" };
                json["source"]["jwt"]["claims"] =
                    json!([{"name": "tenant", "valueType": "String", "values": [value]}]);
            }
            if let Some(cel) = rule.cel {
                json["cel"] = json!(condition(cel));
            }
            if let Some(targets) = &rule.targets {
                let targets: Vec<_> = targets
                    .iter()
                    .map(|&(tool, when)| match when {
                        Some(when) => {
                            json!({"backend": BACKEND, "tool": format!("t{tool}"), "when": condition(when)})
                        }
                        None => json!({"backend": BACKEND, "tool": format!("t{tool}")}),
                    })
                    .collect();
                json["target"] = json!({"tools": targets});
            }
            json
        })
        .collect();
    let mut settings = json!({"backend": {"name": BACKEND}});
    if around.hierarchy {
        let names = |scopes: &[usize]| scopes.iter().map(|&n| SCOPES[n]).collect::<Vec<_>>();
        for (broader, narrower) in IMPLIES {
            settings["scopeHierarchy"][SCOPES[broader]] = json!(names(narrower));
        }
    }
    let (rules, default_action) = (json!(rules), action(around.default_allow));
    if around.condition_errors == "DenyAny" {
        let authorization = json!({"defaultAction": default_action, "rules": rules});
        let route = json!({
            "apiVersion": "aigateway.envoyproxy.io/v1alpha1",
            "kind": "MCPRoute",
            "metadata": {"name": "p"},
            "spec": {
                "backendRefs": [{"name": BACKEND}],
                "securityPolicy": {"authorization": authorization},
            },
        });
        return format!("{}\n---\n{route}", json!({"mcpRouteDefaults": settings}));
    }
    let mut policy = settings;
    policy["name"] = json!("p");
    policy["rules"] = rules;
    policy["defaultAction"] = json!(default_action);
    policy["conditionErrors"] = json!(around.condition_errors);
    json!({"policies": [policy]}).to_string()
}

/// `Ok` if the call is allowed, otherwise the scopes of the challenge.
fn ask(gate: &Gate, granted: &[usize]) -> Result<(), Option<Vec<String>>> {
    let scopes: Vec<_> = granted.iter().map(|&scope| SCOPES[scope]).collect();
    let claims = Claims::from_json(json!({"scope": scopes, "tenant": "t"}).as_object().unwrap());
    let admitted = gate
        .admit(
            Head { path: "/mcp".into(), has_body: true, ..Head::default() }.with_usual_headers(),
            Some(claims),
        )
        .unwrap();
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t0","arguments":{"n":1}}}"#;
    match gate.authorize(&admitted, body).answer {
        Ok(_) => Ok(()),
        Err(refusal) => Err(refusal.www_authenticate.map(|_| refusal.required_scopes)),
    }
}

/// The rules' meaning, in the words of the documentation: the effect of a rule on the call of a
/// caller with these scopes, apart from the scopes that the rule requires. `Some(true)` allows.
fn effect(rule: &Rule, around: Around, granted: &[usize]) -> Option<bool> {
    let said = |condition: &Option<usize>| {
        condition.map_or(Some(true), |condition| CONDITIONS[condition].1(granted))
    };
    let targets: Vec<Option<bool>> = match &rule.targets {
        None => vec![Some(true)],
        Some(targets) => {
            targets.iter().filter(|(tool, _)| *tool == 0).map(|(_, when)| said(when)).collect()
        }
    };
    let own = said(&rule.cel);
    if rule.claim == Some(false) {
        return None;
    }
    let matches = own == Some(true) && targets.contains(&Some(true));
    let is_false = own == Some(false) || !targets.iter().any(|said| *said != Some(false));
    let error_denies = match around.condition_errors {
        "DenyAny" => true,
        "Deny" => !rule.allow,
        _ => false,
    };
    match matches {
        true => Some(rule.allow),
        false if !is_false && error_denies => Some(false),
        false => None,
    }
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

/// The effect of the first rule that applies.
fn allowed(rules: &[Rule], around: Around, granted: &[usize]) -> bool {
    let closed = closed(granted, around);
    let mut effects = rules.iter().filter_map(|rule| {
        let is_granted = rule.scopes.iter().all(|scope| closed.contains(scope));
        effect(rule, around, granted).filter(|_| is_granted)
    });
    effects.next().unwrap_or(around.default_allow)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_challenge_is_there_exactly_if_scopes_help_and_names_those_that_do(
        rules in rules(),
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
        // It is all that one rule asks for which takes the call then, and stands
        // before whatever denied it and still would. None such asks for less. Only
        // if there is none, it is what any other rule asks for.
        let decides = |rule: &Rule, token: &[usize], allows: bool| {
            let has = closed(token, around);
            rule.scopes.iter().all(|scope| has.contains(scope))
                && effect(rule, around, token) == Some(allows)
        };
        let is_enough = |index: usize| {
            let token = with(&rules[index].scopes);
            let denies =
                |rule: &Rule| decides(rule, &granted, false) && decides(rule, &token, false);
            allowed(&rules, around, &token)
                && decides(&rules[index], &token, true)
                && !rules[..index].iter().any(denies)
        };
        let by_itself: Vec<&Rule> = (0..rules.len())
            .filter(|&index| rules[index].allow && is_enough(index))
            .map(|index| &rules[index])
            .collect();
        let candidates = if by_itself.is_empty() { flips } else { by_itself };
        let smallest = candidates.iter().min_by_key(|rule| rule.scopes.len());
        prop_assert_eq!(Some(&named), smallest.map(|rule| &rule.scopes));
    }
}

/// A condition whose value is up to an argument of its own, which is `true`, `false` or
/// missing, or to what is known, or to both.
const OPEN_CONDITIONS: [&str; 8] = [
    "args.V",
    "!args.V",
    "'a' in request.auth.jwt.scopes",
    "request.auth.jwt.claims.tenant == 'u'",
    "request.auth.jwt.claims.missing == 1 && args.V",
    "request.auth.jwt.claims.missing == 1 || args.V",
    "request.auth.jwt.claims.tenant == 't' ? args.V : request.auth.jwt.claims.missing",
    "'b' in request.auth.jwt.scopes || meta.V == true && args.V",
];
/// The largest number of conditions that may each read an argument; an argument has three values.
const MOST_ARGUMENTS: usize = 5;

/// The rules with conditions that read different arguments, so that none depends on
/// another. Answers how many.
fn open(rules: &[Rule], around: Around) -> (Gate, usize) {
    let text = policy(rules, around, |condition| format!("@{condition}@"));
    let (mut text, mut arguments) = (text, 0);
    for (number, condition) in OPEN_CONDITIONS.iter().enumerate() {
        let placeholder = format!("@{number}@");
        while text.contains(&placeholder) {
            let argument = format!("args.v{arguments}");
            let condition = match condition.contains("args.V") {
                true if arguments < MOST_ARGUMENTS => condition.replace("args.V", &argument),
                true => "true".to_owned(),
                false => (*condition).to_owned(),
            };
            arguments += usize::from(condition.contains(&argument));
            text = text.replacen(&placeholder, &condition, 1);
        }
    }
    (config::parse(&text).unwrap(), arguments)
}

/// Calls a tool with every combination of arguments, and returns the results.
fn ask_all(gate: &Gate, granted: &[&str], arguments: usize) -> Vec<Result<(), Vec<String>>> {
    let claims = Claims::from_json(json!({"scope": granted, "tenant": "t"}).as_object().unwrap());
    let admitted = gate
        .admit(
            Head { path: "/mcp".into(), has_body: true, ..Head::default() }.with_usual_headers(),
            Some(claims),
        )
        .unwrap();
    let values = |mut combination: usize| {
        let mut object = serde_json::Map::new();
        for number in 0..arguments {
            let value = combination % 3;
            combination /= 3;
            if value < 2 {
                object.insert(format!("v{number}"), (value == 0).into());
            }
        }
        object
    };
    let combinations = 3_usize.pow(u32::try_from(arguments).unwrap());
    let mut answers = Vec::new();
    for meta in [json!({}), json!({"V": true})] {
        answers.extend((0..combinations).map(|combination| {
            let params = json!({"name": "t0", "arguments": values(combination), "_meta": meta});
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
            let answer = gate.authorize(&admitted, body.to_string().as_bytes()).answer;
            answer.map(|_| ()).map_err(|refusal| refusal.required_scopes)
        }));
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// A tool is permitted if some call is allowed. Otherwise it is reachable if a challenge's
    /// scopes would allow one, and closed if not.
    #[test]
    fn a_tool_is_listed_if_some_call_of_it_is_allowed(
        rules in prop::collection::vec(rule(OPEN_CONDITIONS.len()), 1..6),
        around in around(),
        granted in prop::sample::subsequence(SCOPES.to_vec(), 0..=3),
    ) {
        let (gate, arguments) = open(&rules, around);
        let claims = json!({"scope": granted, "tenant": "t"});
        let claims = Claims::from_json(claims.as_object().unwrap());
        let (head, budget) = (Head::default(), Budget::of(10_000));
        let policy = &gate.policies[0];
        let subject = CallTarget::plain(Backend::Named(BACKEND), TargetKind::Tool, "t0");
        let facts = EvalContext::new(policy.dialect, &head, Some(&claims), &subject, &budget);
        let answers = ask_all(&gate, &granted, arguments);
        let is_allowed = answers.iter().any(Result::is_ok);
        let challenged: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        match policy.visibility(&facts, &Grants::of(policy, Some(&claims))) {
            Visibility::Permitted => prop_assert!(is_allowed),
            Visibility::Reachable(scopes) => {
                prop_assert!(!is_allowed);
                prop_assert!(challenged.iter().any(|challenge| *challenge == scopes));
                let more = [granted.clone(), scopes.iter().map(String::as_str).collect()].concat();
                prop_assert!(ask_all(&gate, &more, arguments).iter().any(Result::is_ok));
            }
            Visibility::Closed => {
                prop_assert!(!is_allowed);
                prop_assert!(challenged.iter().all(|challenge| challenge.is_empty()));
            }
        }
    }
}
