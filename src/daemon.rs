//! Puts a daemon together: configuration, memory, threads. What runs after a daemon's death is the same daemon with one event more.
//! It decides nothing about groups.

mod after_death;

pub use after_death::after_death;

use crate::beat::BeatThread;
use crate::cluster::{Cluster, Event, Incarnation, Saved};
use crate::config::model::Config;
use crate::config::{self, Paths, Problem};
use crate::host::address::{Neighbours, Netlink};
use crate::host::orders::beat_channel;
use crate::host::state::{self, Identity, Places};
use crate::host::{self, ExitReason, HostSetup, Mode, clock, deaths, held, lock, realtime, reload, running};
use crate::journal::{Journal, JournalHandle, Level};
use crate::perform::Edges;
use crate::record::{self, Recording, Sink};
use crate::wire::seal::KeySet;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::mpsc;

/// Orders that may wait for the host thread. More than the largest number of groups can have under way at once.
const HOST_QUEUE: usize = 4096;
/// A daemon that was killed holds its lock until the kernel is done with it.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How long a disk may take to say what it knows, where the groups wait to be stopped.
const DISK_PATIENCE: Duration = Duration::from_secs(2);
/// For the last entries of the journal.
const JOURNAL_PATIENCE: Duration = Duration::from_millis(500);
/// Threads that wait for disks. Each disk is waited for by few; beyond the unit's `TasksMax=` another one would end the process.
const DISK_THREADS: usize = 24;
/// A confirmed stop after the last death has this long beyond the groups' own times; then the host is rebooted.
const AFTER_DEATH_MARGIN: Duration = Duration::from_secs(20);

/// To standard error, which may be a pipe that nobody reads any more: that must not end what has groups to stop.
macro_rules! say {
    ($($text:tt)*) => { drop(writeln!(io::stderr(), $($text)*)) };
}
use say;

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{} mistakes in the configuration; nothing was started", .0.len())]
    Configuration(Vec<Problem>),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{0}")]
    Lock(#[from] lock::LockError),
    #[error("what ran last cannot be found: {0}")]
    Nothing(String),
    #[error(
        "a stop could not be confirmed and this host cannot be rebooted ({0}): reboot it by hand before its groups are run elsewhere"
    )]
    Reboot(String),
    #[error("not everything was confirmed stopped in time; see the journal")]
    Unconfirmed,
    #[error("the beat thread ended without a word")]
    BeatEnded,
}

fn io_fault(what: impl Into<String>) -> impl FnOnce(io::Error) -> Fault {
    let what = what.into();
    |source| Fault::Io { what, source }
}

/// `hafailoverd`
pub fn run() -> ExitCode {
    let places = Places::default();
    if deaths::gave_up(&places.run) {
        say!(
            "hafailoverd died {} times within {:?}; the groups of this host were stopped and it was not started again. \
             See: journalctl -u hafailover; then: systemctl restart hafailover",
            deaths::BUDGET,
            deaths::WINDOW
        );
        return ExitCode::from(deaths::EXIT_GAVE_UP);
    }
    report(live(&places, Mode::Normal))
}

fn report(end: Result<(), Fault>) -> ExitCode {
    let Err(fault) = end else { return ExitCode::SUCCESS };
    if let Fault::Configuration(problems) = &fault {
        for problem in problems {
            say!("{problem}");
        }
    }
    say!("hafailoverd: {fault}");
    // Starting it again would change nothing: RestartPreventExitStatus=.
    if matches!(fault, Fault::Configuration(_)) { ExitCode::from(deaths::EXIT_GAVE_UP) } else { ExitCode::FAILURE }
}

/// What a daemon begins with.
struct Begin {
    config: Config,
    keys: KeySet,
    first: Vec<Event>,
}

