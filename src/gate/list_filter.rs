//! The filter that edits the response to a list request while the response comes.

mod value_end;

use std::borrow::Cow;

use super::{AdmittedRequest, Limits, Obligation, Refusal, is_not_utf8};
use crate::mcp::{Data, ListEntry, ListKind, SseRewriter, filter};
use crate::policy::{Budget, EvalContext, Grants, ListVisibility, Visibility};

use self::value_end::ValueEnd;

/// The condition budget of one message, in budgets of a call.
const BUDGET_IN_CALLS: usize = 100;

/// The headers of an HTTP response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status; 0 if Envoy did not send a readable one.
    pub status: u16,
    /// The `Content-Type`, in lower case.
    pub content_type: String,
    /// The values of `Cache-Control`, with commas between them.
    pub cache_control: String,
    /// True if the body is compressed.
    pub is_compressed: bool,
    /// True if there is no body.
    pub end_of_stream: bool,
}

/// The filter for the response to a list request, or to a request that resumes a stream.
#[derive(Debug)]
pub struct ListFilter {
    admitted: AdmittedRequest,
    limits: Limits,
    grants: Grants,
    obligation: Obligation,
    state: BodyState,
    is_elsewhere: bool,
}

/// The form of the body, with the bytes that have not been filtered.
#[derive(Debug)]
enum BodyState {
    /// The headers have not come.
    Unknown,
    /// One JSON value.
    Json { body: Vec<u8>, end: ValueEnd },
    /// The end of the body: the JSON value was complete and has been sent, or there is none.
    Complete,
    /// Server-sent events.
    SseRewriter(SseRewriter),
    /// A body that was dropped to free memory. An error replaces the next chunk.
    Discarded { in_events: bool },
    /// A body that could not be read. No more bytes of it are sent.
    Broken,
}

/// The decision about a response by its headers.
#[derive(Debug)]
pub enum Disposition {
    /// A response that is forwarded unread: it holds no list.
    PassThrough,
    /// A response whose body is filtered.
    Filter {
        /// The `Cache-Control` of the response. Shared caches must not store a list that differs by
        /// caller.
        cache_control: String,
    },
    /// A response that cannot be filtered, with the refusal that replaces it.
    Reject(Refusal),
}

/// A chunk of a filtered body.
#[derive(Debug)]
pub struct FilteredPart {
    /// The bytes that are sent in place of the chunk.
    pub bytes: Vec<u8>,
    /// The reason why no more bytes are sent.
    pub error: Option<Refusal>,
}

impl ListFilter {
    pub(super) fn new(admitted: AdmittedRequest, limits: Limits, obligation: Obligation) -> Self {
        let grants = Grants::of(&admitted.policy, admitted.claims.as_ref());
        let (state, is_elsewhere) = (BodyState::Unknown, false);
        Self { admitted, limits, grants, obligation, state, is_elsewhere }
    }

    /// Returns the obligation that this filter fulfills.
    pub fn obligation(&self) -> &Obligation {
        &self.obligation
    }

    /// Returns the request whose response this filter edits.
    pub fn admitted(&self) -> &AdmittedRequest {
        &self.admitted
    }

    /// Returns a refusal with the id of the request and the name of its policy.
    pub fn refusing(&self, refusal: Refusal) -> Refusal {
        let id = match &self.obligation {
            Obligation::FilterList { id, .. } => id.clone(),
            Obligation::FilterReplay => None,
        };
        refusal.answering(id).by(self.admitted.policy())
    }

    /// Returns the number of bytes that wait for the rest of their message.
    pub fn held_bytes(&self) -> usize {
        match &self.state {
            BodyState::Json { body, .. } => body.len(),
            BodyState::SseRewriter(events) => events.held_bytes(),
            BodyState::Unknown
            | BodyState::Complete
            | BodyState::Discarded { .. }
            | BodyState::Broken => 0,
        }
    }

