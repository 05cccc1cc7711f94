//! Suggestions for misspelled words.

/// Returns the known word that the author most likely means, if one is similar enough.
pub(crate) fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    within(word, known, 0.75)
}

/// Returns the known word that the author certainly means, if one is almost equal.
pub(crate) fn almost<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    within(word, known, 0.9)
}

fn within<'w>(
    word: &str,
    known: impl IntoIterator<Item = &'w str>,
    near_enough: f64,
) -> Option<&'w str> {
    // The time of a comparison grows with the product of the lengths of both words.
    const LONGEST_BYTES: usize = 64;

    if word.len() > LONGEST_BYTES {
        return None;
    }
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (candidate, strsim::jaro_winkler(&lower, &candidate.to_lowercase())))
        .filter(|(_, similarity)| *similarity >= near_enough)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(candidate, _)| candidate)
}

#[cfg(test)]
mod tests {
    use super::{almost, nearest};

    #[test]
    fn the_nearest_word_is_suggested_and_nothing_far() {
        let known = ["scopes", "source", "target", "when"];
        assert_eq!(nearest("scope", known), Some("scopes"));
        assert_eq!(nearest("Targets", known), Some("target"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(almost("scope", known), Some("scopes"));
        assert_eq!((nearest("sauces", known), almost("sauces", known)), (Some("source"), None));
    }
}
