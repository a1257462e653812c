//! Every change, written where it can never block: a thread of its own, fed by a bounded channel.
//! A stopped journald costs entries, which are counted and reported when it flows again. What an entry says is
//! decided in [`render`]; this file only gets it out.

mod render;

pub use render::{Entry, Level, render};

use crate::cluster::Change;
use crate::config::model::Config;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tracing::dispatcher::{Dispatch, with_default};
use tracing_subscriber::layer::SubscriberExt;

/// Entries that may wait for journald. At one entry per millisecond that is four seconds of a flood.
const WAITING: usize = 4096;
/// Where the environment asks for every heartbeat: `HAFAILOVER_LOG=debug`.
const LEVEL_VARIABLE: &str = "HAFAILOVER_LOG";

/// The end that writes. Never waits for anything; cheap to clone.
#[derive(Clone, Debug)]
pub struct JournalHandle {
    sender: SyncSender<Order>,
    lost: Arc<AtomicU64>,
    debug: bool,
}

#[derive(Debug)]
enum Order {
    /// With the configuration that its ids belong to.
    Change(Box<Change>, Arc<Config>),
    Note(Level, String),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// The thread that writes.
#[derive(Debug)]
pub struct Journal;

impl Journal {
    /// Starts the thread. It ends when the last handle is gone.
    pub fn start() -> std::io::Result<JournalHandle> {
        let debug = std::env::var(LEVEL_VARIABLE).is_ok_and(|level| level.eq_ignore_ascii_case("debug"));
        let (handle, receiver) = channel(WAITING, debug);
        let lost = handle.lost.clone();
        std::thread::Builder::new().name("journal".into()).spawn(move || match tracing_journald::layer() {
            Ok(layer) => {
                let layer = layer.with_field_prefix(None).with_syslog_identifier("hafailoverd".into());
                let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
                with_default(&dispatch, || run(&receiver, &lost, to_journald));
            }
            Err(_) => run(&receiver, &lost, to_stderr),
        })?;
        Ok(handle)
    }
}

fn channel(waiting: usize, debug: bool) -> (JournalHandle, Receiver<Order>) {
    let (sender, receiver) = sync_channel(waiting);
    (JournalHandle { sender, lost: Arc::default(), debug }, receiver)
}

impl JournalHandle {
    pub fn report(&self, change: Change, config: &Arc<Config>) {
        self.send(Order::Change(Box::new(change), config.clone()));
    }

    /// A sentence that is no change of the cluster's: something about this process or its files.
    pub fn note(&self, level: Level, text: impl Into<String>) {
        self.send(Order::Note(level, text.into()));
    }

    /// One entry per heartbeat and the like. `text` is built only where somebody asked for it.
    pub fn debug(&self, text: impl FnOnce() -> String) {
        if self.debug {
            self.send(Order::Note(Level::Debug, text()));
        }
    }

    /// Waits until all is written, at most this long. Only for the end of the process.
    pub fn flush(&self, patience: Duration) {
        let (done, written) = sync_channel(1);
        self.send(Order::Flush(done));
        // In vain if journald does not take anything: the process ends all the same.
        let _ = written.recv_timeout(patience);
    }

    fn send(&self, order: Order) {
        match self.sender.try_send(order) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
impl JournalHandle {
    /// One that nobody writes, and the notes in it since they were asked for last.
    pub(crate) fn for_test(waiting: usize) -> (JournalHandle, impl Fn() -> Vec<String>) {
        let (handle, receiver) = channel(waiting, false);
        let notes = move || {
            let note = |order| match order {
                Order::Note(_, text) => Some(text),
                Order::Change(..) | Order::Flush(_) => None,
            };
            receiver.try_iter().filter_map(note).collect()
        };
        (handle, notes)
    }
}

fn run(receiver: &Receiver<Order>, lost: &AtomicU64, write: fn(&Entry)) {
    // What is lost was lost while others waited here, so one of them comes to tell of it: no reason to wake up without an order.
    while let Ok(order) = receiver.recv() {
        // journald took the entry before this one, so it flows (again): what was lost meanwhile is told first.
        match lost.swap(0, Ordering::Relaxed) {
            0 => {}
            count => write(&Entry::lost(count)),
        }
        match order {
            Order::Change(change, config) => write(&render(&change, &config)),
            Order::Note(level, text) => write(&Entry::note(level, text)),
            // Nobody waits any more: fine.
            Order::Flush(done) => drop(done.try_send(())),
        }
    }
}

/// tracing fixes the level and the fields of an entry where it is written, hence one place per level; a field that
/// is `None` is left out. Its five levels become journald's error, warning, notice, info and debug.
fn to_journald(entry: &Entry) {
    macro_rules! write {
        ($level:expr) => {
            tracing::event!(
                target: "hafailoverd",
                $level,
                MESSAGE_ID = entry.message_id.map(|id| format!("{id:032x}")),
                HAFAILOVER_GROUP = entry.fields.group.as_deref(),
                HAFAILOVER_NODE = entry.fields.node.as_deref(),
                HAFAILOVER_PEER = entry.fields.peer.as_deref(),
                HAFAILOVER_LINK = entry.fields.link.as_deref(),
                HAFAILOVER_REASON = entry.fields.reason.as_deref(),
                HAFAILOVER_PROOF = entry.fields.proof,
                HAFAILOVER_EPOCH = entry.fields.epoch,
                "{}",
                entry.text
            )
        };
    }
    match entry.level {
        Level::Error => write!(tracing::Level::ERROR),
        Level::Warning => write!(tracing::Level::WARN),
        Level::Notice => write!(tracing::Level::INFO),
        Level::Info => write!(tracing::Level::DEBUG),
        Level::Debug => write!(tracing::Level::TRACE),
    }
}

fn to_stderr(entry: &Entry) {
    // Where stderr is gone too, there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "<{}>{}", entry.level.priority(), entry.text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    static WRITTEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

    fn keep(entry: &Entry) {
        WRITTEN.lock().unwrap().push(entry.text.clone());
    }

    #[test]
    fn a_full_channel_costs_entries_which_are_counted_and_never_the_callers_time() {
        let (handle, receiver) = channel(2, false);
        (0..5).for_each(|n| handle.note(Level::Notice, format!("entry {n}")));
        handle.debug(|| unreachable!("nobody asked for debug entries"));
        let lost = handle.lost.clone();
        drop(handle);
        run(&receiver, &lost, keep);
        let written = WRITTEN.lock().unwrap();
        assert_eq!(written.len(), 3, "{written:?}");
        assert!(written[0].starts_with("3 journal entries were lost"), "{written:?}");
        assert_eq!(written[1..], ["entry 0", "entry 1"]);
    }

    #[test]
    fn flushing_a_journal_that_takes_nothing_ends() {
        let (handle, _receiver) = channel(1, true);
        handle.debug(|| "fills the channel".into());
        handle.flush(Duration::from_millis(10));
        assert_eq!(handle.lost.load(Ordering::Relaxed), 1);
    }
}
