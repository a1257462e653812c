//! Heartbeat links on interfaces that come, go, change and break.

use crate::lab::{Lab, readable_within};
use hafailover::config::model::{LinkConfig, LinkKind, NodeId};
use hafailover::host::address::Netlink;
use hafailover::links::UdpLink;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub(crate) const ALPHA: NodeId = NodeId(0);
const BETA: NodeId = NodeId(1);
const SOON: Duration = Duration::from_millis(100);

pub(crate) fn config() -> LinkConfig {
    ucast("10.0.0.1", "10.0.0.2")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn ucast(alpha: &str, beta: &str) -> LinkConfig {
    LinkConfig::ucast("v0", 694, BTreeMap::from([(ALPHA, ip(alpha)), (BETA, ip(beta))]))
}

pub(crate) fn mcast(group: &str, loops: bool) -> LinkConfig {
    LinkConfig { kind: LinkKind::Mcast { group: ip(group), ttl: 1, loops }, ..config() }
}

pub(crate) fn bcast() -> LinkConfig {
    LinkConfig { kind: LinkKind::Bcast, ..config() }
}

/// Addresses of both scopes, which vanish with the interface, or while it is down.
pub(crate) fn speak_v6(lab: &Lab) {
    for net in ["fd00::", "fe80::"] {
        lab.ip_a(&format!("addr replace {net}1/64 dev v0 nodad"));
        lab.ip_b(&format!("addr replace {net}2/64 dev v0 nodad"));
    }
}

/// One of each, with the addresses they need in place.
pub(crate) fn every_kind(lab: &Lab) -> Vec<(&'static str, LinkConfig)> {
    speak_v6(lab);
    vec![
        ("ucast", config()),
        ("ucast over IPv6", ucast("fd00::1", "fd00::2")),
        ("ucast over link-local addresses", ucast("fe80::1", "fe80::2")),
        ("mcast", mcast("239.0.0.75", false)),
        ("mcast over IPv6", mcast("ff02::4:75", false)),
        ("mcast of a wider scope", mcast("ff05::4:75", false)),
        ("bcast", bcast()),
    ]
}

/// An open link; the kernel may still look for duplicates of its addresses.
pub(crate) fn open(config: &LinkConfig, node: NodeId) -> UdpLink {
    let mut netlink = Netlink::open().expect("netlink");
    let mut link = UdpLink::new(config, node);
    let end = Instant::now() + Duration::from_secs(5);
    while !link.usable() {
        assert!(Instant::now() < end, "{:?}", link.fault());
        refresh_on(&mut link, &mut netlink, &config.interface);
        std::thread::sleep(Duration::from_millis(10));
    }
    link
}

/// One refresh is enough. But what a closed socket was bound to is free a moment later: a command that another test starts
/// right then holds a copy of the socket until it runs its own program.
fn refresh_once_free(link: &mut UdpLink, netlink: &mut Netlink) {
    let end = Instant::now() + Duration::from_secs(5);
    refresh(link, netlink);
    while link.fault().is_some_and(|fault| fault.contains("in use")) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
        refresh(link, netlink);
    }
    assert!(link.usable(), "{:?}", link.fault());
}

pub(crate) fn both(lab: &Lab, config: &LinkConfig) -> (UdpLink, UdpLink) {
    (open(config, ALPHA), lab.in_b(|| open(config, BETA)))
}

pub(crate) fn refresh(link: &mut UdpLink, netlink: &mut Netlink) {
    refresh_on(link, netlink, "v0");
}

fn refresh_on(link: &mut UdpLink, netlink: &mut Netlink, interface: &str) {
    netlink.drain();
    link.refresh(netlink.interface(interface));
}

/// The other end, always there.
fn beta(lab: &Lab) -> UdpLink {
    lab.in_b(|| {
        let mut link = UdpLink::new(&config(), BETA);
        refresh_once_free(&mut link, &mut Netlink::open().expect("netlink"));
        link
    })
}

