//! Many addresses at once, beside what the same requests and frames cost without us.

use crate::lab::{Lab, address};
use hafailover::config::model::VirtualAddress;
use hafailover::host::address::{Neighbours, Netlink};
use neli::consts::nl::NlmF;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

const EACH: u16 = 500;
/// At most this many times the bare cost.
const FACTOR: f64 = 2.0;
/// The beat thread asks for slices of 5 ms; the kernel's own time for one datagram of requests comes on top.
const SLICE: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(20);
const ROUNDS: usize = 5;

fn many() -> Vec<VirtualAddress> {
    let ipv4 = (0..EACH).map(|n| address(&format!("10.7.{}.{}/16", n / 250, n % 250 + 1)));
    ipv4.chain((0..EACH).map(|n| address(&format!("2001:db8:7::{:x}/64", n + 1)))).collect()
}

fn lab() -> Lab {
    let lab = Lab::alone();
    for host in ["10.7.255.1/16", "2001:db8:7::ffff/64"] {
        lab.ip_a(&format!("addr add {host} dev v0"));
    }
    std::thread::sleep(Duration::from_secs(2));
    lab
}

/// RTM_NEWADDR or RTM_DELADDR, as any program sends it: one, and wait for its acknowledgement.
struct Bare {
    netlink: OwnedFd,
    arp: Socket,
    ndp: Socket,
    index: u32,
    mac: [u8; 6],
}

impl Bare {
    fn new(netlink: &Netlink) -> Bare {
        let v0 = netlink.interface("v0").expect("exists");
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).expect("netlink");
        let packet = || Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0))).expect("root may");
        Bare { netlink: socket, arp: packet(), ndp: packet(), index: v0.index, mac: v0.mac.expect("Ethernet") }
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

    fn add(&self, wanted: &VirtualAddress) {
        self.request(libc::RTM_NEWADDR, (NlmF::CREATE | NlmF::EXCL).bits(), wanted);
    }

    fn remove(&self, wanted: &VirtualAddress) {
        self.request(libc::RTM_DELADDR, 0, wanted);
    }

    /// As many frames, as long, to the same places: two for an IPv4 address, one for an IPv6 one.
    fn announce(&self, wanted: &VirtualAddress) {
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

#[allow(unsafe_code)] // sockaddr_ll, which socket2 does not know
fn link_address(protocol: u16, index: u32, to: [u8; 6]) -> SockAddr {
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

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Adding and announcing 500 IPv4 and 500 IPv6 addresses, and in how long slices.
#[test]
fn a_thousand_addresses_cost_at_most_twice_the_bare_requests_and_frames() {
    let _lab = lab();
    let mut netlink = Netlink::open().expect("netlink");
    let mut neighbours = Neighbours::open().expect("root may");
    let many = many();
    neighbours.watch(&many).expect("watched");
    let bare = Bare::new(&netlink);
    let (mut theirs, mut ours, mut removals, mut longest) = (Vec::new(), Vec::new(), Vec::new(), Duration::ZERO);
    let mut bare_removals = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        many.iter().for_each(|wanted| bare.add(wanted));
        many.iter().for_each(|wanted| bare.announce(wanted));
        theirs.push(begun.elapsed());
        let begun = Instant::now();
        many.iter().for_each(|wanted| bare.remove(wanted));
        bare_removals.push(begun.elapsed());
        std::thread::sleep(Duration::from_millis(300));
        netlink.drain();

        let begun = Instant::now();
        longest = longest.max(added_in_slices(&mut netlink, &many));
        let v0 = netlink.interface("v0").expect("exists").clone();
        for wanted in &many {
            neighbours.announce(wanted.address, &v0).expect("sent");
        }
        ours.push(begun.elapsed());
        assert!(many.iter().all(|wanted| netlink.has(wanted)));
        let begun = Instant::now();
        longest = longest.max(removed_in_slices(&mut netlink, &many));
        removals.push(begun.elapsed());
        std::thread::sleep(Duration::from_millis(300));
        netlink.drain();
    }
    let (theirs, ours) = (median(theirs), median(ours));
    let (bare_removal, removal) = (median(bare_removals), median(removals));
    println!(
        "bare {theirs:?}, ours {ours:?}; removal: bare {bare_removal:?}, ours {removal:?}; longest slice {longest:?}"
    );
    assert!(ours < theirs.mul_f64(FACTOR), "bare {theirs:?}, ours {ours:?}");
    assert!(removal < bare_removal.mul_f64(FACTOR), "bare {bare_removal:?}, ours {removal:?}");
    assert!(longest < LONGEST, "{longest:?} in one go");
}

/// Answers with the longest slice.
fn added_in_slices(netlink: &mut Netlink, many: &[VirtualAddress]) -> Duration {
    let begun = Instant::now();
    let mut change = netlink.begin_add(many.to_vec(), false).expect("none is there");
    let mut longest = begun.elapsed();
    loop {
        let begun = Instant::now();
        let end = netlink.go_on(&mut change, begun + SLICE);
        longest = longest.max(begun.elapsed());
        if let Some(end) = end {
            end.expect("added");
            return longest;
        }
    }
}

fn removed_in_slices(netlink: &mut Netlink, many: &[VirtualAddress]) -> Duration {
    let begun = Instant::now();
    let mut change = netlink.begin_remove(many.to_vec());
    let mut longest = begun.elapsed();
    loop {
        let begun = Instant::now();
        let end = netlink.go_on(&mut change, begun + SLICE);
        longest = longest.max(begun.elapsed());
        if let Some(end) = end {
            end.expect("removed");
            return longest;
        }
    }
}

#[test]
fn a_large_adding_that_meets_an_obstacle_is_taken_back_whole() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let many = many();
    let mut change = netlink.begin_add(many.clone(), false).expect("none is there");
    assert!(netlink.go_on(&mut change, Instant::now()).is_none(), "the first slice is not the last");
    assert!(many.iter().any(|wanted| netlink.has(wanted)));
    // Somebody else adds the last of them meanwhile.
    lab.ip_a("addr add 2001:db8:7::1f4/64 dev v0 nodad");
    let end = loop {
        if let Some(end) = netlink.go_on(&mut change, Instant::now()) {
            break end;
        }
    };
    let error = end.expect_err("one is somebody else's").to_string();
    assert!(error.starts_with("2001:db8:7::1f4/64 is already on v0"), "{error}");
    let shown = lab.show_a("-o addr show dev v0");
    let left: Vec<_> = shown.lines().filter(|line| line.contains("10.7.") || line.contains("2001:db8:7:")).collect();
    assert!(matches!(left[..], [line] if line.contains("2001:db8:7::1f4/64")), "{left:?}");
}
