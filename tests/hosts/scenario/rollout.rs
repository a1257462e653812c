//! Changed files: what runs changes by agreement, and only what changed is touched.

use super::calm::{longest_gap, missed};
use crate::changes::{BLOCKED, MEMBER_DOWN, NODE_LATE, NODE_LOST, NOT_GUARDED, STOPPING, first_of};
use crate::ensure;
use crate::host::{Host, send};
use crate::pair::{Lab, Pair, SETTLE, VIP, VIP2, vip};
use crate::settings::{Group, Settings};
use crate::sys::{Result, wait_for};
use crate::wires::SERVICE;
use crate::wiretap::Wiretap;
use rustix::process::Signal;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const NGINX: &str = "nginx.service";
const FIRST: &str = "first.service";
const LAST: &str = "last.service";
const SLEEPER: &str = "[Service]\nExecStart=/usr/bin/sleep infinity\n";
/// How often the files are reloaded in a row, on both hosts together; with the long counts on each.
const RELOADS: usize = 200;
/// How often a daemon is killed in the middle of a change, and how far into it at most: it takes somewhat less.
const KILLS: u32 = 14;
const LATEST_KILL: Duration = Duration::from_millis(500);

/// What must not be touched by a change of something else: the first address, and nginx where it runs.
struct Untouched {
    addresses: usize,
    nginx: Option<u32>,
}

impl Untouched {
    fn on(pair: &Pair, owner: &str) -> Result<Untouched> {
        let nginx = pair.host(owner).main_pid(NGINX)?;
        ensure!(nginx.is_some(), "nginx does not run on {owner}");
        Ok(Untouched { addresses: pair.watch.changes(VIP).len(), nginx })
    }

    fn still(&self, pair: &Pair, owner: &str, when: &str) -> Result {
        let changes = pair.watch.changes(VIP);
        ensure!(changes.len() == self.addresses, "{when}: {VIP} was touched: {:?}", &changes[self.addresses..]);
        let nginx = pair.host(owner).main_pid(NGINX)?;
        ensure!(nginx == self.nginx, "{when}: nginx was restarted: {:?}, now {nginx:?}", self.nginx);
        ensure!(pair.settled()? == owner, "{when}: another owner");
        pair.never_two_owners()
    }
}

fn write(host: &Host, group: &Group) -> Result {
    host.write(&group.drop_in(), &group.text())
}

fn reload(host: &Host) -> Result<String> {
    host.run(&["hafailoverctl", "reload"])
}

fn is_on(pair: &Pair, address: Ipv4Addr, owners: &[&str], when: &str) -> Result {
    wait_for(&format!("{when}: {address} on {owners:?}"), SETTLE, || {
        (pair.watch.holders(address) == owners).then_some(())
    })
}

/// The files of one host, then of the other: nothing happens before the second has read them.
fn roll_out(pair: &Pair, group: &Group, when: &str) -> Result<String> {
    let owner = pair.settled()?;
    let (owner, other) = (pair.host(&owner), pair.other(&owner));
    write(other, group)?;
    let said = reload(other)?;
    let waits = format!("waits for {}", owner.name());
    ensure!(said.contains(&waits), "{when}: {} does not say whom it waits for: {said}", other.name());
    let attention = pair.status(other)?.attention;
    ensure!(attention.iter().any(|line| line.contains(&waits)), "{when}: nor does its status: {attention:?}");
    write(owner, group)?;
    owner.run(&["systemctl", "reload", "hafailover"])?;
    let nothing = || {
        let settled = |host: &Host| pair.status(host).is_ok_and(|status| status.rollout.is_empty());
        pair.hosts.iter().all(settled).then_some(())
    };
    wait_for(&format!("{when}: both to have adopted it"), SETTLE, nothing).map_err(|error| {
        format!("{error}: {:?}", pair.hosts.each_ref().map(|host| pair.status(host).map(|it| it.rollout)))
    })?;
    Ok(owner.name().to_owned())
}

