//! The command line: see `hafailover::cli`.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let spoken = hafailover::cli::run(std::env::args());
    // Whoever closed the pipe has read what they wanted.
    if !spoken.err.is_empty() {
        let _ = writeln!(std::io::stderr(), "{}", spoken.err);
    }
    if !spoken.out.is_empty() {
        let _ = writeln!(std::io::stdout(), "{}", spoken.out);
    }
    spoken.exit.into()
}
