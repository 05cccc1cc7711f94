//! The command `mcp-authz health`.

use std::process::ExitCode;

use super::{asking, complain};
use crate::address::Address;
use crate::admin::{Client, ClientError};

/// Ask a server whether it is ready
///
/// For the health checks of containers, which need nothing else in the image. Asks
/// the standard gRPC health service, which is on the port for Envoy and on the
/// admin port.
///
/// Exits with 0 if requests may be sent there, and with 1 otherwise.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where `serve` listens: unix:PATH or HOST:PORT
    #[arg(
        long,
        env = "MCP_AUTHZ_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9001"
    )]
    server: Address,
}

pub(super) fn run(args: &Args) -> ExitCode {
    match asking(is_serving(&args.server)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            complain(&format!("mcp-authz: {} is not ready", args.server));
            ExitCode::FAILURE
        }
        Err(message) => {
            complain(&format!("mcp-authz: {message}"));
            ExitCode::FAILURE
        }
    }
}

async fn is_serving(server: &Address) -> Result<bool, ClientError> {
    Client::connect(server).await?.is_serving().await
}
