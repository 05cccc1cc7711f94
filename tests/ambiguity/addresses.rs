//! Hosts, paths and headers that conditions read, in every spelling.

use serde_json::json;

use super::{Allowed, Denied, Rejected, check, tool};
use crate::docs::read;

const HOSTS: &str = r#"
policies:
- name: p
  rules:
  - action: Deny
    target: {tools: [{tool: equal}]}
    cel: request.host == "internal.example.com"
  - action: Deny
    target: {tools: [{tool: suffix}]}
    cel: request.host.endsWith(".internal.example.com")
  - action: Deny
    target: {tools: [{tool: address}]}
    cel: request.host == "[::1]"
  - {action: Allow, target: {tools: [{tool: equal}, {tool: suffix}, {tool: address}]}}
  - action: Allow
    target: {tools: [{tool: unequal}]}
    cel: request.host != "internal.example.com"
"#;

#[tokio::test]
async fn host_in_any_spelling_is_denied() {
    const SPELLINGS: [&str; 10] = [
        "internal.example.com",
        "INTERNAL.example.com",
        "internal.example.com:443",
        "internal.example.com:8443",
        "internal.example.com.",
        "internal.example.com.:443",
        "Internal.Example.COM.:80",
        "internal.example.com:",
        "internal.example.com:abc",
        "internal.example.com:443:443",
    ];
    // Envoy or a condition over a host without a clear form refuses these.
    const UNCLEAR: [&str; 6] = [
        "internal.example.com:-1",
        "internal.example.com:99999",
        "internal.example.com..",
        "%69nternal.example.com",
        "user@internal.example.com",
        "public.example.com,internal.example.com",
    ];
    let mut cases = vec![
        ("another host", tool("equal").host("public.example.com"), Allowed),
        ("another host below", tool("suffix").host("a.example.com:443"), Allowed),
        ("another host, not equal", tool("unequal").host("Public.example.com:1"), Allowed),
        ("a longer host", tool("equal").host("internal.example.com.org"), Allowed),
    ];
    for host in ["[::1]", "[::1]:8080"] {
        cases.push((host, tool("address").host(host), Denied));
    }
    cases.push(("another address", tool("address").host("[::2]:8080"), Allowed));
    for host in SPELLINGS {
        cases.push((host, tool("equal").host(host), Denied));
        cases.push((host, tool("unequal").host(host), Denied));
        cases.push((host, tool("suffix").host(&format!("a.{host}")), Denied));
    }
    for host in UNCLEAR {
        cases.push((host, tool("equal").host(host), Rejected(&[400, 403])));
        cases.push((host, tool("unequal").host(host), Rejected(&[400, 403])));
    }
    let absolute = "http://internal.example.com/mcp";
    cases.push(("an absolute target", tool("equal").host("public").path(absolute), Denied));
    check(HOSTS, &cases).await;
}

const PATHS: &str = r#"
policies:
- name: p
  rules:
  - action: Deny
    target: {tools: [{tool: below}]}
    cel: request.path.startsWith("/mcp/admin")
  - {action: Allow, target: {tools: [{tool: below}]}}
  - action: Allow
    target: {tools: [{tool: beside}]}
    cel: '!request.path.startsWith("/mcp/admin")'
"#;

#[tokio::test]
async fn path_in_any_spelling_is_denied() {
    // Envoy or a condition over a path without a clear form refuses these.
    const UNCLEAR: [&str; 3] = ["/mcp/%zz", "/mcp/%6", "/mcp/\u{e4}"];
    const SPELLINGS: [&str; 20] = [
        "/mcp/admin",
        "/mcp/admin/x?a=b",
        "/mcp//admin",
        "//mcp/admin",
        "/mcp/x/../admin",
        "/mcp/./admin",
        "/x/../mcp/admin",
        "/mcp/%61dmin",
        "/mcp/%61%64%6d%69%6e",
        "/mcp/%61dmin?x=y",
        "/mcp/x/%2e%2e/admin",
        "/mcp/x/%2E%2E/admin",
        "/mcp/.%2e/mcp/admin",
        "/mcp%2fadmin",
        "/mcp%2Fadmin",
        "/mcp\\admin",
        "/mcp%5cadmin",
        "/mcp;x=y/admin",
        "/mcp/x/..;/admin",
        "/mcp/admin;x",
    ];
    let mut cases = vec![
        ("another path", tool("below").path("/mcp/tools"), Allowed),
        ("another path beside", tool("beside").path("/mcp/tools"), Allowed),
        ("a query", tool("below").path("/mcp/tools?x=//a/../admin;b"), Allowed),
        ("a space", tool("below").path("/mcp/my%20tools"), Allowed),
    ];
    for path in SPELLINGS {
        cases.push((path, tool("below").path(path), Denied));
        cases.push((path, tool("beside").path(path), Denied));
    }
    for path in UNCLEAR {
        cases.push((path, tool("below").path(path), Rejected(&[400, 403])));
        cases.push((path, tool("beside").path(path), Rejected(&[400, 403])));
    }
    check(PATHS, &cases).await;
}

