//! Facts from the kernel about a sidecar's process, and the limits of this process.

use std::fs;
use std::process::Command;

use crate::stack::Sidecar;

fn read(sidecar: &Sidecar, file: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{file}", sidecar.id())).unwrap()
}

fn entries(sidecar: &Sidecar, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{}/{directory}", sidecar.id())).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A line of `status`.
fn status(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
}

/// Returns true if each thread of the sidecar is stopped, which takes a moment after the signal.
pub fn is_stopped(sidecar: &Sidecar) -> bool {
    let threads = entries(sidecar, "task");
    threads.iter().all(|thread| {
        status(&read(sidecar, &format!("task/{thread}/status")), "State").starts_with('T')
    })
}

/// Returns the number of file descriptors that the sidecar has open.
pub fn descriptors(sidecar: &Sidecar) -> usize {
    entries(sidecar, "fd").len()
}

/// The resident memory of a sidecar, now and at most, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub now: u64,
    pub most: u64,
}

pub fn memory(sidecar: &Sidecar) -> Memory {
    let page = read(sidecar, "status");
    let bytes = |name| {
        let value = status(&page, name);
        let kilobytes: u64 = value.strip_suffix(" kB").unwrap().parse().unwrap();
        kilobytes * 1024
    };
    Memory { now: bytes("VmRSS"), most: bytes("VmHWM") }
}

/// Lets this process, and those that it starts from now on, have so many file
/// descriptors.
pub fn allow_descriptors(count: usize) {
    let own = std::process::id().to_string();
    let limit = format!("--nofile={count}:");
    let status = Command::new("prlimit").args(["--pid", &own, &limit]).status().unwrap();
    assert!(status.success(), "this takes {count} file descriptors: see `ulimit -Hn`");
}
