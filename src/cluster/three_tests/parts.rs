//! What files take from a group that an unheard node may have.

use super::*;

#[test]
fn what_an_unheard_owner_has_is_not_free_until_it_is_heard() {
    let mut config = three();
    config.groups[0].nodes = vec![GAMMA];
    let to = GroupConfig { members: Vec::new(), digest: 2, ..config.groups[0].clone() };
    let record = owned(GAMMA, 1);
    let mut bench = Bench::with(config, &[], Some(record));
    bench.heart.fold(Event::Files { groups: vec![to], request: None });
    let reads_the_same = |message: &mut Message| message.groups[0].pending = Some(2);
    let both = |bench: &mut Bench, at: u64, gammas: bool| {
        let Event::Heartbeat { link, mut message } = bench.says(Role::Idle, Some(record)) else {
            panic!("a heartbeat")
        };
        reads_the_same(&mut message);
        message.state.digest = message.groups[0].mark();
        let mut events = vec![Event::Heartbeat { link, message }];
        if gammas {
            let released = Record { released: true, ..record };
            events.push(gamma_says(bench, Role::Idle, Some(released), reads_the_same));
        }
        bench.round(at, events);
    };
    (100..=4000).step_by(100).for_each(|at| both(&mut bench, at, false));
    assert_eq!(bench.heart.config.group(GROUP).digest, 1);
    let waits = bench.heart.status().rollout[0].waits.clone().expect("a reason");
    assert!(waits.contains("waits for gamma") && waits.contains("Nodes="), "{waits}");
    (4100..=4500).step_by(100).for_each(|at| both(&mut bench, at, true));
    assert_eq!(bench.heart.config.group(GROUP).digest, 2);
}

#[test]
fn an_unheard_heir_may_have_what_was_released() {
    let mut config = three();
    config.groups[0].nodes = vec![GAMMA];
    let to = GroupConfig { members: Vec::new(), digest: 2, ..config.groups[0].clone() };
    let released = Record { released: true, heir: Some(GAMMA), ..owned(BETA, 1) };
    let mut bench = Bench::with(config, &[], Some(released));
    bench.heart.fold(Event::Files { groups: vec![to], request: None });
    for at in (100..=3000).step_by(100) {
        let Event::Heartbeat { link, mut message } = bench.says(Role::Idle, Some(released)) else {
            panic!("a heartbeat")
        };
        message.groups[0].pending = Some(2);
        message.state.digest = message.groups[0].mark();
        bench.round(at, vec![Event::Heartbeat { link, message }]);
    }
    assert_eq!(bench.heart.config.group(GROUP).digest, 1);
}

#[test]
fn a_keeper_that_booted_alone_lets_nothing_go_that_another_may_have_taken() {
    let mut config = three();
    config.groups[0].nodes = vec![BETA, ALPHA];
    // Of an earlier boot, in which it gave the group up.
    let before = Grant { epoch: Epoch(1), node: ALPHA, boot: BootId(77) };
    let mut bench = Bench::with(config, &[], Some(Record { released: true, ..Record::owned(before) }));
    bench.heart.fold(Event::Files { groups: vec![], request: None });
    (100..=3000).step_by(100).for_each(|at| drop(bench.round(at, vec![])));
    assert!(!bench.heart.config.group(GROUP).is_gone());
    let waits = bench.heart.status().rollout[0].waits.clone().expect("a reason");
    assert!(waits.contains("waits for beta"), "{waits}");
}
