//! `hafailoverd`: the daemon. What it does is in `hafailover::daemon`.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

const HELP: &str = "\
hafailoverd: failover of virtual addresses and systemd units between hosts

Usage: hafailoverd [--after-death | --version | --help]

It is started by systemd: systemctl start hafailover
  --after-death   what the service runs after each end of the daemon (ExecStopPost=)
  --version       print the version
  --help          print this

See hafailoverd(8), hafailover.toml(5), hafailoverctl(1).
";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // What is no text is no argument of ours.
    match arguments.iter().map(|word| word.to_str().unwrap_or("?")).collect::<Vec<_>>()[..] {
        [] => hafailover::daemon::run(),
        ["--after-death"] => hafailover::daemon::after_death(),
        ["--version"] => print(&format!("hafailoverd {}\n", env!("CARGO_PKG_VERSION"))),
        ["--help" | "-h"] => print(HELP),
        _ => {
            let _ = write!(std::io::stderr(), "hafailoverd: unknown arguments\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// Whoever closed the pipe has read what they wanted.
fn print(text: &str) -> ExitCode {
    let _ = write!(std::io::stdout(), "{text}");
    ExitCode::SUCCESS
}
