//! The heart's answer to "what is going on, and why": [`Status`] and the one line for `STATUS=`.
//! It must not change anything.

use super::grant::{Grant, Order, Record};
use super::group::{Phase, StartStep};
use super::placement::Fitness;
use super::status::{GroupStatus, LinkPeerStatus, LinkSeen, LinkStatus, NodeStatus, SCHEMA, Status};
use super::takeover::{Gate, Proof};
use super::view::{Peer, PeerState};
use super::{Cluster, Time};
use crate::config::model::{GroupId, LinkId, NodeId};
use crate::wire::Role;

impl Cluster {
    /// What this node keeps of a group (rule 1).
    pub fn record(&self, id: GroupId) -> Option<Record> {
        self.group(id).record
    }

    /// What this node does with a group.
    pub fn role(&self, id: GroupId) -> Role {
        self.group(id).role()
    }

    /// The grant under which this node starts or runs a group.
    pub fn claims(&self, id: GroupId) -> Option<Grant> {
        self.group(id).claim()
    }

    pub fn banned(&self, id: GroupId) -> bool {
        self.group(id).banned.is_some()
    }

    /// The operator's last word on a group, as far as this node knows.
    pub fn operator_order(&self, id: GroupId) -> Order {
        self.group(id).order
    }

    /// Which peers are in standby, a bit each: a peer's word that nothing else follows from.
    pub fn peers_in_standby(&self) -> u64 {
        let peers = self.view.peers.iter().filter(|(_, peer)| peer.standby);
        peers.fold(0, |bits, (node, _)| bits | 1u64.wrapping_shl(u32::from(node.0)))
    }

    pub fn has_joined(&self) -> bool {
        self.joined
    }

    /// Nothing that the files say waits to run.
    pub fn runs_by_its_files(&self) -> bool {
        self.config.group_ids().all(|id| self.pending(id).is_none())
    }

    /// An operator's word keeps groups from this node, or leaves the cluster alone.
    pub fn in_standby(&self) -> bool {
        self.standby.on
    }

    pub fn in_maintenance(&self) -> bool {
        self.maintenance.on
    }

    pub fn status(&self) -> Status {
        self.status_with(&[])
    }

    /// With what was counted on each link.
    pub fn status_with(&self, seen: &[LinkSeen]) -> Status {
        let config = &self.config;
        let seen = |link: LinkId| seen.get(usize::from(link.0)).cloned().unwrap_or_default();
        let links: Vec<LinkStatus> = config.link_ids().map(|link| self.link_status(link, seen(link))).collect();
        Status {
            schema: SCHEMA,
            cluster: config.cluster.clone(),
            node: config.node(config.me).name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            state: self.node_state().into(),
            nodes: config.node_ids().map(|node| self.node_status(node)).collect(),
            groups: config.live_groups().map(|group| self.group_status(group)).collect(),
            maintenance: self.maintenance.on,
            attention: self.attention(&links),
            rollout: self.rollout_status(),
            links,
        }
    }

    /// Who owns what, in one line.
    pub fn headline(&self) -> String {
        let groups = self.config.live_groups().map(|id| {
            let name = &self.config.group(id).name;
            match self.owner(id) {
                Some(owner) => format!("{name} on {}", self.config.node(owner).name),
                None if self.group(id).order.stopped => format!("{name} stopped by an operator"),
                None => format!("{name} nowhere"),
            }
        });
        let groups: Vec<String> = groups.collect();
        let groups = if groups.is_empty() { "no groups".into() } else { groups.join(", ") };
        let silent: Vec<&str> = self
            .view
            .peers
            .iter()
            .filter(|(_, peer)| !peer.state.heard())
            .map(|(node, _)| self.config.node(*node).name.as_str())
            .collect();
        let peers = if silent.is_empty() { String::new() } else { format!("; not heard: {}", silent.join(", ")) };
        let maintenance = if self.maintenance.on { "maintenance; " } else { "" };
        let standby = if self.standby.on { ", in standby" } else { "" };
        format!("{maintenance}{}{standby}: {groups}{peers}", self.node_state())
    }

