//! What this node can tell about itself and the cluster, as plain data for the bus, the CLI and `STATUS=`.
//! Programs rely on the JSON form of [`Status`]: fields are added, never renamed; `schema` counts.

use serde::{Deserialize, Serialize};

pub const SCHEMA: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub schema: u32,
    pub cluster: String,
    pub node: String,
    pub version: String,
    /// `joining`, `joined`, `leaving`.
    pub state: String,
    pub nodes: Vec<NodeStatus>,
    pub links: Vec<LinkStatus>,
    pub groups: Vec<GroupStatus>,
    /// An operator wants the cluster left alone.
    #[serde(default)]
    pub maintenance: bool,
    /// Whole sentences on what needs attention; empty when all is well.
    pub attention: Vec<String>,
    /// Groups that run by something else than the files say, on this node or another.
    #[serde(default)]
    pub rollout: Vec<RolloutStatus>,
}

/// How far the taking over of a group's changed files has come. Digests are hexadecimal; none: nothing of the group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutStatus {
    pub group: String,
    pub nodes: Vec<RolloutNode>,
    /// What this node waits for.
    pub waits: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutNode {
    pub node: String,
    /// What it runs by.
    pub running: Option<String>,
    pub files: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub name: String,
    pub me: bool,
    /// `unheard`, `alive`, `late`, `lost`, `left`.
    pub state: String,
    /// Milliseconds since it was last heard; none for this node and for one never heard.
    pub heard_ms_ago: Option<f64>,
    pub configuration_agrees: Option<bool>,
    /// An operator wants it to own nothing, until `online`.
    #[serde(default)]
    pub standby: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    pub name: String,
    pub interface: String,
    pub usable: bool,
    pub peers: Vec<LinkPeerStatus>,
    #[serde(default)]
    pub counters: LinkCounters,
    /// `ucast`, `mcast`, `bcast`.
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub port: u16,
    /// Why it is not usable.
    #[serde(default)]
    pub fault: Option<String>,
    /// Why the last message could not be sent.
    #[serde(default)]
    pub send_error: Option<String>,
    /// Whole sentences on what is wrong with it and where to look; all of them stand in [`Status::attention`] too.
    #[serde(default)]
    pub advice: Vec<String>,
}

/// What only he knows of a link who sends and receives there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkSeen {
    pub counters: LinkCounters,
    pub fault: Option<String>,
    pub send_error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkPeerStatus {
    pub node: String,
    pub heard: bool,
    pub heard_ms_ago: Option<f64>,
    pub received: u64,
    pub duplicates: u64,
    /// Messages of the peer that this link did not bring.
    pub lost: u64,
    /// Messages that show that the peer has not heard this daemon: a few when either was started, many if it never hears it.
    #[serde(default)]
    pub strangers: u64,
}

/// What a link has sent, received and dropped since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkCounters {
    pub sent: u64,
    pub send_errors: u64,
    pub received: u64,
    /// Not a message of this program, or altered beyond decoding.
    pub dropped_garbage: u64,
    /// Wrong or unknown key, or altered.
    pub dropped_key: u64,
    pub dropped_other_cluster: u64,
    /// Unknown sender, or this node's own name.
    pub dropped_sender: u64,
    /// Older than what was heard of the same daemon.
    pub dropped_replay: u64,
    /// From a daemon that shows no sign of having heard this one: its first packets, or those of one that no longer runs.
    #[serde(default)]
    pub strangers: u64,
    /// This node's own packets, which came back: always with `bcast`, with `mcast` where `loop = true`.
    #[serde(default)]
    pub own: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupStatus {
    pub name: String,
    /// The node that owns it as far as this node knows.
    pub owner: Option<String>,
    pub epoch: u32,
    /// What it is on this node: `inactive`, `starting`, `running`, `stopping`, `blocked`, `banned`, `stopped` (by an operator),
    /// `unknown` (left by an earlier run of the daemon, not looked at yet).
    pub state: String,
    /// One sentence: why it is where it is, or why it is not.
    pub why: String,
    /// The chain of reasons, for `why GROUP`.
    pub reasons: Vec<String>,
    pub addresses: Vec<String>,
    pub members: Vec<String>,
    pub banned: Option<String>,
    pub stopped_by_operator: bool,
    /// It is where it is by an operator's word: `Failback=` waits.
    #[serde(default)]
    pub parked: bool,
}
