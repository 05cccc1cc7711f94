//! The targets that rules can name.

use super::shape::{Field, MappingSchema, ValueSchema, field};
use crate::mcp::{AppliesTo, TargetKind, is_almost_known, is_ambiguous, name_fault};
use crate::policy::BackendSource;

pub(super) static TARGET: MappingSchema = MappingSchema {
    any_of: &["tools", "prompts", "resources", "methods"],
    ..MappingSchema::new(
        "What is called: any of these.",
        &[
            field("tools", ValueSchema::Mappings(&TOOL), "Tools."),
            field(
                "prompts",
                ValueSchema::Mappings(&PROMPT),
                "Prompts; for policies that enforce them.",
            ),
            field(
                "resources",
                ValueSchema::Mappings(&RESOURCE),
                "Resources; for policies that enforce them.",
            ),
            field(
                "methods",
                ValueSchema::Mappings(&METHOD),
                "What is called by other methods; for policies that enforce them.",
            ),
        ],
    )
};

static TOOL: MappingSchema = MappingSchema {
    one_of: &["tool", "toolName"],
    ..MappingSchema::new(
        "A tool that is called.",
        &[
            BACKEND,
            field(
                "tool",
                ValueSchema::Text,
                "Its name without the backend's prefix; `*` stands for any characters.",
            ),
            field("toolName", ValueSchema::Text, "Another word for `tool`."),
            WHEN,
        ],
    )
};

static PROMPT: MappingSchema = MappingSchema::new(
    "A prompt that is used, or completed for.",
    &[
        BACKEND,
        field(
            "prompt",
            ValueSchema::Text,
            "Its name without the backend's prefix; `*` stands for any characters.",
        )
        .required(),
        WHEN,
    ],
);

static RESOURCE: MappingSchema = MappingSchema::new(
    "A resource that is read, subscribed to, or completed for.",
    &[
        BACKEND,
        field(
            "uri",
            ValueSchema::Text,
            "Its URI without the backend's prefix; `*` stands for any characters.",
        )
        .required(),
        WHEN,
    ],
);

static METHOD: MappingSchema = MappingSchema::new(
    "A method that calls for something else.",
    &[
        BACKEND,
        field("method", ValueSchema::Text, "Its name; `*` stands for any characters.").required(),
        WHEN,
    ],
);

const BACKEND: Field = field("backend", ValueSchema::Text, "Its backend; left out: any.");
const WHEN: Field =
    field("when", ValueSchema::Condition, "Must be true of `args`, `meta` and `request` (CEL).");

/// The features that a target can name. Each has its key in `target`, the key of its name, and its
/// shape.
pub(super) const TARGETS: [(TargetKind, &str, &str, &MappingSchema); 4] = [
    (TargetKind::Tool, "tools", "tool", &TOOL),
    (TargetKind::Prompt, "prompts", "prompt", &PROMPT),
    (TargetKind::Resource, "resources", "uri", &RESOURCE),
    (TargetKind::Method, "methods", "method", &METHOD),
];

/// Returns the reason why a name can match no call, if there is one. `prefixed` says how a call
/// names its backend, for a target without one. `governed` is `None` if it has a mistake.
pub(super) fn name_mistake(
    feature: TargetKind,
    name: &str,
    (prefixed, governed): (Option<&BackendSource>, Option<AppliesTo>),
) -> Option<String> {
    if name.trim() != name || name.contains(char::is_control) {
        return Some(format!(
            "`{}` never matches: it has spaces around it or control characters",
            name.escape_debug()
        ));
    }
    if feature == TargetKind::Method
        && let Some(mistake) = method_mistake(name, governed)
    {
        return Some(mistake);
    }
    if feature == TargetKind::Resource {
        return uri_mistake(name);
    }
    let (backend, rest) = prefixed?.split(feature, name);
    let noun = feature.as_str();
    let fix = match backend? {
        "*" => format!("`{noun}: {rest}`, which is of any backend"),
        backend if backend.contains('*') => {
            format!("a target for each backend, as in `backend: BACKEND, {noun}: {rest}`")
        }
        backend => format!("`backend: {backend}, {noun}: {rest}`"),
    };
    Some(format!(
        "`{name}` has a backend's name in front, and the {noun} is what follows it: write {fix}"
    ))
}

