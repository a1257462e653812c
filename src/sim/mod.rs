//! A seeded world of two to five nodes around the same heart: virtual time, a network that loses, delays, doubles and cuts, hosts
//! that lose power, daemons that die and stand still. Checkers look at what really is. A seed makes a plan, which can be cut down.

mod actions;
mod aim;
pub mod checkers;
mod clock;
mod edits;
mod faults;
mod files;
mod happening;
mod host;
mod kinds;
mod life;
mod network;
mod parts;
mod plan;
mod random;
mod rest;
mod rounds;
mod sabotage;
mod scenario;
mod shrink;
mod strike;
mod timeline;
mod watch;
mod world;

pub use checkers::Violation;
pub use plan::Plan;
pub use shrink::shrink;

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
    /// Somebody moves a group now and then, unseen.
    Meddler,
    /// The same all the time.
    Juggler,
    /// Operators get no answer.
    DeafOperator,
    /// No stop of a group ever ends, nor does anything.
    EndlessStop,
    /// What comes from others waits unread for ever.
    Unread,
    /// Nobody hears an answer for an address.
    LostAnswers,
    /// A heart is not told what it hears of one that has the same.
    Stubborn,
    /// When all rests, everybody wakes up all the time.
    Restless,
}

/// One world from its beginning to its end.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    pub violation: Option<Violation>,
    /// How often each kind of fault struck: changed something, or reached a living daemon.
    pub faults: BTreeMap<&'static str, u64>,
    /// All of them together.
    pub struck: u64,
    /// How long it lasted, by the world's time.
    pub span: Nanos,
    /// Two owners that `silence` admits.
    pub two_owners: u64,
    pub longest_two_owners: Nanos,
    pub takeovers: u64,
    pub rounds: u64,
    pub messages: u64,
    /// A column for each node, if asked for.
    pub story: String,
}

/// Many worlds.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    pub seeds: u64,
    /// Seed and what went wrong, in the order of the seeds.
    pub violations: BTreeMap<u64, Violation>,
    pub total: Ending,
    /// In how many seeds each kind of fault struck.
    pub kinds: BTreeMap<&'static str, u64>,
    /// How many worlds had so many nodes.
    pub nodes: BTreeMap<usize, u64>,
    /// Seeds that were too short or too easy, without having been ended by a violation.
    pub poor: Vec<u64>,
}

pub fn run(seed: u64, sabotage: Sabotage) -> Ending {
    world::World::new(Plan::new(seed), sabotage, false).run()
}

/// The same, with its story.
pub fn tell(plan: Plan, sabotage: Sabotage) -> Ending {
    world::World::new(plan, sabotage, true).run()
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
                    let plan = Plan::new(seed);
                    let nodes = plan.scenario.nodes;
                    let ending = world::World::new(plan, Sabotage::None, false).run();
                    sweep.lock().expect("no other thread panicked while it added up").add(seed, nodes, ending);
                }
            });
        }
    });
    sweep.into_inner().expect("no thread panicked while it added up")
}

impl Sweep {
    fn add(&mut self, seed: u64, nodes: usize, ending: Ending) {
        self.seeds += 1;
        *self.nodes.entry(nodes).or_default() += 1;
        self.total.span += ending.span;
        self.total.two_owners += ending.two_owners;
        self.total.longest_two_owners = self.total.longest_two_owners.max(ending.longest_two_owners);
        self.total.takeovers += ending.takeovers;
        self.total.rounds += ending.rounds;
        self.total.messages += ending.messages;
        let struck = ending.struck;
        for (fault, count) in ending.faults {
            *self.total.faults.entry(fault).or_default() += count;
            *self.kinds.entry(fault).or_default() += 1;
        }
        if let Some(violation) = ending.violation {
            self.violations.insert(seed, violation);
        } else if struck < faults::FEWEST || ending.span < scenario::SPAN {
            self.poor.push(seed);
        }
    }

    /// Kinds of faults that struck in less than a twentieth of the seeds, or never: most seeds are told nothing of them then.
    pub fn rare(&self) -> Vec<&'static str> {
        let seeds = |kind: &str| self.kinds.get(kind).copied().unwrap_or(0);
        kinds::all().filter(|kind| seeds(kind) * 20 < self.seeds).collect()
    }

    /// What happened how often, and in which part of the seeds.
    pub fn table(&self) -> String {
        let total = &self.total;
        let part = |seeds: u64| seeds as f64 * 100.0 / self.seeds.max(1) as f64;
        let kinds = kinds::all().map(|fault| {
            let count = total.faults.get(fault).copied().unwrap_or(0);
            let part = part(self.kinds.get(fault).copied().unwrap_or(0));
            format!("  {fault:24} {count:9}   in {part:5.1} % of the seeds")
        });
        let mut lines: Vec<String> = kinds.collect();
        let sizes =
            self.nodes.iter().map(|(nodes, seeds)| format!("  {nodes} nodes {:27.1} % of the seeds", part(*seeds)));
        lines.extend(sizes);
        lines.push(format!("  {:24} {:9}", "groups started", total.takeovers));
        lines.push(format!("  {:24} {:9}", "two owners, admitted", total.two_owners));
        lines.push(format!("  {:24} {:9} ms", "longest of them", total.longest_two_owners / MS));
        lines.push(format!("  {:24} {:9}", "messages", total.messages));
        lines.push(format!("  {:24} {:9}", "rounds of a heart", total.rounds));
        lines.push(format!("  {:24} {:9} h", "virtual time", total.span / SECOND / 3600));
        format!("{} seeds, {} violations\n{}", self.seeds, self.violations.len(), lines.join("\n"))
    }
}
