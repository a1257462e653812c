//! The rtnetlink sockets: watch interfaces and addresses, dump them, add and remove addresses.
//! It must not know groups, nor which change matters to whom. The kernel answers a request before the send returns; how
//! long it waits in there (for its lock on network configuration, while others change interfaces) is not ours to bound.
//! Our own wait, for an answer that is missing all the same, is.

use super::message::{Batch, Body, Incoming, Malformed, messages};
use super::request::{AddressError, Request, label_of, several};
use super::table::{InterfaceAddress, InterfaceState, NetChange, Table, Update};
use crate::config::model::VirtualAddress;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, bind, getsockname, recvfrom, sendto,
    socket_with, sockopt,
};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use std::{fs, io};

const RTMGRP_LINK: u32 = 0x1;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const KERNEL: SocketAddrNetlink = SocketAddrNetlink::new(0, 0);

/// Some thousand changes, should the beat thread be late.
const MONITOR_BUFFER: usize = 1024 * 1024;

/// More than the kernel puts into one datagram of a dump (32 KiB) or of a link with many virtual functions.
const DATAGRAM: usize = 64 * 1024;

/// Acknowledgements of one batch must fit the receive buffer, each with the request quoted in it.
const BATCH: usize = 64;

/// Changes read in one round. Beyond it, asking for the whole is cheaper than reading what led there.
const CHANGES_PER_ROUND: usize = 1024;

/// The kernel answers at once; this bounds what a broken one can cost the heartbeat.
const ANSWER_WITHIN: Duration = Duration::from_millis(20);

/// A dump is repeated when something changed meanwhile.
const DUMP_TRIES: usize = 3;

#[derive(Debug)]
pub struct Netlink {
    monitor: OwnedFd,
    request: OwnedFd,
    request_port: u32,
    sequence: u32,
    buffer: Vec<u8>,
    table: Table,
    /// Read, but not told yet.
    pending: Vec<NetChange>,
    /// Being added or removed by us right now: not worth telling.
    own: BTreeSet<(u32, InterfaceAddress)>,
    /// Where an address was before we could add it. There it is somebody else's, and stays when its group goes.
    foreign: BTreeSet<(u32, InterfaceAddress)>,
    /// Something was missed and asking anew failed: the next round asks again.
    stale: bool,
}

impl Netlink {
    pub fn open() -> io::Result<Netlink> {
        let (monitor, _) = open_socket(RTMGRP_LINK | RTMGRP_IPV4_IFADDR)?;
        let (request, request_port) = open_socket(0)?;
        let mut netlink = Netlink {
            monitor,
            request,
            request_port,
            sequence: 0,
            buffer: vec![0; DATAGRAM],
            table: Table::default(),
            pending: Vec::new(),
            own: BTreeSet::new(),
            foreign: BTreeSet::new(),
            stale: false,
        };
        netlink.table = netlink.dump()?;
        Ok(netlink)
    }

