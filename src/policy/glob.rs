//! Names with stars in them.

/// How many of several names are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

impl Glob {
    /// A name or a pattern, as written.
    pub fn new(text: String) -> Self {
        Self { text }
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it means one name.
    pub fn is_exact(&self) -> bool {
        !self.text.contains('*')
    }

    /// What all names that are meant begin with.
    pub fn literal_start(&self) -> &str {
        literal_start(&self.text)
    }

    /// Whether every name that the other means is meant.
    pub fn covers(&self, other: &Self) -> bool {
        self.extent(&other.text) == Extent::All
    }

    /// How many of the names are meant that another pattern means.
    pub fn extent(&self, other: &str) -> Extent {
        // A star of the other's can only be taken by one of ours: no part
        // between ours holds one.
        if self.matches(other) {
            return Extent::All;
        }
        let meets = match (self.is_exact(), other.contains('*')) {
            (_, false) => false,
            (true, true) => matches(other, &self.text),
            // What is between two stars can be put between those of the other.
            (false, true) => {
                let are_alike = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
                let (ours, theirs) = (literal_end(&self.text), literal_end(other));
                are_alike(self.literal_start(), literal_start(other))
                    && (ours.ends_with(theirs) || theirs.ends_with(ours))
            }
        };
        if meets { Extent::Some } else { Extent::Nothing }
    }

    /// Whether a name is meant.
    pub fn matches(&self, name: &str) -> bool {
        matches(&self.text, name)
    }
}

fn literal_start(pattern: &str) -> &str {
    pattern.split('*').next().unwrap_or_default()
}

fn literal_end(pattern: &str) -> &str {
    pattern.rsplit('*').next().unwrap_or_default()
}

/// Whether a pattern means a name.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(last) = parts.next_back() else {
        return first == name;
    };
    // Each part between two stars is taken where it comes first: what is
    // left is then the longest, so nothing is missed.
    let Some(rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut rest = rest;
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
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
            assert_eq!(glob.extent(other), expected, "{pattern} {other}");
        }
    }
}
