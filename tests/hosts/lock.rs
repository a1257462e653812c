//! The directory that all hosts share, and what the exclusive member wrote there. It must not know why a member runs.

use crate::ensure;
use crate::sweep::LAB;
use crate::sys::Result;
use std::fs;
use std::path::{Path, PathBuf};

fn log() -> PathBuf {
    Path::new(LAB).join("shared/log")
}

/// Forgets what an earlier scenario wrote.
pub fn clear() -> Result {
    for name in ["log", "lock"] {
        let path = Path::new(LAB).join("shared").join(name);
        if path.exists() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// `start HOST`, `stop HOST`, in the order in which they happened.
pub fn lines() -> Vec<String> {
    fs::read_to_string(log()).unwrap_or_default().lines().map(String::from).collect()
}

/// Fails if the member ever ran on two hosts at once.
pub fn never_shared() -> Result {
    let conflict = lines().into_iter().find(|line| line.starts_with("conflict"));
    ensure!(conflict.is_none(), "two owners ran the exclusive member: {}", conflict.unwrap_or_default());
    Ok(())
}
