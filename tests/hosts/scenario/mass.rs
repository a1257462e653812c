//! Many addresses in one group, and many groups, beside what the same work costs without us.

use crate::bare::Bare;
use crate::changes::{Change, NODE_LATE, RUNNING, STARTING, change};
use crate::ensure;
use crate::figures::{Figures, Sample, ms};
use crate::host::Host;
use crate::pair::{Lab, Pair, SETTLE};
use crate::scenario::ipv6::{pair_with_ipv6, switch_on};
use crate::settings::{Group, Settings};
use crate::starter::Starter;
use crate::sys::{INSTRUMENT, Result, become_realtime, inside, wait_for};
use crate::wires::SERVICE;
use hafailover::config::model::VirtualAddress;
use hafailover::host::address::Netlink;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Addresses of each kind.
const EACH: u16 = 500;
/// At most this many times the bare cost.
const FACTOR: f64 = 2.0;
const RUNS: usize = 5;

fn service_address(address: IpAddr, prefix: u8) -> VirtualAddress {
    VirtualAddress { address, prefix, interface: Some(SERVICE.to_owned()), label: None, broadcast: None }
}

fn many(net: u8) -> Vec<VirtualAddress> {
    let address = service_address;
    let ipv6 = |n| Ipv6Addr::new(0x2001, 0xdb8, u16::from(net), 0, 0, 0, 0, n + 1);
    let ipv4 = |n: u16| Ipv4Addr::new(10, net, (n / 250) as u8, (n % 250) as u8 + 1);
    let all = (0..EACH).map(|n| address(ipv6(n).into(), 64));
    all.chain((0..EACH).map(|n| address(ipv4(n).into(), 16))).collect()
}

pub fn row38_mass_addresses(lab: &Lab) -> Result<String> {
    let mut settings = Settings::new(100, 300);
    let all = many(7);
    let given = all.iter().map(|it| format!("{}/{} dev {SERVICE}", it.address, it.prefix));
    settings.groups[0].addresses.extend(given);
    let mut pair = pair_with_ipv6(lab, settings)?;
    let addresses: HashSet<IpAddr> = all.iter().map(|it| it.address).collect();
    let (figures, bare) = Figures::gather_beside(pair.judge(), "ms", RUNS, || {
        let owner = pair.settled()?;
        let heir = pair.other(&owner).name();
        let from = Instant::now();
        let bare = bare_cost(pair.host(heir))?;
        std::thread::sleep(Duration::from_secs(1));
        let cut = pair.host_mut(&owner).lose_power()?;
        let done = announced(&pair, &addresses, cut)?;
        let to = Instant::now();
        std::thread::sleep(pair.settings.deadtime);
        let said = entry(pair.host(heir), STARTING, cut)?;
        entry(pair.host(heir), RUNNING, cut)?;
        let begun = begun(&pair, heir, &addresses, said, cut)?;
        all_on(&pair, heir, &addresses)?;
        switch_on(&mut pair, &owner)?;
        pair.settled()?;
        Ok((Sample { value: ms(done.saturating_duration_since(begun)), from, to }, bare))
    })?;
    let bare = bare.median();
    let moved = moved_without_a_late_heartbeat(&pair)?;
    let owner = pair.settled()?;
    all_on(&pair, &owner, &addresses)?;
    pair.never_two_owners()?;
    pair.never_two_owners_of(addresses)?;
    let ratio = figures.median() / bare;
    let text = format!(
        "{EACH} + {EACH} addresses: bare {bare:.1} ms, from the start to the last announcement {figures}: {ratio:.2} \
         times; a move in {moved:.0} ms, no heartbeat late"
    );
    ensure!(ratio <= FACTOR, "{text}; bound: {FACTOR}");
    Ok(text)
}

/// The same requests and frames for as many other addresses, by a realtime thread in the host's network.
fn bare_cost(host: &Host) -> Result<f64> {
    inside(&host.seat.namespace(), || {
        become_realtime(INSTRUMENT)?;
        let netlink = Netlink::open()?;
        let bare = Bare::new(netlink.interface(SERVICE).ok_or(std::io::ErrorKind::NotFound)?);
        let all = many(8);
        let begun = Instant::now();
        all.iter().for_each(|address| bare.add(address));
        all.iter().for_each(|address| bare.announce(address));
        let cost = begun.elapsed();
        // The first one is the network's primary, which would take the others along.
        all.iter().rev().for_each(|address| bare.remove(address));
        Ok(ms(cost))
    })
}

