//! The ends of everything the host thread set going, and the small tasks that belong to no other file.

use super::guards::Checked;
use super::reload::Read;
use super::running;
use super::state::Places;
use super::systemd::bus::{BusError, Systemd};
use super::systemd::guard;
use super::systemd::units::Seen;
use crate::cluster::{OpId, Outcome};
use crate::config::Paths;
use crate::config::model::{Config, GroupId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How a task ended, and so what is to be done next.
#[derive(Debug)]
pub(super) enum End {
    Started {
        op: OpId,
        group: GroupId,
        outcome: Outcome,
    },
    /// A stop or a verification.
    Finished {
        op: OpId,
        outcome: Outcome,
    },
    Inspected {
        op: OpId,
        group: GroupId,
        seen: Result<Seen, BusError>,
    },
    Guards(Box<Result<Option<Checked>, BusError>>),
    /// Whether the host is going down.
    HostStopping(bool),
    /// Whether the bus stayed away.
    BusGone(bool),
    Going(Going),
    /// The beat thread runs, and the bus is there or was waited for.
    Ready,
    Reloaded(Box<Read>),
    /// The adopted configuration was written down, or not.
    Noted {
        op: OpId,
        config: Arc<Config>,
        outcome: Outcome,
    },
    /// systemd read its units anew; or why not.
    SystemdReloaded(Option<BusError>),
}

/// What a SIGTERM means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Going {
    /// `systemctl restart`: the next daemon goes on with the groups.
    Restart,
    /// `systemctl stop`, or a signal by hand.
    Stop,
    /// With the whole host.
    HostDown,
}

/// A daemon without a bus can still own addresses and vote: it does not wait for it longer.
const BUS_PATIENCE: Duration = Duration::from_secs(1);
/// A restart of the bus is over by then.
const BUS_RESTART: Duration = Duration::from_secs(2);
/// systemd answers at once or has other troubles; a stop is what a SIGTERM means without an answer. Longer than a lost bus is waited for.
const JOB_PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn ready(progress: Arc<AtomicU64>, systemd: Systemd) -> End {
    let patience = Instant::now() + BUS_PATIENCE;
    while progress.load(Ordering::Relaxed) == 0 || !(systemd.connected() || Instant::now() >= patience) {
        sleep(Duration::from_millis(5)).await;
    }
    End::Ready
}

pub(super) async fn going(systemd: Systemd) -> End {
    let ask = || ask_going(systemd.clone());
    End::Going(answered(&systemd, ask).await.unwrap_or(Going::Stop))
}

async fn ask_going(systemd: Systemd) -> Result<Going, BusError> {
    if systemd.stopping().await? {
        return Ok(Going::HostDown);
    }
    Ok(match systemd.own_job().await?.as_deref() {
        Some("restart" | "try-restart" | "reload-or-start") => Going::Restart,
        _ => Going::Stop,
    })
}

/// Asked again while no answer came: the SIGTERM that systemd sends to all of this unit also ends a `systemctl` that was run by then.
async fn answered<A>(systemd: &Systemd, ask: impl Fn() -> A) -> Option<Going>
where
    A: Future<Output = Result<Going, BusError>>,
{
    let deadline = Instant::now() + JOB_PATIENCE;
    let asking = async {
        loop {
            match ask().await {
                Ok(going) => return Some(going),
                Err(error) => systemd.outlast(error, deadline).await.ok()?,
            }
        }
    };
    timeout(JOB_PATIENCE, asking).await.ok().flatten()
}

pub(super) async fn host_stopping(systemd: Systemd) -> End {
    End::HostStopping(systemd.stopping().await.unwrap_or(false))
}

pub(super) async fn bus_gone(systemd: Systemd) -> End {
    sleep(BUS_RESTART).await;
    End::BusGone(!systemd.connected())
}

/// Memory, and not this thread all the same: it is large where there are many groups.
pub(super) async fn note(places: Places, op: OpId, config: Arc<Config>) -> End {
    let (written, to) = (config.clone(), places.run.display().to_string());
    let write = tokio::task::spawn_blocking(move || running::note(&places, &written)).await;
    let outcome = match write {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(error)) => Outcome::Failed(format!("the new configuration cannot be written to {to}: {error}")),
        Err(error) => Outcome::Unknown(error.to_string()),
    };
    End::Noted { op, config, outcome }
}

/// A daemon that starts has read the files as they are: members that are new in them have their guards before anybody adopts them.
pub(super) async fn load_guards(paths: Paths, systemd: Systemd) -> End {
    match guard::digests(paths).await.lacks_files() {
        true => reload_systemd(systemd).await,
        false => End::SystemdReloaded(None),
    }
}

pub(super) async fn reload_systemd(systemd: Systemd) -> End {
    End::SystemdReloaded(systemd.reload().await.err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::ready;

    #[tokio::test]
    async fn a_question_that_a_sigterm_ended_is_asked_again_and_a_refused_one_is_not() {
        let (systemd, asked) = (Systemd::new(), Cell::new(0));
        let killed_once = || match asked.replace(asked.get() + 1) {
            0 => ready(Err(BusError::Unreachable("systemctl show: signal: 15 (SIGTERM)".into()))),
            _ => ready(Ok(Going::Restart)),
        };
        assert_eq!(answered(&systemd, killed_once).await, Some(Going::Restart));
        let refused = || ready(Err(BusError::Refused { name: "x.NoSuchUnit".into(), text: "run by hand".into() }));
        assert_eq!(answered(&systemd, refused).await, None);
    }
}
