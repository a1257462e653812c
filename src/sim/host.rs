//! One host: power, kernel, service manager, disk, and the daemon with the heart in it. It carries out what the heart asks
//! for and must not know why, nor the other host.

use super::clock::Clock;
use super::random::Random;
use super::scenario::{MOST_NODES, Rough};
use super::world::Packet;
use super::{MS, Nanos};
use crate::cluster::{
    Actual, BootId, Cluster, Event, Held, HeldPhase, Identity, Incarnation, OpId, Outcome, Saved, Time,
};
use crate::config::model::{Config, GroupConfig, GroupId, LinkId};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// Steps that fail or hang in a row, at most: so that what the settles checker waits for stays bounded.
const MISHAPS_IN_A_ROW: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Inactive,
    Activating,
    Active,
    Deactivating,
}

/// How a job of the service manager ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnd {
    Done,
    Failed,
}

/// A job under way.
#[derive(Clone, Copy, Debug)]
struct Job {
    number: u64,
    op: OpId,
    start: bool,
}

/// What really is of one group on this host.
#[derive(Clone, Debug)]
pub struct Real {
    pub addresses: Vec<bool>,
    /// Since when all addresses are here.
    pub addresses_since: Option<Nanos>,
    /// All members as one: they start and stop in order anyway.
    pub members: Option<Unit>,
    job: Option<Job>,
    mishaps: u32,
}

impl Real {
    fn new(config: &GroupConfig) -> Real {
        Real {
            addresses: vec![false; config.addresses.len()],
            addresses_since: None,
            members: (!config.members.is_empty()).then_some(Unit::Inactive),
            job: None,
            mishaps: 0,
        }
    }

    pub fn owns(&self) -> bool {
        self.addresses.contains(&true) || self.active()
    }

    pub fn whole(&self) -> bool {
        !self.addresses.contains(&false) && self.members.is_none_or(|unit| unit == Unit::Active)
    }

    fn active(&self) -> bool {
        self.members.is_some_and(|unit| unit != Unit::Inactive)
    }
}

/// What waits to be read.
#[derive(Clone, Debug)]
pub enum News {
    Event(Event),
    Packet(LinkId, Rc<Packet>),
}

/// A run of the daemon.
#[derive(Debug)]
pub struct Daemon {
    pub cluster: Cluster,
    pub incarnation: Incarnation,
    /// Stopped by a signal until then.
    pub paused_until: Nanos,
    /// What waits in sockets and channels.
    pub inbox: Vec<News>,
    /// Packets among it.
    pub packets: usize,
    /// When it will look at the time.
    pub wake_at: Option<Nanos>,
    /// It has read, and is held up before it decides.
    pub deciding: bool,
    /// Since when something waits that it has not read, by its own clock.
    pub unread_since: Option<Time>,
    /// The newest packet it read of each host.
    newest: [Option<(Incarnation, u64)>; MOST_NODES],
}

impl Daemon {
    pub fn reads(&mut self, packet: &Packet) {
        let message = &packet.message;
        let newest = &mut self.newest[packet.from];
        if newest.is_none_or(|(last, sequence)| last != message.incarnation || sequence < message.sequence) {
            *newest = Some((message.incarnation, message.sequence));
        }
    }

    /// A copy that another link brought before, while nothing is due: it only shows that its link works, and a decision that
    /// comes of nothing new is not worth its time.
    pub fn knows(&self, packet: &Packet, clock: Time) -> bool {
        let copy = self.newest[packet.from] == Some((packet.message.incarnation, packet.message.sequence));
        copy && self.cluster.next_deadline().is_some_and(|next| next > clock)
    }
}

/// What a step of a host brings about later.
#[derive(Clone, Debug)]
pub enum Later {
    Tell(Event),
    Job { group: usize, number: u64, end: JobEnd },
    Written(Saved),
}

