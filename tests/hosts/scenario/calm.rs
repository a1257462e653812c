//! Nothing happens, and nothing may: no takeover without a reason, under load, without a journal, within the budget.

use crate::changes::{BLOCKED, NODE_LATE, NODE_LOST, first_of};
use crate::ensure;
use crate::host::{Host, send};
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::settings::Settings;
use crate::sys::{Result, wait_for};
use crate::wires::HB0;
use crate::wiretap::{Packet, Wiretap};
use hafailover::wire::codec;
use hafailover::wire::seal::SEAL_LEN;
use rustix::process::Signal;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

pub fn row05_no_false_takeover(lab: &Lab) -> Result<String> {
    let (quiet, busy) = if lab.full { (MINUTE * 10, MINUTE * 2) } else { (MINUTE * 2, MINUTE) };
    let mut said = Vec::new();
    {
        let pair = lab.pair(Settings::new(50, 150))?;
        said.push(format!("50/150 quiet: {}", nothing_moves_for(&pair, quiet)?));
        let load = Load::start()?;
        said.push(format!("both cores busy: {}", nothing_moves_for(&pair, busy)?));
        drop(load);
    }
    if lab.full {
        let pair = lab.pair(Settings::new(10, 30))?;
        said.push(format!("10/30 quiet: {}", nothing_moves_for(&pair, MINUTE * 5)?));
    }
    Ok(said.join("; "))
}

fn nothing_moves_for(pair: &Pair, span: Duration) -> Result<String> {
    let owner = pair.settled()?;
    let (from, before) = (Instant::now(), pair.watch.changes(VIP).len());
    std::thread::sleep(span);
    let moved = pair.watch.changes(VIP);
    ensure!(moved.len() == before, "the address moved without a reason: {:?}", &moved[before..]);
    ensure!(pair.settled()? == owner, "another owner without a reason");
    let late = pair.lab.sentinels.late_between(from, Instant::now());
    // A machine that stood still for a deadtime was silent indeed, and saying so is right.
    let punctual = late.is_none_or(|late| late < pair.settings.deadtime);
    let mut lost = 0;
    for host in &pair.hosts {
        let said = host.said(&["SYSLOG_IDENTIFIER=hafailoverd"], from)?;
        lost += said.iter().filter(|entry| NODE_LATE.is(entry)).count();
        let alarm = first_of(&said, &[NODE_LOST, BLOCKED]);
        ensure!(!punctual || alarm.is_none(), "{}: a false alarm: {alarm:?}", host.name());
    }
    let machine =
        late.map_or("this machine was punctual".into(), |late| format!("this machine was late by {late:.0?}"));
    Ok(format!("none in {} s, {lost} late warnings, {machine}", span.as_secs()))
}

/// Keeps every core busy with work of ordinary priority.
#[derive(Debug)]
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start() -> Result<Load> {
        let mut load = Load { stop: Arc::default(), threads: Vec::new() };
        for _ in 0..std::thread::available_parallelism()?.get() * 2 {
            let stop = load.stop.clone();
            load.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::black_box((0..10_000u64).sum::<u64>());
                }
            }));
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

