//! Parts that leave a group or come to one: who goes first, and who waits for whom.

use super::*;
use crate::config::model::GroupTag;

pub(super) const OTHER: GroupId = GroupId(1);

pub(super) fn other(digest: u32, addresses: &[u8], members: &[&str]) -> GroupConfig {
    GroupConfig { name: "other".into(), tag: GroupTag(10), ..version(digest, addresses, members) }
}

/// Alpha runs the group, beta the other one.
pub(super) fn each_has_one(web: &GroupConfig, other: &GroupConfig) -> Nodes {
    let mut nodes = Nodes::new(web);
    for node in [A, B] {
        nodes.files(node, &[web.clone(), other.clone()]);
    }
    nodes.run(2000);
    nodes.did.clear();
    assert_eq!((nodes.hearts[A].role(GROUP), nodes.hearts[B].role(OTHER)), (Role::Running, Role::Running));
    nodes
}

pub(super) fn prefers_beta(group: GroupConfig) -> GroupConfig {
    GroupConfig { nodes: vec![BETA, ALPHA], ..group }
}

fn stops_members(action: &Action) -> bool {
    matches!(action, Action::DropMembers { .. })
}

#[test]
fn what_goes_is_given_up_by_the_owner_first() {
    for (old, new) in [
        (version(1, &[77], &[]), version(2, &[78], &[])),
        (version(1, &[77], &["a.service"]), version(2, &[77], &["b.service"])),
    ] {
        let mut nodes = Nodes::new(&old);
        for node in [B, A] {
            nodes.files(node, std::slice::from_ref(&new));
        }
        nodes.run(1000);
        let first = |node: usize| nodes.did.iter().position(|(who, action)| *who == node && is_new(action));
        assert!(first(A).is_some() && first(A) < first(B), "{:?} {:?}", first(A), first(B));
        assert_eq!((nodes.runs(A).digest, nodes.runs(B).digest), (2, 2));
    }
}

fn is_new(action: &Action) -> bool {
    matches!(action, Action::Report(Change::GroupConfigured { .. }))
}

#[test]
fn a_part_that_moves_to_another_group_is_given_up_first() {
    let web = version(1, &[77], &[]);
    let mut nodes = Nodes::new(&web);
    for node in [A, B] {
        nodes.files(node, &[web.clone(), other(5, &[79], &[])]);
    }
    nodes.run(2000);
    assert_eq!(nodes.hearts[A].role(OTHER), Role::Running);
    // Two groups exchange a part: neither can go first.
    for node in [A, B] {
        nodes.files(node, &[version(2, &[79], &[]), other(6, &[77], &[])]);
    }
    nodes.run(1000);
    assert_eq!((nodes.runs(A).digest, nodes.hearts[A].config.group(OTHER).digest), (1, 5));
    nodes.did.clear();
    for node in [A, B] {
        nodes.files(node, &[version(3, &[77, 79], &[]), other(7, &[], &[])]);
    }
    nodes.run(2000);
    assert_eq!((nodes.runs(A).digest, nodes.hearts[A].config.group(OTHER).digest), (3, 7));
    let configured =
        |action: &Action| matches!(action, Action::Report(Change::GroupConfigured { group }) if *group == OTHER);
    let given = nodes.place(A, configured);
    let taken = nodes.place(A, |action| matches!(action, Action::RepairAddress { group: GROUP, .. }));
    assert!(given.is_some() && given < taken, "{given:?} {taken:?}");
}

#[test]
fn a_member_comes_to_a_group_when_the_owner_of_the_other_one_has_stopped_it() {
    let (web, db) = (version(1, &[77], &[]), prefers_beta(other(5, &[79], &["m.service"])));
    let mut nodes = each_has_one(&web, &db);
    nodes.ends = |action| stops_members(action).then(|| Outcome::Unknown("still running".into()));
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77], &["m.service"]), prefers_beta(other(6, &[79], &[]))]);
    }
    nodes.run(4000);
    assert!(nodes.place(B, stops_members).is_some());
    assert_eq!(nodes.hearts[A].config.group(OTHER).digest, 5, "beta still has it");
    assert_eq!(nodes.place(A, |action| matches!(action, Action::StartMembers { .. })), None);
    nodes.ends = |_| None;
    nodes.run(5000);
    assert_eq!((nodes.runs(A).digest, nodes.hearts[A].config.group(OTHER).digest), (2, 6));
    assert!(nodes.place(A, |action| matches!(action, Action::StartMembers { .. })).is_some());
}

