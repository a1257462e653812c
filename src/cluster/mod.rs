//! PURE. What this node knows and decides. No clock, no socket, no file, no randomness, no tokio.
//!
//! One round: [`Cluster::begin`] (the time, own lateness) → [`Cluster::fold`] for every event that waits →
//! [`Cluster::decide`] → actions; [`Cluster::next_deadline`] says when to come again at the latest.
//!
//! Effects follow from desired against actual, computed afresh in every round; none hangs on a transition. Order of the parts:
//! `view` (what was heard) → `placement` (who should own) → `takeover` (may this node?) → `step` (what next) → `group`,
//! `stop`, `upkeep` (how), `rollout` and `alter` (by which configuration). Beside them: `learn` (what peers know), `say` (what they are
//! told), `describe` and `pending` (why); operators: `command`, `moves`, `words`, `maintenance`; and `failback`.

pub mod action;
mod advice;
mod alter;
mod command;
mod crossed;
mod describe;
pub mod event;
mod failback;
pub mod grant;
mod group;
mod joining;
mod learn;
mod maintenance;
mod moved_parts;
mod moves;
mod nominate;
mod pending;
pub mod placement;
pub mod report;
mod rollout;
mod say;
mod snapshot;
pub mod status;
mod step;
mod stop;
pub mod takeover;
pub mod time;
mod timers;
mod told;
mod upkeep;
mod view;
mod words;

pub use action::{Action, Answer, OpId, RequestId};
pub use event::{Actual, Command, Event, Held, HeldPhase, Outcome, Saved, Which};
pub use grant::{BootId, Epoch, Grant, Incarnation, Maintenance, Order, Record, SavedGroup, Standby};
pub use report::Change;
pub use status::Status;
pub use time::Time;
pub use view::Heard;

use crate::config::model::{Config, GroupId, LinkId, NodeId};
use crate::wire::Message;
use command::Waiting;
use crossed::parts_digest;
use group::Group;
use maintenance::Told;
use rollout::Rollout;
use say::Said;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use timers::{Timer, Timers};
use upkeep::Loss;
use view::View;

/// Who this run of the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub incarnation: Incarnation,
    pub boot: BootId,
}

/// The grant of what an earlier run held: its note may be older than the record, where a running group went on under a new epoch.
fn renewed(held: &Held, record: Option<Record>, identity: &Identity, me: NodeId) -> Grant {
    let own = |record: &Record| !record.released && (record.grant.node, record.grant.boot) == (me, identity.boot);
    match record.filter(|record| held.phase == HeldPhase::Granted && own(record)) {
        Some(record) if record.grant.epoch > held.grant.epoch => record.grant,
        _ => held.grant,
    }
}

/// The heart: all that this node knows and decides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cluster {
    config: Arc<Config>,
    identity: Identity,
    now: Time,
    /// When this node asked to be woken: later than that is its own lateness.
    expected: Option<Time>,
    /// When this round began, and so began to read: what came later is not known yet.
    read_at: Time,
    /// Up to when this node's lateness was counted.
    counted: Time,
    /// A link brought more in this round than was read.
    unread: bool,
    /// Since when that has been so, round after round: until a deadtime has passed, nobody counts as silent.
    flooded: Option<Time>,
    sequence: u64,
    ops: u64,
    joined: bool,
    /// When joining ends without having heard everyone; known since the first usable link.
    initdead_at: Option<Time>,
    /// Woke later than the deadtime: listens before it speaks.
    asleep: bool,
    /// The end of that. What was read before may have waited for long.
    awake_since: Time,
    leaving: bool,
    host_stopping: bool,
    /// Operators' words: whether the cluster is left alone, and whether this node may own anything.
    maintenance: Maintenance,
    standby: Standby,
    /// This run only cleans up after a daemon that died for good.
    died: bool,
    exited: bool,
    /// The wait for acknowledgements of the last releases has begun.
    leave_waited: bool,
    host_answers: bool,
    /// When it was last told that another daemon uses this node's name.
    name_taken: Option<Time>,
    /// Since when each link has been usable, or not.
    link_since: BTreeMap<LinkId, Time>,
    pending: Option<String>,
    rollout: Rollout,
    view: View,
    groups: Vec<Group>,
    timers: Timers,
    waiting: BTreeMap<RequestId, Waiting>,
    /// Peers should hear of a change before the next heartbeat is due.
    speak: bool,
    said: Said,
    /// Somebody was heard for the first time: the next message says everything.
    greet: bool,
    greeted: Option<Time>,
    unsaved: bool,
    out: Vec<Action>,
}

