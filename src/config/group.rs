//! One group: its merged `[X-HAFailover]` section to a [`GroupConfig`].
//! It must not know other groups.

use super::cluster::Cluster;
use super::digest::{Canonical, group_tag};
use super::local::Local;
use super::model::{Failback, GroupConfig, NodeId, ProofPolicy, VirtualAddress};
use super::problem::{Position, Problem, did_you_mean};
use super::section::{Entry, GroupUnit, SECTION};
use super::unitfile::{Specifiers, Word};
use super::{address, duration, member, name, unbuilt};
use std::path::Path;
use std::time::Duration;

const KEYS: [&str; 9] = [
    "Nodes",
    "Address",
    "Start",
    "Failback",
    "Proof",
    "TakeoverDelaySec",
    "RequireInterface",
    "TimeoutStartSec",
    "TimeoutStopSec",
];
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);

/// What a group is read against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) local: &'a Local,
    pub(super) hostname: &'a str,
}

/// A place in one of a group's files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) file: &'a Path,
    pub(super) at: Position,
}

/// A group as far as it could be read, and where its parts stand, for comparing groups.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) config: GroupConfig,
    pub(super) declared: Place<'a>,
    /// One for each of `config.members`.
    pub(super) members_at: Vec<Place<'a>>,
    /// One for each of `config.addresses`.
    pub(super) addresses_at: Vec<Place<'a>>,
    /// An address is meant, sound or not.
    pub(super) has_address: bool,
}

