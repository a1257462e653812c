//! PURE. Neighbour discovery for IPv6 over Ethernet to and from bytes (RFC 4861, RFC 4862), each packet with its IPv6 header.
//! It must not know sockets, nor who is asked or told.

use std::net::Ipv6Addr;

/// Header, advertisement or solicitation, and one option: what is sent here, and all that is looked at of what is heard.
pub(super) const LENGTH: usize = 40 + 24 + 8;
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const ICMPV6: u8 = 58;
/// No router forwards it: who receives it with this hop limit is on the same network as its sender.
const HOP_LIMIT: u8 = 255;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// RFC 7527: by it a sender knows its own solicitation.
const NONCE: u8 = 14;
/// The nonce in every probe of hafailover's: a question of another node's is no claim. A host that is about to take an
/// address asks the same way, without it, and that is one.
const OUR_NONCE: [u8; 6] = *b"hafail";

/// Who claims what, and by which hardware address, if the packet says so; otherwise it is the frame's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) mac: Option<[u8; 6]>,
    pub(super) address: Ipv6Addr,
}

/// Unsolicited, to all nodes, from the address itself: who knows it by another hardware address takes this one. `router` as the
/// interface forwards: a neighbour that uses the address as its router must not lose it.
pub(super) fn announcement(mac: [u8; 6], address: Ipv6Addr, router: bool) -> [u8; LENGTH] {
    let flags = if router { ROUTER | OVERRIDE } else { OVERRIDE };
    packet(address, ALL_NODES, (ADVERTISEMENT, flags), address, (TARGET_LINK_LAYER_ADDRESS, mac))
}

/// The solicitation of duplicate address detection: without a sender address, so that nobody's cache is changed by the
/// question. Who has the address answers to all nodes.
pub(super) fn probe(address: Ipv6Addr) -> [u8; LENGTH] {
    packet(Ipv6Addr::UNSPECIFIED, solicited_node(address), (SOLICITATION, 0), address, (NONCE, OUR_NONCE))
}

/// The solicitation of address resolution: its owner answers to who asks, and both know each other then.
pub(super) fn request(mac: [u8; 6], own: Ipv6Addr, target: Ipv6Addr) -> [u8; LENGTH] {
    packet(own, solicited_node(target), (SOLICITATION, 0), target, (SOURCE_LINK_LAYER_ADDRESS, mac))
}

/// Where solicitations for an address are sent: its owner listens there.
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of a multicast address.
pub(super) fn multicast_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// An advertisement, or the solicitation of somebody else who is about to take the address.
pub(super) fn parse(bytes: &[u8]) -> Option<Claim> {
    let header: &[u8; 40] = bytes.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let message = bytes[40..].get(..length)?;
    if header[0] >> 4 != 6 || header[6] != ICMPV6 || header[7] != HOP_LIMIT || message.len() < 24 {
        return None;
    }
    if message[1] != 0 || checksum(header, message) != 0 {
        return None;
    }
    let target: [u8; 16] = message[8..].first_chunk().copied()?;
    let address = Ipv6Addr::from(target);
    if message[0] == ADVERTISEMENT {
        let mac = option(message, TARGET_LINK_LAYER_ADDRESS);
        return Some(Claim { mac, address });
    }
    // With a sender address it is the question of a neighbour who wants to talk to the owner.
    let detects = message[0] == SOLICITATION && header[8..24] == [0; 16];
    (detects && option(message, NONCE) != Some(OUR_NONCE)).then_some(Claim { mac: None, address })
}

/// The first six bytes of an option of this kind.
fn option(message: &[u8], kind: u8) -> Option<[u8; 6]> {
    let mut rest = message.get(24..)?;
    loop {
        let length = 8 * usize::from(*rest.get(1)?);
        // A length of zero would never end.
        let this = rest.get(..length).filter(|this| !this.is_empty())?;
        if this[0] == kind {
            return this[2..].first_chunk().copied();
        }
        rest = &rest[length..];
    }
}

