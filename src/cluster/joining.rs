//! How this node joins: its links, what it waits for before it may start anything, and a name that somebody else uses too.
//! It must not know groups.

use super::Cluster;
use super::report::Change;
use super::timers::Timer;
use super::view::PeerState;
use crate::config::model::LinkId;
use std::time::Duration;

/// Another daemon under this node's name is told of so often.
const NAME_TAKEN_AGAIN: Duration = Duration::from_secs(60);

impl Cluster {
    /// A network that reaches everyone brings it with each of the other's heartbeats, or whenever somebody replays one.
    pub(super) fn name_taken(&mut self) {
        let told = self.name_taken.is_some_and(|at| self.now.since(at) < NAME_TAKEN_AGAIN);
        if !told {
            self.name_taken = Some(self.now);
            self.report(Change::NameTaken { node: self.config.me });
        }
    }

    pub(super) fn link(&mut self, link: LinkId, usable: bool) {
        if self.view.links.insert(link, usable) == Some(usable) {
            return;
        }
        self.link_since.insert(link, self.now);
        self.report(if usable { Change::LinkUsable { link } } else { Change::LinkUnusable { link } });
        if usable {
            self.speak = true;
            self.count_initdead();
        }
    }

    /// From the first carrier, of a link or of a service interface: a direct cable to a peer without power has none.
    pub(super) fn count_initdead(&mut self) {
        if self.initdead_at.is_none() && !self.joined {
            let at = self.now + self.config.timing.initdead;
            self.initdead_at = Some(at);
            self.timers.arm(Timer::Initdead, at);
        }
    }

    pub(super) fn join(&mut self) {
        if self.joined || self.died {
            return;
        }
        let answered = |state: PeerState| state.heard() || state == PeerState::Left;
        if self.view.peers.values().all(|peer| answered(peer.state)) {
            self.finish_join(false);
        }
    }

    pub(super) fn finish_join(&mut self, alone: bool) {
        self.joined = true;
        self.speak = true;
        self.timers.disarm(Timer::Initdead);
        self.report(Change::Joined { alone });
    }
}
