//! The bytes of a [`Message`]. All numbers are big-endian. It must not know keys: [`super::seal`] wraps what it makes.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+---------------+---------------+
//! |      'H'      |      'F'      |  version = 3  | kind = 1 beat |
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
//! |                    state version (4 bytes)                    |
//! |                    state digest (8 bytes)                     |
//! +---------------------------------------------------------------+
//!   [maintenance: version (4)]         if node flag MAINTENANCE
//!   echo:   node tag (2) | incarnation (8) | sequence (8) | holds version (4)
//!   groups: count (1), then each:
//!           group tag (4) | role (1) | flags (2) | config digest (4) | parts digest (4)
//!           [record: epoch (4) | node tag (2) | boot id (8)]   if flag RECORD
//!           [heir of the record: node tag (2)]                 if flag HEIR
//!           [order: version (4)]                               if flag ORDER
//!           [pending config digest (4)]                        if flag PENDING
//!           [wish: node tag (2)]                               if flag WISH
//! ```
//!
//! With one peer and its seal (17 bytes) a heartbeat at rest has 104 bytes, however many groups there are. A group that changed
//! adds 29 and more.

use super::{Echo, GroupSays, Message, NodeFlags, RecordSays, Role, StateMark};
use crate::cluster::grant::{BootId, Epoch, Incarnation, Maintenance, Order};
use crate::config::model::{GroupTag, NodeTag};
use crate::wire::seal::SEAL_LEN;

/// Longest message, seal included. Fits the smallest MTU in use (1,280 bytes, RFC 8200) with room for headers.
pub const MAX_LEN: usize = 1200;

const MAGIC: [u8; 2] = *b"HF";
const VERSION: u8 = 3;
const KIND_BEAT: u8 = 1;

const NODE_JOINED: u8 = 1;
const NODE_LEAVING: u8 = 2;
const NODE_LEFT: u8 = 4;
const NODE_STANDBY: u8 = 8;
const NODE_MAINTENANCE: u8 = 16;
const NODE_MAINTENANCE_ON: u8 = 32;
const NODE_ALL: u8 = 63;

const GROUP_ELIGIBLE: u16 = 1;
const GROUP_BANNED: u16 = 2;
const GROUP_RECORD: u16 = 4;
const GROUP_RELEASED: u16 = 8;
const GROUP_HEIR: u16 = 16;
const GROUP_ORDER: u16 = 32;
const GROUP_ORDER_STOPPED: u16 = 64;
const GROUP_PENDING: u16 = 128;
const GROUP_WISH: u16 = 256;
const GROUP_PARKED: u16 = 512;
const GROUP_CONTENDED: u16 = 1024;
const GROUP_ALL: u16 = 2047;

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
    #[error("a version 0, which nobody says")]
    Unsaid,
    #[error("unknown flags {0:#06x}")]
    Flags(u16),
}

pub fn encode(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, KIND_BEAT]);
    out.extend_from_slice(&message.cluster_tag.to_be_bytes());
    out.extend_from_slice(&message.sender.0.to_be_bytes());
    out.push(node_flags(message));
    out.push(message.echoes.len() as u8);
    for number in [message.incarnation.0, message.sequence, message.sent_at, message.boot.0] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&message.cluster_digest.to_be_bytes());
    out.extend_from_slice(&message.state.version.to_be_bytes());
    out.extend_from_slice(&message.state.digest.to_be_bytes());
    if message.maintenance.version != 0 {
        out.extend_from_slice(&message.maintenance.version.to_be_bytes());
    }
    for echo in &message.echoes {
        out.extend_from_slice(&echo.node.0.to_be_bytes());
        out.extend_from_slice(&echo.incarnation.0.to_be_bytes());
        out.extend_from_slice(&echo.sequence.to_be_bytes());
        out.extend_from_slice(&echo.holds.to_be_bytes());
    }
    out.push(message.groups.len() as u8);
    for group in &message.groups {
        encode_group(&mut out, group);
    }
    out
}

fn node_flags(message: &Message) -> u8 {
    let flags = message.flags;
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    bit(flags.joined, NODE_JOINED)
        | bit(flags.leaving, NODE_LEAVING)
        | bit(flags.left, NODE_LEFT)
        | bit(flags.standby, NODE_STANDBY)
        | bit(message.maintenance.version != 0, NODE_MAINTENANCE)
        | bit(message.maintenance.on, NODE_MAINTENANCE_ON)
}

fn bit(set: bool, bit: u16) -> u16 {
    if set { bit } else { 0 }
}

/// How many bytes of groups a message with so many echoes has room for.
pub fn room(echoes: usize) -> usize {
    MAX_LEN - SEAL_LEN - HEAD_LEN - echoes * ECHO_LEN
}

/// Everything but echoes and groups, with all that is optional.
const HEAD_LEN: usize = 4 + 8 + 4 + 4 * 8 + 4 + 12 + 4 + 1;
const ECHO_LEN: usize = 22;

impl GroupSays {
    /// Bytes that it takes on the wire.
    pub fn wire_len(&self) -> usize {
        let record = self.record.map_or(0, |record| 14 + if record.heir.is_some() { 2 } else { 0 });
        let optional = [(self.order != Order::default(), 4), (self.pending.is_some(), 4), (self.wish.is_some(), 2)];
        15 + record + optional.iter().filter(|(there, _)| *there).map(|(_, length)| length).sum::<usize>()
    }

    /// The hash of its bytes. Messages are sealed, so nobody chooses them.
    pub fn mark(&self) -> u64 {
        let mut bytes = Vec::with_capacity(40);
        encode_group(&mut bytes, self);
        fnv1a(&bytes)
    }
}

