//! The edge to AF_PACKET: an ARP socket for all interfaces, and its addresses, which neither rustix nor socket2 knows.
//! It must not know what the packets say.
#![allow(unsafe_code)] // sockaddr_ll in and out of socket2's storage

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

const ARP: u16 = libc::ETH_P_ARP as u16;
const BROADCAST: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];

/// The kernel writes and reads the Ethernet header: payloads begin with the ARP packet.
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: Socket,
}

impl PacketSocket {
    /// `filter` is in place before the first packet can arrive.
    pub(super) fn open(filter: &[SockFilter]) -> io::Result<PacketSocket> {
        // Protocol 0 receives nothing; the bind below names the protocol.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), Some(Protocol::from(0)))?;
        socket.attach_filter(filter)?;
        socket.bind(&address(0))?;
        Ok(PacketSocket { socket })
    }

    #[cfg(test)]
    pub(super) fn deaf() -> PacketSocket {
        PacketSocket { socket: Socket::new(Domain::UNIX, Type::DGRAM.nonblocking(), None).expect("a socket") }
    }

    pub(super) fn attach_filter(&self, filter: &[SockFilter]) -> io::Result<()> {
        self.socket.attach_filter(filter)
    }

    pub(super) fn detach_filter(&self) -> io::Result<()> {
        self.socket.detach_filter()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// To everybody on the interface's network.
    pub(super) fn broadcast(&self, index: u32, payload: &[u8]) -> io::Result<()> {
        self.socket.send_to_with_flags(payload, &address(index), libc::MSG_DONTWAIT).map(|_| ())
    }

    /// The next packet that waits: its length in `buffer`, and the interface it came in by.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, u32)> {
        // SAFETY: MaybeUninit<u8> has u8's layout, and recv_from writes only initialized bytes into it.
        let buffer = unsafe { &mut *(&raw mut *buffer as *mut [MaybeUninit<u8>]) };
        let (length, from) = self.socket.recv_from(buffer)?;
        if from.family() != libc::AF_PACKET as libc::sa_family_t {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: the family says that the kernel wrote a sockaddr_ll, and the storage is large enough and aligned for any.
        let from = unsafe { &*from.as_ptr().cast::<libc::sockaddr_ll>() };
        Ok((length, from.sll_ifindex as u32))
    }
}

/// ARP broadcast on one interface; index 0 in a bind means all of them.
fn address(index: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the address structures the storage is made to hold; all bits zero is valid for it.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as libc::sa_family_t;
    link.sll_protocol = ARP.to_be();
    link.sll_ifindex = index as i32;
    link.sll_halen = 6;
    link.sll_addr = BROADCAST;
    // SAFETY: a whole sockaddr_ll was written above.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}
