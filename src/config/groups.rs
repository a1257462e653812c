//! All groups together: which there are, and what two of them cannot share.
//! It must not know unit syntax.

use super::Paths;
use super::cluster::Cluster;
use super::group::{Context, Group, Place, Reading, digest};
use super::local::Local;
use super::model::GroupConfig;
use super::problem::Problem;
use super::section::{GroupUnit, read_units};
use std::time::Duration;

/// A peer that comes is told of all groups at once: so many take some thirty messages.
const MOST_GROUPS: usize = 1000;
/// Members without an address have no probe: below this, a pause of the owner could be taken for its death.
const SAFE_DEADTIME_WITHOUT_PROBE: Duration = Duration::from_secs(1);
/// Stands for `%H` in the digest, which must be the same on all hosts.
const ANY_HOST: &str = "hafailover-any-host";

#[derive(Clone, Debug)]
pub(super) struct Groups {
    /// Sorted by name.
    pub(super) groups: Vec<GroupConfig>,
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

fn compare(groups: &[Group<'_>], cluster: &Cluster, problems: &mut Vec<Problem>) {
    let mut problem = |place: Place<'_>, what: String, remedy: &str| {
        problems.push(Problem::new(place.file, place.at, what, remedy));
    };
    if let Some(group) = groups.get(MOST_GROUPS) {
        let what = format!("{} groups are more than {MOST_GROUPS}", groups.len());
        problem(group.declared, what, "put members that always move together into one group");
    }
    for (index, group) in groups.iter().enumerate() {
        for (address, place) in group.config.addresses.iter().zip(&group.addresses_at) {
            let here = cluster.links.iter().find(|link| link.peers().any(|(_, peer)| peer == address.address));
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
