//! PURE. The interfaces and IP addresses of this host as netlink last told, and what changed.
//! It must not know sockets or message formats, nor which addresses are ours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// An address on an interface. The kernel tells IPv4 addresses apart by all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress {
    pub local: IpAddr,
    pub prefix: u8,
    /// The far end of a point-to-point address; otherwise the same as `local`.
    pub peer: IpAddr,
}

impl InterfaceAddress {
    /// An address as groups have them: of a network, not point to point.
    pub fn new(local: IpAddr, prefix: u8) -> InterfaceAddress {
        InterfaceAddress { local, prefix, peer: local }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceState {
    pub name: String,
    pub index: u32,
    /// None where it is not six bytes long.
    pub mac: Option<[u8; 6]>,
    /// Switched on. The kernel takes the IPv6 addresses from an interface that is switched off.
    pub up: bool,
    /// Up, with carrier, and not held back by authentication or a lower layer.
    pub carrier: bool,
    /// How often the kernel saw it without carrier, also when nobody looked.
    pub carrier_losses: u32,
    /// Neighbours are found by ARP and neighbour solicitation: Ethernet, not the loopback, not NOARP.
    pub arp: bool,
    pub addresses: BTreeSet<InterfaceAddress>,
}

impl InterfaceState {
    /// The address is here, whatever its prefix.
    pub fn holds(&self, address: impl Into<IpAddr>) -> bool {
        self.find(address.into()).next().is_some()
    }

    fn find(&self, address: IpAddr) -> impl Iterator<Item = InterfaceAddress> {
        // The set is ordered by the local address first, and IPv4 comes before IPv6.
        let lowest = InterfaceAddress { local: address, prefix: 0, peer: Ipv4Addr::UNSPECIFIED.into() };
        self.addresses.range(lowest..).take_while(move |found| found.local == address).copied()
    }

    fn same_but_for_addresses(&self, other: &InterfaceState) -> bool {
        let key = |s: &InterfaceState| (s.index, s.mac, s.up, s.carrier, s.carrier_losses, s.arp);
        self.name == other.name && key(self) == key(other)
    }
}

/// What became different. The table has the truth; several changes in a row may have undone each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetChange {
    /// It appeared, changed or vanished.
    Interface {
        name: String,
    },
    AddressAdded {
        interface: String,
        address: IpAddr,
        prefix: u8,
    },
    AddressRemoved {
        interface: String,
        address: IpAddr,
        prefix: u8,
    },
}

/// One fact from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Update {
    Interface(InterfaceFacts),
    InterfaceGone { index: u32 },
    Address { index: u32, address: InterfaceAddress },
    AddressGone { index: u32, address: InterfaceAddress },
}

/// What a link message said. Some messages (wireless events) leave parts out: those stay as they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InterfaceFacts {
    pub(super) index: u32,
    pub(super) up: bool,
    pub(super) carrier: bool,
    pub(super) carrier_losses: Option<u32>,
    pub(super) arp: bool,
    pub(super) name: Option<String>,
    pub(super) mac: Option<[u8; 6]>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    interfaces: BTreeMap<u32, InterfaceState>,
}

impl Table {
    pub fn interface(&self, name: &str) -> Option<&InterfaceState> {
        self.interfaces.values().find(|interface| interface.name == name)
    }

    pub fn by_index(&self, index: u32) -> Option<&InterfaceState> {
        self.interfaces.get(&index)
    }

    pub fn interfaces(&self) -> impl Iterator<Item = &InterfaceState> {
        self.interfaces.values()
    }

    /// Every place where this host holds the address: interface and prefix.
    pub fn find(&self, address: IpAddr) -> impl Iterator<Item = (&InterfaceState, InterfaceAddress)> {
        self.interfaces().flat_map(move |interface| interface.find(address).map(move |at| (interface, at)))
    }

    pub(super) fn owns_mac(&self, mac: [u8; 6]) -> bool {
        self.interfaces.values().any(|interface| interface.mac == Some(mac))
    }

    pub(super) fn apply(&mut self, update: Update, changes: &mut Vec<NetChange>) {
        match update {
            Update::Interface(facts) => self.apply_interface(facts, changes),
            Update::InterfaceGone { index } => {
                if let Some(gone) = self.interfaces.remove(&index) {
                    compare(Some(&gone), None, changes);
                }
            }
            Update::Address { index, address } => {
                if let Some(interface) = self.interfaces.get_mut(&index)
                    && interface.addresses.insert(address)
                {
                    changes.push(added(&interface.name, &address));
                }
            }
            Update::AddressGone { index, address } => {
                if let Some(interface) = self.interfaces.get_mut(&index)
                    && interface.addresses.remove(&address)
                {
                    changes.push(removed(&interface.name, &address));
                }
            }
        }
    }

    fn apply_interface(&mut self, facts: InterfaceFacts, changes: &mut Vec<NetChange>) {
        let before = self.interfaces.get(&facts.index);
        let Some(name) = facts.name.or_else(|| before.map(|old| old.name.clone())) else { return };
        let after = InterfaceState {
            name,
            index: facts.index,
            mac: facts.mac.or_else(|| before.and_then(|old| old.mac)),
            up: facts.up,
            carrier: facts.carrier,
            carrier_losses: facts.carrier_losses.or_else(|| before.map(|old| old.carrier_losses)).unwrap_or_default(),
            arp: facts.arp,
            addresses: before.map(|old| old.addresses.clone()).unwrap_or_default(),
        };
        match before {
            Some(old) if old.name != after.name => {
                compare(Some(old), None, changes);
                compare(None, Some(&after), changes);
            }
            old => compare(old, Some(&after), changes),
        }
        self.interfaces.insert(after.index, after);
    }

