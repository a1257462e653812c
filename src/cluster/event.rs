//! Everything that comes into the heart. It must not know where an event came from.

use super::action::{OpId, RequestId};
use super::grant::{Grant, SavedGroup};
use crate::config::model::{GroupConfig, GroupId, LinkId, NodeId};
use crate::wire::Message;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An authentic message of this cluster, from another node.
    Heartbeat {
        link: LinkId,
        message: Message,
    },
    /// A heartbeat link became usable (socket bound, carrier) or stopped being so.
    Link {
        link: LinkId,
        usable: bool,
    },
    /// The carrier of a service interface (one that a group requires).
    Interface {
        interface: String,
        up: bool,
    },
    /// An address of a group that runs here was removed behind our back.
    AddressLost {
        group: GroupId,
        index: usize,
    },
    /// Somebody else answers for an address of this group.
    ProbeAnswer {
        group: GroupId,
        index: usize,
        mac: [u8; 6],
    },
    /// Whether systemd has loaded our guards for this group; `None` = they are in place.
    Guard {
        group: GroupId,
        fault: Option<String>,
    },
    /// A member of a running group stopped for good, without our doing.
    MemberDown {
        group: GroupId,
        unit: String,
        reason: String,
    },
    /// The group's target was stopped by hand: means `hafailoverctl stop`.
    TargetStopped {
        group: GroupId,
    },
    /// The host is going down; systemd stops the members itself.
    HostStopping,
    /// The daemon was told to stop: hand over and leave.
    Leave,
    /// This process runs because the daemon died and will not be started again: stop what it left, confirm, exit.
    DaemonDied,
    /// The host thread does not answer (or does again).
    HostThread {
        answering: bool,
    },
    /// What of the configuration on disk waits for a restart, or has mistakes (`None` = nothing).
    Pending(Option<String>),
    /// The groups as the files have them now, in terms of the running configuration. `request`: who wants to know what came of it.
    Files {
        groups: Vec<GroupConfig>,
        request: Option<RequestId>,
    },
    Command {
        request: RequestId,
        command: Command,
    },
    /// The end of an action that carried an id.
    Finished {
        op: OpId,
        outcome: Outcome,
    },
}

/// What an operator may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Move { group: GroupId, to: NodeId },
    Stop { group: GroupId },
    Start { group: GroupId },
    Clear { group: GroupId },
}

/// How an action ended. Prose is for people only: nothing is decided on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed(String),
    /// Not begun, for a reason that may pass without an operator's word (guards not loaded): no failure of the group's.
    Refused(String),
    /// Neither done nor failed is known.
    Unknown(String),
    /// Only for [`super::Action::Inspect`].
    Inspected(Actual),
}

/// What of a group was found on this host.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Actual {
    /// Every member is active.
    pub all_active: bool,
    /// At least one member is not verified inactive (active, activating, deactivating, cgroup not empty).
    pub any_active: bool,
    /// Indexes of the group's addresses that are on this host's interfaces.
    pub addresses: Vec<usize>,
}

/// What survived on this host's disk.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Saved {
    pub groups: BTreeMap<String, SavedGroup>,
}

impl Saved {
    /// Of two memories the one that says more, group by group: the copy in `/run` is newer than the disk's, but ends with the boot.
    pub fn merge(&mut self, other: Saved) {
        for (name, theirs) in other.groups {
            let mine = self.groups.entry(name).or_default();
            let newer = match (&theirs.record, &mine.record) {
                (Some(theirs), Some(mine)) => theirs.supersedes(mine),
                (theirs, mine) => theirs.is_some() && mine.is_none(),
            };
            if newer {
                mine.record = theirs.record;
            }
            mine.order = mine.order.max(theirs.order);
        }
    }
}

/// What an earlier run of the daemon, in this boot, left in `/run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub group: String,
    pub grant: Grant,
    pub phase: HeldPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldPhase {
    /// The grant stands: the group was starting or running.
    Granted,
    /// The grant was taken back: the group was stopping.
    Stopping,
}
