//! What the beat thread and the host thread say to each other: bounded channels, `try_send`, nobody waits.
//! And what the beat thread sees without a word: whether the host thread moves.

use crate::cluster::{Answer, Event, OpId, RequestId, Saved, Status, Time};
use crate::config::model::{Config, GroupConfig, GroupId};
use crate::wire::seal::KeySet;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// From the beat thread to the host thread.
#[derive(Debug)]
pub enum ToHost {
    StartMembers {
        op: OpId,
        group: GroupId,
    },
    StopMembers {
        op: OpId,
        group: GroupId,
    },
    VerifyStopped {
        op: OpId,
        group: GroupId,
    },
    /// Members only; the beat thread knows the addresses. Answered by [`ToBeat::Inspected`].
    Inspect {
        op: OpId,
        group: GroupId,
    },
    /// Answered when it is known whether systemd has loaded the guards of a group in this form.
    CheckGuards {
        op: OpId,
        to: GroupConfig,
    },
    /// The rest of the group goes on.
    DropMembers {
        op: OpId,
        group: GroupId,
        units: Vec<String>,
    },
    /// Write the adopted configuration down.
    Note {
        op: OpId,
        config: Arc<Config>,
    },
    /// What follows goes by this.
    Configure(Arc<Config>),
    Save(Saved),
    Reply {
        request: RequestId,
        answer: Answer,
    },
    Status {
        request: RequestId,
        status: Box<Status>,
    },
    /// One line for `STATUS=`, when it changed.
    Headline(String),
    /// Something in the status may have changed since it was told last. Said once, until it is asked for.
    Changed,
    /// The heart is done: end the process with success.
    Exit,
}

/// From the host thread to the beat thread. An eventfd beside the channel wakes the reader.
#[derive(Debug)]
pub enum ToBeat {
    Event(Event),
    Inspected {
        op: OpId,
        all_active: bool,
        any_active: bool,
    },
    /// Answered by [`ToHost::Status`].
    Status {
        request: RequestId,
    },
    /// New keys from `reload`.
    Keys(KeySet),
    /// From now on everything the heart is given goes there, or (`None`) nowhere.
    Record(Option<crate::record::Sink>),
    /// `systemctl restart`: end at once, leave the groups running.
    ExitLeavingGroups,
}

/// How often the host thread shows that it moves; more often where the unit's watchdog asks for it.
pub const MOVES_EVERY: Duration = Duration::from_millis(1500);
/// Not moving for so long, it is stuck: told before the unit's watchdog, which that very thread feeds, ends all.
const STUCK_AFTER: Duration = Duration::from_millis(3500);
/// A longer gap between two looks was the looker's own: then this whole process stood still.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// Messages that may wait for the beat thread before `overflow` is used.
const WAITING: usize = 1024;
/// Messages that may wait in addition; beyond it the beat thread is stuck, and the unit's watchdog ends this process.
const OVERFLOW: usize = 4096;

/// The host thread's end: sends to the beat thread without ever waiting for it.
#[derive(Clone, Debug)]
pub struct Beat {
    sender: SyncSender<ToBeat>,
    wake: Arc<OwnedFd>,
    /// Nothing may be lost on the way (the end of an action comes once), so what finds no room waits here, in order.
    overflow: Arc<Mutex<VecDeque<ToBeat>>>,
}

/// The beat thread's end.
#[derive(Debug)]
pub struct BeatInbox {
    receiver: Receiver<ToBeat>,
    wake: Arc<OwnedFd>,
}

/// The channel to the beat thread. The eventfd lets it wait in one `ppoll` with its sockets.
pub fn beat_channel() -> std::io::Result<(Beat, BeatInbox)> {
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (sender, receiver) = sync_channel(WAITING);
    let beat = Beat { sender, wake: wake.clone(), overflow: Arc::default() };
    Ok((beat, BeatInbox { receiver, wake }))
}

impl Beat {
    /// Never waits. What has no room is kept and sent by a later [`Beat::send`] or [`Beat::flush`].
    pub fn send(&self, message: ToBeat) {
        let mut overflow = self.overflow.lock().expect("no holder of this lock panics");
        if overflow.len() < OVERFLOW {
            overflow.push_back(message);
        }
        self.drain(&mut overflow);
    }

    /// Whether something waits for [`Beat::flush`].
    pub fn is_behind(&self) -> bool {
        !self.overflow.lock().expect("no holder of this lock panics").is_empty()
    }

    /// Sends what had no room before.
    pub fn flush(&self) {
        if self.is_behind() {
            self.drain(&mut self.overflow.lock().expect("no holder of this lock panics"));
        }
    }

