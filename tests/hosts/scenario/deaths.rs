//! The daemon dies, hangs, or is restarted, while what it runs goes on.

use crate::changes::{BLOCKED, NODE_LOST, RELEASED, STARTING, change};
use crate::ensure;
use crate::host::{Host, send};
use crate::http::Browser;
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::root::EXCLUSIVE;
use crate::settings::{KEYS, Settings, write_keys};
use crate::sweep;
use crate::sys::{Result, wait_for};
use crate::wires::CLIENT;
use hafailover::host::deaths::BUDGET;
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

const DAEMON: &str = "hafailover.service";
const NGINX: &str = "nginx.service";

pub fn row11_daemon_killed_10_30(lab: &Lab) -> Result<String> {
    killed_and_adopted(lab, Settings::new(10, 30), 20)
}

pub fn row11_daemon_killed_200_1000(lab: &Lab) -> Result<String> {
    killed_and_adopted(lab, Settings::new(200, 1000), 20)
}

/// Makes the daemon's count forget the last death: these series are of single deaths, an hour apart for all it knows.
fn one_death_only(host: &Host) -> Result {
    host.run(&["rm", "-f", "/run/hafailover/deaths"]).map(drop)
}

fn killed_and_adopted(lab: &Lab, settings: Settings, runs: usize) -> Result<String> {
    let pair = lab.pair(settings.members(&[NGINX, EXCLUSIVE]))?;
    let owner = pair.settled()?;
    let nginx = pair.host(&owner).main_pid(NGINX)?.ok_or("nginx does not run on the owner")?;
    let changes = pair.watch.changes(VIP).len();
    let client = pair.served_client()?;
    for run in 1..=runs {
        let host = pair.host(&owner);
        let daemon = main_process(host)?;
        send(daemon, Signal::KILL)?;
        wait_for("the next daemon", SETTLE, || main_process(host).ok().filter(|pid| *pid != daemon))?;
        ensure!(pair.settled()? == owner, "run {run}: another owner");
        let now = pair.host(&owner).main_pid(NGINX)?;
        ensure!(now == Some(nginx), "run {run}: nginx was {nginx}, is {now:?}");
        let moved = pair.watch.changes(VIP);
        ensure!(moved.len() == changes, "run {run}: the address moved: {:?}", &moved[changes..]);
        one_death_only(pair.host(&owner))?;
    }
    pair.never_two_owners()?;
    let lost = client.finish().lost();
    Ok(format!("{runs} kills: nginx kept its PID, the address stayed, {lost} datagrams lost"))
}

fn main_process(host: &Host) -> Result<u32> {
    host.main_pid(DAEMON)?.ok_or_else(|| format!("no daemon on {}", host.name()).into())
}

pub fn row11_daemon_frozen(lab: &Lab) -> Result<String> {
    let pair = lab.pair(Settings::new(100, 300).members(&[NGINX, EXCLUSIVE]))?;
    let changes = pair.watch.changes(VIP).len();
    let owner = pair.settled()?;
    let host = pair.host(&owner);
    let members = member_pids(host)?;
    // The last one is longer than systemd's watchdog has patience.
    for frozen in [500, 1000, 3000, 8000] {
        let daemon = main_process(host)?;
        let begun = Instant::now();
        send(daemon, Signal::STOP)?;
        std::thread::sleep(Duration::from_millis(frozen));
        // systemd's watchdog may have been quicker.
        let _ = send(daemon, Signal::CONT);
        std::thread::sleep(pair.settings.deadtime * 2);
        ensure!(pair.settled()? == owner, "another owner after {frozen} ms");
        let moved = pair.watch.changes(VIP);
        ensure!(moved.len() == changes, "the address moved after {frozen} ms: {:?}", &moved[changes..]);
        let now = member_pids(host)?;
        ensure!(now == members, "the members were {members:?}, are {now:?} after {frozen} ms");
        ensure!(frozen < 8000 || main_process(host)? != daemon, "systemd's watchdog let a frozen daemon live");
        was_held_off(pair.other(&owner), &owner, begun).map_err(|error| format!("after {frozen} ms: {error}"))?;
    }
    pair.never_two_owners()?;
    Ok("frozen for 0.5, 1, 3 and 8 s: silence noticed, held off by the address' answer; same owner, same member PIDs"
        .into())
}

