//! What is different with more than two nodes: others hear whom this node does not hear, and may take what it wants to take.

use super::group::Phase;
use super::testing::*;
use super::*;
use crate::config::model::{GroupConfig, NodeConfig, NodeTag};
use crate::wire::{Echo, Role};

mod parts;
mod shown;

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

/// The same, changed by the test.
fn gamma_says(bench: &mut Bench, role: Role, record: Option<Record>, change: impl Fn(&mut Message)) -> Event {
    let Event::Heartbeat { link, mut message } = gamma(bench, role, record, 1000) else { panic!("a heartbeat") };
    change(&mut message);
    message.state.digest = message.groups[0].mark();
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

#[test]
fn who_relays_is_believed_until_it_is_silent_itself() {
    let mut bench = bench();
    beta_runs(&mut bench, 1000);
    for at in (1100..=3000).step_by(100) {
        let says = gamma(&mut bench, Role::Idle, Some(owned(BETA, 1)), at);
        assert!(!starts(&bench.round(at, vec![says])), "at {at}");
    }
    // Gamma stalls: what it heard last may still be so.
    assert!(!starts(&bench.round(3290, vec![])));
    assert!(starts(&bench.round(3310, vec![])));
}

#[test]
fn a_node_that_left_and_came_back_unheard_is_no_release() {
    let mut bench = bench();
    beta_runs(&mut bench, 1000);
    let released = Record { released: true, ..owned(BETA, 1) };
    let Event::Heartbeat { link, mut message } = bench.says(Role::Idle, Some(released)) else { panic!("a heartbeat") };
    message.flags.left = true;
    let gammas = Record::owned(Grant { epoch: Epoch(2), node: GAMMA, boot: BootId(30) });
    let says = gamma(&mut bench, Role::Running, Some(gammas), 1000);
    bench.round(1050, vec![Event::Heartbeat { link, message }, says]);
    // Gamma hears beta's next run, and gives the group to it.
    let given = Record { released: true, heir: Some(BETA), ..gammas };
    let mut all = Vec::new();
    for at in (1100..=3000).step_by(100) {
        let (role, record) = if at < 2000 { (Role::Running, gammas) } else { (Role::Idle, given) };
        let says = gamma_says(&mut bench, role, Some(record), |message| {
            message.echoes[1].incarnation = Incarnation(201);
            message.echoes[1].sequence = at;
        });
        all.extend(bench.round(at, vec![says]));
    }
    assert!(!starts(&all), "beta is the heir");
    let says = gamma_says(&mut bench, Role::Idle, Some(given), |message| message.echoes.truncate(1));
    assert!(!starts(&bench.round(3050, vec![says])));
}

#[test]
fn of_an_heir_that_fell_silent_its_silence_is_the_cause() {
    let mut bench = bench();
    beta_runs(&mut bench, 1000);
    let grant = Grant { epoch: Epoch(2), node: GAMMA, boot: BootId(30) };
    let given = Record { released: true, heir: Some(BETA), ..Record::owned(grant) };
    let mut all = Vec::new();
    for at in (1100..=1600).step_by(100) {
        let says = gamma(&mut bench, Role::Idle, Some(given), 1000);
        all.extend(bench.round(at, vec![says]));
    }
    assert!(starts(&all));
    let reasons = bench.heart.status().groups[0].reasons.join("; ");
    assert!(reasons.contains("beta had been silent for the deadtime") && !reasons.contains("gamma had"), "{reasons}");
}

#[test]
fn what_a_node_was_given_after_its_goodbye_is_no_release_at_once() {
    let mut bench = bench();
    beta_runs(&mut bench, 1000);
    let released = Record { released: true, ..owned(BETA, 1) };
    let Event::Heartbeat { link, mut message } = bench.says(Role::Idle, Some(released)) else { panic!("a heartbeat") };
    message.flags.left = true;
    let gammas = Record::owned(Grant { epoch: Epoch(2), node: GAMMA, boot: BootId(30) });
    let says = gamma(&mut bench, Role::Running, Some(gammas), 1000);
    bench.round(1050, vec![Event::Heartbeat { link, message }, says]);
    let given = Record { released: true, heir: Some(BETA), ..gammas };
    let mut started = None;
    for at in (1100..=2000).step_by(50) {
        let says = gamma(&mut bench, Role::Idle, Some(given), 1000);
        if starts(&bench.round(at, vec![says])) {
            started.get_or_insert(at);
        }
    }
    assert_eq!(started, Some(1350), "a deadtime after its goodbye: gamma shows no sign of it");
}

#[test]
fn nothing_is_put_up_while_somebody_has_something_of_it_or_hears_somebody_who_has() {
    for contended in [false, true] {
        let mut bench = bench();
        beta_runs(&mut bench, 1000);
        let mut all = Vec::new();
        for at in (1100..=1500).step_by(100) {
            let says = gamma(&mut bench, Role::Idle, Some(owned(BETA, 1)), 1000);
            all.extend(bench.round(at, vec![says]));
        }
        assert!(starts(&all));
        let record = bench.heart.record(GROUP);
        // It knows of the grant, and ends what it had; or it hears one that does.
        let role = if contended { Role::Idle } else { Role::Stopping };
        for at in (1600..=2000).step_by(100) {
            let says = gamma_says(&mut bench, role, record, |message| message.groups[0].contended = contended);
            assert!(!puts_up(&bench.round(at, vec![says])), "at {at}");
        }
        let says = gamma(&mut bench, Role::Idle, record, 1000);
        assert!(puts_up(&bench.round(2100, vec![says])));
    }
}

#[test]
fn who_puts_it_up_late_meets_others_on_the_network_as_well() {
    let config = Config { groups: vec![GroupConfig { nodes: vec![ALPHA, BETA, GAMMA], ..group() }], ..three() };
    let mut bench = Bench::with(config, &[], None);
    beta_runs(&mut bench, 1000);
    let gammas = |bench: &mut Bench, role: Role, at: u64| {
        let record = if at > 1500 { bench.heart.record(GROUP) } else { Some(owned(BETA, 1)) };
        let says = gamma(bench, role, record, 1000);
        bench.round(at, vec![says])
    };
    let puts_up = |actions: &[Action]| position(actions, |it| matches!(it, Action::AddAddresses { .. })).is_some();
    let first: Vec<Action> = (1100..=1500).step_by(100).flat_map(|at| gammas(&mut bench, Role::Idle, at)).collect();
    assert!(starts(&first) && !puts_up(&first));
    // Gamma ends what it had, for longer than a deadtime.
    (1600..=2000).step_by(100).for_each(|at| assert!(!puts_up(&gammas(&mut bench, Role::Stopping, at))));
    assert!(bench.heart.status().groups[0].reasons.iter().any(|it| it.contains("waits: gamma does not show yet")));
    assert!(puts_up(&gammas(&mut bench, Role::Idle, 2100)));
    let asks = |action: &Action| matches!(action, Action::Probe { .. });
    assert!(position(&gammas(&mut bench, Role::Idle, 2250), asks).is_some());
}

#[test]
fn others_are_told_who_has_something_of_a_group_that_another_owns() {
    let mut bench = bench();
    beta_runs(&mut bench, 1000);
    let said = |actions: &[Action]| {
        let mut messages = actions.iter().filter_map(|action| match action {
            Action::Send(message) => message.groups.first().map(|says| says.contended),
            _ => None,
        });
        messages.next_back()
    };
    let record = Some(owned(BETA, 1));
    let mut last = Vec::new();
    for (at, role) in [(1100, Role::Stopping), (1200, Role::Stopping), (1300, Role::Idle), (1400, Role::Idle)] {
        let both = vec![bench.says(Role::Running, record), gamma(&mut bench, role, record, at)];
        last.extend(said(&bench.round(at, both)));
    }
    assert_eq!((last.contains(&true), last.last()), (true, Some(&false)), "{last:?}");
}

#[test]
fn a_keeper_that_may_give_the_group_to_one_who_is_not_heard_is_waited_for() {
    for hears_gamma in [true, false] {
        let mut bench = bench();
        beta_runs(&mut bench, 1000);
        (bench.banned, bench.echo) = (true, Some(bench.heart.sequence));
        let released = Record { released: true, ..owned(BETA, 1) };
        let mut all = Vec::new();
        for at in (1100..=3000).step_by(100) {
            let Event::Heartbeat { link, mut message } = bench.says(Role::Idle, Some(released)) else {
                panic!("a heartbeat")
            };
            if hears_gamma {
                let (node, incarnation) = (NodeTag(3), Incarnation(300));
                message.echoes.push(Echo { node, incarnation, sequence: at, holds: 0 });
            }
            all.extend(bench.round(at, vec![Event::Heartbeat { link, message }]));
        }
        assert_eq!(starts(&all), !hears_gamma);
    }
}

#[test]
fn a_planned_move_is_not_held_up_by_the_answers_of_its_owner_while_another_node_is_off() {
    let config = Config { groups: vec![GroupConfig { nodes: vec![ALPHA, BETA, GAMMA], ..group() }], ..three() };
    let mut bench = Bench::with(config, &[], None);
    let record = Record::owned(Grant { epoch: Epoch(2), node: GAMMA, boot: BootId(30) });
    let mut all = Vec::new();
    for at in (100..=2000).step_by(100) {
        // Its kernel answers whoever asks.
        let answer = Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 1] };
        let says = gamma(&mut bench, Role::Running, Some(record), at);
        all.extend(bench.round(at, vec![says, answer]));
    }
    let asks = |action: &Action| matches!(action, Action::Probe { .. });
    assert_eq!(position(&all[all.len() / 2..], asks), None, "nothing can start here");
    let given = Record { released: true, heir: Some(ALPHA), ..record };
    let mut started = None;
    for at in (2100..=2500).step_by(50) {
        let says = gamma(&mut bench, Role::Idle, Some(given), at);
        let actions = bench.round(at, vec![says]);
        assert!(started.is_some() || starts(&actions) || at > 2100 || position(&actions, asks).is_some());
        if starts(&actions) {
            started.get_or_insert(at);
        }
    }
    assert!(started.is_some_and(|at| at <= 2200), "beta is off, and is asked for once: {started:?}");
}

