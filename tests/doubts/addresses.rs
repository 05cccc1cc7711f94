//! Hosts, paths and routes: repeated, re-encoded, unreadable or withheld.

use super::{Doubt, any_term, with};
use crate::choices::Choices;
use crate::model::condition::Term;
use crate::model::generate::{HOSTS, PATHS, ROUTES};
use crate::model::{Part, Policy, Request};

fn set_host(request: &Request, host: Part) -> Request {
    with(request, |request| request.host = host)
}

pub fn host_doubt(choices: &mut Choices<'_>, _: &[Policy], request: &Request) -> Doubt {
    const UNCLEAR: [&str; 7] = [
        "internal.example.com:abc",
        "internal.example.com:443:443",
        "user@internal.example.com",
        "mcp..example.com",
        "%69nternal.example.com",
        "mcp.example.com,internal.example.com",
        "",
    ];
    let set = |host| set_host(request, host);
    let host = choices.pick(&HOSTS);
    let any = HOSTS.map(|host| set(Part::Sent(host.to_owned()))).into();
    let spelled = match choices.below(9) {
        8 => return Doubt::new("withheld host", set(Part::NotSent), any),
        0 => return Doubt::new("repeated host", set(Part::Twice("mcp.example.com", host)), any),
        1 => return Doubt::new("unreadable host", set(Part::NotUtf8), any),
        2 => {
            let unclear = Part::Sent(choices.pick(&UNCLEAR).to_owned());
            return Doubt::new("unreadable host", set(unclear), any);
        }
        3 => host.to_uppercase(),
        4 => format!("{host}:8443"),
        5 => format!("{host}."),
        6 => format!("{}.:443", host.to_uppercase()),
        _ => host.replace("example", "Example"),
    };
    Doubt::new("spelled host", set(Part::Sent(spelled)), vec![set(Part::Sent(host.to_owned()))])
}

pub fn path_doubt(choices: &mut Choices<'_>, policies: &[Policy], request: &Request) -> Doubt {
    let set = |path: &str| with(request, |request| request.path = Part::Sent(path.to_owned()));
    let part = |part| with(request, |request| request.path = part);
    let any = PATHS.map(set).into();
    let path = choices.pick(&PATHS);
    let spelled = match choices.below(20) {
        18.. => return Doubt::new("withheld path", part(Part::NotSent), any),
        0 => return Doubt::new("repeated path", part(Part::Twice("/mcp", path)), any),
        1 => return Doubt::new("unreadable path", part(Part::NotUtf8), any),
        2 => {
            let unclear = choices.pick(&["mcp", "", "/mcp/%zz", "/mcp/%6", "*"]);
            return Doubt::new("unreadable path", set(unclear), any);
        }
        3 => format!("/{path}"),
        4 => format!("/x/..{path}"),
        5 => format!("/.{path}"),
        6 => path.replace("admin", "%61dmin"),
        7 => path.replace("/admin", "%2fadmin"),
        8 => path.replace("/admin", "\\admin"),
        9 => path.replace("/admin", "//admin"),
        10 => path.replace("/mcp", "/mcp;v=1"),
        11 => path.replace("mcp", "%6Dcp"),
        12 => path.replace("/admin", "/x/%2e%2e/admin"),
        _ => {
            let capitals = path.replace("mcp", "MCP").replace("admin", "Admin");
            // Conditions compare paths with regard to letters' case.
            return Doubt::new("path in capitals", set(&capitals), vec![set(path)])
                .exempt_if(any_term(policies, |term| term == Term::Path));
        }
    };
    Doubt::new("spelled path", set(&spelled), vec![set(path)])
}

pub fn withheld_route(_: &mut Choices<'_>, _: &[Policy], request: &Request) -> Doubt {
    let set = |route| with(request, |request| request.route = route);
    let any = ROUTES.map(|name| set(Some(name))).into();
    Doubt::new("withheld route", set(None), any)
}
