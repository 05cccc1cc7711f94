//! The answer to a list, with entries taken out.
//!
//! All bytes that need not change stay as they are. What decoders would read in
//! different ways is refused, as in requests: an entry that is hidden from us could be
//! there for a client.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::call;
use super::message::{Keys, Member, member, members};
use super::methods::Listing;
use crate::json::{Fault, JsonError, Kind, Reader};

/// The member of an entry's `_meta` that tells which scopes a call of it needs.
pub const REQUIRED_SCOPES: &str = "mcp-authz/requiredScopes";

/// What becomes of an entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'s> {
    /// It stays as it is.
    Stays,
    /// It stays, and tells which scopes it needs.
    Needs(&'s [String]),
    /// It goes.
    Goes,
}

/// A list in an answer.
#[derive(Debug)]
struct List<'a> {
    /// Where the array begins and ends in the text.
    array: (usize, usize),
    entries: Vec<Member<'a>>,
}

/// An answer with some entries taken out of the list in its `result`, as `judge` says by
/// their names (with stars in templates); `None` if it stays as it is. An entry whose name
/// cannot be known for sure goes.
///
/// # Errors
/// If it is no message that all readers understand alike.
pub fn filter<'s>(
    answer: &str,
    listing: Listing,
    max_depth: usize,
    mut judge: impl FnMut(&str) -> Entry<'s>,
) -> Result<Option<String>, JsonError> {
    let (result_key, name_key) = listing.keys();
    let Some(List { array: (start, end), entries }) = list(answer, result_key, max_depth)? else {
        return Ok(None);
    };
    let part = |from, to| answer.get(from..to).unwrap_or_default();
    let first = entries.first().map_or(end - 1, |entry| entry.offset);
    let mut filtered = part(0, first).to_owned();
    let (mut before, mut is_changed, mut is_empty) = (start, false, true);
    for entry in &entries {
        let named = Named::of(entry, name_key, max_depth);
        // What could not be called goes, too.
        let name = named
            .as_ref()
            .and_then(|named| call::judged(listing.feature(), Cow::Borrowed(&named.name)).ok());
        let verdict = name.map_or(Entry::Goes, |name| judge(&name));
        is_changed |= verdict != Entry::Stays;
        if verdict != Entry::Goes {
            // With the comma in front, if there is one.
            filtered.push_str(if is_empty { "" } else { part(before, entry.offset) });
            is_empty = false;
        }
        match (verdict, named) {
            (Entry::Stays, _) => filtered.push_str(entry.text),
            (Entry::Needs(scopes), Some(named)) => named.write_with(scopes, entry, &mut filtered),
            (Entry::Needs(_) | Entry::Goes, _) => {}
        }
        before = entry.offset + entry.text.len();
    }
    filtered.push_str(part(if entries.is_empty() { first } else { before }, answer.len()));
    Ok(is_changed.then_some(filtered))
}

/// The list in an answer's `result`, if there is one.
fn list<'a>(
    answer: &'a str,
    key_of_list: &'static str,
    max_depth: usize,
) -> Result<Option<List<'a>>, JsonError> {
    const KEYS: [&str; 1] = ["result"];

    let mut reader = Reader::new(answer, max_depth);
    let (mut keys, mut result_keys) = (Keys::default(), Keys::default());
    let mut list = None;
    if reader.peek()? != Kind::Object {
        return Err(JsonError { fault: Fault::Syntax("not a message"), offset: reader.offset() });
    }
    reader.object(|reader, key| {
        if keys.add(reader, key, &KEYS)?.is_none() || reader.peek()? != Kind::Object {
            return reader.raw().map(drop);
        }
        reader.object(|reader, key| {
            if result_keys.add(reader, key, &[key_of_list])?.is_none() {
                return reader.raw().map(drop);
            }
            if reader.peek()? != Kind::Array {
                let fault = Fault::Syntax("a list that is no array");
                return Err(JsonError { fault, offset: reader.offset() });
            }
            let (start, mut entries) = (reader.offset(), Vec::new());
            reader.array(|reader| {
                entries.push(member(reader)?);
                Ok(())
            })?;
            list = Some(List { array: (start, reader.offset()), entries });
            Ok(())
        })
    })?;
    reader.end()?;
    for keys in [&keys, &result_keys] {
        keys.refuse_duplicates(reader.offset())?;
        if keys.check().is_err() {
            let fault = Fault::Syntax("a key that differs by letters' case only");
            return Err(JsonError { fault, offset: reader.offset() });
        }
    }
    Ok(list)
}

