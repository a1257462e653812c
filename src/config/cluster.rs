//! `hafailover.toml`: the cluster, its timing, its links, and what a takeover needs.
//! It must not know groups.

use super::digest::{Canonical, node_tag};
use super::duration::show;
use super::local::Local;
use super::model::{LinkConfig, LinkKind, NodeConfig, NodeId, ProofPolicy, TakeoverConfig, Timing};
use super::problem::{Position, Problem};
use super::tree::{Found, Reader, Section};
use super::{link, name, read_text, unbuilt};
use std::path::Path;
use std::time::Duration;

/// Each hears all others, and says so in every heartbeat.
const MOST_NODES: usize = 32;
const SHORTEST_KEEPALIVE: Duration = Duration::from_millis(5);
const DEFAULT_TIMING: Timing = Timing {
    keepalive: Duration::from_millis(200),
    warntime: Duration::from_millis(500),
    deadtime: Duration::from_secs(1),
    initdead: Duration::from_secs(30),
};
const TOP_KEYS: [&str; 4] = ["cluster", "timing", "link", "takeover"];

/// What the file says. Where it is unsound a default stands, and the problem was reported.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) name: String,
    /// Sorted by name: a node's number must not depend on the order in one host's file. Empty if the file is not sound.
    pub(super) nodes: Vec<NodeConfig>,
    /// In the order of the file.
    pub(super) preferred: Vec<NodeId>,
    pub(super) me: Option<NodeId>,
    pub(super) timing: Timing,
    pub(super) links: Vec<LinkConfig>,
    pub(super) takeover: TakeoverConfig,
}

impl Cluster {
    fn unsound() -> Cluster {
        Cluster {
            name: String::new(),
            nodes: Vec::new(),
            preferred: Vec::new(),
            me: None,
            timing: DEFAULT_TIMING,
            links: Vec::new(),
            takeover: TakeoverConfig { proof: ProofPolicy::Silence, delay: Duration::ZERO },
        }
    }

    pub(super) fn find_node(&self, name: &str) -> Option<NodeId> {
        let name = name.to_lowercase();
        self.nodes.iter().position(|node| node.name == name).map(node_id)
    }

    /// Over what must be equal on all nodes. Interfaces stand by the name the file gives them.
    pub(super) fn digest(&self) -> u32 {
        let mut canonical = Canonical::default();
        canonical.line("cluster", &self.name);
        for node in &self.preferred {
            canonical.line("node", &self.nodes[usize::from(node.0)].name);
        }
        let Timing { keepalive, warntime, deadtime, initdead } = self.timing;
        for (key, time) in
            [("keepalive", keepalive), ("warntime", warntime), ("deadtime", deadtime), ("initdead", initdead)]
        {
            canonical.line(key, time.as_nanos());
        }
        for link in &self.links {
            canonical.line("link", format_args!("{} {} {}", link.kind.name(), link.name, link.port));
            if let LinkKind::Mcast { group, ttl, loops } = link.kind {
                canonical.line("mcast", format_args!("{group} {ttl} {loops}"));
            }
            for (node, address) in link.peers() {
                canonical.line("peer", format_args!("{} {address}", node.0));
            }
        }
        let ProofPolicy::Silence = self.takeover.proof;
        canonical.line("proof", "silence");
        canonical.line("delay", self.takeover.delay.as_nanos());
        canonical.digest()
    }
}

/// The caller has made sure that there are few: a node's number is a byte.
pub(super) fn node_id(index: usize) -> NodeId {
    NodeId(u8::try_from(index).expect("at most as many nodes as `nodes` lets through"))
}

pub(super) fn load(file: &Path, local: &Local, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) -> Cluster {
    let text = match read_text(file) {
        Ok(Some(text)) => text,
        Ok(None) => {
            let remedy = "write it; hafailover.toml(5) holds an example";
            problems.push(Problem::new(file, Position::START, "there is no such file", remedy));
            return Cluster::unsound();
        }
        Err(problem) => {
            problems.push(problem);
            return Cluster::unsound();
        }
    };
    let (mut reader, tree) = Reader::parse(file, &text);
    let cluster = match &tree {
        Some(tree) => {
            let top = reader.top(tree);
            read(&mut reader, top, local)
        }
        None => Cluster::unsound(),
    };
    problems.append(&mut reader.findings.problems);
    warnings.append(&mut reader.findings.warnings);
    cluster
}

