//! The firewall rules that are shipped: with them links of every kind work behind a firewall that lets nothing else pass.

use crate::lab::Lab;
use crate::links::{both, every_kind, heard, mcast, open};
use hafailover::config::model::{LinkKind, NodeId};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const IGMP: i32 = 2;
const MEMBERSHIP_QUERY: u8 = 0x11;
const MEMBERSHIP_REPORT: u8 = 0x16;

fn shipped(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file)).expect("a shipped file")
}

/// What firewalld makes of the service, in its own words but for its bookkeeping.
fn firewalld() -> String {
    let text = shipped("firewalld/hafailover.xml");
    let attribute = |line: &str, name: &str| {
        let from = line.find(&format!("{name}=\""))? + name.len() + 2;
        Some(line[from..from + line[from..].find('"')?].to_owned())
    };
    let rules = text.lines().filter_map(|line| match line.trim() {
        port if port.starts_with("<port ") => {
            Some(format!("{} dport {} accept\n", attribute(port, "protocol")?, attribute(port, "port")?))
        }
        protocol if protocol.starts_with("<protocol ") => {
            Some(format!("meta l4proto {} accept\n", attribute(protocol, "value")?))
        }
        _ => None,
    });
    rules.collect()
}

fn ufw() -> String {
    let text = shipped("ufw/hafailover");
    let ports = text.lines().find_map(|line| line.strip_prefix("ports=")).expect("the profile's ports");
    let (port, protocol) = ports.split_once('/').expect("PORT/PROTOCOL");
    format!("{protocol} dport {port} accept\n")
}

/// Everything is refused in `b` but neighbours of IPv6, which every firewall lets pass, and these rules.
fn protect(lab: &Lab, rules: &str) {
    let table = format!(
        "table inet wall {{ }}\ndelete table inet wall\ntable inet wall {{\nchain input {{\ntype filter hook input priority 0; \
         policy drop;\niifname lo accept\nmeta l4proto ipv6-icmp accept\n{rules}}}\n}}\n"
    );
    lab.in_b(|| {
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft is installed");
        nft.stdin.take().expect("piped").write_all(table.as_bytes()).expect("nft reads");
        assert!(nft.wait().expect("own child").success(), "nft: {table}");
    });
}

#[test]
fn the_shipped_firewall_rules_let_every_kind_of_link_pass() {
    let lab = Lab::new();
    for (kind, config) in every_kind(&lab) {
        let (mut alpha, mut beta) = both(&lab, &config);
        for (rules, passes) in [(String::new(), false), (firewalld(), true), (ufw(), true)] {
            protect(&lab, &rules);
            alpha.send(b"beat");
            assert_eq!(heard(&mut beta).is_some(), passes, "{kind} with {rules:?}");
            // A broadcast came back to its own host.
            let own = if config.kind == LinkKind::Bcast { heard(&mut alpha) } else { None };
            assert_eq!(own.is_some(), config.kind == LinkKind::Bcast);
        }
    }
}

#[test]
fn behind_the_shipped_service_a_host_answers_a_querier() {
    let lab = Lab::new();
    let group = mcast("239.0.0.75", false);
    let (_alpha, _beta) = (open(&group, NodeId(0)), lab.in_b(|| open(&group, NodeId(1))));
    let router = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IGMP))).expect("root may");
    router.bind_device(Some(b"v0")).expect("root may");
    router.set_multicast_loop_v4(false).expect("an option");
    router.set_read_timeout(Some(Duration::from_millis(100))).expect("an option");
    protect(&lab, &ufw());
    assert!(!answers(&router), "without a word on IGMP the host falls silent for its switch");
    protect(&lab, &firewalld());
    assert!(answers(&router));
}

/// Whether `b` says within a second of a question that it listens to the group.
fn answers(mut router: &Socket) -> bool {
    // To be answered within a tenth of a second; the checksum is that of these eight bytes.
    let query = [MEMBERSHIP_QUERY, 1, 0xee, 0xfe, 0, 0, 0, 0];
    let everybody: SockAddr = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), 0).into();
    router.send_to(&query, &everybody).expect("sent");
    let end = Instant::now() + Duration::from_secs(1);
    let mut packet = [0; 256];
    while Instant::now() < end {
        let Ok(length) = router.read(&mut packet) else { continue };
        let header = usize::from(packet[0] & 0x0f) * 4;
        let body = packet.get(header..length).unwrap_or_default();
        if packet[12..16] == [10, 0, 0, 2]
            && body.first() == Some(&MEMBERSHIP_REPORT)
            && body.ends_with(&[239, 0, 0, 75])
        {
            return true;
        }
    }
    false
}
