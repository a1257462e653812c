//! Cables pulled, links cut, the cluster split and healed.

use crate::changes::{BLOCKED, Change, LINK_HEARD, LINK_SILENT, change};
use crate::ensure;
use crate::figures::{Figures, Sample, ms};
use crate::host::Host;
use crate::pair::{Lab, Pair, SETTLE, VIP, VIP2};
use crate::scenario::power::Phase;
use crate::settings::{Group, Settings};
use crate::sys::{Result, wait_for};
use crate::wires::{Direction, HB0, HB1, LANS, SERVICE};
use std::time::{Duration, Instant};

const NGINX: &str = "nginx.service";

pub fn row07_service_cable(lab: &Lab) -> Result<String> {
    let pair = lab.pair(Settings::new(10, 30))?;
    let mut phase = Phase::default();
    let figures = Figures::gather(pair.judge(), "ms", 10, || {
        let owner = pair.settled()?;
        let client = pair.served_client()?;
        phase.wait(&pair.settings);
        let from = Instant::now();
        lab.wires.pull(&pair.host(&owner).seat, SERVICE)?;
        let pulled = Instant::now();
        client.wait_for_answer(pulled, SETTLE)?;
        let outage = client.finish().outage();
        let to = Instant::now();
        lab.wires.push(&pair.host(&owner).seat, SERVICE)?;
        Ok(Sample { value: ms(outage), from, to })
    })?;
    pair.never_two_owners()?;
    figures.at_most(Some(15.0), 60.0)
}

pub fn row08_heartbeats_cut_service_alive(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair(Settings::new(100, 300))?;
    let figures = Figures::gather(pair.judge(), "ms", 5, || {
        whole_again(&mut pair)?;
        let owner = pair.settled()?;
        let (seat, heir) = (pair.host(&owner).seat.clone(), pair.other(&owner).name());
        let client = pair.served_client()?;
        let begun = Instant::now();
        lab.wires.cut(&seat, &[HB0, HB1])?;
        std::thread::sleep(Duration::from_secs(2));
        let holders = pair.watch.holders(VIP);
        ensure!(holders == [owner.as_str()], "{holders:?} have the address while {owner} answers for it");
        alarmed(&pair, pair.host(heir), begun)?;
        let from = Instant::now();
        let dark = pair.host_mut(&owner).lose_power()?;
        client.wait_for_answer(dark, SETTLE)?;
        let sample = Sample { value: ms(client.finish().outage()), from, to: Instant::now() };
        pair.return_of(&owner)?;
        Ok(sample)
    })?;
    pair.never_two_owners()?;
    Ok(format!("no second owner, alarm given; after the power loss {}", figures.at_most(None, 330.0)?))
}

/// Why it is not taken over, for who looks now and for who reads later.
fn alarmed(pair: &Pair, heir: &Host, since: Instant) -> Result {
    let alarm = format!("blocked: {VIP} answers");
    let said = heir.said(&[&change(BLOCKED), "HAFAILOVER_GROUP=web"], since)?;
    let written = said.iter().any(|entry| entry.message.contains(&alarm));
    ensure!(written, "no `{alarm}` in the journal of {}: {said:?}", heir.name());
    let group = pair.group(heir, "web")?;
    let shown = group.state == "blocked" && group.why.starts_with(&alarm);
    ensure!(shown, "the status of {} says {}: {}", heir.name(), group.state, group.why);
    Ok(())
}

/// What a run that was left out may have left: cut links, a host without power.
fn whole_again(pair: &mut Pair) -> Result {
    for index in 0..pair.hosts.len() {
        if !pair.hosts[index].is_on() {
            pair.hosts[index].switch_on()?;
            pair.hosts[index].wait_booted()?;
        }
        pair.lab.wires.heal(&pair.hosts[index].seat, &LANS)?;
    }
    Ok(())
}

pub fn row09_split_and_heal(lab: &Lab) -> Result<String> {
    let plain = split_and_heal(lab, &[])?;
    let members = split_and_heal(lab, &[NGINX])?;
    Ok(format!("announced after the heal, address only: {plain}; with nginx, less its stop: {members}"))
}

/// Runs on one node only, although both may own its group: the other node has no such unit.
const ONE_SIDED: &str = "one-sided.service";

