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

/// The highest grant this node promised or learned, and whether its holder released exactly it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    pub grant: Grant,
    pub released: bool,
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