#[derive(Debug)]
pub struct Host {
    pub config: Arc<Config>,
    pub powered: bool,
    pub boot: BootId,
    /// The whole host stands still until then.
    pub frozen_until: Nanos,
    clock: Clock,
    pub carrier: bool,
    /// Since when its kernel answers ARP questions.
    pub answers_since: Option<Nanos>,
    pub real: Vec<Real>,
    pub daemon: Option<Box<Daemon>>,
    disk: Saved,
    run_saved: Option<Saved>,
    held: BTreeMap<String, Held>,
    jobs: u64,
    /// Injected fault: it says that it stopped, and does not.
    pub lies: bool,
    /// Injected fault: no step of it is ever answered.
    pub mute: bool,
    /// There is no room in its /run, for so many reasons.
    pub full: u8,
    /// Spells in which its steps fail, hang or take long, and in which it wakes up late.
    pub trouble: Trouble,
    /// Its kernel answers no question for addresses.
    pub unanswering: u8,
}

/// Counts the faults that bring each trouble about: they overlap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    pub fail: u8,
    pub hang: u8,
    pub slow: u8,
    pub late: u8,
}

impl Host {
    pub fn new(config: Config, fast: i64, random: &mut Random) -> Host {
        Host {
            real: config.groups.iter().map(Real::new).collect(),
            config: Arc::new(config),
            powered: false,
            boot: BootId(0),
            frozen_until: 0,
            clock: Clock::new(random.below(1 << 50), fast),
            carrier: true,
            answers_since: None,
            daemon: None,
            disk: Saved::default(),
            run_saved: None,
            held: BTreeMap::new(),
            jobs: 0,
            lies: false,
            mute: false,
            full: 0,
            trouble: Trouble::default(),
            unanswering: 0,
        }
    }

    pub fn clock(&self, now: Nanos) -> Time {
        self.clock.time(now)
    }

    /// The world's time at which this host's clock shows `time`.
    pub fn world_time(&self, time: Time) -> Nanos {
        self.clock.world_time(time)
    }

    /// From now on it goes fast by so many millionths.
    pub fn set_clock_rate(&mut self, now: Nanos, fast: i64) {
        self.clock.set_rate(now, fast);
    }

    /// It stands still, as a paused virtual machine's does.
    pub fn hold_clock(&mut self, now: Nanos, span: Nanos) {
        self.clock.hold(now, span);
    }

    /// Whether its kernel would answer for an address of the group.
    pub fn answers(&self, group: usize, now: Nanos) -> bool {
        self.powered
            && self.carrier
            && self.unanswering == 0
            && self.frozen_until <= now
            && self.real[group].addresses.contains(&true)
    }

    pub fn owns(&self, group: usize) -> bool {
        self.powered && self.real[group].owns()
    }

    pub fn runs(&self, now: Nanos) -> bool {
        self.powered
            && now >= self.frozen_until
            && self.daemon.as_ref().is_some_and(|daemon| now >= daemon.paused_until && !daemon.deciding)
    }

    pub fn boot(&mut self, now: Nanos, random: &mut Random) {
        self.powered = true;
        self.boot = BootId(random.next());
        self.frozen_until = 0;
        self.clock.go_on(now);
        self.carrier = true;
        self.answers_since = Some(now);
        self.real = self.config.groups.iter().map(Real::new).collect();
        self.run_saved = None;
        self.held.clear();
    }

    /// Everything but the disk is gone.
    pub fn power_loss(&mut self) {
        self.powered = false;
        self.daemon = None;
        self.answers_since = None;
    }

    pub fn start_daemon(&mut self, now: Nanos, random: &mut Random) {
        let incarnation = Incarnation(random.next());
        let saved = self.run_saved.clone().unwrap_or_else(|| self.disk.clone());
        let held: Vec<Held> = self.held.values().cloned().collect();
        let identity = Identity { incarnation, boot: self.boot };
        let cluster = Cluster::new(self.config.clone(), identity, &saved, &held, self.clock(now));
        self.daemon = Some(Box::new(Daemon {
            cluster,
            incarnation,
            paused_until: 0,
            inbox: Vec::new(),
            packets: 0,
            wake_at: None,
            deciding: false,
            unread_since: None,
            newest: [None; MOST_NODES],
        }));
    }

