//! What is different with more than two nodes: others hear whom this node does not hear, and may take what it wants to take.

use super::testing::*;
use super::*;
use crate::config::model::{NodeConfig, NodeTag};
use crate::wire::{Echo, Role};

const GAMMA: NodeId = NodeId(2);

/// Alpha, beta and gamma; a group without addresses, so that there is nothing to ask the network.
fn three() -> Config {
    let mut config = config(ALPHA);
    config.nodes.push(NodeConfig { name: "gamma".into(), tag: NodeTag(3) });
    config.groups[0].nodes = vec![ALPHA, BETA, GAMMA];
    config.groups[0].addresses.clear();
    config.groups[0].interfaces.clear();
    config.groups[0].members = vec!["db.service".into()];
    config
}

fn bench() -> Bench {
    let mut bench = Bench::with(three(), &[], None);
    bench.round(1, vec![Event::Guard { group: GROUP, fault: None }]);
    bench
}

/// What gamma says, who has heard beta up to a sequence.
fn gamma(bench: &mut Bench, role: Role, record: Option<Record>, beta: u64) -> Event {
    let Event::Heartbeat { link, mut message } = bench.says(role, record) else { panic!("a heartbeat") };
    message.sender = NodeTag(3);
    message.incarnation = Incarnation(300);
    message.boot = BootId(30);
    message.echoes.push(Echo { node: NodeTag(2), incarnation: Incarnation(200), sequence: beta, holds: 0 });
    Event::Heartbeat { link, message }
}

/// Until `until`, beta runs the group and both are heard.
fn beta_runs(bench: &mut Bench, until: u64) {
    let record = Some(owned(BETA, 1));
    for at in (100..=until).step_by(100) {
        let both = vec![bench.says(Role::Running, record), gamma(bench, Role::Idle, record, at)];
        assert!(!starts(&bench.round(at, both)));
    }
}

fn puts_up(actions: &[Action]) -> bool {
    position(actions, |action| matches!(action, Action::StartMembers { .. })).is_some()
}

#[test]
fn a_keeper_that_another_node_hears_is_not_silent() {
    let mut bench = bench();
    beta_runs(&mut bench, 1000);
    for at in (1100..=3000).step_by(100) {
        let says = gamma(&mut bench, Role::Idle, Some(owned(BETA, 1)), at);
        assert!(!starts(&bench.round(at, vec![says])), "at {at}");
    }
    // Now gamma hears it no more either.
    let mut started = None;
    for at in (3100..=3600).step_by(100) {
        let says = gamma(&mut bench, Role::Idle, Some(owned(BETA, 1)), 3000);
        if starts(&bench.round(at, vec![says])) {
            started.get_or_insert(at);
        }
    }
    assert_eq!(started, Some(3200), "a deadtime but a keepalive after gamma's last word of it");
}

#[test]
fn another_incarnation_that_others_echo_shows_no_life() {
    let mut bench = bench();
    beta_runs(&mut bench, 1000);
    let mut all = Vec::new();
    for at in (1100..=2000).step_by(100) {
        let Event::Heartbeat { link, mut message } = gamma(&mut bench, Role::Idle, Some(owned(BETA, 1)), at) else {
            panic!("a heartbeat")
        };
        // Recorded packets of two earlier runs, by turns.
        message.echoes[1].incarnation = Incarnation(200 + at / 100 % 2);
        all.extend(bench.round(at, vec![Event::Heartbeat { link, message }]));
    }
    assert!(starts(&all));
}

#[test]
fn nothing_is_put_up_by_silence_before_those_that_are_heard_know_of_it() {
    let mut bench = bench();
    beta_runs(&mut bench, 1000);
    let mut all = Vec::new();
    for at in (1100..=1500).step_by(100) {
        let says = gamma(&mut bench, Role::Idle, Some(owned(BETA, 1)), 1000);
        all.extend(bench.round(at, vec![says]));
    }
    assert!(starts(&all) && !puts_up(&all), "gamma may be taking it in the same moment: {all:?}");
    let record = bench.heart.record(GROUP);
    let says = gamma(&mut bench, Role::Idle, record, 1000);
    assert!(puts_up(&bench.round(1600, vec![says])));
}

