//! The beat thread's rounds, one by one, with a real netlink socket and no link.

use super::*;
use crate::cluster::{Actual, BootId, Change, Epoch, Grant, Held, HeldPhase, Identity, Incarnation, Outcome, Saved};
use crate::config::model::{Config, LinkConfig, NodeId, VirtualAddress};
use crate::host::address::Neighbours;
use crate::host::address::netlink::RESYNC_EVERY;
use crate::host::held::tests::{TempPlaces, config};
use crate::host::orders::{Beat, beat_channel};
use crate::journal::{Journal, JournalHandle};
use crate::perform::tests::edges;
use crate::record;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use tokio::sync::mpsc::Receiver;

const BOOT: BootId = BootId(1);

struct Rig {
    thread: BeatThread,
    /// The host thread's ends.
    orders: Receiver<ToHost>,
    beat: Beat,
    moves: Arc<AtomicU64>,
    places: TempPlaces,
}

fn rig(name: &str, config: Config, held: &[Held]) -> Rig {
    let places = TempPlaces::new(name);
    let (edges, orders) = edges(config, &places, 64);
    let identity = Identity { incarnation: Incarnation(1), boot: BOOT };
    let heart = Cluster::new(edges.config.clone(), identity, &Saved::default(), held, clock::now());
    let (beat, inbox) = beat_channel().unwrap();
    let moves = Arc::new(AtomicU64::new(0));
    let thread = BeatThread::new(heart, edges, inbox, Arc::default(), moves.clone());
    Rig { thread, orders, beat, moves, places }
}

#[test]
fn a_table_that_could_not_be_read_is_asked_for_anew_without_an_event() {
    let mut rig = rig("beat-stale", config(&["alpha"]), &[]);
    let thread = &mut rig.thread;
    thread.edges.netlink.blind(true);
    thread.drain(Ready::default(), clock::now());
    thread.edges.netlink.blind(false);
    assert!(!thread.edges.netlink.wants_resync(), "not in every round");
    std::thread::sleep(RESYNC_EVERY);
    assert!(thread.edges.netlink.wants_resync());
    thread.drain(Ready::default(), clock::now());
    std::thread::sleep(RESYNC_EVERY);
    assert!(!thread.edges.netlink.wants_resync());
}

#[test]
fn a_link_that_is_of_no_use_from_the_start_is_told_and_so_is_another_reason() {
    let mut config = config(&["alpha", "beta"]);
    let peers = BTreeMap::from([(NodeId(0), [10, 255, 0, 1].into()), (NodeId(1), [10, 255, 0, 2].into())]);
    config.links = vec![LinkConfig::ucast("no-such-one", 694, peers)];
    let mut rig = rig("beat-no-link", config, &[]);
    let (journal, entries) = JournalHandle::for_test(64);
    rig.thread.edges.journal = journal;
    let told = |thread: &mut BeatThread| {
        thread.refresh_interfaces();
        entries()
    };
    assert_eq!(told(&mut rig.thread), ["link no-such-one: interface no-such-one does not exist"]);
    assert_eq!(told(&mut rig.thread), Vec::<String>::new(), "once");
    // From here on the interface exists, and lacks the address.
    let mut named = (*rig.thread.edges.config).clone();
    named.links[0].interface = "lo".into();
    rig.thread.edges.links[0] = UdpLink::new(&named.links[0], NodeId(0));
    rig.thread.edges.config = named.into();
    let notes = told(&mut rig.thread);
    assert!(notes.len() == 1 && notes[0].contains("lo does not hold"), "{notes:?}");
}

#[test]
fn a_host_thread_that_stands_still_is_reported_and_its_return_too() {
    let mut rig = rig("beat-host", config(&["alpha"]), &[]);
    let start = clock::now();
    let mut reports = Vec::new();
    for second in 0..10 {
        if second >= 7 {
            rig.moves.fetch_add(1, Ordering::Relaxed);
        }
        rig.thread.drain(Ready::default(), start + Duration::from_secs(second));
        let actions = rig.thread.heart.decide(start + Duration::from_secs(second));
        reports.extend(actions.into_iter().filter_map(|action| match action {
            Action::Report(change @ (Change::HostThreadStuck | Change::HostThreadBack)) => Some((second, change)),
            _ => None,
        }));
    }
    assert_eq!(reports, [(4, Change::HostThreadStuck), (7, Change::HostThreadBack)]);
}

