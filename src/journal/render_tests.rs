//! That every change is rendered: with a text and a MESSAGE_ID of its own, in words that are understood.

use super::*;
use crate::config::model::LinkConfig;
use crate::host::held::tests::config as plain_config;
use std::collections::{BTreeMap, BTreeSet};

fn config() -> Config {
    let mut config = plain_config(&["alpha", "beta"]);
    let link = LinkConfig { interface: "eth7".into(), ..LinkConfig::ucast("hb0", 694, Default::default()) };
    config.links = vec![link];
    config
}

/// One of each. The match in it fails to compile when a change is added: add it to the list, and render it.
fn every_change() -> Vec<Change> {
    let (node, peer, link, group) = (NodeId(1), NodeId(1), LinkId(0), GroupId(1));
    let (epoch, mine, theirs) = (Epoch(7), Epoch(7), Epoch(6));
    let (silence, interval, took, gap) =
        (Duration::from_millis(1204), Duration::from_millis(640), Duration::from_millis(12), Duration::from_secs(3));
    let reason = || "the reason".to_owned();
    let interface = || "eth1".to_owned();
    vec![
        Change::NodeJoined { node },
        Change::NodeLate { node, interval },
        Change::NodeLateOver { node, interval },
        Change::NodeLost { node, silence },
        Change::NodeReturned { node, silence, restarted: true },
        Change::NodeLeft { node },
        Change::NameTaken { node },
        Change::ConfigDiffers { node, cluster: true, groups: false },
        Change::ConfigAgrees { node },
        Change::Joined { alone: true },
        Change::Slept { gap },
        Change::ConfigPending { what: "group web".into() },
        Change::ConfigSettled,
        Change::HostThreadStuck,
        Change::HostThreadBack,
        Change::LinkUsable { link },
        Change::LinkUnusable { link },
        Change::LinkSilent { link, peer, silence },
        Change::LinkHeard { link, peer, silence },
        Change::InterfaceDown { interface: interface() },
        Change::InterfaceUp { interface: interface() },
        Change::GroupStarting { group, epoch, from: Some(node), proof: Proof::Silence },
        Change::GroupRunning { group, epoch, took },
        Change::GroupAdopted { group, epoch },
        Change::GroupStopping { group, epoch, reason: reason() },
        Change::GroupReleased { group, epoch, took },
        Change::GroupStartFailed { group, reason: reason() },
        Change::GroupBanned { group, reason: reason() },
        Change::GroupCleared { group },
        Change::GroupBlocked { group, reason: reason() },
        Change::GroupUnblocked { group },
        Change::StopUnconfirmed { group, reason: reason() },
        Change::TwoOwners { group, peer, mine, theirs: Some(theirs), keep: true },
        Change::TwoOwnersOver { group, peer },
        Change::AddressRepaired { group, index: 0 },
        Change::AddressesReturned { group, count: 2 },
        Change::AddressNotRepaired { group, index: 0, reason: reason() },
        Change::AddressClaimed { group, index: 0, mac: [2, 0, 0, 0, 0, 9] },
        Change::GroupRenewed { group, epoch, peer },
        Change::MemberDown { group, unit: "nginx.service".into(), reason: reason() },
        Change::OrderStop { group },
        Change::OrderStart { group },
        Change::GuardFault { group, reason: reason() },
        Change::GuardBack { group },
        Change::MoveAsked { group, peer, to: NodeId(0) },
        Change::MoveRefused { group, peer, to: NodeId(0), reason: reason() },
        Change::StandbyStays,
        Change::Online,
        Change::MaintenanceOn,
        Change::MaintenanceOff,
        Change::HostStopping,
        Change::Leaving,
        Change::GroupPending { group },
        Change::GroupConfigured { group },
        Change::GroupDropped { group },
        Change::GroupNotChanged { group, reason: reason() },
    ]
}

/// Nothing but a reminder from the compiler that [`every_change`] lists all.
fn listed(change: &Change) -> bool {
    use Change::*;
    match change {
        NodeJoined { .. } | NodeLate { .. } | NodeLateOver { .. } | NodeLost { .. } | NodeReturned { .. } => true,
        NodeLeft { .. } | Joined { .. } | Slept { .. } | NameTaken { .. } | ConfigDiffers { .. } => true,
        ConfigAgrees { .. } | ConfigPending { .. } | ConfigSettled | HostThreadStuck | HostThreadBack => true,
        LinkUsable { .. } | LinkUnusable { .. } | LinkSilent { .. } | LinkHeard { .. } => true,
        InterfaceDown { .. } | InterfaceUp { .. } | GroupStarting { .. } | GroupRunning { .. } => true,
        GroupAdopted { .. } | GroupStopping { .. } | GroupReleased { .. } | GroupStartFailed { .. } => true,
        GroupBanned { .. } | GroupCleared { .. } | GroupBlocked { .. } | GroupUnblocked { .. } => true,
        StopUnconfirmed { .. } | TwoOwners { .. } | TwoOwnersOver { .. } | AddressRepaired { .. } => true,
        MemberDown { .. } | OrderStop { .. } | OrderStart { .. } | GuardFault { .. } | GuardBack { .. } => true,
        AddressesReturned { .. }
        | AddressNotRepaired { .. }
        | AddressClaimed { .. }
        | GroupRenewed { .. }
        | HostStopping
        | Leaving => true,
        MoveAsked { .. } | MoveRefused { .. } | StandbyStays | Online | MaintenanceOn | MaintenanceOff => true,
        GroupPending { .. } | GroupConfigured { .. } | GroupDropped { .. } | GroupNotChanged { .. } => true,
    }
}