/// What runs is what was adopted; the files are pending until all nodes agree on them. Files with mistakes change nothing.
fn configuration(places: &Places, paths: &Paths, mode: Mode) -> Result<Begin, Fault> {
    if mode == Mode::AfterDeath {
        let (config, keys) = running::load(places).map_err(Fault::Nothing)?;
        return Ok(Begin { config, keys, first: vec![Event::DaemonDied] });
    }
    let hostname = config::hostname().map_err(io_fault("cannot read this host's name"))?;
    let (adopted, unread) = running::adopted(places);
    let instead = if adopted.is_some() { "the copy on disk" } else { "its files" };
    for error in unread {
        say!("{error}: this node begins with {instead}");
    }
    let begin = match (config::load(paths, &hostname), adopted) {
        (Ok(loaded), adopted) => {
            for warning in &loaded.warnings {
                say!("{warning}");
            }
            let (config, why) = reload::at_start(adopted, &loaded.config, &held::groups(places));
            // Under another name this node knows nothing of what the files mean.
            let files = match &why {
                Some(_) => Vec::new(),
                None => {
                    let groups = reload::in_terms_of(&config, &loaded.config).0;
                    vec![Event::Files { groups, request: None }]
                }
            };
            let first = why.into_iter().map(|why| Event::Pending(Some(why))).chain(files).collect();
            Begin { config, keys: loaded.keys, first }
        }
        (Err(problems), Some(config)) => {
            let last = || running::last_keys(places);
            match config::load_keys(paths).or_else(|_| last()) {
                // Keys with mistakes are no others than those of the last daemon.
                Ok(keys) => Begin { config, keys, first: vec![Event::Pending(Some(reload::mistakes(&problems)))] },
                Err(_) => return Err(Fault::Configuration(problems)),
            }
        }
        (Err(problems), None) => return Err(Fault::Configuration(problems)),
    };
    running::keep_keys(places, &begin.keys)
        .and_then(|()| running::note(places, &begin.config))
        .map_err(io_fault("cannot keep the running configuration"))?;
    Ok(begin)
}

fn paths() -> Paths {
    let root = std::env::var_os("HAFAILOVER_ROOT").unwrap_or_else(|| "/".into());
    Paths::under(Path::new(&root))
}

fn live(places: &Places, mode: Mode) -> Result<(), Fault> {
    std::fs::create_dir_all(&places.run).map_err(io_fault(format!("cannot create {}", places.run.display())))?;
    let _lock = match mode {
        Mode::Normal => lock::acquire(&places.run)?,
        Mode::AfterDeath => lock::acquire_within(&places.run, LOCK_PATIENCE)?,
    };
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let paths = paths().with_credentials(credentials.as_deref().map(Path::new));
    let Begin { config, keys, first } = configuration(places, &paths, mode)?;
    let config = Arc::new(config);
    let journal = Journal::start().map_err(io_fault("cannot start the journal's thread"))?;
    let memory = remember(places, &config, mode, &journal)?;
    let heart = Cluster::new(config.clone(), memory.identity, &memory.saved, &memory.held, clock::now());
    let netlink = Netlink::open().map_err(|error| io_fault(no_netlink(&error))(error))?;
    let neighbours = Neighbours::open().map_err(io_fault("cannot open a packet socket (CAP_NET_RAW is needed)"))?;
    let (beat, inbox) = beat_channel().map_err(io_fault("cannot make an eventfd"))?;
    let (to_host, orders) = mpsc::channel(HOST_QUEUE);
    let (progress, moves) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let edges = Edges::new(
        config.clone(),
        keys.clone(),
        places.clone(),
        memory.machine,
        netlink,
        neighbours,
        to_host,
        journal.clone(),
    );
    let mut thread = BeatThread::new(heart, edges, inbox, progress.clone(), moves.clone());
    let recording = record(places, &config, mode, &journal).map(|(sink, recording)| {
        thread.record(sink);
        recording
    });
    spawn_beat(thread, first, &journal)?;
    let setup = HostSetup {
        config: config.clone(),
        keys,
        inbox: orders,
        beat,
        journal,
        paths,
        places: places.clone(),
        progress,
        moves,
        mode,
        recording,
    };
    serve(setup, &config, mode)
}

