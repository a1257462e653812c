//! Changes of files under running daemons: what an administrator changes, where first, and what becomes of a part that goes from one
//! group to another. It must not know how nodes agree.

use super::files::{ADDRESSES, Edition, MEMBERS, Parts, TRAVELLERS, number, parts_of};
use super::happening::Happening;
use super::random::Random;
use super::scenario::{Shape, without};
use super::world::World;
use super::{MS, Nanos, SECOND};
use crate::cluster::{Event, RequestId};
use crate::config::model::Failback;
use std::time::Duration;

/// What is changed of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    AddressAdded,
    AddressRemoved,
    AddressReplaced,
    MemberAdded,
    MemberRemoved,
    MemberReplaced,
    /// Who may own it, and in which order.
    NodesChanged,
    FailbackChanged,
    /// Into this group, from where it is. `twice`: taken out first, and put in with another reload.
    PartMoved {
        part: usize,
        twice: bool,
    },
    GroupAdded,
    GroupRemoved,
}

/// Where, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// On all nodes in about the same moment.
    Everywhere,
    OneByOne,
    /// On one node only; later that one is mended.
    Mended {
        on: usize,
    },
    /// The same, but later the others follow.
    Followed {
        on: usize,
    },
    /// Everywhere, and one host loses its power in the middle of it.
    PowerLoss {
        of: usize,
        after: Nanos,
    },
}

impl Change {
    pub fn draw(random: &mut Random, place: usize) -> Change {
        let part = *random.pick(&TRAVELLERS);
        let twice = random.permille(600);
        match place {
            0 => Change::AddressAdded,
            1 => Change::AddressRemoved,
            2 => Change::AddressReplaced,
            3 => Change::MemberAdded,
            4 => Change::MemberRemoved,
            5 => Change::MemberReplaced,
            6 => Change::NodesChanged,
            7 => Change::FailbackChanged,
            8 | 9 => Change::PartMoved { part, twice },
            10 => Change::GroupAdded,
            _ => Change::GroupRemoved,
        }
    }

    pub const PLACES: usize = 12;
}

impl Spread {
    pub fn draw(random: &mut Random, host: usize, keepalive: Nanos) -> Spread {
        let after = random.magnitude(MS / 2, 8 * keepalive);
        match random.below(20) {
            0..=7 => Spread::Everywhere,
            8..=11 => Spread::OneByOne,
            12..=14 => Spread::Mended { on: host },
            15..=16 => Spread::Followed { on: host },
            _ => Spread::PowerLoss { of: host, after },
        }
    }

    pub fn without_node(self, gone: usize) -> Spread {
        match self {
            Spread::Mended { on } if on != gone => Spread::Mended { on: without(on, gone) },
            Spread::Followed { on } if on != gone => Spread::Followed { on: without(on, gone) },
            Spread::PowerLoss { of, after } if of != gone => Spread::PowerLoss { of: without(of, gone), after },
            Spread::OneByOne => Spread::OneByOne,
            _ => Spread::Everywhere,
        }
    }
}

impl World {
    /// Answers whether there was anything to change.
    pub fn edit_files(&mut self, group: usize, change: Change, spread: Spread, span: Nanos) -> bool {
        let mut changes = match change {
            Change::PartMoved { part, .. } => self.part_moved(group, part),
            _ => self.changed(group, change).into_iter().map(|shape| (group, shape)).collect(),
        };
        if changes.is_empty() {
            return false;
        }
        if let Change::PartMoved { part, twice: true } = change {
            let to = changes.pop().map_or(group, |(to, _)| to);
            self.at(self.now + span, Happening::PutIn { part, group: to });
        }
        let whole = !matches!(spread, Spread::Mended { .. } | Spread::Followed { .. });
        if whole {
            changes.iter().for_each(|(group, shape)| self.files.meant[*group] = shape.clone());
        }
        let groups: Vec<usize> = changes.iter().map(|(group, _)| *group).collect();
        let edition = self.files.edition(changes);
        match spread {
            Spread::Everywhere => self.spread(&edition, 50 * MS),
            Spread::OneByOne => self.spread(&edition, span),
            Spread::PowerLoss { of, after } => {
                self.spread(&edition, span / 8);
                self.at(self.now + after, Happening::PowerLoss { host: of, span });
            }
            Spread::Mended { on } => {
                self.at(self.now, Happening::Edit { host: on, edition: Box::new(edition) });
                self.at(self.now + span, Happening::Mend { host: on, groups, follow: false });
            }
            Spread::Followed { on } => {
                self.at(self.now, Happening::Edit { host: on, edition: Box::new(edition) });
                self.at(self.now + span, Happening::Mend { host: on, groups, follow: true });
            }
        }
        true
    }

