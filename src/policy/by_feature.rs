//! A value for each kind of target.

use crate::mcp::Feature;

/// A value each for tools, prompts, resources and methods. Templates share the value of resources.
#[derive(Debug, Default)]
pub(super) struct ByFeature<T> {
    tools: T,
    prompts: T,
    resources: T,
    methods: T,
}

impl<T> ByFeature<T> {
    pub(super) fn get(&self, feature: Feature) -> &T {
        match feature {
            Feature::Tool => &self.tools,
            Feature::Prompt => &self.prompts,
            Feature::Resource | Feature::ResourceTemplate => &self.resources,
            Feature::Method => &self.methods,
        }
    }

    pub(super) fn get_mut(&mut self, feature: Feature) -> &mut T {
        match feature {
            Feature::Tool => &mut self.tools,
            Feature::Prompt => &mut self.prompts,
            Feature::Resource | Feature::ResourceTemplate => &mut self.resources,
            Feature::Method => &mut self.methods,
        }
    }
}