pub fn row35_rollout(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair_off(Settings::new(100, 300).members(&[NGINX]))?;
    for host in &pair.hosts {
        host.write(&format!("etc/systemd/system/{FIRST}"), SLEEPER)?;
        host.write(&format!("etc/systemd/system/{LAST}"), SLEEPER)?;
    }
    pair.switch_both_on()?;
    pair.settled()?;
    let mut group = pair.settings.groups[0].clone();
    let before = missed_by_both(&pair)?;
    addresses_come_and_go(&pair, &mut group)?;
    members_come_and_go(&pair, &mut group)?;
    groups_come_and_go(&pair)?;
    // From here on daemons are restarted and hosts lose their power.
    let now = missed_by_both(&pair)?;
    ensure!(now == before, "heartbeats were missed: {before:?} before, {now:?} after");
    a_broken_file_holds_up_nobody(&pair, &mut group)?;
    an_owner_dies_in_the_middle(&mut pair, &mut group)?;
    a_reboot_changes_nothing(&mut pair, &mut group)?;
    pair.hosts.iter().try_for_each(Host::no_ordering_cycle)?;
    pair.never_two_owners()?;
    Ok("addresses, members and groups came and went, nothing else was touched and no heartbeat missed; broken on one node; the owner died in the middle; \
        rebooted in the middle"
        .into())
}

fn addresses_come_and_go(pair: &Pair, group: &mut Group) -> Result {
    let owner = pair.settled()?;
    let untouched = Untouched::on(pair, &owner)?;
    group.addresses.push(format!("{VIP2}/24 dev {SERVICE}"));
    roll_out(pair, group, "an address added")?;
    is_on(pair, VIP2, &[&owner], "an address added")?;
    untouched.still(pair, &owner, "an address added")?;
    group.addresses[1] = format!("{VIP2}/28 dev {SERVICE}");
    let changes = pair.watch.changes(VIP2).len();
    roll_out(pair, group, "an address changed")?;
    wait_for("the address to go and come", SETTLE, || (pair.watch.changes(VIP2).len() == changes + 2).then_some(()))?;
    let held = pair.host(&owner).run(&["ip", "-brief", "address", "show", "dev", SERVICE])?;
    ensure!(
        held.contains(&format!("{VIP2}/28")) && !held.contains(&format!("{VIP2}/24")),
        "not as the files say: {held}"
    );
    untouched.still(pair, &owner, "an address changed")?;
    group.addresses.truncate(1);
    roll_out(pair, group, "an address removed")?;
    is_on(pair, VIP2, &[], "an address removed")?;
    untouched.still(pair, &owner, "an address removed")
}

fn members_come_and_go(pair: &Pair, group: &mut Group) -> Result {
    let owner = pair.settled()?;
    let untouched = Untouched::on(pair, &owner)?;
    group.start = vec![FIRST, NGINX, LAST];
    roll_out(pair, group, "members added")?;
    for member in [FIRST, LAST] {
        ensure!(pair.host(&owner).is_active(member)?, "{member} does not run on {owner}");
        let (code, said) = pair.other(&owner).attempt(&["systemctl", "start", member])?;
        ensure!(code != 0 && pair.other(&owner).is_down(member)?, "{member} is not guarded beside the owner: {said}");
    }
    untouched.still(pair, &owner, "members added")?;
    wait_for("systemd to order by what runs", SETTLE, || {
        let wants = pair.host(&owner).property(&group.target(), "Wants").ok()?;
        wants.contains(FIRST).then_some(())
    })?;
    // The one that the others come after: its stop must take none of them along.
    group.start = vec![NGINX, LAST];
    let last = pair.host(&owner).main_pid(LAST)?;
    roll_out(pair, group, "a member removed")?;
    ensure!(pair.host(&owner).is_down(FIRST)?, "{FIRST} runs on");
    ensure!(pair.host(&owner).main_pid(LAST)? == last, "{LAST} was restarted");
    untouched.still(pair, &owner, "a member removed")?;
    // It belongs to nobody now, and whoever wants may start it.
    for host in &pair.hosts {
        wait_for("the guard to go", SETTLE, || {
            host.attempt(&["systemctl", "start", FIRST]).is_ok_and(|(code, _)| code == 0).then_some(())
        })?;
        host.run(&["systemctl", "stop", FIRST])?;
    }
    untouched.still(pair, &owner, "without the member")?;
    // What was adopted is what moves.
    let heir = pair.other(&owner).name();
    pair.host(&owner).run(&["hafailoverctl", "move", "web", heir])?;
    ensure!(pair.settled()? == heir && pair.host(heir).is_active(LAST)?, "{LAST} did not move along");
    group.start = vec![NGINX];
    roll_out(pair, group, "the last member removed").map(drop)
}

