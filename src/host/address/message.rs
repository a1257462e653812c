//! rtnetlink messages to and from bytes, with neli's types. It must not know sockets, nor what follows from a message.

use super::table::{InterfaceAddress, InterfaceFacts, Update};
use neli::attr::Attribute;
use neli::consts::nl::{NlmF, Nlmsg};
use neli::consts::rtnl::{Arphrd, Ifa, IfaF, Iff, Ifla, RtAddrFamily, RtScope, Rtm};
use neli::err::{DeError, SerError};
use neli::nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder};
use neli::rtnl::{Ifaddrmsg, IfaddrmsgBuilder, Ifinfomsg, IfinfomsgBuilder, Rtattr, RtattrBuilder};
use neli::types::{Buffer, RtBuffer};
use neli::{FromBytes, FromBytesWithInput, Size, ToBytes};
use std::fmt::Debug;
use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr};

const HEADER: usize = 16;

/// Not in libc: leave traffic counters out of link dumps.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_PROMOTE_SECONDARIES: u16 = 20;
/// `struct ifa_cacheinfo` of an IPv6 address that stays, yet is never chosen as source where another is there: its
/// lifetimes (preferred, valid) and two times that only the kernel writes.
const FOR_EVER_NOT_PREFERRED: [u32; 4] = [0, u32::MAX, 0, 0];

/// A message from the kernel.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) sequence: u32,
    /// The port of the socket that asked for or caused it.
    pub(super) port: u32,
    /// A dump during which something changed: it may lack entries.
    pub(super) interrupted: bool,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    Update(Update),
    /// The end of a dump.
    Done,
    /// The end of a request: zero, or an errno.
    Ack(i32),
    /// A kind nobody here needs.
    Other,
}

/// The bytes cannot be understood: whoever kept a table from them must ask for everything anew.
#[derive(Debug)]
pub(super) struct Malformed;

impl From<DeError> for Malformed {
    fn from(_: DeError) -> Malformed {
        Malformed
    }
}

/// Splits one datagram into its messages. The length of each is checked here, because neli trusts it.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Incoming, Malformed>> + '_ {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = rest.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes) as usize);
        if length < HEADER || length > rest.len() {
            rest = &[];
            return Some(Err(Malformed));
        }
        let message = &rest[..length];
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(parse(message))
    })
}

fn parse(bytes: &[u8]) -> Result<Incoming, Malformed> {
    let header = Nlmsghdr::<u16, Buffer>::from_bytes(&mut Cursor::new(bytes))?;
    let body = match header.nl_payload() {
        NlPayload::Payload(payload) => payload_body(*header.nl_type(), payload)?,
        NlPayload::Ack(_) => Body::Ack(0),
        NlPayload::Err(error) => Body::Ack(-error.error()),
        NlPayload::DumpExtAck(end) if *end.error() < 0 => Body::Ack(-end.error()),
        NlPayload::DumpExtAck(_) => Body::Done,
        NlPayload::Empty if *header.nl_type() == u16::from(Nlmsg::Done) => Body::Done,
        NlPayload::Empty => Body::Other,
    };
    Ok(Incoming {
        sequence: *header.nl_seq(),
        port: *header.nl_pid(),
        interrupted: header.nl_flags().contains(NlmF::DUMP_INTR),
        body,
    })
}

fn payload_body(kind: u16, payload: &Buffer) -> Result<Body, Malformed> {
    let mut cursor = Cursor::new(payload.as_ref());
    let update = match Rtm::from(kind) {
        Rtm::Newlink => {
            link_facts(&Ifinfomsg::from_bytes_with_input(&mut cursor, payload.len())?).map(Update::Interface)
        }
        Rtm::Dellink => {
            let message = Ifinfomsg::from_bytes_with_input(&mut cursor, payload.len())?;
            is_of_no_family(&message).then(|| Update::InterfaceGone { index: *message.ifi_index() as u32 })
        }
        Rtm::Newaddr => address_of(&Ifaddrmsg::from_bytes_with_input(&mut cursor, payload.len())?)
            .map(|(index, address)| Update::Address { index, address }),
        Rtm::Deladdr => address_of(&Ifaddrmsg::from_bytes_with_input(&mut cursor, payload.len())?)
            .map(|(index, address)| Update::AddressGone { index, address }),
        _ => None,
    };
    Ok(update.map_or(Body::Other, Body::Update))
}

