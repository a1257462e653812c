//! Virtual time: what happens next, to whom, and what comes of it. It must not know what is right: the checkers do.

use super::edits::Spread;
use super::files::{self, Files, MOST_GROUPS};
use super::happening::{Due, Happening, Packet};
use super::host::{Host, Later, News};
use super::network::Network;
use super::parts::JobEnd;
use super::plan::Plan;
use super::random::Random;
use super::scenario::{MOST_LINKS, MOST_NODES, Rough, Scenario};
use super::timeline::Timeline;
use super::watch::Watch;
use super::{Ending, MS, Nanos, SECOND, Sabotage};
use crate::cluster::{Event, Incarnation};
use crate::config::model::LinkId;
use crate::wire::{Message, codec};
use std::collections::BinaryHeap;
use std::rc::Rc;

/// How often a daemon looks whether its addresses are there.
const COMPARE: Nanos = 3 * SECOND;
/// What a socket keeps for a daemon that does not read.
const SOCKET_ROOM: usize = 200;
/// Packets that are kept to be sent again some day.
const RECORDED: usize = 400;

#[derive(Debug)]
pub struct World {
    pub now: Nanos,
    pub scenario: Scenario,
    pub rough: Rough,
    pub random: Random,
    pub network: Network,
    pub hosts: Vec<Host>,
    pub files: Files,
    /// Which heartbeat links have carrier: `[host][link]`.
    pub links: [[bool; MOST_LINKS]; MOST_NODES],
    /// When a daemon that ended is started again, and whether the host goes down with it.
    pub again: [Option<(Nanos, bool)>; MOST_NODES],
    /// A host that is not of this cluster answers for these groups' addresses.
    pub foreign: Vec<u8>,
    pub recorded: Vec<(usize, usize, Rc<Packet>)>,
    pub watch: Watch,
    pub timeline: Timeline,
    pub ending: Ending,
    pub sabotage: Sabotage,
    queue: BinaryHeap<Due>,
    pub counter: u64,
    pub requests: u64,
    written: [u64; MOST_NODES],
    kept: [u64; MOST_NODES],
    /// What a step's events are told with, kept for its room.
    pub reading: Vec<News>,
}

impl World {
    pub fn new(plan: Plan, sabotage: Sabotage, told: bool) -> World {
        let mut random = plan.random();
        let Plan { scenario, faults, .. } = plan;
        let hosts = (0..scenario.nodes)
            .map(|host| Host::new(scenario.config(host), scenario.drift[host], &mut random))
            .collect();
        let mut world = World {
            now: 0,
            rough: scenario.rough.clone(),
            network: Network::default(),
            hosts,
            files: Files::new(&scenario.groups, scenario.nodes),
            links: [[true; MOST_LINKS]; MOST_NODES],
            again: [None; MOST_NODES],
            foreign: vec![0; scenario.groups.len()],
            recorded: Vec::new(),
            watch: Watch::new(&scenario, &faults),
            timeline: Timeline::new(told),
            ending: Ending::default(),
            sabotage,
            queue: BinaryHeap::new(),
            counter: 0,
            requests: 0,
            written: [0; MOST_NODES],
            kept: [0; MOST_NODES],
            reading: Vec::new(),
            random,
            scenario,
        };
        world.timeline.note(0, None, || format!("{:?} {:?}", world.scenario.timing, world.rough));
        for (group, shape) in world.scenario.groups.iter().enumerate() {
            world.timeline.note(0, None, || format!("group {group}: {shape:?}"));
        }
        world.begin_sabotage();
        for host in 0..world.scenario.nodes {
            world.at(world.scenario.boots[host], Happening::Boot { host });
        }
        for planned in faults {
            world.at(planned.at, Happening::Strike(planned));
        }
        world.at(world.scenario.heal, Happening::Heal);
        world.at(world.scenario.settled, Happening::Look);
        world.at(COMPARE, Happening::Compare);
        world
    }

    pub fn run(mut self) -> Ending {
        while self.watch.violation.is_none() {
            let Some(due) = self.queue.pop() else { break };
            if due.at > self.scenario.end {
                break;
            }
            self.now = due.at;
            self.happen(due.happening);
        }
        self.finish();
        if self.watch.violation.is_none() {
            let span = self.scenario.end - self.scenario.settled;
            self.watch.violation = self.watch.settles.storms(self.now, span, self.scenario.keepalive()).err();
        }
        self.tell_what_waits();
        self.ending.span = self.now;
        self.ending.violation = self.watch.violation.take();
        self.ending.two_owners = self.watch.one_owner.admitted;
        self.ending.longest_two_owners = self.watch.one_owner.longest;
        self.ending.story = self.timeline.render(self.scenario.nodes);
        self.ending
    }

