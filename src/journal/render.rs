//! PURE. What each change says in the journal: level, text, fields, and a MESSAGE_ID of its own to search for.
//! Texts are read at three in the morning: they name the thing, what happened and what it means.

use crate::cluster::takeover::Proof;
use crate::cluster::{Change, Epoch};
use crate::config::model::{Config, GroupId, LinkId, NodeId};
use std::time::Duration;

/// As syslog has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warning,
    Notice,
    Info,
    Debug,
}

impl Level {
    pub fn priority(self) -> u8 {
        match self {
            Level::Error => 3,
            Level::Warning => 4,
            Level::Notice => 5,
            Level::Info => 6,
            Level::Debug => 7,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub level: Level,
    pub message_id: Option<u128>,
    pub text: String,
    pub fields: Fields,
}

/// Written as `HAFAILOVER_GROUP=` and so on.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Fields {
    pub group: Option<String>,
    pub node: Option<String>,
    pub peer: Option<String>,
    pub link: Option<String>,
    pub reason: Option<String>,
    pub proof: Option<&'static str>,
    pub epoch: Option<u32>,
}

/// All our MESSAGE_IDs begin alike; the last two bytes tell the change. Once given, never another meaning.
const MESSAGE_IDS: u128 = 0x6f1d_83c2_4b0e_4d55_9a7c_41e8_2d30_0000;
const LOST_ENTRIES: u16 = 0xffff;

impl Entry {
    pub(super) fn note(level: Level, text: String) -> Entry {
        Entry { level, message_id: None, text, fields: Fields::default() }
    }

    pub(super) fn lost(count: u64) -> Entry {
        let text = format!("{count} journal entries were lost: the journal did not take them in time");
        Entry { message_id: Some(MESSAGE_IDS | u128::from(LOST_ENTRIES)), ..Entry::note(Level::Warning, text) }
    }

    fn new(level: Level, number: u16, text: String) -> Entry {
        Entry { message_id: Some(MESSAGE_IDS | u128::from(number)), ..Entry::note(level, text) }
    }

    fn group(mut self, config: &Config, group: GroupId) -> Entry {
        self.fields.group = Some(config.group(group).name.clone());
        self
    }

    fn node(mut self, config: &Config, node: NodeId) -> Entry {
        self.fields.node = Some(config.node(node).name.clone());
        self
    }

    fn peer(mut self, config: &Config, node: NodeId) -> Entry {
        self.fields.peer = Some(config.node(node).name.clone());
        self
    }

    fn link(mut self, config: &Config, link: LinkId) -> Entry {
        self.fields.link = Some(config.link(link).name.clone());
        self
    }

    fn reason(mut self, reason: &str) -> Entry {
        self.fields.reason = Some(reason.to_owned());
        self
    }

    fn epoch(mut self, epoch: Epoch) -> Entry {
        self.fields.epoch = Some(epoch.0);
        self
    }

    fn proof(mut self, proof: Proof) -> Entry {
        self.fields.proof = Some(proof_name(proof));
        self
    }
}

fn proof_name(proof: Proof) -> &'static str {
    match proof {
        Proof::Fresh => "fresh",
        Proof::Release => "release",
        Proof::Silence => "silence",
    }
}

/// `1.234 s` or `87 ms`: what fits the eye.
fn span(time: Duration) -> String {
    if time >= Duration::from_secs(1) {
        format!("{:.3} s", time.as_secs_f64())
    } else {
        format!("{:.1} ms", time.as_secs_f64() * 1000.0)
    }
}

pub fn render(change: &Change, config: &Config) -> Entry {
    None.or_else(|| of_node(change, config))
        .or_else(|| of_this_node(change, config))
        .or_else(|| of_link(change, config))
        .or_else(|| of_group(change, config))
        .or_else(|| of_trouble(change, config))
        .or_else(|| of_words(change, config))
        // Never reached while the test that goes through all changes passes; a plain entry beats a dead daemon.
        .unwrap_or_else(|| Entry::note(Level::Notice, format!("{change:?}")))
}

