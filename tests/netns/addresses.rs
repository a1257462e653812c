//! Adding, removing and repairing addresses.

use crate::lab::{Lab, added, address, addresses, ipv4, readable_within, removed};
use hafailover::host::address::{AddressError, Netlink};
use std::time::{Duration, Instant};

const REPAIRED_WITHIN: Duration = Duration::from_millis(10);

#[test]
fn twenty_addresses_come_and_go() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let addresses = addresses(20);
    let all: Vec<_> = addresses.iter().collect();

    netlink.add(&all, false).expect("added");
    let shown = lab.show_a("-4 -o addr show dev v0");
    for address in &addresses {
        assert!(netlink.has(address), "{address:?}");
        assert!(shown.contains(&format!("inet {}/24 brd 10.0.0.255 ", address.address)), "{shown}");
    }
    assert_eq!(netlink.drain(), [], "own changes are no news");

    netlink.remove(&all).expect("removed");
    assert_eq!(lab.show_a("-4 -o addr show dev v0").lines().count(), 1, "the host's own is left");
    assert!(addresses.iter().all(|address| !netlink.has(address)));
    assert_eq!(netlink.drain(), [], "own changes are no news");
    netlink.remove(&all).expect("what is not there is removed");
}

#[test]
fn more_than_one_batch() {
    let _lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let many: Vec<_> = (0..200).map(|n| address(&format!("10.1.0.{n}/32"))).collect();
    let all: Vec<_> = many.iter().collect();
    netlink.add(&all, false).expect("added");
    assert!(many.iter().all(|address| netlink.has(address)));
    assert_eq!(Netlink::open().expect("netlink").table(), netlink.table());
    netlink.remove(&all).expect("removed");
    assert!(many.iter().all(|address| !netlink.has(address)));
}

#[test]
fn label_and_broadcast_are_as_given() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let mut labelled = address("10.0.0.77/24");
    labelled.label = Some("web".into());
    labelled.broadcast = Some(ipv4("10.0.0.191"));
    let host = address("10.9.9.9/32");
    let far = address("10.8.8.8/31");
    netlink.add(&[&labelled, &host, &far], false).expect("added");
    let shown = lab.show_a("-4 -o addr show dev v0");
    assert!(shown.contains("inet 10.0.0.77/24 brd 10.0.0.191 scope global secondary v0:web"), "{shown}");
    assert!(shown.contains("inet 10.9.9.9/32 scope global v0"), "{shown}");
    assert!(shown.contains("inet 10.8.8.8/31 scope global v0"), "{shown}");

    labelled.address = ipv4("10.0.0.78").into();
    labelled.label = Some("v0:a-much-too-long-label".into());
    let error = netlink.add(&[&labelled], false).expect_err("too long");
    assert!(matches!(error, AddressError::LabelTooLong { .. }), "{error}");
}

/// The time from a deletion by somebody else until the address is back, all in this thread.
#[test]
fn a_lost_address_is_back_within_ten_milliseconds_and_the_others_untouched() {
    let lab = Lab::alone();
    let mut netlink = Netlink::open().expect("netlink");
    let addresses = addresses(20);
    let all: Vec<_> = addresses.iter().collect();
    netlink.add(&all, false).expect("added");
    let mut administrator = Netlink::open().expect("netlink");
    let mut observer = Netlink::open().expect("netlink");

    let mut times = Vec::new();
    for round in 0..100 {
        let one = &addresses[round % addresses.len()];
        administrator.remove(&[one]).expect("removed");
        let lost = Instant::now();
        assert_eq!(repair(&mut netlink), [removed(one)]);
        times.push(lost.elapsed());
        assert!(netlink.has(one));
        assert_eq!(observer.drain(), [removed(one), added(one)], "nothing else was touched");
    }
    assert_prompt("one of 20", times);

    let mut times = Vec::new();
    for _ in 0..100 {
        administrator.remove(&all).expect("removed");
        let lost = Instant::now();
        let changes = repair(&mut netlink);
        times.push(lost.elapsed());
        assert_eq!(changes, addresses.iter().map(removed).collect::<Vec<_>>());
        assert!(addresses.iter().all(|address| netlink.has(address)));
    }
    assert_prompt("all of 20", times);

    observer.drain();
    lab.ip_a("addr del 10.0.0.103/24 dev v0");
    assert_eq!(repair(&mut netlink), [removed(&addresses[2])], "by ip as well");
    assert_eq!(observer.drain(), [removed(&addresses[2]), added(&addresses[2])]);
}

