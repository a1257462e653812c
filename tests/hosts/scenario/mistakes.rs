//! Members that do not start, and configurations that do not hold.

use crate::ensure;
use crate::pair::{Lab, SETTLE, VIP};
use crate::settings::{KEYS, Settings, write_keys};
use crate::sys::{Result, wait_for};
use std::time::Duration;

const FUSSY: &str = "fussy.service";

/// Starts unless the host has `/etc/broken`.
const UNIT: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/test ! -e /etc/broken\n";

pub fn row19_member_cannot_start(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair_off(Settings::new(100, 300).members(&[FUSSY]))?;
    for host in &pair.hosts {
        host.write(&format!("etc/systemd/system/{FUSSY}"), UNIT)?;
    }
    pair.alpha().write("etc/broken", "")?;
    pair.switch_both_on()?;
    ensure!(pair.running_owner("web", SETTLE)? == "beta", "alpha cannot start it, but beta does not own it");
    std::thread::sleep(Duration::from_secs(2));
    let holders: Vec<String> = pair.watch.tenures(VIP).into_iter().map(|tenure| tenure.host).collect();
    ensure!(
        holders.last().is_some_and(|host| host == "beta") && holders.len() <= 2,
        "it moved more than once: {holders:?}"
    );
    let banned = pair.group(pair.alpha(), "web")?.banned;
    ensure!(banned.is_some(), "alpha does not say why it is out");
    // Now beta cannot either, and loses it by a restart of the member.
    pair.beta().write("etc/broken", "")?;
    pair.beta().attempt(&["systemctl", "restart", FUSSY])?;
    wait_for("the group to stop everywhere", SETTLE, || pair.watch.holders(VIP).is_empty().then_some(()))?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(pair.watch.holders(VIP).is_empty(), "it was taken again");
    let why = pair.group(pair.beta(), "web")?.why;
    ensure!(why.contains(FUSSY) || why.contains("ban"), "the reason does not tell: {why}");
    for host in &pair.hosts {
        fs_remove(host)?;
        host.run(&["hafailoverctl", "clear", "web"])?;
    }
    pair.settled()?;
    pair.never_two_owners()?;
    Ok(format!("moved once to beta; then stopped on both: \"{why}\"; came back after `clear`"))
}

fn fs_remove(host: &crate::host::Host) -> Result {
    host.remove("etc/broken")
}

pub fn row20_reload_refused(lab: &Lab) -> Result<String> {
    let pair = lab.pair(Settings::new(100, 300))?;
    let owner = pair.settled()?;
    let (host, good) = (pair.host(&owner), pair.settings.cluster_file());
    let changes = pair.watch.changes(VIP).len();
    let daemon = host.main_pid("hafailover.service")?;
    let broken = [
        ("etc/hafailover/hafailover.toml", good.replace("keepalive", "keepalvie"), "keepalvie"),
        ("etc/hafailover/hafailover.toml", good.replace("deadtime = \"300ms\"", "deadtime = \"3 weeks\""), "deadtime"),
    ];
    for (path, text, word) in broken {
        host.write(path, &text)?;
        let (code, _) = host.attempt(&["systemctl", "reload", "hafailover"])?;
        ensure!(code != 0, "`systemctl reload` accepted {word}");
        let (code, said) = host.attempt(&["hafailoverctl", "check"])?;
        ensure!(code != 0 && said.contains(word) && said.contains("hafailover.toml:"), "check of {word} says: {said}");
    }
    host.write("etc/hafailover/hafailover.toml", &good)?;
    write_keys(host, "auth 9\n1 sha256 x\n")?;
    ensure!(host.attempt(&["systemctl", "reload", "hafailover"])?.0 != 0, "`systemctl reload` accepted a missing key");
    write_keys(host, KEYS)?;
    host.run(&["systemctl", "reload", "hafailover"])?;
    ensure!(pair.settled()? == owner, "another owner");
    ensure!(host.main_pid("hafailover.service")? == daemon, "the daemon was restarted");
    ensure!(pair.watch.changes(VIP).len() == changes, "the address moved");
    Ok("3 broken files: reload refused with an exit code, the daemon stayed as it was".into())
}
