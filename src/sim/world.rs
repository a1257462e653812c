//! Virtual time: what happens next, to whom, and what comes of it. It must not know what is right: the checkers do.

use super::faults::Planned;
use super::host::{Host, JobEnd, Later, News};
use super::network::Network;
use super::plan::Plan;
use super::random::Random;
use super::scenario::{MOST_LINKS, MOST_NODES, Rough, Scenario};
use super::timeline::Timeline;
use super::watch::Watch;
use super::{Ending, MS, Nanos, SECOND, Sabotage};
use crate::cluster::{Action, Change, Event, Incarnation, OpId};
use crate::config::model::{GroupId, LinkId};
use crate::wire::{Message, codec};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;

/// How often a daemon looks whether its addresses are there.
const COMPARE: Nanos = 3 * SECOND;
/// What a socket keeps for a daemon that does not read.
const SOCKET_ROOM: usize = 200;
/// Packets that are kept to be sent again some day.
const RECORDED: usize = 400;

/// A packet on its way.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from: usize,
    /// As it is after having been bytes.
    pub message: Message,
    pub sent: Nanos,
    /// The digest of its sender's groups.
    pub files: u32,
}

#[derive(Clone, Debug)]
pub enum Happening {
    /// The daemon looks at the time, if it still wants to.
    Wake {
        host: usize,
    },
    Deliver {
        to: usize,
        link: usize,
        packet: Rc<Packet>,
    },
    /// The daemon decides on what it read.
    Decide {
        host: usize,
        incarnation: Incarnation,
    },
    /// For one run of the daemon.
    Tell {
        host: usize,
        incarnation: Incarnation,
        event: Box<Event>,
    },
    Job {
        host: usize,
        boot: u64,
        group: usize,
        number: u64,
        end: JobEnd,
    },
    Written {
        host: usize,
        boot: u64,
        number: u64,
        saved: Box<crate::cluster::Saved>,
    },
    Boot {
        host: usize,
    },
    StartDaemon {
        host: usize,
    },
    /// A daemon or a host that stood still goes on.
    Thaw {
        host: usize,
    },
    Strike(Planned),
    End(Planned),
    /// The service manager ends a daemon in the course of a reboot.
    Leave {
        host: usize,
        incarnation: Incarnation,
    },
    PowerOff {
        host: usize,
        boot: u64,
    },
    Sabotage,
    Heal,
    /// Operators end standby and maintenance.
    LastWords,
    Look,
    /// A daemon compares the host's addresses with what should be there, which it does now and then.
    Compare,
}

