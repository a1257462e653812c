//! All that a world is made from: a seed gives one, and one that fails can be cut down. It must not know the heart.

use super::MS;
use super::faults::{self, Planned};
use super::random::Random;
use super::scenario::Scenario;

/// What happens by chance within the world is drawn from another stream than the plan, so that a smaller plan is no other world.
const WITHIN: u64 = 0x5eed_0f0e_5eed_0f0e;

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub scenario: Scenario,
    pub faults: Vec<Planned>,
}

impl Plan {
    pub fn new(seed: u64) -> Plan {
        let mut random = Random::new(seed);
        let scenario = Scenario::new(&mut random);
        let faults = faults::draw(&mut random, &scenario);
        Plan { seed, scenario, faults }
    }

    pub fn random(&self) -> Random {
        Random::new(self.seed ^ WITHIN)
    }

    pub fn without_node(&self, node: usize) -> Option<Plan> {
        let scenario = self.scenario.without_node(node)?;
        let kept = |planned: &Planned| Some(Planned { fault: planned.fault.without_node(node)?, ..*planned });
        Some(Plan { scenario, faults: self.faults.iter().filter_map(kept).collect(), ..self.clone() })
    }

    pub fn without_group(&self, group: usize) -> Option<Plan> {
        let scenario = self.scenario.without_group(group)?;
        let kept = |planned: &Planned| Some(Planned { fault: planned.fault.without_group(group)?, ..*planned });
        Some(Plan { scenario, faults: self.faults.iter().filter_map(kept).collect(), ..self.clone() })
    }

    /// In a few lines, for people.
    pub fn describe(&self) -> String {
        let scenario = &self.scenario;
        let faults = self.faults.iter().map(|planned| {
            let (at, span) = (planned.at / MS, planned.span / MS);
            format!("\n  {at:8} ms {:?} for {span} ms", planned.fault)
        });
        let faults: String = faults.collect();
        format!(
            "{} nodes, {} links, {:?}, {:?}{}{faults}",
            scenario.nodes,
            scenario.links,
            scenario.timing,
            scenario.rough,
            scenario.groups.iter().map(|shape| format!("\n  {shape:?}")).collect::<String>()
        )
    }
}
