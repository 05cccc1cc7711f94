//! Rules, dashboard and runbook name what there is, and work.

mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use self::promql::names;
use crate::observe::{four_calls, page};
use crate::stack::POLICY;
use crate::support::{Mode, start};
use crate::tools::debian::{self, Tool};
use crate::tools::yaml;

const RULES: &str = "deploy/prometheus/rules.yaml";
const RULE_TESTS: &str = "deploy/prometheus/rules.test.yaml";
const PROMETHEUS: &str = "deploy/prometheus/prometheus.yml";
const DASHBOARD: &str = "deploy/grafana/dashboard.json";
const RUNBOOK: &str = "deploy/RUNBOOK.md";

/// Why requests are judged as they are.
const DECISIONS: [&str; 14] = [
    "allow_rule",
    "allow_default",
    "not_governed",
    "insufficient_scope",
    "deny_rule",
    "condition_cost",
    "condition_error",
    "deny_default",
    "selected",
    "not_selected",
    "tasks_denied",
    "no_policy",
    "no_token",
    "invalid_token",
];
/// Why requests cannot be judged.
const REFUSALS: [&str; 29] = [
    "ambiguous_host",
    "ambiguous_path",
    "not_utf8",
    "not_json",
    "duplicate_key",
    "case_variant_key",
    "json_too_deep",
    "json_too_many_keys",
    "batch",
    "not_json_rpc",
    "no_usable_call",
    "header_mismatch",
    "unclear_backend",
    "unknown_backend",
    "compressed_body",
    "unsupported_charset",
    "body_too_large",
    "body_cut_off",
    "too_many_parts",
    "request_trailers",
    "upgrade",
    "headers_too_large",
    "timed_out",
    "overloaded",
    "misconfigured",
    "no_headers",
    "observability_mode",
    "list_in_batch",
    "unreadable_list",
];

fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Returns the metrics that `/metrics` serves after some calls.
fn scrape() -> &'static str {
    static SCRAPE: OnceLock<String> = OnceLock::new();
    SCRAPE.get_or_init(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let stack = start(POLICY, &Mode::Buffered.config()).await;
            four_calls(&stack).await;
            page(&stack.sidecar, "/metrics").await.1
        })
    })
}

/// The names of all samples.
fn exposed_metrics() -> BTreeSet<String> {
    exposed_labels().into_keys().collect()
}

/// The labels of all samples, by name.
fn exposed_labels() -> BTreeMap<String, BTreeSet<String>> {
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let scrape = scrape();
    let samples = scrape.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for sample in samples {
        let name = &sample[..sample.find(['{', ' ']).unwrap()];
        let of_sample = names(sample).matchers.into_iter().map(|matcher| matcher.label);
        labels.entry(name.to_owned()).or_default().extend(of_sample);
    }
    labels
}

/// Returns the labels of each metric that Prometheus knows: the exposed metrics, `up`, and the
/// recorded ones. The first part of a recorded metric's name lists its labels.
fn known_labels() -> BTreeMap<String, BTreeSet<String>> {
    let mut known = exposed_labels();
    known.insert("up".to_owned(), BTreeSet::new());
    for rule in rules() {
        if let Some(name) = rule["record"].as_str() {
            let (level, _) = name.split_once(':').unwrap();
            known.insert(name.to_owned(), level.split('_').map(str::to_owned).collect());
        }
    }
    // What Prometheus adds to all of them.
    for labels in known.values_mut() {
        labels.extend(["job", "instance"].map(str::to_owned));
    }
    known
}

fn known_values(metric: &str, label: &str) -> Option<Vec<&'static str>> {
    match (metric, label) {
        ("mcp_authz_stream_failures_total", "reason") => {
            Some(vec!["violation", "aborted", "transport", "overloaded", "timed_out"])
        }
        ("mcp_authz_refused_requests_total", "reason") => Some(REFUSALS.to_vec()),
        (_, "reason") => Some(DECISIONS.to_vec()),
        ("mcp_authz_refused_requests_total", "verdict") => Some(vec!["deny", "shadow_deny"]),
        (_, "verdict") => Some(vec!["allow", "deny", "shadow_deny"]),
        (_, "result") => Some(vec!["success", "failure"]),
        _ => None,
    }
}

