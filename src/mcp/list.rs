//! The filter that removes entries from the response to a list request.
//!
//! All bytes that need not change stay as they are. As in requests, text that decoders would read
//! in different ways is rejected. A client could find an entry in such text that this filter does
//! not see.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use super::call;
use super::message::{Keys, Member, member, members};
use super::methods::ListKind;
use crate::json::{Fault, JsonError, Kind, Reader};

/// The member of an entry's `_meta` that holds the scopes which a call of the entry needs.
pub const REQUIRED_SCOPES: &str = "mcp-authz/requiredScopes";

/// The decision about an entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListEntry<'s> {
    /// The entry stays as it is.
    Keep,
    /// The entry stays, and its `_meta` names the scopes that a call needs.
    Annotate(&'s [String]),
    /// The entry is removed.
    Remove,
}

/// The member of a result that sets who may cache the result (MCP 2026-07-28, "Caching").
const CACHE_SCOPE: &str = "cacheScope";

/// The lists in a response's `result`.
#[derive(Debug, Default)]
struct Lists<'a> {
    /// The lists, in their order in the response.
    lists: Vec<(ListKind, Vec<Member<'a>>)>,
    /// The offset in bytes at which a first member of `result` could be inserted.
    result_start: usize,
    cache_scope: Option<Member<'a>>,
}

/// A range of a text in bytes, and its replacement.
type Edit = (Range<usize>, String);

/// Filters the lists in a response's `result`. `authorize` decides about each entry by its list and
/// name; in templates, stars replace expressions. An entry with an ambiguous name is removed. A
/// result with a list becomes `cacheScope: private`, on each page. Returns `None` if the response
/// stays as it is.
///
/// # Errors
/// If clients could read the response in different ways.
pub fn filter<'s>(
    response: &str,
    filters: impl Fn(ListKind) -> bool,
    max_depth: usize,
    mut authorize: impl FnMut(ListKind, &str) -> ListEntry<'s>,
) -> Result<Option<String>, JsonError> {
    let mut edits: Vec<Edit> = Vec::new();
    for Lists { lists, result_start, cache_scope } in responses(response, &filters, max_depth)? {
        for (listing, entries) in &lists {
            edits.extend(filter_entries(response, *listing, entries, max_depth, &mut authorize));
        }
        match cache_scope {
            _ if lists.is_empty() => {}
            Some(scope) if scope.text == "\"private\"" => {}
            Some(scope) => {
                let range = scope.offset..scope.offset + scope.text.len();
                edits.push((range, "\"private\"".to_owned()));
            }
            None => {
                // The list is another member, so a comma must follow.
                let member = format!("\"{CACHE_SCOPE}\":\"private\",");
                edits.push((result_start..result_start, member));
            }
        }
    }
    if edits.is_empty() {
        return Ok(None);
    }
    edits.sort_by_key(|(range, _)| range.start);
    let (mut filtered, mut at) = (String::with_capacity(response.len() + 32), 0);
    for (range, text) in edits {
        filtered.push_str(response.get(at..range.start).unwrap_or_default());
        filtered.push_str(&text);
        at = range.end;
    }
    filtered.push_str(response.get(at..).unwrap_or_default());
    Ok(Some(filtered))
}

/// Returns the entries that the caller may see, as the replacement of all entries. Returns `None`
/// if the list stays as it is.
fn filter_entries<'s>(
    response: &str,
    listing: ListKind,
    entries: &[Member<'_>],
    max_depth: usize,
    authorize: &mut impl FnMut(ListKind, &str) -> ListEntry<'s>,
) -> Option<Edit> {
    let (first, last) = (entries.first()?, entries.last()?);
    let (_, name_key) = listing.keys();
    let (mut kept, mut before, mut is_changed) = (String::new(), first.offset, false);
    for entry in entries {
        let named = Named::of(entry, name_key, max_depth);
        // An entry that could not be called is removed, too.
        let name = named
            .as_ref()
            .and_then(|named| call::judged(listing.feature(), Cow::Borrowed(&named.name)).ok());
        let verdict = name.map_or(ListEntry::Remove, |name| authorize(listing, &name));
        is_changed |= verdict != ListEntry::Keep;
        if verdict != ListEntry::Remove && !kept.is_empty() {
            // The comma, with the white space around it.
            kept.push_str(response.get(before..entry.offset).unwrap_or_default());
        }
        match (verdict, named) {
            (ListEntry::Keep, _) => kept.push_str(entry.text),
            (ListEntry::Annotate(scopes), Some(named)) => {
                named.write_with(scopes, entry, &mut kept);
            }
            (ListEntry::Annotate(_) | ListEntry::Remove, _) => {}
        }
        before = entry.offset + entry.text.len();
    }
    is_changed.then_some((first.offset..last.offset + last.text.len(), kept))
}

