//! The answer to a list, filtered while it comes.

use super::{Admitted, Asked, Limits, Refusal, is_not_utf8};
use crate::mcp::{Entry, Events, Listing, filter};
use crate::policy::{Budget, Facts, Grants, Shown, Standing};

/// How many calls' worth of steps a message may take.
const LIKE_SO_MANY_CALLS: usize = 100;

/// The head of an HTTP response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status.
    pub status: u16,
    /// The `Content-Type`, in lower case.
    pub content_type: String,
    /// Whether its body is compressed.
    pub is_compressed: bool,
    /// Whether it has no body.
    pub is_all: bool,
}

/// A list that was asked for, and whose answer is filtered.
#[derive(Debug)]
pub struct AwaitedList {
    admitted: Admitted,
    limits: Limits,
    grants: Grants,
    asked: Asked,
    form: Form,
}

/// How the answer comes.
#[derive(Debug)]
enum Form {
    /// Its head has not come.
    Unknown,
    /// In one message, of which this has come.
    Json(Vec<u8>),
    /// In events.
    Events(Events),
    /// There is no room for it, which is told in place of what comes next.
    NoRoom { in_events: bool },
    /// It could not be read: nothing of it goes on any more.
    Broken,
}

/// What is done with an answer, by its head.
#[derive(Debug)]
pub enum Coming {
    /// It is no list: it goes on unread.
    NoList,
    /// Its body is filtered.
    List,
    /// It cannot be filtered.
    Unreadable(Refusal),
}

/// A part of a filtered body.
#[derive(Debug)]
pub struct FilteredPart {
    /// What goes on in its place.
    pub bytes: Vec<u8>,
    /// Why nothing more goes on.
    pub broken: Option<Refusal>,
}

impl AwaitedList {
    pub(super) fn new(admitted: Admitted, limits: Limits, asked: Asked) -> Self {
        let grants = Grants::of(&admitted.policy, admitted.claims.as_ref());
        Self { admitted, limits, grants, asked, form: Form::Unknown }
    }

    /// What list it is.
    pub fn listing(&self) -> Listing {
        self.asked.listing
    }

    /// The request that asked for it.
    pub fn admitted(&self) -> &Admitted {
        &self.admitted
    }

    /// How many bytes are held of it.
    pub fn held_bytes(&self) -> usize {
        match &self.form {
            Form::Json(body) => body.len(),
            Form::Events(events) => events.held_bytes(),
            Form::Unknown | Form::NoRoom { .. } | Form::Broken => 0,
        }
    }

    /// The head of the answer has come.
    pub fn begin(&mut self, head: &ResponseHead) -> Coming {
        match head.status {
            0 => {
                let why = "Envoy does not send its :status; `mcp-authz envoy-config` prints the \
                           forward_rules that are needed";
                return Coming::Unreadable(self.unreadable(why));
            }
            // Whoever reads a list in an error reads more than there is.
            status if head.is_all || !(200..300).contains(&status) => return Coming::NoList,
            _ => {}
        }
        let media_type = head.content_type.split(';').next().unwrap_or_default().trim();
        self.form = match media_type {
            // Accepted, and nothing more.
            "" if head.status == 202 => return Coming::NoList,
            _ if head.is_compressed => {
                return Coming::Unreadable(self.unreadable("it is compressed"));
            }
            _ if is_not_utf8(head.content_type.as_bytes()) => {
                return Coming::Unreadable(self.unreadable("its charset is not UTF-8"));
            }
            "application/json" => Form::Json(Vec::new()),
            "text/event-stream" => Form::Events(Events::default()),
            _ => {
                let why = "it is neither application/json nor text/event-stream";
                return Coming::Unreadable(self.unreadable(why));
            }
        };
        Coming::List
    }

    /// Lets go of what is held: there is no room for it.
    pub fn let_go(&mut self) {
        self.form = match self.form {
            Form::Json(_) => Form::NoRoom { in_events: false },
            Form::Events(_) => Form::NoRoom { in_events: true },
            Form::Unknown | Form::NoRoom { .. } | Form::Broken => return,
        };
    }