    /// For who looks for the reason of a violation.
    fn tell_what_waits(&mut self) {
        for host in 0..self.scenario.nodes {
            let Some(daemon) = self.hosts[host].daemon.as_ref().filter(|_| self.timeline.is_on()) else {
                continue;
            };
            for rollout in daemon.cluster.status().rollout {
                self.timeline.note(self.now, Some(host), || format!("{rollout:?}"));
            }
        }
    }

    pub fn at(&mut self, at: Nanos, happening: Happening) {
        self.counter += 1;
        self.queue.push(Due { at, number: self.counter, happening });
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake { host } => {
                let now = self.now;
                let wakes = self.hosts[host].daemon.as_ref().is_some_and(|daemon| daemon.wake_at == Some(now));
                if wakes && self.hosts[host].runs(now) {
                    self.round(host, None);
                }
            }
            Happening::Deliver { to, link, packet } => self.deliver(to, link, packet),
            Happening::Tell { host, incarnation, news } => {
                if self.is_run(host, incarnation) {
                    self.bring(host, *news);
                }
            }
            Happening::Decide { host, incarnation } => self.decide_late(host, incarnation),
            Happening::Job { host, boot, group, number, end } => self.job_ended(host, boot, group, number, end),
            Happening::Written { host, boot, number, saved } => {
                if self.hosts[host].powered && self.hosts[host].boot.0 == boot && number > self.written[host] {
                    self.written[host] = number;
                    self.hosts[host].written(*saved);
                }
            }
            Happening::Note { .. }
            | Happening::Kept { .. }
            | Happening::Edit { .. }
            | Happening::Reload { .. }
            | Happening::Mend { .. }
            | Happening::PutIn { .. }
            | Happening::AllFiles
            | Happening::PowerLoss { .. }
            | Happening::Guards { .. } => self.happen_to_files(happening),
            Happening::Boot { host } => self.boot(host),
            Happening::StartDaemon { host } => self.start_daemon(host),
            Happening::Thaw { host } => self.thaw(host),
            Happening::Strike(planned) => self.strike(planned),
            Happening::End(planned) => self.unstrike(planned),
            Happening::Leave { host, incarnation } => {
                if self.is_run(host, incarnation) {
                    for later in self.hosts[host].up.stop_members() {
                        self.later(host, MS / 10, later);
                    }
                    self.ownership(host);
                    self.tell(host, Event::Leave);
                }
            }
            Happening::PowerOff { host, boot } => {
                if self.hosts[host].powered && self.hosts[host].boot.0 == boot {
                    self.power_off(host);
                }
            }
            Happening::Sabotage => self.commit_sabotage(),
            Happening::Heal => self.heal(),
            Happening::LastWords => self.last_words(),
            Happening::Compare => {
                self.compare();
                self.at(self.now + COMPARE, Happening::Compare);
            }
            Happening::Look => {
                self.look();
                let again = (self.scenario.keepalive() / 2).max(50 * MS);
                self.at(self.now + again, Happening::Look);
            }
        }
    }

    fn job_ended(&mut self, host: usize, boot: u64, group: usize, number: u64, end: JobEnd) {
        if !self.hosts[host].powered || self.hosts[host].boot.0 != boot {
            return;
        }
        if self.hosts[host].frozen_until > self.now {
            let at = self.hosts[host].frozen_until + MS;
            return self.at(at, Happening::Job { host, boot, group, number, end });
        }
        if end == JobEnd::Failed {
            self.watch.moves.hindered(group);
        }
        let later = self.hosts[host].job_ended(number, end);
        self.ownership(host);
        if let Some(later) = later {
            self.later(host, MS / 10, later);
        }
    }

    fn happen_to_files(&mut self, happening: Happening) {
        match happening {
            Happening::Note { host, incarnation, op, config, fails } if self.is_run(host, incarnation) => {
                let event = self.hosts[host].note(op, &config, fails);
                self.later(host, MS / 10, Later::Tell(event));
                self.keep_config(host);
            }
            Happening::Kept { host, boot, number, config }
                if self.hosts[host].powered && self.hosts[host].boot.0 == boot && number > self.kept[host] =>
            {
                self.kept[host] = number;
                self.hosts[host].keep(config);
            }
            Happening::Guards { host, incarnation } if self.is_run(host, incarnation) => self.tell_guards(host),
            Happening::Edit { host, edition } => self.edit(host, edition),
            Happening::Reload { host, incarnation } if self.is_run(host, incarnation) => self.reload(host),
            Happening::Mend { host, groups, follow } => self.mend(host, groups, follow),
            Happening::PutIn { part, group } => self.put_in(part, group),
            Happening::AllFiles => self.all_files(),
            Happening::PowerLoss { host, span } if self.now < self.scenario.heal && self.hosts[host].powered => {
                self.counts(Spread::PowerLoss { of: host, after: 0 }.name());
                self.power_loss(host, (self.now + span).min(self.scenario.heal));
            }
            _ => {}
        }
    }

    pub fn is_run(&self, host: usize, incarnation: Incarnation) -> bool {
        self.hosts[host].daemon.as_ref().is_some_and(|daemon| daemon.incarnation == incarnation)
    }

    /// An event reaches the daemon, or waits for it.
    pub fn tell(&mut self, host: usize, event: Event) {
        self.bring(host, News::Event(event));
    }

    pub fn bring(&mut self, host: usize, news: News) {
        let runs = self.hosts[host].runs(self.now);
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        if runs {
            self.round(host, Some(news));
        } else {
            daemon.inbox.push(news);
        }
    }

    fn deliver(&mut self, to: usize, link: usize, packet: Rc<Packet>) {
        let host = &mut self.hosts[to];
        // A host that stands still hears nothing, nor does one without carrier.
        if !host.powered || host.frozen_until > self.now || !self.links[to][link] {
            return;
        }
        let (runs, clock) = (host.runs(self.now), host.clock(self.now));
        let Some(daemon) = &mut host.daemon else { return };
        if runs {
            if daemon.inbox.is_empty() && self.rough.stall == 0 && daemon.knows(&packet, clock) {
                daemon.cluster.begin(clock);
                daemon.cluster.hear(LinkId(link as u8), &packet.message);
                return;
            }
            self.round(to, Some(News::Packet(LinkId(link as u8), packet)));
        } else if daemon.packets < SOCKET_ROOM {
            daemon.packets += 1;
            daemon.unread_since.get_or_insert(clock);
            daemon.inbox.push(News::Packet(LinkId(link as u8), packet));
        }
    }

    /// Something comes of a step, after a while.
    pub fn later(&mut self, host: usize, span: Nanos, later: Later) {
        let at = self.now + span;
        let boot = self.hosts[host].boot.0;
        match later {
            Later::Tell(Event::Finished { .. }) if self.hosts[host].mute => {}
            Later::Tell(event) => self.later(host, span, Later::News(News::Event(event))),
            Later::News(news) => {
                let Some(daemon) = &self.hosts[host].daemon else { return };
                let incarnation = daemon.incarnation;
                self.at(at, Happening::Tell { host, incarnation, news: Box::new(news) });
            }
            Later::Job { group, number, end } => self.at(at, Happening::Job { host, boot, group, number, end }),
            Later::Written(saved) => {
                let number = self.counter;
                self.at(at, Happening::Written { host, boot, number, saved: Box::new(saved) });
            }
        }
    }

    pub fn send(&mut self, from: usize, message: &Message) {
        self.ending.messages += 1;
        if self.now >= self.scenario.settled {
            self.watch.settles.sent(from);
        }
        let message = codec::decode(&codec::encode(message)).expect("what a heart sent can be decoded");
        let mut digests = [0; MOST_GROUPS];
        let groups = &self.hosts[from].config.groups;
        groups.iter().for_each(|group| digests[files::number(group.tag)] = group.digest);
        let owned = (0..MOST_GROUPS).filter(|group| self.hosts[from].owns(*group)).fold(0, |owned, it| owned | 1 << it);
        let packet = Rc::new(Packet { from, message, sent: self.now, digests, owned });
        for to in (0..self.scenario.nodes).filter(|to| *to != from) {
            for link in 0..self.scenario.links {
                if !self.links[from][link] {
                    continue;
                }
                let ways = self.network.carry(&mut self.random, &self.rough, (from, to, link));
                for way in ways.into_iter().flatten() {
                    self.at(self.now + way, Happening::Deliver { to, link, packet: packet.clone() });
                }
            }
            if self.random.permille(30) {
                let place = self.recorded.len();
                if place < RECORDED {
                    self.recorded.push((to, 0, packet.clone()));
                } else {
                    self.recorded[self.random.below(RECORDED as u64) as usize] = (to, 0, packet.clone());
                }
            }
        }
    }
}