/// The peer would have taken over if the owner's address had not answered.
fn was_held_off(peer: &Host, owner: &str, since: Instant) -> Result {
    let lost = peer.said(&[&change(NODE_LOST), &format!("HAFAILOVER_PEER={owner}")], since)?;
    ensure!(!lost.is_empty(), "{} did not notice that {owner} is silent", peer.name());
    let blocked = peer.said(&[&change(BLOCKED), "HAFAILOVER_GROUP=web"], since)?;
    let answer = format!("blocked: {VIP} answers");
    ensure!(blocked.iter().any(|entry| entry.message.contains(&answer)), "{}: no `{answer}`: {blocked:?}", peer.name());
    Ok(())
}

fn member_pids(host: &Host) -> Result<[u32; 2]> {
    let pid = |member| host.main_pid(member)?.ok_or_else(|| format!("{member} does not run on {}", host.name()).into());
    [pid(NGINX), pid(EXCLUSIVE)].into_iter().collect::<Result<Vec<_>>>().map(|pids| [pids[0], pids[1]])
}

pub fn row11_deaths_in_a_row(lab: &Lab) -> Result<String> {
    let pair = lab.pair(Settings::new(100, 300).members(&[NGINX, EXCLUSIVE]))?;
    let owner = pair.settled()?;
    let (host, heir) = (pair.host(&owner), pair.other(&owner));
    let members = member_pids(host)?;
    let begun = Instant::now();
    let (mut daemon, mut last) = (0, begun);
    for death in 1..=BUDGET {
        let next = || main_process(host).ok().filter(|pid| *pid != daemon);
        daemon = wait_for(&format!("the daemon for death {death}"), SETTLE, next)?;
        let now = member_pids(host).map_err(|error| format!("before death {death}: {error}"))?;
        ensure!(now == members, "before death {death} the members were {members:?}, are {now:?}");
        last = Instant::now();
        sweep::kill(daemon);
    }
    wait_for("the peer to take over", SETTLE, || (pair.watch.holders(VIP) == [heir.name()]).then_some(()))?;
    let took = begun.elapsed();
    wait_for("the peer to own the group", SETTLE, || {
        let group = pair.group(heir, "web").ok()?;
        (group.state == "running" && group.owner.as_deref() == Some(heir.name())).then_some(())
    })?;
    gave_up_in_order(host, last)?;
    released_before_taken(&pair, host, heir, last)?;
    // What it says is the remedy, and it gets a budget of its own with it.
    host.run(&["systemctl", "restart", "hafailover"])?;
    ensure!(pair.settled()? == heir.name(), "the group moved when {owner} came back");
    sweep::kill(main_process(host)?);
    ensure!(pair.settled()? == heir.name(), "the group moved when {owner} died once more");
    pair.never_two_owners()?;
    Ok(format!(
        "{BUDGET} deaths, all but the last survived; then all confirmed stopped on {owner}, status 78, no further start; on {} after {:.1} s",
        heir.name(),
        took.as_secs_f64()
    ))
}

/// Failed for good, everything stopped, nothing held.
fn gave_up_in_order(host: &Host, last: Instant) -> Result {
    wait_for("the unit to fail", SETTLE, || {
        (host.property(DAEMON, "ActiveState").ok()? == "failed" && host.property(DAEMON, "MainPID").ok()? == "0")
            .then_some(())
    })?;
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        let show = host.run(&["systemctl", "show", "-p", "ActiveState,MainPID,ControlPID,ExecMainStatus", DAEMON])?;
        let expected = ["ActiveState=failed", "MainPID=0", "ControlPID=0", "ExecMainStatus=78"];
        let missed = expected.iter().find(|line| !show.lines().any(|shown| shown == **line));
        ensure!(missed.is_none(), "{}: no {} in {show:?}", host.name(), missed.unwrap_or(&""));
        std::thread::sleep(Duration::from_millis(100));
    }
    for member in [NGINX, EXCLUSIVE] {
        ensure!(host.is_down(member)?, "{member} is not down on {}, whose daemon is dead for good", host.name());
    }
    for kind in ["held", "grant"] {
        let left = fs::read_dir(host.live_path(&format!("run/hafailover/{kind}"))?)?.count();
        ensure!(left == 0, "{}: {left} files in {kind} after a confirmed stop", host.name());
    }
    let said = host.said(&["_SYSTEMD_UNIT=hafailover.service"], last)?;
    let words = format!("hafailoverd died {BUDGET} times");
    ensure!(said.iter().any(|entry| entry.message.contains(&words)), "no `{words}` in {said:?}");
    Ok(())
}

