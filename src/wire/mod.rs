//! PURE. What a message says ([`Message`]), its bytes ([`codec`]), and the keys that seal it ([`seal`]).
//! It must not know sockets, time or what a message leads to.

pub mod codec;
pub mod seal;

use crate::cluster::grant::{BootId, Epoch, Incarnation, Maintenance, Order};
use crate::config::model::{GroupTag, NodeTag};
use serde::{Deserialize, Serialize};

/// One heartbeat, the same on every link. Of the groups it carries what a peer that is heard does not hold yet; the digest
/// tells whether the receiver now holds all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub cluster_tag: u64,
    pub sender: NodeTag,
    pub incarnation: Incarnation,
    /// Rises by one with each message of this incarnation; the same message on two links has the same.
    pub sequence: u64,
    /// CLOCK_BOOTTIME of the sender, nanoseconds.
    pub sent_at: u64,
    pub boot: BootId,
    pub cluster_digest: u32,
    pub state: StateMark,
    pub flags: NodeFlags,
    /// An operator's word for the whole cluster; left out on the wire as long as nobody said it.
    pub maintenance: Maintenance,
    pub echoes: Vec<Echo>,
    pub groups: Vec<GroupSays>,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeFlags {
    /// Its join is complete.
    pub joined: bool,
    /// It hands over and goes.
    pub leaving: bool,
    /// It has nothing left to hand over: the last words of this incarnation.
    pub left: bool,
    /// An operator wants it to own nothing until it is put online again.
    pub standby: bool,
}

/// What a node says of all its groups together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StateMark {
    /// Rises with each change within an incarnation. Zero: nothing was said yet.
    pub version: u32,
    /// Sum of [`GroupSays::mark`] over all groups of that version.
    pub digest: u64,
}

/// "I have heard this incarnation of that node, up to this sequence, and hold all it said of its groups up to this version."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    pub node: NodeTag,
    pub incarnation: Incarnation,
    pub sequence: u64,
    pub holds: u32,
}

/// What a node says of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSays {
    pub group: GroupTag,
    pub role: Role,
    /// It could own the group now: guards, carrier, not banned, not leaving.
    pub eligible: bool,
    /// It tried and failed; cleared by an operator.
    pub banned: bool,
    /// The highest grant the sender knows of.
    pub record: Option<RecordSays>,
    /// Left out on the wire as long as no operator said anything.
    pub order: Order,
    /// Digest of the configuration that it runs by. Zero: by none, it is in no adopted configuration of the sender's.
    pub config: u32,
    /// The same of its parts alone: addresses and members.
    pub parts: u32,
    /// Digest of what its files say, where that differs. Zero: they no longer hold the group.
    pub pending: Option<u32>,
    /// An operator on the sender asks the owner to give it to that node.
    pub wish: Option<NodeTag>,
    /// It went where it is by an operator's word: `Failback=` waits.
    pub parked: bool,
    /// Somebody whom the sender hears, and who does not hold the record, is not idle.
    pub contended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSays {
    pub epoch: Epoch,
    pub node: NodeTag,
    pub boot: BootId,
    pub released: bool,
    /// Whom the releaser gave the group to. Only after a release.
    pub heir: Option<NodeTag>,
}

/// What the sender does with the group. Only `Idle` says that nothing of it can be running there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Verified: no member active, no address here.
    Idle,
    /// Not known (yet, or any more): after a start of the daemon, or a stop that could not be confirmed.
    Unknown,
    Starting,
    Running,
    Stopping,
}

impl Role {
    /// Claims ownership of its record's grant.
    pub fn claims(self) -> bool {
        matches!(self, Role::Starting | Role::Running)
    }
}
