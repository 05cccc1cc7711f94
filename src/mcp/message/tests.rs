use super::*;
use crate::json::LazyObject;

fn parse(body: &str) -> Result<String, String> {
    parse_with(body, false)
}

fn parse_with(body: &str, batches: bool) -> Result<String, String> {
    fn described(message: &Message<'_>) -> String {
        match message {
            Message::Calls(calls) => {
                let call = |call: &Call<'_>| format!("{} {:?}", call.name, call.id);
                calls.iter().map(call).collect::<Vec<_>>().join(", ")
            }
            Message::Task { .. } => "a task".to_owned(),
            Message::NotGoverned { .. } => "not governed".to_owned(),
            Message::Batch(messages) => {
                messages.iter().map(described).collect::<Vec<_>>().join(", ")
            }
        }
    }
    match read(
        body.as_bytes(),
        &MirroredHeaders::default(),
        Accept { max_depth: 16, batches, ..Accept::USUAL },
    ) {
        Ok(message) => Ok(described(&message)),
        Err(Malformed { problem, id }) => {
            let id = id.as_ref().map(RequestId::as_json);
            Err(format!("{} {} {id:?}", problem.code(), problem.reason()))
        }
    }
}

#[test]
fn a_call_is_read_whatever_the_order_and_escapes_of_its_keys() {
    for body in [
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}"#,
        r#" {"params":{"arguments":{},"name":"echo"},"method":"tools/call","id":7,"jsonrpc":"2.0"} "#,
        r#"{"jsonrpc":"2.0","id":7,"m\u0065thod":"tools\/call","params":{"n\u0061me":"\u0065cho"}}"#,
    ] {
        assert_eq!(parse(body), Ok("echo Some(\"7\")".to_owned()), "{body}");
    }
    let notification = r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"echo"}}"#;
    assert_eq!(parse(notification), Ok("echo None".to_owned()));
}

#[test]
fn other_messages_are_not_governed() {
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"clientInfo":{}}}"#,
        r#"{"jsonrpc":"2.0","id":"a","method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"no/such","params":[1,2]}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"method":"tools/call"}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}"#,
    ] {
        assert_eq!(parse(body), Ok("not governed".to_owned()), "{body}");
    }
}

