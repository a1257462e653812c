//! Which node should own a group: a pure function of what all nodes say. It only nominates; whether the nominee may start is
//! for `takeover` to say. It must not know time, links or this node.

use crate::config::model::{GroupConfig, NodeId};

/// What placement knows of one node, in the order of the group's `Nodes=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub node: NodeId,
    /// It is this node, or one that is heard.
    pub present: bool,
    /// An owner may give the group back to it: it is well for as long as `Failback=` asks, and nothing else forbids it.
    pub back: bool,
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
/// - An owner keeps it, unless it is less fit than another node, or the group may go back to a more preferred node.
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
            let better = before_owner.copied().find(|node| good(*node).is_some_and(|candidate| candidate.back));
            heir.or(better).or(Some(owner))
        }
        Some(Fitness::Poor) => heir.or(first_good).or(Some(owner)),
        Some(Fitness::Never) | None => heir.or(first_good),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Failback, GroupTag, ProofPolicy};
    use std::time::Duration;

    const FIRST: NodeId = NodeId(0);
    const SECOND: NodeId = NodeId(1);

    fn group() -> GroupConfig {
        GroupConfig {
            name: "www".into(),
            tag: GroupTag(1),
            description: String::new(),
            nodes: vec![FIRST, SECOND],
            addresses: Vec::new(),
            members: Vec::new(),
            failback: Failback::No,
            proof: ProofPolicy::Silence,
            delay: Duration::ZERO,
            interfaces: Vec::new(),
            timeout_start: Duration::from_secs(1),
            timeout_stop: Duration::from_secs(1),
            digest: 0,
        }
    }

    fn candidates(first: Fitness, second: Fitness) -> [Candidate; 2] {
        let candidate = |node, fitness| Candidate { node, present: true, back: false, fitness };
        [candidate(FIRST, first), candidate(SECOND, second)]
    }

    use Fitness::{Good, Never, Poor};

    #[test]
    fn nobody_owns_what_an_operator_stopped() {
        assert_eq!(desired(&group(), true, &candidates(Good, Good), Some(FIRST), Some(SECOND)), None);
    }

    #[test]
    fn without_an_owner_the_first_fit_node_is_taken() {
        let desired = |first, second| desired(&group(), false, &candidates(first, second), None, None);
        assert_eq!(desired(Good, Good), Some(FIRST));
        assert_eq!(desired(Poor, Good), Some(SECOND));
        assert_eq!(desired(Never, Never), None);
        assert_eq!(desired(Poor, Poor), None, "a start that cannot work is not tried");
    }

    #[test]
    fn an_owner_stays_unless_another_is_fitter() {
        let desired = |first, second| desired(&group(), false, &candidates(first, second), Some(SECOND), None);
        assert_eq!(desired(Good, Good), Some(SECOND));
        assert_eq!(desired(Good, Poor), Some(FIRST));
        assert_eq!(desired(Poor, Poor), Some(SECOND), "nobody is served by a stop that leads nowhere");
        assert_eq!(desired(Poor, Never), None);
    }

    #[test]
    fn a_group_goes_back_only_to_a_preferred_node_that_is_fit_and_may_have_it_back() {
        let mut candidates = candidates(Good, Good);
        assert_eq!(desired(&group(), false, &candidates, Some(SECOND), None), Some(SECOND));
        candidates[0].back = true;
        assert_eq!(desired(&group(), false, &candidates, Some(SECOND), None), Some(FIRST));
        candidates[0].fitness = Poor;
        assert_eq!(desired(&group(), false, &candidates, Some(SECOND), None), Some(SECOND));
        candidates[0].fitness = Good;
        candidates[1].back = true;
        assert_eq!(desired(&group(), false, &candidates, Some(FIRST), None), Some(FIRST), "back is towards the front");
    }

    #[test]
    fn an_heir_comes_first_while_it_is_fit_and_there() {
        let heir = Some(SECOND);
        assert_eq!(desired(&group(), false, &candidates(Good, Good), Some(FIRST), heir), heir);
        assert_eq!(desired(&group(), false, &candidates(Good, Good), None, heir), heir);
        assert_eq!(desired(&group(), false, &candidates(Good, Poor), Some(FIRST), heir), Some(FIRST));
        let mut absent = candidates(Good, Good);
        absent[1].present = false;
        assert_eq!(desired(&group(), false, &absent, None, heir), Some(FIRST));
    }
}
