//! The exchange of groups' state: two hearts with many groups, which hear what the test lets through.

use super::testing::*;
use super::*;
use crate::config::model::GroupTag;
use crate::wire::{Role, codec, seal::SEAL_LEN};

const MANY: usize = 500;

/// As `testing::config`, with groups that have nothing to do.
fn many(me: NodeId) -> Config {
    let one = group();
    let groups = (0..MANY).map(|index| crate::config::model::GroupConfig {
        name: format!("g{index:03}"),
        tag: GroupTag(index as u32 + 1),
        addresses: Vec::new(),
        interfaces: Vec::new(),
        ..one.clone()
    });
    Config { groups: groups.collect(), ..config(me) }
}

struct Two {
    hearts: [Cluster; 2],
    /// All that was sent in the last rounds, and by whom.
    sent: Vec<(usize, Message)>,
}

impl Two {
    fn new() -> Two {
        let heart = |me: NodeId| {
            let identity = Identity { incarnation: Incarnation(u64::from(me.0) + 1), boot: BootId(7) };
            let mut heart = Cluster::new(Arc::new(many(me)), identity, &Saved::default(), &[], Time(0));
            heart.begin(Time(0));
            heart.fold(Event::Link { link: LINK, usable: true });
            heart
        };
        Two { hearts: [heart(ALPHA), heart(BETA)], sent: Vec::new() }
    }

    /// Both hearts at `at` ms; what they say arrives at once, but for what `lost` takes.
    fn round(&mut self, at: u64, lost: impl Fn(usize, &Message) -> bool) {
        for _ in 0..8 {
            let mut said = Vec::new();
            for (from, heart) in self.hearts.iter_mut().enumerate() {
                heart.begin(millis(at));
                for action in heart.decide(millis(at)) {
                    match action {
                        Action::Send(message) => said.push((from, message)),
                        action => {
                            let (op, outcome) = match action {
                                Action::Inspect { op, .. } => (op, Outcome::Inspected(Actual::default())),
                                Action::Hold { op, .. }
                                | Action::StartMembers { op, .. }
                                | Action::RemoveAddresses { op, .. }
                                | Action::StopMembers { op, .. } => (op, Outcome::Done),
                                _ => continue,
                            };
                            heart.fold(Event::Finished { op, outcome });
                        }
                    }
                }
            }
            for (from, message) in &said {
                if !lost(*from, message) {
                    self.hearts[1 - from].hear(LINK, message);
                }
            }
            self.sent.extend(said);
        }
    }

    fn keep(&mut self, from: u64, until: u64) {
        self.sent.clear();
        for at in (from..=until).step_by(50) {
            self.round(at, |_, _| false);
        }
    }

    fn longest(&self) -> usize {
        self.sent.iter().map(|(_, message)| codec::encode(message).len() + SEAL_LEN).max().unwrap_or(0)
    }

    fn groups_sent(&self) -> usize {
        self.sent.iter().map(|(_, message)| message.groups.len()).sum()
    }

    fn all_run_on_alpha_as_beta_knows(&self) -> bool {
        let ids: Vec<GroupId> = self.hearts[1].config.group_ids().collect();
        let says = |id: &GroupId| self.hearts[1].view.says(ALPHA, *id).expect("a peer");
        ids.iter().all(|id| says(id).role == Role::Running && says(id).record == self.hearts[0].record(*id))
    }
}

#[test]
fn five_hundred_groups_cost_the_idle_wire_nothing() {
    let mut two = Two::new();
    two.keep(0, 3000);
    assert!(two.all_run_on_alpha_as_beta_knows());
    assert!(two.longest() <= codec::MAX_LEN, "{} bytes", two.longest());
    two.keep(3050, 6000);
    assert!(two.sent.len() > 50, "{} heartbeats", two.sent.len());
    assert_eq!((two.groups_sent(), two.longest()), (0, 104));
}

#[test]
fn what_changed_is_said_until_it_is_acknowledged() {
    let mut two = Two::new();
    two.keep(0, 3000);
    two.sent.clear();
    let stop = Command::Stop { group: GroupId(7) };
    two.hearts[0].fold(Event::Command { request: RequestId(1), command: stop });
    // The other node does not hear of it.
    for at in [3050, 3150] {
        two.round(at, |from, _| from == 0);
    }
    let mine = two.sent.iter().filter(|(from, _)| *from == 0);
    assert!(mine.clone().count() >= 2 && mine.clone().all(|(_, message)| message.groups.len() == 1));
    two.keep(3200, 3300);
    assert_eq!(two.hearts[1].view.says(ALPHA, GroupId(7)).map(|says| says.role), Some(Role::Idle));
    two.keep(3350, 3450);
    two.keep(3500, 3800);
    assert_eq!(two.groups_sent(), 0, "{:?}", two.sent);
}

