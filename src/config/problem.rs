//! Findings about a file, and their places.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A place in a file. Lines and columns count from 1. Columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The beginning of a file.
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// An error: the file cannot be used.
    Error,
    /// A warning: the file can be used, but probably does not do what its author wants.
    Warning,
    /// A notice: information for the author.
    Notice,
}

impl Severity {
    /// Returns the severity as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// The subject of a warning or a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lint {
    /// A rule that never decides, because an earlier rule matches all calls that it would match.
    ShadowedRule,
    /// A Deny rule that does not deny calls on which its condition cannot be evaluated.
    IgnoredConditionErrors,
    /// A target that a rule names twice.
    RepeatedTarget,
    /// Two scopes with almost equal spellings.
    SimilarScopes,
    /// A condition that reads a header by a name with capitals.
    HeaderCapitals,
    /// A pattern that matches a name which another rule names.
    GlobOverlap,
    /// A policy in a set of several that only a host or a path selects.
    SelectedByAddress,
    /// A kind of call that a policy evaluates but that none of its rules could allow.
    NothingAllowed,
    /// A pattern of methods that seems to match a method which the policy evaluates as another
    /// feature.
    JudgedOtherwise,
    /// A Deny rule that a caller evades by presenting no token, or a token with fewer scopes.
    EvadedDenyRule,
    /// Two names that are equal to Deny rules.
    ConfusableNames,
    /// A condition that compares a name of the call, which the `target` of a Deny rule does better.
    NameInCondition,
    /// A resource URI that begins with a part which the policy reads as a backend.
    BackendInUri,
    /// An `MCPRoute` that allows every call.
    NoAuthorization,
    /// A backend that an `MCPRoute` names but does not route to.
    UnknownBackend,
    /// A part of an `MCPRoute` that mcp-authz leaves to Envoy.
    LeftToOthers,
    /// An `MCPRoute` that accepts tokens for any audience.
    AnyAudience,
    /// A document that is neither a policy nor an `MCPRoute`.
    SkippedDocument,
    /// A policy that filters lists, so that Envoy must send mcp-authz the responses to them.
    FilteredLists,
    /// A policy without rules.
    NoRules,
    /// A rule without action, source, target and condition, so that it allows every call.
    OpenRule,
    /// A part of a document that changes nothing.
    NoEffect,
    /// A scope of an `MCPRoute` that no challenge names.
    UnusualScope,
    /// An `MCPRoute` that requires scopes or claims, but has no `oauth`.
    NoOauth,
    /// An `MCPRoute` whose callers Envoy authenticates by other means than a token.
    OtherCredentials,
    /// An `MCPRoute` whose challenges do not say where to log in.
    NoResourceMetadata,
}

impl Lint {
    /// All lints.
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

    /// Returns the code of the lint.
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

/// An error, a warning or a notice about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The severity of the finding.
    pub severity: Severity,
    /// The subject of a warning or notice. Errors have none.
    pub lint: Option<Lint>,
    /// The path of the file, as the caller gave it.
    pub file: Arc<Path>,
    /// The place in the file, or `None` if the file could not be read.
    pub place: Option<Position>,
    /// The path of keys that leads to the place: `policies[0].rules[2].action`.
    pub keys: String,
    /// The message: the value found, the values expected, and perhaps a suggestion.
    pub message: String,
    /// The line of the file, or `None` if the line is too long to show.
    pub line: Option<String>,
}

/// Formats the finding as one line: `FILE:LINE:COLUMN: KEYS: MESSAGE`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, lint: _, file, place, keys, message, line: _ } = self;
        write!(f, "{}:", file.display())?;
        if let Some(Position { line, column }) = place {
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

/// The errors that keep files from loading, in the order of the files. The list is never empty.
#[derive(Debug)]
pub struct LoadError(pub Vec<Diagnostic>);

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

/// The findings in one file so far.
#[derive(Debug)]
pub(crate) struct Diagnostics {
    file: Arc<Path>,
    found: Vec<Diagnostic>,
    /// The number of mistakes so far. One finding can stand for several mistakes.
    mistakes: usize,
}

impl Diagnostics {
    pub(crate) fn new(file: Arc<Path>) -> Self {
        Self { file, found: Vec::new(), mistakes: 0 }
    }

    fn push(
        &mut self,
        lint: Option<Lint>,
        place: Option<Position>,
        keys: &str,
        message: impl Into<String>,
    ) {
        self.mistakes += usize::from(lint.is_none());
        self.found.push(Diagnostic {
            severity: lint.map_or(Severity::Error, Lint::severity),
            lint,
            file: Arc::clone(&self.file),
            place,
            keys: keys.to_owned(),
            message: message.into(),
            line: None,
        });
    }

    /// Adds an error.
    pub(crate) fn add(&mut self, place: Position, keys: &str, message: impl Into<String>) {
        self.push(None, Some(place), keys, message);
    }

    /// Adds an error about the file, without a place.
    pub(crate) fn unreadable(&mut self, message: impl Into<String>) {
        self.push(None, None, "", message);
    }

    /// Adds a warning or a notice.
    pub(crate) fn lint(
        &mut self,
        lint: Lint,
        place: Position,
        keys: &str,
        message: impl Into<String>,
    ) {
        self.push(Some(lint), Some(place), keys, message);
    }

    /// Counts a mistake that has a finding already, so that the part that holds it counts as
    /// mistaken.
    pub(crate) fn known_mistake(&mut self) {
        self.mistakes += 1;
    }

    /// Returns the number of mistakes so far. If the number grows while a part is read, that part
    /// has a mistake.
    pub(crate) fn mistakes(&self) -> usize {
        self.mistakes
    }

    /// Reads a part of a file with `read`. The bool is true if that part has a mistake.
    pub(crate) fn checked<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let before = self.mistakes;
        let part = read(self);
        (part, self.mistakes > before)
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Returns all findings in the order of their places. `text` is the content of the file.
    pub(crate) fn into_sorted(mut self, text: &str) -> Vec<Diagnostic> {
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
