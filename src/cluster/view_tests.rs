//! What counts as heard, and what a recorded packet can do: nothing.

use super::*;
use crate::cluster::testing::{ALPHA, LINK, MINE};
use crate::config::model::NodeTag;
use crate::wire::{NodeFlags, StateMark};

const ME: NodeTag = NodeTag(1);
const PEER: NodeTag = NodeTag(2);

fn config() -> Config {
    crate::cluster::testing::config(ALPHA)
}

struct Ear {
    view: View,
    config: Config,
    /// This node's newest sequence.
    sequence: u64,
}

impl Ear {
    fn new() -> Ear {
        let config = config();
        Ear { view: View::new(&config, Time(0)), config, sequence: 50 }
    }

    /// A message of `incarnation` that echoes `echo` of ours.
    fn hear(&mut self, at: u64, incarnation: u64, sequence: u64, echo: Option<u64>) -> Heard {
        self.hear_on(LINK, at, incarnation, sequence, echo)
    }

    fn hear_on(&mut self, link: LinkId, at: u64, incarnation: u64, sequence: u64, echo: Option<u64>) -> Heard {
        let echo = echo.map(|sequence| Echo { node: ME, incarnation: MINE, sequence, holds: 0 });
        let message = Message {
            cluster_tag: 1,
            sender: PEER,
            incarnation: Incarnation(incarnation),
            sequence,
            sent_at: 0,
            boot: BootId(1),
            cluster_digest: 0,
            state: StateMark::default(),
            flags: NodeFlags { joined: true, ..NodeFlags::default() },
            maintenance: Maintenance::default(),
            echoes: echo.into_iter().collect(),
            groups: Vec::new(),
        };
        let now = Time(at * 1_000_000);
        self.view.hear(now, &self.config, (MINE, self.sequence), link, &message, &mut Vec::new())
    }

    fn peer(&self) -> &Peer {
        &self.view.peers[&NodeId(1)]
    }
}

#[test]
fn who_has_not_heard_us_is_echoed_and_not_heard() {
    let mut ear = Ear::new();
    assert_eq!(ear.hear(0, 7, 1, None), Heard::Stranger { new: true });
    assert_eq!(ear.peer().state, PeerState::Unheard);
    let echoes = ear.view.echoes(&ear.config);
    assert_eq!(echoes, [Echo { node: PEER, incarnation: Incarnation(7), sequence: 1, holds: 0 }]);
    assert_eq!(ear.hear(1, 7, 2, Some(50)), Heard::News(NodeId(1)));
    assert_eq!(ear.peer().state, PeerState::Alive);
}

#[test]
fn an_echo_of_what_was_never_sent_is_no_echo() {
    let mut ear = Ear::new();
    assert_eq!(ear.hear(0, 7, 1, Some(51)), Heard::Stranger { new: true });
}

#[test]
fn the_same_message_again_shows_only_that_a_link_works() {
    let mut ear = Ear::new();
    ear.hear(0, 7, 20, Some(50));
    assert_eq!(ear.hear(250, 7, 20, Some(50)), Heard::Duplicate);
    assert_eq!(ear.hear(251, 7, 1, Some(50)), Heard::Replay);
    let (config, mut changes) = (config(), Vec::new());
    ear.view.expire(Time(300_000_000), &config.timing, &mut changes);
    assert_eq!(ear.peer().state, PeerState::Lost, "a repeated message keeps nobody alive");
}

#[test]
fn silence_is_silence_on_all_links_and_a_copy_counts_once_on_each() {
    let (mut ear, config, mut changes) = (Ear::new(), config(), Vec::new());
    ear.hear(0, 7, 20, Some(50));
    assert_eq!(ear.hear_on(LinkId(1), 250, 7, 20, Some(50)), Heard::Duplicate);
    assert_eq!(ear.hear_on(LinkId(1), 400, 7, 20, Some(50)), Heard::Duplicate);
    ear.view.expire(Time(500_000_000), &config.timing, &mut changes);
    assert_eq!(ear.peer().state, PeerState::Late);
    ear.view.expire(Time(550_000_000), &config.timing, &mut changes);
    assert_eq!(ear.peer().state, PeerState::Lost);
}

#[test]
fn a_run_that_is_over_counts_no_more() {
    let mut ear = Ear::new();
    ear.hear(0, 7, 20, Some(50));
    ear.sequence = 60;
    assert_eq!(ear.hear(1, 8, 1, Some(55)), Heard::News(NodeId(1)));
    assert_eq!(ear.hear(2, 7, 21, Some(54)), Heard::Stranger { new: true });
}

#[test]
fn late_words_of_a_run_that_is_over_do_not_deafen_us_for_ever() {
    let mut ear = Ear::new();
    ear.hear(0, 8, 1, Some(40));
    // The dead one had heard more of us than the living one has yet.
    assert_eq!(ear.hear(1, 7, 30, Some(45)), Heard::News(NodeId(1)));
    assert_eq!(ear.hear(2, 8, 2, Some(40)), Heard::Stranger { new: true });
    ear.sequence = 51;
    assert_eq!(ear.hear(3, 8, 3, Some(51)), Heard::News(NodeId(1)));
    assert_eq!(ear.hear(4, 7, 31, Some(45)), Heard::Stranger { new: true });
}

#[test]
fn a_new_run_has_heard_more_of_us_than_the_one_before() {
    let mut ear = Ear::new();
    ear.hear(0, 8, 20, Some(50));
    // Recorded from a run before that one, which also knew this incarnation of ours.
    assert_eq!(ear.hear(1, 7, 9000, Some(40)), Heard::Stranger { new: true });
    assert_eq!(ear.hear(2, 8, 21, Some(50)), Heard::News(NodeId(1)), "the living one goes on");
}

#[test]
fn who_restarted_knows_us_once_it_echoes_what_we_said_since() {
    let mut ear = Ear::new();
    ear.hear(0, 7, 1, Some(50));
    assert!(!ear.peer().knows_us());
    ear.sequence = 51;
    ear.hear(1, 7, 2, Some(51));
    assert!(ear.peer().knows_us());
}

#[test]
fn silence_counts_from_the_last_message_less_our_own_lateness() {
    let mut ear = Ear::new();
    let timing = config().timing;
    ear.hear(0, 7, 1, Some(50));
    ear.view.late(Duration::from_millis(40), timing.deadtime);
    assert_eq!(ear.view.next_silence(Time(0), &timing), Some(Time(240_000_000)));
    ear.view.expire(Time(339_000_000), &timing, &mut Vec::new());
    assert_eq!(ear.peer().state, PeerState::Late);
    ear.view.expire(Time(340_000_000), &timing, &mut Vec::new());
    assert_eq!(ear.peer().state, PeerState::Lost);
}

#[test]
fn after_a_sleep_a_whole_deadtime_counts() {
    let mut ear = Ear::new();
    let timing = config().timing;
    ear.hear(0, 7, 1, Some(50));
    ear.view.slept(Time(5_000_000_000));
    ear.view.expire(Time(5_299_000_000), &timing, &mut Vec::new());
    assert_ne!(ear.peer().state, PeerState::Lost);
    ear.view.expire(Time(5_300_000_000), &timing, &mut Vec::new());
    assert_eq!(ear.peer().state, PeerState::Lost);
}