#[test]
fn while_a_part_is_missing_nobody_counts_as_idle_and_it_is_said_again() {
    let mut two = Two::new();
    let lost_part = |from: usize, message: &Message| from == 0 && message.groups.iter().any(|says| says.group.0 == 100);
    for at in (0..=1000).step_by(50) {
        two.round(at, lost_part);
    }
    let beta = &two.hearts[1];
    assert!(!beta.view.peer(ALPHA).expect("a peer").told_all());
    let idle = |id| beta.view.says(ALPHA, id).is_some_and(|says| says.role == Role::Idle);
    assert!(!beta.config.group_ids().any(idle), "what is old may no longer be so");
    two.keep(1050, 3000);
    assert!(two.hearts[1].view.peer(ALPHA).expect("a peer").told_all());
    assert!(two.all_run_on_alpha_as_beta_knows());
}

#[test]
fn who_comes_anew_is_told_everything() {
    let mut two = Two::new();
    two.keep(0, 3000);
    let identity = Identity { incarnation: Incarnation(99), boot: BootId(8) };
    let mut new = Cluster::new(two.hearts[1].config.clone(), identity, &Saved::default(), &[], millis(3050));
    new.begin(millis(3050));
    new.fold(Event::Link { link: LINK, usable: true });
    two.hearts[1] = new;
    two.keep(3050, 3100);
    assert!(two.all_run_on_alpha_as_beta_knows());
    assert!(two.longest() <= codec::MAX_LEN);
}

/// The first words to it may be lost, and what it says back may take its time.
#[test]
fn who_left_and_speaks_anew_is_told_with_each_heartbeat_until_it_is_known() {
    let mut two = Two::new();
    two.keep(0, 3000);
    let (goodbye, stranger) = {
        let last = |two: &Two| two.sent.iter().rev().find(|(from, _)| *from == 1).expect("beta spoke").1.clone();
        let mut goodbye = last(&two);
        goodbye.sequence += 1;
        goodbye.flags.left = true;
        let stranger = Message { incarnation: Incarnation(99), sequence: 1, echoes: Vec::new(), ..goodbye.clone() };
        (goodbye, Message { flags: Default::default(), groups: Vec::new(), ..stranger })
    };
    let told = |two: &mut Two, from, until| {
        two.sent.clear();
        (from..=until).step_by(50).for_each(|at| two.round(at, |_, _| true));
        two.sent.iter().filter(|(from, message)| *from == 0 && !message.groups.is_empty()).count()
    };
    two.hearts[0].hear(LINK, &goodbye);
    assert_eq!(told(&mut two, 3050, 4000), 0, "who left is told nothing more");
    assert!(matches!(two.hearts[0].hear(LINK, &stranger), Heard::Stranger { new: true }));
    assert!(told(&mut two, 4050, 4150) > 1, "at first everything");
    let later = told(&mut two, 4200, 6200);
    assert!((15..=25).contains(&later), "{later}: then a part with each heartbeat");
}

#[test]
fn recorded_packets_make_nobody_tell_everything_again_and_again() {
    let mut two = Two::new();
    two.keep(0, 3000);
    let recorded = two.sent.iter().find(|(from, _)| *from == 1).expect("beta spoke").1.clone();
    two.sent.clear();
    for step in 0..20 {
        let stranger = Message { incarnation: Incarnation(1000 + step), echoes: Vec::new(), ..recorded.clone() };
        two.hearts[0].begin(millis(3010 + step));
        assert_eq!(two.hearts[0].hear(LINK, &stranger), Heard::Stranger { new: true });
        two.round(3010 + step, |_, _| false);
    }
    let told = two.sent.iter().filter(|(from, message)| *from == 0 && !message.groups.is_empty());
    assert!((1..20).contains(&told.count()), "all groups take {} messages", MANY * 25 / 1100);
}

#[test]
fn a_silent_peer_is_told_all_parts_however_many_messages_a_heartbeat_takes() {
    let mut two = Two::new();
    two.round(0, |_, _| true);
    let alpha = &mut two.hearts[0];
    let mut told = std::collections::BTreeSet::new();
    // Each heartbeat has two messages, as if others lacked something too.
    for beat in 1..=20 {
        alpha.now = millis(100 * beat);
        alpha.sequence += 2;
        let parts = alpha.untold(1000);
        assert_eq!(parts.len(), 1);
        told.extend(parts[0].iter().map(|says| says.group));
    }
    assert_eq!(told.len(), MANY);
}
