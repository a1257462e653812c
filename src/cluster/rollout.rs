//! What runs changes by agreement. The files may say something else for a while: group by group that is pending until every node
//! that is heard reports the same; then each adopts it. It must not know files, nor the steps on an owner (`alter`).

use super::action::{Action, OpId, RequestId};
use super::alter::Alter;
use super::crossed::parts_digest;
use super::event::Outcome;
use super::grant::SavedGroup;
use super::group::{Group, OP_TIMEOUT, Phase};
use super::maintenance::Look;
use super::report::Change;
use super::time::Time;
use super::timers::Timer;
use super::{Cluster, Saved};
use crate::config::model::{Config, GroupConfig, GroupId, NodeId, VirtualAddress};
use crate::wire::Role;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A configuration that could not be written down is tried again after this.
const NOTE_AGAIN: Duration = Duration::from_secs(1);
/// Places of groups that one run of the daemon keeps: a script that invents names must not fill the memory.
const PLACES_MAX: usize = 4096;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Rollout {
    /// What the files said when they were last sound, by name. Nothing: they were not read yet.
    files: Option<BTreeMap<String, GroupConfig>>,
    /// Where that differs from what runs: at rest nothing.
    pending: BTreeMap<GroupId, GroupConfig>,
    /// What is remembered of groups that are in no adopted configuration.
    memory: Saved,
    /// Changes under way on groups that run here.
    pub(super) alters: BTreeMap<GroupId, Alter>,
    noting: Option<Noting>,
    /// Groups of which the journal was told that they are pending.
    told: BTreeSet<GroupId>,
    /// Who reloaded the files and waits to hear what came of it.
    pub(super) asked: Vec<Asked>,
}

/// A configuration that is being written down: nothing is done by it before that.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Noting {
    config: Arc<Config>,
    groups: Vec<GroupId>,
    op: Option<OpId>,
    /// Why that failed, the last time.
    failed: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) request: RequestId,
    pub(super) since: Time,
    pub(super) done: Vec<String>,
}

impl Rollout {
    /// Every group that a change is about, and what it is to become.
    pub(super) fn changes(&self) -> impl Iterator<Item = (GroupId, &GroupConfig)> {
        self.pending.iter().map(|(id, to)| (*id, to)).chain(self.alters.iter().map(|(id, alter)| (*id, alter.to())))
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &GroupConfig> {
        self.files.iter().flat_map(BTreeMap::values)
    }

    /// What is being written down: each group, and what it has there.
    pub(super) fn being_written(&self) -> Option<Vec<(GroupId, Option<&GroupConfig>)>> {
        let noting = self.noting.as_ref()?;
        Some(noting.groups.iter().map(|id| (*id, noting.config.groups.get(usize::from(id.0)))).collect())
    }

    pub(super) fn new(config: &Config, saved: &Saved) -> Rollout {
        let mut memory = saved.clone();
        memory.groups.retain(|name, _| config.find_group(name).is_none());
        Rollout { memory, ..Rollout::default() }
    }
}

impl Cluster {
    /// The files were read, and are sound.
    pub(super) fn read_files(&mut self, groups: Vec<GroupConfig>, request: Option<RequestId>) {
        self.make_places(&groups);
        self.rollout.files = Some(groups.into_iter().map(|group| (group.name.clone(), group)).collect());
        let since = self.now;
        self.rollout.asked.extend(request.map(|request| Asked { request, since, done: Vec::new() }));
        self.renew_view();
        self.speak = true;
    }

    /// A group that is new has its place before it is adopted: its peers' words and its record need one.
    fn make_places(&mut self, groups: &[GroupConfig]) {
        let known = |tag| self.config.group_by_tag(tag).is_some();
        let mut new: Vec<&GroupConfig> = groups.iter().filter(|group| !known(group.tag)).collect();
        new.truncate(PLACES_MAX.saturating_sub(self.config.groups.len()));
        if new.is_empty() {
            return;
        }
        let mut config = (*self.config).clone();
        for group in new {
            let mut place = Group::new(GroupId(config.groups.len() as u16), None);
            // Nothing of it is adopted, so nothing of it was started.
            place.phase = Phase::Idle;
            if let Some(SavedGroup { record, order, parked }) = self.rollout.memory.groups.remove(&group.name) {
                (place.record, place.order, place.parked) = (record, order, parked);
            }
            self.groups.push(place);
            config.groups.push(GroupConfig::gone(&group.name, group.tag));
        }
        self.configure(Arc::new(config));
    }

