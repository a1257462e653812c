//! What goes wrong, and when: drawn from the seed before the world starts. It must not know how the world bears it.

use super::random::Random;
use super::scenario::{LINKS, Scenario};
use super::{MS, Nanos, SECOND};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// One link, one direction.
    CutOneWay {
        from: usize,
        link: usize,
    },
    CutLink {
        link: usize,
    },
    /// All heartbeats of one sender.
    CutSender {
        from: usize,
    },
    CutAllHeartbeats,
    /// The service network carries nothing, carriers stay.
    CutService,
    CutEverything,
    LinkDown {
        host: usize,
        link: usize,
    },
    CableOut {
        host: usize,
    },
    PowerLoss {
        host: usize,
    },
    PowerLossBoth,
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
    HostThreadStuck {
        host: usize,
    },
    RunFull {
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
}

/// A fault, when it begins and how long it lasts.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    pub at: Nanos,
    pub span: Nanos,
    pub fault: Fault,
}

impl Fault {
    pub fn name(&self) -> String {
        let text = format!("{self:?}");
        text.split([' ', '{']).next().unwrap_or_default().into()
    }
}

pub fn plan(random: &mut Random, scenario: &Scenario) -> Vec<Planned> {
    let mut plan: Vec<Planned> = (0..scenario.faults).map(|_| planned(random, scenario)).collect();
    // Faults that come close together find what single ones do not.
    if random.permille(300) && plan.len() > 1 {
        let near = plan[0].at;
        for planned in plan.iter_mut().skip(1) {
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
    let fault = draw(random, scenario.groups());
    let deadtime = scenario.deadtime();
    let span = match fault {
        Fault::PowerLoss { .. } | Fault::PowerLossBoth | Fault::Reboot { .. } => {
            random.magnitude(SECOND / 2, 6 * SECOND)
        }
        Fault::KillDaemon { .. } | Fault::RestartDaemon { .. } => random.between(40 * MS, 150 * MS),
        Fault::DaemonDies { .. } | Fault::LeaveDaemon { .. } => random.magnitude(MS * 200, 5 * SECOND),
        _ => random.magnitude(deadtime / 16, deadtime * 16),
    };
    Planned { at: random.between(SECOND / 100, scenario.heal - SECOND), span, fault }
}

fn draw(random: &mut Random, groups: usize) -> Fault {
    let host = random.below(2) as usize;
    let link = random.below(LINKS as u64) as usize;
    let group = random.below(groups as u64) as usize;
    match random.below(35) {
        0 => Fault::CutOneWay { from: host, link },
        1 => Fault::CutLink { link },
        2 => Fault::CutSender { from: host },
        3 | 4 => Fault::CutAllHeartbeats,
        5 => Fault::CutService,
        6 | 7 => Fault::CutEverything,
        8 => Fault::LinkDown { host, link },
        9 => Fault::CableOut { host },
        10 | 11 => Fault::PowerLoss { host },
        12 => Fault::PowerLossBoth,
        13 => Fault::Reboot { host },
        14 | 15 => Fault::KillDaemon { host },
        16 => Fault::DaemonDies { host },
        17 => Fault::LeaveDaemon { host },
        18 => Fault::RestartDaemon { host },
        19 | 20 => Fault::PauseDaemon { host },
        21 => Fault::PauseHost { host },
        22 => Fault::PauseMachine { host },
        23 => Fault::HostThreadStuck { host },
        24 => Fault::GuardMissing { host, group },
        25 => Fault::MemberFails { host, group },
        26 => Fault::AddressDeleted { host, group },
        27 => Fault::Replay { to: host },
        28..=30 => Fault::Move { host, group, to: random.below(2) as usize },
        31 => Fault::Stop { host, group },
        32 => Fault::Start { host, group },
        33 => Fault::RunFull { host },
        _ => Fault::Clear { host, group },
    }
}
