//! Orders about members, each as a task that ends with an answer; and the watch over groups that run here.

use super::orders::{Beat, ToBeat};
use super::state::Places;
use super::systemd::bus::{BusError, Systemd, UnitState};
use super::systemd::guard::{self, Digester};
use super::systemd::units::{Seen, Started, Units};
use super::systemd::watch;
use super::tasks::End;
use crate::cluster::{Event, OpId, Outcome};
use crate::config::model::{Config, GroupConfig, GroupId};
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
    pub(super) digester: Digester,
    /// Starts under way: a stop of the same group ends them.
    starting: BTreeMap<GroupId, (OpId, AbortHandle)>,
    /// Looks under way: what one finds after the order to stop is old, and must not start a watch.
    inspecting: BTreeMap<GroupId, (OpId, AbortHandle)>,
    /// Stops under way: nobody waits for that of a target without members, and a start must not be undone by it.
    stopping: BTreeMap<GroupId, (OpId, AbortHandle)>,
    watches: BTreeMap<GroupId, AbortHandle>,
    /// Groups with a member in the middle of a restart of its own, and until when that is waited for.
    settling: BTreeMap<GroupId, Instant>,
    /// Members that are neither up nor down are waited for: not by one that is about to stop them.
    patient: bool,
}

impl Members {
    pub(super) fn new(
        config: Arc<Config>,
        systemd: Systemd,
        beat: Beat,
        places: Places,
        digester: Digester,
    ) -> Members {
        Members {
            config,
            systemd,
            beat,
            places,
            digester,
            starting: BTreeMap::new(),
            inspecting: BTreeMap::new(),
            stopping: BTreeMap::new(),
            watches: BTreeMap::new(),
            settling: BTreeMap::new(),
            patient: true,
        }
    }

    /// Everything is to be stopped: no reason to wait for a member to come up.
    pub(super) fn hurry(&mut self) {
        self.patient = false;
    }

    fn units(&self, group: GroupId) -> Units {
        Units::of(&self.config, group)
    }

