//! Somebody else deletes addresses.

use crate::ensure;
use crate::figures::ms;
use crate::pair::{Lab, Pair, vip};
use crate::settings::Settings;
use crate::sys::{Result, run_with_input, wait_for};
use crate::wires::SERVICE;
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
    let (mut one, mut every, mut left_out) = (0.0_f64, 0.0_f64, 0);
    for round in 0..ROUNDS {
        let single = round % all.len();
        for (chosen, worst) in [(vec![single], &mut one), ((0..all.len()).collect(), &mut every)] {
            let from = Instant::now();
            let back = delete_and_wait(&pair, &owner, &all, &deletions, &chosen)?;
            if lab.sentinels.late_between(from, Instant::now()).is_some() {
                left_out += 1;
                continue;
            }
            ensure!(
                back <= BACK,
                "round {round}: {} of 20 deleted, the last was back after {back:.1} ms",
                chosen.len()
            );
            *worst = worst.max(back);
        }
    }
    let tries = ROUNDS * 2;
    ensure!(left_out <= tries / 2, "this machine was late in {left_out} of {tries} rounds");
    let nic = pair.host(&owner).run(&["ip", "-4", "-br", "address", "show", "dev", SERVICE])?;
    ensure!(nic.contains(&pair.host(&owner).seat.address(SERVICE).to_string()), "the host's own address went: {nic}");
    Ok(format!(
        "{ROUNDS} rounds: worst one of 20 back in {one:.1} ms, worst all 20 in {every:.1} ms, left out {left_out} of {tries}"
    ))
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