#[test]
fn each_refusal_has_its_code_reason_and_id() {
    for (body, expected) in [
        ("", "-32700 not_json None"),
        ("\u{feff}{}", "-32700 not_json None"),
        ("{} {}", "-32700 not_json None"),
        (r#"{"id":1,"id":2}"#, "-32700 duplicate_key None"),
        (r#"{"x":1,"\u0078":2}"#, "-32700 duplicate_key None"),
        (r#"{"params":{"name":"a","n\u0061me":"b"}}"#, "-32700 duplicate_key None"),
        (r#"{"params":{"_meta":{"a":1,"a":2}}}"#, "-32700 duplicate_key None"),
        (r#"{"id":1,"Method":"x"}"#, "-32700 case_variant_key None"),
        (r#"{"id":1,"method":"x","params":{"NAME":"x"}}"#, "-32700 case_variant_key Some(\"1\")"),
        ("{\"id\":1,\"method\":\"x\",\"param\u{17f}\":{}}", "-32700 case_variant_key Some(\"1\")"),
        (r#"{"id":1,"method":"x","a":1,"a":2}"#, "-32700 duplicate_key Some(\"1\")"),
        (
            r#"{"id":1,"method":"x","params":{"_meta":{"IO.modelcontextprotocol/protocolVersion":""}}}"#,
            "-32700 case_variant_key Some(\"1\")",
        ),
        (r#"[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]"#, "-32700 json_too_deep None"),
        ("[]", "-32600 batch None"),
        ("7", "-32600 not_json_rpc None"),
        ("{}", "-32600 not_json_rpc None"),
        (r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#, "-32600 not_json_rpc Some(\"1\")"),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, "-32600 not_json_rpc None"),
        (r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#, "-32600 not_json_rpc None"),
        (r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#, "-32600 not_json_rpc None"),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method\u0000":"tools/call"}"#,
            "-32700 not_json None",
        ),
        (r#"{"params":{"name":"a","name\u0000":"b"}}"#, "-32700 not_json None"),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call\u0000x"}"#,
            "-32600 not_json_rpc Some(\"1\")",
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\u{200b}\"}",
            "-32600 not_json_rpc Some(\"1\")",
        ),
        (r#"{"jsonrpc":"2.0","id":1}"#, "-32600 not_json_rpc None"),
        (r#"{"jsonrpc":"2.0","result":1}"#, "-32600 not_json_rpc None"),
        (r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#, "-32600 not_json_rpc None"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"x","result":1}"#, "-32600 not_json_rpc None"),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"Tools/Call ","params":{"name":"a"}}"#,
            "-32600 not_json_rpc Some(\"1\")",
        ),
    ] {
        assert_eq!(parse(body), Err(expected.to_owned()), "{body}");
    }
    assert_eq!(
        read(
            b"{\"a\":\"\xff\"}",
            &MirroredHeaders::default(),
            Accept { max_depth: 16, batches: false, ..Accept::USUAL }
        )
        .unwrap_err()
        .problem,
        Problem::NotUtf8(6)
    );
}

#[test]
fn a_call_without_a_usable_tool_is_refused() {
    let long = format!(r#","params":{{"name":"{}"}}"#, "x".repeat(257));
    for params in [
        "",
        &long,
        r#","params":null"#,
        r#","params":["echo"]"#,
        r#","params":{}"#,
        r#","params":{"name":7}"#,
        r#","params":{"name":""}"#,
        r#","params":{"name":"echo\u0000x"}"#,
        r#","params":{"name":"echo","arguments":[1]}"#,
        r#","params":{"name":"echo","arguments":"{}"}"#,
        r#","params":{"name":"echo","_meta":[]}"#,
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":"x","method":"tools/call"{params}}}"#);
        assert_eq!(
            parse(&body),
            Err("-32602 no_usable_call Some(\"\\\"x\\\"\")".to_owned()),
            "{body}"
        );
    }
}

#[test]
fn arguments_are_read_when_asked_for() {
    let read_arguments = |arguments: &str| {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"a"{arguments}}}}}"#
        );
        match read(
            body.as_bytes(),
            &MirroredHeaders::default(),
            Accept { max_depth: 16, batches: false, ..Accept::USUAL },
        ) {
            Ok(Message::Calls(calls)) => {
                let object = calls[0].parameters.arguments.get(&mut { usize::MAX });
                object.map(|object| object.map(LazyObject::len))
            }
            other => panic!("{other:?}"),
        }
    };
    let empty = Ok(Some(0));
    assert_eq!(read_arguments(""), empty);
    assert_eq!(read_arguments(r#","arguments":null"#), empty);
    assert_eq!(read_arguments(r#","arguments":{ }"#), empty);
    let twice = read_arguments(r#","arguments":{"a":1,"a":2}"#).unwrap_err();
    assert_eq!(twice.reason(), "duplicate_key");
    let deeper = read_arguments(r#","arguments":{"a":[{"b":1,"b":2}]}"#).unwrap_err();
    assert_eq!(deeper.reason(), "duplicate_key");
    let Problem::NotJson(error) = deeper else { panic!("{deeper:?}") };
    // The error gives an offset in the body, not in the arguments.
    let before = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"a":[{"b":1,"#;
    assert!((before.len()..before.len() + 8).contains(&error.offset), "{error:?}");
}

#[test]
fn a_name_may_be_as_long_as_servers_take_it() {
    let call = |length| {
        let name = "x".repeat(length);
        parse(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}"}}}}"#
        ))
    };
    assert!(call(256).is_ok() && call(257).is_err());
}

#[test]
fn headers_mirror_what_each_method_is_about() {
    let agrees = |method: &str, params: &str, name: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let mut headers = MirroredHeaders::default();
        headers.add("mcp-name", name.as_bytes());
        match read(
            body.as_bytes(),
            &headers,
            Accept { max_depth: 16, batches: false, ..Accept::USUAL },
        ) {
            Ok(_) => true,
            Err(malformed) => {
                assert_eq!(malformed.problem.code(), -32020);
                assert_eq!(malformed.to_string(), "the header `Mcp-Name` and the body disagree");
                false
            }
        }
    };
    for (method, params) in [
        ("tools/call", r#"{"name":"a"}"#),
        ("prompts/get", r#"{"name":"a"}"#),
        ("resources/read", r#"{"uri":"a","name":"b"}"#),
    ] {
        assert!(agrees(method, params, "a") && !agrees(method, params, "b"), "{method}");
    }
    assert!(agrees("no/such", r#"{"name":"a"}"#, "b"), "nobody knows what it would mirror");
}

#[test]
fn refusals_say_what_is_wrong() {
    let told = |body: &str, batches| {
        let accept = Accept { max_depth: 16, batches, ..Accept::USUAL };
        read(body.as_bytes(), &MirroredHeaders::default(), accept).unwrap_err().to_string()
    };
    assert_eq!(told("[]", true), "the body is not a JSON-RPC 2.0 message: the batch is empty");
    assert_eq!(told("[]", false), "batches are not accepted: send one message a request");
    // The error gives an offset in the body, not in the object that holds the key.
    let meta = r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"a":1,"a":2}}}"#;
    let at = meta.find(r#""a":2"#).unwrap_or_default();
    let told = told(meta, false);
    let place = told.rsplit(' ').next().and_then(|word| word.parse::<usize>().ok());
    assert!(place.is_some_and(|place| place >= at && place < meta.len()), "{told}");
}

#[test]
fn a_batch_is_read_message_by_message_if_it_is_accepted() {
    let call = |name: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}"}}}}"#)
    };
    let ping = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
    let batch = |messages: &[&str]| format!(" [{}] ", messages.join(" , "));
    let (a, b) = (call("a"), call("b"));
    let some = batch(&[&a, ping, &b]);
    assert_eq!(
        parse_with(&some, true),
        Ok("a Some(\"1\"), not governed, b Some(\"1\")".to_owned())
    );
    assert_eq!(parse(&some), Err("-32600 batch None".to_owned()));
    assert_eq!(parse_with(&a, true), parse(&a), "one message is no batch");
    let nested = batch(&[&batch(&[&a])]);
    let twice = r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","method":"ping"}"#;
    let nameless = r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{}}"#;
    for (body, expected) in [
        ("[]", "-32600 not_json_rpc None"),
        (nested.as_str(), "-32600 not_json_rpc None"),
        (&batch(&["1"]), "-32600 not_json_rpc None"),
        (&batch(&[ping, twice]), "-32700 duplicate_key None"),
        (&batch(&[ping, nameless]), "-32602 no_usable_call None"),
        (&format!("{some}{some}"), "-32700 not_json None"),
        (&batch(&[ping].repeat(101)), "-32600 not_json_rpc None"),
    ] {
        assert_eq!(parse_with(body, true), Err(expected.to_owned()), "{body}");
    }
    assert!(parse_with(&batch(&[ping].repeat(100)), true).is_ok());
    // The error gives an offset in the body, not in the message.
    let body = format!("[{ping}, {twice}]");
    let accept = Accept { max_depth: 16, batches: true, ..Accept::USUAL };
    let malformed = read(body.as_bytes(), &MirroredHeaders::default(), accept).unwrap_err();
    let Problem::NotJson(error) = malformed.problem else { panic!("{malformed:?}") };
    assert!(error.offset > ping.len(), "{error:?}");
}