    pub(super) fn start(&mut self, tasks: &mut JoinSet<End>, op: OpId, group: GroupId) {
        if let Some((stop, handle)) = self.stopping.remove(&group) {
            handle.abort();
            self.finish(stop, Outcome::Unknown("given up: the group is to be started".into()));
        }
        let (systemd, units, digester) = (self.systemd.clone(), self.units(group), self.digester.clone());
        let beat = self.beat.clone();
        let config = self.config.group(group).clone();
        let grant = self.places.grant_file(&config.name);
        // Without members there is nothing that a guard would hold back.
        let guarded = !config.members.is_empty();
        let handle = tasks.spawn(async move {
            let deadline = units.start_deadline();
            let mut before = Vec::new();
            if guarded {
                match guarded_units(&systemd, &config, &grant, &digester, deadline).await {
                    Ok(Ok((units, ordered))) => {
                        before = units;
                        // Right after an adoption its target may still want a member that has left it.
                        if !ordered && let Err(error) = systemd.reload().await {
                            return End::Started { op, group, outcome: Outcome::Unknown(error.to_string()) };
                        }
                    }
                    // The heart learns why first, so that it does not nominate this node again at once.
                    Ok(Err(fault)) => {
                        beat.send(ToBeat::Event(Event::Guard { group, fault: Some(fault.clone()) }));
                        return End::Started { op, group, outcome: Outcome::Refused(fault) };
                    }
                    Err(error) => return End::Started { op, group, outcome: Outcome::Unknown(error.to_string()) },
                }
            }
            let outcome = match units.start(&systemd, &before, deadline).await {
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
        if let Some((look, handle)) = self.inspecting.remove(&group) {
            handle.abort();
            self.finish(look, Outcome::Unknown("given up: the group is to be stopped".into()));
        }
        self.settling.remove(&group);
        let (systemd, units) = (self.systemd.clone(), self.units(group));
        let handle = tasks.spawn(async move { End::Finished { op, outcome: units.stop(&systemd).await } });
        // One that was given up is not waited for any more.
        if let Some((_, old)) = self.stopping.insert(group, (op, handle)) {
            old.abort();
        }
    }

    /// Stops some members of a group that goes on. What is meant to go is no news.
    pub(super) fn drop(&mut self, tasks: &mut JoinSet<End>, op: OpId, group: GroupId, gone: &[String]) {
        let (gone, left) = self.units(group).split(gone);
        if let Some(watch) = self.watches.remove(&group) {
            watch.abort();
            self.watch_units(group, left);
        }
        let systemd = self.systemd.clone();
        tasks.spawn(async move { End::Finished { op, outcome: gone.stop(&systemd).await } });
    }

    /// Whether systemd has loaded the guards of a group in a form that it does not have yet.
    pub(super) fn check_guards(&self, tasks: &mut JoinSet<End>, op: OpId, to: &GroupConfig) {
        let (systemd, digester, to) = (self.systemd.clone(), self.digester.clone(), to.clone());
        let grant = self.places.grant_file(&to.name);
        tasks.spawn(async move {
            let digests = digester.digests().await;
            let outcome = match guard::guarded_units(&systemd, &to, &grant, &digests, &digester).await {
                Ok(Ok(_)) => Outcome::Done,
                Ok(Err(fault)) => Outcome::Refused(fault),
                Err(error) => Outcome::Unknown(error.to_string()),
            };
            End::Finished { op, outcome }
        });
    }

    pub(super) fn verify(&self, tasks: &mut JoinSet<End>, op: OpId, group: GroupId) {
        let (systemd, units) = (self.systemd.clone(), self.units(group));
        tasks.spawn(async move { End::Finished { op, outcome: units.verify_stopped(&systemd).await } });
    }

    pub(super) fn inspect(&mut self, tasks: &mut JoinSet<End>, op: OpId, group: GroupId) {
        let (systemd, units) = (self.systemd.clone(), self.units(group));
        let handle = tasks.spawn(async move { End::Inspected { op, group, seen: units.inspect(&systemd).await } });
        // Its deadline has answered the one before it.
        if let Some((_, old)) = self.inspecting.insert(group, (op, handle)) {
            old.abort();
        }
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
            // One that ran before may have had other members.
            self.watches.remove(&group).inspect(AbortHandle::abort);
            self.watch(group);
        }
        self.finish(op, outcome);
    }

    /// A look that was given up meanwhile has been answered already.
    pub(super) fn inspected(&mut self, op: OpId, group: GroupId, seen: Result<Seen, BusError>) {
        if self.inspecting.get(&group).is_none_or(|(current, _)| *current != op) {
            return;
        }
        self.inspecting.remove(&group);
        // What is not granted is not ours: its target may well be stopped, and that is no operator's word.
        let granted = self.places.grant_file(&self.config.group(group).name).exists();
        match seen {
            Ok(Seen { settling: true, .. }) if granted && self.may_settle(group) => {
                self.finish(op, Outcome::Unknown("a member is in the middle of a restart of its own".into()));
            }
            Ok(Seen { all_active, any_active, settling }) => {
                if !settling {
                    self.settling.remove(&group);
                }
                if all_active && granted {
                    self.watch(group);
                }
                self.beat.send(ToBeat::Inspected { op, all_active, any_active });
            }
            Err(error) => self.finish(op, Outcome::Unknown(error.to_string())),
        }
    }

    /// A restart may take as long as a start.
    fn may_settle(&mut self, group: GroupId) -> bool {
        let now = Instant::now();
        let end = *self.settling.entry(group).or_insert(now + self.config.group(group).timeout_start);
        self.patient && now < end
    }

    fn finish(&self, op: OpId, outcome: Outcome) {
        self.beat.send(ToBeat::Event(Event::Finished { op, outcome }));
    }

    fn watch(&mut self, group: GroupId) {
        if !self.watches.contains_key(&group) {
            self.watch_units(group, self.units(group));
        }
    }

    fn watch_units(&mut self, group: GroupId, units: Units) {
        let task = watch::watch(self.systemd.clone(), units, group, self.beat.clone());
        self.watches.insert(group, tokio::spawn(task).abort_handle());
    }
}

/// The group's units and whether systemd orders it as it runs, or what is wrong with the guards; by the files and units of each try: a
/// reload may be what the bus is away for.
async fn guarded_units(
    systemd: &Systemd,
    group: &GroupConfig,
    grant: &Path,
    digester: &Digester,
    deadline: Instant,
) -> Result<Result<(Vec<UnitState>, bool), String>, BusError> {
    loop {
        let digests = digester.digests().await;
        match guard::guarded_units(systemd, group, grant, &digests, digester).await {
            Ok(units) => return Ok(units.map(|units| (units, digests.orders(group)))),
            Err(error) => systemd.outlast(error, deadline).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Paths;
    use crate::host::held::tests::{TempPlaces, config};
    use crate::host::orders::{BeatInbox, beat_channel};

    const GROUP: GroupId = GroupId(0);
    const WHOLE: Result<Seen, BusError> = Ok(Seen { all_active: true, any_active: true, settling: false });

    /// The bus is not there, so tasks only wait.
    fn members(places: &TempPlaces) -> (Members, JoinSet<End>, BeatInbox) {
        let (beat, inbox) = beat_channel().unwrap();
        let digester = Digester::new(Paths::under(&places.state));
        let grant = places.grant_file("db");
        std::fs::create_dir_all(grant.parent().unwrap()).unwrap();
        std::fs::write(grant, "").unwrap();
        let config = Arc::new(config(&["alpha"]));
        (Members::new(config, Systemd::new(), beat, (*places).clone(), digester), JoinSet::new(), inbox)
    }

    fn told(inbox: &BeatInbox) -> Vec<String> {
        inbox.drain().map(|message| format!("{message:?}")).collect()
    }

    #[tokio::test]
    async fn a_look_that_ends_after_the_order_to_stop_starts_no_watch() {
        let places = TempPlaces::new("members-late");
        let (mut members, mut tasks, inbox) = members(&places);
        members.inspect(&mut tasks, OpId(1), GROUP);
        members.stop(&mut tasks, OpId(2), GROUP);
        let said = told(&inbox);
        assert!(said.len() == 1 && said[0].contains("OpId(1)") && said[0].contains("Unknown"), "{said:?}");
        // Its task had ended before it could be given up.
        members.inspected(OpId(1), GROUP, WHOLE);
        assert!(members.watches.is_empty(), "what is being stopped was watched");
        assert_eq!(told(&inbox), Vec::<String>::new(), "it was answered already");
    }

    #[tokio::test]
    async fn what_is_whole_is_watched_only_where_it_is_granted() {
        let places = TempPlaces::new("members-granted");
        let (mut members, mut tasks, inbox) = members(&places);
        members.inspect(&mut tasks, OpId(1), GROUP);
        std::fs::remove_file(places.grant_file("db")).unwrap();
        members.inspected(OpId(1), GROUP, WHOLE);
        assert!(members.watches.is_empty(), "somebody else's unit was watched");
        std::fs::write(places.grant_file("db"), "").unwrap();
        members.inspect(&mut tasks, OpId(2), GROUP);
        members.inspected(OpId(2), GROUP, WHOLE);
        assert!(members.watches.contains_key(&GROUP));
        assert!(told(&inbox).iter().all(|message| message.starts_with("Inspected")), "both are answered");
    }

    #[tokio::test]
    async fn members_that_go_are_watched_no_more_and_the_others_are() {
        let places = TempPlaces::new("members-drop");
        let (mut members, mut tasks, inbox) = members(&places);
        let (gone, left) = members.units(GROUP).split(&["db.service".to_owned()]);
        assert_eq!((gone.names(), gone.has_members()), (&["db.service".to_owned()][..], true));
        assert_eq!((left.names(), left.has_members()), (&["hafailover-group@db.target".to_owned()][..], false));
        members.drop(&mut tasks, OpId(1), GROUP, &["db.service".to_owned()]);
        assert!(members.watches.is_empty(), "what does not run is not watched");
        members.watch(GROUP);
        let before = members.watches[&GROUP].clone();
        members.drop(&mut tasks, OpId(2), GROUP, &["db.service".to_owned()]);
        tokio::task::yield_now().await;
        assert!(before.is_finished() && !members.watches[&GROUP].is_finished());
        assert_eq!(told(&inbox), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_members_own_restart_is_waited_for_as_long_as_a_start_may_take() {
        let places = TempPlaces::new("members-settling");
        let (mut members, mut tasks, inbox) = members(&places);
        let half = || Ok(Seen { all_active: false, any_active: true, settling: true });
        let mut answer = |members: &mut Members, seen| {
            members.inspect(&mut tasks, OpId(1), GROUP);
            members.inspected(OpId(1), GROUP, seen);
            told(&inbox).pop().unwrap()
        };
        assert!(answer(&mut members, half()).contains("Unknown"), "the heart looks again");
        let end = members.settling[&GROUP];
        assert!(answer(&mut members, half()).contains("Unknown"));
        assert_eq!(members.settling[&GROUP], end, "a second look gives no more time");
        members.settling.insert(GROUP, Instant::now());
        assert!(answer(&mut members, half()).starts_with("Inspected"), "its time is over");
        assert!(answer(&mut members, WHOLE).starts_with("Inspected"));
        assert!(members.settling.is_empty());
        members.hurry();
        assert!(answer(&mut members, half()).starts_with("Inspected"), "everything is to be stopped");
    }
}