/// Returns the metrics, labels and label values in a query that Prometheus does not know.
fn unknown_names(query: &str) -> Vec<String> {
    let (names, known) = (names(query), known_labels());
    let mut unknown = Vec::new();
    let mut labels = BTreeSet::new();
    for metric in &names.metrics {
        match known.get(metric) {
            Some(of_metric) => labels.extend(of_metric),
            None => unknown.push(metric.clone()),
        }
    }
    for matcher in &names.matchers {
        let (metric, label) = (&matcher.metric, &matcher.label);
        if !known.get(metric).is_some_and(|labels| labels.contains(label)) {
            unknown.push(format!("{metric}{{{label}}}"));
        }
        if let Some(values) = known_values(metric, label) {
            let values = |value: &&str| !values.contains(value);
            unknown.extend(matcher.value.split('|').filter(values).map(str::to_owned));
        }
    }
    unknown.extend(names.groupings.iter().filter(|label| !labels.contains(label)).cloned());
    unknown
}

/// The labels that a query's result can have.
fn labels_of_result(query: &str) -> BTreeSet<String> {
    let (names, known) = (names(query), known_labels());
    names.by.unwrap_or_else(|| {
        names.metrics.iter().flat_map(|metric| known[metric].iter().cloned()).collect()
    })
}

/// The labels in a text of Prometheus or Grafana.
fn labels_in(text: &str, before: &str) -> Vec<String> {
    let end = |rest: &str| rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    text.split(before)
        .skip(1)
        .map(|rest| rest[..end(rest).unwrap_or(rest.len())].to_owned())
        .collect()
}

fn array<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list `{key}`: {value}"))
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no text `{key}`: {value}"))
}

fn rules() -> Vec<Value> {
    let file = yaml::document(&read(RULES));
    array(&file, "groups").iter().flat_map(|group| array(group, "rules").to_vec()).collect()
}

fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule.get("alert").is_some()).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).unwrap()
}

/// All panels, those in collapsed rows too.
fn panels() -> Vec<Value> {
    let dashboard = dashboard();
    let inner = |panel: &Value| panel["panels"].as_array().cloned().unwrap_or_default();
    array(&dashboard, "panels")
        .iter()
        .flat_map(|panel| [vec![panel.clone()], inner(panel)].concat())
        .collect()
}

/// The panels that show something.
fn charts() -> Vec<Value> {
    panels().into_iter().filter(|panel| panel["type"] != "row").collect()
}

/// All queries of the dashboard, each with what it is for.
fn dashboard_queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for chart in charts() {
        for target in array(&chart, "targets") {
            queries.push((text(&chart, "title").to_owned(), text(target, "expr").to_owned()));
        }
    }
    for annotation in array(&dashboard()["annotations"], "list") {
        if let Some(query) = annotation["expr"].as_str() {
            queries.push((text(annotation, "name").to_owned(), query.to_owned()));
        }
    }
    for variable in array(&dashboard()["templating"], "list") {
        if let Some(values) = variable["query"]["query"].as_str() {
            let (query, label) = label_values(values);
            queries.push((format!("${}", text(variable, "name")), query.to_owned()));
            assert!(labels_of_result(query).contains(label), "{values}");
        }
    }
    queries
}