pub(crate) fn heard(link: &mut UdpLink) -> Option<Vec<u8>> {
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
    refresh_once_free(&mut second, &mut netlink);
    assert_eq!(second.fault(), None, "another refresh tries again");
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
        refresh_once_free(alpha, netlink);
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

#[test]
fn every_kind_carries_heartbeats_both_ways_over_its_own_interface() {
    let lab = Lab::new();
    for (kind, config) in every_kind(&lab) {
        let (mut alpha, mut beta) = both(&lab, &config);
        for round in 0..3 {
            alpha.send(b"to beta");
            assert_eq!(heard(&mut beta).as_deref(), Some(b"to beta".as_slice()), "{kind}, round {round}");
            beta.send(b"to alpha");
            // A broadcast comes back to its own host, the only kind where nobody can switch that off.
            let own = if config.kind == LinkKind::Bcast { Some(b"to beta".to_vec()) } else { None };
            let first = heard(&mut alpha);
            let second = if own.is_some() { heard(&mut alpha) } else { None };
            assert_eq!(first.clone().filter(|_| own.is_some()), own, "{kind}");
            let theirs = if own.is_some() { second } else { first };
            assert_eq!(theirs.as_deref(), Some(b"to alpha".as_slice()), "{kind}, round {round}");
            if own.is_some() {
                assert_eq!(heard(&mut beta).as_deref(), Some(b"to alpha".as_slice()), "beta's own");
            }
        }
        assert_eq!((alpha.counters().sent, alpha.counters().send_errors), (3, 0), "{kind}");
        assert!(alpha.send_error().is_none() && alpha.complaint().is_none());
        assert_eq!(heard(&mut alpha), None, "{kind}: nothing comes twice");
    }
}

#[test]
fn looped_multicast_comes_back_to_its_sender() {
    let lab = Lab::new();
    speak_v6(&lab);
    for group in ["239.0.0.75", "ff02::4:75"] {
        let (mut alpha, mut beta) = both(&lab, &mcast(group, true));
        alpha.send(b"beat");
        assert_eq!(heard(&mut alpha).as_deref(), Some(b"beat".as_slice()), "{group}");
        assert_eq!(heard(&mut beta).as_deref(), Some(b"beat".as_slice()), "{group}");
        assert!(alpha.gives_back());
    }
}

#[test]
fn any_number_of_sockets_share_a_group_or_the_broadcast_and_all_kinds_share_a_port() {
    let lab = Lab::new();
    let mut all: Vec<_> = every_kind(&lab).into_iter().map(|(kind, config)| (kind, both(&lab, &config))).collect();
    for (kind, config) in every_kind_shared() {
        // Another cluster's daemon on the same host.
        let mut other = lab.in_b(|| open(&config, BETA));
        let (_, (alpha, beta)) = all.iter_mut().find(|(name, _)| *name == kind).expect("one of each");
        alpha.send(b"beat");
        assert_eq!(heard(beta).as_deref(), Some(b"beat".as_slice()), "{kind}");
        assert_eq!(heard(&mut other).as_deref(), Some(b"beat".as_slice()), "{kind}");
    }
    for (kind, (alpha, beta)) in &mut all {
        while heard(alpha).is_some() || heard(beta).is_some() {}
        let before = beta.counters().received;
        alpha.send(b"beat");
        assert_eq!(heard(beta).as_deref(), Some(b"beat".as_slice()), "{kind}");
        assert_eq!(beta.counters().received, before + 1, "{kind} alone");
    }
}

fn every_kind_shared() -> [(&'static str, LinkConfig); 3] {
    [("mcast", mcast("239.0.0.75", false)), ("mcast over IPv6", mcast("ff02::4:75", false)), ("bcast", bcast())]
}

/// The kernel hands packets for a group to every interface's members; what is bound to another interface must not hear.
#[test]
fn what_comes_over_another_interface_is_not_heard() {
    let lab = Lab::new();
    speak_v6(&lab);
    lab.second_pair();
    for (kind, config) in every_kind_shared() {
        let second = LinkConfig { interface: "w0".into(), ..config.clone() };
        let (mut quiet, mut quiet_too) = both(&lab, &config);
        let (mut alpha, mut beta) = both(&lab, &second);
        alpha.send(b"over w0");
        assert_eq!(heard(&mut beta).as_deref(), Some(b"over w0".as_slice()), "{kind}");
        assert_eq!((heard(&mut quiet), heard(&mut quiet_too)), (None, None), "{kind}: v0 is another network");
    }
}

#[test]
fn an_odd_source_is_for_the_seal_to_judge() {
    let lab = Lab::new();
    for (kind, config, to) in
        [("mcast", mcast("239.0.0.75", false), "239.0.0.75:694"), ("bcast", bcast(), "255.255.255.255:694")]
    {
        let mut alpha = open(&config, ALPHA);
        lab.in_b(|| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
            socket.set_broadcast(true).expect("may");
            socket.bind_device(Some(b"v0")).expect("root may");
            socket.bind(&"10.0.0.2:40000".parse::<SocketAddr>().expect("an address").into()).expect("free");
            socket.send_to(b"odd port", &to.parse::<SocketAddr>().expect("an address").into()).expect("sent");
        });
        assert_eq!(heard(&mut alpha).as_deref(), Some(b"odd port".as_slice()), "{kind}");
    }
}

/// Every way in which an interface can be lost and found again, for every kind.
#[test]
fn every_kind_comes_back_with_its_interface() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    for (kind, config) in every_kind(&lab) {
        let mut alpha = UdpLink::new(&config, ALPHA);
        let mut works = |alpha: &mut UdpLink, what: &str| {
            let end = Instant::now() + Duration::from_secs(5);
            refresh(alpha, &mut netlink);
            while !alpha.usable() && Instant::now() < end {
                refresh(alpha, &mut netlink);
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(alpha.usable(), "{kind} {what}: {:?}", alpha.fault());
            let mut beta = lab.in_b(|| open(&config, BETA));
            beta.send(b"beat");
            let theirs = std::iter::from_fn(|| heard(alpha)).any(|packet| packet == b"beat");
            assert!(theirs, "{kind} {what}: beta is not heard");
            alpha.send(b"answer");
            let mine = std::iter::from_fn(|| heard(&mut beta)).any(|packet| packet == b"answer");
            assert!(mine, "{kind} {what}: alpha is not heard");
        };
        works(&mut alpha, "at first");
        lab.ip_a("link set v0 down");
        lab.ip_a("link set v0 up");
        speak_v6(&lab);
        works(&mut alpha, "after down and up, unseen in between");
        lab.ip_b("link set v0 down");
        refresh_until(&mut alpha, false);
        lab.ip_b("link set v0 up");
        speak_v6(&lab);
        refresh_until(&mut alpha, true);
        works(&mut alpha, "after a lost carrier");
        lab.ip_a("link set v0 name w0");
        refresh_until(&mut alpha, false);
        assert!(alpha.fault().is_some_and(|fault| fault.contains("v0 does not exist")), "{:?}", alpha.fault());
        lab.ip_a("link set w0 name v0");
        works(&mut alpha, "after a renaming and back");
        lab.recreate_pair();
        speak_v6(&lab);
        works(&mut alpha, "as a new interface of the old name");
    }
}

fn refresh_until(link: &mut UdpLink, usable: bool) {
    let mut netlink = Netlink::open().expect("netlink");
    let end = Instant::now() + Duration::from_secs(5);
    while link.usable() != usable {
        assert!(Instant::now() < end, "not {usable}: {:?}", link.fault());
        refresh(link, &mut netlink);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_link_joins_again_when_the_carrier_is_back() {
    let lab = Lab::new();
    let mut alpha = open(&mcast("239.0.0.75", false), ALPHA);
    let (ipv4, joined) = (lab.show_a("maddr show dev v0"), "239.0.0.75");
    assert!(ipv4.contains(joined), "{ipv4}");
    let first = alpha.fd().map(|fd| rustix::fs::fstat(fd).expect("open").st_ino);
    lab.ip_b("link set v0 down");
    refresh_until(&mut alpha, false);
    lab.ip_b("link set v0 up");
    refresh_until(&mut alpha, true);
    let second = alpha.fd().map(|fd| rustix::fs::fstat(fd).expect("open").st_ino);
    assert_ne!(first, second, "a new socket tells a new switch who listens");
    assert!(lab.show_a("maddr show dev v0").contains(joined));
    drop(alpha);
    assert!(!lab.show_a("maddr show dev v0").contains(joined), "and leaves with its socket");
}

#[test]
fn a_link_joins_again_when_nobody_saw_that_the_carrier_was_away() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let mut alpha = open(&mcast("239.0.0.75", false), ALPHA);
    let socket = |alpha: &UdpLink| alpha.fd().map(|fd| rustix::fs::fstat(fd).expect("open").st_ino);
    let first = socket(&alpha);
    refresh(&mut alpha, &mut netlink);
    assert_eq!(socket(&alpha), first, "nothing happened");
    let losses = |netlink: &Netlink| netlink.interface("v0").expect("exists").carrier_losses;
    let before = losses(&netlink);
    lab.ip_b("link set v0 down");
    lab.ip_b("link set v0 up");
    // All of it is read in one go, as far as this link can tell.
    crate::lab::wait_until(&mut netlink, 50 * SOON, |n| {
        losses(n) > before && n.interface("v0").is_some_and(|v0| v0.carrier)
    })
    .expect("the kernel counts");
    refresh(&mut alpha, &mut netlink);
    let second = socket(&alpha);
    assert_ne!(second, first, "a new switch may not know who listens");
    refresh(&mut alpha, &mut netlink);
    assert_eq!(socket(&alpha), second, "once");
}

#[test]
fn a_new_interface_under_the_old_number_is_joined_too() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let mut alpha = open(&mcast("239.0.0.75", false), ALPHA);
    let old = netlink.interface("v0").expect("exists").index;
    lab.recreate_pair_as(old);
    // Both are told at once: nobody saw the name without an interface.
    refresh(&mut alpha, &mut netlink);
    assert_eq!(netlink.interface("v0").expect("exists").index, old);
    assert!(alpha.usable(), "{:?}", alpha.fault());
    let mut beta = lab.in_b(|| open(&mcast("239.0.0.75", false), BETA));
    // A new interface may lose the first ones; one that was not joined would lose all.
    let mut beats = (0..20).filter_map(|_| {
        beta.send(b"beat");
        heard(&mut alpha)
    });
    assert_eq!(beats.next().as_deref(), Some(b"beat".as_slice()));
}

#[test]
fn an_address_that_is_not_there_yet_is_waited_for() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    lab.ip_a("addr flush dev v0");
    lab.write("/proc/sys/net/ipv6/conf/v0/disable_ipv6", "1");
    for (config, words, retries) in [
        (config(), "v0 does not hold this node's address 10.0.0.1", false),
        (ucast("fd00::1", "fd00::2"), "v0 does not hold this node's address fd00::1, or not yet", true),
        (mcast("239.0.0.75", false), "v0 has no IPv4 address", false),
        (mcast("ff02::4:75", false), "v0 has no IPv6 address from which to reach ff02::4:75, or not yet", true),
        (bcast(), "v0 has no IPv4 address", false),
    ] {
        let mut link = UdpLink::new(&config, ALPHA);
        refresh(&mut link, &mut netlink);
        assert_eq!((link.fault(), link.retries()), (Some(words), retries));
        assert!(!link.usable() && link.trouble().as_deref() == Some(words));
    }
    lab.write("/proc/sys/net/ipv6/conf/v0/disable_ipv6", "0");
    // Looked at while the kernel still asks whether somebody else has the address, and taken when it knows.
    lab.ip_a("addr add fd00::1/64 dev v0");
    let mut link = UdpLink::new(&ucast("fd00::1", "fd00::2"), ALPHA);
    refresh(&mut link, &mut netlink);
    assert!(lab.show_a("addr show dev v0").contains("tentative") && link.retries(), "{:?}", link.fault());
    refresh_until(&mut link, true);
    assert!(!link.retries() && link.trouble().is_none());
    lab.ip_a("addr del fd00::1/64 dev v0");
    refresh(&mut link, &mut netlink);
    assert!(!link.usable() && link.retries(), "an address that went is missed");
}

#[test]
fn a_message_that_does_not_fit_the_interface_fails_aloud() {
    let lab = Lab::new();
    lab.ip_a("link set v0 mtu 1000");
    for (kind, config) in [("ucast", config()), ("mcast", mcast("239.0.0.75", false)), ("bcast", bcast())] {
        let mut alpha = open(&config, ALPHA);
        alpha.send(&[0; 1200]);
        let error = alpha.send_error().expect("it failed");
        assert!(error.contains("a message of 1200 bytes is more than v0 carries"), "{kind}: {error}");
        assert!(error.contains("MTU"), "{kind}: {error}");
        assert_eq!((alpha.counters().sent, alpha.counters().send_errors), (0, 1), "{kind}");
        let mut told = usize::from(alpha.complaint().is_some_and(|text| text.starts_with("link v0: ")));
        for _ in 1..100 {
            alpha.send(&[0; 1200]);
            told += usize::from(alpha.complaint().is_some());
        }
        assert_eq!((alpha.counters().send_errors, told), (100, 7), "{kind}: aloud, and no flood");
        alpha.send(&[0; 900]);
        assert_eq!((alpha.counters().sent, alpha.send_error()), (1, None), "{kind}: what fits goes");
    }
}
