//! PURE. The interface of an address that names none: the one whose own network holds it.
//! It must not know what a group is, nor change anything.

use super::table::Table;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use thiserror::Error;

/// Why no interface is the one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoPlace {
    #[error(
        "no interface of this host has a network of its own that holds {0}: give one of them an address in it, or \
         write dev and the interface behind the address"
    )]
    Nowhere(IpAddr),
    #[error("{1} and {2} both have the network that holds {0}: write dev and one of them behind the address")]
    Both(IpAddr, String, String),
}

/// The networks of this host's interfaces, by what is on them besides virtual addresses. Each once, however many addresses it has here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<(IpAddr, u8, String)>);

impl Networks {
    /// `except`: virtual addresses, which are on whatever interface they were put.
    pub fn of(table: &Table, except: &HashSet<IpAddr>) -> Networks {
        let mut networks = Vec::new();
        for interface in table.interfaces() {
            let mut own = HashSet::new();
            let mut last = None;
            for at in interface.addresses.iter().filter(|at| at.local == at.peer) {
                let Some(network) = network(at.local, at.prefix) else { continue };
                // Addresses come in order: those of one network together, mostly.
                if last == Some((network, at.prefix)) || except.contains(&at.local) {
                    continue;
                }
                last = Some((network, at.prefix));
                if own.insert((network, at.prefix)) {
                    networks.push((network, at.prefix, interface.name.clone()));
                }
            }
        }
        Networks(networks)
    }

    /// Of several networks, the smallest.
    pub fn place(&self, address: IpAddr) -> Result<String, NoPlace> {
        let holding = self.0.iter().filter(|(own, prefix, _)| network(address, *prefix) == Some(*own));
        let Some(longest) = holding.clone().map(|(_, prefix, _)| *prefix).max() else {
            return Err(NoPlace::Nowhere(address));
        };
        let mut names = holding.filter(|(_, prefix, _)| *prefix == longest).map(|(_, _, name)| name);
        let first = names.next().ok_or(NoPlace::Nowhere(address))?;
        match names.find(|name| *name != first) {
            Some(second) => Err(NoPlace::Both(address, first.clone(), second.clone())),
            None => Ok(first.clone()),
        }
    }
}

/// The network of an address with this prefix. A host of its own is none.
fn network(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) if prefix < 32 => {
            Some(Ipv4Addr::from_bits(address.to_bits() & !(u32::MAX >> prefix)).into())
        }
        IpAddr::V6(address) if prefix < 128 => {
            Some(Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> prefix)).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::address::table::{InterfaceAddress, InterfaceFacts, Update};

    fn host(interfaces: &[(&str, &[&str])]) -> Table {
        let mut table = Table::default();
        let mut changes = Vec::new();
        for (index, (name, addresses)) in interfaces.iter().enumerate() {
            let (index, name, mac) = (index as u32 + 2, Some((*name).to_owned()), Some([2, 0, 0, 0, 0, index as u8]));
            let facts = InterfaceFacts { index, up: true, carrier: true, carrier_losses: None, arp: true, name, mac };
            table.apply(Update::Interface(facts), &mut changes);
            for text in *addresses {
                let (local, prefix) = text.split_once('/').expect("ADDR/PREFIX");
                let address = InterfaceAddress::new(local.parse().expect("ip"), prefix.parse().expect("bits"));
                table.apply(Update::Address { index, address }, &mut changes);
            }
        }
        table
    }

    fn place(table: &Table, except: &[&str], address: &str) -> Result<String, String> {
        let except = except.iter().map(|text| text.parse().expect("ip")).collect();
        let place = Networks::of(table, &except).place(address.parse().expect("ip"));
        place.map_err(|error| error.to_string())
    }

    #[test]
    fn the_smallest_network_wins() {
        let table = host(&[
            ("eth0", &["10.0.0.1/8", "2001:db8::1/32"]),
            ("eth1", &["10.0.0.2/24", "2001:db8::2/64"]),
            ("eth2", &["10.0.0.3/32"]),
        ]);
        for (address, expected) in
            [("10.0.0.77", "eth1"), ("10.9.0.77", "eth0"), ("2001:db8::77", "eth1"), ("2001:db8:1::77", "eth0")]
        {
            assert_eq!(place(&table, &[], address), Ok(expected.into()), "{address}");
        }
        let nowhere = place(&table, &[], "192.0.2.1").expect_err("nowhere");
        assert!(nowhere.contains("192.0.2.1") && nowhere.contains("write dev"), "{nowhere}");
    }

    #[test]
    fn of_two_equal_ones_both_are_named() {
        let table = host(&[("eth0", &["10.0.0.1/24"]), ("eth1", &["10.0.0.2/24"])]);
        let both = place(&table, &[], "10.0.0.77").expect_err("both");
        assert!(both.contains("eth0 and eth1") && both.contains("write dev"), "{both}");
        let table = host(&[("eth0", &["10.0.0.1/24", "10.0.0.2/24"])]);
        assert_eq!(place(&table, &[], "10.0.0.77"), Ok("eth0".into()), "one interface is one");
    }

    #[test]
    fn a_virtual_address_makes_no_network() {
        let table = host(&[("eth0", &["10.0.0.1/24"]), ("eth1", &["10.0.0.77/24"])]);
        assert_eq!(place(&table, &["10.0.0.77"], "10.0.0.78"), Ok("eth0".into()));
    }

    #[test]
    fn a_host_of_many_addresses_has_few_networks() {
        let many: Vec<String> = (0..20_000)
            .flat_map(|n| [format!("10.0.{}.{}/16", n / 250, n % 250 + 1), format!("2001:db8::{n:x}/64")])
            .chain(["10.0.9.9/24".into(), "192.0.2.1/32".into(), "0.0.0.0/0".into(), "::/0".into()])
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let table = host(&[("eth0", &many), ("eth1", &["10.0.255.1/16"])]);
        let networks = Networks::of(&table, &HashSet::new());
        let mut found: Vec<String> =
            networks.0.iter().map(|(network, prefix, name)| format!("{network}/{prefix} {name}")).collect();
        found.sort();
        let expected = [
            "0.0.0.0/0 eth0",
            "10.0.0.0/16 eth0",
            "10.0.0.0/16 eth1",
            "10.0.9.0/24 eth0",
            "2001:db8::/64 eth0",
            "::/0 eth0",
        ];
        assert_eq!(found, expected);
        assert_eq!(networks.place("10.0.9.200".parse().unwrap()), Ok("eth0".into()));
        assert_eq!(networks.place("172.16.0.1".parse().unwrap()), Ok("eth0".into()), "by the widest of all");
    }
}