/// Bridges send RTM_DELLINK with their own family for a port that leaves: the interface itself stays.
fn is_of_no_family(message: &Ifinfomsg) -> bool {
    *message.ifi_family() == RtAddrFamily::Unspecified
}

fn link_facts(message: &Ifinfomsg) -> Option<InterfaceFacts> {
    if !is_of_no_family(message) {
        return None;
    }
    let flags = *message.ifi_flags();
    let mut facts = InterfaceFacts {
        index: *message.ifi_index() as u32,
        // RUNNING adds the operational state: an 802.1X port or a bond without members has carrier, yet is not usable.
        up: flags.contains(Iff::UP),
        carrier: flags.contains(Iff::UP | Iff::LOWERUP | Iff::RUNNING),
        arp: *message.ifi_type() == Arphrd::Ether && !flags.intersects(Iff::NOARP | Iff::LOOPBACK),
        carrier_losses: None,
        name: None,
        mac: None,
    };
    for attribute in message.rtattrs().iter() {
        let payload = attribute.payload().as_ref();
        match attribute.rta_type() {
            Ifla::Ifname => facts.name = text(payload),
            Ifla::Address => facts.mac = payload.try_into().ok(),
            Ifla::CarrierDownCount => facts.carrier_losses = payload.try_into().ok().map(u32::from_ne_bytes),
            _ => {}
        }
    }
    Some(facts)
}

fn text(payload: &[u8]) -> Option<String> {
    let end = payload.iter().position(|byte| *byte == 0).unwrap_or(payload.len());
    std::str::from_utf8(&payload[..end]).ok().map(str::to_owned)
}

fn address_of(message: &Ifaddrmsg) -> Option<(u32, InterfaceAddress)> {
    let family = *message.ifa_family();
    let ip = |attribute: &Rtattr<Ifa, Buffer>| {
        let bytes = attribute.payload().as_ref();
        match family {
            RtAddrFamily::Inet => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            RtAddrFamily::Inet6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
            _ => None,
        }
    };
    let find = |kind: Ifa| message.rtattrs().iter().find(|a| *a.rta_type() == kind).and_then(ip);
    let local = find(Ifa::Local).or_else(|| find(Ifa::Address))?;
    let peer = find(Ifa::Address).unwrap_or(local);
    Some((*message.ifa_index(), InterfaceAddress { local, prefix: *message.ifa_prefixlen(), peer }))
}

/// A new address on an interface, permanent, with the scope its kind has.
#[derive(Debug)]
pub(super) struct NewAddress<'a> {
    pub(super) index: u32,
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
    pub(super) broadcast: Option<Ipv4Addr>,
    pub(super) label: Option<&'a str>,
}

/// Requests in one buffer, for one sendmsg.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Cursor<Vec<u8>>,
}