const HEADERS: &str = r#"
policies:
- name: p
  rules:
  - action: Deny
    target: {tools: [{tool: equal}]}
    cel: request.headers["x-env"] == "production"
  - action: Deny
    target: {tools: [{tool: optional}]}
    cel: request.headers[?"x-env"].orValue("test") == "production"
  - action: Deny
    target: {tools: [{tool: all}]}
    cel: request.headers_all[?"x-env"].orValue([]).exists(value, value == "production")
  - action: Deny
    target: {tools: [{tool: any}]}
    cel: request.headers.exists(name, request.headers[name] == "production")
  - {action: Allow, target: {tools: [{tool: equal}, {tool: optional}, {tool: all}, {tool: any}]}}
  - action: Allow
    target: {tools: [{tool: unequal}]}
    cel: request.headers["x-env"] != "production"
"#;

#[tokio::test]
async fn repeated_header_is_denied() {
    let with = |name: &str, values: &[&str]| {
        values.iter().fold(tool(name), |request, value| request.header("X-Env", value))
    };
    check(
        HEADERS,
        &[
            ("the value", with("equal", &["production"]), Denied),
            ("another value", with("equal", &["test"]), Allowed),
            ("another value first", with("equal", &["test", "production"]), Denied),
            ("another value last", with("equal", &["production", "test"]), Denied),
            ("another value twice", with("equal", &["test", "test"]), Denied),
            ("an empty value first", with("equal", &["", "production"]), Denied),
            ("no header", tool("equal"), Denied),
            ("optional: no header", tool("optional"), Allowed),
            ("optional: another value", with("optional", &["test"]), Allowed),
            ("optional: another value first", with("optional", &["test", "production"]), Denied),
            ("all: others", with("all", &["test", "stage"]), Allowed),
            ("all: another value first", with("all", &["test", "production"]), Denied),
            ("any: another value", with("any", &["test"]), Allowed),
            ("any: another value first", with("any", &["test", "production"]), Denied),
            ("not equal", with("unequal", &["test"]), Allowed),
            ("not equal: another value first", with("unequal", &["test", "production"]), Denied),
            ("not equal: the value first", with("unequal", &["production", "test"]), Denied),
        ],
    )
    .await;
}

/// The example of the language page, which compares a header with a claim.
#[tokio::test]
async fn second_tenant_header_is_denied() {
    let page = read("examples/policies/README.md");
    let (_, section) = page.split_once("## Conditions over the request").unwrap();
    let (_, block) = section.split_once("```yaml\n").unwrap();
    let (policy, _) = block.split_once("```").unwrap();
    let with = |tenants: &[&str]| {
        let call = tool("crm__read_contact").host("api.example.com");
        let call = call.claims(json!({"tenant": "t-123"}));
        tenants.iter().fold(call, |request, tenant| request.header("X-Tenant-Id", tenant))
    };
    check(
        policy,
        &[
            ("the caller's tenant", with(&["t-123"]), Allowed),
            ("another tenant", with(&["t-999"]), Denied),
            ("another tenant last", with(&["t-123", "t-999"]), Denied),
            ("another tenant first", with(&["t-999", "t-123"]), Denied),
            ("the caller's tenant twice", with(&["t-123", "t-123"]), Denied),
            ("both tenants in one line", with(&["t-123, t-999"]), Denied),
            ("no tenant", with(&[]), Denied),
        ],
    )
    .await;
}
