//! What really is, as far as the checkers need it: who truly heard what, since when a question would have been answered.
//! It must not know what a heart thinks.

use super::checkers::Violation;
use super::checkers::one_owner::{Decision, OneOwner};
use super::checkers::rules::{Rules, Said};
use super::checkers::settles::{Settles, Stand};
use super::scenario::{NODES, Scenario};
use super::world::World;
use super::{MS, Nanos};
use crate::cluster::Incarnation;
use crate::config::model::{Failback, GroupId};
use crate::wire::{Message, Role};

/// What a run of a daemon truly heard of the other host.
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
}

#[derive(Debug)]
pub struct Watch {
    pub one_owner: OneOwner,
    pub rules: Rules,
    pub settles: Settles,
    pub violation: Option<Violation>,
    ears: [Ears; NODES],
    owned: Vec<[bool; NODES]>,
    arrived: Vec<(usize, Incarnation, u64, Nanos)>,
}

impl Watch {
    pub fn new(scenario: &Scenario) -> Watch {
        let groups = scenario.groups();
        Watch {
            one_owner: OneOwner::new(groups, scenario.deadtime()),
            rules: Rules::new(groups),
            settles: Settles::default(),
            violation: None,
            ears: Default::default(),
            owned: vec![[false; NODES]; groups],
            arrived: Vec::new(),
        }
    }

    pub fn note(&mut self, result: Result<(), Violation>) {
        if let (Err(violation), None) = (result, &self.violation) {
            self.violation = Some(violation);
        }
    }

    pub fn daemon_started(&mut self, now: Nanos, host: usize) {
        self.ears[host] = Ears { since: now, ..Ears::default() };
        self.one_owner.disturbed();
    }

    /// It could not hear for `span`, which is no silence of the other's.
    pub fn was_away(&mut self, span: Nanos, host: usize) {
        self.ears[host].since += span;
        self.one_owner.disturbed();
    }

    /// Keeps when a packet was sent until the daemon reads it.
    pub fn arrived(&mut self, to: usize, message: &Message, sent: Nanos) {
        if self.arrived.len() > 1000 {
            self.arrived.drain(..500);
        }
        self.arrived.push((to, message.incarnation, message.sequence, sent));
    }

    /// A daemon read a message. It truly heard the other if that one lives, had heard it, and this is new.
    pub fn heard(&mut self, now: Nanos, host: usize, me: Incarnation, other: Option<Incarnation>, message: &Message) {
        let key = (host, message.incarnation, message.sequence);
        let at = self.arrived.iter().rposition(|(to, incarnation, sequence, _)| (*to, *incarnation, *sequence) == key);
        let Some(sent) = at.map(|at| self.arrived.remove(at).3) else { return };
        let ears = &mut self.ears[host];
        let Some(echo) = message.echoes.iter().find(|echo| echo.incarnation == me) else { return };
        // What might be a replay counts for nobody: a new run must have heard more of us than the one before.
        let new = match ears.highest {
            Some((incarnation, highest)) if incarnation == message.incarnation => message.sequence > highest,
            _ => echo.sequence > ears.echoed,
        };
        // Late words of a run that is over still show what it had heard.
        if other != Some(message.incarnation) && ears.highest.is_none_or(|(last, _)| last == message.incarnation) {
            ears.echoed = ears.echoed.max(echo.sequence);
        }
        // Its last words are heard when it is gone.
        ears.goodbye |= message.flags.left;
        if other == Some(message.incarnation) && new {
            let highest = Some((message.incarnation, message.sequence));
            let (echoed, goodbye) = (ears.echoed.max(echo.sequence), message.flags.left);
            *ears = Ears { since: now, heard_sent: Some(sent), highest, echoed, goodbye };
            self.one_owner.heard(now, host, sent);
        }
    }
}

impl World {
    /// A heart decided to start a group: what was true at that moment.
    pub fn decided(&mut self, host: usize, group: usize) {
        let (me, other) = (&self.hosts[host], &self.hosts[1 - host]);
        let ears = self.watch.ears[host];
        let since = [
            other.real[group].addresses_since.filter(|_| other.powered),
            other.answers_since,
            me.answers_since,
            self.network.arp_since().filter(|_| self.arp_carries()),
        ];
        let answered_since = since.into_iter().try_fold(0, |latest: Nanos, since| Some(latest.max(since?)));
        let silence = self.now.saturating_sub(ears.since);
        let result = self.may_decide(host, group, silence);
        self.watch.note(result);
        let decision = Decision { at: self.now, silence, heard_sent: ears.heard_sent, answered_since };
        let result = self.watch.one_owner.decided(host, group, decision);
        self.watch.note(result);
    }

