//! A few hearts that hear each other, each on a host that does what it is told: for tests of what nodes agree on.
//! Two owners of one group end every test.

use super::testing::{LINK, config, group, millis};
use super::*;
use crate::config::model::{Failback, GroupConfig, GroupTag, NodeConfig, NodeTag};
use std::collections::BTreeSet;

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// A group that prefers these nodes.
pub fn preferring(name: &str, tag: u32, nodes: &[u8], failback: Failback) -> GroupConfig {
    let nodes = nodes.iter().map(|node| NodeId(*node)).collect();
    GroupConfig { name: name.into(), tag: GroupTag(tag), nodes, failback, ..group() }
}

/// What of a group is on a host, and what its daemon noted in `/run`.
#[derive(Clone, Debug, Default)]
struct Host {
    up: BTreeSet<GroupId>,
    held: BTreeMap<GroupId, Held>,
    saved: Saved,
    /// Members that are down.
    down: BTreeSet<GroupId>,
    runs: u64,
}

#[derive(Debug)]
pub struct Many {
    configs: Vec<Config>,
    pub hearts: Vec<Option<Cluster>>,
    hosts: Vec<Host>,
    pub at: u64,
    requests: u64,
    pub answers: BTreeMap<RequestId, Answer>,
    pub reports: Vec<(usize, Change)>,
    /// Ways that carry nothing: from, to.
    pub cut: BTreeSet<(usize, usize)>,
}

impl Many {
    /// All are up and have joined, and what may run runs.
    pub fn new(nodes: usize, groups: &[GroupConfig]) -> Many {
        let node = |index: usize| NodeConfig { name: NAMES[index].into(), tag: NodeTag(index as u16 + 1) };
        let configs = (0..nodes).map(|me| Config {
            nodes: (0..nodes).map(node).collect(),
            groups: groups.to_vec(),
            ..config(NodeId(me as u8))
        });
        let mut many = Many {
            configs: configs.collect(),
            hearts: vec![None; nodes],
            hosts: vec![Host::default(); nodes],
            at: 0,
            requests: 0,
            answers: BTreeMap::new(),
            reports: Vec::new(),
            cut: BTreeSet::new(),
        };
        (0..nodes).for_each(|node| many.start(node));
        many.pass(3000);
        many
    }

    /// Its daemon begins, with what an earlier run left.
    pub fn start(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        host.runs += 1;
        let incarnation = Incarnation(1000 * (node as u64 + 1) + host.runs);
        let identity = Identity { incarnation, boot: BootId(node as u64 + 1) };
        let held: Vec<Held> = host.held.values().cloned().collect();
        let config = Arc::new(self.configs[node].clone());
        let mut heart = Cluster::new(config, identity, &host.saved, &held, millis(self.at));
        heart.begin(millis(self.at));
        heart.fold(Event::Interface { interface: "eth0".into(), up: true });
        heart.fold(Event::Link { link: LINK, usable: true });
        self.hearts[node] = Some(heart);
    }

    /// Its daemon ends without a word, and what runs goes on.
    pub fn kill(&mut self, node: usize) {
        self.hearts[node] = None;
    }

    /// The host loses its power: only the disk keeps what it had.
    pub fn lose_power(&mut self, node: usize) {
        self.kill(node);
        self.hosts[node].up.clear();
        self.hosts[node].held.clear();
    }

    pub fn heart(&mut self, node: usize) -> &mut Cluster {
        self.hearts[node].as_mut().expect("its daemon runs")
    }

    /// A member goes down or comes up without our doing; the daemon is told of the former.
    pub fn member(&mut self, node: usize, group: GroupId, up: bool) {
        if up {
            self.hosts[node].down.remove(&group);
        } else {
            self.hosts[node].down.insert(group);
            let (unit, reason) = ("db.service".into(), "exit 1".into());
            self.heart(node).fold(Event::MemberDown { group, unit, reason });
        }
    }

    /// Somebody else removes an address.
    pub fn lose_address(&mut self, node: usize, group: GroupId) {
        self.hosts[node].up.remove(&group);
        self.heart(node).fold(Event::AddressLost { group, index: 0 });
    }