/// What is seen of other nodes.
fn of_node(change: &Change, config: &Config) -> Option<Entry> {
    use Level::{Error, Notice, Warning};
    let name = |node: &NodeId| config.node(*node).name.as_str();
    let entry = |level, number, node: &NodeId, text: String| {
        Some(Entry::new(level, number, format!("node {}: {text}", name(node))).peer(config, *node))
    };
    match change {
        Change::NodeJoined { node } => entry(Notice, 1, node, "is up: heard for the first time".into()),
        Change::NodeLate { node, interval } => {
            entry(Warning, 2, node, format!("late heartbeat: nothing heard for {}", span(*interval)))
        }
        Change::NodeLateOver { node, interval } => {
            entry(Notice, 3, node, format!("heard again after an interval of {}", span(*interval)))
        }
        Change::NodeLost { node, silence } => {
            entry(Error, 4, node, format!("is dead: nothing heard on any link for {}", span(*silence)))
        }
        Change::NodeReturned { node, silence, restarted: true } => entry(
            Notice,
            5,
            node,
            format!("is up again: its daemon was restarted, {} after we last heard it", span(*silence)),
        ),
        Change::NodeReturned { node, silence, restarted: false } => {
            let text = "is back: it was not dead, only unheard for";
            entry(Warning, 5, node, format!("{text} {} (network, pause or overload)", span(*silence)))
        }
        Change::NodeLeft { node } => entry(Notice, 6, node, "left: it was stopped in good order".into()),
        Change::NameTaken { node } => {
            let text =
                "another daemon uses this node's name: two hosts have the same name in [cluster] nodes, or a copy runs";
            entry(Error, 7, node, text.into())
        }
        Change::ConfigDiffers { node, cluster, groups } => {
            let what = match (cluster, groups) {
                (true, true) => "hafailover.toml and the groups' files differ",
                (true, false) => "hafailover.toml differs",
                _ => "the groups' files differ",
            };
            entry(Warning, 8, node, format!("{what} from ours: compare `hafailoverctl check` here and there"))
        }
        Change::ConfigAgrees { node } => entry(Notice, 9, node, "has the same files as we".into()),
        _ => None,
    }
}

/// What happens to this node as a whole.
fn of_this_node(change: &Change, config: &Config) -> Option<Entry> {
    use Level::{Error, Notice, Warning};
    let entry = |level, number, text: &str| Some(Entry::new(level, number, text.to_owned()).node(config, config.me));
    match change {
        Change::Joined { alone: true } => {
            let text =
                format!("joined although not every node was heard for {} (initdead)", span(config.timing.initdead));
            entry(Warning, 20, &text)
        }
        Change::Joined { alone: false } => entry(Notice, 20, "joined: every node was heard"),
        Change::Slept { gap } => {
            let text = format!("this node stood still for {}: paused, suspended or overloaded", span(*gap));
            entry(Error, 21, &text)
        }
        Change::ConfigPending { what } => {
            let text = format!("the configuration on disk differs from the running one: {what}");
            entry(Notice, 22, &text).map(|entry| entry.reason(what))
        }
        Change::ConfigSettled => entry(Notice, 23, "the configuration on disk is the running one again"),
        Change::HostThreadStuck => entry(
            Error,
            24,
            "the part of the daemon that speaks to systemd does not answer: units cannot be started or stopped",
        ),
        Change::HostThreadBack => entry(Notice, 25, "the part of the daemon that speaks to systemd answers again"),
        Change::HostStopping => entry(Notice, 26, "this host is going down: its groups are handed over"),
        Change::Leaving => entry(Notice, 27, "leaving: groups that run here are handed over"),
        _ => None,
    }
}

fn of_link(change: &Change, config: &Config) -> Option<Entry> {
    use Level::{Error, Notice, Warning};
    let link_name = |link: &LinkId| config.link(*link).name.as_str();
    let node_name = |node: &NodeId| config.node(*node).name.as_str();
    let entry = match change {
        Change::LinkUsable { link } => {
            Entry::new(Notice, 40, format!("link {}: usable", link_name(link))).link(config, *link)
        }
        Change::LinkUnusable { link } => {
            let text = format!("link {}: unusable (no carrier, no address, or no interface)", link_name(link));
            Entry::new(Error, 41, text).link(config, *link)
        }
        Change::LinkSilent { link, peer, silence } => {
            let text =
                format!("link {}: {} is not heard, silent for {}", link_name(link), node_name(peer), span(*silence));
            Entry::new(Warning, 42, text).link(config, *link).peer(config, *peer)
        }
        Change::LinkHeard { link, peer, silence } => {
            let text = format!("link {}: {} heard again after {}", link_name(link), node_name(peer), span(*silence));
            Entry::new(Notice, 43, text).link(config, *link).peer(config, *peer)
        }
        Change::InterfaceDown { interface } => {
            Entry::new(Error, 44, format!("interface {interface}: no carrier; groups that need it cannot run here"))
        }
        Change::InterfaceUp { interface } => Entry::new(Notice, 45, format!("interface {interface}: carrier is back")),
        _ => return None,
    };
    Some(entry)
}