/// Reads the lists in a response, or in each response of a batch (MCP 2025-03-26).
fn responses<'a>(
    text: &'a str,
    filters: &impl Fn(ListKind) -> bool,
    max_depth: usize,
) -> Result<Vec<Lists<'a>>, JsonError> {
    let mut reader = Reader::new(text, max_depth);
    let mut responses = Vec::new();
    if reader.peek()? == Kind::Array {
        reader.array(|reader| {
            responses.push(lists(reader, filters)?);
            Ok(())
        })?;
    } else {
        responses.push(lists(&mut reader, filters)?);
    }
    reader.end()?;
    Ok(responses)
}

/// Reads the lists in a response's `result`.
fn lists<'a>(
    reader: &mut Reader<'a>,
    filters: &impl Fn(ListKind) -> bool,
) -> Result<Lists<'a>, JsonError> {
    const KEYS: [&str; 1] = ["result"];

    let listings = || ListKind::ALL.into_iter().filter(|listing| filters(*listing));
    let known: Vec<_> = listings().map(|listing| listing.keys().0).chain([CACHE_SCOPE]).collect();
    let (mut keys, mut result_keys) = (Keys::default(), Keys::default());
    let mut found = Lists::default();
    if reader.peek()? != Kind::Object {
        return Err(JsonError { fault: Fault::Syntax("not a message"), offset: reader.offset() });
    }
    reader.object(|reader, key| {
        if keys.add(reader, key, &KEYS)?.is_none() {
            return reader.raw().map(drop);
        }
        match reader.peek()? {
            Kind::Object => {}
            Kind::Array => {
                let fault = Fault::Syntax("a result that is no object");
                return Err(JsonError { fault, offset: reader.offset() });
            }
            _ => return reader.raw().map(drop),
        }
        found.result_start = reader.offset() + 1;
        reader.object(|reader, key| {
            let Some(key) = result_keys.add(reader, key, &known)? else {
                return reader.raw().map(drop);
            };
            let Some(listing) = listings().find(|listing| listing.keys().0 == key) else {
                found.cache_scope = Some(member(reader)?);
                return Ok(());
            };
            if reader.peek()? != Kind::Array {
                let fault = Fault::Syntax("a list that is no array");
                return Err(JsonError { fault, offset: reader.offset() });
            }
            let mut entries = Vec::new();
            reader.array(|reader| {
                entries.push(member(reader)?);
                Ok(())
            })?;
            found.lists.push((listing, entries));
            Ok(())
        })
    })?;
    for keys in [&keys, &result_keys] {
        keys.refuse_duplicates(reader.offset())?;
        if keys.check().is_err() {
            let fault = Fault::Syntax("a key that differs by letters' case only");
            return Err(JsonError { fault, offset: reader.offset() });
        }
    }
    Ok(found)
}

/// An entry with a name that all readers agree about.
#[derive(Debug)]
struct Named<'a> {
    name: Cow<'a, str>,
    /// The entry's `_meta`.
    meta: Option<Member<'a>>,
    /// The start and end, in bytes, of the value in `_meta` that already names the needed scopes.
    said: Option<(usize, usize)>,
}

