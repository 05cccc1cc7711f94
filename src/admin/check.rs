//! Checks of requests: the response that a gate would give, and its reasons.

use std::fmt;

use crate::claims::Claims;
use crate::gate::{
    AdmittedRequest, ClaimsFrom, EarlyDecision, Gate, RefusalCause, RequestDecision,
};
use crate::head::{Head, Header, PseudoHeader};
use crate::mcp::TargetKind;
use crate::policy::{
    Action, ConditionTrace, OutcomeSet, RequiredClaim, RuleTrace, Selector, TargetTrace,
    Unselectable,
};
use crate::proto::{self, v1};
use crate::record::Record;
use v1::check_request::Caller;
use v1::condition_trace::Outcome;

/// The reason why a request cannot be checked.
#[derive(Debug)]
pub enum CheckError {
    /// A token that is not a JSON Web Token.
    NotAToken(jsonwebtoken::errors::Error),
    /// Claims, although the policies read a token.
    ClaimsNotRead,
    /// A missing part of the request by which policies are selected.
    NotGiven(Selector),
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAToken(error) => write!(f, "token: not a JSON Web Token: {error}"),
            Self::ClaimsNotRead => f.write_str(
                "claims: the policy says `jwt.from: authorizationHeader`; give a token instead",
            ),
            Self::NotGiven(Selector::Host) => f.write_str(
                "host: policies are selected by host (match.hosts): give the host of the request",
            ),
            Self::NotGiven(Selector::Path) => f.write_str(
                "path: policies are selected by path (match.pathPrefixes): give the path of the \
                 request",
            ),
            Self::NotGiven(Selector::Route) => f.write_str(
                "route: policies are selected by route (match.routes): give the attribute \
                 xds.route_name, which is empty for a route without a name",
            ),
        }
    }
}

impl std::error::Error for CheckError {}

/// Returns the response that a gate would give.
///
/// # Errors
/// If the caller is not clear, or the request omits a part by which policies are selected.
pub fn answer(gate: &Gate, request: v1::CheckRequest) -> Result<v1::CheckResponse, CheckError> {
    let v1::CheckRequest { http_method, host, path, headers, body, attributes, policy, caller } =
        request;
    let mut headers: Vec<(String, Vec<u8>)> = headers
        .into_iter()
        .map(|v1::Header { name, value }| (name.to_ascii_lowercase(), value))
        .collect();
    let claims = match (&gate.claims_from, caller) {
        (_, None) => None,
        // These claims replace those that Envoy would have verified.
        (ClaimsFrom::Metadata { .. }, Some(Caller::Claims(claims))) => {
            Some(Claims::new(proto::object(claims)))
        }
        (ClaimsFrom::Metadata { .. }, Some(Caller::Token(token))) => {
            Some(Claims::from_unverified_token(&token).map_err(CheckError::NotAToken)?)
        }
        (ClaimsFrom::AuthorizationHeader, Some(Caller::Claims(_))) => {
            return Err(CheckError::ClaimsNotRead);
        }
        (ClaimsFrom::AuthorizationHeader, Some(Caller::Token(token))) => {
            headers
                .push((Header::Authorization.name().to_owned(), format!("Bearer {token}").into()));
            None
        }
    };
    let head = Head {
        method: given(http_method),
        host: given(host),
        path: given(path),
        has_body: !body.is_empty(),
        headers,
        attributes: attributes.into_iter().collect(),
        policy: (!policy.is_empty()).then_some(policy),
        traceparent: None,
    }
    .with_usual_headers();
    if let Err(Unselectable::NotSent(selector)) = gate.select(&head) {
        return Err(CheckError::NotGiven(selector));
    }
    Ok(match gate.admit(head, claims) {
        Ok(admitted) => judged(gate, &admitted, &gate.authorize(&admitted, &body)),
        Err(turned_away) => self::turned_away(gate, &turned_away),
    })
}

