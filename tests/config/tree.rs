//! A sound configuration below a folder that goes away with the test.

pub(crate) use crate::cases::{CLUSTER, DB, KEYS, LOCAL, SOUND, WEB};
use hafailover::config::{Loaded, Paths, Problem, load};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) const HOSTNAME: &str = "alpha";
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(crate) fn empty() -> Tree {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("hafailover-config-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).expect("the folder for temporary files takes one more");
        Tree { root }
    }

    pub(crate) fn sound() -> Tree {
        let tree = Tree::empty();
        for (file, text) in SOUND {
            tree.write(file, text);
        }
        tree
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    pub(crate) fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its mode");
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).expect("a file of this tree")
    }

    pub(crate) fn replace(&self, file: &str, old: &str, new: &str) {
        let text = self.read(file);
        assert!(text.contains(old), "{file} holds no {old:?}");
        self.write(file, text.replacen(old, new, 1));
    }

    pub(crate) fn remove(&self, file: &str) {
        std::fs::remove_file(self.path(file)).expect("a file of this tree");
    }

    pub(crate) fn paths(&self) -> Paths {
        Paths::under(&self.root)
    }

    pub(crate) fn load(&self) -> Result<Loaded, Vec<Problem>> {
        assert!(rustix::process::geteuid().is_root(), "run as root: authkeys must be root's own file");
        load(&self.paths(), HOSTNAME)
    }

    /// The configuration, which must be sound.
    pub(crate) fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|problems| {
            let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
            panic!("not sound:\n{}", lines.join("\n"))
        })
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
