//! After the faults the world comes to rest, soon: every group that may run runs, once; both nodes agree; nothing goes round
//! in circles.

use super::Violation;
use crate::cluster::{Order, Record};
use crate::sim::scenario::NODES;
use crate::sim::{Nanos, SECOND};
use crate::wire::Role;

const NAME: &str = "settles";
/// Rounds of one heart per second that more than answer heartbeats: two links, and own timers.
const ROUNDS_PER_BEAT: u64 = 8;

/// One group on one host, as it is.
#[derive(Clone, Copy, Debug)]
pub struct Stand {
    pub up: bool,
    pub joined: bool,
    pub role: Role,
    pub record: Option<Record>,
    pub order: Order,
    pub banned: bool,
    pub owns: bool,
    /// All of its addresses and members are there.
    pub whole: bool,
    /// It is meant to be without power.
    pub off: bool,
}

#[derive(Debug, Default)]
pub struct Settles {
    /// Per host: rounds since the world is expected to rest.
    rounds: [u64; NODES],
    sent: [u64; NODES],
}

impl Settles {
    pub fn round(&mut self, host: usize) {
        self.rounds[host] += 1;
    }

    pub fn sent(&mut self, host: usize) {
        self.sent[host] += 1;
    }

    /// `preferred`: the host that a group with Failback=yes belongs to.
    pub fn check(
        &self,
        at: Nanos,
        group: usize,
        hosts: [Stand; NODES],
        preferred: Option<usize>,
    ) -> Result<(), Violation> {
        let unrest = unrest(hosts, preferred);
        unrest.map_or(Ok(()), |what| {
            Err(Violation { at, checker: NAME, what: format!("group {group}: {what}; {:#?}", hosts) })
        })
    }

    /// At the end of a rest of `span`.
    pub fn storms(&self, at: Nanos, span: Nanos, keepalive: Nanos) -> Result<(), Violation> {
        let beats = span / keepalive + 2;
        let much = |counts: &[u64; NODES], most: u64| counts.iter().any(|count| *count > most);
        // Probes and announcements have their own, slower, times.
        if much(&self.rounds, beats * ROUNDS_PER_BEAT + 100 * (span / SECOND + 1)) || much(&self.sent, beats + 4) {
            let what =
                format!("rounds {:?} and messages {:?} in {} ms of rest", self.rounds, self.sent, span / 1_000_000);
            return Err(Violation { at, checker: NAME, what });
        }
        Ok(())
    }
}

fn unrest(hosts: [Stand; NODES], preferred: Option<usize>) -> Option<&'static str> {
    if let Some(left) = hosts.iter().position(|host| host.off) {
        return unrest_alone(&hosts[1 - left]);
    }
    let all = |holds: fn(&Stand) -> bool| hosts.iter().all(holds);
    if !all(|host| host.up && host.joined) {
        return Some("a daemon is not up, or has not joined");
    }
    if hosts[0].order != hosts[1].order {
        return Some("the nodes do not agree on what the operator ordered");
    }
    if hosts[0].record != hosts[1].record {
        return Some("the nodes do not agree on the record");
    }
    let owners: Vec<usize> = (0..NODES).filter(|host| hosts[*host].owns).collect();
    let idle = |host: usize| hosts[host].role == Role::Idle;
    if hosts[0].order.stopped || all(|host| host.banned) {
        let rest = owners.is_empty() && (0..NODES).all(idle);
        return (!rest).then_some("it should rest everywhere");
    }
    let &[owner] = owners.as_slice() else {
        return Some("not exactly one owner");
    };
    if hosts[owner].role != Role::Running || !idle(1 - owner) {
        return Some("its owner does not say that it runs, or the other one that it does not");
    }
    if !hosts[owner].whole {
        return Some("a part of it is missing where it runs");
    }
    match preferred {
        Some(preferred) if owner != preferred && !hosts[preferred].banned => Some("it did not fail back"),
        _ => None,
    }
}

/// One host is left, and has taken whatever may run.
fn unrest_alone(host: &Stand) -> Option<&'static str> {
    if !host.up || !host.joined {
        return Some("the daemon that is left is not up, or has not joined");
    }
    if host.order.stopped || host.banned {
        return (host.owns || host.role != Role::Idle).then_some("it should rest where it is left alone");
    }
    match (host.owns && host.whole, host.role) {
        (true, Role::Running) => None,
        _ => Some("nobody runs it although one host is left"),
    }
}
