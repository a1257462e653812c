//! Adding, removing and announcing addresses as any program would that does nothing else: one request, its acknowledgement, the
//! next; frame by frame. What the daemon costs is measured beside it. It must not know what is measured.

#![allow(unreachable_pub)] // Two test programs have it.

use hafailover::config::model::VirtualAddress;
use hafailover::host::address::{InterfaceState, link_address};
use neli::consts::nl::NlmF;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::IpAddr;
use std::os::fd::OwnedFd;

#[derive(Debug)]
pub struct Bare {
    netlink: OwnedFd,
    arp: Socket,
    ndp: Socket,
    index: u32,
    mac: [u8; 6],
}

impl Bare {
    /// In the namespace of the calling thread.
    pub fn new(interface: &InterfaceState) -> Bare {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).expect("netlink");
        let packet = || Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0))).expect("root may");
        Bare {
            netlink: socket,
            arp: packet(),
            ndp: packet(),
            index: interface.index,
            mac: interface.mac.expect("Ethernet"),
        }
    }

    fn request(&self, kind: u16, flags: u16, wanted: &VirtualAddress) {
        let (family, bytes) = match wanted.address {
            IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
            IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
        };
        let mut body = vec![family as u8, wanted.prefix, if wanted.address.is_ipv6() { 2 } else { 0 }, 0];
        body.extend(self.index.to_ne_bytes());
        for kind in [2_u16, 1] {
            body.extend((4 + bytes.len() as u16).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(&bytes);
        }
        let flags = flags | (NlmF::REQUEST | NlmF::ACK).bits();
        let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([1_u32.to_ne_bytes(), 0_u32.to_ne_bytes()].concat());
        message.extend(body);
        sendto(&self.netlink, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).expect("sent");
        let mut answer = [0; 1024];
        let (length, _) = recv(&self.netlink, &mut answer[..], RecvFlags::empty()).expect("answered");
        let code = answer[16..20].first_chunk().copied().map(i32::from_ne_bytes);
        assert!(length >= 20 && code == Some(0), "{wanted:?}: {code:?}");
    }

    pub fn add(&self, wanted: &VirtualAddress) {
        self.request(libc::RTM_NEWADDR, (NlmF::CREATE | NlmF::EXCL).bits(), wanted);
    }

    pub fn remove(&self, wanted: &VirtualAddress) {
        self.request(libc::RTM_DELADDR, 0, wanted);
    }

    /// As many frames, as long, to the same places: two for an IPv4 address, one for an IPv6 one.
    pub fn announce(&self, wanted: &VirtualAddress) {
        let (socket, protocol, to, length, count) = match wanted.address {
            IpAddr::V4(_) => (&self.arp, libc::ETH_P_ARP, [0xff; 6], 28, 2),
            IpAddr::V6(_) => (&self.ndp, libc::ETH_P_IPV6, [0x33, 0x33, 0, 0, 0, 1], 72, 1),
        };
        let mut frame = vec![0; length];
        frame[length - 6..].copy_from_slice(&self.mac);
        let to = link_address(protocol as u16, self.index, to);
        for _ in 0..count {
            socket.send_to(&frame, &to).expect("sent");
        }
    }
}
