//! What a seed's world is made of: nodes, links, timing, groups, how bad the network and the hosts are. It must not know the heart.

use super::files::{self, ADDRESSES, TRAVELLERS};
use super::random::Random;
use super::{MS, Nanos, SECOND};
use crate::config::model::{
    Config, Failback, GroupConfig, LinkConfig, NodeConfig, NodeId, NodeTag, ProofPolicy, TakeoverConfig, Timing,
    VirtualAddress,
};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// The names' order is the order of their numbers, as in a configuration.
const NAMES: [&str; MOST_NODES] = ["alpha", "beta", "gamma", "delta", "epsilon"];
pub const MOST_NODES: usize = 5;
pub const MOST_LINKS: usize = 3;
const SERVICE: &str = "eth0";
/// Every world lasts at least this long.
pub const SPAN: Nanos = 600 * SECOND;
/// Faults end by then.
const HEAL: Nanos = 560 * SECOND;
/// What the slowest step and its repetition may take after everything is mended.
const SETTLE: Nanos = 18 * SECOND;

/// How bad things are throughout, in permille where not in time.
#[derive(Clone, Debug)]
pub struct Rough {
    pub loss: u64,
    pub duplicate: u64,
    /// Longest way of a packet.
    pub delay: Nanos,
    /// Actions that fail.
    pub fail: u64,
    /// Actions that never answer.
    pub hang: u64,
    /// Wake-ups that come late.
    pub late: u64,
    pub late_by: Nanos,
    /// Rounds that are held up between reading and deciding.
    pub stall: u64,
    pub stall_by: Nanos,
    /// Longest time until what was saved is on the disk.
    pub disk: Nanos,
}

impl Rough {
    /// After all faults.
    pub fn quiet() -> Rough {
        Rough {
            loss: 0,
            duplicate: 0,
            delay: MS / 2,
            fail: 0,
            hang: 0,
            late: 0,
            late_by: 1,
            stall: 0,
            stall_by: 1,
            disk: 20 * MS,
        }
    }

    /// Nothing of it can make a group move.
    pub fn harmless(&self, keepalive: Nanos, links: usize) -> bool {
        let most = if links > 1 { 10 } else { 0 };
        self.delay < keepalive && self.loss <= most && self.fail + self.hang + self.late + self.stall == 0
    }
}

/// One group, as its file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Who may own it, preferred first.
    pub nodes: Vec<usize>,
    /// By the parts' numbers.
    pub addresses: Vec<usize>,
    pub members: Vec<usize>,
    pub failback: Failback,
    /// It is in no file at the beginning.
    pub spare: bool,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub nodes: usize,
    pub links: usize,
    pub timing: Timing,
    pub groups: Vec<Shape>,
    pub rough: Rough,
    /// By how much each host's clock goes fast, in millionths.
    pub drift: Vec<i64>,
    /// When each host gets its first power.
    pub boots: Vec<Nanos>,
    /// Faults end here, the world heals.
    pub heal: Nanos,
    /// By now every node runs by what could be agreed on at once: what waited for another reload gets it.
    pub files: Nanos,
    /// By then everything has to be where it belongs.
    pub settled: Nanos,
    pub end: Nanos,
    /// This host stays without power when all else is mended.
    pub off: Option<usize>,
    /// In the end operators start what they stopped.
    pub starts: bool,
}

impl Scenario {
    pub fn new(random: &mut Random) -> Scenario {
        let nodes = *random.pick(&[2, 2, 2, 2, 3, 3, 3, 4, 5]);
        let links = *random.pick(&[1, 2, 2, 2, 2, 3]);
        let timing = timing(random, nodes);
        let groups = random.between(1, 3) as usize;
        let mut groups: Vec<Shape> = (0..groups).map(|group| shape(random, &timing, nodes, group)).collect();
        for part in TRAVELLERS {
            let home = random.below(groups.len() as u64) as usize;
            if random.permille(500) {
                groups[home] = groups[home].with(part);
            }
        }
        if random.permille(600) {
            let spare = shape(random, &timing, nodes, groups.len());
            groups.push(Shape { spare: true, ..spare });
        }
        let initdead = nanos(timing.initdead);
        let deadtime = nanos(timing.deadtime);
        let files = HEAL + initdead + 4 * deadtime + SETTLE / 2;
        let settled = files + 2 * deadtime + SETTLE / 2 + 2 * SECOND;
        let end = (settled + 3 * SECOND + 2 * nanos(timing.deadtime)).max(SPAN);
        let furthest = *random.pick(&[0, 20, 200, 200, 2000]);
        let drift = (0..nodes).map(|_| random.between(0, 2 * furthest) as i64 - furthest as i64).collect();
        let latest = *random.pick(&[MS, 50 * MS, 6 * SECOND, 2 * initdead]);
        let boots = (0..nodes).map(|_| random.below(latest)).collect();
        let off = random.permille(120).then(|| random.below(nodes as u64) as usize);
        let rough = if random.permille(400) { calm(random, &timing) } else { rough(random, &timing) };
        let starts = random.permille(500);
        Scenario { nodes, links, timing, groups, rough, drift, boots, heal: HEAL, files, settled, end, off, starts }
    }