#[test]
fn what_another_owner_has_by_unknown_files_is_waited_for() {
    let (web, db) = (version(1, &[77], &[]), prefers_beta(other(5, &[79, 80], &[])));
    let mut nodes = each_has_one(&web, &db);
    // As if the nodes had been apart: alpha has long adopted the other group without one of its addresses.
    Arc::make_mut(&mut nodes.hearts[A].config).groups[1] = prefers_beta(other(8, &[79], &[]));
    nodes.ends = |action| {
        matches!(action, Action::DropAddresses { group: OTHER, .. }).then(|| Outcome::Unknown("still there".into()))
    };
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77, 80], &[]), prefers_beta(other(9, &[79], &[]))]);
    }
    nodes.run(4000);
    assert_eq!(nodes.runs(A).digest, 1);
    let waits = nodes.hearts[A].status().rollout[0].waits.clone().expect("a reason");
    assert!(waits.contains("waits for beta") && waits.contains("hafailoverctl stop other"), "{waits}");
    nodes.ends = |_| None;
    nodes.run(5000);
    assert_eq!((nodes.runs(A).digest, nodes.hearts[B].config.group(OTHER).digest), (2, 9));
}

#[test]
fn a_word_that_is_lost_turns_no_change_back() {
    let mut nodes = Nodes::new(&version(1, &[77, 78], &["a.service"]));
    nodes.ends = |action| stops_members(action).then(|| Outcome::Unknown("still running".into()));
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77], &[])]);
    }
    nodes.run(1000);
    assert!(nodes.place(A, stops_members).is_some());
    // Beta said something more, which did not come.
    nodes.hearts[B].speak = true;
    let said = nodes.hearts[B].decide(millis(nodes.now)).into_iter();
    let said = said.filter_map(|action| if let Action::Send(message) = action { Some(message) } else { None });
    let mut message = said.last().expect("a heartbeat");
    message.sequence += 1;
    message.state.version += 1;
    message.state.digest ^= 1;
    message.groups.clear();
    nodes.hearts[A].hear(LINK, &message);
    assert!(!nodes.hearts[A].view.peer(BETA).expect("a peer").told_all());
    let back = |action: &Action| matches!(action, Action::RepairAddress { .. });
    assert!(!nodes.hearts[A].decide(millis(nodes.now + 1)).iter().any(back), "it goes on where it is");
}

#[test]
fn two_owners_do_not_wait_for_each_others_former_files() {
    let (web, db) = (version(1, &[77], &[]), prefers_beta(other(5, &[79], &[])));
    let mut nodes = each_has_one(&web, &db);
    // As if the nodes had been apart: each has adopted what it does not own.
    Arc::make_mut(&mut nodes.hearts[A].config).groups[1] = prefers_beta(other(6, &[79, 81], &[]));
    Arc::make_mut(&mut nodes.hearts[B].config).groups[0] = version(2, &[77, 80], &[]);
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77, 80], &[]), prefers_beta(other(6, &[79, 81], &[]))]);
    }
    nodes.run(2000);
    let digests = |node: usize| [GROUP, OTHER].map(|id| nodes.hearts[node].config.group(id).digest);
    assert_eq!((digests(A), digests(B)), ([2, 6], [2, 6]));
}

#[test]
fn what_was_given_up_by_other_files_is_not_gone_on_with() {
    let mut nodes = Nodes::new(&version(1, &[77], &[]));
    nodes.dead[A] = true;
    for at in (nodes.now..nodes.now + 4000).step_by(50) {
        // Nobody hears alpha, but it does not stand still.
        nodes.hearts[A].begin(millis(at));
        nodes.hearts[A].decide(millis(at));
    }
    nodes.run(2000);
    assert_eq!((nodes.role(A), nodes.role(B)), (Role::Running, Role::Running));
    // Meanwhile its address belongs to another group.
    nodes.files(B, &[other(5, &[77], &[])]);
    nodes.run(2000);
    assert_eq!((nodes.role(B), nodes.hearts[B].role(OTHER)), (Role::Idle, Role::Running));
    nodes.dead[A] = false;
    nodes.run(3000);
    assert_eq!((nodes.role(A), nodes.hearts[B].role(OTHER)), (Role::Idle, Role::Running));
}

