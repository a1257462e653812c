//! How a group ends on this node: step by step, each confirmed, and nothing released before all are.
//! It must not know why a group stops, but for one thing: whether another node owns it too.

use super::Cluster;
use super::action::{Action, OpId};
use super::event::{HeldPhase, Outcome};
use super::grant::Grant;
use super::group::{MEMBER_MARGIN, OP_TIMEOUT, Phase, START_AGAIN};
use super::maintenance::Look;
use super::report::Change;
use super::time::Time;
use super::timers::Timer;
use crate::config::model::GroupId;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A stop that was not confirmed is tried again after this, doubled each time, up to the second figure.
const STOP_AGAIN: Duration = Duration::from_secs(1);
const STOP_AGAIN_MAX: Duration = Duration::from_secs(30);

/// Why a group stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) reason: String,
    /// Another node has it too: its addresses go first, for an address on two hosts harms both.
    pub(super) contested: bool,
}

impl Stop {
    pub(super) fn plain(reason: String) -> Stop {
        Stop { reason, contested: false }
    }
}

/// A stop under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopping {
    pub(super) grant: Grant,
    pub(super) step: StopStep,
    pub(super) op: Option<OpId>,
    pub(super) since: Time,
    pub(super) failures: u32,
    /// Every step of this pass was confirmed so far.
    confirmed: bool,
    contested: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum StopStep {
    Revoke,
    Members,
    Addresses,
    /// Something may have started a member meanwhile.
    Verify,
}

impl Stopping {
    /// `None`: that was the last one.
    fn next(&self, members: bool) -> Option<StopStep> {
        let order: &[StopStep] = match (members, self.contested) {
            (false, _) => &[StopStep::Revoke, StopStep::Addresses],
            (true, false) => &[StopStep::Revoke, StopStep::Members, StopStep::Addresses, StopStep::Verify],
            (true, true) => &[StopStep::Revoke, StopStep::Addresses, StopStep::Members, StopStep::Verify],
        };
        order.iter().copied().skip_while(|step| *step != self.step).nth(1)
    }
}

impl Cluster {
    pub(super) fn stop(&mut self, id: GroupId, stop: Stop) {
        let Some(grant) = self.group(id).claim() else { return };
        if let Some(op) = self.group(id).op() {
            self.timers.disarm(Timer::Op(op));
        }
        self.begin_stop(id, grant, stop);
    }

    pub(super) fn begin_stop(&mut self, id: GroupId, grant: Grant, stop: Stop) {
        self.timers.disarm(Timer::Announce(id));
        let group = self.group_mut(id);
        (group.look, group.told) = (Look::No, None);
        self.report(Change::GroupStopping { group: id, epoch: grant.epoch, reason: stop.reason });
        let (step, since, contested) = (StopStep::Revoke, self.now, stop.contested);
        let stopping = Stopping { grant, step, op: None, since, failures: 0, confirmed: true, contested };
        self.group_mut(id).phase = Phase::Stopping(stopping);
        // The start of a target that is there for show is not waited for any more: the stop ends it.
        if let Some(op) = self.group_mut(id).target.take() {
            self.timers.disarm(Timer::Op(op));
        }
        self.stop_step(id);
        self.speak = true;
    }

    /// Another node took what this one has not ended yet: addresses first from here on.
    pub(super) fn contest(&mut self, id: GroupId) {
        let Phase::Stopping(stopping) = &mut self.group_mut(id).phase else { return };
        let revoking = stopping.step == StopStep::Revoke && stopping.op.is_some();
        if std::mem::replace(&mut stopping.contested, true) || revoking {
            return;
        }
        stopping.step = StopStep::Revoke;
        stopping.confirmed = true;
        if let Some(op) = stopping.op {
            self.timers.disarm(Timer::Op(op));
        }
        self.timers.disarm(Timer::StopAgain(id));
        self.stop_step(id);
    }

    /// Asks for the step that a stopping group has come to.
    pub(super) fn stop_step(&mut self, id: GroupId) {
        let Phase::Stopping(Stopping { grant, step, .. }) = self.group(id).phase else { return };
        let timeout = match step {
            StopStep::Members | StopStep::Verify => self.config.group(id).timeout_stop + MEMBER_MARGIN,
            StopStep::Revoke | StopStep::Addresses => OP_TIMEOUT,
        };
        let new = self.op(timeout);
        self.out.push(match step {
            StopStep::Revoke => Action::Hold { op: new, group: id, grant, phase: HeldPhase::Stopping },
            StopStep::Members => Action::StopMembers { op: new, group: id },
            StopStep::Addresses => Action::RemoveAddresses { op: new, group: id },
            StopStep::Verify => Action::VerifyStopped { op: new, group: id },
        });
        if let Phase::Stopping(stopping) = &mut self.group_mut(id).phase {
            stopping.op = Some(new);
        }
    }

    pub(super) fn stopped_step(&mut self, id: GroupId, stopping: Stopping, outcome: Outcome) {
        let failure = match outcome {
            Outcome::Failed(reason) | Outcome::Refused(reason) | Outcome::Unknown(reason) => Some(reason),
            Outcome::Done | Outcome::Inspected(_) => None,
        };
        if let Some(reason) = &failure {
            self.report(Change::StopUnconfirmed { group: id, reason: reason.clone() });
            self.group_mut(id).blocked = Some(format!("a stop could not be confirmed: {reason}"));
            // A note that cannot be written must not keep the group running, nor one part of it another that is doubled.
            if stopping.step != StopStep::Revoke && !stopping.contested {
                return self.stop_again(id, stopping);
            }
        }
        let members = !self.config.group(id).members.is_empty();
        if stopping.step == StopStep::Revoke && !members && self.group(id).target.is_none() {
            // The target is stopped for show: its end decides nothing.
            let op = self.op(OP_TIMEOUT);
            self.group_mut(id).target = Some(op);
            self.out.push(Action::StopMembers { op, group: id });
        }
        let confirmed = stopping.confirmed && failure.is_none();
        match stopping.next(members) {
            Some(step) => {
                self.group_mut(id).phase = Phase::Stopping(Stopping { step, op: None, confirmed, ..stopping });
                self.stop_step(id);
            }
            None if confirmed => self.stopped(id, stopping),
            None => self.stop_again(id, stopping),
        }
    }

    /// Nothing is released. All steps again, for ever: the group may be running here.
    fn stop_again(&mut self, id: GroupId, stopping: Stopping) {
        let wait = (STOP_AGAIN * 2_u32.saturating_pow(stopping.failures.min(8))).min(STOP_AGAIN_MAX);
        self.timers.arm(Timer::StopAgain(id), self.now + wait);
        let failures = stopping.failures.saturating_add(1);
        let (step, confirmed) = (StopStep::Revoke, true);
        self.group_mut(id).phase = Phase::Stopping(Stopping { op: None, step, confirmed, failures, ..stopping });
    }

    /// Every stop is confirmed: the release.
    fn stopped(&mut self, id: GroupId, stopping: Stopping) {
        let group = self.group_mut(id);
        group.phase = Phase::Idle;
        if !std::mem::take(&mut group.missing).is_empty() {
            // Not here again at once: another node first.
            self.timers.arm(Timer::StartAgain(id), self.now + START_AGAIN);
        }
        self.out.push(Action::Forget { group: id });
        let took = self.now.since(stopping.since);
        self.report(Change::GroupReleased { group: id, epoch: stopping.grant.epoch, took });
        self.settle_record(id);
        self.speak = true;
    }
}
