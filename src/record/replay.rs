//! Runs the heart over a recording and compares what it decides with what was decided. It must not know how either is shown.

use super::reader::{Known, ReadError, Reader};
use super::{Header, Line};
use crate::cluster::{Cluster, Heard, Time};
use std::io::BufRead;

/// How a recording came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By its own words.
    Said(String),
    /// Without a word, behind a whole line or (`truncated`) in the middle of one: a power loss, or the daemon was killed.
    Sudden { truncated: bool },
}

/// Where the heart decides otherwise than was recorded. Both sides are lines as they stand in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub line: u64,
    pub at: Time,
    pub recorded: String,
    pub replayed: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub header: Header,
    pub inputs: u64,
    pub decisions: u64,
    pub ending: Ending,
    /// The first one; nothing behind it was run, for it would follow from other decisions.
    pub difference: Option<Difference>,
}

/// Runs a recording. `watch` sees each line as this heart has it, and the heart behind it.
pub fn replay<R: BufRead>(mut from: Reader<R>, mut watch: impl FnMut(&Line, &Cluster)) -> Result<Report, ReadError> {
    let mut run = Run::new(from.header().program.clone());
    while let Some(known) = from.next_line()? {
        let done = run.take(&known)?;
        if let (Some(heart), Some(line)) = (&run.heart, &done) {
            watch(line, heart);
        }
        if run.difference.is_some() || run.ended.is_some() {
            break;
        }
    }
    Ok(run.report(&from))
}

/// The same recording with what this heart decides, as the text of a file, and how many lines of it are other than before.
pub fn accept<R: BufRead>(mut from: Reader<R>) -> Result<(String, u64), ReadError> {
    let mut run = Run::new(from.header().program.clone());
    let (mut text, mut changed) = (format!("{}\n", from.header_text()), 0);
    while let Some(known) = from.next_line()? {
        let line = run.take(&known)?.unwrap_or(known.line);
        let new = written(&line);
        changed += u64::from(new != known.text);
        text.push_str(&new);
        text.push('\n');
    }
    Ok((text, changed))
}

fn written(line: &Line) -> String {
    serde_json::to_string(line).expect("lines hold nothing that JSON has no form for")
}

struct Run {
    program: String,
    heart: Option<Cluster>,
    inputs: u64,
    decisions: u64,
    ended: Option<String>,
    difference: Option<Difference>,
}

impl Run {
    fn new(program: String) -> Run {
        Run { program, heart: None, inputs: 0, decisions: 0, ended: None, difference: None }
    }

    fn wrong(&self, known: &Known, why: impl Into<String>) -> ReadError {
        ReadError::Line { line: known.number, why: why.into(), program: self.program.clone() }
    }

    /// Gives a line to the heart. What came out, where this heart has a part in it.
    fn take(&mut self, known: &Known) -> Result<Option<Line>, ReadError> {
        match (&known.line, &self.heart) {
            (Line::Recording(_), _) => return Err(self.wrong(known, "a second header")),
            (Line::Heart(_), Some(_)) => return Err(self.wrong(known, "a second heart")),
            (Line::Heart(heart), None) => {
                heart.check_whole().map_err(|why| self.wrong(known, why))?;
                self.heart = Some((**heart).clone());
                return Ok(None);
            }
            (Line::End { why }, _) => {
                self.ended = Some(why.clone());
                return Ok(None);
            }
            (_, None) => return Err(self.wrong(known, "there is no heart before it")),
            (Line::Fold(event), Some(heart)) => {
                heart.check_event(event).map_err(|why| self.wrong(known, why))?;
            }
            (Line::Hear { link, .. }, Some(heart)) => {
                heart.check_link(*link).map_err(|why| self.wrong(known, why))?;
            }
            _ => {}
        }
        let Some(heart) = &mut self.heart else { return Ok(None) };
        let mut decided = None;
        let line = match known.line.clone() {
            Line::Decide { now, .. } => {
                self.decisions += 1;
                decided = Some(now);
                Line::Decide { now, actions: heart.decide(now) }
            }
            Line::Hear { link, message, .. } => {
                let heard: Heard = heart.hear(link, &message);
                Line::Hear { link, message, heard }
            }
            Line::Begin { now } => {
                heart.begin(now);
                Line::Begin { now }
            }
            Line::Fold(event) => {
                heart.fold(event.clone());
                Line::Fold(event)
            }
            other => {
                heart.leave_unread();
                other
            }
        };
        self.inputs += u64::from(decided.is_none());
        if self.difference.is_none() && matches!(line, Line::Decide { .. } | Line::Hear { .. }) {
            let replayed = written(&line);
            let at = decided.unwrap_or(heart.now());
            let other = replayed != known.text;
            self.difference =
                other.then(|| Difference { line: known.number, at, recorded: known.text.clone(), replayed });
        }
        Ok(Some(line))
    }

    fn report<R: BufRead>(self, from: &Reader<R>) -> Report {
        let sudden = Ending::Sudden { truncated: from.truncated() };
        Report {
            header: from.header().clone(),
            inputs: self.inputs,
            decisions: self.decisions,
            ending: self.ended.map_or(sudden, Ending::Said),
            difference: self.difference,
        }
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
