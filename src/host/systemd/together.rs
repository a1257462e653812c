//! Looks by `systemctl` at all units that are watched, together: a process for each group would be hundreds a second. Who asks
//! waits for the next look, and those keep a pace. It must not know who asks, nor what a state means.

use super::bus::{BusError, UnitState};
use super::without_bus::Shown;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// From one look to the next: while there is no bus nothing else brings news, and each costs a process.
pub(super) const PACE: Duration = Duration::from_secs(1);
/// For those who ask at the same moment.
const GATHER: Duration = Duration::from_millis(50);

type Seen = Result<Arc<Shown>, BusError>;

#[derive(Clone, Debug, Default)]
pub(super) struct Together {
    next: Arc<Mutex<Next>>,
}

#[derive(Debug, Default)]
struct Next {
    names: BTreeSet<String>,
    asking: Vec<oneshot::Sender<Seen>>,
    /// When the last look began.
    last: Option<Instant>,
}

impl Together {
    /// The state of every unit of `names`, in that order, by a look that begins after this call. `show` looks, if this call
    /// brings it about.
    pub(super) async fn list<S, A>(&self, names: &[String], show: S) -> Result<Vec<UnitState>, BusError>
    where
        S: FnOnce(Vec<String>) -> A + Send + 'static,
        A: Future<Output = Result<Shown, BusError>> + Send + 'static,
    {
        let seen = self.ask(names, show).await;
        let seen = seen.unwrap_or_else(|_| Err(BusError::Unreachable("the look at all units was given up".into())))?;
        let unclear = || BusError::Unreachable("systemctl does not tell what jobs are queued".into());
        seen.states(names)?.ok_or_else(unclear)
    }

    fn ask<S, A>(&self, names: &[String], show: S) -> oneshot::Receiver<Seen>
    where
        S: FnOnce(Vec<String>) -> A + Send + 'static,
        A: Future<Output = Result<Shown, BusError>> + Send + 'static,
    {
        let (answer, seen) = oneshot::channel();
        let mut next = self.next.lock().expect("no holder of this lock panics");
        next.names.extend(names.iter().cloned());
        next.asking.push(answer);
        if next.asking.len() == 1 {
            let soon = Instant::now() + GATHER;
            let at = next.last.map_or(soon, |last| soon.max(last + PACE));
            tokio::spawn(self.clone().look(at, show));
        }
        seen
    }

    async fn look<S, A>(self, at: Instant, show: S)
    where
        S: FnOnce(Vec<String>) -> A,
        A: Future<Output = Result<Shown, BusError>>,
    {
        sleep_until(at).await;
        let (names, asking) = {
            let mut next = self.next.lock().expect("no holder of this lock panics");
            next.last = Some(Instant::now());
            (std::mem::take(&mut next.names), std::mem::take(&mut next.asking))
        };
        // What was watched may have been stopped meanwhile.
        if asking.iter().all(oneshot::Sender::is_closed) {
            return;
        }
        let seen = show(names.into_iter().collect()).await.map(Arc::new);
        for asker in asking {
            // It may have been stopped, too.
            let _ = asker.send(seen.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::task::JoinSet;

    const GROUPS: usize = 200;

    fn units(group: usize) -> Vec<String> {
        vec![format!("hafailover-group@g{group}.target"), format!("m{group}.service")]
    }

    async fn show(names: Vec<String>, looks: Arc<AtomicUsize>) -> Result<Shown, BusError> {
        looks.fetch_add(1, Ordering::Relaxed);
        let block = |name: &String| {
            // One is not told of as it should be.
            let active = if name == "m7.service" { "" } else { "active" };
            format!("Id={name}\nLoadState=loaded\nActiveState={active}\nSubState=x\nJob=\n\n")
        };
        let shown: String = names.iter().map(block).collect();
        Shown::read(&names, &shown, String::new())
    }

    /// What every group sees of its own units.
    async fn all_look(together: &Together, looks: &Arc<AtomicUsize>) -> Vec<bool> {
        let mut tasks = JoinSet::new();
        for group in 0..GROUPS {
            let (together, looks) = (together.clone(), looks.clone());
            tasks.spawn(async move {
                let seen = together.list(&units(group), move |names| show(names, looks)).await;
                let names = seen.map(|states| states.into_iter().map(|state| state.name).collect());
                (group, names == Ok(units(group)))
            });
        }
        let mut seen = tasks.join_all().await;
        seen.sort_unstable();
        seen.into_iter().map(|(_, good)| good).collect()
    }

    #[tokio::test]
    async fn all_groups_are_looked_at_by_one_process_and_at_a_pace() {
        let (together, looks) = (Together::default(), Arc::default());
        let expected: Vec<bool> = (0..GROUPS).map(|group| group != 7).collect();
        let begun = Instant::now();
        assert_eq!(all_look(&together, &looks).await, expected, "one that is not understood hides no other");
        assert!(begun.elapsed() < PACE, "the first look is not put off");
        assert_eq!(all_look(&together, &looks).await, expected);
        assert!(begun.elapsed() >= PACE);
        assert_eq!(looks.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_costs_no_process() {
        let (together, looks) = (Together::default(), Arc::<AtomicUsize>::default());
        let counted = looks.clone();
        let given_up = together.ask(&units(1), move |names| show(names, counted));
        drop(given_up);
        tokio::time::sleep(GATHER * 3).await;
        assert_eq!(looks.load(Ordering::Relaxed), 0);
        let counted = looks.clone();
        assert!(together.list(&units(1), move |names| show(names, counted)).await.is_ok(), "and the next is answered");
    }
}
