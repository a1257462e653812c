//! Many addresses at once, beside what the same requests and frames cost without us.

use crate::bare::Bare;
use crate::lab::{Lab, address, claims};
use hafailover::config::model::VirtualAddress;
use hafailover::host::address::{AddressChange, Neighbours, Netlink};
use std::time::{Duration, Instant};

const EACH: u16 = 500;
/// At most this many times the bare cost, which is the kernel's almost alone. Code that is not optimized, as tests are built, costs
/// several times more than what is installed: the booted row holds that to twice.
const FACTOR: f64 = if cfg!(debug_assertions) { 4.0 } else { 2.0 };
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

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Adding and announcing 500 IPv4 and 500 IPv6 addresses, and in how long slices. What a removal costs is told.
#[test]
fn a_thousand_addresses_cost_little_more_than_the_bare_requests_and_frames() {
    let _lab = lab();
    let mut netlink = Netlink::open().expect("netlink");
    let mut neighbours = Neighbours::open().expect("root may");
    let many = many();
    neighbours.watch(&many).expect("watched");
    let bare = Bare::new(netlink.interface("v0").expect("exists"));
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
        longest = longest
            .max(in_slices(&mut netlink, |netlink| netlink.begin_add(many.clone(), false).expect("none is there")));
        let v0 = netlink.interface("v0").expect("exists").clone();
        for wanted in &many {
            neighbours.announce(wanted.address, &v0).expect("sent");
        }
        ours.push(begun.elapsed());
        assert!(many.iter().all(|wanted| netlink.has(wanted)));
        let begun = Instant::now();
        longest = longest.max(in_slices(&mut netlink, |netlink| netlink.begin_remove(many.clone())));
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
    assert!(longest < LONGEST, "{longest:?} in one go");
}

/// Until the change is done. Answers with the longest slice.
fn in_slices(netlink: &mut Netlink, begin: impl FnOnce(&mut Netlink) -> AddressChange) -> Duration {
    let begun = Instant::now();
    let mut change = begin(netlink);
    let mut longest = begun.elapsed();
    loop {
        let begun = Instant::now();
        let end = netlink.go_on(&mut change, begun + SLICE);
        longest = longest.max(begun.elapsed());
        if let Some(end) = end {
            end.expect("the kernel does it");
            return longest;
        }
    }
}

#[test]
fn a_large_adding_that_meets_an_obstacle_is_taken_back_whole() {
    let lab = Lab::alone();
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

#[test]
fn no_answer_to_three_thousand_probes_is_lost() {
    let lab = Lab::alone();
    lab.ip_b("addr add 10.7.255.2/16 dev v0");
    let many = many();
    let mut rival = lab.in_b(|| Netlink::open().expect("netlink"));
    rival.add(&many.iter().collect::<Vec<_>>(), false).expect("added");
    std::thread::sleep(Duration::from_secs(1));
    let netlink = Netlink::open().expect("netlink");
    let mut neighbours = Neighbours::open().expect("root may");
    neighbours.watch(&many).expect("watched");
    let v0 = netlink.interface("v0").expect("exists");
    for wanted in many.iter().chain(&many).chain(&many) {
        neighbours.probe(wanted.address, v0).expect("sent");
    }
    // As long as a thread may be held up that reads them.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(claims(&mut neighbours, &netlink).len(), 3 * many.len());
}
