//! Groups between which a part moved in the files of one node alone, while each node ran one of them and heard nobody.

use super::moved_parts::{OTHER, each_has_one, other, prefers_beta};
use super::*;

/// Alpha, which runs the first group, has adopted these while it heard nobody.
fn met(web: GroupConfig, db: GroupConfig) -> Nodes {
    let before = prefers_beta(other(5, &[79, 80], &[]));
    let mut nodes = each_has_one(&version(1, &[77], &[]), &before);
    adopted_alone(&mut nodes.hearts[A], &web, &db);
    nodes.files(A, &[web, db]);
    nodes.run(2000);
    nodes
}

fn adopted_alone(heart: &mut Cluster, web: &GroupConfig, db: &GroupConfig) {
    Arc::make_mut(&mut heart.config).groups = vec![web.clone(), db.clone()];
    for id in [GROUP, OTHER] {
        heart.groups[usize::from(id.0)].parts = parts_digest(heart.config.group(id));
    }
}

fn roles(nodes: &Nodes) -> (Role, Role) {
    (nodes.hearts[A].role(GROUP), nodes.hearts[B].role(OTHER))
}

#[test]
fn of_two_that_may_have_the_same_part_in_two_groups_one_lets_go() {
    let (web, db) = (version(2, &[77, 80], &[]), prefers_beta(other(6, &[79], &[])));
    let mut nodes = met(web.clone(), db.clone());
    assert_eq!(roles(&nodes), (Role::Running, Role::Idle));
    let stopped = nodes.by(B).into_iter().find_map(|action| match action {
        Action::Report(Change::GroupStopping { group: OTHER, reason, .. }) => Some(reason.clone()),
        _ => None,
    });
    let stopped = stopped.expect("a reason");
    assert!(stopped.contains("alpha runs web") && stopped.contains("reload hafailover"), "{stopped}");
    nodes.files(B, &[web, db]);
    nodes.run(2000);
    assert_eq!((roles(&nodes), nodes.hearts[B].config.group(OTHER).digest), ((Role::Running, Role::Running), 6));
}

#[test]
fn one_that_the_other_does_not_know_of_lets_go_itself() {
    let (web, db) = (version(2, &[77, 80], &[]), prefers_beta(other(6, &[79], &[])));
    let mut nodes = met(web, db);
    // Beta, whose name comes later, was to let go; as if it knew nothing of the group that alpha runs.
    let beta = nodes.hearts[A].view.peers.get_mut(&BETA).expect("a peer");
    beta.groups.remove(&GROUP);
    beta.groups.get_mut(&OTHER).expect("said").role = Role::Running;
    let actions = nodes.hearts[A].decide(millis(nodes.now));
    assert!(stops(&actions), "{actions:?}");
}

#[test]
fn nobody_lets_go_where_no_part_can_be_in_both() {
    let (web, db) = (version(1, &[77], &[]), prefers_beta(other(5, &[79, 80], &[])));
    // One group gained a part from nowhere; both differ, but not in their parts.
    let gained = (version(2, &[77, 81], &[]), db.clone());
    let slower = (GroupConfig { digest: 2, ..web }, GroupConfig { digest: 6, ..db });
    for (web, db) in [gained, slower] {
        assert_eq!(roles(&met(web, db)), (Role::Running, Role::Running));
    }
}

#[test]
fn nobody_lets_go_where_the_files_agree_already() {
    let (web, db) = (version(2, &[77, 80], &[]), prefers_beta(other(6, &[79], &[])));
    let mut nodes = each_has_one(&version(1, &[77], &[]), &prefers_beta(other(5, &[79, 80], &[])));
    for node in [B, A] {
        nodes.files(node, &[web.clone(), db.clone()]);
    }
    nodes.run(3000);
    assert!(!nodes.stopped());
    assert_eq!((roles(&nodes), nodes.runs(A).digest), ((Role::Running, Role::Running), 2));
}

#[test]
fn files_that_agree_are_not_waited_for_where_one_group_is_being_started_or_stopped() {
    let (web, db) = (version(2, &[77, 80], &[]), prefers_beta(other(6, &[79], &[])));
    for role in [Role::Idle, Role::Stopping, Role::Starting] {
        let mut nodes = each_has_one(&version(1, &[77], &[]), &prefers_beta(other(5, &[79, 80], &[])));
        adopted_alone(&mut nodes.hearts[A], &web, &db);
        for node in [A, B] {
            nodes.files(node, &[web.clone(), db.clone()]);
        }
        let at = millis(nodes.now + 100);
        nodes.hearts.iter_mut().for_each(|heart| heart.begin(at));
        for action in nodes.hearts[A].decide(at) {
            if let Action::Send(message) = action {
                nodes.hearts[B].hear(LINK, &message);
            }
        }
        let alpha = nodes.hearts[B].view.peers.get_mut(&ALPHA).expect("a peer");
        alpha.groups.get_mut(&OTHER).expect("said").role = role;
        let actions = nodes.hearts[B].decide(at);
        assert_eq!(stops(&actions), role != Role::Idle, "{role:?}: {actions:?}");
    }
}

#[test]
fn files_that_agree_end_nothing_under_maintenance() {
    let (web, db) = (version(2, &[77, 80], &[]), prefers_beta(other(6, &[79], &[])));
    let mut nodes = each_has_one(&version(1, &[77], &[]), &prefers_beta(other(5, &[79, 80], &[])));
    nodes.hearts[A].fold(Event::Command { request: RequestId(1), command: Command::Maintenance { on: true } });
    nodes.run(500);
    adopted_alone(&mut nodes.hearts[A], &web, &db);
    for node in [A, B] {
        nodes.files(node, &[web.clone(), db.clone()]);
    }
    nodes.run(2000);
    assert_eq!(roles(&nodes), (Role::Running, Role::Idle));
}

#[test]
fn who_is_not_heard_by_the_other_lets_go_itself() {
    let mut nodes = each_has_one(&version(1, &[77], &[]), &prefers_beta(other(5, &[79, 80], &[])));
    let (web, db) = (version(2, &[77, 80], &[]), prefers_beta(other(6, &[79], &[])));
    adopted_alone(&mut nodes.hearts[A], &web, &db);
    nodes.files(A, &[web, db]);
    let mut stopped = None;
    for at in (nodes.now..nodes.now + 1500).step_by(50) {
        // Beta speaks, and hears nothing.
        for node in [B, A] {
            nodes.hearts[node].begin(millis(at));
            for action in nodes.hearts[node].decide(millis(at)) {
                match &action {
                    Action::Send(message) if node == B => drop(nodes.hearts[A].hear(LINK, message)),
                    // Alpha's kernel answers.
                    Action::Probe { group } if node == B => {
                        let answer = Event::ProbeAnswer { group: *group, index: 0, mac: [2, 0, 0, 0, 0, 1] };
                        nodes.hearts[B].fold(answer);
                    }
                    Action::Report(Change::GroupStopping { group: GROUP, reason, .. }) if node == A => {
                        stopped.get_or_insert((at, reason.clone()));
                    }
                    _ => answer(&action, |_| None).into_iter().for_each(|event| nodes.hearts[node].fold(event)),
                }
            }
        }
    }
    let (at, reason) = stopped.expect("alpha cannot be seen");
    assert!(reason.contains("beta runs other") && at >= nodes.now + 200, "{at}: {reason}");
}
