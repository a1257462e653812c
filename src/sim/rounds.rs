//! One round of a heart as the beat thread does it, held up now and then between reading and deciding.
//! It must not know what comes of the actions.

use super::world::{Happening, World};
use crate::cluster::{Event, Incarnation, Time};

impl World {
    /// One round of a heart, exactly as the beat thread does it.
    pub fn round(&mut self, host: usize, news: Vec<Event>) {
        let now = self.now;
        let clock = self.hosts[host].clock(now);
        let other = self.hosts[1 - host].daemon.as_ref().map(|daemon| daemon.incarnation);
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        let mut events = std::mem::take(&mut daemon.inbox);
        events.extend(news);
        daemon.unread_since = None;
        daemon.cluster.begin(clock);
        for event in events {
            match event {
                Event::Heartbeat { link, message } => {
                    daemon.cluster.hear(link, &message);
                    self.watch.heard(now, host, daemon.incarnation, other, &message);
                }
                event => daemon.cluster.fold(event),
            }
        }
        let incarnation = daemon.incarnation;
        if self.random.permille(self.rough.stall) {
            daemon.deciding = true;
            let at = now + self.random.below(self.rough.stall_by);
            return self.at(at, Happening::Decide { host, incarnation });
        }
        self.decide(host);
    }

    /// A daemon that was held up between reading and deciding.
    pub fn decide_late(&mut self, host: usize, incarnation: Incarnation) {
        let frozen_until = self.hosts[host].frozen_until;
        let Some(daemon) = self.hosts[host].daemon.as_mut().filter(|daemon| daemon.incarnation == incarnation) else {
            return;
        };
        let until = frozen_until.max(daemon.paused_until);
        if until > self.now {
            return self.at(until, Happening::Decide { host, incarnation });
        }
        daemon.deciding = false;
        self.decide(host);
        // What came meanwhile is read at once.
        if self.hosts[host].runs(self.now) {
            self.round(host, Vec::new());
        }
    }

    fn decide(&mut self, host: usize) {
        let now = self.now;
        let clock = self.hosts[host].clock(now);
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        let actions = daemon.cluster.decide(clock);
        let incarnation = daemon.incarnation;
        self.ending.rounds += 1;
        if now >= self.scenario.settled {
            self.watch.settles.round(host);
        }
        for action in actions {
            if self.hosts[host].daemon.as_ref().is_none_or(|daemon| daemon.incarnation != incarnation) {
                return;
            }
            self.act(host, action);
        }
        self.ownership(host);
        self.inspect_rules(host);
        self.plan_wake(host, clock);
    }

    fn plan_wake(&mut self, host: usize, clock: Time) {
        let next = self.hosts[host].daemon.as_ref().and_then(|daemon| daemon.cluster.next_deadline());
        let Some(next) = next else { return };
        let late = if self.random.permille(self.rough.late) { self.random.below(self.rough.late_by) } else { 20_000 };
        let at = self.hosts[host].world_time(next.max(clock)) + late;
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        // One that comes sooner is woken for nothing, which is harmless, and keeps the queue short.
        if daemon.wake_at.is_none_or(|planned| planned <= self.now || planned > at) {
            daemon.wake_at = Some(at);
            self.at(at, Happening::Wake { host });
        }
    }
}
