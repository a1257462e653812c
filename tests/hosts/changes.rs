//! The kinds of changes that rows look for in a journal, or must not find there. Each is checked against the catalog, and that by
//! a unit test against what is written: a row that looks for what nobody writes any more fails. It must not know rows.

use crate::host::Entry;

const CATALOG: &str = include_str!("../../packaging/hafailover.catalog");

/// The number that src/journal/render.rs gives it, and how the catalog's subject ends.
#[derive(Clone, Copy, Debug)]
pub struct Change(u16, &'static str);

pub const NODE_LATE: Change = Change(2, " are late");
pub const NODE_LOST: Change = Change(4, " is dead");
pub const LINK_USABLE: Change = Change(40, " is usable");
pub const LINK_SILENT: Change = Change(42, "is not heard on link @HAFAILOVER_LINK@");
pub const LINK_HEARD: Change = Change(43, "is heard on link @HAFAILOVER_LINK@ again");
pub const STARTING: Change = Change(60, " is starting on @HAFAILOVER_NODE@");
pub const RUNNING: Change = Change(61, " runs here");
pub const STOPPING: Change = Change(63, " is stopping here");
pub const RELEASED: Change = Change(64, " is released");
pub const REPAIRED: Change = Change(69, "An address of group @HAFAILOVER_GROUP@ was put back");
pub const RETURNED: Change = Change(79, "IPv6 addresses of group @HAFAILOVER_GROUP@ were put back");
pub const BLOCKED: Change = Change(82, " is blocked");
pub const MEMBER_DOWN: Change = Change(86, " is down");
pub const NOT_GUARDED: Change = Change(87, " is not guarded on this node");
pub const CLAIMED: Change = Change(89, "Another host claims an address of group @HAFAILOVER_GROUP@");
pub const NOT_REPAIRED: Change = Change(88, " cannot be put back");

impl Change {
    fn id(self) -> String {
        let Change(number, subject) = self;
        let id = format!("6f1d83c24b0e4d559a7c41e82d30{number:04x}");
        let explained = CATALOG.split_once(&format!("\n-- {id}\n")).and_then(|(_, rest)| rest.lines().next());
        assert!(explained.is_some_and(|line| line.ends_with(subject)), "{self:?} is {explained:?} in the catalog");
        id
    }

    pub fn is(self, entry: &Entry) -> bool {
        entry.field("MESSAGE_ID") == Some(&self.id())
    }
}

/// The first entry about one of these.
pub fn first_of<'said>(said: &'said [Entry], kinds: &[Change]) -> Option<&'said Entry> {
    said.iter().find(|entry| kinds.iter().any(|kind| kind.is(entry)))
}

/// Matches the entries about one kind of change.
pub fn change(kind: Change) -> String {
    format!("MESSAGE_ID={}", kind.id())
}
