//! The daemon is killed at every step of a start and of a stop: of a move, of a takeover from a silent owner, and of an
//! operator's `start` and `stop`. Which step it was is read from what the dead daemon left, not from the clock.

use crate::ensure;
use crate::host::Host;
use crate::netwatch::NetWatch;
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::root::EXCLUSIVE;
use crate::settings::Settings;
use crate::sweep::{self, LAB};
use crate::sys::{INSTRUMENT, Result, become_realtime, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DAEMON: &str = "hafailover.service";
const SECOND: &str = "second.service";
const MEMBERS: [&str; 2] = [EXCLUSIVE, SECOND];

/// A step that lasts less than a millisecond may be over before the killer has come; a few tries must do.
const TRIES: usize = 6;
/// How often the killer looks. It must not take a core for itself: the daemon needs one, systemd the other.
const LOOK: Duration = Duration::from_micros(20);

/// How far a start or a stop has come, as a neighbour of the daemon can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The grant is written, no address is there.
    Hold,
    /// The address is there, no member has begun to start.
    Addresses,
    StartFirst,
    StartSecond,
    /// The grant is taken back, every member runs on.
    Revoke,
    StopSecond,
    StopFirst,
    /// Every member is stopped, the address is still there.
    RemoveAddresses,
    /// Address and members are gone, and that is looked at once more.
    Verify,
}

const START: [Step; 4] = [Step::Hold, Step::Addresses, Step::StartFirst, Step::StartSecond];
const STOP: [Step; 5] = [Step::Revoke, Step::StopSecond, Step::StopFirst, Step::RemoveAddresses, Step::Verify];

/// What can be seen of one host's daemon while it starts or stops the group.
struct Sight<'watch> {
    host: &'static str,
    daemon: u32,
    held: PathBuf,
    grant: PathBuf,
    watch: &'watch NetWatch,
}

