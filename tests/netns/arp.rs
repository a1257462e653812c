//! Announcing, asking and hearing by ARP, as a neighbour sees it.

use crate::lab::{Lab, address, claims, readable_within};
use hafailover::host::address::{ClaimSeen, Neighbours, Netlink};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read;
use std::os::fd::AsFd;
use std::time::Duration;

const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 10];
const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 11];
const SOON: Duration = Duration::from_millis(100);

fn lab_with_macs() -> Lab {
    let lab = Lab::new();
    lab.ip_a("link set v0 address 02:00:00:00:00:0a");
    lab.ip_b("link set v0 address 02:00:00:00:00:0b");
    lab
}

/// Whole frames with ARP, of all interfaces of the namespace.
fn capture() -> Socket {
    let protocol = (libc::ETH_P_ARP as u16).to_be();
    Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(Protocol::from(i32::from(protocol)))).expect("root may")
}

fn next_frame(mut capture: &Socket) -> Option<Vec<u8>> {
    let mut buffer = [0; 128];
    readable_within(capture.as_fd(), SOON).then(|| {
        let length = capture.read(&mut buffer).expect("readable");
        buffer[..length].to_vec()
    })
}

#[test]
fn a_neighbour_gets_both_forms_byte_by_byte() {
    let lab = lab_with_macs();
    let netlink = Netlink::open().expect("netlink");
    let mut arp = Neighbours::open().expect("root may");
    let neighbour = lab.in_b(capture);
    arp.announce(address("10.0.0.77/24").address, netlink.interface("v0").expect("exists")).expect("sent");

    let header = [[0xff; 6], MAC_A].concat().into_iter().chain([8, 6]);
    let sender = [MAC_A.as_slice(), &[10, 0, 0, 77]].concat();
    let request = [&[0, 1, 8, 0, 6, 4, 0, 1], sender.as_slice(), &[0, 0, 0, 0, 0, 0, 10, 0, 0, 77]].concat();
    let reply = [&[0, 1, 8, 0, 6, 4, 0, 2], sender.as_slice(), sender.as_slice()].concat();
    for expected in [request, reply] {
        let frame = next_frame(&neighbour).expect("a frame");
        assert_eq!(frame[..42], header.clone().chain(expected).collect::<Vec<_>>());
    }
    assert_eq!(next_frame(&neighbour), None, "two frames and no more");
}

#[test]
fn the_kernel_of_a_neighbour_believes_it_at_once() {
    let lab = lab_with_macs();
    let netlink = Netlink::open().expect("netlink");
    let mut arp = Neighbours::open().expect("root may");
    // Within a second of a change Linux takes nothing but what it knows as gratuitous.
    lab.ip_b("neigh replace 10.0.0.77 lladdr 02:00:00:00:00:99 dev v0 nud stale");
    arp.announce(address("10.0.0.77/24").address, netlink.interface("v0").expect("exists")).expect("sent");
    let shown = lab.show_b("neigh show 10.0.0.77");
    assert!(shown.contains("02:00:00:00:00:0a"), "{shown}");
}

#[test]
fn a_probe_is_answered_by_a_kernel_that_has_the_address_and_by_no_other() {
    let lab = lab_with_macs();
    lab.ip_b("addr add 10.0.0.77/24 dev v0");
    let netlink = Netlink::open().expect("netlink");
    let interface = netlink.interface("v0").expect("exists");
    let mut arp = Neighbours::open().expect("root may");
    let (taken, free) = (address("10.0.0.77/24"), address("10.0.0.78/24"));
    arp.watch([&taken, &free]).expect("watched");
    let neighbour = lab.in_b(capture);

    arp.probe(free.address, interface).expect("sent");
    assert_eq!(next_frame(&neighbour).expect("the probe")[28..32], [0; 4], "a probe names no sender");
    assert!(!readable_within(arp.fds()[0], SOON), "nobody has it");
    assert_eq!(claims(&mut arp, &netlink), []);

    arp.probe(taken.address, interface).expect("sent");
    assert!(readable_within(arp.fds()[0], SOON));
    let answer = ClaimSeen { interface: "v0".into(), address: taken.address, mac: MAC_B };
    assert_eq!(claims(&mut arp, &netlink), [answer]);

    arp.watch([&free]).expect("watched");
    arp.probe(taken.address, interface).expect("sent");
    assert!(!readable_within(arp.fds()[0], SOON), "the kernel keeps back what is not watched");
}

#[test]
fn a_claim_of_somebody_else_is_seen_and_our_own_is_not() {
    let lab = lab_with_macs();
    lab.ip_a("link add x0 type veth peer name x1");
    lab.ip_a("link set x0 up");
    lab.ip_a("link set x1 up");
    let netlink = Netlink::open().expect("netlink");
    let mut arp = Neighbours::open().expect("root may");
    let mut rival = lab.in_b(|| Neighbours::open().expect("root may"));
    let rivals_netlink = lab.in_b(|| Netlink::open().expect("netlink"));
    let wanted = address("10.0.0.77/24");
    let crossed = hafailover::config::model::VirtualAddress { interface: Some("x1".into()), ..wanted.clone() };
    arp.watch([&wanted, &crossed]).expect("watched");

    rival.announce(wanted.address, rivals_netlink.interface("v0").expect("exists")).expect("sent");
    assert!(readable_within(arp.fds()[0], SOON));
    let claim = ClaimSeen { interface: "v0".into(), address: wanted.address, mac: MAC_B };
    assert_eq!(claims(&mut arp, &netlink), [claim.clone(), claim], "in request and in reply form");

    // Sent on x0 it arrives on x1, from this very host.
    arp.announce(crossed.address, netlink.interface("x0").expect("exists")).expect("sent");
    assert!(readable_within(arp.fds()[0], SOON), "it did arrive");
    assert_eq!(claims(&mut arp, &netlink), [], "and was our own");

    // The same address on another network than the watched one is another address.
    arp.watch([&crossed]).expect("watched");
    rival.announce(wanted.address, rivals_netlink.interface("v0").expect("exists")).expect("sent");
    assert!(readable_within(arp.fds()[0], SOON), "it did arrive");
    assert_eq!(claims(&mut arp, &netlink), []);
}

#[test]
fn an_interface_without_arp_is_skipped_and_one_that_is_down_reported() {
    let lab = lab_with_macs();
    let mut netlink = Netlink::open().expect("netlink");
    let mut arp = Neighbours::open().expect("root may");
    let wanted = address("10.0.0.77/24");
    arp.announce(wanted.address, netlink.interface("lo").expect("exists")).expect("quietly nothing");
    arp.probe(wanted.address, netlink.interface("lo").expect("exists")).expect("quietly nothing");
    lab.ip_a("link set v0 down");
    netlink.drain();
    arp.announce(wanted.address, netlink.interface("v0").expect("exists")).expect_err("reported");
}

#[test]
fn a_thousand_watched_addresses_and_more() {
    let lab = lab_with_macs();
    let netlink = Netlink::open().expect("netlink");
    let mut arp = Neighbours::open().expect("root may");
    let mut many: Vec<_> = (0..3000).map(|n| address(&format!("10.9.{}.{}/32", n / 250, n % 250))).collect();
    many.push(address("10.0.0.2/24"));
    arp.watch(&many).expect("with or without the kernel's help");
    arp.probe(many[3000].address, netlink.interface("v0").expect("exists")).expect("sent");
    assert!(readable_within(arp.fds()[0], SOON));
    assert_eq!(claims(&mut arp, &netlink).first().map(|seen| seen.mac), Some(MAC_B));
    drop(lab);
}
