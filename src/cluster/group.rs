//! One group on this node: its phase, how it starts, and what an earlier run of the daemon left of it.
//! It must not know how steps are carried out, nor whether the network agrees: `takeover` says when it may start, `stop` how it ends.

use super::action::{Action, OpId};
use super::event::{Actual, HeldPhase, Outcome};
use super::grant::{Grant, Order, Record};
use super::maintenance::{Look, Told};
use super::report::Change;
use super::stop::{Stop, Stopping};
use super::takeover::{Probing, Proof};
use super::time::Time;
use super::timers::Timer;
use super::upkeep::{Claimed, Loss};
use super::{Cluster, Epoch};
use crate::config::model::{GroupId, NodeId};
use crate::wire::Role;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An action other than starting and stopping members has this long to end.
pub(super) const OP_TIMEOUT: Duration = Duration::from_secs(5);
/// The manager's own timeout for a job ends first; this much later the answer is given up.
pub(super) const MEMBER_MARGIN: Duration = Duration::from_secs(2);
/// A start whose end is unknown, and a run whose addresses could not be kept, are tried again after this.
pub(super) const START_AGAIN: Duration = Duration::from_secs(2);
/// A start that others do not show to know of is given up after so many deadtimes: later than one that is deaf is asked no more. And not
/// before this, where deadtimes are short: a peer may be stopping what it had.
const HOLD_DEADTIMES: u32 = 6;
const HOLD_LEAST: Duration = Duration::from_secs(10);
pub(super) const INSPECT_AGAIN: Duration = Duration::from_millis(500);
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Not looked at yet, or something is here that this daemon did not start (`found`).
    Unknown {
        held: Option<(Grant, HeldPhase)>,
        op: Option<OpId>,
        found: Option<String>,
    },
    /// Verified: nothing of it is active here.
    Idle,
    /// Without `op`, the step is done and the next one is for the round to take: what was heard meanwhile comes first.
    Starting {
        grant: Grant,
        step: StartStep,
        op: Option<OpId>,
        since: Time,
    },
    Running {
        grant: Grant,
    },
    Stopping(Stopping),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum StartStep {
    Hold,
    Addresses,
    Members,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) phase: Phase,
    pub(super) record: Option<Record>,
    pub(super) order: Order,
    /// It failed here; not tried again before an operator says so.
    pub(super) banned: Option<String>,
    /// Why this node cannot take it: guards not loaded. Of no account without members.
    pub(super) guard: Option<String>,
    pub(super) guard_checked: bool,
    /// An operator wants it there.
    pub(super) move_to: Option<NodeId>,
    /// The wish that is known: on whose node, and where to.
    pub(super) asked: Option<(NodeId, NodeId)>,
    /// Its owner has it by an operator's word: `Failback=` waits.
    pub(super) parked: bool,
    /// Preferred nodes that went since: what they come back for is no longer put off.
    pub(super) went: BTreeSet<NodeId>,
    /// Since when nodes that it prefers to its owner have been well, without a break.
    pub(super) well: BTreeMap<NodeId, Time>,
    /// What happened to it while it was left alone, and the look at it that follows.
    pub(super) told: Option<Told>,
    pub(super) look: Look,
    pub(super) probing: Probing,
    /// Why it runs nowhere or not here, as last reported.
    pub(super) blocked: Option<String>,
    /// Other nodes that claim it too.
    pub(super) rivals: BTreeSet<NodeId>,
    /// What placement said last.
    pub(super) desired: Option<NodeId>,
    /// When it was last started here.
    pub(super) started: Time,
    /// Another node than its keeper started it here: others may do the same, and have to know first.
    pub(super) announced_first: bool,
    /// Why it was, and who had owned it before.
    pub(super) because: Option<(Proof, Option<NodeId>)>,
    /// Rounds of announcements made since the last start of them.
    pub(super) announced: usize,
    /// Addresses that are being put back.
    pub(super) repairs: BTreeMap<OpId, (usize, Loss)>,
    /// How many are back since their interface was switched off.
    pub(super) returned: usize,
    /// Addresses that could not be put back, and why.
    pub(super) missing: BTreeMap<usize, String>,
    /// The interface found for each address, where it names none itself.
    pub(super) places: Vec<Option<String>>,
    /// Why one of them has none.
    pub(super) no_place: Option<String>,
    /// The target of a group without members is started and stopped beside the addresses, for show: its end decides nothing.
    pub(super) target: Option<OpId>,
    /// Another host claimed one of its addresses while this node had it: when last, which, from where; and when that was told.
    pub(super) claimed: Option<Claimed>,
    /// Digest of its addresses and members.
    pub(super) parts: u32,
}

