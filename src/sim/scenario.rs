//! What a seed's world is made of: timing, groups, how bad the network and the host are. It must not know the heart.

use super::random::Random;
use super::{MS, Nanos, SECOND};
use crate::config::model::{
    Config, Failback, GroupConfig, GroupTag, LinkConfig, NodeConfig, NodeId, NodeTag, ProofPolicy, TakeoverConfig,
    Timing, VirtualAddress,
};
use std::time::Duration;

pub const NODES: usize = 2;
pub const LINKS: usize = 2;
const SERVICE: &str = "eth0";

/// How bad things are, in permille where not in time.
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
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub configs: Vec<Config>,
    pub rough: Rough,
    /// Faults end here, the world heals.
    pub heal: Nanos,
    /// By then everything has to be where it belongs.
    pub settled: Nanos,
    pub end: Nanos,
    pub faults: u64,
    /// This host stays without power when all else is mended.
    pub off: Option<usize>,
    /// The second host's files differ until all is mended.
    pub differing: bool,
}

impl Scenario {
    pub fn new(random: &mut Random) -> Scenario {
        let timing = timing(random);
        let groups = random.between(1, 3);
        let groups: Vec<GroupConfig> = (0..groups).map(|index| group(random, &timing, index as u8)).collect();
        let nodes =
            ["alpha", "beta"].iter().zip(1..).map(|(name, tag)| NodeConfig { name: (*name).into(), tag: NodeTag(tag) });
        let nodes: Vec<NodeConfig> = nodes.collect();
        let links = (0..LINKS as u8).map(|link| {
            let peers = (0..NODES as u8).map(|node| (NodeId(node), [172, 16, link, node + 1].into()));
            LinkConfig::ucast(&format!("hb{link}"), 694, peers.collect())
        });
        let links: Vec<LinkConfig> = links.collect();
        let configs = (0..NODES as u8).map(|me| Config {
            cluster: "sim".into(),
            cluster_tag: 1,
            nodes: nodes.clone(),
            me: NodeId(me),
            timing,
            links: links.clone(),
            takeover: TakeoverConfig { proof: ProofPolicy::Silence, delay: Duration::ZERO },
            groups: groups.clone(),
            cluster_digest: 1,
            groups_digest: 1,
        });
        let heal = 14 * SECOND;
        let settled = heal + timing.initdead.as_nanos() as u64 + 18 * SECOND;
        let faults = if random.permille(100) { 0 } else { random.between(1, 14) };
        let mut configs: Vec<Config> = configs.collect();
        let differing = random.permille(80);
        if differing {
            differ(&mut configs[1]);
        }
        let off = random.permille(120).then(|| random.below(NODES as u64) as usize);
        Scenario {
            off,
            differing,
            configs,
            rough: rough(random, &timing),
            heal,
            settled,
            end: settled + 3 * SECOND,
            faults,
        }
    }

    pub fn keepalive(&self) -> Nanos {
        self.configs[0].timing.keepalive.as_nanos() as u64
    }

    pub fn deadtime(&self) -> Nanos {
        self.configs[0].timing.deadtime.as_nanos() as u64
    }

    pub fn groups(&self) -> usize {
        self.configs[0].groups.len()
    }

    /// What both hosts' files say in the end.
    pub fn agreed(&self, host: usize) -> Config {
        Config { me: NodeId(host as u8), ..self.configs[0].clone() }
    }

    /// How long the end of a contested group takes at most, once both know; unknown where steps may fail.
    pub fn patience(&self) -> Option<Nanos> {
        let rough = &self.rough;
        let slow = 4 * (rough.late_by + rough.stall_by) + 2 * self.keepalive();
        (rough.fail + rough.hang == 0).then_some(slow + SECOND)
    }

    /// Nothing goes wrong at all: whatever stops, stops without need.
    pub fn calm(&self) -> bool {
        let rough = &self.rough;
        let slow = rough.delay >= self.keepalive();
        self.faults == 0
            && !slow
            && rough.loss + rough.fail + rough.hang + rough.late + rough.stall == 0
            && !self.differing
    }
}

/// Somebody turned every preference round in one host's files.
fn differ(config: &mut Config) {
    config.groups.iter_mut().for_each(|group| group.digest += 1);
    config.groups_digest += 1;
    config.groups.iter_mut().for_each(|group| group.nodes.reverse());
}

fn timing(random: &mut Random) -> Timing {
    let millis = Duration::from_millis;
    let (keepalive, warntime, deadtime) = match random.below(10) {
        0 => (10, 20, 30),
        1..=5 => (100, 200, 300),
        _ => (200, 500, 1000),
    };
    Timing {
        keepalive: millis(keepalive),
        warntime: millis(warntime),
        deadtime: millis(deadtime),
        initdead: millis(deadtime * 2).max(millis(random.between(1000, 3000))),
    }
}

fn rough(random: &mut Random, timing: &Timing) -> Rough {
    let keepalive = timing.keepalive.as_nanos() as u64;
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

fn group(random: &mut Random, timing: &Timing, index: u8) -> GroupConfig {
    // `check` refuses a group without addresses under `silence` below this deadtime.
    let bare = timing.deadtime >= Duration::from_secs(1) && random.permille(200);
    let addresses = if bare { 0 } else { random.between(1, 2) as u8 };
    let addresses = (1..=addresses).map(|last| VirtualAddress {
        address: [10, 0, index, last].into(),
        prefix: 24,
        interface: Some(SERVICE.into()),
        label: None,
        broadcast: None,
    });
    let members = if bare || random.permille(500) { vec!["member.service".to_string()] } else { Vec::new() };
    let mut nodes: Vec<NodeId> = (0..NODES as u8).map(NodeId).collect();
    if random.permille(400) {
        nodes.reverse();
    }
    GroupConfig {
        name: format!("group{index}"),
        tag: GroupTag(100 + u32::from(index)),
        description: String::new(),
        nodes,
        addresses: addresses.collect(),
        members,
        failback: if random.permille(400) { Failback::Yes } else { Failback::No },
        proof: ProofPolicy::Silence,
        delay: Duration::ZERO,
        interfaces: if bare { Vec::new() } else { vec![SERVICE.into()] },
        timeout_start: Duration::from_secs(1),
        timeout_stop: Duration::from_secs(1),
        digest: 1,
    }
}
