//! What the heart was given and what it decided, written down while it happens, and run again later.
//!
//! A recording is lines of JSON: who recorded ([`Header`]), the whole heart as it was then, and from there on every input in order, each
//! decision with its actions, and why it ends. The heart is pure, so the same heart decides the same again: `replay` shows it, and
//! compares the actions byte for byte. [`Recorder`] stands between the beat thread and the heart, `writer` has a thread of its own.
//! It must not know what a decision is for. Keys never come here: the heart does not know them.

mod reader;
mod recorder;
mod replay;
mod tell;
#[cfg(test)]
mod testing;
mod writer;

pub use reader::{ReadError, Reader};
pub use recorder::{Recorder, Sink};
pub use replay::{Difference, Ending, Report, accept, replay};
pub use tell::{Timeline, date, utc};
pub use writer::{Recording, start};

use crate::cluster::{Action, Cluster, Event, Heard, Time};
use crate::config::model::LinkId;
use crate::wire::Message;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Of the lines' form, as far as it is not the heart's own.
pub const VERSION: u32 = 1;
/// A file that has grown beyond this is followed by the next one. Each begins with the whole heart, so each can be replayed alone.
pub const FILE_MAX: u64 = 8 << 20;
/// Files that are kept, the current one included: 64 MiB in all.
pub const FILES: usize = 8;
/// Where the environment of the service asks for a recording from its start on.
const VARIABLE: &str = "HAFAILOVER_RECORD";

/// One line of a recording.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Recording(Header),
    /// All that this node knew when the recording (or this file of it) began.
    Heart(Box<Cluster>),
    Begin {
        now: Time,
    },
    Hear {
        link: LinkId,
        message: Message,
        heard: Heard,
    },
    Fold(Event),
    LeaveUnread,
    Decide {
        now: Time,
        actions: Vec<Action>,
    },
    End {
        why: String,
    },
}

/// Who recorded, and which time of day the heart's time was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub version: u32,
    pub program: String,
    pub node: String,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    /// The same moment as the heart counts.
    pub boottime: Time,
}

/// The current file of this host's recording.
pub fn file(directory: &Path) -> PathBuf {
    directory.join("recording.jsonl")
}

/// The one before it is the first, and so on.
pub fn older_file(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("recording.{number}.jsonl"))
}

/// As long as it is there, every daemon of this boot records.
pub fn flag(run: &Path) -> PathBuf {
    run.join("record")
}

/// Whether a daemon that starts now shall record.
pub fn wanted(run: &Path) -> bool {
    let asked = std::env::var(VARIABLE).is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "no" | "off"));
    asked || flag(run).exists()
}
