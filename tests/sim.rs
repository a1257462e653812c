//! Many seeds of the simulated world, and each checker made to see red.
//!
//! `make sim SEEDS=20000 FROM=0` runs that many; `make sim SEED=4711` tells one seed's story, and if it breaks a promise, the story
//! of the smallest plan that still does.

use hafailover::sim::{self, Plan, Sabotage};

/// From this many seeds on, every kind of fault must have struck in a twentieth of them.
const ENOUGH: u64 = 1000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: give a whole number")))
}

/// The smallest plan that breaks the same promise, and its story.
fn tell_smallest(seed: u64) {
    let Some((plan, violation)) = sim::shrink(Plan::new(seed), Sabotage::None) else { return };
    println!("{}", sim::tell(plan.clone(), Sabotage::None).story);
    println!("the smallest plan of seed {seed}: {}", plan.describe());
    println!("{}: {}", violation.checker, violation.what);
}

#[test]
fn no_seed_breaks_a_promise() {
    if let Some(seed) = number("SEED") {
        let ending = sim::tell(Plan::new(seed), Sabotage::None);
        println!("{}", ending.story);
        println!("seed {seed}: {:?}", ending.violation);
        tell_smallest(seed);
        assert!(ending.violation.is_none());
        return;
    }
    let from = number("HAFAILOVER_SIM_FROM").unwrap_or(0);
    let sweep = sim::sweep(from, from + number("HAFAILOVER_SIM_SEEDS").unwrap_or(300));
    println!("{}", sweep.table());
    for (seed, violation) in &sweep.violations {
        println!("seed {seed}: {} at {} ms: {}", violation.checker, violation.at / sim::MS, violation.what);
    }
    if let Some((seed, violation)) = sweep.violations.first_key_value() {
        tell_smallest(*seed);
        panic!("seed {seed}: {}: {}; again with SEED={seed}", violation.checker, violation.what);
    }
    assert!(sweep.poor.is_empty(), "less than five faults or ten minutes in the seeds {:?}", sweep.poor);
    let rare = sweep.rare();
    assert!(sweep.seeds < ENOUGH || rare.is_empty(), "in less than a twentieth of the seeds: {rare:?}");
}

#[test]
fn a_kind_of_fault_that_never_struck_is_rare() {
    let nothing = sim::Sweep { seeds: 1, ..sim::Sweep::default() };
    let rare = nothing.rare();
    assert!(rare.contains(&"PowerLoss") && rare.contains(&"FilesAndPowerLoss") && rare.len() > 60, "{rare:?}");
    let struck = sim::sweep(0, 1);
    let in_it: Vec<&&str> = struck.kinds.keys().collect();
    assert!(in_it.len() >= 3 && in_it.iter().all(|kind| rare.contains(kind)), "{in_it:?}");
    assert!(in_it.iter().all(|kind| !struck.rare().contains(kind)));
}

/// How many of some seeds a sabotage is noticed in, and by whom.
fn noticed(sabotage: Sabotage, checker: &str) -> u64 {
    noticed_in(40, sabotage, checker)
}

fn noticed_in(worlds: u64, sabotage: Sabotage, checker: &str) -> u64 {
    let seen = |seed: &u64| sim::run(*seed, sabotage).violation.is_some_and(|violation| violation.checker == checker);
    (0..worlds).filter(seen).count() as u64
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
fn a_group_that_is_moved_without_need_is_seen() {
    // Only in a world that is left in peace for long enough does anybody know that there was no need.
    let seen = noticed_in(160, Sabotage::Meddler, "needless moves");
    assert!(seen >= 10, "seen in {seen} of 160 worlds");
}

#[test]
fn a_group_that_goes_round_and_round_is_seen() {
    let seen = noticed(Sabotage::Juggler, "flapping");
    assert!(seen >= 5, "seen in {seen} of 40 worlds");
}

#[test]
fn an_operator_who_gets_no_answer_is_seen() {
    let seen = noticed(Sabotage::DeafOperator, "operations");
    assert!(seen >= 10, "seen in {seen} of 40 worlds");
}

/// In how many of 40 worlds a sabotage is noticed in these words.
fn noticed_so(sabotage: Sabotage, checker: &str, words: &str) -> u64 {
    let seen = |seed: &u64| {
        let violation = sim::run(*seed, sabotage).violation;
        violation.is_some_and(|it| it.checker == checker && it.what.contains(words))
    };
    (0..40).filter(seen).count() as u64
}

#[test]
fn a_start_with_packets_unread_is_seen() {
    let seen = noticed_so(Sabotage::Unread, "decisions", "with packets unread");
    assert!(seen >= 20, "seen in {seen} of 40 worlds");
}

#[test]
fn a_start_against_what_the_network_answers_is_seen() {
    let seen = noticed_so(Sabotage::LostAnswers, "one owner", "kernel has answered");
    assert!(seen >= 5, "seen in {seen} of 40 worlds");
}

#[test]
fn two_owners_that_hear_each_other_and_go_on_are_seen() {
    let seen = noticed_so(Sabotage::Stubborn, "one owner", "neither stops");
    assert!(seen >= 3, "seen in {seen} of 40 worlds");
}

#[test]
fn a_stop_that_never_ends_is_seen() {
    let seen = noticed_so(Sabotage::EndlessStop, "operations", "has been Stopping");
    assert!(seen >= 10, "seen in {seen} of 40 worlds");
    let seen = noticed_so(Sabotage::EndlessStop, "one owner", "have known of each other");
    assert!(seen >= 1, "seen in {seen} of 40 worlds");
}

#[test]
fn hearts_that_never_rest_are_seen() {
    let seen = noticed_so(Sabotage::Restless, "settles", "ms of rest");
    assert!(seen >= 20, "seen in {seen} of 40 worlds");
}

#[test]
fn a_failing_plan_is_cut_down() {
    let fails = |seed: &u64| sim::run(*seed, Sabotage::Usurper).violation.is_some_and(|it| it.checker == "one owner");
    let seed = (0..40).find(fails).expect("a usurper is seen in most worlds");
    let (plan, violation) = sim::shrink(Plan::new(seed), Sabotage::Usurper).expect("it failed before");
    assert_eq!(violation.checker, "one owner");
    // A usurper needs no help: nothing else has to go wrong, nor anybody but two nodes to be there.
    assert!(plan.faults.is_empty(), "{:?}", plan.faults);
    assert_eq!((plan.scenario.nodes, plan.scenario.groups.len()), (2, 1));
}

#[test]
fn a_seed_is_the_same_every_time() {
    for seed in 0..5 {
        let story = || sim::tell(Plan::new(seed), Sabotage::None).story;
        assert_eq!(story(), story());
    }
}
