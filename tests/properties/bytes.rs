//! Random bytes, and sound input with something wrong in it, for every parser.

use crate::holds::{ALL, SOUND, keys};
use proptest::collection::vec;
use proptest::prelude::*;
use std::path::Path;

/// Seeds of the fuzzer are sound input for each parser, too.
fn seeds(parser: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(parser);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).expect("a seed")).collect();
    assert!(!seeds.is_empty(), "no seed in {}", folder.display());
    seeds
}

/// Told as text where they are.
#[derive(Clone)]
struct Bytes(Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// One change of a text or packet.
#[derive(Clone, Debug)]
enum Change {
    Byte(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    /// A piece of it once more, elsewhere.
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let word = prop_oneof![
        vec(any::<u8>(), 1..8),
        prop::sample::select(WORDS.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
    ];
    prop_oneof![
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (any::<prop::sample::Index>(), word).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<prop::sample::Index>(), 1..40usize).prop_map(|(at, length)| Change::Remove(at, length)),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..80usize)
            .prop_map(|(from, to, length)| Change::Copy(from, to, length)),
    ]
}

/// What parsers trip over.
const WORDS: [&str; 26] = [
    "\n",
    "\r\n",
    "\\\n",
    "\t",
    "\0",
    "\"",
    "'",
    "\\",
    "\\x2d",
    "%",
    "%i",
    "%%",
    "=",
    "[",
    "]",
    "[X-HAFailover]",
    "#",
    ";",
    "\u{feff}",
    "é",
    "\u{202e}",
    "18446744073709551616",
    "-1",
    "1e999",
    "{",
    "=\n",
];

fn apply(bytes: &mut Vec<u8>, change: Change) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    match change {
        Change::Byte(at, byte) => bytes[at.index(length)] = byte,
        Change::Insert(at, new) => drop(bytes.splice(at.index(length)..at.index(length), new).count()),
        Change::Remove(at, count) => drop(bytes.drain(at.index(length)..(at.index(length) + count).min(length))),
        Change::Copy(from, to, count) => {
            let from = from.index(length);
            let piece = bytes[from..(from + count).min(length)].to_vec();
            let to = to.index(length);
            bytes.splice(to..to, piece);
        }
    }
}

fn changed(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(seeds), vec(change(), 0..6)).prop_map(|(mut bytes, changes)| {
        changes.into_iter().for_each(|change| apply(&mut bytes, change));
        bytes
    })
}

fn hold(parser: &str) {
    let (_, holds) = ALL.into_iter().find(|(name, _)| *name == parser).expect("a parser of that name");
    let mut runner = proptest::test_runner::TestRunner::new(crate::configuration::few());
    let bytes = prop_oneof![1 => vec(any::<u8>(), 0..300), 6 => changed(seeds(parser))].prop_map(Bytes);
    let outcome = runner.run(&bytes, |bytes| {
        holds(&bytes.0);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{parser}: {error}");
    }
}

macro_rules! parsers {
    ($($name:ident)*) => {
        $(#[test] fn $name() { hold(stringify!($name)); })*

        #[test]
        fn none_is_left_out() {
            let named = [$(stringify!($name)),*];
            assert_eq!(ALL.map(|(name, _)| name), named);
        }
    };
}

parsers! { packet cluster local authkeys unit running state held deaths }

#[test]
fn every_sound_seed_holds() {
    for (parser, holds) in ALL {
        seeds(parser).iter().for_each(|seed| holds(seed));
    }
    assert_eq!(SOUND.len(), 4);
}

#[test]
fn a_changed_packet_is_never_opened() {
    let keys = keys();
    proptest!(crate::configuration::few(), |(body in vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), flip in 1u8..)| {
        let mut packet = keys.seal(body);
        let at = at.index(packet.len());
        packet[at] ^= flip;
        prop_assert!(keys.open(&packet).is_err());
    });
}
