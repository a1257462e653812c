//! What a peer said of a group, in this node's terms. It must not know when or how it was said.

use super::grant::{Epoch, Grant, Order, Record};
use crate::config::model::{Config, NodeId};
use crate::wire::{GroupSays, Role};
use serde::{Deserialize, Serialize};

/// What a peer said of a group, in this node's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerGroup {
    pub role: Role,
    pub eligible: bool,
    pub banned: bool,
    pub record: Option<Record>,
    pub order: Order,
    /// Digest of the configuration that it runs by; 0: none.
    pub config: u32,
    /// The same of its parts alone.
    pub parts: u32,
    /// Digest of what its files say, where that differs; 0: nothing.
    pub pending: Option<u32>,
    /// An operator there asks the owner to give the group to that node.
    pub wish: Option<NodeId>,
    /// The owner has it by an operator's word.
    pub parked: bool,
    /// Somebody whom it hears, and who does not hold the record it shows, is not idle.
    pub contended: bool,
}

impl PeerGroup {
    /// A group that a peer does not mention: it may not be in its configuration, so it cannot speak for it.
    pub(super) const UNMENTIONED: PeerGroup = PeerGroup {
        role: Role::Unknown,
        eligible: false,
        banned: false,
        record: None,
        order: Order { version: 0, stopped: false },
        config: 0,
        parts: 0,
        pending: None,
        wish: None,
        parked: false,
        contended: false,
    };

    pub(super) fn new(config: &Config, peer: NodeId, says: &GroupSays) -> PeerGroup {
        // A record that names a node we do not know cannot be compared; its epoch must not be lost all the same.
        let record = says.record.map(|record| Record {
            grant: Grant {
                epoch: record.epoch,
                node: config.node_by_tag(record.node).unwrap_or(peer),
                boot: record.boot,
            },
            released: record.released,
            heir: record.heir.and_then(|heir| config.node_by_tag(heir)),
        });
        PeerGroup {
            role: says.role,
            eligible: says.eligible,
            banned: says.banned,
            record: record.filter(|record| record.grant.epoch > Epoch(0)),
            order: says.order,
            config: says.config,
            parts: says.parts,
            pending: says.pending,
            wish: says.wish.and_then(|wish| config.node_by_tag(wish)),
            parked: says.parked,
            contended: says.contended,
        }
    }
}
