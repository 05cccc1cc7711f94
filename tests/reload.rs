//! Policies that change while they are used.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::stack::Stack;
use crate::support::{Http, MODES, Mode, call, send, start, token};

const OPEN: &str = "policies: [{name: open, rules: [{action: Allow}]}]\n";
const CLOSED: &str = "policies: [{name: closed, rules: [{action: Deny}]}]\n";

async fn passes(stack: &Stack) -> bool {
    let before = stack.server.requests();
    let body = call("countdown", &json!({"from": 1}));
    let reply = send(Http::new(stack).post(Some(&token("")), body)).await;
    let passed = stack.server.requests() > before;
    assert_eq!(passed, reply.status != 403, "{reply:?}");
    passed
}

/// Counts the occurrences of a text in the sidecar's log.
fn count(stack: &Stack, text: &str) -> usize {
    stack.sidecar.log().matches(text).count()
}

#[tokio::test]
async fn a_policy_that_changes_takes_effect_without_a_restart() {
    for mode in MODES {
        let stack = start(CLOSED, &mode.config()).await;
        assert!(!passes(&stack).await);
        let policy = stack.dir().join("policy.yaml");
        fs::write(&policy, OPEN).unwrap();
        assert!(stack.sidecar.logs("policies reloaded").await, "{}", stack.sidecar.log());
        assert!(passes(&stack).await, "{mode:?}");
    }
}

#[tokio::test]
async fn a_mistake_keeps_the_last_good_policy_and_is_told() {
    let stack = start(OPEN, &Mode::Buffered.config()).await;
    let policy = stack.dir().join("policy.yaml");
    fs::write(&policy, CLOSED.replace("Deny", "Dny").replace("name", "nam")).unwrap();
    assert!(stack.sidecar.logs("policies not reloaded").await);
    let log = stack.sidecar.log();
    for mistake in ["expected `Allow` or `Deny`, found `Dny`", "unknown key `nam`"] {
        assert!(log.contains(mistake), "{mistake}: {log}");
    }
    assert!(passes(&stack).await);
    fs::remove_file(&policy).unwrap();
    assert!(stack.sidecar.logs("No such file").await);
    assert!(passes(&stack).await);
    // Once good again, it counts.
    fs::write(&policy, CLOSED).unwrap();
    assert!(stack.sidecar.logs("policies reloaded").await);
    assert!(!passes(&stack).await);
}

/// As Kubernetes does it: a link to a file behind a link that is swapped.
#[tokio::test]
async fn the_files_of_a_config_map_are_followed() {
    let stack = start(CLOSED, &Mode::Buffered.config()).await;
    let dir = stack.dir();
    for (version, policy) in [("..1", OPEN), ("..2", CLOSED)] {
        fs::create_dir(dir.join(version)).unwrap();
        fs::write(dir.join(version).join("policy.yaml"), policy).unwrap();
    }
    symlink("..1", dir.join("..data")).unwrap();
    symlink("..data/policy.yaml", dir.join("new")).unwrap();
    fs::rename(dir.join("new"), dir.join("policy.yaml")).unwrap();
    assert!(stack.sidecar.logs("policies reloaded").await);
    assert!(passes(&stack).await);
    symlink("..2", dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    while count(&stack, "policies reloaded") < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!passes(&stack).await);
}

#[tokio::test]
async fn a_hangup_loads_the_policy_anew_even_if_nothing_changed() {
    let stack = start(OPEN, &Mode::Buffered.config()).await;
    stack.sidecar.signal("HUP").unwrap();
    assert!(stack.sidecar.logs("policies reloaded").await);
    assert!(passes(&stack).await);
}

/// Allows everything until its second half is there.
const FIRST_HALF: &str = "policies:\n- name: half\n  defaultAction: Allow\n  rules:\n  - {name: x, action: Allow, target: {tools: [{tool: x}]}}\n";
const SECOND_HALF: &str = "  - {name: closed, action: Deny}\n";

/// A program that writes a file and pauses: what is missing are the Deny rules.
#[tokio::test]
async fn half_written_file_never_decides() {
    let stack = start(CLOSED, &Mode::Buffered.config()).await;
    let mut file = File::create(stack.dir().join("policy.yaml")).unwrap();
    file.write_all(FIRST_HALF.as_bytes()).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        assert!(!passes(&stack).await);
    }
    file.write_all(SECOND_HALF.as_bytes()).unwrap();
    drop(file);
    assert!(stack.sidecar.logs("policies reloaded").await, "{}", stack.sidecar.log());
    assert!(!passes(&stack).await);
    assert_eq!(count(&stack, "policies reloaded"), 1);
    let decisions = stack.sidecar.decisions();
    let rules: Vec<_> = decisions.iter().map(|decision| &decision["policy"]).collect();
    assert!(rules.iter().any(|&policy| policy == "half"), "{rules:?}");
}