    /// Becomes `fresh`, telling the difference by interface name, which is what the configuration speaks of.
    pub(super) fn replace(&mut self, fresh: Table, changes: &mut Vec<NetChange>) {
        let old = std::mem::replace(self, fresh);
        let names: BTreeSet<&str> = old.interfaces().chain(self.interfaces()).map(|i| i.name.as_str()).collect();
        for name in names {
            compare(old.interface(name), self.interface(name), changes);
        }
    }
}

/// What happened to one name. Removals come before additions.
fn compare(before: Option<&InterfaceState>, after: Option<&InterfaceState>, changes: &mut Vec<NetChange>) {
    let same = match (before, after) {
        (Some(before), Some(after)) => before.same_but_for_addresses(after),
        (None, None) => true,
        _ => false,
    };
    if !same && let Some(interface) = after.or(before) {
        changes.push(NetChange::Interface { name: interface.name.clone() });
    }
    if let Some(before) = before {
        let gone = before.addresses.iter().filter(|a| !after.is_some_and(|after| after.addresses.contains(a)));
        changes.extend(gone.map(|address| removed(&before.name, address)));
    }
    if let Some(after) = after {
        let new = after.addresses.iter().filter(|a| !before.is_some_and(|before| before.addresses.contains(a)));
        changes.extend(new.map(|address| added(&after.name, address)));
    }
}

fn added(interface: &str, address: &InterfaceAddress) -> NetChange {
    NetChange::AddressAdded { interface: interface.to_owned(), address: address.local, prefix: address.prefix }
}

fn removed(interface: &str, address: &InterfaceAddress) -> NetChange {
    NetChange::AddressRemoved { interface: interface.to_owned(), address: address.local, prefix: address.prefix }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(index: u32, name: Option<&str>) -> InterfaceFacts {
        InterfaceFacts {
            index,
            up: true,
            carrier: true,
            carrier_losses: Some(1),
            arp: true,
            name: name.map(str::to_owned),
            mac: Some([2, 0, 0, 0, 0, index as u8]),
        }
    }

    fn at(last: u8) -> InterfaceAddress {
        InterfaceAddress::new([10, 0, 0, last].into(), 24)
    }

    fn table(index: u32, addresses: &[u8]) -> Table {
        let mut table = Table::default();
        let mut changes = Vec::new();
        table.apply(Update::Interface(facts(index, Some("eth0"))), &mut changes);
        for last in addresses {
            table.apply(Update::Address { index, address: at(*last) }, &mut changes);
        }
        table
    }

    fn changed(name: &str) -> NetChange {
        NetChange::Interface { name: name.into() }
    }

    #[test]
    fn what_is_known_already_is_no_change() {
        let mut table = table(2, &[1]);
        let mut changes = Vec::new();
        table.apply(Update::Interface(facts(2, Some("eth0"))), &mut changes);
        table.apply(Update::Address { index: 2, address: at(1) }, &mut changes);
        table.apply(Update::AddressGone { index: 2, address: at(9) }, &mut changes);
        table.apply(Update::InterfaceGone { index: 9 }, &mut changes);
        assert_eq!(changes, []);
    }

    #[test]
    fn a_message_without_a_name_keeps_the_rest() {
        let mut table = table(2, &[1]);
        let mut changes = Vec::new();
        let down = InterfaceFacts { carrier: false, mac: None, ..facts(2, None) };
        table.apply(Update::Interface(down), &mut changes);
        assert_eq!(changes, [changed("eth0")]);
        let eth0 = table.interface("eth0").expect("still there");
        assert_eq!((eth0.carrier, eth0.mac), (false, Some([2, 0, 0, 0, 0, 2])));
        assert!(eth0.holds(at(1).local));
        table.apply(Update::Interface(facts(7, None)), &mut changes);
        assert_eq!(table.by_index(7), None, "nothing is known of it yet");
    }

    #[test]
    fn a_carrier_that_was_lost_unseen_is_a_change() {
        let mut table = table(2, &[]);
        let mut changes = Vec::new();
        table.apply(Update::Interface(InterfaceFacts { carrier_losses: None, ..facts(2, None) }), &mut changes);
        assert_eq!(changes, [], "nothing is said of it");
        table.apply(Update::Interface(InterfaceFacts { carrier_losses: Some(2), ..facts(2, None) }), &mut changes);
        assert_eq!(changes, [changed("eth0")]);
    }

    #[test]
    fn a_vanished_interface_takes_its_addresses_along() {
        let mut table = table(2, &[1, 2]);
        let mut changes = Vec::new();
        table.apply(Update::InterfaceGone { index: 2 }, &mut changes);
        assert_eq!(changes, [changed("eth0"), removed("eth0", &at(1)), removed("eth0", &at(2))]);
        assert_eq!(table, Table::default());
    }

    #[test]
    fn a_dump_tells_the_difference_only() {
        let mut table = table(2, &[1, 2, 3]);
        let mut changes = Vec::new();
        let fresh = super::tests::table(5, &[2, 3, 4]);
        table.replace(fresh.clone(), &mut changes);
        assert_eq!(changes, [changed("eth0"), removed("eth0", &at(1)), added("eth0", &at(4))]);
        assert_eq!(table, fresh);
    }

    #[test]
    fn an_address_is_found_whatever_its_prefix_and_its_neighbours_are_not() {
        let mut table = table(2, &[1, 3]);
        let narrow = InterfaceAddress::new([10, 0, 0, 3].into(), 32);
        table.apply(Update::Address { index: 2, address: narrow }, &mut Vec::new());
        let prefixes = |last| table.find(at(last).local).map(|(_, found)| found.prefix).collect::<Vec<_>>();
        assert_eq!(prefixes(3), [24, 32]);
        assert!(prefixes(2).is_empty());
        assert!(prefixes(4).is_empty());
    }
}
