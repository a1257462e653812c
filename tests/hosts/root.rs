//! What all hosts share and none changes: Debian, our installed files over it, and the services the scenarios use as
//! members. It must not know hosts.

use crate::sweep::LAB;
use crate::sys::{Result, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Holds an exclusive lock in the directory that all hosts share, and says when it got and lost it. A second holder is
/// refused and writes `conflict`, which fails the scenario.
pub const EXCLUSIVE: &str = "exclusive.service";

#[derive(Debug)]
pub struct Root {
    /// For overlay's `lowerdir=`, topmost first.
    pub layers: String,
}

impl Root {
    /// Debian with the lab's own files, and with ours installed over it where `program` says so.
    pub fn prepare(program: bool) -> Result<Root> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = source.join("packaging/lab/rootfs.sh");
        let suite = std::env::var("HAFAILOVER_LAB_SUITE").unwrap_or_else(|_| "bookworm".into());
        let debian = run(&script.to_string_lossy(), &[&suite])?;
        fs::create_dir_all(LAB)?;
        // In memory: a slow disk of this machine is not what the scenarios measure.
        run("mount", &["-t", "tmpfs", "-o", "mode=755,size=4g", "hafailover-lab", LAB])?;
        let shared = Path::new(LAB).join("shared");
        fs::create_dir_all(&shared)?;
        let layer = Path::new(LAB).join("program");
        lab_files(&layer)?;
        if program {
            install(source, &layer)?;
        }
        Ok(Root { layers: format!("{}:{}", layer.display(), debian.trim()) })
    }
}

/// The same way a packager does it, so that the hosts run what is shipped.
fn install(source: &Path, layer: &Path) -> Result {
    let layer = format!("DESTDIR={}", layer.display());
    run("make", &["--no-print-directory", "-C", &source.to_string_lossy(), "install", &layer, "PREFIX=/usr"]).map(drop)
}

fn lab_files(layer: &Path) -> Result {
    let journal = "[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\nSyncIntervalSec=1\n";
    write(layer, "etc/systemd/journald.conf.d/lab.conf", journal)?;
    fs::create_dir_all(layer.join("var/log/journal"))?;
    let script = write(layer, "usr/local/sbin/exclusive", include_str!("exclusive.sh"))?;
    fs::set_permissions(script, fs::Permissions::from_mode(0o755))?;
    let unit = "[Unit]\nDescription=Holds a lock that only one host may hold\n\n\
                [Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/local/sbin/exclusive\n\n\
                [Install]\nWantedBy=multi-user.target\n";
    write(layer, &format!("etc/systemd/system/{EXCLUSIVE}"), unit)?;
    Ok(())
}

fn write(layer: &Path, path: &str, text: &str) -> Result<PathBuf> {
    let path = layer.join(path);
    fs::create_dir_all(path.parent().expect("a path below the layer"))?;
    fs::write(&path, text)?;
    Ok(path)
}
