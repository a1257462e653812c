//! What an owner does with its group: stops, goes on, puts back, is beaten, is told by an operator.

use super::testing::*;
use super::*;
use crate::wire::Role;

fn with_member() -> Config {
    let mut config = config(ALPHA);
    config.groups[0].members = vec!["db.service".into()];
    config
}

fn owner_with_member() -> Bench {
    let mut bench = Bench::with(with_member(), &[], None);
    let ready = Event::Guard { group: GROUP, fault: None };
    assert!(starts(&bench.round(1000, vec![ready])));
    bench.keep(1000, 1500);
    bench
}

fn claims_more(bench: &mut Bench) -> Event {
    bench.says(Role::Running, Some(owned(BETA, 7)))
}

#[test]
fn a_note_that_cannot_be_written_stops_no_stop_and_releases_nothing() {
    let mut bench = Bench::owner(config(ALPHA));
    bench.ends = |action| match action {
        Action::Hold { phase: HeldPhase::Stopping, .. } => Some(Outcome::Failed("no room".into())),
        _ => None,
    };
    let stop = Event::Command { request: RequestId(1), command: Command::Stop { group: GROUP } };
    let actions = bench.round(1600, vec![stop]);
    assert!(position(&actions, |action| matches!(action, Action::RemoveAddresses { .. })).is_some(), "{actions:?}");
    assert_eq!(bench.heart.role(GROUP), Role::Stopping);
    bench.ends = |_| None;
    let actions = bench.round(2700, vec![]);
    assert!(reports(&actions, |change| matches!(change, Change::GroupReleased { .. })), "{actions:?}");
}

#[test]
fn a_beaten_owner_lets_its_addresses_go_first_even_if_its_members_do_not_stop() {
    let mut bench = owner_with_member();
    bench.ends = |action| match action {
        Action::StopMembers { .. } => Some(Outcome::Unknown("it hangs".into())),
        _ => None,
    };
    let claim = claims_more(&mut bench);
    let actions = bench.round(1600, vec![claim]);
    let addresses = position(&actions, |action| matches!(action, Action::RemoveAddresses { .. }));
    let members = position(&actions, |action| matches!(action, Action::StopMembers { .. }));
    assert!(addresses.is_some() && addresses < members, "{actions:?}");
}

#[test]
fn a_stop_that_another_node_overtakes_lets_its_addresses_go() {
    let mut bench = owner_with_member();
    bench.ends = |action| match action {
        Action::StopMembers { .. } => Some(Outcome::Unknown("it hangs".into())),
        _ => None,
    };
    let removed = |action: &Action| matches!(action, Action::RemoveAddresses { .. });
    assert_eq!(position(&bench.round(1600, vec![Event::Leave]), removed), None);
    let claim = claims_more(&mut bench);
    assert!(position(&bench.round(1700, vec![claim]), removed).is_some());
}

#[test]
fn an_ordinary_stop_ends_members_before_addresses() {
    let mut bench = owner_with_member();
    let actions = bench.round(1600, vec![Event::Leave]);
    let addresses = position(&actions, |action| matches!(action, Action::RemoveAddresses { .. }));
    let members = position(&actions, |action| matches!(action, Action::StopMembers { .. }));
    assert!(members.is_some() && members < addresses, "{actions:?}");
}

#[test]
fn a_higher_record_under_which_nothing_runs_stops_nobody() {
    let mut bench = Bench::owner(config(ALPHA));
    let released = Record { released: true, ..owned(BETA, 7) };
    let says = bench.says(Role::Idle, Some(released));
    let actions = bench.round(1600, vec![says]);
    assert!(!stops(&actions), "{actions:?}");
    assert_eq!(bench.heart.claims(GROUP).map(|grant| (grant.node, grant.epoch)), Some((ALPHA, Epoch(8))));
    assert_eq!(bench.heart.record(GROUP).map(|record| record.grant), bench.heart.claims(GROUP));
}

#[test]
fn a_higher_record_that_was_given_to_another_stops_this_one() {
    let mut bench = Bench::owner(config(ALPHA));
    let given = Record { released: true, heir: Some(BETA), ..owned(BETA, 7) };
    let says = bench.says(Role::Idle, Some(given));
    assert!(stops(&bench.round(1600, vec![says])));
}

