//! What this node has heard: peers, links, service interfaces. It must not know groups' states here or decide anything.
//!
//! A message counts only if it echoes this node's own incarnation, for then its sender heard us since we started. One that does
//! not makes us echo its incarnation, nothing else. Within an incarnation the sequence rises. Of two incarnations the one that
//! has heard more of us counts, for only the living one hears what we say now: so a recorded packet changes nothing, whatever
//! was restarted since, and late words of a run that is over deafen us for a moment at most.

use super::grant::{BootId, Incarnation, Maintenance};
use super::report::Change;
use super::time::Time;
pub(super) use super::told::PeerGroup;
use crate::config::model::{Config, GroupId, LinkId, NodeId, Timing};
use crate::wire::{Echo, Message, Role};
use said::Said;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

mod agree;
mod said;

/// Incarnations of a peer that are echoed without having echoed us.
const CANDIDATES_MAX: usize = 2;
/// Most echoes in a message, so that every kind of message fits: each peer's, then candidates.
const ECHOES_MAX: usize = 40;
/// How far behind the newest sequence a message may be and still show that its link works.
const LINK_WINDOW: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PeerState {
    /// Not heard since this daemon started.
    Unheard,
    Alive,
    /// Silent for longer than warntime.
    Late,
    /// Silent for longer than deadtime, on all links.
    Lost,
    /// It said goodbye.
    Left,
}

impl PeerState {
    /// Heard lately enough to be asked and believed.
    pub fn heard(self) -> bool {
        matches!(self, PeerState::Alive | PeerState::Late)
    }
}

/// The incarnation of a peer that counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Current {
    incarnation: Incarnation,
    sequence: u64,
    /// The newest of our own sequences that it has echoed.
    echoed: u64,
    /// When that rose last: since then it may not have heard this node.
    risen: Time,
    /// The version of this node's groups that it holds whole.
    holds: u32,
    said: Said,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    pub state: PeerState,
    pub last_heard: Time,
    /// When its present run was heard for the first time, or again after its silence: before that it could show nothing.
    pub heard_since: Time,
    /// The last message that any link brought for the first time, news or not.
    last_copy: Time,
    /// Own lateness since it was last heard: its silence was partly ours.
    pub lateness: Duration,
    pub boot: Option<BootId>,
    pub joined: bool,
    pub leaving: bool,
    pub agrees: Option<(bool, bool)>,
    pub maintenance: Maintenance,
    pub standby: bool,
    pub(super) groups: BTreeMap<GroupId, PeerGroup>,
    current: Option<Current>,
    /// Our own newest sequence when this incarnation was first heard: before it echoes a later one, it may not know us.
    greeted: u64,
    /// The newest message was the first of a new incarnation.
    restarted: bool,
    candidates: Vec<(Incarnation, u64)>,
    pub links: BTreeMap<LinkId, PeerLink>,
    /// What it last showed to have heard of the other nodes.
    hears: BTreeMap<NodeId, Relayed>,
}

/// What one peer showed to have heard of another.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Relayed {
    incarnation: Incarnation,
    sequence: u64,
    /// When that rose last.
    risen: Option<Time>,
}

/// One peer on one link.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PeerLink {
    pub last_heard: Option<Time>,
    pub silent: bool,
    pub received: u64,
    pub duplicates: u64,
    pub lost: u64,
    /// Messages that do not echo this node, and when the last one came.
    pub strangers: u64,
    pub stranger_at: Option<Time>,
    highest: u64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Heard {
    /// New: the view changed.
    News(NodeId),
    /// Known from another link: shows only that this link works.
    Duplicate,
    /// The sender has not heard this incarnation yet. `new`: it was not echoed before.
    Stranger { new: bool },
    /// Old, or of an incarnation that is over.
    Replay,
    /// Not a node of this configuration.
    UnknownSender,
    /// This node's own name, from another daemon.
    OwnName,
    /// This daemon's own message, which a network gave back.
    OwnCopy,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    /// The end of this node's last sleep: no silence counts from before it.
    woke: Time,
    pub peers: BTreeMap<NodeId, Peer>,
    pub links: BTreeMap<LinkId, bool>,
    /// Carrier of the service interfaces. One that was never reported has none.
    pub interfaces: BTreeMap<String, bool>,
    /// What this node's own files say of groups that run otherwise.
    pending: BTreeMap<GroupId, u32>,
}

