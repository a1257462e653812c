//! How a group that runs here becomes what the files say, touching only what changed. In an order that leaves nothing unnamed at
//! any moment, for a daemon that dies in between: (1) what is gone is removed, each part confirmed, while the old configuration is the one that is
//! written down; (2) the new one is written down (`rollout`); (3) what is new is added. It must not know why the files changed.

use super::Cluster;
use super::action::{Action, OpId};
use super::event::Outcome;
use super::group::{MEMBER_MARGIN, OP_TIMEOUT, Phase};
use super::report::Change;
use super::stop::Stop;
use super::time::Time;
use super::timers::Timer;
use super::upkeep::Loss;
use crate::config::model::{GroupConfig, GroupId, NodeId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A step that could not be done is tried again after this; the group goes on meanwhile.
const ALTER_AGAIN: Duration = Duration::from_secs(3);

/// A change of a group that runs here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Alter {
    /// What it is to become; once that is written down, what it is.
    to: GroupConfig,
    step: AlterStep,
    op: Option<OpId>,
    /// Why the step could not be done, as told.
    failed: Option<String>,
    /// Since when it may not go on.
    held_up: Option<Time>,
    /// A change before this one did not come to starting its members.
    unstarted: bool,
    /// For a while it had none of its addresses.
    bare: bool,
}

impl Alter {
    fn new(to: GroupConfig, step: AlterStep, unstarted: bool) -> Alter {
        Alter { to, step, op: None, failed: None, held_up: None, unstarted, bare: false }
    }

