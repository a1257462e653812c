//! Puts a daemon together: configuration, memory, threads. What runs after a daemon's death is the same daemon with one event more.
//! It decides nothing.

use crate::beat::BeatThread;
use crate::cluster::{Cluster, Event, Incarnation};
use crate::config::model::Config;
use crate::config::{self, Paths, Problem};
use crate::host::address::{ArpSocket, Netlink};
use crate::host::orders::beat_channel;
use crate::host::state::{self, Identity, Places};
use crate::host::systemd::bus::Systemd;
use crate::host::{self, ExitReason, HostSetup, Mode, clock, deaths, held, lock, realtime, running};
use crate::journal::{Journal, JournalHandle, Level};
use crate::perform::Edges;
use crate::wire::seal::KeySet;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::mpsc;

/// Orders that may wait for the host thread. More than any number of groups can have under way at once.
const HOST_QUEUE: usize = 512;
/// For the last entries of the journal.
const JOURNAL_PATIENCE: Duration = Duration::from_millis(500);
/// How long systemd may take to say whether it will start the daemon again.
const BUS_PATIENCE: Duration = Duration::from_secs(2);
/// A confirmed stop after the last death has this long beyond the groups' own times; then the host is rebooted.
const AFTER_DEATH_MARGIN: Duration = Duration::from_secs(20);

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
        eprintln!(
            "hafailoverd died {} times within {:?}; the groups of this host were stopped and it was not started again. \
             See: journalctl -u hafailover; then: systemctl restart hafailover",
            deaths::BUDGET,
            deaths::WINDOW
        );
        return ExitCode::from(deaths::EXIT_GAVE_UP);
    }
    report(live(&places, Mode::Normal))
}

/// `hafailoverd --after-death`: runs as `ExecStopPost=` after every end. Where another daemon follows within the restart budget,
/// it adopts what runs; otherwise everything is stopped, confirmed, and told to the peers, or the host reboots.
pub fn after_death() -> ExitCode {
    let places = Places::default();
    let result = std::env::var("SERVICE_RESULT").unwrap_or_default();
    let gave_up = std::env::var("EXIT_STATUS").is_ok_and(|status| status == deaths::EXIT_GAVE_UP.to_string());
    let clean = matches!(result.as_str(), "success" | "exec-condition" | "condition" | "");
    let job = if clean && !something_held(&places) { Job::None } else { own_job() };
    let follows = match (clean, job) {
        (_, Job::Stop) => false,
        // An end that is no failure is followed only where a restart is under way, or may be.
        (true, job) => matches!(job, Job::Restart | Job::Unknown),
        (false, _) => !gave_up && spare_deaths(&places, &result),
    };
    if follows || !something_held(&places) {
        return ExitCode::SUCCESS;
    }
    eprintln!("hafailoverd ended ({result}) and no other one follows: stopping what runs here");
    match live(&places, Mode::AfterDeath) {
        Ok(()) => ExitCode::SUCCESS,
        // Somebody else looks after the groups.
        Err(Fault::Lock(error)) => report(Err(Fault::Lock(error))),
        Err(fault) => {
            let _ = report(Err(fault));
            report(reboot())
        }
    }
}

/// Whether an earlier run in this boot left a group that was not confirmed stopped.
fn something_held(places: &Places) -> bool {
    std::fs::read_dir(places.run.join("held")).is_ok_and(|mut files| files.next().is_some())
}

/// Counts this death. False if the budget is spent; the next start will say so and end.
fn spare_deaths(places: &Places, result: &str) -> bool {
    match deaths::record(&places.run, clock::now()) {
        Ok(deaths) if deaths < deaths::BUDGET => {
            let (budget, window) = (deaths::BUDGET, deaths::WINDOW);
            eprintln!(
                "hafailoverd ended by {result}: death {deaths} of {budget} within {window:?}; what runs here goes on"
            );
            return true;
        }
        Ok(_) => eprintln!("hafailoverd ended by {result} once too often"),
        Err(error) => eprintln!("hafailoverd ended by {result}, and its deaths cannot be counted: {error}"),
    }
    if let Err(error) = deaths::give_up(&places.run) {
        eprintln!("cannot note that this node gave up: {error}");
    }
    false
}

/// What systemd is about to do with this unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    None,
    Restart,
    /// Of this unit, or of the whole host.
    Stop,
    /// systemd does not say. The groups run on: their next owner is this host's next daemon, or finds them by the network.
    Unknown,
}

fn own_job() -> Job {
    let ask = async |systemd: Systemd| {
        if systemd.stopping().await.unwrap_or(false) {
            return Job::Stop;
        }
        match systemd.own_job().await {
            Ok(None) => Job::None,
            Ok(Some(job)) if job == "stop" => Job::Stop,
            Ok(Some(_)) => Job::Restart,
            Err(_) => Job::Unknown,
        }
    };
    ask_systemd(ask).unwrap_or(Job::Unknown)
}

/// The last resort: what runs here cannot be confirmed stopped, so this host must end.
fn reboot() -> Result<(), Fault> {
    eprintln!("a stop could not be confirmed: rebooting this host, so that another may take its groups");
    rustix::fs::sync();
    match ask_systemd(async |systemd| systemd.reboot().await) {
        Some(Ok(())) => return Ok(()),
        Some(Err(error)) => eprintln!("the bus does not reboot this host: {error}"),
        None => eprintln!("the bus does not reboot this host: systemd does not answer"),
    }
    // The one process this program starts: systemctl reaches systemd when the bus is dead.
    match std::process::Command::new("systemctl").args(["reboot", "--force"]).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Fault::Reboot(status.to_string())),
        Err(error) => Err(Fault::Reboot(error.to_string())),
    }
}

