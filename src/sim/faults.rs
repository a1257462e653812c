//! What goes wrong, and when: drawn from the seed before the world starts, so that a plan can be told and cut down.
//! It must not know how the world bears it.

use super::edits::{Change, Spread};
use super::random::Random;
use super::scenario::{Scenario, without};
use super::{MS, Nanos, SECOND};
use crate::cluster::Which;

/// Every seed has at least this many.
pub const FEWEST: u64 = 5;
const MOST: u64 = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One link, one direction, between two nodes.
    CutOneWay {
        from: usize,
        to: usize,
        link: usize,
    },
    /// All links, one direction, between two nodes.
    CutWay {
        from: usize,
        to: usize,
    },
    /// All links between two nodes; others may still hear both.
    CutPair {
        a: usize,
        b: usize,
    },
    /// The same, and they do not reach each other's addresses either.
    CutPairService {
        a: usize,
        b: usize,
    },
    /// A switch dies.
    CutLink {
        link: usize,
    },
    /// All heartbeats of one sender.
    CutSender {
        host: usize,
    },
    /// All heartbeats to one node.
    CutReceiver {
        host: usize,
    },
    CutAllHeartbeats,
    /// Two sides that do not hear each other. A bit per node.
    Partition {
        side: u8,
    },
    /// Nor reach each other in any way.
    PartitionService {
        side: u8,
    },
    /// The service network carries nothing, carriers stay.
    CutService,
    CutEverything,
    Lossy,
    Doubling,
    SlowNetwork,
    LinkDown {
        host: usize,
        link: usize,
    },
    CableOut {
        host: usize,
    },
    /// Its kernel answers no question for addresses.
    AnswersNothing {
        host: usize,
    },
    /// A host that is not of this cluster answers for a group's address.
    ForeignAnswers {
        group: usize,
    },
    PowerLoss {
        host: usize,
    },
    PowerLossAll,
    Reboot {
        host: usize,
    },
    KillDaemon {
        host: usize,
    },
    /// It dies for good: what is left of it only cleans up.
    DaemonDies {
        host: usize,
    },
    LeaveDaemon {
        host: usize,
    },
    RestartDaemon {
        host: usize,
    },
    /// Restarted with other files, and again with the right ones.
    OtherFiles {
        host: usize,
    },
    PauseDaemon {
        host: usize,
    },
    PauseHost {
        host: usize,
    },
    /// Its clock stands still as well.
    PauseMachine {
        host: usize,
    },
    /// Wake-ups come late.
    LateDaemon {
        host: usize,
    },
    /// Its clock goes wrong by far more than any clock should.
    WrongClock {
        host: usize,
        fast: bool,
    },
    HostThreadStuck {
        host: usize,
    },
    RunFull {
        host: usize,
    },
    ActionsFail {
        host: usize,
    },
    ActionsHang {
        host: usize,
    },
    ActionsSlow {
        host: usize,
    },
    GuardMissing {
        host: usize,
        group: usize,
    },
    MemberFails {
        host: usize,
        group: usize,
    },
    AddressDeleted {
        host: usize,
        group: usize,
    },
    Replay {
        to: usize,
    },
    /// Of groups, under running daemons.
    Files {
        group: usize,
        change: Change,
        spread: Spread,
    },
    // What operators say, on whatever node they happen to be.
    Move {
        host: usize,
        group: usize,
        to: usize,
    },
    Stop {
        host: usize,
        group: usize,
    },
    Start {
        host: usize,
        group: usize,
    },
    Clear {
        host: usize,
        group: usize,
    },
    Standby {
        host: usize,
        which: Which,
    },
    /// `--stay`, until it is over.
    StandbyStays {
        host: usize,
    },
    Takeover {
        host: usize,
        which: Which,
    },
    Online {
        host: usize,
    },
    /// Until it is over: ended on another node, if that one hears the word.
    Maintenance {
        host: usize,
        ends_on: usize,
    },
}

/// How many places [`draw_one`] has, beside those of changed files.
const PLACES: u64 = 64;
/// By this many millionths a clock is wrong in [`Fault::WrongClock`].
pub const WRONG_CLOCK: i64 = 10_000;

/// A fault, when it begins and how long it lasts.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    pub at: Nanos,
    pub span: Nanos,
    pub fault: Fault,
}