/// `label_values(query, label)`
fn label_values(text: &str) -> (&str, &str) {
    let inner = text.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
    inner.and_then(|inner| inner.rsplit_once(", ")).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn rules_name_what_there_is() {
    let rules = rules();
    let mut used = BTreeSet::new();
    for rule in &rules {
        let query = text(rule, "expr");
        assert_eq!(unknown_names(query), Vec::<String>::new(), "{query}");
        used.extend(names(query).metrics);
    }
    for recorded in rules.iter().filter_map(|rule| rule["record"].as_str()) {
        assert!(used.contains(recorded), "nobody uses {recorded}");
    }
}

#[test]
fn the_dashboard_names_what_there_is_and_shows_all_of_it() {
    let queries = dashboard_queries();
    let mut shown = BTreeSet::new();
    for (title, query) in &queries {
        assert_eq!(unknown_names(query), Vec::<String>::new(), "{title}: {query}");
        shown.extend(names(query).metrics);
    }
    for metric in exposed_metrics() {
        assert!(shown.contains(&metric), "the dashboard does not show {metric}");
    }
    // It works without the recording rules.
    assert!(shown.iter().all(|metric| !metric.contains(':')), "{shown:?}");
}

#[test]
fn every_chart_can_be_narrowed_by_the_variables() {
    let variables = dashboard();
    let variables = array(&variables["templating"], "list");
    let variables: Vec<&str> = variables.iter().map(|variable| text(variable, "name")).collect();
    assert_eq!(variables, ["datasource", "job", "instance", "policy"]);
    let known = known_labels();
    for (title, query) in dashboard_queries().iter().filter(|(title, _)| !title.starts_with('$')) {
        let names = names(query);
        for variable in &variables[1..] {
            let with: BTreeSet<&String> = names
                .matchers
                .iter()
                .filter(|matcher| matcher.label == *variable)
                .inspect(|matcher| assert_eq!(matcher.value, format!("${variable}"), "{title}"))
                .map(|matcher| &matcher.metric)
                .collect();
            for metric in &names.metrics {
                let can_be = known[metric].contains(*variable);
                assert_eq!(with.contains(metric), can_be, "{title}: {metric} by {variable}");
            }
        }
    }
}

#[test]
fn the_dashboard_is_sound() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    assert_eq!(dashboard["id"], Value::Null);
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let mut ids = BTreeSet::new();
    let mut cells = BTreeMap::new();
    for panel in panels() {
        let title = text(&panel, "title").to_owned();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id comes twice");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{title}: {}", panel["gridPos"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            let other = cells.insert(cell, title.clone());
            assert_eq!(other, None, "{title} lies over it");
        }
    }
    let rows = 1 + cells.keys().map(|(_, y)| *y).max().unwrap();
    let uncovered = (0..rows).find(|&y| !(0..24).any(|x| cells.contains_key(&(x, y))));
    assert_eq!(uncovered, None, "a gap");

    for chart in charts() {
        let title = text(&chart, "title");
        assert!(text(&chart, "description").ends_with('.'), "{title}");
        assert_eq!(chart["datasource"], source, "{title}");
        let unit = match text(&chart, "type") {
            "heatmap" => &chart["options"]["yAxis"]["unit"],
            _ => &chart["fieldConfig"]["defaults"]["unit"],
        };
        assert!(unit.is_string(), "{title}: no unit");
        let targets = array(&chart, "targets");
        assert!(!targets.is_empty(), "{title}");
        let mut references = BTreeSet::new();
        for target in targets {
            assert_eq!(target["datasource"], source, "{title}");
            assert!(references.insert(text(target, "refId")), "{title}");
            let query = text(target, "expr");
            let labels = labels_of_result(query);
            for label in labels_in(text(target, "legendFormat"), "{{") {
                assert!(labels.contains(&label), "{title}: no label {label} in {query}");
            }
            for column in columns(&chart) {
                assert!(labels.contains(&column), "{title}: no label {column} in {query}");
            }
        }
    }
    // Nothing names a data source of some Grafana.
    let mut uids = Vec::new();
    collect(&dashboard, "uid", &mut uids);
    let builtin = ["mcp-authz", "${datasource}", "-- Grafana --"];
    assert!(uids.iter().all(|uid| builtin.iter().any(|known| uid == known)), "{uids:?}");
}