impl Cluster {
    /// `held` is what an earlier run of the daemon in this boot left; `saved` what any earlier run left on disk.
    pub fn new(config: Arc<Config>, identity: Identity, saved: &Saved, held: &[Held], now: Time) -> Cluster {
        let groups = config.group_ids().map(|id| {
            let name = &config.group(id).name;
            let held = held.iter().find(|held| held.group == *name);
            let record = saved.groups.get(name).and_then(|saved| saved.record);
            let held = held.map(|held| Held { grant: renewed(held, record, &identity, config.me), ..held.clone() });
            let held = held.as_ref();
            let mut group = Group::new(id, held.map(|held| (held.grant, held.phase)));
            if let Some(saved) = saved.groups.get(name) {
                group.record = saved.record;
                group.order = saved.order;
                group.parked = saved.parked;
            }
            group.parts = parts_digest(config.group(id));
            // What is held may be newer than what was written to disk.
            let owned = held.map(|held| Record::owned(held.grant));
            group.record = match (owned, group.record) {
                (Some(owned), Some(record)) if !owned.supersedes(&record) => Some(record),
                (owned, record) => owned.or(record),
            };
            group
        });
        let mut cluster = Cluster {
            identity,
            now,
            expected: None,
            read_at: now,
            counted: now,
            unread: false,
            flooded: None,
            sequence: 0,
            ops: 0,
            joined: config.nodes.len() < 2,
            initdead_at: None,
            asleep: false,
            awake_since: Time::default(),
            leaving: false,
            host_stopping: false,
            maintenance: saved.maintenance,
            standby: saved.standby,
            died: false,
            exited: false,
            leave_waited: false,
            host_answers: true,
            name_taken: None,
            link_since: BTreeMap::new(),
            pending: None,
            rollout: Rollout::new(&config, saved),
            view: View::new(&config, now),
            groups: groups.collect(),
            timers: Timers::default(),
            waiting: BTreeMap::new(),
            speak: true,
            said: Said::default(),
            greet: false,
            greeted: None,
            unsaved: false,
            out: Vec::new(),
            config,
        };
        for id in cluster.config.group_ids() {
            cluster.inspect(id);
        }
        cluster
    }

    /// Begins a round. What this node was late by is not held against its peers; asleep for longer than the deadtime,
    /// it will read before it speaks.
    pub fn begin(&mut self, now: Time) {
        let now = now.max(self.now);
        // A deadline may have moved since: what a slower link brought puts the end of a silence off.
        let expected = self.expected.map(|expected| self.next_deadline().map_or(expected, |next| next.max(expected)));
        let late = expected.map_or(Duration::ZERO, |expected| now.since(expected));
        self.now = now;
        self.read_at = now;
        self.counted = now;
        if !std::mem::take(&mut self.unread) {
            self.flooded = None;
        }
        if !late.is_zero() {
            self.was_late(late);
            self.expected = None;
        }
    }

    /// Woken too late, or held up between reading and deciding: what its peers and the network said meanwhile, or would have
    /// said if asked, is not known.
    fn was_late(&mut self, late: Duration) {
        let now = self.now;
        self.view.late(late, self.config.timing.deadtime);
        // Joining is listening.
        if let Some(at) = self.initdead_at.filter(|_| !self.joined) {
            self.initdead_at = Some(at + late);
            self.timers.arm(Timer::Initdead, at + late);
        }
        if late > self.config.timing.keepalive {
            self.ask_again();
        }
        if late > self.config.timing.deadtime {
            self.asleep = true;
            self.view.slept(now);
            self.timers.arm(Timer::Awake, now + self.config.timing.keepalive);
            self.report(Change::Slept { gap: late });
        }
    }

    /// A link brought more than one round reads: what a peer said may be among the rest. For a deadtime; who floods a link for
    /// longer must not keep a dead owner alive.
    pub fn leave_unread(&mut self) {
        self.unread = true;
        self.flooded.get_or_insert(self.now);
    }