#[test]
fn every_change_has_a_text_and_a_message_id_of_its_own() {
    let config = config();
    let mut ids = BTreeSet::from([Entry::lost(1).message_id]);
    let mut texts = BTreeSet::new();
    for change in every_change() {
        assert!(listed(&change));
        let entry = render(&change, &config);
        assert!(entry.text.len() > 10, "{change:?}: {}", entry.text);
        assert!(entry.message_id.is_some() && ids.insert(entry.message_id), "{change:?}: MESSAGE_ID is taken");
        assert!(texts.insert(entry.text.clone()), "{change:?}: the same text as another");
        assert!(!entry.text.contains('\n'));
    }
    assert_eq!(texts.len(), 56);
}

#[test]
fn a_takeover_tells_from_whom_and_by_which_proof() {
    let change =
        Change::GroupStarting { group: GroupId(1), epoch: Epoch(7), from: Some(NodeId(1)), proof: Proof::Silence };
    let entry = render(&change, &config());
    assert_eq!(entry.text, "group web: taking over from beta, which is silent");
    assert_eq!(entry.fields.group.as_deref(), Some("web"));
    assert_eq!(entry.fields.peer.as_deref(), Some("beta"));
    assert_eq!(entry.fields.node.as_deref(), Some("alpha"));
    assert_eq!(entry.fields.proof, Some("silence"));
    assert_eq!(entry.fields.epoch, Some(7));
}

#[test]
fn heartbeats_words_are_kept() {
    let dead = render(&Change::NodeLost { node: NodeId(1), silence: Duration::from_millis(1204) }, &config());
    assert_eq!(dead.text, "node beta: is dead: nothing heard on any link for 1.204 s");
    assert_eq!(dead.level, Level::Error);
    let late = render(&Change::NodeLate { node: NodeId(1), interval: Duration::from_millis(640) }, &config());
    assert_eq!(late.text, "node beta: late heartbeat: nothing heard for 640.0 ms");
}

#[test]
fn a_restarted_daemon_is_told_from_a_healed_network() {
    let of = |restarted| {
        render(&Change::NodeReturned { node: NodeId(1), silence: Duration::from_secs(2), restarted }, &config())
    };
    assert!(of(true).text.contains("restarted"));
    assert!(of(false).text.contains("not dead"));
}

#[test]
fn the_journal_has_the_words_of_the_status() {
    let text = |change| render(&change, &config()).text;
    let silent = Change::LinkSilent { link: LinkId(0), peer: NodeId(1), silence: Duration::from_millis(1204) };
    assert!(text(silent).ends_with("beta is not heard, silent for 1.204 s"));
    let stuck = "the part of the daemon that speaks to systemd does not answer";
    assert!(text(Change::HostThreadStuck).starts_with(stuck));
    let files = Change::ConfigDiffers { node: NodeId(1), cluster: false, groups: true };
    assert!(text(files).starts_with("node beta: the groups' files differ"));
    assert!(text(Change::Joined { alone: true }).contains("not every node was heard"));
}

/// What `journalctl -x` shows.
const CATALOG: &str = include_str!("../../packaging/hafailover.catalog");

/// Header and text by MESSAGE_ID. As journald reads it, an entry begins after an empty line only.
fn catalog() -> BTreeMap<String, (&'static str, &'static str)> {
    let mut entries = BTreeMap::new();
    // A comment stands before the first one.
    for entry in CATALOG.split("\n\n-- ").skip(1) {
        let (id, rest) = entry.split_once('\n').expect("an id on a line of its own");
        let (header, text) = rest.split_once("\n\n").expect("an empty line after the header");
        assert!(entries.insert(id.to_owned(), (header, text)).is_none(), "{id} is explained twice");
    }
    entries
}

/// The journal's names of the fields that are set.
fn names(fields: &Fields) -> Vec<&'static str> {
    let Fields { group, node, peer, link, reason, proof, epoch } = fields;
    let all = [
        ("HAFAILOVER_GROUP", group.is_some()),
        ("HAFAILOVER_NODE", node.is_some()),
        ("HAFAILOVER_PEER", peer.is_some()),
        ("HAFAILOVER_LINK", link.is_some()),
        ("HAFAILOVER_REASON", reason.is_some()),
        ("HAFAILOVER_PROOF", proof.is_some()),
        ("HAFAILOVER_EPOCH", epoch.is_some()),
    ];
    all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

#[test]
fn the_catalog_explains_every_message_id_and_no_other() {
    let (config, catalog) = (config(), catalog());
    // Not every start has a former owner.
    let fresh = Change::GroupStarting { group: GroupId(1), epoch: Epoch(7), from: None, proof: Proof::Fresh };
    let rendered = every_change().into_iter().chain([fresh]).map(|change| render(&change, &config));
    let mut written = BTreeSet::new();
    for entry in rendered.chain([Entry::lost(1)]) {
        let id = format!("{:032x}", entry.message_id.expect("a MESSAGE_ID"));
        let (header, text) = *catalog.get(&id).unwrap_or_else(|| panic!("{id} is not explained: {}", entry.text));
        assert!(header.starts_with("Subject: "), "{id}: {header}");
        assert!(text.lines().filter(|line| !line.is_empty()).count() >= 2, "{id}: {text}");
        let set = names(&entry.fields);
        for field in header.split('@').skip(1).step_by(2).chain(text.split('@').skip(1).step_by(2)) {
            assert!(set.contains(&field), "{id}: the entry has no {field}: {}", entry.text);
        }
        written.insert(id);
    }
    let unknown: Vec<_> = catalog.keys().filter(|id| !written.contains(*id)).collect();
    assert!(unknown.is_empty(), "explained, but never written: {unknown:?}");
}
