//! Roll-outs: hearts that hear each other, whose files change one after the other, and what happens to the group meanwhile.

use super::testing::*;
use super::*;
use crate::config::model::{GroupConfig, VirtualAddress};
use crate::wire::Role;

mod crossed;
mod held_up;
mod moved_parts;

const A: usize = 0;
const B: usize = 1;

fn address(last: u8) -> VirtualAddress {
    VirtualAddress { address: [10, 0, 0, last].into(), ..group().addresses[0].clone() }
}

/// The group with other addresses and members; the digest tells them apart.
fn version(digest: u32, addresses: &[u8], members: &[&str]) -> GroupConfig {
    GroupConfig {
        addresses: addresses.iter().map(|last| address(*last)).collect(),
        members: members.iter().map(|member| (*member).to_owned()).collect(),
        digest,
        ..group()
    }
}

/// Nodes that hear each other; what ends at once ends well, unless the test says otherwise.
struct Nodes {
    hearts: Vec<Cluster>,
    /// Cut off: neither speaks nor hears, and its heart stands still.
    dead: [bool; 2],
    /// All that was asked for, by node, without messages.
    did: Vec<(usize, Action)>,
    ends: fn(&Action) -> Option<Outcome>,
    now: u64,
}

impl Nodes {
    fn off(runs: &GroupConfig) -> Nodes {
        let heart = |me: NodeId| {
            let identity = Identity { incarnation: Incarnation(u64::from(me.0) + 1), boot: BootId(7) };
            let config = Config { groups: vec![runs.clone()], ..config(me) };
            let mut heart = Cluster::new(Arc::new(config), identity, &Saved::default(), &[], Time(0));
            heart.begin(Time(0));
            heart.fold(Event::Link { link: LINK, usable: true });
            heart.fold(Event::Interface { interface: "eth0".into(), up: true });
            heart.fold(Event::Guard { group: GROUP, fault: None });
            heart
        };
        let hearts = vec![heart(ALPHA), heart(BETA)];
        Nodes { hearts, dead: [false; 2], did: Vec::new(), ends: |_| None, now: 0 }
    }

    /// Both have joined, and alpha runs the group.
    fn new(runs: &GroupConfig) -> Nodes {
        let mut nodes = Nodes::off(runs);
        nodes.run(2000);
        for node in [A, B] {
            nodes.files(node, std::slice::from_ref(runs));
        }
        nodes.run(500);
        assert_eq!((nodes.role(A), nodes.role(B)), (Role::Running, Role::Idle));
        nodes.did.clear();
        nodes
    }

    /// Both start together by what they adopted, with files that changed while they were off.
    fn booted(adopted: &GroupConfig, files: &GroupConfig) -> Nodes {
        let mut nodes = Nodes::off(adopted);
        for node in [A, B] {
            nodes.files(node, std::slice::from_ref(files));
        }
        nodes.run(2000);
        nodes
    }

    fn files(&mut self, node: usize, groups: &[GroupConfig]) {
        let groups = groups.to_vec();
        self.hearts[node].fold(Event::Files { groups, request: Some(RequestId(9)) });
    }

    fn run(&mut self, millis: u64) {
        for at in (self.now..=self.now + millis).step_by(50) {
            self.round(at);
        }
        self.now += millis;
    }

    fn round(&mut self, at: u64) {
        for _ in 0..30 {
            let mut said = Vec::new();
            for (node, heart) in self.hearts.iter_mut().enumerate().filter(|(node, _)| !self.dead[*node]) {
                heart.begin(millis(at));
                for action in heart.decide(millis(at)) {
                    let guard = matches!(action, Action::Configure(_));
                    match answer(&action, self.ends) {
                        Some(event) => heart.fold(event),
                        None => {
                            if let Action::Send(message) = &action {
                                said.push((node, message.clone()));
                            }
                        }
                    }
                    if guard {
                        (0..heart.groups.len() as u16)
                            .for_each(|id| heart.fold(Event::Guard { group: GroupId(id), fault: None }));
                    }
                    if !matches!(action, Action::Send(_) | Action::Save(_)) {
                        self.did.push((node, action));
                    }
                }
            }
            for (from, message) in &said {
                if !self.dead[1 - from] {
                    self.hearts[1 - from].hear(LINK, message);
                }
            }
        }
    }

