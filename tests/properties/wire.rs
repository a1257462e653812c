//! Every message that can be said arrives as it was said.

use crate::holds::keys;
use hafailover::cluster::{BootId, Epoch, Incarnation, Maintenance, Order};
use hafailover::config::model::{GroupTag, NodeTag};
use hafailover::wire::codec::{decode, encode};
use hafailover::wire::{Echo, GroupSays, Message, NodeFlags, RecordSays, Role, StateMark};
use proptest::collection::vec;
use proptest::prelude::*;

fn group() -> impl Strategy<Value = GroupSays> {
    let role = prop::sample::select(vec![Role::Idle, Role::Unknown, Role::Starting, Role::Running, Role::Stopping]);
    let record = (any::<u32>(), any::<u16>(), any::<u64>(), any::<Option<Option<u16>>>()).prop_map(
        |(epoch, node, boot, released)| RecordSays {
            epoch: Epoch(epoch),
            node: NodeTag(node),
            boot: BootId(boot),
            released: released.is_some(),
            // Only after a release.
            heir: released.flatten().map(NodeTag),
        },
    );
    let configs = any::<(u32, u32, Option<u32>, Option<u16>)>();
    (any::<u32>(), role, any::<(bool, bool, bool, bool)>(), prop::option::of(record), version(), configs).prop_map(
        |(
            tag,
            role,
            (eligible, banned, parked, contended),
            record,
            (version, stopped),
            (config, parts, pending, wish),
        )| {
            GroupSays {
                group: GroupTag(tag),
                role,
                eligible,
                banned,
                record,
                order: Order { version, stopped },
                config,
                parts,
                pending,
                wish: wish.map(NodeTag),
                parked,
                contended,
            }
        },
    )
}

/// An operator's word; version 0 stands for none.
fn version() -> impl Strategy<Value = (u32, bool)> {
    prop_oneof![Just((0, false)), (1..=u32::MAX, any::<bool>())]
}

fn message() -> impl Strategy<Value = Message> {
    let echo = any::<(u16, u64, u64, u32)>().prop_map(|(node, incarnation, sequence, holds)| Echo {
        node: NodeTag(node),
        incarnation: Incarnation(incarnation),
        sequence,
        holds,
    });
    let head = any::<(u64, u16, u64, u64, u64, u64, u32, u32, u64)>();
    (head, any::<(bool, bool, bool, bool)>(), version(), vec(echo, 0..32), vec(group(), 0..40)).prop_map(
        |(head, flags, (word, on), echoes, groups)| {
            let (cluster_tag, sender, incarnation, sequence, sent_at, boot, cluster_digest, version, digest) = head;
            Message {
                cluster_tag,
                sender: NodeTag(sender),
                incarnation: Incarnation(incarnation),
                sequence,
                sent_at,
                boot: BootId(boot),
                cluster_digest,
                state: StateMark { version, digest },
                flags: NodeFlags { joined: flags.0, leaving: flags.1, left: flags.2, standby: flags.3 },
                maintenance: Maintenance { version: word, on },
                echoes,
                groups,
            }
        },
    )
}

proptest! {
    #![proptest_config(crate::configuration::few())]

    #[test]
    fn a_message_arrives_as_it_was_said(message in message()) {
        let keys = keys();
        let packet = keys.seal(encode(&message));
        prop_assert_eq!(keys.open(&packet).map(decode), Ok(Ok(message)));
    }

    #[test]
    fn a_message_that_was_cut_is_none(message in message(), at in any::<prop::sample::Index>()) {
        let bytes = encode(&message);
        prop_assert!(decode(&bytes[..at.index(bytes.len())]).is_err());
    }
}
