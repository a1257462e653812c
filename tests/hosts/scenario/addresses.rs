//! Somebody else deletes addresses.

use crate::ensure;
use crate::figures::ms;
use crate::pair::{Lab, Pair, vip};
use crate::settings::Settings;
use crate::sys::{Result, run_with_input, wait_for};
use crate::wires::{LANS, SERVICE};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);
const ROUNDS: usize = 100;
const BACK: f64 = 10.0;

pub fn row15_deleted_addresses(lab: &Lab) -> Result<String> {
    let numbers = 101..=120;
    let mut settings = Settings::new(200, 1000);
    settings.groups[0].addresses = numbers.clone().map(|number| format!("{}/24 dev {SERVICE}", vip(number))).collect();
    let pair = lab.pair(settings)?;
    let owner = pair.settled()?;
    let all: Vec<Ipv4Addr> = numbers.map(vip).collect();
    let deletions = deletions(&pair, &owner, &all)?;
    // The host's own, which the address beside them must not drag along.
    let own = LANS.map(|lan| pair.host(&owner).seat.address(lan));
    let mut deleted = vec![0; all.len()];
    let one = rounds(&pair, "one of 20", &mut deleted, |round| {
        let chosen = vec![round % all.len()];
        Ok((delete_and_wait(&pair, &owner, &all, &deletions, &chosen)?, chosen))
    })?;
    let every = rounds(&pair, "all 20", &mut deleted, |_| {
        let chosen: Vec<usize> = (0..all.len()).collect();
        Ok((delete_and_wait(&pair, &owner, &all, &deletions, &chosen)?, chosen))
    })?;
    for (address, deleted) in all.iter().zip(deleted) {
        // Its first appearance, then gone and back each time, and never else.
        let seen = pair.watch.changes(*address).len();
        ensure!(seen == 1 + 2 * deleted, "{address} was deleted {deleted} times and changed {seen} times");
    }
    let touched: Vec<_> = own.iter().flat_map(|address| pair.watch.changes(*address)).collect();
    ensure!(touched.is_empty(), "the host's own addresses were touched: {touched:?}");
    Ok(format!("worst {one}; {every}"))
}

/// Deletes until `ROUNDS` rounds count, in which this machine was punctual. Counts what was deleted how often.
fn rounds(
    pair: &Pair,
    what: &str,
    deleted: &mut [usize],
    mut delete: impl FnMut(usize) -> Result<(f64, Vec<usize>)>,
) -> Result<String> {
    let (mut worst, mut counted, mut tried) = (0.0_f64, 0, 0);
    while counted < ROUNDS {
        ensure!(tried < ROUNDS * 2, "this machine was late in all but {counted} of {tried} rounds");
        let from = Instant::now();
        let (back, chosen) = delete(tried).map_err(|error| format!("{what}, round {tried}: {error}"))?;
        tried += 1;
        chosen.iter().for_each(|index| deleted[*index] += 1);
        if pair.lab.sentinels.late_between(from, Instant::now()).is_some() {
            continue;
        }
        counted += 1;
        ensure!(back <= BACK, "{what} deleted, round {tried}: the last was back after {back:.1} ms");
        worst = worst.max(back);
    }
    Ok(format!("{what} back in {worst:.1} ms ({counted} rounds, left out {} of {tried})", tried - counted))
}

/// The `ip` command that deletes each address, with the prefix it has.
fn deletions(pair: &Pair, owner: &str, all: &[Ipv4Addr]) -> Result<Vec<String>> {
    let listing = pair.host(owner).run(&["ip", "-4", "-o", "address", "show", "dev", SERVICE])?;
    let with_prefix = |address: &Ipv4Addr| {
        let mut words = listing.split_whitespace();
        let found = words.find(|word| word.starts_with(&format!("{address}/")));
        found.map(|found| format!("address del {found} dev {SERVICE}\n"))
    };
    let found: Option<Vec<String>> = all.iter().map(with_prefix).collect();
    found.ok_or_else(|| format!("not all addresses are there: {listing}").into())
}

/// The longest time that one of the deleted was missing. Fails if another was touched.
fn delete_and_wait(pair: &Pair, owner: &str, all: &[Ipv4Addr], deletions: &[String], chosen: &[usize]) -> Result<f64> {
    let counts = || all.iter().map(|address| pair.watch.changes(*address).len()).collect::<Vec<_>>();
    let before = counts();
    let batch: String = chosen.iter().map(|index| deletions[*index].as_str()).collect();
    run_with_input("ip", &["-n", &pair.host(owner).seat.namespace(), "-batch", "-"], &batch)?;
    let complete = || chosen.iter().all(|index| counts()[*index] >= before[*index] + 2);
    wait_for("the deleted addresses", SOON, || complete().then_some(()))?;
    let mut worst: f64 = 0.0;
    for (index, address) in all.iter().enumerate() {
        let new = &pair.watch.changes(*address)[before[index]..];
        match new {
            [] if !chosen.contains(&index) => {}
            [gone, back] if chosen.contains(&index) && !gone.added && back.added => {
                worst = worst.max(ms(back.at - gone.at))
            }
            other => return Err(format!("{address}: {other:?}").into()),
        }
    }
    Ok(worst)
}
