//! `hafailoverctl replay`: runs the heart over a recording, tells what it did and whether it decides the same again. Needs no daemon.

use super::{Exit, Spoken};
use crate::cluster::{Cluster, Time};
use crate::host::state::Places;
use crate::record::{Difference, Ending, Line, ReadError, Reader, Report, Timeline, accept, replay, utc};
use clap::Args;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const SCHEMA: u32 = 1;

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The recording; without it, the current one of this host
    file: Option<PathBuf>,
    /// As JSON with a schema version
    #[arg(long)]
    json: bool,
    /// Heartbeats that changed nothing, too
    #[arg(long, short)]
    all: bool,
    /// No timeline, only the comparison
    #[arg(long, short, conflicts_with = "all")]
    quiet: bool,
    /// Write what this version decides into the file, where it differs on purpose
    #[arg(long, requires = "file", conflicts_with_all = ["json", "all", "quiet"])]
    accept: bool,
}

#[derive(Serialize)]
struct Told<'a> {
    schema: u32,
    file: String,
    node: &'a str,
    recorded_by: &'a str,
    replayed_by: &'a str,
    begun: String,
    inputs: u64,
    decisions: u64,
    same: bool,
    ended: String,
    difference: Option<ToldDifference<'a>>,
    timeline: Vec<&'a Line>,
}

#[derive(Serialize)]
struct ToldDifference<'a> {
    line: u64,
    at: Time,
    recorded: &'a str,
    replayed: &'a str,
}

pub(super) fn run(asked: &Replay) -> Spoken {
    let path = asked.file.clone().unwrap_or_else(|| crate::record::file(&Places::default().state));
    let done = if asked.accept { write_anew(&path) } else { show(&path, asked) };
    done.unwrap_or_else(|error| Spoken::not(Exit::Refused, format!("refused: {}: {error}", path.display())))
}

fn open(path: &Path) -> Result<Reader<BufReader<File>>, ReadError> {
    Reader::new(BufReader::new(File::open(path)?))
}

fn show(path: &Path, asked: &Replay) -> Result<Spoken, ReadError> {
    let reader = open(path)?;
    let mut timeline = Timeline::new(reader.header(), asked.all);
    let mut lines = Vec::new();
    let report = replay(reader, |line: &Line, heart: &Cluster| {
        if asked.json && !asked.quiet {
            lines.push(line.clone());
        } else if !asked.quiet {
            timeline.take(line, heart);
        }
    })?;
    let exit = if report.difference.is_none() { Exit::Done } else { Exit::Failed };
    let out = if asked.json { json(path, &report, &lines) } else { text(&report, timeline) };
    Ok(Spoken { out, err: String::new(), exit })
}

fn text(report: &Report, mut timeline: Timeline) -> String {
    let header = &report.header;
    let first = format!("{} since {}, recorded by hafailover {}", header.node, utc(header.wall_ms), header.program);
    let mut out = vec![first];
    out.append(&mut timeline.text);
    if let Some(difference) = &report.difference {
        let (line, at) = (difference.line, timeline.time(difference.at));
        out.push(format!("at {at}, line {line}, this version (hafailover {}) decides otherwise:", version()));
        let (recorded, replayed) = apart(difference);
        out.push(format!("  recorded: {recorded}"));
        out.push(format!("  replayed: {replayed}"));
    } else {
        out.push(ended(&report.ending));
        out.push(format!("{} inputs, {} decisions, all the same", report.inputs, report.decisions));
    }
    out.join("\n")
}

/// Both lines from shortly before the place where they part: the rest is equal and long.
fn apart(difference: &Difference) -> (String, String) {
    const BEFORE: usize = 60;
    const SHOWN: usize = 400;
    let (recorded, replayed): (Vec<char>, Vec<char>) =
        (difference.recorded.chars().collect(), difference.replayed.chars().collect());
    let equal = recorded.iter().zip(&replayed).take_while(|(one, other)| one == other).count();
    let from = equal.saturating_sub(BEFORE);
    let cut = |text: &[char]| {
        let part: String = text.iter().skip(from).take(SHOWN).collect();
        let (before, after) = (if from > 0 { "…" } else { "" }, if text.len() > from + SHOWN { "…" } else { "" });
        format!("{before}{part}{after}")
    };
    (cut(&recorded), cut(&replayed))
}

fn ended(ending: &Ending) -> String {
    match ending {
        Ending::Said(why) => format!("the recording ends: {why}"),
        Ending::Sudden { truncated: false } => {
            "the recording ends without a word: it still goes on, the daemon was killed, or the host lost its power".into()
        }
        Ending::Sudden { truncated: true } => {
            "the recording ends in the middle of a line: it still goes on, the daemon was killed, or the host lost its power"
                .into()
        }
    }
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn json(path: &Path, report: &Report, lines: &[Line]) -> String {
    let told = Told {
        schema: SCHEMA,
        file: path.display().to_string(),
        node: &report.header.node,
        recorded_by: &report.header.program,
        replayed_by: version(),
        begun: utc(report.header.wall_ms),
        inputs: report.inputs,
        decisions: report.decisions,
        same: report.difference.is_none(),
        ended: ended(&report.ending),
        difference: report.difference.as_ref().map(|difference| ToldDifference {
            line: difference.line,
            at: difference.at,
            recorded: &difference.recorded,
            replayed: &difference.replayed,
        }),
        timeline: lines.iter().collect(),
    };
    serde_json::to_string(&told).expect("it holds nothing that JSON has no form for")
}

fn write_anew(path: &Path) -> Result<Spoken, ReadError> {
    let (text, changed) = accept(open(path)?)?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = put(&new, &text).and_then(|()| std::fs::rename(&new, path));
    Ok(match written {
        Ok(()) => Spoken::done(format!("{}: {changed} lines are other than before", path.display())),
        Err(error) => {
            // Half of it is of no use; what it could not be made of may be the same trouble.
            let _ = std::fs::remove_file(&new);
            let text = format!("failed: {} cannot be written: {error}; {} is as it was", new.display(), path.display());
            Spoken::not(Exit::Failed, text)
        }
    })
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    // What an earlier try left.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Nobody else may read it, not even for a moment.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()
}