/// An entry of which it is clear what it names.
#[derive(Debug)]
struct Named<'a> {
    name: Cow<'a, str>,
    /// Its `_meta`.
    meta: Option<Member<'a>>,
    /// Where in that, and to where, it says already which scopes are needed.
    said: Option<(usize, usize)>,
}

impl<'a> Named<'a> {
    /// `None` if its name, or what `_meta` it has, is not clear.
    fn of(entry: &Member<'a>, name_key: &'static str, max_depth: usize) -> Option<Self> {
        if entry.kind != Kind::Object {
            return None;
        }
        let (mut name, mut meta) = (None, None);
        let known = [name_key, "_meta"];
        let keys = members((entry.text, 0), &known, max_depth, |reader, key| {
            match (key == name_key, reader.peek()?) {
                (true, Kind::String) => name = Some(reader.string()?),
                // Some servers write null where there is nothing.
                (false, kind) if kind != Kind::Null => meta = Some(member(reader)?),
                _ => drop(reader.raw()?),
            }
            Ok(())
        });
        keys.ok()?.check().ok()?;
        let said = match &meta {
            Some(meta) => Self::said(meta, max_depth)?,
            None => None,
        };
        Some(Self { name: name?, meta, said })
    }

    /// `None` if the `_meta` is not clear.
    fn said(meta: &Member<'_>, max_depth: usize) -> Option<Option<(usize, usize)>> {
        if meta.kind != Kind::Object {
            return None;
        }
        let mut said = None;
        let read = members((meta.text, 0), &[REQUIRED_SCOPES], max_depth, |reader, _known| {
            let value = member(reader)?;
            said = Some((value.offset, value.offset + value.text.len()));
            Ok(())
        });
        read.ok().map(|_keys| said)
    }

    /// Writes the entry with the scopes that it needs.
    fn write_with(&self, scopes: &[String], entry: &Member<'_>, to: &mut String) {
        // Scopes need no escapes.
        let scopes = format!("[\"{}\"]", scopes.join("\",\""));
        let member = format!("\"{REQUIRED_SCOPES}\":{scopes}");
        let (from, until, new) = match (&self.meta, self.said) {
            (Some(meta), Some((from, until))) => (meta.offset + from, meta.offset + until, scopes),
            (Some(meta), None) => (meta.offset + 1, meta.offset + 1, before_others(meta, member)),
            (None, _) => (1, 1, before_others(entry, format!("\"_meta\":{{{member}}}"))),
        };
        let (before, after) = (entry.text.get(..from), entry.text.get(until..));
        // Writing to a `String` cannot fail.
        let _written =
            write!(to, "{}{new}{}", before.unwrap_or_default(), after.unwrap_or_default());
    }
}

