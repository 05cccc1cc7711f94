use super::*;
use crate::config;
use crate::mcp::Listing;

/// {"scope":"a"} and {"scope":"b"}, signed by nobody.
const A: &str = "Bearer eyJhbGciOiJub25lIn0.eyJzY29wZSI6ImEifQ.AAAA";
const B: &str = "Bearer eyJhbGciOiJub25lIn0.eyJzY29wZSI6ImIifQ.AAAA";

fn gate(from: &str) -> Gate {
    let text = format!("jwt: {{from: {from}}}\npolicies: [{{name: p, rules: [{{action: Deny}}]}}]");
    config::parse(&text).unwrap()
}

/// The scopes that a request with these `Authorization` headers is granted.
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
    // A reader could take either.
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

/// Where methods are judged a list is a call, and filtered all the same.
#[test]
fn a_list_is_filtered_wherever_it_may_go_on() {
    let list = |enforce: &str, settings: &str, method: &str| {
        let rules = "[{action: Allow}]";
        let text = format!(
            "policies: [{{name: p, enforce: {enforce}, {settings}, batches: Authorize, rules: {rules}}}]"
        );
        let gate = config::parse(&text).unwrap();
        let head = Head { method: "POST".into(), has_body: true, ..Head::default() };
        let admitted = gate.admit(head, None).unwrap();
        let message = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}"}}"#);
        let alone = gate.judge(&admitted, message.as_bytes());
        let obligation = alone.answer.unwrap().obligation().cloned();
        let batch = format!("[{message}]");
        let in_batch = gate.judge(&admitted, batch.as_bytes()).answer;
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
            ("toolsList: Permitted", "tools/list", Some(Listing::Tools)),
            ("toolsList: Permitted", "prompts/list", None),
            ("promptsList: Reachable", "prompts/list", Some(Listing::Prompts)),
            ("resourcesList: Permitted", "resources/list", Some(Listing::Resources)),
            (
                "resourcesList: Permitted",
                "resources/templates/list",
                Some(Listing::ResourceTemplates),
            ),
            ("resourcesList: Permitted", "tools/list", None),
            ("toolsList: Permitted, enforcement: Shadow", "tools/list", None),
        ] {
            assert_eq!(list(enforce, settings, method), listing, "{enforce} {settings} {method}");
        }
    }
}
