//! The files against what runs: what a reload takes over at once (keys), what the heart is to agree on with its peers (groups), and
//! what waits for a restart (all else). Files with mistakes change nothing. And what a daemon runs by when it starts.

use super::orders::{Beat, ToBeat};
use super::questions::Asker;
use super::systemd::bus::Systemd;
use super::systemd::guard;
use crate::cluster::Event;
use crate::config::model::{Config, GroupConfig, NodeId};
use crate::config::{self, Loaded, Paths, Problem};
use crate::wire::seal::KeySet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Some hundred small files. Who hangs on a disk for longer must not hang a reload, nor those that come after it.
const FILES_PATIENCE: Duration = Duration::from_secs(8);
/// systemd runs every generator and reads every unit: some seconds on a slow host.
const SYSTEMD_PATIENCE: Duration = Duration::from_secs(15);

/// What was read, and why systemd could not be told of it.
#[derive(Debug)]
pub(super) struct Read {
    /// Nothing: the files could not be read in time.
    loaded: Option<Result<Loaded, Vec<Problem>>>,
    unguarded: Option<String>,
}

/// Who wants the files to be read.
#[derive(Debug)]
pub(super) enum Caller {
    Asker(Asker),
    /// SIGHUP: answered in the journal.
    Hangup,
}

/// One reading at a time: of two, the one that began first could end last, and put former keys and groups back. Each caller is answered by
/// one that began after its call.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    running: bool,
    /// Whom the reading under way answers.
    now: Vec<Caller>,
    /// Who came since it began.
    next: Vec<Caller>,
    /// Held by what reads, also after it was given up: a disk that hangs takes one thread, however often a reload is asked for.
    reader: Arc<Mutex<()>>,
}

impl Reloads {
    pub(super) fn ask(&mut self, caller: Caller) {
        self.next.push(caller);
    }

    /// Whether a reading is to begin now.
    pub(super) fn begin(&mut self) -> bool {
        if self.running || self.next.is_empty() {
            return false;
        }
        (self.running, self.now) = (true, std::mem::take(&mut self.next));
        true
    }

    pub(super) fn reader(&self) -> Arc<Mutex<()>> {
        self.reader.clone()
    }

    /// The reading is over: who asked for it, and whether a SIGHUP did.
    pub(super) fn end(&mut self) -> (Vec<Asker>, bool) {
        self.running = false;
        let (mut askers, mut hangup) = (Vec::new(), false);
        for caller in std::mem::take(&mut self.now) {
            match caller {
                Caller::Asker(asker) => askers.push(asker),
                Caller::Hangup => hangup = true,
            }
        }
        (askers, hangup)
    }
}

/// Reads the files on a thread that may wait for them. Where systemd has not loaded the guards they ask for, it is told to: members
/// that are new have them before anybody adopts these files.
pub(super) async fn read(paths: Paths, systemd: Systemd, reader: Arc<Mutex<()>>) -> Read {
    let files = move || {
        // A host without a name is found among no nodes, which is then the mistake that is told.
        let loaded = config::load(&paths, &config::hostname().unwrap_or_default());
        let lacks_files = loaded.is_ok() && guard::read_digests(&paths).lacks_files();
        (loaded, lacks_files)
    };
    let Some((loaded, lacks_files)) = in_time(reader, FILES_PATIENCE, files).await else {
        return Read { loaded: None, unguarded: None };
    };
    let mut unguarded = None;
    if lacks_files {
        unguarded = match timeout(SYSTEMD_PATIENCE, systemd.reload()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {SYSTEMD_PATIENCE:?}")),
        };
    }
    Read { loaded: Some(loaded), unguarded }
}