fn groups_come_and_go(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let untouched = Untouched::on(pair, &owner)?;
    let group = Group { start: vec![LAST], ..Group::new("db", 79) };
    let when = "a group added";
    roll_out(pair, &group, when)?;
    wait_for("the new group to run", SETTLE, || (pair.watch.holders(vip(79)).len() == 1).then_some(()))?;
    untouched.still(pair, &owner, when)?;
    for host in &pair.hosts {
        host.remove(&group.drop_in())?;
    }
    reload(pair.alpha())?;
    ensure!(pair.watch.holders(vip(79)).len() == 1, "it is still in the files of beta, and was stopped");
    reload(pair.beta())?;
    wait_for("the group to go", SETTLE, || pair.watch.holders(vip(79)).is_empty().then_some(()))?;
    for host in &pair.hosts {
        wait_for("the group to be forgotten", SETTLE, || {
            let status = pair.status(host).ok()?;
            (status.groups.len() == 1 && status.rollout.is_empty()).then_some(())
        })?;
        ensure!(host.is_down(LAST)?, "{LAST} runs on {}", host.name());
        for note in ["/run/hafailover/grant/db", "/run/hafailover/held/db"] {
            ensure!(host.attempt(&["test", "-e", note])?.0 != 0, "{note} is still there on {}", host.name());
        }
    }
    untouched.still(pair, &owner, "a group removed")
}

fn a_broken_file_holds_up_nobody(pair: &Pair, group: &mut Group) -> Result {
    let owner = pair.settled()?;
    let untouched = Untouched::on(pair, &owner)?;
    let other = pair.other(&owner);
    group.addresses.push(format!("{VIP2}/24 dev {SERVICE}"));
    other.write(&group.drop_in(), &group.text().replace("/24", "/99"))?;
    let (code, said) = other.attempt(&["systemctl", "reload", "hafailover"])?;
    ensure!(code != 0, "a broken file was accepted: {said}");
    other.run(&["systemctl", "restart", "hafailover"])?;
    let mistakes = || {
        let status = pair.status(other).ok()?;
        let named = |line: &String| line.contains("lab.conf:5:") && line.contains("what ran before goes on");
        status.attention.iter().any(named).then_some(())
    };
    wait_for("the mistakes in the status", SETTLE, mistakes)?;
    write(pair.host(&owner), group)?;
    let said = reload(pair.host(&owner))?;
    ensure!(said.contains(&format!("waits for {}", other.name())), "it does not say whom it waits for: {said}");
    is_on(pair, VIP2, &[], "broken on one node")?;
    untouched.still(pair, &owner, "broken on one node")?;
    write(other, group)?;
    reload(other)?;
    is_on(pair, VIP2, &[&owner], "mended")?;
    untouched.still(pair, &owner, "mended")?;
    group.addresses.truncate(1);
    roll_out(pair, group, "back again").map(drop)
}

/// The backup has the new files, the owner the old ones: taken over by the old rules, then adopted.
fn an_owner_dies_in_the_middle(pair: &mut Pair, group: &mut Group) -> Result {
    let owner = pair.settled()?;
    let heir = pair.other(&owner).name();
    let old = group.clone();
    group.addresses.push(format!("{VIP2}/24 dev {SERVICE}"));
    group.start = vec![NGINX, LAST];
    write(pair.host(heir), group)?;
    reload(pair.host(heir))?;
    let from = Instant::now();
    pair.host_mut(&owner).lose_power()?;
    is_on(pair, VIP, &[heir], "after the owner's death")?;
    is_on(pair, VIP2, &[heir], "adopted after it")?;
    wait_for("the new member", SETTLE, || pair.host(heir).is_active(LAST).ok().filter(|up| *up))?;
    let said = pair.host(heir).said(&["SYSLOG_IDENTIFIER=hafailoverd", "HAFAILOVER_GROUP=web"], from)?;
    let place = |word: &str| said.iter().position(|entry| entry.message.contains(word));
    let (running, adopted) = (place("running here"), place("runs by its changed files"));
    ensure!(running.is_some() && running < adopted, "not taken as it was first: {said:?}");
    // Who was away comes back with what it had, and follows.
    pair.host_mut(&owner).switch_on()?;
    pair.host(&owner).wait_booted()?;
    pair.settled()?;
    ensure!(pair.watch.holders(VIP2) == [heir], "{VIP2} is on {:?}", pair.watch.holders(VIP2));
    let text = pair.host(&owner).run(&["cat", &format!("/{}", old.drop_in())])?;
    ensure!(text == old.text(), "the files of {owner} changed by themselves");
    write(pair.host(&owner), group)?;
    let said = reload(pair.host(&owner))?;
    ensure!(said.contains("web runs by its files"), "it does not follow: {said}");
    pair.settled().map(drop)
}

