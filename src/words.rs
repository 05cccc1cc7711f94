//! Suggestions for words that are almost right.

/// The known word that is most likely meant, if one is near enough.
pub(crate) fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    // A suggestion for a long text would cost its length times each word's.
    const LONGEST_BYTES: usize = 64;
    const NEAR_ENOUGH: f64 = 0.75;

    if word.len() > LONGEST_BYTES {
        return None;
    }
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (candidate, strsim::jaro_winkler(&lower, &candidate.to_lowercase())))
        .filter(|(_, similarity)| *similarity >= NEAR_ENOUGH)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(candidate, _)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_word_is_suggested_and_nothing_far() {
        let known = ["scopes", "source", "target", "when"];
        assert_eq!(nearest("scope", known), Some("scopes"));
        assert_eq!(nearest("Targets", known), Some("target"));
        assert_eq!(nearest("zzz", known), None);
    }
}
