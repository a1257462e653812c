//! ARP and neighbour discovery on the service networks: tell neighbours where an address is, ask who has it, hear who else
//! claims it. It must not know groups, nor when to announce or ask. Nothing here waits.
//!
//! One socket for each protocol serves all interfaces, so that one which is created anew costs nothing. A filter in the
//! kernel passes only claims to the watched addresses: a busy network does not wake the beat thread.

use super::filter;
use super::packet::{ETHERNET_BROADCAST, PacketSocket};
use super::table::{InterfaceState, Table};
use super::{arp, ndp};
use crate::config::model::VirtualAddress;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::{fs, io};

/// Packets looked at in one call, so that a storm of claims cannot hold up a heartbeat.
const PACKETS_PER_CALL: usize = 64;
/// A neighbour advertisement may carry options that nobody here reads; no system sends longer ones.
const PACKET: usize = 256;

/// Somebody who is not this host sent a packet as the owner of a watched address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimSeen {
    pub interface: String,
    pub address: IpAddr,
    pub mac: [u8; 6],
}

#[derive(Debug)]
pub struct Neighbours {
    arp: PacketSocket,
    ndp: PacketSocket,
    /// By interface.
    watched: HashMap<String, HashSet<IpAddr>>,
    /// The interfaces that forward IPv6, as last read.
    routers: HashMap<u32, bool>,
}

impl Neighbours {
    /// Needs CAP_NET_RAW. Nothing is watched yet.
    pub fn open() -> io::Result<Neighbours> {
        let arp = PacketSocket::open(libc::ETH_P_ARP as u16, &filter::arp(&BTreeSet::new()))?;
        let ndp = PacketSocket::open(libc::ETH_P_IPV6 as u16, &filter::ndp(&BTreeSet::new()))?;
        Ok(Neighbours { arp, ndp, watched: HashMap::new(), routers: HashMap::new() })
    }

    /// Hears nothing, reaches nobody, needs no privilege.
    #[cfg(test)]
    pub(crate) fn deaf() -> Neighbours {
        let (arp, ndp) = (PacketSocket::deaf(), PacketSocket::deaf());
        Neighbours { arp, ndp, watched: HashMap::new(), routers: HashMap::new() }
    }

    /// What to poll for reading.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.arp.fd(), self.ndp.fd()]
    }

    /// Replaces the addresses whose claims [`Neighbours::receive`] tells. Each counts on its own interface only.
    pub fn watch<'a>(&mut self, addresses: impl IntoIterator<Item = &'a VirtualAddress>) -> io::Result<()> {
        self.watched.clear();
        let (mut ipv4, mut ipv6) = (BTreeSet::new(), BTreeSet::new());
        for VirtualAddress { address, interface, .. } in addresses {
            let Some(interface) = interface else { continue };
            self.watched.entry(interface.clone()).or_default().insert(*address);
            match address {
                IpAddr::V4(address) => ipv4.insert(address.to_bits()),
                IpAddr::V6(address) => ipv6.insert(filter::low_word(*address)),
            };
        }
        self.arp.attach_filter(&filter::arp(&ipv4))?;
        self.ndp.attach_filter(&filter::ndp(&ipv6))
    }

    /// Tells the network that the address is here: by ARP in request and in reply form, or by an unsolicited neighbour
    /// advertisement. Quietly nothing on an interface without either. An error (ENOBUFS, ENETDOWN) loses this round
    /// only: the caller announces repeatedly.
    pub fn announce(&mut self, address: IpAddr, interface: &InterfaceState) -> io::Result<()> {
        let Some(mac) = mac(interface) else { return Ok(()) };
        match address {
            IpAddr::V4(address) => {
                let request = self.broadcast(interface, &arp::announcement_request(mac, address));
                let reply = self.broadcast(interface, &arp::announcement_reply(mac, address));
                request.and(reply)
            }
            IpAddr::V6(address) => {
                let router = *self.routers.entry(interface.index).or_insert_with(|| forwards(&interface.name));
                let packet = ndp::announcement(mac, address, router);
                self.multicast(interface, ndp::ALL_NODES, &packet)
            }
        }
    }

    /// Before a round of announcements: whether an interface forwards is read anew.
    pub fn begin_round(&mut self) {
        self.routers.clear();
    }

    /// Asks the network once who has the address. Quietly nothing on an interface without ARP and neighbour discovery.
    pub fn probe(&mut self, address: IpAddr, interface: &InterfaceState) -> io::Result<()> {
        let Some(mac) = mac(interface) else { return Ok(()) };
        match address {
            IpAddr::V4(address) => self.broadcast(interface, &arp::probe(mac, address)),
            IpAddr::V6(address) => self.multicast(interface, ndp::solicited_node(address), &ndp::probe(address)),
        }
    }

    fn broadcast(&self, interface: &InterfaceState, packet: &[u8]) -> io::Result<()> {
        self.arp.send(interface.index, ETHERNET_BROADCAST, packet)
    }

    fn multicast(&self, interface: &InterfaceState, group: Ipv6Addr, packet: &[u8]) -> io::Result<()> {
        self.ndp.send(interface.index, ndp::multicast_mac(group), packet)
    }

    /// The next claim of another host to a watched address: an answer to a probe, or a conflict. `table` tells which
    /// hardware addresses are this host's own. After some dozens of other packets it gives up for this round.
    pub fn receive(&mut self, table: &Table) -> Option<ClaimSeen> {
        self.receive_arp(table).or_else(|| self.receive_ndp(table))
    }

    fn receive_arp(&self, table: &Table) -> Option<ClaimSeen> {
        self.next(&self.arp, |packet, _, index| {
            let arp::Claim { mac, address } = arp::parse(packet)?;
            self.seen(address.into(), mac, index, table)
        })
    }

    fn receive_ndp(&self, table: &Table) -> Option<ClaimSeen> {
        self.next(&self.ndp, |packet, from, index| {
            let ndp::Claim { mac, address } = ndp::parse(packet)?;
            self.seen(address.into(), mac.unwrap_or(from), index, table)
        })
    }

    fn next(
        &self,
        socket: &PacketSocket,
        read: impl Fn(&[u8], [u8; 6], u32) -> Option<ClaimSeen>,
    ) -> Option<ClaimSeen> {
        let mut buffer = [0; PACKET];
        for _ in 0..PACKETS_PER_CALL {
            match socket.receive(&mut buffer) {
                Ok(received) => {
                    let seen = read(&buffer[..received.length], received.from, received.interface);
                    if seen.is_some() {
                        return seen;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // ENETDOWN and the like: told once for an interface, nothing to do with the others.
                Err(_) => {}
            }
        }
        None
    }

    fn seen(&self, address: IpAddr, mac: [u8; 6], index: u32, table: &Table) -> Option<ClaimSeen> {
        let interface = table.by_index(index)?;
        let watched = self.watched.get(&interface.name).is_some_and(|watched| watched.contains(&address));
        (watched && !table.owns_mac(mac)).then(|| ClaimSeen { interface: interface.name.clone(), address, mac })
    }
}

fn mac(interface: &InterfaceState) -> Option<[u8; 6]> {
    interface.mac.filter(|_| interface.arp)
}

/// Below /proc, which is memory: it never waits for a disk.
fn forwards(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    fs::read(path).is_ok_and(|value| value.first() == Some(&b'1'))
}