/// `None` if systemd does not answer in time.
fn ask_systemd<T>(question: impl AsyncFnOnce(Systemd) -> T) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let ask = async {
        let systemd = Systemd::new();
        tokio::spawn(systemd.clone().keep_connected());
        while !systemd.connected() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        question(systemd).await
    };
    runtime.block_on(async { tokio::time::timeout(BUS_PATIENCE, ask).await.ok() })
}

fn report(end: Result<(), Fault>) -> ExitCode {
    let Err(fault) = end else { return ExitCode::SUCCESS };
    if let Fault::Configuration(problems) = &fault {
        for problem in problems {
            eprintln!("{problem}");
        }
    }
    eprintln!("hafailoverd: {fault}");
    // Starting it again would change nothing: RestartPreventExitStatus=.
    if matches!(fault, Fault::Configuration(_)) { ExitCode::from(deaths::EXIT_GAVE_UP) } else { ExitCode::FAILURE }
}

/// What runs is what the files say; where they have become unreadable while groups run here, it is what ran before.
fn configuration(places: &Places, paths: &Paths, mode: Mode) -> Result<(Config, KeySet, Option<String>), Fault> {
    if mode == Mode::AfterDeath {
        let (config, keys) = running::load(places).map_err(Fault::Nothing)?;
        return Ok((config, keys, None));
    }
    let hostname = config::hostname().map_err(io_fault("cannot read this host's name"))?;
    let problems = match config::load(paths, &hostname) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("{warning}");
            }
            running::keep(places, paths, &loaded.config).map_err(io_fault("cannot keep the running configuration"))?;
            return Ok((loaded.config, loaded.keys, None));
        }
        Err(problems) => problems,
    };
    match running::load(places) {
        Ok((config, keys)) if something_held(places) => {
            let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
            let pending = format!("it has mistakes, so what ran before goes on: {}", all.join(" | "));
            Ok((config, keys, Some(pending)))
        }
        _ => Err(Fault::Configuration(problems)),
    }
}

fn live(places: &Places, mode: Mode) -> Result<(), Fault> {
    std::fs::create_dir_all(&places.run).map_err(io_fault(format!("cannot create {}", places.run.display())))?;
    let _lock = lock::acquire(&places.run)?;
    let root = std::env::var("HAFAILOVER_ROOT").unwrap_or_else(|_| "/".into());
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let paths = Paths::under(Path::new(&root)).with_credentials(credentials.as_deref().map(Path::new));
    let (config, keys, pending) = configuration(places, &paths, mode)?;
    let config = Arc::new(config);
    let journal = Journal::start(config.clone()).map_err(io_fault("cannot start the journal's thread"))?;
    let memory = remember(places, &config, &journal)?;
    let heart = Cluster::new(config.clone(), memory.identity, &memory.saved, &memory.held, clock::now());
    let netlink = Netlink::open().map_err(io_fault("cannot open netlink (CAP_NET_ADMIN is needed)"))?;
    let arp = ArpSocket::open().map_err(io_fault("cannot open a packet socket (CAP_NET_RAW is needed)"))?;
    let (beat, inbox) = beat_channel().map_err(io_fault("cannot make an eventfd"))?;
    let (to_host, orders) = mpsc::channel(HOST_QUEUE);
    let (progress, moves) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let edges = Edges::new(
        config.clone(),
        keys.clone(),
        places.clone(),
        memory.machine,
        netlink,
        arp,
        to_host,
        journal.clone(),
    );
    let thread = BeatThread::new(heart, edges, inbox, progress.clone(), moves.clone());
    let first = match mode {
        Mode::AfterDeath => Some(Event::DaemonDied),
        Mode::Normal => pending.map(|what| Event::Pending(Some(what))),
    };
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
    };
    serve(setup, &config, mode)
}

/// The heart's thread. A panic ends the process (`panic = "abort"`).
fn spawn_beat(thread: BeatThread, first: Option<Event>, journal: &JournalHandle) -> Result<(), Fault> {
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
        .build()
        .map_err(io_fault("cannot start the host thread's runtime"))?;
    let longest = config.groups.iter().map(|group| group.timeout_stop).max().unwrap_or_default();
    let end = runtime.block_on(async {
        if mode == Mode::Normal {
            return Some(host::run(setup).await);
        }
        tokio::time::timeout(longest + AFTER_DEATH_MARGIN, host::run(setup)).await.ok()
    });
    match end {
        Some(ExitReason::Done | ExitReason::LeftGroups) => {}
        Some(ExitReason::BeatEnded) => return Err(Fault::BeatEnded),
        None => {
            journal.flush(JOURNAL_PATIENCE);
            return Err(Fault::Unconfirmed);
        }
    }
    journal.flush(JOURNAL_PATIENCE);
    Ok(())
}

/// Who this run is, and what earlier runs left.
struct Memory {
    identity: crate::cluster::Identity,
    machine: Identity,
    saved: crate::cluster::Saved,
    held: Vec<crate::cluster::Held>,
}

fn remember(places: &Places, config: &Config, journal: &JournalHandle) -> Result<Memory, Fault> {
    let boot = clock::boot_id().map_err(io_fault("cannot read the kernel's boot id"))?;
    let incarnation = Incarnation(clock::random_u64().map_err(io_fault("no random numbers"))?);
    let machine = Identity::read();
    let (mut saved, mut notes) = state::load(places, config, &machine);
    let in_run = Places { state: places.run.clone(), ..places.clone() };
    let (newer, more) = state::load(&in_run, config, &machine);
    saved.merge(newer);
    notes.extend(more);
    let (held, more) = held::load_held(places, config, boot);
    notes.extend(more);
    for note in notes {
        journal.note(Level::Warning, note);
    }
    Ok(Memory { identity: crate::cluster::Identity { incarnation, boot }, machine, saved, held })
}
