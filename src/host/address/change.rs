//! Adding and removing addresses, in slices: a thousand of them must not hold up a heartbeat.
//! It must not know groups, nor when a slice is over.

use super::netlink::Netlink;
use super::request::{AddressError, Request, label_of, several};
use super::table::{InterfaceAddress, InterfaceState};
use crate::config::model::VirtualAddress;
use rustix::io::Errno;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::net::IpAddr;
use std::time::Instant;

/// Requests of one datagram. Acknowledgements must fit the receive buffer, each with the request quoted in it; and where an
/// interface has a thousand IPv6 addresses already, the kernel takes half a millisecond for each more.
const BATCH: usize = 16;

/// Addresses on their way to or from this host. All requests were made when [`Netlink::go_on`] says how it ended.
#[derive(Debug)]
pub struct AddressChange {
    kind: Kind,
    /// All that are meant.
    wanted: Vec<VirtualAddress>,
    /// What is still to be asked for, the next one last.
    left: Vec<VirtualAddress>,
    /// Added so far.
    added: Vec<VirtualAddress>,
    promoted: bool,
    errors: Vec<AddressError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Add {
        adopt: bool,
    },
    Remove,
    /// An adding that failed takes back what it did.
    RollBack,
}

impl AddressChange {
    fn new(kind: Kind, wanted: Vec<VirtualAddress>, mut left: Vec<VirtualAddress>) -> AddressChange {
        left.reverse();
        AddressChange { kind, wanted, left, added: Vec::new(), promoted: false, errors: Vec::new() }
    }
}

impl Netlink {
    /// [`Netlink::begin_add`], to its end.
    pub fn add(&mut self, addresses: &[&VirtualAddress], adopt: bool) -> Result<(), AddressError> {
        let change = self.begin_add(addresses.iter().copied().cloned().collect(), adopt)?;
        self.finish(change)
    }

    /// [`Netlink::begin_remove`], to its end.
    pub fn remove(&mut self, addresses: &[&VirtualAddress]) -> Result<(), AddressError> {
        let change = self.begin_remove(addresses.iter().copied().cloned().collect());
        self.finish(change)
    }

    fn finish(&mut self, mut change: AddressChange) -> Result<(), AddressError> {
        loop {
            if let Some(end) = self.go_on(&mut change, Instant::now()) {
                return end;
            }
        }
    }

    /// Adds all or none. Without `adopt`, one that is there already is refused; with it, one that is
    /// there as wanted is ours. An address that this host holds anywhere else is always refused.
    pub fn begin_add(&mut self, wanted: Vec<VirtualAddress>, adopt: bool) -> Result<AddressChange, AddressError> {
        self.absorb();
        if !adopt {
            self.note_foreign(&wanted);
        }
        let mut missing = Vec::new();
        for address in &wanted {
            if !self.check(address, adopt)? {
                missing.push(address.clone());
            }
        }
        Ok(AddressChange::new(Kind::Add { adopt }, wanted, missing))
    }

    /// Removes all that are there, also from an interface that has another name by now; tries each one whatever became
    /// of the others. `Ok` only if this host holds none of them any more, but for what was here before we could add it.
    pub fn begin_remove(&mut self, wanted: Vec<VirtualAddress>) -> AddressChange {
        self.absorb();
        let places = wanted.iter().flat_map(|address| self.places(address)).collect();
        AddressChange::new(Kind::Remove, wanted, places)
    }

    /// At least one datagram of requests, and more until `until`. The result, if all is done.
    pub fn go_on(&mut self, change: &mut AddressChange, until: Instant) -> Option<Result<(), AddressError>> {
        loop {
            let next: Vec<_> = change.left.split_off(change.left.len().saturating_sub(BATCH));
            if !next.is_empty() {
                self.batch(change, next);
            }
            if change.left.is_empty() {
                if !change.kind.adds() {
                    return Some(self.removed(change));
                }
                if change.errors.is_empty() {
                    return Some(Ok(()));
                }
                self.roll_back(change);
            }
            if Instant::now() >= until {
                return None;
            }
        }
    }

    fn batch(&mut self, change: &mut AddressChange, next: Vec<VirtualAddress>) {
        let mut requests = Vec::with_capacity(BATCH + 1);
        if !change.promoted {
            change.promoted = true;
            requests.extend(self.promotions(next.iter().chain(&change.left)));
        }
        let request = |address| if change.kind.adds() { Request::Add(address) } else { Request::Remove(address) };
        requests.extend(next.iter().rev().map(request));
        let results = self.transact(&requests);
        for (request, result) in requests.iter().zip(results) {
            match (change.kind, result) {
                (Kind::Add { .. }, Ok(())) => change.added.extend(request.address().cloned()),
                (Kind::Add { adopt }, Err(error)) => {
                    if adopt && error == Errno::EXIST {
                        continue;
                    }
                    change.errors.push(request.error(error));
                    // No answer: it may have been added. One that was there before would have been refused above.
                    let unknown = request.address().filter(|_| error == Errno::TIMEDOUT);
                    change.added.extend(unknown.cloned());
                    if let Some(there_before) = request.address().filter(|_| error == Errno::EXIST) {
                        // It came in between our look and our adding.
                        self.note_foreign(std::slice::from_ref(there_before));
                    }
                }
                (_, Ok(()) | Err(Errno::ADDRNOTAVAIL | Errno::NODEV)) => {}
                // What a failed promotion took along is told as removed, and repaired; the removal itself is done.
                (_, Err(error)) if request.address().is_some() => change.errors.push(request.error(error)),
                (_, Err(_)) => {}
            }
        }
        if change.kind.adds() && !change.errors.is_empty() {
            // All or none: no more of it.
            change.left.clear();
        }
    }

