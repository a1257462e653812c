//! The owner loses its power; and both hosts get theirs.

use crate::ensure;
use crate::figures::{Figures, Sample, ms};
use crate::host::Host;
use crate::http::Browser;
use crate::pair::{Lab, SETTLE, VIP};
use crate::scenario::moves::sent;
use crate::settings::Settings;
use crate::sys::{Result, at_monotonic, wait_for};
use crate::wires::CLIENT;
use std::time::{Duration, Instant};

const NGINX: &str = "nginx.service";

pub fn row02_power_loss_100_300(lab: &Lab) -> Result<String> {
    power_losses(lab, Settings::new(100, 300), 20)?.at_most(None, 330.0)
}

pub fn row03_power_loss_10_30(lab: &Lab) -> Result<String> {
    power_losses(lab, Settings::new(10, 30), 20)?.at_most(Some(32.0), 45.0)
}

fn power_losses(lab: &Lab, settings: Settings, runs: usize) -> Result<Figures> {
    let mut pair = lab.pair(settings)?;
    let mut phase = Phase::default();
    let figures = Figures::gather(pair.judge(), "ms", runs, || {
        let owner = pair.settled()?;
        let client = pair.served_client()?;
        phase.wait(&pair.settings);
        let from = Instant::now();
        let cut = pair.host_mut(&owner).lose_power()?;
        client.wait_for_answer(cut, SETTLE)?;
        let outage = client.finish().outage();
        let sample = Sample { value: ms(outage), from, to: Instant::now() };
        pair.return_of(&owner)?;
        Ok(sample)
    })?;
    pair.never_two_owners()?;
    Ok(figures)
}

/// Spreads faults over the keepalive, so that no run profits from always being just after a heartbeat.
#[derive(Debug, Default)]
pub struct Phase {
    count: u32,
}

impl Phase {
    /// Waits until client and hosts are at rest, and a different part of a keepalive each time.
    pub fn wait(&mut self, settings: &Settings) {
        self.count += 1;
        // Steps of the golden ratio are spread evenly whatever their number.
        let part = (f64::from(self.count) * 0.618_034).fract();
        std::thread::sleep(Duration::from_millis(100) + settings.keepalive.mul_f64(part));
    }
}

pub fn row04_power_loss_with_nginx(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair(Settings::new(100, 300).members(&[NGINX]))?;
    let (mut phase, mut starts) = (Phase::default(), Vec::new());
    let figures = Figures::gather(pair.judge(), "ms", 20, || {
        let owner = pair.settled()?;
        let browser = Browser::start(CLIENT, VIP)?;
        browser.wait_for_answer(Instant::now(), SETTLE)?;
        phase.wait(&pair.settings);
        let from = Instant::now();
        let cut = pair.host_mut(&owner).lose_power()?;
        browser.wait_for_answer(cut, SETTLE)?;
        let (outage, _) = browser.finish();
        let to = Instant::now();
        let start = own_start(pair.other(&owner), NGINX)?;
        starts.push(ms(start));
        pair.return_of(&owner)?;
        Ok(Sample { value: ms(outage.saturating_sub(start)), from, to })
    })?;
    pair.never_two_owners()?;
    let start = starts.iter().sum::<f64>() / starts.len() as f64;
    Ok(format!("without nginx's own start of {start:.1} ms: {}", figures.at_most(None, 350.0)?))
}

/// How long the unit itself took to become active.
fn own_start(host: &Host, unit: &str) -> Result<Duration> {
    let stamp = |name: &str| -> Result<Instant> {
        Ok(at_monotonic(Duration::from_micros(host.property(unit, name)?.parse()?)))
    };
    Ok(stamp("ActiveEnterTimestampMonotonic")?.saturating_duration_since(stamp("InactiveExitTimestampMonotonic")?))
}

pub fn row13_cold_start(lab: &Lab) -> Result<String> {
    let mut preferred = 0;
    for run in 1..=10 {
        let pair = lab.pair(Settings::new(100, 300))?;
        // Long enough for a second thought.
        std::thread::sleep(pair.settings.deadtime * 2);
        pair.settled()?;
        let holders = pair.watch.holders(VIP);
        ensure!(holders.len() == 1, "run {run}: {holders:?} have the address");
        preferred += usize::from(holders == ["alpha"]);
        let tenures = pair.watch.tenures(VIP);
        ensure!(tenures.len() == 1, "run {run}: the address moved: {tenures:?}");
        pair.never_two_owners()?;
    }
    let mut runs = 0;
    let figures = Figures::gather(lab.judge(&Settings::new(100, 300)), "ms", 10, || {
        runs += 1;
        one_alone_then_the_other(lab, if runs % 2 == 1 { "beta" } else { "alpha" })
    })?;
    Ok(format!(
        "10 times one owner, {preferred} times the preferred one; one alone: after initdead and {}; it kept the group",
        figures.at_most(None, ALONE)?
    ))
}

/// What a lonely host takes from the end of initdead to its address, in milliseconds.
const ALONE: f64 = 50.0;
/// The journal hears of a link's carrier a moment after initdead began with it.
const JOURNAL_LAG: Duration = Duration::from_millis(5);

/// How long after initdead the first host had the address.
fn one_alone_then_the_other(lab: &Lab, first: &str) -> Result<Sample> {
    let mut pair = lab.pair_off(Settings::new(100, 300))?;
    let from = Instant::now();
    pair.host_mut(first).switch_on()?;
    pair.host(first).wait_booted()?;
    let limit = pair.settings.initdead + SETTLE;
    wait_for("the lonely host to own the group", limit, || (pair.watch.holders(VIP) == [first]).then_some(()))?;
    let to = Instant::now();
    let owned = pair.watch.tenures(VIP).first().ok_or("nobody ever had the address")?.from;
    let usable = first_usable_link(pair.host(first), from)?;
    let (took, initdead) = (owned.saturating_duration_since(usable), pair.settings.initdead);
    ensure!(took + JOURNAL_LAG >= initdead, "{first} owned it {took:?} after its first link, initdead is {initdead:?}");
    let second = pair.other(first).name();
    std::thread::sleep(pair.settings.deadtime * 6);
    ensure!(pair.return_of(second)? == first, "Failback=no, but the group moved to the late host {second}");
    std::thread::sleep(pair.settings.deadtime * 2);
    ensure!(pair.settled()? == first, "Failback=no, but the group moved to the late host {second} in the end");
    ensure!(pair.watch.tenures(VIP).len() == 1, "the address moved: {:?}", pair.watch.tenures(VIP));
    pair.never_two_owners()?;
    Ok(Sample { value: ms(took) - ms(initdead), from: usable, to })
}

/// initdead counts from then, so power-on and boot are no part of it.
fn first_usable_link(host: &Host, since: Instant) -> Result<Instant> {
    let said = host.said(&["SYSLOG_IDENTIFIER=hafailoverd"], since)?;
    let usable =
        said.iter().find(|entry| entry.field("HAFAILOVER_LINK").is_some() && entry.message.ends_with("usable"));
    usable.and_then(sent).ok_or_else(|| format!("{} reports no usable link: {said:?}", host.name()).into())
}