    /// Decides about the response by its headers.
    pub fn on_headers(&mut self, head: &ResponseHead) -> Disposition {
        match head.status {
            0 => {
                let why = "Envoy does not send its `:status`: `mcp-authz envoy-config` prints the \
                           forward_rules that are needed";
                return Disposition::Reject(self.unreadable(why));
            }
            // An error holds no list; only a client that ignores the status would read one there.
            status if head.end_of_stream || !(200..300).contains(&status) => {
                self.is_elsewhere = status == 202 && self.is_list();
                return Disposition::PassThrough;
            }
            _ => {}
        }
        let media_type = head.content_type.split(';').next().unwrap_or_default().trim();
        self.state = match media_type {
            _ if head.is_compressed => {
                return Disposition::Reject(self.unreadable("it is compressed"));
            }
            _ if is_not_utf8(head.content_type.as_bytes()) => {
                return Disposition::Reject(self.unreadable("its charset is not UTF-8"));
            }
            "application/json" => BodyState::Json { body: Vec::new(), end: ValueEnd::default() },
            "text/event-stream" => BodyState::SseRewriter(SseRewriter::default()),
            // A 202 has no list: the filter sends the client no body.
            _ if head.status == 202 => {
                self.is_elsewhere = self.is_list();
                BodyState::Complete
            }
            _ => {
                let why = "it is neither application/json nor text/event-stream";
                return Disposition::Reject(self.unreadable(why));
            }
        };
        Disposition::Filter { cache_control: private(&head.cache_control) }
    }

    /// Returns true if the server accepted a request for a list, but sends the list on another
    /// stream (MCP 2024-11-05, "HTTP with SSE"). This filter does not edit that stream.
    pub fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }

    /// Returns true if the headers of the response have not come.
    pub fn awaits_headers(&self) -> bool {
        matches!(self.state, BodyState::Unknown)
    }

    /// Returns true if the response could not be read, so no more of it is sent.
    pub fn is_broken(&self) -> bool {
        matches!(self.state, BodyState::Broken)
    }

    /// Discards the bytes that wait for the rest of their message, because there is no room for
    /// them.
    pub fn discard_body(&mut self) {
        self.state = match self.state {
            BodyState::Json { .. } => BodyState::Discarded { in_events: false },
            BodyState::SseRewriter(_) => BodyState::Discarded { in_events: true },
            BodyState::Unknown
            | BodyState::Complete
            | BodyState::Discarded { .. }
            | BodyState::Broken => return,
        };
    }

    /// Filters a chunk of the body. Sends a JSON value as soon as it is complete, because no chunk
    /// is marked as the last one if trailers follow.
    pub fn on_body(&mut self, part: &[u8], is_last: bool) -> FilteredPart {
        let mut bytes = Vec::new();
        let (state, result) = match std::mem::replace(&mut self.state, BodyState::Broken) {
            BodyState::Json { mut body, mut end } => {
                body.extend_from_slice(part);
                let is_complete = end.is_in(part) || is_last;
                if is_complete && body.len() <= self.limits.max_body_bytes {
                    match self.filtered_bytes(&body) {
                        Ok(filtered) => {
                            bytes = filtered.map_or(body, String::into_bytes);
                            (BodyState::Complete, Ok(()))
                        }
                        Err(why) => (BodyState::Broken, Err(why)),
                    }
                } else {
                    (BodyState::Json { body, end }, Ok(()))
                }
            }
            BodyState::SseRewriter(mut events) => {
                let ambiguous = "clients could split its events differently";
                let filtered = |data: &str| self.filtered_event(data);
                let result = events.push(part, is_last, &mut bytes, ambiguous, filtered);
                (BodyState::SseRewriter(events), result)
            }
            // Only white space may follow a JSON value; anything else is dropped.
            BodyState::Complete => (BodyState::Complete, Ok(())),
            state @ BodyState::Discarded { .. } => {
                (state, Err("there is no room for it (--max-held-bytes)"))
            }
            state @ (BodyState::Unknown | BodyState::Broken) => {
                self.state = state;
                return FilteredPart { bytes, error: None };
            }
        };
        let (before, after) = match state {
            BodyState::SseRewriter(_) | BodyState::Discarded { in_events: true } => {
                ("data: ", "\n\n")
            }
            _ => ("", ""),
        };
        self.state = state;
        let result = match result {
            // Bytes that were sent are no longer buffered.
            Ok(()) if self.held_bytes() > self.limits.max_body_bytes => {
                Err("it is larger than limits.maxBodyBytes")
            }
            result => result,
        };
        let error = result.err().map(|why| self.unreadable(why));
        if let Some(refusal) = &error {
            self.state = BodyState::Broken;
            // Without the id, an error here would be unreadable for the client.
            if refusal.id.is_some() {
                bytes.extend(format!("{before}{}{after}", refusal.content().body).into_bytes());
            }
        }
        FilteredPart { bytes, error }
    }

    /// Returns true for the response to a list request, and false for a resumed stream.
    fn is_list(&self) -> bool {
        matches!(self.obligation, Obligation::FilterList { .. })
    }

    /// Returns true if the policy filters this kind of list.
    fn filters(&self, listing: ListKind) -> bool {
        self.admitted.policy.filters(listing.feature())
    }

    fn filtered_bytes(&self, message: &[u8]) -> Result<Option<String>, &'static str> {
        self.filtered(std::str::from_utf8(message).map_err(|_not_text| "it is not UTF-8")?)
    }

    /// Filters the data of an event. On a resumed stream, unreadable data is withheld and the
    /// stream continues, because that data belongs to another request.
    fn filtered_event(&self, data: &str) -> Result<Data, &'static str> {
        // Without `{`, no reader finds a message in the data.
        if !data.contains('{') {
            return Ok(Data::Keep);
        }
        match self.filtered(data) {
            Ok(filtered) => Ok(filtered.map_or(Data::Keep, Data::Replace)),
            Err(_unreadable) if !self.is_list() => Ok(Data::Withhold),
            Err(why) => Err(why),
        }
    }

    /// Returns a message without the entries that the caller may not see. Returns `None` if the
    /// message stays as it is.
    fn filtered(&self, message: &str) -> Result<Option<String>, &'static str> {
        // The first event of a stream may be empty, and so are events that keep a connection open.
        if message.trim_ascii().is_empty() {
            return Ok(None);
        }
        let budget = Budget::of(self.limits.condition_cost.saturating_mul(BUDGET_IN_CALLS));
        let max_depth = self.limits.max_json_depth;
        let filters = |listing| self.filters(listing);
        let entry = |listing, name: &str| self.entry(listing, name, &budget);
        let filtered = filter(message, filters, max_depth, entry)
            .map_err(|_not_json| "it is not one message that all clients read alike")?;
        if budget.is_spent() {
            return Err(
                "to filter it takes more steps than limits.conditionCost for a hundred calls",
            );
        }
        Ok(filtered)
    }

    fn entry(&self, listing: ListKind, name: &str, budget: &Budget) -> ListEntry<'_> {
        let (policy, feature) = (self.admitted.policy(), listing.feature());
        let AdmittedRequest { head, claims, .. } = &self.admitted;
        let Ok(subject) = policy.backend.subject(policy.dialect, (feature, name), head) else {
            return ListEntry::Remove;
        };
        let shown = policy.lists.of(feature);
        if shown == ListVisibility::Unfiltered {
            return if policy.exposes(&subject) { ListEntry::Keep } else { ListEntry::Remove };
        }
        let facts = EvalContext::new(policy.dialect, head, claims.as_ref(), &subject, budget);
        match (policy.visibility(&facts, &self.grants), shown) {
            (Visibility::Permitted, _) => ListEntry::Keep,
            (Visibility::Reachable(scopes), ListVisibility::Reachable) => {
                ListEntry::Annotate(scopes)
            }
            (Visibility::Reachable(_) | Visibility::Closed, _) => ListEntry::Remove,
        }
    }

    fn unreadable(&self, why: &str) -> Refusal {
        let what: Cow<'_, str> = match &self.obligation {
            Obligation::FilterList { listing, .. } => {
                format!("the answer to {}", listing.method()).into()
            }
            Obligation::FilterReplay => "the stream that a client resumes".into(),
        };
        self.refusing(Refusal::unreadable_list(&what, why))
    }
}

