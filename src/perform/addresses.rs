//! The addresses of this host's groups: the interface each belongs on, who claims one, and what is under way for them. That
//! is done in slices, between two rounds of the beat thread: a thousand addresses must not hold up a heartbeat.
//! It must not decide anything.

use super::{Edges, finished, outcome};
use crate::cluster::{Event, OpId, Outcome};
use crate::config::model::{Config, GroupId, VirtualAddress};
use crate::host::address::place::Networks;
use crate::host::address::{AddressChange, AddressError, ClaimSeen, NetChange, Netlink, label_of};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long the beat thread may be busy with addresses in one go. A request of the kernel that has begun is waited for.
pub const SLICE: Duration = Duration::from_millis(5);

/// Frames between two looks at the clock.
const FRAMES: usize = 64;

#[derive(Debug)]
pub struct Addresses {
    /// As in the configuration, each with the interface it belongs on, if there is one.
    placed: Vec<Vec<VirtualAddress>>,
    /// Why an address of a group has none.
    faults: Vec<Option<String>>,
    /// An address is in one group only.
    by_address: HashMap<IpAddr, (GroupId, usize)>,
    /// Addresses that the kernel took because their interface was switched off.
    flushed: BTreeSet<(GroupId, usize)>,
    jobs: VecDeque<Job>,
    /// What was given up for something newer: its end is told all the same.
    given_up: Vec<OpId>,
}

/// What is under way.
#[derive(Debug)]
enum Job {
    Change { op: OpId, group: GroupId, change: AddressChange },
    Repair { op: OpId, group: GroupId, index: usize },
    Announce { group: GroupId, next: usize },
}

impl Job {
    fn group(&self) -> GroupId {
        match self {
            Job::Change { group, .. } | Job::Repair { group, .. } | Job::Announce { group, .. } => *group,
        }
    }

    fn op(&self) -> Option<OpId> {
        match self {
            Job::Change { op, .. } | Job::Repair { op, .. } => Some(*op),
            Job::Announce { .. } => None,
        }
    }
}

impl Addresses {
    pub fn new(config: &Config) -> Addresses {
        let all = config.group_ids().flat_map(|id| {
            let addresses = config.group(id).addresses.iter().enumerate();
            addresses.map(move |(index, address)| (address.address, (id, index)))
        });
        Addresses {
            placed: config.groups.iter().map(|group| group.addresses.clone()).collect(),
            faults: vec![None; config.groups.len()],
            by_address: all.collect(),
            flushed: BTreeSet::new(),
            jobs: VecDeque::new(),
            given_up: Vec::new(),
        }
    }

    /// Another configuration. What is under way for a group whose addresses changed meant other ones: it is given up,
    /// and its end is told as unknown.
    pub fn configure(&mut self, old: &Config, new: &Config) {
        let fresh = Addresses::new(new);
        self.by_address = fresh.by_address;
        for id in new.group_ids() {
            let slot = usize::from(id.0);
            let addresses = &new.group(id).addresses;
            if old.groups.get(slot).is_some_and(|group| group.addresses == *addresses) {
                continue;
            }
            match self.placed.get_mut(slot) {
                Some(placed) => (*placed, self.faults[slot]) = (addresses.clone(), None),
                None => {
                    self.placed.push(addresses.clone());
                    self.faults.push(None);
                }
            }
            self.flushed.retain(|(group, _)| *group != id);
            self.drop_jobs(id);
        }
    }

    /// A group's addresses, each with the interface it belongs on.
    pub fn of(&self, group: GroupId) -> &[VirtualAddress] {
        &self.placed[usize::from(group.0)]
    }

    pub fn all(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.placed.iter().flatten()
    }

