//! Switches the recording on and off for operators, and says how it goes. It must not know what is recorded.

use super::orders::{Beat, ToBeat};
use super::state::Places;
use crate::cluster::Answer;
use crate::journal::{JournalHandle, Level};
use crate::record::{self, FILE_MAX, FILES, Recording};
use std::time::Duration;
use tokio::sync::oneshot;

/// For the disk to open a file, or to take the last lines.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same at the end of the process, where the next daemon may wait.
const LAST_PATIENCE: Duration = Duration::from_millis(100);

/// What an operator may ask of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordWord {
    On,
    Off,
    Status,
}

/// The recording of this daemon, if there is or was one.
#[derive(Debug)]
pub(super) struct Recordings {
    places: Places,
    node: String,
    current: Option<Recording>,
}

impl Recordings {
    pub(super) fn new(places: Places, node: String, current: Option<Recording>) -> Recordings {
        Recordings { places, node, current }
    }

    pub(super) fn asked(
        &mut self,
        word: RecordWord,
        beat: &Beat,
        journal: &JournalHandle,
        asker: oneshot::Sender<Answer>,
    ) {
        let answer = match word {
            RecordWord::On => return self.on(beat, journal, asker),
            RecordWord::Off => return self.off(beat, journal, asker),
            RecordWord::Status => Answer::Done(self.status()),
        };
        // Whoever asked may have gone.
        drop(asker.send(answer));
    }

    fn running(&self) -> Option<&Recording> {
        self.current.as_ref().filter(|recording| recording.ended().is_none())
    }

    fn status(&self) -> String {
        match &self.current {
            None => "nothing is recorded".into(),
            Some(recording) => match recording.ended() {
                None => format!("recording: {}", told(recording)),
                Some(why) => format!("nothing is recorded any more ({why}); there is: {}", told(recording)),
            },
        }
    }

    fn on(&mut self, beat: &Beat, journal: &JournalHandle, asker: oneshot::Sender<Answer>) {
        if let Some(recording) = self.running() {
            drop(asker.send(Answer::Done(format!("it is on already: {}", told(recording)))));
            return;
        }
        let (sink, recording) = match record::start(&self.places.state, &self.node, journal.clone()) {
            Ok(started) => started,
            Err(error) => return drop(asker.send(Answer::Failed(format!("no thread to record: {error}")))),
        };
        let mut notes = String::new();
        if let Err(error) = std::fs::write(record::flag(&self.places.run), "") {
            notes =
                format!("; a restart of the daemon ends it ({}: {error})", record::flag(&self.places.run).display());
        }
        beat.send(ToBeat::Record(Some(sink)));
        self.current = Some(recording.clone());
        let journal = journal.clone();
        tokio::task::spawn_blocking(move || {
            let answer = match recording.opened(PATIENCE) {
                Ok(()) => {
                    journal.note(Level::Notice, format!("recording on: {}", recording.path().display()));
                    Answer::Done(format!(
                        "recording to {}, at most {} files of {} MiB; it goes on until `hafailoverctl record off` or the next \
                         boot{notes}",
                        recording.path().display(),
                        FILES,
                        FILE_MAX >> 20
                    ))
                }
                Err(why) => Answer::Failed(format!("nothing is recorded: {why}")),
            };
            drop(asker.send(answer));
        });
    }

    fn off(&mut self, beat: &Beat, journal: &JournalHandle, asker: oneshot::Sender<Answer>) {
        let flag = record::flag(&self.places.run);
        match std::fs::remove_file(&flag) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let text =
                    format!("{}: {error}; the next daemon would record again: remove it by hand", flag.display());
                journal.note(Level::Warning, text);
            }
            _ => {}
        }
        let Some(recording) = self.running().cloned() else {
            drop(asker.send(Answer::Done(self.status())));
            return;
        };
        beat.send(ToBeat::Record(None));
        let journal = journal.clone();
        tokio::task::spawn_blocking(move || {
            let answer = match recording.finished(PATIENCE) {
                Some(_) => Answer::Done(format!("recorded: {}", told(&recording))),
                None => Answer::Failed(format!("the disk has not taken all of {} yet", recording.path().display())),
            };
            journal.note(Level::Notice, format!("recording off: {}", recording.path().display()));
            drop(asker.send(answer));
        });
    }

    /// The beat thread is gone, and with it the sink: the last lines are on their way.
    pub(super) fn finish(&self) {
        if let Some(recording) = self.running() {
            recording.finished(LAST_PATIENCE);
        }
    }
}

fn told(recording: &Recording) -> String {
    let (lines, bytes) = recording.size();
    format!("{lines} lines, {} KiB, {}", bytes.div_ceil(1024), recording.path().display())
}
