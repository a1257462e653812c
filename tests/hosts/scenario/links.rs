//! Links of every kind, and clusters that share a LAN, a port, a group and their nodes' names.

use crate::ensure;
use crate::figures::{Figures, Sample, ms};
use crate::host::Host;
use crate::neighbours::Neighbour;
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::scenario::power::Phase;
use crate::settings::{KEYS, Kind, Settings};
use crate::sys::{Result, wait_for};
use crate::wires::{HB0, HB1, PREFIX};
use std::time::{Duration, Instant};

/// Beyond the deadtime: for the taking over itself, and for this machine.
const BEYOND: Duration = Duration::from_millis(30);

/// Every two kinds. The first five have each kind twice, broadcast with unicast, and both kinds of multicast together.
const PAIRS: [[Kind; 2]; 10] = [
    [Kind::Ucast4(HB0), Kind::Bcast(HB1)],
    [Kind::Bcast(HB0), Kind::Ucast6(HB1)],
    [Kind::Ucast6(HB0), Kind::Mcast4(HB1)],
    [Kind::Mcast4(HB0), Kind::Mcast6(HB1)],
    [Kind::Mcast6(HB0), Kind::Ucast4(HB1)],
    [Kind::Ucast4(HB0), Kind::Ucast6(HB1)],
    [Kind::Ucast6(HB0), Kind::Mcast6(HB1)],
    [Kind::Mcast6(HB0), Kind::Bcast(HB1)],
    [Kind::Bcast(HB0), Kind::Mcast4(HB1)],
    [Kind::Mcast4(HB0), Kind::Ucast4(HB1)],
];

pub fn row31_kinds_of_links(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair(Settings::new(100, 300))?;
    let bound = ms(pair.settings.deadtime + BEYOND);
    let runs = if lab.full { 5 } else { 1 };
    let mut told = Vec::new();
    for kind in [Kind::Ucast4(HB0), Kind::Ucast6(HB0), Kind::Mcast4(HB0), Kind::Mcast6(HB0), Kind::Bcast(HB0)] {
        configure(&mut pair, &[kind])?;
        let figures = failovers(&mut pair, runs).map_err(|error| format!("{kind:?}: {error}"))?;
        told.push(format!("{kind:?} {:.0}", figures.worst()));
        figures.at_most(None, bound).map_err(|error| format!("{kind:?}: {error}"))?;
    }
    for kinds in &PAIRS[..if lab.full { PAIRS.len() } else { 5 }] {
        configure(&mut pair, kinds)?;
        one_lost_moves_nothing(&pair).map_err(|error| format!("{kinds:?}: {error}"))?;
        let figures = failovers(&mut pair, runs).map_err(|error| format!("{kinds:?}: {error}"))?;
        told.push(format!("{kinds:?} {:.0}", figures.worst()));
        figures.at_most(None, bound).map_err(|error| format!("{kinds:?}: {error}"))?;
    }
    pair.never_two_owners()?;
    Ok(format!("worst failover in ms: {}; one link of two lost: nothing moved", told.join(", ")))
}

/// Both hosts have another file, and their daemons are started anew with it; the group runs on meanwhile.
fn configure(pair: &mut Pair, kinds: &[Kind]) -> Result {
    pair.settings.tables = kinds.to_vec();
    let owner = pair.settled()?;
    let moves = pair.watch.changes(VIP).len();
    for host in &pair.hosts {
        speak_v6(host)?;
        pair.settings.write_to(host)?;
    }
    let restarts = pair.hosts.iter().map(|host| host.begin(&["systemctl", "restart", "hafailover"]));
    for restart in restarts.collect::<Result<Vec<_>>>()? {
        let mut restart = restart;
        ensure!(restart.wait()?.success(), "a restart failed with {kinds:?}");
    }
    let heard = || {
        pair.hosts.iter().all(|host| {
            let links = pair.status(host).map(|status| status.links).unwrap_or_default();
            let heard = links.iter().filter(|link| link.usable && link.peers.iter().all(|peer| peer.heard));
            heard.count() == kinds.len()
        })
    };
    wait_for(&format!("all links of {kinds:?} to be heard"), SETTLE, || heard().then_some(()))?;
    ensure!(pair.settled()? == owner, "a restart with {kinds:?} moved the group");
    let moved = pair.watch.changes(VIP);
    ensure!(moved.len() == moves, "a restart with {kinds:?} touched the address: {moved:?}");
    Ok(())
}

