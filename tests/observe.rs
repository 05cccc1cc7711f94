//! The reports that mcp-authz makes of its decisions, and their recipients.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::collector::Collector;
use crate::docs;
use crate::envoy;
use crate::stack::{POLICY, Sidecar, Stack};
use crate::support::{
    Http, MODES, Mode, TOKEN_OPTIONAL, TOKEN_REQUIRED, call, change, mcp_authz, send, start,
    start_with, token,
};

/// An access log that shows what Envoy knows of a decision.
const ACCESS_LOG: &str = r#"stat_prefix: mcp
          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: @ACCESS_LOG@
              log_format:
                json_format:
                  status: "%RESPONSE_CODE%"
                  request: "%REQ(X-REQUEST-ID)%"
                  decision: "%DYNAMIC_METADATA(mcp_authz)%"
                  reason: "%DYNAMIC_METADATA(mcp_authz:reason)%""#;

/// The samples of a page of metrics, by name and labels.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
    };
    lines.map(sample).collect()
}

pub async fn page(sidecar: &Sidecar, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", sidecar.admin);
    let response = reqwest::get(url).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

pub async fn metrics(sidecar: &Sidecar) -> BTreeMap<String, f64> {
    let (status, page) = page(sidecar, "/metrics").await;
    assert_eq!(status, 200);
    samples(&page)
}

/// A denied, an allowed, an unreadable call, and one that is none, in this order.
pub async fn four_calls(stack: &Stack) {
    let http = Http::new(stack);
    let token = token("sum");
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    for (body, status) in [
        (call("echo", &json!({"text": "Hello, x!"})), 403),
        (call("sum", &json!({"a": 1, "b": 2})), 0),
        ("{".to_owned(), 400),
        (list, 0),
    ] {
        let reply = send(http.post(Some(&token), body)).await;
        assert!(status == 0 || reply.status == status, "{reply:?}");
    }
}

/// The same decision is in the decision log, in Envoy's access log and in the
/// metrics, in both body modes.
#[tokio::test]
async fn a_decision_is_told_to_log_envoy_and_metrics() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let config = change(&mode.config(), &[("stat_prefix: mcp", ACCESS_LOG)]);
        let config = change(&config, &[("@ACCESS_LOG@", path.to_str().unwrap())]);
        let stack = start_with(&[("MCP_AUTHZ_LOG_ALLOWS", "1")], POLICY, &config).await;
        four_calls(&stack).await;
        let decisions = stack.sidecar.decided(4).await;
        let told = |number: usize, names: &[&str]| -> Value {
            let decision = &decisions[number];
            names.iter().map(|name| decision[name].clone()).collect()
        };
        let names = ["verdict", "reason", "httpStatus", "method", "backend", "tool", "rule"];
        const BACKEND: &str = "mcp-backend-authorization";
        assert_eq!(
            told(0, &names),
            json!(["Deny", "insufficient_scope", 403, "tools/call", BACKEND, "echo", null])
        );
        assert_eq!(
            told(1, &names),
            json!(["Allow", "allow_rule", 200, "tools/call", BACKEND, "sum", "sums"])
        );
        assert_eq!(told(2, &names), json!(["Deny", "not_json", 400, null, null, null, null]));
        assert_eq!(
            told(3, &names),
            json!(["Allow", "not_governed", 200, "tools/list", null, null, null])
        );
        for decision in &decisions {
            assert_eq!(decision["policy"], "quickstart", "{decision}");
            assert_eq!(decision["subject"], "somebody", "{decision}");
            assert_eq!(decision["policySha256"].as_str().map(str::len), Some(64), "{decision}");
            for given in ["time", "duration", "requestId"] {
                assert!(decision[given].is_string(), "{given}: {decision}");
            }
        }

        let lines = loop {
            // Envoy writes its log every now and then.
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            if log.matches('\n').count() == 4 {
                let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
                break lines.collect::<Vec<Value>>();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        for (line, decision) in lines.iter().zip(&decisions) {
            // Numbers are doubles there.
            let mut told = decision.clone();
            told["httpStatus"] = json!(decision["httpStatus"].as_f64().unwrap());
            let mut known = line["decision"].clone();
            known["httpStatus"] = json!(known["httpStatus"].as_f64().unwrap());
            assert_eq!(known, told, "{mode:?}");
            assert_eq!(line["reason"], decision["reason"], "{mode:?}");
            assert_eq!(line["request"], decision["requestId"], "{mode:?}");
        }

        let metrics = metrics(&stack.sidecar).await;
        let decided = |verdict, reason, backend, tool| {
            metrics[&format!(
                "mcp_authz_decisions_total{{policy=\"quickstart\",verdict=\"{verdict}\",reason=\"{reason}\",backend=\"{backend}\",tool=\"{tool}\"}}"
            )]
        };
        assert_eq!(decided("deny", "insufficient_scope", BACKEND, "echo"), 1.0);
        assert_eq!(decided("allow", "allow_rule", BACKEND, "sum"), 1.0);
        assert_eq!(decided("allow", "not_governed", "", ""), 1.0);
        let refused = "mcp_authz_refused_requests_total{policy=\"quickstart\",verdict=\"deny\",reason=\"not_json\"}";
        assert_eq!(metrics[refused], 1.0);
        assert_eq!(metrics["mcp_authz_decision_duration_seconds_count"], 4.0);
        assert_eq!(metrics["mcp_authz_streams_started_total"], 4.0);
        assert_eq!(metrics["mcp_authz_streams"], 0.0);
        assert_eq!(metrics["mcp_authz_held_bytes"], 0.0);
        assert_eq!(metrics["mcp_authz_policy_rules{policy=\"quickstart\"}"], 4.0);
        let sha256 = decisions[0]["policySha256"].as_str().unwrap();
        assert_eq!(metrics[&format!("mcp_authz_policy_info{{sha256=\"{sha256}\"}}")], 1.0);
    }
}

/// Of what is allowed only a share is logged, of what is denied everything, of what
/// a caller makes up nothing becomes a label.
#[tokio::test]
async fn allowed_calls_are_sampled_and_names_of_callers_are_no_labels() {
    let stack =
        start_with(&[("MCP_AUTHZ_LOG_ALLOWS", "0.25")], POLICY, &Mode::Buffered.config()).await;
    let http = Http::new(&stack);
    for number in 0..8 {
        let allowed = call("countdown", &json!({"from": 1}));
        send(http.post(Some(&token("")), allowed)).await;
        let made_up = call(&format!("made-up-{number}"), &json!({}));
        assert_eq!(send(http.post(Some(&token("")), made_up)).await.status, 403);
    }
    let decisions = stack.sidecar.decided(10).await;
    let count = |verdict| decisions.iter().filter(|line| line["verdict"] == verdict).count();
    assert_eq!((count("Allow"), count("Deny")), (2, 8));
    let (_, page) = page(&stack.sidecar, "/metrics").await;
    assert!(!page.contains("made-up"), "{page}");
    let other = samples(&page).into_iter().find(|(name, _)| name.contains("tool=\"_other\""));
    assert_eq!(other.map(|(_, value)| value), Some(8.0), "{page}");
}

/// The header joins logs; what Envoy says of its own span goes before it.
#[tokio::test]
async fn a_decision_is_a_part_of_the_trace_of_its_request() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";
    let collector = Collector::start().await;
    let url = format!("http://127.0.0.1:{}", collector.port);
    for (envoys_own, expected) in [(None, SPAN), (Some("00f067aa0ba902b8"), "00f067aa0ba902b8")] {
        let mut config = Mode::FullDuplexStreamed.config();
        if let Some(span) = envoys_own {
            let cluster = "envoy_grpc: {cluster_name: mcp_authz}";
            let metadata = format!(
                "{cluster}\n                initial_metadata: [{{key: traceparent, value: 00-{TRACE}-{span}-01}}]"
            );
            config = change(&config, &[(cluster, &metadata)]);
        }
        let stack = start_with(&[("MCP_AUTHZ_OTLP", &url)], POLICY, &config).await;
        let body = call("echo", &json!({"text": "no"}));
        let request = Http::new(&stack).post(Some(&token("sum")), body);
        let reply = send(request.header("traceparent", format!("00-{TRACE}-{SPAN}-01"))).await;
        assert_eq!(reply.status, 403);
        let decision = stack.sidecar.decided(1).await.remove(0);
        assert_eq!(decision["traceId"], TRACE, "{decision}");
        assert_eq!(decision["spanId"], expected, "{decision}");
        // The last spans are sent when it ends.
        let status = stack.into_sidecar().terminate().await.unwrap();
        assert!(status.success());
        let spans = collector.take();
        let [span] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!(span.name, "mcp_authz.decide");
        assert_eq!(span.trace_id, TRACE);
        assert_eq!(span.parent_span_id, expected);
        assert_eq!(span.attributes["mcp_authz.reason"], "insufficient_scope");
        assert_eq!(span.attributes["mcp_authz.tool"], "echo");
        assert!(span.nanoseconds > 0);
    }
}