fn no_netlink(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "cannot open netlink (CAP_NET_ADMIN is needed)",
        _ => "cannot learn this host's interfaces and addresses from the kernel",
    }
}

/// From the first round on, where an operator wants that. What cleans up after a death has no time for it.
fn record(places: &Places, config: &Config, mode: Mode, journal: &JournalHandle) -> Option<(Sink, Recording)> {
    if mode == Mode::AfterDeath || !record::wanted(&places.run) {
        return None;
    }
    match record::start(&places.state, &config.node(config.me).name, journal.clone()) {
        Ok((sink, recording)) => {
            let path = recording.path().display();
            journal
                .note(Level::Notice, format!("recording from the start: {path}; ends with: hafailoverctl record off"));
            Some((sink, recording))
        }
        Err(error) => {
            journal.note(Level::Warning, format!("nothing is recorded, there is no thread for it: {error}"));
            None
        }
    }
}

/// The heart's thread. A panic ends the process (`panic = "abort"`).
fn spawn_beat(thread: BeatThread, first: Vec<Event>, journal: &JournalHandle) -> Result<(), Fault> {
    if let Err(error) = realtime::lock_memory() {
        journal.note(Level::Notice, format!("memory is not locked ({error}): a host that swaps may delay heartbeats"));
    }
    let notes = journal.clone();
    let body = move || {
        if let Err(error) = realtime::become_realtime() {
            let text = format!("no realtime priority ({error}): a busy host may delay heartbeats; prefer longer times");
            notes.note(Level::Notice, text);
        }
        thread.run(first);
    };
    std::thread::Builder::new().name("beat".into()).spawn(body).map_err(io_fault("cannot start the beat thread"))?;
    Ok(())
}

/// The host thread is this one.
fn serve(setup: HostSetup, config: &Config, mode: Mode) -> Result<(), Fault> {
    let journal = setup.journal.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(DISK_THREADS)
        .build()
        .map_err(io_fault("cannot start the host thread's runtime"))?;
    let longest = config.groups.iter().map(|group| group.timeout_stop).max().unwrap_or_default();
    let patience = (mode == Mode::AfterDeath).then(|| longest + AFTER_DEATH_MARGIN);
    let end = runtime.block_on(host::run(setup, patience));
    // Dropping it would wait for what its threads are busy with, and so for a disk that does not answer.
    runtime.shutdown_background();
    journal.flush(JOURNAL_PATIENCE);
    match end {
        ExitReason::Done | ExitReason::LeftGroups => Ok(()),
        ExitReason::BeatEnded => Err(Fault::BeatEnded),
        ExitReason::Unconfirmed => Err(Fault::Unconfirmed),
    }
}

/// Who this run is, and what earlier runs left.
struct Memory {
    identity: crate::cluster::Identity,
    machine: Identity,
    saved: Saved,
    held: Vec<crate::cluster::Held>,
}

fn remember(places: &Places, config: &Arc<Config>, mode: Mode, journal: &JournalHandle) -> Result<Memory, Fault> {
    let boot = clock::boot_id().map_err(io_fault("cannot read the kernel's boot id"))?;
    let incarnation = Incarnation(clock::random_u64().map_err(io_fault("no random numbers"))?);
    let machine = Identity::read();
    let (saved, notes) = recall(places, config, &machine, mode);
    notes.into_iter().for_each(|note| journal.note(Level::Warning, note));
    let (held, notes) = held::load_held(places, config, boot);
    notes.into_iter().for_each(|note| journal.note(Level::Error, note));
    Ok(Memory { identity: crate::cluster::Identity { incarnation, boot }, machine, saved, held })
}