#[test]
fn a_member_that_fails_in_the_moment_its_start_ends_is_seen() {
    let mut bench = Bench::with(with_member(), &[], None);
    bench.ends = |action| match action {
        // Answered below, in one round with the failure.
        Action::StartMembers { .. } => Some(Outcome::Inspected(Actual::default())),
        _ => None,
    };
    let ready = Event::Guard { group: GROUP, fault: None };
    let actions = bench.round(1000, vec![ready]);
    let started = actions.iter().find_map(|action| match action {
        Action::StartMembers { op, .. } => Some(*op),
        _ => None,
    });
    let done = Event::Finished { op: started.expect("it starts"), outcome: Outcome::Done };
    let down = Event::MemberDown { group: GROUP, unit: "db.service".into(), reason: "exit 1".into() };
    assert!(stops(&bench.round(1010, vec![done, down])));
}

#[test]
fn a_beaten_owner_that_is_heard_again_announces_nothing() {
    let mut bench = Bench::owner(config(ALPHA));
    bench.round(6000, vec![]);
    let claim = claims_more(&mut bench);
    let actions = bench.round(6001, vec![claim]);
    assert!(stops(&actions) && position(&actions, |action| matches!(action, Action::Announce { .. })).is_none());
}

#[test]
fn who_slept_announces_nothing_before_it_has_listened() {
    let mut bench = Bench::owner(config(ALPHA));
    // Its announcements go on for some seconds, and a pause comes in between.
    let actions = bench.once(millis(6000), millis(6000), Vec::new());
    assert!(reports(&actions, |change| matches!(change, Change::Slept { .. })), "{actions:?}");
    assert_eq!(position(&actions, |action| matches!(action, Action::Announce { .. })), None);
}

#[test]
fn a_start_that_never_ends_is_left_to_the_other_node() {
    let mut bench = Bench::with(with_member(), &[], Some(Record { released: true, ..owned(ALPHA, 1) }));
    bench.ends = |action| match action {
        Action::StartMembers { .. } => Some(Outcome::Unknown("the bus does not answer".into())),
        _ => None,
    };
    bench.round(50, vec![Event::Guard { group: GROUP, fault: None }]);
    bench.keep(100, 700);
    assert_eq!(bench.heart.record(GROUP).and_then(|record| record.heir), Some(BETA));
}

#[test]
fn a_host_that_goes_down_says_so() {
    let mut bench = Bench::owner(config(ALPHA));
    bench.round(1600, vec![Event::HostStopping]);
    bench.round(3000, vec![]);
    let blocked = bench.heart.status().groups[0].reasons.join(" ");
    assert!(blocked.contains("alpha: this host is going down"), "{blocked}");
}

#[test]
fn the_end_of_a_target_that_runs_elsewhere_is_no_operators_word() {
    let mut bench = Bench::new(BETA, &[], None);
    bench.follow(500);
    bench.round(510, vec![Event::TargetStopped { group: GROUP }]);
    assert!(!bench.heart.operator_order(GROUP).stopped);
    let mut bench = Bench::owner(config(ALPHA));
    bench.round(1510, vec![Event::TargetStopped { group: GROUP }]);
    assert!(bench.heart.operator_order(GROUP).stopped);
}

#[test]
fn an_address_that_cannot_be_put_back_is_told_once_and_moves_the_group() {
    let mut bench = Bench::owner(config(ALPHA));
    bench.ends = |action| match action {
        Action::RepairAddress { .. } => Some(Outcome::Failed("it is on eth1".into())),
        _ => None,
    };
    let lost = || Event::AddressLost { group: GROUP, index: 0 };
    let told = |change: &Change| matches!(change, Change::AddressNotRepaired { .. });
    bench.flags.joined = false;
    let says = bench.says(Role::Idle, bench.heart.record(GROUP));
    let actions = bench.round(1510, vec![says, lost()]);
    assert!(reports(&actions, told) && !reports(&actions, |change| matches!(change, Change::AddressRepaired { .. })));
    assert!(!stops(&actions), "nobody else is ready");
    assert!(!reports(&bench.round(1520, vec![lost()]), told));
    bench.flags.joined = true;
    assert!(stops(&bench.keep(1600, 1600)));
    bench.keep(1700, 1700);
    assert_eq!(bench.heart.record(GROUP).and_then(|record| record.heir), Some(BETA));
}

