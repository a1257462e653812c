//! What an administrator does at the wrong moment must not cost a takeover.

use crate::ensure;
use crate::pair::{Lab, SETTLE, VIP};
use crate::root::EXCLUSIVE;
use crate::settings::Settings;
use crate::sys::{Result, wait_for};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const GENERATOR: &str = "etc/systemd/system-generators/hafailover-generator";
const DIGEST: &str = "/run/systemd/generator/hafailover.digest";
const MEMBER: &str = "nginx.service";

/// systemd empties the generators' directory before it runs them: meanwhile no digest says that guards are in place.
pub fn row12_takeover_during_a_reload(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair(Settings::new(100, 300).members(&[MEMBER]))?;
    let owner = pair.settled()?;
    let heir = pair.other(&owner);
    // A file here goes before the one that is installed.
    let slow = "#!/bin/sh\nsleep 2\nexec /usr/lib/systemd/system-generators/hafailover-generator \"$@\"\n";
    heir.write(GENERATOR, slow)?;
    fs::set_permissions(heir.path(GENERATOR), fs::Permissions::from_mode(0o755))?;
    let heir = heir.name();
    let from = Instant::now();
    pair.host(heir).run(&["sh", "-c", "systemctl daemon-reload </dev/null >/dev/null 2>&1 &"])?;
    wait_for("the reload to begin", SETTLE, || {
        let (code, _) = pair.host(heir).attempt(&["test", "-e", DIGEST]).ok()?;
        (code != 0).then_some(())
    })?;
    let cut = pair.host_mut(&owner).lose_power()?;
    wait_for("the address to be taken", SETTLE, || (pair.watch.holders(VIP) == [heir]).then_some(()))?;
    let (gone, _) = pair.host(heir).attempt(&["test", "-e", DIGEST])?;
    ensure!(gone != 0, "the reload was over before the takeover began: nothing was shown");
    wait_for("the member to run", SETTLE, || pair.host(heir).is_active(MEMBER).ok()?.then_some(()))?;
    let took = cut.elapsed();
    ensure!(pair.settled()? == heir, "the group does not stay on {heir}");
    let said = pair.host(heir).said(&["SYSLOG_IDENTIFIER=hafailoverd"], from)?;
    let said: Vec<String> = said.into_iter().map(|entry| entry.message).collect();
    let count = |word: &str| said.iter().filter(|message| message.contains(word)).count();
    let (refused, starts) = (count("not guarded"), count("taking over") + count("starting here"));
    ensure!(refused == 0 && starts == 1, "{refused} guard faults, {starts} starts: {said:?}");
    let moves = pair.watch.tenures(VIP).len();
    ensure!(moves == 2, "the address came and went: {:?}", pair.watch.tenures(VIP));
    pair.never_two_owners()?;
    ensure!(took < Duration::from_secs(6), "taken after {took:?}");
    Ok(format!(
        "taken by {heir} {:.1} s after the power loss, in one start, in the middle of a reload of 2 s",
        took.as_secs_f64()
    ))
}

/// The files name a member no more, systemd has read that, but the daemon was not restarted: it goes by what it runs.
pub fn row12_takeover_by_what_runs(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair(Settings::new(100, 300).members(&[MEMBER, EXCLUSIVE]))?;
    let owner = pair.settled()?;
    let heir = pair.other(&owner);
    let mut edited = pair.settings.groups[0].clone();
    edited.start = vec![MEMBER];
    heir.write(&edited.drop_in(), &edited.text())?;
    heir.run(&["systemctl", "daemon-reload"])?;
    let (code, said) = heir.attempt(&["systemctl", "start", EXCLUSIVE])?;
    // The member before it, which it requires, is refused first.
    let refused = code != 0 && ["Assertion failed", "ependency"].iter().any(|word| said.contains(word));
    ensure!(refused, "{EXCLUSIVE} of a running group lost its guard: {said}");
    let heir = heir.name();
    pair.host_mut(&owner).lose_power()?;
    wait_for("the address to be taken", SETTLE, || (pair.watch.holders(VIP) == [heir]).then_some(()))?;
    ensure!(pair.settled()? == heir, "not taken by {heir}");
    for member in [MEMBER, EXCLUSIVE] {
        ensure!(pair.host(heir).is_active(member)?, "{member} does not run on {heir}");
    }
    pair.host(heir).run(&["hafailoverctl", "stop", "web"])?;
    for member in [MEMBER, EXCLUSIVE] {
        ensure!(!pair.host(heir).is_active(member)?, "{member} still runs on {heir}");
    }
    pair.never_two_owners()?;
    Ok("a member that the files name no more stays guarded, and is started by a takeover and stopped".into())
}