    /// A daemon that leaves in order has its disk written.
    pub fn flush(&mut self) {
        if let Some(saved) = self.run_saved.clone() {
            self.disk = saved;
        }
    }

    pub fn save(&mut self, saved: Saved, random: &mut Random, rough: &Rough) -> (Nanos, Later) {
        self.run_saved = Some(saved.clone());
        (random.between(MS / 2, rough.disk), Later::Written(saved))
    }

    pub fn written(&mut self, saved: Saved) {
        self.disk = saved;
    }

    pub fn hold(
        &mut self,
        op: OpId,
        group: GroupId,
        grant: crate::cluster::Grant,
        phase: HeldPhase,
        fails: bool,
    ) -> Later {
        if fails || self.full > 0 {
            return Later::Tell(failed(op, "no room in /run"));
        }
        let group = self.config.group(group).name.clone();
        self.held.insert(group.clone(), Held { group, grant, phase });
        self.done(op)
    }

    pub fn forget(&mut self, group: GroupId) {
        self.held.remove(&self.config.group(group).name);
    }

    pub fn inspect(&self, op: OpId, group: GroupId, fails: bool) -> Later {
        if fails {
            return self.finished(op, Outcome::Unknown("the bus does not answer".into()));
        }
        let real = &self.real[usize::from(group.0)];
        let addresses = real.addresses.iter().enumerate().filter(|(_, here)| **here).map(|(index, _)| index);
        let actual = Actual {
            all_active: real.members.is_none_or(|unit| unit == Unit::Active),
            any_active: real.active(),
            addresses: addresses.collect(),
        };
        self.finished(op, Outcome::Inspected(actual))
    }

    pub fn add_addresses(&mut self, now: Nanos, op: OpId, group: GroupId, fails: bool) -> Later {
        let real = &mut self.real[usize::from(group.0)];
        if fails || real.addresses.contains(&true) {
            return self.finished(op, Outcome::Failed("address is there already or refused".into()));
        }
        real.addresses.fill(true);
        real.addresses_since = Some(now);
        self.done(op)
    }

    pub fn remove_addresses(&mut self, op: OpId, group: GroupId, fails: bool) -> Later {
        if fails {
            return self.finished(op, Outcome::Failed("netlink refused".into()));
        }
        if !self.lies {
            let real = &mut self.real[usize::from(group.0)];
            real.addresses.fill(false);
            real.addresses_since = None;
        }
        self.done(op)
    }

    pub fn repair_address(&mut self, now: Nanos, op: OpId, group: GroupId, index: usize) -> Later {
        self.put_address(now, group, index);
        self.done(op)
    }

    fn put_address(&mut self, now: Nanos, group: GroupId, index: usize) {
        let real = &mut self.real[usize::from(group.0)];
        real.addresses[index] = true;
        if !real.addresses.contains(&false) {
            real.addresses_since.get_or_insert(now);
        }
    }

    /// Takes the first group, told by nobody.
    pub fn usurp(&mut self, now: Nanos) {
        match self.real[0].members {
            Some(_) => self.real[0].members = Some(Unit::Active),
            None => self.put_address(now, GroupId(0), 0),
        }
    }

    /// An address is deleted by somebody else.
    pub fn lose_address(&mut self, group: usize) -> Option<Event> {
        let real = &mut self.real[group];
        let index = real.addresses.iter().position(|here| *here)?;
        real.addresses[index] = false;
        real.addresses_since = None;
        Some(Event::AddressLost { group: GroupId(group as u16), index })
    }

    /// A member stops for good, of itself.
    pub fn lose_member(&mut self, group: usize) -> Option<Event> {
        let real = &mut self.real[group];
        if real.members != Some(Unit::Active) {
            return None;
        }
        real.members = Some(Unit::Inactive);
        let unit = self.config.groups[group].members[0].clone();
        Some(Event::MemberDown { group: GroupId(group as u16), unit, reason: "exited with 1".into() })
    }

