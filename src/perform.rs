//! An action of the heart to the call on the thread it belongs to. What ends at once (files in `/run`) answers at once; what
//! takes its time (netlink) or belongs to the host thread answers later, as an event. It must not decide anything.

pub mod addresses;

use crate::cluster::{Action, Actual, Event, Grant, HeldPhase, OpId, Outcome, Saved};
use crate::config::model::{Config, GroupId, MOST_LINKS, VirtualAddress};
use crate::host::address::{Neighbours, Netlink};
use crate::host::held;
use crate::host::orders::ToHost;
use crate::host::state::{self, Identity, Places};
use crate::journal::{JournalHandle, Level};
use crate::links::udp::UdpLink;
use crate::wire::seal::KeySet;
use crate::wire::{Message, codec};
use addresses::Addresses;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{OwnedPermit, Sender};

/// All that the beat thread acts on.
#[derive(Debug)]
pub struct Edges {
    pub config: Arc<Config>,
    pub keys: KeySet,
    pub places: Places,
    /// Whose state the copy in `/run` is.
    pub identity: Identity,
    pub netlink: Netlink,
    pub neighbours: Neighbours,
    pub addresses: Addresses,
    pub links: Vec<UdpLink>,
    pub host: Sender<ToHost>,
    pub journal: JournalHandle,
    /// The newest look at each group's members: the addresses are added to the answer here.
    inspecting: BTreeMap<GroupId, OpId>,
    /// What the host thread had no room for. Only the newest counts.
    unsaved: Option<Saved>,
    /// The same of the configuration: no order goes out before it, which would be carried out by an old one.
    untold: Option<Arc<Config>>,
    /// Room in the host thread's queue for the last state and for the end: a full queue must not swallow them.
    last: Option<[OwnedPermit<ToHost>; 2]>,
    pub exit: bool,
}

impl Edges {
    #[expect(clippy::too_many_arguments, reason = "one call, and each part comes from elsewhere")]
    pub fn new(
        config: Arc<Config>,
        keys: KeySet,
        places: Places,
        identity: Identity,
        netlink: Netlink,
        neighbours: Neighbours,
        host: Sender<ToHost>,
        journal: JournalHandle,
    ) -> Edges {
        // More come only from what another version kept in /run.
        let links = config.links.iter().take(MOST_LINKS).map(|link| UdpLink::new(link, config.me)).collect();
        let room = || host.clone().try_reserve_owned().expect("a new queue has room for more than the last two orders");
        let last = Some([room(), room()]);
        let addresses = Addresses::new(&config);
        Edges {
            config,
            keys,
            places,
            identity,
            netlink,
            neighbours,
            addresses,
            links,
            host,
            journal,
            inspecting: BTreeMap::new(),
            unsaved: None,
            untold: None,
            last,
            exit: false,
        }
    }