    /// The interfaces that were found for addresses which name none.
    pub fn found<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = &'a str> {
        let pairs =
            self.placed.iter().zip(&config.groups).flat_map(|(placed, group)| placed.iter().zip(&group.addresses));
        pairs.filter(|(_, given)| given.interface.is_none()).filter_map(|(placed, _)| placed.interface.as_deref())
    }

    /// Whose address somebody else claims.
    pub fn claimed(&self, claim: &ClaimSeen) -> Option<(GroupId, usize)> {
        let (group, index) = *self.by_address.get(&claim.address)?;
        (self.of(group)[index].dev() == claim.interface).then_some((group, index))
    }

    /// The addresses that these changes may have taken away.
    pub fn concerned(&self, changes: &[NetChange]) -> BTreeSet<(GroupId, usize)> {
        let mut concerned = BTreeSet::new();
        let mut interfaces = HashSet::new();
        for change in changes {
            match change {
                NetChange::AddressRemoved { address, .. } => concerned.extend(self.by_address.get(address)),
                // It may be back without its addresses.
                NetChange::Interface { name } => drop(interfaces.insert(name.as_str())),
                NetChange::AddressAdded { .. } => {}
            }
        }
        if !interfaces.is_empty() {
            concerned
                .extend(self.by_address.values().filter(|(id, index)| interfaces.contains(self.of(*id)[*index].dev())));
        }
        concerned
    }

    pub fn every(&self) -> BTreeSet<(GroupId, usize)> {
        self.by_address.values().copied().collect()
    }

    /// Something is under way: the next round must not wait for a packet.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty() || !self.given_up.is_empty()
    }

    /// Of IPv6 addresses that are missing, notes those that went with their interface's being switched off, or came to
    /// be missing while `interface_changed`. True: nobody removed it, and while the interface is off it cannot come back.
    pub fn note_flushed(&mut self, (id, index): (GroupId, usize), netlink: &Netlink, interface_changed: bool) -> bool {
        let address = &self.of(id)[index];
        let off = netlink.interface(address.dev()).is_some_and(|interface| !interface.up);
        let flushed = address.address.is_ipv6() && (off || interface_changed);
        if flushed {
            self.flushed.insert((id, index));
        }
        flushed && off
    }

    /// Whether it was flushed, once.
    pub fn take_flushed(&mut self, id: GroupId, index: usize) -> bool {
        self.flushed.remove(&(id, index))
    }

    fn drop_jobs(&mut self, group: GroupId) {
        let dropped = self.jobs.iter().filter(|job| job.group() == group).filter_map(Job::op);
        self.given_up.extend(dropped);
        self.jobs.retain(|job| job.group() != group);
        self.flushed.retain(|(id, _)| *id != group);
    }
}

impl Edges {
    /// Finds the interface of each address that names none. What is up stays where it is; so does what a group that runs
    /// here has lost, as long as its interface exists. Answers with what is new to the heart.
    pub fn place(&mut self, runs: impl Fn(GroupId) -> bool) -> Vec<Event> {
        let config = self.config.clone();
        let open = |id: &GroupId| config.group(*id).addresses.iter().any(|address| address.interface.is_none());
        let open: Vec<GroupId> = config.group_ids().filter(open).collect();
        if open.is_empty() {
            return Vec::new();
        }
        let virtual_ones: HashSet<IpAddr> = self.addresses.by_address.keys().copied().collect();
        let networks = Networks::of(self.netlink.table(), &virtual_ones);
        let mut events = Vec::new();
        for id in open {
            let (placed, fault) = self.place_group(&config, id, &networks, runs(id));
            let slot = usize::from(id.0);
            if placed != self.addresses.placed[slot] || fault != self.addresses.faults[slot] {
                let interfaces = placed.iter().map(|address| address.interface.clone()).collect();
                events.push(Event::Placed { group: id, interfaces, fault: fault.clone() });
            }
            (self.addresses.placed[slot], self.addresses.faults[slot]) = (placed, fault);
        }
        events
    }

