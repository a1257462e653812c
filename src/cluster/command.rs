//! What operators ask for, and when they are answered. Every answer says why.

use super::action::{Answer, RequestId};
use super::event::Command;
use super::grant::{Epoch, Order};
use super::group::Phase;
use super::placement::Fitness;
use super::report::Change;
use super::timers::Timer;
use super::{Action, Cluster};
use crate::config::model::{GroupId, NodeId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// An operator waits this much longer than the group's own times.
const WAIT_MARGIN: Duration = Duration::from_secs(5);

/// What an operator waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Waiting {
    /// `epoch` is what it had here: a higher one here means that it came back.
    Moved {
        group: GroupId,
        to: NodeId,
        epoch: Epoch,
    },
    Stopped {
        group: GroupId,
    },
    Started {
        group: GroupId,
    },
}

impl Waiting {
    pub(super) fn group(&self) -> GroupId {
        match self {
            Waiting::Moved { group, .. } | Waiting::Stopped { group } | Waiting::Started { group } => *group,
        }
    }

    /// Where it is to go, where an operator named that.
    pub(super) fn to(&self) -> Option<NodeId> {
        match self {
            Waiting::Moved { to, .. } => Some(*to),
            Waiting::Stopped { .. } | Waiting::Started { .. } => None,
        }
    }
}

impl Cluster {
    pub(super) fn command(&mut self, request: RequestId, command: Command) {
        match command {
            Command::Move { group, to } => match self.may_move(group, to) {
                Ok(()) => {
                    self.group_mut(group).move_to = Some(to);
                    let config = self.config.group(group);
                    let time = config.timeout_stop + config.timeout_start + WAIT_MARGIN;
                    self.timers.arm(Timer::MoveOver(group), self.now + time);
                    let epoch = self.group(group).record.map_or(Epoch(0), |record| record.grant.epoch);
                    self.wait(request, Waiting::Moved { group, to, epoch });
                }
                Err(reason) => self.reply(request, Answer::Refused(reason)),
            },
            Command::Stop { group } => {
                self.order(group, true);
                self.wait(request, Waiting::Stopped { group });
            }
            Command::Start { group } => {
                self.order(group, false);
                self.wait(request, Waiting::Started { group });
            }
            Command::Clear { group } => {
                let name = self.config.group(group).name.clone();
                let order = self.group(group).order;
                self.set_order(group, Order { version: order.version.saturating_add(1), ..order });
                self.reply(request, Answer::Done(format!("{name}: failures are forgotten on every node")));
            }
        }
    }

    fn may_move(&self, id: GroupId, to: NodeId) -> Result<(), String> {
        let group = self.config.group(id);
        let name = &group.name;
        let target = &self.config.node(to).name;
        if !group.nodes.contains(&to) {
            return Err(format!("{target} is not among the Nodes= of {name}"));
        }
        if self.group(id).order.stopped {
            return Err(format!("{name} was stopped by an operator; start it first: hafailoverctl start {name}"));
        }
        let Some(owner) = self.owner(id) else {
            return Err(format!("{name} runs nowhere that this node can hear; see: hafailoverctl why {name}"));
        };
        if owner == to {
            return Err(format!("{name} is already on {target}"));
        }
        if owner != self.config.me {
            let owner = &self.config.node(owner).name;
            return Err(format!("{name} is on {owner}: run this command there"));
        }
        if !matches!(self.group(id).phase, Phase::Running { .. }) {
            return Err(format!("{name} is still starting here; try again when it runs"));
        }
        if !self.view.peer(to).is_some_and(|peer| peer.state.heard() && peer.joined) {
            return Err(format!("{target} is not heard, or has not joined yet"));
        }
        if self.fitness(id, to) < Fitness::Good {
            return Err(format!("{target} says that it cannot run {name}; its own status tells why"));
        }
        let before = |node: NodeId| group.nodes.iter().position(|other| *other == node);
        if group.failback && before(to) > before(owner) {
            return Err(format!(
                "{name} has Failback=yes and would come back at once; stop the daemon here instead, or set Failback=no"
            ));
        }
        Ok(())
    }

