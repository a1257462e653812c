//! One realtime reader of every host's address changes, and of the ARP and the neighbour advertisements that the client hears.
//! One thread stamps them all, so that "before" and "after" mean something between hosts. It must not know why an address
//! moves.

use crate::sys::{INSTRUMENT, Result, become_realtime, inside};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 136;
const SOLICITED: u8 = 0x40;
/// A thousand addresses come and go in one go, and are announced in one.
const ROOM: usize = 8 * 1024 * 1024;

/// An address appeared on a host, or went.
#[derive(Clone, Debug)]
pub struct AddressChange {
    pub at: Instant,
    pub host: String,
    pub address: IpAddr,
    pub added: bool,
}

/// An ARP packet as the client heard it.
#[derive(Clone, Copy, Debug)]
pub struct Arp {
    pub at: Instant,
    pub request: bool,
    pub sender: Ipv4Addr,
    pub sender_mac: [u8; 6],
    pub target: Ipv4Addr,
}

/// A neighbour advertisement that nobody had asked for, as the client heard it.
#[derive(Clone, Copy, Debug)]
pub struct Advertisement {
    pub at: Instant,
    pub address: Ipv6Addr,
}

/// A host had the address from `from` to `to`; to the end of time if `to` is missing.
#[derive(Clone, Debug)]
pub struct Tenure {
    pub host: String,
    pub from: Instant,
    pub to: Option<Instant>,
}

#[derive(Debug, Default)]
struct Seen {
    addresses: Vec<AddressChange>,
    arps: Vec<Arp>,
    advertisements: Vec<Advertisement>,
    /// The kernel dropped events: what was seen proves nothing.
    lost: Option<String>,
}

#[derive(Debug)]
enum Kind {
    Addresses(String),
    Arps,
    Advertisements,
}

#[derive(Debug)]
struct Source {
    kind: Kind,
    socket: OwnedFd,
}

