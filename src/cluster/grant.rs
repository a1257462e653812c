//! Rule 1's record: per group, the one grant this node supports. It must not know why a grant was given.

use crate::config::model::NodeId;

/// Counts a group's owners. Zero: never owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u32);

/// First eight bytes of the kernel's boot id. Unordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u64);

/// One run of one daemon: random at its start. Unordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// A group's ownership: (group, epoch, node, boot). The group is where it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    pub epoch: Epoch,
    pub node: NodeId,
    pub boot: BootId,
}

impl Grant {
    /// The total order both sides of a split compute alike: epoch, then position in `nodes`, earlier wins (rule 14).
    pub fn beats(&self, other: &Grant) -> bool {
        (self.epoch, std::cmp::Reverse(self.node)) > (other.epoch, std::cmp::Reverse(other.node))
    }
}

/// The highest grant this node promised or learned, and how far its holder has let go of it.
///
/// A record names exactly one node that may start the group without proof by silence, its [`Record::keeper`]: the
/// owner, or the node that the owner gave the group to when it released it. Naming an heir is final: it can be undone only
/// by the heir, under a higher epoch. So a release that is lost, doubled or late starts nothing twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    pub grant: Grant,
    /// Every stop was confirmed: nothing runs under this grant, nor ever will (rule 7).
    pub released: bool,
    pub heir: Option<NodeId>,
}

impl Record {
    pub fn owned(grant: Grant) -> Record {
        Record { grant, released: false, heir: None }
    }

    /// Who may start the group next without waiting for silence.
    pub fn keeper(&self) -> NodeId {
        self.heir.filter(|_| self.released).unwrap_or(self.grant.node)
    }

    /// Whether `self` says more than `other`: a higher grant, or more of the same grant's end. Only a grant's own node
    /// moves it from owned to released to given away, so the further one is the newer one.
    pub fn supersedes(&self, other: &Record) -> bool {
        if self.grant == other.grant {
            return (self.released, self.heir.is_some()) > (other.released, other.heir.is_some());
        }
        // The same epoch and node from another boot: the order of boots is unknown, the release decides; else any order that
        // both nodes compute alike.
        if (self.grant.epoch, self.grant.node) == (other.grant.epoch, other.grant.node) {
            let rank = |record: &Record| (record.released, record.heir.is_some(), record.grant.boot);
            return rank(self) > rank(other);
        }
        self.grant.beats(&other.grant)
    }
}

/// The operator's last word on whether a group may run at all. The higher one wins on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Order {
    pub version: u32,
    pub stopped: bool,
}

/// What is kept on disk of a group. On disk the node stands by name, so that a changed order of `nodes` changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SavedGroup {
    pub record: Option<Record>,
    pub order: Order,
}
