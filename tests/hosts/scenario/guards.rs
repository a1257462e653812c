//! A member runs only where the group is owned, whoever else wants it to.

use crate::changes::{STARTING, change};
use crate::ensure;
use crate::host::Host;
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::root::EXCLUSIVE;
use crate::settings::{Group, Settings};
use crate::sys::{Result, at_monotonic, wait_for};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

const MEMBERS: [&str; 5] = [MOUNT, SOCKET, TIMER, "nginx.service", EXCLUSIVE];
const MOUNT: &str = "srv-web.mount";
const SOCKET: &str = "inbox.socket";
const TIMER: &str = "chores.timer";
/// What the socket and the timer set going.
const TRIGGERED: [&str; 2] = ["inbox.service", "chores.service"];
/// What every refusal comes down to.
const GRANT: &str = "/run/hafailover/grant/web";

pub fn row12_guards(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair_off(Settings::new(100, 300).members(&MEMBERS))?;
    for host in &pair.hosts {
        write_members(host)?;
        MEMBERS.iter().try_for_each(|member| enable_at_boot(host, member))?;
    }
    pair.switch_both_on()?;
    pair.settled()?;
    only_on_owner(&pair, "booted with members enabled")?;
    refused_at_boot(&mut pair)?;
    refused_by_hand(&pair)?;
    refused_when_pulled_in(&pair)?;
    a_move_moves_every_kind(&pair)?;
    refused_without_daemon(&pair)?;
    an_edit_without_reload_changes_nothing(&pair)?;
    a_broken_drop_in_still_guards(&mut pair)?;
    pair.hosts.iter().try_for_each(Host::no_ordering_cycle)?;
    pair.never_two_owners()?;
    Ok("enabled at boot, by hand, pulled in, no daemon, edited, broken; mount, socket, timer, services: never beside the owner, each refusal says why".into())
}

/// A node that is not up yet owns nothing: before its daemon runs, and while that is joining.
pub fn row12_not_yet_up(lab: &Lab) -> Result<String> {
    let mut settings = Settings::new(100, 300).members(&MEMBERS);
    // Longer than all that is tried meanwhile.
    settings.initdead = Duration::from_secs(120);
    let mut pair = lab.pair_off(settings)?;
    write_members(pair.beta())?;
    MEMBERS.iter().try_for_each(|member| enable_at_boot(pair.beta(), member))?;
    pair.beta().remove("etc/systemd/system/multi-user.target.wants/hafailover.service")?;
    pair.host_mut("beta").switch_on()?;
    let beta = pair.beta();
    beta.wait_booted()?;
    ensure!(beta.is_down("hafailover.service")?, "the daemon was not to start at boot");
    never_ran(beta, "booted without a daemon")?;
    // Nothing held it back: systemd tried before its journal ran, so that only the unit can tell.
    ensure!(monotonic(beta, MOUNT, "AssertTimestampMonotonic")? != 0, "nobody tried to start {MOUNT} at boot");
    ensure!(beta.property(MOUNT, "AssertResult")? == "no", "{MOUNT} was not refused at boot");
    refused(beta, "without a daemon since boot")?;
    beta.run(&["systemctl", "start", "hafailover"])?;
    let joining = || -> Result {
        let state = pair.status(beta)?.state;
        ensure!(state == "joining", "beta is {state}, it was to be joining");
        Ok(())
    };
    joining()?;
    refused(beta, "while joining")?;
    joining()?;
    never_ran(beta, "not yet up")?;
    ensure!(pair.watch.changes(VIP).is_empty(), "a node that has not joined had the address");
    beta.no_ordering_cycle()?;
    Ok("alone, enabled at boot and by hand; without a daemon and while joining: nothing ran, each refusal says why"
        .into())
}

fn write_members(host: &Host) -> Result {
    let unit = |name: &str, text: &str| host.write(&format!("etc/systemd/system/{name}"), text);
    fs::create_dir_all(host.path("srv/web"))?;
    unit(MOUNT, "[Mount]\nWhat=tmpfs\nWhere=/srv/web\nType=tmpfs\n")?;
    unit(SOCKET, "[Socket]\nListenStream=/run/inbox.sock\n")?;
    unit("inbox.service", "[Service]\nExecStart=/usr/bin/sleep infinity\n")?;
    unit(TIMER, "[Timer]\nOnActiveSec=1h\n")?;
    unit("chores.service", "[Service]\nType=oneshot\nExecStart=/usr/bin/true\n")?;
    unit(
        "greedy.service",
        "[Unit]\nRequires=nginx.service\nAfter=nginx.service\n[Service]\nExecStart=/usr/bin/sleep infinity\n",
    )
}

