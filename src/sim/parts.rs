//! What is up on a host, whichever group it is of: addresses, members, and the jobs of its service manager. It does what it is told
//! and must not know why.

use super::files::{ADDRESSES, MEMBERS, MOST_GROUPS, PARTS, Parts};
use super::host::Later;
use super::random::Random;
use super::{MS, Nanos};
use crate::cluster::{Event, OpId, Outcome};

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    Start,
    Stop,
    /// Some members of a group that goes on.
    Drop,
}

/// What the service manager is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    pub op: OpId,
    pub group: usize,
    pub kind: JobKind,
    pub members: Vec<usize>,
    /// The guard: AssertPathExists= of the grant.
    pub granted: bool,
    /// Injected fault: it says that it stopped, and does not.
    pub lies: bool,
    /// In permille.
    pub hang: u64,
    pub fail: u64,
    pub slow: bool,
}

#[derive(Clone, Debug)]
struct Job {
    number: u64,
    op: OpId,
    group: usize,
    kind: JobKind,
    members: Vec<usize>,
}

#[derive(Clone, Debug)]
pub struct Up {
    /// All that is up.
    pub parts: Parts,
    /// Two groups have it on this host: nobody may ever see that.
    pub doubled: Option<usize>,
    since: [Nanos; ADDRESSES],
    units: [Unit; MEMBERS],
    /// For which groups each part was put up, a bit for each.
    holders: [u8; PARTS],
    jobs: Vec<Job>,
    numbers: u64,
    mishaps: [u32; MOST_GROUPS],
}

impl Up {
    pub fn new(numbers: u64) -> Up {
        Up {
            parts: 0,
            doubled: None,
            since: [0; ADDRESSES],
            units: [Unit::Inactive; MEMBERS],
            holders: [0; PARTS],
            jobs: Vec::new(),
            numbers,
            mishaps: [0; MOST_GROUPS],
        }
    }

    /// Jobs of another boot are none of this one's.
    pub fn numbers(&self) -> u64 {
        self.numbers
    }

    pub fn has(&self, part: usize) -> bool {
        self.parts & (1 << part) != 0
    }

    /// Something is up for this group.
    pub fn owns(&self, group: usize) -> bool {
        self.parts != 0 && self.holders.iter().any(|holders| holders & (1 << group) != 0)
    }

    pub fn holds(&self, part: usize, group: usize) -> bool {
        self.holders[part] & (1 << group) != 0
    }

    /// Since when the first of these addresses that are here has been here.
    pub fn earliest(&self, addresses: &[usize]) -> Option<Nanos> {
        addresses.iter().filter(|address| self.has(**address)).map(|address| self.since[*address]).min()
    }

    pub fn is_active(&self, member: usize) -> bool {
        self.units[member] == Unit::Active
    }

    fn put(&mut self, part: usize, group: usize) {
        self.parts |= 1 << part;
        self.holders[part] |= 1 << group;
        if self.holders[part].count_ones() > 1 {
            self.doubled = Some(part);
        }
    }

    fn gone(&mut self, part: usize) {
        self.parts &= !(1 << part);
        self.holders[part] = 0;
    }

    pub fn add_address(&mut self, now: Nanos, address: usize, group: usize) {
        if !self.has(address) {
            self.since[address] = now;
        }
        self.put(address, group);
    }

    pub fn remove_address(&mut self, address: usize) {
        self.gone(address);
    }

    /// A member is active, told by nobody.
    pub fn usurp(&mut self, member: usize, group: usize) {
        self.set(member, Unit::Active, group);
    }

    fn set(&mut self, member: usize, unit: Unit, group: usize) {
        self.units[member] = unit;
        match unit {
            Unit::Inactive => self.gone(ADDRESSES + member),
            _ => self.put(ADDRESSES + member, group),
        }
    }

    /// A member stops for good, of itself.
    pub fn lose_member(&mut self, member: usize) {
        self.set(member, Unit::Inactive, 0);
    }

    /// Begins a job, which replaces the one under way for the group. Says what comes of it, and when.
    pub fn begin_job(&mut self, order: Order, random: &mut Random) -> Vec<(Nanos, Later)> {
        let Order { op, group, kind, members, .. } = order;
        let mut later = Vec::new();
        let same = |job: &Job| job.group == group && (job.kind == JobKind::Drop) == (kind == JobKind::Drop);
        for job in self.jobs.extract_if(.., |job| same(job)) {
            later.push((MS / 10, Later::Tell(failed(job.op, "canceled"))));
        }
        if members.is_empty() {
            later.push((random.between(MS / 5, 5 * MS), done(op)));
            return later;
        }
        let start = kind == JobKind::Start;
        if start && !order.granted {
            later.push((MS, Later::Tell(failed(op, "assertion failed"))));
            return later;
        }
        let inactive = members.iter().all(|member| self.units[*member] == Unit::Inactive);
        if !start && (order.lies || inactive) {
            later.push((MS / 2, done(op)));
            return later;
        }
        for member in &members {
            match (start, self.units[*member]) {
                // Another group's, too: that is for a checker to see.
                (true, Unit::Active) => self.put(ADDRESSES + member, group),
                (true, _) => self.set(*member, Unit::Activating, group),
                (false, Unit::Inactive) => {}
                (false, _) => self.units[*member] = Unit::Deactivating,
            }
        }
        self.numbers += 1;
        let number = self.numbers;
        self.jobs.push(Job { number, op, group, kind, members });
        let mishap = self.mishaps[group] < MISHAPS_IN_A_ROW;
        let took = random.between(5 * MS, 300 * MS) * if order.slow { 6 } else { 1 };
        if mishap && random.permille(order.hang) {
            self.mishaps[group] += 1;
            return later;
        }
        let fails = mishap && random.permille(order.fail);
        self.mishaps[group] = if fails { self.mishaps[group] + 1 } else { 0 };
        let end = if fails { JobEnd::Failed } else { JobEnd::Done };
        later.push((took, Later::Job { group, number, end }));
        later
    }

    pub fn job_ended(&mut self, number: u64, end: JobEnd) -> Option<Later> {
        let index = self.jobs.iter().position(|job| job.number == number)?;
        let job = self.jobs.swap_remove(index);
        for member in job.members {
            let unit = match (job.kind == JobKind::Start, end, self.units[member]) {
                (true, JobEnd::Done, Unit::Activating) => Unit::Active,
                (true, JobEnd::Failed, Unit::Activating) => Unit::Inactive,
                (false, JobEnd::Done, _) => Unit::Inactive,
                _ => continue,
            };
            self.set(member, unit, job.group);
        }
        Some(match end {
            JobEnd::Done => done(job.op),
            JobEnd::Failed => Later::Tell(failed(job.op, "failed")),
        })
    }

    /// The service manager stops the members itself on shutdown, which also ends the jobs under way.
    pub fn stop_members(&mut self) -> Vec<Later> {
        for member in 0..MEMBERS {
            self.set(member, Unit::Inactive, 0);
        }
        let ended = self.jobs.drain(..).map(|job| {
            let start = job.kind == JobKind::Start;
            let outcome = if start { Outcome::Failed("canceled".into()) } else { Outcome::Done };
            Later::Tell(Event::Finished { op: job.op, outcome })
        });
        ended.collect()
    }
}

pub fn done(op: OpId) -> Later {
    Later::Tell(Event::Finished { op, outcome: Outcome::Done })
}

pub fn failed(op: OpId, reason: &str) -> Event {
    Event::Finished { op, outcome: Outcome::Failed(reason.into()) }
}
