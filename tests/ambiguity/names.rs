//! Names of tools, prompts and backends that a server may fold.

use serde_json::json;

use super::{Allowed, Case, Denied, Rejected, Request, check, check_with, message, start, tool};
use crate::support::MODES;

const TOOLS: &str = r#"
policies:
- name: p
  rules:
  - action: Deny
    target:
      tools:
      - {backend: github, tool: delete_file}
      - {backend: GitHub, tool: Remove_Branch}
      - {backend: github, tool: "drop_*"}
      - {backend: github, tool: "erase＊"}
      - {backend: github, tool: kill_task}
      - {backend: github, tool: straße}
      - {backend: github, tool: café}
      - {tool: reboot}
  - {name: as-sent, action: Deny, cel: request.mcp.tool == "purge_logs"}
  - {action: Allow}
"#;

#[tokio::test]
async fn folded_tool_name_is_denied() {
    let cases: &[Case] = &[
        ("as written", tool("github__delete_file"), Denied),
        ("another tool", tool("github__read_file"), Allowed),
        ("another backend", tool("gitlab__delete_file"), Allowed),
        ("no backend", tool("delete_file"), Allowed),
        ("capitals", tool("github__DELETE_FILE"), Denied),
        ("a backend in capitals", tool("GitHub__delete_file"), Denied),
        ("both in capitals", tool("GITHUB__DELETE_FILE"), Denied),
        ("fullwidth low lines", tool("github\u{ff3f}\u{ff3f}delete_file"), Denied),
        ("one fullwidth low line", tool("github_\u{ff3f}delete_file"), Denied),
        ("dashed low lines", tool("github\u{fe4d}\u{fe4d}delete_file"), Denied),
        ("a low line for vertical text", tool("github__delete\u{fe33}file"), Denied),
        ("fullwidth letters", tool("github__ｄｅｌｅｔｅ_ｆｉｌｅ"), Denied),
        ("all fullwidth", tool("ｇｉｔｈｕｂ＿＿ＤＥＬＥＴＥ＿ＦＩＬＥ"), Denied),
        ("mathematical letters", tool("github__𝐝𝐞𝐥𝐞𝐭𝐞_𝒇𝒊𝒍𝒆"), Denied),
        ("circled letters", tool("github__ⓓⓔⓛⓔⓣⓔ_ⓕⓘⓛⓔ"), Denied),
        ("a ligature", tool("github__delete_\u{fb01}le"), Denied),
        ("zero width space", tool("github__delete\u{200b}_file"), Denied),
        ("zero width space between low lines", tool("github_\u{200b}_delete_file"), Denied),
        ("zero width joiner", tool("github__delete\u{200d}_file"), Denied),
        ("word joiner", tool("github__de\u{2060}lete_file"), Denied),
        ("soft hyphen", tool("github__de\u{ad}lete_file"), Denied),
        ("variation selector", tool("github__delete_file\u{fe0f}"), Denied),
        ("byte order mark", tool("\u{feff}github__delete_file"), Denied),
        ("right-to-left mark", tool("github__delete_file\u{200f}"), Denied),
        ("combining grapheme joiner", tool("github__dele\u{34f}te_file"), Denied),
        ("tag character", tool("github__delete_file\u{e0041}"), Denied),
        ("hangul filler", tool("github__delete\u{3164}_file"), Denied),
        ("a space before", tool(" github__delete_file"), Rejected(&[400, 403])),
        ("a space behind", tool("github__delete_file "), Rejected(&[400, 403])),
        ("a space behind the backend", tool("github __delete_file"), Rejected(&[400, 403])),
        ("a space before the tool", tool("github__ delete_file"), Rejected(&[400, 403])),
        ("a no-break space behind", tool("github__delete_file\u{a0}"), Rejected(&[400, 403])),
        ("an ideographic space behind", tool("github__delete_file\u{3000}"), Rejected(&[400, 403])),
        ("a space and then none", tool(" \u{200b}github__delete_file"), Rejected(&[400, 403])),
        ("none and then a space", tool("\u{200b} github__delete_file"), Rejected(&[400, 403])),
        (
            "both around low lines",
            tool("github_\u{ad}_\u{200b} delete_file"),
            Rejected(&[400, 403]),
        ),
        ("a tab behind", tool("github__delete_file\t"), Rejected(&[400, 403])),
        ("a capital in the pattern", tool("github__remove_branch"), Denied),
        ("the pattern with capitals", tool("GitHub__Remove_Branch"), Denied),
        ("a star", tool("github__drop_table"), Denied),
        ("a star and capitals", tool("github__DROP_TABLE"), Denied),
        ("a star and fullwidth letters", tool("github__ｄｒｏｐ＿table"), Denied),
        ("a star and a fullwidth asterisk", tool("github__drop_＊"), Denied),
        ("a fullwidth asterisk is no star", tool("github__＊"), Allowed),
        ("an asterisk is no star", tool("github__*"), Allowed),
        ("a fullwidth asterisk in a pattern", tool("github__erase＊"), Denied),
        ("an asterisk for it", tool("github__erase*"), Denied),
        ("nor is that a star", tool("github__erase_all"), Allowed),
        ("the Kelvin sign", tool("github__\u{212a}ill_task"), Denied),
        ("a long s", tool("github__kill_ta\u{17f}k"), Denied),
        ("a sharp s", tool("github__straße"), Denied),
        ("two letters for a sharp s", tool("github__STRASSE"), Denied),
        ("a capital sharp s", tool("github__STRAẞE"), Denied),
        ("a composed letter", tool("github__caf\u{e9}"), Denied),
        ("a decomposed letter", tool("github__cafe\u{301}"), Denied),
        ("any backend", tool("aws__Reboot"), Denied),
        ("any backend and none", tool("REBOOT"), Denied),
        ("a condition over the name", tool("github__purge_logs"), Denied),
        ("a condition reads it as sent", tool("github__PURGE_LOGS"), Allowed),
    ];
    check(TOOLS, cases).await;
}

