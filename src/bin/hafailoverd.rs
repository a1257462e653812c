//! `hafailoverd`: the daemon. What it does is in `hafailover::daemon`.

use std::process::ExitCode;

const HELP: &str = "\
hafailoverd: failover of virtual addresses and systemd units between hosts

Usage: hafailoverd [--after-death | --version | --help]

It is started by systemd: systemctl start hafailover
  --after-death   what the service runs after each end of the daemon (ExecStopPost=)
  --version       print the version
  --help          print this

See hafailoverd(8), hafailover.toml(5), hafailoverctl(8).
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => hafailover::daemon::run(),
        ["--after-death"] => hafailover::daemon::after_death(),
        ["--version"] => {
            println!("hafailoverd {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--help" | "-h"] => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("hafailoverd: unknown arguments\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}
