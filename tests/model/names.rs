//! Names, patterns, hosts and paths.

/// Compares a name with a pattern in which `*` stands for any characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.any(|at| matches(rest, &name[at..]))
        }),
    }
}

/// Returns a name as lenient servers read it: `NFKC_Casefold`, as far as generated names need it,
/// without white space around it.
pub fn folded(name: &str) -> String {
    let mut folded = String::new();
    for c in name.chars() {
        match c {
            '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{fe0f}' => {}
            '\u{a0}' | '\u{3000}' => folded.push(' '),
            'ß' => folded.push_str("ss"),
            'ﬁ' => folded.push_str("fi"),
            'ſ' => folded.push('s'),
            '\u{212a}' => folded.push('k'),
            '\u{ff01}'..='\u{ff5e}' => {
                let ascii = char::from_u32(u32::from(c) - 0xfee0).expect("ASCII");
                folded.push(ascii.to_ascii_lowercase());
            }
            _ => folded.push(c.to_ascii_lowercase()),
        }
    }
    folded.trim().to_owned()
}

/// Returns a host in lower case without port and trailing dot. `None`: it is no host.
pub fn clear_host(host: &str) -> Option<String> {
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    let name = name.strip_suffix('.').unwrap_or(name).to_lowercase();
    let of = |text: &str, allowed: &str| {
        text.chars().all(|c| c.is_ascii_alphanumeric() || allowed.contains(c))
    };
    let is_host = name.split('.').all(|label| !label.is_empty() && of(label, "-_"));
    let is_port = !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
    (is_host && is_port).then_some(name)
}

/// Returns a path without its query. `None`: servers could read it in several ways.
pub fn clear_path(path: &str) -> Option<String> {
    let path = path.split('?').next()?;
    if !path.starts_with('/') || path.contains([';', '\\']) || path.contains("//") {
        return None;
    }
    if path.split('/').any(|segment| [".", ".."].contains(&segment)) {
        return None;
    }
    for (at, _) in path.match_indices('%') {
        let encoded = u8::from_str_radix(path.get(at + 1..at + 3)?, 16).ok()?;
        if encoded != b' ' {
            return None;
        }
    }
    Some(path.to_owned())
}
