//! The `[[link]]` tables: over which interfaces the nodes hear each other, one by one and compared with each other.
//! It must not know sockets. What is particular to a kind of link stands in `linkkind`.

use super::cluster::Cluster;
use super::linkkind::{self, Placed};
use super::local::Local;
use super::model::{LinkConfig, MOST_LINKS};
use super::tree::{Found, Reader, Section};
use super::{name, unbuilt};
use std::net::IpAddr;

const DEFAULT_PORT: u16 = 694;
const TABLE: &str = "[[link]]";

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
    reader.missing(section, "kind", "add kind = \"ucast\", \"mcast\" or \"bcast\"");
    let kind = reader.string(section, "kind");
    let kind = match kind {
        Some(kind) if !unbuilt::LINK_KINDS.contains(&kind.value.as_str()) => {
            // The keys of other kinds are others: judging them would only invent mistakes.
            unbuilt::refuse_link_kind(&mut reader.findings, &kind);
            return None;
        }
        kind => kind.map_or("ucast".to_owned(), |kind| kind.value),
    };
    reader.known_keys(section, linkkind::keys(&kind));
    reader.missing(section, "interface", "name the network interface of this link, such as \"eth1\"");
    let interface = reader.string(section, "interface");
    if let Some(Found { value, at }) = &interface
        && let Err(what) = name::check_interface(value)
    {
        reader.findings.problem(*at, what, "write the interface as `ip link` names it");
    }
    let port = port(reader, section);
    let (kind, peers_at) = linkkind::read(reader, section, &kind, cluster)?;
    let (interface, port) = (interface?, port?);
    let link = LinkConfig { interface: local.interface(&interface.value), name: interface.value, port, kind };
    Some(Placed { link, at: interface.at, peers_at })
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

/// Two links that share what makes them two only look like redundancy.
fn compare(reader: &mut Reader<'_>, new: &Placed, links: &[Placed]) {
    for other in links {
        let kind = new.link.kind.name();
        let same_place = other.link.interface == new.link.interface && other.link.port == new.link.port;
        if same_place && other.link.kind.name() == kind {
            let port = new.link.port;
            let what = format!("another {kind} link uses interface {} and port {port} already", new.link.name);
            reader.findings.problem(new.at, what, "remove one of them, or use another interface");
            continue;
        }
        for (node, address) in new.link.peers() {
            // Addresses of a link's own scope may be alike on each.
            if is_link_local(&address) && other.link.interface != new.link.interface {
                continue;
            }
            let twin = other.link.peers().find(|(_, peer)| *peer == address).map(|(twin, _)| twin);
            let clash = twin.is_some_and(|twin| twin != node || other.link.port == new.link.port);
            if clash {
                let what = format!("{address} stands in another link already");
                let at = new.peers_at.get(&node).copied().unwrap_or(new.at);
                reader.findings.problem(at, what, "give the node's address on this link's own network");
            }
        }
    }
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Links on one interface differ by port, or else by kind; so do their names then.
fn name_apart(mut links: Vec<LinkConfig>) -> Vec<LinkConfig> {
    let before: Vec<(String, u16, &str)> =
        links.iter().map(|link| (link.name.clone(), link.port, link.kind.name())).collect();
    for link in &mut links {
        let same = || before.iter().filter(|(name, _, _)| *name == link.name);
        if same().count() == 1 {
            continue;
        }
        let kind = link.kind.name();
        let port_is_its_own = same().filter(|(_, port, _)| *port == link.port).count() == 1;
        let kind_is_its_own = same().filter(|(_, _, other)| *other == kind).count() == 1;
        let suffix = match (port_is_its_own, kind_is_its_own) {
            (true, _) => link.port.to_string(),
            (false, true) => kind.to_owned(),
            (false, false) => format!("{kind}:{}", link.port),
        };
        link.name = format!("{}:{suffix}", link.name);
    }
    links
}
