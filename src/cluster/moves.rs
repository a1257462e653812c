//! Groups that an operator wants elsewhere. Where this node owns the group, it gives it away; where another does, this node asks it
//! to, in every heartbeat, until that came true or cannot. A wish proves nothing: the owner judges, releases and names the heir.
//! It must not know which words bring a wish about.

use super::Cluster;
use super::action::{Answer, RequestId};
use super::command::{WAIT_MARGIN, Waiting};
use super::grant::Grant;
use super::group::Phase;
use super::placement::Fitness;
use super::report::Change;
use super::time::Time;
use super::timers::Timer;
use crate::config::model::{GroupId, NodeId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One group on its way to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Move {
    pub(super) group: GroupId,
    to: NodeId,
    /// Under which it is given away. A wish is for this one only, so it moves a group once at most.
    grant: Grant,
    /// Since when the owner is known to have heard the wish, and runs the group all the same.
    unheeded: Option<Time>,
}

/// All moves that one operator waits for, and what became of those that are over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moving {
    pub(super) open: Vec<Move>,
    pub(super) over: Vec<Answer>,
}

impl Moving {
    /// Every group that is under way, and the nodes that it names.
    pub(super) fn names(&self) -> impl Iterator<Item = (GroupId, [NodeId; 2])> {
        self.open.iter().map(|it| (it.group, [it.to, it.grant.node]))
    }

    fn answer(&self) -> Answer {
        let text = |answer: &Answer| match answer {
            Answer::Refused(text) if self.over.len() > 1 => format!("refused: {text}"),
            Answer::Failed(text) if self.over.len() > 1 => format!("failed: {text}"),
            Answer::Done(text) | Answer::Refused(text) | Answer::Failed(text) => text.clone(),
        };
        let told = self.over.iter().map(text).collect::<Vec<_>>().join("\n");
        let any = |wanted: fn(&Answer) -> bool| self.over.iter().any(wanted);
        let refused = any(|answer| matches!(answer, Answer::Refused(_)));
        // Not all of what was asked for: that is no success, and no refusal of all of it.
        if any(|answer| matches!(answer, Answer::Failed(_))) || (refused && any(|it| matches!(it, Answer::Done(_)))) {
            Answer::Failed(told)
        } else if refused {
            Answer::Refused(told)
        } else {
            Answer::Done(told)
        }
    }
}

impl Cluster {
    /// Begins to move one group, or says why not.
    pub(super) fn begin_moving(&mut self, id: GroupId, to: NodeId, moving: &mut Moving) {
        match self.may_move(id, to) {
            Ok(grant) => {
                if grant.node == self.config.me {
                    self.give(id, to);
                }
                self.speak = true;
                moving.open.push(Move { group: id, to, grant, unheeded: None });
            }
            Err(reason) => moving.over.push(Answer::Refused(reason)),
        }
    }

    pub(super) fn wait_for_moves(&mut self, request: RequestId, moving: Moving) {
        if moving.open.is_empty() {
            return self.reply(request, moving.answer());
        }
        let time = moving.open.iter().map(|it| self.move_time(it.group)).max().unwrap_or_default();
        self.timers.arm(Timer::Request(request), self.now + time);
        self.waiting.insert(request, Waiting::Moved(moving));
    }

    fn move_time(&self, id: GroupId) -> Duration {
        let config = self.config.group(id);
        config.timeout_stop + config.timeout_start + WAIT_MARGIN
    }

    /// This node, the owner, is to give the group to that one.
    fn give(&mut self, id: GroupId, to: NodeId) {
        self.group_mut(id).move_to = Some(to);
        self.timers.arm(Timer::MoveOver(id), self.now + self.move_time(id));
    }

    /// Whether its owner may give it there, as far as this node knows, and under which grant it has it.
    fn may_move(&self, id: GroupId, to: NodeId) -> Result<Grant, String> {
        let group = self.config.group(id);
        let name = &group.name;
        let target = &self.config.node(to).name;
        self.maintained()?;
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
        let owner_name = &self.config.node(owner).name;
        if self.runs_on(id) != Some(owner) {
            return Err(format!("{name} is still starting on {owner_name}; try again when it runs"));
        }
        if !self.group(id).rivals.is_empty() {
            return Err(format!("two nodes claim {name}; try again when one of them has stopped it"));
        }
        if to == self.config.me {
            if let Some(reason) = self.never_reason(id).or_else(|| self.unfit_reason(id)) {
                return Err(format!("{target} cannot run {name}: {reason}"));
            }
            if !self.joined {
                return Err(format!("{target} has not joined yet"));
            }
        } else if !self.view.peer(to).is_some_and(|peer| peer.state.heard() && peer.joined) {
            return Err(format!("{target} is not heard, or has not joined yet"));
        } else if self.view.peer(to).is_some_and(|peer| peer.standby) {
            return Err(format!("{target} is in standby; to end that, there: hafailoverctl online"));
        } else if self.fitness(id, to) < Fitness::Good {
            return Err(format!("{target} says that it cannot run {name}; its own status tells why"));
        }
        let theirs = || self.view.says(owner, id).and_then(|says| says.record).map(|record| record.grant);
        let grant = if owner == self.config.me { self.group(id).claim() } else { theirs() };
        grant.ok_or_else(|| format!("{owner_name} does not say under which epoch it has {name}; try again in a moment"))
    }

