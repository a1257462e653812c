//! The next step of a group, computed afresh in every round from what is and what should be. It must not know how a step is
//! carried out (`group`), nor who should own a group (`placement`).

use super::group::Phase;
use super::placement::Fitness;
use super::stop::Stop;
use super::takeover::Gate;
use super::timers::Timer;
use super::view::PeerState;
use super::{Change, Cluster, Record};
use crate::config::model::{GroupId, NodeId};
use crate::wire::Role;

impl Cluster {
    /// At most one step of one group, from what is to what should be.
    pub(super) fn step(&mut self, id: GroupId) {
        let desired = self.desired(id);
        self.group_mut(id).desired = desired;
        self.outlive(id);
        if self.group(id).claim().is_some() {
            return match self.must_stop(id, desired) {
                Some(stop) => {
                    self.meet_in_turn(id);
                    self.stop(id, stop);
                }
                None => {
                    self.block(id, None);
                    self.go_on_starting(id);
                }
            };
        }
        match &self.group(id).phase {
            Phase::Idle => {}
            // Whatever of it runs here has no right to: not even to be looked at first.
            Phase::Unknown { held: Some((grant, _)), .. } if self.beaten(id, grant) => {
                let grant = *grant;
                let stop = Stop { reason: "another node owns it under a higher epoch".into(), contested: true };
                return self.begin_stop(id, grant, stop);
            }
            Phase::Unknown { found, .. } => return self.block(id, found.clone()),
            Phase::Stopping(stopping) if self.beaten(id, &stopping.grant) => return self.contest(id),
            // What could not be stopped has said so.
            _ => return,
        }
        if desired != Some(self.config.me) {
            if let Some(heir) = desired {
                self.pass(id, heir);
            }
            let meant = self.leaving || self.group(id).order.stopped || self.doomed(id);
            let nowhere = desired.is_none() && self.joined && !meant;
            return self.block(id, if nowhere { self.nowhere_reason(id) } else { None });
        }
        match self.gate(id) {
            Gate::Start(proof) => {
                self.block(id, None);
                self.start(id, proof);
            }
            Gate::Wait(_) => self.block(id, None),
            Gate::Blocked(reason) => self.block(id, Some(reason)),
        }
    }

    fn must_stop(&self, id: GroupId, desired: Option<NodeId>) -> Option<Stop> {
        let group = self.group(id);
        let claim = group.claim()?;
        let name = |node: NodeId| &self.config.node(node).name;
        if let Some(record) = group.record.filter(|record| record.grant != claim) {
            let (node, epoch) = (name(record.grant.node), record.grant.epoch.0);
            let owns = if record.released { "owned" } else { "owns" };
            return Some(Stop { reason: format!("{node} {owns} it under the higher epoch {epoch}"), contested: true });
        }
        if group.order.stopped && !self.maintenance.on {
            return Some(Stop::plain("an operator stopped it".into()));
        }
        if let Some(met) = self.met_on_the_network(id) {
            return Some(Stop { reason: met, contested: true });
        }
        if let Some(crossed) = self.crossed(id) {
            return Some(Stop { reason: crossed, contested: true });
        }
        // One that does not hear this node cannot give way to it.
        let deaf = |peer: &&NodeId| {
            self.view.says(**peer, id).is_some_and(|says| says.role.claims())
                && self.view.peer(**peer).is_some_and(|it| it.deaf_for(self.read_at) >= self.config.timing.deadtime)
        };
        if let Some(peer) = group.rivals.iter().find(deaf) {
            return Some(Stop {
                reason: format!("{} has it too and does not hear this node", name(*peer)),
                contested: true,
            });
        }
        if self.host_stopping {
            return Some(Stop::plain("this host is going down".into()));
        }
        if self.leaving {
            return Some(Stop::plain("this node is leaving".into()));
        }
        if self.doomed(id) {
            return Some(Stop::plain("it is gone from the files of every node that is heard".into()));
        }
        // Two owners end; nothing else is done about what fails or is placed elsewhere.
        if self.maintenance.on {
            return None;
        }
        if let Some(reason) = &group.banned {
            return Some(Stop::plain(reason.clone()));
        }
        // While another owner ends, this one stays: else nobody would own it for a while.
        if !group.rivals.is_empty() {
            return None;
        }
        let ready = |node: &NodeId| self.view.peer(*node).is_some_and(|peer| peer.joined);
        let to = desired.filter(|node| *node != self.config.me).filter(ready)?;
        // Nobody is served by a stop that leads nowhere.
        let reason = if group.move_to == Some(to) {
            format!("an operator moves it to {}", name(to))
        } else if self.fitness(id, self.config.me) < Fitness::Good {
            let reason = self.never_reason(id).or_else(|| self.unfit_reason(id)).unwrap_or_default();
            format!("{reason}; {} can run it", name(to))
        } else {
            format!("{} is preferred and well (Failback=)", name(to))
        };
        Some(Stop::plain(reason))
    }

    /// Gives a group that this node keeps, and does not run, to the node that should own it.
    fn pass(&mut self, id: GroupId, heir: NodeId) {
        let heard = self.view.peer(heir).is_some_and(|peer| peer.state == PeerState::Alive && peer.joined);
        let quiet = self
            .view
            .peers
            .iter()
            .filter(|(_, peer)| peer.state.heard())
            .map(|(node, _)| node)
            .all(|node| self.view.says(*node, id).is_none_or(|says| says.role == Role::Idle));
        if self.keeper(id) != self.config.me
            || !heard
            || !quiet
            || self.asleep
            // A host that is not heard has it: it let go for that one, maybe.
            || self.answered_lately(id)
            || (self.maintenance.on && self.group(id).move_to != Some(heir))
            || self.timers.armed(Timer::PassAgain(id))
        {
            return;
        }
        let own = self.group(id).record.filter(|record| record.grant.node == self.config.me && record.heir.is_none());
        // What was given to this node is given on under an epoch of its own, in which nothing ran.
        let record = own.unwrap_or_else(|| Record::owned(self.new_grant(id)));
        self.set_record(id, Record { released: true, heir: Some(heir), ..record });
        // With its preferred node it is at home.
        let home = self.config.group(id).nodes.first() == Some(&heir);
        let group = self.group_mut(id);
        group.parked = group.move_to.take() == Some(heir) && !home;
        self.timers.arm(Timer::PassAgain(id), self.now + self.config.timing.deadtime);
        self.speak = true;
    }

    fn block(&mut self, id: GroupId, reason: Option<String>) {
        if self.group(id).blocked == reason {
            return;
        }
        match &reason {
            Some(reason) => self.report(Change::GroupBlocked { group: id, reason: reason.clone() }),
            None => self.report(Change::GroupUnblocked { group: id }),
        }
        self.group_mut(id).blocked = reason;
    }
}