    fn configure(&mut self, config: Arc<Config>) {
        self.config = config.clone();
        for group in &mut self.groups {
            group.parts = parts_digest(config.group(group.id));
        }
        self.out.push(Action::Configure(config));
        // Records of groups that were not known came with messages that are over.
        self.renew_view();
        for node in self.config.peers() {
            if self.view.peer(node).is_some_and(|peer| peer.state.heard()) {
                self.learn(node);
            }
        }
    }

    fn renew_view(&mut self) {
        self.rollout.pending =
            self.config.group_ids().filter_map(|id| Some((id, self.differs_from_files(id)?))).collect();
        let mut changes = Vec::new();
        let pending = self.config.group_ids().filter_map(|id| Some((id, self.pending_digest(id)?))).collect();
        self.view.reconfigure(&self.config, pending, &mut changes);
        changes.into_iter().for_each(|change| self.report(change));
    }

    fn differs_from_files(&self, id: GroupId) -> Option<GroupConfig> {
        let files = self.rollout.files.as_ref()?;
        let runs = self.config.group(id);
        let to = files.get(&runs.name).cloned().unwrap_or_else(|| GroupConfig::gone(&runs.name, runs.tag));
        (to != *runs).then_some(to)
    }

    /// What the group is to become, where that differs from what runs.
    pub(super) fn pending(&self, id: GroupId) -> Option<GroupConfig> {
        self.rollout.pending.get(&id).cloned()
    }

    /// The same for the peers, who know nothing of this host's own names.
    pub(super) fn pending_digest(&self, id: GroupId) -> Option<u32> {
        self.pending(id).map(|to| to.digest).filter(|digest| *digest != self.config.group(id).digest)
    }

    /// Why the group cannot become what the files say: for whom, or for what, that waits.
    pub(super) fn ready(&self, id: GroupId, to: &GroupConfig) -> Result<(), String> {
        if !self.joined || self.asleep {
            return Err("this node has not joined yet".into());
        }
        if self.leaving || self.host_stopping || self.died {
            return Err("this node is leaving".into());
        }
        if self.maintenance.on {
            return Err("maintenance is on".into());
        }
        self.agreed(id, to)?;
        self.free(id, to)?;
        self.still_there(id, to)?;
        let group = self.group(id);
        let settled = match &group.phase {
            Phase::Idle | Phase::Unknown { held: None, .. } => true,
            // What failed while it was left alone is dealt with first.
            Phase::Running { .. } => {
                let told = group.repairs.is_empty() && group.look == Look::No;
                told && group.rivals.is_empty() && group.move_to.is_none()
            }
            Phase::Unknown { .. } | Phase::Starting { .. } | Phase::Stopping(_) => false,
        };
        if !settled {
            return Err("it is between two states here".into());
        }
        if self.takeover_due(id, to) {
            return Err("it is to be taken over as it is first".into());
        }
        Ok(())
    }

    /// Every node that is heard reads the same files, or runs by them already.
    pub(super) fn agreed(&self, id: GroupId, to: &GroupConfig) -> Result<(), String> {
        // Of this host alone: nobody else can tell the difference.
        if to.digest == self.config.group(id).digest {
            return Ok(());
        }
        for (node, _) in self.view.peers.iter().filter(|(_, peer)| peer.state.heard()) {
            let name = &self.config.node(*node).name;
            if !self.view.peer(*node).is_some_and(|peer| peer.told_all()) {
                return Err(format!("waits for {name} to say all of its groups"));
            }
            let says = self.view.mentions(*node, id);
            if self.objects(*node, id, to) {
                return Err(format!(
                    "waits for {name} to read the same files: run `systemctl reload hafailover` there"
                ));
            }
            if says.is_some_and(|says| matches!(says.role, Role::Starting | Role::Stopping)) && !to.is_gone() {
                return Err(format!("waits for {name}, which is starting or stopping it"));
            }
        }
        Ok(())
    }

