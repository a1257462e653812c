//! What is made wrong on purpose, so that each checker is seen to see it. It must not know the checkers.

use super::happening::Happening;
use super::world::World;
use super::{SECOND, Sabotage};
use crate::cluster::{Command, Event, RequestId};
use crate::config::model::{GroupId, NodeId};

impl World {
    pub fn begin_sabotage(&mut self) {
        match self.sabotage {
            // Done where it happens.
            Sabotage::None | Sabotage::DeafOperator | Sabotage::EndlessStop | Sabotage::Unread => {}
            Sabotage::LostAnswers | Sabotage::Stubborn | Sabotage::Restless => {}
            Sabotage::FalseStop => self.hosts.iter_mut().for_each(|host| host.lies = true),
            Sabotage::Stall => self.hosts.iter_mut().for_each(|host| host.mute = true),
            Sabotage::Usurper | Sabotage::Meddler | Sabotage::Juggler => {
                let at = self.random.between(SECOND, self.scenario.heal);
                self.at(at, Happening::Sabotage);
            }
        }
    }

    /// What a host hears of another one is kept from its heart.
    pub fn is_kept_from(&self, host: usize, from: usize) -> bool {
        let both = |one: usize, other: usize| [(host, from), (from, host)].contains(&(one, other));
        self.sabotage == Sabotage::Stubborn
            && self.watch.one_owner.pairs().iter().any(|(_, one, other)| both(*one, *other))
    }

    pub fn is_restless(&self) -> bool {
        self.sabotage == Sabotage::Restless && self.now >= self.scenario.settled
    }

    pub fn commit_sabotage(&mut self) {
        let nodes = self.scenario.nodes;
        let owner = (0..nodes).find(|host| self.hosts[*host].owns(0));
        let other = (0..nodes).find(|host| owner != Some(*host) && self.hosts[*host].powered);
        let (Some(owner), Some(host)) = (owner, other) else {
            return self.at(self.now + SECOND / 10, Happening::Sabotage);
        };
        match self.sabotage {
            Sabotage::Usurper => {
                self.timeline.note(self.now, Some(host), || "SABOTAGE: takes the address".into());
                self.hosts[host].usurp(self.now);
                self.ownership(host);
            }
            _ => {
                self.requests += 1;
                let request = RequestId(self.requests);
                let shape = &self.scenario.groups[0];
                let to = shape.nodes[self.random.below(shape.nodes.len() as u64) as usize];
                let group = self.hosts[owner].id(0).unwrap_or(GroupId(0));
                let command = Command::Move { group, to: NodeId(to as u8) };
                self.timeline.note(self.now, Some(owner), || format!("SABOTAGE: moves it to {to}"));
                self.tell(owner, Event::Command { request, command });
                let pause = if self.sabotage == Sabotage::Juggler { SECOND / 2 } else { 47 * SECOND };
                self.at(self.now + pause, Happening::Sabotage);
            }
        }
    }
}
