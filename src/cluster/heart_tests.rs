//! What the whole heart does where one part alone does not show it: held up, flooded, beaten, met, alone.

use super::testing::*;
use super::*;
use crate::config::model::NodeId;
use crate::wire::Role;

#[test]
fn a_silent_owner_is_taken_over_after_the_deadtime() {
    let mut bench = Bench::new(BETA, &[], None);
    bench.follow(500);
    assert!(!starts(&bench.round(799, vec![])));
    let actions = bench.round(800, vec![]);
    assert!(reports(&actions, |change| matches!(change, Change::NodeLost { .. })), "{actions:?}");
    assert!(starts(&actions), "{actions:?}");
}

#[test]
fn what_was_not_read_yet_when_a_round_was_held_up_is_no_silence() {
    let mut bench = Bench::new(BETA, &[], None);
    bench.follow(500);
    // It read in time, and decides much later: what came meanwhile waits in the socket.
    let actions = bench.held_up(790, 1200, vec![]);
    assert!(!reports(&actions, |change| matches!(change, Change::NodeLost { .. })), "{actions:?}");
    assert!(!starts(&actions));
    let says = bench.says(Role::Running, Some(owned(ALPHA, 1)));
    let actions = bench.round(1201, vec![says]);
    assert!(!starts(&actions) && bench.heart.claims(GROUP).is_none());
}

#[test]
fn nobody_is_silent_while_packets_still_wait() {
    let mut bench = Bench::new(BETA, &[], None);
    bench.follow(500);
    bench.until(800);
    bench.heart.begin(millis(800));
    bench.heart.leave_unread();
    let actions = bench.heart.decide(millis(800));
    assert!(!reports(&actions, |change| matches!(change, Change::NodeLost { .. })), "{actions:?}");
    assert!(starts(&bench.round(801, vec![])), "once all is read, silence is silence");
}

#[test]
fn a_round_that_was_held_up_starts_nothing() {
    let mut bench = Bench::new(ALPHA, &[], None);
    // Alone, and at the end of initdead: it may start, but for having been held up.
    assert!(!starts(&bench.held_up(1000, 1150, vec![])));
    assert!(starts(&bench.round(1151, vec![])));
}

/// Two nodes that do not hear each other took the group in the same moment.
fn met(me: NodeId) -> Vec<Action> {
    let mut bench = Bench::new(me, &[], None);
    assert!(starts(&bench.round(1000, vec![])), "nobody answered before");
    let answer = Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 1] };
    bench.round(1050, vec![answer])
}

#[test]
fn of_two_that_met_on_the_network_the_later_one_lets_go() {
    let lets_go = |actions: &[Action]| reports(actions, |change| matches!(change, Change::GroupStopping { .. }));
    assert!(!lets_go(&met(ALPHA)));
    assert!(lets_go(&met(BETA)));
}

#[test]
fn what_an_earlier_run_left_is_stopped_unseen_where_another_owns_it() {
    let held = Held { group: "web".into(), grant: owned(ALPHA, 3).grant, phase: HeldPhase::Granted };
    let identity = Identity { incarnation: MINE, boot: BOOT };
    let mut heart = Cluster::new(Arc::new(config(ALPHA)), identity, &Saved::default(), &[held], Time(0));
    // The host does not say what runs here; the peer says that it owns the group.
    heart.begin(millis(1));
    heart.decide(millis(1));
    heart.groups[0].record = Some(owned(BETA, 4));
    heart.begin(millis(2));
    let actions = heart.decide(millis(2));
    let revoked = |action: &Action| matches!(action, Action::Hold { phase: HeldPhase::Stopping, .. });
    assert!(actions.iter().any(revoked), "{actions:?}");
}

#[test]
fn nodes_that_differ_in_their_configuration_start_nothing_new() {
    let released = Record { released: true, heir: Some(BETA), ..owned(ALPHA, 1) };
    for (digest, wanted) in [(1, true), (2, false)] {
        let mut config = config(BETA);
        config.groups_digest = digest;
        let mut bench = Bench::with(config, &[], None);
        for at in [100, 200, 300] {
            let says = bench.says(Role::Running, Some(owned(ALPHA, 1)));
            assert!(!starts(&bench.round(at, vec![says])));
        }
        let says = bench.says(Role::Idle, Some(released));
        assert_eq!(starts(&bench.round(400, vec![says])), wanted, "digest {digest}");
    }
}

#[test]
fn who_has_no_link_at_all_joins_after_initdead_of_the_service_network() {
    let identity = Identity { incarnation: MINE, boot: BOOT };
    let mut heart = Cluster::new(Arc::new(config(ALPHA)), identity, &Saved::default(), &[], Time(0));
    heart.begin(millis(500));
    heart.fold(Event::Interface { interface: "eth0".into(), up: true });
    heart.decide(millis(500));
    for (at, joined) in [(1499, false), (1500, true)] {
        heart.begin(millis(at));
        heart.decide(millis(at));
        assert_eq!(heart.has_joined(), joined, "at {at} ms");
    }
}

#[test]
fn without_any_carrier_nobody_joins() {
    let identity = Identity { incarnation: MINE, boot: BOOT };
    let mut heart = Cluster::new(Arc::new(config(ALPHA)), identity, &Saved::default(), &[], Time(0));
    heart.begin(millis(60_000));
    heart.decide(millis(60_000));
    assert!(!heart.has_joined());
}
