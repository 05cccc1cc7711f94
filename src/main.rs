//! Arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_authz::cli::run(std::env::args_os())
}
