//! Faults as they hit the world, and as they end. It must not know when they come, nor what is right.

use super::edits::Spread;
use super::faults::{Fault, Planned, WRONG_CLOCK};
use super::happening::{Happening, Packet};
use super::host::{Later, News};
use super::network::count;
use super::scenario::{MOST_LINKS, Rough};
use super::world::World;
use super::{MS, Nanos, SECOND};
use crate::cluster::{Cluster, Command, Event, RequestId, Which};
use crate::config::model::{GroupId, LinkId, NodeId};
use std::rc::Rc;

/// The world needs so long to rest after the last word.
const LAST_WORDS: Nanos = 14 * SECOND;
/// A fault that finds nothing to strike is tried again after this.
const AGAIN: Nanos = 3 * SECOND;
/// Packets that are sent again in one go.
const REPLAYED: usize = 8;

impl World {
    /// What finds nothing to strike is tried again, and not counted before.
    pub fn strike(&mut self, planned: Planned) {
        let fault = self.aimed(planned.fault);
        let struck = Planned { at: self.now, span: planned.span.min(self.scenario.heal - self.now), fault };
        if !self.would_strike(fault) || !self.struck(struck) {
            let again = self.now + AGAIN;
            if again < self.scenario.heal {
                self.at(again, Happening::Strike(planned));
            }
            return;
        }
        self.ending.struck += 1;
        self.counts(fault.name());
        if let Fault::Files { spread, .. } = fault
            && !matches!(spread, Spread::PowerLoss { .. })
        {
            self.counts(spread.name());
        }
    }

    pub fn counts(&mut self, kind: &'static str) {
        *self.ending.faults.entry(kind).or_default() += 1;
    }

    /// Answers whether it found anything to change, where only trying tells.
    fn struck(&mut self, planned: Planned) -> bool {
        let Planned { fault, span, .. } = planned;
        if let Fault::Files { group, change, spread } = fault
            && !self.edit_files(group, change, spread, span)
        {
            return false;
        }
        let millis = span / MS;
        self.timeline.note(self.now, None, || format!("{fault:?} for {millis} ms"));
        let until = self.now + span;
        self.watch.moves.event(self.now);
        self.watch.moves.troubled_until(until);
        self.watch.hampered(fault, until);
        if let Some((host, command)) = self.said(fault) {
            self.command(host, command);
            if let Fault::Stop { group, .. } = fault {
                self.watch.stop_said[group] = true;
            }
            if matches!(fault, Fault::StandbyStays { .. } | Fault::Maintenance { .. }) {
                self.at(until, Happening::End(planned));
            }
        } else {
            self.hit(planned, until);
        }
        true
    }

    fn hit(&mut self, planned: Planned, until: Nanos) {
        let span = planned.span;
        match planned.fault {
            Fault::PowerLoss { host } => self.power_loss(host, until),
            Fault::PowerLossAll => (0..self.scenario.nodes).for_each(|host| self.power_loss(host, until)),
            Fault::Reboot { host } => self.reboot(host, until),
            Fault::KillDaemon { host } | Fault::RestartDaemon { host } => self.kill(host, until, false),
            Fault::DaemonDies { host } => self.kill(host, until, true),
            Fault::LeaveDaemon { host } => {
                self.again[host] = Some((until, false));
                self.tell(host, Event::Leave);
            }
            Fault::OtherFiles { host } => {
                self.other_files(host, true);
                self.at(until, Happening::End(planned));
            }
            Fault::PauseDaemon { host } => self.pause(host, span),
            Fault::PauseHost { host } => self.freeze(host, until),
            Fault::PauseMachine { host } => {
                self.freeze(host, until);
                self.hosts[host].hold_clock(self.now, span);
            }
            // Done before.
            Fault::Files { .. } => {}
            Fault::MemberFails { host, group } => {
                if let Some(event) = self.hosts[host].lose_member(group) {
                    self.ownership(host);
                    self.later(host, MS, Later::Tell(event));
                }
            }
            Fault::AddressDeleted { host, group } => {
                if let Some(news) = self.hosts[host].lose_address(group) {
                    self.ownership(host);
                    self.later(host, MS / 10, Later::News(news));
                }
            }
            Fault::Replay { to } => self.replay(to, span),
            // No word for a group that is not known there.
            Fault::Move { .. } | Fault::Stop { .. } | Fault::Start { .. } | Fault::Clear { .. } => {}
            lasting => {
                self.toggle(lasting, true);
                self.at(until, Happening::End(planned));
            }
        }
    }

