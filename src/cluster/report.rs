//! Every change worth an entry, as one enum. Rendering is in `journal`. It must not know the journal.

use super::grant::Epoch;
use super::takeover::Proof;
use crate::config::model::{GroupId, LinkId, NodeId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    // nodes
    NodeJoined {
        node: NodeId,
    },
    /// Older than warntime; `interval` is what was measured, at recovery too.
    NodeLate {
        node: NodeId,
        interval: Duration,
    },
    NodeLateOver {
        node: NodeId,
        interval: Duration,
    },
    NodeLost {
        node: NodeId,
        silence: Duration,
    },
    NodeReturned {
        node: NodeId,
        silence: Duration,
        restarted: bool,
    },
    NodeLeft {
        node: NodeId,
    },
    /// This node finished joining: everyone was heard, or initdead passed.
    Joined {
        alone: bool,
    },
    /// This node woke later than it asked to by more than the deadtime.
    Slept {
        gap: Duration,
    },
    /// Another daemon uses this node's name.
    NameTaken {
        node: NodeId,
    },
    ConfigDiffers {
        node: NodeId,
        cluster: bool,
        groups: bool,
    },
    ConfigAgrees {
        node: NodeId,
    },
    ConfigPending {
        what: String,
    },
    ConfigSettled,
    HostThreadStuck,
    HostThreadBack,
    // links
    LinkUsable {
        link: LinkId,
    },
    LinkUnusable {
        link: LinkId,
    },
    /// A peer is silent on this link while it is heard on another, or on all.
    LinkSilent {
        link: LinkId,
        peer: NodeId,
        silence: Duration,
    },
    LinkHeard {
        link: LinkId,
        peer: NodeId,
        silence: Duration,
    },
    // service interfaces
    InterfaceDown {
        interface: String,
    },
    InterfaceUp {
        interface: String,
    },
    // groups
    GroupStarting {
        group: GroupId,
        epoch: Epoch,
        from: Option<NodeId>,
        proof: Proof,
    },
    GroupRunning {
        group: GroupId,
        epoch: Epoch,
        took: Duration,
    },
    GroupAdopted {
        group: GroupId,
        epoch: Epoch,
    },
    GroupStopping {
        group: GroupId,
        epoch: Epoch,
        reason: String,
    },
    GroupReleased {
        group: GroupId,
        epoch: Epoch,
        took: Duration,
    },
    GroupStartFailed {
        group: GroupId,
        reason: String,
    },
    /// This node does not try again before `clear` or `start`.
    GroupBanned {
        group: GroupId,
        reason: String,
    },
    GroupCleared {
        group: GroupId,
    },
    /// Nominated, but something stands in the way; also "nowhere to run".
    GroupBlocked {
        group: GroupId,
        reason: String,
    },
    GroupUnblocked {
        group: GroupId,
    },
    /// A stop could not be confirmed: nothing is released.
    StopUnconfirmed {
        group: GroupId,
        reason: String,
    },
    /// A higher grant came to light under which nothing runs any more: this node goes on under a new one.
    GroupRenewed {
        group: GroupId,
        epoch: Epoch,
        peer: NodeId,
    },
    /// Another node claims the group too.
    TwoOwners {
        group: GroupId,
        peer: NodeId,
        mine: Epoch,
        /// Not told by one that is stopping already.
        theirs: Option<Epoch>,
        keep: bool,
    },
    TwoOwnersOver {
        group: GroupId,
        peer: NodeId,
    },
    /// Told once; it is tried again.
    AddressNotRepaired {
        group: GroupId,
        index: usize,
        reason: String,
    },
    AddressRepaired {
        group: GroupId,
        index: usize,
    },
    /// Another host claims an address that is here; told once in a while.
    AddressClaimed {
        group: GroupId,
        index: usize,
        mac: [u8; 6],
    },
    /// Their interface had been switched off, and is on again.
    AddressesReturned {
        group: GroupId,
        count: usize,
    },
    MemberDown {
        group: GroupId,
        unit: String,
        reason: String,
    },
    OrderStop {
        group: GroupId,
    },
    OrderStart {
        group: GroupId,
    },
    GuardFault {
        group: GroupId,
        reason: String,
    },
    GuardBack {
        group: GroupId,
    },
    /// An operator on `peer` asks this node, the owner, to give the group to `to`.
    MoveAsked {
        group: GroupId,
        peer: NodeId,
        to: NodeId,
    },
    MoveRefused {
        group: GroupId,
        peer: NodeId,
        to: NodeId,
        reason: String,
    },
    /// From now on this node owns nothing; `Online` ends it.
    StandbyStays,
    Online,
    MaintenanceOn,
    MaintenanceOff,
    HostStopping,
    Leaving,
    /// The files hold something else than what runs; it waits for all nodes that are heard.
    GroupPending {
        group: GroupId,
    },
    /// What the files say is what runs now.
    GroupConfigured {
        group: GroupId,
    },
    /// It is in no configuration any more.
    GroupDropped {
        group: GroupId,
    },
    /// A step of a change could not be done; told once, and tried again.
    GroupNotChanged {
        group: GroupId,
        reason: String,
    },
}
