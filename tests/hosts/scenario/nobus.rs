//! The system bus is dead, and systemd is not: groups go on. And a flood of news about addresses that are nobody's here.

use crate::ensure;
use crate::figures::ms;
use crate::host::{Host, send};
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::settings::Settings;
use crate::sys::{Result, run_with_input, wait_for};
use crate::wires::SERVICE;
use crate::wiretap::Wiretap;
use rustix::process::Signal;
use std::time::{Duration, Instant};

const NGINX: &str = "nginx.service";
const DAEMON: &str = "hafailover.service";
const BUS: [&str; 2] = ["dbus.socket", "dbus.service"];
/// What is said once the bus has stayed away for a while, and once it is back.
const AWAY: &str = "the system bus is away";
const BACK: &str = "the system bus is back";

/// So that nothing starts it again.
fn kill_bus(host: &Host) -> Result {
    let pid = host.main_pid("dbus.service")?.ok_or("no bus")?;
    host.run(&["systemctl", "mask", "--runtime", BUS[0], BUS[1]])?;
    send(pid, Signal::KILL)?;
    host.attempt(&["systemctl", "stop", BUS[0], BUS[1]])?;
    let (code, said) = host.attempt(&["busctl", "list"])?;
    ensure!(code != 0, "the bus of {} still answers: {said}", host.name());
    Ok(())
}

fn bring_bus_back(host: &Host) -> Result {
    host.run(&["systemctl", "unmask", "--runtime", BUS[0], BUS[1]])?;
    host.run(&["systemctl", "start", BUS[0], BUS[1]]).map(drop)
}

fn says(host: &Host, what: &str, since: Instant) -> Result {
    wait_for(&format!("{} to say: {what}", host.name()), SETTLE, || {
        let entries = host.said(&["SYSLOG_IDENTIFIER=hafailoverd"], since).ok()?;
        entries.iter().any(|entry| entry.message.contains(what)).then_some(())
    })
}

/// Until the host alone has the address and runs the member; for those who cannot be asked over a bus. Answers with how long
/// the member took.
fn runs_on(pair: &Pair, name: &str, since: Instant) -> Result<f64> {
    wait_for(&format!("the group to run on {name}"), SETTLE, || {
        let has = pair.watch.holders(VIP) == [name];
        (has && pair.host(name).is_active(NGINX).unwrap_or(false)).then_some(())
    })?;
    Ok(since.elapsed().as_secs_f64())
}

/// Until the other host, whose bus lives, sees the group at rest there and hears all nodes.
fn agreed(pair: &Pair, owner: &str, witness: &str) -> Result {
    let witness = pair.host(witness);
    wait_for(&format!("{} to see the group running on {owner}", witness.name()), SETTLE * 2, || {
        let status = pair.status(witness).ok()?;
        let heard = status.nodes.iter().all(|node| node.me || node.state == "alive");
        let group = status.groups.iter().find(|group| group.name == "web")?;
        let state = if owner == witness.name() { "running" } else { "inactive" };
        let at_rest = group.owner.as_deref() == Some(owner) && group.state == state;
        (status.state == "joined" && heard && at_rest).then_some(())
    })
}

