//! White space in `scope`, and scope hierarchies with a star.

use serde_json::{Value, json};

use super::{Allowed, Case, Challenged, Denied, Rejected, Request, check, tool};

const WHITE_SPACE: &str = r#"
policies:
- name: p
  scopeHierarchy: {"repo:admin": ["repo:read"]}
  rules:
  - {action: Deny, source: {jwt: {scopes: [guest]}}, target: {tools: [{tool: guests}]}}
  - {action: Deny, source: {jwt: {scopes: [guest, trial]}}, target: {tools: [{tool: both}]}}
  - {action: Deny, source: {jwt: {scopes: ["repo:read"]}}, target: {tools: [{tool: implied}]}}
  - action: Deny
    target: {tools: [{tool: guests_by_condition}]}
    cel: '"guest" in request.auth.jwt.scopes'
  - action: Deny
    target: {tools: [{tool: unless_mfa}]}
    cel: '!("mfa" in request.auth.jwt.scopes)'
  - action: Allow
    target:
      tools: [{tool: guests}, {tool: both}, {tool: implied}, {tool: guests_by_condition}, {tool: unless_mfa}]
  - {action: Allow, source: {jwt: {scopes: [admin]}}, target: {tools: [{tool: admins}]}}
  - action: Allow
    target: {tools: [{tool: admins_by_condition}]}
    cel: '"admin" in request.auth.jwt.scopes'
  - {action: Allow, source: {jwt: {scopes: [mfa]}}, target: {tools: [{tool: mfa}]}}
"#;

/// White space that a server may split at, other than the space.
const OTHERS: [(&str, &str); 10] = [
    ("tab", "\t"),
    ("newline", "\n"),
    ("carriage return and newline", "\r\n"),
    ("vertical tab", "\u{b}"),
    ("form feed", "\u{c}"),
    ("next line", "\u{85}"),
    ("no-break space", "\u{a0}"),
    ("em space", "\u{2003}"),
    ("line separator", "\u{2028}"),
    ("ideographic space", "\u{3000}"),
];

#[tokio::test]
async fn other_white_space_grants_nothing() {
    let mut cases: Vec<Case> = vec![
        ("the scope", tool("admins").scope("admin"), Allowed),
        ("with another at a space", tool("admins").scope("read  admin"), Allowed),
        ("a condition and the scope", tool("admins_by_condition").scope("read admin"), Allowed),
        ("no scope", tool("admins").scope("read"), Challenged("admin")),
    ];
    for (label, space) in OTHERS {
        for scope in ["read_admin", "admin_read", "_admin", "admin_", "read _admin"] {
            let scope = scope.replace('_', space);
            cases.push((label, tool("admins").scope(&scope), Challenged("admin")));
            let by_condition = tool("admins_by_condition").scope(&scope);
            cases.push((label, by_condition, Rejected(&[403])));
        }
    }
    check(WHITE_SPACE, &cases).await;
}

#[tokio::test]
async fn other_white_space_evades_nothing() {
    let mut cases: Vec<Case> = vec![
        ("the scope", tool("guests").scope("guest"), Denied),
        ("another scope", tool("guests").scope("read"), Allowed),
        ("both scopes", tool("both").scope("guest trial"), Denied),
        ("one of both", tool("both").scope("guest"), Allowed),
        ("a broader scope", tool("implied").scope("repo:admin"), Denied),
        ("a condition and the scope", tool("guests_by_condition").scope("guest"), Denied),
        ("a condition and another", tool("guests_by_condition").scope("read"), Allowed),
        ("a condition over its absence", tool("unless_mfa").scope("mfa"), Allowed),
        ("its absence", tool("unless_mfa").scope("read"), Challenged("mfa")),
    ];
    for (label, space) in OTHERS {
        let with =
            |name: &str, scope: &str| -> Request { tool(name).scope(&scope.replace('_', space)) };
        for scope in ["guest_x", "x_guest", "guest_", "_guest", "read x_guest_y"] {
            cases.push((label, with("guests", scope), Denied));
            cases.push((label, with("guests_by_condition", scope), Denied));
        }
        cases.push((label, with("both", "guest_trial"), Denied));
        cases.push((label, with("both", "guest trial_x"), Denied));
        cases.push((label, with("both", "x_guest"), Allowed));
        cases.push((label, with("implied", "repo:admin_x"), Denied));
        // Without white space the token would not have the scope.
        cases.push((label, with("unless_mfa", "mfa_x"), Rejected(&[403])));
    }
    check(WHITE_SPACE, &cases).await;
}

