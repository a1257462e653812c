//! Planned hand-overs: on command, and when the owner goes in an orderly way.

use crate::figures::{Figures, Sample, ms};
use crate::host::{Entry, Host};
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::root::EXCLUSIVE;
use crate::settings::Settings;
use crate::sys::{Result, wait_for};
use crate::{demo, ensure};
use std::time::{Duration, Instant};

const NGINX: &str = "nginx.service";
const MEMBERS: [&str; 2] = [NGINX, EXCLUSIVE];

/// What `make demo` tells; that nothing stays behind is seen at the end of every lab.
pub fn row01_demo(lab: &Lab) -> Result<String> {
    let (story, owner) = demo::tell(lab)?;
    let heir = if owner == "alpha" { "beta" } else { "alpha" };
    // In this order, each behind the one before.
    let parts = [
        "Who owns it?",
        &format!("{owner}# hafailoverctl status"),
        &format!("{owner} loses its power"),
        "without service for ",
        &format!("Why is it on {heir} now?"),
        &format!("{owner} (lost) is not heard"),
        &format!("{owner} gets its power back"),
        &format!("is well on {heir}"),
        &format!("{owner}# hafailoverctl status"),
        &format!("{heir}# hafailoverctl move web {owner}"),
        "The client lost ",
        &format!("{owner}# hafailoverctl status"),
        "The end.",
    ];
    let mut rest = story.as_str();
    for part in parts {
        rest = rest.split_once(part).ok_or_else(|| format!("{part:?} is missing from here on:\n{rest}"))?.1;
    }
    let number_after = |words: &str| -> Result<f64> {
        let rest = story.split_once(words).ok_or_else(|| format!("no {words:?}"))?.1;
        Ok(rest.split(' ').next().unwrap_or_default().parse()?)
    };
    let (outage, moved) = (number_after("without service for ")?, number_after("The client lost ")?);
    ensure!(outage > 0.0, "a power cut without an outage: {story}");
    // Who owned the site each time it was asked: the line of the group has its owner in the second column.
    let owner_in = |line: &str| line.trim().strip_prefix("web ")?.split_whitespace().next().map(String::from);
    let owners: Vec<String> = story.lines().filter_map(owner_in).collect();
    ensure!(owners == [owner.as_str(), heir, owner.as_str()], "the story shows it on {owners:?}");
    Ok(format!("told in full: {outage:.0} ms without service after the power cut, {moved} datagrams lost by the move"))
}

pub fn row06_move(lab: &Lab) -> Result<String> {
    let pair = lab.pair(Settings::new(100, 300))?;
    let figures = Figures::gather(pair.judge(), "lost", 20, || {
        let owner = pair.settled()?;
        let heir = pair.other(&owner);
        let client = pair.served_client()?;
        std::thread::sleep(Duration::from_millis(100));
        let from = Instant::now();
        pair.host(&owner).run(&["hafailoverctl", "move", "web", heir.name()])?;
        wait_for("the heir to have the address", SETTLE, || (pair.watch.holders(VIP) == [heir.name()]).then_some(()))?;
        std::thread::sleep(Duration::from_millis(100));
        let to = Instant::now();
        Ok(Sample { value: client.finish().lost() as f64, from, to })
    })?;
    pair.never_two_owners()?;
    figures.at_most(Some(3.0), 10.0)
}

/// The ways an owner goes in an orderly way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Stop,
    Reboot,
    Poweroff,
}

pub fn row10_orderly_leave(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair_off(Settings::new(200, 1000).members(&MEMBERS))?;
    for host in &pair.hosts {
        // The order that the group gives them, for the plain stop and start too.
        host.write(&format!("etc/systemd/system/{EXCLUSIVE}.d/order.conf"), &format!("[Unit]\nAfter={NGINX}\n"))?;
        host.remove("etc/hafailover/hafailover.toml")?;
        host.remove(&pair.settings.groups[0].drop_in())?;
    }
    pair.switch_both_on()?;
    let plain = plain_stop_and_start(&pair)?;
    for host in &pair.hosts {
        pair.settings.write_to(host)?;
        host.run(&["systemctl", "daemon-reload"])?;
        host.run(&["systemctl", "start", "hafailover"])?;
    }
    let mut said = Vec::new();
    for leave in [Leave::Stop, Leave::Reboot, Leave::Poweroff] {
        let figures = Figures::gather(pair.judge(), "ms", 5, || hand_over(&mut pair, leave, plain))?;
        said.push(format!("{leave:?}: {}", figures.at_most(None, 50.0)?));
        pair.hosts.iter().try_for_each(Host::no_ordering_cycle)?;
    }
    pair.never_two_owners()?;
    Ok(format!("over a plain stop and start of both members ({:.1} ms): {}", plain.whole, said.join("; ")))
}

/// What a stop there and a start here take without us, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Plain {
    /// From the first command to the last member's start.
    whole: f64,
    /// Of it, the part in which no member was stopping or starting: the two commands themselves.
    commands: f64,
}

