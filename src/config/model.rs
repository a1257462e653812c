//! What a configuration means, after all of it was found to be sound. Pure data: the heart reads it.
//! It must not know files, TOML or unit syntax.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Position of a node in [`Config::nodes`]. The wire carries [`NodeTag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u8);

/// Position of a link in [`Config::links`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId(pub u8);

/// Position of a group in [`Config::groups`]. Meaningful on this host only; the wire carries [`GroupTag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub u16);

/// A node on the wire: the first two bytes of SHA-256 of its name. `check` refuses collisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeTag(pub u16);

/// A group on the wire: the first four bytes of SHA-256 of its name. `check` refuses collisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupTag(pub u32);

/// The whole configuration of this node: the cluster's file, the host's file and the groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// `[cluster] name`.
    pub cluster: String,
    /// First eight bytes of SHA-256 of the cluster's name: stands in every packet.
    pub cluster_tag: u64,
    /// Sorted by name: of two owners under equal epochs all nodes prefer the same one, even while their files list them in
    /// another order. The default preference, which is that order, stands in each group.
    pub nodes: Vec<NodeConfig>,
    /// This host.
    pub me: NodeId,
    pub timing: Timing,
    pub links: Vec<LinkConfig>,
    pub takeover: TakeoverConfig,
    /// Sorted by name as read; a daemon that runs appends what is new and keeps the place of what is gone.
    pub groups: Vec<GroupConfig>,
    /// First four bytes of SHA-256 over what must be equal on all nodes: the cluster's file.
    pub cluster_digest: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConfig {
    pub name: String,
    pub tag: NodeTag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    pub keepalive: Duration,
    pub warntime: Duration,
    pub deadtime: Duration,
    pub initdead: Duration,
}

/// Two or three on separate networks are as many as help; each costs a packet per peer and keepalive.
pub const MOST_LINKS: usize = 8;

/// A `[[link]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkConfig {
    /// What status and journal call it: the interface as the cluster's file names it.
    pub name: String,
    /// The interface on this host (after `local.toml`).
    pub interface: String,
    pub port: u16,
    pub kind: LinkKind,
}

/// How a link reaches the peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkKind {
    /// The address of every node on this link, this node's own included; all of one family.
    Ucast { peers: BTreeMap<NodeId, IpAddr> },
    /// `loops`: this host's own packets come back to it.
    Mcast { group: IpAddr, ttl: u8, loops: bool },
    /// To 255.255.255.255 on the interface.
    Bcast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeoverConfig {
    pub proof: ProofPolicy,
    pub delay: Duration,
}

/// What must be known of a former owner before its group may start elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProofPolicy {
    /// Nothing but the deadtime on all links, and nobody answering for the addresses.
    Silence,
}

/// Whether a group goes back to a node that it prefers to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failback {
    No,
    /// As soon as that node has joined and can run it.
    Yes,
    /// When that node has been well for this long, without a break.
    After(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupConfig {
    pub name: String,
    pub tag: GroupTag,
    /// `Description=` of the target, or empty.
    pub description: String,
    /// Who may own it, preferred first.
    pub nodes: Vec<NodeId>,
    pub addresses: Vec<VirtualAddress>,
    /// Member units in start order, full unit names.
    pub members: Vec<String>,
    pub failback: Failback,
    pub proof: ProofPolicy,
    pub delay: Duration,
    /// Service interfaces that must have carrier, without duplicates: those that addresses name, and `RequireInterface=`.
    pub interfaces: Vec<String>,
    pub timeout_start: Duration,
    pub timeout_stop: Duration,
    /// First four bytes of SHA-256 over the group's meaning.
    pub digest: u32,
}

/// `Address=ADDR/PREFIX [dev IFACE] [label L] [broadcast B]`; label and broadcast with IPv4 only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VirtualAddress {
    pub address: IpAddr,
    pub prefix: u8,
    /// The interface on this host (after `local.toml`). Without one, it is the one whose own network holds the address:
    /// that is for each host to find, and to find anew.
    pub interface: Option<String>,
    pub label: Option<String>,
    pub broadcast: Option<Ipv4Addr>,
}

impl Config {
    /// Whether every node that is meant is there. What was loaded from the administrator's files is; what was read back may be damaged.
    pub fn is_whole(&self) -> bool {
        let of_groups = self.groups.iter().flat_map(|group| &group.nodes);
        let of_links = self.links.iter().flat_map(|link| link.peers()).map(|(node, _)| node);
        of_groups.copied().chain(of_links).chain([self.me]).all(|node| usize::from(node.0) < self.nodes.len())
    }

