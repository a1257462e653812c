//! Digests over what a configuration means: equal on all nodes whose files say the same.
//! Comments, white space, the order of keys and everything of this host alone stay out.

use super::model::{GroupTag, NodeTag};

/// Lines of `key value`, hashed as they come. A value never holds a line break: no name or address may.
#[derive(Debug, Default)]
pub(super) struct Canonical {
    text: String,
}

impl Canonical {
    pub(super) fn line(&mut self, key: &str, value: impl std::fmt::Display) {
        self.text.push_str(&format!("{key} {value}\n"));
    }

    pub(super) fn digest(&self) -> u32 {
        u32::from_be_bytes(first_bytes(self.text.as_bytes()))
    }
}

pub(super) fn node_tag(name: &str) -> NodeTag {
    NodeTag(u16::from_be_bytes(first_bytes(name.as_bytes())))
}

pub(super) fn group_tag(name: &str) -> GroupTag {
    GroupTag(u32::from_be_bytes(first_bytes(name.as_bytes())))
}

pub(super) fn cluster_tag(name: &str) -> u64 {
    u64::from_be_bytes(first_bytes(name.as_bytes()))
}

/// All of SHA-256, in hexadecimal.
pub(crate) fn hexadecimal(data: &[u8]) -> String {
    sha256(data).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn first_bytes<const N: usize>(data: &[u8]) -> [u8; N] {
    sha256(data).as_ref()[..N].try_into().expect("SHA-256 has 32 bytes, and no tag is longer than 8")
}

fn sha256(data: &[u8]) -> ring::digest::Digest {
    ring::digest::digest(&ring::digest::SHA256, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_the_first_bytes_of_sha_256() {
        // printf alpha | sha256sum: 8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8
        assert_eq!(node_tag("alpha"), NodeTag(0x8ed3));
        assert_eq!(group_tag("alpha"), GroupTag(0x8ed3_f6ad));
        assert_eq!(cluster_tag("alpha"), 0x8ed3_f6ad_685b_959e);
        assert!(hexadecimal(b"alpha").ends_with("8f2223f8"));
    }
}
