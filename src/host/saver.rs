//! Saving the state on a thread of its own: a slow disk delays nothing but the disk's copy. Later states replace
//! earlier ones that were not written yet.

use super::state::{self, Identity, Places};
use crate::cluster::Saved;
use crate::config::model::Config;
use crate::journal::{JournalHandle, Level};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Debug)]
pub(super) struct Saver {
    latest: watch::Sender<Option<Saved>>,
    task: JoinHandle<()>,
}

impl Saver {
    pub(super) fn start(places: Places, config: Arc<Config>, journal: JournalHandle) -> Saver {
        let (latest, mut states) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut failing = false;
            while states.changed().await.is_ok() {
                let Some(saved) = states.borrow_and_update().clone() else { continue };
                let (places, config) = (places.clone(), config.clone());
                let shown = places.state.display().to_string();
                let write = move || state::save(&places, &config, &Identity::read(), &saved);
                let error = match tokio::task::spawn_blocking(write).await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(error) => Some(error.to_string()),
                };
                note_change(&journal, &shown, error, &mut failing);
            }
        });
        Saver { latest, task }
    }

    pub(super) fn save(&self, saved: Saved) {
        self.latest.send_replace(Some(saved));
    }

    /// Waits for the last state to be on disk, at most this long.
    pub(super) async fn finish(self, patience: Duration) {
        drop(self.latest);
        // A disk that does not answer must not keep the host from going down.
        let _ = tokio::time::timeout(patience, self.task).await;
    }
}

/// One entry when saving begins to fail and one when it works again, not one per state.
fn note_change(journal: &JournalHandle, directory: &str, error: Option<String>, failing: &mut bool) {
    match (error, *failing) {
        (Some(error), false) => {
            let text = format!("the state cannot be saved in {directory}: {error}; it would be lost in a reboot");
            journal.note(Level::Error, text);
            *failing = true;
        }
        (None, true) => {
            journal.note(Level::Notice, format!("the state is saved in {directory} again"));
            *failing = false;
        }
        _ => {}
    }
}