    /// What to poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    pub fn interface(&self, name: &str) -> Option<&InterfaceState> {
        self.table.interface(name)
    }

    /// The address is on its interface, with its prefix.
    pub fn has(&self, address: &VirtualAddress) -> bool {
        let wanted = InterfaceAddress::new(address.address, address.prefix);
        self.interface(&address.interface).is_some_and(|interface| interface.addresses.contains(&wanted))
    }

    /// An interface and prefix where this host holds the address.
    pub fn find(&self, address: Ipv4Addr) -> Option<(&InterfaceState, u8)> {
        self.table.find(address).next().map(|(interface, at)| (interface, at.prefix))
    }

    /// What changed since the last call; our own adding and removing is left out (but
    /// for what an overrun hid: ask [`Netlink::has`] before acting). Call it when [`Netlink::fd`] is readable, and now
    /// and then while [`Netlink::is_stale`].
    pub fn drain(&mut self) -> Vec<NetChange> {
        self.absorb();
        std::mem::take(&mut self.pending)
    }

    /// Something was read beside an adding or removing: [`Netlink::drain`] has news though [`Netlink::fd`] is quiet.
    pub fn has_news(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Something was missed and asking anew failed: [`Netlink::drain`] asks again, though [`Netlink::fd`] is quiet.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Adds all or none. Without `adopt`, one that is there already is refused; with it, one that is
    /// there as wanted is ours. An address that this host holds anywhere else is always refused.
    pub fn add(&mut self, addresses: &[&VirtualAddress], adopt: bool) -> Result<(), AddressError> {
        self.absorb();
        if !adopt {
            self.note_foreign(addresses);
        }
        let mut missing = Vec::new();
        for address in addresses {
            if !self.check(address, adopt)? {
                missing.push(*address);
            }
        }
        let mut requests = self.promotions(&missing);
        requests.extend(missing.iter().map(|address| Request::Add(address)));
        let results = self.transact(&requests);
        let is_ours = |result: &Result<(), Errno>| result.is_ok() || (adopt && *result == Err(Errno::EXIST));
        let errors: Vec<_> = requests
            .iter()
            .zip(&results)
            .filter(|(_, result)| !is_ours(result))
            .filter_map(|(request, result)| Some(request.error((*result).err()?)))
            .collect();
        if errors.is_empty() {
            return Ok(());
        }
        let added: Vec<_> = requests
            .iter()
            .zip(&results)
            // No answer: it may have been added. One that was there before would have been refused above.
            .filter(|(_, result)| result.is_ok() || **result == Err(Errno::TIMEDOUT))
            .filter_map(|(request, _)| request.address())
            .collect();
        let rolled_back = self.remove(&added);
        let there_before = requests.iter().zip(&results).filter(|(_, result)| **result == Err(Errno::EXIST));
        let there_before: Vec<_> = there_before.filter_map(|(request, _)| request.address()).collect();
        if !adopt {
            // It came in between our look and our adding.
            self.note_foreign(&there_before);
        }
        Err(several(errors.into_iter().chain(rolled_back.err()).collect()))
    }

    /// Removes all that are there, also from an interface that has another name by now; tries each one whatever became
    /// of the others. `Ok` only if this host holds none of them any more, but for what was here before we could add it.
    pub fn remove(&mut self, addresses: &[&VirtualAddress]) -> Result<(), AddressError> {
        self.absorb();
        let places: Vec<_> = addresses.iter().flat_map(|address| self.places(address)).collect();
        let places: Vec<&VirtualAddress> = places.iter().collect();
        let mut requests = self.promotions(&places);
        requests.extend(places.iter().map(|address| Request::Remove(address)));
        let results = self.transact(&requests);
        let is_gone = |error: &Errno| matches!(*error, Errno::ADDRNOTAVAIL | Errno::NODEV);
        let mut errors: Vec<_> = requests
            .iter()
            .zip(results)
            // What a failed promotion took along is told as removed, and repaired; the removal itself is done.
            .filter(|(request, _)| request.address().is_some())
            .filter_map(|(request, result)| Some(request.error(result.err().filter(|error| !is_gone(error))?)))
            .collect();
        // "Not there" was said of one place only: the host answers for the address wherever it is.
        errors.extend(addresses.iter().flat_map(|address| self.left(address.address)));
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
        let elsewhere = found.filter(|interface| interface.name != wanted.interface && !is_foreign(interface));
        let mut places: Vec<_> =
            elsewhere.map(|interface| VirtualAddress { interface: interface.name.clone(), ..wanted.clone() }).collect();
        // Asked for also where the table does not show it: the kernel knows better.
        if !self.interface(&wanted.interface).is_some_and(is_foreign) {
            places.push(wanted.clone());
        }
        places
    }

    /// Where the address still is, though it should be gone.
    fn left(&self, address: Ipv4Addr) -> impl Iterator<Item = AddressError> {
        let left = self.table.find(address).filter(|(interface, at)| !self.foreign.contains(&(interface.index, *at)));
        left.map(move |(interface, at)| AddressError::StillThere {
            address,
            prefix: at.prefix,
            interface: interface.name.clone(),
        })
    }

    /// Before the first of them is added, whatever this host holds of these addresses is not ours.
    fn note_foreign(&mut self, addresses: &[&VirtualAddress]) {
        let meant = |local: Ipv4Addr| addresses.iter().any(|address| address.address == local);
        self.foreign.retain(|(_, at)| !meant(at.local));
        for address in addresses {
            self.foreign.extend(self.table.find(address.address).map(|(interface, at)| (interface.index, at)));
        }
    }

    /// Whether the address is there already as wanted; an error if it may not be added.
    fn check(&self, wanted: &VirtualAddress, adopt: bool) -> Result<bool, AddressError> {
        let (address, prefix) = (wanted.address, wanted.prefix);
        if self.interface(&wanted.interface).is_none() {
            return Err(AddressError::NoInterface { interface: wanted.interface.clone(), address });
        }
        label_of(wanted)?;
        // The kernel would take the same address with another prefix or on another interface.
        let foreign = self.table.find(address).find(|(interface, at)| {
            !adopt || interface.name != wanted.interface || *at != InterfaceAddress::new(address, prefix)
        });
        match foreign {
            Some((interface, at)) => {
                Err(AddressError::AlreadyThere { address, prefix: at.prefix, interface: interface.name.clone() })
            }
            None => Ok(self.has(wanted)),
        }
    }

    /// See the module's page: no address may take others with it. Read afresh, since administrators change it.
    fn promotions<'a>(&self, addresses: &[&'a VirtualAddress]) -> Vec<Request<'a>> {
        let interfaces: BTreeSet<&'a str> = addresses.iter().map(|address| address.interface.as_str()).collect();
        let exists = |name: &&str| self.interface(name).is_some();
        if interfaces.is_empty() || promotes("all") {
            return Vec::new();
        }
        let off = interfaces.into_iter().filter(exists).filter(|name| !promotes(name));
        off.map(|interface| Request::Promote { interface }).collect()
    }

    /// Sends the requests in as few datagrams as possible and gives each one's result. The table is up to date afterwards.
    fn transact(&mut self, requests: &[Request<'_>]) -> Vec<Result<(), Errno>> {
        let mut results = vec![Err(Errno::TIMEDOUT); requests.len()];
        for (chunk, results) in requests.chunks(BATCH).zip(results.chunks_mut(BATCH)) {
            let first = self.sequence.wrapping_add(1);
            let mut batch = Batch::default();
            for (request, result) in chunk.iter().zip(results.iter_mut()) {
                self.sequence = self.sequence.wrapping_add(1);
                match self.table.interface(request.interface()).map(|interface| interface.index) {
                    Some(index) => {
                        let address = request.address().map(|a| (index, InterfaceAddress::new(a.address, a.prefix)));
                        self.own.extend(address);
                        request.encode(&mut batch, self.sequence, index);
                    }
                    None => *result = Err(Errno::NODEV),
                }
            }
            let mut waiting = results.iter().filter(|result| **result == Err(Errno::TIMEDOUT)).count();
            if waiting == 0 {
                continue;
            }
            if let Err(error) = sendto(&self.request, batch.bytes(), SendFlags::DONTWAIT, &KERNEL) {
                results.iter_mut().filter(|r| **r == Err(Errno::TIMEDOUT)).for_each(|result| *result = Err(error));
                continue;
            }
            let answered = self.answers(|incoming| {
                let slot = results.get_mut(incoming.sequence.wrapping_sub(first) as usize);
                if let (Body::Ack(code), Some(result)) = (incoming.body, slot) {
                    *result = if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(code)) };
                    waiting -= 1;
                }
                waiting == 0
            });
            if answered.is_err() {
                // What has no answer stays TIMEDOUT. Whether it happened, the table must ask.
                self.stale = true;
            }
        }
        // The kernel told the monitor about our changes before it answered.
        self.absorb();
        self.own.clear();
        results
    }

    /// Takes the sight from it, as a kernel does that has no memory for an answer; or gives it back.
    #[cfg(test)]
    pub(crate) fn blind(&mut self, blind: bool) {
        let deaf = || socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::NONBLOCK, None);
        (self.request, self.request_port) =
            if blind { (deaf().expect("a socket"), 0) } else { open_socket(0).expect("netlink") };
        self.stale |= blind;
    }

    /// Reads what waits on the monitor into the table and the pending changes.
    fn absorb(&mut self) {
        for _ in 0..CHANGES_PER_ROUND {
            match receive(&self.monitor, &mut self.buffer) {
                Ok(None) => {
                    if self.stale {
                        self.resync();
                    }
                    return;
                }
                Ok(Some(length)) => {
                    for incoming in messages(&self.buffer[..length]) {
                        match incoming {
                            Ok(Incoming { port, body: Body::Update(update), .. }) => {
                                let told = self.pending.len();
                                let silent = port == self.request_port && is_own(&self.own, &update);
                                self.table.apply(update, &mut self.pending);
                                if silent {
                                    self.pending.truncate(told);
                                }
                            }
                            Ok(_) => {}
                            Err(Malformed) => self.stale = true,
                        }
                    }
                }
                // The socket overran, or a datagram was cut: something is missing.
                Err(_) => return self.resync(),
            }
        }
        self.resync();
    }

    /// Asks the kernel for everything and tells the difference.
    fn resync(&mut self) {
        // What waits is older than the dump; read after it, it would undo it for a while.
        let mut left = 64 * CHANGES_PER_ROUND;
        while left > 0 && !matches!(receive(&self.monitor, &mut self.buffer), Ok(None)) {
            left -= 1;
        }
        match self.dump() {
            Ok(fresh) => {
                self.table.replace(fresh, &mut self.pending);
                self.stale = false;
            }
            Err(_) => self.stale = true,
        }
    }

    fn dump(&mut self) -> io::Result<Table> {
        let mut last = io::Error::from(Errno::INTR);
        for _ in 0..DUMP_TRIES {
            let mut table = Table::default();
            let links = self.dump_into(&mut table, Batch::dump_links);
            match links.and_then(|()| self.dump_into(&mut table, Batch::dump_addresses)) {
                Ok(()) => return Ok(table),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn dump_into(&mut self, table: &mut Table, encode: fn(&mut Batch, u32)) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let mut batch = Batch::default();
        encode(&mut batch, sequence);
        sendto(&self.request, batch.bytes(), SendFlags::DONTWAIT, &KERNEL)?;
        let (mut unheard, mut interrupted, mut failure) = (Vec::new(), false, None);
        self.answers(|incoming| {
            if incoming.sequence != sequence {
                return false;
            }
            interrupted |= incoming.interrupted;
            match incoming.body {
                Body::Update(update) => table.apply(update, &mut unheard),
                Body::Done => return true,
                Body::Ack(code) => {
                    failure = Some(Errno::from_raw_os_error(code));
                    return true;
                }
                Body::Other => {}
            }
            unheard.clear();
            false
        })?;
        match failure {
            Some(error) => Err(error.into()),
            None if interrupted => Err(Errno::INTR.into()),
            None => Ok(()),
        }
    }

    /// Hands every answer to `take` until it says that it was the last.
    fn answers(&mut self, mut take: impl FnMut(Incoming) -> bool) -> Result<(), Errno> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            let Some(length) = receive(&self.request, &mut self.buffer)? else {
                wait_for(&self.request, deadline)?;
                continue;
            };
            for incoming in messages(&self.buffer[..length]) {
                if take(incoming.map_err(|Malformed| Errno::BADMSG)?) {
                    return Ok(());
                }
            }
        }
    }
}

