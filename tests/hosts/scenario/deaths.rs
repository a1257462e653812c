//! The daemon dies, hangs, or is restarted, while what it runs goes on.

use crate::ensure;
use crate::host::{Host, send};
use crate::http::Browser;
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::root::EXCLUSIVE;
use crate::settings::{KEYS, Settings, write_keys};
use crate::sweep;
use crate::sys::{Result, wait_for};
use crate::wires::CLIENT;
use rustix::process::Signal;
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
    let nginx = pair.host(&owner).main_pid(NGINX)?;
    for frozen in [500, 1000, 3000] {
        let daemon = main_process(pair.host(&owner))?;
        send(daemon, Signal::STOP)?;
        std::thread::sleep(Duration::from_millis(frozen));
        // systemd's watchdog may have been quicker.
        let _ = send(daemon, Signal::CONT);
        ensure!(pair.settled()? == owner, "another owner after {frozen} ms");
        let moved = pair.watch.changes(VIP);
        ensure!(moved.len() == changes, "the address moved after {frozen} ms: {:?}", &moved[changes..]);
        ensure!(pair.host(&owner).main_pid(NGINX)? == nginx, "nginx was restarted after {frozen} ms");
    }
    pair.never_two_owners()?;
    Ok("frozen for 0.5, 1 and 3 s: same owner, nginx kept its PID".into())
}

pub fn row11_deaths_in_a_row(lab: &Lab) -> Result<String> {
    let pair = lab.pair(Settings::new(100, 300).members(&[NGINX, EXCLUSIVE]))?;
    let owner = pair.settled()?;
    let heir = pair.other(&owner).name();
    let begun = Instant::now();
    let (mut deaths, mut last) = (0, 0);
    wait_for("the peer to take over", Duration::from_secs(60), || {
        if let Ok(daemon) = main_process(pair.host(&owner)) {
            deaths += u32::from(daemon != last);
            last = daemon;
            sweep::kill(daemon);
        }
        (pair.watch.holders(VIP) == [heir]).then_some(())
    })?;
    let took = begun.elapsed();
    wait_for("the peer's members", SETTLE, || pair.host(heir).is_active(EXCLUSIVE).ok().filter(|active| *active))?;
    for member in [NGINX, EXCLUSIVE] {
        ensure!(!pair.host(&owner).is_active(member)?, "{member} still runs on {owner}, whose daemon is dead for good");
    }
    pair.never_two_owners()?;
    Ok(format!("{deaths} deaths, then all stopped on {owner} and running on {heir} after {:.1} s", took.as_secs_f64()))
}

pub fn row17_restart_and_key_rotation(lab: &Lab) -> Result<String> {
    let pair = lab.pair(Settings::new(200, 1000).members(&[NGINX]))?;
    let owner = pair.settled()?;
    let nginx = pair.host(&owner).main_pid(NGINX)?;
    let client = pair.served_client()?;
    let browser = Browser::start(CLIENT, VIP)?;
    browser.wait_for_answer(Instant::now(), SETTLE)?;
    for host in &pair.hosts {
        host.run(&["systemctl", "restart", "hafailover"])?;
        ensure!(pair.settled()? == owner, "another owner after the restart on {}", host.name());
    }
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
    ensure!(pair.host(&owner).main_pid(NGINX)? == nginx, "nginx was restarted");
    ensure!(dropped == 0, "{dropped} heartbeats were refused for their key");
    Ok(format!("{:.0} s under probes: none lost, same PID, no heartbeat refused", trace.seconds()))
}

fn dropped_for_key(pair: &Pair, host: &Host) -> Result<u64> {
    Ok(pair.status(host)?.links.iter().map(|link| link.counters.dropped_key).sum())
}