    /// An adding that failed becomes a removal of what it added.
    fn roll_back(&mut self, change: &mut AddressChange) {
        change.kind = Kind::RollBack;
        change.wanted = std::mem::take(&mut change.added);
        change.left = change.wanted.iter().flat_map(|address| self.places(address)).collect();
    }

    fn removed(&self, change: &mut AddressChange) -> Result<(), AddressError> {
        let mut errors = std::mem::take(&mut change.errors);
        // "Not there" was said of one place only: the host answers for the address wherever it is.
        errors.extend(change.wanted.iter().flat_map(|address| self.left(address.address)));
        if self.stale {
            errors.push(AddressError::Unread);
        }
        if errors.is_empty() { Ok(()) } else { Err(several(errors)) }
    }

    /// Where to remove an address: where its group has it, and wherever else it is as we added it.
    fn places(&self, wanted: &VirtualAddress) -> Vec<VirtualAddress> {
        let ours = InterfaceAddress::new(wanted.address, wanted.prefix);
        let is_foreign = |interface: &InterfaceState| self.foreign.contains(&(interface.index, ours));
        let found = self.table.find(wanted.address).filter(|(_, at)| *at == ours).map(|(interface, _)| interface);
        let elsewhere = found.filter(|interface| interface.name != wanted.dev() && !is_foreign(interface));
        let at = |name: &str| VirtualAddress { interface: Some(name.to_owned()), ..wanted.clone() };
        let mut places: Vec<_> = elsewhere.map(|interface| at(&interface.name)).collect();
        // Asked for also where the table does not show it: the kernel knows better.
        if wanted.interface.is_some() && !self.interface(wanted.dev()).is_some_and(is_foreign) {
            places.push(wanted.clone());
        }
        places
    }

    /// Where the address still is, though it should be gone.
    fn left(&self, address: IpAddr) -> impl Iterator<Item = AddressError> {
        let left = self.table.find(address).filter(|(interface, at)| !self.foreign.contains(&(interface.index, *at)));
        left.map(move |(interface, at)| AddressError::StillThere {
            address,
            prefix: at.prefix,
            interface: interface.name.clone(),
        })
    }

    /// Before the first of them is added, whatever this host holds of these addresses is not ours.
    fn note_foreign(&mut self, addresses: &[VirtualAddress]) {
        let meant: HashSet<IpAddr> = addresses.iter().map(|address| address.address).collect();
        self.foreign.retain(|(_, at)| !meant.contains(&at.local));
        for address in meant {
            self.foreign.extend(self.table.find(address).map(|(interface, at)| (interface.index, at)));
        }
    }

    /// Whether the address is there already as wanted; an error if it may not be added.
    fn check(&self, wanted: &VirtualAddress, adopt: bool) -> Result<bool, AddressError> {
        let (address, prefix) = (wanted.address, wanted.prefix);
        let Some(interface) = &wanted.interface else { return Err(AddressError::NoPlace { address }) };
        if self.interface(interface).is_none() {
            return Err(AddressError::NoInterface { interface: interface.clone(), address });
        }
        label_of(wanted)?;
        // The kernel would take the same address with another prefix or on another interface.
        let foreign = self
            .table
            .find(address)
            .find(|(found, at)| !adopt || found.name != *interface || *at != InterfaceAddress::new(address, prefix));
        match foreign {
            Some((interface, at)) => {
                Err(AddressError::AlreadyThere { address, prefix: at.prefix, interface: interface.name.clone() })
            }
            None => Ok(self.has(wanted)),
        }
    }

    /// See the module's page: no IPv4 address may take others with it. Read afresh, since administrators change it.
    fn promotions<'a>(&self, addresses: impl Iterator<Item = &'a VirtualAddress>) -> Vec<Request<'a>> {
        let interfaces: BTreeSet<&'a str> =
            addresses.filter(|address| address.address.is_ipv4()).map(VirtualAddress::dev).collect();
        let exists = |name: &&str| self.interface(name).is_some();
        if interfaces.is_empty() || promotes("all") {
            return Vec::new();
        }
        let off = interfaces.into_iter().filter(exists).filter(|name| !promotes(name));
        off.map(|interface| Request::Promote { interface }).collect()
    }
}

impl Kind {
    fn adds(self) -> bool {
        matches!(self, Kind::Add { .. })
    }
}

fn promotes(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/promote_secondaries");
    fs::read(path).is_ok_and(|value| value.first() == Some(&b'1'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_not_gone() {
        let (address, interface) = ([127, 77, 77, 77].into(), Some("no-such-one".to_owned()));
        let nowhere = VirtualAddress { address, prefix: 32, interface, label: None, broadcast: None };
        let mut netlink = Netlink::open().expect("netlink");
        netlink.blind(true);
        assert_eq!(netlink.remove(&[&nowhere]), Err(AddressError::Unread));
        netlink.blind(false);
        std::thread::sleep(crate::host::address::netlink::RESYNC_EVERY);
        assert_eq!(netlink.remove(&[&nowhere]), Ok(()));
    }
}
