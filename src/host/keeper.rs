//! Keeps the adopted configuration on disk, beside all else: a slow disk delays nothing but the disk's copy. Later ones replace
//! earlier ones that were not written yet. It must not know what a configuration means.

use super::running;
use super::state::Places;
use crate::config::model::Config;
use crate::journal::{JournalHandle, Level};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Debug)]
pub(super) struct Keeper {
    latest: watch::Sender<Option<Arc<Config>>>,
    task: JoinHandle<()>,
}

impl Keeper {
    pub(super) fn start(places: Places, journal: JournalHandle) -> Keeper {
        let (latest, mut configs) = watch::channel(None::<Arc<Config>>);
        let task = tokio::spawn(async move {
            while configs.changed().await.is_ok() {
                let Some(config) = configs.borrow_and_update().clone() else { continue };
                let (places, shown) = (places.clone(), places.state.display().to_string());
                let error = match tokio::task::spawn_blocking(move || running::keep(&places, &config)).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                };
                let text = format!(
                    "the adopted configuration cannot be kept in {shown}: {error}; after a reboot this node would begin \
                     with an older one"
                );
                journal.note(Level::Error, text);
            }
        });
        Keeper { latest, task }
    }

    pub(super) fn keep(&self, config: Arc<Config>) {
        self.latest.send_replace(Some(config));
    }

    /// Waits for the last configuration to be on disk, at most this long.
    pub(super) async fn finish(self, patience: Duration) {
        drop(self.latest);
        // A disk that does not answer must not keep the host from going down.
        let _ = tokio::time::timeout(patience, self.task).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::{TempPlaces, config};
    use crate::journal::Journal;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tokio::time::Instant;

    #[tokio::test]
    async fn what_was_adopted_last_is_on_disk_at_the_end() {
        let places = TempPlaces::new("keeper");
        let keeper = Keeper::start((*places).clone(), Journal::start().unwrap());
        let (one, two) = (config(&["alpha"]), config(&["alpha", "beta"]));
        keeper.keep(Arc::new(one));
        tokio::task::yield_now().await;
        keeper.keep(Arc::new(two.clone()));
        keeper.finish(Duration::from_secs(30)).await;
        assert_eq!(running::adopted(&places), (Some(two), Vec::new()));
    }

    #[test]
    fn a_disk_that_does_not_answer_is_not_waited_for_longer() {
        let places = TempPlaces::new("keeper-slow");
        // Who opens a FIFO waits for somebody at its other end.
        let fifo = places.state.join("adopted.json");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let begun = Instant::now();
        runtime.block_on(async {
            let keeper = Keeper::start((*places).clone(), Journal::start().unwrap());
            keeper.keep(Arc::new(config(&["alpha"])));
            keeper.finish(Duration::from_millis(50)).await;
        });
        assert!(begun.elapsed() < Duration::from_secs(20));
        runtime.shutdown_background();
    }
}