    pub fn ask(&mut self, node: usize, command: Command) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.heart(node).fold(Event::Command { request, command });
        request
    }

    /// Asks, and waits at most a second for the answer.
    pub fn told(&mut self, node: usize, command: Command) -> Answer {
        let request = self.ask(node, command);
        for _ in 0..100 {
            self.pass(10);
            if let Some(answer) = self.answers.remove(&request) {
                return answer;
            }
        }
        panic!("no answer within a second");
    }

    /// Time goes by, in steps of 10 ms.
    pub fn pass(&mut self, span: u64) {
        for _ in 0..span / 10 {
            self.at += 10;
            self.round();
        }
    }

    fn round(&mut self) {
        for _ in 0..12 {
            let mut said = Vec::new();
            for node in 0..self.hearts.len() {
                let Some(heart) = &mut self.hearts[node] else { continue };
                heart.begin(millis(self.at));
                for action in heart.decide(millis(self.at)) {
                    self.perform(node, action, &mut said);
                }
            }
            self.one_owner();
            let quiet = said.is_empty();
            for (from, message) in said {
                for to in (0..self.hearts.len()).filter(|to| *to != from) {
                    let carried = !self.cut.contains(&(from, to));
                    if let Some(heart) = self.hearts[to].as_mut().filter(|_| carried) {
                        heart.hear(LINK, &message);
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn perform(&mut self, node: usize, action: Action, said: &mut Vec<(usize, Message)>) {
        let host = &mut self.hosts[node];
        let op = match action {
            Action::Send(message) => return said.push((node, message)),
            Action::Save(saved) => return host.saved = saved,
            Action::Report(change) => return self.reports.push((node, change)),
            Action::Reply { request, answer } => return drop(self.answers.insert(request, answer)),
            Action::Forget { group } => return drop(host.held.remove(&group)),
            Action::Exit => return self.hearts[node] = None,
            Action::Inspect { op, group } => {
                let there = host.up.contains(&group);
                let whole = !host.down.contains(&group);
                let addresses = if there { vec![0] } else { Vec::new() };
                let actual = Actual { all_active: whole, any_active: there, addresses };
                let event = Event::Finished { op, outcome: Outcome::Inspected(actual) };
                return self.heart(node).fold(event);
            }
            Action::Hold { op, group, grant, phase } => {
                let name = self.configs[node].group(group).name.clone();
                host.held.insert(group, Held { group: name, grant, phase });
                op
            }
            // No test here changes files.
            Action::CheckGuards { op, .. }
            | Action::DropAddresses { op, .. }
            | Action::DropMembers { op, .. }
            | Action::Note { op, .. } => op,
            Action::Configure(_) => return,
            Action::RepairAddress { op, group, .. } => {
                host.up.insert(group);
                op
            }
            Action::AddAddresses { op, group } => {
                host.up.insert(group);
                host.down.remove(&group);
                op
            }
            Action::RemoveAddresses { op, group } => {
                host.up.remove(&group);
                op
            }
            Action::StartMembers { op, .. } | Action::StopMembers { op, .. } | Action::VerifyStopped { op, .. } => op,
            // The service network carries whatever the heartbeats do.
            Action::Probe { group } => {
                let others = self.hosts.iter().enumerate().filter(|(other, _)| *other != node);
                if let Some((other, _)) = others.into_iter().find(|(_, host)| host.up.contains(&group)) {
                    let event = Event::ProbeAnswer { group, index: 0, mac: [2, 0, 0, 0, 0, other as u8] };
                    self.heart(node).fold(event);
                }
                return;
            }
            Action::Announce { .. } => return,
        };
        self.heart(node).fold(Event::Finished { op, outcome: Outcome::Done });
    }

    fn one_owner(&self) {
        for id in self.configs[0].group_ids() {
            let on: Vec<&str> =
                (0..self.hosts.len()).filter(|n| self.hosts[*n].up.contains(&id)).map(|n| NAMES[n]).collect();
            assert!(on.len() < 2, "two hosts have {}: {on:?}", self.configs[0].group(id).name);
        }
    }

    /// On which host each group is.
    pub fn owners(&self) -> Vec<Option<usize>> {
        let on = |id| (0..self.hosts.len()).find(|node| self.hosts[*node].up.contains(&id));
        self.configs[0].group_ids().map(on).collect()
    }
}