    fn place_group(
        &self,
        config: &Config,
        id: GroupId,
        networks: &Networks,
        runs: bool,
    ) -> (Vec<VirtualAddress>, Option<String>) {
        let mut fault = None;
        let addresses = config.group(id).addresses.iter().zip(self.addresses.of(id)).map(|(given, before)| {
            if given.interface.is_some() {
                return given.clone();
            }
            let exists = |name: &&String| runs && self.netlink.interface(name).is_some();
            let here = self.netlink.find(given.address).filter(|(_, prefix)| *prefix == given.prefix);
            let here = here.map(|(interface, _)| &interface.name).or(before.interface.as_ref().filter(exists));
            let found = here.map_or_else(|| networks.place(given.address), |name| Ok(name.clone()));
            let placed = match found {
                Ok(interface) => VirtualAddress { interface: Some(interface), ..given.clone() },
                Err(why) => {
                    fault.get_or_insert(why.to_string());
                    given.clone()
                }
            };
            if let Err(why @ AddressError::LabelTooLong { .. }) = label_of(&placed) {
                fault.get_or_insert(why.to_string());
            }
            placed
        });
        (addresses.collect(), fault)
    }

    pub(super) fn add_addresses(&mut self, op: OpId, group: GroupId) -> Option<Event> {
        self.addresses.drop_jobs(group);
        match self.netlink.begin_add(self.addresses.of(group).to_vec(), false) {
            Ok(change) => self.addresses.jobs.push_back(Job::Change { op, group, change }),
            Err(error) => return Some(finished(op, outcome(Err(error)))),
        }
        None
    }

    /// Whatever else is under way for them is over.
    pub(super) fn remove_addresses(&mut self, op: OpId, group: GroupId) {
        self.addresses.drop_jobs(group);
        let change = self.netlink.begin_remove(self.addresses.of(group).to_vec());
        self.addresses.jobs.push_back(Job::Change { op, group, change });
    }

    /// Those of a group that goes on without them.
    pub(super) fn drop_addresses(&mut self, op: OpId, group: GroupId, indexes: &[usize]) {
        let all = self.addresses.of(group);
        let gone = indexes.iter().filter_map(|index| all.get(*index).cloned()).collect();
        let change = self.netlink.begin_remove(gone);
        self.addresses.jobs.push_back(Job::Change { op, group, change });
    }

    pub(super) fn repair_address(&mut self, op: OpId, group: GroupId, index: usize) {
        self.addresses.jobs.push_back(Job::Repair { op, group, index });
    }

    /// A round that is still under way begins anew: it would tell the same.
    pub(super) fn announce(&mut self, group: GroupId) {
        self.addresses.jobs.retain(|job| !matches!(job, Job::Announce { group: other, .. } if *other == group));
        self.addresses.jobs.push_back(Job::Announce { group, next: 0 });
    }

    /// Questions are sent in one go, some microseconds each: the time for an answer counts from here.
    pub(super) fn probe(&mut self, group: GroupId) -> Option<Event> {
        let mut failed = None;
        for address in self.addresses.of(group) {
            let Some(interface) = self.netlink.interface(address.dev()) else { continue };
            if let Err(error) = self.neighbours.probe(address.address, interface) {
                failed.get_or_insert((address.address, error));
            }
        }
        let (address, error) = failed?;
        let reason = format!("{address}: {error}");
        self.journal.debug(|| format!("asking for {reason}"));
        Some(Event::ProbeFailed { group, reason })
    }

