//! What a node does when the ordinary ways are closed: a bus, a disk or a lock that does not answer, files that are gone or say something
//! else than what runs, a look that comes late.

use crate::ensure;
use crate::host::{Host, send};
use crate::pair::{Lab, Pair, SETTLE, VIP, VIP2};
use crate::settings::{Group, Settings};
use crate::sweep;
use crate::sys::{Result, wait_for};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

const DAEMON: &str = "hafailover.service";
const NGINX: &str = "nginx.service";
const CLUSTER: &str = "etc/hafailover/hafailover.toml";
/// A last resort ends the host within the groups' own times and what is granted beyond them; then systemd needs a moment.
const LAST_RESORT: Duration = Duration::from_secs(40);

fn daemon(host: &Host) -> Result<u32> {
    host.main_pid(DAEMON)?.ok_or_else(|| format!("no daemon on {}", host.name()).into())
}

/// The next death counts as one too many.
fn nearly_spent(host: &Host) -> Result {
    let now = clock_gettime(ClockId::Boottime);
    let now = u64::try_from(now.tv_sec)? * 1_000_000_000 + u64::try_from(now.tv_nsec)?;
    let deaths = format!("{now}\\n").repeat(4);
    host.run(&["sh", "-c", &format!("printf '{deaths}' >/run/hafailover/deaths")]).map(drop)
}

/// Debian's unit leaves the process alone when it is stopped; without its socket nothing starts it again.
fn end_bus(host: &Host) -> Result {
    let bus = host.main_pid("dbus.service")?.ok_or("no bus")?;
    host.run(&["systemctl", "stop", "dbus.socket", "dbus.service"])?;
    sweep::kill(bus);
    Ok(())
}

fn bring_bus_back(host: &Host) -> Result {
    host.run(&["systemctl", "start", "dbus.socket", "dbus.service"]).map(drop)
}

pub fn row11_beaten_owner(lab: &Lab) -> Result<String> {
    let mut settings = Settings::new(200, 1000).members(&[NGINX]);
    settings.groups[0].addresses.clear();
    let pair = lab.pair(settings)?;
    let owner = pair.settled()?;
    let heir = pair.other(&owner);
    let frozen = daemon(pair.host(&owner))?;
    send(frozen, Signal::STOP)?;
    wait_for("the peer to run it", SETTLE, || {
        pair.group(heir, "web").ok().filter(|group| group.state == "running" && heir.is_active(NGINX).unwrap_or(false))
    })?;
    send(frozen, Signal::KILL)?;
    std::thread::sleep(Duration::from_secs(5));
    let group = pair.group(heir, "web")?;
    ensure!(!group.stopped_by_operator, "the beaten owner's own stop was taken for an operator's: {group:?}");
    ensure!(group.state == "running" && heir.is_active(NGINX)?, "{} does not run it any more: {group:?}", heir.name());
    ensure!(pair.settled()? == heir.name(), "another owner");
    ensure!(!pair.host(&owner).is_active(NGINX)?, "{NGINX} still runs on {owner}");
    Ok(format!("{owner} froze, {} took over and still runs it after {owner} was back", heir.name()))
}

pub fn row11_closed_ways(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair_off(Settings::new(100, 300).members(&[NGINX, "restless.service"]))?;
    for host in &pair.hosts {
        let unit = "[Service]\nExecStart=/usr/bin/sleep infinity\nRestart=always\nRestartSec=3s\n";
        host.write("etc/systemd/system/restless.service", unit)?;
        host.write("etc/systemd/system/late.service", "[Service]\nType=oneshot\nExecStart=/usr/bin/sleep 60\n")?;
    }
    pair.switch_both_on()?;
    pair.settled()?;
    let started = a_late_network_is_not_waited_for(&pair)?;
    a_lost_bus_hinders_no_move(&pair)?;
    a_members_own_restart_costs_nothing(&pair)?;
    a_stuck_disk_delays_no_restart(&pair)?;
    a_restart_in_a_roll_out_changes_nothing(&pair)?;
    without_the_clusters_file_nobody_is_left_alone(&pair)?;
    pair.never_two_owners()?;
    let took = a_strangers_lock_ends_the_host(&mut pair)?;
    Ok(format!(
        "started beside a late network in {started:.1?}; moved to a host without a bus; restart beside a member's own, with changed files and \
         without any: nobody left alone; rebooted {:.0} s after a death with a strange lock",
        took.as_secs_f64()
    ))
}