    /// What an operator says, on which host; nothing of a group that is not known there.
    pub fn said(&self, fault: Fault) -> Option<(usize, Command)> {
        let group = |host: usize, group: usize| self.known(host, group);
        Some(match fault {
            Fault::Move { host, group: it, to } => {
                (host, Command::Move { group: group(host, it)?, to: NodeId(to as u8) })
            }
            Fault::Stop { host, group: it } => (host, Command::Stop { group: group(host, it)? }),
            Fault::Start { host, group: it } => (host, Command::Start { group: group(host, it)? }),
            Fault::Clear { host, group: it } => (host, Command::Clear { group: group(host, it)? }),
            Fault::Standby { host, which } => (host, Command::Standby { which, stay: false }),
            Fault::StandbyStays { host } => (host, Command::Standby { which: Which::All, stay: true }),
            Fault::Takeover { host, which } => (host, Command::Takeover { which }),
            Fault::Online { host } => (host, Command::Online),
            Fault::Maintenance { host, .. } => (host, Command::Maintenance { on: true }),
            _ => return None,
        })
    }

    /// A group that is known on a host, and not gone from its files.
    pub fn known(&self, host: usize, group: usize) -> Option<GroupId> {
        let id = self.hosts[host].id(group)?;
        (!self.hosts[host].config.group(id).is_gone()).then_some(id)
    }

    pub fn unstrike(&mut self, planned: Planned) {
        // All of it ended with the rest.
        if self.now >= self.scenario.heal {
            return;
        }
        self.timeline.note(self.now, None, || format!("{:?} ends", planned.fault));
        self.watch.moves.event(self.now);
        match planned.fault {
            Fault::OtherFiles { host } => self.other_files(host, false),
            Fault::StandbyStays { host } => self.command(host, Command::Online),
            Fault::Maintenance { ends_on, .. } => self.command(ends_on, Command::Maintenance { on: false }),
            fault => self.toggle(fault, false),
        }
    }

    /// Faults that last and end.
    fn toggle(&mut self, fault: Fault, on: bool) {
        let now = self.now;
        match fault {
            Fault::LinkDown { host, link } => {
                self.links[host][link] = !on;
                self.tell(host, Event::Link { link: LinkId(link as u8), usable: !on });
            }
            Fault::CableOut { host } => self.carrier(host, !on),
            Fault::AnswersNothing { host } => {
                count(&mut self.hosts[host].unanswering, on);
                let host = &mut self.hosts[host];
                host.answers_since = host.answers_since.max(host.powered.then_some(now));
            }
            Fault::ForeignAnswers { group } => count(&mut self.foreign[group], on),
            Fault::RunFull { host } => count(&mut self.hosts[host].full, on),
            Fault::ActionsFail { host } => count(&mut self.hosts[host].trouble.fail, on),
            Fault::ActionsHang { host } => count(&mut self.hosts[host].trouble.hang, on),
            Fault::ActionsSlow { host } => count(&mut self.hosts[host].trouble.slow, on),
            Fault::LateDaemon { host } => count(&mut self.hosts[host].trouble.late, on),
            Fault::WrongClock { host, fast } => {
                let wrong = if fast { WRONG_CLOCK } else { -WRONG_CLOCK };
                let rate = if on { wrong } else { self.scenario.drift[host] };
                self.hosts[host].set_clock_rate(now, rate);
            }
            Fault::HostThreadStuck { host } => self.tell(host, Event::HostThread { answering: !on }),
            Fault::GuardMissing { host, group } => {
                count(&mut self.hosts[host].unguarded[group], on);
                self.tell_guards(host);
            }
            Fault::Lossy => count(&mut self.network.lossy, on),
            Fault::Doubling => count(&mut self.network.doubling, on),
            Fault::SlowNetwork => count(&mut self.network.slow, on),
            cut => self.toggle_cut(cut, on),
        }
    }

