//! A status for people: plain tables that fit a terminal and a ticket alike.

use crate::cluster::Status;
use crate::cluster::status::{GroupStatus, LinkStatus, NodeStatus, RolloutNode, RolloutStatus};

pub(super) fn table(status: &Status) -> String {
    let mut parts = vec![format!("cluster {}, seen by {} ({})", status.cluster, status.node, status.state)];
    parts.push(columns("GROUP", &["OWNER", "HERE", "WHY"], status.groups.iter().map(group_row)));
    parts.push(columns("NODE", &["STATE", "HEARD", "CONFIGURATION"], status.nodes.iter().map(node_row)));
    parts.push(columns(
        "LINK",
        &["INTERFACE", "STATE", "HEARD FROM", "LOST", "DROPPED"],
        status.links.iter().map(link_row),
    ));
    if !status.rollout.is_empty() {
        let rows = status.rollout.iter().flat_map(rollout_rows);
        parts.push(columns("CHANGED GROUP", &["NODE", "RUNS BY", "FILES"], rows));
    }
    parts.push(if status.attention.is_empty() {
        "All is well.".to_owned()
    } else {
        let lines: String = status.attention.iter().map(|line| format!("\n  ! {line}")).collect();
        format!("Needs attention:{lines}")
    });
    parts.join("\n\n")
}

fn group_row(group: &GroupStatus) -> Vec<String> {
    let owner = group.owner.clone().unwrap_or_else(|| "-".into());
    vec![group.name.clone(), owner, group.state.clone(), group.why.clone()]
}

/// By digests: equal ones mean the same.
fn rollout_rows(rollout: &RolloutStatus) -> impl Iterator<Item = Vec<String>> {
    let digest = |digest: &Option<String>| digest.clone().unwrap_or_else(|| "none".into());
    let row = move |node: &RolloutNode| {
        vec![rollout.group.clone(), node.node.clone(), digest(&node.running), digest(&node.files)]
    };
    rollout.nodes.iter().map(row)
}

fn node_row(node: &NodeStatus) -> Vec<String> {
    let name = if node.me { format!("{} (this)", node.name) } else { node.name.clone() };
    let agrees = match node.configuration_agrees {
        Some(true) => "same",
        Some(false) => "DIFFERS",
        None => "-",
    };
    vec![name, node.state.clone(), age(node.heard_ms_ago), agrees.into()]
}

fn link_row(link: &LinkStatus) -> Vec<String> {
    let peers: Vec<String> = link
        .peers
        .iter()
        .map(|peer| format!("{} {}", peer.node, if peer.heard { age(peer.heard_ms_ago) } else { "SILENT".into() }))
        .collect();
    let lost: u64 = link.peers.iter().map(|peer| peer.lost).sum();
    let counters = &link.counters;
    let dropped = counters.dropped_garbage
        + counters.dropped_key
        + counters.dropped_other_cluster
        + counters.dropped_sender
        + counters.dropped_replay;
    let state = if link.usable { "usable" } else { "UNUSABLE" };
    let peers = if peers.is_empty() { "-".into() } else { peers.join(", ") };
    vec![link.name.clone(), link.interface.clone(), state.into(), peers, lost.to_string(), dropped.to_string()]
}

fn age(ms: Option<f64>) -> String {
    match ms {
        None => "-".into(),
        Some(ms) if ms < 10_000.0 => format!("{ms:.0} ms ago"),
        Some(ms) => format!("{:.0} s ago", ms / 1000.0),
    }
}

/// Left-aligned columns, two spaces apart; the last one is as long as it is.
fn columns(first: &str, rest: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let header = std::iter::once(first).chain(rest.iter().copied()).map(str::to_owned).collect();
    let table: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    if table.len() == 1 {
        return format!("{first}: none");
    }
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cluster::status::{LinkCounters, LinkPeerStatus, SCHEMA};

    pub(crate) fn status() -> Status {
        let node = |name: &str, me, state: &str, heard_ms_ago, configuration_agrees| NodeStatus {
            name: name.into(),
            me,
            state: state.into(),
            heard_ms_ago,
            configuration_agrees,
        };
        let group = GroupStatus {
            name: "web".into(),
            owner: Some("beta".into()),
            epoch: 7,
            state: "inactive".into(),
            why: "runs on beta, its preferred node".into(),
            reasons: vec![],
            addresses: vec!["10.0.0.77/24".into()],
            members: vec!["nginx.service".into()],
            banned: None,
            stopped_by_operator: false,
        };
        let heard = LinkPeerStatus {
            node: "beta".into(),
            heard: true,
            heard_ms_ago: Some(12.4),
            received: 900,
            duplicates: 0,
            lost: 3,
        };
        let link = |name: &str, usable, peers| LinkStatus {
            name: name.into(),
            interface: "eth7".into(),
            usable,
            peers,
            counters: LinkCounters { dropped_key: 2, dropped_garbage: 1, ..LinkCounters::default() },
        };
        let silent = LinkPeerStatus { heard: false, heard_ms_ago: None, lost: 0, ..heard.clone() };
        Status {
            schema: SCHEMA,
            cluster: "shop".into(),
            node: "alpha".into(),
            version: "0.1.0".into(),
            state: "joined".into(),
            nodes: vec![
                node("alpha", true, "alive", None, None),
                node("beta", false, "late", Some(61_000.0), Some(false)),
            ],
            links: vec![link("hb0", true, vec![heard]), link("hb1", false, vec![silent])],
            groups: vec![group],
            rollout: vec![],
            attention: vec!["beta has another configuration".into()],
        }
    }

    #[test]
    fn a_status_is_read_at_a_glance() {
        let expected = "\
cluster shop, seen by alpha (joined)

GROUP  OWNER  HERE      WHY
web    beta   inactive  runs on beta, its preferred node

NODE          STATE  HEARD     CONFIGURATION
alpha (this)  alive  -         -
beta          late   61 s ago  DIFFERS

LINK  INTERFACE  STATE     HEARD FROM      LOST  DROPPED
hb0   eth7       usable    beta 12 ms ago  3     3
hb1   eth7       UNUSABLE  beta SILENT     0     3

Needs attention:
  ! beta has another configuration";
        assert_eq!(table(&status()), expected);
    }

    #[test]
    fn nothing_configured_and_nothing_wrong_is_said() {
        let mut status = status();
        status.groups.clear();
        status.attention.clear();
        let text = table(&status);
        assert!(text.contains("GROUP: none"), "{text}");
        assert!(text.ends_with("All is well."), "{text}");
    }

    #[test]
    fn who_runs_by_what_is_shown_while_files_differ() {
        let node = |node: &str, files: Option<&str>| RolloutNode {
            node: node.into(),
            running: Some("0a0b0c0d".into()),
            files: files.map(str::to_owned),
        };
        let nodes = vec![node("alpha", None), node("beta", Some("0a0b0c0d"))];
        let rollout = vec![RolloutStatus { group: "web".into(), nodes, waits: None }];
        let expected = "\
CHANGED GROUP  NODE   RUNS BY   FILES
web            alpha  0a0b0c0d  none
web            beta   0a0b0c0d  0a0b0c0d
";
        let text = table(&Status { rollout, ..status() });
        assert!(text.contains(expected), "{text}");
    }
}