/// The labels that a table has columns for.
fn columns(chart: &Value) -> Vec<String> {
    let organize = chart["transformations"][0]["options"]["indexByName"].as_object();
    let names = organize.into_iter().flat_map(|columns| columns.keys().cloned());
    names.filter(|name| name != "Value").collect()
}

/// All values of a key, wherever it stands.
fn collect<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(entries) => {
            found.extend(entries.get(key));
            entries.values().for_each(|value| collect(value, key, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        _ => {}
    }
}

/// The lines that the dashboard draws are where the alerts begin.
#[test]
fn the_dashboard_draws_the_thresholds_of_the_alerts() {
    let query = |name: &str| {
        let alerts = alerts();
        let alert = alerts.iter().find(|alert| alert["alert"] == name);
        alert.map(|alert| text(alert, "expr").to_owned()).unwrap()
    };
    let line = |title: &str| {
        let charts = charts();
        let chart = charts.iter().find(|chart| chart["title"] == title).unwrap();
        let defaults = &chart["fieldConfig"]["defaults"];
        assert_eq!(defaults["custom"]["thresholdsStyle"]["mode"], "line");
        defaults["thresholds"]["steps"][1]["value"].as_f64().unwrap()
    };
    assert_eq!(query("McpAuthzHeldBytesHigh"), "mcp_authz_held_bytes > 64 * 1024 * 1024");
    assert_eq!(line("Held bodies"), 64.0 * 1024.0 * 1024.0);
    assert!(query("McpAuthzLatencyHigh").starts_with("histogram_quantile(0.99, "));
    assert!(query("McpAuthzLatencyHigh").contains("))) > 0.01 and "));
    assert_eq!(line("Decision time, quantiles"), 0.01);
}

#[test]
fn alerts_say_what_to_do() {
    let runbook = read(RUNBOOK);
    let mut alert_names = BTreeSet::new();
    for alert in alerts() {
        let name = text(&alert, "alert");
        assert!(alert_names.insert(name.to_owned()), "{name} comes twice");
        let severity = text(&alert["labels"], "severity");
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
        let annotations = &alert["annotations"];
        let (summary, description) =
            (text(annotations, "summary"), text(annotations, "description"));
        assert!(!summary.ends_with('.') && description.ends_with('.'), "{name}");
        assert_eq!(
            text(annotations, "runbook"),
            format!("{RUNBOOK}#{}", name.to_lowercase()),
            "{name}"
        );
        let labels = labels_of_result(text(&alert, "expr"));
        for label in labels_in(&format!("{summary} {description}"), "$labels.") {
            assert!(labels.contains(&label), "{name}: no label {label}");
        }
        // A section says what it means, how to look and what to do.
        let heading = format!("\n### {name}\n");
        let section =
            runbook.split(&heading).nth(1).unwrap_or_else(|| panic!("{name}: no section"));
        let section = section.split("\n### ").next().unwrap();
        for part in ["**Means.** ", "**Look.** ", "**Do.** "] {
            assert!(section.contains(part), "{name}: {part}");
        }
    }
    for section in runbook.lines().filter_map(|line| line.strip_prefix("### McpAuthz")) {
        let name = format!("McpAuthz{section}");
        assert!(alert_names.contains(&name), "there is no alert {name}");
    }
}

#[test]
fn every_alert_has_tests_that_it_fires_and_that_it_is_silent() {
    let tests = yaml::document(&read(RULE_TESTS));
    let cases: Vec<&Value> =
        array(&tests, "tests").iter().flat_map(|test| array(test, "alert_rule_test")).collect();
    for alert in alerts() {
        let name = text(&alert, "alert");
        for fires in [true, false] {
            let is_there = cases.iter().any(|case| {
                case["alertname"] == name && array(case, "exp_alerts").is_empty() != fires
            });
            assert!(is_there, "no test of {name} in which it fires: {fires}");
        }
    }
    for case in cases {
        let name = text(case, "alertname");
        assert!(alerts().iter().any(|alert| alert["alert"] == name), "there is no alert {name}");
    }
}

/// The input series of the rule tests use only known metrics and labels.
#[test]
fn tests_of_rules_name_what_there_is() {
    let tests = yaml::document(&read(RULE_TESTS));
    for test in array(&tests, "tests") {
        for series in array(test, "input_series") {
            let series = text(series, "series");
            assert_eq!(unknown_names(series), Vec::<String>::new(), "{series}");
        }
    }
}

#[test]
fn prometheus_loads_the_rules_and_names_jobs_as_they_expect() {
    let config = yaml::document(&read(PROMETHEUS));
    assert_eq!(config["rule_files"], json!(["rules.yaml"]));
    let jobs = array(&config, "scrape_configs");
    assert_eq!(jobs.len(), 2);
    for job in jobs {
        assert!(text(job, "job_name").starts_with("mcp-authz"), "{job}");
        for relabel in job["relabel_configs"].as_array().into_iter().flatten() {
            if relabel["target_label"] == "job" {
                assert!(text(relabel, "replacement").starts_with("mcp-authz/"), "{relabel}");
            }
        }
    }
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        _ if c.is_alphanumeric() || c == '-' => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    heading.trim_start_matches('#').trim().chars().filter_map(kept).collect()
}

/// A page without its fenced blocks.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

#[test]
fn the_runbook_s_links_lead_somewhere() {
    let page = prose(&read(RUNBOOK));
    let anchors = |page: &str| -> BTreeSet<String> {
        page.lines().filter(|line| line.starts_with('#')).map(anchor).collect()
    };
    for rest in page.split("](").skip(1) {
        let link = &rest[..rest.find(')').unwrap()];
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let target = match file {
            "" => page.clone(),
            file => prose(&read(&format!("deploy/{file}"))),
        };
        assert!(heading.is_empty() || anchors(&target).contains(heading), "{link}");
    }
}

/// The page that lists the metrics lists all, and shows what there is.
#[test]
fn the_metrics_are_listed() {
    let page = read("deploy/README.md");
    let exposed = exposed_metrics();
    let bucketed = |name: &str| {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        family.unwrap_or(name).to_owned()
    };
    let families: BTreeSet<String> = exposed.iter().map(|name| bucketed(name)).collect();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `mcp_authz_"));
    let listed: BTreeSet<String> =
        rows.map(|row| format!("mcp_authz_{}", row.split('`').next().unwrap())).collect();
    assert_eq!(listed, families);
    let (_, shown) = page.split_once("```text\n# HELP").expect("a scrape");
    let (shown, _) = shown.split_once("```").unwrap();
    for sample in shown.lines().filter(|line| line.starts_with("mcp_authz_")) {
        let name = &sample[..sample.find(['{', ' ']).unwrap()];
        assert!(exposed.contains(name), "{sample}");
    }
}

#[test]
fn the_runbook_names_what_there_is() {
    let page = read(RUNBOOK);
    let exposed = exposed_metrics();
    for metric in labels_in(&page, "mcp_authz_") {
        let name = format!("mcp_authz_{metric}");
        // Envoy's details of a response begin so, too.
        let is_reason = DECISIONS.iter().chain(&REFUSALS).any(|reason| *reason == metric);
        assert!(exposed.contains(&name) || is_reason || metric.is_empty(), "{name}");
    }
    for reason in DECISIONS.iter().chain(&REFUSALS) {
        let goes_on = ["allow_rule", "allow_default", "selected", "not_governed"].contains(reason);
        assert!(goes_on || page.contains(&format!("`{reason}`")), "{reason} is not explained");
    }
    // What it shows of `check` is what README shows, which is what it prints.
    let check =
        blocks(&page, "console").into_iter().find(|block| block.contains("rules, in order"));
    assert!(read("README.md").contains(&check.unwrap()));
    assert!(read("README.md").contains(&blocks(&page, "json").pop().unwrap()));
}

fn blocks(page: &str, language: &str) -> Vec<String> {
    let open = format!("```{language}\n");
    page.split(&open).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Configuration that the runbook shows is YAML.
#[test]
fn the_runbook_s_configuration_can_be_read() {
    let blocks = blocks(&read(RUNBOOK), "yaml");
    assert_eq!(blocks.len(), 1);
    let shown = yaml::document(&blocks[0]);
    let format = &shown["access_log"][0]["typed_config"]["log_format"]["json_format"];
    assert!(format.as_object().is_some_and(|fields| !fields.is_empty()), "{shown}");
}

fn promtool() -> &'static Tool {
    static PROMTOOL: OnceLock<Tool> = OnceLock::new();
    PROMTOOL.get_or_init(|| {
        debian::find("promtool", "PROMTOOL", &["prometheus"])
            .unwrap_or_else(|error| panic!("{error}"))
    })
}

/// Runs a command. Returns true if the command succeeded, with all its output.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    (output.status.success(), said)
}

