//! Lints about the selection of policies.

use crate::config::problem::{Diagnostics, Lint};
use crate::config::{LocatedPolicy, Location};
use crate::policy::{Dialect, Policy, RequestMatcher};

/// Warns of policies in a set of several that only a host or a path selects.
pub(in crate::config) fn selected_by_address(
    policies: &[LocatedPolicy],
    files: &mut [(Diagnostics, String)],
) {
    let is_selected = |policy: &Policy| !policy.matching.only_by_name;
    if policies.iter().filter(|placed| is_selected(&placed.policy)).count() < 2 {
        return;
    }
    // An `MCPRoute` cannot name Envoy's routes.
    let own = policies.iter().filter(|placed| placed.policy.dialect == Dialect::Native);
    let own = own.filter(|placed| !placed.mistakes.matching);
    for LocatedPolicy { policy, file, spot: Location { place, keys }, .. } in own {
        let RequestMatcher { hosts, path_prefixes, routes, only_by_name: _ } = &policy.matching;
        if !routes.is_empty() {
            continue;
        }
        let by = match (hosts.is_empty(), path_prefixes.is_empty()) {
            (true, true) => continue,
            (false, true) => "host",
            (true, false) => "path",
            (false, false) => "host and path",
        };
        let message = format!(
            "only the {by} of a request selects this policy beside others, and clients write \
             that: name Envoy's routes in `match.routes` instead, which also pick the server, so \
             that no request reaches a server under the policy of another one"
        );
        if let Some((problems, _)) = files.get_mut(*file) {
            problems.lint(Lint::SelectedByAddress, *place, keys, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{doubts, problems};

    /// Returns a policy file with one policy for each `match`.
    fn set(matches: &[&str]) -> String {
        let policy = |(index, matching): (usize, &&str)| {
            let matching = if matching.is_empty() { "" } else { &format!("match: {matching}, ") };
            format!("- {{name: p{index}, {matching}rules: [{{action: Deny}}]}}\n")
        };
        let policies: String = matches.iter().enumerate().map(policy).collect();
        format!("policies:\n{policies}")
    }

    #[test]
    fn policies_selected_by_address_are_doubtful() {
        const CODE: &str = "selected-by-address";
        for (matches, lines) in [
            (["{hosts: [a]}"].as_slice(), [].as_slice()),
            (&["{pathPrefixes: [/a]}"], &[]),
            (&["{hosts: [a]}", ""], &[2]),
            (&["{hosts: [a]}", "{pathPrefixes: [/b]}"], &[2, 3]),
            (&["{hosts: [a], pathPrefixes: [/b]}", ""], &[2]),
            (&["{hosts: [a]}", "{onlyByName: true}"], &[]),
            (&["{routes: [a]}", "{routes: [b]}", ""], &[]),
            (&["{routes: [a], hosts: [a]}", "{hosts: [b]}"], &[3]),
        ] {
            let found = doubts(&set(matches));
            let expected: Vec<String> =
                lines.iter().map(|line| format!("{CODE}:{line}:")).collect();
            let starts = |(found, expected): (&String, &String)| found.starts_with(expected);
            assert_eq!(found.len(), expected.len(), "{matches:?}: {found:?}");
            assert!(found.iter().zip(&expected).all(starts), "{matches:?}: {found:?}");
        }
        let route = "apiVersion: aigateway.envoyproxy.io/v1beta1\nkind: MCPRoute\n\
                     metadata: {name: r}\nspec: {path: /r, securityPolicy: {authorization: {}}}\n";
        let found = doubts(&format!("{}---\n{route}", set(&["{hosts: [a]}"])));
        assert_eq!(found.iter().filter(|found| found.starts_with(CODE)).count(), 1, "{found:?}");
    }

    #[test]
    fn prefixes_that_fold_alike_are_mistakes() {
        for (matches, count) in [
            (["{pathPrefixes: [/a]}", "{pathPrefixes: [/A]}"].as_slice(), 2),
            (&["{pathPrefixes: [/a/B]}", "{pathPrefixes: [/A]}"], 1),
            (&["{pathPrefixes: [/a, /A]}"], 0),
            (&["{pathPrefixes: [/a], hosts: [a]}", "{pathPrefixes: [/A], hosts: [b]}"], 0),
            (&["{pathPrefixes: [/a], routes: [a]}", "{pathPrefixes: [/A], routes: [b]}"], 0),
            (&["{pathPrefixes: [/a]}", "{pathPrefixes: [/A], hosts: [b]}"], 1),
        ] {
            let found = problems(&set(matches));
            assert_eq!(found.len(), count, "{matches:?}: {found:?}");
            let all = found.iter().all(|problem| problem.contains("no request can match the path"));
            assert!(all, "{found:?}");
        }
    }
}
