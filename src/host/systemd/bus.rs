//! The connection to systemd over the bus: signals, getting it back when it is lost, and saying when there is none to wait for.
//! It must not know what is asked of systemd, nor what that means for a group.
//!
//! Anybody on the system bus may send us a signal, so the sender is compared with the owner of systemd's name.

use super::news::{Exchange, News};
use super::together::Together;
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, broadcast};
use tokio::time::Instant;
use zbus::message::Type as MessageType;
use zbus::{Connection, Message, MessageStream, OwnedObjectPath};

pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNITS: &str = "/org/freedesktop/systemd1/unit";
const DBUS: &str = "org.freedesktop.DBus";
const DBUS_PATH: &str = "/org/freedesktop/DBus";

/// systemd answers in milliseconds; a daemon-reload of a large host may take seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that was lost is waited for, since a restart of the bus is short; after that `systemctl` is run instead.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries to reach it, for those who have until a deadline.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_LAST: Duration = Duration::from_secs(2);

/// dbus-daemon refuses what goes beyond 128 questions of one connection that wait for their answers.
const CALLS_AT_ONCE: usize = 64;

/// What happened, for whoever waits. Each is only a hint to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
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
    #[error("systemd cannot be reached: {0}")]
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
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    link: Mutex<Option<Link>>,
    signals: broadcast::Sender<Signal>,
    news: Arc<Exchange>,
    /// How units are looked at without a bus.
    pub(super) together: Together,
    /// Since when there is no connection, where there is none.
    lost: Mutex<Instant>,
}

/// How systemd can be asked at this moment.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Bus(Link),
    /// There is no bus to wait for.
    Systemctl,
}

#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) connection: Connection,
    /// Unique name of systemd on the bus; changes with a daemon-reexec.
    owner: String,
    /// Closed when the connection is given up.
    room: Arc<Semaphore>,
    /// Of no use any more: systemd came back and did not take our subscription, or nobody answers on it.
    deaf: Arc<Notify>,
}

impl Link {
    fn new(connection: Connection, owner: String) -> Link {
        Link { connection, owner, room: Arc::new(Semaphore::new(CALLS_AT_ONCE)), deaf: Arc::default() }
    }

    /// Nobody answered on this connection: a new one may be better, and until it is there nobody waits for it. A call on a former
    /// connection that ends late says nothing of its successor.
    pub(super) fn give_up(&self) {
        self.deaf.notify_one();
    }

    /// To be held for as long as an answer is waited for.
    pub(super) async fn room(&self) -> Result<SemaphorePermit<'_>, BusError> {
        self.room.acquire().await.map_err(|_| BusError::Unreachable("the connection to the bus was lost".into()))
    }
}

impl Default for Systemd {
    fn default() -> Self {
        Systemd::new()
    }
}

impl Systemd {
    pub fn new() -> Systemd {
        let (signals, _) = broadcast::channel(1024);
        let (link, news, together) = (Mutex::default(), Arc::default(), Together::default());
        let lost = Mutex::new(Instant::now());
        Systemd { shared: Arc::new(Shared { link, signals, news, together, lost }) }
    }

    /// Listen before you call: what happens between call and answer is kept.
    pub fn listen(&self) -> broadcast::Receiver<Signal> {
        self.shared.signals.subscribe()
    }

    /// News of these units, and whatever may mean such news.
    pub(super) fn listen_to(&self, units: &[String]) -> News {
        self.shared.news.listen(units)
    }

    pub fn connected(&self) -> bool {
        self.link().is_some()
    }

    /// Keeps the connection for as long as the process lives. Ends never.
    pub async fn keep_connected(self) {
        let mut pause = RECONNECT_FIRST;
        let mut absent = false;
        loop {
            // A bus that is stopped rather than dead accepts, and never says a word.
            if let Ok(Ok((mut stream, deaf))) = tokio::time::timeout(CALL_TIMEOUT, self.connect()).await {
                pause = RECONNECT_FIRST;
                absent = true;
                self.tell(Signal::Connected);
                self.pump(&mut stream, &deaf).await;
                *self.shared.lost.lock().expect("no holder of this lock panics") = Instant::now();
                let link = self.shared.link.lock().expect("no holder of this lock panics").take();
                link.inspect(|link| link.room.close());
                self.tell(Signal::Disconnected);
            } else if !std::mem::replace(&mut absent, true) {
                // It was not there to begin with.
                self.tell(Signal::Disconnected);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_LAST);
        }
    }

