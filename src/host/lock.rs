//! One daemon per host: a lock that the kernel drops with the process, however it ends.

use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

const TRY_AGAIN: Duration = Duration::from_millis(50);

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
    // The lock is what counts, also where /run has no room to say whose it is.
    let _ = write(&file);
    Ok(InstanceLock { _file: file })
}

/// Tries again for as long as somebody else has it, up to `patience`.
pub fn acquire_within(run: &Path, patience: Duration) -> Result<InstanceLock, LockError> {
    let end = Instant::now() + patience;
    loop {
        match acquire(run) {
            Err(LockError::Held { .. }) if Instant::now() < end => std::thread::sleep(TRY_AGAIN),
            outcome => return outcome,
        }
    }
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

    #[test]
    fn one_that_is_about_to_be_given_back_is_waited_for_and_no_longer() {
        let places = TempPlaces::new("lock-wait");
        let first = acquire(&places.run).unwrap();
        let begun = Instant::now();
        assert!(matches!(acquire_within(&places.run, TRY_AGAIN * 4), Err(LockError::Held { .. })));
        assert!(begun.elapsed() >= TRY_AGAIN * 4);
        let end = std::thread::spawn(move || {
            std::thread::sleep(TRY_AGAIN * 2);
            drop(first);
        });
        acquire_within(&places.run, Duration::from_secs(60)).unwrap();
        end.join().unwrap();
    }
}
