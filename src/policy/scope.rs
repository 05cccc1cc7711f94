//! Scopes as sets of small numbers.

use std::collections::HashMap;

/// Numbers for the scopes that a policy names. A token's other scopes cannot
/// matter to it and are not kept.
#[derive(Debug, Default)]
pub struct ScopeTable {
    numbers: HashMap<String, usize>,
}

impl ScopeTable {
    /// The number of a scope, a new one if it had none.
    pub fn intern(&mut self, scope: &str) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(scope.to_owned()).or_insert(next)
    }

    /// The set of those scopes that the policy names.
    pub fn set<'s>(&self, scopes: impl IntoIterator<Item = &'s str>) -> ScopeSet {
        let mut set = ScopeSet::default();
        for scope in scopes {
            if let Some(&number) = self.numbers.get(scope) {
                set.insert(number);
            }
        }
        set
    }
}

/// A set of scopes of one [`ScopeTable`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeSet(Vec<u64>);

impl ScopeSet {
    /// Adds the scope with this number.
    pub fn insert(&mut self, number: usize) {
        let word = number / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << (number % 64);
        }
    }

    /// Whether every scope of `self` is in one of the two sets.
    pub fn is_within(&self, granted: &Self, more: &Self) -> bool {
        let word = |set: &Self, index: usize| set.0.get(index).copied().unwrap_or(0);
        self.0
            .iter()
            .enumerate()
            .all(|(index, bits)| bits & !(word(granted, index) | word(more, index)) == 0)
    }
}

/// Whether a text is a scope-token: printable ASCII without space, quote and
/// backslash ([RFC 6749, section 3.3]). So it needs no escaping in a header.
///
/// [RFC 6749, section 3.3]: https://www.rfc-editor.org/rfc/rfc6749#section-3.3
pub fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_within_the_union_of_two() {
        let mut table = ScopeTable::default();
        let names: Vec<String> = (0..130).map(|n| format!("s{n}")).collect();
        names.iter().for_each(|name| {
            table.intern(name);
        });
        let set = |numbers: &[usize]| table.set(numbers.iter().map(|n| names[*n].as_str()));
        let none = ScopeSet::default();
        assert!(none.is_within(&none, &none));
        assert!(set(&[1, 129]).is_within(&set(&[1]), &set(&[129, 3])));
        assert!(!set(&[1, 129]).is_within(&set(&[1]), &set(&[128])));
        assert!(!set(&[64]).is_within(&set(&[0]), &none));
        assert_eq!(table.set(["unknown"]), none);
    }

    #[test]
    fn scope_tokens_need_no_escaping() {
        for good in ["a", "repo:read", "https://example.com/x", "!#[]~"] {
            assert!(is_scope_token(good), "{good}");
        }
        for bad in ["", "a b", "a\"b", "a\\b", "ä", "a\n", "\u{7f}"] {
            assert!(!is_scope_token(bad), "{bad:?}");
        }
    }
}
