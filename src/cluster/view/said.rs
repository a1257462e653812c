//! What a peer said of its groups, put together from what came here, and whether that is all of it.
//! It must not know what any of it means.

use crate::config::model::GroupTag;
use crate::wire::{GroupSays, Message};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an incarnation of a peer said of its groups, as far as it came here.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Said {
    /// The last version that was here whole.
    pub(super) version: u32,
    /// All of the newest is here.
    pub(super) whole: bool,
    pub(super) groups: BTreeMap<GroupTag, GroupSays>,
    /// Sum of their marks.
    digest: u64,
}

impl Said {
    pub(super) fn take(&mut self, message: &Message) {
        for says in &message.groups {
            let old = self.groups.insert(says.group, *says);
            let old = old.map_or(0, |old| old.mark());
            self.digest = self.digest.wrapping_sub(old).wrapping_add(says.mark());
        }
        self.whole = self.digest == message.state.digest;
        if self.whole {
            self.version = message.state.version;
        }
    }
}
