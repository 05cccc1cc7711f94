//! The parts of an `MCPRoute` that Envoy does.

use crate::config::decode::{Item, MappingRef};
use crate::config::problem::{Diagnostics, Lint};

/// The names of the parts that mcp-authz leaves to Envoy, without duplicates.
#[derive(Default)]
pub(super) struct Left(Vec<&'static str>);

impl Left {
    /// Adds the name of each listed key that the document has.
    pub(super) fn note(&mut self, fields: &MappingRef<'_>, keys: &[(&str, &'static str)]) {
        for (_, name) in keys.iter().filter(|(key, _)| fields.get(key).is_some()) {
            self.add(name);
        }
    }

    pub(super) fn add(&mut self, name: &'static str) {
        if !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    /// Reports all parts in one notice.
    pub(super) fn notice(&self, spec: &Item<'_>, problems: &mut Diagnostics) {
        if !self.0.is_empty() {
            let message = format!("left to the configuration of Envoy: {}", self.0.join(", "));
            spec.lint(Lint::LeftToOthers, problems, message);
        }
    }
}