#[derive(Debug)]
pub(super) struct Reading<'a> {
    unit: &'a GroupUnit,
    context: Context<'a>,
    target: String,
    declared: Place<'a>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(unit: &'a GroupUnit, context: Context<'a>, declared: Place<'a>) -> Reading<'a> {
        Reading { unit, context, target: unit.target(), declared, problems: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn group(&mut self) -> Group<'a> {
        self.problems.extend(self.unit.problems());
        self.check_name();
        self.check_keys();
        let (addresses, addresses_at) = self.addresses().into_iter().unzip();
        let (members, members_at) = self.members().into_iter().unzip();
        self.refuse_later_terms();
        let mut config = GroupConfig {
            name: self.unit.instance.clone(),
            tag: group_tag(&self.unit.instance),
            description: self.description(),
            nodes: self.nodes(),
            interfaces: Vec::new(),
            addresses,
            members,
            failback: self.failback(),
            proof: ProofPolicy::Silence,
            delay: Duration::ZERO,
            timeout_start: self.timeout("TimeoutStartSec"),
            timeout_stop: self.timeout("TimeoutStopSec"),
            digest: 0,
        };
        config.interfaces = self.interfaces(&config.addresses);
        let has_address = !self.unit.list("Address").is_empty();
        if !has_address && self.unit.list("Start").is_empty() {
            let what = "the group has neither an address nor a member";
            self.problem(self.declared, what, "add Address= or Start=, or remove the group's files");
        }
        Group { config, declared: self.declared, members_at, addresses_at, has_address }
    }

    fn problem(&mut self, place: Place<'_>, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(place.file, place.at, what, remedy));
    }

    fn check_name(&mut self) {
        if let Err(what) = name::check_group(&self.unit.instance) {
            self.problem(self.declared, format!("group name: {what}"), "rename the drop-in directory");
        }
    }

    fn check_keys(&mut self) {
        let unit = self.unit;
        for entry in unit.entries(SECTION) {
            let key = entry.assignment.key.as_str();
            if let Some(remedy) = unbuilt::group_key(key) {
                self.problem(key_of(entry), format!("not built yet in this version: {key}="), remedy);
            } else if !KEYS.contains(&key) {
                self.problem(key_of(entry), format!("unknown key {key}= in [{SECTION}]"), did_you_mean(key, &KEYS));
            }
        }
    }

    /// The words of a value with their specifiers expanded.
    fn words(&mut self, entry: Entry<'a>) -> Vec<Word> {
        let words = entry.assignment.value.words().unwrap_or_else(|at| {
            self.problem(
                Place { file: entry.file, at },
                "a quote begins and nothing closes it",
                "close it, or remove it",
            );
            Vec::new()
        });
        words.into_iter().filter_map(|word| self.expanded(entry, word)).collect()
    }

    fn expanded(&mut self, entry: Entry<'a>, word: Word) -> Option<Word> {
        let specifiers = Specifiers { unit: &self.target, hostname: self.context.hostname };
        match specifiers.expand(&word.text) {
            Ok(text) => Some(Word { text, at: word.at }),
            Err(unknown) => {
                let what = format!("unknown specifier {unknown}");
                let remedy = "known here are %i %I %n %N %p %P %j %J %H %l; write %% for a percent sign";
                self.problem(Place { file: entry.file, at: word.at }, what, remedy);
                None
            }
        }
    }

    /// All words of a list, each with its place.
    fn list(&mut self, key: &str) -> Vec<(String, Place<'a>)> {
        let unit = self.unit;
        let mut list = Vec::new();
        for entry in unit.list(key) {
            let words = self.words(entry);
            list.extend(words.into_iter().map(|word| (word.text, Place { file: entry.file, at: word.at })));
        }
        list
    }

    /// The one word of a key that has one.
    fn single(&mut self, key: &str) -> Option<(String, Place<'a>)> {
        let unit = self.unit;
        let entry = unit.last(SECTION, key)?;
        let text = entry.assignment.value.text();
        let word = self.expanded(entry, Word { text, at: entry.assignment.value.at()? })?;
        Some((word.text, Place { file: entry.file, at: word.at }))
    }

    fn description(&mut self) -> String {
        let Some(entry) = self.unit.last("Unit", "Description") else { return String::new() };
        // systemd's own key, and systemd keeps what it cannot expand: no mistake of ours to report.
        let text = entry.assignment.value.text();
        Specifiers { unit: &self.target, hostname: self.context.hostname }.expand(&text).unwrap_or(text)
    }

    fn nodes(&mut self) -> Vec<NodeId> {
        let cluster = self.context.cluster;
        let everyone = cluster.preferred.clone();
        let names = self.list("Nodes");
        if names.is_empty() || cluster.nodes.is_empty() {
            return everyone;
        }
        let known: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
        let mut nodes = Vec::new();
        for (name, place) in &names {
            match cluster.find_node(name) {
                None => self.problem(*place, format!("\"{name}\" is not among the nodes"), did_you_mean(name, &known)),
                Some(node) if nodes.contains(&node) => {
                    self.problem(*place, format!("node \"{name}\" is listed twice"), "remove one of them");
                }
                Some(node) => nodes.push(node),
            }
        }
        if let ([_], Some((_, place))) = (nodes.as_slice(), names.first()) {
            let what = "only one node may own this group: it cannot fail over";
            self.warnings.push(Problem::new(place.file, place.at, what, "list another node, if that is not meant so"));
        }
        nodes
    }

    fn addresses(&mut self) -> Vec<(VirtualAddress, Place<'a>)> {
        let unit = self.unit;
        let mut addresses: Vec<(VirtualAddress, Place<'a>)> = Vec::new();
        for entry in unit.list("Address") {
            let words = self.words(entry);
            let Some(first) = words.first() else { continue };
            let place = Place { file: entry.file, at: first.at };
            match address::parse(&words, self.context.local) {
                Ok(new) if addresses.iter().any(|(old, _)| old.address == new.address) => {
                    self.problem(place, format!("{} is given twice", new.address), "remove one of them");
                }
                Ok(new) => {
                    if let Err(mistake) = address::check_label(&words, &new) {
                        self.problem(Place { file: entry.file, at: mistake.word.at }, mistake.what, mistake.remedy);
                    }
                    addresses.push((new, place));
                }
                Err(mistakes) => {
                    for mistake in mistakes {
                        self.problem(Place { file: entry.file, at: mistake.word.at }, mistake.what, mistake.remedy);
                    }
                }
            }
        }
        addresses
    }

    fn members(&mut self) -> Vec<(String, Place<'a>)> {
        let mut members: Vec<(String, Place<'a>)> = Vec::new();
        for (unit, place) in self.list("Start") {
            if let Err(unfit) = member::kind_of(&unit) {
                self.problem(place, unfit.what, unfit.remedy);
            } else if members.iter().any(|(known, _)| *known == unit) {
                self.problem(place, format!("{unit} is listed twice"), "remove one of them");
            } else {
                members.push((unit, place));
            }
        }
        self.warn_of_triggered(&members);
        members
    }

    /// What a member triggers is stopped with the group, but only members are watched.
    fn warn_of_triggered(&mut self, members: &[(String, Place<'a>)]) {
        for (unit, place) in members {
            let Some(triggered) = member::triggers(unit) else { continue };
            if !members.iter().any(|(member, _)| *member == triggered) {
                let what = format!(
                    "{unit} triggers {triggered}, which does not stand in Start=: it is stopped with the group, but its \
                     failure moves nothing; a unit of another name that {unit} triggers can even be started without it"
                );
                let remedy = format!(
                    "add what it triggers to Start=, after {unit}, unless it is meant to come and go by itself"
                );
                self.warnings.push(Problem::new(place.file, place.at, what, remedy));
            }
        }
    }

    /// `0` and `1` are systemd's words for no and yes, not times.
    fn failback(&mut self) -> Failback {
        let Some((text, place)) = self.single("Failback") else { return Failback::No };
        match text.to_lowercase().as_str() {
            "1" | "yes" | "y" | "true" | "t" | "on" => return Failback::Yes,
            "0" | "no" | "n" | "false" | "f" | "off" => return Failback::No,
            _ => {}
        }
        match duration::parse(&text) {
            Ok(Duration::ZERO) => Failback::Yes,
            Ok(time) => Failback::After(time),
            Err(_) => {
                let what = format!("\"{text}\" is neither yes nor no, nor a time");
                self.problem(place, what, "write yes, no, or a time such as 5min");
                Failback::No
            }
        }
    }

    /// Terms of a takeover that have their place in a group already and that this version does not build.
    fn refuse_later_terms(&mut self) {
        if let Some((proof, place)) = self.single("Proof").filter(|(proof, _)| proof != "silence") {
            if unbuilt::PROOFS.contains(&proof.as_str()) {
                let what = format!("not built yet in this version: Proof={proof}");
                self.problem(place, what, "remove it, or write silence");
            } else {
                self.problem(place, format!("unknown proof \"{proof}\""), did_you_mean(&proof, &unbuilt::PROOFS));
            }
        }
        let Some((delay, place)) = self.single("TakeoverDelaySec") else { return };
        match duration::parse(&delay) {
            Ok(Duration::ZERO) => {}
            Ok(_) => {
                let what = "not built yet in this version: a delay between alarm and takeover";
                self.problem(place, what, "remove it, or write 0");
            }
            Err(what) => self.problem(place, what, "remove it, or write 0"),
        }
    }

    fn timeout(&mut self, key: &str) -> Duration {
        let Some((text, place)) = self.single(key) else { return DEFAULT_TIMEOUT };
        let remedy = "write a time such as 90 or 1min 30s";
        match duration::parse(&text) {
            Ok(time) if !time.is_zero() => return time,
            Ok(_) => self.problem(place, format!("{key}= is zero"), remedy),
            Err(_) if text == "infinity" => {
                self.problem(place, format!("{key}=infinity: a takeover could wait for ever"), remedy);
            }
            Err(what) => self.problem(place, what, remedy),
        }
        DEFAULT_TIMEOUT
    }

    /// Those of the addresses first, then what `RequireInterface=` adds.
    fn interfaces(&mut self, addresses: &[VirtualAddress]) -> Vec<String> {
        let mut interfaces: Vec<String> = Vec::new();
        let mut add = |interface: String| {
            if !interfaces.contains(&interface) {
                interfaces.push(interface);
            }
        };
        addresses.iter().filter_map(|address| address.interface.clone()).for_each(&mut add);
        for (interface, place) in self.list("RequireInterface") {
            match name::check_interface(&interface) {
                Ok(()) => add(self.context.local.interface(&interface)),
                Err(what) => self.problem(place, what, "write the interface as `ip link` names it"),
            }
        }
        interfaces
    }
}

/// Where the key of an assignment stands.
fn key_of(entry: Entry<'_>) -> Place<'_> {
    Place { file: entry.file, at: entry.assignment.at }
}

/// Over what a group means on any host. The description is for people, and changes nothing that runs.
pub(super) fn digest(group: &GroupConfig, cluster: &Cluster) -> u32 {
    let mut canonical = Canonical::default();
    canonical.line("group", &group.name);
    for node in &group.nodes {
        canonical.line("node", &cluster.nodes[usize::from(node.0)].name);
    }
    for VirtualAddress { address, prefix, interface, label, broadcast } in &group.addresses {
        let label = label.as_deref().unwrap_or("-");
        let interface = interface.as_deref().unwrap_or("-");
        let broadcast = broadcast.map_or("-".to_owned(), |broadcast| broadcast.to_string());
        canonical.line("address", format_args!("{address}/{prefix} {interface} {label} {broadcast}"));
    }
    for unit in &group.members {
        canonical.line("start", unit);
    }
    for interface in &group.interfaces {
        canonical.line("interface", interface);
    }
    let ProofPolicy::Silence = group.proof;
    canonical.line("proof", "silence");
    match group.failback {
        Failback::No => canonical.line("failback", false),
        Failback::Yes => canonical.line("failback", true),
        Failback::After(time) => canonical.line("failback", time.as_nanos()),
    }
    for (key, time) in [("delay", group.delay), ("start", group.timeout_start), ("stop", group.timeout_stop)] {
        canonical.line(key, time.as_nanos());
    }
    canonical.digest()
}
