//! The owner loses its power; and both hosts get theirs.

use crate::ensure;
use crate::figures::{Figures, Sample, ms};
use crate::http::Browser;
use crate::pair::{Lab, Pair, SETTLE, VIP};
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
    let figures = Figures::gather(&lab.sentinels, "ms", runs, || {
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
    let figures = Figures::gather(&lab.sentinels, "ms", 20, || {
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
fn own_start(host: &crate::host::Host, unit: &str) -> Result<Duration> {
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
    let alone = one_alone_then_the_other(lab)?;
    Ok(format!(
        "10 times one owner, {preferred} times the preferred one; beta alone after {:.2} s (initdead 2 s), and it kept the group",
        alone.as_secs_f64()
    ))
}

fn one_alone_then_the_other(lab: &Lab) -> Result<Duration> {
    let mut pair = lab.pair_off(Settings::new(100, 300))?;
    pair.host_mut("beta").switch_on()?;
    let booted = Instant::now();
    pair.beta().wait_booted()?;
    let limit = pair.settings.initdead + SETTLE;
    wait_for("the lonely host to own the group", limit, || (pair.watch.holders(VIP) == ["beta"]).then_some(()))?;
    let owned = booted_to_owned(&pair, booted)?;
    let initdead = pair.settings.initdead;
    ensure!(owned >= initdead, "owned after {owned:?}, initdead is {initdead:?}");
    ensure!(owned < initdead + Duration::from_secs(5), "owned only after {owned:?}, initdead is {initdead:?}");
    std::thread::sleep(Duration::from_secs(3));
    ensure!(pair.return_of("alpha")? == "beta", "Failback=no, but the group moved to the late host");
    ensure!(pair.watch.tenures(VIP).len() == 1, "the address moved: {:?}", pair.watch.tenures(VIP));
    pair.never_two_owners()?;
    Ok(owned)
}

fn booted_to_owned(pair: &Pair, booted: Instant) -> Result<Duration> {
    let tenures = pair.watch.tenures(VIP);
    let first = tenures.first().ok_or("nobody ever had the address")?;
    Ok(first.from - booted)
}