fn is_own(own: &BTreeSet<(u32, InterfaceAddress)>, update: &Update) -> bool {
    match update {
        Update::Address { index, address } | Update::AddressGone { index, address } => {
            own.contains(&(*index, *address))
        }
        _ => false,
    }
}

fn promotes(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/promote_secondaries");
    fs::read(path).is_ok_and(|value| value.first() == Some(&b'1'))
}

fn open_socket(groups: u32) -> io::Result<(OwnedFd, u32)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // NETLINK_ROUTE is protocol 0, which rustix spells None.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    // Beyond rmem_max only with CAP_NET_ADMIN; less is no failure, an overrun is survived.
    if sockopt::set_socket_recv_buffer_size_force(&socket, MONITOR_BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, MONITOR_BUFFER)?;
    }
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    let port = SocketAddrNetlink::try_from(getsockname(&socket)?)?.pid();
    Ok((socket, port))
}

/// One datagram of the kernel's, `None` if none waits. A cut one is an error: its end is lost.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
    loop {
        match recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((_, length, _)) if length > buffer.len() => return Err(Errno::MSGSIZE),
            Ok((_, length, Some(sender))) if is_kernel(&sender) => return Ok(Some(length)),
            // Other processes can write to this socket too.
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn is_kernel(sender: &SocketAddrAny) -> bool {
    SocketAddrNetlink::try_from(sender.clone()).is_ok_and(|sender| sender.pid() == 0)
}

fn wait_for(socket: &OwnedFd, deadline: Instant) -> Result<(), Errno> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => Err(Errno::TIMEDOUT),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_not_gone() {
        let (address, interface) = (Ipv4Addr::new(127, 77, 77, 77), "no-such-one".to_owned());
        let nowhere = VirtualAddress { address, prefix: 32, interface, label: None, broadcast: None };
        let mut netlink = Netlink::open().expect("netlink");
        netlink.blind(true);
        assert_eq!(netlink.remove(&[&nowhere]), Err(AddressError::Unread));
        netlink.blind(false);
        assert_eq!(netlink.remove(&[&nowhere]), Ok(()));
    }
}
