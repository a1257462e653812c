//! The host thread (tokio, one thread): the bus both ways, units, files, signals, the service manager.
//! It decides nothing about groups: it carries out orders and tells what it sees.

pub mod address;
pub mod clock;
pub mod deaths;
mod guards;
pub mod held;
mod keeper;
pub mod lock;
mod members;
pub mod orders;
pub mod questions;
pub mod realtime;
pub mod recording;
pub mod reload;
pub mod running;
mod saver;
pub mod state;
pub mod systemd;
mod tasks;

use crate::cluster::{Answer, Event, Outcome};
use crate::config::Paths;
use crate::config::model::Config;
use crate::dbus;
use crate::journal::{JournalHandle, Level};
use crate::wire::seal::KeySet;
use guards::{Guards, Scope};
use keeper::Keeper;
use members::Members;
use orders::{Beat, MOVES_EVERY, ToBeat, ToHost};
use questions::{Question, Questions};
use recording::Recordings;
use reload::{Caller, Read, Reloads};
use saver::Saver;
use state::Places;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use systemd::bus::{Signal, Systemd};
use systemd::guard::Digester;
use systemd::notify::{self, Watchdog};
use tasks::{End, Going};
use tokio::signal::unix::{Signal as UnixSignal, SignalKind, signal};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

/// While something waits that nothing else wakes us for: messages that found no room, the beat thread's last words.
const TICK: Duration = Duration::from_millis(100);
/// How often the groups' files are compared with what systemd has loaded; right before a start it is done anyway.
const GUARD_INTERVAL: Duration = Duration::from_secs(60);
/// How often systemd is asked for more time while groups are handed over.
const EXTEND_INTERVAL: Duration = Duration::from_secs(5);
/// A hand-over may take this long beyond the groups' own times; then systemd's patience counts, and cleans up behind us.
const HAND_OVER_MARGIN: Duration = Duration::from_secs(20);
/// For the beat thread's last words after `systemctl restart`.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long the last state and the last configuration may take to reach the disk at the end.
const LAST_SAVE: Duration = Duration::from_secs(3);

/// What the host thread is given.
#[derive(Debug)]
pub struct HostSetup {
    pub config: Arc<Config>,
    pub keys: KeySet,
    pub inbox: mpsc::Receiver<ToHost>,
    pub beat: Beat,
    pub journal: JournalHandle,
    pub paths: Paths,
    pub places: Places,
    /// Raised by the beat thread in each round.
    pub progress: Arc<AtomicU64>,
    /// Raised by the host thread, for the beat thread to see that it moves.
    pub moves: Arc<AtomicU64>,
    pub mode: Mode,
    /// What this daemon records from its start on.
    pub recording: Option<crate::record::Recording>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Normal,
    /// `hafailoverd --after-death`: no bus name, no readiness, no signals; only orders.
    AfterDeath,
}

/// Why the host thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// The heart has nothing left to do.
    Done,
    /// `systemctl restart`: the groups run on.
    LeftGroups,
    /// The beat thread is gone without a word: a fault.
    BeatEnded,
    /// Patience is at its end, and not everything was confirmed stopped.
    Unconfirmed,
}

/// Runs until there is a reason to end, at most for `patience`. Needs a tokio runtime with time and io.
pub async fn run(setup: HostSetup, patience: Option<Duration>) -> ExitReason {
    let HostSetup { config, keys, inbox, beat, journal, paths, places, progress, moves, mode, recording } = setup;
    let systemd = Systemd::new();
    let (asks, questions) = mpsc::channel(32);
    let sources = Sources::new(inbox, questions, &systemd, &journal, mode);
    let digester = Digester::new(paths.clone());
    let scope = Scope {
        config: config.clone(),
        systemd: systemd.clone(),
        paths,
        digester: digester.clone(),
        places: places.clone(),
    };
    let mut host = Host {
        members: Members::new(config.clone(), systemd.clone(), beat.clone(), places.clone(), digester),
        recordings: Recordings::new(places.clone(), config.node(config.me).name.clone(), recording),
        keeper: Keeper::start(places.clone(), journal.clone()),
        saver: Saver::start(places, config.clone(), journal.clone()),
        names: watch::Sender::new(config.clone()),
        guards: Guards::default(),
        questions: Questions::default(),
        reloads: Reloads::default(),
        changed: Arc::default(),
        tasks: JoinSet::new(),
        moves,
        told_stopping: false,
        without_bus: false,
        // Cleaning up is nothing else than handing over.
        extend_until: (mode == Mode::AfterDeath).then(|| Instant::now() + hand_over(&config)),
        end_by: None,
        mode,
        keys,
        beat,
        journal,
        scope,
    };
    if mode == Mode::AfterDeath {
        host.members.hurry();
    }
    let keeper = tokio::spawn(systemd.clone().keep_connected());
    let mut server = None;
    if mode == Mode::Normal {
        let desk = dbus::Desk::new(host.names.subscribe(), asks, host.changed.clone());
        server = Some(tokio::spawn(dbus::keep_serving(desk, host.journal.clone())));
        // What was adopted by an earlier start may never have come to the disk, and the first start of all adopts the files.
        host.keeper.keep(config);
        host.tasks.spawn(tasks::load_guards(host.scope.paths.clone(), systemd.clone()));
        host.tasks.spawn(tasks::ready(progress.clone(), systemd));
    }
    let life = host.serve(sources, Watchdog::new(progress));
    let reason = within(patience, life).await;
    keeper.abort();
    server.inspect(|server| server.abort());
    host.recordings.finish();
    // Otherwise the copy in /run is what counts, and no heartbeat goes out meanwhile.
    if reason == ExitReason::Done {
        tokio::join!(host.saver.finish(LAST_SAVE), host.keeper.finish(LAST_SAVE));
    }
    reason
}

