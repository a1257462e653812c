//! The connection to systemd: calls, signals, and getting it back when it is lost.
//! It knows what systemd says, not what that means for a group.
//!
//! Anybody on the system bus may send us a signal, so the sender is compared with the owner of systemd's name.

use futures_core::Stream;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use zbus::message::Type as MessageType;
use zbus::{Connection, Message, MessageStream, OwnedObjectPath, OwnedVariant};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub const UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const DBUS: &str = "org.freedesktop.DBus";
const DBUS_PATH: &str = "/org/freedesktop/DBus";

/// systemd answers in milliseconds; a daemon-reload of a large host may take seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call waits for a connection that is not there.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries to reach it, for those who have until a deadline.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_LAST: Duration = Duration::from_secs(2);

/// What happened, for whoever waits. Each is only a hint to look again, but for the two that carry facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A property of this watched unit changed.
    UnitChanged {
        path: String,
    },
    JobRemoved {
        unit: String,
        result: String,
    },
    /// A daemon-reload is over.
    Reloaded,
    /// `shutdown.target` has a job. (logind's PrepareForShutdown comes up to 5 s earlier, when nothing stops yet.)
    ShutdownQueued,
    /// systemd is reachable, for the first time or again (a restart of the bus, a daemon-reexec).
    Connected,
    Disconnected,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Whether systemd did what was asked is not known.
    #[error("systemd cannot be reached over the system bus: {0}")]
    Unreachable(String),
    #[error("systemd refused: {text}")]
    Refused { name: String, text: String },
}

impl BusError {
    pub fn is_no_such_unit(&self) -> bool {
        matches!(self, BusError::Refused { name, .. } if name.ends_with(".NoSuchUnit"))
    }
}

/// What `ListUnitsByNames` says of one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitState {
    /// As it was asked for; an alias keeps its name here.
    pub name: String,
    /// `loaded`, `not-found`, `masked`, `bad-setting`, `error`.
    pub load: String,
    pub active: String,
    pub sub: String,
    pub path: String,
    /// The queued job, if there is one: `start`, `stop`, `restart`, …
    pub job: Option<String>,
}

/// systemd, however often the way to it breaks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Systemd {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    link: Mutex<Option<Link>>,
    signals: broadcast::Sender<Signal>,
    /// Object paths of the units whose changes matter, with the names they were asked for.
    watched: Mutex<BTreeSet<String>>,
    /// systemd came back and did not take our subscription.
    deaf: Notify,
}

#[derive(Clone, Debug)]
struct Link {
    connection: Connection,
    /// Unique name of systemd on the bus; changes with a daemon-reexec.
    owner: String,
}

impl Default for Systemd {
    fn default() -> Self {
        Systemd::new()
    }
}

impl Systemd {
    pub fn new() -> Systemd {
        let (signals, _) = broadcast::channel(1024);
        let (link, watched) = (Mutex::default(), Mutex::default());
        Systemd { shared: Arc::new(Shared { link, signals, watched, deaf: Notify::new() }) }
    }

    /// Listen before you call: what happens between call and answer is kept.
    pub fn listen(&self) -> broadcast::Receiver<Signal> {
        self.shared.signals.subscribe()
    }

    pub fn connected(&self) -> bool {
        self.link().is_some()
    }

    /// Keeps the connection for as long as the process lives. Ends never.
    pub async fn keep_connected(self) {
        let mut pause = RECONNECT_FIRST;
        loop {
            if let Ok(mut stream) = self.connect().await {
                pause = RECONNECT_FIRST;
                self.tell(Signal::Connected);
                self.pump(&mut stream).await;
                *self.shared.link.lock().expect("no holder of this lock panics") = None;
                self.tell(Signal::Disconnected);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_LAST);
        }
    }

    async fn connect(&self) -> Result<MessageStream, BusError> {
        let builder = zbus::connection::Builder::system().method_timeout(CALL_TIMEOUT).max_queued(QUEUE);
        let connection = builder.build().await.map_err(sort_error)?;
        for rule in standing_rules() {
            add_match(&connection, &rule).await?;
        }
        let watched = self.shared.watched.lock().expect("no holder of this lock panics").clone();
        for path in watched {
            add_match(&connection, &unit_rule(&path)).await?;
        }
        // Only now: before it is pumped, its queue would fill with the answers to the calls above.
        let stream = MessageStream::from(&connection);
        let owner = subscribe(&connection).await?;
        *self.shared.link.lock().expect("no holder of this lock panics") = Some(Link { connection, owner });
        Ok(stream)
    }