/// Returns a `Cache-Control` that forbids shared caches to store the response ([RFC 9111, section
/// 5.2.2]). Keeps the directives that restrict caching further, and `max-age`.
///
/// [RFC 9111, section 5.2.2]: https://www.rfc-editor.org/rfc/rfc9111#section-5.2.2
fn private(cache_control: &str) -> String {
    let mut directives = vec!["private"];
    for directive in cache_control.split(',').map(str::trim) {
        let name = directive.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
        // A quoted field name can hold a comma; the part after that comma is no directive.
        match name.as_str() {
            "no-store" | "no-cache" | "must-revalidate" | "no-transform" | "max-age"
                if !directive.contains('"') =>
            {
                directives.push(directive);
            }
            _ => {}
        }
    }
    directives.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_control_becomes_private() {
        for (before, after) in [
            ("", "private"),
            ("public", "private"),
            ("public, max-age=60, s-maxage=600", "private, max-age=60"),
            ("Public,S-MaxAge=9, Max-Age = 60", "private, Max-Age = 60"),
            ("no-store", "private, no-store"),
            ("private=\"x-a, public\", must-revalidate", "private, must-revalidate"),
            ("no-cache=\"a, max-age=9\"", "private"),
        ] {
            assert_eq!(private(before), after, "{before}");
        }
    }
}