fn packet(
    from: Ipv6Addr,
    to: Ipv6Addr,
    (kind, flags): (u8, u8),
    target: Ipv6Addr,
    (option, value): (u8, [u8; 6]),
) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[0] = 6 << 4;
    packet[5] = (LENGTH - 40) as u8;
    packet[6] = ICMPV6;
    packet[7] = HOP_LIMIT;
    packet[8..24].copy_from_slice(&from.octets());
    packet[24..40].copy_from_slice(&to.octets());
    packet[40] = kind;
    packet[44] = flags;
    packet[48..64].copy_from_slice(&target.octets());
    packet[64] = option;
    packet[65] = 1;
    packet[66..].copy_from_slice(&value);
    let (header, message) = packet.split_at(40);
    let sum = checksum(header, message).to_be_bytes();
    packet[42..44].copy_from_slice(&sum);
    packet
}

/// RFC 1071 over the addresses, length, protocol and message: zero over a packet that carries its own.
fn checksum(header: &[u8], message: &[u8]) -> u16 {
    let addresses = header[8..40].chunks(2);
    let words = addresses.chain(message.chunks(2)).map(|pair| {
        let second = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], second]))
    });
    let mut sum: u32 = words.sum::<u32>() + message.len() as u32 + u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee];
    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3477);

    #[test]
    fn an_announcement_byte_by_byte() {
        let packet = announcement(MAC, ADDRESS, false);
        assert_eq!(packet[..8], [0x60, 0, 0, 0, 0, 32, 58, 255]);
        assert_eq!(packet[8..24], ADDRESS.octets());
        assert_eq!(packet[24..40], ALL_NODES.octets());
        assert_eq!(packet[40..42], [136, 0]);
        assert_eq!(packet[44..48], [0x20, 0, 0, 0]);
        assert_eq!(packet[48..64], ADDRESS.octets());
        assert_eq!(packet[64..], [2, 1, 0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee]);
        assert_eq!(announcement(MAC, ADDRESS, true)[44], 0xa0, "a router stays one");
        assert_eq!(parse(&packet), Some(Claim { mac: Some(MAC), address: ADDRESS }));
    }

    #[test]
    fn a_probe_goes_where_the_owner_listens_and_is_no_claim() {
        let packet = probe(ADDRESS);
        assert_eq!(packet[8..24], [0; 16]);
        let group: Ipv6Addr = "ff02::1:ff12:3477".parse().expect("an address");
        assert_eq!((solicited_node(ADDRESS), &packet[24..40]), (group, &group.octets()[..]));
        assert_eq!(multicast_mac(group), [0x33, 0x33, 0xff, 0x12, 0x34, 0x77]);
        assert_eq!(packet[40..42], [135, 0]);
        assert_eq!(parse(&packet), None);
    }

    /// The same question as ours, of somebody who does not know of us.
    #[test]
    fn the_question_of_a_stranger_is_a_claim() {
        let strangers = packet(Ipv6Addr::UNSPECIFIED, solicited_node(ADDRESS), (135, 0), ADDRESS, (14, *b"random"));
        assert_eq!(parse(&strangers), Some(Claim { mac: None, address: ADDRESS }));
        let neighbours = request(MAC, ALL_NODES, ADDRESS);
        assert_eq!(parse(&neighbours), None, "it only wants to talk to the owner");
    }

    #[test]
    fn what_is_damaged_or_from_afar_is_refused() {
        let good = announcement(MAC, ADDRESS, false);
        for length in 0..LENGTH {
            assert_eq!(parse(&good[..length]), None, "cut to {length} bytes");
        }
        for position in [0, 4, 5, 6, 7, 8, 24, 40, 41, 42, 44, 48, 63, 64, 71] {
            let mut bad = good;
            bad[position] ^= 0x11;
            assert_eq!(parse(&bad), None, "byte {position}");
        }
        let empty_option = packet(ADDRESS, ALL_NODES, (136, 0x20), ADDRESS, (9, MAC));
        let mut endless = empty_option;
        endless[65] = 0;
        endless[42..44].fill(0);
        let sum = checksum(&endless[..40], &endless[40..]).to_be_bytes();
        endless[42..44].copy_from_slice(&sum);
        assert_eq!(parse(&endless), Some(Claim { mac: None, address: ADDRESS }));
    }
}
