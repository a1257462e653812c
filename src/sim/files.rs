//! The groups' files: what an administrator means, what stands on each host's disk, and how it is read. Parts (addresses, members)
//! have numbers of their own, for a part may go from one group to another. It must not know when files change, nor the heart.

use super::scenario::{MOST_NODES, Shape};
use crate::config::model::{Config, GroupConfig, GroupTag};

/// Addresses come first among the parts, then members. The last addresses are the groups' own for need.
pub const ADDRESSES: usize = 24;
pub const MEMBERS: usize = 12;
pub const PARTS: usize = ADDRESSES + MEMBERS;
pub const MOST_GROUPS: usize = 4;
/// An address and a member that go from group to group.
pub const TRAVELLERS: [usize; 2] = [16, ADDRESSES + 8];
const RESERVED: usize = 20;
const FIRST_TAG: u32 = 100;

/// A set of parts.
pub type Parts = u64;

pub fn tag(group: usize) -> GroupTag {
    GroupTag(FIRST_TAG + group as u32)
}

/// The world's number of a group, as its files name it.
pub fn number(tag: GroupTag) -> usize {
    (tag.0 - FIRST_TAG) as usize
}

pub fn member_name(member: usize) -> String {
    format!("{member}.service")
}

pub fn member_number(name: &str) -> Option<usize> {
    name.strip_suffix(".service")?.parse().ok()
}

/// For people.
pub fn part_name(part: usize) -> String {
    if part < ADDRESSES { format!("address {part}") } else { format!("member {}", part - ADDRESSES) }
}

/// The numbers of a group's parts.
pub fn parts_of(group: &GroupConfig) -> Parts {
    let addresses = group.addresses.iter().map(|address| address_number(&address.address));
    let members = group.members.iter().filter_map(|name| Some(ADDRESSES + member_number(name)?));
    addresses.chain(members).fold(0, |parts, part| parts | 1 << part)
}

pub fn address_number(address: &std::net::IpAddr) -> usize {
    match address {
        std::net::IpAddr::V4(address) => usize::from(address.octets()[3]),
        std::net::IpAddr::V6(_) => 0,
    }
}

/// The file of one group on one host: which edition of it, and what it says.
#[derive(Clone, Debug, Default)]
struct File {
    edition: u64,
    shape: Option<Shape>,
}

/// A new edition of some groups' files; without a shape, the group is gone.
pub type Edition = Vec<(usize, u64, Option<Shape>)>;

#[derive(Clone, Debug)]
pub struct Files {
    /// What the administrator means the files to be everywhere.
    pub meant: Vec<Option<Shape>>,
    on: Vec<Vec<File>>,
    /// Somebody turned every preference round in one host's files.
    turned: [bool; MOST_NODES],
    editions: u64,
}

impl Files {
    pub fn new(shapes: &[Shape], nodes: usize) -> Files {
        let meant: Vec<Option<Shape>> = shapes.iter().map(|shape| (!shape.spare).then(|| shape.clone())).collect();
        let file = |shape: &Option<Shape>| File { edition: 0, shape: shape.clone() };
        let on = vec![meant.iter().map(file).collect(); nodes];
        Files { meant, on, turned: [false; MOST_NODES], editions: 0 }
    }

    /// Some groups' files as they are to be from now on, here or there.
    pub fn edition(&mut self, changes: Vec<(usize, Option<Shape>)>) -> Edition {
        self.editions += 1;
        changes.into_iter().map(|(group, shape)| (group, self.editions, shape)).collect()
    }

    /// Writes an edition down, unless a newer one is there. Answers whether anything changed.
    pub fn write(&mut self, host: usize, edition: &Edition) -> bool {
        let mut changed = false;
        for (group, edition, shape) in edition {
            let file = &mut self.on[host][*group];
            if file.edition < *edition {
                changed |= file.shape != *shape;
                *file = File { edition: *edition, shape: shape.clone() };
            }
        }
        changed
    }

    pub fn on(&self, host: usize, group: usize) -> &Option<Shape> {
        &self.on[host][group].shape
    }

    pub fn is_turned(&self, host: usize) -> bool {
        self.turned[host]
    }

    /// Answers whether that changes anything.
    pub fn turn(&mut self, host: usize, turned: bool) -> bool {
        std::mem::replace(&mut self.turned[host], turned) != turned
    }

    /// Everything as it is meant.
    pub fn all_meant(&mut self) -> Edition {
        let all = self.meant.iter().cloned().enumerate().collect();
        self.edition(all)
    }

    /// As it is meant, but without what `elsewhere` some host still has in another group: `elsewhere[group]`, the parts that are in
    /// other groups than that. Nothing, if there is none of that kind.
    pub fn taken_out(&mut self, elsewhere: &[Parts]) -> Option<Edition> {
        let out = |group: usize, part: usize| elsewhere[group] & (1 << part) != 0;
        let mut changes = Vec::new();
        let mut any = false;
        for (group, shape) in self.meant.iter().enumerate() {
            let mut shape = shape.clone();
            if let Some(shape) = &mut shape {
                let before = shape.addresses.len() + shape.members.len();
                shape.addresses.retain(|address| !out(group, *address));
                shape.members.retain(|member| !out(group, ADDRESSES + *member));
                any |= shape.addresses.len() + shape.members.len() != before;
                if shape.addresses.is_empty() {
                    shape.addresses.push(RESERVED + group);
                }
            }
            changes.push((group, shape));
        }
        any.then(|| self.edition(changes))
    }

    /// As a daemon reads them; or why it cannot.
    pub fn read(&self, host: usize) -> Result<Vec<GroupConfig>, String> {
        let mut known: Parts = 0;
        let mut groups = Vec::new();
        for (group, file) in self.on[host].iter().enumerate() {
            let Some(shape) = &file.shape else { continue };
            let mut shape = shape.clone();
            if self.turned[host] {
                shape.nodes.reverse();
            }
            let config = shape.config(group);
            let parts = parts_of(&config);
            if parts & known != 0 {
                return Err("a part is in two groups".into());
            }
            known |= parts;
            groups.push(config);
        }
        Ok(groups)
    }

    /// A part that no group's file names anywhere as it is meant, among `range`.
    pub fn unused(&self, mut range: std::ops::Range<usize>) -> Option<usize> {
        range.find(|part| self.holder(*part).is_none())
    }

    /// The group that has a part, as it is meant.
    pub fn holder(&self, part: usize) -> Option<usize> {
        self.meant.iter().position(|shape| shape.as_ref().is_some_and(|shape| shape.has(part)))
    }
}

/// What a daemon that starts runs by: what was adopted, else the files.
pub fn at_start(base: Config, adopted: Option<&Config>, files: Vec<GroupConfig>) -> Config {
    let adopted = adopted.map(|config| config.groups.iter().filter(|group| !group.is_gone()).cloned().collect());
    Config { groups: adopted.unwrap_or(files), ..base }
}