    /// Panics never for an id of this configuration.
    pub fn node(&self, id: NodeId) -> &NodeConfig {
        &self.nodes[usize::from(id.0)]
    }

    pub fn group(&self, id: GroupId) -> &GroupConfig {
        &self.groups[usize::from(id.0)]
    }

    pub fn link(&self, id: LinkId) -> &LinkConfig {
        &self.links[usize::from(id.0)]
    }

    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u8).map(NodeId)
    }

    pub fn group_ids(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0..self.groups.len() as u16).map(GroupId)
    }

    pub fn link_ids(&self) -> impl Iterator<Item = LinkId> + use<> {
        (0..self.links.len() as u8).map(LinkId)
    }

    pub fn peers(&self) -> impl Iterator<Item = NodeId> + use<> {
        let me = self.me;
        self.node_ids().filter(move |node| *node != me)
    }

    pub fn find_node(&self, name: &str) -> Option<NodeId> {
        let name = name.to_lowercase();
        self.node_ids().find(|id| self.node(*id).name == name)
    }

    /// A group that runs by this configuration.
    pub fn find_group(&self, name: &str) -> Option<GroupId> {
        self.live_groups().find(|id| self.group(*id).name == name)
    }

    /// All but the places of groups that are gone, or not there yet.
    pub fn live_groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.group_ids().filter(|id| !self.group(*id).is_gone())
    }

    pub fn node_by_tag(&self, tag: NodeTag) -> Option<NodeId> {
        self.node_ids().find(|id| self.node(*id).tag == tag)
    }

    pub fn group_by_tag(&self, tag: GroupTag) -> Option<GroupId> {
        self.group_ids().find(|id| self.group(*id).tag == tag)
    }
}

impl LinkConfig {
    pub fn ucast(name: &str, port: u16, peers: BTreeMap<NodeId, IpAddr>) -> LinkConfig {
        LinkConfig { name: name.to_owned(), interface: name.to_owned(), port, kind: LinkKind::Ucast { peers } }
    }

    /// The address of every node on this link, where the nodes have any there.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, IpAddr)> {
        let peers = match &self.kind {
            LinkKind::Ucast { peers } => Some(peers),
            LinkKind::Mcast { .. } | LinkKind::Bcast => None,
        };
        peers.into_iter().flatten().map(|(node, address)| (*node, *address))
    }
}

impl LinkKind {
    /// Switches may pass it only to ports where somebody lately said that he listens. What is of a network's own control
    /// block goes to every port (RFC 4541).
    pub fn may_be_snooped(&self) -> bool {
        match self {
            LinkKind::Mcast { group: IpAddr::V4(group), .. } => group.octets()[..3] != [224, 0, 0],
            LinkKind::Mcast { group: IpAddr::V6(group), .. } => group.segments() != [0xff02, 0, 0, 0, 0, 0, 0, 1],
            LinkKind::Ucast { .. } | LinkKind::Bcast => false,
        }
    }

    /// As the file spells it.
    pub fn name(&self) -> &'static str {
        match self {
            LinkKind::Ucast { .. } => "ucast",
            LinkKind::Mcast { .. } => "mcast",
            LinkKind::Bcast => "bcast",
        }
    }
}

impl VirtualAddress {
    /// The interface; where none is known the empty name, which no interface has.
    pub fn dev(&self) -> &str {
        self.interface.as_deref().unwrap_or_default()
    }
}

impl GroupConfig {
    /// The place of a group that no adopted configuration holds: nothing of it runs anywhere.
    pub fn gone(name: &str, tag: GroupTag) -> GroupConfig {
        GroupConfig {
            name: name.to_owned(),
            tag,
            description: String::new(),
            nodes: Vec::new(),
            addresses: Vec::new(),
            members: Vec::new(),
            failback: Failback::No,
            proof: ProofPolicy::Silence,
            delay: Duration::ZERO,
            interfaces: Vec::new(),
            timeout_start: Duration::ZERO,
            timeout_stop: Duration::ZERO,
            digest: 0,
        }
    }

    pub fn is_gone(&self) -> bool {
        self.digest == 0 && self.nodes.is_empty()
    }

    /// `hafailover-group@NAME.target`
    pub fn target(&self) -> String {
        format!("hafailover-group@{}.target", self.name)
    }
}