#[test]
fn who_is_idle_by_former_files_is_waited_for_until_it_knows_that_they_are_former() {
    let mut nodes = each_has_one(&version(1, &[77, 80], &[]), &prefers_beta(other(5, &[79], &[])));
    nodes.hearts[A].fold(Event::Command { request: RequestId(1), command: Command::Stop { group: GROUP } });
    nodes.run(1000);
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77], &[]), prefers_beta(other(6, &[79, 80], &[]))]);
    }
    // Beta hears alpha, which does not hear beta: it might be starting the group, as it was, in this moment.
    let at = millis(nodes.now);
    nodes.hearts[A].begin(at);
    for action in nodes.hearts[A].decide(at) {
        if let Action::Send(message) = action {
            nodes.hearts[B].hear(LINK, &message);
        }
    }
    for _ in 0..10 {
        nodes.hearts[B].begin(at);
        for action in nodes.hearts[B].decide(at) {
            assert!(!matches!(action, Action::RepairAddress { .. }), "{action:?}");
            answer(&action, |_| None).into_iter().for_each(|event| nodes.hearts[B].fold(event));
        }
    }
    assert_eq!(nodes.runs(B).digest, 2);
    nodes.run(2000);
    assert_eq!((nodes.runs(A).digest, nodes.hearts[B].config.group(OTHER).digest), (2, 6));
}

#[test]
fn nothing_goes_while_a_node_that_is_not_heard_answers() {
    let without_member = version(2, &[77], &[]);
    let without_alpha = GroupConfig { nodes: vec![BETA], ..version(2, &[77], &["m.service"]) };
    for new in [without_member, without_alpha] {
        let mut nodes = Nodes::new(&version(1, &[77], &["m.service"]));
        nodes.dead[A] = true;
        nodes.files(B, &[new]);
        for _ in 0..80 {
            nodes.run(50);
            nodes.hearts[B].fold(Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 1] });
        }
        assert_eq!((nodes.role(B), nodes.runs(B).digest), (Role::Idle, 1));
    }
}

#[test]
fn two_owners_that_could_not_add_what_their_files_name_do_not_wait_for_each_other() {
    let (web, db) = (version(1, &[77], &[]), prefers_beta(other(5, &[79], &[])));
    let mut nodes = each_has_one(&web, &db);
    nodes.ends =
        |action| matches!(action, Action::CheckGuards { .. }).then(|| Outcome::Refused("not installed".into()));
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77], &["a@x.service"]), prefers_beta(other(6, &[79], &["b@x.service"]))]);
    }
    nodes.run(4000);
    let digests = |nodes: &Nodes, node: usize| [GROUP, OTHER].map(|id| nodes.hearts[node].config.group(id).digest);
    assert_eq!((digests(&nodes, A), digests(&nodes, B)), ([1, 5], [1, 5]), "who has it changes it first");
    nodes.ends = |_| None;
    for node in [B, A] {
        nodes.files(node, &[version(3, &[77], &["a.service"]), prefers_beta(other(7, &[79], &["b.service"]))]);
        nodes.run(4000);
    }
    assert_eq!((digests(&nodes, A), digests(&nodes, B)), ([3, 7], [3, 7]));
    assert!(!nodes.stopped());
}

#[test]
fn what_a_peer_may_have_by_other_files_is_not_put_up_by_a_look_at_the_host_either() {
    let (web, db) = (version(1, &[77], &[]), prefers_beta(other(5, &[79, 80], &[])));
    let mut nodes = each_has_one(&web, &db);
    let adds = |action: &Action| matches!(action, Action::RepairAddress { group: GROUP, .. });
    // Beta is not heard while alpha adopts both; it wakes while that is written down.
    nodes.dead[B] = true;
    nodes.run(1000);
    nodes.ends = |action| match action {
        Action::Note { .. } => Some(Outcome::Failed("no room".into())),
        Action::RemoveAddresses { .. } => Some(Outcome::Unknown("no answer".into())),
        _ => None,
    };
    Arc::make_mut(&mut nodes.hearts[A].config).groups[1] = prefers_beta(other(6, &[79], &[]));
    nodes.files(A, &[version(2, &[77, 80], &[]), prefers_beta(other(6, &[79], &[]))]);
    nodes.run(1500);
    assert!(nodes.place(A, |action| matches!(action, Action::Note { .. })).is_some());
    nodes.dead[B] = false;
    nodes.run(500);
    // It is beaten, and cannot let go.
    nodes.ends =
        |action| matches!(action, Action::RemoveAddresses { .. }).then(|| Outcome::Unknown("no answer".into()));
    for _ in 0..40 {
        nodes.run(50);
        nodes.hearts[A].fold(Event::AddressLost { group: GROUP, index: 1 });
    }
    assert_eq!(nodes.runs(A).digest, 2, "written down");
    assert_eq!(nodes.place(A, adds), None);
    nodes.ends = |_| None;
    nodes.run(4000);
    assert!(nodes.place(A, adds).is_some());
}
