//! What a heart asks for, as its host and the wires do it: at once, late, or never. It must not know why a heart asks.

use super::happening::Happening;
use super::host::{Later, News};
use super::parts::JobKind;
use super::world::World;
use super::{MS, Nanos, Sabotage};
use crate::cluster::{Action, Change, OpId};
use crate::config::model::{Config, GroupId};
use std::sync::Arc;

impl World {
    pub fn act(&mut self, host: usize, action: Action) {
        let trouble = self.hosts[host].trouble;
        let failing = if trouble.fail > 0 { 200 } else { self.rough.fail / 4 };
        let fails = self.random.permille(failing);
        let now = self.now;
        let answer = self.random.between(20_000, 200_000) * if trouble.slow > 0 { 10_000 } else { 1 };
        match action {
            Action::StopMembers { .. } | Action::RemoveAddresses { .. } if self.sabotage == Sabotage::EndlessStop => {}
            Action::Send(message) => self.send(host, &message),
            Action::Report(change) => self.reported(host, change),
            Action::Exit => self.exited(host),
            Action::Reply { request, answer } => {
                if self.sabotage != Sabotage::DeafOperator {
                    self.watch.operations.answered(host, request);
                }
                self.timeline.note(now, Some(host), || format!("answer: {answer:?}"));
            }
            Action::Announce { .. } => {}
            Action::Probe { group } => self.probe(host, group),
            Action::Save(saved) => {
                let (span, later) = self.hosts[host].save(saved, &mut self.random, &self.rough);
                self.later(host, span, later);
            }
            Action::Forget { group } => self.hosts[host].forget(group),
            Action::Hold { op, group, grant, phase } => {
                self.hindered(fails, host, group);
                let later = self.hosts[host].hold(op, group, grant, phase, fails);
                self.later(host, answer, later);
            }
            Action::Inspect { op, group } => {
                // What is slow about it comes before the look: what changes after it is told after it.
                let later = self.hosts[host].inspect(op, group, fails);
                self.later(host, answer.min(MS / 5), later);
            }
            Action::AddAddresses { .. }
            | Action::RemoveAddresses { .. }
            | Action::DropAddresses { .. }
            | Action::RepairAddress { .. } => self.act_on_addresses(host, action, fails, answer),
            Action::StartMembers { op, group } => {
                self.goes_on(host, self.number(host, group));
                self.begin_job(host, (op, group, JobKind::Start), None);
            }
            Action::StopMembers { op, group } => self.begin_job(host, (op, group, JobKind::Stop), None),
            Action::DropMembers { op, group, units } => {
                self.begin_job(host, (op, group, JobKind::Drop), Some(&units));
            }
            Action::VerifyStopped { op, group } => {
                let later = self.hosts[host].verify(op, group);
                self.later(host, MS, later);
            }
            Action::CheckGuards { op, to } => {
                let later = self.hosts[host].check_guards(op, &to, fails);
                self.later(host, answer, later);
            }
            Action::Note { op, config } => {
                let Some(daemon) = &self.hosts[host].daemon else { return };
                let incarnation = daemon.incarnation;
                let at = now + answer + self.random.below(5 * MS);
                self.at(at, Happening::Note { host, incarnation, op, config, fails });
            }
            Action::Configure(config) => self.configure(host, config),
        }
    }

    fn act_on_addresses(&mut self, host: usize, action: Action, fails: bool, answer: Nanos) {
        let now = self.now;
        match action {
            Action::RepairAddress { op, group, index } => {
                self.hindered(fails, host, group);
                let later = self.hosts[host].repair_address(now, op, group, index, fails);
                self.later(host, answer, later);
            }
            Action::AddAddresses { op, group } => {
                self.timeline.note(now, Some(host), || format!("  add addresses of {}", group.0));
                self.hindered(fails, host, group);
                self.goes_on(host, self.number(host, group));
                let later = self.hosts[host].add_addresses(now, op, group, fails);
                self.later(host, answer, later);
            }
            Action::RemoveAddresses { op, group } => {
                self.timeline.note(now, Some(host), || format!("  remove addresses of {}", group.0));
                self.hindered(fails, host, group);
                let later = self.hosts[host].remove_addresses(op, group, None, fails);
                self.later(host, answer, later);
            }
            Action::DropAddresses { op, group, indexes } => {
                self.hindered(fails, host, group);
                self.timeline.note(now, Some(host), || format!("  drop addresses {indexes:?} of {}", group.0));
                let later = self.hosts[host].remove_addresses(op, group, Some(&indexes), fails);
                self.later(host, answer, later);
            }
            _ => {}
        }
    }