fn succeeds(command: &mut Command) -> String {
    let (succeeded, said) = run(command);
    assert!(succeeded, "{command:?}\n{said}");
    said
}

#[test]
#[ignore = "needs promtool (Debian: prometheus): cargo test --locked -- --ignored"]
fn promtool_takes_the_rules_and_their_tests_pass() {
    succeeds(promtool().command().args(["check", "rules", "--lint-fatal"]).arg(path(RULES)));
    succeeds(promtool().command().args(["test", "rules"]).arg(path(RULE_TESTS)));
}

#[test]
#[ignore = "needs promtool (Debian: prometheus): cargo test --locked -- --ignored"]
fn the_dashboard_s_queries_are_promql() {
    let rules: Vec<Value> = dashboard_queries()
        .iter()
        .enumerate()
        .map(|(number, (_, query))| {
            let query = query.replace("$__rate_interval", "5m").replace("$__range", "1h");
            json!({"record": format!("dashboard:query:{number}"), "expr": query})
        })
        .collect();
    let count = rules.len();
    let file = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.yaml");
    fs::write(&rules, file.to_string()).unwrap();
    let said = succeeds(promtool().command().args(["check", "rules"]).arg(&rules));
    assert!(said.contains(&format!("{count} rules found")), "{said}");
}

