//! Interfaces that are missing, deleted, made anew, renamed, and that flap.

use crate::changes::{LINK_HEARD, LINK_SILENT, LINK_USABLE, change};
use crate::ensure;
use crate::figures::ms;
use crate::host::{Host, send};
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::scenario::calm::resident;
use crate::scenario::moves::sent;
use crate::settings::{Kind, Settings};
use crate::sys::{Result, run, wait_for};
use crate::wires::{HB0, HB1, SERVICE};
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

const RECOVERED_WITHIN: Duration = Duration::from_secs(1);
const FLAPS: usize = 50;
/// What a daemon may have grown by, in KiB: its memory comes in pages, and some come late.
const GROWTH: u64 = 512;

pub fn row39_interfaces_come_and_go(lab: &Lab) -> Result<String> {
    let mut settings = Settings::new(100, 300);
    settings.tables = vec![Kind::Ucast4(HB0), Kind::Mcast4(HB1)];
    let mut pair = lab.pair_off(settings)?;
    let mut slowest = missing_at_boot(&mut pair)?;
    let owner = pair.settled()?;
    // One round for what is made once.
    slowest = slowest.max(lost_and_found(&pair, HB1)?);
    let before = usage(&pair)?;
    let moves = pair.watch.changes(VIP).len();
    for _ in 0..if lab.full { 20 } else { 2 } {
        for lan in [HB0, HB1] {
            slowest = slowest.max(lost_and_found(&pair, lan)?);
            slowest = slowest.max(renamed_and_back(&pair, lan)?);
        }
    }
    for lan in [HB0, HB1] {
        slowest = slowest.max(flaps(&pair, lan)?);
    }
    replaced_unseen(&pair, &owner)?;
    let standby = pair.other(&owner);
    lab.wires.take(&standby.seat, SERVICE)?;
    std::thread::sleep(pair.settings.deadtime);
    lab.wires.give(&standby.seat, SERVICE)?;
    ensure!(pair.settled()? == owner, "the group moved");
    let changes = pair.watch.changes(VIP);
    ensure!(changes.len() == moves, "the address was touched without need: {changes:?}");
    let (back, moved) = service_interface(&pair, &owner)?;
    let after = usage(&pair)?;
    for ((pid, fds, memory), (pid_then, fds_then, memory_then)) in after.iter().zip(&before) {
        ensure!(pid == pid_then, "a daemon was {pid_then}, is {pid}");
        ensure!(fds == fds_then, "{fds_then} descriptors became {fds}");
        ensure!(*memory <= memory_then + GROWTH, "{memory_then} KiB became {memory}");
    }
    pair.never_two_owners()?;
    Ok(format!(
        "links were back within {:.0} ms; the address within {:.0} ms of its interface, and elsewhere in {:.0} ms; 2 x {FLAPS} \
         flaps; descriptors and memory before {before:?}, after {after:?}",
        ms(slowest),
        ms(back),
        ms(moved)
    ))
}

/// A host boots without the interface of a link.
fn missing_at_boot(pair: &mut Pair) -> Result<Duration> {
    pair.hosts[0].switch_on()?;
    pair.lab.wires.take(&pair.hosts[0].seat, HB1)?;
    pair.hosts[1].switch_on()?;
    pair.hosts.iter().try_for_each(Host::wait_booted)?;
    pair.settled()?;
    let links = pair.status(pair.alpha())?.links;
    let fault = links[1].fault.clone().unwrap_or_default();
    ensure!(!links[1].usable && fault == "interface hb1 does not exist", "{:?}", links[1]);
    let given = Instant::now();
    pair.lab.wires.give(&pair.alpha().seat, HB1)?;
    let heard = |host: &Host| {
        let link = pair.status(host).ok().and_then(|status| status.links.into_iter().nth(1));
        link.is_some_and(|link| link.usable && link.peers.iter().all(|peer| peer.heard))
    };
    wait_for("the interface that was missing", SETTLE, || pair.hosts.iter().all(heard).then_some(()))?;
    let took = given.elapsed();
    ensure!(took <= RECOVERED_WITHIN, "an interface that was missing at boot was heard after {took:?}");
    Ok(took)
}

