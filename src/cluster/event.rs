//! Everything that comes into the heart. It must not know where an event came from.

use super::action::{OpId, RequestId};
use super::grant::{Grant, Maintenance, SavedGroup, Standby};
use crate::config::model::{GroupConfig, GroupId, LinkId, NodeId};
use crate::wire::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// An address of a group that runs here went with its interface's being switched off, which is on again.
    AddressFlushed {
        group: GroupId,
        index: usize,
    },
    /// The interface found for each address of a group, and why one has none, where it names none itself.
    Placed {
        group: GroupId,
        interfaces: Vec<Option<String>>,
        fault: Option<String>,
    },
    /// Somebody else answers for an address of this group.
    ProbeAnswer {
        group: GroupId,
        index: usize,
        mac: [u8; 6],
    },
    /// The network could not be asked for all addresses of this group: no silence follows.
    ProbeFailed {
        group: GroupId,
        reason: String,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    Move {
        group: GroupId,
        to: NodeId,
    },
    Stop {
        group: GroupId,
    },
    Start {
        group: GroupId,
    },
    Clear {
        group: GroupId,
    },
    /// Give groups that run here to other nodes, once; `stay`: and own nothing until `Online`.
    Standby {
        which: Which,
        stay: bool,
    },
    /// Ask the owners of groups to give them here, once.
    Takeover {
        which: Which,
    },
    Online,
    Maintenance {
        on: bool,
    },
}

/// Which groups `standby` and `takeover` mean, in Heartbeat's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Which {
    All,
    /// Those that prefer the node that is asked to all others.
    Local,
    /// The rest.
    Foreign,
    /// Those that are not where they are at home.
    Failback,
}

impl Which {
    pub const WORDS: [(&str, Which); 4] =
        [("all", Which::All), ("local", Which::Local), ("foreign", Which::Foreign), ("failback", Which::Failback)];

    pub fn from_word(word: &str) -> Option<Which> {
        Which::WORDS.iter().find(|(known, _)| *known == word).map(|(_, which)| *which)
    }

    pub fn word(self) -> &'static str {
        Which::WORDS.iter().find(|(_, which)| *which == self).map_or("", |(word, _)| *word)
    }
}

/// How an action ended. Prose is for people only: nothing is decided on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Actual {
    /// Every member is active.
    pub all_active: bool,
    /// At least one member is not verified inactive (active, activating, deactivating, cgroup not empty).
    pub any_active: bool,
    /// Indexes of the group's addresses that are on this host's interfaces.
    pub addresses: Vec<usize>,
}

/// What survived on this host's disk.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Saved {
    pub groups: BTreeMap<String, SavedGroup>,
    pub maintenance: Maintenance,
    pub standby: Standby,
}

impl Saved {
    /// Of two memories the one that says more, group by group: the copy in `/run` is newer than the disk's, but ends with the boot.
    pub fn merge(&mut self, other: Saved) {
        self.maintenance = self.maintenance.max(other.maintenance);
        self.standby = self.standby.max(other.standby);
        for (name, theirs) in other.groups {
            let mine = self.groups.entry(name).or_insert(theirs);
            let newer = match (&theirs.record, &mine.record) {
                (Some(theirs), Some(mine)) => theirs.supersedes(mine),
                (theirs, mine) => theirs.is_some() && mine.is_none(),
            };
            // Within a grant a group may be parked no longer, never anew.
            mine.parked = if theirs.record == mine.record { mine.parked && theirs.parked } else { mine.parked };
            if newer {
                (mine.record, mine.parked) = (theirs.record, theirs.parked);
            }
            mine.order = mine.order.max(theirs.order);
        }
    }
}

/// What an earlier run of the daemon, in this boot, left in `/run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub group: String,
    pub grant: Grant,
    pub phase: HeldPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldPhase {
    /// The grant stands: the group was starting or running.
    Granted,
    /// The grant was taken back: the group was stopping.
    Stopping,
}

#[cfg(test)]
mod tests {
    use super::super::grant::{BootId, Epoch, Record};
    use super::*;

    fn saved(epoch: u32, parked: bool) -> Saved {
        let grant = Grant { epoch: Epoch(epoch), node: NodeId(0), boot: BootId(1) };
        let group = SavedGroup { record: Some(Record::owned(grant)), parked, ..SavedGroup::default() };
        Saved { groups: [("web".to_owned(), group)].into(), ..Saved::default() }
    }

    #[test]
    fn of_two_memories_the_later_words_count() {
        for (mine, theirs, parked) in [
            ((3, true), (3, false), false),
            ((3, false), (3, true), false),
            ((3, true), (3, true), true),
            ((3, false), (4, true), true),
            ((4, true), (3, false), true),
        ] {
            let mut memory = saved(mine.0, mine.1);
            memory.merge(saved(theirs.0, theirs.1));
            assert_eq!(memory.groups["web"].parked, parked, "{mine:?} {theirs:?}");
        }
        let mut disk = Saved { standby: Standby { version: 1, on: true }, ..Saved::default() };
        disk.maintenance = Maintenance { version: 2, on: false };
        let run = Saved { standby: Standby { version: 2, on: false }, ..saved(3, true) };
        disk.merge(run);
        assert_eq!((disk.standby.on, disk.maintenance.version), (false, 2));
        assert!(disk.groups["web"].parked, "what only one of them knows");
    }
}