    /// A peer that is heard says something else.
    pub(super) fn disputed(&self, id: GroupId, to: &GroupConfig) -> bool {
        let heard = self.view.peers.iter().filter(|(_, peer)| peer.state.heard() && peer.told_all());
        to.digest != self.config.group(id).digest && heard.into_iter().any(|(node, _)| self.objects(*node, id, to))
    }

    fn objects(&self, node: NodeId, id: GroupId, to: &GroupConfig) -> bool {
        let (config, pending) = self.view.mentions(node, id).map_or((0, None), |says| (says.config, says.pending));
        // Who has nothing of it, and wants it, does not agree that it is gone.
        let runs = config == to.digest && (!to.is_gone() || pending.is_none());
        !runs && pending != Some(to.digest)
    }

    /// An owner that died in the middle of a roll-out, unheard since, is followed by the old rules. Where those lead nowhere the new
    /// ones may.
    fn takeover_due(&self, id: GroupId, to: &GroupConfig) -> bool {
        let group = self.group(id);
        let wanted = !to.is_gone() && !self.config.group(id).is_gone() && !group.order.stopped;
        let unheard = self.view.peers.values().any(|peer| !peer.state.heard());
        wanted && unheard && self.owner(id).is_none() && group.blocked.is_none() && self.desired(id).is_some()
    }

    /// It is gone from the files of every node that is heard: it runs nowhere any more.
    pub(super) fn doomed(&self, id: GroupId) -> bool {
        !self.config.group(id).is_gone()
            && self.joined
            && !self.asleep
            && !self.maintenance.on
            && self.pending(id).is_some_and(|to| to.is_gone() && self.agreed(id, &to).is_ok())
    }

    /// It is about to change: nothing of it starts meanwhile.
    pub(super) fn being_noted(&self, id: GroupId) -> bool {
        self.rollout.noting.as_ref().is_some_and(|noting| noting.groups.contains(&id))
    }

    /// Why that cannot be written down.
    pub(super) fn note_trouble(&self, id: GroupId) -> Option<String> {
        self.rollout.noting.as_ref().filter(|noting| noting.groups.contains(&id))?.failed.clone()
    }

    pub(super) fn is_noting(&self) -> bool {
        self.rollout.noting.is_some()
    }

    /// One round of it: whatever can go a step further does.
    pub(super) fn roll_out(&mut self) {
        for id in self.config.clone().group_ids() {
            self.alter(id);
            match (self.pending_digest(id).is_some(), self.rollout.told.contains(&id)) {
                (true, false) => {
                    self.rollout.told.insert(id);
                    self.report(Change::GroupPending { group: id });
                }
                (false, true) => drop(self.rollout.told.remove(&id)),
                _ => {}
            }
        }
        self.note();
        self.answer_asked();
    }

    /// Writes down what all groups that can change now will be.
    fn note(&mut self) {
        if self.timers.armed(Timer::NoteAgain) {
            return;
        }
        if self.rollout.noting.is_none() {
            let changed: Vec<(GroupId, GroupConfig)> =
                self.config.group_ids().filter_map(|id| Some((id, self.to_be_noted(id)?))).collect();
            if changed.is_empty() {
                return;
            }
            let groups = changed.iter().map(|(id, _)| *id).collect();
            let config = Arc::new(self.with(changed));
            self.rollout.noting = Some(Noting { config, groups, op: None, failed: None });
        }
        let waiting = |noting: &&Noting| noting.op.is_none();
        let Some(config) = self.rollout.noting.as_ref().filter(waiting).map(|noting| noting.config.clone()) else {
            return;
        };
        let op = self.op(OP_TIMEOUT);
        self.out.push(Action::Note { op, config });
        if let Some(noting) = &mut self.rollout.noting {
            noting.op = Some(op);
        }
    }

