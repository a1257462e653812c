//! Whether a peer's files say what ours say, and what it said in terms of a configuration that is new here.
//! It must not know what follows from it.

use super::{Peer, PeerGroup, View};
use crate::cluster::report::Change;
use crate::config::model::{Config, GroupId, NodeId};
use std::collections::BTreeMap;

impl View {
    /// From here on this node runs by `config`, and its files say `pending` of what runs otherwise. What peers said of groups that
    /// were not known here counts now.
    pub fn reconfigure(&mut self, config: &Config, pending: BTreeMap<GroupId, u32>, changes: &mut Vec<Change>) {
        self.pending = pending;
        for (node, peer) in &mut self.peers {
            let Some(current) = &peer.current else { continue };
            let says = current.said.groups.values();
            let known = says.filter_map(|says| Some((config.group_by_tag(says.group)?, says)));
            peer.groups = known.map(|(group, says)| (group, PeerGroup::new(config, *node, says))).collect();
            if let Some((cluster, _)) = peer.agrees.filter(|_| peer.told_all()) {
                peer.compare_files(*node, config, &self.pending, cluster, changes);
            }
        }
    }

    /// What a peer says of a group it knows. Without, nothing of it is in its files, or not all that it said is here.
    pub fn mentions(&self, node: NodeId, group: GroupId) -> Option<PeerGroup> {
        self.peers.get(&node)?.groups.get(&group).copied()
    }
}

impl Peer {
    /// Whether both go by the same files: what a node runs follows them when all agree.
    pub(super) fn compare_files(
        &mut self,
        node: NodeId,
        config: &Config,
        pending: &BTreeMap<GroupId, u32>,
        cluster: bool,
        changes: &mut Vec<Change>,
    ) {
        let Some(current) = &self.current else { return };
        let theirs = current.said.groups.values().filter(|says| says.pending.unwrap_or(says.config) != 0);
        let mine = |id: &GroupId| pending.get(id).copied().unwrap_or(config.group(*id).digest);
        let same =
            |id: &GroupId| self.groups.get(id).is_some_and(|says| says.pending.unwrap_or(says.config) == mine(id));
        let ours: Vec<GroupId> = config.group_ids().filter(|id| mine(id) != 0).collect();
        let agrees = (cluster, ours.iter().all(same) && theirs.count() == ours.len());
        if self.agrees == Some(agrees) {
            return;
        }
        match (agrees, self.agrees) {
            ((true, true), Some(_)) => changes.push(Change::ConfigAgrees { node }),
            ((true, true), None) => {}
            ((cluster, groups), _) => {
                changes.push(Change::ConfigDiffers { node, cluster: !cluster, groups: !groups });
            }
        }
        self.agrees = Some(agrees);
    }
}