#[test]
fn addresses_that_went_with_their_interface_are_put_back_under_one_word() {
    let mut config = config(ALPHA);
    let second = config.groups[0].addresses[0].clone();
    config.groups[0].addresses.push(second);
    let mut bench = Bench::owner(config);
    let flushed = |index| Event::AddressFlushed { group: GROUP, index };
    let actions = bench.round(1510, vec![flushed(0), flushed(1)]);
    let repairs = actions.iter().filter(|action| matches!(action, Action::RepairAddress { .. })).count();
    assert_eq!(repairs, 2);
    assert!(!reports(&actions, |change| matches!(change, Change::AddressRepaired { .. })), "nobody removed them");
    let words = actions.iter().filter(|it| matches!(it, Action::Report(Change::AddressesReturned { count: 2, .. })));
    assert_eq!(words.count(), 1, "{actions:?}");
}

#[test]
fn the_interface_that_was_found_counts_and_a_place_that_is_not_found_is_said() {
    let mut config = config(ALPHA);
    config.groups[0].addresses[0].interface = None;
    config.groups[0].interfaces.clear();
    let mut bench = Bench::owner(config);
    let placed = |dev: Option<&str>, fault: Option<&str>| Event::Placed {
        group: GROUP,
        interfaces: vec![dev.map(str::to_owned)],
        fault: fault.map(str::to_owned),
    };
    let why = |bench: &Bench| bench.heart.status().groups[0].reasons.join(" ");
    bench.round(1510, vec![placed(Some("eth7"), None)]);
    assert!(why(&bench).contains("interface eth7 has no carrier"), "{}", why(&bench));
    bench.round(1520, vec![Event::Interface { interface: "eth7".into(), up: true }]);
    assert!(why(&bench).contains("can run it"), "{}", why(&bench));
    assert_eq!(bench.heart.status().groups[0].addresses, ["10.0.0.77/24 dev eth7"]);
    bench.round(1530, vec![placed(None, Some("no interface has it; give one an address"))]);
    assert!(why(&bench).contains("no interface has it; give one an address"), "{}", why(&bench));
}

#[test]
fn what_is_decided_is_kept_before_it_is_done() {
    let mut bench = Bench::owner(config(ALPHA));
    let stop = Event::Command { request: RequestId(1), command: Command::Stop { group: GROUP } };
    let actions = bench.round(1600, vec![stop]);
    let saved = |action: &Action| matches!(action, Action::Save(saved) if saved.groups["web"].order.stopped);
    let revoked = position(&actions, |action| matches!(action, Action::Hold { phase: HeldPhase::Stopping, .. }));
    assert!(position(&actions, saved).is_some() && position(&actions, saved) < revoked, "{actions:?}");
}

#[test]
fn of_two_owners_the_one_that_is_not_heard_by_the_other_gives_way() {
    let mut bench = Bench::owner(config(ALPHA));
    bench.echo = Some(bench.heart.sequence - 1);
    // A grant that alpha's beats, from a peer that hears nothing of it.
    let mut stopped_at = None;
    for at in (1600..3000).step_by(100) {
        let says = bench.says(Role::Running, Some(owned(BETA, 1)));
        if stops(&bench.round(at, vec![says])) {
            stopped_at.get_or_insert(at);
        }
    }
    assert!(stopped_at.is_some_and(|at| (1700..=2000).contains(&at)), "{stopped_at:?}");
}

#[test]
fn who_slept_does_not_outlive_what_it_has_not_read() {
    let mut bench = Bench::owner(config(ALPHA));
    let released = Record { released: true, ..owned(BETA, 7) };
    let says = bench.says(Role::Idle, Some(released));
    let actions = bench.once(millis(6000), millis(6000), vec![says]);
    assert!(stops(&actions), "{actions:?}");
    assert_eq!(bench.heart.record(GROUP), Some(released));
}

#[test]
fn an_address_that_is_back_counts_as_put_back() {
    let mut bench = Bench::owner(config(ALPHA));
    bench.round(6000, vec![]);
    bench.ends = |action| match action {
        Action::RepairAddress { .. } => Some(Outcome::Failed("it is on eth1".into())),
        _ => None,
    };
    let lost = || Event::AddressLost { group: GROUP, index: 0 };
    bench.round(6010, vec![lost()]);
    assert!(bench.heart.misses(GROUP, 0));
    bench.ends = |_| None;
    let actions = bench.round(6020, vec![lost()]);
    assert!(reports(&actions, |change| matches!(change, Change::AddressRepaired { .. })));
    assert!(!bench.heart.misses(GROUP, 0));
}