fn read(reader: &mut Reader<'_>, top: Section<'_>, local: &Local) -> Cluster {
    let mut known = TOP_KEYS.to_vec();
    known.extend(unbuilt::refuse_tables(reader, top));
    reader.known_keys(top, &known);
    let mut cluster = Cluster { timing: timing(reader, top), ..Cluster::unsound() };
    let section = reader.table(top, "cluster", "[cluster]");
    if let Some(section) = section {
        reader.known_keys(section, &["name", "nodes", "witnesses"]);
        cluster.name = cluster_name(reader, section);
        cluster.nodes = nodes(reader, section);
        let listed: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
        cluster.nodes.sort_by(|one, other| one.name.cmp(&other.name));
        cluster.preferred = listed.iter().filter_map(|name| cluster.find_node(name)).collect();
        cluster.me = me(reader, section, &cluster, local);
    } else {
        reader.missing(top, "cluster", "add [cluster] with name and nodes");
    }
    let witnesses = section.is_some_and(|section| unbuilt::refuse_witnesses(reader, section));
    cluster.links = link::read_all(reader, top, &cluster, local);
    cluster.takeover = takeover(reader, top, &cluster, witnesses);
    cluster
}

fn cluster_name(reader: &mut Reader<'_>, section: Section<'_>) -> String {
    reader.missing(section, "name", "give the cluster a name; it keeps clusters on one network apart");
    let Some(Found { value, at }) = reader.string(section, "name") else { return String::new() };
    if let Err(what) = name::check_cluster(&value) {
        reader.findings.problem(at, what, "choose a short name such as \"shop\"");
    }
    value
}

/// All nodes, or none if the list is unsound: a name left out would shift the others.
fn nodes(reader: &mut Reader<'_>, section: Section<'_>) -> Vec<NodeConfig> {
    reader.missing(section, "nodes", "list all nodes by `uname -n`: nodes = [\"alpha\", \"beta\"]");
    let before = reader.findings.problems.len();
    let Some(names) = reader.strings(section, "nodes") else { return Vec::new() };
    let mut nodes: Vec<NodeConfig> = Vec::new();
    for Found { value, at } in &names {
        let name = value.to_lowercase();
        if let Err(what) = name::check_node(&name) {
            reader.findings.problem(*at, what, "write the node's name as `uname -n` prints it");
        } else if nodes.iter().any(|node| node.name == name) {
            reader.findings.problem(*at, format!("node \"{name}\" is listed twice"), "remove one of them");
        } else if let Some(twin) = nodes.iter().find(|node| node.tag == node_tag(&name)) {
            let what = format!("nodes \"{}\" and \"{name}\" cannot be told apart on the wire (equal hash)", twin.name);
            reader.findings.problem(*at, what, "rename one of them");
        } else {
            nodes.push(NodeConfig { tag: node_tag(&name), name });
        }
    }
    let sound = reader.findings.problems.len() == before;
    if sound && !(2..=MOST_NODES).contains(&nodes.len()) {
        let at = reader.key_at(section, "nodes").unwrap_or(section.at);
        let (what, remedy) = match nodes.len() {
            0 | 1 => (format!("a cluster of {} cannot fail over", nodes.len()), "list at least two nodes".to_string()),
            count => (
                format!("{count} nodes are more than {MOST_NODES}, which each hear all others"),
                format!("list at most {MOST_NODES} nodes, and make more clusters of the rest"),
            ),
        };
        reader.findings.problem(at, what, remedy);
        return Vec::new();
    }
    if sound { nodes } else { Vec::new() }
}

/// Who this host is. Silent if the nodes are not known: that was reported.
fn me(reader: &mut Reader<'_>, section: Section<'_>, cluster: &Cluster, local: &Local) -> Option<NodeId> {
    let me = cluster.find_node(local.node_name());
    if me.is_none() && !cluster.nodes.is_empty() {
        let at = reader.key_at(section, "nodes").unwrap_or(section.at);
        let what = match &local.node {
            Some(node) => {
                format!("this host calls itself \"{}\" in local.toml, and that is not among the nodes", node.value)
            }
            None => format!("this host's `uname -n` is \"{}\", and that is not among the nodes", local.node_name()),
        };
        reader.findings.problem(at, what, "list it here, or say which node this is in local.toml: node = \"…\"");
    }
    me
}

