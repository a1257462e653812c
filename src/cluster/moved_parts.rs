//! What a change of files must not do, though everybody agrees on it: put a part up that another group may still have up
//! elsewhere, or take away the addresses by which a node that is not heard could be asked (rule 7).
//! It must not know how a change is carried out.

use super::group::Phase;
use super::told::PeerGroup;
use super::view::PeerState;
use super::{Cluster, Record};
use crate::config::model::{GroupConfig, GroupId, NodeId};
use crate::wire::Role;

/// Whether two groups have an address or a member in common; and which.
fn shared(one: &GroupConfig, other: &GroupConfig) -> Option<String> {
    parts(one).find(|mine| parts(other).any(|it| it == *mine))
}

pub(super) fn parts(group: &GroupConfig) -> impl Iterator<Item = String> {
    let addresses = group.addresses.iter().map(|address| address.address.to_string());
    addresses.chain(group.members.iter().cloned())
}

/// Whether `after` has a part that `before` lacks.
fn gains(before: &GroupConfig, after: &GroupConfig) -> bool {
    parts(after).any(|part| !parts(before).any(|had| had == part))
}

impl Cluster {
    /// A part that moves from one group to another is given up by everybody before anybody puts it up in the other.
    pub(super) fn free(&self, id: GroupId, to: &GroupConfig) -> Result<(), String> {
        for other in self.config.live_groups().filter(|other| *other != id) {
            let other = self.config.group(other);
            if let Some(what) = shared(to, other) {
                return Err(format!(
                    "{what} is still in group {}; where groups exchange parts, take them out first and reload, then put them in",
                    other.name
                ));
            }
        }
        // Who has nothing of the group puts nothing up by this change.
        if !matches!(self.group(id).phase, Phase::Running { .. }) || !gains(self.config.group(id), to) {
            return Ok(());
        }
        self.elsewhere(id, to).map_or(Ok(()), Err)
    }

    /// Why what a group has just come to name cannot be added yet.
    pub(super) fn may_be_elsewhere(&self, id: GroupId) -> Option<String> {
        self.elsewhere(id, self.config.group(id))
    }

    fn elsewhere(&self, id: GroupId, to: &GroupConfig) -> Option<String> {
        let mut others = self.config.group_ids().filter(|other| *other != id);
        others.find_map(|other| {
            let node = self.may_put_up(other, id, to)?;
            Some(format!(
                "waits for {node}, which goes by other files for group {0} and may have any of these parts in it: reload \
                 there, or `hafailoverctl stop {0}`",
                self.config.group(other).name
            ))
        })
    }

    /// A peer that is heard and may have a part of `to` up in another group, or be about to.
    fn may_put_up(&self, other: GroupId, id: GroupId, to: &GroupConfig) -> Option<&str> {
        let (runs, files) = (self.config.group(other).digest, self.pending_digest(other));
        let mut heard = self.view.peers.iter().filter(|(_, peer)| peer.state.heard());
        let (node, _) = heard.find(|(node, peer)| {
            // Who runs this group so has none of these parts in another one: it could not have adopted it.
            if self.view.mentions(**node, id).is_some_and(|says| says.config == to.digest) {
                return false;
            }
            let Some(says) = self.view.mentions(**node, other) else { return !peer.told_all() };
            if says.config == 0 || says.config == runs || Some(says.config) == files {
                return false;
            }
            // An idle one may be starting it, unless it knows that it must not: rule 13.
            let knows = self.said.runs_since(other, runs).is_some_and(|version| peer.holds() >= version);
            !(knows && self.view.says(**node, other).is_some_and(|says| says.role == Role::Idle))
        })?;
        Some(&self.config.node(*node).name)
    }