    /// A part of the body of the answer has come, perhaps the last.
    pub fn push(&mut self, part: &[u8], is_last: bool) -> FilteredPart {
        let (mut form, mut bytes) = (std::mem::replace(&mut self.form, Form::Broken), Vec::new());
        let result = match &mut form {
            Form::Json(body) => {
                body.extend_from_slice(part);
                match is_last && body.len() <= self.limits.max_body_bytes {
                    true => self.filtered_bytes(body).map(|filtered| {
                        bytes = filtered.map_or_else(|| std::mem::take(body), String::into_bytes);
                    }),
                    false => Ok(()),
                }
            }
            Form::Events(events) => {
                let ambiguous = "clients could split its events differently";
                events.push(part, is_last, &mut bytes, ambiguous, |data| self.filtered(data))
            }
            Form::NoRoom { .. } => Err("there is no room for it (--max-held-bytes)"),
            Form::Unknown | Form::Broken => return FilteredPart { bytes, broken: None },
        };
        let is_in_events = matches!(form, Form::Events(_) | Form::NoRoom { in_events: true });
        self.form = form;
        let result = match result {
            // What went on is held no more.
            Ok(()) if self.held_bytes() > self.limits.max_body_bytes => {
                Err("it is larger than limits.maxBodyBytes")
            }
            result => result,
        };
        let broken = result.err().map(|why| self.unreadable(why));
        if let Some(refusal) = &broken {
            self.form = Form::Broken;
            let (before, after) = if is_in_events { ("data: ", "\n\n") } else { ("", "") };
            // Without the id there is no error that a client could read here.
            if refusal.id.is_some() {
                bytes.extend(format!("{before}{}{after}", refusal.content().body).into_bytes());
            }
        }
        FilteredPart { bytes, broken }
    }

    fn filtered_bytes(&self, message: &[u8]) -> Result<Option<String>, &'static str> {
        self.filtered(std::str::from_utf8(message).map_err(|_not_text| "it is not UTF-8")?)
    }

    /// A message without the entries that the caller is not to see; `None`: it stays as it
    /// is.
    fn filtered(&self, message: &str) -> Result<Option<String>, &'static str> {
        // Events can be empty, to begin with or to keep a connection.
        if message.trim_ascii().is_empty() {
            return Ok(None);
        }
        let steps = self.limits.condition_cost.saturating_mul(LIKE_SO_MANY_CALLS);
        let budget = Budget::of(steps);
        let (listing, max_depth) = (self.asked.listing, self.limits.max_json_depth);
        let filtered = filter(message, listing, max_depth, |name| self.entry(name, &budget))
            .map_err(|_not_json| "it is not one message that all clients read alike")?;
        if budget.is_spent() {
            return Err(
                "to filter it takes more steps than limits.conditionCost for a hundred calls",
            );
        }
        Ok(filtered)
    }

    fn entry(&self, name: &str, budget: &Budget) -> Entry<'_> {
        let (policy, feature) = (self.admitted.policy(), self.asked.listing.feature());
        let Admitted { head, claims, .. } = &self.admitted;
        let Ok(subject) = policy.backend.subject(policy.dialect, (feature, name), head) else {
            return Entry::Goes;
        };
        let facts = Facts::new(policy.dialect, head, claims.as_ref(), &subject, budget);
        match (policy.standing(&facts, &self.grants), policy.lists.of(feature)) {
            (Standing::Permitted, _) | (_, Shown::Unfiltered) => Entry::Stays,
            (Standing::Reachable(scopes), Shown::Reachable) => Entry::Needs(scopes),
            (Standing::Reachable(_) | Standing::Closed, _) => Entry::Goes,
        }
    }

    fn unreadable(&self, why: &str) -> Refusal {
        let Asked { listing, id } = &self.asked;
        Refusal::unreadable_list(*listing, id.clone(), why).by(self.admitted.policy())
    }
}
