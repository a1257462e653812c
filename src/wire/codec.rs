//! The bytes of a [`Message`]. All numbers are big-endian. It must not know keys: [`super::seal`] wraps what it makes.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+---------------+---------------+
//! |      'H'      |      'F'      |  version = 1  | kind = 1 beat |
//! +---------------+---------------+---------------+---------------+
//! |                    cluster tag (8 bytes)                      |
//! +-------------------------------+-------------------------------+
//! |          sender tag           |  node flags   |  echo count   |
//! +-------------------------------+---------------+---------------+
//! |                    incarnation (8 bytes)                      |
//! |                    sequence (8 bytes)                         |
//! |                    sent at (8 bytes, ns)                      |
//! |                    boot id (8 bytes)                          |
//! |                    cluster digest (4 bytes)                   |
//! |                    groups digest (4 bytes)                    |
//! +---------------------------------------------------------------+
//!   echo:   node tag (2) | incarnation (8) | sequence (8)
//!   groups: count (1), then each:
//!           group tag (4) | role (1) | flags (1)
//!           [record: epoch (4) | node tag (2) | boot id (8)]   if flag RECORD
//!           [heir of the record: node tag (2)]                 if flag HEIR
//!           [order: version (4)]                               if flag ORDER
//! ```
//!
//! With one peer, one group and its seal (17 bytes) a heartbeat has 112 bytes; each further group adds 20.

use super::{Echo, GroupSays, Message, NodeFlags, RecordSays, Role};
use crate::cluster::grant::{BootId, Epoch, Incarnation, Order};
use crate::config::model::{GroupTag, NodeTag};

/// Longest message, seal included. Fits the smallest MTU in use with room for headers.
pub const MAX_LEN: usize = 1200;
/// Most groups that fit with every optional part, 32 nodes' echoes left aside: see the test.
pub const MAX_GROUPS: usize = 40;

const MAGIC: [u8; 2] = *b"HF";
const VERSION: u8 = 1;
const KIND_BEAT: u8 = 1;

const NODE_JOINED: u8 = 1;
const NODE_LEAVING: u8 = 2;
const NODE_LEFT: u8 = 4;

const GROUP_ELIGIBLE: u8 = 1;
const GROUP_BANNED: u8 = 2;
const GROUP_RECORD: u8 = 4;
const GROUP_RELEASED: u8 = 8;
const GROUP_HEIR: u8 = 16;
const GROUP_ORDER: u8 = 32;
const GROUP_ORDER_STOPPED: u8 = 64;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("not a hafailover packet")]
    Magic,
    #[error("protocol version {0}; this node speaks {VERSION}")]
    Version(u8),
    #[error("unknown kind of message {0}")]
    Kind(u8),
    #[error("ends too early")]
    Short,
    #[error("bytes left over at its end")]
    Long,
    #[error("unknown role {0}")]
    Role(u8),
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
}

pub fn encode(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, KIND_BEAT]);
    out.extend_from_slice(&message.cluster_tag.to_be_bytes());
    out.extend_from_slice(&message.sender.0.to_be_bytes());
    out.push(node_flags(message.flags));
    out.push(message.echoes.len() as u8);
    for number in [message.incarnation.0, message.sequence, message.sent_at, message.boot.0] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&message.cluster_digest.to_be_bytes());
    out.extend_from_slice(&message.groups_digest.to_be_bytes());
    for echo in &message.echoes {
        out.extend_from_slice(&echo.node.0.to_be_bytes());
        out.extend_from_slice(&echo.incarnation.0.to_be_bytes());
        out.extend_from_slice(&echo.sequence.to_be_bytes());
    }
    out.push(message.groups.len() as u8);
    for group in &message.groups {
        encode_group(&mut out, group);
    }
    out
}

fn node_flags(flags: NodeFlags) -> u8 {
    bit(flags.joined, NODE_JOINED) | bit(flags.leaving, NODE_LEAVING) | bit(flags.left, NODE_LEFT)
}

