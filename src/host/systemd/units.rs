//! Starting, stopping and looking at a group's units. Level-driven: a signal only says when to look again,
//! what counts is what systemd says then. `done` of a job is not "active"; a bus error is "unknown".

use super::bus::{BusError, Systemd, UNIT, UnitState};
use super::explain::{describe_down, describe_leftovers, describe_state, interface_with_cgroup, too_slow};
use super::news::{JobResults, News};
use super::{cgroup, triggered};
use crate::cluster::Outcome;
use crate::config::model::{Config, GroupId};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// A signal that was lost costs no more than this.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOK_AGAIN_LAST: Duration = Duration::from_secs(2);

/// The units of one group.
#[derive(Clone, Debug)]
pub struct Units {
    /// The target, if it is not a part of a group; then, from `first` on, the members in start order.
    names: Vec<String>,
    first: usize,
    /// Members of other groups, which ours may set going and must never stop.
    others: BTreeSet<String>,
    timeout_start: Duration,
    timeout_stop: Duration,
}

/// What [`Units::inspect`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub all_active: bool,
    pub any_active: bool,
    /// It was whole, and a member is in the middle of a restart of its own: neither up nor down.
    pub settling: bool,
}

/// How [`Units::start`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    Ended(Outcome),
    /// Somebody stopped the target meanwhile: an operator's word, and no failure.
    TargetStopped,
}

/// How far a start has come, across losses of the bus.
struct Progress {
    news: News,
    /// systemd has confirmed the order.
    ordered: bool,
    /// Members that the target did not bring along, ordered one by one.
    apart: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Wait,
    Good,
    /// The unit that will not come.
    Down(usize),
}

impl Units {
    pub fn of(config: &Config, group: GroupId) -> Units {
        let group = config.group(group);
        let mut names = vec![group.target()];
        names.extend(group.members.iter().cloned());
        let others = config.groups.iter().filter(|other| other.name != group.name);
        let others = others.flat_map(|other| other.members.iter().cloned()).collect();
        Units { names, first: 1, others, timeout_start: group.timeout_start, timeout_stop: group.timeout_stop }
    }

