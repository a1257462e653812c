//! The command line: see `hafailover::cli`.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // What is no text names nothing of ours, and is refused as the word it looks like.
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let spoken = hafailover::cli::run(words);
    // Whoever closed the pipe has read what they wanted.
    if !spoken.err.is_empty() {
        let _ = writeln!(std::io::stderr(), "{}", spoken.err);
    }
    if !spoken.out.is_empty() {
        let _ = writeln!(std::io::stdout(), "{}", spoken.out);
    }
    spoken.exit.into()
}