    /// A peer that is heard, is not idle, and of which `such` is true.
    fn has_it(&self, id: GroupId, such: impl Fn(NodeId, PeerGroup) -> bool) -> Option<&str> {
        let mut heard = self.view.peers.iter().filter(|(_, peer)| peer.state.heard());
        // Who told all and does not mention it has nothing of it.
        let (node, _) = heard.find(|(node, peer)| match self.view.mentions(**node, id) {
            Some(_) => self.view.says(**node, id).is_some_and(|says| says.role != Role::Idle && such(**node, says)),
            None => !peer.told_all(),
        })?;
        Some(&self.config.node(*node).name)
    }

    /// Where nobody who is heard owns it: a node that is not, and keeps it or may have taken it.
    fn kept_unheard(&self, id: GroupId) -> Option<&str> {
        let record = self.group(id).record;
        // What this node had since it booted it has given up itself.
        let mine = |record: &Record| (record.grant.node, record.grant.boot) == (self.config.me, self.identity.boot);
        if self.owner(id).is_some() || record.as_ref().is_some_and(mine) {
            return None;
        }
        let keeper = record.map(|record| record.keeper());
        // The goodbye of who keeps it said that it is over.
        let over = |node| record.is_some_and(|record| record.released && self.said_last(id, node, &record));
        let may = |node: &NodeId| match self.view.peer(*node).map(|peer| peer.state) {
            Some(PeerState::Lost | PeerState::Unheard) => true,
            Some(PeerState::Left) => Some(*node) == keeper && !over(*node),
            _ => false,
        };
        let node = self.config.group(id).nodes.iter().copied().chain(keeper).find(may)?;
        Some(&self.config.node(node).name)
    }

    /// Who has a group changes it first: what goes is given up before anybody else believes it free, and who cannot carry the change
    /// out is not left behind. While somebody who may own the group is not heard, its addresses are what he, or this node, can be asked by.
    pub(super) fn still_there(&self, id: GroupId, to: &GroupConfig) -> Result<(), String> {
        let runs = self.config.group(id);
        let here = matches!(self.group(id).phase, Phase::Running { .. });
        // Of two that do not know what they have one goes first.
        let unknown = matches!(self.group(id).phase, Phase::Unknown { .. });
        let later = |node: NodeId, says: &PeerGroup| unknown && says.role == Role::Unknown && node > self.config.me;
        let behind = |node: NodeId, says: PeerGroup| says.config != to.digest && !later(node, &says);
        if let Some(node) = self.has_it(id, behind).filter(|_| !here) {
            return Err(format!("waits for {node}, which has it, to change first"));
        }
        // It may be up, unheard, by the files of then: no other group gets anything of it meanwhile.
        if let Some(node) = self.kept_unheard(id).filter(|_| !here && gains(to, runs)) {
            return Err(format!(
                "waits for {node}, which is not heard, and may still have what goes; unless it is taken over here first \
                 (Nodes=, hafailoverctl start, clear)"
            ));
        }
        let unheard = |state| matches!(state, PeerState::Lost | PeerState::Unheard);
        let unheard = |node: &&NodeId| self.view.peer(**node).is_some_and(|peer| unheard(peer.state));
        let Some(silent) = runs.nodes.iter().find(unheard) else { return Ok(()) };
        let silent = &self.config.node(*silent).name;
        let stays = |index: usize| runs.addresses.get(index).is_some_and(|address| to.addresses.contains(address));
        // One that is no more among its Nodes= would be asked no more.
        let goes = gains(to, runs) || runs.nodes.iter().filter(unheard).any(|node| !to.nodes.contains(node));
        let answers = self.group(id).probing.answered().filter(|_| self.answered_lately(id));
        if let Some(index) = answers.filter(|index| !stays(*index) || (goes && self.owner(id).is_none())) {
            let address = runs.addresses[index].address;
            return Err(format!("{address} answers, and {silent}, which is not heard, may have it"));
        }
        let gone = (0..runs.addresses.len()).filter(|index| !stays(*index)).count();
        if here && gone > 0 && gone == runs.addresses.len() {
            return Err(format!(
                "{silent} is not heard, and could ask for none of its addresses: keep one of them for now, or stop and start the group"
            ));
        }
        Ok(())
    }
}