impl Fault {
    fn about(&mut self) -> ([Option<&mut usize>; 2], Option<&mut usize>) {
        use Fault::*;
        match self {
            CutOneWay { from, to, .. } | CutWay { from, to } => ([Some(from), Some(to)], None),
            CutPair { a, b } | CutPairService { a, b } => ([Some(a), Some(b)], None),
            CutSender { host } | CutReceiver { host } | LinkDown { host, .. } | CableOut { host } => {
                ([Some(host), None], None)
            }
            AnswersNothing { host } | PowerLoss { host } | Reboot { host } | KillDaemon { host } => {
                ([Some(host), None], None)
            }
            DaemonDies { host } | LeaveDaemon { host } | RestartDaemon { host } | OtherFiles { host } => {
                ([Some(host), None], None)
            }
            PauseDaemon { host } | PauseHost { host } | PauseMachine { host } | LateDaemon { host } => {
                ([Some(host), None], None)
            }
            WrongClock { host, .. } | HostThreadStuck { host } | RunFull { host } => ([Some(host), None], None),
            ActionsFail { host } | ActionsHang { host } | ActionsSlow { host } => ([Some(host), None], None),
            Replay { to } => ([Some(to), None], None),
            Standby { host, .. } | StandbyStays { host } | Takeover { host, .. } | Online { host } => {
                ([Some(host), None], None)
            }
            Maintenance { host, ends_on } => ([Some(host), Some(ends_on)], None),
            GuardMissing { host, group } | MemberFails { host, group } | AddressDeleted { host, group } => {
                ([Some(host), None], Some(group))
            }
            Stop { host, group } | Start { host, group } | Clear { host, group } => ([Some(host), None], Some(group)),
            Move { host, group, to } => ([Some(host), Some(to)], Some(group)),
            ForeignAnswers { group } | Files { group, .. } => ([None, None], Some(group)),
            CutLink { .. } | CutAllHeartbeats | Partition { .. } | PartitionService { .. } | CutService => {
                ([None, None], None)
            }
            CutEverything | Lossy | Doubling | SlowNetwork | PowerLossAll => ([None, None], None),
        }
    }

    /// The same fault where a node is no more; none if it is about that node.
    pub fn without_node(mut self, gone: usize) -> Option<Fault> {
        if let Fault::Partition { side } | Fault::PartitionService { side } = &mut self {
            let low = *side & ((1 << gone) - 1);
            *side = low | ((*side >> (gone + 1)) << gone);
        }
        if let Fault::Files { spread, .. } = &mut self {
            *spread = spread.without_node(gone);
        }
        for node in self.about().0.into_iter().flatten() {
            if *node == gone {
                return None;
            }
            *node = without(*node, gone);
        }
        Some(self)
    }

    pub fn without_group(mut self, gone: usize) -> Option<Fault> {
        if let Some(group) = self.about().1 {
            if *group == gone {
                return None;
            }
            *group = without(*group, gone);
        }
        Some(self)
    }

    /// Steps of this host may fail or take long because of it. Where there is no room, a stop can be confirmed but not noted.
    pub fn hampers(&self) -> Option<usize> {
        use Fault::*;
        match self {
            ActionsFail { host } | ActionsHang { host } | ActionsSlow { host } | LateDaemon { host } => Some(*host),
            HostThreadStuck { host } | RunFull { host } => Some(*host),
            _ => None,
        }
    }
}

impl Fault {
    /// It strikes nothing where the group, or what it hits of it, is not there.
    fn needs_a_group(&self) -> bool {
        use Fault::*;
        matches!(
            self,
            MemberFails { .. } | AddressDeleted { .. } | GuardMissing { .. } | ForeignAnswers { .. } | Replay { .. }
        ) || matches!(self, Files { .. } | OtherFiles { .. } | Move { .. } | Stop { .. } | Start { .. } | Clear { .. })
    }
}

pub fn draw(random: &mut Random, scenario: &Scenario) -> Vec<Planned> {
    // Some find nothing to change, as often as they are tried.
    let count = random.between(FEWEST + 7, MOST);
    let mut plan: Vec<Planned> = (0..count).map(|_| planned(random, scenario)).collect();
    for _ in 0..MOST {
        let of_hosts = plan.iter().filter(|planned| !planned.fault.needs_a_group()).count();
        if of_hosts as u64 > FEWEST {
            break;
        }
        plan.push(planned(random, scenario));
    }
    // Faults that come close together find what single ones do not.
    if random.permille(500) {
        let bunches = random.between(1, 4);
        let mut starts: Vec<Nanos> = (0..bunches).map(|_| random.below(scenario.heal - SECOND)).collect();
        // What strikes nothing while all hosts are off must find another time.
        starts[0] /= 2;
        for planned in &mut plan {
            let near = *random.pick(&starts);
            planned.at = (near + random.magnitude(MS / 10, 4 * scenario.deadtime())).min(scenario.heal - SECOND);
        }
    }
    for planned in &mut plan {
        planned.span = planned.span.min(scenario.heal - planned.at);
    }
    plan.sort_by_key(|planned| planned.at);
    plan
}

