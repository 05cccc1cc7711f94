//! The `WWW-Authenticate` header of a refusal ([RFC 6750, section 3], MCP
//! authorization specification).
//!
//! Clients parse the header in simple ways, some with one regular expression. So keys are in lower
//! case, no space surrounds `=`, and values are always quoted. An empty `scope` is omitted, and no
//! text in front of `scope` looks like it. No value needs an escape: scopes are scope-tokens, and
//! the metadata URL was checked when the policy was loaded.
//!
//! [RFC 6750, section 3]: https://www.rfc-editor.org/rfc/rfc6750#section-3

use std::fmt::Write as _;

use crate::policy::Policy;

/// Returns the challenge of a 403, with the scopes that would allow the call.
pub fn insufficient_scope(policy: &Policy, scopes: &[String]) -> String {
    let mut header = r#"Bearer error="insufficient_scope""#.to_owned();
    push(&mut header, ", ", "scope", &scopes.join(" "));
    if let Some(url) = &policy.resource_metadata_url {
        push(&mut header, ", ", "resource_metadata", url);
    }
    let noun = if scopes.len() == 1 { "scope" } else { "scopes" };
    let description = format!("this call requires the {noun} {}", scopes.join(" "));
    push(&mut header, ", ", "error_description", &description);
    header
}

/// Returns the challenge of a 401, with the place to log in. `token_came` is true if the request
/// had a token; the challenge then states that the token is not valid.
pub fn unauthenticated(policy: &Policy, token_came: bool) -> String {
    let mut header = "Bearer".to_owned();
    let mut separator = " ";
    let mut add = |key, value: &str| {
        push(&mut header, separator, key, value);
        separator = ", ";
    };
    if token_came {
        add("error", "invalid_token");
    }
    if let Some(url) = &policy.resource_metadata_url {
        add("resource_metadata", url);
    }
    if !policy.scopes_supported.is_empty() {
        add("scope", &policy.scopes_supported.join(" "));
    }
    header
}

fn push(header: &mut String, separator: &str, key: &str, value: &str) {
    // Writing to a `String` cannot fail.
    let _written = write!(header, "{separator}{key}=\"{value}\"");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config;

    const URL: &str = "https://mcp.example.com/.well-known/oauth-protected-resource";

    fn policy(more: &str) -> Arc<Policy> {
        let text = format!("policies:\n- {{name: p, rules: [{{action: Allow}}]{more}}}\n");
        Arc::clone(&config::parse(&text).unwrap().policies[0])
    }

    #[test]
    fn a_403_names_the_scopes_that_would_open_the_call() {
        let scopes =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            insufficient_scope(&policy(""), &scopes(&["a"])),
            "Bearer error=\"insufficient_scope\", scope=\"a\", \
             error_description=\"this call requires the scope a\""
        );
        assert_eq!(
            insufficient_scope(
                &policy(&format!(", resourceMetadataURL: {URL}")),
                &scopes(&["a", "b"])
            ),
            format!(
                "Bearer error=\"insufficient_scope\", scope=\"a b\", resource_metadata=\"{URL}\", \
                 error_description=\"this call requires the scopes a b\""
            )
        );
    }

    #[test]
    fn a_401_says_where_to_log_in() {
        let bare = policy("");
        assert_eq!(unauthenticated(&bare, false), "Bearer");
        assert_eq!(unauthenticated(&bare, true), "Bearer error=\"invalid_token\"");
        let full = policy(&format!(", resourceMetadataURL: {URL}, scopesSupported: [a, c]"));
        let rest = format!("resource_metadata=\"{URL}\", scope=\"a c\"");
        assert_eq!(unauthenticated(&full, false), format!("Bearer {rest}"));
        assert_eq!(unauthenticated(&full, true), format!("Bearer error=\"invalid_token\", {rest}"));
        let supported = policy(", scopesSupported: [a]");
        assert_eq!(unauthenticated(&supported, false), "Bearer scope=\"a\"");
    }
}