/// Where its own `[Install]` would put it.
fn enable_at_boot(host: &Host, unit: &str) -> Result {
    let target = match unit {
        MOUNT => "local-fs",
        SOCKET => "sockets",
        TIMER => "timers",
        _ => "multi-user",
    };
    let wants = host.path(&format!("etc/systemd/system/{target}.target.wants"));
    fs::create_dir_all(&wants)?;
    let home = if unit == "nginx.service" { "/lib/systemd/system" } else { "/etc/systemd/system" };
    Ok(symlink(format!("{home}/{unit}"), wants.join(unit))?)
}

fn only_on_owner(pair: &Pair, when: &str) -> Result<String> {
    let owner = pair.settled().map_err(|error| format!("{when}: {error}"))?;
    for member in MEMBERS {
        ensure!(pair.host(&owner).is_active(member)?, "{when}: {member} does not run on its owner {owner}");
    }
    all_down(pair.other(&owner), when)?;
    pair.never_two_owners()?;
    Ok(owner)
}

fn all_down(host: &Host, when: &str) -> Result {
    for member in MEMBERS.into_iter().chain(TRIGGERED) {
        ensure!(host.is_down(member)?, "{when}: {member} is not down on {}, which does not own it", host.name());
    }
    Ok(())
}

fn monotonic(host: &Host, unit: &str, stamp: &str) -> Result<u64> {
    Ok(host.property(unit, stamp)?.parse()?)
}

/// No member was active since the host booted.
fn never_ran(host: &Host, when: &str) -> Result {
    for member in MEMBERS {
        let entered = monotonic(host, member, "ActiveEnterTimestampMonotonic")?;
        ensure!(entered == 0, "{when}: {member} has been active on {}", host.name());
    }
    Ok(())
}

/// The assertion is each member's own, but where the one before it was refused, systemd looks no further.
fn was_refused(host: &Host, member: &str, since: Instant) -> Result {
    let unit = format!("UNIT={member}");
    let refused = || -> Result<bool> {
        let entries = host.said(&["_PID=1", &unit], since)?;
        let result = |wanted| entries.iter().any(|entry| entry.field("JOB_RESULT") == Some(wanted));
        Ok(result("assert") || (member != MEMBERS[0] && result("dependency")))
    };
    // Right after the boot the journal is still on its way to the disk.
    wait_for(&format!("{}'s refusal of {member} in the journal", host.name()), SETTLE, || {
        refused().is_ok_and(|refused| refused).then_some(())
    })
}

fn reboot(pair: &mut Pair, name: &str) -> Result {
    pair.host(name).run(&["systemctl", "--no-block", "reboot"])?;
    pair.host_mut(name).wait_off(SETTLE)?;
    pair.host_mut(name).switch_on()
}

fn refused_at_boot(pair: &mut Pair) -> Result {
    let begun = Instant::now();
    reboot(pair, "alpha")?;
    reboot(pair, "beta")?;
    pair.hosts.iter().try_for_each(Host::wait_booted)?;
    let owner = only_on_owner(pair, "rebooted with members enabled")?;
    let other = pair.other(&owner);
    never_ran(other, "rebooted with members enabled")?;
    MEMBERS.iter().try_for_each(|member| was_refused(other, member, begun))?;
    // On the owner not before it was the owner.
    let host = pair.host(&owner);
    let starting = host.said(&[&change(STARTING), "HAFAILOVER_GROUP=web"], begun)?;
    let starting = starting.first().ok_or("no start of the group in the journal")?.at;
    for member in MEMBERS {
        let entered = at_monotonic(Duration::from_micros(monotonic(host, member, "ActiveEnterTimestampMonotonic")?));
        ensure!(entered > starting, "{member} ran on {owner} {:?} before it owned it", starting - entered);
        was_refused(host, member, begun)?;
    }
    Ok(())
}

/// Every member, what members trigger, and the target: refused by hand, with the file that is missing.
fn refused(host: &Host, when: &str) -> Result {
    let target = Group::new("web", 77).target();
    for unit in MEMBERS.into_iter().chain(TRIGGERED).chain([target.as_str()]) {
        let (code, said) = host.attempt(&["systemctl", "start", unit])?;
        ensure!(code != 0, "{when}: {unit} was started by hand on {}", host.name());
        // A refusal for the sake of another unit leads to that one.
        let refused = if said.contains("Assertion failed") { unit } else { MEMBERS[0] };
        let named = said.contains("Assertion failed") || said.contains("dependency job");
        ensure!(named, "{when}: the refusal of {unit} does not say why: {said}");
        let (_, status) = host.attempt(&["systemctl", "status", refused])?;
        ensure!(status.contains(GRANT), "{when}: the status of {refused} does not say why: {status}");
        ensure!(host.is_down(unit)?, "{when}: {unit} was refused, and is not down on {}", host.name());
    }
    all_down(host, when)
}

