//! What is wrong with a link, in words that say where to look. Pure, as all of the heart. It must not change anything.

use super::status::LinkSeen;
use super::view::{Peer, PeerLink, PeerState};
use super::{Cluster, Time};
use crate::config::model::{LinkConfig, LinkId, NodeId};

impl Cluster {
    /// Whole sentences; none where all is well. They hold no age: one that changes by itself would be a new alarm at each look.
    pub(super) fn advice(&self, link: LinkId, seen: &LinkSeen) -> Vec<String> {
        let config = self.config.link(link);
        let name = &config.name;
        if self.view.links.get(&link) != Some(&true) {
            let fault = seen.fault.clone().unwrap_or_else(|| {
                format!("interface {} is missing, without carrier or without its address", config.interface)
            });
            return vec![format!("link {name} is not usable: {fault}")];
        }
        let mut lines = Vec::new();
        if let Some(error) = &seen.send_error {
            lines.push(format!("link {name}: {error}"));
        }
        for (node, peer) in &self.view.peers {
            let Some(on) = peer.links.get(&link) else { continue };
            lines.extend(self.of_peer((link, config), (*node, peer), on, seen));
        }
        lines
    }

    fn of_peer(
        &self,
        (link, config): (LinkId, &LinkConfig),
        (node, peer): (NodeId, &Peer),
        on: &PeerLink,
        seen: &LinkSeen,
    ) -> Option<String> {
        let (name, peer_name) = (&config.name, &self.config.node(node).name);
        let elsewhere = peer.state.heard().then(|| self.hears_on_another(link, peer)).flatten();
        match (on.last_heard, elsewhere) {
            (None, _) if !self.long_ago(self.link_since.get(&link).copied()) => None,
            (None, None) if self.is_recent(on.stranger_at) => Some(format!(
                "heard only on one side: packets of {peer_name} arrive on {name}, but {peer_name} does not hear this \
                 node: is UDP port {} open there (firewall), and are this node's addresses right in its hafailover.toml?",
                config.port
            )),
            (None, Some(other)) => Some(format!(
                "nothing heard of {peer_name} on {name} since start, though it is heard on {other}: {}",
                between(config)
            )),
            (None, None) if peer.state != PeerState::Left => Some(format!(
                "nothing heard of {peer_name} on {name} since start: {}",
                self.suspects(config, peer_name, seen)
            )),
            (Some(_), Some(other)) if on.silent => Some(format!(
                "node {peer_name} is not heard on link {name}, though it is heard on {other}: {}",
                between(config)
            )),
            (Some(_), None) if on.silent && peer.state != PeerState::Left => {
                Some(format!("node {peer_name} is not heard on link {name}"))
            }
            _ => None,
        }
    }

    /// Why nothing at all was ever heard, the likeliest first.
    fn suspects(&self, config: &LinkConfig, peer: &str, seen: &LinkSeen) -> String {
        let counters = &seen.counters;
        if counters.dropped_key > 0 {
            return format!("what arrives has another key: is authkeys the same on {peer}?");
        }
        if counters.dropped_other_cluster > 0 {
            return format!("only packets of other clusters arrive: has {peer} the same [cluster] name?");
        }
        let snooping = if config.kind.may_be_snooped() { SNOOPING } else { "" };
        format!(
            "is UDP port {} open here and there (firewall), and is the daemon on {peer} running?{snooping}",
            config.port
        )
    }

    /// The name of another link on which the peer is heard now.
    fn hears_on_another(&self, link: LinkId, peer: &Peer) -> Option<&str> {
        let others = peer.links.iter().filter(|(other, on)| **other != link && on.last_heard.is_some() && !on.silent);
        others.map(|(other, _)| self.config.link(*other).name.as_str()).next()
    }

    /// A peer that speaks and does not hear: which of its links is deaf it alone knows.
    pub(super) fn one_sided(&self, node: NodeId) -> Option<String> {
        let peer = self.view.peer(node).filter(|peer| peer.state.heard())?;
        let deaf = peer.deaf_for(self.now);
        let name = &self.config.node(node).name;
        (deaf >= self.config.timing.deadtime && self.has_usable_link()).then(|| {
            format!(
                "heard only on one side: node {name} is heard, but does not hear this node: see `hafailoverctl \
                 status` there; is the UDP port of its links open (firewall)?"
            )
        })
    }

    fn has_usable_link(&self) -> bool {
        self.view.links.values().any(|usable| *usable)
    }

    fn is_recent(&self, at: Option<Time>) -> bool {
        at.is_some_and(|at| self.now.since(at) < self.config.timing.deadtime)
    }

