//! Programs that Debian packages carry: found, or fetched into `target/tools/`.
//!
//! Packages are unpacked, not installed, so it takes no root and starts no service.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::envoy;

/// A program that can be run.
#[derive(Debug)]
pub struct Tool {
    program: PathBuf,
    /// The libraries that came with it, if it was fetched.
    libraries: Option<PathBuf>,
}

impl Tool {
    pub fn command(&self) -> Command {
        self.command_for(&self.program)
    }

    /// A program that runs this one.
    pub fn command_for(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    /// Where it is.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

/// The program: the file that the environment variable names, else from the PATH,
/// else from Debian packages.
pub fn find(name: &str, variable: &str, packages: &[&str]) -> Result<Tool, String> {
    if let Some(program) = envoy::located(name, variable)? {
        return Ok(Tool { program, libraries: None });
    }
    fetch(name, packages).map_err(|failure| {
        let packages = packages.join(" ");
        format!(
            "no {name}: set {variable} to it, put it on the PATH (the Debian package {packages} has \
             it), or make `apt-get download {packages}` work here: {failure}"
        )
    })
}

fn fetch(name: &str, packages: &[&str]) -> Result<Tool, String> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let home = tools.join(format!("debian-{name}"));
    let program = home.join("usr/bin").join(name);
    if !program.is_file() {
        eprintln!("fetching {name} (Debian: {}) into target/tools/ …", packages.join(" "));
        fs::create_dir_all(&tools).map_err(|error| error.to_string())?;
        // Several processes may do this at once; the first to finish wins.
        let fetched = tempfile::tempdir_in(&tools).map_err(|error| error.to_string())?;
        let unpacked = fetched.path().join("unpacked");
        download(packages, fetched.path())?;
        unpack(fetched.path(), &unpacked)?;
        if fs::rename(&unpacked, &home).is_err() && !program.is_file() {
            return Err(format!("cannot move it to {}", home.display()));
        }
    }
    let libraries = home.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    Ok(Tool { program, libraries: Some(libraries).filter(|path| path.is_dir()) })
}

fn download(packages: &[&str], into: &Path) -> Result<(), String> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.arg("--quiet=2").args(arguments).current_dir(into);
        command
    };
    let plain = apt(&["download"]).args(packages).run();
    if plain.is_ok() {
        return Ok(());
    }
    // This machine may never have asked what packages there are: with lists of our
    // own we may ask.
    let own = |what: &str| format!("{what}={}", into.join("apt").display());
    let (lists, cache) = (own("Dir::State::Lists"), own("Dir::Cache"));
    let own = ["-o", &lists, "-o", &cache];
    fs::create_dir_all(into.join("apt/partial")).map_err(|error| error.to_string())?;
    apt(&["update"]).args(own).run()?;
    apt(&["download"]).args(own).args(packages).run()
}

fn unpack(from: &Path, into: &Path) -> Result<(), String> {
    let entries = fs::read_dir(from).map_err(|error| error.to_string())?;
    for entry in entries {
        let package = entry.map_err(|error| error.to_string())?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            Command::new("dpkg-deb").arg("--extract").arg(&package).arg(into).run()?;
        }
    }
    Ok(())
}

trait Run {
    /// Runs to the end; what it complains of if it fails.
    fn run(&mut self) -> Result<(), String>;
}

impl Run for Command {
    fn run(&mut self) -> Result<(), String> {
        let program = self.get_program().to_string_lossy().into_owned();
        match self.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("{program}: {error}")),
        }
    }
}
