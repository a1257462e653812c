//! Two hearts that hear each other, one of them recorded; what ends at once ends well. Times are the test's own.

use super::recorder::{Recorder, Sink};
use super::writer::{Recording, start};
use crate::cluster::{Action, Actual, BootId, Cluster, Event, Identity, Incarnation, Outcome, Saved, Time};
use crate::config::model::{Config, GroupTag, LinkConfig, LinkId, LinkKind, NodeId, VirtualAddress};
use crate::host::held::tests::{TempPlaces, config};
use crate::journal::{Journal, JournalHandle};
use crate::wire::Message;
use std::sync::Arc;
use std::time::Duration;

const LINK: LinkId = LinkId(0);
const KEEPALIVE: u64 = 200;

pub(super) fn two_nodes(me: u8) -> Config {
    let mut config = config(&["alpha", "beta"]);
    config.me = NodeId(me);
    let kind = LinkKind::Ucast { peers: Default::default() };
    let link = LinkConfig { name: "hb0".into(), interface: "hb0".into(), port: 694, kind };
    config.links = vec![link];
    config.groups.truncate(1);
    let group = &mut config.groups[0];
    (group.name, group.tag) = ("web".into(), GroupTag(7));
    (group.nodes, group.members) = (vec![NodeId(0), NodeId(1)], vec![]);
    group.interfaces = vec!["eth0".into()];
    group.addresses = vec![VirtualAddress {
        address: "10.0.0.77".parse().unwrap(),
        prefix: 24,
        interface: Some("eth0".into()),
        label: None,
        broadcast: None,
    }];
    config
}

pub(super) fn journal() -> JournalHandle {
    Journal::start().unwrap()
}

pub(super) struct Two {
    pub(super) hearts: [Recorder; 2],
    /// It has no power any more.
    pub(super) dead: [bool; 2],
    now: u64,
}

impl Two {
    pub(super) fn new() -> Two {
        let heart = |me: u8| {
            let identity = Identity { incarnation: Incarnation(100 + u64::from(me)), boot: BootId(u64::from(me)) };
            Recorder::new(Cluster::new(Arc::new(two_nodes(me)), identity, &Saved::default(), &[], Time(0)))
        };
        let mut two = Two { hearts: [heart(0), heart(1)], dead: [false; 2], now: 0 };
        for index in 0..2 {
            let up = Event::Interface { interface: "eth0".into(), up: true };
            two.round(index, &[], vec![up, Event::Link { link: LINK, usable: true }]);
        }
        two
    }

    /// In steps of a keepalive's tenth; what is said in one is heard in the next.
    pub(super) fn run(&mut self, millis: u64) {
        let mut said: [Vec<Message>; 2] = Default::default();
        for _ in 0..millis / (KEEPALIVE / 10) {
            self.now += KEEPALIVE / 10;
            let mut next: [Vec<Message>; 2] = Default::default();
            let dead = self.dead;
            for index in (0..2).filter(|index| !dead[*index]) {
                next[1 - index] = self.round(index, &said[index], vec![]);
            }
            said = next;
        }
    }

    fn round(&mut self, index: usize, heard: &[Message], events: Vec<Event>) -> Vec<Message> {
        let now = Time(self.now * 1_000_000);
        let heart = &mut self.hearts[index];
        heart.begin(now);
        for message in heard {
            heart.hear(LINK, message);
        }
        events.into_iter().for_each(|event| heart.fold(event));
        let mut said = Vec::new();
        loop {
            let actions = heart.decide(now);
            let ends: Vec<Event> = actions.iter().filter_map(end).collect();
            said.extend(actions.into_iter().filter_map(|action| match action {
                Action::Send(message) => Some(message),
                _ => None,
            }));
            if ends.is_empty() {
                return said;
            }
            ends.into_iter().for_each(|event| heart.fold(event));
        }
    }
}

fn end(action: &Action) -> Option<Event> {
    let (op, outcome) = match action {
        Action::Inspect { op, .. } => (*op, Outcome::Inspected(Actual::default())),
        Action::Hold { op, .. }
        | Action::AddAddresses { op, .. }
        | Action::RemoveAddresses { op, .. }
        | Action::StartMembers { op, .. }
        | Action::StopMembers { op, .. } => (*op, Outcome::Done),
        _ => return None,
    };
    Some(Event::Finished { op, outcome })
}

/// alpha owns the group and loses its power; what beta was given meanwhile, as text. Recorded from its start or (`late`) from the
/// middle of its run on.
pub(super) fn takeover(places: &TempPlaces, late: bool) -> String {
    let mut two = Two::new();
    let (sink, recording) = recording(places);
    if late {
        two.run(3000);
    }
    two.hearts[1].record(Some(sink));
    two.run(3000);
    two.dead[0] = true;
    two.run(3000);
    two.hearts[1].record(None);
    assert!(recording.finished(Duration::from_secs(10)).is_some());
    std::fs::read_to_string(recording.path()).unwrap()
}

pub(super) fn recording(places: &TempPlaces) -> (Sink, Recording) {
    start(&places.state, "beta", journal()).unwrap()
}