    /// Ends when the connection does, or is of no use any more. It only sorts, so that the connection's queue never fills.
    async fn pump(&self, stream: &mut MessageStream) {
        loop {
            let next = poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx));
            let message = tokio::select! {
                message = next => message,
                () = self.shared.deaf.notified() => return,
            };
            let Some(Ok(message)) = message else { return };
            if message.message_type() == MessageType::Signal {
                self.sort_signal(&message).await;
            }
        }
    }

    async fn sort_signal(&self, message: &Message) {
        let header = message.header();
        let sender = header.sender().map(|name| name.to_string()).unwrap_or_default();
        let member = header.member().map(|name| name.as_str()).unwrap_or_default();
        if sender == DBUS {
            if member == "NameOwnerChanged" {
                self.owner_changed(message).await;
            }
            return;
        }
        let Some(owner) = self.link().map(|link| link.owner) else { return };
        if sender != owner {
            return;
        }
        match member {
            "JobRemoved" => {
                if let Ok((_, _, unit, result)) = message.body().deserialize::<(u32, OwnedObjectPath, String, String)>()
                {
                    self.tell(Signal::JobRemoved { unit, result });
                }
            }
            "PropertiesChanged" => {
                let path = header.path().map(|path| path.to_string()).unwrap_or_default();
                self.tell(Signal::UnitChanged { path });
            }
            "Reloading" if message.body().deserialize::<bool>() == Ok(false) => self.tell(Signal::Reloaded),
            "JobNew" => self.tell(Signal::ShutdownQueued),
            _ => {}
        }
    }

    /// A daemon-reexec: systemd comes back under another unique name and does not know us any more.
    async fn owner_changed(&self, message: &Message) {
        let Ok((name, _, new)) = message.body().deserialize::<(String, String, String)>() else { return };
        if name != SYSTEMD || new.is_empty() {
            return;
        }
        let Some(link) = self.link() else { return };
        // Spawned: the answer to our call arrives through the queue that this task empties.
        let systemd = self.clone();
        tokio::spawn(async move {
            match subscribe(&link.connection).await {
                Ok(owner) => {
                    if let Some(link) = &mut *systemd.shared.link.lock().expect("no holder of this lock panics") {
                        link.owner = owner;
                    }
                    systemd.tell(Signal::Connected);
                }
                // A connection that hears nothing is none; a new one tries again until it does.
                Err(_) => systemd.shared.deaf.notify_one(),
            }
        });
    }

    fn tell(&self, signal: Signal) {
        // An error means that nobody listens, which is nobody's loss.
        let _ = self.shared.signals.send(signal);
    }

    fn link(&self) -> Option<Link> {
        self.shared.link.lock().expect("no holder of this lock panics").clone()
    }

    /// The connection; one that is about to come (the first orders are given before it is there) is waited for.
    async fn awaited_link(&self) -> Result<Link, BusError> {
        let mut signals = self.listen();
        let come = async {
            loop {
                if let Some(link) = self.link() {
                    return link;
                }
                // Late or lost news lead to another look.
                let _ = signals.recv().await;
            }
        };
        let missing = |_| BusError::Unreachable("not connected".into());
        tokio::time::timeout(CONNECT_PATIENCE, come).await.map_err(missing)
    }

    /// After an error of an order that may be repeated: waits a little where systemd could not be reached (a restart of the bus, a
    /// daemon-reexec, a long reload) and time is left; otherwise the error is the end.
    pub async fn outlast(&self, error: BusError, deadline: Instant) -> Result<(), BusError> {
        let now = Instant::now();
        if !matches!(error, BusError::Unreachable(_)) || now >= deadline {
            return Err(error);
        }
        tokio::time::sleep_until(deadline.min(now + ASK_AGAIN)).await;
        Ok(())
    }

    async fn call<B, R>(&self, path: &str, interface: &str, method: &str, body: &B) -> Result<R, BusError>
    where
        B: serde::Serialize + zbus::DynamicType,
        R: DeserializeOwned + zbus::Type,
    {
        let link = self.awaited_link().await?;
        let reply = link
            .connection
            .call_method(Some(SYSTEMD), path, Some(interface), method, body)
            .await
            .map_err(sort_error)?;
        reply.body().deserialize::<R>().map_err(sort_error)
    }

    /// Queues a start. `fail`: it is refused if it contradicts a job that is queued.
    pub async fn start_unit(&self, unit: &str) -> Result<(), BusError> {
        self.job("StartUnit", unit, "fail").await
    }

    /// Queues a stop, in place of whatever is queued.
    pub async fn stop_unit(&self, unit: &str) -> Result<(), BusError> {
        self.job("StopUnit", unit, "replace").await
    }

    async fn job(&self, method: &str, unit: &str, mode: &str) -> Result<(), BusError> {
        let _job: OwnedObjectPath = self.call(MANAGER_PATH, MANAGER, method, &(unit, mode)).await?;
        Ok(())
    }

    pub async fn thaw_unit(&self, unit: &str) -> Result<(), BusError> {
        self.call(MANAGER_PATH, MANAGER, "ThawUnit", &(unit,)).await
    }

    /// Forgets a unit's failed state and its count of starts.
    pub async fn reset_failed(&self, unit: &str) -> Result<(), BusError> {
        self.call(MANAGER_PATH, MANAGER, "ResetFailedUnit", &(unit,)).await
    }

    /// The state of every unit of `names`, in that order. Loads what is not loaded.
    pub async fn list(&self, names: &[String]) -> Result<Vec<UnitState>, BusError> {
        type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        let rows: Vec<Row> = self.call(MANAGER_PATH, MANAGER, "ListUnitsByNames", &(names,)).await?;
        if rows.len() != names.len() {
            return Err(BusError::Unreachable(format!("asked for {} units, told of {}", names.len(), rows.len())));
        }
        let state = |(name, row): (&String, Row)| UnitState {
            name: name.clone(),
            load: row.2,
            active: row.3,
            sub: row.4,
            path: row.6.to_string(),
            job: (row.7 != 0).then_some(row.8),
        };
        Ok(names.iter().zip(rows).map(state).collect())
    }

    /// From now on changes of these units are signalled, across reconnections.
    pub async fn watch(&self, paths: Vec<String>) -> Result<(), BusError> {
        let link = self.awaited_link().await?;
        for path in paths {
            let new = self.shared.watched.lock().expect("no holder of this lock panics").insert(path.clone());
            if new {
                add_match(&link.connection, &unit_rule(&path)).await?;
            }
        }
        Ok(())
    }

    pub async fn property(&self, path: &str, interface: &str, name: &str) -> Result<OwnedVariant, BusError> {
        self.call(path, PROPERTIES, "Get", &(interface, name)).await
    }

    /// A property that is text, or nothing where it is missing or of another type.
    pub async fn text(&self, path: &str, interface: &str, name: &str) -> Result<String, BusError> {
        let value = self.property(path, interface, name).await?;
        Ok(String::try_from(value).unwrap_or_default())
    }

    /// Runs the generators and reads all units anew; ends when that is over. What follows from it comes as a signal.
    pub async fn reload(&self) -> Result<(), BusError> {
        self.call(MANAGER_PATH, MANAGER, "Reload", &()).await
    }

    /// Ends when systemd answers: a reload that was under way is over then.
    pub async fn answer(&self) -> Result<(), BusError> {
        self.system_state().await.map(drop)
    }

    /// Whether the host is going down.
    pub async fn stopping(&self) -> Result<bool, BusError> {
        Ok(self.system_state().await? == "stopping")
    }

    /// Whether this process ends, with its host, for rescue mode or alone: what goes down meanwhile is nobody's fault.
    pub async fn leaving(&self) -> Result<bool, BusError> {
        if matches!(self.system_state().await?.as_str(), "stopping" | "maintenance") {
            return Ok(true);
        }
        match self.own_job().await {
            Ok(job) => Ok(job.as_deref() == Some("stop")),
            // Run by hand, outside of any unit.
            Err(BusError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn system_state(&self) -> Result<String, BusError> {
        self.text(MANAGER_PATH, MANAGER, "SystemState").await
    }

    /// Reboots the host without stopping its units first (what `systemctl reboot --force` does): the last resort.
    pub async fn reboot(&self) -> Result<(), BusError> {
        self.call(MANAGER_PATH, MANAGER, "Reboot", &()).await
    }

    /// The type of the job queued for this process's own unit, if there is one: `stop`, `restart`, …
    pub async fn own_job(&self) -> Result<Option<String>, BusError> {
        let unit: OwnedObjectPath = self.call(MANAGER_PATH, MANAGER, "GetUnitByPID", &(std::process::id(),)).await?;
        let job = self.property(unit.as_str(), UNIT, "Job").await?;
        let (id, path) = <(u32, OwnedObjectPath)>::try_from(job).map_err(sort_error)?;
        if id == 0 {
            return Ok(None);
        }
        Ok(Some(self.text(path.as_str(), "org.freedesktop.systemd1.Job", "JobType").await?))
    }
}

/// More than a shutdown of a busy host sends in one go.
const QUEUE: std::num::NonZeroUsize = std::num::NonZeroUsize::new(512).expect("not zero");

async fn subscribe(connection: &Connection) -> Result<String, BusError> {
    let owner = connection
        .call_method(Some(DBUS), DBUS_PATH, Some(DBUS), "GetNameOwner", &(SYSTEMD,))
        .await
        .map_err(sort_error)?;
    let owner: String = owner.body().deserialize().map_err(sort_error)?;
    connection
        .call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "Subscribe", &())
        .await
        .map(drop)
        .map_err(sort_error)
        .or_else(|error| match error {
            BusError::Refused { ref name, .. } if name.ends_with(".AlreadySubscribed") => Ok(()),
            error => Err(error),
        })?;
    Ok(owner)
}

fn standing_rules() -> [String; 4] {
    let manager = |member| format!("type='signal',interface='{MANAGER}',member='{member}'");
    [
        manager("JobRemoved"),
        manager("Reloading"),
        format!("{},arg2='shutdown.target'", manager("JobNew")),
        format!("type='signal',sender='{DBUS}',member='NameOwnerChanged',arg0='{SYSTEMD}'"),
    ]
}

/// `arg0`: of the two signals of each change, the one with the unit's own state is enough.
fn unit_rule(path: &str) -> String {
    format!("type='signal',interface='{PROPERTIES}',member='PropertiesChanged',path='{path}',arg0='{UNIT}'")
}

async fn add_match(connection: &Connection, rule: &str) -> Result<(), BusError> {
    connection.call_method(Some(DBUS), DBUS_PATH, Some(DBUS), "AddMatch", &(rule,)).await.map(drop).map_err(sort_error)
}

/// An answer of systemd's is an answer; everything else leaves open what was done.
fn sort_error(error: zbus::Error) -> BusError {
    let open: &[&str] =
        &["NoReply", "Timeout", "TimedOut", "Disconnected", "ServiceUnknown", "NameHasNoOwner", "NoServer", "IOError"];
    let (name, text) = match &error {
        zbus::Error::MethodError(name, text, _) => (name.to_string(), text.clone().unwrap_or_default()),
        zbus::Error::FDO(inner) => (
            zbus::DBusError::name(inner).to_string(),
            zbus::DBusError::description(inner).unwrap_or_default().to_owned(),
        ),
        other => return BusError::Unreachable(other.to_string()),
    };
    if !name.contains('.') || open.iter().any(|open| name.ends_with(&format!(".{open}"))) {
        return BusError::Unreachable(format!("{name}: {text}"));
    }
    BusError::Refused { name, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unreachable_systemd_is_outlasted_and_only_until_the_deadline() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let systemd = Systemd::new();
            let unreachable = BusError::Unreachable("a reload".into());
            let refused = BusError::Refused { name: "x.NoSuchUnit".into(), text: "no".into() };
            let soon = Instant::now() + Duration::from_millis(20);
            assert_eq!(systemd.outlast(refused.clone(), soon).await, Err(refused));
            assert_eq!(systemd.outlast(unreachable.clone(), soon).await, Ok(()));
            assert!(Instant::now() >= soon, "it does not ask in a tight loop");
            assert_eq!(systemd.outlast(unreachable.clone(), soon).await, Err(unreachable));
        });
    }
}