/// Even a realtime thread is late now and then where the machine itself is a guest: twice in a hundred is let pass.
fn assert_prompt(what: &str, mut times: Vec<Duration>) {
    times.sort();
    println!("{what}: median {:?}, 98 of 100 {:?}, worst {:?}", times[50], times[97], times[99]);
    assert!(times[97] < REPAIRED_WITHIN, "{what}: {times:?}");
}

/// What the beat thread does: wake, read, put back.
fn repair(netlink: &mut Netlink) -> Vec<hafailover::host::address::NetChange> {
    assert!(readable_within(netlink.fd(), Duration::from_millis(100)), "the deletion wakes the reader");
    let changes = netlink.drain();
    let lost: Vec<_> = addresses(20).into_iter().filter(|address| !netlink.has(address)).collect();
    netlink.add(&lost.iter().collect::<Vec<_>>(), true).expect("repaired");
    changes
}

#[test]
fn an_address_that_is_not_ours_is_refused_and_nothing_is_added() {
    let lab = Lab::new();
    lab.ip_a("addr add 10.0.0.102/24 dev v0");
    let mut netlink = Netlink::open().expect("netlink");
    let three = addresses(3);
    let all: Vec<_> = three.iter().collect();
    let error = netlink.add(&all, false).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "10.0.0.102/24 is already on v0, not added by hafailover: remove it there, or from the group"
    );
    assert_eq!(three.iter().map(|address| netlink.has(address)).collect::<Vec<_>>(), [false, true, false]);
    netlink.add(&all, true).expect("adopted");
    assert!(three.iter().all(|address| netlink.has(address)));
}

#[test]
fn an_address_that_is_not_ours_stays_when_the_group_goes() {
    let lab = Lab::new();
    lab.ip_a("addr add 10.0.0.102/24 dev v0");
    lab.ip_a("addr add 10.0.0.103/32 dev lo");
    let mut netlink = Netlink::open().expect("netlink");
    let four = addresses(4);
    let all: Vec<_> = four.iter().collect();
    netlink.add(&all, false).expect_err("refused");
    netlink.remove(&all).expect("nothing of ours is here");
    assert!(lab.show_a("-4 -o addr show dev v0").contains("10.0.0.102/24"), "it was here before us");
    assert!(lab.show_a("-4 -o addr show dev lo").contains("10.0.0.103/32"), "it was here before us");

    lab.ip_a("addr del 10.0.0.102/24 dev v0");
    lab.ip_a("addr del 10.0.0.103/32 dev lo");
    netlink.add(&all, false).expect("added");
    netlink.remove(&all).expect("removed");
    assert_eq!(lab.show_a("-4 -o addr show dev v0").lines().count(), 1, "what is ours goes");
}

#[test]
fn an_address_is_gone_only_when_this_host_holds_it_nowhere() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let addresses = addresses(2);
    let all: Vec<_> = addresses.iter().collect();
    netlink.add(&all, false).expect("added");
    lab.ip_a("link set v0 name w0");
    netlink.remove(&all).expect("removed under the new name");
    let shown = lab.show_a("-4 -o addr show");
    assert!(!addresses.iter().any(|gone| shown.contains(&gone.address.to_string())), "{shown}");
    assert!(shown.contains("10.0.0.1/24"), "the host's own stays: {shown}");

    lab.ip_a("link set w0 name v0");
    for (elsewhere, from) in [("10.0.0.101/25", "v0"), ("10.0.0.101/32", "lo")] {
        netlink.add(&all, false).expect("added");
        lab.ip_a(&format!("addr add {elsewhere} dev {from}"));
        let error = netlink.remove(&all).expect_err("one is still here");
        let remedy = format!("remove it with: ip address del {elsewhere} dev {from}");
        assert!(error.to_string().ends_with(&remedy), "{error}");
        assert!(netlink.find(ipv4("10.0.0.102").into()).is_none(), "the others went");
        lab.ip_a(&format!("addr del {elsewhere} dev {from}"));
        netlink.remove(&all).expect("now all are gone");
    }
}

#[test]
fn an_address_elsewhere_on_this_host_is_never_adopted() {
    let lab = Lab::new();
    lab.ip_a("addr add 10.0.0.101/32 dev lo");
    lab.ip_a("addr add 10.0.0.102/25 dev v0");
    let mut netlink = Netlink::open().expect("netlink");
    for wanted in addresses(2) {
        for adopt in [false, true] {
            let error = netlink.add(&[&wanted], adopt).expect_err("refused");
            assert!(matches!(error, AddressError::AlreadyThere { .. }), "{error}");
        }
        assert!(!netlink.has(&wanted));
    }
    let (interface, prefix) = netlink.find(ipv4("10.0.0.101").into()).expect("found");
    assert_eq!((interface.name.as_str(), prefix), ("lo", 32));
}

