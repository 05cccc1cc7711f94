//! Conditions: what compiles can be evaluated over whatever a client sends.

#![no_main]

mod arguments;
mod expression;

use libfuzzer_sys::fuzz_target;
use mcp_authz::claims::Claims;
use mcp_authz::head::Head;
use mcp_authz::mcp::{self, Accept, Call, Message, MirroredHeaders};
use mcp_authz::policy::condition::Outcome;
use mcp_authz::policy::{Backend, Budget, CallTarget, Condition, Dialect, EvalContext};

use arguments::Arguments;
use expression::Expression;

/// As a policy has them that says nothing else.
const STEPS: usize = 10_000;
const ACCEPT: Accept = Accept { max_depth: 512, batches: false, ..Accept::USUAL };

#[derive(Debug, arbitrary::Arbitrary)]
struct Input {
    arguments: Arguments,
    is_route: bool,
    expression: Expression,
}

fuzz_target!(|input: Input| {
    let Input { arguments, is_route, expression } = input;
    let source = expression.0;
    let dialect = if is_route { Dialect::McpRoute } else { Dialect::Native };
    let condition = match Condition::compile(&source, dialect) {
        Ok(condition) => condition,
        Err(errors) => {
            assert!(!errors.is_empty());
            assert!(errors.iter().all(|error| error.offset <= source.len()), "{errors:?}");
            return;
        }
    };
    assert!(condition.suspicions().iter().all(|suspicion| suspicion.error.offset <= source.len()));

    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","arguments":{},"_meta":{}}}}}"#,
        arguments.args, arguments.meta
    );
    let said = || {
        let message = mcp::read(body.as_bytes(), &MirroredHeaders::default(), ACCEPT);
        let Ok(Message::Calls(calls)) = message else { return None };
        Some(evaluate(&condition, dialect, &calls[0]))
    };
    assert_eq!(said(), said(), "`{source}` over {body}");
});

/// The outcome of a condition, without reasons: an error may name one of several.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    True,
    False,
    Failed,
    Ambiguous,
}

fn evaluate(condition: &Condition, dialect: Dialect, call: &Call<'_>) -> Said {
    let claims = serde_json::json!({"scope": "a b", "sub": "s", "groups": ["g"], "n": 1});
    let claims = claims.as_object().map(Claims::from_json);
    let headers = vec![("x-a".to_owned(), b"1".to_vec()), ("x-a".to_owned(), vec![0xff])];
    let head = Head { headers, ..Head::default() };
    let budget = Budget::of(STEPS);
    let subject = CallTarget::plain(Backend::Named("b"), call.feature, call.name.as_ref());
    let facts = EvalContext::new(dialect, &head, claims.as_ref(), &subject, &budget);
    match condition.evaluate(call, &facts) {
        Ok(Outcome::True) => Said::True,
        Ok(Outcome::False) => Said::False,
        Ok(Outcome::Failed(_)) => Said::Failed,
        Err(_) => Said::Ambiguous,
    }
}
