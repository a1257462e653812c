//! Switches the recording on and off for operators, and says how it goes. It must not know what is recorded.

use super::orders::{Beat, ToBeat};
use super::state::Places;
use crate::cluster::Answer;
use crate::journal::{JournalHandle, Level};
use crate::record::{self, FILE_MAX, FILES, Recording};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    wanted: Wanted,
}

/// What an operator said last, or what the daemon found at its start. Whoever waits for the disk looks at it afterwards.
#[derive(Clone, Debug, Default)]
struct Wanted(Arc<AtomicBool>);

impl Wanted {
    fn set(&self, on: bool) {
        self.0.store(on, Ordering::SeqCst);
    }

    fn is_on(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Recordings {
    pub(super) fn new(places: Places, node: String, current: Option<Recording>) -> Recordings {
        let wanted = Wanted::default();
        wanted.set(current.is_some());
        Recordings { places, node, current, wanted }
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
                None if self.wanted.is_on() => format!("recording: {}", told(recording)),
                None => {
                    format!("nothing is recorded any more, but the disk has not taken all yet: {}", told(recording))
                }
                Some(why) => format!("nothing is recorded any more ({why}); there is: {}", told(recording)),
            },
        }
    }

    fn on(&mut self, beat: &Beat, journal: &JournalHandle, asker: oneshot::Sender<Answer>) {
        if let Some(recording) = self.running() {
            drop(asker.send(match self.wanted.is_on() {
                true => Answer::Done(format!("it is on already: {}", told(recording))),
                // Two at once would take each other's files away.
                false => Answer::Refused(format!(
                    "the disk has not taken all of the last recording yet; try again in a moment: {}",
                    told(recording)
                )),
            }));
            return;
        }
        let (sink, recording) = match record::start(&self.places.state, &self.node, journal.clone()) {
            Ok(started) => started,
            Err(error) => return drop(asker.send(Answer::Failed(format!("no thread to record: {error}")))),
        };
        beat.send(ToBeat::Record(Some(sink)));
        self.current = Some(recording.clone());
        self.wanted.set(true);
        let (journal, beat, wanted) = (journal.clone(), beat.clone(), self.wanted.clone());
        let flag = record::flag(&self.places.run);
        tokio::task::spawn_blocking(move || {
            let answer = match recording.opened(PATIENCE) {
                Ok(()) => {
                    let notes = put_flag(&flag, &wanted);
                    journal.note(Level::Notice, format!("recording on: {}", recording.path().display()));
                    Answer::Done(format!(
                        "recording to {}, at most {} files of {} MiB; it goes on until `hafailoverctl record off` or the next \
                         boot{notes}",
                        recording.path().display(),
                        FILES,
                        FILE_MAX >> 20
                    ))
                }
                Err(why) => {
                    // A disk that opens the file later has nothing to write into it.
                    wanted.set(false);
                    beat.send(ToBeat::Record(None));
                    Answer::Failed(format!("nothing is recorded: {why}"))
                }
            };
            drop(asker.send(answer));
        });
    }

    fn off(&mut self, beat: &Beat, journal: &JournalHandle, asker: oneshot::Sender<Answer>) {
        self.wanted.set(false);
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

/// From now on a daemon that follows records as well; what is to be said where it will not.
fn put_flag(flag: &Path, wanted: &Wanted) -> String {
    let written = std::fs::write(flag, "");
    if !wanted.is_on() {
        // Switched off meanwhile, by who may have looked before it was there.
        let _ = std::fs::remove_file(flag);
    }
    written
        .err()
        .map_or(String::new(), |error| format!("; a restart of the daemon ends it ({}: {error})", flag.display()))
}

fn told(recording: &Recording) -> String {
    let (lines, bytes) = recording.size();
    format!("{lines} lines, {} KiB, {}", bytes.div_ceil(1024), recording.path().display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::TempPlaces;
    use crate::host::orders::{BeatInbox, beat_channel};
    use crate::journal::Journal;

    struct Daemon {
        places: TempPlaces,
        recordings: Recordings,
        beat: Beat,
        inbox: BeatInbox,
        journal: JournalHandle,
    }

    impl Daemon {
        fn new(name: &str) -> Daemon {
            let places = TempPlaces::new(name);
            let recordings = Recordings::new((*places).clone(), "alpha".into(), None);
            let (beat, inbox) = beat_channel().unwrap();
            Daemon { places, recordings, beat, inbox, journal: Journal::start().unwrap() }
        }

        async fn says(&mut self, word: RecordWord) -> Answer {
            let (asker, answer) = oneshot::channel();
            self.recordings.asked(word, &self.beat, &self.journal, asker);
            answer.await.unwrap()
        }

        fn flag(&self) -> bool {
            record::flag(&self.places.run).exists()
        }
    }

    #[tokio::test]
    async fn what_was_switched_off_is_not_on_while_the_disk_lags_behind() {
        let mut daemon = Daemon::new("recordings-lag");
        assert!(matches!(daemon.says(RecordWord::On).await, Answer::Done(_)));
        assert!(daemon.flag());
        assert!(
            matches!(daemon.says(RecordWord::On).await, Answer::Done(text) if text.starts_with("it is on already"))
        );
        // The beat thread does not let go: as if lines waited for the disk.
        assert!(matches!(daemon.says(RecordWord::Off).await, Answer::Failed(_)));
        assert!(!daemon.flag());
        assert!(matches!(daemon.says(RecordWord::On).await, Answer::Refused(text) if text.contains("not taken all")));
        assert!(matches!(daemon.says(RecordWord::Status).await, Answer::Done(text) if text.contains("any more")));
        // Now it does.
        daemon.inbox.drain().for_each(drop);
        daemon.recordings.current.as_ref().unwrap().finished(PATIENCE).unwrap();
        assert!(matches!(daemon.says(RecordWord::On).await, Answer::Done(text) if text.starts_with("recording to")));
        assert!(daemon.flag());
    }

    #[tokio::test]
    async fn a_recording_that_could_not_begin_leaves_nothing_behind() {
        let mut daemon = Daemon::new("recordings-nowhere");
        std::fs::remove_dir_all(&daemon.places.state).unwrap();
        assert!(
            matches!(daemon.says(RecordWord::On).await, Answer::Failed(text) if text.contains("nothing is recorded"))
        );
        assert!(!daemon.flag(), "the next daemon would record");
        let told: Vec<ToBeat> = daemon.inbox.drain().collect();
        assert!(matches!(told.last(), Some(ToBeat::Record(None))), "{told:?}");
    }
}
