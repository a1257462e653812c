//! Starting, stopping and looking at a group's units. Level-driven: a signal only says when to look again,
//! what counts is what systemd says then. `done` of a job is not "active"; a bus error is "unknown".

use super::bus::{BusError, Signal, Systemd, UNIT, UnitState};
use super::cgroup;
use crate::cluster::Outcome;
use crate::config::model::GroupConfig;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;

/// A signal that was lost costs no more than this.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The units of one group.
#[derive(Clone, Debug)]
pub struct Units {
    /// The target, then the members in start order.
    names: Vec<String>,
    timeout_start: Duration,
    timeout_stop: Duration,
}

/// What [`Units::inspect`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub all_active: bool,
    pub any_active: bool,
}

/// How jobs ended while an operation waited, by unit.
type JobResults = BTreeMap<String, String>;

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Wait,
    Good,
    /// The unit that will not come.
    Down(usize),
}

impl Units {
    pub fn of(group: &GroupConfig) -> Units {
        let mut names = vec![group.target()];
        names.extend(group.members.iter().cloned());
        Units { names, timeout_start: group.timeout_start, timeout_stop: group.timeout_stop }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn target(&self) -> &str {
        &self.names[0]
    }

    /// Loads the units and asks for their signals.
    pub async fn watch(&self, systemd: &Systemd) -> Result<Vec<UnitState>, BusError> {
        let states = systemd.list(&self.names).await?;
        let paths: Vec<String> = states.iter().map(|state| state.path.clone()).collect();
        systemd.watch(paths).await?;
        Ok(states)
    }

    /// Starts the target; ends when every member is active, or one will not be.
    pub async fn start(&self, systemd: &Systemd) -> Outcome {
        let deadline = Instant::now() + self.timeout_start;
        self.try_start(systemd, deadline).await.unwrap_or_else(outcome_of_error)
    }

    async fn try_start(&self, systemd: &Systemd, deadline: Instant) -> Result<Outcome, BusError> {
        let mut signals = systemd.listen();
        // A group of addresses has nothing to prepare, and a client waits.
        if self.names.len() > 1 {
            self.prepare(systemd).await?;
        }
        systemd.start_unit(self.target()).await?;
        let mut results = JobResults::new();
        loop {
            note_jobs(&mut signals, &mut results);
            let states = systemd.list(&self.names).await?;
            match judge_start(&states) {
                Verdict::Good => return Ok(Outcome::Done),
                Verdict::Down(index) => {
                    let state = &states[index];
                    let reason = describe_down(systemd, state, &results).await;
                    return Ok(Outcome::Failed(format!("{}: {reason}", state.name)));
                }
                Verdict::Wait if Instant::now() >= deadline => {
                    return Ok(Outcome::Failed(too_slow(&states, "active", self.timeout_start)));
                }
                Verdict::Wait => wait(&mut signals, &mut results, deadline).await,
            }
        }
    }

    /// An old failure must not be taken for one of this start, nor count against its limit.
    async fn prepare(&self, systemd: &Systemd) -> Result<(), BusError> {
        for state in self.watch(systemd).await?.iter().filter(|state| state.active == "failed") {
            systemd.reset_failed(&state.name).await?;
        }
        Ok(())
    }

    /// Stops the target and every member; `Done` only when each is inactive and its control group empty.
    pub async fn stop(&self, systemd: &Systemd) -> Outcome {
        let deadline = Instant::now() + self.timeout_stop;
        // Whatever went wrong on the way: that the group is stopped was not seen.
        self.try_stop(systemd, deadline).await.unwrap_or_else(|error| Outcome::Unknown(error.to_string()))
    }

    async fn try_stop(&self, systemd: &Systemd, deadline: Instant) -> Result<Outcome, BusError> {
        let mut signals = systemd.listen();
        let mut results = JobResults::new();
        let states = self.watch(systemd).await?;
        let mut refusals = self.order_stop(systemd, &states).await?;
        loop {
            note_jobs(&mut signals, &mut results);
            // systemd 256 and later end the stop of a frozen unit with this result.
            if results.values().any(|result| result == "frozen") {
                results.retain(|_, result| result != "frozen");
                refusals = self.order_stop(systemd, &states).await?;
            }
            let states = systemd.list(&self.names).await?;
            let Some(reason) = self.not_stopped(systemd, &states).await? else {
                return Ok(Outcome::Done);
            };
            if Instant::now() >= deadline {
                let refused = refusals.iter().map(|text| format!("; {text}")).collect::<String>();
                return Ok(Outcome::Unknown(format!("{reason}, after {:?}{refused}", self.timeout_stop)));
            }
            wait(&mut signals, &mut results, deadline).await;
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
        let members = self.names[1..].iter().rev();
        for name in std::iter::once(&self.names[0]).chain(members) {
            match systemd.stop_unit(name).await {
                Ok(_) => {}
                Err(error) if error.is_no_such_unit() => {}
                Err(BusError::Refused { text, .. }) => refusals.push(format!("{name}: {text}")),
                Err(error) => return Err(error),
            }
        }
        Ok(refusals)
    }

    /// `Done` if nothing of the group runs at this moment.
    pub async fn verify_stopped(&self, systemd: &Systemd) -> Outcome {
        let check = async {
            let states = systemd.list(&self.names).await?;
            self.not_stopped(systemd, &states).await
        };
        match check.await {
            Ok(None) => Outcome::Done,
            Ok(Some(reason)) => Outcome::Failed(reason),
            Err(error) => outcome_of_error(error),
        }
    }

    pub async fn inspect(&self, systemd: &Systemd) -> Result<Seen, BusError> {
        let states = self.watch(systemd).await?;
        let all_active = states.iter().all(is_up);
        let any_active = self.not_stopped(systemd, &states).await?.is_some();
        Ok(Seen { all_active, any_active })
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

/// Takes what signals wait, without waiting. Results only explain: whether a job is over, the unit's own state says.
fn note_jobs(signals: &mut broadcast::Receiver<Signal>, results: &mut JobResults) {
    loop {
        match signals.try_recv() {
            Ok(Signal::JobRemoved { unit, result }) => {
                results.insert(unit, result);
            }
            Ok(_) | Err(TryRecvError::Lagged(_)) => {}
            Err(_) => return,
        }
    }
}

/// Until something happened that is worth a look.
pub(super) async fn wait(signals: &mut broadcast::Receiver<Signal>, results: &mut JobResults, deadline: Instant) {
    let until = deadline.min(Instant::now() + LOOK_AGAIN);
    match tokio::time::timeout_at(until, signals.recv()).await {
        Ok(Ok(Signal::JobRemoved { unit, result })) => {
            results.insert(unit, result);
        }
        // With no sender there is nothing to wait for but time.
        Ok(Err(RecvError::Closed)) => tokio::time::sleep_until(until).await,
        _ => {}
    }
}

fn interface_with_cgroup(unit: &str) -> Option<&'static str> {
    Some(match unit.rsplit_once('.')?.1 {
        "service" => "org.freedesktop.systemd1.Service",
        "mount" => "org.freedesktop.systemd1.Mount",
        "socket" => "org.freedesktop.systemd1.Socket",
        "swap" => "org.freedesktop.systemd1.Swap",
        "slice" => "org.freedesktop.systemd1.Slice",
        "scope" => "org.freedesktop.systemd1.Scope",
        _ => return None,
    })
}

fn describe_state(state: &UnitState) -> String {
    match &state.job {
        Some(job) => format!("{} ({}), job {job} queued", state.active, state.sub),
        None => format!("{} ({})", state.active, state.sub),
    }
}

fn describe_leftovers(state: &UnitState, left: &[u32]) -> String {
    let pids: Vec<String> = left.iter().take(8).map(u32::to_string).collect();
    let more = if left.len() > pids.len() { ", …" } else { "" };
    format!(
        "{} is {}, but processes are left in its control group: {}{more}",
        state.name,
        state.active,
        pids.join(", ")
    )
}

fn too_slow(states: &[UnitState], wanted: &str, timeout: Duration) -> String {
    match states.iter().skip(1).find(|state| !is_up(state)).or(states.first()) {
        Some(state) => format!("{} is not {wanted} after {timeout:?}: {}", state.name, describe_state(state)),
        None => format!("not {wanted} after {timeout:?}"),
    }
}

/// Why a unit is down, in systemd's own words and with the remedy where it is known. Does not repeat its name.
pub(super) async fn describe_down(systemd: &Systemd, state: &UnitState, results: &JobResults) -> String {
    let name = &state.name;
    match state.load.as_str() {
        "loaded" => {}
        "not-found" => return "not installed on this node".into(),
        "masked" => return format!("masked on this node: run `systemctl unmask {name}`"),
        other => return format!("cannot be loaded ({other}): see `systemctl status {name}`"),
    }
    let result = own_result(systemd, state).await;
    if state.active == "failed" {
        return format!("failed ({}): see `journalctl -u {name}`", result.as_deref().unwrap_or("no result"));
    }
    match results.get(name).map(String::as_str) {
        Some("assert") => return format!("refused by an Assert of its unit file: see `systemctl status {name}`"),
        Some(job @ ("dependency" | "timeout" | "canceled")) => {
            return format!("not started, job result {job}: see `systemctl status {name}`");
        }
        _ => {}
    }
    match systemd.property(&state.path, UNIT, "ConditionResult").await.map(bool::try_from) {
        Ok(Ok(false)) => format!("not started, a Condition of its unit file is not met: see `systemctl status {name}`"),
        _ => format!("{}: a unit that ends by itself needs RemainAfterExit=yes to be a member", describe_state(state)),
    }
}

/// Property `Result`, with the exit status where the main process left one; nothing for units without.
async fn own_result(systemd: &Systemd, state: &UnitState) -> Option<String> {
    let interface = interface_with_cgroup(&state.name)?;
    let result = systemd.text(&state.path, interface, "Result").await.ok().filter(|result| !result.is_empty())?;
    if !interface.ends_with(".Service") {
        return Some(result);
    }
    let status = systemd.property(&state.path, interface, "ExecMainStatus").await.ok();
    Some(describe_result(result, status.and_then(|value| i32::try_from(value).ok())))
}

/// Whether it ended as it should: stopped by somebody, rather than failed.
pub(super) async fn ended_well(systemd: &Systemd, state: &UnitState) -> bool {
    state.active == "inactive" && own_result(systemd, state).await.is_none_or(|result| result == "success")
}

fn describe_result(result: String, status: Option<i32>) -> String {
    match (result.as_str(), status) {
        ("exit-code", Some(status)) => format!("exit status {status}"),
        ("signal", Some(signal)) => format!("killed by signal {signal}"),
        ("core-dump", Some(signal)) => format!("dumped core by signal {signal}"),
        _ => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, active: &str, job: Option<&str>) -> UnitState {
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
    fn auto_restart_is_neither_up_nor_down() {
        let state = unit("a.service", "activating", None);
        assert!(!is_up(&state) && !is_down(&state));
    }

    #[test]
    fn a_result_is_told_in_plain_words() {
        assert_eq!(describe_result("exit-code".into(), Some(1)), "exit status 1");
        assert_eq!(describe_result("signal".into(), Some(9)), "killed by signal 9");
        assert_eq!(describe_result("start-limit-hit".into(), Some(1)), "start-limit-hit");
    }

    #[test]
    fn leftovers_are_named() {
        let text = describe_leftovers(&unit("db.service", "failed", None), &[7, 8]);
        assert_eq!(text, "db.service is failed, but processes are left in its control group: 7, 8");
    }
}
