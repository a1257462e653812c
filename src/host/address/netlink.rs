//! The rtnetlink sockets: watch interfaces and addresses, dump them, send requests and read their answers.
//! It must not know groups, nor which change matters to whom. The kernel answers a request before the send returns; how
//! long it waits in there (for its lock on network configuration, while others change interfaces) is not ours to bound.
//! Our own wait, for an answer that is missing all the same, is.

use super::message::{Batch, Body, Incoming, Malformed, messages};
use super::request::Request;
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
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

const RTMGRP_LINK: u32 = 0x1;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;
const KERNEL: SocketAddrNetlink = SocketAddrNetlink::new(0, 0);

/// Some thousand changes, should the beat thread be late.
const MONITOR_BUFFER: usize = 1024 * 1024;

/// More than the kernel puts into one datagram of a dump (32 KiB) or of a link with many virtual functions.
const DATAGRAM: usize = 64 * 1024;

/// Changes read in one round. Beyond it, asking for the whole is cheaper than reading what led there.
const CHANGES_PER_ROUND: usize = 1024;

/// The kernel answers at once; this bounds what a broken one can cost the heartbeat.
const ANSWER_WITHIN: Duration = Duration::from_millis(20);

/// A dump is repeated when something changed meanwhile.
const DUMP_TRIES: usize = 3;

/// While other processes change addresses all the time no dump may be whole. Before the first heartbeat there is time for more of them.
const FIRST_DUMP_WITHIN: Duration = Duration::from_secs(2);
const FIRST_DUMP_AGAIN: Duration = Duration::from_millis(20);

/// From a dump that failed to the next one: each costs some milliseconds of the heartbeat's, and hundreds of groups may ask.
pub(crate) const RESYNC_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Netlink {
    monitor: OwnedFd,
    request: OwnedFd,
    request_port: u32,
    sequence: u32,
    buffer: Vec<u8>,
    pub(super) table: Table,
    /// Read, but not told yet.
    pending: Vec<NetChange>,
    /// Being added or removed by us right now: not worth telling.
    own: BTreeSet<(u32, InterfaceAddress)>,
    /// Where an address was before we could add it. There it is somebody else's, and stays when its group goes.
    pub(super) foreign: BTreeSet<(u32, InterfaceAddress)>,
    /// Something was missed, and asking anew failed or is not due.
    pub(super) stale: bool,
    /// After a dump that failed: when to ask again, and no sooner.
    resync_due: Option<Instant>,
}

