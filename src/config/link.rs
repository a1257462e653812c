//! The `[[link]]` tables: over which interfaces and addresses the nodes hear each other.
//! It must not know sockets.

use super::cluster::{Cluster, node_id};
use super::local::Local;
use super::model::{LinkConfig, MOST_LINKS, NodeId};
use super::problem::{Position, did_you_mean};
use super::tree::{Found, Reader, Section};
use super::{name, unbuilt};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

const DEFAULT_PORT: u16 = 694;
const TABLE: &str = "[[link]]";

/// A link, and where its parts stand, for comparing it with others.
struct Placed {
    link: LinkConfig,
    at: Position,
    peers_at: BTreeMap<NodeId, Position>,
}

/// The sound ones; whatever is wrong with the others was reported.
pub(super) fn read_all(reader: &mut Reader<'_>, top: Section<'_>, cluster: &Cluster, local: &Local) -> Vec<LinkConfig> {
    let sections = reader.tables(top, "link", TABLE);
    let remedy = "add a [[link]] with kind = \"ucast\", interface and peers";
    if sections.is_empty() && reader.key_at(top, "link").is_none() {
        reader.findings.problem(top.at, "there is no link over which the nodes could hear each other", remedy);
    }
    if let Some(first_too_many) = sections.get(MOST_LINKS) {
        let what = format!("{} links are more than {MOST_LINKS}", sections.len());
        reader.findings.problem(first_too_many.at, what, "two or three on separate networks are as many as help");
    }
    let mut links: Vec<Placed> = Vec::new();
    for section in sections.into_iter().take(MOST_LINKS) {
        if let Some(link) = read_one(reader, section, cluster, local) {
            compare(reader, &link, &links);
            links.push(link);
        }
    }
    name_apart(links.into_iter().map(|placed| placed.link).collect())
}

fn read_one(reader: &mut Reader<'_>, section: Section<'_>, cluster: &Cluster, local: &Local) -> Option<Placed> {
    reader.missing(section, "kind", "add kind = \"ucast\"");
    let kind = reader.string(section, "kind");
    if let Some(kind) = kind.filter(|kind| kind.value != "ucast") {
        // The keys of other kinds are others: judging them would only invent mistakes.
        unbuilt::refuse_link_kind(&mut reader.findings, &kind);
        return None;
    }
    reader.known_keys(section, &["kind", "interface", "port", "peers"]);
    reader.missing(section, "interface", "name the network interface of this link, such as \"eth1\"");
    let interface = reader.string(section, "interface");
    if let Some(Found { value, at }) = &interface
        && let Err(what) = name::check_interface(value)
    {
        reader.findings.problem(*at, what, "write the interface as `ip link` names it");
    }
    let port = port(reader, section)?;
    reader.missing(section, "peers", "give every node's address on this link: peers = { alpha = \"…\", beta = \"…\" }");
    let peers_section = reader.table(section, "peers", "peers")?;
    let peers = peers(reader, peers_section, cluster);
    let interface = interface?;
    Some(Placed {
        link: LinkConfig {
            interface: local.interface(&interface.value),
            name: interface.value,
            port,
            peers: peers.iter().map(|(node, found)| (*node, found.value)).collect(),
        },
        at: interface.at,
        peers_at: peers.into_iter().map(|(node, found)| (node, found.at)).collect(),
    })
}

fn port(reader: &mut Reader<'_>, section: Section<'_>) -> Option<u16> {
    if reader.key_at(section, "port").is_none() {
        return Some(DEFAULT_PORT);
    }
    let Found { value, at } = reader.integer(section, "port")?;
    let port = u16::try_from(value).ok().filter(|port| *port != 0);
    if port.is_none() {
        reader.findings.problem(
            at,
            format!("{value} is not a UDP port"),
            "choose one from 1 to 65535; 694 is Heartbeat's own",
        );
    }
    port
}

fn peers(reader: &mut Reader<'_>, section: Section<'_>, cluster: &Cluster) -> BTreeMap<NodeId, Found<Ipv4Addr>> {
    let mut peers: BTreeMap<NodeId, Found<Ipv4Addr>> = BTreeMap::new();
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
        if let Some(address) = address {
            if let Some((twin, _)) = peers.iter().find(|(_, peer)| peer.value == address.value) {
                let twin = &cluster.nodes[usize::from(twin.0)].name;
                let what = format!("{} is the address of \"{twin}\" already", address.value);
                reader.findings.problem(address.at, what, "each node has an address of its own");
            } else {
                peers.insert(node, address);
            }
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

fn address(reader: &mut Reader<'_>, found: &Found<String>) -> Option<Found<Ipv4Addr>> {
    let text = &found.value;
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
            reader.findings.problem(
                found.at,
                format!("{address} is not the address of one host"),
                "give the node's own",
            );
            return None;
        }
        return Some(Found { value: address, at: found.at });
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        let what = "not built yet in this version: heartbeats over IPv6";
        reader.findings.problem(found.at, what, "give the node's IPv4 address on this link");
    } else {
        let what = format!("\"{text}\" is not an IPv4 address");
        reader.findings.problem(found.at, what, "write it in numbers: names are not resolved on the heartbeat's path");
    }
    None
}

/// Two links that share what makes them two only look like redundancy.
fn compare(reader: &mut Reader<'_>, new: &Placed, links: &[Placed]) {
    for other in links {
        if other.link.interface == new.link.interface && other.link.port == new.link.port {
            let what = format!("another link uses interface {} and port {} already", new.link.name, new.link.port);
            reader.findings.problem(new.at, what, "remove one of them, or use another interface");
            continue;
        }
        for (node, address) in &new.link.peers {
            let twin = other.link.peers.iter().find(|(_, peer)| *peer == address).map(|(twin, _)| twin);
            let clash = twin.is_some_and(|twin| twin != node || other.link.port == new.link.port);
            if clash {
                let what = format!("{address} stands in another link already");
                reader.findings.problem(new.peers_at[node], what, "give the node's address on this link's own network");
            }
        }
    }
}

/// Links on one interface differ by port; so do their names then.
fn name_apart(mut links: Vec<LinkConfig>) -> Vec<LinkConfig> {
    let names: Vec<String> = links.iter().map(|link| link.name.clone()).collect();
    for link in &mut links {
        if names.iter().filter(|name| **name == link.name).count() > 1 {
            link.name = format!("{}:{}", link.name, link.port);
        }
    }
    links
}
