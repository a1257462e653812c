//! Every deadline of the heart, one sentence each. A deadline is either armed here or does not exist.
//! The ends of a peer's silence are not armed but computed from when it was last heard: see `view`.

use super::action::{OpId, RequestId};
use super::time::Time;
use crate::config::model::GroupId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Timer {
    /// The next heartbeat is due.
    Beat,
    /// Joining ends although not everyone was heard.
    Initdead,
    /// After having slept, this node speaks again.
    Awake,
    /// An action has had its time.
    Op(OpId),
    /// The next round of announcements of a group.
    Announce(GroupId),
    /// The network is asked again who has a group's addresses.
    Probe(GroupId),
    /// The probes of a group have been out long enough for an answer to have come.
    ProbeAnswer(GroupId),
    /// A stop that could not be confirmed is tried again.
    StopAgain(GroupId),
    /// A group may be started here again after a run that did not end well.
    StartAgain(GroupId),
    /// A group that was in an unknown state is looked at again.
    InspectAgain(GroupId),
    /// A group may be passed on again: two nodes that disagree on placement must not do so at wire speed.
    PassAgain(GroupId),
    /// The planned new owner of a moved group has had its time; placement decides again.
    MoveOver(GroupId),
    /// A preferred node will have been well for as long as the group's `Failback=` asks.
    FailbackDue(GroupId),
    /// An operator has waited long enough for an answer.
    Request(RequestId),
    /// A step of a group's change is tried again.
    AlterAgain(GroupId),
    /// The new configuration could not be written down; it is tried again.
    NoteAgain,
    /// Who reloaded the files is told how far their taking over has come.
    ReloadAnswer,
    /// Leaving ends although not every peer has acknowledged the release.
    LeaveOver,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(Timer, Time)>", into = "Vec<(Timer, Time)>")]
pub struct Timers(BTreeMap<Timer, Time>);

/// As a list: in JSON only texts and numbers may be keys.
impl From<Timers> for Vec<(Timer, Time)> {
    fn from(timers: Timers) -> Vec<(Timer, Time)> {
        timers.0.into_iter().collect()
    }
}

impl From<Vec<(Timer, Time)>> for Timers {
    fn from(list: Vec<(Timer, Time)>) -> Timers {
        Timers(list.into_iter().collect())
    }
}

impl Timers {
    pub fn arm(&mut self, timer: Timer, at: Time) {
        self.0.insert(timer, at);
    }

    pub fn disarm(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }

    pub fn armed(&self, timer: Timer) -> bool {
        self.0.contains_key(&timer)
    }

    /// Takes out all that are due, earliest first.
    pub fn expired(&mut self, now: Time) -> Vec<Timer> {
        let mut due: Vec<(Time, Timer)> =
            self.0.iter().filter(|(_, at)| **at <= now).map(|(timer, at)| (*at, *timer)).collect();
        due.sort();
        for (_, timer) in &due {
            self.0.remove(timer);
        }
        due.into_iter().map(|(_, timer)| timer).collect()
    }

    pub fn all(&self) -> impl Iterator<Item = &Timer> {
        self.0.keys()
    }

    pub fn next(&self) -> Option<Time> {
        self.0.values().min().copied()
    }
}
