//! Scope sets and the scope hierarchy of a policy.

use rustc_hash::{FxHashMap, FxHashSet};

/// A table that numbers the scopes of a policy and records which scopes imply others. The table
/// omits other scopes of a token, which cannot matter to the policy.
#[derive(Debug, Clone, Default)]
pub struct ScopeTable {
    numbers: FxHashMap<String, usize>,
    /// For each scope number, the scope and all scopes that it implies, transitively. A scope
    /// without an entry implies only itself.
    implied: Vec<ScopeSet>,
    /// The hierarchy, if some of its broader scopes have a star.
    patterns: Option<Box<Patterns>>,
}

/// A hierarchy with stars.
#[derive(Debug, Clone, Default)]
struct Patterns {
    /// The narrower scopes of each broader scope without a star.
    exact: FxHashMap<String, Vec<String>>,
    /// The broader scopes with a star, each with its narrower scopes.
    starred: Vec<(Starred, Vec<Narrower>)>,
}

/// A scope with a star, which stands for any characters, even none.
#[derive(Debug, Clone)]
struct Starred {
    before: String,
    after: String,
}

/// A scope that a scope with a star implies.
#[derive(Debug, Clone)]
enum Narrower {
    Exact(String),
    /// A scope with a star. This star repeats the characters that the broader scope's star matches.
    Starred(Starred),
}

impl Starred {
    /// Parses a scope with a star. Returns `None` if the name has no star. A second star stands for
    /// itself.
    fn parse(name: &str) -> Option<Self> {
        let (before, after) = name.split_once('*')?;
        Some(Self { before: before.to_owned(), after: after.to_owned() })
    }

    /// Returns the characters of a name that the star matches. Returns `None` if the name does not
    /// match.
    fn capture<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix(self.before.as_str())?.strip_suffix(self.after.as_str())
    }

    fn with(&self, captured: &str) -> String {
        format!("{}{captured}{}", self.before, self.after)
    }

    /// Returns true if some name matches both scopes.
    fn overlaps(&self, other: &Self) -> bool {
        let (before, after) = ((&self.before, &other.before), (&self.after, &other.after));
        (before.0.starts_with(before.1.as_str()) || before.1.starts_with(before.0.as_str()))
            && (after.0.ends_with(after.1.as_str()) || after.1.ends_with(after.0.as_str()))
    }
}

impl Patterns {
    /// Creates the hierarchy. Returns `None` if no broader scope has a star.
    ///
    /// # Errors
    /// If a scope could imply itself, or if stars make too many scopes of one.
    fn new(broader: &[(String, Vec<String>)]) -> Result<Option<Box<Self>>, HierarchyMistake> {
        if !broader.iter().any(|(scope, _)| scope.contains('*')) {
            return Ok(None);
        }
        let mut patterns = Self::default();
        for (scope, narrower) in broader {
            match Starred::parse(scope) {
                None => {
                    let known = patterns.exact.entry(scope.clone()).or_default();
                    known.extend(narrower.iter().cloned());
                }
                Some(starred) => {
                    let narrower = narrower.iter().map(|name| match Starred::parse(name) {
                        None => Narrower::Exact(name.clone()),
                        Some(starred) => Narrower::Starred(starred),
                    });
                    patterns.starred.push((starred, narrower.collect()));
                }
            }
        }
        let entries = Entries::new(broader);
        // For each entry and each of its narrower scopes: the entries that this scope can match.
        let ways = |(_, narrower): &(String, Vec<String>)| -> Vec<Vec<usize>> {
            narrower.iter().map(|scope| entries.matched_by(scope)).collect()
        };
        let ways: Vec<_> = broader.iter().map(ways).collect();
        let steps: Vec<Vec<usize>> = ways.iter().map(|ways| ways.concat()).collect();
        let name = |entry: &usize| broader.get(*entry).map(|(scope, _)| scope.clone());
        let closures = closures(&steps).map_err(|way| HierarchyMistake::Circle {
            scopes: way.iter().filter_map(name).collect(),
        })?;
        let counts = derived_counts(broader, &ways, &closures);
        if let Some(entry) = counts.iter().position(|count| *count > MOST_DERIVED) {
            let scope = name(&entry).unwrap_or_default();
            return Err(HierarchyMistake::TooMany { scope });
        }
        Ok(Some(Box::new(patterns)))
    }

