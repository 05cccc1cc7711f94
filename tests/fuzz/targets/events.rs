//! Streams of events: wherever they are split, the same goes on; and a client that reads
//! it all at once finds no tool that was taken out.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_authz::mcp::{Data, ListEntry, ListKind, SseRewriter, filter};
use serde_json::Value;

/// The one tool that stays.
const STAYS: &str = "good";

fuzz_target!(|input: &[u8]| {
    let [split, stream @ ..] = input else { return };
    let whole = filtered([stream].into_iter());
    let (before, after) = stream.split_at(usize::from(*split).min(stream.len()));
    assert_eq!(whole, filtered([before, after].into_iter()), "in two parts");
    let size = usize::from(*split % 7) + 1;
    assert_eq!(whole, filtered(stream.chunks(size)), "in parts of {size}");
    let goes_on = String::from_utf8_lossy(&whole.0);
    for tool in tools(&goes_on).into_iter().chain(tools_by_line(&goes_on)) {
        assert_eq!(tool, STAYS);
    }
});

/// The tools that a client finds which takes each line for itself, splits as Python does,
/// and is lenient about names.
fn tools_by_line(stream: &str) -> Vec<String> {
    let ends = "\n\r\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{85}\u{2028}\u{2029}";
    let lines = stream.split(|character| ends.contains(character));
    let data = lines.filter_map(|line| line.split_once(':')).filter_map(|(name, value)| {
        name.trim().to_ascii_lowercase().ends_with("data").then_some(value)
    });
    data.flat_map(tools_of).collect()
}

fn tools_of(message: &str) -> Vec<String> {
    let messages = match serde_json::from_str::<Value>(message.trim()).unwrap_or_default() {
        Value::Array(messages) => messages,
        message => vec![message],
    };
    let tools = messages.iter().filter_map(|message| message["result"]["tools"].as_array());
    tools.flatten().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
}

/// Returns the bytes that the filter forwards, and true if the filter broke the stream off.
fn filtered<'p>(parts: impl Iterator<Item = &'p [u8]>) -> (Vec<u8>, bool) {
    let (mut events, mut goes_on) = (SseRewriter::default(), Vec::new());
    for part in parts {
        if events.push(part, false, &mut goes_on, (), rewrite).is_err() {
            return (goes_on, true);
        }
    }
    let is_broken = events.push(&[], true, &mut goes_on, (), rewrite).is_err();
    (goes_on, is_broken)
}

/// Filters the tools of an event, and withholds one that cannot be read.
fn rewrite(data: &str) -> Result<Data, ()> {
    let authorize = |_, name: &str| if name == STAYS { ListEntry::Keep } else { ListEntry::Remove };
    Ok(match filter(data, |listing| listing == ListKind::Tools, 64, authorize) {
        Ok(filtered) => filtered.map_or(Data::Keep, Data::Replace),
        Err(_) => Data::Withhold,
    })
}

/// The tools that a client finds, which takes each line end for the same.
fn tools(stream: &str) -> Vec<String> {
    let stream = stream.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    let mut tools = Vec::new();
    for event in stream.split("\n\n") {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        let data: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        tools.extend(tools_of(&data.join("\n")));
    }
    tools
}
