//! Heartbeat links on interfaces that come, go, change and break.

use crate::lab::{Lab, ipv4, readable_within};
use hafailover::config::model::{LinkConfig, NodeId};
use hafailover::host::address::Netlink;
use hafailover::links::UdpLink;
use std::collections::BTreeMap;
use std::time::Duration;

const ALPHA: NodeId = NodeId(0);
const BETA: NodeId = NodeId(1);
const SOON: Duration = Duration::from_millis(100);

fn config() -> LinkConfig {
    let peers = BTreeMap::from([(ALPHA, ipv4("10.0.0.1")), (BETA, ipv4("10.0.0.2"))]);
    LinkConfig { name: "v0".into(), interface: "v0".into(), port: 694, peers }
}

fn refresh(link: &mut UdpLink, netlink: &mut Netlink) {
    netlink.drain();
    link.refresh(netlink.interface("v0"));
}

/// The other end, always there.
fn beta(lab: &Lab) -> UdpLink {
    lab.in_b(|| {
        let mut link = UdpLink::new(&config(), BETA);
        link.refresh(Netlink::open().expect("netlink").interface("v0"));
        assert!(link.usable(), "{:?}", link.fault());
        link
    })
}

fn heard(link: &mut UdpLink) -> Option<Vec<u8>> {
    let mut buffer = [0; 64];
    let fd = link.fd()?;
    if !readable_within(fd, SOON) {
        return None;
    }
    link.receive(&mut buffer).map(|length| buffer[..length].to_vec())
}

#[test]
fn heartbeats_go_both_ways_and_are_marked() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let (mut alpha, mut beta) = (UdpLink::new(&config(), ALPHA), beta(&lab));
    assert!(!alpha.usable() && alpha.fd().is_none(), "nothing is opened unasked");
    refresh(&mut alpha, &mut netlink);
    alpha.send(b"to beta");
    assert_eq!(heard(&mut beta).as_deref(), Some(b"to beta".as_slice()));
    beta.send(b"to alpha");
    assert_eq!(heard(&mut alpha).as_deref(), Some(b"to alpha".as_slice()));
    assert_eq!((alpha.counters().sent, alpha.counters().received, alpha.counters().send_errors), (1, 1, 0));
    let tos = rustix::net::sockopt::ip_tos(alpha.fd().expect("open")).expect("told");
    assert_eq!(tos, 0xc0, "CS6");

    let mut second = UdpLink::new(&config(), ALPHA);
    refresh(&mut second, &mut netlink);
    assert!(!second.usable(), "a second daemon must not share the port");
    assert!(second.fault().is_some_and(|fault| fault.contains("10.0.0.1:694 on v0")), "{:?}", second.fault());
    drop(alpha);
    refresh(&mut second, &mut netlink);
    assert!(second.usable() && second.fault().is_none(), "the next refresh tries again");
}

#[test]
fn a_datagram_that_does_not_fit_is_garbage() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let (mut alpha, mut beta) = (UdpLink::new(&config(), ALPHA), beta(&lab));
    refresh(&mut alpha, &mut netlink);
    beta.send(&[7; 65]);
    beta.send(&[8; 64]);
    assert_eq!(heard(&mut alpha), Some(vec![8; 64]), "the first is dropped, the second is whole");
    assert_eq!((alpha.counters().received, alpha.counters().dropped_garbage), (2, 1));
}

#[test]
fn an_interface_that_comes_goes_and_returns_is_waited_for() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let mut alpha = UdpLink::new(&config(), ALPHA);
    let mut restored = 0;
    let mut works = |alpha: &mut UdpLink, netlink: &mut Netlink| {
        refresh(alpha, netlink);
        assert!(alpha.usable(), "{:?}", alpha.fault());
        let mut beta = beta(&lab);
        beta.send(b"beat");
        assert_eq!(heard(alpha).as_deref(), Some(b"beat".as_slice()));
        alpha.send(b"beat");
        assert_eq!(heard(&mut beta).as_deref(), Some(b"beat".as_slice()));
        restored += 1;
    };
    works(&mut alpha, &mut netlink);

    lab.ip_a("link set v0 name w0");
    refresh(&mut alpha, &mut netlink);
    assert!(!alpha.usable() && alpha.fd().is_none());
    assert_eq!(alpha.fault(), Some("interface v0 does not exist"));
    alpha.send(b"into nothing");
    lab.ip_a("link set w0 name v0");
    works(&mut alpha, &mut netlink);

    lab.ip_a("addr del 10.0.0.1/24 dev v0");
    refresh(&mut alpha, &mut netlink);
    assert_eq!(alpha.fault(), Some("v0 does not hold this node's address 10.0.0.1"));
    assert!(!alpha.usable());
    lab.ip_a("addr add 10.0.0.1/24 dev v0");
    works(&mut alpha, &mut netlink);

    let old = netlink.interface("v0").expect("exists").index;
    lab.recreate_pair();
    // Deleted and back between two rounds: the name is the same, the interface another.
    works(&mut alpha, &mut netlink);
    assert_ne!(netlink.interface("v0").expect("exists").index, old);
    assert_eq!(restored, 4);
}

#[test]
fn carrier_decides_and_errors_are_counted() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let mut alpha = UdpLink::new(&config(), ALPHA);
    refresh(&mut alpha, &mut netlink);

    // Nobody listens: beta's kernel answers with ICMP, which must not end anything.
    for _ in 0..3 {
        alpha.send(b"anybody?");
        assert_eq!(heard(&mut alpha), None);
    }
    assert!(alpha.usable());
    let mut beta = beta(&lab);
    alpha.send(b"beat");
    assert_eq!(heard(&mut beta).as_deref(), Some(b"beat".as_slice()));

    lab.ip_b("link set v0 down");
    crate::lab::wait_until(&mut netlink, SOON, |n| n.interface("v0").is_some_and(|v0| !v0.carrier)).expect("seen");
    refresh(&mut alpha, &mut netlink);
    assert!(!alpha.usable() && alpha.fd().is_some(), "the socket stays, for the carrier to return");
    let before = alpha.counters().send_errors;
    lab.ip_a("link set v0 down");
    alpha.send(b"no route");
    assert_eq!(alpha.counters().send_errors, before + 1);
}
