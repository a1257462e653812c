//! The lab itself, before anything of ours runs on it: each instrument is shown a known event and has to report it.

use crate::client::Client;
use crate::figures::{Figures, Judge, Sample, ms};
use crate::host::Host;
use crate::pair::{Lab, Pair, VIP};
use crate::root::EXCLUSIVE;
use crate::settings::Settings;
use crate::sys::{Result, SENTINEL, become_realtime, run, wait_for};
use crate::wires::{CLIENT, Direction, HB0, HB1, SERVICE};
use crate::{ensure, lock};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

const MOMENT: Duration = Duration::from_secs(5);
/// Much for a figure, and nothing for a cluster.
const LATENESS: Duration = Duration::from_millis(20);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x79);

pub fn row00_instruments(lab: &Lab) -> Result<String> {
    let begun = Instant::now();
    let mut pair = lab.pair_off(Settings::new(100, 300))?;
    for host in &pair.hosts {
        host.remove("etc/systemd/system/multi-user.target.wants/hafailover.service")?;
    }
    pair.switch_both_on()?;
    let boot = begun.elapsed();
    only_what_was_late_is_left_out(lab)?;
    let gap = a_gap_is_measured(&pair)?;
    two_holders_are_seen(&pair)?;
    faults_are_what_they_say(&pair)?;
    two_lock_holders_are_seen(&pair)?;
    a_frozen_host_stands_still(&pair)?;
    a_lost_host_is_gone(&mut pair)?;
    Ok(format!("two hosts booted in {:.1} s; a gap of 100 ms was seen as {:.1} ms", boot.as_secs_f64(), ms(gap)))
}

fn hold(host: &Host, yes: bool) -> Result {
    host.run(&["ip", "address", if yes { "add" } else { "del" }, &format!("{VIP}/32"), "dev", SERVICE])?;
    // Nobody announces: the client is made to ask again.
    run("ip", &["-n", CLIENT, "neigh", "flush", "dev", SERVICE]).map(drop)
}

/// Takes one core away from everybody, a sentinel too.
fn late_machine() -> Result {
    let hog = std::thread::spawn(|| -> std::io::Result<()> {
        let mut core = CpuSet::new();
        core.set(0);
        sched_setaffinity(None, &core)?;
        become_realtime(SENTINEL + 1)?;
        let end = Instant::now() + LATENESS;
        while Instant::now() < end {}
        Ok(())
    });
    hog.join().map_err(|_| "the thread that takes a core panicked")??;
    // The sentinel tells of it when it is back.
    std::thread::sleep(Duration::from_millis(10));
    Ok(())
}

/// A late machine takes the figure of its run; a failure it takes only when it was late by a deadtime.
fn only_what_was_late_is_left_out(lab: &Lab) -> Result {
    let gathered = |deadtime: Duration, first: fn(Instant) -> Result<Sample>| {
        let judge = Judge { sentinels: &lab.sentinels, deadtime };
        let mut runs = 0;
        let figures = Figures::gather(judge, "ms", 1, || {
            runs += 1;
            let from = Instant::now();
            if runs > 1 {
                return Ok(Sample { value: 2.0, from, to: Instant::now() });
            }
            late_machine()?;
            first(from)
        });
        figures.map(|figures| (runs, figures.median()))
    };
    let (long, short) = (LATENESS * 1000, LATENESS / 2);
    let counted = gathered(long, |from| Ok(Sample { value: 1.0, from, to: Instant::now() }))?;
    ensure!(counted == (2, 2.0), "a late run's figure counts: {counted:?}");
    let wrong = gathered(long, |_| Err("wrong".into()));
    ensure!(wrong.is_err(), "a failure was left out for {LATENESS:?}: {wrong:?}");
    let forgiven = gathered(short, |_| Err("so late that nobody can tell".into()))?;
    ensure!(forgiven == (2, 2.0), "a machine that was late by a deadtime: {forgiven:?}");
    Ok(())
}

fn a_gap_is_measured(pair: &Pair) -> Result<Duration> {
    hold(pair.alpha(), true)?;
    let client = pair.served_client()?;
    let expected = Instant::now();
    hold(pair.alpha(), false)?;
    std::thread::sleep(Duration::from_millis(100));
    hold(pair.beta(), true)?;
    let expected = expected.elapsed();
    client.wait_for_answer(Instant::now(), MOMENT)?;
    let outage = client.finish().outage();
    // The commands themselves take some milliseconds at both ends of the gap.
    let least = Duration::from_millis(100);
    ensure!(
        outage >= least && outage <= expected + Duration::from_millis(5),
        "{outage:?} is not a gap of {expected:?}"
    );
    let tenures = pair.watch.tenures(VIP);
    ensure!(tenures.len() == 2 && tenures[0].host == "alpha" && tenures[1].host == "beta", "{tenures:?}");
    let between = tenures[1].from - tenures[0].to.ok_or("alpha's tenure has no end")?;
    ensure!(between >= Duration::from_millis(100) && between <= expected, "netlink {between:?}, clock {expected:?}");
    // The client may lose a little more: it has to be made to ask for the new place.
    let most = between + Duration::from_millis(30);
    ensure!(outage + Duration::from_millis(3) >= between && outage <= most, "client {outage:?}, netlink {between:?}");
    pair.never_two_owners()?;
    Ok(outage)
}

