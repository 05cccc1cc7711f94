//! The command `mcp-authz check`.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::report::Report;
use super::{Output, asking, complain, output};
use crate::address::Address;
use crate::admin::{self, Client, ClientError};
use crate::config::{self, source};
use crate::head::Head;
use crate::proto::v1::check_request::Caller;
use crate::proto::v1::{CheckRequest, CheckResponse, Header};
use crate::proto::{self, Struct};

/// Decide one request without Envoy and explain the decision
///
/// Says what `serve` would answer, and for each rule that was looked at, what
/// matched and what did not: by a policy file, or with --server by the policies that
/// a running server has in force. The server does not count it.
///
/// Exits with 0 if the request may go on, with 1 if it is denied, and with 2 if
/// it cannot be decided because the policy or the request is at fault.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
mcp-authz check --policy policy.yaml --request call.json --claims '{\"scope\":\"echo\"}'")]
pub(super) struct Args {
    /// The policy file (YAML or JSON), or a directory of them
    #[arg(long, env = "MCP_AUTHZ_POLICY", value_name = "PATH", required_unless_present = "server")]
    policy: Option<PathBuf>,

    /// Ask the server with this admin address instead: unix:PATH or HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    server: Option<Address>,

    /// The body of the request as it would come; - reads standard input
    #[arg(long, value_name = "FILE")]
    request: PathBuf,

    /// The caller's access token; it is decoded, its signature is not checked
    #[arg(long, value_name = "JWT", conflicts_with = "claims")]
    token: Option<String>,

    /// The caller's claims as a JSON object [default: no token]
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,

    /// A header of the request, such as 'mcp-method: tools/call'; may be repeated
    ///
    /// A request with a body has the content-type and accept of an MCP client, unless
    /// they are given.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// The HTTP method
    #[arg(long, value_name = "METHOD", default_value = "POST")]
    http_method: String,

    /// The host that the request is for (match.hosts)
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// The path that it is for (match.pathPrefixes)
    #[arg(long, value_name = "PATH", default_value = "/mcp")]
    path: String,

    /// Envoy's name of the route that it takes (match.routes)
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    /// An attribute that Envoy would send (request_attributes), such as
    /// 'xds.cluster_name=github'; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE")]
    attributes: Vec<String>,

    /// The policy that Envoy would name in its gRPC metadata (x-mcp-authz-policy)
    #[arg(long, value_name = "NAME")]
    policy_name: Option<String>,

    /// For people or for programs
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// The exit code for a request that cannot be decided.
const UNDECIDED: u8 = 2;

pub(super) fn run(args: &Args) -> ExitCode {
    match check(args) {
        Ok(code) => code,
        Err(message) => {
            complain(&message);
            ExitCode::from(UNDECIDED)
        }
    }
}

fn check(args: &Args) -> Result<ExitCode, String> {
    let request = CheckRequest {
        http_method: args.http_method.clone(),
        host: args.host.clone().unwrap_or_default(),
        path: args.path.clone(),
        headers: headers(args)?,
        body: body(&args.request)?,
        caller: caller(args)?,
        attributes: attributes(args)?.into_iter().collect(),
        policy: args.policy_name.clone().unwrap_or_default(),
    };
    let response = match (&args.server, &args.policy) {
        (Some(server), _) => asking(ask(server, request))?,
        (None, Some(policy)) => {
            let gate = config::load(policy).map_err(|error| error.to_string())?;
            admin::answer(&gate, request).map_err(|error| format!("--{error}"))?
        }
        (None, None) => return Err("give --policy or --server".to_owned()),
    };
    Ok(report(response, args.output))
}

async fn ask(server: &Address, request: CheckRequest) -> Result<CheckResponse, ClientError> {
    Client::connect(server).await?.check(request).await
}

fn caller(args: &Args) -> Result<Option<Caller>, String> {
    if let Some(token) = &args.token {
        return Ok(Some(Caller::Token(token.clone())));
    }
    let Some(text) = &args.claims else {
        return Ok(None);
    };
    let claims = serde_json::from_str::<Map<String, Value>>(text)
        .map_err(|error| format!("--claims: not a JSON object: {error}"))?;
    let fields = claims.into_iter().map(|(name, value)| (name, proto::value(value)));
    Ok(Some(Caller::Claims(Struct { fields: fields.collect() })))
}

fn body(path: &Path) -> Result<Vec<u8>, String> {
    const LARGEST_BYTES: u64 = config::LARGEST_BODY as u64;

    if path != Path::new("-") {
        return source::read(path, LARGEST_BYTES)
            .map_err(|error| format!("--request: {}: {error}", path.display()));
    }
    let mut body = Vec::new();
    match std::io::stdin().take(LARGEST_BYTES + 1).read_to_end(&mut body) {
        Ok(read) if read as u64 > LARGEST_BYTES => {
            Err(format!("--request: standard input is longer than {LARGEST_BYTES} bytes"))
        }
        Ok(_) => Ok(body),
        Err(error) => Err(format!("--request: standard input: {error}")),
    }
}

fn headers(args: &Args) -> Result<Vec<Header>, String> {
    let header = |header: &String| match header.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok(Header { name: name.trim().to_owned(), value: value.trim().into() })
        }
        _ => Err(format!("--header: `{header}` is not `NAME: VALUE`")),
    };
    args.headers.iter().map(header).collect()
}

/// Returns Envoy's attributes, including the route name.
fn attributes(args: &Args) -> Result<Vec<(String, String)>, String> {
    let attribute = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("--attribute: `{text}` is not `NAME=VALUE`")),
    };
    let mut attributes = args.attributes.iter().map(attribute).collect::<Result<Vec<_>, _>>()?;
    attributes.extend(args.route.iter().map(|name| (Head::ROUTE_NAME.to_owned(), name.clone())));
    Ok(attributes)
}

fn report(response: CheckResponse, format: Output) -> ExitCode {
    let report = Report::new(response);
    let written = match format {
        Output::Text => output(&report.text()),
        Output::Json => output(&format!("{:#}\n", report.json())),
    };
    match written {
        Err(()) => ExitCode::from(UNDECIDED),
        Ok(()) if report.is_undecided() => ExitCode::from(UNDECIDED),
        Ok(()) if report.is_allowed() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
    }
}
