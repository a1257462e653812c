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
    pair.switch_both_on()?;
    pair.settled()?;
    // Stopped first, so that the next start is a choice between both.
    pair.alpha().run(&["hafailoverctl", "stop", "web"])?;
    wait_for("the group to stop", SETTLE, || pair.watch.holders(VIP).is_empty().then_some(()))?;
    pair.alpha().write("etc/broken", "")?;
    let tenures = pair.watch.tenures(VIP).len();
    pair.alpha().run(&["hafailoverctl", "start", "web"])?;
    wait_for("beta to run it", SETTLE, || (pair.watch.holders(VIP) == ["beta"]).then_some(()))?;
    std::thread::sleep(Duration::from_secs(2));
    let since: Vec<String> = pair.watch.tenures(VIP).split_off(tenures).into_iter().map(|tenure| tenure.host).collect();
    ensure!(since == ["alpha", "beta"] || since == ["beta"], "it moved more than once: {since:?}");
    let banned = pair.group(pair.alpha(), "web")?.banned;
    ensure!(banned.as_ref().is_some_and(|why| why.contains(FUSSY)), "alpha does not say why it is out: {banned:?}");
    // Now it fails on beta too, for good.
    pair.beta().write("etc/broken", "")?;
    pair.beta().attempt(&["systemctl", "restart", FUSSY])?;
    wait_for("the group to stop everywhere", SETTLE, || pair.watch.holders(VIP).is_empty().then_some(()))?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(pair.watch.holders(VIP).is_empty(), "it was taken again");
    let group = pair.group(pair.beta(), "web")?;
    let why = group.banned.clone().unwrap_or_default();
    ensure!(why.contains(FUSSY), "the reason does not tell: {group:?}");
    for host in &pair.hosts {
        host.remove("etc/broken")?;
        host.run(&["hafailoverctl", "clear", "web"])?;
    }
    pair.settled()?;
    pair.never_two_owners()?;
    Ok(format!("moved once to beta; then stopped on both: \"{why}\"; came back after `clear`"))
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