/// In the order of time, then of their making.
#[derive(Debug)]
struct Due {
    at: Nanos,
    number: u64,
    happening: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The earliest is the greatest: it comes first from the heap.
    fn cmp(&self, other: &Due) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

#[derive(Debug)]
pub struct World {
    pub now: Nanos,
    pub scenario: Scenario,
    pub rough: Rough,
    pub random: Random,
    pub network: Network,
    pub hosts: Vec<Host>,
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
    counter: u64,
    pub requests: u64,
    written: [u64; MOST_NODES],
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
        if self.watch.violation.is_none() {
            let span = self.scenario.end - self.scenario.settled;
            self.watch.violation = self.watch.settles.storms(self.now, span, self.scenario.keepalive()).err();
        }
        self.ending.span = self.now;
        self.ending.violation = self.watch.violation.take();
        self.ending.two_owners = self.watch.one_owner.admitted;
        self.ending.longest_two_owners = self.watch.one_owner.longest;
        self.ending.story = self.timeline.render(self.scenario.nodes);
        self.ending
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
            Happening::Tell { host, incarnation, event } => {
                if self.hosts[host].daemon.as_ref().is_some_and(|daemon| daemon.incarnation == incarnation) {
                    self.tell(host, *event);
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
            Happening::Boot { host } => self.boot(host),
            Happening::StartDaemon { host } => self.start_daemon(host),
            Happening::Thaw { host } => self.thaw(host),
            Happening::Strike(planned) => self.strike(planned),
            Happening::End(planned) => self.unstrike(planned),
            Happening::Leave { host, incarnation } => {
                if self.hosts[host].daemon.as_ref().is_some_and(|daemon| daemon.incarnation == incarnation) {
                    for later in self.hosts[host].stop_members() {
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
        let later = self.hosts[host].job_ended(group, number, end);
        self.ownership(host);
        if let Some(later) = later {
            self.later(host, MS / 10, later);
        }
    }

    /// An event reaches the daemon, or waits for it.
    pub fn tell(&mut self, host: usize, event: Event) {
        let runs = self.hosts[host].runs(self.now);
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        if runs {
            self.round(host, Some(News::Event(event)));
        } else {
            daemon.inbox.push(News::Event(event));
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

    pub fn act(&mut self, host: usize, action: Action) {
        let trouble = self.hosts[host].trouble;
        let failing = if trouble.fail > 0 { 200 } else { self.rough.fail / 4 };
        let fails = self.random.permille(failing);
        let now = self.now;
        let answer = self.random.between(20_000, 200_000) * if trouble.slow > 0 { 10_000 } else { 1 };
        match action {
            Action::Send(message) => self.send(host, &message),
            Action::Report(change) => self.reported(host, change),
            Action::Exit => self.exited(host),
            Action::Reply { request, answer } => {
                if self.sabotage != Sabotage::DeafOperator {
                    self.watch.operations.answered(host, request);
                }
                self.timeline.note(now, Some(host), || format!("answer: {answer:?}"));
            }
            Action::Announce { .. } => {}
            Action::Probe { group } => self.probe(host, group),
            Action::Save(saved) => {
                let (span, later) = self.hosts[host].save(saved, &mut self.random, &self.rough);
                self.later(host, span, later);
            }
            Action::Forget { group } => self.hosts[host].forget(group),
            Action::RepairAddress { op, group, index } => {
                let later = self.hosts[host].repair_address(now, op, group, index);
                self.later(host, answer, later);
            }
            Action::Hold { op, group, grant, phase } => {
                self.hindered(fails, group);
                let later = self.hosts[host].hold(op, group, grant, phase, fails);
                self.later(host, answer, later);
            }
            Action::Inspect { op, group } => {
                // What is slow about it comes before the look: what changes after it is told after it.
                let later = self.hosts[host].inspect(op, group, fails);
                self.later(host, answer.min(MS / 5), later);
            }
            Action::AddAddresses { op, group } => {
                self.timeline.note(now, Some(host), || format!("  add addresses of {}", group.0));
                self.hindered(fails, group);
                self.goes_on(host, usize::from(group.0));
                let later = self.hosts[host].add_addresses(now, op, group, fails);
                self.later(host, answer, later);
            }
            Action::RemoveAddresses { op, group } => {
                self.timeline.note(now, Some(host), || format!("  remove addresses of {}", group.0));
                self.hindered(fails, group);
                let later = self.hosts[host].remove_addresses(op, group, fails);
                self.later(host, answer, later);
            }
            Action::StartMembers { op, group } => {
                self.goes_on(host, usize::from(group.0));
                self.begin_job(host, op, group, true);
            }
            Action::StopMembers { op, group } => self.begin_job(host, op, group, false),
            Action::VerifyStopped { op, group } => {
                let later = self.hosts[host].verify(op, group);
                self.later(host, MS, later);
            }
            // The files of a simulated host do not change while its daemon runs.
            Action::CheckGuards { .. } | Action::DropAddresses { .. } | Action::DropMembers { .. } => {}
            Action::Note { .. } | Action::Configure(_) => {}
        }
    }

    fn hindered(&mut self, fails: bool, group: GroupId) {
        if fails {
            self.watch.moves.hindered(usize::from(group.0));
        }
    }

    fn begin_job(&mut self, host: usize, op: OpId, group: GroupId, start: bool) {
        self.timeline.note(self.now, Some(host), || format!("  members of {} start: {start}", group.0));
        for (span, later) in self.hosts[host].begin_job(op, group, start, &mut self.random, &self.rough) {
            self.later(host, span, later);
        }
    }

    /// Something comes of a step, after a while.
    pub fn later(&mut self, host: usize, span: Nanos, later: Later) {
        let at = self.now + span;
        let boot = self.hosts[host].boot.0;
        match later {
            Later::Tell(Event::Finished { .. }) if self.hosts[host].mute => {}
            Later::Tell(event) => {
                let Some(daemon) = &self.hosts[host].daemon else { return };
                let incarnation = daemon.incarnation;
                self.at(at, Happening::Tell { host, incarnation, event: Box::new(event) });
            }
            Later::Job { group, number, end } => self.at(at, Happening::Job { host, boot, group, number, end }),
            Later::Written(saved) => {
                let number = self.counter;
                self.at(at, Happening::Written { host, boot, number, saved: Box::new(saved) });
            }
        }
    }

    fn send(&mut self, from: usize, message: &Message) {
        self.ending.messages += 1;
        if self.now >= self.scenario.settled {
            self.watch.settles.sent(from);
        }
        let message = codec::decode(&codec::encode(message)).expect("what a heart sent can be decoded");
        let packet = Rc::new(Packet { from, message, sent: self.now, files: self.hosts[from].config.groups_digest });
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

    /// The other hosts' kernels answer, if one has the address and the question reaches it.
    fn probe(&mut self, host: usize, group: GroupId) {
        let index = usize::from(group.0);
        for other in (0..self.scenario.nodes).filter(|other| *other != host) {
            if self.arp_since(host, other).is_some() && self.hosts[other].answers(index, self.now) {
                let here = self.hosts[other].real[index].addresses.iter().position(|here| *here).unwrap_or(0);
                self.answer_probe(host, group, here, other as u8);
            }
        }
        if self.foreign[index] > 0 && self.hosts[host].carrier {
            self.answer_probe(host, group, 0, 0xff);
        }
    }

    fn answer_probe(&mut self, host: usize, group: GroupId, index: usize, last: u8) {
        let span = self.random.between(MS / 20, 3 * MS / 2);
        let mac = [2, 0, 0, 0, 0, last];
        self.timeline.note(self.now, Some(host), || format!("  address {index} of {} is answered by {last}", group.0));
        self.later(host, span, Later::Tell(Event::ProbeAnswer { group, index, mac }));
    }

    /// Since when two hosts' kernels would hear each other.
    pub fn arp_since(&self, one: usize, other: usize) -> Option<Nanos> {
        let there = |host: usize| self.hosts[host].carrier && self.hosts[host].frozen_until <= self.now;
        self.network.arp_since(one, other).filter(|_| there(one) && there(other))
    }

    fn reported(&mut self, host: usize, change: Change) {
        self.timeline.note(self.now, Some(host), || format!("{change:?}"));
        match change {
            Change::GroupStarting { group, .. } => {
                self.ending.takeovers += 1;
                self.decided(host, usize::from(group.0));
            }
            Change::GroupStopping { group, reason, .. } => self.stopping(host, usize::from(group.0), &reason),
            _ => {}
        }
    }
}