    fn role(&self, node: usize) -> Role {
        self.hearts[node].role(GROUP)
    }

    fn runs(&self, node: usize) -> GroupConfig {
        self.hearts[node].config.group(GROUP).clone()
    }

    fn by(&self, node: usize) -> Vec<&Action> {
        self.did.iter().filter(|(who, _)| *who == node).map(|(_, action)| action).collect()
    }

    fn place(&self, node: usize, wanted: impl Fn(&Action) -> bool) -> Option<usize> {
        self.by(node).into_iter().position(wanted)
    }

    fn stopped(&self) -> bool {
        self.did.iter().any(|(_, action)| matches!(action, Action::Report(Change::GroupStopping { .. })))
    }
}

fn told(action: &Action) -> Option<&str> {
    match action {
        Action::Reply { answer: Answer::Done(text), .. } => Some(text),
        _ => None,
    }
}

#[test]
fn a_changed_file_waits_for_the_other_node_and_then_both_adopt_it() {
    let mut nodes = Nodes::new(&version(1, &[77], &[]));
    let new = version(2, &[77, 78], &[]);
    nodes.files(B, std::slice::from_ref(&new));
    nodes.run(2000);
    assert_eq!((nodes.runs(A).digest, nodes.runs(B).digest), (1, 1), "one node's files are no agreement");
    let waits = nodes.by(B).into_iter().find_map(told).expect("an answer").to_owned();
    assert!(waits.contains("waits for alpha") && waits.contains("systemctl reload hafailover"), "{waits}");
    let status = nodes.hearts[B].status();
    let files: Vec<_> =
        status.rollout[0].nodes.iter().map(|node| (node.node.as_str(), node.files.as_deref())).collect();
    assert_eq!(files, [("beta", Some("00000002")), ("alpha", Some("00000001"))]);
    assert!(status.attention.iter().any(|line| line.contains("waits for alpha")), "{:?}", status.attention);
    nodes.did.clear();
    nodes.files(A, std::slice::from_ref(&new));
    nodes.run(500);
    assert_eq!((nodes.runs(A), nodes.runs(B)), (new.clone(), new));
    assert!(nodes.hearts[A].status().rollout.is_empty());
    assert!(!nodes.stopped() && nodes.role(A) == Role::Running);
    assert!(nodes.by(A).into_iter().find_map(told).is_some_and(|text| text.contains("web runs by its files")));
    // Only the new address was touched, after it was written down.
    let note = nodes.place(A, |action| matches!(action, Action::Note { .. })).expect("written down");
    let added = nodes.place(A, |action| matches!(action, Action::RepairAddress { index: 1, .. })).expect("added");
    assert!(note < added);
    let others = |action: &Action| {
        matches!(action, Action::DropAddresses { .. } | Action::DropMembers { .. } | Action::StartMembers { .. })
            || matches!(action, Action::RepairAddress { index: 0, .. } | Action::AddAddresses { .. })
    };
    assert_eq!(nodes.place(A, others), None);
}

#[test]
fn what_is_gone_goes_before_the_note_and_what_is_new_comes_after_it() {
    let mut nodes = Nodes::new(&version(1, &[77, 78], &["a.service", "b.service"]));
    let new = version(2, &[79, 77], &["b.service", "c.service"]);
    for node in [A, B] {
        nodes.files(node, std::slice::from_ref(&new));
    }
    nodes.run(1000);
    assert_eq!((nodes.runs(A), nodes.runs(B), nodes.role(A)), (new.clone(), new, Role::Running));
    assert!(!nodes.stopped());
    let places = [
        nodes.place(A, |action| matches!(action, Action::CheckGuards { .. })),
        nodes.place(A, |action| matches!(action, Action::DropMembers { units, .. } if units == &["a.service"])),
        nodes.place(A, |action| matches!(action, Action::DropAddresses { indexes, .. } if indexes == &[1])),
        nodes.place(A, |action| matches!(action, Action::Note { .. })),
        nodes.place(A, |action| matches!(action, Action::Configure(_))),
        nodes.place(A, |action| matches!(action, Action::RepairAddress { index: 0, .. })),
        nodes.place(A, |action| matches!(action, Action::StartMembers { .. })),
    ];
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
    // The node that does not run it looks whether something of it is there.
    assert!(nodes.place(B, |action| matches!(action, Action::Inspect { .. })).is_some());
    assert!(
        nodes.place(B, |action| matches!(action, Action::DropMembers { .. } | Action::StartMembers { .. })).is_none()
    );
}