#[test]
fn packets_of_neighbours_that_are_left_unread_hold_the_round_up() {
    let mut rig = rig("beat-flood", config(&["alpha"]), &[]);
    let (sink, recording) = record::start(&rig.places.state, "alpha", Journal::start().unwrap()).unwrap();
    let now = clock::now();
    rig.thread.heart.record(Some(sink));
    for neighbours in [Neighbours::deaf(), Neighbours::flooded()] {
        rig.thread.edges.neighbours = neighbours;
        rig.thread.heart.begin(now);
        rig.thread.drain(Ready { neighbours: true, ..Ready::default() }, now);
        rig.thread.heart.decide(now);
    }
    rig.thread.heart.record(None);
    rig.thread.heart.begin(now);
    recording.finished(Duration::from_secs(30)).unwrap();
    let recorded = std::fs::read_to_string(recording.path()).unwrap();
    let [_, quiet, flooded] = &recorded.split("\n{\"begin\"").collect::<Vec<_>>()[..] else { panic!("{recorded}") };
    assert!(!quiet.contains("leave_unread") && flooded.contains("leave_unread"), "{recorded}");
}

#[test]
fn an_address_whose_interface_is_gone_is_not_put_back_in_vain() {
    let mut config = config(&["alpha"]);
    config.groups.truncate(1);
    let interfaces = ["lo", "no-such-one"];
    let address = |(index, interface): (usize, &&str)| VirtualAddress {
        address: [127, 77, 77, index as u8].into(),
        prefix: 32,
        interface: Some(interface.to_string()),
        label: None,
        broadcast: None,
    };
    config.groups[0].addresses = interfaces.iter().enumerate().map(address).collect();
    let grant = Grant { epoch: Epoch(1), node: NodeId(0), boot: BOOT };
    let held = Held { group: config.groups[0].name.clone(), grant, phase: HeldPhase::Granted };
    let thread = &mut rig("beat-lost", config, &[held]).thread;
    let inspect = thread.heart.decide(clock::now()).into_iter().find_map(|action| match action {
        Action::Inspect { op, .. } => Some(op),
        _ => None,
    });
    let whole = Actual { all_active: true, any_active: true, addresses: vec![0, 1] };
    thread.heart.fold(Event::Finished { op: inspect.unwrap(), outcome: Outcome::Inspected(whole) });
    thread.heart.decide(clock::now());

    let every = thread.edges.addresses.every();
    thread.look_for_addresses(every, &[]);
    let actions = thread.heart.decide(clock::now()).into_iter();
    let repaired = actions.filter_map(|action| match action {
        Action::RepairAddress { index, .. } => Some(interfaces[index]),
        _ => None,
    });
    assert_eq!(repaired.collect::<Vec<_>>(), ["lo"]);
}

#[test]
fn the_interface_of_an_address_without_dev_is_found_and_its_absence_told() {
    let mut config = config(&["alpha"]);
    config.groups.truncate(1);
    let address = |text: &str| VirtualAddress {
        address: text.parse().unwrap(),
        prefix: 8,
        interface: None,
        label: None,
        broadcast: None,
    };
    config.groups[0].addresses = vec![address("127.77.77.77")];
    let mut nowhere = config.clone();
    nowhere.groups[0].addresses.push(address("255.255.255.254"));
    let thread = &mut rig("beat-place", config, &[]).thread;
    thread.refresh_interfaces();
    assert_eq!(thread.heart.status().groups[0].addresses, ["127.77.77.77/8 dev lo"]);
    assert_eq!(thread.edges.addresses.of(GroupId(0))[0].dev(), "lo");
    let thread = &mut rig("beat-no-place", nowhere, &[]).thread;
    thread.refresh_interfaces();
    let status = thread.heart.status();
    assert_eq!(status.groups[0].addresses, ["127.77.77.77/8 dev lo", "255.255.255.254/8"]);
    let why = status.groups[0].reasons.join(" ");
    assert!(why.contains("no interface of this host") && why.contains("write dev"), "{why}");
}

