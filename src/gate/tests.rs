use super::*;
use crate::config;
use crate::mcp::ListKind;

/// Tokens with {"scope":"a"} and {"scope":"b"}, without a valid signature.
const A: &str = "Bearer eyJhbGciOiJub25lIn0.eyJzY29wZSI6ImEifQ.AAAA";
const B: &str = "Bearer eyJhbGciOiJub25lIn0.eyJzY29wZSI6ImIifQ.AAAA";

fn gate(from: &str) -> Gate {
    let text = format!("jwt: {{from: {from}}}\npolicies: [{{name: p, rules: [{{action: Deny}}]}}]");
    config::parse(&text).unwrap()
}

/// Returns the scopes that a request with these `Authorization` headers is granted.
fn granted(gate: &Gate, authorization: &[&str], verified: Option<Claims>) -> Option<Vec<String>> {
    let header = |value: &&str| ("authorization".to_owned(), value.as_bytes().to_vec());
    let head = Head { headers: authorization.iter().map(header).collect(), ..Head::default() };
    let admitted = gate.admit(head, verified).unwrap();
    admitted.claims.map(|claims| claims.scopes().map(str::to_owned).collect())
}

#[test]
fn the_request_s_own_token_counts_only_if_it_is_the_only_one() {
    let gate = gate("authorizationHeader");
    let scopes = |authorization: &[&str]| granted(&gate, authorization, None);
    assert_eq!(scopes(&[A]), Some(vec!["a".to_owned()]));
    let lower = B.replace("Bearer", "bearer");
    let two_spaces = B.replace("Bearer", "Bearer ");
    let two_tokens = format!("{A}, {B}");
    for none in
        [[].as_slice(), &["Bearer x"], &["Basic eA=="], &[&lower], &[&two_spaces], &[&two_tokens]]
    {
        assert_eq!(scopes(none), None, "{none:?}");
    }
    // A reader could use either header.
    for several in [[A, B], [A, A], ["Basic eA==", B]] {
        let header = |value: &str| ("authorization".to_owned(), value.as_bytes().to_vec());
        let head = Head { headers: several.map(header).to_vec(), ..Head::default() };
        let turned_away = gate.admit(head, None).unwrap_err();
        let refusal = turned_away.judgement.refusal().unwrap();
        assert_eq!((refusal.status, refusal.reason), (400, "repeated_authorization"));
    }
}

#[test]
fn one_source_of_claims_is_never_replaced_by_the_other() {
    let verified = || Claims::from_unverified_token(B.trim_start_matches("Bearer ")).ok();
    let b = Some(vec!["b".to_owned()]);
    assert_eq!(granted(&gate("metadata"), &[A], None), None);
    assert_eq!(granted(&gate("metadata"), &[A], verified()), b);
    assert_eq!(granted(&gate("authorizationHeader"), &[], verified()), None);
}

#[test]
fn a_charset_other_than_utf8_is_found_however_it_is_written() {
    for utf8 in [
        "",
        "application/json",
        "application/json; charset=utf-8",
        "a;CHARSET = \"UTF-8\"",
        "a; x=y",
    ] {
        assert!(!is_not_utf8(utf8.as_bytes()), "{utf8}");
    }
    for other in [
        "a;charset=utf-7",
        "a; charset=\"utf-16\"",
        "a; charset",
        "a; charset=",
        "a; charset*=utf-8",
        "a; charset=utf-8; charset=x",
        "a, b; charset=gbk",
        "a; charset='utf-8'",
    ] {
        assert!(is_not_utf8(other.as_bytes()), "{other}");
    }
}

