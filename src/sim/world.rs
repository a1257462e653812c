//! Virtual time: what happens next, to whom, and what comes of it. It must not know what is right: the checkers do.

use super::faults::{self, Planned};
use super::host::{Host, JobEnd, Later};
use super::network::Network;
use super::random::Random;
use super::scenario::{LINKS, NODES, Rough, Scenario};
use super::timeline::Timeline;
use super::watch::Watch;
use super::{Ending, MS, Nanos, SECOND, Sabotage};
use crate::cluster::{Action, Change, Event, Incarnation, OpId};
use crate::config::model::{GroupId, LinkId};
use crate::wire::{Message, codec};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

/// How often the world is looked at while it should rest.
const LOOK: Nanos = 50 * MS;
/// How often a daemon looks whether its addresses are there.
const COMPARE: Nanos = 3 * SECOND;
/// What a socket keeps for a daemon that does not read.
const SOCKET_ROOM: usize = 200;

/// A packet on its way.
#[derive(Clone, Debug)]
pub struct Packet {
    pub bytes: Rc<Vec<u8>>,
    pub sent: Nanos,
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
        packet: Packet,
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
        event: Event,
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
        saved: crate::cluster::Saved,
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
    Usurp,
    Heal,
    Look,
    /// A daemon compares the host's addresses with what should be there, which it does now and then.
    Compare,
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
    pub links: [[bool; LINKS]; NODES],
    /// When a daemon that ended is started again, and whether the host goes down with it.
    pub again: [Option<(Nanos, bool)>; NODES],
    pub recorded: Vec<(usize, usize, Packet)>,
    pub watch: Watch,
    pub timeline: Timeline,
    pub ending: Ending,
    sabotage: Sabotage,
    queue: BinaryHeap<Reverse<(Nanos, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    counter: u64,
    written: [u64; NODES],
}

impl World {
    pub fn new(seed: u64, sabotage: Sabotage, told: bool) -> World {
        let mut random = Random::new(seed);
        let scenario = Scenario::new(&mut random);
        let hosts = scenario.configs.iter().map(|config| Host::new(config.clone(), &mut random));
        let hosts: Vec<Host> = hosts.collect();
        let plan = faults::plan(&mut random, &scenario);
        let mut world = World {
            now: 0,
            rough: scenario.rough.clone(),
            network: Network::new(),
            hosts,
            links: [[true; LINKS]; NODES],
            again: [None; NODES],
            recorded: Vec::new(),
            watch: Watch::new(&scenario),
            timeline: Timeline::new(told),
            ending: Ending::default(),
            sabotage,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            counter: 0,
            written: [0; NODES],
            random,
            scenario,
        };
        world.timeline.note(0, None, || format!("{:?} {:?}", world.scenario.configs[0].timing, world.rough));
        for group in &world.scenario.configs[0].groups {
            world.timeline.note(0, None, || {
                let (members, nodes, back) = (group.members.len(), &group.nodes, group.failback);
                format!(
                    "{} addresses {} members {members} {nodes:?} failback {back}",
                    group.name,
                    group.addresses.len()
                )
            });
        }
        world.sabotage();
        for host in 0..NODES {
            let latest = *world.random.pick(&[MS, 50 * MS, 6 * SECOND]);
            let at = world.random.below(latest);
            world.at(at, Happening::Boot { host });
        }
        for planned in plan {
            world.at(planned.at, Happening::Strike(planned));
        }
        world.at(world.scenario.heal, Happening::Heal);
        world.at(world.scenario.settled, Happening::Look);
        world.at(COMPARE, Happening::Compare);
        world
    }

    fn sabotage(&mut self) {
        match self.sabotage {
            Sabotage::None => {}
            Sabotage::FalseStop => self.hosts.iter_mut().for_each(|host| host.lies = true),
            Sabotage::Usurper => {
                let at = self.random.between(5 * SECOND, 13 * SECOND);
                self.at(at, Happening::Usurp);
            }
            Sabotage::Stall => self.hosts.iter_mut().for_each(|host| host.mute = true),
        }
    }

    pub fn run(mut self) -> Ending {
        while self.watch.violation.is_none() {
            let Some(Reverse((at, key))) = self.queue.pop() else { break };
            if at > self.scenario.end {
                break;
            }
            self.now = at;
            let Some(happening) = self.happenings.remove(&key) else { continue };
            self.happen(happening);
        }
        if self.watch.violation.is_none() {
            let span = self.scenario.end - self.scenario.settled;
            self.watch.violation = self.watch.settles.storms(self.now, span, self.scenario.keepalive()).err();
        }
        self.ending.violation = self.watch.violation.take();
        self.ending.two_owners = self.watch.one_owner.admitted;
        self.ending.longest_two_owners = self.watch.one_owner.longest;
        self.ending.story = self.timeline.render();
        self.ending
    }