#[test]
#[ignore = "needs promtool (Debian: prometheus): cargo test --locked -- --ignored"]
fn promtool_takes_the_metrics() {
    let mut child = promtool()
        .command()
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(scrape().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

const DISCOVERY: &str = "  kubernetes_sd_configs:\n  - role: pod\n";

/// A copy of the configuration in which pods are listed and not looked for.
fn with_pods(dir: &Path, pods: &[Value]) -> PathBuf {
    let config = read(PROMETHEUS);
    assert!(config.contains(DISCOVERY));
    let pods: String = pods
        .iter()
        .map(|labels| format!("  - {}\n", json!({"targets": ["10.0.0.1:80"], "labels": labels})))
        .collect();
    let config = config.replace(DISCOVERY, &format!("  static_configs:\n{pods}"));
    fs::copy(path(RULES), dir.join("rules.yaml")).unwrap();
    let file = dir.join("prometheus.yml");
    fs::write(&file, config).unwrap();
    file
}

#[test]
#[ignore = "needs promtool (Debian: prometheus): cargo test --locked -- --ignored"]
fn promtool_takes_the_configuration() {
    let check = |file: &Path| run(promtool().command().args(["check", "config"]).arg(file));
    let (succeeded, said) = check(&path(PROMETHEUS));
    // Debian builds it without Kubernetes; the rest can be checked all the same.
    if !said.contains("field kubernetes_sd_configs not found") {
        assert!(succeeded, "{said}");
    }
    let dir = tempfile::tempdir().unwrap();
    let (succeeded, said) = check(&with_pods(dir.path(), &[]));
    assert!(succeeded && said.contains("1 rule files found"), "{said}");
}

#[test]
#[ignore = "needs promtool (Debian: prometheus): cargo test --locked -- --ignored"]
fn pods_become_targets() {
    let pod = |changes: &[(&str, &str)]| {
        let mut labels = json!({
            "namespace": "shop",
            "pod_name": "gateway-1",
            "pod_ip": "10.0.0.1",
            "pod_phase": "Running",
            "pod_container_name": "mcp-authz",
            "pod_label_app_kubernetes_io_name": "gateway",
            "pod_annotation_prometheus_io_scrape": "true",
            // The main container's.
            "pod_annotation_prometheus_io_port": "8080",
        });
        for (label, value) in changes {
            labels[*label] = json!(value);
        }
        let labels = labels.as_object().unwrap().iter();
        labels.map(|(name, value)| (format!("__meta_kubernetes_{name}"), value.clone())).collect()
    };
    let pods: [Value; 6] = [
        pod(&[]),
        pod(&[("pod_name", "gateway-2"), ("pod_ip", "fd00::2")]),
        pod(&[("namespace", "lab"), ("pod_ip", "10.0.0.9")]),
        pod(&[("pod_container_name", "envoy")]),
        pod(&[("pod_annotation_prometheus_io_scrape", "false")]),
        pod(&[("pod_phase", "Succeeded")]),
    ];
    let dir = tempfile::tempdir().unwrap();
    let config = with_pods(dir.path(), &pods);
    let output = promtool()
        .command()
        .args(["check", "service-discovery", "--timeout", "5s"])
        .args([&config, Path::new("mcp-authz-pods")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let targets: BTreeSet<[String; 4]> = found
        .iter()
        .map(|target| &target["labels"])
        .filter(|labels| labels.get("instance").is_some())
        .map(|labels| {
            ["instance", "job", "namespace", "pod"].map(|key| text(labels, key).to_owned())
        })
        .collect();
    let expected = [
        ["10.0.0.1:9002", "mcp-authz/shop/gateway", "shop", "gateway-1"],
        ["10.0.0.9:9002", "mcp-authz/lab/gateway", "lab", "gateway-1"],
        ["[fd00::2]:9002", "mcp-authz/shop/gateway", "shop", "gateway-2"],
    ];
    assert_eq!(targets, expected.map(|labels| labels.map(str::to_owned)).into());
}

/// The queries of the decision log give what the runbook shows.
#[test]
#[ignore = "needs jq: cargo test --locked -- --ignored"]
fn the_runbook_s_queries_give_what_it_shows() {
    let jq = debian::find("jq", "JQ", &["jq", "libjq1", "libonig5"])
        .unwrap_or_else(|error| panic!("{error}"));
    let page = read(RUNBOOK);
    // Taken out of the mixture that `kubectl logs` gives.
    let dir = tempfile::tempdir().unwrap();
    let decisions = read("tests/monitoring/decisions.jsonl");
    let log = r#"{"timestamp":"2026-11-25T03:14:00Z","level":"INFO","message":"listening"}"#;
    let mixed = format!("not JSON at all\n{log}\n{decisions}");
    fs::write(dir.path().join("mcp-authz.log"), mixed).unwrap();
    let shell = |command: &str| {
        // The shell finds the jq that was found.
        let command = format!("jq() {{ {:?} \"$@\"; }}; {command}", jq.program());
        let mut shell = jq.command_for(Path::new("/bin/sh"));
        succeeds(shell.args(["-c", &command]).current_dir(dir.path()))
    };
    let first = page.lines().find(|line| line.starts_with("jq -cR ")).unwrap();
    shell(first);
    assert_eq!(fs::read_to_string(dir.path().join("decisions.jsonl")).unwrap(), decisions);
    let blocks = blocks(&page, "console");
    let shown: Vec<&str> = blocks
        .iter()
        .filter_map(|block| block.strip_prefix("$ jq "))
        .flat_map(|block| block.split("\n$ jq "))
        .collect();
    assert_eq!(shown.len(), 7, "{shown:?}");
    for part in shown {
        let (command, printed) = part.split_once('\n').unwrap();
        assert_eq!(shell(&format!("jq {command}")).trim_end(), printed.trim_end(), "{command}");
    }
}
