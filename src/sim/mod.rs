//! A seeded world of two nodes around the same heart: virtual time, a network that loses, delays, doubles and cuts, hosts that
//! lose power, daemons that die and stand still. Checkers look at what really is. A seed is replayed by its number.

pub mod checkers;
mod faults;
mod host;
mod network;
mod random;
mod rounds;
mod scenario;
mod strike;
mod timeline;
mod watch;
mod world;

pub use checkers::Violation;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The world's time, from its beginning.
pub type Nanos = u64;
pub const MS: Nanos = 1_000_000;
pub const SECOND: Nanos = 1000 * MS;

/// What is made wrong on purpose, to see that a checker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    None,
    /// A host says that it stopped, and did not: two owners.
    FalseStop,
    /// A host takes an address that nobody gave it.
    Usurper,
    /// The steps of a host are never answered: the group never runs.
    Stall,
}

/// One world from its beginning to its end.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    pub violation: Option<Violation>,
    pub faults: BTreeMap<String, u64>,
    /// Two owners that `silence` admits.
    pub two_owners: u64,
    pub longest_two_owners: Nanos,
    pub takeovers: u64,
    pub rounds: u64,
    pub messages: u64,
    /// In two columns, if asked for.
    pub story: String,
}

/// Many worlds.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    pub seeds: u64,
    /// Seed and what went wrong, in the order of the seeds.
    pub violations: BTreeMap<u64, Violation>,
    pub total: Ending,
}

pub fn run(seed: u64, sabotage: Sabotage) -> Ending {
    world::World::new(seed, sabotage, false).run()
}

/// The same, with its story.
pub fn tell(seed: u64, sabotage: Sabotage) -> Ending {
    world::World::new(seed, sabotage, true).run()
}

/// Runs the seeds `from..to` on as many threads as there are processors.
pub fn sweep(from: u64, to: u64) -> Sweep {
    let next = AtomicU64::new(from);
    let sweep = Mutex::new(Sweep::default());
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        return;
                    }
                    let ending = run(seed, Sabotage::None);
                    sweep.lock().expect("no other thread panicked while it added up").add(seed, ending);
                }
            });
        }
    });
    sweep.into_inner().expect("no thread panicked while it added up")
}

impl Sweep {
    fn add(&mut self, seed: u64, ending: Ending) {
        self.seeds += 1;
        self.total.two_owners += ending.two_owners;
        self.total.longest_two_owners = self.total.longest_two_owners.max(ending.longest_two_owners);
        self.total.takeovers += ending.takeovers;
        self.total.rounds += ending.rounds;
        self.total.messages += ending.messages;
        for (fault, count) in ending.faults {
            *self.total.faults.entry(fault).or_default() += count;
        }
        if let Some(violation) = ending.violation {
            self.violations.insert(seed, violation);
        }
    }

    /// What happened how often.
    pub fn table(&self) -> String {
        let total = &self.total;
        let mut lines: Vec<String> =
            total.faults.iter().map(|(fault, count)| format!("  {fault:24} {count:9}")).collect();
        lines.push(format!("  {:24} {:9}", "groups started", total.takeovers));
        lines.push(format!("  {:24} {:9}", "two owners, admitted", total.two_owners));
        lines.push(format!("  {:24} {:9} ms", "longest of them", total.longest_two_owners / MS));
        lines.push(format!("  {:24} {:9}", "messages", total.messages));
        lines.push(format!("  {:24} {:9}", "rounds of a heart", total.rounds));
        format!("{} seeds, {} violations\n{}", self.seeds, self.violations.len(), lines.join("\n"))
    }
}
