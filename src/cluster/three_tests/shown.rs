//! Who has to show that nothing of a group is there before another puts it up, and who tells of a loss.

use super::*;

/// Alpha has started by beta's silence, and waits for what gamma shows.
fn granted(config: Config) -> Bench {
    let mut bench = Bench::with(config, &[], None);
    bench.round(1, vec![Event::Guard { group: GROUP, fault: None }]);
    beta_runs(&mut bench, 1000);
    let mut all = Vec::new();
    for at in (1100..=1500).step_by(100) {
        let says = gamma(&mut bench, Role::Idle, Some(owned(BETA, 1)), 1000);
        all.extend(bench.round(at, vec![says]));
    }
    assert!(starts(&all) && !puts_up(&all));
    bench
}

#[test]
fn one_that_nodes_does_not_name_may_have_something_of_it_too() {
    let mut bench = granted(three());
    Arc::make_mut(&mut bench.heart.config).groups[0].nodes = vec![ALPHA, BETA];
    let says = gamma(&mut bench, Role::Stopping, Some(owned(BETA, 1)), 1000);
    assert!(!puts_up(&bench.round(1600, vec![says])));
    // It need not know of the grant.
    let says = gamma(&mut bench, Role::Idle, Some(owned(BETA, 1)), 1000);
    assert!(puts_up(&bench.round(1700, vec![says])));
}

#[test]
fn one_that_has_not_told_all_is_waited_for() {
    let mut bench = granted(three());
    let record = bench.heart.record(GROUP);
    // Its group's word was lost: the digest of all it said does not fit.
    let Event::Heartbeat { link, mut message } = gamma(&mut bench, Role::Idle, record, 1000) else {
        panic!("a heartbeat")
    };
    message.groups.clear();
    bench.heart.view.peers.get_mut(&GAMMA).expect("a peer").groups.clear();
    assert!(!puts_up(&bench.round(1600, vec![Event::Heartbeat { link, message }])));
    let says = gamma(&mut bench, Role::Idle, record, 1000);
    assert!(puts_up(&bench.round(1700, vec![says])));
}

#[test]
fn a_loss_is_said_at_once_to_those_who_were_told_of_the_lost_one() {
    let mut bench = bench();
    beta_runs(&mut bench, 1000);
    let mut said_at = None;
    for at in 1100..=1500 {
        let says = if at % 100 == 0 { vec![gamma(&mut bench, Role::Idle, Some(owned(BETA, 1)), 1000)] } else { vec![] };
        let actions = bench.round(at, says);
        let lost = reports(&actions, |change| matches!(change, Change::NodeLost { .. }));
        if lost {
            let sent = position(&actions, |action| matches!(action, Action::Send(_)));
            said_at.get_or_insert((at, sent.is_some()));
        }
    }
    assert!(said_at.is_some_and(|(at, sent)| at < 1400 && sent), "{said_at:?}");
}

#[test]
fn of_two_that_do_not_know_what_they_have_one_changes_first() {
    // The same for both, whoever of them asks: the one whose name comes first does not wait.
    let waits = |me: NodeId| {
        let mut bench = Bench::with(config(me), &[], None);
        bench.ends = |action| matches!(action, Action::Inspect { .. }).then(|| Outcome::Unknown("no bus".into()));
        bench.heart.groups[0].phase = Phase::Unknown { held: None, op: None, found: Some("no bus".into()) };
        let to = GroupConfig { digest: 2, members: vec!["m.service".into()], ..group() };
        bench.heart.fold(Event::Files { groups: vec![to.clone()], request: None });
        for at in [100, 200, 300] {
            let Event::Heartbeat { link, mut message } = bench.says(Role::Unknown, None) else { panic!("a heartbeat") };
            message.groups[0].pending = Some(2);
            message.state.digest = message.groups[0].mark();
            bench.round(at, vec![Event::Heartbeat { link, message }]);
        }
        bench.heart.still_there(GROUP, &to).is_err()
    };
    assert_eq!((waits(ALPHA), waits(BETA)), (false, true));
}

#[test]
fn a_start_that_is_never_shown_is_given_up_with_nothing_put_up() {
    let mut bench = granted(three());
    // Gamma hears another node that has something of it, and goes on hearing that.
    let says = |bench: &mut Bench, at| {
        let record = bench.heart.record(GROUP);
        let says = gamma_says(bench, Role::Idle, record, |message| message.groups[0].contended = true);
        bench.round(at, vec![says])
    };
    let before: Vec<Action> = (1600..11_300).step_by(100).flat_map(|at| says(&mut bench, at)).collect();
    assert!(!stops(&before) && !puts_up(&before));
    let after: Vec<Action> = (11_300..20_000).step_by(100).flat_map(|at| says(&mut bench, at)).collect();
    assert!(stops(&after) && !puts_up(&after) && !starts(&after), "{after:?}");
    let record = bench.heart.record(GROUP).expect("a record");
    assert!(record.released && record.heir == Some(GAMMA), "gamma hears more: {record:?}");
}
