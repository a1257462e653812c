//! ARP on the service networks: tell neighbours where an address is, ask who has it, hear who else claims it.
//! It must not know groups, nor when to announce or ask. Nothing here waits.
//!
//! One socket serves all interfaces, so that one which is created anew costs nothing. A filter in the kernel passes only claims
//! to the watched addresses: a busy network does not wake the beat thread.

use super::arp::{self, LENGTH};
use super::packet::PacketSocket;
use super::table::{InterfaceState, Table};
use crate::config::model::VirtualAddress;
use socket2::SockFilter;
use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

/// Packets looked at in one call, so that a storm of claims cannot hold up a heartbeat.
const PACKETS_PER_CALL: usize = 64;

/// Somebody who is not this host sent a packet as the owner of a watched address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArpSeen {
    pub interface: String,
    pub address: Ipv4Addr,
    pub mac: [u8; 6],
}

#[derive(Debug)]
pub struct ArpSocket {
    socket: PacketSocket,
    watched: BTreeSet<(Ipv4Addr, String)>,
}

impl ArpSocket {
    /// Needs CAP_NET_RAW. Nothing is watched yet.
    pub fn open() -> io::Result<ArpSocket> {
        Ok(ArpSocket { socket: PacketSocket::open(&filter(&BTreeSet::new()))?, watched: BTreeSet::new() })
    }

    /// Hears nothing, reaches nobody, needs no privilege.
    #[cfg(test)]
    pub(crate) fn deaf() -> ArpSocket {
        ArpSocket { socket: PacketSocket::deaf(), watched: BTreeSet::new() }
    }

    /// What to poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }

    /// Replaces the addresses whose claims [`ArpSocket::receive`] tells. Each counts on its own interface only.
    pub fn watch<'a>(&mut self, addresses: impl IntoIterator<Item = &'a VirtualAddress>) -> io::Result<()> {
        self.watched = addresses.into_iter().map(|a| (a.address, a.interface.clone())).collect();
        let program = filter(&self.watched.iter().map(|(address, _)| *address).collect());
        // Some thousand addresses are too many for the kernel: then the check below stands alone.
        self.socket.attach_filter(&program).or_else(|_| self.socket.detach_filter())
    }

    /// Tells the network that the address is here, in request and in reply form. Quietly nothing on an interface
    /// without ARP. An error (ENOBUFS, ENETDOWN) loses this round only: the caller announces repeatedly.
    pub fn announce(&mut self, address: &VirtualAddress, interface: &InterfaceState) -> io::Result<()> {
        let Some(mac) = arp_mac(interface) else { return Ok(()) };
        let request = self.socket.broadcast(interface.index, &arp::announcement_request(mac, address.address));
        let reply = self.socket.broadcast(interface.index, &arp::announcement_reply(mac, address.address));
        request.and(reply)
    }

    /// Asks the network once who has the address. Quietly nothing on an interface without ARP.
    pub fn probe(&mut self, address: &VirtualAddress, interface: &InterfaceState) -> io::Result<()> {
        let Some(mac) = arp_mac(interface) else { return Ok(()) };
        self.socket.broadcast(interface.index, &arp::probe(mac, address.address))
    }

    /// The next claim of another host to a watched address: an answer to a probe, or a conflict. `table` tells which
    /// hardware addresses are this host's own. After some dozens of other packets it gives up for this round.
    pub fn receive(&mut self, table: &Table) -> Option<ArpSeen> {
        let mut buffer = [0; LENGTH];
        for _ in 0..PACKETS_PER_CALL {
            match self.socket.receive(&mut buffer) {
                Ok((length, index)) => {
                    let seen = arp::parse(&buffer[..length]).and_then(|claim| self.seen(claim, index, table));
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

    fn seen(&self, claim: arp::Claim, index: u32, table: &Table) -> Option<ArpSeen> {
        let interface = table.by_index(index)?;
        let key = (claim.address, interface.name.clone());
        if !self.watched.contains(&key) || table.owns_mac(claim.mac) {
            return None;
        }
        Some(ArpSeen { interface: key.1, address: claim.address, mac: claim.mac })
    }
}

fn arp_mac(interface: &InterfaceState) -> Option<[u8; 6]> {
    interface.mac.filter(|_| interface.arp)
}

/// Classic BPF over the ARP packet: pass it if the sender's address is one of these.
fn filter(addresses: &BTreeSet<Ipv4Addr>) -> Vec<SockFilter> {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = vec![SockFilter::new(LOAD_WORD, 0, 0, 14)];
    for address in addresses {
        // Jumps reach 255 instructions only: each comparison has its own return.
        program.push(SockFilter::new(JUMP_EQUAL, 0, 1, address.to_bits()));
        program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    }
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program
}
