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
    assert!(!starts(&bench.round(1151, vec![])), "the network is asked anew");
    assert!(starts(&bench.round(1300, vec![])));
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
    assert!(!stops(&met(ALPHA)));
    assert!(stops(&met(BETA)));
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
        config.groups[0].digest = digest;
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
        while let Some(next) = heart.next_deadline().filter(|next| *next < millis(at)) {
            heart.begin(next);
            heart.decide(next);
        }
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

#[test]
fn a_keeper_that_no_longer_may_own_it_is_asked_about_too() {
    let mut config = config(ALPHA);
    config.groups[0].nodes = vec![ALPHA];
    let mut bench = Bench::with(config, &[], Some(owned(BETA, 5)));
    assert!(starts(&bench.round(1200, vec![])), "{:?}", bench.heart.status().groups);
}

#[test]
fn a_goodbye_that_leaves_the_group_open_is_no_release() {
    let mut bench = Bench::new(ALPHA, &[], Some(Record { released: true, ..owned(ALPHA, 1) }));
    for at in [100, 200, 300, 400] {
        let says = bench.says(Role::Unknown, None);
        assert!(!starts(&bench.round(at, vec![says])));
    }
    bench.flags.left = true;
    let says = bench.says(Role::Unknown, None);
    assert!(!starts(&bench.round(500, vec![says])));
    assert!(!starts(&bench.round(799, vec![])));
    assert!(starts(&bench.round(950, vec![])), "after its silence, and a question to the network");
}

#[test]
fn the_first_start_of_all_asks_the_network() {
    let mut bench = Bench::new(ALPHA, &[], None);
    let says = bench.says(Role::Idle, None);
    bench.round(100, vec![says]);
    let says = bench.says(Role::Idle, None);
    assert!(!starts(&bench.round(110, vec![says])));
    let answer = Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 9] };
    let actions = bench.round(120, vec![answer]);
    assert!(!starts(&actions));
    let says = bench.says(Role::Idle, None);
    let actions = bench.round(200, vec![says]);
    assert!(!starts(&actions), "somebody answers");
    assert!(bench.heart.status().groups[0].reasons.iter().any(|reason| reason.contains("answers")));
}

#[test]
fn a_keeper_that_is_banned_and_deaf_does_not_hold_the_group_for_ever() {
    let mut bench = Bench::new(BETA, &[], Some(owned(ALPHA, 1)));
    let released = Record { released: true, ..owned(ALPHA, 1) };
    bench.follow(500);
    bench.banned = true;
    bench.echo = Some(bench.heart.sequence);
    let mut began = None;
    for at in (600..2000).step_by(100) {
        let says = bench.says(Role::Idle, Some(released));
        if starts(&bench.round(at, vec![says])) {
            began.get_or_insert(at);
        }
    }
    assert!(began.is_some_and(|at| at >= 800), "{began:?}");
    let reasons = bench.heart.status().groups[0].reasons.join("; ");
    let why = "alpha had released it, is banned from it, and had not heard beta for the deadtime";
    assert!(reasons.contains(why) && !reasons.contains("silent"), "{reasons}");
}

#[test]
fn an_operators_start_is_not_answered_by_a_ban_that_it_lifts() {
    let mut bench = Bench::new(ALPHA, &[], Some(Record { released: true, ..owned(ALPHA, 1) }));
    bench.round(10, vec![Event::Interface { interface: "eth0".into(), up: false }]);
    bench.banned = true;
    bench.keep(100, 500);
    let start = Event::Command { request: RequestId(1), command: Command::Start { group: GROUP } };
    let actions = bench.round(510, vec![start]);
    let refused = |action: &Action| matches!(action, Action::Reply { answer: Answer::Failed(_), .. });
    assert_eq!(position(&actions, refused), None, "{actions:?}");
}

#[test]
fn a_flood_keeps_a_dead_owner_alive_for_a_deadtime_at_most() {
    let mut bench = Bench::new(BETA, &[], None);
    bench.follow(500);
    let mut lost = None;
    for at in (510..2000).step_by(10) {
        bench.heart.begin(millis(at));
        bench.heart.leave_unread();
        if reports(&bench.heart.decide(millis(at)), |change| matches!(change, Change::NodeLost { .. })) {
            lost.get_or_insert(at);
        }
    }
    assert_eq!(lost, Some(810));
}

#[test]
fn a_silence_that_a_copy_put_off_is_not_this_nodes_lateness() {
    let mut bench = Bench::new(BETA, &[], None);
    bench.follow(500);
    bench.until(695);
    let Event::Heartbeat { message, .. } = bench.says(Role::Running, Some(owned(ALPHA, 1))) else { unreachable!() };
    bench.heart.begin(millis(695));
    bench.heart.hear(LINK, &message);
    bench.heart.decide(millis(695));
    // The same by the slower link, without a decision; then nothing more.
    bench.until(880);
    let before = bench.heart.next_deadline();
    bench.heart.begin(millis(880));
    bench.heart.hear(LinkId(1), &message);
    let next = bench.heart.next_deadline();
    assert!(before < next, "the end of its warntime, then the next heartbeat");
    bench.heart.begin(next.expect("a heartbeat is due"));
    assert_eq!(bench.heart.view.peers[&ALPHA].lateness, Duration::ZERO);
}