#[test]
fn a_link_that_was_quiet_is_looked_at_once_more_where_silence_may_be_due() {
    let (mine, theirs) = (Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2));
    let peer = UdpSocket::bind((theirs, 0)).unwrap();
    let port = peer.local_addr().unwrap().port();
    let mut config = config(&["alpha", "beta"]);
    let peers = BTreeMap::from([(NodeId(0), mine.into()), (NodeId(1), theirs.into())]);
    config.links = vec![LinkConfig::ucast("lo", port, peers)];
    let thread = &mut rig("beat-link", config, &[]).thread;
    thread.refresh_interfaces();
    thread.heart.decide(clock::now());
    let due = thread.heart.next_deadline().unwrap();
    peer.send_to(b"came after the wait", (mine, port)).unwrap();
    let received = |thread: &BeatThread| thread.edges.links[0].counters().received;
    thread.drain(Ready::default(), due - Duration::from_millis(1));
    assert_eq!(received(thread), 0, "the next round finds it");
    thread.drain(Ready::default(), due);
    assert_eq!(received(thread), 1);
    peer.send_to(b"readable", (mine, port)).unwrap();
    let ready = Ready { links: [true; MOST_LINKS], ..Ready::default() };
    thread.drain(ready, due - Duration::from_millis(1));
    assert_eq!(received(thread), 2);
}

#[test]
fn a_link_that_waits_for_an_address_of_ipv6_is_looked_at_several_times_a_second() {
    let mut config = config(&["alpha", "beta"]);
    let ip = |text: &str| text.parse().unwrap();
    let peers = BTreeMap::from([(NodeId(0), ip("fd00:75::75")), (NodeId(1), ip("fd00:75::76"))]);
    config.links = vec![LinkConfig::ucast("lo", 694, peers)];
    let thread = &mut rig("beat-waits", config, &[]).thread;
    assert_eq!(thread.link_retry_due, None);
    // Everything is looked at when the thread begins, and then every few seconds only.
    thread.drain(Ready::default(), clock::now());
    let due = thread.link_retry_due.expect("nothing tells of an address that is unique at last");
    thread.wait();
    let woken = clock::now();
    assert!(woken >= due && woken.since(due) < IDLE_MAX / 2, "{:?}", woken.since(due));
    thread.drain(Ready::default(), clock::now());
    assert!(thread.link_retry_due.is_some_and(|next| next > due), "it was looked at once more");
}

#[test]
fn what_is_of_another_cluster_or_our_own_is_no_news() {
    let (mine, theirs) = (Ipv4Addr::new(127, 0, 0, 11), Ipv4Addr::new(127, 0, 0, 12));
    let peer = UdpSocket::bind((theirs, 0)).unwrap();
    let port = peer.local_addr().unwrap().port();
    let mut config = config(&["alpha", "beta"]);
    let peers = BTreeMap::from([(NodeId(0), mine.into()), (NodeId(1), theirs.into())]);
    config.links = vec![LinkConfig::ucast("lo", port, peers)];
    let (ours, own_tag) = (config.cluster_tag, config.node(NodeId(0)).tag);
    let thread = &mut rig("beat-others", config, &[]).thread;
    thread.refresh_interfaces();
    let packet = |thread: &BeatThread, cluster_tag: u64| {
        let message = crate::wire::Message {
            cluster_tag,
            sender: own_tag,
            incarnation: Incarnation(1),
            sequence: 1,
            sent_at: 0,
            boot: BOOT,
            cluster_digest: 0,
            state: Default::default(),
            flags: Default::default(),
            maintenance: Default::default(),
            echoes: vec![],
            groups: vec![],
        };
        thread.edges.keys.seal(codec::encode(&message))
    };
    let news = |thread: &mut BeatThread, packet: &[u8]| {
        thread.news = false;
        thread.packet(LinkId(0), packet);
        thread.news
    };
    let other = packet(thread, ours + 1);
    assert!(!news(thread, &other));
    assert_eq!(thread.edges.links[0].counters().dropped_other_cluster, 1);
    // Nobody sends us our own packets over such a link but who recorded them.
    let own = packet(thread, ours);
    assert!(news(thread, &own));
    assert_eq!((thread.edges.links[0].counters().dropped_replay, thread.edges.links[0].counters().own), (1, 0));

    let shared = LinkConfig { kind: LinkKind::Bcast, ..thread.edges.config.links[0].clone() };
    thread.edges.links[0] = UdpLink::new(&shared, NodeId(0));
    assert!(!news(thread, &own));
    assert_eq!((thread.edges.links[0].counters().dropped_replay, thread.edges.links[0].counters().own), (0, 1));
}