    async fn connect(&self) -> Result<(MessageStream, Arc<Notify>), BusError> {
        let builder = zbus::connection::Builder::system().method_timeout(CALL_TIMEOUT).max_queued(QUEUE);
        let connection = builder.build().await.map_err(sort_error)?;
        for rule in rules() {
            add_match(&connection, &rule).await?;
        }
        // Only now: before it is pumped, its queue would fill with the answers to the calls above.
        let stream = MessageStream::from(&connection);
        let owner = subscribe(&connection).await?;
        let link = Link::new(connection, owner);
        let deaf = link.deaf.clone();
        *self.shared.link.lock().expect("no holder of this lock panics") = Some(link);
        Ok((stream, deaf))
    }

    /// Ends when the connection does, or is of no use any more. It only sorts, so that the connection's queue never fills.
    async fn pump(&self, stream: &mut MessageStream, deaf: &Notify) {
        loop {
            let next = poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx));
            let message = tokio::select! {
                message = next => message,
                () = deaf.notified() => return,
            };
            let Some(Ok(message)) = message else { return };
            if message.message_type() == MessageType::Signal {
                self.sort_signal(&message).await;
            }
        }
    }

    async fn sort_signal(&self, message: &Message) {
        let header = message.header();
        let sender = header.sender().map(|name| name.as_str()).unwrap_or_default();
        if sender == DBUS {
            if header.member().is_some_and(|name| name.as_str() == "NameOwnerChanged") {
                self.owner_changed(message).await;
            }
            return;
        }
        let link = self.shared.link.lock().expect("no holder of this lock panics");
        let is_systemd = link.as_ref().is_some_and(|link| link.owner == sender);
        drop(link);
        if is_systemd {
            self.take_news(message);
        }
    }

    /// What a signal of systemd's means. Most of what a busy host tells is about units for which nobody here listens.
    fn take_news(&self, message: &Message) {
        let header = message.header();
        match header.member().map(|name| name.as_str()).unwrap_or_default() {
            "JobRemoved" => {
                type Body = (u32, OwnedObjectPath, String, String);
                if let Ok((_, _, unit, result)) = message.body().deserialize::<Body>() {
                    self.shared.news.job_removed(&unit, &result);
                }
            }
            "PropertiesChanged" => {
                header.path().inspect(|path| self.shared.news.unit_changed(path.as_str()));
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
                Err(_) => link.give_up(),
            }
        });
    }

    fn tell(&self, signal: Signal) {
        self.shared.news.everything_changed();
        // An error means that nobody listens, which is nobody's loss.
        let _ = self.shared.signals.send(signal);
    }

    fn link(&self) -> Option<Link> {
        self.shared.link.lock().expect("no holder of this lock panics").clone()
    }

    /// By the bus, and a connection that is about to come (the first orders are given before it is there) is waited for; without it
    /// after a while.
    pub(super) async fn way(&self) -> Way {
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
        let until = *self.shared.lost.lock().expect("no holder of this lock panics") + CONNECT_PATIENCE;
        tokio::time::timeout_at(until, come).await.map_or(Way::Systemctl, Way::Bus)
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
}

/// More than a busy host sends in one go, mostly; then it is the bus that keeps the rest.
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

/// One rule for all units: the bus takes some hundreds from a connection and refuses the next. `arg0`: of the two signals of each change,
/// the one with the unit's own state is enough.
fn rules() -> [String; 5] {
    let manager = |member| format!("type='signal',interface='{MANAGER}',member='{member}'");
    [
        manager("JobRemoved"),
        manager("Reloading"),
        format!("{},arg2='shutdown.target'", manager("JobNew")),
        format!("type='signal',sender='{DBUS}',member='NameOwnerChanged',arg0='{SYSTEMD}'"),
        format!(
            "type='signal',interface='{PROPERTIES}',member='PropertiesChanged',path_namespace='{UNITS}',arg0='{UNIT}'"
        ),
    ]
}