/// A host comes without addresses of IPv6 but those that the kernel gives each interface.
fn speak_v6(host: &Host) -> Result {
    for lan in [HB0, HB1] {
        let address = format!("{}/64", host.seat.address_v6(lan));
        host.run(&["ip", "address", "replace", &address, "dev", lan, "nodad"])?;
    }
    Ok(())
}

fn failovers(pair: &mut Pair, runs: usize) -> Result<Figures> {
    let mut phase = Phase::default();
    Figures::gather(pair.judge(), "ms", runs, || {
        let owner = whole_again(pair)?;
        let client = pair.served_client()?;
        phase.wait(&pair.settings);
        let from = Instant::now();
        let cut = pair.host_mut(&owner).lose_power()?;
        client.wait_for_answer(cut, SETTLE)?;
        let sample = Sample { value: ms(client.finish().outage()), from, to: Instant::now() };
        whole_again(pair)?;
        Ok(sample)
    })
}

/// Both hosts are on and hear each other on all links.
fn whole_again(pair: &mut Pair) -> Result<String> {
    for index in 0..pair.hosts.len() {
        if !pair.hosts[index].is_on() {
            pair.hosts[index].switch_on()?;
            // Before the daemon runs, or while it waits for them.
            pair.hosts[index].wait_booted()?;
            speak_v6(&pair.hosts[index])?;
        }
    }
    let owner = pair.settled()?;
    wait_for("all links", SETTLE, || {
        let quiet = |host: &Host| pair.status(host).is_ok_and(|status| status.attention.is_empty());
        pair.hosts.iter().all(quiet).then_some(())
    })?;
    Ok(owner)
}

fn one_lost_moves_nothing(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let before = pair.watch.changes(VIP).len();
    for lan in [HB0, HB1] {
        let seat = &pair.host(&owner).seat;
        pair.lab.wires.cut(seat, &[lan])?;
        for host in &pair.hosts {
            let (name, peer) = (host.name(), pair.other(host.name()).name());
            let words = format!("node {peer} is not heard on link {lan}");
            wait_for(&format!("`{words}` in the status of {name}"), SETTLE, || {
                let attention = pair.status(host).ok()?.attention;
                attention
                    .iter()
                    .any(|line| line.contains(&words) && line.contains("though it is heard on"))
                    .then_some(())
            })?;
        }
        std::thread::sleep(pair.settings.deadtime * 2);
        pair.lab.wires.heal(seat, &[lan])?;
        wait_for("both links after the heal", SETTLE, || {
            let quiet = |host: &Host| pair.status(host).is_ok_and(|status| status.attention.is_empty());
            pair.hosts.iter().all(quiet).then_some(())
        })?;
        ensure!(pair.settled()? == owner, "the group left {owner} when {lan} alone was lost");
    }
    let changes = pair.watch.changes(VIP);
    ensure!(changes.len() == before, "the address was touched: {changes:?}");
    Ok(())
}

/// Two hosts' worth of namespaces, each for several nodes.
const PLACES: [u8; 4] = [101, 102, 103, 104];

pub fn row32_clusters_on_one_lan(lab: &Lab) -> Result<String> {
    let mut settings = Settings::new(100, 300);
    settings.tables = vec![Kind::Mcast4(HB0), Kind::Bcast(HB1)];
    let pair = lab.pair(settings)?;
    let names = PLACES.map(|number| format!("{PREFIX}place{number}"));
    for (name, number) in names.iter().zip(PLACES) {
        lab.wires.join(name, HB0, number)?;
    }
    let shown = cross_talk(&pair, &names);
    for (name, number) in names.iter().zip(PLACES) {
        lab.wires.part(name, HB0, number)?;
    }
    shown
}

