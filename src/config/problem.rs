//! What is found in a file, and where.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A place in a file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Place {
    /// Where a file begins.
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can, but probably does not do what its author wants.
    Warning,
    /// What its author should know.
    Notice,
}

impl Severity {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// What a warning or a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lint {
    /// A rule that an earlier one leaves nothing to decide.
    ShadowedRule,
    /// A Deny rule that lets calls go on if its condition cannot be evaluated.
    IgnoredConditionErrors,
    /// A rule names a target twice.
    RepeatedTarget,
    /// Two scopes that are spelled almost the same.
    SimilarScopes,
    /// A condition reads a header by a name with capitals.
    HeaderCapitals,
    /// A pattern takes in a name that another rule names.
    GlobOverlap,
    /// A policy that only a host or a path selects, beside others.
    SelectedByAddress,
    /// A policy judges what none of its rules could allow.
    NothingAllowed,
    /// A pattern of methods seems to take in what is judged as something else.
    JudgedOtherwise,
    /// A Deny rule that a caller evades by presenting no token, or one with fewer scopes.
    EvadedDenyRule,
    /// Two names that Deny rules take for the same.
    ConfusableNames,
    /// A condition of a Deny rule compares a name of the call, which `target` does better.
    NameInCondition,
    /// The URI of a resource begins with what is taken for a backend.
    BackendInUri,
    /// An `MCPRoute` that allows every call.
    NoAuthorization,
    /// A rule names a backend that its `MCPRoute` does not route to.
    UnknownBackend,
    /// A part of an `MCPRoute` that is for others to do.
    LeftToOthers,
    /// An `MCPRoute` that accepts tokens for any audience.
    AnyAudience,
    /// A document that is neither a policy nor an `MCPRoute`.
    SkippedDocument,
    /// Envoy has to send the answers to lists.
    FilteredLists,
    /// A policy without rules.
    NoRules,
    /// A rule of which nothing is given, so that it allows every call.
    OpenRule,
    /// A part of an `MCPRoute` that changes nothing.
    NoEffect,
    /// A scope of an `MCPRoute` that no challenge names.
    UnusualScope,
    /// An `MCPRoute` requires scopes or claims, and no token.
    NoOauth,
    /// Envoy authenticates the callers of an `MCPRoute` by other means than a token.
    OtherCredentials,
    /// Challenges of an `MCPRoute` do not tell where to log in.
    NoResourceMetadata,
}

impl Lint {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::ShadowedRule,
        Self::IgnoredConditionErrors,
        Self::RepeatedTarget,
        Self::SimilarScopes,
        Self::HeaderCapitals,
        Self::GlobOverlap,
        Self::SelectedByAddress,
        Self::NothingAllowed,
        Self::JudgedOtherwise,
        Self::EvadedDenyRule,
        Self::ConfusableNames,
        Self::NameInCondition,
        Self::BackendInUri,
        Self::NoAuthorization,
        Self::UnknownBackend,
        Self::LeftToOthers,
        Self::AnyAudience,
        Self::SkippedDocument,
        Self::FilteredLists,
        Self::NoRules,
        Self::OpenRule,
        Self::NoEffect,
        Self::UnusualScope,
        Self::NoOauth,
        Self::OtherCredentials,
        Self::NoResourceMetadata,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ShadowedRule => "shadowed-rule",
            Self::IgnoredConditionErrors => "ignored-condition-errors",
            Self::RepeatedTarget => "repeated-target",
            Self::SimilarScopes => "similar-scopes",
            Self::HeaderCapitals => "header-capitals",
            Self::GlobOverlap => "glob-overlap",
            Self::SelectedByAddress => "selected-by-address",
            Self::NothingAllowed => "nothing-allowed",
            Self::JudgedOtherwise => "judged-otherwise",
            Self::EvadedDenyRule => "evaded-deny-rule",
            Self::ConfusableNames => "confusable-names",
            Self::NameInCondition => "name-in-condition",
            Self::BackendInUri => "backend-in-uri",
            Self::NoAuthorization => "no-authorization",
            Self::UnknownBackend => "unknown-backend",
            Self::LeftToOthers => "left-to-others",
            Self::AnyAudience => "any-audience",
            Self::SkippedDocument => "skipped-document",
            Self::FilteredLists => "filtered-lists",
            Self::NoRules => "no-rules",
            Self::OpenRule => "open-rule",
            Self::NoEffect => "no-effect",
            Self::UnusualScope => "unusual-scope",
            Self::NoOauth => "no-oauth",
            Self::OtherCredentials => "other-credentials",
            Self::NoResourceMetadata => "no-resource-metadata",
        }
    }

    fn severity(self) -> Severity {
        match self {
            Self::LeftToOthers | Self::SkippedDocument | Self::FilteredLists => Severity::Notice,
            _ => Severity::Warning,
        }
    }
}

