//! Nodes, links and groups as objects of their own: what a status says of each, as properties.
//! The comments of properties are part of the introspection. It must not know how a status is had.

use super::news::link_state;
use crate::cluster::Status;
use crate::cluster::status::{GroupStatus, LinkStatus, NodeStatus, SCHEMA};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The status that was published last. All objects read from it, and none of them ever waits.
#[derive(Clone, Debug)]
pub(super) struct Mirror(Arc<Mutex<Arc<Published>>>);

/// With the places of all names in it: each property of each object is looked up by one.
#[derive(Debug)]
struct Published {
    status: Arc<Status>,
    nodes: HashMap<String, usize>,
    links: HashMap<String, usize>,
    groups: HashMap<String, usize>,
}

impl Published {
    fn new(status: Arc<Status>) -> Arc<Published> {
        let nodes = places(status.nodes.iter().map(|node| &node.name));
        let links = places(status.links.iter().map(|link| &link.name));
        let groups = places(status.groups.iter().map(|group| &group.name));
        Arc::new(Published { status, nodes, links, groups })
    }
}

fn places<'a>(names: impl Iterator<Item = &'a String>) -> HashMap<String, usize> {
    names.enumerate().map(|(place, name)| (name.clone(), place)).collect()
}

impl Mirror {
    /// Before the daemon has said anything.
    pub(super) fn nothing() -> Mirror {
        let word = String::new;
        let status = Status {
            schema: SCHEMA,
            cluster: word(),
            node: word(),
            version: word(),
            state: word(),
            nodes: vec![],
            links: vec![],
            groups: vec![],
            rollout: vec![],
            attention: vec![],
            maintenance: false,
        };
        Mirror(Arc::new(Mutex::new(Published::new(Arc::new(status)))))
    }

    /// What it was before.
    pub(super) fn replace(&self, status: Arc<Status>) -> Arc<Status> {
        let new = Published::new(status);
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), new).status.clone()
    }

    pub(super) fn status(&self) -> Arc<Status> {
        self.published().status.clone()
    }

    fn published(&self) -> Arc<Published> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub name: String,
    pub mirror: Mirror,
}

#[derive(Debug)]
pub(super) struct Link {
    pub name: String,
    pub mirror: Mirror,
}

#[derive(Debug)]
pub(super) struct Group {
    pub name: String,
    pub mirror: Mirror,
}

/// One that is about to be removed has empty properties.
macro_rules! read {
    ($object:ty, $list:ident, $status:ty) => {
        impl $object {
            fn read<T: Default>(&self, read: impl FnOnce(&$status) -> T) -> T {
                let published = self.mirror.published();
                let place = published.$list.get(&self.name);
                place.map(|place| read(&published.status.$list[*place])).unwrap_or_default()
            }
        }
    };
}

read!(Node, nodes, NodeStatus);
read!(Link, links, LinkStatus);
read!(Group, groups, GroupStatus);

#[zbus::interface(name = "org.hafailover1.Node")]
impl Node {
    /// Its name in the configuration.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.name.clone()
    }

    /// Whether it is the node that answers.
    #[zbus(property(emits_changed_signal = "const"))]
    fn local(&self) -> bool {
        self.read(|node| node.me)
    }

    /// As it is heard here: unheard, alive, late, lost or left.
    #[zbus(property)]
    fn state(&self) -> String {
        self.read(|node| node.state.clone())
    }

    /// Its configuration beside that of the node that answers: same, differs or unknown.
    #[zbus(property)]
    fn configuration(&self) -> String {
        let word = |node: &NodeStatus| match node.configuration_agrees {
            _ if node.me => "same",
            Some(true) => "same",
            Some(false) => "differs",
            None => "unknown",
        };
        self.read(|node| word(node).to_owned())
    }

    /// An operator wants it to own nothing, until Online is said there.
    #[zbus(property)]
    fn standby(&self) -> bool {
        self.read(|node| node.standby)
    }
}

#[zbus::interface(name = "org.hafailover1.Link")]
impl Link {
    /// Its name, as in status and journal.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.name.clone()
    }

    /// The network interface it uses.
    #[zbus(property)]
    fn interface(&self) -> String {
        self.read(|link| link.interface.clone())
    }

    /// One of usable, silent (a node is not heard on it) and unusable.
    #[zbus(property)]
    fn state(&self) -> String {
        self.read(|link| link_state(link).to_owned())
    }

    /// Nodes that are heard on it.
    #[zbus(property)]
    fn heard(&self) -> Vec<String> {
        self.read(|link| peers(link, true))
    }

    /// Nodes that are not heard on it.
    #[zbus(property)]
    fn silent(&self) -> Vec<String> {
        self.read(|link| peers(link, false))
    }
}

fn peers(link: &LinkStatus, heard: bool) -> Vec<String> {
    link.peers.iter().filter(|peer| peer.heard == heard).map(|peer| peer.node.clone()).collect()
}

#[zbus::interface(name = "org.hafailover1.Group")]
impl Group {
    /// Its name: the unit is hafailover-group@NAME.target.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.name.clone()
    }

    /// The node that owns it, as far as the node that answers knows; empty if nobody does.
    #[zbus(property)]
    fn owner(&self) -> String {
        self.read(|group| group.owner.clone().unwrap_or_default())
    }

    /// Counts its owners.
    #[zbus(property)]
    fn epoch(&self) -> u32 {
        self.read(|group| group.epoch)
    }

    /// What it is on the node that answers: inactive, starting, running, stopping, blocked, banned, stopped (by an operator) or unknown.
    #[zbus(property)]
    fn state(&self) -> String {
        self.read(|group| group.state.clone())
    }

    /// One sentence: why it is where it is, or why it is not. The method Why of the manager tells the whole chain.
    #[zbus(property)]
    fn why(&self) -> String {
        self.read(|group| group.why.clone())
    }

    /// Its virtual addresses, each as ADDRESS/PREFIX dev INTERFACE.
    #[zbus(property)]
    fn addresses(&self) -> Vec<String> {
        self.read(|group| group.addresses.clone())
    }

    /// Its units, in the order in which they are started.
    #[zbus(property)]
    fn members(&self) -> Vec<String> {
        self.read(|group| group.members.clone())
    }

    /// Why the node that answers does not try it again until Clear; empty if it may.
    #[zbus(property)]
    fn banned(&self) -> String {
        self.read(|group| group.banned.clone().unwrap_or_default())
    }

    /// An operator stopped it, and nobody has said Start since.
    #[zbus(property)]
    fn stopped_by_operator(&self) -> bool {
        self.read(|group| group.stopped_by_operator)
    }

    /// It is where it is by an operator's word: Failback= waits.
    #[zbus(property)]
    fn parked(&self) -> bool {
        self.read(|group| group.parked)
    }
}