#[test]
fn who_was_beaten_puts_no_address_back() {
    let mut bench = Bench::owner(config(ALPHA));
    let claim = claims_more(&mut bench);
    let actions = bench.round(1600, vec![claim, Event::AddressLost { group: GROUP, index: 0 }]);
    assert_eq!(position(&actions, |action| matches!(action, Action::RepairAddress { .. })), None);
}

#[test]
fn what_goes_on_under_a_new_epoch_is_adopted_under_it() {
    let held = Held { group: "web".into(), grant: owned(ALPHA, 3).grant, phase: HeldPhase::Granted };
    let heart = Bench::with(config(ALPHA), &[held], Some(owned(ALPHA, 8))).heart;
    // The bench finds nothing of it here, so it is stopped; what matters is under which grant.
    assert_eq!(heart.record(GROUP).map(|record| record.grant), Some(owned(ALPHA, 8).grant));
    let held = Held { group: "web".into(), grant: owned(ALPHA, 3).grant, phase: HeldPhase::Granted };
    let record = Some(owned(ALPHA, 8));
    let identity = Identity { incarnation: MINE, boot: BOOT };
    assert_eq!(renewed(&held, record, &identity, ALPHA), owned(ALPHA, 8).grant);
    assert_eq!(renewed(&held, Some(owned(BETA, 8)), &identity, ALPHA), held.grant);
    let released = record.map(|record| Record { released: true, ..record });
    assert_eq!(renewed(&held, released, &identity, ALPHA), held.grant);
}

#[test]
fn an_operators_start_waits_for_a_start_that_is_tried_again() {
    let mut bench = Bench::with(with_member(), &[], None);
    bench.ends = |action| match action {
        Action::StartMembers { .. } => Some(Outcome::Unknown("the bus does not answer".into())),
        _ => None,
    };
    bench.round(1000, vec![Event::Guard { group: GROUP, fault: None }]);
    let start = Event::Command { request: RequestId(1), command: Command::Start { group: GROUP } };
    let actions = bench.round(1100, vec![start]);
    let answered = |action: &Action| matches!(action, Action::Reply { .. });
    assert_eq!(position(&actions, answered), None, "{actions:?}");
    bench.ends = |_| None;
    let actions = bench.round(3200, vec![]);
    assert!(position(&actions, answered).is_some(), "{actions:?}");
}

#[test]
fn a_host_that_claims_what_is_here_is_told_of_once_in_a_while() {
    let mut bench = Bench::owner(config(ALPHA));
    let claim = || Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 9] };
    let told = |change: &Change| matches!(change, Change::AddressClaimed { index: 0, .. });
    let shown = |bench: &Bench| {
        let attention = bench.heart.status().attention;
        attention.into_iter().any(|line| line.contains("02:00:00:00:00:09, claims 10.0.0.77"))
    };
    assert!(!shown(&bench));
    let actions = bench.round(1510, vec![claim()]);
    assert!(reports(&actions, told) && shown(&bench) && !stops(&actions));
    assert!(!reports(&bench.round(1520, vec![claim()]), told), "an announcement is made several times");
    bench.keep(1600, 70_000);
    assert!(!shown(&bench), "it has kept silent for a minute");
    assert!(reports(&bench.round(70_010, vec![claim()]), told));
}

#[test]
fn who_slept_or_is_beaten_puts_nothing_back() {
    let mut bench = Bench::owner(config(ALPHA));
    let puts_back = |bench: &mut Bench| {
        bench.heart.repair(GROUP, 0, Loss::Removed);
        bench.heart.out.drain(..).any(|action| matches!(action, Action::RepairAddress { .. }))
    };
    bench.heart.asleep = true;
    assert!(!puts_back(&mut bench));
    bench.heart.asleep = false;
    let mine = bench.heart.record(GROUP);
    bench.heart.groups[0].record = Some(owned(BETA, 9));
    assert!(!puts_back(&mut bench));
    bench.heart.groups[0].record = mine;
    assert!(puts_back(&mut bench));
}