const PREFIX: &str = r#"
policies:
- name: p
  backend: {toolNamePrefix: "_Of_"}
  rules:
  - {action: Deny, target: {tools: [{backend: github, tool: delete_file}]}}
  - {action: Allow, target: {tools: [{backend: jira, tool: close}]}}
  - {action: Allow, target: {tools: [{tool: "*_file"}, {tool: "*_FILE"}]}}
"#;

#[tokio::test]
async fn folded_prefix_splits_name() {
    check(
        PREFIX,
        &[
            ("as written", tool("github_Of_delete_file"), Denied),
            ("another tool", tool("github_Of_read_file"), Allowed),
            ("another backend", tool("gitlab_Of_delete_file"), Allowed),
            ("a prefix in other letters", tool("github_of_delete_file"), Denied),
            ("all capitals", tool("GITHUB_OF_DELETE_FILE"), Denied),
            ("fullwidth letters", tool("github＿ｏｆ＿delete_file"), Denied),
            ("an Allow rule", tool("jira_Of_close"), Allowed),
            ("an Allow rule and a prefix in other letters", tool("jira_of_close"), Denied),
        ],
    )
    .await;
}

/// JSON has another spelling for every character.
#[tokio::test]
async fn escaped_tool_name_is_denied() {
    let escaped = |name: &str| {
        let call = tool("NAME");
        let body = call.body.replace("NAME", name);
        call.body(&body)
    };
    check(
        TOOLS,
        &[
            ("an escaped letter", escaped(r"github__\u0064elete_file"), Denied),
            ("an escaped capital", escaped(r"github__\u0044elete_file"), Denied),
            ("escaped low lines", escaped(r"github\u005f\u005fdelete_file"), Denied),
            ("escaped fullwidth low lines", escaped(r"github\uff3f\uff3fdelete_file"), Denied),
            ("an escaped zero width space", escaped(r"github__delete\u200b_file"), Denied),
            ("an escaped surrogate pair", escaped(r"github__\ud835\udc1delete_file"), Denied),
            ("another tool", escaped(r"github__\u0072ead_file"), Allowed),
        ],
    )
    .await;
}

