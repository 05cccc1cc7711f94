//! Names of tools, prompts and backends: spelled in other ways, repeated, unreadable or withheld.

use super::{Doubt, NOT_UTF8, any_term, set_header, with};
use crate::choices::Choices;
use crate::model::condition::Term;
use crate::model::generate::{BACKEND_HEADER, BACKENDS};
use crate::model::{BackendSource, Policy, Request};

/// Names of backends with spellings that servers take for the same.
const SPELLINGS: [(&str, &[&str]); 2] = [
    ("github", &["GitHub", "GITHUB", "  github\t", "ｇｉｔｈｕｂ", "git\u{ad}hub"]),
    ("jira", &["Jira", "JIRA", " jira", "ｊira", "ji\u{200b}ra"]),
];

/// Returns true if a condition reads the backend, which is as it was sent.
fn reads_backend(policies: &[Policy]) -> bool {
    any_term(policies, |term| term == Term::Backend)
}

pub fn backend_header(choices: &mut Choices<'_>, policies: &[Policy], request: &Request) -> Doubt {
    let set = |values: &[&[u8]]| set_header(request, BACKEND_HEADER, values);
    let any = BACKENDS.map(|backend| set(&[backend.as_bytes()])).into();
    match choices.below(6) {
        0 => Doubt::new("repeated backend", set(&[b"github", b"jira"]), any),
        1 => Doubt::new("unreadable backend", set(&[NOT_UTF8]), any),
        2 | 3 => Doubt::new("unknown backend", set(&[]), any),
        _ => {
            let (backend, spellings) = choices.pick(&SPELLINGS);
            let doubtful = set(&[choices.pick(spellings).as_bytes()]);
            Doubt::new("spelled backend", doubtful, vec![set(&[backend.as_bytes()])])
                .exempt_if(reads_backend(policies))
        }
    }
}

pub fn backend_attribute(
    choices: &mut Choices<'_>,
    policies: &[Policy],
    request: &Request,
) -> Doubt {
    let set = |cluster| with(request, |request| request.cluster = cluster);
    if choices.percent(40) {
        let any = BACKENDS.map(|backend| set(Some(backend))).into();
        return Doubt::new("withheld backend", set(None), any);
    }
    let (backend, spellings) = choices.pick(&SPELLINGS);
    let spelled = set(Some(choices.pick(spellings)));
    Doubt::new("spelled backend", spelled, vec![set(Some(backend))])
        .exempt_if(reads_backend(policies))
}

pub fn name(choices: &mut Choices<'_>, policies: &[Policy], request: &Request) -> Doubt {
    let name = request.name.as_str();
    let inside = 1 + choices.below(name.chars().count().max(2) - 1);
    let insert = |c: char| {
        let (start, end) = name.split_at(name.char_indices().nth(inside).map_or(0, |(at, _)| at));
        format!("{start}{c}{end}")
    };
    let wide = |c: char| match c {
        '!'..='~' => char::from_u32(u32::from(c) + 0xfee0).expect("a character"),
        c => c,
    };
    let by_low_lines = policies.iter().all(|policy| policy.backend == BackendSource::Prefix("__"));
    let spelled = match choices.below(14) {
        0 => name.to_uppercase(),
        1 => name.replace('e', "E"),
        2 => name.replace("github", "GitHub"),
        3 => name.chars().map(wide).collect(),
        4 => name.replace('_', "\u{ff3f}"),
        5 => name.replacen('_', "\u{ff3f}", 1),
        6 => insert(choices.pick(&['\u{200b}', '\u{ad}', '\u{2060}', '\u{fe0f}'])),
        7 => name.replace("fi", "ﬁ"),
        8 => name.replace('s', "ſ"),
        9 => name.replace('k', "\u{212a}"),
        10 => format!(" {name}"),
        11 => format!("{name}\u{a0}"),
        12 => format!("\u{3000}{name} "),
        _ if by_low_lines => name.replacen("__", " __ ", 1),
        _ => name.to_uppercase(),
    };
    // `request.mcp.tool` and `request.mcp.backend` are as they were sent.
    let reads_name = any_term(policies, |term| [Term::Tool, Term::Backend].contains(&term));
    let spelled = with(request, |request| request.name = spelled);
    Doubt::new("spelled name", spelled, vec![request.clone()]).exempt_if(reads_name)
}