    /// Carries an action out, or hands it on. The answer is there if it ended at once.
    pub fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Send(message) => self.send(&message),
            Action::Hold { op, group, grant, phase } => return Some(self.hold(op, group, &grant, phase)),
            Action::Forget { group } => {
                if let Err(error) = held::forget(&self.places, &self.config.group(group).name) {
                    self.journal
                        .note(Level::Warning, format!("cannot remove what /run holds of a stopped group: {error}"));
                }
            }
            Action::Inspect { op, group } => {
                self.inspecting.insert(group, op);
                return self.order(op, ToHost::Inspect { op, group });
            }
            Action::AddAddresses { op, group } => return self.add_addresses(op, group),
            Action::RemoveAddresses { op, group } => self.remove_addresses(op, group),
            Action::RepairAddress { op, group, index } => self.repair_address(op, group, index),
            Action::Announce { group } => self.announce(group),
            Action::Probe { group } => return self.probe(group),
            Action::StartMembers { op, group } => return self.order(op, ToHost::StartMembers { op, group }),
            Action::StopMembers { op, group } => return self.order(op, ToHost::StopMembers { op, group }),
            Action::VerifyStopped { op, group } => return self.order(op, ToHost::VerifyStopped { op, group }),
            Action::CheckGuards { op, to } => return self.order(op, ToHost::CheckGuards { op, to }),
            Action::DropAddresses { op, group, indexes } => {
                self.drop_addresses(op, group, &indexes);
            }
            Action::DropMembers { op, group, units } => {
                return self.order(op, ToHost::DropMembers { op, group, units });
            }
            Action::Note { op, config } => return self.order(op, ToHost::Note { op, config }),
            Action::Configure(config) => self.configure(config),
            Action::Save(saved) => self.save(saved),
            Action::Report(change) => self.journal.report(change, &self.config),
            Action::Reply { request, answer } => self.tell(ToHost::Reply { request, answer }),
            Action::Exit => self.exit = true,
        }
        None
    }

    /// The members were looked at; the addresses are known here.
    pub fn inspected(&mut self, op: OpId, all_active: bool, any_active: bool) -> Option<Event> {
        let group = self.inspecting.iter().find(|(_, newest)| **newest == op).map(|(group, _)| *group)?;
        self.inspecting.remove(&group);
        let addresses = &self.config.group(group).addresses;
        let here = |address: &VirtualAddress| self.netlink.find(address.address).is_some();
        let addresses = (0..addresses.len()).filter(|index| here(&addresses[*index])).collect();
        Some(finished(op, Outcome::Inspected(Actual { all_active, any_active, addresses })))
    }

    /// Whatever waited for room in the host thread's queue.
    pub fn retry(&mut self) {
        self.tell_config();
        if let Some(saved) = self.unsaved.take() {
            self.pass_to_disk(saved);
        }
    }

    /// The last state, if it found no room before, and the end, if the heart is done. Neither can get lost.
    pub fn finish(&mut self) {
        let Some([save, exit]) = self.last.take() else { return };
        if let Some(saved) = self.unsaved.take() {
            save.send(ToHost::Save(saved));
        }
        if self.exit {
            exit.send(ToHost::Exit);
        }
    }

    /// To the host thread, without waiting. Nobody hangs on what is told this way.
    pub fn tell(&self, message: ToHost) {
        if self.host.try_send(message).is_err() {
            self.journal.note(
                Level::Warning,
                "the part of the daemon that speaks to systemd does not keep up: an answer to an operator was lost",
            );
        }
    }

    fn order(&mut self, op: OpId, order: ToHost) -> Option<Event> {
        let refused = !self.tell_config() || self.host.try_send(order).is_err();
        refused.then(|| {
            finished(op, Outcome::Unknown("the part of the daemon that speaks to systemd does not keep up".into()))
        })
    }

    fn configure(&mut self, config: Arc<Config>) {
        self.addresses.configure(&self.config, &config);
        self.config = config.clone();
        if let Err(error) = self.neighbours.watch(self.addresses.all()) {
            let text = format!("cannot watch for answers to probes for new addresses: {error}");
            self.journal.note(Level::Error, text);
        }
        self.untold = Some(config);
        self.tell_config();
    }

    /// Whether the host thread goes by the newest configuration, or will before it reads what follows.
    fn tell_config(&mut self) -> bool {
        let Some(config) = self.untold.take() else { return true };
        if let Err(ToHost::Configure(config)) =
            self.host.try_send(ToHost::Configure(config)).map_err(TrySendError::into_inner)
        {
            self.untold = Some(config);
        }
        self.untold.is_none()
    }

    fn send(&mut self, message: &Message) {
        let packet = self.keys.seal(codec::encode(message));
        for (link, config) in self.links.iter_mut().zip(&self.config.links) {
            link.send(&packet);
            for (own, peer) in link.asks() {
                let Some(interface) = self.netlink.interface(&config.interface) else { break };
                // What finds no room is asked with the next message, or by the kernel.
                let _ = self.neighbours.ask(own, peer, interface);
            }
            if let Some(complaint) = link.complaint() {
                self.journal.note(Level::Warning, complaint);
            }
        }
        self.journal.debug(|| format!("sent heartbeat {} of {} bytes", message.sequence, packet.len()));
    }

    fn hold(&self, op: OpId, group: GroupId, grant: &Grant, phase: HeldPhase) -> Event {
        let name = &self.config.group(group).name;
        let node = &self.config.node(grant.node).name;
        let result = held::hold(&self.places, name, grant, node, phase);
        let explain = |error| format!("cannot write {}: {error}", self.places.grant_file(name).display());
        finished(op, outcome(result.map_err(explain)))
    }

    /// First where it is memory: it outlives this process, though not this boot. Then to disk, when there is time.
    fn save(&mut self, saved: Saved) {
        let run = Places { state: self.places.run.clone(), ..self.places.clone() };
        if let Err(error) = state::save(&run, &self.config, &self.identity, &saved) {
            self.journal.note(Level::Error, format!("cannot write {}: {error}", run.state.display()));
        }
        self.pass_to_disk(saved);
    }

    fn pass_to_disk(&mut self, saved: Saved) {
        // An older one that still waits must not follow it.
        self.unsaved = None;
        if let Err(ToHost::Save(saved)) = self.host.try_send(ToHost::Save(saved)).map_err(TrySendError::into_inner) {
            self.unsaved = Some(saved);
        }
    }
}