/// Returns a doubt about a name in an `MCPRoute`, where each name is literal. `instead` says what
/// to write for several names.
pub(super) fn route_name_doubt(name: &str, instead: &str) -> Option<String> {
    if let Some(fault) = name_fault(TargetKind::Tool, name) {
        return Some(format!(
            "`{}` never matches here, unlike in Agent Router: calls of a name that {fault} are \
             refused",
            name.escape_debug()
        ));
    }
    name.contains('*').then(|| {
        format!(
            "`*` stands for itself in an MCPRoute, so `{name}` matches no other name: {instead}"
        )
    })
}

/// Returns the reason why a resource URI can match no call, if there is one.
fn uri_mistake(uri: &str) -> Option<String> {
    if uri.contains(['{', '}']) {
        return Some(format!(
            "`{uri}` never matches: write `*` for what an expression of a URI template stands for"
        ));
    }
    let (scheme, _) = uri.split_once(':').unwrap_or_default();
    let has_capitals = scheme.bytes().any(|byte| byte.is_ascii_uppercase());
    (has_capitals || is_ambiguous(uri, uri.contains('*'))).then(|| {
        format!(
            "`{uri}` never matches: it can be taken for another URI, and is refused in calls; write it \
             as WHATWG URL does, without encoded slashes, and a file's without host and query"
        )
    })
}

/// Returns a doubt about a URI in a rule: the policy reads the beginning of the URI as a backend.
pub(super) fn uri_doubt(uri: &str, prefixed: Option<&BackendSource>) -> Option<String> {
    let (backend, rest) = prefixed?.split(TargetKind::Resource, uri);
    let backend = backend.filter(|backend| !backend.contains('*') && rest != uri)?;
    Some(format!(
        "of a call for `{uri}`, `{backend}` is taken for the backend: write `backend: {backend}, uri: \
         {rest}` to mean that, or give the policy a `backend` other than toolNamePrefix"
    ))
}

/// Returns the reason why a method can match no call, if there is one.
fn method_mistake(name: &str, governed: Option<AppliesTo>) -> Option<String> {
    if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(format!("`{name}` never matches: methods are visible ASCII"));
    }
    if is_almost_known(name) {
        return Some(format!(
            "`{name}` never matches: it differs from a method of MCP only in upper and lower case, \
             and is refused"
        ));
    }
    let governed = governed?;
    if name == "completion/complete" && governed.judges_as(name).is_some() {
        return Some(format!(
            "`{name}` never matches: it is judged as the prompt or the resource that it is for"
        ));
    }
    governed.judges_as(name).map(|feature| {
        let noun = feature.as_str();
        format!("`{name}` never matches: it is judged as a {noun}; name that in `{noun}s`")
    })
}

/// Returns the reason why a backend can match no call, if there is one.
pub(super) fn backend_mistake(
    (feature, name): (TargetKind, Option<&str>),
    backend: &str,
    from: &BackendSource,
) -> Option<String> {
    if backend.contains('*') {
        return Some(format!(
            "`{backend}`: a backend is named in full; leave `backend` out to mean all of them"
        ));
    }
    if let BackendSource::Name(only) = from
        && only != backend
    {
        return Some(format!(
            "`{backend}` never matches: the policy says that everything is of the backend `{only}`"
        ));
    }
    let separator = from.separator()?;
    match feature {
        TargetKind::Method => Some(format!(
            "`{backend}` never matches: backends are told by the names of tools, prompts and \
             resources, and a method has none"
        )),
        TargetKind::Resource | TargetKind::ResourceTemplate => {
            let is_prefix = |byte: u8| !byte.is_ascii_uppercase() && !b":+/".contains(&byte);
            // The URI of an app contains the name of the backend.
            let app = name.and_then(|uri| uri.strip_prefix("ui://")?.split_once('/'));
            if let Some((app, _)) = app.filter(|(app, _)| !app.contains('*') && *app != backend) {
                return Some(format!(
                    "`{backend}` never matches: the backend of `ui://{app}/…` is `{app}`"
                ));
            }
            (!backend.bytes().all(is_prefix)).then(|| {
                format!(
                    "`{backend}` never matches: before a URI, a backend has neither capitals nor any of \
                     `:`, `+` and `/`"
                )
            })
        }
        // The search for the separator starts at the first byte, so the separator can begin within
        // the backend.
        TargetKind::Tool | TargetKind::Prompt => {
            let found = from.split(feature, &format!("{backend}{separator}x")).0 == Some(backend);
            (!found).then(|| {
                format!(
                    "`{backend}` never matches: a backend's name ends before the first `{separator}`"
                )
            })
        }
    }
}