    pub fn keepalive(&self) -> Nanos {
        nanos(self.timing.keepalive)
    }

    /// By how much a daemon wakes up late, at most, while that is a fault.
    pub fn late_by(&self) -> Nanos {
        (2 * self.keepalive()).max(20 * MS)
    }

    pub fn deadtime(&self) -> Nanos {
        nanos(self.timing.deadtime)
    }

    pub fn initdead(&self) -> Nanos {
        nanos(self.timing.initdead)
    }

    /// What all hosts' files say, but for the groups.
    pub fn config(&self, me: usize) -> Config {
        let named = NAMES.iter().zip(1..).take(self.nodes);
        Config {
            cluster: "sim".into(),
            cluster_tag: 1,
            nodes: named.map(|(name, tag)| NodeConfig { name: (*name).into(), tag: NodeTag(tag) }).collect(),
            me: id(me),
            timing: self.timing,
            links: (0..self.links).map(|link| self.link(link as u8)).collect(),
            takeover: TakeoverConfig { proof: ProofPolicy::Silence, delay: Duration::ZERO },
            groups: Vec::new(),
            cluster_digest: 1,
        }
    }

    fn link(&self, link: u8) -> LinkConfig {
        let peers = (0..self.nodes as u8).map(|node| (NodeId(node), [172, 16, link, node + 1].into()));
        LinkConfig::ucast(&format!("hb{link}"), 694, peers.collect())
    }

    /// The same world without one of its nodes.
    pub fn without_node(&self, node: usize) -> Option<Scenario> {
        let mut smaller = self.clone();
        smaller.nodes -= 1;
        smaller.drift.remove(node);
        smaller.boots.remove(node);
        smaller.off = self.off.filter(|off| *off != node).map(|off| without(off, node));
        for shape in &mut smaller.groups {
            shape.nodes.retain(|other| *other != node);
            shape.nodes.iter_mut().for_each(|other| *other = without(*other, node));
        }
        let sound = smaller.nodes >= 2 && smaller.groups.iter().all(|shape| !shape.nodes.is_empty());
        sound.then_some(smaller)
    }

    pub fn without_group(&self, group: usize) -> Option<Scenario> {
        let mut smaller = self.clone();
        smaller.groups.remove(group);
        smaller.groups.iter().any(|shape| !shape.spare).then_some(smaller)
    }

    /// The longest span that a deadtime, as some clock measures it, takes in the world's time, and the shortest.
    pub fn deadtimes(&self, worst: i64) -> (Nanos, Nanos) {
        let off = self.drift.iter().map(|drift| drift.abs()).max().unwrap_or(0).max(worst) as u64 + 1;
        let error = self.deadtime() / 1_000_000 * off + off;
        (self.deadtime() + error, self.deadtime() - error)
    }
}

/// The number of a node or group after `gone` is no more.
pub fn without(number: usize, gone: usize) -> usize {
    if number > gone { number - 1 } else { number }
}

impl Shape {
    pub fn has(&self, part: usize) -> bool {
        self.all().any(|other| other == part)
    }

    /// The numbers of all its parts.
    pub fn all(&self) -> impl Iterator<Item = usize> {
        self.addresses.iter().copied().chain(self.members.iter().map(|member| ADDRESSES + member))
    }

    pub fn with(&self, part: usize) -> Shape {
        let mut shape = self.clone();
        match part.checked_sub(ADDRESSES) {
            Some(member) => shape.members.push(member),
            None => shape.addresses.push(part),
        }
        shape
    }

    pub fn without(&self, part: usize) -> Shape {
        let mut shape = self.clone();
        shape.addresses.retain(|address| *address != part);
        shape.members.retain(|member| ADDRESSES + member != part);
        shape
    }

