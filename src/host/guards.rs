//! Keeps the beat thread told whether each group is guarded. Asked anew when systemd has reloaded, when the groups'
//! files changed, and when the bus comes and goes.

use super::orders::{Beat, ToBeat};
use super::state::Places;
use super::systemd::bus::{BusError, Systemd};
use super::systemd::guard::{self, Digester, Digests};
use crate::cluster::Event;
use crate::config::Paths;
use crate::config::model::{Config, GroupId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one check found: the digests it went by, and each group's fault.
#[derive(Debug)]
pub(super) struct Checked {
    digests: Arc<Digests>,
    /// systemd goes by another order than what runs.
    stale: bool,
    faults: BTreeMap<GroupId, Option<String>>,
}

#[derive(Debug, Default)]
pub(super) struct Guards {
    /// What the last complete check went by.
    digests: Option<Arc<Digests>>,
    running: bool,
    /// Something happened during a check: check again.
    again: bool,
    stale: bool,
    /// What was written, and what ran, when systemd was last asked to read its units anew: asking twice would change nothing.
    asked: Option<(String, Arc<Config>)>,
}

/// What a check needs to know.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) config: Arc<Config>,
    pub(super) systemd: Systemd,
    pub(super) paths: Paths,
    pub(super) digester: Digester,
    pub(super) places: Places,
}

impl Guards {
    /// Whether a check may start now; one at a time, and none is forgotten.
    pub(super) fn begin(&mut self) -> bool {
        self.again = self.running;
        !std::mem::replace(&mut self.running, true)
    }

    /// Nothing to compare with after a reload: every unit may have changed.
    pub(super) fn forget_digests(&mut self) {
        self.digests = None;
    }

    pub(super) fn digests(&self) -> Option<Arc<Digests>> {
        self.digests.clone()
    }

    /// Takes the end of a check (`None`: the files are as they were); answers whether another one is due.
    pub(super) fn end(&mut self, checked: Result<Option<Checked>, BusError>, scope: &Scope, beat: &Beat) -> bool {
        self.running = false;
        match checked {
            Ok(None) => {}
            Ok(Some(Checked { digests, stale, faults })) => {
                let state = (digests.written().to_owned(), scope.config.clone());
                self.stale = stale && self.asked.as_ref() != Some(&state);
                if self.stale {
                    self.asked = Some(state);
                }
                self.digests = Some(digests);
                faults.into_iter().for_each(|(group, fault)| tell(group, fault, beat));
            }
            Err(error) => {
                self.digests = None;
                for group in scope.config.live_groups() {
                    tell(group, Some(error.to_string()), beat);
                }
            }
        }
        let again = std::mem::take(&mut self.again);
        if again {
            // What happened meanwhile may be a reload that this check saw only in part: the files are no proof that it did not.
            self.digests = None;
        }
        again
    }

    /// Whether systemd should be asked to read its units anew, so that it orders what runs as it runs. Once: it may be in vain.
    pub(super) fn wants_reload(&mut self) -> bool {
        std::mem::take(&mut self.stale)
    }
}

/// Also what was told before: a start that was refused may have told the heart otherwise since.
fn tell(group: GroupId, fault: Option<String>, beat: &Beat) {
    beat.send(ToBeat::Event(Event::Guard { group, fault }));
}

/// Checks all groups, unless the files are what they were at `known`.
pub(super) async fn check(scope: Scope, known: Option<Arc<Digests>>) -> Result<Option<Checked>, BusError> {
    let digests = scope.digester.digests().await;
    // A bus that went away is a fault, whatever was known before.
    if known.as_ref() == Some(&digests) && scope.systemd.connected() {
        return Ok(None);
    }
    let mut faults = BTreeMap::new();
    for group in scope.config.live_groups() {
        let config = scope.config.group(group);
        let grant = scope.places.grant_file(&config.name);
        let units = guard::guarded_units(&scope.systemd, config, &grant, &digests, &scope.digester).await?;
        faults.insert(group, units.err());
    }
    let stale = digests.is_stale(&scope.config);
    Ok(Some(Checked { digests, stale, faults }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::{TempPlaces, config};
    use crate::host::orders::beat_channel;

    #[test]
    fn a_check_that_was_overtaken_proves_nothing() {
        let places = TempPlaces::new("guards");
        let paths = Paths::under(&places.state);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let digester = Digester::new(paths.clone());
        let digests = runtime.block_on(digester.digests());
        let config = Arc::new(config(&["alpha"]));
        let scope = Scope { config, systemd: Systemd::new(), paths, digester, places: places.clone() };
        let (beat, _inbox) = beat_channel().unwrap();
        let mut guards = Guards::default();
        let checked = || Ok(Some(Checked { digests: digests.clone(), stale: false, faults: BTreeMap::new() }));

        assert!(guards.begin());
        assert!(!guards.end(checked(), &scope, &beat));
        assert_eq!(guards.digests(), Some(digests.clone()), "an undisturbed check is remembered");

        assert!(guards.begin());
        guards.forget_digests();
        assert!(!guards.begin(), "one at a time");
        assert!(guards.end(checked(), &scope, &beat), "and none is forgotten");
        assert_eq!(guards.digests(), None, "the next check looks at every unit");
    }
}
