//! IPv6 addresses: added at once, announced, asked for and claimed by neighbour discovery, as a neighbour sees it.

use crate::lab::{Lab, added, address, claims, readable_within, removed, wait_until};
use hafailover::host::address::{ClaimSeen, Neighbours, NetChange, Netlink};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 10];
const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 11];
const VIP: &str = "2001:db8::77/64";
const FREE: &str = "2001:db8::78/64";
const SOON: Duration = Duration::from_millis(100);

/// 2001:db8::1/64 in `a`, 2001:db8::2/64 in `b`, beside the IPv4 addresses; duplicate address detection is over.
fn lab_with_ipv6() -> Lab {
    let lab = Lab::new();
    lab.ip_a("link set v0 address 02:00:00:00:00:0a");
    lab.ip_b("link set v0 address 02:00:00:00:00:0b");
    lab.ip_a("addr add 2001:db8::1/64 dev v0 nodad");
    lab.ip_b("addr add 2001:db8::2/64 dev v0 nodad");
    let settled = |lab: &Lab| !(lab.show_a("-6 addr show") + &lab.show_b("-6 addr show")).contains("tentative");
    let end = Instant::now() + Duration::from_secs(5);
    while !settled(&lab) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(settled(&lab), "the kernel's own addresses are usable");
    lab
}

/// Whole frames with IPv6, of all interfaces of the namespace.
fn capture() -> Socket {
    let protocol = (libc::ETH_P_IPV6 as u16).to_be();
    Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(Protocol::from(i32::from(protocol)))).expect("root may")
}

/// The next neighbour solicitation (135) or advertisement (136) for the address.
fn next_about(mut capture: &Socket, kind: u8, last: u8) -> Option<Vec<u8>> {
    let mut buffer = [0; 256];
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        if !readable_within(capture.as_fd(), SOON) {
            return None;
        }
        let length = capture.read(&mut buffer).expect("readable");
        let frame = &buffer[..length];
        if length >= 78 && frame[20] == 58 && frame[54] == kind && frame[77] == last {
            return Some(frame.to_vec());
        }
    }
    None
}

#[test]
fn an_address_can_be_used_at_once_and_is_no_source_by_accident() {
    let lab = lab_with_ipv6();
    let mut netlink = Netlink::open().expect("netlink");
    let wanted = address(VIP);
    netlink.add(&[&wanted], false).expect("added");
    assert!(netlink.has(&wanted));
    UdpSocket::bind("[2001:db8::77]:0").expect("a service binds at once");
    let shown = lab.show_a("-6 -o addr show dev v0 to 2001:db8::77");
    assert!(shown.contains("inet6 2001:db8::77/64 scope global nodad deprecated"), "{shown}");
    assert!(shown.contains("valid_lft forever preferred_lft 0sec"), "{shown}");
    let outgoing = UdpSocket::bind("[::]:0").expect("any port");
    outgoing.connect("[2001:db8::2]:9").expect("on the link");
    let source = outgoing.local_addr().map(|source| source.ip().to_string()).expect("chosen");
    assert_eq!(source, "2001:db8::1", "the host's own address speaks for the host");
    assert_eq!(netlink.drain(), [], "own changes are no news, also when the kernel tells them late");
    std::thread::sleep(SOON);
    assert_eq!(netlink.drain(), [], "nor later");

    netlink.remove(&[&wanted]).expect("removed");
    assert!(!netlink.has(&wanted) && lab.show_a("-6 -o addr show dev v0 to 2001:db8::77").is_empty());
    assert!(lab.show_a("-6 -o addr show dev v0").contains("2001:db8::1/64"), "the host's own is left");
    std::thread::sleep(SOON);
    assert_eq!(netlink.drain(), []);
    assert_eq!(Netlink::open().expect("netlink").table(), netlink.table());
}

#[test]
fn one_that_is_here_already_is_refused_and_deletions_by_others_are_told() {
    let lab = lab_with_ipv6();
    lab.ip_a("addr add 2001:db8::77/64 dev v0 nodad");
    let mut netlink = Netlink::open().expect("netlink");
    let (taken, free) = (address(VIP), address(FREE));
    let error = netlink.add(&[&free, &taken], false).expect_err("not ours").to_string();
    assert!(error.starts_with("2001:db8::77/64 is already on v0"), "{error}");
    assert!(!netlink.has(&free), "all or none");
    netlink.add(&[&free], false).expect("added");
    lab.ip_a("addr del 2001:db8::78/64 dev v0");
    readable_within(netlink.fd(), SOON);
    assert_eq!(netlink.drain(), [removed(&free)]);
    lab.ip_a("addr add 2001:db8::78/64 dev v0 nodad");
    let mut told = Vec::new();
    assert!(wait_until(&mut netlink, SOON, |netlink| netlink.has(&free)).is_some());
    told.extend(netlink.drain());
    assert!(!told.contains(&removed(&free)) && told.iter().all(|change| *change == added(&free)), "{told:?}");
    lab.write("/proc/sys/net/ipv6/conf/v0/disable_ipv6", "1");
    netlink.drain();
    let error = netlink.add(&[&free], false).expect_err("switched off").to_string();
    assert!(error.contains("sysctl net.ipv6.conf.v0.disable_ipv6=0"), "{error}");
}