    fn node_state(&self) -> &'static str {
        match (self.leaving || self.host_stopping, self.joined) {
            (true, _) => "leaving",
            (false, true) => "joined",
            (false, false) => "joining",
        }
    }

    fn node_status(&self, node: NodeId) -> NodeStatus {
        let name = self.config.node(node).name.clone();
        let Some(peer) = self.view.peer(node) else {
            return NodeStatus {
                name,
                me: true,
                state: "alive".into(),
                heard_ms_ago: None,
                configuration_agrees: None,
                standby: self.standby.on,
            };
        };
        NodeStatus {
            name,
            me: false,
            state: peer_state(peer).into(),
            heard_ms_ago: (peer.state != PeerState::Unheard).then(|| self.millis_since(peer.last_heard)),
            configuration_agrees: peer.agrees.map(|(cluster, groups)| cluster && groups),
            standby: peer.standby,
        }
    }

    fn link_status(&self, link: LinkId, seen: LinkSeen) -> LinkStatus {
        let config = self.config.link(link);
        let peers = self.view.peers.iter().filter_map(|(node, peer)| {
            let on = peer.links.get(&link)?;
            Some(LinkPeerStatus {
                node: self.config.node(*node).name.clone(),
                heard: on.last_heard.is_some() && !on.silent,
                heard_ms_ago: on.last_heard.map(|at| self.millis_since(at)),
                received: on.received,
                duplicates: on.duplicates,
                lost: on.lost,
                strangers: on.strangers,
            })
        });
        let usable = self.view.links.get(&link).copied().unwrap_or(false);
        LinkStatus {
            name: config.name.clone(),
            interface: config.interface.clone(),
            usable,
            peers: peers.collect(),
            kind: config.kind.name().into(),
            port: config.port,
            advice: self.advice(link, &seen),
            counters: seen.counters,
            fault: seen.fault.filter(|_| !usable),
            send_error: seen.send_error,
        }
    }

    fn group_status(&self, id: GroupId) -> GroupStatus {
        let config = self.config.group(id);
        let group = self.group(id);
        let state = match &group.phase {
            Phase::Starting { .. } => "starting",
            Phase::Running { .. } => "running",
            Phase::Stopping(stopping) if stopping.failures == 0 => "stopping",
            _ if group.blocked.is_some() => "blocked",
            Phase::Unknown { held: Some(_), .. } => "unknown",
            _ if group.order.stopped => "stopped",
            _ if group.banned.is_some() => "banned",
            Phase::Stopping(_) => "stopping",
            Phase::Unknown { .. } | Phase::Idle => "inactive",
        };
        let addresses = config.addresses.iter().enumerate().map(|(index, vip)| {
            let dev = self.dev(id, index).map_or(String::new(), |dev| format!(" dev {dev}"));
            format!("{}/{}{dev}", vip.address, vip.prefix)
        });
        let reasons = self.reasons(id);
        GroupStatus {
            name: config.name.clone(),
            owner: self.owner(id).map(|owner| self.config.node(owner).name.clone()),
            epoch: group.record.map_or(0, |record| record.grant.epoch.0),
            state: state.into(),
            why: reasons.last().cloned().unwrap_or_default(),
            reasons,
            addresses: addresses.collect(),
            members: config.members.clone(),
            banned: group.banned.clone(),
            stopped_by_operator: group.order.stopped,
            parked: self.parked(id),
        }
    }

    /// From what is known to what follows; the last one is the conclusion.
    fn reasons(&self, id: GroupId) -> Vec<String> {
        let config = self.config.group(id);
        let group = self.group(id);
        let name = |node: NodeId| self.config.node(node).name.clone();
        let order: Vec<String> = config.nodes.iter().map(|node| name(*node)).collect();
        let mut reasons = vec![format!("may run on {}, preferred first", order.join(", "))];
        if let Some(record) = group.record {
            let (epoch, node) = (record.grant.epoch.0, name(record.grant.node));
            reasons.push(match (record.released, record.heir) {
                (false, _) => format!("epoch {epoch} belongs to {node}"),
                (true, None) => format!("epoch {epoch} of {node} is released; {node} keeps it"),
                (true, Some(heir)) => format!("epoch {epoch} of {node} is released and was given to {}", name(heir)),
            });
        }
        for node in &config.nodes {
            let unheard = self.view.peer(*node).is_some_and(|peer| !peer.state.heard());
            let fitness = match self.fitness(id, *node) {
                _ if unheard => "is not heard",
                Fitness::Good => "can run it",
                Fitness::Poor => "cannot run it now",
                Fitness::Never => "must not run it",
            };
            let state = self.view.peer(*node).map_or("this node", peer_state);
            let own = (*node == self.config.me).then(|| self.never_reason(id).or_else(|| self.unfit_reason(id)));
            let own = own.flatten().map_or(String::new(), |reason| format!(": {reason}"));
            reasons.push(format!("{} ({state}) {fitness}{own}", name(*node)));
        }
        reasons.extend(self.cause(id));
        reasons.extend(self.return_in_words(id));
        if self.maintenance.on {
            reasons.push("maintenance is on: nothing is started, moved, stopped or repaired".into());
        }
        reasons.extend(self.pending_reasons(id));
        reasons.push(self.conclusion(id));
        reasons
    }

    /// Why this node has what it runs.
    fn cause(&self, id: GroupId) -> Option<String> {
        let group = self.group(id);
        group.claim()?;
        let me = &self.config.node(self.config.me).name;
        let Some((proof, from)) = group.because else {
            return Some(format!("{me} has run it since before this daemon started"));
        };
        let heard = from.and_then(|from| self.view.peer(from)).is_some_and(|peer| {
            // Without a break since before that start: it was deaf, not silent.
            peer.state.heard() && peer.heard_since < group.started
        });
        let from = from.map_or("its owner", |from| &self.config.node(from).name);
        let asked = match self.config.group(id).addresses.is_empty() {
            true => "",
            false => ", and nobody answered for the addresses",
        };
        let cause = match proof {
            Proof::Fresh => "it had no owner".into(),
            Proof::Release => format!("{from} had released it"),
            Proof::Silence if heard => {
                format!("{from} had released it, is banned from it, and had not heard {me} for the deadtime{asked}")
            }
            Proof::Silence => format!("{from} had been silent for the deadtime on all links{asked}"),
        };
        Some(format!("{me} started it {} s ago: {cause}", self.now.since(group.started).as_secs()))
    }

    fn conclusion(&self, id: GroupId) -> String {
        let group = self.group(id);
        let me = &self.config.node(self.config.me).name;
        if let Some(reason) = &group.blocked {
            return format!("blocked: {reason}");
        }
        if let Phase::Starting { grant, step: StartStep::Hold, .. } = group.phase
            && let Some(reason) = self.not_shown(id, &grant)
        {
            return format!("{me} is starting it, and waits: {reason}");
        }
        if let Some(owner) = self.owner(id) {
            let owner = &self.config.node(owner).name;
            let rivals = group.rivals.iter().map(|rival| format!("; {} claims it too", self.config.node(*rival).name));
            return format!("{owner} owns it{}", rivals.collect::<String>());
        }
        if group.order.stopped {
            let name = &self.config.group(id).name;
            return format!("stopped by an operator; start it with: hafailoverctl start {name}");
        }
        match (&group.phase, group.desired) {
            (Phase::Stopping(_), _) => format!("{me} is stopping it"),
            (_, Some(node)) if node != self.config.me => {
                format!("{} should start it", self.config.node(node).name)
            }
            (Phase::Idle, Some(_)) => match self.gate(id) {
                Gate::Start(_) => format!("{me} is about to start it"),
                Gate::Wait(reason) => format!("{me} would start it, but {reason}"),
                Gate::Blocked(reason) => format!("blocked: {reason}"),
            },
            _ => "nobody can run it now".into(),
        }
    }

    fn attention(&self, links: &[LinkStatus]) -> Vec<String> {
        let mut lines = self.words_in_words();
        for (node, peer) in &self.view.peers {
            let name = &self.config.node(*node).name;
            match peer.state {
                PeerState::Unheard => lines.push(format!("node {name} was never heard since this daemon started")),
                PeerState::Lost => lines.push(format!("node {name} is not heard")),
                PeerState::Left => lines.push(format!("node {name} has left")),
                PeerState::Late => lines.push(format!("node {name} is late")),
                PeerState::Alive => {}
            }
            if let Some((cluster, groups)) = peer.agrees.filter(|agrees| *agrees != (true, true)) {
                let what = match (cluster, groups) {
                    (false, false) => "hafailover.toml and the groups' files differ",
                    (false, true) => "hafailover.toml differs",
                    _ => "the groups' files differ",
                };
                lines.push(format!("node {name} has other files: {what}"));
            }
            lines.extend(self.one_sided(*node));
        }
        lines.extend(links.iter().flat_map(|link| link.advice.iter().cloned()));
        if let Some(what) = &self.pending {
            lines.push(format!("configuration on disk differs from the running one: {what}"));
        }
        lines.extend(self.pending_lines());
        if !self.host_answers {
            lines.push("the part of the daemon that speaks to systemd does not answer".into());
        }
        for group in self.config.live_groups().map(|id| self.group(id)) {
            let name = &self.config.group(group.id).name;
            let owner = self.owner(group.id);
            if let Some(reason) = &group.blocked {
                lines.push(format!("group {name} is blocked: {reason}"));
            } else if owner.is_none() && !group.order.stopped && self.joined {
                lines.push(format!("group {name} runs nowhere that this node can hear"));
            } else if let Some(fault) = group.guard.as_ref().filter(|_| self.joined) {
                lines.push(format!("group {name} could not be taken by this node: {fault}"));
            }
            if let Some(reason) = &group.banned {
                lines.push(format!("group {name} is banned here: {reason}; then: hafailoverctl clear {name}"));
            }
            lines.extend(self.told_in_words(group.id));
            lines.extend(self.claimed_in_words(group.id));
            for rival in &group.rivals {
                lines.push(format!("group {name} is claimed by {} too", self.config.node(*rival).name));
            }
        }
        lines
    }

    /// Operators' words that hold on, lest they are forgotten.
    fn words_in_words(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.maintenance.on {
            let end = "hafailoverctl maintenance off";
            lines
                .push(format!("maintenance is on: nothing is started, moved, stopped or repaired; to end that: {end}"));
        }
        let peers =
            self.view.peers.iter().filter(|(_, peer)| peer.state.heard() && peer.standby).map(|(node, _)| *node);
        for node in self.standby.on.then_some(self.config.me).into_iter().chain(peers) {
            let name = &self.config.node(node).name;
            lines.push(format!(
                "node {name} is in standby: it starts nothing; to end that, there: hafailoverctl online"
            ));
        }
        lines
    }

    /// The node on which a group is known to be up.
    pub(super) fn runs_on(&self, id: GroupId) -> Option<NodeId> {
        if matches!(self.group(id).phase, Phase::Running { .. }) {
            return Some(self.config.me);
        }
        let owner = self.owner(id)?;
        let says = self.view.says(owner, id)?;
        (says.role == Role::Running).then_some(owner)
    }

    pub(super) fn stopping_elsewhere(&self, id: GroupId) -> bool {
        let heard = self.view.peers.iter().filter(|(_, peer)| peer.state.heard());
        heard.into_iter().any(|(node, _)| self.view.says(*node, id).is_some_and(|says| says.role != Role::Idle))
    }

    fn millis_since(&self, at: Time) -> f64 {
        self.now.since(at).as_secs_f64() * 1e3
    }
}

fn peer_state(peer: &Peer) -> &'static str {
    match peer.state {
        PeerState::Unheard => "unheard",
        PeerState::Alive => "alive",
        PeerState::Late => "late",
        PeerState::Lost => "lost",
        PeerState::Left => "left",
    }
}