#[test]
fn an_owner_that_dies_in_the_middle_is_followed_by_the_old_rules_and_then_the_new_ones_are_adopted() {
    let old = version(1, &[77], &[]);
    let mut nodes = Nodes::new(&old);
    let new = version(2, &[77, 78], &[]);
    nodes.files(B, std::slice::from_ref(&new));
    nodes.run(500);
    nodes.did.clear();
    nodes.dead[A] = true;
    nodes.run(2000);
    assert_eq!((nodes.role(B), nodes.runs(B)), (Role::Running, new));
    let started = nodes.place(B, |action| matches!(action, Action::Report(Change::GroupRunning { .. })));
    let configured = nodes.place(B, |action| matches!(action, Action::Configure(_)));
    assert!(started.is_some() && started < configured, "taken over as it was: {started:?} {configured:?}");
    // Back, with its old files: it starts nothing by them, and follows once it reads the new ones.
    nodes.dead[A] = false;
    nodes.run(3000);
    assert_eq!((nodes.role(A), nodes.role(B), nodes.runs(A).digest), (Role::Idle, Role::Running, 1));
    nodes.files(A, &[version(2, &[77, 78], &[])]);
    nodes.run(500);
    assert_eq!((nodes.runs(A).digest, nodes.role(B)), (2, Role::Running));
}

#[test]
fn a_group_that_differs_starts_nowhere_while_both_are_heard() {
    let mut nodes = Nodes::new(&version(1, &[77], &[]));
    // Only beta adopted it: alpha was not heard then.
    nodes.dead[A] = true;
    nodes.run(2000);
    nodes.files(B, &[version(2, &[77, 78], &[])]);
    nodes.run(1000);
    assert_eq!(nodes.runs(B).digest, 2);
    nodes.hearts[B].fold(Event::Command { request: RequestId(1), command: Command::Stop { group: GROUP } });
    nodes.run(500);
    nodes.dead[A] = false;
    nodes.run(3000);
    nodes.hearts[B].fold(Event::Command { request: RequestId(2), command: Command::Start { group: GROUP } });
    nodes.run(2000);
    assert_eq!((nodes.role(A), nodes.role(B)), (Role::Idle, Role::Idle));
    nodes.files(A, &[version(2, &[77, 78], &[])]);
    nodes.run(2000);
    assert!([nodes.role(A), nodes.role(B)].contains(&Role::Running));
}

#[test]
fn a_new_group_starts_when_every_node_has_it_and_one_that_is_gone_stops_first() {
    let old = version(1, &[77], &[]);
    let mut nodes = Nodes::new(&old);
    let new = GroupConfig { name: "db".into(), tag: crate::config::model::GroupTag(11), ..version(5, &[90], &[]) };
    let db = GroupId(1);
    nodes.files(A, &[new.clone(), old.clone()]);
    nodes.run(2000);
    assert!(nodes.hearts[A].status().groups.iter().all(|group| group.name != "db"), "it is not there yet");
    assert_eq!(nodes.hearts[A].status().rollout[0].group, "db");
    nodes.files(B, &[new.clone(), old.clone()]);
    nodes.run(1000);
    assert_eq!(nodes.hearts[A].role(db), Role::Running);
    assert_eq!(nodes.hearts[B].role(db), Role::Idle);
    assert_eq!(nodes.hearts[B].config.group(db).digest, 5);
    nodes.did.clear();
    // Gone from one node's files: nothing happens. From both: stopped, confirmed, and then in no configuration.
    nodes.files(A, std::slice::from_ref(&old));
    nodes.run(1000);
    assert_eq!(nodes.hearts[A].role(db), Role::Running);
    nodes.files(B, std::slice::from_ref(&old));
    nodes.run(1000);
    let released = nodes.place(A, |action| matches!(action, Action::Report(Change::GroupReleased { .. })));
    let noted = nodes.place(A, |action| matches!(action, Action::Note { .. }));
    assert!(released.is_some() && released < noted, "{released:?} {noted:?}");
    assert!([A, B].iter().all(|node| nodes.hearts[*node].config.group(db).is_gone()));
    assert!(nodes.place(B, |action| matches!(action, Action::Report(Change::GroupStarting { .. }))).is_none());
    assert!(nodes.hearts[A].status().groups.iter().all(|group| group.name != "db"));
    let attention = [A, B].map(|node| nodes.hearts[node].status().attention).concat();
    assert!(!attention.iter().any(|line| line.contains("group")), "{attention:?}");
    // And again: the same place, a higher epoch.
    for node in [A, B] {
        nodes.files(node, &[new.clone(), old.clone()]);
    }
    nodes.run(1000);
    assert_eq!(nodes.hearts[A].role(db), Role::Running);
    assert_eq!(nodes.hearts[A].record(db).map(|record| record.grant.epoch), Some(Epoch(2)));
    assert_eq!(nodes.role(A), Role::Running);
}