/// FNV-1a, 64 bits (RFC 9923).
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
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
    let flags = bit(group.eligible, GROUP_ELIGIBLE)
        | bit(group.banned, GROUP_BANNED)
        | bit(group.record.is_some(), GROUP_RECORD)
        | bit(group.record.is_some_and(|record| record.released), GROUP_RELEASED)
        | bit(group.record.is_some_and(|record| record.heir.is_some()), GROUP_HEIR)
        | bit(ordered, GROUP_ORDER)
        | bit(group.order.stopped, GROUP_ORDER_STOPPED)
        | bit(group.pending.is_some(), GROUP_PENDING)
        | bit(group.wish.is_some(), GROUP_WISH)
        | bit(group.parked, GROUP_PARKED)
        | bit(group.contended, GROUP_CONTENDED);
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&group.config.to_be_bytes());
    out.extend_from_slice(&group.parts.to_be_bytes());
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
    if let Some(pending) = group.pending {
        out.extend_from_slice(&pending.to_be_bytes());
    }
    if let Some(wish) = group.wish {
        out.extend_from_slice(&wish.0.to_be_bytes());
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
    let maintained = flags & NODE_MAINTENANCE != 0;
    if flags & !NODE_ALL != 0 || (flags & NODE_MAINTENANCE_ON != 0 && !maintained) {
        return Err(DecodeError::Flags(flags.into()));
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
        state: StateMark { version: input.u32()?, digest: input.u64()? },
        flags: NodeFlags {
            joined: flags & NODE_JOINED != 0,
            leaving: flags & NODE_LEAVING != 0,
            left: flags & NODE_LEFT != 0,
            standby: flags & NODE_STANDBY != 0,
        },
        maintenance: Maintenance::default(),
        echoes: Vec::new(),
        groups: Vec::new(),
    };
    if maintained {
        message.maintenance = Maintenance { version: input.given()?, on: flags & NODE_MAINTENANCE_ON != 0 };
    }
    for _ in 0..echo_count {
        message.echoes.push(Echo {
            node: NodeTag(input.u16()?),
            incarnation: Incarnation(input.u64()?),
            sequence: input.u64()?,
            holds: input.u32()?,
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
    let flags = input.u16()?;
    let set = |bit: u16| flags & bit != 0;
    // A flag that says something of a part that is not there has no meaning.
    if flags & !GROUP_ALL != 0
        || (set(GROUP_RELEASED) && !set(GROUP_RECORD))
        || (set(GROUP_HEIR) && !set(GROUP_RELEASED))
        || (set(GROUP_ORDER_STOPPED) && !set(GROUP_ORDER))
    {
        return Err(DecodeError::Flags(flags));
    }
    let (config, parts) = (input.u32()?, input.u32()?);
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
    let version = if set(GROUP_ORDER) { input.given()? } else { 0 };
    Ok(GroupSays {
        group,
        role,
        eligible: set(GROUP_ELIGIBLE),
        banned: set(GROUP_BANNED),
        record,
        order: Order { version, stopped: set(GROUP_ORDER_STOPPED) },
        config,
        parts,
        pending: if set(GROUP_PENDING) { Some(input.u32()?) } else { None },
        wish: if set(GROUP_WISH) { Some(NodeTag(input.u16()?)) } else { None },
        parked: set(GROUP_PARKED),
        contended: set(GROUP_CONTENDED),
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

    /// A version that is there. Zero is "nobody said anything", which is said by leaving it out.
    fn given(&mut self) -> Result<u32, DecodeError> {
        Some(self.u32()?).filter(|version| *version != 0).ok_or(DecodeError::Unsaid)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            config: 17,
            parts: 19,
            pending: full.then_some(18),
            wish: full.then_some(NodeTag(5)),
            parked: full,
            contended: full,
        };
        Message {
            cluster_tag: 0x0123_4567_89ab_cdef,
            sender: NodeTag(0xbeef),
            incarnation: Incarnation(1),
            sequence: 2,
            sent_at: 3,
            boot: BootId(4),
            cluster_digest: 5,
            state: StateMark { version: 6, digest: 7 },
            flags: NodeFlags { joined: true, leaving: full, left: full, standby: full },
            maintenance: Maintenance { version: u32::from(full), on: full },
            echoes: vec![Echo { node: NodeTag(8), incarnation: Incarnation(10), sequence: 11, holds: 12 }],
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
        assert_eq!(encode(&message(0, false)).len() + SEAL_LEN, 104);
        assert_eq!(encode(&message(1, false)).len() + SEAL_LEN, 133);
    }

    #[test]
    fn what_is_said_to_fit_fits() {
        for (echoes, full) in [(1, false), (2, true), (31, true), (40, true)] {
            let one = message(1, full).groups[0];
            let mut largest = message(room(echoes) / one.wire_len(), full);
            largest.echoes = vec![largest.echoes[0]; echoes];
            let length = encode(&largest).len() + SEAL_LEN;
            assert!(length <= MAX_LEN && length + one.wire_len() + 4 > MAX_LEN, "{echoes} echoes: {length} bytes");
        }
    }

    #[test]
    fn a_group_has_the_length_it_says_and_a_mark_of_all_it_says() {
        let plain = message(1, false).groups[0];
        let full = message(1, true).groups[0];
        for says in [plain, full] {
            let mut bytes = Vec::new();
            encode_group(&mut bytes, &says);
            assert_eq!(says.wire_len(), bytes.len());
        }
        let changes: [fn(&mut GroupSays); 6] = [
            |says| says.role = Role::Idle,
            |says| says.eligible = false,
            |says| says.config = 1,
            |says| says.pending = None,
            |says| says.wish = None,
            |says| says.order.version += 1,
        ];
        for change in changes {
            let mut other = full;
            change(&mut other);
            assert_ne!(other.mark(), full.mark(), "{other:?}");
        }
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
