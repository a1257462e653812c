//! Opening the socket of a link: what it is bound to, what it joins, whom it sends to. It must not know packets, nor when
//! a link is opened anew. It waits for nobody but the kernel: joining a group takes its lock on network configuration (RTNL).
//!
//! | kind | bound to | sends to |
//! |---|---|---|
//! | `ucast` | this node's own address on the link | each peer's address |
//! | `mcast` | the group | the group |
//! | `bcast` | 255.255.255.255 | 255.255.255.255 |
//!
//! All are bound to the interface too, so no two links get each other's packets. The kernel gives every socket a copy of
//! what comes to a group or to all: any number of clusters may share a port there.

use super::priority;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// DSCP CS6, network control: switches that queue by DSCP let heartbeats pass bulk traffic.
const CLASS_CS6: u8 = 0xc0;

/// Holds some hundred heartbeats, should the beat thread be late.
const RECEIVE_BUFFER: usize = 256 * 1024;

/// An interface as it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) interface: &'a str,
    pub(super) index: u32,
}

impl Place<'_> {
    /// With the interface behind addresses that mean nothing without one.
    pub(super) fn end(&self, address: IpAddr, port: u16) -> SocketAddr {
        match address {
            IpAddr::V4(address) => SocketAddrV4::new(address, port).into(),
            IpAddr::V6(address) if address.is_unicast_link_local() || address.is_multicast() => {
                SocketAddrV6::new(address, port, 0, self.index).into()
            }
            IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, 0).into(),
        }
    }

    /// Only this node's own address: a second daemon on it is refused, instead of stealing the heartbeats.
    pub(super) fn ucast(&self, own: IpAddr, port: u16) -> io::Result<Socket> {
        let socket = self.socket(own.is_ipv4())?;
        socket.bind(&self.end(own, port).into())?;
        Ok(socket)
    }

    pub(super) fn mcast(&self, group: IpAddr, port: u16, ttl: u8, loops: bool) -> io::Result<Socket> {
        let socket = self.socket(group.is_ipv4())?;
        socket.set_reuse_address(true)?;
        // Bound to the group: what comes to this port for other groups or hosts is not ours.
        socket.bind(&self.end(group, port).into())?;
        match group {
            IpAddr::V4(group) => {
                socket.set_multicast_ttl_v4(u32::from(ttl))?;
                socket.set_multicast_loop_v4(loops)?;
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(self.index))?;
            }
            IpAddr::V6(group) => {
                socket.set_multicast_hops_v6(u32::from(ttl))?;
                socket.set_multicast_loop_v6(loops)?;
                socket.join_multicast_v6(&group, self.index)?;
            }
        }
        Ok(socket)
    }

    pub(super) fn bcast(&self, port: u16) -> io::Result<Socket> {
        let socket = self.socket(true)?;
        socket.set_reuse_address(true)?;
        socket.set_broadcast(true)?;
        socket.bind(&self.end(Ipv4Addr::BROADCAST.into(), port).into())?;
        Ok(socket)
    }

    /// Whether the interface has this address, and may speak from it: not while the kernel still asks for duplicates.
    pub(super) fn holds_v6(&self, own: Ipv6Addr) -> bool {
        self.throwaway().is_ok_and(|socket| socket.bind(&self.end(own.into(), 0).into()).is_ok())
    }

    /// Whether there is an address on the interface from which the group can be spoken to.
    pub(super) fn reaches_v6(&self, group: Ipv6Addr, port: u16) -> bool {
        self.throwaway().is_ok_and(|socket| socket.connect(&self.end(group.into(), port).into()).is_ok())
    }

    fn throwaway(&self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.bind_device(Some(self.interface.as_bytes()))?;
        Ok(socket)
    }

    fn socket(&self, ipv4: bool) -> io::Result<Socket> {
        let domain = if ipv4 { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        // Bound to the device first: several links may share a port, and no other interface may speak for this one.
        socket.bind_device(Some(self.interface.as_bytes()))?;
        // What the interface cannot carry whole is refused, not cut into fragments that are lost one by one. What others
        // say of a smaller MTU on the way is not believed: anybody can say so.
        if ipv4 {
            sockopt::set_ip_tos(&socket, CLASS_CS6)?;
            sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::INTERFACE)?;
        } else {
            socket.set_only_v6(true)?;
            socket.set_tclass_v6(u32::from(CLASS_CS6))?;
            sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::INTERFACE)?;
        }
        priority::raise(&socket)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        Ok(socket)
    }
}