    /// Calls `each` once with each given scope, and with each scope that these imply. The loop ends
    /// because no scope implies itself.
    fn implied<'s>(&self, scopes: impl Iterator<Item = &'s str>, mut each: impl FnMut(&str)) {
        let mut rest: Vec<String> = scopes.map(str::to_owned).collect();
        let mut seen: FxHashSet<String> = rest.iter().cloned().collect();
        while let Some(scope) = rest.pop() {
            each(&scope);
            let exact = self.exact.get(&scope).into_iter().flatten().cloned();
            let starred = self.starred.iter().filter_map(|(broader, narrower)| {
                let captured = broader.capture(&scope)?;
                Some(narrower.iter().map(move |narrower| match narrower {
                    Narrower::Exact(name) => name.clone(),
                    Narrower::Starred(starred) => starred.with(captured),
                }))
            });
            let new = exact.chain(starred.flatten()).filter(|scope| seen.insert(scope.clone()));
            let new: Vec<String> = new.collect();
            rest.extend(new);
        }
    }
}

/// The broader scopes of a hierarchy.
struct Entries<'s>(Vec<(&'s str, Option<Starred>)>);

impl<'s> Entries<'s> {
    fn new(broader: &'s [(String, Vec<String>)]) -> Self {
        let entries = broader.iter().map(|(scope, _)| (scope.as_str(), Starred::parse(scope)));
        Self(entries.collect())
    }

    /// Returns the indices of the entries that a narrower scope can match.
    fn matched_by(&self, narrower: &str) -> Vec<usize> {
        let starred = Starred::parse(narrower);
        let matches = |(name, broader): &(&str, Option<Starred>)| match (&starred, broader) {
            (None, None) => narrower == *name,
            (None, Some(broader)) => broader.capture(narrower).is_some(),
            (Some(narrower), None) => narrower.capture(name).is_some(),
            (Some(narrower), Some(broader)) => narrower.overlaps(broader),
        };
        let entries = self.0.iter().enumerate().filter(|(_, entry)| matches(entry));
        entries.map(|(number, _)| number).collect()
    }
}

/// Returns for each entry the maximum number of scopes that stars can make of one scope. Without
/// recursion, because a chain can be long.
fn derived_counts(
    broader: &[(String, Vec<String>)],
    ways: &[Vec<Vec<usize>>],
    closures: &[ScopeSet],
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..broader.len()).collect();
    // An entry reaches more entries than any entry that it implies, so implied entries come first.
    order.sort_by_cached_key(|entry| closures.get(*entry).map(|set| set.numbers().count()));
    let mut counts = vec![0_usize; broader.len()];
    for entry in order {
        let (Some((_, narrower)), Some(ways)) = (broader.get(entry), ways.get(entry)) else {
            continue;
        };
        let starred = narrower.iter().zip(ways).filter(|(scope, _)| scope.contains('*'));
        let of_one = |(_, way): (&String, &Vec<usize>)| {
            let next = way.iter().filter_map(|next| counts.get(*next));
            next.fold(1_usize, |sum, count| sum.saturating_add(*count))
        };
        let count = starred.map(of_one).fold(0, usize::saturating_add);
        if let Some(place) = counts.get_mut(entry) {
            *place = count;
        }
    }
    counts
}

/// The maximum number of scopes that stars may make of one scope.
pub const MOST_DERIVED: usize = 1_000;