fn two_holders_are_seen(pair: &Pair) -> Result {
    hold(pair.alpha(), true)?;
    wait_for("two holders", MOMENT, || (pair.watch.holders(VIP).len() == 2).then_some(()))?;
    ensure!(pair.never_two_owners().is_err(), "two holders of one address went unnoticed");
    hold(pair.beta(), false)?;
    let hold = |host: &Host, word| host.run(&["ip", "address", word, &format!("{OTHER6}/64"), "dev", SERVICE, "nodad"]);
    hold(pair.alpha(), "add")?;
    hold(pair.beta(), "add")?;
    wait_for("two holders of an IPv6 address", MOMENT, || (pair.watch.holders(OTHER6).len() == 2).then_some(()))?;
    ensure!(pair.never_two_owners_of([OTHER6]).is_err(), "two holders of one IPv6 address went unnoticed");
    hold(pair.alpha(), "del")?;
    wait_for("one holder", MOMENT, || (pair.watch.holders(OTHER6) == ["beta"]).then_some(()))?;
    hold(pair.beta(), "del").map(drop)
}

fn reaches(from: &Host, to: &Host, lan: &str) -> Result<bool> {
    let address = to.seat.address(lan);
    // The kernel answers ARP: a fresh neighbour entry is the proof of both directions.
    from.attempt(&["ip", "neigh", "flush", "dev", lan])?;
    let probe = format!("echo x >/dev/udp/{address}/9; sleep 0.05; ip neigh show dev {lan} to {address}");
    Ok(from.run(&["bash", "-c", &probe])?.contains("lladdr"))
}

fn faults_are_what_they_say(pair: &Pair) -> Result {
    let (alpha, beta, wires) = (pair.alpha(), pair.beta(), &pair.lab.wires);
    for lan in [HB0, HB1, SERVICE] {
        ensure!(reaches(alpha, beta, lan)?, "no way over {lan}");
        wires.cut(&alpha.seat, &[lan])?;
        ensure!(!reaches(alpha, beta, lan)?, "the cut of {lan} cuts nothing");
        let carrier = alpha.run(&["ip", "link", "show", "dev", lan])?;
        ensure!(carrier.contains("LOWER_UP"), "a silent cut took the carrier of {lan}: {carrier}");
        wires.heal(&alpha.seat, &[lan])?;
        ensure!(reaches(alpha, beta, lan)?, "{lan} did not heal");
    }
    for direction in [Direction::From, Direction::To] {
        wires.lose(&alpha.seat, HB0, direction)?;
        ensure!(!reaches(alpha, beta, HB0)?, "nothing is lost {direction:?} alpha");
        ensure!(reaches(alpha, beta, HB1)?, "the other link is lost too");
        wires.lose_nothing()?;
    }
    wires.pull(&alpha.seat, SERVICE)?;
    let carrier = alpha.run(&["ip", "link", "show", "dev", SERVICE])?;
    ensure!(carrier.contains("NO-CARRIER"), "a pulled cable has carrier: {carrier}");
    wires.push(&alpha.seat, SERVICE)
}

fn two_lock_holders_are_seen(pair: &Pair) -> Result {
    pair.alpha().run(&["systemctl", "start", EXCLUSIVE])?;
    lock::never_shared()?;
    ensure!(pair.beta().attempt(&["systemctl", "start", EXCLUSIVE])?.0 != 0, "the lock was had twice");
    ensure!(lock::never_shared().is_err(), "a conflict went unnoticed: {:?}", lock::lines());
    pair.alpha().run(&["systemctl", "stop", EXCLUSIVE])?;
    ensure!(lock::lines() == ["start alpha", "conflict beta", "stop alpha"], "{:?}", lock::lines());
    lock::clear()
}

fn a_frozen_host_stands_still(pair: &Pair) -> Result {
    let alpha = pair.alpha();
    alpha.run(&["systemd-run", "--unit=ticks", "bash", "-c", "while sleep 0.01; do echo >>/run/ticks; done"])?;
    let count =
        || -> Result<usize> { Ok(alpha.run(&["wc", "-l", "/run/ticks"])?.split(' ').next().unwrap_or("0").parse()?) };
    wait_for("ticks", MOMENT, || count().is_ok_and(|ticks| ticks > 3).then_some(()))?;
    alpha.freeze()?;
    let before = count()?;
    std::thread::sleep(Duration::from_millis(200));
    ensure!(count()? <= before + 1, "a frozen host ticks on");
    alpha.thaw()?;
    wait_for("ticks after the thaw", MOMENT, || count().is_ok_and(|ticks| ticks > before + 5).then_some(()))?;
    alpha.run(&["systemctl", "stop", "ticks"]).map(drop)
}

fn a_lost_host_is_gone(pair: &mut Pair) -> Result {
    let client: Client = pair.served_client()?;
    let cut = pair.host_mut("alpha").lose_power()?;
    ensure!(pair.watch.holders(VIP).is_empty(), "a host without power still holds {VIP}");
    ensure!(!pair.alpha().is_on(), "alpha is still on");
    std::thread::sleep(Duration::from_millis(200));
    let outage = client.finish().outage();
    let most = cut.elapsed() + Duration::from_millis(10);
    ensure!(outage >= Duration::from_millis(190) && outage <= most, "{outage:?} without power");
    pair.host_mut("alpha").switch_on()?;
    pair.alpha().wait_booted()?;
    let addresses = pair.alpha().run(&["ip", "-4", "address", "show", "dev", SERVICE])?;
    ensure!(addresses.contains("10.0.0.75") && !addresses.contains("10.0.0.77"), "after the return: {addresses}");
    Ok(())
}
