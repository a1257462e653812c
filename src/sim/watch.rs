//! What really is, as far as the checkers need it: who truly heard what, since when a question would have been answered.
//! It must not know what a heart thinks.

use super::checkers::Violation;
use super::checkers::moves::Moves;
use super::checkers::one_owner::{Decision, OneOwner, Owner};
use super::checkers::operations::{AFTERMATH, Operations};
use super::checkers::rules::{Rules, Said};
use super::checkers::settles::Settles;
use super::faults::{Fault, Planned, WRONG_CLOCK};
use super::files::{MOST_GROUPS, PARTS, part_name};
use super::happening::Packet;
use super::scenario::{MOST_NODES, Scenario};
use super::world::World;
use super::{MS, Nanos, SECOND};
use crate::cluster::Incarnation;
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
    /// By which digests its sender ran its groups.
    digests: [u32; MOST_GROUPS],
    /// Of which groups it had something up, a bit each.
    owned: u8,
}

#[derive(Debug)]
pub struct Watch {
    pub one_owner: OneOwner,
    pub rules: Rules,
    pub settles: Settles,
    pub moves: Moves,
    pub operations: Operations,
    pub violation: Option<Violation>,
    /// An operator told somebody to stop the group.
    pub stop_said: [bool; MOST_GROUPS],
    /// How long the end of a contested group takes at most, once both know, while no step fails.
    patience: Nanos,
    ears: [[Ears; MOST_NODES]; MOST_NODES],
}

