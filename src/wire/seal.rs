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
