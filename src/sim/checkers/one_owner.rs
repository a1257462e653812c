//! At most one host has a group's addresses or members, except for what `proof = "silence"` admits: one of the two truly heard
//! nothing of the other for a deadtime when it decided, and no neighbour could have told it better.
//! Once both hear each other again, one of them stops within two heartbeats.

use super::Violation;
use crate::sim::Nanos;
use crate::sim::scenario::NODES;

const NAME: &str = "one owner";
/// Heartbeats each must have had of the other, of those sent since both own it.
const HEARD: u32 = 2;

/// What was true when a heart decided to start a group.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    pub at: Nanos,
    /// How long it had truly heard nothing, counting only times at which it could have.
    pub silence: Nanos,
    /// When the newest message that it had heard was sent.
    pub heard_sent: Option<Nanos>,
    /// Since when a question to the network would have found the other host with an address of the group.
    pub answered_since: Option<Nanos>,
}

#[derive(Clone, Copy, Debug)]
struct Episode {
    since: Nanos,
    heard: [u32; NODES],
    /// When both had heard of each other what it takes.
    known: Option<Nanos>,
}

#[derive(Debug)]
pub struct OneOwner {
    deadtime: Nanos,
    decisions: Vec<[Option<Decision>; NODES]>,
    episodes: Vec<Option<Episode>>,
    /// Two owners that `silence` admits.
    pub admitted: u64,
    pub longest: Nanos,
}

impl OneOwner {
    pub fn new(groups: usize, deadtime: Nanos) -> OneOwner {
        let decisions = vec![[None; NODES]; groups];
        OneOwner { deadtime, decisions, episodes: vec![None; groups], admitted: 0, longest: 0 }
    }

    /// A heart decided to start a group.
    pub fn decided(&mut self, host: usize, group: usize, decision: Decision) -> Result<(), Violation> {
        self.decisions[group][host] = Some(decision);
        let answered = decision.answered_since.map(|since| decision.at - since);
        match answered {
            Some(span) if span >= self.deadtime => Err(Violation {
                at: decision.at,
                checker: NAME,
                what: format!(
                    "host {host} starts group {group} although the other host's kernel has answered for it for {} ms",
                    span / crate::sim::MS
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Who owns a group now, after `host` did something.
    pub fn owners(&mut self, now: Nanos, host: usize, group: usize, owns: [bool; NODES]) -> Result<(), Violation> {
        if owns != [true; NODES] {
            if let Some(episode) = self.episodes[group].take() {
                self.longest = self.longest.max(now - episode.since);
            }
            return Ok(());
        }
        if self.episodes[group].is_some() {
            return Ok(());
        }
        self.episodes[group] = Some(Episode { since: now, heard: [0; NODES], known: None });
        let decisions = self.decisions[group];
        let (Some(later), Some(earlier)) = (decisions[host], decisions[1 - host]) else {
            return self.violation(now, format!("group {group}: two owners, and nobody decided so"));
        };
        let silent = |decision: &Decision| decision.silence >= self.deadtime;
        // The first one began in silence, and the second one had not heard of it yet.
        let crossed = silent(&earlier) && later.heard_sent.is_some_and(|sent| sent < earlier.at);
        if silent(&later) || crossed {
            self.admitted += 1;
            return Ok(());
        }
        self.violation(
            now,
            format!("group {group}: host {host} is the second owner; it decided {later:?}, the first {earlier:?}"),
        )
    }

    /// A host truly heard a message of the other.
    pub fn heard(&mut self, now: Nanos, host: usize, sent: Nanos) {
        for episode in self.episodes.iter_mut().flatten() {
            if sent >= episode.since {
                episode.heard[host] += 1;
            }
            if episode.heard.iter().all(|heard| *heard >= HEARD) {
                episode.known.get_or_insert(now);
            }
        }
    }

    /// A daemon was away: what was heard before does not count.
    pub fn disturbed(&mut self) {
        for episode in self.episodes.iter_mut().flatten() {
            episode.heard = [0; NODES];
            episode.known = None;
        }
    }

    /// Whether two owners go on although both know. `ending`: one of them is stopping it, for which it has `patience` where no
    /// step of it fails.
    pub fn lasting(&self, now: Nanos, group: usize, ending: bool, patience: Option<Nanos>) -> Result<(), Violation> {
        let Some(known) = self.episodes[group].and_then(|episode| episode.known) else { return Ok(()) };
        if !ending {
            return self.violation(now, format!("group {group}: both hear each other and neither stops"));
        }
        match patience {
            Some(patience) if now - known > patience => {
                let span = (now - known) / crate::sim::MS;
                self.violation(now, format!("group {group}: both have known of each other for {span} ms"))
            }
            _ => Ok(()),
        }
    }

    fn violation(&self, at: Nanos, what: String) -> Result<(), Violation> {
        Err(Violation { at, checker: NAME, what })
    }
}
