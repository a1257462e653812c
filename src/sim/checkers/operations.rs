//! Every operation ends: an operator is answered, a start and a stop come to an end, one way or the other. It must not know how.

use super::Violation;
use crate::cluster::RequestId;
use crate::sim::scenario::MOST_NODES;
use crate::sim::{MS, Nanos, SECOND};
use crate::wire::Role;

/// An operator is answered by then: the times of the group, what is waited beyond them, and as much again.
const ANSWER: Nanos = 20 * SECOND;
/// A start has ended by then: each step has its own time.
const START: Nanos = 30 * SECOND;
/// A stop whose steps neither fail nor hang: four steps, the longest a third of a second, may begin anew once.
const STOP: Nanos = 3 * SECOND;
/// After one that failed: the longest wait before a stop is asked for again, and the steps' own deadlines.
pub const AFTERMATH: Nanos = 45 * SECOND;

/// A start or a stop of one group on one host.
#[derive(Clone, Copy, Debug)]
struct Busy {
    role: Role,
    since: Nanos,
}

#[derive(Debug)]
pub struct Operations {
    /// What late wake-ups and held-up rounds may add throughout.
    slack: Nanos,
    /// And on a host that wakes up late for a while, until then.
    late: Nanos,
    late_until: [Nanos; MOST_NODES],
    /// Until then steps of a host may fail, hang or take long.
    hampered_until: [Nanos; MOST_NODES],
    asked: Vec<(usize, RequestId, Nanos)>,
    busy: Vec<[Option<Busy>; MOST_NODES]>,
}

impl Operations {
    /// Steps may fail on every host until `hampered_until`.
    pub fn new(groups: usize, slack: Nanos, late: Nanos, hampered_until: Nanos) -> Operations {
        Operations {
            slack,
            late,
            late_until: [0; MOST_NODES],
            hampered_until: [hampered_until; MOST_NODES],
            asked: Vec::new(),
            busy: vec![[None; MOST_NODES]; groups],
        }
    }

    pub fn late_until(&mut self, host: usize, until: Nanos) {
        self.late_until[host] = self.late_until[host].max(until);
    }

    pub fn hampered(&mut self, host: usize, until: Nanos) {
        self.hampered_until[host] = self.hampered_until[host].max(until);
    }

    /// Until when steps of a host may fail, hang or take long, as far as is known now.
    pub fn hampered_until(&self, host: usize) -> Nanos {
        self.hampered_until[host]
    }

    pub fn asked(&mut self, now: Nanos, host: usize, request: RequestId) {
        self.asked.push((host, request, now));
    }

    pub fn answered(&mut self, host: usize, request: RequestId) {
        self.asked.retain(|(other, asked, _)| (*other, *asked) != (host, request));
    }

    /// A daemon ended, and with it what was asked of it.
    pub fn gone(&mut self, host: usize) {
        self.asked.retain(|(other, ..)| *other != host);
        self.busy.iter_mut().for_each(|busy| busy[host] = None);
    }

    /// It stood still for a while, which is nobody's fault.
    pub fn was_away(&mut self, span: Nanos, host: usize) {
        for (_, _, at) in self.asked.iter_mut().filter(|(other, ..)| *other == host) {
            *at += span;
        }
        for busy in self.busy.iter_mut().filter_map(|busy| busy[host].as_mut()) {
            busy.since += span;
        }
    }

    pub fn is(&mut self, now: Nanos, host: usize, group: usize, role: Role) -> Result<(), Violation> {
        let busy = &mut self.busy[group][host];
        if !matches!(role, Role::Starting | Role::Stopping) {
            *busy = None;
            return Ok(());
        }
        let since = match busy {
            Some(busy) if busy.role == role => busy.since,
            _ => busy.insert(Busy { role, since: now }).since,
        };
        let hampered_until = self.hampered_until[host];
        let by = match role {
            Role::Starting => since + START,
            _ if hampered_until > since => hampered_until + AFTERMATH,
            _ => since + STOP,
        };
        if now > by + self.slack_of(host, since) {
            let span = (now - since) / MS;
            return self.violation(now, format!("host {host} has been {role:?} with group {group} for {span} ms"));
        }
        Ok(())
    }

    pub fn waiting(&self, now: Nanos, host: usize) -> Result<(), Violation> {
        let overdue = |at: Nanos| now.saturating_sub(at) > ANSWER + self.slack_of(host, at);
        match self.asked.iter().find(|(other, _, at)| *other == host && overdue(*at)) {
            Some((_, _, at)) => {
                let span = (now - at) / MS;
                self.violation(now, format!("an operator waits for an answer of host {host} for {span} ms"))
            }
            None => Ok(()),
        }
    }

    fn slack_of(&self, host: usize, since: Nanos) -> Nanos {
        if self.late_until[host] > since { self.slack + self.late } else { self.slack }
    }

    fn violation(&self, at: Nanos, what: String) -> Result<(), Violation> {
        Err(Violation { at, checker: "operations", what })
    }
}
