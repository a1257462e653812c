//! Everything that goes out of the heart. It must not know how an action is carried out.

use super::event::{HeldPhase, Saved};
use super::grant::Grant;
use super::report::Change;
use crate::config::model::{Config, GroupConfig, GroupId};
use crate::wire::Message;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Names one action that ends. Unique within an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpId(pub u64);

/// Names one question of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// To every usable link.
    Send(Message),
    /// Write `/run/hafailover/held/GROUP` and, with [`HeldPhase::Granted`], the grant file; with
    /// [`HeldPhase::Stopping`], remove the grant file. Answers with `Finished`.
    Hold {
        op: OpId,
        group: GroupId,
        grant: Grant,
        phase: HeldPhase,
    },
    /// The group is confirmed stopped: remove what `Hold` wrote.
    Forget {
        group: GroupId,
    },
    /// Look at members and addresses. Ends with `Outcome::Inspected`.
    Inspect {
        op: OpId,
        group: GroupId,
    },
    /// Add all addresses, in one go. One that is there already is not ours, which is a failure. Ends `Done` only if all are
    /// there; on failure those added by this call are removed again.
    AddAddresses {
        op: OpId,
        group: GroupId,
    },
    /// Remove all addresses; one that is not there is `Done`.
    RemoveAddresses {
        op: OpId,
        group: GroupId,
    },
    /// Put one address back that was removed behind our back.
    RepairAddress {
        op: OpId,
        group: GroupId,
        index: usize,
    },
    /// One round of announcements (ARP request and reply form) for each address.
    Announce {
        group: GroupId,
    },
    /// Ask the network once who has each address.
    Probe {
        group: GroupId,
    },
    /// Start the target and wait until every member is active.
    StartMembers {
        op: OpId,
        group: GroupId,
    },
    /// Stop the target and every member; `Done` only if each was verified inactive with an empty cgroup.
    StopMembers {
        op: OpId,
        group: GroupId,
    },
    /// Verify once more that every member is inactive with an empty cgroup.
    VerifyStopped {
        op: OpId,
        group: GroupId,
    },
    /// Whether systemd has loaded the guards of a group that is to run in this form. Of a group that runs here.
    CheckGuards {
        op: OpId,
        to: GroupConfig,
    },
    /// Remove some addresses of a group that runs here; one that is not there is `Done`.
    DropAddresses {
        op: OpId,
        group: GroupId,
        indexes: Vec<usize>,
    },
    /// Stop some members of a group that runs here and goes on; `Done` only if each was verified inactive with an empty cgroup.
    DropMembers {
        op: OpId,
        group: GroupId,
        units: Vec<String>,
    },
    /// Write the adopted configuration down. `Done` when `/run` has it; the disk follows.
    Note {
        op: OpId,
        config: Arc<Config>,
    },
    /// From here on this is what runs: ids stay what they are, new groups are appended.
    Configure(Arc<Config>),
    /// Keep on disk, when there is time. Later ones replace earlier ones.
    Save(Saved),
    /// Tell the journal.
    Report(Change),
    Reply {
        request: RequestId,
        answer: Answer,
    },
    /// Everything is confirmed: the process may end.
    Exit,
}

/// What an operator is told. Each says why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Done(String),
    Failed(String),
    Refused(String),
}