#[test]
fn two_that_let_go_for_a_third_one_that_is_off_try_again_one_after_the_other() {
    let again = |me: NodeId| {
        let config = Config { groups: vec![GroupConfig { nodes: vec![ALPHA, BETA, GAMMA], ..group() }], ..three() };
        let mut bench = Bench::with(Config { me, ..config }, &[], None);
        let mut met = None;
        for at in (100..=8000).step_by(50) {
            let answer = Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 1] };
            let running = matches!(bench.heart.group(GROUP).phase, Phase::Running { .. });
            let events = if running && met.is_none() { vec![answer] } else { vec![] };
            let actions = bench.round(at, events);
            if stops(&actions) {
                met = Some(at);
            } else if met.is_some() && starts(&actions) {
                return at - met.unwrap_or_default();
            }
        }
        panic!("it is never tried again, met: {met:?}");
    };
    let (beta, gamma) = (again(BETA), again(GAMMA));
    assert!(gamma >= beta + 2 * 100, "after {beta} and {gamma} ms");
}

#[test]
fn each_of_two_rivals_is_told_of_once() {
    let mut bench = bench();
    for at in (100..=1000).step_by(100) {
        let both = vec![bench.says(Role::Idle, None), gamma(&mut bench, Role::Idle, None, at)];
        bench.round(at, both);
    }
    let mine = bench.heart.record(GROUP).expect("it runs here");
    let mut all = Vec::new();
    for at in (1100..=2000).step_by(100) {
        // Both have been beaten, and their stops hang.
        let both = vec![bench.says(Role::Stopping, Some(mine)), gamma(&mut bench, Role::Stopping, Some(mine), at)];
        all.extend(bench.round(at, both));
    }
    let two = |action: &&Action| matches!(action, Action::Report(Change::TwoOwners { .. }));
    assert_eq!(all.iter().filter(two).count(), 2);
}

