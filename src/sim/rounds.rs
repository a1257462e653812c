//! One round of a heart as the beat thread does it, held up now and then between reading and deciding.
//! It must not know what comes of the actions.

use super::Sabotage;
use super::happening::{Happening, Packet};
use super::host::{Daemon, News};
use super::world::World;
use crate::cluster::{Event, Incarnation, Time};
use crate::config::model::LinkId;

impl World {
    /// One round of a heart, exactly as the beat thread does it.
    pub fn round(&mut self, host: usize, news: Option<News>) {
        let now = self.now;
        let clock = self.hosts[host].clock(now);
        let Some(mut daemon) = self.hosts[host].daemon.take() else { return };
        let mut reading = std::mem::replace(&mut daemon.inbox, std::mem::take(&mut self.reading));
        reading.extend(news);
        daemon.packets = 0;
        if self.sabotage != Sabotage::Unread {
            daemon.unread_since = None;
        }
        daemon.cluster.begin(clock);
        for news in reading.drain(..) {
            match news {
                News::Packet(link, packet) => self.hear(host, &mut daemon, (link, &packet), clock),
                News::Event(event) => daemon.cluster.fold(event),
                News::Answer { address, mac } => {
                    if let Some((group, index)) = self.hosts[host].whose(address) {
                        daemon.cluster.fold(Event::ProbeAnswer { group, index, mac });
                    }
                }
                News::Lost { address } => {
                    let missing = self.hosts[host].whose(address).filter(|_| !self.hosts[host].up.has(address));
                    if let Some((group, index)) = missing {
                        daemon.cluster.fold(Event::AddressLost { group, index });
                    }
                }
            }
        }
        self.reading = reading;
        let incarnation = daemon.incarnation;
        let stalls = self.random.permille(self.rough.stall);
        daemon.deciding = stalls;
        self.hosts[host].daemon = Some(daemon);
        if stalls {
            let at = now + self.random.below(self.rough.stall_by);
            return self.at(at, Happening::Decide { host, incarnation });
        }
        self.decide(host);
    }

    fn hear(&mut self, host: usize, daemon: &mut Daemon, (link, packet): (LinkId, &Packet), clock: Time) {
        if self.sabotage == Sabotage::Unread {
            daemon.unread_since.get_or_insert(clock);
            return;
        }
        if !self.is_kept_from(host, packet.from) {
            daemon.reads(packet);
            daemon.cluster.hear(link, &packet.message);
        }
        let living = self.hosts[packet.from].daemon.as_ref().map(|daemon| daemon.incarnation);
        self.watch.heard(self.now, host, daemon.incarnation, living, packet);
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
            self.round(host, None);
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
        let (late, late_by) = match self.hosts[host].trouble.late {
            0 => (self.rough.late, self.rough.late_by),
            _ => (300, self.scenario.late_by()),
        };
        let late = if self.random.permille(late) { self.random.below(late_by) } else { 20_000 };
        let next = if self.is_restless() { clock } else { next.max(clock) };
        let at = self.hosts[host].world_time(next).max(self.now) + late;
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        // One that comes sooner is woken for nothing, which is harmless, and keeps the queue short.
        if daemon.wake_at.is_none_or(|planned| planned <= self.now || planned > at) {
            daemon.wake_at = Some(at);
            self.at(at, Happening::Wake { host });
        }
    }
}
