//! As much of PromQL as it takes to know which metrics and labels a query names.

use std::collections::BTreeSet;

/// The names that a query contains.
#[derive(Debug, Default)]
pub struct Names {
    pub metrics: BTreeSet<String>,
    pub matchers: Vec<Matcher>,
    /// Labels to aggregate by or to match on.
    pub groupings: BTreeSet<String>,
    /// The labels of the last `by`: those of the result, if it has one.
    pub by: Option<BTreeSet<String>>,
}

/// `metric{label=~"value"}`
#[derive(Debug)]
pub struct Matcher {
    pub metric: String,
    pub label: String,
    pub value: String,
}

const OPERATORS: [&str; 5] = ["and", "bool", "offset", "or", "unless"];
const WITH_LABELS: [&str; 6] = ["by", "group_left", "group_right", "ignoring", "on", "without"];
const AGGREGATIONS: [&str; 7] = ["avg", "count", "group", "max", "min", "sum", "topk"];

pub fn names(query: &str) -> Names {
    let mut names = Names::default();
    let mut rest = query.trim_start();
    let mut metric = String::new();
    while let Some(first) = rest.chars().next() {
        let word_end = rest.find(|c: char| !is_of_a_word(c)).unwrap_or(rest.len());
        rest = if first.is_ascii_digit() {
            // A number or a duration.
            &rest[word_end..]
        } else if is_of_a_word(first) {
            let (word, after) = rest.split_at(word_end);
            let after = after.trim_start();
            if WITH_LABELS.contains(&word) {
                let (labels, after) = enclosed(after, ')');
                let labels: BTreeSet<String> = list(labels).map(str::to_owned).collect();
                names.groupings.extend(labels.iter().cloned());
                if word == "by" {
                    names.by = Some(labels);
                }
                after
            } else {
                let is_call = after.starts_with('(') || AGGREGATIONS.contains(&word);
                if !is_call && !OPERATORS.contains(&word) {
                    names.metrics.insert(word.to_owned());
                    word.clone_into(&mut metric);
                }
                after
            }
        } else {
            match first {
                '{' => {
                    let (matchers, after) = enclosed(rest, '}');
                    names.matchers.extend(list(matchers).map(|text| matcher(&metric, text)));
                    after
                }
                '[' => enclosed(rest, ']').1,
                '"' => panic!("a text outside of braces: {query}"),
                _ => &rest[first.len_utf8()..],
            }
        }
        .trim_start();
    }
    names
}

fn is_of_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
}

/// Returns the text between the first character and `end`, and the text after `end`.
fn enclosed(text: &str, end: char) -> (&str, &str) {
    let mut quoted = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' => quoted = !quoted,
            _ if c == end && !quoted => return (&text[1..at], &text[at + 1..]),
            _ => {}
        }
    }
    panic!("no `{end}`: {text}")
}

/// The parts between commas that are not in quotes.
fn list(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn matcher(metric: &str, text: &str) -> Matcher {
    let end = text.find(['=', '!']).unwrap_or_else(|| panic!("no operator: {text}"));
    let (label, value) = text.split_at(end);
    let value = value.trim_start_matches(['=', '!', '~']).trim_matches('"');
    Matcher { metric: metric.to_owned(), label: label.trim().to_owned(), value: value.to_owned() }
}

#[test]
fn a_query_is_taken_apart() {
    let query = r#"topk(10, sum by (job, tool) (rate(a_total{job=~"x,y", r!="}"}[$__range])))
        / on (job) group_left () b:c:rate10m > 0.25 and up offset 1h unless on () absent(up)"#;
    let names = names(query);
    let set = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names.metrics, set(&["a_total", "b:c:rate10m", "up"]));
    assert_eq!(names.groupings, set(&["job", "tool"]));
    assert_eq!(names.by, Some(set(&["job", "tool"])));
    let matchers: Vec<_> =
        names.matchers.iter().map(|m| [&*m.metric, &*m.label, &*m.value]).collect();
    assert_eq!(matchers, [["a_total", "job", "x,y"], ["a_total", "r", "}"]]);
}