#[test]
fn what_cannot_be_removed_is_tried_again_and_an_edit_back_restores_what_went() {
    let old = version(1, &[77, 78], &["a.service", "b.service"]);
    let mut nodes = Nodes::new(&old);
    nodes.ends =
        |action| matches!(action, Action::DropMembers { .. }).then(|| Outcome::Unknown("still running".into()));
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77], &["a.service"])]);
    }
    nodes.run(7000);
    let tries = nodes.by(A).iter().filter(|action| matches!(action, Action::DropMembers { .. })).count();
    assert!((2..=4).contains(&tries), "{tries}");
    let told = |change: &Change| matches!(change, Change::GroupNotChanged { .. });
    assert_eq!(nodes.by(A).iter().filter(|action| matches!(action, Action::Report(change) if told(change))).count(), 1);
    assert_eq!((nodes.runs(A), nodes.role(A)), (old.clone(), Role::Running), "it goes on, and nothing is written down");
    assert!(!nodes.by(A).iter().any(|action| matches!(action, Action::Note { .. })));
    // A member that is being stopped is no failure; one that stays is.
    nodes.hearts[A].fold(Event::MemberDown { group: GROUP, unit: "b.service".into(), reason: "stopped".into() });
    nodes.hearts[A].fold(Event::AddressLost { group: GROUP, index: 1 });
    nodes.run(100);
    assert!(!nodes.stopped());
    assert!(!nodes.by(A).iter().any(|action| matches!(action, Action::RepairAddress { .. })), "nor is it put back");
    nodes.did.clear();
    for node in [A, B] {
        nodes.files(node, std::slice::from_ref(&old));
    }
    nodes.run(5000);
    assert!(nodes.place(A, |action| matches!(action, Action::RepairAddress { index: 1, .. })).is_some());
    assert!(nodes.place(A, |action| matches!(action, Action::StartMembers { .. })).is_some());
    assert_eq!((nodes.runs(A), nodes.runs(B), nodes.role(A)), (old.clone(), old, Role::Running));
}

#[test]
fn nothing_is_done_by_a_configuration_that_cannot_be_written_down() {
    let old = version(1, &[77], &[]);
    let mut nodes = Nodes::new(&old);
    nodes.ends = |action| matches!(action, Action::Note { .. }).then(|| Outcome::Failed("no room".into()));
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77, 78], &[])]);
    }
    nodes.run(3000);
    assert_eq!((nodes.runs(A), nodes.runs(B)), (old.clone(), old));
    assert!(!nodes.by(A).iter().any(|action| matches!(action, Action::RepairAddress { .. })));
    assert!(nodes.place(B, |action| matches!(action, Action::Note { .. })).is_none(), "the owner goes first");
    // What may be written down is neither started as it was before.
    let mut nodes = Nodes::off(&version(1, &[77], &[]));
    nodes.ends = |action| matches!(action, Action::Note { .. }).then(|| Outcome::Failed("no room".into()));
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77, 78], &[])]);
    }
    nodes.run(3000);
    let roles = (nodes.role(A), nodes.role(B));
    assert_eq!(roles, (Role::Idle, Role::Idle), "what is here may be another group by the time it is up");
    nodes.ends = |_| None;
    nodes.run(3000);
    assert_eq!((nodes.role(A), nodes.runs(A).digest, nodes.runs(B).digest), (Role::Running, 2, 2));
}

