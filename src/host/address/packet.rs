//! The edge to AF_PACKET: a socket of one protocol for all interfaces, and its addresses, which neither rustix nor socket2 knows.
//! It must not know what the packets say.
#![allow(unsafe_code)] // sockaddr_ll in and out of socket2's storage

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

pub(super) const ETHERNET_BROADCAST: [u8; 6] = [0xff; 6];

/// Some thousand answers: all addresses of a node that is alive answer to one round of probes, and an answer that is lost
/// would be taken for silence.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// As many questions or announcements in one go: one that finds no room is not sent.
const SEND_BUFFER: usize = 4 * 1024 * 1024;

/// The kernel writes and reads the Ethernet header: payloads begin behind it.
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: Socket,
    protocol: u16,
}

/// What came in: its length, the hardware address of its sender (zeros where it is not six bytes long), and by which interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) length: usize,
    pub(super) from: [u8; 6],
    pub(super) interface: u32,
}

impl PacketSocket {
    /// `filter` is in place before the first packet can arrive.
    pub(super) fn open(protocol: u16, filter: &[SockFilter]) -> io::Result<PacketSocket> {
        // Protocol 0 receives nothing; the bind below names the protocol.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), Some(Protocol::from(0)))?;
        socket.attach_filter(filter)?;
        // Beyond rmem_max only with CAP_NET_ADMIN.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        if rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER).is_err() {
            socket.set_send_buffer_size(SEND_BUFFER)?;
        }
        socket.bind(&link_address(protocol, 0, ETHERNET_BROADCAST))?;
        Ok(PacketSocket { socket, protocol })
    }

    #[cfg(test)]
    pub(super) fn deaf() -> PacketSocket {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM.nonblocking(), None).expect("a socket");
        PacketSocket { socket, protocol: 0 }
    }

    /// Where there is always something more, and no claim: a socket that is not connected fails with each reading.
    #[cfg(test)]
    pub(super) fn flooded() -> PacketSocket {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.nonblocking(), None).expect("a socket");
        PacketSocket { socket, protocol: 0 }
    }

    pub(super) fn attach_filter(&self, filter: &[SockFilter]) -> io::Result<()> {
        self.socket.attach_filter(filter)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// To a hardware address on the interface's network.
    pub(super) fn send(&self, index: u32, to: [u8; 6], payload: &[u8]) -> io::Result<()> {
        self.socket.send_to_with_flags(payload, &link_address(self.protocol, index, to), libc::MSG_DONTWAIT).map(|_| ())
    }

    /// The next packet that waits, cut to `buffer`.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        // SAFETY: MaybeUninit<u8> has u8's layout, and recv_from writes only initialized bytes into it.
        let buffer = unsafe { &mut *(&raw mut *buffer as *mut [MaybeUninit<u8>]) };
        let (length, from) = self.socket.recv_from(buffer)?;
        if from.family() != libc::AF_PACKET as libc::sa_family_t {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: the family says that the kernel wrote a sockaddr_ll, and the storage is large enough and aligned for any.
        let from = unsafe { &*from.as_ptr().cast::<libc::sockaddr_ll>() };
        let mac = from.sll_addr.first_chunk().copied().filter(|_| from.sll_halen == 6);
        Ok(Received { length, from: mac.unwrap_or_default(), interface: from.sll_ifindex as u32 })
    }
}

/// A hardware address on one interface; index 0 in a bind means all of them.
pub fn link_address(protocol: u16, index: u32, to: [u8; 6]) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the address structures the storage is made to hold; all bits zero is valid for it.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as libc::sa_family_t;
    link.sll_protocol = protocol.to_be();
    link.sll_ifindex = index as i32;
    link.sll_halen = 6;
    link.sll_addr[..6].copy_from_slice(&to);
    // SAFETY: a whole sockaddr_ll was written above.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}
