//! What follows a daemon's end: whether another one goes on with the groups; if not, they are stopped and confirmed, or the host ends.
//! It must not know how a group is stopped: a daemon with one event more does that.

use super::{Fault, live, report, say};
use crate::host::state::Places;
use crate::host::systemd::bus::Systemd;
use crate::host::{Mode, clock, deaths, held};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// How long systemd may take to say whether it will start the daemon again.
const BUS_PATIENCE: Duration = Duration::from_secs(2);

/// `hafailoverd --after-death`: runs as `ExecStopPost=` after every end. Where another daemon follows within the restart budget,
/// it adopts what runs; otherwise everything is stopped, confirmed, and told to the peers, or the host reboots.
pub fn after_death() -> ExitCode {
    let places = Places::default();
    let result = std::env::var("SERVICE_RESULT").unwrap_or_default();
    let gave_up = std::env::var("EXIT_STATUS").is_ok_and(|status| status == deaths::EXIT_GAVE_UP.to_string());
    let clean = matches!(result.as_str(), "success" | "exec-condition" | "condition" | "");
    let job = if clean && !held::any(&places) { Job::None } else { own_job() };
    let follows = match (clean, job) {
        (_, Job::Stop) => false,
        // An end that is no failure is followed only where a restart is under way, or may be.
        (true, job) => matches!(job, Job::Restart | Job::Unknown),
        (false, _) => !gave_up && spare_deaths(&places, &result),
    };
    if follows || !held::any(&places) {
        return ExitCode::SUCCESS;
    }
    say!("hafailoverd ended ({result}) and no other one follows: stopping what runs here");
    match live(&places, Mode::AfterDeath) {
        Ok(()) => ExitCode::SUCCESS,
        // Somebody else looks after the groups.
        Err(Fault::Lock(error)) => report(Err(Fault::Lock(error))),
        Err(fault) => {
            let _ = report(Err(fault));
            report(reboot())
        }
    }
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

/// What systemd is about to do with this unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    None,
    Restart,
    /// Of this unit, or of the whole host.
    Stop,
    /// systemd does not say. The groups run on: their next owner is this host's next daemon, or finds them by the network.
    Unknown,
}

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
    ask_systemd(ask).unwrap_or(Job::Unknown)
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
    // The one process this program starts: systemctl reaches systemd when the bus is dead.
    match std::process::Command::new("systemctl").args(["reboot", "--force"]).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Fault::Reboot(status.to_string())),
        Err(error) => Err(Fault::Reboot(error.to_string())),
    }
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