    pub(super) fn to(&self) -> &GroupConfig {
        &self.to
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum AlterStep {
    /// systemd must know the new members' guards, and their new order: a stop must take along nobody else.
    Guards,
    /// Members first, as in a stop: they may take long, and meanwhile the addresses are what a node that hears nothing is answered by.
    DropMembers,
    DropAddresses,
    /// Nothing is here that the new configuration does not name.
    Down,
    /// Written down: these addresses are to be added, unless somebody who was heard since may have them in another group.
    Put {
        addresses: Vec<usize>,
        start: bool,
    },
    /// These addresses are being added; then, maybe, members are started.
    Add {
        addresses: Vec<usize>,
        start: bool,
    },
    StartMembers,
}

impl Cluster {
    /// At most one step of a change of a group that runs here.
    pub(super) fn alter(&mut self, id: GroupId) {
        let here = matches!(self.group(id).phase, Phase::Running { .. });
        if !here {
            // Its stop covers all parts.
            if self.rollout.alters.remove(&id).is_some() {
                self.timers.disarm(Timer::AlterAgain(id));
            }
            return;
        }
        let to = self.pending(id).filter(|to| !to.is_gone());
        let Some(alter) = self.rollout.alters.get(&id) else {
            let Some(to) = to.filter(|to| self.ready(id, to).is_ok() && !self.being_noted(id)) else { return };
            return self.begin_alter(id, to, false);
        };
        // Who slept listens first.
        if alter.op.is_some() || self.asleep {
            return;
        }
        let after = matches!(alter.step, AlterStep::Put { .. } | AlterStep::Add { .. } | AlterStep::StartMembers);
        let other = to.as_ref() != Some(&alter.to);
        // Another edit, or a peer that thinks otherwise now: back to what is written down. One whose words were lost may still agree.
        if !after && !self.being_noted(id) && (other || self.disputed(id, &alter.to)) {
            return self.turn_back(id);
        }
        if !after && !self.being_noted(id) && self.is_held_up(id) {
            return;
        }
        let mended = |alter: &&Alter| after && alter.failed.is_some() && !matches!(alter.step, AlterStep::Put { .. });
        let Some(alter) = self.rollout.alters.get(&id).filter(mended) else {
            return self.go_on_altering(id);
        };
        let unstarted = !matches!(alter.step, AlterStep::Add { start: false, .. });
        if let Some(to) = to.filter(|to| self.ready(id, to).is_ok()) {
            self.timers.disarm(Timer::AlterAgain(id));
            return self.begin_alter(id, to, unstarted);
        }
        self.go_on_altering(id);
    }

    fn begin_alter(&mut self, id: GroupId, to: GroupConfig, unstarted: bool) {
        let same = to.members == self.config.group(id).members && !unstarted;
        let step = if same { AlterStep::DropMembers } else { AlterStep::Guards };
        self.rollout.alters.insert(id, Alter::new(to, step, unstarted));
        self.alter_step(id);
    }

    fn go_on_altering(&mut self, id: GroupId) {
        if !self.timers.armed(Timer::AlterAgain(id)) {
            self.alter_step(id);
        }
    }

    /// Maintenance, or a node that is lost, may hold a change up in the middle. Nothing more goes then, and after a while what went
    /// comes back: the group is not left without the old and the new.
    fn is_held_up(&mut self, id: GroupId) -> bool {
        let now = self.now;
        let Some(alter) = self.rollout.alters.get(&id) else { return false };
        let reason = self.ready(id, &alter.to).err();
        let since = reason.is_some().then(|| alter.held_up.unwrap_or(now));
        let (had, begun) = (alter.held_up, alter.step != AlterStep::Guards);
        match (reason, since.map(|since| since + ALTER_AGAIN)) {
            // Under maintenance nothing is stopped, and what must be asked for first is not put back.
            (Some(_), Some(until)) if now >= until && self.maintenance.on && self.must_ask_first(id, alter) => {}
            (Some(reason), Some(until)) if now >= until => {
                if begun {
                    let reason = format!("{reason}; what it has given up for that comes back meanwhile");
                    self.report(Change::GroupNotChanged { group: id, reason });
                }
                self.turn_back(id);
                return true;
            }
            (_, Some(until)) => self.timers.arm(Timer::AlterAgain(id), until),
            // It goes on at once.
            (_, None) if had.is_some() => self.timers.disarm(Timer::AlterAgain(id)),
            (_, None) => {}
        }
        if let Some(alter) = self.rollout.alters.get_mut(&id) {
            alter.held_up = since;
        }
        since.is_some()
    }

    /// All its addresses may be gone, and a node that is not heard may have taken the group since: what went is not put back unasked.
    fn must_ask_first(&self, id: GroupId, alter: &Alter) -> bool {
        let runs = self.config.group(id);
        let unheard = |node: &NodeId| self.view.peer(*node).is_some_and(|peer| !peer.state.heard());
        let gone = match alter.step {
            AlterStep::DropAddresses => alter.failed.is_some() && keeps_none(runs, &alter.to),
            AlterStep::Down => keeps_none(runs, &alter.to),
            AlterStep::Put { .. } => alter.bare,
            _ => false,
        };
        gone && runs.nodes.iter().any(unheard)
    }

    /// Stopped, it starts anew by its proof; not under maintenance.
    fn ask_first(&mut self, id: GroupId) {
        if !self.maintenance.on {
            let reason =
                "its addresses were gone, and a node that is not heard may have taken it since: it starts anew";
            self.stop(id, Stop::plain(reason.into()));
        }
    }

    fn turn_back(&mut self, id: GroupId) {
        self.timers.disarm(Timer::AlterAgain(id));
        let Some(alter) = self.rollout.alters.get(&id).cloned() else { return };
        if self.must_ask_first(id, &alter) {
            return self.ask_first(id);
        }
        if alter.step == AlterStep::Guards && !alter.unstarted {
            self.rollout.alters.remove(&id);
            return;
        }
        let config = self.config.clone();
        self.build_up(id, &alter.to, config.group(id));
    }

    /// The step that the change has come to; those with nothing to do are passed over.
    fn alter_step(&mut self, id: GroupId) {
        loop {
            let Some(alter) = self.rollout.alters.get(&id) else { return };
            let (to, step) = (alter.to.clone(), alter.step.clone());
            let old = self.config.group(id).clone();
            let next = match step {
                AlterStep::Guards => {
                    let op = self.alter_op(id, OP_TIMEOUT);
                    return self.out.push(Action::CheckGuards { op, to });
                }
                AlterStep::DropMembers => {
                    let units = missing_in(&old.members, &to.members);
                    if !units.is_empty() {
                        let op = self.alter_op(id, old.timeout_stop + MEMBER_MARGIN);
                        return self.out.push(Action::DropMembers { op, group: id, units });
                    }
                    AlterStep::DropAddresses
                }
                AlterStep::DropAddresses => {
                    let indexes = going_addresses(&old, &to);
                    if !indexes.is_empty() {
                        let op = self.alter_op(id, OP_TIMEOUT);
                        return self.out.push(Action::DropAddresses { op, group: id, indexes });
                    }
                    AlterStep::Down
                }
                AlterStep::Down => return,
                AlterStep::Put { addresses, start } => {
                    if self.must_ask_first(id, alter) {
                        return self.ask_first(id);
                    }
                    if let Some(reason) = self.may_be_elsewhere(id) {
                        return self.alter_failed(id, reason);
                    }
                    let step = AlterStep::Add { addresses: addresses.clone(), start };
                    if let Some(alter) = self.rollout.alters.get_mut(&id) {
                        (alter.step, alter.failed) = (step.clone(), None);
                    }
                    addresses.iter().for_each(|index| self.repair(id, *index, Loss::Removed));
                    step
                }
                // One that cannot be added is tried again with those that somebody removed.
                AlterStep::Add { addresses, .. }
                    if self.group(id).repairs.values().any(|(index, _)| addresses.contains(index)) =>
                {
                    return;
                }
                AlterStep::Add { start: false, .. } => {
                    self.rollout.alters.remove(&id);
                    return;
                }
                AlterStep::Add { .. } => AlterStep::StartMembers,
                AlterStep::StartMembers => {
                    let op = self.alter_op(id, old.timeout_start + MEMBER_MARGIN);
                    return self.out.push(Action::StartMembers { op, group: id });
                }
            };
            if let Some(alter) = self.rollout.alters.get_mut(&id) {
                alter.step = next;
            }
        }
    }

    fn alter_op(&mut self, id: GroupId, timeout: Duration) -> OpId {
        let op = self.op(timeout);
        if let Some(alter) = self.rollout.alters.get_mut(&id) {
            alter.op = Some(op);
        }
        op
    }

    /// The new configuration is written down.
    pub(super) fn build_up_noted(&mut self, id: GroupId, before: &GroupConfig, after: &GroupConfig) {
        self.build_up(id, before, after);
        if let Some(alter) = self.rollout.alters.get_mut(&id) {
            alter.bare = keeps_none(before, after);
        }
    }

    /// What it has beyond `before` is added, addresses first.
    fn build_up(&mut self, id: GroupId, before: &GroupConfig, after: &GroupConfig) {
        let new = |index: &usize| !before.addresses.contains(&after.addresses[*index]);
        let addresses: Vec<usize> = (0..after.addresses.len()).filter(new).collect();
        let unstarted = self.rollout.alters.remove(&id).is_some_and(|alter| alter.unstarted);
        let start = unstarted || !missing_in(&after.members, &before.members).is_empty();
        if start || !addresses.is_empty() {
            let step = AlterStep::Put { addresses, start };
            self.rollout.alters.insert(id, Alter::new(after.clone(), step, unstarted));
        }
    }

    /// It is not put back, but new here.
    pub(super) fn is_added(&self, id: GroupId, index: usize) -> bool {
        let step = self.rollout.alters.get(&id).map(|alter| &alter.step);
        matches!(step, Some(AlterStep::Add { addresses, .. }) if addresses.contains(&index))
    }

    /// Everything that the new configuration does not name is confirmed gone.
    pub(super) fn altered_down(&self, id: GroupId, to: &GroupConfig) -> bool {
        self.rollout.alters.get(&id).is_some_and(|alter| alter.step == AlterStep::Down && alter.to == *to)
    }

    /// It is being removed, or may not be added yet: nobody puts it back.
    pub(super) fn is_going(&self, id: GroupId, index: usize) -> bool {
        let step = self.rollout.alters.get(&id).map(|alter| &alter.step);
        if matches!(step, Some(AlterStep::Put { addresses, .. }) if addresses.contains(&index)) {
            return true;
        }
        let address = self.config.group(id).addresses.get(index);
        self.going(id).is_some_and(|to| address.is_none_or(|address| !to.addresses.contains(address)))
    }

    /// It is being stopped: that is no failure.
    pub(super) fn is_leaving_group(&self, id: GroupId, unit: &str) -> bool {
        self.going(id).is_some_and(|to| !to.members.iter().any(|member| member == unit))
    }

    fn going(&self, id: GroupId) -> Option<&GroupConfig> {
        let alter = self.rollout.alters.get(&id)?;
        (alter.step != AlterStep::Guards).then_some(&alter.to)
    }

    /// The end of a step, if `op` was one.
    pub(super) fn altered(&mut self, op: OpId, outcome: &Outcome) -> bool {
        let Some((id, alter)) = self.rollout.alters.iter_mut().find(|(_, alter)| alter.op == Some(op)) else {
            return false;
        };
        let id = *id;
        alter.op = None;
        let reason = match outcome {
            Outcome::Done | Outcome::Inspected(_) => {
                alter.failed = None;
                let next = match alter.step {
                    AlterStep::Guards => AlterStep::DropMembers,
                    AlterStep::DropMembers => AlterStep::DropAddresses,
                    AlterStep::DropAddresses => AlterStep::Down,
                    AlterStep::StartMembers => {
                        self.rollout.alters.remove(&id);
                        return true;
                    }
                    AlterStep::Down | AlterStep::Put { .. } | AlterStep::Add { .. } => return true,
                };
                alter.step = next;
                return true;
            }
            Outcome::Failed(reason) if alter.step == AlterStep::StartMembers => {
                let reason = format!("a new member could not be started: {reason}");
                self.report(Change::GroupNotChanged { group: id, reason: reason.clone() });
                self.ban(id, reason.clone());
                self.stop(id, Stop::plain(reason));
                return true;
            }
            Outcome::Failed(reason) | Outcome::Refused(reason) | Outcome::Unknown(reason) => reason.clone(),
        };
        self.alter_failed(id, reason);
        true
    }

    /// Told once; the step is tried again.
    fn alter_failed(&mut self, id: GroupId, reason: String) {
        let Some(alter) = self.rollout.alters.get_mut(&id) else { return };
        let known = alter.failed.replace(reason.clone()).is_some();
        self.timers.arm(Timer::AlterAgain(id), self.now + ALTER_AGAIN);
        if !known {
            self.report(Change::GroupNotChanged { group: id, reason });
        }
    }

    /// What holds a change up here.
    pub(super) fn alter_trouble(&self, id: GroupId) -> Option<String> {
        self.rollout.alters.get(&id)?.failed.clone()
    }
}

fn going_addresses(old: &GroupConfig, to: &GroupConfig) -> Vec<usize> {
    (0..old.addresses.len()).filter(|index| !to.addresses.contains(&old.addresses[*index])).collect()
}

/// None of its addresses stays.
fn keeps_none(old: &GroupConfig, to: &GroupConfig) -> bool {
    !old.addresses.is_empty() && going_addresses(old, to).len() == old.addresses.len()
}

fn missing_in(these: &[String], others: &[String]) -> Vec<String> {
    these.iter().filter(|unit| !others.contains(unit)).cloned().collect()
}
