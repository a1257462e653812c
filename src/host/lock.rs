//! One daemon per host: a lock that the kernel drops with the process, however it ends.

use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// Held as long as it lives.
#[derive(Debug)]
pub struct InstanceLock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("hafailoverd runs already, as process {pid}: stop that one first (`systemctl stop hafailover`)")]
    Held { pid: String },
    #[error("{path} cannot be locked: {error}")]
    Io { path: String, error: io::Error },
}

/// Takes `lock` in the run directory and writes this process's id into it.
pub fn acquire(run: &Path) -> Result<InstanceLock, LockError> {
    let path = run.join("lock");
    let io_error = |error: io::Error| LockError::Io { path: path.display().to_string(), error };
    std::fs::create_dir_all(run).map_err(io_error)?;
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io_error)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // Who it is only helps the reader; that there is one is certain.
            let _ = file.read_to_string(&mut pid);
            return Err(LockError::Held { pid: pid.trim().to_owned() });
        }
        Err(error) => return Err(io_error(error.into())),
    }
    let write = |mut file: &File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&file).map_err(io_error)?;
    Ok(InstanceLock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::TempPlaces;

    #[test]
    fn a_second_daemon_is_refused_by_name_until_the_first_ends() {
        let places = TempPlaces::new("lock");
        let first = acquire(&places.run).unwrap();
        let refusal = acquire(&places.run).unwrap_err().to_string();
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
        drop(first);
        acquire(&places.run).unwrap();
    }
}