impl<'watch> Sight<'watch> {
    fn of(host: &Host, watch: &'watch NetWatch) -> Result<Sight<'watch>> {
        let daemon = host.main_pid(DAEMON)?.ok_or_else(|| format!("no daemon on {}", host.name()))?;
        let held = host.live_path("run/hafailover/held/web")?;
        Ok(Sight { host: host.name(), daemon, held, grant: host.live_path("run/hafailover/grant/web")?, watch })
    }

    /// The quick look first: the shortest steps leave no time for more.
    fn is_at(&self, step: Step) -> bool {
        match step {
            Step::Hold => self.held.exists(),
            Step::Revoke => !self.grant.exists(),
            _ => self.step() == Some(step),
        }
    }

    fn step(&self) -> Option<Step> {
        let held = fs::read_to_string(&self.held).ok()?;
        let granted = self.grant.exists();
        let address = self.watch.holders(VIP).iter().any(|holder| holder == self.host);
        let marks = MEMBERS.map(|member| mark(self.host, member));
        let [first, second] = [marks[0].as_str(), marks[1].as_str()];
        let is_stop = held.contains("phase=stopping") || (!granted && (address || first != "stopped"));
        match (is_stop, address, first, second) {
            (false, false, ..) => Some(Step::Hold),
            (false, true, "running", "running") => None,
            (false, true, "stopped", _) => Some(Step::Addresses),
            (false, true, _, "starting") => Some(Step::StartSecond),
            (false, true, ..) => Some(Step::StartFirst),
            (true, false, ..) => Some(Step::Verify),
            (true, true, "stopped", _) => Some(Step::RemoveAddresses),
            (true, true, _, "stopped") => Some(Step::StopFirst),
            (true, true, _, "stopping") => Some(Step::StopSecond),
            (true, true, ..) => Some(Step::Revoke),
        }
    }
}

fn marks() -> PathBuf {
    Path::new(LAB).join("shared/marks")
}

/// What a member's own commands wrote last; one that never ran is as good as stopped.
fn mark(host: &str, member: &str) -> String {
    let file = marks().join(format!("{host}.{member}"));
    let text = fs::read_to_string(file).unwrap_or_default();
    // Half written is not written.
    text.strip_suffix('\n').unwrap_or("stopped").to_string()
}

fn forget_marks(host: &Host) -> Result {
    for member in MEMBERS {
        let file = marks().join(format!("{}.{member}", host.name()));
        if file.exists() {
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// Members whose starts and stops take long enough to be hit, and which tell how far they are.
fn write_members(host: &Host) -> Result {
    let say = |word: &str, then: &str| format!("/bin/sh -c 'echo {word} >/srv/shared/marks/%H.%n{then}'");
    let slow = format!(
        "[Service]\nExecStartPre={}\nExecStartPost={}\nExecStop={}\nExecStopPost={}\n",
        say("starting", "; exec sleep 0.15"),
        say("running", ""),
        say("stopping", "; exec sleep 0.15"),
        say("stopped", ""),
    );
    for member in MEMBERS {
        host.write(&format!("etc/systemd/system/{member}.d/slow.conf"), &slow)?;
    }
    host.write(&format!("etc/systemd/system/{SECOND}"), "[Service]\nExecStart=/usr/bin/sleep infinity\n")
}

fn pair(lab: &Lab) -> Result<Pair<'_>> {
    let mut pair = lab.pair_off(Settings::new(100, 300).members(&MEMBERS))?;
    fs::create_dir_all(marks())?;
    for host in &pair.hosts {
        forget_marks(host)?;
        write_members(host)?;
    }
    pair.switch_both_on()?;
    pair.settled()?;
    Ok(pair)
}

/// Kills the first of the daemons that comes to the step; answers with the step at which its end found it.
fn kill_at(step: Step, daemons: &[Sight<'_>], limit: Duration) -> Result<Option<Step>> {
    let end = Instant::now() + limit;
    let killer = || {
        become_realtime(INSTRUMENT)?;
        loop {
            if let Some(victim) = daemons.iter().find(|daemon| daemon.is_at(step)) {
                sweep::kill(victim.daemon);
                while sweep::running(victim.daemon) {
                    std::thread::sleep(LOOK);
                }
                // The next daemon is tens of milliseconds away.
                return Ok(victim.step());
            }
            if Instant::now() >= end {
                return Err(std::io::Error::other(format!("nobody came to {step:?} within {limit:?}")));
            }
            std::thread::sleep(LOOK);
        }
    };
    let killed = std::thread::scope(|scope| scope.spawn(killer).join().expect("it only looks and kills"));
    Ok(killed?)
}

/// How often each step was the one at which a daemon died.
#[derive(Default)]
struct Hits(BTreeMap<Step, usize>);

impl Hits {
    /// Until a daemon died at this very step; what else was hit on the way counts too.
    fn until(&mut self, step: Step, mut attempt: impl FnMut() -> Result<Option<Step>>) -> Result {
        let mut died = Vec::new();
        while died.len() < TRIES {
            let hit = attempt().map_err(|error| format!("killed at {step:?}: {error}"))?;
            if let Some(hit) = hit {
                *self.0.entry(hit).or_default() += 1;
            }
            died.push(hit);
            if hit == Some(step) {
                return Ok(());
            }
        }
        Err(format!("{step:?} was not hit in {TRIES} tries, but {died:?}").into())
    }

    fn tell(&self) -> String {
        self.0.iter().map(|(step, count)| format!("{step:?} {count}")).collect::<Vec<_>>().join(", ")
    }
}

/// Exactly one host runs the group, whole; of the other nothing is left. The next kill begins as if it were the first.
fn one_owner(pair: &Pair) -> Result<String> {
    let owner = pair.settled()?;
    pair.never_two_owners()?;
    ensure!(pair.watch.holders(VIP) == [owner.as_str()], "{owner} owns it, {:?} have it", pair.watch.holders(VIP));
    for member in MEMBERS {
        let state = pair.host(&owner).property(member, "ActiveState")?;
        ensure!(state == "active", "{member} is {state} on {owner}, which owns it");
    }
    for kind in ["held", "grant"] {
        // Without its grant a member that fails could not be started again.
        let file = pair.host(&owner).live_path(&format!("run/hafailover/{kind}/web"))?;
        ensure!(file.exists(), "{owner} runs the group without {kind}/web");
    }
    let other = pair.other(&owner);
    if other.is_on() {
        nothing_left(other)?;
    }
    forget(pair)?;
    Ok(owner)
}

fn nothing_left(host: &Host) -> Result {
    for member in MEMBERS {
        ensure!(host.is_down(member)?, "{member} is not down on {}", host.name());
    }
    for kind in ["held", "grant"] {
        let file = host.live_path(&format!("run/hafailover/{kind}/web"))?;
        ensure!(!file.exists(), "{} does not own the group and still has {kind}/web", host.name());
    }
    Ok(())
}

fn forget(pair: &Pair) -> Result {
    for host in pair.hosts.iter().filter(|host| host.is_on()) {
        host.run(&["hafailoverctl", "clear", "web"])?;
        host.run(&["rm", "-f", "/run/hafailover/deaths"])?;
    }
    Ok(())
}

pub fn row11_killed_at_every_step_of_a_move(lab: &Lab) -> Result<String> {
    let pair = pair(lab)?;
    let mut hits = Hits::default();
    for step in STOP.into_iter().chain(START) {
        hits.until(step, || {
            let owner = pair.settled()?;
            let heir = pair.other(&owner);
            let victim = if STOP.contains(&step) { pair.host(&owner) } else { heir };
            let sight = Sight::of(victim, &pair.watch)?;
            let mut command = pair.host(&owner).begin(&["hafailoverctl", "move", "web", heir.name()])?;
            let hit = kill_at(step, &[sight], SETTLE);
            // Its answer may have been cut off with the daemon.
            command.wait()?;
            one_owner(&pair)?;
            hit
        })?;
    }
    Ok(format!("{}: never two owners, nothing left behind", hits.tell()))
}

pub fn row11_killed_at_every_step_of_an_order(lab: &Lab) -> Result<String> {
    let pair = pair(lab)?;
    let mut hits = Hits::default();
    let mut owner = pair.settled()?;
    for (index, stop) in STOP.into_iter().enumerate() {
        hits.until(stop, || {
            pair.alpha().run(&["hafailoverctl", "start", "web"])?;
            owner = pair.settled()?;
            let sight = Sight::of(pair.host(&owner), &pair.watch)?;
            // The node that is asked lives on, and with it the order: one that dies over it says so to the operator.
            let mut command = pair.other(&owner).begin(&["hafailoverctl", "stop", "web"])?;
            let hit = kill_at(stop, &[sight], SETTLE);
            command.wait()?;
            stopped_everywhere(&pair)?;
            hit
        })?;
        let start = START[index % START.len()];
        hits.until(start, || {
            pair.alpha().run(&["hafailoverctl", "stop", "web"])?;
            stopped_everywhere(&pair)?;
            let sights = [Sight::of(pair.alpha(), &pair.watch)?, Sight::of(pair.beta(), &pair.watch)?];
            // Who had it last starts it.
            let mut command = pair.other(&owner).begin(&["hafailoverctl", "start", "web"])?;
            let hit = kill_at(start, &sights, SETTLE);
            command.wait()?;
            owner = one_owner(&pair)?;
            hit
        })?;
    }
    Ok(format!("{}: stopped and started as ordered, nothing left behind", hits.tell()))
}

/// As the operator said, although the daemon died over it.
fn stopped_everywhere(pair: &Pair) -> Result {
    let stopped = |host: &Host| -> Result {
        let group = pair.group(host, "web")?;
        let said = group.state == "stopped" && group.owner.is_none();
        ensure!(said, "{}: {} of {:?}: {}", host.name(), group.state, group.owner, group.why);
        // A daemon that has just begun says so before it has looked.
        nothing_left(host)
    };
    for host in &pair.hosts {
        let mut last = String::new();
        let mut looked = || stopped(host).inspect_err(|error| last = error.to_string()).ok();
        wait_for("the group to be stopped everywhere", SETTLE, &mut looked)
            .map_err(|error| format!("{error}; last: {last}"))?;
    }
    ensure!(pair.watch.holders(VIP).is_empty(), "stopped, and {:?} have it", pair.watch.holders(VIP));
    pair.never_two_owners()?;
    forget(pair)
}

pub fn row11_killed_at_every_step_of_a_takeover(lab: &Lab) -> Result<String> {
    let mut pair = pair(lab)?;
    let mut hits = Hits::default();
    for step in START {
        hits.until(step, || {
            let owner = pair.settled()?;
            let heir = pair.other(&owner).name();
            pair.host_mut(&owner).lose_power()?;
            let hit = kill_at(step, &[Sight::of(pair.host(heir), &pair.watch)?], SETTLE);
            // Alone it goes on with what it had begun, or begins anew.
            one_owner(&pair)?;
            forget_marks(pair.host(&owner))?;
            pair.return_of(&owner)?;
            one_owner(&pair)?;
            hit
        })?;
    }
    Ok(format!("{}: never two owners, nothing left behind", hits.tell()))
}
