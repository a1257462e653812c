//! What really is, as far as the checkers need it: who truly heard what, since when a question would have been answered.
//! It must not know what a heart thinks.

use super::checkers::Violation;
use super::checkers::moves::Moves;
use super::checkers::one_owner::{Decision, OneOwner};
use super::checkers::operations::Operations;
use super::checkers::rules::{Rules, Said};
use super::checkers::settles::{Settles, Stand};
use super::faults::{Fault, Planned, WRONG_CLOCK};
use super::scenario::{MOST_NODES, Scenario};
use super::world::{Packet, World};
use super::{MS, Nanos, SECOND};
use crate::cluster::Incarnation;
use crate::config::model::GroupId;
use crate::wire::Role;

/// What a run of a daemon truly heard of another host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ears {
    /// Since when it listens: its start, the last message, or the end of a pause that was longer.
    since: Nanos,
    heard_sent: Option<Nanos>,
    highest: Option<(Incarnation, u64)>,
    /// The newest own sequence that came back.
    echoed: u64,
    /// The last message was a goodbye.
    goodbye: bool,
    /// What files its sender had.
    digest: u32,
}

#[derive(Debug)]
pub struct Watch {
    pub one_owner: OneOwner,
    pub rules: Rules,
    pub settles: Settles,
    pub moves: Moves,
    pub operations: Operations,
    pub violation: Option<Violation>,
    /// How long the end of a contested group takes at most, once both know; unknown where steps may fail.
    patience: Option<Nanos>,
    ears: [[Ears; MOST_NODES]; MOST_NODES],
}

impl Watch {
    pub fn new(scenario: &Scenario, faults: &[Planned]) -> Watch {
        let groups = scenario.groups.len();
        let (rough, deadtime) = (&scenario.rough, scenario.deadtime());
        let wrong = faults.iter().any(|planned| matches!(planned.fault, Fault::WrongClock { .. }));
        let hindered = faults.iter().any(|planned| planned.fault.hinders_steps());
        let slow = 4 * (rough.late_by + rough.stall_by) + 2 * scenario.keepalive();
        let sure = rough.fail + rough.hang == 0 && !hindered;
        let spell = |planned: &Planned| matches!(planned.fault, Fault::Lossy | Fault::SlowNetwork);
        let spells = faults.iter().any(spell);
        let harmless = rough.harmless(scenario.keepalive(), scenario.links);
        Watch {
            one_owner: OneOwner::new(
                groups,
                scenario.deadtimes(if wrong { WRONG_CLOCK } else { 0 }),
                scenario.keepalive(),
            ),
            rules: Rules::new(groups),
            settles: Settles::new(scenario.nodes, scenario.links),
            moves: Moves::new(groups, deadtime, scenario.initdead(), !harmless, spells),
            operations: Operations::new(groups, 8 * slow + 4 * deadtime),
            violation: None,
            patience: sure.then_some(slow + SECOND),
            ears: Default::default(),
        }
    }

    pub fn note(&mut self, result: Result<(), Violation>) {
        if let (Err(violation), None) = (result, &self.violation) {
            self.violation = Some(violation);
        }
    }

    pub fn daemon_started(&mut self, now: Nanos, host: usize) {
        self.ears[host] = [Ears { since: now, ..Ears::default() }; MOST_NODES];
        self.one_owner.disturbed();
        self.moves.event(now);
    }

    pub fn daemon_ended(&mut self, now: Nanos, host: usize) {
        self.operations.gone(host);
        self.one_owner.disturbed();
        self.moves.event(now);
    }

    /// It could not hear for `span`, which is no silence of the others'.
    pub fn was_away(&mut self, span: Nanos, host: usize) {
        self.ears[host].iter_mut().for_each(|ears| ears.since += span);
        self.one_owner.disturbed();
    }

