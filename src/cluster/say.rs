//! What this node tells its peers, and which of it they lack; what it keeps on disk, and how it takes its leave. It must not know how either is carried out.

use super::group::Phase;
use super::placement::Fitness;
use super::timers::Timer;
use super::view::PeerState;
use super::{Action, Change, Cluster, Saved, SavedGroup};
use crate::config::model::{GroupId, NodeId, NodeTag};
use crate::wire::{GroupSays, Message, NodeFlags, RecordSays, Role, StateMark, codec};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What this node says of its groups, and since which version it says it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Said {
    mark: StateMark,
    /// In the order of the groups.
    groups: Vec<(GroupSays, u32)>,
}

impl Said {
    /// Takes in what is to be said now. All that changed has the next version.
    fn renew(&mut self, says: impl Iterator<Item = GroupSays>) {
        let next = self.mark.version.saturating_add(1);
        for (index, says) in says.enumerate() {
            let old = self.groups.get(index).map(|(old, _)| *old);
            if old == Some(says) {
                continue;
            }
            let gone = old.map_or(0, |old| old.mark());
            self.mark.digest = self.mark.digest.wrapping_sub(gone).wrapping_add(says.mark());
            self.mark.version = next;
            match self.groups.get_mut(index) {
                Some(place) => *place = (says, next),
                None => self.groups.push((says, next)),
            }
        }
    }

    /// What somebody lacks who holds `version`, in parts that fit into one message each. At least one, maybe empty.
    fn since(&self, version: u32, room: usize) -> Vec<Vec<GroupSays>> {
        let mut parts = vec![Vec::new()];
        let mut left = room;
        for (says, _) in self.groups.iter().filter(|(_, since)| *since > version) {
            let length = says.wire_len();
            if length > left {
                parts.push(Vec::new());
                left = room;
            }
            left -= length;
            parts.last_mut().expect("there is one").push(*says);
        }
        parts
    }

    /// In which version a wish was first said that still stands.
    pub(super) fn since_when(&self, id: GroupId, wish: NodeTag) -> Option<u32> {
        let (says, since) = self.groups.get(usize::from(id.0))?;
        (says.wish == Some(wish)).then_some(*since)
    }

    /// In which version it was said, or something more of the group, that this node runs it so.
    pub(super) fn runs_since(&self, id: GroupId, digest: u32) -> Option<u32> {
        let (says, since) = self.groups.get(usize::from(id.0))?;
        (says.config == digest).then_some(*since)
    }

    #[cfg(test)]
    pub(super) fn version(&self) -> u32 {
        self.mark.version
    }
}

/// A node that leaves waits at least this long for its release to be acknowledged.
const LEAVE_MIN: Duration = Duration::from_millis(500);
/// The last words are said more than once: a lost one would cost the peers a deadtime.
const LAST_WORDS: usize = 3;

impl Cluster {
    pub(super) fn leave(&mut self) {
        if !self.leaving {
            self.leaving = true;
            self.speak = true;
            self.report(Change::Leaving);
        }
    }

    /// Saves what changed, then says it: a record, or an operator's order, is in `/run` before it is acted upon and before anybody
    /// hears of it.
    pub(super) fn say(&mut self) {
        if self.unsaved {
            self.unsaved = false;
            let saved = self.saved();
            self.out.insert(0, Action::Save(saved));
        }
        if self.exited || self.asleep || !self.view.links.values().any(|usable| *usable) {
            return;
        }
        if self.speak || !self.timers.armed(Timer::Beat) {
            self.speak = false;
            self.send(false);
            self.timers.arm(Timer::Beat, self.now + self.config.timing.keepalive);
        }
    }

    /// The end of this incarnation: everything is confirmed, and acknowledged as far as somebody hears it.
    pub(super) fn depart(&mut self) {
        if !self.leaving || self.exited || !self.groups.iter().all(|group| group.at_rest()) {
            return;
        }
        if !self.acknowledged() {
            if !self.timers.armed(Timer::LeaveOver) && !self.leave_waited {
                self.leave_waited = true;
                let wait = (self.config.timing.keepalive * 4).max(LEAVE_MIN);
                self.timers.arm(Timer::LeaveOver, self.now + wait);
            }
            if self.timers.armed(Timer::LeaveOver) {
                return;
            }
        }
        let saved = self.saved();
        self.unsaved = false;
        self.out.push(Action::Save(saved));
        for _ in 0..LAST_WORDS {
            self.send(true);
        }
        self.exited = true;
        self.out.push(Action::Exit);
    }

    /// Every peer that may be there knows our releases.
    fn acknowledged(&self) -> bool {
        self.view.peers.iter().all(|(node, peer)| {
            matches!(peer.state, PeerState::Lost | PeerState::Left)
                || self.groups.iter().filter(|group| !self.config.group(group.id).is_gone()).all(|group| {
                    let Some(mine) = group.record.filter(|record| record.grant.node == self.config.me) else {
                        return true;
                    };
                    let theirs = self.view.says(*node, group.id).and_then(|says| says.record);
                    theirs.is_some_and(|theirs| theirs == mine || theirs.supersedes(&mine))
                })
        })
    }

