//! Name patterns with stars.

use super::fold::fold_part;

/// The part of a set of names that a pattern matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overlap {
    /// No name.
    Nothing,
    /// At least one name, but not provably all.
    Some,
    /// All names.
    All,
}

/// A name or URI in a rule, in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    /// The strings between the stars. The list is never empty.
    parts: Vec<String>,
}

impl Glob {
    /// Parses a name or a pattern, as the policy writes it.
    pub fn new(text: String) -> Self {
        let parts = text.split('*').map(str::to_owned).collect();
        Self { text, parts }
    }

    /// Returns a pattern that matches this name alone. A star in the name stands for itself.
    pub fn exactly(text: String) -> Self {
        Self { parts: vec![text.clone()], text }
    }

    /// Returns the pattern for folded names, which have no white space around them. Only stars of
    /// the original pattern are wildcards: a character that folds to a star stands for itself.
    #[must_use]
    pub fn folded(&self) -> Self {
        let mut parts: Vec<String> =
            self.parts.iter().map(|part| fold_part(part).into_owned()).collect();
        if let Some(first) = parts.first_mut() {
            *first = first.trim_start().to_owned();
        }
        if let Some(last) = parts.last_mut() {
            *last = last.trim_end().to_owned();
        }
        Self { text: parts.join("*"), parts }
    }

    /// Returns the pattern as the policy writes it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns true if the pattern has no star, and so matches one name only.
    pub fn is_exact(&self) -> bool {
        self.parts.len() == 1
    }

    /// Returns the string with which all matching names begin.
    pub fn literal_start(&self) -> &str {
        self.parts.first().map_or("", String::as_str)
    }

    fn literal_end(&self) -> &str {
        self.parts.last().map_or("", String::as_str)
    }

    /// Returns true if this pattern matches every name that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        self.extent(other) == Overlap::All
    }

    /// Returns how much of another pattern's names this pattern matches.
    pub fn extent(&self, other: &Self) -> Overlap {
        // Only a star of ours can match a star of the other pattern, because no part of ours
        // contains a star.
        if self.matches(&other.text) {
            return Overlap::All;
        }
        let overlaps = match (self.is_exact(), other.is_exact()) {
            (_, true) => false,
            (true, false) => other.matches(&self.text),
            // Ours can match any string between the other pattern's stars, and the other way round.
            (false, false) => {
                let are_alike = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
                let (ours, theirs) = (self.literal_end(), other.literal_end());
                are_alike(self.literal_start(), other.literal_start())
                    && (ours.ends_with(theirs) || theirs.ends_with(ours))
            }
        };
        if overlaps { Overlap::Some } else { Overlap::Nothing }
    }

    /// Returns true if the pattern matches a name.
    pub fn matches(&self, name: &str) -> bool {
        let (first, between, last) = match self.parts.as_slice() {
            [] => return false,
            [only] => return only == name,
            [first, between @ .., last] => (first, between, last),
        };
        // Matching each inner part at its first occurrence leaves the longest rest, so no match is
        // missed.
        let Some(mut rest) = name.strip_prefix(first.as_str()) else { return false };
        for part in between {
            match rest.split_once(part.as_str()) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, tool, expected) in [
            ("echo", "echo", true),
            ("echo", "Echo", false),
            ("echo", "echo2", false),
            ("*", "anything", true),
            ("get_*", "get_", true),
            ("get_*", "get_x", true),
            ("get_*", "forget_x", false),
            ("*_read", "a_read", true),
            ("*_read", "a_read_b", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("ab*ba", "aba", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(Glob::new(pattern.to_owned()).matches(tool), expected, "{pattern} {tool}");
        }
    }

    #[test]
    fn all_names_of_a_pattern_begin_alike() {
        for (pattern, start) in [("echo", "echo"), ("get_*x*", "get_"), ("*_read", "")] {
            assert_eq!(Glob::new(pattern.to_owned()).literal_start(), start);
        }
    }

    #[test]
    fn a_pattern_covers_another_if_it_means_all_its_names() {
        let covers = |a: &str, b: &str| Glob::new(a.to_owned()).covers(&Glob::new(b.to_owned()));
        for (a, b) in [("*", "*"), ("*", "a"), ("a*", "a*"), ("a*", "ab*c"), ("a*c", "a*b*c")] {
            assert!(covers(a, b), "{a} {b}");
        }
        for (a, b) in [("a", "*"), ("a*", "*"), ("ab*", "a*"), ("a*c", "a*"), ("a*b*c", "a*c")] {
            assert!(!covers(a, b), "{a} {b}");
        }
    }

    #[test]
    fn a_pattern_is_met_in_part_in_whole_or_not() {
        use Overlap::{All, Nothing, Some};

        for (pattern, other, expected) in [
            ("*", "file:///*", All),
            ("file:///*", "file:///*", All),
            ("file:///logs/*", "file:///*", Some),
            ("file:///logs/*", "file:///logs/*.txt", All),
            ("file:///*.txt", "file:///logs/*.txt", All),
            ("file:///*.txt", "file:///logs/*", Some),
            ("file:///*.txt", "file:///*.md", Nothing),
            ("file:///*path*", "file:///*", Some),
            ("file:///a", "file:///*", Some),
            ("file:///a", "file:///*/b", Nothing),
            ("file:///a", "file:///a", All),
            ("file:///a", "file:///a*", Some),
            ("db://*", "file:///*", Nothing),
            ("*a*b*", "*c*", Some),
            ("file:///a*", "file:///*", Some),
            ("file:///*", "file:///*", All),
        ] {
            let glob = Glob::new(pattern.to_owned());
            let other = Glob::new(other.to_owned());
            assert_eq!(glob.extent(&other), expected, "{pattern} {other:?}");
        }
    }
}