#[derive(Debug)]
pub struct NetWatch {
    seen: Arc<Mutex<Seen>>,
    sources: Arc<Mutex<Vec<Source>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NetWatch {
    pub fn start() -> Result<NetWatch> {
        let mut watch = NetWatch { seen: Arc::default(), sources: Arc::default(), stop: Arc::default(), thread: None };
        let (seen, sources, stop) = (watch.seen.clone(), watch.sources.clone(), watch.stop.clone());
        let (begun, begins) = std::sync::mpsc::channel();
        let body = move || {
            let ready = become_realtime(INSTRUMENT).map_err(|error| error.to_string());
            let reads = ready.is_ok();
            // The starter waits for the answer.
            let _ = begun.send(ready);
            if reads {
                read_all(&seen, &sources, &stop);
            }
        };
        watch.thread = Some(std::thread::Builder::new().name("netwatch".into()).spawn(body)?);
        begins.recv()?.map_err(|error| format!("the reader of address changes is not realtime: {error}"))?;
        Ok(watch)
    }

    /// Begins to read a host's address changes. The host must have none of the watched addresses yet.
    pub fn add_host(&self, host: &str, namespace: &str) -> Result {
        let socket = inside(namespace, address_socket)?;
        self.sources().push(Source { kind: Kind::Addresses(host.into()), socket });
        Ok(())
    }

    /// Begins to read what is told to all neighbours of this namespace.
    pub fn add_client(&self, namespace: &str) -> Result {
        for (kind, protocol) in [(Kind::Arps, ETH_P_ARP), (Kind::Advertisements, ETH_P_IPV6)] {
            let socket = inside(namespace, || packet_socket(protocol))?;
            self.sources().push(Source { kind, socket });
        }
        Ok(())
    }

    /// The host lost its power at `at`: whatever it had, it has no more. Its socket is closed, which lets the namespace go.
    pub fn host_died(&self, host: &str, at: Instant) {
        self.sources().retain(|source| !matches!(&source.kind, Kind::Addresses(name) if name == host));
        let mut seen = self.seen.lock().expect("the reader does not panic");
        for address in held_by(&seen.addresses, host) {
            seen.addresses.push(AddressChange { at, host: host.into(), address, added: false });
        }
    }

    /// All addresses that the host has now.
    pub fn held_by(&self, host: &str) -> HashSet<IpAddr> {
        held_by(&self.seen.lock().expect("the reader does not panic").addresses, host)
    }

    /// When the first of these addresses appeared on the host after `since`.
    pub fn first_added(&self, host: &str, addresses: &HashSet<IpAddr>, since: Instant) -> Option<Instant> {
        let seen = self.seen.lock().expect("the reader does not panic");
        let added = seen.addresses.iter().filter(|change| change.added && change.host == host && change.at >= since);
        added.filter(|change| addresses.contains(&change.address)).map(|change| change.at).min()
    }

    pub fn changes(&self, address: impl Into<IpAddr>) -> Vec<AddressChange> {
        let address = address.into();
        let seen = self.seen.lock().expect("the reader does not panic");
        let mut changes: Vec<_> = seen.addresses.iter().filter(|change| change.address == address).cloned().collect();
        // What one host did within one stamp stays in its order.
        changes.sort_by_key(|change| change.at);
        changes
    }

    pub fn arps(&self) -> Vec<Arp> {
        self.seen.lock().expect("the reader does not panic").arps.clone()
    }

    pub fn advertisements(&self) -> Vec<Advertisement> {
        self.seen.lock().expect("the reader does not panic").advertisements.clone()
    }

    /// Who has the address now.
    pub fn holders(&self, address: impl Into<IpAddr>) -> Vec<String> {
        self.tenures(address).into_iter().filter(|tenure| tenure.to.is_none()).map(|tenure| tenure.host).collect()
    }

    pub fn tenures(&self, address: impl Into<IpAddr>) -> Vec<Tenure> {
        let mut tenures: Vec<Tenure> = Vec::new();
        for change in self.changes(address) {
            let open = tenures.iter_mut().find(|tenure| tenure.host == change.host && tenure.to.is_none());
            match (open, change.added) {
                (None, true) => tenures.push(Tenure { host: change.host, from: change.at, to: None }),
                (Some(tenure), false) => tenure.to = Some(change.at),
                // A repeated announcement of the same state.
                _ => {}
            }
        }
        tenures
    }

    /// The first time since `since` at which two hosts had the address, or may have had it, in a sentence.
    pub fn overlap(&self, address: impl Into<IpAddr>, since: Instant) -> Option<String> {
        let address = address.into();
        if let Some(lost) = &self.seen.lock().expect("the reader does not panic").lost {
            return Some(lost.clone());
        }
        let tenures = self.tenures(address);
        for (index, left) in tenures.iter().enumerate() {
            for right in tenures[index + 1..].iter().filter(|right| right.host != left.host) {
                let from = left.from.max(right.from);
                let to = [left.to, right.to].into_iter().flatten().min();
                // Stamped alike, they came while the reader was late: nobody knows in which order.
                if to.is_some_and(|to| to == from && to > since) {
                    return Some(format!("{} and {} changed {address} in unknown order", left.host, right.host));
                }
                if to.is_none_or(|to| to > from && to > since) {
                    let length = to.map_or("until now".into(), |to| format!("for {:?}", to - from.max(since)));
                    return Some(format!("{} and {} both had {address} {length}", left.host, right.host));
                }
            }
        }
        None
    }

    fn sources(&self) -> std::sync::MutexGuard<'_, Vec<Source>> {
        self.sources.lock().expect("the reader does not panic")
    }
}

impl Drop for NetWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn held_by(changes: &[AddressChange], host: &str) -> HashSet<IpAddr> {
    let mut held = HashSet::new();
    for change in changes.iter().filter(|change| change.host == host) {
        if change.added {
            held.insert(change.address);
        } else {
            held.remove(&change.address);
        }
    }
    held
}