/// The way of a group: its starts, stops and owners.
fn of_group(change: &Change, config: &Config) -> Option<Entry> {
    use Level::{Notice, Warning};
    let entry = |level, number, group: &GroupId, text: String| {
        Entry::new(level, number, format!("group {}: {text}", config.group(*group).name)).group(config, *group)
    };
    let entry = match change {
        Change::GroupStarting { group, epoch, from, proof } => {
            let text = starting(from.map(|node| config.node(node).name.as_str()), *proof);
            let entry = entry(Notice, 60, group, text).epoch(*epoch).proof(*proof).node(config, config.me);
            match from {
                Some(node) => entry.peer(config, *node),
                None => entry,
            }
        }
        Change::GroupRunning { group, epoch, took } => {
            entry(Notice, 61, group, format!("running here, started in {}", span(*took))).epoch(*epoch)
        }
        Change::GroupAdopted { group, epoch } => {
            let text = "runs here already, since before this daemon started: kept as it is";
            entry(Notice, 62, group, text.into()).epoch(*epoch)
        }
        Change::GroupStopping { group, epoch, reason } => {
            entry(Notice, 63, group, format!("stopping here: {reason}")).epoch(*epoch).reason(reason)
        }
        Change::GroupReleased { group, epoch, took } => {
            let text = format!("released: every member and address is confirmed gone, after {}", span(*took));
            entry(Notice, 64, group, text).epoch(*epoch)
        }
        Change::GroupCleared { group } => entry(Notice, 65, group, "cleared: may run here again".into()),
        Change::GroupUnblocked { group } => entry(Notice, 66, group, "no longer blocked".into()),
        Change::OrderStop { group } => {
            entry(Notice, 67, group, "stopped by an operator, until `hafailoverctl start`".into())
        }
        Change::OrderStart { group } => entry(Notice, 68, group, "may run, said an operator".into()),
        Change::AddressRepaired { group, index } => {
            let text = format!("address {} was removed by somebody else: put back", address(config, *group, *index));
            entry(Warning, 69, group, text)
        }
        Change::AddressesReturned { group, count } => {
            let text = format!("{count} IPv6 addresses put back: their interface had been switched off");
            entry(Notice, 79, group, text)
        }
        Change::GroupRenewed { group, epoch, peer } => {
            let text = format!(
                "{} once owned it under a higher epoch and runs nothing of it now: goes on here under a new one",
                config.node(*peer).name
            );
            entry(Notice, 71, group, text).peer(config, *peer).epoch(*epoch)
        }
        Change::GroupPending { group } => entry(
            Notice,
            90,
            group,
            "its files have changed; they take effect when all nodes that are heard read the same".into(),
        ),
        Change::GroupConfigured { group } => entry(Notice, 91, group, "runs by its changed files from here on".into()),
        Change::GroupDropped { group } => {
            entry(Notice, 92, group, "is gone from all files, and stopped: forgotten".into())
        }
        Change::GuardBack { group } => entry(Notice, 70, group, "guarded again: may run here".into()),
        _ => return None,
    };
    Some(entry)
}

fn starting(from: Option<&str>, proof: Proof) -> String {
    match (proof, from) {
        (Proof::Fresh, _) => "starting here: it had no owner".into(),
        (Proof::Release, Some(from)) => format!("starting here: {from} released it"),
        (Proof::Release, None) => "starting here: it was released".into(),
        (Proof::Silence, Some(from)) => format!("taking over from {from}, which is silent"),
        (Proof::Silence, None) => "taking over from a silent owner".into(),
    }
}

fn address(config: &Config, group: GroupId, index: usize) -> String {
    let address = config.group(group).addresses.get(index);
    address.map_or_else(String::new, |address| address.address.to_string())
}