fn bit(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

fn encode_group(out: &mut Vec<u8>, group: &GroupSays) {
    let ordered = group.order != Order::default();
    out.extend_from_slice(&group.group.0.to_be_bytes());
    out.push(match group.role {
        Role::Idle => 0,
        Role::Unknown => 1,
        Role::Starting => 2,
        Role::Running => 3,
        Role::Stopping => 4,
    });
    out.push(
        bit(group.eligible, GROUP_ELIGIBLE)
            | bit(group.banned, GROUP_BANNED)
            | bit(group.record.is_some(), GROUP_RECORD)
            | bit(group.record.is_some_and(|record| record.released), GROUP_RELEASED)
            | bit(group.record.is_some_and(|record| record.heir.is_some()), GROUP_HEIR)
            | bit(ordered, GROUP_ORDER)
            | bit(group.order.stopped, GROUP_ORDER_STOPPED),
    );
    if let Some(record) = group.record {
        out.extend_from_slice(&record.epoch.0.to_be_bytes());
        out.extend_from_slice(&record.node.0.to_be_bytes());
        out.extend_from_slice(&record.boot.0.to_be_bytes());
        if let Some(heir) = record.heir {
            out.extend_from_slice(&heir.0.to_be_bytes());
        }
    }
    if ordered {
        out.extend_from_slice(&group.order.version.to_be_bytes());
    }
}

/// The cluster tag, read without trusting the rest: tells another cluster's packet from garbage.
pub fn peek_cluster(body: &[u8]) -> Option<u64> {
    let mut input = Input(body);
    let head = input.take::<4>().ok()?;
    (head[..2] == MAGIC).then_some(())?;
    input.u64().ok()
}

pub fn decode(body: &[u8]) -> Result<Message, DecodeError> {
    let mut input = Input(body);
    if input.take::<2>()? != MAGIC {
        return Err(DecodeError::Magic);
    }
    match input.u8()? {
        VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    match input.u8()? {
        KIND_BEAT => {}
        other => return Err(DecodeError::Kind(other)),
    }
    let cluster_tag = input.u64()?;
    let sender = NodeTag(input.u16()?);
    let flags = input.u8()?;
    if flags & !(NODE_JOINED | NODE_LEAVING | NODE_LEFT) != 0 {
        return Err(DecodeError::Flags(flags));
    }
    let echo_count = input.u8()?;
    let mut message = Message {
        cluster_tag,
        sender,
        incarnation: Incarnation(input.u64()?),
        sequence: input.u64()?,
        sent_at: input.u64()?,
        boot: BootId(input.u64()?),
        cluster_digest: input.u32()?,
        groups_digest: input.u32()?,
        flags: NodeFlags {
            joined: flags & NODE_JOINED != 0,
            leaving: flags & NODE_LEAVING != 0,
            left: flags & NODE_LEFT != 0,
        },
        echoes: Vec::new(),
        groups: Vec::new(),
    };
    for _ in 0..echo_count {
        message.echoes.push(Echo {
            node: NodeTag(input.u16()?),
            incarnation: Incarnation(input.u64()?),
            sequence: input.u64()?,
        });
    }
    for _ in 0..input.u8()? {
        message.groups.push(decode_group(&mut input)?);
    }
    if input.0.is_empty() { Ok(message) } else { Err(DecodeError::Long) }
}

fn decode_group(input: &mut Input<'_>) -> Result<GroupSays, DecodeError> {
    let group = GroupTag(input.u32()?);
    let role = match input.u8()? {
        0 => Role::Idle,
        1 => Role::Unknown,
        2 => Role::Starting,
        3 => Role::Running,
        4 => Role::Stopping,
        other => return Err(DecodeError::Role(other)),
    };
    let flags = input.u8()?;
    let set = |bit: u8| flags & bit != 0;
    // A flag that says something of a part that is not there has no meaning.
    if flags & 0x80 != 0
        || (set(GROUP_RELEASED) && !set(GROUP_RECORD))
        || (set(GROUP_HEIR) && !set(GROUP_RELEASED))
        || (set(GROUP_ORDER_STOPPED) && !set(GROUP_ORDER))
    {
        return Err(DecodeError::Flags(flags));
    }
    let record = if set(GROUP_RECORD) {
        Some(RecordSays {
            epoch: Epoch(input.u32()?),
            node: NodeTag(input.u16()?),
            boot: BootId(input.u64()?),
            released: set(GROUP_RELEASED),
            heir: if set(GROUP_HEIR) { Some(NodeTag(input.u16()?)) } else { None },
        })
    } else {
        None
    };
    let version = if set(GROUP_ORDER) { input.u32()? } else { 0 };
    // Version 0 is "nobody said anything", which is said by leaving it out.
    if set(GROUP_ORDER) && version == 0 {
        return Err(DecodeError::Flags(flags));
    }
    Ok(GroupSays {
        group,
        role,
        eligible: set(GROUP_ELIGIBLE),
        banned: set(GROUP_BANNED),
        record,
        order: Order { version, stopped: set(GROUP_ORDER_STOPPED) },
    })
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::seal::SEAL_LEN;

    fn message(groups: usize, full: bool) -> Message {
        let group = |n: usize| GroupSays {
            group: GroupTag(0x1000 + n as u32),
            role: Role::Running,
            eligible: true,
            banned: full,
            record: Some(RecordSays {
                epoch: Epoch(7),
                node: NodeTag(3),
                boot: BootId(9),
                released: full,
                heir: full.then_some(NodeTag(4)),
            }),
            order: Order { version: u32::from(full), stopped: full },
        };
        Message {
            cluster_tag: 0x0123_4567_89ab_cdef,
            sender: NodeTag(0xbeef),
            incarnation: Incarnation(1),
            sequence: 2,
            sent_at: 3,
            boot: BootId(4),
            cluster_digest: 5,
            groups_digest: 6,
            flags: NodeFlags { joined: true, leaving: full, left: full },
            echoes: vec![Echo { node: NodeTag(8), incarnation: Incarnation(10), sequence: 11 }],
            groups: (0..groups).map(group).collect(),
        }
    }

    #[test]
    fn what_was_said_is_what_is_heard() {
        for message in [message(0, false), message(1, false), message(3, true)] {
            assert_eq!(decode(&encode(&message)), Ok(message));
        }
    }

    #[test]
    fn a_heartbeat_of_two_nodes_stays_small() {
        assert_eq!(encode(&message(1, false)).len() + SEAL_LEN, 112);
        assert!(encode(&message(2, false)).len() + SEAL_LEN < 150);
    }

    #[test]
    fn the_most_groups_with_all_they_can_say_fit() {
        let mut largest = message(MAX_GROUPS, true);
        // Two nodes: one peer, two candidates.
        largest.echoes = vec![largest.echoes[0]; 2];
        assert!(encode(&largest).len() + SEAL_LEN <= MAX_LEN);
    }

    #[test]
    fn every_cut_and_every_surplus_is_refused() {
        let bytes = encode(&message(2, true));
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode(&longer), Err(DecodeError::Long));
    }

    #[test]
    fn no_bytes_make_it_panic_and_what_decodes_encodes_to_itself() {
        let valid = encode(&message(2, true));
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..200_000 {
            // xorshift64 (Marsaglia 2003): enough to vary bytes, the same each run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let mut bytes = valid.clone();
            let at = state as usize % bytes.len();
            bytes[at] = (state >> 32) as u8;
            bytes.truncate(bytes.len() - (state >> 40) as usize % 3);
            if let Ok(message) = decode(&bytes) {
                assert_eq!(encode(&message), bytes);
            }
        }
    }
}
