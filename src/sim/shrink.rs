//! Cuts a failing plan down while it fails in the same checker: fewer faults, groups, nodes, less roughness.
//! It must not know what is wrong.

use super::plan::Plan;
use super::scenario::Rough;
use super::{Sabotage, Violation, world};

/// Worlds that are tried at most.
const TRIES: u32 = 600;

/// The smallest plan found that breaks the same promise, and how.
pub fn shrink(plan: Plan, sabotage: Sabotage) -> Option<(Plan, Violation)> {
    let violation = fails(&plan, sabotage)?;
    let mut hunt = Hunt { best: plan, violation, sabotage, tries: TRIES };
    loop {
        let before = hunt.tries;
        let progress = hunt.faults() | hunt.groups() | hunt.nodes() | hunt.roughness() | hunt.spans();
        if !progress || hunt.tries == 0 || before == hunt.tries {
            return Some((hunt.best, hunt.violation));
        }
    }
}

fn fails(plan: &Plan, sabotage: Sabotage) -> Option<Violation> {
    world::World::new(plan.clone(), sabotage, false).run().violation
}

#[derive(Debug)]
struct Hunt {
    best: Plan,
    violation: Violation,
    sabotage: Sabotage,
    tries: u32,
}

impl Hunt {
    fn takes(&mut self, plan: Option<Plan>) -> bool {
        let Some(plan) = plan else { return false };
        if self.tries == 0 {
            return false;
        }
        self.tries -= 1;
        let violation = fails(&plan, self.sabotage).filter(|it| it.checker == self.violation.checker);
        let Some(violation) = violation else { return false };
        self.best = plan;
        self.violation = violation;
        true
    }

    /// Delta debugging (Zeller, Hildebrandt 2002): ever smaller pieces are left out.
    fn faults(&mut self) -> bool {
        let mut progress = false;
        let mut size = self.best.faults.len().max(1);
        while size > 0 {
            let mut at = 0;
            while at < self.best.faults.len() {
                let mut plan = self.best.clone();
                plan.faults.drain(at..(at + size).min(plan.faults.len()));
                if self.takes(Some(plan)) {
                    progress = true;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        progress
    }

    fn groups(&mut self) -> bool {
        (0..self.best.scenario.groups.len()).rev().fold(false, |done, group| {
            let plan = self.best.without_group(group);
            self.takes(plan) || done
        })
    }

    fn nodes(&mut self) -> bool {
        (0..self.best.scenario.nodes).rev().fold(false, |done, node| {
            let plan = self.best.without_node(node);
            self.takes(plan) || done
        })
    }

    /// One figure after the other as good as it gets.
    fn roughness(&mut self) -> bool {
        let quiet = Rough::quiet();
        let rough = self.best.scenario.rough.clone();
        let mut progress = false;
        let mut attempt = |hunt: &mut Hunt, rough: Rough| {
            let mut plan = hunt.best.clone();
            plan.scenario.rough = rough;
            progress |= hunt.takes(Some(plan));
        };
        if rough.loss > 0 {
            attempt(self, Rough { loss: 0, ..self.best.scenario.rough.clone() });
        }
        if rough.duplicate > 0 {
            attempt(self, Rough { duplicate: 0, ..self.best.scenario.rough.clone() });
        }
        if rough.delay > quiet.delay {
            attempt(self, Rough { delay: quiet.delay, ..self.best.scenario.rough.clone() });
        }
        if rough.fail + rough.hang > 0 {
            attempt(self, Rough { fail: 0, hang: 0, ..self.best.scenario.rough.clone() });
        }
        if rough.late > 0 {
            attempt(self, Rough { late: 0, ..self.best.scenario.rough.clone() });
        }
        if rough.stall > 0 {
            attempt(self, Rough { stall: 0, ..self.best.scenario.rough.clone() });
        }
        if self.best.scenario.drift.iter().any(|drift| *drift != 0) {
            let mut plan = self.best.clone();
            plan.scenario.drift.iter_mut().for_each(|drift| *drift = 0);
            progress |= self.takes(Some(plan));
        }
        progress
    }

    /// Shorter faults make a shorter story.
    fn spans(&mut self) -> bool {
        (0..self.best.faults.len()).fold(false, |done, index| {
            let mut plan = self.best.clone();
            plan.faults[index].span /= 4;
            let worth = plan.faults[index].span > 4 * super::MS;
            (worth && self.takes(Some(plan))) || done
        })
    }
}