    /// What is under way, until `until`, and at least one step. Answers with what ended.
    pub fn work(&mut self, until: Instant) -> Vec<Event> {
        let given_up = std::mem::take(&mut self.addresses.given_up);
        let unknown = |op| finished(op, Outcome::Unknown("given up for what came after it".into()));
        let mut ended: Vec<Event> = given_up.into_iter().map(unknown).collect();
        while let Some(job) = self.addresses.jobs.pop_front() {
            match job {
                Job::Change { op, group, mut change } => match self.netlink.go_on(&mut change, until) {
                    Some(result) => ended.push(finished(op, outcome(result))),
                    // Behind the others: a small group does not wait for a large one.
                    None => self.addresses.jobs.push_back(Job::Change { op, group, change }),
                },
                Job::Repair { op, group, index } => ended.push(self.repair(op, group, index)),
                Job::Announce { group, next } => {
                    if let Some(next) = self.announce_some(group, next) {
                        self.addresses.jobs.push_back(Job::Announce { group, next });
                    }
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        ended
    }

    /// Where to go on.
    fn announce_some(&mut self, group: GroupId, next: usize) -> Option<usize> {
        self.neighbours.begin_round();
        let mut failed = None;
        let addresses = self.addresses.of(group);
        let last = addresses.len().min(next + FRAMES);
        for address in &addresses[next..last] {
            let Some(interface) = self.netlink.interface(address.dev()) else { continue };
            // The next round is the repetition.
            if let Err(error) = self.neighbours.announce(address.address, interface) {
                failed.get_or_insert((address.address, error));
            }
        }
        let more = (last < addresses.len()).then_some(last);
        self.tell_failed("announcing", failed);
        more
    }

    fn tell_failed(&self, what: &str, failed: Option<(IpAddr, std::io::Error)>) {
        if let Some((address, error)) = failed {
            self.journal.debug(|| format!("{what} {address}: {error}"));
        }
    }

    /// Nobody waits for the announcement: the next round is its repetition.
    fn repair(&mut self, op: OpId, group: GroupId, index: usize) -> Event {
        let address = &self.addresses.of(group)[index];
        let added = self.netlink.add(&[address], true);
        if let (Ok(()), Some(interface)) = (&added, self.netlink.interface(address.dev())) {
            let announced = self.neighbours.announce(address.address, interface);
            self.journal.debug(|| format!("{} announced after its repair: {announced:?}", address.address));
        }
        finished(op, outcome(added))
    }
}

/// What `check` says of this host: each group's addresses for which no interface is found here.
pub fn without_place(config: &Config, netlink: &Netlink) -> BTreeMap<String, String> {
    let addresses = Addresses::new(config);
    let networks = Networks::of(netlink.table(), &addresses.by_address.keys().copied().collect());
    let mine = config.groups.iter().filter(|group| group.nodes.contains(&config.me));
    let faults = mine.filter_map(|group| {
        let open = group.addresses.iter().filter(|address| address.interface.is_none());
        let here = |address: &&VirtualAddress| netlink.find(address.address).is_none();
        let fault = open.filter(here).find_map(|address| networks.place(address.address).err())?;
        Some((group.name.clone(), fault.to_string()))
    });
    faults.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::config;

    #[test]
    fn check_names_the_groups_that_find_no_interface_here() {
        let mut config = config(&["alpha"]);
        for (group, text) in config.groups.iter_mut().zip(["127.77.77.77", "255.255.255.254"]) {
            let address = text.parse().expect("an address");
            group.addresses =
                vec![VirtualAddress { address, prefix: 8, interface: None, label: None, broadcast: None }];
        }
        let faults = without_place(&config, &Netlink::open().expect("netlink"));
        assert_eq!(faults.keys().collect::<Vec<_>>(), ["web"]);
        assert!(faults["web"].contains("255.255.255.254") && faults["web"].contains("write dev"), "{faults:?}");
    }

    #[test]
    fn only_the_addresses_that_a_change_touches_are_looked_at() {
        let mut config = config(&["alpha"]);
        let address = |last: u8, dev: &str| VirtualAddress {
            address: [10, 0, 0, last].into(),
            prefix: 24,
            interface: Some(dev.to_owned()),
            label: None,
            broadcast: None,
        };
        config.groups[0].addresses = vec![address(1, "eth0"), address(2, "eth1")];
        config.groups[1].addresses = vec![address(3, "eth1")];
        let addresses = Addresses::new(&config);
        let removed = NetChange::AddressRemoved { interface: "x".into(), address: [10, 0, 0, 1].into(), prefix: 24 };
        let (db, web) = (GroupId(0), GroupId(1));
        assert_eq!(addresses.concerned(&[removed]), BTreeSet::from([(db, 0)]));
        let interface = NetChange::Interface { name: "eth1".into() };
        assert_eq!(addresses.concerned(&[interface]), BTreeSet::from([(db, 1), (web, 0)]));
        let claim =
            |interface: &str| ClaimSeen { interface: interface.into(), address: [10, 0, 0, 3].into(), mac: [2; 6] };
        assert_eq!((addresses.claimed(&claim("eth1")), addresses.claimed(&claim("eth0"))), (Some((web, 0)), None));
    }
}
