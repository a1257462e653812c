//! A heartbeat link over UDP and IPv4 (`kind = "ucast"`), bound to its interface and this node's own link address.
//! It must not know what a packet says, nor when to send one. Nothing here waits.
//!
//! The socket exists only while the interface exists and holds this node's own address on the link. Who watches
//! netlink calls [`UdpLink::refresh`] whenever the interface changed; one that vanished is waited for.

use super::priority;
use crate::cluster::status::LinkCounters;
use crate::config::model::{LinkConfig, NodeId};
use crate::host::address::InterfaceState;
use rustix::net::{RecvFlags, SendFlags, recv, sendto, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};

/// DSCP CS6, network control: switches that queue by DSCP let heartbeats pass bulk traffic.
const TOS_CS6: u8 = 0xc0;

/// Holds some hundred heartbeats, should the beat thread be late.
const RECEIVE_BUFFER: usize = 256 * 1024;

/// Pending socket errors (ICMP) come once each; more than this in a row is a broken socket, left to the next round.
const ERRORS_PER_RECEIVE: u32 = 8;

#[derive(Debug)]
pub struct UdpLink {
    interface: String,
    own: Option<SocketAddrV4>,
    peers: Vec<SocketAddrV4>,
    open: Option<Open>,
    carrier: bool,
    fault: Option<String>,
    counters: LinkCounters,
}

#[derive(Debug)]
struct Open {
    socket: Socket,
    /// A socket stays bound to the interface it was bound to, even when another one took over its name.
    index: u32,
}

impl UdpLink {
    /// Opens nothing yet: that is for the first [`UdpLink::refresh`].
    pub fn new(config: &LinkConfig, me: NodeId) -> UdpLink {
        let socket_address = |address: &Ipv4Addr| SocketAddrV4::new(*address, config.port);
        UdpLink {
            interface: config.interface.clone(),
            own: config.peers.get(&me).map(socket_address),
            peers: config.peers.iter().filter(|(node, _)| **node != me).map(|(_, a)| socket_address(a)).collect(),
            open: None,
            carrier: false,
            fault: Some(format!("interface {} was not looked at yet", config.interface)),
            counters: LinkCounters::default(),
        }
    }

    /// Opens, keeps or closes the socket by what the interface is now (`None`: it does not exist). Cheap when
    /// nothing changed; a bind that failed is tried again at each call.
    pub fn refresh(&mut self, state: Option<&InterfaceState>) {
        self.carrier = state.is_some_and(|interface| interface.carrier);
        let (interface, own) = match (state, self.own) {
            (None, _) => return self.close(format!("interface {} does not exist", self.interface)),
            (_, None) => return self.close(format!("this node has no address in peers of link {}", self.interface)),
            (Some(interface), Some(own)) => (interface, own),
        };
        if !interface.holds(*own.ip()) {
            return self.close(format!("{} does not hold this node's address {}", interface.name, own.ip()));
        }
        if self.open.as_ref().is_some_and(|open| open.index == interface.index) {
            return;
        }
        // The old socket must let go of the port first.
        self.open = None;
        match open_socket(&interface.name, own) {
            Ok(socket) => {
                self.open = Some(Open { socket, index: interface.index });
                self.fault = None;
            }
            Err(error) => self.fault = Some(format!("cannot bind {own} on {}: {error}", interface.name)),
        }
    }

    /// The socket is open and the interface has carrier.
    pub fn usable(&self) -> bool {
        self.open.is_some() && self.carrier
    }

    /// Why there is no socket, for people.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// What to poll for reading.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|open| open.socket.as_fd())
    }

    /// To every peer. An error is counted and nothing else: the next keepalive is the repetition.
    pub fn send(&mut self, packet: &[u8]) {
        let Some(open) = &self.open else { return };
        for peer in &self.peers {
            match sendto(&open.socket, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, peer) {
                Ok(_) => self.counters.sent += 1,
                Err(_) => self.counters.send_errors += 1,
            }
        }
    }

    /// The next datagram that waits, or `None`. One that does not fit the buffer is dropped and counted as garbage.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let open = self.open.as_ref()?;
        let mut errors = 0;
        while errors < ERRORS_PER_RECEIVE {
            // With TRUNC the kernel tells the datagram's true length.
            match recv(&open.socket, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((_, length)) => {
                    self.counters.received += 1;
                    if length <= buffer.len() {
                        return Some(length);
                    }
                    self.counters.dropped_garbage += 1;
                }
                Err(rustix::io::Errno::AGAIN) => return None,
                Err(_) => errors += 1,
            }
        }
        None
    }

    pub fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    /// For what only the reader of a packet can tell: wrong key, other cluster, replay.
    pub fn counters_mut(&mut self) -> &mut LinkCounters {
        &mut self.counters
    }

    fn close(&mut self, why: String) {
        self.open = None;
        self.fault = Some(why);
    }
}

fn open_socket(interface: &str, own: SocketAddrV4) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    // Bound to the device first: several links may share a port, and no other interface may speak for this one.
    socket.bind_device(Some(interface.as_bytes()))?;
    sockopt::set_ip_tos(&socket, TOS_CS6)?;
    priority::raise(&socket)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    // No SO_REUSEADDR: for UDP it would let a second daemon steal the heartbeats instead of being refused.
    socket.bind(&own.into())?;
    Ok(socket)
}
