//! What this node tells its peers and keeps on disk, and how it takes its leave. It must not know how either is carried out.

use super::group::Phase;
use super::placement::Fitness;
use super::timers::Timer;
use super::view::PeerState;
use super::{Action, Change, Cluster, Saved, SavedGroup};
use crate::config::model::GroupId;
use crate::wire::{GroupSays, Message, NodeFlags, RecordSays};
use std::time::Duration;

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
                || self.groups.iter().all(|group| {
                    let Some(mine) = group.record.filter(|record| record.grant.node == self.config.me) else {
                        return true;
                    };
                    let theirs = self.view.says(*node, group.id).and_then(|says| says.record);
                    theirs.is_some_and(|theirs| theirs == mine || theirs.supersedes(&mine))
                })
        })
    }

    fn send(&mut self, left: bool) {
        self.sequence += 1;
        let config = self.config.clone();
        let says = config.group_ids().map(|id| self.says(id));
        let message = Message {
            cluster_tag: config.cluster_tag,
            sender: config.node(config.me).tag,
            incarnation: self.identity.incarnation,
            sequence: self.sequence,
            sent_at: self.now.0,
            boot: self.identity.boot,
            cluster_digest: config.cluster_digest,
            groups_digest: config.groups_digest,
            flags: NodeFlags { joined: self.joined, leaving: self.leaving || self.host_stopping, left },
            echoes: self.view.echoes(&config),
            groups: says.collect(),
        };
        self.out.push(Action::Send(message));
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
        }
    }

    fn saved(&self) -> Saved {
        let groups = self.groups.iter().map(|group| {
            let name = self.config.group(group.id).name.clone();
            (name, SavedGroup { record: group.record, order: group.order })
        });
        Saved { groups: groups.collect() }
    }
}

impl super::group::Group {
    /// Nothing of it is left to be stopped by this node.
    fn at_rest(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Unknown { held: None, op: None, .. }) && self.target.is_none()
    }
}