#[test]
fn a_node_says_why_it_took_a_group_over() {
    let mut bench = Bench::new(BETA, &[], None);
    bench.follow(500);
    assert!(starts(&bench.round(800, vec![])));
    bench.round(3900, vec![]);
    let reasons = bench.heart.status().groups[0].reasons.join("; ");
    assert!(reasons.contains("beta started it 3 s ago: alpha had been silent for the deadtime"), "{reasons}");
}

#[test]
fn an_answer_that_may_wait_unread_is_waited_for() {
    let mut bench = Bench::new(BETA, &[], None);
    bench.follow(500);
    let answer = Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 1] };
    bench.round(780, vec![answer.clone()]);
    // Held up, it asks the network anew at its end; the next round begins at once, and is held up a little too.
    bench.held_up(1000, 1105, vec![]);
    bench.once(millis(1106), millis(1170), vec![]);
    assert!(bench.heart.claims(GROUP).is_none(), "the answer may have come at 1107 ms");
    bench.once(millis(1170), millis(1170), vec![answer]);
    assert!(bench.heart.claims(GROUP).is_none());
}

#[test]
fn who_could_not_be_asked_kept_no_silence() {
    let mut bench = Bench::new(BETA, &[], None);
    bench.follow(500);
    let failed = || Event::ProbeFailed { group: GROUP, reason: "10.0.0.77: no buffer space".into() };
    for at in [701, 801, 901, 1001] {
        assert!(!starts(&bench.round(at, vec![failed()])), "{at} ms");
    }
    let reasons = bench.heart.status().groups[0].reasons.join("; ");
    assert!(reasons.contains("cannot be asked for its addresses: 10.0.0.77: no buffer space"), "{reasons}");
    // An answer to what was sent counts all the same.
    let answer = Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 1] };
    bench.round(1005, vec![answer]);
    assert!(!starts(&bench.round(1100, vec![])) && !starts(&bench.round(1250, vec![])));
    assert!(starts(&bench.round(1400, vec![])));
}

#[test]
fn what_this_node_released_itself_it_takes_again_only_where_nobody_answers() {
    for (answered, wanted) in [(false, true), (true, false)] {
        let mut bench = Bench::new(BETA, &[], Some(Record { released: true, ..owned(BETA, 2) }));
        bench.until(750);
        if answered {
            let answer = Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 1] };
            bench.round(750, vec![answer]);
        }
        // Late words of a peer that had not taken it when it said them.
        for at in [800, 810] {
            bench.banned = true;
            let says = bench.says(Role::Idle, Some(Record { released: true, ..owned(BETA, 2) }));
            bench.round(at, vec![says]);
        }
        assert_eq!(bench.heart.claims(GROUP).is_some(), wanted, "answered: {answered}");
    }
}

#[test]
fn nobody_is_given_what_a_host_that_is_not_heard_answers_for() {
    for answered in [false, true] {
        let released = Some(Record { released: true, ..owned(BETA, 2) });
        let mut bench = Bench::new(BETA, &[], released);
        bench.until(750);
        if answered {
            let answer = Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 3] };
            bench.round(750, vec![answer]);
        }
        let mut given = None;
        for at in (800..=1500).step_by(100) {
            let says = bench.says(Role::Idle, bench.heart.record(GROUP));
            bench.round(at, vec![says]);
            if bench.heart.record(GROUP).is_some_and(|record| record.heir == Some(ALPHA)) {
                given.get_or_insert(at);
            }
        }
        assert_eq!(given, Some(if answered { 1100 } else { 800 }));
    }
}

#[test]
fn who_may_have_said_more_than_came_is_not_idle() {
    let mut bench = Bench::new(ALPHA, &[], None);
    let role = |bench: &Bench| bench.heart.view.says(BETA, GROUP).map(|says| says.role);
    let says = bench.says(Role::Idle, None);
    bench.round(100, vec![says]);
    assert_eq!(role(&bench), Some(Role::Idle));
    // What changed was in another message, which is lost.
    let Event::Heartbeat { link, mut message } = bench.says(Role::Running, None) else { panic!("a heartbeat") };
    message.groups.clear();
    bench.round(110, vec![Event::Heartbeat { link, message }]);
    assert_eq!(role(&bench), Some(Role::Unknown));
    let says = bench.says(Role::Idle, None);
    bench.round(120, vec![says]);
    assert_eq!(role(&bench), Some(Role::Idle));
}

