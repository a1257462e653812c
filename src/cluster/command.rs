//! What operators ask for, and when they are answered. Every answer says why.

use super::action::{Answer, RequestId};
use super::event::Command;
use super::grant::Order;
use super::group::Phase;
use super::moves::Moving;
use super::report::Change;
use super::timers::Timer;
use super::{Action, Cluster};
use crate::config::model::GroupId;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// An operator waits this much longer than the group's own times.
pub(super) const WAIT_MARGIN: Duration = Duration::from_secs(5);

/// What an operator waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Waiting {
    Moved(Moving),
    Stopped {
        group: GroupId,
    },
    Started {
        group: GroupId,
    },
    /// Every node that is heard shall know of maintenance what this one knows.
    Maintained,
}

impl Cluster {
    pub(super) fn command(&mut self, request: RequestId, command: Command) {
        match command {
            Command::Move { group, to } => {
                let mut moving = Moving::default();
                self.begin_moving(group, to, &mut moving);
                self.wait_for_moves(request, moving);
            }
            Command::Stop { group } => self.command_order(request, group, true),
            Command::Start { group } => self.command_order(request, group, false),
            Command::Clear { group } => {
                let name = self.config.group(group).name.clone();
                let order = self.group(group).order;
                self.set_order(group, Order { version: order.version.saturating_add(1), ..order });
                self.reply(request, Answer::Done(format!("{name}: failures are forgotten on every node")));
            }
            Command::Standby { which, stay } => self.command_standby(request, which, stay),
            Command::Takeover { which } => self.command_takeover(request, which),
            Command::Online => self.command_online(request),
            Command::Maintenance { on } => self.command_maintenance(request, on),
        }
    }

    fn command_order(&mut self, request: RequestId, group: GroupId, stopped: bool) {
        if let Err(reason) = self.maintained() {
            return self.reply(request, Answer::Refused(reason));
        }
        self.order(group, stopped);
        let waiting = if stopped { Waiting::Stopped { group } } else { Waiting::Started { group } };
        self.wait(request, waiting, group);
    }

    /// An operator's word on whether the group may run at all: the same on every node, whoever was asked.
    pub(super) fn order(&mut self, id: GroupId, stopped: bool) {
        let version = self.group(id).order.version.saturating_add(1);
        self.set_order(id, Order { version, stopped });
        self.report(if stopped { Change::OrderStop { group: id } } else { Change::OrderStart { group: id } });
    }

    /// Whatever an operator says also forgets failures, and what an earlier word put elsewhere.
    pub(super) fn set_order(&mut self, id: GroupId, order: Order) {
        let group = self.group_mut(id);
        group.order = order;
        group.move_to = None;
        group.parked = false;
        if group.banned.take().is_some() {
            self.report(Change::GroupCleared { group: id });
        }
        self.unsaved = true;
        self.speak = true;
    }

    fn wait(&mut self, request: RequestId, waiting: Waiting, id: GroupId) {
        let config = self.config.group(id);
        let time = config.timeout_stop + config.timeout_start + WAIT_MARGIN;
        self.timers.arm(Timer::Request(request), self.now + time);
        self.waiting.insert(request, waiting);
    }

    /// Answers those whose wish has come true, or cannot.
    pub(super) fn answer_waiting(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|request, waiting| {
            let Some(answer) = self.outcome(waiting) else { return true };
            self.timers.disarm(Timer::Request(*request));
            self.reply(*request, answer);
            false
        });
        self.waiting = waiting;
    }

    fn outcome(&mut self, waiting: &mut Waiting) -> Option<Answer> {
        match waiting {
            Waiting::Moved(moving) => self.moves_outcome(moving),
            Waiting::Stopped { group } => self.stop_outcome(*group),
            Waiting::Started { group } => self.start_outcome(*group),
            Waiting::Maintained => self.maintenance_known(),
        }
    }

    fn stop_outcome(&self, id: GroupId) -> Option<Answer> {
        let name = &self.config.group(id).name;
        let here = self.group(id).phase == Phase::Idle;
        (here && self.owner(id).is_none() && !self.stopping_elsewhere(id))
            .then(|| Answer::Done(format!("{name} is stopped on every node that is heard")))
    }

    fn start_outcome(&self, id: GroupId) -> Option<Answer> {
        let name = &self.config.group(id).name;
        match (self.runs_on(id), &self.group(id).blocked) {
            (Some(owner), _) => Some(Answer::Done(format!("{name} runs on {}", self.config.node(owner).name))),
            // A peer that has not heard the order may still say what it forbids.
            (None, Some(reason)) if self.order_heard(id) && !self.timers.armed(Timer::StartAgain(id)) => {
                Some(Answer::Failed(format!("{name} does not start: {reason}")))
            }
            _ => None,
        }
    }

    fn order_heard(&self, id: GroupId) -> bool {
        let mut heard = self.view.peers.iter().filter(|(_, peer)| peer.state.heard());
        heard.all(|(node, _)| self.view.says(*node, id).is_some_and(|says| says.order >= self.group(id).order))
    }

    pub(super) fn request_over(&mut self, request: RequestId) {
        let Some(waiting) = self.waiting.remove(&request) else { return };
        let answer = match waiting {
            Waiting::Moved(moving) => self.moves_over(moving),
            Waiting::Stopped { group } | Waiting::Started { group } => {
                let name = &self.config.group(group).name;
                Answer::Failed(format!("{name}: not done in time; it goes on; see: hafailoverctl why {name}"))
            }
            Waiting::Maintained => {
                let text = "not every node that is heard knows it yet; each learns it as soon as it hears this one";
                Answer::Failed(text.into())
            }
        };
        self.reply(request, answer);
    }

    pub(super) fn reply(&mut self, request: RequestId, answer: Answer) {
        self.out.push(Action::Reply { request, answer });
    }
}