impl View {
    pub fn new(config: &Config, now: Time) -> View {
        let peer = || Peer {
            state: PeerState::Unheard,
            last_heard: now,
            heard_since: now,
            last_copy: now,
            lateness: Duration::ZERO,
            boot: None,
            joined: false,
            leaving: false,
            agrees: None,
            maintenance: Maintenance::default(),
            standby: false,
            groups: BTreeMap::new(),
            current: None,
            greeted: 0,
            restarted: false,
            candidates: Vec::new(),
            links: config.link_ids().map(|link| (link, PeerLink::default())).collect(),
            hears: BTreeMap::new(),
        };
        View {
            woke: Time::default(),
            peers: config.peers().map(|node| (node, peer())).collect(),
            links: config.link_ids().map(|link| (link, false)).collect(),
            interfaces: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }

    pub fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.peers.get(&node)
    }

    /// What a peer that is heard says of a group. As long as some of what it said last did not come here, it may have said of any
    /// group that it is no longer idle.
    pub fn says(&self, node: NodeId, group: GroupId) -> Option<PeerGroup> {
        let peer = self.peers.get(&node)?;
        let says = peer.groups.get(&group).copied().unwrap_or(PeerGroup::UNMENTIONED);
        let stale = says.role == Role::Idle && !peer.told_all();
        Some(if stale { PeerGroup { role: Role::Unknown, ..says } } else { says })
    }

    /// The oldest version of this node's groups that a peer in such a state holds whole.
    pub fn held_by_all(&self, such: fn(PeerState) -> bool) -> Option<u32> {
        let peers = self.peers.values().filter(|peer| such(peer.state));
        peers.map(|peer| peer.current.as_ref().map_or(0, |current| current.holds)).min()
    }

    /// A peer that is not heard speaks anew, and has not shown yet that it hears this node: it holds nothing.
    pub fn is_met_anew(&self) -> bool {
        self.peers.values().any(|peer| !peer.state.heard() && !peer.candidates.is_empty())
    }

    /// Own lateness is added to every peer's silence, at most one deadtime of it.
    pub fn late(&mut self, lateness: Duration, deadtime: Duration) {
        for peer in self.peers.values_mut() {
            peer.lateness = (peer.lateness + lateness).min(deadtime);
            // Meanwhile this node said nothing that it could have shown to have heard.
            if let Some(current) = &mut peer.current {
                current.risen = current.risen + lateness;
            }
        }
    }

    /// This node slept: what was said meanwhile is lost, so every peer has a whole deadtime from now on.
    pub fn slept(&mut self, now: Time) {
        self.woke = now;
        for peer in self.peers.values_mut() {
            peer.lateness = Duration::ZERO;
            // It said nothing either, so nobody could show that he heard.
            if let Some(current) = &mut peer.current {
                current.risen = now;
            }
        }
    }

    pub fn echoes(&self, config: &Config) -> Vec<Echo> {
        let tag = |node: &NodeId| config.node(*node).tag;
        let current = self.peers.iter().filter_map(|(node, peer)| {
            let current = peer.current.as_ref()?;
            let (incarnation, sequence, holds) = (current.incarnation, current.sequence, current.said.version);
            Some(Echo { node: tag(node), incarnation, sequence, holds })
        });
        let candidates = self.peers.iter().flat_map(|(node, peer)| {
            peer.candidates.iter().map(|(incarnation, sequence)| {
                let (incarnation, sequence) = (*incarnation, *sequence);
                Echo { node: tag(node), incarnation, sequence, holds: 0 }
            })
        });
        current.chain(candidates).take(ECHOES_MAX).collect()
    }

    /// Takes a message in. `mine` is this node's incarnation and its newest sequence.
    pub fn hear(
        &mut self,
        now: Time,
        config: &Config,
        mine: (Incarnation, u64),
        link: LinkId,
        message: &Message,
        changes: &mut Vec<Change>,
    ) -> Heard {
        let Some(node) = config.node_by_tag(message.sender) else {
            return Heard::UnknownSender;
        };
        let Some(peer) = self.peers.get_mut(&node) else {
            return if message.incarnation == mine.0 { Heard::OwnCopy } else { Heard::OwnName };
        };
        let own = config.node(config.me).tag;
        let echoed = message
            .echoes
            .iter()
            .find(|echo| echo.node == own && echo.incarnation == mine.0 && echo.sequence <= mine.1);
        let heard = peer.place(now, node, message, echoed, mine.1);
        if let (Heard::Stranger { .. }, Some(on)) = (heard, peer.links.get_mut(&link)) {
            on.strangers += 1;
            on.stranger_at = Some(now);
        }
        if matches!(heard, Heard::News(_) | Heard::Duplicate) {
            let first = peer.note_link(now, node, link, message.sequence, changes);
            if first {
                peer.last_copy = now;
            }
        }
        if let Heard::News(_) = heard {
            if peer.take(now, node, config, message, changes) {
                peer.compare_files(
                    node,
                    config,
                    &self.pending,
                    message.cluster_digest == config.cluster_digest,
                    changes,
                );
            }
            return Heard::News(node);
        }
        heard
    }

