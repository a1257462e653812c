//! The names of all kinds of faults: one table gives each fault its name and the list of them, so that no kind is left out of the count.
//! It must not know what they do.

use super::edits::{Change, Spread};
use super::faults::Fault;
use crate::cluster::Which;

/// The compiler refuses a kind without a name, and a name stands in the list.
macro_rules! kinds {
    ($list:ident, $of:ty, $($kind:pat => $name:literal,)*) => {
        const $list: &[&str] = &[$($name),*];

        impl $of {
            /// The name of its kind.
            pub fn name(&self) -> &'static str {
                match self {
                    $($kind => $name,)*
                }
            }
        }
    };
}

kinds! { FAULTS, Fault,
    Fault::CutOneWay { .. } => "CutOneWay",
    Fault::CutWay { .. } => "CutWay",
    Fault::CutPair { .. } => "CutPair",
    Fault::CutPairService { .. } => "CutPairService",
    Fault::CutLink { .. } => "CutLink",
    Fault::CutSender { .. } => "CutSender",
    Fault::CutReceiver { .. } => "CutReceiver",
    Fault::CutAllHeartbeats => "CutAllHeartbeats",
    Fault::Partition { .. } => "Partition",
    Fault::PartitionService { .. } => "PartitionService",
    Fault::CutService => "CutService",
    Fault::CutEverything => "CutEverything",
    Fault::Lossy => "Lossy",
    Fault::Doubling => "Doubling",
    Fault::SlowNetwork => "SlowNetwork",
    Fault::LinkDown { .. } => "LinkDown",
    Fault::CableOut { .. } => "CableOut",
    Fault::AnswersNothing { .. } => "AnswersNothing",
    Fault::ForeignAnswers { .. } => "ForeignAnswers",
    Fault::PowerLoss { .. } => "PowerLoss",
    Fault::PowerLossAll => "PowerLossAll",
    Fault::Reboot { .. } => "Reboot",
    Fault::KillDaemon { .. } => "KillDaemon",
    Fault::DaemonDies { .. } => "DaemonDies",
    Fault::LeaveDaemon { .. } => "LeaveDaemon",
    Fault::RestartDaemon { .. } => "RestartDaemon",
    Fault::OtherFiles { .. } => "OtherFiles",
    Fault::PauseDaemon { .. } => "PauseDaemon",
    Fault::PauseHost { .. } => "PauseHost",
    Fault::PauseMachine { .. } => "PauseMachine",
    Fault::LateDaemon { .. } => "LateDaemon",
    Fault::WrongClock { .. } => "WrongClock",
    Fault::HostThreadStuck { .. } => "HostThreadStuck",
    Fault::RunFull { .. } => "RunFull",
    Fault::ActionsFail { .. } => "ActionsFail",
    Fault::ActionsHang { .. } => "ActionsHang",
    Fault::ActionsSlow { .. } => "ActionsSlow",
    Fault::GuardMissing { .. } => "GuardMissing",
    Fault::MemberFails { .. } => "MemberFails",
    Fault::AddressDeleted { .. } => "AddressDeleted",
    Fault::Replay { .. } => "Replay",
    Fault::Files { change: Change::AddressAdded, .. } => "AddressAdded",
    Fault::Files { change: Change::AddressRemoved, .. } => "AddressRemoved",
    Fault::Files { change: Change::AddressReplaced, .. } => "AddressReplaced",
    Fault::Files { change: Change::MemberAdded, .. } => "MemberAdded",
    Fault::Files { change: Change::MemberRemoved, .. } => "MemberRemoved",
    Fault::Files { change: Change::MemberReplaced, .. } => "MemberReplaced",
    Fault::Files { change: Change::NodesChanged, .. } => "NodesChanged",
    Fault::Files { change: Change::FailbackChanged, .. } => "FailbackChanged",
    Fault::Files { change: Change::PartMoved { .. }, .. } => "PartMoved",
    Fault::Files { change: Change::GroupAdded, .. } => "GroupAdded",
    Fault::Files { change: Change::GroupRemoved, .. } => "GroupRemoved",
    Fault::Move { .. } => "Move",
    Fault::Stop { .. } => "Stop",
    Fault::Start { .. } => "Start",
    Fault::Clear { .. } => "Clear",
    Fault::Standby { which: Which::All, .. } => "StandbyAll",
    Fault::Standby { which: Which::Local, .. } => "StandbyLocal",
    Fault::Standby { which: Which::Foreign, .. } => "StandbyForeign",
    Fault::Standby { which: Which::Failback, .. } => "StandbyFailback",
    Fault::StandbyStays { .. } => "StandbyStays",
    Fault::Takeover { which: Which::All, .. } => "TakeoverAll",
    Fault::Takeover { which: Which::Local, .. } => "TakeoverLocal",
    Fault::Takeover { which: Which::Foreign, .. } => "TakeoverForeign",
    Fault::Takeover { which: Which::Failback, .. } => "TakeoverFailback",
    Fault::Online { .. } => "Online",
    Fault::Maintenance { .. } => "Maintenance",
}

kinds! { SPREADS, Spread,
    Spread::Everywhere => "FilesEverywhere",
    Spread::OneByOne => "FilesOneByOne",
    Spread::Mended { .. } => "FilesMended",
    Spread::Followed { .. } => "FilesFollowed",
    Spread::PowerLoss { .. } => "FilesAndPowerLoss",
}

/// Every kind there is.
pub fn all() -> impl Iterator<Item = &'static str> {
    FAULTS.iter().chain(SPREADS).copied()
}