/// When the work began: the thread that tells of it may be later than the first address.
fn begun(pair: &Pair, heir: &str, addresses: &HashSet<IpAddr>, said: Instant, since: Instant) -> Result<Instant> {
    let first = pair.watch.first_added(heir, addresses, since);
    first.map(|first| first.min(said)).ok_or_else(|| format!("no address appeared on {heir}").into())
}

/// It has every one of them, and nobody else has one.
fn all_on(pair: &Pair, owner: &str, addresses: &HashSet<IpAddr>) -> Result {
    let held = pair.watch.held_by(owner);
    let missing: Vec<_> = addresses.difference(&held).collect();
    ensure!(missing.is_empty(), "{owner} lacks {} of {}: {:?}", missing.len(), addresses.len(), missing.first());
    let other = pair.other(owner).name();
    let left = pair.watch.held_by(other).intersection(addresses).count();
    ensure!(left == 0, "{owner} has all {}, and {other} still {left} of them", addresses.len());
    Ok(())
}

/// When the client had heard the first announcement of the last of them: ARP or neighbour advertisement, unasked.
fn announced(pair: &Pair, addresses: &HashSet<IpAddr>, since: Instant) -> Result<Instant> {
    let mut missing = 0;
    let heard = wait_for("all announcements", SETTLE, || {
        // Who looks takes time from those who are looked at.
        std::thread::sleep(Duration::from_millis(100));
        let mut open = addresses.clone();
        let (arps, advertisements) = (pair.watch.arps(), pair.watch.advertisements());
        let arps = arps.iter().filter(|arp| arp.sender == arp.target).map(|arp| (arp.at, IpAddr::from(arp.sender)));
        let news = arps.chain(advertisements.iter().map(|said| (said.at, said.address.into())));
        let mut news: Vec<_> = news.filter(|(at, _)| *at >= since).collect();
        news.sort_by_key(|(at, _)| *at);
        let last = news.iter().find(|(_, address)| open.remove(address) && open.is_empty()).map(|(at, _)| *at);
        missing = open.len();
        last
    });
    heard.map_err(|error| format!("{error}; {missing} of {} are missing", addresses.len()).into())
}

fn entry(host: &Host, kind: Change, since: Instant) -> Result<Instant> {
    let said = host.said(&[&change(kind), "HAFAILOVER_GROUP=web"], since)?;
    let first = said.first().ok_or_else(|| format!("{} reports no {kind:?}", host.name()))?;
    Ok(crate::scenario::moves::sent(first).unwrap_or(first.at))
}

/// While one host changes a thousand addresses, the other must not miss its heartbeats: that is told as late.
fn moved_without_a_late_heartbeat(pair: &Pair) -> Result<f64> {
    let owner = pair.settled()?;
    let heir = pair.other(&owner);
    // A word about what was before is over by then.
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    pair.host(&owner).run(&["hafailoverctl", "move", "web", heir.name()])?;
    ensure!(pair.settled()? == heir.name(), "the group did not move to {}", heir.name());
    let took = ms(begun.elapsed());
    for host in &pair.hosts {
        let said = host.said(&[&change(NODE_LATE)], begun)?;
        ensure!(said.is_empty(), "{} missed heartbeats during the move: {said:?}", host.name());
    }
    Ok(took)
}

/// Groups of one address and one member each.
const GROUPS: u8 = 200;
const TAKEOVERS: usize = 3;
const MEMBER: &str =
    "[Unit]\nDescription=Is active\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";
fn groups() -> Vec<Group> {
    let forever = |text: String| -> &'static str { text.leak() };
    let group = |number| Group {
        name: forever(format!("g{number}")),
        addresses: vec![format!("{}/16 dev {SERVICE}", own(number))],
        start: vec![forever(format!("many@g{number}.service"))],
        more: Vec::new(),
    };
    (1..=GROUPS).map(group).collect()
}

fn own(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, number)
}

