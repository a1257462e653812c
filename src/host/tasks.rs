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
    let ask = async {
        if systemd.stopping().await? {
            return Ok(Going::HostDown);
        }
        Ok::<_, BusError>(match systemd.own_job().await?.as_deref() {
            Some("restart" | "try-restart" | "reload-or-start") => Going::Restart,
            _ => Going::Stop,
        })
    };
    End::Going(timeout(JOB_PATIENCE, ask).await.ok().and_then(Result::ok).unwrap_or(Going::Stop))
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
