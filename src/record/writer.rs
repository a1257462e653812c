//! The thread that writes a recording: files that nobody but root reads, one after the other, of bounded size. A disk that is slow or full
//! costs the recording, nothing else. It must not know what a line means, but that each file begins with a heart.

use super::recorder::Sink;
use super::{FILE_MAX, FILES, Header, Line, VERSION, file, older_file};
use crate::host::clock;
use crate::journal::{JournalHandle, Level};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// Lines that may wait for the disk: ten seconds of heartbeats every 10 ms on two links, and some.
pub(super) const WAITING: usize = 16 * 1024;
/// What a power loss may cost of the recording.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What the writer's thread, the beat thread and whoever asks have in common.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The current file has grown enough: the next one wants a heart.
    pub(super) full: AtomicBool,
    /// Lines that found no room, at the end.
    pub(super) lost: AtomicU64,
    /// Lines on the way to the disk.
    pub(super) waiting: AtomicUsize,
    lines: AtomicU64,
    bytes: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Opening,
    Writing,
    Ended(String),
}

impl Shared {
    fn set(&self, state: State) {
        *self.state.lock().expect("no holder of this lock panics") = state;
        self.changed.notify_all();
    }

    /// Waits until the state is such, at most this long.
    fn wait(&self, patience: Duration, such: fn(&State) -> bool) -> State {
        let state = self.state.lock().expect("no holder of this lock panics");
        let (state, _) = self
            .changed
            .wait_timeout_while(state, patience, |state| !such(state))
            .expect("no holder of this lock panics");
        state.clone()
    }
}

/// A recording, for who asks after it.
#[derive(Clone, Debug)]
pub struct Recording {
    path: PathBuf,
    shared: Arc<Shared>,
}

impl Recording {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lines and bytes so far, in all its files.
    pub fn size(&self) -> (u64, u64) {
        (self.shared.lines.load(Ordering::Relaxed), self.shared.bytes.load(Ordering::Relaxed))
    }

    /// Why it is over, if it is.
    pub fn ended(&self) -> Option<String> {
        Self::end(self.shared.wait(Duration::ZERO, |_| true))
    }

    /// Waits until its file is open, at most this long: the reason why it is not.
    pub fn opened(&self, patience: Duration) -> Result<(), String> {
        match self.shared.wait(patience, |state| *state != State::Opening) {
            State::Opening => Err(format!("{} could not be opened within {patience:?}", self.path.display())),
            State::Writing => Ok(()),
            State::Ended(why) => Err(why),
        }
    }

    /// Waits until all is written, at most this long.
    pub fn finished(&self, patience: Duration) -> Option<String> {
        Self::end(self.shared.wait(patience, |state| matches!(state, State::Ended(_))))
    }

    fn end(state: State) -> Option<String> {
        match state {
            State::Ended(why) => Some(why),
            State::Opening | State::Writing => None,
        }
    }
}

/// Starts the thread, which opens the files: nobody waits for the disk here. It ends with the sink.
pub fn start(directory: &Path, node: &str, journal: JournalHandle) -> io::Result<(Sink, Recording)> {
    // In batches, of which each has at least a line.
    let (sender, receiver) = sync_channel(WAITING);
    let shared = Arc::new(Shared::default());
    let recording = Recording { path: file(directory), shared: shared.clone() };
    let sink = Sink { sender, shared: shared.clone(), journal: journal.clone() };
    let files = Files { directory: directory.to_owned(), node: node.to_owned(), file_max: FILE_MAX, current: None };
    std::thread::Builder::new().name("record".into()).spawn(move || run(files, receiver, &shared, &journal))?;
    Ok((sink, recording))
}

