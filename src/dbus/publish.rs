//! Makes a new status visible on the bus: objects that come and go, properties that changed, signals. It is woken when the
//! daemon says that something may have changed, and costs nothing before.

use super::PATH;
use super::desk::Desk;
use super::news::{News, news};
use super::objects::{Group, Link, Mirror, Node};
use super::path::{Kind, object};
use super::server::Manager;
use crate::cluster::Status;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{Connection, OwnedVariant, Variant, fdo};

/// A takeover changes several things within a millisecond: they are read together, and not in its way.
const SETTLE: Duration = Duration::from_millis(20);
/// However much changes, the beat thread is not asked more often than this for it.
const GAP: Duration = Duration::from_millis(80);

type Properties = HashMap<String, OwnedVariant>;

pub(super) struct Publisher {
    connection: Connection,
    desk: Arc<Desk>,
    mirror: Mirror,
    /// There is a status to compare with.
    begun: bool,
    /// The last question had no answer.
    due: bool,
    /// What every object's properties were when they were told last, by its path.
    told: BTreeMap<String, Properties>,
}

impl Publisher {
    pub(super) fn new(connection: Connection, desk: Arc<Desk>, mirror: Mirror) -> Publisher {
        Publisher { connection, desk, mirror, begun: false, due: true, told: BTreeMap::new() }
    }

    pub(super) async fn run(&mut self) {
        loop {
            if !self.due {
                self.desk.news().await;
                sleep(SETTLE).await;
            }
            // A bus that takes no signals any more closes the connection, which whoever serves on it sees.
            let _ = self.publish().await;
            sleep(GAP).await;
        }
    }

    /// A daemon that does not answer leaves everything as it was, and is asked again.
    pub(super) async fn publish(&mut self) -> zbus::Result<()> {
        self.due = true;
        let Ok(status) = self.desk.published().await else { return Ok(()) };
        self.due = false;
        let before = self.mirror.replace(status.clone());
        self.come_and_go(&status).await?;
        for (kind, name) in objects(&status) {
            self.tell_properties(Some(kind), object(kind, &name)).await?;
        }
        self.tell_properties(None, PATH.to_owned()).await?;
        if std::mem::replace(&mut self.begun, true) {
            let emitter = SignalEmitter::new(&self.connection, PATH)?;
            for one in news(&before, &status) {
                tell(&emitter, &one).await?;
            }
        }
        Ok(())
    }

    async fn come_and_go(&mut self, status: &Status) -> zbus::Result<()> {
        let wanted = objects(status);
        let wanted_paths: BTreeSet<String> = wanted.iter().map(|(kind, name)| object(*kind, name)).collect();
        let server = self.connection.object_server();
        for path in self.told.keys().filter(|path| *path != PATH && !wanted_paths.contains(*path)) {
            // Whatever of the three it is; the others are not there.
            let _ = server.remove::<Node, _>(path.as_str()).await;
            let _ = server.remove::<Link, _>(path.as_str()).await;
            let _ = server.remove::<Group, _>(path.as_str()).await;
        }
        self.told.retain(|path, _| path == PATH || wanted_paths.contains(path));
        for (kind, name) in wanted {
            let path = object(kind, &name);
            if self.told.contains_key(&path) {
                continue;
            }
            let mirror = self.mirror.clone();
            let path = path.as_str();
            match kind {
                Kind::Node => drop(server.at(path, Node { name, mirror }).await?),
                Kind::Link => drop(server.at(path, Link { name, mirror }).await?),
                Kind::Group => drop(server.at(path, Group { name, mirror }).await?),
            }
        }
        Ok(())
    }

    async fn tell_properties(&mut self, kind: Option<Kind>, path: String) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(&self.connection, path.clone())?;
        let (interface, now) = match kind {
            Some(Kind::Node) => self.properties::<Node>(&path, &emitter).await?,
            Some(Kind::Link) => self.properties::<Link>(&path, &emitter).await?,
            Some(Kind::Group) => self.properties::<Group>(&path, &emitter).await?,
            None => self.properties::<Manager>(&path, &emitter).await?,
        };
        if let Some(before) = self.told.get(&path) {
            let changed = now.iter().filter(|(key, value)| before.get(*key) != Some(value));
            let changed: HashMap<&str, Variant<'_>> = changed
                .map(|(key, value)| Ok((key.as_str(), Variant::try_from(value)?)))
                .collect::<zbus::Result<_>>()?;
            if !changed.is_empty() {
                fdo::Properties::properties_changed(&emitter, interface, changed, Cow::Borrowed(&[])).await?;
            }
        }
        self.told.insert(path, now);
        Ok(())
    }

    async fn properties<I: Interface>(
        &self,
        path: &str,
        emitter: &SignalEmitter<'_>,
    ) -> zbus::Result<(zbus::names::InterfaceName<'static>, Properties)> {
        let server = self.connection.object_server();
        let interface = server.interface::<_, I>(path).await?;
        let properties = interface.get().await.get_all(server, &self.connection, None, emitter).await?;
        Ok((I::name(), properties))
    }
}

/// All that has an object of its own.
fn objects(status: &Status) -> Vec<(Kind, String)> {
    let nodes = status.nodes.iter().map(|node| (Kind::Node, node.name.clone()));
    let links = status.links.iter().map(|link| (Kind::Link, link.name.clone()));
    let groups = status.groups.iter().map(|group| (Kind::Group, group.name.clone()));
    nodes.chain(links).chain(groups).collect()
}

async fn tell(to: &SignalEmitter<'_>, news: &News) -> zbus::Result<()> {
    match news {
        News::LocalState { state, before } => Manager::local_state_changed(to, state, before).await,
        News::GroupOwner { group, owner, before } => Manager::group_owner_changed(to, group, owner, before).await,
        News::GroupState { group, state, before } => Manager::group_state_changed(to, group, state, before).await,
        News::NodeState { node, state, before } => Manager::node_state_changed(to, node, state, before).await,
        News::LinkState { link, state, before } => Manager::link_state_changed(to, link, state, before).await,
        News::Alarm(text) => Manager::alarm(to, text).await,
        News::AlarmOver(text) => Manager::alarm_over(to, text).await,
    }
}