impl<'a> Named<'a> {
    /// Reads an entry; `None` if readers could disagree about its name or its `_meta`.
    fn of(entry: &Member<'a>, name_key: &'static str, max_depth: usize) -> Option<Self> {
        if entry.kind != Kind::Object {
            return None;
        }
        let (mut name, mut meta) = (None, None);
        let known = [name_key, "_meta"];
        let keys = members((entry.text, 0), &known, max_depth, |reader, key| {
            match (key == name_key, reader.peek()?) {
                (true, Kind::String) => name = Some(reader.string()?),
                // Some servers write null for an absent value.
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

    /// Finds the value in `_meta` that already names the needed scopes. The outer `None` means that
    /// readers could disagree about the `_meta`.
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

/// Returns a member's text so that it can come first in an object, with a comma if others follow.
fn before_others(object: &Member<'_>, member: String) -> String {
    let rest = object.text.trim_start_matches('{').trim_start();
    if rest.starts_with('}') { member } else { member + "," }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(answer: &str) -> Option<String> {
        let needs = ["a".to_owned(), "b:c".to_owned()];
        let authorize = |_, name: &str| match name.chars().next() {
            Some('s') => ListEntry::Keep,
            Some('n') => ListEntry::Annotate(&needs),
            _ => ListEntry::Remove,
        };
        filter(answer, |listing| listing == ListKind::Tools, 16, authorize).unwrap()
    }

    #[test]
    fn entries_go_and_everything_else_stays_as_it_is() {
        let with = |scope: &str, tools: &str| {
            format!(
                r#" {{"id":"7", "jsonrpc":"2.0","result":{{{scope}"x":[1.50,"\u0041"], "tools":{tools}, "nextCursor":"c"}}}} "#
            )
        };
        let (around, private) =
            (|tools: &str| with("", tools), |tools| with("\"cacheScope\":\"private\",", tools));
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
            // Entries that readers could disagree about.
            (
                r#"[{"name":"s","name":"s"},{"Name":"s"},{"name":7},"s",{},{"name":"s","_meta":7},{"n\u0061me":"s"}]"#,
                r#"[{"n\u0061me":"s"}]"#,
            ),
            (r#"[{"name":"s","NAME":"go"}]"#, "[]"),
        ] {
            assert_eq!(filtered(&around(before)), Some(private(after)), "{before}");
        }
        for same in [r#"[]"#, r#"[ ]"#, r#"[{"name":"s1","inputSchema":{"type":"object"}}]"#] {
            assert_eq!(filtered(&around(same)), Some(private(same)), "{same}");
            assert_eq!(filtered(&private(same)), None, "{same}");
        }
    }

    #[test]
    fn cache_scope_becomes_private() {
        for scope in [r#""public""#, r#""Private""#, "null", "7", r#"{"a":"private"}"#, r#""""#] {
            let response =
                format!(r#"{{"result":{{"tools":[], "cacheScope" : {scope} , "ttlMs":9}}}}"#);
            let private = r#"{"result":{"tools":[], "cacheScope" : "private" , "ttlMs":9}}"#;
            assert_eq!(filtered(&response).as_deref(), Some(private), "{scope}");
        }
        // Only a list is filtered.
        assert_eq!(filtered(r#"{"result":{"cacheScope":"public","contents":[]}}"#), None);
        let scopes = r#"{"result":{"cacheScope":"private","tools":[],"CacheScope":"public"}}"#;
        assert!(filter(scopes, |_| true, 16, |_, _| ListEntry::Keep).is_err());
    }

    #[test]
    fn each_response_of_a_batch_is_filtered() {
        let list = |cache: &str, tools: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{cache}"tools":[{tools}]}}}}"#)
        };
        let other = r#"{"jsonrpc":"2.0","id":2,"result":{"content":[]}}"#;
        let batch = |one: &str| format!("[{other}, {one}]");
        let (private, all) = ("\"cacheScope\":\"private\",", r#"{"name":"go"},{"name":"s"}"#);
        let filtered = filtered(&batch(&list("", all)));
        assert_eq!(filtered, Some(batch(&list(private, r#"{"name":"s"}"#))));
        for same in [batch(other), "[]".to_owned()] {
            assert_eq!(filter(&same, |_| true, 16, |_, _| ListEntry::Remove), Ok(None));
        }
    }

    #[test]
    fn several_lists_are_filtered_together() {
        let response = r#"{"result":{"prompts":[{"name":"go"}],"x":1,"tools":[{"name":"s"},{"name":"go"}],"resources":[{"uri":"go"}]}}"#;
        let authorize = |listing, name: &str| match (listing, name) {
            (ListKind::Tools, "s") => ListEntry::Keep,
            _ => ListEntry::Remove,
        };
        let filtered = filter(response, |listing| listing != ListKind::Resources, 16, authorize);
        let expected = r#"{"result":{"cacheScope":"private","prompts":[],"x":1,"tools":[{"name":"s"}],"resources":[{"uri":"go"}]}}"#;
        assert_eq!(filtered.unwrap().as_deref(), Some(expected));
    }

    #[test]
    fn entries_of_each_list_are_named_in_their_own_way() {
        for (listing, answer, expected) in [
            (
                ListKind::Prompts,
                r#"{"result":{"prompts":[{"name":"go"},{"name":"s"}],"tools":[{"name":"go"}]}}"#,
                r#"{"result":{"cacheScope":"private","prompts":[{"name":"s"}],"tools":[{"name":"go"}]}}"#,
            ),
            (
                ListKind::Resources,
                r#"{"result":{"resources":[{"name":"s","uri":"go"},{"name":"go","uri":"s"}]}}"#,
                r#"{"result":{"cacheScope":"private","resources":[{"name":"go","uri":"s"}]}}"#,
            ),
            (
                ListKind::ResourceTemplates,
                r#"{"result":{"resourceTemplates":[{"uri":"s"},{"uriTemplate":"s/../x"},{"uriTemplate":"n{x}"}]}}"#,
                r#"{"result":{"cacheScope":"private","resourceTemplates":[{"_meta":{"mcp-authz/requiredScopes":["a"]},"uriTemplate":"n{x}"}]}}"#,
            ),
        ] {
            let needs = ["a".to_owned()];
            let authorize = |_, name: &str| match name.chars().next() {
                Some('s') => ListEntry::Keep,
                Some('n') => ListEntry::Annotate(&needs),
                _ => ListEntry::Remove,
            };
            let filtered = filter(answer, |filtered| filtered == listing, 16, authorize);
            assert_eq!(filtered.unwrap().as_deref(), Some(expected));
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
            "{",
            "[7]",
            "[{},[]]",
            r#"{"result":[{"tools":[{"name":"go"}]}]}"#,
            r#"{"result":{"tools":[]},"result":{}}"#,
            r#"{"result":{"tools":[],"tools":[]}}"#,
            r#"{"Result":{"tools":[]}}"#,
            r#"{"result":{"TOOLS":[]}}"#,
            r#"{"result":{"tools":{}}}"#,
            r#"{"result":{"tools":[]}} {}"#,
        ] {
            let filtered =
                filter(unclear, |listing| listing == ListKind::Tools, 16, |_, _| ListEntry::Keep);
            assert!(filtered.is_err(), "{unclear}");
        }
    }
}