/// Edited while it was off: after the boot it runs by what it had adopted, until both read the same.
fn a_reboot_changes_nothing(pair: &mut Pair, group: &mut Group) -> Result {
    let owner = pair.settled()?;
    let other = pair.other(&owner).name();
    group.addresses.truncate(1);
    group.start = vec![NGINX];
    pair.host_mut(other).lose_power()?;
    write(pair.host(other), group)?;
    pair.return_of(other)?;
    let rollout = pair.status(pair.host(other))?.rollout;
    ensure!(rollout.len() == 1 && rollout[0].waits.is_some(), "the reboot adopted the files by itself: {rollout:?}");
    ensure!(pair.watch.holders(VIP2) == [owner.as_str()], "the owner's address went: {:?}", pair.watch.holders(VIP2));
    write(pair.host(&owner), group)?;
    reload(pair.host(&owner))?;
    is_on(pair, VIP2, &[], "both read the same")?;
    ensure!(pair.host(&owner).is_down(LAST)?, "{LAST} runs on");
    ensure!(pair.settled()? == owner, "another owner");
    Ok(())
}

/// Files that change each time, on both hosts at once: an address comes and goes, a timeout with it, and systemd reads all again.
pub fn row35_reloads(lab: &Lab) -> Result<String> {
    let pair = lab.pair(Settings::new(100, 300).members(&[NGINX]))?;
    let owner = pair.settled()?;
    let untouched = Untouched::on(&pair, &owner)?;
    let daemons = || pair.hosts.iter().map(|host| host.main_pid("hafailover.service")).collect::<Result<Vec<_>>>();
    let (processes, changes) = (daemons()?, pair.watch.changes(VIP2).len());
    let (from, before) = (Instant::now(), missed_by_both(&pair)?);
    let tap = Wiretap::start()?;
    let old = pair.settings.groups[0].clone();
    let mut new = old.clone();
    new.addresses.push(format!("{VIP2}/24 dev {SERVICE}"));
    new.more.push("TimeoutStopSec=77s");
    let rounds = if lab.full { RELOADS } else { RELOADS / 2 };
    for round in 0..rounds {
        let (group, holders): (_, &[&str]) = if round % 2 == 0 { (&new, &[&owner]) } else { (&old, &[]) };
        changed_at_once(&pair, group, round % 2)?;
        is_on(&pair, VIP2, holders, &format!("change {round}"))?;
    }
    let (took, packets) = (from.elapsed(), tap.finish());
    untouched.still(&pair, &owner, "reloaded")?;
    let seen = pair.watch.changes(VIP2).len() - changes;
    ensure!(seen == rounds, "{rounds} changes of the files changed {VIP2} {seen} times");
    let now = daemons()?;
    ensure!(now == processes, "the daemons were {processes:?}, are {now:?}");
    for host in &pair.hosts {
        let said = host.said(&["SYSLOG_IDENTIFIER=hafailoverd"], from)?;
        let trouble = first_of(&said, &[NODE_LATE, NODE_LOST, NOT_GUARDED, STOPPING, MEMBER_DOWN, BLOCKED]);
        ensure!(trouble.is_none(), "{}: {trouble:?}", host.name());
    }
    let now = missed_by_both(&pair)?;
    ensure!(now == before, "heartbeats were missed: {before:?} before, {now:?} after");
    let (mut longest, warntime) = (Duration::ZERO, pair.settings.warntime());
    for host in &pair.hosts {
        let gap = longest_gap(host, &packets)?;
        ensure!(gap < warntime, "{} said nothing for {gap:?}, warntime is {warntime:?}", host.name());
        longest = longest.max(gap);
    }
    Ok(format!(
        "{rounds} times changed files, reloaded on both hosts and by systemd, in {:.0} s: only what changed was touched, no heartbeat \
         missed, longest gap {longest:.0?}",
        took.as_secs_f64()
    ))
}

