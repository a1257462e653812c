//! Whether this node may start a group now: the proof that nobody else runs it, and the question to the network.
//! It must not know how a group is started.
//!
//! A record names one keeper (see [`super::grant::Record`]): only it starts the group without silence, whatever placement says
//! on other nodes. So two nodes that hear each other never both start it, even when their views differ for a moment.
//! Anybody else needs the keeper's silence for a deadtime on all links, and nobody answering for the addresses.

use super::group::Phase;
use super::time::Time;
use super::timers::Timer;
use super::view::PeerState;
use super::{Action, Cluster, Grant, Record};
use crate::config::model::{GroupId, NodeId};
use crate::wire::Role;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Why the former owner cannot be running the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// A peer that is heard and has shown for so many deadtimes that it does not hear this node is no longer asked what it knows. Its
/// word comes later than a deadtime where the packets' way is long.
const DEAF: u32 = 4;

/// What the network said about a group's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Probing {
    /// Since when it is asked.
    asked: Option<Time>,
    /// The last answer: when, for which address, from whom.
    answer: Option<(Time, usize, [u8; 6])>,
    /// Why it could not be asked, the last time.
    failed: Option<String>,
}

impl Probing {
    /// For which address somebody answered.
    pub(super) fn answered(&self) -> Option<usize> {
        self.answer.map(|(_, index, _)| index)
    }
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
        if let Some(reason) = self.own_wait(id).or_else(|| self.peers_wait(id)) {
            return Gate::Wait(reason);
        }
        let proof = match self.proof(id) {
            Ok(proof) => proof,
            Err(reason) => return Gate::Wait(reason),
        };
        let group = self.config.group(id);
        // Whoever it is: an owner that the files left out of Nodes= keeps the group as long as it hears nobody.
        let unheard = self.view.peers.keys().any(|node| self.may_be_back(id, *node));
        let slept =
            self.awake_since > Time::default() && self.now.since(self.awake_since) < self.config.timing.deadtime;
        if slept && unheard {
            return Gate::Wait("this node was asleep and listens for a deadtime first".into());
        }
        // A release needs no further question. But who answered a moment ago may have taken it meanwhile, and not be heard saying so
        // yet: also the one who gave it, whose word may have been on its way for longer than his answer.
        let released = proof == Proof::Release && !unheard && !self.answered_lately(id);
        if group.addresses.is_empty() || released {
            return Gate::Start(proof);
        }
        self.network_gate(id, proof)
    }

    /// What of this node's own is not ready yet.
    fn own_wait(&self, id: GroupId) -> Option<String> {
        if self.maintenance.on && !self.was_given(id) {
            return Some("maintenance is on".into());
        }
        if !self.joined {
            return Some("this node is still joining the cluster".into());
        }
        if self.asleep {
            return Some("this node was asleep and listens first".into());
        }
        if self.has_unread() || self.now.since(self.read_at) > self.config.timing.keepalive {
            return Some("this node was held up and reads first".into());
        }
        if self.being_noted(id) {
            return Some("its new configuration is being written down".into());
        }
        if !self.group(id).guard_checked && !self.config.group(id).members.is_empty() {
            return Some("its guards are being checked".into());
        }
        None
    }

    /// Whether somebody who is heard, or has just left, does not say that nothing of the group is there.
    fn peers_wait(&self, id: GroupId) -> Option<String> {
        for (node, peer) in self.view.peers.iter().filter(|(_, peer)| peer.state.heard()) {
            let role = self.view.says(*node, id).map_or(Role::Unknown, |says| says.role);
            let name = &self.config.node(*node).name;
            if !peer.knows_us() {
                return Some(format!("{name} does not say that it has heard this node"));
            }
            if peer.last_heard <= self.awake_since {
                return Some(format!("{name} was not heard since this node slept"));
            }
            match role {
                Role::Idle => {}
                Role::Unknown => return Some(format!("{name} does not say that it is not running it")),
                Role::Stopping => return Some(format!("{name} is stopping it")),
                Role::Starting | Role::Running => return Some(format!("{name} claims it")),
            }
        }
        if let Some(reason) = self.held_elsewhere(id) {
            return Some(reason);
        }
        let open = |node: &&NodeId| self.left_unsaid(id, **node) && !self.silent_for_deadtime(**node);
        let name = &self.config.node(*self.view.peers.keys().find(open)?).name;
        Some(format!("{name} left without saying that it does not run it; its silence is waited for"))
    }

    /// Why the keeper cannot be running it, or what that waits for.
    fn proof(&self, id: GroupId) -> Result<Proof, String> {
        let (keeper, record) = (self.keeper(id), self.group(id).record);
        if keeper == self.config.me {
            return Ok(if record.is_some() { Proof::Release } else { Proof::Fresh });
        }
        let name = &self.config.node(keeper).name;
        match self.view.peer(keeper).map_or(PeerState::Unheard, |peer| peer.state) {
            // It let go of the group, may not have it again, and can give it to nobody: it does not hear this node.
            PeerState::Alive | PeerState::Late if self.given_up(id, keeper) => Ok(Proof::Silence),
            PeerState::Alive | PeerState::Late => Err(format!("{name} has it to give or to start")),
            _ if let Some(by) = self.view.heard_by(keeper, self.read_at, &self.config.timing) => {
                Err(format!("{} still hears {name}, which has it", self.config.node(by).name))
            }
            PeerState::Lost | PeerState::Unheard => Ok(Proof::Silence),
            PeerState::Left if self.left_unsaid(id, keeper) => Ok(Proof::Silence),
            // What somebody gave it after its last word it may have come back for.
            PeerState::Left if record.is_some_and(|record| record.released && self.said_last(id, keeper, &record)) => {
                Ok(Proof::Release)
            }
            // It left without having said that nothing of it is there.
            PeerState::Left if !self.silent_for_deadtime(keeper) => {
                Err(format!("{name} left without a release; its silence is waited for"))
            }
            PeerState::Left => Ok(Proof::Silence),
        }
    }

    pub(super) fn said_last(&self, id: GroupId, node: NodeId, record: &Record) -> bool {
        self.view.says(node, id).is_some_and(|says| says.record == Some(*record))
    }

    /// Somebody has something of the group who may not be heard here himself: by the word of one who is, and who hears him.
    fn held_elsewhere(&self, id: GroupId) -> Option<String> {
        // Of two nodes, one could only speak of the other.
        if self.view.peers.len() < 2 {
            return None;
        }
        let name = |node: NodeId| &self.config.node(node).name;
        let mine = self.group(id).record.map(|record| record.grant);
        for (node, peer) in self.view.peers.iter().filter(|(_, peer)| peer.state.heard()) {
            let Some(says) = self.view.mentions(*node, id) else { continue };
            if says.contended {
                return Some(format!("{} hears another node that has something of it", name(*node)));
            }
            // Of the grant that is known here it is known here whether it was released.
            let owned = says.record.filter(|record| !record.released && Some(record.grant) != mine);
            let owner = owned.map(|record| record.grant.node).filter(|it| *it != self.config.me && it != node);
            if let Some(owner) = owner.filter(|owner| peer.hears_still(*owner, self.read_at, &self.config.timing)) {
                return Some(format!("{} hears {}, which owns it", name(*node), name(owner)));
            }
        }
        None
    }

    fn silent_for_deadtime(&self, node: NodeId) -> bool {
        self.view.peer(node).is_none_or(|peer| self.read_at.since(peer.last_heard) >= self.config.timing.deadtime)
    }

    /// It said goodbye, but not that nothing of the group is there.
    fn left_unsaid(&self, id: GroupId, node: NodeId) -> bool {
        let left = self.view.peer(node).is_some_and(|peer| peer.state == PeerState::Left);
        left && self.view.says(node, id).is_none_or(|says| says.role != Role::Idle)
    }

    /// It released the group, is banned from it, and has not heard this node for a deadtime. Whom it may give the group to is heard here.
    fn given_up(&self, id: GroupId, node: NodeId) -> bool {
        let gives = |to: &NodeId| {
            let hears = self.view.peer(node).is_some_and(|it| it.hears_still(*to, self.read_at, &self.config.timing));
            hears && *to != self.config.me && self.view.peer(*to).is_none_or(|peer| peer.state != PeerState::Alive)
        };
        if self.config.group(id).nodes.iter().any(gives) {
            return false;
        }
        let banned =
            self.view.says(node, id).is_some_and(|says| self.still_banned(id, says) && says.role == Role::Idle);
        let deaf = self.view.peer(node).is_some_and(|peer| peer.deaf_for(self.read_at) >= self.config.timing.deadtime);
        banned && deaf && self.group(id).record.is_some_and(|record| record.released)
    }

    /// It may run the group, unheard. A goodbye is good for a moment only: who left may have come back where this node cannot
    /// hear it.
    fn may_be_back(&self, id: GroupId, node: NodeId) -> bool {
        let Some(peer) = self.view.peer(node) else { return false };
        match peer.state {
            PeerState::Lost | PeerState::Unheard => true,
            PeerState::Left if self.left_unsaid(id, node) => true,
            PeerState::Left => {
                peer.last_heard <= self.awake_since || self.now.since(peer.last_heard) >= self.config.timing.warntime
            }
            PeerState::Alive | PeerState::Late => false,
        }
    }

    /// Where the keeper is silent, several nodes that hear each other may each have the proof. So the grant comes first: nothing is
    /// put up before every node that may own the group, and is heard, shows that it knows of it, and that neither it nor any whom
    /// it hears has anything of it. Of two grants the higher one is shown by all. One that does not hear this node starts the group,
    /// if at all, by silence. Answers with what a start waits for.
    pub(super) fn not_shown(&self, id: GroupId, grant: &Grant) -> Option<String> {
        if !self.group(id).announced_first {
            return None;
        }
        let nodes = &self.config.group(id).nodes;
        let mut asked = self.view.peers.iter().filter(|(_, peer)| {
            let deaf_for = peer.deaf_for(self.read_at).min(self.read_at.since(peer.heard_since));
            let hears = deaf_for < self.config.timing.deadtime * DEAF;
            peer.state.heard() && hears && (peer.groups.contains_key(&id) || !peer.told_all())
        });
        let knows = |node: &NodeId| {
            self.view.says(*node, id).is_some_and(|says| {
                let shown = says.record.is_some_and(|record| record.grant == *grant);
                says.role == Role::Idle && (shown || !nodes.contains(node))
            })
        };
        let name = |node: &NodeId| &self.config.node(*node).name;
        let shows = |node| format!("{} does not show yet that it knows of that and has nothing of it", name(node));
        asked.find(|(node, _)| !knows(node)).map(|(node, _)| shows(node)).or_else(|| self.held_elsewhere(id))
    }

    /// What neighbours answered to the probe. An answer may wait that came since this round began to read: its beginning counts.
    fn network_gate(&self, id: GroupId, proof: Proof) -> Gate {
        let probing = &self.group(id).probing;
        match probing.answer.filter(|_| self.answered_lately(id)) {
            Some((_, index, mac)) => {
                let address = self.config.group(id).addresses[index].address;
                let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
                Gate::Blocked(format!(
                    "{address} answers from {mac}: a host that is not heard, or is not of this cluster, has it; mend the \
                     heartbeat links, or switch that host off"
                ))
            }
            None if probing.asked.is_some_and(|asked| self.read_at.since(asked) >= self.answer_wait()) => {
                Gate::Start(proof)
            }
            None => Gate::Wait(match &probing.failed {
                Some(reason) => format!("the network cannot be asked for its addresses: {reason}"),
                None => "the network is being asked for its addresses".into(),
            }),
        }
    }

    /// Somebody answered for an address within the last deadtime.
    pub(super) fn answered_lately(&self, id: GroupId) -> bool {
        self.group(id).probing.answer.is_some_and(|(at, ..)| self.read_at.since(at) < self.config.timing.deadtime)
    }

    fn answer_wait(&self) -> Duration {
        let timing = &self.config.timing;
        ((timing.deadtime.saturating_sub(timing.warntime)) / 2).min(ANSWER_MAX)
    }

    /// Asks the network from warntime on, every keepalive, for what this node may have to take.
    pub(super) fn probe(&mut self, id: GroupId) {
        if !self.probe_wanted(id) {
            // An answer counts for its deadtime.
            let probing = &mut self.group_mut(id).probing;
            if probing.failed.take().is_some() | probing.asked.take().is_some() {
                self.timers.disarm(Timer::Probe(id));
            }
            return;
        }
        if self.timers.armed(Timer::Probe(id)) {
            return;
        }
        self.out.push(Action::Probe { group: id });
        self.timers.arm(Timer::Probe(id), self.now + self.config.timing.keepalive);
        self.group_mut(id).probing.failed = None;
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
        let mut peers = self.view.peers.iter();
        let silent = peers.any(|(node, peer)| peer.state != PeerState::Alive || self.given_up(id, *node));
        // While one that is heard has it nothing starts here, and its own answers would tell nothing.
        let claimed = self.view.peers.iter().any(|(node, peer)| {
            peer.state == PeerState::Alive && self.view.mentions(*node, id).is_some_and(|says| says.role != Role::Idle)
        });
        // Before its first start somebody may have the address who knows nothing of this cluster.
        let asks = !claimed && (silent || group.record.is_none());
        // Without carrier nobody can answer: what was asked then tells nothing later.
        let carrier = group.no_place.is_none() && self.interface_down(id).is_none();
        here && carrier && !group.order.stopped && !config.addresses.is_empty() && join_near && asks && !self.leaving
    }

    /// Two nodes that do not hear each other may take a group in the same moment, each before the other answered: for a deadtime
    /// after its start the network is asked on.
    fn just_started(&self, id: GroupId) -> bool {
        let group = self.group(id);
        group.claim().is_some() && self.now.since(group.started) < self.config.timing.deadtime
    }

    /// Somebody answers for an address of a group that this node has just started. Of the two, the one whose name comes
    /// first keeps it: both reckon alike, without hearing each other.
    pub(super) fn met_on_the_network(&self, id: GroupId) -> Option<String> {
        let (_, index, mac) = self.group(id).probing.answer.filter(|_| self.just_started(id))?;
        let first = |node: &NodeId| *node < self.config.me;
        let unheard = |node: &NodeId| self.may_be_back(id, *node);
        let other = self.config.group(id).nodes.iter().find(|node| first(node) && unheard(node))?;
        let address = self.config.group(id).addresses[index].address;
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        let name = &self.config.node(*other).name;
        Some(format!("{address} answers from {mac}: {name}, which is not heard, took it in the same moment"))
    }

    /// Of three, two may let go of it at once, each for a third one that is off. They try again one after the other.
    pub(super) fn meet_in_turn(&mut self, id: GroupId) {
        let nodes = &self.config.group(id).nodes;
        if nodes.len() < 3 || self.met_on_the_network(id).is_none() {
            return;
        }
        let turn = nodes.iter().position(|node| *node == self.config.me).unwrap_or_default();
        let timing = &self.config.timing;
        let wait = timing.deadtime + timing.keepalive * 2 * turn as u32;
        self.timers.arm(Timer::StartAgain(id), self.now + wait);
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

    /// Who was not asked cannot have kept silent: the wait for an answer begins with the next question.
    pub(super) fn probe_failed(&mut self, id: GroupId, reason: String) {
        let probing = &mut self.group_mut(id).probing;
        (probing.asked, probing.failed) = (None, Some(reason));
        self.timers.disarm(Timer::ProbeAnswer(id));
    }

    pub(super) fn probe_answered(&mut self, id: GroupId, index: usize, mac: [u8; 6]) {
        let now = self.now;
        if self.has_its_addresses(id) {
            self.address_claimed(id, index, mac);
        }
        let probing = &self.group(id).probing;
        if probing.asked.is_none() && probing.failed.is_none() {
            return;
        }
        self.group_mut(id).probing.answer = Some((now, index, mac));
        self.timers.arm(Timer::ProbeAnswer(id), now + self.config.timing.deadtime);
    }
}