    fn has_unread(&self) -> bool {
        self.unread && self.flooded.is_some_and(|since| self.now.since(since) < self.config.timing.deadtime)
    }

    /// Takes one event in. Silence never expires here.
    pub fn fold(&mut self, event: Event) {
        match event {
            Event::Heartbeat { link, message } => {
                self.hear(link, &message);
            }
            Event::Link { link, usable } => self.link(link, usable),
            Event::Interface { interface, up } => {
                let before = self.view.interfaces.insert(interface.clone(), up);
                match (before, up) {
                    (Some(false), true) => self.report(Change::InterfaceUp { interface }),
                    (None | Some(true), false) => self.report(Change::InterfaceDown { interface }),
                    _ => {}
                }
                self.speak |= before != Some(up);
                if up {
                    self.count_initdead();
                }
            }
            Event::AddressLost { group, index } => self.address_lost(group, index, Loss::Removed),
            Event::AddressFlushed { group, index } => self.address_lost(group, index, Loss::Flushed),
            Event::Placed { group, interfaces, fault } => self.placed(group, interfaces, fault),
            Event::ProbeAnswer { group, index, mac } => self.probe_answered(group, index, mac),
            Event::ProbeFailed { group, reason } => self.probe_failed(group, reason),
            Event::Guard { group, fault } => self.guard(group, fault),
            Event::MemberDown { group, unit, reason } => self.member_down(group, unit, reason),
            // Of a group that runs elsewhere it is a late word about what was stopped here.
            Event::TargetStopped { group } if self.group(group).claim().is_some() => {
                if !self.left_alone(group, Told::TargetStopped) {
                    self.order(group, true);
                }
            }
            Event::TargetStopped { .. } => {}
            Event::HostStopping if !self.host_stopping => {
                self.host_stopping = true;
                self.speak = true;
                self.report(Change::HostStopping);
            }
            Event::HostStopping => {}
            Event::Leave => self.leave(),
            Event::DaemonDied => {
                self.died = true;
                self.leave();
            }
            Event::HostThread { answering } => {
                if self.host_answers != answering {
                    self.host_answers = answering;
                    self.report(if answering { Change::HostThreadBack } else { Change::HostThreadStuck });
                }
            }
            Event::Pending(what) => {
                if self.pending != what {
                    self.report(what.clone().map_or(Change::ConfigSettled, |what| Change::ConfigPending { what }));
                    self.pending = what;
                }
            }
            Event::Files { groups, request } => self.read_files(groups, request),
            Event::Command { request, command } => self.command(request, command),
            Event::Finished { op, outcome } => self.finished(op, outcome),
        }
    }

    /// A message that was opened. Says what became of it, for the link's counters.
    pub fn hear(&mut self, link: LinkId, message: &Message) -> Heard {
        let mut changes = Vec::new();
        let mine = (self.identity.incarnation, self.sequence);
        let config = self.config.clone();
        let heard = self.view.hear(self.now, &config, mine, link, message, &mut changes);
        let mut returned = false;
        for change in changes {
            // One that came (back) should hear us before our next heartbeat is due.
            self.speak |= matches!(change, Change::NodeJoined { .. } | Change::NodeReturned { .. });
            returned |= matches!(change, Change::NodeReturned { restarted: false, .. });
            self.report(change);
        }
        match heard {
            Heard::News(node) => self.learn(node),
            Heard::Stranger { new } => {
                self.speak |= new;
                // Once in a keepalive: recorded packets must not make this node tell all of its groups for each of them.
                if new && self.greeted.is_none_or(|at| self.now.since(at) >= config.timing.keepalive) {
                    self.greeted = Some(self.now);
                    self.greet = true;
                }
            }
            Heard::OwnName => self.name_taken(),
            Heard::Duplicate | Heard::Replay | Heard::UnknownSender | Heard::OwnCopy => {}
        }
        // What was cut may have been cut from its neighbours too, and they may know another owner. Rightly, where this one is beaten.
        for id in config.group_ids().filter(|_| returned) {
            if self.group(id).claim().is_some_and(|grant| !self.beaten(id, &grant)) {
                self.announce_anew(id);
            }
        }
        heard
    }

