//! After the faults the world comes to rest, soon: every group that may run runs, once; all nodes agree; nothing goes round
//! in circles.

use super::Violation;
use crate::cluster::{Order, Record};
use crate::sim::scenario::MOST_NODES;
use crate::sim::{Nanos, SECOND};
use crate::wire::Role;

const NAME: &str = "settles";
/// Rounds of one heart per heartbeat of each peer on each link, and of its own: those that more than answer.
const ROUNDS_PER_BEAT: u64 = 2;

/// One group on one host, as it is.
#[derive(Clone, Copy, Debug)]
pub struct Stand {
    pub up: bool,
    pub joined: bool,
    pub role: Role,
    pub record: Option<Record>,
    pub order: Order,
    /// Of the group as it runs here; 0: there is none.
    pub digest: u32,
    /// Files of some group wait for something that has not been told.
    pub pending: bool,
    pub owns: bool,
    /// All of its addresses and members are there.
    pub whole: bool,
    /// It is meant to be without power.
    pub off: bool,
}

/// What a group should be, by its files.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub digest: u32,
    /// Who may own it, preferred first.
    pub nodes: Vec<usize>,
    /// It belongs to the first of them that is there.
    pub failback: bool,
    /// An operator stopped it, and nobody started it.
    pub stopped: bool,
    /// Its files wait for a node that is off: it is what it was, where it is not yet what they say.
    pub waits: bool,
    /// They take it away: nobody starts it anew.
    pub goes: bool,
}

#[derive(Debug)]
pub struct Settles {
    /// Per host: rounds since the world is expected to rest.
    rounds: [u64; MOST_NODES],
    sent: [u64; MOST_NODES],
    /// Packets that reach a node per keepalive.
    packets: u64,
}

impl Settles {
    pub fn new(nodes: usize, links: usize) -> Settles {
        Settles { rounds: [0; MOST_NODES], sent: [0; MOST_NODES], packets: ((nodes - 1) * links) as u64 }
    }

    pub fn round(&mut self, host: usize) {
        self.rounds[host] += 1;
    }

    pub fn sent(&mut self, host: usize) {
        self.sent[host] += 1;
    }

    /// `wanted`: nothing, if no file names it.
    pub fn check(&self, at: Nanos, group: usize, hosts: &[Stand], wanted: Option<&Wanted>) -> Result<(), Violation> {
        let unrest = unrest(hosts, wanted);
        unrest.map_or(Ok(()), |what| {
            Err(Violation { at, checker: NAME, what: format!("group {group}: {what}; {wanted:?} {hosts:#?}") })
        })
    }

    /// At the end of a rest of `span`.
    pub fn storms(&self, at: Nanos, span: Nanos, keepalive: Nanos) -> Result<(), Violation> {
        // Clocks differ.
        let beats = span / keepalive + span / keepalive / 50 + 2;
        let much = |counts: &[u64; MOST_NODES], most: u64| counts.iter().any(|count| *count > most);
        // Probes and announcements have their own, slower, times.
        let rounds = beats * (self.packets + 2) * ROUNDS_PER_BEAT + 100 * (span / SECOND + 1);
        if much(&self.rounds, rounds) || much(&self.sent, beats + 4) {
            let what =
                format!("rounds {:?} and messages {:?} in {} ms of rest", self.rounds, self.sent, span / 1_000_000);
            return Err(Violation { at, checker: NAME, what });
        }
        Ok(())
    }
}

fn unrest(hosts: &[Stand], wanted: Option<&Wanted>) -> Option<&'static str> {
    let on: Vec<&Stand> = hosts.iter().filter(|host| !host.off).collect();
    let all = |holds: fn(&Stand) -> bool| on.iter().all(|host| holds(host));
    if !all(|host| host.up && host.joined) {
        return Some("a daemon is not up, or has not joined");
    }
    let waits = wanted.is_some_and(|wanted| wanted.waits);
    let digest = wanted.map_or(0, |wanted| wanted.digest);
    if !waits && on.iter().any(|host| host.pending || host.digest != digest) {
        return Some("what the files say does not run everywhere");
    }
    let owners: Vec<usize> = (0..hosts.len()).filter(|host| hosts[*host].owns).collect();
    let Some(wanted) = wanted else {
        let rest = owners.is_empty() && all(|host| host.role == Role::Idle);
        return (!rest).then_some("it is gone, and does not rest everywhere");
    };
    // One that does not know the group yet, or no more, knows nothing of it.
    let know: Vec<&&Stand> = on.iter().filter(|host| !waits || host.digest != 0).collect();
    let first = know.first()?;
    if know.iter().any(|host| host.order != first.order) {
        return Some("the nodes do not agree on what the operator ordered");
    }
    if know.iter().any(|host| host.record != first.record) {
        return Some("the nodes do not agree on the record");
    }
    // Nodes that run a group by other files start it nowhere.
    let differs = waits && on.iter().any(|host| host.digest != digest);
    if (differs || wanted.goes) && owners.is_empty() && all(|host| host.role == Role::Idle) {
        return None;
    }
    if first.order.stopped != wanted.stopped {
        return Some("it is stopped by nobody's word, or in spite of one");
    }
    // Nothing fails any more, and what failed before was forgotten.
    let able = wanted.nodes.iter().copied().find(|host| !hosts[*host].off);
    let Some(able) = able.filter(|_| !wanted.stopped) else {
        // Nobody is served by a stop that leads nowhere: an owner that is no more among its nodes keeps it while none of those is there.
        let left_out = owners.iter().any(|owner| !wanted.nodes.contains(owner)) && !wanted.stopped;
        let rest = owners.is_empty() && all(|host| host.role == Role::Idle);
        let well = rest || (left_out && owners.len() == 1);
        return (!well).then_some("it should rest everywhere");
    };
    let &[owner] = owners.as_slice() else {
        return Some("not exactly one owner");
    };
    let idle = |host: usize| hosts[host].off || hosts[host].role == Role::Idle;
    if hosts[owner].role != Role::Running || !(0..hosts.len()).all(|host| host == owner || idle(host)) {
        return Some("its owner does not say that it runs, or another one not that it does not");
    }
    if !hosts[owner].whole {
        return Some("a part of it is missing where it runs");
    }
    (wanted.failback && !differs && owner != able).then_some("it did not fail back")
}
