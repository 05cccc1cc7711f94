//! A value for each kind of target.

use crate::mcp::TargetKind;

/// A value each for tools, prompts, resources and methods. Templates share the value of resources.
#[derive(Debug, Default)]
pub(super) struct PerKind<T> {
    tools: T,
    prompts: T,
    resources: T,
    methods: T,
}

impl<T> PerKind<T> {
    pub(super) fn get(&self, feature: TargetKind) -> &T {
        match feature {
            TargetKind::Tool => &self.tools,
            TargetKind::Prompt => &self.prompts,
            TargetKind::Resource | TargetKind::ResourceTemplate => &self.resources,
            TargetKind::Method => &self.methods,
        }
    }

    pub(super) fn get_mut(&mut self, feature: TargetKind) -> &mut T {
        match feature {
            TargetKind::Tool => &mut self.tools,
            TargetKind::Prompt => &mut self.prompts,
            TargetKind::Resource | TargetKind::ResourceTemplate => &mut self.resources,
            TargetKind::Method => &mut self.methods,
        }
    }
}