/// The operating system follows the directory that was moved away, not its path.
#[tokio::test]
async fn replaced_directory_is_watched() {
    let other = "policies: [{name: b, match: {hosts: [b]}, rules: [{action: Deny}]}]\n";
    let stack = start_config_map([[other, CLOSED]; 2]).await;
    // The first directory is watched from the next check on.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let directory = stack.dir().join("map");
    fs::rename(&directory, stack.dir().join("map.old")).unwrap();
    fs::create_dir(&directory).unwrap();
    assert!(stack.sidecar.logs("no policy file").await, "{}", stack.sidecar.log());
    let mut file = File::create(directory.join("c.yaml")).unwrap();
    file.write_all(FIRST_HALF.as_bytes()).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        assert!(!passes(&stack).await);
    }
    assert_eq!(count(&stack, "policies reloaded"), 1);
    file.write_all(SECOND_HALF.as_bytes()).unwrap();
    drop(file);
    while count(&stack, "policies reloaded") < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!passes(&stack).await);
}

/// The same by a program that opens the file for each part, so that only pauses tell.
#[tokio::test(flavor = "multi_thread")]
async fn file_in_many_parts_never_decides() {
    const STEP: Duration = Duration::from_millis(50);

    let stack = start(CLOSED, &Mode::Buffered.config()).await;
    let path = stack.dir().join("policy.yaml");
    // A machine that is too busy to write in time tries again.
    for attempt in 0.. {
        assert!(attempt < 20, "this machine is too slow for the test");
        fs::write(&path, CLOSED).unwrap();
        let reloads = count(&stack, "policies reloaded");
        let (path, mut longest) = (path.clone(), Duration::ZERO);
        let writer = std::thread::spawn(move || {
            let mut written = Instant::now();
            for part in FIRST_HALF.lines().chain(["# "; 40]).chain(SECOND_HALF.lines()) {
                let mut text = fs::read_to_string(&path).unwrap();
                if part.starts_with("policies:") {
                    text.clear();
                }
                fs::write(&path, text + part + "\n").unwrap();
                longest = longest.max(written.elapsed());
                written = Instant::now();
                std::thread::sleep(STEP);
            }
            longest
        });
        let mut passed = false;
        while !writer.is_finished() {
            passed |= passes(&stack).await;
        }
        if writer.join().unwrap() > Duration::from_millis(400) {
            continue;
        }
        assert!(!passed);
        while count(&stack, "policies reloaded") == reloads {
            assert!(!passes(&stack).await);
        }
        assert!(!passes(&stack).await);
        break;
    }
}

/// Starts with a directory of policies that is a ConfigMap: `swap` replaces all its files at once.
async fn start_config_map(versions: [[&str; 2]; 2]) -> Stack {
    let stack = start(CLOSED, &Mode::Buffered.config()).await;
    let dir = stack.dir().to_owned();
    for (version, files) in versions.iter().enumerate() {
        let version = dir.join(format!("map/..{version}"));
        fs::create_dir_all(&version).unwrap();
        for (name, text) in ["a.yaml", "b.yaml"].iter().zip(files) {
            fs::write(version.join(name), text).unwrap();
        }
    }
    swap(&dir, 0);
    for name in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{name}"), dir.join("map").join(name)).unwrap();
    }
    fs::remove_file(dir.join("policy.yaml")).unwrap();
    symlink("map", dir.join("policy.yaml")).unwrap();
    stack.sidecar.signal("HUP").unwrap();
    assert!(stack.sidecar.logs("policies reloaded").await);
    stack
}

fn swap(dir: &Path, version: usize) {
    let map = dir.join("map");
    symlink(format!("..{version}"), map.join("..new")).unwrap();
    fs::rename(map.join("..new"), map.join("..data")).unwrap();
}

/// Each version denies by one of its files what the other file of the other version allows.
#[tokio::test(flavor = "multi_thread")]
async fn swapped_config_map_never_mixes_versions() {
    const SWAPS: usize = 150;

    let policy = |name: &str, path: &str, action: &str| {
        format!("policies: [{{name: {name}, match: {path}, rules: [{{action: {action}}}]}}]\n")
    };
    let (here, elsewhere) = ("{pathPrefixes: [/mcp]}", "{pathPrefixes: [/elsewhere]}");
    let stack = start_config_map([
        [&policy("a0", here, "Deny"), &policy("b0", "{pathPrefixes: [/]}", "Allow")],
        [&policy("a1", elsewhere, "Deny"), &policy("b1", "{pathPrefixes: [/]}", "Deny")],
    ])
    .await;
    for version in 1..=SWAPS {
        swap(stack.dir(), version % 2);
        stack.sidecar.signal("HUP").unwrap();
        if version % 3 == 0 {
            swap(stack.dir(), (version + 1) % 2);
        }
        assert!(!passes(&stack).await);
    }
    // What it ends with is taken, too.
    swap(stack.dir(), 1);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(!passes(&stack).await);
        let decisions = stack.sidecar.decisions();
        if decisions.last().is_some_and(|decision| decision["policy"] == "b1") {
            break;
        }
        assert!(Instant::now() < deadline, "{}", stack.sidecar.log());
    }
}