    pub fn config(&self, group: usize) -> GroupConfig {
        let addresses = self.addresses.iter().map(|address| VirtualAddress {
            address: [10, 0, 0, *address as u8].into(),
            prefix: 24,
            interface: Some(SERVICE.into()),
            label: None,
            broadcast: None,
        });
        let mut digest = DefaultHasher::new();
        (&self.nodes, &self.addresses, &self.members, format!("{:?}", self.failback)).hash(&mut digest);
        GroupConfig {
            name: format!("group{group}"),
            tag: files::tag(group),
            description: String::new(),
            nodes: self.nodes.iter().map(|node| id(*node)).collect(),
            addresses: addresses.collect(),
            members: self.members.iter().map(|member| files::member_name(*member)).collect(),
            failback: self.failback,
            proof: ProofPolicy::Silence,
            delay: Duration::ZERO,
            interfaces: if self.addresses.is_empty() { Vec::new() } else { vec![SERVICE.into()] },
            timeout_start: Duration::from_secs(1),
            timeout_stop: Duration::from_secs(1),
            // None is 0: that means none.
            digest: digest.finish() as u32 | 1,
        }
    }
}

fn id(node: usize) -> NodeId {
    NodeId(node as u8)
}

fn nanos(span: Duration) -> Nanos {
    span.as_nanos() as Nanos
}

/// The more nodes, the more packets: so the slower, mostly.
fn timing(random: &mut Random, nodes: usize) -> Timing {
    let keepalive = match nodes {
        2 => *random.pick(&[100, 200, 200, 500, 500, 500, 1000, 1000, 1000, 2000, 2000, 5000]),
        3 => *random.pick(&[200, 500, 1000, 1000, 2000, 2000, 5000, 5000]),
        4 => *random.pick(&[500, 1000, 2000, 2000, 5000]),
        _ => *random.pick(&[1000, 2000, 5000, 5000]),
    };
    let keepalive = if random.permille(10) { 100 } else { keepalive };
    let (warntime, deadtime) = *random.pick(&[(2, 3), (2, 3), (3, 5), (3, 6)]);
    let deadtime = keepalive * deadtime;
    let millis = Duration::from_millis;
    Timing {
        keepalive: millis(keepalive),
        warntime: millis(keepalive * warntime),
        deadtime: millis(deadtime),
        initdead: millis(deadtime * 2).max(millis(random.between(1000, 3000))),
    }
}

fn rough(random: &mut Random, timing: &Timing) -> Rough {
    let keepalive = nanos(timing.keepalive);
    Rough {
        loss: *random.pick(&[0, 0, 10, 100, 300]),
        duplicate: *random.pick(&[0, 0, 50, 300]),
        delay: *random.pick(&[MS / 5, MS, keepalive / 3, keepalive * 3 / 2, keepalive * 5]),
        fail: *random.pick(&[0, 0, 10, 60]),
        hang: *random.pick(&[0, 0, 0, 20]),
        late: *random.pick(&[0, 1, 10]),
        late_by: *random.pick(&[MS, 20 * MS]),
        stall: *random.pick(&[0, 0, 5, 20]),
        stall_by: *random.pick(&[MS, keepalive, keepalive * 8]),
        disk: *random.pick(&[MS, 50 * MS, 2 * SECOND]),
    }
}

/// Only faults make anything happen.
fn calm(random: &mut Random, timing: &Timing) -> Rough {
    let delay = *random.pick(&[MS / 5, MS, nanos(timing.keepalive) / 3]);
    Rough { delay, loss: *random.pick(&[0, 0, 10]), disk: *random.pick(&[MS, 2 * SECOND]), ..Rough::quiet() }
}

fn shape(random: &mut Random, timing: &Timing, nodes: usize, group: usize) -> Shape {
    // `check` refuses a group without addresses under `silence` below this deadtime.
    let bare = timing.deadtime >= Duration::from_secs(1) && random.permille(200);
    let mut order: Vec<usize> = (0..nodes).collect();
    if random.permille(500) {
        for place in 1..nodes {
            order.swap(place, random.below(place as u64 + 1) as usize);
        }
    }
    if nodes > 2 && random.permille(300) {
        order.truncate(random.between(2, nodes as u64 - 1) as usize);
    }
    let addresses = if bare { 0 } else { random.between(1, 2) as usize };
    let members = if bare || random.permille(500) { random.between(1, 2) as usize } else { 0 };
    Shape {
        nodes: order,
        addresses: (0..addresses).map(|own| group * 4 + own).collect(),
        members: (0..members).map(|own| group * 2 + own).collect(),
        failback: if random.permille(400) { Failback::Yes } else { Failback::No },
        spare: false,
    }
}