impl Batch {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get_ref()
    }

    pub(super) fn add_address(&mut self, sequence: u32, new: &NewAddress<'_>) {
        let mut attributes = local_and_peer(new.address);
        if new.address.is_ipv6() {
            attributes.push(attribute(Ifa::Cacheinfo, octets(&FOR_EVER_NOT_PREFERRED)));
        }
        attributes.extend(new.broadcast.map(|broadcast| attribute(Ifa::Broadcast, broadcast.octets())));
        attributes.extend(new.label.map(|label| attribute(Ifa::Label, with_nul(label))));
        // EXCL: an address that is there already is told, not taken.
        let flags = NlmF::REQUEST | NlmF::ACK | NlmF::CREATE | NlmF::EXCL;
        self.push(Rtm::Newaddr, flags, sequence, address_message(new.index, new.address, new.prefix, attributes));
    }

    pub(super) fn remove_address(&mut self, sequence: u32, index: u32, address: IpAddr, prefix: u8) {
        let message = address_message(index, address, prefix, local_and_peer(address));
        self.push(Rtm::Deladdr, NlmF::REQUEST | NlmF::ACK, sequence, message);
    }

    /// `net.ipv4.conf.IFACE.promote_secondaries=1`, by netlink: a hardened unit may not write below /proc/sys.
    pub(super) fn promote_secondaries(&mut self, sequence: u32, index: u32) {
        let on = attribute(IPV4_DEVCONF_PROMOTE_SECONDARIES, 1_u32);
        let inet = nested(libc::AF_INET as u16, &nested(IFLA_INET_CONF, &on));
        let message = link_message(index, nested(Ifla::AfSpec, &inet));
        self.push(Rtm::Setlink, NlmF::REQUEST | NlmF::ACK, sequence, message);
    }

    pub(super) fn dump_links(&mut self, sequence: u32) {
        let message = link_message(0, attribute(Ifla::ExtMask, RTEXT_FILTER_SKIP_STATS));
        self.push(Rtm::Getlink, NlmF::REQUEST | NlmF::DUMP, sequence, message);
    }

    pub(super) fn dump_addresses(&mut self, sequence: u32) {
        let message = message_of(RtAddrFamily::Unspecified, 0, 0, IfaF::empty(), RtScope::Universe, Vec::new());
        self.push(Rtm::Getaddr, NlmF::REQUEST | NlmF::DUMP, sequence, message);
    }

    fn push<P: Size + ToBytes + Debug>(&mut self, kind: Rtm, flags: NlmF, sequence: u32, message: P) {
        let request = NlmsghdrBuilder::default()
            .nl_type(kind)
            .nl_flags(flags)
            .nl_seq(sequence)
            .nl_payload(NlPayload::Payload(message))
            .build()
            .expect("every field is set");
        written(request.to_bytes(&mut self.bytes));
    }
}

fn written(result: Result<(), SerError>) {
    result.expect("a Vec takes every message");
}

fn attribute<T: Size, P: Size + ToBytes>(kind: T, payload: P) -> Rtattr<T, Buffer> {
    RtattrBuilder::default().rta_type(kind).rta_payload(payload).build().expect("every field is set")
}

fn nested<T: Size, I: neli::consts::rtnl::RtaType>(kind: T, inner: &Rtattr<I, Buffer>) -> Rtattr<T, Buffer> {
    let mut bytes = Cursor::new(Vec::new());
    written(inner.to_bytes(&mut bytes));
    attribute(kind, Buffer::from(bytes.into_inner()))
}

fn with_nul(text: &str) -> Buffer {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    Buffer::from(bytes)
}

/// One end is the other: no point-to-point address.
fn local_and_peer(address: IpAddr) -> Vec<Rtattr<Ifa, Buffer>> {
    let payload = || match address {
        IpAddr::V4(address) => Buffer::from(address.octets().to_vec()),
        IpAddr::V6(address) => Buffer::from(address.octets().to_vec()),
    };
    vec![attribute(Ifa::Local, payload()), attribute(Ifa::Address, payload())]
}

fn octets(words: &[u32]) -> Buffer {
    Buffer::from(words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>())
}

fn address_message(index: u32, address: IpAddr, prefix: u8, attributes: Vec<Rtattr<Ifa, Buffer>>) -> Ifaddrmsg {
    let scope = if address.is_loopback() { RtScope::Host } else { RtScope::Universe };
    match address {
        IpAddr::V4(_) => message_of(RtAddrFamily::Inet, index, prefix, IfaF::empty(), scope, attributes),
        // Usable at once: whether somebody else has it was asked before, and is watched from here on.
        IpAddr::V6(_) => message_of(RtAddrFamily::Inet6, index, prefix, IfaF::NODAD, scope, attributes),
    }
}

