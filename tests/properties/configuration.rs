//! Configurations made from what an administrator may write: each is understood as it was meant.

use hafailover::config::{Paths, load};
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For every commit; `PROPTEST_CASES` asks for more. What failed is told, and not written into the source tree.
pub fn few() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() }
}

/// Below a folder that goes away with the test.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Tree {
        let root = std::env::temp_dir().join(format!("hafailover-made-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let tree = Tree(root);
        crate::holds::SOUND.iter().for_each(|(file, text)| tree.write(file, text));
        tree
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its mode");
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn spelled(milliseconds: u64) -> impl Strategy<Value = String> {
    let seconds = milliseconds as f64 / 1000.0;
    prop::sample::select(vec![
        format!("\"{milliseconds}ms\""),
        format!("\"{}us\"", milliseconds * 1000),
        format!("{seconds:?}"),
        format!("\"{seconds:?}s\""),
    ])
}

fn times() -> impl Strategy<Value = (u64, u64, u64, Vec<String>)> {
    (10..2000u64).prop_flat_map(|keepalive| (Just(keepalive), keepalive * 2 + 1..keepalive * 40)).prop_flat_map(
        |(keepalive, deadtime)| {
            let initdead = deadtime * 2 + 1000;
            let all = [spelled(keepalive), spelled(deadtime), spelled(initdead)];
            (Just(keepalive), Just(deadtime), Just(initdead), all.to_vec_strategy())
        },
    )
}

/// Strategies as one.
trait ToVec {
    fn to_vec_strategy(self) -> BoxedStrategy<Vec<String>>;
}

impl<S: Strategy<Value = String> + 'static> ToVec for [S; 3] {
    fn to_vec_strategy(self) -> BoxedStrategy<Vec<String>> {
        let [first, second, third] = self;
        (first, second, third).prop_map(|(first, second, third)| vec![first, second, third]).boxed()
    }
}

#[test]
fn times_mean_the_same_however_they_are_spelled() {
    let tree = Tree::new("times");
    proptest!(few(), |((keepalive, deadtime, initdead, spelled) in times())| {
        let text = crate::holds::SOUND[0].1;
        let (head, tail) = text.split_once("[timing]").expect("it has times");
        let (_, tail) = tail.split_once("[[link]]").expect("and links behind");
        let timing = format!("[timing]\nkeepalive = {}\ndeadtime = {}\ninitdead = {}\n\n[[link]]", spelled[0], spelled[1], spelled[2]);
        tree.write(crate::holds::CLUSTER, &format!("{head}{timing}{tail}"));
        let loaded = load(&Paths::under(&tree.0), "alpha").map_err(|problems| TestCaseError::fail(format!("{problems:?}")))?;
        let timing = loaded.config.timing;
        let told = [timing.keepalive, timing.deadtime, timing.initdead];
        prop_assert_eq!(told, [keepalive, deadtime, initdead].map(Duration::from_millis));
    });
}

/// A list of units, as lines that systemd takes for the same list: apart, joined, continued, quoted, with comments between, and after
/// lines that a reset undoes.
fn start_lines() -> impl Strategy<Value = (Vec<String>, String)> {
    let name = "[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?";
    let names = prop::collection::btree_set(name, 1..6);
    let shape = prop::collection::vec(0..6u8, 8);
    (names, shape, any::<bool>()).prop_map(|(names, shape, reset)| {
        let names: Vec<String> = names.into_iter().map(|name| format!("x{name}.service")).collect();
        let mut text = if reset { "Start=old.service \\\n  older.service\nStart=\n".to_owned() } else { String::new() };
        text.push_str("Start=");
        for (index, name) in names.iter().enumerate() {
            let last = index + 1 == names.len();
            let quoted = if shape[index] == 1 { format!("\"{name}\"") } else { name.clone() };
            text.push_str(&quoted);
            text.push_str(match (last, shape[index]) {
                (true, _) => "\n",
                (false, 2) => " \\\n\t",
                (false, 3) => "\n# a word\n; another\nStart=",
                (false, 4) => " \\\n# within\n ",
                (false, 5) => "\nStart = ",
                (false, _) => "  ",
            });
        }
        (names, text)
    })
}

#[test]
fn a_list_means_the_same_however_it_is_broken_into_lines() {
    let tree = Tree::new("lines");
    proptest!(few(), |((names, lines) in start_lines())| {
        let text = format!("[X-HAFailover]\nNodes=alpha beta\nAddress=10.0.0.77/24 dev eth0\n{lines}");
        tree.write(crate::holds::UNIT, &text);
        let loaded = load(&Paths::under(&tree.0), "alpha").map_err(|problems| TestCaseError::fail(format!("{problems:?}\n{text}")))?;
        prop_assert_eq!(&loaded.config.groups[0].members, &names, "{}", text);
    });
}