#[test]
fn a_release_that_may_be_as_old_as_the_silence_before_it_is_not_believed_against_the_network() {
    for answered in [false, true] {
        let mut bench = Bench::new(BETA, &[], Some(owned(ALPHA, 2)));
        for at in (100..=500).step_by(100) {
            let says = bench.says(Role::Running, Some(owned(ALPHA, 2)));
            bench.round(at, vec![says]);
        }
        let mut all = Vec::new();
        for at in (600..=1500).step_by(50) {
            let answer = Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 1] };
            all.extend(bench.round(at, if answered || at < 1000 { vec![answer] } else { vec![] }));
        }
        assert_eq!(starts(&all), !answered);
        if answered {
            // It was on its way for long: meanwhile alpha may have taken back what it had given.
            let given = Record { released: true, heir: Some(BETA), ..owned(ALPHA, 2) };
            for at in [1510, 1600, 1700] {
                let says = bench.says(Role::Idle, Some(given));
                assert!(!starts(&bench.round(at, vec![says])), "at {at}");
            }
        }
    }
}

#[test]
fn an_answer_of_the_network_is_stronger_than_a_release_that_came_after_it() {
    let mut bench = Bench::new(BETA, &[], Some(owned(ALPHA, 2)));
    for at in (100..=2000).step_by(100) {
        let says = bench.says(Role::Running, Some(owned(ALPHA, 2)));
        bench.round(at, vec![says]);
    }
    // It is late, and so asked for by way of its address.
    bench.round(2205, vec![]);
    bench.round(2210, vec![Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 1] }]);
    let given = Record { released: true, heir: Some(BETA), ..owned(ALPHA, 2) };
    let mut all = Vec::new();
    for at in (2220..2510).step_by(50) {
        let says = bench.says(Role::Idle, Some(given));
        all.extend(bench.round(at, vec![says]));
    }
    assert!(!starts(&all), "{all:?}");
    let says = bench.says(Role::Idle, Some(given));
    assert!(starts(&bench.round(2515, vec![says])), "a deadtime without an answer");
}

#[test]
fn what_a_node_was_late_by_does_not_shorten_its_joining() {
    let identity = Identity { incarnation: MINE, boot: BOOT };
    let mut heart = Cluster::new(Arc::new(config(ALPHA)), identity, &Saved::default(), &[], Time(0));
    heart.fold(Event::Interface { interface: "eth0".into(), up: true });
    heart.decide(Time(0));
    // Its next look was due at 700 ms, and came late.
    for (at, joined) in [(950, false), (1000, false), (1249, false), (1250, true)] {
        heart.begin(millis(at));
        heart.decide(millis(at));
        assert_eq!(heart.has_joined(), joined, "at {at} ms");
    }
}

/// Its last word at 500 ms; it released the group, and echoes nothing newer from then on.
fn beside_a_banned_keeper() -> (Bench, Record) {
    let mut bench = Bench::new(BETA, &[], Some(owned(ALPHA, 1)));
    bench.follow(500);
    bench.banned = true;
    bench.echo = Some(bench.heart.sequence - 1);
    (bench, Record { released: true, ..owned(ALPHA, 1) })
}

#[test]
fn who_slept_does_not_take_a_keeper_for_deaf() {
    let (mut bench, released) = beside_a_banned_keeper();
    let says = bench.says(Role::Idle, Some(released));
    bench.once(millis(3000), millis(3000), vec![says]);
    for at in [3110, 3120, 3290] {
        let says = bench.says(Role::Idle, Some(released));
        let actions = bench.round(at, vec![says]);
        assert!(!starts(&actions), "at {at} ms nobody could have heard it for a deadtime");
    }
}

#[test]
fn a_sleep_that_follows_a_flooded_round_is_a_sleep() {
    let mut bench = Bench::new(BETA, &[], None);
    bench.follow(500);
    bench.heart.begin(millis(510));
    bench.heart.leave_unread();
    bench.heart.decide(millis(510));
    bench.heart.begin(millis(9000));
    bench.heart.leave_unread();
    let actions = bench.heart.decide(millis(9000));
    assert!(reports(&actions, |change| matches!(change, Change::Slept { .. })), "{actions:?}");
    assert!(!reports(&actions, |change| matches!(change, Change::NodeLost { .. })), "{actions:?}");
}

#[test]
fn own_lateness_is_nobodys_deafness() {
    let (mut bench, released) = beside_a_banned_keeper();
    // Due at 600 ms and late by less than a deadtime.
    let says = bench.says(Role::Idle, Some(released));
    bench.once(millis(850), millis(850), vec![says]);
    let says = bench.says(Role::Idle, Some(released));
    let actions = bench.round(950, vec![says]);
    assert!(!starts(&actions), "it can have heard nothing between 600 and 850 ms");
}

#[test]
fn a_stop_ends_the_start_of_a_target_that_is_there_for_show() {
    let mut bench = Bench::with(config(ALPHA), &[], None);
    bench.ends = |action| match action {
        Action::StartMembers { .. } => Some(Outcome::Inspected(Actual::default())),
        _ => None,
    };
    // As a job that has not ended: its answer finds nobody.
    assert!(starts(&bench.round(1000, vec![])));
    bench.heart.groups[0].target = Some(OpId(999));
    let actions = bench.round(1010, vec![Event::Leave]);
    assert!(position(&actions, |action| matches!(action, Action::StopMembers { .. })).is_some(), "{actions:?}");
}
