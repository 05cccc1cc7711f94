//! The program: passes the arguments to the library and returns the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_authz::cli::run(std::env::args_os())
}
