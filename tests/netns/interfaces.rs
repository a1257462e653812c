//! Watching interfaces.

use crate::lab::{Lab, address, interface_changed, removed, wait_until};
use hafailover::host::address::{NetChange, Netlink};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Where the kernel delays a carrier event, it does so by up to a second.
const AT_ONCE: Duration = Duration::from_millis(50);

#[test]
fn what_an_interface_is() {
    let lab = Lab::new();
    lab.ip_a("link set v0 address 02:00:00:00:00:0a");
    let netlink = Netlink::open().expect("netlink");
    let v0 = netlink.interface("v0").expect("exists");
    assert_eq!((v0.mac, v0.arp), (Some([2, 0, 0, 0, 0, 10]), true));
    assert!(v0.carrier && v0.holds([10, 0, 0, 1]));
    let lo = netlink.interface("lo").expect("exists");
    assert!(lo.carrier && !lo.arp, "the loopback is up and speaks no ARP");
    assert!(netlink.interface("eth9").is_none());
}

#[test]
fn a_lost_carrier_is_seen_at_once_and_its_return_too() {
    let lab = Lab::alone();
    let mut netlink = Netlink::open().expect("netlink");
    let carrier = |netlink: &Netlink| netlink.interface("v0").is_some_and(|interface| interface.carrier);
    for round in 0..5 {
        lab.ip_b("link set v0 down");
        let took = wait_until(&mut netlink, SECOND, |netlink| !carrier(netlink)).expect("seen");
        assert!(took < AT_ONCE, "round {round}: lost after {took:?}");
        lab.ip_b("link set v0 up");
        let took = wait_until(&mut netlink, SECOND, carrier).expect("seen");
        assert!(took < AT_ONCE, "round {round}: back after {took:?}");
    }
    netlink.drain();
    lab.ip_a("link set v0 down");
    assert!(netlink.drain().contains(&interface_changed("v0")), "by an administrator too");
    assert!(!carrier(&netlink));
}

#[test]
fn a_rename_and_a_deletion_take_the_addresses_along() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let own = address("10.0.0.1/24");
    lab.ip_a("link set v0 name w0");
    let to_w0 = NetChange::AddressAdded { interface: "w0".into(), address: own.address, prefix: 24 };
    let changes = netlink.drain();
    assert_eq!(changes, [interface_changed("v0"), removed(&own), interface_changed("w0"), to_w0]);
    assert!(!netlink.has(&own) && netlink.interface("v0").is_none());

    lab.ip_a("link set w0 name v0");
    netlink.drain();
    assert!(netlink.has(&own));
    lab.ip_a("link del v0");
    let changes = netlink.drain();
    assert!(changes.contains(&removed(&own)) && changes.contains(&interface_changed("v0")), "{changes:?}");
    assert!(netlink.interface("v0").is_none() && netlink.find(own.address).is_none());
}

#[test]
fn a_port_that_leaves_a_bridge_is_still_there() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    lab.ip_a("link add br0 type bridge");
    lab.ip_a("link set v0 master br0");
    lab.ip_a("link set v0 nomaster");
    netlink.drain();
    assert!(netlink.has(&address("10.0.0.1/24")));
    assert_eq!(Netlink::open().expect("netlink").table(), netlink.table());
}