fn timing(reader: &mut Reader<'_>, top: Section<'_>) -> Timing {
    let Some(section) = reader.table(top, "timing", "[timing]") else { return DEFAULT_TIMING };
    let before = reader.findings.problems.len();
    reader.known_keys(section, &["keepalive", "warntime", "deadtime", "initdead"]);
    let keepalive = reader.duration(section, "keepalive");
    let warntime = reader.duration(section, "warntime");
    let deadtime = reader.duration(section, "deadtime");
    let initdead = reader.duration(section, "initdead");
    if reader.findings.problems.len() > before {
        // Comparing with what could not be read would only invent further mistakes.
        return DEFAULT_TIMING;
    }
    let or_default = |found: &Option<Found<Duration>>, default| found.as_ref().map_or(default, |found| found.value);
    let dead = or_default(&deadtime, DEFAULT_TIMING.deadtime);
    let timing = Timing {
        keepalive: or_default(&keepalive, DEFAULT_TIMING.keepalive),
        // Half the deadtime, which is 500 ms where the deadtime is the default.
        warntime: or_default(&warntime, dead / 2),
        deadtime: dead,
        initdead: or_default(&initdead, DEFAULT_TIMING.initdead),
    };
    // A default cannot be at fault: the blame goes to whichever was written.
    let place = |keys: &[&Option<Found<Duration>>]| {
        keys.iter().find_map(|key| key.as_ref().map(|found| found.at)).unwrap_or(section.at)
    };
    check_timing(
        reader,
        timing,
        warntime.is_some(),
        [place(&[&keepalive]), place(&[&deadtime, &keepalive]), place(&[&warntime]), place(&[&initdead, &deadtime])],
    );
    timing
}

fn check_timing(reader: &mut Reader<'_>, timing: Timing, warntime_given: bool, at: [Position; 4]) {
    let Timing { keepalive, warntime, deadtime, initdead } = timing;
    let [keepalive_at, deadtime_at, warntime_at, initdead_at] = at;
    let findings = &mut reader.findings;
    if keepalive < SHORTEST_KEEPALIVE {
        let what = format!("a keepalive of {} is shorter than {}", show(keepalive), show(SHORTEST_KEEPALIVE));
        findings.problem(
            keepalive_at,
            what,
            "no host keeps such a beat; 10ms with a deadtime of 30ms is the practical end",
        );
    }
    if deadtime <= 2 * keepalive {
        let what = format!("a deadtime of {} is not above two keepalives of {}", show(deadtime), show(keepalive));
        findings.problem(
            deadtime_at,
            what,
            "one lost heartbeat would be a death; make the deadtime at least three keepalives",
        );
    }
    if warntime_given && (warntime <= keepalive || warntime >= deadtime) {
        let what = format!("a warntime of {} is not between keepalive and deadtime", show(warntime));
        let remedy = format!("choose one above {} and below {}", show(keepalive), show(deadtime));
        findings.problem(warntime_at, what, remedy);
    }
    if initdead < deadtime {
        let what = format!("an initdead of {} is shorter than the deadtime of {}", show(initdead), show(deadtime));
        findings.problem(initdead_at, what, "give a booting node at least one deadtime: set initdead to it or above");
    }
}

fn takeover(reader: &mut Reader<'_>, top: Section<'_>, cluster: &Cluster, witnesses: bool) -> TakeoverConfig {
    let sound = cluster.takeover;
    let remedy = "spell it out: [takeover] proof = \"silence\", if two owners for a moment can damage nothing";
    let Some(section) = reader.table(top, "takeover", "[takeover]") else {
        if reader.key_at(top, "takeover").is_none() {
            let what = "nothing says how a node may know that the other no longer runs a group; there is no default";
            reader.findings.problem(top.at, what, remedy);
        }
        return sound;
    };
    reader.known_keys(section, &["proof", "delay", "hang"]);
    match reader.string(section, "proof") {
        Some(proof) => unbuilt::check_proof(&mut reader.findings, &proof, cluster.nodes.len(), witnesses),
        None if reader.key_at(section, "proof").is_none() => {
            let what = "[takeover] has no \"proof\": how may a node know that the other no longer runs a group? \
                        There is no default";
            reader.findings.problem(section.at, what, remedy);
        }
        None => {}
    }
    if let Some(delay) = reader.duration(section, "delay").filter(|delay| !delay.value.is_zero()) {
        let what = "not built yet in this version: a delay between alarm and takeover";
        reader.findings.problem(delay.at, what, "remove it, or set it to \"0s\"");
    }
    if let Some(hang) = reader.string(section, "hang").filter(|hang| hang.value != "block") {
        let what = format!("not built yet in this version: hang = \"{}\"", hang.value);
        reader.findings.problem(hang.at, what, "remove it, or set it to \"block\"");
    }
    sound
}