fn cross_talk(pair: &Pair, names: &[String; 4]) -> Result<String> {
    let (owner, moves) = (pair.settled()?, pair.watch.changes(VIP).len());
    let begun = Instant::now();
    let mut neighbours = seven_clusters(names)?;
    for neighbour in &mut neighbours {
        let name = format!("{} of {}", neighbour.node, neighbour.cluster);
        wait_for(&format!("{name} to hear its peer"), SETTLE, || {
            neighbour.peer_state().is_ok_and(|state| state == "alive").then_some(())
        })?;
    }
    // Long enough for whatever one of them said to have reached the others.
    std::thread::sleep(Duration::from_secs(2));
    let before = strangers_dropped(&mut neighbours)?;

    // One node of one cluster ends without a word: its own peer loses it, and nobody else notices anything.
    let lost = neighbours.iter().position(|one| one.cluster == "c1" && one.node == "beta").ok_or("no c1")?;
    neighbours.remove(lost).end();
    let widow = neighbours.iter_mut().find(|one| one.cluster == "c1").ok_or("no c1")?;
    wait_for("alpha of c1 to lose its peer", SETTLE, || {
        widow.peer_state().is_ok_and(|state| state == "lost").then_some(())
    })?;
    std::thread::sleep(Duration::from_secs(2));
    for neighbour in neighbours.iter_mut().filter(|one| one.cluster != "c1") {
        let state = neighbour.peer_state()?;
        ensure!(state == "alive", "{} of {}: its peer is {state}", neighbour.node, neighbour.cluster);
        let status = neighbour.status()?;
        ensure!(status.attention.is_empty(), "{}: {:?}", neighbour.cluster, status.attention);
    }
    ensure!(pair.settled()? == owner, "the group moved");
    let changes = pair.watch.changes(VIP);
    ensure!(changes.len() == moves, "the address was touched: {changes:?}");
    let mut heard = 0;
    for host in &pair.hosts {
        let status = pair.status(host)?;
        ensure!(status.attention.is_empty(), "{}: {:?}", host.name(), status.attention);
        let counters = status.links[0].counters;
        ensure!(counters.dropped_other_cluster > 0, "{} heard nothing of other clusters: {counters:?}", host.name());
        ensure!(counters.dropped_sender == 0 && counters.dropped_garbage == 0, "{}: {counters:?}", host.name());
        ensure!(counters.dropped_key > 0, "{}: the namesake has another key: {counters:?}", host.name());
        let back = status.links[1].counters;
        let own = (back.own > 0, back.dropped_replay, back.dropped_sender);
        ensure!(own == (true, 0, 0), "{}: its own broadcasts count as something else: {back:?}", host.name());
        heard += counters.dropped_other_cluster;
        let said = host.said(&["SYSLOG_IDENTIFIER=hafailoverd"], begun)?;
        let named = said.iter().find(|entry| entry.message.contains("uses this node's name"));
        ensure!(named.is_none(), "{}: {named:?}", host.name());
    }
    Ok(format!(
        "8 clusters on one LAN and port, 2 booted nodes and 14 in 4 namespaces: {before} and {heard} packets of others \
         dropped, none heard; one node lost, noticed by its peer alone"
    ))
}

/// All with nodes alpha and beta; c1, c2 and c3 share the same two namespaces, and so do the others. The last has the booted
/// cluster's name, and another key.
fn seven_clusters(names: &[String; 4]) -> Result<Vec<Neighbour>> {
    const OTHER_KEYS: &str = "auth 1\n1 sha256 another-secret-of-others\n";
    let mcast = "kind = \"mcast\"\ngroup = \"239.0.0.75\"\n";
    let mcast6 = "kind = \"mcast\"\ngroup = \"ff02::4:75\"\n";
    let bcast = "kind = \"bcast\"\n";
    let clusters = [
        ("c1", mcast, KEYS, 0),
        ("c2", bcast, KEYS, 0),
        ("c3", mcast6, KEYS, 0),
        ("c4", bcast, OTHER_KEYS, 2),
        ("c5", mcast, KEYS, 2),
        ("c6", mcast6, OTHER_KEYS, 2),
        ("lab", mcast, OTHER_KEYS, 2),
    ];
    let mut neighbours = Vec::new();
    for (cluster, link, keys, place) in clusters {
        let file = format!(
            "[cluster]\nname = \"{cluster}\"\nnodes = [\"alpha\", \"beta\"]\n[timing]\ninitdead = \"2s\"\n\
             [[link]]\ninterface = \"{HB0}\"\n{link}[takeover]\nproof = \"silence\"\n"
        );
        for (index, node) in ["alpha", "beta"].into_iter().enumerate() {
            neighbours.push(Neighbour::start(&names[place + index], cluster, node, &file, keys)?);
        }
    }
    Ok(neighbours)
}

/// How many packets of other clusters the neighbours had, none of which may count as anything else. Who has the booted
/// cluster's name knows them by their key.
fn strangers_dropped(neighbours: &mut [Neighbour]) -> Result<u64> {
    let mut total = 0;
    for neighbour in neighbours {
        let counters = neighbour.link()?.counters;
        let (cluster, node) = (&neighbour.cluster, neighbour.node);
        ensure!(counters.dropped_other_cluster > 0, "{node} of {cluster} shares its socket with nobody: {counters:?}");
        ensure!(counters.dropped_garbage + counters.dropped_sender == 0, "{node} of {cluster}: {counters:?}");
        ensure!((counters.dropped_key > 0) == (cluster == "lab"), "{node} of {cluster}: {counters:?}");
        total += counters.dropped_other_cluster;
    }
    Ok(total)
}
