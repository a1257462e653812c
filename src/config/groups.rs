//! All groups together: which there are, and what two of them cannot share.
//! It must not know unit syntax.

use super::Paths;
use super::cluster::Cluster;
use super::digest::Canonical;
use super::group::{Context, Group, Place, Reading, digest};
use super::local::Local;
use super::model::GroupConfig;
use super::problem::Problem;
use super::section::{GroupUnit, read_units};
use std::time::Duration;

/// The state of all groups travels in every heartbeat: with two nodes so many fit.
const MOST_GROUPS: usize = 40;
/// What one group takes of a heartbeat, and one node's echo; what is left for both. See `wire::codec`.
const GROUP_BYTES: usize = 26;
const ECHO_BYTES: usize = 18;
const ROOM: usize = 1126;
/// Nodes whose earlier run is echoed beside the present one.
const RESTARTED: usize = 2;
/// Members without an address have no probe: below this, a pause of the owner could be taken for its death.
const SAFE_DEADTIME_WITHOUT_PROBE: Duration = Duration::from_secs(1);
/// Stands for `%H` in the digest, which must be the same on all hosts.
const ANY_HOST: &str = "hafailover-any-host";

#[derive(Clone, Debug)]
pub(super) struct Groups {
    /// Sorted by name.
    pub(super) groups: Vec<GroupConfig>,
}

impl Groups {
    pub(super) fn digest(&self) -> u32 {
        let mut canonical = Canonical::default();
        for group in &self.groups {
            canonical.line(&group.name, group.digest);
        }
        canonical.digest()
    }
}

pub(super) fn load(
    paths: &Paths,
    hostname: &str,
    cluster: &Cluster,
    local: &Local,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Groups {
    let units = read_units(&paths.units);
    let mut groups = Vec::new();
    for unit in &units {
        let Some((file, at)) = unit.declared() else {
            // No group, or one whose section nobody can find any more.
            problems.extend(unit.problems());
            continue;
        };
        let declared = Place { file, at };
        let mut reading = Reading::new(unit, Context { cluster, local, hostname }, declared);
        let mut group = reading.group();
        problems.append(&mut reading.problems);
        warnings.append(&mut reading.warnings);
        group.config.digest = digest_on_any_host(unit, cluster, declared);
        groups.push(group);
    }
    compare(&groups, cluster, problems);
    for group in &groups {
        check_probe(group, cluster, problems, warnings);
    }
    Groups { groups: groups.into_iter().map(|group| group.config).collect() }
}

/// Reads the group as a host would that renames no interface and has no name of its own.
fn digest_on_any_host(unit: &GroupUnit, cluster: &Cluster, declared: Place<'_>) -> u32 {
    let local = Local::of_no_host();
    let context = Context { cluster, local: &local, hostname: ANY_HOST };
    // Its problems are those of the first reading, or come from names that only this reading invents.
    digest(&Reading::new(unit, context, declared).group().config, cluster)
}

fn most_groups(nodes: usize) -> usize {
    (ROOM.saturating_sub((nodes + RESTARTED) * ECHO_BYTES) / GROUP_BYTES).min(MOST_GROUPS)
}

fn compare(groups: &[Group<'_>], cluster: &Cluster, problems: &mut Vec<Problem>) {
    let mut problem = |place: Place<'_>, what: String, remedy: &str| {
        problems.push(Problem::new(place.file, place.at, what, remedy));
    };
    let most = most_groups(cluster.nodes.len());
    if let Some(group) = groups.get(most) {
        let what = format!(
            "{} groups are more than {most}: in this version the state of all of them travels in every heartbeat",
            groups.len()
        );
        problem(group.declared, what, "put members that always move together into one group");
    }
    for (index, group) in groups.iter().enumerate() {
        for (address, place) in group.config.addresses.iter().zip(&group.addresses_at) {
            let here = cluster.links.iter().find(|link| link.peers.values().any(|peer| *peer == address.address));
            if let Some(link) = here {
                let what = format!("{} is a node's own address on link {}", address.address, link.name);
                problem(*place, what, "choose an address that no node keeps");
            }
        }
        for other in &groups[..index] {
            compare_two(group, other, &mut problem);
        }
    }
}

fn compare_two(group: &Group<'_>, other: &Group<'_>, problem: &mut impl FnMut(Place<'_>, String, &str)) {
    let name = &other.config.name;
    if group.config.tag == other.config.tag {
        let what = format!("groups {name} and {} cannot be told apart on the wire (equal hash)", group.config.name);
        problem(group.declared, what, "rename one of them");
    }
    for (address, place) in group.config.addresses.iter().zip(&group.addresses_at) {
        if other.config.addresses.iter().any(|theirs| theirs.address == address.address) {
            let what = format!("{} belongs to group {name} already", address.address);
            problem(*place, what, "an address is in one group only");
        }
    }
    for (unit, place) in group.config.members.iter().zip(&group.members_at) {
        if other.config.members.contains(unit) {
            let what = format!("{unit} is a member of group {name} already");
            problem(*place, what, "a unit is in one group only; make a second instance of it, or one group of both");
        }
    }
}

/// Under silence, the addresses are what a node can ask the network about before it takes a group.
fn check_probe(group: &Group<'_>, cluster: &Cluster, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
    let (Some(place), true) = (group.members_at.first(), !group.has_address) else { return };
    if cluster.timing.deadtime < SAFE_DEADTIME_WITHOUT_PROBE {
        let what = "members without an address cannot be probed: with proof = \"silence\" and a deadtime below 1s, \
                    a pause of the owner would be taken for its death";
        let remedy = "add an Address= to the group, or make the deadtime at least 1s";
        problems.push(Problem::new(place.file, place.at, what, remedy));
    } else {
        let what = "members without an address cannot be probed: silence alone lets another node start them";
        let remedy = "make sure that two running copies damage nothing, or add an Address= to the group";
        warnings.push(Problem::new(place.file, place.at, what, remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::grant::{BootId, Epoch, Incarnation, Order};
    use crate::config::model::{GroupTag, NodeTag};
    use crate::wire::{Echo, GroupSays, Message, NodeFlags, RecordSays, Role, codec, seal};

    /// The longest heartbeat of a node that hears all others.
    fn longest(nodes: usize) -> usize {
        let record =
            RecordSays { epoch: Epoch(1), node: NodeTag(1), boot: BootId(1), released: true, heir: Some(NodeTag(2)) };
        let group = GroupSays {
            group: GroupTag(1),
            role: Role::Idle,
            eligible: true,
            banned: true,
            record: Some(record),
            order: Order { version: 1, stopped: true },
        };
        let echo = Echo { node: NodeTag(1), incarnation: Incarnation(1), sequence: 1 };
        let message = Message {
            cluster_tag: 1,
            sender: NodeTag(1),
            incarnation: Incarnation(1),
            sequence: 1,
            sent_at: 1,
            boot: BootId(1),
            cluster_digest: 1,
            groups_digest: 1,
            flags: NodeFlags::default(),
            echoes: vec![echo; nodes + RESTARTED],
            groups: vec![group; most_groups(nodes)],
        };
        codec::encode(&message).len() + seal::SEAL_LEN
    }

    #[test]
    fn the_most_groups_fit_into_a_heartbeat_however_many_nodes_there_are() {
        for nodes in 2..=32 {
            assert!(longest(nodes) <= codec::MAX_LEN, "{nodes} nodes: {} bytes", longest(nodes));
        }
        assert_eq!([2, 5, 32].map(most_groups), [40, 38, 19]);
    }
}