    fn spread(&mut self, edition: &Edition, within: Nanos) {
        for host in 0..self.scenario.nodes {
            let at = self.now + self.random.below(within + 1);
            self.at(at, Happening::Edit { host, edition: Box::new(edition.clone()) });
        }
    }

    /// What the group's file is to say: nothing to do, or gone, or so.
    fn changed(&self, group: usize, change: Change) -> Option<Option<Shape>> {
        let meant = &self.files.meant[group];
        if change == Change::GroupAdded {
            let spare = &self.scenario.groups[group];
            // What belongs to another one by now stays there.
            let mut shape = Shape { spare: false, ..spare.clone() };
            shape.addresses.retain(|part| self.files.holder(*part).is_none());
            shape.members.retain(|part| self.files.holder(ADDRESSES + *part).is_none());
            let sound = self.is_sound(&shape);
            return (meant.is_none() && sound).then_some(Some(shape));
        }
        let mut shape = meant.clone()?;
        let before = shape.clone();
        match change {
            Change::GroupRemoved => {
                let last = self.files.meant.iter().flatten().count() < 2;
                return (!last).then_some(None);
            }
            Change::AddressAdded => shape.addresses.extend(self.files.unused(0..TRAVELLERS[0])),
            Change::AddressRemoved => drop(shape.addresses.pop()),
            Change::AddressReplaced => {
                shape.addresses.pop()?;
                shape.addresses.extend(self.files.unused(0..TRAVELLERS[0]));
            }
            Change::MemberAdded => shape.members.extend(self.unused_member()),
            Change::MemberRemoved => drop(shape.members.pop()),
            Change::MemberReplaced => {
                shape.members.pop()?;
                shape.members.extend(self.unused_member());
            }
            Change::NodesChanged => {
                let all = self.scenario.nodes;
                match (self.now / MS) % 3 {
                    0 if shape.nodes.len() > 1 => drop(shape.nodes.remove(0)),
                    1 if shape.nodes.len() < all => shape.nodes.extend((0..all).find(|it| !before.nodes.contains(it))),
                    _ => shape.nodes.reverse(),
                }
            }
            Change::FailbackChanged => {
                shape.failback = match shape.failback {
                    Failback::No => Failback::Yes,
                    Failback::Yes => Failback::After(Duration::from_secs(1)),
                    Failback::After(_) => Failback::No,
                }
            }
            Change::PartMoved { .. } | Change::GroupAdded => {}
        }
        (shape != before && self.is_sound(&shape)).then_some(Some(shape))
    }

    fn unused_member(&self) -> Option<usize> {
        self.files.unused(ADDRESSES..TRAVELLERS[1]).map(|part| part - ADDRESSES)
    }

    /// `check` refuses a group without addresses under `silence` below this deadtime.
    fn is_sound(&self, shape: &Shape) -> bool {
        !shape.nodes.is_empty()
            && (!shape.addresses.is_empty() || (!shape.members.is_empty() && self.scenario.deadtime() >= SECOND))
    }

    /// The group that has it loses it, and another one, `group` if possible, gets it; in this order.
    fn part_moved(&self, group: usize, part: usize) -> Vec<(usize, Option<Shape>)> {
        let count = self.scenario.groups.len();
        let holder = self.files.holder(part);
        let mut others = (0..count).map(|turn| (group + turn) % count);
        let fits = |other: &usize| holder != Some(*other) && self.files.meant[*other].is_some();
        let (Some(from), Some(to)) = (holder, others.find(fits)) else { return Vec::new() };
        let (Some(giver), Some(taker)) = (&self.files.meant[from], &self.files.meant[to]) else { return Vec::new() };
        let left = giver.without(part);
        if !self.is_sound(&left) {
            return Vec::new();
        }
        vec![(from, Some(left)), (to, Some(taker.with(part)))]
    }

    /// The second reload of a part that moves.
    pub fn put_in(&mut self, part: usize, group: usize) {
        let Some(shape) = self.files.meant[group].clone().filter(|_| self.files.holder(part).is_none()) else { return };
        // All of it ended with the rest.
        if self.now >= self.scenario.heal {
            return;
        }
        let shape = Some(shape.with(part));
        self.files.meant[group] = shape.clone();
        let edition = self.files.edition(vec![(group, shape)]);
        self.spread(&edition, 50 * MS);
    }

