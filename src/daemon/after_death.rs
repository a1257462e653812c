//! What follows a daemon's end: whether another one goes on with the groups; if not, they are stopped and confirmed, or the host ends.
//! It must not know how a group is stopped: a daemon with one event more does that.

use super::{Fault, live, paths, report, say};
use crate::host::lock::LockError;
use crate::host::state::Places;
use crate::host::systemd::bus::{BusError, Systemd};
use crate::host::systemd::systemctl::{self, Job, Main};
use crate::host::{Mode, clock, deaths, held};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// How long systemd may take to say whether it will start the daemon again.
const BUS_PATIENCE: Duration = Duration::from_secs(2);
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// How the daemon ended, as systemd tells.
#[derive(Clone, Copy, Debug)]
struct DaemonEnd<'a> {
    result: &'a str,
    /// It found its budget of deaths spent, or mistakes in its configuration.
    gave_up: bool,
    /// The unit's own condition holds. Without, systemd starts nothing, and tells nobody either.
    startable: bool,
}

/// `hafailoverd --after-death`: runs as `ExecStopPost=` after every end. Where another daemon follows within the restart budget,
/// it adopts what runs; otherwise everything is stopped, confirmed, and told to the peers, or the host reboots.
pub fn after_death() -> ExitCode {
    let places = Places::default();
    let result = std::env::var("SERVICE_RESULT").unwrap_or_default();
    let gave_up = std::env::var("EXIT_STATUS").is_ok_and(|status| status == deaths::EXIT_GAVE_UP.to_string());
    let end = DaemonEnd { result: &result, gave_up, startable: paths().cluster.exists() };
    let job = if end.is_clean() && !held::any(&places) { Job::None } else { own_job() };
    if end.is_followed(job, || spare_deaths(&places, &result)) || !held::any(&places) {
        return ExitCode::SUCCESS;
    }
    say!("hafailoverd ended ({result}) and no other one follows: stopping what runs here");
    match live(&places, Mode::AfterDeath) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fault::Lock(LockError::Held { pid })) if looks_after_groups(&pid, main_process()) => {
            report(Err(Fault::Lock(LockError::Held { pid })))
        }
        Err(fault) => {
            let _ = report(Err(fault));
            report(reboot())
        }
    }
}

impl DaemonEnd<'_> {
    fn is_clean(&self) -> bool {
        matches!(self.result, "success" | "exec-condition" | "condition" | "")
    }

    /// Whether another daemon goes on with what runs. `spare`: counts a death, and says whether the budget holds.
    fn is_followed(&self, job: Job, spare: impl FnOnce() -> bool) -> bool {
        if job == Job::Stop || !self.startable {
            return false;
        }
        // An end that is no failure is followed only where a restart is under way, or may be.
        if self.is_clean() { matches!(job, Job::Restart | Job::Unknown) } else { !self.gave_up && spare() }
    }
}

/// Whether who holds the lock is the daemon, alive: not one that hangs at its end, and not a stranger.
fn looks_after_groups(holder: &str, main: Option<Main>) -> bool {
    main.is_some_and(|main| main.live && !main.pid.is_empty() && (holder.is_empty() || holder == main.pid))
}

/// Counts this death. False if the budget is spent; the next start will say so and end.
fn spare_deaths(places: &Places, result: &str) -> bool {
    match deaths::record(&places.run, clock::now()) {
        Ok(deaths) if deaths < deaths::BUDGET => {
            let (budget, window) = (deaths::BUDGET, deaths::WINDOW);
            say!("hafailoverd ended by {result}: death {deaths} of {budget} within {window:?}; what runs here goes on");
            return true;
        }
        Ok(_) => say!("hafailoverd ended by {result} once too often"),
        Err(error) => say!("hafailoverd ended by {result}, and its deaths cannot be counted: {error}"),
    }
    if let Err(error) = deaths::give_up(&places.run) {
        say!("cannot note that this node gave up: {error}");
    }
    false
}

