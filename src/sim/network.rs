//! The wires between the hosts: heartbeat links and the service network. It must not know what is in a packet.

use super::random::Random;
use super::scenario::{MOST_LINKS, MOST_NODES, Rough};
use super::{MS, Nanos, SECOND};

/// A packet of a node that stays off must not show it alive when all is to have settled.
const SLOWEST: Nanos = 40 * SECOND;

/// Counts what holds a way shut: faults overlap.
type Shut = u8;

#[derive(Clone, Debug, Default)]
pub struct Network {
    /// `cut[from][to][link]`: packets of that sender to that node on that link go nowhere.
    cut: [[[Shut; MOST_LINKS]; MOST_NODES]; MOST_NODES],
    /// The service network between two hosts, in both directions; carrier stays.
    service: [[Shut; MOST_NODES]; MOST_NODES],
    /// Since when ARP questions are answered between two hosts: see [`Network::arp_since`].
    service_since: [[Nanos; MOST_NODES]; MOST_NODES],
    /// Spells of loss, of doubles and of slowness on all links.
    pub lossy: u8,
    pub doubling: u8,
    pub slow: u8,
}

impl Network {
    pub fn cut(&mut self, from: usize, to: usize, link: usize, on: bool) {
        count(&mut self.cut[from][to][link], on);
    }

    pub fn is_cut(&self, from: usize, to: usize, link: usize) -> bool {
        self.cut[from][to][link] > 0
    }

    pub fn cut_service(&mut self, now: Nanos, a: usize, b: usize, on: bool) {
        for (one, other) in [(a, b), (b, a)] {
            let shut = &mut self.service[one][other];
            let before = *shut;
            count(shut, on);
            if (before == 0) != (*shut == 0) {
                self.service_since[one][other] = now;
            }
        }
    }

    pub fn heal(&mut self, now: Nanos) {
        let healed = Network { service_since: self.service_since, ..Network::default() };
        let before = std::mem::replace(self, healed);
        for one in 0..MOST_NODES {
            for other in (0..MOST_NODES).filter(|other| before.service[one][*other] > 0) {
                self.service_since[one][other] = now;
            }
        }
    }

    /// Since when the service network carries questions and answers between two hosts.
    pub fn arp_since(&self, a: usize, b: usize) -> Option<Nanos> {
        (self.service[a][b] == 0).then_some(self.service_since[a][b])
    }

    /// After which times the copies of a packet arrive: none, one or two.
    pub fn carry(&self, random: &mut Random, rough: &Rough, way: (usize, usize, usize)) -> [Option<Nanos>; 2] {
        let (from, to, link) = way;
        let loss = if self.lossy > 0 { rough.loss.max(400) } else { rough.loss };
        if self.cut[from][to][link] > 0 || random.permille(loss) {
            return [None, None];
        }
        let slowed = (rough.delay * 8).clamp(400 * MS, SLOWEST.max(rough.delay));
        let longest = if self.slow > 0 { slowed } else { rough.delay };
        let time = |random: &mut Random| 50_000 + random.below(longest);
        let duplicate = if self.doubling > 0 { rough.duplicate.max(500) } else { rough.duplicate };
        let first = time(random);
        [Some(first), random.permille(duplicate).then(|| time(random))]
    }
}

/// One more, or one less, that holds something shut.
pub fn count(shut: &mut Shut, on: bool) {
    *shut = if on { shut.saturating_add(1) } else { shut.saturating_sub(1) };
}
