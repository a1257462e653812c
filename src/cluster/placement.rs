//! Which node should own a group: a pure function of what all nodes say. It only nominates; whether the nominee may start is
//! for `takeover` to say. It must not know time, links or this node.

use crate::config::model::{GroupConfig, NodeId};

/// What placement knows of one node, in the order of the group's `Nodes=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub node: NodeId,
    /// It is this node, or one that is heard.
    pub present: bool,
    /// It finished joining.
    pub joined: bool,
    pub fitness: Fitness,
}

/// How well a node can own the group now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    /// Banned, leaving, or not in `Nodes=`.
    Never,
    /// Something it needs is missing (carrier, guards); an owner stays rather than have nobody.
    Poor,
    Good,
}

/// The node that should own the group, or nobody.
///
/// - A group that an operator stopped belongs to nobody.
/// - `heir` comes first while it is fit: a move under way, or the node that was given the group.
/// - An owner keeps it, unless it is less fit than another node, or `Failback=yes` and a more preferred node is fit and joined.
/// - Without an owner it is the first fit node.
pub fn desired(
    group: &GroupConfig,
    stopped: bool,
    candidates: &[Candidate],
    owner: Option<NodeId>,
    heir: Option<NodeId>,
) -> Option<NodeId> {
    if stopped {
        return None;
    }
    let good = |node: NodeId| {
        candidates
            .iter()
            .find(|candidate| candidate.node == node && candidate.present && candidate.fitness == Fitness::Good)
    };
    let first_good = group.nodes.iter().copied().find(|node| good(*node).is_some());
    let heir = heir.filter(|heir| good(*heir).is_some());
    let Some(owner) = owner else {
        return heir.or(first_good);
    };
    let fitness = candidates.iter().find(|candidate| candidate.node == owner).map(|candidate| candidate.fitness);
    match fitness {
        Some(Fitness::Good) => {
            let before_owner = group.nodes.iter().take_while(|node| **node != owner);
            let better = before_owner.copied().find(|node| good(*node).is_some_and(|candidate| candidate.joined));
            heir.or(better.filter(|_| group.failback)).or(Some(owner))
        }
        Some(Fitness::Poor) => heir.or(first_good).or(Some(owner)),
        Some(Fitness::Never) | None => heir.or(first_good),
    }
}
