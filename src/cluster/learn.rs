//! What this node learns of groups from a peer: the higher record and order, and whether both own one.
//! It must not know links or silence.

use super::group::{Phase, StartStep};
use super::report::Change;
use super::{Cluster, Record};
use crate::config::model::{GroupId, NodeId};
use crate::wire::Role;

impl Cluster {
    /// Takes over what a peer knows: the higher record, the higher order.
    pub(super) fn learn(&mut self, node: NodeId) {
        self.learn_maintenance(node);
        for id in self.config.clone().group_ids() {
            let Some(says) = self.view.says(node, id) else { continue };
            let mine = self.group(id).record;
            let newer = says.record.filter(|theirs| mine.is_none_or(|mine| self.is_newer(node, theirs, &mine)));
            if let Some(record) = newer {
                self.set_record(id, record);
                self.settle_record(id);
            }
            self.follow_parked(id, node, says, newer.is_some());
            if says.order > self.group(id).order {
                self.set_order(id, says.order);
            }
            self.compare(id, node, says.role, says.record);
        }
    }

    /// Whether what a peer knows goes beyond what this node knows. Two grants of the same epoch and node, of different boots,
    /// come from a disk that had not caught up when the power failed: that node itself knows which boot is its last.
    fn is_newer(&self, peer: NodeId, theirs: &Record, mine: &Record) -> bool {
        let same_turn = (theirs.grant.epoch, theirs.grant.node) == (mine.grant.epoch, mine.grant.node);
        if same_turn && theirs.grant.boot != mine.grant.boot {
            if mine.grant.node == self.config.me && mine.grant.boot == self.identity.boot {
                return false;
            }
            let last = self.view.peer(peer).and_then(|peer| peer.boot);
            if theirs.grant.node == peer && last == Some(theirs.grant.boot) {
                return true;
            }
        }
        theirs.supersedes(mine)
    }

    /// Two owners: the lower grant stops (in `step`), the higher one announces its addresses, at once and after the other's end.
    fn compare(&mut self, id: GroupId, peer: NodeId, role: Role, record: Option<Record>) {
        let rival = self.group(id).rivals.contains(&peer);
        let Some(mine) = self.group(id).claim() else {
            self.group_mut(id).rivals.clear();
            return;
        };
        // Nothing of it is up here yet. One that does not hear this node will not give way to it.
        let deaf = self.view.peer(peer).is_some_and(|it| it.deaf_for(self.read_at) >= self.config.timing.deadtime);
        if !deaf
            && self.not_shown(id, &mine).is_some()
            && matches!(self.group(id).phase, Phase::Starting { step: StartStep::Hold, .. })
        {
            return;
        }
        match role {
            // It may have heard us first, and be stopping by the time we hear it.
            Role::Starting | Role::Running | Role::Stopping if !rival => {
                let theirs = record.filter(|record| record.grant.node == peer).map(|record| record.grant);
                let keep = theirs.is_none_or(|theirs| mine.beats(&theirs)) && !self.beaten(id, &mine);
                self.group_mut(id).rivals.insert(peer);
                let theirs = theirs.map(|theirs| theirs.epoch);
                self.report(Change::TwoOwners { group: id, peer, mine: mine.epoch, theirs, keep });
                if keep {
                    self.speak = true;
                    self.announce_anew(id);
                }
            }
            Role::Idle if rival => {
                self.group_mut(id).rivals.remove(&peer);
                self.report(Change::TwoOwnersOver { group: id, peer });
                self.announce_anew(id);
            }
            _ => {}
        }
    }
}
