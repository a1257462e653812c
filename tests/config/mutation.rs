//! Bytes that nobody would write: every parser answers with problems, none with a panic, and what is loaded is guarded.
//! Seeded, so that a failure comes again.

use crate::tree::{CLUSTER, HOSTNAME, KEYS, LOCAL, SOUND, Tree, WEB};
use hafailover::config::Problem;
use hafailover::host::systemd::generator::{DROP_IN, render};
use std::panic::catch_unwind;
use std::path::Path;

const ROUNDS: u64 = 250;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).expect("below a usize")
    }
}

fn mutate(text: &[u8], random: &mut Random) -> Vec<u8> {
    const PIECES: [&[u8]; 16] = [
        b"\\",
        b"\"",
        b"'",
        b"[",
        b"]",
        b"=",
        b"\n",
        b"%",
        b"\0",
        b"\xff",
        b"\xc3",
        "µ".as_bytes(),
        b"-1",
        b"{",
        b".",
        b"99999999999999999999",
    ];
    let mut bytes = text.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(4) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = random.next().to_le_bytes()[0],
            2 if at < bytes.len() => {
                bytes.remove(at);
            }
            _ => {
                let piece = PIECES[random.below(PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn no_bytes_make_a_parser_panic() {
    let tree = Tree::sound();
    for file in [CLUSTER, LOCAL, KEYS, WEB] {
        let (_, sound) = SOUND.iter().find(|(name, _)| *name == file).expect("a file of the tree");
        for seed in 0..ROUNDS {
            let bytes = mutate(sound.as_bytes(), &mut Random(seed));
            tree.write(file, &bytes);
            let outcome = catch_unwind(|| (tree.load(), render(&tree.paths(), HOSTNAME)));
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let (loaded, generated) = outcome.unwrap_or_else(|_| panic!("{file}, seed {seed}:\n{text}"));
            match loaded {
                Ok(loaded) => {
                    for unit in loaded.config.groups.iter().flat_map(|group| &group.members) {
                        let drop_in = Path::new(&format!("{unit}.d")).join(DROP_IN);
                        assert!(
                            generated.files.contains_key(&drop_in),
                            "{file}, seed {seed}: {unit} unguarded:\n{text}"
                        );
                    }
                }
                Err(problems) => {
                    assert!(!problems.is_empty(), "{file}, seed {seed}: refused without a reason:\n{text}");
                    let told = |p: &Problem| p.line > 0 && p.column > 0 && !p.what.is_empty() && !p.remedy.is_empty();
                    assert!(problems.iter().all(told), "{file}, seed {seed}: {problems:#?}");
                }
            }
        }
        tree.write(file, sound);
    }
}
