//! Starting units of a host as any program would that does nothing else: it asks systemd over the host's bus, without waiting for one
//! answer before the next question, until the last job is over. What the daemon costs is measured beside it. It must not know
//! what is measured.

use crate::host::Host;
use crate::sys::Result;
use crate::{ensure, sys};
use futures_core::Stream;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zbus::{Connection, MessageStream, OwnedObjectPath};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const JOB_REMOVED: &str = "type='signal',sender='org.freedesktop.systemd1',member='JobRemoved'";
/// dbus-daemon lets a connection wait for 128 answers at once.
const AT_ONCE: usize = 100;
const LONGEST: Duration = Duration::from_secs(60);

/// A connection to a host's bus, ready to be used.
#[derive(Debug)]
pub struct Starter {
    runtime: Runtime,
    connection: Connection,
    signals: MessageStream,
}

impl Starter {
    pub fn of(host: &Host) -> Result<Starter> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let bus = format!("unix:path={}", host.live_path("run/dbus/system_bus_socket")?.display());
        let (connection, signals) = runtime.block_on(async {
            let room = NonZeroUsize::new(4096).expect("not zero");
            let connection = zbus::connection::Builder::address(bus.as_str()).max_queued(room).build().await?;
            let rule = (JOB_REMOVED,);
            let dbus = "org.freedesktop.DBus";
            connection.call_method(Some(dbus), "/org/freedesktop/DBus", Some(dbus), "AddMatch", &rule).await?;
            connection.call_method(Some(SYSTEMD), PATH, Some(MANAGER), "Subscribe", &()).await?;
            let signals = MessageStream::from(&connection);
            Ok::<_, zbus::Error>((connection, signals))
        })?;
        Ok(Starter { runtime, connection, signals })
    }

    /// Ends when the jobs of all of them ended well.
    pub fn start(&mut self, units: &[String]) -> Result {
        let Starter { runtime, connection, signals } = self;
        runtime.block_on(async {
            let ended = tokio::time::timeout(LONGEST, async {
                let mut calls = order(connection, units);
                let mut open: BTreeSet<&str> = units.iter().map(String::as_str).collect();
                while !open.is_empty() || !calls.is_empty() {
                    tokio::select! {
                        Some(call) = calls.join_next() => call??,
                        message = next(signals) => {
                            let Some(Ok(message)) = message else { return Err("the host's bus went away".into()) };
                            type Removed = (u32, OwnedObjectPath, String, String);
                            // Answers to the calls come here too.
                            let Ok((_, _, unit, result)) = message.body().deserialize::<Removed>() else { continue };
                            let ours = open.remove(unit.as_str());
                            ensure!(!ours || result == "done", "the start of {unit} ended with {result}");
                        }
                    }
                }
                sys::Result::Ok(())
            });
            ended.await.map_err(|_| format!("not all units were started within {LONGEST:?}"))?
        })
    }
}

fn order(connection: &Connection, units: &[String]) -> JoinSet<zbus::Result<()>> {
    let (room, mut calls) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for unit in units {
        let (connection, unit, room) = (connection.clone(), unit.clone(), room.clone());
        calls.spawn(async move {
            let _room = room.acquire().await.expect("nobody closes it");
            let call = (unit.as_str(), "fail");
            connection.call_method(Some(SYSTEMD), PATH, Some(MANAGER), "StartUnit", &call).await.map(drop)
        });
    }
    calls
}

async fn next(signals: &mut MessageStream) -> Option<zbus::Result<zbus::Message>> {
    poll_fn(|context| Pin::new(&mut *signals).poll_next(context)).await
}
