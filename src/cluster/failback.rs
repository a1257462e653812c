//! When a group may go back to a node that it prefers to its owner: `Failback=`, how long that node has been well, and what an
//! operator's word puts off. It must not know how a group is handed over.

use super::Cluster;
use super::placement::Fitness;
use super::time::Time;
use super::timers::Timer;
use super::view::{PeerGroup, PeerState};
use crate::config::model::{Failback, GroupId, NodeId};
use std::time::Duration;

impl Cluster {
    /// Whether `Failback=` lets the owner give the group to this node, if it is fit.
    pub(super) fn may_come_back(&self, id: GroupId, node: NodeId) -> bool {
        let asked = match self.config.group(id).failback {
            Failback::No => false,
            Failback::Yes => self.has_joined_as(node),
            Failback::After(wait) => self.well_for(id, node).is_some_and(|well| well >= wait),
        };
        asked && (!self.parked(id) || self.went_for(id, node))
    }

    /// It went since the operator's word, and no other would get the group in its place.
    fn went_for(&self, id: GroupId, node: NodeId) -> bool {
        let went = |node: NodeId| self.group(id).went.contains(&node);
        let mut before = self.config.group(id).nodes.iter().copied().take_while(|other| *other != node);
        went(node) && before.all(|other| went(other) || self.fitness(id, other) != Fitness::Good)
    }

    /// It is where it is by an operator's word, as far as this node knows: `Failback=` waits.
    pub fn parked(&self, id: GroupId) -> bool {
        match self.owner(id).filter(|owner| *owner != self.config.me) {
            Some(owner) => self.view.says(owner, id).is_some_and(|says| says.parked),
            None => self.group(id).parked,
        }
    }

    fn has_joined_as(&self, node: NodeId) -> bool {
        if node == self.config.me { self.joined } else { self.view.peer(node).is_some_and(|peer| peer.joined) }
    }

    fn well_for(&self, id: GroupId, node: NodeId) -> Option<Duration> {
        self.group(id).well.get(&node).map(|since| self.now.since(*since))
    }

    /// Those that the group prefers to its owner.
    pub(super) fn preferred_to(&self, id: GroupId, owner: NodeId) -> Vec<NodeId> {
        self.config.group(id).nodes.iter().copied().take_while(|node| *node != owner).collect()
    }

    /// Keeps since when preferred nodes have been well, and since when an operator's word holds no longer.
    pub(super) fn follow_failback(&mut self, id: GroupId) {
        let Some(owner) = self.owner(id) else { return };
        let preferred = self.preferred_to(id, owner);
        self.follow_went(id, owner, &preferred);
        let Failback::After(wait) = self.config.group(id).failback else { return };
        let heard = |node: NodeId| node == self.config.me || self.view.peer(node).is_some_and(|it| it.state.heard());
        let well = |node: &NodeId| {
            heard(*node) && self.has_joined_as(*node) && self.fitness(id, *node) == Fitness::Good && !self.asleep
        };
        let well: Vec<NodeId> = preferred.into_iter().filter(well).collect();
        let now = self.now;
        let group = self.group_mut(id);
        group.well.retain(|node, _| well.contains(node));
        for node in well {
            group.well.entry(node).or_insert(now);
        }
        let next: Option<Time> = group.well.values().map(|since| *since + wait).filter(|at| *at > now).min();
        match next {
            Some(at) => self.timers.arm(Timer::FailbackDue(id), at),
            None => self.timers.disarm(Timer::FailbackDue(id)),
        }
    }

    /// An operator's word holds until the node that would come back has gone meanwhile.
    fn follow_went(&mut self, id: GroupId, owner: NodeId, preferred: &[NodeId]) {
        if owner != self.config.me || !self.group(id).parked {
            return self.group_mut(id).went.clear();
        }
        let away: Vec<NodeId> = preferred.iter().copied().filter(|node| self.is_away(*node)).collect();
        let group = self.group_mut(id);
        group.went.extend(away);
        if !group.went.is_empty() && preferred.iter().all(|node| group.went.contains(node)) {
            group.parked = false;
            self.unsaved = true;
            self.speak = true;
        }
    }

    /// It went, by whatever way. One that was never heard by this run of the daemon may have been well all the time.
    fn is_away(&self, node: NodeId) -> bool {
        let Some(peer) = self.view.peer(node) else { return false };
        matches!(peer.state, PeerState::Lost | PeerState::Left) || peer.leaving || peer.standby
    }

    /// Whether a group is parked goes with its record, whoever tells of it; afterwards that record's own node knows.
    pub(super) fn follow_parked(&mut self, id: GroupId, peer: NodeId, says: PeerGroup, newer: bool) {
        let record = self.group(id).record;
        let its_own = says.record == record && record.is_some_and(|record| record.grant.node == peer);
        if (newer || its_own) && self.group(id).parked != says.parked {
            self.group_mut(id).parked = says.parked;
            self.unsaved = true;
        }
    }

    /// For people: what a return waits for.
    pub(super) fn return_in_words(&self, id: GroupId) -> Option<String> {
        let owner = self.owner(id)?;
        let preferred = self.preferred_to(id, owner);
        let home = preferred.first().map(|node| &self.config.node(*node).name)?;
        if self.config.group(id).failback == Failback::No {
            return None;
        }
        if self.parked(id) {
            return Some(format!(
                "it is where it is by an operator's word: Failback= waits until {home} has gone and come back, or for: \
                 hafailoverctl online (there), or clear"
            ));
        }
        let Failback::After(wait) = self.config.group(id).failback else { return None };
        let (node, well) = preferred.iter().find_map(|node| Some((node, self.well_for(id, *node)?)))?;
        let name = &self.config.node(*node).name;
        Some(format!("{name} is preferred and well since {}; back in {}", span(well), span(wait.saturating_sub(well))))
    }
}

/// `2min 5s`: as exact as a person wants it.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let said: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).take(2).map(|(count, unit)| format!("{count}{unit}")).collect();
    if said.is_empty() { "0s".into() } else { said.join(" ") }
}