    /// What was changed on one node only is mended there, or everywhere else.
    pub fn mend(&mut self, host: usize, groups: Vec<usize>, follow: bool) {
        if self.now >= self.scenario.heal {
            return;
        }
        let here = |world: &World, group: usize| world.files.on(host, group).clone();
        let mut changes: Vec<_> = groups.iter().map(|group| (*group, here(self, *group))).collect();
        let meant = |world: &World| -> Vec<_> {
            groups.iter().map(|group| (*group, world.files.meant[*group].clone())).collect()
        };
        // What was changed elsewhere meanwhile might stand against it.
        let mut then = self.files.meant.clone();
        changes.iter().for_each(|(group, shape)| then[*group] = shape.clone());
        let mut parts: Vec<usize> = then.iter().flatten().flat_map(Shape::all).collect();
        parts.sort_unstable();
        let clash = parts.windows(2).any(|two| two[0] == two[1]);
        if !follow || clash {
            changes = meant(self);
        }
        changes.iter().for_each(|(group, shape)| self.files.meant[*group] = shape.clone());
        let edition = self.files.edition(changes);
        self.spread(&edition, 50 * MS);
    }

    /// One host's files change, and its daemon is told to read them.
    pub fn edit(&mut self, host: usize, edition: Box<Edition>) {
        let frozen = self.hosts[host].frozen_until > self.now;
        if self.now < self.scenario.heal && (frozen || !self.hosts[host].powered) {
            return self.at(self.now + SECOND, Happening::Edit { host, edition });
        }
        if !self.files.write(host, &edition) {
            return;
        }
        self.timeline.note(self.now, Some(host), || format!("FILES: {edition:?}"));
        self.watch.moves.event(self.now);
        self.ask_to_reload(host);
    }

    pub fn ask_to_reload(&mut self, host: usize) {
        let Some(daemon) = &self.hosts[host].daemon else { return };
        let incarnation = daemon.incarnation;
        let slow = if self.hosts[host].trouble.slow > 0 { 20 } else { 1 };
        let at = self.now + self.random.between(2 * MS, 60 * MS) * slow;
        self.at(at, Happening::Reload { host, incarnation });
    }

    /// The files were read.
    pub fn reload(&mut self, host: usize) {
        let event = match self.files.read(host) {
            Ok(groups) => {
                self.tell(host, Event::Pending(None));
                self.requests += 1;
                let request = RequestId(self.requests);
                self.asked(host, request);
                Event::Files { groups, request: Some(request) }
            }
            Err(mistakes) => Event::Pending(Some(mistakes)),
        };
        self.tell(host, event);
    }

    /// Every host's files as they are meant. What some host still has in another group is taken out first, as operators are told to.
    pub fn mend_files(&mut self) {
        for host in 0..self.scenario.nodes {
            if self.files.turn(host, false) {
                self.ask_to_reload(host);
            }
        }
        let mut elsewhere = self.parts_elsewhere();
        if self.scenario.off.is_some() {
            self.keep_one_address(&mut elsewhere);
        }
        if let Some(edition) = self.files.taken_out(&elsewhere) {
            self.write_everywhere(&edition);
            self.at(self.scenario.files, Happening::AllFiles);
        } else {
            self.all_files();
        }
    }

    /// A node that is never heard again could ask for none of a group's addresses, if all went: one of those that run is kept, as
    /// operators are told to.
    fn keep_one_address(&mut self, elsewhere: &mut [Parts]) {
        for (group, elsewhere) in elsewhere.iter_mut().enumerate() {
            for host in 0..self.scenario.nodes {
                let runs = self.hosts[host].form_of(group).map(|form| form.addresses.clone()).unwrap_or_default();
                let Some(shape) = &self.files.meant[group] else { continue };
                if runs.is_empty() || runs.iter().any(|address| shape.has(*address)) {
                    continue;
                }
                let kept = runs[0];
                let meant = self.files.meant.iter_mut().flatten();
                meant.for_each(|shape| *shape = shape.without(kept));
                self.files.meant[group] = self.files.meant[group].as_ref().map(|shape| shape.with(kept));
                *elsewhere &= !(1 << kept);
            }
        }
    }

    pub fn all_files(&mut self) {
        let edition = self.files.all_meant();
        self.write_everywhere(&edition);
    }

    fn write_everywhere(&mut self, edition: &Edition) {
        for host in 0..self.scenario.nodes {
            self.edit(host, Box::new(edition.clone()));
        }
    }

    /// By group: what some host runs, or had adopted, in another group.
    fn parts_elsewhere(&self) -> Vec<Parts> {
        let mut elsewhere = vec![0; self.scenario.groups.len()];
        for config in self.hosts.iter().flat_map(|host| host.configs()) {
            for group in &config.groups {
                let (has, parts) = (number(group.tag), parts_of(group));
                let others = elsewhere.iter_mut().enumerate().filter(|(other, _)| *other != has);
                others.for_each(|(_, elsewhere)| *elsewhere |= parts);
            }
        }
        elsewhere
    }
}

const _: () = assert!(TRAVELLERS[1] < ADDRESSES + MEMBERS);