/// Without a limit to its patience a daemon lives for years.
async fn within(patience: Option<Duration>, life: impl Future<Output = ExitReason>) -> ExitReason {
    match patience {
        Some(patience) => timeout(patience, life).await.unwrap_or(ExitReason::Unconfirmed),
        None => life.await,
    }
}

struct Host {
    mode: Mode,
    keys: KeySet,
    beat: Beat,
    journal: JournalHandle,
    scope: Scope,
    members: Members,
    saver: Saver,
    recordings: Recordings,
    keeper: Keeper,
    /// What runs, for who asks by name.
    names: watch::Sender<Arc<Config>>,
    guards: Guards,
    questions: Questions,
    reloads: Reloads,
    /// Wakes whoever shows the status on the bus.
    changed: Arc<Notify>,
    tasks: JoinSet<End>,
    moves: Arc<AtomicU64>,
    told_stopping: bool,
    /// It was said that the bus is away.
    without_bus: bool,
    /// While groups are being handed over: until when systemd is asked for more time.
    extend_until: Option<Instant>,
    /// `systemctl restart`: until when the beat thread's end is waited for.
    end_by: Option<Instant>,
}

/// Where news come from, apart from the ends of tasks.
struct Sources {
    inbox: mpsc::Receiver<ToHost>,
    questions: mpsc::Receiver<Question>,
    signals: broadcast::Receiver<Signal>,
    terminate: Option<UnixSignal>,
    interrupt: Option<UnixSignal>,
    hangup: Option<UnixSignal>,
}

impl Sources {
    fn new(
        inbox: mpsc::Receiver<ToHost>,
        questions: mpsc::Receiver<Question>,
        systemd: &Systemd,
        journal: &JournalHandle,
        mode: Mode,
    ) -> Sources {
        let listen = |kind| match signal(kind) {
            Ok(signal) if mode == Mode::Normal => Some(signal),
            Ok(_) => None,
            Err(error) => {
                journal.note(Level::Error, format!("signal {kind:?} cannot be caught: {error}"));
                None
            }
        };
        let signals = systemd.listen();
        let (terminate, interrupt) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
        Sources { inbox, questions, signals, terminate, interrupt, hangup: listen(SignalKind::hangup()) }
    }
}