/// Opening a pipe would wait for whoever writes into it.
#[tokio::test]
async fn pipe_keeps_last_policy_and_stops() {
    let mut stack = start(CLOSED, &Mode::Buffered.config()).await;
    let (policy, pipe) = (stack.dir().join("policy.yaml"), stack.dir().join("pipe"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::rename(&pipe, &policy).unwrap();
    assert!(stack.sidecar.logs("policy.yaml: this is a pipe").await, "{}", stack.sidecar.log());
    assert!(stack.sidecar.logs("policies not reloaded").await);
    assert!(!passes(&stack).await);
    // It is still there to see another change.
    fs::remove_file(&policy).unwrap();
    fs::write(&policy, OPEN).unwrap();
    assert!(stack.sidecar.logs("policies reloaded").await);
    assert!(passes(&stack).await);
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::rename(&pipe, &policy).unwrap();
    stack.sidecar.signal("HUP").unwrap();
    while count(&stack, "policies not reloaded") < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(stack.sidecar.terminate().await.unwrap().success());
}

#[tokio::test]
async fn pipe_in_directory_is_an_error() {
    let other = "policies: [{name: b, match: {hosts: [b]}, rules: [{action: Deny}]}]\n";
    let stack = start_config_map([[other, CLOSED]; 2]).await;
    let pipe = stack.dir().join("map/c.yaml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(stack.sidecar.logs("c.yaml: this is a pipe").await, "{}", stack.sidecar.log());
    assert!(!passes(&stack).await);
}

/// While two policies alternate, every call is judged by one of them, from start to
/// end, and none fails.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_calls_during_a_hundred_reloads() {
    const CALLS: usize = 10_000;
    const RELOADS: usize = 100;
    const CALLERS: usize = 16;

    let policy = |scope: &str| {
        format!(
            "policies: [{{name: {scope}, rules: [{{action: Allow, source: {{jwt: {{scopes: [{scope}]}}}}}}]}}]\n"
        )
    };
    let (odd, even) = (policy("odd"), policy("even"));
    let stack = start(&even, &Mode::FullDuplexStreamed.config()).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (calls, is_over) = (Arc::clone(&calls), Arc::clone(&is_over));
            let (http, token) = (Http::new(&stack), token("other"));
            tokio::spawn(async move {
                let mut challenges: BTreeMap<String, usize> = BTreeMap::new();
                while !is_over.load(Ordering::Relaxed) || calls.load(Ordering::Relaxed) < CALLS {
                    let body = call("countdown", &json!({"from": 1}));
                    let reply = send(http.post(Some(&token), body)).await;
                    assert_eq!(reply.status, 403, "{reply:?}");
                    let challenge = reply.challenge().unwrap_or_else(|| panic!("{reply:?}"));
                    *challenges.entry(challenge.to_owned()).or_default() += 1;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                challenges
            })
        })
        .collect();
    let path = stack.dir().join("policy.yaml");
    for reload in 1..=RELOADS {
        let next = stack.dir().join("next");
        fs::write(&next, if reload % 2 == 1 { &odd } else { &even }).unwrap();
        fs::rename(next, &path).unwrap();
        // At once: the test is about calls, not about when files are taken.
        stack.sidecar.signal("HUP").unwrap();
        while count(&stack, "policies reloaded") < reload {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let mut challenges: BTreeMap<String, usize> = BTreeMap::new();
    for caller in callers {
        for (challenge, count) in caller.await.unwrap() {
            *challenges.entry(challenge).or_default() += count;
        }
    }
    let total = calls.load(Ordering::Relaxed);
    assert!(total >= CALLS);
    assert_eq!(challenges.len(), 2, "{challenges:?}");
    let by = |scope: &str| {
        let named = format!("scope=\"{scope}\"");
        challenges.iter().find(|(challenge, _)| challenge.contains(&named)).map(|(_, count)| *count)
    };
    assert_eq!(by("odd").unwrap() + by("even").unwrap(), total, "{challenges:?}");
    assert_eq!(stack.server.requests(), 0);

    // The record of each names the policy that decided, and its file.
    let decisions = stack.sidecar.decided(total).await;
    assert_eq!(decisions.len(), total);
    let mut digests: BTreeMap<String, String> = BTreeMap::new();
    for decision in &decisions {
        let text = |name: &str| decision[name].as_str().unwrap().to_owned();
        assert_eq!(decision["requiredScopes"], json!([text("policy")]), "{decision}");
        let digest = digests.entry(text("policy")).or_insert_with(|| text("policySha256"));
        assert_eq!(*digest, text("policySha256"), "{decision}");
    }
    assert_eq!(digests.len(), 2);
}
