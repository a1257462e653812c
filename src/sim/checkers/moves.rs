//! A group moves only with a cause, and not round and round: in a world that was left in peace for long enough nothing stops or
//! starts, and however much goes wrong, it is not started more often than things happened.

use super::Violation;
use crate::sim::{MS, Nanos, SECOND};

/// Starts that need no event of their own: of the whole cluster after its first power.
const FREE: u64 = 8;
/// Starts that one event may bring about: on each of some nodes, and back.
const PER_EVENT: u64 = 6;

#[derive(Debug)]
pub struct Moves {
    /// How long after the last event of the world something may still move because of it.
    grace: Nanos,
    /// In which starts are counted.
    window: Nanos,
    /// Steps fail by chance at any time, packets come when they like: nothing is without cause.
    rough: bool,
    /// For a while packets are lost or late: silence comes and goes by chance then.
    spells: bool,
    last_event: Nanos,
    events: Vec<Nanos>,
    groups: Vec<Group>,
}

#[derive(Clone, Debug, Default)]
struct Group {
    /// When it was started, and when a step of it failed.
    starts: Vec<Nanos>,
    failures: Vec<Nanos>,
    failed: bool,
}

impl Moves {
    pub fn new(groups: usize, deadtime: Nanos, initdead: Nanos, rough: bool, spells: bool) -> Moves {
        Moves {
            grace: initdead + 8 * deadtime + 45 * SECOND,
            window: 10 * deadtime,
            rough,
            spells,
            last_event: 0,
            events: Vec::new(),
            groups: vec![Group::default(); groups],
        }
    }

    /// Something happened to the world: a fault began or ended, power came, a daemon started.
    pub fn event(&mut self, now: Nanos) {
        self.last_event = self.last_event.max(now);
        self.events.push(now);
    }

    /// A fault lasts until then.
    pub fn troubled_until(&mut self, until: Nanos) {
        self.last_event = self.last_event.max(until);
    }

    /// A step of it failed.
    pub fn hindered(&mut self, group: usize) {
        self.groups[group].failed = true;
    }

    pub fn started(&mut self, now: Nanos, host: usize, group: usize) -> Result<(), Violation> {
        self.needed(now, host, group, "starts", "")?;
        let from = now.saturating_sub(self.window);
        let recent = |times: &[Nanos]| times.iter().rev().take_while(|at| **at >= from).count() as u64;
        let events = recent(&self.events);
        let it = &mut self.groups[group];
        if std::mem::take(&mut it.failed) {
            it.failures.push(now);
        }
        it.starts.push(now);
        let (starts, causes) = (recent(&it.starts), events + recent(&it.failures));
        // What is rough throughout makes silence, and ends it, on its own.
        let free = if self.rough || self.spells { 3 * FREE } else { FREE };
        if starts > free + PER_EVENT * causes {
            let span = self.window / MS;
            let what =
                format!("group {group} was started {starts} times in {span} ms, in which {causes} things happened");
            return Err(Violation { at: now, checker: "flapping", what });
        }
        Ok(())
    }

    pub fn needed(&self, now: Nanos, host: usize, group: usize, does: &str, why: &str) -> Result<(), Violation> {
        if self.rough || now <= self.last_event + self.grace {
            return Ok(());
        }
        let span = (now - self.last_event) / MS;
        let what = format!("host {host} {does} group {group} without need, {span} ms after the last event: {why}");
        Err(Violation { at: now, checker: "needless moves", what })
    }
}