    /// Everything that waits was folded: expire silence, and decide.
    pub fn decide(&mut self, now: Time) -> Vec<Action> {
        self.now = now.max(self.now);
        let held_up = self.now.since(self.counted);
        if held_up > self.config.timing.keepalive {
            self.counted = self.now;
            self.was_late(held_up);
        }
        for timer in self.timers.expired(self.now) {
            self.due(timer);
        }
        let mut changes = Vec::new();
        // Only what was silent when this round began to read was silent: a stall since then is this node's own.
        if !self.has_unread() {
            self.view.expire(self.read_at, &self.config.timing, &mut changes);
        }
        for change in changes {
            if let Change::NodeLost { node, .. } = change {
                self.groups.iter_mut().for_each(|group| group.rivals.retain(|rival| *rival != node));
                // What was said of it to the others is over.
                self.speak |= self.view.peers.len() > 1;
            }
            self.report(change);
        }
        self.join();
        // Before the steps: where all nodes agree, nothing is started only to be changed.
        self.roll_out();
        for id in self.config.clone().live_groups() {
            self.probe(id);
            self.heed(id);
            self.follow_failback(id);
            self.step(id);
        }
        self.answer_waiting();
        self.depart();
        self.say();
        // Who still reads is late by its reading; by more than a keepalive, it slept.
        let keepalive = self.config.timing.keepalive;
        let reads = self.has_unread();
        self.expected = self.next_deadline().map(|at| if reads { at.max(self.now) + keepalive } else { at });
        std::mem::take(&mut self.out)
    }

    /// When `decide` has something to do at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        let silence = self.view.next_silence(self.now, &self.config.timing);
        [self.timers.next(), silence, self.next_probe()].into_iter().flatten().min()
    }

    fn due(&mut self, timer: Timer) {
        match timer {
            Timer::Beat => self.speak = true,
            Timer::Initdead => {
                if !self.joined {
                    self.finish_join(true);
                }
            }
            Timer::Awake => {
                self.asleep = false;
                self.awake_since = self.now;
                self.speak = true;
            }
            Timer::Op(op) => self.timed_out(op),
            Timer::Announce(id) => self.announce(id),
            Timer::StopAgain(id) => self.stop_step(id),
            Timer::InspectAgain(id) => self.inspect(id),
            Timer::MoveOver(id) => self.group_mut(id).move_to = None,
            Timer::Request(request) => self.request_over(request),
            // They only bring about a round.
            Timer::StartAgain(_)
            | Timer::Probe(_)
            | Timer::ProbeAnswer(_)
            | Timer::PassAgain(_)
            | Timer::FailbackDue(_)
            | Timer::AlterAgain(_)
            | Timer::NoteAgain
            | Timer::ReloadAnswer
            | Timer::LeaveOver => {}
        }
    }

    fn guard(&mut self, id: GroupId, fault: Option<String>) {
        if std::mem::replace(&mut self.group_mut(id).guard_checked, true) && self.group(id).guard == fault {
            return;
        }
        match &fault {
            Some(reason) => self.report(Change::GuardFault { group: id, reason: reason.clone() }),
            None if self.group(id).guard.is_some() => self.report(Change::GuardBack { group: id }),
            None => {}
        }
        self.group_mut(id).guard = fault;
        self.speak = true;
    }

    fn set_record(&mut self, id: GroupId, record: Record) {
        self.group_mut(id).record = Some(record);
        self.unsaved = true;
        self.speak = true;
    }

    fn group(&self, id: GroupId) -> &Group {
        &self.groups[usize::from(id.0)]
    }

    fn group_mut(&mut self, id: GroupId) -> &mut Group {
        &mut self.groups[usize::from(id.0)]
    }

    fn report(&mut self, change: Change) {
        self.out.push(Action::Report(change));
    }
}

#[cfg(test)]
mod exchange_tests;
#[cfg(test)]
mod heart_tests;
#[cfg(test)]
mod maintenance_tests;
#[cfg(test)]
mod owner_tests;
#[cfg(test)]
mod rollout_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod testing_many;
#[cfg(test)]
mod three_tests;
#[cfg(test)]
mod words_tests;