    fn to_be_noted(&self, id: GroupId) -> Option<GroupConfig> {
        let to = self.pending(id)?;
        self.ready(id, &to).ok()?;
        let here = matches!(self.group(id).phase, Phase::Running { .. });
        (!here || self.altered_down(id, &to)).then_some(to)
    }

    fn with(&self, groups: Vec<(GroupId, GroupConfig)>) -> Config {
        let mut config = (*self.config).clone();
        for (id, group) in groups {
            config.groups[usize::from(id.0)] = group;
        }
        config
    }

    /// The end of writing down, if `op` was that.
    pub(super) fn noted(&mut self, op: OpId, outcome: &Outcome) -> bool {
        let Some(noting) = self.rollout.noting.as_mut().filter(|noting| noting.op == Some(op)) else { return false };
        let reason = match outcome {
            Outcome::Done | Outcome::Inspected(_) => {
                self.take_over();
                return true;
            }
            Outcome::Failed(reason) | Outcome::Refused(reason) | Outcome::Unknown(reason) => reason.clone(),
        };
        // It may be there all the same: nothing else is written, and nothing done, before this is known.
        noting.op = None;
        let (known, first) = (noting.failed.replace(reason.clone()).is_some(), noting.groups[0]);
        self.timers.arm(Timer::NoteAgain, self.now + NOTE_AGAIN);
        if !known {
            self.report(Change::GroupNotChanged { group: first, reason });
        }
        true
    }

    /// It is written down: from here on it is what runs.
    fn take_over(&mut self) {
        let Some(Noting { config, groups, .. }) = self.rollout.noting.take() else { return };
        let old = self.config.clone();
        let new = groups.iter().map(|id| (*id, config.group(*id).clone())).collect();
        let new = Arc::new(self.with(new));
        self.configure(new.clone());
        for id in groups {
            let (before, after) = (old.group(id), new.group(id));
            self.renumber(id, &before.addresses, &after.addresses);
            self.report(match after.is_gone() {
                true => Change::GroupDropped { group: id },
                false => Change::GroupConfigured { group: id },
            });
            let name = after.name.clone();
            self.rollout.asked.iter_mut().for_each(|asked| asked.done.push(name.clone()));
            if before.members != after.members {
                self.group_mut(id).guard_checked = false;
            }
            self.after_note(id, before, after);
        }
        self.speak = true;
    }

    /// What a group has by the place of an address, when the places change.
    fn renumber(&mut self, id: GroupId, old: &[VirtualAddress], new: &[VirtualAddress]) {
        if old == new {
            return;
        }
        let place = |index: usize| new.iter().position(|address| Some(address) == old.get(index));
        let group = self.group_mut(id);
        let missing = std::mem::take(&mut group.missing).into_iter();
        group.missing = missing.filter_map(|(index, reason)| Some((place(index)?, reason))).collect();
        // What is under way for an old place ends unheard.
        group.repairs.clear();
        (group.places, group.no_place, group.claimed) = (Vec::new(), None, None);
        group.probing = Default::default();
        self.timers.disarm(Timer::Probe(id));
    }

    /// A group that does not run here is looked at anew: something of what it has now may be here.
    fn after_note(&mut self, id: GroupId, before: &GroupConfig, after: &GroupConfig) {
        match &self.group(id).phase {
            Phase::Running { .. } => self.build_up_noted(id, before, after),
            Phase::Idle | Phase::Unknown { held: None, .. } => {
                if after.is_gone() {
                    let group = self.group_mut(id);
                    (group.phase, group.blocked, group.guard) = (Phase::Idle, None, None);
                    (group.banned, group.desired) = (None, None);
                } else {
                    self.group_mut(id).phase = Phase::Unknown { held: None, op: None, found: None };
                    self.inspect(id);
                }
            }
            Phase::Unknown { .. } | Phase::Starting { .. } | Phase::Stopping(_) => {}
        }
    }

    /// What is kept on disk beside the groups that have a place here.
    pub(super) fn remembered(&self) -> impl Iterator<Item = (String, SavedGroup)> + '_ {
        self.rollout.memory.groups.iter().map(|(name, group)| (name.clone(), *group))
    }
}