/// Something about a file that its author should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about; errors have none.
    pub lint: Option<Lint>,
    /// The file, as it was named.
    pub file: Arc<Path>,
    /// Where in it; `None` if it could not be read.
    pub place: Option<Place>,
    /// The keys on the way there: `policies[0].rules[2].action`.
    pub keys: String,
    /// What is there, what was expected instead, and what may have been meant.
    pub message: String,
    /// The line of the file, unless it is too long to be shown.
    pub line: Option<String>,
}

/// One line: `FILE:LINE:COLUMN: KEYS: MESSAGE`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, lint: _, file, place, keys, message, line: _ } = self;
        write!(f, "{}:", file.display())?;
        if let Some(Place { line, column }) = place {
            write!(f, "{line}:{column}:")?;
        }
        if *severity != Severity::Error {
            write!(f, " {}:", severity.as_str())?;
        }
        if !keys.is_empty() {
            write!(f, " {keys}:")?;
        }
        write!(f, " {message}")
    }
}

/// Why files could not be loaded: all that is wrong with them, in their order;
/// never empty.
#[derive(Debug)]
pub struct LoadError(pub Vec<Finding>);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, finding) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

/// What was found in one file so far.
#[derive(Debug)]
pub(crate) struct Problems {
    file: Arc<Path>,
    found: Vec<Finding>,
    /// The number of mistakes so far, some of which are reported once for several of these.
    mistakes: usize,
}

impl Problems {
    pub(crate) fn new(file: Arc<Path>) -> Self {
        Self { file, found: Vec::new(), mistakes: 0 }
    }

    fn push(
        &mut self,
        lint: Option<Lint>,
        place: Option<Place>,
        keys: &str,
        message: impl Into<String>,
    ) {
        self.mistakes += usize::from(lint.is_none());
        self.found.push(Finding {
            severity: lint.map_or(Severity::Error, Lint::severity),
            lint,
            file: Arc::clone(&self.file),
            place,
            keys: keys.to_owned(),
            message: message.into(),
            line: None,
        });
    }

    /// An error.
    pub(crate) fn add(&mut self, place: Place, keys: &str, message: impl Into<String>) {
        self.push(None, Some(place), keys, message);
    }

    /// An error of the file as a whole.
    pub(crate) fn unreadable(&mut self, message: impl Into<String>) {
        self.push(None, None, "", message);
    }

    /// A warning or a notice.
    pub(crate) fn lint(
        &mut self,
        lint: Lint,
        place: Place,
        keys: &str,
        message: impl Into<String>,
    ) {
        self.push(Some(lint), Some(place), keys, message);
    }

    /// Counts a mistake that is reported already: the part that it is in has a mistake, too.
    pub(crate) fn known_mistake(&mut self) {
        self.mistakes += 1;
    }

    /// The number of mistakes so far: if it grows while a part is read, the part has one.
    pub(crate) fn mistakes(&self) -> usize {
        self.mistakes
    }

    /// Reads a part of a file. Also returns true if that part has a mistake.
    pub(crate) fn checked<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let before = self.mistakes;
        let part = read(self);
        (part, self.mistakes > before)
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// All of them, in the order of the file, which has this text.
    pub(crate) fn into_sorted(mut self, text: &str) -> Vec<Finding> {
        const LONGEST_LINE_BYTES: usize = 1000;

        self.found.sort_by_key(|finding| finding.place);
        self.found.dedup();
        let mut lines = text.lines().enumerate().peekable();
        for finding in &mut self.found {
            let Some(place) = finding.place else { continue };
            while lines.peek().is_some_and(|(number, _)| number + 1 < place.line) {
                lines.next();
            }
            let here = lines.peek().filter(|(number, _)| number + 1 == place.line);
            finding.line = here
                .map(|(_, line)| (*line).to_owned())
                .filter(|line| line.len() <= LONGEST_LINE_BYTES);
        }
        self.found
    }
}