fn run(mut files: Files, receiver: Receiver<Vec<Line>>, shared: &Shared, journal: &JournalHandle) {
    let path = file(&files.directory);
    let why = match files.next().and_then(|()| keep(&mut files, &receiver, shared)) {
        Ok(why) => why,
        Err(error) => {
            let text = format!("{}: {error}", path.display());
            journal.note(Level::Warning, format!("the recording ends: {text}"));
            text
        }
    };
    // Only now does the beat thread find the other end gone: it must not find out before the reason is known.
    shared.set(State::Ended(why));
    drop(receiver);
}

fn keep(files: &mut Files, receiver: &Receiver<Vec<Line>>, shared: &Shared) -> io::Result<String> {
    shared.set(State::Writing);
    let mut synced = Instant::now();
    let mut dirty = false;
    loop {
        let batch = match receiver.recv_timeout(if dirty { SYNC_EVERY } else { Duration::from_secs(3600) }) {
            Ok(batch) => Some(batch),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        // What is there already goes with it in one write.
        for batch in batch.into_iter().chain(std::iter::from_fn(|| receiver.try_recv().ok())) {
            dirty = true;
            let count = batch.len();
            for line in batch {
                let bytes = files.write(&line)?;
                shared.lines.fetch_add(1, Ordering::Relaxed);
                shared.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            shared.waiting.fetch_sub(count, Ordering::Relaxed);
            if files.wants_next() {
                shared.full.store(true, Ordering::Relaxed);
            }
        }
        files.flush()?;
        if dirty && synced.elapsed() >= SYNC_EVERY {
            files.sync()?;
            (synced, dirty) = (Instant::now(), false);
        }
    }
    let why = match shared.lost.load(Ordering::Relaxed) {
        0 => "switched off, or the daemon ended".to_owned(),
        lost => format!("a gap: the disk did not keep up; {lost} lines and all after them are missing"),
    };
    files.end(&why)?;
    Ok(why)
}

/// The current file, and how it makes way for the next one.
#[derive(Debug)]
struct Files {
    directory: PathBuf,
    node: String,
    file_max: u64,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    file: BufWriter<File>,
    bytes: u64,
    /// It has a heart: the next heart belongs to the next file.
    has_heart: bool,
    /// A heart for the next file was asked for: once is enough.
    asked: bool,
}

impl Files {
    /// Each file becomes one older; the oldest goes.
    fn next(&mut self) -> io::Result<()> {
        let names: Vec<PathBuf> = std::iter::once(file(&self.directory))
            .chain((1..FILES).map(|number| older_file(&self.directory, number)))
            .collect();
        for pair in names.windows(2).rev() {
            match std::fs::rename(&pair[0], &pair[1]) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&names[0])?;
        self.current = Some(Current { file: BufWriter::new(file), bytes: 0, has_heart: false, asked: false });
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.put(&Line::Recording(Header {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").into(),
            node: self.node.clone(),
            wall_ms: wall.as_millis() as u64,
            boottime: clock::now(),
        }))?;
        Ok(())
    }

    fn write(&mut self, line: &Line) -> io::Result<u64> {
        if matches!(line, Line::Heart(_)) {
            if self.current.as_ref().is_some_and(|current| current.has_heart) {
                self.end("it goes on in the next file")?;
                self.next()?;
            }
            self.current.iter_mut().for_each(|current| current.has_heart = true);
        }
        self.put(line)
    }

    fn put(&mut self, line: &Line) -> io::Result<u64> {
        let Some(current) = &mut self.current else { return Ok(0) };
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        current.file.write_all(&text)?;
        current.bytes += text.len() as u64;
        Ok(text.len() as u64)
    }

    /// True once for each file.
    fn wants_next(&mut self) -> bool {
        let Some(current) = self.current.as_mut().filter(|current| current.bytes >= self.file_max) else {
            return false;
        };
        !std::mem::replace(&mut current.asked, true)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.current.as_mut().map_or(Ok(()), |current| current.file.flush())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.current.as_mut().map_or(Ok(()), |current| current.file.get_ref().sync_data())
    }

    fn end(&mut self, why: &str) -> io::Result<()> {
        self.put(&Line::End { why: why.to_owned() })?;
        self.flush()
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