pub fn row41_without_a_bus(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair(Settings::new(100, 300).members(&[NGINX]))?;
    let first = pair.settled()?;
    let busless = pair.other(&first).name();
    let mut since = Instant::now();
    kill_bus(pair.host(busless))?;
    says(pair.host(busless), AWAY, since)?;
    the_command_says_why(pair.host(busless))?;

    let cut = pair.host_mut(&first).lose_power()?;
    let taken = runs_on(&pair, busless, cut)?;
    pair.host_mut(&first).switch_on()?;
    pair.host(&first).wait_booted()?;
    agreed(&pair, busless, &first)?;

    // Nobody signals it.
    since = Instant::now();
    send(pair.host(busless).main_pid(NGINX)?.ok_or("no nginx")?, Signal::KILL)?;
    let noticed = runs_on(&pair, &first, since)?;
    ensure!(pair.host(busless).is_down(NGINX)?, "{NGINX} runs beside its group");
    agreed(&pair, &first, &first)?;
    pair.host(&first).run(&["hafailoverctl", "clear", "web"])?;
    pair.host(&first).run(&["hafailoverctl", "move", "web", busless])?;
    runs_on(&pair, busless, since)?;
    agreed(&pair, busless, &first)?;

    let begun = Instant::now();
    pair.host(busless).run(&["systemctl", "stop", "hafailover"])?;
    let stopped = begun.elapsed().as_secs_f64();
    ensure!(pair.host(busless).is_down(NGINX)?, "the stop left {NGINX} running");
    let handed = runs_on(&pair, &first, begun)?;
    since = Instant::now();
    pair.host(busless).run(&["systemctl", "start", "hafailover"])?;
    agreed(&pair, &first, &first)?;
    // A daemon that starts without a bus waits for it a second before it asks about its guards by systemctl.
    wait_for("the host without a bus to be able to run it", SETTLE, || {
        let (code, _) = pair.host(&first).attempt(&["hafailoverctl", "move", "web", busless]).ok()?;
        (code == 0).then_some(())
    })?;
    runs_on(&pair, busless, begun)?;
    agreed(&pair, busless, &first)?;
    says(pair.host(busless), AWAY, since)?;

    let restarted = the_bus_comes_back(&pair, busless)?;
    pair.never_two_owners()?;
    Ok(format!(
        "without a bus on the survivor: taken {taken:.1} s after the power loss; a killed member moved in {noticed:.1} s; stopped in \
         {stopped:.1} s and handed over in {handed:.1} s; the bus was used again {restarted:.1} s after its return, nothing restarted"
    ))
}

fn the_command_says_why(host: &Host) -> Result {
    let begun = Instant::now();
    let (code, said) = host.attempt(&["hafailoverctl", "status"])?;
    let took = begun.elapsed();
    let clear = said.contains("system bus cannot be used") && said.contains("systemctl start dbus.socket");
    ensure!(code == 4 && clear && took < Duration::from_secs(8), "status without a bus: {code} after {took:?}: {said}");
    Ok(())
}

fn the_bus_comes_back(pair: &Pair, busless: &str) -> Result<f64> {
    let host = pair.host(busless);
    let (nginx, daemon) = (host.main_pid(NGINX)?, host.main_pid(DAEMON)?);
    let changes = pair.watch.changes(VIP).len();
    let since = Instant::now();
    bring_bus_back(host)?;
    says(host, BACK, since)?;
    let took = since.elapsed().as_secs_f64();
    ensure!(pair.settled()? == busless, "another owner");
    ensure!(host.main_pid(NGINX)? == nginx && host.main_pid(DAEMON)? == daemon, "something was restarted");
    let moved = pair.watch.changes(VIP);
    ensure!(moved.len() == changes, "the address moved: {:?}", &moved[changes..]);
    // A stop of the target is an operator's word again, which only a signal or a look brings.
    host.run(&["systemctl", "stop", "hafailover-group@web.target"])?;
    wait_for("the target's stop to be heard", SETTLE, || {
        let group = pair.group(host, "web").ok()?;
        (group.stopped_by_operator && host.is_down(NGINX).ok()?).then_some(())
    })?;
    host.run(&["hafailoverctl", "start", "web"])?;
    pair.settled()?;
    Ok(took)
}

/// Events about addresses that are nobody's here: most come and go, some stay.
const FOREIGN: usize = 20_000;
const STAY: usize = 500;
/// The daemon's watchdog bites at 5 s.
const STOP_MAX: Duration = Duration::from_millis(4200);
const RESYNC_MAX: f64 = 1000.0;
const COUNTED: Duration = Duration::from_secs(2);

