//! Names with stars in them.

use super::fold::fold_part;

/// How many of several names are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// None of them.
    Nothing,
    /// Some of them.
    Some,
    /// All of them.
    All,
}

/// A name or URI in a rule, in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    /// What is between the stars; never empty.
    parts: Vec<String>,
}

impl Glob {
    /// Parses a name or a pattern, as written.
    pub fn new(text: String) -> Self {
        let parts = text.split('*').map(str::to_owned).collect();
        Self { text, parts }
    }

    /// Returns a pattern of this name alone, in which a star stands for itself.
    pub fn exactly(text: String) -> Self {
        Self { parts: vec![text.clone()], text }
    }

    /// Returns the same pattern for folded names, which have no white space around them. Its
    /// stars are those that are written: what folds to one stands for itself.
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

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches one name only.
    pub fn is_exact(&self) -> bool {
        self.parts.len() == 1
    }

    /// Returns what all names that match begin with.
    pub fn literal_start(&self) -> &str {
        self.parts.first().map_or("", String::as_str)
    }

    fn literal_end(&self) -> &str {
        self.parts.last().map_or("", String::as_str)
    }

    /// Whether it matches every name that the other matches.
    pub fn covers(&self, other: &Self) -> bool {
        self.extent(other) == Extent::All
    }

    /// Returns how many of the names match that another pattern matches.
    pub fn extent(&self, other: &Self) -> Extent {
        // A star of the other's can only be taken by one of ours: no part
        // between ours holds one.
        if self.matches(&other.text) {
            return Extent::All;
        }
        let overlaps = match (self.is_exact(), other.is_exact()) {
            (_, true) => false,
            (true, false) => other.matches(&self.text),
            // What is between two stars can be put between those of the other.
            (false, false) => {
                let are_alike = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
                let (ours, theirs) = (self.literal_end(), other.literal_end());
                are_alike(self.literal_start(), other.literal_start())
                    && (ours.ends_with(theirs) || theirs.ends_with(ours))
            }
        };
        if overlaps { Extent::Some } else { Extent::Nothing }
    }

    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        let (first, between, last) = match self.parts.as_slice() {
            [] => return false,
            [only] => return only == name,
            [first, between @ .., last] => (first, between, last),
        };
        // Each part between two stars is taken where it comes first: what is
        // left is then the longest, so nothing is missed.
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
        use Extent::{All, Nothing, Some};

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
