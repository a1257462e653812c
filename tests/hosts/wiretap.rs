//! Copies every heartbeat that passes the lab's switches, and sends what an intruder would. It must not know the wire format.

use crate::sys::{Result, inside};
use crate::wires::{Wires, on_lan};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// All of them: a bridge takes its packets before those who ask for one protocol.
const ETH_P_ALL: u16 = 0x0003;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const HEARTBEAT_PORT: u16 = 694;

/// A heartbeat as it passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub payload: Vec<u8>,
}

impl Packet {
    pub fn on(&self, lan: &str) -> bool {
        on_lan(lan, 0).octets()[..3] == self.from.octets()[..3]
    }
}

#[derive(Debug)]
pub struct Wiretap {
    packets: Arc<Mutex<Vec<Packet>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wiretap {
    pub fn start() -> Result<Wiretap> {
        let socket = inside(Wires::SWITCHES, packet_socket)?;
        let mut tap = Wiretap { packets: Arc::default(), stop: Arc::default(), thread: None };
        let (packets, stop) = (tap.packets.clone(), tap.stop.clone());
        tap.thread =
            Some(std::thread::Builder::new().name("wiretap".into()).spawn(move || copy(&socket, &packets, &stop))?);
        Ok(tap)
    }

    /// Everything so far, each packet once.
    pub fn packets(&self) -> Vec<Packet> {
        self.packets.lock().expect("the tap does not panic").clone()
    }

    pub fn finish(mut self) -> Vec<Packet> {
        self.halt();
        self.packets()
    }

    fn halt(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.halt();
    }
}

fn packet_socket() -> io::Result<OwnedFd> {
    let protocol = NonZeroU32::new(u32::from(ETH_P_ALL.to_be())).map(rustix::net::Protocol::from_raw);
    Ok(socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?)
}

fn copy(socket: &OwnedFd, packets: &Mutex<Vec<Packet>>, stop: &AtomicBool) {
    let mut frame = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        while let Ok((length, _)) = recv(socket, &mut frame, RecvFlags::DONTWAIT) {
            let Some(packet) = heartbeat(&frame[..length]) else { continue };
            let mut packets = packets.lock().expect("readers do not panic");
            // The same packet is seen at the port where it came in, on the bridge, and where it goes out.
            if !packets.iter().rev().take(8).any(|seen| *seen == packet) {
                packets.push(packet);
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Ethernet (14), IPv4 without options (20), UDP (8).
fn heartbeat(frame: &[u8]) -> Option<Packet> {
    let (ip, udp) = (frame.get(14..34)?, frame.get(34..42)?);
    let is_udp = frame[12..14] == ETHERTYPE_IPV4 && ip[0] == 0x45 && ip[9] == 17;
    let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    if !is_udp || u16::from_be_bytes([udp[2], udp[3]]) != HEARTBEAT_PORT {
        return None;
    }
    let payload = frame.get(42..34 + length)?.to_vec();
    let address = |from: usize| Ipv4Addr::new(ip[from], ip[from + 1], ip[from + 2], ip[from + 3]);
    Some(Packet { from: address(12), to: address(16), payload })
}

/// Somebody on some of the LANs who writes any sender into his packets.
#[derive(Debug)]
pub struct Intruder {
    socket: Socket,
}

impl Intruder {
    pub fn enter(wires: &Wires, lans: &[&str]) -> Result<Intruder> {
        for lan in lans {
            wires.intrude(lan)?;
        }
        let socket = inside(Wires::SWITCHES, || {
            let socket = Socket::new(Domain::IPV4, Type::from(3), Some(Protocol::from(255)))?;
            socket.set_header_included_v4(true)?;
            Ok(socket)
        })?;
        Ok(Intruder { socket })
    }

    /// Sends the packet with the sender, receiver and payload it names.
    pub fn send(&self, packet: &Packet) -> Result {
        let length = u16::try_from(28 + packet.payload.len())?;
        let mut bytes = vec![0x45, 0];
        bytes.extend(length.to_be_bytes());
        // The kernel fills in identification and checksum; no UDP checksum is a permitted one.
        bytes.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        bytes.extend(packet.from.octets());
        bytes.extend(packet.to.octets());
        bytes.extend(HEARTBEAT_PORT.to_be_bytes());
        bytes.extend(HEARTBEAT_PORT.to_be_bytes());
        bytes.extend((length - 20).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(&packet.payload);
        self.socket.send_to(&bytes, &SocketAddrV4::new(packet.to, HEARTBEAT_PORT).into())?;
        Ok(())
    }
}
