//! Policies that change while they are used.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

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

/// How many lines of the log say so.
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
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(!passes(&stack).await);
}

#[tokio::test]
async fn a_hangup_loads_the_policy_anew_even_if_nothing_changed() {
    let stack = start(OPEN, &Mode::Buffered.config()).await;
    let id = stack.sidecar.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    assert!(stack.sidecar.logs("policies reloaded").await);
    assert!(passes(&stack).await);
}
