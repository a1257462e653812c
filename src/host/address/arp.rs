//! PURE. ARP packets for IPv4 over Ethernet to and from bytes (RFC 826, RFC 5227).
//! It must not know sockets, nor who is asked or told.

use std::net::Ipv4Addr;

pub(super) const LENGTH: usize = 28;

/// Hardware type Ethernet, protocol type IPv4, lengths 6 and 4: how every packet here begins.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// The operation, of which only the second byte is not zero.
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

/// The sender of an ARP packet, which is what it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) mac: [u8; 6],
    pub(super) address: Ipv4Addr,
}

/// The ARP announcement of RFC 5227 §3 in request form: sender and target are the address itself.
pub(super) fn announcement_request(mac: [u8; 6], address: Ipv4Addr) -> [u8; LENGTH] {
    packet(REQUEST, mac, address, [0; 6], address)
}

/// The same in reply form, for devices that learn from replies only. The target's hardware address is the sender's
/// own: Linux takes a gratuitous reply within a second of the last change only if they are equal.
pub(super) fn announcement_reply(mac: [u8; 6], address: Ipv4Addr) -> [u8; LENGTH] {
    packet(REPLY, mac, address, mac, address)
}

/// The ARP probe of RFC 5227 §1.1: without a sender address, so that nobody's cache is changed by the question.
pub(super) fn probe(mac: [u8; 6], address: Ipv4Addr) -> [u8; LENGTH] {
    packet(REQUEST, mac, Ipv4Addr::UNSPECIFIED, [0; 6], address)
}

/// The request of RFC 826: who has `target`? Its owner answers, and both know each other then.
pub(super) fn request(mac: [u8; 6], own: Ipv4Addr, target: Ipv4Addr) -> [u8; LENGTH] {
    packet(REQUEST, mac, own, [0; 6], target)
}

pub(super) fn parse(bytes: &[u8]) -> Option<Claim> {
    // Short frames are padded to Ethernet's minimum: what follows the packet means nothing.
    let packet: &[u8; LENGTH] = bytes.first_chunk()?;
    if packet[..6] != ETHERNET_IPV4 {
        return None;
    }
    if ![REQUEST, REPLY].contains(&packet[7]) || packet[6] != 0 {
        return None;
    }
    let mac: [u8; 6] = packet[8..].first_chunk().copied()?;
    let address: [u8; 4] = packet[14..].first_chunk().copied()?;
    Some(Claim { mac, address: Ipv4Addr::from(address) })
}

fn packet(operation: u8, mac: [u8; 6], sender: Ipv4Addr, target_mac: [u8; 6], target: Ipv4Addr) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[..6].copy_from_slice(&ETHERNET_IPV4);
    packet[7] = operation;
    packet[8..14].copy_from_slice(&mac);
    packet[14..18].copy_from_slice(&sender.octets());
    packet[18..24].copy_from_slice(&target_mac);
    packet[24..28].copy_from_slice(&target.octets());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);

    #[test]
    fn an_announcement_in_request_form() {
        let expected = [
            0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
            0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 10, 0, 0, 77, // sender
            0, 0, 0, 0, 0, 0, 10, 0, 0, 77, // target
        ];
        assert_eq!(announcement_request(MAC, ADDRESS), expected);
    }

    #[test]
    fn an_announcement_in_reply_form() {
        let expected = [
            0, 1, 8, 0, 6, 4, 0, 2, // Ethernet, IPv4, reply
            0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 10, 0, 0, 77, // sender
            0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 10, 0, 0, 77, // target
        ];
        assert_eq!(announcement_reply(MAC, ADDRESS), expected);
    }

    #[test]
    fn a_probe_has_no_sender_address() {
        let expected = [
            0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
            0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0, 0, 0, 0, // sender
            0, 0, 0, 0, 0, 0, 10, 0, 0, 77, // target
        ];
        assert_eq!(probe(MAC, ADDRESS), expected);
    }

    #[test]
    fn a_request_names_who_asks() {
        let expected = [
            0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
            0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 10, 0, 0, 77, // sender
            0, 0, 0, 0, 0, 0, 10, 0, 0, 78, // target
        ];
        assert_eq!(request(MAC, ADDRESS, Ipv4Addr::new(10, 0, 0, 78)), expected);
    }

    #[test]
    fn a_padded_reply_is_understood() {
        let mut frame = [0xff; 46];
        frame[..LENGTH].copy_from_slice(&announcement_reply(MAC, ADDRESS));
        assert_eq!(parse(&frame), Some(Claim { mac: MAC, address: ADDRESS }));
    }

    #[test]
    fn what_is_no_arp_for_ipv4_is_refused() {
        let good = announcement_request(MAC, ADDRESS);
        assert_eq!(parse(&good[..LENGTH - 1]), None, "too short");
        for (position, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3), (6, 1)] {
            let mut bad = good;
            bad[position] = value;
            assert_eq!(parse(&bad), None, "byte {position}");
        }
    }
}
