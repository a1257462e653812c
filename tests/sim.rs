//! Many seeds of the simulated world, and each checker made to see red.
//!
//! `HAFAILOVER_SIM_SEEDS=20000 cargo test --release --test sim -- --nocapture` runs that many; `SEED=4711` tells one seed's story.

use hafailover::sim::{self, Sabotage};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: give a whole number")))
}

#[test]
fn no_seed_breaks_a_promise() {
    if let Some(seed) = number("SEED") {
        let ending = sim::tell(seed, Sabotage::None);
        println!("{}", ending.story);
        println!("seed {seed}: {:?}", ending.violation);
        assert!(ending.violation.is_none());
        return;
    }
    let from = number("HAFAILOVER_SIM_FROM").unwrap_or(0);
    let sweep = sim::sweep(from, from + number("HAFAILOVER_SIM_SEEDS").unwrap_or(300));
    println!("{}", sweep.table());
    let Some((seed, violation)) = sweep.violations.first_key_value() else { return };
    println!("{}", sim::tell(*seed, Sabotage::None).story);
    for (seed, violation) in &sweep.violations {
        println!("seed {seed}: {} at {} ms: {}", violation.checker, violation.at / sim::MS, violation.what);
    }
    panic!("seed {seed}: {}: {}; again with SEED={seed}", violation.checker, violation.what);
}

/// How many of some seeds a sabotage is noticed in, and by whom.
fn noticed(sabotage: Sabotage, checker: &str) -> u64 {
    let seen = |seed: &u64| sim::run(*seed, sabotage).violation.is_some_and(|violation| violation.checker == checker);
    (0..40).filter(seen).count() as u64
}

#[test]
fn a_host_that_does_not_stop_what_it_says_it_stopped_is_seen() {
    let seen = noticed(Sabotage::FalseStop, "rules");
    assert!(seen >= 10, "seen in {seen} of 40 worlds");
}

#[test]
fn an_owner_whom_nobody_told_is_seen() {
    let seen = noticed(Sabotage::Usurper, "one owner");
    assert!(seen >= 20, "seen in {seen} of 40 worlds");
}

#[test]
fn a_host_whose_steps_never_end_is_seen() {
    let seen = noticed(Sabotage::Stall, "settles");
    assert!(seen >= 20, "seen in {seen} of 40 worlds");
}

#[test]
fn a_seed_is_the_same_every_time() {
    for seed in 0..5 {
        assert_eq!(sim::tell(seed, Sabotage::None).story, sim::tell(seed, Sabotage::None).story);
    }
}