/// What `read` finds, on a thread that may wait for a disk. Nothing where that takes longer than `patience`.
async fn in_time<T>(reader: Arc<Mutex<()>>, patience: Duration, read: impl FnOnce() -> T + Send + 'static) -> Option<T>
where
    T: Send + 'static,
{
    let look = async {
        let reading = reader.lock_owned().await;
        let read = move || {
            let _reading = reading;
            read()
        };
        // It is cancelled only if the process ends.
        tokio::task::spawn_blocking(read).await.ok()
    };
    timeout(patience, look).await.ok().flatten()
}

/// Takes over what this process alone decides on, and answers with what is said of that, and with the groups as the files have
/// them; or with all mistakes.
pub(super) fn apply(
    read: Read,
    running: &Config,
    keys: &mut KeySet,
    beat: &Beat,
) -> Result<(Vec<String>, Vec<GroupConfig>), String> {
    let pend = |what| beat.send(ToBeat::Event(Event::Pending(what)));
    let loaded = match read.loaded {
        Some(Ok(loaded)) => loaded,
        None => {
            return Err(format!(
                "the files could not be read in time ({FILES_PATIENCE:?}), the running configuration stays as it is: look at \
                 the disk they are on"
            ));
        }
        Some(Err(problems)) => {
            pend(Some(mistakes(&problems)));
            let lines: String = problems.iter().map(|problem| format!("\n{problem}")).collect();
            return Err(format!("the files have mistakes, the running configuration stays as it is:{lines}"));
        }
    };
    let mut said = Vec::new();
    if loaded.keys != *keys {
        *keys = loaded.keys.clone();
        beat.send(ToBeat::Keys(loaded.keys));
        said.push("the keys are in use".to_owned());
    }
    let (groups, unknown) = in_terms_of(running, &loaded.config);
    let pending = restart_for(running, &loaded.config, &unknown);
    said.extend(pending.iter().map(|what| format!("changed on disk: {what}")));
    pend(pending);
    said.extend(
        read.unguarded.map(|error| {
            format!("systemd cannot be asked to read its units anew: {error}; run: systemctl daemon-reload")
        }),
    );
    said.extend(loaded.warnings.iter().map(|warning| format!("warning: {warning}")));
    Ok((said, groups))
}

/// In one line, for the status.
pub fn mistakes(problems: &[Problem]) -> String {
    let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
    format!("it has mistakes, so what ran before goes on: {}", all.join(" | "))
}

/// What of the files takes effect with the next start only. `unknown`: groups that name nodes which this daemon does not know.
fn restart_for(running: &Config, files: &Config, unknown: &[String]) -> Option<String> {
    let without_groups = |config: &Config| Config { groups: Vec::new(), ..config.clone() };
    let mut what = Vec::new();
    if running.cluster_digest != files.cluster_digest {
        what.push("hafailover.toml".to_owned());
    } else if without_groups(running) != without_groups(files) {
        what.push("local.toml".to_owned());
    }
    what.extend(unknown.iter().map(|name| format!("group {name}, whose Nodes= are not all known here yet")));
    (!what.is_empty()).then(|| {
        let groups = "which keeps the groups running";
        format!("{}; it takes effect with `systemctl restart hafailover`, {groups}", what.join(", "))
    })
}

/// The groups of `files` with the nodes as `running` numbers them; and those that name a node it does not know: they stay as they run.
pub fn in_terms_of(running: &Config, files: &Config) -> (Vec<GroupConfig>, Vec<String>) {
    let (mut groups, mut unknown) = (Vec::new(), Vec::new());
    for group in &files.groups {
        let nodes: Option<Vec<NodeId>> =
            group.nodes.iter().map(|node| running.find_node(&files.node(*node).name)).collect();
        match nodes {
            Some(nodes) => groups.push(GroupConfig { nodes, ..group.clone() }),
            None => {
                unknown.push(group.name.clone());
                groups.extend(running.find_group(&group.name).map(|id| running.group(id).clone()));
            }
        }
    }
    (groups, unknown)
}

/// What a daemon that starts runs by: the cluster of its files, and the groups as they were adopted. `held`: groups that run here.
/// Answers with what stands against these files, if anything.
pub fn at_start(adopted: Option<Config>, files: &Config, held: &[String]) -> (Config, Option<String>) {
    let Some(adopted) = adopted else { return (files.clone(), None) };
    let renamed = adopted.node(adopted.me).name != files.node(files.me).name;
    if !held.is_empty() && renamed {
        let why = format!(
            "this node has another name now, and {} runs here and goes on as before; to change it: hafailoverctl stop {}, \
             systemctl restart hafailover",
            held.join(", "),
            held[0]
        );
        return (adopted, Some(why));
    }
    // Another cluster's groups mean nothing in this one.
    if held.is_empty() && adopted.cluster != files.cluster {
        return (files.clone(), None);
    }
    let groups = adopted.groups.iter().map(|group| {
        let same = files.groups.iter().find(|other| other.name == group.name && other.digest == group.digest);
        // What only this host's own names tell apart is not for the peers to agree on.
        if let Some(same) = same.filter(|_| !held.contains(&group.name)) {
            return same.clone();
        }
        let nodes = group.nodes.iter().filter_map(|node| files.find_node(&adopted.node(*node).name)).collect();
        GroupConfig { nodes, ..group.clone() }
    });
    (Config { groups: groups.collect(), ..files.clone() }, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Answer;
    use crate::host::held::tests::config;
    use crate::host::orders::beat_channel;
    use crate::wire::seal::{Key, Method};
    use std::collections::BTreeMap;
    use std::pin::Pin;
    use tokio::sync::oneshot;

    type Look = Pin<Box<dyn Future<Output = Option<()>>>>;

    fn keys(secret: &str) -> KeySet {
        let key = Key { method: Method::Sha256, secret: secret.into() };
        KeySet::new(1, BTreeMap::from([(1, key)])).unwrap()
    }

    fn loaded(config: Config, secret: &str) -> Read {
        Read { loaded: Some(Ok(Loaded { config, keys: keys(secret), warnings: vec![] })), unguarded: None }
    }

    #[test]
    fn new_keys_are_taken_and_nothing_else_is_pending() {
        let (beat, inbox) = beat_channel().unwrap();
        let (running, mut held) = (config(&["alpha"]), keys("old"));
        let taken = apply(loaded(running.clone(), "new"), &running, &mut held, &beat);
        assert_eq!(taken, Ok((vec!["the keys are in use".into()], running.groups.clone())));
        assert_eq!(held, keys("new"));
        let told: Vec<ToBeat> = inbox.drain().collect();
        assert!(matches!(&told[0], ToBeat::Keys(new) if *new == keys("new")), "{told:?}");
        assert!(matches!(&told[1], ToBeat::Event(Event::Pending(None))), "{told:?}");
        let again = apply(loaded(running.clone(), "new"), &running, &mut held, &beat);
        assert_eq!(again, Ok((vec![], running.groups)));
    }

    #[test]
    fn a_disk_that_hangs_is_given_up_and_takes_one_thread_however_often_a_reload_is_asked_for() {
        let reader = Reloads::default().reader();
        let (answer, disk) = std::sync::mpsc::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let soon = Duration::from_millis(50);
        // Without an end it would be waited for as long as this.
        let bounded = |look| runtime.block_on(async { timeout(soon * 200, look).await });
        let first = bounded(Box::pin(in_time(reader.clone(), soon, move || disk.recv().unwrap_or_default())) as Look);
        let second = bounded(Box::pin(in_time(reader.clone(), soon, || ())));
        let busy = reader.try_lock().is_err();
        drop(answer);
        let third = bounded(Box::pin(in_time(reader, soon * 100, || ())));
        runtime.shutdown_background();
        assert_eq!((first, second, third), (Ok(None), Ok(None), Ok(Some(()))));
        assert!(busy, "the second began while the first still read");
    }

    #[test]
    fn files_that_cannot_be_read_in_time_change_nothing() {
        let (beat, inbox) = beat_channel().unwrap();
        let (running, mut held) = (config(&["alpha"]), keys("old"));
        let answer = apply(Read { loaded: None, unguarded: None }, &running, &mut held, &beat).unwrap_err();
        assert!(answer.contains("could not be read in time"), "{answer}");
        assert_eq!((held, inbox.drain().count()), (keys("old"), 0));
    }

    #[test]
    fn files_are_read_one_at_a_time_and_each_caller_is_answered_by_a_reading_after_its_call() {
        let mut reloads = Reloads::default();
        assert!(!reloads.begin(), "nobody asked");
        let (first, one) = oneshot::channel();
        reloads.ask(Caller::Asker(first));
        assert!(reloads.begin());
        let (second, two) = oneshot::channel();
        for caller in [Caller::Asker(second), Caller::Hangup, Caller::Hangup] {
            reloads.ask(caller);
            assert!(!reloads.begin(), "a reading that began before the call is under way");
        }
        let answer = |reloads: &mut Reloads, text: &str| {
            let (askers, hangup) = reloads.end();
            let answered = askers.len();
            askers.into_iter().for_each(|asker| asker.send(Answer::Done(text.into())).unwrap());
            (answered, hangup)
        };
        assert_eq!(answer(&mut reloads, "older files"), (1, false));
        assert!(reloads.begin(), "and then the files are read again, once for all who came");
        assert_eq!(answer(&mut reloads, "newer files"), (1, true));
        assert!(!reloads.begin());
        assert_eq!(one.blocking_recv(), Ok(Answer::Done("older files".into())));
        assert_eq!(two.blocking_recv(), Ok(Answer::Done("newer files".into())));
    }

    #[test]
    fn what_waits_for_a_restart_is_named_and_groups_do_not() {
        let running = config(&["alpha", "beta"]);
        let waits = |change: fn(&mut Config)| {
            let mut files = running.clone();
            change(&mut files);
            restart_for(&running, &files, &in_terms_of(&running, &files).1).unwrap_or_default()
        };
        assert_eq!(waits(|files| files.groups[1].members.clear()), "");
        assert!(waits(|files| files.cluster_digest += 1).starts_with("hafailover.toml; it takes effect with"));
        assert!(waits(|files| files.takeover.delay = Duration::from_secs(1)).starts_with("local.toml; "));
    }

    #[test]
    fn nodes_are_known_by_name_and_a_group_that_names_a_new_one_stays_as_it_runs() {
        let running = config(&["alpha", "beta"]);
        let mut files = config(&["beta", "gamma", "alpha"]);
        files.groups[0].nodes = vec![NodeId(0), NodeId(2)];
        files.groups[1].nodes = vec![NodeId(1), NodeId(2)];
        files.groups[1].members.clear();
        let (groups, unknown) = in_terms_of(&running, &files);
        assert_eq!(groups[0].nodes, [NodeId(1), NodeId(0)], "beta, then alpha");
        assert_eq!((&groups[1], unknown), (&running.groups[1], vec!["web".to_owned()]));
        let mut new = running.clone();
        new.groups.remove(1);
        assert_eq!(in_terms_of(&new, &files).0.len(), 1, "and one that is new waits");
    }

    #[test]
    fn a_start_goes_on_with_what_was_adopted_whatever_the_files_say_of_groups() {
        let mut adopted = config(&["alpha", "beta"]);
        adopted.groups[1].nodes = vec![NodeId(1), NodeId(0)];
        let mut files = config(&["beta", "alpha"]);
        files.timing.deadtime *= 2;
        files.groups[1].members.clear();
        files.groups[1].digest += 1;
        files.groups.remove(0);
        let (runs, why) = at_start(Some(adopted.clone()), &files, &[]);
        assert_eq!((runs.timing.deadtime, why), (files.timing.deadtime, None));
        assert_eq!(runs.groups.len(), 2, "one that is gone from the files is not gone from the cluster");
        assert_eq!(runs.groups[1].members, adopted.groups[1].members);
        assert_eq!(runs.groups[1].nodes, [NodeId(0), NodeId(1)], "beta, then alpha, as their names say");
        assert_eq!(at_start(None, &files, &[]), (files.clone(), None), "the first start of all");
        let other = Config { cluster: "other".into(), ..files };
        assert_eq!(at_start(Some(adopted), &other, &[]), (other.clone(), None), "groups of another cluster");
    }

    #[test]
    fn names_of_this_host_alone_are_the_files_unless_the_group_runs_here() {
        let adopted = config(&["alpha", "beta"]);
        let mut files = adopted.clone();
        files.groups[1].interfaces = vec!["lan7".into()];
        let interfaces = |held: &[String]| at_start(Some(adopted.clone()), &files, held).0.groups[1].interfaces.clone();
        assert_eq!(interfaces(&[]), ["lan7"]);
        assert_eq!(interfaces(&["web".into()]), Vec::<String>::new(), "what runs is changed step by step");
    }

    #[test]
    fn a_node_that_has_another_name_goes_on_with_what_it_holds() {
        let adopted = config(&["alpha", "beta"]);
        let files = config(&["gamma", "beta"]);
        let (runs, why) = at_start(Some(adopted.clone()), &files, &["web".into()]);
        assert_eq!(runs, adopted);
        assert!(why.unwrap().contains("hafailoverctl stop web"));
        assert_eq!(at_start(Some(adopted), &files, &[]).0.nodes, files.nodes);
    }

    #[test]
    fn mistakes_change_nothing_and_are_all_told() {
        let (beat, inbox) = beat_channel().unwrap();
        let problem = |line, what: &str| Problem {
            file: "/etc/hafailover/hafailover.toml".into(),
            line,
            column: 2,
            what: what.into(),
            remedy: "do otherwise".into(),
        };
        let (running, mut held) = (config(&["alpha"]), keys("old"));
        let read = Read { loaded: Some(Err(vec![problem(3, "first"), problem(9, "second")])), unguarded: None };
        let text = apply(read, &running, &mut held, &beat).unwrap_err();
        assert!(text.contains("hafailover.toml:3:2: first; do otherwise"), "{text}");
        assert!(text.contains("hafailover.toml:9:2: second"), "{text}");
        let told: Vec<ToBeat> = inbox.drain().collect();
        let [ToBeat::Event(Event::Pending(Some(what)))] = &told[..] else { panic!("{told:?}") };
        assert!(what.contains("first") && what.contains("second"), "the status says it too: {what}");
        assert_eq!(held, keys("old"));
    }
}
