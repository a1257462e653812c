//! Faults as they hit the world, and as they end. It must not know when they come, nor what is right.

use super::faults::{Fault, Planned, WRONG_CLOCK};
use super::happening::Happening;
use super::host::{Later, News};
use super::network::count;
use super::scenario::{MOST_LINKS, Rough};
use super::world::World;
use super::{MS, Nanos, SECOND};
use crate::cluster::{Cluster, Command, Event, RequestId, Which};
use crate::config::model::{LinkId, NodeId};

/// The world needs so long to rest after the last word.
const LAST_WORDS: Nanos = 14 * SECOND;

impl World {
    pub fn strike(&mut self, planned: Planned) {
        let Planned { fault, span, .. } = planned;
        self.ending.struck += 1;
        let millis = span / MS;
        self.timeline.note(self.now, None, || format!("{fault:?} for {millis} ms"));
        if let Fault::Files { group, change, spread } = fault {
            if !self.edit_files(group, change, spread, span) {
                return self.timeline.note(self.now, None, || "nothing to change".into());
            }
            spread.name().into_iter().for_each(|name| *self.ending.faults.entry(name.into()).or_default() += 1);
        }
        *self.ending.faults.entry(fault.name()).or_default() += 1;
        let until = self.now + planned.span;
        self.watch.moves.event(self.now);
        self.watch.moves.troubled_until(until);
        if let Some((host, command)) = self.said(planned.fault) {
            self.command(host, command);
            if matches!(planned.fault, Fault::StandbyStays { .. } | Fault::Maintenance { .. }) {
                self.at(until, Happening::End(planned));
            }
            return;
        }
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
                if self.hosts[host].powered && self.hosts[host].frozen_until < self.now {
                    self.freeze(host, until);
                    self.hosts[host].hold_clock(self.now, planned.span);
                }
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
            Fault::Replay { to } => self.replay(to, planned.span),
            // No word for a group that is not known there.
            Fault::Move { .. } | Fault::Stop { .. } | Fault::Start { .. } | Fault::Clear { .. } => {}
            lasting => {
                self.toggle(lasting, true);
                self.at(until, Happening::End(planned));
            }
        }
    }

    /// What an operator says, on which host; nothing of a group that is not known there.
    fn said(&self, fault: Fault) -> Option<(usize, Command)> {
        let group = |host: usize, group: usize| {
            let id = self.hosts[host].id(group)?;
            (!self.hosts[host].config.group(id).is_gone()).then_some(id)
        };
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
        for _ in 0..20 {
            if self.recorded.is_empty() {
                return;
            }
            let index = self.random.below(self.recorded.len() as u64) as usize;
            let (for_whom, link, packet) = self.recorded[index].clone();
            if for_whom == to {
                let at = self.now + self.random.below(span + 1);
                self.at(at, Happening::Deliver { to, link, packet });
            }
        }
    }

    pub fn power_loss(&mut self, host: usize, until: Nanos) {
        if self.hosts[host].powered {
            self.hosts[host].power_loss();
            self.again[host] = None;
            self.watch.rules.power_lost(host);
            self.watch.daemon_ended(self.now, host);
            self.ownership(host);
        }
        self.at(until, Happening::Boot { host });
    }

    /// The host goes down in order.
    pub fn power_off(&mut self, host: usize) {
        let until = self.again[host].map_or(self.now + 500 * MS, |(until, _)| until.max(self.now + 100 * MS));
        self.timeline.note(self.now, Some(host), || "power off".into());
        self.hosts[host].flush();
        self.power_loss(host, until);
    }

    fn reboot(&mut self, host: usize, until: Nanos) {
        let Some(daemon) = &self.hosts[host].daemon else { return };
        let incarnation = daemon.incarnation;
        let boot = self.hosts[host].boot.0;
        self.again[host] = Some((until, true));
        self.tell(host, Event::HostStopping);
        let leave = self.now + self.random.between(MS, 600 * MS);
        self.at(leave, Happening::Leave { host, incarnation });
        // The service manager's own patience.
        self.at(leave + 8000 * MS, Happening::PowerOff { host, boot });
    }

    fn kill(&mut self, host: usize, until: Nanos, for_good: bool) {
        if !self.hosts[host].powered || self.hosts[host].daemon.is_none() {
            return;
        }
        self.hosts[host].daemon = None;
        self.watch.daemon_ended(self.now, host);
        if !for_good {
            let down = self.again[host].is_some_and(|(_, down)| down);
            if !down {
                self.again[host] = None;
            }
            return self.at(until, Happening::StartDaemon { host });
        }
        self.again[host] = Some((until, false));
        self.run_daemon(host, true);
    }

    /// The daemon ended in order.
    pub fn exited(&mut self, host: usize) {
        self.timeline.note(self.now, Some(host), || "daemon ends".into());
        self.hosts[host].flush();
        self.hosts[host].daemon = None;
        self.watch.daemon_ended(self.now, host);
        match self.again[host] {
            Some((_, true)) => self.power_off(host),
            Some((until, false)) => {
                self.again[host] = None;
                self.at(until.max(self.now + 50 * MS), Happening::StartDaemon { host });
            }
            None => self.at(self.now + 50 * MS, Happening::StartDaemon { host }),
        }
    }

    pub fn boot(&mut self, host: usize) {
        if self.hosts[host].powered || (self.now >= self.scenario.heal && self.scenario.off == Some(host)) {
            return;
        }
        self.hosts[host].boot(self.now, &mut self.random);
        self.links[host] = [true; MOST_LINKS];
        self.again[host] = None;
        self.timeline.note(self.now, Some(host), || "power on".into());
        let at = self.now + self.random.between(MS, 300 * MS);
        self.at(at, Happening::StartDaemon { host });
    }

    pub fn start_daemon(&mut self, host: usize) {
        if !self.hosts[host].powered || self.hosts[host].daemon.is_some() {
            return;
        }
        if self.hosts[host].frozen_until > self.now {
            return self.at(self.hosts[host].frozen_until, Happening::StartDaemon { host });
        }
        self.run_daemon(host, false);
    }

    /// `dead`: it only cleans up after one that died.
    fn run_daemon(&mut self, host: usize, dead: bool) {
        let read = if dead { Err("they are not read".into()) } else { self.files.read(host) };
        if !self.hosts[host].start_daemon(self.now, read.clone(), &mut self.random) {
            // There is nothing to go by before somebody mends the files.
            return self.at(self.now + SECOND, Happening::StartDaemon { host });
        }
        self.watch.daemon_started(self.now, host);
        self.timeline.note(self.now, Some(host), || "daemon starts".into());
        let first = match read {
            _ if dead => Event::DaemonDied,
            Ok(groups) => Event::Files { groups, request: None },
            Err(mistakes) => Event::Pending(Some(mistakes)),
        };
        self.round(host, Some(News::Event(first)));
        self.keep_config(host);
        self.look_at_guards(host);
        for link in 0..self.scenario.links {
            let usable = self.links[host][link];
            let after = self.random.below(20 * MS);
            self.later(host, after, Later::Tell(Event::Link { link: LinkId(link as u8), usable }));
        }
        let up = self.hosts[host].carrier;
        self.later(host, MS / 10, Later::Tell(Event::Interface { interface: "eth0".into(), up }));
    }

    /// Stopped by a signal.
    fn pause(&mut self, host: usize, span: Nanos) {
        let until = self.now + span;
        if let Some(daemon) = &mut self.hosts[host].daemon {
            daemon.paused_until = daemon.paused_until.max(until);
            self.watch.one_owner.disturbed();
            self.watch.operations.was_away(span, host);
            self.at(until, Happening::Thaw { host });
        }
    }

    fn freeze(&mut self, host: usize, until: Nanos) {
        if !self.hosts[host].powered {
            return;
        }
        let span = until.saturating_sub(self.hosts[host].frozen_until.max(self.now));
        self.hosts[host].frozen_until = self.hosts[host].frozen_until.max(until);
        self.hosts[host].answers_since = Some(self.hosts[host].frozen_until);
        // It notices only what goes beyond its own next deadline, which is at most a keepalive away.
        self.watch.was_away(span.saturating_sub(self.scenario.keepalive()), host);
        self.watch.operations.was_away(span, host);
        self.at(until, Happening::Thaw { host });
    }

    pub fn thaw(&mut self, host: usize) {
        if !self.hosts[host].runs(self.now) {
            return;
        }
        self.timeline.note(self.now, Some(host), || "goes on".into());
        self.round(host, None);
    }

    /// Operators end what they began, on every node that does not know it yet, until the world is to rest.
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
        }
        if self.now + LAST_WORDS < self.scenario.settled {
            self.at(self.now + SECOND, Happening::LastWords);
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
fn cuts(fault: Fault, from: usize, to: usize, link: usize) -> bool {
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
fn cuts_service(fault: Fault, one: usize, other: usize) -> bool {
    match fault {
        Fault::CutPairService { a, b } => (a, b) == (one, other) || (b, a) == (one, other),
        Fault::PartitionService { side } => (side >> one) & 1 != (side >> other) & 1,
        Fault::CutService | Fault::CutEverything => true,
        _ => false,
    }
}