    fn long_ago(&self, at: Option<Time>) -> bool {
        at.is_some_and(|at| self.now.since(at) >= self.config.timing.deadtime)
    }
}

const SNOOPING: &str = " Or does a switch between them snoop IGMP or MLD without a querier?";

/// Where to look when one link brings nothing while another does.
fn between(config: &LinkConfig) -> String {
    let snooping = if config.kind.may_be_snooped() { SNOOPING } else { "" };
    format!("look at cable, switch and firewall (UDP port {}) between them.{snooping}", config.port)
}

#[cfg(test)]
mod tests {
    use super::super::status::LinkCounters;
    use super::super::testing::{ALPHA, BETA, LINK, config};
    use super::super::{BootId, Event, Identity, Incarnation, Maintenance, Saved};
    use super::*;
    use crate::config::model::LinkKind;
    use crate::wire::{Echo, Message, NodeFlags, StateMark};
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    const OTHER: LinkId = LinkId(1);

    fn at(millis: u64) -> Time {
        Time(1_000_000_000 + millis * 1_000_000)
    }

    /// A heart whose both links have been usable since the beginning; the first is multicast.
    fn heart() -> Cluster {
        let mut config = config(ALPHA);
        config.links[0].kind = LinkKind::Mcast { group: [239, 0, 0, 75].into(), ttl: 1, loops: false };
        let identity = Identity { incarnation: Incarnation(100), boot: BootId(10) };
        let mut heart = Cluster::new(Arc::new(config), identity, &Saved::default(), &[], at(0));
        heart.begin(at(0));
        for link in [LINK, OTHER] {
            heart.fold(Event::Link { link, usable: true });
        }
        heart.decide(at(0));
        heart
    }

    /// What beta says on a link; `echo` of ours, if it has heard us.
    fn hear(heart: &mut Cluster, link: LinkId, millis: u64, sequence: u64, echo: Option<u64>) {
        let own = heart.config.node(ALPHA).tag;
        let echo = echo.map(|sequence| Echo { node: own, incarnation: Incarnation(100), sequence, holds: 0 });
        heart.begin(at(millis));
        let message = Message {
            cluster_tag: heart.config.cluster_tag,
            sender: heart.config.node(BETA).tag,
            incarnation: Incarnation(200),
            sequence,
            sent_at: 0,
            boot: BootId(20),
            cluster_digest: heart.config.cluster_digest,
            state: StateMark::default(),
            flags: NodeFlags::default(),
            maintenance: Maintenance::default(),
            echoes: echo.into_iter().collect(),
            groups: Vec::new(),
        };
        heart.hear(link, &message);
        heart.decide(at(millis));
    }

    fn advice(heart: &mut Cluster, millis: u64, seen: &LinkSeen) -> Vec<String> {
        heart.begin(at(millis));
        heart.decide(at(millis));
        let status = heart.status_with(&[seen.clone(), LinkSeen::default()]);
        let told = |line: &String| status.attention.contains(line);
        assert!(status.links.iter().flat_map(|link| &link.advice).all(told), "{:?}", status.attention);
        status.links[0].advice.clone()
    }

    fn only(lines: &[String]) -> &str {
        let [line] = lines else { panic!("not one sentence: {lines:?}") };
        line
    }

    #[test]
    fn who_was_never_heard_may_have_a_closed_port_another_key_or_another_name() {
        let mut heart = heart();
        let plain = LinkSeen::default();
        assert_eq!(advice(&mut heart, 200, &plain), [""; 0], "not before the deadtime");
        let line = only(&advice(&mut heart, 400, &plain)).to_owned();
        assert!(line.contains("nothing heard of beta on hb0 since start: is UDP port 694 open"), "{line}");
        assert!(line.contains("is the daemon on beta running?") && line.contains("without a querier"), "{line}");
        let counted = |counters| LinkSeen { counters, ..LinkSeen::default() };
        let key = counted(LinkCounters { dropped_key: 1, ..LinkCounters::default() });
        assert!(only(&advice(&mut heart, 400, &key)).contains("is authkeys the same on beta?"));
        let name = counted(LinkCounters { dropped_other_cluster: 1, ..LinkCounters::default() });
        assert!(only(&advice(&mut heart, 400, &name)).contains("[cluster] name"));
        // The other link is no multicast.
        let other = heart.status().links[1].advice.clone();
        assert!(!only(&other).contains("querier"), "{other:?}");
    }

