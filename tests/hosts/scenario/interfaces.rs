//! Interfaces that are missing, deleted, made anew, renamed, and that flap.

use crate::changes::{LINK_HEARD, LINK_SILENT, LINK_USABLE, change};
use crate::ensure;
use crate::figures::ms;
use crate::host::{Host, send};
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::scenario::calm::resident;
use crate::scenario::moves::sent;
use crate::settings::{Kind, Settings};
use crate::sys::{Result, run, run_with_input, wait_for};
use crate::wires::{HB0, HB1, SERVICE};
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

const RECOVERED_WITHIN: Duration = Duration::from_secs(1);
const FLAPS: usize = 50;
/// Of these each is waited for.
const MEASURED_FLAPS: usize = 10;
/// How long a flap is, and how long the next one waits.
const BLINK: Duration = Duration::from_millis(20);
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
    let fit = service_interface_of_the_standby(&pair, &owner)?;
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
        "links were back within {:.0} ms; the standby was fit within {:.0} ms of its interface; the address was back within {:.0} ms, \
         and elsewhere in {:.0} ms; 3 x {FLAPS} flaps; descriptors and memory before {before:?}, after {after:?}",
        ms(slowest),
        ms(fit),
        ms(back),
        ms(moved)
    ))
}

/// A host boots without the interface of a link.
fn missing_at_boot(pair: &mut Pair) -> Result<Duration> {
    pair.hosts[0].switch_on_without(&[HB1])?;
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

fn rename(host: &Host, from: &str, to: &str) -> Result {
    let steps = format!("link set dev {from} down\nlink set dev {from} name {to}\nlink set dev {to} up\n");
    run_with_input("ip", &["-n", &host.seat.namespace(), "-batch", "-"], &steps).map(drop)
}

fn renamed_and_back(pair: &Pair, lan: &str) -> Result<Duration> {
    let host = pair.alpha();
    let lost = Instant::now();
    rename(host, lan, "other0")?;
    silent(pair, lan, lost)?;
    let given = Instant::now();
    rename(host, "other0", lan)?;
    heard_again(pair, lan, lost, given, "renamed back")
}

/// Down and up, at the host and at the switch in turn.
fn flap(pair: &Pair, host: &Host, lan: &str, number: usize) -> Result {
    if number.is_multiple_of(2) {
        let namespace = host.seat.namespace();
        run("ip", &["-n", &namespace, "link", "set", "dev", lan, "down"])?;
        std::thread::sleep(BLINK);
        run("ip", &["-n", &namespace, "link", "set", "dev", lan, "up"]).map(drop)
    } else {
        pair.lab.wires.pull(&host.seat, lan)?;
        std::thread::sleep(BLINK);
        pair.lab.wires.push(&host.seat, lan)
    }
}

/// As fast as can be, and then one by one: each must be over soon, noticed or not.
fn flaps(pair: &Pair, lan: &str) -> Result<Duration> {
    let host = pair.beta();
    let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
    for number in 0..FLAPS {
        flap(pair, host, lan, number)?;
        std::thread::sleep(BLINK);
    }
    for number in 0..MEASURED_FLAPS {
        flap(pair, host, lan, number)?;
        slowest = slowest.max(receives_again(pair, lan, Instant::now())?);
    }
    // A last one that is long enough to be noticed.
    pair.lab.wires.pull(&host.seat, lan)?;
    silent(pair, lan, begun)?;
    let lost = Instant::now();
    std::thread::sleep(pair.settings.deadtime * 2);
    let given = Instant::now();
    pair.lab.wires.push(&host.seat, lan)?;
    Ok(slowest.max(heard_again(pair, lan, lost, given, "flapping")?))
}

/// How long after `given` both hosts had a packet of each other there that came after it.
fn receives_again(pair: &Pair, lan: &str, given: Instant) -> Result<Duration> {
    let received = |host: &Host| -> Option<u64> {
        let link = pair.status(host).ok()?.links.into_iter().find(|link| link.name == lan)?;
        link.usable.then(|| link.peers.iter().map(|peer| peer.received).sum())
    };
    for host in &pair.hosts {
        let mut first = None;
        wait_for(&format!("{} to receive on {lan} after a flap", host.name()), SETTLE, || {
            let now = received(host)?;
            (now > *first.get_or_insert(now)).then_some(())
        })?;
    }
    let took = given.elapsed();
    ensure!(took <= RECOVERED_WITHIN, "{lan} after a flap: nothing received before {took:?}");
    Ok(took)
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

/// Whether the standby can run the group, as the owner knows; nothing where the owner does not say.
fn is_fit(pair: &Pair, owner: &str, standby: &Host) -> Option<bool> {
    let reasons = pair.group(pair.host(owner), "web").ok()?.reasons;
    let said = reasons.into_iter().find(|reason| reason.starts_with(&format!("{} (", standby.name())))?;
    match (said.contains(" can run it"), said.contains(" cannot run it now")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// The standby's service interface is deleted and made anew, renamed and back, and flaps: the group does not notice, and the
/// standby is fit again each time. How long after it at most.
fn service_interface_of_the_standby(pair: &Pair, owner: &str) -> Result<Duration> {
    let (wires, standby) = (&pair.lab.wires, pair.other(owner));
    let fit = || is_fit(pair, owner, standby);
    let unfit_then_fit = |lose: &dyn Fn() -> Result, give: &dyn Fn() -> Result, how: &str| -> Result<Duration> {
        lose()?;
        wait_for(&format!("{} to be unfit, {how}", standby.name()), SETTLE, || (!fit()?).then_some(()))?;
        std::thread::sleep(pair.settings.deadtime);
        let given = Instant::now();
        give()?;
        wait_for(&format!("{} to be fit, {how}", standby.name()), SETTLE, || fit()?.then_some(()))?;
        let took = given.elapsed();
        ensure!(took <= RECOVERED_WITHIN, "{} was fit again after {took:?}, {how}", standby.name());
        ensure!(pair.settled()? == owner, "the group moved: the standby's {SERVICE} was {how}");
        Ok(took)
    };
    let (take, give) = (|| wires.take(&standby.seat, SERVICE), || wires.give(&standby.seat, SERVICE));
    let mut slowest = unfit_then_fit(&take, &give, "made anew")?;
    let (away, back) = (|| rename(standby, SERVICE, "other0"), || rename(standby, "other0", SERVICE));
    slowest = slowest.max(unfit_then_fit(&away, &back, "renamed")?);
    let (pull, push) = (|| wires.pull(&standby.seat, SERVICE), || wires.push(&standby.seat, SERVICE));
    for number in 0..FLAPS {
        flap(pair, standby, SERVICE, number)?;
        std::thread::sleep(BLINK);
    }
    for _ in 0..MEASURED_FLAPS {
        slowest = slowest.max(unfit_then_fit(&pull, &push, "flapping")?);
    }
    Ok(slowest)
}

/// The owner's service interface goes and comes: the address comes back where nobody else can take it, and moves
/// where somebody can. Both times.
fn service_interface(pair: &Pair, owner: &str) -> Result<(Duration, Duration)> {
    let (wires, host, standby) = (&pair.lab.wires, pair.host(owner), pair.other(owner));
    wires.pull(&standby.seat, SERVICE)?;
    wait_for("the standby to be unfit", SETTLE, || (!is_fit(pair, owner, standby)?).then_some(()))?;
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