#[tokio::test]
async fn list_hides_folded_names() {
    const LIST: &str = r#"{"jsonrpc": "2.0", "id": 7, "result": {"tools": [
        {"name": "github__read_file"}, {"name": "github__delete_file"},
        {"name": "github__DELETE_FILE"}, {"name": "github＿＿delete_file"},
        {"name": "github__delete\u200b_file"}, {"name": "github__Drop_all"}, {"name": "reBoot"}
    ]}}"#;

    let policy = TOOLS.replace("- name: p", "- name: p\n  toolsList: Permitted");
    for mode in MODES {
        let stack = start(mode, &policy, &[], LIST).await;
        let reply = message("tools/list", &json!({})).send(stack.envoy.port).await;
        assert_eq!(reply.status, 200, "{mode:?}: {reply:?}");
        let shown: Vec<_> = reply.body.split("\"name\":").skip(1).collect();
        assert_eq!(shown.len(), 1, "{mode:?}: {shown:?}");
        assert!(reply.body.contains("github__read_file"), "{mode:?}: {reply:?}");
    }
}

const ALLOWED: &str = r#"
policies:
- name: p
  rules:
  - {action: Allow, target: {tools: [{backend: github, tool: read_file}, {backend: github, tool: "list_*"}]}}
"#;

#[tokio::test]
async fn allow_rule_compares_exactly() {
    check(
        ALLOWED,
        &[
            ("as written", tool("github__read_file"), Allowed),
            ("a star", tool("github__list_files"), Allowed),
            ("capitals", tool("github__READ_FILE"), Denied),
            ("a backend in capitals", tool("GitHub__read_file"), Denied),
            ("fullwidth low lines", tool("github\u{ff3f}\u{ff3f}read_file"), Denied),
            ("zero width space", tool("github__read\u{200b}_file"), Denied),
            ("fullwidth letters", tool("github__ｒead_file"), Denied),
            ("a space before", tool(" github__read_file"), Rejected(&[400, 403])),
            ("a space behind", tool("github__read_file "), Rejected(&[400, 403])),
            ("a star and capitals", tool("github__LIST_files"), Denied),
            ("an asterisk", tool("github__*"), Denied),
        ],
    )
    .await;
}

const PROMPTS: &str = r#"
policies:
- name: p
  enforce: [tools, prompts]
  rules:
  - {action: Deny, target: {prompts: [{backend: github, prompt: secret_plan}, {prompt: "admin_*"}]}}
  - {action: Allow}
"#;

#[tokio::test]
async fn folded_prompt_name_is_denied() {
    let get = |name: &str| message("prompts/get", &json!({"name": name}));
    let complete = |name: &str| {
        let reference = json!({"type": "ref/prompt", "name": name});
        let argument = json!({"name": "a", "value": ""});
        message("completion/complete", &json!({"ref": reference, "argument": argument}))
    };
    check(
        PROMPTS,
        &[
            ("as written", get("github__secret_plan"), Denied),
            ("another prompt", get("github__plan"), Allowed),
            ("another backend", get("jira__secret_plan"), Allowed),
            ("capitals", get("github__Secret_Plan"), Denied),
            ("fullwidth low lines", get("github＿＿secret_plan"), Denied),
            ("zero width space", get("github__secret\u{200b}_plan"), Denied),
            ("a star and capitals", get("jira__Admin_all"), Denied),
            ("a completion", complete("github__secret_plan"), Denied),
            ("a completion of another", complete("github__plan"), Allowed),
            ("a completion and capitals", complete("GITHUB__SECRET_PLAN"), Denied),
            ("a completion and soft hyphen", complete("github__se\u{ad}cret_plan"), Denied),
        ],
    )
    .await;
}

const RESOURCES: &str = r"
policies:
- name: p
  enforce: [tools, resources]
  rules:
  - action: Deny
    target:
      resources: [{backend: github, uri: 'file:///secret/*'}, {backend: app, uri: 'ui://*'}]
  - {action: Allow}
