//! Folding of names: their form as the most lenient server reads them.
//!
//! Some servers ignore case, width or invisible characters in names. Such a spelling must not evade
//! a Deny rule, so a Deny rule compares folded names on both sides.
//!
//! Folding is NFKC_Casefold ([The Unicode Standard, section 3.13]) in decomposed form, and equates
//! some more letters (see [`fold_letters`]). Names that are equal in the composed form are equal in
//! the decomposed form. In the decomposed form, a mark after a letter does not change the start of
//! the name, which patterns compare.
//!
//! [The Unicode Standard, section 3.13]: https://www.unicode.org/versions/latest/core-spec/chapter-3/#G53513

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization as _;

use crate::json::fold_letters;

/// Returns true if folding certainly does not change a name, because all its bytes are plain.
pub(super) fn is_folded(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    name.bytes().all(is_plain)
}

/// Folds a name, and removes surrounding white space.
pub(super) fn fold(name: &str) -> Cow<'_, str> {
    match fold_part(name) {
        Cow::Borrowed(name) => Cow::Borrowed(name.trim()),
        Cow::Owned(name) => Cow::Owned(name.trim().to_owned()),
    }
}

/// Folds a part of a name, and keeps surrounding white space.
pub(super) fn fold_part(part: &str) -> Cow<'_, str> {
    if is_folded(part) {
        return Cow::Borrowed(part);
    }
    // The lower case of a letter can have a compatible form with another lower case, so fold twice.
    Cow::Owned(fold_once(&fold_once(part)))
}

fn fold_once(name: &str) -> String {
    let decomposed: String = name.nfkd().filter(|c| !is_ignorable(*c)).collect();
    fold_letters(&decomposed).nfkd().filter(|c| !is_ignorable(*c)).collect()
}

/// Returns true if a character is a Default_Ignorable_Code_Point, which is invisible (Unicode 16.0,
/// DerivedCoreProperties.txt).
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookalike_names_fold_alike() {
        for (label, name, expected) in [
            ("plain", "delete_file", "delete_file"),
            ("capitals", "DELETE_File", "delete_file"),
            ("fullwidth", "\u{ff44}elete\u{ff3f}file", "delete_file"),
            ("zero width", "delete\u{200b}_file", "delete_file"),
            ("soft hyphen", "de\u{ad}lete_file", "delete_file"),
            ("white space", "\u{2003}delete_file\u{a0}", "delete_file"),
            ("ligature", "\u{fb01}le", "file"),
            ("long s", "\u{17f}ecret", "secret"),
            ("Kelvin sign", "\u{212a}ey", "key"),
            ("dotted capital I", "\u{130}d", "id"),
            ("dotless i", "\u{131}d", "id"),
            ("composed", "caf\u{e9}", "cafe\u{301}"),
            ("mark behind a capital", "DELETE\u{301}_x", "delete\u{301}_x"),
            ("sharp s", "STRA\u{1e9e}E", "strasse"),
            ("circled", "\u{24b6}", "a"),
            ("separator", "github\u{ff3f}\u{ff3f}x", "github__x"),
        ] {
            assert_eq!(fold(name), expected, "{label}");
            assert_eq!(fold(&fold(name)), fold(name), "{label}");
        }
        assert_ne!(fold("\u{430}dmin"), fold("admin"), "Cyrillic is another script");
    }

    #[test]
    fn ignorable_characters_are_as_unicode_lists_them() {
        let listed = regex::Regex::new(r"^\p{Default_Ignorable_Code_Point}$").unwrap();
        for c in char::MIN..=char::MAX {
            assert_eq!(is_ignorable(c), listed.is_match(c.encode_utf8(&mut [0; 4])), "{c:?}");
        }
    }

    #[test]
    fn folding_twice_changes_nothing() {
        for c in char::MIN..=char::MAX {
            let name = format!("a{c}b");
            let folded = fold(&name).into_owned();
            assert_eq!(fold(&folded), folded, "{}", c.escape_unicode());
        }
    }
}