    /// What the wires do not carry.
    fn toggle_cut(&mut self, fault: Fault, on: bool) {
        let nodes = self.scenario.nodes;
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                for link in (0..self.scenario.links).filter(|link| cuts(fault, from, to, *link)) {
                    self.network.cut(from, to, link, on);
                }
                if from < to && cuts_service(fault, from, to) {
                    self.network.cut_service(self.now, from, to, on);
                }
            }
        }
    }

    /// Somebody turns every preference round in one host's files, or turns them back, and restarts the daemon.
    fn other_files(&mut self, host: usize, other: bool) {
        if self.files.turn(host, other) {
            self.kill(host, self.now + 100 * MS, false);
        }
    }

    /// The daemon hears whether its guards are loaded, of every group that it runs by.
    pub fn tell_guards(&mut self, host: usize) {
        for group in 0..self.scenario.groups.len() {
            let here = &self.hosts[host];
            let Some(id) = here.id(group).filter(|id| !here.config.group(*id).is_gone()) else { continue };
            let fault = here.guard_fault(group);
            self.tell(host, Event::Guard { group: id, fault });
        }
    }

    fn carrier(&mut self, host: usize, up: bool) {
        let now = self.now;
        if self.hosts[host].powered && self.hosts[host].carrier != up {
            self.hosts[host].carrier = up;
            // Not before the end of a pause that is under way.
            self.hosts[host].answers_since = self.hosts[host].answers_since.max(Some(now));
            self.tell(host, Event::Interface { interface: "eth0".into(), up });
        }
    }

    fn command(&mut self, host: usize, command: Command) {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.asked(host, request);
        self.tell(host, Event::Command { request, command });
    }

    /// Somebody waits for an answer.
    pub fn asked(&mut self, host: usize, request: RequestId) {
        let frozen_until = self.hosts[host].frozen_until;
        if let Some(daemon) = &self.hosts[host].daemon {
            let reads_at = self.now.max(frozen_until).max(daemon.paused_until);
            self.watch.operations.asked(reads_at, host, request);
        }
    }

    /// What a daemon missed while it was away, or before it ran.
    pub fn compare(&mut self) {
        for host in 0..self.scenario.nodes {
            for group in 0..self.scenario.groups.len() {
                let here = &self.hosts[host];
                let Some(id) = here.id(group) else { continue };
                let should = here.daemon.as_ref().is_some_and(|it| it.cluster.has_its_addresses(id));
                let missing = here.form(id).addresses.iter().copied().find(|address| !here.up.has(*address));
                if let (true, Some(address)) = (should, missing) {
                    self.bring(host, News::Lost { address });
                }
            }
        }
    }

    /// Packets of earlier are sent again.
    fn replay(&mut self, to: usize, span: Nanos) {
        let for_it = |(index, (for_whom, ..)): (usize, &(usize, usize, Rc<Packet>))| (*for_whom == to).then_some(index);
        let indexes: Vec<usize> = self.recorded.iter().enumerate().filter_map(for_it).collect();
        for _ in 0..REPLAYED {
            let (_, link, packet) = self.recorded[*self.random.pick(&indexes)].clone();
            let at = self.now + self.random.below(span + 1);
            self.at(at, Happening::Deliver { to, link, packet });
        }
    }

    /// Operators end what they began, on every node that does not know it yet, until the world is to rest. They clear what failed
    /// and what is where they put it, for the checkers believe no heart that it still holds.
    pub fn last_words(&mut self) {
        for host in 0..self.scenario.nodes {
            let says = |word: fn(&Cluster) -> bool| {
                self.hosts[host].daemon.as_ref().is_some_and(|daemon| word(&daemon.cluster))
            };
            let (standby, maintenance) = (says(Cluster::in_standby), says(Cluster::in_maintenance));
            if standby {
                self.command(host, Command::Online);
            }
            if maintenance {
                self.command(host, Command::Maintenance { on: false });
            }
            for group in 0..self.scenario.groups.len() {
                self.last_words_of(host, group);
            }
        }
        if self.now + LAST_WORDS < self.scenario.settled {
            self.at(self.now + SECOND, Happening::LastWords);
        }
    }

    fn last_words_of(&mut self, host: usize, group: usize) {
        let (Some(id), Some(daemon)) = (self.known(host, group), &self.hosts[host].daemon) else { return };
        let cluster = &daemon.cluster;
        let starts = cluster.operator_order(id).stopped && self.scenario.starts;
        let held = cluster.banned(id) || cluster.parked(id);
        if starts {
            self.command(host, Command::Start { group: id });
        } else if held {
            self.command(host, Command::Clear { group: id });
        }
    }

    /// All faults are over.
    pub fn heal(&mut self) {
        self.timeline.note(self.now, None, || "everything is mended".into());
        self.rough = Rough::quiet();
        self.network.heal(self.now);
        for host in 0..self.scenario.nodes {
            self.hosts[host].set_clock_rate(self.now, self.scenario.drift[host]);
            self.hosts[host].trouble = Default::default();
            if std::mem::take(&mut self.hosts[host].unanswering) > 0 {
                self.hosts[host].answers_since = self.hosts[host].answers_since.max(Some(self.now));
            }
            self.hosts[host].full = 0;
            self.hosts[host].unguarded.fill(0);
        }
        self.foreign.fill(0);
        self.watch.moves.event(self.now);
        self.at(self.now + SECOND, Happening::LastWords);
        if let Some(host) = self.scenario.off {
            self.power_loss(host, self.scenario.end + 1);
        }
        let off = self.scenario.off;
        for host in (0..self.scenario.nodes).filter(|host| off != Some(*host)) {
            self.links[host] = [true; MOST_LINKS];
            for link in 0..self.scenario.links {
                self.tell(host, Event::Link { link: LinkId(link as u8), usable: true });
            }
            self.carrier(host, true);
            self.tell(host, Event::HostThread { answering: true });
            self.tell_guards(host);
            self.at(self.now + 500 * MS, Happening::Boot { host });
            self.at(self.now + 900 * MS, Happening::StartDaemon { host });
        }
        self.mend_files();
    }
}

