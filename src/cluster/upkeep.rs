//! What a running group needs: its addresses announced, and put back where somebody removed them; a new epoch where an old one
//! comes to light. It must not know who should own a group.

use super::action::{Action, OpId};
use super::event::{HeldPhase, Outcome};
use super::group::{OP_TIMEOUT, Phase, StartStep};
use super::report::Change;
use super::time::Time;
use super::timers::Timer;
use super::{Cluster, Record};
use crate::config::model::GroupId;
use crate::wire::Role;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Gaps between announcements, growing: neighbours that missed the first ones, without a flood.
const ANNOUNCE_GAPS: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
];

/// How an address came to be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Loss {
    /// Somebody else removed it.
    Removed,
    /// The kernel did, when its interface was switched off.
    Flushed,
}

/// A host that claims an address of a group that runs here is told of, and shown, for so long.
const CLAIMED_FOR: Duration = Duration::from_secs(60);

/// Such a claim.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Claimed {
    at: Time,
    told: Time,
    index: usize,
    mac: [u8; 6],
}

impl Cluster {
    /// No node of this cluster that is known to have the group, so nothing here can end it: people have to.
    pub(super) fn address_claimed(&mut self, id: GroupId, index: usize, mac: [u8; 6]) {
        if !self.group(id).rivals.is_empty() || index >= self.config.group(id).addresses.len() {
            return;
        }
        let at = self.now;
        let told = self.group(id).claimed.as_ref().map(|claimed| claimed.told);
        let told = told.filter(|told| at.since(*told) < CLAIMED_FOR);
        self.group_mut(id).claimed = Some(Claimed { at, told: told.unwrap_or(at), index, mac });
        if told.is_none() {
            self.report(Change::AddressClaimed { group: id, index, mac });
        }
    }

    /// For people: who claims what this node has.
    pub(super) fn claimed_in_words(&self, id: GroupId) -> Option<String> {
        let claimed = self.group(id).claimed.as_ref()?;
        let lasts = self.now.since(claimed.at) < CLAIMED_FOR && self.has_its_addresses(id);
        let address = self.config.group(id).addresses.get(claimed.index).filter(|_| lasts)?.address;
        let mac = claimed.mac.map(|byte| format!("{byte:02x}")).join(":");
        let name = &self.config.group(id).name;
        Some(format!(
            "group {name}: another host, {mac}, claims {address}, which is here; find it and take the address from it"
        ))
    }

    pub(super) fn announce_anew(&mut self, id: GroupId) {
        if !self.config.group(id).addresses.is_empty() {
            self.group_mut(id).announced = 0;
            self.announce(id);
        }
    }

    pub(super) fn announce(&mut self, id: GroupId) {
        if !matches!(self.group(id).phase, Phase::Running { .. }) {
            return;
        }
        // Who slept listens first: another may own it by now.
        if self.asleep {
            return self.timers.arm(Timer::Announce(id), self.now + ANNOUNCE_GAPS[0]);
        }
        let group = self.group_mut(id);
        let gap = ANNOUNCE_GAPS.get(group.announced).copied();
        group.announced += 1;
        self.out.push(Action::Announce { group: id });
        if let Some(gap) = gap {
            self.timers.arm(Timer::Announce(id), self.now + gap);
        }
    }

    /// Its addresses should be here: one that is missing was removed by somebody else.
    pub fn has_its_addresses(&self, id: GroupId) -> bool {
        matches!(self.group(id).phase, Phase::Running { .. } | Phase::Starting { step: StartStep::Members, .. })
    }

    pub(super) fn address_lost(&mut self, id: GroupId, index: usize, loss: Loss) {
        let known = index < self.config.group(id).addresses.len();
        if self.has_its_addresses(id) && known && !self.maintenance.on {
            self.repair(id, index, loss);
        }
    }

    /// It could not be put back: worth another try also where it is back without our doing.
    pub fn misses(&self, id: GroupId, index: usize) -> bool {
        self.group(id).missing.contains_key(&index)
    }

    pub(super) fn repair(&mut self, id: GroupId, index: usize, loss: Loss) {
        let under_way = self.group(id).repairs.values().any(|(other, _)| *other == index);
        // What is being removed is missed by whoever looks, and nobody puts it back. Nor does who slept, before it has listened, or is
        // beaten; the next look at the host's addresses finds what is missing then.
        let beaten = self.group(id).claim().is_some_and(|grant| self.beaten(id, &grant));
        if under_way || self.asleep || beaten || self.is_going(id, index) {
            return;
        }
        let op = self.op(OP_TIMEOUT);
        self.group_mut(id).repairs.insert(op, (index, loss));
        self.out.push(Action::RepairAddress { op, group: id, index });
    }

