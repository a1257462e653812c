//! Heartbeat's words for many groups at once: `standby` and `takeover`, once; `standby --stay` and `online`.
//! It must not know how a group is moved: `moves`.

use super::Cluster;
use super::action::{Answer, RequestId};
use super::event::Which;
use super::grant::Standby;
use super::moves::Moving;
use super::report::Change;
use crate::config::model::{Failback, GroupId};

impl Cluster {
    pub(super) fn command_standby(&mut self, request: RequestId, which: Which, stay: bool) {
        if let Err(reason) = self.maintained() {
            return self.reply(request, Answer::Refused(reason));
        }
        if stay && which != Which::All {
            let text = "standby --stay means all groups, for as long as it lasts; leave the other word out";
            return self.reply(request, Answer::Refused(text.into()));
        }
        let mut moving = Moving::default();
        if stay {
            self.set_standby(true);
            let me = &self.config.node(self.config.me).name;
            moving.over.push(Answer::Done(format!("{me} is in standby; to end that: hafailoverctl online")));
        }
        let meant = |id: &GroupId| match which {
            Which::All => true,
            Which::Local => self.is_home(*id),
            Which::Foreign | Which::Failback => !self.is_home(*id),
        };
        let here = self.config.group_ids().filter(|id| self.group(*id).claim().is_some());
        let meant: Vec<GroupId> = here.filter(meant).collect();
        if meant.is_empty() && !stay {
            moving.over.push(Answer::Done("nothing to do: no group of those runs here".into()));
        }
        for id in meant {
            match self.best_other(id) {
                Some(to) => self.begin_moving(id, to, &mut moving),
                None => {
                    let name = &self.config.group(id).name;
                    let later = if stay { " until one can" } else { "" };
                    let reasons = self.others_reasons(id);
                    let reason = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) };
                    let text = format!("{name} stays here{later}: no other node can run it{reason}");
                    moving.over.push(Answer::Refused(text));
                }
            }
        }
        self.wait_for_moves(request, moving);
    }

    pub(super) fn command_takeover(&mut self, request: RequestId, which: Which) {
        if let Err(reason) = self.maintained() {
            return self.reply(request, Answer::Refused(reason));
        }
        let me = self.config.me;
        let meant = |id: &GroupId| match which {
            Which::All => true,
            // What is at home here comes home.
            Which::Local | Which::Failback => self.is_home(*id),
            Which::Foreign => !self.is_home(*id),
        };
        let there = |id: &GroupId| {
            let may_be_here = self.config.group(*id).nodes.contains(&me) && !self.group(*id).order.stopped;
            may_be_here && self.group(*id).claim().is_none()
        };
        let meant: Vec<GroupId> = self.config.group_ids().filter(there).filter(meant).collect();
        let mut moving = Moving::default();
        if meant.is_empty() {
            moving.over.push(Answer::Done("nothing to do: no group of those runs elsewhere".into()));
        }
        for id in meant {
            self.begin_moving(id, me, &mut moving);
        }
        self.wait_for_moves(request, moving);
    }

    /// Ends `standby --stay`, and asks for what an operator's word had put elsewhere and `Failback=` would bring back.
    pub(super) fn command_online(&mut self, request: RequestId) {
        let me = self.config.me;
        self.set_standby(false);
        let name = &self.config.node(me).name;
        let mut moving = Moving { over: vec![Answer::Done(format!("{name} is online"))], ..Moving::default() };
        let parked = |id: &GroupId| {
            let preferred = self.owner(*id).is_some_and(|owner| self.preferred_to(*id, owner).contains(&me));
            preferred && self.parked(*id) && self.config.group(*id).failback != Failback::No
        };
        let parked: Vec<GroupId> = self.config.group_ids().filter(parked).collect();
        for id in parked.into_iter().filter(|_| !self.maintenance.on).collect::<Vec<_>>() {
            self.begin_moving(id, me, &mut moving);
        }
        self.wait_for_moves(request, moving);
    }

    fn set_standby(&mut self, on: bool) {
        if self.standby.on == on {
            return;
        }
        self.standby = Standby { version: self.standby.version.saturating_add(1), on };
        self.unsaved = true;
        self.speak = true;
        self.report(if on { Change::StandbyStays } else { Change::Online });
    }

    /// This node is the one that the group prefers to all others.
    fn is_home(&self, id: GroupId) -> bool {
        self.config.group(id).nodes.first() == Some(&self.config.me)
    }
}