impl Group {
    pub(super) fn new(id: GroupId, held: Option<(Grant, HeldPhase)>) -> Group {
        Group {
            id,
            phase: Phase::Unknown { held, op: None, found: None },
            record: None,
            order: Order::default(),
            banned: None,
            guard: None,
            guard_checked: false,
            move_to: None,
            asked: None,
            parked: false,
            went: BTreeSet::new(),
            well: BTreeMap::new(),
            told: None,
            look: Look::No,
            probing: Probing::default(),
            blocked: None,
            rivals: BTreeSet::new(),
            desired: None,
            started: Time::default(),
            announced_first: false,
            because: None,
            announced: 0,
            repairs: BTreeMap::new(),
            returned: 0,
            places: Vec::new(),
            no_place: None,
            missing: BTreeMap::new(),
            target: None,
            claimed: None,
            parts: 0,
        }
    }

    pub(super) fn role(&self) -> Role {
        match &self.phase {
            Phase::Unknown { .. } => Role::Unknown,
            Phase::Idle => Role::Idle,
            Phase::Starting { .. } => Role::Starting,
            Phase::Running { .. } => Role::Running,
            Phase::Stopping(_) => Role::Stopping,
        }
    }

    /// The grant under which this node claims the group.
    pub(super) fn claim(&self) -> Option<Grant> {
        match self.phase {
            Phase::Starting { grant, .. } | Phase::Running { grant } => Some(grant),
            _ => None,
        }
    }

    pub(super) fn op(&self) -> Option<OpId> {
        match self.phase {
            Phase::Unknown { op, .. } | Phase::Stopping(Stopping { op, .. }) | Phase::Starting { op, .. } => op,
            Phase::Idle | Phase::Running { .. } => None,
        }
    }
}

impl Cluster {
    /// Looks at a group whose state here is not known.
    pub(super) fn inspect(&mut self, id: GroupId) {
        self.look(id);
        if !matches!(self.group(id).phase, Phase::Unknown { .. }) {
            return;
        }
        let new = self.op(OP_TIMEOUT);
        if let Phase::Unknown { op, .. } = &mut self.group_mut(id).phase {
            *op = Some(new);
            self.out.push(Action::Inspect { op: new, group: id });
        }
    }

    /// The next epoch, for this node: recorded before anything is started (rule 3).
    pub(super) fn new_grant(&self, id: GroupId) -> Grant {
        let epoch = self.group(id).record.map_or(Epoch(0), |record| record.grant.epoch);
        Grant { epoch: Epoch(epoch.0.saturating_add(1)), node: self.config.me, boot: self.identity.boot }
    }

    pub(super) fn start(&mut self, id: GroupId, proof: Proof) {
        let grant = self.new_grant(id);
        let keeper = self.keeper(id);
        let keeps = keeper == self.config.me;
        let from = self.group(id).record.map(|record| record.grant.node).filter(|node| *node != self.config.me);
        // Taken, not given: an operator's word from before does not hold.
        let kept = self.group(id).record.is_some_and(|record| record.keeper() == self.config.me);
        self.group_mut(id).parked &= kept;
        self.set_record(id, Record::owned(grant));
        let op = self.op(OP_TIMEOUT);
        let since = self.now;
        let group = self.group_mut(id);
        group.phase = Phase::Starting { grant, step: StartStep::Hold, op: Some(op), since };
        group.started = since;
        group.announced_first = !keeps;
        // Whose silence it was: an heir's, maybe.
        group.because = Some((proof, if proof == Proof::Silence { Some(keeper) } else { from }));
        group.missing.clear();
        group.probing = Probing::default();
        // Where it is still wanted, the network is asked anew at once.
        self.timers.disarm(Timer::Probe(id));
        self.out.push(Action::Hold { op, group: id, grant, phase: HeldPhase::Granted });
        self.report(Change::GroupStarting { group: id, epoch: grant.epoch, from, proof });
        self.speak = true;
    }

    /// An action ended, by answer or by deadline.
    pub(super) fn finished(&mut self, op: OpId, outcome: Outcome) {
        self.timers.disarm(Timer::Op(op));
        if let Some(group) = self.groups.iter_mut().find(|group| group.target == Some(op)) {
            group.target = None;
            return;
        }
        let beside = self.put_back(op, &outcome) || self.looked(op, &outcome);
        if beside || self.altered(op, &outcome) || self.noted(op, &outcome) {
            return;
        }
        // A late or repeated answer finds nobody waiting for it.
        let Some(id) = self.groups.iter().find(|group| group.op() == Some(op)).map(|group| group.id) else { return };
        match self.group(id).phase.clone() {
            Phase::Unknown { held, .. } => self.inspected(id, held, outcome),
            Phase::Starting { grant, step, since, .. } => self.started_step(id, grant, step, since, outcome),
            Phase::Stopping(stopping) => self.stopped_step(id, stopping, outcome),
            Phase::Idle | Phase::Running { .. } => {}
        }
    }