pub fn row18_journal_stands_still(lab: &Lab) -> Result<String> {
    // A line per heartbeat is more than the daemon keeps for a journal that stands still so long.
    let mut pair = lab.pair_off(Settings::new(10, 200))?;
    for host in &pair.hosts {
        let debug = "[Service]\nEnvironment=HAFAILOVER_LOG=debug\n";
        host.write("etc/systemd/system/hafailover.service.d/debug.conf", debug)?;
    }
    pair.switch_both_on()?;
    let owner = pair.settled()?;
    let daemons = || pair.hosts.iter().map(|host| host.main_pid("hafailover.service")).collect::<Result<Vec<_>>>();
    let processes = daemons()?;
    let before: Vec<u64> = pair.hosts.iter().map(|host| missed(&pair, host)).collect::<Result<_>>()?;
    let (from, changes) = (Instant::now(), pair.watch.changes(VIP).len());
    let tap = Wiretap::start()?;
    let mut journals = Vec::new();
    for host in &pair.hosts {
        let journal = host.main_pid("systemd-journald.service")?.ok_or("no journald")?;
        send(journal, Signal::STOP)?;
        journals.push(journal);
    }
    std::thread::sleep(MINUTE);
    let during: Vec<u64> = pair.hosts.iter().map(|host| missed(&pair, host)).collect::<Result<_>>()?;
    let packets = tap.finish();
    for journal in journals {
        send(journal, Signal::CONT)?;
    }
    ensure!(pair.watch.changes(VIP).len() == changes, "the address moved: {:?}", pair.watch.changes(VIP));
    ensure!(pair.settled()? == owner, "another owner");
    ensure!(before == during, "heartbeats were missed: {before:?} before, {during:?} after");
    let now = daemons()?;
    ensure!(now == processes, "the daemons were {processes:?}, are {now:?}");
    let mut afterwards = Vec::new();
    for host in &pair.hosts {
        let gap = longest_gap(host, &packets)?;
        let warntime = pair.settings.warntime();
        ensure!(gap < warntime, "{} said nothing for {gap:?}, warntime is {warntime:?}", host.name());
        afterwards.push(format!("{}, longest gap {gap:.0?}", accounted(host, from)?));
        let late = host.said(&["SYSLOG_IDENTIFIER=hafailoverd"], from)?;
        let late = first_of(&late, &[NODE_LATE]);
        ensure!(late.is_none(), "{}: {late:?}", host.name());
    }
    Ok(format!("60 s without journald: no heartbeat missed, nothing moved; afterwards {}", afterwards.join("; ")))
}

/// Between two heartbeats of the host as they passed the switches: unlike the journal, these lose no warning.
pub(super) fn longest_gap(host: &Host, packets: &[Packet]) -> Result<Duration> {
    let ours = packets.iter().filter(|packet| packet.from == host.seat.address(HB0));
    let body = |packet: &Packet| Some(packet.payload[..packet.payload.len().checked_sub(SEAL_LEN)?].to_vec());
    let mut sent: Vec<u64> = ours.filter_map(|packet| Some(codec::decode(&body(packet)?).ok()?.sent_at)).collect();
    sent.sort_unstable();
    let gap = sent.windows(2).map(|pair| pair[1] - pair[0]).max();
    gap.map(Duration::from_nanos).ok_or_else(|| format!("no heartbeats of {} were seen", host.name()).into())
}

/// Every debug line of the time without a journal came later, or is counted as lost; and some were more than it keeps.
fn accounted(host: &Host, from: Instant) -> Result<String> {
    let ours = || host.said(&["SYSLOG_IDENTIFIER=hafailoverd"], from).unwrap_or_default();
    let number = |text: &str| text.strip_prefix("sent heartbeat ")?.split(' ').next()?.parse::<u64>().ok();
    let thawed = Instant::now();
    let said = wait_for("the lines after the thaw", SETTLE, || {
        let said = ours();
        let last = said.iter().rfind(|entry| number(&entry.message).is_some());
        last.is_some_and(|entry| entry.at > thawed + Duration::from_secs(1)).then_some(said)
    })?;
    let numbers: Vec<u64> = said.iter().filter_map(|entry| number(&entry.message)).collect();
    let (first, last) = (numbers.iter().min().ok_or("no lines")?, numbers.iter().max().ok_or("no lines")?);
    let missing = last - first + 1 - numbers.len() as u64;
    let lost = |text: &str| text.split_once(" journal entries were lost")?.0.parse::<u64>().ok();
    let reported: u64 = said.iter().filter_map(|entry| lost(&entry.message)).sum();
    let name = host.name();
    ensure!(missing > 0, "{name}: all {} lines came: the journal did not stand still long enough", numbers.len());
    ensure!(reported >= missing, "{name}: {missing} lines were lost, {reported} reported");
    Ok(format!("{name}: {} debug lines, {missing} missing, {reported} reported as lost", numbers.len()))
}

/// Heartbeats of the peer that one link or the other did not bring.
pub(super) fn missed(pair: &Pair, host: &Host) -> Result<u64> {
    let links = pair.status(host)?.links;
    Ok(links.iter().flat_map(|link| &link.peers).map(|peer| peer.lost).sum())
}

