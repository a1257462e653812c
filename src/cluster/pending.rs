//! What is said of files that do not run yet: in the status, to who asks why, and to who reloaded them.
//! It must not change what runs.

use super::action::Answer;
use super::status::{RolloutNode, RolloutStatus};
use super::timers::Timer;
use super::{Action, Cluster};
use crate::config::model::GroupId;
use std::time::Duration;

/// Who reloaded the files is answered at the latest after this; within it the peers' words come, if they read the same files.
const ANSWER_SOON: Duration = Duration::from_secs(1);
/// The same while something is being changed here.
const ANSWER_LATE: Duration = Duration::from_secs(12);

impl Cluster {
    /// Why a group does not run by the files yet; nothing if it does.
    fn waits(&self, id: GroupId) -> Option<String> {
        // Also of one that has changed, but for what could not be started or added yet.
        if let Some(trouble) = self.alter_trouble(id) {
            return Some(format!("cannot be changed yet: {trouble}"));
        }
        let to = self.pending(id)?;
        Some(match (self.ready(id, &to), self.note_trouble(id)) {
            (Err(reason), _) => reason,
            (Ok(()), Some(reason)) => format!("cannot be written down yet: {reason}"),
            (Ok(()), None) => "they are being put into effect".into(),
        })
    }

    pub(super) fn pending_reasons(&self, id: GroupId) -> Option<String> {
        Some(format!("its files have changed: {}", self.waits(id)?))
    }

    pub(super) fn pending_lines(&self) -> Vec<String> {
        let line = |id| Some(format!("group {} has changed files: {}", self.config.group(id).name, self.waits(id)?));
        self.config.group_ids().filter_map(line).collect()
    }

    pub(super) fn rollout_status(&self) -> Vec<RolloutStatus> {
        self.config.group_ids().filter_map(|id| self.group_rollout(id)).collect()
    }

    /// Where all nodes that are heard run by the same, and by their files, there is nothing to tell.
    fn group_rollout(&self, id: GroupId) -> Option<RolloutStatus> {
        let config = self.config.group(id);
        let node = |node, running: u32, pending: Option<u32>| {
            let digest = |digest: u32| (digest != 0).then(|| format!("{digest:08x}"));
            let node = self.config.node(node).name.clone();
            RolloutNode { node, running: digest(running), files: digest(pending.unwrap_or(running)) }
        };
        let mut nodes = vec![node(self.config.me, config.digest, self.pending_digest(id))];
        for (peer, _) in self.view.peers.iter().filter(|(_, peer)| peer.state.heard() && peer.told_all()) {
            let says = self.view.mentions(*peer, id);
            nodes.push(node(*peer, says.map_or(0, |says| says.config), says.and_then(|says| says.pending)));
        }
        let waits = self.waits(id);
        let own = nodes[0].running.clone();
        let same = nodes.iter().all(|node| node.running == own && node.files == own);
        (!same || waits.is_some()).then(|| RolloutStatus { group: config.name.clone(), nodes, waits })
    }

    /// Answers those who reloaded the files, when nothing waits any more, or nothing more will come soon.
    pub(super) fn answer_asked(&mut self) {
        if self.rollout.asked.is_empty() {
            return;
        }
        let waiting: Vec<GroupId> = self.config.group_ids().filter(|id| self.pending(*id).is_some()).collect();
        let busy = self.is_noting()
            || self.rollout.alters.keys().any(|id| self.alter_trouble(*id).is_none())
            || waiting.iter().any(|id| self.doomed(*id));
        let lines: Vec<String> = self.pending_lines();
        let now = self.now;
        let patience = |since| {
            if waiting.is_empty() && !busy {
                Duration::ZERO
            } else if busy {
                ANSWER_LATE.saturating_sub(now.since(since))
            } else {
                ANSWER_SOON.saturating_sub(now.since(since))
            }
        };
        let (answered, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.rollout.asked).into_iter().partition(|asked| patience(asked.since).is_zero());
        if let Some(wait) = left.iter().map(|asked| patience(asked.since)).min() {
            self.timers.arm(Timer::ReloadAnswer, now + wait);
        }
        self.rollout.asked = left;
        for asked in answered {
            let done = asked.done.iter().map(|name| format!("group {name} runs by its files now"));
            let text: Vec<String> = done.chain(lines.iter().cloned()).collect();
            self.out.push(Action::Reply { request: asked.request, answer: Answer::Done(text.join("\n")) });
        }
    }
}