#[test]
fn only_a_preferred_node_that_went_itself_comes_back_to_what_was_moved_away_from_it() {
    let mut config = three();
    config.groups[0].nodes = vec![BETA, GAMMA, ALPHA];
    config.groups[0].failback = crate::config::model::Failback::Yes;
    let mut bench = Bench::with(config, &[], Some(Record::owned(Grant { epoch: Epoch(1), node: ALPHA, boot: BOOT })));
    bench.round(1, vec![Event::Guard { group: GROUP, fault: None }]);
    let both = |bench: &mut Bench, from: u64, until: u64, gamma_left: bool| {
        let mut all = Vec::new();
        for at in (from..=until).step_by(100) {
            let record = bench.heart.record(GROUP);
            let one = bench.says(Role::Idle, record);
            let other = gamma_says(bench, Role::Idle, record, |message| message.flags.standby = gamma_left);
            all.extend(bench.round(at, vec![one, other]));
        }
        all
    };
    bench.flags.standby = true;
    both(&mut bench, 100, 1000, true);
    assert_eq!(bench.heart.role(GROUP), Role::Running);
    bench.heart.groups[0].parked = true;
    bench.flags.standby = false;
    // Gamma went, and beta, from which it was moved away, would get it.
    let all = [both(&mut bench, 1100, 1500, true), both(&mut bench, 1600, 3000, false)].concat();
    assert!(!stops(&all), "{all:?}");
    // Beta goes: nobody is left from whom it was moved away.
    bench.flags.standby = true;
    let all = both(&mut bench, 3100, 3500, false);
    let to =
        |change: &Change| matches!(change, Change::GroupStopping { reason, .. } if reason.contains("gamma is pref"));
    assert!(reports(&all, to), "{all:?}");
}

#[test]
fn an_unheard_node_that_nodes_does_not_name_is_asked_for_too() {
    let config = Config { groups: vec![GroupConfig { nodes: vec![ALPHA], ..group() }], ..three() };
    let released = Record { released: true, ..owned(ALPHA, 1) };
    let mut bench = Bench::with(config, &[], Some(released));
    let mut all = Vec::new();
    for at in (100..=4000).step_by(50) {
        // Beta is not heard, and has it by former files.
        let answer = Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 1] };
        all.extend(bench.round(at, vec![answer]));
    }
    assert!(!starts(&all) && position(&all, |action| matches!(action, Action::Probe { .. })).is_some());
}
