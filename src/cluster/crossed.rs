//! A part that moved from one group to another in the files of some nodes only, while they did not hear each other: one runs it in
//! the one group, the other in the other, and no two grants tell of it. It must not know how it came to that.

use super::Cluster;
use super::moved_parts::parts;
use super::told::PeerGroup;
use crate::config::model::{GroupConfig, GroupId, NodeId};
use crate::wire::{Role, codec};

/// What a group consists of, in any order: the sum of the hashes of its parts, shortened.
pub(super) fn parts_digest(group: &GroupConfig) -> u32 {
    let sum = parts(group).map(|part| codec::fnv1a(part.as_bytes())).fold(0_u64, u64::wrapping_add);
    (sum ^ (sum >> 32)) as u32
}

impl Cluster {
    /// Why a group that runs here must end: a peer that is heard goes by other parts for it and for another group, which it runs
    /// itself, and that will not soon be otherwise. Each sees the same, and the one whose name comes later lets go; alone where
    /// the other one cannot see it.
    pub(super) fn crossed(&self, id: GroupId) -> Option<String> {
        let heard = self.view.peers.iter().filter(|(_, peer)| peer.state.heard() && peer.told_all());
        for (node, peer) in heard {
            let Some(others) = self.other_parts(*node, id) else { continue };
            let runs = |other: &GroupId| {
                let keeps = self.other_parts(*node, *other).is_some_and(|says| self.keeps(*other, &says));
                *other != id && keeps && !(self.is_in_sight(id) && self.is_in_sight(*other))
            };
            let Some(other) = self.config.group_ids().find(runs) else { continue };
            let deaf = peer.deaf_for(self.read_at) >= self.config.timing.deadtime;
            // One that does not know this group does not see that it runs.
            let blind = others == PeerGroup::UNMENTIONED;
            if *node < self.config.me || deaf || blind {
                let (node, other) = (&self.config.node(*node).name, &self.config.group(other).name);
                return Some(format!(
                    "{node} runs {other}, and goes by other files for both groups: what moved between them may be up twice; \
                     make the files equal and run `systemctl reload hafailover` on every node, and end maintenance"
                ));
            }
        }
        None
    }

    /// It claims the group, and nobody is known to whom it would have to give way.
    fn keeps(&self, id: GroupId, says: &PeerGroup) -> bool {
        let grant = says.record.map(|record| record.grant);
        says.role.claims() && grant.is_some_and(|grant| !self.beaten(id, &grant))
    }

    /// What a peer says of a group that consists of something else there.
    fn other_parts(&self, node: NodeId, id: GroupId) -> Option<PeerGroup> {
        let theirs = self.says_of(node, id);
        let differs = theirs.config != self.config.group(id).digest && theirs.parts != self.group(id).parts;
        differs.then_some(theirs)
    }

    /// The group will soon consist of the same on every node that is heard: all read the same files, and no change waits for one that
    /// starts or stops it.
    fn is_in_sight(&self, id: GroupId) -> bool {
        let becomes = self.pending_digest(id).unwrap_or(self.config.group(id).digest);
        let rests = |role| !matches!(role, Role::Starting | Role::Stopping);
        let agrees = |says: PeerGroup| says.pending.unwrap_or(says.config) == becomes && rests(says.role);
        let mut heard = self.view.peers.iter().filter(|(_, peer)| peer.state.heard() && peer.told_all());
        !self.maintenance.on && rests(self.group(id).role()) && heard.all(|(node, _)| agrees(self.says_of(*node, id)))
    }

    fn says_of(&self, node: NodeId, id: GroupId) -> PeerGroup {
        self.view.mentions(node, id).unwrap_or(PeerGroup::UNMENTIONED)
    }
}
