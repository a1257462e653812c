//! Whether this node may start a group now: the proof that nobody else runs it, and the question to the network.
//! It must not know how a group is started.
//!
//! A record names one keeper (see [`super::grant::Record`]): only it starts the group without silence, whatever placement says
//! on other nodes. So two nodes that hear each other never both start it, even when their views differ for a moment.
//! Anybody else needs the keeper's silence for a deadtime on all links, and nobody answering for the addresses.

use super::group::Phase;
use super::time::Time;
use super::timers::Timer;
use super::view::{Peer, PeerState};
use super::{Action, Cluster};
use crate::config::model::{GroupId, NodeId};
use crate::wire::Role;
use std::time::Duration;

/// Why the former owner cannot be running the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It never had an owner that anybody heard of.
    Fresh,
    /// The owner said so, for exactly its grant, after every stop was confirmed.
    Release,
    /// Nothing was heard of it for the deadtime, on all links, and nobody answered for its addresses.
    Silence,
}

/// Longest time an answer to an ARP probe is waited for. Neighbours answer within a millisecond.
const ANSWER_MAX: Duration = Duration::from_millis(100);

/// What the network said about a group's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Probing {
    /// Since when it is asked.
    asked: Option<Time>,
    /// The last answer: when, for which address, from whom.
    answer: Option<(Time, usize, [u8; 6])>,
}

/// Whether a group that placement wants here may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Start(Proof),
    /// The ordinary course of things.
    Wait(String),
    /// Something is wrong and an operator should know.
    Blocked(String),
}

impl Cluster {
    pub(super) fn keeper(&self, id: GroupId) -> NodeId {
        let first = self.config.group(id).nodes.first().copied().unwrap_or(self.config.me);
        self.group(id).record.map_or(first, |record| record.keeper())
    }

    pub(super) fn gate(&self, id: GroupId) -> Gate {
        if !self.joined {
            return Gate::Wait("this node is still joining the cluster".into());
        }
        if self.asleep {
            return Gate::Wait("this node was asleep and listens first".into());
        }
        if self.unread || self.now.since(self.read_at) > self.config.timing.keepalive {
            return Gate::Wait("this node was held up and reads first".into());
        }
        let group = self.group(id);
        if !group.guard_checked && !self.config.group(id).members.is_empty() {
            return Gate::Wait("its guards are being checked".into());
        }
        if self.timers.armed(Timer::StartAgain(id)) {
            return Gate::Wait("its last start did not come to an end; it is tried again in a moment".into());
        }
        for (node, peer) in self.view.peers.iter().filter(|(_, peer)| peer.state.heard()) {
            let role = self.view.says(*node, id).map_or(Role::Unknown, |says| says.role);
            let name = &self.config.node(*node).name;
            if !peer.knows_us() {
                return Gate::Wait(format!("{name} does not say that it has heard this node"));
            }
            if peer.last_heard <= self.awake_since {
                return Gate::Wait(format!("{name} was not heard since this node slept"));
            }
            match role {
                Role::Idle => {}
                Role::Unknown => return Gate::Wait(format!("{name} does not say that it is not running it")),
                Role::Stopping => return Gate::Wait(format!("{name} is stopping it")),
                Role::Starting | Role::Running => return Gate::Wait(format!("{name} claims it")),
            }
        }
        let keeper = self.keeper(id);
        let record = self.group(id).record;
        let proof = if keeper == self.config.me {
            if record.is_some() { Proof::Release } else { Proof::Fresh }
        } else {
            let name = &self.config.node(keeper).name;
            match self.view.peer(keeper).map_or(PeerState::Unheard, |peer| peer.state) {
                PeerState::Alive | PeerState::Late => {
                    return Gate::Wait(format!("{name} has it to give or to start"));
                }
                PeerState::Left if record.is_some_and(|record| record.released) => Proof::Release,
                // It left without having said that nothing of it is there.
                PeerState::Left if !self.silent_for_deadtime(keeper) => {
                    return Gate::Wait(format!("{name} left without a release; its silence is waited for"));
                }
                PeerState::Left | PeerState::Lost | PeerState::Unheard => Proof::Silence,
            }
        };
        let group = self.config.group(id);
        let unheard = |node: &NodeId| self.view.peer(*node).is_some_and(|peer| self.may_be_back(peer));
        let slept =
            self.awake_since > Time::default() && self.now.since(self.awake_since) < self.config.timing.deadtime;
        if slept && group.nodes.iter().any(unheard) {
            return Gate::Wait("this node was asleep and listens for a deadtime first".into());
        }
        if group.addresses.is_empty() || (proof != Proof::Silence && !group.nodes.iter().any(unheard)) {
            return Gate::Start(proof);
        }
        self.network_gate(id, proof)
    }

    fn silent_for_deadtime(&self, node: NodeId) -> bool {
        self.view.peer(node).is_none_or(|peer| self.now.since(peer.last_heard) >= self.config.timing.deadtime)
    }

