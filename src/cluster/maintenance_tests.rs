//! Maintenance: what is not done while it is on, what is done all the same, and what follows when it ends.

use super::testing_many::{Many, preferring};
use super::*;
use crate::config::model::Failback;

const WEB: GroupId = GroupId(0);

fn on(on: bool) -> Command {
    Command::Maintenance { on }
}

/// Two nodes, and a group that prefers alpha.
fn pair() -> Many {
    let mut web = preferring("web", 1, &[0, 1], Failback::Yes);
    web.members = vec!["db.service".into()];
    let mut many = Many::new(2, &[web]);
    for node in [0, 1] {
        many.heart(node).fold(Event::Guard { group: WEB, fault: None });
    }
    many.pass(500);
    assert_eq!(many.owners(), [Some(0)]);
    many
}

fn switch(many: &mut Many, node: usize, word: bool) {
    let answer = many.told(node, on(word));
    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
    for heart in many.hearts.iter().flatten() {
        assert_eq!(heart.status().maintenance, word, "every node that is heard knows it");
    }
}

#[test]
fn a_dead_nodes_groups_are_taken_over_when_maintenance_ends() {
    let mut many = pair();
    switch(&mut many, 1, true);
    many.lose_power(0);
    many.pass(10_000);
    assert_eq!(many.owners(), [None]);
    assert!(many.heart(1).headline().starts_with("maintenance; joined"), "{}", many.heart(1).headline());
    switch(&mut many, 1, false);
    many.pass(1000);
    assert_eq!(many.owners(), [Some(1)]);
    // And no return while it is on.
    switch(&mut many, 1, true);
    many.start(0);
    many.pass(5000);
    assert_eq!(many.owners(), [Some(1)]);
    assert!(many.heart(0).status().maintenance, "who comes learns it before it acts");
}

#[test]
fn a_member_that_fails_is_reported_and_dealt_with_when_maintenance_ends() {
    for mended in [false, true] {
        let mut many = pair();
        switch(&mut many, 0, true);
        many.member(0, WEB, false);
        many.pass(5000);
        assert_eq!(many.owners(), [Some(0)]);
        assert!(many.reports.iter().any(|(_, change)| matches!(change, Change::MemberDown { .. })));
        let attention = many.heart(0).status().attention.join("\n");
        assert!(attention.contains("member db.service is down (exit 1)"), "{attention}");
        if mended {
            many.member(0, WEB, true);
        }
        switch(&mut many, 1, false);
        many.pass(1000);
        assert_eq!(many.owners(), [Some(if mended { 0 } else { 1 })]);
        assert_eq!(many.heart(0).banned(WEB), !mended);
    }
}

#[test]
fn a_target_that_was_stopped_by_hand_stays_stopped_when_maintenance_ends() {
    let mut many = pair();
    switch(&mut many, 0, true);
    many.member(0, WEB, false);
    many.heart(0).fold(Event::TargetStopped { group: WEB });
    many.pass(2000);
    assert_eq!(many.owners(), [Some(0)]);
    switch(&mut many, 0, false);
    many.pass(1000);
    assert_eq!(many.owners(), [None]);
    assert!(many.heart(1).operator_order(WEB).stopped);
}

#[test]
fn a_lost_address_is_put_back_when_maintenance_ends() {
    let mut many = pair();
    switch(&mut many, 0, true);
    many.lose_address(0, WEB);
    many.pass(2000);
    assert_eq!(many.owners(), [None]);
    switch(&mut many, 0, false);
    assert_eq!(many.owners(), [Some(0)]);
}

#[test]
fn a_restart_keeps_groups_running_even_those_that_are_not_whole() {
    let mut many = pair();
    switch(&mut many, 0, true);
    many.member(0, WEB, false);
    many.pass(100);
    many.kill(0);
    many.start(0);
    many.heart(0).fold(Event::Guard { group: WEB, fault: None });
    many.pass(5000);
    assert_eq!(many.owners(), [Some(0)]);
    assert!(many.heart(0).status().maintenance);
    switch(&mut many, 0, false);
    many.pass(1000);
    assert_eq!(many.owners(), [Some(1)]);
}

#[test]
fn who_leaves_releases_and_nobody_starts_it_until_maintenance_ends() {
    let mut many = pair();
    switch(&mut many, 0, true);
    many.heart(0).fold(Event::Leave);
    many.pass(5000);
    assert_eq!(many.owners(), [None]);
    assert!(many.hearts[0].is_none(), "it left in good order");
    switch(&mut many, 1, false);
    many.pass(1000);
    assert_eq!(many.owners(), [Some(1)]);
}

#[test]
fn a_move_that_was_under_way_comes_to_its_end() {
    let mut many = pair();
    let moved = many.ask(0, Command::Move { group: WEB, to: NodeId(1) });
    let switched = many.ask(1, on(true));
    many.pass(2000);
    assert_eq!(many.owners(), [Some(1)], "{:?}", many.answers);
    assert!(matches!(many.answers[&moved], Answer::Done(_)) && matches!(many.answers[&switched], Answer::Done(_)));
}

#[test]
fn two_owners_end_whatever_an_operator_said() {
    let mut many = pair();
    many.cut.extend([(0, 1), (1, 0)]);
    let beaten = {
        let record = many.heart(0).record(WEB).expect("it is owned");
        let epoch = Epoch(record.grant.epoch.0 + 5);
        Record::owned(Grant { epoch, node: NodeId(1), boot: BootId(2) })
    };
    let switched = many.ask(0, on(true));
    many.pass(1000);
    assert!(matches!(many.answers[&switched], Answer::Done(_)));
    // What a peer says that took the group elsewhere meanwhile.
    many.heart(0).set_record(WEB, beaten);
    many.pass(100);
    assert_eq!(many.owners(), [None]);
}

#[test]
fn other_words_are_refused_with_the_remedy() {
    let mut many = pair();
    switch(&mut many, 0, true);
    for command in [
        Command::Move { group: WEB, to: NodeId(1) },
        Command::Stop { group: WEB },
        Command::Start { group: WEB },
        Command::Standby { which: Which::All, stay: true },
        Command::Takeover { which: Which::All },
    ] {
        let answer = many.told(0, command);
        assert!(matches!(&answer, Answer::Refused(text) if text.contains("maintenance off")), "{answer:?}");
    }
    assert_eq!(many.owners(), [Some(0)]);
}

#[test]
fn the_later_word_wins_and_outlives_a_reboot_of_all() {
    let mut many = pair();
    switch(&mut many, 0, true);
    many.cut.extend([(0, 1), (1, 0)]);
    many.pass(1000);
    let answer = many.told(1, on(false));
    assert!(matches!(&answer, Answer::Done(text) if text.ends_with("not told: alpha")), "{answer:?}");
    assert!(many.heart(0).status().maintenance);
    many.cut.clear();
    many.pass(1000);
    assert!(!many.heart(0).status().maintenance, "it was off for the other already");
    switch(&mut many, 0, true);
    many.lose_power(0);
    many.lose_power(1);
    for node in [0, 1] {
        many.start(node);
        many.heart(node).fold(Event::Guard { group: WEB, fault: None });
    }
    many.pass(5000);
    assert_eq!(many.owners(), [None]);
    switch(&mut many, 0, false);
    many.pass(1000);
    assert_eq!(many.owners(), [Some(0)]);
}