#[test]
fn of_two_that_take_it_by_silence_the_one_with_the_lower_grant_puts_nothing_up() {
    let mut bench = bench();
    beta_runs(&mut bench, 1000);
    let mut all = Vec::new();
    for at in (1100..=1400).step_by(100) {
        let says = gamma(&mut bench, Role::Idle, Some(owned(BETA, 1)), 1000);
        all.extend(bench.round(at, vec![says]));
    }
    assert!(starts(&all));
    let says = gamma(&mut bench, Role::Starting, Some(owned(GAMMA, 3)), 1000);
    all.extend(bench.round(1500, vec![says]));
    assert!(stops(&all) && !puts_up(&all), "{all:?}");
}

#[test]
fn one_that_does_not_hear_this_node_is_not_waited_for_for_ever() {
    let mut bench = bench();
    beta_runs(&mut bench, 1000);
    bench.echo = Some(bench.heart.sequence);
    let mut silent = |until: u64, from: u64| {
        let mut all = Vec::new();
        for at in (from..=until).step_by(100) {
            let says = gamma(&mut bench, Role::Idle, Some(owned(BETA, 1)), 1000);
            all.extend(bench.round(at, vec![says]));
        }
        all
    };
    let (early, late) = (silent(2000, 1100), silent(2700, 2100));
    assert!(starts(&early) && !puts_up(&early), "its word may be long on its way: {early:?}");
    assert!(puts_up(&late), "{late:?}");
}

#[test]
fn one_that_has_it_and_does_not_hear_this_node_is_met_before_anything_is_up() {
    let mut bench = bench();
    beta_runs(&mut bench, 1000);
    bench.echo = Some(bench.heart.sequence);
    let mut all = Vec::new();
    for at in (1100..=2000).step_by(100) {
        let says = gamma(&mut bench, Role::Idle, Some(owned(BETA, 1)), 1000);
        all.extend(bench.round(at, vec![says]));
    }
    assert!(starts(&all) && !puts_up(&all), "{all:?}");
    // It took the group long ago, under a grant that this node's is higher than, and will not hear that.
    let says = gamma(&mut bench, Role::Running, Some(owned(GAMMA, 1)), 1000);
    let met = bench.round(2050, vec![says]);
    let two = |action: &Action| matches!(action, Action::Report(Change::TwoOwners { peer: GAMMA, .. }));
    assert!(position(&met, two).is_some(), "{met:?}");
}

#[test]
fn one_that_was_cut_off_and_is_heard_again_has_a_deadtime_to_show_that_it_hears() {
    let mut bench = bench();
    beta_runs(&mut bench, 1000);
    let cut_at = bench.heart.sequence - 5;
    for at in (1100..=2000).step_by(100) {
        let says = bench.says(Role::Running, Some(owned(BETA, 1)));
        bench.round(at, vec![says]);
    }
    // It may be taking the group itself: it has not heard this node for as long.
    bench.echo = Some(cut_at);
    let mut all = Vec::new();
    for at in (2200..=2400).step_by(100) {
        let says = gamma(&mut bench, Role::Idle, Some(owned(BETA, 1)), 1000);
        all.extend(bench.round(at, vec![says]));
    }
    assert!(starts(&all) && !puts_up(&all), "{all:?}");
}

#[test]
fn a_keeper_that_is_heard_is_waited_for_until_it_names_this_node() {
    let mut bench = bench();
    beta_runs(&mut bench, 500);
    let released = Record { released: true, ..owned(BETA, 1) };
    for at in (600..=2000).step_by(100) {
        let both = vec![bench.says(Role::Idle, Some(released)), gamma(&mut bench, Role::Idle, Some(released), at)];
        assert!(!starts(&bench.round(at, both)), "at {at}: it may start the group itself");
    }
    let says = bench.says(Role::Idle, Some(Record { heir: Some(ALPHA), ..released }));
    assert!(starts(&bench.round(2100, vec![says])));
}