    /// Where the host's networks have the addresses that name no interface.
    pub(super) fn placed(&mut self, id: GroupId, interfaces: Vec<Option<String>>, fault: Option<String>) {
        // By another configuration than this node's present one.
        if interfaces.len() != self.config.group(id).addresses.len() {
            return;
        }
        let group = self.group_mut(id);
        let changed = group.no_place != fault;
        (group.places, group.no_place) = (interfaces, fault);
        self.speak |= changed;
    }

    /// The interface of an address, given or found.
    pub(super) fn dev(&self, id: GroupId, index: usize) -> Option<&str> {
        let given = self.config.group(id).addresses[index].interface.as_ref();
        given.or(self.group(id).places.get(index)?.as_ref()).map(String::as_str)
    }

    /// One that has no carrier, of the interfaces that the group needs.
    pub(super) fn interface_down(&self, id: GroupId) -> Option<&str> {
        let needed = self.config.group(id).interfaces.iter().chain(self.group(id).places.iter().flatten());
        needed.map(String::as_str).find(|name| self.view.interfaces.get(*name) != Some(&true))
    }

    /// The end of a repair, if `op` was one. One that failed is told once: the next look at the host's addresses tries it again.
    pub(super) fn put_back(&mut self, op: OpId, outcome: &Outcome) -> bool {
        let mut groups = self.groups.iter_mut();
        let Some((id, (index, loss))) = groups.find_map(|group| Some((group.id, group.repairs.remove(&op)?))) else {
            return false;
        };
        if !self.has_its_addresses(id) {
            return true;
        }
        let added = self.is_added(id, index);
        let group = self.group_mut(id);
        let change = match outcome {
            Outcome::Failed(reason) | Outcome::Refused(reason) | Outcome::Unknown(reason) => {
                let known = group.missing.insert(index, reason.clone()).is_some();
                let reason = reason.clone();
                (!known).then_some(match added {
                    true => Change::GroupNotChanged { group: id, reason },
                    false => Change::AddressNotRepaired { group: id, index, reason },
                })
            }
            Outcome::Done | Outcome::Inspected(_) => {
                group.missing.remove(&index);
                group.returned += usize::from(loss == Loss::Flushed);
                let last = !group.repairs.values().any(|(_, loss)| *loss == Loss::Flushed);
                match loss {
                    Loss::Removed if added => None,
                    Loss::Removed => Some(Change::AddressRepaired { group: id, index }),
                    // All of an interface's addresses go together: one word for them.
                    Loss::Flushed if !last => None,
                    Loss::Flushed => {
                        let count = std::mem::take(&mut group.returned);
                        Some(Change::AddressesReturned { group: id, count })
                    }
                }
            }
        };
        if let Some(change) = change {
            self.report(change);
            self.speak = true;
        }
        true
    }

    /// A record came to light that is higher, and over: its owner says that it runs nothing. This node goes on under a new epoch
    /// rather than stop what serves.
    pub(super) fn outlive(&mut self, id: GroupId) {
        let (Some(record), Phase::Running { grant }) = (self.group(id).record, &self.group(id).phase) else { return };
        let given_elsewhere = record.heir.is_some_and(|heir| heir != self.config.me);
        let from = record.grant.node;
        // Who gave it up by other files may have a part of it up in another group by now.
        let same = self.config.group(id).digest;
        let idle = self.view.peer(from).is_some_and(|peer| peer.state.heard())
            && self.view.says(from, id).is_some_and(|says| says.role == Role::Idle && says.config == same);
        // What it said may be long over where more of it waits to be read.
        let stale = self.asleep || self.has_unread() || self.now.since(self.read_at) > self.config.timing.keepalive;
        if record.grant == *grant || !record.released || given_elsewhere || !idle || stale {
            return;
        }
        let grant = self.new_grant(id);
        self.set_record(id, Record::owned(grant));
        self.group_mut(id).phase = Phase::Running { grant };
        let op = self.op(OP_TIMEOUT);
        self.out.push(Action::Hold { op, group: id, grant, phase: HeldPhase::Granted });
        self.report(Change::GroupRenewed { group: id, epoch: grant.epoch, peer: from });
    }
}