/// What both copies of the state say. Where the one in memory is whole, it is the newer one: no heartbeat waits long for a disk then, and
/// after a death nothing does.
fn recall(places: &Places, config: &Arc<Config>, machine: &Identity, mode: Mode) -> (Saved, Vec<String>) {
    let in_run = Places { state: places.run.clone(), ..places.clone() };
    let (newer, mut notes) = state::load(&in_run, config, machine);
    let good = notes.is_empty() && !newer.groups.is_empty();
    let (mut saved, more) = match mode {
        Mode::Normal if !good => state::load(places, config, machine),
        Mode::AfterDeath if good => Default::default(),
        Mode::Normal | Mode::AfterDeath => load_in_time(places, config, machine),
    };
    notes.extend(more);
    saved.merge(newer);
    (saved, notes)
}

fn load_in_time(places: &Places, config: &Arc<Config>, machine: &Identity) -> (Saved, Vec<String>) {
    let (done, loaded) = std::sync::mpsc::sync_channel(1);
    let (shown, places, config, machine) =
        (places.state.display().to_string(), places.clone(), config.clone(), machine.clone());
    // Nobody waits any more if it is late.
    std::thread::spawn(move || drop(done.try_send(state::load(&places, &config, &machine))));
    let late =
        |_| (Saved::default(), vec![format!("{shown} is not used: it could not be read within {DISK_PATIENCE:?}")]);
    loaded.recv_timeout(DISK_PATIENCE).unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{BootId, Epoch, Grant, Order, Record, SavedGroup};
    use crate::config::model::NodeId;
    use crate::host::held::tests::{TempPlaces, config};
    use std::collections::BTreeMap;
    use std::time::Instant;

    fn machine() -> Identity {
        Identity { machine_id: "m1".into(), product_uuid: String::new() }
    }

    fn saved() -> Saved {
        let record = Record::owned(Grant { epoch: Epoch(4), node: NodeId(0), boot: BootId(1) });
        let group = SavedGroup { record: Some(record), order: Order { version: 1, stopped: false }, parked: false };
        Saved { groups: BTreeMap::from([("web".to_owned(), group)]), ..Saved::default() }
    }

    /// A disk that does not answer: nobody ever writes into it.
    fn stuck_disk(places: &TempPlaces) {
        let fifo = places.state.join("state.json");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    }

    #[test]
    fn a_capability_is_named_only_where_it_is_missing() {
        use rustix::io::Errno;
        assert!(no_netlink(&Errno::PERM.into()).contains("CAP_NET_ADMIN"));
        assert!(!no_netlink(&Errno::INTR.into()).contains("CAP_NET_ADMIN"));
    }

    #[test]
    fn a_good_copy_in_memory_is_enough() {
        let (places, config) = (TempPlaces::new("recall-run"), Arc::new(config(&["alpha"])));
        stuck_disk(&places);
        let in_run = Places { state: places.run.clone(), ..places.clone() };
        state::save(&in_run, &config, &machine(), &saved()).unwrap();
        let begun = Instant::now();
        assert_eq!(recall(&places, &config, &machine(), Mode::AfterDeath), (saved(), vec![]));
        assert!(begun.elapsed() < DISK_PATIENCE / 2, "it waited for the disk");
        let (found, notes) = recall(&places, &config, &machine(), Mode::Normal);
        assert_eq!((found, notes.len()), (saved(), 1), "a restart says so, and goes on");
    }

    #[test]
    fn after_a_death_a_disk_is_asked_no_longer_than_patience_lasts() {
        let (places, config) = (TempPlaces::new("recall-disk"), Arc::new(config(&["alpha"])));
        stuck_disk(&places);
        let (found, notes) = recall(&places, &config, &machine(), Mode::AfterDeath);
        assert_eq!(found, Saved::default());
        assert!(notes[0].contains("could not be read"), "{notes:?}");
        std::fs::remove_file(places.state.join("state.json")).unwrap();
        state::save(&places, &config, &machine(), &saved()).unwrap();
        assert_eq!(recall(&places, &config, &machine(), Mode::AfterDeath), (saved(), vec![]), "and used if it answers");
    }
}
