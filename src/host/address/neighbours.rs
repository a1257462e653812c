//! ARP and neighbour discovery on the service networks: tell neighbours where an address is, ask who has it, hear who else
//! claims it. It must not know groups, nor when to announce or ask. Nothing here waits.
//!
//! One socket for each protocol serves all interfaces, so that one which is created anew costs nothing. A filter in the
//! kernel passes only claims to the watched addresses: a busy network does not wake the beat thread.

use super::filter;
use super::packet::{ETHERNET_BROADCAST, PacketSocket, Received};
use super::table::{InterfaceState, Table};
use super::{arp, ndp};
use crate::config::model::VirtualAddress;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::{fs, io};

/// Packets of one protocol read in one round: the answers for as many addresses as a cluster has, and some milliseconds at most. What is
/// no claim counts too, for it must be read to know that.
const PACKETS_PER_ROUND: usize = 4096;
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

    #[cfg(test)]
    pub(crate) fn flooded() -> Neighbours {
        Neighbours { arp: PacketSocket::flooded(), ..Neighbours::deaf() }
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

    /// Asks a neighbour, by its address of the same family, for its hardware address. The kernel takes the answer as one to itself.
    pub fn ask(&self, own: IpAddr, neighbour: IpAddr, interface: &InterfaceState) -> io::Result<()> {
        let Some(mac) = mac(interface) else { return Ok(()) };
        match (own, neighbour) {
            (IpAddr::V4(own), IpAddr::V4(to)) => self.broadcast(interface, &arp::request(mac, own, to)),
            (IpAddr::V6(own), IpAddr::V6(to)) => {
                self.multicast(interface, ndp::solicited_node(to), &ndp::request(mac, own, to))
            }
            _ => Ok(()),
        }
    }

    fn broadcast(&self, interface: &InterfaceState, packet: &[u8]) -> io::Result<()> {
        self.arp.send(interface.index, ETHERNET_BROADCAST, packet)
    }

    fn multicast(&self, interface: &InterfaceState, group: Ipv6Addr, packet: &[u8]) -> io::Result<()> {
        self.ndp.send(interface.index, ndp::multicast_mac(group), packet)
    }

    /// Hands on every claim of another host to a watched address: an answer to a probe, or a conflict. `table` tells which
    /// hardware addresses are this host's own. False: packets were left unread, and a claim may be among them.
    pub fn drain(&mut self, table: &Table, mut take: impl FnMut(ClaimSeen)) -> bool {
        let arp = read_all(
            |buffer| self.arp.receive(buffer),
            |packet, received| {
                let Some(arp::Claim { mac, address }) = arp::parse(packet) else { return };
                self.seen(address.into(), mac, received.interface, table).into_iter().for_each(&mut take);
            },
        );
        let ndp = read_all(
            |buffer| self.ndp.receive(buffer),
            |packet, received| {
                let Some(ndp::Claim { mac, address }) = ndp::parse(packet) else { return };
                let mac = mac.unwrap_or(received.from);
                self.seen(address.into(), mac, received.interface, table).into_iter().for_each(&mut take);
            },
        );
        arp && ndp
    }

    fn seen(&self, address: IpAddr, mac: [u8; 6], index: u32, table: &Table) -> Option<ClaimSeen> {
        let interface = table.by_index(index)?;
        let watched = self.watched.get(&interface.name).is_some_and(|watched| watched.contains(&address));
        (watched && !table.owns_mac(mac)).then(|| ClaimSeen { interface: interface.name.clone(), address, mac })
    }
}

/// Until nothing waits, or it was enough for one round: then false.
fn read_all(
    mut receive: impl FnMut(&mut [u8]) -> io::Result<Received>,
    mut take: impl FnMut(&[u8], &Received),
) -> bool {
    let mut buffer = [0; PACKET];
    for _ in 0..PACKETS_PER_ROUND {
        match receive(&mut buffer) {
            Ok(received) => take(&buffer[..received.length], &received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            // ENETDOWN and the like: told once for an interface, nothing to do with the others.
            Err(_) => {}
        }
    }
    false
}

fn mac(interface: &InterfaceState) -> Option<[u8; 6]> {
    interface.mac.filter(|_| interface.arp)
}

/// Below /proc, which is memory: it never waits for a disk.
fn forwards(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    fs::read(path).is_ok_and(|value| value.first() == Some(&b'1'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_unread_is_told_from_nothing_whatever_was_read() {
        let read = |waiting: usize| {
            let (mut left, mut taken) = (waiting, 0);
            let receive = |_: &mut [u8]| {
                left = left.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
                match left % 2 {
                    0 => Err(io::ErrorKind::NetworkDown.into()),
                    _ => Ok(Received { length: 1, from: [0; 6], interface: 1 }),
                }
            };
            let all = read_all(receive, |_, _| taken += 1);
            (all, taken)
        };
        assert_eq!(read(0), (true, 0));
        assert_eq!(read(1000), (true, 500), "no claim among the first ones hides what comes behind");
        assert_eq!(read(PACKETS_PER_ROUND), (false, PACKETS_PER_ROUND / 2), "whether more waits is not known");
        assert_eq!(read(PACKETS_PER_ROUND + 1), (false, PACKETS_PER_ROUND / 2));
    }
}
