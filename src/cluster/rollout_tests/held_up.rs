//! Changes that maintenance holds up, before they begin and in the middle.

use super::*;

fn maintain(nodes: &mut Nodes, on: bool) {
    nodes.hearts[A].fold(Event::Command { request: RequestId(3), command: Command::Maintenance { on } });
    nodes.run(500);
}

#[test]
fn maintenance_holds_changed_files_back() {
    let mut nodes = Nodes::new(&version(1, &[77], &[]));
    maintain(&mut nodes, true);
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77, 78], &[])]);
    }
    nodes.run(1000);
    assert_eq!((nodes.runs(A).digest, nodes.runs(B).digest), (1, 1));
    maintain(&mut nodes, false);
    nodes.run(500);
    assert_eq!((nodes.runs(A).digest, nodes.runs(B).digest), (2, 2));
}

#[test]
fn what_failed_under_maintenance_is_dealt_with_before_changed_files_are_adopted() {
    let mut nodes = Nodes::new(&version(1, &[77], &["m.service"]));
    maintain(&mut nodes, true);
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77], &["m.service"])]);
    }
    nodes.run(500);
    // As a daemon that starts finds it: which member it was is not known.
    let told = Told::MemberDown { unit: "a member".into(), reason: "it was down".into() };
    nodes.hearts[A].left_alone(GROUP, told);
    nodes.ends = |action| {
        let found = Actual { all_active: false, any_active: false, addresses: Vec::new() };
        matches!(action, Action::Inspect { .. }).then_some(Outcome::Inspected(found))
    };
    maintain(&mut nodes, false);
    assert!(nodes.stopped());
}

#[test]
fn what_is_being_removed_is_not_put_back_when_maintenance_ends() {
    let mut nodes = Nodes::new(&version(1, &[77, 78], &["m.service"]));
    nodes.ends = |action| match action {
        Action::DropMembers { .. } => Some(Outcome::Unknown("still running".into())),
        Action::Inspect { .. } => {
            let found = Actual { all_active: true, any_active: true, addresses: vec![0] };
            Some(Outcome::Inspected(found))
        }
        _ => None,
    };
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77], &[])]);
    }
    nodes.run(1000);
    assert!(nodes.place(A, |action| matches!(action, Action::DropMembers { .. })).is_some());
    for on in [true, false] {
        maintain(&mut nodes, on);
        nodes.hearts[A].fold(Event::AddressLost { group: GROUP, index: 1 });
        nodes.run(500);
    }
    assert!(nodes.place(A, |action| matches!(action, Action::Inspect { .. })).is_some());
    assert_eq!(nodes.place(A, |action| matches!(action, Action::RepairAddress { .. })), None);
}

fn removes(action: &Action) -> bool {
    matches!(action, Action::DropAddresses { .. })
}

fn starts_members(action: &Action) -> bool {
    matches!(action, Action::StartMembers { .. })
}

/// Both read them; these steps of the owner do not come to an end.
fn begun(old: &GroupConfig, new: &GroupConfig, ends: fn(&Action) -> Option<Outcome>) -> Nodes {
    let mut nodes = Nodes::new(old);
    nodes.ends = ends;
    for node in [A, B] {
        nodes.files(node, std::slice::from_ref(new));
    }
    nodes.run(1000);
    assert!(nodes.place(A, |action| matches!(action, Action::DropMembers { .. })).is_some());
    nodes
}

fn cannot_remove(action: &Action) -> Option<Outcome> {
    removes(action).then(|| Outcome::Unknown("no answer".into()))
}

#[test]
fn what_was_given_up_comes_back_where_the_change_is_held_up() {
    let (old, new) = (version(1, &[77, 78], &["m.service"]), version(2, &[77], &[]));
    let mut nodes = begun(&old, &new, cannot_remove);
    maintain(&mut nodes, true);
    nodes.run(1500);
    assert_eq!(nodes.place(A, starts_members), None, "it may be over in a moment");
    nodes.run(3000);
    assert!(nodes.place(A, starts_members).is_some());
    assert!(nodes.place(A, |action| matches!(action, Action::RepairAddress { index: 1, .. })).is_some());
    let told = |action: &Action| match action {
        Action::Report(Change::GroupNotChanged { reason, .. }) => reason.contains("maintenance is on"),
        _ => false,
    };
    assert!(nodes.place(A, told).is_some());
    nodes.did.clear();
    nodes.ends = |_| None;
    maintain(&mut nodes, false);
    nodes.run(2000);
    assert!(nodes.place(A, removes).is_some() && !nodes.stopped());
    assert_eq!((nodes.runs(A).digest, nodes.runs(B).digest), (2, 2));
}

#[test]
fn a_node_that_is_lost_meanwhile_can_go_on_asking_for_the_address() {
    let (old, new) = (version(1, &[77], &["m.service"]), version(2, &[78], &[]));
    let slow = |action: &Action| {
        matches!(action, Action::DropMembers { .. }).then(|| Outcome::Unknown("still running".into()))
    };
    let mut nodes = begun(&old, &new, slow);
    nodes.dead[B] = true;
    nodes.run(1000);
    nodes.ends = |_| None;
    nodes.run(6000);
    assert_eq!(nodes.place(A, removes), None);
    assert!(nodes.place(A, starts_members).is_some() && !nodes.stopped());
    assert_eq!((nodes.runs(A).digest, nodes.role(A)), (1, Role::Running));
}

