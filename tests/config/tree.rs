//! A sound configuration below a folder that goes away with the test.

use hafailover::config::{Loaded, Paths, Problem, load};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) const HOSTNAME: &str = "alpha";
pub(crate) const CLUSTER: &str = "etc/hafailover/hafailover.toml";
pub(crate) const LOCAL: &str = "etc/hafailover/local.toml";
pub(crate) const KEYS: &str = "etc/hafailover/authkeys";
pub(crate) const WEB: &str = "etc/systemd/system/hafailover-group@web.target.d/web.conf";
pub(crate) const DB: &str = "etc/systemd/system/hafailover-group@db.target.d/db.conf";

pub(crate) const SOUND: [(&str, &str); 5] = [
    (
        CLUSTER,
        r#"[cluster]
name = "shop"
nodes = ["alpha", "beta"]

[timing]
keepalive = "100ms"
warntime = "150ms"
deadtime = "300ms"
initdead = "10s"

[[link]]
kind = "ucast"
interface = "hb0"
port = 694
peers = { alpha = "172.16.1.75", beta = "172.16.1.76" }

[[link]]
kind = "ucast"
interface = "hb1"
port = 694
peers = { alpha = "172.16.2.75", beta = "172.16.2.76" }

[takeover]
proof = "silence"
"#,
    ),
    (LOCAL, "[interfaces]\nhb0 = \"enp3s0\"\n"),
    (KEYS, "auth 1\n1 sha256 a8fdc205a9f19cc1c7507a60c4f01b13\n"),
    (
        WEB,
        "[Unit]\nDescription=Public web site\n\n[X-HAFailover]\nNodes=alpha beta\nAddress=10.0.0.77/24 dev eth0\n\
         Start=srv-www.mount nginx.service\n",
    ),
    (DB, "[X-HAFailover]\nNodes=beta alpha\nAddress=10.0.0.78/24 dev eth0\nStart=postgresql@15-main.service\n"),
];

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