fn refused_by_hand(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    refused(pair.other(&owner), "by hand beside the owner")?;
    only_on_owner(pair, "started by hand").map(drop)
}

fn refused_when_pulled_in(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let (code, said) = pair.other(&owner).attempt(&["systemctl", "start", "greedy.service"])?;
    ensure!(code != 0, "a unit that requires a member pulled it in");
    ensure!(said.contains("dependency job for greedy.service"), "the refusal does not say why: {said}");
    ensure!(pair.other(&owner).is_down("greedy.service")?, "it was refused, and is not down");
    only_on_owner(pair, "pulled in by another unit").map(drop)
}

fn a_move_moves_every_kind(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let heir = pair.other(&owner).name();
    pair.host(&owner).run(&["hafailoverctl", "move", "web", heir])?;
    let now = only_on_owner(pair, "after a move")?;
    ensure!(now == heir, "moved to {heir}, owned by {now}");
    Ok(())
}

fn refused_without_daemon(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    // First who does not own it, then who did until its daemon went.
    for host in [pair.other(&owner), pair.host(&owner)] {
        host.run(&["systemctl", "stop", "hafailover"])?;
        refused(host, "without a daemon")?;
        host.run(&["systemctl", "start", "hafailover"])?;
        only_on_owner(pair, "after some time without a daemon")?;
    }
    ensure!(pair.settled()? != owner, "{owner} handed the group over when its daemon was stopped, and has it again");
    Ok(())
}

/// The new member has no guard until systemd has read the file: it is no member before that. What runs is taken as it was.
fn an_edit_without_reload_changes_nothing(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let other = pair.other(&owner);
    let mut edited = pair.settings.groups[0].clone();
    edited.start.push("late.service");
    other.write("etc/systemd/system/late.service", "[Service]\nExecStart=/usr/bin/sleep infinity\n")?;
    other.write(&edited.drop_in(), &edited.text())?;
    pair.host(&owner).run(&["hafailoverctl", "move", "web", other.name()])?;
    ensure!(only_on_owner(pair, "beside an edit")? == other.name(), "an edit that nobody read kept the group away");
    ensure!(other.is_down("late.service")?, "an unguarded member was started");
    // Who has the files read has its guard loaded, before anything is done by them.
    let said = other.run(&["hafailoverctl", "reload"])?;
    ensure!(said.contains(&format!("waits for {owner}")), "`reload` does not say whom it waits for: {said}");
    let asserts = other.run(&[
        "busctl",
        "--json=short",
        "get-property",
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1/unit/late_2eservice",
        "org.freedesktop.systemd1.Unit",
        "Asserts",
    ])?;
    ensure!(asserts.contains(GRANT), "a member of the files was not guarded by their reload: {asserts}");
    ensure!(other.is_down("late.service")?, "it was started before the other node had read its files");
    other.write(&edited.drop_in(), &pair.settings.groups[0].text())?;
    other.run(&["hafailoverctl", "reload"])?;
    only_on_owner(pair, "after an edit without reload").map(drop)
}

fn a_broken_drop_in_still_guards(pair: &mut Pair) -> Result {
    let owner = pair.settled()?;
    let other = pair.other(&owner).name();
    let group = pair.settings.groups[0].clone();
    let broken = group.text().replace("Address=10.0.0.77/24", "Address=10.0.0.777/24") + "Nonsense=yes\n";
    pair.host(other).write(&group.drop_in(), &broken)?;
    let begun = Instant::now();
    reboot(pair, other)?;
    pair.host(other).wait_booted()?;
    let told = || {
        let attention = pair.status(pair.host(other)).ok()?.attention;
        attention.iter().any(|line| line.contains("10.0.0.777") && line.contains("what ran before")).then_some(())
    };
    wait_for("the daemon to go on beside a broken file, and to say so", SETTLE, told)?;
    pair.settled()?;
    never_ran(pair.host(other), "booted with a broken drop-in")?;
    MEMBERS.iter().try_for_each(|member| was_refused(pair.host(other), member, begun))?;
    refused(pair.host(other), "beside a broken drop-in")?;
    pair.host(other).write(&group.drop_in(), &group.text())?;
    pair.host(other).run(&["systemctl", "reload", "hafailover"])?;
    let attention = pair.status(pair.host(other))?.attention;
    ensure!(attention.is_empty(), "the mistakes are mended: {attention:?}");
    only_on_owner(pair, "after a broken drop-in").map(drop)
}
