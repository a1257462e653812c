//! IPv6 addresses.

use crate::changes::{BLOCKED, CLAIMED, NOT_REPAIRED, REPAIRED, RETURNED, change};
use crate::client::{Client, Responder};
use crate::ensure;
use crate::figures::{Figures, Sample, ms};
use crate::host::Host;
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::scenario::power::Phase;
use crate::settings::{Group, Settings};
use crate::sys::{Result, run, wait_for};
use crate::wires::{CLIENT, HB0, HB1, SERVICE};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x77);
/// Of a group without an IPv4 address.
const ONLY6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x78);

/// The lab's wires are of IPv4: hosts and the client get an address of their own beside it, whenever they are plugged in.
fn own_address(namespace: &str, number: u8) -> Result {
    let address = format!("2001:db8:0:1::{number}/64");
    run("ip", &["-n", namespace, "addr", "replace", &address, "dev", SERVICE, "nodad"]).map(drop)
}

pub(super) fn switch_on(pair: &mut Pair, name: &str) -> Result {
    let host = pair.host_mut(name);
    host.switch_on()?;
    own_address(&host.seat.namespace(), host.seat.number)?;
    pair.host(name).wait_booted()
}

/// Two hosts with IPv6, at rest.
pub(super) fn pair_with_ipv6(lab: &Lab, settings: Settings) -> Result<Pair<'_>> {
    own_address(CLIENT, 1)?;
    let mut pair = lab.pair_off(settings)?;
    for name in ["alpha", "beta"] {
        switch_on(&mut pair, name)?;
    }
    pair.settled()?;
    Ok(pair)
}

pub fn row33_ipv6_addresses(lab: &Lab) -> Result<String> {
    let mut settings = Settings::new(100, 300);
    // Without dev: each host finds the interface by its own address in that network.
    settings.groups[0].addresses.push(format!("{VIP6}/64"));
    let mut only = Group::new("only6", 78);
    only.addresses = vec![format!("{ONLY6}/64 dev {SERVICE}")];
    settings.groups.push(only);
    let mut pair = pair_with_ipv6(lab, settings)?;
    let owner = pair.settled()?;
    let found = pair.group(pair.host(&owner), "web")?.addresses;
    ensure!(found.contains(&format!("{VIP6}/64 dev {SERVICE}")), "no interface was found: {found:?}");
    let takeover = taken_over(&mut pair)?;
    answered_probe_blocks(&mut pair)?;
    let back = flushed_is_no_deletion(&mut pair)?;
    foreign_claim_is_told(&pair)?;
    pair.never_two_owners()?;
    pair.never_two_owners_of([VIP6, ONLY6])?;
    Ok(format!(
        "both addresses serve again after {takeover}; heartbeats cut: blocked; link off and on: back in {back:.1} ms"
    ))
}

/// The owner loses its power. The client is the third party whose kernel has to learn the new hardware address.
fn taken_over(pair: &mut Pair) -> Result<String> {
    let mut phase = Phase::default();
    let figures = Figures::gather(pair.judge(), "ms", 10, || {
        let owner = pair.settled()?;
        let responders = responders(pair)?;
        let clients = [pair.served_client()?, Client::start(CLIENT, VIP6)?];
        clients[1].wait_for_answer(Instant::now(), SETTLE)?;
        phase.wait(&pair.settings);
        let from = Instant::now();
        let cut = pair.host_mut(&owner).lose_power()?;
        clients.iter().try_for_each(|client| client.wait_for_answer(cut, SETTLE).map(drop))?;
        let neighbour = run("ip", &["-n", CLIENT, "-6", "neigh", "show", &VIP6.to_string()])?;
        let outages = clients.map(|client| ms(client.finish().outage()));
        let to = Instant::now();
        let mac = mac(pair.other(&owner))?;
        ensure!(neighbour.contains(&mac), "the client knows {VIP6} by {neighbour}, the new owner is {mac}");
        drop(responders);
        switch_on(pair, &owner)?;
        pair.settled()?;
        Ok(Sample { value: outages[0].max(outages[1]), from, to })
    })?;
    figures.at_most(None, 330.0)
}

/// They answer from the IPv6 address, on whichever host has it.
fn responders(pair: &Pair) -> Result<Vec<Responder>> {
    let on = pair.hosts.iter().filter(|host| host.is_on());
    on.map(|host| Responder::start(&host.seat.namespace(), &[VIP6])).collect()
}

fn mac(host: &Host) -> Result<String> {
    let link = host.run(&["ip", "-br", "link", "show", "dev", SERVICE])?;
    Ok(link.split_whitespace().nth(2).ok_or("no link address")?.to_owned())
}