/// A server may find the scope in what is no string.
#[tokio::test]
async fn scope_of_another_type_is_strict() {
    let claim = |name: &str, scope: Value| tool(name).claims(json!({"scope": scope}));
    let mut cases: Vec<Case> = vec![
        ("a list", claim("guests", json!(["read", "guest"])), Denied),
        ("a list of others", claim("guests", json!(["read"])), Allowed),
        ("an empty list", claim("guests", json!([])), Allowed),
        ("an Allow rule and a list", claim("admins", json!(["read", "admin"])), Allowed),
    ];
    for (guest, admin) in [
        (json!({"guest": true}), json!({"admin": true})),
        (json!([["guest"]]), json!([["admin"]])),
        (json!([{"name": "guest"}]), json!([{"name": "admin"}])),
        (json!(["guest\tx"]), json!(["admin\tx"])),
        (json!(["guest x"]), json!(["admin x"])),
    ] {
        cases.push(("a Deny rule", claim("guests", guest.clone()), Denied));
        cases.push(("a Deny rule's condition", claim("guests_by_condition", guest), Denied));
        cases.push(("an Allow rule", claim("admins", admin), Challenged("admin")));
    }
    check(WHITE_SPACE, &cases).await;
}

const TENANTS: &str = r#"
policies:
- name: p
  scopeHierarchy:
    "tenant-*:admin": ["tenant-*:read"]
    "org-*:owner": ["tenant-*:admin"]
  rules:
  - {action: Allow, source: {jwt: {scopes: ["tenant-a:read"]}}, target: {tools: [{tool: read_a}]}}
  - {action: Allow, source: {jwt: {scopes: ["tenant-b:read"]}}, target: {tools: [{tool: read_b}]}}
  - {action: Allow, source: {jwt: {scopes: ["tenant-a:admin"]}}, target: {tools: [{tool: set_a}]}}
  - {action: Deny, source: {jwt: {scopes: ["tenant-x:read"]}}, target: {tools: [{tool: closed}]}}
  - {action: Allow, target: {tools: [{tool: closed}]}}
"#;

#[tokio::test]
async fn star_in_hierarchy_repeats() {
    let call = |name: &str, scope: &str| tool(name).scope(scope);
    let (a, b) = (Challenged("tenant-a:read"), Challenged("tenant-b:read"));
    check(
        TENANTS,
        &[
            ("the narrower scope", call("read_a", "tenant-a:read"), Allowed),
            ("the admin of a reads a", call("read_a", "tenant-a:admin"), Allowed),
            ("the admin of a reads b", call("read_b", "tenant-a:admin"), b),
            ("the admin of b reads b", call("read_b", "tenant-b:admin"), Allowed),
            ("the admin of b reads a", call("read_a", "tenant-b:admin"), a),
            ("both admins read b", call("read_b", "tenant-a:admin tenant-b:admin"), Allowed),
            ("the owner of a reads a", call("read_a", "org-a:owner"), Allowed),
            ("the owner of a reads b", call("read_b", "org-a:owner"), b),
            ("the owner of a sets a", call("set_a", "org-a:owner"), Allowed),
            ("the owner of b sets a", call("set_a", "org-b:owner"), Challenged("tenant-a:admin")),
            ("a reader does not set", call("set_a", "tenant-a:read"), Challenged("tenant-a:admin")),
            ("a star in the token", call("read_a", "tenant-*:admin"), a),
            ("nothing for the star", call("read_a", "tenant-:admin"), a),
            ("more than the tenant", call("read_a", "tenant-a:admin:admin"), a),
            ("more before the tenant", call("read_a", "x-tenant-a:admin"), a),
            ("two tenants in one scope", call("read_b", "tenant-b:read,tenant-a:admin"), b),
            ("another case", call("read_a", "Tenant-a:admin"), a),
            ("a Deny rule and the broader", call("closed", "tenant-x:admin"), Denied),
            ("a Deny rule and the broadest", call("closed", "org-x:owner"), Denied),
            ("a Deny rule and another tenant", call("closed", "tenant-a:admin"), Allowed),
        ],
    )
    .await;
}
