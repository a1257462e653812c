//! What `placement` is given and what it means: how fit each node is for a group, who claims it, and why it runs nowhere.
//! It must not change anything.

use super::Cluster;
use super::group::Phase;
use super::placement::{self, Candidate, Fitness};
use super::timers::Timer;
use super::view::{Peer, PeerGroup, PeerState};
use crate::config::model::{GroupId, NodeId};

impl Cluster {
    pub(super) fn desired(&self, id: GroupId) -> Option<NodeId> {
        if self.doomed(id) {
            return None;
        }
        let group = self.group(id);
        let config = self.config.group(id);
        let me = self.config.me;
        let candidates: Vec<Candidate> = config
            .nodes
            .iter()
            .map(|node| Candidate {
                node: *node,
                present: *node == me || self.view.peer(*node).is_some_and(|peer| peer.state.heard()),
                back: self.may_come_back(id, *node),
                fitness: self.fitness(id, *node),
            })
            .collect();
        let owner = self.owner(id);
        let heir = match owner {
            Some(owner) => group.move_to.filter(|_| owner == me),
            None => group.record.filter(|record| record.released).and_then(|record| record.heir).or(group.move_to),
        };
        placement::desired(config, group.order.stopped, &candidates, owner, heir)
    }

    /// Who claims the group, the highest grant first.
    pub(super) fn owner(&self, id: GroupId) -> Option<NodeId> {
        let mine = self.group(id).claim();
        let peers = self.view.peers.iter().filter(|(_, peer)| peer.state.heard()).filter_map(|(node, _)| {
            let says = self.view.says(*node, id)?;
            let record = says.record.filter(|record| says.role.claims() && record.grant.node == *node)?;
            Some(record.grant)
        });
        let highest = mine.into_iter().chain(peers).reduce(|best, next| if next.beats(&best) { next } else { best });
        highest.map(|grant| grant.node)
    }

    pub(super) fn fitness(&self, id: GroupId, node: NodeId) -> Fitness {
        if !self.config.group(id).nodes.contains(&node) {
            return Fitness::Never;
        }
        if node == self.config.me {
            return if self.never_reason(id).is_some() {
                Fitness::Never
            } else if self.unfit_reason(id).is_some() {
                Fitness::Poor
            } else {
                Fitness::Good
            };
        }
        match (self.view.peer(node), self.view.says(node, id)) {
            (Some(peer), Some(says)) if self.still_banned(id, says) || peer.leaving || peer.standby => Fitness::Never,
            (Some(_), Some(says)) if says.eligible => Fitness::Good,
            _ => Fitness::Poor,
        }
    }

    /// A ban from before the operator's last word will be gone when its node hears of that.
    pub(super) fn still_banned(&self, id: GroupId, says: PeerGroup) -> bool {
        says.banned && says.order >= self.group(id).order
    }

    /// Why this node must not own it.
    pub(super) fn never_reason(&self, id: GroupId) -> Option<String> {
        let group = self.group(id);
        if !self.config.group(id).nodes.contains(&self.config.me) {
            return Some("not among its Nodes=".into());
        }
        if self.host_stopping {
            return Some("this host is going down".into());
        }
        if self.leaving {
            return Some("this node is leaving".into());
        }
        if self.standby.on {
            return Some("this node is in standby; to end that: hafailoverctl online".into());
        }
        group.banned.clone()
    }

    /// What stands against this node as owner, without being final.
    pub(super) fn unfit_reason(&self, id: GroupId) -> Option<String> {
        let group = self.group(id);
        let config = self.config.group(id);
        if let Some(reason) = &group.no_place {
            return Some(reason.clone());
        }
        if let Some(interface) = self.interface_down(id) {
            return Some(format!("interface {interface} has no carrier"));
        }
        if let Some((index, reason)) = group.missing.first_key_value() {
            return Some(format!("its address {} cannot be put back: {reason}", config.addresses[*index].address));
        }
        if group.claim().is_some() {
            return None;
        }
        if let Some(reason) = self.differs(id) {
            return Some(reason);
        }
        match &group.phase {
            Phase::Unknown { found: Some(found), .. } => return Some(found.clone()),
            Phase::Unknown { .. } => return Some("it is being looked at".into()),
            Phase::Stopping(stopping) if stopping.failures > 0 => return group.blocked.clone(),
            _ => {}
        }
        if self.timers.armed(Timer::StartAgain(id)) {
            return Some("its last run here did not end well; it is tried again in a moment".into());
        }
        if config.members.is_empty() {
            return None;
        }
        if let Some(fault) = &group.guard {
            return Some(fault.clone());
        }
        if !self.host_answers {
            return Some("the part of the daemon that speaks to systemd does not answer".into());
        }
        None
    }

    /// Two nodes with different rules for a group would not agree who should own it, nor what of it runs.
    fn differs(&self, id: GroupId) -> Option<String> {
        let digest = self.config.group(id).digest;
        let differs = |node: NodeId, peer: &Peer| {
            let cluster = peer.agrees.is_some_and(|(cluster, _)| !cluster);
            let group = peer.told_all() && self.view.says(node, id).is_some_and(|says| says.config != digest);
            peer.state.heard() && (cluster || group)
        };
        let (node, _) = self.view.peers.iter().find(|(node, peer)| differs(**node, peer))?;
        let name = &self.config.node(*node).name;
        Some(format!(
            "{name} runs it with another configuration, and it starts nowhere anew before they agree; make the files \
             equal and run `systemctl reload hafailover` on every node (`restart`, where hafailover.toml changed)"
        ))
    }

    pub(super) fn nowhere_reason(&self, id: GroupId) -> Option<String> {
        let mine = self.never_reason(id).or_else(|| self.unfit_reason(id));
        let me = &self.config.node(self.config.me).name;
        let mine = mine.map(|reason| format!("{me}: {reason}"));
        let reasons: Vec<String> = mine.into_iter().chain(self.others_reasons(id)).collect();
        Some(format!("no node can run it ({})", reasons.join("; ")))
    }

    /// What stands against each of the other nodes.
    pub(super) fn others_reasons(&self, id: GroupId) -> Vec<String> {
        let mut reasons = Vec::new();
        for node in self.config.group(id).nodes.iter().filter(|node| **node != self.config.me) {
            let Some(peer) = self.view.peer(*node) else { continue };
            let name = &self.config.node(*node).name;
            let reason = match (peer.state, self.view.says(*node, id)) {
                (PeerState::Alive | PeerState::Late, Some(says)) if self.still_banned(id, says) => {
                    "banned after a failure"
                }
                (PeerState::Alive | PeerState::Late, _) if peer.leaving => "leaving",
                (PeerState::Alive | PeerState::Late, _) if peer.standby => "in standby",
                (PeerState::Alive | PeerState::Late, _) => "not able to (see its own status)",
                (PeerState::Left, _) => "left",
                (PeerState::Lost | PeerState::Unheard, _) => "not heard",
            };
            reasons.push(format!("{name}: {reason}"));
        }
        reasons
    }
}
