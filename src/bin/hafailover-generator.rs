//! systemd's generator for hafailover: `hafailover-generator NORMAL [EARLY LATE]`.
//! It runs early in the boot and at every daemon-reload, and only turns the groups' files into drop-ins.

use hafailover::config::{Paths, hostname};
use hafailover::host::systemd::generator::{render, write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: hafailover-generator NORMAL [EARLY LATE]");
        return ExitCode::from(2);
    };
    let root = std::env::var_os("HAFAILOVER_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let hostname = hostname().unwrap_or_else(|error| {
        eprintln!("hafailover-generator: the host's name cannot be read, %H stands for nothing: {error}");
        String::new()
    });
    match generate(&root, &hostname, &directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hafailover-generator: cannot write below {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn generate(root: &Path, hostname: &str, directory: &Path) -> std::io::Result<()> {
    let generated = render(&Paths::under(root), hostname);
    // systemd hands standard error to the kernel's log: the journal has these lines from the first second.
    for problem in &generated.problems {
        eprintln!("hafailover-generator: {problem}");
    }
    for (group, word) in &generated.unguarded {
        eprintln!("hafailover-generator: group {group}: \"{word}\" in Start= names no unit that can be guarded");
    }
    write(&generated, directory)
}