/// No heartbeat passes, the service network does: who owns the group answers for its only address, by neighbour discovery.
fn answered_probe_blocks(pair: &mut Pair) -> Result {
    pair.settled()?;
    let owner = pair.group(pair.alpha(), "only6")?.owner.ok_or("nobody owns only6")?;
    let (seat, heir) = (pair.host(&owner).seat.clone(), pair.other(&owner).name());
    let begun = Instant::now();
    pair.lab.wires.cut(&seat, &[HB0, HB1])?;
    std::thread::sleep(Duration::from_secs(2));
    let group = pair.group(pair.host(heir), "only6")?;
    let held = holders(pair, ONLY6)?;
    pair.lab.wires.heal(&seat, &[HB0, HB1])?;
    let alarm = format!("blocked: {ONLY6} answers");
    ensure!(group.state == "blocked" && group.why.starts_with(&alarm), "{heir} says {}: {}", group.state, group.why);
    ensure!(held == [owner.as_str()], "{held:?} have {ONLY6} while {owner} answers for it");
    let said = pair.host(heir).said(&[&change(BLOCKED), "HAFAILOVER_GROUP=only6"], begun)?;
    ensure!(said.iter().any(|entry| entry.message.contains(&alarm)), "no `{alarm}` in the journal of {heir}: {said:?}");
    pair.settled().map(drop)
}

/// A host outside the cluster takes an address that is here, and speaks by it.
fn foreign_claim_is_told(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let (host, begun) = (pair.host(&owner), Instant::now());
    let peer = format!("10.0.0.{}", host.seat.number);
    let own = format!("{VIP}/32");
    run("ip", &["-n", CLIENT, "addr", "add", &own, "dev", SERVICE])?;
    run("ip", &["-n", CLIENT, "route", "add", &peer, "dev", SERVICE, "src", &VIP.to_string()])?;
    run("ip", &["-n", CLIENT, "neigh", "flush", "dev", SERVICE])?;
    run("ip", &["netns", "exec", CLIENT, "bash", "-c", &format!("echo > /dev/udp/{peer}/9")])?;
    let told = wait_for("a word about the claim", SETTLE, || {
        host.said(&[&change(CLAIMED), "HAFAILOVER_GROUP=web"], begun).ok().filter(|said| !said.is_empty())
    });
    // What the bus answers may be a moment older than what the journal has.
    let shown = wait_for("the status to show the claim", SETTLE, || {
        let attention = pair.status(host).ok()?.attention;
        attention.iter().any(|line| line.contains("claims")).then_some(())
    });
    run("ip", &["-n", CLIENT, "route", "del", &peer, "dev", SERVICE])?;
    run("ip", &["-n", CLIENT, "addr", "del", &own, "dev", SERVICE])?;
    let told = told?;
    shown?;
    ensure!(told[0].message.contains(&VIP.to_string()), "{told:?}");
    ensure!(pair.settled()? == owner, "the claim moved the group from {owner}");
    Ok(())
}

fn holders(pair: &Pair, address: Ipv6Addr) -> Result<Vec<&'static str>> {
    let mut holders = Vec::new();
    for host in pair.hosts.iter().filter(|host| host.is_on()) {
        if has(host, address)? {
            holders.push(host.name());
        }
    }
    Ok(holders)
}

fn has(host: &Host, address: Ipv6Addr) -> Result<bool> {
    let shown = run("ip", &["-n", &host.seat.namespace(), "-6", "-o", "addr", "show", "to", &address.to_string()])?;
    Ok(!shown.is_empty())
}

/// An owner without a peer whose link is switched off and on. Answers with the time until its addresses were back.
fn flushed_is_no_deletion(pair: &mut Pair) -> Result<f64> {
    let owner = pair.settled()?;
    let peer = pair.other(&owner).name();
    pair.host_mut(peer).lose_power()?;
    wait_for("both groups on the last host", SETTLE, || {
        let status = pair.status(pair.host(&owner)).ok()?;
        let alone = status.nodes.iter().all(|node| node.me || node.state != "alive" && node.state != "late");
        (alone && status.groups.iter().all(|group| group.state == "running")).then_some(())
    })?;
    let host = pair.host(&owner);
    let namespace = host.seat.namespace();
    let begun = Instant::now();
    run("ip", &["-n", &namespace, "link", "set", "dev", SERVICE, "down"])?;
    // Longer than the gap between two looks at the addresses.
    std::thread::sleep(Duration::from_secs(4));
    ensure!(!has(host, VIP6)? && !has(host, ONLY6)?, "the kernel left the IPv6 addresses");
    let on = Instant::now();
    run("ip", &["-n", &namespace, "link", "set", "dev", SERVICE, "up"])?;
    wait_for("the IPv6 addresses", SETTLE, || (has(host, VIP6).ok()? && has(host, ONLY6).ok()?).then_some(()))?;
    let back = ms(on.elapsed());
    own_address(&namespace, host.seat.number)?;
    for wrong in [REPAIRED, NOT_REPAIRED] {
        let said = host.said(&[&change(wrong)], begun)?;
        ensure!(said.is_empty(), "the kernel's own flush was told as a deletion: {said:?}");
    }
    let told = wait_for("a word about their return", SETTLE, || {
        host.said(&[&change(RETURNED)], begun).ok().filter(|said| said.len() >= 2)
    })?;
    ensure!(told.len() == 2, "one word for each group, not {told:?}");
    switch_on(pair, peer)?;
    pair.settled()?;
    Ok(back)
}
