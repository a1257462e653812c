//! What a change of files must not do, though everybody agrees on it: put a part up that another group may still have up
//! elsewhere, or take away the addresses by which a node that is not heard could be asked (rule 7).
//! It must not know how a change is carried out.

use super::Cluster;
use super::group::Phase;
use super::view::PeerState;
use crate::config::model::{GroupConfig, GroupId};

/// Whether two groups have an address or a member in common; and which.
fn shared(one: &GroupConfig, other: &GroupConfig) -> Option<String> {
    let address = one.addresses.iter().find(|mine| other.addresses.iter().any(|it| it.address == mine.address));
    let member = || one.members.iter().find(|mine| other.members.contains(mine)).cloned();
    address.map(|address| address.address.to_string()).or_else(member)
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
        for (other, former) in self.rollout.former().filter(|(other, _)| *other != id) {
            if let (Some(what), Some(node)) = (shared(to, former), self.runs_it_otherwise(other)) {
                return Err(format!("waits for {node} to give {what} up in group {}", former.name));
            }
        }
        Ok(())
    }

    /// A peer that is heard and does not run it as this node does.
    fn runs_it_otherwise(&self, id: GroupId) -> Option<&str> {
        let digest = self.config.group(id).digest;
        let mut heard = self.view.peers.iter().filter(|(_, peer)| peer.state.heard());
        let (node, _) = heard.find(|(node, peer)| {
            !peer.told_all() || self.view.mentions(**node, id).map_or(0, |says| says.config) != digest
        })?;
        Some(&self.config.node(*node).name)
    }

    /// What is the same everywhere is remembered no longer.
    pub(super) fn forget_former(&mut self) {
        let kept: Vec<GroupId> = self.rollout.former().map(|(id, _)| id).collect();
        for id in kept {
            if self.runs_it_otherwise(id).is_none() {
                self.rollout.forget_former(id);
            }
        }
    }

    /// While somebody who may own the group is not heard, its addresses are what he, or this node, can be asked by.
    pub(super) fn still_asked(&self, id: GroupId, to: &GroupConfig) -> Result<(), String> {
        let runs = self.config.group(id);
        let stays = |index: usize| runs.addresses.get(index).is_some_and(|address| to.addresses.contains(address));
        let gone = (0..runs.addresses.len()).filter(|index| !stays(*index)).count();
        if gone == 0 {
            return Ok(());
        }
        let here = matches!(self.group(id).phase, Phase::Running { .. });
        // Its owner first: until then a silent one is asked by what it has up.
        let owner = self.owner(id).filter(|owner| !here && *owner != self.config.me);
        let behind = owner.filter(|owner| self.view.mentions(*owner, id).is_some_and(|says| says.config != to.digest));
        if let Some(owner) = behind {
            return Err(format!("waits for {}, which owns it, to change first", self.config.node(owner).name));
        }
        let unheard = |state| matches!(state, PeerState::Lost | PeerState::Unheard);
        let silent = runs.nodes.iter().find(|node| self.view.peer(**node).is_some_and(|peer| unheard(peer.state)));
        let Some(silent) = silent.map(|node| &self.config.node(*node).name) else { return Ok(()) };
        let answers = self.group(id).probing.answered().filter(|_| self.answered_lately(id));
        if let Some(index) = answers.filter(|index| !stays(*index)) {
            let address = runs.addresses[index].address;
            return Err(format!("{address} answers, and {silent}, which is not heard, may have it"));
        }
        if here && gone == runs.addresses.len() {
            return Err(format!(
                "{silent} is not heard, and could ask for none of its addresses: keep one of them for now"
            ));
        }
        Ok(())
    }
}