/// The reason that scopes form no hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HierarchyMistake {
    /// A scope implies itself through other scopes.
    Circle {
        /// The chain of scopes, from one scope back to itself.
        scopes: Vec<String>,
    },
    /// Stars make more than [`MOST_DERIVED`] scopes of one.
    TooMany {
        /// The broader scope.
        scope: String,
    },
}

impl ScopeTable {
    /// Creates a table in which broader scopes imply narrower scopes, transitively. A star in a
    /// broader scope stands for any characters. A star in its narrower scopes repeats these
    /// characters.
    ///
    /// # Errors
    /// If a scope implies itself, or could through a star; or if stars make too many scopes of one.
    pub fn with_hierarchy(broader: &[(String, Vec<String>)]) -> Result<Self, HierarchyMistake> {
        let mut table = Self { patterns: Patterns::new(broader)?, ..Self::default() };
        if table.patterns.is_some() {
            return Ok(table);
        }
        // For each scope number: the numbers that the scope directly implies.
        let mut steps: Vec<Vec<usize>> = Vec::new();
        for (scope, narrower) in broader {
            let number = table.intern(scope);
            let narrower: Vec<usize> = narrower.iter().map(|name| table.intern(name)).collect();
            steps.resize_with(table.numbers.len(), Vec::new);
            if let Some(steps) = steps.get_mut(number) {
                steps.extend(narrower);
            }
        }
        let closures = closures(&steps).map_err(|way| {
            let name = |number: &usize| {
                let named = table.numbers.iter().find(|(_, found)| *found == number);
                named.map(|(name, _)| name.clone()).unwrap_or_default()
            };
            HierarchyMistake::Circle { scopes: way.iter().map(name).collect() }
        })?;
        table.implied = closures;
        Ok(table)
    }

    /// Returns the number of a scope, and assigns a new number to an unknown scope.
    pub fn intern(&mut self, scope: &str) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(scope.to_owned()).or_insert(next)
    }

    /// Returns true if the set contains the scope.
    pub fn is_in(&self, scope: &str, set: &ScopeSet) -> bool {
        self.numbers.get(scope).is_some_and(|&number| set.contains(number))
    }

    /// Returns true if the broad scope implies the narrow scope.
    pub fn implies(&self, broad: &str, narrow: &str) -> bool {
        self.is_in(narrow, &self.granted([broad]))
    }

    /// Returns the given scopes and all scopes that these imply, as far as the policy names them.
    pub fn granted<'s>(&self, scopes: impl IntoIterator<Item = &'s str>) -> ScopeSet {
        let mut set = ScopeSet::default();
        if let Some(patterns) = &self.patterns {
            patterns.implied(scopes.into_iter(), |scope| {
                self.numbers.get(scope).into_iter().for_each(|number| set.insert(*number));
            });
            return set;
        }
        // `for_each` is faster than a loop with chained iterators.
        scopes.into_iter().for_each(|scope| {
            if let Some(&number) = self.numbers.get(scope) {
                set.insert(number);
                if let Some(implied) = self.implied.get(number) {
                    set.extend(implied);
                }
            }
        });
        set
    }
}