/// Whether packets from one node to another get lost on a link.
pub fn cuts(fault: Fault, from: usize, to: usize, link: usize) -> bool {
    let sides = |side: u8| (side >> from) & 1 != (side >> to) & 1;
    match fault {
        Fault::CutOneWay { from: a, to: b, link: l } => (a, b, l) == (from, to, link),
        Fault::CutWay { from: a, to: b } => (a, b) == (from, to),
        Fault::CutPair { a, b } | Fault::CutPairService { a, b } => (a, b) == (from, to) || (b, a) == (from, to),
        Fault::CutLink { link: l } => l == link,
        Fault::CutSender { host } => host == from,
        Fault::CutReceiver { host } => host == to,
        Fault::CutAllHeartbeats | Fault::CutEverything => true,
        Fault::Partition { side } | Fault::PartitionService { side } => sides(side),
        _ => false,
    }
}

/// Whether two hosts do not reach each other's addresses.
pub fn cuts_service(fault: Fault, one: usize, other: usize) -> bool {
    match fault {
        Fault::CutPairService { a, b } => (a, b) == (one, other) || (b, a) == (one, other),
        Fault::PartitionService { side } => (side >> one) & 1 != (side >> other) & 1,
        Fault::CutService | Fault::CutEverything => true,
        _ => false,
    }
}