fn message_of(
    family: RtAddrFamily,
    index: u32,
    prefix: u8,
    flags: IfaF,
    scope: RtScope,
    attributes: Vec<Rtattr<Ifa, Buffer>>,
) -> Ifaddrmsg {
    IfaddrmsgBuilder::default()
        .ifa_family(family)
        .ifa_prefixlen(prefix)
        .ifa_flags(flags)
        .ifa_scope(scope)
        .ifa_index(index)
        .rtattrs(attributes.into_iter().collect::<RtBuffer<Ifa, Buffer>>())
        .build()
        .expect("every field is set")
}

fn link_message(index: u32, attribute: Rtattr<Ifla, Buffer>) -> Ifinfomsg {
    IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(index as i32)
        .rtattrs(std::iter::once(attribute).collect::<RtBuffer<Ifla, Buffer>>())
        .build()
        .expect("every field is set")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RTM_NEWADDR of 10.0.0.77/24 on interface 3, caused by port 9 with sequence 5.
    fn new_address() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(40_u32.to_ne_bytes());
        bytes.extend(20_u16.to_ne_bytes());
        bytes.extend(0_u16.to_ne_bytes());
        bytes.extend(5_u32.to_ne_bytes());
        bytes.extend(9_u32.to_ne_bytes());
        bytes.extend([2, 24, 0x80, 0]);
        bytes.extend(3_u32.to_ne_bytes());
        for kind in [1_u16, 2] {
            bytes.extend(8_u16.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([10, 0, 0, 77]);
        }
        bytes
    }

    #[test]
    fn several_messages_in_one_datagram() {
        let datagram = [new_address(), new_address()].concat();
        let read: Vec<_> = messages(&datagram).collect::<Result<_, _>>().expect("both are sound");
        assert_eq!(read.len(), 2);
        let expected = InterfaceAddress::new([10, 0, 0, 77].into(), 24);
        for message in read {
            assert_eq!((message.sequence, message.port, message.interrupted), (5, 9, false));
            assert!(matches!(message.body, Body::Update(Update::Address { index: 3, address }) if address == expected));
        }
    }

    #[test]
    fn a_far_end_is_not_the_address() {
        let mut datagram = new_address();
        datagram[28..32].copy_from_slice(&[10, 9, 9, 9]);
        let Some(Ok(Incoming { body: Body::Update(Update::Address { address, .. }), .. })) = messages(&datagram).next()
        else {
            panic!("an address");
        };
        assert_eq!((address.local, address.peer), ([10, 0, 0, 77].into(), [10, 9, 9, 9].into()));
    }

    #[test]
    fn no_damage_panics() {
        let good = new_address();
        for length in 1..good.len() {
            assert!(messages(&good[..length]).any(|message| message.is_err()), "cut to {length} bytes");
        }
        for position in 0..good.len() {
            for value in [0, 1, 3, 4, 15, 16, 17, 41, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[position] = value;
                assert!(messages(&bad).count() <= 3, "byte {position} = {value}");
            }
        }
    }

    #[test]
    fn errors_of_the_kernel_are_errnos() {
        for (code, expected) in [(0_i32, 0), (-17, 17)] {
            let mut datagram = Vec::new();
            datagram.extend(36_u32.to_ne_bytes());
            datagram.extend(2_u16.to_ne_bytes());
            datagram.extend(0x100_u16.to_ne_bytes());
            datagram.extend([7_u32.to_ne_bytes(), 9_u32.to_ne_bytes()].concat());
            datagram.extend(code.to_ne_bytes());
            // The header of the request, quoted.
            datagram.extend(16_u32.to_ne_bytes());
            datagram.extend([0; 12]);
            let message = messages(&datagram).next().expect("one").expect("sound");
            assert_eq!(message.sequence, 7);
            assert!(matches!(message.body, Body::Ack(code) if code == expected), "{:?}", message.body);
        }
    }
}
