//! At most one host has a group's addresses or members, except for what `proof = "silence"` admits: one of two owners truly heard
//! nothing of the other for a deadtime when it decided, and no neighbour could have told it better.
//! Once both hear each other again, one of them stops within two keepalives.

use super::Violation;
use crate::sim::scenario::MOST_NODES;
use crate::sim::{MS, Nanos};
use std::collections::BTreeMap;

const NAME: &str = "one owner";
/// Heartbeats each must have had of the other, of those sent since both own it.
const HEARD: u32 = 2;

/// What was true when a heart decided to start a group, of each other host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decision {
    pub at: Nanos,
    /// How long it had truly heard nothing, counting only times at which it could have.
    pub silence: [Nanos; MOST_NODES],
    /// When the newest message that it had heard was sent.
    pub heard_sent: [Option<Nanos>; MOST_NODES],
    /// Since when a question to the network would have found that host with an address of the group.
    pub answered_since: [Option<Nanos>; MOST_NODES],
}

#[derive(Clone, Copy, Debug)]
struct Episode {
    since: Nanos,
    /// How much the lower-numbered heard of the other, and the other of it.
    heard: [u32; 2],
    /// When each had heard something of the other.
    again: Option<Nanos>,
    /// When both had heard of each other what it takes.
    known: Option<Nanos>,
}

/// Two hosts, the lower number first.
type Pair = (usize, usize);

#[derive(Debug)]
pub struct OneOwner {
    /// The longest and the shortest span that a deadtime can take.
    deadtimes: (Nanos, Nanos),
    keepalive: Nanos,
    decisions: Vec<[Option<Decision>; MOST_NODES]>,
    owned: Vec<[bool; MOST_NODES]>,
    episodes: Vec<BTreeMap<Pair, Episode>>,
    /// Two owners that `silence` admits.
    pub admitted: u64,
    pub longest: Nanos,
}

impl OneOwner {
    pub fn new(groups: usize, deadtimes: (Nanos, Nanos), keepalive: Nanos) -> OneOwner {
        OneOwner {
            deadtimes,
            keepalive,
            decisions: vec![[None; MOST_NODES]; groups],
            owned: vec![[false; MOST_NODES]; groups],
            episodes: vec![BTreeMap::new(); groups],
            admitted: 0,
            longest: 0,
        }
    }

    /// A heart decided to start a group.
    pub fn decided(&mut self, host: usize, group: usize, decision: Decision) -> Result<(), Violation> {
        self.decisions[group][host] = Some(decision);
        let answered = decision.answered_since.iter().enumerate();
        let spans = answered.filter_map(|(other, since)| Some((other, decision.at - (*since)?)));
        match spans.max_by_key(|(_, span)| *span) {
            Some((other, span)) if span >= self.deadtimes.0 => self.violation(
                decision.at,
                format!(
                    "host {host} starts group {group} although host {other}'s kernel has answered for it for {} ms",
                    span / MS
                ),
            ),
            _ => Ok(()),
        }
    }

    /// The start goes on to what others could notice: silence may have become longer meanwhile.
    pub fn went_on(&mut self, host: usize, group: usize, silence: [Nanos; MOST_NODES]) {
        if let Some(decision) = &mut self.decisions[group][host] {
            for (known, now) in decision.silence.iter_mut().zip(silence) {
                *known = (*known).max(now);
            }
        }
    }

    pub fn owned(&self, group: usize) -> &[bool; MOST_NODES] {
        &self.owned[group]
    }

    /// Whether `host` owns a group now. Called when that changed.
    pub fn owns(&mut self, now: Nanos, host: usize, group: usize, owns: bool) -> Result<(), Violation> {
        self.owned[group][host] = owns;
        for other in (0..MOST_NODES).filter(|other| *other != host) {
            let pair = (host.min(other), host.max(other));
            if !owns {
                if let Some(episode) = self.episodes[group].remove(&pair) {
                    self.longest = self.longest.max(now - episode.since);
                }
            } else if self.owned[group][other] {
                self.episodes[group].insert(pair, Episode { since: now, heard: [0; 2], again: None, known: None });
                self.admit(now, host, other, group)?;
            }
        }
        Ok(())
    }

    fn admit(&mut self, now: Nanos, host: usize, other: usize, group: usize) -> Result<(), Violation> {
        let decisions = self.decisions[group];
        let (Some(later), Some(earlier)) = (decisions[host], decisions[other]) else {
            return self.violation(now, format!("group {group}: two owners, and nobody decided so"));
        };
        let silent = |decision: &Decision, of: usize| decision.silence[of] >= self.deadtimes.1;
        // The first one began in silence, and the second one had not heard of it yet.
        let crossed = silent(&earlier, host) && later.heard_sent[other].is_some_and(|sent| sent < earlier.at);
        if silent(&later, other) || crossed {
            self.admitted += 1;
            return Ok(());
        }
        let what = format!(
            "group {group}: host {host} is the second owner, beside {other}; it decided {later:?}, the first {earlier:?}"
        );
        self.violation(now, what)
    }

    /// A host truly heard a message of the other.
    pub fn heard(&mut self, now: Nanos, host: usize, from: usize, sent: Nanos) {
        let pair = (host.min(from), host.max(from));
        for episodes in &mut self.episodes {
            let Some(episode) = episodes.get_mut(&pair) else { continue };
            if sent >= episode.since {
                episode.heard[usize::from(host > from)] += 1;
            }
            if !episode.heard.contains(&0) {
                episode.again.get_or_insert(now);
            }
            if episode.heard.iter().all(|heard| *heard >= HEARD) {
                episode.known.get_or_insert(now);
            }
        }
    }

    /// A daemon was away: what was heard before does not count.
    pub fn disturbed(&mut self) {
        for episode in self.episodes.iter_mut().flat_map(|episodes| episodes.values_mut()) {
            *episode = Episode { since: episode.since, heard: [0; 2], again: None, known: None };
        }
    }

    /// The pairs that own a group both.
    pub fn pairs(&self, group: usize) -> Vec<Pair> {
        self.episodes[group].keys().copied().collect()
    }

    /// Whether two owners go on although both know. `ending`: one of them is stopping it, for which it has `patience` where no
    /// step of it fails.
    pub fn lasting(
        &self,
        now: Nanos,
        group: usize,
        pair: Pair,
        ending: bool,
        patience: Option<Nanos>,
    ) -> Result<(), Violation> {
        let Some(episode) = self.episodes[group].get(&pair) else { return Ok(()) };
        let (Some(again), Some(known)) = (episode.again, episode.known) else { return Ok(()) };
        // A third node may have to tell first that the lower one of them was beaten, or outlived what had beaten it.
        if !ending && now - again > 2 * self.keepalive {
            return self.violation(now, format!("group {group}: {pair:?} hear each other and neither stops"));
        }
        match patience {
            Some(patience) if now - known > patience => {
                let span = (now - known) / MS;
                self.violation(now, format!("group {group}: {pair:?} have known of each other for {span} ms"))
            }
            _ => Ok(()),
        }
    }

    fn violation(&self, at: Nanos, what: String) -> Result<(), Violation> {
        Err(Violation { at, checker: NAME, what })
    }
}
