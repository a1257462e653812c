//! PURE. Classic BPF for the packet sockets: pass claims to watched addresses, keep back the rest of the network.
//! It must not know which interface an address is watched on.
//!
//! However many addresses there are, a program stays short, for every ARP packet of a busy network runs through it: near
//! addresses share a range. What a range passes by mistake is sorted out afterwards, by who reads the packet.

use socket2::SockFilter;
use std::collections::BTreeSet;
use std::net::Ipv6Addr;

/// Two comparisons each.
const RANGES: usize = 64;

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_NOT_BELOW: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const PASS: SockFilter = SockFilter::new(RETURN, 0, 0, u32::MAX);
const DROP: SockFilter = SockFilter::new(RETURN, 0, 0, 0);

/// Over the ARP packet: pass it if the sender's address is one of these.
pub(super) fn arp(addresses: &BTreeSet<u32>) -> Vec<SockFilter> {
    let mut program = vec![SockFilter::new(LOAD_WORD, 0, 0, 14)];
    pass_ranges(&mut program, addresses);
    program
}

/// Over the IPv6 packet: pass a neighbour advertisement whose target ends like one of these, and a solicitation from nobody's address
/// (`::`, of one who is about to take it). Those of clients, who want to talk to the owner, would come in numbers while there is none. A packet
/// with an extension header before ICMPv6 is no neighbour discovery that anybody sends.
pub(super) fn ndp(low_words: &BTreeSet<u32>) -> Vec<SockFilter> {
    let mut program = vec![
        SockFilter::new(LOAD_BYTE, 0, 0, 6),
        SockFilter::new(JUMP_EQUAL, 1, 0, 58),
        DROP,
        SockFilter::new(LOAD_BYTE, 0, 0, 40),
        SockFilter::new(JUMP_EQUAL, 14, 0, 136),
        SockFilter::new(JUMP_EQUAL, 1, 0, 135),
        DROP,
    ];
    for word in [8, 12, 16, 20] {
        program.extend([SockFilter::new(LOAD_WORD, 0, 0, word), SockFilter::new(JUMP_EQUAL, 1, 0, 0), DROP]);
    }
    program.push(SockFilter::new(LOAD_WORD, 0, 0, 60));
    pass_ranges(&mut program, low_words);
    program
}

pub(super) fn low_word(address: Ipv6Addr) -> u32 {
    address.to_bits() as u32
}

fn pass_ranges(program: &mut Vec<SockFilter>, keys: &BTreeSet<u32>) {
    for (first, last) in ranges(keys) {
        program.push(SockFilter::new(JUMP_NOT_BELOW, 0, 2, first));
        program.push(SockFilter::new(JUMP_ABOVE, 1, 0, last));
        program.push(PASS);
    }
    program.push(DROP);
}

/// At most `RANGES` that hold all keys, split at the widest gaps.
fn ranges(keys: &BTreeSet<u32>) -> Vec<(u32, u32)> {
    let mut gaps: Vec<(u32, u32)> =
        keys.iter().zip(keys.iter().skip(1)).map(|(low, high)| (high - low, *high)).collect();
    gaps.sort_unstable_by(|one, other| other.cmp(one));
    gaps.truncate(RANGES - 1);
    let mut begins: BTreeSet<u32> = gaps.into_iter().map(|(_, high)| high).collect();
    begins.extend(keys.first());
    let ends = begins.iter().skip(1).map(|begin| keys.range(..begin).next_back());
    let ends = ends.chain([keys.last()]).flatten();
    begins.iter().copied().zip(ends.copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ndp;
    use super::*;
    use socket2::SockRef;
    use std::io::ErrorKind;
    use std::os::unix::net::UnixDatagram;

    /// Whether the kernel passes the packet by this program. It runs one over any datagram.
    fn passes(program: &[SockFilter], packet: &[u8]) -> bool {
        let (near, far) = UnixDatagram::pair().unwrap();
        SockRef::from(&far).attach_filter(program).unwrap();
        far.set_nonblocking(true).unwrap();
        near.send(packet).unwrap();
        let mut buffer = [0; 256];
        match far.recv(&mut buffer) {
            Ok(length) => buffer[..length] == *packet,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    #[test]
    fn questions_of_neighbours_are_kept_back_and_claims_are_not() {
        let (ours, other): (Ipv6Addr, Ipv6Addr) = ("2001:db8::77".parse().unwrap(), "2001:db8::99".parse().unwrap());
        let program = ndp(&BTreeSet::from([low_word(ours)]));
        let claim = ndp::announcement([2; 6], ours, false);
        let detection = ndp::probe(ours);
        assert!(passes(&program, &claim) && passes(&program, &detection));
        for byte in 8..24 {
            let mut question = detection;
            question[byte] = 1;
            assert!(!passes(&program, &question), "from an address with byte {byte}");
        }
        let mut of_no_kind = claim;
        of_no_kind[40] = 134;
        let mut no_icmp = claim;
        no_icmp[6] = 17;
        for packet in [of_no_kind, no_icmp, ndp::announcement([2; 6], other, false), ndp::probe(other)] {
            assert!(!passes(&program, &packet));
        }
    }

    #[test]
    fn ranges_hold_every_key_and_are_few() {
        assert_eq!(ranges(&BTreeSet::new()), []);
        assert_eq!(ranges(&BTreeSet::from([7])), [(7, 7)]);
        assert_eq!(ranges(&BTreeSet::from([7, 9])), [(7, 7), (9, 9)]);
        let keys: BTreeSet<u32> = (0..5000_u32).map(|key| key.wrapping_mul(2_654_435_761)).collect();
        let found = ranges(&keys);
        assert_eq!(found.len(), RANGES);
        assert!(keys.iter().all(|key| found.iter().any(|(first, last)| (first..=last).contains(&key))));
        assert!(arp(&keys).len() < 255, "short, whatever is watched");
    }

    #[test]
    fn neighbours_of_a_range_are_kept_back() {
        let keys: BTreeSet<u32> = (1000..2000).chain([5_000_000]).collect();
        let found = ranges(&keys);
        assert!(found.iter().all(|(first, last)| *last < 2000 || *first == 5_000_000), "{found:?}");
    }
}