pub fn row41_foreign_events(lab: &Lab) -> Result<String> {
    // Nobody is to take the group while its owner is stopped.
    let pair = lab.pair(Settings::new(200, 8000))?;
    let owner = pair.settled()?;
    let host = pair.host(&owner);
    let daemon = host.main_pid(DAEMON)?.ok_or("no daemon")?;
    let before = pair.watch.changes(VIP).len();
    let dropped_before = dropped(host)?;

    send(daemon, Signal::STOP)?;
    let stopped = Instant::now();
    let flooded = flood(host, stopped + STOP_MAX);
    let stop = stopped.elapsed();
    send(daemon, Signal::CONT)?;
    let resumed = Instant::now();
    flooded?;
    let heard = heartbeats(host)?;
    let changes = pair.watch.changes(VIP).split_off(before);
    let [gone, back] = &changes[..] else { return Err(format!("{VIP}: {changes:?}").into()) };
    ensure!(!gone.added && back.added && back.host == owner, "{VIP}: {changes:?}");
    let resync = ms(back.at.saturating_duration_since(resumed));
    ensure!(resync <= RESYNC_MAX, "{VIP} was back {resync:.0} ms after the daemon went on");
    let dropped = dropped(host)? - dropped_before;
    ensure!(dropped > 0, "the daemon's socket did not overrun: nothing was shown");
    let due = 2 * COUNTED.as_millis() / pair.settings.keepalive.as_millis();
    ensure!(heard as u128 + 2 >= due, "{heard} heartbeats of {due} within {COUNTED:?} after the daemon went on");
    ensure!(host.main_pid(DAEMON)? == Some(daemon), "the daemon was restarted");
    ensure!(pair.settled()? == owner, "another owner");
    pair.never_two_owners()?;
    Ok(format!(
        "{FOREIGN} foreign events within a stop of {:.1} s, {dropped} of them dropped: {VIP}, deleted among them, was back {resync:.0} ms \
         after the daemon went on, with {heard} heartbeats in the first {COUNTED:?}",
        stop.as_secs_f64()
    ))
}

/// Ours goes among them. Gives up in time: a daemon that is stopped for too long is killed, and shows nothing.
fn flood(host: &Host, until: Instant) -> Result {
    let listing = host.run(&["ip", "-4", "-o", "address", "show", "dev", SERVICE])?;
    let own = listing.split_whitespace().find(|word| word.starts_with(&format!("{VIP}/")));
    let own = own.ok_or_else(|| format!("{VIP} is not there: {listing}"))?;
    let mut lines = Vec::new();
    for number in 0..STAY {
        lines.push(format!("address add 10.99.{}.{}/32 dev {SERVICE}", number / 250, number % 250 + 1));
    }
    while lines.len() < FOREIGN {
        let verb = if lines.len() % 2 == 0 { "add" } else { "del" };
        lines.push(format!("address {verb} 10.98.0.{}/32 dev {SERVICE}", lines.len() / 2 % 250 + 1));
    }
    lines.insert(FOREIGN / 2, format!("address del {own} dev {SERVICE}"));
    for lines in lines.chunks(1000) {
        run_with_input("ip", &["-n", &host.seat.namespace(), "-batch", "-"], &(lines.join("\n") + "\n"))?;
        ensure!(Instant::now() < until, "this machine was too slow for {FOREIGN} events: nothing was shown");
    }
    Ok(())
}

/// Messages that the kernel could not give to the daemon's sockets.
fn dropped(host: &Host) -> Result<u64> {
    let pid = host.property(DAEMON, "MainPID")?;
    let table = host.run(&["cat", "/proc/net/netlink"])?;
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| row.get(1) == Some(&"0") && row.get(2) == Some(&pid.as_str()));
    let drops: Option<Vec<u64>> = ours.map(|row| row.get(8)?.parse().ok()).collect();
    let drops = drops.filter(|drops| !drops.is_empty());
    drops.map(|drops| drops.iter().sum()).ok_or_else(|| format!("no socket of {pid} in {table}").into())
}

/// How many this host sends from now on, on both links.
fn heartbeats(host: &Host) -> Result<usize> {
    let tap = Wiretap::start()?;
    std::thread::sleep(COUNTED);
    let own = ["hb0", "hb1"].map(|link| host.seat.address(link));
    Ok(tap.finish().iter().filter(|packet| own.contains(&packet.from)).count())
}
