//! The heart, and a tape beside it. Whatever changes the heart goes through here, so nothing can be forgotten: reading it is free, and
//! there is no other way to write to it. Nothing here waits: a round's lines go to the writer's thread as they are, unserialized, and where
//! it does not keep up the recording ends, which the journal and the recording say.

use super::Line;
use super::writer::{Shared, WAITING};
use crate::cluster::{Action, Cluster, Event, Heard, Time};
use crate::config::model::LinkId;
use crate::journal::{JournalHandle, Level};
use crate::wire::Message;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};

/// Lines that are sent at once at the latest, where nothing is decided for long.
const BATCH: usize = 64;

/// The heart, with the methods that change it.
#[derive(Debug)]
pub struct Recorder {
    heart: Cluster,
    tape: Option<Tape>,
}

#[derive(Debug)]
struct Tape {
    sink: Sink,
    /// The heart is to be written down before the next round.
    heart_wanted: bool,
    /// It was, once: what follows makes sense.
    begun: bool,
    batch: Vec<Line>,
}

/// The way to the writer's thread. Dropping it ends the recording.
#[derive(Debug)]
pub struct Sink {
    pub(super) sender: SyncSender<Vec<Line>>,
    pub(super) shared: Arc<Shared>,
    pub(super) journal: JournalHandle,
}

impl Recorder {
    pub fn new(heart: Cluster) -> Recorder {
        Recorder { heart, tape: None }
    }

    /// From the next round on everything is recorded, or (`None`) nothing.
    pub fn record(&mut self, sink: Option<Sink>) {
        self.flush();
        self.tape = sink.map(|sink| Tape { sink, heart_wanted: true, begun: false, batch: Vec::with_capacity(BATCH) });
    }

    pub fn begin(&mut self, now: Time) {
        self.note_heart();
        self.note(|| Line::Begin { now });
        self.heart.begin(now);
    }

    pub fn hear(&mut self, link: LinkId, message: &Message) -> Heard {
        let heard = self.heart.hear(link, message);
        self.note(|| Line::Hear { link, message: message.clone(), heard });
        heard
    }

    pub fn fold(&mut self, event: Event) {
        self.note(|| Line::Fold(event.clone()));
        self.heart.fold(event);
    }

    pub fn leave_unread(&mut self) {
        self.note(|| Line::LeaveUnread);
        self.heart.leave_unread();
    }

    pub fn decide(&mut self, now: Time) -> Vec<Action> {
        let actions = self.heart.decide(now);
        self.note(|| Line::Decide { now, actions: actions.clone() });
        self.flush();
        actions
    }

    /// Where one is wanted, for the beginning or for the next file.
    fn note_heart(&mut self) {
        let Some(tape) = &mut self.tape else { return };
        tape.heart_wanted |= tape.sink.shared.full.swap(false, Ordering::Relaxed);
        if tape.heart_wanted && self.heart.has_said_all() {
            (tape.heart_wanted, tape.begun) = (false, true);
            tape.batch.push(Line::Heart(Box::new(self.heart.clone())));
        }
    }

    fn note(&mut self, line: impl FnOnce() -> Line) {
        let Some(tape) = self.tape.as_mut().filter(|tape| tape.begun) else { return };
        tape.batch.push(line());
        if tape.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let Some(tape) = &mut self.tape else { return };
        if tape.batch.is_empty() {
            return;
        }
        let batch = std::mem::replace(&mut tape.batch, Vec::with_capacity(BATCH));
        if !tape.sink.send(batch) {
            self.tape = None;
        }
    }
}

/// Reading the heart changes nothing.
impl Deref for Recorder {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.heart
    }
}

impl Sink {
    /// False: the recording is over.
    fn send(&self, batch: Vec<Line>) -> bool {
        let count = batch.len();
        // Only the writer makes it less meanwhile.
        let room = self.shared.waiting.fetch_add(count, Ordering::Relaxed) + count <= WAITING;
        match if room { self.sender.try_send(batch) } else { Err(TrySendError::Full(batch)) } {
            Ok(()) => true,
            Err(TrySendError::Full(batch)) => {
                self.shared.lost.store(batch.len() as u64, Ordering::Relaxed);
                let text = "the recording ends: its file was not written as fast as the heart decides; what was recorded until \
                     here is whole; go on with: hafailoverctl record on";
                self.journal.note(Level::Warning, text);
                false
            }
            // The writer has said why.
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}