    #[test]
    fn who_speaks_without_hearing_is_told_from_who_is_silent() {
        let mut heart = heart();
        for beat in 1..=5 {
            hear(&mut heart, LINK, beat * 100, beat, None);
        }
        let line = only(&advice(&mut heart, 550, &LinkSeen::default())).to_owned();
        assert!(line.contains("heard only on one side") && line.contains("beta does not hear this node"), "{line}");
        assert_eq!(heart.status().links[0].peers[0].strangers, 5);

        for beat in 6..=12 {
            hear(&mut heart, LINK, beat * 100, beat, Some(1));
        }
        assert_eq!(advice(&mut heart, 1210, &LinkSeen::default()), [""; 0], "it is heard there");
        let attention = heart.status().attention;
        let deaf = attention.iter().find(|line| line.contains("does not hear this node"));
        assert!(deaf.is_some_and(|line| line.contains("heard only on one side")), "{attention:?}");
    }

    #[test]
    fn one_silent_link_of_two_names_the_other_and_what_may_be_between() {
        let mut heart = heart();
        hear(&mut heart, LINK, 100, 1, Some(1));
        for beat in 2..=6 {
            hear(&mut heart, OTHER, beat * 100, beat, Some(beat));
        }
        let line = only(&advice(&mut heart, 610, &LinkSeen::default())).to_owned();
        assert!(line.starts_with("node beta is not heard on link hb0, though it is heard on hb1"), "{line}");
        assert!(line.contains("without a querier"), "{line}");
    }

    #[test]
    fn the_sentences_stay_as_they_are_while_a_silence_grows() {
        // What is said of nodes and links: nobody carries out what this heart wants with its group.
        let said = |heart: &Cluster| -> Vec<String> {
            heart.status().attention.into_iter().filter(|line| !line.starts_with("group")).collect()
        };
        // Silent on one of two links, and it does not hear this node any more.
        let mut heart = heart();
        hear(&mut heart, LINK, 100, 1, Some(1));
        let mut told = BTreeSet::new();
        for beat in 2..=100 {
            hear(&mut heart, OTHER, beat * 100, beat, Some(1));
            told.extend((beat >= 10).then(|| said(&heart)));
        }
        for part in ["is not heard on link hb0, though it is heard on hb1", "does not hear this node"] {
            assert!(told.iter().flatten().any(|line| line.contains(part)), "{told:#?}");
        }
        assert_eq!(told.len(), 1, "{told:#?}");
        // Silent on both.
        let mut told = BTreeSet::new();
        for beat in 101..=200 {
            heart.begin(at(beat * 100));
            heart.decide(at(beat * 100));
            told.extend((beat >= 110).then(|| said(&heart)));
        }
        assert!(told.iter().flatten().any(|line| line == "node beta is not heard on link hb1"), "{told:#?}");
        assert_eq!(told.len(), 1, "{told:#?}");
    }

    #[test]
    fn faults_and_failed_sending_are_told_as_they_are() {
        let mut heart = heart();
        hear(&mut heart, LINK, 100, 1, Some(1));
        let failing = LinkSeen { send_error: Some("set its MTU".into()), ..LinkSeen::default() };
        assert_eq!(advice(&mut heart, 110, &failing), ["link hb0: set its MTU"]);
        heart.fold(Event::Link { link: LINK, usable: false });
        let fault = LinkSeen { fault: Some("hb0 has no carrier".into()), ..LinkSeen::default() };
        assert_eq!(advice(&mut heart, 120, &fault), ["link hb0 is not usable: hb0 has no carrier"]);
        assert_eq!(heart.status_with(&[fault]).links[0].fault.as_deref(), Some("hb0 has no carrier"));
    }

    #[test]
    fn a_name_that_is_taken_is_told_once_a_minute() {
        let mut heart = heart();
        let mut told = 0;
        for second in 0..130 {
            let own = heart.config.node(ALPHA).tag;
            heart.begin(at(second * 1000));
            let message = Message {
                cluster_tag: heart.config.cluster_tag,
                sender: own,
                incarnation: Incarnation(300),
                sequence: second + 1,
                sent_at: 0,
                boot: BootId(30),
                cluster_digest: 0,
                state: StateMark::default(),
                flags: NodeFlags::default(),
                maintenance: Maintenance::default(),
                echoes: Vec::new(),
                groups: Vec::new(),
            };
            assert_eq!(heart.hear(LINK, &message), super::super::Heard::OwnName);
            let mine = Message { incarnation: Incarnation(100), ..message };
            assert_eq!(heart.hear(LINK, &mine), super::super::Heard::OwnCopy, "no other daemon's");
            let reports = heart.decide(at(second * 1000)).into_iter().filter(|action| {
                matches!(action, super::super::Action::Report(super::super::Change::NameTaken { .. }))
            });
            told += reports.count();
        }
        assert_eq!(told, 3);
        assert!(heart.now.since(at(0)) > Duration::from_secs(120));
    }
}
