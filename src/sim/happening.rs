//! What is to happen in a world, to whom and when: the queue's entries. It must not know what comes of them.

use super::Nanos;
use super::faults::Planned;
use super::files::{Edition, MOST_GROUPS};
use super::host::News;
use super::parts::JobEnd;
use crate::cluster::{Incarnation, OpId, Saved};
use crate::config::model::Config;
use crate::wire::Message;
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

/// A packet on its way.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from: usize,
    /// As it is after having been bytes.
    pub message: Message,
    pub sent: Nanos,
    /// By which digests its sender ran its groups.
    pub digests: [u32; MOST_GROUPS],
    /// Of which groups it had something up, a bit each.
    pub owned: u8,
}

#[derive(Clone, Debug)]
pub enum Happening {
    /// The daemon looks at the time, if it still wants to.
    Wake {
        host: usize,
    },
    Deliver {
        to: usize,
        link: usize,
        packet: Rc<Packet>,
    },
    /// The daemon decides on what it read.
    Decide {
        host: usize,
        incarnation: Incarnation,
    },
    /// For one run of the daemon.
    Tell {
        host: usize,
        incarnation: Incarnation,
        news: Box<News>,
    },
    Job {
        host: usize,
        boot: u64,
        group: usize,
        number: u64,
        end: JobEnd,
    },
    Written {
        host: usize,
        boot: u64,
        number: u64,
        saved: Box<Saved>,
    },
    /// The adopted configuration gets to /run.
    Note {
        host: usize,
        incarnation: Incarnation,
        op: OpId,
        config: Arc<Config>,
        fails: bool,
    },
    /// And to the disk.
    Kept {
        host: usize,
        boot: u64,
        number: u64,
        config: Arc<Config>,
    },
    /// A host's files of some groups change.
    Edit {
        host: usize,
        edition: Box<Edition>,
    },
    /// Its daemon has read them.
    Reload {
        host: usize,
        incarnation: Incarnation,
    },
    /// What was changed on one node only is mended there, or the others follow.
    Mend {
        host: usize,
        groups: Vec<usize>,
        follow: bool,
    },
    /// The second reload of a part that moves.
    PutIn {
        part: usize,
        group: usize,
    },
    /// The files are as they are meant.
    AllFiles,
    PowerLoss {
        host: usize,
        span: Nanos,
    },
    /// The daemon looks whether its guards are loaded.
    Guards {
        host: usize,
        incarnation: Incarnation,
    },
    Boot {
        host: usize,
    },
    StartDaemon {
        host: usize,
    },
    /// A daemon or a host that stood still goes on.
    Thaw {
        host: usize,
    },
    Strike(Planned),
    End(Planned),
    /// The service manager ends a daemon in the course of a reboot.
    Leave {
        host: usize,
        incarnation: Incarnation,
    },
    PowerOff {
        host: usize,
        boot: u64,
    },
    Sabotage,
    Heal,
    /// Operators end standby and maintenance.
    LastWords,
    Look,
    /// A daemon compares the host's addresses with what should be there, which it does now and then.
    Compare,
}

/// In the order of time, then of their making.
#[derive(Debug)]
pub struct Due {
    pub at: Nanos,
    pub number: u64,
    pub happening: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The earliest is the greatest: it comes first from the heap.
    fn cmp(&self, other: &Due) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}
