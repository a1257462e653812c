//! Peers' hardware addresses, which a unicast link asks for when it has come back.

use crate::lab::Lab;
use crate::links::{ALPHA, bcast, both, config, heard, ip, refresh, speak_v6, ucast};
use hafailover::host::address::{Neighbours, Netlink};
use hafailover::links::UdpLink;
use std::time::{Duration, Instant};

/// The kernel repeats its question a second after one that was lost, whatever is sent meanwhile.
#[test]
fn a_peer_whose_hardware_address_was_asked_for_in_vain_is_asked_with_the_next_message() {
    let lab = Lab::new();
    speak_v6(&lab);
    let neighbours = Neighbours::open().expect("packet sockets");
    for (config, address) in [
        (config(), "10.0.0.2/24"),
        (ucast("fd00::1", "fd00::2"), "fd00::2/64"),
        (ucast("fe80::1", "fe80::2"), "fe80::2/64"),
    ] {
        let (mut alpha, mut beta) = both(&lab, &config);
        let mut netlink = Netlink::open().expect("netlink");
        netlink.drain();
        let send = |alpha: &mut UdpLink, asks: bool| {
            alpha.send(b"beat");
            let interface = netlink.interface("v0").expect("exists");
            let asked = alpha.asks().filter(|_| asks).map(|(own, peer)| neighbours.ask(own, peer, interface));
            asked.map(|sent| sent.expect("sent")).count()
        };
        lab.ip_b(&format!("addr del {address} dev v0"));
        lab.ip_a("neigh flush dev v0");
        send(&mut alpha, false);
        lab.ip_b(&format!("addr add {address} dev v0 nodad"));
        send(&mut alpha, false);
        assert_eq!(heard(&mut beta), None, "{address}: the kernel asked sooner than it is known to");
        assert_eq!(send(&mut alpha, true), 1);
        assert!(heard(&mut beta).is_some(), "{address}");
    }
}

#[test]
fn hardware_addresses_are_asked_for_a_while_after_each_return() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let mut alpha = UdpLink::new(&config(), ALPHA);
    let asked = |alpha: &mut UdpLink| (0..100).filter(|_| alpha.asks().next().is_some()).count();
    assert_eq!(asked(&mut alpha), 0, "it is not open");
    refresh(&mut alpha, &mut netlink);
    assert_eq!(alpha.asks().collect::<Vec<_>>(), [(ip("10.0.0.1"), ip("10.0.0.2"))]);
    assert_eq!(asked(&mut alpha), 9);
    refresh(&mut alpha, &mut netlink);
    assert_eq!(asked(&mut alpha), 0, "nothing happened");
    // Down and up in one moment, as the kernel alone saw it.
    lab.ip_b("link set v0 down");
    lab.ip_b("link set v0 up");
    let end = Instant::now() + Duration::from_secs(5);
    while asked(&mut alpha) == 0 {
        assert!(Instant::now() < end, "the carrier was lost");
        std::thread::sleep(Duration::from_millis(10));
        refresh(&mut alpha, &mut netlink);
    }
    let mut all = UdpLink::new(&bcast(), ALPHA);
    refresh(&mut all, &mut netlink);
    assert!(all.usable() && all.asks().next().is_none(), "nobody is asked for the address of all");
}