pub fn row21_small(lab: &Lab) -> Result<String> {
    let pair = lab.pair(Settings::with_default_timing().members(&["nginx.service"]))?;
    // What starting cost is over by then.
    std::thread::sleep(Duration::from_secs(2));
    let daemons: Vec<u32> = pair
        .hosts
        .iter()
        .map(|host| host.main_pid("hafailover.service")?.ok_or_else(|| "no daemon".into()))
        .collect::<Result<_>>()?;
    let tap = Wiretap::start()?;
    let mut shares = Vec::new();
    let mut bare = Duration::ZERO;
    // What else the machine does can only add to it.
    while shares.len() < WINDOWS_MAX && shares.iter().all(|share| *share > CPU_MAX) {
        let (share, wake) = share_of_a_core(&daemons)?;
        shares.push(share);
        bare = wake;
    }
    let share = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let memory = daemons.iter().map(|pid| Ok(resident(*pid)? as f64 / 1024.0)).collect::<Result<Vec<_>>>()?;
    let memory = memory.into_iter().fold(0.0, f64::max);
    let packets = tap.finish();
    let longest = packets.iter().filter(|packet| packet.on(HB0)).map(|packet| packet.payload.len()).max();
    let longest = longest.ok_or("no heartbeat was seen on hb0")?;
    let figures = format!(
        "memory {memory:.1} MiB, heartbeat {longest} bytes, CPU {share:.3} % of a core (windows: {shares:.3?}; a bare \
         wake-up cost {bare:?})"
    );
    ensure!(memory <= 12.0, "{figures}: above 12 MiB");
    ensure!(share <= CPU_MAX, "{figures}: above {CPU_MAX} %");
    ensure!(longest < 150, "{figures}: not under 150 bytes");
    Ok(figures)
}

/// Of the busier daemon, in percent; and what a bare wake-up cost meanwhile.
fn share_of_a_core(daemons: &[u32]) -> Result<(f64, Duration)> {
    let bare = Bare::start();
    let (from, before) = (Instant::now(), daemons.iter().map(|pid| busy_for(*pid)).collect::<Result<Vec<_>>>()?);
    std::thread::sleep(Duration::from_secs(30));
    let span = from.elapsed().as_secs_f64();
    let mut share: f64 = 0.0;
    for (pid, before) in daemons.iter().zip(before) {
        // A thread that ended meanwhile took its time along.
        share = share.max(busy_for(*pid)?.saturating_sub(before).as_secs_f64() / span * 100.0);
    }
    Ok((share, bare.finish()))
}

/// In percent of a core, at default timing.
const CPU_MAX: f64 = 0.2;
const WINDOWS_MAX: usize = 3;

/// A thread that does what any heartbeat program must: wakes up a dozen times a second, sends two datagrams, reads two. Its cost
/// tells a slow machine from a busy daemon.
struct Bare(std::thread::JoinHandle<Duration>, std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Bare {
    fn start() -> Bare {
        let end = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = end.clone();
        let body = move || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket on the loopback");
            socket.connect(socket.local_addr().expect("bound")).expect("to itself");
            let mut wakes = 0;
            while !seen.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(80));
                for _ in 0..2 {
                    socket.send(&[0; 112]).expect("the loopback takes it");
                    socket.recv(&mut [0; 200]).expect("the loopback brings it");
                }
                wakes += 1;
            }
            let text = fs::read_to_string("/proc/thread-self/schedstat").expect("procfs");
            let ran = text.split(' ').next().and_then(|field| field.parse().ok()).expect("a number of nanoseconds");
            Duration::from_nanos(ran) / wakes
        };
        Bare(std::thread::spawn(body), end)
    }

    /// The cost of one wake-up.
    fn finish(self) -> Duration {
        self.1.store(true, std::sync::atomic::Ordering::Relaxed);
        self.0.join().expect("it does not panic")
    }
}

/// Time that all threads of the process ran, to the nanosecond.
fn busy_for(pid: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while it is looked at.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        total += Duration::from_nanos(text.split(' ').next().unwrap_or_default().parse()?);
    }
    Ok(total)
}

/// In KiB.
pub(super) fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?)
}