/// Returns for each number the set of numbers that any number of steps reaches, including itself.
///
/// # Errors
/// A path from a number back to itself.
///
/// Without recursion, because a chain can be long.
fn closures(steps: &[Vec<usize>]) -> Result<Vec<ScopeSet>, Vec<usize>> {
    let mut closures: Vec<Option<ScopeSet>> = vec![None; steps.len()];
    let mut on_the_way = vec![false; steps.len()];
    for start in 0..steps.len() {
        // Each element is a number, with the count of its steps that are already taken.
        let mut way = vec![(start, 0)];
        while let Some((number, taken)) = way.pop() {
            if closures.get(number).is_some_and(Option::is_some) {
                continue;
            }
            let next = steps.get(number).and_then(|steps| steps.get(taken)).copied();
            if let Some(on_the_way) = on_the_way.get_mut(number) {
                *on_the_way = next.is_some();
            }
            match next {
                Some(next) => {
                    way.push((number, taken + 1));
                    if on_the_way.get(next).copied().unwrap_or_default() {
                        let way = way.into_iter().map(|(number, _)| number);
                        return Err(way.skip_while(|at| *at != next).chain([next]).collect());
                    }
                    way.push((next, 0));
                }
                None => {
                    let mut closure = ScopeSet::default();
                    closure.insert(number);
                    for step in steps.get(number).into_iter().flatten() {
                        if let Some(Some(reached)) = closures.get(*step) {
                            closure.extend(reached);
                        }
                    }
                    if let Some(place) = closures.get_mut(number) {
                        *place = Some(closure);
                    }
                }
            }
        }
    }
    Ok(closures.into_iter().map(Option::unwrap_or_default).collect())
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

    /// Returns true if the set contains the scope with this number.
    pub(super) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|bits| bits & (1 << (number % 64)) != 0)
    }

    /// Returns the numbers of the scopes in the set.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        let bits = |(word, bits): (usize, &u64)| {
            let bits = *bits;
            (0..64).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| word * 64 + bit)
        };
        self.0.iter().enumerate().filter(|(_, bits)| **bits != 0).flat_map(bits)
    }

    /// Adds all scopes of another set.
    fn extend(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (bits, more) in self.0.iter_mut().zip(&other.0) {
            *bits |= more;
        }
    }
}

