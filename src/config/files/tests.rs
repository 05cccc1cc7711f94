use std::collections::HashSet;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn texts(files: Files) -> Result<Vec<String>, String> {
    let (sources, _) = files.into_parts();
    let text = |source: Result<Source, Diagnostics>| match source {
        Ok(source) => Ok(source.text),
        Err(problems) => Err(problems.into_sorted("").iter().map(ToString::to_string).collect()),
    };
    sources.into_iter().map(text).collect()
}

fn read(path: &Path) -> Result<Vec<String>, String> {
    texts(Files::read(path))
}

#[test]
fn what_is_no_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let fifo = Command::new("mkfifo").arg(path("pipe.yaml")).status().unwrap();
    assert!(fifo.success());
    let _socket = UnixListener::bind(path("socket.yaml")).unwrap();
    fs::create_dir(path("directory.yaml")).unwrap();
    symlink("pipe.yaml", path("link-to-pipe.yaml")).unwrap();
    symlink("/dev/zero", path("device.yaml")).unwrap();
    symlink("nothing", path("dangling.yaml")).unwrap();
    symlink("loop.yaml", path("loop.yaml")).unwrap();
    for (name, expected) in [
        ("pipe.yaml", "this is a pipe: write its content to a file first"),
        ("link-to-pipe.yaml", "this is a pipe"),
        ("socket.yaml", "this is a socket"),
        ("device.yaml", "this is a device"),
        ("dangling.yaml", "a symbolic link to a file that does not exist"),
        ("loop.yaml", "symbolic link"),
        ("missing.yaml", "No such file"),
    ] {
        let error = read(&path(name)).unwrap_err();
        assert!(error.contains(name) && error.contains(expected), "{name}: {error}");
        let error = read_one(&path(name)).unwrap_err();
        assert!(format!("{error:?}").contains(expected), "{name}: {error:?}");
    }
    assert!(read(Path::new("-")).unwrap_err().contains("standard input is not read here"));
    // Alone, this path is a directory of policies. In a directory of policies, it is a mistake.
    assert!(read(&path("directory.yaml")).unwrap_err().contains("no policy file"));
    fs::write(path("good.yaml"), "good").unwrap();
    let found: Vec<String> = Files::read(dir.path())
        .into_parts()
        .0
        .into_iter()
        .filter_map(Result::err)
        .flat_map(|problems| problems.into_sorted(""))
        .map(|finding| finding.to_string())
        .collect();
    assert_eq!(found.len(), 7, "{found:?}");
    assert!(found.iter().any(|error| error.contains("directory.yaml: this is a directory")));
}

#[test]
fn set_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let largest = vec![b' '; 8 << 20];
    for number in 0..8 {
        fs::write(dir.path().join(format!("{number}.yaml")), &largest).unwrap();
    }
    assert_eq!(read(dir.path()).unwrap().len(), 8);
    fs::write(dir.path().join("more.yaml"), " ").unwrap();
    assert!(read(dir.path()).unwrap_err().contains("larger than 64 MiB together"));
    let dir = tempfile::tempdir().unwrap();
    for number in 0..=MOST_ENTRIES {
        fs::write(dir.path().join(number.to_string()), "").unwrap();
    }
    assert!(read(dir.path()).unwrap_err().contains("more than 10000 entries"));
}

/// Swaps the link as the kubelet does, without a pause.
#[test]
fn swapped_link_never_mixes_files() {
    const READS: usize = 3000;

    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    // Each version has its own directory. The swap removes the version before the last one.
    let swap = |version: usize| {
        let name = |version: usize| format!("..{version}");
        fs::create_dir(path(&name(version))).unwrap();
        for file in ["a.yaml", "b.yaml"] {
            fs::write(path(&name(version)).join(file), version.to_string()).unwrap();
        }
        symlink(name(version), path("..new")).unwrap();
        fs::rename(path("..new"), path("..data")).unwrap();
        if let Some(old) = version.checked_sub(2) {
            fs::remove_dir_all(path(&name(old))).unwrap();
        }
    };
    swap(0);
    for file in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{file}"), path(file)).unwrap();
    }
    let is_over = AtomicBool::new(false);
    let mut seen = HashSet::new();
    let mut mixed = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1.. {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                swap(version);
                thread::yield_now();
            }
        });
        for _ in 0..READS {
            match read(dir.path()) {
                Ok(files) => {
                    let is_mixed = files.len() != 2 || files[0] != files[1];
                    seen.insert(files[0].clone());
                    mixed.extend(is_mixed.then_some(files));
                }
                Err(error) if error.contains("kept changing") => {}
                Err(error) => mixed.push(vec![error]),
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(mixed.is_empty(), "{mixed:?}");
    assert!(seen.len() > 10, "{seen:?}");
}

#[test]
fn state_differs_by_name_and_content() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("a.yaml"), "same").unwrap();
    let state = || Files::read(dir.path()).state().clone();
    let first = state();
    assert_eq!(first, state());
    // Writing the file again changes the state but not the digest.
    fs::write(path("new"), "same").unwrap();
    fs::rename(path("new"), path("a.yaml")).unwrap();
    let second = state();
    assert_eq!(first.digest, second.digest);
    assert_ne!(first, second);
    fs::rename(path("a.yaml"), path("b.yaml")).unwrap();
    assert_ne!(second.digest, state().digest);
    fs::remove_file(path("b.yaml")).unwrap();
    assert!(state().is_steady);
}