    /// What no proof excuses: packets that waited to be read, and a peer that is heard and has other files.
    fn may_decide(&self, host: usize, group: usize, silence: Nanos) -> Result<(), Violation> {
        let daemon = self.hosts[host].daemon.as_ref();
        let clock = self.hosts[host].clock(self.now);
        let waited =
            daemon.and_then(|daemon| daemon.unread_since).map_or(0, |since| clock.since(since).as_nanos() as Nanos);
        let keepalive = self.scenario.keepalive();
        let unread = (waited > keepalive).then(|| format!("with packets unread for {} ms", waited / MS));
        let ears = self.watch.ears[host];
        let heard = ears.heard_sent.is_some() && !ears.goodbye && silence < keepalive;
        let differs = self.hosts[0].config.groups_digest != self.hosts[1].config.groups_digest;
        let differs = (heard && differs).then(|| "while it hears a peer with other files".to_string());
        let Some(what) = unread.or(differs) else { return Ok(()) };
        let what = format!("host {host} starts group {group} {what}");
        Err(Violation { at: self.now, checker: "decisions", what })
    }

    /// In a calm world nothing stops but for failback.
    pub fn stopping(&mut self, host: usize, group: usize, reason: &str) {
        let back = self.scenario.configs[0].groups[group].failback != Failback::No;
        if self.now < self.scenario.heal && self.scenario.calm() && !back {
            let what = format!("host {host} stops group {group} without need: {reason}");
            self.watch.note(Err(Violation { at: self.now, checker: "decisions", what }));
        }
    }

    /// Something of `host` changed: who owns what now?
    pub fn ownership(&mut self, host: usize) {
        for group in 0..self.scenario.groups() {
            let owns = [self.hosts[0].owns(group), self.hosts[1].owns(group)];
            if owns == self.watch.owned[group] {
                continue;
            }
            self.watch.owned[group] = owns;
            self.timeline.note(self.now, Some(host), || format!("OWNERS of {group}: {owns:?}"));
            let result = self.watch.one_owner.owners(self.now, host, group, owns);
            self.watch.note(result);
        }
    }

    /// After each round of a heart.
    pub fn inspect_rules(&mut self, host: usize) {
        for group in 0..self.scenario.groups() {
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
            if self.watch.owned[group] == [true; NODES] {
                let ending = self.hosts.iter().any(|host| {
                    let role = host.daemon.as_ref().map(|daemon| daemon.cluster.role(id));
                    !host.runs(self.now) || role == Some(Role::Stopping)
                });
                let result = self.watch.one_owner.lasting(self.now, group, ending, self.scenario.patience());
                self.watch.note(result);
            }
        }
    }

    /// While the world should rest.
    pub fn look(&mut self) {
        for group in 0..self.scenario.groups() {
            let id = GroupId(group as u16);
            let stands = [0, 1].map(|host: usize| {
                let owns = self.hosts[host].owns(group);
                let cluster = self.hosts[host].daemon.as_ref().map(|daemon| &daemon.cluster);
                Stand {
                    up: cluster.is_some(),
                    joined: cluster.is_some_and(|cluster| cluster.has_joined()),
                    role: cluster.map_or(Role::Unknown, |cluster| cluster.role(id)),
                    record: cluster.and_then(|cluster| cluster.record(id)),
                    order: cluster.map_or_else(Default::default, |cluster| cluster.operator_order(id)),
                    banned: cluster.is_some_and(|cluster| cluster.banned(id)),
                    owns,
                    whole: self.hosts[host].real[group].whole(),
                    off: self.scenario.off == Some(host),
                }
            });
            let config = &self.scenario.configs[0].groups[group];
            let parked = self
                .hosts
                .iter()
                .filter_map(|host| host.daemon.as_ref())
                .any(|it| it.cluster.parked(GroupId(group as u16)));
            let back = config.failback != Failback::No && !parked;
            let preferred = back.then(|| usize::from(config.nodes[0].0));
            let result = self.watch.settles.check(self.now, group, stands, preferred);
            self.watch.note(result);
        }
    }
}
