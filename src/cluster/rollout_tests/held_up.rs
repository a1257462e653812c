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

#[test]
fn what_was_given_up_comes_back_where_the_change_is_held_up() {
    let mut nodes = Nodes::new(&version(1, &[77, 78], &["m.service"]));
    let back = |action: &Action| matches!(action, Action::RepairAddress { index: 1, .. });
    let removes = |action: &Action| matches!(action, Action::DropAddresses { .. });
    nodes.ends =
        |action| matches!(action, Action::DropMembers { .. }).then(|| Outcome::Unknown("still running".into()));
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77], &[])]);
    }
    nodes.run(1000);
    assert!(nodes.place(A, removes).is_some());
    maintain(&mut nodes, true);
    nodes.ends = |_| None;
    nodes.run(4000);
    assert_eq!(nodes.place(A, back), None, "the member has just gone: it may be over in a moment");
    nodes.run(3000);
    assert!(nodes.place(A, back).is_some());
    assert!(nodes.place(A, |action| matches!(action, Action::StartMembers { .. })).is_some());
    let told = |action: &Action| match action {
        Action::Report(Change::GroupNotChanged { reason, .. }) => reason.contains("maintenance is on"),
        _ => false,
    };
    assert!(nodes.place(A, told).is_some());
    nodes.did.clear();
    maintain(&mut nodes, false);
    nodes.run(2000);
    assert!(nodes.place(A, removes).is_some());
    assert_eq!((nodes.runs(A).digest, nodes.runs(B).digest), (2, 2));
}