/// Tests that a list request is a call where rules decide about methods, and is still filtered.
#[test]
fn a_list_is_filtered_wherever_it_may_go_on() {
    let list = |enforce: &str, settings: &str, method: &str| {
        let rules = "[{action: Allow}]";
        let text = format!(
            "policies: [{{name: p, enforce: {enforce}, {settings}, batches: Authorize, rules: {rules}}}]"
        );
        let gate = config::parse(&text).unwrap();
        let head =
            Head { method: "POST".into(), has_body: true, ..Head::default() }.with_usual_headers();
        let admitted = gate.admit(head, None).unwrap();
        let message = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}"}}"#);
        let alone = gate.authorize(&admitted, message.as_bytes());
        let obligation = alone.answer.unwrap().obligation().cloned();
        let batch = format!("[{message}]");
        let in_batch = gate.authorize(&admitted, batch.as_bytes()).answer;
        let reason = in_batch.err().map(|refusal| refusal.reason);
        let listing = obligation.map(|obligation| {
            let Obligation::FilterList { listing, id } = obligation else {
                panic!("{obligation:?}")
            };
            assert_eq!(id.as_ref().map(RequestId::as_json), Some("7"));
            listing
        });
        assert_eq!(reason, listing.map(|_| "list_in_batch"), "{enforce} {settings} {method}");
        listing
    };
    let all = "[tools, prompts, resources]";
    let methods = "[tools, prompts, resources, methods]";
    for enforce in [all, methods] {
        for (settings, method, listing) in [
            ("toolsList: Permitted", "tools/list", Some(ListKind::Tools)),
            ("toolsList: Permitted", "prompts/list", None),
            ("promptsList: Reachable", "prompts/list", Some(ListKind::Prompts)),
            ("resourcesList: Permitted", "resources/list", Some(ListKind::Resources)),
            (
                "resourcesList: Permitted",
                "resources/templates/list",
                Some(ListKind::ResourceTemplates),
            ),
            ("resourcesList: Permitted", "tools/list", None),
            ("toolsList: Permitted, enforcement: Shadow", "tools/list", None),
        ] {
            assert_eq!(list(enforce, settings, method), listing, "{enforce} {settings} {method}");
        }
    }
}

/// Tests a message without any header. Every client sends some, so Envoy must have withheld them.
#[test]
fn message_without_headers_is_misconfiguration() {
    const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#;
    const MODERN: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t",
        "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let gate = config::parse("policies: [{name: p, rules: [{action: Allow}]}]").unwrap();
    let answer = |method: &str, headers: &[&str], body: &str| {
        let headers = headers.iter().map(|&name| (name.to_owned(), b"x".to_vec())).collect();
        let head = Head { method: method.into(), has_body: true, headers, ..Head::default() };
        let admitted = gate.admit(head, None).unwrap();
        let judgement = gate.authorize(&admitted, body.as_bytes());
        judgement.answer.err().map(|refusal| {
            let id = refusal.id.as_ref().map(|id| id.as_json().to_owned());
            assert_eq!(refusal.hint.is_some(), refusal.status == 500);
            (refusal.status, refusal.code, id)
        })
    };
    let seven = || Some("7".to_owned());
    let of_envoy = Some((500, -32603, seven()));
    assert_eq!(answer("POST", &[], CALL), of_envoy);
    assert_eq!(answer("POST", &[], MODERN), of_envoy);
    assert_eq!(answer("POST", &["x-request-id", "authorization"], CALL), of_envoy);
    assert_eq!(answer("POST", &["accept"], CALL), None);
    assert_eq!(answer("POST", &["content-type"], CALL), None);
    // The client omits a header that its version requires, but sends others.
    assert_eq!(answer("POST", &["accept"], MODERN), Some((400, -32020, seven())));
    // A request with another HTTP method holds no MCP message, and neither does a body that is not
    // JSON.
    assert_eq!(answer("PUT", &[], CALL), None);
    assert_eq!(answer("POST", &[], "{"), Some((400, -32700, None)));
}

