//! Planned hand-overs: on command, and when the owner goes in an orderly way.

use crate::figures::{Figures, Sample, ms};
use crate::host::Host;
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::settings::Settings;
use crate::sys::{Result, wait_for};
use crate::{demo, ensure};
use std::time::{Duration, Instant};

const NGINX: &str = "nginx.service";

/// What `make demo` tells; that nothing stays behind is seen at the end of every lab.
pub fn row01_demo(lab: &Lab) -> Result<String> {
    demo::tell(lab).map(|()| "told to its end".into())
}

pub fn row06_move(lab: &Lab) -> Result<String> {
    let pair = lab.pair(Settings::new(100, 300))?;
    let figures = Figures::gather(&lab.sentinels, "lost", 20, || {
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
    let mut pair = lab.pair(Settings::new(200, 1000).members(&[NGINX]))?;
    let mut said = Vec::new();
    for leave in [Leave::Stop, Leave::Reboot, Leave::Poweroff] {
        let figures = Figures::gather(&lab.sentinels, "ms", 5, || hand_over(&mut pair, leave))?;
        said.push(format!("{leave:?}: {}", figures.at_most(None, 50.0)?));
        for host in &pair.hosts {
            let cycles = host.journal(&["-o", "cat", "--grep", "ordering cycle"]).unwrap_or_default();
            ensure!(cycles.is_empty(), "{}: {cycles}", host.name());
        }
    }
    pair.never_two_owners()?;
    Ok(format!("over a plain stop and start of nginx: {}", said.join("; ")))
}

/// What the hand-over took longer than nginx's own stop there and start here.
fn hand_over(pair: &mut Pair, leave: Leave) -> Result<Sample> {
    let owner = pair.settled()?;
    let heir = pair.other(&owner).name();
    let from = Instant::now();
    match leave {
        Leave::Stop => pair.host(&owner).run(&["systemctl", "stop", "hafailover"])?,
        Leave::Reboot => pair.host(&owner).run(&["systemctl", "--no-block", "reboot"])?,
        Leave::Poweroff => pair.host(&owner).run(&["systemctl", "--no-block", "poweroff"])?,
    };
    wait_for("the heir to have the address", SETTLE, || pair.watch.holders(VIP).contains(&heir.into()).then_some(()))?;
    wait_for("the heir's nginx", SETTLE, || pair.host(heir).is_active(NGINX).ok().filter(|active| *active))?;
    let to = Instant::now();
    if leave == Leave::Stop {
        let started = turn(pair.host(heir), "start", from)?;
        let stopped = turn(pair.host(&owner), "stop", from)?;
        let sample = excess(stopped, started, from, to);
        pair.host(&owner).run(&["systemctl", "start", "hafailover"])?;
        pair.settled()?;
        return Ok(sample);
    }
    pair.host_mut(&owner).wait_off(SETTLE)?;
    let sample = excess(turn(pair.host(&owner), "stop", from)?, turn(pair.host(heir), "start", from)?, from, to);
    pair.return_of(&owner)?;
    Ok(sample)
}

fn excess(stopped: (Instant, Instant), started: (Instant, Instant), from: Instant, to: Instant) -> Sample {
    let plain = (stopped.1 - stopped.0) + (started.1 - started.0);
    let took = started.1.saturating_duration_since(stopped.0);
    Sample { value: ms(took) - ms(plain), from, to }
}

/// When systemd began and ended to start or stop nginx, by its own journal.
fn turn(host: &Host, job: &str, since: Instant) -> Result<(Instant, Instant)> {
    let entries = host.said(&["_PID=1", &format!("UNIT={NGINX}"), &format!("JOB_TYPE={job}")], since)?;
    let word = if job == "stop" { "Stopping" } else { "Starting" };
    let begun = entries.iter().find(|entry| entry.message.starts_with(word));
    let done = entries.iter().find(|entry| entry.field("JOB_RESULT") == Some("done"));
    match (begun, done) {
        (Some(begun), Some(done)) => Ok((begun.at, done.at)),
        _ => Err(format!("{}: no {job} of nginx in the journal: {entries:?}", host.name()).into()),
    }
}