fn read_all(seen: &Mutex<Seen>, sources: &Mutex<Vec<Source>>, stop: &AtomicBool) {
    // Short enough that a source added meanwhile is not missed for long, before anything can happen on it.
    let patience = Timespec::try_from(Duration::from_millis(5)).expect("it is short");
    while !stop.load(Ordering::Relaxed) {
        let sources = sources.lock().expect("the owner does not panic");
        let mut waiting: Vec<_> = sources.iter().map(|source| PollFd::new(&source.socket, PollFlags::IN)).collect();
        let ready = if waiting.is_empty() { Ok(0) } else { poll(&mut waiting, Some(&patience)) };
        if ready.is_ok_and(|count| count > 0) {
            // One stamp for what came together: its order is not known.
            let at = Instant::now();
            let mut seen = seen.lock().expect("readers do not panic");
            sources.iter().for_each(|source| drain(source, at, &mut seen));
            continue;
        }
        drop(waiting);
        drop(sources);
        // Gives the owner a chance to take the lock.
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn drain(source: &Source, at: Instant, seen: &mut Seen) {
    let mut packet = [0; 16384];
    loop {
        let length = match recv(&source.socket, &mut packet, RecvFlags::DONTWAIT) {
            Ok((length, _)) => length,
            Err(rustix::io::Errno::AGAIN) => return,
            // A host that goes takes its network along.
            Err(rustix::io::Errno::NETDOWN) => return,
            Err(error) => {
                seen.lost = Some(format!("events of {:?} were lost: {error}", source.kind));
                return;
            }
        };
        let packet = &packet[..length];
        match &source.kind {
            Kind::Addresses(host) => read_addresses(packet, host, at, &mut seen.addresses),
            // More may come while these are read: the last of many must not carry the stamp of the first.
            Kind::Arps => seen.arps.extend(read_arp(packet, Instant::now())),
            Kind::Advertisements => seen.advertisements.extend(read_advertisement(packet, Instant::now())),
        }
    }
}

/// Protocol 0 of netlink is the one for routes and addresses.
fn address_socket() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, ROOM)?;
    bind(&socket, &SocketAddrNetlink::new(0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))?;
    Ok(socket)
}

fn packet_socket(protocol: u16) -> io::Result<OwnedFd> {
    // A packet socket with a protocol hears all interfaces of its namespace without being bound.
    let protocol = NonZeroU32::new(u32::from(protocol.to_be())).map(rustix::net::Protocol::from_raw);
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, ROOM)?;
    Ok(socket)
}

/// Walks the messages of one netlink datagram (struct nlmsghdr, struct ifaddrmsg, attributes).
fn read_addresses(mut packet: &[u8], host: &str, at: Instant, changes: &mut Vec<AddressChange>) {
    while let Some(header) = packet.get(..16) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(message) = packet.get(..length.max(16)) else { return };
        if let (RTM_NEWADDR | RTM_DELADDR, Some(address)) = (kind, message.get(24..).and_then(local_address)) {
            changes.push(AddressChange { at, host: host.into(), address, added: kind == RTM_NEWADDR });
        }
        packet = packet.get(length.max(16).next_multiple_of(4)..).unwrap_or_default();
    }
}

/// An IPv6 address is its own local one, unless the interface has a far end.
fn local_address(mut attributes: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    while let Some(header) = attributes.get(..4) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]])).max(4);
        let value = attributes.get(4..length)?;
        let kind = u16::from_ne_bytes([header[2], header[3]]);
        if kind == IFA_LOCAL || kind == IFA_ADDRESS && found.is_none() {
            let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
            found = v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok();
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Ethernet header (14), then ARP for IPv4 over Ethernet.
fn read_arp(packet: &[u8], at: Instant) -> Option<Arp> {
    let arp = packet.get(14..42)?;
    let address = |from: usize| Ipv4Addr::new(arp[from], arp[from + 1], arp[from + 2], arp[from + 3]);
    let sender_mac = arp[8..14].try_into().ok()?;
    Some(Arp { at, request: arp[7] == 1, sender: address(14), sender_mac, target: address(24) })
}

/// Ethernet header (14), IPv6 (40), then the advertisement: flags, and the address.
fn read_advertisement(packet: &[u8], at: Instant) -> Option<Advertisement> {
    let (ip, message) = (packet.get(14..54)?, packet.get(54..78)?);
    let unasked = ip[6] == ICMPV6 && message[0] == ADVERTISEMENT && message[4] & SOLICITED == 0;
    let address = <[u8; 16]>::try_from(&message[8..24]).ok()?;
    unasked.then_some(Advertisement { at, address: address.into() })
}
