//! What is particular to each kind of `[[link]]`: its keys, the peers of `ucast`, the group of `mcast`.
//! It must not know other links, nor sockets.

use super::cluster::{Cluster, node_id};
use super::model::{LinkConfig, LinkKind, NodeId};
use super::problem::{Position, did_you_mean};
use super::tree::{Found, Reader, Section};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// A link, and where its parts stand, for comparing it with others.
pub(super) struct Placed {
    pub(super) link: LinkConfig,
    pub(super) at: Position,
    pub(super) peers_at: BTreeMap<NodeId, Position>,
}

/// One network hop: heartbeats are for the link's own network.
const DEFAULT_TTL: u8 = 1;
const GROUP_REMEDY: &str =
    "choose one from 239.0.0.0/8 such as \"239.0.0.75\", or from ff02::/16 such as \"ff02::4:75\"";

pub(super) fn keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "mcast" => &["kind", "interface", "port", "group", "ttl", "loop"],
        "bcast" => &["kind", "interface", "port"],
        _ => &["kind", "interface", "port", "peers"],
    }
}

/// `None` if something is wrong beyond judging, which was reported.
pub(super) fn read(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    kind: &str,
    cluster: &Cluster,
) -> Option<(LinkKind, BTreeMap<NodeId, Position>)> {
    match kind {
        "mcast" => Some((mcast(reader, section)?, BTreeMap::new())),
        "bcast" => Some((LinkKind::Bcast, BTreeMap::new())),
        _ => {
            let remedy = "give every node's address on this link: peers = { alpha = \"…\", beta = \"…\" }";
            reader.missing(section, "peers", remedy);
            let section = reader.table(section, "peers", "peers")?;
            let peers = peers(reader, section, cluster);
            let kind = LinkKind::Ucast { peers: peers.iter().map(|(node, found)| (*node, found.value)).collect() };
            Some((kind, peers.into_iter().map(|(node, found)| (node, found.at)).collect()))
        }
    }
}

fn mcast(reader: &mut Reader<'_>, section: Section<'_>) -> Option<LinkKind> {
    reader.missing(section, "group", GROUP_REMEDY);
    let group = reader.string(section, "group").and_then(|found| group(reader, &found));
    let ttl = ttl(reader, section);
    let loops = reader.boolean(section, "loop").is_some_and(|found| found.value);
    Some(LinkKind::Mcast { group: group?, ttl: ttl?, loops })
}

fn group(reader: &mut Reader<'_>, found: &Found<String>) -> Option<IpAddr> {
    let text = &found.value;
    let what = match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(group)) if group.is_multicast() && group.octets()[1] & 0x0f < 2 => {
            format!("{group} never leaves this host")
        }
        Ok(group) if group.is_multicast() => return Some(group),
        Ok(address) => format!("{address} is not a multicast group"),
        Err(_) if text.contains('%') => {
            let what = format!("\"{text}\" names an interface behind the group");
            reader.findings.problem(found.at, what, "write the group alone; the key interface says where");
            return None;
        }
        Err(_) => format!("\"{text}\" is not an IP address"),
    };
    reader.findings.problem(found.at, what, GROUP_REMEDY);
    None
}

fn ttl(reader: &mut Reader<'_>, section: Section<'_>) -> Option<u8> {
    if reader.key_at(section, "ttl").is_none() {
        return Some(DEFAULT_TTL);
    }
    let Found { value, at } = reader.integer(section, "ttl")?;
    let ttl = u8::try_from(value).ok().filter(|ttl| *ttl != 0);
    if ttl.is_none() {
        let what = format!("a ttl of {value} is not between 1 and 255");
        reader.findings.problem(at, what, "write 1, which keeps heartbeats on their own network");
    }
    ttl
}

fn peers(reader: &mut Reader<'_>, section: Section<'_>, cluster: &Cluster) -> BTreeMap<NodeId, Found<IpAddr>> {
    let mut peers: BTreeMap<NodeId, Found<IpAddr>> = BTreeMap::new();
    let mut named = Vec::new();
    for key in reader.keys(section) {
        let node = cluster.find_node(&key.value);
        if node.is_none() && !cluster.nodes.is_empty() {
            let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
            let what = format!("\"{}\" is not among the nodes", key.value);
            reader.findings.problem(key.at, what, did_you_mean(&key.value, &names));
        }
        let found = reader.string(section, &key.value);
        let address = found.and_then(|found| address(reader, &found));
        let Some(node) = node else { continue };
        if named.contains(&node) {
            reader.findings.problem(key.at, format!("node \"{}\" stands here twice", key.value), "remove one of them");
        }
        named.push(node);
        if let Some(address) = address.filter(|address| fits(reader, address, &peers, cluster)) {
            peers.insert(node, address);
        }
    }
    for (index, node) in cluster.nodes.iter().enumerate() {
        if !named.contains(&node_id(index)) {
            let what = format!("node \"{}\" has no address on this link", node.name);
            reader.findings.problem(section.at, what, format!("add {} = \"…\" to peers", node.name));
        }
    }
    peers
}

/// Beside the other nodes' addresses.
fn fits(
    reader: &mut Reader<'_>,
    new: &Found<IpAddr>,
    peers: &BTreeMap<NodeId, Found<IpAddr>>,
    cluster: &Cluster,
) -> bool {
    if let Some((twin, _)) = peers.iter().find(|(_, peer)| peer.value == new.value) {
        let twin = &cluster.nodes[usize::from(twin.0)].name;
        let what = format!("{} is the address of \"{twin}\" already", new.value);
        reader.findings.problem(new.at, what, "each node has an address of its own");
        return false;
    }
    if let Some(other) = peers.values().find(|peer| peer.value.is_ipv4() != new.value.is_ipv4()) {
        let what = format!("{} cannot talk to {}: one is IPv4, the other IPv6", new.value, other.value);
        reader.findings.problem(new.at, what, "give all nodes addresses of one kind on this link");
        return false;
    }
    true
}

fn address(reader: &mut Reader<'_>, found: &Found<String>) -> Option<Found<IpAddr>> {
    let text = &found.value;
    let (what, remedy) = match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            (format!("{address} is an IPv4 address in IPv6's clothes"), "write the IPv4 address itself")
        }
        Ok(address) if is_no_host(&address) => {
            (format!("{address} is not the address of one host"), "give the node's own")
        }
        Ok(address) => return Some(Found { value: address, at: found.at }),
        Err(_) if text.split_once('%').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok()) => (
            format!("\"{text}\" names an interface behind the address"),
            "write the address alone; the key interface says where",
        ),
        Err(_) => (
            format!("\"{text}\" is not an IP address"),
            "write it in numbers: names are not resolved on the heartbeat's path",
        ),
    };
    reader.findings.problem(found.at, what, remedy);
    None
}

fn is_no_host(address: &IpAddr) -> bool {
    address.is_unspecified() || address.is_multicast() || matches!(address, IpAddr::V4(a) if a.is_broadcast())
}