pub fn row38_many_groups(lab: &Lab) -> Result<String> {
    let mut settings = Settings::new(100, 300);
    settings.groups = groups();
    let mut pair = lab.pair_off(settings)?;
    for host in &pair.hosts {
        host.write("etc/systemd/system/many@.service", MEMBER)?;
        beside_ours(host, &pair.settings)?;
    }
    pair.switch_both_on()?;
    let addresses: HashSet<IpAddr> = (1..=GROUPS).map(|number| own(number).into()).collect();
    let (figures, bare) = Figures::gather_beside(pair.judge(), "ms", TAKEOVERS, || {
        let owner = pair.settled()?;
        let heir = pair.other(&owner).name();
        let from = Instant::now();
        let bare = bare_groups(pair.host(heir))?;
        std::thread::sleep(Duration::from_secs(1));
        let cut = pair.host_mut(&owner).lose_power()?;
        let done = announced(&pair, &addresses, cut)?;
        let to = Instant::now();
        pair.settled()?;
        let begun = begun(&pair, heir, &addresses, first_start(pair.host(heir), cut)?, cut)?;
        all_on(&pair, heir, &addresses)?;
        pair.return_of(&owner)?;
        Ok((Sample { value: ms(done.saturating_duration_since(begun)), from, to }, bare))
    })?;
    let bare = bare.median();
    pair.never_two_owners_of(addresses)?;
    let ratio = figures.median() / bare;
    let text = format!(
        "{GROUPS} groups of an address and a member: bare {bare:.1} ms, from the first start to the last announcement {figures}: \
         {ratio:.2} times"
    );
    ensure!(ratio <= FACTOR, "{text}; bound: {FACTOR}");
    Ok(text)
}

/// What our groups are to systemd, under other names: templates, and drop-ins of the administrator and of the generator.
fn beside_ours(host: &Host, settings: &Settings) -> Result {
    let write = |unit: &str, text: &str| host.write(&format!("etc/systemd/system/{unit}"), text);
    write("bare@.target", "[Unit]\nDescription=Beside ours, %i\nAfter=hafailover.service\nIgnoreOnIsolate=yes\n")?;
    let guard = "[Unit]\nAssertPathExists=/etc/hafailover/authkeys\nAfter=hafailover.service\n";
    for (number, group) in (1..).zip(&settings.groups) {
        let (target, member) = (format!("bare@{number}.target"), format!("many@bare{number}.service"));
        write(&format!("{target}.d/lab.conf"), &group.text())?;
        write(&format!("{target}.d/50-bare.conf"), &format!("{guard}Wants={member}\nAfter={member}\n"))?;
        write(&format!("{member}.d/50-bare.conf"), &format!("{guard}PartOf={target}\n"))?;
    }
    Ok(())
}

/// As many addresses, targets, members and announcements, on the same host. Afterwards nothing is left of them.
fn bare_groups(host: &Host) -> Result<f64> {
    let addresses: Vec<_> = (1..=GROUPS).map(|n| service_address(Ipv4Addr::new(10, 10, 0, n).into(), 16)).collect();
    let units: Vec<String> = (1..=GROUPS).map(|number| format!("bare@{number}.target")).collect();
    let mut starter = Starter::of(host)?;
    let bare = inside(&host.seat.namespace(), || {
        let netlink = Netlink::open()?;
        Ok(Bare::new(netlink.interface(SERVICE).ok_or(std::io::ErrorKind::NotFound)?))
    })?;
    let begun = Instant::now();
    addresses.iter().for_each(|address| bare.add(address));
    starter.start(&units)?;
    addresses.iter().for_each(|address| bare.announce(address));
    let cost = begun.elapsed();
    addresses.iter().rev().for_each(|address| bare.remove(address));
    host.run(&["systemctl", "stop", "bare@*.target", "many@bare*.service"])?;
    Ok(ms(cost))
}

/// When the first of all groups was taken, provided that each was, and runs.
fn first_start(host: &Host, since: Instant) -> Result<Instant> {
    let told = |kind| -> Result<Vec<_>> {
        let said = host.said(&[&change(kind)], since)?;
        let groups: HashSet<_> = said.iter().filter_map(|entry| entry.field("HAFAILOVER_GROUP")).collect();
        let (name, count) = (host.name(), groups.len());
        ensure!(count == usize::from(GROUPS) && said.len() == count, "{name}: {kind:?} of {count} groups");
        Ok(said)
    };
    told(RUNNING)?;
    let starts = told(STARTING)?;
    let first = starts.iter().map(|entry| crate::scenario::moves::sent(entry).unwrap_or(entry.at)).min();
    first.ok_or_else(|| "no start".into())
}