    /// Begins a job, which replaces the one under way. Says what comes of it, and when.
    pub fn begin_job(
        &mut self,
        op: OpId,
        group: GroupId,
        start: bool,
        random: &mut Random,
        rough: &Rough,
    ) -> Vec<(Nanos, Later)> {
        let granted =
            self.held.get(&self.config.group(group).name).is_some_and(|held| held.phase == HeldPhase::Granted);
        let lies = self.lies && !start;
        let index = usize::from(group.0);
        let real = &mut self.real[index];
        let mut later = Vec::new();
        if let Some(job) = real.job.take() {
            later.push((MS / 10, Later::Tell(failed(job.op, "canceled"))));
        }
        let Some(unit) = real.members else {
            later.push((random.between(MS / 5, 5 * MS), self.done(op)));
            return later;
        };
        // The guard: AssertPathExists= of the grant.
        if start && !granted {
            later.push((MS, Later::Tell(failed(op, "assertion failed"))));
            return later;
        }
        if lies || (!start && unit == Unit::Inactive) {
            later.push((MS / 2, self.done(op)));
            return later;
        }
        self.jobs += 1;
        let number = self.jobs;
        real.members = Some(if start { Unit::Activating } else { Unit::Deactivating });
        real.job = Some(Job { number, op, start });
        let mishap = real.mishaps < MISHAPS_IN_A_ROW;
        let took = random.between(5 * MS, 300 * MS) * if self.trouble.slow > 0 { 6 } else { 1 };
        if mishap && random.permille(if self.trouble.hang > 0 { 500 } else { rough.hang }) {
            real.mishaps += 1;
            return later;
        }
        let fails = mishap && random.permille(if self.trouble.fail > 0 { 500 } else { rough.fail });
        real.mishaps = if fails { real.mishaps + 1 } else { 0 };
        let end = if fails { JobEnd::Failed } else { JobEnd::Done };
        later.push((took, Later::Job { group: index, number, end }));
        later
    }

    pub fn job_ended(&mut self, group: usize, number: u64, end: JobEnd) -> Option<Later> {
        let real = &mut self.real[group];
        let job = real.job.take_if(|job| job.number == number)?;
        real.members = Some(match (job.start, end) {
            (true, JobEnd::Done) => Unit::Active,
            (false, JobEnd::Failed) => Unit::Deactivating,
            (false, JobEnd::Done) | (true, JobEnd::Failed) => Unit::Inactive,
        });
        Some(match end {
            JobEnd::Done => self.done(job.op),
            JobEnd::Failed => Later::Tell(failed(job.op, "failed")),
        })
    }

    pub fn verify(&self, op: OpId, group: GroupId) -> Later {
        if self.real[usize::from(group.0)].active() && !self.lies {
            return Later::Tell(failed(op, "a member is active"));
        }
        self.done(op)
    }

    /// The service manager stops the members itself on shutdown, which also ends the jobs under way.
    pub fn stop_members(&mut self) -> Vec<Later> {
        let mut ended = Vec::new();
        for real in &mut self.real {
            if let Some(unit) = &mut real.members {
                *unit = Unit::Inactive;
            }
            if let Some(job) = real.job.take() {
                let outcome = if job.start { Outcome::Failed("canceled".into()) } else { Outcome::Done };
                ended.push(Later::Tell(Event::Finished { op: job.op, outcome }));
            }
        }
        ended
    }

    fn done(&self, op: OpId) -> Later {
        self.finished(op, Outcome::Done)
    }

    fn finished(&self, op: OpId, outcome: Outcome) -> Later {
        Later::Tell(Event::Finished { op, outcome })
    }
}

fn failed(op: OpId, reason: &str) -> Event {
    Event::Finished { op, outcome: Outcome::Failed(reason.into()) }
}
