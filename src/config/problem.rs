//! One mistake in a configuration file: where it stands, what is wrong, what to do about it.
//! It must not know what any file means.

use std::fmt;
use std::path::{Path, PathBuf};

/// Line and column, both counted from one; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    /// For what concerns a file as a whole.
    pub const START: Position = Position { line: 1, column: 1 };
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    pub file: PathBuf,
    pub line: usize,
    pub column: usize,
    pub what: String,
    pub remedy: String,
}

impl Problem {
    pub fn new(file: &Path, at: Position, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem { file: file.to_owned(), line: at.line, column: at.column, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}; {}", self.file.display(), self.line, self.column, self.what, self.remedy)
    }
}

/// Problems of one file, gathered as it is read.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    pub(super) file: &'a Path,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(file: &'a Path) -> Findings<'a> {
        Findings { file, problems: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn problem(&mut self, at: Position, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(self.file, at, what, remedy));
    }

    pub(super) fn warning(&mut self, at: Position, what: impl Into<String>, remedy: impl Into<String>) {
        self.warnings.push(Problem::new(self.file, at, what, remedy));
    }
}

/// The position of a byte of `text`. A byte beyond its end counts as the end.
pub(super) fn position_of(text: &str, byte: usize) -> Position {
    let before = &text.as_bytes()[..byte.min(text.len())];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    // Counting the bytes that begin a character works even if `byte` is inside one.
    let column = before[line_start..].iter().filter(|b| **b & 0xC0 != 0x80).count() + 1;
    Position { line, column }
}

/// "did you mean": the known word nearest to a mistyped one, or the list of all that are possible.
pub(super) fn did_you_mean(word: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|candidate| (distance(word, candidate), candidate)).min();
    match nearest {
        Some((steps, candidate)) if steps <= 1 + word.chars().count() / 4 => format!("did you mean \"{candidate}\"?"),
        Some(_) => format!("possible here: {}", known.join(", ")),
        None => "remove it".to_owned(),
    }
}

/// Insertions, deletions, replacements and swaps of neighbours, case apart, between two short words.
fn distance(left: &str, right: &str) -> usize {
    // A long word is no slip of the finger, and the table grows with the square.
    const LONG: usize = 64;
    let left: Vec<char> = left.to_lowercase().chars().take(LONG).collect();
    let right: Vec<char> = right.to_lowercase().chars().take(LONG).collect();
    let mut table = vec![vec![0; right.len() + 1]; left.len() + 1];
    for i in 0..=left.len() {
        for j in 0..=right.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = table[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
                let mut steps = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                    steps = steps.min(table[i - 2][j - 2] + 1);
                }
                steps
            };
        }
    }
    table[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "a\nüx=1\n";
        assert_eq!(position_of(text, 0), Position::START);
        assert_eq!(position_of(text, text.find('x').expect("is there")), Position { line: 2, column: 2 });
        assert_eq!(position_of(text, 3), Position { line: 2, column: 2 }, "inside a character");
        assert_eq!(position_of(text, 999), Position { line: 3, column: 1 });
    }

    #[test]
    fn a_slip_is_named_and_a_stranger_gets_the_list() {
        let known = ["keepalive", "deadtime", "warntime"];
        assert_eq!(did_you_mean("daedtime", &known), "did you mean \"deadtime\"?");
        assert_eq!(did_you_mean("KeepAlive", &known), "did you mean \"keepalive\"?");
        assert_eq!(did_you_mean("colour", &known), "possible here: keepalive, deadtime, warntime");
    }
}