    fn drain(&self, overflow: &mut VecDeque<ToBeat>) {
        while let Some(message) = overflow.pop_front() {
            match self.sender.try_send(message) {
                Ok(()) => {}
                Err(TrySendError::Full(message)) => {
                    overflow.push_front(message);
                    break;
                }
                // The beat thread has ended; the process follows.
                Err(TrySendError::Disconnected(_)) => overflow.clear(),
            }
        }
        // It can fail only by overflow of the counter, and then the reader is awake already.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

impl BeatInbox {
    /// Everything that waits. Resets the eventfd first, so that nothing sent meanwhile is slept over.
    pub fn drain(&self) -> impl Iterator<Item = ToBeat> + '_ {
        let mut count = [0; 8];
        // EAGAIN: nobody woke us, which is fine.
        let _ = rustix::io::read(&*self.wake, &mut count);
        self.receiver.try_iter()
    }
}

impl AsFd for BeatInbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Whether the host thread moves, by a counter that it raises. Nobody is asked and nobody is woken for it.
#[derive(Debug)]
pub struct HostMoves {
    counter: Arc<AtomicU64>,
    seen: u64,
    looked: Time,
    still: Duration,
    stuck: bool,
}

impl HostMoves {
    pub fn new(counter: Arc<AtomicU64>, now: Time) -> HostMoves {
        HostMoves { counter, seen: 0, looked: now, still: Duration::ZERO, stuck: false }
    }

    /// Whether it answers, when that changed since the last look.
    pub fn look(&mut self, now: Time) -> Option<bool> {
        let count = self.counter.load(Ordering::Relaxed);
        self.still += now.since(self.looked).min(LOOKS_EVERY);
        self.looked = now;
        if std::mem::replace(&mut self.seen, count) != count {
            self.still = Duration::ZERO;
        }
        let stuck = self.still >= STUCK_AFTER;
        (std::mem::replace(&mut self.stuck, stuck) != stuck).then_some(!stuck)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_or_reordered_when_the_reader_is_slow() {
        let (beat, inbox) = beat_channel().unwrap();
        let many = WAITING as u64 + 100;
        (0..many).for_each(|n| beat.send(ToBeat::Status { request: RequestId(n) }));
        let mut seen: Vec<u64> = Vec::new();
        let number = |message| match message {
            ToBeat::Status { request } => request.0,
            other => panic!("{other:?}"),
        };
        seen.extend(inbox.drain().map(number));
        assert_eq!(seen.len(), WAITING);
        assert!(beat.is_behind());
        beat.flush();
        assert!(!beat.is_behind());
        seen.extend(inbox.drain().map(number));
        assert_eq!(seen, (0..many).collect::<Vec<_>>());
    }

    #[test]
    fn a_message_makes_the_eventfd_readable_and_draining_ends_that() {
        let (beat, inbox) = beat_channel().unwrap();
        let readable = || {
            let mut fds = [rustix::event::PollFd::new(&inbox, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
        };
        assert!(!readable());
        beat.send(ToBeat::ExitLeavingGroups);
        assert!(readable());
        assert_eq!(inbox.drain().count(), 1);
        assert!(!readable());
    }

    #[test]
    fn an_ended_reader_stops_nobody() {
        let (beat, inbox) = beat_channel().unwrap();
        drop(inbox);
        beat.send(ToBeat::ExitLeavingGroups);
        beat.flush();
    }

    #[test]
    fn a_host_thread_that_stands_still_is_stuck_before_the_watchdog_ends_the_process() {
        let counter = Arc::new(AtomicU64::new(0));
        let mut moves = HostMoves::new(counter.clone(), Time(0));
        let at = |ms: u64| Time(ms * 1_000_000);
        for ms in (0..20_000).step_by(200) {
            counter.fetch_add(u64::from(ms % 1600 == 0), Ordering::Relaxed);
            assert_eq!(moves.look(at(ms)), None, "it moves");
        }
        let last = (0..20_000).step_by(200).filter(|ms| ms % 1600 == 0).max().unwrap();
        let told = (20_000..40_000).step_by(200).find(|ms| moves.look(at(*ms)) == Some(false)).unwrap();
        assert_eq!(told - last, 3600);
        assert_eq!(moves.look(at(told + 200)), None, "once");
        counter.fetch_add(1, Ordering::Relaxed);
        assert_eq!(moves.look(at(told + 400)), Some(true));
    }

    #[test]
    fn a_process_that_stood_still_as_a_whole_does_not_blame_its_host_thread() {
        let mut moves = HostMoves::new(Arc::default(), Time(0));
        assert_eq!(moves.look(Time(0) + Duration::from_secs(60)), None);
    }
}