    /// The best of the other nodes, for a group that runs here.
    pub(super) fn best_other(&self, id: GroupId) -> Option<NodeId> {
        let able = |node: &NodeId| {
            let peer = self.view.peer(*node);
            peer.is_some_and(|peer| peer.state.heard() && peer.joined) && self.fitness(id, *node) == Fitness::Good
        };
        self.config.group(id).nodes.iter().copied().find(able)
    }

    /// Where operators on this node want a group that another node owns: the newest word counts.
    pub(super) fn wish(&self, id: GroupId) -> Option<NodeId> {
        let record = self.group(id).record?;
        let open = self.waiting.values().rev().filter_map(|waiting| match waiting {
            Waiting::Moved(moving) => Some(&moving.open),
            _ => None,
        });
        let mut wanted = open.flatten().filter(|it| it.group == id && it.grant.node != self.config.me);
        wanted.find(|it| it.grant == record.grant).map(|it| it.to)
    }

    /// The owner does what an operator on another node asks for, as if it had been asked itself.
    pub(super) fn heed(&mut self, id: GroupId) {
        let Phase::Running { grant } = self.group(id).phase else { return };
        let me = self.config.me;
        let asked = self.view.peers.iter().filter(|(_, peer)| peer.state.heard()).find_map(|(node, _)| {
            let says = self.view.says(*node, id)?;
            let to = says.wish.filter(|to| *to != me)?;
            (says.record.map(|record| record.grant) == Some(grant)).then_some((*node, to))
        });
        let known = std::mem::replace(&mut self.group_mut(id).asked, asked) == asked;
        let Some((peer, to)) = asked.filter(|_| self.group(id).move_to.is_none()) else { return };
        match self.may_move(id, to) {
            Ok(_) => {
                self.give(id, to);
                self.report(Change::MoveAsked { group: id, peer, to });
            }
            Err(reason) if !known => self.report(Change::MoveRefused { group: id, peer, to, reason }),
            Err(_) => {}
        }
    }

    /// Answers when no move is open any more.
    pub(super) fn moves_outcome(&mut self, moving: &mut Moving) -> Option<Answer> {
        for mut it in std::mem::take(&mut moving.open) {
            match self.move_outcome(&mut it) {
                Some(answer) => {
                    if it.grant.node == self.config.me {
                        self.group_mut(it.group).move_to = None;
                    }
                    moving.over.push(answer);
                }
                None => moving.open.push(it),
            }
        }
        moving.open.is_empty().then(|| moving.answer())
    }

    fn move_outcome(&self, it: &mut Move) -> Option<Answer> {
        let name = &self.config.group(it.group).name;
        let node = |node: NodeId| &self.config.node(node).name;
        let to = node(it.to);
        let beyond = self.group(it.group).record.is_some_and(|record| record.grant.epoch > it.grant.epoch);
        match self.runs_on(it.group) {
            Some(owner) if owner == it.to => Some(Answer::Done(format!("{name} runs on {to}"))),
            Some(owner) if beyond => {
                let owner = node(owner);
                Some(Answer::Failed(format!("{to} could not run {name}, so it is on {owner}; see the journal of {to}")))
            }
            Some(owner) if owner != self.config.me && self.unheeded(it) => {
                let owner = node(owner);
                Some(Answer::Refused(format!(
                    "{owner} keeps {name}, for it knows a reason against {to}; see its journal, or there: \
                     hafailoverctl move {name} {to}"
                )))
            }
            _ if self.fitness(it.group, it.to) == Fitness::Never => {
                Some(Answer::Failed(format!("{to} could not run {name}; see its journal")))
            }
            _ => None,
        }
    }

    /// The owner has heard the wish for a deadtime and goes on: it would have stopped the group in the same round.
    fn unheeded(&self, it: &mut Move) -> bool {
        let tag = self.config.node(it.to).tag;
        let heard = self.said.since_when(it.group, tag).is_some_and(|version| {
            self.view.peer(it.grant.node).is_some_and(|peer| peer.state.heard() && peer.holds() >= version)
        });
        if !heard {
            it.unheeded = None;
            return false;
        }
        let since = *it.unheeded.get_or_insert(self.now);
        self.now.since(since) >= self.config.timing.deadtime
    }

    /// An operator has waited long enough.
    pub(super) fn moves_over(&self, mut moving: Moving) -> Answer {
        for it in std::mem::take(&mut moving.open) {
            let name = &self.config.group(it.group).name;
            let text = format!("{name}: not done in time; it goes on; see: hafailoverctl why {name}");
            moving.over.push(Answer::Failed(text));
        }
        moving.answer()
    }
}