/// A caller who does not sample a trace gets no span.
#[tokio::test]
async fn what_is_not_sampled_has_no_span() {
    let collector = Collector::start().await;
    let url = format!("http://127.0.0.1:{}", collector.port);
    let stack = start_with(&[("MCP_AUTHZ_OTLP", &url)], POLICY, &Mode::Buffered.config()).await;
    for flags in ["00", "01"] {
        let traceparent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        let body = call(if flags == "00" { "not-sampled" } else { "sampled" }, &json!({}));
        let request = Http::new(&stack).post(Some(&token("")), body);
        assert_eq!(send(request.header("traceparent", traceparent)).await.status, 403);
    }
    stack.into_sidecar().terminate().await.unwrap();
    let spans = collector.take();
    let tools: Vec<&str> =
        spans.iter().map(|span| span.attributes["mcp_authz.tool"].as_str()).collect();
    assert_eq!(tools, ["sampled"]);
}

/// A process whose lines are read.
struct Lines {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Lines {
    fn of(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines }
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        envoy::end(&mut self.process);
    }
}

async fn until_watched(stack: &Stack, watchers: f64) {
    while metrics(&stack.sidecar).await["mcp_authz_watchers"] != watchers {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_follows_the_decisions_that_are_wanted() {
    let stack = start(POLICY, &Mode::Buffered.config()).await;
    let tail = |arguments: &[&str]| {
        Lines::of(mcp_authz().args(["tail", "--server", &stack.sidecar.admin]).args(arguments))
    };
    let mut all = tail(&["--output", "json"]);
    let mut denials =
        tail(&["--verdict", "deny", "--policy", "quickstart", "--subject", "somebody"]);
    let mut sums = tail(&["--tool", "sum"]);
    until_watched(&stack, 3.0).await;
    four_calls(&stack).await;
    let line: Value = serde_json::from_str(&all.next()).unwrap();
    assert_eq!(line["reason"], "insufficient_scope");
    assert_eq!(line["tool"], "echo");
    for reason in ["allow_rule", "not_json", "not_governed"] {
        assert!(all.next().contains(reason), "{reason}");
    }
    let denial = denials.next();
    for part in [
        "  DENY    mcp-backend-authorization/echo  insufficient_scope  HTTP 403  needs echo  ",
        "  subject somebody  policy quickstart  request ",
    ] {
        assert!(denial.contains(part), "{part}: {denial}");
    }
    assert!(denials.next().contains("  DENY    -  not_json  HTTP 400  "));
    assert!(sums.next().contains("  ALLOW   mcp-backend-authorization/sum  allow_rule  subject"));
    drop((denials, sums));
    until_watched(&stack, 1.0).await;
    // It says so when there is nobody to follow any more.
    let mut sidecar = stack.into_sidecar();
    sidecar.terminate().await.unwrap();
    let ended = all.process.wait().unwrap();
    assert_eq!(ended.code(), Some(1));
}

#[tokio::test]
async fn check_asks_a_server_as_it_asks_a_file() {
    let stack = start(POLICY, &Mode::Buffered.config()).await;
    let policy = stack.dir().join("policy.yaml");
    let request = stack.dir().join("call.json");
    std::fs::write(&request, call("echo", &json!({"text": "no"}))).unwrap();
    for output in ["text", "json"] {
        let check = |from: [&str; 2]| {
            let output = mcp_authz()
                .arg("check")
                .args(from)
                .args(["--claims", r#"{"scope": "echo"}"#, "--output", output, "--request"])
                .arg(&request)
                .output()
                .unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        let by_server = check(["--server", &stack.sidecar.admin]);
        assert_eq!(by_server, check(["--policy", policy.to_str().unwrap()]));
        assert_eq!(by_server.0, Some(1));
        assert!(by_server.1.contains("insufficient_scope"), "{}", by_server.1);
    }
    // It leaves no trace.
    assert!(stack.sidecar.decisions().is_empty());
    let metrics = metrics(&stack.sidecar).await;
    assert_eq!(metrics["mcp_authz_decision_duration_seconds_count"], 0.0);

    let output = mcp_authz()
        .args(["check", "--server", &stack.sidecar.address, "--request"])
        .arg(&request)
        .output()
        .unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint.contains("is not the admin port"), "{complaint}");
    let output = mcp_authz()
        .args(["check", "--server", "127.0.0.1:1", "--request"])
        .arg(&request)
        .output()
        .unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("cannot reach 127.0.0.1:1"), "{complaint}");
    assert!(complaint.contains("refused"), "{complaint}");
}

/// Health over both ports and both protocols; a reload that failed is told, and does
/// not make it unready.
#[tokio::test]
async fn health_and_readiness_are_told() {
    let stack = start(POLICY, &Mode::Buffered.config()).await;
    let sidecar = &stack.sidecar;
    assert_eq!(page(sidecar, "/healthz").await, (200, "ok\n".to_owned()));
    let (status, ready) = page(sidecar, "/readyz").await;
    assert!(status == 200 && ready.starts_with("ready\npolicies in force: sha256 "), "{ready}");
    for address in [&sidecar.address, &sidecar.admin] {
        let health = mcp_authz().args(["health", "--server", address]).status().unwrap();
        assert_eq!(health.code(), Some(0), "{address}");
    }
    let nobody = mcp_authz().args(["health", "--server", "127.0.0.1:1"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8(nobody.stderr).unwrap().contains("cannot reach 127.0.0.1:1"));

    std::fs::write(stack.dir().join("policy.yaml"), "policies: [{nam: x}]").unwrap();
    assert!(sidecar.logs("policies not reloaded").await);
    let (status, ready) = page(sidecar, "/readyz").await;
    assert_eq!(status, 200);
    assert!(ready.contains("not in force: mistakes: 1"), "{ready}");
    let failed = metrics(sidecar).await;
    assert_eq!(failed["mcp_authz_policy_reloads_total{result=\"failure\"}"], 1.0);
    assert_eq!(failed["mcp_authz_policy_last_reload_successful"], 0.0);
    std::fs::write(stack.dir().join("policy.yaml"), POLICY).unwrap();
    assert!(sidecar.logs("policies reloaded").await);
    let (_, ready) = page(sidecar, "/readyz").await;
    assert!(!ready.contains("mistakes"), "{ready}");
    assert_eq!(metrics(sidecar).await["mcp_authz_policy_last_reload_successful"], 1.0);
    let (status, _) = page(sidecar, "/nothing").await;
    assert_eq!(status, 404);
    // A browser, which speaks HTTP/1.1 here, cannot be made to ask.
    let url = format!("http://{}/mcp_authz.v1.Authorizer/Check", sidecar.admin);
    let asked = reqwest::Client::new().post(url).header("content-type", "application/grpc");
    let reply = asked.body(vec![0; 5]).send().await.unwrap();
    assert_eq!(reply.status(), 505);
}

/// Other hosts may read metrics, and who called what only if an operator says so.
#[tokio::test]
async fn other_hosts_may_not_ask_who_called_what() {
    let host = own_address();
    for remote in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = mcp_authz();
        command.env("MCP_AUTHZ_ADMIN", "0.0.0.0:0");
        command.env("MCP_AUTHZ_ADMIN_REMOTE", remote.to_string());
        let sidecar = Sidecar::start(command, POLICY, dir.path()).await.unwrap();
        let port = sidecar.admin.rsplit(':').next().unwrap();
        let page = reqwest::get(format!("http://{host}:{port}/readyz")).await.unwrap();
        assert_eq!(page.status(), 200);
        let server = format!("{host}:{port}");
        let request = dir.path().join("call.json");
        std::fs::write(&request, call("countdown", &json!({}))).unwrap();
        let check = |server: &str| {
            let output =
                mcp_authz().args(["check", "--server", server, "--request"]).arg(&request).output();
            let output = output.unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (code, complaint) = check(&server);
        if remote {
            assert_eq!(code, Some(0), "{complaint}");
        } else {
            assert!(code == Some(2) && complaint.contains("--admin-remote"), "{complaint}");
        }
        assert_eq!(check(&format!("127.0.0.1:{port}")).0, Some(0));
    }
}

/// An address of this machine that is not loopback.
fn own_address() -> String {
    // Nothing is sent: the system only picks the address that it would send from.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let picked = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    let address = picked.expect("this test needs a network interface beside loopback");
    address.ip().to_string()
}

/// Metrics in the format that is asked for.
#[tokio::test]
async fn metrics_are_written_as_prometheus_asks() {
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(mcp_authz(), POLICY, dir.path()).await.unwrap();
    let url = format!("http://{}/metrics", sidecar.admin);
    let client = reqwest::Client::new();
    for (accept, content_type, last) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", None),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Some("# EOF\n"),
        ),
    ] {
        let response = client.get(&url).header("accept", accept).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], content_type);
        let page = response.text().await.unwrap();
        assert_eq!(page.ends_with("# EOF\n"), last.is_some(), "{page}");
        // What has not happened yet is there with a zero.
        for zero in [
            "mcp_authz_condition_errors_total{policy=\"quickstart\",rule=\"greetings\"} 0",
            "mcp_authz_stream_failures_total{reason=\"violation\"} 0",
            "mcp_authz_policy_reloads_total{result=\"failure\"} 0",
            "mcp_authz_decision_log_dropped_total 0",
        ] {
            assert!(page.contains(zero), "{zero}: {page}");
        }
    }
}

