//! A heart that was read from a file: whether it is whole, so that running it cannot fail. The configuration and the heart's parts
//! name nodes, links and groups by their position, and a damaged or edited file may name one that is not there.
//! It must not know files.

use super::action::OpId;
use super::command::Waiting;
use super::event::{Actual, Outcome};
use super::grant::Grant;
use super::group::{Group, Phase};
use super::maintenance::Look;
use super::timers::Timer;
use super::{Action, Cluster, Command, Event, Time};
use crate::config::model::{Config, GroupConfig, GroupId, LinkId, NodeId};
use std::time::Duration;

/// Longer is no time of a configuration, and sums of such times stay far from any limit.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Cluster {
    /// The time of the last call that brought one.
    pub fn now(&self) -> Time {
        self.now
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Nothing waits for the next decision to be told, but what a new heart looks at first.
    pub fn has_said_all(&self) -> bool {
        self.out.iter().all(|action| matches!(action, Action::Inspect { .. }))
    }

    /// Everything that it names is there.
    pub fn check_whole(&self) -> Result<(), String> {
        let config = &self.config;
        let (nodes, groups) = (config.nodes.len(), config.groups.len());
        ensure(
            nodes <= usize::from(u8::MAX) && groups <= usize::from(u16::MAX),
            "more nodes or groups than there can be",
        )?;
        ensure(config.links.len() <= usize::from(u8::MAX), "more links than there can be")?;
        self.check_node(config.me)?;
        let timing = &config.timing;
        let times = [timing.keepalive, timing.warntime, timing.deadtime, timing.initdead, config.takeover.delay];
        ensure(times.iter().all(|time| *time < LONGEST), "a time of the configuration is too long")?;
        config.groups.iter().try_for_each(|group| self.check_configured(group))?;
        ensure(self.groups.len() == groups, "not as many groups as in the configuration")?;
        for (group, id) in self.groups.iter().zip(config.group_ids()) {
            ensure(group.id == id, "groups in another order than in the configuration")?;
            self.check_whole_group(group)?;
        }
        for (node, peer) in &self.view.peers {
            self.check_node(*node)?;
            peer.links.keys().try_for_each(|link| self.check_link(*link))?;
            for (id, says) in &peer.groups {
                self.check_group(*id)?;
                says.record.iter().try_for_each(|record| self.check_nodes([Some(record.grant.node), record.heir]))?;
            }
        }
        self.view.links.keys().try_for_each(|link| self.check_link(*link))?;
        ensure(self.view.peers.len() + 1 == nodes, "not as many peers as in the configuration")?;
        ensure(self.has_said_all(), "it was written down in the middle of a round")?;
        self.out.iter().try_for_each(|action| match action {
            Action::Inspect { group, .. } => self.check_group(*group),
            _ => Ok(()),
        })?;
        self.check_rollout()?;
        self.check_counters()?;
        self.timers.all().try_for_each(|timer| self.check_timer(timer))?;
        self.waiting.values().try_for_each(|waiting| match waiting {
            Waiting::Moved(moving) => moving.names().try_for_each(|(group, nodes)| {
                self.check_group(group)?;
                self.check_nodes(nodes.map(Some))
            }),
            Waiting::Stopped { group } | Waiting::Started { group } => self.check_group(*group),
            Waiting::Maintained => Ok(()),
        })
    }

    fn check_rollout(&self) -> Result<(), String> {
        self.rollout
            .changes()
            .try_for_each(|(id, to)| self.check_group(id).and_then(|()| self.check_configured(to)))?;
        self.rollout.files().try_for_each(|group| self.check_configured(group))?;
        let Some(written) = self.rollout.being_written() else { return Ok(()) };
        ensure(!written.is_empty(), "it writes a change of no group down")?;
        written.into_iter().try_for_each(|(id, to)| {
            self.check_group(id)?;
            to.map_or(Err("it writes a group down that is not in what is written".into()), |to| {
                self.check_configured(to)
            })
        })
    }

    /// What is counted up by one at a time is far from its end.
    fn check_counters(&self) -> Result<(), String> {
        let on = self.view.peers.values().flat_map(|peer| peer.links.values());
        let on = on.flat_map(|on| [on.received, on.duplicates, on.lost, on.strangers]);
        let groups = self.groups.iter().flat_map(|group| [group.announced as u64, group.returned as u64]);
        let mut counters = [self.sequence, self.ops].into_iter().chain(on).chain(groups);
        ensure(counters.all(|count| count < u64::MAX / 2), "it has counted further than anything can be counted")
    }

    fn check_configured(&self, group: &GroupConfig) -> Result<(), String> {
        group.nodes.iter().try_for_each(|node| self.check_node(*node))?;
        let times = [group.timeout_start, group.timeout_stop, group.delay];
        ensure(times.iter().all(|time| *time < LONGEST), "a time of a group is too long")
    }

    fn check_whole_group(&self, group: &Group) -> Result<(), String> {
        let record = group.record.map(|record| [Some(record.grant.node), record.heir]).unwrap_or_default();
        self.check_nodes(record)?;
        self.check_nodes([group.move_to, group.desired, group.because.and_then(|(_, from)| from)])?;
        self.check_nodes(group.asked.map(|(by, to)| [Some(by), Some(to)]).unwrap_or_default())?;
        let nodes = group.well.keys().chain(&group.rivals).chain(&group.went);
        nodes.into_iter().try_for_each(|node| self.check_node(*node))?;
        let grant: Option<Grant> = match &group.phase {
            Phase::Unknown { held, .. } => held.map(|(grant, _)| grant),
            Phase::Idle => None,
            Phase::Starting { grant, .. } | Phase::Running { grant } => Some(*grant),
            Phase::Stopping(stopping) => Some(stopping.grant),
        };
        self.check_nodes([grant.map(|grant| grant.node)])?;
        let indexes = group.repairs.values().map(|(index, _)| *index);
        let indexes = indexes.chain(group.missing.keys().copied()).chain(group.probing.answered());
        indexes.into_iter().try_for_each(|index| self.check_address(group.id, index))
    }

    /// What it names is there.
    pub fn check_event(&self, event: &Event) -> Result<(), String> {
        match event {
            Event::Heartbeat { link, .. } | Event::Link { link, .. } => self.check_link(*link),
            Event::AddressLost { group, index }
            | Event::AddressFlushed { group, index }
            | Event::ProbeAnswer { group, index, .. } => self.check_address(*group, *index),
            Event::Placed { group, .. }
            | Event::ProbeFailed { group, .. }
            | Event::Guard { group, .. }
            | Event::MemberDown { group, .. }
            | Event::TargetStopped { group } => self.check_group(*group),
            Event::Command { command, .. } => match command {
                Command::Move { group, to } => self.check_group(*group).and_then(|()| self.check_node(*to)),
                Command::Stop { group } | Command::Start { group } | Command::Clear { group } => {
                    self.check_group(*group)
                }
                Command::Standby { .. } | Command::Takeover { .. } | Command::Online | Command::Maintenance { .. } => {
                    Ok(())
                }
            },
            Event::Files { groups, .. } => groups.iter().try_for_each(|group| self.check_configured(group)),
            Event::Finished { op, outcome: Outcome::Inspected(actual) } => self.check_found(*op, actual),
            Event::Interface { .. }
            | Event::HostStopping
            | Event::Leave
            | Event::DaemonDied
            | Event::HostThread { .. }
            | Event::Pending(_)
            | Event::Finished { .. } => Ok(()),
        }
    }

    /// What a look at a group found, by whoever asked for it.
    fn check_found(&self, op: OpId, actual: &Actual) -> Result<(), String> {
        let asked = |group: &&Group| match &group.phase {
            Phase::Unknown { op: asked, .. } => *asked == Some(op),
            _ => group.look == Look::Asked(op),
        };
        let indexes =
            |group: &Group| actual.addresses.iter().try_for_each(|index| self.check_address(group.id, *index));
        self.groups.iter().filter(asked).try_for_each(indexes)
    }

    pub fn check_link(&self, link: LinkId) -> Result<(), String> {
        ensure(usize::from(link.0) < self.config.links.len(), "it names a link that is not in the configuration")
    }

    fn check_timer(&self, timer: &Timer) -> Result<(), String> {
        match timer {
            Timer::Announce(group)
            | Timer::AlterAgain(group)
            | Timer::Probe(group)
            | Timer::ProbeAnswer(group)
            | Timer::StopAgain(group)
            | Timer::StartAgain(group)
            | Timer::InspectAgain(group)
            | Timer::PassAgain(group)
            | Timer::FailbackDue(group)
            | Timer::MoveOver(group) => self.check_group(*group),
            Timer::Beat
            | Timer::Initdead
            | Timer::Awake
            | Timer::Op(_)
            | Timer::Request(_)
            | Timer::LeaveOver
            | Timer::NoteAgain
            | Timer::ReloadAnswer => Ok(()),
        }
    }

    fn check_nodes<const N: usize>(&self, nodes: [Option<NodeId>; N]) -> Result<(), String> {
        nodes.into_iter().flatten().try_for_each(|node| self.check_node(node))
    }

    fn check_node(&self, node: NodeId) -> Result<(), String> {
        ensure(usize::from(node.0) < self.config.nodes.len(), "it names a node that is not in the configuration")
    }

    fn check_group(&self, group: GroupId) -> Result<(), String> {
        ensure(usize::from(group.0) < self.config.groups.len(), "it names a group that is not in the configuration")
    }

    fn check_address(&self, group: GroupId, index: usize) -> Result<(), String> {
        self.check_group(group)?;
        let addresses = self.config.group(group).addresses.len();
        ensure(index < addresses, "it names an address that is not in the configuration")
    }
}

fn ensure(holds: bool, why: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why.to_owned()) }
}