impl Watch {
    pub fn new(scenario: &Scenario, faults: &[Planned]) -> Watch {
        let groups = scenario.groups.len();
        let (rough, deadtime) = (&scenario.rough, scenario.deadtime());
        let wrong = faults.iter().any(|planned| matches!(planned.fault, Fault::WrongClock { .. }));
        // What happens in no round takes no time.
        let late_by = if rough.late > 0 { rough.late_by } else { 0 };
        let stall_by = if rough.stall > 0 { rough.stall_by } else { 0 };
        let slow = 4 * (late_by + stall_by) + 2 * scenario.keepalive();
        let hampered_until = if rough.fail + rough.hang > 0 { scenario.heal } else { 0 };
        let late = 8 * 4 * scenario.late_by();
        let spell = |planned: &Planned| matches!(planned.fault, Fault::Lossy | Fault::SlowNetwork);
        let spells = faults.iter().any(spell);
        let harmless = rough.harmless(scenario.keepalive(), scenario.links);
        Watch {
            one_owner: OneOwner::new(scenario.deadtimes(if wrong { WRONG_CLOCK } else { 0 }), scenario.keepalive()),
            rules: Rules::new(groups),
            settles: Settles::new(scenario.nodes, scenario.links),
            moves: Moves::new(groups, deadtime, scenario.initdead(), !harmless, spells),
            operations: Operations::new(groups, 8 * slow + 4 * deadtime, late, hampered_until),
            violation: None,
            stop_said: [false; MOST_GROUPS],
            patience: slow + SECOND,
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
        self.one_owner.disturbed(host);
        self.moves.event(now);
    }

    pub fn daemon_ended(&mut self, now: Nanos, host: usize) {
        self.operations.gone(host);
        self.one_owner.disturbed(host);
        self.moves.event(now);
    }

    /// A fault that makes steps fail or late, until then.
    pub fn hampered(&mut self, fault: Fault, until: Nanos) {
        let Some(host) = fault.hampers() else { return };
        self.operations.hampered(host, until);
        if matches!(fault, Fault::LateDaemon { .. }) {
            self.operations.late_until(host, until);
        }
    }

    /// It could not hear for `span`, which is no silence of the others'.
    pub fn was_away(&mut self, span: Nanos, host: usize) {
        self.ears[host].iter_mut().for_each(|ears| ears.since += span);
        self.one_owner.disturbed(host);
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
        // It cannot know of a run that is over that it is.
        (ears.digests, ears.owned) = (packet.digests, packet.owned);
        if living == Some(message.incarnation) {
            ears.since = now;
            ears.heard_sent = Some(packet.sent);
            ears.goodbye = message.flags.left;
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
        let addresses = &me.form_of(group)?.addresses;
        if !it.answers(addresses, self.now) {
            return None;
        }
        let (up, asked) = (it.up.earliest(addresses), Some(me.formed[group]));
        let since = [up, asked, it.answers_since, me.answers_since, self.arp_since(host, other)];
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
        let digest = self.hosts[host].digest(group);
        let differs = self.watch.ears[host].iter().zip(silence).any(|(ears, silence)| {
            let heard = ears.heard_sent.is_some() && !ears.goodbye && *silence < self.scenario.keepalive();
            heard && ears.digests[group] != digest
        });
        let differs = differs.then(|| "while it hears a peer that runs it by other files".to_string());
        let owned = self.watch.ears[host].iter().zip(silence).any(|(ears, silence)| {
            let heard = ears.heard_sent.is_some() && !ears.goodbye && *silence < self.scenario.keepalive();
            heard && ears.owned & (1 << group) != 0
        });
        let owned = owned.then(|| "while it hears a peer that has something of it up".to_string());
        let Some(what) = unread.or(differs).or(owned) else { return Ok(()) };
        let what = format!("host {host} starts group {group} {what}");
        Err(Violation { at: self.now, checker: "decisions", what })
    }

    pub fn stopping(&mut self, host: usize, group: usize, reason: &str) {
        let result = self.watch.moves.needed(self.now, host, group, "stops", reason);
        self.watch.note(result);
    }

    /// Something of `host` changed: what does it own now?
    pub fn ownership(&mut self, host: usize) {
        if let Some(part) = self.hosts[host].up.doubled.take() {
            let what = format!("{} is in two groups on host {host}", part_name(part));
            let result = self.watch.one_owner.violation(self.now, what);
            self.watch.note(result);
        }
        let up = self.hosts[host].parts();
        let changed = up ^ self.watch.one_owner.up(host);
        if changed == 0 {
            return;
        }
        for part in (0..PARTS).filter(|part| changed & (1 << part) != 0) {
            let on = up & (1 << part) != 0;
            self.timeline
                .note(self.now, Some(host), || format!("{} is {}", part_name(part), if on { "up" } else { "down" }));
            if !on {
                self.watch.one_owner.lost(self.now, host, part);
                continue;
            }
            self.watch.one_owner.took(host, part);
            for other in self.watch.one_owner.others(host, part) {
                let (later, earlier) = (self.owner(host, part, other), self.owner(other, part, host));
                self.timeline.note(self.now, None, || format!("OWNERS of {}: {later:?}, {earlier:?}", part_name(part)));
                let result = self.watch.one_owner.doubled(self.now, part, later, earlier);
                self.watch.note(result);
            }
        }
    }

    fn owner(&self, host: usize, part: usize, other: usize) -> Owner {
        let group = (0..MOST_GROUPS).find(|group| self.hosts[host].up.holds(part, *group)).unwrap_or(0);
        Owner { host, group, silence: self.silence(host)[other] }
    }

    /// After each round of a heart.
    pub fn inspect_rules(&mut self, host: usize) {
        for group in 0..self.scenario.groups.len() {
            let owns = self.hosts[host].owns(group);
            let Some(daemon) = &self.hosts[host].daemon else { return };
            // What is kept of a group that this daemon does not know shows when it gets to know it.
            let Some(id) = self.hosts[host].id(group) else { continue };
            let cluster = &daemon.cluster;
            let said = Said {
                record: cluster.record(id),
                claims: cluster.claims(id),
                role: cluster.role(id),
                owns,
                joined: cluster.has_joined(),
            };
            let result = self.watch.rules.check(self.now, host, group, said);
            self.watch.note(result);
            let result = self.watch.operations.is(self.now, host, group, said.role);
            self.watch.note(result);
        }
        for pair in self.watch.one_owner.pairs() {
            let (part, one, other) = pair;
            let ending = [one, other].iter().any(|host| {
                let group = self.owner(*host, part, one).group;
                let host = &self.hosts[*host];
                let role = host.daemon.as_ref().zip(host.id(group)).map(|(daemon, id)| daemon.cluster.role(id));
                // What came is heard once it was read.
                let reads = host.daemon.as_ref().is_some_and(|daemon| daemon.unread_since.is_some());
                !host.runs(self.now) || reads || role == Some(Role::Stopping)
            });
            // A step that failed is asked for again after a while.
            let hampered = [one, other].map(|host| self.watch.operations.hampered_until(host)).into_iter().max();
            let calm = hampered.filter(|until| *until > 0).map_or(0, |until| until + AFTERMATH);
            let result = self.watch.one_owner.lasting(self.now, pair, ending, self.watch.patience, calm);
            self.watch.note(result);
        }
        let result = self.watch.operations.waiting(self.now, host);
        self.watch.note(result);
    }

    /// At the end of the world nobody waits for an answer any more, also of a host that had nothing to do since.
    pub fn finish(&mut self) {
        for host in 0..self.scenario.nodes {
            let result = self.watch.operations.waiting(self.now, host);
            self.watch.note(result);
        }
    }
}
