//! Operators' words among nodes that hear each other: move, standby, takeover, online, maintenance, and what `Failback=` makes of them.

use super::testing::{self, ALPHA, Bench, GROUP, stops};
use super::testing_many::{Many, preferring};
use super::*;
use crate::config::model::{Failback, NodeTag};
use crate::wire::Role;

const WEB: GroupId = GroupId(0);
const DB: GroupId = GroupId(1);
const NODES: [NodeId; 3] = [NodeId(0), NodeId(1), NodeId(2)];

/// `web` prefers alpha, `db` beta.
fn pair(failback: Failback) -> Many {
    Many::new(2, &[preferring("web", 1, &[0, 1], failback), preferring("db", 2, &[1, 0], failback)])
}

fn three(failback: Failback) -> Many {
    Many::new(3, &[preferring("web", 1, &[0, 1, 2], failback)])
}

fn to(group: GroupId, node: usize) -> Command {
    Command::Move { group, to: NODES[node] }
}

fn done(answer: &Answer) -> &str {
    let Answer::Done(text) = answer else { panic!("{answer:?}") };
    text
}

fn refused(answer: &Answer) -> &str {
    let Answer::Refused(text) = answer else { panic!("{answer:?}") };
    text
}

fn failed(answer: &Answer) -> &str {
    let Answer::Failed(text) = answer else { panic!("{answer:?}") };
    text
}

/// Brings both groups of a pair where they shall begin.
fn arrange(many: &mut Many, web: usize, db: usize) {
    for (group, node) in [(WEB, web), (DB, db)] {
        if many.owners()[usize::from(group.0)] != Some(node) {
            done(&many.told(node, to(group, node)));
        }
    }
    many.pass(300);
    assert_eq!(many.owners(), [Some(web), Some(db)]);
}

