//! Keeps the adopted configuration on disk, beside all else: a slow disk delays nothing but the disk's copy. Later ones replace
//! earlier ones that were not written yet. It must not know what a configuration means.

use super::running;
use super::state::Places;
use crate::config::model::Config;
use crate::journal::{JournalHandle, Level};
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct Keeper {
    latest: watch::Sender<Option<Arc<Config>>>,
}

impl Keeper {
    pub(super) fn start(places: Places, journal: JournalHandle) -> Keeper {
        let (latest, mut configs) = watch::channel(None::<Arc<Config>>);
        tokio::spawn(async move {
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
        Keeper { latest }
    }

    pub(super) fn keep(&self, config: Arc<Config>) {
        self.latest.send_replace(Some(config));
    }
}
