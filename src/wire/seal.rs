//! Keys, and sealing messages with them. One key signs, all are accepted: a rotation loses no heartbeat.
//!
//! A sealed packet is `body | key index (1) | tag (16)`. The tag is the first 16 bytes of the HMAC (RFC 2104; truncated
//! as its section 5 permits and RFC 4868 does for SHA-256) over body and key index, compared in constant time.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use std::collections::BTreeMap;
use std::fmt;

/// Bytes that sealing adds: key index and tag.
pub const SEAL_LEN: usize = 1 + TAG_LEN;
const TAG_LEN: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Md5,
    Sha1,
    Sha256,
}

/// One line of `authkeys`.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    pub method: Method,
    pub secret: Vec<u8>,
}

// A key must not reach a log by way of `{:?}`.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.method)
    }
}

/// All keys, and the index of the one that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet {
    signing: u8,
    keys: BTreeMap<u8, Key>,
}

/// Why a packet was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("shorter than its seal")]
    Short,
    #[error("sealed with key {0}, which this node does not have")]
    UnknownKey(u8),
    #[error("altered, or sealed with another secret")]
    WrongTag,
}

impl KeySet {
    /// `None` if `signing` is not among `keys`.
    pub fn new(signing: u8, keys: BTreeMap<u8, Key>) -> Option<KeySet> {
        keys.contains_key(&signing).then_some(KeySet { signing, keys })
    }

    /// The index of the key that signs.
    pub fn signing(&self) -> u8 {
        self.signing
    }

    pub fn iter(&self) -> impl Iterator<Item = (u8, &Key)> {
        self.keys.iter().map(|(index, key)| (*index, key))
    }

    /// Appends key index and tag to `body`.
    pub fn seal(&self, mut body: Vec<u8>) -> Vec<u8> {
        body.push(self.signing);
        let tag = self.keys[&self.signing].tag(&body);
        body.extend_from_slice(&tag);
        body
    }

    /// The body of a packet whose tag is right.
    pub fn open<'a>(&self, packet: &'a [u8]) -> Result<&'a [u8], SealError> {
        let split = packet.len().checked_sub(SEAL_LEN).ok_or(SealError::Short)?;
        let (body, seal) = packet.split_at(split);
        let key = self.keys.get(&seal[0]).ok_or(SealError::UnknownKey(seal[0]))?;
        let expected = key.tag(&packet[..=split]);
        if constant_time_eq(&expected, &seal[1..]) { Ok(body) } else { Err(SealError::WrongTag) }
    }
}

impl Key {
    fn tag(&self, data: &[u8]) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        match self.method {
            Method::Md5 => {
                // HMAC takes keys of any length (RFC 2104 section 2).
                let mut mac = Hmac::<Md5>::new_from_slice(&self.secret).expect("any length is a key");
                mac.update(data);
                tag.copy_from_slice(&mac.finalize().into_bytes());
            }
            Method::Sha1 => self.ring_tag(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, data, &mut tag),
            Method::Sha256 => self.ring_tag(ring::hmac::HMAC_SHA256, data, &mut tag),
        }
        tag
    }

    fn ring_tag(&self, algorithm: ring::hmac::Algorithm, data: &[u8], tag: &mut [u8; TAG_LEN]) {
        let full = ring::hmac::sign(&ring::hmac::Key::new(algorithm, &self.secret), data);
        tag.copy_from_slice(&full.as_ref()[..TAG_LEN]);
    }
}

/// Every byte is looked at, whatever the first ones say: the time tells nothing of where they differ.
fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let difference = left.iter().zip(right).fold(0, |seen, (l, r)| seen | (l ^ r));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(method: Method, secret: &str) -> Key {
        Key { method, secret: secret.into() }
    }

    fn keys(signing: u8, keys: &[(u8, Method, &str)]) -> KeySet {
        let keys = keys.iter().map(|(index, method, secret)| (*index, key(*method, secret)));
        KeySet::new(signing, keys.collect()).expect("the signing key is among them")
    }

    #[test]
    fn tags_are_those_of_the_rfcs() {
        // RFC 2202 (MD5, SHA-1) and RFC 4231 (SHA-256), test case 2 of each, first 16 bytes.
        let data = b"what do ya want for nothing?";
        let hex = |tag: [u8; 16]| tag.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(key(Method::Md5, "Jefe").tag(data)), "750c783e6ab0b503eaa86e310a5db738");
        assert_eq!(hex(key(Method::Sha1, "Jefe").tag(data)), "effcdf6ae5eb2fa2d27416d5f184df9c");
        assert_eq!(hex(key(Method::Sha256, "Jefe").tag(data)), "5bdcc146bf60754e6a042426089575c7");
    }

    #[test]
    fn every_altered_bit_is_noticed() {
        let keys = keys(1, &[(1, Method::Sha256, "secret")]);
        let packet = keys.seal(b"body".to_vec());
        assert_eq!(keys.open(&packet), Ok(&b"body"[..]));
        for bit in 0..packet.len() * 8 {
            let mut altered = packet.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.open(&altered).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_rotation_in_any_order_loses_no_packet() {
        let old = keys(1, &[(1, Method::Sha1, "old")]);
        let both_old_signs = keys(1, &[(1, Method::Sha1, "old"), (2, Method::Sha256, "new")]);
        let both_new_signs = keys(2, &[(1, Method::Sha1, "old"), (2, Method::Sha256, "new")]);
        let new = keys(2, &[(2, Method::Sha256, "new")]);
        let steps = [&old, &both_old_signs, &both_new_signs, &new];
        for pair in steps.windows(2) {
            for (sender, receiver) in [(pair[0], pair[1]), (pair[1], pair[0])] {
                assert!(receiver.open(&sender.seal(vec![1, 2, 3])).is_ok());
            }
        }
        assert_eq!(old.open(&new.seal(vec![1])), Err(SealError::UnknownKey(2)));
    }

    #[test]
    fn a_short_packet_is_no_panic() {
        let keys = keys(1, &[(1, Method::Md5, "x")]);
        for length in 0..SEAL_LEN {
            assert_eq!(keys.open(&vec![0; length]), Err(SealError::Short));
        }
    }
}
