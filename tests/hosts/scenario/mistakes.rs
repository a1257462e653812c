//! Members that do not start, and configurations that do not hold.

use crate::cases::{Broken, CLUSTER_CASES, Case, GROUP_CASES, HOST_CASES, KEYS, SOUND};
use crate::ensure;
use crate::host::Host;
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::settings::{Settings, write_keys};
use crate::sys::{Result, wait_for};
use std::time::{Duration, Instant};

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
    fails_on_both_from_the_start(&pair)?;
    pair.never_two_owners()?;
    let both = "broken on both at once: each tried once; came back after `clear`";
    Ok(format!("moved once to beta; then stopped on both: \"{why}\"; {both}"))
}

/// No node can start it: each tries once, and then it rests, with a reason, until somebody says that it was mended.
fn fails_on_both_from_the_start(pair: &Pair) -> Result {
    pair.alpha().run(&["hafailoverctl", "stop", "web"])?;
    wait_for("the group to stop", SETTLE, || pair.watch.holders(VIP).is_empty().then_some(()))?;
    pair.hosts.iter().try_for_each(|host| host.write("etc/broken", ""))?;
    let from = Instant::now();
    // It may end with an error: nothing of it will run.
    pair.alpha().attempt(&["hafailoverctl", "start", "web"])?;
    let banned = |host: &Host| pair.group(host, "web").ok().and_then(|group| group.banned);
    wait_for("both nodes to be banned", SETTLE, || pair.hosts.iter().all(|host| banned(host).is_some()).then_some(()))?;
    // Long enough for whoever would try again, or give it back.
    std::thread::sleep(Duration::from_secs(3));
    ensure!(pair.watch.holders(VIP).is_empty(), "{:?} have the address of what cannot run", pair.watch.holders(VIP));
    for host in &pair.hosts {
        let name = host.name();
        let tried = host.said(&["_PID=1", &format!("UNIT={FUSSY}"), "JOB_TYPE=start"], from)?;
        let tried = tried.iter().filter(|entry| entry.message.starts_with("Starting")).count();
        ensure!(tried == 1, "{name} tried to start {FUSSY} {tried} times");
        let starts = host.said(&["SYSLOG_IDENTIFIER=hafailoverd", "HAFAILOVER_GROUP=web"], from)?;
        let starts = starts.iter().filter(|entry| entry.field("HAFAILOVER_PROOF").is_some()).count();
        ensure!(starts == 1, "{name} began to start the group {starts} times");
        let why_banned = banned(host).unwrap_or_default();
        ensure!(why_banned.contains(FUSSY), "{name} is banned without naming the unit: {why_banned}");
        let (_, why) = host.attempt(&["hafailoverctl", "why", "web"])?;
        ensure!(why.contains(FUSSY), "`why` on {name} does not name the unit: {why}");
        let (code, status) = host.attempt(&["hafailoverctl", "status"])?;
        ensure!(code == 1, "`status` on {name} ends with {code}, and nothing runs: {status}");
    }
    pair.hosts.iter().try_for_each(|host| host.remove("etc/broken"))?;
    // One word on one node counts on all.
    pair.beta().run(&["hafailoverctl", "clear", "web"])?;
    let owner = pair.settled()?;
    ensure!(pair.host(&owner).is_active(FUSSY)?, "{owner} owns the group, and {FUSSY} does not run there");
    for host in &pair.hosts {
        ensure!(banned(host).is_none(), "{} is still banned after `clear`", host.name());
        let (code, status) = host.attempt(&["hafailoverctl", "status"])?;
        ensure!(code == 0, "`status` on {} ends with {code}, and all is well: {status}", host.name());
    }
    Ok(())
}

pub fn row20_reload_refused(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair_off(Settings::new(100, 300))?;
    // The key of the sound files from the start: a reload takes over a new one, and only that.
    let (_, key) = SOUND.iter().find(|(file, _)| *file == KEYS).ok_or("no key among the sound files")?;
    pair.hosts.iter().try_for_each(|host| write_keys(host, key))?;
    pair.switch_both_on()?;
    let owner = pair.settled()?;
    // The sound files are those of a host alpha.
    let (host, changes) = (pair.alpha(), pair.watch.changes(VIP).len());
    let daemon = host.main_pid("hafailover.service")?;
    host.remove(&pair.settings.groups[0].drop_in())?;
    SOUND.iter().try_for_each(|(file, text)| put(host, file, text))?;
    let pending = host.run(&["hafailoverctl", "reload"])?;
    ensure!(pending.contains("changed on disk"), "the files are not sound before they are broken: {pending}");
    let from = Instant::now();
    let all = CLUSTER_CASES.iter().chain(HOST_CASES).chain(GROUP_CASES);
    let told = all.map(|case| refused(host, case)).collect::<Result<Vec<_>>>()?;
    let logged = host.said(&["SYSLOG_IDENTIFIER=hafailoverctl"], from)?;
    for line in &told {
        let found = logged.iter().any(|entry| entry.message == *line);
        ensure!(found, "`systemctl reload` left nothing in the journal of: {line}");
    }
    SOUND.iter().try_for_each(|(file, _)| host.remove(file))?;
    pair.settings.write_to(host)?;
    write_keys(host, key)?;
    let said = host.run(&["hafailoverctl", "reload"])?;
    ensure!(said.contains("nothing has changed"), "the daemon runs with something else than before: {said}");
    ensure!(pair.settled()? == owner, "another owner");
    ensure!(host.main_pid("hafailover.service")? == daemon, "the daemon was restarted");
    ensure!(pair.watch.changes(VIP).len() == changes, "the address moved");
    let seconds = from.elapsed().as_secs_f64();
    let count = told.len();
    Ok(format!(
        "{count} broken files in {seconds:.0} s: reload refused with place and remedy, the daemon stayed as it was"
    ))
}

fn put(host: &Host, file: &str, text: &str) -> Result {
    if file == KEYS { write_keys(host, text) } else { host.write(file, text) }
}

/// Reloads with one mistake, which must be refused with its place and remedy and nothing else. Returns what told so.
fn refused(host: &Host, case: &Case) -> Result<String> {
    let (_, sound) = SOUND.iter().find(|(file, _)| *file == case.file).ok_or("no such file")?;
    let Broken { text, line, column } = case.broken();
    put(host, case.file, &text)?;
    let what = format!("{}, {:?}", case.file, case.new);
    let (code, _) = host.attempt(&["systemctl", "reload", "hafailover"])?;
    ensure!(code != 0, "{what}: `systemctl reload` accepted it");
    let (code, said) = host.attempt(&["hafailoverctl", "reload"])?;
    ensure!(code == 3, "{what}: `hafailoverctl reload` ended with {code}: {said}");
    let told: Vec<&str> = said.lines().filter(|said| said.starts_with('/')).collect();
    let place = format!("/{}:{line}:{column}: ", case.file);
    let right = |told: &str| {
        told.strip_prefix(&place).is_some_and(|told| told.contains(case.what) && told.contains(case.remedy))
    };
    ensure!(told.len() == 1 && right(told[0]), "{what}: not {place}{:?}; {:?} but {said}", case.what, case.remedy);
    put(host, case.file, sound)?;
    Ok(told[0].to_owned())
}