    /// From here on the daemon runs by this.
    fn configure(&mut self, host: usize, config: Arc<Config>) {
        self.hosts[host].configure(self.now, config);
        self.timeline.note(self.now, Some(host), || "CONFIGURED".into());
        self.look_at_guards(host);
    }

    pub fn look_at_guards(&mut self, host: usize) {
        let Some(daemon) = &self.hosts[host].daemon else { return };
        let incarnation = daemon.incarnation;
        let at = self.now + self.random.between(MS, 30 * MS);
        self.at(at, Happening::Guards { host, incarnation });
    }

    /// What is in /run comes to the disk, beside all else.
    pub fn keep_config(&mut self, host: usize) {
        let Some(config) = self.hosts[host].to_keep() else { return };
        let at = self.now + self.random.between(MS / 2, self.rough.disk);
        let (boot, number) = (self.hosts[host].boot.0, self.counter);
        self.at(at, Happening::Kept { host, boot, number, config });
    }

    /// The world's number of a group.
    pub fn number(&self, host: usize, id: GroupId) -> usize {
        self.hosts[host].form(id).group
    }

    fn hindered(&mut self, fails: bool, host: usize, group: GroupId) {
        if fails {
            self.watch.moves.hindered(self.number(host, group));
        }
    }

    fn begin_job(&mut self, host: usize, order: (OpId, GroupId, JobKind), units: Option<&[String]>) {
        self.timeline.note(self.now, Some(host), || format!("  members of {}: {:?} {units:?}", order.1.0, order.2));
        for (span, later) in self.hosts[host].order(order, units, &mut self.random, &self.rough) {
            self.later(host, span, later);
        }
    }

    /// The other hosts' kernels answer, if one has the address and the question reaches it.
    fn probe(&mut self, host: usize, id: GroupId) {
        let (group, addresses) = (self.number(host, id), self.hosts[host].form(id).addresses.clone());
        for other in (0..self.scenario.nodes).filter(|other| *other != host) {
            if self.arp_since(host, other).is_none() || !self.hosts[other].answers(&addresses, self.now) {
                continue;
            }
            let up = &self.hosts[other].up;
            let here: Vec<usize> = addresses.iter().copied().filter(|address| up.has(*address)).collect();
            here.into_iter().for_each(|address| self.answer_probe(host, address, other as u8));
        }
        if let Some(address) = addresses.first().filter(|_| self.foreign[group] > 0 && self.hosts[host].carrier) {
            self.answer_probe(host, *address, 0xff);
        }
    }

    fn answer_probe(&mut self, host: usize, address: usize, last: u8) {
        if self.sabotage == Sabotage::LostAnswers {
            return;
        }
        let span = self.random.between(MS / 20, 3 * MS / 2);
        let mac = [2, 0, 0, 0, 0, last];
        self.timeline.note(self.now, Some(host), || format!("  address {address} is answered by {last}"));
        self.later(host, span, Later::News(News::Answer { address, mac }));
    }

    /// Since when two hosts' kernels would hear each other.
    pub fn arp_since(&self, one: usize, other: usize) -> Option<Nanos> {
        let there = |host: usize| self.hosts[host].carrier && self.hosts[host].frozen_until <= self.now;
        self.network.arp_since(one, other).filter(|_| there(one) && there(other))
    }

    fn reported(&mut self, host: usize, change: Change) {
        self.timeline.note(self.now, Some(host), || format!("{change:?}"));
        match change {
            Change::GroupStarting { group, .. } => {
                self.ending.takeovers += 1;
                self.decided(host, self.number(host, group));
            }
            Change::GroupStopping { group, reason, .. } => self.stopping(host, self.number(host, group), &reason),
            _ => {}
        }
    }
}