/// The text of a member that comes first in an object.
fn before_others(object: &Member<'_>, member: String) -> String {
    let rest = object.text.trim_start_matches('{').trim_start();
    if rest.starts_with('}') { member } else { member + "," }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(answer: &str) -> Option<String> {
        let needs = ["a".to_owned(), "b:c".to_owned()];
        let judge = |name: &str| match name.chars().next() {
            Some('s') => Entry::Stays,
            Some('n') => Entry::Needs(&needs),
            _ => Entry::Goes,
        };
        filter(answer, Listing::Tools, 16, judge).unwrap()
    }

    #[test]
    fn entries_go_and_everything_else_stays_as_it_is() {
        let around = |tools: &str| {
            format!(
                r#" {{"id":"7", "jsonrpc":"2.0","result":{{"x":[1.50,"\u0041"], "tools":{tools}, "nextCursor":"c"}}}} "#
            )
        };
        for (before, after) in [
            (r#"[{"name":"go"}]"#, "[]"),
            (r#"[ {"name":"go"} , {"name":"go"} ]"#, "[  ]"),
            (
                r#"[ {"name":"s1"}, {"name":"go"},{"name":"s2"} ]"#,
                r#"[ {"name":"s1"},{"name":"s2"} ]"#,
            ),
            (
                r#"[ {"name":"go"}, {"name":"s1"} , {"name":"s2"}]"#,
                r#"[ {"name":"s1"} , {"name":"s2"}]"#,
            ),
            (
                r#"[{"name":"n"}]"#,
                r#"[{"_meta":{"mcp-authz/requiredScopes":["a","b:c"]},"name":"n"}]"#,
            ),
            (
                r#"[{"name":"n","_meta":{"x":1}},{"name":"n","_meta":{ }}]"#,
                r#"[{"name":"n","_meta":{"mcp-authz/requiredScopes":["a","b:c"],"x":1}},{"name":"n","_meta":{"mcp-authz/requiredScopes":["a","b:c"] }}]"#,
            ),
            (r#"[{"name":"go"},{"name":"s","_meta":null}]"#, r#"[{"name":"s","_meta":null}]"#),
            (
                r#"[{"name":"n","_meta":{"x":1,"mcp-authz/requiredScopes": 7}}]"#,
                r#"[{"name":"n","_meta":{"x":1,"mcp-authz/requiredScopes": ["a","b:c"]}}]"#,
            ),
            // What is not clear.
            (
                r#"[{"name":"s","name":"s"},{"Name":"s"},{"name":7},"s",{},{"name":"s","_meta":7},{"n\u0061me":"s"}]"#,
                r#"[{"n\u0061me":"s"}]"#,
            ),
            (r#"[{"name":"s","NAME":"go"}]"#, "[]"),
        ] {
            assert_eq!(filtered(&around(before)), Some(around(after)), "{before}");
        }
        for same in [r#"[]"#, r#"[ ]"#, r#"[{"name":"s1","inputSchema":{"type":"object"}}]"#] {
            assert_eq!(filtered(&around(same)), None, "{same}");
        }
    }

    #[test]
    fn entries_of_each_list_are_named_in_their_own_way() {
        for (listing, answer, expected) in [
            (
                Listing::Prompts,
                r#"{"result":{"prompts":[{"name":"go"},{"name":"s"}],"tools":[{"name":"go"}]}}"#,
                r#"{"result":{"prompts":[{"name":"s"}],"tools":[{"name":"go"}]}}"#,
            ),
            (
                Listing::Resources,
                r#"{"result":{"resources":[{"name":"s","uri":"go"},{"name":"go","uri":"s"}]}}"#,
                r#"{"result":{"resources":[{"name":"go","uri":"s"}]}}"#,
            ),
            (
                Listing::ResourceTemplates,
                r#"{"result":{"resourceTemplates":[{"uri":"s"},{"uriTemplate":"s/../x"},{"uriTemplate":"n{x}"}]}}"#,
                r#"{"result":{"resourceTemplates":[{"_meta":{"mcp-authz/requiredScopes":["a"]},"uriTemplate":"n{x}"}]}}"#,
            ),
        ] {
            let needs = ["a".to_owned()];
            let judge = |name: &str| match name.chars().next() {
                Some('s') => Entry::Stays,
                Some('n') => Entry::Needs(&needs),
                _ => Entry::Goes,
            };
            assert_eq!(filter(answer, listing, 16, judge).unwrap().as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_no_list_stays_and_what_is_unclear_is_refused() {
        for same in [
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"tools":[]}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"tools":[{"name":"go"}]}}"#,
        ] {
            assert_eq!(filtered(same), None);
        }
        for unclear in [
            "",
            "[]",
            "{",
            r#"[{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}]"#,
            r#"{"result":{"tools":[]},"result":{}}"#,
            r#"{"result":{"tools":[],"tools":[]}}"#,
            r#"{"Result":{"tools":[]}}"#,
            r#"{"result":{"TOOLS":[]}}"#,
            r#"{"result":{"tools":{}}}"#,
            r#"{"result":{"tools":[]}} {}"#,
        ] {
            let filtered = filter(unclear, Listing::Tools, 16, |_| Entry::Stays);
            assert!(filtered.is_err(), "{unclear}");
        }
    }
}
