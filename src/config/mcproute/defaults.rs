//! The settings of all `MCPRoute` documents that are loaded together.

use crate::config::Location;
use crate::config::decode::Item;
use crate::config::found::Mistakes;
use crate::config::problem::Diagnostics;
use crate::config::settings::{MCP_ROUTE_DEFAULTS, Settings};

/// The settings that apply where a document gives none itself.
#[derive(Debug, Default)]
pub(in crate::config) struct RouteDefaults {
    pub(super) settings: Settings,
    /// The settings that have a mistake.
    pub(super) mistakes: Mistakes,
    /// The index of the file with these settings, and their place in it.
    pub(in crate::config) spot: Option<(usize, Location)>,
}

/// Reads `mcpRouteDefaults`.
pub(in crate::config) fn route_defaults(
    item: &Item<'_>,
    file: usize,
    problems: &mut Diagnostics,
) -> RouteDefaults {
    let (fields, is_unclear) =
        problems.checked(|problems| item.fields(&MCP_ROUTE_DEFAULTS, problems));
    let (settings, any) = problems.checked(|problems| {
        fields.as_ref().map(|fields| Settings::read(fields, problems)).unwrap_or_default()
    });
    let mistakes = settings.mistakes();
    // An unknown key may be a misspelling of any key.
    let mistakes = Mistakes {
        governed: mistakes.governed || is_unclear,
        lists: mistakes.lists || is_unclear,
        scopes: mistakes.scopes || is_unclear,
        condition_errors: mistakes.condition_errors || is_unclear,
        any: mistakes.any || is_unclear || any,
        ..Mistakes::default()
    };
    RouteDefaults { settings, mistakes, spot: Some((file, item.into())) }
}
