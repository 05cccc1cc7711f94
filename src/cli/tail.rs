//! The command `mcp-authz tail`.

use std::process::ExitCode;

use clap::ValueEnum;

use super::{Output, asking, complain, output};
use crate::address::Address;
use crate::admin::{Client, ClientError};
use crate::proto::v1::{WatchRequest, WatchResponse};
use crate::record::{self, Verdict};

/// Follow the decisions of a running server
///
/// Prints each decision as it is made, the allowed ones too, until the server ends
/// or Ctrl-C.
///
/// Exits with 1 if the server cannot be reached, or ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mcp-authz tail --verdict deny --tool deploy_app")]
pub(super) struct Args {
    /// The admin address of `serve`: unix:PATH or HOST:PORT
    #[arg(long, env = "MCP_AUTHZ_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:9002")]
    server: Address,

    /// Only decisions by this policy
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    policy: String,

    /// Only calls of this tool, named without its backend's prefix
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    tool: String,

    /// Only calls for this prompt, named without its backend's prefix
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    prompt: String,

    /// Only calls for the resource of this URI, without its backend's prefix
    #[arg(long, value_name = "URI", default_value = "", hide_default_value = true)]
    resource: String,

    /// Only calls by this caller: the claim sub
    #[arg(long, value_name = "SUBJECT", default_value = "", hide_default_value = true)]
    subject: String,

    /// Only what was decided so
    #[arg(long, value_name = "VERDICT")]
    verdict: Option<Wanted>,

    /// For people or for programs
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// It went on
    Allow,
    /// It was answered with a refusal
    Deny,
    /// It went on because the policy is in Shadow
    ShadowDeny,
}

impl From<Wanted> for Verdict {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Allow => Self::Allow,
            Wanted::Deny => Self::Deny,
            Wanted::ShadowDeny => Self::ShadowDeny,
        }
    }
}

pub(super) fn run(args: &Args) -> ExitCode {
    match asking(follow(args)) {
        Ok(Ended::ByReader) => ExitCode::SUCCESS,
        Ok(Ended::ByServer) => {
            complain(&format!("mcp-authz: {} has ended", args.server));
            ExitCode::FAILURE
        }
        Err(message) => {
            complain(&format!("mcp-authz: {message}"));
            ExitCode::FAILURE
        }
    }
}

enum Ended {
    ByServer,
    ByReader,
}

async fn follow(args: &Args) -> Result<Ended, ClientError> {
    let Args { server, policy, tool, prompt, resource, subject, verdict, output: format } = args;
    let request = WatchRequest {
        policy: policy.clone(),
        tool: tool.clone(),
        prompt: prompt.clone(),
        resource: resource.clone(),
        subject: subject.clone(),
        verdict: verdict
            .map(|wanted| Verdict::from(wanted).as_str())
            .unwrap_or_default()
            .to_owned(),
    };
    let mut decisions = Client::connect(server).await?.watch(request).await?;
    while let Some(WatchResponse { decision, missed }) = decisions.next().await? {
        if missed > 0 {
            complain(&format!("mcp-authz: {missed} decisions were lost: this reader is too slow"));
        }
        let decision = decision.unwrap_or_default();
        let line = match format {
            Output::Text => record::line(&decision),
            Output::Json => record::json(&decision),
        };
        if output(&format!("{line}\n")).is_err() {
            return Ok(Ended::ByReader);
        }
    }
    Ok(Ended::ByServer)
}