/// Heartbeat's words, on each node, from each situation: where the two groups are afterwards.
#[test]
fn heartbeats_words_mean_what_its_manual_says() {
    use Which::{All, Failback as Back, Foreign, Local};
    for (web, db) in [(0, 1), (0, 0), (1, 1), (1, 0)] {
        for node in [0, 1] {
            for which in [All, Local, Foreign, Back] {
                for takeover in [false, true] {
                    let mut many = pair(Failback::Yes);
                    arrange(&mut many, web, db);
                    // At home on this node: web on alpha, db on beta.
                    let meant = |home: usize| match (which, takeover) {
                        (All, _) => true,
                        (Local, _) | (Back, true) => home == node,
                        (Foreign, _) | (Back, false) => home != node,
                    };
                    let after = |home, owner| match takeover {
                        true if meant(home) => node,
                        false if meant(home) && owner == node => 1 - node,
                        _ => owner,
                    };
                    let expected = [Some(after(0, web)), Some(after(1, db))];
                    let word =
                        if takeover { Command::Takeover { which } } else { Command::Standby { which, stay: false } };
                    let case = format!("{word:?} on {node} with web on {web} and db on {db}");
                    done(&many.told(node, word));
                    many.pass(2000);
                    assert_eq!(many.owners(), expected, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_move_may_be_asked_for_on_any_node() {
    let mut many = three(Failback::No);
    for (asked, target) in [(1, 1), (0, 2), (0, 1), (2, 0)] {
        assert!(done(&many.told(asked, to(WEB, target))).contains("runs on"));
        assert_eq!(many.owners(), [Some(target)]);
        many.pass(3000);
        assert_eq!(many.owners(), [Some(target)], "it is moved once");
    }
}

#[test]
fn a_wish_is_for_the_grant_under_which_it_was_said() {
    let mut many = three(Failback::No);
    // Nothing of gamma's reaches alpha: its wish comes too late, and counts for nothing then.
    many.cut.extend([(2, 0), (0, 2)]);
    let request = many.ask(2, to(WEB, 2));
    many.pass(100);
    done(&many.told(0, to(WEB, 1)));
    many.pass(500);
    many.cut.clear();
    many.pass(5000);
    assert_eq!(many.owners(), [Some(1)]);
    assert!(matches!(many.answers[&request], Answer::Failed(_)), "{:?}", many.answers);
}

#[test]
fn an_owner_that_knows_better_refuses_and_the_asker_is_told_in_time() {
    let mut many = three(Failback::No);
    // The owner does not hear whom the asker hears well.
    many.cut.extend([(1, 0), (0, 1)]);
    many.pass(1000);
    let answer = many.told(2, to(WEB, 1));
    assert!(refused(&answer).contains("alpha keeps web"), "{answer:?}");
    let told = many.reports.iter().filter(|(node, change)| *node == 0 && matches!(change, Change::MoveRefused { .. }));
    assert_eq!(told.count(), 1, "the owner says why, once");
    assert_eq!(many.owners(), [Some(0)]);
}

#[test]
fn an_asker_refuses_what_it_knows_to_be_impossible() {
    let mut many = pair(Failback::No);
    many.heart(1).fold(Event::Interface { interface: "eth0".into(), up: false });
    many.pass(200);
    let answer = many.told(1, Command::Takeover { which: Which::All });
    assert!(refused(&answer).contains("no carrier"), "{answer:?}");
    assert_eq!(many.owners(), [Some(0), Some(0)]);
}

#[test]
fn standby_gives_to_the_best_of_the_others() {
    let mut many = Many::new(3, &[preferring("web", 1, &[0, 2, 1], Failback::No)]);
    let standby = || Command::Standby { which: Which::All, stay: false };
    done(&many.told(0, standby()));
    assert_eq!(many.owners(), [Some(2)], "preferred before beta");
    done(&many.told(0, to(WEB, 0)));
    many.heart(2).fold(Event::Interface { interface: "eth0".into(), up: false });
    many.pass(200);
    done(&many.told(0, standby()));
    assert_eq!(many.owners(), [Some(1)], "gamma could not run it");
}

#[test]
fn what_nobody_else_can_run_stays_and_the_rest_goes() {
    let alone = preferring("lone", 1, &[0], Failback::No);
    let mut many = Many::new(2, &[alone, preferring("web", 2, &[0, 1], Failback::No)]);
    let answer = many.told(0, Command::Standby { which: Which::All, stay: false });
    assert!(failed(&answer).contains("lone stays here") && failed(&answer).contains("web runs on beta"), "{answer:?}");
    assert_eq!(many.owners(), [Some(0), Some(1)]);
    let answer = many.told(0, Command::Standby { which: Which::All, stay: false });
    assert!(refused(&answer).contains("lone stays here"), "{answer:?}");
}

#[test]
fn who_stays_in_standby_owns_nothing_until_it_is_online_also_after_a_reboot() {
    let mut many = pair(Failback::Yes);
    done(&many.told(0, Command::Standby { which: Which::All, stay: true }));
    assert_eq!(many.owners(), [Some(1), Some(1)]);
    assert!(many.heart(1).status().nodes[0].standby && many.heart(0).status().nodes[0].standby);
    many.lose_power(0);
    many.pass(1000);
    many.start(0);
    many.pass(3000);
    assert_eq!(many.owners(), [Some(1), Some(1)]);
    // Not even where nobody else is left.
    many.lose_power(1);
    many.pass(5000);
    assert_eq!(many.owners(), [None, None]);
    let why = many.heart(0).status().groups[0].why.clone();
    assert!(why.contains("in standby"), "{why}");
    done(&many.told(0, Command::Online));
    many.pass(1000);
    assert_eq!(many.owners(), [Some(0), Some(0)]);
}

#[test]
fn who_ends_its_standby_gets_back_what_failback_would_bring() {
    let mut many = pair(Failback::Yes);
    done(&many.told(0, Command::Standby { which: Which::All, stay: true }));
    many.pass(1000);
    done(&many.told(0, Command::Online));
    many.pass(1000);
    assert_eq!(many.owners(), [Some(0), Some(1)]);
}

#[test]
fn what_stays_here_in_standby_goes_when_another_can_run_it() {
    let mut many = pair(Failback::No);
    many.heart(1).fold(Event::Interface { interface: "eth0".into(), up: false });
    many.pass(1000);
    assert_eq!(many.owners(), [Some(0), Some(0)]);
    let answer = many.told(0, Command::Standby { which: Which::All, stay: true });
    assert!(failed(&answer).contains("web stays here until one can"), "{answer:?}");
    many.pass(1000);
    assert_eq!(many.owners(), [Some(0), Some(0)], "nobody is served by a stop that leads nowhere");
    many.heart(1).fold(Event::Interface { interface: "eth0".into(), up: true });
    many.pass(1000);
    assert_eq!(many.owners(), [Some(1), Some(1)]);
}

#[test]
fn failback_waits_after_an_operators_word_until_the_preferred_node_went_and_came_back() {
    let mut many = pair(Failback::Yes);
    done(&many.told(0, to(WEB, 1)));
    many.pass(5000);
    assert_eq!(many.owners()[0], Some(1));
    assert!(many.heart(0).status().groups[0].parked && many.heart(1).status().groups[0].parked);
    // Neither a restart of the owner's daemon ends it, nor one of the preferred node's that nobody missed.
    for node in [1, 0] {
        many.kill(node);
        many.start(node);
        many.pass(3000);
        assert_eq!(many.owners()[0], Some(1), "after a restart of {node}");
    }
    many.lose_power(0);
    many.pass(1000);
    many.start(0);
    many.pass(3000);
    assert_eq!(many.owners()[0], Some(0));
}

#[test]
fn clear_and_online_end_the_wait_of_failback() {
    for (node, word) in [(1, Command::Clear { group: WEB }), (0, Command::Online)] {
        let mut many = pair(Failback::Yes);
        done(&many.told(0, to(WEB, 1)));
        many.pass(1000);
        assert_eq!(many.owners()[0], Some(1));
        done(&many.told(node, word));
        many.pass(1000);
        assert_eq!(many.owners()[0], Some(0));
        assert!(!many.heart(0).status().groups[0].parked);
    }
}

#[test]
fn an_operators_word_does_not_outlive_a_takeover() {
    let mut many = three(Failback::Yes);
    done(&many.told(0, to(WEB, 2)));
    // Alpha cannot run it when gamma dies: beta takes it, and was given nothing.
    many.heart(0).fold(Event::Interface { interface: "eth0".into(), up: false });
    many.pass(200);
    many.lose_power(2);
    many.pass(2000);
    assert_eq!(many.owners(), [Some(1)]);
    many.heart(0).fold(Event::Interface { interface: "eth0".into(), up: true });
    many.pass(2000);
    assert_eq!(many.owners(), [Some(0)]);
}

#[test]
fn a_timed_failback_waits_until_the_preferred_node_was_well_for_that_long() {
    let mut many = pair(Failback::After(Duration::from_secs(4)));
    many.lose_power(0);
    many.pass(1000);
    assert_eq!(many.owners()[0], Some(1));
    many.start(0);
    many.pass(3000);
    assert_eq!(many.owners()[0], Some(1));
    let said = many.heart(1).status().groups[0].reasons.join("\n");
    assert!(said.contains("alpha is preferred and well since 2s; back in"), "{said}");
    // A break: it counts anew.
    many.heart(0).fold(Event::Interface { interface: "eth0".into(), up: false });
    many.pass(100);
    many.heart(0).fold(Event::Interface { interface: "eth0".into(), up: true });
    many.pass(3900);
    assert_eq!(many.owners()[0], Some(1));
    many.pass(500);
    assert_eq!(many.owners()[0], Some(0));
}

#[test]
fn an_owner_heeds_only_a_wish_for_the_grant_it_has() {
    let mut bench = Bench::owner(testing::config(ALPHA));
    let record = bench.heart.record(GROUP);
    for (known, heeded) in [(None, false), (record, true)] {
        let mut event = bench.says(Role::Idle, known);
        let Event::Heartbeat { message, .. } = &mut event else { panic!() };
        message.groups[0].wish = Some(NodeTag(2));
        message.state.digest = message.groups[0].mark();
        assert_eq!(stops(&bench.round(1600, vec![event])), heeded, "{known:?}");
    }
}