#[test]
fn headers_that_envoy_sends_are_those_that_are_read() {
    let headers = |more: &str| {
        let text = format!("policies: [{{name: p, rules: [{{action: Deny}}]{more}}}]");
        let gate = config::parse(&text).unwrap();
        gate.headers().unwrap().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let plain = headers("");
    for header in Header::ALL.iter().filter(|header| **header != Header::Authorization) {
        assert!(plain.iter().any(|name| name == header.name()), "{header:?}");
    }
    let absent = |name: &str| !plain.iter().any(|found| found == name);
    assert!(absent("authorization") && absent(":status") && absent("x-backend"));
    for (more, name) in [
        (
            ", unauthenticated: Challenge, resourceMetadataURL: https://example.com/x",
            "authorization",
        ),
        (", toolsList: Permitted", ":status"),
        (", backend: {header: X-Backend}", "x-backend"),
    ] {
        assert!(headers(more).iter().any(|found| found == name), "{more}");
    }
}

/// Returns the reason and the scopes of a denial.
fn denied(policy: &str, token: Option<&str>, body: &str) -> (&'static str, Option<Vec<String>>) {
    let gate = config::parse(&format!("jwt: {{from: authorizationHeader}}\n{policy}")).unwrap();
    let header = |token: &str| ("authorization".to_owned(), token.as_bytes().to_vec());
    let headers = token.map(header).into_iter().collect();
    let head = Head { method: "POST".into(), has_body: true, headers, ..Head::default() };
    let admitted = gate.admit(head.with_usual_headers(), None).unwrap();
    let judgement = gate.authorize(&admitted, body.as_bytes());
    let decision = &judgement.deciding_call().unwrap().evaluation.decision;
    let scopes = decision.permit().unwrap_err();
    (decision.reason().as_str(), scopes.map(<[String]>::to_vec))
}

const CALL: &str =
    r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{"a":0}}}"#;

#[test]
fn search_for_scopes_ends_within_budget() {
    let rules = |cel: &str| -> String {
        let rule = |n| {
            format!("  - {{action: Allow, source: {{jwt: {{scopes: [s{n}]}}}}, cel: '{cel}'}}\n")
        };
        (0..100).map(rule).collect()
    };
    let of_another_tool = "  - {action: Deny, target: {tools: [{tool: other}]}, \
                           cel: '\"s\" in request.auth.jwt.scopes'}\n";
    for (rules, enough, too_few) in [
        // Conditions that are evaluated again with each scope.
        (rules("\"other\" in request.auth.jwt.scopes"), 50_000, 100),
        // All rules share one condition, so the remaining cost is one check per rule and scope.
        (rules("args.a == 1") + of_another_tool, 1000, 50),
    ] {
        let with = |steps: usize| {
            let policy = format!(
                "limits: {{conditionCost: {steps}}}\npolicies:\n- name: p\n  rules:\n{rules}"
            );
            denied(&policy, Some(A), CALL)
        };
        assert_eq!(with(enough), ("deny_default", None));
        assert_eq!(with(too_few), ("condition_cost", None));
    }
}

#[test]
fn spent_budget_still_finds_unconditional_scopes() {
    let list = vec!["1"; 1000].join(",");
    let body = CALL.replace(r#"{"a":0}"#, &format!(r#"{{"l":[{list}]}}"#));
    let policy = "limits: {conditionCost: 100}\npolicies:\n- name: p\n  rules:\n  \
                  - {action: Allow, cel: 'args.l.all(x, x == 2)'}\n";
    assert_eq!(denied(policy, Some(A), &body), ("condition_cost", None));
    let more = "  - {action: Allow, source: {jwt: {scopes: [c]}}}\n";
    let found = denied(&format!("{policy}{more}"), Some(A), &body);
    assert_eq!(found, ("insufficient_scope", Some(vec!["c".to_owned()])));
}

#[test]
fn source_that_differs_leaves_arguments_unread() {
    let body = CALL.replace(r#"{"a":0}"#, r#"{"a":[[],[],{"b":1}]}"#);
    for (source, reads) in [
        ("{claims: [{name: sub, valueType: String, values: [x]}]}", false),
        ("{claims: [{name: tenant, valueType: String, values: [x]}], scopes: [c]}", false),
        // The gate must read the arguments to know that these scopes suffice.
        ("{scopes: [c]}", true),
        ("{scopes: [a]}", true),
    ] {
        let policy = format!(
            "jwt: {{from: authorizationHeader}}\npolicies:\n- name: p\n  rules:\n  \
             - {{action: Allow, source: {{jwt: {source}}}, cel: 'args.a == []'}}\n"
        );
        let gate = config::parse(&policy).unwrap();
        let headers = vec![("authorization".to_owned(), A.as_bytes().to_vec())];
        let head = Head { method: "POST".into(), has_body: true, headers, ..Head::default() };
        let admitted = gate.admit(head.with_usual_headers(), None).unwrap();
        let judgement = gate.authorize(&admitted, body.as_bytes());
        assert!(judgement.answer.is_err());
        let arguments = &judgement.calls[0].call.parameters.arguments;
        assert_eq!(arguments.is_read(), reads, "{source}");
    }
}
