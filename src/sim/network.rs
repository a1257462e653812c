//! The wires between the two hosts: heartbeat links and the service network. It must not know what is in a packet.

use super::Nanos;
use super::random::Random;
use super::scenario::{LINKS, NODES, Rough};

#[derive(Clone, Debug)]
pub struct Network {
    /// `cut[from][link]`: packets of that sender on that link go nowhere.
    cut: [[bool; LINKS]; NODES],
    /// The service network, both directions; carrier stays.
    service_cut: bool,
    /// Since when ARP questions are answered: see [`Network::arp_since`].
    service_since: Nanos,
}

impl Network {
    pub fn new() -> Network {
        Network { cut: [[false; LINKS]; NODES], service_cut: false, service_since: 0 }
    }

    pub fn cut(&mut self, from: usize, link: usize, cut: bool) {
        self.cut[from][link] = cut;
    }

    pub fn cut_service(&mut self, now: Nanos, cut: bool) {
        if self.service_cut != cut {
            self.service_cut = cut;
            self.service_since = now;
        }
    }

    pub fn heal(&mut self, now: Nanos) {
        self.cut = Default::default();
        self.cut_service(now, false);
    }

    /// Since when the service network carries questions and answers.
    pub fn arp_since(&self) -> Option<Nanos> {
        (!self.service_cut).then_some(self.service_since)
    }

    /// After which times the copies of a packet arrive: none, one or two.
    pub fn carry(&self, random: &mut Random, rough: &Rough, from: usize, link: usize) -> Vec<Nanos> {
        if self.cut[from][link] || random.permille(rough.loss) {
            return Vec::new();
        }
        let way = |random: &mut Random| 50_000 + random.below(rough.delay);
        let mut ways = vec![way(random)];
        if random.permille(rough.duplicate) {
            ways.push(way(random));
        }
        ways
    }
}