fn a_late_network_is_not_waited_for(pair: &Pair) -> Result<Duration> {
    let owner = pair.settled()?;
    let host = pair.other(&owner);
    host.run(&["systemctl", "stop", "hafailover"])?;
    host.write(
        "etc/systemd/system/network-online.target.d/lab.conf",
        "[Unit]\nWants=late.service\nAfter=late.service\n",
    )?;
    host.run(&["systemctl", "daemon-reload"])?;
    host.run(&["systemctl", "stop", "network-online.target"])?;
    host.run(&["systemctl", "start", "--no-block", "network-online.target"])?;
    let begun = Instant::now();
    host.run(&["systemctl", "start", "hafailover"])?;
    let took = begun.elapsed();
    let late = host.property("network-online.target", "ActiveState")?;
    ensure!(late == "inactive" && took < Duration::from_secs(10), "it took {took:?} beside a network that is {late}");
    host.run(&["systemctl", "stop", "late.service"])?;
    pair.settled()?;
    Ok(took)
}

fn a_lost_bus_hinders_no_move(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let heir = pair.other(&owner);
    end_bus(heir)?;
    std::thread::sleep(Duration::from_secs(5));
    let (code, said) = pair.host(&owner).attempt(&["hafailoverctl", "move", "web", heir.name()])?;
    bring_bus_back(heir)?;
    ensure!(code == 0, "the move to a host without a bus ended with {code}: {said}");
    ensure!(pair.settled()? == heir.name(), "another owner");
    Ok(())
}

fn a_members_own_restart_costs_nothing(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let host = pair.host(&owner);
    let (changes, nginx) = (pair.watch.changes(VIP).len(), host.main_pid(NGINX)?);
    send(host.main_pid("restless.service")?.ok_or("no restless member")?, Signal::KILL)?;
    wait_for("the member's own restart", SETTLE, || {
        (host.property("restless.service", "SubState").ok()? == "auto-restart").then_some(())
    })?;
    host.run(&["systemctl", "restart", "hafailover"])?;
    let state = host.property("restless.service", "SubState")?;
    ensure!(state == "auto-restart", "the member was {state} already when the daemon was back");
    ensure!(pair.settled()? == owner, "another owner");
    let moved = pair.watch.changes(VIP);
    ensure!(moved.len() == changes, "the address moved: {:?}", &moved[changes..]);
    ensure!(host.main_pid(NGINX)? == nginx, "nginx was restarted");
    Ok(())
}

/// Something waits to be written when the daemon ends.
fn a_stuck_disk_delays_no_restart(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let host = pair.host(&owner);
    host.run(&["mkfifo", "/var/lib/hafailover/state.json.new"])?;
    host.run(&["hafailoverctl", "clear", "web"])?;
    let begun = Instant::now();
    host.run(&["systemctl", "restart", "hafailover"])?;
    let took = begun.elapsed();
    ensure!(took < Duration::from_secs(2), "the restart waited {took:?} for the disk");
    host.run(&["rm", "/var/lib/hafailover/state.json.new"])?;
    ensure!(pair.settled()? == owner, "another owner");
    Ok(())
}

/// The address becomes another one, on one host and then on the other; the owner's daemon is restarted in between.
fn a_restart_in_a_roll_out_changes_nothing(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let (host, other) = (pair.host(&owner), pair.other(&owner));
    let nginx = host.main_pid(NGINX)?;
    let mut changed = pair.settings.groups[0].clone();
    changed.addresses = Group::new("web", 78).addresses;
    host.write(&changed.drop_in(), &changed.text())?;
    let waits = format!("waits for {}", other.name());
    let said = host.run(&["hafailoverctl", "reload"])?;
    ensure!(said.contains(&waits), "`reload` does not say whom it waits for: {said}");
    host.run(&["systemctl", "restart", "hafailover"])?;
    ensure!(pair.settled()? == owner, "another owner");
    let (old, new) = (pair.watch.holders(VIP), pair.watch.holders(VIP2));
    ensure!(old == [owner.as_str()] && new.is_empty(), "after the restart {VIP} is on {old:?}, {VIP2} on {new:?}");
    let attention = pair.status(host)?.attention;
    ensure!(attention.iter().any(|line| line.contains(&waits)), "what is pending is not said: {attention:?}");
    other.write(&changed.drop_in(), &changed.text())?;
    other.run(&["systemctl", "reload", "hafailover"])?;
    wait_for("the new address", SETTLE, || (pair.watch.holders(VIP2) == [owner.as_str()]).then_some(()))?;
    ensure!(pair.watch.holders(VIP).is_empty(), "the old address is still there");
    ensure!(pair.settled()? == owner && host.main_pid(NGINX)? == nginx, "nginx was touched");
    Ok(())
}