/// The medians of five times there and back.
fn plain_stop_and_start(pair: &Pair) -> Result<Plain> {
    let (mut from_host, mut to_host) = (pair.alpha(), pair.beta());
    let systemctl = |host: &Host, job: &str| host.run(&[&["systemctl", job][..], &MEMBERS].concat());
    systemctl(from_host, "start")?;
    let mut commands = Vec::new();
    let whole = Figures::gather(pair.judge(), "ms", 5, || {
        let from = Instant::now();
        systemctl(from_host, "stop")?;
        systemctl(to_host, "start")?;
        let to = Instant::now();
        let (stopped, started) = (turn(from_host, "stop", from)?, turn(to_host, "start", from)?);
        std::mem::swap(&mut from_host, &mut to_host);
        commands.push(beside(from, stopped, started));
        Ok(Sample { value: ms(started.ended - from), from, to })
    })?;
    systemctl(from_host, "stop")?;
    commands.sort_by(f64::total_cmp);
    Ok(Plain { whole: whole.median(), commands: commands[commands.len() / 2] })
}

/// The time since `from` in which neither the stop nor the start was under way.
fn beside(from: Instant, stopped: Turn, started: Turn) -> f64 {
    ms(started.ended - from) - ms(stopped.ended - stopped.begun) - ms(started.ended - started.begun)
}

/// What the hand-over took longer, from the command to the heir's last member.
fn hand_over(pair: &mut Pair, leave: Leave, plain: Plain) -> Result<Sample> {
    let owner = pair.settled()?;
    let heir = pair.other(&owner).name();
    let from = Instant::now();
    match leave {
        Leave::Stop => pair.host(&owner).run(&["systemctl", "stop", "hafailover"])?,
        Leave::Reboot => pair.host(&owner).run(&["systemctl", "--no-block", "reboot"])?,
        Leave::Poweroff => pair.host(&owner).run(&["systemctl", "--no-block", "poweroff"])?,
    };
    wait_for("the heir to have the address", SETTLE, || pair.watch.holders(VIP).contains(&heir.into()).then_some(()))?;
    let last = MEMBERS[MEMBERS.len() - 1];
    wait_for("the heir's members", SETTLE, || pair.host(heir).is_active(last).ok().filter(|active| *active))?;
    let to = Instant::now();
    if leave != Leave::Stop {
        pair.host_mut(&owner).wait_off(SETTLE)?;
    }
    let (stopped, started) = (turn(pair.host(&owner), "stop", from)?, turn(pair.host(heir), "start", from)?);
    ensure!(
        started.begun >= stopped.ended,
        "{heir} started a member {:?} before the last one of {owner} had stopped",
        stopped.ended - started.begun
    );
    match leave {
        Leave::Stop => drop(pair.host(&owner).run(&["systemctl", "start", "hafailover"])?),
        Leave::Reboot | Leave::Poweroff => drop(pair.return_of(&owner)?),
    }
    // Where the whole host goes down at once, the members' own stop and start are slower, and not for our sake.
    let value = match leave {
        Leave::Stop => ms(started.ended - from) - plain.whole,
        Leave::Reboot | Leave::Poweroff => beside(from, stopped, started) - plain.commands,
    };
    Ok(Sample { value, from, to })
}

/// From the first member's beginning to the last one's end.
#[derive(Clone, Copy, Debug)]
struct Turn {
    begun: Instant,
    ended: Instant,
}

/// When systemd stopped or started the members, by what it said of it.
fn turn(host: &Host, job: &str, since: Instant) -> Result<Turn> {
    let word = if job == "stop" { "Stopping" } else { "Starting" };
    let mut whole: Option<Turn> = None;
    for unit in MEMBERS {
        let entries = host.said(&["_PID=1", &format!("UNIT={unit}"), &format!("JOB_TYPE={job}")], since)?;
        let begun = entries.iter().find(|entry| entry.message.starts_with(word)).and_then(sent);
        let ended = entries.iter().find(|entry| entry.field("JOB_RESULT") == Some("done")).and_then(sent);
        let (Some(begun), Some(ended)) = (begun, ended) else {
            return Err(format!("{}: no {job} of {unit} in the journal: {entries:?}", host.name()).into());
        };
        let seen = whole.get_or_insert(Turn { begun, ended });
        *seen = Turn { begun: seen.begun.min(begun), ended: seen.ended.max(ended) };
    }
    whole.ok_or_else(|| "no members".into())
}

/// When an entry was sent: journald may take it later, and stamps it then.
pub fn sent(entry: &Entry) -> Option<Instant> {
    let micros = |name| Some(Duration::from_micros(entry.field(name)?.parse().ok()?));
    let held = micros("__REALTIME_TIMESTAMP")?.checked_sub(micros("_SOURCE_REALTIME_TIMESTAMP")?)?;
    entry.at.checked_sub(held)
}
