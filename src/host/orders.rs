//! What the beat thread and the host thread say to each other: bounded channels, `try_send`, nobody waits.

use crate::cluster::{Answer, Change, Event, OpId, RequestId, Saved, Status};
use crate::config::model::GroupId;
use crate::wire::seal::KeySet;

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
    Save(Saved),
    Report(Change),
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
    /// Answered by [`ToBeat::Pong`]: shows that the host thread lives.
    Ping(u64),
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
    Pong(u64),
    /// `systemctl restart`: end at once, leave the groups running.
    ExitLeavingGroups,
}