fn without_the_clusters_file_nobody_is_left_alone(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let (host, heir) = (pair.host(&owner), pair.other(&owner));
    host.remove(CLUSTER)?;
    host.attempt(&["systemctl", "restart", "hafailover"])?;
    wait_for("the peer to take over", SETTLE, || (pair.watch.holders(VIP2) == [heir.name()]).then_some(()))?;
    ensure!(!host.is_active(NGINX)?, "{NGINX} still runs on {owner}, where no daemon can start");
    host.write(CLUSTER, &pair.settings.cluster_file())?;
    host.run(&["systemctl", "start", "hafailover"])?;
    pair.settled().map(drop)
}

/// The lock is held, but by nobody who looks after the groups.
fn a_strangers_lock_ends_the_host(pair: &mut Pair) -> Result<Duration> {
    let owner = pair.settled()?;
    let heir = pair.other(&owner).name();
    let host = pair.host(&owner);
    host.run(&["systemd-run", "--quiet", "--unit=thief", "flock", "/run/hafailover/lock", "sleep", "300"])?;
    nearly_spent(host)?;
    let begun = Instant::now();
    send(daemon(host)?, Signal::KILL)?;
    pair.host_mut(&owner).wait_off(LAST_RESORT)?;
    let took = begun.elapsed();
    wait_for("the peer to take over", SETTLE, || (pair.watch.holders(VIP2) == [heir]).then_some(()))?;
    Ok(took)
}

/// Two hosts at their end at once: one dies for the last time beside a disk that does not answer and a member that does not stop; the other
/// one's daemon is killed in its own stop, beside a dead bus, and is cleaned up after without one.
pub fn row11_last_resort(lab: &Lab) -> Result<String> {
    let mut settings = Settings::new(100, 300).members(&["stubborn.service"]);
    settings.groups.push(Group { start: vec!["lazy.service"], ..Group::new("db", 78) });
    settings.groups[0].more = vec!["TimeoutStopSec=1s"];
    settings.groups[1].more = vec!["TimeoutStopSec=1s", "Nodes=beta alpha"];
    let mut pair = lab.pair_off(settings)?;
    let unit = "[Service]\nExecStart=/usr/bin/sleep infinity\n";
    for host in &pair.hosts {
        let endless = format!("{unit}ExecStop=/usr/bin/sleep infinity\nTimeoutStopSec=infinity\n");
        host.write("etc/systemd/system/stubborn.service", &endless)?;
        host.write("etc/systemd/system/lazy.service", unit)?;
    }
    pair.switch_both_on()?;
    let owner = pair.settled()?;
    let db = pair.group(pair.alpha(), "db")?.owner;
    ensure!(owner == "alpha" && db.as_deref() == Some("beta"), "web is on {owner}, db on {db:?}");

    let disk = "cd /var/lib/hafailover && rm -f state.json && mkfifo state.json state.json.new";
    pair.alpha().run(&["sh", "-c", disk])?;
    nearly_spent(pair.alpha())?;
    end_bus(pair.beta())?;
    let begun = Instant::now();
    send(daemon(pair.alpha())?, Signal::KILL)?;
    let stopped = daemon(pair.beta())?;
    pair.beta().run(&["systemctl", "stop", "--no-block", "hafailover"])?;
    send(stopped, Signal::KILL)?;
    wait_for("beta to be stopped without a bus", LAST_RESORT, || {
        let beta = pair.beta();
        let stopped = beta.is_down("lazy.service").ok()? && beta.is_down("hafailover.service").ok()?;
        (stopped && !pair.watch.holders(VIP2).contains(&"beta".to_owned())).then_some(())
    })?;
    let stopped = begun.elapsed().as_secs_f64();
    pair.host_mut("alpha").wait_off(LAST_RESORT).map_err(|error| format!("alpha: {error}"))?;
    let off = begun.elapsed().as_secs_f64();
    ensure!(pair.beta().property("hafailover.service", "ActiveState").is_ok(), "beta was rebooted, too");
    pair.never_two_owners()?;
    Ok(format!(
        "a stuck disk and a stubborn member: rebooted after {off:.0} s; a stop with a dead bus: confirmed by systemctl after {stopped:.0} s"
    ))
}