    /// It may run, unheard. A goodbye is good for a moment only: who left may have come back where this node cannot hear it.
    fn may_be_back(&self, peer: &Peer) -> bool {
        match peer.state {
            PeerState::Lost | PeerState::Unheard => true,
            PeerState::Left => {
                peer.last_heard <= self.awake_since || self.now.since(peer.last_heard) >= self.config.timing.warntime
            }
            PeerState::Alive | PeerState::Late => false,
        }
    }

    /// What neighbours answered to the probe.
    fn network_gate(&self, id: GroupId, proof: Proof) -> Gate {
        let probing = &self.group(id).probing;
        let Some(asked) = probing.asked else {
            return Gate::Wait("the network is being asked for its addresses".into());
        };
        if self.now.since(asked) < self.answer_wait() {
            return Gate::Wait("the network is being asked for its addresses".into());
        }
        match probing.answer {
            Some((at, index, mac)) if self.now.since(at) < self.config.timing.deadtime => {
                let address = self.config.group(id).addresses[index].address;
                let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
                Gate::Blocked(format!(
                    "{address} answers from {mac}: a host that is not heard is alive and has it; mend the heartbeat links, \
                     or switch that host off"
                ))
            }
            _ => Gate::Start(proof),
        }
    }

    fn answer_wait(&self) -> Duration {
        let timing = &self.config.timing;
        ((timing.deadtime.saturating_sub(timing.warntime)) / 2).min(ANSWER_MAX)
    }

    /// Asks the network from warntime on, every keepalive, for what this node may have to take.
    pub(super) fn probe(&mut self, id: GroupId) {
        if !self.probe_wanted(id) {
            if self.group(id).probing != Probing::default() {
                self.group_mut(id).probing = Probing::default();
                self.timers.disarm(Timer::Probe(id));
                self.timers.disarm(Timer::ProbeAnswer(id));
            }
            return;
        }
        if self.timers.armed(Timer::Probe(id)) {
            return;
        }
        self.out.push(Action::Probe { group: id });
        self.timers.arm(Timer::Probe(id), self.now + self.config.timing.keepalive);
        let now = self.now;
        if self.group(id).probing.asked.is_none() {
            self.group_mut(id).probing.asked = Some(now);
            self.timers.arm(Timer::ProbeAnswer(id), now + self.answer_wait());
        }
    }

    fn probe_wanted(&self, id: GroupId) -> bool {
        let group = self.group(id);
        let config = self.config.group(id);
        let idle = group.phase == Phase::Idle && group.banned.is_none();
        let here = (idle || self.just_started(id)) && config.nodes.contains(&self.config.me);
        let join_near = self.joined || self.initdead_at.is_some_and(|at| self.now + self.config.timing.deadtime >= at);
        let silent =
            self.view.peers.iter().any(|(node, peer)| config.nodes.contains(node) && peer.state != PeerState::Alive);
        // Without carrier nobody can answer: what was asked then tells nothing later.
        let carrier = config.interfaces.iter().all(|name| self.view.interfaces.get(name) == Some(&true));
        here && carrier && !group.order.stopped && !config.addresses.is_empty() && join_near && silent && !self.leaving
    }

    /// Two nodes that do not hear each other may take a group in the same moment, each before the other answered: for a deadtime
    /// after its start the network is asked on.
    fn just_started(&self, id: GroupId) -> bool {
        let group = self.group(id);
        group.claim().is_some() && self.now.since(group.started) < self.config.timing.deadtime
    }

    /// Somebody answers for an address of a group that this node has just started. Of the two, the one that stands first in
    /// `nodes` keeps it: both reckon alike, without hearing each other.
    pub(super) fn met_on_the_network(&self, id: GroupId) -> Option<String> {
        let (_, index, mac) = self.group(id).probing.answer.filter(|_| self.just_started(id))?;
        let first = |node: &NodeId| *node < self.config.me;
        let unheard = |node: &NodeId| self.view.peer(*node).is_some_and(|peer| self.may_be_back(peer));
        let other = self.config.group(id).nodes.iter().find(|node| first(node) && unheard(node))?;
        let address = self.config.group(id).addresses[index].address;
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        let name = &self.config.node(*other).name;
        Some(format!("{address} answers from {mac}: {name}, which is not heard, took it in the same moment"))
    }

    /// This node was late: answers may have been missed, so the network is asked anew before it is believed to be silent.
    pub(super) fn ask_again(&mut self) {
        for id in self.config.clone().group_ids() {
            self.group_mut(id).probing.asked = None;
            self.timers.disarm(Timer::Probe(id));
        }
    }

    /// When this node, still joining, begins to ask.
    pub(super) fn next_probe(&self) -> Option<Time> {
        let at = self.initdead_at.filter(|_| !self.joined)? - self.config.timing.deadtime;
        (at > self.now).then_some(at)
    }

    /// Whether answers of the network may matter in this round.
    pub fn is_probing(&self) -> bool {
        self.groups.iter().any(|group| group.probing.asked.is_some())
    }

    pub(super) fn probe_answered(&mut self, id: GroupId, index: usize, mac: [u8; 6]) {
        let now = self.now;
        if self.group(id).probing.asked.is_none() {
            return;
        }
        self.group_mut(id).probing.answer = Some((now, index, mac));
        self.timers.arm(Timer::ProbeAnswer(id), now + self.config.timing.deadtime);
    }
}
