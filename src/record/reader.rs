//! A recording, line by line. Tolerant of a last line that a power loss cut short, of nothing else. It must not know hearts.

use super::{Header, Line, VERSION};
use serde::Deserialize;
use std::io::{self, BufRead, Read};

/// More than any heart or message takes; a file without line ends must not fill the memory.
const LINE_MAX: u64 = 16 << 20;

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is no recording: its first line is no header ({0}); recordings are made with: hafailoverctl record on")]
    NoRecording(String),
    #[error("its form has version {found}, this program reads version {VERSION}: replay it with hafailover {program}")]
    Version { found: u64, program: String },
    #[error(
        "line {line} cannot be read ({why}); it was recorded by hafailover {program}: is the file damaged, or is this \
         another version?"
    )]
    Line { line: u64, why: String, program: String },
}

/// One line as it stands in the file, without its end, and what it says.
#[derive(Debug)]
pub struct Known {
    pub number: u64,
    pub text: String,
    pub line: Line,
}

#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    header: Header,
    header_text: String,
    number: u64,
    truncated: bool,
}

/// What every version's header has.
#[derive(Deserialize)]
struct AnyHeader {
    recording: AnyVersion,
}

#[derive(Deserialize)]
struct AnyVersion {
    version: u64,
    #[serde(default)]
    program: String,
}

impl<R: BufRead> Reader<R> {
    pub fn new(mut from: R) -> Result<Reader<R>, ReadError> {
        let text = String::from_utf8_lossy(&next(&mut from)?.unwrap_or_default().bytes).into_owned();
        let no = |error: serde_json::Error| ReadError::NoRecording(error.to_string());
        let any: AnyHeader = serde_json::from_str(&text).map_err(no)?;
        if any.recording.version != u64::from(VERSION) {
            return Err(ReadError::Version { found: any.recording.version, program: any.recording.program });
        }
        match serde_json::from_str(&text).map_err(no)? {
            Line::Recording(header) => Ok(Reader { from, header, header_text: text, number: 1, truncated: false }),
            _ => Err(ReadError::NoRecording("it says something else".into())),
        }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn header_text(&self) -> &str {
        &self.header_text
    }

    /// The last line was cut short, and left out.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    pub fn next_line(&mut self) -> Result<Option<Known>, ReadError> {
        let Some(Raw { bytes, ended }) = next(&mut self.from)? else { return Ok(None) };
        self.number += 1;
        let number = self.number;
        let read = String::from_utf8(bytes).map_err(|error| error.to_string());
        let read = read.and_then(|text| match serde_json::from_str(&text) {
            Ok(line) => Ok(Known { number, text, line }),
            Err(error) => Err(error.to_string()),
        });
        match read {
            Ok(read) => Ok(Some(read)),
            // Without its end it is still being written, or never was: what comes behind it by now does not make it damage.
            Err(why) if ended && next(&mut self.from)?.is_some() => {
                Err(ReadError::Line { line: number, why, program: self.header.program.clone() })
            }
            Err(_) => {
                self.truncated = true;
                Ok(None)
            }
        }
    }
}

/// A line without its end.
#[derive(Default)]
struct Raw {
    bytes: Vec<u8>,
    /// It had one, or was longer than any line is.
    ended: bool,
}

/// `None`: there is nothing more.
fn next(from: &mut impl BufRead) -> io::Result<Option<Raw>> {
    let mut bytes = Vec::new();
    let read = from.take(LINE_MAX).read_until(b'\n', &mut bytes)?;
    if read == 0 {
        return Ok(None);
    }
    let newline = bytes.pop_if(|byte| *byte == b'\n').is_some();
    Ok(Some(Raw { bytes, ended: newline || read as u64 == LINE_MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A file that somebody writes on: an empty piece is where it ends for now.
    struct Growing(VecDeque<&'static str>);

    impl Read for Growing {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let piece = self.0.pop_front().unwrap_or_default();
            to[..piece.len()].copy_from_slice(piece.as_bytes());
            Ok(piece.len())
        }
    }

    #[test]
    fn a_line_that_is_being_written_is_cut_short_and_not_damaged() {
        let header = r#"{"recording":{"version":1,"program":"0","node":"alpha","wall_ms":1,"boottime":1}}"#;
        let read = |pieces: &[&'static str]| {
            let pieces = [header, "\n"].into_iter().chain(pieces.iter().copied()).collect();
            let mut reader = Reader::new(io::BufReader::new(Growing(pieces))).unwrap();
            (reader.next_line().map(|line| line.is_some()).map_err(|error| error.to_string()), reader.truncated())
        };
        assert_eq!(read(&["\"leave_", "", "unread\"\n\"leave_unread\"\n"]), (Ok(false), true));
        assert_eq!(read(&["\"leave_unread\"", ""]), (Ok(true), false), "it is whole");
        let (damaged, _) = read(&["\"leave_\n", "\"leave_unread\"\n"]);
        assert!(damaged.clone().is_err_and(|error| error.contains("line 2 cannot be read")), "{damaged:?}");
    }
}