/// Returns true if a string is a scope-token: printable ASCII without space, quote and backslash
/// ([RFC 6749, section 3.3]). A scope-token needs no escaping in a header.
///
/// [RFC 6749, section 3.3]: https://www.rfc-editor.org/rfc/rfc6749#section-3.3
pub fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_the_scopes_that_a_policy_names() {
        let mut table = ScopeTable::default();
        let names: Vec<String> = (0..130).map(|n| format!("s{n}")).collect();
        names.iter().for_each(|name| {
            table.intern(name);
        });
        let set = |numbers: &[usize]| table.granted(numbers.iter().map(|n| names[*n].as_str()));
        let none = ScopeSet::default();
        assert!(set(&[1, 129]).contains(129) && !set(&[1, 129]).contains(128));
        assert!(!none.contains(0) && !set(&[0]).contains(64));
        assert_eq!(table.granted(["unknown"]), none);
        assert_eq!(set(&[3, 64, 129]).numbers().collect::<Vec<_>>(), [3, 64, 129]);
        assert_eq!(none.numbers().count(), 0);
    }

    #[test]
    fn broader_scopes_imply_narrower_ones_transitively() {
        let pairs = |pairs: &[(&str, &[&str])]| {
            pairs
                .iter()
                .map(|(broad, narrow)| {
                    ((*broad).to_owned(), narrow.iter().map(|&name| name.to_owned()).collect())
                })
                .collect::<Vec<(String, Vec<String>)>>()
        };
        let mut table =
            ScopeTable::with_hierarchy(&pairs(&[("b", &["c"]), ("a", &["b", "d"]), ("e", &["d"])]))
                .unwrap();
        let other = table.intern("x");
        let has = |scope: &str, other: &str| table.is_in(other, &table.granted([scope]));
        for (scope, implied) in
            [("a", "a"), ("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("e", "d")]
        {
            assert!(has(scope, implied), "{scope} implies {implied}");
        }
        for (scope, other) in
            [("c", "b"), ("b", "a"), ("b", "d"), ("e", "a"), ("a", "x"), ("x", "a")]
        {
            assert!(!has(scope, other), "{scope} does not imply {other}");
        }
        assert_eq!(other, 5);
        let cycle =
            ScopeTable::with_hierarchy(&pairs(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"])]));
        let scopes = ["a", "b", "c", "a"].map(str::to_owned).to_vec();
        assert_eq!(cycle.unwrap_err(), HierarchyMistake::Circle { scopes });
        assert!(ScopeTable::with_hierarchy(&pairs(&[("a", &["a"])])).is_err());
        // Two paths to one scope are no circle.
        let diamond = pairs(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"])]);
        assert!(ScopeTable::with_hierarchy(&diamond).is_ok());
        let chain: Vec<(String, Vec<String>)> =
            (0..5000).map(|n| (format!("s{n}"), vec![format!("s{}", n + 1)])).collect();
        let table = ScopeTable::with_hierarchy(&chain).unwrap();
        assert!(table.implies("s0", "s5000") && !table.implies("s5000", "s0"));
    }

    #[test]
    fn starred_scopes_repeat_what_they_capture() {
        let pairs = |pairs: &[(&str, &[&str])]| -> Vec<(String, Vec<String>)> {
            let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            pairs.iter().map(|(broad, narrow)| ((*broad).to_owned(), owned(narrow))).collect()
        };
        let mut table = ScopeTable::with_hierarchy(&pairs(&[
            ("tenant-*:admin", &["tenant-*:write", "list"]),
            ("tenant-*:write", &["tenant-*:read"]),
            ("root", &["tenant-a:admin"]),
        ]))
        .unwrap();
        for scope in ["tenant-a:read", "tenant-b:read", "tenant-a:write", "list", "x", "root"] {
            table.intern(scope);
        }
        for (broad, narrow, expected) in [
            ("tenant-a:admin", "tenant-a:read", true),
            ("tenant-a:admin", "tenant-a:write", true),
            ("tenant-a:admin", "list", true),
            ("tenant-a:admin", "tenant-b:read", false),
            ("tenant-a:write", "tenant-a:read", true),
            ("tenant-a:read", "tenant-a:write", false),
            ("root", "tenant-a:read", true),
            ("root", "tenant-b:read", false),
            ("tenant-*:admin", "tenant-a:read", false),
            ("tenant-:admin", "tenant-a:read", false),
            ("xtenant-a:admin", "tenant-a:read", false),
            ("x", "x", true),
        ] {
            assert_eq!(table.implies(broad, narrow), expected, "{broad} {narrow}");
        }
        for (label, cycle) in [
            ("grows", &[("a*", &["aa*"][..])][..]),
            ("shrinks", &[("aa*", &["a*"])]),
            ("two steps", &[("a-*", &["b-*"]), ("b-*", &["a-*"])]),
            ("by a scope without star", &[("a-*", &["b"]), ("b", &["a-1"])]),
            ("itself", &[("a:*", &["a:*"])]),
        ] {
            assert!(ScopeTable::with_hierarchy(&pairs(cycle)).is_err(), "{label}");
        }
    }

    #[test]
    fn stars_make_a_bounded_number_of_scopes() {
        let levels = |count: usize| -> Vec<(String, Vec<String>)> {
            let narrower = |n: usize| ["x", "y"].map(|end| format!("a{n}:*{end}")).to_vec();
            (0..count).map(|n| (format!("a{n}:*"), narrower(n + 1))).collect()
        };
        let table = ScopeTable::with_hierarchy(&levels(8)).unwrap();
        let mut counted = 0;
        let patterns = table.patterns.unwrap();
        patterns.implied(["a0:"].into_iter(), |_| counted += 1);
        assert_eq!(counted, 511);
        assert_eq!(
            ScopeTable::with_hierarchy(&levels(9)).unwrap_err(),
            HierarchyMistake::TooMany { scope: "a0:*".to_owned() }
        );
        assert!(ScopeTable::with_hierarchy(&levels(3_000)).is_err());
        let chain: Vec<(String, Vec<String>)> =
            (0..900).map(|n| (format!("a{n}:*"), vec![format!("a{}:*", n + 1)])).collect();
        assert!(ScopeTable::with_hierarchy(&chain).is_ok());
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
