//! Orders about members, each as a task that ends with an answer; and the watch over groups that run here.

use super::orders::{Beat, ToBeat};
use super::state::Places;
use super::systemd::bus::{BusError, Systemd};
use super::systemd::units::{Seen, Started, Units};
use super::systemd::{guard, watch};
use super::tasks::End;
use crate::cluster::{Event, OpId, Outcome};
use crate::config::Paths;
use crate::config::model::{Config, GroupId};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Members {
    pub(super) config: Arc<Config>,
    pub(super) systemd: Systemd,
    pub(super) beat: Beat,
    pub(super) places: Places,
    pub(super) paths: Paths,
    /// Starts under way: a stop of the same group ends them.
    starting: BTreeMap<GroupId, (OpId, AbortHandle)>,
    /// Stops under way: nobody waits for that of a target without members, and a start must not be undone by it.
    stopping: BTreeMap<GroupId, (OpId, AbortHandle)>,
    watches: BTreeMap<GroupId, AbortHandle>,
}

impl Members {
    pub(super) fn new(config: Arc<Config>, systemd: Systemd, beat: Beat, places: Places, paths: Paths) -> Members {
        Members {
            config,
            systemd,
            beat,
            places,
            paths,
            starting: BTreeMap::new(),
            stopping: BTreeMap::new(),
            watches: BTreeMap::new(),
        }
    }

    fn units(&self, group: GroupId) -> Units {
        Units::of(&self.config, group)
    }

    pub(super) fn start(&mut self, tasks: &mut JoinSet<End>, op: OpId, group: GroupId) {
        if let Some((stop, handle)) = self.stopping.remove(&group) {
            handle.abort();
            self.finish(stop, Outcome::Unknown("given up: the group is to be started".into()));
        }
        let (systemd, units, paths) = (self.systemd.clone(), self.units(group), self.paths.clone());
        let beat = self.beat.clone();
        let name = &self.config.group(group).name;
        let grant = self.places.grant_file(name);
        // Without members there is nothing that a guard would hold back.
        let guarded = !self.config.group(group).members.is_empty();
        let handle = tasks.spawn(async move {
            let deadline = units.start_deadline();
            if guarded {
                match fault_by(&systemd, &units, &grant, paths, deadline).await {
                    Ok(None) => {}
                    // The heart learns why first, so that it does not nominate this node again at once.
                    Ok(Some(fault)) => {
                        beat.send(ToBeat::Event(Event::Guard { group, fault: Some(fault.clone()) }));
                        return End::Started { op, group, outcome: Outcome::Refused(fault) };
                    }
                    Err(error) => return End::Started { op, group, outcome: Outcome::Unknown(error.to_string()) },
                }
            }
            let outcome = match units.start(&systemd, deadline).await {
                Started::Ended(outcome) => outcome,
                Started::TargetStopped => {
                    beat.send(ToBeat::Event(Event::TargetStopped { group }));
                    Outcome::Refused("an operator stopped it".into())
                }
            };
            End::Started { op, group, outcome }
        });
        self.starting.insert(group, (op, handle));
    }

    pub(super) fn stop(&mut self, tasks: &mut JoinSet<End>, op: OpId, group: GroupId) {
        if let Some(watch) = self.watches.remove(&group) {
            watch.abort();
        }
        if let Some((start, handle)) = self.starting.remove(&group) {
            handle.abort();
            self.finish(start, Outcome::Unknown("given up: the group is to be stopped".into()));
        }
        let (systemd, units) = (self.systemd.clone(), self.units(group));
        let handle = tasks.spawn(async move { End::Finished { op, outcome: units.stop(&systemd).await } });
        // One that was given up is not waited for any more.
        if let Some((_, old)) = self.stopping.insert(group, (op, handle)) {
            old.abort();
        }
    }

    pub(super) fn verify(&self, tasks: &mut JoinSet<End>, op: OpId, group: GroupId) {
        let (systemd, units) = (self.systemd.clone(), self.units(group));
        tasks.spawn(async move { End::Finished { op, outcome: units.verify_stopped(&systemd).await } });
    }

    pub(super) fn inspect(&self, tasks: &mut JoinSet<End>, op: OpId, group: GroupId) {
        let (systemd, units) = (self.systemd.clone(), self.units(group));
        tasks.spawn(async move { End::Inspected { op, group, seen: units.inspect(&systemd).await } });
    }

    /// The end of a stop or a verification.
    pub(super) fn finished(&mut self, op: OpId, outcome: Outcome) {
        self.stopping.retain(|_, (stop, _)| *stop != op);
        self.finish(op, outcome);
    }

    /// A start that was given up meanwhile has been answered already.
    pub(super) fn started(&mut self, op: OpId, group: GroupId, outcome: Outcome) {
        if self.starting.get(&group).is_none_or(|(current, _)| *current != op) {
            return;
        }
        self.starting.remove(&group);
        if outcome == Outcome::Done {
            self.watch(group);
        }
        self.finish(op, outcome);
    }

    pub(super) fn inspected(&mut self, op: OpId, group: GroupId, seen: Result<Seen, BusError>) {
        match seen {
            Ok(Seen { all_active, any_active }) => {
                if all_active {
                    self.watch(group);
                }
                self.beat.send(ToBeat::Inspected { op, all_active, any_active });
            }
            Err(error) => self.finish(op, Outcome::Unknown(error.to_string())),
        }
    }

    fn finish(&self, op: OpId, outcome: Outcome) {
        self.beat.send(ToBeat::Event(Event::Finished { op, outcome }));
    }

    fn watch(&mut self, group: GroupId) {
        if !self.watches.contains_key(&group) {
            let task = watch::watch(self.systemd.clone(), self.units(group), group, self.beat.clone());
            self.watches.insert(group, tokio::spawn(task).abort_handle());
        }
    }
}

/// What is wrong with the guards, by the files and units of each try: a reload may be what the bus is away for.
async fn fault_by(
    systemd: &Systemd,
    units: &Units,
    grant: &Path,
    paths: Paths,
    deadline: Instant,
) -> Result<Option<String>, BusError> {
    loop {
        let digests = guard::digests(paths.clone()).await;
        match guard::fault(systemd, units.names(), grant, &digests).await {
            Ok(fault) => return Ok(fault),
            Err(error) => systemd.outlast(error, deadline).await?,
        }
    }
}
