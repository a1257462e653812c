//! A member runs only where the group is owned, whoever else wants it to.

use crate::ensure;
use crate::host::Host;
use crate::pair::{Lab, Pair, SETTLE};
use crate::root::EXCLUSIVE;
use crate::settings::Settings;
use crate::sys::Result;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

const MEMBERS: [&str; 5] = [MOUNT, SOCKET, TIMER, "nginx.service", EXCLUSIVE];
const MOUNT: &str = "srv-web.mount";
const SOCKET: &str = "inbox.socket";
const TIMER: &str = "chores.timer";

pub fn row12_guards(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair_off(Settings::new(100, 300).members(&MEMBERS))?;
    for host in &pair.hosts {
        write_members(host)?;
        for member in ["nginx.service", EXCLUSIVE] {
            enable_at_boot(host, member)?;
        }
    }
    pair.switch_both_on()?;
    pair.settled()?;
    only_on_owner(&pair, "booted with members enabled")?;
    refused_by_hand(&pair)?;
    refused_when_pulled_in(&pair)?;
    a_move_moves_every_kind(&pair)?;
    refused_without_daemon(&pair)?;
    an_edit_without_reload_is_noticed(&pair)?;
    a_broken_drop_in_still_guards(&mut pair)?;
    for host in &pair.hosts {
        let cycles = host.journal(&["-o", "cat", "--grep", "ordering cycle"]).unwrap_or_default();
        ensure!(cycles.is_empty(), "{}: {cycles}", host.name());
    }
    pair.never_two_owners()?;
    Ok("enabled at boot, by hand, pulled in, no daemon, edited, broken; mount, socket, timer, services: never beside the owner".into())
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

fn enable_at_boot(host: &Host, unit: &str) -> Result {
    let wants = host.path("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    let home = if unit == EXCLUSIVE { "/etc/systemd/system" } else { "/lib/systemd/system" };
    Ok(symlink(format!("{home}/{unit}"), wants.join(unit))?)
}

fn only_on_owner(pair: &Pair, when: &str) -> Result<String> {
    let owner = pair.settled().map_err(|error| format!("{when}: {error}"))?;
    for member in MEMBERS {
        ensure!(pair.host(&owner).is_active(member)?, "{when}: {member} does not run on its owner {owner}");
        let other = pair.other(&owner);
        ensure!(!other.is_active(member)?, "{when}: {member} runs on {}, the owner is {owner}", other.name());
    }
    pair.never_two_owners()?;
    Ok(owner)
}

fn refused_by_hand(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let other = pair.other(&owner);
    for unit in MEMBERS.into_iter().chain([pair.settings.groups[0].target().as_str()]) {
        let (code, said) = other.attempt(&["systemctl", "start", unit])?;
        ensure!(code != 0, "{unit} was started by hand on {}", other.name());
        let why = ["Assertion failed", "ependency"].iter().any(|word| said.contains(word));
        ensure!(why, "the refusal of {unit} does not say why: {said}");
    }
    only_on_owner(pair, "started by hand").map(drop)
}

fn refused_when_pulled_in(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let (code, _) = pair.other(&owner).attempt(&["systemctl", "start", "greedy.service"])?;
    ensure!(code != 0, "a unit that requires a member pulled it in");
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
    let other = pair.other(&owner);
    other.run(&["systemctl", "stop", "hafailover"])?;
    for member in MEMBERS {
        let (code, _) = other.attempt(&["systemctl", "start", member])?;
        ensure!(code != 0 && !other.is_active(member)?, "{member} was started on {} without a daemon", other.name());
    }
    other.run(&["systemctl", "start", "hafailover"])?;
    only_on_owner(pair, "without a daemon").map(drop)
}

/// The new member has no guard until systemd has read the file: the daemon takes nothing on the strength of it.
fn an_edit_without_reload_is_noticed(pair: &Pair) -> Result {
    let owner = pair.settled()?;
    let other = pair.other(&owner);
    let mut edited = pair.settings.groups[0].clone();
    edited.start.push("late.service");
    other.write("etc/systemd/system/late.service", "[Service]\nExecStart=/usr/bin/sleep infinity\n")?;
    other.write(&edited.drop_in(), &edited.text())?;
    let (code, said) = pair.host(&owner).attempt(&["hafailoverctl", "move", "web", other.name()])?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(!other.is_active("late.service")?, "an unguarded member was started");
    ensure!(code != 0, "the move to a host with unread files was not refused: {said}");
    other.write(&edited.drop_in(), &pair.settings.groups[0].text())?;
    other.run(&["systemctl", "daemon-reload"])?;
    other.run(&["hafailoverctl", "clear", "web"])?;
    only_on_owner(pair, "after an edit without reload").map(drop)
}

fn a_broken_drop_in_still_guards(pair: &mut Pair) -> Result {
    let owner = pair.settled()?;
    let other = pair.other(&owner).name();
    let group = pair.settings.groups[0].clone();
    let broken = group.text().replace("Address=10.0.0.77/24", "Address=10.0.0.777/24") + "Nonsense=yes\n";
    pair.host(other).write(&group.drop_in(), &broken)?;
    pair.host(other).run(&["systemctl", "--no-block", "reboot"])?;
    pair.host_mut(other).wait_off(SETTLE)?;
    pair.host_mut(other).switch_on()?;
    pair.host(other).wait_booted()?;
    std::thread::sleep(Duration::from_secs(1));
    for member in MEMBERS {
        ensure!(!pair.host(other).is_active(member)?, "{member} runs on {other}, whose drop-in is broken");
        let (code, _) = pair.host(other).attempt(&["systemctl", "start", member])?;
        ensure!(code != 0 && !pair.host(other).is_active(member)?, "{member} could be started beside a broken drop-in");
    }
    pair.host(other).write(&group.drop_in(), &group.text())?;
    pair.host(other).run(&["systemctl", "daemon-reload"])?;
    pair.host(other).run(&["systemctl", "restart", "hafailover"])?;
    only_on_owner(pair, "after a broken drop-in").map(drop)
}
