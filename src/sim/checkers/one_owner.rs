//! At most one host has an address or a member, for one group, except for what `proof = "silence"` admits: the later of two owners
//! truly heard nothing of the other for a deadtime, or the earlier one did when it decided, and the later one had not heard of that
//! yet; and no neighbour could have told it better. Of one that is deaf alone the others know: they wait.
//! Once both hear each other again, one of them stops within two keepalives.

use super::Violation;
use crate::sim::files::{MOST_GROUPS, Parts, part_name};
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

/// One of two hosts that have the same part, and for which group.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    pub host: usize,
    pub group: usize,
    /// How long it has truly heard nothing of the other one.
    pub silence: Nanos,
}

#[derive(Clone, Copy, Debug)]
struct Episode {
    since: Nanos,
    /// For which group each has it, the lower-numbered first.
    groups: [usize; 2],
    /// How much the lower-numbered heard of the other, and the other of it.
    heard: [u32; 2],
    /// When each had heard something of the other.
    again: Option<Nanos>,
    /// When both had heard of each other what it takes.
    known: Option<Nanos>,
}

/// A part, and two hosts, the lower number first.
pub type Pair = (usize, usize, usize);

#[derive(Debug)]
pub struct OneOwner {
    /// The longest and the shortest span that a deadtime can take.
    deadtimes: (Nanos, Nanos),
    keepalive: Nanos,
    decisions: [[Option<Decision>; MOST_NODES]; MOST_GROUPS],
    /// What each host has up.
    up: [Parts; MOST_NODES],
    episodes: BTreeMap<Pair, Episode>,
    /// Two owners that `silence` admits.
    pub admitted: u64,
    pub longest: Nanos,
}

impl OneOwner {
    pub fn new(deadtimes: (Nanos, Nanos), keepalive: Nanos) -> OneOwner {
        OneOwner {
            deadtimes,
            keepalive,
            decisions: Default::default(),
            up: [0; MOST_NODES],
            episodes: BTreeMap::new(),
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

    /// What a host has up.
    pub fn up(&self, host: usize) -> Parts {
        self.up[host]
    }

    /// The other hosts that have a part.
    pub fn others(&self, host: usize, part: usize) -> impl Iterator<Item = usize> + use<> {
        let up = self.up;
        (0..MOST_NODES).filter(move |other| *other != host && up[*other] & (1 << part) != 0)
    }

    /// A part is no longer up on a host.
    pub fn lost(&mut self, now: Nanos, host: usize, part: usize) {
        self.up[host] &= !(1 << part);
        for other in self.others(host, part) {
            if let Some(episode) = self.episodes.remove(&(part, host.min(other), host.max(other))) {
                self.longest = self.longest.max(now - episode.since);
            }
        }
    }

    /// A part came up on a host where no other has it.
    pub fn took(&mut self, host: usize, part: usize) {
        self.up[host] |= 1 << part;
    }

    /// A part came up on a host (`later`) while another one has it.
    pub fn doubled(&mut self, now: Nanos, part: usize, later: Owner, earlier: Owner) -> Result<(), Violation> {
        let pair = (part, later.host.min(earlier.host), later.host.max(earlier.host));
        let groups =
            if later.host < earlier.host { [later.group, earlier.group] } else { [earlier.group, later.group] };
        let same =
            |((_, one, other), episode): (&Pair, &Episode)| (*one, *other, episode.groups) == (pair.1, pair.2, groups);
        let known = self.episodes.iter().any(same);
        self.episodes.insert(pair, Episode { since: now, groups, heard: [0; 2], again: None, known: None });
        let decisions = [self.decisions[later.group][later.host], self.decisions[earlier.group][earlier.host]];
        let [Some(second), Some(first)] = decisions else {
            return self.violation(now, format!("{}: two owners, and nobody decided so", part_name(part)));
        };
        let silent = |decision: &Decision, of: usize| decision.silence[of] >= self.deadtimes.1;
        // The first one began in silence, and the second one had not heard of it yet.
        let crossed = silent(&first, later.host) && second.heard_sent[earlier.host].is_some_and(|sent| sent < first.at);
        // The later one has heard nothing since; or they own the whole already, and get another part each until one has stopped.
        let apart = later.silence >= self.deadtimes.1 || known;
        if silent(&second, earlier.host) || crossed || apart {
            self.admitted += 1;
            return Ok(());
        }
        let what = format!(
            "{}: {later:?} is the second owner, beside {earlier:?}; it decided {second:?}, the first {first:?}",
            part_name(part)
        );
        self.violation(now, what)
    }

    /// A host truly heard a message of the other.
    pub fn heard(&mut self, now: Nanos, host: usize, from: usize, sent: Nanos) {
        let pair = (host.min(from), host.max(from));
        for (_, episode) in self.episodes.iter_mut().filter(|((_, one, other), _)| (*one, *other) == pair) {
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

    /// A daemon was away: what it heard before does not count, nor what was heard of it.
    pub fn disturbed(&mut self, host: usize) {
        for (_, episode) in self.episodes.iter_mut().filter(|((_, one, other), _)| [*one, *other].contains(&host)) {
            *episode = Episode { heard: [0; 2], again: None, known: None, ..*episode };
        }
    }

    /// The parts that two hosts have.
    pub fn pairs(&self) -> Vec<Pair> {
        self.episodes.keys().copied().collect()
    }

    /// Whether two owners go on although both know. `ending`: one of them is stopping it, for which it has `patience`, counted from
    /// `calm`: since then no step of them fails.
    pub fn lasting(&self, now: Nanos, pair: Pair, ending: bool, patience: Nanos, calm: Nanos) -> Result<(), Violation> {
        let Some(episode) = self.episodes.get(&pair) else { return Ok(()) };
        let (Some(again), Some(known)) = (episode.again, episode.known) else { return Ok(()) };
        let (part, hosts) = (part_name(pair.0), (pair.1, pair.2));
        // A third node may have to tell first that the lower one of them was beaten, or outlived what had beaten it.
        if !ending && now - again > 2 * self.keepalive {
            return self.violation(now, format!("{part}: {hosts:?} hear each other and neither stops"));
        }
        if now.saturating_sub(known.max(calm)) > patience {
            let span = (now - known) / MS;
            return self.violation(now, format!("{part}: {hosts:?} have known of each other for {span} ms"));
        }
        Ok(())
    }

    pub fn violation(&self, at: Nanos, what: String) -> Result<(), Violation> {
        Err(Violation { at, checker: NAME, what })
    }
}