/// Returns a pseudo-header. An empty value counts as missing.
fn given(value: String) -> PseudoHeader {
    Some(value).filter(|value| !value.is_empty()).into()
}

/// Returns the decision about a request, explained rule by rule.
pub fn judged(
    gate: &Gate,
    admitted: &AdmittedRequest,
    judgement: &RequestDecision<'_, '_>,
) -> v1::CheckResponse {
    let mut response = response(Record::judged(gate, admitted, judgement), judgement);
    if let Some(judged) = judgement.deciding_call()
        && let Ok(subject) = admitted.subject(&judged.call)
    {
        let facts = admitted.facts(&subject);
        response.rules = judged.evaluation.explain(&facts).into_iter().map(rule).collect();
    }
    response
}

/// Returns the refusal of a request that the gate refused by its headers alone.
pub fn turned_away(gate: &Gate, turned_away: &EarlyDecision) -> v1::CheckResponse {
    response(Record::turned_away(gate, turned_away), &turned_away.judgement)
}

fn response(record: Record, judgement: &RequestDecision<'_, '_>) -> v1::CheckResponse {
    let refusal = judgement.refusal();
    let challenge = refusal.and_then(|refusal| refusal.www_authenticate.clone());
    v1::CheckResponse {
        undecided: matches!(record.blame, Some(RefusalCause::Request | RefusalCause::Operator)),
        decision: Some(record.decision),
        www_authenticate: challenge.unwrap_or_default(),
        body: refusal.map(|refusal| refusal.content().body).unwrap_or_default(),
        rules: Vec::new(),
        filters_response: judgement
            .answer
            .as_ref()
            .is_ok_and(|clearance| clearance.obligation().is_some()),
    }
}

fn rule(rule: RuleTrace<'_>) -> v1::RuleTrace {
    let RuleTrace { label, action, decided, targets, cel, claims, scopes, missing_scopes } = rule;
    let action = match action {
        Action::Allow => "Allow",
        Action::Deny => "Deny",
    };
    let claim = |(claim, holds): (&RequiredClaim, OutcomeSet)| v1::ClaimTrace {
        name: claim.name.clone(),
        values: claim.values.iter().map(ToString::to_string).collect(),
        holds: holds == OutcomeSet::TRUE,
        error: if holds.failure { "it is of another type".to_owned() } else { String::new() },
    };
    v1::RuleTrace {
        rule: label,
        action: action.to_owned(),
        decided,
        every_call: targets.is_none(),
        targets: targets.into_iter().flatten().map(target).collect(),
        claims: claims.into_iter().map(claim).collect(),
        required_scopes: scopes.to_vec(),
        missing_scopes: missing_scopes.into_iter().map(str::to_owned).collect(),
        cel: cel.map(condition),
    }
}

fn target(found: TargetTrace<'_>) -> v1::TargetTrace {
    let TargetTrace { backend, feature, name, selected, is_backend_known, when } = found;
    let mut target = v1::TargetTrace {
        backend: backend.unwrap_or_default().to_owned(),
        selected: selected && is_backend_known,
        when: when.map(condition),
        error: if is_backend_known {
            String::new()
        } else {
            "the header that names the backend is missing".to_owned()
        },
        ..v1::TargetTrace::default()
    };
    *match feature {
        TargetKind::Tool => &mut target.tool,
        TargetKind::Prompt => &mut target.prompt,
        TargetKind::Resource | TargetKind::ResourceTemplate => &mut target.resource,
        TargetKind::Method => &mut target.method,
    } = name.to_owned();
    target
}

fn condition(ConditionTrace { source, outcome }: ConditionTrace<'_>) -> v1::ConditionTrace {
    let outcome = outcome.map(|outcome| match outcome {
        Ok(value) => Outcome::Value(value),
        Err(error) => Outcome::Error(error),
    });
    v1::ConditionTrace { condition: source.to_owned(), outcome }
}
