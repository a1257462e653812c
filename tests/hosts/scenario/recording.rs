//! A recording from the field is decided again to the byte, an altered one is found, and heartbeats do not wait for it.
//!
//! With `HAFAILOVER_KEEP_RECORDINGS=DIR` the recording of the takeover is kept there: `make recordings` puts it among the tests.

use crate::changes::NODE_LATE;
use crate::ensure;
use crate::host::Host;
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::scenario::calm::longest_gap;
use crate::settings::Settings;
use crate::sys::{Result, wait_for};
use crate::wiretap::Wiretap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const FILE: &str = "/var/lib/hafailover/recording.jsonl";
const ALTERED: &str = "/var/lib/hafailover/altered.jsonl";
const KEEP: &str = "HAFAILOVER_KEEP_RECORDINGS";
const SAME: &str = "all the same";
/// How long both daemons are watched at 10/30 ms, and how often this machine may be late in all of it.
const WATCHED: Duration = Duration::from_secs(10);
const TRIES: usize = 5;

pub fn row40_recording(lab: &Lab) -> Result<String> {
    let mut said = vec![takeover_and_move(lab)?];
    said.push(punctual(lab)?);
    Ok(said.join("; "))
}

fn takeover_and_move(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair(Settings::new(100, 300))?;
    let owner = pair.settled()?;
    let heir = pair.other(&owner).name();
    switch(&pair, "on")?;
    std::thread::sleep(Duration::from_millis(300));
    pair.host_mut(&owner).lose_power()?;
    wait_for("the heir to have the address", SETTLE, || (pair.watch.holders(VIP) == [heir]).then_some(()))?;
    std::thread::sleep(Duration::from_millis(300));
    pair.host(heir).run(&["hafailoverctl", "record", "off"])?;
    let taken = same(pair.host(heir), FILE, &["is dead", "adds the addresses of web", "web: "])?;
    keep(pair.host(heir))?;
    altered_is_found(pair.host(heir))?;

    ensure!(pair.return_of(&owner)? == heir, "{owner} took the group back");
    let cut = same(pair.host(&owner), FILE, &["the recording ends ", "the host lost its power"])?;
    switch(&pair, "on")?;
    pair.host(heir).run(&["hafailoverctl", "move", "web", &owner])?;
    // A restart of the daemon begins a recording of its own.
    pair.host(heir).run(&["systemctl", "restart", "hafailover"])?;
    ensure!(pair.settled()? == owner, "the move did not last");
    switch(&pair, "off")?;
    let given = same(pair.host(heir), "/var/lib/hafailover/recording.1.jsonl", &["an operator: move web"])?;
    let restarted = same(pair.host(heir), FILE, &["looks at web"])?;
    let got = same(pair.host(&owner), FILE, &["adds the addresses of web"])?;
    let status = pair.host(heir).run(&["hafailoverctl", "record"])?;
    ensure!(status.contains("nothing is recorded any more"), "{status}");
    pair.never_two_owners()?;
    Ok(format!(
        "decided again to the byte: takeover {taken}, power loss {cut}, move {given} and {got}, restart {restarted} decisions"
    ))
}

fn switch(pair: &Pair, word: &str) -> Result {
    pair.hosts.iter().try_for_each(|host| host.run(&["hafailoverctl", "record", word]).map(drop))
}

/// The recording is only root's, tells this, and the same is decided again. How many decisions.
fn same(host: &Host, file: &str, told: &[&str]) -> Result<u64> {
    let mode = fs::metadata(host.path(file))?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{}: {file} has mode {mode:o}", host.name());
    let text = host.run(&["hafailoverctl", "replay", file])?;
    for words in told.iter().chain(&[SAME]) {
        ensure!(text.contains(words), "{}: {words:?} is missing in the replay of {file}:\n{text}", host.name());
    }
    let json: serde_json::Value = serde_json::from_str(&host.run(&["hafailoverctl", "replay", "--json", file])?)?;
    ensure!(json["same"] == true && json["schema"] == 1, "{}: {json}", host.name());
    json["decisions"].as_u64().ok_or_else(|| format!("{}: no decisions in {json}", host.name()).into())
}

/// The first step that was done had failed.
fn altered_is_found(host: &Host) -> Result {
    let text = fs::read_to_string(host.path(FILE))?;
    let (before, after) = text.split_once(r#""outcome":"Done""#).ok_or("no step ended in the recording")?;
    host.write(ALTERED, &format!(r#"{before}"outcome":{{"Failed":"altered"}}{after}"#))?;
    let (code, text) = host.attempt(&["hafailoverctl", "replay", ALTERED])?;
    ensure!(code == 1 && text.contains("decides otherwise"), "exit {code}: {text}");
    ensure!(text.contains("recorded: ") && text.contains("replayed: ") && text.contains("altered"), "{text}");
    Ok(())
}

fn keep(host: &Host) -> Result {
    let Some(directory) = std::env::var_os(KEEP) else { return Ok(()) };
    fs::create_dir_all(&directory)?;
    fs::copy(host.path(FILE), std::path::Path::new(&directory).join("takeover.jsonl"))?;
    Ok(())
}

/// At 10/30 ms, recorded from the start of the daemons on.
fn punctual(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair_off(Settings::new(10, 30))?;
    for host in &pair.hosts {
        let asked = "[Service]\nEnvironment=HAFAILOVER_RECORD=1\n";
        host.write("etc/systemd/system/hafailover.service.d/record.conf", asked)?;
    }
    pair.switch_both_on()?;
    pair.settled()?;
    let mut gaps = String::new();
    for attempt in 1.. {
        let (from, tap) = (Instant::now(), Wiretap::start()?);
        std::thread::sleep(WATCHED);
        let packets = tap.finish();
        let late = lab.sentinels.late_between(from, Instant::now());
        let mut all = Vec::new();
        let mut warned = Vec::new();
        for host in &pair.hosts {
            all.push(longest_gap(host, &packets)?);
            let said = host.said(&["SYSLOG_IDENTIFIER=hafailoverd"], from)?;
            warned.extend(said.into_iter().filter(|entry| NODE_LATE.is(entry)));
        }
        let worst = all.into_iter().max().unwrap_or_default();
        let status = pair.alpha().run(&["hafailoverctl", "record"])?;
        ensure!(status.starts_with("recording: "), "{status}");
        if late.is_none() {
            ensure!(
                warned.is_empty() && worst < pair.settings.warntime(),
                "longest gap {worst:?}, warnings: {warned:?}"
            );
            gaps = format!("at 10/30 ms, try {attempt}: longest gap {worst:.1?} in {WATCHED:?}, {}", status.trim());
            break;
        }
        ensure!(attempt < TRIES, "this machine was late in all {TRIES} tries, by {late:?}; longest gap {worst:?}");
    }
    switch(&pair, "off")?;
    let decisions = pair.hosts.iter().map(|host| same(host, FILE, &[])).collect::<Result<Vec<_>>>()?;
    pair.never_two_owners()?;
    Ok(format!("{gaps}, {decisions:?} decisions again to the byte"))
}