    /// Notices silence: warntime, deadtime, and links that a peer no longer uses.
    pub fn expire(&mut self, now: Time, timing: &Timing, changes: &mut Vec<Change>) {
        for (node, peer) in &mut self.peers {
            let silence = now.since(peer.silent_since(self.woke));
            if peer.state == PeerState::Alive && silence >= timing.warntime {
                peer.state = PeerState::Late;
                changes.push(Change::NodeLate { node: *node, interval: now.since(peer.last_heard) });
            }
            if peer.state == PeerState::Late && silence >= timing.deadtime {
                peer.state = PeerState::Lost;
                changes.push(Change::NodeLost { node: *node, silence: now.since(peer.last_heard) });
            }
            for (link, on) in &mut peer.links {
                let Some(last) = on.last_heard else { continue };
                if !on.silent
                    && peer.state != PeerState::Left
                    && now.since(last.max(self.woke) + peer.lateness) >= timing.deadtime
                {
                    on.silent = true;
                    changes.push(Change::LinkSilent { link: *link, peer: *node, silence: now.since(last) });
                }
            }
        }
    }

    /// A peer that still hears `node`; or, of one that left, a later run of it.
    pub fn heard_by(&self, node: NodeId, now: Time, timing: &Timing) -> Option<NodeId> {
        let left = self.peers.get(&node).filter(|it| it.state == PeerState::Left);
        let left = left.and_then(|it| it.current.as_ref()).map(|current| current.incarnation);
        let again = |by: &Peer| left.is_none() || by.hears.get(&node).map(|heard| heard.incarnation) != left;
        let by = self.peers.iter().find(|(_, peer)| peer.hears_still(node, now, timing) && again(peer));
        by.map(|(by, _)| *by)
    }

    /// When `expire` has something to do next, or what others heard of a peer is over.
    pub fn next_silence(&self, now: Time, timing: &Timing) -> Option<Time> {
        let peers = self.peers.values().filter_map(|peer| match peer.state {
            PeerState::Alive => Some(peer.silent_since(self.woke) + timing.warntime),
            PeerState::Late => Some(peer.silent_since(self.woke) + timing.deadtime),
            _ => None,
        });
        let links = self.peers.values().filter(|peer| peer.state != PeerState::Left).flat_map(|peer| {
            let waiting = peer.links.values().filter(|on| !on.silent);
            waiting.filter_map(|on| Some(on.last_heard?.max(self.woke) + peer.lateness + timing.deadtime))
        });
        // Of one that this node hears, its own ears tell more.
        let unheard = |node: &NodeId| self.peers.get(node).is_some_and(|peer| !peer.state.heard());
        let relayed = self.peers.values().flat_map(|peer| &peer.hears).filter(|(node, _)| unheard(node));
        let over = timing.deadtime.saturating_sub(timing.keepalive);
        let relayed = relayed.filter_map(|(_, heard)| Some(heard.risen? + over)).filter(|at| *at > now);
        peers.chain(links).chain(relayed).min()
    }
}