impl Netlink {
    pub fn open() -> io::Result<Netlink> {
        let (monitor, _) = open_socket(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)?;
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
            resync_due: None,
        };
        netlink.table = insist(FIRST_DUMP_WITHIN, || netlink.dump())?;
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
        self.interface(address.dev()).is_some_and(|interface| interface.addresses.contains(&wanted))
    }

    /// An interface and prefix where this host holds the address.
    pub fn find(&self, address: IpAddr) -> Option<(&InterfaceState, u8)> {
        self.table.find(address).next().map(|(interface, at)| (interface, at.prefix))
    }

    /// What changed since the last call; our own adding and removing is left out (but
    /// for what an overrun hid: ask [`Netlink::has`] before acting). Call it when [`Netlink::fd`] is readable, and
    /// while [`Netlink::wants_resync`].
    pub fn drain(&mut self) -> Vec<NetChange> {
        self.absorb();
        std::mem::take(&mut self.pending)
    }

    /// Something was read beside an adding or removing: [`Netlink::drain`] has news though [`Netlink::fd`] is quiet.
    pub fn has_news(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Something was missed, and it is time to ask anew, which [`Netlink::drain`] does, though [`Netlink::fd`] is quiet.
    pub fn wants_resync(&self) -> bool {
        self.stale && self.resync_due.is_none_or(|due| Instant::now() >= due)
    }

    /// Sends the requests in one datagram and gives each one's result. The table is up to date afterwards.
    pub(super) fn transact(&mut self, requests: &[Request<'_>]) -> Vec<Result<(), Errno>> {
        let mut results = vec![Err(Errno::TIMEDOUT); requests.len()];
        let first = self.sequence.wrapping_add(1);
        let mut batch = Batch::default();
        for (request, result) in requests.iter().zip(results.iter_mut()) {
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
        if waiting > 0 {
            match sendto(&self.request, batch.bytes(), SendFlags::DONTWAIT, &KERNEL) {
                Err(error) => {
                    results.iter_mut().filter(|r| **r == Err(Errno::TIMEDOUT)).for_each(|result| *result = Err(error));
                }
                Ok(_) => {
                    let answered = self.answers(|incoming| {
                        let slot = results.get_mut(incoming.sequence.wrapping_sub(first) as usize);
                        if let (Body::Ack(code), Some(result)) = (incoming.body, slot) {
                            *result = if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(code)) };
                            waiting -= 1;
                        }
                        waiting == 0
                    });
                    // What has no answer stays TIMEDOUT. Whether it happened, the table must ask.
                    self.stale |= answered.is_err();
                }
            }
        }
        self.note_added(requests, &results);
        // The kernel told the monitor about our changes before it answered.
        self.absorb();
        self.own.clear();
        results
    }

    /// A new IPv6 address is told of by a thread of the kernel's own, a moment after its answer.
    fn note_added(&mut self, requests: &[Request<'_>], results: &[Result<(), Errno>]) {
        for (request, _) in requests.iter().zip(results).filter(|(_, result)| result.is_ok()) {
            let Request::Add(new) = request else { continue };
            let index = self.table.interface(new.dev()).map(|interface| interface.index);
            if let Some(index) = index.filter(|_| new.address.is_ipv6()) {
                let address = InterfaceAddress::new(new.address, new.prefix);
                self.table.apply(Update::Address { index, address }, &mut Vec::new());
            }
        }
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
    pub(super) fn absorb(&mut self) {
        for _ in 0..CHANGES_PER_ROUND {
            match receive(&self.monitor, &mut self.buffer) {
                Ok(None) => {
                    if self.wants_resync() {
                        self.resync();
                    }
                    return;
                }
                Ok(Some(length)) => {
                    for incoming in messages(&self.buffer[..length]) {
                        match incoming {
                            Ok(Incoming { port, body: Body::Update(update), .. }) => {
                                let told = self.pending.len();
                                let silent = is_own(&self.own, self.request_port, port, &update);
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
                Err(_) => break,
            }
        }
        self.stale = true;
        if self.wants_resync() {
            self.resync();
        }
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
                (self.stale, self.resync_due) = (false, None);
            }
            Err(_) => (self.stale, self.resync_due) = (true, Some(Instant::now() + RESYNC_EVERY)),
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

/// Tries until it works, unless it is forbidden; for so long.
fn insist<T>(patience: Duration, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let end = Instant::now() + patience;
    loop {
        match attempt() {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied && Instant::now() < end => {
                std::thread::sleep(FIRST_DUMP_AGAIN);
            }
            result => return result,
        }
    }
}

/// Of IPv6 addresses the kernel does not tell who caused the change.
fn is_own(own: &BTreeSet<(u32, InterfaceAddress)>, mine: u32, port: u32, update: &Update) -> bool {
    match update {
        Update::Address { index, address } | Update::AddressGone { index, address } => {
            (port == mine || address.local.is_ipv6()) && own.contains(&(*index, *address))
        }
        _ => false,
    }
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
    fn a_first_look_that_others_disturb_is_tried_again_and_a_forbidden_one_is_not() {
        let mut tries = 0;
        let mut attempt = |fails: usize, error: Errno| {
            tries = 0;
            let end = insist(FIRST_DUMP_AGAIN * 50, || {
                tries += 1;
                if tries > fails { Ok(()) } else { Err(error.into()) }
            });
            (end.map_err(|error| error.kind()), tries)
        };
        assert_eq!(attempt(3, Errno::INTR), (Ok(()), 4));
        assert_eq!(attempt(9, Errno::PERM), (Err(io::ErrorKind::PermissionDenied), 1));
        let (end, tries) = attempt(usize::MAX, Errno::TIMEDOUT);
        assert!(end == Err(io::ErrorKind::TimedOut) && tries > 1, "{end:?} after {tries}");
    }

    #[test]
    fn whoever_acts_on_addresses_does_not_ask_again_before_it_is_time() {
        let mut netlink = Netlink::open().expect("netlink");
        netlink.blind(true);
        netlink.absorb();
        netlink.blind(false);
        let asked = netlink.sequence;
        for _ in 0..200 {
            netlink.begin_remove(Vec::new());
        }
        assert!(netlink.stale && netlink.sequence == asked, "{} dumps", netlink.sequence - asked);
        std::thread::sleep(RESYNC_EVERY);
        netlink.begin_remove(Vec::new());
        assert!(!netlink.stale);
    }
}
