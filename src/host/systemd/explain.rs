//! What systemd says of a unit, in words for people and with the remedy where it is known.
//! Nothing is decided on them.

use super::bus::{Systemd, UnitState};
use super::news::JobResults;
use super::units::is_up;
use std::time::Duration;

pub(super) fn interface_with_cgroup(unit: &str) -> Option<&'static str> {
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

pub(super) fn describe_state(state: &UnitState) -> String {
    match &state.job {
        Some(job) => format!("{} ({}), job {job} queued", state.active, state.sub),
        None => format!("{} ({})", state.active, state.sub),
    }
}

pub(super) fn describe_leftovers(state: &UnitState, left: &[u32]) -> String {
    let pids: Vec<String> = left.iter().take(8).map(u32::to_string).collect();
    let more = if left.len() > pids.len() { ", …" } else { "" };
    format!(
        "{} is {}, but processes are left in its control group: {}{more}",
        state.name,
        state.active,
        pids.join(", ")
    )
}

pub(super) fn too_slow(states: &[UnitState], wanted: &str, timeout: Duration) -> String {
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
    match systemd.flag(&state.path, "ConditionResult").await {
        Ok(Some(false)) => {
            format!("not started, a Condition of its unit file is not met: see `systemctl status {name}`")
        }
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
    let status = systemd.number(&state.path, interface, "ExecMainStatus").await.ok().flatten();
    Some(describe_result(result, status))
}

/// Whether it ended as it should: stopped by somebody, rather than failed.
pub(super) async fn ended_well(systemd: &Systemd, state: &UnitState) -> bool {
    state.active == "inactive" && own_result(systemd, state).await.is_none_or(|result| result == "success")
}

fn describe_result(result: String, status: Option<i64>) -> String {
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

    #[test]
    fn a_result_is_told_in_plain_words() {
        assert_eq!(describe_result("exit-code".into(), Some(1)), "exit status 1");
        assert_eq!(describe_result("signal".into(), Some(9)), "killed by signal 9");
        assert_eq!(describe_result("start-limit-hit".into(), Some(1)), "start-limit-hit");
    }

    #[test]
    fn leftovers_are_named() {
        let state = UnitState {
            name: "db.service".into(),
            load: "loaded".into(),
            active: "failed".into(),
            sub: "failed".into(),
            path: "/x".into(),
            job: None,
        };
        let text = describe_leftovers(&state, &[7, 8]);
        assert_eq!(text, "db.service is failed, but processes are left in its control group: 7, 8");
    }
}