impl Peer {
    /// It has heard this node since it was first heard itself. Until then it may act as if this node were not there.
    pub fn knows_us(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.echoed > self.greeted)
    }

    /// By what it echoed within the deadtime but a keepalive: so long ago at least was what it echoes. Until its own silence is sure
    /// its last word of it stands.
    pub fn hears_still(&self, node: NodeId, now: Time, timing: &Timing) -> bool {
        let until = if self.state.heard() { self.last_heard } else { now };
        let lately = |at: Time| until.since(at) < timing.deadtime.saturating_sub(timing.keepalive);
        self.hears.get(&node).and_then(|heard| heard.risen).is_some_and(lately)
    }

    /// How long it has shown no sign of hearing this node.
    pub fn deaf_for(&self, now: Time) -> Duration {
        self.current.as_ref().map_or(Duration::ZERO, |current| now.since(current.risen))
    }

    /// The version of this node's groups that it holds whole.
    pub fn holds(&self) -> u32 {
        self.current.as_ref().map_or(0, |current| current.holds)
    }

    /// All that it said last of its groups came here.
    pub fn told_all(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.said.whole)
    }

    /// Decides what a message is, and moves on to a new incarnation where it shows one.
    fn place(&mut self, now: Time, node: NodeId, message: &Message, echo: Option<&Echo>, newest: u64) -> Heard {
        self.restarted = false;
        let sequence = message.sequence;
        match &mut self.current {
            Some(current) if current.incarnation == message.incarnation => {
                let Some(echo) = echo else { return Heard::Replay };
                if sequence > current.sequence {
                    current.sequence = sequence;
                    current.holds = echo.holds;
                    if echo.sequence > current.echoed {
                        current.echoed = echo.sequence;
                        current.risen = now;
                    }
                    return Heard::News(node);
                }
                let near = sequence.saturating_add(LINK_WINDOW) > current.sequence;
                if near { Heard::Duplicate } else { Heard::Replay }
            }
            other => {
                let beyond = |echo: &&Echo| other.as_ref().is_none_or(|old| echo.sequence > old.echoed);
                let Some(echo) = echo.filter(beyond) else {
                    return self.note_candidate(message);
                };
                self.restarted = other.is_some();
                let (incarnation, echoed, holds) = (message.incarnation, echo.sequence, echo.holds);
                let said = Said::default();
                *other = Some(Current { incarnation, sequence, echoed, risen: now, holds, said });
                self.groups.clear();
                self.greeted = newest;
                self.candidates.clear();
                for on in self.links.values_mut() {
                    on.highest = 0;
                }
                Heard::News(node)
            }
        }
    }

    fn note_candidate(&mut self, message: &Message) -> Heard {
        let before = self.candidates.len();
        self.candidates.retain(|(incarnation, _)| *incarnation != message.incarnation);
        let new = self.candidates.len() == before;
        if self.candidates.len() == CANDIDATES_MAX {
            self.candidates.remove(0);
        }
        self.candidates.push((message.incarnation, message.sequence));
        Heard::Stranger { new }
    }

    /// Answers whether this link had not brought this message, nor a newer one, before.
    fn note_link(&mut self, now: Time, node: NodeId, link: LinkId, sequence: u64, changes: &mut Vec<Change>) -> bool {
        let Some(on) = self.links.get_mut(&link) else { return false };
        if sequence <= on.highest {
            on.duplicates += 1;
            return false;
        }
        if on.highest > 0 {
            on.lost += sequence - on.highest - 1;
        }
        on.highest = sequence;
        on.received += 1;
        if on.silent {
            on.silent = false;
            let silence = on.last_heard.map_or(Duration::ZERO, |last| now.since(last));
            changes.push(Change::LinkHeard { link, peer: node, silence });
        }
        on.last_heard = Some(now);
        true
    }

    /// Since when it is silent, on all links: a copy that a slower link brought once was heard too, though it is no news.
    fn silent_since(&self, woke: Time) -> Time {
        self.last_heard.max(self.last_copy).max(woke) + self.lateness
    }

    /// Takes over what a new message says. Answers whether its files may say something else now.
    fn take(&mut self, now: Time, node: NodeId, config: &Config, message: &Message, changes: &mut Vec<Change>) -> bool {
        let silence = now.since(self.last_heard);
        let restarted = self.restarted;
        match (self.state, message.flags.left) {
            (PeerState::Left, true) => {}
            (_, true) => changes.push(Change::NodeLeft { node }),
            (PeerState::Unheard, _) => changes.push(Change::NodeJoined { node }),
            (PeerState::Late, _) if !restarted => changes.push(Change::NodeLateOver { node, interval: silence }),
            (PeerState::Alive, _) if !restarted => {}
            _ => changes.push(Change::NodeReturned { node, silence, restarted }),
        }
        if !self.state.heard() || restarted {
            self.heard_since = now;
        }
        self.state = if message.flags.left { PeerState::Left } else { PeerState::Alive };
        self.last_heard = now;
        self.lateness = Duration::ZERO;
        self.boot = Some(message.boot);
        self.joined = message.flags.joined;
        self.leaving = message.flags.leaving;
        self.note_hears(now, config, message);
        self.standby = message.flags.standby;
        self.maintenance = message.maintenance;
        let Some(current) = &mut self.current else { return false };
        current.said.take(message);
        for says in &message.groups {
            let Some(group) = config.group_by_tag(says.group) else { continue };
            self.groups.insert(group, PeerGroup::new(config, node, says));
        }
        // At rest nothing of it changes.
        let changed = restarted || self.agrees.is_none() || !message.groups.is_empty();
        current.said.whole && changed
    }

    /// The first echo of a node is of the incarnation that counts for the sender. A sequence that rises shows that the node lives;
    /// another incarnation alone does not: recorded packets could make it change for ever.
    fn note_hears(&mut self, now: Time, config: &Config, message: &Message) {
        for (index, echo) in message.echoes.iter().enumerate() {
            let Some(node) = config.node_by_tag(echo.node).filter(|node| *node != config.me) else { continue };
            if message.echoes[..index].iter().any(|before| before.node == echo.node) {
                continue;
            }
            let before = self.hears.get(&node).copied();
            let same = before.filter(|before| before.incarnation == echo.incarnation);
            let rises = same.is_some_and(|before| before.sequence < echo.sequence);
            let risen = if rises { Some(now) } else { before.and_then(|before| before.risen) };
            self.hears.insert(node, Relayed { incarnation: echo.incarnation, sequence: echo.sequence, risen });
        }
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