/// A condition without a value is counted by its rule and told in the decision.
#[tokio::test]
async fn conditions_that_fail_are_told() {
    let stack = start(POLICY, &Mode::Buffered.config()).await;
    let reply =
        send(Http::new(&stack).post(Some(&token("echo")), call("echo", &json!({"text": 7})))).await;
    assert_eq!(reply.status, 403);
    let decision = stack.sidecar.decided(1).await.remove(0);
    assert_eq!(decision["conditionErrors"], json!(["greetings"]), "{decision}");
    let failed = "mcp_authz_condition_errors_total{policy=\"quickstart\",rule=\"greetings\"}";
    assert_eq!(metrics(&stack.sidecar).await[failed], 1.0);
}

/// The log also records decisions that the headers alone determine.
#[tokio::test]
async fn what_is_turned_away_is_told() {
    const POLICIES: &str = "
policies:
- name: login
  match: {pathPrefixes: [/mcp]}
  unauthenticated: Challenge
  resourceMetadataURL: https://mcp.example.com/.well-known/oauth-protected-resource/mcp
  rules: [{action: Allow}]
";
    let config = change(&Mode::Buffered.config_for(POLICIES), &[(TOKEN_REQUIRED, TOKEN_OPTIONAL)]);
    let stack = start(POLICIES, &config).await;
    let http = Http::new(&stack);
    assert_eq!(send(http.post(None, "{}")).await.status, 401);
    assert_eq!(send(http.post(Some("no.valid.token"), "{}")).await.status, 401);
    let elsewhere = stack.url().replace("/mcp", "/other");
    assert_eq!(reqwest::get(elsewhere).await.unwrap().status(), 403);
    let decisions = stack.sidecar.decided(3).await;
    let told: Vec<[Value; 3]> = decisions
        .iter()
        .map(|decision| ["reason", "httpStatus", "policy"].map(|name| decision[name].clone()))
        .collect();
    assert_eq!(
        json!(told),
        json!([
            ["no_token", 401, "login"],
            ["invalid_token", 401, "login"],
            ["no_policy", 403, null]
        ])
    );
    let none = "mcp_authz_decisions_total{policy=\"_none\",verdict=\"deny\",reason=\"no_policy\",backend=\"\",tool=\"\"}";
    assert_eq!(metrics(&stack.sidecar).await[none], 1.0);
}