fn finished(op: OpId, outcome: Outcome) -> Event {
    Event::Finished { op, outcome }
}

fn outcome(result: Result<(), impl std::fmt::Display>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cluster::{Order, SavedGroup};
    use crate::host::held::tests::{TempPlaces, config};
    use crate::journal::Journal;
    use crate::wire::seal::{Key, Method};
    use tokio::sync::mpsc::{Receiver, channel};

    /// Edges of a node, with room for `room` orders besides the last two.
    pub(crate) fn edges(config: Config, places: &Places, room: usize) -> (Edges, Receiver<ToHost>) {
        let config = Arc::new(config);
        let key = Key { method: Method::Sha256, secret: b"secret".to_vec() };
        let keys = KeySet::new(1, BTreeMap::from([(1, key)])).unwrap();
        let identity = Identity { machine_id: String::new(), product_uuid: String::new() };
        let (host, orders) = channel(room + 2);
        let journal = Journal::start().unwrap();
        let netlink = Netlink::open().unwrap();
        let edges = Edges::new(config, keys, places.clone(), identity, netlink, Neighbours::deaf(), host, journal);
        (edges, orders)
    }

    fn state(version: u32) -> Saved {
        let group = SavedGroup { record: None, order: Order { version, stopped: false }, parked: false };
        Saved { groups: BTreeMap::from([("web".to_owned(), group)]), ..Saved::default() }
    }

    fn told(orders: &mut Receiver<ToHost>) -> Vec<String> {
        std::iter::from_fn(|| orders.try_recv().ok()).map(|order| format!("{order:?}")).collect()
    }

    #[test]
    fn a_full_queue_swallows_neither_the_last_state_nor_the_end() {
        let places = TempPlaces::new("perform-full");
        let (mut edges, mut orders) = edges(config(&["alpha"]), &places, 1);
        edges.perform(Action::Save(state(1)));
        edges.perform(Action::Save(state(2)));
        edges.perform(Action::Exit);
        edges.finish();
        drop(edges);
        let wanted = [ToHost::Save(state(1)), ToHost::Save(state(2)), ToHost::Exit].map(|order| format!("{order:?}"));
        assert_eq!(told(&mut orders), wanted);
    }

    #[test]
    fn an_older_state_never_follows_a_newer_one() {
        let places = TempPlaces::new("perform-order");
        let (mut edges, mut orders) = edges(config(&["alpha"]), &places, 1);
        edges.perform(Action::Save(state(1)));
        edges.perform(Action::Save(state(2)));
        orders.try_recv().unwrap();
        edges.perform(Action::Save(state(3)));
        edges.retry();
        edges.finish();
        assert_eq!(told(&mut orders), [format!("{:?}", ToHost::Save(state(3)))]);
    }

    #[test]
    fn a_look_that_ended_without_an_answer_leaves_nothing_behind() {
        let places = TempPlaces::new("perform-looks");
        let (mut edges, mut orders) = edges(config(&["alpha"]), &places, 200);
        let group = GroupId(0);
        for op in 0..100 {
            edges.perform(Action::Inspect { op: OpId(op), group });
        }
        assert_eq!(orders.len(), 100);
        assert_eq!(edges.inspecting.len(), 1);
        assert_eq!(edges.inspected(OpId(7), true, true), None, "a look that was given up");
        assert!(edges.inspected(OpId(99), true, true).is_some());
        assert_eq!(edges.inspected(OpId(99), true, true), None, "it was answered");
        told(&mut orders);
    }
}