    /// A daemon read a message. It truly heard its sender if that lives, had heard it, and this is new.
    pub fn heard(&mut self, now: Nanos, host: usize, me: Incarnation, living: Option<Incarnation>, packet: &Packet) {
        let message = &packet.message;
        let ears = &mut self.ears[host][packet.from];
        let Some(echo) = message.echoes.iter().find(|echo| echo.incarnation == me) else { return };
        // Its last words are heard when it is gone.
        ears.goodbye |= message.flags.left;
        // What might be a replay counts for nobody: another run must have heard more of us than the one before. That holds for late
        // words of a run that is over too: after them the living one must show more than they did.
        let new = match ears.highest {
            Some((incarnation, highest)) if incarnation == message.incarnation => message.sequence > highest,
            _ => echo.sequence > ears.echoed,
        };
        if !new {
            return;
        }
        ears.highest = Some((message.incarnation, message.sequence));
        ears.echoed = ears.echoed.max(echo.sequence);
        if living == Some(message.incarnation) {
            ears.since = now;
            ears.heard_sent = Some(packet.sent);
            ears.goodbye = message.flags.left;
            ears.digest = packet.files;
            self.one_owner.heard(now, host, packet.from, packet.sent);
        }
    }
}

impl World {
    fn silence(&self, host: usize) -> [Nanos; MOST_NODES] {
        self.watch.ears[host].map(|ears| self.now.saturating_sub(ears.since))
    }

    /// A heart decided to start a group: what was true at that moment.
    pub fn decided(&mut self, host: usize, group: usize) {
        let silence = self.silence(host);
        let heard_sent = self.watch.ears[host].map(|ears| ears.heard_sent);
        let mut answered_since = [None; MOST_NODES];
        for other in (0..self.scenario.nodes).filter(|other| *other != host) {
            answered_since[other] = self.answered_since(host, other, group);
        }
        let result = self.may_decide(host, group, &silence);
        self.watch.note(result);
        let result = self.watch.moves.started(self.now, host, group);
        self.watch.note(result);
        let decision = Decision { at: self.now, silence, heard_sent, answered_since };
        let result = self.watch.one_owner.decided(host, group, decision);
        self.watch.note(result);
    }

    fn answered_since(&self, host: usize, other: usize, group: usize) -> Option<Nanos> {
        let (me, it) = (&self.hosts[host], &self.hosts[other]);
        if !it.answers(group, self.now) {
            return None;
        }
        let since = [it.real[group].addresses_since, it.answers_since, me.answers_since, self.arp_since(host, other)];
        since.into_iter().try_fold(0, |latest: Nanos, since| Some(latest.max(since?)))
    }

    /// The start of a group goes on to its first address or member.
    pub fn goes_on(&mut self, host: usize, group: usize) {
        if !self.hosts[host].owns(group) {
            let silence = self.silence(host);
            self.watch.one_owner.went_on(host, group, silence);
        }
    }

    /// What no proof excuses: packets that waited to be read, and a peer that is heard and has other files.
    fn may_decide(&self, host: usize, group: usize, silence: &[Nanos; MOST_NODES]) -> Result<(), Violation> {
        let daemon = self.hosts[host].daemon.as_ref();
        let clock = self.hosts[host].clock(self.now);
        let waited =
            daemon.and_then(|daemon| daemon.unread_since).map_or(0, |since| clock.since(since).as_nanos() as Nanos);
        // By two clocks.
        let keepalive = self.scenario.keepalive() + self.scenario.keepalive() / 50;
        let unread = (waited > keepalive).then(|| format!("with packets unread for {} ms", waited / MS));
        let digest = self.hosts[host].config.groups_digest;
        let differs = self.watch.ears[host].iter().zip(silence).any(|(ears, silence)| {
            let heard = ears.heard_sent.is_some() && !ears.goodbye && *silence < self.scenario.keepalive();
            heard && ears.digest != digest
        });
        let differs = differs.then(|| "while it hears a peer with other files".to_string());
        let Some(what) = unread.or(differs) else { return Ok(()) };
        let what = format!("host {host} starts group {group} {what}");
        Err(Violation { at: self.now, checker: "decisions", what })
    }