#[test]
fn a_new_member_without_a_guard_holds_the_change_up_and_one_that_fails_moves_the_group() {
    let mut nodes = Nodes::new(&version(1, &[77], &["a.service"]));
    nodes.ends = |action| matches!(action, Action::CheckGuards { .. }).then(|| Outcome::Refused("not loaded".into()));
    for node in [A, B] {
        nodes.files(node, &[version(2, &[77], &["a.service", "b.service"])]);
    }
    nodes.run(4000);
    assert_eq!((nodes.runs(A).digest, nodes.role(A)), (1, Role::Running));
    let waits = nodes.hearts[A].status().rollout[0].waits.clone().expect("a reason");
    assert!(waits.contains("not loaded"), "{waits}");
    nodes.ends = |action| match action {
        Action::StartMembers { .. } => Some(Outcome::Failed("b.service: exited with 1".into())),
        _ => None,
    };
    nodes.run(3500);
    assert!(nodes.stopped() && nodes.hearts[A].banned(GROUP));
    nodes.ends = |_| None;
}

#[test]
fn a_name_of_this_host_alone_needs_nobodys_consent() {
    let mut nodes = Nodes::new(&version(1, &[77], &[]));
    let mut moved = version(1, &[77], &[]);
    moved.addresses[0].interface = Some("eth1".into());
    nodes.files(A, std::slice::from_ref(&moved));
    nodes.run(300);
    assert_eq!(nodes.runs(A), moved);
    let dropped = nodes.place(A, |action| matches!(action, Action::DropAddresses { .. }));
    let added = nodes.place(A, |action| matches!(action, Action::RepairAddress { .. }));
    assert!(dropped.is_some() && dropped < added);
    assert!(nodes.hearts[B].status().rollout.is_empty());
}

#[test]
fn a_group_whose_new_nodes_leave_its_owner_out_is_moved() {
    let mut nodes = Nodes::new(&version(1, &[77], &[]));
    let only = GroupConfig { nodes: vec![BETA], ..version(2, &[77], &[]) };
    for node in [A, B] {
        nodes.files(node, std::slice::from_ref(&only));
    }
    nodes.run(2000);
    assert_eq!((nodes.role(A), nodes.role(B)), (Role::Idle, Role::Running));
}

#[test]
fn what_changed_while_all_were_off_is_adopted_before_it_starts() {
    // Without an address nothing is asked, and so nothing delays a start.
    let nodes = Nodes::booted(&version(1, &[], &[]), &version(2, &[], &["a.service"]));
    assert_eq!((nodes.role(A), nodes.runs(A).digest, nodes.runs(B).digest), (Role::Running, 2, 2));
    let configured = nodes.place(A, |action| matches!(action, Action::Configure(_)));
    let starting = nodes.place(A, |action| matches!(action, Action::Report(Change::GroupStarting { .. })));
    assert!(configured.is_some() && configured < starting, "{configured:?} {starting:?}");
    assert!(nodes.place(A, |action| matches!(action, Action::CheckGuards { .. })).is_none());
}

#[test]
fn an_owner_keeps_an_address_that_a_silent_node_could_ask_for() {
    let mut nodes = Nodes::new(&version(1, &[77], &[]));
    nodes.dead[A] = true;
    nodes.run(2000);
    nodes.files(B, &[version(2, &[78], &[])]);
    nodes.run(2000);
    assert_eq!((nodes.role(B), nodes.runs(B).digest), (Role::Running, 1));
    nodes.files(B, &[version(3, &[77, 78], &[])]);
    nodes.run(2000);
    assert_eq!(nodes.runs(B).digest, 3);
}

#[test]
fn who_answers_for_an_address_is_not_forgotten_by_asking_for_another() {
    let mut nodes = Nodes::new(&version(1, &[77], &[]));
    nodes.dead[A] = true;
    // Alpha is cut off, and alive: its address answers whenever it is asked for.
    for _ in 0..40 {
        nodes.run(50);
        nodes.hearts[B].fold(Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 1] });
    }
    nodes.files(B, &[version(2, &[78], &[])]);
    for _ in 0..40 {
        nodes.run(50);
        nodes.hearts[B].fold(Event::ProbeAnswer { group: GROUP, index: 0, mac: [2, 0, 0, 0, 0, 1] });
    }
    assert_eq!((nodes.role(B), nodes.runs(B).digest), (Role::Idle, 1));
}