async fn add_match(connection: &Connection, rule: &str) -> Result<(), BusError> {
    connection.call_method(Some(DBUS), DBUS_PATH, Some(DBUS), "AddMatch", &(rule,)).await.map(drop).map_err(sort_error)
}

/// An answer of systemd's is an answer; everything else leaves open what was done.
pub(super) fn sort_error(error: zbus::Error) -> BusError {
    let open: &[&str] = &[
        "NoReply",
        "Timeout",
        "TimedOut",
        "Disconnected",
        "ServiceUnknown",
        "NameHasNoOwner",
        "NoServer",
        "IOError",
        // Of the bus, which did not pass the question on.
        "LimitsExceeded",
    ];
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
    use super::super::silent;
    use super::*;

    #[tokio::test]
    async fn a_lost_bus_is_waited_for_once_and_then_done_without() {
        let systemd = Systemd::new();
        let begun = Instant::now();
        assert!(matches!(systemd.way().await, Way::Systemctl));
        let first = begun.elapsed();
        assert!(first > CONNECT_PATIENCE / 2 && first < CONNECT_PATIENCE * 5, "{first:?}");
        let again = Instant::now();
        assert!(matches!(systemd.way().await, Way::Systemctl));
        assert!(again.elapsed() < CONNECT_PATIENCE / 2, "it was waited for once more");
    }

    #[tokio::test]
    async fn a_call_that_ends_late_on_a_former_connection_leaves_the_next_one_alone() {
        let link = async || {
            let connection = silent::connection(Duration::from_millis(50)).await;
            (MessageStream::from(&connection), Link::new(connection, String::new()))
        };
        let systemd = Systemd::new();
        let ((mut former_stream, former), (mut stream, next)) = (link().await, link().await);
        *systemd.shared.link.lock().unwrap() = Some(next.clone());
        let late = systemd.list_by_bus(&former, &[]).await;
        assert!(matches!(late, Err(BusError::Unreachable(_))), "{late:?}");
        let soon = Duration::from_millis(200);
        let given_up = tokio::time::timeout(soon, systemd.pump(&mut stream, &next.deaf)).await;
        assert!(given_up.is_err(), "nothing is known against it");
        tokio::time::timeout(soon * 50, systemd.pump(&mut former_stream, &former.deaf)).await.expect("it is deaf");
    }

    #[tokio::test]
    async fn of_all_units_those_that_are_listened_to_are_news_and_the_bus_needs_no_rule_for_each() {
        let systemd = Systemd::new();
        let mut news = systemd.listen_to(&["m7.service".to_owned()]);
        let woken = async |news: &News| {
            let until = Instant::now() + Duration::from_millis(50);
            news.wait(until).await;
            Instant::now() < until
        };
        news.read();
        let changed = |name: &str| {
            let signal = Message::signal(format!("{UNITS}/{name}"), PROPERTIES, "PropertiesChanged");
            systemd.take_news(&signal.build(&(UNIT,)).unwrap());
        };
        changed("m1000_2eservice");
        assert!(!woken(&news).await, "a stranger's");
        changed("m7_2eservice");
        assert!(woken(&news).await);
        assert!(rules().iter().all(|rule| !rule.contains("path='")), "{:?}", rules());
        news.read();
        let job = OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/1").unwrap();
        let removed = Message::signal(MANAGER_PATH, MANAGER, "JobRemoved");
        systemd.take_news(&removed.build(&(1_u32, job, "m7.service", "done")).unwrap());
        news.read();
        assert!(news.jobs().contains_key("m7.service"));
    }

    #[test]
    fn a_limit_of_the_bus_is_no_answer_of_systemds() {
        let error = zbus::fdo::Error::LimitsExceeded("pending replies".into());
        assert!(matches!(sort_error(error.into()), BusError::Unreachable(_)));
        let error = zbus::fdo::Error::AccessDenied("no".into());
        assert!(matches!(sort_error(error.into()), BusError::Refused { .. }));
    }

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