/// The runbook shows the records of one denied call as they are, except for values that differ each
/// time.
#[tokio::test(flavor = "multi_thread")]
async fn the_runbook_shows_what_is_told() {
    let runbook = docs::read("deploy/RUNBOOK.md");
    let policy = docs::blocks("yaml").into_iter().find(|block| block.contains("greetings"));
    let access_log = docs::blocks_of("deploy/RUNBOOK.md", "yaml")
        .into_iter()
        .find(|block| block.contains("access_log:"))
        .unwrap();
    let (_, access_log) = access_log.split_once("# in the connection manager\n").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let access_log: String = access_log.lines().map(|line| format!("          {line}\n")).collect();
    let access_log = access_log.replace("/dev/stdout", path.to_str().unwrap());
    let policy = policy.unwrap();
    let config = change(
        &Mode::Buffered.config_for(&policy),
        &[("stat_prefix: mcp\n", &format!("stat_prefix: mcp\n{access_log}"))],
    );
    let stack = start(&policy, &config).await;
    let tail = ["tail", "--policy", "github", "--subject", "alice", "--verdict", "deny"];
    let mut tail = Lines::of(mcp_authz().args(tail).args(["--server", &stack.sidecar.admin]));
    until_watched(&stack, 1.0).await;

    let claims = [("sub", "alice"), ("client_id", "editor"), ("scope", "echo")];
    let claims = claims.map(|(name, value)| (name.to_owned(), json!(value)));
    let token = crate::support::issuer().sign(claims).unwrap();
    let body = call("github__echo", &json!({"text": "hello"}));
    let request = Http::new(&stack).post(Some(&token), body);
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(send(request.header("traceparent", traceparent)).await.status, 403);

    let decision = stack.sidecar.decided(1).await.remove(0);
    let access = loop {
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some(line) = log.lines().next().filter(|_| log.ends_with('\n')) {
            break line.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let followed = tail.next();
    let line = std::fs::read_to_string(stack.dir().join("decisions.log")).unwrap();
    let came = format!("{access}\n{line}{followed}");

    let same = |mut line: Value| {
        let object = line.as_object_mut().unwrap();
        for name in ["time", "requestId", "policySha256", "duration"] {
            assert!(object.remove(name).is_some_and(|value| value.is_string()), "{name}: {came}");
        }
        line
    };
    let json = |line: &str| same(serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
    let access_shown =
        runbook.lines().find(|line| line.starts_with('{') && line.contains("details"));
    let without_duration = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line["duration"] = json!("");
        same(line)
    };
    assert_eq!(without_duration(access_shown.unwrap()), without_duration(&access), "{came}");
    let decision_shown =
        runbook.lines().find(|line| line.starts_with('{') && line.contains("httpStatus"));
    assert_eq!(json(decision_shown.unwrap()), json(&decision.to_string()), "{came}");
    let words = |line: &str| {
        let words = line.trim().split("  ").map(str::trim).filter(|word| !word.is_empty());
        let stays = |word: &&str| !word.starts_with("20") && !word.starts_with("request ");
        words.filter(stays).map(str::to_owned).collect::<Vec<_>>()
    };
    let (_, shown) = runbook.split_once("$ mcp-authz tail --policy github --subject").unwrap();
    assert_eq!(words(shown.lines().nth(1).unwrap()), words(&followed), "{came}");
}
