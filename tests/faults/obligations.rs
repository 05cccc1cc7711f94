//! Lists that the sidecar has still to filter: their streams stay open, count as open, and
//! no list arrives unfiltered, whatever becomes of the sidecar.

use serde_json::json;
use tokio::task::JoinHandle;

use super::load::PATIENCE;
use super::tools::{RESPONSE, Slow, SlowTools};
use super::upstream::VERDICT;
use super::{LISTS_POLICY, Verdict, alone, until};
use crate::http2;
use crate::stack;
use crate::support::{Http, MODES, Mode, Reply, call, mcp_authz, send, start_before, token};

type Stack = stack::Stack<SlowTools>;

const LIST: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;

/// Starts everything, with a sidecar that takes one request at once, and asks for a list
/// whose response the server holds back.
async fn await_list(mode: Mode) -> (Stack, JoinHandle<Reply>) {
    let config = http2::speak_http2(&mode.config_for(LISTS_POLICY));
    let tools = SlowTools::start().await;
    let port = tools.server.port;
    let mut sidecar = mcp_authz();
    sidecar.env("MCP_AUTHZ_MAX_STREAMS", "1");
    let stack = start_before((tools, port), sidecar, LISTS_POLICY, &config).await;
    let request = Http::new(&stack)
        .post(Some(&token("")), LIST)
        .header(RESPONSE, Slow::List.word())
        .header(VERDICT, Verdict::Allowed.word())
        .timeout(PATIENCE);
    let list = tokio::spawn(send(request));
    until("the server has the request", async || stack.server.open() == 1).await;
    (stack, list)
}

async fn call_allowed(stack: &Stack) -> u16 {
    let body = call(Verdict::Allowed.word(), &json!({}));
    let request = Http::new(stack).post(Some(&token("")), body);
    send(request.header(VERDICT, Verdict::Allowed.word())).await.status
}

fn assert_filtered(mode: Mode, list: &Reply) {
    assert_eq!(list.status, 200, "{mode:?}: {list:?}");
    let tools = &list.json()["result"]["tools"];
    assert_eq!(*tools, json!([{"name": Verdict::Allowed.word()}]), "{mode:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn awaited_list_counts_as_stream() {
    let _alone = alone().await;
    for mode in MODES {
        let (stack, list) = await_list(mode).await;
        assert_eq!(stack.streams().await, 1, "{mode:?}");
        assert_eq!(call_allowed(&stack).await, 503, "{mode:?}");
        stack.server.let_end(true);
        assert_filtered(mode, &list.await.unwrap());
        stack.until_streams(0).await;
        assert_eq!(call_allowed(&stack).await, 200, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn terminated_sidecar_filters_awaited_list() {
    let _alone = alone().await;
    for mode in MODES {
        let (mut stack, list) = await_list(mode).await;
        stack.sidecar.signal("TERM").unwrap();
        assert!(stack.sidecar.logs("stopping").await);
        stack.server.let_end(true);
        assert_filtered(mode, &list.await.unwrap());
        let status = stack.sidecar.terminate().await.unwrap();
        assert_eq!(status.code(), Some(0), "{mode:?}: {}", stack.sidecar.log());
        assert!(!stack.sidecar.log().contains("cut off"), "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_sidecar_reveals_no_list() {
    let _alone = alone().await;
    for mode in MODES {
        let (mut stack, list) = await_list(mode).await;
        stack.sidecar.kill();
        stack.server.let_end(true);
        let list = list.await.unwrap();
        assert_eq!(list.status, 500, "{mode:?}: {list:?}");
        assert!(!list.body.contains(Verdict::Denied.word()), "{mode:?}: {list:?}");
    }
}