/// The interface is deleted and a new one comes under its name. Alternately at either host.
fn lost_and_found(pair: &Pair, lan: &str) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for host in &pair.hosts {
        let lost = Instant::now();
        pair.lab.wires.take(&host.seat, lan)?;
        silent(pair, lan, lost)?;
        let given = Instant::now();
        pair.lab.wires.give(&host.seat, lan)?;
        slowest = slowest.max(heard_again(pair, lan, lost, given, "made anew")?);
    }
    Ok(slowest)
}

/// The interface is deleted and made anew while the daemon of the standby cannot look: it finds another one under the name.
fn replaced_unseen(pair: &Pair, owner: &str) -> Result {
    let host = pair.other(owner);
    let daemon = host.main_pid("hafailover.service")?.ok_or_else(|| format!("no daemon on {}", host.name()))?;
    send(daemon, Signal::STOP)?;
    let replaced = pair.lab.wires.take(&host.seat, HB0).and_then(|()| pair.lab.wires.give(&host.seat, HB0));
    send(daemon, Signal::CONT)?;
    replaced?;
    std::thread::sleep(RECOVERED_WITHIN);
    for host in &pair.hosts {
        let link = pair.status(host)?.links.into_iter().find(|link| link.name == HB0).ok_or("no such link")?;
        let heard = link.usable && link.peers.iter().all(|peer| peer.heard);
        ensure!(heard, "{}: {HB0} was replaced unseen, and is deaf: {link:?}", host.name());
    }
    Ok(())
}

fn renamed_and_back(pair: &Pair, lan: &str) -> Result<Duration> {
    let host = pair.alpha();
    let namespace = host.seat.namespace();
    let rename = |from: &str, to: &str| {
        let steps = format!("link set dev {from} down\nlink set dev {from} name {to}\nlink set dev {to} up\n");
        crate::sys::run_with_input("ip", &["-n", &namespace, "-batch", "-"], &steps).map(drop)
    };
    let lost = Instant::now();
    rename(lan, "other0")?;
    silent(pair, lan, lost)?;
    let given = Instant::now();
    rename("other0", lan)?;
    heard_again(pair, lan, lost, given, "renamed back")
}

