//! Policies as a policy file.

use serde_json::{Value, json};

use super::{BackendSource, Policy, Rule, Target};

/// Returns the text of a policy file.
pub fn text(policies: &[Policy]) -> String {
    let policies: Vec<Value> = policies.iter().map(policy).collect();
    json!({"policies": policies}).to_string()
}

fn policy(policy: &Policy) -> Value {
    let Policy { name, hosts, path_prefixes, routes, only_by_name, .. } = policy;
    let mut document = json!({
        "name": name,
        "backend": match policy.backend {
            BackendSource::Prefix(prefix) => json!({"toolNamePrefix": prefix}),
            BackendSource::Name(name) => json!({"name": name}),
            BackendSource::Header(name) => json!({"header": name}),
            BackendSource::Attribute(name) => json!({"attribute": name}),
        },
        "enforce": if policy.covers_prompts { &["tools", "prompts"][..] } else { &["tools"] },
        "conditionErrors": if policy.errors_deny { "Deny" } else { "NoMatch" },
        "defaultAction": action(policy.allows_by_default),
        "rules": policy.rules.iter().map(rule).collect::<Vec<_>>(),
    });
    if *only_by_name {
        document["match"] = json!({"onlyByName": true});
    }
    for (key, names) in [("hosts", hosts), ("pathPrefixes", path_prefixes), ("routes", routes)] {
        if !names.is_empty() {
            document["match"][key] = json!(names);
        }
    }
    if policy.needs_token {
        document["unauthenticated"] = json!("Challenge");
        document["resourceMetadataURL"] = json!("https://mcp.example.com/metadata");
    }
    for (broader, narrower) in &policy.hierarchy {
        document["scopeHierarchy"][*broader] = json!(narrower);
    }
    document
}

fn action(allows: bool) -> &'static str {
    if allows { "Allow" } else { "Deny" }
}

fn rule(rule: &Rule) -> Value {
    let mut document = json!({"action": action(rule.allows)});
    if !rule.scopes.is_empty() {
        document["source"]["jwt"]["scopes"] = json!(rule.scopes);
    }
    let claims = rule.claims.iter().map(|claim| {
        let kind = if claim.is_list { "StringArray" } else { "String" };
        json!({"name": claim.name, "valueType": kind, "values": claim.values})
    });
    let claims: Vec<Value> = claims.collect();
    if !claims.is_empty() {
        document["source"]["jwt"]["claims"] = json!(claims);
    }
    for (key, is_prompt) in [("tools", false), ("prompts", true)] {
        let targets = rule.targets.iter().flatten();
        let targets = targets.filter(|target| target.is_prompt == is_prompt).map(target);
        let targets: Vec<Value> = targets.collect();
        if !targets.is_empty() {
            document["target"][key] = json!(targets);
        }
    }
    if let Some(condition) = &rule.condition {
        document["cel"] = json!(condition.cel());
    }
    document
}

fn target(target: &Target) -> Value {
    let key = if target.is_prompt { "prompt" } else { "tool" };
    let mut document = json!({key: target.name});
    if let Some(backend) = target.backend {
        document["backend"] = json!(backend);
    }
    if let Some(when) = &target.when {
        document["when"] = json!(when.cel());
    }
    document
}
