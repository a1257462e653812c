//! A status for people: plain tables that fit a terminal and a ticket alike.

use crate::cluster::Status;
use crate::cluster::status::{GroupStatus, LinkPeerStatus, LinkStatus, NodeStatus, RolloutNode, RolloutStatus};

pub(super) fn table(status: &Status) -> String {
    let maintenance = if status.maintenance { ", MAINTENANCE" } else { "" };
    let mut parts =
        vec![format!("cluster {}, seen by {} ({}){maintenance}", status.cluster, status.node, status.state)];
    parts.push(columns("GROUP", &["OWNER", "HERE", "WHY"], status.groups.iter().map(group_row)));
    parts.push(columns("NODE", &["STATE", "HEARD", "CONFIGURATION"], status.nodes.iter().map(node_row)));
    let header = ["INTERFACE", "KIND", "STATE", "SENT", "ERRORS", "RECEIVED", "DROPPED"];
    parts.push(columns("LINK", &header, status.links.iter().map(link_row)));
    let header = ["PEER", "HEARD", "RECEIVED", "LOST", "DUPLICATES"];
    let rows = status.links.iter().flat_map(|link| link.peers.iter().map(|peer| peer_row(link, peer)));
    parts.push(columns("ON LINK", &header, rows));
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
    plain(&parts.join("\n\n"))
}

/// Nothing in it but the ends of lines moves a terminal's cursor.
fn plain(text: &str) -> String {
    let escaped = |char: char| if char.is_control() && char != '\n' { '?' } else { char };
    text.chars().map(escaped).collect()
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
    let state = if node.standby { format!("{}, standby", node.state) } else { node.state.clone() };
    vec![name, state, age(node.heard_ms_ago), agrees.into()]
}

fn link_row(link: &LinkStatus) -> Vec<String> {
    let counters = &link.counters;
    let reasons = [
        (counters.dropped_garbage, "garbage"),
        (counters.dropped_key, "key"),
        (counters.dropped_other_cluster, "other cluster"),
        (counters.dropped_sender, "sender"),
        (counters.dropped_replay, "replay"),
    ];
    let named: Vec<String> =
        reasons.iter().filter(|(count, _)| *count > 0).map(|(count, reason)| format!("{count} {reason}")).collect();
    let dropped = if named.is_empty() { "0".into() } else { named.join(", ") };
    let state = if link.usable { "usable" } else { "UNUSABLE" };
    vec![
        link.name.clone(),
        link.interface.clone(),
        link.kind.clone(),
        state.into(),
        counters.sent.to_string(),
        counters.send_errors.to_string(),
        counters.received.to_string(),
        dropped,
    ]
}

fn peer_row(link: &LinkStatus, peer: &LinkPeerStatus) -> Vec<String> {
    let heard = match (peer.heard, peer.heard_ms_ago) {
        (true, ms) => age(ms),
        (false, None) => "NEVER".into(),
        (false, ms) => format!("SILENT, {}", age(ms)),
    };
    let counts = [peer.received, peer.lost, peer.duplicates].map(|count| count.to_string());
    [link.name.clone(), peer.node.clone(), heard].into_iter().chain(counts).collect()
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
    use crate::cluster::status::LinkCounters;

    /// Web runs on beta, which has another configuration, and one link is dead.
    pub(crate) fn status() -> Status {
        let mut status = crate::dbus::news::tests::status();
        let beta = &mut status.nodes[1];
        (beta.state, beta.heard_ms_ago, beta.configuration_agrees) = ("late".into(), Some(61_000.0), Some(false));
        let group = &mut status.groups[0];
        (group.owner, group.state) = (Some("beta".into()), "inactive".into());
        group.why = "runs on beta, its preferred node".into();
        let link = &mut status.links[0];
        link.name = "hb0".into();
        link.counters = LinkCounters { sent: 901, dropped_key: 2, dropped_garbage: 1, ..LinkCounters::default() };
        let peer = &mut link.peers[0];
        (peer.heard_ms_ago, peer.received, peer.lost) = (Some(12.4), 900, 3);
        let mut dead = link.clone();
        (dead.name, dead.usable) = ("hb1".into(), false);
        let peer = &mut dead.peers[0];
        (peer.heard, peer.heard_ms_ago, peer.lost) = (false, None, 0);
        status.links.push(dead);
        status.attention.push("beta has another configuration".into());
        status
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

LINK  INTERFACE  KIND   STATE     SENT  ERRORS  RECEIVED  DROPPED
hb0   eth7       ucast  usable    901   0       0         1 garbage, 2 key
hb1   eth7       ucast  UNUSABLE  901   0       0         1 garbage, 2 key

ON LINK  PEER  HEARD      RECEIVED  LOST  DUPLICATES
hb0      beta  12 ms ago  900       3     0
hb1      beta  NEVER      900       0     0

Needs attention:
  ! beta has another configuration";
        assert_eq!(table(&status()), expected);
    }

    #[test]
    fn what_an_operator_said_is_seen() {
        let mut status = status();
        status.maintenance = true;
        status.nodes[0].standby = true;
        let text = table(&status);
        assert!(text.starts_with("cluster shop, seen by alpha (joined), MAINTENANCE\n"), "{text}");
        assert!(text.contains("alpha (this)  alive, standby  -"), "{text}");
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