";

#[tokio::test]
async fn folded_resource_backend_is_denied() {
    let read = |uri: &str| message("resources/read", &json!({"uri": uri}));
    check(
        RESOURCES,
        &[
            ("as written", read("github+file:///secret/a"), Denied),
            ("another resource", read("github+file:///open/a"), Allowed),
            ("another backend", read("jira+file:///secret/a"), Allowed),
            ("capitals", read("GitHub+file:///secret/a"), Rejected(&[400, 403])),
            ("zero width space", read("git\u{200b}hub+file:///secret/a"), Rejected(&[400, 403])),
            ("fullwidth letters", read("ｇithub+file:///secret/a"), Rejected(&[400, 403])),
            ("a fullwidth plus", read("github＋file:///secret/a"), Rejected(&[400, 403])),
            ("a space before", read(" github+file:///secret/a"), Rejected(&[400, 403])),
            ("an app", read("ui://app/view"), Denied),
            ("another app", read("ui://other/view"), Allowed),
            ("an app in capitals", read("ui://APP/view"), Rejected(&[400, 403])),
        ],
    )
    .await;
}

const BY_HEADER: &str = r"
policies:
- name: p
  backend: {header: x-backend}
  rules:
  - {action: Deny, target: {tools: [{backend: github, tool: delete_file}]}}
  - {action: Allow, target: {tools: [{backend: jira, tool: close}]}}
  - {action: Allow, target: {tools: [{tool: delete_file}]}}
";

#[tokio::test]
async fn folded_backend_header_is_denied() {
    let delete = |backend: &str| tool("delete_file").header("x-backend", backend);
    let close = |backend: &str| -> Request { tool("close").header("X-Backend", backend) };
    check(
        BY_HEADER,
        &[
            ("as written", delete("github"), Denied),
            ("another backend", delete("jira"), Allowed),
            ("capitals", delete("GitHub"), Denied),
            ("all capitals", delete("GITHUB"), Denied),
            ("more white space", delete("  github\t"), Denied),
            ("fullwidth letters", delete("ｇｉｔｈｕｂ"), Rejected(&[400, 403])),
            ("soft hyphen", delete("git\u{ad}hub"), Rejected(&[400, 403])),
            ("no-break space behind", delete("github\u{a0}"), Rejected(&[400, 403])),
            ("an Allow rule", close("jira"), Allowed),
            ("an Allow rule and capitals", close("Jira"), Denied),
        ],
    )
    .await;
}

/// Envoy's configuration names the cluster `mcp_server`.
const BY_ATTRIBUTE: &str = r"
policies:
- name: p
  backend: {attribute: xds.cluster_name}
  rules:
  - {action: Deny, target: {tools: [{backend: MCP_Server, tool: delete_file}]}}
  - {action: Deny, target: {tools: [{backend: other_server, tool: read_file}]}}
  - {action: Allow, target: {tools: [{tool: delete_file}, {tool: read_file}, {tool: DELETE_FILE}]}}
  - {action: Allow, target: {tools: [{backend: MCP_Server, tool: close}]}}
  - {action: Allow, target: {tools: [{backend: mcp_server, tool: open}]}}
";

#[tokio::test]
async fn withheld_backend_attribute_is_a_misconfiguration() {
    let changes = [("xds.cluster_name", "xds.virtual_host_name")];
    let cases = ["delete_file", "read_file", "open", "unknown"];
    let cases = cases.map(|name| (name, tool(name), Rejected(&[500])));
    check_with(BY_ATTRIBUTE, &changes, &cases).await;
}

#[tokio::test]
async fn folded_backend_attribute_is_denied() {
    check(
        BY_ATTRIBUTE,
        &[
            ("a capital in the pattern", tool("delete_file"), Denied),
            ("capitals in the tool, too", tool("DELETE_FILE"), Denied),
            ("another backend", tool("read_file"), Allowed),
            ("an Allow rule", tool("open"), Allowed),
            ("an Allow rule and capitals", tool("close"), Denied),
        ],
    )
    .await;
}