/// On both hosts, and then systemd reads all again on one of them.
fn changed_at_once(pair: &Pair, group: &Group, systemd_on: usize) -> Result {
    let mut begun = Vec::new();
    for (index, host) in pair.hosts.iter().enumerate() {
        write(host, group)?;
        let more = if index == systemd_on { " && systemctl daemon-reload" } else { "" };
        begun.push(host.begin(&["sh", "-c", &format!("systemctl reload hafailover{more}")])?);
    }
    for (host, reload) in pair.hosts.iter().zip(&mut begun) {
        ensure!(reload.wait()?.success(), "{}: a reload failed", host.name());
    }
    Ok(())
}

/// What each host missed of the other's heartbeats.
fn missed_by_both(pair: &Pair) -> Result<Vec<u64>> {
    pair.hosts.iter().map(|host| missed(pair, host)).collect()
}

/// The daemon of the owner dies at some moment of a change, back and forth between two forms of the group, and what comes of it is
/// what the files say, whole: nothing is left of what they do not name.
pub fn row35_killed_in_a_change(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair_off(Settings::new(100, 300).members(&[FIRST, NGINX]))?;
    for host in &pair.hosts {
        for unit in [FIRST, LAST] {
            let slow = format!("{SLEEPER}ExecStartPre=/usr/bin/sleep 0.2\nExecStop=/usr/bin/sleep 0.2\n");
            host.write(&format!("etc/systemd/system/{unit}"), &slow)?;
        }
    }
    pair.switch_both_on()?;
    let one = pair.settings.groups[0].clone();
    let two = Group {
        start: vec![NGINX, LAST],
        addresses: vec![one.addresses[0].clone(), Group::new("web", 78).addresses.remove(0)],
        ..one.clone()
    };
    let (mut touched, mut inside) = (0, 0);
    for kill in 0..KILLS {
        let (form, gone, new) = if kill % 2 == 0 { (&two, FIRST, LAST) } else { (&one, LAST, FIRST) };
        let owner = pair.settled()?;
        let (host, other) = (pair.host(&owner), pair.other(&owner));
        host.run(&["rm", "-f", "/run/hafailover/deaths"])?;
        write(other, form)?;
        reload(other)?;
        write(host, form)?;
        let nginx = host.main_pid(NGINX)?;
        let daemon = host.main_pid("hafailover.service")?.ok_or("no daemon")?;
        let mut reload = host.begin(&["systemctl", "reload", "hafailover"])?;
        let at = LATEST_KILL * kill / KILLS;
        std::thread::sleep(at);
        inside += u32::from(!pair.status(host)?.rollout.is_empty());
        send(daemon, Signal::KILL)?;
        reload.wait()?;
        let done = || {
            let owner = pair.settled().ok()?;
            let (here, there) = (pair.host(&owner), pair.other(&owner));
            let right = |host: &Host| pair.status(host).is_ok_and(|status| status.rollout.is_empty());
            let whole = here.is_active(new).ok()? && here.is_active(NGINX).ok()? && here.is_down(gone).ok()?;
            let nothing = [FIRST, LAST, NGINX].iter().all(|unit| there.is_down(unit).unwrap_or(false));
            let second: Vec<&str> = if kill % 2 == 0 { vec![&owner] } else { vec![] };
            let addresses = pair.watch.holders(VIP) == [owner.as_str()] && pair.watch.holders(VIP2) == second;
            (pair.hosts.iter().all(right) && whole && nothing && addresses).then_some(owner)
        };
        let now = wait_for(&format!("what the files say, after a death {at:?} into the change"), SETTLE, done)?;
        touched += usize::from(now != owner || pair.host(&now).main_pid(NGINX)? != nginx);
        pair.never_two_owners()?;
    }
    ensure!(inside * 2 >= KILLS, "only {inside} of {KILLS} deaths came before the change was done");
    Ok(format!(
        "{KILLS} deaths, up to {LATEST_KILL:.1?} after a change was read, {inside} of them before it was done: always whole in the \
         end; {touched} times the group was started anew"
    ))
}
