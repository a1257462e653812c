//! An action of the heart to the call on the thread it belongs to. What ends at once (files in `/run`, netlink) answers at once;
//! what belongs to the host thread answers later, as an event. It must not decide anything.

use crate::cluster::{Action, Actual, Event, Grant, HeldPhase, OpId, Outcome, Saved};
use crate::config::model::{Config, GroupId, VirtualAddress};
use crate::host::address::{ArpSocket, Netlink};
use crate::host::held;
use crate::host::orders::ToHost;
use crate::host::state::{self, Identity, Places};
use crate::journal::{JournalHandle, Level};
use crate::links::udp::UdpLink;
use crate::wire::seal::KeySet;
use crate::wire::{Message, codec};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// All that the beat thread acts on.
#[derive(Debug)]
pub struct Edges {
    pub config: Arc<Config>,
    pub keys: KeySet,
    pub places: Places,
    /// Whose state the copy in `/run` is.
    pub identity: Identity,
    pub netlink: Netlink,
    pub arp: ArpSocket,
    pub links: Vec<UdpLink>,
    pub host: Sender<ToHost>,
    pub journal: JournalHandle,
    /// Whose members are being looked at: the addresses are added to the answer here.
    inspecting: BTreeMap<OpId, GroupId>,
    /// What the host thread had no room for. Only the newest counts.
    unsaved: Option<Saved>,
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
        arp: ArpSocket,
        host: Sender<ToHost>,
        journal: JournalHandle,
    ) -> Edges {
        let links = config.links.iter().map(|link| UdpLink::new(link, config.me)).collect();
        Edges {
            config,
            keys,
            places,
            identity,
            netlink,
            arp,
            links,
            host,
            journal,
            inspecting: BTreeMap::new(),
            unsaved: None,
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
                self.inspecting.insert(op, group);
                return self.order(op, ToHost::Inspect { op, group });
            }
            Action::AddAddresses { op, group } => {
                let addresses = self.config.group(group).addresses.iter().collect::<Vec<_>>();
                return Some(finished(op, outcome(self.netlink.add(&addresses, false))));
            }
            Action::RemoveAddresses { op, group } => {
                let addresses = self.config.group(group).addresses.iter().collect::<Vec<_>>();
                return Some(finished(op, outcome(self.netlink.remove(&addresses))));
            }
            Action::RepairAddress { op, group, index } => return Some(self.repair(op, group, index)),
            Action::Announce { group } => self.for_each_address(group, |edges, address| {
                let interface = edges.netlink.interface(&address.interface);
                interface.map_or(Ok(()), |interface| edges.arp.announce(address, interface))
            }),
            Action::Probe { group } => self.for_each_address(group, |edges, address| {
                let interface = edges.netlink.interface(&address.interface);
                interface.map_or(Ok(()), |interface| edges.arp.probe(address, interface))
            }),
            Action::StartMembers { op, group } => return self.order(op, ToHost::StartMembers { op, group }),
            Action::StopMembers { op, group } => return self.order(op, ToHost::StopMembers { op, group }),
            Action::VerifyStopped { op, group } => return self.order(op, ToHost::VerifyStopped { op, group }),
            Action::Save(saved) => self.save(saved),
            Action::Report(change) => self.journal.report(change),
            Action::Reply { request, answer } => self.tell(ToHost::Reply { request, answer }),
            Action::Exit => self.exit = true,
        }
        None
    }

    /// The members were looked at; the addresses are known here.
    pub fn inspected(&mut self, op: OpId, all_active: bool, any_active: bool) -> Option<Event> {
        let group = self.inspecting.remove(&op)?;
        let addresses = &self.config.group(group).addresses;
        let here = |address: &VirtualAddress| self.netlink.find(address.address).is_some();
        let addresses = (0..addresses.len()).filter(|index| here(&addresses[*index])).collect();
        Some(finished(op, Outcome::Inspected(Actual { all_active, any_active, addresses })))
    }

    /// Whatever waited for room in the host thread's queue.
    pub fn retry(&mut self) {
        if let Some(saved) = self.unsaved.take() {
            self.pass_to_disk(saved);
        }
    }

    /// To the host thread, without waiting. Nobody hangs on what is told this way.
    pub fn tell(&self, message: ToHost) {
        if self.host.try_send(message).is_err() {
            self.journal.note(Level::Warning, "the host thread does not keep up: an answer to an operator was lost");
        }
    }

    fn order(&mut self, op: OpId, order: ToHost) -> Option<Event> {
        let refused = self.host.try_send(order).is_err();
        refused.then(|| finished(op, Outcome::Unknown("the host thread does not keep up".into())))
    }

    fn send(&mut self, message: &Message) {
        let packet = self.keys.seal(codec::encode(message));
        for link in &mut self.links {
            link.send(&packet);
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

    /// Nobody waits for the announcement: the next round is its repetition.
    fn repair(&mut self, op: OpId, group: GroupId, index: usize) -> Event {
        let config = self.config.clone();
        let address = &config.group(group).addresses[index];
        let added = self.netlink.add(&[address], true);
        if let (Ok(()), Some(interface)) = (&added, self.netlink.interface(&address.interface)) {
            let announced = self.arp.announce(address, interface);
            self.journal.debug(|| format!("{} announced after its repair: {announced:?}", address.address));
        }
        finished(op, outcome(added))
    }

    fn for_each_address(
        &mut self,
        group: GroupId,
        mut act: impl FnMut(&mut Edges, &VirtualAddress) -> std::io::Result<()>,
    ) {
        let config = self.config.clone();
        for address in &config.group(group).addresses {
            // The next round is the repetition.
            if let Err(error) = act(self, address) {
                self.journal.debug(|| format!("ARP for {} on {}: {error}", address.address, address.interface));
            }
        }
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