#[test]
fn what_went_is_not_put_back_unasked_where_a_node_is_not_heard() {
    let (old, new) = (version(1, &[77], &["m.service"]), version(2, &[78], &[]));
    let mut nodes = begun(&old, &new, cannot_remove);
    let probed = |action: &Action| matches!(action, Action::Probe { .. });
    nodes.dead[B] = true;
    // Beta might have taken it, and answers.
    for _ in 0..100 {
        nodes.run(50);
        nodes.hearts[A].fold(Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 1] });
    }
    assert!(nodes.stopped() && nodes.place(A, probed).is_some());
    assert_eq!(nodes.place(A, |action| matches!(action, Action::RepairAddress { index: 0, .. })), None);
    assert_eq!(nodes.role(A), Role::Idle);
}

#[test]
fn under_maintenance_nothing_is_stopped_and_nothing_put_back_unasked() {
    let (old, new) = (version(1, &[77], &["m.service"]), version(2, &[78], &[]));
    let mut nodes = begun(&old, &new, cannot_remove);
    maintain(&mut nodes, true);
    nodes.dead[B] = true;
    nodes.run(6000);
    assert!(!nodes.stopped());
    assert_eq!(nodes.place(A, |action| matches!(action, Action::RepairAddress { .. })), None);
    let told = |action: &Action| match action {
        Action::Report(Change::GroupNotChanged { reason, .. }) => reason.contains("comes back"),
        _ => false,
    };
    assert_eq!(nodes.place(A, told), None, "it does not");
}

#[test]
fn under_maintenance_what_is_new_is_not_put_up_unasked_and_the_group_starts_anew_after_it() {
    let mut nodes = Nodes::new(&version(1, &[77], &[]));
    nodes.ends = |action| matches!(action, Action::Note { .. }).then(|| Outcome::Unknown("slow".into()));
    for node in [A, B] {
        nodes.files(node, &[version(2, &[78], &[])]);
    }
    nodes.run(1000);
    let noted = |nodes: &Nodes| nodes.place(A, |action| matches!(action, Action::Note { .. }));
    assert!(nodes.place(A, removes).is_some() && noted(&nodes).is_some());
    nodes.dead[B] = true;
    maintain(&mut nodes, true);
    nodes.run(2000);
    nodes.ends = |_| None;
    nodes.run(2000);
    let put_up = |action: &Action| matches!(action, Action::RepairAddress { .. } | Action::AddAddresses { .. });
    assert_eq!((nodes.runs(A).digest, nodes.place(A, put_up), nodes.stopped()), (2, None, false));
    nodes.did.clear();
    maintain(&mut nodes, false);
    nodes.run(1500);
    let asked = nodes.place(A, |action| matches!(action, Action::Probe { .. }));
    assert!(nodes.stopped() && asked.is_some() && asked < nodes.place(A, put_up));
}

#[test]
fn a_group_whose_addresses_were_gone_while_a_node_was_lost_starts_anew() {
    let (old, new) = (version(1, &[77], &[]), version(2, &[78], &[]));
    let mut nodes = Nodes::new(&old);
    nodes.ends = |action| matches!(action, Action::Note { .. }).then(|| Outcome::Failed("no room".into()));
    for node in [A, B] {
        nodes.files(node, std::slice::from_ref(&new));
    }
    nodes.run(1000);
    assert!(nodes.place(A, removes).is_some());
    nodes.dead[B] = true;
    nodes.run(2000);
    nodes.ends = |_| None;
    nodes.did.clear();
    nodes.run(1500);
    let asked = nodes.place(A, |action| matches!(action, Action::Probe { .. }));
    let added = nodes.place(A, |action| matches!(action, Action::AddAddresses { .. }));
    assert!(nodes.stopped() && asked.is_some() && asked < added, "{asked:?} {added:?}");
    assert_eq!((nodes.runs(A).digest, nodes.role(A)), (2, Role::Running));
}

#[test]
fn what_could_not_be_started_or_written_down_is_said() {
    let mut nodes = Nodes::new(&version(1, &[77], &[]));
    let attention = |nodes: &Nodes| nodes.hearts[A].status().attention.join("; ");
    nodes.ends = |action| matches!(action, Action::Note { .. }).then(|| Outcome::Failed("no room".into()));
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77], &["m.service"])]);
    }
    nodes.run(1500);
    assert!(attention(&nodes).contains("cannot be written down yet: no room"), "{}", attention(&nodes));
    nodes.ends = |action| starts_members(action).then(|| Outcome::Refused("not now".into()));
    nodes.run(3000);
    assert_eq!(nodes.runs(A).digest, 2);
    assert!(attention(&nodes).contains("cannot be changed yet: not now"), "{}", attention(&nodes));
}

#[test]
fn a_member_that_was_not_started_is_started_by_the_next_change() {
    let mut nodes = Nodes::new(&version(1, &[77], &[]));
    nodes.ends = |action| starts_members(action).then(|| Outcome::Unknown("no answer in time".into()));
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77], &["m.service"])]);
    }
    nodes.run(1000);
    assert!(nodes.place(A, starts_members).is_some());
    nodes.did.clear();
    nodes.ends = |_| None;
    for node in [A, B] {
        nodes.files(node, &[version(3, &[77, 78], &["m.service"])]);
    }
    nodes.run(1000);
    assert_eq!((nodes.runs(A).digest, nodes.runs(B).digest), (3, 3));
    assert!(nodes.place(A, starts_members).is_some());
}