fn split_and_heal(lab: &Lab, members: &[&'static str]) -> Result<String> {
    let mut settings = Settings::new(100, 300).members(members);
    let mut other = Group::new("own", 78);
    other.start = vec![ONE_SIDED];
    settings.groups.push(other);
    let mut pair = lab.pair_off(settings)?;
    let unit = format!("etc/systemd/system/{ONE_SIDED}");
    pair.alpha().write(&unit, "[Service]\nExecStart=/usr/bin/sleep infinity\n")?;
    pair.switch_both_on()?;
    pair.settled()?;
    let untouched = pair.alpha().main_pid(ONE_SIDED)?.ok_or("the other group does not run on alpha")?;
    let mut phase = Phase::default();
    let figures = Figures::gather(pair.judge(), "ms", 5, || {
        whole_again(&mut pair)?;
        pair.settled()?;
        lab.wires.cut(&pair.alpha().seat, &LANS)?;
        wait_for("two owners of a split cluster", SETTLE, || (pair.watch.holders(VIP).len() == 2).then_some(()))?;
        // Both have everything running, and a start is announced 1.55 s and 3.15 s after it, but not in between.
        std::thread::sleep(Duration::from_millis(1700));
        phase.wait(&pair.settings);
        healed(&pair, !members.is_empty())
    })?;
    let touched = pair.watch.changes(VIP2);
    ensure!(touched.len() == 1, "the address of the group that was not split was touched: {touched:?}");
    let now = pair.alpha().main_pid(ONE_SIDED)?;
    ensure!(now == Some(untouched), "the member of the group that was not split was {untouched}, is {now:?}");
    // The release of the loser's members takes its own time; the rest has two keepalives and 50 ms.
    figures.at_most(None, ms(pair.settings.keepalive * 2 + Duration::from_millis(50)))
}

/// Heals; answers with the time until the winner announced the address as its own alone, without the loser's own stop.
fn healed(pair: &Pair, members: bool) -> Result<Sample> {
    let from = Instant::now();
    pair.lab.wires.heal(&pair.alpha().seat, &LANS)?;
    wait_for("one owner after the heal", SETTLE, || (pair.watch.holders(VIP).len() == 1).then_some(()))?;
    let winner = pair.settled()?;
    let loser = pair.other(&winner);
    let single = pair.watch.changes(VIP).last().map(|change| change.at).ok_or("no change was seen")?;
    let stop = if members { loser.job(NGINX, "stop", from)? } else { Duration::ZERO };
    // At once, while the loser still stops, and again when it has.
    let first = announced(pair, &winner, from)?;
    let last = announced(pair, &winner, single)?;
    let to = Instant::now();
    std::thread::sleep(pair.settings.deadtime * 2);
    ensure!(pair.settled()? == winner, "the group did not stay on {winner}");
    ensure!(pair.watch.holders(VIP) == [winner.as_str()], "{:?} have the address", pair.watch.holders(VIP));
    let took = (first - from).max((last - from).saturating_sub(stop));
    Ok(Sample { value: ms(took), from, to })
}

/// When the client had first heard, in both forms since `since`, that the host has the address: some neighbours believe
/// only one of them.
fn announced(pair: &Pair, host: &str, since: Instant) -> Result<Instant> {
    let link = pair.host(host).run(&["ip", "-br", "link", "show", "dev", SERVICE])?;
    let mac = link.split_whitespace().nth(2).ok_or("no link address")?.to_string();
    let written = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    let form = |request: bool| {
        let arps = pair.watch.arps();
        let mut theirs = arps.into_iter().filter(|arp| arp.at >= since && written(arp.sender_mac) == mac);
        let found = theirs.find(|arp| arp.request == request && arp.sender == VIP && arp.target == VIP);
        found.ok_or_else(|| format!("{host} announced nothing with request={request} after the heal"))
    };
    Ok(form(true)?.at.max(form(false)?.at))
}

pub fn row14_links_cut_in_turn(lab: &Lab) -> Result<String> {
    let pair = lab.pair(Settings::new(100, 300))?;
    let before = pair.watch.changes(VIP).len();
    for link in [HB0, HB1] {
        for host in &pair.hosts {
            let seat = &host.seat;
            let cut = || lab.wires.cut(seat, &[link]).map(drop);
            warned_and_recovered(&pair, link, &[pair.alpha(), pair.beta()], cut, || {
                lab.wires.heal(seat, &[link]).map(drop)
            })?;
            for direction in [Direction::From, Direction::To] {
                // Whoever no longer hears the other has something to say.
                let deaf = if direction == Direction::From { pair.other(host.name()) } else { host };
                let lose = || lab.wires.lose(seat, link, direction);
                warned_and_recovered(&pair, link, &[deaf], lose, || lab.wires.lose_nothing())?;
            }
        }
    }
    let after = pair.watch.changes(VIP).len();
    ensure!(after == before, "the address moved: {:?}", pair.watch.changes(VIP));
    Ok("2 links x 2 hosts x (both ways, from, to): nothing moved, each warning and recovery named its link and peer"
        .into())
}

/// The hosts that no longer hear their peer over the link say so, and when they do again; nobody else says anything.
fn warned_and_recovered(
    pair: &Pair,
    link: &str,
    deaf: &[&Host],
    cut: impl FnOnce() -> Result,
    mend: impl FnOnce() -> Result,
) -> Result {
    let begun = Instant::now();
    cut()?;
    for host in deaf {
        let peer = pair.other(host.name()).name();
        spoke(host, LINK_SILENT, link, peer, &format!("link {link}: {peer} is not heard"), begun)?;
    }
    std::thread::sleep(pair.settings.deadtime * 2);
    for host in &pair.hosts {
        let expected = usize::from(deaf.iter().any(|other| other.name() == host.name()));
        let warnings = host.said(&[&change(LINK_SILENT)], begun)?;
        ensure!(warnings.len() == expected, "{}: not {expected} warnings, but {warnings:?}", host.name());
    }
    let mended = Instant::now();
    mend()?;
    for host in deaf {
        let peer = pair.other(host.name()).name();
        spoke(host, LINK_HEARD, link, peer, &format!("link {link}: {peer} heard again"), mended)?;
    }
    pair.settled().map(drop)
}

/// Waits for the entry of this kind that names link and peer, in its fields and in its text.
fn spoke(host: &Host, kind: Change, link: &str, peer: &str, text: &str, since: Instant) -> Result {
    let fields = [change(kind), format!("HAFAILOVER_LINK={link}"), format!("HAFAILOVER_PEER={peer}")];
    let fields = fields.each_ref().map(String::as_str);
    wait_for(&format!("`{text}` in the journal of {}", host.name()), SETTLE, || {
        let entries = host.said(&fields, since).ok()?;
        entries.iter().any(|entry| entry.message.contains(text)).then_some(())
    })
}
