//! The tokens that an `MCPRoute` accepts, and its protected resource (RFC 9728).

use super::address::{Address, RouteUrl};
use super::left::Left;
use super::{key, shape};
use crate::config::decode::Item;
use crate::config::problem::{Diagnostics, Lint};
use crate::config::scopes::supported_scopes;
use crate::config::settings::is_metadata_url;
use crate::config::shape::MappingSchema;
use crate::policy::AcceptedTokens;

/// The well-known path of [RFC 9728, section 3](https://www.rfc-editor.org/rfc/rfc9728#section-3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

static OAUTH: MappingSchema = shape(&[
    key("issuer"),
    key("audiences"),
    key("jwks"),
    key("protectedResourceMetadata"),
    key("claimToHeaders"),
    key("authorizationServerMetadataUrl"),
]);
static RESOURCE_METADATA: MappingSchema = shape(&[
    key("resource"),
    key("resourceName"),
    key("scopesSupported"),
    key("resourceSigningAlgValuesSupported"),
    key("resourceDocumentation"),
    key("resourcePolicyUri"),
]);

/// The tokens that a route accepts, and its protected resource.
#[derive(Default)]
pub(super) struct Oauth {
    pub(super) accepted_tokens: AcceptedTokens,
    /// The URL at which clients find the protected resource metadata.
    pub(super) metadata_url: Option<String>,
    pub(super) scopes_supported: Option<Vec<String>>,
}

impl Oauth {
    /// Reads `oauth`. `default_url` replaces a metadata URL that cannot be derived.
    pub(super) fn read(
        item: &Item<'_>,
        (address, default_url): (&Address, Option<&str>),
        left: &mut Left,
        problems: &mut Diagnostics,
    ) -> Self {
        let (fields, is_unclear) =
            problems.checked(|problems| item.fields_or_null(&OAUTH, problems));
        let Some(fields) = fields else { return Self::default() };
        left.note(
            &fields,
            &[
                ("jwks", "oauth.jwks"),
                ("claimToHeaders", "oauth.claimToHeaders"),
                ("authorizationServerMetadataUrl", "oauth.authorizationServerMetadataUrl"),
            ],
        );
        let issuer = fields.required("issuer", problems).and_then(|item| item.string(problems));
        let (audiences, has_mistake) = problems
            .checked(|problems| fields.get("audiences").and_then(|item| item.texts(problems)));
        if !is_unclear && !has_mistake && audiences.as_ref().is_none_or(Vec::is_empty) {
            let message = "without `audiences` every token of the issuer counts, one for another \
                           server, too: add the `aud` of tokens for this server";
            item.lint(Lint::AnyAudience, problems, message);
        }
        let accepted_tokens = AcceptedTokens {
            issuers: issuer.into_iter().collect(),
            audiences: audiences.unwrap_or_default(),
        };
        let metadata_item = fields.required("protectedResourceMetadata", problems);
        let metadata = metadata_item
            .as_ref()
            .and_then(|item| item.fields_or_null(&RESOURCE_METADATA, problems));
        let (Some(item), Some(metadata)) = (metadata_item, metadata) else {
            return Self { accepted_tokens, ..Self::default() };
        };
        left.add("the protected resource metadata document");
        let metadata_url = match metadata.get("resource") {
            Some(item) => of_resource(&item, default_url, problems),
            None if metadata.has_unclear_key() => None,
            None => of_route(&item, &address.url, default_url, problems),
        };
        let scopes_supported =
            metadata.get("scopesSupported").map(|item| supported_scopes(&item, problems));
        Self { accepted_tokens, metadata_url, scopes_supported }
    }
}

/// Returns the metadata URL of the resource that a document names.
fn of_resource(
    item: &Item<'_>,
    default_url: Option<&str>,
    problems: &mut Diagnostics,
) -> Option<String> {
    let resource = item.string(problems)?;
    let url = metadata_url(&resource).filter(|url| is_metadata_url(url));
    if url.is_some() {
        return url;
    }
    let example = "such as `https://mcp.example.com/mcp` (RFC 9728, section 1.2)";
    if !is_uri(&resource) {
        item.problem(problems, format!("`{resource}` is not a URI, {example}"));
    } else if default_url.is_none() {
        let message = format!(
            "`{resource}` is not the URL of an MCP server, {example}, so challenges do not tell \
             clients where to log in"
        );
        item.lint(Lint::NoResourceMetadata, problems, message);
    }
    None
}

/// Returns the metadata URL of a route that names no resource. The URL of the route is the
/// resource.
fn of_route(
    item: &Item<'_>,
    url: &RouteUrl,
    default_url: Option<&str>,
    problems: &mut Diagnostics,
) -> Option<String> {
    match url {
        RouteUrl::One(url) if metadata_url(url).is_some_and(|url| is_metadata_url(&url)) => {
            metadata_url(url)
        }
        _ if default_url.is_some() => None,
        RouteUrl::One(url) => {
            let message = format!(
                "`{url}` cannot stand in a challenge as some clients read it, so challenges do \
                 not tell clients where to log in: add `resource`, or choose another path"
            );
            item.lint(Lint::NoResourceMetadata, problems, message);
            None
        }
        RouteUrl::Several => {
            let message = "without `resource` and with several host names the metadata are not \
                           at one place, so challenges do not tell clients where to log in: add \
                           `resource`, or give each host name a route";
            item.lint(Lint::NoResourceMetadata, problems, message);
            None
        }
        RouteUrl::AnyHost => {
            let message = "the key `resource` is missing, and without `hostnames` it cannot be \
                           derived: add `resource: https://HOST/PATH`, or the route's one host name to \
                           `hostnames`";
            item.problem(problems, message);
            None
        }
        RouteUrl::Unclear => None,
    }
}

/// Returns true if a string has the form of an absolute URI, by its scheme and characters.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte))
        && !rest.is_empty()
        && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Returns the URL of the metadata of a protected resource ([RFC 9728, section 3.1]). The
/// well-known part comes between host and path.
///
/// [RFC 9728, section 3.1]: https://www.rfc-editor.org/rfc/rfc9728#section-3.1
pub(super) fn metadata_url(resource: &str) -> Option<String> {
    let resource = resource.strip_suffix('/').unwrap_or(resource);
    let (scheme, rest) = resource.split_once("://")?;
    // Schemes are compared in lower case (RFC 3986, section 3.1).
    let scheme = scheme.to_ascii_lowercase();
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let is_web = ["https", "http"].contains(&scheme.as_str());
    (is_web && !rest.contains('#')).then(|| format!("{scheme}://{host}{WELL_KNOWN}{path}"))
}