/// What goes wrong with a group.
fn of_trouble(change: &Change, config: &Config) -> Option<Entry> {
    use Level::{Error, Notice, Warning};
    let entry = |level, number, group: &GroupId, text: String| {
        Entry::new(level, number, format!("group {}: {text}", config.group(*group).name)).group(config, *group)
    };
    let entry = match change {
        Change::GroupStartFailed { group, reason } => {
            entry(Error, 80, group, format!("start failed here: {reason}")).reason(reason)
        }
        Change::GroupBanned { group, reason } => {
            let name = &config.group(*group).name;
            let text = format!("not tried here again until `hafailoverctl clear {name}`: {reason}");
            entry(Error, 81, group, text).reason(reason)
        }
        Change::GroupBlocked { group, reason } => entry(Error, 82, group, format!("blocked: {reason}")).reason(reason),
        Change::StopUnconfirmed { group, reason } => {
            let text = format!("its stop is not confirmed, so it is not released: {reason}");
            entry(Error, 83, group, text).reason(reason)
        }
        Change::TwoOwners { group, peer, mine, theirs, keep } => {
            let verdict = if *keep { "it has to stop, we keep it" } else { "we stop it" };
            let text = format!(
                "TWO OWNERS: {} runs it too ({}, ours {}): {verdict}",
                config.node(*peer).name,
                theirs.map_or("stopping already".into(), |theirs| format!("its epoch {}", theirs.0)),
                mine.0
            );
            entry(Error, 84, group, text).peer(config, *peer).epoch(*mine)
        }
        Change::TwoOwnersOver { group, peer } => {
            let text = format!("one owner again: settled with {}", config.node(*peer).name);
            entry(Notice, 85, group, text).peer(config, *peer)
        }
        Change::MemberDown { group, unit, reason } => {
            entry(Error, 86, group, format!("member {unit} is down: {reason}")).reason(reason)
        }
        Change::AddressNotRepaired { group, index, reason } => {
            let address = address(config, *group, *index);
            let text = format!("address {address} is gone and cannot be put back: {reason}");
            entry(Error, 88, group, text).reason(reason)
        }
        Change::AddressClaimed { group, index, mac } => {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            let address = address(config, *group, *index);
            let text = format!("another host, {mac}, claims address {address}, which is here");
            entry(Error, 89, group, text).reason(&format!("{mac} claims {address}"))
        }
        Change::GroupNotChanged { group, reason } => {
            let text = format!("its changed files cannot take effect, it goes on as it is: {reason}");
            entry(Error, 93, group, text).reason(reason)
        }
        Change::GuardFault { group, reason } => {
            entry(Warning, 87, group, format!("not guarded, so it cannot run here: {reason}")).reason(reason)
        }
        _ => return None,
    };
    Some(entry)
}

/// What operators said, beyond whether a group may run at all.
fn of_words(change: &Change, config: &Config) -> Option<Entry> {
    use Level::{Notice, Warning};
    let node = |level, number, text: &str| Entry::new(level, number, text.to_owned()).node(config, config.me);
    let name = |node: &NodeId| config.node(*node).name.as_str();
    let entry = match change {
        Change::StandbyStays => {
            node(Notice, 100, "in standby, said an operator: this node owns nothing until `hafailoverctl online`")
        }
        Change::Online => node(Notice, 101, "online again, said an operator: this node may own groups"),
        Change::MaintenanceOn => {
            let text = "maintenance is on, said an operator: nothing is started, moved, stopped or repaired";
            node(Warning, 102, text)
        }
        Change::MaintenanceOff => {
            node(Notice, 103, "maintenance is off, said an operator: what failed meanwhile is looked at anew")
        }
        Change::MoveAsked { group, peer, to } => {
            let text = format!("to be given to {}, said an operator on {}", name(to), name(peer));
            Entry::new(Notice, 104, format!("group {}: {text}", config.group(*group).name))
                .group(config, *group)
                .peer(config, *peer)
        }
        Change::MoveRefused { group, peer, to, reason } => {
            let text = format!("not given to {}, as an operator on {} asked: {reason}", name(to), name(peer));
            Entry::new(Warning, 105, format!("group {}: {text}", config.group(*group).name))
                .group(config, *group)
                .peer(config, *peer)
                .reason(reason)
        }
        _ => return None,
    };
    Some(entry)
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