/// Down and up, at the host and at the switch in turn.
fn flaps(pair: &Pair, lan: &str) -> Result<Duration> {
    let host = pair.beta();
    let namespace = host.seat.namespace();
    let begun = Instant::now();
    for flap in 0..FLAPS {
        if flap % 2 == 0 {
            run("ip", &["-n", &namespace, "link", "set", "dev", lan, "down"])?;
            std::thread::sleep(Duration::from_millis(20));
            run("ip", &["-n", &namespace, "link", "set", "dev", lan, "up"])?;
        } else {
            pair.lab.wires.pull(&host.seat, lan)?;
            std::thread::sleep(Duration::from_millis(20));
            pair.lab.wires.push(&host.seat, lan)?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // A last one that is long enough to be noticed.
    pair.lab.wires.pull(&host.seat, lan)?;
    silent(pair, lan, begun)?;
    let lost = Instant::now();
    std::thread::sleep(pair.settings.deadtime * 2);
    let given = Instant::now();
    pair.lab.wires.push(&host.seat, lan)?;
    heard_again(pair, lan, lost, given, "flapping")
}

/// Both hosts say that they hear nothing there.
fn silent(pair: &Pair, lan: &str, since: Instant) -> Result {
    for host in &pair.hosts {
        wait_for(&format!("{} to miss its peer on {lan}", host.name()), SETTLE, || {
            let links = pair.status(host).ok()?.links;
            let link = links.into_iter().find(|link| link.name == lan)?;
            link.peers.iter().all(|peer| !peer.heard).then_some(())
        })?;
        // The journal may be a moment behind the status.
        wait_for(&format!("{} to say that {lan} is silent", host.name()), SETTLE, || {
            let said = host.said(&[&change(LINK_SILENT), &format!("HAFAILOVER_LINK={lan}")], since).ok()?;
            (!said.is_empty()).then_some(())
        })?;
    }
    Ok(())
}

/// How long after `given` both hosts heard each other there.
fn heard_again(pair: &Pair, lan: &str, lost: Instant, given: Instant, how: &str) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    let link = format!("HAFAILOVER_LINK={lan}");
    for host in &pair.hosts {
        let heard = wait_for(&format!("{} to hear its peer on {lan}, {how}", host.name()), SETTLE, || {
            let said = host.said(&[&change(LINK_HEARD), &link], lost).ok()?;
            // When it was said: on a busy machine the journal may take its time to write it down.
            said.last().map(|entry| sent(entry).unwrap_or(entry.at))
        })?;
        slowest = slowest.max(heard.saturating_duration_since(given));
    }
    let usable = |host: &Host| host.said(&[&change(LINK_USABLE), &link], lost).is_ok_and(|said| !said.is_empty());
    ensure!(pair.hosts.iter().any(usable), "{lan} was never unusable, {how}");
    ensure!(slowest <= RECOVERED_WITHIN, "{lan}, {how}: heard again only after {slowest:?}");
    Ok(slowest)
}

/// The owner's service interface goes and comes: the address comes back where nobody else can take it, and moves
/// where somebody can. Both times.
fn service_interface(pair: &Pair, owner: &str) -> Result<(Duration, Duration)> {
    let (wires, host, standby) = (&pair.lab.wires, pair.host(owner), pair.other(owner));
    wires.pull(&standby.seat, SERVICE)?;
    let unfit = || {
        let said = pair.group(host, "web").ok()?;
        said.reasons.iter().any(|reason| reason.contains(standby.name())).then_some(())
    };
    wait_for("the standby to be unfit", SETTLE, unfit)?;
    std::thread::sleep(pair.settings.deadtime);
    wires.take(&host.seat, SERVICE)?;
    std::thread::sleep(pair.settings.deadtime * 2);
    let moves = pair.watch.changes(VIP).len();
    let given = Instant::now();
    wires.give(&host.seat, SERVICE)?;
    let back = wait_for("the address on its new interface", SETTLE, || {
        pair.watch.changes(VIP).get(moves).filter(|change| change.added && change.host == owner).map(|change| change.at)
    })?;
    let back = back.saturating_duration_since(given);
    ensure!(back <= RECOVERED_WITHIN, "the address was back after {back:?}");
    wires.push(&standby.seat, SERVICE)?;
    ensure!(pair.settled()? == owner, "the group did not stay on {owner}");

    let gone = Instant::now();
    wires.take(&host.seat, SERVICE)?;
    let moved = wait_for("the address on the other host", SETTLE, || {
        let last = pair.watch.changes(VIP).pop()?;
        (last.added && last.host == standby.name()).then_some(last.at)
    })?;
    let moved = moved.saturating_duration_since(gone);
    wires.give(&host.seat, SERVICE)?;
    std::thread::sleep(pair.settings.deadtime * 2);
    ensure!(pair.settled()? == standby.name(), "the group did not stay on {}", standby.name());
    Ok((back, moved))
}

/// Of both daemons: process, descriptors, KiB.
fn usage(pair: &Pair) -> Result<Vec<(u32, usize, u64)>> {
    pair.settled()?;
    let of = |host: &Host| -> Result<(u32, usize, u64)> {
        let pid = host.main_pid("hafailover.service")?.ok_or_else(|| format!("no daemon on {}", host.name()))?;
        Ok((pid, fs::read_dir(format!("/proc/{pid}/fd"))?.count(), resident(pid)?))
    };
    pair.hosts.iter().map(of).collect()
}
