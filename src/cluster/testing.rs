//! A heart for unit tests: one group, two nodes, times of the test's own. What it asks for is kept, not done.

use super::*;
use crate::config::model::{
    Failback, GroupConfig, GroupTag, LinkConfig, NodeConfig, NodeId, NodeTag, ProofPolicy, TakeoverConfig, Timing,
    VirtualAddress,
};
use crate::wire::{Echo, GroupSays, NodeFlags, RecordSays, Role, StateMark};

pub const ALPHA: NodeId = NodeId(0);
pub const BETA: NodeId = NodeId(1);
pub const GROUP: GroupId = GroupId(0);
pub const LINK: LinkId = LinkId(0);
pub const MINE: Incarnation = Incarnation(100);
pub const BOOT: BootId = BootId(10);
const THEIRS: Incarnation = Incarnation(200);

/// 100 ms / 200 ms / 300 ms, and a group with one address.
pub fn config(me: NodeId) -> Config {
    let node = |name: &str, tag| NodeConfig { name: name.into(), tag: NodeTag(tag) };
    let link = |name: &str| LinkConfig::ucast(name, 694, BTreeMap::new());
    let millis = Duration::from_millis;
    Config {
        cluster: "test".into(),
        cluster_tag: 1,
        nodes: vec![node("alpha", 1), node("beta", 2)],
        me,
        timing: Timing { keepalive: millis(100), warntime: millis(200), deadtime: millis(300), initdead: millis(1000) },
        links: ["hb0", "hb1"].map(link).to_vec(),
        takeover: TakeoverConfig { proof: ProofPolicy::Silence, delay: Duration::ZERO },
        groups: vec![group()],
        cluster_digest: 1,
    }
}

pub fn group() -> GroupConfig {
    GroupConfig {
        name: "web".into(),
        tag: GroupTag(9),
        description: String::new(),
        nodes: vec![ALPHA, BETA],
        addresses: vec![VirtualAddress {
            address: [10, 0, 0, 77].into(),
            prefix: 24,
            interface: Some("eth0".into()),
            label: None,
            broadcast: None,
        }],
        members: Vec::new(),
        failback: Failback::No,
        proof: ProofPolicy::Silence,
        delay: Duration::ZERO,
        interfaces: vec!["eth0".into()],
        timeout_start: Duration::from_secs(1),
        timeout_stop: Duration::from_secs(1),
        digest: 1,
    }
}

/// The record of somebody who owns the group.
pub fn owned(node: NodeId, epoch: u32) -> Record {
    Record::owned(Grant { epoch: Epoch(epoch), node, boot: BOOT })
}

/// One node's heart, and a peer that says what the test wants.
#[derive(Debug)]
pub struct Bench {
    pub heart: Cluster,
    config: Config,
    peer: NodeId,
    sequence: u64,
    /// What the peer echoes, where that is not this node's newest.
    pub echo: Option<u64>,
    /// What else the peer says of itself.
    pub flags: NodeFlags,
    pub banned: bool,
    /// By which configuration the peer runs the group.
    pub their_digest: u32,
    /// How steps end that shall not end well.
    pub ends: fn(&Action) -> Option<Outcome>,
}

impl Bench {
    /// Its links and its service interface are up, nothing of the group runs here, nobody was heard.
    pub fn new(me: NodeId, held: &[Held], saved: Option<Record>) -> Bench {
        Bench::with(config(me), held, saved)
    }

    pub fn with(config: Config, held: &[Held], saved: Option<Record>) -> Bench {
        let identity = Identity { incarnation: MINE, boot: BOOT };
        let record = SavedGroup { record: saved, ..SavedGroup::default() };
        let saved = Saved { groups: [("web".to_string(), record)].into(), ..Saved::default() };
        let heart = Cluster::new(Arc::new(config.clone()), identity, &saved, held, Time(0));
        let peer = if config.me == ALPHA { BETA } else { ALPHA };
        let flags = NodeFlags { joined: true, ..NodeFlags::default() };
        let mut bench = Bench {
            heart,
            config,
            peer,
            sequence: 0,
            echo: None,
            flags,
            banned: false,
            their_digest: 1,
            ends: |_| None,
        };
        let up = Event::Interface { interface: "eth0".into(), up: true };
        bench.round(0, vec![up, Event::Link { link: LINK, usable: true }]);
        bench
    }

    /// In time at everything that was due before, then a round in which reading takes no time. All that was asked for.
    pub fn round(&mut self, at: u64, events: Vec<Event>) -> Vec<Action> {
        self.held_up(at, at, events)
    }

    /// The same, with a last round that begins to read at `at` and decides at `until`, in milliseconds.
    pub fn held_up(&mut self, at: u64, until: u64, events: Vec<Event>) -> Vec<Action> {
        let mut all = self.until(at);
        all.extend(self.once(millis(at), millis(until), events));
        all
    }