    /// An operator's word on whether the group may run at all: the same on every node, whoever was asked.
    pub(super) fn order(&mut self, id: GroupId, stopped: bool) {
        let version = self.group(id).order.version.saturating_add(1);
        self.set_order(id, Order { version, stopped });
        self.report(if stopped { Change::OrderStop { group: id } } else { Change::OrderStart { group: id } });
    }

    /// Whatever an operator says also forgets failures.
    pub(super) fn set_order(&mut self, id: GroupId, order: Order) {
        let group = self.group_mut(id);
        group.order = order;
        group.move_to = None;
        if group.banned.take().is_some() {
            self.report(Change::GroupCleared { group: id });
        }
        self.unsaved = true;
        self.speak = true;
    }

    fn wait(&mut self, request: RequestId, waiting: Waiting) {
        let config = self.config.group(waiting.group());
        let time = config.timeout_stop + config.timeout_start + WAIT_MARGIN;
        self.timers.arm(Timer::Request(request), self.now + time);
        self.waiting.insert(request, waiting);
    }

    /// Answers those whose wish has come true, or cannot.
    pub(super) fn answer_waiting(&mut self) {
        let answered: Vec<(RequestId, Answer)> =
            self.waiting.iter().filter_map(|(request, waiting)| Some((*request, self.outcome(waiting)?))).collect();
        for (request, answer) in answered {
            if let Some(Waiting::Moved { group, .. }) = self.waiting.remove(&request) {
                self.group_mut(group).move_to = None;
            }
            self.timers.disarm(Timer::Request(request));
            self.reply(request, answer);
        }
    }

    fn outcome(&self, waiting: &Waiting) -> Option<Answer> {
        let id = waiting.group();
        let group = self.group(id);
        let name = &self.config.group(id).name;
        let node = |node: NodeId| &self.config.node(node).name;
        let running = self.runs_on(id);
        match waiting {
            Waiting::Moved { to, epoch, .. } => match running {
                Some(owner) if owner == *to => Some(Answer::Done(format!("{name} runs on {}", node(owner)))),
                Some(owner) if group.record.is_some_and(|record| record.grant.epoch > *epoch) => {
                    let (to, owner) = (node(*to), node(owner));
                    Some(Answer::Failed(format!(
                        "{to} could not run {name}, so it is on {owner}; see the journal of {to}"
                    )))
                }
                _ if self.fitness(id, *to) == Fitness::Never => {
                    Some(Answer::Failed(format!("{} could not run {name}; see its journal", node(*to))))
                }
                _ => None,
            },
            Waiting::Stopped { .. } => {
                let here = group.phase == Phase::Idle;
                (here && self.owner(id).is_none() && !self.stopping_elsewhere(id))
                    .then(|| Answer::Done(format!("{name} is stopped on every node that is heard")))
            }
            Waiting::Started { .. } => match (running, &group.blocked) {
                (Some(owner), _) => Some(Answer::Done(format!("{name} runs on {}", node(owner)))),
                // A peer that has not heard the order may still say what it forbids.
                (None, Some(reason)) if self.order_heard(id) && !self.timers.armed(Timer::StartAgain(id)) => {
                    Some(Answer::Failed(format!("{name} does not start: {reason}")))
                }
                _ => None,
            },
        }
    }

    fn order_heard(&self, id: GroupId) -> bool {
        let mut heard = self.view.peers.iter().filter(|(_, peer)| peer.state.heard());
        heard.all(|(node, _)| self.view.says(*node, id).is_some_and(|says| says.order >= self.group(id).order))
    }

    pub(super) fn request_over(&mut self, request: RequestId) {
        let Some(waiting) = self.waiting.remove(&request) else { return };
        let name = self.config.group(waiting.group()).name.clone();
        let answer = format!("{name}: not done in time; it goes on; see: hafailoverctl why {name}");
        self.reply(request, Answer::Failed(answer));
    }

    fn reply(&mut self, request: RequestId, answer: Answer) {
        self.out.push(Action::Reply { request, answer });
    }
}
