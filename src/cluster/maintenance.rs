//! An operator's word that the cluster is left alone: what is not done meanwhile, and what follows when it ends.
//! It must not know what keeps two nodes from owning one group: that goes on.

use super::action::{Action, OpId, RequestId};
use super::command::Waiting;
use super::event::{Actual, Outcome};
use super::group::{Group, INSPECT_AGAIN, OP_TIMEOUT, Phase};
use super::timers::Timer;
use super::upkeep::Loss;
use super::{Answer, Change, Cluster, Maintenance};
use crate::config::model::{GroupId, NodeId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Nodes that are heard know the word within a keepalive or two.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// What was told of a group that was left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    MemberDown { unit: String, reason: String },
    TargetStopped,
}

/// A look at what runs here, after it was left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Look {
    #[default]
    No,
    Wanted,
    Asked(OpId),
}

impl Cluster {
    /// Why an operator's other words must wait.
    pub(super) fn maintained(&self) -> Result<(), String> {
        if self.maintenance.on {
            return Err(
                "maintenance is on: nothing is started, moved or stopped; first: hafailoverctl maintenance off".into(),
            );
        }
        Ok(())
    }

    pub(super) fn command_maintenance(&mut self, request: RequestId, on: bool) {
        if self.maintenance.on != on {
            self.set_maintenance(Maintenance { version: self.maintenance.version.saturating_add(1), on });
        }
        self.timers.arm(Timer::Request(request), self.now + KNOWN_WITHIN);
        self.waiting.insert(request, Waiting::Maintained);
    }

    /// The higher word wins, whoever said it.
    pub(super) fn learn_maintenance(&mut self, node: NodeId) {
        let theirs = self.view.peer(node).map(|peer| peer.maintenance);
        if let Some(theirs) = theirs.filter(|theirs| *theirs > self.maintenance) {
            self.set_maintenance(theirs);
        }
    }

    fn set_maintenance(&mut self, word: Maintenance) {
        let before = std::mem::replace(&mut self.maintenance, word);
        self.unsaved = true;
        self.speak = true;
        if before.on == word.on {
            return;
        }
        self.report(if word.on { Change::MaintenanceOn } else { Change::MaintenanceOff });
        let running = |group: &&mut Group| matches!(group.phase, Phase::Running { .. });
        for group in self.groups.iter_mut().filter(running) {
            group.move_to = group.move_to.filter(|_| !word.on);
            group.look = if word.on { Look::No } else { Look::Wanted };
        }
        for id in self.config.clone().group_ids() {
            self.look(id);
        }
    }

    /// A hand-over that an operator began before is brought to its end: else nobody would run the group.
    pub(super) fn was_given(&self, id: GroupId) -> bool {
        self.group(id).record.is_some_and(|record| record.released && record.heir == Some(self.config.me))
    }

    /// What happened to a group that is left alone.
    pub(super) fn told_in_words(&self, id: GroupId) -> Option<String> {
        let name = &self.config.group(id).name;
        let what = match self.group(id).told.as_ref()? {
            Told::MemberDown { unit, reason } => format!("member {unit} is down ({reason})"),
            Told::TargetStopped => "its target was stopped".into(),
        };
        Some(format!("group {name}: {what}; nothing is done about it before maintenance is off"))
    }

    pub(super) fn maintenance_known(&self) -> Option<Answer> {
        let mut heard = self.view.peers.values().filter(|peer| peer.state.heard());
        let word = if self.maintenance.on { "on" } else { "off" };
        let known = heard.all(|peer| peer.maintenance >= self.maintenance);
        let deaf = self.view.peers.iter().filter(|(_, peer)| !peer.state.heard());
        let deaf: Vec<&str> = deaf.map(|(node, _)| self.config.node(*node).name.as_str()).collect();
        let later =
            if deaf.is_empty() { String::new() } else { format!("; not heard, and not told: {}", deaf.join(", ")) };
        known.then(|| Answer::Done(format!("maintenance is {word} on every node that is heard{later}")))
    }

    /// Of a group that is left alone it is kept what happened to it; answers whether it is.
    pub(super) fn left_alone(&mut self, id: GroupId, told: Told) -> bool {
        if !self.maintenance.on || !matches!(self.group(id).phase, Phase::Running { .. }) {
            return false;
        }
        if let Told::MemberDown { unit, reason } = &told {
            self.report(Change::MemberDown { group: id, unit: unit.clone(), reason: reason.clone() });
        }
        self.group_mut(id).told = Some(told);
        true
    }

    /// What was left alone is looked at anew.
    pub(super) fn look(&mut self, id: GroupId) {
        let running = matches!(self.group(id).phase, Phase::Running { .. });
        if self.group(id).look != Look::Wanted || !running {
            return;
        }
        let op = self.op(OP_TIMEOUT);
        self.group_mut(id).look = Look::Asked(op);
        self.out.push(Action::Inspect { op, group: id });
    }

    /// The end of such a look, if `op` was one.
    pub(super) fn looked(&mut self, op: OpId, outcome: &Outcome) -> bool {
        let Some(id) = self.groups.iter().find(|group| group.look == Look::Asked(op)).map(|group| group.id) else {
            return false;
        };
        self.group_mut(id).look = Look::No;
        match outcome {
            _ if !matches!(self.group(id).phase, Phase::Running { .. }) => {}
            Outcome::Inspected(actual) => self.catch_up(id, actual),
            _ => {
                self.group_mut(id).look = Look::Wanted;
                self.timers.arm(Timer::InspectAgain(id), self.now + INSPECT_AGAIN);
            }
        }
        true
    }

    /// What failed meanwhile is dealt with as if it had failed now.
    fn catch_up(&mut self, id: GroupId, actual: &Actual) {
        for index in 0..self.config.group(id).addresses.len() {
            if !actual.addresses.contains(&index) {
                self.repair(id, index, Loss::Removed);
            }
        }
        match self.group_mut(id).told.take().filter(|_| !actual.all_active) {
            Some(Told::MemberDown { unit, reason }) => self.member_down(id, unit, reason),
            Some(Told::TargetStopped) => self.order(id, true),
            None => {}
        }
    }
}
