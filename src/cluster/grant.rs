//! Per group, the one record of who owns it and who may own it next. "Rule N" here and elsewhere: docs/rules.md.
//! It must not know why a grant was given.

use crate::config::model::NodeId;
use serde::{Deserialize, Serialize};

/// Counts a group's owners. Zero: never owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Epoch(pub u32);

/// First eight bytes of the kernel's boot id. Unordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootId(pub u64);

/// One run of one daemon: random at its start. Unordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// A group's ownership: (group, epoch, node, boot). The group is where it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    pub epoch: Epoch,
    pub node: NodeId,
    pub boot: BootId,
}

impl Grant {
    /// The total order both sides of a split compute alike: epoch, then name, the first in the alphabet wins (rule 1).
    pub fn beats(&self, other: &Grant) -> bool {
        (self.epoch, std::cmp::Reverse(self.node)) > (other.epoch, std::cmp::Reverse(other.node))
    }
}

/// The highest grant this node took or learned of, and how far its holder has let go of it.
///
/// A record names exactly one node that may start the group without proof by silence, its [`Record::keeper`] (rule 2):
/// the owner, or the node that the owner gave the group to when it released it. Naming an heir is final: it can be
/// undone only by the heir, under a higher epoch. So a release that is lost, doubled or late starts nothing twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    pub grant: Grant,
    /// Every stop was confirmed: nothing runs under this grant, nor ever will (rules 4 and 5).
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Order {
    pub version: u32,
    pub stopped: bool,
}

/// The operator's last word on whether the cluster is left alone. The higher version wins on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Maintenance {
    pub version: u32,
    pub on: bool,
}

/// The operator's last word on whether this node may own anything. The version tells which of two memories is the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Standby {
    pub version: u32,
    pub on: bool,
}

/// What is kept on disk of a group. On disk the node stands by name, so that a changed order of `nodes` changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SavedGroup {
    pub record: Option<Record>,
    pub order: Order,
    /// It went where it is by an operator's word.
    pub parked: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u32, node: u8, boot: u64) -> Record {
        Record::owned(Grant { epoch: Epoch(epoch), node: NodeId(node), boot: BootId(boot) })
    }

    fn given(record: Record, heir: Option<u8>) -> Record {
        Record { released: true, heir: heir.map(NodeId), ..record }
    }

    /// Every record that two nodes can make of two epochs and two boots.
    fn records() -> Vec<Record> {
        let mut all = Vec::new();
        for (epoch, node, boot) in [(1, 0, 1), (1, 0, 2), (1, 1, 3), (2, 0, 1), (2, 1, 3)] {
            let owned = record(epoch, node, boot);
            all.extend([owned, given(owned, None), given(owned, Some(1 - node))]);
        }
        all
    }

    #[test]
    fn of_two_records_exactly_one_says_more() {
        for one in records() {
            for other in records() {
                assert_eq!(one.supersedes(&other) || other.supersedes(&one), one != other, "{one:?} {other:?}");
                assert!(!(one.supersedes(&other) && other.supersedes(&one)), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn what_says_more_than_more_says_more() {
        for (a, b, c) in records().into_iter().flat_map(|a| {
            let pairs = records().into_iter().flat_map(move |b| records().into_iter().map(move |c| (b, c)));
            pairs.map(move |(b, c)| (a, b, c))
        }) {
            if a.supersedes(&b) && b.supersedes(&c) {
                assert!(a.supersedes(&c), "{a:?} {b:?} {c:?}");
            }
        }
    }

    #[test]
    fn a_grant_only_moves_towards_its_end() {
        let owned = record(3, 0, 1);
        assert!(given(owned, None).supersedes(&owned));
        assert!(given(owned, Some(1)).supersedes(&given(owned, None)));
        assert!(!owned.supersedes(&given(owned, None)), "a late message takes no release back");
    }

    #[test]
    fn a_higher_epoch_wins_and_of_equal_ones_the_earlier_node() {
        assert!(record(4, 1, 9).supersedes(&given(record(3, 0, 1), Some(0))));
        assert!(record(3, 0, 1).supersedes(&record(3, 1, 9)));
    }

    #[test]
    fn the_keeper_is_the_owner_until_it_has_given_the_group_away() {
        let owned = record(3, 0, 1);
        assert_eq!(owned.keeper(), NodeId(0));
        assert_eq!(given(owned, None).keeper(), NodeId(0));
        assert_eq!(given(owned, Some(1)).keeper(), NodeId(1));
    }
}
