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
        self.text.split('*').next().unwrap_or_default()
    }

    /// Whether every name that the other means is meant.
    pub fn covers(&self, other: &Self) -> bool {
        // A star of the other's can only be taken by one of ours: no part
        // between ours holds one.
        self.matches(&other.text)
    }

    /// Whether there is a name that both mean.
    pub fn meets(&self, other: &Self) -> bool {
        if self.is_exact() {
            return other.matches(&self.text);
        }
        if other.is_exact() {
            return self.matches(&other.text);
        }
        // What is between two stars can be put between those of the other.
        let end = |glob: &Self| glob.text.rsplit('*').next().unwrap_or_default().to_owned();
        let (ours, theirs) = (end(self), end(other));
        self.begins_like(other.literal_start())
            && (ours.ends_with(&theirs) || theirs.ends_with(&ours))
    }

    /// Whether a name that is meant can begin with a text, or end within it.
    fn begins_like(&self, text: &str) -> bool {
        let start = self.literal_start();
        start.starts_with(text) || text.starts_with(start)
    }

    /// How many of the names are meant that a URI template can stand for ([RFC 6570]),
    /// whatever comes in place of its expressions.
    ///
    /// [RFC 6570]: https://www.rfc-editor.org/rfc/rfc6570
    pub fn extent_of_template(&self, template: &str) -> Extent {
        if !self.begins_like(template.split('{').next().unwrap_or_default()) {
            return Extent::Nothing;
        }
        let mut pieces = template.split('{');
        let mut text = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            text.push('*');
            text.push_str(piece.split_once('}').map_or("", |(_, literal)| literal));
        }
        let template = Self { text };
        match (self.covers(&template), self.meets(&template)) {
            (true, _) => Extent::All,
            (false, true) => Extent::Some,
            (false, false) => Extent::Nothing,
        }
    }

    /// Whether a name is meant.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.text.split('*');
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
    fn a_template_is_met_in_part_in_whole_or_not() {
        use Extent::{All, Nothing, Some};

        for (pattern, template, expected) in [
            ("*", "file:///{path}", All),
            ("file:///*", "file:///{path}", All),
            ("file:///logs/*", "file:///{+path}", Some),
            ("file:///logs/*", "file:///logs/{name}.txt", All),
            ("file:///*.txt", "file:///logs/{name}.txt", All),
            ("file:///*.txt", "file:///logs/{name}", Some),
            ("file:///*.txt", "file:///{name}.md", Nothing),
            ("file:///*path*", "file:///{path}", Some),
            ("file:///a", "file:///{x}", Some),
            ("file:///a", "file:///{x}/b", Nothing),
            ("file:///a", "file:///a", All),
            ("file:///a", "file:///a{?q}", Some),
            ("db://*", "file:///{x}", Nothing),
            ("*a*b*", "{x}c{y}", Some),
            ("file:///{x}", "file:///{x}", Some),
            ("file:///a*", "file:///{unclosed", Some),
            ("file:///*", "file:///{unclosed", All),
        ] {
            let glob = Glob::new(pattern.to_owned());
            assert_eq!(glob.extent_of_template(template), expected, "{pattern} {template}");
        }
    }
}