#[test]
fn what_the_kernel_refuses_takes_the_rest_of_the_call_back() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let good = addresses(3);
    let mut bad = address("10.0.0.200/24");
    bad.prefix = 33;
    let error = netlink.add(&[&good[0], &bad, &good[1], &good[2]], false).expect_err("refused");
    assert!(error.to_string().starts_with("cannot add 10.0.0.200/33 on v0: "), "{error}");
    assert_eq!(lab.show_a("-4 -o addr show dev v0").lines().count(), 1);
    assert_eq!(netlink.drain(), []);

    let nowhere =
        hafailover::config::model::VirtualAddress { interface: Some("eth9".into()), ..address("10.0.0.1/24") };
    let error = netlink.add(&[&nowhere], false).expect_err("refused");
    assert_eq!(error.to_string(), "interface eth9 does not exist: cannot add 10.0.0.1");
    netlink.remove(&[&nowhere]).expect("nothing is on an interface that does not exist");
}

#[test]
fn a_virtual_address_that_came_first_takes_no_other_with_it() {
    let lab = Lab::new();
    lab.ip_a("addr flush dev v0");
    let mut netlink = Netlink::open().expect("netlink");
    let addresses = addresses(3);
    netlink.add(&[&addresses[0], &addresses[1]], false).expect("added");
    lab.ip_a("addr add 10.0.0.1/24 dev v0");
    lab.ip_a("route add default via 10.0.0.2");
    netlink.add(&[&addresses[2]], false).expect("added");
    netlink.drain();

    netlink.remove(&[&addresses[0]]).expect("removed");
    assert_eq!(netlink.drain(), [], "nothing else went");
    assert!(netlink.has(&addresses[1]) && netlink.has(&addresses[2]) && netlink.has(&address("10.0.0.1/24")));
    netlink.remove(&[&addresses[1], &addresses[2]]).expect("removed");
    assert!(netlink.has(&address("10.0.0.1/24")), "the host's own address stays");
    assert!(lab.show_a("route").contains("default via 10.0.0.2"), "and its routes");
    assert!(lab.show_a("route").contains("10.0.0.0/24 dev v0"), "and its network");
}

#[test]
fn the_hosts_own_address_takes_no_virtual_one_with_it() {
    let lab = Lab::new();
    let mut netlink = Netlink::open().expect("netlink");
    let addresses = addresses(3);
    netlink.add(&addresses.iter().collect::<Vec<_>>(), false).expect("added");
    lab.ip_a("addr del 10.0.0.1/24 dev v0");
    assert_eq!(netlink.drain(), [removed(&address("10.0.0.1/24"))]);
    // Somebody switches it off again: the next removal switches it on before it removes.
    lab.write("/proc/sys/net/ipv4/conf/v0/promote_secondaries", "0");
    netlink.remove(&[&addresses[0]]).expect("removed");
    assert!(netlink.has(&addresses[1]) && netlink.has(&addresses[2]));
    assert_eq!(Netlink::open().expect("netlink").table(), netlink.table());
}

#[test]
fn an_overrun_is_survived_and_its_difference_told() {
    let lab = Lab::alone();
    let mut netlink = Netlink::open().expect("netlink");
    let addresses = addresses(2);
    netlink.add(&[&addresses[0], &addresses[1]], false).expect("added");
    let hosts = || (0..1000).map(|n| format!("10.7.{}.{}/32 dev v0\n", n / 250, n % 250));
    let mut flood = String::new();
    for round in 0..10 {
        flood.extend(hosts().map(|host| format!("addr add {host}")));
        flood.extend(hosts().map(|host| format!("addr del {host}")));
        if round == 5 {
            flood.push_str("addr del 10.0.0.102/24 dev v0\n");
        }
    }
    lab.batch_a(&flood);
    let start = Instant::now();
    let mut changes = netlink.drain();
    changes.extend(netlink.drain());
    let took = start.elapsed();
    assert_eq!(changes.iter().filter(|change| **change == removed(&addresses[1])).count(), 1);
    assert!(netlink.has(&addresses[0]) && !netlink.has(&addresses[1]));
    assert_eq!(Netlink::open().expect("netlink").table(), netlink.table());
    println!("resynced after {took:?}, {} changes told", changes.len());
    assert!(changes.len() < 20_000, "the flood was no overrun");
    assert!(took < Duration::from_millis(200), "{took:?}");
}