/// Over the bus; where that is dead, by systemctl. Without any answer the groups run on: their next owner is this host's next
/// daemon, or finds them by the network.
fn own_job() -> Job {
    let ask = async |systemd: Systemd| {
        if systemd.stopping().await.unwrap_or(false) {
            return Job::Stop;
        }
        match systemd.own_job().await {
            Ok(None) => Job::None,
            Ok(Some(job)) if job == "stop" => Job::Stop,
            Ok(Some(_)) => Job::Restart,
            Err(_) => Job::Unknown,
        }
    };
    match ask_systemd(ask) {
        Some(job) if job != Job::Unknown => job,
        _ => systemctl::own_job(),
    }
}

/// Nothing where systemd does not say.
fn main_process() -> Option<Main> {
    let ask = async |systemd: Systemd| {
        let state = systemd.list(&[systemctl::OWN_UNIT.to_owned()]).await?.remove(0);
        let pid = systemd.number(&state.path, SERVICE, "MainPID").await?;
        let pid = pid.filter(|pid| *pid != 0).map(|pid| pid.to_string()).unwrap_or_default();
        Ok::<_, BusError>(Main { pid, live: systemctl::is_live(&state.active) })
    };
    match ask_systemd(ask) {
        Some(Ok(main)) => Some(main),
        _ => systemctl::main_process().ok(),
    }
}

/// The last resort: what runs here cannot be confirmed stopped, so this host must end.
fn reboot() -> Result<(), Fault> {
    say!("a stop could not be confirmed: rebooting this host, so that another may take its groups");
    // No sync before it: that waits for a disk for ever, and systemd does it at its end, for a while.
    match ask_systemd(async |systemd| systemd.reboot().await) {
        Some(Ok(())) => return Ok(()),
        Some(Err(error)) => say!("the bus does not reboot this host: {error}"),
        None => say!("the bus does not reboot this host: systemd does not answer"),
    }
    systemctl::run(&["reboot", "--force"]).map(drop).map_err(Fault::Reboot)
}

/// `None` if systemd does not answer in time.
fn ask_systemd<T>(question: impl AsyncFnOnce(Systemd) -> T) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let ask = async {
        let systemd = Systemd::new();
        tokio::spawn(systemd.clone().keep_connected());
        while !systemd.connected() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        question(systemd).await
    };
    let answer = runtime.block_on(async { tokio::time::timeout(BUS_PATIENCE, ask).await.ok() });
    runtime.shutdown_background();
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: DaemonEnd<'_> = DaemonEnd { result: "signal", gave_up: false, startable: true };
    const ENDED: DaemonEnd<'_> = DaemonEnd { result: "success", ..KILLED };

    fn uncounted() -> bool {
        unreachable!("no death is counted")
    }

    #[test]
    fn a_death_within_the_budget_is_followed_and_so_is_a_restart() {
        for job in [Job::None, Job::Restart, Job::Unknown] {
            assert!(KILLED.is_followed(job, || true), "{job:?}");
            assert!(!KILLED.is_followed(job, || false), "{job:?}: the budget is spent");
        }
        assert!(ENDED.is_followed(Job::Restart, uncounted));
        assert!(ENDED.is_followed(Job::Unknown, uncounted));
        assert!(!ENDED.is_followed(Job::None, uncounted));
        assert!(!DaemonEnd { gave_up: true, ..KILLED }.is_followed(Job::None, uncounted));
    }

    #[test]
    fn nobody_follows_where_the_unit_is_stopped_or_cannot_be_started() {
        for end in [KILLED, ENDED] {
            assert!(!end.is_followed(Job::Stop, uncounted), "{end:?}");
            let without_file = DaemonEnd { startable: false, ..end };
            for job in [Job::None, Job::Restart, Job::Unknown] {
                assert!(!without_file.is_followed(job, uncounted), "{without_file:?}, {job:?}");
            }
        }
    }

    #[test]
    fn only_a_daemon_that_lives_looks_after_the_groups() {
        let main = |pid: &str, live| Some(Main { pid: pid.into(), live });
        assert!(looks_after_groups("412", main("412", true)));
        assert!(looks_after_groups("", main("412", true)), "it had no room to write who it is");
        assert!(!looks_after_groups("412", main("412", false)), "it hangs at its end");
        assert!(!looks_after_groups("700", main("412", true)), "a stranger");
        assert!(!looks_after_groups("", main("", true)));
        assert!(!looks_after_groups("412", None));
    }
}