    pub fn at(&mut self, at: Nanos, happening: Happening) {
        self.counter += 1;
        self.queue.push(Reverse((at, self.counter)));
        self.happenings.insert(self.counter, happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake { host } => {
                let now = self.now;
                let wakes = self.hosts[host].daemon.as_ref().is_some_and(|daemon| daemon.wake_at == Some(now));
                if wakes && self.hosts[host].runs(now) {
                    self.round(host, Vec::new());
                }
            }
            Happening::Deliver { to, link, packet } => self.deliver(to, link, packet),
            Happening::Tell { host, incarnation, event } => {
                if self.hosts[host].daemon.as_ref().is_some_and(|daemon| daemon.incarnation == incarnation) {
                    self.tell(host, event);
                }
            }
            Happening::Decide { host, incarnation } => self.decide_late(host, incarnation),
            Happening::Job { host, boot, group, number, end } => self.job_ended(host, boot, group, number, end),
            Happening::Written { host, boot, number, saved } => {
                if self.hosts[host].powered && self.hosts[host].boot.0 == boot && number > self.written[host] {
                    self.written[host] = number;
                    self.hosts[host].written(saved);
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
            Happening::Usurp => {
                let Some(owner) = (0..NODES).find(|host| self.hosts[*host].owns(0) && self.hosts[1 - *host].powered)
                else {
                    return self.at(self.now + SECOND / 10, Happening::Usurp);
                };
                let host = 1 - owner;
                self.timeline.note(self.now, Some(host), || "SABOTAGE: takes the address".into());
                self.hosts[host].usurp(self.now);
                self.ownership(host);
            }
            Happening::Heal => self.heal(),
            Happening::Compare => {
                self.compare();
                self.at(self.now + COMPARE, Happening::Compare);
            }
            Happening::Look => {
                self.look();
                self.at(self.now + LOOK, Happening::Look);
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
        let later = self.hosts[host].job_ended(group, number, end);
        self.ownership(host);
        if let Some(later) = later {
            self.later(host, MS / 10, later);
        }
    }

    /// An event reaches the daemon, or waits for it.
    pub fn tell(&mut self, host: usize, event: Event) {
        let (runs, clock) = (self.hosts[host].runs(self.now), self.hosts[host].clock(self.now));
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        if runs {
            self.round(host, vec![event]);
        } else if !matches!(event, Event::Heartbeat { .. }) || daemon.inbox.len() < SOCKET_ROOM {
            if matches!(event, Event::Heartbeat { .. }) {
                daemon.unread_since.get_or_insert(clock);
            }
            daemon.inbox.push(event);
        }
    }

    fn deliver(&mut self, to: usize, link: usize, packet: Packet) {
        let host = &self.hosts[to];
        // A host that stands still hears nothing, nor does one without carrier.
        if !host.powered || host.frozen_until > self.now || !self.links[to][link] || host.daemon.is_none() {
            return;
        }
        let message = codec::decode(&packet.bytes).expect("what a heart sent can be decoded");
        self.watch.arrived(to, &message, packet.sent);
        self.tell(to, Event::Heartbeat { link: LinkId(link as u8), message });
    }

    pub fn act(&mut self, host: usize, action: Action) {
        let (now, fails) = (self.now, self.random.permille(self.rough.fail / 4));
        let answer = self.random.between(20_000, 200_000);
        match action {
            Action::Send(message) => self.send(host, &message),
            Action::Report(change) => self.reported(host, change),
            Action::Exit => self.exited(host),
            Action::Reply { answer, .. } => self.timeline.note(now, Some(host), || format!("answer: {answer:?}")),
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
                let later = self.hosts[host].hold(op, group, grant, phase, fails);
                self.later(host, answer, later);
            }
            Action::Inspect { op, group } => {
                let later = self.hosts[host].inspect(op, group, fails);
                self.later(host, answer, later);
            }
            Action::AddAddresses { op, group } => {
                self.timeline.note(now, Some(host), || format!("  add addresses of {}", group.0));
                let later = self.hosts[host].add_addresses(now, op, group, fails);
                self.later(host, answer, later);
            }
            Action::RemoveAddresses { op, group } => {
                self.timeline.note(now, Some(host), || format!("  remove addresses of {}", group.0));
                let later = self.hosts[host].remove_addresses(op, group, fails);
                self.later(host, answer, later);
            }
            Action::StartMembers { op, group } => self.begin_job(host, op, group, true),
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
                self.at(at, Happening::Tell { host, incarnation, event });
            }
            Later::Job { group, number, end } => self.at(at, Happening::Job { host, boot, group, number, end }),
            Later::Written(saved) => {
                let number = self.counter;
                self.at(at, Happening::Written { host, boot, number, saved });
            }
        }
    }

    fn send(&mut self, from: usize, message: &Message) {
        self.ending.messages += 1;
        if self.now >= self.scenario.settled {
            self.watch.settles.sent(from);
        }
        let packet = Packet { bytes: Rc::new(codec::encode(message)), sent: self.now };
        for link in 0..LINKS {
            if !self.links[from][link] {
                continue;
            }
            for way in self.network.carry(&mut self.random, &self.rough, from, link) {
                self.at(self.now + way, Happening::Deliver { to: 1 - from, link, packet: packet.clone() });
            }
        }
        if self.random.permille(30) {
            self.recorded.push((1 - from, 0, packet));
        }
    }

    /// The other host's kernel answers, if it has the address and the question reaches it.
    fn probe(&mut self, host: usize, group: GroupId) {
        let other = &self.hosts[1 - host];
        let Some(index) = other.real[usize::from(group.0)].addresses.iter().position(|here| *here) else { return };
        if !other.powered || !self.arp_carries() {
            return;
        }
        let span = self.random.between(MS / 20, 3 * MS / 2);
        let mac = [2, 0, 0, 0, 0, 1 - host as u8];
        self.timeline.note(self.now, Some(host), || format!("  address {index} of {} is answered", group.0));
        self.later(host, span, Later::Tell(Event::ProbeAnswer { group, index, mac }));
    }

    pub fn arp_carries(&self) -> bool {
        self.network.arp_since().is_some()
            && self.hosts.iter().all(|host| host.carrier && host.frozen_until <= self.now)
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