#[test]
fn an_announcement_is_believed_by_the_kernel_of_a_neighbour() {
    let lab = lab_with_ipv6();
    let netlink = Netlink::open().expect("netlink");
    let mut neighbours = Neighbours::open().expect("root may");
    lab.ip_b("neigh replace 2001:db8::77 lladdr 02:00:00:00:00:99 dev v0 nud reachable");
    let neighbour = lab.in_b(capture);
    neighbours.announce(address(VIP).address, netlink.interface("v0").expect("exists")).expect("sent");

    let frame = next_about(&neighbour, 136, 0x77).expect("the announcement");
    assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 10, 0x86, 0xdd]);
    assert_eq!((frame[21], frame[58], frame.len()), (255, 0x20, 14 + 72), "hop limit, override, length");
    assert_eq!(frame[22..38], frame[62..78], "from the address itself");
    assert_eq!(frame[78..], [&[2, 1], MAC_A.as_slice()].concat());
    let shown = lab.show_b("neigh show 2001:db8::77");
    assert!(shown.contains("02:00:00:00:00:0a"), "{shown}");

    lab.write("/proc/sys/net/ipv6/conf/v0/forwarding", "1");
    neighbours.begin_round();
    neighbours.announce(address(VIP).address, netlink.interface("v0").expect("exists")).expect("sent");
    assert_eq!(next_about(&neighbour, 136, 0x77).expect("the announcement")[58], 0xa0, "a router says that it is one");
}

#[test]
fn a_probe_is_answered_by_a_kernel_that_has_the_address_and_by_no_other() {
    let lab = lab_with_ipv6();
    lab.ip_b("addr add 2001:db8::77/64 dev v0 nodad");
    let netlink = Netlink::open().expect("netlink");
    let interface = netlink.interface("v0").expect("exists");
    let mut neighbours = Neighbours::open().expect("root may");
    let (taken, free) = (address(VIP), address(FREE));
    neighbours.watch([&taken, &free]).expect("watched");
    let neighbour = lab.in_b(capture);

    neighbours.probe(free.address, interface).expect("sent");
    let frame = next_about(&neighbour, 135, 0x78).expect("the probe");
    assert_eq!(frame[22..38], [0; 16], "a probe names no sender");
    assert!(!readable_within(neighbours.fds()[1], SOON), "nobody has it");
    assert_eq!(claims(&mut neighbours, &netlink), []);

    neighbours.probe(taken.address, interface).expect("sent");
    assert!(readable_within(neighbours.fds()[1], SOON));
    let answer = ClaimSeen { interface: "v0".into(), address: taken.address, mac: MAC_B };
    assert_eq!(claims(&mut neighbours, &netlink), [answer]);

    neighbours.watch([&free]).expect("watched");
    neighbours.probe(taken.address, interface).expect("sent");
    assert!(!readable_within(neighbours.fds()[1], SOON), "the kernel keeps back what is not watched");
}

#[test]
fn claims_of_others_are_seen_but_neither_our_own_nor_questions() {
    let lab = lab_with_ipv6();
    let mut netlink = Netlink::open().expect("netlink");
    let mut neighbours = Neighbours::open().expect("root may");
    let mut rival = lab.in_b(|| Neighbours::open().expect("root may"));
    let rivals = lab.in_b(|| Netlink::open().expect("netlink"));
    let wanted = address(VIP);
    neighbours.watch([&wanted]).expect("watched");
    netlink.add(&[&wanted], false).expect("added");
    let claim = ClaimSeen { interface: "v0".into(), address: wanted.address, mac: MAC_B };

    rival.announce(wanted.address, rivals.interface("v0").expect("exists")).expect("sent");
    assert!(readable_within(neighbours.fds()[1], SOON));
    assert_eq!(claims(&mut neighbours, &netlink), vec![claim.clone()], "an announcement");

    // Another node only asks; our kernel answers it, and hears itself.
    rival.probe(wanted.address, rivals.interface("v0").expect("exists")).expect("sent");
    readable_within(neighbours.fds()[1], SOON);
    assert_eq!(claims(&mut neighbours, &netlink), [], "a probe of ours is no claim, and our answer not another's");

    // A host that is given the address by hand detects the duplicate, and is seen doing so.
    lab.ip_b("addr add 2001:db8::77/64 dev v0");
    let end = Instant::now() + Duration::from_secs(3);
    let mut seen = Vec::new();
    while seen.is_empty() && Instant::now() < end {
        readable_within(neighbours.fds()[1], SOON);
        seen = claims(&mut neighbours, &netlink);
    }
    assert_eq!(seen, [claim], "its duplicate address detection");
}

#[test]
fn an_interface_that_is_switched_off_loses_its_ipv6_addresses_and_shows_that_it_is_off() {
    let lab = lab_with_ipv6();
    let mut netlink = Netlink::open().expect("netlink");
    let (ipv4, ipv6) = (address("10.0.0.77/24"), address(VIP));
    netlink.add(&[&ipv4, &ipv6], false).expect("added");
    lab.ip_a("link set v0 down");
    let mut changes = Vec::new();
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        changes.extend(netlink.drain());
        readable_within(netlink.fd(), Duration::from_millis(5));
    }
    assert!(netlink.has(&ipv4) && !netlink.has(&ipv6));
    assert!(!netlink.interface("v0").expect("exists").up);
    let at = |wanted: &NetChange| changes.iter().position(|change| change == wanted).expect("told");
    let off = at(&NetChange::Interface { name: "v0".into() });
    assert!(off < at(&removed(&ipv6)), "who reads the removal knows already why: {changes:?}");
    lab.ip_a("link set v0 up");
    assert!(wait_until(&mut netlink, SOON, |it| it.interface("v0").is_some_and(|v0| v0.up)).is_some());
    netlink.add(&[&ipv4, &ipv6], true).expect("put back");
    assert!(netlink.has(&ipv6));
    let target: SocketAddr = "[2001:db8::77]:0".parse().expect("an address");
    UdpSocket::bind(target).expect("usable");
}
