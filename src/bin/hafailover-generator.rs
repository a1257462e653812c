//! systemd's generator for hafailover: `hafailover-generator NORMAL [EARLY LATE]`.
//! It runs early in the boot and at every daemon-reload, and only turns the groups' files into drop-ins.

use hafailover::config::{Paths, hostname};
use hafailover::host::systemd::generator::{render, write};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where nobody takes the words, the guards are written all the same.
macro_rules! say {
    ($($text:tt)*) => { drop(writeln!(std::io::stderr(), $($text)*)) };
}

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        say!("usage: hafailover-generator NORMAL [EARLY LATE]");
        return ExitCode::from(2);
    };
    let root = std::env::var_os("HAFAILOVER_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let hostname = hostname().unwrap_or_else(|error| {
        say!("hafailover-generator: the host's name cannot be read, %H stands for nothing: {error}");
        String::new()
    });
    match generate(&root, &hostname, &directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("hafailover-generator: cannot write below {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn generate(root: &Path, hostname: &str, directory: &Path) -> std::io::Result<()> {
    let generated = render(&Paths::under(root), hostname);
    // systemd hands standard error to the kernel's log: the journal has these lines from the first second.
    for problem in &generated.problems {
        say!("hafailover-generator: {problem}");
    }
    for (group, word) in &generated.unguarded {
        say!("hafailover-generator: group {group}: \"{word}\" in Start= names no unit that can be guarded");
    }
    write(&generated, directory)
}
