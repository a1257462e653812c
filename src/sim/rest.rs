//! How each group stands on each host while the world should rest, and what it should be. It must not know what is unrest.

use super::checkers::settles::{Stand, Wanted};
use super::host::Host;
use super::world::World;
use crate::config::model::{Failback, GroupConfig};
use crate::wire::Role;

impl World {
    /// While the world should rest.
    pub fn look(&mut self) {
        let waiting = self.waiting();
        for group in 0..self.scenario.groups.len() {
            let mut stands: Vec<Stand> = (0..self.scenario.nodes).map(|host| self.stand(host, group)).collect();
            if waiting.contains(&true) {
                stands.iter_mut().for_each(|stand| stand.pending = false);
            }
            let stopped = self.watch.stop_said[group] && !self.scenario.starts && {
                // Of several words the nodes know which was the last one; they must agree.
                stands.iter().any(|stand| !stand.off && stand.order.stopped)
            };
            let meant = self.files.meant[group].as_ref().map(|shape| shape.config(group));
            let (waits, goes) = (waiting[group], meant.is_none());
            let config = if waits { self.runs_by(group) } else { meant };
            let wanted = config.map(|config| Wanted {
                waits,
                goes,
                digest: config.digest,
                failback: config.failback != Failback::No,
                stopped,
                nodes: config.nodes.iter().map(|node| usize::from(node.0)).collect(),
            });
            let result = self.watch.settles.check(self.now, group, &stands, wanted.as_ref());
            self.watch.note(result);
        }
    }

    fn stand(&self, host: usize, group: usize) -> Stand {
        let here = &self.hosts[host];
        let cluster = here.daemon.as_ref().map(|daemon| &daemon.cluster);
        let known = cluster.zip(here.id(group));
        Stand {
            up: cluster.is_some(),
            joined: cluster.is_some_and(|cluster| cluster.has_joined()),
            role: known.map_or(Role::Idle, |(cluster, id)| cluster.role(id)),
            record: known.and_then(|(cluster, id)| cluster.record(id)),
            order: known.map_or_else(Default::default, |(cluster, id)| cluster.operator_order(id)),
            digest: here.digest(group),
            pending: cluster.is_some_and(|cluster| !cluster.runs_by_its_files()),
            owns: here.owns(group),
            whole: here.is_whole(group),
            off: self.scenario.off == Some(host),
        }
    }

    /// Whose files wait for a node that is not heard, as the status says; here for ever. Then those wait, too, that get a part of it.
    fn waiting(&self) -> Vec<bool> {
        let groups = self.scenario.groups.len();
        let Some(off) = self.scenario.off else { return vec![false; groups] };
        let waits: Vec<Vec<String>> = (0..groups).map(|group| self.waits(group)).collect();
        let for_off = |host: &Host| host.config.nodes[off].name.clone();
        let name = self.hosts.first().map(for_off).unwrap_or_default();
        let unheard = |text: &String| text.contains(&name) && text.contains("is not heard");
        let mut waiting: Vec<bool> = waits.iter().map(|waits| waits.iter().any(unheard)).collect();
        for _ in 0..groups {
            let from: Vec<String> =
                (0..groups).filter(|it| waiting[*it]).map(|it| format!("is still in group group{it}")).collect();
            for (group, waits) in waits.iter().enumerate() {
                waiting[group] |= waits.iter().any(|text| from.iter().any(|from| text.contains(from)));
            }
        }
        waiting
    }

    /// What any node says that a group's files wait for.
    fn waits(&self, group: usize) -> Vec<String> {
        let clusters = self.hosts.iter().filter_map(|host| Some(&host.daemon.as_ref()?.cluster));
        let held_up = clusters.filter(|cluster| !cluster.runs_by_its_files());
        let of_it = format!("group{group}");
        held_up
            .flat_map(|cluster| cluster.status().rollout)
            .filter(|rollout| rollout.group == of_it)
            .filter_map(|rollout| rollout.waits)
            .collect()
    }

    /// By what the nodes run a group whose files wait: its owner before the others.
    fn runs_by(&self, group: usize) -> Option<GroupConfig> {
        let by = |host: &Host| Some(host.config.group(host.id(group)?).clone());
        let on = || self.hosts.iter().filter(|host| host.daemon.is_some());
        let owner = on().find(|host| host.owns(group)).and_then(by);
        owner.or_else(|| on().find_map(by))
    }
}