/// The peer took what was told to be stopped; it did not wait for silence.
fn released_before_taken(pair: &Pair, host: &Host, heir: &Host, last: Instant) -> Result {
    let released = host.said(&[&change(RELEASED), "HAFAILOVER_GROUP=web"], last)?;
    let released = released.first().ok_or("no release in the journal")?.at;
    let changes = pair.watch.changes(VIP);
    let taken = changes.iter().find(|change| change.host == heir.name() && change.added);
    let taken = taken.ok_or("the peer never had the address")?.at;
    // Two threads write the one and the other down.
    ensure!(released < taken + Duration::from_millis(20), "taken {:?} before the release", released - taken);
    let starting = heir.said(&[&change(STARTING), "HAFAILOVER_GROUP=web"], last)?;
    let proof = starting.first().and_then(|entry| entry.field("HAFAILOVER_PROOF"));
    ensure!(proof == Some("release"), "{} took it by {proof:?}, not by the release", heir.name());
    Ok(())
}

pub fn row17_restart_and_key_rotation(lab: &Lab) -> Result<String> {
    let pair = lab.pair(Settings::with_default_timing().members(&[NGINX, EXCLUSIVE]))?;
    let owner = pair.settled()?;
    let members = member_pids(pair.host(&owner))?;
    let client = pair.served_client()?;
    let browser = Browser::start(CLIENT, VIP)?;
    browser.wait_for_answer(Instant::now(), SETTLE)?;
    for host in &pair.hosts {
        let before = main_process(host)?;
        host.run(&["systemctl", "restart", "hafailover"])?;
        ensure!(pair.settled()? == owner, "another owner after the restart on {}", host.name());
        ensure!(main_process(host)? != before, "{} was not restarted", host.name());
    }
    let daemons = [main_process(pair.alpha())?, main_process(pair.beta())?];
    let both = KEYS.to_string() + "2 sha1 a-second-one-of-the-lab\n";
    let second = both.replace("auth 1", "auth 2");
    let only = second.replace("1 sha256 the-lab-has-no-secrets\n", "");
    for keys in [&both, &second, &only] {
        for host in &pair.hosts {
            write_keys(host, keys)?;
            host.run(&["systemctl", "reload", "hafailover"])?;
            std::thread::sleep(Duration::from_millis(1500));
        }
    }
    ensure!(pair.settled()? == owner, "another owner after the rotation");
    let dropped: u64 = pair.hosts.iter().map(|host| dropped_for_key(&pair, host)).sum::<Result<u64>>()?;
    let trace = client.finish();
    let (_, failed) = browser.finish();
    ensure!(trace.lost() == 0 && failed == 0, "{} datagrams and {failed} requests were lost", trace.lost());
    let now = member_pids(pair.host(&owner))?;
    ensure!(now == members, "the members were {members:?}, are {now:?}");
    let now = [main_process(pair.alpha())?, main_process(pair.beta())?];
    ensure!(now == daemons, "the daemons were {daemons:?} before the reloads, are {now:?}");
    ensure!(dropped == 0, "{dropped} heartbeats were refused for their key");
    Ok(format!("{:.0} s under probes: none lost, same PIDs, no heartbeat refused", trace.seconds()))
}

fn dropped_for_key(pair: &Pair, host: &Host) -> Result<u64> {
    Ok(pair.status(host)?.links.iter().map(|link| link.counters.dropped_key).sum())
}