    /// One message; more only where more changed than fits into one.
    fn send(&mut self, left: bool) {
        let config = self.config.clone();
        let says: Vec<GroupSays> = config.group_ids().map(|id| self.says(id)).collect();
        self.said.renew(says.into_iter());
        let echoes = self.view.echoes(&config);
        for groups in self.untold(codec::room(echoes.len())) {
            self.sequence += 1;
            self.out.push(Action::Send(Message {
                cluster_tag: config.cluster_tag,
                sender: config.node(config.me).tag,
                incarnation: self.identity.incarnation,
                sequence: self.sequence,
                sent_at: self.now.0,
                boot: self.identity.boot,
                cluster_digest: config.cluster_digest,
                state: self.said.mark,
                flags: NodeFlags {
                    joined: self.joined,
                    leaving: self.leaving || self.host_stopping,
                    left,
                    standby: self.standby.on,
                },
                maintenance: self.maintenance,
                echoes: echoes.clone(),
                groups,
            }));
        }
    }

    /// What peers lack, in parts that fit into one message each.
    pub(super) fn untold(&mut self, room: usize) -> Vec<Vec<GroupSays>> {
        let newest = self.said.mark.version;
        // Who left is told nothing more; who is new holds nothing.
        let heard = if std::mem::take(&mut self.greet) { Some(0) } else { self.view.held_by_all(PeerState::heard) };
        let heard = heard.unwrap_or(newest);
        // Who is silent may hear all the same, and must learn of a takeover before it is heard again.
        let silent = self.view.held_by_all(|state| matches!(state, PeerState::Lost | PeerState::Unheard));
        let silent = if self.view.is_met_anew() { Some(0) } else { silent };
        let mut all = self.said.since(heard.min(silent.unwrap_or(newest)), room);
        if all.len() == 1 {
            return all;
        }
        // Mostly it is dead: beside what others lack, one part with each heartbeat is enough. By time, which goes on evenly whatever
        // else is said.
        let turn = self.now.0 / self.config.timing.keepalive.as_nanos().max(1) as u64;
        let turn = all.swap_remove((turn % all.len() as u64) as usize);
        let mut parts = self.said.since(heard, room);
        if silent.is_some_and(|silent| silent < heard) {
            parts.push(turn);
        }
        parts.retain(|part| !part.is_empty());
        parts
    }

    fn says(&self, id: GroupId) -> GroupSays {
        let group = self.group(id);
        let record = group.record.map(|record| RecordSays {
            epoch: record.grant.epoch,
            node: self.config.node(record.grant.node).tag,
            boot: record.grant.boot,
            released: record.released,
            heir: record.heir.filter(|_| record.released).map(|heir| self.config.node(heir).tag),
        });
        GroupSays {
            group: self.config.group(id).tag,
            role: group.role(),
            eligible: self.fitness(id, self.config.me) == Fitness::Good,
            banned: group.banned.is_some(),
            record,
            order: group.order,
            config: self.config.group(id).digest,
            parts: group.parts,
            pending: self.pending_digest(id),
            wish: self.wish(id).map(|to| self.config.node(to).tag),
            parked: group.parked,
            contended: self.contended(id),
        }
    }

    /// Somebody who is heard may have something of it, and holds no record that would tell the others.
    fn contended(&self, id: GroupId) -> bool {
        // It could only be whom this node tells it.
        if self.view.peers.len() < 2 {
            return false;
        }
        let holder = self.group(id).record.map(|record| record.grant.node);
        let runs = |holder: &NodeId| match *holder == self.config.me {
            true => matches!(self.group(id).phase, Phase::Running { .. }),
            false => {
                let heard = self.view.peer(*holder).is_some_and(|peer| peer.state.heard());
                heard && self.view.mentions(*holder, id).is_some_and(|says| says.role == Role::Running)
            }
        };
        // While it runs nothing starts: a word that is missing matters to nobody, and there may be hundreds of groups.
        let rests = holder.as_ref().is_some_and(runs);
        let mut others = self.view.peers.iter().filter(|(node, peer)| peer.state.heard() && Some(**node) != holder);
        others.any(|(node, _)| {
            let Some(mentioned) = self.view.mentions(*node, id) else { return false };
            let says = if rests { Some(mentioned) } else { self.view.says(*node, id) };
            says.is_some_and(|says| says.role != Role::Idle)
        })
    }

    fn saved(&self) -> Saved {
        let groups = self.groups.iter().map(|group| {
            let name = self.config.group(group.id).name.clone();
            (name, SavedGroup { record: group.record, order: group.order, parked: group.parked })
        });
        let groups = groups.chain(self.remembered()).collect();
        Saved { groups, maintenance: self.maintenance, standby: self.standby }
    }
}

impl super::group::Group {
    /// Nothing of it is left to be stopped by this node.
    fn at_rest(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Unknown { held: None, op: None, .. }) && self.target.is_none()
    }
}
