//! How hosts and daemons come, stand still, end, and come again. It must not know which fault it was, nor what is right.

use super::happening::Happening;
use super::host::{Later, News};
use super::scenario::MOST_LINKS;
use super::world::World;
use super::{MS, Nanos, SECOND};
use crate::cluster::Event;
use crate::config::model::LinkId;

impl World {
    pub fn power_loss(&mut self, host: usize, until: Nanos) {
        if !self.hosts[host].powered {
            return;
        }
        self.hosts[host].power_loss();
        self.again[host] = None;
        self.watch.rules.power_lost(host);
        self.watch.daemon_ended(self.now, host);
        self.ownership(host);
        self.at(until, Happening::Boot { host });
    }

    /// The host goes down in order.
    pub fn power_off(&mut self, host: usize) {
        let until = self.again[host].map_or(self.now + 500 * MS, |(until, _)| until.max(self.now + 100 * MS));
        self.timeline.note(self.now, Some(host), || "power off".into());
        self.hosts[host].flush();
        self.power_loss(host, until);
    }

    pub fn reboot(&mut self, host: usize, until: Nanos) {
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

    pub fn kill(&mut self, host: usize, until: Nanos, for_good: bool) {
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
    pub fn pause(&mut self, host: usize, span: Nanos) {
        let until = self.now + span;
        if let Some(daemon) = &mut self.hosts[host].daemon {
            daemon.paused_until = daemon.paused_until.max(until);
            self.watch.one_owner.disturbed(host);
            self.watch.operations.was_away(span, host);
            self.at(until, Happening::Thaw { host });
        }
    }

    pub fn freeze(&mut self, host: usize, until: Nanos) {
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
}