async fn caught(signal: &mut Option<UnixSignal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

impl Host {
    async fn serve(&mut self, mut sources: Sources, mut watchdog: Watchdog) -> ExitReason {
        let mut tick = every(TICK);
        let mut guard_tick = every(GUARD_INTERVAL);
        let mut extend_tick = every(EXTEND_INTERVAL);
        let mut feed_tick = every(watchdog.interval(MOVES_EVERY));
        loop {
            tokio::select! {
                // Orders of the beat thread; their end is its end, and so ours.
                order = sources.inbox.recv() => match order {
                    Some(ToHost::Exit) => return ExitReason::Done,
                    Some(order) => self.obey(order),
                    None if self.end_by.is_some() => return ExitReason::LeftGroups,
                    None => return ExitReason::BeatEnded,
                },
                // A start, stop or other task that ended.
                Some(end) = self.tasks.join_next() => self.ended(end),
                // What systemd tells; it never ends, at worst it falls behind, and then everything is looked at.
                news = sources.signals.recv() => self.heard(news.unwrap_or(Signal::Connected)),
                // Operators; the bus server may end and be restarted without our end.
                Some(question) = sources.questions.recv() => self.asked(question),
                () = caught(&mut sources.terminate) => self.told_to_go(),
                () = caught(&mut sources.interrupt) => self.told_to_go(),
                () = caught(&mut sources.hangup) => self.reload(Caller::Hangup),
                _ = feed_tick.tick() => {
                    self.moves.fetch_add(1, Ordering::Relaxed);
                    watchdog.feed();
                }
                _ = guard_tick.tick() => {
                    self.check_guards();
                    self.questions.forget_abandoned();
                }
                _ = extend_tick.tick(), if self.extend_until.is_some() => self.extend_timeout(),
                // An idle daemon costs nothing.
                _ = tick.tick(), if self.end_by.is_some() || self.beat.is_behind() => {
                    self.beat.flush();
                    if self.end_by.is_some_and(|end| Instant::now() >= end) {
                        return ExitReason::LeftGroups;
                    }
                }
            }
        }
    }

    fn obey(&mut self, order: ToHost) {
        match order {
            ToHost::StartMembers { op, group } => self.members.start(&mut self.tasks, op, group),
            ToHost::StopMembers { op, group } => self.members.stop(&mut self.tasks, op, group),
            ToHost::VerifyStopped { op, group } => self.members.verify(&mut self.tasks, op, group),
            ToHost::Inspect { op, group } => self.members.inspect(&mut self.tasks, op, group),
            ToHost::CheckGuards { op, to } => self.members.check_guards(&mut self.tasks, op, &to),
            ToHost::DropMembers { op, group, units } => self.members.drop(&mut self.tasks, op, group, &units),
            ToHost::Note { op, config } => drop(self.tasks.spawn(tasks::note(self.scope.places.clone(), op, config))),
            ToHost::Configure(config) => self.configure(config),
            ToHost::Save(saved) => self.saver.save(saved),
            ToHost::Reply { request, answer } => self.questions.reply(request, answer),
            ToHost::Status { request, status } => self.questions.status(request, *status),
            ToHost::Headline(text) => notify::status(&text),
            ToHost::Changed => self.changed.notify_one(),
            // The loop ends on it before it comes here.
            ToHost::Exit => {}
        }
    }

    fn ended(&mut self, end: Result<End, JoinError>) {
        match end {
            Ok(End::Started { op, group, outcome }) => self.members.started(op, group, outcome),
            Ok(End::Finished { op, outcome }) => self.members.finished(op, outcome),
            Ok(End::Inspected { op, group, seen }) => self.members.inspected(op, group, seen),
            Ok(End::Guards(checked)) => {
                if self.guards.end(*checked, &self.scope, &self.beat) {
                    self.check_guards();
                }
                if self.guards.wants_reload() {
                    self.tasks.spawn(tasks::reload_systemd(self.scope.systemd.clone()));
                }
            }
            Ok(End::Noted { op, config, outcome }) => {
                if outcome == Outcome::Done {
                    self.keeper.keep(config);
                }
                self.members.finished(op, outcome);
            }
            Ok(End::SystemdReloaded(error)) => {
                if let Some(error) = error {
                    let text = format!(
                        "systemd cannot be asked to read its units anew: {error}; run: systemctl daemon-reload"
                    );
                    self.journal.note(Level::Warning, text);
                }
            }
            Ok(End::HostStopping(true)) => self.host_stopping(),
            // A node that cannot start members must say so before it is asked to.
            Ok(End::BusGone(true)) => {
                self.without_bus = true;
                let text =
                    "the system bus is away: until it is back, units are started, stopped and looked at by systemctl";
                self.journal.note(Level::Warning, text);
                self.check_guards();
            }
            Ok(End::HostStopping(false) | End::BusGone(false)) => {}
            Ok(End::Going(going)) => self.go(going),
            Ok(End::Ready) => notify::ready(),
            Ok(End::Reloaded(read)) => self.reloaded(*read),
            // A start that was given up, and answered then.
            Err(error) if error.is_cancelled() => {}
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn heard(&mut self, signal: Signal) {
        match signal {
            Signal::Connected | Signal::Reloaded => {
                if self.scope.systemd.connected() && std::mem::take(&mut self.without_bus) {
                    self.journal.note(Level::Notice, "the system bus is back and used again");
                }
                self.guards.forget_digests();
                self.check_guards();
                self.tasks.spawn(tasks::host_stopping(self.scope.systemd.clone()));
            }
            Signal::ShutdownQueued => {
                self.tasks.spawn(tasks::host_stopping(self.scope.systemd.clone()));
            }
            Signal::Disconnected => {
                self.tasks.spawn(tasks::bus_gone(self.scope.systemd.clone()));
            }
        }
    }

    fn asked(&mut self, question: Question) {
        match question {
            Question::Status(answer) => self.questions.ask_status(&self.beat, answer),
            Question::Command(command, answer) => self.questions.ask_command(&self.beat, command, answer),
            Question::Reload(answer) => self.reload(Caller::Asker(answer)),
            Question::Record(word, answer) => self.recordings.asked(word, &self.beat, &self.journal, answer),
        }
    }

    fn reload(&mut self, caller: Caller) {
        self.reloads.ask(caller);
        self.read_files();
    }

    fn read_files(&mut self) {
        if self.reloads.begin() {
            let (paths, systemd) = (self.scope.paths.clone(), self.scope.systemd.clone());
            let reader = self.reloads.reader();
            self.tasks.spawn(async move { End::Reloaded(Box::new(reload::read(paths, systemd, reader).await)) });
        }
    }

    /// The files were read: what of them this process takes over it does; the groups are for the heart to agree on with its peers.
    fn reloaded(&mut self, read: Read) {
        let (askers, hangup) = self.reloads.end();
        let old = self.keys.clone();
        let answer = reload::apply(read, &self.scope.config, &mut self.keys, &self.beat);
        if self.keys != old {
            self.keep_keys();
        }
        if hangup {
            match &answer {
                Ok((said, _)) => self.journal.note(Level::Notice, format!("reload by SIGHUP: {}", said.join("; "))),
                Err(mistakes) => self.journal.note(Level::Error, format!("reload by SIGHUP: {mistakes}")),
            }
        }
        match answer {
            Ok((said, groups)) => self.questions.ask_files(&self.beat, groups, said, askers),
            // Whoever asked may have gone.
            Err(mistakes) => {
                askers.into_iter().for_each(|asker| drop(asker.send(Answer::Refused(mistakes.clone()))));
            }
        }
        self.read_files();
    }

    /// From here on this runs: what was ordered before went by what ran then.
    fn configure(&mut self, config: Arc<Config>) {
        self.scope.config = config.clone();
        self.members.config = config.clone();
        self.names.send_replace(config);
        self.guards.forget_digests();
        self.check_guards();
    }

    /// What cleans up after a dead daemon must speak with the new keys.
    fn keep_keys(&self) {
        if let Err(error) = running::keep_keys(&self.scope.places, &self.keys) {
            self.journal.note(Level::Warning, format!("the new keys cannot be kept for the next daemon: {error}"));
        }
    }

    fn check_guards(&mut self) {
        // Nothing is started after a death, and the files are on a disk that may be why.
        if self.mode == Mode::Normal && self.guards.begin() {
            let (scope, known) = (self.scope.clone(), self.guards.digests());
            self.tasks.spawn(async move { End::Guards(Box::new(guards::check(scope, known).await)) });
        }
    }

    fn host_stopping(&mut self) {
        if !std::mem::replace(&mut self.told_stopping, true) {
            self.beat.send(ToBeat::Event(Event::HostStopping));
        }
    }

    fn told_to_go(&mut self) {
        self.tasks.spawn(tasks::going(self.scope.systemd.clone()));
    }

    fn go(&mut self, going: Going) {
        notify::stopping();
        if going == Going::Restart {
            self.end_by = Some(Instant::now() + LAST_WORDS);
            self.beat.send(ToBeat::ExitLeavingGroups);
            return;
        }
        if going == Going::HostDown {
            self.host_stopping();
        }
        self.members.hurry();
        // A second SIGTERM asks for nothing new.
        self.extend_until.get_or_insert_with(|| Instant::now() + hand_over(&self.scope.config));
        self.extend_timeout();
        self.beat.send(ToBeat::Event(Event::Leave));
    }

    fn extend_timeout(&self) {
        if wants_time(self.extend_until, Instant::now()) {
            notify::extend_timeout();
        }
    }
}

/// How long a hand-over of everything may take.
fn hand_over(config: &Config) -> Duration {
    config.groups.iter().map(|group| group.timeout_stop).max().unwrap_or_default() + HAND_OVER_MARGIN
}

/// A stop that can never be confirmed must not hold up the host's shutdown for ever.
fn wants_time(until: Option<Instant>, now: Instant) -> bool {
    until.is_some_and(|until| now < until)
}

/// Missed ticks are not made up for.
fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(test)]
mod tests;