    /// These members by themselves, and the group without them. What goes must take nobody along that stays.
    pub fn split(self, members: &[String]) -> (Units, Units) {
        let (part, rest): (Vec<_>, Vec<_>) = self.names.iter().cloned().partition(|name| members.contains(name));
        let others = self.others.iter().chain(&rest).cloned().collect();
        (Units { names: part, first: 0, others, ..self.clone() }, Units { names: rest, ..self })
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn target(&self) -> &str {
        &self.names[0]
    }

    /// Without, the target runs along for `systemctl` to see, and decides nothing.
    pub fn has_members(&self) -> bool {
        self.names.len() > self.first
    }

    /// Until when a start that begins now may take.
    pub fn start_deadline(&self) -> Instant {
        Instant::now() + self.timeout_start
    }

    /// Starts the target; ends when every member is active, or one will not be. A bus that is away for a while ends nothing.
    /// `before`: the group's units as they are, where it has members.
    pub async fn start(&self, systemd: &Systemd, before: &[UnitState], deadline: Instant) -> Started {
        let mut progress = Progress { news: systemd.listen_to(&self.names), ordered: false, apart: BTreeSet::new() };
        loop {
            let error = match self.try_start(systemd, before, &mut progress, deadline).await {
                Ok(end) => return end,
                Err(error) => error,
            };
            if let Err(error) = systemd.outlast(error, deadline).await {
                return Started::Ended(outcome_of_error(error));
            }
        }
    }

    async fn try_start(
        &self,
        systemd: &Systemd,
        before: &[UnitState],
        progress: &mut Progress,
        deadline: Instant,
    ) -> Result<Started, BusError> {
        let mut patience = Patience(LOOK_AGAIN);
        if !progress.ordered {
            self.order_start(systemd, before, progress).await?;
            progress.news.wait_for_job(self.target(), patience.end(systemd, deadline)).await;
        }
        let Progress { news, apart, .. } = progress;
        loop {
            news.read();
            let states = systemd.list(&self.names).await?;
            news.follow(&states);
            let results = news.jobs();
            if self.has_members() && self.stopped_by_hand(systemd, &states[0], results).await? {
                if systemd.leaving().await? {
                    let reason = "its target was stopped while this host or hafailover goes down";
                    return Ok(Started::Ended(Outcome::Refused(reason.into())));
                }
                return Ok(Started::TargetStopped);
            }
            match judge_start(&states) {
                Verdict::Good => return Ok(Started::Ended(Outcome::Done)),
                Verdict::Down(index) => {
                    let state = &states[index];
                    if index > 0 && !apart.contains(&state.name) && !wants(systemd, &states[0], &state.name).await? {
                        apart.insert(state.name.clone());
                        systemd.start_unit(&state.name).await?;
                        continue;
                    }
                    let reason = describe_down(systemd, state, results).await;
                    return Ok(Started::Ended(Outcome::Failed(format!("{}: {reason}", state.name))));
                }
                Verdict::Wait if Instant::now() >= deadline => {
                    return Ok(Started::Ended(Outcome::Failed(too_slow(&states, "active", self.timeout_start))));
                }
                // Until its job is over, nothing that happens to a member decides.
                Verdict::Wait if states[0].job.is_some() => {
                    news.wait_for_job(self.target(), patience.end(systemd, deadline)).await;
                }
                Verdict::Wait => wait(news, deadline).await,
            }
        }
    }

    /// Ordering once more what was ordered already changes nothing.
    async fn order_start(
        &self,
        systemd: &Systemd,
        before: &[UnitState],
        progress: &mut Progress,
    ) -> Result<(), BusError> {
        // An old failure must not be taken for one of this start. Nor do old starts count against the unit's limit (StartLimitBurst=),
        // which is for one that keeps dying: each of these was ordered.
        for state in before.iter().filter(|state| self.names[self.first..].contains(&state.name)) {
            match systemd.reset_failed(&state.name).await {
                Err(BusError::Refused { .. }) if state.active != "failed" => {}
                end => end?,
            }
        }
        // Jobs that ended before tell nothing of this start.
        progress.news.read();
        progress.news.forget_jobs(|_| true);
        systemd.start_unit(self.target()).await?;
        progress.ordered = true;
        Ok(())
    }

    /// Whether somebody stopped the target after we ordered its start.
    async fn stopped_by_hand(
        &self,
        systemd: &Systemd,
        target: &UnitState,
        results: &JobResults,
    ) -> Result<bool, BusError> {
        if !looks_stopped(target, results) {
            return Ok(false);
        }
        // A start that a Condition skipped ends in the same way.
        let checked = systemd.number(&target.path, UNIT, "ConditionTimestampMonotonic").await?;
        let met = systemd.flag(&target.path, "ConditionResult").await?;
        Ok(checked == Some(0) || met != Some(false))
    }

    /// Stops the target and every member; `Done` only when each is inactive and its control group empty.
    pub async fn stop(&self, systemd: &Systemd) -> Outcome {
        let deadline = Instant::now() + self.timeout_stop;
        // Whatever went wrong on the way: that the group is stopped was not seen.
        self.try_stop(systemd, deadline).await.unwrap_or_else(|error| Outcome::Unknown(error.to_string()))
    }

    async fn try_stop(&self, systemd: &Systemd, deadline: Instant) -> Result<Outcome, BusError> {
        let mut news = systemd.listen_to(&self.names);
        let states = systemd.list(&self.names).await?;
        let states = self.with_triggered(systemd, states).await?;
        news.follow(&states);
        let mut refusals = self.order_stop(systemd, &states).await?;
        loop {
            news.read();
            // systemd 256 and later end the stop of a frozen unit with this result.
            if news.jobs().values().any(|result| result == "frozen") {
                news.forget_jobs(|result| result == "frozen");
                refusals = self.order_stop(systemd, &states).await?;
            }
            let states = self.look(systemd).await?;
            let Some(reason) = self.not_stopped(systemd, &states).await? else {
                return Ok(Outcome::Done);
            };
            // Triggered once more before the stop of what triggers it.
            for state in states[self.names.len()..].iter().filter(|state| is_up(state) && state.job.is_none()) {
                stop_one(systemd, &state.name, &mut refusals).await?;
            }
            if Instant::now() >= deadline {
                let refused = refusals.iter().map(|text| format!("; {text}")).collect::<String>();
                return Ok(Outcome::Unknown(format!("{reason}, after {:?}{refused}", self.timeout_stop)));
            }
            wait(&news, deadline).await;
        }
    }

    /// Queues the stops. What systemd refuses is not the last word: the state is. Answers with the refusals.
    async fn order_stop(&self, systemd: &Systemd, states: &[UnitState]) -> Result<Vec<String>, BusError> {
        let mut refusals = Vec::new();
        for state in states.iter().filter(|state| state.name.ends_with(".service") && !is_down(state)) {
            if systemd.text(&state.path, UNIT, "FreezerState").await? == "frozen"
                && let Err(error) = systemd.thaw_unit(&state.name).await
            {
                refusals.push(format!("{} is frozen and cannot be thawed: {error}", state.name));
            }
        }
        let (own, triggered) = states.split_at(self.names.len());
        let (target, members) = own.split_at(self.first);
        for state in target.iter().chain(members.iter().rev()).chain(triggered) {
            stop_one(systemd, &state.name, &mut refusals).await?;
        }
        Ok(refusals)
    }

    /// `Done` if nothing of the group runs at this moment.
    pub async fn verify_stopped(&self, systemd: &Systemd) -> Outcome {
        let check = async { self.not_stopped(systemd, &self.look(systemd).await?).await };
        match check.await {
            Ok(None) => Outcome::Done,
            Ok(Some(reason)) => Outcome::Failed(reason),
            Err(error) => outcome_of_error(error),
        }
    }

    pub async fn inspect(&self, systemd: &Systemd) -> Result<Seen, BusError> {
        if !self.has_members() {
            return Ok(Seen { all_active: true, any_active: false, settling: false });
        }
        let states = systemd.list(&self.names).await?;
        let (all_active, settling) = (states.iter().all(is_up), is_settling(&states));
        let states = self.with_triggered(systemd, states).await?;
        let any_active = self.not_stopped(systemd, &states).await?.is_some();
        Ok(Seen { all_active, any_active, settling })
    }

    /// The group's own units, and behind them what runs because of its members.
    async fn look(&self, systemd: &Systemd) -> Result<Vec<UnitState>, BusError> {
        let own = systemd.list(&self.names).await?;
        self.with_triggered(systemd, own).await
    }

    async fn with_triggered(&self, systemd: &Systemd, mut own: Vec<UnitState>) -> Result<Vec<UnitState>, BusError> {
        let triggered = triggered::by_members(systemd, &own[self.first..], &self.others).await?;
        own.extend(triggered);
        Ok(own)
    }

    /// Why the group does not count as stopped; nothing if it does.
    async fn not_stopped(&self, systemd: &Systemd, states: &[UnitState]) -> Result<Option<String>, BusError> {
        if let Some(state) = states.iter().find(|state| !is_down(state)) {
            return Ok(Some(format!("{} is {}", state.name, describe_state(state))));
        }
        for state in states {
            let Some(interface) = interface_with_cgroup(&state.name) else { continue };
            let group = systemd.text(&state.path, interface, "ControlGroup").await?;
            match cgroup::processes(&group) {
                Ok(left) if left.is_empty() => {}
                Ok(left) => return Ok(Some(describe_leftovers(state, &left))),
                Err(error) => return Ok(Some(format!("{}: its control group cannot be read: {error}", state.name))),
            }
        }
        Ok(None)
    }
}

/// What systemd refuses is not the last word: the state is.
async fn stop_one(systemd: &Systemd, name: &str, refusals: &mut Vec<String>) -> Result<(), BusError> {
    match systemd.stop_unit(name).await {
        Ok(()) => {}
        Err(error) if error.is_no_such_unit() => {}
        Err(BusError::Refused { text, .. }) => {
            let refusal = format!("{name}: {text}");
            if !refusals.contains(&refusal) {
                refusals.push(refusal);
            }
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn outcome_of_error(error: BusError) -> Outcome {
    match error {
        BusError::Unreachable(_) => Outcome::Unknown(error.to_string()),
        BusError::Refused { .. } => Outcome::Failed(error.to_string()),
    }
}

/// Runs, as systemd sees it. `reloading` is running; a queued stop or restart is on its way out of it.
pub(super) fn is_up(state: &UnitState) -> bool {
    let active = matches!(state.active.as_str(), "active" | "reloading" | "refreshing");
    active && !matches!(state.job.as_deref(), Some("stop" | "restart" | "try-restart"))
}

/// Does not run, and nothing is queued that changes that. `activating (auto-restart)` is not down.
pub(super) fn is_down(state: &UnitState) -> bool {
    matches!(state.active.as_str(), "inactive" | "failed") && state.job.is_none()
}

/// Whether the start of the target brings the member along. A target goes by the files, which may name a member no more
/// that the running configuration still has.
async fn wants(systemd: &Systemd, target: &UnitState, member: &str) -> Result<bool, BusError> {
    let wants = systemd.names(&target.path, "Wants").await?;
    // What cannot be read is not held against the member.
    Ok(wants.is_none_or(|wants| wants.iter().any(|wanted| wanted == member)))
}

/// The target came up after all members, so one that is not up is not of a start that was cut off.
fn is_settling(states: &[UnitState]) -> bool {
    is_up(&states[0]) && !states.iter().any(is_down) && !states.iter().all(is_up)
}

/// Its start was canceled, or it was started and is down again. One that never came (`assert`, `dependency`) was not stopped.
fn looks_stopped(target: &UnitState, results: &JobResults) -> bool {
    let result = results.get(&target.name).map(String::as_str);
    target.job.as_deref() == Some("stop")
        || (target.active == "inactive" && target.job.is_none() && matches!(result, Some("done" | "canceled")))
}

fn judge_start(states: &[UnitState]) -> Verdict {
    if states.iter().all(is_up) {
        return Verdict::Good;
    }
    // While the target's job waits, later members have not had their turn; the first that is down is the cause.
    let target_waits = states[0].job.is_some();
    match states.iter().skip(1).position(is_down) {
        Some(index) if !target_waits => Verdict::Down(index + 1),
        None if is_down(&states[0]) => Verdict::Down(0),
        _ => Verdict::Wait,
    }
}

/// How long a job's end is waited for before a look. It is always told, so while hundreds of jobs are under way few should ask; but
/// without a bus nobody tells it.
struct Patience(Duration);

impl Patience {
    fn end(&mut self, systemd: &Systemd, deadline: Instant) -> Instant {
        let span = if systemd.connected() { self.0 } else { LOOK_AGAIN };
        self.0 = (span * 2).min(LOOK_AGAIN_LAST);
        deadline.min(Instant::now() + span)
    }
}

/// Until something happened that is worth a look.
async fn wait(news: &News, deadline: Instant) {
    news.wait(deadline.min(Instant::now() + LOOK_AGAIN)).await;
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn unit(name: &str, active: &str, job: Option<&str>) -> UnitState {
        UnitState {
            name: name.into(),
            load: "loaded".into(),
            active: active.into(),
            sub: "x".into(),
            path: "/x".into(),
            job: job.map(str::to_owned),
        }
    }

    #[test]
    fn a_group_is_up_only_when_every_member_is_active() {
        let target = unit("g.target", "active", None);
        let up = unit("a.service", "active", None);
        assert_eq!(judge_start(std::slice::from_ref(&target)), Verdict::Good);
        assert_eq!(judge_start(&[target.clone(), up.clone()]), Verdict::Good);
        assert_eq!(judge_start(&[target.clone(), unit("a.service", "reloading", None)]), Verdict::Good);
        assert_eq!(judge_start(&[target.clone(), unit("a.service", "activating", None)]), Verdict::Wait);
        assert_eq!(judge_start(&[target.clone(), unit("a.service", "active", Some("restart"))]), Verdict::Wait);
        assert_eq!(judge_start(&[target, up, unit("b.service", "failed", None)]), Verdict::Down(2));
    }

    #[test]
    fn a_member_is_not_given_up_while_the_targets_job_waits_or_its_own() {
        let waiting = unit("g.target", "inactive", Some("start"));
        assert_eq!(judge_start(&[waiting.clone(), unit("a.service", "inactive", Some("start"))]), Verdict::Wait);
        assert_eq!(judge_start(&[waiting, unit("a.service", "failed", None)]), Verdict::Wait);
        let done = unit("g.target", "active", None);
        assert_eq!(judge_start(&[done, unit("a.service", "failed", Some("start"))]), Verdict::Wait);
    }

    #[test]
    fn a_target_that_was_refused_is_the_cause_only_if_no_member_is() {
        let refused = unit("g.target", "inactive", None);
        assert_eq!(judge_start(&[refused.clone(), unit("a.service", "active", None)]), Verdict::Down(0));
        assert_eq!(judge_start(&[refused, unit("a.service", "inactive", None)]), Verdict::Down(1));
    }

    #[test]
    fn a_target_that_somebody_stopped_is_told_from_one_that_never_came() {
        let result = |result: &str| JobResults::from([("g.target".to_owned(), result.to_owned())]);
        let (down, up) = (unit("g.target", "inactive", None), unit("g.target", "active", None));
        assert!(looks_stopped(&down, &result("canceled")), "while its start waited");
        assert!(looks_stopped(&down, &result("done")), "after it came");
        assert!(looks_stopped(&unit("g.target", "active", Some("stop")), &JobResults::new()));
        assert!(!looks_stopped(&up, &result("done")));
        assert!(!looks_stopped(&unit("g.target", "inactive", Some("start")), &result("done")), "a restart by hand");
        for never_came in ["assert", "dependency", "timeout"] {
            assert!(!looks_stopped(&down, &result(never_came)), "{never_came}");
        }
        assert!(!looks_stopped(&down, &JobResults::new()));
    }

    #[test]
    fn units_of_other_groups_are_known_as_theirs() {
        let config = crate::host::held::tests::config(&["alpha"]);
        let units = Units::of(&config, GroupId(0));
        assert_eq!(units.names(), ["hafailover-group@db.target", "db.service"]);
        assert_eq!(units.others, BTreeSet::from(["nginx.service".to_owned()]));
    }

    #[test]
    fn a_group_of_addresses_is_whole_without_its_target() {
        let mut config = crate::host::held::tests::config(&["alpha"]);
        config.groups[0].members.clear();
        // Nobody is asked: there is no bus here.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let seen = runtime.block_on(Units::of(&config, GroupId(0)).inspect(&Systemd::new()));
        assert_eq!(seen, Ok(Seen { all_active: true, any_active: false, settling: false }));
    }

    #[test]
    fn a_members_own_restart_settles_but_a_start_that_was_cut_off_does_not() {
        let (target, up) = (unit("g.target", "active", None), unit("a.service", "active", None));
        let with = |member: UnitState| is_settling(&[target.clone(), up.clone(), member]);
        assert!(with(unit("b.service", "activating", None)), "auto-restart");
        assert!(with(unit("b.service", "active", Some("restart"))));
        assert!(with(unit("b.service", "inactive", Some("start"))));
        assert!(with(unit("b.service", "deactivating", None)));
        assert!(!with(unit("b.service", "active", None)), "it is whole");
        assert!(!with(unit("b.service", "failed", None)));
        let waiting = unit("g.target", "inactive", Some("start"));
        assert!(!is_settling(&[waiting, unit("a.service", "activating", Some("start"))]));
        let down = [target.clone(), unit("a.service", "inactive", None), unit("b.service", "activating", None)];
        assert!(!is_settling(&down));
    }

    #[test]
    fn auto_restart_is_neither_up_nor_down() {
        let state = unit("a.service", "activating", None);
        assert!(!is_up(&state) && !is_down(&state));
    }
}