fn planned(random: &mut Random, scenario: &Scenario) -> Planned {
    let fault = draw_one(random, scenario);
    let deadtime = scenario.deadtime();
    let span = match fault {
        Fault::PowerLoss { .. } | Fault::PowerLossAll | Fault::Reboot { .. } => {
            random.magnitude(SECOND / 2, (8 * deadtime).max(6 * SECOND))
        }
        Fault::KillDaemon { .. } | Fault::RestartDaemon { .. } => random.between(40 * MS, 150 * MS),
        Fault::DaemonDies { .. } | Fault::LeaveDaemon { .. } => random.magnitude(MS * 200, 5 * SECOND),
        _ => random.magnitude(deadtime / 16, deadtime * 16),
    };
    Planned { at: random.between(SECOND / 100, scenario.heal - SECOND), span, fault }
}

fn draw_one(random: &mut Random, scenario: &Scenario) -> Fault {
    use Fault::*;
    let nodes = scenario.nodes as u64;
    let host = random.below(nodes) as usize;
    let other = (host + 1 + random.below(nodes - 1) as usize) % scenario.nodes;
    let link = random.below(scenario.links as u64) as usize;
    let group = random.below(scenario.groups.len() as u64) as usize;
    let side = random.between(1, (1 << nodes) - 2) as u8;
    let fast = random.permille(500);
    let place = random.below(PLACES + Change::PLACES as u64) as usize;
    match place {
        0 => CutOneWay { from: host, to: other, link },
        1 => CutWay { from: host, to: other },
        2 => CutPair { a: host, b: other },
        3 => CutPairService { a: host, b: other },
        4 => CutLink { link },
        5 => CutSender { host },
        6 => CutReceiver { host },
        7 => CutAllHeartbeats,
        8 => Partition { side },
        9 => PartitionService { side },
        10 => CutService,
        11 => CutEverything,
        12 => Lossy,
        13 => Doubling,
        14 => SlowNetwork,
        15 => LinkDown { host, link },
        16 => CableOut { host },
        17 => AnswersNothing { host },
        18 => ForeignAnswers { group },
        19 => PowerLoss { host },
        20 => PowerLossAll,
        21 => Reboot { host },
        22 => KillDaemon { host },
        23 => DaemonDies { host },
        24 => LeaveDaemon { host },
        25 => RestartDaemon { host },
        26 => OtherFiles { host },
        27 => PauseDaemon { host },
        28 => PauseHost { host },
        29 => PauseMachine { host },
        30 => LateDaemon { host },
        31 => WrongClock { host, fast },
        32 => HostThreadStuck { host },
        33 => RunFull { host },
        34 => ActionsFail { host },
        35 => ActionsHang { host },
        36 => ActionsSlow { host },
        37 => GuardMissing { host, group },
        38 => MemberFails { host, group },
        39 => AddressDeleted { host, group },
        40 => Replay { to: host },
        41..=57 => draw_word(place, host, other, group),
        // The commonest ones once more.
        58..=60 => PowerLoss { host },
        61 => PauseDaemon { host },
        62 => KillDaemon { host },
        63 => CutAllHeartbeats,
        _ => {
            let change = Change::draw(random, place - PLACES as usize);
            let spare = scenario.groups.iter().position(|shape| shape.spare);
            let group = spare.filter(|_| change == Change::GroupAdded).unwrap_or(group);
            Files { group, change, spread: Spread::draw(random, host, scenario.keepalive()) }
        }
    }
}

/// What an operator says.
fn draw_word(place: usize, host: usize, other: usize, group: usize) -> Fault {
    use Fault::*;
    match place {
        41 => Stop { host, group },
        42 => Start { host, group },
        43 => Clear { host, group },
        44..=46 => Move { host, group, to: other },
        47..=50 => Standby { host, which: Which::WORDS[place - 47].1 },
        51..=54 => Takeover { host, which: Which::WORDS[place - 51].1 },
        55 => StandbyStays { host },
        56 => Online { host },
        _ => Maintenance { host, ends_on: other },
    }
}