    pub fn until(&mut self, at: u64) -> Vec<Action> {
        let mut all = Vec::new();
        while let Some(next) = self.heart.next_deadline().filter(|next| *next < millis(at)) {
            all.extend(self.once(next, next, Vec::new()));
        }
        all
    }

    /// What ends at once is answered at once.
    pub fn once(&mut self, from: Time, until: Time, events: Vec<Event>) -> Vec<Action> {
        self.heart.begin(from);
        events.into_iter().for_each(|event| self.heart.fold(event));
        let mut all = Vec::new();
        for _ in 0..64 {
            let actions = self.heart.decide(until);
            let answers: Vec<Event> = actions.iter().filter_map(|action| answer(action, self.ends)).collect();
            all.extend(actions);
            if answers.is_empty() {
                return all;
            }
            answers.into_iter().for_each(|event| self.heart.fold(event));
        }
        panic!("it goes round in circles: {all:?}");
    }

    /// What the peer says, having heard all that this node said.
    pub fn says(&mut self, role: Role, record: Option<Record>) -> Event {
        self.sequence += 1;
        let tag = |node: NodeId| self.config.node(node).tag;
        let record = record.map(|record| RecordSays {
            epoch: record.grant.epoch,
            node: tag(record.grant.node),
            boot: record.grant.boot,
            released: record.released,
            heir: record.heir.map(tag),
        });
        let says = GroupSays {
            group: self.config.group(GROUP).tag,
            role,
            eligible: !self.banned,
            banned: self.banned,
            record,
            order: Order::default(),
            config: self.their_digest,
            parts: 0,
            pending: None,
            wish: None,
            parked: false,
            contended: false,
        };
        let message = Message {
            cluster_tag: 1,
            sender: tag(self.peer),
            incarnation: THEIRS,
            sequence: self.sequence,
            sent_at: 0,
            boot: BootId(20),
            cluster_digest: 1,
            state: StateMark { version: self.sequence as u32, digest: says.mark() },
            flags: self.flags,
            maintenance: Maintenance::default(),
            echoes: vec![Echo {
                node: tag(self.config.me),
                incarnation: MINE,
                sequence: self.echo.unwrap_or(self.heart.sequence),
                holds: self.heart.said.version(),
            }],
            groups: vec![says],
        };
        Event::Heartbeat { link: LINK, message }
    }

    /// This node owns the group, the peer is idle and knows it; at 1 s.
    pub fn owner(config: Config) -> Bench {
        let mut bench = Bench::with(config, &[], None);
        assert!(starts(&bench.round(1000, vec![])));
        bench.keep(1000, 1500);
        bench
    }

    /// The peer says nothing new, every keepalive.
    pub fn keep(&mut self, from: u64, until: u64) -> Vec<Action> {
        let mut all = Vec::new();
        for at in (from..=until).step_by(100) {
            let says = self.says(Role::Idle, self.heart.record(GROUP));
            all.extend(self.round(at, vec![says]));
        }
        all
    }

    /// Both know each other, and the peer owns the group.
    pub fn follow(&mut self, until: u64) {
        for at in (100..=until).step_by(100) {
            let says = self.says(Role::Running, Some(owned(self.peer, 1)));
            self.round(at, vec![says]);
        }
    }
}

pub fn millis(at: u64) -> Time {
    Time(at * 1_000_000)
}

/// A host on which nothing of the group runs, and every step is done unless the test says otherwise.
pub fn answer(action: &Action, ends: fn(&Action) -> Option<Outcome>) -> Option<Event> {
    let (op, outcome) = match action {
        Action::Inspect { op, .. } => (*op, Outcome::Inspected(Actual { all_active: true, ..Actual::default() })),
        Action::Hold { op, .. }
        | Action::AddAddresses { op, .. }
        | Action::RemoveAddresses { op, .. }
        | Action::RepairAddress { op, .. }
        | Action::StartMembers { op, .. }
        | Action::StopMembers { op, .. }
        | Action::CheckGuards { op, .. }
        | Action::DropAddresses { op, .. }
        | Action::DropMembers { op, .. }
        | Action::Note { op, .. }
        | Action::VerifyStopped { op, .. } => (*op, Outcome::Done),
        _ => return None,
    };
    Some(Event::Finished { op, outcome: ends(action).unwrap_or(outcome) })
}

pub fn starts(actions: &[Action]) -> bool {
    reports(actions, |change| matches!(change, Change::GroupStarting { .. }))
}

pub fn stops(actions: &[Action]) -> bool {
    reports(actions, |change| matches!(change, Change::GroupStopping { .. }))
}

pub fn reports(actions: &[Action], wanted: impl Fn(&Change) -> bool) -> bool {
    actions.iter().any(|action| matches!(action, Action::Report(change) if wanted(change)))
}

/// Where the first such action stands.
pub fn position(actions: &[Action], wanted: impl Fn(&Action) -> bool) -> Option<usize> {
    actions.iter().position(wanted)
}