    pub fn stopping(&mut self, host: usize, group: usize, reason: &str) {
        let result = self.watch.moves.needed(self.now, host, group, "stops", reason);
        self.watch.note(result);
    }

    /// Something of `host` changed: what does it own now?
    pub fn ownership(&mut self, host: usize) {
        for group in 0..self.scenario.groups.len() {
            let owns = self.hosts[host].owns(group);
            if owns == self.watch.one_owner.owned(group)[host] {
                continue;
            }
            let result = self.watch.one_owner.owns(self.now, host, group, owns);
            let nodes = self.scenario.nodes;
            let owned = &self.watch.one_owner.owned(group)[..nodes];
            self.timeline.note(self.now, Some(host), || format!("OWNERS of {group}: {owned:?}"));
            self.watch.note(result);
        }
    }

    /// After each round of a heart.
    pub fn inspect_rules(&mut self, host: usize) {
        for group in 0..self.scenario.groups.len() {
            let owns = self.hosts[host].owns(group);
            let Some(daemon) = &self.hosts[host].daemon else { return };
            let (id, cluster) = (GroupId(group as u16), &daemon.cluster);
            let said = Said {
                record: cluster.record(id),
                claims: cluster.claims(id),
                role: cluster.role(id),
                owns,
                joined: cluster.has_joined(),
            };
            let result = self.watch.rules.check(self.now, host, group, said);
            self.watch.note(result);
            let starts = said.role == Role::Starting;
            let result = self.watch.operations.is_starting(self.now, host, group, starts);
            self.watch.note(result);
            for pair in self.watch.one_owner.pairs(group) {
                let ending = [pair.0, pair.1].iter().any(|host| {
                    let host = &self.hosts[*host];
                    let role = host.daemon.as_ref().map(|daemon| daemon.cluster.role(id));
                    // What came is heard once it was read.
                    let reads = host.daemon.as_ref().is_some_and(|daemon| daemon.unread_since.is_some());
                    !host.runs(self.now) || reads || role == Some(Role::Stopping)
                });
                let result = self.watch.one_owner.lasting(self.now, group, pair, ending, self.watch.patience);
                self.watch.note(result);
            }
        }
        let result = self.watch.operations.waiting(self.now, host);
        self.watch.note(result);
    }

    /// While the world should rest.
    pub fn look(&mut self) {
        for group in 0..self.scenario.groups.len() {
            let id = GroupId(group as u16);
            let stand = |host: usize| {
                let cluster = self.hosts[host].daemon.as_ref().map(|daemon| &daemon.cluster);
                Stand {
                    up: cluster.is_some(),
                    joined: cluster.is_some_and(|cluster| cluster.has_joined()),
                    role: cluster.map_or(Role::Unknown, |cluster| cluster.role(id)),
                    record: cluster.and_then(|cluster| cluster.record(id)),
                    order: cluster.map_or_else(Default::default, |cluster| cluster.operator_order(id)),
                    banned: cluster.is_some_and(|cluster| cluster.banned(id)),
                    owns: self.hosts[host].owns(group),
                    whole: self.hosts[host].real[group].whole(),
                    off: self.scenario.off == Some(host),
                }
            };
            let stands: Vec<Stand> = (0..self.scenario.nodes).map(stand).collect();
            let shape = &self.scenario.groups[group];
            let mut daemons = self.hosts.iter().filter_map(|host| host.daemon.as_ref());
            // What an operator put somewhere stays there.
            let parked = daemons.any(|daemon| daemon.cluster.parked(GroupId(group as u16)));
            let failback = shape.failback && !parked;
            let result = self.watch.settles.check(self.now, group, &stands, &shape.nodes, failback);
            self.watch.note(result);
        }
    }
}