#[test]
fn a_change_is_one_word_to_the_host_thread_until_it_asks_what_it_is() {
    use crate::cluster::{Command, RequestId};
    use crate::config::model::GroupId;
    let mut rig = rig("beat-change", config(&["alpha"]), &[]);
    let clear = |rig: &mut Rig| {
        let command = Command::Clear { group: GroupId(0) };
        rig.beat.send(ToBeat::Event(Event::Command { request: RequestId(1), command }));
        rig.thread.drain(Ready { inbox: true, ..Ready::default() }, clock::now());
        rig.thread.act();
        let orders = std::iter::from_fn(|| rig.orders.try_recv().ok());
        orders.filter(|order| matches!(order, ToHost::Changed)).count()
    };
    assert_eq!(clear(&mut rig), 1);
    assert_eq!(clear(&mut rig), 0, "the host thread knows");
    rig.beat.send(ToBeat::Status { request: RequestId(2) });
    assert_eq!(clear(&mut rig), 1, "the answer to its question was before this");
    rig.thread.act();
    assert!(rig.orders.try_recv().is_err(), "nothing changed, nothing is said");
}

#[test]
fn a_peers_standby_is_told_though_nothing_follows_from_it() {
    use crate::config::model::{LinkId, LinkKind};
    use crate::wire::{Echo, Message, NodeFlags, StateMark};
    let mut config = config(&["alpha", "beta"]);
    let kind = LinkKind::Ucast { peers: BTreeMap::new() };
    config.links = vec![LinkConfig { name: "hb0".into(), interface: "hb0".into(), port: 694, kind }];
    let (own, peer, cluster_tag) = (config.node(NodeId(0)).tag, config.node(NodeId(1)).tag, config.cluster_tag);
    let mut rig = rig("beat-standby", config, &[]);
    // It speaks once, so that there is something to have heard of it.
    rig.thread.heart.fold(Event::Link { link: LinkId(0), usable: true });
    rig.thread.news = true;
    rig.thread.act();
    let mut hear = |sequence, standby| {
        let message = Message {
            cluster_tag,
            sender: peer,
            incarnation: Incarnation(200),
            sequence,
            sent_at: 0,
            boot: BootId(20),
            cluster_digest: 0,
            state: StateMark::default(),
            flags: NodeFlags { joined: true, standby, ..NodeFlags::default() },
            maintenance: crate::cluster::Maintenance::default(),
            echoes: vec![Echo { node: own, incarnation: Incarnation(1), sequence: 1, holds: 0 }],
            groups: Vec::new(),
        };
        rig.thread.heart.begin(clock::now());
        rig.thread.heart.hear(LinkId(0), &message);
        rig.thread.news = true;
        rig.thread.act();
        rig.thread.change_told = false;
        std::iter::from_fn(|| rig.orders.try_recv().ok()).any(|order| matches!(order, ToHost::Changed))
    };
    for sequence in 1..4 {
        hear(sequence, false);
    }
    assert!(!hear(4, false), "nothing changed");
    assert!(hear(5, true));
    assert!(!hear(6, true), "it is told");
    assert!(hear(7, false));
}
