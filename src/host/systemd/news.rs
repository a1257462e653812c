//! News of units for those who wait for them. Each is woken by news of its own units alone: hundreds of groups may start at once,
//! and everybody woken by everything would be busy with nothing else. It must not know what a unit's news mean for a group.

use super::bus::UnitState;
use super::without_bus::path_of;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How jobs ended while somebody listened, by unit.
pub(super) type JobResults = BTreeMap<String, String>;

/// Where all news come in: who wants to hear of a unit, by the unit's object path.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    listeners: Mutex<HashMap<String, Vec<Arc<Mail>>>>,
}

/// What came for one listener.
#[derive(Debug, Default)]
struct Mail {
    unread: Mutex<Unread>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Unread {
    any: bool,
    everything: bool,
    jobs: JobResults,
}

/// One listener's end. Every piece of news is only a hint to look again, but for the results of jobs.
#[derive(Debug)]
pub(super) struct News {
    exchange: Arc<Exchange>,
    mail: Arc<Mail>,
    paths: BTreeSet<String>,
    jobs: JobResults,
}

impl Exchange {
    pub(super) fn unit_changed(&self, path: &str) {
        self.tell(path, |unread| unread.any = true);
    }

    pub(super) fn job_removed(&self, unit: &str, result: &str) {
        self.tell(&path_of(unit), |unread| {
            unread.any = true;
            unread.jobs.insert(unit.to_owned(), result.to_owned());
        });
    }

    /// Whatever was known may have changed.
    pub(super) fn everything_changed(&self) {
        let listeners = self.listeners.lock().expect("no holder of this lock panics");
        listeners.values().flatten().for_each(|mail| mail.put(|unread| unread.everything = true));
    }

    fn tell(&self, path: &str, put: impl Fn(&mut Unread)) {
        let listeners = self.listeners.lock().expect("no holder of this lock panics");
        listeners.get(path).into_iter().flatten().for_each(|mail| mail.put(&put));
    }

    /// Listen before you ask: what happens between question and answer is kept.
    pub(super) fn listen(self: &Arc<Exchange>, units: &[String]) -> News {
        let (mail, paths, jobs) = (Arc::default(), BTreeSet::new(), JobResults::new());
        let mut news = News { exchange: self.clone(), mail, paths, jobs };
        news.add(units.iter().map(|unit| path_of(unit)));
        news
    }
}

impl Mail {
    fn put(&self, put: impl Fn(&mut Unread)) {
        put(&mut self.unread());
        self.wake.notify_one();
    }

    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().expect("no holder of this lock panics")
    }
}

impl News {
    /// Also of these: of one that was asked for by an alias, and of what else was found.
    pub(super) fn follow(&mut self, states: &[UnitState]) {
        self.add(states.iter().map(|state| state.path.clone()));
    }

    fn add(&mut self, paths: impl Iterator<Item = String>) {
        let mut listeners = self.exchange.listeners.lock().expect("no holder of this lock panics");
        for path in paths {
            if self.paths.insert(path.clone()) {
                listeners.entry(path).or_default().push(self.mail.clone());
            }
        }
    }

    /// What came so far counts as known from here on.
    pub(super) fn read(&mut self) {
        self.jobs.extend(std::mem::take(&mut *self.mail.unread()).jobs);
    }

    /// As read. Results only explain: whether a job is over, the unit's own state says.
    pub(super) fn jobs(&self) -> &JobResults {
        &self.jobs
    }

    pub(super) fn forget_jobs(&mut self, which: impl Fn(&str) -> bool) {
        self.jobs.retain(|_, result| !which(result));
    }

    /// Until something came that was not read, or the time is over.
    pub(super) async fn wait(&self, until: Instant) {
        self.wait_for(|unread| unread.any || unread.everything, until).await;
    }

    /// The same for the end of a unit's job, and for what may hide it.
    pub(super) async fn wait_for_job(&self, unit: &str, until: Instant) {
        self.wait_for(|unread| unread.everything || unread.jobs.contains_key(unit), until).await;
    }

    async fn wait_for(&self, came: impl Fn(&Unread) -> bool, until: Instant) {
        let come = async {
            while !came(&self.mail.unread()) {
                self.mail.wake.notified().await;
            }
        };
        // Either way it is time to look.
        let _ = timeout_at(until, come).await;
    }
}

impl Drop for News {
    fn drop(&mut self) {
        let mut listeners = self.exchange.listeners.lock().expect("no holder of this lock panics");
        for path in &self.paths {
            if let Some(mails) = listeners.get_mut(path) {
                mails.retain(|mail| !Arc::ptr_eq(mail, &self.mail));
                if mails.is_empty() {
                    listeners.remove(path);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::units::tests::unit;
    use super::*;
    use std::time::Duration;

    const SOON: Duration = Duration::from_millis(20);

    async fn woken(news: &News) -> bool {
        let until = Instant::now() + SOON;
        news.wait(until).await;
        Instant::now() < until
    }

    #[tokio::test]
    async fn each_is_woken_by_its_own_units_alone() {
        let exchange = Arc::new(Exchange::default());
        let mut web = exchange.listen(&["web.target".to_owned(), "nginx.service".to_owned()]);
        let mut db = exchange.listen(&["db.target".to_owned()]);
        exchange.job_removed("nginx.service", "done");
        assert!(woken(&web).await && !woken(&db).await);
        assert!(woken(&web).await, "nobody read it");
        web.read();
        assert_eq!(web.jobs().get("nginx.service").map(String::as_str), Some("done"));
        assert!(!woken(&web).await);
        exchange.unit_changed(&path_of("db.target"));
        assert!(woken(&db).await && !woken(&web).await);
        db.read();
        assert!(db.jobs().is_empty() && !woken(&db).await);
        exchange.everything_changed();
        assert!(woken(&db).await && woken(&web).await);
        web.read();
        let end_of_target = async |web: &News| {
            let until = Instant::now() + SOON;
            web.wait_for_job("web.target", until).await;
            Instant::now() < until
        };
        exchange.unit_changed(&path_of("web.target"));
        exchange.job_removed("nginx.service", "done");
        assert!(!end_of_target(&web).await && woken(&web).await, "one job alone is waited for");
        exchange.job_removed("web.target", "done");
        assert!(end_of_target(&web).await);
        web.read();
        web.forget_jobs(|result| result == "failed");
        assert!(!web.jobs().is_empty());
        web.forget_jobs(|_| true);
        assert!(web.jobs().is_empty());
    }

    #[tokio::test]
    async fn an_alias_is_followed_under_its_own_name_and_nothing_is_left_of_a_listener() {
        let exchange = Arc::new(Exchange::default());
        let mut news = exchange.listen(&["mysql.service".to_owned()]);
        let found = UnitState { path: path_of("mariadb.service"), ..unit("mysql.service", "active", None) };
        news.follow(&[found]);
        exchange.job_removed("mariadb.service", "done");
        assert!(woken(&news).await);
        drop(news);
        assert!(exchange.listeners.lock().unwrap().is_empty());
    }
}