    fn started_step(&mut self, id: GroupId, grant: Grant, step: StartStep, since: Time, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.group_mut(id).phase = Phase::Starting { grant, step, op: None, since },
            Outcome::Failed(reason) => {
                self.report(Change::GroupStartFailed { group: id, reason: reason.clone() });
                self.ban(id, format!("its start failed: {reason}"));
                self.stop(id, Stop::plain(format!("its start failed: {reason}")));
            }
            // Unknown is not failed: no ban, but not at once again either.
            Outcome::Refused(reason) | Outcome::Unknown(reason) => {
                self.report(Change::GroupStartFailed { group: id, reason: reason.clone() });
                self.timers.arm(Timer::StartAgain(id), self.now + START_AGAIN);
                self.stop(id, Stop::plain(format!("its start did not come to an end: {reason}")));
            }
            Outcome::Inspected(_) => {}
        }
    }

    /// Takes the step after one that is done.
    pub(super) fn go_on_starting(&mut self, id: GroupId) {
        let Phase::Starting { grant, step, op: None, since } = self.group(id).phase else { return };
        // Who slept listens first: another may own it by now.
        if self.asleep {
            return;
        }
        if step == StartStep::Hold
            && let Some(reason) = self.not_shown(id, &grant)
        {
            return self.give_up_hold(id, since, reason);
        }
        let config = self.config.clone();
        let config = config.group(id);
        let next = match step {
            StartStep::Hold if !config.addresses.is_empty() => StartStep::Addresses,
            StartStep::Hold => StartStep::Members,
            StartStep::Addresses if config.members.is_empty() => {
                let op = self.op(config.timeout_start + MEMBER_MARGIN);
                self.group_mut(id).target = Some(op);
                self.out.push(Action::StartMembers { op, group: id });
                return self.running(id, grant, since);
            }
            StartStep::Addresses => StartStep::Members,
            StartStep::Members => return self.running(id, grant, since),
        };
        if step == StartStep::Hold {
            // From here on others can meet it on the network.
            self.group_mut(id).started = self.now;
        }
        let timeout = if next == StartStep::Members { config.timeout_start + MEMBER_MARGIN } else { OP_TIMEOUT };
        let op = self.op(timeout);
        self.out.push(match next {
            StartStep::Members => Action::StartMembers { op, group: id },
            StartStep::Hold | StartStep::Addresses => Action::AddAddresses { op, group: id },
        });
        self.group_mut(id).phase = Phase::Starting { grant, step: next, op: Some(op), since };
    }

    /// Who does not hear this node never shows it, nor whom that one hears: nothing is up yet, so it is let go and asked for anew.
    fn give_up_hold(&mut self, id: GroupId, since: Time, reason: String) {
        if self.now.since(since) > (self.config.timing.deadtime * HOLD_DEADTIMES).max(HOLD_LEAST) {
            self.timers.arm(Timer::StartAgain(id), self.now + START_AGAIN);
            self.stop(id, Stop::plain(format!("nothing of it was started: {reason}")));
        }
    }

    fn running(&mut self, id: GroupId, grant: Grant, since: Time) {
        self.group_mut(id).phase = Phase::Running { grant };
        self.announce_anew(id);
        self.report(Change::GroupRunning { group: id, epoch: grant.epoch, took: self.now.since(since) });
        self.speak = true;
    }

    /// A record that names this node while nothing runs here is a release, whichever boot it is of (rule 5).
    pub(super) fn settle_record(&mut self, id: GroupId) {
        let group = self.group(id);
        if group.phase != Phase::Idle {
            return;
        }
        if let Some(record) = group.record.filter(|record| record.grant.node == self.config.me && !record.released) {
            self.set_record(id, Record { released: true, ..record });
        }
    }

    fn inspected(&mut self, id: GroupId, held: Option<(Grant, HeldPhase)>, outcome: Outcome) {
        let actual = match outcome {
            Outcome::Inspected(actual) => actual,
            Outcome::Failed(reason) | Outcome::Refused(reason) | Outcome::Unknown(reason) => {
                let found = Some(format!("it is not known whether it runs here: {reason}"));
                self.group_mut(id).phase = Phase::Unknown { held, op: None, found };
                return self.timers.arm(Timer::InspectAgain(id), self.now + INSPECT_AGAIN);
            }
            Outcome::Done => return,
        };
        match held {
            Some((grant, HeldPhase::Granted)) if !self.died && self.adoptable(id, &grant, &actual) => {
                self.adopt(id, grant, &actual);
            }
            Some((grant, phase)) => {
                let reason = match phase {
                    _ if self.died => "the daemon died for good",
                    HeldPhase::Granted => "not all of it is left of what the last daemon ran",
                    HeldPhase::Stopping => "the last daemon was stopping it",
                };
                let contested = self.beaten(id, &grant);
                self.begin_stop(id, grant, Stop { reason: reason.into(), contested });
            }
            None if actual.any_active || !actual.addresses.is_empty() => {
                let found = Some(self.describe_found(id, &actual));
                self.group_mut(id).phase = Phase::Unknown { held, op: None, found };
                self.timers.arm(Timer::InspectAgain(id), self.now + INSPECT_AGAIN);
            }
            None => {
                self.group_mut(id).phase = Phase::Idle;
                self.settle_record(id);
                self.speak = true;
            }
        }
    }

    /// Whether what an earlier run of the daemon left is a whole running group, and still ours.
    fn adoptable(&self, id: GroupId, grant: &Grant, actual: &Actual) -> bool {
        let config = self.config.group(id);
        let whole = actual.all_active && (config.addresses.is_empty() || !actual.addresses.is_empty());
        // What failed while it is left alone is dealt with when that ends.
        (whole || self.maintenance.on) && !self.beaten(id, grant)
    }

    /// Somebody has a higher grant.
    pub(super) fn beaten(&self, id: GroupId, grant: &Grant) -> bool {
        self.group(id).record.is_some_and(|record| record.grant != *grant && record.grant.beats(grant))
    }

    fn adopt(&mut self, id: GroupId, grant: Grant, actual: &Actual) {
        self.group_mut(id).phase = Phase::Running { grant };
        self.set_record(id, Record::owned(grant));
        self.report(Change::GroupAdopted { group: id, epoch: grant.epoch });
        if !actual.all_active {
            let (unit, reason) = ("a member".into(), "it was down when this daemon started, during maintenance".into());
            self.left_alone(id, Told::MemberDown { unit, reason });
        }
        for index in 0..self.config.group(id).addresses.len() {
            if !actual.addresses.contains(&index) && !self.maintenance.on {
                self.repair(id, index, Loss::Removed);
            }
        }
        self.speak = true;
    }

    fn describe_found(&self, id: GroupId, actual: &Actual) -> String {
        let config = self.config.group(id);
        match actual.addresses.first() {
            Some(index) => {
                let address = &config.addresses[*index];
                let (address, prefix) = (address.address, address.prefix);
                let dev = self.dev(id, *index).unwrap_or("an interface");
                format!(
                    "{address}/{prefix} is on {dev} but was not added by hafailover; remove it with: \
                     ip address del {address}/{prefix} dev {dev}"
                )
            }
            None => format!(
                "a member is active here, or about to be, without our doing; if it stays so: systemctl stop {}",
                config.members.join(" ")
            ),
        }
    }

    pub(super) fn ban(&mut self, id: GroupId, reason: String) {
        self.group_mut(id).banned = Some(reason.clone());
        self.report(Change::GroupBanned { group: id, reason });
    }

    pub(super) fn member_down(&mut self, id: GroupId, unit: String, reason: String) {
        if self.is_leaving_group(id, &unit)
            || self.left_alone(id, Told::MemberDown { unit: unit.clone(), reason: reason.clone() })
        {
            return;
        }
        // While starting, the start itself finds out, until it is over; while stopping it is meant.
        if !matches!(
            self.group(id).phase,
            Phase::Running { .. } | Phase::Starting { step: StartStep::Members, op: None, .. }
        ) {
            return;
        }
        self.report(Change::MemberDown { group: id, unit: unit.clone(), reason: reason.clone() });
        self.ban(id, format!("{unit} stopped: {reason}"));
        self.stop(id, Stop::plain(format!("{unit} stopped: {reason}")));
    }

    pub(super) fn timed_out(&mut self, op: OpId) {
        self.finished(op, Outcome::Unknown("no answer in time".into()));
    }

    pub(super) fn op(&mut self, timeout: Duration) -> OpId {
        self.ops += 1;
        let op = OpId(self.ops);
        self.timers.arm(Timer::Op(op), self.now + timeout);
        op
    }
}
